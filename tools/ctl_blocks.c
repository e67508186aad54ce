/* Where the bytes of the arena are, by namespace.
 *
 * The writer goes on meanwhile. The parts of a block come from one set of loads and are cut so that they add up to its size: numbers of two blocks may be of different
 * moments, and their sum is exact all the same. */
#include "tools/ctl.h"

#define LOOKS 16u /* at a block that changes under us; the last one is taken as it is */

/* What a descriptor said, at about one moment. */
struct words {
    uint64_t block, state, owner, live, used;
    uint32_t epoch; /* of the namespace */
};

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* False: the block was freed, opened or closed meanwhile. */
static bool look(const struct lrd_reader *r, uint32_t i, struct words *w)
{
    const struct lrd_descriptor *d = &r->descriptors[i];
    /* The writer stores used, then live, then it may free the block: in the other order here, so live is seldom too large for used. Pairs with the releases of an intent. */
    w->block = lrd_load_acquire(&r->block_words[i]);
    w->state = lrd_load_acquire(&d->state);
    w->owner = lrd_load_acquire(&d->owner);
    w->live = lrd_load_acquire(&d->live);
    w->used = lrd_load_acquire(&d->used);
    uint32_t ns = lrd_owner_ns(w->owner);
    w->epoch = ns < LRD_NAMESPACES ? lrd_load32_acquire(&r->namespaces[ns].epoch) : 0;
    return lrd_load_acquire(&r->block_words[i]) == w->block && lrd_load_acquire(&d->state) == w->state && lrd_load_acquire(&d->owner) == w->owner;
}

/* Adds the parts of a block in use. Items of an older epoch are dead, whatever the live word says. */
static void add(struct ctl_space *s, const struct words *w, uint64_t block_bytes)
{
    bool current = lrd_block_word_epoch(w->block) == w->epoch;
    uint64_t items = current ? lrd_live_items(w->live) : 0;
    uint64_t live = current ? least(lrd_live_bytes(w->live), w->used) : 0;
    uint64_t padding = current ? least(lrd_live_padding(w->live), live) : 0;
    uint64_t headers = least(items * sizeof(struct lrd_item), live - padding);
    s->blocks++;
    s->items += items;
    s->payload_bytes += live - padding - headers;
    s->header_bytes += headers;
    s->padding_bytes += padding;
    s->dead_bytes += w->used - live;
    *(w->state == LRD_BLOCK_OPEN ? &s->free_bytes : &s->tail_bytes) += block_bytes - w->used;
}

void ctl_arena_look(const struct lrd_reader *r, struct ctl_arena *a)
{
    uint64_t block_bytes = UINT64_C(1) << r->block_shift;
    *a = (struct ctl_arena){0};
    for (uint32_t i = 0; i < r->n_blocks; i++) {
        struct words w;
        for (unsigned n = 0; n < LOOKS && !look(r, i, &w); n++)
            continue;
        uint32_t ns = lrd_owner_ns(w.owner);
        if (w.state == LRD_BLOCK_FREE)
            a->free_blocks++;
        else if (w.state > LRD_BLOCK_FULL || w.used > block_bytes || ns >= LRD_NS_NOWHERE)
            a->unknown_blocks++;
        else {
            a->open_blocks += w.state == LRD_BLOCK_OPEN;
            add(&a->of[ns], &w, block_bytes);
        }
    }
    for (uint32_t ns = 0; ns < LRD_NAMESPACES; ns++) {
        const struct ctl_space *s = &a->of[ns];
        a->all.blocks += s->blocks;
        a->all.items += s->items;
        a->all.payload_bytes += s->payload_bytes;
        a->all.header_bytes += s->header_bytes;
        a->all.padding_bytes += s->padding_bytes;
        a->all.dead_bytes += s->dead_bytes;
        a->all.free_bytes += s->free_bytes;
        a->all.tail_bytes += s->tail_bytes;
    }
}

uint64_t ctl_space_live(const struct ctl_space *s) { return s->payload_bytes + s->header_bytes + s->padding_bytes; }
uint64_t ctl_space_bytes(const struct ctl_space *s) { return ctl_space_live(s) + s->dead_bytes + s->free_bytes + s->tail_bytes; }
