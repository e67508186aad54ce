/* Credit: what lanes may still write into namespaces that refuse eviction, so that what was acknowledged there always has room.
 *
 *   client      takes bytes and an item at the call, of what its lane was granted; without enough of it asks (libclient/credit.c)
 *   grant       live + promised + asked <= capacity: granted bytes and items of the lane go up, in the intent of the request
 *   use         a set that is applied or discarded uses up what it took: used bytes and items go up, in the intent of the record
 *   return      what a lane held and did not use is everybody's again when its client is gone
 *
 * Promised is what all lanes were granted and have not used. It is private, and added up again by each worker from the words of the lanes that are left. */
#ifndef LRD_CREDIT_H
#define LRD_CREDIT_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/arena.h"
#include "shm/journal.h"
#include "shm/segment.h"

struct lrd_credits {
    struct lrd_store *s;
    const struct lrd_arena *a;
    struct lrd_journal_writer *j;
    struct lrd_promise {
        uint64_t bytes, items;
    } promised[LRD_CREDITS];
};

void lrd_credits_init(struct lrd_credits *c, struct lrd_store *s, const struct lrd_arena *a, struct lrd_journal_writer *j);

/* Whether a set of that many bytes may be copied into its namespace. Always, where nothing is refused. */
bool lrd_credits_cover(const struct lrd_credits *c, uint32_t lane, uint32_t ns, uint32_t bytes);

/* Adds to the open intent that a set uses up its credit. False: it has none, which only a client that does not keep to the protocol can bring about; that is counted. */
bool lrd_credits_use(struct lrd_credits *c, uint32_t lane, uint32_t ns, uint32_t bytes);

/* Whether a namespace has room for an item of `bytes` in the place of one of `old` (0: none), beside all that is promised. Always, where nothing is refused. For writes whose size only the
 * writer knows. */
bool lrd_credits_afford(const struct lrd_credits *c, uint32_t ns, uint32_t bytes, uint32_t old);

/* Adds to the open intent that it was written: the largest item counts for what others get. */
void lrd_credits_afforded(struct lrd_credits *c, uint32_t ns, uint32_t bytes);

/* Adds to the open intent what a lane is granted: what it asks for and a little more, or nothing. The ask is a private copy. */
enum lrd_answer lrd_credits_grant(struct lrd_credits *c, uint32_t lane, uint32_t ns, const struct lrd_credit_ask *ask);

/* The lane's client is gone and all its records are applied. */
void lrd_credits_return(struct lrd_credits *c, uint32_t lane);

#endif
