/* Getting hold of the segment, and of a lane. */
#include "tools/ctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/clock.h"
#include "shm/hello.h"

#define DEFAULT_SOCKET "/run/larder/default.sock"
#define ANSWER_S 5           /* the keeper has nothing else to do */
#define SAME_CLOCK_NS 1000000000u /* a smaller difference is the message's way, not another time namespace */

const char *ctl_socket(const char *given)
{
    static char path[4096];
    if (given)
        return given;
    const char *named = getenv("LARDER_SOCKET");
    if (named && *named)
        return named;
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    if (access(DEFAULT_SOCKET, F_OK) != 0 && runtime && *runtime) {
        int n = snprintf(path, sizeof path, "%s/larder/default.sock", runtime);
        if (n > 0 && (size_t)n < sizeof path && access(path, F_OK) == 0)
            return path;
    }
    return DEFAULT_SOCKET;
}

/* What listens at a socket is named by that: its user knows no other name. */
static enum ctl_status no_answer(const char *socket, const char *peek, int err)
{
    switch (-err) {
    case ENOENT:
    case ECONNREFUSED:
        ctl_error("no daemon at %s: start larderd, or name its socket with --socket", socket);
        return CTL_NO_DAEMON;
    case EAGAIN:
    case EPIPE:
        ctl_error("the daemon at %s does not answer: is its keeper stopped?", socket);
        return CTL_NO_DAEMON;
    case EACCES:
        ctl_error("not permitted to connect to %s: run as a user or group that may write to it", peek);
        return CTL_FAILURE;
    case EPROTO:
        ctl_error("what listens at %s is not a larderd: name its socket with --socket", peek);
        return CTL_FAILURE;
    case ENAMETOOLONG:
        ctl_error("%s is longer than a socket's path may be (107 bytes)", peek);
        return CTL_FAILURE;
    default:
        ctl_error("cannot connect to %s: %s", peek, strerror(-err));
        return CTL_FAILURE;
    }
}

/* The keeper's answer; *fd is the segment. 0 or -errno. */
static int receive(const char *peek, struct lrd_welcome *w, int *fd)
{
    const struct timeval timeout = {.tv_sec = ANSWER_S};
    unsigned got = 0;
    int sock = lrd_connect(peek);
    if (sock < 0)
        return sock;
    setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    int r = lrd_recv_fds(sock, w, sizeof *w, fd, 1, &got, 0);
    close(sock);
    if (r == 0 && (got != 1 || w->magic != LRD_HELLO_MAGIC)) {
        if (got == 1)
            close(*fd);
        r = -EPROTO;
    }
    return r;
}

/* Segment time 0 on this process's clock. */
static uint64_t zero_of(uint64_t created_ns, uint64_t daemon_now_ns)
{
    uint64_t ahead = lrd_clock_ns() - daemon_now_ns; /* wraps if we are behind: another time namespace */
    return ahead < SAME_CLOCK_NS ? created_ns : created_ns + ahead;
}

static enum ctl_status map(struct ctl_peek *p, const char *peek, int fd, const struct lrd_welcome *w)
{
    if (w->segment_bytes > SIZE_MAX || !lrd_segment_is_sealed(fd, w->segment_bytes)) {
        ctl_error("%s sent something that is not a sealed segment: not a larderd", peek);
        return CTL_FAILURE;
    }
    p->bytes = (size_t)w->segment_bytes;
    p->base = mmap(NULL, p->bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (p->base == MAP_FAILED) {
        ctl_error("cannot map the %zu bytes of the segment of %s: %s", p->bytes, peek, strerror(errno));
        return CTL_FAILURE;
    }
    enum lrd_segment_state state = lrd_reader_init(&p->r, p->base, p->bytes);
    if (state == LRD_SEGMENT_GOOD) {
        p->zero_ns = zero_of(p->r.geometry.created_ns, w->now_ns);
        return CTL_OK;
    }
    if (state == LRD_SEGMENT_OTHER_VERSION)
        ctl_error("the segment of %s has layout %u (%08x), this larderctl knows %u (%08x): use the larderctl that came with that larderd", peek,
                  w->layout_version, w->layout_hash, LRD_LAYOUT_VERSION, LRD_LAYOUT_HASH);
    else
        ctl_error("the segment of %s is %s", peek, lrd_segment_state_text(state));
    ctl_peek_close(p);
    return CTL_FAILURE;
}

enum ctl_status ctl_peek_open(struct ctl_peek *p, const char *socket)
{
    struct lrd_welcome w;
    int fd = -1;
    size_t bytes = strlen(socket) + sizeof ".peek";
    char *peek = ctl_alloc(bytes, 1);
    snprintf(peek, bytes, "%s.peek", socket);
    memset(p, 0, sizeof *p);
    int r = receive(peek, &w, &fd);
    enum ctl_status status = r < 0 ? no_answer(socket, peek, r) : map(p, peek, fd, &w);
    if (fd >= 0 && r == 0)
        close(fd);
    free(peek);
    return status;
}

void ctl_peek_close(struct ctl_peek *p)
{
    if (p->base)
        munmap(p->base, p->bytes);
    p->base = NULL;
}

uint64_t ctl_now_ms(const struct ctl_peek *p) { return lrd_clock_segment_ms(p->zero_ns); }

uint64_t ctl_silence_ms(const struct ctl_peek *p)
{
    /* Relaxed: a stale look says a silence that is too long by nanoseconds. */
    uint64_t last = lrd_load_relaxed(&p->r.header->heartbeat_ms), now = ctl_now_ms(p);
    return now > last ? now - last : 0;
}

enum ctl_status ctl_result_status(int result)
{
    switch (result) {
    case LARDER_OK:
        return CTL_OK;
    case LARDER_MISS:
        return CTL_WARNING;
    case LARDER_NO_SOCKET:
    case LARDER_DOWN:
        return CTL_NO_DAEMON;
    default:
        return CTL_FAILURE;
    }
}

enum ctl_status ctl_attach(struct larder **out, const struct ctl_call *call)
{
    const struct larder_options options = {
        .size = sizeof options, .socket = call->socket, .busy_timeout_ms = 1000, .flags = LARDER_OPEN_NO_POPULATE};
    int r = larder_open(out, &options);
    if (r == LARDER_NO_SOCKET)
        ctl_error("no daemon at %s: start larderd, or name its socket with --socket", call->socket);
    else if (r == LARDER_TIMEOUT)
        ctl_error("the worker at %s does not answer: see larderctl ping", call->socket);
    else if (r != LARDER_OK)
        ctl_error("cannot attach to %s: %s", call->socket, larder_strerror(r));
    return ctl_result_status(r);
}

enum ctl_status ctl_look_up(const struct ctl_call *call, enum ctl_status (*look)(const struct ctl_call *call, const struct ctl_peek *p, const struct ctl_bytes *key))
{
    struct ctl_bytes key;
    struct ctl_peek p;
    if (!ctl_key_argument(call, &key))
        return CTL_USAGE;
    enum ctl_status status = ctl_peek_open(&p, call->socket);
    if (status == CTL_OK) {
        status = look(call, &p, &key);
        ctl_peek_close(&p);
    }
    free(key.data);
    return status;
}
