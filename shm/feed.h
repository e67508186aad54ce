/* Feeds: what changed in a namespace, for those who watch it. A ring of whole entries for each namespace that was made with one.
 *
 *   writer   claimed = i + 1; release fence; entry i = ...; then published = i + 1 in the intent of the change that the entry tells of (journal.h), behind all its other steps
 *   reader   published (acquire) > i; entry i; acquire fence; claimed: what was copied is good if claimed - i <= entries
 *
 * claimed is what an overtaken reader learns by that its entry may be half another one: who has seen a byte of entry i + entries sees claimed > i + entries. published is in the intent, so an entry is there
 * if and only if its change is, also if the worker is killed between any two stores: nothing is lost, and nothing is told twice. A worker killed in between leaves claimed ahead of published; the
 * next one writes that entry anew. claimed never goes back: the bytes it speaks of were overwritten, whoever did it.
 *
 *   who                     does                        beside
 *   anybody                 lrd_feed_of, lrd_feed_read  everything. No loop, no store; an overtaken reader is told
 *   the worker's writer     lrd_feed_note               readers; no other writer
 *
 * A reader sees an item's change not later than its entry: the slot's step stands before that of published. An item that was only moved, and a block that was freed when nothing was alive in it, are no
 * change. */
#ifndef LRD_FEED_H
#define LRD_FEED_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/layout.h"
#include "shm/segment.h"

#define LRD_FEED_LEAST 64u         /* entries */
#define LRD_FEED_MOST (1u << 26)   /* 4 GiB */

static inline uint64_t lrd_feed_make(uint32_t entries, uint32_t page) { return (uint64_t)entries << 32 | page; }
static inline uint32_t lrd_feed_entries(uint64_t feed) { return (uint32_t)(feed >> 32); }
static inline uint32_t lrd_feed_page(uint64_t feed) { return (uint32_t)feed; }

/* Pages that a feed takes. */
static inline uint64_t lrd_feed_pages(uint32_t entries) { return (sizeof(struct lrd_feed) + (uint64_t)entries * sizeof(struct lrd_feed_entry) + LRD_PAGE - 1) / LRD_PAGE; }

/* What a spec asks for comes to: a power of two, or 0. More than LRD_FEED_MOST: as it is, and refused by who makes it. */
static inline uint32_t lrd_feed_round(uint32_t entries)
{
    uint32_t n = LRD_FEED_LEAST;
    if (entries == 0 || entries > LRD_FEED_MOST)
        return entries;
    while (n < entries)
        n *= 2;
    return n;
}

static inline uint64_t lrd_feed_what(enum lrd_event event, enum lrd_cause cause, uint32_t key_len) { return (uint64_t)event | (uint64_t)cause << 8 | (uint64_t)key_len << 16; }
static inline uint32_t lrd_feed_event(uint64_t what) { return (uint32_t)what & 0xff; }
static inline uint32_t lrd_feed_cause(uint64_t what) { return (uint32_t)(what >> 8) & 0xff; }
static inline uint32_t lrd_feed_key_len(uint64_t what) { return (uint32_t)(what >> 16) & 0xffff; }

/* ---- reading half ---- */

/* The feed of a live namespace and its entries; NULL: it has none, or what stands there does not fit into the part. */
static inline const struct lrd_feed *lrd_feed_of(const struct lrd_reader *r, uint32_t ns, uint32_t *entries)
{
    uint64_t word = lrd_load_relaxed(&r->namespaces[ns].feed); /* relaxed: stored before the state, which the caller has loaded */
    uint32_t n = lrd_feed_entries(word);
    *entries = n;
    if (n == 0 || (n & (n - 1)) != 0 || lrd_feed_page(word) + lrd_feed_pages(n) > r->geometry.feed_pages)
        return NULL;
    return (const struct lrd_feed *)(const void *)(r->feeds + (uint64_t)lrd_feed_page(word) * LRD_PAGE);
}

static inline const struct lrd_feed_entry *lrd_feed_at(const struct lrd_feed *f, uint64_t i, uint32_t entries)
{
    return (const struct lrd_feed_entry *)(const void *)(f + 1) + (i & (entries - 1));
}

/* Where the next entry will be. Acquire: pairs with the release of the intent's step; the entries below are whole, and what they tell of has happened. */
static inline uint64_t lrd_feed_end(const struct lrd_feed *f) { return lrd_load_acquire(&f->published); }

/* A copy. */
struct lrd_happened {
    uint64_t hash, version, what, when_ms;
    uint64_t key[LRD_FEED_KEY / 8];
};

enum lrd_feed_look { LRD_FEED_GOT, LRD_FEED_NOTHING, LRD_FEED_OVERTAKEN };

/* Entry i into *copy. NOTHING: not there yet. OVERTAKEN: it is not there any more. */
static inline enum lrd_feed_look lrd_feed_read(const struct lrd_feed *f, uint32_t entries, uint64_t i, struct lrd_happened *copy)
{
    if ((int64_t)(lrd_feed_end(f) - i) <= 0)
        return LRD_FEED_NOTHING;
    const struct lrd_feed_entry *e = lrd_feed_at(f, i, entries);
    /* Relaxed: believed after the look at claimed. */
    copy->hash = lrd_load_relaxed(&e->hash);
    copy->version = lrd_load_relaxed(&e->version);
    copy->what = lrd_load_relaxed(&e->what);
    copy->when_ms = lrd_load_relaxed(&e->when_ms);
    for (unsigned k = 0; k < LRD_FEED_KEY / 8; k++)
        copy->key[k] = lrd_load_relaxed(&e->key[k]);
    lrd_fence_acquire(); /* pairs with the release fence in write_entry() */
    return lrd_load_relaxed(&f->claimed) - i > entries ? LRD_FEED_OVERTAKEN : LRD_FEED_GOT;
}

/* ---- writing half: feed.c ---- */

struct lrd_journal_writer;

struct lrd_note {
    uint32_t ns;
    enum lrd_event event;
    enum lrd_cause cause;
    uint32_t key_len;
    const void *key; /* NULL: it is not about one */
    uint64_t hash;
    uint64_t version;
    uint64_t now_ms;
};

static inline bool lrd_feed_has(const struct lrd_store *s, uint32_t ns) { return lrd_unlikely(lrd_load_relaxed(&s->namespaces[ns].feed) != 0); }

/* Writes an entry that will be published by the open intent, behind its other steps. Only of a namespace that has a feed. */
void lrd_feed_note(struct lrd_store *s, struct lrd_journal_writer *j, const struct lrd_note *note);

/* The same at once, for who changes a segment in which no writer runs. */
void lrd_feed_note_now(struct lrd_store *s, const struct lrd_note *note);

#endif
