/* Making room: what a namespace keeps and what it gives up. The policy is S3-FIFO over blocks, "S3-log"; how it was chosen is in HACKING.md.
 *
 *   A new item goes to the namespace's small queue; to main if the ghost list knows its key; an overwrite goes where the old version was. Each queue is split by time to
 *   live, if the namespace is large enough, so that a block's items expire together.
 *
 *   Room is made when the free blocks fall below the spare ones, in the namespace that is most above its minimum, or in one that is near its maximum. One block is reclaimed at a
 *   time, in bounded steps:
 *     an epoch that is over      its blocks are freed whole
 *     expired, all of it         freed whole, without a look at its items
 *     cleaning                   while live bytes are less than half of the namespace's blocks, and always where eviction is refused: the block with the fewest live bytes, all of
 *                                which are copied forward; if that is half a block or more, nothing would be won by it, and room is made by evicting. Rows that are overwritten again and again never push out rows that are only read.
 *     small's oldest block       if small has more than a fifth of the blocks: items seen to be read twice are copied to main, the others go, and the ghost list notes their keys
 *     main's oldest block        items seen to be read once since the last time are copied to main's end
 *   What is copied forward is at most 65 % of a block, the items with the most reads per byte; cleaning copies all. Then the block's generation changes: that is the eviction.
 *
 * Everything here is private to the writer, and hints: counts and ghost list start empty with each worker. What must outlive it is in descriptors and intents. A worker that is killed
 * while it reclaims a block leaves that block as it was, less what was copied; the next one begins with it again, or with another.
 */
#ifndef LRD_EVICT_H
#define LRD_EVICT_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/arena.h"
#include "shm/ring.h"
#include "shm/table.h"

struct lrd_evict;

/* 0; -ENOMEM. Gives the table its counts. */
int lrd_evict_create(struct lrd_evict **out, struct lrd_store *s, struct lrd_arena *a, struct lrd_table *t, struct lrd_journal_writer *j);
void lrd_evict_destroy(struct lrd_evict *e);

/* Bytes allocated for all of it. */
uint64_t lrd_evict_private_bytes(const struct lrd_evict *e);

/* The chain that a set goes to. old: the block of what it will overwrite, as lrd_table_hint() says. hash may be a client's lie: then its item stands in the wrong queue. expires_ms 0: never. */
uint32_t lrd_evict_chain(struct lrd_evict *e, uint32_t ns, uint64_t hash, uint32_t old, uint64_t expires_ms, uint64_t now_ms);

/* Fetches what lrd_evict_chain() will look at beside the bucket. */
void lrd_evict_prefetch(const struct lrd_evict *e, uint64_t hash);

/* So many bytes, the item whose chain was asked for last, were appended to a namespace by a client: work is owed for them, and the namespace's clock goes on. */
void lrd_evict_appended(struct lrd_evict *e, uint32_t ns, uint32_t bytes, uint64_t now_ms);

/* A client's record waits for a block of this namespace. */
void lrd_evict_stalled(struct lrd_evict *e, uint32_t ns);

/* Does a step if room has to be made: a few microseconds. False: nothing to do, or nothing can be done. Between two intents, while nothing that was copied lacks its slot. */
bool lrd_evict_step(struct lrd_evict *e, uint64_t now_ms);

/* Whether work is owed for what was appended. A step pays for some. */
bool lrd_evict_owes(const struct lrd_evict *e);

/* By the clock, at least every 100 ms: frees blocks that have expired or are empty, a few at a time. */
void lrd_evict_tick(struct lrd_evict *e, uint64_t now_ms);

/* After the intent that reset a namespace. */
void lrd_evict_reset(struct lrd_evict *e, uint32_t ns);

/* Takes marks from all lanes' maps, a piece at a time, while a round is due and the budget allows. n of them. True if it did something. */
bool lrd_evict_harvest(struct lrd_evict *e, const struct lrd_ring *const *lanes, uint32_t n, uint64_t now_ns);

#endif
