/* Writes beyond a plain set, against a daemon of its own: what a set may be asked for, many at once, writing in place, the breaker. */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libclient/larder.h"
#include "shm/clock.h"
#include "shm/hash.h"
#include "shm/table.h"
#include "tests/daemon_fixture.h"

#define RING_CELLS 256u /* 16 KiB */

static struct daemon_fixture d;
static struct larder *l;
static struct larder_ns *ns, *keep; /* keep refuses eviction, "short" has a default time to live */
static struct larder_set_options with;

static const char *const options[] = {"--memory", "8M", "--ring", "16K", "--block-size", "16K", "--namespace", "keep,policy=refuse,min=128K", "--namespace", "short,ttl=10s", NULL};

static struct larder *open_with(uint32_t busy_timeout_ms)
{
    struct larder *h;
    const struct larder_options o = {.size = sizeof o, .socket = d.socket, .open_timeout_ms = 5000, .busy_timeout_ms = busy_timeout_ms};
    ck_assert_int_eq(larder_open(&h, &o), 0);
    return h;
}

static void setup(void)
{
    daemon_start(&d, NULL, options);
    l = open_with(1000);
    ns = larder_default(l);
    ck_assert_int_eq(larder_ns_open(l, "keep", &keep), 0);
    with = (struct larder_set_options){.size = sizeof with};
}

static void teardown(void)
{
    larder_close(l);
    ck_assert(daemon_check(&d));
    daemon_stop(&d);
}

static pid_t worker(void) { return (pid_t)lrd_load_relaxed(&d.r.header->worker_pid); }

static void stop_worker(void)
{
    daemon_freeze_worker(&d);
}

/* How the daemon has the item, of whatever kind. */
static enum lrd_outcome look(const char *key, void *buffer, size_t capacity, struct lrd_get *get)
{
    *get = (struct lrd_get){.key = key, .key_len = (uint32_t)strlen(key), .buffer = buffer, .capacity = capacity, .zero_ns = d.r.geometry.created_ns};
    get->hash = lrd_hash(d.r.hash_seed, 0, key, get->key_len);
    return lrd_table_search(&d.r, get, NULL);
}

static void expect(struct larder_ns *in, const char *key, const char *value)
{
    char buffer[100];
    size_t size = 0;
    int r = larder_get(in, key, strlen(key), buffer, sizeof buffer, &size);
    ck_assert_msg(r == (value == NULL ? LARDER_MISS : 0), "%s: %d", key, r);
    if (value != NULL)
        ck_assert_msg(size == strlen(value) && memcmp(buffer, value, size) == 0, "%s: not %s", key, value);
}

/* ---- what a set may be asked for ---- */

static int set_with(struct larder_ns *in) { return larder_set(in, "k", 1, "value", 5, &with, NULL); }

/* What is said of one write counts more than what is said of all. */
START_TEST(async_where_all_wait)
{
    const struct larder_options o = {.size = sizeof o, .socket = d.socket, .open_timeout_ms = 5000, .busy_timeout_ms = 1000, .flags = LARDER_OPEN_WAIT_VISIBLE};
    struct larder_reservation r = {.size = sizeof r};
    struct larder *h;
    ck_assert_int_eq(larder_open(&h, &o), 0);
    struct larder_ns *in = larder_default(h);
    stop_worker();
    with.timeout_ms = 20;
    for (unsigned i = 0; i < 2; i++) {
        int want = i == 0 ? LARDER_TIMEOUT : 0;
        with.how = i == 0 ? 0 : LARDER_SET_ASYNC;
        struct larder_write w = {.size = sizeof w, .key = "m", .key_size = 1, .value = "v", .value_size = 1, .options = &with};
        ck_assert_int_eq(set_with(in), want);
        ck_assert_int_eq(larder_set_absent(in, "a", 1, &with, NULL), want);
        ck_assert_int_eq(larder_set_many(in, &w, 1, NULL), want);
        ck_assert_int_eq(larder_reserve(in, "r", 1, 0, &with, &r), 0);
        ck_assert_int_eq(larder_commit(&r, 0, NULL), want);
    }
    with.how = LARDER_SET_ASYNC | LARDER_SET_WAIT;
    ck_assert_int_eq(set_with(in), -EINVAL);
    ck_assert_int_eq(larder_set_absent(in, "a", 1, &with, NULL), -EINVAL);
    kill(worker(), SIGCONT);
    larder_close(h);
}
END_TEST

/* Own writes are read from the ring, of whatever kind the item will be; the writer stands still. */
START_TEST(own_ones_with_optional_words)
{
    char buffer[64];
    struct larder_item item = {.size = sizeof item, .buffer = buffer, .capacity = sizeof buffer};
    struct larder_hold hold = {.size = sizeof hold};
    ck_assert_int_eq(set_with(ns), 0);
    stop_worker();
    uint64_t began = lrd_clock_ns();
    with.soft_ttl_ms = 50000;
    with.flags = 5;
    ck_assert_int_eq(set_with(ns), 0);
    ck_assert_int_eq(larder_get_item(ns, "k", 1, &item), 0);
    ck_assert(item.value_size == 5 && memcmp(buffer, "value", 5) == 0 && item.version == 0 && item.flags == 5);
    ck_assert(item.soft_ttl_ms > 40000 && item.soft_ttl_ms <= 50000);
    item.capacity = 4;
    ck_assert_int_eq(larder_get_item(ns, "k", 1, &item), LARDER_TOO_SMALL);
    item.capacity = sizeof buffer;

    with = (struct larder_set_options){.size = sizeof with, .how = LARDER_SET_ALIGNED};
    ck_assert_int_eq(larder_set(ns, "k", 1, "aligned", 7, &with, NULL), 0);
    expect(ns, "k", "aligned");
    ck_assert_int_eq(larder_get_item(ns, "k", 1, &item), 0);
    ck_assert_int_eq(item.soft_ttl_ms, LARDER_TTL_NONE);

    with = (struct larder_set_options){.size = sizeof with, .ttl_ms = 70000, .flags = 6};
    ck_assert_int_eq(larder_set_absent(ns, "k", 1, &with, NULL), 0);
    ck_assert_int_eq(larder_get(ns, "k", 1, buffer, sizeof buffer, NULL), LARDER_ABSENT);
    ck_assert_int_eq(larder_get_item(ns, "k", 1, &item), LARDER_ABSENT);
    ck_assert(item.version == 0 && item.flags == 6 && item.ttl_ms > 60000 && item.ttl_ms <= 70000);
    ck_assert_int_eq(larder_get_hold(ns, "k", 1, buffer, sizeof buffer, NULL, &hold), LARDER_ABSENT);
    ck_assert_uint_lt(lrd_clock_ns() - began, UINT64_C(100000000)); /* the time for which a get waits that cannot know */
    kill(worker(), SIGCONT);
}
END_TEST

START_TEST(set_options)
{
    struct larder_ns *brief;
    ck_assert_int_eq(larder_ns_open(l, "short", &brief), 0);
    with.how = 8;
    ck_assert_int_eq(set_with(ns), -EINVAL);
    with.how = LARDER_SET_WAIT | LARDER_SET_ASYNC;
    ck_assert_int_eq(set_with(ns), -EINVAL);
    with.how = 0;
    with.reserved = 1;
    ck_assert_int_eq(set_with(ns), -EINVAL);
    with.reserved = 0;
    with.size--;
    ck_assert_int_eq(set_with(ns), -EINVAL);
    with.size = sizeof with + 8; /* of a caller that knows more */
    ck_assert_int_eq(set_with(ns), 0);
    with.soft_ttl_ms = -1;
    ck_assert_int_eq(set_with(ns), -EINVAL);
    with.soft_ttl_ms = INT64_MAX;
    ck_assert_int_eq(set_with(ns), -EINVAL);
    with.soft_ttl_ms = 10000;
    ck_assert_int_eq(set_with(ns), 0);
    ck_assert_int_eq(set_with(brief), -EINVAL); /* it expires when it would be stale */
    with.ttl_ms = 10000;
    ck_assert_int_eq(set_with(ns), -EINVAL);
    with.ttl_ms = 10001;
    ck_assert_int_eq(set_with(brief), 0);
    with.ttl_ms = LARDER_TTL_NONE;
    ck_assert_int_eq(set_with(brief), 0);
    with = (struct larder_set_options){.size = sizeof with, .token = 12345};
    ck_assert_int_eq(set_with(ns), LARDER_VOID);
    with.soft_ttl_ms = -1;
    ck_assert_int_eq(set_with(ns), -EINVAL);
}
END_TEST

START_TEST(optional_words)
{
    struct lrd_get get;
    char value[5];
    with.how = LARDER_SET_WAIT;
    with.flags = 77;
    ck_assert_int_eq(set_with(ns), 0);
    ck_assert_int_eq(look("k", value, 5, &get), LRD_FOUND);
    ck_assert_uint_eq(lrd_item_kind(get.head), LRD_ITEM_PLAIN);

    with.soft_ttl_ms = 5000;
    with.ttl_ms = 60000;
    uint64_t now_ms = lrd_clock_segment_ms(d.r.geometry.created_ns);
    ck_assert_int_eq(set_with(ns), 0);
    ck_assert_int_eq(look("k", value, 5, &get), LRD_FOUND);
    ck_assert_uint_eq(lrd_item_kind(get.head), LRD_ITEM_SOFT);
    ck_assert(get.words.soft_ms >= now_ms + 5000 && get.words.soft_ms < now_ms + 7000);
    ck_assert_uint_eq(lrd_item_expires_ms(get.head), get.words.soft_ms + 55000);
    ck_assert_uint_eq(lrd_item_flags(get.head), 77);

    with.soft_ttl_ms = 0;
    with.how |= LARDER_SET_ALIGNED;
    ck_assert_int_eq(set_with(ns), 0);
    ck_assert_int_eq(look("k", value, 5, &get), LRD_FOUND);
    ck_assert_uint_eq(lrd_item_kind(get.head), LRD_ITEM_ALIGNED);
    ck_assert_mem_eq(value, "value", 5);
    uint64_t off = (uint64_t)lrd_slot_location(lrd_load_relaxed(get.place)) << d.r.granule_shift;
    ck_assert_uint_eq((off + lrd_item_value_off(LRD_ITEM_ALIGNED, 1, off)) % 64, 0);

    with.soft_ttl_ms = 5000;
    ck_assert_int_eq(set_with(ns), 0);
    ck_assert_int_eq(look("k", value, 5, &get), LRD_FOUND);
    ck_assert_uint_eq(lrd_item_kind(get.head), LRD_ITEM_SOFT | LRD_ITEM_ALIGNED);
    ck_assert_uint_eq(larder_item_max(l), d.r.geometry.item_max);
    /* Larger by its words, and refused for it. */
    char *large = calloc(1, larder_item_max(l));
    ck_assert_int_eq(larder_set(ns, "k", 1, large, larder_item_max(l) - 17, NULL, NULL), 0);
    ck_assert_int_eq(larder_set(ns, "k", 1, large, larder_item_max(l) - 17, &with, NULL), -E2BIG);
    free(large);
}
END_TEST

/* ---- many ---- */

#define MANY 1000u
static struct larder_write many[MANY];
static char key_of[MANY][16], value_of[MANY][300];

static void make_many(size_t value_size)
{
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(key_of[i], sizeof key_of[i], "key%u", i);
        memset(value_of[i], (int)('a' + i % 26), sizeof value_of[i]);
        many[i] = (struct larder_write){.size = sizeof many[i], .key = key_of[i], .key_size = strlen(key_of[i]), .value = value_of[i], .value_size = value_size, .ticket = 99, .result = 99};
    }
}

/* Of those whose result is 0 the value is there, as large as said; the others are not. */
static unsigned expect_many(struct larder_ns *in, size_t value_size)
{
    unsigned there = 0;
    for (unsigned i = 0; i < MANY; i++) {
        char value[300];
        size_t size = 0;
        int r = larder_get(in, key_of[i], strlen(key_of[i]), value, sizeof value, &size);
        ck_assert_msg(r == (many[i].result == 0 ? 0 : LARDER_MISS), "%u: get %d, written %d", i, r, many[i].result);
        ck_assert((many[i].ticket != 0) == (many[i].result == 0));
        if (r == 0)
            ck_assert(size == value_size && memcmp(value, value_of[i], size) == 0);
        there += r == 0;
    }
    return there;
}

START_TEST(many_of_all_sorts)
{
    size_t done = 7;
    make_many(200);
    char *large = calloc(1, larder_item_max(l) + 1);
    const struct larder_set_options bad = {.size = 3}, brief = {.size = sizeof brief, .ttl_ms = 20000, .flags = 4};
    many[3].key_size = 0;
    many[5].value = NULL;
    many[7].options = &bad;
    many[10].options = &brief;
    many[100].value = large;
    many[100].value_size = larder_item_max(l);
    many[101].value_size = (size_t)1 << 40;
    ck_assert_int_eq(larder_set_many(ns, many, MANY, &done), -EINVAL);
    ck_assert_uint_eq(done, MANY - 5);
    ck_assert_int_eq(many[3].result, -EINVAL);
    ck_assert_int_eq(many[5].result, -EINVAL);
    ck_assert_int_eq(many[7].result, -EINVAL);
    ck_assert_int_eq(many[100].result, -E2BIG);
    ck_assert_int_eq(many[101].result, -E2BIG);
    ck_assert_uint_eq(expect_many(ns, 200), MANY - 5);
    struct larder_item item = {.size = sizeof item, .buffer = large, .capacity = 300};
    ck_assert_int_eq(larder_get_item(ns, key_of[10], strlen(key_of[10]), &item), 0);
    ck_assert_uint_eq(item.flags, 4);
    ck_assert(item.ttl_ms > 10000 && item.ttl_ms <= 20000);
    ck_assert_int_eq(larder_wait(l, many[MANY - 1].ticket, 5000), 0);

    ck_assert_int_eq(larder_delete_many(ns, many, MANY / 2, &done), -EINVAL);
    ck_assert_uint_eq(done, MANY / 2 - 1);
    expect(ns, "key499", NULL);
    ck_assert_int_eq(larder_get(ns, "key500", 6, large, 300, NULL), 0);
    free(large);

    ck_assert_int_eq(larder_set_many(ns, many, 0, &done), 0);
    ck_assert_uint_eq(done, 0);
    ck_assert_int_eq(larder_set_many(ns, NULL, 1, &done), -EINVAL);
    ck_assert_int_eq(larder_set_many(NULL, many, 1, NULL), -EINVAL);
    many[0].size--;
    ck_assert_int_eq(larder_set_many(ns, many, 1, NULL), -EINVAL);
    many[0].size = sizeof many[0] + 4; /* the second would not be aligned */
    ck_assert_int_eq(larder_set_many(ns, many, 2, NULL), -EINVAL);
}
END_TEST

/* Of records of one key the last counts, also where one of them needs more than a plain set has, and where the largest records there are stand between them. */
START_TEST(many_in_order)
{
    static struct {
        struct larder_write w;
        char of_the_caller[24];
    } a[6];
    char large[6000] = "";
    const struct larder_set_options soft = {.size = sizeof soft, .soft_ttl_ms = 1000}, wait = {.size = sizeof wait, .how = LARDER_SET_WAIT}, leased = {.size = sizeof leased, .token = 5};
    const char *const value[] = {"one", "two", "three", "four", "five", "six"};
    size_t done;
    for (unsigned i = 0; i < 6; i++) {
        a[i].w = (struct larder_write){.size = sizeof a[i], .key = i == 2 ? "other" : "key", .key_size = i == 2 ? 5 : 3, .value = value[i], .value_size = strlen(value[i])};
        memset(a[i].of_the_caller, 'x', sizeof a[i].of_the_caller);
    }
    a[1].w.options = &soft;
    a[2].w.value = large;
    a[2].w.value_size = sizeof large;
    a[3].w.options = &leased;
    a[5].w.options = &wait;
    ck_assert_int_eq(larder_set_many(ns, &a[0].w, 6, &done), LARDER_VOID);
    ck_assert_uint_eq(done, 5);
    ck_assert_int_eq(a[3].w.result, LARDER_VOID);
    expect(ns, "key", "six");
    struct lrd_get get;
    ck_assert_int_eq(look("key", large, sizeof large, &get), LRD_FOUND); /* it was waited for */
    ck_assert_mem_eq(large, "six", 3);
    for (unsigned i = 0; i < 6; i++)
        ck_assert_mem_eq(a[i].of_the_caller, "xxxxxxxxxxxxxxxxxxxxxxxx", 24);
}
END_TEST

#ifdef LRD_TESTPOINTS

static uint64_t position_of(larder_ticket t) { return (t & ((UINT64_C(1) << 52) - 1)) - 1; }

/* A child that would be killed at a testpoint writes 32 records of two cells. How it ended. */
static int status_of_many(const char *testpoint)
{
    int status = -1;
    make_many(50);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        setenv("LARDER_TESTPOINT", testpoint, 1);
        _exit(larder_set_many(ns, many, 32, NULL) == 0 && position_of(many[31].ticket) == position_of(many[0].ticket) + 62 ? 0 : 1);
    }
    ck_assert(waitpid(child, &status, 0) == child);
    return status;
}

START_TEST(many_in_one_claim) { ck_assert_int_eq(status_of_many("ring_after_claim:2"), 0); }
END_TEST

/* What was committed is there; what was claimed beside it is stepped over. */
START_TEST(many_and_killed)
{
    ck_assert_int_eq(status_of_many("ring_after_commit:5"), SIGKILL);
    const lrd_u32 *state = &d.r.lanes[1].state;
    ck_assert(daemon_wait32(state, LRD_LANE_FREE, 5000));
    for (unsigned i = 0; i < MANY; i++) {
        many[i].result = i < 5 ? 0 : LARDER_BUSY;
        many[i].ticket = i < 5;
    }
    ck_assert_uint_eq(expect_many(ns, 50), 5);
}
END_TEST

#endif

/* The writer stands still: what has room is written, the rest is told so after one deadline. */
START_TEST(many_and_a_full_ring)
{
    struct larder *h = open_with(60);
    struct larder_ns *in = larder_default(h);
    size_t done;
    make_many(200); /* 4 cells or 5 */
    stop_worker();
    uint64_t began = lrd_clock_ns();
    ck_assert_int_eq(larder_set_many(in, many, MANY, &done), LARDER_BUSY);
    uint64_t took_ms = (lrd_clock_ns() - began) / 1000000;
    kill(worker(), SIGCONT);
    ck_assert_msg(took_ms >= 60 && took_ms < 1000, "%u ms", (unsigned)took_ms);
    ck_assert_uint_ge(done, RING_CELLS / 5);
    ck_assert_uint_le(done, RING_CELLS / 4);
    for (unsigned i = 0; i < MANY; i++)
        ck_assert_int_eq(many[i].result, i < done ? 0 : LARDER_BUSY);
    ck_assert_uint_eq(expect_many(in, 200), done);
    ck_assert_int_eq(larder_flush(h, 5000), 0);
    ck_assert_uint_eq(expect_many(in, 200), done);
    larder_close(h);
}
END_TEST

/* Credit is taken by record: what there is none for says so, what is smaller goes on; what was acknowledged is there. */
START_TEST(many_where_nothing_goes)
{
    size_t done = 0, first, second;
    make_many(290);
    ck_assert_int_eq(larder_set_many(keep, many, MANY, &first), LARDER_FULL);
    ck_assert_uint_gt(first, 100);
    ck_assert_uint_lt(first, MANY);
    ck_assert_int_eq(larder_flush(l, 5000), 0);
    ck_assert_uint_eq(expect_many(keep, 290), first);
    ck_assert_uint_eq(lrd_load_relaxed(&d.r.lanes[0].discarded), 0);
    for (unsigned turn = 0; turn < 3; turn++) {
        ck_assert_int_eq(larder_delete_many(keep, many, MANY, &done), 0);
        ck_assert_uint_eq(done, MANY);
        ck_assert_int_eq(larder_flush(l, 5000), 0);
        second = 0;
        /* Room is made in the background. */
        for (uint64_t end = lrd_clock_ns() + UINT64_C(3000000000); second < first / 2 && lrd_clock_ns() < end;) {
            ck_assert_int_eq(larder_set_many(keep, many, MANY, &second), LARDER_FULL);
            pause_us(2000);
        }
        ck_assert_uint_ge(second, first / 2);
        ck_assert_int_eq(larder_flush(l, 5000), 0);
    }
    ck_assert_uint_eq(lrd_load_relaxed(&d.r.lanes[0].discarded), 0);
}
END_TEST

/* Credit that was taken for what finds no room in the ring is given back: there is as much after any number of such calls. */
START_TEST(many_that_were_paid_for)
{
    struct larder *h = open_with(LARDER_NO_WAIT);
    struct larder_ns *in = larder_default(h), *refuses;
    struct larder_reservation r = {.size = sizeof r};
    size_t done = 0;
    ck_assert_int_eq(larder_ns_open(h, "keep", &refuses), 0);
    make_many(100);
    /* Credit for one, from one that was given up. */
    int got = LARDER_BUSY;
    for (uint64_t end = lrd_clock_ns() + UINT64_C(5000000000); got == LARDER_BUSY && lrd_clock_ns() < end; pause_us(200))
        got = larder_reserve(refuses, "large", 5, 4000, NULL, &r);
    ck_assert_int_eq(got, 0);
    ck_assert_int_eq(larder_abort(&r), 0);
    ck_assert_int_eq(larder_flush(h, 5000), 0);
    stop_worker();
    while (larder_set(in, "k", 1, "", 0, NULL, NULL) == 0) {
    }
    for (unsigned i = 0; i < 100; i++)
        ck_assert_int_eq(larder_set_many(refuses, many, 1, &done), LARDER_BUSY);
    kill(worker(), SIGCONT);
    ck_assert_int_eq(larder_flush(h, 5000), 0);
    stop_worker();
    ck_assert_int_eq(larder_set_many(refuses, many, 1, &done), 0); /* without a question */
    kill(worker(), SIGCONT);
    larder_close(h);
}
END_TEST

/* ---- in place ---- */

START_TEST(in_place)
{
    struct larder_reservation r = {.size = sizeof r};
    larder_ticket ticket, behind;
    ck_assert_int_eq(larder_set(ns, "k", 1, "old", 3, NULL, NULL), 0);
    ck_assert_int_eq(larder_reserve(ns, "k", 1, 2000, NULL, &r), 0);
    ck_assert_uint_eq(r.value_size, 2000);
    memset(r.data, 'x', 2000);
    memcpy(r.data, "new", 3);
    expect(ns, "k", "old");
    /* The writer does not come past it. */
    ck_assert_int_eq(larder_set(ns, "behind", 6, "b", 1, NULL, &behind), 0);
    ck_assert_int_eq(larder_wait(l, behind, 20), LARDER_TIMEOUT);
    expect(ns, "behind", "b");
    ck_assert_int_eq(larder_commit(&r, 2001, &ticket), -EINVAL);
    ck_assert_uint_eq(ticket, 0);
    ck_assert_int_eq(larder_commit(&r, 3, &ticket), 0);
    ck_assert_ptr_null(r.data);
    expect(ns, "k", "new");
    ck_assert_int_eq(larder_wait(l, behind, 5000), 0);
    ck_assert_int_eq(larder_wait(l, ticket, 0), 0);
    expect(ns, "k", "new");
    /* Its place in the order is that of the reserve. */
    ck_assert_int_eq(larder_reserve(ns, "k", 1, 3, NULL, &r), 0);
    memcpy(r.data, "1st", 3);
    ck_assert_int_eq(larder_set(ns, "k", 1, "2nd", 3, NULL, NULL), 0);
    ck_assert_int_eq(larder_commit(&r, 3, NULL), 0);
    expect(ns, "k", "2nd");
    ck_assert_int_eq(larder_flush(l, 5000), 0);
    expect(ns, "k", "2nd");
    /* Nothing is something too. */
    ck_assert_int_eq(larder_reserve(ns, "empty", 5, 0, NULL, &r), 0);
    ck_assert_int_eq(larder_commit(&r, 0, NULL), 0);
    expect(ns, "empty", "");
    /* Times to live, flags, optional words; waiting. */
    with = (struct larder_set_options){.size = sizeof with, .ttl_ms = 50000, .soft_ttl_ms = 20000, .flags = 5, .how = LARDER_SET_ALIGNED | LARDER_SET_WAIT};
    struct lrd_get get;
    char value[16];
    ck_assert_int_eq(larder_reserve(ns, "words", 5, 100, &with, &r), 0);
    memcpy(r.data, "in place", 8);
    ck_assert_int_eq(larder_commit(&r, 8, NULL), 0);
    ck_assert_int_eq(look("words", value, sizeof value, &get), LRD_FOUND);
    ck_assert_uint_eq(lrd_item_kind(get.head), LRD_ITEM_SOFT | LRD_ITEM_ALIGNED);
    ck_assert_uint_eq(lrd_item_value_len(get.head), 8);
    ck_assert_mem_eq(value, "in place", 8);
    ck_assert_uint_eq(lrd_item_expires_ms(get.head), get.words.soft_ms + 30000);
    ck_assert_uint_eq(lrd_item_flags(get.head), 5);
}
END_TEST

START_TEST(in_place_and_given_up)
{
    struct larder_reservation r = {.size = sizeof r}, second = {.size = sizeof second};
    for (unsigned i = 0; i < 3 * RING_CELLS; i++) {
        ck_assert_int_eq(larder_reserve(ns, "k", 1, 500, NULL, &r), 0);
        memset(r.data, 0xff, 500);
        ck_assert_int_eq(larder_abort(&r), 0);
    }
    expect(ns, "k", NULL);
    ck_assert_int_eq(larder_reserve(ns, "k", 1, 500, NULL, &r), 0);
    ck_assert_int_eq(larder_reserve(ns, "k", 1, 500, NULL, &second), 0);
    memcpy(second.data, "2nd", 3);
    ck_assert_int_eq(larder_commit(&second, 3, NULL), 0);
    ck_assert_int_eq(larder_abort(&r), 0);
    expect(ns, "k", "2nd");
    ck_assert_int_eq(larder_flush(l, 5000), 0);
    expect(ns, "k", "2nd");
    ck_assert_uint_eq(lrd_load_relaxed(&d.r.lanes[0].discarded), 0);
}
END_TEST

/* Credit: given back by an abort, and what a commit does not use. */
START_TEST(in_place_where_nothing_goes)
{
    struct larder_reservation r = {.size = sizeof r};
    for (unsigned i = 0; i < 500; i++) {
        ck_assert_int_eq(larder_reserve(keep, "k", 1, 1000, NULL, &r), 0);
        ck_assert_int_eq(larder_abort(&r), 0);
    }
    char key[16];
    for (unsigned i = 0; i < 300; i++) {
        snprintf(key, sizeof key, "key%u", i);
        int got = larder_reserve(keep, key, strlen(key), 1000, NULL, &r);
        ck_assert_msg(got == 0, "%u: %d", i, got);
        memcpy(r.data, key, strlen(key));
        ck_assert_int_eq(larder_commit(&r, strlen(key), NULL), 0);
    }
    ck_assert_int_eq(larder_flush(l, 5000), 0);
    for (unsigned i = 0; i < 300; i++) {
        snprintf(key, sizeof key, "key%u", i);
        expect(keep, key, key);
    }
    int result = 0;
    for (unsigned i = 0; i < 1000 && result == 0; i++) {
        snprintf(key, sizeof key, "more%u", i);
        result = larder_reserve(keep, key, strlen(key), 1000, NULL, &r);
        if (result == 0)
            ck_assert_int_eq(larder_commit(&r, 1000, NULL), 0);
    }
    ck_assert_int_eq(result, LARDER_FULL);
    ck_assert_ptr_null(r.data);
    ck_assert_int_eq(larder_commit(&r, 0, NULL), -EINVAL);
    ck_assert_int_eq(larder_flush(l, 5000), 0);
    ck_assert_uint_eq(lrd_load_relaxed(&d.r.lanes[0].discarded), 0);
}
END_TEST

START_TEST(in_place_used_badly)
{
    struct larder_reservation r = {.size = sizeof r}, copy, nothing = {.size = sizeof nothing};
    ck_assert_int_eq(larder_commit(NULL, 0, NULL), -EINVAL);
    ck_assert_int_eq(larder_abort(NULL), -EINVAL);
    ck_assert_int_eq(larder_commit(&nothing, 0, NULL), -EINVAL);
    ck_assert_int_eq(larder_abort(&nothing), -EINVAL);
    ck_assert_int_eq(larder_reserve(NULL, "k", 1, 1, NULL, &r), -EINVAL);
    ck_assert_int_eq(larder_reserve(ns, "k", 1, 1, NULL, NULL), -EINVAL);
    ck_assert_int_eq(larder_reserve(ns, NULL, 1, 1, NULL, &r), -EINVAL);
    ck_assert_int_eq(larder_reserve(ns, "k", 0, 1, NULL, &r), -EINVAL);
    ck_assert_int_eq(larder_reserve(ns, "k", 1, (size_t)1 << 40, NULL, &r), -E2BIG);
    ck_assert_int_eq(larder_reserve(ns, "k", 1, larder_item_max(l), NULL, &r), -E2BIG);
    with.token = 1;
    ck_assert_int_eq(larder_reserve(ns, "k", 1, 1, &with, &r), -EINVAL);
    with = (struct larder_set_options){.size = sizeof with, .how = 64};
    ck_assert_int_eq(larder_reserve(ns, "k", 1, 1, &with, &r), -EINVAL);
    r.size = 3;
    ck_assert_int_eq(larder_reserve(ns, "k", 1, 1, NULL, &r), -EINVAL);
    r.size = sizeof r;

    ck_assert_int_eq(larder_reserve(ns, "k", 1, 1, NULL, &r), 0);
    copy = r;
    memcpy(r.data, "v", 1);
    ck_assert_int_eq(larder_commit(&r, 1, NULL), 0);
    ck_assert_int_eq(larder_commit(&r, 1, NULL), -EINVAL);
    ck_assert_int_eq(larder_abort(&r), -EINVAL);
    ck_assert_int_eq(larder_abort(&copy), -EINVAL);
    expect(ns, "k", "v");
    ck_assert_int_eq(larder_reserve(ns, "k", 1, 1, NULL, &r), 0);
    copy = r;
    ck_assert_int_eq(larder_abort(&r), 0);
    ck_assert_int_eq(larder_abort(&r), -EINVAL);
    ck_assert_int_eq(larder_flush(l, 5000), 0);
    ck_assert_int_eq(larder_commit(&copy, 1, NULL), -EINVAL);

    /* A child has neither the lane nor what was reserved in it, also once it has a lane of its own. */
    ck_assert_int_eq(larder_reserve(ns, "k", 1, 1, NULL, &r), 0);
    memcpy(r.data, "w", 1);
    pid_t child = fork();
    if (child == 0) {
        copy = r;
        int first = larder_commit(&r, 1, NULL), second = larder_set(ns, "child", 5, "c", 1, NULL, NULL), third = larder_abort(&r), fourth = larder_commit(&copy, 1, NULL);
        _exit(first == LARDER_LOST && second == 0 && third == -EINVAL && fourth == LARDER_LOST ? 0 : 1);
    }
    int status = -1;
    ck_assert(waitpid(child, &status, 0) == child);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(larder_commit(&r, 1, NULL), 0);
    expect(ns, "k", "w");
}
END_TEST

/* Its process dies: the writer steps over it, and what is behind it is applied. */
START_TEST(in_place_and_killed)
{
    pid_t child = fork();
    if (child == 0) {
        struct larder_reservation r = {.size = sizeof r};
        int ok = larder_reserve(ns, "reserved", 8, 100, NULL, &r) == 0 && larder_set(ns, "behind", 6, "b", 1, NULL, NULL) == 0;
        _exit(ok ? 0 : 1);
    }
    int status = -1;
    ck_assert(waitpid(child, &status, 0) == child);
    ck_assert_int_eq(status, 0);
    char value[4];
    int r = LARDER_MISS;
    for (uint64_t end = lrd_clock_ns() + UINT64_C(5000000000); r == LARDER_MISS && lrd_clock_ns() < end; pause_us(1000))
        r = larder_get(ns, "behind", 6, value, sizeof value, NULL);
    ck_assert_int_eq(r, 0);
    expect(ns, "reserved", NULL);
}
END_TEST

START_TEST(of_a_closed_handle)
{
    struct larder_reservation r = {.size = sizeof r};
    struct larder *h = open_with(10);
    struct larder_ns *in = larder_default(h);
    size_t done = 9;
    ck_assert_int_eq(larder_reserve(in, "k", 1, 1, NULL, &r), 0);
    larder_close(h);
    ck_assert_int_eq(larder_commit(&r, 1, NULL), -EBADF);
    ck_assert_int_eq(larder_abort(&r), -EINVAL); /* used up */
    ck_assert_int_eq(larder_reserve(in, "k", 1, 1, NULL, &r), -EBADF);
    make_many(10);
    ck_assert_int_eq(larder_set_many(in, many, 3, &done), -EBADF);
    ck_assert_uint_eq(done, 0);
    ck_assert_int_eq(larder_delete_many(in, many, 3, &done), -EBADF);
    with.how = LARDER_SET_ALIGNED;
    ck_assert_int_eq(set_with(in), -EBADF);
    ck_assert_int_eq(larder_delete(in, "k", 1, NULL), -EBADF);
    ck_assert_int_eq(larder_set_fallback(h, NULL, NULL, NULL), -EBADF);
    ck_assert_int_eq(larder_breaker(in, NULL), -EBADF);
}
END_TEST

/* ---- the breaker ---- */

struct noted {
    lrd_u64 n;
    int reason;
    uint32_t kind;
    char key[32], value[32];
    struct larder_ns *in;
    const struct larder_set_options *options;
};

static void note(void *context, const struct larder_diverted *w)
{
    struct noted *n = context;
    ck_assert_uint_eq(w->size, sizeof *w);
    n->reason = w->reason;
    n->kind = w->kind;
    n->in = w->ns;
    n->options = w->options;
    snprintf(n->key, sizeof n->key, "%.*s", (int)w->key_size, (const char *)w->key);
    snprintf(n->value, sizeof n->value, "%.*s", (int)w->value_size, (const char *)w->value);
    lrd_fetch_add_relaxed(&n->n, 1);
}

static void fill(struct larder_ns *in)
{
    make_many(290);
    ck_assert_int_eq(larder_set_many(in, many, MANY, NULL), LARDER_FULL);
    ck_assert_int_eq(larder_flush(l, 5000), 0);
}

static uint64_t diverted(struct larder_ns *in)
{
    uint64_t n = UINT64_MAX;
    ck_assert_int_ge(larder_breaker(in, &n), 0);
    return n;
}

START_TEST(breaker_of_a_full_namespace)
{
    struct noted n = {.n = {0}};
    const struct larder_breaker_options o = {.size = sizeof o, .probe_ms = 300};
    ck_assert_int_eq(larder_breaker(NULL, NULL), -EINVAL);
    ck_assert_int_eq(larder_set_fallback(NULL, note, &n, NULL), -EINVAL);
    fill(keep);
    ck_assert_int_eq(larder_breaker(keep, NULL), LARDER_BREAKER_CLOSED); /* without a fallback nothing happens */
    ck_assert_int_eq(larder_set_fallback(l, note, &n, &o), 0);

    with.ttl_ms = 100000;
    ck_assert_int_eq(larder_set(keep, "k", 1, value_of[0], 290, &with, NULL), LARDER_DIVERTED);
    ck_assert_uint_eq(n.n.v, 1);
    ck_assert_int_eq(n.reason, LARDER_FULL);
    ck_assert_uint_eq(n.kind, LARDER_WRITE_SET);
    ck_assert_ptr_eq(n.in, keep);
    ck_assert_ptr_eq(n.options, &with);
    ck_assert_str_eq(n.key, "k");
    ck_assert_mem_eq(n.value, value_of[0], 31);
    ck_assert_int_eq(larder_breaker(keep, NULL), LARDER_BREAKER_OPEN);
    ck_assert_int_eq(larder_breaker(ns, NULL), LARDER_BREAKER_CLOSED);

    /* Open: a value that would have room goes there too, and nobody asks the daemon. */
    uint64_t asked = lrd_load_relaxed(&d.r.lanes[0].applied);
    larder_ticket ticket = 9;
    ck_assert_int_eq(larder_set(keep, "t", 1, "", 0, NULL, &ticket), LARDER_DIVERTED);
    ck_assert_uint_eq(ticket, 0);
    ck_assert_uint_eq(n.n.v, 2);
    size_t done;
    ck_assert_int_eq(larder_set_many(keep, many, 10, &done), LARDER_DIVERTED);
    ck_assert_uint_eq(done, 0);
    ck_assert_uint_eq(n.n.v, 12);
    ck_assert_uint_eq(lrd_load_relaxed(&d.r.lanes[0].applied), asked);
    ck_assert_uint_eq(diverted(keep), 12);
    ck_assert_uint_eq(diverted(ns), 0);
    /* What no daemon would take is not the fallback's. */
    char *large = calloc(1, larder_item_max(l));
    ck_assert_int_eq(larder_set(keep, "k", 1, large, larder_item_max(l), NULL, NULL), -E2BIG);
    ck_assert_int_eq(larder_set(keep, "", 0, "", 0, NULL, NULL), -EINVAL);
    with.ttl_ms = INT64_MAX;
    ck_assert_int_eq(larder_set(keep, "k", 1, "", 0, &with, NULL), -EINVAL);
    free(large);
    /* Other namespaces do not notice. Deletes make room: they pass. What is answered is not diverted. */
    ck_assert_int_eq(larder_set(ns, "k", 1, "v", 1, NULL, NULL), 0);
    ck_assert_int_eq(larder_breaker(keep, NULL), LARDER_BREAKER_OPEN);
    with = (struct larder_set_options){.size = sizeof with, .token = 3};
    ck_assert_int_eq(larder_set(keep, "k", 1, value_of[0], 290, &with, NULL), LARDER_FULL);
    ck_assert_int_eq(larder_delete_many(keep, many, MANY, &done), 0);
    ck_assert_int_eq(larder_delete(keep, "nothing", 7, NULL), 0);
    ck_assert_uint_eq(n.n.v, 12);
    ck_assert_int_eq(larder_breaker(keep, NULL), LARDER_BREAKER_OPEN);
    ck_assert_int_eq(larder_flush(l, 5000), 0);
    /* A probe is taken, and it closes. */
    uint64_t end = lrd_clock_ns() + UINT64_C(5000000000);
    int r = LARDER_DIVERTED;
    while (larder_breaker(keep, NULL) == LARDER_BREAKER_OPEN && lrd_clock_ns() < end)
        pause_us(1000);
    ck_assert_int_eq(larder_breaker(keep, NULL), LARDER_BREAKER_HALF_OPEN);
    for (; r == LARDER_DIVERTED && lrd_clock_ns() < end; pause_us(1000))
        r = larder_set(keep, "k", 1, "probe", 5, NULL, NULL);
    ck_assert_int_eq(r, 0);
    ck_assert_int_eq(larder_breaker(keep, NULL), LARDER_BREAKER_CLOSED);
    ck_assert_int_eq(larder_set(keep, "k2", 2, "v", 1, NULL, NULL), 0);
    expect(keep, "k", "probe");
}
END_TEST

/* The threshold: refused for so long, and nothing else in between. While open, one write each probe_ms is tried. */
START_TEST(breaker_of_a_busy_ring)
{
    struct noted n = {.n = {0}};
    const struct larder_breaker_options o = {.size = sizeof o, .busy_ms = 60, .probe_ms = 50};
    struct larder *h = open_with(10);
    struct larder_ns *in = larder_default(h);
    ck_assert_int_eq(larder_set_fallback(h, note, &n, &o), 0);
    stop_worker();
    int r = 0;
    while (r == 0)
        r = larder_set(in, "k", 1, value_of[0], 290, NULL, NULL);
    ck_assert_int_eq(r, LARDER_DIVERTED);
    ck_assert_int_eq(n.reason, LARDER_BUSY);
    ck_assert_int_eq(larder_breaker(in, NULL), LARDER_BREAKER_CLOSED);
    uint64_t began = lrd_clock_ns();
    while (larder_breaker(in, NULL) == LARDER_BREAKER_CLOSED)
        ck_assert_int_eq(larder_set(in, "k", 1, value_of[0], 290, NULL, NULL), LARDER_DIVERTED);
    ck_assert_uint_ge((lrd_clock_ns() - began) / 1000000, 55);
    ck_assert_int_eq(larder_delete(in, "k", 1, NULL), LARDER_DIVERTED);
    ck_assert_uint_eq(n.kind, LARDER_WRITE_DELETE);
    /* Open for half a second: nearly all at once, about ten tried. */
    struct larder_stats before_that = {.size = sizeof before_that}, after = {.size = sizeof after};
    ck_assert_int_eq(larder_stats(h, &before_that), 0);
    uint64_t writes = 0, end = lrd_clock_ns() + UINT64_C(500000000);
    for (; lrd_clock_ns() < end; writes++)
        ck_assert_int_eq(larder_set(in, "k", 1, value_of[0], 290, NULL, NULL), LARDER_DIVERTED);
    ck_assert_int_eq(larder_stats(h, &after), 0);
    uint64_t tried = after.busy - before_that.busy;
    ck_assert_msg(writes > 100 && tried >= 2 && tried <= 11, "%u writes, %u tried", (unsigned)writes, (unsigned)tried);
    ck_assert_uint_eq(after.diverted, n.n.v);
    /* A forked child begins closed. */
    pid_t child = fork();
    if (child == 0)
        _exit(larder_breaker(in, NULL) == LARDER_BREAKER_CLOSED ? 0 : 1);
    int status = -1;
    ck_assert(waitpid(child, &status, 0) == child);
    ck_assert_int_eq(status, 0);
    kill(worker(), SIGCONT);
    end = lrd_clock_ns() + UINT64_C(5000000000);
    do {
        pause_us(1000);
        r = larder_set(in, "k", 1, "closed", 6, NULL, NULL);
    } while (r == LARDER_DIVERTED && lrd_clock_ns() < end);
    ck_assert_int_eq(r, 0);
    ck_assert_int_eq(larder_breaker(in, NULL), LARDER_BREAKER_CLOSED);
    expect(in, "k", "closed");
    uint64_t before = n.n.v;
    ck_assert_int_eq(larder_set_fallback(h, NULL, NULL, NULL), 0);
    stop_worker();
    for (r = 0; r == 0;)
        r = larder_set(in, "k", 1, value_of[0], 290, NULL, NULL);
    kill(worker(), SIGCONT);
    ck_assert_int_eq(r, LARDER_BUSY);
    ck_assert_uint_eq(n.n.v, before);
    larder_close(h);
}
END_TEST

static void nothing(void) {}

/* The daemon is killed, and another one comes. */
START_TEST(breaker_without_a_daemon)
{
    struct daemon_fixture first, second;
    struct noted n = {.n = {0}};
    const struct larder_breaker_options o = {.size = sizeof o, .down_ms = 100, .probe_ms = 40};
    daemon_start(&first, NULL, options);
    daemon_start(&second, NULL, options);
    char link[128];
    snprintf(link, sizeof link, "%s/link", second.folder);
    ck_assert_int_eq(symlink(first.socket, link), 0);
    const struct larder_options oo = {.size = sizeof oo, .socket = link};
    ck_assert_int_eq(larder_open(&l, &oo), 0);
    ns = larder_default(l);
    ck_assert_int_eq(larder_set_fallback(l, note, &n, &o), 0);
    ck_assert_int_eq(larder_set(ns, "k", 1, "v", 1, NULL, NULL), 0);
    kill(first.keeper, SIGKILL);
    ck_assert(waitpid(first.keeper, NULL, 0) == first.keeper);
    ck_assert_int_eq(unlink(link), 0);
    uint64_t end = lrd_clock_ns() + UINT64_C(5000000000);
    int r = 0;
    for (; r == 0 && lrd_clock_ns() < end; pause_us(500))
        r = larder_set(ns, "k", 1, "v", 1, NULL, NULL);
    ck_assert_int_eq(r, LARDER_DIVERTED);
    ck_assert_int_eq(larder_breaker(ns, NULL), LARDER_BREAKER_CLOSED);
    while (larder_breaker(ns, NULL) == LARDER_BREAKER_CLOSED && lrd_clock_ns() < end)
        ck_assert_int_eq(larder_set(ns, "k", 1, "v", 1, NULL, NULL), LARDER_DIVERTED);
    ck_assert_int_eq(n.reason, LARDER_DOWN);
    size_t done;
    make_many(10);
    ck_assert_int_eq(larder_set_many(ns, many, 100, &done), LARDER_DIVERTED);
    ck_assert_uint_eq(done, 0);
    ck_assert_int_eq(symlink(second.socket, link), 0);
    for (r = LARDER_DIVERTED; r == LARDER_DIVERTED && lrd_clock_ns() < end; pause_us(500))
        r = larder_set(ns, "k", 1, "back", 4, NULL, NULL);
    ck_assert_int_eq(r, 0);
    ck_assert_int_eq(larder_breaker(ns, NULL), LARDER_BREAKER_CLOSED);
    expect(ns, "k", "back");
    larder_close(l);
    char command[100];
    snprintf(command, sizeof command, "rm -r %s", first.folder);
    ck_assert_int_eq(system(command), 0);
    daemon_stop(&second);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("write");
    TCase *c = tcase_create("write"), *down = tcase_create("down");
    suite_add_tcase(s, c);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_set_timeout(c, 30);
    tcase_add_test(c, set_options);
    tcase_add_test(c, own_ones_with_optional_words);
    tcase_add_test(c, async_where_all_wait);
    tcase_add_test(c, optional_words);
    tcase_add_test(c, many_of_all_sorts);
    tcase_add_test(c, many_in_order);
#ifdef LRD_TESTPOINTS
    tcase_add_test(c, many_in_one_claim);
    tcase_add_test(c, many_and_killed);
#endif
    tcase_add_test(c, many_and_a_full_ring);
    tcase_add_test(c, many_where_nothing_goes);
    tcase_add_test(c, many_that_were_paid_for);
    tcase_add_test(c, in_place);
    tcase_add_test(c, in_place_and_given_up);
    tcase_add_test(c, in_place_where_nothing_goes);
    tcase_add_test(c, in_place_used_badly);
    tcase_add_test(c, in_place_and_killed);
    tcase_add_test(c, of_a_closed_handle);
    tcase_add_test(c, breaker_of_a_full_namespace);
    tcase_add_test(c, breaker_of_a_busy_ring);
    suite_add_tcase(s, down);
    tcase_add_checked_fixture(down, nothing, nothing);
    tcase_set_timeout(down, 30);
    tcase_add_test(down, breaker_without_a_daemon);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
