/* The policy as it is described in daemon/evict.h, once more, in lists and without bytes: no segment, no table, no steps. Slow and simple; what it says is right.
 *
 * It is told what a cache (evict_cache.h) is told, and makes room in one go where that one makes steps. Which block is which matters only in that block 0 has a granule less, so free blocks
 * are taken in the order in which they were freed, beginning with the order of a fresh arena. */
#ifndef TESTS_EVICT_MODEL_H
#define TESTS_EVICT_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/evict_cache.h"

#define MODEL_BLOCKS 128u

struct model_item {
    uint32_t ns, key, bytes;
    uint64_t expires_ms; /* 0: never */
    uint32_t count;
    bool alive;
};

enum model_state { MODEL_FREE, MODEL_OPEN, MODEL_FULL, MODEL_DOOMED };

struct model_block {
    enum model_state state;
    uint32_t ns, queue, class;
    uint64_t opened;       /* when, in order */
    uint64_t freed;        /* the same */
    uint64_t doomed;
    uint32_t used;
    uint64_t latest_ms;    /* expiry of its items; 0: it had none; UINT64_MAX: one never expires */
    struct model_item *item;
    uint32_t n_items;
};

struct model_where {
    uint32_t block, item;
    bool there;
};

struct model_ghost {
    uint32_t fingerprint, at;
};

struct model_counts {
    uint64_t sets, overwrites, deletes, delete_misses, evicted, evicted_unread, expired, reset_items, copied, copied_bytes, ghost_hits, cleanings, blocks_opened, blocks_freed;
};

struct model {
    struct cache_shape shape;
    uint64_t now_ms, order;
    struct model_block block[MODEL_BLOCKS];
    struct model_where where[CACHE_NS][CACHE_KEYS];
    struct model_ghost *ghost;
    uint32_t n_sets;
    uint64_t ghost_unit;
    uint32_t tick_block, tight_turn;
    struct {
        bool tight;
        uint64_t ghost_bytes, appended, began_ms, turnover_ms, largest;
        struct model_counts n;
    } ns[CACHE_NS];
};

/* Of an empty cache. */
void model_make(struct model *m, const struct cache *c);
void model_drop(struct model *m);

enum cache_result model_put(struct model *m, uint32_t ns, uint32_t key, uint32_t value_len, uint64_t expires_ms);
bool model_delete(struct model *m, uint32_t ns, uint32_t key);
void model_reset(struct model *m, uint32_t ns);
void model_read(struct model *m, uint32_t ns, uint32_t key); /* seen to be read in a round */
void model_settle(struct model *m);
void model_tick(struct model *m, uint64_t by_ms);

uint32_t model_live_items(const struct model *m, uint32_t block);
uint64_t model_live_bytes(const struct model *m, uint32_t block);

/* Differences between the two; each is printed. */
unsigned model_compare(const struct model *m, struct cache *c);

#endif
