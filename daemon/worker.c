/* Before a new worker looks at anything else it finishes what the last one had begun, and asks why there is a new one.
 *
 *   killed by SIGKILL or SIGTERM        go on
 *   a fault                             go on: it may have been anything
 *   twice at the same record            that lane is detached: its client is cut off, all others go on
 *   three times and nothing applied     the segment itself makes us fault: it is written down and emptied, in place; everybody stays attached
 */
#include "daemon/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <event2/event.h>

#include "daemon/clients.h"
#include "daemon/log.h"
#include "daemon/measure.h"
#include "daemon/pages.h"
#include "daemon/postmortem.h"
#include "daemon/writer.h"
#include "shm/hello.h"
#include "shm/journal.h"
#include "shm/testpoint.h"

#define EXIT_BROKEN 70 /* counts as a fault */
#define FAULTS_TO_CLEAR 3u
#define REPEATS_TO_DETACH 2u

struct worker {
    const struct lrd_house *house;
    struct lrd_store store;
    struct lrd_writer *writer;
    struct lrd_clients *clients;
    struct lrd_measure *measure;
    struct event_base *base;
    struct event *on_term;
    pthread_t thread;
    bool running;
};

/* Nobody may write our segment without the keeper: the kernel kills us with it. */
static bool tie_to_keeper(pid_t keeper)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    /* It may have died between the fork and the line above; then the signal never comes. */
    if (getppid() != keeper)
        return false;
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    prctl(PR_SET_NAME, "larderd-worker", 0, 0, 0);
    /* A terminal's signals reach us as well; the keeper decides. */
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    return true;
}

/* ---- after a fault ---- */

static void detach_repeater(struct worker *w)
{
    struct lrd_journal *j = w->store.journal;
    uint64_t lane = lrd_load_relaxed(&j->fault_lane);
    if (lrd_load_relaxed(&j->fault_repeats) < REPEATS_TO_DETACH || lane == 0 || lane > w->store.r.geometry.n_lanes)
        return;
    struct lrd_lane_words *words = &w->store.lanes[lane - 1];
    lrd_log(LRD_ERROR, "lane %llu (client %llu) is detached: its record at %llu made the worker fault %llu times", (unsigned long long)lane - 1,
            (unsigned long long)lrd_load_relaxed(&words->client_pid), (unsigned long long)lrd_load_relaxed(&j->fault_position),
            (unsigned long long)lrd_load_relaxed(&j->fault_repeats));
    /* FREE but kept: lrd_clients_create() drops it, now or in the next worker. */
    lrd_store32_release(&words->state, LRD_LANE_FREE);
    lrd_store_relaxed(&j->fault_repeats, 0);
}

/* A worker that dies in here is followed by one that begins here again: `faults` goes last. */
static void empty_segment(struct worker *w)
{
    lrd_log(LRD_ERROR, "%llu faults and no record applied in between: the segment starts empty", (unsigned long long)lrd_load_relaxed(&w->store.journal->faults));
    lrd_postmortem_write(w->house, &w->store);
    LRD_TESTPOINT("clear_after_dump");
    lrd_segment_clear(&w->store);
    lrd_store_release(&w->store.journal->faults, 0);
}

static bool take_over(struct worker *w)
{
    enum lrd_segment_state state = lrd_store_init(&w->store, w->house->base, w->house->geometry.segment_bytes);
    if (state != LRD_SEGMENT_GOOD) {
        lrd_log(LRD_ERROR, "the segment is %s", lrd_segment_state_text(state));
        return false;
    }
    struct lrd_header *h = w->store.header;
    lrd_store_relaxed(&h->worker_pid, (uint64_t)getpid());
    /* Publishes the pid: who sees the new count (acquire) never takes the dead worker's pid for this one's. */
    lrd_store_release(&h->worker_count, lrd_load_relaxed(&h->worker_count) + 1);
    /* Not completing an intent is right only if everything it is about goes: it may be what we fault at. */
    if (lrd_load_relaxed(&w->store.journal->faults) >= FAULTS_TO_CLEAR)
        empty_segment(w);
    else if (lrd_journal_recover(&w->store))
        lrd_log(LRD_INFO, "completed a change that the last worker had begun");
    LRD_TESTPOINT("worker_recovered");
    detach_repeater(w);
    return true;
}

/* ---- threads ---- */

static void *write_forever(void *arg)
{
    struct worker *w = arg;
    lrd_pages_run_on(w->house->node);
    lrd_writer_run(w->writer);
    return NULL;
}

/* Signals are the clerk's. */
static int start_writer(struct worker *w)
{
    sigset_t all, before;
    struct lrd_writer_options options = {.spin_us = w->house->config->spin_us, .client_namespaces = w->house->config->client_namespaces};
    int err = lrd_writer_create(&w->writer, &w->store, &options);
    if (err < 0)
        return err;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = -pthread_create(&w->thread, NULL, write_forever, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    w->running = err == 0;
    return err;
}

static void on_term(evutil_socket_t number, short what, void *arg)
{
    struct worker *w = arg;
    (void)number, (void)what;
    event_base_loopbreak(w->base);
}

static int start_clerk(struct worker *w)
{
    w->base = event_base_new();
    w->on_term = w->base != NULL ? evsignal_new(w->base, SIGTERM, on_term, w) : NULL;
    if (w->on_term == NULL || event_add(w->on_term, NULL) < 0)
        return -ENOMEM;
    int err = lrd_measure_create(&w->measure, &w->store, lrd_writer_measure_fd(w->writer), w->base);
    if (err < 0)
        return err;
    return lrd_clients_create(&w->clients, w->house, &w->store, w->writer, w->base);
}

static void say_ready(const struct worker *w)
{
    struct lrd_keeper_message m = {.kind = LRD_KEEPER_READY};
    lrd_send_fds(w->house->keeper, &m, sizeof m, NULL, 0); /* fails only if the keeper is gone, and then so are we */
}

/* Only the thread matters: it must not apply records while the process goes away around it. */
static void stop(struct worker *w)
{
    if (w->running) {
        lrd_writer_stop(w->writer);
        pthread_join(w->thread, NULL);
    }
    lrd_clients_destroy(w->clients);
    lrd_measure_destroy(w->measure);
    if (w->on_term != NULL)
        event_free(w->on_term);
    if (w->base != NULL)
        event_base_free(w->base);
    lrd_writer_destroy(w->writer);
}

int lrd_worker_run(const struct lrd_house *house, pid_t keeper)
{
    struct worker w = {.house = house};
    if (!tie_to_keeper(keeper))
        return LRD_WORKER_DONE;
    if (!take_over(&w))
        return EXIT_BROKEN;
    int err = start_writer(&w);
    if (err == 0)
        err = start_clerk(&w);
    if (err == 0) {
        say_ready(&w);
        event_base_dispatch(w.base);
    } else
        lrd_log(LRD_ERROR, "a worker cannot start: %s", strerror(-err));
    stop(&w);
    return err == 0 ? LRD_WORKER_DONE : LRD_WORKER_LACKS;
}
