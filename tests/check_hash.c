/* Where the items of a key lie: for any number of pairs, and back from each place to home. */
#include <check.h>
#include <stdlib.h>

#include "tests/segment_fixture.h"

/* In loops: Check's own macros write to a file each time. */
#define expect(x) ((x) ? (void)0 : ck_abort_msg("%s", #x))

static void check_places(uint32_t home, uint32_t tag, uint32_t n_pairs)
{
    uint32_t bucket[4];
    for (uint32_t d = 0; d < 4; d++) {
        bucket[d] = lrd_hash_bucket(home, tag, d, n_pairs);
        expect(bucket[d] < n_pairs * 2);
        expect(lrd_hash_bucket(bucket[d], tag, d, n_pairs) == home); /* the way back is the way there */
    }
    expect(bucket[0] == home && bucket[1] == (home ^ 1) && bucket[3] == (bucket[2] ^ 1));
    /* Four places, or two where the pair is its own alternate. */
    if (bucket[2] >> 1 == home >> 1)
        expect(bucket[2] == home);
}

START_TEST(test_every_place_of_few_pairs)
{
    for (uint32_t n_pairs = 2; n_pairs < 40; n_pairs++)
        for (uint32_t home = 0; home < n_pairs * 2; home++)
            for (uint32_t tag = 0; tag <= LRD_TAG_MASK; tag++)
                check_places(home, tag, n_pairs);
}
END_TEST

START_TEST(test_places_of_many_pairs)
{
    uint64_t state = 1;
    static const uint32_t some[] = {1000, 1023, 1024, 1025, 65537, 1000003, (1u << 30) - 1, 1u << 30};
    for (unsigned i = 0; i < 2000000; i++) {
        uint64_t x = fixture_random(&state), y = fixture_random(&state);
        uint32_t n_pairs = i & 1 ? some[i / 2 % (sizeof some / sizeof *some)] : 2 + (uint32_t)(y >> 34) % ((1u << 30) - 1);
        check_places(lrd_hash_home(x, n_pairs), lrd_hash_tag(x), n_pairs);
    }
}
END_TEST

/* Homes and alternates are spread evenly: no bucket has half as many again as the average. And a pair is rarely its own alternate. */
START_TEST(test_spread)
{
    const uint32_t n_pairs = 97, per_bucket = 10000;
    uint32_t *home = calloc(n_pairs * 2, sizeof *home), *alternate = calloc(n_pairs * 2, sizeof *alternate), own = 0;
    uint32_t tags[64] = {0};
    for (uint64_t i = 0; i < (uint64_t)n_pairs * 2 * per_bucket; i++) {
        uint64_t hash = lrd_hash(42, 0, &i, sizeof i);
        uint32_t h = lrd_hash_home(hash, n_pairs), a = lrd_hash_bucket(h, lrd_hash_tag(hash), 2, n_pairs);
        home[h]++;
        alternate[a]++;
        own += h == a;
        tags[lrd_hash_tag(hash) >> 8]++;
    }
    for (uint32_t b = 0; b < n_pairs * 2; b++) {
        expect(home[b] > per_bucket / 2 && home[b] < per_bucket * 3 / 2);
        expect(alternate[b] > per_bucket / 2 && alternate[b] < per_bucket * 3 / 2);
    }
    for (unsigned t = 0; t < 64; t++)
        expect(tags[t] > n_pairs * 2 * per_bucket / 128 && tags[t] < n_pairs * 2 * per_bucket / 32);
    expect(own > per_bucket && own < 4 * per_bucket); /* one in n_pairs */
    free(home);
    free(alternate);
}
END_TEST

START_TEST(test_what_the_hash_depends_on)
{
    uint64_t h = lrd_hash(1, 0, "key", 3);
    ck_assert_uint_eq(h, lrd_hash(1, 0, "keys", 3));
    ck_assert_uint_ne(h, lrd_hash(1, 0, "key", 4));
    ck_assert_uint_ne(h, lrd_hash(2, 0, "key", 3));
    for (uint32_t ns = 1; ns < LRD_NAMESPACES; ns++)
        ck_assert_uint_ne(h, lrd_hash(1, ns, "key", 3));
}
END_TEST

/* Counters of a displaced word: twelve, side by side, none of them beyond 48 bits. */
START_TEST(test_displaced_counters)
{
    uint64_t all = 0;
    for (uint32_t d = 1; d < 4; d++)
        for (uint32_t tag = 0; tag < 4; tag++) {
            uint64_t mine = UINT64_C(15) << lrd_displaced_shift(d, tag);
            ck_assert_uint_eq(all & mine, 0);
            ck_assert_uint_eq(lrd_displaced_count(mine, d, tag + 4 * 77), 15);
            ck_assert_uint_eq(lrd_displaced_count(~mine, d, tag), 0);
            all |= mine;
        }
    ck_assert_uint_eq(all, (UINT64_C(1) << 48) - 1);
}
END_TEST

START_TEST(test_slots)
{
    uint64_t slot = lrd_slot_make(LRD_TAG_MASK, 2, 0x1234fedc, 0x89abcdef);
    ck_assert_uint_eq(lrd_slot_tag(slot), LRD_TAG_MASK);
    ck_assert_uint_eq(lrd_slot_displacement(slot), 2);
    ck_assert_uint_eq(lrd_slot_generation(slot), 0xfedc);
    ck_assert_uint_eq(lrd_slot_location(slot), 0x89abcdef);
    ck_assert_uint_eq(lrd_slot_tag(lrd_slot_make(0, 3, UINT32_MAX, UINT32_MAX)), 0);
    ck_assert_uint_ne(lrd_slot_make(0, 0, 0, 1), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("hash");
    TCase *t = tcase_create("places");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, test_every_place_of_few_pairs);
    tcase_add_test(t, test_places_of_many_pairs);
    tcase_add_test(t, test_spread);
    suite_add_tcase(s, t);
    t = tcase_create("words");
    tcase_add_test(t, test_what_the_hash_depends_on);
    tcase_add_test(t, test_displaced_counters);
    tcase_add_test(t, test_slots);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
