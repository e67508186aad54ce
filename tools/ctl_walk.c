/* Items by slot: the reader's protocol of shm/table.h, for those who come with a slot and not with a key. */
#include "tools/ctl.h"

#include <stdlib.h>

#include "shm/arena.h"
#include "shm/hash.h"
#include "shm/item.h"
#include "shm/racy.h"
#include "shm/table.h"

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
    item->bytes = lrd_item_bytes(item->key_len, item->value_len, r->granule_shift);
}

static const char *head_fault(const struct lrd_reader *r, const struct ctl_item *item)
{
    if (item->ns >= LRD_NAMESPACES)
        return "a namespace that cannot be";
    if (item->kind != LRD_ITEM_PLAIN)
        return "an unknown kind of item";
    if (item->key_len == 0 || item->key_len > LRD_KEY_MAX)
        return "a key length that cannot be";
    if (item->bytes > r->geometry.item_max || item->bytes > lrd_arena_room(r, item->off))
        return "an item that is longer than there is room";
    return NULL;
}

/* One look; false: something changed under it. What is taken from item bytes stands only if the block word is the same after. */
static bool look(const struct lrd_reader *r, const lrd_u64 *at, struct ctl_item *item, bool with_value, enum ctl_slot *state)
{
    uint64_t slot = item->slot = lrd_load_acquire(at); /* pairs with the release of the slot in an intent, as in lrd_table_get() */
    *state = CTL_SLOT_EMPTY;
    if (slot == 0)
        return true;
    item->off = lrd_arena_off(r, slot);
    item->block = lrd_arena_block(r, slot);
    *state = CTL_SLOT_BAD;
    item->bad = "a location outside the arena";
    if (item->block >= r->n_blocks)
        return lrd_load_acquire(at) == slot;
    item->bad = "a location with no room for an item";
    if (lrd_slot_location(slot) == 0 || lrd_arena_room(r, item->off) < sizeof(struct lrd_item))
        return lrd_load_acquire(at) == slot;

    /* Pairs with the release of the block word in lrd_arena_free_block() and lrd_arena_open_block(). */
    uint64_t word = item->block_word = lrd_load_acquire(&r->block_words[item->block]);
    if (lrd_load_acquire(at) != slot)
        return false; /* else this slot could be 2^16 generations old */
    *state = CTL_SLOT_DEAD;
    if (lrd_slot_dead(slot, word, lrd_block_word_epoch(word)))
        return true;

    const struct lrd_item *shared = lrd_arena_item(r, slot);
    take_head(r, item, lrd_item_load(shared));
    const struct lrd_descriptor *d = &r->descriptors[item->block];
    item->used = lrd_load_acquire(&d->used);
    item->latest_expiry = lrd_load_acquire(&d->latest_expiry);
    item->block_ns = lrd_owner_ns(lrd_load_acquire(&d->owner));
    item->bad = head_fault(r, item);
    if (item->bad)
        *state = CTL_SLOT_BAD;
    else if (lrd_block_word_epoch(word) != lrd_load32_acquire(&r->namespaces[item->ns].epoch))
        *state = CTL_SLOT_DEAD;
    else {
        *state = CTL_SLOT_LIVE;
        lrd_racy_copy(item->data, lrd_item_key(shared), item->key_len + (with_value ? item->value_len : 0));
    }
    /* Everything above is loaded before the word below; pairs with the release fence in lrd_arena_open_block(). */
    lrd_fence_acquire();
    return lrd_load_relaxed(&r->block_words[item->block]) == word;
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
