/* The arena: blocks of items.
 *
 * Reading half. A reader comes with a slot, looks up the block word, copies from the item, and looks at the block word again: unchanged means that
 * not a byte of it was overwritten. The writer's side of that bargain: the new block word is stored before the first byte is overwritten, with a
 * release fence between the two (lrd_arena_open_block), so a reader that saw one new byte sees the new word after its acquire fence.
 *
 *   who                  may call                       beside
 *   any reader           lrd_arena_*  (inline)          everything
 *   the writer           lrd_arena_alloc, _free_block   readers
 */
#ifndef LRD_ARENA_H
#define LRD_ARENA_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/atomic.h"
#include "shm/item.h"
#include "shm/layout.h"
#include "shm/segment.h"

static inline uint64_t lrd_arena_off(const struct lrd_reader *r, uint64_t slot)
{
    return (uint64_t)lrd_slot_location(slot) << r->granule_shift;
}

/* n_blocks or more for a location outside the arena, which no slot has. */
static inline uint32_t lrd_arena_block(const struct lrd_reader *r, uint64_t slot)
{
    return lrd_slot_location(slot) >> r->location_shift;
}

static inline const struct lrd_item *lrd_arena_item(const struct lrd_reader *r, uint64_t slot)
{
    return (const struct lrd_item *)(const void *)(r->arena + lrd_arena_off(r, slot));
}

/* Bytes from an offset to the end of its block: what an item there can have at most. */
static inline uint32_t lrd_arena_room(const struct lrd_reader *r, uint64_t off)
{
    uint32_t block_bytes = 1u << r->block_shift;
    return block_bytes - ((uint32_t)off & (block_bytes - 1));
}

static inline bool lrd_slot_dead(uint64_t slot, uint64_t block_word, uint32_t epoch)
{
    return ((lrd_block_word_generation(block_word) ^ lrd_slot_generation(slot)) & 0xffff) != 0 || lrd_block_word_epoch(block_word) != epoch;
}

/* ---- writing half: arena.c. One thread, the writer. ---- */

struct lrd_journal_writer;

#define LRD_NO_BLOCK UINT32_MAX

/* The writer's private notes: rebuilt from the descriptors by lrd_arena_init(). */
struct lrd_arena {
    struct lrd_store *s;
    struct lrd_journal_writer *j;
    uint32_t *next, *prev;    /* n_blocks + 2 each: two lists through their blocks, their heads at n_blocks and n_blocks + 1 */
    uint32_t n_free;
    uint32_t open;            /* block being filled, or LRD_NO_BLOCK */
    uint32_t held;            /* block into which a large item is being copied, or LRD_NO_BLOCK: never freed */
    uint64_t batch_sequence;  /* blocks opened since hold copied items without a slot: never freed. UINT64_MAX: none. */
    uint32_t spare;           /* free blocks to keep */
};

/* 0; -ENOMEM. Changes nothing in the segment. All free blocks count as just freed, in order of their last opening. */
int lrd_arena_init(struct lrd_arena *a, struct lrd_store *s, struct lrd_journal_writer *j);
void lrd_arena_fini(struct lrd_arena *a);

/* Room for an item of `bytes` (padding included, at most item_max) in the open block of the namespace: its location. Opens the next block if it does not fit, which may
 * evict the oldest. What a reader relies on is stored before the caller can store a slot. expires_ms 0: never. Must not be called inside an intent.
 * 0: no block may be reused before the running sweep has completed (lrd_table_sweep). */
uint32_t lrd_arena_alloc(struct lrd_arena *a, uint32_t ns, uint32_t bytes, uint64_t expires_ms);

/* Between a batch's first lrd_arena_alloc() and its last slot. */
void lrd_arena_batch_begin(struct lrd_arena *a);
static inline void lrd_arena_batch_end(struct lrd_arena *a) { a->batch_sequence = UINT64_MAX; }

/* Frees a full block: one intent; every slot that points into it is dead from then on. */
void lrd_arena_free_block(struct lrd_arena *a, uint32_t block);

/* Frees a full block that has no live item left; nothing else. To be called after an item died there. */
void lrd_arena_free_if_empty(struct lrd_arena *a, uint32_t block);

/* Frees the oldest block if fewer than the spare ones are free. True if it did. */
bool lrd_arena_reclaim(struct lrd_arena *a);

#endif
