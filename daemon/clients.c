/* Attaching, step by step, and what the next worker makes of it if this one dies behind a step. Each step leaves the lane's words in the segment and what the keeper
 * holds so that these two alone decide.
 *
 *   step                                    state      kept   the next worker
 *   lane, doorbell made and mapped          FREE       no     knows nothing of it; the kernel closes them, and the connection: the client asks again
 *   words of the lane                       FREE       no     as before
 *   state = PREPARED                        PREPARED   no     makes it FREE
 *   KEEP sent                               PREPARED   yes    makes it FREE, sends DROP: the keeper closes the connection, the client asks again
 *   KEPT received, state = LIVE             LIVE       yes    answers, adds it to its writer
 *   given to the writer, answer sent        LIVE       yes    answers once more: the client ignores what comes after the first
 *   answered = 1                            LIVE       yes    adds it to its writer
 *
 * The answer is not sent before the keeper has the lane, because what a client writes from then on must outlive us.
 *
 *   client gone: state = DYING              DYING      yes    adds it to its writer and drains it; its connection need not be looked at again
 *   the writer has drained it: FREE         FREE       yes    sends DROP
 *   DROP sent                               FREE       no     knows nothing of it
 *
 * A client is gone when its process is (pidfd) or its connection is closed. A forked child may hold the connection open, so the process decides; where it is out of
 * our sight (another pid namespace, an old kernel) the connection does. Whoever sends anything after its hello is not one of our clients, and is cut off.
 */
#include "daemon/clients.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/pages.h"
#include "shm/clock.h"
#include "shm/hello.h"
#include "shm/lane.h"
#include "shm/testpoint.h"
#include "shm/wait.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define N_GUESTS 64u          /* connections without a hello; the oldest goes when there are more */
#define HELLO_SECONDS 5
#define ACCEPTS_PER_TURN 16u
#define PAUSE_US 100000       /* when descriptors are short: a level-triggered accept would spin */
#define COMPLAIN_MS 10000u    /* one line about refusals in this time */

/* A connection that has not said hello. */
struct guest {
    struct lrd_clients *c;
    struct event *event; /* NULL: this place is empty */
    int fd;
    uint64_t came;
};

enum seat_state {
    SEAT_EMPTY,
    SEAT_ASKED,    /* KEEP is sent */
    SEAT_LIVE,
    SEAT_DYING,    /* the writer drains it */
    SEAT_DROPPING  /* DROP did not fit into the pair yet */
};

/* One for each lane. */
struct seat {
    struct lrd_clients *c;
    enum seat_state state;
    uint32_t lane;
    struct lrd_ring ring;
    int lane_fd, doorbell, socket, pidfd;
    struct event *on_socket, *on_pidfd;
};

struct lrd_clients {
    const struct lrd_house *house;
    struct lrd_store *store;
    struct lrd_writer *writer;
    struct event_base *base;
    struct event *on_connect, *on_pause_end, *on_keeper, *on_keeper_room, *on_drained, *on_bells;
    struct seat *seats;
    uint32_t n_seats;
    struct guest guests[N_GUESTS];
    uint64_t n_came;
    uint64_t complained_ms; /* 0: never */
};

static struct lrd_lane_words *words_of(const struct seat *s) { return &s->c->store->lanes[s->lane]; }

/* Counters of the clerk: no other thread writes these. */
static void count(struct lrd_clients *c, enum lrd_counter_id id) { lrd_add_own(&c->store->counters[id], 1); }

static void close_if(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void free_event(struct event **e)
{
    if (*e != NULL)
        event_free(*e);
    *e = NULL;
}

/* ---- answers ---- */

static struct lrd_welcome make_welcome(const struct lrd_clients *c, enum lrd_welcome_result result, int error)
{
    const struct lrd_geometry *g = &c->house->geometry;
    return (struct lrd_welcome){
        .magic = LRD_HELLO_MAGIC,
        .layout_version = LRD_LAYOUT_VERSION,
        .layout_hash = LRD_LAYOUT_HASH,
        .result = result,
        .error = error,
        .lane = UINT32_MAX,
        .n_cells = g->n_cells,
        .n_lanes = g->n_lanes,
        .segment_bytes = g->segment_bytes,
        .reserve_bytes = g->reserve_bytes,
        .segment_id = g->segment_id,
        .now_ns = lrd_clock_ns(),
    };
}

/* Says no and hangs up. */
static void refuse(struct lrd_clients *c, int fd, enum lrd_welcome_result result, int error)
{
    struct lrd_welcome w = make_welcome(c, result, error);
    count(c, LRD_C_refused);
    lrd_send_fds(fd, &w, sizeof w, NULL, 0); /* who does not take it hears nothing but the end */
    close(fd);
}

/* Somebody should know, but a client that tries in a loop must not fill the log. */
static bool may_complain(struct lrd_clients *c)
{
    uint64_t now = lrd_clock_segment_ms(c->house->geometry.created_ns) + 1;
    if (c->complained_ms != 0 && now - c->complained_ms < COMPLAIN_MS)
        return false;
    c->complained_ms = now;
    return true;
}

static int answer(struct seat *s)
{
    struct lrd_welcome w = make_welcome(s->c, LRD_WELCOME_OK, 0);
    const int fds[LRD_FDS_MAX] = {s->c->house->segment, s->lane_fd, s->doorbell};
    w.lane = s->lane;
    w.incarnation = lrd_load32_relaxed(&words_of(s)->incarnation);
    w.mark_bytes = s->ring.mark_bytes;
    return lrd_send_fds(s->socket, &w, sizeof w, fds, LRD_FDS_MAX);
}

/* ---- leaving ---- */

static void empty_seat(struct seat *s)
{
    free_event(&s->on_socket);
    free_event(&s->on_pidfd);
    lrd_lane_unmap(&s->ring);
    s->ring.mark_bytes = 0;
    close_if(&s->lane_fd);
    close_if(&s->doorbell);
    close_if(&s->socket);
    close_if(&s->pidfd);
    s->state = SEAT_EMPTY;
}

/* The lane is FREE and its descriptors are closed here; now the keeper's. Only then may the lane be used again. */
static void drop(struct seat *s)
{
    struct lrd_keeper_message m = {.kind = LRD_KEEPER_DROP, .lane = s->lane, .incarnation = lrd_load32_relaxed(&words_of(s)->incarnation)};
    LRD_TESTPOINT("drop_before_keeper");
    int err = lrd_send_fds(s->c->house->keeper, &m, sizeof m, NULL, 0);
    s->state = err == -EAGAIN ? SEAT_DROPPING : SEAT_EMPTY;
    if (err == -EAGAIN)
        event_add(s->c->on_keeper_room, NULL);
}

static void retry_drops(evutil_socket_t fd, short what, void *arg)
{
    struct lrd_clients *c = arg;
    (void)fd, (void)what;
    for (uint32_t i = 0; i < c->n_seats; i++)
        if (c->seats[i].state == SEAT_DROPPING)
            drop(&c->seats[i]);
}

static void drain(struct seat *s)
{
    s->state = SEAT_DYING;
    lrd_writer_drain(s->c->writer, s->lane);
}

static void let_go(struct seat *s)
{
    if (s->state != SEAT_LIVE)
        return;
    lrd_log(LRD_DEBUG, "lane %u: client %llu is gone", s->lane, (unsigned long long)lrd_load_relaxed(&words_of(s)->client_pid));
    free_event(&s->on_socket);
    free_event(&s->on_pidfd);
    count(s->c, LRD_C_detached);
    lrd_store32_release(&words_of(s)->state, LRD_LANE_DYING);
    LRD_TESTPOINT("detach_dying");
    drain(s);
}

static void take_drained(evutil_socket_t fd, short what, void *arg)
{
    struct lrd_clients *c = arg;
    eventfd_t n;
    uint32_t lane;
    (void)what;
    (void)eventfd_read(fd, &n); /* before the look: a lane drained behind the look makes it readable again */
    while (lrd_writer_drained(c->writer, &lane)) {
        struct seat *s = &c->seats[lane];
        if (s->state != SEAT_DYING)
            continue;
        /* A client that kept the descriptor, or whose child did, must not keep the memory: it would be charged to us for every lane it ever had. */
        if (fallocate(s->lane_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)lrd_lane_bytes(s->ring.n_cells, s->ring.mark_bytes)) < 0)
            lrd_log(LRD_DEBUG, "lane %u: its memory stays with who has it", s->lane);
        empty_seat(s);
        drop(s);
    }
}

/* A lane that has another client by now is rung for nothing. */
static void ring_bells(evutil_socket_t fd, short what, void *arg)
{
    struct lrd_clients *c = arg;
    eventfd_t n;
    (void)what;
    (void)eventfd_read(fd, &n); /* before the look, as above */
    for (uint32_t lane = 0; lrd_bells_take(lrd_writer_bells(c->writer), &lane); lane++)
        if (c->seats[lane].state == SEAT_LIVE)
            lrd_bell_ring(c->seats[lane].socket);
}

static void look_at_socket(evutil_socket_t fd, short what, void *arg)
{
    struct seat *s = arg;
    char byte;
    (void)what;
    ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0)
        lrd_log(LRD_DEBUG, "lane %u: its client talks where nothing is to be said: cut off", s->lane);
    let_go(s);
}

static void look_at_process(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    let_go(arg);
}

/* ---- watching ---- */

/* The process at the other end: a pidfd; -ESRCH: it is dead; other: it cannot be told. */
static int peer_pidfd(int socket, uint64_t pid)
{
    int fd;
    socklen_t n = sizeof fd;
    /* Made when it connected, so the pid cannot be somebody else's by now. */
    if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &fd, &n) == 0)
        return fd;
    if (errno != ENOPROTOOPT || pid == 0)
        return errno == ESRCH ? -ESRCH : -ENOSYS;
    fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
    return fd >= 0 ? fd : -errno;
}

static uint64_t peer_pid(int socket)
{
    struct ucred cred;
    socklen_t n = sizeof cred;
    return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &cred, &n) == 0 && cred.pid > 0 ? (uint64_t)cred.pid : 0;
}

/* From here on we hear of the client's end. 0; -ESRCH: it has come to its end already; -ENOMEM. */
static int watch(struct seat *s)
{
    s->pidfd = peer_pidfd(s->socket, lrd_load_relaxed(&words_of(s)->client_pid));
    if (s->pidfd == -ESRCH)
        return -ESRCH;
    s->on_socket = event_new(s->c->base, s->socket, EV_READ | EV_PERSIST, look_at_socket, s);
    if (s->on_socket == NULL || event_add(s->on_socket, NULL) < 0)
        return -ENOMEM;
    if (s->pidfd < 0)
        return 0;
    s->on_pidfd = event_new(s->c->base, s->pidfd, EV_READ | EV_PERSIST, look_at_process, s);
    return s->on_pidfd == NULL || event_add(s->on_pidfd, NULL) < 0 ? -ENOMEM : 0;
}

/* ---- attaching ---- */

static struct seat *find_seat(struct lrd_clients *c)
{
    for (uint32_t i = 0; i < c->n_seats; i++)
        if (c->seats[i].state == SEAT_EMPTY)
            return &c->seats[i];
    return NULL;
}

/* Memory for it was there when the daemon started; others may have taken it since, and the kernel would kill somebody instead of saying no. */
static int check_room(struct lrd_clients *c, uint32_t mark_bytes)
{
    struct lrd_limits l;
    char why[LRD_WHY_BYTES], lane[16], room[16];
    uint64_t bytes = lrd_lane_bytes(c->house->geometry.n_cells, mark_bytes);
    lrd_limits_read("", &l);
    if (lrd_limits_allow(&l, 0, bytes, false, why))
        return 0;
    if (may_complain(c))
        lrd_log(LRD_WARNING, "a client is refused: its lane takes %s, left are %s by %s", lrd_size_text(bytes, lane),
                lrd_size_text(l.cgroup_room < l.available ? l.cgroup_room : l.available, room), l.cgroup_room < l.available ? l.cgroup_file : "this machine");
    return -ENOMEM;
}

/* A mark map, as long as all maps together stay in their budget. */
static uint32_t mark_bytes_for(const struct lrd_clients *c)
{
    const struct lrd_geometry *g = &c->house->geometry;
    uint32_t maps = 0;
    for (uint32_t i = 0; i < c->n_seats; i++)
        maps += c->seats[i].ring.mark_bytes > 0;
    return maps < g->n_mark_maps ? g->mark_bytes : 0;
}

/* Maps a lane, and all of it at once: otherwise the writer would take its first lap through the ring in page faults, and what the kernel says about lanes
 * (measure.c) would be what it has touched by now. */
static int map_lane(struct seat *s, uint32_t mark_bytes)
{
    int err = lrd_lane_map(s->lane_fd, s->c->house->geometry.n_cells, mark_bytes, &s->ring);
    if (err == 0)
        (void)madvise(s->ring.lane, lrd_lane_bytes(s->ring.n_cells, mark_bytes), MADV_POPULATE_WRITE); /* before Linux 5.14: they come when they are touched */
    return err;
}

static int make_lane(struct seat *s)
{
    uint32_t n_cells = s->c->house->geometry.n_cells;
    uint32_t mark_bytes = mark_bytes_for(s->c);
    int err = check_room(s->c, mark_bytes);
    if (err < 0)
        return err;
    s->lane_fd = lrd_lane_create(n_cells, mark_bytes, s->lane);
    if (s->lane_fd < 0)
        return s->lane_fd;
    s->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->doorbell < 0)
        return -errno;
    return map_lane(s, mark_bytes);
}

/* Root and the daemon's own user may do everything; others what the configuration leaves them. */
static uint64_t rights_of(const struct lrd_clients *c, int socket)
{
    struct ucred cred;
    socklen_t n = sizeof cred;
    uint64_t rights = c->house->config->client_namespaces > 0 ? LRD_RIGHT_CREATE : 0;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &cred, &n) == 0 && (cred.uid == 0 || cred.uid == geteuid()))
        rights |= LRD_RIGHT_ADMIN | LRD_RIGHT_CREATE;
    return rights;
}

/* Its last client's. The lane is FREE: the writer has forgotten it, or never knew it, and nobody counts the credits of a FREE lane. */
static void clear_credits(struct seat *s)
{
    for (uint32_t i = 0; i < LRD_CREDITS; i++) {
        struct lrd_credit *credit = &s->c->store->credits[s->lane].of[i];
        lrd_store_relaxed(&credit->granted_bytes, 0);
        lrd_store_relaxed(&credit->granted_items, 0);
        lrd_store_relaxed(&credit->used_bytes, 0);
        lrd_store_relaxed(&credit->used_items, 0);
    }
}

/* The state goes last: until then the lane is FREE, and nobody looks at the rest. */
static void prepare_words(struct seat *s)
{
    struct lrd_lane_words *w = words_of(s);
    lrd_store_relaxed(&w->applied, 0);
    lrd_store_relaxed(&w->discarded, 0);
    lrd_store32_relaxed(&w->parked, 0);
    lrd_store32_relaxed(&w->incarnation, lrd_load32_relaxed(&w->incarnation) + 1);
    lrd_store32_relaxed(&w->answered, 0);
    lrd_store_relaxed(&w->client_pid, peer_pid(s->socket));
    lrd_store_relaxed(&w->attached_ms, lrd_clock_segment_ms(s->c->house->geometry.created_ns));
    lrd_store_relaxed(&w->rights, rights_of(s->c, s->socket));
    lrd_store_relaxed(&w->mark_bytes, s->ring.mark_bytes);
    clear_credits(s);
    /* Release: larderctl looks at the words of lanes that are not FREE. */
    lrd_store32_release(&w->state, LRD_LANE_PREPARED);
    LRD_TESTPOINT("attach_prepared");
}

static int ask_keeper(struct seat *s)
{
    struct lrd_keeper_message m = {.kind = LRD_KEEPER_KEEP, .lane = s->lane, .incarnation = lrd_load32_relaxed(&words_of(s)->incarnation)};
    const int fds[LRD_FDS_MAX] = {s->lane_fd, s->doorbell, s->socket};
    return lrd_send_fds(s->c->house->keeper, &m, sizeof m, fds, LRD_FDS_MAX);
}

/* The seat's client gets no lane. The keeper holds nothing of it. */
static void fail_attach(struct seat *s, int err)
{
    int socket = s->socket;
    if (may_complain(s->c))
        lrd_log(LRD_WARNING, "no lane for client %llu: %s", (unsigned long long)peer_pid(socket), strerror(-err));
    s->socket = -1;
    lrd_store32_release(&words_of(s)->state, LRD_LANE_FREE);
    empty_seat(s);
    refuse(s->c, socket, LRD_WELCOME_FAILED, -err);
}

static void attach(struct lrd_clients *c, int fd)
{
    struct seat *s = find_seat(c);
    if (s == NULL) {
        if (may_complain(c))
            lrd_log(LRD_WARNING, "client %llu refused: all %u lanes are taken; raise --max-clients", (unsigned long long)peer_pid(fd), c->n_seats);
        refuse(c, fd, LRD_WELCOME_TOO_MANY, 0);
        return;
    }
    s->socket = fd;
    int err = make_lane(s);
    if (err == 0) {
        prepare_words(s);
        err = ask_keeper(s);
    }
    if (err < 0) {
        fail_attach(s, err);
        return;
    }
    s->state = SEAT_ASKED;
}

/* The keeper has it: what the client writes from now on will be applied, by us or by the next. */
static void go_live(struct seat *s)
{
    struct lrd_lane_words *w = words_of(s);
    LRD_TESTPOINT("attach_kept");
    s->state = SEAT_LIVE;
    lrd_store32_release(&w->state, LRD_LANE_LIVE);
    LRD_TESTPOINT("attach_live");
    count(s->c, LRD_C_attached);
    lrd_writer_add(s->c->writer, s->lane, &s->ring, s->doorbell);
    int err = answer(s);
    LRD_TESTPOINT("attach_sent");
    lrd_store32_release(&w->answered, 1);
    lrd_log(LRD_DEBUG, "lane %u: client %llu attached", s->lane, (unsigned long long)lrd_load_relaxed(&w->client_pid));
    if (err < 0 || watch(s) < 0)
        let_go(s);
}

static void take_keeper_message(struct lrd_clients *c, const struct lrd_keeper_message *m)
{
    struct seat *s = m->lane < c->n_seats ? &c->seats[m->lane] : NULL;
    if (s == NULL || s->state != SEAT_ASKED || m->incarnation != lrd_load32_relaxed(&words_of(s)->incarnation))
        return;
    if (m->kind == LRD_KEEPER_KEPT)
        go_live(s);
    else if (m->kind == LRD_KEEPER_NOT_KEPT)
        fail_attach(s, -EMFILE);
}

static void take_keeper_messages(evutil_socket_t fd, short what, void *arg)
{
    struct lrd_clients *c = arg;
    struct lrd_keeper_message m;
    int err;
    (void)what;
    while ((err = lrd_recv_fds(fd, &m, sizeof m, NULL, 0, NULL, MSG_DONTWAIT)) == 0)
        take_keeper_message(c, &m);
    if (err != -EAGAIN)
        event_base_loopbreak(c->base); /* the keeper is gone, and so is the segment's name */
}

/* ---- guests ---- */

/* Takes its connection out of a guest's place. */
static int guest_leave(struct guest *g)
{
    int fd = g->fd;
    free_event(&g->event);
    g->fd = -1;
    return fd;
}

/* What a guest has said by now: true if it is no guest any more. */
static bool hear(struct lrd_clients *c, int fd)
{
    struct lrd_hello hello;
    int err = lrd_recv_fds(fd, &hello, sizeof hello, NULL, 0, NULL, MSG_DONTWAIT);
    if (err == -EAGAIN)
        return false;
    if (err == -EPROTO || (err == 0 && hello.magic != LRD_HELLO_MAGIC))
        refuse(c, fd, LRD_WELCOME_MALFORMED, 0);
    else if (err < 0)
        close(fd); /* it left without a word */
    else if (hello.layout_version != LRD_LAYOUT_VERSION || hello.layout_hash != LRD_LAYOUT_HASH || hello.features != 0)
        refuse(c, fd, LRD_WELCOME_VERSION, 0);
    else
        attach(c, fd);
    return true;
}

static void look_at_guest(evutil_socket_t fd, short what, void *arg)
{
    struct guest *g = arg;
    (void)fd;
    if (what & EV_TIMEOUT) {
        count(g->c, LRD_C_refused);
        close(guest_leave(g));
        return;
    }
    struct lrd_clients *c = g->c;
    int peer = guest_leave(g);
    /* A spurious wake-up costs a guest its place, not a loop. */
    if (!hear(c, peer))
        refuse(c, peer, LRD_WELCOME_MALFORMED, 0);
}

/* An empty place, or that of the guest who has been silent for longest: the others get their turn however many sit there without a word. */
static struct guest *find_place(struct lrd_clients *c)
{
    struct guest *oldest = &c->guests[0];
    for (unsigned i = 0; i < N_GUESTS; i++) {
        struct guest *g = &c->guests[i];
        if (g->event == NULL)
            return g;
        if (g->came < oldest->came)
            oldest = g;
    }
    count(c, LRD_C_refused);
    close(guest_leave(oldest));
    return oldest;
}

static void receive(struct lrd_clients *c, int fd)
{
    const struct timeval limit = {.tv_sec = HELLO_SECONDS};
    if (hear(c, fd))
        return; /* the usual case: a client says hello at once */
    struct guest *g = find_place(c);
    *g = (struct guest){.c = c, .fd = fd, .came = ++c->n_came};
    g->event = event_new(c->base, fd, EV_READ, look_at_guest, g);
    if (g->event == NULL || event_add(g->event, &limit) < 0)
        close(guest_leave(g));
}

static void accept_some(evutil_socket_t listener, short what, void *arg)
{
    struct lrd_clients *c = arg;
    (void)what;
    for (unsigned i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            receive(c, fd);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            event_del(c->on_connect);
            event_add(c->on_pause_end, &(struct timeval){.tv_usec = PAUSE_US});
        }
        if (errno != ECONNABORTED && errno != EINTR)
            return;
    }
}

static void listen_again(evutil_socket_t fd, short what, void *arg)
{
    struct lrd_clients *c = arg;
    (void)fd, (void)what;
    event_add(c->on_connect, NULL);
}

/* ---- what the last worker left ---- */

static int adopt(struct seat *s, const struct lrd_kept *kept, uint32_t state)
{
    s->lane_fd = kept->lane;
    s->doorbell = kept->doorbell;
    s->socket = kept->client;
    int err = map_lane(s, (uint32_t)lrd_load_relaxed(&words_of(s)->mark_bytes));
    if (err < 0)
        return err;
    lrd_writer_add(s->c->writer, s->lane, &s->ring, s->doorbell);
    if (state == LRD_LANE_DYING) {
        drain(s);
        return 0;
    }
    s->state = SEAT_LIVE;
    if (lrd_load32_relaxed(&words_of(s)->answered) == 0) {
        err = answer(s); /* perhaps for the second time */
        lrd_store32_release(&words_of(s)->answered, 1);
    }
    if (err < 0 || watch(s) < 0)
        let_go(s);
    return 0;
}

static int sort_out(struct seat *s)
{
    struct lrd_lane_words *w = words_of(s);
    const struct lrd_kept *kept = &s->c->house->kept[s->lane];
    uint32_t state = lrd_load32_relaxed(&w->state);
    bool goes_on = state == LRD_LANE_LIVE || state == LRD_LANE_DYING;
    if (kept->used && goes_on && kept->incarnation == lrd_load32_relaxed(&w->incarnation))
        return adopt(s, kept, state);
    if (state != LRD_LANE_FREE)
        lrd_store32_release(&w->state, LRD_LANE_FREE);
    if (kept->used) {
        close(kept->lane);
        close(kept->doorbell);
        close(kept->client);
        drop(s);
    }
    return 0;
}

/* ---- life ---- */

static bool add_event(struct lrd_clients *c, struct event **e, int fd, short what, event_callback_fn f, bool now)
{
    *e = event_new(c->base, fd, what, f, c);
    return *e != NULL && (!now || event_add(*e, NULL) == 0);
}

static bool make_events(struct lrd_clients *c)
{
    const struct lrd_house *h = c->house;
    return add_event(c, &c->on_keeper, h->keeper, EV_READ | EV_PERSIST, take_keeper_messages, true) &&
           add_event(c, &c->on_keeper_room, h->keeper, EV_WRITE, retry_drops, false) &&
           add_event(c, &c->on_bells, lrd_writer_bells(c->writer)->fd, EV_READ | EV_PERSIST, ring_bells, true) &&
           add_event(c, &c->on_drained, lrd_writer_drained_fd(c->writer), EV_READ | EV_PERSIST, take_drained, true) &&
           add_event(c, &c->on_pause_end, -1, 0, listen_again, false) && add_event(c, &c->on_connect, h->listener, EV_READ | EV_PERSIST, accept_some, true);
}

int lrd_clients_create(struct lrd_clients **out, const struct lrd_house *house, struct lrd_store *store, struct lrd_writer *writer, struct event_base *base)
{
    *out = NULL;
    struct lrd_clients *c = calloc(1, sizeof *c);
    if (c == NULL)
        return -ENOMEM;
    c->house = house;
    c->store = store;
    c->writer = writer;
    c->base = base;
    c->n_seats = store->r.geometry.n_lanes;
    c->seats = calloc(c->n_seats, sizeof *c->seats);
    int err = c->seats == NULL || !make_events(c) ? -ENOMEM : 0;
    for (uint32_t i = 0; i < c->n_seats && c->seats != NULL; i++)
        c->seats[i] = (struct seat){.c = c, .lane = i, .lane_fd = -1, .doorbell = -1, .socket = -1, .pidfd = -1};
    for (uint32_t i = 0; i < c->n_seats && err == 0; i++)
        err = sort_out(&c->seats[i]);
    if (err == 0)
        lrd_writer_lanes_known(writer);
    /* Also if it failed: the writer may know rings of seats that are taken. lrd_clients_destroy() is called when its thread has stopped. */
    *out = c;
    return err;
}

void lrd_clients_destroy(struct lrd_clients *c)
{
    if (c == NULL)
        return;
    for (unsigned i = 0; i < N_GUESTS; i++)
        if (c->guests[i].event != NULL)
            close(guest_leave(&c->guests[i]));
    for (uint32_t i = 0; c->seats != NULL && i < c->n_seats; i++)
        empty_seat(&c->seats[i]);
    free_event(&c->on_connect);
    free_event(&c->on_pause_end);
    free_event(&c->on_keeper);
    free_event(&c->on_keeper_room);
    free_event(&c->on_drained);
    free_event(&c->on_bells);
    free(c->seats);
    free(c);
}
