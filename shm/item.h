/* An item: 16 bytes of header, key, value, padding to a granule. Written once into an open block, never changed after its slot is stored. */
#ifndef LRD_ITEM_H
#define LRD_ITEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/layout.h"

/* Header words in locals: loaded once, then checked, then used. */
struct lrd_item_head {
    uint64_t word0;
    uint64_t word1;
};

static inline uint64_t lrd_item_word0(uint32_t value_len, uint64_t expires_ms) { return (uint64_t)value_len << 40 | expires_ms; }
static inline uint64_t lrd_item_word1(uint32_t flags, uint32_t ns, uint32_t key_len, uint32_t kind)
{
    return (uint64_t)flags << 32 | (uint64_t)ns << 16 | (uint64_t)key_len << 4 | kind;
}

/* Relaxed: the bytes may be anything; what is taken from them is believed only after the block word was validated. */
static inline struct lrd_item_head lrd_item_load(const struct lrd_item *item)
{
    return (struct lrd_item_head){lrd_load_relaxed(&item->word0), lrd_load_relaxed(&item->word1)};
}

static inline uint32_t lrd_item_value_len(struct lrd_item_head h) { return (uint32_t)(h.word0 >> 40); }
static inline uint64_t lrd_item_expires_ms(struct lrd_item_head h) { return h.word0 & LRD_EXPIRES_MAX; }
static inline uint32_t lrd_item_flags(struct lrd_item_head h) { return (uint32_t)(h.word1 >> 32); }
static inline uint32_t lrd_item_ns(struct lrd_item_head h) { return (uint32_t)(h.word1 >> 16) & 0xffff; }
static inline uint32_t lrd_item_key_len(struct lrd_item_head h) { return (uint32_t)(h.word1 >> 4) & 0xfff; }
static inline uint32_t lrd_item_kind(struct lrd_item_head h) { return (uint32_t)h.word1 & 0xf; }

/* Namespace and key length in one comparison. */
static inline bool lrd_item_is_of(struct lrd_item_head h, uint32_t ns, uint32_t key_len) { return ((uint32_t)h.word1 & ~15u) == (ns << 16 | key_len << 4); }

static inline const unsigned char *lrd_item_key(const struct lrd_item *item) { return (const unsigned char *)(item + 1); }

/* Bytes of an item in the arena, padding included. At most 16 + 4095 + 2^24 + 7: no overflow. */
static inline uint32_t lrd_item_bytes(uint32_t key_len, uint32_t value_len, uint32_t granule_shift)
{
    uint32_t granule = 1u << granule_shift;
    return ((uint32_t)sizeof(struct lrd_item) + key_len + value_len + granule - 1) & ~(granule - 1);
}

/* What an item with this header adds to its block's live word. */
static inline uint64_t lrd_item_live(struct lrd_item_head h, uint32_t granule_shift)
{
    uint32_t used = (uint32_t)sizeof(struct lrd_item) + lrd_item_key_len(h) + lrd_item_value_len(h);
    uint32_t bytes = lrd_item_bytes(lrd_item_key_len(h), lrd_item_value_len(h), granule_shift);
    return lrd_live_make(1, bytes, bytes - used);
}

#endif
