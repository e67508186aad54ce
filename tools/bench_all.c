/* Which modes there are, what each needs before it can run, and all of them one after the other. */
#include "tools/bench.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- how large a private daemon each needs ---- */

static void size_items(const struct bench *b, struct bench_daemon_size *size)
{
    size->memory = bench_daemon_memory(&b->o);
    size->average_item = BENCH_KEY + b->o.value_size;
}

/* 4 GiB: what the target of attach is said for. */
static void size_attach(const struct bench *b, struct bench_daemon_size *size)
{
    (void)b;
    size->memory = UINT64_C(4) << 30;
    size->average_item = 272;
}

/* The items have 210 bytes on average; for 260 the table is small enough to be three quarters full before the arena is. */
static void size_bytes(const struct bench *b, struct bench_daemon_size *size)
{
    (void)b;
    size->memory = UINT64_C(256) << 20;
    size->average_item = 260;
}

/* ---- modes, in the order of `all` ---- */
static const struct bench_mode modes[] = {
    {"latency", bench_latency, size_items, true, true, 0, 0, "time of every get, beside the floor's and a loop that only reads the clock"},
    {"get", bench_get, size_items, true, true, 0, 0, "gets a second, without looking at the clock in between"},
    {"get-many", bench_get_many, size_items, true, true, 0, 0, "the same in batches"},
    {"hot", bench_hot, size_items, true, true, 0, 0, "gets of 1,000 items, timed in groups of 16"},
    {"mixed", bench_mixed, size_items, true, true, 0, 0, "gets with sets among them"},
    {"view", bench_view, size_items, true, false, 60000, 8192, "values looked at where they lie; hot keys that are revisited"},
    {"set", bench_sets, size_items, true, true, 0, 0, "sets applied a second; time of a set's call"},
    {"wait", bench_wait, size_items, true, true, 0, 0, "set and wait until it is visible: round trips"},
    {"incr", bench_incr, size_items, false, true, 0, 0, "increments whose number is waited for; many on their way"},
    {"lease", bench_lease, size_items, false, true, 0, 0, "leases, and how long after its holder's kill -9 a waiter has one"},
    {"beside", bench_beside, size_items, true, true, 0, 0, "gets beside a process that sets at full speed"},
    {"idle", bench_idle, size_items, false, true, 0, 0, "CPU time of a daemon whose clients do nothing"},
    {"bytes", bench_bytes, size_bytes, false, true, 0, 0, "bytes per item beyond its key and value; fills the segment"},
    {"attach", bench_attach, size_attach, false, true, 0, 0, "time to attach"},
    {"replay", bench_replay, bench_trace_size, false, false, 0, 0, "a request trace: get, on a miss set"},
    {"leaderboard", bench_rows, bench_rows_size, true, false, 400000, 240, "rows that are overwritten and read: none may be lost"},
    {"hunt", bench_hunt, bench_hunt_size, false, false, 0, 0, "messages into a namespace that is reset every 16 ms"},
    {"reset", bench_reset, bench_reset_size, false, false, 10000000, 8, "resetting a namespace of small items"},
    {"pauses", bench_pauses, bench_pauses_size, false, false, 0, 0, "the writer's pauses while items expire, are evicted and reset"},
};

const struct bench_mode *bench_mode_at(unsigned i) { return i < sizeof modes / sizeof *modes ? &modes[i] : NULL; }

const struct bench_mode *bench_mode_find(const char *name)
{
    for (unsigned i = 0; i < sizeof modes / sizeof *modes; i++)
        if (strcmp(modes[i].name, name) == 0)
            return &modes[i];
    return NULL;
}

/* ---- running them ---- */

#define OWN_CLIENTS 28u /* beside those of idle */

struct stage {
    struct bench_daemon daemon;
    bench_daemon_sizer *size; /* what the daemon is made for; NULL: there is none */
    bool filled;
};

static void leave(struct bench *b, struct stage *s)
{
    if (s->size && b->o.start_daemon)
        bench_daemon_stop(&s->daemon);
    s->size = NULL;
    s->filled = false;
}

static enum bench_status enter(struct bench *b, struct stage *s, const struct bench_mode *mode)
{
    if (s->size == mode->size)
        return BENCH_OK;
    leave(b, s);
    if (b->o.start_daemon) {
        struct bench_daemon_size size = {.max_clients = b->o.clients + b->o.processes + b->o.idle_lanes + OWN_CLIENTS};
        mode->size(b, &size);
        if (b->o.memory > 0)
            size.memory = b->o.memory;
        enum bench_status status = bench_daemon_start(&s->daemon, b, &size);
        if (status != BENCH_OK)
            return status;
        b->socket = s->daemon.socket;
    }
    s->size = mode->size;
    return BENCH_OK;
}

static enum bench_status run_one(struct bench *b, struct stage *s, const struct bench_mode *mode)
{
    enum bench_status status = enter(b, s, mode);
    if (status == BENCH_OK && mode->fills && !s->filled && !b->o.no_fill) {
        status = bench_fill(b);
        s->filled = status == BENCH_OK;
    }
    return status == BENCH_OK ? mode->run(b) : status;
}

enum bench_status bench_mode_run(struct bench *b, const struct bench_mode *mode)
{
    struct stage s = {0};
    enum bench_status status = run_one(b, &s, mode);
    leave(b, &s);
    return status;
}

/* What would change or overflow a daemon that others use too is for a private one. */
static bool wants_private(const struct bench_mode *mode) { return mode->run == bench_bytes || mode->run == bench_idle; }

enum bench_status bench_all(struct bench *b)
{
    struct stage s = {0};
    enum bench_status status = BENCH_OK;
    for (unsigned i = 0; i < sizeof modes / sizeof *modes && status == BENCH_OK; i++) {
        if (!modes[i].in_all || (wants_private(&modes[i]) && !b->o.start_daemon))
            continue;
        if (isatty(STDERR_FILENO))
            fprintf(stderr, "larder-bench: %s\n", modes[i].name);
        status = run_one(b, &s, &modes[i]);
    }
    leave(b, &s);
    return status;
}
