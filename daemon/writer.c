/* One thread applies everything: it looks at the rings of the active lanes in turn, takes a batch from each, and between two batches does a bounded
 * piece of maintenance. Nothing it does depends on a client going on: a lane is a source of bytes, checked after they were copied once.
 *
 * A lane that stayed silent is parked: its client rings its doorbell. Doorbells are registered edge-triggered and never read, because a client can make them blocking
 * or drain them; all parked rings are looked at again every 50 ms.
 */
#include "daemon/writer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/writer_parts.h"
#include "shm/clock.h"
#include "shm/testpoint.h"
#include "shm/wait.h"

#define SWEEP_STEP 64u /* buckets */
#define SKIP_STEP 4096u /* cells of a dead client */
#define POLL_NS 50000u /* a busy writer looks at the doorbells of parked lanes this often */
#define SLEEP_MS 50 /* the heartbeat is promised every 100 */
#define PAUSE_NS 20000u /* longer than that between two looks at the rings: was it us, or the scheduler? */
#define BELL_OF_CLERK UINT32_MAX

enum command { COMMAND_NONE, COMMAND_ADD, COMMAND_DRAIN };

/* ---- lanes that end ---- */

static void activate(struct lrd_writer *w, struct lrd_lane_ref *lane)
{
    lrd_unpark(lane->words);
    lane->idle_since_ns = 0;
    if (lane->active)
        return;
    lane->active = true;
    w->active[w->n_active++] = lrd_lane_idx(w, lane);
}

static void deactivate(struct lrd_writer *w, uint32_t at)
{
    w->lanes[w->active[at]].active = false;
    w->active[at] = w->active[--w->n_active];
}

/* Goes on from a cell that a dead client claimed and never committed. */
static void skip_holes(struct lrd_writer *w, struct lrd_lane_ref *lane)
{
    uint64_t head = lrd_load_relaxed(&lane->words->applied), from = head;
    while (head < lane->end && head - from < SKIP_STEP && lrd_ring_next(&lane->ring, head) == 0)
        head++;
    /* One word, so no intent; a worker that dies before it steps over the same cells again. */
    lrd_store_release(&lane->words->applied, head);
    lrd_add_own(&w->s->counters[LRD_C_skipped_cells], head - from);
}

static void forget(struct lrd_writer *w, struct lrd_lane_ref *lane)
{
    lrd_credits_return(&w->credits, lrd_lane_idx(w, lane)); /* a worker that dies here: the next one counts the lanes that are left */
    for (uint32_t i = 0; i < w->n_rings; i++)
        if (w->rings[i] == &lane->ring)
            w->rings[i] = w->rings[--w->n_rings];
    epoll_ctl(w->epoll, EPOLL_CTL_DEL, lane->doorbell, NULL);
    lane->known = lane->dying = false;
    lrd_watches_remove_lane(w->watches, lrd_lane_idx(w, lane));
    lrd_store32_release(&lane->words->state, LRD_LANE_FREE);
    LRD_TESTPOINT("writer_lane_free");
    lrd_store32_release(&lane->drained, 1); /* pairs with the acquire in lrd_writer_drained() */
    lrd_doorbell_write(w->drained_fd);
}

/* A dead client's lane with nothing committed at its head: true if it was forgotten. */
static bool go_on_dying(struct lrd_writer *w, struct lrd_lane_ref *lane)
{
    if (lrd_load_relaxed(&lane->words->applied) < lane->end) {
        skip_holes(w, lane);
        return false;
    }
    forget(w, lane);
    return true;
}

/* ---- what the clerk asks for ---- */

static void take_add(struct lrd_writer *w, struct lrd_lane_ref *lane)
{
    uint32_t idx = lrd_lane_idx(w, lane);
    lane->ring = *lane->new_ring;
    lane->doorbell = lane->new_doorbell;
    lane->words = &w->s->lanes[idx];
    lane->known = true;
    lane->dying = false;
    lane->end = UINT64_MAX;
    w->rings[w->n_rings++] = &lane->ring;
    lrd_watches_add_lane(w->watches, idx, lane->ring.lane);
    lrd_records_wake(w, lane);
    if (lrd_load_relaxed(&lane->words->applied) != 0)
        lrd_bells_want(&w->bells, idx); /* what was armed may have come with the worker that died, or by what completed its intent, and its bell not have rung */
    struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data.u32 = idx};
    epoll_ctl(w->epoll, EPOLL_CTL_ADD, lane->doorbell, &e); /* if it fails the timeout's look finds the records */
    /* It told a former worker. Relaxed: who is just telling has its record in the ring. */
    if (lrd_load_relaxed(&lane->ring.lane->views) != 0)
        lrd_pins_add(&w->arena.pins, lane->ring.lane);
    activate(w, lane);
}

static void take_drain(struct lrd_writer *w, struct lrd_lane_ref *lane)
{
    if (!lane->known) { /* nobody added it: nothing to apply */
        lrd_store32_release(&lane->drained, 1);
        lrd_doorbell_write(w->drained_fd);
        return;
    }
    lane->dying = true;
    lrd_pins_remove(&w->arena.pins, lane->ring.lane); /* its state is not LIVE: a client that is alive all the same sees that at the end of each view */
    lane->end = lrd_ring_end(&lane->ring, lrd_load_relaxed(&lane->words->applied)); /* once: a lying tail moves no more */
    activate(w, lane);
}

static bool take_commands(struct lrd_writer *w)
{
    /* Acquire: pairs with the release in give(). */
    uint32_t commands = lrd_load32_acquire(&w->commands);
    if (lrd_likely(commands == w->commands_seen))
        return false;
    w->commands_seen = commands;
    bool known = lrd_load32_acquire(&w->lanes_known) != 0; /* before the look: pairs with the release in lrd_writer_lanes_known(), behind the commands */
    for (uint32_t i = 0; i < w->n_lanes; i++) {
        enum command c = (enum command)lrd_exchange32(&w->lanes[i].command, COMMAND_NONE);
        if (c == COMMAND_ADD)
            take_add(w, &w->lanes[i]);
        else if (c == COMMAND_DRAIN)
            take_drain(w, &w->lanes[i]);
    }
    if (known)
        w->arena.blind = false;
    return true;
}

/* ---- waiting ---- */

static void look_at_clock(struct lrd_writer *w)
{
    w->now_ns = lrd_clock_ns();
    uint64_t now_ms = lrd_clock_segment_ms(w->s->r.geometry.created_ns);
    if (now_ms == w->now_ms)
        return;
    w->now_ms = now_ms;
    lrd_store_release(&w->s->header->heartbeat_ms, now_ms);
    lrd_evict_tick(w->evict, now_ms);
}

static long switches(void)
{
    struct rusage u;
    return getrusage(RUSAGE_THREAD, &u) == 0 ? u.ru_nivcsw : 0;
}

/* Files the time since the last look at the rings. A long one during which another thread was given our core is the scheduler's. */
static void note_interval(struct lrd_writer *w)
{
    uint64_t interval_ns = w->now_ns - w->looked_ns;
    bool first = w->looked_ns == 0;
    struct lrd_histogram *to = &w->s->pauses->own;
    w->looked_ns = w->now_ns;
    if (first)
        return;
    if (interval_ns > PAUSE_NS) {
        long n = switches();
        if (n != w->switches)
            to = &w->s->pauses->scheduler;
        w->switches = n;
    }
    lrd_histogram_record(to, interval_ns);
}

/* Doorbells that rang; the lanes are active from now on. A ring that comes while its lane is active is for nothing. */
static void poll_bells(struct lrd_writer *w, int timeout_ms)
{
    struct epoll_event e[64];
    int n = epoll_wait(w->epoll, e, 64, timeout_ms);
    for (int i = 0; i < n; i++)
        if (e[i].data.u32 != BELL_OF_CLERK && w->lanes[e[i].data.u32].known)
            activate(w, &w->lanes[e[i].data.u32]);
    w->polled_ns = w->now_ns;
}

/* Somebody may have drained a doorbell, or stolen its edge. By the clock, whether we sleep or not. */
static void look_at_parked(struct lrd_writer *w)
{
    if (w->now_ns - w->parked_looked_ns < (SLEEP_MS - 1) * UINT64_C(1000000))
        return;
    w->parked_looked_ns = w->now_ns;
    for (uint32_t i = 0; i < w->n_lanes; i++) {
        struct lrd_lane_ref *lane = &w->lanes[i];
        if (lane->known && !lane->active && lrd_ring_next(&lane->ring, lrd_load_relaxed(&lane->words->applied)) != 0)
            activate(w, lane);
    }
}

/* Parks a lane that was silent for as long as looking at it pays. True if it is not active any more. */
static bool park_if_silent(struct lrd_writer *w, uint32_t at)
{
    struct lrd_lane_ref *lane = &w->lanes[w->active[at]];
    if (lane->idle_since_ns == 0)
        lane->idle_since_ns = w->now_ns;
    if (w->now_ns - lane->idle_since_ns < w->spin_ns || !lrd_park(lane->words, &lane->ring, lrd_load_relaxed(&lane->words->applied)))
        return false;
    deactivate(w, at);
    return true;
}

/* Spinning is worth more when something came while we did, less when not. */
static void adapt_spin(struct lrd_writer *w, bool paid)
{
    w->spin_ns = paid ? w->spin_ns * 2 : w->spin_ns / 2;
    if (w->spin_ns > w->spin_max_ns)
        w->spin_ns = w->spin_max_ns;
    if (w->spin_ns < w->spin_max_ns / 8)
        w->spin_ns = w->spin_max_ns / 8;
}

/* Each time another lane comes first: if room is made between two looks, it is not always the same one that takes it. */
static bool look_at_lanes(struct lrd_writer *w)
{
    bool worked = false;
    uint32_t at = w->turn;
    for (uint32_t left = w->n_active; left > 0 && w->n_active > 0; left--) {
        at = at < w->n_active ? at : at % w->n_active;
        struct lrd_lane_ref *lane = &w->lanes[w->active[at]];
        if (lrd_records_take(w, lane)) {
            if (lane->idle_since_ns != 0)
                adapt_spin(w, true);
            lane->idle_since_ns = 0;
            worked = true;
            at++;
        } else if (lane->dying) {
            worked = true;
            if (go_on_dying(w, lane))
                deactivate(w, at);
            else
                at++;
        } else if (!park_if_silent(w, at))
            at++;
    }
    return worked;
}

/* While records come, sweep and harvest take turns, so that each look at the rings waits for one of them only. */
static bool maintain(struct lrd_writer *w, bool busy)
{
    bool worked = lrd_evict_step(w->evict, w->now_ms);
    worked |= lrd_watches_step(w->watches); /* behind it: it may have freed a block */
    w->turn++;
    if (!busy || w->turn % 2 == 0)
        worked |= lrd_table_sweep(&w->table, SWEEP_STEP);
    if (!busy || w->turn % 2 != 0)
        worked |= lrd_evict_harvest(w->evict, w->rings, w->n_rings, w->now_ns);
    return worked;
}

/* Milliseconds that it may sleep. */
static int sleep_ms(const struct lrd_writer *w)
{
    uint64_t left_ns = w->next_reset_ns > w->now_ns ? w->next_reset_ns - w->now_ns : 0;
    return left_ns < SLEEP_MS * UINT64_C(1000000) ? (int)((left_ns + 999999) / 1000000) : SLEEP_MS;
}

static void sleep_until_rung(struct lrd_writer *w)
{
    adapt_spin(w, false);
    lrd_add_own(&w->s->counters[LRD_C_parks], 1);
    /* The clerk's descriptor is written after its command is there, and stays until this returns: nothing is missed. */
    poll_bells(w, sleep_ms(w));
    look_at_clock(w);
    w->looked_ns = 0;
}

void lrd_writer_run(struct lrd_writer *w)
{
    look_at_clock(w);
    lrd_resets_plan(w);
    w->switches = switches();
    while (lrd_load32_relaxed(&w->stop) == 0) {
        bool worked = take_commands(w);
        look_at_clock(w);
        note_interval(w);
        if (w->now_ns >= w->next_reset_ns)
            lrd_resets_by_clock(w);
        worked |= look_at_lanes(w);
        worked |= maintain(w, worked);
        look_at_parked(w);
        if (w->n_active == 0 && !worked)
            sleep_until_rung(w);
        else if (w->now_ns - w->polled_ns >= POLL_NS)
            poll_bells(w, 0);
        else if (!worked)
            lrd_pause();
    }
}

/* ---- making and ending it ---- */

static int watch(int epoll, int fd, uint32_t what)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data.u32 = what};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

static int open_descriptors(struct lrd_writer *w)
{
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    w->command_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    w->drained_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    w->measure_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->epoll < 0 || w->command_fd < 0 || w->drained_fd < 0 || w->measure_fd < 0)
        return -errno;
    return watch(w->epoll, w->command_fd, BELL_OF_CLERK);
}

int lrd_writer_create(struct lrd_writer **out, struct lrd_store *store, const struct lrd_writer_options *options)
{
    *out = NULL;
    struct lrd_writer *w = calloc(1, sizeof *w);
    if (w == NULL)
        return -ENOMEM;
    w->s = store;
    w->n_lanes = store->r.geometry.n_lanes;
    w->spin_ns = w->spin_max_ns = (uint64_t)options->spin_us * 1000u;
    w->large.lane = LRD_NO_LANE;
    w->client_namespaces = options->client_namespaces;
    w->epoll = w->command_fd = w->drained_fd = w->measure_fd = -1;
    w->lanes = calloc(w->n_lanes, sizeof *w->lanes);
    w->active = calloc(w->n_lanes, sizeof *w->active);
    w->rings = calloc(w->n_lanes, sizeof *w->rings);
    lrd_journal_init(&w->journal, store);
    w->table = (struct lrd_table){.s = store, .a = &w->arena, .j = &w->journal};
    int err = w->lanes == NULL || w->active == NULL || w->rings == NULL ? -ENOMEM : lrd_arena_init(&w->arena, store, &w->journal);
    if (err == 0)
        err = lrd_evict_create(&w->evict, store, &w->arena, &w->table, &w->journal);
    if (err == 0)
        err = lrd_bells_create(&w->bells, w->n_lanes);
    if (err == 0)
        err = lrd_watches_create(&w->watches, store, &w->bells);
    if (err == 0)
        err = open_descriptors(w);
    if (err < 0) {
        lrd_writer_destroy(w);
        return err;
    }
    w->arena.blind = true;
    lrd_credits_init(&w->credits, store, &w->arena, &w->journal);
    w->decider = (struct lrd_decider){.s = store, .a = &w->arena, .t = &w->table, .j = &w->journal, .e = w->evict, .c = &w->credits};
    lrd_store_relaxed(&store->header->private_bytes, sizeof *w + w->n_lanes * (sizeof *w->lanes + sizeof *w->active + sizeof *w->rings) + lrd_arena_private_bytes(&w->arena) +
                                                         lrd_evict_private_bytes(w->evict) + lrd_watches_private_bytes(w->watches));
    *out = w;
    return 0;
}

static void close_if(int fd)
{
    if (fd >= 0)
        close(fd);
}

void lrd_writer_destroy(struct lrd_writer *w)
{
    if (w == NULL)
        return;
    close_if(w->epoll);
    close_if(w->command_fd);
    close_if(w->drained_fd);
    close_if(w->measure_fd);
    lrd_evict_destroy(w->evict);
    lrd_watches_destroy(w->watches);
    lrd_bells_destroy(&w->bells);
    lrd_arena_fini(&w->arena);
    free(w->lanes);
    free(w->active);
    free(w->rings);
    free(w);
}

/* ---- from other threads ---- */

/* The command is there before its count, the count before the descriptor is written. */
static void tell(struct lrd_writer *w)
{
    atomic_fetch_add_explicit(&w->commands.v, 1, memory_order_release);
    lrd_doorbell_write(w->command_fd);
}

static void give(struct lrd_writer *w, uint32_t lane, enum command c)
{
    lrd_store32_release(&w->lanes[lane].command, c); /* pairs with the exchange in take_commands() */
    tell(w);
}

void lrd_writer_stop(struct lrd_writer *w)
{
    lrd_store32_release(&w->stop, 1);
    lrd_doorbell_write(w->command_fd);
}

void lrd_writer_add(struct lrd_writer *w, uint32_t lane, const struct lrd_ring *ring, int doorbell)
{
    w->lanes[lane].new_ring = ring;
    w->lanes[lane].new_doorbell = doorbell;
    give(w, lane, COMMAND_ADD);
}

void lrd_writer_lanes_known(struct lrd_writer *w)
{
    lrd_store32_release(&w->lanes_known, 1); /* pairs with the acquire in take_commands() */
    tell(w);
}

void lrd_writer_drain(struct lrd_writer *w, uint32_t lane)
{
    /* An add that was not taken yet must not be overwritten: the lane would never be drained. Bounded by one turn of the writer's loop. */
    while (lrd_load32_acquire(&w->lanes[lane].command) == COMMAND_ADD)
        lrd_pause();
    give(w, lane, COMMAND_DRAIN);
}

struct lrd_bells *lrd_writer_bells(struct lrd_writer *w) { return &w->bells; }

int lrd_writer_measure_fd(const struct lrd_writer *w) { return w->measure_fd; }

int lrd_writer_drained_fd(const struct lrd_writer *w) { return w->drained_fd; }

bool lrd_writer_drained(struct lrd_writer *w, uint32_t *lane)
{
    for (uint32_t i = 0; i < w->n_lanes; i++) {
        if (lrd_load32_acquire(&w->lanes[i].drained) != 0) { /* pairs with the release in forget() */
            lrd_store32_relaxed(&w->lanes[i].drained, 0);
            *lane = i;
            return true;
        }
    }
    return false;
}
