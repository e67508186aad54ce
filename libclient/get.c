/* Getting: from a key to its value, in one way down and back.
 *
 *   which attachment -> (anything special?) -> hash -> (own writes pending? ryw.c) -> table.h -> counted -> result
 *
 * What is in brackets is a branch that is not taken as a rule. Special is a silence that the caller bounds, or that this call is to be timed (latency.c). Nothing here stores to memory that another process's get looks at, takes a lock, or waits; two
 * rare exceptions are in ryw.c (a bucket crowded with own pending writes) and attach.c (a daemon that is gone).
 */
#include "libclient/client.h"

#include <errno.h>
#include <string.h>

#include "shm/table.h"

/* Keys between two stages of a batch. A core has 16 to 24 cache misses under way: eight buckets, and about five items of 256 bytes. */
#define AHEAD 8u
#define FLIGHT 32u /* a power of two above twice that */

/* ---- a daemon that is silent ---- */

/* On a miss, and now and then: 5 ns for the clock. Whatever comes out, this get's answer stands. */
static void look_for_end(struct larder_ns *ns, struct lrd_attachment *at)
{
    if (lrd_silence_ms(at, lrd_clock_segment_ms(at->zero_ns)) > LRD_SUSPICIOUS_MS)
        lrd_renew(ns->handle, at);
}

/* Whether a bounded silence is over its bound, and no other daemon there. */
static int look_for_silence(struct larder_ns *ns, struct lrd_attachment **at)
{
    if (lrd_silence_ms(*at, lrd_clock_segment_ms((*at)->zero_ns)) <= (*at)->max_silence_ms)
        return 0;
    if (!lrd_renew(ns->handle, *at))
        return LARDER_STALE;
    *at = lrd_current(ns->handle, ns->here);
    return lrd_silence_ms(*at, lrd_clock_segment_ms((*at)->zero_ns)) > (*at)->max_silence_ms ? LARDER_STALE : 0;
}

/* Not a result: the call is to be made once more, and timed. */
#define TO_BE_TIMED (-4097)

static __thread bool timing; /* a call that is timed is under way: the one within it is just made */

/* This process has no attachment (yet), or there is something special. */
static __attribute__((noinline)) int begin_slowly(struct larder_ns *ns, struct lrd_attachment **at)
{
    *at = lrd_current(ns->handle, ns->here);
    if (*at == NULL)
        return lrd_no_attachment(ns->handle);
    int r = (*at)->max_silence_ms == 0 ? 0 : look_for_silence(ns, at);
    return r == 0 && !timing && lrd_time_taken(*at) ? TO_BE_TIMED : r;
}

/* The attachment to read from; LARDER_DOWN: none in this (forked) process; LARDER_STALE; -EBADF: closed; TO_BE_TIMED. */
static inline int begin(struct larder_ns *ns, struct lrd_attachment **at)
{
    struct lrd_attachment *now = atomic_load_explicit(&ns->here->at, memory_order_acquire); /* as in lrd_current() */
    int r = 0;
    /* Relaxed: a timed call may as well be a later one. */
    if (lrd_unlikely(now == NULL) || lrd_unlikely(lrd_load32_relaxed(&now->special) != 0)) {
        struct lrd_attachment *found; /* one of its own: a variable whose address is known outside is no register */
        r = begin_slowly(ns, &found);
        now = found;
    }
    *at = now;
    return r;
}

static uint64_t timed_begin(void)
{
    timing = true;
    return lrd_clock_ns();
}

static void timed_end(const struct lrd_attachment *at, enum larder_op op, uint64_t began)
{
    lrd_time_add(at, op, lrd_clock_ns() - began);
    timing = false;
}

/* ---- one key ---- */

/* From the own ring if our write is pending. False: the table knows. */
static __attribute__((noinline)) bool get_own(struct lrd_attachment *at, struct lrd_get *get, enum lrd_outcome *outcome)
{
    switch (lrd_ryw_get(at, get)) {
    case LRD_OWN_VALUE:
        *outcome = LRD_FOUND;
        return true;
    case LRD_OWN_TOO_SMALL:
        *outcome = LRD_TOO_SMALL;
        return true;
    case LRD_OWN_ABSENT:
        *outcome = LRD_ABSENT;
        return true;
    case LRD_OWN_KNOWN_ABSENT:
        *outcome = LRD_KNOWN_ABSENT;
        return true;
    default:
        return false;
    }
}

/* A write of ours may be pending: the own ring first. */
static __attribute__((noinline)) enum lrd_outcome get_pending(struct lrd_attachment *at, struct lrd_get *get)
{
    enum lrd_outcome outcome;
    __builtin_prefetch(lrd_ryw_bucket(&at->ryw, get->hash));
    lrd_table_prefetch(&at->r, get->hash);
    get->lines = get->restarts = 0;
    if (get_own(at, get, &outcome)) {
        lrd_count(at, LRD_STAT_OWN, 1);
        return outcome;
    }
    return lrd_table_get_at(&at->r, get, lrd_table_home(&at->r, get->hash), &at->marks);
}

/* In line, so that what the caller does not ask for is not computed. */
__attribute__((always_inline)) static inline enum lrd_outcome get_one(struct lrd_attachment *at, struct lrd_get *get, const struct lrd_bucket *home, bool pending)
{
    if (lrd_likely(!pending))
        return lrd_table_get_at(&at->r, get, home, &at->marks);
    struct lrd_get own = *get; /* a copy, as in lrd_table_get() */
    enum lrd_outcome outcome = get_pending(at, &own);
    *get = own;
    return outcome;
}

static __attribute__((noinline)) void count_detours(struct lrd_attachment *at, uint64_t lines, uint64_t restarts)
{
    if (lines > 0)
        lrd_count(at, LRD_STAT_LINES_BEYOND, lines);
    if (restarts > 0)
        lrd_count(at, LRD_STAT_RESTARTS, restarts);
}

static __attribute__((noinline)) void count_misses(struct larder_ns *ns, struct lrd_attachment *at, uint64_t misses)
{
    lrd_time_due(at, lrd_count(at, LRD_STAT_MISSES, misses), misses);
    look_for_end(ns, at);
    /* Who only reads learns here that somebody made the namespace. */
    uint32_t index = lrd_ns_index(at, ns);
    if (index == LRD_NS_NOWHERE)
        lrd_ns_seek(ns, at, &index);
}

/* A lane without a mark map: the writer learns of one hit in LRD_SAMPLE_EACH. */
static void sample(const struct lrd_attachment *at, uint64_t hash)
{
    uint64_t i = lrd_fetch_add_relaxed(&at->ring.lane->samples, 1);
    lrd_store_relaxed(&at->ring.lane->sample[i % LRD_SAMPLES], hash); /* a hint: the writer may see the number before the hash */
}

/* One hit in look_mask + 1 comes here, the sum-th. */
static __attribute__((noinline)) void now_and_then(struct larder_ns *ns, struct lrd_attachment *at, uint64_t sum, uint64_t hash)
{
    if (at->ring.marks == NULL && sum % LRD_SAMPLE_EACH == 0 && !lrd_ryw_has(at, hash)) /* what the own ring answers says nothing about the table */
        sample(at, hash);
    if (sum % LRD_LOOK_EACH == 0)
        look_for_end(ns, at);
    lrd_time_due(at, sum, 1);
}

static inline void count_hit(struct larder_ns *ns, struct lrd_attachment *at, uint64_t hash)
{
    uint64_t sum = lrd_count(at, LRD_STAT_HITS, 1);
    if (lrd_unlikely((sum & at->look_mask) == 0))
        now_and_then(ns, at, sum, hash);
}

/* That there is no value is something to know as well: a hit. A value that did not fit was not read: a miss. */
static __attribute__((noinline)) void count_other(struct larder_ns *ns, struct lrd_attachment *at, uint64_t hash, enum lrd_outcome outcome)
{
    if (outcome == LRD_KNOWN_ABSENT)
        count_hit(ns, at, hash);
    else
        count_misses(ns, at, 1);
}

/* What the rest of the process can read in its lane. One increment for a hit at home, the common case. */
__attribute__((always_inline)) static inline void count_one(struct larder_ns *ns, struct lrd_attachment *at, const struct lrd_get *get, enum lrd_outcome outcome)
{
    if (lrd_likely(outcome == LRD_FOUND))
        count_hit(ns, at, get->hash);
    else
        count_other(ns, at, get->hash, outcome);
    uint64_t lines = get->lines > 1 ? get->lines - 1 : 0;
    if (lrd_unlikely((lines | get->restarts) > 0))
        count_detours(at, lines, get->restarts);
}

static inline void get_begin(struct lrd_get *get, const struct lrd_attachment *at, uint32_t ns, const void *key, size_t key_size, void *buffer, size_t capacity)
{
    static unsigned char nowhere; /* memcpy wants an address also for no bytes */
    get->key = key;
    get->key_len = (uint32_t)key_size;
    get->ns = ns;
    get->buffer = buffer != NULL ? buffer : &nowhere;
    get->capacity = capacity;
    get->zero_ns = at->zero_ns;
}

/* The calls as the library itself makes them again: whoever stands before the exported name has seen this call already. */
#define AGAIN(name) extern __typeof__(larder_##name) lrd_again_##name __attribute__((alias("larder_" #name), visibility("hidden")))
AGAIN(get);
AGAIN(get_item);
AGAIN(get_many);

static __attribute__((noinline, cold)) int get_timed(const struct lrd_attachment *at, struct larder_ns *ns, const void *key, size_t key_size, void *buffer, size_t capacity, size_t *size)
{
    uint64_t began = timed_begin();
    int r = lrd_again_get(ns, key, key_size, buffer, capacity, size);
    timed_end(at, LARDER_OP_GET, began);
    return r;
}

int larder_get(struct larder_ns *ns, const void *key, size_t key_size, void *buffer, size_t capacity, size_t *size)
{
    if (lrd_unlikely(ns == NULL || !lrd_key_ok(key, key_size) || (buffer == NULL && capacity != 0)))
        return -EINVAL;
    struct lrd_attachment *at;
    int r = begin(ns, &at);
    if (lrd_unlikely(r != 0))
        return r == TO_BE_TIMED ? get_timed(at, ns, key, key_size, buffer, capacity, size) : r;

    struct lrd_get get;
    get_begin(&get, at, lrd_ns_index(at, ns), key, key_size, buffer, capacity);
    get.hash = lrd_ns_hash(at, ns, key, key_size);
    enum lrd_outcome outcome = get_one(at, &get, lrd_table_home(&at->r, get.hash), lrd_ryw_pending(at));
    count_one(ns, at, &get, outcome);
    if (lrd_unlikely(outcome == LRD_ABSENT))
        return LARDER_MISS;
    if (lrd_unlikely(outcome == LRD_KNOWN_ABSENT))
        return LARDER_ABSENT;
    if (size != NULL)
        *size = lrd_item_value_len(get.head);
    return lrd_likely(outcome == LRD_FOUND) ? 0 : LARDER_TOO_SMALL;
}

/* ---- with everything known about it ---- */

static void item_clear(struct larder_item *item, int result)
{
    item->value_size = 0;
    item->version = 0;
    item->ttl_ms = 0;
    item->soft_ttl_ms = 0;
    item->flags = 0;
    item->result = result;
}

static int64_t left_ms(uint64_t end_ms, uint64_t now_ms)
{
    if (end_ms == 0)
        return LARDER_TTL_NONE;
    return end_ms > now_ms ? (int64_t)(end_ms - now_ms) : 0; /* 0: it expired since we looked, or is stale */
}

/* Of an item that is not plain: the words are there. */
static __attribute__((noinline)) int64_t soft_left(const struct lrd_item_words *words, uint64_t now_ms) { return left_ms(words->soft_ms, now_ms); }

static inline void item_fill(struct larder_item *item, const struct lrd_get *get, enum lrd_outcome outcome, uint64_t now_ms)
{
    if (lrd_unlikely(outcome == LRD_ABSENT)) {
        item_clear(item, LARDER_MISS);
        return;
    }
    item->value_size = lrd_item_value_len(get->head);
    item->version = (uint64_t)lrd_block_word_generation(get->block_word) << 32 | lrd_slot_location(get->slot);
    item->ttl_ms = left_ms(lrd_item_expires_ms(get->head), now_ms);
    item->soft_ttl_ms = lrd_likely(lrd_item_kind(get->head) == LRD_ITEM_PLAIN) ? LARDER_TTL_NONE : soft_left(&get->words, now_ms);
    item->flags = lrd_item_flags(get->head);
    item->result = lrd_likely(outcome == LRD_FOUND) ? LARDER_OK : outcome == LRD_KNOWN_ABSENT ? LARDER_ABSENT : LARDER_TOO_SMALL;
}

static bool item_ok(const struct larder_item *item)
{
    return ((item->how & ~LARDER_GET_VISIBLE) | item->reserved) == 0 && (item->buffer != NULL || item->capacity == 0);
}

#define VISIBLE_MS 100u /* of LARDER_GET_VISIBLE; the table's word counts, also when the wait was in vain */

static __attribute__((noinline, cold)) int get_item_timed(const struct lrd_attachment *at, struct larder_ns *ns, const void *key, size_t key_size, struct larder_item *item)
{
    uint64_t began = timed_begin();
    int r = lrd_again_get_item(ns, key, key_size, item);
    timed_end(at, LARDER_OP_GET, began);
    return r;
}

int larder_get_item(struct larder_ns *ns, const void *key, size_t key_size, struct larder_item *item)
{
    if (lrd_unlikely(ns == NULL || item == NULL || item->size < sizeof *item || !lrd_key_ok(key, key_size) || !item_ok(item)))
        return -EINVAL;
    struct lrd_attachment *at;
    int r = begin(ns, &at);
    if (lrd_unlikely(r == TO_BE_TIMED))
        return get_item_timed(at, ns, key, key_size, item);
    if (lrd_unlikely(r != 0)) {
        item_clear(item, r);
        return r;
    }
    struct lrd_get get;
    get_begin(&get, at, lrd_ns_index(at, ns), key, key_size, item->buffer, item->capacity);
    get.hash = lrd_ns_hash(at, ns, key, key_size);
    bool pending = lrd_ryw_pending(at);
    if (lrd_unlikely(pending) && (item->how & LARDER_GET_VISIBLE) != 0) {
        lrd_ryw_settle(at, get.hash, VISIBLE_MS);
        pending = false;
    }
    enum lrd_outcome outcome = get_one(at, &get, lrd_table_home(&at->r, get.hash), pending);
    count_one(ns, at, &get, outcome);
    item_fill(item, &get, outcome, lrd_clock_segment_ms(at->zero_ns));
    return item->result;
}

/* ---- prepared keys ---- */

/* What a prepared hash is good for: this segment and the namespace at this index in it, or none yet. 0, "not prepared", may come out for one in 2^64 segments: its keys are hashed each time. */
static uint64_t prepared_for(const struct lrd_attachment *at, uint32_t index) { return at->r.geometry.segment_id + index; }

int larder_key_prepare(struct larder_ns *ns, struct larder_key *key)
{
    if (ns == NULL || key == NULL || key->size < sizeof *key || !lrd_key_ok(key->data, key->data_size))
        return -EINVAL;
    struct lrd_attachment *at = lrd_current(ns->handle, ns->here);
    key->segment_id = 0;
    if (at == NULL)
        return ns->handle->closed ? -EBADF : 0; /* is hashed when it is used */
    uint32_t index = lrd_ns_index(at, ns);
    key->hash = lrd_hash(at->r.hash_seed, index, key->data, key->data_size);
    key->segment_id = prepared_for(at, index);
    return 0;
}

/* ---- many keys ---- */

struct batch {
    struct larder_ns *ns;
    struct lrd_attachment *at;
    const struct larder_key *keys;
    struct larder_item *items;
    size_t key_stride, item_stride;
    uint32_t index; /* of the namespace */
    uint64_t prepared_for;
    uint64_t now_ms;
    bool pending; /* once for all: what was written before the call was claimed before that look */
    bool waited;  /* in vain, for a write to be visible: the others are not waited for */
    uint64_t hits, known, misses, lines, restarts; /* known: to be absent */
};

static const struct larder_key *batch_key(const struct batch *b, size_t i)
{
    return (const struct larder_key *)(const void *)((const char *)b->keys + i * b->key_stride);
}

static struct larder_item *batch_item(const struct batch *b, size_t i)
{
    return (struct larder_item *)(void *)((char *)b->items + i * b->item_stride);
}

/* What the stages of a batch hand on, for the keys that are under way: a ring of FLIGHT. */
struct flight {
    uint64_t hash[FLIGHT];
    const struct lrd_bucket *home[FLIGHT];
};

static inline uint64_t batch_hash(const struct batch *b, const struct larder_key *key)
{
    return key->segment_id != 0 && key->segment_id == b->prepared_for ? key->hash : lrd_hash(b->at->r.hash_seed, b->index, key->data, key->data_size);
}

/* Stage 1: hash, and fetch the home bucket and the byte of its marks. What cannot be asked for says so in its result. */
static inline void stage_hash(const struct batch *b, struct flight *f, size_t i)
{
    const struct larder_key *key = batch_key(b, i);
    struct larder_item *item = batch_item(b, i);
    if (lrd_unlikely(!lrd_key_ok(key->data, key->data_size) || !item_ok(item))) {
        item_clear(item, -EINVAL);
        return;
    }
    item->result = LARDER_OK;
    uint64_t hash = batch_hash(b, key);
    f->hash[i % FLIGHT] = hash;
    f->home[i % FLIGHT] = lrd_table_home(&b->at->r, hash);
    __builtin_prefetch(f->home[i % FLIGHT]);
    __builtin_prefetch(lrd_marks_at(&b->at->marks, f->home[i % FLIGHT]));
    if (lrd_unlikely(b->pending))
        __builtin_prefetch(lrd_ryw_bucket(&b->at->ryw, hash));
}

/* Stage 2: look into the bucket, and fetch the item. */
static inline void stage_fetch(const struct batch *b, const struct flight *f, size_t i)
{
    if (lrd_likely(batch_item(b, i)->result == LARDER_OK))
        lrd_table_prefetch_item(&b->at->r, f->hash[i % FLIGHT], f->home[i % FLIGHT], b->at->r.item_lines);
}

/* Whether an item is asked for as every process sees it; then it is, or the wait was in vain. */
static __attribute__((noinline)) bool as_all_see(struct batch *b, const struct larder_item *item, uint64_t hash)
{
    if ((item->how & LARDER_GET_VISIBLE) == 0)
        return false;
    b->waited = b->waited || !lrd_ryw_settle(b->at, hash, VISIBLE_MS);
    return true;
}

/* Stage 3: the get. */
static inline void stage_get(struct batch *b, const struct flight *f, size_t i)
{
    const struct larder_key *key = batch_key(b, i);
    struct larder_item *item = batch_item(b, i);
    if (lrd_unlikely(item->result != LARDER_OK))
        return;
    struct lrd_get get;
    get_begin(&get, b->at, b->index, key->data, key->data_size, item->buffer, item->capacity);
    get.hash = f->hash[i % FLIGHT];
    enum lrd_outcome outcome = get_one(b->at, &get, f->home[i % FLIGHT], lrd_unlikely(b->pending) && !as_all_see(b, item, get.hash));
    item_fill(item, &get, outcome, b->now_ms);
    if (lrd_likely(outcome == LRD_FOUND))
        b->hits++;
    else if (outcome == LRD_KNOWN_ABSENT)
        b->known++;
    else
        b->misses++;
    b->lines += get.lines > 1 ? get.lines - 1 : 0;
    b->restarts += get.restarts;
}

/* As now_and_then(), for a batch whose last hit was the sum-th. */
static __attribute__((noinline)) void now_and_then_many(const struct batch *b, size_t n, uint64_t hits, uint64_t sum)
{
    uint64_t hit = sum - hits;
    for (size_t i = 0; i < n && b->at->ring.marks == NULL; i++) {
        const struct larder_item *item = batch_item(b, i);
        if (item->result == LARDER_OK && ++hit % LRD_SAMPLE_EACH == 0 && item->version != 0)
            sample(b->at, batch_hash(b, batch_key(b, i)));
    }
    if (sum % LRD_LOOK_EACH < hits)
        look_for_end(b->ns, b->at);
    lrd_time_due(b->at, sum, hits);
}

static void count_many(const struct batch *b, size_t n)
{
    uint64_t hits = b->hits + b->known;
    if (lrd_likely(hits > 0)) {
        uint64_t sum = lrd_count(b->at, LRD_STAT_HITS, hits);
        if (lrd_unlikely((sum & b->at->look_mask) < hits))
            now_and_then_many(b, n, hits, sum);
    }
    if (b->misses > 0)
        count_misses(b->ns, b->at, b->misses);
    if ((b->lines | b->restarts) > 0)
        count_detours(b->at, b->lines, b->restarts);
}

/* Each turn takes one key through each stage, AHEAD keys apart: while the memory that one waits for is on its way, the others are worked on. */
static void get_all(struct batch *b, size_t n)
{
    struct flight f;
    for (size_t turn = 0; turn < n + 2 * AHEAD; turn++) {
        if (turn < n)
            stage_hash(b, &f, turn);
        if (turn >= AHEAD && turn - AHEAD < n)
            stage_fetch(b, &f, turn - AHEAD);
        if (turn >= 2 * AHEAD)
            stage_get(b, &f, turn - 2 * AHEAD);
    }
    count_many(b, n);
}

static bool strides_ok(const struct larder_key *keys, const struct larder_item *items)
{
    return keys->size >= sizeof *keys && keys->size % _Alignof(struct larder_key) == 0 && items->size >= sizeof *items &&
           items->size % _Alignof(struct larder_item) == 0;
}

static __attribute__((noinline, cold)) int get_many_timed(const struct lrd_attachment *at, struct larder_ns *ns, const struct larder_key *keys, struct larder_item *items, size_t n, size_t *hits)
{
    uint64_t began = timed_begin();
    int r = lrd_again_get_many(ns, keys, items, n, hits);
    timed_end(at, LARDER_OP_GET_MANY, began);
    return r;
}

int larder_get_many(struct larder_ns *ns, const struct larder_key *keys, struct larder_item *items, size_t n, size_t *hits)
{
    if (hits != NULL)
        *hits = 0;
    if (ns == NULL || (n > 0 && (keys == NULL || items == NULL || !strides_ok(keys, items))))
        return -EINVAL;
    if (n == 0)
        return 0;
    struct batch b = {.ns = ns, .keys = keys, .items = items, .key_stride = keys->size, .item_stride = items->size};
    int r = begin(ns, &b.at);
    if (lrd_unlikely(r == TO_BE_TIMED))
        return get_many_timed(b.at, ns, keys, items, n, hits);
    if (lrd_unlikely(r != 0)) {
        for (size_t i = 0; i < n; i++)
            item_clear(batch_item(&b, i), r);
        return r;
    }
    b.index = lrd_ns_index(b.at, ns);
    b.prepared_for = prepared_for(b.at, b.index);
    b.now_ms = lrd_clock_segment_ms(b.at->zero_ns);
    b.pending = lrd_ryw_pending(b.at);
    get_all(&b, n);
    if (hits != NULL)
        *hits = (size_t)b.hits;
    return 0;
}
