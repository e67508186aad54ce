/* Replays a request trace: get; on a miss, set.
 *
 * Workers share the trace: each takes the next requests when it has done its last ones, so that the order is kept up to these few: one at a time if there are
 * several workers.
 *
 * The trace's clock. Without --speed requests follow each other at once, and a time to live is real time. With --speed X the trace's clock goes X times faster than ours: requests
 * wait for their time, and times to live are X times shorter. --speed auto finds X: the first 20th goes as fast as it can, times to live by what the speed was until
 * then; the rest goes at four fifths of that, or slower, so that the shortest time to live is 20 ticks of the clock that expiry is reckoned by, if that does not take longer than a minute. */
#include "tools/bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "shm/layout.h"

#define TAKE 32u /* alone */
#define FLUSH_MS 60000u
#define NAP_MAX_NS 500000000.0
#define SPIN_NS 100000.0 /* what is due sooner is spun for */
#define CALIBRATE_PART 20u
#define CALIBRATE_BLIND 1000u /* requests before which nothing can be said about the speed */
#define EASE 0.8
#define TTL_TICKS 20.0
#define AUTO_MAX_S 60.0
#define HARVEST_MS 10000u /* a round through the marks takes no longer, and the writer looks for what has expired in each */
#define LOOK_US 20000u

enum count { GETS, MISSES, BYTES, MISSED_BYTES, SETS, REFUSED, WRONG, UNFIT, LATE, BEHIND_NS, N_COUNTS };
_Static_assert(N_COUNTS <= sizeof((struct bench_result *)0)->count / sizeof(uint64_t), "room for the counts");

struct player {
    struct bench_worker *w;
    const struct bench_trace *t;
    uint64_t *count;
    unsigned char *value;
    size_t capacity, item_max;
    uint64_t *deadline_ns; /* of each object's last set, by the coarse clock; 0: never set or never expires. NULL: not checked */
    uint64_t tick_ns;
    uint64_t begin_ns;
};

/* ---- the trace's clock ---- */

static double from_bits(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint64_t to_bits(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static double trace_seconds(const struct bench_trace *t) { return (double)t->time_s[t->n_requests - 1] - t->time_s[0]; }

static uint64_t tick_ns(void)
{
    struct timespec t;
    clock_getres(CLOCK_MONOTONIC_COARSE, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* By how much faster the trace went until request i. 0: cannot be said. */
static double speed_until(const struct player *p, uint32_t i)
{
    double ns = (double)(lrd_clock_ns() - lrd_load_relaxed(&p->w->b->shared->go_ns)); /* stored before go */
    return i < CALIBRATE_BLIND && i < p->t->n_requests / CALIBRATE_PART ? 0 : trace_seconds(p->t) * ((double)i + 1) / p->t->n_requests / ns * 1e9;
}

/* X for a time to live; 0: none can be given. */
static double speed_at(const struct player *p, uint32_t i)
{
    const struct bench_options *o = &p->w->b->o;
    if (!o->speed_auto)
        return o->speed > 0 ? o->speed : 1;
    double speed = from_bits(lrd_load_acquire(&p->w->b->shared->pace_speed)); /* pairs with settle() */
    return speed > 0 ? speed : speed_until(p, i);
}

/* The worker with the first request after the 20th part decides for all. */
static void settle(struct player *p, uint32_t i)
{
    struct bench_shared *shared = p->w->b->shared;
    const struct bench_trace *t = p->t;
    double speed = speed_until(p, i) * EASE, whole_s = trace_seconds(t);
    if (t->shortest_ttl_s > 0) {
        double fine = t->shortest_ttl_s * 1e9 / (TTL_TICKS * (double)p->tick_ns), least = whole_s / AUTO_MAX_S;
        if (speed > fine)
            speed = fine > least ? fine : speed < least ? speed : least;
    }
    lrd_store_relaxed(&shared->pace_ns, lrd_clock_ns());
    lrd_store_relaxed(&shared->pace_from, i);
    lrd_store_release(&shared->pace_speed, to_bits(speed > 0 ? speed : 1)); /* publishes both; pairs with the acquires in speed_at() and pace() */
}

static void wait_for(struct player *p, double due_ns, uint64_t since_ns)
{
    for (;;) {
        double early_ns = due_ns - (double)(lrd_clock_ns() - since_ns);
        if (early_ns <= 0) {
            if (-early_ns > (double)p->count[BEHIND_NS])
                p->count[BEHIND_NS] = (uint64_t)-early_ns;
            return;
        }
        if (early_ns > SPIN_NS)
            usleep((useconds_t)(early_ns < NAP_MAX_NS ? early_ns / 2000 : NAP_MAX_NS / 1000));
        else
            lrd_pause();
    }
}

/* Until the trace's time has come. */
static void pace(struct player *p, uint32_t i)
{
    const struct bench_options *o = &p->w->b->o;
    struct bench_shared *shared = p->w->b->shared;
    const uint32_t *time_s = p->t->time_s;
    if (o->speed_auto) {
        double speed = from_bits(lrd_load_acquire(&shared->pace_speed)); /* pairs with settle() */
        if (speed > 0)
            wait_for(p, ((double)time_s[i] - time_s[lrd_load_relaxed(&shared->pace_from)]) * 1e9 / speed, lrd_load_relaxed(&shared->pace_ns));
    } else if (o->speed > 0)
        wait_for(p, ((double)time_s[i] - time_s[0]) * 1e9 / o->speed, lrd_load_relaxed(&shared->go_ns)); /* stored before go */
}

/* ---- a request ---- */

static int64_t ttl_ms(const struct player *p, uint32_t i)
{
    uint32_t ttl_s = p->t->ttl_s[p->t->object[i]];
    double speed = ttl_s > 0 ? speed_at(p, i) : 0;
    if (speed <= 0)
        return LARDER_TTL_NONE;
    double ms = ttl_s * 1000.0 / speed;
    return ms < 1 ? 1 : (int64_t)ms;
}

static void set_object(struct player *p, const struct bench_key *key, uint32_t i)
{
    uint32_t object = p->t->object[i], bytes = p->t->item[object] - (uint32_t)sizeof(struct lrd_item) - BENCH_KEY;
    struct larder_set_options options = {.size = sizeof options, .ttl_ms = ttl_ms(p, i)};
    if (p->t->item[object] > p->item_max) {
        p->count[REFUSED]++;
        return;
    }
    bench_value_fill(p->value, bytes, key->id, ++p->w->version);
    int r;
    do
        r = larder_set(p->w->target->ns, key->bytes, BENCH_KEY, p->value, bytes, &options, NULL);
    while (r == LARDER_BUSY);
    p->count[r == 0 ? SETS : REFUSED]++;
    if (p->deadline_ns && r == 0)
        p->deadline_ns[object] = options.ttl_ms > 0 ? lrd_clock_coarse_ns() + (uint64_t)options.ttl_ms * 1000000u : 0;
}

static void check_hit(struct player *p, uint32_t object, size_t size, uint64_t before_ns)
{
    if (p->w->b->o.verify &&
        (size != p->t->item[object] - sizeof(struct lrd_item) - BENCH_KEY || !bench_value_good(p->value, size, object)))
        p->count[WRONG]++;
    if (p->deadline_ns && p->deadline_ns[object] > 0 && before_ns > p->deadline_ns[object] + p->tick_ns)
        p->count[LATE]++;
}

static void request(struct player *p, uint32_t i)
{
    const struct bench_trace *t = p->t;
    uint32_t object = t->object[i];
    struct bench_key key;
    size_t size = 0;
    bench_key_make(&key, object, p->w->keys.hash_seed);
    if (t->op[i] == 1) {
        set_object(p, &key, i);
        return;
    }
    p->count[GETS]++;
    p->count[BYTES] += t->item[object];
    uint64_t before_ns = p->deadline_ns ? lrd_clock_coarse_ns() : 0;
    if (larder_get(p->w->target->ns, key.bytes, BENCH_KEY, p->value, p->capacity, &size) == 0) {
        check_hit(p, object, size, before_ns);
        return;
    }
    p->count[MISSES]++;
    p->count[MISSED_BYTES] += t->item[object];
    p->count[UNFIT] += t->item[object] > p->item_max;
    set_object(p, &key, i);
}

/* ---- a worker ---- */

static void play(struct player *p)
{
    const struct bench_trace *t = p->t;
    const struct bench_options *o = &p->w->b->o;
    unsigned unit = o->unit > 0 ? o->unit : o->processes * o->threads > 1 ? 1 : TAKE;
    uint32_t settles = o->speed_auto ? t->n_requests / CALIBRATE_PART : UINT32_MAX;
    for (;;) {
        uint64_t first = lrd_fetch_add_relaxed(&p->w->b->shared->cursor, unit); /* only a number */
        if (first >= t->n_requests)
            return;
        if (settles >= first && settles < first + unit)
            settle(p, (uint32_t)first);
        pace(p, (uint32_t)first);
        for (uint64_t i = first; i < first + unit && i < t->n_requests; i++)
            request(p, (uint32_t)i);
    }
}

static void work(struct bench_worker *w)
{
    const struct bench_trace *t = w->b->trace;
    struct player p = {.w = w, .t = t, .count = w->result->count, .capacity = t->largest_item, .item_max = larder_item_max(w->target->larder), .tick_ns = tick_ns()};
    p.value = bench_alloc(1, p.capacity + LRD_LINE);
    p.deadline_ns = w->b->o.check_expiry ? bench_alloc(t->n_objects + 1, sizeof *p.deadline_ns) : NULL;
    play(&p);
    if (larder_flush(w->target->larder, FLUSH_MS) != 0)
        w->result->status = bench_error(BENCH_FAILURE, "the daemon did not apply all sets");
    if (p.count[WRONG] > 0)
        w->result->status = bench_error(BENCH_WRONG, "%llu gets returned something that was not set", (unsigned long long)p.count[WRONG]);
    if (p.count[LATE] > 0)
        w->result->status = bench_error(BENCH_WRONG, "%llu gets returned an item that had expired", (unsigned long long)p.count[LATE]);
    free(p.deadline_ns);
    free(p.value);
}

/* ---- the mode ---- */

static void add_up(const struct bench_result *results, unsigned n, double count[N_COUNTS], double *wall_s)
{
    for (unsigned i = 0; i < n; i++) {
        for (unsigned j = 0; j < N_COUNTS; j++)
            count[j] += (double)results[i].count[j];
        *wall_s = results[i].wall_s > *wall_s ? results[i].wall_s : *wall_s;
    }
}

static double part(double a, double of) { return of > 0 ? a / of : 0; }

static void say(const struct bench *b, const struct bench_result *results, unsigned n)
{
    const struct bench_trace *t = b->trace;
    double count[N_COUNTS] = {0}, wall_s = 0;
    add_up(results, n, count, &wall_s);
    bench_figure(b->report, "replay: requests", t->n_requests, "");
    bench_figure(b->report, "replay: objects", t->n_objects, "");
    bench_figure(b->report, "replay: footprint", (double)t->footprint / 1e6, "MB");
    bench_figure(b->report, "replay: sizes multiplied by", t->scale, "");
    bench_figure(b->report, "replay: speed", t->n_requests / wall_s / 1e6, "M/s");
    bench_figure(b->report, "replay: miss ratio", part(count[MISSES], count[GETS]), "");
    bench_figure(b->report, "replay: byte miss ratio", part(count[MISSED_BYTES], count[BYTES]), "");
    bench_figure(b->report, "replay: miss ratio of objects that fit", part(count[MISSES] - count[UNFIT], count[GETS] - count[UNFIT]), "");
    bench_figure(b->report, "replay: gets of objects that do not fit", count[UNFIT], "");
    bench_figure(b->report, "replay: sets", count[SETS], "");
    bench_figure(b->report, "replay: sets refused", count[REFUSED], "");
    if (b->o.check_expiry)
        bench_figure(b->report, "replay: expired items returned", count[LATE], "");
    if (b->o.speed_auto || b->o.speed > 0) {
        bench_figure(b->report, "replay: the trace's clock goes faster by", b->o.speed_auto ? from_bits(lrd_load_relaxed(&b->shared->pace_speed)) : b->o.speed, "x");
        double behind_ns = 0;
        for (unsigned i = 0; i < n; i++)
            behind_ns = (double)results[i].count[BEHIND_NS] > behind_ns ? (double)results[i].count[BEHIND_NS] : behind_ns;
        bench_figure(b->report, "replay: behind the trace's clock, at most", behind_ns / 1e6, "ms");
    }
}

/* Waits until the writer has freed what had expired at the end; what it has not. */
static void say_expired(const struct bench *b, const struct bench_target *t)
{
    uint64_t begin_ns = lrd_clock_ns(), end_ms = lrd_clock_segment_ms(t->r.geometry.created_ns), full = 0, open_too = 0;
    for (;;) {
        bench_expired_bytes(&t->r, end_ms, &full, &open_too);
        if (full == 0 || lrd_clock_ns() - begin_ns > HARVEST_MS * UINT64_C(1000000))
            break;
        usleep(LOOK_US);
    }
    bench_figure(b->report, "replay: waited for the writer to free them", (double)(lrd_clock_ns() - begin_ns) / 1e9, "s");
    bench_figure_most(b->report, "replay: expired bytes still held", (double)full, "B", 0);
    bench_figure(b->report, "replay: expired bytes in blocks being written", (double)(open_too - full), "B");
}

static enum bench_status say_segment(const struct bench *b)
{
    struct bench_target t;
    enum bench_status status = bench_target_peek(&t, b);
    if (status != BENCH_OK)
        return status;
    double arena = (double)((uint64_t)t.r.n_blocks << t.r.block_shift);
    bench_figure(b->report, "replay: blocks", t.r.n_blocks, "");
    bench_figure(b->report, "replay: block", (double)(1u << t.r.block_shift) / 1024, "KiB");
    bench_figure(b->report, "replay: arena / footprint", arena / (double)b->trace->item_footprint, "");
    bench_figure(b->report, "replay: table load", 100 * bench_load(&t), "%");
    if (b->trace->shortest_ttl_s > 0)
        say_expired(b, &t);
    bench_target_close(&t);
    return BENCH_OK;
}

static enum bench_status run(struct bench *b, struct bench_sight *before, struct bench_sight *after)
{
    struct bench_result *results;
    unsigned n = b->o.processes * b->o.threads;
    enum bench_status status = bench_look(b, before);
    if (status != BENCH_OK)
        return status;
    lrd_store_relaxed(&b->shared->cursor, 0); /* nobody else runs yet */
    lrd_store_relaxed(&b->shared->pace_speed, 0);
    status = bench_crew_run(b, b->o.processes, b->o.threads, b->trace->n_objects, work, &results);
    if (status == BENCH_OK || status == BENCH_WRONG) {
        enum bench_status end = bench_look(b, after);
        say(b, results, n);
        if (end == BENCH_OK) {
            bench_say_counters(b, "replay", before, after);
            bench_say_pauses(b, "replay", before, after);
            end = say_segment(b);
        }
        bench_report_finish(b->report);
        status = status != BENCH_OK ? status : end;
    }
    bench_crew_free(results, n);
    return status;
}

enum bench_status bench_replay(struct bench *b)
{
    pid_t idle = 0;
    struct bench_sight *sights = bench_alloc(2, sizeof *sights);
    enum bench_status status = bench_idle_start(b, &idle);
    if (status == BENCH_OK)
        status = run(b, &sights[0], &sights[1]);
    bench_idle_stop(idle);
    free(sights);
    return status;
}
