/* Memory as the kernel sees it: made-up smaps, our own, and how often it is looked at. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <event2/event.h>

#include "daemon/measure.h"
#include "shm/clock.h"
#include "shm/lane.h"
#include "tests/segment_fixture.h"

#define KIB UINT64_C(1024)

static struct lrd_measured sum;

static void add_up(const char *text)
{
    FILE *f = fmemopen((void *)(uintptr_t)text, strlen(text), "r");
    ck_assert_ptr_nonnull(f);
    lrd_measure_sum(f, &sum);
    fclose(f);
}

static void expect_sums(uint64_t segment, uint64_t lanes, uint64_t anonymous, uint64_t files)
{
    ck_assert_uint_eq(sum.segment, segment * KIB);
    ck_assert_uint_eq(sum.lanes, lanes * KIB);
    ck_assert_uint_eq(sum.anonymous, anonymous * KIB);
    ck_assert_uint_eq(sum.files, files * KIB);
}

/* A mapping with the lines that there are. */
#define MAPPING(head, rss, anonymous, huge)                                                                                                                     \
    head "\nSize:               4000 kB\nKernelPageSize:        4 kB\nRss:                " rss " kB\nPss:                 1 kB\nPss_Dirty:           1 kB\n"  \
         "Referenced:          7 kB\nAnonymous:          " anonymous " kB\nLazyFree:            9 kB\nAnonHugePages:       0 kB\nShmemPmdMapped:      2048 kB\n" \
         "FilePmdMapped:       0 kB\nShared_Hugetlb:   " huge " kB\nPrivate_Hugetlb:     0 kB\nSwap:                5 kB\nVmFlags: rd wr sh mr mw me ms dd\n"

START_TEST(by_kind)
{
    add_up(MAPPING("55d0c0a00000-55d0c0a21000 r-xp 00001000 08:01 1234                       /usr/sbin/larderd", "100", "0", "0")
               MAPPING("55d0c0a22000-55d0c0a24000 rw-p 00022000 08:01 1234                       /usr/sbin/larderd", "8", "6", "0")
                   MAPPING("55d0c0b00000-55d0c0c00000 rw-p 00000000 00:00 0                          [heap]", "200", "200", "0")
                       MAPPING("7f0000000000-7f0040000000 rw-s 00000000 00:01 77                         /memfd:larder-segment (deleted)", "1048576", "0", "0")
                           MAPPING("7f0050000000-7f0050001000 rw-p 00000000 00:00 0 ", "4", "4", "0")
                               MAPPING("7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]", "16", "16", "0")
                                   MAPPING("7ffd00030000-7ffd00032000 r-xp 00000000 00:00 0                          [vdso]", "8", "0", "0"));
    expect_sums(1048576, 0, 6 + 200 + 4 + 16, 100 + 2 + 8);
}
END_TEST

/* Pages of the pool are not in Rss. */
START_TEST(pages_of_the_pool)
{
    add_up(MAPPING("7f0000000000-7f0040000000 rw-s 00000000 00:0f 77                         /memfd:larder-segment (deleted)", "0", "0", "1048576"));
    expect_sums(1048576, 0, 0, 0);
    add_up("7f0000000000-7f0040000000 rw-s 00000000 00:0f 77    /memfd:larder-segment (deleted)\nRss: 12 kB\nShared_Hugetlb: 2048 kB\nPrivate_Hugetlb: 4096 kB\n");
    expect_sums(12 + 6144, 0, 0, 0);
}
END_TEST

/* The first mapping of a lane has 0x240000 bytes, its cells, the last 0x200000 of them, follow once more. */
START_TEST(lanes_once)
{
#define LANE(at, inode) MAPPING("7f00" at "000000-7f00" at "240000 rw-s 00000000 00:01 " inode "                     /memfd:larder-lane (deleted)", "2304", "0", "0")
#define MIRROR(at, inode) MAPPING("7f00" at "240000-7f00" at "440000 rw-s 00040000 00:01 " inode "                     /memfd:larder-lane (deleted)", "2048", "0", "0")
    add_up(LANE("10", "5") MIRROR("10", "5") LANE("20", "6") MIRROR("20", "6"));
    expect_sums(0, 2 * 2304, 0, 0);
    /* The kernel may show a mapping in pieces. */
    add_up(MAPPING("7f0010000000-7f0010100000 rw-s 00000000 00:01 5   /memfd:larder-lane (deleted)", "1024", "0", "0")
               MAPPING("7f0010100000-7f0010240000 rw-s 00100000 00:01 5   /memfd:larder-lane (deleted)", "1280", "0", "0")
                   MAPPING("7f0010240000-7f0010340000 rw-s 00040000 00:01 5   /memfd:larder-lane (deleted)", "1024", "0", "0")
                       MAPPING("7f0010340000-7f0010440000 rw-s 00140000 00:01 5   /memfd:larder-lane (deleted)", "1024", "0", "0"));
    expect_sums(0, 2304, 0, 0);
}
END_TEST

START_TEST(names_that_are_nearly_ours)
{
    add_up(MAPPING("7f0000000000-7f0000001000 rw-s 00000000 00:01 5   /memfd:larder-segments (deleted)", "1", "0", "0")
               MAPPING("7f0000000000-7f0000001000 rw-s 00000000 00:01 5   /memfd:larder-lan (deleted)", "2", "0", "0")
                   MAPPING("7f0000000000-7f0000001000 rw-s 00000000 00:01 5   /tmp/memfd:larder-lane", "4", "0", "0")
                       MAPPING("7f0000000000-7f0000001000 rw-s 00000000 00:01 5   /tmp/a b\\012Rss: 99 kB", "8", "0", "0"));
    expect_sums(0, 0, 0, 15);
    add_up("");
    expect_sums(0, 0, 0, 0);
    add_up("Rss: 5 kB\nno smaps at all\n\n-\n");
    expect_sums(0, 0, 0, 5);
    /* A path longer than any buffer, with a figure at its end. */
    size_t n = 20000;
    char *text = malloc(n + 64);
    ck_assert_ptr_nonnull(text);
    int head = sprintf(text, "7f0000000000-7f0000001000 r--p 00000000 08:01 5 /");
    memset(text + head, 'x', n - (size_t)head);
    strcpy(text + n, " Rss: 77 kB\nRss: 4 kB\n");
    add_up(text);
    expect_sums(0, 0, 0, 4);
    free(text);
}
END_TEST

/* ---- this process ---- */

static void sum_of_ours(void)
{
    FILE *f = fopen("/proc/self/smaps", "re");
    ck_assert_ptr_nonnull(f);
    lrd_measure_sum(f, &sum);
    fclose(f);
}

START_TEST(a_lane_of_ours)
{
    struct lrd_ring ring = {0};
    int fd = lrd_lane_create(4096, 2 * LRD_PAGE, 3);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(lrd_lane_map(fd, 4096, 2 * LRD_PAGE, &ring), 0);
    size_t bytes = lrd_lane_bytes(4096, 2 * LRD_PAGE);
    memset(ring.lane, 1, bytes + (size_t)ring.n_cells * LRD_CELL); /* through both mappings */
    sum_of_ours();
    ck_assert_uint_eq(sum.lanes, bytes);
    ck_assert_uint_gt(sum.anonymous, 16 * KIB);
    ck_assert_uint_gt(sum.files, 100 * KIB);
    ck_assert_uint_eq(sum.segment, 0);
    lrd_lane_unmap(&ring);
    close(fd);
    uint64_t before = sum.anonymous;
    char *p = mmap(NULL, 8 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(p != MAP_FAILED);
    memset(p, 1, 8 << 20);
    sum_of_ours();
    ck_assert_uint_eq(sum.lanes, 0);
    ck_assert_uint_ge(sum.anonymous, before + (8 << 20) - 256 * KIB);
    ck_assert_uint_le(sum.anonymous, before + (8 << 20) + 256 * KIB);
    munmap(p, 8 << 20);
}
END_TEST

/* ---- when asked ---- */

static struct fixture f;
static struct event_base *base;
static struct lrd_measure *m;
static int asked;

static uint64_t measured(void) { return lrd_load_acquire(&f.store.header->measured); }

static void turn_until(uint64_t n)
{
    uint64_t end = lrd_clock_ns() + UINT64_C(10000000000);
    while (measured() < n && lrd_clock_ns() < end)
        event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    ck_assert_uint_eq(measured(), n);
}

static void turn_for_ms(uint64_t ms)
{
    uint64_t end = lrd_clock_ns() + ms * 1000000;
    while (lrd_clock_ns() < end)
        event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
}

START_TEST(when_asked)
{
    fixture_make(&f, 64, 16, 12);
    base = event_base_new();
    asked = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ck_assert_int_eq(lrd_measure_create(&m, &f.store, asked, base), 0);
    eventfd_write(asked, 1); /* before the first: that one answers */
    ck_assert_uint_eq(measured(), 0);
    turn_until(1);
    uint64_t begin = lrd_clock_ns();
    ck_assert_uint_gt(lrd_load_relaxed(&f.store.header->kernel_private), 0);
    ck_assert_uint_gt(lrd_load_relaxed(&f.store.header->kernel_files), 0);
    ck_assert_uint_ge(lrd_load_relaxed(&f.store.header->measured_ms), FIXTURE_AGE_MS - 100);
    turn_for_ms(30);
    ck_assert_uint_eq(measured(), 1); /* nobody asks */
    eventfd_write(asked, 1);
    turn_until(2);
    begin = lrd_clock_ns();
    /* Many at once: one more, and not before its time. */
    for (int i = 0; i < 100; i++) {
        eventfd_write(asked, 1);
        event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    }
    turn_until(3);
    ck_assert_uint_ge(lrd_clock_ns() - begin, UINT64_C(8000000));
    turn_for_ms(30);
    ck_assert_uint_eq(measured(), 3);
    eventfd_write(asked, 1);
    turn_until(4);
    lrd_measure_destroy(m);
    lrd_measure_destroy(NULL);
    event_base_free(base);
    close(asked);
    fixture_drop(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("measure");
    TCase *tc = tcase_create("measure");
    tcase_add_test(tc, by_kind);
    tcase_add_test(tc, pages_of_the_pool);
    tcase_add_test(tc, lanes_once);
    tcase_add_test(tc, names_that_are_nearly_ours);
    tcase_add_test(tc, a_lane_of_ours);
    tcase_add_test(tc, when_asked);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
