/* Making room: against a model of the policy (evict_model.h), and rule by rule. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/hash.h"
#include "tests/evict_cache.h"
#include "tests/evict_model.h"

static struct cache c;
static struct model m;

static bool is_long(void)
{
    const char *s = getenv("LARDER_LONG");
    return s != NULL && *s == '1';
}

/* ---- against the model ---- */

#define TRACE_OPS 600u

struct trace {
    uint64_t seed, state;
    uint32_t step;
    uint32_t keys;       /* of each namespace */
    uint32_t skew;       /* 0: uniform */
    uint32_t value_max;
    uint32_t ttl_max;    /* ms; 0: none */
    uint32_t settle_one_in;
};

static uint32_t dice(struct trace *t, uint32_t n) { return (uint32_t)(cache_random(&t->state) >> 33) % n; }

/* Zipf-ish: the least of several. */
static uint32_t any_key(struct trace *t)
{
    uint32_t key = dice(t, t->keys);
    for (uint32_t i = 0; i < t->skew; i++) {
        uint32_t other = dice(t, t->keys);
        key = other < key ? other : key;
    }
    return key;
}

static uint32_t any_length(struct trace *t)
{
    uint32_t most = c.shape.block_shift > 11 && dice(t, 40) == 0 ? (1u << (c.shape.block_shift - 1)) - 24 : t->value_max;
    return dice(t, most + 1);
}

static struct cache_shape any_shape(struct trace *t)
{
    struct cache_shape s = {.n_blocks = dice(t, 5) == 0 ? 70 + dice(t, 8) : 16 + dice(t, 16), .block_shift = 12, .n_pairs = 300, .n_ns = 1 + dice(t, CACHE_NS)};
    uint32_t left = s.n_blocks - 2;
    for (uint32_t ns = 0; ns < s.n_ns; ns++) {
        struct cache_quota *q = &s.ns[ns];
        static const uint32_t policies[] = {LRD_POLICY_EVICT, LRD_POLICY_EVICT, LRD_POLICY_EVICT, LRD_POLICY_FIFO, LRD_POLICY_REFUSE};
        q->policy = policies[dice(t, 5)];
        uint32_t spare = left > 4 * (s.n_ns - ns) ? left - 4 * (s.n_ns - ns) : 0;
        q->min = q->policy == LRD_POLICY_REFUSE ? 4 + dice(t, spare / 2 + 1) : dice(t, 2) ? 4 + dice(t, spare / 2 + 1) : 0;
        q->max = q->policy == LRD_POLICY_REFUSE ? q->min : dice(t, 2) ? (q->min > 4 ? q->min : 4) + dice(t, s.n_blocks - 2 - (q->min > 4 ? q->min : 4) + 1) : 0;
        left -= q->min;
    }
    return s;
}

static bool put_both(struct trace *t, uint32_t ns)
{
    uint32_t key = any_key(t), len = any_length(t);
    uint64_t expires_ms = t->ttl_max > 0 && dice(t, 2) ? c.now_ms + 1 + dice(t, t->ttl_max) : 0;
    enum cache_result should = model_put(&m, ns, key, len, expires_ms), r = cache_put(&c, ns, key, len, expires_ms);
    if (r == should)
        return true;
    fprintf(stderr, "put: %d, should be %d\n", r, should);
    return false;
}

static void read_both(struct trace *t, uint32_t ns)
{
    static bool marked[CACHE_KEYS];
    uint32_t n = 1 + dice(t, 40);
    memset(marked, 0, sizeof marked);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t key = any_key(t);
        if (cache_read(&c, dice(t, CACHE_LANES - 1), ns, key) && !marked[key]) {
            marked[key] = true;
            model_read(&m, ns, key);
        }
    }
    cache_harvest(&c);
}

static void settle_both(void)
{
    cache_settle(&c);
    model_settle(&m);
}

static bool do_both(struct trace *t)
{
    uint32_t what = dice(t, 1000), ns = dice(t, c.shape.n_ns);
    bool same = true;
    if (what < 780)
        same = put_both(t, ns);
    else if (what < 880)
        read_both(t, ns);
    else if (what < 950) {
        uint32_t key = any_key(t);
        same = cache_delete(&c, ns, key) == model_delete(&m, ns, key);
    } else if (what < 999) {
        uint32_t by = dice(t, t->ttl_max / 8 + 2);
        cache_tick(&c, by);
        model_tick(&m, by);
    } else {
        cache_reset(&c, ns);
        model_reset(&m, ns);
    }
    if (dice(t, t->settle_one_in) == 0)
        settle_both();
    return same;
}

static struct {
    uint64_t ops, evicted, expired, copied, ghost_hits, cleanings, reset_items;
} seen;

static void run_trace(uint64_t seed)
{
    struct trace t = {.seed = seed, .state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1};
    struct cache_shape shape = any_shape(&t);
    t.keys = dice(&t, 4) == 0 ? 20 + dice(&t, 100) : 200 + dice(&t, CACHE_KEYS - 200);
    t.skew = dice(&t, 4);
    t.value_max = dice(&t, 3) == 0 ? 1500 : 16 + dice(&t, 500);
    t.ttl_max = dice(&t, 3) == 0 ? 0 : 100 + dice(&t, 5000);
    t.settle_one_in = dice(&t, 3) == 0 ? 1 + dice(&t, 30) : 1;
    cache_make(&c, &shape);
    model_make(&m, &c);
    for (t.step = 0; t.step < TRACE_OPS * (shape.n_blocks > 60 ? 4 : 1); t.step++) {
        bool same = do_both(&t);
        if (!same || model_compare(&m, &c) != 0)
            ck_abort_msg("seed %llu, step %u", (unsigned long long)seed, t.step);
        seen.ops++;
    }
    for (uint32_t ns = 0; ns < shape.n_ns; ns++) {
        seen.evicted += m.ns[ns].n.evicted;
        seen.expired += m.ns[ns].n.expired;
        seen.copied += m.ns[ns].n.copied;
        seen.ghost_hits += m.ns[ns].n.ghost_hits;
        seen.cleanings += m.ns[ns].n.cleanings;
        seen.reset_items += m.ns[ns].n.reset_items;
    }
    model_drop(&m);
    cache_drop(&c);
}

START_TEST(as_the_model_says)
{
    const char *only = getenv("SEED");
    memset(&seen, 0, sizeof seen);
    for (uint64_t seed = 1; only == NULL && seed <= (is_long() ? 20000u : 160u); seed++)
        run_trace(seed);
    if (only != NULL)
        run_trace(strtoull(only, NULL, 0));
    printf("%llu operations: %llu evicted, %llu expired, %llu copied, %llu ghost hits, %llu cleanings, %llu reset\n", (unsigned long long)seen.ops, (unsigned long long)seen.evicted,
           (unsigned long long)seen.expired, (unsigned long long)seen.copied, (unsigned long long)seen.ghost_hits, (unsigned long long)seen.cleanings,
           (unsigned long long)seen.reset_items);
    if (only == NULL)
        ck_assert(seen.evicted > 0 && seen.expired > 0 && seen.copied > 0 && seen.ghost_hits > 0 && seen.cleanings > 0 && seen.reset_items > 0);
}
END_TEST

/* ---- steps between operations ---- */

/* What a namespace that refuses must hold. */
static bool held[CACHE_NS][CACHE_KEYS];

struct before {
    uint32_t blocks[CACHE_NS];
    uint64_t evicted[CACHE_NS];
};

static void look(struct before *b)
{
    for (uint32_t ns = 0; ns < c.shape.n_ns; ns++) {
        b->blocks[ns] = c.a.ns[ns].n_blocks;
        b->evicted[ns] = cache_counter(&c, ns, LRD_C_evicted);
    }
}

/* Nothing goes of a namespace that has no more than its minimum, unless it is near its own maximum. */
static bool minimum_kept(const struct before *b)
{
    for (uint32_t ns = 0; ns < c.shape.n_ns; ns++) {
        uint64_t min = lrd_load_relaxed(&c.s.namespaces[ns].min_blocks), max = lrd_load_relaxed(&c.s.namespaces[ns].max_blocks);
        if (b->blocks[ns] <= min && b->blocks[ns] + 2 <= max && cache_counter(&c, ns, LRD_C_evicted) != b->evicted[ns]) {
            fprintf(stderr, "namespace %u had %u blocks, its minimum is %u, and something of it went\n", ns, b->blocks[ns], (unsigned)min);
            return false;
        }
    }
    return true;
}

static bool steps(uint32_t n)
{
    bool good = true;
    struct before b;
    while (n-- > 0 && good) {
        look(&b);
        cache_step(&c);
        good = minimum_kept(&b);
    }
    return good;
}

/* A client's record that waits, while the writer goes on. */
static bool put_in_turn(struct trace *t, uint32_t ns)
{
    uint32_t key = any_key(t), len = any_length(t), turns = 0;
    bool refuses = c.shape.ns[ns].policy == LRD_POLICY_REFUSE;
    uint64_t expires_ms = !refuses && t->ttl_max > 0 && dice(t, 2) ? c.now_ms + 1 + dice(t, t->ttl_max) : 0;
    enum cache_result r;
    while ((r = cache_try(&c, ns, key, len, expires_ms)) == CACHE_STUCK) {
        if (!steps(1))
            return false;
        if (++turns == 20000) {
            fprintf(stderr, "a set into namespace %u finds no room\n", ns);
            return false;
        }
    }
    if (refuses && r == CACHE_DONE)
        held[ns][key] = true;
    return true;
}

/* A namespace that has no minimum may be left without a block by those that have one. */
static struct cache_shape any_large_shape(struct trace *t)
{
    struct cache_shape s = any_shape(t);
    s.block_shift = dice(t, 3) == 0 ? 15 : 12;
    for (uint32_t ns = 0; ns < s.n_ns; ns++)
        s.n_blocks += s.ns[ns].min == 0 ? 4 : 0;
    return s;
}

static bool do_in_turn(struct trace *t)
{
    uint32_t what = dice(t, 1000), ns = dice(t, c.shape.n_ns), key = any_key(t);
    if (what < 800)
        return put_in_turn(t, ns);
    if (what < 860) {
        for (uint32_t i = 0; i < 20; i++)
            cache_read(&c, dice(t, CACHE_LANES), ns, any_key(t));
        cache_harvest(&c);
    } else if (what < 950) {
        cache_delete(&c, ns, key);
        held[ns][key] = false;
    } else if (what < 990)
        cache_tick(&c, dice(t, t->ttl_max / 8 + 2));
    else if (what < 995)
        cache_restart(&c);
    else if (what < 997) {
        cache_reset(&c, ns);
        memset(held[ns], 0, sizeof held[ns]);
    }
    return true;
}

static bool all_held(void)
{
    for (uint32_t ns = 0; ns < c.shape.n_ns; ns++)
        for (uint32_t key = 0; key < CACHE_KEYS; key++)
            if (c.shape.ns[ns].policy == LRD_POLICY_REFUSE && held[ns][key] != (c.seen[ns][key] != 0)) {
                fprintf(stderr, "namespace %u refuses and has key %u: %d, should be %d\n", ns, key, c.seen[ns][key] != 0, held[ns][key]);
                return false;
            }
    return true;
}

static void run_in_turn(uint64_t seed)
{
    struct trace t = {.seed = seed, .state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1};
    struct cache_shape shape = any_large_shape(&t);
    uint32_t most_steps = dice(&t, 3) == 0 ? 40 : 2 + dice(&t, 3);
    t.keys = 20 + dice(&t, CACHE_KEYS - 20);
    t.skew = dice(&t, 4);
    t.value_max = dice(&t, 3) == 0 ? (1u << (shape.block_shift - 1)) - 24 : 16 + dice(&t, 500);
    t.ttl_max = dice(&t, 2) == 0 ? 0 : 100 + dice(&t, 5000);
    memset(held, 0, sizeof held);
    cache_make(&c, &shape);
    for (t.step = 0; t.step < TRACE_OPS; t.step++) {
        bool good = do_in_turn(&t) && steps(dice(&t, most_steps));
        if (!good || cache_walk(&c) != 0 || !all_held())
            ck_abort_msg("seed %llu, step %u", (unsigned long long)seed, t.step);
    }
    cache_settle(&c);
    ck_assert_uint_eq(cache_walk(&c), 0);
    for (uint32_t ns = 0; ns < shape.n_ns; ns++)
        if (shape.ns[ns].policy == LRD_POLICY_REFUSE)
            ck_assert_uint_eq(cache_counter(&c, ns, LRD_C_evicted), 0);
    cache_drop(&c);
}

START_TEST(operations_in_the_middle)
{
    const char *only = getenv("SEED");
    for (uint64_t seed = 1; only == NULL && seed <= (is_long() ? 20000u : 160u); seed++)
        run_in_turn(seed);
    if (only != NULL)
        run_in_turn(strtoull(only, NULL, 0));
}
END_TEST

/* ---- rule by rule ---- */

#define ONE(policy_) {.n_blocks = 32, .block_shift = 12, .n_pairs = 300, .n_ns = 1, .ns = {{.policy = (policy_)}}}
static const struct cache_shape evicting = ONE(LRD_POLICY_EVICT), by_age = ONE(LRD_POLICY_FIFO);

static void put(uint32_t ns, uint32_t key, uint32_t len) { ck_assert_int_eq(cache_put(&c, ns, key, len, 0), CACHE_DONE); }

/* As the writer: what is owed after each set, at most four steps of it. */
static void put_paced(uint32_t ns, uint32_t key, uint32_t len)
{
    for (uint32_t turns = 0; cache_try(&c, ns, key, len, 0) == CACHE_STUCK; turns++) {
        ck_assert_uint_lt(turns, 20000);
        cache_step(&c);
    }
    for (uint32_t i = 0; i < 4 && lrd_evict_owes(c.e) && cache_step(&c); i++) {
    }
}

static uint64_t counter(enum lrd_counter_id id) { return cache_counter(&c, 0, id); }

static void end(void)
{
    cache_settle(&c);
    ck_assert_uint_eq(cache_walk(&c), 0);
    cache_drop(&c);
}

/* Fills small with others until that key's item is in a full block that is small's oldest and room has to be made. */
static void churn(uint32_t from, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        put(0, from + i, 400);
        cache_settle(&c);
    }
}

static void read_once(uint32_t key)
{
    ck_assert(cache_read(&c, 0, 0, key));
    cache_harvest(&c);
}

START_TEST(overwritten_rows_push_nothing_out)
{
    cache_make(&c, &evicting);
    for (uint32_t key = 0; key < 200; key++)
        put(0, key, 200); /* never read, never written again: 11 blocks of 30 */
    uint64_t state = 7;
    for (uint32_t i = 0; i < 20000; i++)
        put_paced(0, 200 + (uint32_t)(cache_random(&state) % 30), 150);
    ck_assert_uint_eq(cache_walk(&c), 0);
    for (uint32_t key = 0; key < 230; key++)
        ck_assert_msg(c.seen[0][key] != 0, "row %u was lost", key);
    ck_assert_uint_eq(counter(LRD_C_evicted), 0);
    ck_assert_uint_gt(counter(LRD_C_blocks_freed), 500);
    end();
}
END_TEST

START_TEST(an_expired_block_goes_whole)
{
    cache_make(&c, &evicting);
    for (uint32_t key = 0; key < 100; key++)
        ck_assert_int_eq(cache_put(&c, 0, key, 200, c.now_ms + 50), CACHE_DONE);
    for (uint32_t i = 0; i < 10; i++)
        cache_tick(&c, 49 / 10);
    ck_assert_uint_eq(counter(LRD_C_expired), 0);
    cache_tick(&c, 100);
    ck_assert_uint_eq(counter(LRD_C_expired), 100); /* the open block too */
    ck_assert_uint_eq(counter(LRD_C_expired_bytes), 100 * cache_bytes(200));
    ck_assert_uint_eq(c.a.n_free, evicting.n_blocks);
    /* A reclaim finds them as well, before anything else, and without a look at their items. */
    uint64_t freed = counter(LRD_C_blocks_freed);
    for (uint32_t key = 0; key < 17; key++)
        ck_assert_int_eq(cache_put(&c, 0, key, 200, c.now_ms + 50), CACHE_DONE);
    c.now_ms += 100;
    for (uint32_t key = 100; counter(LRD_C_blocks_freed) == freed; key++)
        churn(key, 1);
    ck_assert_uint_eq(counter(LRD_C_expired), 117);
    ck_assert_uint_eq(counter(LRD_C_evicted), 0);
    end();
}
END_TEST

START_TEST(small_keeps_what_was_read_twice)
{
    cache_make(&c, &evicting);
    churn(0, 9); /* the first block of small */
    read_once(3);
    read_once(3);
    read_once(4);
    ck_assert_uint_eq(cache_count(&c, 0, 3), 2);
    churn(9, 9 * 40);
    ck_assert_uint_eq(cache_queue(&c, 0, 3), LRD_QUEUE_MAIN);
    ck_assert_uint_eq(cache_count(&c, 0, 3), 0);
    ck_assert(!cache_has(&c, 0, 4, NULL));
    ck_assert(!cache_has(&c, 0, 5, NULL));
    uint64_t hits = counter(LRD_C_ghost_hits);
    put(0, 4, 300);
    ck_assert_uint_eq(cache_queue(&c, 0, 4), LRD_QUEUE_MAIN);
    ck_assert_uint_eq(counter(LRD_C_ghost_hits), hits + 1);
    cache_delete(&c, 0, 4);
    put(0, 4, 300); /* it was forgotten */
    ck_assert_uint_eq(cache_queue(&c, 0, 4), LRD_QUEUE_SMALL);
    put(0, 900, 300); /* never seen */
    ck_assert_uint_eq(cache_queue(&c, 0, 900), LRD_QUEUE_SMALL);
    end();
}
END_TEST

START_TEST(the_ghost_forgets_after_a_cacheful)
{
    cache_make(&c, &evicting);
    churn(0, 9 * 32);
    ck_assert(!cache_has(&c, 0, 4, NULL));
    churn(300, 9 * 40);
    churn(700, 9 * 35);
    put(0, 4, 300);
    ck_assert_uint_eq(cache_queue(&c, 0, 4), LRD_QUEUE_SMALL);
    end();
}
END_TEST

START_TEST(main_keeps_what_was_read)
{
    cache_make(&c, &evicting);
    churn(0, 9);
    for (uint32_t i = 0; i < 2; i++)
        for (uint32_t key = 0; key < 6; key++) {
            cache_read(&c, 0, 0, key);
            if (key == 5)
                cache_harvest(&c);
        }
    churn(9, 9 * 40); /* they are in main */
    for (uint32_t key = 0; key < 6; key++)
        ck_assert_uint_eq(cache_queue(&c, 0, key), LRD_QUEUE_MAIN);
    read_once(0);
    for (uint32_t i = 0; i < 3; i++)
        read_once(1);
    ck_assert_uint_eq(cache_count(&c, 0, 1), 3);
    /* Small is kept below its part: sets of keys that it has just dropped go to main, until main's oldest block is taken. */
    uint32_t was = cache_block(&c, 0, 1);
    for (uint32_t i = 0; i < 3000 && cache_has(&c, 0, 2, NULL); i++) {
        put(0, 9 + i % 500, 400);
        cache_settle(&c);
    }
    ck_assert(!cache_has(&c, 0, 2, NULL));
    ck_assert(cache_has(&c, 0, 0, NULL) && cache_has(&c, 0, 1, NULL));
    ck_assert_uint_ne(cache_block(&c, 0, 1), was);
    ck_assert_uint_eq(cache_count(&c, 0, 0), 0);
    ck_assert_uint_eq(cache_count(&c, 0, 1), 2);
    end();
}
END_TEST

START_TEST(an_overwrite_stays_in_its_queue)
{
    cache_make(&c, &evicting);
    churn(0, 9);
    read_once(3);
    read_once(3);
    churn(9, 9 * 40);
    ck_assert_uint_eq(cache_queue(&c, 0, 3), LRD_QUEUE_MAIN);
    put(0, 3, 100);
    ck_assert_uint_eq(cache_queue(&c, 0, 3), LRD_QUEUE_MAIN);
    put(0, 9 + 9 * 40 - 1, 100);
    ck_assert_uint_eq(cache_queue(&c, 0, 9 + 9 * 40 - 1), LRD_QUEUE_SMALL);
    end();
}
END_TEST

#define COPY_PERCENT 65u

START_TEST(copying_keeps_to_its_budget)
{
    cache_make(&c, &evicting);
    uint64_t state = 3, most = 0;
    for (uint32_t i = 0; i < 4000; i++) {
        put(0, (uint32_t)(cache_random(&state) % 600), 40 + (uint32_t)(cache_random(&state) % 400));
        for (uint32_t key = 0; key < 600; key++) /* all of it is read all the time */
            cache_read(&c, 0, 0, key);
        cache_harvest(&c);
        uint64_t freed = counter(LRD_C_blocks_freed), copied = counter(LRD_C_copied_bytes), cleanings = counter(LRD_C_cleanings);
        while (counter(LRD_C_blocks_freed) == freed && cache_step(&c)) {
        }
        uint64_t n = counter(LRD_C_copied_bytes) - copied;
        if (counter(LRD_C_cleanings) == cleanings && n > most)
            most = n;
        cache_settle(&c);
    }
    ck_assert_uint_le(most, (1u << 12) * COPY_PERCENT / 100);
    ck_assert_uint_ge(most, (1u << 12) * COPY_PERCENT / 100 - 456); /* all of it is used */
    end();
}
END_TEST

START_TEST(copying_is_bounded_by_what_is_written)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct trace t = {.state = seed * 77, .keys = 100 + 15 * (uint32_t)seed, .skew = (uint32_t)seed % 5, .value_max = seed % 3 == 0 ? 2000 : 300};
        cache_make(&c, &evicting);
        for (uint32_t i = 0; i < 6000; i++) {
            for (uint32_t n = 0; n < 1 + seed % 7; n++)
                cache_read(&c, 0, 0, any_key(&t));
            if (i % 32 == 0)
                cache_harvest(&c);
            put_paced(0, any_key(&t), dice(&t, t.value_max));
        }
        /* Of each block that is given up at least the rest is room. */
        ck_assert_msg(counter(LRD_C_copied_bytes) * (100 - COPY_PERCENT) <= counter(LRD_C_appended_bytes) * COPY_PERCENT, "seed %llu: %llu bytes were written, %llu copied", (unsigned long long)seed,
                      (unsigned long long)counter(LRD_C_appended_bytes), (unsigned long long)counter(LRD_C_copied_bytes));
        end();
    }
}
END_TEST

START_TEST(fifo_keeps_nothing)
{
    cache_make(&c, &by_age);
    for (uint32_t i = 0; i < 900; i++) {
        put(0, i, 400);
        cache_settle(&c);
        for (uint32_t key = i > 100 ? i - 100 : 0; key < i; key++)
            cache_read(&c, 0, 0, key);
        cache_harvest(&c);
    }
    ck_assert_uint_eq(cache_walk(&c), 0);
    ck_assert_uint_eq(counter(LRD_C_copied) + counter(LRD_C_ghost_hits) + counter(LRD_C_cleanings), 0);
    bool there = false; /* once one is there all younger ones are */
    for (uint32_t i = 0; i < 900; i++) {
        ck_assert(!there || c.seen[0][i] != 0);
        there |= c.seen[0][i] != 0;
    }
    ck_assert(there && c.seen[0][0] == 0);
    end();
}
END_TEST

/* ---- refuse ---- */

enum order { IN_TURN, AT_RANDOM, ACROSS, N_ORDERS };

/* Overwrites at the limit, as fast as a client can while the writer makes one step where it owes four. */
static void overwrite_at_the_limit(uint32_t blocks, enum order order, uint32_t len_max, uint64_t seed)
{
    struct cache_shape shape = {.n_blocks = blocks + 2, .block_shift = 12, .n_pairs = 600, .n_ns = 2, .ns = {{0}, {.policy = LRD_POLICY_REFUSE, .min = blocks, .max = blocks}}};
    uint64_t state = seed;
    uint32_t n = 0;
    cache_make(&c, &shape);
    while (n < CACHE_KEYS && cache_try(&c, 1, n, len_max, 0) != CACHE_FULL) {
        cache_settle(&c);
        n += cache_has(&c, 1, n, NULL);
    }
    if (n < CACHE_KEYS)
        while (n > 0 && cache_capacity(&c, 1, c.largest[1]) - c.a.ns[1].live_bytes < c.largest[1])
            cache_delete(&c, 1, --n); /* an overwrite takes credit for the new before it gives back the old */
    for (uint32_t i = 0; n > 0 && i < 6000; i++) {
        uint32_t key = order == IN_TURN ? i % n : order == AT_RANDOM ? (uint32_t)(cache_random(&state) % n) : i * 8 % n + i * 8 / n % 8 % n;
        uint32_t len = order == AT_RANDOM ? (uint32_t)(cache_random(&state) % (len_max + 1)) : len_max, turns = 0;
        enum cache_result r;
        while ((r = cache_try(&c, 1, key % n, len, 0)) == CACHE_STUCK) {
            cache_step(&c);
            ck_assert_msg(++turns < 5000, "%u blocks, order %d, %u bytes, seed %llu: set %u finds no room", blocks, order, len_max, (unsigned long long)seed, i);
        }
    }
    ck_assert_uint_eq(cache_walk(&c), 0);
    for (uint32_t key = 0; key < n; key++)
        ck_assert_uint_ne(c.seen[1][key], 0);
    ck_assert_uint_eq(cache_counter(&c, 1, LRD_C_evicted), 0);
    end();
}

START_TEST(refuse_is_never_stuck)
{
    static const uint32_t lengths[] = {30, 100, 333, 700, 1300, 2000};
    for (uint32_t blocks = 4; blocks <= 24; blocks += blocks < 8 ? 1 : 8)
        for (enum order order = 0; order < N_ORDERS; order++)
            for (uint32_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
                overwrite_at_the_limit(blocks, order, lengths[i], i + 1);
}
END_TEST

/* ---- floods ---- */

START_TEST(a_flood_leaves_others_their_minimum)
{
    static const struct cache_shape shape = {.n_blocks = 32, .block_shift = 12, .n_pairs = 300, .n_ns = 3, .ns = {{0}, {.min = 8}, {.policy = LRD_POLICY_REFUSE, .min = 6, .max = 6}}};
    for (uint32_t len = 0; len <= 2000; len += 500) {
        uint64_t state = len + 1;
        cache_make(&c, &shape);
        for (uint32_t key = 0; key < 60; key++)
            put_paced(1, key, 300); /* 5 blocks */
        for (uint32_t key = 0; key < 20; key++)
            put_paced(2, key, 300);
        for (uint32_t i = 0; i < 10000; i++)
            put_paced(0, (uint32_t)(cache_random(&state) % CACHE_KEYS), (uint32_t)(cache_random(&state) % (len + 1)));
        ck_assert(len == 0 || counter(LRD_C_evicted) > 0);
        ck_assert_uint_eq(cache_counter(&c, 1, LRD_C_evicted) + cache_counter(&c, 2, LRD_C_evicted), 0);
        end();
    }
}
END_TEST

/* ---- steps are short ---- */

#define BIG {.n_blocks = 24, .block_shift = 16, .n_pairs = 2000, .n_ns = 1, .ns = {{.policy = LRD_POLICY_EVICT}}}
static const struct cache_shape big = BIG;
#define BIG_LEN ((1u << 15) - 24u) /* half a block */

struct touched {
    unsigned char *arena; /* as it was */
    uint64_t bytes, copied, freed;
};

static void look_closely(struct touched *t)
{
    t->bytes = (uint64_t)c.shape.n_blocks << c.shape.block_shift;
    if (t->arena == NULL)
        t->arena = malloc(t->bytes);
    memcpy(t->arena, c.s.arena, t->bytes);
    t->copied = counter(LRD_C_copied);
    t->freed = counter(LRD_C_blocks_freed);
}

static void one_step_is_short(struct touched *t)
{
    uint64_t changed = 0;
    look_closely(t);
    cache_step(&c);
    for (uint64_t i = 0; i < t->bytes; i += 4096) {
        if (memcmp(t->arena + i, c.s.arena + i, 4096) == 0)
            continue;
        for (uint64_t k = i; k < i + 4096; k++)
            changed += t->arena[k] != c.s.arena[k];
    }
    uint64_t copied = counter(LRD_C_copied) - t->copied;
    /* 8 KiB of values, one item that was begun below that, headers */
    ck_assert_msg(changed <= (8u << 10) + 32 * 24, "%llu bytes were written", (unsigned long long)changed);
    ck_assert_uint_le(copied, 32);
    ck_assert_uint_le(counter(LRD_C_blocks_freed) - t->freed, 1);
}

START_TEST(a_step_is_short)
{
    struct touched t = {0};
    uint64_t state = 5, long_steps = 0;
    cache_make(&c, &big);
    for (uint32_t i = 0; i < 1500; i++) {
        uint32_t key = (uint32_t)(cache_random(&state) % CACHE_KEYS), len = cache_random(&state) % 8 == 0 ? BIG_LEN : (uint32_t)(cache_random(&state) % 3000);
        while (cache_try(&c, 0, key, len, 0) == CACHE_STUCK) {
            one_step_is_short(&t);
            long_steps++;
        }
        for (uint32_t n = 0; n < 100; n++)
            cache_read(&c, 0, 0, (uint32_t)(cache_random(&state) % CACHE_KEYS));
        if (i % 16 == 0)
            cache_harvest(&c);
        if (i % 700 == 699)
            cache_reset(&c, 0);
    }
    ck_assert_uint_gt(long_steps, 100);
    ck_assert_uint_gt(counter(LRD_C_copied_bytes), 1u << 20);
    free(t.arena);
    end();
}
END_TEST

/* ---- half copied ---- */

enum event { NOTHING, OVERWRITTEN, DELETED, RESET, NEW_WORKER, RESET_AND_SET, N_EVENTS };

/* Makes small's oldest block one that begins with a large item that was read, fills the cache, and steps until that item is half copied. False: it is not so yet after n steps. */
static bool half_copied(uint32_t n)
{
    for (uint32_t key = 0; key < 2; key++)
        put(0, key, BIG_LEN - 64); /* both in one block, whichever it is */
    for (uint32_t i = 0; i < 2; i++)
        read_once(0);
    for (uint32_t key = 2; c.a.n_free > 1; key++)
        while (cache_try(&c, 0, key, 20000, 0) == CACHE_STUCK) {
        }
    for (; n > 0; n--)
        cache_step(&c);
    return c.a.held[LRD_HOLD_COPY] != LRD_NO_BLOCK;
}

/* Of the value of a key's item. */
static uint32_t length_of(uint32_t key)
{
    struct lrd_place at;
    ck_assert(cache_has(&c, 0, key, &at));
    return lrd_item_value_len(lrd_item_load(lrd_arena_item(&c.s.r, lrd_load_relaxed(&c.s.buckets[at.bucket].slot[at.idx]))));
}

static void happen(enum event event)
{
    if (event == OVERWRITTEN)
        while (cache_try(&c, 0, 0, 100, 0) == CACHE_STUCK)
            cache_step(&c);
    else if (event == DELETED)
        ck_assert(cache_delete(&c, 0, 0));
    else if (event == RESET || event == RESET_AND_SET)
        cache_reset(&c, 0);
    else if (event == NEW_WORKER)
        cache_restart(&c);
    if (event == RESET_AND_SET) {
        cache_settle(&c);
        put(0, 0, 1000);
    }
}

START_TEST(what_happens_to_a_half_copied_item)
{
    unsigned halves = 0;
    for (enum event event = NOTHING; event < N_EVENTS; event++)
        for (uint32_t n = 1; n < 40; n++) {
            cache_make(&c, &big);
            if (half_copied(n)) {
                halves++;
                uint64_t copied = counter(LRD_C_copied);
                happen(event);
                ck_assert_uint_eq(cache_walk(&c), 0);
                if (event == NOTHING || event == OVERWRITTEN || event == DELETED || event == RESET)
                    cache_settle(&c);
                if (event == NOTHING) {
                    ck_assert_uint_eq(counter(LRD_C_copied), copied + 1);
                    ck_assert_uint_eq(cache_queue(&c, 0, 0), LRD_QUEUE_MAIN);
                }
                ck_assert(cache_has(&c, 0, 0, NULL) == (event != DELETED && event != RESET));
                if (event == OVERWRITTEN)
                    ck_assert_uint_eq(length_of(0), 100);
                if (event == RESET)
                    ck_assert_uint_eq(c.a.n_free, big.n_blocks);
            }
            end();
        }
    ck_assert_uint_ge(halves, N_EVENTS * 2);
}
END_TEST

/* ---- a new worker ---- */

#define NEW_WORKER_EACH 43u /* steps: enough for one that is left alone to get on */

/* At every step of some reclaims somebody else goes on: nothing is lost but what its policy may lose, nothing counted twice. */
static void new_worker_after(const struct cache_shape *shape, uint32_t n)
{
    uint64_t state = n + 1;
    uint32_t keys = 0, made = 0;
    cache_make(&c, shape);
    for (uint32_t i = 0; i < 5000; i++) {
        uint32_t key = (uint32_t)(cache_random(&state) % 60), turns = 0;
        enum cache_result r;
        while ((r = cache_try(&c, 0, key, 100 + key * 8, 0)) == CACHE_STUCK) {
            ck_assert_uint_lt(turns++, 5000);
            cache_step(&c);
            if (made++ % NEW_WORKER_EACH == n)
                cache_restart(&c);
        }
        if (r == CACHE_DONE)
            held[0][key] = true;
    }
    ck_assert_uint_eq(cache_walk(&c), 0);
    for (uint32_t key = 0; key < 60; key++) {
        keys += held[0][key];
        ck_assert(c.shape.ns[0].policy != LRD_POLICY_REFUSE || held[0][key] == (c.seen[0][key] != 0));
    }
    ck_assert_uint_gt(keys, 10);
    ck_assert_uint_gt(made, NEW_WORKER_EACH);
    memset(held, 0, sizeof held);
    end();
}

START_TEST(a_new_worker_goes_on)
{
    static const struct cache_shape refusing = {.n_blocks = 14, .block_shift = 12, .n_pairs = 300, .n_ns = 1, .ns = {{.policy = LRD_POLICY_REFUSE, .min = 12, .max = 12}}};
    static const struct cache_shape small = {.n_blocks = 10, .block_shift = 12, .n_pairs = 300, .n_ns = 1, .ns = {{.policy = LRD_POLICY_EVICT}}};
    for (uint32_t n = 0; n < NEW_WORKER_EACH; n++) {
        new_worker_after(&refusing, n);
        new_worker_after(&small, n);
    }
}
END_TEST

/* ---- harvest ---- */

START_TEST(marks_of_several_lanes_count_once_a_round)
{
    cache_make(&c, &evicting);
    churn(0, 9);
    for (uint32_t lane = 0; lane < CACHE_LANES - 1; lane++)
        cache_read(&c, lane, 0, 3);
    cache_read(&c, 0, 0, 3);
    cache_harvest(&c);
    ck_assert_uint_eq(cache_count(&c, 0, 3), 1);
    cache_harvest(&c); /* they were taken */
    ck_assert_uint_eq(cache_count(&c, 0, 3), 1);
    for (uint32_t i = 0; i < 5; i++)
        read_once(3);
    ck_assert_uint_eq(cache_count(&c, 0, 3), 3);
    for (uint32_t key = 0; key < 9; key++)
        ck_assert_uint_eq(cache_count(&c, 0, key), key == 3 ? 3 : 0);
    end();
}
END_TEST

START_TEST(samples_count)
{
    cache_make(&c, &evicting);
    churn(0, 9);
    cache_read(&c, CACHE_LANES - 1, 0, 3);
    cache_harvest(&c);
    ck_assert_uint_eq(cache_count(&c, 0, 3), 1);
    cache_harvest(&c);
    cache_harvest(&c);
    ck_assert_uint_eq(cache_count(&c, 0, 4), 0);
    end();
}
END_TEST

START_TEST(a_harvest_keeps_to_its_budget)
{
    static const struct cache_shape wide = {.n_blocks = 24, .block_shift = 12, .n_pairs = 40000, .n_ns = 1, .ns = {{.policy = LRD_POLICY_EVICT}}};
    cache_make(&c, &wide);
    ck_assert(!lrd_evict_harvest(c.e, c.rings, CACHE_LANES, 5)); /* no round is due */
    uint64_t now_ns = UINT64_C(20000000000);
    unsigned pieces = 0, waits = 0;
    memset(c.ring[0].marks, 0xfe, 80000);
    while (counter(LRD_C_harvests) == 0) {
        if (lrd_evict_harvest(c.e, c.rings, CACHE_LANES, now_ns)) {
            pieces++;
            waits += !lrd_evict_harvest(c.e, c.rings, CACHE_LANES, now_ns + 1); /* nine times as long as it took */
        }
        now_ns += 1000000;
        ck_assert_uint_lt(now_ns, UINT64_C(100000000000));
    }
    ck_assert_uint_ge(pieces, 80000 / (8192 / 3) - 1); /* 8 KiB of all maps together in each */
    ck_assert_uint_ge(waits + 1, pieces);
    ck_assert_uint_eq(counter(LRD_C_marks), 80000 * 7);
    for (uint32_t i = 0; i < 80000; i++)
        ck_assert_uint_eq(c.ring[0].marks[i], 0);
    now_ns += 1000000; /* the next is due in ten seconds, or a sixteenth of a turnover */
    ck_assert(!lrd_evict_harvest(c.e, c.rings, CACHE_LANES, now_ns));
    for (uint32_t key = 0; key < 16; key++)
        put(0, key, 400);
    ck_assert(lrd_evict_harvest(c.e, c.rings, CACHE_LANES, now_ns));
    end();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("evict");
    TCase *model = tcase_create("model");
    tcase_set_timeout(model, 120);
    tcase_add_test(model, as_the_model_says);
    suite_add_tcase(s, model);
    TCase *middle = tcase_create("middle");
    tcase_set_timeout(middle, 120);
    tcase_add_test(middle, operations_in_the_middle);
    suite_add_tcase(s, middle);
    TCase *rules = tcase_create("rules");
    tcase_set_timeout(rules, 120);
    tcase_add_test(rules, overwritten_rows_push_nothing_out);
    tcase_add_test(rules, an_expired_block_goes_whole);
    tcase_add_test(rules, small_keeps_what_was_read_twice);
    tcase_add_test(rules, the_ghost_forgets_after_a_cacheful);
    tcase_add_test(rules, main_keeps_what_was_read);
    tcase_add_test(rules, an_overwrite_stays_in_its_queue);
    tcase_add_test(rules, copying_keeps_to_its_budget);
    tcase_add_test(rules, copying_is_bounded_by_what_is_written);
    tcase_add_test(rules, fifo_keeps_nothing);
    tcase_add_test(rules, refuse_is_never_stuck);
    tcase_add_test(rules, a_flood_leaves_others_their_minimum);
    tcase_add_test(rules, a_step_is_short);
    tcase_add_test(rules, what_happens_to_a_half_copied_item);
    tcase_add_test(rules, a_new_worker_goes_on);
    tcase_add_test(rules, marks_of_several_lanes_count_once_a_round);
    tcase_add_test(rules, samples_count);
    tcase_add_test(rules, a_harvest_keeps_to_its_budget);
    suite_add_tcase(s, rules);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
