/* A lane's memory: made and sealed by the daemon, mapped by the daemon and one client.
 *
 *   lane header (21 pages) | commit words (8 bytes per cell, whole pages) | mark map (whole pages, or none) | cells | the same cells again (address space only)
 */
#ifndef LRD_LANE_H
#define LRD_LANE_H

#include <stddef.h>
#include <stdint.h>

#include "shm/ring.h"

/* Bytes of a lane's memfd for a ring of n_cells (a power of two, at least 64) and a mark map of mark_bytes (whole pages; 0: none). */
uint64_t lrd_lane_bytes(uint32_t n_cells, uint32_t mark_bytes);

/* Of all lanes, when every client that may attach has. */
static inline uint64_t lrd_lanes_bytes(const struct lrd_geometry *g)
{
    return lrd_lane_bytes(g->n_cells, 0) * g->n_lanes + (uint64_t)g->mark_bytes * g->n_mark_maps;
}

/* Makes a lane: a memfd, populated and sealed against growing, shrinking and further seals (so neither side can make the other's access fail). Its descriptor, or -errno. */
int lrd_lane_create(uint32_t n_cells, uint32_t mark_bytes, uint32_t index);

/* Maps it. 0; -EINVAL: not a sealed memfd of that size; -errno. */
int lrd_lane_map(int fd, uint32_t n_cells, uint32_t mark_bytes, struct lrd_ring *ring);
void lrd_lane_unmap(struct lrd_ring *ring);

#endif
