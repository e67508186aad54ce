/* Leaderboard: a cache of rows of one size, all of which fit. Most are overwritten again and again, a tenth are neither written nor read. Whatever the daemon reclaims,
 * no row may go: not the one that nobody asks for, either.
 *
 *   rows      0 .. items - 1, loaded first; those whose number ends in 9 rest. Then the others are overwritten until every block has been used
 *   readers   get rows by popularity, each get between two stamps; between gets they do nothing but stamp: that is the control
 *   writer    overwrites rows by popularity, as many bytes a second as it is told, and notes what it wrote last
 *   the end   every row is read once more: it must be there, and be the last that was written */
#include "tools/bench.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RATE_BYTES 40e6 /* of keys and values, a second */
#define GETS_A_SECOND 100e3
#define GROUP 10u /* one row of so many rests */
#define NAP_US 200u
#define FLUSH_MS 60000u
#define WARM_S 20u
#define WARM_RUN 1024u
#define WARM_STREAM 1000u /* of random keys: no worker's */
#define MEMORY (UINT64_C(1) << 30)

enum count { GETS, MISSES, WRONG, SETS, FAILED };
enum { GET, CONTROL };

static lrd_u32 *versions; /* of each row, what was written last; shared by all processes */

void bench_rows_size(const struct bench *b, struct bench_daemon_size *size)
{
    size->average_item = BENCH_KEY + b->o.value_size;
    size->memory = MEMORY;
}

static uint64_t busy_row(struct bench_keys *k)
{
    uint64_t n = bench_keys_id(k);
    return n / (GROUP - 1) * GROUP + n % (GROUP - 1);
}

static uint64_t busy_rows(uint64_t items) { return items - items / GROUP; }

static double row_bytes(const struct bench *b) { return (double)(BENCH_KEY + b->o.value_size); }

/* ---- readers ---- */

static void check_row(struct bench_worker *w, uint64_t id, int result, size_t size)
{
    uint64_t *count = w->result->count;
    if (result != 0)
        count[MISSES]++;
    else if (size != w->b->o.value_size || !bench_value_good(w->value, size, id))
        count[WRONG]++;
}

/* Stamps until the time has come; the time of the last one. */
static uint64_t control_until(struct bench_stamps *s, uint64_t last, uint64_t due)
{
    uint64_t first = last;
    do {
        uint64_t now = bench_stamp();
        lrd_histogram_record(&s->ticks, now - last);
        bench_gap(s, now - last);
        last = now;
    } while (last < due);
    s->total_ticks += last - first;
    return last;
}

static void read_rows(struct bench_worker *w, double gets_a_second, uint64_t end_ns)
{
    const struct bench_clock *c = &w->b->clock;
    struct bench_stamps *get = &w->result->side[GET].stamps, *control = &w->result->side[CONTROL].stamps;
    double step = gets_a_second > 0 ? 1e9 / gets_a_second / c->ns_per_tick : 0;
    double due = (double)bench_stamp();
    struct bench_key key;
    bench_stamps_init(get, c);
    bench_stamps_init(control, c);
    while (lrd_clock_ns() < end_ns) {
        bench_key_make(&key, busy_row(&w->keys), w->keys.hash_seed);
        size_t size = 0;
        due += step;
        control_until(control, bench_stamp(), (uint64_t)due);
        uint64_t begin = bench_stamp();
        int r = larder_get(w->target->ns, key.bytes, BENCH_KEY, w->value, w->b->o.value_size, &size);
        uint64_t end = bench_stamp();
        lrd_histogram_record(&get->ticks, end - begin);
        bench_gap(get, end - begin);
        get->total_ticks += end - begin;
        w->result->count[GETS]++;
        check_row(w, key.id, r, size);
    }
}

/* ---- the writer ---- */

static void overwrite(struct bench_worker *w, struct bench_target *t)
{
    struct bench_key key;
    bench_key_make(&key, busy_row(&w->keys), w->keys.hash_seed);
    uint32_t version = (lrd_load32_relaxed(&versions[key.id]) + 1) & BENCH_VERSION_MASK; /* only this process writes */
    bench_value_fill(w->value, w->b->o.value_size, key.id, version);
    if (bench_set(t, &key, w->value, w->b->o.value_size) == 0) {
        lrd_store32_relaxed(&versions[key.id], version);
        w->result->count[SETS]++;
    } else
        w->result->count[FAILED]++;
}

static void write_rows(struct bench_worker *w, double sets_a_second, uint64_t end_ns)
{
    struct bench_target t = *w->target;
    uint64_t begin_ns = lrd_clock_ns(), now_ns;
    while ((now_ns = lrd_clock_ns()) < end_ns) {
        if (sets_a_second > 0 && (double)w->result->count[SETS] >= (double)(now_ns - begin_ns) / 1e9 * sets_a_second)
            usleep(NAP_US);
        else
            overwrite(w, &t);
    }
    if (larder_flush(t.larder, FLUSH_MS) != 0)
        w->result->status = bench_error(BENCH_FAILURE, "the daemon did not apply all sets");
}

static void work(struct bench_worker *w)
{
    const struct bench_options *o = &w->b->o;
    unsigned n_readers = o->processes;
    double sets = o->rate < 0 ? RATE_BYTES / row_bytes(w->b) : o->rate, gets = o->get_rate < 0 ? GETS_A_SECOND : o->get_rate;
    uint64_t end_ns = lrd_load_relaxed(&w->b->shared->go_ns) + (uint64_t)(o->seconds * 1e9); /* stored before go */
    if (w->number < n_readers)
        read_rows(w, gets / n_readers, end_ns);
    else
        write_rows(w, sets, end_ns);
}

/* ---- before ---- */

/* Overwrites until every block has been in use once: what a worker's RSS counts of the segment is what it has touched. */
static enum bench_status warm_up(struct bench *b)
{
    struct bench_target t;
    struct bench_result *result = bench_alloc(1, sizeof *result);
    struct bench_worker w = {.b = b, .target = &t, .result = result};
    enum bench_status status = bench_target_open(&t, b);
    if (status != BENCH_OK) {
        free(result);
        return status;
    }
    w.value = bench_alloc(1, b->o.value_size + LRD_LINE);
    bench_keys_init(&w.keys, &b->o, busy_rows(b->o.items), t.r.hash_seed, WARM_STREAM);
    uint64_t end_ns = lrd_clock_ns() + WARM_S * UINT64_C(1000000000);
    while (bench_counter(&t, LRD_C_blocks_opened) < t.r.n_blocks + t.r.n_blocks / 8 && lrd_clock_ns() < end_ns)
        for (unsigned i = 0; i < WARM_RUN; i++)
            overwrite(&w, &t);
    if (larder_flush(t.larder, FLUSH_MS) != 0 || result->count[FAILED] > 0)
        status = bench_error(BENCH_FAILURE, "cannot overwrite the rows");
    free(w.value);
    free(result);
    bench_target_close(&t);
    return status;
}

/* ---- the end ---- */

struct found {
    uint64_t lost, wrong, old, lost_resting;
};

static enum bench_status read_all(const struct bench *b, struct found *f)
{
    struct bench_target t;
    struct bench_key key;
    enum bench_status status = bench_target_open(&t, b);
    if (status != BENCH_OK)
        return status;
    unsigned char *value = bench_alloc(1, b->o.value_size + LRD_LINE);
    for (uint64_t id = 0; id < b->o.items; id++) {
        size_t size = 0;
        bench_key_make(&key, id, t.r.hash_seed);
        if (larder_get(t.ns, key.bytes, BENCH_KEY, value, b->o.value_size, &size) != 0) {
            f->lost++;
            f->lost_resting += id % GROUP == GROUP - 1;
        } else if (size != b->o.value_size || !bench_value_good(value, size, id))
            f->wrong++;
        else
            f->old += bench_value_version(value) != lrd_load32_relaxed(&versions[id]); /* nobody writes any more */
    }
    free(value);
    bench_target_close(&t);
    return BENCH_OK;
}

static double gaps_a_second(const struct bench *b, const struct bench_stamps *s)
{
    double seconds = (double)s->total_ticks * b->clock.ns_per_tick / 1e9;
    return seconds > 0 ? (double)s->gaps_20us / seconds : 0;
}

static void say_latency(const struct bench *b, const struct bench_result *results, unsigned n)
{
    struct bench_stamps *get = bench_alloc(1, sizeof *get), *control = bench_alloc(1, sizeof *control);
    bench_side_stamps(results, n, GET, get);
    bench_side_stamps(results, n, CONTROL, control);
    bench_distribution(b->report, "leaderboard: get", &b->clock, get, 1);
    bench_distribution(b->report, "leaderboard: control", &b->clock, control, 1);
    bench_figure(b->report, "leaderboard: gets, gaps >= 20 us a second of gets", gaps_a_second(b, get), "/s");
    bench_figure(b->report, "leaderboard: control, gaps >= 20 us a second of it", gaps_a_second(b, control), "/s");
    bench_figure(b->report, "leaderboard: gets >= 20 us", (double)get->gaps_20us, "");
    double expected = gaps_a_second(b, control) * (double)get->total_ticks * b->clock.ns_per_tick / 1e9;
    bench_figure(b->report, "leaderboard: of these, as many as the control has in their time", expected, "");
    free(get);
    free(control);
}

static void say(const struct bench *b, const struct bench_result *results, const struct found *f, const struct bench_sight *before, const struct bench_sight *after)
{
    const struct bench_result *writer = &results[b->o.processes];
    uint64_t gets = 0, misses = 0;
    double seconds = writer->wall_s;
    for (unsigned i = 0; i < b->o.processes; i++) {
        gets += results[i].count[GETS];
        misses += results[i].count[MISSES];
    }
    bench_figure(b->report, "leaderboard: rows", (double)b->o.items, "");
    bench_figure(b->report, "leaderboard: rows that rest", (double)(b->o.items / GROUP), "");
    bench_figure(b->report, "leaderboard: gets", (double)gets / seconds / 1e3, "k/s");
    bench_figure(b->report, "leaderboard: overwritten", (double)writer->count[SETS] * row_bytes(b) / seconds / 1e6, "MB/s");
    bench_figure_most(b->report, "leaderboard: misses meanwhile", (double)misses, "", 0);
    bench_figure_most(b->report, "leaderboard: rows lost", (double)f->lost, "", 0);
    bench_figure(b->report, "leaderboard: rows lost of those that rest", (double)f->lost_resting, "");
    bench_figure_most(b->report, "leaderboard: rows wrong", (double)f->wrong, "", 0);
    bench_figure_most(b->report, "leaderboard: rows older than what was written", (double)f->old, "", 0);
    bench_figure(b->report, "leaderboard: live bytes at the start", (double)before->live_bytes, "B");
    bench_figure(b->report, "leaderboard: live bytes at the end", (double)after->live_bytes, "B");
    if (before->rss_bytes > 0 && after->rss_bytes > 0) {
        bench_figure(b->report, "leaderboard: RSS of the daemon at the start", (double)before->rss_bytes / 1e6, "MB");
        bench_figure_most(b->report, "leaderboard: growth of the daemon's RSS", 100 * ((double)after->rss_bytes / (double)before->rss_bytes - 1), "%", 1);
        bench_figure(b->report, "leaderboard: growth of its private memory", ((double)after->private_bytes - (double)before->private_bytes) / 1024, "KiB");
    }
    say_latency(b, results, b->o.processes);
    bench_say_counters(b, "leaderboard", before, after);
    bench_say_pauses(b, "leaderboard", before, after);
}

/* What must not be, in order of how bad it is. */
static enum bench_status judge(const struct bench *b, const struct bench_result *results, const struct found *f, const struct bench_sight *before,
                               const struct bench_sight *after)
{
    uint64_t wrong = f->wrong + f->old, misses = 0;
    for (unsigned i = 0; i < b->o.processes; i++) {
        wrong += results[i].count[WRONG];
        misses += results[i].count[MISSES];
    }
    if (wrong > 0)
        return bench_error(BENCH_WRONG, "%llu times a row was not what was set last", (unsigned long long)wrong);
    if (f->lost > 0 || misses > 0)
        return bench_error(BENCH_FAILURE, "%llu of %llu rows are lost, and %llu gets have missed", (unsigned long long)f->lost, (unsigned long long)b->o.items,
                           (unsigned long long)misses);
    if (results[b->o.processes].count[FAILED] > 0)
        return bench_error(BENCH_FAILURE, "%llu sets failed", (unsigned long long)results[b->o.processes].count[FAILED]);
    if (before->live_bytes != after->live_bytes || before->live_items != after->live_items)
        return bench_error(BENCH_FAILURE, "the segment counts %llu live bytes, and counted %llu", (unsigned long long)after->live_bytes, (unsigned long long)before->live_bytes);
    return BENCH_OK;
}

/* ---- the mode ---- */

static enum bench_status run(struct bench *b, struct bench_sight *before, struct bench_sight *after)
{
    struct bench_result *results;
    struct found found = {0};
    unsigned n = b->o.processes + 1;
    enum bench_status status = warm_up(b);
    if (status == BENCH_OK)
        status = bench_look(b, before);
    if (status != BENCH_OK)
        return status;
    status = bench_crew_run(b, n, 1, busy_rows(b->o.items), work, &results);
    if (status == BENCH_OK)
        status = bench_look(b, after);
    if (status == BENCH_OK)
        status = read_all(b, &found);
    if (status == BENCH_OK) {
        say(b, results, &found, before, after);
        bench_report_finish(b->report);
        status = judge(b, results, &found, before, after);
    }
    bench_crew_free(results, n);
    return status;
}

enum bench_status bench_rows(struct bench *b)
{
    size_t bytes = b->o.items * sizeof *versions;
    if (b->o.value_size < sizeof(uint64_t))
        return bench_error(BENCH_USAGE, "rows have values of 8 bytes at least");
    versions = bench_share(bytes);
    if (b->o.skew <= 0)
        b->o.skew = 0.99;
    pid_t idle = 0;
    struct bench_sight *sights = bench_alloc(2, sizeof *sights);
    enum bench_status status = bench_idle_start(b, &idle);
    if (status == BENCH_OK)
        status = run(b, &sights[0], &sights[1]);
    bench_idle_stop(idle);
    free(sights);
    bench_unshare((void *)versions, bytes);
    return status;
}
