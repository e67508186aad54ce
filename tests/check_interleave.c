/* A get that is interrupted at each of its loads, by a writer that gets on by any number of stores: every order in which the two can meet, as far as two interruptions
 * go. What two processors hardly ever do, one does here all the time; the orders that only weak memory shows are the model's.
 *
 *   the writer makes a change of a crowded table, its stores are noted and taken back
 *   for each key that the change concerns, each load i, each store m, each later load j: the get runs to i, m stores are made, it runs to j, the rest is made, it ends
 *   a key that was there before the change and after it must be found, with one of the two values; a key that was not there neither before nor after must not */
#include "shm/atomic.h"

static void interrupt(void);

static inline uint64_t hooked_load(const lrd_u64 *w)
{
    interrupt();
    return lrd_load_acquire(w);
}

static inline uint32_t hooked_load32(const lrd_u32 *w)
{
    interrupt();
    return lrd_load32_acquire(w);
}

/* The reading half with a hook before every load, and without the instructions that load several words at once. */
#ifndef LRD_TSAN
#define LRD_TSAN 1
#endif
#define lrd_load_acquire(w) hooked_load(w)
#define lrd_load_relaxed(w) hooked_load(w)
#define lrd_load32_acquire(w) hooked_load32(w)
#define lrd_load32_relaxed(w) hooked_load32(w)
#include "shm/table.h"
#include "tests/noted.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In loops: Check's own macros write to a file each time. */
#define expect(x) ((x) ? (void)0 : ck_abort_msg("%s", #x))

#define KEYS 200u

/* ---- interrupting a get ---- */

static bool reading;
static unsigned n_loads;            /* of this get so far */
static unsigned at_load[2], up_to[2]; /* when which stores were made */
static unsigned made;
static bool at_once;                /* all stores together */

static void interrupt(void)
{
    if (!reading)
        return;
    reading = false;
    for (unsigned i = 0; i < 2; i++)
        if (n_loads == at_load[i] && made < up_to[i]) {
            make_again(made, up_to[i]);
            made = up_to[i];
        }
    n_loads++;
    reading = true;
}

static const struct lrd_reader *reader;
static unsigned char *got;

/* The seed of the value that is found; 0: none. */
static uint32_t seed_found(uint32_t id)
{
    struct lrd_get get = {
        .key = &id,
        .key_len = sizeof id,
        .hash = lrd_hash(reader->hash_seed, 0, &id, sizeof id),
        .buffer = got,
        .capacity = 4096,
        .zero_ns = reader->geometry.created_ns,
    };
    n_loads = 0;
    reading = true;
    enum lrd_outcome o = lrd_table_get(reader, &get);
    reading = false;
    if (o != LRD_FOUND)
        return 0;
    unsigned char want[256];
    uint32_t seed = lrd_item_flags(get.head), len = lrd_item_value_len(get.head);
    expect(len == seed % 200);
    fixture_bytes(want, len, seed);
    expect(memcmp(got, want, len) == 0);
    return seed;
}

static uint64_t gets, interrupted_moves, n_copied;

/* Everything noted is a change that was taken back. */
static void meet(uint32_t id, uint32_t before, uint32_t after)
{
    unsigned n = n_notes;
    at_load[0] = at_load[1] = UINT32_MAX;
    made = 0;
    (void)seed_found(id);
    unsigned most = n_loads + 1;
    for (unsigned i = 0; i < most; i++)
        for (unsigned m = at_once ? n : 1; m <= n; m++) {
            for (unsigned j = i + 1; j <= most + 4; j++) {
                at_load[0] = i;
                at_load[1] = j;
                up_to[0] = m;
                up_to[1] = n;
                made = 0;
                uint32_t seed = seed_found(id);
                make_again(made, n);
                take_back(0, n);
                gets++;
                if (before != 0 && after != 0 && seed == 0)
                    ck_abort_msg("key %u is there all the time and is not found: %u of %u stores at load %u, the rest at %u", id, m, n, i, j);
                if (seed != 0 && seed != before && seed != after)
                    ck_abort_msg("key %u has a value that it never had", id);
                if (m == n)
                    break; /* nothing is left for a second time */
            }
        }
}

/* ---- changes ---- */

static uint64_t state = 1;
static unsigned resets; /* of 1024 puts: after a reset */
static unsigned frees;  /* of 64 puts: with the old item's block */
static uint32_t before_seed[KEYS];

static void look_before(void)
{
    at_load[0] = at_load[1] = UINT32_MAX;
    for (uint32_t id = 0; id < KEYS; id++)
        before_seed[id] = seed_found(id);
    n_notes = 0;
    noting = true;
}

/* Whether one of the slots that were stored is, or was, of that key: tag and home tell. */
static bool concerns(const struct fixture *f, uint32_t id)
{
    uint64_t hash = lrd_hash(reader->hash_seed, 0, &id, sizeof id);
    for (unsigned i = 0; i < n_notes; i++) {
        const struct lrd_bucket *table = f->store.buckets;
        const unsigned char *at = (const unsigned char *)(const void *)notes[i].w, *first = (const unsigned char *)(const void *)table;
        if (notes[i].w == NULL || at < first || at >= first + (size_t)reader->n_pairs * 2 * sizeof *table || (at - first) % LRD_LINE == 0)
            continue;
        const uint64_t slots[] = {notes[i].before, notes[i].after};
        for (unsigned k = 0; k < 2; k++)
            if (slots[k] != 0 && lrd_slot_tag(slots[k]) == lrd_hash_tag(hash))
                return true;
    }
    return false;
}

static void meet_all(const struct fixture *f)
{
    noting = false;
    unsigned n = n_notes;
    uint32_t after_seed[KEYS];
    at_load[0] = at_load[1] = UINT32_MAX;
    for (uint32_t id = 0; id < KEYS; id++)
        after_seed[id] = seed_found(id);
    take_back(0, n);
    for (uint32_t id = 0; id < KEYS; id++)
        if (concerns(f, id) || before_seed[id] != after_seed[id])
            meet(id, before_seed[id], after_seed[id]);
    make_again(0, n);
    n_notes = 0;
}

static uint32_t block_of(const struct fixture *f, uint32_t id)
{
    struct lrd_get get;
    return fixture_get(&f->reader, 0, &id, sizeof id, NULL, 0, &get) == LRD_ABSENT ? LRD_NO_BLOCK : lrd_arena_block(reader, get.slot);
}

static void reset(struct fixture *f)
{
    lrd_u32 *epoch = &f->store.namespaces[0].epoch;
    noted_store32(epoch, lrd_load32_relaxed(epoch) + 1);
    lrd_arena_doom(&f->arena, 0);
}

/* A key that was there before a reset and is put again right after it. The bytes of the new item are there before the change: nothing of them is noted. */
static void reset_and_put(struct fixture *f, const struct fixture_item *item)
{
    reset(f);
    struct lrd_new_item staged;
    fixture_fill(f, item, fixture_alloc(f, item), &staged);
    fixture_publish(f, &staged);
}

/* The slot changes where it is, to a copy in another block; then the old block goes, if it may. */
static void copy_forward(struct fixture *f, uint32_t id)
{
    uint32_t old = block_of(f, id);
    look_before();
    bool done = fixture_move(f, 0, &id, sizeof id, 0);
    if (done && fixture_random(&state) % 8 == 0 && lrd_arena_may_free(&f->arena, old))
        lrd_arena_free_block(&f->arena, old, LRD_CAUSE_EVICTED, fixture_now_ms(reader), 0, 0);
    n_copied += done;
    meet_all(f);
}

static void change(struct fixture *f)
{
    static unsigned char value[256];
    uint64_t x = fixture_random(&state);
    uint32_t id = (uint32_t)(x % KEYS), seed = (uint32_t)(x >> 32) | 1;
    for (unsigned i = 0; (x >> 60 & 1) != 0 && i < KEYS && block_of(f, id) == LRD_NO_BLOCK; i++)
        id = (id + 1) % KEYS; /* one that is there */
    if ((x >> 20) % 8 == 0) {
        look_before();
        fixture_delete(f, 0, &id, sizeof id);
        meet_all(f);
        return;
    }
    if (resets > 0 && (x >> 23) % 1024 < 3) {
        look_before();
        reset(f);
        meet_all(f);
        return;
    }
    if ((x >> 50) % 16 == 0) {
        copy_forward(f, id);
        return;
    }
    fixture_bytes(value, seed % 200, seed);
    struct fixture_item item = {.key = &id, .key_len = sizeof id, .value = value, .value_len = seed % 200, .flags = seed};
    if ((x >> 23) % 1024 < 3 + resets && resets > 0) {
        look_before();
        reset_and_put(f, &item);
        at_once = true; /* between the two it is away */
        meet_all(f);
        at_once = false;
        return;
    }
    struct fixture_item waste = {.key_len = 4, .value_len = 9000};
    look_before(); /* a block may be freed, and another opened */
    if ((x >> 12) % 4 == 0)
        (void)fixture_alloc(f, &waste);
    uint32_t location = fixture_alloc(f, &item);
    meet_all(f);
    struct lrd_new_item staged;
    fixture_fill(f, &item, location, &staged);
    uint64_t moved = fixture_counter(reader, LRD_C_relocated);
    uint32_t old = block_of(f, id);
    look_before();
    uint32_t emptied = fixture_publish(f, &staged);
    if (emptied != LRD_NO_BLOCK)
        lrd_arena_free_if_empty(&f->arena, emptied, fixture_now_ms(reader));
    /* The old item's block goes at once: a get that holds the old slot finds it dead, and must look again. */
    if ((x >> 40) % 64 < frees && old != LRD_NO_BLOCK && lrd_arena_may_free(&f->arena, old))
        lrd_arena_free_block(&f->arena, old, LRD_CAUSE_EVICTED, fixture_now_ms(reader), 0, 0);
    interrupted_moves += fixture_counter(reader, LRD_C_relocated) - moved;
    meet_all(f);
    look_before();
    lrd_table_sweep(&f->table, 2);
    meet_all(f);
}

static void run(uint32_t n_pairs, unsigned changes)
{
    struct fixture f;
    got = malloc(4096);
    fixture_make(&f, n_pairs, 8, 16);
    reader = &f.reader;
    for (unsigned i = 0; i < changes * (fixture_long() ? 30 : 1); i++)
        change(&f);
    printf("%u pairs: %" PRIu64 " gets interrupted, %" PRIu64 " moves and %" PRIu64 " copies among the changes\n", n_pairs, gets, interrupted_moves, n_copied);
    ck_assert_uint_gt(n_copied, 10);
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
    fixture_drop(&f);
    free(got);
}

START_TEST(test_items_that_move)
{
    static const uint32_t pairs[] = {2, 5, 6};
    run(pairs[_i], 900);
    ck_assert_uint_gt(interrupted_moves, 0);
}
END_TEST

START_TEST(test_items_that_die_and_come_again)
{
    resets = _i == 0 ? 0 : 30;
    frees = _i == 0 ? 6 : 0;
    run(_i == 0 ? 7 : 4, 800);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("interleave");
    TCase *t = tcase_create("interleave");
    tcase_set_timeout(t, 0);
    tcase_add_loop_test(t, test_items_that_move, 0, 3);
    tcase_add_loop_test(t, test_items_that_die_and_come_again, 0, 2);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
