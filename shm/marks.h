/* Marks: how the writer learns what is read, although a reader stores nothing into the segment.
 *
 * A lane has a mark map in its own memory: a byte for each bucket of the table, bit i + 1 for slot i (bit 0 is the displaced word's, never used). After a validated
 * hit the client sets the slot's bit if it is not set, by a plain load and store: marks of two threads may lose each other, and the writer takes bytes away while
 * they are set. They are hints; a client that lies spoils hints. A hit on the own ring (read-your-writes) leaves none: it says nothing about the table.
 *
 * The writer goes through the maps in rounds and raises its private counts (daemon/evict.c). Where the budget leaves a lane without a map, all its marks fall
 * on one byte that is full from the start, and one hit in LRD_SAMPLE_EACH leaves its hash in the lane's samples instead.
 */
#ifndef LRD_MARKS_H
#define LRD_MARKS_H

#include <stddef.h>
#include <stdint.h>

#include "shm/layout.h"

/* Where the marks of a mapped segment go: the byte of the bucket at address a is base + (a >> shift). */
struct lrd_marks {
    uintptr_t base;
    uint32_t shift;
};

/* For a lane with a map, whose byte 0 belongs to buckets[0], or without one (map NULL): no address here has its highest bit set, so all shift to 0. full_byte lives as long. */
static inline struct lrd_marks lrd_marks_make(unsigned char *map, const struct lrd_bucket *buckets, unsigned char *full_byte)
{
    if (map == NULL) {
        *full_byte = 0xff;
        return (struct lrd_marks){(uintptr_t)full_byte, 63};
    }
    return (struct lrd_marks){(uintptr_t)map - ((uintptr_t)buckets >> 6), 6};
}

static inline lrd_u8 *lrd_marks_at(const struct lrd_marks *m, const struct lrd_bucket *b)
{
    return (lrd_u8 *)(m->base + ((uintptr_t)b >> m->shift));
}

/* bits: bit i + 1 for slot i of the bucket. Relaxed: a hint. */
static inline void lrd_marks_set(const struct lrd_marks *m, const struct lrd_bucket *b, uint32_t bits)
{
    lrd_u8 *byte = lrd_marks_at(m, b);
    uint8_t was = lrd_load8_relaxed(byte);
    if ((was & bits) == 0)
        lrd_store8_relaxed(byte, (uint8_t)(was | bits));
}

#endif
