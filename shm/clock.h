/* Segment time: milliseconds since the segment was made, by CLOCK_MONOTONIC_COARSE (one tick of the kernel, 1 to 10 ms; a read costs
 * a few ns and no syscall). A client in another time namespace has another monotonic clock: it learns the offset at attach. */
#ifndef LRD_CLOCK_H
#define LRD_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t lrd_clock_coarse_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t lrd_clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* zero_ns: this process's CLOCK_MONOTONIC at segment time 0; the difference counts, because in a time namespace whose clock began after the segment it is below 0. The
 * coarse clock may stand before it for one tick. */
static inline uint64_t lrd_clock_segment_ms(uint64_t zero_ns)
{
    uint64_t age_ns = lrd_clock_coarse_ns() - zero_ns;
    return (int64_t)age_ns > 0 ? age_ns / 1000000u : 0;
}

#endif
