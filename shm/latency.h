/* How long calls took, as their client counts it in its lane (struct lrd_latency): the buckets of histogram.h, in steps of 1/32, with shared counters.
 *
 * Threads of the client record beside each other by plain loads and stores, and may lose each other's counts; a look may come between two of them. It is a sample of a
 * sample, so nothing is locked for it. All relaxed: no number here says anything about another.
 */
#ifndef LRD_LATENCY_H
#define LRD_LATENCY_H

#include "shm/atomic.h"
#include "shm/histogram.h"
#include "shm/layout.h"

static inline void lrd_latency_record(struct lrd_latency *l, uint64_t ns)
{
    lrd_u32 *n = &l->n[lrd_histogram_idx_of(ns < LRD_HISTOGRAM_MAX ? ns : LRD_HISTOGRAM_MAX, LRD_LATENCY_BITS)];
    uint32_t was = lrd_load32_relaxed(n);
    if (was != UINT32_MAX) /* rather stays than begins anew */
        lrd_store32_relaxed(n, was + 1);
    lrd_add_own(&l->sum_ns, ns);
    if (ns > lrd_load_relaxed(&l->max_ns))
        lrd_store_relaxed(&l->max_ns, ns);
}

static inline uint64_t lrd_latency_count(const struct lrd_latency *l)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < LRD_LATENCY_COUNTERS; i++)
        count += lrd_load32_relaxed(&l->n[i]);
    return count;
}

/* As lrd_histogram_quantile(), of the `count` that somebody has just counted. */
static inline uint64_t lrd_latency_quantile(const struct lrd_latency *l, double part, uint64_t count)
{
    uint64_t rank = lrd_histogram_rank(part, count), seen = 0, max = lrd_load_relaxed(&l->max_ns);
    for (uint32_t i = 0; i < LRD_LATENCY_COUNTERS && count > 0; i++) {
        seen += lrd_load32_relaxed(&l->n[i]);
        if (seen >= rank) {
            uint64_t upper = lrd_histogram_upper_of(i, LRD_LATENCY_BITS);
            return upper < max ? upper : max;
        }
    }
    return max;
}

#endif
