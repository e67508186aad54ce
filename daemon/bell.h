/* Bells that are to be rung: the writer says so, the clerk does it.
 *
 * A bell is a message on a client's connection. How long sending one takes is the client's to say: the kernel goes through everything that has the other end in its epoll (20,000 of them
 * made one send take 3 to 4 ms). So the writer never sends: it notes the lane, and wakes the clerk by an eventfd that no client has.
 *
 *   writer   wanted[lane] = 1 (exchange); if it was 0, the eventfd
 *   clerk    the eventfd is read; wanted[lane] = 0 (exchange); if it was 1, sends
 *
 * A worker that dies between the two has taken the lane's armed bit away and rung nobody: the next one rings all lanes that it takes over (lrd_watches_add_lane, take_add). */
#ifndef LRD_BELL_H
#define LRD_BELL_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/atomic.h"

struct lrd_bells {
    lrd_u32 *wanted; /* by lane */
    uint32_t n_lanes;
    int fd;
};

/* 0; -ENOMEM; -errno. */
int lrd_bells_create(struct lrd_bells *b, uint32_t n_lanes);
void lrd_bells_destroy(struct lrd_bells *b);

void lrd_bells_want(struct lrd_bells *b, uint32_t lane);

/* The clerk's: from `lane` on, the next one whose bell is to be rung. False: there is none. */
bool lrd_bells_take(struct lrd_bells *b, uint32_t *lane);

#endif
