/* The worker: a process forked by the keeper that applies records (its writer thread) and serves clients (its main thread, the clerk). It may be killed at any
 * instruction; the next one goes on from what is in the segment and what the keeper holds. */
#ifndef LRD_WORKER_H
#define LRD_WORKER_H

#include <sys/types.h>

#include "daemon/keeper.h"

/* Exit statuses. Anything else, and any signal but SIGKILL and SIGTERM, is a fault. */
#define LRD_WORKER_DONE 0     /* asked to stop, or the keeper is gone */
#define LRD_WORKER_LACKS 75   /* memory, descriptors: try again later */

/* The body of the forked process; its exit status. keeper: who must stay its parent. */
int lrd_worker_run(const struct lrd_house *house, pid_t keeper);

#endif
