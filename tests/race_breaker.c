/* A namespace that refuses eviction is filled at full speed by two processes of two threads each, whose fallback keeps in a list what is refused. Room is made, by deletes and with a worker that is killed, and
 * they go on. At the end: everything that was ever acknowledged is in the cache or in the list; what the list has and the cache as well, or the list twice, was said to be in both.
 *
 * Every write has a key of its own, so each is in one place: 0 was returned, it is in the cache, unless its deleter has it on the board; LARDER_DIVERTED, in the list; anything else, in neither. */
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
#define KEYS 60000u /* of a thread, at most */
#define BATCH 7u
#define RUN_MS 1500u

enum said { NOTHING, IN_CACHE, IN_LIST, DELETED };

struct board {
    lrd_u64 stop, wrong, no_room;
    lrd_u64 next[PROCESSES][THREADS];           /* writes that were called and have returned */
    lrd_u32 said[PROCESSES][THREADS][KEYS];     /* enum said: what the call returned */
    lrd_u32 listed[PROCESSES][THREADS][KEYS];   /* times it is in the list */
    lrd_u64 counted[PROCESSES];                 /* diverted, as the library has counted */
};

static struct board *board;
static struct daemon_fixture d;
static struct larder *handle;
static struct larder_ns *ns;
static uint32_t me;
static __thread bool inside; /* a write of this thread is under way: the callback runs in it */

static void wrong(const char *what, uint64_t a, uint64_t b)
{
    if (lrd_fetch_add_relaxed(&board->wrong, 1) < 8)
        printf("process %u: %s: %" PRIx64 ", %" PRIx64 "\n", me, what, a, b);
    fflush(stdout);
}

static uint64_t id_of(uint32_t process, uint32_t thread, uint32_t key) { return (uint64_t)(process + 1) << 48 | (uint64_t)thread << 32 | key; }

static void divert(void *context, const struct larder_diverted *w)
{
    uint64_t id;
    if (context != board || w->key_size != sizeof id || w->ns != ns || !inside || w->reason == 0) {
        wrong("not what was written", w->key_size, (uint64_t)w->reason);
        return;
    }
    memcpy(&id, w->key, sizeof id);
    if (certified_version(w->value, w->value_size, id) != 2)
        wrong("not the value", id, w->value_size);
    lrd_u32 *n = &board->listed[me][id >> 32 & 0xffff][(uint32_t)id];
    lrd_store32_relaxed(n, lrd_load32_relaxed(n) + 1);
}

static void note(uint32_t thread, uint32_t key, int r)
{
    if (r != 0 && r != LARDER_DIVERTED)
        wrong("neither taken nor diverted", key, (uint64_t)r);
    lrd_store32_relaxed(&board->said[me][thread][key], r == 0 ? IN_CACHE : r == LARDER_DIVERTED ? IN_LIST : NOTHING);
}

/* One by one, and now and then some at once. */
static void *write_on(void *arg)
{
    uint32_t thread = (uint32_t)(uintptr_t)arg;
    uint64_t state = lrd_clock_ns() ^ me << 8 ^ thread, id[BATCH], *value = malloc(BATCH * CERTIFIED_MAX);
    struct larder_write many[BATCH];
    for (uint32_t key = 0; key + BATCH <= KEYS && lrd_load_relaxed(&board->stop) == 0;) {
        uint32_t n = fixture_random(&state) >> 20 & 1 ? BATCH : 1;
        for (uint32_t i = 0; i < n; i++) {
            id[i] = id_of(me, thread, key + i);
            many[i] = (struct larder_write){.size = sizeof many[i], .key = &id[i], .key_size = sizeof id[i], .value = (char *)value + i * CERTIFIED_MAX};
            many[i].value_size = certified_make((uint64_t *)(void *)((char *)value + i * CERTIFIED_MAX), id[i], 2);
        }
        inside = true;
        if (n == 1)
            many[0].result = larder_set(ns, many[0].key, many[0].key_size, many[0].value, many[0].value_size, NULL, NULL);
        else
            larder_set_many(ns, many, n, NULL);
        inside = false;
        for (uint32_t i = 0; i < n; i++)
            note(thread, key + i, many[i].result);
        key += n;
        if (key > KEYS / 2)
            pause_us(100); /* a list takes what it is given: the rest is for when room has been made */
        lrd_store_release(&board->next[me][thread], key);
    }
    free(value);
    return NULL;
}

static void attach(void)
{
    const struct larder_options o = {.size = sizeof o, .socket = d.socket, .open_timeout_ms = 10000, .busy_timeout_ms = 5};
    if (larder_open(&handle, &o) != 0 || larder_ns_open(handle, "keep", &ns) != 0)
        wrong("open", 0, 0);
}

static void writers(uint32_t process)
{
    const struct larder_breaker_options o = {.size = sizeof o, .probe_ms = 2};
    pthread_t thread[THREADS];
    me = process;
    attach();
    if (larder_set_fallback(handle, divert, board, &o) != 0)
        wrong("set_fallback", 0, 0);
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&thread[i], NULL, write_on, (void *)i);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    if (larder_flush(handle, 10000) != 0)
        wrong("flush", 0, 0);
    uint64_t n = 0;
    larder_breaker(ns, &n);
    lrd_store_relaxed(&board->counted[me], n);
    larder_close(handle);
    exit(0);
}

/* Makes room behind the writers: deletes half of what was said to be in the cache. */
static void make_room(uint32_t done[PROCESSES][THREADS])
{
    for (uint32_t p = 0; p < PROCESSES; p++)
        for (uint32_t t = 0; t < THREADS; t++)
            for (uint32_t end = (uint32_t)lrd_load_acquire(&board->next[p][t]); done[p][t] < end; done[p][t]++) {
                uint64_t id = id_of(p, t, done[p][t]);
                if (done[p][t] % 2 == 0 || lrd_load32_relaxed(&board->said[p][t][done[p][t]]) != IN_CACHE)
                    continue;
                int r;
                do
                    r = larder_delete(ns, &id, sizeof id, NULL);
                while (r == LARDER_BUSY);
                if (r != 0)
                    wrong("delete", id, (uint64_t)r);
                lrd_store32_relaxed(&board->said[p][t][done[p][t]], DELETED);
            }
}

static bool is_there(uint64_t id, uint64_t *value)
{
    size_t size = 0;
    int r = larder_get(ns, &id, sizeof id, value, CERTIFIED_MAX, &size);
    if (r == 0 && certified_version(value, size, id) != 2)
        wrong("read something else", id, size);
    return r == 0;
}

static void compare(void)
{
    uint64_t n[4] = {0}, counted = 0, *value = malloc(CERTIFIED_MAX);
    for (uint32_t p = 0; p < PROCESSES; p++) {
        counted += lrd_load_relaxed(&board->counted[p]);
        for (uint32_t t = 0; t < THREADS; t++)
            for (uint32_t k = 0; k < (uint32_t)lrd_load_relaxed(&board->next[p][t]); k++) {
                uint32_t said = lrd_load32_relaxed(&board->said[p][t][k]), listed = lrd_load32_relaxed(&board->listed[p][t][k]);
                bool there = is_there(id_of(p, t, k), value);
                n[said]++;
                if (listed != (said == IN_LIST) || there != (said == IN_CACHE))
                    wrong("said; in cache:4 and times in list", (uint64_t)k << 8 | said, (uint64_t)there << 4 | listed);
            }
    }
    printf("%" PRIu64 " in the cache, %" PRIu64 " deleted, %" PRIu64 " in the list\n", n[IN_CACHE], n[DELETED], n[IN_LIST]);
    if (n[IN_CACHE] == 0 || n[IN_LIST] == 0 || n[DELETED] == 0)
        wrong("nothing was tried", n[IN_CACHE], n[IN_LIST]);
    if (counted != n[IN_LIST])
        wrong("counted, in the list", counted, n[IN_LIST]);
    free(value);
}

int main(void)
{
    static const char *const options[] = {"--memory", "32M", "--ring", "64K", "--block-size", "64K", "--namespace", "keep,policy=refuse,min=2M", NULL};
    uint32_t done[PROCESSES][THREADS] = {{0}};
    pid_t pid[PROCESSES];
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED)
        return 1;
    daemon_start(&d, NULL, options);
    for (uint32_t p = 0; p < PROCESSES; p++)
        if ((pid[p] = fork()) == 0)
            writers(p);
    me = PROCESSES;
    attach();
    uint64_t run_ms = getenv("LARDER_LONG") != NULL && *getenv("LARDER_LONG") == '1' ? RUN_MS * 20 : RUN_MS, begin = lrd_clock_ns(), end = begin + run_ms * 1000000;
    bool killed = false;
    while (lrd_clock_ns() < end && lrd_load_relaxed(&board->wrong) == 0) {
        pause_us(20000);
        if (lrd_clock_ns() - begin > run_ms * 300000) /* full by now */
            make_room(done);
        if (!killed && lrd_clock_ns() - begin > run_ms * 600000) {
            daemon_kill_worker(&d);
            killed = true;
        }
    }
    lrd_store_relaxed(&board->stop, 1);
    for (uint32_t p = 0; p < PROCESSES; p++) {
        int status = -1;
        if (waitpid(pid[p], &status, 0) != pid[p] || status != 0)
            wrong("a writer ended with", p, (uint64_t)status);
    }
    if (larder_flush(handle, 10000) != 0)
        wrong("flush", 0, 0);
    compare();
    larder_close(handle);
    if (!daemon_check(&d))
        wrong("check", 0, 0);
    daemon_stop(&d);
    return lrd_load_relaxed(&board->wrong) == 0 ? 0 : 1;
}
