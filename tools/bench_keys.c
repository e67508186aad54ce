/* Which key comes next; values that certify themselves.
 *
 * Keys are drawn outside of what is timed, some thousands at a time, so that the chunk stays in the CPU's cache and does not compete with what is measured.
 *
 * Zipf: rejection-inversion (Hoermann and Derflinger, 1996): a uniform number is sent through the inverse of the integral of x^-s, rounded, and kept if it lies
 * under the histogram of the true distribution. No table, 1.1 tries on average, for any number of items. */
#include "tools/bench.h"

#include <math.h>
#include <string.h>

#include "shm/hash.h"

#define GOLDEN UINT64_C(0x9e3779b97f4a7c15)
#define SCATTER UINT64_C(2654435761) /* a prime above any number of items: rank to id, so that popular items do not lie side by side */

/* ---- random numbers: a counter, mixed ---- */

uint64_t bench_keys_draw(struct bench_keys *k) { return bench_mix(k->seed + ++k->counter * GOLDEN); }
static double draw_part(struct bench_keys *k) { return (double)(bench_keys_draw(k) >> 11) * 0x1p-53; }

/* ---- Zipf ---- */

/* Integral of x^-s, up to a constant, and its inverse. */
static double hull(const struct bench_keys *k, double x)
{
    double e = 1 - k->skew;
    return fabs(e) < 1e-9 ? log(x) : expm1(e * log(x)) / e;
}

static double hull_inverse(const struct bench_keys *k, double y)
{
    double e = 1 - k->skew;
    return fabs(e) < 1e-9 ? exp(y) : exp(log1p(e * y) / e);
}

static double weight(const struct bench_keys *k, double x) { return exp(-k->skew * log(x)); }

static uint64_t zipf_rank(struct bench_keys *k)
{
    for (;;) {
        double y = k->high + draw_part(k) * (k->low - k->high);
        double x = hull_inverse(k, y);
        double rank = floor(x + 0.5);
        if (rank < 1)
            rank = 1;
        else if (rank > (double)k->n_items)
            rank = (double)k->n_items;
        if (rank - x <= k->cut || y >= hull(k, rank + 0.5) - weight(k, rank))
            return (uint64_t)rank - 1;
    }
}

/* ---- the stream ---- */

void bench_keys_init(struct bench_keys *k, const struct bench_options *o, uint64_t n_items, uint64_t hash_seed, unsigned stream)
{
    memset(k, 0, sizeof *k);
    k->hash_seed = hash_seed;
    k->seed = bench_mix(o->seed * GOLDEN + stream + 1);
    k->n_items = n_items;
    k->skew = o->skew;
    if (k->skew > 0) {
        k->low = hull(k, 1.5) - 1;
        k->high = hull(k, (double)n_items + 0.5);
        k->cut = 2 - hull_inverse(k, hull(k, 2.5) - weight(k, 2));
    }
}

uint64_t bench_keys_id(struct bench_keys *k)
{
    if (k->skew > 0)
        return zipf_rank(k) * SCATTER % k->n_items;
    return (uint64_t)((unsigned __int128)bench_keys_draw(k) * k->n_items >> 64);
}

void bench_key_make(struct bench_key *key, uint64_t id, uint64_t hash_seed)
{
    uint64_t rest = id;
    key->bytes[0] = 'k';
    for (unsigned i = BENCH_KEY - 1; i > 0; i--, rest /= 10)
        key->bytes[i] = (unsigned char)('0' + rest % 10);
    key->id = id;
    key->hash = lrd_hash(hash_seed, 0, key->bytes, BENCH_KEY); /* namespace 0: larder_default() */
}

void bench_keys_next(struct bench_keys *k, struct bench_key *keys, size_t n)
{
    for (size_t i = 0; i < n; i++)
        bench_key_make(&keys[i], bench_keys_id(k), k->hash_seed);
}

/* ---- values ---- */
#define ID_BITS 40u

static uint64_t word_at(uint64_t first, size_t i) { return first + i * GOLDEN; }

void bench_value_fill(unsigned char *value, size_t bytes, uint64_t id, uint32_t version)
{
    uint64_t first = id | (uint64_t)version << ID_BITS;
    size_t i = 0;
    for (; (i + 1) * sizeof first <= bytes; i++) {
        uint64_t word = word_at(first, i);
        memcpy(value + i * sizeof word, &word, sizeof word);
    }
    uint64_t last = word_at(first, i);
    memcpy(value + i * sizeof last, &last, bytes - i * sizeof last);
}

bool bench_value_good(const unsigned char *value, size_t bytes, uint64_t id)
{
    uint64_t first = 0;
    memcpy(&first, value, bytes < sizeof first ? bytes : sizeof first);
    if (bytes < sizeof first) {
        uint64_t mask = (UINT64_C(1) << 8 * bytes) - 1;
        return (first & mask & ((UINT64_C(1) << ID_BITS) - 1)) == (id & mask & ((UINT64_C(1) << ID_BITS) - 1));
    }
    if ((first & ((UINT64_C(1) << ID_BITS) - 1)) != id)
        return false;
    size_t i = 1;
    for (; (i + 1) * sizeof first <= bytes; i++) {
        uint64_t word;
        memcpy(&word, value + i * sizeof word, sizeof word);
        if (word != word_at(first, i))
            return false;
    }
    uint64_t last = word_at(first, i);
    return memcmp(value + i * sizeof last, &last, bytes - i * sizeof last) == 0;
}

uint32_t bench_value_version(const unsigned char *value)
{
    uint64_t first;
    memcpy(&first, value, sizeof first);
    return (uint32_t)(first >> ID_BITS);
}
