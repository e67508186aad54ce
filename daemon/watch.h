/* Who is to be rung for what (LRD_RECORD_WATCH). Private to the writer: a new worker begins with nothing, and sleepers look again by themselves.
 *
 *   a client watches a hash, or a namespace's feed       noted here, once: what was rung for is forgotten
 *   an item with that hash changes                       its lanes are queued           lrd_watches_changed(), a load and a branch when nobody watches anything
 *   a namespace is reset, a lane ends                    a round over the lanes begins  lrd_watches_reset(), lrd_watches_remove_lane(); leases may have ended with the lane
 *   a feed moves                                         the same, for who watches it   found by lrd_watches_step(): whatever wrote the entry
 *   lrd_watches_step()                                   goes on with the round, rings some of the queue: bounded
 *
 * Ringing a lane is a change of lane_words.rung, which its client sleeps on, and a message on its connection if it has said in its lane that somebody polls that. A ring is for all that the lane watches, so a
 * client that gets one looks at everything it waits for and arms again what it still wants. A ring for nothing costs the client a look, no more.
 *
 * A lane has room for LRD_WATCHES hashes. One more takes the place of another of its own; a client that sleeps on the bell is rung for that, others look again after their nap. */
#ifndef LRD_WATCH_H
#define LRD_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/bell.h"
#include "shm/ring.h"
#include "shm/segment.h"

#define LRD_WATCHES 128u /* of one lane */

struct lrd_watches;

/* 0; -ENOMEM. */
int lrd_watches_create(struct lrd_watches **out, struct lrd_store *s, struct lrd_bells *bells);
void lrd_watches_destroy(struct lrd_watches *ws);
uint64_t lrd_watches_private_bytes(const struct lrd_watches *ws);

/* A lane begins, or is taken over from a dead worker and rung for what that one knew. */
void lrd_watches_add_lane(struct lrd_watches *ws, uint32_t lane, struct lrd_lane *shared);

/* It has ended: whatever it watched is forgotten, and all others are rung. */
void lrd_watches_remove_lane(struct lrd_watches *ws, uint32_t lane);

/* A client's word; `ns` is of a namespace there may be. */
void lrd_watches_note(struct lrd_watches *ws, uint32_t lane, uint32_t ns, uint64_t hash, uint32_t flags);

/* Begins with one word, so that looking at it is all it costs when nobody watches a hash. */
struct lrd_watched {
    uint32_t n;
};

void lrd_watches_queue(struct lrd_watches *ws, uint32_t ns, uint64_t hash);

/* An item with that hash has changed, and its intent is committed. */
static inline void lrd_watches_changed(struct lrd_watches *ws, uint32_t ns, uint64_t hash)
{
    if (lrd_unlikely(((const struct lrd_watched *)(const void *)ws)->n != 0))
        lrd_watches_queue(ws, ns, hash);
}

void lrd_watches_reset(struct lrd_watches *ws, uint32_t ns);

/* A bounded piece of what is to be rung. True if there was something, or more is left. */
bool lrd_watches_step(struct lrd_watches *ws);

#endif
