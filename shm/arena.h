/* The arena: blocks of items.
 *
 * Each block belongs to a namespace and stands in one of its chains: the oldest at the head, the open one, which is being filled, behind the last. Which chain an item goes
 * to, and which block is given up when room is needed, is daemon/evict.c's to say; here blocks are opened, closed and freed.
 *
 * Reading half. A reader comes with a slot, looks up the block word, copies from the item, and looks at the block word again: unchanged means that
 * not a byte of it was overwritten. The writer's side of that bargain: the new block word is stored before the first byte is overwritten, with a
 * release fence between the two (lrd_arena_open_block), so a reader that saw one new byte sees the new word after its acquire fence.
 *
 *   who                  may call                       beside
 *   any reader           lrd_arena_*  (inline)          everything
 *   the writer           all others                 readers
 */
#ifndef LRD_ARENA_H
#define LRD_ARENA_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/atomic.h"
#include "shm/item.h"
#include "shm/layout.h"
#include "shm/pins.h"
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
    return ((lrd_block_word_generation(block_word) ^ lrd_slot_generation(slot)) & LRD_GENERATION_MASK) != 0 || lrd_block_word_epoch(block_word) != epoch;
}

/* ---- writing half: arena.c. One thread, the writer. ---- */

struct lrd_journal_writer;

#define LRD_NO_BLOCK UINT32_MAX

/* What the writer knows of a namespace's blocks. */
struct lrd_tally {
    uint32_t n_blocks;                /* not free; at most max_blocks */
    uint32_t n_doomed;                /* of them: of an epoch that is over */
    uint32_t n_queue[LRD_N_QUEUES];   /* the others, by queue */
    uint32_t open[LRD_CHAINS];        /* being filled, or LRD_NO_BLOCK */
    uint64_t live_items, live_bytes;  /* of this epoch, expired or not */
};

/* The writer's private notes: rebuilt from the descriptors by lrd_arena_init(). */
struct lrd_arena {
    struct lrd_store *s;
    struct lrd_journal_writer *j;
    uint32_t *next, *prev;     /* lists through the blocks: free ones, doomed ones, and each chain's full ones, first in, first out */
    uint32_t n_free;
    uint32_t n_doomed;
    struct lrd_pins pins;      /* of lanes with views: which freed blocks wait a while (pins.h) */
    bool blind;                /* not all such lanes are known: no block is opened until they are */
    uint32_t held[2];          /* blocks into which something large is being copied in steps, or LRD_NO_BLOCK: never freed */
    struct lrd_tally ns[LRD_NAMESPACES];
};

enum lrd_hold { LRD_HOLD_RECORD, LRD_HOLD_COPY };

/* 0; -ENOMEM. Changes nothing in the segment. All free blocks count as just freed, in order of their last opening. */
int lrd_arena_init(struct lrd_arena *a, struct lrd_store *s, struct lrd_journal_writer *j);
void lrd_arena_fini(struct lrd_arena *a);

/* Bytes allocated for the notes. */
uint64_t lrd_arena_private_bytes(const struct lrd_arena *a);

/* Who asks for room: clients leave the last free block to copying forward, which makes room. To the rescue of what must not be dropped a namespace may have a block above its maximum,
 * until the one that is being cleaned is free. */
enum lrd_asker { LRD_FOR_CLIENT, LRD_FOR_COPY, LRD_FOR_RESCUE };

/* Room for an item with that header in the open block of a chain: its location, the header written. Opens the next block if it does not fit. What a reader relies on is stored
 * before the caller can store a slot, and what lies below `used` can always be walked. Must not be called inside an intent. 0: there is no block to open: lrd_arena_room_for()
 * is 0, or none may be reused before the running sweep has completed (lrd_table_sweep), or it is blind. */
uint32_t lrd_arena_alloc(struct lrd_arena *a, uint32_t ns, uint32_t chain, struct lrd_item_head head, enum lrd_asker asker);

/* Blocks that a namespace could still open: free ones, within its maximum. */
uint32_t lrd_arena_room_for(const struct lrd_arena *a, uint32_t ns);

/* Blocks that others may have from a namespace; 0 if none. */
static inline uint32_t lrd_arena_above_min(const struct lrd_arena *a, uint32_t ns)
{
    uint64_t min = lrd_load_relaxed(&a->s->namespaces[ns].min_blocks);
    return a->ns[ns].n_blocks > min ? a->ns[ns].n_blocks - (uint32_t)min : 0;
}

/* The oldest full block of a chain, and the one that was filled after it; LRD_NO_BLOCK at the end. */
uint32_t lrd_arena_first(const struct lrd_arena *a, uint32_t ns, uint32_t chain);
uint32_t lrd_arena_after(const struct lrd_arena *a, uint32_t ns, uint32_t chain, uint32_t block);

/* Closes a chain's open block, if it has one: it is full then. */
void lrd_arena_close(struct lrd_arena *a, uint32_t ns, uint32_t chain);

/* Whether a block is full and nothing is being copied into it. */
bool lrd_arena_may_free(const struct lrd_arena *a, uint32_t block);

/* Frees a full block: one intent; every slot that points into it is dead from then on. Its live items are counted by cause, except n_expired of them with expired_bytes, which
 * had expired before. */
void lrd_arena_free_block(struct lrd_arena *a, uint32_t block, enum lrd_cause cause, uint64_t now_ms, uint32_t n_expired, uint64_t expired_bytes);

/* Frees a full block that has no live item left; nothing else. To be called after an item died there, outside an intent and while nothing that was copied lacks its slot. */
void lrd_arena_free_if_empty(struct lrd_arena *a, uint32_t block, uint64_t now_ms);

/* After the store that ended a namespace's epoch: all its blocks are doomed. A few stores, however many blocks there are. */
void lrd_arena_doom(struct lrd_arena *a, uint32_t ns);

/* Frees one doomed block. False: there is none that may be freed. */
bool lrd_arena_free_doomed(struct lrd_arena *a, uint64_t now_ms);

/* An item of this block was born (by 1) or died (by -1) in the intent that is being collected; share is lrd_item_live() of it. */
void lrd_arena_step_live(struct lrd_arena *a, uint32_t block, uint64_t share, int by);

#endif
