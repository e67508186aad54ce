/* How long a tick is, and what a stamp costs. */
#include "tools/bench.h"

#include <stdlib.h>

#define CALIBRATE_NS 50000000u /* the two ends are good to some 50 ns: 1e-6 */
#define COST_STAMPS 1000000u

/* Ticks and nanoseconds of one moment: the closest of some tries. */
static void moment(uint64_t *ticks, uint64_t *ns)
{
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < 32; i++) {
        uint64_t begin = bench_stamp();
        uint64_t now = lrd_clock_ns();
        uint64_t end = bench_stamp();
        if (end - begin < best) {
            best = end - begin;
            *ticks = begin + (end - begin) / 2;
            *ns = now;
        }
    }
}

static double calibrate(void)
{
    uint64_t ticks0, ns0, ticks1, ns1;
    moment(&ticks0, &ns0);
    while (lrd_clock_ns() - ns0 < CALIBRATE_NS)
        lrd_pause();
    moment(&ticks1, &ns1);
    return (double)(ns1 - ns0) / (double)(ticks1 - ticks0);
}

static uint64_t cost(void)
{
    struct lrd_histogram *h = bench_alloc(1, sizeof *h);
    for (unsigned i = 0; i < COST_STAMPS; i++) {
        uint64_t begin = bench_stamp();
        uint64_t end = bench_stamp();
        lrd_histogram_record(h, end - begin);
    }
    uint64_t median = lrd_histogram_quantile(h, 0.5);
    free(h);
    return median;
}

void bench_clock_init(struct bench_clock *c)
{
    c->ns_per_tick = calibrate();
    c->cost_ticks = cost();
    c->us1_ticks = (uint64_t)(1000 / c->ns_per_tick);
    c->us20_ticks = (uint64_t)(20000 / c->ns_per_tick);
}
