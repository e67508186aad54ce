/* The arena: room for items; blocks that belong to namespaces, stand in chains, come and go. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/segment_fixture.h"

/* In loops: Check's own macros write to a file each time. */
#define expect(x) ((x) ? (void)0 : ck_abort_msg("%s", #x))

#define BLOCKS 12u
#define BLOCK (1u << 16)
#define HALF (BLOCK / 2)

static struct fixture f;

static void setup(void) { fixture_make(&f, 101, BLOCKS, 16); }
static void teardown(void) { fixture_drop(&f); }

static uint64_t offset_of(uint32_t location) { return (uint64_t)location << f.store.r.granule_shift; }
static uint32_t block_of(uint32_t location) { return (uint32_t)(offset_of(location) >> 16); }
/* Of so many bytes, header included. */
static struct fixture_item of_bytes(uint32_t ns, uint32_t bytes) { return (struct fixture_item){.ns = ns, .key = "key", .key_len = 3, .value_len = bytes - 19}; }
static uint32_t alloc_in(uint32_t ns, uint32_t bytes, uint32_t chain)
{
    struct fixture_item item = of_bytes(ns, bytes);
    uint32_t location = fixture_alloc_in(&f, &item, chain);
    expect(location != 0);
    return location;
}
static uint32_t alloc(uint32_t ns, uint32_t bytes) { return alloc_in(ns, bytes, 0); }
/* Without making room. */
static uint32_t try_alloc(uint32_t ns, uint32_t bytes, uint32_t chain, enum lrd_asker asker)
{
    struct fixture_item item = of_bytes(ns, bytes);
    return lrd_arena_alloc(&f.arena, ns, chain, fixture_head(&item), asker);
}
static void free_block(uint32_t block) { lrd_arena_free_block(&f.arena, block, LRD_CAUSE_EVICTED, 1, 0, 0); }
static uint64_t state_of(uint32_t block) { return lrd_load_relaxed(&f.store.descriptors[block].state); }
static uint32_t generation_of(uint32_t block) { return lrd_block_word_generation(lrd_load_relaxed(&f.store.block_words[block])); }
static unsigned count_free(void)
{
    unsigned n = 0;
    for (uint32_t b = 0; b < BLOCKS; b++)
        n += state_of(b) == LRD_BLOCK_FREE;
    return n;
}

/* An item so that its block does not empty at once. */
static uint32_t put_in(uint32_t ns, uint32_t id, uint32_t bytes, uint32_t chain)
{
    static unsigned char value[HALF];
    struct fixture_item item = {.ns = ns, .key = &id, .key_len = sizeof id, .value = value, .value_len = bytes - 24};
    fixture_put_in(&f, &item, chain);
    struct lrd_get get;
    expect(fixture_get(&f.reader, ns, &id, sizeof id, NULL, 0, &get) != LRD_ABSENT);
    return lrd_slot_location(get.slot);
}
static uint32_t put(uint32_t id, uint32_t bytes) { return put_in(0, id, bytes, 0); }

/* ---- room ---- */

START_TEST(test_no_two_items_overlap)
{
    uint64_t state = 3, end = 0;
    uint32_t block = UINT32_MAX;
    for (unsigned i = 0; i < 50000; i++) {
        uint32_t bytes = 24 + (uint32_t)(fixture_random(&state) % (i % 100 == 0 ? HALF / 8 - 2 : 60)) * 8;
        uint32_t location = alloc(0, bytes);
        uint64_t off = offset_of(location);
        expect(off + bytes <= (uint64_t)(block_of(location) + 1) << 16);
        if (block_of(location) == block)
            expect(off == end);
        else
            expect(off == (uint64_t)block_of(location) << 16 || off == 8); /* granule 0 is never used */
        block = block_of(location);
        end = off + bytes;
        expect(lrd_load_relaxed(&f.store.descriptors[block].used) == end - ((uint64_t)block << 16));
        expect(lrd_arena_room(&f.store.r, off) >= bytes);
    }
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
}
END_TEST

START_TEST(test_the_largest_item)
{
    for (unsigned i = 0; i < 100; i++) {
        uint32_t location = put(i, HALF);
        expect((offset_of(location) & (BLOCK - 1)) + HALF <= BLOCK);
    }
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
}
END_TEST

static uint32_t alloc_until(uint64_t expires_ms)
{
    struct fixture_item item = of_bytes(0, 64);
    item.expires_ms = expires_ms;
    return fixture_alloc(&f, &item);
}

START_TEST(test_expiry_of_a_block)
{
    uint32_t block = block_of(alloc_until(5000));
    lrd_u64 *latest = &f.store.descriptors[block].latest_expiry;
    ck_assert_uint_eq(lrd_load_relaxed(latest), 5000);
    alloc_until(4000);
    ck_assert_uint_eq(lrd_load_relaxed(latest), 5000);
    alloc_until(LRD_EXPIRES_MAX);
    ck_assert_uint_eq(lrd_load_relaxed(latest), LRD_EXPIRES_MAX);
    alloc_until(0);
    ck_assert_uint_eq(lrd_load_relaxed(latest), LRD_EXPIRES_MAX + 1);
}
END_TEST

/* ---- whose block it is ---- */

START_TEST(test_a_block_is_of_one_namespace_and_epoch)
{
    uint32_t a = block_of(alloc(0, 64));
    ck_assert_uint_eq(block_of(alloc(0, 64)), a);
    uint32_t b = block_of(alloc(1, 64));
    ck_assert_uint_ne(a, b);
    ck_assert_uint_eq(lrd_owner_ns(lrd_load_relaxed(&f.store.descriptors[b].owner)), 1);
    fixture_reset(&f, 1);
    uint32_t c = block_of(alloc(1, 64));
    ck_assert_uint_ne(b, c);
    ck_assert_uint_eq(lrd_block_word_epoch(lrd_load_relaxed(&f.store.block_words[c])), 2);
    fixture_reset(&f, 0);
    ck_assert_uint_eq(block_of(alloc(1, 64)), c);
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
}
END_TEST

/* ---- order ---- */

/* The oldest block goes first, and a freed block is used again after all that were freed before it. */
START_TEST(test_first_in_first_out)
{
    uint32_t order[4 * BLOCKS], n = 0, id = 0;
    while (n < 4 * BLOCKS) {
        uint32_t block = block_of(put(id++, HALF - 8));
        if (n == 0 || order[n - 1] != block)
            order[n++] = block;
    }
    for (uint32_t i = BLOCKS; i < n; i++)
        ck_assert_uint_eq(order[i], order[i - BLOCKS]);
    for (uint32_t i = 1; i < n; i++)
        ck_assert_uint_eq(order[i], (order[i - 1] + 1) % BLOCKS);
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
}
END_TEST

/* The last free block is for what is copied forward. */
START_TEST(test_spare_blocks)
{
    while (try_alloc(0, HALF, 0, LRD_FOR_CLIENT) != 0) {
    }
    ck_assert_uint_eq(count_free(), LRD_SPARE_BLOCKS - 1);
    ck_assert_uint_eq(try_alloc(0, HALF, 4, LRD_FOR_CLIENT), 0);
    ck_assert_uint_eq(try_alloc(1, 64, 0, LRD_FOR_CLIENT), 0); /* nobody's clients */
    uint64_t freed = fixture_counter(&f.reader, LRD_C_blocks_freed), opened = fixture_counter(&f.reader, LRD_C_blocks_opened);
    ck_assert_uint_ne(try_alloc(0, HALF, 4, LRD_FOR_COPY), 0);
    ck_assert_uint_ne(try_alloc(0, HALF, 4, LRD_FOR_COPY), 0);
    ck_assert_uint_eq(count_free(), 0);
    ck_assert_uint_eq(try_alloc(0, HALF, 4, LRD_FOR_COPY), 0);
    ck_assert_uint_eq(fixture_counter(&f.reader, LRD_C_blocks_freed), freed); /* nothing is freed by who wants room */
    ck_assert_uint_eq(fixture_counter(&f.reader, LRD_C_blocks_opened), opened + 1);
    free_block(lrd_arena_first(&f.arena, 0, 0));
    ck_assert_uint_eq(try_alloc(0, HALF, 0, LRD_FOR_CLIENT), 0);
    free_block(lrd_arena_first(&f.arena, 0, 0));
    ck_assert_uint_ne(try_alloc(0, HALF, 0, LRD_FOR_CLIENT), 0);
    for (uint32_t id = 1000; id < 2000; id++) {
        put(id, HALF - 8);
        expect(count_free() >= 1 && count_free() == f.arena.n_free);
    }
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
}
END_TEST

/* ---- quotas ---- */

START_TEST(test_a_namespace_at_its_maximum)
{
    lrd_store_relaxed(&f.store.namespaces[1].max_blocks, 4);
    ck_assert_uint_eq(lrd_arena_room_for(&f.arena, 1), 4);
    while (try_alloc(1, HALF, 0, LRD_FOR_CLIENT) != 0) {
    }
    ck_assert_uint_eq(f.arena.ns[1].n_blocks, 3);
    ck_assert_uint_eq(lrd_arena_room_for(&f.arena, 1), 1);
    ck_assert_uint_ne(try_alloc(1, HALF, 4, LRD_FOR_COPY), 0);
    ck_assert_uint_ne(try_alloc(1, HALF, 4, LRD_FOR_COPY), 0);
    ck_assert_uint_eq(lrd_arena_room_for(&f.arena, 1), 0);
    ck_assert_uint_eq(try_alloc(1, HALF, 4, LRD_FOR_COPY), 0);
    ck_assert_uint_eq(f.arena.ns[1].n_blocks, 4);
    ck_assert_uint_eq(count_free(), BLOCKS - 4);
    /* Others are not hindered; what is doomed counts until it is freed. */
    ck_assert_uint_ne(try_alloc(0, HALF, 0, LRD_FOR_CLIENT), 0);
    ck_assert_uint_eq(lrd_arena_room_for(&f.arena, 0), BLOCKS - 5);
    fixture_reset(&f, 1);
    ck_assert_uint_eq(try_alloc(1, HALF, 0, LRD_FOR_COPY), 0);
    ck_assert(lrd_arena_free_doomed(&f.arena, 1));
    ck_assert_uint_eq(try_alloc(1, HALF, 0, LRD_FOR_CLIENT), 0);
    ck_assert_uint_ne(try_alloc(1, HALF, 0, LRD_FOR_COPY), 0);
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
    /* A maximum below what it has, as after a change of the configuration. */
    lrd_store_relaxed(&f.store.namespaces[1].max_blocks, 2);
    ck_assert_uint_eq(lrd_arena_room_for(&f.arena, 1), 0);
    ck_assert_uint_eq(try_alloc(1, HALF, 5, LRD_FOR_COPY), 0);
}
END_TEST

START_TEST(test_above_the_minimum)
{
    lrd_store_relaxed(&f.store.namespaces[1].min_blocks, 2);
    ck_assert_uint_eq(lrd_arena_above_min(&f.arena, 1), 0);
    for (unsigned i = 0; i < 8; i++) {
        alloc(1, HALF - 8);
        ck_assert_uint_eq(lrd_arena_above_min(&f.arena, 1), i / 2 < 2 ? 0 : i / 2 - 1); /* i / 2 + 1 blocks */
    }
    ck_assert_uint_eq(lrd_arena_above_min(&f.arena, 0), 0);
}
END_TEST

/* ---- chains ---- */

START_TEST(test_chains_fill_blocks_of_their_own)
{
    uint32_t block[LRD_CHAINS], id = 0;
    for (uint32_t chain = 0; chain < LRD_CHAINS; chain++) {
        block[chain] = block_of(put_in(0, id++, 64, chain));
        for (uint32_t c = 0; c < chain; c++)
            expect(block[c] != block[chain]);
        expect((uint32_t)lrd_load_relaxed(&f.store.descriptors[block[chain]].owner) == lrd_owner_make(0, chain, 0));
    }
    ck_assert_uint_eq(f.arena.ns[0].n_queue[LRD_QUEUE_SMALL], LRD_TTL_CLASSES);
    ck_assert_uint_eq(f.arena.ns[0].n_queue[LRD_QUEUE_MAIN], LRD_TTL_CLASSES);
    for (uint32_t chain = LRD_CHAINS; chain-- > 0;)
        expect(block_of(put_in(0, id++, 64, chain)) == block[chain]);
    /* Closed, they stand in their chains, oldest first. */
    for (uint32_t i = 0; i < 3; i++) {
        put_in(0, id++, HALF, 3);
        put_in(0, id++, HALF - 64, 3);
    }
    uint32_t first = lrd_arena_first(&f.arena, 0, 3);
    ck_assert_uint_eq(first, block[3]);
    uint32_t second = lrd_arena_after(&f.arena, 0, 3, first);
    ck_assert_uint_ne(second, LRD_NO_BLOCK);
    lrd_arena_close(&f.arena, 0, 5);
    ck_assert_uint_eq(lrd_arena_first(&f.arena, 0, 5), block[5]);
    ck_assert_uint_eq(lrd_arena_after(&f.arena, 0, 5, block[5]), LRD_NO_BLOCK);
    lrd_arena_close(&f.arena, 0, 5); /* nothing is open there */
    ck_assert_uint_eq(lrd_arena_first(&f.arena, 0, 4), LRD_NO_BLOCK);
    free_block(first);
    ck_assert_uint_eq(lrd_arena_first(&f.arena, 0, 3), second);
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
}
END_TEST

START_TEST(test_an_empty_block_is_freed)
{
    uint32_t a = put(1, HALF - 8), b = put(2, HALF - 8);
    ck_assert_uint_eq(block_of(a), block_of(b));
    uint32_t generation = generation_of(block_of(a)), one = 1, two = 2;
    fixture_delete(&f, 0, &one, 4);
    fixture_delete(&f, 0, &two, 4);
    ck_assert_uint_eq(state_of(block_of(a)), LRD_BLOCK_OPEN); /* still being filled */
    put(3, HALF - 8);
    ck_assert_uint_eq(state_of(block_of(a)), LRD_BLOCK_FULL);
    lrd_arena_free_if_empty(&f.arena, block_of(a), 1);
    ck_assert_uint_eq(state_of(block_of(a)), LRD_BLOCK_FREE);
    ck_assert_uint_eq(generation_of(block_of(a)), generation + 1);
    uint32_t c = put(4, 64), d = put(5, HALF - 8), three = 3, four = 4;
    ck_assert_uint_ne(block_of(c), block_of(d));
    fixture_delete(&f, 0, &three, 4);
    ck_assert_uint_eq(state_of(block_of(c)), LRD_BLOCK_FULL);
    fixture_delete(&f, 0, &four, 4);
    ck_assert_uint_eq(state_of(block_of(c)), LRD_BLOCK_FREE);
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
}
END_TEST

/* ---- what must not be freed ---- */

START_TEST(test_held_blocks_stay)
{
    for (unsigned hold = LRD_HOLD_RECORD; hold <= LRD_HOLD_COPY; hold++) {
        uint32_t first = 1 + hold * 1000, held = block_of(put(first, HALF - 8)), generation = generation_of(held);
        f.arena.held[hold] = held;
        ck_assert(!lrd_arena_may_free(&f.arena, held)); /* it is open */
        for (uint32_t id = first + 10; id < first + 100; id++) {
            put(id, HALF - 8);
            expect(state_of(held) != LRD_BLOCK_FREE);
        }
        ck_assert_uint_eq(generation_of(held), generation);
        fixture_delete(&f, 0, &first, 4);
        fixture_delete(&f, 0, (uint32_t[]){first + 10}, 4);
        ck_assert_uint_eq(lrd_load_relaxed(&f.store.descriptors[held].live), 0);
        ck_assert_uint_eq(state_of(held), LRD_BLOCK_FULL); /* empty, and not freed */
        ck_assert(!lrd_arena_may_free(&f.arena, held));
        /* A reset does not free it either, but all others. */
        fixture_reset(&f, 0);
        while (lrd_arena_free_doomed(&f.arena, 1)) {
        }
        ck_assert_uint_eq(state_of(held), LRD_BLOCK_FULL);
        ck_assert_uint_eq(f.arena.n_doomed, 1);
        ck_assert_uint_eq(count_free(), BLOCKS - 1);
        ck_assert_uint_eq(fixture_recount_all(&f), 0);
        f.arena.held[hold] = LRD_NO_BLOCK;
        ck_assert(lrd_arena_free_doomed(&f.arena, 1));
        ck_assert_uint_eq(generation_of(held), generation + 1);
    }
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
}
END_TEST

/* What was allocated and has no slot yet lies in an open block, or in one that became full meanwhile and has nothing alive: nobody frees that but by asking for it. */
START_TEST(test_empty_blocks_wait_to_be_asked_about)
{
    uint32_t taken[6], generation[6];
    for (unsigned i = 0; i < 6; i++) {
        taken[i] = block_of(alloc(0, HALF - 8));
        ck_assert_uint_eq(block_of(alloc(0, HALF - 8)), taken[i]);
        generation[i] = generation_of(taken[i]);
    }
    lrd_arena_free_if_empty(&f.arena, taken[5], 1);
    ck_assert_uint_eq(state_of(taken[5]), LRD_BLOCK_OPEN);
    for (unsigned i = 0; i < 5; i++)
        expect(state_of(taken[i]) == LRD_BLOCK_FULL && generation_of(taken[i]) == generation[i]);
    lrd_arena_free_if_empty(&f.arena, taken[2], 77);
    ck_assert_uint_eq(state_of(taken[2]), LRD_BLOCK_FREE);
    uint64_t freed = lrd_load_relaxed(&f.store.descriptors[taken[2]].freed);
    ck_assert_int_eq(lrd_freed_cause(freed), LRD_CAUSE_EMPTY);
    ck_assert_uint_eq(lrd_freed_ms(freed), 77);
    free_block(taken[3]); /* whatever it is freed for, nothing went with it */
    ck_assert_int_eq(lrd_freed_cause(lrd_load_relaxed(&f.store.descriptors[taken[3]].freed)), LRD_CAUSE_EMPTY);
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
}
END_TEST

/* ---- why they go ---- */

static uint64_t counted(uint32_t ns, enum lrd_counter_id id) { return lrd_load_relaxed(&lrd_ns_counters(&f.reader, ns)[id]); }

START_TEST(test_causes)
{
    static const enum lrd_cause causes[] = {LRD_CAUSE_EVICTED, LRD_CAUSE_EXPIRED, LRD_CAUSE_RESET};
    static const enum lrd_counter_id items[] = {LRD_C_evicted, LRD_C_expired, LRD_C_reset_items}, bytes[] = {LRD_C_evicted_bytes, LRD_C_expired_bytes, LRD_C_reset_bytes};
    for (unsigned i = 0; i < 3; i++) {
        uint32_t ns = i % 2, block = block_of(put_in(ns, 10 * i, 100, 0));
        ck_assert_uint_eq(block_of(put_in(ns, 10 * i + 1, 200, 0)), block);
        uint64_t sum = 96 + 200, is_items = counted(ns, items[i]), is_bytes = counted(ns, bytes[i]);
        ck_assert_uint_eq(lrd_live_bytes(lrd_load_relaxed(&f.store.descriptors[block].live)), sum);
        ck_assert_uint_eq(lrd_live_padding(lrd_load_relaxed(&f.store.descriptors[block].live)), 4);
        lrd_arena_close(&f.arena, ns, 0);
        lrd_arena_free_block(&f.arena, block, causes[i], 4000 + i, 0, 0);
        ck_assert_uint_eq(counted(ns, items[i]), is_items + 2);
        ck_assert_uint_eq(counted(ns, bytes[i]), is_bytes + sum);
        ck_assert_uint_eq(lrd_load_relaxed(&f.store.descriptors[block].freed), lrd_freed_make(causes[i], ns, 4000 + i));
        ck_assert_uint_eq(fixture_recount_all(&f), 0);
    }
    /* Some of what is evicted had expired before. */
    uint64_t evicted = counted(2, LRD_C_evicted), expired = counted(2, LRD_C_expired);
    uint32_t block = block_of(put_in(2, 1, 104, 0));
    put_in(2, 2, 200, 0);
    put_in(2, 3, 304, 0);
    lrd_arena_close(&f.arena, 2, 0);
    lrd_arena_free_block(&f.arena, block, LRD_CAUSE_EVICTED, 1, 2, 304);
    ck_assert_uint_eq(counted(2, LRD_C_evicted), evicted + 1);
    ck_assert_uint_eq(counted(2, LRD_C_evicted_bytes), 304);
    ck_assert_uint_eq(counted(2, LRD_C_expired), expired + 2);
    ck_assert_uint_eq(counted(2, LRD_C_expired_bytes), 304);
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
}
END_TEST

/* ---- resets ---- */

START_TEST(test_doom)
{
    uint32_t id = 0;
    for (unsigned i = 0; i < 4; i++)
        put_in(i == 3, id++, HALF, 0);
    uint32_t other = block_of(put_in(1, id++, 64, 4)), open = f.arena.ns[0].open[0];
    uint64_t items = f.arena.ns[0].live_items;
    ck_assert_uint_eq(items, 3);
    fixture_reset(&f, 0);
    ck_assert_uint_eq(f.arena.ns[0].live_items, 0);
    ck_assert_uint_eq(f.arena.ns[0].n_doomed, 2);
    ck_assert_uint_eq(f.arena.n_doomed, 2);
    ck_assert_uint_eq(f.arena.ns[0].open[0], LRD_NO_BLOCK);
    ck_assert_uint_eq(state_of(open), LRD_BLOCK_FULL);
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
    /* Written beside them. */
    uint32_t next = block_of(put(id++, 64)); /* a put frees one of them, too */
    ck_assert_uint_ne(next, open);
    ck_assert_uint_eq(f.arena.n_doomed, 1);
    fixture_reset(&f, 0); /* and again, while one of the epoch before is left */
    ck_assert_uint_eq(f.arena.n_doomed, 2);
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
    ck_assert(lrd_arena_free_doomed(&f.arena, 1));
    ck_assert(lrd_arena_free_doomed(&f.arena, 1));
    ck_assert(!lrd_arena_free_doomed(&f.arena, 1));
    ck_assert_uint_eq(counted(0, LRD_C_reset_items), items + 1);
    ck_assert_uint_eq(state_of(other), LRD_BLOCK_OPEN);
    ck_assert_uint_eq(f.arena.ns[1].live_items, 2);
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
}
END_TEST

START_TEST(test_nothing_is_reused_before_the_sweep)
{
    for (uint32_t b = 0; b < BLOCKS; b++)
        lrd_store_relaxed(&f.store.block_words[b], lrd_block_word_make(1 + (1u << 15) - (b == 5), 1));
    uint32_t location = alloc(0, HALF);
    ck_assert_uint_eq(block_of(location), 5); /* the only one that is less than 2^15 ahead */
    alloc(0, HALF);
    ck_assert_uint_eq(lrd_arena_room_for(&f.arena, 0), BLOCKS - 1); /* there are free ones */
    ck_assert_uint_eq(try_alloc(0, HALF, 0, LRD_FOR_CLIENT), 0);
    ck_assert_uint_eq(try_alloc(0, HALF, 0, LRD_FOR_COPY), 0);
    /* Two sweeps prove what was noted before them; nothing was, so these are only noted. */
    fixture_sweep_all(&f);
    ck_assert_uint_eq(try_alloc(0, HALF, 0, LRD_FOR_CLIENT), 0);
    fixture_sweep_all(&f);
    for (unsigned i = 0; i < 100; i++)
        alloc(0, HALF);
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
}
END_TEST

/* ---- another worker ---- */

START_TEST(test_a_new_worker_goes_on)
{
    /* One and a half times everything, then some in the middle are free: the order is not that of the blocks. */
    uint32_t id = 0;
    while (id < 3 * BLOCKS)
        put(id++, HALF - 8);
    for (uint32_t old = id - 14; old < id - 8; old++)
        fixture_delete(&f, 0, &old, 4);
    ck_assert_uint_gt(f.arena.n_free, 3);
    uint32_t half = put(id++, 64);
    struct fixture before = f;
    uint32_t *next = malloc((BLOCKS + 2) * sizeof *next);
    memcpy(next, f.arena.next, (BLOCKS + 2) * sizeof *next);
    fixture_restart(&f);
    ck_assert_uint_eq(f.arena.n_free, before.arena.n_free);
    ck_assert_mem_eq(f.arena.ns, before.arena.ns, sizeof f.arena.ns);
    for (uint32_t i = 0; i < BLOCKS + 2; i++)
        if (i != f.arena.ns[0].open[0]) /* in no list */
            ck_assert_uint_eq(f.arena.next[i], next[i]);
    uint32_t after = put(id++, 64);
    ck_assert_uint_eq(offset_of(after), offset_of(half) + 64);
    free(next);
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
}
END_TEST

/* Several namespaces and chains, some of them open, some of an epoch that is over; the last worker died before it had noted that. */
START_TEST(test_a_new_worker_takes_it_as_it_is)
{
    uint32_t id = 0;
    for (uint32_t chain = 0; chain < 5; chain += 4)
        for (uint32_t ns = 0; ns < 2; ns++) {
            put_in(ns, id++, HALF, chain);
            put_in(ns, id++, HALF - 8, chain);
        }
    struct lrd_tally before = f.arena.ns[1];
    ck_assert_uint_eq(before.n_blocks, 2);
    uint32_t open = f.arena.ns[0].open[0], open_main = f.arena.ns[0].open[4];
    ck_assert_uint_ne(open_main, LRD_NO_BLOCK);
    lrd_store32_release(&f.store.namespaces[0].epoch, 2);
    fixture_restart(&f);
    ck_assert_uint_eq(f.arena.n_doomed, f.arena.ns[0].n_blocks);
    ck_assert_uint_eq(f.arena.ns[0].n_doomed, f.arena.ns[0].n_blocks);
    ck_assert_uint_eq(f.arena.ns[0].live_items, 0);
    ck_assert_uint_eq(f.arena.ns[0].open[4], LRD_NO_BLOCK);
    ck_assert_uint_eq(state_of(open_main), LRD_BLOCK_FULL);
    ck_assert(open == LRD_NO_BLOCK || state_of(open) == LRD_BLOCK_FULL);
    ck_assert_mem_eq(&f.arena.ns[1], &before, sizeof before);
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
    while (lrd_arena_free_doomed(&f.arena, 1)) {
    }
    ck_assert_uint_eq(f.arena.ns[0].n_blocks, 0);
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
}
END_TEST

/* Two open blocks in a chain: whatever brought that about, one is filled further and the other is full. */
START_TEST(test_two_open_blocks_in_a_chain)
{
    uint32_t first = block_of(put(1, HALF)), second = block_of(put(2, HALF));
    ck_assert_uint_ne(first, second);
    ck_assert_uint_eq(state_of(first), LRD_BLOCK_FULL);
    lrd_store_relaxed(&f.store.descriptors[first].state, LRD_BLOCK_OPEN);
    fixture_restart(&f);
    uint32_t open = f.arena.ns[0].open[0];
    ck_assert(open == first || open == second);
    ck_assert_uint_eq(state_of(open == first ? second : first), LRD_BLOCK_FULL);
    ck_assert_uint_eq(lrd_arena_first(&f.arena, 0, 0), open == first ? second : first);
    ck_assert_uint_eq(f.arena.ns[0].n_blocks, 2);
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
    ck_assert_uint_eq(block_of(put(3, 64)), open);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("arena");
    TCase *t = tcase_create("arena");
    tcase_set_timeout(t, 0);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_no_two_items_overlap);
    tcase_add_test(t, test_the_largest_item);
    tcase_add_test(t, test_expiry_of_a_block);
    tcase_add_test(t, test_a_block_is_of_one_namespace_and_epoch);
    tcase_add_test(t, test_first_in_first_out);
    tcase_add_test(t, test_spare_blocks);
    tcase_add_test(t, test_an_empty_block_is_freed);
    tcase_add_test(t, test_a_namespace_at_its_maximum);
    tcase_add_test(t, test_above_the_minimum);
    tcase_add_test(t, test_chains_fill_blocks_of_their_own);
    tcase_add_test(t, test_held_blocks_stay);
    tcase_add_test(t, test_empty_blocks_wait_to_be_asked_about);
    tcase_add_test(t, test_causes);
    tcase_add_test(t, test_doom);
    tcase_add_test(t, test_nothing_is_reused_before_the_sweep);
    tcase_add_test(t, test_a_new_worker_goes_on);
    tcase_add_test(t, test_a_new_worker_takes_it_as_it_is);
    tcase_add_test(t, test_two_open_blocks_in_a_chain);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
