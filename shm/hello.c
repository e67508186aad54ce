#include "shm/hello.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

int lrd_send_fds(int sock, const void *msg, size_t bytes, const int *fds, unsigned n_fds)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * LRD_FDS_MAX)];
    } control = {0};
    if (n_fds > LRD_FDS_MAX)
        return -EINVAL;
    char copy[256];
    if (bytes > sizeof copy)
        return -EINVAL;
    memcpy(copy, msg, bytes);
    struct iovec iov = {.iov_base = copy, .iov_len = bytes};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n_fds > 0) {
        m.msg_control = control.bytes;
        m.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
    }
    ssize_t n;
    do
        n = sendmsg(sock, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    return (size_t)n == bytes ? 0 : -EPROTO;
}

/* Takes the descriptors out of a message: those that fit into fds, the others are closed. How many there were. */
static unsigned take_fds(struct msghdr *m, int *fds, unsigned n_fds)
{
    unsigned n = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t here = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < here; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (n < n_fds)
                fds[n] = fd;
            else
                close(fd);
            n++;
        }
    }
    return n;
}

int lrd_recv_fds(int sock, void *msg, size_t bytes, int *fds, unsigned n_fds, unsigned *got, int flags)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * (LRD_FDS_MAX + 1))]; /* alignment may let one more in than was asked for */
    } control;
    struct iovec iov = {.iov_base = msg, .iov_len = bytes};
    /* Without room for them the kernel refuses descriptors by itself. */
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = n_fds ? control.bytes : NULL, .msg_controllen = n_fds ? sizeof control.bytes : 0};
    if (got)
        *got = 0;
    ssize_t n;
    do
        n = recvmsg(sock, &m, flags | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    unsigned came = take_fds(&m, fds, n_fds);
    int result = n == 0 ? -EPIPE : 0;
    if (n > 0 && ((size_t)n != bytes || (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || came > n_fds))
        result = -EPROTO;
    if (result < 0) {
        for (unsigned i = 0; i < came && i < n_fds; i++)
            close(fds[i]);
        return result;
    }
    if (got)
        *got = came;
    return 0;
}

/* Waiting for a place in the queue of a listener that does not accept. */
#define CONNECT_MS 250

int lrd_connect(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof addr.sun_path)
        return -ENAMETOOLONG;
    strcpy(addr.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    /* Not for what is sent: that is never waited for. */
    const struct timeval limit = {.tv_usec = CONNECT_MS * 1000};
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit); /* cannot fail with these arguments */
    int r;
    do
        r = connect(fd, (const struct sockaddr *)&addr, sizeof addr);
    while (r < 0 && errno == EINTR);
    if (r < 0) {
        int err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

int lrd_segment_is_sealed(int fd, uint64_t bytes)
{
    const int want = F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    return seals >= 0 && (seals & want) == want && fstat(fd, &st) == 0 && (uint64_t)st.st_size >= bytes;
}
