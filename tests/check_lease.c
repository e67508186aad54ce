/* Leases and what is fetched under them, with a daemon. Two handles of this process are two clients, with a lane each: who closes one is as dead as a process that ends. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/client.h"
#include "shm/clock.h"
#include "tests/daemon_fixture.h"
#include "tests/segment_fixture.h"

static struct daemon_fixture d;
static struct larder *one, *two;
static struct larder_ns *a, *b; /* the same namespace, seen by both */

static struct larder *attach(void)
{
    const struct larder_options o = {.size = sizeof o, .socket = d.socket, .open_timeout_ms = 10000, .busy_timeout_ms = 10000};
    struct larder *h;
    ck_assert_int_eq(larder_open(&h, &o), 0);
    return h;
}

static void start(void)
{
    static const char *const options[] = {"--memory", "24M", "--block-size", "64K", "--namespace", "small,policy=refuse,min=256K", NULL};
    daemon_start(&d, NULL, options);
    one = attach();
    two = attach();
    a = larder_default(one);
    b = larder_default(two);
}

static void stop(void)
{
    larder_close(one);
    larder_close(two);
    ck_assert(daemon_check(&d));
    daemon_stop(&d);
}

/* ---- asking ---- */

static char value[64];
static struct larder_item item;
static uint64_t token;

static int ask_as(struct larder_ns *ns, const char *key, uint32_t lease_ms, uint32_t wait_ms, uint32_t how)
{
    const struct larder_lease_options o = {.size = sizeof o, .lease_ms = lease_ms, .wait_ms = wait_ms, .how = how};
    item = (struct larder_item){.size = sizeof item, .buffer = value, .capacity = sizeof value};
    return larder_get_or_lease(ns, key, strlen(key), &item, &o, &token);
}

static int ask(struct larder_ns *ns, const char *key) { return ask_as(ns, key, 0, LARDER_NO_WAIT, 0); }

static int set(struct larder_ns *ns, const char *key, const char *text, uint64_t under, int64_t soft_ttl_ms)
{
    const struct larder_set_options o = {.size = sizeof o, .token = under, .soft_ttl_ms = soft_ttl_ms, .how = LARDER_SET_WAIT};
    return larder_set(ns, key, strlen(key), text, strlen(text), &o, NULL);
}

static bool has(const char *text) { return item.result == 0 && item.value_size == strlen(text) && memcmp(value, text, item.value_size) == 0; }

static int end(struct larder_ns *ns, const char *key, uint64_t t) { return larder_lease_abort(ns, key, strlen(key), t); }

static uint64_t lease_of(struct larder_ns *ns, const char *key)
{
    ck_assert_int_eq(ask(ns, key), LARDER_LEASE);
    ck_assert_uint_ne(token, 0);
    return token;
}

/* ---- one after the other ---- */

START_TEST(test_one_loads)
{
    start();
    struct larder_entry e = {.size = sizeof e};
    struct larder_cursor cursor = {.size = sizeof cursor};
    size_t got;
    uint64_t mine = lease_of(a, "k");
    ck_assert_int_eq(item.result, LARDER_MISS);
    ck_assert_int_eq(ask(b, "k"), LARDER_HELD);
    ck_assert_uint_eq(token, 0);
    ck_assert_int_eq(ask(a, "k"), LARDER_HELD); /* a thread of the holder is nobody else */
    ck_assert_int_eq(larder_get(b, "k", 1, value, sizeof value, NULL), LARDER_MISS);
    ck_assert_int_eq(larder_scan(b, &cursor, NULL, &e, 1, &got), LARDER_END);
    ck_assert_uint_ne(lease_of(b, "other"), mine);
    ck_assert_int_eq(set(b, "k", "wrong", mine + 1, 0), LARDER_VOID);
    ck_assert_int_eq(set(a, "k", "right", mine, 0), 0);
    ck_assert_int_eq(ask(b, "k"), 0);
    ck_assert(has("right") && item.version != 0);
    ck_assert_int_eq(set(a, "k", "again", mine, 0), LARDER_VOID);
    ck_assert_int_eq(end(a, "k", mine), LARDER_VOID);
    stop();
}
END_TEST

/* Own writes count before they are visible. */
START_TEST(test_own_write_is_there)
{
    start();
    for (unsigned i = 0; i < 200; i++) {
        char key[8];
        snprintf(key, sizeof key, "%u", i);
        ck_assert_int_eq(larder_set(a, key, strlen(key), "v", 1, NULL, NULL), 0);
        ck_assert_int_eq(ask(a, key), 0);
        ck_assert_int_eq(larder_delete(a, key, strlen(key), NULL), 0);
        ck_assert_int_eq(ask(a, key), LARDER_LEASE);
    }
    stop();
}
END_TEST

START_TEST(test_a_lease_ends)
{
    start();
    uint64_t mine = lease_of(a, "aborted");
    ck_assert_int_eq(end(b, "aborted", mine + 1), LARDER_VOID);
    ck_assert_int_eq(end(a, "aborted", mine), 0);
    ck_assert_int_eq(set(a, "aborted", "v", mine, 0), LARDER_VOID);
    lease_of(b, "aborted");

    mine = lease_of(a, "set");
    ck_assert_int_eq(set(b, "set", "newer", 0, 0), 0);
    ck_assert_int_eq(set(a, "set", "older", mine, 0), LARDER_VOID);
    ck_assert_int_eq(ask(a, "set"), 0);
    ck_assert(has("newer"));

    mine = lease_of(a, "deleted");
    ck_assert_int_eq(larder_delete(b, "deleted", 7, NULL), 0);
    ck_assert_int_eq(larder_flush(two, 10000), 0);
    ck_assert_int_eq(set(a, "deleted", "v", mine, 0), LARDER_VOID);

    mine = lease_of(a, "reset");
    ck_assert_int_eq(larder_ns_reset(b), 0);
    ck_assert_int_eq(set(a, "reset", "v", mine, 0), LARDER_VOID);
    lease_of(b, "reset");

    ck_assert_int_eq(ask_as(a, "late", 60, LARDER_NO_WAIT, 0), LARDER_LEASE);
    mine = token;
    ck_assert_int_eq(ask(b, "late"), LARDER_HELD);
    pause_us(90000);
    ck_assert_int_eq(set(a, "late", "v", mine, 0), LARDER_VOID);
    ck_assert_int_eq(end(a, "late", mine), LARDER_VOID);
    lease_of(b, "late");

    lease_of(a, "holder gone");
    larder_close(one);
    uint64_t until = lrd_clock_ns() + UINT64_C(5000000000);
    int r;
    while ((r = ask(b, "holder gone")) == LARDER_HELD && lrd_clock_ns() < until)
        pause_us(1000);
    ck_assert_int_eq(r, LARDER_LEASE);
    one = attach();
    stop();
}
END_TEST

START_TEST(test_stale)
{
    start();
    ck_assert_int_eq(set(a, "k", "old", 0, 50), 0);
    ck_assert_int_eq(ask(b, "k"), 0);
    ck_assert(has("old") && item.soft_ttl_ms > 0 && item.soft_ttl_ms <= 50);
    pause_us(80000);
    uint64_t mine = lease_of(a, "k");
    ck_assert(has("old") && item.soft_ttl_ms == 0);
    ck_assert_int_eq(ask(b, "k"), LARDER_OLD);
    ck_assert(has("old") && token == 0);
    ck_assert_int_eq(ask_as(b, "k", 0, LARDER_NO_WAIT, LARDER_LEASE_FRESH), LARDER_HELD);
    ck_assert_int_eq(ask_as(b, "k", 0, 30, LARDER_LEASE_FRESH), LARDER_TIMEOUT);
    ck_assert(has("old"));
    ck_assert_int_eq(larder_get(b, "k", 1, value, sizeof value, NULL), 0);
    ck_assert_int_eq(end(a, "k", mine), 0);
    mine = lease_of(b, "k");
    ck_assert(has("old"));
    ck_assert_int_eq(ask(a, "k"), LARDER_OLD);
    ck_assert_int_eq(set(b, "k", "new", mine, 60000), 0);
    ck_assert_int_eq(ask(a, "k"), 0);
    ck_assert(has("new") && item.soft_ttl_ms > 50000);
    stop();
}
END_TEST

/* What the client takes for stale and the writer does not: nobody turns until they agree. The client's clock is ahead, by less than would make it think the daemon silent. */
START_TEST(test_clocks_that_differ)
{
    start();
    bool seen = false;
    atomic_load(&b->here->at)->zero_ns -= UINT64_C(90000000);
    for (unsigned i = 0; i < 10 && !seen; i++) { /* there are 60 ms for it */
        uint64_t began = lrd_clock_ns();
        ck_assert_int_eq(set(a, "k", "old", 0, 400), 0);
        pause_us(340000);
        int old = ask(b, "k"), held = ask_as(b, "k", 0, LARDER_NO_WAIT, LARDER_LEASE_FRESH), late = ask_as(b, "k", 0, 10, LARDER_LEASE_FRESH);
        seen = old == LARDER_OLD && held == LARDER_HELD && late == LARDER_TIMEOUT && has("old") && lrd_clock_ns() - began < UINT64_C(399000000);
    }
    ck_assert(seen);
    stop();
}
END_TEST

/* A lease is part of the item: here it does not fit. */
START_TEST(test_stale_and_as_large_as_may_be)
{
    start();
    size_t n = larder_item_max(one) - 16 - 8 - 1;
    char *large = calloc(1, n);
    const struct larder_set_options o = {.size = sizeof o, .soft_ttl_ms = 30, .how = LARDER_SET_WAIT};
    ck_assert_int_eq(larder_set(a, "k", 1, large, n, &o, NULL), 0);
    pause_us(60000);
    for (uint32_t fresh = 0; fresh < 2; fresh++) {
        const struct larder_lease_options how = {.size = sizeof how, .how = fresh != 0 ? LARDER_LEASE_FRESH : 0};
        item = (struct larder_item){.size = sizeof item, .buffer = large, .capacity = n};
        ck_assert_int_eq(larder_get_or_lease(a, "k", 1, &item, &how, &token), fresh != 0 ? -E2BIG : LARDER_OLD);
        ck_assert(item.result == 0 && item.value_size == n && token == 0);
    }
    free(large);
    stop();
}
END_TEST

START_TEST(test_known_to_be_absent)
{
    start();
    const struct larder_set_options o = {.size = sizeof o, .ttl_ms = 60};
    uint64_t mine = lease_of(a, "k");
    struct larder_set_options under = o;
    under.token = mine;
    ck_assert_int_eq(larder_set_absent(a, "k", 1, &under, NULL), 0);
    ck_assert_int_eq(ask(b, "k"), LARDER_ABSENT);
    ck_assert_int_eq(item.result, LARDER_ABSENT);
    ck_assert_int_eq(larder_set_absent(a, "k", 1, &under, NULL), LARDER_VOID);
    pause_us(90000);
    lease_of(b, "k");
    stop();
}
END_TEST

/* ---- waiting ---- */

struct waiter {
    pthread_t thread;
    const char *key;
    uint32_t wait_ms, how;
    int result;
    uint64_t token, took_ms;
    char value[32];
    struct larder_item item;
};

static void *wait_for_it(void *arg)
{
    struct waiter *w = arg;
    const struct larder_lease_options o = {.size = sizeof o, .wait_ms = w->wait_ms, .how = w->how};
    w->item = (struct larder_item){.size = sizeof w->item, .buffer = w->value, .capacity = sizeof w->value};
    uint64_t began = lrd_clock_ns();
    w->result = larder_get_or_lease(b, w->key, strlen(w->key), &w->item, &o, &w->token);
    w->took_ms = (lrd_clock_ns() - began) / 1000000u;
    return NULL;
}

static void begin_to_wait(struct waiter *w, const char *key, uint32_t wait_ms, uint32_t how)
{
    *w = (struct waiter){.key = key, .wait_ms = wait_ms, .how = how};
    ck_assert_int_eq(pthread_create(&w->thread, NULL, wait_for_it, w), 0);
    pause_us(40000);
}

static void end_to_wait(struct waiter *w) { ck_assert_int_eq(pthread_join(w->thread, NULL), 0); }

START_TEST(test_who_waits_is_told)
{
    struct waiter w[2];
    start();
    uint64_t mine = lease_of(a, "k");
    begin_to_wait(&w[0], "k", 10000, 0);
    begin_to_wait(&w[1], "k", 10000, 0);
    ck_assert_int_eq(set(a, "k", "value", mine, 0), 0);
    for (unsigned i = 0; i < 2; i++) {
        end_to_wait(&w[i]);
        ck_assert_int_eq(w[i].result, 0);
        ck_assert(w[i].item.value_size == 5 && memcmp(w[i].value, "value", 5) == 0 && w[i].took_ms < 5000);
    }
    /* one of two gets it when it is given back, and the other when that one does */
    mine = lease_of(a, "again");
    begin_to_wait(&w[0], "again", 10000, 0);
    begin_to_wait(&w[1], "again", 10000, 0);
    ck_assert_int_eq(end(a, "again", mine), 0);
    pause_us(100000);
    ck_assert_int_eq(ask(b, "again"), LARDER_HELD);
    ck_assert_int_eq(set(b, "again", "v", 0, 0), 0);
    end_to_wait(&w[0]);
    end_to_wait(&w[1]);
    ck_assert((w[0].result == LARDER_LEASE && w[1].result == 0) || (w[1].result == LARDER_LEASE && w[0].result == 0));
    /* a reset */
    lease_of(a, "reset");
    begin_to_wait(&w[0], "reset", 10000, 0);
    ck_assert_int_eq(larder_ns_reset(a), 0);
    end_to_wait(&w[0]);
    ck_assert_int_eq(w[0].result, LARDER_LEASE);
    ck_assert_uint_lt(w[0].took_ms, 5000);
    /* a fresh one only */
    ck_assert_int_eq(set(a, "soft", "old", 0, 10), 0);
    pause_us(30000);
    mine = lease_of(a, "soft");
    begin_to_wait(&w[0], "soft", 10000, LARDER_LEASE_FRESH);
    ck_assert_int_eq(set(a, "soft", "new", mine, 60000), 0);
    end_to_wait(&w[0]);
    ck_assert_int_eq(w[0].result, 0);
    ck_assert(memcmp(w[0].value, "new", 3) == 0);
    stop();
}
END_TEST

START_TEST(test_waiting_ends)
{
    struct waiter w;
    start();
    lease_of(a, "k");
    begin_to_wait(&w, "k", 150, 0);
    end_to_wait(&w);
    ck_assert_int_eq(w.result, LARDER_TIMEOUT);
    ck_assert(w.took_ms >= 149 && w.took_ms < 1000);
    /* the holder's deadline */
    ck_assert_int_eq(ask_as(a, "late", 120, LARDER_NO_WAIT, 0), LARDER_LEASE);
    begin_to_wait(&w, "late", 10000, 0);
    end_to_wait(&w);
    ck_assert_int_eq(w.result, LARDER_LEASE);
    ck_assert(w.took_ms >= 60 && w.took_ms < 1000);
    /* his end; with a worker killed in between, who forgets who watches */
    for (unsigned i = 0; i < 2; i++) {
        const char *key = i == 0 ? "dead" : "dead too";
        lease_of(a, key);
        begin_to_wait(&w, key, 10000, 0);
        if (i == 1)
            daemon_kill_worker(&d);
        larder_close(one);
        end_to_wait(&w);
        ck_assert_int_eq(w.result, LARDER_LEASE);
        ck_assert_uint_lt(w.took_ms, 5000);
        one = attach();
        a = larder_default(one);
    }
    stop();
}
END_TEST

/* A worker that is killed between grant and end changes nothing. */
START_TEST(test_lease_survives_the_worker)
{
    start();
    uint64_t mine = lease_of(a, "k");
    daemon_kill_worker(&d);
    ck_assert_int_eq(ask(b, "k"), LARDER_HELD);
    ck_assert_int_eq(set(a, "k", "v", mine, 0), 0);
    ck_assert_int_eq(ask(b, "k"), 0);
    ck_assert_uint_gt(lease_of(a, "next"), mine);
    stop();
}
END_TEST

/* ---- fetch ---- */

struct source {
    const char *text;
    size_t size;
    int64_t ttl_ms, soft_ttl_ms;
    int result;
    unsigned loads, releases;
    struct larder_ns *reset; /* meanwhile */
};

static void release(void *context, const void *bytes)
{
    struct source *s = context;
    ck_assert_ptr_eq(bytes, s->text);
    s->releases++;
}

static int load(void *context, const void *key, size_t key_size, struct larder_loaded *loaded)
{
    struct source *s = context;
    ck_assert(key != NULL && key_size > 0 && loaded->size == sizeof *loaded && loaded->value == NULL && loaded->value_size == 0 && loaded->release == NULL);
    s->loads++;
    if (s->reset != NULL)
        ck_assert_int_eq(larder_ns_reset(s->reset), 0);
    loaded->value = s->text;
    loaded->value_size = s->size != 0 ? s->size : strlen(s->text);
    loaded->ttl_ms = s->ttl_ms;
    loaded->soft_ttl_ms = s->soft_ttl_ms;
    loaded->flags = 9;
    loaded->release = release;
    return s->result;
}

static int fetch(struct larder_ns *ns, const char *key, struct source *s, size_t capacity)
{
    static const struct larder_lease_options o = {.size = sizeof o, .wait_ms = LARDER_NO_WAIT};
    s->loads = s->releases = 0;
    item = (struct larder_item){.size = sizeof item, .buffer = capacity > 0 ? value : NULL, .capacity = capacity};
    int r = larder_fetch(ns, key, strlen(key), load, s, &item, &o);
    ck_assert_uint_le(s->loads, 1);
    ck_assert_uint_eq(s->loads, s->releases);
    return r;
}

START_TEST(test_fetch)
{
    struct source s = {.text = "value", .ttl_ms = 60000};
    start();
    ck_assert_int_eq(fetch(a, "k", &s, sizeof value), 0);
    ck_assert(s.loads == 1 && has("value") && item.flags == 9 && item.ttl_ms == 60000 && item.soft_ttl_ms == LARDER_TTL_NONE);
    uint64_t version = item.version;
    ck_assert_int_eq(fetch(b, "k", &s, sizeof value), 0);
    ck_assert(s.loads == 0 && has("value") && item.flags == 9 && item.version == version && version != 0);
    /* the buffer is too small: loaded and cached all the same */
    ck_assert_int_eq(fetch(a, "small", &s, 4), LARDER_TOO_SMALL);
    ck_assert(s.loads == 1 && item.value_size == 5);
    ck_assert_int_eq(fetch(a, "small", &s, 5), 0);
    ck_assert(s.loads == 0 && has("value"));
    s.text = "";
    ck_assert_int_eq(fetch(a, "empty", &s, 0), 0);
    ck_assert(s.loads == 1 && item.value_size == 0);
    ck_assert_int_eq(fetch(a, "empty", &s, 0), 0);
    ck_assert_uint_eq(s.loads, 0);
    /* none */
    s = (struct source){.text = NULL, .result = LARDER_ABSENT, .ttl_ms = 60000, .size = 1};
    ck_assert_int_eq(fetch(a, "none", &s, sizeof value), LARDER_ABSENT);
    ck_assert(s.loads == 1 && item.result == LARDER_ABSENT);
    ck_assert_int_eq(fetch(b, "none", &s, sizeof value), LARDER_ABSENT);
    ck_assert_uint_eq(s.loads, 0);
    /* failed: the next may try at once */
    s = (struct source){.text = "x", .result = -EIO};
    ck_assert_int_eq(fetch(a, "failed", &s, sizeof value), -EIO);
    ck_assert_uint_eq(s.loads, 1);
    s.result = 0;
    ck_assert_int_eq(fetch(b, "failed", &s, sizeof value), 0);
    ck_assert_uint_eq(s.loads, 1);
    /* nothing, with a length */
    s = (struct source){.text = NULL, .size = 5};
    ck_assert_int_eq(fetch(a, "bad", &s, sizeof value), -EINVAL);
    lease_of(b, "bad");
    /* somebody else is at it */
    lease_of(b, "held");
    s.text = "y";
    ck_assert_int_eq(fetch(a, "held", &s, sizeof value), LARDER_HELD);
    ck_assert_uint_eq(s.loads, 0);
    stop();
}
END_TEST

START_TEST(test_fetch_of_what_is_stale)
{
    struct source s = {.text = "old", .soft_ttl_ms = 40};
    start();
    ck_assert_int_eq(fetch(a, "k", &s, sizeof value), 0);
    ck_assert_int_eq(item.soft_ttl_ms, 40);
    pause_us(60000);
    uint64_t mine = lease_of(b, "k");
    s.text = "new";
    ck_assert_int_eq(fetch(a, "k", &s, sizeof value), 0);
    ck_assert(s.loads == 0 && has("old") && item.soft_ttl_ms == 0);
    ck_assert_int_eq(end(b, "k", mine), 0);
    s.result = -EIO; /* it stays as it is */
    ck_assert_int_eq(fetch(a, "k", &s, sizeof value), -EIO);
    ck_assert(has("old"));
    s.result = 0;
    s.soft_ttl_ms = 60000;
    ck_assert_int_eq(fetch(a, "k", &s, sizeof value), 0);
    ck_assert(s.loads == 1 && has("new"));
    ck_assert_int_eq(fetch(b, "k", &s, sizeof value), 0);
    ck_assert(s.loads == 0 && has("new"));
    stop();
}
END_TEST

/* The caller gets what was loaded, whatever becomes of it. */
START_TEST(test_fetch_without_a_cache)
{
    static char large[2 << 20];
    struct source s = {.text = "value"};
    start();
    s.reset = b;
    ck_assert_int_eq(fetch(a, "k", &s, sizeof value), 0);
    ck_assert(has("value") && item.version == 0);
    s.reset = NULL;
    lease_of(b, "k");
    /* no place: others need not wait */
    s = (struct source){.text = large, .size = sizeof large};
    ck_assert_int_eq(fetch(a, "large", &s, sizeof value), LARDER_TOO_SMALL);
    lease_of(b, "large");
    s = (struct source){.text = "v", .ttl_ms = -7};
    ck_assert_int_eq(fetch(a, "times", &s, sizeof value), 0);
    ck_assert(has("v") && item.version == 0);
    lease_of(b, "times");
    /* a namespace that refuses, and is full */
    struct larder_ns *small;
    ck_assert_int_eq(larder_ns_open(one, "small", &small), 0);
    int r = 0;
    for (unsigned i = 0; i < 100000 && r == 0; i++)
        r = larder_set(small, &i, sizeof i, large, 1000, NULL, NULL);
    for (unsigned i = 0; i < 100000 && r != LARDER_FULL; i++)
        r = larder_set(small, &i, 2, large, 1, NULL, NULL);
    ck_assert_int_eq(r, LARDER_FULL);
    s = (struct source){.text = "value"};
    ck_assert_int_eq(fetch(small, "k", &s, sizeof value), 0);
    ck_assert(s.loads == 1 && has("value"));
    /* no daemon */
    daemon_stop(&d);
    r = LARDER_LEASE;
    uint64_t until = lrd_clock_ns() + UINT64_C(10000000000);
    while ((r = ask(a, "gone")) != LARDER_DOWN && lrd_clock_ns() < until)
        pause_us(10000);
    ck_assert_int_eq(r, LARDER_DOWN);
    ck_assert_int_eq(fetch(a, "gone", &s, sizeof value), 0);
    ck_assert(s.loads == 1 && has("value") && item.version == 0);
    larder_close(one);
    larder_close(two);
}
END_TEST

/* ---- what cannot be asked ---- */

START_TEST(test_bad_input)
{
    static const char key[LARDER_KEY_MAX + 1];
    struct larder_lease_options o = {.size = sizeof o};
    struct source s = {.text = "v"};
    start();
    item = (struct larder_item){.size = sizeof item, .buffer = value, .capacity = sizeof value};
#define refused(...) ck_assert_int_eq(larder_get_or_lease(__VA_ARGS__), -EINVAL)
    refused(NULL, "k", 1, &item, &o, &token);
    refused(a, NULL, 1, &item, &o, &token);
    refused(a, "k", 0, &item, &o, &token);
    refused(a, key, sizeof key, &item, &o, &token);
    refused(a, "k", 1, NULL, &o, &token);
    refused(a, "k", 1, &item, &o, NULL);
    o.size--;
    refused(a, "k", 1, &item, &o, &token);
    o = (struct larder_lease_options){.size = sizeof o, .how = 2};
    refused(a, "k", 1, &item, &o, &token);
    o = (struct larder_lease_options){.size = sizeof o, .lease_ms = 3600001};
    refused(a, "k", 1, &item, &o, &token);
    o = (struct larder_lease_options){.size = sizeof o, .reserved = 1};
    refused(a, "k", 1, &item, &o, &token);
    item.buffer = NULL;
    refused(a, "k", 1, &item, NULL, &token);
    item.capacity = 0;
    ck_assert_int_eq(larder_get_or_lease(a, "k", 1, &item, NULL, &token), LARDER_LEASE);
    ck_assert_int_eq(larder_lease_abort(NULL, "k", 1, token), -EINVAL);
    ck_assert_int_eq(larder_lease_abort(a, NULL, 1, token), -EINVAL);
    ck_assert_int_eq(larder_lease_abort(a, "k", 0, token), -EINVAL);
    ck_assert_int_eq(larder_lease_abort(a, "k", 1, 0), -EINVAL);
    ck_assert_int_eq(larder_lease_abort(a, "k", 1, token + 1), LARDER_VOID);
    ck_assert_int_eq(larder_lease_abort(a, "j", 1, token), LARDER_VOID);
    ck_assert_int_eq(larder_lease_abort(a, "k", 1, token), 0);
    ck_assert_int_eq(larder_fetch(a, "k", 1, NULL, NULL, &item, NULL), -EINVAL);
    ck_assert_int_eq(larder_fetch(NULL, "k", 1, load, &s, &item, NULL), -EINVAL);
    ck_assert_int_eq(larder_fetch(a, "k", 1, load, &s, NULL, NULL), -EINVAL);
    ck_assert_uint_eq(s.loads, 0);
    /* closed */
    larder_close(one);
    item = (struct larder_item){.size = sizeof item, .buffer = value, .capacity = sizeof value};
    ck_assert_int_eq(larder_get_or_lease(a, "k", 1, &item, NULL, &token), -EBADF);
    ck_assert_int_eq(larder_fetch(a, "k", 1, load, &s, &item, NULL), -EBADF);
    ck_assert_int_eq(larder_lease_abort(a, "k", 1, 1), -EBADF);
    struct larder_entry e = {.size = sizeof e};
    struct larder_cursor cursor = {.size = sizeof cursor};
    size_t got;
    ck_assert_int_eq(larder_scan(a, &cursor, NULL, &e, 1, &got), -EBADF);
    one = attach();
    stop();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("lease");
    TCase *c = tcase_create("lease");
    tcase_add_test(c, test_one_loads);
    tcase_add_test(c, test_own_write_is_there);
    tcase_add_test(c, test_a_lease_ends);
    tcase_add_test(c, test_clocks_that_differ);
    tcase_add_test(c, test_stale);
    tcase_add_test(c, test_stale_and_as_large_as_may_be);
    tcase_add_test(c, test_known_to_be_absent);
    tcase_add_test(c, test_who_waits_is_told);
    tcase_add_test(c, test_waiting_ends);
    tcase_add_test(c, test_lease_survives_the_worker);
    tcase_add_test(c, test_fetch);
    tcase_add_test(c, test_fetch_of_what_is_stale);
    tcase_add_test(c, test_fetch_without_a_cache);
    tcase_add_test(c, test_bad_input);
    tcase_set_timeout(c, 60);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
