/* The hash of a key, and what the table takes from it.
 *
 *   h = XXH3(key, seed + namespace)
 *   tag = h[0..13]   which of the pair = h[14]   pair = h[32..63] * n_pairs >> 32
 *
 * The alternate pair of a tag is f(tag) - pair (mod n_pairs): its own inverse, so the way back from a displaced item to its home needs
 * nothing but its slot, for any n_pairs. One pair in n_pairs is its own alternate; its items then have two buckets instead of four. */
#ifndef LRD_HASH_H
#define LRD_HASH_H

#include <stddef.h>
#include <stdint.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "shm/layout.h"

/* A namespace's own seed, for those who hash in the same one again and again. */
static inline uint64_t lrd_hash_seed(uint64_t seed, uint32_t ns) { return seed + ns * UINT64_C(0x9e3779b97f4a7c15); }
static inline uint64_t lrd_hash_seeded(uint64_t ns_seed, const void *key, size_t key_len) { return XXH3_64bits_withSeed(key, key_len, ns_seed); }

static inline uint64_t lrd_hash(uint64_t seed, uint32_t ns, const void *key, size_t key_len) { return lrd_hash_seeded(lrd_hash_seed(seed, ns), key, key_len); }

static inline uint32_t lrd_hash_tag(uint64_t hash) { return (uint32_t)hash & LRD_TAG_MASK; }

/* Index of the home bucket. */
static inline uint32_t lrd_hash_home(uint64_t hash, uint32_t n_pairs)
{
    uint32_t pair = (uint32_t)((hash >> 32) * n_pairs >> 32);
    return pair << 1 | ((uint32_t)(hash >> LRD_TAG_BITS) & 1);
}

/* The bucket at a displacement from home: 0 home, 1 its pair, 2 and 3 the same two in the alternate pair. Because the alternate is its own
 * inverse, lrd_hash_bucket(bucket, tag, d) of a displaced item's bucket is its home. */
static inline uint32_t lrd_hash_bucket(uint32_t home, uint32_t tag, uint32_t displacement, uint32_t n_pairs)
{
    uint32_t bucket = home ^ (displacement & 1);
    if (displacement < 2)
        return bucket;
    uint32_t f = (uint32_t)((uint64_t)(tag * UINT32_C(2654435769)) * n_pairs >> 32);
    uint32_t pair = bucket >> 1;
    pair = f >= pair ? f - pair : f + n_pairs - pair;
    return pair << 1 | (bucket & 1);
}

#endif
