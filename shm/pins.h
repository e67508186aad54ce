/* Pins: how a client reads in the arena without copying, and what the writer makes of it.
 *
 * A view names its block in a pin, a word of its own lane, before it believes what it found; then it hands the item's address out. Its bytes stay what they are
 * until the writer uses the freed block again, and before that the writer looks at the pins: one delays the block for a while, or is revoked. Whoever ends a view
 * learns whether it was revoked; if not, not a byte that it saw had changed.
 *
 *   client: take a pin (its bit is set), pin = block, seq_cst fence, load the block word; changed since it was searched -> start over            (lrd_pin_set)
 *   writer: block word = next generation (the block is freed) ... seq_cst fence, load bits and pins                                      (lrd_pins_look)
 *           One of the two sees the other: the client that the block was freed, or the writer the pin.
 *   writer: pin = revoked, release fence, bytes                                                                  (lrd_pins_revoke, lrd_arena_alloc)
 *   client: bytes, acquire fence, load the pin; it is free again                                                                         (lrd_pin_end)
 *           Who saw a new byte sees that its pin was revoked.
 *
 * A pin is believed to be in a lane only while the writer looks at that lane: libclient/view.c asks for it once (LRD_RECORD_VIEWS), a new worker looks at lane.views, and a
 * client whose lane is not its own any more takes each view for revoked.
 *
 * What a client writes into its pins delays at most half of the free blocks, each for at most geometry.view_ms of the writer's clock in one life, and none that is needed because
 * no other is free. So nobody waits for a view, and a lane full of lies costs the writer a look at 64 words each time it opens a block.
 *
 *   who                          may call                                 beside
 *   any thread of the client     lrd_pins_take, lrd_pin_set, lrd_pin_end  everything
 *   the writer                   all others                               those
 *
 * A client that dies leaves its pins behind: the writer forgets the lane. A worker that dies between revoking and opening has revoked for nothing.
 *
 * tests/model/view.pml takes away each fence and each look.
 */
#ifndef LRD_PINS_H
#define LRD_PINS_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/layout.h"
#include "shm/segment.h"

/* ---- the client ---- */

static inline uint64_t lrd_pin_make(uint64_t block_word, uint32_t block) { return (uint64_t)lrd_block_word_generation(block_word) << 32 | (block + 1); }

/* The first so many are threads' own: who counts in a line of the lane's statistics (struct lrd_lane_stats) has the pin of that number, and takes it by a look. The others are for
 * whoever comes, by a compare-and-swap of their bits. */
#define LRD_PINS_OWN (LRD_STAT_LINES - 1)
#define LRD_PINS_SHARED (~((UINT64_C(1) << LRD_PINS_OWN) - 1))

static inline bool lrd_pins_claim(struct lrd_lane *lane, uint64_t taken, uint64_t bit)
{
    while ((taken & bit) == 0)
        /* Acquire: pairs with the release in lrd_pin_end(), so that its last owner's store is not over ours. */
        if (lrd_cas(&lane->pins_taken, &taken, taken | bit))
            return true;
    return false;
}

/* A pin for the calling thread, whose line is own (LRD_PINS_OWN or more: it has none); LRD_PINS: all are taken. */
static inline unsigned lrd_pins_take(struct lrd_lane *lane, unsigned own)
{
    uint64_t taken = lrd_load_relaxed(&lane->pins_taken); /* relaxed: the compare-and-swap decides */
    /* Acquire: pairs with the release in lrd_pin_end(), by whatever thread. */
    if (lrd_likely(own < LRD_PINS_OWN) && lrd_likely(lrd_load_acquire(&lane->pin[own]) == 0)) {
        if (lrd_unlikely((taken & UINT64_C(1) << own) == 0))
            (void)lrd_pins_claim(lane, taken, UINT64_C(1) << own); /* it stays */
        return own;
    }
    for (uint64_t free; (free = ~taken & LRD_PINS_SHARED) != 0; taken = lrd_load_relaxed(&lane->pins_taken))
        if (lrd_pins_claim(lane, taken, free & -free))
            return (unsigned)__builtin_ctzll(free);
    return LRD_PINS;
}

/* Names the block. What is loaded after this stands behind the writer's look, or the look finds the pin. */
static inline void lrd_pin_set(struct lrd_lane *lane, unsigned i, uint64_t pin)
{
    lrd_store_relaxed(&lane->pin[i], pin); /* ordered by the fence */
    lrd_fence_seq_cst();                   /* pairs with the fence in lrd_pins_look() */
}

/* Gives a pin back. */
static inline void lrd_pin_drop(struct lrd_lane *lane, unsigned i)
{
    /* All that was looked at was loaded before; pairs with the acquire in lrd_pins_look(). */
    lrd_store_release(&lane->pin[i], 0);
    if (lrd_likely(i < LRD_PINS_OWN))
        return;
    uint64_t taken = lrd_load_relaxed(&lane->pins_taken);
    while (!lrd_cas(&lane->pins_taken, &taken, taken & ~(UINT64_C(1) << i)))
        ;
}

/* After the acquire fence that stands behind the last look at the bytes. False: revoked, the bytes may have been anything. The pin is given back all the same. */
static inline bool lrd_pin_end(struct lrd_lane *lane, unsigned i, uint64_t pin)
{
    /* A load is enough: what was overwritten before the fence was revoked before. What is revoked from here on does not matter any more, and the pin goes over it. */
    bool kept = lrd_load_relaxed(&lane->pin[i]) == pin;
    lrd_pin_drop(lane, i);
    return kept;
}

/* ---- the writer: pins.c ---- */

struct lrd_pins {
    const struct lrd_store *s;
    struct lrd_lane **lane; /* those with views, in no order */
    uint32_t n, room;
    uint32_t look;          /* counts looks */
    struct lrd_sight {
        uint64_t since_ms; /* segment time + 1 when a pin on this block was first seen since it was freed; 0: none was */
        uint32_t look;     /* the last that saw one */
    } *sight;              /* by block */
};

/* 0; -ENOMEM. */
int lrd_pins_init(struct lrd_pins *p, const struct lrd_store *s);
void lrd_pins_fini(struct lrd_pins *p);
uint64_t lrd_pins_private_bytes(const struct lrd_pins *p);

/* From here on the lane's pins count, or do not. Adding it twice is adding it once. */
void lrd_pins_add(struct lrd_pins *p, struct lrd_lane *lane);
void lrd_pins_remove(struct lrd_pins *p, const struct lrd_lane *lane);

/* Looks at all pins of all those lanes: blocks that were freed before may be asked about until the next look. Without such lanes it costs a load of private memory and
 * returns false: no block is pinned. */
bool lrd_pins_look(struct lrd_pins *p);

/* Whether the last look saw a pin on a free block; and whether that should still delay its use. */
static inline bool lrd_pins_seen(const struct lrd_pins *p, uint32_t block) { return p->n > 0 && p->sight[block].look == p->look; }
bool lrd_pins_delay(const struct lrd_pins *p, uint32_t block);

/* The block is going to be used: revokes what the last look saw on it. How many. */
uint32_t lrd_pins_revoke(struct lrd_pins *p, uint32_t block);

#endif
