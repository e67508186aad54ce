/* Conditional writes, as a client asks for them and as a real daemon decides them; and the places in the lane for their results. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libclient/larder.h"
#include "shm/clock.h"
#include "shm/layout.h"
#include "shm/ring.h"
#include "tests/daemon_fixture.h"

#define PATIENCE_MS 20000u /* for what takes microseconds */

static struct daemon_fixture d; /* of all tests; each has a handle of its own */
static struct larder *h;
static struct larder_ns *ns;

static struct larder *attach(void)
{
    struct larder *out;
    const struct larder_options o = {.size = sizeof o, .socket = d.socket, .busy_timeout_ms = 10000};
    ck_assert_int_eq(larder_open(&out, &o), 0);
    return out;
}

static void setup(void)
{
    h = attach();
    ns = larder_default(h);
    ck_assert_int_eq(larder_ns_reset(ns), 0);
}

static void teardown(void) { larder_close(h); }

static const char *const daemon_options[] = {"--memory", "64M", NULL};
static void start(void) { daemon_start(&d, NULL, daemon_options); }
static void stop(void) { daemon_stop(&d); }

static void worker_signal(int sig) { ck_assert_int_eq(kill((pid_t)lrd_load_relaxed(&d.r.header->worker_pid), sig), 0); }

static void worker_stop(void) { daemon_freeze_worker(&d); }

/* What is there, with its version. The buffer stays until the next call. */
static char got[256];
static struct larder_item look(const char *key)
{
    struct larder_item item = {.size = sizeof item, .buffer = got, .capacity = sizeof got - 1};
    ck_assert_int_eq(larder_flush(h, PATIENCE_MS), 0);
    memset(got, 0, sizeof got);
    larder_get_item(ns, key, strlen(key), &item);
    return item;
}

static const char *value_of(const char *key)
{
    struct larder_item item = look(key);
    return item.result == 0 ? got : item.result == LARDER_MISS ? "(missing)" : "(something else)";
}

static uint64_t version_of(const char *key) { return look(key).version; }

static int set(const char *key, const char *value) { return larder_set(ns, key, strlen(key), value, strlen(value), NULL, NULL); }
static int add(const char *key, const char *value) { return larder_add(ns, key, strlen(key), value, strlen(value), NULL, NULL); }
static int replace(const char *key, const char *value) { return larder_replace(ns, key, strlen(key), value, strlen(value), NULL, NULL); }
static int cas(const char *key, const char *value, uint64_t version) { return larder_cas(ns, key, strlen(key), value, strlen(value), version, NULL, NULL); }
static int append(const char *key, const char *value) { return larder_append(ns, key, strlen(key), value, strlen(value), NULL, NULL); }
static int prepend(const char *key, const char *value) { return larder_prepend(ns, key, strlen(key), value, strlen(value), NULL, NULL); }

static const struct larder_set_options async = {.size = sizeof async, .how = LARDER_SET_ASYNC};

/* ---- what each of them does ---- */

START_TEST(values_under_a_condition)
{
    ck_assert_int_eq(replace("k", "a"), LARDER_MISS);
    ck_assert_int_eq(add("k", "b"), 0);
    ck_assert_int_eq(add("k", "c"), LARDER_EXISTS);
    ck_assert_str_eq(value_of("k"), "b");
    ck_assert_int_eq(replace("k", "d"), 0);
    ck_assert_str_eq(value_of("k"), "d");

    uint64_t version = version_of("k");
    ck_assert_uint_ne(version, 0);
    ck_assert_int_eq(cas("k", "e", version + 1), LARDER_CHANGED);
    ck_assert_int_eq(cas("k", "e", version), 0);
    ck_assert_int_eq(cas("k", "f", version), LARDER_CHANGED);
    ck_assert_int_eq(cas("other", "f", version), LARDER_MISS);
    ck_assert_str_eq(value_of("k"), "e");
    ck_assert_str_eq(value_of("other"), "(missing)");

    ck_assert_int_eq(larder_delete_if(ns, "k", 1, version, NULL, NULL), LARDER_CHANGED);
    ck_assert_str_eq(value_of("k"), "e");
    ck_assert_int_eq(larder_delete_if(ns, "k", 1, version_of("k"), NULL, NULL), 0);
    ck_assert_str_eq(value_of("k"), "(missing)");
    ck_assert_int_eq(larder_delete_if(ns, "k", 1, version, NULL, NULL), LARDER_MISS);

    /* An expired item is none. */
    const struct larder_set_options brief = {.size = sizeof brief, .ttl_ms = 1, .flags = 7};
    ck_assert_int_eq(larder_add(ns, "k", 1, "g", 1, &brief, NULL), 0);
    pause_us(100000); /* the writer looks at the clock before it looks at the ring, and may lose its core in between */
    ck_assert_int_eq(replace("k", "h"), LARDER_MISS);
    ck_assert_int_eq(add("k", ""), 0);
    ck_assert_str_eq(value_of("k"), "");
}
END_TEST

START_TEST(what_is_stored_with_it)
{
    const struct larder_set_options o = {.size = sizeof o, .ttl_ms = 60000, .flags = 77, .how = LARDER_SET_WAIT};
    ck_assert_int_eq(larder_add(ns, "k", 1, "v", 1, &o, NULL), 0);
    struct larder_item item = look("k");
    ck_assert_uint_eq(item.flags, 77);
    ck_assert(item.ttl_ms > 50000 && item.ttl_ms <= 60000);
    /* A place and an expiry with it; see there for what they are good for. */
    const struct larder_set_options soft = {.size = sizeof soft, .soft_ttl_ms = 1000, .how = LARDER_SET_ALIGNED};
    ck_assert_int_eq(larder_replace(ns, "k", 1, "aligned", 7, &soft, NULL), 0);
    ck_assert_str_eq(value_of("k"), "aligned");
    ck_assert_int_eq(append("k", " still"), 0);
    ck_assert_str_eq(value_of("k"), "aligned still");
}
END_TEST

START_TEST(joining)
{
    const struct larder_set_options o = {.size = sizeof o, .ttl_ms = 60000, .flags = 5};
    ck_assert_int_eq(append("k", "x"), LARDER_MISS);
    ck_assert_int_eq(prepend("k", "x"), LARDER_MISS);
    ck_assert_int_eq(larder_set(ns, "k", 1, "middle", 6, &o, NULL), 0);
    ck_assert_int_eq(append("k", " end"), 0);
    ck_assert_int_eq(prepend("k", "begin "), 0);
    struct larder_item item = look("k");
    ck_assert_str_eq(got, "begin middle end");
    ck_assert_uint_eq(item.flags, 5);
    ck_assert(item.ttl_ms > 50000 && item.ttl_ms <= 60000);
    ck_assert_int_eq(append("k", ""), 0);
    ck_assert_uint_ne(version_of("k"), item.version);
    ck_assert_str_eq(value_of("k"), "begin middle end");

    /* Two halves that are too much together. */
    size_t half = larder_item_max(h) / 2;
    char *bytes = calloc(1, half);
    ck_assert_int_eq(larder_set(ns, "large", 5, bytes, half, NULL, NULL), 0);
    ck_assert_int_eq(larder_append(ns, "large", 5, bytes, half, NULL, NULL), -E2BIG);
    ck_assert_int_eq(larder_prepend(ns, "large", 5, bytes, half, NULL, NULL), -E2BIG);
    ck_assert_int_eq(larder_append(ns, "large", 5, bytes, half - 40, NULL, NULL), 0);
    free(bytes);
}
END_TEST

START_TEST(touching)
{
    struct larder_set_options o = {.size = sizeof o, .ttl_ms = 60000};
    ck_assert_int_eq(larder_touch(ns, "k", 1, &o, NULL), LARDER_MISS);
    ck_assert_int_eq(set("k", "v"), 0);
    ck_assert_int_eq(look("k").ttl_ms, LARDER_TTL_NONE);
    uint64_t version = version_of("k");
    ck_assert_int_eq(larder_touch(ns, "k", 1, &o, NULL), 0);
    struct larder_item item = look("k");
    ck_assert(item.ttl_ms > 50000 && item.ttl_ms <= 60000);
    ck_assert_uint_ne(item.version, version);
    o.ttl_ms = LARDER_TTL_NONE;
    ck_assert_int_eq(larder_touch(ns, "k", 1, &o, NULL), 0);
    ck_assert_int_eq(look("k").ttl_ms, LARDER_TTL_NONE);

    const struct larder_ns_options brief = {.size = sizeof brief, .default_ttl_ms = 70000};
    ck_assert_int_eq(larder_ns_create(h, "brief", &brief, &ns), 0);
    o.ttl_ms = LARDER_TTL_NONE;
    ck_assert_int_eq(larder_set(ns, "k", 1, "v", 1, &o, NULL), 0);
    ck_assert_int_eq(larder_touch(ns, "k", 1, NULL, NULL), 0);
    item = look("k");
    ck_assert(item.ttl_ms > 60000 && item.ttl_ms <= 70000);
}
END_TEST

START_TEST(counting)
{
    int64_t n = 99;
    struct larder_incr_options o = {.size = sizeof o, .how = LARDER_INCR_CREATE, .initial = 10, .ttl_ms = 60000, .flags = 3};
    ck_assert_int_eq(larder_incr(ns, "n", 1, 1, NULL, &n, NULL), LARDER_MISS);
    ck_assert_int_eq(n, 99);
    ck_assert_int_eq(larder_incr(ns, "n", 1, 5, &o, &n, NULL), 0);
    ck_assert_int_eq(n, 15);
    ck_assert_int_eq(larder_decr(ns, "n", 1, 20, NULL, &n, NULL), 0);
    ck_assert_int_eq(n, -5);
    ck_assert_int_eq(larder_incr(ns, "n", 1, 0, NULL, NULL, NULL), 0);
    o.ttl_ms = LARDER_TTL_NONE;
    o.flags = 4;
    ck_assert_int_eq(larder_decr(ns, "n", 1, -1, &o, &n, NULL), 0);
    struct larder_item item = look("n");
    ck_assert_str_eq(got, "-4");
    ck_assert_uint_eq(item.flags, 3); /* of who made it */
    ck_assert(item.ttl_ms > 50000 && item.ttl_ms <= 60000);

    ck_assert_int_eq(set("n", "9223372036854775806"), 0);
    ck_assert_int_eq(larder_incr(ns, "n", 1, 1, NULL, &n, NULL), 0);
    ck_assert_int_eq(n, INT64_MAX);
    ck_assert_int_eq(larder_incr(ns, "n", 1, 1, NULL, &n, NULL), LARDER_OVERFLOW);
    ck_assert_int_eq(n, INT64_MAX);
    ck_assert_str_eq(value_of("n"), "9223372036854775807");
    ck_assert_int_eq(larder_incr(ns, "n", 1, INT64_MIN, NULL, &n, NULL), 0);
    ck_assert_int_eq(n, -1);
    ck_assert_int_eq(larder_decr(ns, "n", 1, INT64_MAX, NULL, &n, NULL), 0);
    ck_assert_int_eq(n, INT64_MIN);
    ck_assert_int_eq(larder_decr(ns, "n", 1, 1, NULL, &n, NULL), LARDER_OVERFLOW);
    ck_assert_int_eq(set("n", "four"), 0);
    ck_assert_int_eq(larder_incr(ns, "n", 1, 1, &o, &n, NULL), LARDER_NOT_A_NUMBER);
    ck_assert_str_eq(value_of("n"), "four");
    o.initial = INT64_MAX;
    ck_assert_int_eq(larder_incr(ns, "m", 1, 1, &o, &n, NULL), LARDER_OVERFLOW);
    ck_assert_str_eq(value_of("m"), "(missing)");
}
END_TEST

START_TEST(exchanging)
{
    char buffer[8];
    struct larder_item old = {.size = sizeof old, .buffer = buffer, .capacity = sizeof buffer};
    const struct larder_set_options o = {.size = sizeof o, .ttl_ms = 60000, .flags = 9};
    ck_assert_int_eq(larder_exchange(ns, "k", 1, "first", 5, NULL, &old), 0);
    ck_assert_int_eq(old.result, LARDER_MISS);
    uint64_t version = version_of("k");
    ck_assert_int_eq(larder_exchange(ns, "k", 1, "second one", 10, &o, &old), 0);
    ck_assert_int_eq(old.result, 0);
    ck_assert_uint_eq(old.version, version);
    ck_assert_uint_eq(old.value_size, 5);
    ck_assert_mem_eq(buffer, "first", 5);
    ck_assert(old.buffer == buffer && old.capacity == sizeof buffer && old.how == 0);
    ck_assert_uint_eq(look("k").flags, 9);
    ck_assert_str_eq(got, "second one");
    /* Too large for the buffer: says so, changes nothing. */
    ck_assert_int_eq(larder_exchange(ns, "k", 1, "third", 5, NULL, &old), LARDER_TOO_SMALL);
    ck_assert_uint_eq(old.value_size, 10);
    ck_assert_int_eq(old.result, LARDER_TOO_SMALL);
    ck_assert_str_eq(value_of("k"), "second one");
    /* What this process has just written is there to be exchanged. */
    for (unsigned i = 0; i < 200; i++) {
        ck_assert_int_eq(larder_set(ns, "k", 1, &i, sizeof i, NULL, NULL), 0);
        ck_assert_int_eq(larder_exchange(ns, "k", 1, "x", 1, NULL, &old), 0);
        ck_assert_mem_eq(buffer, &i, sizeof i);
    }
}
END_TEST

START_TEST(getting_and_touching)
{
    char buffer[8];
    struct larder_item item = {.size = sizeof item, .buffer = buffer, .capacity = sizeof buffer};
    ck_assert_int_eq(larder_get_and_touch(ns, "k", 1, 1000, &item), LARDER_MISS);
    ck_assert_int_eq(item.result, LARDER_MISS);
    ck_assert_int_eq(set("k", "value"), 0);
    ck_assert_int_eq(larder_get_and_touch(ns, "k", 1, 60000, &item), 0);
    ck_assert_uint_eq(item.value_size, 5);
    ck_assert_mem_eq(buffer, "value", 5);
    ck_assert_int_eq(item.ttl_ms, 60000);
    struct larder_item now = look("k");
    ck_assert_uint_eq(now.version, item.version);
    ck_assert(now.ttl_ms > 50000 && now.ttl_ms <= 60000);
    ck_assert_int_eq(larder_get_and_touch(ns, "k", 1, LARDER_TTL_DEFAULT, &item), 0);
    ck_assert_int_eq(item.ttl_ms, LARDER_TTL_NONE);
    ck_assert_int_eq(look("k").ttl_ms, LARDER_TTL_NONE);
    ck_assert_int_eq(set("k", "too long for it"), 0);
    uint64_t version = version_of("k");
    ck_assert_int_eq(larder_get_and_touch(ns, "k", 1, 60000, &item), LARDER_TOO_SMALL);
    ck_assert_uint_eq(item.value_size, 15);
    ck_assert_uint_eq(version_of("k"), version);
}
END_TEST

START_TEST(known_to_be_absent)
{
    larder_ticket ticket;
    struct larder_outcome outcome = {.size = sizeof outcome};
    struct larder_set_options o = {.size = sizeof o, .ttl_ms = 60000, .how = LARDER_SET_WAIT};
    ck_assert_int_eq(set("k", "v"), 0);
    ck_assert_int_eq(larder_set_absent(ns, "k", 1, &o, &ticket), 0);
    ck_assert_int_eq(larder_wait(h, ticket, 0), 0);
    ck_assert_int_eq(larder_result(h, ticket, 0, &outcome), LARDER_FORGOTTEN);
    ck_assert_int_eq(replace("k", "v"), LARDER_MISS);
    ck_assert_int_eq(append("k", "v"), LARDER_MISS);
    ck_assert_int_eq(add("k", "w"), 0);
    ck_assert_str_eq(value_of("k"), "w");
    o.token = 12345; /* nobody's */
    ck_assert_int_eq(larder_set_absent(ns, "k", 1, &o, &ticket), LARDER_VOID);
    ck_assert_int_eq(larder_set(ns, "k", 1, "x", 1, &o, &ticket), LARDER_VOID);
    ck_assert_int_eq(larder_set(ns, "l", 1, "x", 1, &o, &ticket), LARDER_VOID);
    ck_assert_str_eq(value_of("k"), "w");
    ck_assert_str_eq(value_of("l"), "(missing)");
    o.token = 0;
    ck_assert_int_eq(larder_set_absent(ns, "k", 1, &o, NULL), 0);
    struct larder_item old = {.size = sizeof old};
    ck_assert_int_eq(larder_exchange(ns, "k", 1, "x", 1, NULL, &old), 0);
    ck_assert_int_eq(old.result, LARDER_ABSENT);
    ck_assert_str_eq(value_of("k"), "x");
}
END_TEST

/* ---- what cannot be asked for ---- */

enum call { ADD, REPLACE, CAS, APPEND, PREPEND, TOUCH, DELETE_IF, SET_ABSENT, EXCHANGE, N_CALLS };

static bool has_value(int call) { return call != TOUCH && call != DELETE_IF && call != SET_ABSENT; }

static int ask(int call, struct larder_ns *n, const void *key, size_t key_size, const void *value, size_t size, const struct larder_set_options *o, larder_ticket *t)
{
    struct larder_item old = {.size = sizeof old, .buffer = got, .capacity = sizeof got};
    switch (call) {
    case ADD:
        return larder_add(n, key, key_size, value, size, o, t);
    case REPLACE:
        return larder_replace(n, key, key_size, value, size, o, t);
    case CAS:
        return larder_cas(n, key, key_size, value, size, 1, o, t);
    case APPEND:
        return larder_append(n, key, key_size, value, size, o, t);
    case PREPEND:
        return larder_prepend(n, key, key_size, value, size, o, t);
    case TOUCH:
        return larder_touch(n, key, key_size, o, t);
    case DELETE_IF:
        return larder_delete_if(n, key, key_size, 1, o, t);
    case SET_ABSENT:
        return larder_set_absent(n, key, key_size, o, t);
    default:
        return larder_exchange(n, key, key_size, value, size, o, &old);
    }
}

static void refuses(int call, struct larder_set_options o)
{
    larder_ticket t = 7;
    ck_assert_int_eq(ask(call, ns, "k", 1, "v", 1, &o, &t), -EINVAL);
    if (call != EXCHANGE)
        ck_assert_uint_eq(t, 0);
}

START_TEST(bad_input)
{
    const int c = _i;
    static char long_key[LARDER_KEY_MAX + 1];
    const size_t size = sizeof(struct larder_set_options);
    ck_assert_int_eq(ask(c, NULL, "k", 1, "v", 1, NULL, NULL), -EINVAL);
    ck_assert_int_eq(ask(c, ns, NULL, 1, "v", 1, NULL, NULL), -EINVAL);
    ck_assert_int_eq(ask(c, ns, "k", 0, "v", 1, NULL, NULL), -EINVAL);
    ck_assert_int_eq(ask(c, ns, long_key, sizeof long_key, "v", 1, NULL, NULL), -EINVAL);
    if (has_value(c)) {
        char *large = calloc(1, larder_item_max(h));
        ck_assert_int_eq(ask(c, ns, "k", 1, NULL, 1, NULL, NULL), -EINVAL);
        ck_assert_int_eq(ask(c, ns, "k", 1, large, larder_item_max(h), NULL, NULL), -E2BIG);
        ck_assert_int_eq(ask(c, ns, "k", 1, "v", (size_t)LRD_VALUE_MAX + 1, NULL, NULL), -E2BIG);
        ck_assert_int_eq(ask(c, ns, "k", 1, "v", SIZE_MAX, NULL, NULL), -E2BIG);
        free(large);
    }
    refuses(c, (struct larder_set_options){.size = size - 1});
    refuses(c, (struct larder_set_options){.size = size, .how = 1u << 10});
    refuses(c, (struct larder_set_options){.size = size, .how = LARDER_INCR_CREATE});
    refuses(c, (struct larder_set_options){.size = size, .how = LARDER_SET_WAIT | LARDER_SET_ASYNC});
    refuses(c, (struct larder_set_options){.size = size, .reserved = 1});
    refuses(c, (struct larder_set_options){.size = size, .ttl_ms = -2});
    refuses(c, (struct larder_set_options){.size = size, .ttl_ms = (int64_t)LRD_EXPIRES_MAX});
    refuses(c, (struct larder_set_options){.size = size, .ttl_ms = INT64_MAX});
    refuses(c, (struct larder_set_options){.size = size, .soft_ttl_ms = -1});
    refuses(c, (struct larder_set_options){.size = size, .soft_ttl_ms = INT64_MAX});
    if (c != SET_ABSENT)
        refuses(c, (struct larder_set_options){.size = size, .token = 1});
    else
        refuses(c, (struct larder_set_options){.size = size, .soft_ttl_ms = 1000});
    if (c == APPEND || c == PREPEND || c == DELETE_IF)
        refuses(c, (struct larder_set_options){.size = size, .ttl_ms = 1000});
    if (c == APPEND || c == PREPEND || c == DELETE_IF || c == TOUCH) {
        refuses(c, (struct larder_set_options){.size = size, .flags = 1});
        refuses(c, (struct larder_set_options){.size = size, .soft_ttl_ms = 1000});
    }
    if (!has_value(c) || c == APPEND || c == PREPEND)
        refuses(c, (struct larder_set_options){.size = size, .how = LARDER_SET_ALIGNED});
    if (c == EXCHANGE)
        refuses(c, async);
    ck_assert_int_eq(look("k").result, LARDER_MISS);
}
END_TEST

START_TEST(other_bad_input)
{
    static char long_key[LARDER_KEY_MAX + 1];
    const size_t size = sizeof(struct larder_incr_options);
    const struct larder_incr_options bad[] = {{.size = size - 1},
                                              {.size = size, .how = LARDER_SET_WAIT},
                                              {.size = size, .how = LARDER_SET_ALIGNED},
                                              {.size = size, .reserved = 1},
                                              {.size = size, .ttl_ms = -2},
                                              {.size = size, .how = LARDER_INCR_CREATE, .ttl_ms = INT64_MAX},
                                              {.size = size, .how = LARDER_INCR_CREATE, .ttl_ms = (int64_t)LRD_EXPIRES_MAX}};
    int64_t n = 5;
    larder_ticket t = 7;
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_int_eq(larder_incr(ns, "k", 1, 1, &bad[i], &n, &t), -EINVAL);
    ck_assert_int_eq(larder_incr(NULL, "k", 1, 1, NULL, &n, &t), -EINVAL);
    ck_assert_int_eq(larder_incr(ns, "", 0, 1, NULL, &n, &t), -EINVAL);
    ck_assert_int_eq(larder_incr(ns, NULL, 1, 1, NULL, &n, &t), -EINVAL);
    ck_assert_int_eq(larder_incr(ns, long_key, sizeof long_key, 1, NULL, &n, &t), -EINVAL);
    ck_assert_int_eq(larder_decr(ns, "k", 1, INT64_MIN, NULL, &n, &t), -EINVAL);
    ck_assert(n == 5 && t == 0);
    t = 7;
    ck_assert_int_eq(larder_cas(ns, "k", 1, "v", 1, 0, NULL, &t), -EINVAL);
    ck_assert_uint_eq(t, 0);
    ck_assert_int_eq(larder_delete_if(ns, "k", 1, 0, NULL, NULL), -EINVAL);

    struct larder_item item = {.size = sizeof item};
    struct larder_item bad_item[] = {{.size = sizeof item - 1}, {.size = sizeof item, .capacity = 1}, {.size = sizeof item, .how = 1u << 20}};
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(larder_get_and_touch(ns, "k", 1, 0, &bad_item[i]), -EINVAL);
        ck_assert_int_eq(larder_exchange(ns, "k", 1, "v", 1, NULL, &bad_item[i]), -EINVAL);
    }
    ck_assert_int_eq(larder_get_and_touch(ns, "k", 1, 0, NULL), -EINVAL);
    ck_assert_int_eq(larder_exchange(ns, "k", 1, "v", 1, NULL, NULL), -EINVAL);
    ck_assert_int_eq(larder_get_and_touch(NULL, "k", 1, 0, &item), -EINVAL);
    ck_assert_int_eq(larder_get_and_touch(ns, "k", 0, 0, &item), -EINVAL);
    ck_assert_int_eq(set("k", ""), 0);
    ck_assert_int_eq(larder_get_and_touch(ns, "k", 1, -2, &item), -EINVAL);
    ck_assert_int_eq(larder_get_and_touch(ns, "k", 1, INT64_MAX, &item), -EINVAL);

    struct larder_outcome outcome = {.size = sizeof outcome}, small = {.size = sizeof small - 1};
    ck_assert_int_eq(larder_add(ns, "a", 1, "v", 1, &async, &t), 0);
    ck_assert_int_eq(larder_result(NULL, t, 0, &outcome), -EINVAL);
    ck_assert_int_eq(larder_result(h, 0, 0, &outcome), -EINVAL);
    ck_assert_int_eq(larder_result(h, t + 1000, 0, &outcome), -EINVAL);
    ck_assert_int_eq(larder_result(h, t, PATIENCE_MS, NULL), -EINVAL);
    ck_assert_int_eq(larder_result(h, t, PATIENCE_MS, &small), -EINVAL);
    ck_assert_int_eq(larder_forget(NULL, t), -EINVAL);
    ck_assert_int_eq(larder_forget(h, 0), -EINVAL);
    ck_assert_int_eq(larder_result(h, t, PATIENCE_MS, &outcome), 0);
    ck_assert_int_eq(outcome.result, 0);
}
END_TEST

START_TEST(a_full_namespace)
{
    const struct larder_ns_options o = {.size = sizeof o, .policy = LARDER_REFUSE, .min_bytes = 4 << 20};
    static char value[4096];
    int r = 0;
    ck_assert_int_eq(larder_ns_create(h, "tight", &o, &ns), 0);
    for (unsigned i = 0; r == 0 && i < 100000; i++)
        r = larder_add(ns, &i, sizeof i, value, sizeof value, NULL, NULL);
    ck_assert_int_eq(r, LARDER_FULL);
    unsigned first = 0;
    ck_assert_int_eq(larder_append(ns, &first, sizeof first, value, sizeof value, NULL, NULL), LARDER_FULL);
    ck_assert_int_eq(larder_delete_if(ns, &first, sizeof first, 1, NULL, NULL), LARDER_CHANGED);
}
END_TEST

/* ---- results that wait ---- */

#define MOST LRD_RESULTS

static larder_ticket ticket[MOST + 1];

static int incr_async(larder_ticket *t)
{
    const struct larder_incr_options o = {.size = sizeof o, .how = LARDER_INCR_CREATE | LARDER_SET_ASYNC};
    return larder_incr(ns, "n", 1, 1, &o, NULL, t);
}

static int64_t collect(larder_ticket t)
{
    struct larder_outcome outcome = {.size = sizeof outcome, .reserved = 1};
    ck_assert_int_eq(larder_result(h, t, PATIENCE_MS, &outcome), 0);
    ck_assert_int_eq(outcome.result, 0);
    ck_assert_uint_eq(outcome.reserved, 0);
    return outcome.number;
}

START_TEST(as_many_as_there_are_places)
{
    struct larder_outcome outcome = {.size = sizeof outcome};
    for (unsigned turn = 0; turn < 3; turn++) {
        for (unsigned i = 0; i < MOST; i++)
            ck_assert_int_eq(incr_async(&ticket[i]), 0);
        ticket[MOST] = 7;
        ck_assert_int_eq(incr_async(&ticket[MOST]), LARDER_BUSY);
        ck_assert_uint_eq(ticket[MOST], 0);
        ck_assert_int_eq(larder_incr(ns, "n", 1, 1, NULL, NULL, NULL), LARDER_BUSY);
        /* In order, backwards, every third first. */
        for (unsigned i = 0; i < MOST; i++) {
            unsigned j = turn == 0 ? i : turn == 1 ? MOST - 1 - i : (i * 3) % MOST;
            ck_assert_int_eq(collect(ticket[j]), (int64_t)(turn * MOST + j + 1));
            ck_assert_int_eq(larder_result(h, ticket[j], 0, &outcome), LARDER_FORGOTTEN);
            ck_assert_int_eq(larder_forget(h, ticket[j]), LARDER_FORGOTTEN);
        }
    }
    ck_assert_str_eq(value_of("n"), "3072");
}
END_TEST

/* Records of many cells: their tickets lie far apart. */
START_TEST(tickets_far_apart)
{
    static char value[600];
    struct larder_outcome outcome = {.size = sizeof outcome};
    for (unsigned i = 0; i < MOST; i++)
        ck_assert_int_eq(larder_add(ns, &i, sizeof i, value, i % 2 ? sizeof value : 600 - i % 512, &async, &ticket[i]), 0);
    for (unsigned i = 0; i < MOST; i++) {
        ck_assert_int_eq(larder_result(h, ticket[i], PATIENCE_MS, &outcome), 0);
        ck_assert_int_eq(outcome.result, 0);
    }
}
END_TEST

START_TEST(what_has_no_result)
{
    struct larder_outcome outcome = {.size = sizeof outcome};
    larder_ticket t;
    ck_assert_int_eq(larder_set(ns, "k", 1, "v", 1, NULL, &t), 0);
    ck_assert_int_eq(larder_result(h, t, PATIENCE_MS, &outcome), LARDER_FORGOTTEN);
    ck_assert_int_eq(larder_add(ns, "l", 1, "v", 1, NULL, &t), 0);
    ck_assert_uint_ne(t, 0);
    ck_assert_int_eq(larder_wait(h, t, 0), 0);
    ck_assert_int_eq(larder_result(h, t, PATIENCE_MS, &outcome), LARDER_FORGOTTEN);
    /* Fire and forget takes no place, however often. */
    for (unsigned i = 0; i < 3 * MOST; i++)
        ck_assert_int_eq(incr_async(NULL), 0);
    ck_assert_str_eq(value_of("n"), "3072");
}
END_TEST

START_TEST(outcomes)
{
    struct larder_outcome outcome = {.size = sizeof outcome};
    ck_assert_int_eq(larder_add(ns, "k", 1, "v", 1, &async, &ticket[0]), 0);
    ck_assert_int_eq(larder_add(ns, "k", 1, "v", 1, &async, &ticket[1]), 0);
    ck_assert_int_eq(larder_replace(ns, "none", 4, "v", 1, &async, &ticket[2]), 0);
    ck_assert_int_eq(larder_result(h, ticket[0], PATIENCE_MS, &outcome), 0);
    ck_assert_int_eq(outcome.result, 0);
    ck_assert_uint_eq(outcome.version, version_of("k"));
    ck_assert_int_eq(larder_result(h, ticket[1], PATIENCE_MS, &outcome), 0);
    ck_assert_int_eq(outcome.result, LARDER_EXISTS);
    ck_assert_uint_eq(outcome.version, version_of("k"));
    ck_assert_int_eq(larder_result(h, ticket[2], PATIENCE_MS, &outcome), 0);
    ck_assert_int_eq(outcome.result, LARDER_MISS);
    ck_assert_uint_eq(outcome.version, 0);
    /* A chain of versions without a get in between. */
    ck_assert_int_eq(larder_cas(ns, "k", 1, "w", 1, version_of("k"), &async, &ticket[0]), 0);
    ck_assert_int_eq(larder_result(h, ticket[0], PATIENCE_MS, &outcome), 0);
    ck_assert_int_eq(cas("k", "x", outcome.version), 0);
}
END_TEST

/* The process sees its own conditional writes, decided or not. */
START_TEST(own_writes_are_seen)
{
    char buffer[16];
    size_t size;
    for (int i = 1; i <= 300; i++) {
        ck_assert_int_eq(incr_async(NULL), 0);
        ck_assert_int_eq(larder_get(ns, "n", 1, buffer, sizeof buffer - 1, &size), 0);
        buffer[size] = '\0';
        ck_assert_int_eq(atoi(buffer), i);
        /* An add that comes to nothing. */
        ck_assert_int_eq(larder_set(ns, "k", 1, "mine", 4, NULL, NULL), 0);
        ck_assert_int_eq(larder_add(ns, "k", 1, "other", 5, &async, NULL), 0);
        ck_assert_int_eq(larder_get(ns, "k", 1, buffer, sizeof buffer, &size), 0);
        ck_assert_uint_eq(size, 4);
    }
}
END_TEST

/* A key that looks like the arguments of the record, in which it stands behind them. */
START_TEST(a_key_like_arguments)
{
    const struct lrd_args args = {.condition = LRD_IF_ABSENT};
    char buffer[16];
    size_t size = 0;
    ck_assert_int_eq(larder_set(ns, &args, 4, "mine", 4, NULL, NULL), 0);
    ck_assert_int_eq(larder_flush(h, PATIENCE_MS), 0);
    worker_stop();
    ck_assert_int_eq(larder_add(ns, &args, 4, "other", 5, &async, NULL), 0);
    ck_assert_int_eq(larder_get(ns, &args, 4, buffer, sizeof buffer, &size), 0);
    worker_signal(SIGCONT);
    ck_assert_uint_eq(size, 4);
    ck_assert_mem_eq(buffer, "mine", 4);
}
END_TEST

/* ---- a worker that stands still, and one that is killed ---- */

START_TEST(nobody_decides)
{
    struct larder_outcome outcome = {.size = sizeof outcome};
    const struct larder_incr_options brief = {.size = sizeof brief, .how = LARDER_INCR_CREATE, .timeout_ms = 2};
    const struct larder_incr_options patient = {.size = sizeof patient, .how = LARDER_INCR_CREATE, .timeout_ms = PATIENCE_MS};
    int64_t n = 0;
    ck_assert_int_eq(larder_incr(ns, "n", 1, 1, &patient, &n, NULL), 0);
    worker_stop();
    ck_assert_int_eq(larder_incr(ns, "n", 1, 1, &brief, &n, &ticket[0]), LARDER_TIMEOUT);
    ck_assert_uint_ne(ticket[0], 0);
    ck_assert_int_eq(larder_incr(ns, "n", 1, 1, &brief, &n, NULL), LARDER_TIMEOUT);
    ck_assert_int_eq(larder_result(h, ticket[0], 0, &outcome), LARDER_TIMEOUT);
    ck_assert_int_eq(larder_result(h, ticket[0], 1, &outcome), LARDER_TIMEOUT);
    /* All other places are given up before anything is decided: they are still taken. */
    for (unsigned i = 2; i < MOST; i++) {
        ck_assert_int_eq(incr_async(&ticket[i]), 0);
        ck_assert_int_eq(larder_forget(h, ticket[i]), 0);
        ck_assert_int_eq(larder_forget(h, ticket[i]), LARDER_FORGOTTEN);
    }
    ck_assert_int_eq(incr_async(&ticket[MOST]), LARDER_BUSY);
    ck_assert_int_eq(larder_incr(ns, "n", 1, 1, &brief, &n, NULL), LARDER_BUSY);
    worker_signal(SIGCONT);
    ck_assert_int_eq(collect(ticket[0]), 2);
    ck_assert_int_eq(larder_flush(h, PATIENCE_MS), 0);
    for (unsigned i = 0; i < MOST; i++) {
        ck_assert_int_eq(incr_async(&ticket[i]), 0);
        ck_assert_int_eq(i, collect(ticket[i]) - 2 - (int64_t)MOST);
    }
    for (unsigned i = 0; i < MOST; i++)
        ck_assert_int_eq(incr_async(&ticket[i]), 0);
    ck_assert_int_eq(incr_async(&ticket[MOST]), LARDER_BUSY);
}
END_TEST

/* Each happens once, and says so with its own number, whoever decides it. */
START_TEST(workers_are_killed)
{
    int64_t expected = 1;
    for (unsigned turn = 0; turn < 4; turn++) {
        if (turn % 2 == 0)
            worker_stop();
        for (unsigned i = 0; i < 500; i++)
            ck_assert_int_eq(incr_async(&ticket[i]), 0);
        daemon_kill_worker(&d);
        for (unsigned i = 0; i < 500; i++)
            ck_assert_int_eq(collect(ticket[i]), expected++);
    }
    int64_t n;
    ck_assert_int_eq(larder_incr(ns, "n", 1, 0, NULL, &n, NULL), 0);
    ck_assert_int_eq(n, 2000);
}
END_TEST

static void *reset_it(void *arg)
{
    int r = larder_ns_reset(arg);
    ck_assert(r == 0 || r == LARDER_TIMEOUT); /* the worker may stand still for long */
    return NULL;
}

START_TEST(reset_before_it)
{
    pthread_t thread;
    larder_ticket last, now;
    struct larder_outcome outcome = {.size = sizeof outcome};
    ck_assert_int_eq(set("k", "v"), 0);
    ck_assert_int_eq(larder_flush(h, PATIENCE_MS), 0);
    worker_stop();
    /* Until its record lies between two of ours, the first of which stands before it. */
    ck_assert_int_eq(larder_set(ns, "z", 1, "", 0, NULL, &now), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, reset_it, ns), 0);
    do {
        last = now;
        pause_us(100);
        ck_assert_int_eq(larder_set(ns, "z", 1, "", 0, NULL, &now), 0);
    } while (now - last == lrd_ring_cells_for(1, 0));
    ck_assert_int_eq(larder_replace(ns, "k", 1, "w", 1, &async, &ticket[0]), 0);
    const struct larder_set_options brief = {.size = sizeof brief, .timeout_ms = 2};
    ck_assert_int_eq(larder_add(ns, "l", 1, "w", 1, &brief, &ticket[1]), LARDER_TIMEOUT);
    worker_signal(SIGCONT);
    pthread_join(thread, NULL);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(larder_result(h, ticket[i], PATIENCE_MS, &outcome), 0);
        ck_assert_int_eq(outcome.result, LARDER_DISCARDED);
    }
    ck_assert_str_eq(value_of("l"), "(missing)");
}
END_TEST

START_TEST(the_daemon_goes)
{
    struct larder_outcome outcome = {.size = sizeof outcome};
    const struct larder_set_options brief = {.size = sizeof brief, .timeout_ms = 2};
    start(); /* one of this test's own */
    larder_close(h);
    setup();
    ck_assert_int_eq(add("k", "v"), 0);
    worker_stop();
    ck_assert_int_eq(incr_async(&ticket[0]), 0);
    ck_assert_int_eq(larder_add(ns, "l", 1, "v", 1, &brief, &ticket[1]), LARDER_TIMEOUT);
    for (unsigned i = 2; i < MOST; i++)
        ck_assert_int_eq(incr_async(&ticket[i]), 0);
    ck_assert_int_eq(add("m", "v"), LARDER_BUSY); /* all places are taken */
    pid_t worker = (pid_t)lrd_load_relaxed(&d.r.header->worker_pid);
    kill(d.keeper, SIGKILL);
    waitpid(d.keeper, NULL, 0);
    kill(worker, SIGKILL);
    /* Whoever only looks learns it too, and whoever has no place left; noticed after 500 ms. */
    int r;
    for (unsigned i = 0; (r = larder_result(h, ticket[0], 0, &outcome)) == LARDER_TIMEOUT && i < PATIENCE_MS / 10; i++)
        pause_us(10000);
    ck_assert_int_eq(r, LARDER_LOST);
    ck_assert_int_eq(larder_result(h, ticket[1], PATIENCE_MS, &outcome), LARDER_LOST);
    ck_assert_int_eq(larder_wait(h, ticket[2], 0), LARDER_LOST);
    ck_assert_int_eq(add("m", "v"), LARDER_DOWN);
    char command[100];
    snprintf(command, sizeof command, "rm -r %s", d.folder);
    ck_assert_int_eq(system(command), 0);
}
END_TEST

/* What one daemon has named means nothing to the next, which may have begun with the same items. */
START_TEST(names_of_a_former_daemon)
{
    struct larder_item item = {.size = sizeof item};
    uint64_t version[2], token[2], now;
    for (unsigned i = 0; i < 2; i++) {
        start(); /* one of this test's own */
        larder_close(h);
        setup();
        ck_assert_int_eq(set("k", i == 0 ? "old" : "new"), 0);
        version[i] = version_of("k");
        ck_assert_int_eq(larder_get_or_lease(ns, "l", 1, &item, NULL, &token[i]), LARDER_LEASE);
        if (i == 1) {
            const struct larder_set_options o = {.size = sizeof o, .token = token[0]};
            ck_assert_int_eq(cas("k", "other", version[0]), LARDER_CHANGED);
            ck_assert_int_eq(larder_wait_change(ns, "k", 1, version[0], 0, &now), 0);
            ck_assert_int_eq(larder_set(ns, "l", 1, "v", 1, &o, NULL), LARDER_VOID);
        }
        stop();
    }
}
END_TEST

START_TEST(a_forked_child)
{
    struct larder_outcome outcome = {.size = sizeof outcome};
    worker_stop();
    ck_assert_int_eq(incr_async(&ticket[0]), 0);
    pid_t child = fork();
    if (child == 0) {
        worker_signal(SIGCONT);
        bool ok = larder_result(h, ticket[0], 0, &outcome) == LARDER_LOST && larder_forget(h, ticket[0]) == LARDER_LOST;
        for (unsigned i = 0; i < MOST; i++)
            ok = ok && incr_async(&ticket[i]) == 0;
        _exit(ok && incr_async(&ticket[MOST]) == LARDER_BUSY ? 0 : 1);
    }
    int status = 1;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    int64_t n = collect(ticket[0]); /* the child's lane may come first */
    ck_assert(n >= 1 && n <= (int64_t)MOST + 1);
}
END_TEST

/* ---- many threads ---- */

#define THREADS 4u
#define EACH 3000u

static lrd_u64 sum_of_numbers, collected;

/* Calls that wait and calls that do not, in turn. */
static void *count_on(void *arg)
{
    (void)arg;
    const struct larder_incr_options o = {.size = sizeof o, .how = LARDER_INCR_CREATE, .timeout_ms = PATIENCE_MS};
    larder_ticket t[16];
    for (unsigned i = 0; i < EACH;) {
        unsigned n = 0;
        int64_t number;
        for (; n < 16 && i < EACH; i++, n++)
            ck_assert_int_eq(incr_async(&t[n]), 0);
        while (n > 0)
            lrd_fetch_add_relaxed(&sum_of_numbers, (uint64_t)collect(t[--n]));
        if (i < EACH) {
            ck_assert_int_eq(larder_incr(ns, "n", 1, 1, &o, &number, NULL), 0);
            lrd_fetch_add_relaxed(&sum_of_numbers, (uint64_t)number);
            i++;
        }
    }
    return NULL;
}

static void together(void *(*f)(void *), unsigned n)
{
    pthread_t thread[THREADS];
    for (unsigned i = 0; i < n; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, f, (void *)(uintptr_t)i), 0);
    for (unsigned i = 0; i < n; i++)
        pthread_join(thread[i], NULL);
}

START_TEST(threads_count)
{
    const uint64_t n = THREADS * EACH;
    together(count_on, THREADS);
    ck_assert_uint_eq(lrd_load_relaxed(&sum_of_numbers), n * (n + 1) / 2); /* every number once */
    ck_assert_int_eq(atoi(value_of("n")), n);
}
END_TEST

static void *collect_all(void *arg)
{
    unsigned backwards = (unsigned)(uintptr_t)arg % 2;
    for (unsigned i = 0; i < MOST; i++) {
        struct larder_outcome outcome = {.size = sizeof outcome};
        int r = larder_result(h, ticket[backwards ? MOST - 1 - i : i], PATIENCE_MS, &outcome);
        ck_assert(r == 0 || r == LARDER_FORGOTTEN);
        if (r == 0) {
            lrd_fetch_add_relaxed(&collected, 1);
            lrd_fetch_add_relaxed(&sum_of_numbers, (uint64_t)outcome.number);
        }
    }
    return NULL;
}

START_TEST(one_of_them_collects)
{
    for (unsigned turn = 0; turn < 5; turn++) {
        ck_assert_int_eq(larder_delete(ns, "n", 1, NULL), 0);
        lrd_store_relaxed(&collected, 0);
        lrd_store_relaxed(&sum_of_numbers, 0);
        for (unsigned i = 0; i < MOST; i++)
            ck_assert_int_eq(incr_async(&ticket[i]), 0);
        together(collect_all, THREADS);
        ck_assert_uint_eq(lrd_load_relaxed(&collected), MOST);
        ck_assert_uint_eq(lrd_load_relaxed(&sum_of_numbers), MOST * (MOST + 1) / 2);
    }
}
END_TEST

/* Records of a few bytes that have the daemon copy whole items: not more of them between two looks at the rings than of any other. */
START_TEST(what_is_copied_at_once)
{
    static char value[16000];
    const unsigned n = 64;
    ck_assert_int_eq(larder_set(ns, "k", 1, value, sizeof value, NULL, NULL), 0);
    ck_assert_int_eq(larder_flush(h, PATIENCE_MS), 0);
    worker_stop();
    uint64_t batches = lrd_load_relaxed(&d.r.counters[LRD_C_batches]), decided = lrd_load_relaxed(&d.r.counters[LRD_C_conditional]);
    for (unsigned i = 0; i < n; i++)
        ck_assert_int_eq(larder_touch(ns, "k", 1, &async, NULL), 0);
    worker_signal(SIGCONT);
    ck_assert_int_eq(larder_flush(h, PATIENCE_MS), 0);
    ck_assert_uint_eq(lrd_load_relaxed(&d.r.counters[LRD_C_conditional]) - decided, n);
    ck_assert_uint_ge(lrd_load_relaxed(&d.r.counters[LRD_C_batches]) - batches, n / 2);
}
END_TEST

/* Every value that was put in comes out once: with the one that is left, all are there. */
static void *exchange_on(void *arg)
{
    uint64_t mine = (uint64_t)(uintptr_t)arg * 1000, theirs = 0;
    const struct larder_set_options o = {.size = sizeof o, .timeout_ms = PATIENCE_MS};
    for (unsigned i = 0; i < 1000; i++, mine++) {
        struct larder_item old = {.size = sizeof old, .buffer = &theirs, .capacity = sizeof theirs};
        ck_assert_int_eq(larder_exchange(ns, "k", 1, &mine, sizeof mine, &o, &old), 0);
        if (old.result == 0)
            lrd_fetch_add_relaxed(&sum_of_numbers, theirs);
        else
            lrd_fetch_add_relaxed(&collected, 1);
    }
    return NULL;
}

START_TEST(threads_exchange)
{
    uint64_t left = 0;
    together(exchange_on, THREADS);
    ck_assert_uint_eq(lrd_load_relaxed(&collected), 1);
    ck_assert_int_eq(larder_get(ns, "k", 1, &left, sizeof left, NULL), 0);
    ck_assert_uint_eq(lrd_load_relaxed(&sum_of_numbers) + left, 4000 * 3999 / 2);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("op");
    TCase *c = tcase_create("op");
    suite_add_tcase(s, c);
    tcase_add_unchecked_fixture(c, start, stop);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_set_timeout(c, 60);
    tcase_add_test(c, values_under_a_condition);
    tcase_add_test(c, what_is_stored_with_it);
    tcase_add_test(c, joining);
    tcase_add_test(c, touching);
    tcase_add_test(c, counting);
    tcase_add_test(c, exchanging);
    tcase_add_test(c, getting_and_touching);
    tcase_add_test(c, known_to_be_absent);
    tcase_add_loop_test(c, bad_input, 0, N_CALLS);
    tcase_add_test(c, other_bad_input);
    tcase_add_test(c, a_full_namespace);
    tcase_add_test(c, as_many_as_there_are_places);
    tcase_add_test(c, tickets_far_apart);
    tcase_add_test(c, what_has_no_result);
    tcase_add_test(c, outcomes);
    tcase_add_test(c, own_writes_are_seen);
    tcase_add_test(c, a_key_like_arguments);
    tcase_add_test(c, nobody_decides);
    tcase_add_test(c, workers_are_killed);
    tcase_add_test(c, reset_before_it);
    tcase_add_test(c, the_daemon_goes);
    tcase_add_test(c, names_of_a_former_daemon);
    tcase_add_test(c, a_forked_child);
    tcase_add_test(c, threads_count);
    tcase_add_test(c, one_of_them_collects);
    tcase_add_test(c, threads_exchange);
    tcase_add_test(c, what_is_copied_at_once);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
