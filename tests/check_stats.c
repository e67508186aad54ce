/* What a program can learn about its cache: latencies of its calls, statistics, the same as JSON; and gets that want what all see. Against a daemon. */
#include <check.h>
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "libclient/larder.h"
#include "shm/clock.h"
#include "tests/daemon_fixture.h"

static struct daemon_fixture d;
static struct larder *l;
static struct larder_ns *ns;

static void open_with(uint32_t time_each, uint32_t max_silence_ms)
{
    const struct larder_options options = {.size = sizeof options, .socket = d.socket, .time_each = time_each, .max_silence_ms = max_silence_ms, .busy_timeout_ms = 5000};
    ck_assert_int_eq(larder_open(&l, &options), 0);
    ns = larder_default(l);
}

static void start(void)
{
    static const char *const options[] = {"--memory", "16M", "--log-level", "error", NULL};
    daemon_start(&d, NULL, options);
}

static void stop(void) { daemon_stop(&d); }

static void teardown(void)
{
    larder_close(l);
    l = NULL;
}

static void set(const char *key, const char *value)
{
    const struct larder_set_options wait = {.size = sizeof wait, .how = LARDER_SET_WAIT};
    ck_assert_int_eq(larder_set(ns, key, strlen(key), value, strlen(value), &wait, NULL), 0);
}

static int get(const char *key)
{
    char buffer[64];
    size_t size;
    return larder_get(ns, key, strlen(key), buffer, sizeof buffer, &size);
}

static json_t *json(void)
{
    static char text[65536];
    size_t size;
    ck_assert_int_eq(larder_stats_json(l, text, sizeof text, &size), 0);
    ck_assert_uint_eq(strlen(text), size);
    json_error_t error;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    ck_assert_msg(root != NULL, "%s: %s", error.text, text);
    return root;
}

static uint64_t number(const json_t *object, const char *name)
{
    const json_t *x = json_object_get(object, name);
    ck_assert_msg(json_is_integer(x), "%s is no number", name);
    return (uint64_t)json_integer_value(x);
}

static uint64_t timed(const char *op)
{
    json_t *root = json();
    uint64_t count = number(json_object_get(json_object_get(root, "latency_ns"), op), "count");
    json_decref(root);
    return count;
}

/* ---- latencies ---- */

START_TEST(every_get_is_timed)
{
    open_with(1, 0);
    set("k", "value");
    for (unsigned i = 0; i < 50; i++) {
        ck_assert_int_eq(get("k"), 0);
        ck_assert_int_eq(get("none"), LARDER_MISS);
    }
    ck_assert_uint_eq(timed("get"), 100);
    struct larder_item item = {.size = sizeof item};
    for (unsigned i = 0; i < 50; i++)
        larder_get_item(ns, "none", 4, &item);
    ck_assert_uint_eq(timed("get"), 150);
    ck_assert_uint_eq(timed("get_many"), 0);
    uint64_t p50, p999, max;
    ck_assert_int_eq(larder_latency(l, LARDER_OP_GET, 0.5, &p50), 0);
    ck_assert_int_eq(larder_latency(l, LARDER_OP_GET, 0.999, &p999), 0);
    ck_assert_int_eq(larder_latency(l, LARDER_OP_GET, 1, &max), 0);
    ck_assert(p50 > 0 && p50 <= p999 && p999 <= max);
    ck_assert_int_eq(larder_latency(l, LARDER_OP_GET_MANY, 0.5, &p50), LARDER_MISS);
}
END_TEST

/* Hits and misses in turns, and each kind alone, with and without a bounded silence. */
START_TEST(one_get_in_so_many)
{
    static const char *const keys[][2] = {{"k", "k"}, {"none", "none"}, {"k", "none"}};
    open_with(16, _i < 3 ? 0 : 1000);
    set("k", "value");
    for (unsigned i = 0; i < 1600; i++)
        get(keys[_i % 3][i % 2]);
    ck_assert_uint_ge(timed("get"), 98);
    ck_assert_uint_le(timed("get"), 101);
}
END_TEST

START_TEST(batches_are_timed_by_their_keys)
{
    open_with(64, 0);
    struct larder_key keys[32];
    struct larder_item items[32];
    set("k", "value");
    for (unsigned i = 0; i < 32; i++) {
        keys[i] = (struct larder_key){.size = sizeof keys[i], .data = i % 2 == 0 ? "k" : "n", .data_size = 1};
        items[i] = (struct larder_item){.size = sizeof items[i]};
    }
    for (unsigned i = 0; i < 1000; i++)
        ck_assert_int_eq(larder_get_many(ns, keys, items, 32, NULL), 0);
    /* Due each 64 hits or misses, of which a call has 16 each, and then one of the next 16 calls. */
    ck_assert_uint_ge(timed("get_many"), 70);
    ck_assert_uint_le(timed("get_many"), 500);
    ck_assert_uint_eq(timed("get"), 0);
}
END_TEST

START_TEST(no_times)
{
    open_with(LARDER_NO_TIMES, 0);
    for (unsigned i = 0; i < 5000; i++)
        get("none");
    uint64_t ns_;
    ck_assert_int_eq(larder_latency(l, LARDER_OP_GET, 0.5, &ns_), LARDER_MISS);
    ck_assert_uint_eq(ns_, 0);
    larder_close(l);
    open_with(0, 0);
    for (unsigned i = 0; i < 5000; i++)
        get("none");
    ck_assert_uint_ge(timed("get"), 3);
    ck_assert_uint_le(timed("get"), 5);
}
END_TEST

/* ---- statistics ---- */

START_TEST(of_a_namespace)
{
    open_with(0, 0);
    struct larder_ns *a;
    const struct larder_ns_options options = {.size = sizeof options, .policy = LARDER_FIFO, .max_bytes = 4 << 20};
    ck_assert_int_eq(larder_ns_create(l, "of-a.namespace", &options, &a), 0);
    for (unsigned i = 0; i < 10; i++) {
        char key = (char)('a' + i);
        ck_assert_int_eq(larder_set(a, &key, 1, "value", 5, NULL, NULL), 0);
    }
    ck_assert_int_eq(larder_set(a, "a", 1, "other", 5, NULL, NULL), 0);
    ck_assert_int_eq(larder_delete(a, "b", 1, NULL), 0);
    ck_assert_int_eq(larder_delete(a, "b", 1, NULL), 0);
    ck_assert_int_eq(larder_flush(l, 5000), 0);
    struct larder_ns_stats s = {.size = sizeof s};
    ck_assert_int_eq(larder_ns_stats(a, &s), 0);
    ck_assert_uint_eq(s.size, sizeof s);
    ck_assert_uint_eq(s.sets, 11);
    ck_assert_uint_eq(s.overwrites, 1);
    ck_assert_uint_eq(s.deletes, 1);
    ck_assert_uint_eq(s.delete_misses, 1);
    ck_assert_uint_eq(s.live_items, 9);
    ck_assert_uint_eq(s.live_bytes, 9 * 24);
    ck_assert_uint_eq(s.blocks, 1);
    ck_assert_uint_eq(s.min_blocks, 0);
    ck_assert_uint_eq(s.max_blocks * s.block_bytes, 4 << 20);
    ck_assert_uint_eq(s.policy, LARDER_FIFO);
    ck_assert_uint_eq(s.resets, 0);
    uint64_t epoch = s.epoch;
    static char large[16000];
    for (unsigned i = 1; i <= 10; i++) { /* at once, whenever the blocks are freed: we are there before */
        for (unsigned k = 0; k < 100; k++)
            ck_assert_int_eq(larder_set(a, &k, sizeof k, large, sizeof large, NULL, NULL), 0);
        ck_assert_int_eq(larder_ns_reset(a), 0);
        ck_assert_int_eq(larder_ns_stats(a, &s), 0);
        ck_assert_uint_eq(s.live_items, 0);
        ck_assert_uint_eq(s.live_bytes, 0);
        ck_assert_uint_eq(s.resets, i);
        ck_assert_uint_eq(s.epoch, epoch + i);
    }
}
END_TEST

START_TEST(as_json)
{
    open_with(1, 0);
    struct larder_ns *b;
    ck_assert_int_eq(larder_ns_create(l, "as_JSON", NULL, &b), 0);
    ck_assert_int_eq(larder_set(b, "k", 1, "value", 5, NULL, NULL), 0);
    ck_assert_int_eq(larder_flush(l, 5000), 0);
    get("none");
    struct larder_stats s = {.size = sizeof s};
    struct larder_ns_stats n = {.size = sizeof n};
    ck_assert_int_eq(larder_stats(l, &s), 0);
    ck_assert_int_eq(larder_ns_stats(b, &n), 0);
    json_t *root = json();
    const json_t *segment = json_object_get(root, "segment"), *own = json_object_get(root, "handle"), *all = json_object_get(root, "namespaces");
    ck_assert_uint_eq(number(segment, "segment_bytes"), s.segment_bytes);
    ck_assert_uint_eq(number(segment, "live_items"), s.live_items);
    ck_assert_uint_eq(number(segment, "sets"), s.sets);
    ck_assert_uint_eq(number(segment, "worker_count"), 1);
    ck_assert_uint_eq(number(own, "gets"), 1);
    ck_assert_uint_eq(number(own, "hits"), 0);
    ck_assert_uint_eq(number(own, "sets"), 1);
    ck_assert_uint_eq(number(own, "diverted"), 0);
    const json_t *latency = json_object_get(json_object_get(root, "latency_ns"), "get");
    static const char *const quantiles[] = {"p50", "p90", "p99", "p999", "p9999", "max", "sum"};
    ck_assert_uint_eq(number(latency, "count"), 1);
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++)
        ck_assert_uint_gt(number(latency, quantiles[i]), 0);
    ck_assert(json_is_array(all));
    ck_assert_str_eq(json_string_value(json_object_get(json_array_get(all, 0), "name")), "default");
    const json_t *found = NULL, *element;
    size_t i;
    json_array_foreach(all, i, element)
        if (strcmp(json_string_value(json_object_get(element, "name")), "as_JSON") == 0)
            found = element;
    ck_assert_ptr_nonnull(found);
    ck_assert_str_eq(json_string_value(json_object_get(found, "policy")), "evict");
    ck_assert_uint_eq(number(found, "live_items"), 1);
    ck_assert_uint_eq(number(found, "sets"), n.sets);
    ck_assert_uint_eq(number(found, "block_bytes"), n.block_bytes);
    json_decref(root);
}
END_TEST

START_TEST(json_that_does_not_fit)
{
    open_with(0, 0);
    static char text[65536];
    size_t size, need;
    ck_assert_int_eq(larder_stats_json(l, NULL, 0, &need), LARDER_TOO_SMALL);
    ck_assert_uint_gt(need, 500);
    for (size_t capacity = 1; capacity < need + 100; capacity += 1 + capacity / 50) {
        memset(text, 'x', sizeof text);
        int r = larder_stats_json(l, text, capacity, &size);
        ck_assert_int_eq(r, size < capacity ? 0 : LARDER_TOO_SMALL);
        ck_assert_uint_eq(strnlen(text, sizeof text), size < capacity ? size : capacity - 1);
        ck_assert_int_eq(text[0], capacity == 1 ? '\0' : '{');
        ck_assert_int_eq(text[capacity], 'x');
    }
    ck_assert_int_eq(larder_stats_json(l, text, sizeof text, NULL), 0);
    ck_assert_int_eq(larder_stats_json(l, NULL, 1, &size), -EINVAL);
    ck_assert_int_eq(larder_stats_json(NULL, text, sizeof text, &size), -EINVAL);
}
END_TEST

/* ---- gets that want what all see ---- */

static uint64_t ms(void) { return lrd_clock_ns() / 1000000; }

START_TEST(visible_with_its_version)
{
    open_with(0, 0);
    char buffer[16];
    struct larder_item item = {.size = sizeof item, .buffer = buffer, .capacity = sizeof buffer, .how = LARDER_GET_VISIBLE};
    for (unsigned i = 0; i < 500; i++) {
        int64_t x = i;
        memcpy(buffer, &x, sizeof x);
        ck_assert_int_eq(larder_set(ns, "visible", 7, buffer, sizeof x, NULL, NULL), 0);
        ck_assert_int_eq(larder_get_item(ns, "visible", 7, &item), 0);
        ck_assert_int_eq(memcmp(buffer, &x, sizeof x), 0);
        ck_assert_uint_ne(item.version, 0);
        ck_assert_int_eq(item.soft_ttl_ms, LARDER_TTL_NONE);
    }
}
END_TEST

/* The writer stands: the own ring has the new value; who wants what all see waits once, and gets the old one. */
START_TEST(not_visible_yet)
{
    open_with(0, 0);
    set("old", "old");
    pid_t worker = daemon_freeze_worker(&d);
    ck_assert_int_eq(larder_set(ns, "old", 3, "new", 3, NULL, NULL), 0);
    char buffer[4][8];
    struct larder_item item = {.size = sizeof item, .buffer = buffer[0], .capacity = sizeof buffer[0]};
    int plain = larder_get_item(ns, "old", 3, &item);
    uint64_t version = item.version;
    bool new = memcmp(buffer[0], "new", 3) == 0;
    item.how = LARDER_GET_VISIBLE;
    uint64_t before = ms();
    int visible = larder_get_item(ns, "old", 3, &item);
    uint64_t one = ms() - before;
    bool old = memcmp(buffer[0], "old", 3) == 0;

    struct larder_key keys[4];
    struct larder_item items[4];
    for (unsigned i = 0; i < 4; i++) {
        keys[i] = (struct larder_key){.size = sizeof keys[i], .data = "old", .data_size = 3};
        items[i] = (struct larder_item){.size = sizeof items[i], .buffer = buffer[i], .capacity = sizeof buffer[i], .how = i == 0 ? 0 : LARDER_GET_VISIBLE};
    }
    before = ms();
    size_t hits;
    int many = larder_get_many(ns, keys, items, 4, &hits);
    uint64_t all = ms() - before;
    kill(worker, SIGCONT);
    ck_assert_int_eq(plain, 0);
    ck_assert_uint_eq(version, 0);
    ck_assert(new);
    ck_assert_int_eq(visible, 0);
    ck_assert(old);
    ck_assert_uint_ne(item.version, 0);
    ck_assert_uint_ge(one, 99);
    ck_assert_int_eq(many, 0);
    ck_assert_uint_eq(hits, 4);
    ck_assert_uint_lt(all, one + 95); /* once, not three times */
    ck_assert_int_eq(memcmp(buffer[0], "new", 3), 0);
    for (unsigned i = 1; i < 4; i++) {
        ck_assert_int_eq(memcmp(buffer[i], "old", 3), 0);
        ck_assert_uint_eq(items[i].version, item.version);
    }
    ck_assert_int_eq(larder_flush(l, 5000), 0);
}
END_TEST

/* ---- items that are not plain ---- */

START_TEST(known_to_be_absent)
{
    open_with(0, 0);
    char buffer[8] = "before";
    size_t size = 7, hits;
    const struct larder_set_options o = {.size = sizeof o, .ttl_ms = 60000, .flags = 5, .how = LARDER_SET_WAIT};
    ck_assert_int_eq(larder_set_absent(ns, "absent", 6, &o, NULL), 0);
    ck_assert_int_eq(larder_flush(l, 5000), 0);
    ck_assert_int_eq(larder_get(ns, "absent", 6, buffer, sizeof buffer, &size), LARDER_ABSENT);
    ck_assert_uint_eq(size, 7);
    struct larder_item item = {.size = sizeof item, .buffer = buffer, .capacity = sizeof buffer}, items[2] = {item, item};
    ck_assert_int_eq(larder_get_item(ns, "absent", 6, &item), LARDER_ABSENT);
    ck_assert_int_eq(item.result, LARDER_ABSENT);
    ck_assert_uint_ne(item.version, 0);
    ck_assert_uint_eq(item.value_size, 0);
    ck_assert(item.ttl_ms > 0 && item.ttl_ms <= 60000);
    ck_assert_int_eq(item.soft_ttl_ms, LARDER_TTL_NONE);
    const struct larder_key keys[2] = {{.size = sizeof keys[0], .data = "absent", .data_size = 6}, {.size = sizeof keys[0], .data = "none", .data_size = 4}};
    ck_assert_int_eq(larder_get_many(ns, keys, items, 2, &hits), 0);
    ck_assert_uint_eq(hits, 0);
    ck_assert_int_eq(items[0].result, LARDER_ABSENT);
    ck_assert_int_eq(items[1].result, LARDER_MISS);
    struct larder_stats s = {.size = sizeof s};
    ck_assert_int_eq(larder_stats(l, &s), 0);
    ck_assert_uint_eq(s.gets, 4);
    ck_assert_uint_eq(s.hits, 3); /* it is something to know */
    ck_assert_str_eq(buffer, "before");
}
END_TEST

START_TEST(soft_and_aligned)
{
    open_with(0, 0);
    char buffer[8];
    for (unsigned how = 0; how < 2; how++) {
        const struct larder_set_options o = {.size = sizeof o, .soft_ttl_ms = 30000, .flags = 9, .how = LARDER_SET_WAIT | (how == 1 ? LARDER_SET_ALIGNED : 0)};
        ck_assert_int_eq(larder_set(ns, "soft", 4, "value", 5, &o, NULL), 0);
        struct larder_item item = {.size = sizeof item, .buffer = buffer, .capacity = sizeof buffer}, many = item;
        ck_assert_int_eq(larder_get_item(ns, "soft", 4, &item), 0);
        ck_assert_int_eq(item.ttl_ms, LARDER_TTL_NONE);
        ck_assert(item.soft_ttl_ms > 0 && item.soft_ttl_ms <= 30000);
        ck_assert_uint_eq(item.flags, 9);
        ck_assert_uint_eq(item.value_size, 5);
        ck_assert_int_eq(memcmp(buffer, "value", 5), 0);
        const struct larder_key key = {.size = sizeof key, .data = "soft", .data_size = 4};
        size_t hits;
        ck_assert_int_eq(larder_get_many(ns, &key, &many, 1, &hits), 0);
        ck_assert_uint_eq(hits, 1);
        ck_assert_uint_eq(many.version, item.version);
        ck_assert(many.soft_ttl_ms > 0 && many.soft_ttl_ms <= 30000);
        ck_assert_int_eq(get("soft"), 0);
    }
    const struct larder_set_options o = {.size = sizeof o, .soft_ttl_ms = 1, .how = LARDER_SET_WAIT};
    ck_assert_int_eq(larder_set(ns, "soft", 4, "value", 5, &o, NULL), 0);
    pause_us(30000);
    struct larder_item item = {.size = sizeof item, .buffer = buffer, .capacity = sizeof buffer};
    ck_assert_int_eq(larder_get_item(ns, "soft", 4, &item), 0); /* stale is still there */
    ck_assert_int_eq(item.soft_ttl_ms, 0);
}
END_TEST

/* Writes and waits as well, each of many a call of its own. */
START_TEST(writes_and_waits_are_timed)
{
    open_with(1, 0);
    larder_ticket ticket;
    for (unsigned i = 0; i < 20; i++) {
        ck_assert_int_eq(larder_set(ns, "k", 1, "v", 1, NULL, &ticket), 0);
        ck_assert_int_eq(larder_wait(l, ticket, 5000), 0);
    }
    ck_assert_uint_eq(timed("set"), 20);
    ck_assert_uint_eq(timed("wait"), 20);
    ck_assert_int_eq(larder_flush(l, 5000), 0);
    ck_assert_int_eq(larder_delete(ns, "k", 1, NULL), 0);
    ck_assert_uint_eq(timed("wait"), 21);
    ck_assert_uint_eq(timed("set"), 21);
    uint64_t p50;
    ck_assert_int_eq(larder_latency(l, LARDER_OP_SET, 0.5, &p50), 0);
    ck_assert_uint_gt(p50, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stats");
    TCase *tc = tcase_create("stats");
    tcase_add_unchecked_fixture(tc, start, stop);
    tcase_add_checked_fixture(tc, NULL, teardown);
    tcase_add_test(tc, every_get_is_timed);
    tcase_add_loop_test(tc, one_get_in_so_many, 0, 6);
    tcase_add_test(tc, batches_are_timed_by_their_keys);
    tcase_add_test(tc, no_times);
    tcase_add_test(tc, of_a_namespace);
    tcase_add_test(tc, as_json);
    tcase_add_test(tc, json_that_does_not_fit);
    tcase_add_test(tc, visible_with_its_version);
    tcase_add_test(tc, not_visible_yet);
    tcase_add_test(tc, known_to_be_absent);
    tcase_add_test(tc, soft_and_aligned);
    tcase_add_test(tc, writes_and_waits_are_timed);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
