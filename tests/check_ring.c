/* The ring, by one thread: what producers and writer promise each other, and what the writer makes of a lane full of lies. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/lane.h"
#include "tests/segment_fixture.h"

/* In loops: Check's own macros write to a file each time. */
#define expect(x) ((x) ? (void)0 : ck_abort_msg("%s", #x))

#define CELLS 64u

static struct lrd_ring ring;
static struct lrd_lane_words words;
static lrd_u64 seen;

static void setup(void)
{
    int fd = lrd_lane_create(CELLS, 0, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(lrd_lane_map(fd, CELLS, 0, &ring), 0);
    close(fd);
    memset(&words, 0, sizeof words);
    lrd_store_relaxed(&seen, 0);
}

static void teardown(void) { lrd_lane_unmap(&ring); }

static bool claim(uint32_t n, uint64_t *position) { return lrd_ring_claim(&ring, &words, &seen, n, position); }

static uint64_t claimed(uint32_t n)
{
    uint64_t position = UINT64_MAX;
    expect(claim(n, &position));
    return position;
}

static void applied(uint64_t position) { lrd_store_release(&words.applied, position); }

/* Everything at some position, as if the lane were that old. */
static void age(uint64_t position)
{
    lrd_store_relaxed(&ring.lane->tail, position);
    lrd_store_relaxed(&words.applied, position);
    lrd_store_relaxed(&seen, position);
}

START_TEST(test_cells_for)
{
    ck_assert_uint_eq(lrd_ring_cells_for(1, 0), 1);
    ck_assert_uint_eq(lrd_ring_cells_for(24, 0), 1);
    ck_assert_uint_eq(lrd_ring_cells_for(24, 1), 2);
    ck_assert_uint_eq(lrd_ring_cells_for(1, 64 + 23), 2);
    ck_assert_uint_eq(lrd_ring_cells_for(LRD_KEY_MAX, (1u << 20) - 1064), 1u << 14);
    ck_assert_uint_eq(lrd_ring_cells_for(UINT16_MAX, UINT32_MAX), (uint32_t)((UINT64_C(40) + UINT16_MAX + UINT32_MAX + 63) / 64));
}
END_TEST

START_TEST(test_claims_until_full)
{
    for (uint64_t i = 0; i < CELLS; i++)
        expect(claimed(1) == i);
    uint64_t p = 77;
    ck_assert(!claim(1, &p));
    ck_assert_uint_eq(p, 77);
    ck_assert_uint_eq(lrd_load_relaxed(&ring.lane->tail), CELLS);
    applied(3);
    ck_assert(!claim(4, &p));
    ck_assert_uint_eq(claimed(3), CELLS);
    ck_assert(!claim(1, &p));
    applied(CELLS + 3);
    ck_assert_uint_eq(claimed(CELLS), CELLS + 3);
    ck_assert(!claim(1, &p));
    ck_assert(!claim(CELLS, &p));
}
END_TEST

/* Nothing is there before the commit, in whatever order commits come; then it is, once. */
START_TEST(test_commits_out_of_order)
{
    uint64_t a = claimed(2), b = claimed(3), c = claimed(1);
    ck_assert_uint_eq(lrd_ring_next(&ring, a), 0);
    lrd_ring_commit(&ring, c, 1, LRD_RECORD_SET);
    lrd_ring_commit(&ring, b, 3, LRD_RECORD_DELETE);
    ck_assert_uint_eq(lrd_ring_next(&ring, a), 0);
    lrd_ring_commit(&ring, a, 2, LRD_RECORD_SET);
    ck_assert_uint_eq(lrd_ring_next(&ring, a), 2);
    ck_assert_uint_eq(lrd_ring_next(&ring, b), 3);
    ck_assert_uint_eq(lrd_ring_next(&ring, c), 1);
    ck_assert_uint_eq(lrd_ring_next(&ring, c + 1), 0);
    ck_assert_uint_eq(lrd_ring_next(&ring, a + 1), 0); /* the inside of a record is no record */
}
END_TEST

/* Records of all lengths, many laps: each is found where it was claimed, whole and contiguous also at the end of the ring, and nothing of an earlier lap is. */
START_TEST(test_laps)
{
    uint64_t state = 5, starts[] = {0, CELLS - 1, UINT64_C(1) << 32, (UINT64_C(1) << 46) - 5}; /* there the lap's 40 bits come round */
    for (unsigned s = 0; s < 4; s++) {
        age(starts[s]);
        for (unsigned i = 0; i < CELLS; i++)
            lrd_store_relaxed(&ring.commit[i], lrd_commit_make(lrd_ring_lap(&ring, starts[s]) - 1, 1, LRD_RECORD_SET));
        uint64_t head = starts[s];
        for (unsigned i = 0; i < 20000; i++) {
            uint64_t position[CELLS];
            unsigned n_records = 0;
            uint32_t length[CELLS];
            uint64_t first = lrd_load_relaxed(&ring.lane->tail);
            for (;;) {
                length[n_records] = 1 + (uint32_t)(fixture_random(&state) % (i % 7 == 0 ? CELLS : 9));
                if (!claim(length[n_records], &position[n_records]))
                    break;
                expect(lrd_ring_next(&ring, position[n_records]) == 0);
                memset(lrd_ring_at(&ring, position[n_records]), (int)(n_records + i), (size_t)length[n_records] * LRD_CELL);
                n_records++;
            }
            expect(n_records > 0 && head == first);
            for (unsigned k = n_records; k-- > 0;)
                lrd_ring_commit(&ring, position[k], length[k], LRD_RECORD_SET);
            for (unsigned k = 0; k < n_records; k++) {
                expect(lrd_ring_next(&ring, head) == length[k]);
                const unsigned char *at = lrd_ring_at(&ring, head);
                for (uint32_t b = 0; b < length[k] * LRD_CELL; b++)
                    expect(at[b] == (unsigned char)(k + i));
                head += length[k];
            }
            expect(head == lrd_load_relaxed(&ring.lane->tail) && lrd_ring_next(&ring, head) == 0);
            applied(head);
        }
    }
}
END_TEST

/* A dead client's ring: what it committed is found behind what it did not, to the end of its claims. */
START_TEST(test_holes)
{
    age(1000);
    uint64_t a = claimed(2);
    claimed(20);
    uint64_t b = claimed(1), c = claimed(5), last = claimed(7);
    lrd_ring_commit(&ring, a, 2, LRD_RECORD_SET);
    lrd_ring_commit(&ring, b, 1, LRD_RECORD_SET);
    lrd_ring_commit(&ring, c, 5, LRD_RECORD_SET);
    uint64_t found[4] = {0}, n_found = 0, skipped = 0, end = lrd_ring_end(&ring, a);
    ck_assert_uint_eq(end, last + 7);
    for (uint64_t head = a; head < end;) {
        uint32_t n = lrd_ring_next(&ring, head);
        if (n > 0 && n_found < 4)
            found[n_found++] = head;
        skipped += n == 0;
        head += n > 0 ? n : 1;
    }
    ck_assert_uint_eq(n_found, 3);
    ck_assert_uint_eq(found[0], a);
    ck_assert_uint_eq(found[1], b);
    ck_assert_uint_eq(found[2], c);
    ck_assert_uint_eq(skipped, 27);
}
END_TEST

/* Whatever the tail says, the end is within one ring. */
START_TEST(test_lying_tails)
{
    const uint64_t head = 5000;
    static const uint64_t tails[] = {5000 + CELLS + 1, 4999, 0, UINT64_MAX, UINT64_C(1) << 63, 5000 + (UINT64_C(1) << 32)};
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        lrd_store_relaxed(&ring.lane->tail, tails[i]);
        ck_assert_uint_eq(lrd_ring_end(&ring, head), head + CELLS);
    }
    lrd_store_relaxed(&ring.lane->tail, head);
    ck_assert_uint_eq(lrd_ring_end(&ring, head), head);
    lrd_store_relaxed(&ring.lane->tail, head + CELLS);
    ck_assert_uint_eq(lrd_ring_end(&ring, head), head + CELLS);
}
END_TEST

START_TEST(test_lying_commits)
{
    uint64_t lap = lrd_ring_lap(&ring, 0);
    static const uint32_t lies[] = {0, CELLS + 1, 0xffff, 0x8000};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        lrd_store_relaxed(&ring.commit[0], lrd_commit_make(lap, lies[i], LRD_RECORD_SET));
        ck_assert_uint_eq(lrd_ring_next(&ring, 0), 1);
    }
    lrd_store_relaxed(&ring.commit[0], lrd_commit_make(lap, CELLS, LRD_RECORD_SET));
    ck_assert_uint_eq(lrd_ring_next(&ring, 0), CELLS);
    lrd_store_relaxed(&ring.commit[0], lrd_commit_make(lap - 1, 1, LRD_RECORD_SET));
    ck_assert_uint_eq(lrd_ring_next(&ring, 0), 0);
    lrd_store_relaxed(&ring.commit[0], lrd_commit_make(lap + 1, 1, LRD_RECORD_SET));
    ck_assert_uint_eq(lrd_ring_next(&ring, 0), 0);
    /* Any word at all: as long as it says, and never longer than the ring. */
    uint64_t state = 9;
    for (unsigned i = 0; i < 100000; i++) {
        uint64_t head = fixture_random(&state), w = fixture_random(&state);
        if (i & 1)
            w = lrd_commit_make(lrd_ring_lap(&ring, head), (uint32_t)w & 0xffff, (uint32_t)(w >> 32) & 0xff);
        lrd_store_relaxed(&ring.commit[lrd_ring_idx(&ring, head)], w);
        uint32_t n = lrd_ring_next(&ring, head);
        expect(n <= CELLS);
        expect(!(i & 1) || n >= 1);
        expect(lrd_ring_at(&ring, head) >= ring.cells && lrd_ring_at(&ring, head) + (size_t)n * LRD_CELL <= ring.cells + (size_t)2 * CELLS * LRD_CELL);
    }
}
END_TEST

/* A producer whose look at the tail is old is sent round by the CAS, also when the ring has moved on past it. */
START_TEST(test_seen_may_be_old)
{
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t p = claimed(3);
        expect(p == 3 * i);
        applied(p + 3);
        if (i % 5 == 0)
            lrd_store_relaxed(&seen, 0); /* another thread's old look */
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ring");
    TCase *t = tcase_create("ring");
    tcase_set_timeout(t, 0);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_cells_for);
    tcase_add_test(t, test_claims_until_full);
    tcase_add_test(t, test_commits_out_of_order);
    tcase_add_test(t, test_laps);
    tcase_add_test(t, test_holes);
    tcase_add_test(t, test_lying_tails);
    tcase_add_test(t, test_lying_commits);
    tcase_add_test(t, test_seen_may_be_old);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
