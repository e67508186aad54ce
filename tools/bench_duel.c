/* Contenders in turns: a slice of each, round after round, so that what disturbs the machine hits all of them; medians of the rounds are compared.
 *
 * A slice is some tens of milliseconds: long enough that a contender finds the caches as it has left them itself, short enough for a dozen rounds. In a slice
 * the keys are drawn a chunk at a time, and only the time between drawings counts. */
#include "tools/bench.h"

#include <stdlib.h>

#define SLICE_NS 25000000.0
#define ROUNDS_MIN 3u
#define CHUNK_MIN 64u

static unsigned count_slices(const struct bench_contender *c, unsigned n)
{
    unsigned slices = 0;
    for (unsigned i = 0; i < n; i++)
        slices += (c[i].plain ? 1u : 0) + (c[i].stamped ? 1u : 0);
    return slices;
}

/* Keys of a chunk: fewer when a slice is shorter than a full one takes. */
static size_t chunk_for(uint64_t slice_ns)
{
    uint64_t n = slice_ns / 400;
    return n < CHUNK_MIN ? CHUNK_MIN : n < BENCH_CHUNK ? (size_t)n : BENCH_CHUNK;
}

static void plain_slice(struct bench_worker *w, const struct bench_contender *c, struct bench_side *side, uint64_t slice_ns)
{
    size_t chunk = chunk_for(slice_ns);
    uint64_t ns = 0, cpu_ns = 0, ops = 0;
    do {
        bench_keys_next(&w->keys, w->chunk, chunk);
        uint64_t cpu = bench_thread_cpu_ns();
        uint64_t begin = lrd_clock_ns();
        side->hits += c->plain(w, chunk);
        ns += lrd_clock_ns() - begin;
        cpu_ns += bench_thread_cpu_ns() - cpu;
        ops += chunk;
    } while (ns < slice_ns);
    side->ops += ops;
    bench_round_note(side, BENCH_MEAN_NS, (double)ns / (double)ops);
    bench_round_note(side, BENCH_CPU_NS, (double)cpu_ns / (double)ops);
}

static void stamped_slice(struct bench_worker *w, const struct bench_contender *c, struct bench_side *side, struct bench_stamps *s, uint64_t slice_ns)
{
    const struct bench_clock *clock = &w->b->clock;
    uint64_t slice_ticks = (uint64_t)((double)slice_ns / clock->ns_per_tick);
    size_t chunk = chunk_for(slice_ns);
    bench_stamps_init(s, clock);
    do {
        bench_keys_next(&w->keys, w->chunk, chunk);
        uint64_t begin = bench_stamp();
        size_t hits = c->stamped(w, s, chunk);
        s->total_ticks += bench_stamp() - begin;
        s->ops += chunk;
        side->hits += hits;
        side->ops += chunk;
    } while (s->total_ticks < slice_ticks);
    bench_stamps_note(side, clock, s, c->ops);
}

void bench_duel(struct bench_worker *w, const struct bench_contender *contenders, unsigned n)
{
    double total_ns = w->b->o.seconds * 1e9;
    unsigned slices = count_slices(contenders, n);
    double wanted = total_ns / (slices * SLICE_NS);
    unsigned rounds = wanted < ROUNDS_MIN ? ROUNDS_MIN : wanted < BENCH_ROUNDS ? (unsigned)wanted : BENCH_ROUNDS;
    uint64_t slice_ns = (uint64_t)(total_ns / (slices * rounds));
    struct bench_stamps *s = bench_alloc(1, sizeof *s);
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned i = 0; i < n; i++)
            if (contenders[i].plain)
                plain_slice(w, &contenders[i], &w->result->side[i], slice_ns);
        for (unsigned i = 0; i < n; i++)
            if (contenders[i].stamped)
                stamped_slice(w, &contenders[i], &w->result->side[i], s, slice_ns);
    }
    free(s);
    for (unsigned i = 0; i < n; i++)
        if (w->result->side[i].wrong > 0)
            w->result->status = BENCH_WRONG;
}
