/* Values that certify themselves: key, version, then words made of key, version and place. A torn, mixed or foreign one does not pass. */
#ifndef TESTS_CERTIFIED_H
#define TESTS_CERTIFIED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CERTIFIED_MAX 30000u

static inline uint64_t certified_word(uint64_t key, uint64_t version, uint64_t place)
{
    uint64_t x = key * UINT64_C(0x9e3779b97f4a7c15) ^ version * UINT64_C(0xc2b2ae3d27d4eb4f) ^ place * UINT64_C(0x165667b19e3779f9);
    return (x ^ x >> 31) * UINT64_C(0xff51afd7ed558ccd);
}

/* Bytes of that version: most are short, one in 64 up to the most. */
static inline size_t certified_size(uint64_t key, uint64_t version)
{
    uint64_t x = certified_word(key, version, 77);
    return 16 + 8 * (size_t)(x % 64 == 0 ? (x >> 8) % (CERTIFIED_MAX / 8 - 2) : (x >> 8) % 60);
}

static inline size_t certified_make(uint64_t *value, uint64_t key, uint64_t version)
{
    size_t bytes = certified_size(key, version);
    value[0] = key;
    value[1] = version;
    for (size_t i = 2; i < bytes / 8; i++)
        value[i] = certified_word(key, version, i);
    return bytes;
}

/* Its version; UINT64_MAX: it is no value of that key. */
static inline uint64_t certified_version(const uint64_t *value, size_t bytes, uint64_t key)
{
    if (bytes < 16 || value[0] != key || bytes != certified_size(key, value[1]))
        return UINT64_MAX;
    for (size_t i = 2; i < bytes / 8; i++)
        if (value[i] != certified_word(key, value[1], i))
            return UINT64_MAX;
    return value[1];
}

#endif
