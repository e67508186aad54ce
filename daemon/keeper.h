/* The keeper: the parent process, which makes and keeps what must outlive a worker (the segment's writable mapping, the sockets, every client's lane), and forks
 * workers. It reads nothing from clients.
 *
 * Between keeper and worker there is a socket pair of their own for every worker:
 *
 *   worker -> keeper   KEEP lane + {lane, doorbell, client's socket}   the keeper holds them from then on, for the next worker as well
 *   keeper -> worker   KEPT lane / NOT_KEPT lane                       only now may the client get its answer
 *   worker -> keeper   DROP lane                                       the lane is free and empty: the keeper closes its three descriptors
 *   worker -> keeper   READY                                           clients are being served
 */
#ifndef LRD_KEEPER_H
#define LRD_KEEPER_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/config.h"
#include "shm/segment.h"

enum lrd_keeper_kind { LRD_KEEPER_KEEP = 1, LRD_KEEPER_KEPT, LRD_KEEPER_NOT_KEPT, LRD_KEEPER_DROP, LRD_KEEPER_READY };

struct lrd_keeper_message {
    uint32_t kind;
    uint32_t lane;
    uint32_t incarnation;
    uint32_t pad;
};

/* What the keeper holds for a lane. */
struct lrd_kept {
    bool used;
    uint32_t incarnation;
    int lane, doorbell, client;
};

/* What a worker inherits. */
struct lrd_house {
    const struct lrd_config *config;
    struct lrd_geometry geometry;
    void *base;              /* of the segment, writable */
    int segment;             /* read-only descriptor of it, for clients */
    int listener;            /* where clients attach */
    int keeper;              /* the worker's end of the pair */
    int node;                /* memory node for the writer; -1: any */
    struct lrd_kept *kept;   /* geometry.n_lanes of them */
};

/* lrd_segment_plan() of a configuration; if it cannot be, why says so. */
bool lrd_keeper_plan(const struct lrd_config *c, struct lrd_geometry *g, struct lrd_part parts[LRD_N_PARTS], char why[LRD_WHY_BYTES]);

/* Raises the soft limit of descriptors to what all clients take, here and in the worker; if the hard one is lower, why says so. */
bool lrd_keeper_raise_descriptors(uint32_t n_lanes, char why[LRD_WHY_BYTES]);

/* The whole life of a daemon: takes the name, makes the segment, serves, cleans up. The exit status. */
int lrd_keeper_run(const struct lrd_config *c);

#endif
