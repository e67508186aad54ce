/* A lane's memory: made and sealed by the daemon, mapped by the daemon and one client.
 *
 *   lane header (1 page) | commit words (8 bytes per cell, whole pages) | cells | the same cells again (address space only)
 */
#ifndef LRD_LANE_H
#define LRD_LANE_H

#include <stddef.h>
#include <stdint.h>

#include "shm/ring.h"

/* Bytes of a lane's memfd for a ring of n_cells (a power of two, at least 64). */
uint64_t lrd_lane_bytes(uint32_t n_cells);

/* Makes a lane: a memfd, populated and sealed against growing, shrinking and further seals (so neither side can make the other's access fail). Its descriptor, or -errno. */
int lrd_lane_create(uint32_t n_cells, uint32_t index);

/* Maps it. 0; -EINVAL: not a sealed memfd of that size; -errno. */
int lrd_lane_map(int fd, uint32_t n_cells, struct lrd_ring *ring);
void lrd_lane_unmap(struct lrd_ring *ring);

#endif
