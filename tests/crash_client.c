/* Clients are killed under load, at random moments, between claim and commit, and right after the commit. The others do not notice; every write that was acknowledged to
 * the dead one is there; its lane is drained and used again.
 *
 * The victim has two threads with keys of their own and notes on a board what it attempts and what was acknowledged. */
#include <inttypes.h>
#include <pthread.h>
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

#define OTHERS 2u
#define THREADS 2u
#define KEYS 16u
#define MAX_CLIENTS 6u

struct writer {
    lrd_u64 acked[KEYS];     /* version of the last set that returned 0 */
    lrd_u64 attempted[KEYS]; /* of the last that was begun */
    lrd_u64 sets;            /* acknowledged */
    lrd_u64 begun;
};

struct board {
    lrd_u64 stop;
    lrd_u64 wrong;
    struct writer other[OTHERS];
    struct writer victim[THREADS]; /* the same keys go on from victim to victim */
};

static struct board *board;
static struct daemon_fixture d;

static void wrong(const char *what, uint64_t key, uint64_t a, uint64_t b)
{
    if (lrd_fetch_add_relaxed(&board->wrong, 1) < 10)
        printf("%s: key %" PRIu64 ", %" PRIu64 ", %" PRIu64 "\n", what, key, a, b);
    fflush(stdout);
}

static struct larder *attach(void)
{
    struct larder *handle;
    struct larder_options o = {.size = sizeof o, .socket = d.socket, .open_timeout_ms = 10000, .busy_timeout_ms = 10000};
    int r = larder_open(&handle, &o);
    if (r != 0) {
        wrong(larder_strerror(r), 0, (uint64_t)r, 0);
        exit(1);
    }
    return handle;
}

static uint64_t read_version(struct larder_ns *ns, uint64_t key)
{
    uint64_t *value = malloc(CERTIFIED_MAX);
    size_t size = 0;
    int r = larder_get(ns, &key, sizeof key, value, CERTIFIED_MAX, &size);
    uint64_t version = r == LARDER_MISS ? 0 : r == 0 ? certified_version(value, size, key) : UINT64_MAX;
    free(value);
    return version;
}

/* Writes and reads its keys until told to stop, or killed. */
static void write_on(struct larder *handle, struct writer *w, uint64_t first_key)
{
    struct larder_ns *ns = larder_default(handle);
    uint64_t *value = malloc(CERTIFIED_MAX), state = lrd_clock_ns() ^ first_key << 32;
    while (lrd_load_relaxed(&board->stop) == 0) {
        uint64_t k = fixture_random(&state) % KEYS, key = first_key + k, version = lrd_load_relaxed(&w->attempted[k]) + 1;
        lrd_store_release(&w->attempted[k], version);
        lrd_store_release(&w->begun, lrd_load_relaxed(&w->begun) + 1);
        int r = larder_set(ns, &key, sizeof key, value, certified_make(value, key, version), NULL, NULL);
        if (r != 0) {
            wrong(larder_strerror(r), key, version, (uint64_t)r);
            break;
        }
        lrd_store_release(&w->acked[k], version);
        lrd_store_release(&w->sets, lrd_load_relaxed(&w->sets) + 1);
        uint64_t got = read_version(ns, key);
        if (got != version)
            wrong("own write: written, read", key, version, got);
    }
    free(value);
}

/* ---- the others ---- */

static void be_another(uint32_t me)
{
    struct larder *handle = attach();
    write_on(handle, &board->other[me], 1000 * (me + 1));
    if (larder_flush(handle, 10000) != 0)
        wrong("flush", me, 0, 0);
    larder_close(handle);
    _exit(0);
}

/* ---- the victim ---- */

static struct larder *victim_handle;

static void *victim_thread(void *arg)
{
    uintptr_t i = (uintptr_t)arg;
    write_on(victim_handle, &board->victim[i], 100 * (i + 1));
    return NULL;
}

static void be_the_victim(const char *testpoint)
{
    pthread_t thread[THREADS];
    victim_handle = attach();
    if (testpoint != NULL)
        setenv("LARDER_TESTPOINT", testpoint, 1);
    for (uintptr_t i = 0; i < THREADS; i++)
        if (pthread_create(&thread[i], NULL, victim_thread, (void *)i) != 0)
            abort();
    for (;;)
        pause();
}

/* ---- what must be there when it is dead ---- */

static unsigned lanes_in_use(void)
{
    unsigned n = 0;
    for (uint32_t i = 0; i < d.r.geometry.n_lanes; i++)
        n += lrd_load32_acquire(&d.r.lanes[i].state) != LRD_LANE_FREE;
    return n;
}

static void wait_for_lanes(unsigned n)
{
    uint64_t end = lrd_clock_ns() + UINT64_C(20000000000);
    while (lanes_in_use() != n && lrd_clock_ns() < end)
        pause_us(100);
    if (lanes_in_use() != n)
        wrong("lanes in use, should be", 0, lanes_in_use(), n);
}

static uint64_t committed_unacknowledged;

static void verify(struct larder_ns *ns)
{
    for (uint64_t i = 0; i < THREADS; i++) {
        struct writer *w = &board->victim[i];
        for (uint64_t k = 0; k < KEYS; k++) {
            uint64_t key = 100 * (i + 1) + k, acked = lrd_load_acquire(&w->acked[k]), attempted = lrd_load_acquire(&w->attempted[k]);
            uint64_t got = read_version(ns, key);
            if (got < acked || got > attempted)
                wrong("of the dead: acknowledged, read", key, acked, got);
            committed_unacknowledged += got > acked;
            /* The next victim goes on from here; what was attempted in vain is never seen. */
            lrd_store_relaxed(&w->acked[k], got);
        }
    }
}

static void one_death(struct larder_ns *ns, const char *testpoint, uint64_t life_us)
{
    uint64_t begun = 0, others = lrd_load_relaxed(&board->other[0].sets);
    for (unsigned i = 0; i < THREADS; i++)
        begun += lrd_load_relaxed(&board->victim[i].begun);
    pid_t pid = fork();
    if (pid < 0)
        abort();
    if (pid == 0)
        be_the_victim(testpoint);
    if (testpoint == NULL) {
        uint64_t end = lrd_clock_ns() + UINT64_C(20000000000), now = begun;
        while (now == begun && lrd_clock_ns() < end) {
            pause_us(100);
            now = lrd_load_relaxed(&board->victim[0].begun) + lrd_load_relaxed(&board->victim[1].begun);
        }
        pause_us((unsigned)life_us);
        kill(pid, SIGKILL);
    }
    int status;
    if (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        wrong("the victim ended by itself", 0, (uint64_t)(unsigned)status, 0);
    wait_for_lanes(OTHERS + 1);
    verify(ns);
    uint64_t end = lrd_clock_ns() + UINT64_C(20000000000);
    while (lrd_load_relaxed(&board->other[0].sets) == others && lrd_clock_ns() < end)
        pause_us(100);
    if (lrd_load_relaxed(&board->other[0].sets) == others)
        wrong("another client stands still", 0, 0, 0);
}

int main(void)
{
    static const char *const options[] = {"--memory", "24M", "--average-item", "500", "--ring", "64K", "--max-clients", "6", NULL};
    static const char *const points[] = {NULL, "ring_after_claim", "ring_after_commit"};
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED)
        return 1;
    daemon_start(&d, NULL, options);
    pid_t other[OTHERS];
    for (uint32_t i = 0; i < OTHERS; i++)
        if ((other[i] = fork()) == 0)
            be_another(i);
    struct larder *handle = attach();
    uint64_t state = 30;
    unsigned deaths = fixture_long() ? 4000 : 210, n_points = 1, i;
#ifdef LRD_TESTPOINTS
    n_points = 3;
#endif
    wait_for_lanes(OTHERS + 1);
    for (i = 0; i < deaths && lrd_load_relaxed(&board->wrong) == 0; i++) {
        const char *point = points[i % n_points];
        char testpoint[64];
        if (point != NULL)
            snprintf(testpoint, sizeof testpoint, "%s:%" PRIu64, point, 1 + fixture_random(&state) % 2000);
        one_death(larder_default(handle), point == NULL ? NULL : testpoint, fixture_random(&state) % 20000);
    }
    lrd_store_relaxed(&board->stop, 1);
    uint64_t least = 0, most = 0;
    for (uint32_t k = 0; k < OTHERS; k++) {
        int status;
        if (waitpid(other[k], &status, 0) != other[k] || status != 0)
            wrong("another client ended badly", k, (uint64_t)(unsigned)status, 0);
        least += lrd_load_relaxed(&board->other[k].sets);
        for (uint64_t key = 0; key < KEYS; key++) {
            uint64_t got = read_version(larder_default(handle), 1000 * (k + 1) + key), acked = lrd_load_relaxed(&board->other[k].acked[key]);
            if (got != acked)
                wrong("at the end: acknowledged, read", key, acked, got);
        }
    }
    larder_close(handle);
    wait_for_lanes(0);
    most = least;
    for (uint32_t k = 0; k < THREADS; k++) {
        least += lrd_load_relaxed(&board->victim[k].sets);
        most += lrd_load_relaxed(&board->victim[k].begun);
    }
    uint64_t sets = fixture_counter(&d.r, LRD_C_sets);
    if (sets < least || sets > most)
        wrong("sets applied, acknowledged", 0, sets, least);
    if (fixture_counter(&d.r, LRD_C_discarded) != 0)
        wrong("records refused", 0, fixture_counter(&d.r, LRD_C_discarded), 0);
    if (daemon_workers(&d) != 1)
        wrong("the worker died", 0, daemon_workers(&d), 1);
    printf("%u deaths, %" PRIu64 " sets acknowledged, %" PRIu64 " applied, %" PRIu64 " writes without an answer took place, %" PRIu64 " cells skipped\n", i, least, sets,
           committed_unacknowledged, fixture_counter(&d.r, LRD_C_skipped_cells));
    bool bad = !daemon_check(&d);
    bad |= fixture_recount(&d.r) != 0;
    daemon_stop(&d);
    return bad || lrd_load_relaxed(&board->wrong) > 0;
}
