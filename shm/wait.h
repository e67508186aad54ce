/* Sleeping and waking, both ways. Each is the same pattern: the sleeper announces itself, fences, looks again, sleeps with a timeout; the other side makes its
 * change visible, fences, looks for an announcement. One of the two sees the other. The timeouts are for clients that steal wake-ups (a read-only client can, with
 * FUTEX_REQUEUE) or drain their doorbell.
 *
 *   writer parks a lane            lrd_park / lrd_unpark        <->  lrd_doorbell_ring   by producers, after a commit
 *   a client waits for a position  lrd_wait_applied             <->  lrd_wake_waiters    by the writer, after a batch
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

/* After records were applied: wakes who sleeps. Costs a fence and a load; a syscall if somebody does. */
void lrd_wake_waiters(struct lrd_lane_words *words, struct lrd_lane *lane);

#endif
