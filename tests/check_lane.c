/* A lane's memory: of fixed size for good, the cells twice in a row, and nothing else is taken for one. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/lane.h"
#include "tests/segment_fixture.h"

START_TEST(test_bytes)
{
    ck_assert_uint_eq(lrd_lane_bytes(64, 0), 21 * LRD_PAGE + LRD_PAGE + 64 * LRD_CELL);
    ck_assert_uint_eq(lrd_lane_bytes(1u << 15, 0), 21 * LRD_PAGE + (8u << 15) + (64u << 15));
    for (uint32_t n = 64; n <= 1u << 15; n *= 2)
        ck_assert_uint_eq(lrd_lane_bytes(n, 0) % LRD_PAGE, 0);
}
END_TEST

START_TEST(test_sealed)
{
    int fd = lrd_lane_create(128, 0, 7);
    ck_assert_int_ge(fd, 0);
    off_t bytes = (off_t)lrd_lane_bytes(128, 0);
    struct stat st;
    ck_assert_int_eq(fstat(fd, &st), 0);
    ck_assert_int_eq(st.st_size, bytes);
    ck_assert_int_eq(st.st_blocks * 512, bytes); /* populated */
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
    ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    ck_assert_int_lt(ftruncate(fd, bytes - LRD_PAGE), 0);
    ck_assert_int_eq(errno, EPERM);
    ck_assert_int_lt(ftruncate(fd, bytes + LRD_PAGE), 0);
    ck_assert_int_eq(errno, EPERM);
    ck_assert_int_lt(fallocate(fd, 0, bytes, LRD_PAGE), 0);
    ck_assert_int_lt(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0); /* nor can anybody make the daemon's writes fail */
    ck_assert_int_eq(errno, EPERM);
    close(fd);
}
END_TEST

START_TEST(test_mapped_twice_in_a_row)
{
    const uint32_t n_cells = 256;
    struct lrd_ring a, b;
    int fd = lrd_lane_create(n_cells, 0, 3);
    ck_assert_int_eq(lrd_lane_map(fd, n_cells, 0, &a), 0);
    ck_assert_int_eq(lrd_lane_map(fd, n_cells, 0, &b), 0);
    close(fd);
    ck_assert_uint_eq(a.n_cells, n_cells);
    ck_assert_uint_eq(1u << a.lap_shift, n_cells);
    ck_assert_uint_eq(a.lane->n_cells, n_cells);
    ck_assert_uint_eq(a.lane->index, 3);
    size_t ring_bytes = (size_t)n_cells * LRD_CELL;
    /* What is written across the end is at the beginning as well, and in the other mapping. */
    fixture_bytes(a.cells + ring_bytes - 100, 200, 1);
    unsigned char want[200];
    fixture_bytes(want, 200, 1);
    ck_assert_mem_eq(a.cells, want + 100, 100);
    ck_assert_mem_eq(b.cells + ring_bytes, want + 100, 100);
    ck_assert_mem_eq(b.cells + ring_bytes - 100, want, 200);
    /* The last byte of the second half is there, and the parts do not overlap. */
    a.cells[2 * ring_bytes - 1] = 0x5a;
    ck_assert_uint_eq(b.cells[ring_bytes - 1], 0x5a);
    memset(a.cells, 0xff, ring_bytes);
    for (uint32_t i = 0; i < n_cells; i++)
        ck_assert_uint_eq(lrd_load_relaxed(&b.commit[i]), 0);
    for (uint32_t i = 0; i < n_cells; i++)
        lrd_store_relaxed(&a.commit[i], UINT64_MAX);
    ck_assert_uint_eq(lrd_load_relaxed(&b.lane->tail), 0);
    ck_assert_uint_eq(b.lane->n_cells, n_cells);
    lrd_lane_unmap(&a);
    ck_assert_ptr_null(a.lane);
    lrd_lane_unmap(&a); /* twice does no harm */
    lrd_lane_unmap(&b);
}
END_TEST

static int memfd_of(uint64_t bytes, int seals)
{
    int fd = memfd_create("lane", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, (off_t)bytes), 0);
    if (seals != 0)
        ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static void refused(int fd, uint32_t n_cells)
{
    struct lrd_ring ring = {.lane = NULL};
    ck_assert_int_eq(lrd_lane_map(fd, n_cells, 0, &ring), -EINVAL);
}

START_TEST(test_refused)
{
    uint64_t bytes = lrd_lane_bytes(64, 0);
    const int sealed = F_SEAL_SHRINK | F_SEAL_GROW;
    int fds[] = {memfd_of(bytes, 0), memfd_of(bytes, F_SEAL_SHRINK), memfd_of(bytes, F_SEAL_GROW), memfd_of(bytes - 1, sealed),
                 memfd_of(bytes + LRD_PAGE, sealed), memfd_of(0, sealed), open("/dev/zero", O_RDWR)};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        refused(fds[i], 64);
        close(fds[i]);
    }
    refused(-1, 64);
    int fd = memfd_of(bytes, sealed);
    static const uint32_t cells[] = {0, 1, 32, 63, 65, 128, 1u << 16, UINT32_MAX};
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++)
        refused(fd, cells[i]);
    struct lrd_ring ring;
    ck_assert_int_eq(lrd_lane_map(fd, 64, 0, &ring), 0);
    lrd_lane_unmap(&ring);
    close(fd);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("lane");
    TCase *t = tcase_create("lane");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, test_bytes);
    tcase_add_test(t, test_sealed);
    tcase_add_test(t, test_mapped_twice_in_a_row);
    tcase_add_test(t, test_refused);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
