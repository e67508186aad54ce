/* The writer: the worker's thread that applies records, and the only one that changes table and arena.
 *
 * The clerk gives it lanes and takes them away; everything else it finds in the segment and in the rings.
 */
#ifndef LRD_WRITER_H
#define LRD_WRITER_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/bell.h"
#include "shm/ring.h"
#include "shm/segment.h"

struct lrd_writer;

struct lrd_writer_options {
    uint32_t spin_us;           /* how long it looks at idle rings before it sleeps */
    uint32_t client_namespaces; /* that clients without LRD_RIGHT_ADMIN may have made, in all */
};

/* 0; -ENOMEM; -errno. Rebuilds its private notes from the descriptors. An intent that a dead worker left must have been completed before. */
int lrd_writer_create(struct lrd_writer **out, struct lrd_store *store, const struct lrd_writer_options *options);
void lrd_writer_destroy(struct lrd_writer *w);

/* The thread's body: returns after lrd_writer_stop(). */
void lrd_writer_run(struct lrd_writer *w);

/* ---- from other threads ---- */

void lrd_writer_stop(struct lrd_writer *w);

/* Begins to look at a lane whose words say LIVE or DYING. The ring, the doorbell (an eventfd, never read) and the bell (the client's connection:
 * wait.h) stay the caller's, who keeps them until lrd_writer_drained() said so. */
void lrd_writer_add(struct lrd_writer *w, uint32_t lane, const struct lrd_ring *ring, int doorbell);

/* All lanes of clients that attached to former workers were added. Until then no block is used again: views may be open there (shm/pins.h). */
void lrd_writer_lanes_known(struct lrd_writer *w);

/* The client is gone: applies what it committed, sets the lane's state to FREE, then forgets it. */
void lrd_writer_drain(struct lrd_writer *w, uint32_t lane);

/* An eventfd that becomes readable when a lane was drained; lrd_writer_drained() takes one such lane, or returns false. */
int lrd_writer_drained_fd(const struct lrd_writer *w);
bool lrd_writer_drained(struct lrd_writer *w, uint32_t *lane);

/* Those that the clerk is to ring. */
struct lrd_bells *lrd_writer_bells(struct lrd_writer *w);

/* An eventfd that becomes readable when a client asked for the memory to be measured (LRD_RECORD_MEASURE was applied). Nobody in the writer waits for the answer: the
 * client looks at lrd_header.measured. */
int lrd_writer_measure_fd(const struct lrd_writer *w);

#endif
