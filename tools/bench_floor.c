/* What the hardware asks for the same memory: nothing that larder could be faster than.
 *
 * One step of a floor loads the bucket line that the key's hash names, takes the first slot that is not empty, and copies a value's length from the item there. It computes
 * no hash, compares no key, and validates nothing. The item is another one than the key's, but as far away, and chosen by the key: a popular
 * key leads to the same item every time.
 *
 * Steps that follow each other are chained: the next key's bucket cannot be looked for before every line of the copy is there. */
#include "tools/bench.h"

#include <string.h>

#include "shm/table.h"

static inline const unsigned char *first_value(const struct lrd_reader *r, uint64_t hash, size_t bytes)
{
    const struct lrd_bucket *b = lrd_table_home(r, hash);
    for (unsigned i = 0; i < LRD_SLOTS; i++) {
        uint64_t slot = lrd_load_relaxed(&b->slot[i]); /* relaxed: nobody believes what is copied */
        if (lrd_unlikely(slot == 0))
            continue;
        uint64_t off = lrd_arena_off(r, slot) + sizeof(struct lrd_item) + BENCH_KEY;
        if (lrd_likely(off + bytes <= (uint64_t)r->n_blocks << r->block_shift))
            return r->arena + off;
    }
    return r->arena;
}

static inline uint64_t word_at(const unsigned char *value, size_t off)
{
    uint64_t word;
    memcpy(&word, value + off, sizeof word);
    return word;
}

/* Takes a word of every line that was copied. */
static inline uint64_t fold(const unsigned char *value, size_t bytes)
{
    uint64_t word = word_at(value, bytes > sizeof word ? bytes - sizeof word : 0);
    for (size_t off = 0; off + sizeof word < bytes; off += LRD_LINE)
        word ^= word_at(value, off);
    return word;
}

static inline uint64_t step(const struct bench_worker *w, uint64_t hash, uint64_t before)
{
    size_t bytes = w->b->o.value_size;
    lrd_racy_copy(w->value, first_value(&w->target->r, hash ^ (before & w->zero), bytes), bytes);
    __asm__ __volatile__("" : : "r"(w->value) : "memory");
    return fold(w->value, bytes);
}

/* ---- one after the other ---- */

static size_t one_plain(struct bench_worker *w, size_t n)
{
    uint64_t word = w->sink;
    for (size_t i = 0; i < n; i++)
        word = step(w, w->chunk[i].hash, word);
    w->sink = word;
    return n;
}

static size_t one_stamped(struct bench_worker *w, struct bench_stamps *s, size_t n)
{
    uint64_t word = w->sink, last = bench_stamp();
    for (size_t i = 0; i < n; i++) {
        uint64_t hash = w->chunk[i].hash;
        uint64_t begin = bench_stamp();
        word = step(w, hash, word);
        uint64_t end = bench_stamp();
        bench_note(s, last, begin, end);
        last = end;
    }
    w->sink = word;
    return n;
}

static size_t hot_stamped(struct bench_worker *w, struct bench_stamps *s, size_t n)
{
    uint64_t word = w->sink, last = bench_stamp();
    for (size_t i = 0; i + BENCH_GROUP <= n; i += BENCH_GROUP) {
        uint64_t begin = bench_stamp();
        for (size_t j = 0; j < BENCH_GROUP; j++)
            word = step(w, w->chunk[i + j].hash, word);
        uint64_t end = bench_stamp();
        bench_note(s, last, begin, end);
        last = end;
    }
    w->sink = word;
    return n;
}

/* ---- in batches: buckets, then items, then copies ---- */

static inline void batch(struct bench_worker *w, const struct bench_key *keys, size_t n, const unsigned char **from)
{
    const struct lrd_reader *r = &w->target->r;
    size_t bytes = w->b->o.value_size;
    for (size_t i = 0; i < n; i++)
        lrd_table_prefetch(r, keys[i].hash);
    for (size_t i = 0; i < n; i++) {
        from[i] = first_value(r, keys[i].hash, bytes);
        for (size_t off = 0; off < bytes; off += LRD_LINE)
            __builtin_prefetch(from[i] + off);
        __builtin_prefetch(from[i] + bytes - (bytes > 0));
    }
    for (size_t i = 0; i < n; i++)
        lrd_racy_copy(w->many.values + i * bytes, from[i], bytes);
    __asm__ __volatile__("" : : "r"(w->many.values) : "memory");
}

static size_t batch_plain(struct bench_worker *w, size_t n)
{
    const unsigned char *from[BENCH_BATCH];
    size_t size = w->b->o.batch;
    for (size_t i = 0; i < n; i += size)
        batch(w, &w->chunk[i], n - i < size ? n - i : size, from);
    return n;
}

/* ---- nothing but stamps ---- */

static size_t control_stamped(struct bench_worker *w, struct bench_stamps *s, size_t n)
{
    uint64_t last = bench_stamp();
    for (size_t i = 0; i < n; i++) {
        uint64_t begin = bench_stamp();
        uint64_t end = bench_stamp();
        bench_note(s, last, begin, end);
        last = end;
    }
    w->sink += last;
    return n;
}

const struct bench_contender bench_floor_one = {one_plain, one_stamped, 1};
const struct bench_contender bench_floor_batch = {batch_plain, NULL, 1};
const struct bench_contender bench_floor_hot = {NULL, hot_stamped, BENCH_GROUP};
const struct bench_contender bench_control = {NULL, control_stamped, 1};
