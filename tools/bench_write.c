/* Sets: how many a second are applied and visible, and how long a process is busy with one. */
#include "tools/bench.h"

#include <stdlib.h>

#define RUN_SETS 131072u /* of a throughput round: some 25 ms of the writer */
#define BURST_SETS 1024u /* of a latency round: a sixth of a ring of 2 MiB, so that there is always room */
#define FLUSH_MS 60000u

enum { SET, ENQUEUE };

/* ---- rounds ---- */

/* n keys of the oldest items. */
static void take_oldest(struct bench_worker *w, struct bench_key *keys, size_t n)
{
    uint64_t id = lrd_fetch_add_relaxed(&w->b->shared->oldest, n); /* only a number */
    for (size_t i = 0; i < n; i++)
        bench_key_make(&keys[i], (id + i) % w->b->o.items, w->keys.hash_seed);
}

static int set_one(struct bench_worker *w, struct bench_target *t, const struct bench_key *key)
{
    bench_value_fill(w->value, w->b->o.value_size, key->id, w->version);
    return bench_set(t, key, w->value, w->b->o.value_size);
}

/* From the first set until larder_flush() returns: applied, and visible to every process. */
static void throughput_round(struct bench_worker *w, struct bench_target *t, struct bench_key *keys, size_t n)
{
    struct bench_side *side = &w->result->side[SET];
    take_oldest(w, keys, n);
    w->version++;
    uint64_t cpu = bench_thread_cpu_ns(), begin = lrd_clock_ns();
    for (size_t i = 0; i < n; i++)
        side->wrong += set_one(w, t, &keys[i]) != 0;
    side->wrong += larder_flush(t->larder, FLUSH_MS) != 0;
    bench_round_note(side, BENCH_MEAN_NS, (double)(lrd_clock_ns() - begin) / (double)n);
    bench_round_note(side, BENCH_CPU_NS, (double)(bench_thread_cpu_ns() - cpu) / (double)n);
    side->ops += n;
}

/* Sets into a ring with room, each between stamps. */
static void enqueue_round(struct bench_worker *w, struct bench_target *t, struct bench_key *keys, struct bench_stamps *s)
{
    struct bench_side *side = &w->result->side[ENQUEUE];
    take_oldest(w, keys, BURST_SETS);
    bench_stamps_init(s, &w->b->clock);
    uint64_t last = bench_stamp();
    for (size_t i = 0; i < BURST_SETS; i++) {
        bench_value_fill(w->value, w->b->o.value_size, keys[i].id, w->version);
        uint64_t begin = bench_stamp();
        int r = larder_set(t->ns, keys[i].bytes, BENCH_KEY, w->value, w->b->o.value_size, NULL, NULL);
        uint64_t end = bench_stamp();
        side->wrong += r != 0;
        bench_note(s, last, begin, end);
        s->total_ticks += end - last;
        last = end;
    }
    s->ops += BURST_SETS;
    side->wrong += larder_flush(t->larder, FLUSH_MS) != 0;
    bench_stamps_note(side, &w->b->clock, s, 1);
}

/* ---- the mode ---- */

static void work(struct bench_worker *w)
{
    struct bench_target t = *w->target;
    size_t n = w->b->o.items < RUN_SETS ? w->b->o.items : RUN_SETS;
    struct bench_key *keys = bench_alloc(RUN_SETS, sizeof *keys);
    struct bench_stamps *s = bench_alloc(1, sizeof *s);
    uint64_t begin = lrd_clock_ns(), total_ns = (uint64_t)(w->b->o.seconds * 1e9);
    unsigned rounds = 0;
    do {
        throughput_round(w, &t, keys, n);
        enqueue_round(w, &t, keys, s);
    } while (++rounds < 3 || lrd_clock_ns() - begin < total_ns);
    if (w->result->side[SET].wrong + w->result->side[ENQUEUE].wrong > 0)
        w->result->status = BENCH_FAILURE;
    free(s);
    free(keys);
}

static void say(struct bench *b, const struct bench_result *results, unsigned n)
{
    struct bench_stamps *s = bench_alloc(1, sizeof *s);
    bool one = b->o.processes == 1 && b->o.threads == 1;
    bench_side_stamps(results, n, ENQUEUE, s);
    bench_distribution(b->report, "set, enqueue", &b->clock, s, 1);
    double rate = bench_side_rate(results, n, SET) / 1e6;
    if (one)
        bench_figure_least(b->report, "sets applied", rate, "M/s", 5);
    else
        bench_figure(b->report, "sets applied", rate, "M/s");
    bench_figure(b->report, "set, the process's CPU time", bench_side_median(results, n, SET, BENCH_CPU_NS), "ns");
    bench_figure_most(b->report, "set, enqueue p50", bench_side_median(results, n, ENQUEUE, BENCH_P50_NS), "ns", 100);
    free(s);
}

enum bench_status bench_sets(struct bench *b)
{
    struct bench_result *results;
    unsigned n = b->o.processes * b->o.threads;
    enum bench_status status = bench_crew_run(b, b->o.processes, b->o.threads, b->o.items, work, &results);
    if (status == BENCH_OK)
        say(b, results, n);
    else if (results)
        bench_error(status, "sets failed");
    bench_crew_free(results, n);
    return status;
}
