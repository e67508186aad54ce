/* A segment for tests, as small as wanted, with what its writer needs; and the recount that every test of it ends with.
 *
 * The calls here are what daemon/records.c does with one record, without its batches: room in the arena, payload, one intent of the table's steps and the lane's
 * position. A mistake in the use of the fixture aborts; what is wrong in the segment is counted by fixture_recount(). */
#ifndef TESTS_SEGMENT_FIXTURE_H
#define TESTS_SEGMENT_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/arena.h"
#include "shm/journal.h"
#include "shm/layout.h"
#include "shm/ring.h"
#include "shm/segment.h"
#include "shm/table.h"

#define FIXTURE_LANES 2u
#define FIXTURE_CELLS 64u
#define FIXTURE_FEED_PAGES 3u /* no namespace has a feed, unless a test makes it one */
#define FIXTURE_AGE_MS UINT64_C(2000) /* segment time when a fixture is made: there is a past in which items may have expired */

struct fixture {
    struct lrd_store store;
    struct lrd_journal_writer journal;
    struct lrd_arena arena;
    struct lrd_table table;
    struct lrd_reader reader; /* of the read-only mapping, if there is one; else of the same */
    void *base;
    void *seen; /* the read-only mapping, or NULL */
    size_t bytes;
    int fd;                   /* the sealed memfd, or -1 */
    uint32_t sweep_per_put;   /* buckets; 4 */
    uint64_t sweeps_forced;   /* times the arena had no room before the sweep went on */
};

/* An empty segment of exactly that shape in anonymous memory. */
void fixture_make(struct fixture *f, uint32_t n_pairs, uint32_t n_blocks, uint32_t block_shift);

/* The same in a memfd, sealed as the keeper seals it, with a read-only mapping beside. */
void fixture_make_sealed(struct fixture *f, uint32_t n_pairs, uint32_t n_blocks, uint32_t block_shift);

void fixture_drop(struct fixture *f);

/* Throws the writer's private notes away and takes hold anew, as a new worker does. */
void fixture_restart(struct fixture *f);

struct fixture_item {
    uint32_t ns;
    const void *key;
    uint32_t key_len;
    const void *value;
    uint32_t value_len;
    uint32_t flags;
    uint64_t expires_ms; /* 0: never */
};

/* The header that an item has in the arena. */
struct lrd_item_head fixture_head(const struct fixture_item *item);

/* The three steps of a put. If there is no block, room is made in the fixture's own way: what was reset goes, then the oldest full block of all, or of the namespace if that is at
 * its maximum, then the sweep goes on. Publishing ends with the applied position of lane 0 one cell further. */
uint32_t fixture_alloc(struct fixture *f, const struct fixture_item *item); /* in chain 0 */
uint32_t fixture_alloc_in(struct fixture *f, const struct fixture_item *item, uint32_t chain);
void fixture_fill(struct fixture *f, const struct fixture_item *item, uint32_t location, struct lrd_new_item *staged);
uint32_t fixture_publish(struct fixture *f, const struct lrd_new_item *staged); /* the block in which an item died, or LRD_NO_BLOCK */

void fixture_put(struct fixture *f, const struct fixture_item *item); /* into chain 0 */
void fixture_put_in(struct fixture *f, const struct fixture_item *item, uint32_t chain);
bool fixture_delete(struct fixture *f, uint32_t ns, const void *key, uint32_t key_len);
void fixture_reset(struct fixture *f, uint32_t ns); /* each put frees one of the blocks that it leaves */
void fixture_sweep_all(struct fixture *f); /* two whole sweeps, owed or not */

/* Copies a live item forward: to the open block of that chain, for copying. False: it is not there, or there is no block. */
bool fixture_move(struct fixture *f, uint32_t ns, const void *key, uint32_t key_len, uint32_t chain);

uint64_t fixture_now_ms(const struct lrd_reader *r);

/* Fills *get with what was found, also its slot. */
enum lrd_outcome fixture_get(const struct lrd_reader *r, uint32_t ns, const void *key, uint32_t key_len, void *buffer, size_t capacity, struct lrd_get *get);

/* Counts everything again: slots, displaced words, live words, counters that must add up; every block in use is walked from item to item; every live item must be found by its
 * key at its own slot, so none is there twice. How many things are wrong; each is printed to stderr. With no writer running. */
unsigned fixture_recount(const struct lrd_reader *r);

/* The same, and what the arena has noted beside the descriptors: lists and tallies. */
unsigned fixture_recount_all(const struct fixture *f);

double fixture_load(const struct lrd_reader *r); /* live items to slots */

static inline uint64_t fixture_counter(const struct lrd_reader *r, enum lrd_counter_id id) { return lrd_counter_sum(r, id); }

/* xorshift64*: the same numbers on every machine. Never seed it with 0. */
static inline uint64_t fixture_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * UINT64_C(0x2545f4914f6cdd1d);
}

/* Bytes that only this seed has. */
void fixture_bytes(void *to, size_t n, uint64_t seed);

/* Whether LARDER_LONG asks for the long form. */
bool fixture_long(void);

#endif
