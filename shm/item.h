/* An item: 16 bytes of header, optional words by kind, key, value, padding to a granule. Written once into an open block, never changed after its slot is stored.
 *
 *   header | soft word | lease | key | (room) | value | padding
 *
 * Nearly all are plain: header, key, value. A get compares namespace, key length and kind at once, so what other kinds cost is paid by who uses them. The value of an
 * aligned item begins at the next multiple of 64 bytes behind its key: how far behind depends on where the item lies, so it has 56 bytes of room for any place.
 */
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

/* Namespace, key length and that it is plain in one comparison. */
static inline bool lrd_item_is_plain_of(struct lrd_item_head h, uint32_t ns, uint32_t key_len) { return (uint32_t)h.word1 == (ns << 16 | key_len << 4 | LRD_ITEM_PLAIN); }

/* Namespace and key length, of whatever kind. */
static inline bool lrd_item_is_of(struct lrd_item_head h, uint32_t ns, uint32_t key_len) { return ((uint32_t)h.word1 & ~15u) == (ns << 16 | key_len << 4); }

/* The optional words of a kind: bits of it while it is a value. What is no kind has none. */
static inline bool lrd_item_has_soft(uint32_t kind) { return kind < LRD_ITEM_ABSENT && (kind & LRD_ITEM_SOFT) != 0; }
static inline bool lrd_item_has_lease(uint32_t kind) { return kind == LRD_ITEM_LEASE || (kind < LRD_ITEM_ABSENT && (kind & LRD_ITEM_LEASED) != 0); }
static inline bool lrd_item_is_aligned(uint32_t kind) { return kind < LRD_ITEM_ABSENT && (kind & LRD_ITEM_ALIGNED) != 0; }

/* It has a value, as a get understands it. */
static inline bool lrd_item_is_value(uint32_t kind) { return kind < LRD_ITEM_ABSENT; }

/* Offsets from the item's beginning. */
static inline uint32_t lrd_item_lease_off(uint32_t kind) { return (uint32_t)sizeof(struct lrd_item) + (lrd_item_has_soft(kind) ? 8 : 0); }
static inline uint32_t lrd_item_key_off(uint32_t kind) { return lrd_item_lease_off(kind) + (lrd_item_has_lease(kind) ? (uint32_t)sizeof(struct lrd_lease) : 0); }
static inline uint32_t lrd_item_key_end(uint32_t kind, uint32_t key_len) { return lrd_item_key_off(kind) + key_len; }

/* off: of the item, in the arena. */
static inline uint32_t lrd_item_value_off(uint32_t kind, uint32_t key_len, uint64_t off)
{
    uint32_t end = lrd_item_key_end(kind, key_len);
    return lrd_item_is_aligned(kind) ? end + ((uint32_t)(0 - (off + end)) & (LRD_LINE - 1)) : end;
}

static inline const unsigned char *lrd_item_at(const struct lrd_item *item, uint32_t off) { return (const unsigned char *)item + off; }

/* The key of a plain item, and of any. */
static inline const unsigned char *lrd_item_key(const struct lrd_item *item) { return (const unsigned char *)(item + 1); }
static inline const unsigned char *lrd_item_key_of(const struct lrd_item *item, struct lrd_item_head h) { return lrd_item_at(item, lrd_item_key_off(lrd_item_kind(h))); }

static inline uint32_t lrd_item_round(uint32_t bytes, uint32_t granule_shift) { return (bytes + (1u << granule_shift) - 1) & ~((1u << granule_shift) - 1); }

/* Bytes of a plain item in the arena, padding included. At most 16 + 4095 + 2^24 + 7: no overflow. */
static inline uint32_t lrd_item_bytes(uint32_t key_len, uint32_t value_len, uint32_t granule_shift)
{
    return lrd_item_round((uint32_t)sizeof(struct lrd_item) + key_len + value_len, granule_shift);
}

/* The same for an item of any kind, and without the padding behind it. */
#define LRD_ITEM_ALIGN_ROOM (LRD_LINE - 8) /* items begin at multiples of 8; behind a key that does not end at one, the padding has room for the rest */
static inline uint32_t lrd_item_used(uint32_t kind, uint32_t key_len, uint32_t value_len)
{
    if (lrd_likely(kind == LRD_ITEM_PLAIN))
        return (uint32_t)sizeof(struct lrd_item) + key_len + value_len;
    uint32_t end = lrd_item_key_end(kind, key_len);
    return (lrd_item_is_aligned(kind) ? ((end + 7) & ~7u) + LRD_ITEM_ALIGN_ROOM : end) + value_len;
}
static inline uint32_t lrd_item_bytes_as(uint32_t kind, uint32_t key_len, uint32_t value_len, uint32_t granule_shift)
{
    return lrd_item_round(lrd_item_used(kind, key_len, value_len), granule_shift);
}
static inline uint32_t lrd_item_bytes_of(struct lrd_item_head h, uint32_t granule_shift)
{
    return lrd_item_bytes_as(lrd_item_kind(h), lrd_item_key_len(h), lrd_item_value_len(h), granule_shift);
}

/* Optional words. Relaxed, as the header: the bytes may be anything until the block word was validated. */
static inline uint64_t lrd_item_load_soft(const struct lrd_item *item) { return lrd_load_relaxed((const lrd_u64 *)(const void *)(item + 1)); }
static inline struct lrd_lease lrd_item_load_lease(const struct lrd_item *item, uint32_t kind)
{
    const lrd_u64 *w = (const lrd_u64 *)(const void *)lrd_item_at(item, lrd_item_lease_off(kind));
    return (struct lrd_lease){lrd_load_relaxed(&w[0]), lrd_load_relaxed(&w[1]), lrd_load_relaxed(&w[2])};
}

struct lrd_item_words {
    uint64_t soft_ms;       /* 0: none */
    struct lrd_lease lease; /* token 0: none */
};

static inline struct lrd_item_words lrd_item_load_words(const struct lrd_item *item, uint32_t kind)
{
    struct lrd_item_words words = {0};
    if (lrd_item_has_soft(kind))
        words.soft_ms = lrd_item_load_soft(item);
    if (lrd_item_has_lease(kind))
        words.lease = lrd_item_load_lease(item, kind);
    return words;
}

/* What an item with this header adds to its block's live word. */
static inline uint64_t lrd_item_live(struct lrd_item_head h, uint32_t granule_shift)
{
    uint32_t used = lrd_item_used(lrd_item_kind(h), lrd_item_key_len(h), lrd_item_value_len(h)), bytes = lrd_item_round(used, granule_shift);
    return lrd_live_make(1, bytes, bytes - used);
}

#endif
