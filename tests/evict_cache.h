/* A cache in memory without a daemon: segment, arena, table and policy, driven as daemon/records.c drives them, one record and one step at a time, by a clock that
 * the test sets. */
#ifndef TESTS_EVICT_CACHE_H
#define TESTS_EVICT_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/evict.h"
#include "shm/arena.h"
#include "shm/journal.h"
#include "shm/marks.h"
#include "shm/segment.h"
#include "shm/table.h"

#define CACHE_NS 3u
#define CACHE_KEYS 1024u /* of each namespace, by number */
#define CACHE_LANES 4u   /* the last has no mark map: it samples */

struct cache_quota {
    uint32_t policy;
    uint32_t min, max; /* blocks; max 0: all there is */
};

struct cache_shape {
    uint32_t n_blocks, block_shift, n_pairs;
    uint32_t n_ns;
    struct cache_quota ns[CACHE_NS];
};

struct cache {
    struct cache_shape shape;
    struct lrd_store s;
    struct lrd_journal_writer j;
    struct lrd_arena a;
    struct lrd_table t;
    struct lrd_evict *e;
    struct lrd_ring ring[CACHE_LANES];
    const struct lrd_ring *rings[CACHE_LANES];
    uint64_t now_ms, now_ns;
    uint64_t largest[CACHE_NS]; /* item that was put, of a namespace that refuses: what lrd_namespace.largest is for */
    uint64_t steps;             /* ever made */
    void *base;
    uint64_t bytes;
    uint32_t seen[CACHE_NS][CACHE_KEYS]; /* cache_walk(): the block that the live item of a key lies in, + 1; 0: none */
};

/* Ends the test if it cannot. */
void cache_make(struct cache *c, const struct cache_shape *shape);
void cache_drop(struct cache *c);

/* Throws the private notes away and takes hold anew, as a new worker does. */
void cache_restart(struct cache *c);

/* Keys: of all namespaces no two have the same tag, so a hint is never wrong, and none has the fingerprint 0. */
uint64_t cache_hash(uint32_t ns, uint32_t key);
const unsigned char *cache_key(uint32_t ns, uint32_t key);
#define CACHE_KEY_LEN 8u

uint32_t cache_bytes(uint32_t value_len); /* of an item with such a value */

enum cache_result { CACHE_DONE, CACHE_STUCK, CACHE_FULL };

/* A set: DONE; FULL: the namespace refuses; STUCK: there is no block, and making room until nothing can be done brought none. */
enum cache_result cache_put(struct cache *c, uint32_t ns, uint32_t key, uint32_t value_len, uint64_t expires_ms);
/* The same without making room: STUCK at once. */
enum cache_result cache_try(struct cache *c, uint32_t ns, uint32_t key, uint32_t value_len, uint64_t expires_ms);
bool cache_delete(struct cache *c, uint32_t ns, uint32_t key);
void cache_reset(struct cache *c, uint32_t ns);

bool cache_step(struct cache *c);
void cache_settle(struct cache *c);              /* steps until nothing is to do; a policy that goes on for ever ends the test */
void cache_tick(struct cache *c, uint64_t by_ms);

/* A reader's mark in a lane. False: there is no such item, or it has expired. */
bool cache_read(struct cache *c, uint32_t lane, uint32_t ns, uint32_t key);
void cache_harvest(struct cache *c);             /* a whole round */
uint32_t cache_count(const struct cache *c, uint32_t ns, uint32_t key);

uint64_t cache_counter(const struct cache *c, uint32_t ns, enum lrd_counter_id id);
bool cache_has(struct cache *c, uint32_t ns, uint32_t key, struct lrd_place *at);
uint32_t cache_block(struct cache *c, uint32_t ns, uint32_t key); /* LRD_NO_BLOCK: no live item */
uint32_t cache_queue(struct cache *c, uint32_t ns, uint32_t key); /* of its block; LRD_N_QUEUES: no live item */

/* Goes through table and descriptors and fills seen[]. Checks that every block's live word is the sum of its items, all of it lies below `used` and is what was put last, that lists and
 * tallies hold what descriptors say, and that per namespace sets - overwrites - deletes - evicted - expired - reset - no room is what is there. How many things are wrong; each is printed. */
unsigned cache_walk(struct cache *c);

/* Live bytes that a namespace that refuses can always hold: as in daemon/credit.c. */
uint64_t cache_capacity(const struct cache *c, uint32_t ns, uint64_t largest);

static inline uint64_t cache_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * UINT64_C(0x2545f4914f6cdd1d);
}

#endif
