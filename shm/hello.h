/* Attaching: one message each way over a SOCK_SEQPACKET socket, of fixed size. Descriptors flow only from the daemon.
 *
 *   client -> worker   lrd_hello
 *   worker -> client   lrd_welcome + {segment, lane, doorbell}     (after the keeper has confirmed that it holds the lane)
 *   keeper -> anybody  lrd_welcome + {segment}                     on SOCKET.peek, at once; nothing is read from the peer
 *
 * The connection stays open: its end tells the daemon that the client is gone, and the client that the daemon is. A client ignores what comes later (a new worker
 * may repeat an answer).
 */
#ifndef LRD_HELLO_H
#define LRD_HELLO_H

#include <stddef.h>
#include <stdint.h>

#include "shm/layout.h"

#define LRD_HELLO_MAGIC UINT64_C(0x314c45485244524c) /* "LRDRHEL1" */

struct lrd_hello {
    uint64_t magic;
    uint32_t layout_version;
    uint32_t layout_hash;
    uint64_t features; /* wanted; 0 */
    uint64_t reserved[5];
};
static_assert(sizeof(struct lrd_hello) == 64, "fixed");

enum lrd_welcome_result {
    LRD_WELCOME_OK = 0,
    LRD_WELCOME_VERSION = 1,  /* layouts differ: layout_version and layout_hash say which the daemon has */
    LRD_WELCOME_TOO_MANY = 2, /* all lanes are taken; n_lanes says how many there are */
    LRD_WELCOME_FAILED = 3,   /* the daemon could not make a lane; error is its errno */
    LRD_WELCOME_MALFORMED = 4
};

struct lrd_welcome {
    uint64_t magic;
    uint32_t layout_version;
    uint32_t layout_hash;
    uint32_t result;      /* enum lrd_welcome_result */
    int32_t error;
    uint32_t lane;        /* index; UINT32_MAX: none (peek) */
    uint32_t incarnation;
    uint32_t n_cells;
    uint32_t n_lanes;
    uint64_t segment_bytes;
    uint64_t reserve_bytes;
    uint64_t segment_id;
    uint64_t now_ns;      /* the daemon's CLOCK_MONOTONIC: a client in another time namespace learns its offset */
    uint32_t mark_bytes;  /* of the lane's mark map; 0: none, sample instead */
    uint32_t pad;
    uint64_t reserved[6];
};
static_assert(sizeof(struct lrd_welcome) == 128, "fixed");

#define LRD_FDS_MAX 3

/* Sends one message with descriptors, never blocking, never SIGPIPE. 0 or -errno. */
int lrd_send_fds(int sock, const void *msg, size_t bytes, const int *fds, unsigned n_fds);

/* Receives one message of exactly `bytes` bytes with at most n_fds descriptors (close-on-exec); *got says how many came (may be NULL if n_fds is 0). Whatever does
 * not fit is refused and closed. flags: MSG_DONTWAIT or 0. 0; -EPROTO: another size, or too many descriptors; -EPIPE: the peer closed; -errno. */
int lrd_recv_fds(int sock, void *msg, size_t bytes, int *fds, unsigned n_fds, unsigned *got, int flags);

/* Connects to a SEQPACKET socket at path, close-on-exec. Its descriptor or -errno (-ENAMETOOLONG, -ENOENT, -ECONNREFUSED, -EACCES, ...;
 * -EAGAIN: somebody listens there and did not accept for 250 ms, with a full queue). */
int lrd_connect(const char *path);

/* Whether fd is a memfd that nobody can write, grow or shrink any more (F_SEAL_FUTURE_WRITE, GROW, SHRINK, SEAL), of at least `bytes` bytes. */
int lrd_segment_is_sealed(int fd, uint64_t bytes);

#endif
