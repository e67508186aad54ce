/* How often each value occurred, to within 1/64 of it, in a fixed number of counters: HdrHistogram's bucket layout.
 *
 *   values   0 .. 127        128 .. 255   256 .. 511   512 .. 1023   ...
 *   counters one each, 128   64           64           64            ...         each octave is cut into 64 steps
 *
 * The unit is the caller's: nanoseconds reach to 4.5 minutes, ticks of a 4 GHz clock to 68 seconds; what is larger counts as the largest. One
 * writer, plain counters, no pointers: it may lie in memory that processes share, to be read when the writer has finished. Recording is a
 * bit scan, two shifts and two stores; the sum of all counts is reckoned when somebody asks.
 */
#ifndef LRD_HISTOGRAM_H
#define LRD_HISTOGRAM_H

#include <stdint.h>
#include <string.h>

#define LRD_HISTOGRAM_BITS 6u /* an octave has 1 << 6 steps: 1.6 % */
#define LRD_HISTOGRAM_STEPS (1u << LRD_HISTOGRAM_BITS)
#define LRD_HISTOGRAM_VALUE_BITS 38u
#define LRD_HISTOGRAM_MAX ((UINT64_C(1) << LRD_HISTOGRAM_VALUE_BITS) - 1)
#define LRD_HISTOGRAM_COUNTERS ((LRD_HISTOGRAM_VALUE_BITS - LRD_HISTOGRAM_BITS + 1) * LRD_HISTOGRAM_STEPS)

struct lrd_histogram {
    uint64_t max; /* largest value recorded, exact */
    uint64_t n[LRD_HISTOGRAM_COUNTERS];
};

static inline void lrd_histogram_reset(struct lrd_histogram *h) { memset(h, 0, sizeof *h); }

/* Index of a value's counter where an octave has 1 << bits steps. Below two octaves' worth of steps the shift is 0 and the index is the value. */
static inline uint32_t lrd_histogram_idx_of(uint64_t value, uint32_t bits)
{
    uint32_t top = 63u - (uint32_t)__builtin_clzll(value | UINT64_C(1) << bits);
    uint32_t shift = top - bits;
    return (shift << bits) + (uint32_t)(value >> shift);
}

/* Largest value that a counter counts there. */
static inline uint64_t lrd_histogram_upper_of(uint32_t idx, uint32_t bits)
{
    if (idx < 2u << bits)
        return idx;
    uint32_t shift = (idx >> bits) - 1;
    uint64_t step = idx - (shift << bits);
    return ((step + 1) << shift) - 1;
}

static inline uint32_t lrd_histogram_idx(uint64_t value) { return lrd_histogram_idx_of(value, LRD_HISTOGRAM_BITS); }
static inline uint64_t lrd_histogram_upper(uint32_t idx) { return lrd_histogram_upper_of(idx, LRD_HISTOGRAM_BITS); }

static inline void lrd_histogram_record(struct lrd_histogram *h, uint64_t value)
{
    if (value > h->max)
        h->max = value;
    h->n[lrd_histogram_idx(value < LRD_HISTOGRAM_MAX ? value : LRD_HISTOGRAM_MAX)]++;
}

static inline void lrd_histogram_add(struct lrd_histogram *h, const struct lrd_histogram *other)
{
    if (other->max > h->max)
        h->max = other->max;
    for (uint32_t i = 0; i < LRD_HISTOGRAM_COUNTERS; i++)
        h->n[i] += other->n[i];
}

static inline uint64_t lrd_histogram_count(const struct lrd_histogram *h)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < LRD_HISTOGRAM_COUNTERS; i++)
        n += h->n[i];
    return n;
}

/* Which of `count` sorted values, the first being 1, is the smallest that at least `part` (0 to 1) of them do not exceed. */
static inline uint64_t lrd_histogram_rank(double part, uint64_t count)
{
    double exact = part * (double)count;
    uint64_t rank = exact > 0 ? (uint64_t)exact : 0;
    return (double)rank < exact || rank == 0 ? rank + 1 : rank;
}

/* The smallest value that at least `part` (0 to 1) of all values do not exceed, up to the resolution and never above the largest. 0 if empty. */
static inline uint64_t lrd_histogram_quantile(const struct lrd_histogram *h, double part)
{
    uint64_t rank = lrd_histogram_rank(part, lrd_histogram_count(h)), seen = 0;
    for (uint32_t i = 0; i < LRD_HISTOGRAM_COUNTERS; i++) {
        seen += h->n[i];
        if (seen >= rank) {
            uint64_t upper = lrd_histogram_upper(i);
            return upper < h->max ? upper : h->max;
        }
    }
    return h->max;
}

#endif
