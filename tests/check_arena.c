/* The arena: room for items, blocks that come and go first in, first out. */
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
static uint32_t alloc(uint32_t ns, uint32_t bytes)
{
    uint32_t location = lrd_arena_alloc(&f.arena, ns, bytes, 0);
    expect(location != 0);
    return location;
}
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
static uint32_t put(uint32_t id, uint32_t bytes)
{
    static unsigned char value[HALF];
    struct fixture_item item = {.key = &id, .key_len = sizeof id, .value = value, .value_len = bytes - 24};
    fixture_put(&f, &item);
    struct lrd_get get;
    ck_assert_int_ne(fixture_get(&f.reader, 0, &id, sizeof id, NULL, 0, &get), LRD_ABSENT);
    return lrd_slot_location(get.slot);
}

/* ---- room ---- */

START_TEST(test_no_two_items_overlap)
{
    uint64_t state = 3, end = 0;
    uint32_t block = UINT32_MAX;
    for (unsigned i = 0; i < 50000; i++) {
        uint32_t bytes = 16 + (uint32_t)(fixture_random(&state) % (i % 100 == 0 ? HALF / 8 - 1 : 60)) * 8;
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
    ck_assert_uint_eq(fixture_recount(&f.reader), 0);
}
END_TEST

START_TEST(test_the_largest_item)
{
    for (unsigned i = 0; i < 100; i++) {
        uint32_t location = put(i, HALF);
        expect((offset_of(location) & (BLOCK - 1)) + HALF <= BLOCK);
    }
    ck_assert_uint_eq(fixture_recount(&f.reader), 0);
}
END_TEST

START_TEST(test_expiry_of_a_block)
{
    uint32_t block = block_of(lrd_arena_alloc(&f.arena, 0, 64, 5000));
    lrd_u64 *latest = &f.store.descriptors[block].latest_expiry;
    ck_assert_uint_eq(lrd_load_relaxed(latest), 5000);
    lrd_arena_alloc(&f.arena, 0, 64, 4000);
    ck_assert_uint_eq(lrd_load_relaxed(latest), 5000);
    lrd_arena_alloc(&f.arena, 0, 64, LRD_EXPIRES_MAX);
    ck_assert_uint_eq(lrd_load_relaxed(latest), LRD_EXPIRES_MAX);
    lrd_arena_alloc(&f.arena, 0, 64, 0);
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
    ck_assert_uint_eq(lrd_load_relaxed(&f.store.descriptors[b].ns), 1);
    fixture_reset(&f, 1);
    uint32_t c = block_of(alloc(1, 64));
    ck_assert_uint_ne(b, c);
    ck_assert_uint_eq(lrd_block_word_epoch(lrd_load_relaxed(&f.store.block_words[c])), 2);
    fixture_reset(&f, 0);
    ck_assert_uint_eq(block_of(alloc(1, 64)), c);
    ck_assert_uint_eq(fixture_recount(&f.reader), 0);
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
    ck_assert_uint_eq(fixture_recount(&f.reader), 0);
}
END_TEST

START_TEST(test_spare_blocks)
{
    for (uint32_t id = 0; f.arena.n_free > 1; id++)
        put(id, HALF - 8);
    ck_assert_uint_eq(count_free(), 1);
    uint64_t freed = fixture_counter(&f.reader, LRD_C_blocks_freed);
    ck_assert(lrd_arena_reclaim(&f.arena));
    ck_assert(!lrd_arena_reclaim(&f.arena));
    ck_assert_uint_eq(fixture_counter(&f.reader, LRD_C_blocks_freed), freed + 1);
    ck_assert_uint_eq(count_free(), f.arena.spare);
    for (uint32_t id = 1000; id < 2000; id++) {
        put(id, HALF - 8);
        expect(count_free() >= 1 && count_free() == f.arena.n_free);
    }
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
    ck_assert_uint_eq(state_of(block_of(a)), LRD_BLOCK_FREE);
    ck_assert_uint_eq(generation_of(block_of(a)), generation + 1);
    uint32_t c = put(4, 64), d = put(5, HALF - 8), three = 3, four = 4;
    ck_assert_uint_ne(block_of(c), block_of(d));
    fixture_delete(&f, 0, &three, 4);
    ck_assert_uint_eq(state_of(block_of(c)), LRD_BLOCK_FULL);
    fixture_delete(&f, 0, &four, 4);
    ck_assert_uint_eq(state_of(block_of(c)), LRD_BLOCK_FREE);
    ck_assert_uint_eq(fixture_recount(&f.reader), 0);
}
END_TEST

/* ---- what must not be freed ---- */

START_TEST(test_held_and_batched_blocks_stay)
{
    uint32_t held = block_of(put(1, HALF - 8));
    f.arena.held = held;
    for (uint32_t id = 10; id < 100; id++) {
        put(id, HALF - 8);
        expect(state_of(held) != LRD_BLOCK_FREE);
    }
    ck_assert_uint_eq(generation_of(held), 1);
    uint32_t one = 1;
    fixture_delete(&f, 0, &one, 4);
    fixture_delete(&f, 0, (uint32_t[]){10}, 4);
    ck_assert_uint_eq(state_of(held), LRD_BLOCK_FULL);
    f.arena.held = LRD_NO_BLOCK;
    put(200, HALF - 8);
    put(201, HALF - 8);
    ck_assert_uint_ne(generation_of(held), 1); /* the oldest by far */

    /* A batch that takes several blocks keeps all of them, and the one that was open when it began, also when they are empty. */
    alloc(0, HALF);
    uint32_t first = block_of(alloc(0, HALF)), first_generation = generation_of(first);
    ck_assert_uint_eq(lrd_load_relaxed(&f.store.descriptors[first].live), 0);
    lrd_arena_batch_begin(&f.arena);
    uint32_t taken[6], generation[6];
    for (unsigned i = 0; i < 6; i++) {
        taken[i] = block_of(alloc(0, HALF));
        generation[i] = generation_of(taken[i]);
    }
    lrd_arena_free_if_empty(&f.arena, first);
    expect(state_of(first) == LRD_BLOCK_FULL && generation_of(first) == first_generation);
    for (unsigned i = 0; i < 6; i++) {
        lrd_arena_free_if_empty(&f.arena, taken[i]);
        expect(state_of(taken[i]) != LRD_BLOCK_FREE && generation_of(taken[i]) == generation[i]);
    }
    lrd_arena_batch_end(&f.arena);
    lrd_arena_free_if_empty(&f.arena, taken[0]);
    ck_assert_uint_eq(state_of(taken[0]), LRD_BLOCK_FREE);
    ck_assert_uint_eq(fixture_recount(&f.reader), 0);
}
END_TEST

START_TEST(test_nothing_is_reused_before_the_sweep)
{
    for (uint32_t b = 0; b < BLOCKS; b++)
        lrd_store_relaxed(&f.store.block_words[b], lrd_block_word_make(1 + (1u << 15) - (b == 5), 1));
    uint32_t location = alloc(0, HALF);
    ck_assert_uint_eq(block_of(location), 5); /* the only one that is less than 2^15 ahead */
    alloc(0, HALF);
    ck_assert_uint_eq(lrd_arena_alloc(&f.arena, 0, HALF, 0), 0);
    ck_assert_uint_eq(lrd_arena_alloc(&f.arena, 0, HALF, 0), 0);
    fixture_sweep_all(&f);
    for (unsigned i = 0; i < 100; i++)
        alloc(0, HALF);
    ck_assert_uint_eq(fixture_recount(&f.reader), 0);
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
    ck_assert_uint_eq(f.arena.open, before.arena.open);
    for (uint32_t i = 0; i < BLOCKS + 2; i++)
        if (i != f.arena.open) /* in no list */
            ck_assert_uint_eq(f.arena.next[i], next[i]);
    uint32_t after = put(id++, 64);
    ck_assert_uint_eq(offset_of(after), offset_of(half) + 64);
    free(next);
    ck_assert_uint_eq(fixture_recount(&f.reader), 0);
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
    tcase_add_test(t, test_held_and_batched_blocks_stay);
    tcase_add_test(t, test_nothing_is_reused_before_the_sweep);
    tcase_add_test(t, test_a_new_worker_goes_on);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
