/* The histogram: every value finds a counter that is not further from it than the resolution, and quantiles are those of the sorted values. */
#include <check.h>
#include <stdint.h>
#include <stdlib.h>

#include "shm/histogram.h"

static struct lrd_histogram h;

static void setup(void) { lrd_histogram_reset(&h); }

START_TEST(counters_follow_each_other)
{
    ck_assert_uint_eq(lrd_histogram_idx(0), 0);
    for (uint32_t i = 0; i < LRD_HISTOGRAM_COUNTERS; i++) {
        uint64_t upper = lrd_histogram_upper(i);
        ck_assert_uint_eq(lrd_histogram_idx(upper), i);
        if (i + 1 < LRD_HISTOGRAM_COUNTERS)
            ck_assert_uint_eq(lrd_histogram_idx(upper + 1), i + 1);
    }
    ck_assert_uint_eq(lrd_histogram_upper(LRD_HISTOGRAM_COUNTERS - 1), LRD_HISTOGRAM_MAX);
}
END_TEST

START_TEST(resolution_is_kept)
{
    uint64_t x = 88172645463325252u;
    for (int i = 0; i < 100000; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        uint64_t value = x >> (64 - LRD_HISTOGRAM_VALUE_BITS + (x & 31));
        uint64_t upper = lrd_histogram_upper(lrd_histogram_idx(value));
        ck_assert_uint_ge(upper, value);
        ck_assert_uint_le(upper - value, value / LRD_HISTOGRAM_STEPS);
    }
}
END_TEST

START_TEST(empty_has_no_quantile)
{
    ck_assert_uint_eq(lrd_histogram_count(&h), 0);
    ck_assert_uint_eq(lrd_histogram_quantile(&h, 0.5), 0);
    ck_assert_uint_eq(lrd_histogram_quantile(&h, 1), 0);
}
END_TEST

START_TEST(small_values_are_exact)
{
    for (uint64_t v = 1; v <= 100; v++)
        lrd_histogram_record(&h, v);
    ck_assert_uint_eq(lrd_histogram_count(&h), 100);
    ck_assert_uint_eq(lrd_histogram_quantile(&h, 0), 1);
    ck_assert_uint_eq(lrd_histogram_quantile(&h, 0.5), 50);
    ck_assert_uint_eq(lrd_histogram_quantile(&h, 0.99), 99);
    ck_assert_uint_eq(lrd_histogram_quantile(&h, 0.991), 100);
    ck_assert_uint_eq(lrd_histogram_quantile(&h, 1), 100);
}
END_TEST

START_TEST(the_largest_is_exact)
{
    lrd_histogram_record(&h, 1000001);
    ck_assert_uint_eq(h.max, 1000001);
    ck_assert_uint_eq(lrd_histogram_quantile(&h, 0.5), 1000001);
    ck_assert_uint_eq(lrd_histogram_quantile(&h, 1), 1000001);
}
END_TEST

START_TEST(what_is_too_large_counts_as_the_largest)
{
    lrd_histogram_record(&h, UINT64_MAX);
    lrd_histogram_record(&h, LRD_HISTOGRAM_MAX + 1);
    ck_assert_uint_eq(h.n[LRD_HISTOGRAM_COUNTERS - 1], 2);
    ck_assert_uint_eq(h.max, UINT64_MAX);
    ck_assert_uint_eq(lrd_histogram_quantile(&h, 0.5), LRD_HISTOGRAM_MAX);
}
END_TEST

START_TEST(a_sum_is_the_same_as_all_in_one)
{
    static struct lrd_histogram a, b;
    lrd_histogram_reset(&a);
    lrd_histogram_reset(&b);
    for (uint64_t v = 0; v < 10000; v++) {
        lrd_histogram_record(&h, v * v);
        lrd_histogram_record(v % 3 ? &a : &b, v * v);
    }
    lrd_histogram_add(&a, &b);
    ck_assert_mem_eq(&a, &h, sizeof h);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("histogram");
    TCase *tc = tcase_create("histogram");
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, counters_follow_each_other);
    tcase_add_test(tc, resolution_is_kept);
    tcase_add_test(tc, empty_has_no_quantile);
    tcase_add_test(tc, small_values_are_exact);
    tcase_add_test(tc, the_largest_is_exact);
    tcase_add_test(tc, what_is_too_large_counts_as_the_largest);
    tcase_add_test(tc, a_sum_is_the_same_as_all_in_one);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
