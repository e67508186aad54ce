/* The worker is killed under load, at each testpoint and at random moments; clients write on. Afterwards every acknowledged write is there, or a later one of its key;
 * each was applied once: the segment's counter of sets is the number of acknowledged sets; larderctl check finds nothing.
 *
 * A key has one writer, which notes on a board what was acknowledged. Less than half of the arena is alive at any time, so blocks are cleaned, and none may be missed. */
#include <inttypes.h>
#include <signal.h>
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

#define CLIENTS 2u
#define KEYS 3000u /* few beside what the arena holds, and spread over all of it: a block that is reclaimed has some of them, which are copied forward and never evicted */
#define HOT 24u

struct client {
    lrd_u64 ready;
    lrd_u64 sets;          /* acknowledged */
    lrd_u64 reads;
    lrd_u64 wrong;
    lrd_u64 acked[KEYS];   /* version of the last write of this key: even, a set; odd, a delete */
};

struct board {
    lrd_u64 stop;
    struct client client[CLIENTS];
};

static struct board *board;

static uint64_t key_of(uint32_t client, uint64_t key) { return client * UINT64_C(1000000) + key; }

static void wrong(uint32_t client, const char *what, uint64_t key, uint64_t a, uint64_t b)
{
    if (lrd_fetch_add_relaxed(&board->client[client].wrong, 1) < 5)
        printf("client %u: %s: key %" PRIu64 ", %" PRIu64 ", %" PRIu64 "\n", client, what, key, a, b);
    fflush(stdout);
}

/* ---- a client ---- */

static struct larder *handle;
static struct larder_ns *ns;

static void attach(const struct daemon_fixture *d)
{
    struct larder_options o = {.size = sizeof o, .socket = d->socket, .open_timeout_ms = 10000, .busy_timeout_ms = 10000};
    int r = larder_open(&handle, &o);
    if (r != 0) {
        printf("open: %s\n", larder_strerror(r));
        exit(1);
    }
    ns = larder_default(handle);
}

/* 0: a miss; UINT64_MAX: not a value of this key. */
static uint64_t read_version(uint64_t key)
{
    static uint64_t value[CERTIFIED_MAX / 8];
    size_t size = 0;
    int r = larder_get(ns, &key, sizeof key, value, sizeof value, &size);
    if (r == LARDER_MISS)
        return 0;
    return r == 0 ? certified_version(value, size, key) : UINT64_MAX;
}

static void write_one(uint32_t me, uint64_t key, uint64_t dice)
{
    static uint64_t value[CERTIFIED_MAX / 8];
    struct client *c = &board->client[me];
    uint64_t version = (lrd_load_relaxed(&c->acked[key]) | 1) + 1, id = key_of(me, key);
    int r;
    if (dice % 16 == 0) {
        version++;
        r = larder_delete(ns, &id, sizeof id, NULL);
    } else {
        r = larder_set(ns, &id, sizeof id, value, certified_make(value, id, version), NULL, NULL);
        if (r == 0)
            lrd_add_own(&c->sets, 1);
    }
    if (r != 0)
        wrong(me, larder_strerror(r), key, version, (uint64_t)r);
    else
        lrd_store_release(&c->acked[key], version);
}

/* What was acknowledged to us is what we read, whether it was applied or not. */
static void read_own(uint32_t me, uint64_t key)
{
    uint64_t acked = lrd_load_relaxed(&board->client[me].acked[key]), version = read_version(key_of(me, key));
    if (version != (acked & 1 ? 0 : acked))
        wrong(me, "own write: acknowledged, read", key, acked, version);
}

/* Of the others: never a value that is none, never an older one than we have seen. */
static void read_others(uint32_t me, uint64_t key)
{
    static uint64_t seen[CLIENTS][KEYS];
    uint32_t other = (me + 1) % CLIENTS;
    uint64_t version = read_version(key_of(other, key));
    if (version == UINT64_MAX || (version != 0 && version < seen[other][key]))
        wrong(me, "another's key: had seen, read", key, seen[other][key], version);
    if (version != 0)
        seen[other][key] = version;
}

static void be_a_client(const struct daemon_fixture *d, uint32_t me)
{
    uint64_t state = lrd_clock_ns() | 1;
    attach(d);
    lrd_store_release(&board->client[me].ready, 1);
    while (lrd_load_relaxed(&board->stop) == 0) {
        uint64_t x = fixture_random(&state);
        uint32_t keys = x >> 60 & 1 ? HOT : KEYS;
        write_one(me, x % keys, x >> 32);
        read_own(me, (x >> 8) % keys);
        read_others(me, (x >> 16) % keys);
        lrd_add_own(&board->client[me].reads, 2);
    }
    int r = larder_flush(handle, 10000);
    if (r != 0)
        wrong(me, larder_strerror(r), 0, 0, 0);
    larder_close(handle);
    _exit(0);
}

/* ---- a daemon's life ---- */

static uint64_t deaths, sets, reads, copied;
static bool bad;

static void verify(const struct daemon_fixture *d)
{
    uint64_t acked = 0;
    attach(d);
    for (uint32_t c = 0; c < CLIENTS; c++) {
        acked += lrd_load_relaxed(&board->client[c].sets);
        reads += lrd_load_relaxed(&board->client[c].reads);
        for (uint64_t key = 0; key < KEYS; key++) {
            uint64_t version = read_version(key_of(c, key)), want = lrd_load_acquire(&board->client[c].acked[key]);
            if (version != (want & 1 ? 0 : want))
                wrong(c, "at the end: acknowledged, read", key, want, version);
        }
        bad |= lrd_load_relaxed(&board->client[c].wrong) > 0;
    }
    larder_close(handle);
    if (fixture_counter(&d->r, LRD_C_sets) != acked) {
        printf("%" PRIu64 " sets were acknowledged, %" PRIu64 " applied\n", acked, fixture_counter(&d->r, LRD_C_sets));
        bad = true;
    }
    if (fixture_counter(&d->r, LRD_C_discarded) != 0) {
        printf("%" PRIu64 " records were refused\n", fixture_counter(&d->r, LRD_C_discarded));
        bad = true;
    }
    sets += acked;
    copied += fixture_counter(&d->r, LRD_C_copied);
    if (fixture_counter(&d->r, LRD_C_evicted) + fixture_counter(&d->r, LRD_C_no_room) != 0) {
        printf("%" PRIu64 " items were evicted, %" PRIu64 " had no room\n", fixture_counter(&d->r, LRD_C_evicted), fixture_counter(&d->r, LRD_C_no_room));
        bad = true;
    }
    if (!daemon_check(d) || fixture_recount(&d->r) != 0)
        bad = true;
}

static void clients_start(const struct daemon_fixture *d, pid_t pid[CLIENTS])
{
    memset(board, 0, sizeof *board);
    fflush(NULL);
    for (uint32_t c = 0; c < CLIENTS; c++) {
        pid[c] = fork();
        if (pid[c] == 0)
            be_a_client(d, c);
        if (pid[c] < 0)
            abort();
    }
}

static void clients_stop(pid_t pid[CLIENTS])
{
    lrd_store_relaxed(&board->stop, 1);
    for (uint32_t c = 0; c < CLIENTS; c++) {
        int status;
        if (waitpid(pid[c], &status, 0) != pid[c] || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
            printf("client %u ended with status %x\n", c, (unsigned)status);
            bad = true;
        }
    }
}

/* How long a client goes on after a death: some hundred writes. */
static void let_them_work(unsigned n)
{
    uint64_t before = lrd_load_relaxed(&board->client[0].sets), end = lrd_clock_ns() + UINT64_C(10000000000);
    while (lrd_load_relaxed(&board->client[0].sets) < before + n && lrd_clock_ns() < end)
        pause_us(200);
}

/* The worker dies at the testpoint, if there is one, then at random moments. */
static void one_life(const char *testpoint, unsigned random_deaths, uint64_t *state)
{
    static const char *const options[] = {"--memory", "16M", "--average-item", "500", "--ring", "64K", "--max-clients", "8", NULL};
    struct daemon_fixture d;
    pid_t pid[CLIENTS];
    daemon_start(&d, testpoint, options);
    clients_start(&d, pid);
    let_them_work(50);
    if (testpoint != NULL) {
        uint64_t end = lrd_clock_ns() + UINT64_C(20000000000);
        while (daemon_workers(&d) < 2 && lrd_clock_ns() < end && !bad)
            let_them_work(10);
        if (daemon_workers(&d) < 2) {
            printf("nobody died at %s\n", testpoint);
            bad = true;
        }
        deaths++;
    }
    for (unsigned i = 0; i < random_deaths; i++) {
        pause_us((unsigned)(fixture_random(state) % 6000));
        daemon_kill_worker(&d);
        let_them_work(5);
        deaths++;
    }
    let_them_work(50);
    clients_stop(pid);
    verify(&d);
    daemon_stop(&d);
}

int main(void)
{
    static const struct {
        const char *name;
        unsigned most; /* passes before it dies, at most */
    } points[] = {
        {"journal_before_valid", 500}, {"journal_after_valid", 500}, {"journal_step", 40},     {"journal_step", 8000},
        {"arena_opened", 30},          {"writer_copied", 300},       {"writer_applied", 2000}, {"writer_large_step", 10},
        {"evict_copied", 2000},        {"evict_free", 20},
    };
    const unsigned n_points = sizeof points / sizeof *points;
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED)
        return 1;
    uint64_t state = 20;
    unsigned rounds = fixture_long() ? 20 : 1;
    for (unsigned i = 0; i < rounds && !bad; i++) {
        for (unsigned k = 0; k < 5 && !bad; k++)
            one_life(NULL, 40, &state);
#ifdef LRD_TESTPOINTS
        for (unsigned k = 0; k < 13 * n_points && !bad; k++) {
            char testpoint[64];
            snprintf(testpoint, sizeof testpoint, "%s:%" PRIu64, points[k % n_points].name, 1 + fixture_random(&state) % points[k % n_points].most);
            one_life(testpoint, 1, &state);
            if (bad)
                printf("after %s\n", testpoint);
        }
#else
        (void)n_points;
        (void)points;
#endif
    }
    printf("%" PRIu64 " deaths, %" PRIu64 " sets acknowledged and applied once, %" PRIu64 " reads beside them, %" PRIu64 " items copied forward\n", deaths, sets, reads, copied);
    return bad || (deaths > 100 && copied == 0);
}
