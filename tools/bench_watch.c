/* What the daemon says of itself before and after: counters, pauses, memory. And two processes that are no part of what is measured: one whose lanes are idle, one that
 * only looks at the clock. */
#include "tools/bench.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/racy.h"

#define NAP_US 1000u
#define US20_NS 20000u
#define US100_NS 100000u

/* ---- memory of a process ---- */

static bool add_rollup(uint64_t pid, uint64_t *rss, uint64_t *own)
{
    char path[64], line[256];
    unsigned long long kib;
    bool found = false;
    snprintf(path, sizeof path, "/proc/%llu/smaps_rollup", (unsigned long long)pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "Rss: %llu kB", &kib) == 1) {
            *rss += kib * 1024;
            found = true;
        } else if (sscanf(line, "Anonymous: %llu kB", &kib) == 1)
            *own += kib * 1024;
    }
    fclose(f);
    return found;
}

static void note_memory(const struct lrd_reader *r, struct bench_sight *s)
{
    s->rss_bytes = s->private_bytes = 0;
    if (!add_rollup(lrd_load_relaxed(&r->header->worker_pid), &s->rss_bytes, &s->private_bytes) ||
        !add_rollup(lrd_load_relaxed(&r->header->keeper_pid), &s->rss_bytes, &s->private_bytes))
        s->rss_bytes = s->private_bytes = 0;
}

/* ---- a look ---- */

enum bench_status bench_look(const struct bench *b, struct bench_sight *s)
{
    struct bench_target t;
    enum bench_status status = bench_target_peek(&t, b);
    if (status != BENCH_OK)
        return status;
    memset(s, 0, sizeof *s);
    s->at_ns = lrd_clock_ns();
    for (unsigned i = 0; i < LRD_N_COUNTERS; i++)
        s->counter[i] = bench_counter(&t, (enum lrd_counter_id)i);
    for (uint32_t i = 0; i < t.r.n_blocks; i++) {
        uint64_t live = lrd_load_relaxed(&t.r.descriptors[i].live); /* a moment's */
        s->live_items += lrd_live_items(live);
        s->live_bytes += lrd_live_bytes(live);
    }
    lrd_racy_copy(&s->pauses, t.r.pauses, sizeof s->pauses);
    note_memory(&t.r, s);
    bench_target_close(&t);
    return BENCH_OK;
}

void bench_histogram_since(struct lrd_histogram *h, const struct lrd_histogram *before, const struct lrd_histogram *after)
{
    lrd_histogram_reset(h);
    for (uint32_t i = 0; i < LRD_HISTOGRAM_COUNTERS; i++) {
        h->n[i] = after->n[i] > before->n[i] ? after->n[i] - before->n[i] : 0;
        if (h->n[i] > 0)
            h->max = lrd_histogram_upper(i);
    }
    if (h->max > after->max || after->max > before->max)
        h->max = after->max;
}

uint64_t bench_histogram_above(const struct lrd_histogram *h, uint64_t value)
{
    uint64_t n = 0;
    for (uint32_t i = lrd_histogram_idx(value) + 1; i < LRD_HISTOGRAM_COUNTERS; i++)
        n += h->n[i];
    return n;
}

void bench_expired_bytes(const struct lrd_reader *r, uint64_t now_ms, uint64_t *full, uint64_t *open_too)
{
    *full = *open_too = 0;
    for (uint32_t i = 0; i < r->n_blocks; i++) {
        const struct lrd_descriptor *d = &r->descriptors[i];
        uint64_t state = lrd_load_acquire(&d->state);
        if (state == LRD_BLOCK_FREE || lrd_load_acquire(&d->latest_expiry) > now_ms)
            continue;
        uint64_t bytes = lrd_live_bytes(lrd_load_acquire(&d->live));
        *open_too += bytes;
        *full += state == LRD_BLOCK_FULL ? bytes : 0;
    }
}

/* ---- figures ---- */

void bench_say_counters(const struct bench *b, const char *mode, const struct bench_sight *before, const struct bench_sight *after)
{
    static const struct {
        enum lrd_counter_id id;
        const char *name;
    } shown[] = {
        {LRD_C_evicted, "items evicted"}, {LRD_C_evicted_unread, "items evicted unread"}, {LRD_C_expired, "items expired with their block"},
        {LRD_C_reset_items, "items that went with a reset"}, {LRD_C_no_room, "items replaced for want of a slot"}, {LRD_C_cleanings, "blocks cleaned"},
        {LRD_C_blocks_freed, "blocks freed"}, {LRD_C_ghost_hits, "sets of keys evicted not long ago"}, {LRD_C_marks, "marks harvested"},
        {LRD_C_harvests, "rounds of harvest"}, {LRD_C_stalls, "stalls"}, {LRD_C_discarded, "records discarded"},
    };
    for (unsigned i = 0; i < sizeof shown / sizeof *shown; i++)
        bench_figure_of(b->report, mode, shown[i].name, bench_since(before, after, shown[i].id), "");
    double appended = bench_since(before, after, LRD_C_appended_bytes), copied = bench_since(before, after, LRD_C_copied_bytes);
    bench_figure_of(b->report, mode, "bytes written by clients", appended / 1e6, "MB");
    bench_figure_of(b->report, mode, "bytes copied", copied / 1e6, "MB");
    bench_figure_of(b->report, mode, "write amplification", appended > 0 ? (appended + copied) / appended : (double)NAN, "");
}

static void say_histogram(const struct bench *b, const char *mode, const char *whose, const struct lrd_histogram *h)
{
    char name[64];
    snprintf(name, sizeof name, "%s, p99.9", whose);
    bench_figure_of(b->report, mode, name, (double)lrd_histogram_quantile(h, 0.999) / 1e3, "us");
    snprintf(name, sizeof name, "%s, max", whose);
    bench_figure_of(b->report, mode, name, (double)h->max / 1e3, "us");
    snprintf(name, sizeof name, "%s, over 20 us", whose);
    bench_figure_of(b->report, mode, name, (double)bench_histogram_above(h, US20_NS), "");
    snprintf(name, sizeof name, "%s, over 100 us", whose);
    bench_figure_of(b->report, mode, name, (double)bench_histogram_above(h, US100_NS), "");
}

void bench_say_pauses(const struct bench *b, const char *mode, const struct bench_sight *before, const struct bench_sight *after)
{
    struct lrd_histogram *h = bench_alloc(1, sizeof *h);
    bench_histogram_since(h, &before->pauses.own, &after->pauses.own);
    bench_figure_of(b->report, mode, "intervals of the writer", (double)lrd_histogram_count(h), "");
    say_histogram(b, mode, "writer, own", h);
    bench_histogram_since(h, &before->pauses.scheduler, &after->pauses.scheduler);
    say_histogram(b, mode, "writer, scheduler's", h);
    free(h);
}

/* ---- idle lanes ---- */

static void attach_all(struct bench *b)
{
    const struct larder_options options = {.size = sizeof options, .socket = b->socket, .flags = LARDER_OPEN_NO_POPULATE};
    struct larder **handles = bench_alloc(b->o.idle_lanes, sizeof *handles);
    int r = 0;
    for (unsigned i = 0; i < b->o.idle_lanes && r == 0; i++) {
        r = larder_open(&handles[i], &options);
        if (r == 0)
            lrd_store32_relaxed(&b->shared->idle, i + 1);
    }
    if (r != 0)
        _exit((int)bench_error(BENCH_FAILURE, "an idle lane cannot attach: %s", larder_strerror(r)));
    lrd_store32_release(&b->shared->idle_status, 1); /* pairs with the acquire in bench_idle_start() */
    for (;;)
        pause();
}

enum bench_status bench_idle_start(struct bench *b, pid_t *pid)
{
    int wait_status;
    pid_t parent = getpid();
    *pid = 0;
    if (b->o.idle_lanes == 0)
        return BENCH_OK;
    lrd_store32_relaxed(&b->shared->idle_status, 0); /* before the fork */
    *pid = fork();
    if (*pid < 0)
        return bench_error(BENCH_FAILURE, "cannot fork");
    if (*pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent)
            attach_all(b);
        _exit(BENCH_FAILURE);
    }
    while (!lrd_load32_acquire(&b->shared->idle_status)) {
        if (waitpid(*pid, &wait_status, WNOHANG) == *pid) {
            *pid = 0;
            return BENCH_FAILURE;
        }
        usleep(NAP_US);
    }
    return BENCH_OK;
}

void bench_idle_stop(pid_t pid)
{
    if (pid <= 0)
        return;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* ---- the control ---- */

static uint64_t switches(void)
{
    struct rusage u;
    getrusage(RUSAGE_THREAD, &u);
    return (uint64_t)u.ru_nivcsw + (uint64_t)u.ru_nvcsw;
}

void bench_control_run(struct bench_control *c, uint64_t until_ns)
{
    uint64_t last = lrd_clock_ns(), seen = switches(), cpu_ns = bench_thread_cpu_ns();
    while (last < until_ns) {
        uint64_t now = lrd_clock_ns(), gap = now - last;
        if (lrd_likely(gap <= US20_NS)) {
            lrd_histogram_record(&c->own, gap);
            last = now;
            continue;
        }
        uint64_t n = switches();
        lrd_histogram_record(n != seen ? &c->scheduler : &c->own, gap);
        seen = n;
        last = lrd_clock_ns(); /* what the question took is nobody's gap */
    }
    c->cpu_ns = bench_thread_cpu_ns() - cpu_ns;
}
