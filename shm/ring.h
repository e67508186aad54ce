/* The ring: many threads of one process put records in, the writer takes them out.
 *
 *   positions count cells and never wrap; the cell of a position is position % n_cells; the lap is position / n_cells + 1
 *
 *   producer: claim    CAS tail from p to p + n, if p + n - applied <= n_cells        (applied: the segment's, which only the worker writes)
 *             write    the cells, contiguous: they are mapped twice in a row
 *             commit   commit[p] = {lap of p, n, kind} (release)
 *   writer:   head is its own. commit[head] (acquire) has head's lap: a record of n cells. Else nothing is there yet.
 *
 * Commit words lie in an array of their own: payload can never look like one, and no cell needs to be zeroed. The commit words of the cells inside a record
 * keep what was there, of an earlier lap; laps have 40 bits and do not repeat.
 *
 * A producer that dies between claim and commit leaves a hole. While its process lives, its ring stands still there: nobody else is concerned. When
 * the process is dead, the writer goes on to the tail (of at most one ring), applies what is committed and steps over the rest cell by cell.
 *
 * The writer believes nothing here: head is private, a record's length is checked against the ring, its header is copied once. A client that
 * scribbles over its lane gets its own writes wrong.
 */
#ifndef LRD_RING_H
#define LRD_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/atomic.h"
#include "shm/layout.h"

/* A lane as mapped in this process (lane.h makes it). */
struct lrd_ring {
    struct lrd_lane *lane;
    lrd_u64 *commit;
    unsigned char *cells; /* 2 * n_cells * LRD_CELL bytes, the second half the same memory as the first */
    unsigned char *marks; /* the lane's mark map, a byte per bucket; NULL: it has none (marks.h) */
    uint32_t mark_bytes;
    uint32_t n_cells;
    uint32_t lap_shift;   /* n_cells == 1 << lap_shift */
};

static inline uint32_t lrd_ring_cells_for(uint32_t key_len, uint32_t value_len)
{
    return (uint32_t)((sizeof(struct lrd_record) + (uint64_t)key_len + value_len + LRD_CELL - 1) / LRD_CELL);
}

static inline uint64_t lrd_ring_lap(const struct lrd_ring *ring, uint64_t position) { return (position >> ring->lap_shift) + 1; }
static inline uint32_t lrd_ring_idx(const struct lrd_ring *ring, uint64_t position) { return (uint32_t)position & (ring->n_cells - 1); }

/* Where the record at a position is; as contiguous as it is long. */
static inline unsigned char *lrd_ring_at(const struct lrd_ring *ring, uint64_t position)
{
    return ring->cells + (size_t)lrd_ring_idx(ring, position) * LRD_CELL;
}

/* ---- producer ---- */

/* Claims n cells (1 to n_cells). seen: this process's last look at the applied position, refreshed when the ring seems full. False: it is full. */
static inline bool lrd_ring_claim(const struct lrd_ring *ring, const struct lrd_lane_words *words, lrd_u64 *seen, uint32_t n, uint64_t *position)
{
    /* Relaxed: the CAS decides; a stale tail only costs a turn. */
    uint64_t tail = lrd_load_relaxed(&ring->lane->tail);
    do {
        /* Acquire: pairs with the release below, so that the writer's reads of the cells are behind us whichever thread looked. */
        if (lrd_unlikely((int64_t)(tail + n - lrd_load_acquire(seen)) > (int64_t)ring->n_cells)) {
            /* Pairs with the release of the applied position in an intent: the writer has read the cells before it. */
            uint64_t applied = lrd_load_acquire(&words->applied);
            lrd_store_release(seen, applied); /* may go back when threads race: then somebody looks again */
            if ((int64_t)(tail + n - applied) > (int64_t)ring->n_cells)
                return false; /* signed: with a stale tail others are ahead of, the difference may be negative; the CAS sees to that */
        }
    } while (!lrd_cas(&ring->lane->tail, &tail, tail + n));
    *position = tail;
    return true;
}

/* Publishes the record: the writer may take it from here on, also if we die now. Pairs with the acquire in lrd_ring_next(). */
static inline void lrd_ring_commit(const struct lrd_ring *ring, uint64_t position, uint32_t n, uint32_t kind)
{
    lrd_store_release(&ring->commit[lrd_ring_idx(ring, position)], lrd_commit_make(lrd_ring_lap(ring, position), n, kind));
}

/* ---- writer ---- */

/* Cells of the committed record at head; 0: none (yet). */
static inline uint32_t lrd_ring_next(const struct lrd_ring *ring, uint64_t head)
{
    /* Pairs with the release in lrd_ring_commit(). */
    uint64_t w = lrd_load_acquire(&ring->commit[lrd_ring_idx(ring, head)]);
    if (lrd_commit_lap(w) != (lrd_ring_lap(ring, head) & ((UINT64_C(1) << 40) - 1)))
        return 0;
    uint32_t n = lrd_commit_cells(w);
    /* A record of no cells or longer than the ring is a lie; as one cell it will be looked at and refused. */
    return n == 0 || n > ring->n_cells ? 1 : n;
}

/* End of what a dead client may have claimed: its word for it, clamped to one ring from head. */
static inline uint64_t lrd_ring_end(const struct lrd_ring *ring, uint64_t head)
{
    uint64_t tail = lrd_load_acquire(&ring->lane->tail);
    return tail - head > ring->n_cells ? head + ring->n_cells : tail;
}

#endif
