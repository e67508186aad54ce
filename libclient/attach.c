/* Attaching: how a handle comes to a segment and a lane, and how it gets over fork() and over the end of its daemon.
 *
 * open       connect, say hello, receive the welcome with {segment, lane, doorbell}, check everything, map, publish.
 * fork       lrd_private lies in a page with MADV_WIPEONFORK, which is empty in a child (pthread_atfork would miss a plain clone). Segment, lanes and
 *            read-your-writes tables are not inherited at all. The child's first call finds no attachment, closes its copies of the parent's descriptors and attaches
 *            for itself; the parent does not notice. A child that finds no daemon gets LARDER_DOWN and tries again with later calls.
 * daemon's   A worker that dies is replaced within milliseconds and takes over lanes and segment: nothing happens here. When the keeper dies too, both other ends of
 * end        the socket are closed, and only that counts: a silent heartbeat may be a stopped machine. Somebody has to look: writes when the heartbeat has been silent for
 *            500 ms or the ring stays full, waits, gets that miss or bound the silence, each thousandth get. Whoever sees the end tries to attach to the next daemon
 *            and publishes the new attachment.
 *
 * The attachment that was replaced may still be in use by threads that loaded it before. Its memory is therefore replaced in place by zeros, in one mmap() for the segment
 * and one for the lane, which frees the dead daemon's pages: nothing of it is needed, and a mapping that is kept would keep hundreds of megabytes. What such a thread sees:
 *   - in a get: an empty table, so a miss. An item whose block word it had loaded fails its validation (generation 0 is never used), starts over, and misses. A record
 *     in our own ring has no such word: there `replaced` is looked at.
 *   - in a set: an empty ring of nobody; the write is lost, as it would have been an instant earlier.
 *   - in a wait: a position that does not move; it looks for another attachment every 50 ms.
 * Address space and descriptor numbers stay ours until larder_close(), so nobody else's memory and nobody else's file can be hit: the new socket and doorbell take
 * the numbers of the old (dup3).
 *
 * close      The lane, the segment and all that belongs to them go at once. The struct of the handle and those of its namespaces stay for a while, as do those of the last CLOSED_KEPT
 *            handles of the process: their page is lrd_nobody, where no attachment ever is, so that a call on them comes to where a forked child's first call comes, and is told -EBADF.
 *
 * A process that dies anywhere here leaves a socket that ends: the daemon frees the lane.
 */
#include "libclient/client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/hello.h"
#include "shm/lane.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

#define ANSWER_MS 5000u       /* a worker may have to be restarted meanwhile */
#define RENEW_ANSWER_MS 250u  /* a write that finds its daemon replaced should not wait as long as an open */
#define RESTART_MS 1000u      /* how long a daemon may hang up on us before it is none */
#define RETRY_MS 10u          /* between two looks for a daemon that is not there yet */
#define LOOK_NS 50000000u     /* between two looks at the socket: 2 us in 50 ms */
#define BACKOFF_NS 1000000000u /* after a daemon that did not answer */
#define TIME_EACH 1024u       /* of options.time_each */
#define TIME_EACH_MAX (1u << 20)
#define CLOSED_KEPT 1024u     /* handles */

/* ---- the answer ---- */

struct answer {
    struct lrd_welcome w;
    int fd[LRD_FDS_MAX]; /* segment, lane, doorbell */
    uint64_t before_ns;  /* our clock around the daemon's now_ns */
    uint64_t after_ns;
};

static void close_answer(const struct answer *a)
{
    for (unsigned i = 0; i < LRD_FDS_MAX; i++)
        close(a->fd[i]);
}

static int connect_result(int err)
{
    switch (-err) {
    case ENOENT:
    case ENOTDIR:
    case ECONNREFUSED:
        return LARDER_NO_SOCKET;
    case EACCES:
    case EPERM:
        return LARDER_DENIED;
    case EPROTOTYPE: /* something listens there that is not SOCK_SEQPACKET */
        return LARDER_PROTOCOL;
    default:
        return err;
    }
}

/* What the welcome says, without its descriptors. */
static int welcome_result(const struct lrd_welcome *w)
{
    if (w->magic != LRD_HELLO_MAGIC)
        return LARDER_PROTOCOL;
    if (w->result == LRD_WELCOME_VERSION || w->layout_version != LRD_LAYOUT_VERSION || w->layout_hash != LRD_LAYOUT_HASH)
        return LARDER_VERSION_MISMATCH;
    switch (w->result) {
    case LRD_WELCOME_OK:
        return 0;
    case LRD_WELCOME_TOO_MANY:
        return LARDER_TOO_MANY;
    case LRD_WELCOME_FAILED:
        /* Its sign is not believed, nor that it is an errno at all. */
        return w->error > 0 && w->error < 4096 ? -w->error : w->error < 0 && w->error > -4096 ? w->error : LARDER_PROTOCOL;
    default:
        return LARDER_PROTOCOL;
    }
}

/* Waits until something is there to be received. 0; LARDER_TIMEOUT; -errno. */
static int wait_readable(int sock, uint32_t timeout_ms)
{
    uint64_t end = lrd_clock_ns() + (uint64_t)timeout_ms * 1000000u;
    for (;;) {
        uint64_t now = lrd_clock_ns();
        struct pollfd p = {.fd = sock, .events = POLLIN};
        int n = poll(&p, 1, now < end ? (int)((end - now + 999999u) / 1000000u) : 0);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0 && now >= end)
            return LARDER_TIMEOUT;
    }
}

/* Says hello and takes the answer. 0 and *a with three descriptors; -EPIPE: the peer hung up instead; an outcome of larder_open(). */
static int ask(int sock, uint32_t timeout_ms, struct answer *a)
{
    const struct lrd_hello hello = {.magic = LRD_HELLO_MAGIC, .layout_version = LRD_LAYOUT_VERSION, .layout_hash = LRD_LAYOUT_HASH};
    a->before_ns = lrd_clock_ns();
    int r = lrd_send_fds(sock, &hello, sizeof hello, NULL, 0);
    if (r == 0)
        r = wait_readable(sock, timeout_ms);
    unsigned got = 0;
    if (r == 0)
        r = lrd_recv_fds(sock, &a->w, sizeof a->w, a->fd, LRD_FDS_MAX, &got, MSG_DONTWAIT);
    a->after_ns = lrd_clock_ns();
    if (r == -ECONNRESET)
        return -EPIPE;
    if (r == -EPROTO || r == -EAGAIN)
        return LARDER_PROTOCOL;
    if (r != 0)
        return r;
    r = welcome_result(&a->w);
    if (r == 0 && got != LRD_FDS_MAX)
        r = LARDER_PROTOCOL;
    if (r != 0)
        for (unsigned i = 0; i < got; i++)
            close(a->fd[i]);
    return r;
}

/* ---- mapping ---- */

/* A place of `reserve` bytes whose start is aligned to a huge page: without that the kernel maps huge pages in small pieces. */
static void *reserve_address(size_t reserve)
{
    char *p = mmap(NULL, reserve + LRD_HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    size_t head = (LRD_HUGE - (uintptr_t)p % LRD_HUGE) % LRD_HUGE;
    if (head > 0)
        munmap(p, head);
    munmap(p + head + reserve, LRD_HUGE - head);
    return p + head;
}

static size_t round_to_huge(uint64_t bytes) { return (size_t)((bytes + LRD_HUGE - 1) & ~(uint64_t)(LRD_HUGE - 1)); }

/* Not inherited, not in core files: either could be the whole segment. Advice; its failing harms nobody. */
static void keep_private(void *p, size_t bytes)
{
    madvise(p, bytes, MADV_DONTFORK);
    madvise(p, bytes, MADV_DONTDUMP);
}

static int map_segment(struct lrd_attachment *at, const struct answer *a, bool populate)
{
    if (a->w.segment_bytes < LRD_PAGE || a->w.segment_bytes > a->w.reserve_bytes || a->w.reserve_bytes > SIZE_MAX / 4)
        return LARDER_PROTOCOL;
    if (!lrd_segment_is_sealed(a->fd[0], a->w.segment_bytes))
        return LARDER_NOT_SEALED;
    size_t bytes = (size_t)a->w.segment_bytes;
    at->reserved_bytes = round_to_huge(a->w.reserve_bytes);
    at->base = reserve_address(at->reserved_bytes);
    if (at->base == NULL) {
        /* A limit on address space: do without room to grow. */
        at->reserved_bytes = round_to_huge(bytes);
        at->base = reserve_address(at->reserved_bytes);
    }
    if (at->base == NULL)
        return -ENOMEM;
    if (mmap(at->base, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, a->fd[0], 0) == MAP_FAILED)
        return -errno;
    keep_private(at->base, at->reserved_bytes);
    madvise(at->base, bytes, MADV_HUGEPAGE);
    if (populate)
        madvise(at->base, bytes, MADV_POPULATE_READ); /* before Linux 5.14: first touches fault, that is all */

    switch (lrd_reader_init(&at->r, at->base, bytes)) {
    case LRD_SEGMENT_GOOD:
        break;
    case LRD_SEGMENT_OTHER_VERSION:
        return LARDER_VERSION_MISMATCH;
    default:
        return LARDER_PROTOCOL;
    }
    const struct lrd_geometry *g = &at->r.geometry;
    if (g->segment_id != a->w.segment_id || a->w.lane >= g->n_lanes || a->w.n_cells != g->n_cells)
        return LARDER_PROTOCOL;
    if (a->w.mark_bytes != 0 && a->w.mark_bytes != g->mark_bytes)
        return LARDER_PROTOCOL; /* every bucket has a byte, or none has */
    at->words = &at->r.lanes[a->w.lane];
    at->credit = &at->r.credits[a->w.lane];
    return 0;
}

static size_t lane_span(const struct lrd_ring *ring) { return (size_t)lrd_lane_bytes(ring->n_cells, ring->mark_bytes) + (size_t)ring->n_cells * LRD_CELL; }

static int map_lane(struct lrd_attachment *at, const struct answer *a)
{
    int r = lrd_lane_map(a->fd[1], a->w.n_cells, a->w.mark_bytes, &at->ring);
    if (r == -EINVAL)
        return LARDER_NOT_SEALED;
    if (r == 0)
        keep_private(at->ring.lane, lane_span(&at->ring));
    return r;
}

/* Our clock at segment time 0. The daemon's clock lies between our two looks: it is the same clock. Else it is another's, of another time
 * namespace, and the middle of our looks is the best guess; off by half the time the answer took. */
static uint64_t clock_zero(const struct answer *a, uint64_t created_ns)
{
    if (a->before_ns <= a->w.now_ns && a->w.now_ns <= a->after_ns)
        return created_ns;
    return created_ns - (a->w.now_ns - (a->before_ns + (a->after_ns - a->before_ns) / 2));
}

/* ---- descriptors: numbers that may have been closed behind our back ---- */

static struct lrd_fd_id fd_id(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 ? (struct lrd_fd_id){st.st_dev, st.st_ino} : (struct lrd_fd_id){0, 0};
}

static bool fd_is(int fd, struct lrd_fd_id id)
{
    struct lrd_fd_id now = fd_id(fd);
    return id.ino != 0 && now.ino == id.ino && now.dev == id.dev;
}

static void close_if_ours(int fd, struct lrd_fd_id *id)
{
    if (fd_is(fd, *id))
        close(fd);
    *id = (struct lrd_fd_id){0, 0};
}

/* All eventfds look alike; the socket is one of its kind and goes first, so where it is gone the doorbell is left alone. */
static void close_fds(struct lrd_attachment *at)
{
    if (fd_is(at->sock, at->sock_id))
        close_if_ours(at->doorbell, &at->doorbell_id);
    close_if_ours(at->sock, &at->sock_id);
}

/* Gives *fd the number of a descriptor it replaces, in one step: whoever still uses that number reaches the new one. */
static void take_number(int *fd, int old, struct lrd_fd_id *old_id)
{
    if (fd_is(old, *old_id) && dup3(*fd, old, O_CLOEXEC) >= 0) {
        close(*fd);
        *fd = old;
        *old_id = (struct lrd_fd_id){0, 0}; /* not the old attachment's any more */
    }
}

/* ---- an attachment ---- */

static void unmap(struct lrd_attachment *at)
{
    if (at->ryw.entry != NULL)
        lrd_ryw_destroy(&at->ryw);
    lrd_lane_unmap(&at->ring);
    if (at->base != NULL)
        munmap(at->base, at->reserved_bytes);
}

/* How often a hit does more than that: the least of the powers of two that somebody wants. */
static uint64_t look_each(const struct lrd_attachment *at)
{
    uint32_t each = at->ring.marks != NULL ? LRD_LOOK_EACH : LRD_SAMPLE_EACH;
    return at->time_each != 0 && at->time_each < each ? at->time_each : each;
}

/* Makes an attachment of an answer; the answer's descriptors are the attachment's then, or closed. */
static int attachment_create(const struct larder *h, int sock, const struct answer *a, struct lrd_attachment **out)
{
    struct lrd_attachment *at = aligned_alloc(_Alignof(struct lrd_attachment), sizeof *at);
    if (at == NULL) {
        close_answer(a);
        return -ENOMEM;
    }
    memset(at, 0, sizeof *at);
    int r = map_segment(at, a, (h->options.flags & LARDER_OPEN_NO_POPULATE) == 0);
    if (r == 0)
        r = map_lane(at, a);
    if (r == 0)
        r = lrd_ryw_create(&at->ryw, a->w.n_cells);
    if (r != 0) {
        unmap(at);
        free(at);
        close_answer(a);
        return r;
    }
    close(a->fd[0]); /* the mappings keep what they need */
    close(a->fd[1]);
    at->sock = sock;
    at->doorbell = a->fd[2];
    at->sock_id = fd_id(at->sock);
    at->doorbell_id = fd_id(at->doorbell);
    at->zero_ns = clock_zero(a, at->r.geometry.created_ns);
    at->max_silence_ms = h->options.max_silence_ms;
    at->time_each = h->options.time_each;
    lrd_store32_relaxed(&at->special, (at->max_silence_ms != 0 ? LRD_SPECIAL_SILENCE : 0) | (at->time_each == 1));
    at->marks = lrd_marks_make(at->ring.marks, at->r.buckets, &at->full_mark);
    at->look_mask = look_each(at) - 1;
    at->lane_incarnation = a->w.incarnation;
    *out = at;
    return 0;
}

static int attach_to(const struct larder *h, const char *path, uint32_t answer_ms, struct lrd_attachment **out)
{
    int sock = lrd_connect(path);
    if (sock < 0)
        return connect_result(sock);
    struct answer a;
    int r = ask(sock, answer_ms, &a);
    if (r == 0)
        r = attachment_create(h, sock, &a, out);
    if (r != 0)
        close(sock);
    return r;
}

/* Tries the paths in order. Of several failures the first that says more than "nothing there". */
static int attach_once(const struct larder *h, uint32_t answer_ms, struct lrd_attachment **out)
{
    int first = LARDER_NO_SOCKET;
    for (unsigned i = 0; i < h->n_paths; i++) {
        int r = attach_to(h, h->path[i], answer_ms, out);
        if (r == 0)
            return 0;
        if (first == LARDER_NO_SOCKET)
            first = r;
    }
    return first;
}

/* ---- replacing one; under the mutex ---- */

/* Nobody needs what is there any more, but somebody may still look. */
static void zero_in_place(void *p, size_t bytes, int prot)
{
    /* If the kernel refuses, the old pages stay: they only cost memory. */
    if (mmap(p, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED)
        keep_private(p, bytes);
}

static void retire(struct lrd_attachment *at)
{
    /* Before the zeros: who has read one of them in our lane and looks here afterwards sees it. Pairs with the acquire fence in lrd_ryw_get(). */
    lrd_store_release(&at->replaced, 1);
    zero_in_place(at->base, (size_t)at->r.geometry.segment_bytes, PROT_READ);
    zero_in_place(at->ring.lane, lane_span(&at->ring), PROT_READ | PROT_WRITE);
    lrd_ryw_clear(&at->ryw);
}

static void publish(struct larder *h, struct lrd_attachment *at)
{
    struct lrd_attachment *old = atomic_load_explicit(&h->here->at, memory_order_relaxed); /* changes under the mutex only */
    at->incarnation = ++h->n_attached;
    lrd_ns_look_up(h, at);
    if (old != NULL) {
        if (lrd_load_acquire(&old->words->applied) < lrd_load_relaxed(&old->ring.lane->tail))
            lrd_store_relaxed(&h->here->lost, 1);
        take_number(&at->doorbell, old->doorbell, &old->doorbell_id);
        take_number(&at->sock, old->sock, &old->sock_id);
    }
    /* One store, so that a process forked at any instant finds a whole list. */
    at->older = h->newest;
    h->newest = at;
    /* Publishes all of the attachment; pairs with the acquire in lrd_current(). */
    atomic_store_explicit(&h->here->at, at, memory_order_release);
    lrd_event_attached(h, at);
    if (old != NULL)
        retire(old);
}

/* As the doorbell: they look like all of their kind, so where the socket is gone they are left alone. */
static void close_event(struct larder *h)
{
    if (h->newest == NULL || fd_is(h->newest->sock, h->newest->sock_id))
        lrd_event_close(h);
    h->event.fd = h->event.own = -1;
}

/* The first thing a child does with an inherited handle. The parent's mappings are not here, and what is at those addresses now is not ours. */
static void take_over(struct larder *h)
{
    if (h->here->born)
        return;
    h->here->born = true;
    close_event(h);
    for (struct lrd_attachment *at = h->newest, *older; at != NULL; at = older) {
        older = at->older;
        close_fds(at);
        free(at);
    }
    h->newest = NULL;
}

/* One try, and when the next may be. */
static void try_attach(struct larder *h, uint32_t answer_ms)
{
    struct lrd_attachment *at;
    int r = attach_once(h, answer_ms, &at);
    if (r == 0)
        publish(h, at);
    lrd_store_relaxed(&h->here->look_ns, lrd_clock_ns() + (r == LARDER_TIMEOUT || r == -EAGAIN ? BACKOFF_NS : LOOK_NS));
}

struct lrd_attachment *lrd_attach_first(struct larder *h)
{
    struct lrd_private *here = h->here;
    if (h->closed)
        return NULL;
    pthread_mutex_lock(&here->mutex);
    take_over(h);
    if (atomic_load_explicit(&here->at, memory_order_relaxed) == NULL && lrd_clock_ns() >= lrd_load_relaxed(&here->look_ns))
        try_attach(h, ANSWER_MS);
    struct lrd_attachment *at = atomic_load_explicit(&here->at, memory_order_relaxed);
    pthread_mutex_unlock(&here->mutex);
    return at;
}

/* Both other ends of the socket are closed, keeper's and worker's; or our own is, by somebody who closes all descriptors there are. */
static bool daemon_is_gone(const struct lrd_attachment *at)
{
    if (!fd_is(at->sock, at->sock_id) || !lrd_lane_is_ours(at))
        return true;
    struct pollfd p = {.fd = at->sock};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR)) != 0;
}

bool lrd_renew(struct larder *h, struct lrd_attachment *at)
{
    struct lrd_private *here = h->here;
    if (atomic_load_explicit(&here->at, memory_order_acquire) != at)
        return true;
    /* Relaxed: two threads that look at the same time are no harm. */
    uint64_t now = lrd_clock_ns();
    if (now < lrd_load_relaxed(&here->look_ns))
        return false;
    /* Whoever comes while another thread is at it does not wait for the outcome: its call has a deadline. */
    if (pthread_mutex_trylock(&here->mutex) != 0)
        return false;
    bool other = atomic_load_explicit(&here->at, memory_order_relaxed) != at;
    if (!other) {
        lrd_store_relaxed(&here->look_ns, now + LOOK_NS);
        if (daemon_is_gone(at)) {
            lrd_store_relaxed(&at->down, 1);
            try_attach(h, RENEW_ANSWER_MS);
        }
        other = atomic_load_explicit(&here->at, memory_order_relaxed) != at;
    }
    pthread_mutex_unlock(&here->mutex);
    return other;
}

/* ---- open and close ---- */

static int copy_options(struct larder_options *to, const struct larder_options *from)
{
    *to = (struct larder_options){.size = sizeof *to, .time_each = TIME_EACH};
    if (from == NULL)
        return 0;
    /* Of a newer caller with a longer struct we understand nothing of the rest: not to be ignored. */
    if (from->size != sizeof *from || (from->flags & ~(LARDER_OPEN_NO_POPULATE | LARDER_OPEN_WAIT_VISIBLE)) != 0)
        return -EINVAL;
    *to = *from;
    if (to->reserved != 0 || (to->time_each != LARDER_NO_TIMES && (to->time_each > TIME_EACH_MAX || (to->time_each & (to->time_each - 1)) != 0)))
        return -EINVAL;
    to->time_each = to->time_each == LARDER_NO_TIMES ? 0 : to->time_each == 0 ? TIME_EACH : to->time_each;
    if (to->max_silence_ms > 0 && to->max_silence_ms < 200)
        to->max_silence_ms = 200; /* twice the writer's longest silence */
    return 0;
}

static int add_path(struct larder *h, const char *dir, const char *name)
{
    char *path;
    if (asprintf(&path, "%s%s", dir, name) < 0)
        return -ENOMEM;
    h->path[h->n_paths++] = path;
    return 0;
}

static int find_paths(struct larder *h, const char *socket)
{
    if (socket == NULL)
        socket = secure_getenv("LARDER_SOCKET");
    if (socket != NULL && *socket != '\0')
        return add_path(h, socket, "");
    int r = add_path(h, "/run/larder/default.sock", "");
    const char *runtime = secure_getenv("XDG_RUNTIME_DIR");
    if (r == 0 && runtime != NULL && *runtime == '/')
        r = add_path(h, runtime, "/larder/default.sock");
    return r;
}

static int private_create(struct lrd_private **out)
{
    size_t bytes = (sizeof **out + LRD_PAGE - 1) & ~(size_t)(LRD_PAGE - 1);
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return -errno;
    if (madvise(p, bytes, MADV_WIPEONFORK) < 0) {
        int err = -errno;
        munmap(p, bytes);
        return err;
    }
    *out = p;
    (*out)->born = true;
    return 0;
}

/* All but what a call on a closed handle looks at. */
static void empty(struct larder *h)
{
    if (h->here != NULL)
        munmap(h->here, sizeof *h->here);
    for (unsigned i = 0; i < h->n_paths; i++)
        free(h->path[i]);
    h->n_paths = 0;
    lrd_breaker_free(h);
}

static void drop(struct larder *h)
{
    lrd_ns_free_all(h);
    free(h);
}

/* ---- closed handles ---- */

struct lrd_private lrd_nobody; /* never written */

static struct {
    _Atomic(struct larder *) handle[CLOSED_KEPT];
    lrd_u64 n; /* ever closed: the next takes the place of the oldest. Without a lock: a process may be forked at any instant */
} closed;

/* Release, and acquire by who takes it out: whoever frees it does so after all that was done with it here. */
static void keep_closed(struct larder *h)
{
    struct larder *oldest = atomic_exchange_explicit(&closed.handle[lrd_fetch_add_relaxed(&closed.n, 1) % CLOSED_KEPT], h, memory_order_acq_rel);
    if (oldest != NULL)
        drop(oldest);
}

/* A library that is unloaded leaves nothing behind. */
__attribute__((destructor)) static void drop_closed(void)
{
    for (unsigned i = 0; i < CLOSED_KEPT; i++) {
        struct larder *h = atomic_exchange_explicit(&closed.handle[i], NULL, memory_order_acq_rel);
        if (h != NULL)
            drop(h);
    }
}

/* Until when another try is worth it: what may be otherwise in a moment, when a daemon starts, is tried until the caller's deadline; a full queue as long as an answer. Who hangs up instead of answering is
 * a worker that was killed, and the next one is there within milliseconds: asking again is part of asking. */
static uint64_t tries_end(int result, uint64_t start_ns, uint32_t timeout_ms)
{
    uint64_t least_ms = result == -EAGAIN ? ANSWER_MS : result == -EPIPE ? RESTART_MS : 0;
    uint64_t ms = least_ms > 0 || result == LARDER_NO_SOCKET ? (timeout_ms > least_ms ? timeout_ms : least_ms) : 0;
    return start_ns + ms * 1000000u;
}

static int attach_until(const struct larder *h, uint32_t timeout_ms, struct lrd_attachment **out)
{
    uint64_t start = lrd_clock_ns();
    for (;;) {
        int r = attach_once(h, ANSWER_MS, out);
        if (lrd_clock_ns() >= tries_end(r, start, timeout_ms))
            return r == -EPIPE ? LARDER_PROTOCOL : r == -EAGAIN ? LARDER_TIMEOUT : r;
        const struct timespec nap = {.tv_nsec = RETRY_MS * 1000000};
        nanosleep(&nap, NULL);
    }
}

int larder_open(struct larder **out, const struct larder_options *options)
{
    if (out == NULL)
        return -EINVAL;
    *out = NULL;
    struct larder *h = calloc(1, sizeof *h);
    if (h == NULL)
        return -ENOMEM;
    int r = copy_options(&h->options, options);
    if (r == 0)
        r = find_paths(h, h->options.socket);
    if (r == 0)
        r = private_create(&h->here);
    h->options.socket = NULL; /* the caller's string */
    struct lrd_attachment *at = NULL;
    if (r == 0)
        r = attach_until(h, h->options.open_timeout_ms, &at);
    if (r != 0) {
        empty(h);
        drop(h);
        return r;
    }
    h->event.fd = h->event.own = -1;
    h->default_ns = (struct larder_ns){.handle = h, .here = h->here, .name = "default"};
    h->ns[0] = &h->default_ns;
    lrd_store32_relaxed(&h->n_ns, 1);
    publish(h, at);
    *out = h;
    return 0;
}

void larder_close(struct larder *h)
{
    if (h == NULL || h->closed)
        return;
    take_over(h); /* a child that never used it frees no more than its own */
    close_event(h);
    lrd_watch_free_all(h);
    for (struct lrd_attachment *at = h->newest, *older; at != NULL; at = older) {
        older = at->older;
        close_fds(at);
        unmap(at);
        free(at);
    }
    h->newest = NULL;
    empty(h);
    h->here = &lrd_nobody;
    lrd_ns_close_all(h);
    h->closed = true;
    keep_closed(h);
}

struct larder_ns *larder_default(struct larder *h) { return h == NULL || h->closed ? NULL : &h->default_ns; }

size_t larder_item_max(struct larder *h)
{
    struct lrd_attachment *at = h == NULL ? NULL : lrd_current(h, h->here);
    return at == NULL ? 0 : at->r.geometry.item_max;
}
