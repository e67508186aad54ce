/* The whole cache: processes with threads that set, get, delete and ask for many at once, on a segment that they overfill, so that blocks are recycled all the time.
 *
 * Each key has one writing thread. What it reads back of its own is what it wrote last, or a miss (evicted), never anything else; other threads of its process see at least
 * what was acknowledged when they began; everybody else sees values that are whole and never get older. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libclient/larder.h"
#include "shm/clock.h"
#include "tests/certified.h"
#include "tests/daemon_fixture.h"
#include "tests/segment_fixture.h"

#define PROCESSES 2u
#define THREADS 2u
#define WRITERS (PROCESSES * THREADS)
#define KEYS 12000u /* of each writer; the segment holds about half of them all */
#define HOT 64u
#define MANY 16u
#define RUN_MS 8000u

struct tally {
    lrd_u64 sets, deletes, gets, hits, wrong;
    lrd_u64 pad[3];
};

struct board {
    lrd_u64 stop;
    struct tally tally[WRITERS];
    lrd_u64 acked[WRITERS][KEYS]; /* version: even, a set; odd, a delete */
};

static struct board *board;
static struct daemon_fixture d;
static struct larder *handle;
static struct larder_ns *ns;

struct seen {
    uint64_t version[WRITERS][KEYS];
};

static void wrong(uint32_t me, const char *what, uint64_t key, uint64_t a, uint64_t b)
{
    lrd_add_own(&board->tally[me].wrong, 1);
    if (lrd_load_relaxed(&board->tally[me].wrong) < 5)
        printf("writer %u: %s: key %" PRIu64 ", %" PRIu64 ", %" PRIu64 "\n", me, what, key, a, b);
    fflush(stdout);
}

static uint64_t id_of(uint32_t writer, uint64_t key) { return (uint64_t)writer << 32 | key; }

static void write_one(uint32_t me, uint64_t key, uint64_t dice, uint64_t *value)
{
    uint64_t version = (lrd_load_relaxed(&board->acked[me][key]) | 1) + 1, id = id_of(me, key);
    int r;
    if (dice % 10 == 0) {
        version++;
        r = larder_delete(ns, &id, sizeof id, NULL);
        lrd_add_own(&board->tally[me].deletes, r == 0);
    } else {
        struct larder_set_options o = {.size = sizeof o, .flags = (uint32_t)version, .ttl_ms = dice % 7 == 0 ? 3600000 : LARDER_TTL_DEFAULT,
                                       .how = dice % 4096 == 1 ? LARDER_SET_WAIT : 0};
        r = larder_set(ns, &id, sizeof id, value, certified_make(value, id, version), &o, NULL);
        lrd_add_own(&board->tally[me].sets, r == 0);
    }
    if (r == 0)
        lrd_store_release(&board->acked[me][key], version);
    else
        wrong(me, larder_strerror(r), key, version, (uint64_t)r);
}

/* acked, of: when the get began. */
static void judge(uint32_t me, uint32_t of, uint64_t key, const struct larder_item *item, uint64_t acked, struct seen *seen)
{
    lrd_add_own(&board->tally[me].gets, 1);
    if (item->result == LARDER_MISS)
        return;
    if (item->result != 0) {
        wrong(me, larder_strerror(item->result), key, of, 0);
        return;
    }
    lrd_add_own(&board->tally[me].hits, 1);
    uint64_t version = certified_version(item->buffer, item->value_size, id_of(of, key));
    if (version == UINT64_MAX || item->flags != (uint32_t)version)
        wrong(me, "torn, mixed or foreign", key, of, item->flags);
    else if (of == me && version != acked)
        wrong(me, "own write: acknowledged, read", key, acked, version);
    else if (of / THREADS == me / THREADS && version < acked)
        wrong(me, "of this process: acknowledged, read", key, acked, version);
    else if (version < seen->version[of][key])
        wrong(me, "had seen, read", key, seen->version[of][key], version);
    else
        seen->version[of][key] = version;
}

static void read_one(uint32_t me, uint32_t of, uint64_t key, uint64_t *value, struct seen *seen)
{
    struct larder_item item = {.size = sizeof item, .buffer = value, .capacity = CERTIFIED_MAX};
    uint64_t id = id_of(of, key), acked = lrd_load_acquire(&board->acked[of][key]);
    item.result = larder_get_item(ns, &id, sizeof id, &item);
    judge(me, of, key, &item, acked, seen);
}

static void read_many(uint32_t me, uint64_t *state, unsigned char *values, struct seen *seen)
{
    struct larder_item items[MANY];
    struct larder_key keys[MANY];
    uint64_t id[MANY], acked[MANY];
    size_t hits = 0, counted = 0;
    for (unsigned i = 0; i < MANY; i++) {
        uint64_t x = fixture_random(state), key = x % (x & 1 << 20 ? HOT : KEYS);
        uint32_t of = (uint32_t)(x >> 32) % WRITERS;
        id[i] = id_of(of, key);
        acked[i] = lrd_load_acquire(&board->acked[of][key]);
        keys[i] = (struct larder_key){.size = sizeof keys[i], .data = &id[i], .data_size = sizeof id[i]};
        items[i] = (struct larder_item){.size = sizeof items[i], .buffer = values + (size_t)i * CERTIFIED_MAX, .capacity = CERTIFIED_MAX};
        if (x >> 24 & 1)
            larder_key_prepare(ns, &keys[i]);
    }
    if (larder_get_many(ns, keys, items, MANY, &hits) != 0)
        wrong(me, "get_many", 0, 0, 0);
    for (unsigned i = 0; i < MANY; i++) {
        counted += items[i].result == 0;
        judge(me, (uint32_t)(id[i] >> 32), id[i] & UINT32_MAX, &items[i], acked[i], seen);
    }
    if (counted != hits)
        wrong(me, "hits, counted", 0, hits, counted);
}

static void *work(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    uint64_t state = 100 + me;
    uint64_t *value = malloc(CERTIFIED_MAX);
    unsigned char *values = malloc((size_t)MANY * CERTIFIED_MAX);
    struct seen *seen = calloc(1, sizeof *seen);
    while (lrd_load_relaxed(&board->stop) == 0) {
        uint64_t x = fixture_random(&state), key = x % (x & 1 << 20 ? HOT : KEYS);
        write_one(me, key, x >> 32, value);
        read_one(me, me, key, value, seen);
        for (unsigned i = 0; i < 3; i++) {
            x = fixture_random(&state);
            read_one(me, (uint32_t)(x >> 32) % WRITERS, x % (x & 1 << 20 ? HOT : KEYS), value, seen);
        }
        if (x >> 40 & 1)
            read_many(me, &state, values, seen);
    }
    free(value);
    free(values);
    free(seen);
    return NULL;
}

static void be_a_process(uint32_t idx)
{
    pthread_t thread[THREADS];
    struct larder_options o = {.size = sizeof o, .socket = d.socket, .busy_timeout_ms = 10000};
    int r = larder_open(&handle, &o);
    if (r != 0) {
        printf("open: %s\n", larder_strerror(r));
        exit(1);
    }
    ns = larder_default(handle);
    for (uint32_t i = 0; i < THREADS; i++)
        if (pthread_create(&thread[i], NULL, work, (void *)(uintptr_t)(idx * THREADS + i)) != 0)
            abort();
    for (uint32_t i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    r = larder_flush(handle, 10000);
    struct larder_stats s = {.size = sizeof s};
    if (r != 0 || larder_stats(handle, &s) != 0 || s.own_reads == 0)
        wrong(idx * THREADS, "flush; reads of own writes before they were visible", 0, (uint64_t)r, s.own_reads);
    printf("process %u: %" PRIu64 " reads from its own ring, %" PRIu64 " restarts\n", idx, s.own_reads, s.restarts);
    larder_close(handle);
    exit(0);
}

#define TOTAL(field) total(offsetof(struct tally, field))
static uint64_t total(size_t field)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < WRITERS; i++)
        n += lrd_load_relaxed((const lrd_u64 *)(const void *)((const char *)&board->tally[i] + field));
    return n;
}

int main(void)
{
    static const char *const options[] = {"--memory", "24M", "--average-item", "1000", "--table-load", "0.85", "--ring", "128K", "--max-clients", "8", NULL};
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED)
        return 1;
    daemon_start(&d, NULL, options);
    pid_t pid[PROCESSES];
    for (uint32_t i = 0; i < PROCESSES; i++)
        if ((pid[i] = fork()) == 0)
            be_a_process(i);
    uint64_t end = lrd_clock_ns() + RUN_MS * UINT64_C(1000000) * (fixture_long() ? 60 : 1);
    while (lrd_clock_ns() < end && TOTAL(wrong) == 0)
        pause_us(10000);
    lrd_store_relaxed(&board->stop, 1);
    bool bad = false;
    for (uint32_t i = 0; i < PROCESSES; i++) {
        int status;
        bad |= waitpid(pid[i], &status, 0) != pid[i] || status != 0;
    }
    uint64_t sets = fixture_counter(&d.r, LRD_C_sets), evicted = fixture_counter(&d.r, LRD_C_evicted);
    printf("%" PRIu64 " sets, %" PRIu64 " deletes, %" PRIu64 " gets validated, %" PRIu64 " of them hits; %" PRIu64 " evicted, %" PRIu64 " blocks freed, %" PRIu64
           " moved, load %.2f\n",
           sets, TOTAL(deletes), TOTAL(gets), TOTAL(hits), evicted, fixture_counter(&d.r, LRD_C_blocks_freed), fixture_counter(&d.r, LRD_C_relocated), fixture_load(&d.r));
    if (sets != TOTAL(sets)) {
        printf("%" PRIu64 " sets were acknowledged\n", TOTAL(sets));
        bad = true;
    }
    if (fixture_counter(&d.r, LRD_C_deletes) + fixture_counter(&d.r, LRD_C_delete_misses) != TOTAL(deletes)) {
        printf("deletes do not add up\n");
        bad = true;
    }
    bad |= TOTAL(wrong) > 0 || evicted == 0;
    bad |= !daemon_check(&d);
    bad |= fixture_recount(&d.r) != 0;
    daemon_stop(&d);
    return bad;
}
