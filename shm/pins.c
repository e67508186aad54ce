#include "shm/pins.h"

#include <errno.h>
#include <stdlib.h>

#include "shm/clock.h"

int lrd_pins_init(struct lrd_pins *p, const struct lrd_store *s)
{
    *p = (struct lrd_pins){.s = s, .room = s->r.geometry.n_lanes};
    p->lane = calloc(p->room, sizeof *p->lane);
    p->sight = calloc(s->r.n_blocks, sizeof *p->sight);
    if (p->lane != NULL && p->sight != NULL)
        return 0;
    lrd_pins_fini(p);
    return -ENOMEM;
}

void lrd_pins_fini(struct lrd_pins *p)
{
    free(p->lane);
    free(p->sight);
    p->lane = NULL;
    p->sight = NULL;
}

uint64_t lrd_pins_private_bytes(const struct lrd_pins *p) { return p->room * sizeof *p->lane + p->s->r.n_blocks * sizeof *p->sight; }

void lrd_pins_add(struct lrd_pins *p, struct lrd_lane *lane)
{
    for (uint32_t i = 0; i < p->n; i++)
        if (p->lane[i] == lane)
            return;
    if (p->n < p->room)
        p->lane[p->n++] = lane;
}

void lrd_pins_remove(struct lrd_pins *p, const struct lrd_lane *lane)
{
    for (uint32_t i = 0; i < p->n; i++)
        if (p->lane[i] == lane) {
            p->lane[i] = p->lane[--p->n];
            return;
        }
}

/* The block that a pin names; anything at n_blocks or above is none. Its generation is not compared: what views an older life of the block cannot be told from who has only
 * lied by looking at one word, and the former must be heard (lrd_segment_clear() takes a generation twice). */
static uint32_t block_of(uint64_t pin) { return (uint32_t)pin - 1; }

/* Of a pin: whatever it says is a number to be checked, and moves no more than a note. */
static bool note(struct lrd_pins *p, uint64_t pin, uint64_t *now_ms)
{
    uint32_t block = block_of(pin);
    if (pin == LRD_PIN_REVOKED || block >= p->s->r.n_blocks || lrd_load_relaxed(&p->s->descriptors[block].state) != LRD_BLOCK_FREE)
        return false;
    if (*now_ms == 0)
        *now_ms = lrd_clock_segment_ms(p->s->r.geometry.created_ns) + 1;
    struct lrd_sight *sight = &p->sight[block];
    sight->look = p->look;
    /* By block, not by pin: views of it began before it was freed, so the first sight is of all of them. Pins that come later are lies, and move no deadline. */
    if (sight->since_ms == 0)
        sight->since_ms = *now_ms;
    return true;
}

bool lrd_pins_look(struct lrd_pins *p)
{
    if (lrd_likely(p->n == 0))
        return false;
    uint64_t now_ms = 0;
    bool any = false;
    p->look++;
    /* The block words of free blocks before the look at pins; pairs with the fence in lrd_pin_set(). */
    lrd_fence_seq_cst();
    for (uint32_t i = 0; i < p->n; i++) {
        const struct lrd_lane *lane = p->lane[i];
        /* Whose pin is not seen here loads the block word after us. Acquire: pairs with the release in lrd_pin_end(); who is not there any more has seen its last byte. */
        for (uint64_t bits = lrd_load_acquire(&lane->pins_taken); bits != 0; bits &= bits - 1)
            any |= note(p, lrd_load_acquire(&lane->pin[__builtin_ctzll(bits)]), &now_ms);
    }
    return any;
}

bool lrd_pins_delay(const struct lrd_pins *p, uint32_t block)
{
    const struct lrd_sight *sight = &p->sight[block];
    return lrd_pins_seen(p, block) && lrd_clock_segment_ms(p->s->r.geometry.created_ns) + 1 - sight->since_ms < p->s->r.geometry.view_ms;
}

static bool revoke(lrd_u64 *word, uint32_t block)
{
    uint64_t pin = lrd_load_relaxed(word);
    if (pin == LRD_PIN_REVOKED || block_of(pin) != block)
        return false;
    /* Before the first byte that goes over the block, by the release fence in lrd_arena_open_block(); pairs with the acquire fence before lrd_pin_end(). No plain store, while it
     * can be helped: the pin may have been given back, and be another view's by now. Twice at most, or a client that changes it all the time would keep us here. */
    if (lrd_cas(word, &pin, LRD_PIN_REVOKED))
        return true;
    return block_of(pin) == block && lrd_exchange(word, LRD_PIN_REVOKED) != 0;
}

uint32_t lrd_pins_revoke(struct lrd_pins *p, uint32_t block)
{
    uint32_t n = 0;
    if (lrd_pins_seen(p, block))
        for (uint32_t i = 0; i < p->n; i++)
            for (uint64_t bits = lrd_load_relaxed(&p->lane[i]->pins_taken); bits != 0; bits &= bits - 1)
                n += revoke(&p->lane[i]->pin[__builtin_ctzll(bits)], block);
    p->sight[block].since_ms = 0;
    return n;
}
