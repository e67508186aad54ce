#include "shm/feed.h"

#include <string.h>

#include "shm/journal.h"
#include "shm/testpoint.h"

static struct lrd_feed *feed_of(struct lrd_store *s, uint32_t ns, uint32_t *entries)
{
    uint64_t word = lrd_load_relaxed(&s->namespaces[ns].feed);
    *entries = lrd_feed_entries(word);
    return (struct lrd_feed *)(void *)(s->feeds + (uint64_t)lrd_feed_page(word) * LRD_PAGE);
}

static void write_entry(struct lrd_feed *f, uint32_t entries, uint64_t i, const struct lrd_note *note)
{
    struct lrd_feed_entry *e = (struct lrd_feed_entry *)(void *)(f + 1) + (i & (entries - 1));
    uint64_t key[LRD_FEED_KEY / 8] = {0};
    if (note->key_len <= LRD_FEED_KEY && note->key_len > 0)
        memcpy(key, note->key, note->key_len);
    /* Ahead already if a worker was killed between here and its intent. */
    if (lrd_load_relaxed(&f->claimed) <= i)
        lrd_store_relaxed(&f->claimed, i + 1);
    /* Who reads a new byte of this entry sees it claimed; pairs with the acquire fence in lrd_feed_read(). */
    lrd_fence_release();
    lrd_store_relaxed(&e->hash, note->hash);
    lrd_store_relaxed(&e->version, note->version);
    lrd_store_relaxed(&e->what, lrd_feed_what(note->event, note->cause, note->key_len));
    lrd_store_relaxed(&e->when_ms, note->now_ms);
    for (unsigned k = 0; k < LRD_FEED_KEY / 8; k++)
        lrd_store_relaxed(&e->key[k], key[k]);
}

void lrd_feed_note(struct lrd_store *s, struct lrd_journal_writer *j, const struct lrd_note *note)
{
    uint32_t entries;
    struct lrd_feed *f = feed_of(s, note->ns, &entries);
    uint64_t i = lrd_journal_last_value(j, &f->published);
    write_entry(f, entries, i, note);
    LRD_TESTPOINT("feed_written");
    /* Publishes the entry; pairs with the acquire in lrd_feed_end(). */
    lrd_journal_last(j, &f->published, i + 1);
}

void lrd_feed_note_now(struct lrd_store *s, const struct lrd_note *note)
{
    uint32_t entries;
    struct lrd_feed *f = feed_of(s, note->ns, &entries);
    uint64_t i = lrd_load_relaxed(&f->published);
    write_entry(f, entries, i, note);
    lrd_store_release(&f->published, i + 1); /* pairs as above */
}
