/* Items by slot, copied: shm/walk.h with what people want to know about one. */
#include "tools/ctl.h"

#include <stdlib.h>

#include "shm/arena.h"
#include "shm/hash.h"
#include "shm/item.h"
#include "shm/racy.h"
#include "shm/table.h"
#include "shm/walk.h"

void ctl_item_init(struct ctl_item *item, const struct lrd_reader *r)
{
    *item = (struct ctl_item){.data = ctl_alloc(r->geometry.item_max, 1)};
}

void ctl_item_fini(struct ctl_item *item) { free(item->data); }

static void take_head(const struct lrd_reader *r, struct ctl_item *item, struct lrd_item_head head)
{
    item->expires_ms = lrd_item_expires_ms(head);
    item->ns = lrd_item_ns(head);
    item->flags = lrd_item_flags(head);
    item->kind = lrd_item_kind(head);
    item->key_len = lrd_item_key_len(head);
    item->value_len = lrd_item_value_len(head);
    item->bytes = lrd_item_bytes_of(head, r->granule_shift);
}

/* One look; false: something changed under it. What is taken from item bytes stands only if the block word is the same after. */
static bool look(const struct lrd_reader *r, const lrd_u64 *at, struct ctl_item *item, bool with_value, enum ctl_slot *state)
{
    static const enum ctl_slot said[] = {[LRD_SLOT_EMPTY] = CTL_SLOT_EMPTY, [LRD_SLOT_DEAD] = CTL_SLOT_DEAD, [LRD_SLOT_HELD] = CTL_SLOT_LIVE, [LRD_SLOT_BAD] = CTL_SLOT_BAD};
    struct lrd_seen seen = {0};
    if (!lrd_seen_look(r, at, &seen))
        return false;
    item->slot = seen.slot;
    item->block_word = seen.block_word;
    item->off = seen.off;
    item->block = seen.block;
    item->bad = seen.bad;
    *state = said[seen.state];
    if (seen.state == LRD_SLOT_HELD) {
        const struct lrd_item *shared = lrd_arena_item(r, seen.slot);
        struct lrd_item_head head = lrd_item_load(shared);
        take_head(r, item, head);
        const struct lrd_descriptor *d = &r->descriptors[item->block];
        item->used = lrd_load_acquire(&d->used);
        item->latest_expiry = lrd_load_acquire(&d->latest_expiry);
        item->block_ns = lrd_seen_ns(r, &seen);
        item->bad = lrd_seen_fault(r, &seen, head);
        if (item->bad)
            *state = CTL_SLOT_BAD;
        else if (!lrd_seen_is_current(r, &seen, item->ns))
            *state = CTL_SLOT_DEAD;
        else {
            lrd_racy_copy(item->data, lrd_item_at(shared, lrd_item_key_off(item->kind)), item->key_len);
            if (with_value)
                lrd_racy_copy(item->data + item->key_len, lrd_item_at(shared, lrd_item_value_off(item->kind, item->key_len, item->off)), item->value_len);
        }
    }
    return lrd_seen_stands(r, &seen);
}

enum ctl_slot ctl_item_look(const struct lrd_reader *r, const lrd_u64 *at, struct ctl_item *item, bool with_value)
{
    enum ctl_slot state;
    while (!look(r, at, item, with_value, &state))
        continue;
    return state;
}

bool ctl_slot_is_live(const struct lrd_reader *r, uint64_t slot)
{
    uint32_t block = lrd_arena_block(r, slot);
    if (slot == 0 || block >= r->n_blocks)
        return false;
    uint64_t word = lrd_load_acquire(&r->block_words[block]);
    uint64_t ns = lrd_owner_ns(lrd_load_relaxed(&r->descriptors[block].owner)); /* relaxed: an answer as of now is all that is promised */
    return ns < LRD_NAMESPACES && !lrd_slot_dead(slot, word, lrd_load32_acquire(&r->namespaces[ns].epoch));
}

uint32_t ctl_slot_lines(const struct lrd_reader *r, uint32_t bucket, uint64_t slot)
{
    uint32_t tag = lrd_slot_tag(slot), displacement = lrd_slot_displacement(slot), lines = 1;
    uint32_t home = lrd_hash_bucket(bucket, tag, displacement, r->n_pairs);
    if (displacement == 0)
        return lines;
    uint64_t word = lrd_load_acquire(&r->buckets[home].displaced);
    for (uint32_t d = 1; d < displacement; d++)
        lines += lrd_displaced_count(word, d, tag) != 0;
    return lines + 1;
}
