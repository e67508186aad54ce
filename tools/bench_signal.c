/* Round trips between two cores: what the hardware and the kernel need, and what larder_set() and larder_wait() make of it.
 *
 *   a writer that spins    set, wait, set, wait ...             floor: two threads pass a cache line to and fro
 *   a writer that sleeps   some ms between a set and the next   floor: two threads wake each other with eventfds, as rarely
 *
 * Floor and larder take turns; the floor's second thread lives only while it is needed, because the writer wants its core. */
#include "tools/bench.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define TRIPS 2000u       /* of a round */
#define NAP_US 5000u      /* longer than the writer spins, by far */
#define WAIT_MS 1000u
#define SPINS 10000u
#define STOP UINT64_MAX

enum { LINE, SPINNING, EVENT, PARKED };

/* ---- a cache line, to and fro ---- */

struct line {
    lrd_u64 there;
    unsigned char pad0[120]; /* neighbouring lines are fetched in pairs */
    lrd_u64 back;
    unsigned char pad1[120];
    const struct bench_options *o;
};

/* What comes after x. Gives way now and then: there may be one core only. */
static uint64_t other_than(const lrd_u64 *word, uint64_t x)
{
    uint64_t next;
    for (unsigned i = 1; (next = lrd_load_acquire(word)) == x; i++) {
        lrd_pause();
        if (i % SPINS == 0)
            sched_yield();
    }
    return next;
}

static void *line_answer(void *arg)
{
    struct line *l = arg;
    uint64_t x = 0;
    bench_pin(l->o, 1);
    while (x != STOP) {
        x = other_than(&l->there, x); /* pairs with the release in line_round() */
        lrd_store_release(&l->back, x);
    }
    return NULL;
}

static void line_round(struct bench_worker *w, struct bench_stamps *s)
{
    struct line *l = bench_alloc(1, sizeof *l);
    pthread_t thread;
    l->o = &w->b->o;
    bench_stamps_init(s, &w->b->clock);
    if (pthread_create(&thread, NULL, line_answer, l) != 0) {
        free(l);
        return;
    }
    uint64_t last = bench_stamp();
    for (uint64_t i = 1; i <= TRIPS; i++) {
        uint64_t begin = bench_stamp();
        lrd_store_release(&l->there, i);
        other_than(&l->back, i - 1); /* pairs with the release in line_answer() */
        uint64_t end = bench_stamp();
        if (i > 1) /* the thread had to be started */
            bench_note(s, last, begin, end);
        last = end;
    }
    lrd_store_release(&l->there, STOP);
    pthread_join(thread, NULL);
    free(l);
    bench_stamps_note(&w->result->side[LINE], &w->b->clock, s, 1);
}

/* ---- eventfds, to and fro ---- */

struct event {
    int there, back, epoll;
    lrd_u32 stop;
    const struct bench_options *o;
};

/* As the writer does it: edge-triggered, never read. */
static void *event_answer(void *arg)
{
    struct event *e = arg;
    const uint64_t one = 1;
    struct epoll_event seen;
    bench_pin(e->o, 1);
    for (;;) {
        int n = epoll_wait(e->epoll, &seen, 1, -1);
        if (n < 0 && errno != EINTR)
            return NULL;
        if (lrd_load32_acquire(&e->stop)) /* pairs with the release in event_close() */
            return NULL;
        if (n == 1 && write(e->back, &one, sizeof one) != sizeof one)
            return NULL;
    }
}

static bool event_open(struct event *e, const struct bench_options *o, pthread_t *thread)
{
    struct epoll_event want = {.events = EPOLLIN | EPOLLET};
    e->o = o;
    e->there = eventfd(0, EFD_CLOEXEC);
    e->back = eventfd(0, EFD_CLOEXEC);
    e->epoll = epoll_create1(EPOLL_CLOEXEC);
    return e->there >= 0 && e->back >= 0 && e->epoll >= 0 && epoll_ctl(e->epoll, EPOLL_CTL_ADD, e->there, &want) == 0 &&
           pthread_create(thread, NULL, event_answer, e) == 0;
}

static void event_close(struct event *e, pthread_t thread)
{
    const uint64_t one = 1;
    lrd_store32_release(&e->stop, 1);
    if (write(e->there, &one, sizeof one) == sizeof one)
        pthread_join(thread, NULL);
    close(e->epoll);
    close(e->back);
    close(e->there);
}

static void event_trip(struct event *e, struct bench_stamps *s)
{
    uint64_t x = 1;
    uint64_t begin = bench_stamp();
    bool good = write(e->there, &x, sizeof x) == sizeof x && read(e->back, &x, sizeof x) == sizeof x;
    uint64_t end = bench_stamp();
    if (good)
        lrd_histogram_record(&s->ticks, end - begin);
}

/* ---- set and wait ---- */

static void set_and_wait(struct bench_worker *w, struct bench_stamps *s, struct bench_side *side)
{
    struct bench_key key;
    larder_ticket ticket = 0;
    uint64_t id = lrd_fetch_add_relaxed(&w->b->shared->oldest, 1) % w->b->o.items; /* only a number */
    bench_key_make(&key, id, w->keys.hash_seed);
    bench_value_fill(w->value, w->b->o.value_size, id, ++w->version);
    uint64_t begin = bench_stamp();
    int r = larder_set(w->target->ns, key.bytes, BENCH_KEY, w->value, w->b->o.value_size, NULL, &ticket);
    if (r == 0)
        r = larder_wait(w->target->larder, ticket, WAIT_MS);
    uint64_t end = bench_stamp();
    side->wrong += r != 0;
    lrd_histogram_record(&s->ticks, end - begin);
}

static void spinning_round(struct bench_worker *w, struct bench_stamps *s)
{
    bench_stamps_init(s, &w->b->clock);
    for (unsigned i = 0; i < TRIPS; i++)
        set_and_wait(w, s, &w->result->side[SPINNING]);
    bench_stamps_note(&w->result->side[SPINNING], &w->b->clock, s, 1);
}

static void spinning(struct bench_worker *w, struct bench_stamps *s, uint64_t total_ns)
{
    uint64_t begin = lrd_clock_ns();
    unsigned rounds = 0;
    do {
        line_round(w, s);
        spinning_round(w, s);
    } while (++rounds < 3 || lrd_clock_ns() - begin < total_ns);
}

static void parked(struct bench_worker *w, uint64_t total_ns)
{
    struct event e = {0};
    pthread_t thread;
    struct bench_stamps *events = bench_alloc(1, sizeof *events), *waits = bench_alloc(1, sizeof *waits);
    if (!event_open(&e, &w->b->o, &thread)) {
        w->result->status = bench_error(BENCH_FAILURE, "no eventfd, epoll or thread for the round trips");
        return;
    }
    bench_stamps_init(events, &w->b->clock);
    bench_stamps_init(waits, &w->b->clock);
    uint64_t begin = lrd_clock_ns(), parks = bench_counter(w->target, LRD_C_parks);
    unsigned trips = 0;
    do {
        usleep(NAP_US);
        event_trip(&e, events);
        usleep(NAP_US);
        set_and_wait(w, waits, &w->result->side[PARKED]);
    } while (++trips < 10 || lrd_clock_ns() - begin < total_ns);
    w->result->count[0] = bench_counter(w->target, LRD_C_parks) - parks;
    w->result->count[1] = trips;
    event_close(&e, thread);
    bench_stamps_note(&w->result->side[EVENT], &w->b->clock, events, 1);
    bench_stamps_note(&w->result->side[PARKED], &w->b->clock, waits, 1);
    free(waits);
    free(events);
}

/* ---- the mode ---- */

static void work(struct bench_worker *w)
{
    uint64_t half_ns = (uint64_t)(w->b->o.seconds * 5e8);
    struct bench_stamps *s = bench_alloc(1, sizeof *s);
    spinning(w, s, half_ns);
    parked(w, half_ns);
    free(s);
    if (w->result->side[SPINNING].wrong + w->result->side[PARKED].wrong > 0)
        w->result->status = bench_error(BENCH_FAILURE, "a set or its wait failed");
}

static void say(struct bench *b, const struct bench_result *result)
{
    static const char *const names[] = {"cache line, round trip", "set + wait, writer spins", "eventfd, round trip", "set + wait, writer sleeps"};
    struct bench_stamps *s = bench_alloc(1, sizeof *s);
    double p50[4];
    for (unsigned i = 0; i < 4; i++) {
        bench_side_stamps(result, 1, i, s);
        bench_distribution(b->report, names[i], &b->clock, s, 1);
        p50[i] = bench_side_median(result, 1, i, BENCH_P50_NS);
        bench_figure(b->report, names[i], p50[i], "ns");
    }
    /* Three round trips, or 2 us where they are shorter. */
    bench_figure_most(b->report, "set + wait / cache line, p50", p50[SPINNING] / p50[LINE], "x", fmax(3, 2000 / p50[LINE]));
    bench_figure(b->report, "writer's sleeps per set, when it sleeps", (double)result->count[0] / (double)result->count[1], "");
    bench_figure_most(b->report, "set + wait / eventfd, p50", p50[PARKED] / p50[EVENT], "x", 1.5);
    free(s);
}

enum bench_status bench_wait(struct bench *b)
{
    struct bench_result *result;
    enum bench_status status = bench_crew_run(b, 1, 1, b->o.items, work, &result);
    if (status == BENCH_OK)
        say(b, result);
    bench_crew_free(result, 1);
    return status;
}
