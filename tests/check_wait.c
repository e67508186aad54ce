/* Parking, ringing, waiting and waking. No time is asserted: the limits here only tell apart what returns from what does not. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/lane.h"
#include "shm/wait.h"
#include "tests/segment_fixture.h"

static struct lrd_ring ring;
static struct lrd_lane_words words;
static int bell;

static void setup(void)
{
    int fd = lrd_lane_create(64, 0, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(lrd_lane_map(fd, 64, 0, &ring), 0);
    close(fd);
    memset(&words, 0, sizeof words);
    bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ck_assert_int_ge(bell, 0);
}

static void teardown(void)
{
    lrd_lane_unmap(&ring);
    close(bell);
}

static uint64_t rings(void)
{
    uint64_t n = 0;
    if (read(bell, &n, sizeof n) < 0)
        ck_assert_int_eq(errno, EAGAIN);
    return n;
}

/* ---- the writer parks ---- */

START_TEST(test_park_and_ring)
{
    lrd_u32 rung = {0};
    lrd_doorbell_ring(&words, bell, &rung);
    ck_assert_uint_eq(rings(), 0); /* nobody sleeps */
    uint32_t before = lrd_load32_relaxed(&words.parked);
    for (int i = 0; i < 3; i++) {
        ck_assert(lrd_park(&words, &ring, 0));
        ck_assert_uint_eq(lrd_load32_relaxed(&words.parked) & 1, 1);
        ck_assert_uint_ne(lrd_load32_relaxed(&words.parked), before);
        before = lrd_load32_relaxed(&words.parked);
        lrd_doorbell_ring(&words, bell, &rung);
        lrd_doorbell_ring(&words, bell, &rung);
        ck_assert_uint_eq(rings(), 1); /* once for each parking */
        lrd_unpark(&words);
        ck_assert_uint_eq(lrd_load32_relaxed(&words.parked) & 1, 0);
        lrd_doorbell_ring(&words, bell, &rung);
        ck_assert_uint_eq(rings(), 0);
    }
    lrd_unpark(&words); /* who is awake stays so */
    ck_assert_uint_eq(lrd_load32_relaxed(&words.parked) & 1, 0);
}
END_TEST

START_TEST(test_no_parking_over_a_record)
{
    uint64_t position;
    lrd_u64 seen = {0};
    ck_assert(lrd_ring_claim(&ring, &words, &seen, 2, &position));
    ck_assert(lrd_park(&words, &ring, 0)); /* claimed is not there yet */
    uint32_t parked = lrd_load32_relaxed(&words.parked);
    lrd_ring_commit(&ring, position, 2, LRD_RECORD_SET);
    lrd_unpark(&words);
    ck_assert(!lrd_park(&words, &ring, 0));
    ck_assert_uint_eq(lrd_load32_relaxed(&words.parked) & 1, 0);
    ck_assert_uint_ne(lrd_load32_relaxed(&words.parked), parked + 1); /* another parking than before, should somebody have seen it */
    ck_assert(lrd_park(&words, &ring, 2));
}
END_TEST

/* A client may fill its own bell: whoever rings it goes on. */
START_TEST(test_a_full_bell)
{
    uint64_t most = UINT64_MAX - 1;
    ck_assert_int_eq(write(bell, &most, sizeof most), sizeof most);
    lrd_doorbell_write(bell);
    ck_assert_uint_eq(rings(), most);
}
END_TEST

/* ---- a client waits ---- */

START_TEST(test_wait_for_what_is_there)
{
    lrd_store_relaxed(&words.applied, 10);
    ck_assert(lrd_wait_applied(&words, ring.lane, 9, 0));
    ck_assert(lrd_wait_applied(&words, ring.lane, 0, 1000));
    ck_assert(!lrd_wait_applied(&words, ring.lane, 10, 0));
    ck_assert(!lrd_wait_applied(&words, ring.lane, 10, 3));
    ck_assert(!lrd_wait_applied(&words, ring.lane, UINT64_MAX, 1));
}
END_TEST

START_TEST(test_wake_only_who_waits)
{
    uint32_t woken = lrd_load32_relaxed(&words.woken);
    lrd_wake_waiters(&words, ring.lane);
    ck_assert_uint_eq(lrd_load32_relaxed(&words.woken), woken);
    lrd_store32_relaxed(&ring.lane->waiting, 77); /* any value a client may store */
    lrd_wake_waiters(&words, ring.lane);
    ck_assert_uint_eq(lrd_load32_relaxed(&words.woken), woken + 1);
    ck_assert_uint_eq(lrd_load32_relaxed(&ring.lane->waiting), 0);
    lrd_wake_waiters(&words, ring.lane);
    ck_assert_uint_eq(lrd_load32_relaxed(&words.woken), woken + 1);
}
END_TEST

#define WAITERS 4
#define TURNS 300

static void *waiter(void *arg)
{
    uint64_t reached = 0;
    for (uint64_t position = 0; position < TURNS; position++)
        reached += lrd_wait_applied(&words, ring.lane, position, 600000);
    *(uint64_t *)arg = reached;
    return NULL;
}

/* Several sleep for each position in turn; every one of them sees every one. */
START_TEST(test_sleepers_are_woken)
{
    pthread_t thread[WAITERS];
    uint64_t reached[WAITERS];
    for (int i = 0; i < WAITERS; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, waiter, &reached[i]), 0);
    for (uint64_t position = 1; position <= TURNS; position++) {
        if (position % 8 == 0)
            usleep(200); /* let them fall asleep */
        lrd_store_release(&words.applied, position);
        lrd_wake_waiters(&words, ring.lane);
    }
    for (int i = 0; i < WAITERS; i++) {
        ck_assert_int_eq(pthread_join(thread[i], NULL), 0);
        ck_assert_uint_eq(reached[i], TURNS);
    }
}
END_TEST

/* A wake-up that somebody stole: the sleeper looks again by itself. */
START_TEST(test_no_wake_up)
{
    pthread_t thread;
    uint64_t reached;
    ck_assert_int_eq(pthread_create(&thread, NULL, waiter, &reached), 0);
    usleep(1000);
    lrd_store_release(&words.applied, TURNS);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_uint_eq(reached, TURNS);
}
END_TEST

/* ---- a client sleeps in poll() ---- */

static int ends[2];

static unsigned messages(void)
{
    unsigned n = 0;
    char byte;
    while (recv(ends[1], &byte, 1, MSG_DONTWAIT) == 1)
        n++;
    return n;
}

static void applied_is(uint64_t position)
{
    lrd_store_release(&words.applied, position);
    if (lrd_wake_waiters(&words, ring.lane))
        lrd_bell_ring(ends[0]);
}

START_TEST(test_a_bell_rings_once_for_the_lowest)
{
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
    applied_is(3);
    ck_assert_uint_eq(messages(), 0);
    ck_assert(!lrd_arm_position(&words, ring.lane, 2));
    applied_is(3);
    ck_assert_uint_eq(messages(), 1); /* for nothing: its client knows */
    ck_assert(lrd_arm_position(&words, ring.lane, 10));
    ck_assert(lrd_arm_position(&words, ring.lane, 5));
    ck_assert(lrd_arm_position(&words, ring.lane, 7));
    applied_is(5);
    ck_assert_uint_eq(messages(), 0);
    applied_is(6);
    ck_assert_uint_eq(messages(), 1);
    applied_is(20);
    ck_assert_uint_eq(messages(), 0);
    lrd_arm_watch(ring.lane);
    applied_is(30);
    ck_assert_uint_eq(messages(), 0);
    uint32_t rung = lrd_load32_relaxed(&words.rung);
    ck_assert(lrd_ring_sleepers(&words, ring.lane));
    ck_assert(!lrd_ring_sleepers(&words, ring.lane));
    ck_assert_uint_eq(lrd_load32_relaxed(&words.rung), rung + 2);
}
END_TEST

/* Whatever the client does to its end, or does not do: the clerk goes on. Without MSG_DONTWAIT this test does not end. */
START_TEST(test_a_bell_never_blocks)
{
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
    for (int i = 0; i < 2000; i++)
        lrd_bell_ring(ends[0]);
    ck_assert_uint_gt(messages(), 0);
    lrd_bell_ring(ends[0]);
    ck_assert_uint_eq(messages(), 1);
    close(ends[1]);
    lrd_bell_ring(ends[0]); /* no signal either */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("wait");
    TCase *t = tcase_create("wait");
    tcase_set_timeout(t, 0);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_park_and_ring);
    tcase_add_test(t, test_no_parking_over_a_record);
    tcase_add_test(t, test_a_full_bell);
    tcase_add_test(t, test_wait_for_what_is_there);
    tcase_add_test(t, test_wake_only_who_waits);
    tcase_add_test(t, test_sleepers_are_woken);
    tcase_add_test(t, test_no_wake_up);
    tcase_add_test(t, test_a_bell_rings_once_for_the_lowest);
    tcase_add_test(t, test_a_bell_never_blocks);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
