/* Walking the table: all items, by slot, for those who come without a key. Reading half; there is no other.
 *
 * A walk looks at every slot while the writer goes on. It waits for nobody, keeps nothing in the segment, and may take as long as it likes: it can stop after any slot and go on
 * hours later.
 *
 * The promise: an item that is there from the walk's beginning to its end is looked at at least once. Overwriting a key does not end its being there, nor does a copy to another block.
 *
 * Why it holds. An item's slot leaves its place in one way only: lrd_table_put() moves it forward in its own order, to make room (make_room() in table.c). Overwriting and
 * copying forward (lrd_table_move()) are one store in the same place, with the same displacement; all else that takes a slot away (a delete, a victim, a dead slot's end) takes what is not there
 * any more. A move stores the new slot before it replaces the old one, in one intent, and the new displacement is higher. So:
 *
 *   - Pass 0 looks at all slots, each once. What it missed was moved while it ran: from a place that was still ahead to one that was behind. It has a displacement of 1 or more now.
 *   - Pass n looks at all slots whose displacement is n or more. What it missed, of what the passes before it had missed, was moved while it ran, and has n + 1 or more now.
 *   - Nothing moves on from displacement 3: pass 3 misses nothing. Four passes are always enough.
 *
 * A pass need not be followed by another if nothing was moved while it ran. The counter `relocated` tells: it is raised in the intent of each move, before the slots.
 *   - At the end of a pass: it missed a move's item because it saw the old place when that had been replaced, by an acquire load, so it sees the counter raised.
 *   - At its beginning: a move may have raised the counter already, and not have stored its slots. So after the counter is read, the intent's valid word (journal.h) must be seen as 0 once: whoever
 *     has seen the raised counter has seen that intent's valid word, and a later 0 comes after its last store. A worker that was killed in the middle leaves the word as it
 *     is until the next one has made all the stores again, which raises nothing anew. If the word is not seen as 0 within a few looks, another pass follows, that is all.
 *
 * Moves are rare below a load of 0.75, and what a further pass costs is a look at the slots, no item of displacement 0: about a tenth of the first.
 *
 * An item that was moved may be looked at once more in each pass, and one that was overwritten or moved into another place than it was seen at in the same pass too: the walk does not know what it has seen.
 * One that came or went meanwhile may be looked at or not. */
#ifndef LRD_WALK_H
#define LRD_WALK_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/arena.h"
#include "shm/atomic.h"
#include "shm/item.h"
#include "shm/layout.h"
#include "shm/segment.h"

/* ---- one slot ---- */

enum lrd_slot_state {
    LRD_SLOT_EMPTY,
    LRD_SLOT_DEAD, /* of a generation that is over */
    LRD_SLOT_HELD, /* its block is still the one it was put in; whether that is of its namespace's epoch is the next question (lrd_seen_is_current) */
    LRD_SLOT_BAD   /* no such location */
};

/* What a slot says. As in lrd_table_look(), nothing that was taken from the item's bytes, or from its block's descriptor, stands before lrd_seen_stands() said so. */
struct lrd_seen {
    uint64_t slot;
    uint64_t block_word;
    uint64_t off;   /* of the item, in the arena */
    uint32_t block;
    enum lrd_slot_state state;
    const char *bad;
};

/* A look at a slot. False: it changed meanwhile, look again. */
static inline bool lrd_seen_look(const struct lrd_reader *r, const lrd_u64 *at, struct lrd_seen *seen)
{
    uint64_t slot = seen->slot = lrd_load_acquire(at); /* pairs with the release of the slot in an intent, as in lrd_table_get() */
    seen->state = LRD_SLOT_EMPTY;
    if (slot == 0)
        return true;
    seen->off = lrd_arena_off(r, slot);
    seen->block = lrd_arena_block(r, slot);
    seen->state = LRD_SLOT_BAD;
    seen->bad = "a location outside the arena";
    if (lrd_unlikely(seen->block >= r->n_blocks))
        return lrd_load_acquire(at) == slot;
    seen->bad = "a location with no room for an item";
    if (lrd_unlikely(lrd_slot_location(slot) == 0 || lrd_arena_room(r, seen->off) < sizeof(struct lrd_item)))
        return lrd_load_acquire(at) == slot;
    /* Pairs with the release of the block word in lrd_arena_free_block() and lrd_arena_open_block(). */
    seen->block_word = lrd_load_acquire(&r->block_words[seen->block]);
    seen->state = lrd_slot_dead(slot, seen->block_word, lrd_block_word_epoch(seen->block_word)) ? LRD_SLOT_DEAD : LRD_SLOT_HELD;
    return lrd_load_acquire(at) == slot; /* else it could be 2^16 generations old */
}

/* The namespace that the block belongs to, of one that is held: no look at the item. LRD_NAMESPACES or more only in a damaged segment. Stored before the block word that was seen,
 * and again only after the next one; acquire, so that who sees it stored again sees that one. */
static inline uint32_t lrd_seen_ns(const struct lrd_reader *r, const struct lrd_seen *seen) { return lrd_owner_ns(lrd_load_acquire(&r->descriptors[seen->block].owner)); }

/* Whether it was put since the last reset of that namespace. The epoch is loaded after the block word, so it is not older: one that differs is a later one. */
static inline bool lrd_seen_is_current(const struct lrd_reader *r, const struct lrd_seen *seen, uint32_t ns)
{
    return lrd_block_word_epoch(seen->block_word) == lrd_load32_acquire(&r->namespaces[ns].epoch);
}

/* Whether an item that is held can be what its header says, and its bytes can be copied without leaving the block; NULL, or what is wrong. */
static inline const char *lrd_seen_fault(const struct lrd_reader *r, const struct lrd_seen *seen, struct lrd_item_head head)
{
    if (lrd_item_ns(head) >= LRD_NAMESPACES)
        return "a namespace that cannot be";
    if (lrd_item_kind(head) >= LRD_N_ITEM_KINDS)
        return "an unknown kind of item";
    if (lrd_item_key_len(head) == 0 || lrd_item_key_len(head) > LRD_KEY_MAX)
        return "a key length that cannot be";
    uint32_t bytes = lrd_item_bytes_of(head, r->granule_shift);
    return bytes > r->geometry.item_max || bytes > lrd_arena_room(r, seen->off) ? "an item that is longer than there is room" : NULL;
}

/* To be asked when everything was copied. False: the block was freed meanwhile, look again. */
static inline bool lrd_seen_stands(const struct lrd_reader *r, const struct lrd_seen *seen)
{
    if (seen->state == LRD_SLOT_EMPTY || seen->state == LRD_SLOT_BAD)
        return true;
    /* Everything before is loaded before the word below; pairs with the release fence in lrd_arena_open_block(). A dead slot too: with the same word before and after the slot's
     * second load it was dead at that moment. */
    lrd_fence_acquire();
    return lrd_load_relaxed(&r->block_words[seen->block]) == seen->block_word;
}

/* ---- all slots ---- */

#define LRD_WALK_PASSES 4u /* by displacement */
#define LRD_WALK_LOOKS 32u /* at the intent's valid word: an intent takes a tenth of a microsecond */

struct lrd_walk {
    uint64_t relocated; /* when the pass began */
    uint32_t pass;      /* LRD_WALK_PASSES: the walk is over */
    uint32_t bucket;
    uint32_t idx;       /* the next slot to look at */
    bool settled;       /* when the pass began, all that `relocated` counted had been done */
};

static inline bool lrd_walk_is_settled(const struct lrd_reader *r)
{
    /* Pairs with the release of the valid word in lrd_journal_commit(): who sees 0 sees the intent's stores. */
    for (uint32_t i = 0; i < LRD_WALK_LOOKS; i++, lrd_pause())
        if (lrd_load_acquire(&r->journal->n_steps) == 0)
            return true;
    return false;
}

static inline void lrd_walk_begin_pass(const struct lrd_reader *r, struct lrd_walk *w, uint32_t pass)
{
    /* Acquire: pairs with the release in an intent; the valid word is looked at after it. */
    uint64_t relocated = lrd_load_acquire(&r->counters[LRD_C_relocated]);
    *w = (struct lrd_walk){.relocated = relocated, .pass = pass, .settled = lrd_walk_is_settled(r)};
}

static inline void lrd_walk_begin(const struct lrd_reader *r, struct lrd_walk *w) { lrd_walk_begin_pass(r, w, 0); }

/* Items of the next bucket are wherever they are: the memory that holds them is asked for one bucket ahead. Believes nothing. */
static inline void lrd_walk_prefetch(const struct lrd_reader *r, uint32_t bucket)
{
    if (bucket >= lrd_n_buckets(r))
        return;
    for (uint32_t i = 0; i < LRD_SLOTS; i++)
        __builtin_prefetch(r->arena + lrd_arena_off(r, lrd_load_relaxed(&r->buckets[bucket].slot[i])));
}

/* The place of the next slot to look at; *budget is the number of buckets that may still be begun. NULL: the budget is used up, or, with pass LRD_WALK_PASSES, the walk is over. */
static inline const lrd_u64 *lrd_walk_next(const struct lrd_reader *r, struct lrd_walk *w, uint64_t *budget)
{
    while (w->pass < LRD_WALK_PASSES) {
        if (w->bucket >= lrd_n_buckets(r)) {
            /* After the slots, which were loaded with acquire. */
            bool over = w->pass + 1 == LRD_WALK_PASSES || (w->settled && lrd_load_acquire(&r->counters[LRD_C_relocated]) == w->relocated);
            if (over)
                w->pass = LRD_WALK_PASSES;
            else
                lrd_walk_begin_pass(r, w, w->pass + 1);
            continue;
        }
        if (w->idx == 0) {
            if (*budget == 0)
                return NULL;
            --*budget;
            if (w->pass == 0)
                lrd_walk_prefetch(r, w->bucket + 1);
        }
        const lrd_u64 *at = &r->buckets[w->bucket].slot[w->idx];
        uint64_t slot = lrd_load_acquire(at); /* acquire: what the end of the pass relies on */
        if (++w->idx == LRD_SLOTS) {
            w->bucket++;
            w->idx = 0;
        }
        if (slot != 0 && lrd_slot_displacement(slot) >= w->pass)
            return at;
    }
    return NULL;
}

#endif
