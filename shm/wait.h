/* Sleeping and waking, both ways. Each is the same pattern: the sleeper announces itself, fences, looks again, sleeps with a timeout; the other side makes its
 * change visible, fences, looks for an announcement. One of the two sees the other. The timeouts are for clients that steal wake-ups (a read-only client can, with
 * FUTEX_REQUEUE) or drain their doorbell.
 *
 *   writer parks a lane            lrd_park / lrd_unpark        <->  lrd_doorbell_ring   by producers, after a commit
 *   a client waits for a position  lrd_wait_applied             <->  lrd_wake_waiters    by the writer, after a batch
 *   a client sleeps in epoll       lrd_arm_position             <->  the same
 *
 * The bell is the connection the client attached by: a message on it makes it readable, and a send can be told not to wait whatever the client does to its end. An eventfd could not: the client
 * can make it blocking and fill it up, both for us too. The writer only says that it is to be rung; the clerk does it (daemon/bell.h).
 */
#ifndef LRD_WAIT_H
#define LRD_WAIT_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/atomic.h"
#include "shm/layout.h"
#include "shm/ring.h"

/* ---- writer parks ---- */

/* Announces that this lane's ring is not looked at until its doorbell rings. False: something is there already, or has come meanwhile; not parked. */
static inline bool lrd_park(struct lrd_lane_words *words, const struct lrd_ring *ring, uint64_t head)
{
    uint32_t parked = lrd_load32_relaxed(&words->parked); /* only the writer stores it */
    lrd_store32_relaxed(&words->parked, parked | 1);
    lrd_fence_seq_cst(); /* pairs with the fence in lrd_doorbell_ring() */
    if (lrd_ring_next(ring, head) == 0)
        return true;
    lrd_store32_relaxed(&words->parked, (parked | 1) + 1);
    return false;
}

static inline void lrd_unpark(struct lrd_lane_words *words)
{
    uint32_t parked = lrd_load32_relaxed(&words->parked);
    if (parked & 1)
        lrd_store32_relaxed(&words->parked, parked + 1);
}

void lrd_doorbell_write(int fd);

/* After a commit: wakes the writer if it sleeps. rung: this process's note of the parking it has rung for. Costs a fence (5 ns) and a load; a syscall if parked. */
static inline void lrd_doorbell_ring(const struct lrd_lane_words *words, int doorbell, lrd_u32 *rung)
{
    lrd_fence_seq_cst(); /* the commit before the look; pairs with the fence in lrd_park() */
    uint32_t parked = lrd_load32_relaxed(&words->parked);
    if (lrd_unlikely(parked & 1) && lrd_load32_relaxed(rung) != parked) {
        lrd_doorbell_write(doorbell);
        lrd_store32_relaxed(rung, parked); /* after the write: who dies in between has not silenced the others */
    }
}

/* ---- a client waits ---- */

/* Waits until applied > position, for at most timeout_ms: spins some microseconds, then sleeps on words->woken. True: it is. */
bool lrd_wait_applied(const struct lrd_lane_words *words, struct lrd_lane *lane, uint64_t position, uint32_t timeout_ms);

/* Has the writer ring the bell when `position` is applied, or the lowest of several. One thread of the client at a time. False: it is applied already; then the bell may ring all the same. */
bool lrd_arm_position(const struct lrd_lane_words *words, struct lrd_lane *lane, uint64_t position);

/* Before LRD_RECORD_WATCH with LRD_WATCH_BELL is written. */
void lrd_arm_watch(struct lrd_lane *lane);

/* After records were applied: wakes who sleeps. True: the lane's bell was armed for that and is to be rung. Costs a fence and a load; a syscall if somebody sleeps. */
bool lrd_wake_waiters(struct lrd_lane_words *words, struct lrd_lane *lane);

/* What the lane's client has on watch has happened: the change of lane_words.rung wakes who sleeps on it, true: its bell was armed for that and is to be rung. */
bool lrd_ring_sleepers(struct lrd_lane_words *words, struct lrd_lane *lane);

/* Rings a bell (a socket). Never waits for its client, but takes as long as the client has made it: not for the writer. */
void lrd_bell_ring(int bell);

#endif
