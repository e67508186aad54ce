/* The segment seen from a process: addresses of its parts.
 *
 * A reader can only look; a store can also write, and only the daemon makes one. -Wcast-qual keeps it so.
 */
#ifndef LRD_SEGMENT_H
#define LRD_SEGMENT_H

#include <stddef.h>
#include <stdint.h>

#include "shm/layout.h"

struct lrd_reader {
    /* line 0: what a get needs */
    const struct lrd_bucket *buckets;
    const lrd_u64 *block_words;
    const struct lrd_namespace *namespaces;
    const unsigned char *arena;
    uint64_t hash_seed;
    uint64_t arena_bytes;    /* whatever an item's torn lengths say, nothing is read beyond */
    uint32_t n_pairs;
    uint32_t n_blocks;
    uint32_t block_shift;
    uint32_t granule_shift;
    uint32_t location_shift; /* location >> this is the block: block_shift - granule_shift */
    uint32_t item_lines;     /* to fetch of an average item; the processor follows longer ones by itself */
    /* what else there is */
    const struct lrd_header *header;
    const lrd_u64 *counters;
    const struct lrd_lane_words *lanes;
    const struct lrd_journal *journal;
    const struct lrd_descriptor *descriptors;
    const struct lrd_lane_credit *credits;
    const struct lrd_pauses *pauses;
    const struct lrd_departures *departures;
    const unsigned char *feeds;
    struct lrd_geometry geometry; /* a copy, checked against the mapping */
};

/* The same, writable. The reader's half of it is for the functions that only look. */
struct lrd_store {
    struct lrd_reader r;
    struct lrd_header *header;
    struct lrd_namespace *namespaces;
    lrd_u64 *counters;
    struct lrd_lane_words *lanes;
    struct lrd_journal *journal;
    lrd_u64 *block_words;
    struct lrd_descriptor *descriptors;
    struct lrd_lane_credit *credits;
    struct lrd_pauses *pauses;
    struct lrd_departures *departures;
    unsigned char *feeds;
    struct lrd_bucket *buckets;
    unsigned char *arena;
    unsigned char *base;
};

enum lrd_segment_state {
    LRD_SEGMENT_GOOD,
    LRD_SEGMENT_SHORT,         /* smaller than it says, or than a header */
    LRD_SEGMENT_NOT_READY,     /* no magic (yet) */
    LRD_SEGMENT_OTHER_VERSION, /* made by another layout */
    LRD_SEGMENT_DAMAGED        /* parts that do not fit into it, or numbers that contradict each other */
};

/* Looks at a mapping of `bytes` bytes and fills *r if it is good. Believes no number before it was checked: the peer may be anybody. */
enum lrd_segment_state lrd_reader_init(struct lrd_reader *r, const void *base, size_t bytes);

static inline uint32_t lrd_n_buckets(const struct lrd_reader *r) { return r->n_pairs * 2; }

/* The counters of a namespace. */
static inline const lrd_u64 *lrd_ns_counters(const struct lrd_reader *r, uint32_t ns) { return r->counters + (size_t)ns * LRD_N_COUNTERS; }

/* A counter of the segment: the sum over its namespaces. */
static inline uint64_t lrd_counter_sum(const struct lrd_reader *r, enum lrd_counter_id id)
{
    uint64_t sum = 0;
    for (uint32_t ns = 0; ns < LRD_NAMESPACES; ns++)
        sum += lrd_load_relaxed(&lrd_ns_counters(r, ns)[id]);
    return sum;
}

/* A line about a state other than good. Static memory. */
const char *lrd_segment_state_text(enum lrd_segment_state state);

/* ---- writing half: segment_make.c ---- */

/* The same, to count in. */
static inline lrd_u64 *lrd_store_counter(struct lrd_store *s, uint32_t ns, enum lrd_counter_id id) { return &s->counters[(size_t)ns * LRD_N_COUNTERS + id]; }

#define LRD_BLOCKS_LEAST 8u /* a plan with fewer is refused */

struct lrd_plan {
    uint64_t memory_bytes;  /* the segment's total, rounded down to 2 MiB */
    uint32_t average_item;  /* bytes of key and value */
    double load;            /* of the table when the arena is full of such items; 0: 0.70 */
    uint32_t n_lanes;
    uint32_t ring_bytes;    /* cells of one lane; rounded up to a power of two; raised to twice the largest item */
    uint32_t block_shift;   /* 0: chosen from the arena's size */
    uint32_t n_blocks;      /* 0: as many as fit; else at most so many, LRD_BLOCKS_LEAST or more, and the rest of the memory is left to the table */
    uint32_t view_ms;       /* geometry.view_ms */
    uint64_t feed_bytes;    /* for all change feeds together */
};

/* Reckons sizes and offsets. 0; -EINVAL: too little memory for a table and 8 blocks (the smallest that works is in *least_bytes). Pure. */
int lrd_segment_plan(const struct lrd_plan *plan, struct lrd_geometry *g, struct lrd_part parts[LRD_N_PARTS], uint64_t *least_bytes);

/* Offsets and sizes of all parts for numbers of blocks, pairs, lanes and departures that are given; where the last ends. */
void lrd_segment_lay(const struct lrd_geometry *g, struct lrd_part parts[LRD_N_PARTS], uint64_t *end);

/* Makes an empty segment of zeroed memory at base and fills *s. The magic is stored last. `seed` and `id` are random, `now_ns` is CLOCK_MONOTONIC. */
void lrd_segment_format(struct lrd_store *s, void *base, const struct lrd_geometry *g, const struct lrd_part parts[LRD_N_PARTS]);

/* Takes hold of a formatted segment for writing (a new worker). Same states as lrd_reader_init(). */
enum lrd_segment_state lrd_store_init(struct lrd_store *s, void *base, size_t bytes);

/* Empties a segment in place: table, block words (new generations), descriptors. Lane words, counters and the journal's totals stay, so that clients
 * keep their lanes. Only with no writer running. */
void lrd_segment_clear(struct lrd_store *s);

#endif
