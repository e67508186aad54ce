/* Counting: the time of an increment whose number is waited for, and how many a second are collected by a thread that has many on their way.
 *
 * The writer is awake all the time, because there is always something to do. Every number that comes back is looked at: one process counts, so each is known before. */
#include "tools/bench.h"

#include <stdlib.h>

#define COUNTERS 1000u
#define TRIPS 2000u       /* of a round of the first */
#define RUN 65536u        /* of a round of the second */
#define OUTSTANDING 512u  /* half of what a handle may have */
#define WAIT_MS 10000u

enum { ONE, MANY };

static const struct larder_incr_options options = {.size = sizeof options, .how = LARDER_INCR_CREATE};
static const struct larder_incr_options async = {.size = sizeof async, .how = LARDER_INCR_CREATE | LARDER_SET_ASYNC};

struct counters {
    struct bench_key key[COUNTERS];
    int64_t number[COUNTERS]; /* what comes next is one more */
    larder_ticket ticket[OUTSTANDING];
    struct bench_stamps stamps;
};

static void counters_init(struct bench_worker *w, struct counters *c)
{
    for (unsigned i = 0; i < COUNTERS; i++) {
        bench_key_make(&c->key[i], i, w->keys.hash_seed);
        c->key[i].bytes[0] = 'n'; /* not those of the items; their hash is not asked for */
        larder_delete(w->target->ns, c->key[i].bytes, BENCH_KEY, NULL);
    }
    if (larder_flush(w->target->larder, WAIT_MS) != 0)
        w->result->side[ONE].wrong++;
}

static void one_round(struct bench_worker *w, struct counters *c)
{
    struct bench_side *side = &w->result->side[ONE];
    struct bench_stamps *s = &c->stamps;
    bench_stamps_init(s, &w->b->clock);
    uint64_t last = bench_stamp();
    for (unsigned i = 0; i < TRIPS; i++) {
        unsigned k = i % COUNTERS;
        int64_t number = 0;
        uint64_t begin = bench_stamp();
        int r = larder_incr(w->target->ns, c->key[k].bytes, BENCH_KEY, 1, &options, &number, NULL);
        uint64_t end = bench_stamp();
        side->wrong += r != 0 || number != ++c->number[k];
        bench_note(s, last, begin, end);
        s->total_ticks += end - last;
        last = end;
    }
    s->ops += TRIPS;
    bench_stamps_note(side, &w->b->clock, s, 1);
}

/* The oldest that is on its way, the i-th of the round. */
static bool collect(struct bench_worker *w, struct counters *c, unsigned i)
{
    struct larder_outcome outcome = {.size = sizeof outcome};
    int r = larder_result(w->target->larder, c->ticket[i % OUTSTANDING], WAIT_MS, &outcome);
    return r == 0 && outcome.result == 0 && outcome.number == ++c->number[i % COUNTERS];
}

/* From the first call until the last number is there. */
static void many_round(struct bench_worker *w, struct counters *c)
{
    struct bench_side *side = &w->result->side[MANY];
    uint64_t cpu = bench_thread_cpu_ns(), begin = lrd_clock_ns();
    unsigned done = 0;
    for (unsigned i = 0; i < RUN; i++) {
        if (i - done == OUTSTANDING)
            side->wrong += !collect(w, c, done++);
        int r;
        do
            r = larder_incr(w->target->ns, c->key[i % COUNTERS].bytes, BENCH_KEY, 1, &async, NULL, &c->ticket[i % OUTSTANDING]);
        while (r == LARDER_BUSY);
        side->wrong += r != 0;
    }
    while (done < RUN)
        side->wrong += !collect(w, c, done++);
    bench_round_note(side, BENCH_MEAN_NS, (double)(lrd_clock_ns() - begin) / RUN);
    bench_round_note(side, BENCH_CPU_NS, (double)(bench_thread_cpu_ns() - cpu) / RUN);
    side->ops += RUN;
}

static void work(struct bench_worker *w)
{
    struct counters *c = bench_alloc(1, sizeof *c);
    uint64_t begin = lrd_clock_ns(), total_ns = (uint64_t)(w->b->o.seconds * 1e9);
    unsigned rounds = 0;
    counters_init(w, c);
    do {
        one_round(w, c);
        many_round(w, c);
    } while (++rounds < 3 || lrd_clock_ns() - begin < total_ns);
    free(c);
    if (w->result->side[ONE].wrong + w->result->side[MANY].wrong > 0)
        w->result->status = bench_error(BENCH_WRONG, "a number was not what it had to be");
}

static void say(struct bench *b, const struct bench_result *result)
{
    struct bench_stamps *s = bench_alloc(1, sizeof *s);
    bench_side_stamps(result, 1, ONE, s);
    bench_distribution(b->report, "incr, waited for", &b->clock, s, 1);
    bench_figure_most(b->report, "incr, p50", bench_side_median(result, 1, ONE, BENCH_P50_NS), "ns", 2000);
    bench_figure_least(b->report, "incr, many outstanding", bench_side_rate(result, 1, MANY) / 1e6, "M/s", 2);
    bench_figure(b->report, "incr, the process's CPU time", bench_side_median(result, 1, MANY, BENCH_CPU_NS), "ns");
    free(s);
}

enum bench_status bench_incr(struct bench *b)
{
    struct bench_result *result;
    enum bench_status status = bench_crew_run(b, 1, 1, b->o.items, work, &result);
    if (status == BENCH_OK)
        say(b, result);
    bench_crew_free(result, 1);
    return status;
}
