/* The ghost list: which keys were evicted from a small queue not long ago. Sets of four entries {fingerprint:16, age:16}, one entry for each slot of the table.
 *
 * Ages are taken from a clock that each namespace has: the bytes that went through its part of the list, in units of a 2048th of the arena. So "a cacheful ago" is a difference of two
 * numbers. An entry is a hint: two keys with the same fingerprint in a set, one of 16,000, are taken for each other, and what is older than 32 cachefuls may look young again. */
#ifndef LRD_GHOST_H
#define LRD_GHOST_H

#include <stdint.h>

#include "shm/layout.h"

struct lrd_ghost {
    uint32_t *entry;
    uint32_t n_sets;
    uint64_t unit_bytes;
    uint64_t bytes[LRD_NAMESPACES]; /* that went through the list */
};

/* 0; -ENOMEM. */
int lrd_ghost_init(struct lrd_ghost *g, uint64_t n_slots, uint64_t arena_bytes);
void lrd_ghost_fini(struct lrd_ghost *g);
uint64_t lrd_ghost_private_bytes(const struct lrd_ghost *g);

/* An item of that many bytes was evicted. */
void lrd_ghost_note(struct lrd_ghost *g, uint32_t ns, uint64_t hash, uint32_t bytes);

/* The entry of a key that was evicted less than a cacheful of that many bytes ago, to be set to 0 when the key has an item again; NULL: there is none. */
uint32_t *lrd_ghost_find(struct lrd_ghost *g, uint32_t ns, uint64_t hash, uint64_t cacheful_bytes);

void lrd_ghost_prefetch(const struct lrd_ghost *g, uint64_t hash);

#endif
