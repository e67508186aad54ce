/* Gets: throughput, latency, in batches, of hot keys, with some sets among them. */
#include "tools/bench.h"

#include <math.h>
#include <stdlib.h>

#define SETS_AHEAD 64u /* ids of the oldest items are taken so many at a time */
#define HOT_ITEMS 1000u

/* ---- contenders ---- */

static inline size_t get_one(struct bench_worker *w, const struct bench_key *key)
{
    size_t size;
    return larder_get(w->target->ns, key->bytes, BENCH_KEY, w->value, w->b->o.value_size, &size) == 0;
}

static void verify(struct bench_worker *w, const unsigned char *value, uint64_t id, unsigned side)
{
    if (!bench_value_good(value, w->b->o.value_size, id))
        w->result->side[side].wrong++;
}

static size_t get_plain(struct bench_worker *w, size_t n)
{
    size_t hits = 0;
    bool check = w->b->o.verify;
    for (size_t i = 0; i < n; i++) {
        size_t hit = get_one(w, &w->chunk[i]);
        hits += hit;
        if (lrd_unlikely(check) && hit)
            verify(w, w->value, w->chunk[i].id, 1);
    }
    return hits;
}

static size_t get_stamped(struct bench_worker *w, struct bench_stamps *s, size_t n)
{
    size_t hits = 0;
    uint64_t last = bench_stamp();
    for (size_t i = 0; i < n; i++) {
        const struct bench_key key = w->chunk[i]; /* in the nearest cache before the clock is read */
        uint64_t begin = bench_stamp();
        hits += get_one(w, &key);
        uint64_t end = bench_stamp();
        bench_note(s, last, begin, end);
        last = end;
    }
    return hits;
}

static size_t hot_stamped(struct bench_worker *w, struct bench_stamps *s, size_t n)
{
    size_t hits = 0;
    uint64_t last = bench_stamp();
    for (size_t i = 0; i + BENCH_GROUP <= n; i += BENCH_GROUP) {
        uint64_t begin = bench_stamp();
        for (size_t j = 0; j < BENCH_GROUP; j++)
            hits += get_one(w, &w->chunk[i + j]);
        uint64_t end = bench_stamp();
        bench_note(s, last, begin, end);
        last = end;
    }
    return hits;
}

static size_t get_batch(struct bench_worker *w, const struct bench_key *keys, size_t n)
{
    size_t hits = 0;
    for (size_t i = 0; i < n; i++)
        w->many.keys[i].data = keys[i].bytes;
    larder_get_many(w->target->ns, w->many.keys, w->many.items, n, &hits);
    if (lrd_unlikely(w->b->o.verify))
        for (size_t i = 0; i < n; i++)
            if (w->many.items[i].result == 0)
                verify(w, w->many.items[i].buffer, keys[i].id, 1);
    return hits;
}

static size_t many_plain(struct bench_worker *w, size_t n)
{
    size_t hits = 0, size = w->b->o.batch;
    for (size_t i = 0; i < n; i += size)
        hits += get_batch(w, &w->chunk[i], n - i < size ? n - i : size);
    return hits;
}

/* ---- with sets among them ---- */

/* The next of the oldest items. result->count[0]: its id; [1]: how many more this worker may take before it asks again. */
static void set_oldest(struct bench_worker *w)
{
    uint64_t *id = &w->result->count[0], *left = &w->result->count[1];
    struct bench_key key;
    unsigned char *value = w->many.values; /* not what gets copy to */
    if (*left == 0) {
        *id = lrd_fetch_add_relaxed(&w->b->shared->oldest, SETS_AHEAD); /* only a number */
        *left = SETS_AHEAD;
    }
    uint64_t next = (*id)++ % w->b->o.items;
    --*left;
    bench_key_make(&key, next, w->keys.hash_seed);
    bench_value_fill(value, w->b->o.value_size, next, ++w->version);
    struct bench_target t = *w->target;
    w->result->side[1].wrong += bench_set(&t, &key, value, w->b->o.value_size) != 0;
}

/* Whether the operation of that key is a set: by other bits of its hash than the table uses. */
static inline bool is_set(const struct bench_worker *w, const struct bench_key *key)
{
    return (double)(bench_mix(key->hash + w->keys.counter) >> 11) * 0x1p-53 < w->b->o.set_share;
}

static size_t mixed_plain(struct bench_worker *w, size_t n)
{
    size_t hits = 0, sets = 0;
    for (size_t i = 0; i < n; i++)
        if (is_set(w, &w->chunk[i])) {
            set_oldest(w);
            sets++;
        } else
            hits += get_one(w, &w->chunk[i]);
    w->result->count[2] += sets;
    return hits + sets;
}

static size_t mixed_stamped(struct bench_worker *w, struct bench_stamps *s, size_t n)
{
    size_t hits = 0;
    uint64_t last = bench_stamp();
    for (size_t i = 0; i < n; i++) {
        const struct bench_key key = w->chunk[i];
        if (is_set(w, &key)) {
            set_oldest(w);
            hits++;
            last = bench_stamp(); /* the set's time is the set's */
            continue;
        }
        uint64_t begin = bench_stamp();
        hits += get_one(w, &key);
        uint64_t end = bench_stamp();
        bench_note(s, last, begin, end);
        last = end;
    }
    return hits;
}

/* ---- what they say ----
 *
 * Operations a second are by the clock on the wall; the mean of one is the thread's own time, which is the same on a quiet machine and lets others be busy on another. */

enum { FLOOR, GET, CONTROL, SINGLE = 2 };

static void get_work(struct bench_worker *w)
{
    const struct bench_contender c[] = {{bench_floor_one.plain, NULL, 1}, {get_plain, NULL, 1}};
    bench_duel(w, c, 2);
}

static void latency_work(struct bench_worker *w)
{
    const struct bench_contender c[] = {{NULL, bench_floor_one.stamped, 1}, {NULL, get_stamped, 1}, bench_control};
    bench_duel(w, c, 3);
}

static void mixed_work(struct bench_worker *w)
{
    const struct bench_contender c[] = {{NULL, bench_floor_one.stamped, 1}, {mixed_plain, mixed_stamped, 1}, bench_control};
    bench_duel(w, c, 3);
    larder_flush(w->target->larder, 10000);
}

static void many_work(struct bench_worker *w)
{
    const struct bench_contender c[] = {bench_floor_batch, {many_plain, NULL, 1}, {get_plain, NULL, 1}};
    bench_duel(w, c, 3);
}

static void hot_work(struct bench_worker *w)
{
    const struct bench_contender c[] = {bench_floor_hot, {get_plain, hot_stamped, BENCH_GROUP}};
    bench_duel(w, c, 2);
}

static void report_hits(const struct bench *b, const char *name, const struct bench_result *results, unsigned n)
{
    uint64_t ops = 0, hits = 0;
    for (unsigned i = 0; i < n; i++) {
        ops += results[i].side[GET].ops;
        hits += results[i].side[GET].hits;
    }
    bench_figure(b->report, name, ops > 0 ? 100 * (double)hits / (double)ops : 0, "%");
}

static double gap_rate(const struct bench *b, const struct bench_stamps *s, uint64_t gaps)
{
    double seconds = (double)s->total_ticks * b->clock.ns_per_tick / 1e9;
    return seconds > 0 ? (double)gaps / seconds : (double)NAN;
}

struct latency_names {
    const char *floor, *op, *control;
    const char *p50, *p99, *p999, *gaps_1us, *gaps_20us, *control_1us, *control_20us;
};

static void report_latency(const struct bench *b, const struct bench_result *results, unsigned n, const struct latency_names *names)
{
    struct bench_stamps *s = bench_alloc(1, sizeof *s);
    struct bench_report *r = b->report;
    bool large = b->o.items > 2000000;
    bench_side_stamps(results, n, FLOOR, s);
    bench_distribution(r, names->floor, &b->clock, s, 1);
    bench_side_stamps(results, n, CONTROL, s);
    bench_distribution(r, names->control, &b->clock, s, 1);
    double control_1us = gap_rate(b, s, s->gaps_1us), control_20us = gap_rate(b, s, s->gaps_20us);
    bench_side_stamps(results, n, GET, s);
    bench_distribution(r, names->op, &b->clock, s, 1);
    bench_figure_most(r, names->p50, bench_side_median(results, n, GET, BENCH_P50_NS) / bench_side_median(results, n, FLOOR, BENCH_P50_NS), "x",
                      large ? 1.45 : 1.3);
    bench_figure_most(r, names->p99, bench_side_median(results, n, GET, BENCH_P99_NS) / bench_side_median(results, n, FLOOR, BENCH_P99_NS), "x", 1.6);
    bench_figure_most(r, names->p999, bench_side_median(results, n, GET, BENCH_P999_NS) / bench_side_median(results, n, FLOOR, BENCH_P999_NS), "x", 1.6);
    bench_figure(r, names->control_1us, control_1us, "/s");
    bench_figure(r, names->gaps_1us, gap_rate(b, s, s->gaps_1us), "/s");
    bench_figure(r, names->control_20us, control_20us, "/s");
    bench_figure_most(r, names->gaps_20us, gap_rate(b, s, s->gaps_20us), "/s", control_20us * 1.25 + 1);
    free(s);
}

/* ---- modes ---- */

/* Runs work on every worker and lets say report what came out. */
static enum bench_status run(struct bench *b, uint64_t n_items, bench_work *work, void (*say)(const struct bench *, const struct bench_result *, unsigned),
                             const char *hits)
{
    struct bench_result *results;
    unsigned n = b->o.processes * b->o.threads;
    enum bench_status status = bench_crew_run(b, b->o.processes, b->o.threads, n_items, work, &results);
    if (status == BENCH_OK) {
        say(b, results, n);
        report_hits(b, hits, results, n);
    } else if (status == BENCH_WRONG)
        bench_error(status, "a get returned something that was not set");
    bench_crew_free(results, n);
    return status;
}

static void say_get(const struct bench *b, const struct bench_result *results, unsigned n)
{
    double get = bench_side_median(results, n, GET, BENCH_CPU_NS), floor = bench_side_median(results, n, FLOOR, BENCH_CPU_NS);
    bench_figure(b->report, "gets", bench_side_rate(results, n, GET) / 1e6, "M/s");
    bench_figure(b->report, "get, mean", get, "ns");
    bench_figure(b->report, "floor, mean", floor, "ns");
    bench_figure_most(b->report, "get / floor, mean", get / floor, "x", 0.5);
}

static void say_latency(const struct bench *b, const struct bench_result *results, unsigned n)
{
    static const struct latency_names names = {
        "floor", "get", "control", "get / floor, p50", "get / floor, p99", "get / floor, p99.9",
        "get, gaps >= 1 us", "get, gaps >= 20 us", "control, gaps >= 1 us", "control, gaps >= 20 us"};
    report_latency(b, results, n, &names);
}

static void say_mixed(const struct bench *b, const struct bench_result *results, unsigned n)
{
    static const struct latency_names names = {
        "mixed: floor", "mixed: get", "mixed: control", "mixed: get / floor, p50", "mixed: get / floor, p99", "mixed: get / floor, p99.9",
        "mixed: get, gaps >= 1 us", "mixed: get, gaps >= 20 us", "mixed: control, gaps >= 1 us", "mixed: control, gaps >= 20 us"};
    bench_figure(b->report, "mixed: operations", bench_side_rate(results, n, GET) / 1e6, "M/s");
    bench_figure(b->report, "mixed: operation, mean", bench_side_median(results, n, GET, BENCH_CPU_NS), "ns");
    report_latency(b, results, n, &names);
}

static void say_many(const struct bench *b, const struct bench_result *results, unsigned n)
{
    double many = bench_side_median(results, n, GET, BENCH_CPU_NS), floor = bench_side_median(results, n, FLOOR, BENCH_CPU_NS);
    double single = bench_side_median(results, n, SINGLE, BENCH_CPU_NS);
    bench_figure(b->report, "get-many", bench_side_rate(results, n, GET) / 1e6, "M/s");
    bench_figure(b->report, "get-many, per item", many, "ns");
    bench_figure(b->report, "floor in batches, per item", floor, "ns");
    bench_figure_most(b->report, "get-many / floor in batches", many / floor, "x", 2.3);
    bench_figure_least(b->report, "get / get-many, mean", single / many, "x", 2.5);
}

static void say_hot(const struct bench *b, const struct bench_result *results, unsigned n)
{
    struct bench_stamps *s = bench_alloc(1, sizeof *s);
    bench_side_stamps(results, n, FLOOR, s);
    bench_distribution(b->report, "hot: floor, by 16", &b->clock, s, BENCH_GROUP);
    bench_side_stamps(results, n, GET, s);
    bench_distribution(b->report, "hot: get, by 16", &b->clock, s, BENCH_GROUP);
    bench_figure(b->report, "hot: get, mean", bench_side_median(results, n, GET, BENCH_CPU_NS), "ns");
    bench_figure_most(b->report, "hot: get, p50", bench_side_median(results, n, GET, BENCH_P50_NS), "ns", 31);
    free(s);
}

enum bench_status bench_get(struct bench *b) { return run(b, b->o.items, get_work, say_get, "get: hits"); }
enum bench_status bench_latency(struct bench *b) { return run(b, b->o.items, latency_work, say_latency, "latency: hits"); }
enum bench_status bench_mixed(struct bench *b) { return run(b, b->o.items, mixed_work, say_mixed, "mixed: hits"); }
enum bench_status bench_get_many(struct bench *b) { return run(b, b->o.items, many_work, say_many, "get-many: hits"); }
enum bench_status bench_hot(struct bench *b) { return run(b, b->o.items < HOT_ITEMS ? b->o.items : HOT_ITEMS, hot_work, say_hot, "hot: hits"); }
