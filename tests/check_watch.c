/* Waiting for changes, feeds and the descriptor, with a daemon: who sleeps is told, who is too late is told that, and a worker that is killed loses nobody. */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libclient/larder.h"
#include "shm/clock.h"
#include "shm/namespace.h"
#include "tests/daemon_fixture.h"

#define MS UINT64_C(1000000)
#define LONG_MS 10000u /* for what takes milliseconds */

static struct daemon_fixture d;
static struct larder *a, *b; /* two processes, as far as the daemon knows */
static struct larder_ns *na, *nb;

static struct larder *open_one(void)
{
    struct larder *h;
    const struct larder_options o = {.size = sizeof o, .socket = d.socket, .open_timeout_ms = LONG_MS, .busy_timeout_ms = LONG_MS, .flags = LARDER_OPEN_NO_POPULATE};
    ck_assert_int_eq(larder_open(&h, &o), 0);
    return h;
}

static void setup_with(const char *testpoint)
{
    const char *options[] = {"--memory", "16M", "--namespace", "fed,feed=64", "--namespace", "default,feed=100", "--max-clients", "8", NULL};
    daemon_start(&d, testpoint, options);
    a = open_one();
    b = open_one();
    ck_assert_int_eq(larder_ns_open(a, "fed", &na), 0);
    ck_assert_int_eq(larder_ns_open(b, "fed", &nb), 0);
}

static void setup(void) { setup_with(NULL); }

static void teardown(void)
{
    larder_close(a);
    larder_close(b);
    daemon_stop(&d);
}

static const struct larder_set_options visible = {.size = sizeof visible, .how = LARDER_SET_WAIT};

static void set(struct larder_ns *ns, const char *key, const char *value) { ck_assert_int_eq(larder_set(ns, key, strlen(key), value, strlen(value), &visible, NULL), 0); }
static void del(struct larder_ns *ns, const char *key)
{
    larder_ticket t;
    ck_assert_int_eq(larder_delete(ns, key, strlen(key), &t), 0);
    ck_assert_int_eq(larder_wait(ns == nb ? b : a, t, LONG_MS), 0);
}

static uint64_t version_of(struct larder_ns *ns, const char *key)
{
    char buffer[64];
    struct larder_item item = {.size = sizeof item, .buffer = buffer, .capacity = sizeof buffer};
    return larder_get_item(ns, key, strlen(key), &item) == 0 ? item.version : 0;
}

/* ---- somebody else acts while we wait ---- */

enum deed { DEED_SET, DEED_DELETE, DEED_RESET, DEED_KILL_THEN_SET };

static struct {
    enum deed deed;
    unsigned after_us;
} plan;

static void *act(void *arg)
{
    (void)arg;
    pause_us(plan.after_us);
    if (plan.deed == DEED_KILL_THEN_SET)
        daemon_kill_worker(&d);
    if (plan.deed == DEED_DELETE)
        larder_delete(nb, "key", 3, NULL);
    else if (plan.deed == DEED_RESET)
        larder_ns_reset(nb);
    else
        larder_set(nb, "key", 3, "new", 3, NULL, NULL);
    return NULL;
}

static pthread_t soon(enum deed deed, unsigned after_us)
{
    pthread_t t;
    plan.deed = deed;
    plan.after_us = after_us;
    ck_assert_int_eq(pthread_create(&t, NULL, act, NULL), 0);
    return t;
}

/* ---- one key ---- */

START_TEST(test_wait_returns_at_once_if_it_is_another_version)
{
    uint64_t now = 7;
    ck_assert_int_eq(larder_wait_change(na, "key", 3, 0, 0, &now), LARDER_TIMEOUT);
    ck_assert_uint_eq(now, 0);
    set(nb, "key", "old");
    ck_assert_int_eq(larder_wait_change(na, "key", 3, 0, LONG_MS, &now), 0);
    ck_assert_uint_eq(now, version_of(na, "key"));
    ck_assert_int_eq(larder_wait_change(na, "key", 3, now, 30, &now), LARDER_TIMEOUT);
    ck_assert_int_eq(larder_wait_change(na, "key", 3, 1, 30, NULL), 0);
}
END_TEST

/* The naps are 50 ms: who is told within 20 was rung. The best of three, on a machine that others use. */
static uint64_t told_after(enum deed deed, uint64_t version, uint64_t *now)
{
    uint64_t best = UINT64_MAX;
    pthread_t t = soon(deed, 80000);
    uint64_t began = lrd_clock_ns();
    ck_assert_int_eq(larder_wait_change(na, "key", 3, version, LONG_MS, now), 0);
    best = (lrd_clock_ns() - began) / MS;
    pthread_join(t, NULL);
    return best;
}

START_TEST(test_a_sleeper_is_told)
{
    uint64_t now, ms = 1000;
    for (int i = 0; i < 5 && ms > 95; i++) {
        set(nb, "key", "old");
        ms = told_after((enum deed)_i, version_of(na, "key"), &now);
        ck_assert_int_eq(now != 0, _i == DEED_SET);
        ck_assert_uint_ge(ms, 79);
    }
    ck_assert_uint_le(ms, 95);
}
END_TEST

START_TEST(test_a_sleeper_survives_the_worker)
{
    uint64_t now;
    set(nb, "key", "old");
    told_after(DEED_KILL_THEN_SET, version_of(na, "key"), &now);
    ck_assert_uint_eq(now, version_of(na, "key"));
}
END_TEST

START_TEST(test_expiry_is_noticed)
{
    const struct larder_set_options brief = {.size = sizeof brief, .how = LARDER_SET_WAIT, .ttl_ms = 70};
    uint64_t now, began = lrd_clock_ns();
    ck_assert_int_eq(larder_set(nb, "key", 3, "v", 1, &brief, NULL), 0);
    ck_assert_int_eq(larder_wait_change(na, "key", 3, version_of(na, "key"), LONG_MS, &now), 0);
    ck_assert_uint_eq(now, 0);
    ck_assert_uint_ge((lrd_clock_ns() - began) / MS, 65);
}
END_TEST

START_TEST(test_own_writes_are_seen_first)
{
    uint64_t now, before;
    set(na, "key", "old");
    before = version_of(na, "key");
    for (int i = 0; i < 200; i++) {
        ck_assert_int_eq(larder_set(na, "key", 3, "new", 3, NULL, NULL), 0);
        ck_assert_int_eq(larder_wait_change(na, "key", 3, before, LONG_MS, &now), 0);
        ck_assert_uint_ne(now, before);
        before = now;
    }
}
END_TEST

/* More keys than a lane has room for: those without it are found by the naps. */
#define MANY 300u

static void *wait_for_one(void *arg)
{
    char key[16];
    snprintf(key, sizeof key, "many%u", (unsigned)(uintptr_t)arg);
    return (void *)(uintptr_t)larder_wait_change(na, key, strlen(key), 0, LONG_MS, NULL);
}

START_TEST(test_more_sleepers_than_room)
{
    pthread_t t[MANY];
    void *r;
    for (uintptr_t i = 0; i < MANY; i++)
        ck_assert_int_eq(pthread_create(&t[i], NULL, wait_for_one, (void *)i), 0);
    for (unsigned i = 0; i < MANY; i++) {
        char key[16];
        snprintf(key, sizeof key, "many%u", i);
        set(nb, key, "x");
    }
    for (unsigned i = 0; i < MANY; i++) {
        pthread_join(t[i], &r);
        ck_assert_ptr_null(r);
    }
}
END_TEST

/* ---- the feed ---- */

static struct larder_event e[128];

static size_t take(struct larder_watch *w, uint32_t timeout_ms, int result)
{
    size_t got;
    e[0].size = sizeof *e;
    ck_assert_int_eq(larder_watch_next(w, e, 128, &got, NULL, timeout_ms), result);
    return got;
}

START_TEST(test_a_watch_tells_what_happened)
{
    struct larder_watch *w;
    char longer[LARDER_EVENT_KEY + 2];
    memset(longer, 'l', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    set(nb, "before", "v");
    ck_assert_int_eq(larder_watch_open(na, &w), 0);
    ck_assert_uint_eq(take(w, 0, LARDER_TIMEOUT), 0);
    ck_assert_uint_eq(take(w, 60, LARDER_TIMEOUT), 0);
    set(nb, "key", "v");
    uint64_t version = version_of(na, "key");
    set(nb, longer, "v");
    del(nb, "key");
    del(nb, "key"); /* is not there any more: no event */
    ck_assert_int_eq(larder_ns_reset(nb), 0);
    ck_assert_uint_eq(take(w, 0, 0), 4);
    struct larder_key k = {.size = sizeof k, .data = "key", .data_size = 3};
    ck_assert_int_eq(larder_key_prepare(na, &k), 0);
    ck_assert(e[0].kind == LARDER_EVENT_SET && e[0].key_size == 3 && memcmp(e[0].key, "key", 3) == 0 && e[0].version == version && e[0].hash == k.hash);
    ck_assert(e[1].kind == LARDER_EVENT_SET && e[1].key_size == sizeof longer - 1 && e[1].key[0] == 0 && e[1].version != 0);
    ck_assert(e[2].kind == LARDER_EVENT_DELETE && e[2].hash == k.hash && e[2].version == 0 && e[2].key_size == 3);
    ck_assert(e[3].kind == LARDER_EVENT_RESET && e[3].hash == 0 && e[3].key_size == 0 && e[3].when_ms >= e[0].when_ms);
    ck_assert_uint_eq(take(w, 0, LARDER_TIMEOUT), 0);
    larder_watch_close(w);
}
END_TEST

START_TEST(test_a_watcher_that_sleeps_is_told)
{
    struct larder_watch *w;
    ck_assert_int_eq(larder_watch_open(na, &w), 0);
    uint64_t ms = 1000;
    for (int i = 0; i < 5 && ms > 95; i++) {
        pthread_t t = soon(DEED_SET, 80000);
        uint64_t began = lrd_clock_ns();
        ck_assert_uint_eq(take(w, LONG_MS, 0), 1);
        ms = (lrd_clock_ns() - began) / MS;
        pthread_join(t, NULL);
    }
    ck_assert_uint_le(ms, 95);
    pthread_t t = soon(DEED_KILL_THEN_SET, 20000);
    ck_assert_uint_eq(take(w, LONG_MS, 0), 1);
    pthread_join(t, NULL);
}
END_TEST

START_TEST(test_an_overtaken_watch_learns_by_how_much)
{
    struct larder_watch *w;
    uint64_t missed;
    size_t got;
    ck_assert_int_eq(larder_watch_open(na, &w), 0);
    for (int i = 0; i < 64; i++)
        set(nb, "key", "v");
    ck_assert_uint_eq(take(w, 0, 0), 64); /* all the ring */
    for (int i = 0; i < 65; i++)
        set(nb, "key", "v");
    ck_assert_int_eq(larder_watch_next(w, e, 128, &got, &missed, 0), LARDER_OVERTAKEN);
    ck_assert_uint_eq(missed, 65);
    ck_assert_uint_eq(got, 0);
    ck_assert_uint_eq(take(w, 0, LARDER_TIMEOUT), 0);
    set(nb, "key", "v");
    ck_assert_uint_eq(take(w, 0, 0), 1);
}
END_TEST

/* The writer at full speed, a ring of 64: whatever the reader misses is counted, and what it gets is in order. */
#define FAST 30000u

static void *set_fast(void *arg)
{
    (void)arg;
    for (uint64_t i = 1; i <= FAST; i++)
        if (larder_set(nb, &i, sizeof i, NULL, 0, NULL, NULL) != 0)
            return &plan;
    return NULL;
}

START_TEST(test_nothing_is_lost_uncounted)
{
    struct larder_watch *w;
    pthread_t t;
    uint64_t got_in_all = 0, missed_in_all = 0, last = 0;
    ck_assert_int_eq(larder_watch_open(na, &w), 0);
    ck_assert_int_eq(pthread_create(&t, NULL, set_fast, NULL), 0);
    while (got_in_all + missed_in_all < FAST) {
        size_t got;
        uint64_t missed;
        e[0].size = sizeof *e;
        int r = larder_watch_next(w, e, 1 + (unsigned)(got_in_all % 40), &got, &missed, LONG_MS);
        ck_assert(r == 0 || r == LARDER_OVERTAKEN);
        ck_assert((r == LARDER_OVERTAKEN) == (missed != 0) && (r == 0) == (got != 0));
        for (size_t i = 0; i < got; i++) {
            uint64_t key;
            memcpy(&key, e[i].key, sizeof key);
            ck_assert_uint_gt(key, last);
            last = key;
        }
        got_in_all += got;
        missed_in_all += missed;
    }
    void *failed;
    pthread_join(t, &failed);
    ck_assert_ptr_null(failed);
    ck_assert_int_eq(larder_flush(b, LONG_MS), 0);
    /* Too few items for any of them to have had to go. */
    ck_assert_uint_eq(got_in_all + missed_in_all, FAST);
    ck_assert_uint_eq(take(w, 0, LARDER_TIMEOUT), 0);
}
END_TEST

START_TEST(test_a_watch_in_a_child)
{
    struct larder_watch *w;
    ck_assert_int_eq(larder_watch_open(na, &w), 0);
    set(nb, "key", "v");
    pid_t pid = fork();
    if (pid == 0) {
        size_t got = 0;
        e[0].size = sizeof *e;
        int r = larder_watch_next(w, e, 128, &got, NULL, LONG_MS);
        larder_watch_close(w);
        larder_close(a);
        _exit(r != 0 || got != 1);
    }
    int status = 1;
    waitpid(pid, &status, 0);
    ck_assert_int_eq(status, 0);
    ck_assert_uint_eq(take(w, 0, 0), 1); /* its place is its own */
}
END_TEST

START_TEST(test_another_daemon)
{
    struct larder_watch *w;
    char socket[sizeof d.socket], folder[sizeof d.folder], path[160];
    const char *options[] = {"--memory", "8M", "--namespace", "fed,feed=64", "--max-clients", "8", NULL};
    ck_assert_int_eq(larder_watch_open(na, &w), 0);
    set(nb, "key", "v");
    strcpy(socket, d.socket);
    strcpy(folder, d.folder);
    daemon_stop(&d);
    size_t got;
    e[0].size = sizeof *e;
    int r = larder_watch_next(w, e, 1, &got, NULL, 700); /* no daemon; what was there can still be had, or not */
    ck_assert(r == 0 || r == LARDER_DOWN || r == LARDER_TIMEOUT);
    daemon_start(&d, NULL, options);
    /* Where the last one was. */
    snprintf(path, sizeof path, "mkdir %s && ln -s %s %s", folder, d.socket, socket);
    ck_assert_int_eq(system(path), 0);
    uint64_t end = lrd_clock_ns() + LONG_MS * MS;
    do
        r = larder_watch_next(w, e, 1, &got, NULL, 100);
    while (r != LARDER_LOST && lrd_clock_ns() < end);
    ck_assert_int_eq(r, LARDER_LOST);
    set(na, "key", "v");
    ck_assert_uint_eq(take(w, LONG_MS, 0), 1);
    ck_assert_uint_eq(take(w, 0, LARDER_TIMEOUT), 0);
    snprintf(path, sizeof path, "rm -r %s", folder);
    ck_assert_int_eq(system(path), 0);
}
END_TEST

START_TEST(test_namespaces_with_and_without)
{
    struct larder_ns *n, *m;
    struct larder_watch *w;
    const struct larder_ns_options with = {.size = sizeof with, .feed_entries = 65}, other = {.size = sizeof other, .feed_entries = 129}, huge = {.size = sizeof huge, .feed_entries = 1u << 20};
    ck_assert_int_eq(larder_ns_create(a, "none", NULL, &n), 0);
    ck_assert_int_eq(larder_watch_open(n, &w), LARDER_NO_FEED);
    ck_assert_ptr_null(w);
    ck_assert_int_eq(larder_ns_create(a, "with", &with, &n), 0);
    ck_assert_int_eq(larder_ns_create(b, "with", &with, &m), 0);
    ck_assert_int_eq(larder_ns_create(b, "with", &other, &m), LARDER_EXISTS);
    ck_assert_int_eq(larder_ns_create(b, "huge", &huge, &m), LARDER_NO_QUOTA);
    ck_assert_int_eq(larder_watch_open(n, &w), 0);
    set(nb, "key", "v"); /* another's feed */
    set(n, "key", "v");
    ck_assert_uint_eq(take(w, 0, 0), 1);
    larder_watch_close(w);
    ck_assert_int_eq(larder_watch_open(larder_default(a), &w), 0); /* as configured; freed by larder_close() */
    uint32_t entries = (uint32_t)(lrd_load_relaxed(&d.r.namespaces[0].feed) >> 32);
    ck_assert_uint_eq(entries, 128);
}
END_TEST

START_TEST(test_nonsense)
{
    struct larder_watch *w;
    size_t got = 9;
    uint64_t now = 9;
    ck_assert_int_eq(larder_wait_change(NULL, "k", 1, 0, 0, &now), -EINVAL);
    ck_assert_uint_eq(now, 0);
    ck_assert_int_eq(larder_wait_change(na, "", 0, 0, 0, NULL), -EINVAL);
    ck_assert_int_eq(larder_wait_change(na, NULL, 3, 0, 0, NULL), -EINVAL);
    ck_assert_int_eq(larder_watch_open(NULL, &w), -EINVAL);
    ck_assert_int_eq(larder_watch_open(na, NULL), -EINVAL);
    ck_assert_int_eq(larder_watch_open(na, &w), 0);
    e[0].size = sizeof *e - 8;
    ck_assert_int_eq(larder_watch_next(w, e, 1, &got, NULL, 0), -EINVAL);
    ck_assert_uint_eq(got, 0);
    e[0].size = sizeof *e;
    ck_assert_int_eq(larder_watch_next(w, e, 0, &got, NULL, 0), -EINVAL);
    ck_assert_int_eq(larder_watch_next(w, NULL, 1, &got, NULL, 0), -EINVAL);
    ck_assert_int_eq(larder_watch_next(w, e, 1, NULL, NULL, 0), -EINVAL);
    ck_assert_int_eq(larder_watch_next(NULL, e, 1, &got, NULL, 0), -EINVAL);
    larder_watch_close(NULL);
    ck_assert_int_eq(larder_event_fd(NULL), -EINVAL);
    ck_assert_int_eq(larder_event_clear(a), -EINVAL);
    ck_assert_int_eq(larder_arm_watch(w), -EINVAL);
    ck_assert_int_eq(larder_arm_watch(NULL), -EINVAL);
    ck_assert_int_eq(larder_arm_change(na, "k", 1, 0), -EINVAL);
    ck_assert_int_eq(larder_arm_ticket(a, 1), -EINVAL);
    ck_assert_int_ge(larder_event_fd(a), 0);
    ck_assert_int_eq(larder_arm_ticket(a, 0), -EINVAL);
    ck_assert_int_eq(larder_arm_change(na, "", 0, 0), -EINVAL);
}
END_TEST

/* ---- the descriptor ---- */

static bool is_readable(int fd, int timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, timeout_ms) == 1 && (p.revents & POLLIN) != 0;
}

/* A ring for something of before is behind the writer when a second record was applied after the first was. */
static int quiet_fd(void)
{
    set(larder_default(a), "quiet", "1");
    set(larder_default(a), "quiet", "2");
    int fd = larder_event_fd(a);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(larder_event_fd(a), fd);
    ck_assert_int_eq(larder_event_clear(a), 0);
    ck_assert(!is_readable(fd, 0));
    return fd;
}

START_TEST(test_a_ticket_makes_it_readable)
{
    int fd = quiet_fd();
    larder_ticket t;
    for (unsigned i = 0, rung = 0; rung < 20; i++) {
        ck_assert_uint_lt(i, 100000);
        ck_assert_int_eq(larder_set(na, "key", 3, "v", 1, NULL, &t), 0);
        int r;
        /* It may ring for a ticket of before, for which it was too late. */
        while ((r = larder_arm_ticket(a, t)) == 0) {
            ck_assert(is_readable(fd, LONG_MS));
            ck_assert_int_eq(larder_event_clear(a), 0);
            rung += larder_wait(a, t, 0) == 0;
        }
        ck_assert_int_eq(r, LARDER_CHANGED);
    }
    ck_assert_int_eq(larder_arm_ticket(a, t), LARDER_CHANGED);
}
END_TEST

static pid_t stop_worker(void) { return daemon_freeze_worker(&d); }

/* The writer is stopped: what is armed cannot happen before it goes on. */
START_TEST(test_the_lowest_of_several_tickets)
{
    int fd = quiet_fd();
    larder_ticket first, second;
    pid_t worker = stop_worker();
    ck_assert_int_eq(larder_set(na, "1", 1, "v", 1, NULL, &first), 0);
    ck_assert_int_eq(larder_set(na, "2", 1, "v", 1, NULL, &second), 0);
    ck_assert_int_eq(larder_arm_ticket(a, second), 0);
    ck_assert_int_eq(larder_arm_ticket(a, first), 0);
    ck_assert(!is_readable(fd, 0));
    kill(worker, SIGCONT);
    ck_assert(is_readable(fd, LONG_MS));
}
END_TEST

START_TEST(test_a_change_makes_it_readable)
{
    int fd = quiet_fd();
    set(nb, "key", "old");
    ck_assert_int_eq(larder_arm_change(na, "key", 3, 0), LARDER_CHANGED);
    ck_assert_int_eq(larder_arm_change(na, "key", 3, version_of(na, "key")), 0);
    ck_assert(!is_readable(fd, 30));
    set(nb, "other", "v");
    ck_assert(!is_readable(fd, 30));
    set(nb, "key", "new");
    ck_assert(is_readable(fd, LONG_MS));
    ck_assert_int_eq(larder_event_clear(a), 0);
    set(nb, "key", "newer"); /* once */
    ck_assert(!is_readable(fd, 30));
}
END_TEST

START_TEST(test_a_feed_makes_it_readable)
{
    struct larder_watch *w;
    int fd = quiet_fd();
    ck_assert_int_eq(larder_watch_open(na, &w), 0);
    ck_assert_int_eq(larder_arm_watch(w), 0);
    ck_assert(!is_readable(fd, 30));
    set(nb, "key", "v");
    ck_assert(is_readable(fd, LONG_MS));
    ck_assert_int_eq(larder_arm_watch(w), LARDER_CHANGED);
    ck_assert_int_eq(larder_event_clear(a), 0);
    ck_assert_uint_eq(take(w, 0, 0), 1);
    ck_assert_int_eq(larder_arm_watch(w), 0);
    ck_assert_int_eq(larder_ns_reset(nb), 0);
    ck_assert(is_readable(fd, LONG_MS));
}
END_TEST

/* Who sleeps in poll() cannot notice that the worker that knew of it is dead. */
START_TEST(test_a_new_worker_rings_what_was_armed)
{
    int fd = quiet_fd();
    ck_assert_int_eq(larder_arm_change(na, "key", 3, 0), 0);
    daemon_kill_worker(&d);
    ck_assert(is_readable(fd, LONG_MS));
    ck_assert_int_eq(larder_event_clear(a), 0);
    ck_assert_int_eq(larder_arm_change(na, "key", 3, 0), 0);
    larder_ticket t;
    stop_worker();
    ck_assert_int_eq(larder_set(na, "1", 1, "v", 1, NULL, &t), 0);
    ck_assert_int_eq(larder_arm_ticket(a, t), 0);
    daemon_kill_worker(&d);
    ck_assert(is_readable(fd, LONG_MS));
    ck_assert_int_eq(larder_wait(a, t, LONG_MS), 0);
}
END_TEST

START_TEST(test_the_end_of_the_daemon_makes_it_readable)
{
    int fd = quiet_fd();
    ck_assert_int_eq(larder_arm_change(na, "key", 3, 0), 0);
    ck_assert(!is_readable(fd, 0));
    daemon_stop(&d);
    ck_assert(is_readable(fd, LONG_MS));
    ck_assert_int_eq(larder_event_clear(a), 0);
    ck_assert(!is_readable(fd, 30)); /* said once */
    ck_assert_int_eq(larder_arm_change(na, "key", 3, 0), LARDER_DOWN);
    larder_close(a);
    larder_close(b);
    setup();
}
END_TEST

/* A ticket is armed in the lane, which nobody reads any more. */
START_TEST(test_a_ticket_goes_with_the_daemon)
{
    larder_ticket t;
    int fd = quiet_fd();
    stop_worker();
    ck_assert_int_eq(larder_set(na, "1", 1, "v", 1, NULL, &t), 0);
    ck_assert_int_eq(larder_arm_ticket(a, t), 0);
    ck_assert_int_eq(larder_wait(a, t, 1), LARDER_TIMEOUT); /* has looked for the daemon just now, and will not look again for a while */
    pid_t worker = (pid_t)lrd_load_relaxed(&d.r.header->worker_pid);
    kill(d.keeper, SIGKILL);
    waitpid(d.keeper, NULL, 0);
    kill(worker, SIGKILL);
    ck_assert(is_readable(fd, LONG_MS));
    ck_assert_int_eq(larder_event_clear(a), 0);
    ck_assert_int_eq(larder_wait(a, t, 0), LARDER_LOST);
    ck_assert_int_eq(larder_arm_ticket(a, t), LARDER_LOST);
    larder_close(a);
    larder_close(b);
    char command[100];
    snprintf(command, sizeof command, "rm -r %s", d.folder);
    ck_assert_int_eq(system(command), 0);
    setup();
}
END_TEST

/* Not the parent's: that rings for the parent. */
START_TEST(test_a_child_has_a_descriptor_of_its_own)
{
    int fd = quiet_fd();
    ck_assert_int_eq(larder_arm_change(na, "key", 3, 0), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int mine = larder_event_fd(a);
        bool ok = mine >= 0 && larder_arm_change(na, "child", 5, 0) == 0 && !is_readable(mine, 30);
        ok = ok && larder_set(na, "child", 5, "v", 1, NULL, NULL) == 0 && is_readable(mine, LONG_MS);
        larder_close(a);
        _exit(!ok);
    }
    int status = 1;
    waitpid(pid, &status, 0);
    ck_assert_int_eq(status, 0);
    /* A lane that ends rings who watches: leases may have ended with it. */
    ck_assert(is_readable(fd, LONG_MS));
    larder_event_clear(a);
    ck_assert_int_eq(larder_arm_change(na, "key", 3, 0), 0);
    set(nb, "key", "v");
    ck_assert(is_readable(fd, LONG_MS));
}
END_TEST

/* A client that never reads its bells costs others nothing. */
START_TEST(test_bells_that_nobody_reads)
{
    quiet_fd();
    for (int i = 0; i < 1500; i++) {
        int r = larder_arm_change(na, "key", 3, version_of(na, "key"));
        ck_assert(r == 0 || r == LARDER_CHANGED);
        set(nb, "key", "v");
    }
    ck_assert(is_readable(larder_event_fd(a), 0));
    ck_assert_int_eq(larder_event_clear(a), 0);
    ck_assert(!is_readable(larder_event_fd(a), 0));
    ck_assert_int_eq(larder_arm_change(na, "key", 3, version_of(na, "key")), 0);
    set(nb, "key", "v");
    ck_assert(is_readable(larder_event_fd(a), LONG_MS));
}
END_TEST

/* What the worker might fault at later is not taken for its fault. */
START_TEST(test_a_watch_that_is_noted_is_not_blamed)
{
    quiet_fd();
    ck_assert_int_eq(larder_arm_change(na, "key", 3, version_of(na, "key")), 0);
    uint64_t lane = 1;
    for (int i = 0; i < 1000 && (lane = lrd_load_relaxed(&d.r.journal->at_lane)) != 0; i++)
        pause_us(1000);
    ck_assert_uint_eq(lane, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("watch");
    TCase *t = tcase_create("watch");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_wait_returns_at_once_if_it_is_another_version);
    tcase_add_loop_test(t, test_a_sleeper_is_told, DEED_SET, DEED_RESET + 1);
    tcase_add_test(t, test_a_sleeper_survives_the_worker);
    tcase_add_test(t, test_expiry_is_noticed);
    tcase_add_test(t, test_own_writes_are_seen_first);
    tcase_add_test(t, test_more_sleepers_than_room);
    tcase_add_test(t, test_a_watch_tells_what_happened);
    tcase_add_test(t, test_a_watcher_that_sleeps_is_told);
    tcase_add_test(t, test_an_overtaken_watch_learns_by_how_much);
    tcase_add_test(t, test_nothing_is_lost_uncounted);
    tcase_add_test(t, test_a_watch_in_a_child);
    tcase_add_test(t, test_another_daemon);
    tcase_add_test(t, test_namespaces_with_and_without);
    tcase_add_test(t, test_nonsense);
    tcase_add_test(t, test_a_ticket_makes_it_readable);
    tcase_add_test(t, test_the_lowest_of_several_tickets);
    tcase_add_test(t, test_a_change_makes_it_readable);
    tcase_add_test(t, test_a_feed_makes_it_readable);
    tcase_add_test(t, test_a_new_worker_rings_what_was_armed);
    tcase_add_test(t, test_the_end_of_the_daemon_makes_it_readable);
    tcase_add_test(t, test_a_ticket_goes_with_the_daemon);
    tcase_add_test(t, test_a_child_has_a_descriptor_of_its_own);
    tcase_add_test(t, test_bells_that_nobody_reads);
    tcase_add_test(t, test_a_watch_that_is_noted_is_not_blamed);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
