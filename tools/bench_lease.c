/* Leases: what asking for one costs, and how long after its holder's kill -9 somebody who is waiting has it.
 *
 * A holder is a process that takes the lease, waits until the other one sleeps on it, notes the time and kills itself. What is measured is what a waiter sees: the kernel's end of the process, the daemon's notice of it, the lane
 * drained, the waiter rung, its request answered. */
#include "tools/bench.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shm/racy.h"

#define TRIPS 20000u
#define DEATHS_MOST 1000u
#define LEASE_MS 600000u /* no holder lives so long */
#define WAIT_MS 10000u
#define ASLEEP_US 4000u  /* until a waiter sleeps */
#define TARGET_MS 5.0

struct shared {
    lrd_u64 held;      /* the holder has the lease of this key, + 1 */
    lrd_u64 killed_ns; /* when it killed itself */
};

static int ask(struct larder_ns *ns, uint64_t id, uint64_t *token)
{
    const struct larder_lease_options o = {.size = sizeof o, .lease_ms = LEASE_MS, .wait_ms = WAIT_MS};
    unsigned char key[BENCH_KEY] = "lease";
    struct larder_item item = {.size = sizeof item};
    memcpy(key + 8, &id, sizeof id);
    return larder_get_or_lease(ns, key, sizeof key, &item, &o, token);
}

static int give_back(struct larder_ns *ns, uint64_t id, uint64_t token)
{
    unsigned char key[BENCH_KEY] = "lease";
    memcpy(key + 8, &id, sizeof id);
    return larder_lease_abort(ns, key, sizeof key, token);
}

static void nap_us(unsigned us)
{
    const struct timespec t = {.tv_nsec = (long)us * 1000};
    nanosleep(&t, NULL);
}

static void die_with_it(struct larder_ns *ns, struct shared *shared, uint64_t id)
{
    uint64_t token;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (ask(ns, id, &token) != LARDER_LEASE)
        _exit(1);
    lrd_store_release(&shared->held, id + 1);
    nap_us(ASLEEP_US);
    lrd_store_release(&shared->killed_ns, lrd_clock_ns());
    kill(getpid(), SIGKILL);
    _exit(1);
}

/* From the holder's last word until we have its lease; 0: something went wrong. */
static uint64_t one_death(struct larder_ns *ns, struct shared *shared, uint64_t id)
{
    uint64_t token, at_ns, end = lrd_clock_ns() + WAIT_MS * UINT64_C(1000000);
    pid_t pid = fork();
    if (pid == 0)
        die_with_it(ns, shared, id);
    if (pid < 0)
        return 0;
    while (lrd_load_acquire(&shared->held) != id + 1 && lrd_clock_ns() < end)
        nap_us(100);
    int r = ask(ns, id, &token);
    at_ns = lrd_clock_ns();
    waitpid(pid, NULL, 0);
    return r == LARDER_LEASE && give_back(ns, id, token) == 0 ? at_ns - lrd_load_acquire(&shared->killed_ns) : 0;
}

/* ns a lease that is asked for and given back. */
static double trips(struct larder_ns *ns)
{
    uint64_t token, begin = lrd_clock_ns();
    for (uint64_t i = 0; i < TRIPS; i++)
        if (ask(ns, i % 1000, &token) != LARDER_LEASE || give_back(ns, i % 1000, token) != 0)
            return (double)NAN;
    return (double)(lrd_clock_ns() - begin) / TRIPS;
}

static int by_value(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return (a > b) - (a < b);
}

static enum bench_status measure(struct bench *b, struct bench_target *t, struct shared *shared, uint64_t *took)
{
    double trip_ns = trips(t->ns);
    uint64_t end = lrd_clock_ns() + (uint64_t)(b->o.seconds * 1e9);
    unsigned n = 0;
    for (; n < DEATHS_MOST && (n < 10 || lrd_clock_ns() < end); n++) {
        took[n] = one_death(t->ns, shared, 1000 + n);
        if (took[n] == 0)
            return bench_error(BENCH_FAILURE, "a waiter did not get the lease of a holder that was killed");
    }
    qsort(took, n, sizeof *took, by_value);
    if (isnan(trip_ns))
        return bench_error(BENCH_FAILURE, "a lease that nobody has was not granted");
    bench_figure(b->report, "lease: asked for and given back", trip_ns / 1e3, "us");
    bench_figure(b->report, "lease: holders killed", n, "");
    bench_figure(b->report, "lease: hand-over, p50", (double)took[n / 2] / 1e6, "ms");
    bench_figure(b->report, "lease: hand-over, p90", (double)took[n * 9 / 10] / 1e6, "ms");
    bench_figure_most(b->report, "lease: hand-over, max", (double)took[n - 1] / 1e6, "ms", TARGET_MS);
    bench_report_finish(b->report);
    return BENCH_OK;
}

enum bench_status bench_lease(struct bench *b)
{
    struct bench_target t;
    enum bench_status status = bench_target_open(&t, b);
    if (status != BENCH_OK)
        return status;
    struct shared *shared = bench_share(sizeof *shared);
    uint64_t *took = bench_alloc(DEATHS_MOST, sizeof *took);
    status = measure(b, &t, shared, took);
    free(took);
    bench_unshare(shared, sizeof *shared);
    bench_target_close(&t);
    return status;
}
