/* Messages with descriptors: exactly as long as expected or refused, and no descriptor is ever left over. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm/hello.h"
#include "tests/segment_fixture.h"

static int a, b; /* the two ends */
static int some_fd;
static unsigned fds_before;

static unsigned count_fds(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");
    ck_assert_ptr_nonnull(d);
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

static void setup(void)
{
    int pair[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    a = pair[0];
    b = pair[1];
    some_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(some_fd, 0);
    fds_before = count_fds();
}

static void teardown(void)
{
    ck_assert_uint_eq(count_fds(), fds_before);
    close(a);
    close(b);
    close(some_fd);
}

/* Sends past our own checks: any size, any number of descriptors. */
static void send_raw(size_t bytes, unsigned n_fds)
{
    char data[512] = {1};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * 16)];
    } control;
    memset(&control, 0, sizeof control);
    struct iovec iov = {.iov_base = data, .iov_len = bytes};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n_fds > 0) {
        m.msg_control = control.bytes;
        m.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        for (unsigned i = 0; i < n_fds; i++)
            memcpy(CMSG_DATA(c) + i * sizeof(int), &some_fd, sizeof(int));
    }
    ck_assert_int_eq(sendmsg(a, &m, 0), (ssize_t)bytes);
}

static bool close_on_exec(int fd) { return (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0; }

START_TEST(test_there_and_back)
{
    struct lrd_welcome sent = {.magic = LRD_HELLO_MAGIC, .lane = 5}, got;
    for (unsigned n = 0; n <= LRD_FDS_MAX; n++) {
        int fds[LRD_FDS_MAX] = {some_fd, some_fd, some_fd}, here[LRD_FDS_MAX] = {-1, -1, -1};
        unsigned came = 99;
        ck_assert_int_eq(lrd_send_fds(a, &sent, sizeof sent, fds, n), 0);
        ck_assert_int_eq(lrd_recv_fds(b, &got, sizeof got, here, LRD_FDS_MAX, &came, 0), 0);
        ck_assert_uint_eq(came, n);
        ck_assert_mem_eq(&got, &sent, sizeof got);
        for (unsigned i = 0; i < LRD_FDS_MAX; i++) {
            ck_assert_int_eq(here[i] >= 0, i < n);
            if (i < n) {
                ck_assert(close_on_exec(here[i]));
                close(here[i]);
            }
        }
    }
}
END_TEST

/* Each size but the right one, each number of descriptors but those that were asked for: all refused, all closed. */
START_TEST(test_refused)
{
    static const size_t sizes[] = {1, 63, 64, 65, 128, 500};
    for (unsigned wanted = 0; wanted <= LRD_FDS_MAX; wanted++)
        for (unsigned sent = 0; sent <= 16; sent += sent < 6 ? 1 : 5)
            for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
                struct lrd_hello got;
                int fds[LRD_FDS_MAX];
                unsigned came = 99;
                send_raw(sizes[i], sent);
                int r = lrd_recv_fds(b, &got, sizeof got, fds, wanted, &came, 0);
                if (sizes[i] == sizeof got && sent <= wanted) {
                    ck_assert_int_eq(r, 0);
                    ck_assert_uint_eq(came, sent);
                    while (came > 0)
                        close(fds[--came]);
                } else {
                    ck_assert_int_eq(r, -EPROTO);
                    ck_assert_uint_eq(came, 0);
                }
                ck_assert_uint_eq(count_fds(), fds_before);
            }
}
END_TEST

START_TEST(test_nothing_there)
{
    struct lrd_hello got;
    int fds[1];
    ck_assert_int_eq(lrd_recv_fds(b, &got, sizeof got, fds, 1, NULL, MSG_DONTWAIT), -EAGAIN);
    ck_assert_int_eq(shutdown(a, SHUT_WR), 0);
    ck_assert_int_eq(lrd_recv_fds(b, &got, sizeof got, fds, 1, NULL, 0), -EPIPE);
    ck_assert_int_eq(lrd_recv_fds(b, &got, sizeof got, NULL, 0, NULL, 0), -EPIPE);
    ck_assert_int_eq(lrd_recv_fds(-1, &got, sizeof got, NULL, 0, NULL, 0), -EBADF);
}
END_TEST

/* The peer does not read, or is gone: the sender neither waits nor dies. */
START_TEST(test_sending_never_waits)
{
    struct lrd_hello hello = {.magic = LRD_HELLO_MAGIC};
    int r, sent = 0;
    while ((r = lrd_send_fds(a, &hello, sizeof hello, NULL, 0)) == 0)
        sent++;
    ck_assert_int_eq(r, -EAGAIN);
    ck_assert_int_gt(sent, 0);
    ck_assert_int_eq(shutdown(b, SHUT_RDWR), 0);
    ck_assert_int_eq(lrd_send_fds(a, &hello, sizeof hello, NULL, 0), -EPIPE);
    int fds[LRD_FDS_MAX + 1] = {some_fd, some_fd, some_fd, some_fd};
    ck_assert_int_eq(lrd_send_fds(a, &hello, sizeof hello, fds, LRD_FDS_MAX + 1), -EINVAL);
    char large[257] = {0};
    ck_assert_int_eq(lrd_send_fds(a, large, sizeof large, NULL, 0), -EINVAL);
}
END_TEST

START_TEST(test_connect)
{
    char folder[] = "/tmp/check_hello.XXXXXX", path[64], long_path[200];
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/socket", folder);
    ck_assert_int_eq(lrd_connect(path), -ENOENT);
    memset(long_path, 'x', sizeof long_path - 1);
    long_path[sizeof long_path - 1] = 0;
    ck_assert_int_eq(lrd_connect(long_path), -ENAMETOOLONG);
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    strcpy(addr.sun_path, path);
    int l = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(l, (struct sockaddr *)&addr, sizeof addr), 0);
    ck_assert_int_eq(lrd_connect(path), -ECONNREFUSED);
    ck_assert_int_eq(listen(l, 1), 0);
    int c = lrd_connect(path);
    ck_assert_int_ge(c, 0);
    ck_assert(close_on_exec(c));
    close(c);
    close(l);
    unlink(path);
    rmdir(folder);
}
END_TEST

START_TEST(test_is_sealed)
{
    const int all[] = {F_SEAL_FUTURE_WRITE, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SEAL};
    for (unsigned missing = 0; missing <= 4; missing++) {
        int fd = memfd_create("segment", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(ftruncate(fd, 8192), 0);
        int seals = 0;
        for (unsigned i = 0; i < 4; i++)
            seals |= i == missing ? 0 : all[i];
        ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
        ck_assert_int_eq(lrd_segment_is_sealed(fd, 8192), missing == 4);
        ck_assert_int_eq(lrd_segment_is_sealed(fd, 1), missing == 4);
        ck_assert_int_eq(lrd_segment_is_sealed(fd, 8193), 0);
        close(fd);
    }
    ck_assert_int_eq(lrd_segment_is_sealed(some_fd, 0), 0);
    ck_assert_int_eq(lrd_segment_is_sealed(-1, 0), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("hello");
    TCase *t = tcase_create("hello");
    tcase_set_timeout(t, 0);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_there_and_back);
    tcase_add_test(t, test_refused);
    tcase_add_test(t, test_nothing_there);
    tcase_add_test(t, test_sending_never_waits);
    tcase_add_test(t, test_connect);
    tcase_add_test(t, test_is_sealed);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
