/* Views: a value looked at where it lies, beside the two dependent loads that it takes at least, and beside a get that copies it. And hot keys that are revisited. */
#include "tools/bench.h"

#include <stdlib.h>
#include <string.h>

#include "shm/table.h"

#define HOT_ITEMS 1000u

enum { FLOOR, VIEW, GET, REVISIT, SIDES };

/* ---- contenders: each step's key cannot be looked for before the step before it has its word ---- */

static inline uint64_t word_at(const void *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

/* A bucket line, then the line in which the value of an item there begins: of any item, by the hash. The first one of each bucket would be a seventh of all items, and of their pages. */
static inline uint64_t floor_step(const struct lrd_reader *r, uint64_t hash)
{
    const struct lrd_bucket *b = lrd_table_home(r, hash);
    for (unsigned i = 0, at = (uint32_t)hash >> 8; i < LRD_SLOTS; i++, at++) {
        uint64_t slot = lrd_load_relaxed(&b->slot[at % LRD_SLOTS]); /* relaxed: nobody believes it */
        if (lrd_likely(slot != 0))
            return word_at(r->arena + (lrd_arena_off(r, slot) + sizeof(struct lrd_item) + BENCH_KEY) % (r->arena_bytes - LRD_LINE));
    }
    return 0;
}

static size_t floor_plain(struct bench_worker *w, size_t n)
{
    uint64_t word = w->sink;
    for (size_t i = 0; i < n; i++)
        word = floor_step(&w->target->r, w->chunk[i].hash ^ (word & w->zero));
    w->sink = word;
    return n;
}

static size_t floor_stamped(struct bench_worker *w, struct bench_stamps *s, size_t n)
{
    uint64_t word = w->sink, last = bench_stamp();
    for (size_t i = 0; i < n; i++) {
        uint64_t hash = w->chunk[i].hash;
        uint64_t begin = bench_stamp();
        word = floor_step(&w->target->r, hash ^ (word & w->zero));
        uint64_t end = bench_stamp();
        bench_note(s, last, begin, end);
        last = end;
    }
    w->sink = word;
    return n;
}

/* Looks at the beginning of the value only: whoever reads all of it pays for that alone. */
static inline size_t view_step(struct bench_worker *w, const unsigned char *key, uint64_t *word)
{
    struct larder_view view = {.size = sizeof view};
    if (larder_view(w->target->ns, key + (*word & w->zero), BENCH_KEY, &view) != 0)
        return 0;
    *word = word_at(view.data);
    return larder_view_end(&view) == 0;
}

static void verify(struct bench_worker *w, const struct bench_key *key)
{
    struct larder_view view = {.size = sizeof view};
    if (larder_view(w->target->ns, key->bytes, BENCH_KEY, &view) != 0)
        return;
    bool good = view.value_size == w->b->o.value_size && bench_value_good(view.data, view.value_size, key->id);
    if (larder_view_end(&view) == 0 && !good)
        w->result->side[VIEW].wrong++;
}

static size_t view_plain(struct bench_worker *w, size_t n)
{
    size_t hits = 0;
    uint64_t word = w->sink;
    for (size_t i = 0; i < n; i++)
        hits += view_step(w, w->chunk[i].bytes, &word);
    w->sink = word;
    for (size_t i = 0; lrd_unlikely(w->b->o.verify) && i < n; i++)
        verify(w, &w->chunk[i]);
    return hits;
}

static size_t view_stamped(struct bench_worker *w, struct bench_stamps *s, size_t n)
{
    size_t hits = 0;
    uint64_t word = w->sink, last = bench_stamp();
    for (size_t i = 0; i < n; i++) {
        const struct bench_key key = w->chunk[i]; /* in the nearest cache before the clock is read */
        uint64_t begin = bench_stamp();
        hits += view_step(w, key.bytes, &word);
        uint64_t end = bench_stamp();
        bench_note(s, last, begin, end);
        last = end;
    }
    w->sink = word;
    return hits;
}

static size_t get_plain(struct bench_worker *w, size_t n)
{
    size_t hits = 0, size;
    uint64_t word = w->sink;
    for (size_t i = 0; i < n; i++) {
        hits += larder_get(w->target->ns, w->chunk[i].bytes + (word & w->zero), BENCH_KEY, w->value, w->b->o.value_size, &size) == 0;
        word = word_at(w->value);
    }
    w->sink = word;
    return hits;
}

/* ---- revisits ---- */

static __thread struct larder_hold *holds;

static void take_holds(struct bench_worker *w)
{
    holds = bench_alloc(HOT_ITEMS, sizeof *holds);
    for (uint64_t i = 0; i < HOT_ITEMS; i++) {
        struct bench_key key;
        size_t size;
        bench_key_make(&key, i % w->b->o.items, w->keys.hash_seed);
        holds[i].size = sizeof *holds;
        (void)larder_get_hold(w->target->ns, key.bytes, BENCH_KEY, w->value, w->b->o.value_size, &size, &holds[i]);
    }
}

static size_t revisit_plain(struct bench_worker *w, size_t n)
{
    size_t hits = 0;
    for (size_t i = 0; i < n; i++)
        hits += larder_revisit(w->target->ns, &holds[w->chunk[i].id % HOT_ITEMS]) == 0;
    return hits;
}

/* ---- the mode ---- */

static void work(struct bench_worker *w)
{
    const struct bench_contender c[SIDES] = {{floor_plain, floor_stamped, 1}, {view_plain, view_stamped, 1}, {get_plain, NULL, 1}, {revisit_plain, NULL, 1}};
    take_holds(w);
    bench_duel(w, c, SIDES);
    free(holds);
}

static void say(const struct bench *b, const struct bench_result *results, unsigned n)
{
    double mean[SIDES];
    uint64_t ops[SIDES] = {0}, hits[SIDES] = {0};
    for (unsigned side = 0; side < SIDES; side++) {
        mean[side] = bench_side_median(results, n, side, BENCH_CPU_NS);
        for (unsigned i = 0; i < n; i++) {
            ops[side] += results[i].side[side].ops;
            hits[side] += results[i].side[side].hits;
        }
    }
    bench_figure(b->report, "view: value", (double)b->o.value_size, "B");
    bench_figure(b->report, "view: two dependent loads, mean", mean[FLOOR], "ns");
    bench_figure(b->report, "view, mean", mean[VIEW], "ns");
    bench_figure(b->report, "view: get of the same, mean", mean[GET], "ns");
    bench_figure_most(b->report, "view / two dependent loads, mean", mean[VIEW] / mean[FLOOR], "x", 1.2);
    bench_figure(b->report, "view / two dependent loads, p50", bench_side_median(results, n, VIEW, BENCH_P50_NS) / bench_side_median(results, n, FLOOR, BENCH_P50_NS), "x");
    bench_figure(b->report, "view: hits", 100 * (double)hits[VIEW] / (double)(ops[VIEW] + (ops[VIEW] == 0)), "%");
    bench_figure_most(b->report, "revisit of a hot key, mean", mean[REVISIT], "ns", 12);
    bench_figure(b->report, "revisit: confirmed", 100 * (double)hits[REVISIT] / (double)(ops[REVISIT] + (ops[REVISIT] == 0)), "%");
}

enum bench_status bench_view(struct bench *b)
{
    struct bench_result *results;
    unsigned n = b->o.processes * b->o.threads;
    enum bench_status status = bench_crew_run(b, b->o.processes, b->o.threads, b->o.items, work, &results);
    if (status == BENCH_OK)
        say(b, results, n);
    else if (status == BENCH_WRONG)
        bench_error(status, "a view that ended well showed something that was not set");
    bench_crew_free(results, n);
    return status;
}
