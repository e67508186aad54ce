/* Scans beside writers at full speed, while the table is so full that items are moved to make room all the time, a namespace is reset again and again, and the worker is killed:
 * every item that is there throughout is handed out by every scan, whatever else is, and nothing is handed out that is no item of that namespace, or of before its reset.
 *
 * What is there throughout lies in a namespace that refuses eviction, and is overwritten all the time. */
#include <inttypes.h>
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

#define STAYING 3000u
#define PASSING 30000u
#define MANY 50u
#define RUN_MS 2500u

enum role { FLOOD, OVERWRITE, RESET, SCAN, SCAN_TOO, ROLES };

struct board {
    lrd_u64 stop, wrong;
    lrd_u64 sets, resets, scans, entries, twice;
};

static struct board *board;
static struct daemon_fixture d;
static struct larder *handle;
static uint64_t state;

static void wrong(const char *what, uint64_t a, uint64_t b)
{
    if (lrd_fetch_add_relaxed(&board->wrong, 1) < 8)
        printf("%s: %" PRIu64 ", %" PRIu64 "\n", what, a, b);
    fflush(stdout);
}

static bool goes_on(void) { return lrd_load_relaxed(&board->stop) == 0 && lrd_load_relaxed(&board->wrong) == 0; }
static uint64_t dice(uint64_t n) { return (fixture_random(&state) >> 20) % n; }

static struct larder_ns *attach(const char *name)
{
    const struct larder_options o = {.size = sizeof o, .socket = d.socket, .open_timeout_ms = 10000, .busy_timeout_ms = 10000};
    struct larder_ns *ns = NULL;
    int r = larder_open(&handle, &o);
    if (r == 0)
        r = larder_ns_open(handle, name, &ns);
    if (r != 0) {
        printf("open: %s\n", larder_strerror(r));
        exit(1);
    }
    return ns;
}

/* Key and flags of an item name each other. */
struct key {
    uint64_t id, check;
};

static struct key key_of(uint64_t id) { return (struct key){id, id * UINT64_C(0x9e3779b97f4a7c15)}; }

static void put(struct larder_ns *ns, uint64_t id, uint32_t how)
{
    static const unsigned char bytes[40];
    const struct key key = key_of(id);
    const struct larder_set_options o = {.size = sizeof o, .flags = (uint32_t)id, .how = how};
    int r = larder_set(ns, &key, sizeof key, bytes, dice(sizeof bytes), &o, NULL);
    if (r != 0 && r != LARDER_DISCARDED)
        wrong(larder_strerror(r), id, 0);
    lrd_fetch_add_relaxed(&board->sets, 1);
}

static void flood(struct larder_ns *ns)
{
    while (goes_on())
        put(ns, dice(1000000), 0);
}

static void overwrite(struct larder_ns *ns)
{
    while (goes_on())
        put(ns, dice(STAYING), 0);
}

/* Its only writer has reset it; its blocks are still being taken back. */
static void find_nothing(struct larder_ns *ns)
{
    struct larder_entry e = {.size = sizeof e};
    struct larder_cursor cursor = {.size = sizeof cursor};
    size_t got;
    int r = larder_scan(ns, &cursor, NULL, &e, 1, &got);
    if (r != LARDER_END)
        wrong("found after a reset: result, flags", (uint64_t)r, e.flags);
}

static void reset(struct larder_ns *ns)
{
    while (goes_on()) {
        uint64_t n = dice(PASSING);
        for (uint64_t i = 0; i < n && goes_on(); i++)
            put(ns, 5000000 + i, 0);
        int r = larder_ns_reset(ns);
        if (r != 0 && r != LARDER_TIMEOUT)
            wrong(larder_strerror(r), n, 1);
        if (r == 0)
            find_nothing(ns);
        lrd_fetch_add_relaxed(&board->resets, 1);
    }
}

static void look_at(const struct larder_entry *e, unsigned char times[STAYING])
{
    struct key key, want;
    memcpy(&key, e->key, sizeof key);
    want = key_of(key.id);
    if (e->key_size != sizeof key || memcmp(&key, &want, sizeof key) != 0 || key.id >= STAYING || e->flags != key.id || e->value_size >= 40)
        wrong("no item of this namespace: id, flags", key.id, e->flags);
    else if (times[key.id]++ > 0)
        lrd_fetch_add_relaxed(&board->twice, 1);
    lrd_fetch_add_relaxed(&board->entries, 1);
}

static void scan_once(struct larder_ns *ns)
{
    unsigned char times[STAYING] = {0};
    struct key keys[MANY];
    struct larder_entry e[MANY];
    struct larder_cursor cursor = {.size = sizeof cursor};
    const struct larder_scan_options o = {.size = sizeof o, .most_buckets = dice(2) == 0 ? (uint32_t)dice(500) : 0};
    size_t n = 1 + dice(MANY), got;
    int r;
    for (size_t i = 0; i < MANY; i++)
        e[i] = (struct larder_entry){.size = sizeof *e, .key = &keys[i], .key_capacity = sizeof *keys};
    while ((r = larder_scan(ns, &cursor, &o, e, n, &got)) == 0) {
        for (size_t i = 0; i < got; i++)
            look_at(&e[i], times);
        if (dice(200) == 0)
            pause_us((unsigned)dice(3000));
    }
    if (r != LARDER_END)
        wrong(larder_strerror(r), 0, 2);
    for (uint64_t id = 0; id < STAYING; id++)
        if (times[id] == 0)
            wrong("was there all the time, and is not in the scan", id, lrd_load_relaxed(&board->scans));
    lrd_fetch_add_relaxed(&board->scans, 1);
}

static void scan(struct larder_ns *ns)
{
    while (goes_on())
        scan_once(ns);
}

static const struct {
    const char *ns;
    void (*work)(struct larder_ns *);
} roles[ROLES] = {{"default", flood}, {"stays", overwrite}, {"passes", reset}, {"stays", scan}, {"stays", scan}};

static void start(pid_t pid[ROLES])
{
    fflush(NULL);
    for (unsigned i = 0; i < ROLES; i++) {
        pid[i] = fork();
        if (pid[i] < 0)
            abort();
        if (pid[i] == 0) {
            state = 7 + i;
            roles[i].work(attach(roles[i].ns));
            larder_close(handle);
            exit(0);
        }
    }
}

static bool bad;

static void stop(pid_t pid[ROLES])
{
    lrd_store_relaxed(&board->stop, 1);
    for (unsigned i = 0; i < ROLES; i++) {
        int status;
        if (waitpid(pid[i], &status, 0) != pid[i] || status != 0) {
            printf("process %u ended with status %x\n", i, (unsigned)status);
            bad = true;
        }
    }
}

static void fill(void)
{
    struct larder_ns *ns = attach("stays");
    for (uint64_t id = 0; id < STAYING; id++)
        put(ns, id, id == STAYING - 1 ? LARDER_SET_WAIT : 0);
    larder_close(handle);
}

int main(void)
{
    /* items are smaller than the daemon was told: the table is fuller than it should be */
    static const char *const options[] = {"--memory", "16M", "--average-item", "56", "--block-size", "32K", "--ring", "256K", "--max-clients", "16",
                                          "--namespace", "stays,policy=refuse,min=2M", "--namespace", "passes,min=1M", NULL};
    pid_t pid[ROLES];
    unsigned kills = 0;
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED)
        return 1;
    state = 5;
    daemon_start(&d, NULL, options);
    fill();
    start(pid);
    uint64_t end = lrd_clock_ns() + RUN_MS * UINT64_C(1000000) * (fixture_long() ? 40 : 1);
    while (lrd_clock_ns() < end && lrd_load_relaxed(&board->wrong) == 0) {
        pause_us(20000 + (unsigned)dice(150000));
        daemon_kill_worker(&d);
        kills++;
    }
    stop(pid);
    uint64_t moved = fixture_counter(&d.r, LRD_C_relocated), scans = lrd_load_relaxed(&board->scans);
    printf("%u workers killed, %" PRIu64 " sets, %" PRIu64 " items moved, %" PRIu64 " resets, load %.2f; %" PRIu64 " scans, %" PRIu64 " entries, %" PRIu64 " of them again\n", kills,
           lrd_load_relaxed(&board->sets), moved, lrd_load_relaxed(&board->resets), fixture_load(&d.r), scans, lrd_load_relaxed(&board->entries), lrd_load_relaxed(&board->twice));
    bad |= !daemon_check(&d) || lrd_load_relaxed(&board->wrong) > 0 || scans < 20 || moved < 1000 || lrd_load_relaxed(&board->resets) < 3;
    daemon_stop(&d);
    return bad;
}
