/* A descriptor that becomes readable when something has happened, for who sleeps in poll().
 *
 *   the handle's epoll instance, which the caller polls
 *     the connection to the daemon     the bell: the writer sends a message when something that was armed has happened (shm/wait.h); and the daemon's end
 *     an eventfd of the handle's       when the handle has come to another daemon: all that was armed is gone with the last one
 *
 * An instance of our own, because the connection changes with the daemon and what the caller polls must not. Both are in it edge-triggered: a daemon that is gone would be readable
 * for as long as it is. larder_event_clear() takes the edges first and the messages then; a bell between the two is an edge again.
 *
 * Arming is the pattern of all waiting here: say it, then look; the writer makes its change, then looks whether somebody said it. One of the two sees the other, so a caller that is told 0 can sleep.
 * All of a process's threads share the descriptor: whatever was armed, one bell ends it for all of them.
 *
 * The descriptors are looked after under the handle's mutex. A forked child does not use the parent's: they would ring for the parent (take_over() in attach.c).
 */
#include "libclient/client.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/wait.h"

#define ARM_MS 1000u /* for the writer to have it */

/* ---- the descriptor ---- */

static int add(int epoll, int fd)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) < 0 && errno != EEXIST ? -errno : 0;
}

void lrd_event_attached(struct larder *h, const struct lrd_attachment *at)
{
    uint64_t one = 1;
    if (h->event.fd < 0)
        return;
    (void)add(h->event.fd, at->sock); /* without it a sleeper is told below, and arming again says so */
    (void)!write(h->event.own, &one, sizeof one); /* EAGAIN: it is readable */
}

void lrd_event_close(struct larder *h)
{
    if (h->event.fd >= 0) {
        close(h->event.fd);
        close(h->event.own);
    }
    h->event.fd = h->event.own = -1;
}

static int make(struct larder *h, const struct lrd_attachment *at)
{
    h->event.own = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int fd = h->event.own < 0 ? -1 : epoll_create1(EPOLL_CLOEXEC), err = fd < 0 ? -errno : 0;
    if (err == 0)
        err = add(fd, h->event.own);
    if (err == 0 && at != NULL)
        err = add(fd, at->sock);
    if (err == 0) {
        h->event.fd = fd;
        return fd;
    }
    if (fd >= 0)
        close(fd);
    if (h->event.own >= 0)
        close(h->event.own);
    h->event.own = -1;
    return err;
}

int larder_event_fd(struct larder *h)
{
    if (h == NULL)
        return -EINVAL;
    if (h->closed)
        return -EBADF;
    (void)lrd_current(h, h->here); /* a child's first call: without the parent's descriptors from here on */
    pthread_mutex_lock(&h->here->mutex);
    int fd = h->event.fd >= 0 ? h->event.fd : make(h, atomic_load_explicit(&h->here->at, memory_order_relaxed)); /* changes under the mutex only */
    pthread_mutex_unlock(&h->here->mutex);
    return fd;
}

int larder_event_clear(struct larder *h)
{
    struct epoll_event e[4];
    char byte[8];
    uint64_t n;
    if (h == NULL)
        return -EINVAL;
    if (h->closed)
        return -EBADF;
    struct lrd_attachment *at = lrd_current(h, h->here);
    pthread_mutex_lock(&h->here->mutex);
    bool is_there = h->event.fd >= 0;
    if (is_there) {
        (void)epoll_wait(h->event.fd, e, 4, 0);
        (void)!read(h->event.own, &n, sizeof n);
    }
    pthread_mutex_unlock(&h->here->mutex);
    if (!is_there)
        return -EINVAL;
    ssize_t got = 0;
    /* A worker that was killed may have had its answer repeated by the next: descriptors in it find no room and are dropped. */
    while (at != NULL && ((got = recv(at->sock, byte, sizeof byte, MSG_DONTWAIT)) > 0 || (got < 0 && errno == EINTR))) {
    }
    if (at != NULL && got == 0) {
        /* The daemon has hung up, and this edge was the only one: it is not left to the next look, however long ago the last was. */
        if (!lrd_is_down(at))
            lrd_store_relaxed(&h->here->look_ns, 0);
        (void)lrd_renew(h, at);
    }
    return 0;
}

/* ---- arming ---- */

/* 0 and the attachment in use; -EINVAL: nobody has asked for the descriptor, so nobody polls it. */
static int attachment_of(struct larder *h, struct lrd_attachment **at)
{
    *at = lrd_current(h, h->here);
    if (*at == NULL)
        return lrd_no_attachment(h);
    pthread_mutex_lock(&h->here->mutex);
    int r = h->event.fd >= 0 ? 0 : -EINVAL;
    pthread_mutex_unlock(&h->here->mutex);
    return r;
}

int larder_arm_ticket(struct larder *h, larder_ticket ticket)
{
    struct lrd_attachment *at;
    uint64_t position;
    if (h == NULL)
        return -EINVAL;
    int r = attachment_of(h, &at);
    if (r == 0)
        r = lrd_ticket_find(h, ticket, &at, &position);
    if (r != 0)
        return r;
    pthread_mutex_lock(&h->here->mutex);
    bool armed = lrd_arm_position(at->words, at->ring.lane, position);
    pthread_mutex_unlock(&h->here->mutex);
    if (!lrd_lane_is_ours(at) || (armed && lrd_is_down(at)))
        return LARDER_LOST;
    return armed ? 0 : LARDER_CHANGED;
}

/* What arming a watch comes to: LARDER_LOST is a daemon that went meanwhile, and the next look finds out. */
static int arm(struct larder_ns *ns, struct lrd_attachment *at, uint64_t hash, uint32_t flags)
{
    uint32_t rung;
    lrd_arm_watch(at->ring.lane);
    int r = lrd_watch_arm(ns, at, hash, flags | LRD_WATCH_BELL, ARM_MS, &rung);
    return r == LARDER_LOST ? lrd_current(ns->handle, ns->here) != at ? LRD_ELSEWHERE : LARDER_DOWN : r;
}

static int arm_change_in(struct larder_ns *ns, struct lrd_attachment *at, const void *key, size_t key_size, uint64_t version)
{
    uint64_t now, expires_ms;
    int r = lrd_watch_look(ns, at, key, key_size, &now, &expires_ms);
    if (r != 0 || now != version)
        return r != 0 ? r : LARDER_CHANGED;
    r = arm(ns, at, lrd_ns_hash(at, ns, key, key_size), 0);
    if (r == 0)
        r = lrd_watch_look(ns, at, key, key_size, &now, &expires_ms);
    return r != 0 ? r : now != version ? LARDER_CHANGED : 0;
}

int larder_arm_change(struct larder_ns *ns, const void *key, size_t key_size, uint64_t version)
{
    struct lrd_attachment *at;
    int r;
    if (ns == NULL || !lrd_key_ok(key, key_size))
        return -EINVAL;
    do {
        r = attachment_of(ns->handle, &at);
        if (r == 0)
            r = arm_change_in(ns, at, key, key_size, version);
    } while (r == LRD_ELSEWHERE);
    return r;
}

static int arm_watch_in(struct larder_watch *w, struct lrd_attachment *at)
{
    bool moved;
    int r = lrd_watch_moved(w, at, &moved);
    if (r != 0 || moved)
        return r != 0 ? r : LARDER_CHANGED;
    r = arm(w->ns, at, 0, LRD_WATCH_FEED);
    if (r == 0)
        r = lrd_watch_moved(w, at, &moved);
    return r != 0 ? r : moved ? LARDER_CHANGED : 0;
}

int larder_arm_watch(struct larder_watch *w)
{
    struct lrd_attachment *at;
    int r;
    if (w == NULL)
        return -EINVAL;
    do {
        r = attachment_of(w->ns->handle, &at);
        if (r == 0)
            r = arm_watch_in(w, at);
    } while (r == LRD_ELSEWHERE);
    return r;
}
