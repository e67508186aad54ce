/* The table against a plain map: random puts, overwrites, deletes, frees, resets and sweeps, as the writer makes them; everything recounted again and again.
 * And its figures: how often a put finds no room, how many lines a hit takes. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/segment_fixture.h"

/* In loops: Check's own macros write to a file each time. */
#define expect(x) ((x) ? (void)0 : ck_abort_msg("%s", #x))

/* ---- the plain map ---- */

#define VALUE_ROOM 20000u

struct entry {
    bool there;
    bool expired;
    uint32_t seed;   /* of its value */
    uint32_t len;
    uint32_t block;  /* where it lies */
    uint64_t word;   /* that block's word when it was put */
    uint32_t epoch;
};

struct map {
    struct fixture f;
    struct entry *entry;
    uint32_t n_keys;
    uint64_t state;
    bool second;   /* namespace 1 is being written */
    uint64_t lost; /* items that had to go because their neighbourhood was full */
};

/* Keys of 4 to 853 bytes, and one of 1; the second half of them in namespace 1. */
static uint32_t key_of(uint32_t id, unsigned char *key)
{
    uint32_t len = 4 + (id * 7 % 50) + (id % 97 == 0 ? 800 : 0);
    fixture_bytes(key, len, id);
    memcpy(key, &id, sizeof id);
    return id == 0 ? 1 : len;
}

static uint32_t ns_of(const struct map *m, uint32_t id) { return id >= m->n_keys / 2; }

static void map_init(struct map *m, uint32_t n_keys, uint64_t seed)
{
    m->entry = calloc(n_keys, sizeof *m->entry);
    ck_assert_ptr_nonnull(m->entry);
    m->n_keys = n_keys;
    m->state = seed;
}

static void map_fini(struct map *m)
{
    free(m->entry);
    fixture_drop(&m->f);
}

static void map_put(struct map *m, uint32_t id, uint32_t len, bool expired)
{
    static unsigned char value[VALUE_ROOM];
    unsigned char key[1024];
    struct entry *e = &m->entry[id];
    uint32_t seed = (uint32_t)fixture_random(&m->state);
    fixture_bytes(value, len, seed);
    struct fixture_item item = {
        .ns = ns_of(m, id), .key = key, .key_len = key_of(id, key), .value = value, .value_len = len, .flags = seed, .expires_ms = expired ? 1 : 0};
    fixture_put(&m->f, &item);
    struct lrd_get get;
    (void)fixture_get(&m->f.reader, item.ns, key, item.key_len, NULL, 0, &get);
    uint32_t block = lrd_arena_block(&m->f.reader, get.slot);
    *e = (struct entry){true, expired, seed, len, block, lrd_load_relaxed(&m->f.store.block_words[block]),
                        lrd_load32_relaxed(&m->f.store.namespaces[item.ns].epoch)};
}

/* An item whose block was freed, or whose namespace was reset, is gone. */
static bool map_has(const struct map *m, uint32_t id)
{
    const struct entry *e = &m->entry[id];
    return e->there && lrd_load_relaxed(&m->f.store.block_words[e->block]) == e->word &&
           lrd_load32_relaxed(&m->f.store.namespaces[ns_of(m, id)].epoch) == e->epoch;
}

static void map_delete(struct map *m, uint32_t id)
{
    unsigned char key[1024];
    uint32_t len = key_of(id, key);
    uint64_t no_room = fixture_counter(&m->f.reader, LRD_C_no_room);
    bool had = map_has(m, id), was = fixture_delete(&m->f, ns_of(m, id), key, len);
    if (was != had)
        expect(had && no_room > 0); /* it may have been a victim */
    if (had && !was)
        m->lost++;
    m->entry[id].there = false;
}

/* Every key of the map, and nothing else, with its own bytes. */
static void map_compare(struct map *m)
{
    static unsigned char got[VALUE_ROOM], want[VALUE_ROOM];
    unsigned char key[1024];
    for (uint32_t id = 0; id < m->n_keys; id++) {
        struct lrd_get get;
        struct entry *e = &m->entry[id];
        uint32_t key_len = key_of(id, key);
        enum lrd_outcome o = fixture_get(&m->f.reader, ns_of(m, id), key, key_len, got, sizeof got, &get);
        bool has = map_has(m, id);
        expect(has || o == LRD_ABSENT);
        if (!has)
            continue;
        if (o == LRD_ABSENT && get.slot == 0) {
            m->lost++;
            e->there = false;
            continue;
        }
        expect(o == (e->expired ? LRD_ABSENT : LRD_FOUND));
        expect(lrd_item_flags(get.head) == e->seed);
        expect(lrd_item_value_len(get.head) == e->len);
        expect(get.restarts == 0);
        if (e->expired)
            continue;
        fixture_bytes(want, e->len, e->seed);
        expect(memcmp(got, want, e->len) == 0);
        if (e->len > 0) {
            expect(fixture_get(&m->f.reader, ns_of(m, id), key, key_len, got, e->len - 1, &get) == LRD_TOO_SMALL);
            expect(lrd_item_value_len(get.head) == e->len);
        }
    }
    /* Not one item more is missing than had to go. */
    expect(m->lost <= fixture_counter(&m->f.reader, LRD_C_no_room));
    expect(fixture_recount(&m->f.reader) == 0);
}

struct mix {
    uint32_t n_pairs, n_blocks, n_keys, value_max;
    unsigned steps;
    bool sweeps; /* between the puts, as the writer does */
};

static void map_step(struct map *m, const struct mix *mix)
{
    uint64_t dice = fixture_random(&m->state) % 10000, half = mix->n_keys / 2;
    /* One namespace for a while: each change opens a block. */
    if (fixture_random(&m->state) % 500 == 0)
        m->second = !m->second;
    uint32_t id = (uint32_t)(fixture_random(&m->state) % half + (m->second ? half : 0));
    if (dice < 7500) {
        uint32_t len = (uint32_t)(fixture_random(&m->state) % (mix->value_max + 1));
        map_put(m, id, dice == 0 ? VALUE_ROOM - 1 : len, dice % 16 == 0);
    } else if (dice < 9950)
        map_delete(m, id);
    else if (dice < 9952)
        fixture_reset(&m->f, dice & 1);
    else if (dice < 9970)
        fixture_restart(&m->f);
    else if (dice < 9975)
        fixture_sweep_all(&m->f);
    else if (dice < 9980) {
        uint32_t block = (uint32_t)(fixture_random(&m->state) % m->f.reader.n_blocks);
        if (lrd_load_relaxed(&m->f.store.descriptors[block].state) == LRD_BLOCK_FULL)
            lrd_arena_free_block(&m->f.arena, block);
    }
}

static void run_mix(const struct mix *mix, uint64_t seed)
{
    struct map m = {.lost = 0};
    fixture_make(&m.f, mix->n_pairs, mix->n_blocks, 16);
    m.f.sweep_per_put = mix->sweeps ? 4 : 0;
    map_init(&m, mix->n_keys, seed);
    unsigned steps = mix->steps * (fixture_long() ? 100 : 1);
    for (unsigned i = 0; i < steps; i++) {
        map_step(&m, mix);
        if (i % 1000 == 999)
            map_compare(&m);
        else if (i % 50 == 49)
            expect(fixture_recount(&m.f.reader) == 0);
    }
    map_compare(&m);
    map_fini(&m);
}

/* Much room; about right; overfull, so that items move and must go; few pairs, so that pairs are their own alternates; without the sweep. */
static const struct mix mixes[] = {
    {1009, 12, 4000, 400, 20000, true}, {37, 12, 2000, 1800, 20000, true}, {23, 16, 3000, 300, 20000, true},
    {2, 8, 400, 2000, 6000, true},      {3, 8, 60, 4000, 6000, false},     {53, 12, 3000, 1200, 20000, false},
};

START_TEST(test_against_a_map)
{
    run_mix(&mixes[_i], 1234567 + (uint64_t)_i);
}
END_TEST

/* ---- steady churn: new keys all the time, the oldest go with their blocks ---- */

struct churn {
    uint64_t puts, no_room, relocated, hits, lines;
    double load;
};

static void churn_put(struct fixture *f, uint64_t id)
{
    uint64_t key[2] = {id, ~id};
    unsigned char value[32] = {0};
    struct fixture_item item = {.key = key, .key_len = sizeof key, .value = value, .value_len = sizeof value};
    fixture_put(f, &item);
}

static struct churn churn(double load, uint64_t n_puts)
{
    /* 64 bytes an item: 1024 in a block. 100 blocks, of which 1 to 2 are free and one is being filled. */
    const uint32_t n_blocks = 100;
    struct fixture f;
    fixture_make(&f, (uint32_t)((n_blocks - 1.5) * 1024 / load / (2 * LRD_SLOTS)), n_blocks, 16);
    uint64_t id = 0;
    while (id < 300000) /* three times everything */
        churn_put(&f, ++id);
    struct churn c = {.puts = n_puts};
    uint64_t no_room = fixture_counter(&f.reader, LRD_C_no_room), relocated = fixture_counter(&f.reader, LRD_C_relocated);
    double sum = 0;
    for (uint64_t i = 0; i < n_puts; i++) {
        churn_put(&f, ++id);
        uint64_t key[2] = {id - i * 7919 % 90000, 0};
        key[1] = ~key[0];
        struct lrd_get get;
        if (fixture_get(&f.reader, 0, key, sizeof key, NULL, 0, &get) != LRD_ABSENT) {
            c.hits++;
            c.lines += get.lines;
        }
        if (i % 10000 == 0)
            sum += fixture_load(&f.reader);
    }
    c.load = sum / (double)((n_puts + 9999) / 10000);
    c.no_room = fixture_counter(&f.reader, LRD_C_no_room) - no_room;
    c.relocated = fixture_counter(&f.reader, LRD_C_relocated) - relocated;
    ck_assert_uint_eq(fixture_recount(&f.reader), 0);
    fixture_drop(&f);
    return c;
}

START_TEST(test_steady_churn)
{
    static const double loads[] = {0.5, 0.6, 0.7, 0.75, 0.85};
    struct churn c = churn(loads[_i], fixture_long() ? 20000000 : 400000);
    printf("load %.3f: %llu puts, %llu without room, %.4f moved, %.4f lines per hit\n", c.load, (unsigned long long)c.puts,
           (unsigned long long)c.no_room, (double)c.relocated / (double)c.puts, (double)c.lines / (double)c.hits);
    ck_assert_double_ge(c.load, loads[_i] - 0.01);
    ck_assert_uint_gt(c.hits, c.puts / 2);
    if (loads[_i] <= 0.75)
        ck_assert_uint_lt(c.no_room * 100000, c.puts);
}
END_TEST

/* ---- generations come round ---- */

static void set_generations(struct fixture *f, uint32_t generation)
{
    for (uint32_t b = 0; b < f->store.r.n_blocks; b++) {
        lrd_store_relaxed(&f->store.block_words[b], lrd_block_word_make(generation, 1));
        lrd_store32_relaxed(&f->store.descriptors[b].generation_swept, generation);
        lrd_store32_relaxed(&f->store.descriptors[b].generation_seen, generation);
    }
}

START_TEST(test_generations_wrap)
{
    static const uint32_t at[] = {(1u << 15) - 3, (1u << 16) - 3, UINT32_MAX - 3};
    const struct mix mix = {37, 12, 2000, 3000, 0, true};
    struct map m = {.lost = 0};
    fixture_make(&m.f, mix.n_pairs, mix.n_blocks, 16);
    set_generations(&m.f, at[_i]);
    map_init(&m, mix.n_keys, 99);
    for (unsigned i = 0; i < 6000; i++) {
        map_step(&m, &mix);
        if (i % 100 == 99)
            map_compare(&m);
    }
    for (uint32_t b = 0; b < mix.n_blocks; b++)
        ck_assert_uint_lt(lrd_block_word_generation(lrd_load_relaxed(&m.f.store.block_words[b])) - at[_i], 10000);
    map_fini(&m);
}
END_TEST

/* Items that died stay dead although their blocks are used 2^16 times after, by a writer that sweeps only when it must: a slot whose 16 bits of generation came
 * round would be one of an item that is somebody else's now. */
START_TEST(test_old_slots_never_come_back)
{
    struct map m = {.lost = 0};
    struct fixture *f = &m.f;
    fixture_make(f, 101, 8, 16);
    f->sweep_per_put = 0;
    map_init(&m, 1000, 7);
    for (uint32_t id = 0; id < 1000; id++)
        map_put(&m, id, 16, false);
    uint32_t turns = 0;
    for (uint64_t i = 0; i < 8 * 2 * ((1u << 16) + 100); i++) {
        /* Two of these fill a block; who writes nothing into it is quick. */
        struct fixture_item item = {.key_len = 1, .value_len = 32700};
        (void)fixture_alloc(f, &item);
        if (i % (8 * 2 * 64) == 0) {
            turns++;
            map_compare(&m);
        }
    }
    ck_assert_uint_gt(turns, 1000);
    ck_assert_uint_gt(f->sweeps_forced, 0);
    ck_assert_uint_ge(lrd_block_word_generation(lrd_load_relaxed(&f->store.block_words[3])), 1u << 16);
    map_fini(&m);
}
END_TEST

/* A sweep that was owed and completed leaves no dead slot, and says so to the descriptors. */
START_TEST(test_a_sweep_empties)
{
    struct map m = {.lost = 0};
    fixture_make(&m.f, 211, 12, 16);
    m.f.sweep_per_put = 0;
    map_init(&m, 4000, 5);
    for (unsigned i = 0; i < 8000; i++)
        map_put(&m, (uint32_t)(fixture_random(&m.state) % 4000), 200, false);
    fixture_reset(&m.f, 1);
    uint64_t sweeps = lrd_load_relaxed(&m.f.store.journal->sweeps);
    fixture_sweep_all(&m.f);
    ck_assert_uint_ge(lrd_load_relaxed(&m.f.store.journal->sweeps), sweeps + 1);
    uint64_t live = 0;
    for (uint32_t id = 0; id < 4000; id++)
        live += map_has(&m, id);
    map_compare(&m);
    ck_assert_uint_eq(fixture_counter(&m.f.reader, LRD_C_slots_used), live - m.lost);
    for (uint32_t b = 0; b < 12; b++)
        ck_assert_uint_eq(lrd_load32_relaxed(&m.f.store.descriptors[b].generation_swept),
                          lrd_block_word_generation(lrd_load_relaxed(&m.f.store.block_words[b])));
    ck_assert(!lrd_table_sweep(&m.f.table, 1));
    map_fini(&m);
}
END_TEST

/* An expired item is a miss, gives its place to a put before a live one does, and can be overwritten and deleted. */
START_TEST(test_expired_items)
{
    struct map m = {.lost = 0};
    fixture_make(&m.f, 2, 8, 16);
    map_init(&m, 4000, 3);
    for (uint32_t id = 0; id < 28; id++)
        map_put(&m, id, 50, true);
    ck_assert_uint_eq(fixture_counter(&m.f.reader, LRD_C_sets), 28);
    for (uint32_t id = 1000; id < 1020; id++) {
        map_put(&m, id, 50, false);
        unsigned char key[1024], got[50];
        struct lrd_get get;
        for (uint32_t before = 1000; before <= id; before++)
            expect(fixture_get(&m.f.reader, 0, key, key_of(before, key), got, sizeof got, &get) == LRD_FOUND);
    }
    map_compare(&m);
    for (uint32_t id = 0; id < 28; id++)
        map_delete(&m, id);
    map_compare(&m);
    map_fini(&m);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("table");
    TCase *t = tcase_create("map");
    tcase_set_timeout(t, 0);
    tcase_add_loop_test(t, test_against_a_map, 0, sizeof mixes / sizeof *mixes);
    tcase_add_test(t, test_a_sweep_empties);
    tcase_add_test(t, test_expired_items);
    suite_add_tcase(s, t);
    t = tcase_create("generations");
    tcase_set_timeout(t, 0);
    tcase_add_loop_test(t, test_generations_wrap, 0, 3);
    tcase_add_test(t, test_old_slots_never_come_back);
    suite_add_tcase(s, t);
    t = tcase_create("churn");
    tcase_set_timeout(t, 0);
    tcase_add_loop_test(t, test_steady_churn, 0, 5);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
