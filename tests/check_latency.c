/* Latencies: which calls are timed, and what comes out of the figures, in a lane that no daemon knows. */
#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libclient/latency.c" /* its functions are not exported */
#include "shm/lane.h"

#define CELLS 64u

static struct lrd_attachment at;
static struct lrd_private here;
static struct larder handle;

struct lrd_attachment *lrd_attach_first(struct larder *h)
{
    (void)h;
    return NULL;
}

static void setup(void)
{
    int fd = lrd_lane_create(CELLS, 0, 0);
    ck_assert_int_ge(fd, 0);
    memset(&at, 0, sizeof at);
    ck_assert_int_eq(lrd_lane_map(fd, CELLS, 0, &at.ring), 0);
    close(fd);
    at.time_each = 1024;
    atomic_store(&here.at, &at);
    handle = (struct larder){.here = &here};
    lrd_untimed = 1;
    chance = 0;
}

static void teardown(void) { lrd_lane_unmap(&at.ring); }

static uint64_t latency(double quantile)
{
    uint64_t ns;
    ck_assert_int_eq(larder_latency(&handle, LARDER_OP_GET, quantile, &ns), 0);
    return ns;
}

/* ---- figures ---- */

START_TEST(counters_follow_each_other)
{
    for (uint32_t i = 0; i < LRD_LATENCY_COUNTERS; i++) {
        uint64_t upper = lrd_histogram_upper_of(i, LRD_LATENCY_BITS);
        ck_assert_uint_eq(lrd_histogram_idx_of(upper, LRD_LATENCY_BITS), i);
        if (i + 1 < LRD_LATENCY_COUNTERS)
            ck_assert_uint_eq(lrd_histogram_idx_of(upper + 1, LRD_LATENCY_BITS), i + 1);
    }
    ck_assert_uint_eq(lrd_histogram_upper_of(LRD_LATENCY_COUNTERS - 1, LRD_LATENCY_BITS), LRD_HISTOGRAM_MAX);
}
END_TEST

START_TEST(quantiles_of_the_sorted_values)
{
    for (uint64_t ns = 1; ns <= 10000; ns++)
        lrd_time_add(&at, LARDER_OP_GET, ns * 100);
    const double parts[] = {0.0001, 0.25, 0.5, 0.9, 0.99, 0.999};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        uint64_t exact = (uint64_t)(parts[i] * 10000 + 0.5) * 100;
        ck_assert_uint_ge(latency(parts[i]), exact);
        ck_assert_uint_le(latency(parts[i]), exact + exact / 32);
    }
    ck_assert_uint_eq(latency(1), 1000000); /* exact */
    ck_assert_uint_ge(latency(0), 100);
    ck_assert_uint_le(latency(0), 103);
    ck_assert_uint_eq(lrd_load_relaxed(&at.ring.lane->latency[LARDER_OP_GET].sum_ns), UINT64_C(10000) * 10001 / 2 * 100);
}
END_TEST

START_TEST(ends_of_the_scale)
{
    lrd_time_add(&at, LARDER_OP_GET, 0);
    ck_assert_uint_eq(latency(1), 0);
    lrd_time_add(&at, LARDER_OP_GET, UINT64_MAX);
    ck_assert_uint_eq(latency(1), LRD_HISTOGRAM_MAX);
    ck_assert_uint_eq(latency(0.5), 0);
    lrd_u32 *first = &at.ring.lane->latency[LARDER_OP_GET].n[0];
    lrd_store32_relaxed(first, UINT32_MAX);
    lrd_time_add(&at, LARDER_OP_GET, 0);
    ck_assert_uint_eq(lrd_load32_relaxed(first), UINT32_MAX);
}
END_TEST

START_TEST(calls_do_not_mix)
{
    uint64_t ns = 7;
    lrd_time_add(&at, LARDER_OP_SCAN, 50);
    for (int op = 0; op < LARDER_OPS; op++)
        ck_assert_int_eq(larder_latency(&handle, op, 0.5, &ns), op == LARDER_OP_SCAN ? 0 : LARDER_MISS);
    ck_assert_uint_eq(ns, 50);
}
END_TEST

START_TEST(no_such_figure)
{
    uint64_t ns;
    lrd_time_add(&at, LARDER_OP_GET, 50);
    const double parts[] = {-0.0001, 1.0001, (double)NAN, (double)INFINITY, (double)-INFINITY};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        ns = 7;
        ck_assert_int_eq(larder_latency(&handle, LARDER_OP_GET, parts[i], &ns), -EINVAL);
        ck_assert_uint_eq(ns, 0);
    }
    ck_assert_int_eq(larder_latency(&handle, -1, 0.5, &ns), -EINVAL);
    ck_assert_int_eq(larder_latency(&handle, LARDER_OPS, 0.5, &ns), -EINVAL);
    ck_assert_int_eq(larder_latency(&handle, LARDER_OP_GET, 0.5, NULL), -EINVAL);
    ck_assert_int_eq(larder_latency(NULL, LARDER_OP_GET, 0.5, &ns), -EINVAL);
    atomic_store(&here.at, NULL);
    ck_assert_int_eq(larder_latency(&handle, LARDER_OP_GET, 0.5, &ns), LARDER_DOWN);
    handle.closed = true;
    ck_assert_int_eq(larder_latency(&handle, LARDER_OP_GET, 0.5, &ns), -EBADF);
}
END_TEST

#define RECORDED 20000u

static void *record(void *arg)
{
    (void)arg;
    for (uint64_t i = 0; i < RECORDED; i++)
        lrd_time_add(&at, LARDER_OP_GET, i);
    return NULL;
}

/* They may lose each other's counts, and nothing else. */
START_TEST(threads_beside_each_other)
{
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, record, NULL), 0);
    record(NULL);
    pthread_join(thread, NULL);
    uint64_t count = lrd_latency_count(&at.ring.lane->latency[LARDER_OP_GET]);
    ck_assert_uint_ge(count, RECORDED / 2);
    ck_assert_uint_le(count, 2 * RECORDED);
    ck_assert_uint_eq(latency(1), RECORDED - 1);
}
END_TEST

/* ---- which are timed ---- */

/* n gets as get.c has them; how many were timed, and at[i % period] is raised for each. */
static unsigned gets(uint64_t n, uint64_t period, unsigned *timed_at)
{
    static uint64_t sum;
    unsigned timed = 0;
    sum = 0;
    for (uint64_t i = 0; i < n; i++) {
        if (lrd_load32_relaxed(&at.special) != 0 && lrd_time_taken(&at)) {
            timed++;
            timed_at[i % period]++;
        }
        if ((++sum & (at.time_each - 1)) == 0)
            lrd_time_due(&at, sum, 1);
    }
    return timed;
}

START_TEST(one_get_in_so_many)
{
    static unsigned timed_at[1024];
    for (uint32_t each = 1; each <= 1024; each *= 2) {
        at.time_each = each;
        lrd_store32_relaxed(&at.special, each == 1);
        unsigned timed = gets(200 * each, 1024, timed_at);
        ck_assert_uint_ge(timed, 199);
        ck_assert_uint_le(timed, 200);
    }
}
END_TEST

/* A program with that period has not always the same call timed, nor only the one behind. */
START_TEST(a_period_does_not_matter)
{
    unsigned timed_at[1024] = {0}, different = 0;
    gets(1024 * 200, 1024, timed_at);
    for (unsigned i = 0; i < 1024; i++)
        different += timed_at[i] > 0;
    ck_assert_uint_ge(different, 8);
}
END_TEST

START_TEST(batches_make_them_due)
{
    unsigned due = 0;
    for (uint64_t sum = 100; sum <= 1024 * 100; sum += 100) { /* a batch of 100 hits each */
        lrd_time_due(&at, sum, 100);
        due += (lrd_load32_relaxed(&at.special) & LRD_SPECIAL_DUE) != 0;
        lrd_store32_relaxed(&at.special, 0);
    }
    ck_assert_uint_eq(due, 100);
}
END_TEST

START_TEST(a_bounded_silence_stays_special)
{
    unsigned timed_at[1] = {0};
    lrd_store32_relaxed(&at.special, LRD_SPECIAL_SILENCE);
    ck_assert_uint_ge(gets(1024 * 100, 1, timed_at), 98);
    ck_assert((lrd_load32_relaxed(&at.special) & LRD_SPECIAL_SILENCE) != 0);
    at.time_each = 0;
    lrd_store32_relaxed(&at.special, LRD_SPECIAL_SILENCE);
    lrd_time_due(&at, 1024, 1);
    ck_assert(!lrd_time_taken(&at));
    ck_assert_uint_eq(lrd_load32_relaxed(&at.special), LRD_SPECIAL_SILENCE);
}
END_TEST

static unsigned others(uint64_t n)
{
    unsigned timed = 0;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t began = lrd_time_begin(&at);
        timed += began != 0;
        lrd_time_end(&at, LARDER_OP_SET, began);
    }
    return timed;
}

START_TEST(one_other_call_in_so_many)
{
    for (uint32_t each = 1; each <= 1024; each *= 4) {
        at.time_each = each;
        lrd_untimed = 1;
        chance = 0;
        unsigned timed = others(500 * each);
        ck_assert_uint_ge(timed, each == 1 ? 500 : 350);
        ck_assert_uint_le(timed, each == 1 ? 500 : 600);
    }
    at.time_each = 0;
    lrd_untimed = 1;
    ck_assert_uint_eq(others(100000), 0);
    ck_assert_uint_ge(lrd_latency_count(&at.ring.lane->latency[LARDER_OP_SET]), 500);
}
END_TEST

/* Each thread begins anywhere. */
static void *few(void *timed)
{
    *(unsigned *)timed += others(10);
    return NULL;
}

START_TEST(threads_that_end_soon)
{
    unsigned timed = 0;
    at.time_each = 64;
    for (unsigned i = 0; i < 200; i++) {
        pthread_t thread;
        ck_assert_int_eq(pthread_create(&thread, NULL, few, &timed), 0);
        pthread_join(thread, NULL);
    }
    ck_assert_uint_ge(timed, 5); /* 31 on average */
    ck_assert_uint_le(timed, 100);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("latency");
    TCase *tc = tcase_create("figures");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, counters_follow_each_other);
    tcase_add_test(tc, quantiles_of_the_sorted_values);
    tcase_add_test(tc, ends_of_the_scale);
    tcase_add_test(tc, calls_do_not_mix);
    tcase_add_test(tc, no_such_figure);
    tcase_add_test(tc, threads_beside_each_other);
    suite_add_tcase(suite, tc);
    tc = tcase_create("which");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, one_get_in_so_many);
    tcase_add_test(tc, a_period_does_not_matter);
    tcase_add_test(tc, batches_make_them_due);
    tcase_add_test(tc, a_bounded_silence_stays_special);
    tcase_add_test(tc, one_other_call_in_so_many);
    tcase_add_test(tc, threads_that_end_soon);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
