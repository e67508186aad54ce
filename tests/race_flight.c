/* Single flight: processes that miss the same keys at once load each of them once, also while the worker is killed again and again. Then holders of leases are killed: what they had committed is applied first, the next
 * waiter gets the lease at once, also when the worker is killed with them. */
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
#include "tests/daemon_fixture.h"
#include "tests/segment_fixture.h"

#define PROCESSES 8u
#define KEYS 1000u
#define DEATHS 24u /* in turn: plain, with a worker that is killed too, with a value committed before */
#define HOLD_MS 600000u
#define PATIENCE_MS 20000u

struct board {
    lrd_u64 wrong;
    lrd_u64 go, ready;
    lrd_u64 loads[KEYS], hits;
    lrd_u64 held, committed; /* the holder's */
};

static struct board *board;
static struct daemon_fixture d;
static struct larder *handle;
static struct larder_ns *ns;
static bool bad;

static void wrong(const char *what, uint64_t x, uint64_t y)
{
    if (lrd_fetch_add_relaxed(&board->wrong, 1) < 8)
        printf("%s: %" PRIu64 ", %" PRIu64 "\n", what, x, y);
    fflush(stdout);
}

static void attach(void)
{
    const struct larder_options o = {.size = sizeof o, .socket = d.socket, .open_timeout_ms = 10000, .busy_timeout_ms = 10000};
    int r = larder_open(&handle, &o);
    if (r != 0) {
        printf("open: %s\n", larder_strerror(r));
        exit(1);
    }
    ns = larder_default(handle);
}

static pid_t start(void (*work)(uint64_t), uint64_t what)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        abort();
    if (pid == 0) {
        attach();
        work(what);
        larder_close(handle);
        exit(0);
    }
    return pid;
}

static void stop(pid_t pid)
{
    int status;
    if (waitpid(pid, &status, 0) != pid || status != 0) {
        printf("a process ended with status %x\n", (unsigned)status);
        bad = true;
    }
}

static void wait_until(const lrd_u64 *word, uint64_t value)
{
    uint64_t end = lrd_clock_ns() + PATIENCE_MS * UINT64_C(1000000);
    while (lrd_load_acquire(word) != value && lrd_clock_ns() < end)
        pause_us(200);
    if (lrd_load_acquire(word) != value)
        wrong("waited in vain for", value, lrd_load_relaxed(word));
}

/* ---- one flight ---- */

static int load(void *context, const void *key, size_t key_size, struct larder_loaded *loaded)
{
    uint64_t id = *(const uint64_t *)key;
    (void)key_size;
    lrd_fetch_add_relaxed(&board->loads[id], 1);
    if (id % 50 == 0)
        pause_us(2000);
    *(uint64_t *)context = id + 7;
    loaded->value = context;
    loaded->value_size = sizeof id;
    return 0;
}

/* All of them in the same order, so that each key is missed by several at once. */
static void fetch_all(uint64_t me)
{
    const struct larder_lease_options o = {.size = sizeof o, .lease_ms = HOLD_MS, .wait_ms = PATIENCE_MS};
    lrd_fetch_add_relaxed(&board->ready, 1);
    wait_until(&board->go, 1);
    for (uint64_t id = 0; id < KEYS; id++) {
        uint64_t value = 0, loaded;
        struct larder_item item = {.size = sizeof item, .buffer = &value, .capacity = sizeof value};
        int r = larder_fetch(ns, &id, sizeof id, load, &loaded, &item, &o);
        if (r != 0 || value != id + 7)
            wrong(larder_strerror(r), id, me);
    }
}

static void one_flight(void)
{
    pid_t pid[PROCESSES];
    unsigned kills = 0;
    uint64_t again = 0, waits = 0;
    for (unsigned i = 0; i < PROCESSES; i++)
        pid[i] = start(fetch_all, i);
    wait_until(&board->ready, PROCESSES);
    uint64_t began = lrd_clock_ns();
    lrd_store_release(&board->go, 1);
    for (; kills < 4; kills++) {
        pause_us(15000);
        daemon_kill_worker(&d);
    }
    for (unsigned i = 0; i < PROCESSES; i++)
        stop(pid[i]);
    for (unsigned i = 0; i < KEYS; i++)
        again += lrd_load_relaxed(&board->loads[i]) != 1;
    waits = fixture_counter(&d.r, LRD_C_leases);
    printf("%u keys by %u processes, %u workers killed: %" PRIu64 " loaded not once, %" PRIu64 " leases, %" PRIu64 " ms\n", KEYS, PROCESSES, kills, again, waits,
           (lrd_clock_ns() - began) / 1000000u);
    bad |= again != 0 || waits != KEYS;
}

/* ---- a holder's death ---- */

static void hold(uint64_t id)
{
    const struct larder_lease_options o = {.size = sizeof o, .lease_ms = HOLD_MS};
    struct larder_item item = {.size = sizeof item};
    uint64_t token;
    int r = larder_get_or_lease(ns, &id, sizeof id, &item, &o, &token);
    if (r != LARDER_LEASE)
        wrong(larder_strerror(r), id, 1);
    lrd_store_release(&board->held, id);
    wait_until(&board->go, id);
    const struct larder_set_options under = {.size = sizeof under, .token = token, .how = LARDER_SET_ASYNC};
    if (id % 3 == 2 && larder_set(ns, &id, sizeof id, &id, sizeof id, &under, NULL) != 0)
        wrong("set", id, 2);
    lrd_store_release(&board->committed, id);
    for (;;)
        pause_us(1000000);
}

/* Waits for what a holder leaves; how long it took from his death, in us. */
static uint64_t survive(uint64_t id)
{
    const struct larder_lease_options o = {.size = sizeof o, .lease_ms = HOLD_MS, .wait_ms = PATIENCE_MS};
    uint64_t token, value = 0;
    struct larder_item item = {.size = sizeof item, .buffer = &value, .capacity = sizeof value};
    pid_t worker = (pid_t)lrd_load_relaxed(&d.r.header->worker_pid), pid = start(hold, id);
    wait_until(&board->held, id);
    bool commits = id % 3 == 2;
    if (commits)
        kill(worker, SIGSTOP); /* what is committed now is only applied when its client is dead */
    lrd_store_release(&board->go, id);
    wait_until(&board->committed, id);
    uint64_t began = lrd_clock_ns();
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    if (commits)
        kill(worker, SIGCONT);
    else if (id % 3 == 1)
        daemon_kill_worker(&d);
    int r = larder_get_or_lease(ns, &id, sizeof id, &item, &o, &token);
    if (r != (commits ? 0 : LARDER_LEASE) || (commits && value != id))
        wrong(larder_strerror(r), id, value);
    return (lrd_clock_ns() - began) / 1000;
}

static void deaths(void)
{
    uint64_t worst = 0, sum = 0;
    attach();
    for (uint64_t id = 3000; id < 3000 + DEATHS; id++) {
        uint64_t us = survive(id);
        sum += us;
        worst = us > worst ? us : worst;
    }
    larder_close(handle);
    printf("%u holders killed: %" PRIu64 " us until the next has the lease or the value, at most %" PRIu64 "\n", DEATHS, sum / DEATHS, worst);
    bad |= worst > 2000000; /* larder-bench measures; a waiter that were told nothing would wait for ten minutes */
}

int main(void)
{
    static const char *const options[] = {"--memory", "32M", "--ring", "256K", "--max-clients", "16", NULL};
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED)
        return 1;
    daemon_start(&d, NULL, options);
    one_flight();
    deaths();
    bad |= !daemon_check(&d) || lrd_load_relaxed(&board->wrong) > 0;
    daemon_stop(&d);
    return bad;
}
