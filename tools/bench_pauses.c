/* Pauses: of the writer, while everything happens at once. One process sets at full speed, half of it with times to live of some milliseconds, more than fits, and a
 * part of it into a namespace that the clock resets; it gets as well, so that there are marks to harvest. Another only looks at the clock, on the same CPU: what hits the
 * machine hits it too. Both tell their own time from that which another thread has had. */
#include "tools/bench.h"

#include <stdlib.h>

#define TIMED "timed"
#define RESET_MS 16u
#define MEMORY (UINT64_C(256) << 20)
#define RUN 64u
#define SHORT_MS 5u  /* times to live: from this */
#define SPREAD_MS 500u /* and up to this more */
#define FLUSH_MS 60000u

enum count { SETS, FAILED, GETS, HITS };

static struct bench_control *control; /* shared by all processes: the result of one */

void bench_pauses_size(const struct bench *b, struct bench_daemon_size *size)
{
    size->average_item = BENCH_KEY + b->o.value_size;
    size->memory = MEMORY;
}

/* ---- everything at once ---- */

static void set_one(struct bench_worker *w, struct larder_ns *ns, uint64_t id, int64_t ttl_ms)
{
    const struct larder_set_options options = {.size = sizeof options, .ttl_ms = ttl_ms};
    struct bench_key key;
    int r;
    bench_key_make(&key, id, w->keys.hash_seed);
    bench_value_fill(w->value, w->b->o.value_size, id, 0);
    do
        r = larder_set(ns, key.bytes, BENCH_KEY, w->value, w->b->o.value_size, &options, NULL);
    while (r == LARDER_BUSY);
    w->result->count[r == 0 ? SETS : FAILED]++;
}

/* Items in the order of their numbers, round and round; one of four sets goes to the timed namespace. */
static void set_run(struct bench_worker *w, struct larder_ns *timed, uint64_t first)
{
    for (uint64_t i = first; i < first + RUN; i++) {
        uint64_t draw = bench_keys_draw(&w->keys);
        int64_t ttl_ms = draw & 4 ? (int64_t)(SHORT_MS + (draw >> 8) % SPREAD_MS) : LARDER_TTL_NONE;
        set_one(w, (draw & 3) == 0 ? timed : w->target->ns, i % w->b->o.items, ttl_ms);
    }
}

/* Popular ones are the youngest. */
static void get_run(struct bench_worker *w, uint64_t next)
{
    struct bench_key key;
    size_t size;
    for (unsigned i = 0; i < RUN; i++) {
        bench_key_make(&key, (next - 1 - bench_keys_id(&w->keys) % next) % w->b->o.items, w->keys.hash_seed);
        w->result->count[GETS]++;
        w->result->count[HITS] += larder_get(w->target->ns, key.bytes, BENCH_KEY, w->value, w->b->o.value_size, &size) == 0;
    }
}

static void press(struct bench_worker *w, uint64_t end_ns)
{
    uint64_t bytes = (w->b->o.memory > 0 ? w->b->o.memory : MEMORY) / 8;
    const struct larder_ns_options options = {.size = sizeof options, .policy = LARDER_FIFO, .min_bytes = bytes, .max_bytes = bytes, .reset_every_ms = RESET_MS};
    struct bench_target timed = *w->target;
    uint32_t number;
    w->result->status = bench_target_namespace(&timed, TIMED, &options, &number);
    if (w->result->status != BENCH_OK)
        return;
    for (uint64_t next = 0; lrd_clock_ns() < end_ns;) {
        set_run(w, timed.ns, next);
        next += RUN;
        get_run(w, next);
    }
    if (larder_flush(w->target->larder, FLUSH_MS) != 0)
        w->result->status = bench_error(BENCH_FAILURE, "the daemon did not apply all sets");
    else if (w->result->count[FAILED] > 0)
        w->result->status = bench_error(BENCH_FAILURE, "%llu sets failed", (unsigned long long)w->result->count[FAILED]);
}

static void work(struct bench_worker *w)
{
    uint64_t end_ns = lrd_load_relaxed(&w->b->shared->go_ns) + (uint64_t)(w->b->o.seconds * 1e9); /* stored before go */
    if (w->number < w->b->o.processes) {
        press(w, end_ns);
        return;
    }
    bench_pin(&w->b->o, 0);
    bench_control_run(control, end_ns);
}

/* ---- the mode ---- */

static void say_control(const struct bench *b, const char *whose, const struct lrd_histogram *h)
{
    bench_figure_of(b->report, whose, "p99.9", (double)lrd_histogram_quantile(h, 0.999) / 1e3, "us");
    bench_figure_of(b->report, whose, "max", (double)h->max / 1e3, "us");
    bench_figure_of(b->report, whose, "over 20 us", (double)bench_histogram_above(h, 20000), "");
    bench_figure_of(b->report, whose, "over 100 us", (double)bench_histogram_above(h, 100000), "");
}

static void say(const struct bench *b, const struct bench_result *results, const struct bench_sight *before, const struct bench_sight *after)
{
    double sets = 0, gets = 0, hits = 0, seconds = (double)(after->at_ns - before->at_ns) / 1e9;
    for (unsigned i = 0; i < b->o.processes; i++) {
        sets += (double)results[i].count[SETS];
        gets += (double)results[i].count[GETS];
        hits += (double)results[i].count[HITS];
    }
    bench_figure(b->report, "pauses: sets", sets / seconds / 1e6, "M/s");
    bench_figure(b->report, "pauses: gets", gets / seconds / 1e6, "M/s");
    bench_figure(b->report, "pauses: hits", gets > 0 ? 100 * hits / gets : 0, "%");
    bench_say_counters(b, "pauses", before, after);
    bench_say_pauses(b, "pauses", before, after);
    bench_figure(b->report, "pauses: measured", seconds, "s");
    bench_figure(b->report, "pauses: control, on the CPU", (double)control->cpu_ns / 1e9, "s");
    say_control(b, "pauses: control, own", &control->own);
    say_control(b, "pauses: control, scheduler's", &control->scheduler);
}

static enum bench_status run(struct bench *b, struct bench_sight *before, struct bench_sight *after)
{
    struct bench_result *results = NULL;
    unsigned n = b->o.processes + 1;
    enum bench_status status = bench_look(b, before);
    if (status == BENCH_OK)
        status = bench_crew_run(b, n, 1, b->o.items, work, &results);
    if (status == BENCH_OK)
        status = bench_look(b, after);
    if (status == BENCH_OK)
        say(b, results, before, after);
    bench_crew_free(results, n);
    return status;
}

enum bench_status bench_pauses(struct bench *b)
{
    control = bench_share(sizeof *control);
    if (b->o.skew <= 0)
        b->o.skew = 0.99;
    struct bench_sight *sights = bench_alloc(2, sizeof *sights);
    enum bench_status status = run(b, &sights[0], &sights[1]);
    free(sights);
    bench_unshare(control, sizeof *control);
    return status;
}
