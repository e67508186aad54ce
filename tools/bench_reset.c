/* Reset: a namespace full of small items is emptied by one call. How long the call takes, how long the writer is busy with it, that every get which begins
 * after it has returned misses, through another handle as well, and how long it takes until the blocks are free again. */
#include "tools/bench.h"

#include <stdlib.h>

#include "shm/item.h"

#define NAME "reset"
#define SAMPLES 1000000u
#define LOOK_EVERY 256u
#define FREE_S 30u
#define FLUSH_MS 60000u

void bench_reset_size(const struct bench *b, struct bench_daemon_size *size)
{
    size->average_item = BENCH_KEY + b->o.value_size;
    size->memory = bench_daemon_memory(&b->o) / 10 * 11 + (UINT64_C(16) << 20); /* some blocks stay spare; the default namespace has one */
}

/* Blocks that hold something of before the last reset. */
static uint32_t old_blocks(const struct lrd_reader *r, uint32_t number)
{
    uint32_t n = 0, epoch = lrd_load32_acquire(&r->namespaces[number].epoch); /* pairs with the reset's release */
    for (uint32_t i = 0; i < r->n_blocks; i++)
        n += lrd_load_acquire(&r->descriptors[i].state) != LRD_BLOCK_FREE && lrd_owner_ns(lrd_load_acquire(&r->descriptors[i].owner)) == number &&
             lrd_block_word_epoch(lrd_load_acquire(&r->block_words[i])) != epoch;
    return n;
}

struct outcome {
    uint64_t call_ns, free_ns; /* free_ns 0: not within 30 s */
    uint64_t gets, hits;
    uint32_t blocks;           /* with old items, right after the call */
};

/* Gets by both handles in turn, and between them a look whether the blocks are free. */
static void sample(struct bench *b, struct bench_target *const t[2], uint32_t number, struct outcome *out, uint64_t begin_ns)
{
    uint64_t samples = b->o.items < SAMPLES ? b->o.items : SAMPLES, step = b->o.items / samples;
    unsigned char *value = bench_alloc(1, b->o.value_size + LRD_LINE);
    struct bench_key key;
    size_t size;
    out->blocks = old_blocks(&t[0]->r, number);
    for (uint64_t i = 0; i < samples; i++) {
        bench_key_make(&key, i * step, t[0]->r.hash_seed);
        out->hits += larder_get(t[i % 2]->ns, key.bytes, BENCH_KEY, value, b->o.value_size, &size) == 0;
        out->gets++;
        if (i % LOOK_EVERY == 0 && out->free_ns == 0 && old_blocks(&t[0]->r, number) == 0)
            out->free_ns = lrd_clock_ns() - begin_ns;
    }
    while (out->free_ns == 0 && lrd_clock_ns() - begin_ns < FREE_S * UINT64_C(1000000000))
        if (old_blocks(&t[0]->r, number) == 0)
            out->free_ns = lrd_clock_ns() - begin_ns;
    free(value);
}

static uint64_t present(const struct bench *b, const struct bench_target *t)
{
    uint64_t n = 0;
    struct bench_key key;
    size_t size;
    unsigned char *value = bench_alloc(1, b->o.value_size + LRD_LINE);
    for (uint64_t id = 0; id < b->o.items; id++) {
        bench_key_make(&key, id, t->r.hash_seed);
        n += larder_get(t->ns, key.bytes, BENCH_KEY, value, b->o.value_size, &size) == 0;
    }
    free(value);
    return n;
}

static enum bench_status measure(struct bench *b, struct bench_target *first, struct bench_target *second, uint32_t number, struct bench_sight *sights)
{
    struct bench_target *const both[2] = {first, second};
    struct outcome out = {0};
    int r = bench_fill_items(first, &b->o);
    if (r != 0)
        return bench_error(BENCH_FAILURE, "cannot set the items: %s", larder_strerror(r));
    uint64_t items = present(b, second);
    enum bench_status status = bench_look(b, &sights[0]);
    if (status != BENCH_OK)
        return status;
    uint64_t begin_ns = lrd_clock_ns();
    r = larder_ns_reset(first->ns);
    out.call_ns = lrd_clock_ns() - begin_ns;
    if (r != 0)
        return bench_error(BENCH_FAILURE, "cannot reset the namespace: %s", larder_strerror(r));
    sample(b, both, number, &out, begin_ns);
    status = bench_look(b, &sights[1]);
    if (status != BENCH_OK)
        return status;
    bench_figure(b->report, "reset: items before", (double)items, "");
    bench_figure(b->report, "reset: the call", (double)out.call_ns / 1e3, "us");
    bench_figure(b->report, "reset: in the writer", (double)lrd_load_relaxed(&first->r.namespaces[number].reset_ns) / 1e3, "us");
    bench_figure(b->report, "reset: gets afterwards", (double)out.gets, "");
    bench_figure_most(b->report, "reset: hits afterwards", (double)out.hits, "", 0);
    bench_figure(b->report, "reset: blocks to free after the call", out.blocks, "");
    bench_figure(b->report, "reset: until all are free", (double)out.free_ns / 1e6, "ms");
    bench_say_counters(b, "reset", &sights[0], &sights[1]);
    bench_say_pauses(b, "reset", &sights[0], &sights[1]);
    bench_report_finish(b->report);
    if (out.hits > 0)
        return bench_error(BENCH_WRONG, "%llu gets after the reset returned an item of before", (unsigned long long)out.hits);
    if (out.free_ns == 0)
        return bench_error(BENCH_FAILURE, "blocks are not free %u s after the reset", FREE_S);
    return BENCH_OK;
}

enum bench_status bench_reset(struct bench *b)
{
    const struct larder_ns_options options = {.size = sizeof options, .policy = LARDER_EVICT};
    struct bench_target first, second;
    uint32_t number;
    enum bench_status status = bench_target_open(&first, b);
    if (status != BENCH_OK)
        return status;
    status = bench_target_open(&second, b);
    if (status == BENCH_OK) {
        struct bench_sight *sights = bench_alloc(2, sizeof *sights);
        status = bench_target_namespace(&first, NAME, &options, &number);
        if (status == BENCH_OK)
            status = bench_target_namespace(&second, NAME, &options, &number);
        if (status == BENCH_OK)
            status = measure(b, &first, &second, number, sights);
        free(sights);
        bench_target_close(&second);
    }
    bench_target_close(&first);
    return status;
}
