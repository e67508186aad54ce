/* Request traces: the file, and how large its items are when they are replayed against a smaller cache.
 *
 * .ltr, little endian: "LTR1", u32 requests n, u32 objects m, u32 0; then u32 size[m] (bytes of key, value and 16 of header), u32 ttl_s[m] (0: none),
 * u32 object[n], u32 time_s[n], u8 op[n] (0 get, 1 set).
 *
 * --fraction F: the cache is to have F of the footprint, in so many blocks as --blocks says. Blocks are powers of two, so the sizes are what gives way: all of them are
 * multiplied by one factor (the value takes what header and key leave), found by bisection, so that F of all items fill all blocks. Of the blocks large enough for a
 * factor of 1 or more the smallest is taken. Whether the largest object fits into half a block does not depend on that choice. */
#include "tools/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/layout.h"

#define HEAD_BYTES 16u
#define LEAST_ITEM (HEAD_BYTES + BENCH_KEY)
#define AVERAGE_MAX (1u << 20) /* larderd takes no more */
#define GRANULE 8u
#define HALVINGS 60u
#define SCALE_MAX 4096.0
#define TABLE_LOAD 0.5 /* no slot is short, so what is missed was evicted */

/* ---- the file ---- */

static bool sound(const struct bench_trace *t)
{
    for (uint32_t i = 0; i < t->n_requests; i++)
        if (t->object[i] >= t->n_objects || t->op[i] > 1)
            return false;
    return true;
}

static bool cut(struct bench_trace *t)
{
    const uint32_t *word = t->base;
    if (t->bytes < HEAD_BYTES || memcmp(word, "LTR1", 4) != 0)
        return false;
    t->n_requests = word[1];
    t->n_objects = word[2];
    if (t->n_requests == 0 || t->bytes != HEAD_BYTES + UINT64_C(8) * t->n_objects + UINT64_C(9) * t->n_requests)
        return false;
    t->size = word + 4;
    t->ttl_s = t->size + t->n_objects;
    t->object = t->ttl_s + t->n_objects;
    t->time_s = t->object + t->n_requests;
    t->op = (const uint8_t *)(t->time_s + t->n_requests);
    for (uint32_t i = 0; i < t->n_objects; i++) {
        t->footprint += t->size[i];
        if (t->ttl_s[i] > 0 && (t->shortest_ttl_s == 0 || t->ttl_s[i] < t->shortest_ttl_s))
            t->shortest_ttl_s = t->ttl_s[i];
    }
    return sound(t);
}

/* ---- sizes ---- */

static uint32_t item_bytes(const struct bench_trace *t, uint32_t object, double scale)
{
    double bytes = t->size[object] * scale;
    uint64_t rounded = bytes < LEAST_ITEM ? LEAST_ITEM : ((uint64_t)bytes + GRANULE - 1) & ~(uint64_t)(GRANULE - 1);
    return rounded < LEAST_ITEM + LRD_VALUE_MAX ? (uint32_t)rounded : (LEAST_ITEM + LRD_VALUE_MAX) & ~(GRANULE - 1);
}

static uint64_t sum_at(const struct bench_trace *t, double scale)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < t->n_objects; i++)
        sum += item_bytes(t, i, scale);
    return sum;
}

static double fit(const struct bench_trace *t, double wanted)
{
    double low = 0, high = SCALE_MAX;
    for (unsigned i = 0; i < HALVINGS && high - low > 1e-9 * high; i++) {
        double middle = (low + high) / 2;
        if ((double)sum_at(t, middle) > wanted)
            high = middle;
        else
            low = middle;
    }
    return low;
}

static enum bench_status choose_sizes(struct bench_trace *t, const struct bench_options *o)
{
    t->scale = 1;
    if (o->fraction <= 0)
        return BENCH_OK;
    double own = (double)sum_at(t, 1) * o->fraction, blocks = o->blocks;
    t->block_bytes = UINT64_C(1) << LRD_BLOCK_SHIFT_MIN;
    while (t->block_bytes < o->min_block)
        t->block_bytes *= 2;
    while (blocks * (double)t->block_bytes < own && t->block_bytes < UINT64_C(1) << LRD_BLOCK_SHIFT_MAX)
        t->block_bytes *= 2;
    double wanted = blocks * (double)t->block_bytes / o->fraction;
    t->scale = fit(t, wanted);
    double got = (double)sum_at(t, t->scale);
    if (got < 0.999 * wanted || got > 1.001 * wanted)
        return bench_error(BENCH_USAGE, "%g of this trace cannot be %u blocks of at most 2 MiB: say more --blocks", o->fraction, o->blocks);
    return BENCH_OK;
}

static void note_sizes(struct bench_trace *t)
{
    t->item = bench_alloc(t->n_objects + 1, sizeof *t->item);
    for (uint32_t i = 0; i < t->n_objects; i++) {
        t->item[i] = item_bytes(t, i, t->scale);
        t->item_footprint += t->item[i];
        t->largest_item = t->item[i] > t->largest_item ? t->item[i] : t->largest_item;
    }
}

/* ---- both ---- */

enum bench_status bench_trace_open(struct bench *b)
{
    struct stat st;
    struct bench_trace *t = bench_alloc(1, sizeof *t);
    b->trace = t;
    int fd = open(b->o.file, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        bench_trace_close(b);
        return bench_error(BENCH_USAGE, "cannot read %s: %s", b->o.file, strerror(errno));
    }
    t->bytes = st.st_size > 0 ? (size_t)st.st_size : 1;
    t->base = mmap(NULL, t->bytes, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    close(fd);
    if (t->base == MAP_FAILED)
        t->base = NULL;
    if (st.st_size == 0 || !t->base || !cut(t)) {
        bench_trace_close(b);
        return bench_error(BENCH_USAGE, "%s is not an LTR1 trace", b->o.file);
    }
    enum bench_status status = choose_sizes(t, &b->o);
    if (status == BENCH_OK)
        note_sizes(t);
    else
        bench_trace_close(b);
    return status;
}

void bench_trace_close(struct bench *b)
{
    if (!b->trace)
        return;
    if (b->trace->base)
        munmap(b->trace->base, b->trace->bytes);
    free(b->trace->item);
    free(b->trace);
    b->trace = NULL;
}

/* ---- the daemon for it ---- */

void bench_trace_size(const struct bench *b, struct bench_daemon_size *size)
{
    const struct bench_trace *t = b->trace;
    uint64_t mean = t->item_footprint / (t->n_objects > 0 ? t->n_objects : 1);
    size->average_item = mean > HEAD_BYTES ? mean - HEAD_BYTES : 1;
    if (size->average_item > AVERAGE_MAX)
        size->average_item = AVERAGE_MAX;
    if (t->block_bytes == 0) {
        size->memory = (t->item_footprint + (uint64_t)t->n_objects * 16) / 10 * 11 + (UINT64_C(48) << 20);
        return;
    }
    /* What the ring holds unapplied is not in the cache and can be read all the same: as little of it as there can be. */
    double arena = (double)t->block_bytes * b->o.blocks, items = arena / (double)mean;
    size->blocks = b->o.blocks;
    size->block_bytes = t->block_bytes;
    size->ring_bytes = t->block_bytes;
    size->table_load = TABLE_LOAD;
    size->memory = (uint64_t)((arena + items * LRD_LINE / LRD_SLOTS / TABLE_LOAD) * 1.1) + (UINT64_C(32) << 20);
}
