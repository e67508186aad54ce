/* The table: which item a key has.
 *
 * An item lies in one of four buckets: home (0), home's pair (1), and the same two in the alternate pair (2, 3; hash.h). Its slot says
 * which (displacement). A reader looks in that order. The writer moves an item only forward in that order, and stores the new slot before it
 * replaces the old one: who looks in order and did not find it at the old place finds it at the new one.
 *
 * displaced word of a bucket: sixteen 4-bit counters, twelve used. Counter (displacement - 1) * 4 + (tag & 3) counts the slots, live or dead, of
 * items whose home this bucket is, that lie at that displacement and have those tag bits. It is raised before the slot it announces is stored and
 * lowered after that slot is gone; 15 stays. A reader loads it after the slots of the bucket it has looked at, each time: an item that moved on while
 * the reader was at the old place has been announced by then.
 *
 * Measured (tests/check_table.c, load 0.75, steady churn): see HACKING.md.
 */
#ifndef LRD_TABLE_H
#define LRD_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "shm/arena.h"
#include "shm/clock.h"
#include "shm/hash.h"
#include "shm/layout.h"
#include "shm/marks.h"
#include "shm/racy.h"
#include "shm/segment.h"

#define LRD_DISPLACED_MAX 15u

static inline unsigned lrd_displaced_shift(uint32_t displacement, uint32_t tag) { return (displacement - 1) * 16 + (tag & 3) * 4; }
static inline uint32_t lrd_displaced_count(uint64_t word, uint32_t displacement, uint32_t tag)
{
    return (uint32_t)(word >> lrd_displaced_shift(displacement, tag)) & 15;
}

enum lrd_outcome {
    LRD_FOUND,
    LRD_ABSENT,
    LRD_TOO_SMALL,
    LRD_KNOWN_ABSENT /* there is an item that says that there is no value */
};

/* A get: what is asked, and what came out. */
struct lrd_get {
    const void *key;
    uint32_t key_len;
    uint32_t ns;
    uint64_t hash;
    void *buffer;
    size_t capacity;
    uint64_t zero_ns;  /* this process's CLOCK_MONOTONIC at segment time 0 */
    /* out, if found or too small */
    struct lrd_item_head head;
    uint64_t slot;
    uint64_t block_word;
    const lrd_u64 *place; /* of the slot */
    struct lrd_item_words words; /* optional ones: only if the head's kind is not plain; also if it is LRD_ITEM_LEASE, and the outcome LRD_ABSENT */
    uint32_t lines;    /* buckets looked at, in the last attempt */
    uint32_t restarts;
};

static inline const struct lrd_bucket *lrd_table_home(const struct lrd_reader *r, uint64_t hash)
{
    return &r->buckets[lrd_hash_home(hash, r->n_pairs)];
}

static inline void lrd_table_prefetch(const struct lrd_reader *r, uint64_t hash) { __builtin_prefetch(lrd_table_home(r, hash)); }

/* Which slots of a bucket have that tag: bit i + 1 for slot i. Without a branch on where the slot is: a position predicted wrong would throw away what the next get has
 * already asked memory for. An empty slot has tag 0; the caller looks. Pairs with the release of the slot in an intent: who sees the slot sees the item. */
#if defined(__SSE2__) && !defined(LRD_TSAN)
/* All eight words at once, their upper halves side by side. Nothing relies on 16 bytes being one access: each aligned 8 are, and a slot that matches is loaded again, as the
 * atomic it is. 14 instructions, where one by one they are 50. */
static inline uint32_t lrd_table_match(const struct lrd_bucket *b, uint32_t tag)
{
    const __m128i *line = (const __m128i *)(const void *)b;
    __m128 w01 = _mm_castsi128_ps(_mm_load_si128(line)), w23 = _mm_castsi128_ps(_mm_load_si128(line + 1));
    __m128 w45 = _mm_castsi128_ps(_mm_load_si128(line + 2)), w67 = _mm_castsi128_ps(_mm_load_si128(line + 3));
    lrd_fence_acquire(); /* no instruction on x86: keeps the compiler from loading the displaced word first */
    __m128i low = _mm_castps_si128(_mm_shuffle_ps(w01, w23, 0xdd)), high = _mm_castps_si128(_mm_shuffle_ps(w45, w67, 0xdd));
    __m128i want = _mm_set1_epi32((int)(tag << 18)), mask = _mm_set1_epi32((int)(LRD_TAG_MASK << 18));
    low = _mm_cmpeq_epi32(_mm_and_si128(low, mask), want);
    high = _mm_cmpeq_epi32(_mm_and_si128(high, mask), want);
    return ((uint32_t)_mm_movemask_ps(_mm_castsi128_ps(low)) | (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(high)) << 4) & 0xfe;
}
#else
static inline uint32_t lrd_table_match(const struct lrd_bucket *b, uint32_t tag)
{
    uint32_t match = 0;
    for (unsigned i = 0; i < LRD_SLOTS; i++)
        match |= (uint32_t)(lrd_slot_tag(lrd_load_acquire(&b->slot[i])) == tag) << (i + 1);
    return match;
}
#endif

static inline const lrd_u64 *lrd_table_matched(const struct lrd_bucket *b, uint32_t match) { return &b->slot[(uint32_t)__builtin_ctz(match) - 1]; }

enum lrd_look { LRD_LOOK_NEXT, LRD_LOOK_AGAIN, LRD_LOOK_DONE };

/* An item of our namespace and key length that is not plain. Believed only after the block word was looked at again, like all that comes from the item's bytes. */
__attribute__((noinline, unused)) static enum lrd_look lrd_table_look_other(const struct lrd_reader *r, uint64_t off, struct lrd_item_head head, struct lrd_get *get, enum lrd_outcome *outcome)
{
    const struct lrd_item *item = (const struct lrd_item *)(const void *)(r->arena + off);
    uint32_t kind = lrd_item_kind(head), key_len = lrd_item_key_len(head), value_len = lrd_item_value_len(head);
    if (kind >= LRD_N_ITEM_KINDS || lrd_item_used(kind, key_len, value_len) > r->arena_bytes - off || !lrd_racy_equal(lrd_item_key_of(item, head), get->key, key_len))
        return LRD_LOOK_NEXT;
    uint64_t expires_ms = lrd_item_expires_ms(head);
    get->words = lrd_item_load_words(item, kind);
    get->head = head;
    if (kind == LRD_ITEM_LEASE || (expires_ms != 0 && expires_ms <= lrd_clock_segment_ms(get->zero_ns)))
        *outcome = LRD_ABSENT;
    else if (kind == LRD_ITEM_ABSENT)
        *outcome = LRD_KNOWN_ABSENT;
    else if (value_len > get->capacity)
        *outcome = LRD_TOO_SMALL;
    else {
        lrd_racy_copy(get->buffer, lrd_item_at(item, lrd_item_value_off(kind, key_len, off)), value_len);
        *outcome = LRD_FOUND;
    }
    return LRD_LOOK_DONE;
}

/* One slot with our tag; any_kind, a constant: whether items that are not plain count. Copies first, believes afterwards: every outcome that is taken from item bytes stands only if the block word is the same after. */
__attribute__((always_inline)) static inline enum lrd_look lrd_table_look(const struct lrd_reader *r, struct lrd_get *get, const lrd_u64 *at, uint64_t slot, const lrd_u32 *epoch_word,
                                           uint32_t epoch, bool any_kind, enum lrd_outcome *outcome)
{
    uint32_t block = lrd_arena_block(r, slot);
    if (lrd_unlikely(block >= r->n_blocks))
        return LRD_LOOK_NEXT;
    /* Pairs with the release of the block word in lrd_arena_free_block() and lrd_arena_open_block(). */
    uint64_t word = lrd_load_acquire(&r->block_words[block]);
    if (lrd_unlikely(lrd_slot_dead(slot, word, epoch))) {
        /* Dead, or replaced or reset since we looked: only if nothing changed it was dead all along. The block word too, and after the slot: one that is a whole wrap of
         * generations newer may by now make the same slot bits a live item again (tests/model/read.pml, NO_DEAD_WORD). */
        if (lrd_load_acquire(at) != slot || lrd_load32_acquire(epoch_word) != epoch || lrd_load_relaxed(&r->block_words[block]) != word)
            return LRD_LOOK_AGAIN;
        return LRD_LOOK_NEXT;
    }
    /* A reader that was stopped between slot and block word may hold a slot that is 2^16 generations old. */
    if (lrd_unlikely(lrd_load_acquire(at) != slot))
        return LRD_LOOK_AGAIN;

    uint64_t off = lrd_arena_off(r, slot);
    const struct lrd_item *item = lrd_arena_item(r, slot);
    struct lrd_item_head head = lrd_item_load(item);
    uint32_t key_len = get->key_len, value_len = lrd_item_value_len(head); /* the item's too, once that was compared */
    enum lrd_look look = LRD_LOOK_NEXT;
    if (lrd_likely(lrd_item_is_plain_of(head, get->ns, get->key_len) &&
                   sizeof *item + key_len + value_len <= r->arena_bytes - off &&
                   lrd_racy_equal(lrd_item_key(item), get->key, key_len))) {
        look = LRD_LOOK_DONE;
        uint64_t expires_ms = lrd_item_expires_ms(head);
        if (expires_ms != 0 && expires_ms <= lrd_clock_segment_ms(get->zero_ns))
            *outcome = LRD_ABSENT;
        else if (value_len > get->capacity)
            *outcome = LRD_TOO_SMALL;
        else {
            lrd_racy_copy(get->buffer, lrd_item_key(item) + key_len, value_len);
            *outcome = LRD_FOUND;
        }
        get->head = head;
        get->slot = slot;
        get->block_word = word;
        get->place = at;
    } else if (any_kind && lrd_unlikely(lrd_item_is_of(head, get->ns, get->key_len) && lrd_item_kind(head) != LRD_ITEM_PLAIN)) {
        look = lrd_table_look_other(r, off, head, get, outcome);
        get->slot = slot;
        get->block_word = word;
        get->place = at;
    }
    /* Everything above is loaded before the word below; pairs with the release fence in lrd_arena_open_block(). */
    lrd_fence_acquire();
    if (lrd_unlikely(lrd_load_relaxed(&r->block_words[block]) != word))
        return LRD_LOOK_AGAIN;
    return look;
}

/* Looks at all places, in order, starting over as long as what it looked at changed under it. Counts on in get->restarts. */
__attribute__((noinline, unused)) static enum lrd_outcome lrd_table_search(const struct lrd_reader *r, struct lrd_get *get, const struct lrd_marks *marks)
{
    const lrd_u32 *epoch_word = &r->namespaces[get->ns].epoch;
    uint32_t tag = lrd_hash_tag(get->hash);
    uint32_t home = lrd_hash_home(get->hash, r->n_pairs);
    const lrd_u64 *displaced = &r->buckets[home].displaced;

again:;
    /* Pairs with the release in a reset: who sees the new epoch finds nothing of before it. */
    uint32_t epoch = lrd_load32_acquire(epoch_word);
    get->lines = 0;
    /* Of an attempt that was not believed: who finds nothing now must not act on it. */
    get->slot = 0;
    get->head = (struct lrd_item_head){0};
    get->words = (struct lrd_item_words){0};
    for (uint32_t d = 0; d < 4; d++) {
        if (d > 0 && lrd_displaced_count(lrd_load_acquire(displaced), d, tag) == 0)
            continue; /* acquire: pairs with the release of the word in an intent, which stands before the slot's */
        const struct lrd_bucket *b = &r->buckets[lrd_hash_bucket(home, tag, d, r->n_pairs)];
        get->lines++;
        for (uint32_t match = lrd_table_match(b, tag); match != 0; match &= match - 1) {
            const lrd_u64 *at = lrd_table_matched(b, match);
            uint64_t slot = lrd_load_acquire(at);
            if (lrd_unlikely(slot == 0))
                continue;
            enum lrd_outcome outcome;
            enum lrd_look look = lrd_table_look(r, get, at, slot, epoch_word, epoch, true, &outcome);
            if (look == LRD_LOOK_DONE) {
                if (marks != NULL && outcome != LRD_ABSENT)
                    lrd_marks_set(marks, b, match & -match);
                return outcome;
            }
            if (look == LRD_LOOK_AGAIN) {
                get->restarts++;
                goto again;
            }
        }
    }
    return LRD_ABSENT;
}

/* Finds the item and copies its value to get->buffer. Waits for nobody. marks: where to leave a mark if there is such an item and it has not expired; NULL, a constant
 * then, for who has no lane.
 *
 * Most items are plain, lie at home and no other has their tag there: that is tried in line, and everything else left to the search, which begins anew. Fewer instructions
 * mean that more of the next get is under way while this one waits for memory. The mark is what was matched: if two slots have the tag, once in thousands, both get it. */
__attribute__((always_inline)) static inline enum lrd_outcome lrd_table_get_at(const struct lrd_reader *r, struct lrd_get *get, const struct lrd_bucket *home,
                                                                                const struct lrd_marks *marks)
{
    const lrd_u32 *epoch_word = &r->namespaces[get->ns].epoch;
    uint32_t epoch = lrd_load32_acquire(epoch_word); /* pairs as in lrd_table_search() */
    uint32_t match = lrd_table_match(home, lrd_hash_tag(get->hash));
    enum lrd_look look = LRD_LOOK_NEXT;
    if (lrd_likely(match != 0)) {
        const lrd_u64 *at = lrd_table_matched(home, match);
        uint64_t slot = lrd_load_acquire(at);
        enum lrd_outcome outcome;
        get->lines = 1;
        get->restarts = 0;
        if (lrd_likely(slot != 0) && lrd_likely((look = lrd_table_look(r, get, at, slot, epoch_word, epoch, false, &outcome)) == LRD_LOOK_DONE)) {
            if (marks != NULL && lrd_likely(outcome != LRD_ABSENT))
                lrd_marks_set(marks, home, match);
            return outcome;
        }
    }
    /* A copy: a get whose address is known outside cannot be kept in registers. Of what is asked only: what came out and was not believed need not be kept in any. */
    struct lrd_get search = {.key = get->key,
                             .key_len = get->key_len,
                             .ns = get->ns,
                             .hash = get->hash,
                             .buffer = get->buffer,
                             .capacity = get->capacity,
                             .zero_ns = get->zero_ns,
                             .restarts = look == LRD_LOOK_AGAIN};
    enum lrd_outcome outcome = lrd_table_search(r, &search, marks);
    *get = search;
    return outcome;
}

/* For who has no lane: leaves no mark. */
__attribute__((always_inline)) static inline enum lrd_outcome lrd_table_get(const struct lrd_reader *r, struct lrd_get *get)
{
    return lrd_table_get_at(r, get, lrd_table_home(r, get->hash), NULL);
}

/* Fetches the first lines of the item, or the buckets it may lie in, as far as the home bucket tells: the second stage of a batch. Believes nothing. */
static inline void lrd_table_prefetch_item(const struct lrd_reader *r, uint64_t hash, const struct lrd_bucket *home, uint32_t lines)
{
    uint32_t tag = lrd_hash_tag(hash), match = lrd_table_match(home, tag);
    if (lrd_likely(match != 0)) {
        uint64_t slot = lrd_load_relaxed(lrd_table_matched(home, match)); /* relaxed: only a hint */
        const unsigned char *item = r->arena + lrd_arena_off(r, slot);
        for (uint32_t i = 0; i < lines; i++)
            __builtin_prefetch(item + i * LRD_LINE);
        return;
    }
    uint64_t displaced = lrd_load_relaxed(&home->displaced);
    for (uint32_t d = 1; d < 4; d++)
        if (lrd_displaced_count(displaced, d, tag) != 0)
            __builtin_prefetch(&r->buckets[lrd_hash_bucket((uint32_t)(home - r->buckets), tag, d, r->n_pairs)]);
}

/* ---- writing half: table.c. One thread, the writer. ---- */

struct lrd_arena;
struct lrd_journal_writer;

struct lrd_table {
    struct lrd_store *s;
    struct lrd_arena *a;
    struct lrd_journal_writer *j;
    uint16_t *counts; /* by bucket: two bits for each slot, how often its item was seen to be read; private to the writer. NULL: not kept */
};

/* How often the item in a slot was seen to be read, 0 to 3. It follows the item when it moves. */
static inline uint32_t lrd_table_count(const struct lrd_table *t, uint32_t bucket, uint32_t idx)
{
    return t->counts == NULL ? 0 : (uint32_t)t->counts[bucket] >> (2 * idx) & 3;
}
static inline void lrd_table_set_count(struct lrd_table *t, uint32_t bucket, uint32_t idx, uint32_t count)
{
    if (t->counts != NULL)
        t->counts[bucket] = (uint16_t)((t->counts[bucket] & ~(3u << (2 * idx))) | count << (2 * idx));
}

/* An item that lies in the arena, whole, and has no slot yet. */
struct lrd_new_item {
    const unsigned char *key; /* in the arena: what was hashed is what will be found */
    uint32_t key_len;
    uint32_t ns;
    uint64_t hash;
    uint32_t location;
    uint32_t bytes; /* padding included */
};

/* Adds to the open intent the steps that make `item` the item of its key: it replaces the old one, or takes a vacant slot, or moves another item forward, or replaces a
 * victim: one that has expired, else the oldest of its own namespace, else the oldest of a namespace that has more than its minimum; for a namespace that refuses eviction also one below its
 * minimum. Never one of a namespace that refuses eviction.
 * Without any it is the new item that goes. Returns the block in which an item died, or LRD_NO_BLOCK: lrd_arena_free_if_empty() after the commit. */
uint32_t lrd_table_put(struct lrd_table *t, const struct lrd_new_item *item, uint64_t now_ms);

/* Adds to the open intent the steps that remove key's item, which dies in block *emptied. False: there is none (nothing added). */
bool lrd_table_delete(struct lrd_table *t, uint32_t ns, const void *key, uint32_t key_len, uint64_t hash, uint64_t now_ms, uint32_t *emptied);

/* The slot of key's item, expired or not; 0: there is none. */
uint64_t lrd_table_slot(const struct lrd_table *t, uint32_t ns, const void *key, uint32_t key_len, uint64_t hash);

/* Where a slot lies. */
struct lrd_place {
    uint32_t bucket;
    uint32_t idx;
};

/* The place of the slot that points to this location, of the item with this hash. False: that item is dead. */
bool lrd_table_find(const struct lrd_table *t, uint64_t hash, uint32_t location, struct lrd_place *at);

/* Adds to the open intent the steps that make the slot there point to the copy of its item at `location`. Its old block has an item less. */
void lrd_table_move(struct lrd_table *t, struct lrd_place at, uint32_t location);

/* The block that most of what a client says is this hash's key would overwrite lies in; LRD_NO_BLOCK: none. By the tag only, without a look at the key: a hint. */
uint32_t lrd_table_hint(const struct lrd_table *t, uint64_t hash);

/* Raises the counts of all live items that have this hash's home and tag. */
void lrd_table_mark(struct lrd_table *t, uint64_t hash);

/* Looks at up to n buckets from the sweep's cursor and empties dead slots there, by intents of its own, while the arena owes it. True if there is more to do. */
bool lrd_table_sweep(struct lrd_table *t, uint32_t n);

#endif
