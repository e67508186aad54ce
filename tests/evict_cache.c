#include "tests/evict_cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "shm/clock.h"
#include "shm/hash.h"
#include "shm/namespace.h"

#define SEED 12345u
#define STEPS_WITHOUT_END 200000u

/* ---- keys ---- */

static struct {
    bool made;
    uint64_t key[CACHE_NS][CACHE_KEYS];
    uint64_t hash[CACHE_NS][CACHE_KEYS];
} pool;

static void make_pool(void)
{
    static bool taken[LRD_TAG_MASK + 1];
    uint64_t next = 1;
    for (uint32_t ns = 0; ns < CACHE_NS; ns++)
        for (uint32_t i = 0; i < CACHE_KEYS; i++) {
            uint64_t hash;
            do {
                hash = lrd_hash(SEED, ns, &next, sizeof next);
                next++;
            } while (taken[lrd_hash_tag(hash)] || (hash >> 15 & 0xffff) == 0);
            taken[lrd_hash_tag(hash)] = true;
            pool.key[ns][i] = next - 1;
            pool.hash[ns][i] = hash;
        }
    pool.made = true;
}

uint64_t cache_hash(uint32_t ns, uint32_t key) { return pool.hash[ns][key]; }
const unsigned char *cache_key(uint32_t ns, uint32_t key) { return (const unsigned char *)&pool.key[ns][key]; }
uint32_t cache_bytes(uint32_t value_len) { return lrd_item_bytes(CACHE_KEY_LEN, value_len, 3); }

/* Keys were handed out in rising order. */
static uint32_t number_of(uint32_t ns, uint64_t key)
{
    uint32_t low = 0, high = CACHE_KEYS;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (pool.key[ns][mid] < key)
            low = mid + 1;
        else
            high = mid;
    }
    return low < CACHE_KEYS && pool.key[ns][low] == key ? low : UINT32_MAX;
}

/* ---- making ---- */

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "evict_cache: %s\n", what);
    abort();
}

static void take_hold(struct cache *c)
{
    lrd_journal_init(&c->j, &c->s);
    must(lrd_arena_init(&c->a, &c->s, &c->j) == 0, "lrd_arena_init");
    c->t = (struct lrd_table){.s = &c->s, .a = &c->a, .j = &c->j};
    must(lrd_evict_create(&c->e, &c->s, &c->a, &c->t, &c->j) == 0, "lrd_evict_create");
}

static void make_namespaces(struct cache *c)
{
    static const char *const names[CACHE_NS] = {"default", "b", "c"};
    struct lrd_ns_spec spec[CACHE_NS];
    char why[200];
    memset(spec, 0, sizeof spec);
    for (uint32_t i = 0; i < c->shape.n_ns; i++) {
        strcpy(spec[i].name, names[i]);
        spec[i].policy = c->shape.ns[i].policy;
        spec[i].min_bytes = (uint64_t)c->shape.ns[i].min << c->shape.block_shift;
        spec[i].max_bytes = (uint64_t)c->shape.ns[i].max << c->shape.block_shift;
    }
    must(lrd_ns_configure(&c->s, spec, c->shape.n_ns, why, sizeof why) == LRD_ANSWER_OK, why);
}

static void make_lanes(struct cache *c)
{
    for (uint32_t i = 0; i < CACHE_LANES; i++) {
        c->ring[i] = (struct lrd_ring){.lane = calloc(1, sizeof(struct lrd_lane))};
        if (i + 1 < CACHE_LANES)
            c->ring[i].marks = calloc(1, c->s.r.geometry.mark_bytes);
        c->rings[i] = &c->ring[i];
    }
}

void cache_make(struct cache *c, const struct cache_shape *shape)
{
    if (!pool.made)
        make_pool();
    memset(c, 0, sizeof *c);
    c->shape = *shape;
    struct lrd_geometry g = {.segment_id = 1,
                             .hash_seed = SEED,
                             .n_pairs = shape->n_pairs,
                             .n_blocks = shape->n_blocks,
                             .block_shift = shape->block_shift,
                             .granule_shift = 3,
                             .n_lanes = CACHE_LANES,
                             .n_cells = 1024,
                             .item_max = 1u << (shape->block_shift - 1),
                             .average_item = 100,
                             .n_departures = 1024,
                             .mark_bytes = (shape->n_pairs * 2 + LRD_PAGE - 1) & ~(LRD_PAGE - 1),
                             .n_mark_maps = CACHE_LANES - 1};
    struct lrd_part parts[LRD_N_PARTS];
    lrd_segment_lay(&g, parts, &g.segment_bytes);
    c->bytes = g.reserve_bytes = g.segment_bytes;
    c->base = mmap(NULL, c->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(c->base != MAP_FAILED, "mmap");
    lrd_segment_format(&c->s, c->base, &g, parts);
    make_namespaces(c);
    make_lanes(c);
    take_hold(c);
    c->now_ms = 1000;
    c->now_ns = 1;
}

static void let_go(struct cache *c)
{
    lrd_evict_destroy(c->e);
    lrd_arena_fini(&c->a);
}

void cache_restart(struct cache *c)
{
    let_go(c);
    take_hold(c);
}

void cache_drop(struct cache *c)
{
    let_go(c);
    for (uint32_t i = 0; i < CACHE_LANES; i++) {
        free(c->ring[i].lane);
        free(c->ring[i].marks);
    }
    munmap(c->base, c->bytes);
}

/* ---- records ---- */

uint64_t cache_capacity(const struct cache *c, uint32_t ns, uint64_t largest)
{
    uint64_t blocks = lrd_load_relaxed(&c->s.namespaces[ns].max_blocks), block = UINT64_C(1) << c->shape.block_shift;
    return blocks > 3 ? (blocks - 3) * (block - largest) / 8 * 7 : 0;
}

/* Whether credit would be given at the call; there are no other lanes. */
static bool has_credit(struct cache *c, uint32_t ns, uint32_t bytes)
{
    uint64_t largest = bytes > c->largest[ns] ? bytes : c->largest[ns];
    if (c->shape.ns[ns].policy != LRD_POLICY_REFUSE)
        return true;
    if (c->a.ns[ns].live_bytes + bytes > cache_capacity(c, ns, largest))
        return false;
    c->largest[ns] = largest;
    return true;
}

static uint32_t place(struct cache *c, uint32_t ns, uint32_t key, uint32_t value_len, uint64_t expires_ms)
{
    const struct lrd_item_head head = {lrd_item_word0(value_len, expires_ms), lrd_item_word1(0, ns, CACHE_KEY_LEN, LRD_ITEM_PLAIN)};
    uint64_t hash = cache_hash(ns, key);
    uint32_t chain = lrd_evict_chain(c->e, ns, hash, lrd_table_hint(&c->t, hash), expires_ms, c->now_ms);
    return lrd_arena_alloc(&c->a, ns, chain, head, LRD_FOR_CLIENT);
}

/* What the value of an item must be, whoever copied it: bytes of its key and length. */
static void fill(unsigned char *to, uint32_t ns, uint32_t key, uint32_t value_len)
{
    uint64_t state = (uint64_t)key << 34 | (uint64_t)ns << 32 | value_len | UINT64_C(1) << 63;
    uint32_t i = 0;
    for (; i + 8 <= value_len; i += 8) {
        uint64_t x = cache_random(&state);
        memcpy(to + i, &x, 8);
    }
    for (; i < value_len; i++)
        to[i] = (unsigned char)(i ^ key);
}

static void publish(struct cache *c, uint32_t ns, uint32_t key, uint32_t value_len, uint32_t location)
{
    unsigned char *at = c->s.arena + ((uint64_t)location << 3) + sizeof(struct lrd_item);
    uint32_t bytes = cache_bytes(value_len);
    lrd_evict_appended(c->e, ns, bytes, c->now_ms);
    lrd_add_own(lrd_store_counter(&c->s, ns, LRD_C_appended_bytes), bytes);
    memcpy(at, cache_key(ns, key), CACHE_KEY_LEN);
    fill(at + CACHE_KEY_LEN, ns, key, value_len);
    const struct lrd_new_item item = {.key = at, .key_len = CACHE_KEY_LEN, .ns = ns, .hash = cache_hash(ns, key), .location = location, .bytes = bytes};
    lrd_journal_begin(&c->j);
    uint32_t emptied = lrd_table_put(&c->t, &item, c->now_ms);
    lrd_journal_commit(&c->j);
    if (emptied != LRD_NO_BLOCK)
        lrd_arena_free_if_empty(&c->a, emptied, c->now_ms);
}

static enum cache_result put(struct cache *c, uint32_t ns, uint32_t key, uint32_t value_len, uint64_t expires_ms, bool settle)
{
    if (!has_credit(c, ns, cache_bytes(value_len)))
        return CACHE_FULL;
    uint32_t location = place(c, ns, key, value_len, expires_ms);
    if (location == 0) {
        lrd_evict_stalled(c->e, ns);
        if (settle) {
            cache_settle(c);
            location = place(c, ns, key, value_len, expires_ms);
        }
    }
    if (location == 0)
        return CACHE_STUCK;
    publish(c, ns, key, value_len, location);
    lrd_table_sweep(&c->t, 8);
    return CACHE_DONE;
}

enum cache_result cache_put(struct cache *c, uint32_t ns, uint32_t key, uint32_t value_len, uint64_t expires_ms) { return put(c, ns, key, value_len, expires_ms, true); }
enum cache_result cache_try(struct cache *c, uint32_t ns, uint32_t key, uint32_t value_len, uint64_t expires_ms) { return put(c, ns, key, value_len, expires_ms, false); }

bool cache_delete(struct cache *c, uint32_t ns, uint32_t key)
{
    uint32_t emptied = LRD_NO_BLOCK;
    lrd_journal_begin(&c->j);
    bool there = lrd_table_delete(&c->t, ns, cache_key(ns, key), CACHE_KEY_LEN, cache_hash(ns, key), c->now_ms, &emptied);
    lrd_journal_commit(&c->j);
    if (emptied != LRD_NO_BLOCK)
        lrd_arena_free_if_empty(&c->a, emptied, c->now_ms);
    return there;
}

void cache_reset(struct cache *c, uint32_t ns)
{
    struct lrd_namespace *n = &c->s.namespaces[ns];
    lrd_store32_release(&n->epoch, lrd_load32_relaxed(&n->epoch) + 1);
    c->largest[ns] = 0;
    lrd_evict_reset(c->e, ns);
}

/* ---- making room ---- */

bool cache_step(struct cache *c)
{
    c->steps++;
    return lrd_evict_step(c->e, c->now_ms);
}

void cache_settle(struct cache *c)
{
    uint32_t n = 0;
    while (cache_step(c))
        if (++n == STEPS_WITHOUT_END) {
            fprintf(stderr, "%u free blocks\n", c->a.n_free);
            for (uint32_t i = 0; i < c->shape.n_blocks; i++) {
                const struct lrd_descriptor *d = &c->s.descriptors[i];
                uint64_t live = lrd_load_relaxed(&d->live), owner = lrd_load_relaxed(&d->owner);
                fprintf(stderr, "block %u: state %u, namespace %u, chain %u, used %u, live %u items, %u bytes\n", i, (unsigned)lrd_load_relaxed(&d->state), lrd_owner_ns(owner),
                        lrd_owner_chain(owner), (unsigned)lrd_load_relaxed(&d->used), lrd_live_items(live), lrd_live_bytes(live));
            }
            must(false, "making room does not end");
        }
}

void cache_tick(struct cache *c, uint64_t by_ms)
{
    c->now_ms += by_ms;
    lrd_evict_tick(c->e, c->now_ms);
}

/* ---- reading ---- */

bool cache_has(struct cache *c, uint32_t ns, uint32_t key, struct lrd_place *at)
{
    uint32_t tag = lrd_hash_tag(cache_hash(ns, key)), home = lrd_hash_home(cache_hash(ns, key), c->shape.n_pairs);
    for (uint32_t d = 0; d < 4; d++)
        for (uint32_t i = 0; i < LRD_SLOTS; i++) {
            struct lrd_place p = {lrd_hash_bucket(home, tag, d, c->shape.n_pairs), i};
            uint64_t slot = lrd_load_relaxed(&c->s.buckets[p.bucket].slot[i]);
            if (slot == 0 || lrd_slot_tag(slot) != tag || lrd_slot_displacement(slot) != d)
                continue;
            uint32_t epoch = lrd_load32_relaxed(&c->s.namespaces[ns].epoch);
            if (lrd_slot_dead(slot, lrd_load_relaxed(&c->s.block_words[lrd_arena_block(&c->s.r, slot)]), epoch))
                continue;
            if (memcmp(lrd_item_key(lrd_arena_item(&c->s.r, slot)), cache_key(ns, key), CACHE_KEY_LEN) == 0) {
                if (at != NULL)
                    *at = p;
                return true;
            }
        }
    return false;
}

static uint64_t slot_of(struct cache *c, uint32_t ns, uint32_t key)
{
    struct lrd_place at;
    return cache_has(c, ns, key, &at) ? lrd_load_relaxed(&c->s.buckets[at.bucket].slot[at.idx]) : 0;
}

uint32_t cache_block(struct cache *c, uint32_t ns, uint32_t key)
{
    uint64_t slot = slot_of(c, ns, key);
    return slot == 0 ? LRD_NO_BLOCK : lrd_arena_block(&c->s.r, slot);
}

uint32_t cache_queue(struct cache *c, uint32_t ns, uint32_t key)
{
    uint32_t block = cache_block(c, ns, key);
    return block == LRD_NO_BLOCK ? LRD_N_QUEUES : lrd_owner_chain(lrd_load_relaxed(&c->s.descriptors[block].owner)) / LRD_TTL_CLASSES;
}

bool cache_read(struct cache *c, uint32_t lane, uint32_t ns, uint32_t key)
{
    struct lrd_place at;
    if (!cache_has(c, ns, key, &at))
        return false;
    uint64_t expires_ms = lrd_item_expires_ms(lrd_item_load(lrd_arena_item(&c->s.r, slot_of(c, ns, key))));
    if (expires_ms != 0 && expires_ms <= c->now_ms)
        return false;
    struct lrd_ring *ring = &c->ring[lane];
    unsigned char full;
    if (ring->marks != NULL) {
        struct lrd_marks marks = lrd_marks_make(ring->marks, c->s.r.buckets, &full);
        lrd_marks_set(&marks, &c->s.r.buckets[at.bucket], 2u << at.idx);
    } else {
        uint64_t n = lrd_load_relaxed(&ring->lane->samples);
        lrd_store_relaxed(&ring->lane->sample[n % LRD_SAMPLES], cache_hash(ns, key));
        lrd_store_release(&ring->lane->samples, n + 1);
    }
    return true;
}

void cache_harvest(struct cache *c)
{
    uint64_t rounds = cache_counter(c, 0, LRD_C_harvests);
    while (cache_counter(c, 0, LRD_C_harvests) == rounds) {
        c->now_ns += UINT64_C(20000000000); /* beyond every budget and period */
        must(lrd_evict_harvest(c->e, c->rings, CACHE_LANES, c->now_ns), "no harvest");
    }
}

uint32_t cache_count(const struct cache *c, uint32_t ns, uint32_t key)
{
    struct lrd_place at;
    struct cache *looked_at = (struct cache *)(uintptr_t)c;
    must(cache_has(looked_at, ns, key, &at), "count of what is not there");
    return lrd_table_count(&c->t, at.bucket, at.idx);
}

uint64_t cache_counter(const struct cache *c, uint32_t ns, enum lrd_counter_id id) { return lrd_load_relaxed(&lrd_ns_counters(&c->s.r, ns)[id]); }

/* ---- the walk ---- */

struct sum {
    uint32_t items, bytes, padding;
};

static unsigned bad(const char *what, uint64_t which, uint64_t a, uint64_t b)
{
    fprintf(stderr, "%s: %llu: %llu, should be %llu\n", what, (unsigned long long)which, (unsigned long long)a, (unsigned long long)b);
    return 1;
}

static unsigned walk_slot(struct cache *c, uint64_t slot, struct sum *sums)
{
    uint32_t block = lrd_arena_block(&c->s.r, slot);
    const struct lrd_descriptor *d = &c->s.descriptors[block];
    uint64_t word = lrd_load_relaxed(&c->s.block_words[block]);
    uint32_t ns = lrd_owner_ns(lrd_load_relaxed(&d->owner));
    if (((lrd_block_word_generation(word) ^ lrd_slot_generation(slot)) & LRD_GENERATION_MASK) != 0)
        return 0;
    static unsigned char value[1u << 20];
    const struct lrd_item *item = lrd_arena_item(&c->s.r, slot);
    struct lrd_item_head head = lrd_item_load(item);
    uint32_t value_len = lrd_item_value_len(head), bytes = cache_bytes(value_len), at = (uint32_t)lrd_arena_off(&c->s.r, slot) & ((1u << c->shape.block_shift) - 1);
    uint64_t key;
    memcpy(&key, lrd_item_key(item), sizeof key);
    uint32_t number = number_of(ns, key);
    bool doomed = lrd_block_word_epoch(word) != lrd_load32_relaxed(&c->s.namespaces[ns].epoch);
    if (lrd_item_ns(head) != ns || number == UINT32_MAX)
        return bad("a live slot points to something else", slot, ns, lrd_item_ns(head));
    sums[block].items++;
    sums[block].bytes += bytes;
    sums[block].padding += bytes - (uint32_t)sizeof *item - CACHE_KEY_LEN - value_len;
    if (doomed)
        return 0;
    if (c->seen[ns][number] != 0)
        return bad("a key has two live slots; namespace, key", ns, number, 0);
    c->seen[ns][number] = block + 1;
    fill(value, ns, number, value_len);
    if (memcmp(lrd_item_key(item) + CACHE_KEY_LEN, value, value_len) != 0)
        return bad("an item's value is not what was put; namespace, key", ns, number, 0);
    if (at + bytes > lrd_load_relaxed(&d->used) || lrd_load_relaxed(&d->state) == LRD_BLOCK_FREE)
        return bad("an item lies beyond what is used of its block", block, at + bytes, lrd_load_relaxed(&d->used));
    return 0;
}

static unsigned walk_block(struct cache *c, uint32_t block, const struct sum *sum)
{
    const struct lrd_descriptor *d = &c->s.descriptors[block];
    uint64_t live = lrd_load_relaxed(&d->live), state = lrd_load_relaxed(&d->state), used = lrd_load_relaxed(&d->used), at = block == 0 ? 8 : 0;
    uint32_t ns = lrd_owner_ns(lrd_load_relaxed(&d->owner));
    bool doomed = lrd_block_word_epoch(lrd_load_relaxed(&c->s.block_words[block])) != lrd_load32_relaxed(&c->s.namespaces[ns].epoch);
    unsigned n = 0;
    /* Dead slots of a doomed block are reused before it is freed: its live word is what it had. */
    if (!doomed && live != lrd_live_make(sum->items, sum->bytes, sum->padding))
        n += bad("live items of a block", block, lrd_live_items(live), sum->items);
    while (state != LRD_BLOCK_FREE && at < used)
        at += cache_bytes(lrd_item_value_len(lrd_item_load((const struct lrd_item *)(const void *)(c->s.arena + ((uint64_t)block << c->shape.block_shift) + at))));
    if (state != LRD_BLOCK_FREE && at != used) /* live + dead + free is the block */
        n += bad("a block cannot be walked to its end", block, at, used);
    if (state == LRD_BLOCK_FREE && (live != 0 || used != 0))
        n += bad("a free block has something", block, live, used);
    return n;
}

static unsigned walk_lists(struct cache *c)
{
    uint32_t n_free = 0, n_doomed = 0, blocks[LRD_NAMESPACES] = {0};
    unsigned n = 0;
    for (uint32_t i = 0; i < c->shape.n_blocks; i++) {
        const struct lrd_descriptor *d = &c->s.descriptors[i];
        uint32_t ns = lrd_owner_ns(lrd_load_relaxed(&d->owner));
        if (lrd_load_relaxed(&d->state) == LRD_BLOCK_FREE) {
            n_free++;
            continue;
        }
        blocks[ns]++;
        n_doomed += lrd_block_word_epoch(lrd_load_relaxed(&c->s.block_words[i])) != lrd_load32_relaxed(&c->s.namespaces[ns].epoch);
    }
    if (n_free != c->a.n_free)
        n += bad("free blocks", 0, c->a.n_free, n_free);
    if (n_doomed != c->a.n_doomed)
        n += bad("doomed blocks", 0, c->a.n_doomed, n_doomed);
    for (uint32_t ns = 0; ns < LRD_NAMESPACES; ns++) {
        if (blocks[ns] != c->a.ns[ns].n_blocks)
            n += bad("blocks of a namespace", ns, c->a.ns[ns].n_blocks, blocks[ns]);
        if (ns < c->shape.n_ns && blocks[ns] > lrd_load_relaxed(&c->s.namespaces[ns].max_blocks))
            n += bad("blocks of a namespace, at most", ns, blocks[ns], lrd_load_relaxed(&c->s.namespaces[ns].max_blocks));
    }
    return n;
}

static unsigned walk_namespace(struct cache *c, uint32_t ns)
{
    uint64_t all = 0, items = 0, bytes = 0;
    unsigned n = 0;
    for (uint32_t i = 0; i < c->shape.n_blocks; i++) {
        uint64_t live = lrd_load_relaxed(&c->s.descriptors[i].live);
        bool doomed = lrd_block_word_epoch(lrd_load_relaxed(&c->s.block_words[i])) != lrd_load32_relaxed(&c->s.namespaces[ns].epoch);
        if (lrd_load_relaxed(&c->s.descriptors[i].state) == LRD_BLOCK_FREE || lrd_owner_ns(lrd_load_relaxed(&c->s.descriptors[i].owner)) != ns)
            continue;
        all += lrd_live_items(live);
        items += doomed ? 0 : lrd_live_items(live);
        bytes += doomed ? 0 : lrd_live_bytes(live);
    }
    if (items != c->a.ns[ns].live_items || bytes != c->a.ns[ns].live_bytes)
        n += bad("live bytes of a namespace", ns, c->a.ns[ns].live_bytes, bytes);
    uint64_t left = cache_counter(c, ns, LRD_C_sets) - cache_counter(c, ns, LRD_C_overwrites) - cache_counter(c, ns, LRD_C_deletes) - cache_counter(c, ns, LRD_C_evicted) -
                    cache_counter(c, ns, LRD_C_expired) - cache_counter(c, ns, LRD_C_reset_items) - cache_counter(c, ns, LRD_C_no_room);
    if (left != all)
        n += bad("what counters of a namespace leave", ns, left, all);
    return n;
}

unsigned cache_walk(struct cache *c)
{
    static struct sum sums[1024];
    unsigned n = 0;
    memset(c->seen, 0, sizeof c->seen);
    memset(sums, 0, c->shape.n_blocks * sizeof *sums);
    for (uint32_t b = 0; b < c->shape.n_pairs * 2; b++)
        for (uint32_t i = 0; i < LRD_SLOTS; i++) {
            uint64_t slot = lrd_load_relaxed(&c->s.buckets[b].slot[i]);
            if (slot != 0)
                n += walk_slot(c, slot, sums);
        }
    for (uint32_t i = 0; i < c->shape.n_blocks; i++)
        n += walk_block(c, i, &sums[i]);
    n += walk_lists(c);
    for (uint32_t ns = 0; ns < c->shape.n_ns; ns++)
        n += walk_namespace(c, ns);
    return n;
}
