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

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b != 0) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* What nearly all short times are multiples of; times of 128 ticks and more are not exact in a histogram. */
static uint64_t step(const struct lrd_histogram *h)
{
    uint64_t divisor = 0;
    for (uint32_t i = 1; i < 2 * LRD_HISTOGRAM_STEPS; i++)
        if (h->n[i] >= COST_STAMPS / 1000)
            divisor = common_divisor(i, divisor);
    return divisor > 0 ? divisor : 1;
}

/* What a stamp costs: the mean, because the counter's steps may be half as long as that. What took four times the median was interrupted. */
static void cost(struct bench_clock *c)
{
    struct lrd_histogram *h = bench_alloc(1, sizeof *h);
    uint64_t sum = 0, n = 0;
    for (unsigned i = 0; i < COST_STAMPS; i++) {
        uint64_t begin = bench_stamp();
        uint64_t end = bench_stamp();
        lrd_histogram_record(h, end - begin);
    }
    uint64_t limit = 4 * lrd_histogram_quantile(h, 0.5);
    for (uint32_t i = 0; i < LRD_HISTOGRAM_COUNTERS && lrd_histogram_upper(i) <= limit; i++) {
        sum += h->n[i] * lrd_histogram_upper(i);
        n += h->n[i];
    }
    c->cost_ticks = (double)sum / (double)n;
    c->step_ticks = step(h);
    free(h);
}

double bench_quantile_ticks(const struct bench_clock *c, const struct lrd_histogram *h, double part)
{
    uint64_t value = lrd_histogram_quantile(h, part), before = 0;
    uint32_t idx = lrd_histogram_idx(value < LRD_HISTOGRAM_MAX ? value : LRD_HISTOGRAM_MAX);
    if (part >= 1 || h->n[idx] == 0 || value / LRD_HISTOGRAM_STEPS >= c->step_ticks)
        return (double)value; /* a counter is wider than a step */
    for (uint32_t i = 0; i < idx; i++)
        before += h->n[i];
    double inside = (part * (double)lrd_histogram_count(h) - (double)before) / (double)h->n[idx];
    double counted = (double)(value - value % c->step_ticks);
    double between = counted + ((inside > 0 ? inside : 0) - 0.5) * (double)c->step_ticks;
    return between > 0 ? between : 0;
}

double bench_net_ns(const struct bench_clock *c, double ticks, unsigned ops)
{
    return (ticks > c->cost_ticks ? ticks - c->cost_ticks : 0) * c->ns_per_tick / ops;
}

void bench_clock_init(struct bench_clock *c)
{
    c->ns_per_tick = calibrate();
    cost(c);
    c->us1_ticks = (uint64_t)(1000 / c->ns_per_tick);
    c->us20_ticks = (uint64_t)(20000 / c->ns_per_tick);
}
