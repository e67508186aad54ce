/* The segment as a whole: how long it takes to attach, what a daemon with nothing to do costs, how many bytes an item needs beyond its own. */
#include "tools/bench.h"

#include <errno.h>
#include <string.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "shm/arena.h"
#include "shm/item.h"

/* ---- attach ---- */
#define ATTACH_MIN 5u
#define GIB (1024.0 * 1024 * 1024)

static int attach_once(const struct bench *b, uint32_t flags, double *ms)
{
    const struct larder_options options = {.size = sizeof options, .socket = b->socket, .flags = flags};
    struct larder *larder;
    uint64_t begin = lrd_clock_ns();
    int r = larder_open(&larder, &options);
    *ms = (double)(lrd_clock_ns() - begin) / 1e6;
    larder_close(larder);
    return r;
}

static enum bench_status attach_median(const struct bench *b, uint32_t flags, double *median)
{
    double ms[BENCH_ROUNDS];
    unsigned n = 0;
    uint64_t begin = lrd_clock_ns(), total_ns = (uint64_t)(b->o.seconds * 5e8);
    do {
        int r = attach_once(b, flags, &ms[n++]);
        if (r == LARDER_NO_SOCKET)
            return bench_error(BENCH_NO_DAEMON, "no daemon at %s: start larderd, or say --start-daemon", b->socket);
        if (r != 0)
            return bench_error(BENCH_FAILURE, "cannot attach to %s: %s", b->socket, larder_strerror(r));
    } while (n < ATTACH_MIN || (n < BENCH_ROUNDS && lrd_clock_ns() - begin < total_ns));
    *median = bench_median(ms, n);
    return BENCH_OK;
}

enum bench_status bench_attach(struct bench *b)
{
    double populated, bare;
    struct bench_target t;
    enum bench_status status = attach_median(b, 0, &populated);
    if (status == BENCH_OK)
        status = attach_median(b, LARDER_OPEN_NO_POPULATE, &bare);
    if (status == BENCH_OK)
        status = bench_target_open(&t, b);
    if (status != BENCH_OK)
        return status;
    double gib = (double)t.r.geometry.segment_bytes / GIB;
    bench_figure(b->report, "attach: segment", gib, "GiB");
    /* 20 ms for 4 GiB; what does not grow with the segment has 2 ms of them. */
    bench_figure_most(b->report, "attach", populated, "ms", 2 + 4.5 * gib);
    bench_figure(b->report, "attach, pages not mapped in advance", bare, "ms");
    bench_target_close(&t);
    return BENCH_OK;
}

/* ---- idle ---- */
#define SETTLE_US 300000u /* everybody parks */

/* CPU time of another process; -1: it is not there. */
static double process_cpu_s(pid_t pid)
{
    clockid_t clock;
    struct timespec t;
    if (pid <= 0 || clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) != 0)
        return -1;
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static enum bench_status measure_idle(struct bench *b, const struct bench_target *t)
{
    pid_t worker = (pid_t)lrd_load_relaxed(&t->r.header->worker_pid), keeper = (pid_t)lrd_load_relaxed(&t->r.header->keeper_pid);
    usleep(SETTLE_US);
    double worker_s = process_cpu_s(worker), keeper_s = process_cpu_s(keeper);
    uint64_t begin = lrd_clock_ns();
    usleep((useconds_t)(b->o.seconds * 1e6));
    double seconds = (double)(lrd_clock_ns() - begin) / 1e9;
    double worker_end_s = process_cpu_s(worker), keeper_end_s = process_cpu_s(keeper);
    if (worker_s < 0 || keeper_s < 0 || worker_end_s < 0 || keeper_end_s < 0)
        return bench_error(BENCH_FAILURE, "the daemon's processes (%d, %d) cannot be seen from here", (int)worker, (int)keeper);
    bench_figure(b->report, "idle: clients", b->o.clients, "");
    bench_figure(b->report, "idle: CPU of the worker", 100 * (worker_end_s - worker_s) / seconds, "%");
    bench_figure(b->report, "idle: CPU of the keeper", 100 * (keeper_end_s - keeper_s) / seconds, "%");
    return BENCH_OK;
}

enum bench_status bench_idle(struct bench *b)
{
    const struct larder_options options = {.size = sizeof options, .socket = b->socket, .flags = LARDER_OPEN_NO_POPULATE};
    struct larder **handles = bench_alloc(b->o.clients, sizeof *handles);
    struct bench_target t;
    unsigned n = 0;
    int r = 0;
    enum bench_status status = bench_target_open(&t, b); /* one of the clients */
    if (status != BENCH_OK)
        goto out;
    for (; n + 1 < b->o.clients && r == 0; n++)
        r = larder_open(&handles[n], &options);
    if (r != 0)
        status = bench_error(BENCH_FAILURE, "client %u of %u cannot attach: %s", n + 1, b->o.clients, larder_strerror(r));
    else
        status = measure_idle(b, &t);
    while (n > 0)
        larder_close(handles[--n]);
    bench_target_close(&t);
out:
    free(handles);
    return status;
}

/* ---- bytes ---- */
#define LENGTHS_LOW 20u
#define LENGTHS_HIGH 400u
#define FULL 0.75 /* of the table's slots */
#define LOOK_EVERY 256u

/* Sets items of 20 to 400 bytes until the table is three quarters full, or the first is evicted. */
static int fill_mixed(struct bench *b, struct bench_target *t)
{
    struct bench_key key;
    unsigned char *value = bench_alloc(1, LENGTHS_HIGH + LRD_LINE);
    uint64_t freed = bench_counter(t, LRD_C_blocks_freed);
    int r = 0;
    for (uint64_t id = 0; r == 0; id++) {
        uint64_t draw = bench_mix(b->o.seed + id * UINT64_C(0x9e3779b97f4a7c15));
        size_t size = LENGTHS_LOW + (draw >> 32) % (LENGTHS_HIGH - LENGTHS_LOW + 1) - BENCH_KEY;
        if (id % LOOK_EVERY == 0) {
            r = larder_flush(t->larder, 10000);
            if (bench_load(t) >= FULL || bench_counter(t, LRD_C_blocks_freed) > freed)
                break;
        }
        bench_key_make(&key, id, t->r.hash_seed);
        bench_value_fill(value, size, id, 0);
        r = bench_set(t, &key, value, size);
    }
    free(value);
    return r;
}

struct usage {
    uint64_t items;
    uint64_t own;    /* bytes of keys and values */
    uint64_t fixed;  /* all parts but the arena */
    uint64_t blocks; /* bytes of the arena that hold something, or cannot be used any more */
};

/* Every live item, found as a reader finds it. Nobody writes meanwhile. */
static void count_items(const struct lrd_reader *r, struct usage *u)
{
    for (uint64_t i = 0; i < (uint64_t)r->n_pairs * 2 * LRD_SLOTS; i++) {
        uint64_t slot = lrd_load_acquire(&r->buckets[i / LRD_SLOTS].slot[i % LRD_SLOTS]); /* pairs with the slot's release in an intent */
        uint32_t block = lrd_arena_block(r, slot);
        if (slot == 0 || block >= r->n_blocks)
            continue;
        uint64_t word = lrd_load_acquire(&r->block_words[block]);
        struct lrd_item_head head = lrd_item_load(lrd_arena_item(r, slot));
        if (lrd_slot_dead(slot, word, lrd_load32_acquire(&r->namespaces[lrd_item_ns(head) % LRD_NAMESPACES].epoch)))
            continue;
        u->items++;
        u->own += lrd_item_key_len(head) + lrd_item_value_len(head);
    }
}

static void count_blocks(const struct lrd_reader *r, struct usage *u)
{
    for (unsigned i = 0; i < LRD_N_PARTS; i++)
        if (i != LRD_PART_ARENA)
            u->fixed += r->header->parts[i].bytes;
    for (uint32_t i = 0; i < r->n_blocks; i++) {
        uint64_t state = lrd_load_relaxed(&r->descriptors[i].state); /* nobody writes */
        if (state == LRD_BLOCK_FULL)
            u->blocks += UINT64_C(1) << r->block_shift;
        else if (state == LRD_BLOCK_OPEN)
            u->blocks += lrd_load_relaxed(&r->descriptors[i].used);
    }
}

enum bench_status bench_bytes(struct bench *b)
{
    struct bench_target t;
    struct usage u = {0};
    enum bench_status status = bench_target_open(&t, b);
    if (status != BENCH_OK)
        return status;
    int r = fill_mixed(b, &t);
    if (r != 0)
        status = bench_error(BENCH_FAILURE, "cannot fill the segment: %s", larder_strerror(r));
    else {
        count_items(&t.r, &u);
        count_blocks(&t.r, &u);
        bench_figure(b->report, "bytes: items", (double)u.items, "");
        bench_figure(b->report, "bytes: table load", 100 * bench_load(&t), "%");
        bench_figure(b->report, "bytes: key and value, mean", (double)u.own / (double)u.items, "B");
        bench_figure_most(b->report, "bytes per item beyond key and value", (double)(u.fixed + u.blocks - u.own) / (double)u.items, "B", 34);
    }
    bench_target_close(&t);
    return status;
}
