/* The table against a plain map: random puts, overwrites, deletes, frees, resets and sweeps, as the writer makes them; everything recounted again and again.
 * And its figures: how often a put finds no room, how many lines a hit takes. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/departures.h"
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
    uint64_t moved;
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

/* Notes where a key's item lies now. */
static void map_locate(struct map *m, uint32_t id)
{
    unsigned char key[1024];
    struct entry *e = &m->entry[id];
    struct lrd_get get;
    (void)fixture_get(&m->f.reader, ns_of(m, id), key, key_of(id, key), NULL, 0, &get);
    expect(get.slot != 0);
    e->block = lrd_arena_block(&m->f.reader, get.slot);
    e->word = lrd_load_relaxed(&m->f.store.block_words[e->block]);
    e->epoch = lrd_load32_relaxed(&m->f.store.namespaces[ns_of(m, id)].epoch);
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
    fixture_put_in(&m->f, &item, seed % 8 == 0 ? LRD_TTL_CLASSES : 0);
    *e = (struct entry){.there = true, .expired = expired, .seed = seed, .len = len};
    map_locate(m, id);
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

/* Copied forward, an item is what it was. */
static void map_move(struct map *m, uint32_t id)
{
    unsigned char key[1024];
    uint32_t len = key_of(id, key), ns = ns_of(m, id);
    struct lrd_get get;
    bool was = map_has(m, id) && (fixture_get(&m->f.reader, ns, key, len, NULL, 0, &get) != LRD_ABSENT || get.slot != 0);
    if (fixture_move(&m->f, ns, key, len, LRD_TTL_CLASSES)) {
        expect(was);
        map_locate(m, id);
        m->moved++;
    }
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
    expect(fixture_recount_all(&m->f) == 0);
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
    if (dice < 7000) {
        uint32_t len = (uint32_t)(fixture_random(&m->state) % (mix->value_max + 1));
        map_put(m, id, dice == 0 ? VALUE_ROOM - 1 : len, dice % 16 == 0);
    } else if (dice < 9450)
        map_delete(m, id);
    else if (dice < 9950)
        map_move(m, id);
    else if (dice < 9952)
        fixture_reset(&m->f, dice & 1);
    else if (dice < 9970)
        fixture_restart(&m->f);
    else if (dice < 9975)
        fixture_sweep_all(&m->f);
    else {
        uint32_t block = (uint32_t)(fixture_random(&m->state) % m->f.reader.n_blocks);
        if (lrd_arena_may_free(&m->f.arena, block))
            lrd_arena_free_block(&m->f.arena, block, LRD_CAUSE_EVICTED, fixture_now_ms(&m->f.reader), 0, 0);
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
            expect(fixture_recount_all(&m.f) == 0);
    }
    map_compare(&m);
    ck_assert_uint_gt(m.moved, steps / 1000);
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
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
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
    for (uint32_t chain = 0; chain < 2 * LRD_CHAINS; chain++) /* all of them go */
        lrd_arena_close(&f->arena, chain / LRD_CHAINS, chain % LRD_CHAINS);
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

/* A sweep that was owed and completed leaves no dead slot, and is counted. */
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

/* ---- who goes when there is no room ---- */

#define ROOM 28u /* slots of two pairs: with n_pairs of 2 every key has all of them */

static uint64_t counted(const struct fixture *f, uint32_t ns, enum lrd_counter_id id) { return lrd_load_relaxed(&lrd_ns_counters(&f->reader, ns)[id]); }

static void put_small(struct fixture *f, uint32_t ns, uint32_t id, uint64_t expires_ms)
{
    struct fixture_item item = {.ns = ns, .key = &id, .key_len = sizeof id, .value = &id, .value_len = sizeof id, .expires_ms = expires_ms};
    fixture_put(f, &item);
}

static bool is_there(const struct fixture *f, uint32_t ns, uint32_t id)
{
    struct lrd_get get;
    uint32_t got = ~id;
    enum lrd_outcome o = fixture_get(&f->reader, ns, &id, sizeof id, &got, sizeof got, &get);
    expect(o != LRD_FOUND || got == id);
    return o == LRD_FOUND;
}

static unsigned how_many(const struct fixture *f, uint32_t ns, uint32_t from, uint32_t to)
{
    unsigned n = 0;
    for (uint32_t id = from; id < to; id++)
        n += is_there(f, ns, id);
    return n;
}

static struct lrd_departure last_departure(const struct fixture *f)
{
    uint64_t n = lrd_load_relaxed(&f->store.departures->n);
    expect(n > 0);
    return *lrd_departure_at(f->reader.departures, n - 1, f->reader.geometry.n_departures);
}

/* Whether the last entry is about this key. */
static bool departed(const struct fixture *f, uint32_t ns, uint32_t id, enum lrd_cause cause)
{
    struct lrd_departure d = last_departure(f);
    uint64_t who = lrd_load_relaxed(&d.who), hash = lrd_hash(f->reader.hash_seed, ns, &id, sizeof id);
    return lrd_departure_home(who) == lrd_hash_home(hash, f->reader.n_pairs) && lrd_departure_tag(who) == lrd_hash_tag(hash) && lrd_departure_ns(who) == ns &&
           lrd_departure_cause(who) == cause;
}

/* Ids 0 to 27 fill the table. */
static void fill_table(struct fixture *f, uint32_t ns)
{
    uint32_t n = 0;
    for (uint32_t id = 0; n < ROOM; id++, n = (uint32_t)fixture_counter(&f->reader, LRD_C_slots_used))
        put_small(f, ns, id, 0);
    expect(fixture_counter(&f->reader, LRD_C_no_room) == 0);
}

/* With two pairs: the first id from here on whose alternate pair is the other one, so that all slots are its neighbourhood. */
static uint32_t wide(const struct fixture *f, uint32_t ns, uint32_t id)
{
    for (;; id++) {
        uint64_t hash = lrd_hash(f->reader.hash_seed, ns, &id, sizeof id);
        uint32_t home = lrd_hash_home(hash, 2);
        if (lrd_hash_bucket(home, lrd_hash_tag(hash), 2, 2) / 2 != home / 2)
            return id;
    }
}

static void close_all(struct fixture *f)
{
    for (uint32_t ns = 0; ns < 3; ns++)
        for (uint32_t chain = 0; chain < LRD_CHAINS; chain++)
            lrd_arena_close(&f->arena, ns, chain);
}

static void set_policy(struct fixture *f, uint32_t ns, enum lrd_policy policy) { lrd_store32_relaxed(&f->store.namespaces[ns].policy, policy); }

/* An expired one goes first, whoever's it is, also if its namespace refuses eviction; it is counted as no_room, and noted as expired. */
START_TEST(test_victim_expired)
{
    struct fixture f;
    fixture_make(&f, 2, 12, 16);
    fill_table(&f, 1);
    set_policy(&f, 1, LRD_POLICY_REFUSE);
    put_small(&f, 1, 7, 5); /* overwritten by one that has expired long ago */
    ck_assert(!is_there(&f, 1, 7));
    uint32_t id = wide(&f, 0, 100);
    put_small(&f, 0, id, 0);
    ck_assert(is_there(&f, 0, id));
    ck_assert_uint_eq(counted(&f, 1, LRD_C_no_room), 1);
    ck_assert_uint_eq(counted(&f, 0, LRD_C_no_room), 0);
    ck_assert(departed(&f, 1, 7, LRD_CAUSE_EXPIRED));
    ck_assert_uint_eq(how_many(&f, 1, 0, ROOM), ROOM - 1);
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
    fixture_drop(&f);
}
END_TEST

/* Then the oldest of its own namespace; of others not one, although they are older and have no minimum. */
START_TEST(test_victim_own)
{
    struct fixture f;
    fixture_make(&f, 2, 12, 16);
    for (uint32_t id = 0; id < 20; id++)
        put_small(&f, 1, id, 0);
    close_all(&f);
    for (uint32_t id = 0; id < 4; id++)
        put_small(&f, 0, id, 0);
    close_all(&f);
    for (uint32_t id = 4; id < 8; id++)
        put_small(&f, 0, id, 0);
    ck_assert_uint_eq(fixture_counter(&f.reader, LRD_C_slots_used), ROOM);
    close_all(&f); /* the new item's block is younger than all */
    for (uint32_t i = 0, id = 100; i < 4; i++, id++) {
        id = wide(&f, 0, id);
        put_small(&f, 0, id, 0);
        expect(is_there(&f, 0, id));
    }
    ck_assert_uint_eq(how_many(&f, 0, 0, 4), 0);
    ck_assert_uint_eq(how_many(&f, 0, 4, 8), 4);
    ck_assert_uint_eq(how_many(&f, 1, 0, 20), 20);
    ck_assert_uint_eq(counted(&f, 0, LRD_C_no_room), 4);
    uint32_t which = 0;
    while (which < 4 && !departed(&f, 0, which, LRD_CAUSE_NO_ROOM))
        which++;
    ck_assert_uint_lt(which, 4);
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
    fixture_drop(&f);
}
END_TEST

/* Then of a namespace that has more items than the slots of its minimum, down to that; then it is the new item that goes. */
START_TEST(test_victim_above_its_minimum)
{
    struct fixture f;
    fixture_make(&f, 2, 12, 16);
    fill_table(&f, 1);
    close_all(&f);
    lrd_store_relaxed(&f.store.namespaces[1].min_blocks, 12); /* three quarters of 28 */
    /* A namespace that has nothing yet: each of its items takes one from the other, and may not take from itself. */
    uint32_t ns = 0;
    for (uint32_t id = 0; id < 7; id++) {
        ns = id % 2 == 0 ? 0 : 2;
        put_small(&f, ns, wide(&f, ns, 100 * (id + 1)), 0);
        close_all(&f);
    }
    ck_assert_uint_ge(how_many(&f, 1, 0, ROOM), 21);
    uint64_t lost = counted(&f, 1, LRD_C_no_room);
    ck_assert_uint_gt(lost, 0);
    /* A flood of tiny items: nothing more is taken. */
    for (uint32_t id = 0; id < 5000; id++) {
        put_small(&f, 0, 10000 + id, 0);
        expect(how_many(&f, 1, 0, ROOM) >= 21);
    }
    ck_assert_uint_ge(f.arena.ns[1].live_items, 21);
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
    fixture_drop(&f);
}
END_TEST

/* Exactly down to the minimum, when nobody else has anything. */
START_TEST(test_the_new_item_is_lost)
{
    struct fixture f;
    fixture_make(&f, 2, 12, 16);
    fill_table(&f, 1);
    lrd_store_relaxed(&f.store.namespaces[1].min_blocks, 11);
    uint32_t least = 28 * 3 / 4 * 11 / 12;
    set_policy(&f, 2, LRD_POLICY_REFUSE);
    uint32_t kept[ROOM], n_kept = 0;
    for (uint32_t i = 0, id = 100; i < ROOM - least; i++, id++) {
        id = wide(&f, 0, id);
        put_small(&f, 0, id, 0);
        expect(is_there(&f, 0, id));
        fixture_delete(&f, 0, &id, sizeof id);
        kept[n_kept] = wide(&f, 2, n_kept > 0 ? kept[n_kept - 1] + 1 : 0); /* full again, with one of a third */
        put_small(&f, 2, kept[n_kept++], 0);
    }
    ck_assert_uint_eq(fixture_counter(&f.reader, LRD_C_slots_used), ROOM);
    ck_assert_uint_eq(how_many(&f, 1, 0, ROOM), least);
    /* All are of one that refuses, or below their minimum. */
    uint64_t lost = counted(&f, 0, LRD_C_no_room), sets = counted(&f, 0, LRD_C_sets), live = f.arena.ns[0].live_items;
    uint32_t id = wide(&f, 0, 500);
    put_small(&f, 0, id, 0);
    ck_assert(!is_there(&f, 0, id));
    ck_assert_uint_eq(counted(&f, 0, LRD_C_no_room), lost + 1);
    ck_assert_uint_eq(counted(&f, 0, LRD_C_sets), sets + 1);
    ck_assert_uint_eq(f.arena.ns[0].live_items, live);
    ck_assert(departed(&f, 0, id, LRD_CAUSE_NO_ROOM));
    ck_assert_uint_eq(how_many(&f, 1, 0, ROOM), least);
    for (uint32_t i = 0; i < n_kept; i++)
        expect(is_there(&f, 2, kept[i]));
    /* For a write that has credit a minimum does not count. */
    id = wide(&f, 2, 500);
    put_small(&f, 2, id, 0);
    ck_assert(is_there(&f, 2, id));
    ck_assert_uint_eq(how_many(&f, 1, 0, ROOM), least - 1);
    ck_assert_uint_eq(counted(&f, 1, LRD_C_no_room), ROOM - least + 1);
    ck_assert_uint_eq(counted(&f, 2, LRD_C_no_room), 0);
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
    fixture_drop(&f);
}
END_TEST

/* A large table, a namespace below its share of slots, another that writes tiny items without end. */
START_TEST(test_a_flood_of_tiny_items)
{
    struct fixture f;
    fixture_make(&f, 300, 12, 16);
    const uint32_t n = 300 * 14 * 3 / 4 * 4 / 12; /* slots of its minimum */
    lrd_store_relaxed(&f.store.namespaces[1].min_blocks, 4);
    for (uint32_t id = 0; id < n; id++)
        put_small(&f, 1, id, 0);
    close_all(&f);
    uint64_t freed = counted(&f, 1, LRD_C_blocks_freed);
    for (uint32_t i = 0; i < 20000; i++) {
        put_small(&f, 0, i, 0);
        if (i % 1500 == 1499) { /* the arena is no part of this: its space is taken back by deletes, not by eviction */
            for (uint32_t id = i - 1499; id <= i - 200; id++)
                fixture_delete(&f, 0, &id, sizeof id);
        }
    }
    for (uint32_t i = 20000; i < 26000; i++)
        put_small(&f, 0, i, 0);
    ck_assert_uint_eq(counted(&f, 1, LRD_C_blocks_freed), freed);
    ck_assert_uint_gt(counted(&f, 0, LRD_C_no_room), 1000);
    ck_assert_uint_eq(counted(&f, 1, LRD_C_no_room), 0);
    ck_assert_uint_eq(how_many(&f, 1, 0, n), n);
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
    fixture_drop(&f);
}
END_TEST

/* ---- by location: find, move, hint, mark, counts ---- */

static uint64_t hash_of(const struct fixture *f, uint32_t ns, uint32_t id) { return lrd_hash(f->reader.hash_seed, ns, &id, sizeof id); }

static struct lrd_place place_of(const struct fixture *f, uint32_t ns, uint32_t id)
{
    struct lrd_get get;
    struct lrd_place at;
    expect(fixture_get(&f->reader, ns, &id, sizeof id, NULL, 0, &get) != LRD_ABSENT);
    expect(lrd_table_find(&f->table, get.hash, lrd_slot_location(get.slot), &at));
    expect(lrd_load_relaxed(&f->store.buckets[at.bucket].slot[at.idx]) == get.slot);
    return at;
}

static uint32_t count_of(const struct fixture *f, uint32_t ns, uint32_t id)
{
    struct lrd_place at = place_of(f, ns, id);
    return lrd_table_count(&f->table, at.bucket, at.idx);
}

static void counts_begin(struct fixture *f)
{
    f->table.counts = calloc(lrd_n_buckets(&f->reader), sizeof *f->table.counts);
    expect(f->table.counts != NULL);
}

START_TEST(test_find_and_move)
{
    struct fixture f;
    fixture_make(&f, 23, 12, 16);
    counts_begin(&f);
    const uint32_t n = 250;
    for (uint32_t id = 0; id < n; id++) {
        put_small(&f, 0, id, 0);
        lrd_table_set_count(&f.table, place_of(&f, 0, id).bucket, place_of(&f, 0, id).idx, id % 4);
    }
    for (uint32_t id = 0; id < n; id++) {
        struct lrd_get get;
        struct lrd_place at, before = place_of(&f, 0, id);
        uint32_t count = count_of(&f, 0, id);
        (void)fixture_get(&f.reader, 0, &id, sizeof id, NULL, 0, &get);
        uint32_t old = lrd_slot_location(get.slot), block = lrd_arena_block(&f.reader, get.slot);
        expect(!lrd_table_find(&f.table, get.hash, old + 1, &at)); /* nothing begins there */
        expect(fixture_move(&f, 0, &id, sizeof id, LRD_TTL_CLASSES));
        expect(is_there(&f, 0, id));
        (void)fixture_get(&f.reader, 0, &id, sizeof id, NULL, 0, &get);
        expect(lrd_slot_location(get.slot) != old && lrd_arena_block(&f.reader, get.slot) != block);
        expect(!lrd_table_find(&f.table, get.hash, old, &at)); /* that item is dead */
        at = place_of(&f, 0, id);
        expect(at.bucket == before.bucket && at.idx == before.idx && count_of(&f, 0, id) == count);
    }
    ck_assert_uint_gt(fixture_counter(&f.reader, LRD_C_relocated), 0);
    ck_assert_uint_eq(f.arena.ns[0].live_items, n);
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
    /* In a block that is used again nothing of before is found. */
    struct lrd_get get;
    struct lrd_place at;
    uint32_t one = 1;
    (void)fixture_get(&f.reader, 0, &one, sizeof one, NULL, 0, &get);
    uint32_t block = lrd_arena_block(&f.reader, get.slot);
    close_all(&f);
    lrd_arena_free_block(&f.arena, block, LRD_CAUSE_EVICTED, 1, 0, 0);
    ck_assert(!lrd_table_find(&f.table, get.hash, lrd_slot_location(get.slot), &at));
    free(f.table.counts);
    fixture_drop(&f);
}
END_TEST

/* 0 for an item that is new, what it was for one that is overwritten, and it goes along when the item moves on. */
START_TEST(test_counts)
{
    struct fixture f;
    fixture_make(&f, 23, 12, 16);
    counts_begin(&f);
    uint32_t want[300] = {0};
    uint64_t state = 9;
    unsigned relocated = 0, raised = 0;
    for (uint32_t i = 0; i < 60000; i++) {
        uint64_t x = fixture_random(&state);
        uint32_t id = (uint32_t)(x % 300);
        bool was = is_there(&f, 0, id);
        if ((x >> 20) % 8 == 0) {
            fixture_delete(&f, 0, &id, sizeof id);
            continue;
        }
        if ((x >> 20) % 8 < 3 && was) {
            struct lrd_place at = place_of(&f, 0, id);
            want[id] = (uint32_t)(x >> 30) & 3;
            lrd_table_set_count(&f.table, at.bucket, at.idx, want[id]);
            raised++;
            continue;
        }
        uint64_t moved = fixture_counter(&f.reader, LRD_C_relocated);
        put_small(&f, 0, id, 0);
        if (!was)
            want[id] = 0;
        expect(count_of(&f, 0, id) == want[id]);
        if (fixture_counter(&f.reader, LRD_C_relocated) == moved && i % 64 != 0)
            continue;
        relocated++;
        for (uint32_t other = 0; other < 300; other++)
            expect(!is_there(&f, 0, other) || count_of(&f, 0, other) == want[other]);
    }
    ck_assert_uint_gt(fixture_counter(&f.reader, LRD_C_relocated), 50);
    ck_assert_uint_gt(relocated + raised, 1000);
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
    free(f.table.counts);
    fixture_drop(&f);
}
END_TEST

START_TEST(test_hint_and_mark)
{
    struct fixture f;
    fixture_make(&f, 23, 12, 16);
    put_small(&f, 0, 0, 0);
    lrd_table_mark(&f.table, hash_of(&f, 0, 0)); /* nothing is counted: not even a crash */
    ck_assert_uint_eq(count_of(&f, 0, 0), 0);
    counts_begin(&f);
    const uint32_t n = 250;
    for (uint32_t id = 0; id < n; id++) {
        uint32_t ns = id % 2;
        expect(lrd_table_hint(&f.table, hash_of(&f, ns, id + 10000)) == LRD_NO_BLOCK || id > 0); /* two of 2^14 tags may be the same */
        put_small(&f, ns, id, 0);
    }
    unsigned right = 0;
    for (uint32_t id = 0; id < n; id++) {
        struct lrd_get get;
        (void)fixture_get(&f.reader, id % 2, &id, sizeof id, NULL, 0, &get);
        right += lrd_table_hint(&f.table, get.hash) == lrd_arena_block(&f.reader, get.slot);
    }
    ck_assert_uint_ge(right, n - 2);
    for (uint32_t i = 0; i < 5; i++) {
        lrd_table_mark(&f.table, hash_of(&f, 1, 7));
        ck_assert_uint_eq(count_of(&f, 1, 7), i < 3 ? i + 1 : 3);
    }
    unsigned others = 0;
    for (uint32_t id = 0; id < n; id++)
        others += count_of(&f, id % 2, id) != 0;
    ck_assert_uint_le(others, 2);
    fixture_delete(&f, 1, &(uint32_t){7}, 4);
    ck_assert_uint_eq(lrd_table_hint(&f.table, hash_of(&f, 1, 7)), LRD_NO_BLOCK);
    fixture_reset(&f, 0);
    ck_assert_uint_eq(lrd_table_hint(&f.table, hash_of(&f, 0, 8)), LRD_NO_BLOCK);
    /* Any number is a hash: no harm is done. */
    uint64_t state = 3;
    for (unsigned i = 0; i < 100000; i++) {
        uint64_t hash = fixture_random(&state);
        lrd_table_mark(&f.table, hash);
        (void)lrd_table_hint(&f.table, hash);
    }
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
    free(f.table.counts);
    fixture_drop(&f);
}
END_TEST

/* ---- departures ---- */

START_TEST(test_departures)
{
    struct fixture f;
    fixture_make(&f, 23, 12, 16);
    counts_begin(&f);
    f.sweep_per_put = 0;
    uint64_t now_ms = fixture_now_ms(&f.reader);
    uint32_t a = 1, b = 2, c = 3;
    put_small(&f, 1, a, now_ms + 3600000);
    put_small(&f, 1, b, 1);
    put_small(&f, 1, c, 0);
    ck_assert_uint_eq(lrd_load_relaxed(&f.store.departures->n), 0);
    lrd_table_mark(&f.table, hash_of(&f, 1, a));
    fixture_delete(&f, 1, &a, sizeof a);
    ck_assert(departed(&f, 1, a, LRD_CAUSE_DELETED));
    struct lrd_departure d = last_departure(&f);
    ck_assert(lrd_departure_read(lrd_load_relaxed(&d.who)));
    uint64_t when = lrd_load_relaxed(&d.when), left_ms = lrd_ttl_left_ms(lrd_departure_left(when));
    ck_assert_uint_ge(lrd_departure_ms(when), now_ms);
    ck_assert_uint_le(left_ms, 3600000);
    ck_assert_uint_ge(left_ms, 3590000);
    fixture_delete(&f, 1, &b, sizeof b); /* it had expired when somebody deleted it */
    ck_assert(departed(&f, 1, b, LRD_CAUSE_EXPIRED));
    fixture_delete(&f, 1, &c, sizeof c);
    ck_assert(departed(&f, 1, c, LRD_CAUSE_DELETED));
    d = last_departure(&f);
    ck_assert(!lrd_departure_read(lrd_load_relaxed(&d.who)));
    ck_assert_uint_eq(lrd_departure_left(lrd_load_relaxed(&d.when)), LRD_TTL_LEFT_NEVER);
    uint64_t n = lrd_load_relaxed(&f.store.departures->n);
    ck_assert_uint_eq(n, 3);
    fixture_delete(&f, 1, &c, sizeof c); /* nothing is there */
    put_small(&f, 1, c, 0);
    put_small(&f, 1, c, 0); /* an overwritten item has not gone */
    ck_assert_uint_eq(lrd_load_relaxed(&f.store.departures->n), n);

    /* Two blocks that expired whole, one that was evicted, one reset: the sweep finds the slots of the first. */
    uint32_t block[2];
    for (uint32_t i = 0; i < 2; i++) {
        close_all(&f);
        put_small(&f, 0, 10 + i, now_ms + 5000);
        struct lrd_get get;
        (void)fixture_get(&f.reader, 0, &(uint32_t){10 + i}, 4, NULL, 0, &get);
        block[i] = lrd_arena_block(&f.reader, get.slot);
    }
    close_all(&f);
    lrd_arena_free_block(&f.arena, block[0], LRD_CAUSE_EXPIRED, now_ms + 6000, 0, 0);
    lrd_arena_free_block(&f.arena, block[1], LRD_CAUSE_EVICTED, now_ms + 6000, 0, 0);
    ck_assert_uint_eq(lrd_load_relaxed(&f.store.departures->n), n);
    fixture_sweep_all(&f);
    ck_assert_uint_eq(lrd_load_relaxed(&f.store.departures->n), n + 1);
    ck_assert(departed(&f, 0, 10, LRD_CAUSE_EXPIRED));
    d = last_departure(&f);
    ck_assert_uint_eq(lrd_departure_ms(lrd_load_relaxed(&d.when)), now_ms + 6000);

    /* The same when a put takes the dead slot before the sweep comes. */
    put_small(&f, 0, 20, now_ms + 5000);
    struct lrd_get get;
    struct lrd_place at = place_of(&f, 0, 20);
    (void)fixture_get(&f.reader, 0, &(uint32_t){20}, 4, NULL, 0, &get);
    close_all(&f);
    lrd_arena_free_block(&f.arena, lrd_arena_block(&f.reader, get.slot), LRD_CAUSE_EXPIRED, now_ms + 7000, 0, 0);
    for (uint32_t id = 1000; lrd_load_relaxed(&f.store.buckets[at.bucket].slot[at.idx]) == get.slot; id++) {
        ck_assert_uint_eq(lrd_load_relaxed(&f.store.departures->n), n + 1);
        put_small(&f, 1, id, 0);
    }
    ck_assert_uint_eq(lrd_load_relaxed(&f.store.departures->n), n + 2);
    ck_assert(departed(&f, 0, 20, LRD_CAUSE_EXPIRED));
    /* More than there is room for: the ring goes round. */
    for (uint32_t i = 0; i < 1000; i++) {
        put_small(&f, 0, 5000 + i, 0);
        fixture_delete(&f, 0, &(uint32_t){5000 + i}, 4);
        expect(departed(&f, 0, 5000 + i, LRD_CAUSE_DELETED));
    }
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
    free(f.table.counts);
    fixture_drop(&f);
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
    t = tcase_create("victims");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, test_victim_expired);
    tcase_add_test(t, test_victim_own);
    tcase_add_test(t, test_victim_above_its_minimum);
    tcase_add_test(t, test_the_new_item_is_lost);
    tcase_add_test(t, test_a_flood_of_tiny_items);
    suite_add_tcase(s, t);
    t = tcase_create("places");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, test_find_and_move);
    tcase_add_test(t, test_counts);
    tcase_add_test(t, test_hint_and_mark);
    tcase_add_test(t, test_departures);
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
