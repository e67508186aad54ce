/* Read-your-writes: a get of this process sees every set and delete that returned before it began, without waiting for the writer.
 *
 * The idea: the value is still in our own ring until the writer has applied it, and the cells of a record are not used again before that. So all
 * a get must know is where. A private table says for the hash of a key at which position its newest write began.
 *
 *   entry = position + 1:49 | tag:14 | crowded:1          0 = empty; pending while its position is not below the applied one
 *   bucket = 8 entries, one line; found by other bits of the hash than the tag
 *
 * raise (after the commit, before the set returns), all by compare-and-swap of one entry:
 *   - a pending entry with our tag goes up to our position, if that is higher;
 *   - else an entry that is not pending any more, or was never used, becomes ours;
 *   - else (nine keys pending in one bucket) an entry becomes crowded: it stands for every key of the bucket, at the highest position of those it covers.
 *
 * get: the highest pending entry that has our tag or is crowded. At its position there is a record of our key: that is our newest write. A record of another key (a tag
 * shared by chance, or a crowded entry): our write may be any record up to that position, so the get waits until the writer is past it, for WAIT_MS at most,
 * then the table knows. The same where the record is a write under a condition: what it will do only the writer can say. No such entry: the table knows.
 *
 * Why nothing is missed: what a returned set raised stays in its entry. The entry's position only rises, and it is replaced only when it is not pending; crowding keeps the
 * position. A get that begins later finds the key's entry under its tag or crowded, in one pass over the line. Two threads that set the same key at once may take two
 * entries; the higher counts. The order of writes is the order of positions, for the writer as well.
 *
 * Why nothing false is read: the record is copied first, then the applied position is looked at again. If it is still not above the record's, no thread
 * can have begun to use the cells again: a producer claims them only after it has seen them applied, and fences before it writes (set.c). And if the daemon was
 * replaced under the copy, the lane is zeros (attach.c): the attachment says so.
 *
 *   who                  may call                       beside
 *   any thread           lrd_ryw_raise, lrd_ryw_get     everything
 *   under the mutex      lrd_ryw_clear                  everything; its lane has been replaced, nothing is pending any more
 *
 * The table is private to the process, not in the lane: a position there is believed here. A process that dies between commit and raise leaves nothing that
 * anybody could miss: it was the only one to look.
 *
 * Size: two entries per cell. A ring full of the smallest records (one cell each) then has four keys a bucket on average; more than eight in 2 of 100 buckets.
 * With 256-byte values, five cells a record, it is none in 10^6. For a 2 MiB ring that is 512 KiB, of which only lines with pending writes are in use at a time;
 * one entry to a cell and no buckets would need 16 times that for as few waits.
 */
#include "libclient/client.h"

#include <errno.h>
#include <sys/mman.h>

#include "shm/racy.h"
#include "shm/table.h"
#include "shm/wait.h"

#define ENTRIES_PER_CELL 2u

/* How long a get waits where the entry does not say which record is its own. A new worker takes a hundredth of that to come. */
#define WAIT_MS 100u

#define TAG_SHIFT 1u
#define POSITION_SHIFT (TAG_SHIFT + LRD_TAG_BITS)

static uint64_t entry_make(uint64_t position, uint32_t tag, bool crowded)
{
    return (position + 1) << POSITION_SHIFT | (uint64_t)tag << TAG_SHIFT | crowded;
}
static uint64_t entry_end(uint64_t entry) { return entry >> POSITION_SHIFT; } /* one above the position; 0: empty */
static uint32_t entry_tag(uint64_t entry) { return (uint32_t)(entry >> TAG_SHIFT) & LRD_TAG_MASK; }
static bool entry_is_crowded(uint64_t entry) { return entry & 1; }
static bool entry_is_pending(uint64_t entry, uint64_t applied) { return entry >= (applied + 1) << POSITION_SHIFT; } /* its end is above it, without a shift for each entry */

int lrd_ryw_create(struct lrd_ryw *ryw, uint32_t n_cells)
{
    size_t bytes = (size_t)n_cells * ENTRIES_PER_CELL * sizeof(lrd_u64);
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return -errno;
    madvise(p, bytes, MADV_DONTFORK); /* a child has its own, and pays nothing for ours */
    *ryw = (struct lrd_ryw){.entry = p, .bytes = bytes, .bucket_mask = n_cells * ENTRIES_PER_CELL / LRD_RYW_WAYS - 1};
    return 0;
}

void lrd_ryw_destroy(struct lrd_ryw *ryw) { munmap(ryw->entry, ryw->bytes); }

void lrd_ryw_clear(struct lrd_ryw *ryw) { madvise(ryw->entry, ryw->bytes, MADV_DONTNEED); } /* private memory: zeros from now on */

/* ---- raise ---- */

/* What an entry must become so that it covers `mine` as well; the same if it does already; 0 if it is taken by another key. */
static uint64_t entry_with(uint64_t entry, uint64_t mine, uint64_t applied)
{
    if (!entry_is_pending(entry, applied))
        return mine;
    if (entry_tag(entry) != entry_tag(mine))
        return 0;
    /* A crowded entry stays crowded: it stands for others too. */
    return entry_end(entry) >= entry_end(mine) ? entry : mine | entry_is_crowded(entry);
}

/* Which of the bucket's entries takes `mine`: one with its tag, else a free one, else the first. *found is what is in it. */
static unsigned entry_choose(const lrd_u64 *bucket, uint64_t mine, uint64_t applied, uint64_t *found)
{
    unsigned free = LRD_RYW_WAYS;
    uint64_t in_free = 0;
    for (unsigned i = LRD_RYW_WAYS; i-- > 0;) {
        uint64_t entry = lrd_load_relaxed(&bucket[i]); /* relaxed: the compare-and-swap decides */
        if (!entry_is_pending(entry, applied)) {
            free = i;
            in_free = entry;
        } else if (entry_tag(entry) == entry_tag(mine)) {
            *found = entry;
            return i;
        }
    }
    if (free < LRD_RYW_WAYS) {
        *found = in_free;
        return free;
    }
    *found = lrd_load_relaxed(&bucket[0]);
    return 0;
}

void lrd_ryw_raise(struct lrd_attachment *at, uint64_t hash, uint64_t position)
{
    lrd_u64 *bucket = lrd_ryw_bucket(&at->ryw, hash);
    uint64_t mine = entry_make(position, lrd_hash_tag(hash), false);
    for (;;) {
        /* Relaxed: an old position makes an entry look pending that is not, which only costs room. Loaded each turn, or a bucket would stay full. */
        uint64_t applied = lrd_load_relaxed(&at->words->applied);
        if (applied > position)
            return; /* the table has it; no entry of an older write of this key is pending either */
        uint64_t found;
        unsigned i = entry_choose(bucket, mine, applied, &found);
        uint64_t want = entry_with(found, mine, applied);
        if (want == 0)
            want = (entry_end(found) > entry_end(mine) ? found : mine) | 1;
        /* Release: publishes the record's bytes to a thread that learns of it here; pairs with the acquire in lrd_ryw_get(). */
        if (want == found || lrd_cas(&bucket[i], &found, want))
            return;
    }
}

/* ---- get ---- */

/* The highest pending entry that may be about our key; 0: none. */
static uint64_t entry_find(const lrd_u64 *bucket, uint32_t tag, uint64_t applied)
{
    uint64_t best = 0;
    for (unsigned i = 0; i < LRD_RYW_WAYS; i++) {
        uint64_t entry = lrd_load_acquire(&bucket[i]); /* pairs with the release in lrd_ryw_raise() */
        if (entry_is_pending(entry, applied) && (entry_tag(entry) == tag || entry_is_crowded(entry)) && entry_end(entry) > entry_end(best))
            best = entry;
    }
    return best;
}

enum look { LOOK_MINE, LOOK_OTHER };

/* The record at a position, copied out if it is a set without a condition, or a delete, of our key. Of another key, or of a kind whose outcome is not known before it is applied: LOOK_OTHER. May be torn: the caller
 * validates. */
static enum look look_at(const struct lrd_attachment *at, struct lrd_get *get, uint64_t position, enum lrd_own *own)
{
    const unsigned char *p = lrd_ring_at(&at->ring, position);
    struct lrd_record rec;
    struct lrd_args args = {.condition = LRD_IF_ANY};
    uint32_t n_args = 0, kind = LRD_ITEM_PLAIN;
    lrd_racy_copy(&rec, p, sizeof rec);
    p += sizeof rec;
    if (rec.kind == LRD_RECORD_PUT) {
        n_args = sizeof args;
        kind = rec.item_kind;
        lrd_racy_copy(&args, p, sizeof args);
        p += sizeof args;
    }
    if ((rec.kind != LRD_RECORD_SET && rec.kind != LRD_RECORD_DELETE && rec.kind != LRD_RECORD_PUT) || args.condition != LRD_IF_ANY || rec.ns != get->ns || rec.key_len != get->key_len ||
        lrd_ring_cells_for(rec.key_len + n_args, rec.value_len) > at->ring.n_cells || !lrd_racy_equal(p, get->key, get->key_len))
        return LOOK_OTHER;

    get->head = (struct lrd_item_head){lrd_item_word0(rec.value_len, rec.expires_ms), lrd_item_word1(rec.flags, rec.ns, rec.key_len, kind)};
    get->words = (struct lrd_item_words){.soft_ms = args.soft_ms};
    get->slot = get->block_word = 0;
    /* Pairs with the release in a reset: the writer will discard a record of before it, and nothing older is visible. */
    if (rec.epoch != lrd_load32_acquire(&at->r.namespaces[get->ns].epoch))
        *own = LRD_OWN_NONE;
    else if (rec.kind == LRD_RECORD_DELETE || (rec.expires_ms != 0 && rec.expires_ms <= lrd_clock_segment_ms(get->zero_ns)))
        *own = LRD_OWN_ABSENT;
    else if (kind == LRD_ITEM_ABSENT)
        *own = LRD_OWN_KNOWN_ABSENT;
    else if (rec.value_len > get->capacity)
        *own = LRD_OWN_TOO_SMALL;
    else {
        lrd_racy_copy(get->buffer, p + rec.key_len, rec.value_len);
        *own = LRD_OWN_VALUE;
    }
    return LOOK_MINE;
}

enum lrd_own lrd_ryw_get(struct lrd_attachment *at, struct lrd_get *get)
{
    /* Pairs with the release of the applied position in an intent: what is not pending is in the table. */
    uint64_t applied = lrd_load_acquire(&at->words->applied);
    uint64_t entry = entry_find(lrd_ryw_bucket(&at->ryw, get->hash), lrd_hash_tag(get->hash), applied);
    if (entry == 0)
        return LRD_OWN_NONE;
    uint64_t position = entry_end(entry) - 1;
    enum lrd_own own;
    enum look look = look_at(at, get, position, &own);
    /* Everything above is loaded before what is below; pairs with the release fence between claim and record in set.c, and with the store in retire(). */
    lrd_fence_acquire();
    if (lrd_load_acquire(&at->words->applied) > position)
        return LRD_OWN_NONE; /* applied meanwhile; acquire, so that the table has it for us too */
    if (lrd_unlikely(lrd_load_relaxed(&at->replaced) != 0))
        return LRD_OWN_NONE; /* gone with its daemon, and so is the table */
    if (look == LOOK_MINE)
        return own;
    /* Past the deadline the table's answer is the best there is; only with a writer that has stood still for so long. */
    lrd_wait_applied(at->words, at->ring.lane, position, WAIT_MS);
    return LRD_OWN_NONE;
}

bool lrd_ryw_settle(struct lrd_attachment *at, uint64_t hash, uint32_t timeout_ms)
{
    uint64_t entry = entry_find(lrd_ryw_bucket(&at->ryw, hash), lrd_hash_tag(hash), lrd_load_acquire(&at->words->applied));
    return entry == 0 || lrd_wait_applied(at->words, at->ring.lane, entry_end(entry) - 1, timeout_ms);
}

bool lrd_ryw_has(const struct lrd_attachment *at, uint64_t hash)
{
    return entry_find(lrd_ryw_bucket(&at->ryw, hash), lrd_hash_tag(hash), lrd_load_relaxed(&at->words->applied)) != 0;
}
