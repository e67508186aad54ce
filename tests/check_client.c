/* The library against a daemon that is a thread of the test: one that answers well, and many that do not. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libclient/larder.h"
#include "shm/hello.h"
#include "shm/lane.h"
#include "shm/ring.h"
#include "shm/wait.h"
#include "tests/segment_fixture.h"

/* ---- the daemon ---- */

enum manner {
    GOOD,
    GARBAGE,
    SHORT_MESSAGE,
    HANG_UP,
    SILENT,
    OTHER_VERSION,
    OTHER_HASH,
    TOO_MANY,
    FAILED,
    FAILED_ODDLY,
    NO_FDS,
    TWO_FDS,
    NOT_SEALED,
    NOT_A_MEMFD,
    SMALLER_THAN_SAID,
    EMPTY_SEGMENT,
    OTHER_SEGMENT_ID,
    LANE_OUT_OF_RANGE,
    LANE_NOT_SEALED,
    LANE_OF_OTHER_SIZE,
    OTHER_CLOCK,
    MARKS_OF_OTHER_SIZE,
};

#define LANES_MAX 8u

struct daemon {
    enum manner manner;
    char path[100];
    struct fixture f;
    int listener;
    int stop; /* eventfd */
    pthread_t thread;
    int client[LANES_MAX];
    struct lrd_ring ring[LANES_MAX];
    lrd_u32 n_clients; /* answered */
    int64_t clock_ahead_ns;
    /* what becomes of records */
    lrd_u32 answer;          /* to requests; OK does what was asked for */
    lrd_u32 no_figures;      /* 1: a measurement is promised, and none comes */
    lrd_u32 unread;          /* 1: requests are thrown away without an answer */
    lrd_u32 n_requests;
    struct lrd_ns_spec spec; /* the last that was asked for */
    lrd_u64 room_items;      /* that may still be promised in a namespace that refuses */
    uint64_t grant_bytes, grant_items; /* at a time */
    lrd_u32 at_work;         /* 1: a thread applies what comes */
    pthread_t worker;
};

static void pause_ms(unsigned ms)
{
    const struct timespec nap = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&nap, NULL);
}

/* Where every test finds its daemon. */
static char socket_path[64];

/* Of the lanes of daemons to come: 0, or that of the fixture's segment. */
static uint32_t lane_mark_bytes;

/* For the daemon's thread: ck_assert() allocates, and a process forked meanwhile would be found to leak. */
#define must(x) ((x) ? (void)0 : ck_abort_msg("%s", #x))

static int raw_memfd(size_t bytes)
{
    int fd = memfd_create("raw", MFD_CLOEXEC);
    must(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
    return fd;
}

static int empty_sealed_memfd(size_t bytes)
{
    int fd = memfd_create("empty", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    must(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
    must(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
    return fd;
}

static void spoil(const struct daemon *d, struct lrd_welcome *w, int fd[3])
{
    switch (d->manner) {
    case GARBAGE:
        w->magic++;
        break;
    case OTHER_VERSION:
        w->layout_version++;
        break;
    case OTHER_HASH:
        w->layout_hash++;
        w->result = LRD_WELCOME_VERSION;
        break;
    case TOO_MANY:
        w->result = LRD_WELCOME_TOO_MANY;
        break;
    case FAILED:
        w->result = LRD_WELCOME_FAILED;
        w->error = ENFILE;
        break;
    case FAILED_ODDLY:
        w->result = LRD_WELCOME_FAILED;
        w->error = INT_MIN;
        break;
    case NOT_SEALED:
        close(fd[0]);
        fd[0] = raw_memfd(d->f.bytes);
        break;
    case NOT_A_MEMFD:
        close(fd[0]);
        fd[0] = open("/dev/zero", O_RDWR | O_CLOEXEC);
        break;
    case SMALLER_THAN_SAID:
        w->segment_bytes *= 2;
        w->reserve_bytes *= 2;
        break;
    case EMPTY_SEGMENT:
        close(fd[0]);
        fd[0] = empty_sealed_memfd(d->f.bytes);
        break;
    case OTHER_SEGMENT_ID:
        w->segment_id++;
        break;
    case LANE_OUT_OF_RANGE:
        w->lane = FIXTURE_LANES;
        break;
    case LANE_NOT_SEALED:
        close(fd[1]);
        fd[1] = raw_memfd(lrd_lane_bytes(FIXTURE_CELLS, 0));
        break;
    case LANE_OF_OTHER_SIZE:
        close(fd[1]);
        fd[1] = lrd_lane_create(2 * FIXTURE_CELLS, 0, 0);
        break;
    case MARKS_OF_OTHER_SIZE:
        close(fd[1]);
        w->mark_bytes = d->f.store.r.geometry.mark_bytes + LRD_PAGE;
        fd[1] = lrd_lane_create(FIXTURE_CELLS, w->mark_bytes, 0);
        break;
    case OTHER_CLOCK:
        w->now_ns += (uint64_t)d->clock_ahead_ns;
        break;
    default:
        break;
    }
}

static unsigned clients(const struct daemon *d) { return lrd_load32_acquire(&d->n_clients); }

/* Answers one hello. The daemon keeps its own map of the lane. */
static void answer(struct daemon *d, int client)
{
    struct lrd_hello hello;
    must(lrd_recv_fds(client, &hello, sizeof hello, NULL, 0, NULL, 0) == 0);
    must(hello.magic == LRD_HELLO_MAGIC && hello.layout_version == LRD_LAYOUT_VERSION);
    unsigned lane = clients(d);
    int fd[3] = {dup(d->f.fd), lrd_lane_create(FIXTURE_CELLS, lane_mark_bytes, lane), eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    must(lrd_lane_map(fd[1], FIXTURE_CELLS, lane_mark_bytes, &d->ring[lane]) == 0);
    const struct lrd_geometry *g = &d->f.store.r.geometry;
    struct lrd_welcome w = {.magic = LRD_HELLO_MAGIC,
                            .layout_version = LRD_LAYOUT_VERSION,
                            .layout_hash = LRD_LAYOUT_HASH,
                            .lane = lane % FIXTURE_LANES,
                            .incarnation = 1,
                            .n_cells = FIXTURE_CELLS,
                            .n_lanes = FIXTURE_LANES,
                            .segment_bytes = g->segment_bytes,
                            .reserve_bytes = g->reserve_bytes,
                            .segment_id = g->segment_id,
                            .now_ns = lrd_clock_ns(),
                            .mark_bytes = lane_mark_bytes};
    lrd_store32_relaxed(&d->f.store.lanes[w.lane].incarnation, 1);
    lrd_store32_relaxed(&d->f.store.lanes[w.lane].state, LRD_LANE_LIVE);
    spoil(d, &w, fd);
    unsigned n_fds = w.result != LRD_WELCOME_OK || d->manner == NO_FDS ? 0 : d->manner == TWO_FDS ? 2 : 3;
    if (d->manner != HANG_UP && d->manner != SILENT) {
        int r = lrd_send_fds(client, &w, d->manner == SHORT_MESSAGE ? 100 : sizeof w, fd, n_fds);
        must(r == 0 || r == -EPIPE); /* a client does not wait for ever */
    }
    for (unsigned i = 0; i < 3; i++)
        close(fd[i]);
}

static void *serve(void *arg)
{
    struct daemon *d = arg;
    for (;;) {
        struct pollfd p[2] = {{.fd = d->listener, .events = POLLIN}, {.fd = d->stop, .events = POLLIN}};
        poll(p, 2, -1);
        if (p[1].revents != 0)
            return NULL;
        int client = accept4(d->listener, NULL, NULL, SOCK_CLOEXEC);
        if (client < 0 || clients(d) == LANES_MAX) {
            close(client);
            continue;
        }
        answer(d, client);
        if (d->manner == HANG_UP) {
            close(client);
            client = -1;
        }
        unsigned n = clients(d);
        d->client[n] = client;
        lrd_store32_release(&d->n_clients, n + 1); /* pairs with the acquire in clients() */
    }
}

static void daemon_start_at(struct daemon *d, enum manner manner, const char *path)
{
    *d = (struct daemon){.manner = manner};
    snprintf(d->path, sizeof d->path, "%s", path);
    fixture_make_sealed(&d->f, 64, 16, 16);
    lrd_store_relaxed(&d->f.store.header->heartbeat_ms, fixture_now_ms(&d->f.store.r) + 3600000); /* lives for the next hour */
    d->stop = eventfd(0, EFD_CLOEXEC);
    d->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", path);
    unlink(path);
    ck_assert_int_eq(bind(d->listener, (struct sockaddr *)&addr, sizeof addr), 0);
    ck_assert_int_eq(listen(d->listener, 16), 0);
    ck_assert_int_eq(pthread_create(&d->thread, NULL, serve, d), 0);
}

static void daemon_start(struct daemon *d, enum manner manner) { daemon_start_at(d, manner, socket_path); }

/* Dies as a keeper does: all at once, and its last heartbeat is an old one. */
static void daemon_die(struct daemon *d)
{
    uint64_t one = 1;
    ck_assert_int_eq(write(d->stop, &one, sizeof one), sizeof one);
    pthread_join(d->thread, NULL);
    lrd_store_relaxed(&d->f.store.header->heartbeat_ms, 0);
    close(d->listener);
    close(d->stop);
    for (unsigned i = 0; i < clients(d); i++) {
        close(d->client[i]);
        lrd_lane_unmap(&d->ring[i]);
    }
    fixture_drop(&d->f);
    unlink(d->path);
}

/* ---- its worker ---- */

static struct lrd_namespace *name(struct daemon *d, uint32_t ns, const char *called, enum lrd_policy policy)
{
    struct lrd_namespace *n = &d->f.store.namespaces[ns];
    snprintf(n->name, sizeof n->name, "%s", called);
    lrd_store32_relaxed(&n->epoch, 1);
    lrd_store32_relaxed(&n->policy, policy);
    lrd_store32_relaxed(&n->credit, policy == LRD_POLICY_REFUSE ? 3 : LRD_NO_CREDIT);
    lrd_store_relaxed(&n->max_blocks, d->f.store.r.n_blocks);
    lrd_store32_release(&n->state, LRD_NS_LIVE);
    return n;
}

static enum lrd_answer grant(struct daemon *d, unsigned lane, uint32_t ns, const struct lrd_credit_ask *ask)
{
    struct lrd_namespace *n = &d->f.store.namespaces[ns];
    struct lrd_credit *c = &d->f.store.credits[lane].of[lrd_load32_relaxed(&n->credit)];
    uint64_t room = lrd_load_relaxed(&d->room_items);
    must(ask->items <= 1 && ask->bytes <= ask->largest);
    if (room < d->grant_items)
        return LRD_ANSWER_FULL;
    lrd_store_relaxed(&d->room_items, room - d->grant_items);
    if (lrd_load_relaxed(&n->largest) < ask->largest)
        lrd_store_relaxed(&n->largest, ask->largest);
    lrd_store_release(&c->granted_bytes, lrd_load_relaxed(&c->granted_bytes) + d->grant_bytes);
    lrd_store_release(&c->granted_items, lrd_load_relaxed(&c->granted_items) + d->grant_items);
    return LRD_ANSWER_OK;
}

/* Does what is asked for. */
static enum lrd_answer comply(struct daemon *d, unsigned lane, const struct lrd_record *rec, const unsigned char *value)
{
    struct lrd_credit_ask ask;
    uint32_t ns = 2;
    switch (rec->kind) {
    case LRD_RECORD_NS_CREATE:
        must(rec->value_len == sizeof d->spec);
        memcpy(&d->spec, value, sizeof d->spec);
        while (lrd_load32_relaxed(&d->f.store.namespaces[ns].state) == LRD_NS_LIVE)
            ns++;
        name(d, ns, d->spec.name, (enum lrd_policy)d->spec.policy);
        return LRD_ANSWER_OK;
    case LRD_RECORD_NS_RESET:
        fixture_reset(&d->f, rec->ns);
        return LRD_ANSWER_OK;
    case LRD_RECORD_CREDIT:
        must(rec->value_len == sizeof ask);
        memcpy(&ask, value, sizeof ask);
        return grant(d, lane, rec->ns, &ask);
    case LRD_RECORD_MEASURE:
        if (lrd_load32_relaxed(&d->no_figures) == 0)
            lrd_store_release(&d->f.store.header->measured, lrd_load_relaxed(&d->f.store.header->measured) + 1);
        return LRD_ANSWER_OK;
    default:
        return LRD_ANSWER_MALFORMED;
    }
}

static void apply_request(struct daemon *d, unsigned lane, uint64_t position, const struct lrd_record *rec, const unsigned char *value)
{
    uint32_t answer = lrd_load32_relaxed(&d->answer);
    must(rec->key_len == 0);
    lrd_store32_relaxed(&d->n_requests, lrd_load32_relaxed(&d->n_requests) + 1);
    if (answer == LRD_ANSWER_OK)
        answer = comply(d, lane, rec, value);
    if (lrd_load32_relaxed(&d->unread) != 0)
        return;
    lrd_store_relaxed(&d->ring[lane].lane->answer, answer);
    lrd_store_relaxed(&d->ring[lane].lane->answer_position, position);
}

static void apply_write(struct daemon *d, unsigned lane, const struct lrd_record *rec, const unsigned char *key)
{
    const struct lrd_namespace *n = &d->f.store.namespaces[rec->ns];
    struct fixture_item item = {.ns = rec->ns,
                                .key = key,
                                .key_len = rec->key_len,
                                .value = key + rec->key_len,
                                .value_len = rec->value_len,
                                .flags = rec->flags,
                                .expires_ms = rec->expires_ms};
    /* The fixture counts one cell of lane 0 for each. */
    uint64_t applied = lrd_load_relaxed(&d->f.store.lanes[0].applied);
    if (rec->kind == LRD_RECORD_SET)
        fixture_put(&d->f, &item);
    else
        fixture_delete(&d->f, rec->ns, item.key, item.key_len);
    lrd_store_release(&d->f.store.lanes[0].applied, applied);
    if (rec->kind == LRD_RECORD_SET && lrd_load32_relaxed(&n->policy) == LRD_POLICY_REFUSE) {
        struct lrd_credit *c = &d->f.store.credits[lane].of[lrd_load32_relaxed(&n->credit)];
        lrd_add_own(&c->used_bytes, lrd_item_bytes(rec->key_len, rec->value_len, d->f.store.r.granule_shift));
        lrd_add_own(&c->used_items, 1);
    }
}

static void apply_lane(struct daemon *d, unsigned lane)
{
    struct lrd_lane_words *words = &d->f.store.lanes[lane % FIXTURE_LANES];
    const struct lrd_ring *ring = &d->ring[lane];
    uint64_t head = lrd_load_relaxed(&words->applied);
    uint32_t n;
    while ((n = lrd_ring_next(ring, head)) > 0) {
        const unsigned char *p = lrd_ring_at(ring, head);
        struct lrd_record rec;
        memcpy(&rec, p, sizeof rec);
        bool write = rec.kind == LRD_RECORD_SET || rec.kind == LRD_RECORD_DELETE;
        if (write && rec.epoch != lrd_load32_relaxed(&d->f.store.namespaces[rec.ns].epoch)) {
            lrd_store_relaxed(&ring->commit[lrd_ring_idx(ring, head)], lrd_commit_make(lrd_ring_lap(ring, head), n, LRD_COMMIT_DISCARDED));
            ck_assert_uint_eq(lrd_ring_next(ring, head), n); /* a worker that is killed here finds the record as long as it was */
        } else if (write)
            apply_write(d, lane % FIXTURE_LANES, &rec, p + sizeof rec);
        else
            apply_request(d, lane, head, &rec, p + sizeof rec);
        head += n;
        lrd_store_release(&words->applied, head);
        lrd_wake_waiters(words, ring->lane);
    }
}

static void *work(void *arg)
{
    struct daemon *d = arg;
    while (lrd_load32_relaxed(&d->at_work) != 0) {
        for (unsigned i = 0; i < clients(d); i++)
            apply_lane(d, i);
        const struct timespec nap = {.tv_nsec = 20000};
        nanosleep(&nap, NULL);
    }
    return NULL;
}

static void work_begin(struct daemon *d)
{
    lrd_store32_relaxed(&d->at_work, 1);
    ck_assert_int_eq(pthread_create(&d->worker, NULL, work, d), 0);
}

static void work_end(struct daemon *d)
{
    lrd_store32_relaxed(&d->at_work, 0);
    pthread_join(d->worker, NULL);
}

/* A client may have its answer before the daemon's thread is through with it. */
static void await_clients(const struct daemon *d, unsigned n)
{
    for (unsigned i = 0; i < 20000 && clients(d) < n; i++)
        pause_ms(1);
    ck_assert_uint_ge(clients(d), n); /* more: one gave up, and came again */
}

static struct larder *open_with(uint32_t flags)
{
    struct larder_options options = {.size = sizeof options, .socket = socket_path, .flags = flags};
    struct larder *l;
    ck_assert_int_eq(larder_open(&l, &options), 0);
    ck_assert_ptr_nonnull(l);
    return l;
}

static struct larder *open_default(void) { return open_with(0); }

static int set_in(struct larder_ns *ns, const char *key, const char *value) { return larder_set(ns, key, strlen(key), value, strlen(value), NULL, NULL); }
static int set(struct larder *l, const char *key, const char *value) { return set_in(larder_default(l), key, value); }

static char got[64];

static int get_in(struct larder_ns *ns, const char *key)
{
    size_t size = 0;
    memset(got, 0, sizeof got);
    return larder_get(ns, key, strlen(key), got, sizeof got - 1, &size);
}
static int get(struct larder *l, const char *key) { return get_in(larder_default(l), key); }

static struct larder_ns *ns_of(struct larder *l, const char *called)
{
    struct larder_ns *ns;
    ck_assert_int_eq(larder_ns_open(l, called, &ns), 0);
    ck_assert_ptr_nonnull(ns);
    return ns;
}

static unsigned open_fds(void)
{
    unsigned n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void setup(void)
{
    lane_mark_bytes = 0;
    snprintf(socket_path, sizeof socket_path, "/tmp/larder-check-%d.sock", getpid());
}
static void teardown(void) { unlink(socket_path); }

/* ---- opening ---- */

static const struct {
    enum manner manner;
    int result;
} manners[] = {
    {GARBAGE, LARDER_PROTOCOL},
    {SHORT_MESSAGE, LARDER_PROTOCOL},
    {HANG_UP, LARDER_PROTOCOL},
    {OTHER_VERSION, LARDER_VERSION_MISMATCH},
    {OTHER_HASH, LARDER_VERSION_MISMATCH},
    {TOO_MANY, LARDER_TOO_MANY},
    {FAILED, -ENFILE},
    {FAILED_ODDLY, LARDER_PROTOCOL},
    {NO_FDS, LARDER_PROTOCOL},
    {TWO_FDS, LARDER_PROTOCOL},
    {NOT_SEALED, LARDER_NOT_SEALED},
    {NOT_A_MEMFD, LARDER_NOT_SEALED},
    {SMALLER_THAN_SAID, LARDER_NOT_SEALED},
    {EMPTY_SEGMENT, LARDER_PROTOCOL},
    {OTHER_SEGMENT_ID, LARDER_PROTOCOL},
    {LANE_OUT_OF_RANGE, LARDER_PROTOCOL},
    {LANE_NOT_SEALED, LARDER_NOT_SEALED},
    {LANE_OF_OTHER_SIZE, LARDER_NOT_SEALED},
    {MARKS_OF_OTHER_SIZE, LARDER_PROTOCOL},
    {GOOD, 0},
};

START_TEST(daemons_of_all_manners)
{
    struct daemon d;
    daemon_start(&d, manners[_i].manner);
    unsigned before = open_fds();
    struct larder_options options = {.size = sizeof options, .socket = socket_path};
    struct larder *l = NULL;
    int r = larder_open(&l, &options);
    ck_assert_msg(r == manners[_i].result, "manner %d: %d (%s)", (int)manners[_i].manner, r, larder_strerror(r));
    ck_assert((r == 0) == (l != NULL));
    larder_close(l);
    /* Nothing is left open but the daemon's end of the connection. */
    await_clients(&d, 1);
    for (unsigned i = 0; i < clients(&d); i++)
        before += d.client[i] >= 0;
    ck_assert_uint_eq(open_fds(), before);
    daemon_die(&d);
}
END_TEST

START_TEST(daemon_that_says_nothing)
{
    if (!fixture_long())
        return; /* 5 s */
    struct daemon d;
    daemon_start(&d, SILENT);
    struct larder_options options = {.size = sizeof options, .socket = socket_path};
    struct larder *l;
    uint64_t before = lrd_clock_ns();
    ck_assert_int_eq(larder_open(&l, &options), LARDER_TIMEOUT);
    ck_assert_uint_ge(lrd_clock_ns() - before, UINT64_C(4900000000));
    daemon_die(&d);
}
END_TEST

START_TEST(daemon_that_does_not_accept)
{
    if (!fixture_long())
        return; /* 5 s */
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), waiting;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", socket_path);
    ck_assert(bind(listener, (struct sockaddr *)&addr, sizeof addr) == 0 && listen(listener, 0) == 0);
    ck_assert_int_ge(waiting = lrd_connect(socket_path), 0);
    struct larder_options options = {.size = sizeof options, .socket = socket_path};
    struct larder *l;
    uint64_t before = lrd_clock_ns();
    ck_assert_int_eq(larder_open(&l, &options), LARDER_TIMEOUT);
    uint64_t took = lrd_clock_ns() - before;
    ck_assert(took >= UINT64_C(4900000000) && took < UINT64_C(7000000000));
    close(waiting);
    close(listener);
}
END_TEST

START_TEST(nobody_there)
{
    struct larder_options options = {.size = sizeof options, .socket = socket_path};
    struct larder *l;
    ck_assert_int_eq(larder_open(&l, &options), LARDER_NO_SOCKET);
    ck_assert_ptr_null(l);
    options.open_timeout_ms = 100;
    uint64_t before = lrd_clock_ns();
    ck_assert_int_eq(larder_open(&l, &options), LARDER_NO_SOCKET);
    ck_assert_uint_ge(lrd_clock_ns() - before, 100000000u);
    char *longer = malloc(200);
    memset(longer, 'x', 199);
    longer[199] = '\0';
    options.socket = longer;
    ck_assert_int_eq(larder_open(&l, &options), -ENAMETOOLONG);
    free(longer);
}
END_TEST

static void *start_later(void *d)
{
    pause_ms(50);
    daemon_start(d, GOOD);
    return NULL;
}

START_TEST(daemon_that_comes_later)
{
    struct daemon d;
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, start_later, &d), 0);
    struct larder_options options = {.size = sizeof options, .socket = socket_path, .open_timeout_ms = 5000};
    struct larder *l;
    ck_assert_int_eq(larder_open(&l, &options), 0);
    pthread_join(thread, NULL);
    larder_close(l);
    daemon_die(&d);
}
END_TEST

START_TEST(socket_by_environment)
{
    struct daemon d;
    daemon_start(&d, GOOD);
    ck_assert_int_eq(setenv("LARDER_SOCKET", socket_path, 1), 0);
    struct larder *l;
    ck_assert_int_eq(larder_open(&l, NULL), 0);
    larder_close(l);
    daemon_die(&d);
    char dir[96], path[128];
    snprintf(dir, sizeof dir, "/tmp/larder-check-%d", getpid());
    snprintf(path, sizeof path, "%s/larder", dir);
    ck_assert(mkdir(dir, 0700) == 0 && mkdir(path, 0700) == 0);
    snprintf(path, sizeof path, "%s/larder/default.sock", dir);
    unsetenv("LARDER_SOCKET");
    ck_assert_int_eq(setenv("XDG_RUNTIME_DIR", dir, 1), 0);
    daemon_start_at(&d, GOOD, path);
    if (access("/run/larder/default.sock", F_OK) != 0) {
        ck_assert_int_eq(larder_open(&l, NULL), 0);
        larder_close(l);
    }
    daemon_die(&d);
    snprintf(path, sizeof path, "%s/larder", dir);
    ck_assert(rmdir(path) == 0 && rmdir(dir) == 0);
}
END_TEST

/* ---- results and misuse ---- */

START_TEST(words_for_results)
{
    for (int r = -200; r < 40; r++) {
        const char *text = larder_strerror(r);
        ck_assert(text != NULL && *text != '\0' && strchr(text, '\n') == NULL);
    }
    ck_assert_str_eq(larder_strerror(0), "done");
    ck_assert_str_eq(larder_strerror(-ENOMEM), "Cannot allocate memory");
    /* not the kernel's "Argument list too long" and "Bad file descriptor": nobody passed either */
    ck_assert_ptr_nonnull(strstr(larder_strerror(-E2BIG), "larder_item_max()"));
    ck_assert_str_eq(larder_strerror(-EBADF), "the handle was closed");
    ck_assert_ptr_nonnull(strstr(larder_strerror(-EINVAL), "size is not set"));
    ck_assert_str_eq(larder_strerror(INT_MIN), "unknown result");
    ck_assert_str_eq(larder_strerror(19), "unknown result");
    ck_assert_str_eq(larder_version(), LARDER_VERSION);
}
END_TEST

START_TEST(misuse)
{
    struct daemon d;
    daemon_start(&d, GOOD);
    struct larder *l;
    struct larder_options options = {.size = sizeof options, .socket = socket_path, .flags = 1u << 30};
    ck_assert_int_eq(larder_open(NULL, NULL), -EINVAL);
    ck_assert_int_eq(larder_open(&l, &options), -EINVAL);
    options.flags = 0;
    options.size = 3;
    ck_assert_int_eq(larder_open(&l, &options), -EINVAL);
    larder_close(NULL);
    ck_assert_ptr_null(larder_default(NULL));
    ck_assert_uint_eq(larder_item_max(NULL), 0);

    l = open_default();
    struct larder_ns *ns = larder_default(l);
    char big[LARDER_KEY_MAX + 1] = {0}, buffer[8];
    size_t size;
    ck_assert_int_eq(larder_get(NULL, "k", 1, buffer, sizeof buffer, &size), -EINVAL);
    ck_assert_int_eq(larder_get(ns, NULL, 1, buffer, sizeof buffer, &size), -EINVAL);
    ck_assert_int_eq(larder_get(ns, "k", 0, buffer, sizeof buffer, &size), -EINVAL);
    ck_assert_int_eq(larder_get(ns, big, sizeof big, buffer, sizeof buffer, &size), -EINVAL);
    ck_assert_int_eq(larder_get(ns, big, LARDER_KEY_MAX, buffer, sizeof buffer, NULL), LARDER_MISS);
    ck_assert_int_eq(larder_get(ns, "k", 1, NULL, sizeof buffer, &size), -EINVAL);
    ck_assert_int_eq(larder_get(ns, "k", 1, NULL, 0, &size), LARDER_MISS);

    struct larder_item item = {.size = sizeof item, .capacity = 1};
    ck_assert_int_eq(larder_get_item(ns, "k", 1, NULL), -EINVAL);
    ck_assert_int_eq(larder_get_item(ns, "k", 1, &item), -EINVAL);
    item = (struct larder_item){.size = 1};
    ck_assert_int_eq(larder_get_item(ns, "k", 1, &item), -EINVAL);

    struct larder_key key = {.size = sizeof key};
    ck_assert_int_eq(larder_key_prepare(ns, &key), -EINVAL);
    ck_assert_int_eq(larder_key_prepare(ns, NULL), -EINVAL);
    ck_assert_int_eq(larder_get_many(ns, &key, &item, 1, NULL), -EINVAL);
    ck_assert_int_eq(larder_get_many(ns, NULL, NULL, 1, NULL), -EINVAL);
    ck_assert_int_eq(larder_get_many(ns, NULL, NULL, 0, NULL), 0);

    struct larder_set_options how = {.size = sizeof how, .ttl_ms = -2};
    ck_assert_int_eq(larder_set(ns, NULL, 1, "v", 1, NULL, NULL), -EINVAL);
    ck_assert_int_eq(larder_set(ns, "k", 1, NULL, 1, NULL, NULL), -EINVAL);
    ck_assert_int_eq(larder_set(ns, "k", 1, "v", 1, &how, NULL), -EINVAL);
    how.ttl_ms = INT64_MAX;
    ck_assert_int_eq(larder_set(ns, "k", 1, "v", 1, &how, NULL), -EINVAL);
    how = (struct larder_set_options){.size = sizeof how, .how = 8};
    ck_assert_int_eq(larder_set(ns, "k", 1, "v", 1, &how, NULL), -EINVAL);
    how = (struct larder_set_options){.size = 2};
    ck_assert_int_eq(larder_set(ns, "k", 1, "v", 1, &how, NULL), -EINVAL);
    ck_assert_int_eq(larder_set(ns, "k", 1, "v", SIZE_MAX, NULL, NULL), -E2BIG);
    ck_assert_int_eq(larder_set(ns, "k", 1, big, larder_item_max(l), NULL, NULL), -E2BIG);
    ck_assert_int_eq(larder_delete(ns, "", 0, NULL), -EINVAL);
    ck_assert_int_eq(larder_delete(NULL, "k", 1, NULL), -EINVAL);

    ck_assert_int_eq(larder_wait(NULL, 1, 0), -EINVAL);
    ck_assert_int_eq(larder_wait(l, 0, 0), -EINVAL);
    ck_assert_int_eq(larder_wait(l, UINT64_C(1) << 52 | 1000, 0), -EINVAL);
    ck_assert_int_eq(larder_flush(NULL, 0), -EINVAL);
    ck_assert_int_eq(larder_stats(l, NULL), -EINVAL);
    struct larder_stats stats = {.size = 5};
    ck_assert_int_eq(larder_stats(l, &stats), -EINVAL);
    ck_assert_uint_eq(lrd_load_relaxed(&d.ring[0].lane->tail), 0);
    larder_close(l);
    daemon_die(&d);
}
END_TEST

/* ---- reading and writing ---- */

START_TEST(own_writes_then_applied)
{
    struct daemon d;
    daemon_start(&d, GOOD);
    struct larder *l = open_default();
    struct larder_ns *ns = larder_default(l);
    struct larder_set_options how = {.size = sizeof how, .ttl_ms = 100000, .flags = 42};
    larder_ticket ticket = 0;
    ck_assert_int_eq(get(l, "k"), LARDER_MISS);
    ck_assert_int_eq(larder_set(ns, "k", 1, "value", 5, &how, &ticket), 0);
    ck_assert_uint_ne(ticket, 0);
    ck_assert_int_eq(larder_wait(l, ticket, 0), LARDER_TIMEOUT);
    ck_assert_int_eq(larder_wait(l, ticket, 20), LARDER_TIMEOUT);
    ck_assert_int_eq(larder_flush(l, 0), LARDER_TIMEOUT);

    for (int applied = 0; applied < 2; applied++) {
        char buffer[16] = {0};
        size_t size = 0;
        ck_assert_int_eq(get(l, "k"), 0);
        ck_assert_str_eq(got, "value");
        ck_assert_int_eq(larder_get(ns, "k", 1, NULL, 0, &size), LARDER_TOO_SMALL);
        ck_assert_uint_eq(size, 5);
        struct larder_item item = {.size = sizeof item, .buffer = buffer, .capacity = sizeof buffer};
        ck_assert_int_eq(larder_get_item(ns, "k", 1, &item), 0);
        ck_assert_str_eq(buffer, "value");
        ck_assert_uint_eq(item.flags, 42);
        ck_assert_uint_eq(item.value_size, 5);
        ck_assert(item.ttl_ms > 90000 && item.ttl_ms <= 100000);
        ck_assert_int_eq(item.version != 0, applied);
        item.capacity = 4;
        ck_assert_int_eq(larder_get_item(ns, "k", 1, &item), LARDER_TOO_SMALL);
        ck_assert_uint_eq(item.value_size, 5);
        apply_lane(&d, 0);
        ck_assert_int_eq(larder_wait(l, ticket, 0), 0);
        ck_assert_int_eq(larder_flush(l, 0), 0);
    }
    ck_assert_int_eq(larder_delete(ns, "k", 1, &ticket), 0);
    ck_assert_int_eq(get(l, "k"), LARDER_MISS);
    apply_lane(&d, 0);
    ck_assert_int_eq(get(l, "k"), LARDER_MISS);
    ck_assert_int_eq(set(l, "empty", ""), 0);
    ck_assert_int_eq(larder_get(ns, "empty", 5, NULL, 0, NULL), 0);
    apply_lane(&d, 0);
    ck_assert_int_eq(larder_get(ns, "empty", 5, NULL, 0, NULL), 0);

    struct larder_stats stats = {.size = sizeof stats};
    ck_assert_int_eq(larder_stats(l, &stats), 0);
    ck_assert_uint_eq(stats.own_sets, 2);
    ck_assert_uint_eq(stats.own_deletes, 1);
    ck_assert_uint_eq(stats.live_items, 1);
    ck_assert_uint_eq(stats.gets, 13);
    ck_assert_uint_eq(stats.own_reads, 6);
    ck_assert_uint_eq(stats.hits, 6);
    ck_assert_int_eq(larder_delete(ns, "empty", 5, NULL), 0);
    apply_lane(&d, 0);
    larder_close(l);
    ck_assert_uint_eq(fixture_recount(&d.f.reader), 0);
    daemon_die(&d);
}
END_TEST

START_TEST(expired_before_it_was_applied)
{
    struct daemon d;
    daemon_start(&d, GOOD);
    struct larder *l = open_default();
    struct larder_set_options how = {.size = sizeof how, .ttl_ms = 500};
    ck_assert_int_eq(larder_set(larder_default(l), "k", 1, "v", 1, &how, NULL), 0);
    ck_assert_int_eq(get(l, "k"), 0);
    pause_ms(510);
    ck_assert_int_eq(get(l, "k"), LARDER_MISS);
    larder_close(l);
    daemon_die(&d);
}
END_TEST

START_TEST(many_at_once)
{
    struct daemon d;
    daemon_start(&d, GOOD);
    struct larder *l = open_default();
    struct larder_ns *ns = larder_default(l);
    enum { N = 200 };
    static char name[N][8], buffer[N][8];
    struct larder_key keys[N];
    struct larder_item items[N];
    for (size_t i = 0; i < N; i++) {
        snprintf(name[i], sizeof name[i], "%zu", i);
        keys[i] = (struct larder_key){.size = sizeof *keys, .data = name[i], .data_size = strlen(name[i])};
        items[i] = (struct larder_item){.size = sizeof *items, .buffer = buffer[i], .capacity = sizeof *buffer};
        if (i % 3 != 0)
            ck_assert_int_eq(set(l, name[i], name[i]), 0);
        if (i < 150)
            apply_lane(&d, 0); /* the others are pending */
        if (i % 2 != 0)
            ck_assert_int_eq(larder_key_prepare(ns, &keys[i]), 0);
    }
    keys[7].data = NULL;
    keys[8].data_size = 0;
    keys[11].segment_id++; /* of another segment: not believed */
    keys[11].hash++;
    items[100].capacity = 2;
    items[101].buffer = NULL;
    size_t hits = 0;
    ck_assert_int_eq(larder_get_many(ns, keys, items, N, &hits), 0);
    size_t expected = 0;
    for (size_t i = 0; i < N; i++) {
        int want = i == 7 || i == 8 || i == 101 ? -EINVAL : i % 3 == 0 ? LARDER_MISS : i == 100 ? LARDER_TOO_SMALL : 0;
        ck_assert_msg(items[i].result == want, "%zu: %d", i, items[i].result);
        if (want == 0)
            ck_assert(items[i].value_size == strlen(name[i]) && memcmp(buffer[i], name[i], strlen(name[i])) == 0);
        expected += want == 0;
    }
    ck_assert_uint_eq(hits, expected);
    larder_close(l);
    daemon_die(&d);
}
END_TEST

START_TEST(full_ring)
{
    struct daemon d;
    daemon_start(&d, GOOD);
    struct larder_options options = {.size = sizeof options, .socket = socket_path, .busy_timeout_ms = LARDER_NO_WAIT};
    struct larder *l;
    ck_assert_int_eq(larder_open(&l, &options), 0);
    char key[8];
    for (unsigned i = 0; i < FIXTURE_CELLS; i++) {
        snprintf(key, sizeof key, "%u", i);
        ck_assert_int_eq(set(l, key, key), 0);
    }
    ck_assert_int_eq(set(l, "more", "more"), LARDER_BUSY);
    ck_assert_int_eq(get(l, "more"), LARDER_MISS);
    ck_assert_int_eq(get(l, "63"), 0);
    ck_assert_str_eq(got, "63");
    apply_lane(&d, 0);
    ck_assert_int_eq(set(l, "more", "more"), 0);
    struct larder_stats stats = {.size = sizeof stats};
    ck_assert_int_eq(larder_stats(l, &stats), 0);
    ck_assert_uint_eq(stats.busy, 1);
    larder_close(l);

    /* With the default a full ring is waited for, but not long. */
    l = open_default();
    for (unsigned i = 0; i < FIXTURE_CELLS; i++)
        ck_assert_int_eq(set(l, "k", "v"), 0);
    uint64_t before = lrd_clock_ns();
    ck_assert_int_eq(set(l, "k", "v"), LARDER_BUSY);
    uint64_t took = lrd_clock_ns() - before;
    ck_assert(took >= 1000000u && took < 500000000u);
    larder_close(l);
    daemon_die(&d);
}
END_TEST

START_TEST(waiting_for_visibility)
{
    struct daemon d;
    daemon_start(&d, GOOD);
    struct larder *l = open_with(LARDER_OPEN_WAIT_VISIBLE | LARDER_OPEN_NO_POPULATE);
    uint64_t before = lrd_clock_ns();
    ck_assert_int_eq(set(l, "k", "v"), LARDER_TIMEOUT); /* acknowledged, and nobody applies it */
    uint64_t took = lrd_clock_ns() - before;
    ck_assert(took >= 1000000000u && took < 3000000000u);
    apply_lane(&d, 0);
    ck_assert_int_eq(get(l, "k"), 0);
    larder_close(l);
    daemon_die(&d);
}
END_TEST

START_TEST(bounded_silence)
{
    struct daemon d;
    daemon_start(&d, GOOD);
    struct larder_options options = {.size = sizeof options, .socket = socket_path, .max_silence_ms = 1};
    struct larder *l;
    ck_assert_int_eq(larder_open(&l, &options), 0);
    lrd_u64 *beat = &d.f.store.header->heartbeat_ms;
    ck_assert_int_eq(get(l, "k"), LARDER_MISS);
    lrd_store_relaxed(beat, fixture_now_ms(&d.f.store.r) - 100);
    ck_assert_int_eq(get(l, "k"), LARDER_MISS);
    lrd_store_relaxed(beat, fixture_now_ms(&d.f.store.r) - 300);
    ck_assert_int_eq(get(l, "k"), LARDER_STALE);
    struct larder_key key = {.size = sizeof key, .data = "k", .data_size = 1};
    struct larder_item item = {.size = sizeof item};
    ck_assert_int_eq(larder_get_many(larder_default(l), &key, &item, 1, NULL), LARDER_STALE);
    ck_assert_int_eq(item.result, LARDER_STALE);
    ck_assert_int_eq(larder_get_item(larder_default(l), "k", 1, &item), LARDER_STALE);
    lrd_store_relaxed(beat, fixture_now_ms(&d.f.store.r));
    ck_assert_int_eq(get(l, "k"), LARDER_MISS);
    larder_close(l);
    daemon_die(&d);
}
END_TEST

/* A client in a time namespace, or a daemon: items expire when the daemon means it. */
START_TEST(other_clock)
{
    struct daemon d;
    daemon_start(&d, OTHER_CLOCK);
    d.clock_ahead_ns = _i == 0 ? INT64_C(1000000000000) : INT64_C(-1000000000);
    /* The daemon's clock is ahead, and segment time with it: 0 was 2 s ago by either. */
    d.f.store.header->geometry.created_ns += (uint64_t)d.clock_ahead_ns;
    struct larder *l = open_default();
    uint64_t now_ms = fixture_now_ms(&d.f.reader); /* by the fixture's clock, which is ours */
    struct fixture_item item = {.key = "k", .key_len = 1, .value = "v", .value_len = 1, .expires_ms = now_ms - 1900};
    fixture_put(&d.f, &item);
    ck_assert_int_eq(get(l, "k"), LARDER_MISS);
    item.expires_ms = now_ms + 10000;
    fixture_put(&d.f, &item);
    ck_assert_int_eq(get(l, "k"), 0);
    struct larder_item it = {.size = sizeof it, .buffer = got, .capacity = sizeof got};
    ck_assert_int_eq(larder_get_item(larder_default(l), "k", 1, &it), 0);
    ck_assert(it.ttl_ms > 5000 && it.ttl_ms < 15000); /* off by half of what the answer took */
    larder_close(l);
    daemon_die(&d);
}
END_TEST

/* ---- fork ---- */

static int wait_child(pid_t pid)
{
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#define child_expect(x) ((x) ? (void)0 : (fprintf(stderr, "child: %s\n", #x), _exit(1)))
#define child_result(call, expected) child_is(#call, call, expected)

static void child_is(const char *call, int result, int expected)
{
    if (result == expected)
        return;
    fprintf(stderr, "child: %s is %d (%s), not %d\n", call, result, larder_strerror(result), expected);
    _exit(1);
}

START_TEST(forked_child)
{
    struct daemon d;
    daemon_start(&d, GOOD);
    struct larder *l = open_default();
    larder_ticket ticket;
    ck_assert_int_eq(set(l, "visible", "1"), 0);
    apply_lane(&d, 0);
    ck_assert_int_eq(larder_set(larder_default(l), "mine", 4, "parent", 6, NULL, &ticket), 0);
    await_clients(&d, 1);
    unsigned before = open_fds();
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        child_result(get(l, "visible"), 0);
        child_result(get(l, "mine"), LARDER_MISS); /* pending, in the parent's ring */
        child_result(set(l, "mine", "child"), 0);
        child_expect(get(l, "mine") == 0 && strcmp(got, "child") == 0);
        child_result(larder_wait(l, ticket, 0), LARDER_LOST);
        child_expect(open_fds() == before); /* as many, but its own */
        larder_close(l);
        child_expect(open_fds() == before - 2);
        _exit(0);
    }
    ck_assert_int_eq(wait_child(pid), 0);
    ck_assert_int_eq(get(l, "mine"), 0);
    ck_assert_str_eq(got, "parent");
    await_clients(&d, 2);
    ck_assert_uint_gt(lrd_load_relaxed(&d.ring[1].lane->tail), 0);
    apply_lane(&d, 0);
    ck_assert_int_eq(larder_wait(l, ticket, 0), 0);
    larder_close(l);
    daemon_die(&d);
}
END_TEST

START_TEST(forked_child_of_many_kinds)
{
    struct daemon d;
    daemon_start(&d, GOOD);
    struct larder *l = open_default();
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        larder_close(l); /* never used it */
        _exit(0);
    }
    ck_assert_int_eq(wait_child(pid), 0);

    /* A child that closes everything, and whose descriptors are somebody else's by the time of its first call. */
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        for (int fd = 3; fd < 256; fd++)
            close(fd);
        int file[16];
        for (int i = 0; i < 16; i++)
            file[i] = memfd_create("somebody's", MFD_CLOEXEC); /* no ck_assert() from here on: Check's own file is closed too */
        child_result(set(l, "k", "v"), 0);
        for (int i = 0; i < 16; i++)
            child_expect(fcntl(file[i], F_GETFD) >= 0 && lseek(file[i], 0, SEEK_END) == 0);
        larder_close(l);
        for (int i = 0; i < 16; i++)
            child_expect(fcntl(file[i], F_GETFD) >= 0);
        _exit(0);
    }
    ck_assert_int_eq(wait_child(pid), 0);

    /* A grandchild of a child that called nothing. */
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        pid = fork();
        if (pid == 0) {
            child_result(set(l, "k", "v"), 0);
            child_result(get(l, "k"), 0);
            larder_close(l);
            _exit(0);
        }
        int status = wait_child(pid);
        larder_close(l); /* or valgrind finds it lost */
        _exit(status);
    }
    ck_assert_int_eq(wait_child(pid), 0);
    ck_assert_int_eq(set(l, "k", "v"), 0);
    larder_close(l);
    daemon_die(&d);
}
END_TEST

START_TEST(forked_child_without_daemon)
{
    struct daemon d;
    daemon_start(&d, GOOD);
    struct larder *l = open_default();
    daemon_die(&d);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct larder_stats stats = {.size = sizeof stats};
        child_result(get(l, "k"), LARDER_DOWN);
        child_result(set(l, "k", "v"), LARDER_DOWN);
        child_result(larder_delete(larder_default(l), "k", 1, NULL), LARDER_DOWN);
        child_result(larder_flush(l, 10), 0);
        child_result(larder_stats(l, &stats), LARDER_DOWN);
        child_expect(larder_item_max(l) == 0);
        pause_ms(60);
        daemon_start(&d, GOOD);
        child_result(set(l, "k", "v"), 0);
        child_result(get(l, "k"), 0);
        larder_close(l);
        _exit(0);
    }
    ck_assert_int_eq(wait_child(pid), 0);
    larder_close(l);
}
END_TEST

static void *fork_again_and_again(void *arg)
{
    struct larder *l = arg;
    for (int i = 0; i < 3; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            child_result(set(l, "k", "child"), 0);
            child_result(get(l, "k"), 0);
            _exit(0);
        }
        if (pid < 0 || wait_child(pid) != 0)
            return arg;
    }
    return NULL;
}

static lrd_u32 stop;

/* Reads as fast as it can; what it reads is right or a miss. */
static void *read_on(void *arg)
{
    struct larder_ns *ns = larder_default(arg);
    uint64_t wrong = 0;
    while (lrd_load32_relaxed(&stop) == 0) {
        char buffer[16];
        size_t size;
        int r = larder_get(ns, "k", 1, buffer, sizeof buffer, &size);
        wrong += r == 0 ? size != 5 || memcmp(buffer, "value", 5) != 0 : r != LARDER_MISS;
    }
    return (void *)(uintptr_t)wrong;
}

/* The daemon has taken us for dead and given the lane to another client, whose positions are ahead of ours. */
START_TEST(lane_given_away)
{
    struct daemon d;
    daemon_start(&d, GOOD);
    struct larder *l = open_default();
    larder_ticket ticket;
    ck_assert_int_eq(larder_set(larder_default(l), "k", 1, "value", 5, NULL, &ticket), 0);
    lrd_store32_relaxed(&d.f.store.lanes[0].incarnation, 2);
    lrd_store_release(&d.f.store.lanes[0].applied, 1000);
    ck_assert_int_eq(larder_wait(l, ticket, 0), LARDER_LOST); /* not: visible */
    ck_assert_int_eq(set(l, "k", "value"), 0);
    await_clients(&d, 2); /* on a lane of its own */
    ck_assert_int_eq(larder_wait(l, ticket, 0), LARDER_LOST);
    larder_close(l);
    daemon_die(&d);
}
END_TEST

START_TEST(fork_beside_threads)
{
    struct daemon d;
    daemon_start(&d, GOOD);
    struct larder *l = open_default();
    ck_assert_int_eq(set(l, "k", "value"), 0);
    apply_lane(&d, 0);
    pthread_t reader, forker;
    void *result;
    ck_assert_int_eq(pthread_create(&reader, NULL, read_on, l), 0);
    ck_assert_int_eq(pthread_create(&forker, NULL, fork_again_and_again, l), 0);
    pthread_join(forker, &result);
    ck_assert_ptr_null(result);
    lrd_store32_relaxed(&stop, 1);
    pthread_join(reader, &result);
    ck_assert_ptr_null(result);
    larder_close(l);
    daemon_die(&d);
}
END_TEST

/* ---- a daemon that dies ---- */

START_TEST(daemon_dies_and_another_comes)
{
    struct daemon d, e;
    daemon_start(&d, GOOD);
    struct larder *l = open_default();
    larder_ticket ticket, later;
    ck_assert_int_eq(set(l, "k", "value"), 0);
    apply_lane(&d, 0);
    ck_assert_int_eq(larder_set(larder_default(l), "pending", 7, "x", 1, NULL, &ticket), 0);
    await_clients(&d, 1);
    daemon_die(&d);
    /* Reads go on with what there is; writes are told. */
    ck_assert_int_eq(get(l, "k"), 0);
    ck_assert_str_eq(got, "value");
    ck_assert_int_eq(set(l, "k", "new"), LARDER_DOWN);
    ck_assert_int_eq(larder_wait(l, ticket, 1000), LARDER_LOST);
    ck_assert_int_eq(get(l, "k"), 0);

    daemon_start(&e, GOOD);
    pause_ms(60); /* nobody looks more often than every 50 ms */
    ck_assert_int_eq(set(l, "n", "new"), 0);
    ck_assert_int_eq(get(l, "k"), LARDER_MISS);
    ck_assert_int_eq(get(l, "n"), 0);
    ck_assert_int_eq(larder_wait(l, ticket, 0), LARDER_LOST);
    ck_assert_int_eq(larder_flush(l, 0), LARDER_LOST);
    apply_lane(&e, 0);
    ck_assert_int_eq(larder_flush(l, 0), 0);
    ck_assert_int_eq(larder_set(larder_default(l), "n", 1, "x", 1, NULL, &later), 0);
    apply_lane(&e, 0);
    ck_assert_int_eq(larder_wait(l, later, 0), 0);
    ck_assert_uint_eq(fixture_recount(&e.f.reader), 0);
    larder_close(l);
    daemon_die(&e);
}
END_TEST

START_TEST(daemon_dies_with_a_full_ring)
{
    struct daemon d;
    daemon_start(&d, GOOD);
    struct larder *l = open_default();
    int r = 0;
    for (unsigned i = 0; i < FIXTURE_CELLS && r == 0; i++)
        r = set(l, "k", "v");
    ck_assert_int_eq(r, 0);
    /* The heartbeat is a good one to the end: the socket decides. */
    await_clients(&d, 1);
    close(d.client[0]);
    d.client[0] = -1;
    unlink(socket_path);
    ck_assert_int_eq(set(l, "k", "v"), LARDER_DOWN);
    larder_close(l);
    daemon_die(&d);
}
END_TEST

/* Readers and writers go on while one daemon after the other dies under them. */
static void *write_on(void *arg)
{
    struct larder_ns *ns = larder_default(arg);
    uint64_t wrong = 0;
    while (lrd_load32_relaxed(&stop) == 0) {
        larder_ticket ticket;
        int r = larder_set(ns, "k", 1, "value", 5, NULL, &ticket);
        wrong += r != 0 && r != LARDER_BUSY && r != LARDER_DOWN;
        if (r == 0) {
            r = larder_wait(arg, ticket, 5);
            wrong += r != 0 && r != LARDER_TIMEOUT && r != LARDER_LOST;
        }
        pause_ms(1);
    }
    return (void *)(uintptr_t)wrong;
}

START_TEST(daemons_die_under_threads)
{
    struct daemon d;
    daemon_start(&d, GOOD);
    struct larder *l = open_default();
    await_clients(&d, 1);
    unsigned fds = open_fds();
    pthread_t thread[4];
    for (unsigned i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, i < 2 ? read_on : write_on, l), 0);
    for (unsigned i = 0; i < 5; i++) {
        for (unsigned k = 0; k < 20; k++) {
            pause_ms(1);
            if (clients(&d) > 0)
                apply_lane(&d, 0);
        }
        daemon_die(&d);
        pause_ms(20);
        daemon_start(&d, GOOD);
        await_clients(&d, 1); /* somebody notices, whoever it is */
    }
    lrd_store32_relaxed(&stop, 1);
    for (unsigned i = 0; i < 4; i++) {
        void *wrong;
        pthread_join(thread[i], &wrong);
        ck_assert_ptr_null(wrong);
    }
    /* Each connection that was given up as too slow is one at the daemon's end. */
    ck_assert_uint_eq(open_fds(), fds + clients(&d) - 1);
    larder_close(l);
    daemon_die(&d);
}
END_TEST

static void *count_gets(void *arg)
{
    char buffer[16];
    for (unsigned i = 0; i < 1000; i++)
        larder_get(larder_default(arg), "k", 1, buffer, sizeof buffer, NULL);
    return NULL;
}

START_TEST(counts_of_many_threads)
{
    struct daemon d;
    daemon_start(&d, GOOD);
    struct larder *l = open_default();
    enum { THREADS = 40 };
    pthread_t thread[THREADS];
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < THREADS; i++)
            ck_assert_int_eq(pthread_create(&thread[i], NULL, count_gets, l), 0);
        for (unsigned i = 0; i < THREADS; i++)
            pthread_join(thread[i], NULL);
    }
    struct larder_stats stats = {.size = sizeof stats};
    ck_assert_int_eq(larder_stats(l, &stats), 0);
    ck_assert_uint_eq(stats.gets, 3 * THREADS * 1000);
    ck_assert_uint_eq(stats.hits, 0);
    larder_close(l);
    daemon_die(&d);
}
END_TEST

/* ---- namespaces ---- */

static const char *const bad_names[] = {"", "-a", ".a", "a b", "a/b", "a\n", "\xc3\xa4", "a2345678901234567890123456789012", "a23456789012345678901234567890123456789"};

START_TEST(namespaces_by_name)
{
    struct daemon d;
    daemon_start(&d, GOOD);
    name(&d, 1, "One.1_-", LRD_POLICY_EVICT);
    name(&d, 62, "a234567890123456789012345678901", LRD_POLICY_FIFO);
    struct larder *l = open_default();
    struct larder_ns *one = ns_of(l, "One.1_-"), *ns = one;
    ck_assert_ptr_eq(ns_of(l, "One.1_-"), one);
    ck_assert_ptr_eq(ns_of(l, "default"), larder_default(l));
    ck_assert_ptr_ne(one, larder_default(l));
    ck_assert_ptr_ne(ns_of(l, "a234567890123456789012345678901"), one);
    for (size_t i = 0; i < sizeof bad_names / sizeof *bad_names; i++) {
        ns = one;
        ck_assert_int_eq(larder_ns_open(l, bad_names[i], &ns), -EINVAL);
        ck_assert_ptr_null(ns);
        ns = one;
        ck_assert_int_eq(larder_ns_create(l, bad_names[i], NULL, &ns), -EINVAL);
        ck_assert_ptr_null(ns);
    }
    ck_assert_int_eq(larder_ns_open(l, "One.1_", &ns), LARDER_NO_NAMESPACE);
    ck_assert_ptr_null(ns);
    ck_assert_int_eq(larder_ns_open(l, NULL, &ns), -EINVAL);
    ck_assert_int_eq(larder_ns_open(NULL, "default", &ns), -EINVAL);
    ck_assert_int_eq(larder_ns_open(l, "default", NULL), -EINVAL);
    ck_assert_int_eq(larder_ns_create(NULL, "x", NULL, &ns), -EINVAL);
    ck_assert_int_eq(larder_ns_create(l, NULL, NULL, &ns), -EINVAL);
    ck_assert_int_eq(larder_ns_create(l, "x", NULL, NULL), -EINVAL);
    ck_assert_int_eq(larder_ns_reset(NULL), -EINVAL);
    ck_assert_int_eq(larder_measure(NULL, 0), -EINVAL);
    ck_assert_uint_eq(lrd_load_relaxed(&d.ring[0].lane->tail), 0);

    /* The same key is another in each; what is pending, and what is applied. */
    ck_assert_int_eq(set_in(one, "k", "one"), 0);
    ck_assert_int_eq(get(l, "k"), LARDER_MISS);
    ck_assert_int_eq(set(l, "k", "default"), 0);
    for (int applied = 0; applied < 2; applied++) {
        ck_assert_int_eq(get_in(one, "k"), 0);
        ck_assert_str_eq(got, "one");
        ck_assert_int_eq(get(l, "k"), 0);
        ck_assert_str_eq(got, "default");
        struct larder_item item = {.size = sizeof item, .buffer = got, .capacity = sizeof got};
        ck_assert_int_eq(larder_get_item(one, "k", 1, &item), 0);
        ck_assert_uint_eq(item.value_size, 3);
        struct larder_key key = {.size = sizeof key, .data = "k", .data_size = 1};
        ck_assert_int_eq(larder_key_prepare(one, &key), 0);
        ck_assert_int_eq(larder_get_many(one, &key, &item, 1, NULL), 0);
        ck_assert_uint_eq(item.value_size, 3);
        ck_assert_int_eq(larder_get_many(larder_default(l), &key, &item, 1, NULL), 0); /* prepared for the other one */
        ck_assert_uint_eq(item.value_size, 7);
        apply_lane(&d, 0);
    }
    /* Made later. */
    ck_assert_int_eq(larder_ns_open(l, "later", &ns), LARDER_NO_NAMESPACE);
    name(&d, 2, "later", LRD_POLICY_EVICT);
    ck_assert_int_eq(get_in(ns_of(l, "later"), "k"), LARDER_MISS);
    ck_assert_int_eq(set_in(ns_of(l, "later"), "k", "v"), 0);
    ck_assert_int_eq(larder_delete(one, "k", 1, NULL), 0);
    ck_assert_int_eq(get_in(one, "k"), LARDER_MISS);
    ck_assert_int_eq(get(l, "k"), 0);
    larder_close(l);
    daemon_die(&d);
}
END_TEST

/* Another daemon has other namespaces, and the same ones elsewhere. */
START_TEST(namespaces_of_the_next_daemon)
{
    struct daemon d, e;
    daemon_start(&d, GOOD);
    name(&d, 1, "gone", LRD_POLICY_EVICT);
    name(&d, 2, "moved", LRD_POLICY_EVICT);
    struct larder *l = open_default(), *reader = open_default();
    struct larder_ns *gone = ns_of(l, "gone"), *moved = ns_of(l, "moved"), *read = ns_of(reader, "gone"), *ns;
    struct larder_key key = {.size = sizeof key, .data = "k", .data_size = 1};
    ck_assert_int_eq(larder_key_prepare(moved, &key), 0);
    ck_assert_int_eq(set_in(gone, "k", "v"), 0);
    await_clients(&d, 2);
    daemon_die(&d);
    ck_assert_int_eq(set_in(gone, "k", "v"), LARDER_DOWN);
    daemon_start(&e, GOOD);
    name(&e, 1, "moved", LRD_POLICY_EVICT);
    pause_ms(60);
    ck_assert_int_eq(set_in(gone, "k", "v"), LARDER_NO_NAMESPACE);
    ck_assert_int_eq(larder_delete(gone, "k", 1, NULL), LARDER_NO_NAMESPACE);
    ck_assert_int_eq(larder_ns_reset(gone), LARDER_NO_NAMESPACE);
    ck_assert_int_eq(get_in(gone, "k"), LARDER_MISS);
    ck_assert_int_eq(larder_ns_open(l, "gone", &ns), LARDER_NO_NAMESPACE);
    ck_assert_int_eq(set_in(moved, "k", "value"), 0);
    apply_lane(&e, 0);
    ck_assert_int_eq(get_in(moved, "k"), 0);
    struct larder_item item = {.size = sizeof item, .buffer = got, .capacity = sizeof got};
    ck_assert_int_eq(larder_get_many(moved, &key, &item, 1, NULL), 0);
    ck_assert_int_eq(item.result, 0);
    /* It comes back, in a place that was another's: who writes finds it, and who only reads. */
    ck_assert_int_eq(get_in(read, "k"), LARDER_MISS); /* attaches */
    ck_assert_int_eq(get_in(read, "k"), LARDER_MISS);
    name(&e, 5, "gone", LRD_POLICY_EVICT);
    ck_assert_int_eq(set_in(gone, "k", "back"), 0);
    apply_lane(&e, 0);
    ck_assert_int_eq(get_in(gone, "k"), 0);
    (void)get_in(read, "k");
    ck_assert_int_eq(get_in(read, "k"), 0);
    ck_assert_str_eq(got, "back");
    ck_assert_ptr_eq(ns_of(l, "gone"), gone);
    larder_close(l);
    larder_close(reader);
    daemon_die(&e);
}
END_TEST

START_TEST(too_many_names)
{
    struct daemon d, e;
    char called[8];
    struct larder_ns *ns;
    daemon_start(&d, GOOD);
    struct larder *l = open_default();
    for (uint32_t i = 1; i < LRD_NS_NOWHERE; i++) {
        snprintf(called, sizeof called, "n%u", i);
        name(&d, i, called, LRD_POLICY_EVICT);
        ns_of(l, called);
    }
    await_clients(&d, 1);
    daemon_die(&d);
    daemon_start(&e, GOOD);
    name(&e, 1, "other", LRD_POLICY_EVICT);
    name(&e, 2, "n62", LRD_POLICY_EVICT);
    ck_assert_int_eq(set(l, "k", "v"), 0);
    ck_assert_int_eq(larder_ns_open(l, "other", &ns), -EMFILE);
    ck_assert_ptr_null(ns);
    ck_assert_int_eq(set_in(ns_of(l, "n62"), "k", "v"), 0);
    ck_assert_int_eq(larder_ns_open(l, "n1", &ns), LARDER_NO_NAMESPACE);
    larder_close(l);
    daemon_die(&e);
}
END_TEST

START_TEST(namespaces_of_a_forked_child)
{
    struct daemon d;
    daemon_start(&d, GOOD);
    name(&d, 1, "one", LRD_POLICY_EVICT);
    name(&d, 2, "two", LRD_POLICY_EVICT);
    struct larder *l = open_default();
    struct larder_ns *one = ns_of(l, "one");
    ck_assert_int_eq(set_in(one, "k", "v"), 0);
    apply_lane(&d, 0);
    await_clients(&d, 1);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct larder_ns *ns;
        child_result(get_in(one, "k"), 0);
        child_result(set_in(one, "c", "child"), 0);
        child_result(get_in(one, "c"), 0);
        child_result(larder_ns_open(l, "two", &ns), 0);
        child_result(set_in(ns, "c", "child"), 0);
        child_result(larder_ns_open(l, "one", &ns), 0);
        child_expect(ns == one);
        larder_close(l);
        _exit(0);
    }
    ck_assert_int_eq(wait_child(pid), 0);
    await_clients(&d, 2);
    apply_lane(&d, 1);
    ck_assert_int_eq(get_in(one, "c"), 0);
    ck_assert_int_eq(get(l, "c"), LARDER_MISS);
    larder_close(l);
    daemon_die(&d);
}
END_TEST

/* ---- requests ---- */

static const struct {
    uint32_t answer;
    int result;
} answers[] = {
    {LRD_ANSWER_DENIED, LARDER_NOT_ALLOWED}, {LRD_ANSWER_EXISTS, LARDER_EXISTS},     {LRD_ANSWER_NO_QUOTA, LARDER_NO_QUOTA}, {LRD_ANSWER_TOO_MANY, LARDER_NO_QUOTA},
    {LRD_ANSWER_NO_NS, LARDER_NO_NAMESPACE}, {LRD_ANSWER_FULL, LARDER_FULL},         {LRD_ANSWER_MALFORMED, -EINVAL},        {LRD_ANSWER_MALFORMED + 1, -EPROTO},
    {UINT32_MAX, -EPROTO},
};

START_TEST(answers_of_all_kinds)
{
    struct daemon d;
    daemon_start(&d, GOOD);
    struct larder *l = open_default();
    struct larder_ns *ns = larder_default(l);
    await_clients(&d, 1);
    work_begin(&d);
    lrd_store32_relaxed(&d.answer, answers[_i].answer);
    ck_assert_int_eq(larder_ns_create(l, "new", NULL, &ns), answers[_i].result);
    ck_assert_ptr_null(ns);
    ck_assert_int_eq(larder_ns_reset(larder_default(l)), answers[_i].result);
    ck_assert_int_eq(larder_measure(l, 1000), answers[_i].result);
    /* The answer to another request is none. */
    lrd_store32_relaxed(&d.answer, LRD_ANSWER_OK);
    lrd_store32_relaxed(&d.unread, 1);
    ck_assert_int_eq(larder_ns_reset(larder_default(l)), -EPROTO);
    lrd_store32_relaxed(&d.unread, 0);
    ck_assert_int_eq(larder_ns_reset(larder_default(l)), 0);
    work_end(&d);
    larder_close(l);
    daemon_die(&d);
}
END_TEST

START_TEST(making_a_namespace)
{
    struct daemon d;
    daemon_start(&d, GOOD);
    struct larder *l = open_default();
    struct larder_ns *ns, *again;
    await_clients(&d, 1);
    const struct larder_ns_options good = {.size = sizeof good, .min_bytes = 1 << 20, .default_ttl_ms = LARDER_TTL_NONE};
    struct larder_ns_options bad[11];
    for (size_t i = 0; i < 11; i++)
        bad[i] = good;
    bad[0].size = 1;
    bad[1].policy = 3;
    bad[2].flags = 1;
    bad[3].max_bytes = (1 << 20) - 1;
    bad[4].default_ttl_ms = -2;
    bad[5].default_ttl_ms = (int64_t)LRD_EXPIRES_MAX + 1;
    bad[6].policy = LARDER_REFUSE;
    bad[6].min_bytes = 0;
    bad[7].policy = LARDER_REFUSE;
    bad[7].max_bytes = 2 << 20;
    bad[8].policy = UINT32_MAX;
    bad[9].default_ttl_ms = INT64_MIN;
    bad[10].size = sizeof good + 8;
    for (size_t i = 0; i < 11; i++) {
        ns = larder_default(l);
        ck_assert_int_eq(larder_ns_create(l, "new", &bad[i], &ns), -EINVAL);
        ck_assert_ptr_null(ns);
    }
    ck_assert_uint_eq(lrd_load_relaxed(&d.ring[0].lane->tail), 0);

    work_begin(&d);
    ck_assert_int_eq(larder_ns_create(l, "new", NULL, &ns), 0);
    ck_assert_ptr_eq(ns_of(l, "new"), ns);
    ck_assert(d.spec.policy == LRD_POLICY_EVICT && d.spec.min_bytes == 0 && d.spec.max_bytes == 0 && d.spec.default_ttl_ms == 0 && d.spec.reset_every_ms == 0);
    ck_assert_str_eq(d.spec.name, "new");
    ck_assert_int_eq(larder_ns_create(l, "new", NULL, &again), 0);
    ck_assert_ptr_eq(again, ns);
    struct larder_ns_options o = {.size = sizeof o, .policy = LARDER_REFUSE, .min_bytes = 5 << 20, .default_ttl_ms = 77, .reset_every_ms = 88};
    ck_assert_int_eq(larder_ns_create(l, "refuses", &o, &ns), 0);
    ck_assert(d.spec.policy == LRD_POLICY_REFUSE && d.spec.min_bytes == 5 << 20 && d.spec.max_bytes == 5 << 20 && d.spec.default_ttl_ms == 77 &&
              d.spec.reset_every_ms == 88);
    o = good;
    o.policy = LARDER_FIFO;
    o.max_bytes = 9 << 20;
    ck_assert_int_eq(larder_ns_create(l, "fifo", &o, &ns), 0);
    ck_assert(d.spec.policy == LRD_POLICY_FIFO && d.spec.min_bytes == 1 << 20 && d.spec.max_bytes == 9 << 20 && d.spec.default_ttl_ms == 0);

    /* A reset is of that one. */
    ck_assert_int_eq(set(l, "k", "v"), 0);
    ck_assert_int_eq(set_in(again, "k", "v"), 0);
    ck_assert_int_eq(larder_ns_reset(again), 0);
    ck_assert_int_eq(get_in(again, "k"), LARDER_MISS);
    ck_assert_int_eq(get(l, "k"), 0);
    ck_assert_int_eq(set_in(again, "k", "w"), 0);
    ck_assert_int_eq(larder_flush(l, 10000), 0);
    ck_assert_int_eq(get_in(again, "k"), 0);
    ck_assert_int_eq(larder_measure(l, 1000), 0);
    work_end(&d);
    larder_close(l);
    daemon_die(&d);
}
END_TEST

START_TEST(nobody_answers)
{
    struct daemon d;
    daemon_start(&d, GOOD);
    struct larder *l = open_default();
    struct larder_ns *ns;
    await_clients(&d, 1);
    uint64_t before = lrd_clock_ns();
    ck_assert_int_eq(larder_ns_create(l, "new", NULL, &ns), LARDER_TIMEOUT);
    ck_assert_ptr_null(ns);
    ck_assert_int_eq(larder_ns_reset(larder_default(l)), LARDER_TIMEOUT);
    uint64_t took = lrd_clock_ns() - before;
    ck_assert(took >= UINT64_C(2000000000) && took < UINT64_C(10000000000));
    ck_assert_int_eq(larder_measure(l, 10), LARDER_TIMEOUT);
    /* Its records do not answer for what this process reads, and are done when somebody comes. */
    ck_assert_int_eq(get(l, "k"), LARDER_MISS);
    struct larder_stats stats = {.size = sizeof stats};
    ck_assert_int_eq(larder_stats(l, &stats), 0);
    ck_assert(stats.own_reads == 0 && stats.own_sets == 0 && stats.own_deletes == 0);
    ck_assert_int_eq(larder_ns_open(l, "new", &ns), LARDER_NO_NAMESPACE);
    apply_lane(&d, 0);
    ns_of(l, "new");
    work_begin(&d);
    lrd_store32_relaxed(&d.no_figures, 1);
    ck_assert_int_eq(larder_measure(l, 50), LARDER_TIMEOUT); /* answered, and not measured */
    lrd_store32_relaxed(&d.answer, LRD_ANSWER_DENIED);
    ck_assert_int_eq(larder_ns_create(l, "newer", NULL, &ns), LARDER_NOT_ALLOWED); /* not an older answer */
    work_end(&d);
    larder_close(l);

    /* No room, and no time. */
    l = open_default();
    for (unsigned i = 0; i < FIXTURE_CELLS; i++)
        ck_assert_int_eq(set(l, "k", "v"), 0);
    ck_assert_int_eq(larder_measure(l, 0), LARDER_BUSY);
    larder_close(l);
    daemon_die(&d);
}
END_TEST

START_TEST(daemon_dies_before_it_answers)
{
    struct daemon d;
    daemon_start(&d, GOOD);
    struct larder *l = open_default();
    struct larder_ns *ns;
    await_clients(&d, 1);
    close(d.client[0]);
    d.client[0] = -1;
    unlink(socket_path);
    ck_assert_int_eq(larder_ns_create(l, "new", NULL, &ns), LARDER_LOST);
    ck_assert_int_eq(larder_ns_reset(larder_default(l)), LARDER_LOST);
    lrd_store_relaxed(&d.f.store.header->heartbeat_ms, 0);
    pause_ms(60);
    ck_assert_int_eq(larder_ns_create(l, "new", NULL, &ns), LARDER_DOWN);
    ck_assert_int_eq(larder_ns_reset(larder_default(l)), LARDER_DOWN);
    ck_assert_int_eq(larder_measure(l, 100), LARDER_DOWN);
    larder_close(l);
    daemon_die(&d);
}
END_TEST

/* ---- credit ---- */

#define ACCOUNT 3u
#define CREDIT_ITEM 24u /* bytes of an item with a key and a value of 1 to 4 bytes each */

struct accounts {
    uint64_t granted_bytes, granted_items, taken_bytes, taken_items, used_bytes, used_items;
};

/* What is taken is looked at first: granted only grows. */
static struct accounts accounts(const struct daemon *d, unsigned lane)
{
    const struct lrd_lane *l = d->ring[lane].lane;
    const struct lrd_credit *c = &d->f.store.credits[lane].of[ACCOUNT];
    struct accounts a = {.taken_bytes = lrd_load_acquire(&l->taken_bytes[ACCOUNT]), .taken_items = lrd_load_acquire(&l->taken_items[ACCOUNT])};
    a.used_bytes = lrd_load_acquire(&c->used_bytes);
    a.used_items = lrd_load_acquire(&c->used_items);
    a.granted_bytes = lrd_load_acquire(&c->granted_bytes);
    a.granted_items = lrd_load_acquire(&c->granted_items);
    return a;
}

static struct larder *open_to_credit(struct daemon *d, uint64_t room_items, uint64_t grant_items, uint64_t grant_bytes, uint32_t busy_timeout_ms)
{
    daemon_start(d, GOOD);
    name(d, 1, "refuses", LRD_POLICY_REFUSE);
    lrd_store_relaxed(&d->room_items, room_items);
    d->grant_items = grant_items;
    d->grant_bytes = grant_bytes;
    struct larder_options options = {.size = sizeof options, .socket = socket_path, .busy_timeout_ms = busy_timeout_ms};
    struct larder *l;
    ck_assert_int_eq(larder_open(&l, &options), 0);
    await_clients(d, 1);
    return l;
}

START_TEST(credit_is_taken)
{
    struct daemon d;
    struct larder *l = open_to_credit(&d, 20, 10, 10 * CREDIT_ITEM, 5000);
    struct larder_ns *ns = ns_of(l, "refuses");
    char key[8];
    work_begin(&d);
    for (unsigned i = 0; i < 20; i++) {
        snprintf(key, sizeof key, "%u", i);
        ck_assert_int_eq(set_in(ns, key, key), 0);
        struct accounts a = accounts(&d, 0);
        ck_assert(a.taken_items == i + 1 && a.taken_bytes == (i + 1) * CREDIT_ITEM);
        ck_assert_uint_eq(a.granted_items, i < 10 ? 10 : 20);
        ck_assert_uint_eq(lrd_load32_relaxed(&d.n_requests), i < 10 ? 1 : 2);
    }
    larder_ticket ticket = 1;
    ck_assert_int_eq(larder_set(ns, "more", 4, "v", 1, NULL, &ticket), LARDER_FULL);
    ck_assert_uint_eq(ticket, 0);
    ck_assert_int_eq(get_in(ns, "more"), LARDER_MISS);
    ck_assert_int_eq(set(l, "more", "v"), 0); /* the default one has no such worries */
    ck_assert_int_eq(larder_delete(ns, "0", 1, NULL), 0);
    ck_assert_int_eq(larder_flush(l, 10000), 0);
    ck_assert_int_eq(get_in(ns, "0"), LARDER_MISS);
    struct accounts a = accounts(&d, 0);
    ck_assert(a.taken_items == 20 && a.taken_bytes == 20 * CREDIT_ITEM && a.used_items == 20 && a.used_bytes == 20 * CREDIT_ITEM);
    /* Room again. */
    lrd_store_relaxed(&d.room_items, 10);
    ck_assert_int_eq(set_in(ns, "more", "v"), 0);
    static char big[1 << 16];
    ck_assert_int_eq(larder_set(ns, "big", 3, big, sizeof big, NULL, NULL), -E2BIG);
    ck_assert_uint_eq(accounts(&d, 0).taken_items, 21);
    work_end(&d);
    larder_close(l);
    daemon_die(&d);
}
END_TEST

START_TEST(credit_for_bytes_is_not_for_items)
{
    struct daemon d;
    struct larder *l = open_to_credit(&d, 2, 2, 1000, 5000);
    struct larder_ns *ns = ns_of(l, "refuses");
    struct lrd_namespace *n = &d.f.store.namespaces[1];
    int r = 0;
    work_begin(&d);
    ck_assert_int_eq(set_in(ns, "a", "1"), 0);
    ck_assert_int_eq(set_in(ns, "b", "2"), 0);
    /* Bytes enough, no item: the bytes are given back. */
    ck_assert_int_eq(set_in(ns, "c", "3"), LARDER_FULL);
    struct accounts a = accounts(&d, 0);
    ck_assert(a.taken_items == 2 && a.taken_bytes == 2 * CREDIT_ITEM && a.granted_bytes == 1000);
    /* Enough of both, and none as large was asked for. */
    lrd_store_relaxed(&d.room_items, 2);
    ck_assert_int_eq(set_in(ns, "c", "3"), 0);
    ck_assert_uint_eq(lrd_load_relaxed(&n->largest), CREDIT_ITEM);
    ck_assert_int_eq(set_in(ns, "d", "twelve bytes"), LARDER_FULL);
    lrd_store_relaxed(&d.room_items, 2);
    ck_assert_int_eq(set_in(ns, "d", "twelve bytes"), 0);
    ck_assert_uint_eq(lrd_load_relaxed(&n->largest), 32);
    a = accounts(&d, 0);
    ck_assert(a.taken_items == 4 && a.taken_bytes == 3 * CREDIT_ITEM + 32);
    /* An answer that is none, and an account. */
    lrd_store32_relaxed(&d.answer, LRD_ANSWER_MALFORMED);
    for (unsigned i = 0; i < 4; i++)
        r = set_in(ns, "e", "5");
    ck_assert_int_eq(r, -EPROTO);
    lrd_store32_relaxed(&n->credit, LRD_NO_CREDIT);
    ck_assert_int_eq(set_in(ns, "e", "5"), -EPROTO);
    work_end(&d);
    larder_close(l);
    daemon_die(&d);
}
END_TEST

START_TEST(credit_is_given_back)
{
    struct daemon d;
    struct larder *l = open_to_credit(&d, 1000, 1000, 1 << 20, LARDER_NO_WAIT);
    struct larder_ns *ns = ns_of(l, "refuses");
    /* Who does not wait is told to come again; it asks once, however often it comes. */
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(set_in(ns, "k", "v"), LARDER_BUSY);
    ck_assert_uint_eq(lrd_load_relaxed(&d.ring[0].lane->tail), 1);
    ck_assert_uint_eq(accounts(&d, 0).taken_items, 0);
    apply_lane(&d, 0);
    for (unsigned i = 0; i < FIXTURE_CELLS; i++)
        ck_assert_int_eq(set_in(ns, "k", "v"), 0);
    ck_assert_int_eq(set_in(ns, "k", "v"), LARDER_BUSY);
    struct accounts a = accounts(&d, 0);
    ck_assert(a.taken_items == FIXTURE_CELLS && a.taken_bytes == FIXTURE_CELLS * CREDIT_ITEM);
    struct larder_stats stats = {.size = sizeof stats};
    ck_assert_int_eq(larder_stats(l, &stats), 0);
    ck_assert_uint_eq(stats.busy, 4);
    /* The daemon goes. */
    close(d.client[0]);
    d.client[0] = -1;
    unlink(socket_path);
    pause_ms(60);
    ck_assert_int_eq(set_in(ns, "k", "v"), LARDER_DOWN);
    a = accounts(&d, 0);
    ck_assert(a.taken_items == FIXTURE_CELLS && a.taken_bytes == FIXTURE_CELLS * CREDIT_ITEM);
    larder_close(l);
    daemon_die(&d);
}
END_TEST

START_TEST(credit_of_the_next_daemon)
{
    struct daemon d, e;
    struct larder *l = open_to_credit(&d, 10, 10, 1000, 5000);
    struct larder_ns *ns = ns_of(l, "refuses");
    work_begin(&d);
    ck_assert_int_eq(set_in(ns, "k", "v"), 0);
    work_end(&d);
    daemon_die(&d);
    daemon_start(&e, GOOD);
    name(&e, 1, "refuses", LRD_POLICY_REFUSE);
    lrd_store_relaxed(&e.room_items, 1);
    e.grant_items = 1;
    e.grant_bytes = CREDIT_ITEM;
    work_begin(&e);
    pause_ms(60);
    ck_assert_int_eq(set_in(ns, "k", "v"), 0);
    struct accounts a = accounts(&e, 0);
    ck_assert(a.taken_items == 1 && a.granted_items == 1 && a.taken_bytes == CREDIT_ITEM);
    ck_assert_int_eq(set_in(ns, "k", "v"), LARDER_FULL);
    work_end(&e);
    larder_close(l);
    daemon_die(&e);
}
END_TEST

#define CREDIT_THREADS 4u

/* With many questions, and with few. */
static const struct {
    uint64_t sets, grant_items; /* of each thread; at a time */
} hurries[] = {{300, 3}, {30000, 1000}};

struct spender {
    struct larder_ns *ns;
    uint64_t sets, spent, full, wrong;
    pthread_t thread;
};

static void *spend(void *arg)
{
    struct spender *s = arg;
    for (uint64_t i = 0; i < s->sets; i++) {
        int r = set_in(s->ns, "k", "v");
        s->spent += r == 0;
        s->full += r == LARDER_FULL;
        s->wrong += r != 0 && r != LARDER_FULL;
    }
    return NULL;
}

START_TEST(credit_of_many_threads)
{
    struct daemon d;
    uint64_t sets = hurries[_i].sets, grant_items = hurries[_i].grant_items, room = CREDIT_THREADS * sets / 10 * 9;
    struct larder *l = open_to_credit(&d, room, grant_items, grant_items * CREDIT_ITEM, 60000);
    struct spender s[CREDIT_THREADS];
    work_begin(&d);
    for (unsigned i = 0; i < CREDIT_THREADS; i++) {
        s[i] = (struct spender){.ns = ns_of(l, "refuses"), .sets = sets};
        ck_assert_int_eq(pthread_create(&s[i].thread, NULL, spend, &s[i]), 0);
    }
    struct accounts a;
    uint64_t looks = 0;
    do {
        a = accounts(&d, 0);
        ck_assert_msg(a.taken_bytes <= a.granted_bytes && a.taken_items <= a.granted_items, "%llu of %llu bytes, %llu of %llu items", (unsigned long long)a.taken_bytes,
                      (unsigned long long)a.granted_bytes, (unsigned long long)a.taken_items, (unsigned long long)a.granted_items);
        looks++;
    } while (a.taken_items < room && looks < 100000000);
    uint64_t spent = 0, full = 0;
    for (unsigned i = 0; i < CREDIT_THREADS; i++) {
        pthread_join(s[i].thread, NULL);
        ck_assert_uint_eq(s[i].wrong, 0);
        spent += s[i].spent;
        full += s[i].full;
    }
    ck_assert_int_eq(larder_flush(l, 10000), 0);
    work_end(&d);
    a = accounts(&d, 0);
    ck_assert_uint_eq(spent, room); /* all of it, and no more */
    ck_assert_uint_eq(full, CREDIT_THREADS * sets - room);
    ck_assert(a.taken_items == room && a.used_items == room && a.granted_items == room);
    ck_assert(a.taken_bytes == room * CREDIT_ITEM && a.used_bytes == room * CREDIT_ITEM);
    larder_close(l);
    daemon_die(&d);
}
END_TEST

/* ---- discarded ---- */

START_TEST(discarded_by_a_reset)
{
    struct daemon d;
    daemon_start(&d, GOOD);
    struct larder *l = open_default();
    struct larder_ns *ns = larder_default(l);
    larder_ticket before, late, after;
    ck_assert_int_eq(larder_set(ns, "k", 1, "v", 1, NULL, &before), 0);
    apply_lane(&d, 0);
    ck_assert_int_eq(larder_set(ns, "k", 1, "w", 1, NULL, &late), 0);
    fixture_reset(&d.f, 0);
    ck_assert_int_eq(larder_set(ns, "n", 1, "new", 3, NULL, &after), 0);
    ck_assert_int_eq(larder_wait(l, late, 0), LARDER_TIMEOUT);
    apply_lane(&d, 0);
    ck_assert_int_eq(larder_wait(l, before, 0), 0);
    ck_assert_int_eq(larder_wait(l, late, 0), LARDER_DISCARDED);
    ck_assert_int_eq(larder_wait(l, late, 1000), LARDER_DISCARDED);
    ck_assert_int_eq(larder_wait(l, after, 0), 0);
    ck_assert_int_eq(get(l, "k"), LARDER_MISS);
    ck_assert_int_eq(get(l, "n"), 0);
    ck_assert_int_eq(larder_flush(l, 0), 0);
    /* The last of all: a flush waits, and does not judge. */
    ck_assert_int_eq(larder_delete(ns, "n", 1, &late), 0);
    fixture_reset(&d.f, 0);
    apply_lane(&d, 0);
    ck_assert_int_eq(larder_flush(l, 0), 0);
    ck_assert_int_eq(larder_wait(l, late, 0), LARDER_DISCARDED);
    /* A ring later nobody knows any more, also if it is another's turn to be discarded there. */
    for (unsigned i = 1; i <= FIXTURE_CELLS; i++) {
        ck_assert_int_eq(larder_wait(l, late, 0), LARDER_DISCARDED);
        ck_assert_int_eq(larder_set(ns, "k", 1, "v", 1, NULL, &after), 0);
        if (i == FIXTURE_CELLS)
            fixture_reset(&d.f, 0);
        apply_lane(&d, 0);
    }
    ck_assert_int_eq(larder_wait(l, after, 0), LARDER_DISCARDED);
    ck_assert_int_eq(larder_wait(l, late, 0), 0);
    larder_close(l);
    daemon_die(&d);
}
END_TEST

static void *reset_and_apply(void *arg)
{
    struct daemon *d = arg;
    while (lrd_load_relaxed(&d->ring[0].lane->tail) == 0)
        pause_ms(1);
    fixture_reset(&d->f, 0);
    pause_ms(5); /* claimed is not committed */
    apply_lane(d, 0);
    return NULL;
}

START_TEST(discarded_while_it_waits)
{
    struct daemon d;
    daemon_start(&d, GOOD);
    struct larder *l = open_default();
    await_clients(&d, 1);
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, reset_and_apply, &d), 0);
    struct larder_set_options how = {.size = sizeof how, .how = LARDER_SET_WAIT};
    int r;
    do
        r = larder_set(larder_default(l), "k", 1, "v", 1, &how, NULL);
    while (r == LARDER_TIMEOUT); /* a machine that stood still */
    ck_assert_int_eq(r, LARDER_DISCARDED);
    pthread_join(thread, NULL);
    larder_close(l);
    daemon_die(&d);
}
END_TEST

/* ---- marks ---- */

static struct larder *open_marked(struct daemon *d)
{
    lane_mark_bytes = (64 * 2 + LRD_PAGE - 1) / LRD_PAGE * LRD_PAGE; /* the fixture's */
    daemon_start(d, GOOD);
    ck_assert_uint_eq(d->f.store.r.geometry.mark_bytes, lane_mark_bytes);
    struct larder *l = open_default();
    await_clients(d, 1);
    return l;
}

static void put(struct daemon *d, const char *key, uint64_t expires_ms)
{
    struct fixture_item item = {.key = key, .key_len = (uint32_t)strlen(key), .value = key, .value_len = (uint32_t)strlen(key), .expires_ms = expires_ms};
    uint64_t applied = lrd_load_relaxed(&d->f.store.lanes[0].applied); /* of no record */
    fixture_put(&d->f, &item);
    lrd_store_release(&d->f.store.lanes[0].applied, applied);
}

static unsigned marks_set(const struct daemon *d)
{
    unsigned n = 0;
    for (uint32_t i = 0; i < lane_mark_bytes; i++)
        n += (unsigned)__builtin_popcount(d->ring[0].marks[i]);
    return n;
}

/* The mark of a slot: its byte, and all slots of the bucket with its tag. */
static uint32_t mark_of(const struct daemon *d, uint64_t slot, uint32_t *bucket)
{
    const struct lrd_reader *r = &d->f.reader;
    uint32_t bit = 0, tags = 0;
    for (*bucket = 0; *bucket < lrd_n_buckets(r); ++*bucket) {
        for (unsigned i = 0; i < LRD_SLOTS; i++) {
            uint64_t s = lrd_load_relaxed(&r->buckets[*bucket].slot[i]);
            bit |= (uint32_t)(s == slot) << (i + 1);
            tags |= (uint32_t)(lrd_slot_tag(s) == lrd_slot_tag(slot)) << (i + 1);
        }
        if (bit != 0)
            return bit | tags << 8;
        tags = 0;
    }
    ck_abort_msg("no such slot");
}

START_TEST(marks_of_hits)
{
    struct daemon d;
    struct larder *l = open_marked(&d);
    unsigned char *map = d.ring[0].marks;
    enum { N = 700 };
    unsigned displaced = 0, batches = 0;
    char key[8];
    for (unsigned i = 0; i < N; i++) {
        snprintf(key, sizeof key, "%u", i);
        put(&d, key, 0);
    }
    put(&d, "expired", fixture_now_ms(&d.f.reader) - 100);
    for (unsigned i = 0; i < N; i++) {
        snprintf(key, sizeof key, "%u", i);
        struct lrd_get where;
        struct larder_item item = {.size = sizeof item, .buffer = got, .capacity = sizeof got};
        struct larder_key k = {.size = sizeof k, .data = key, .data_size = strlen(key)};
        if (fixture_get(&d.f.reader, 0, key, (uint32_t)strlen(key), NULL, 0, &where) == LRD_ABSENT)
            continue; /* gave way */
        uint32_t bucket, mark = mark_of(&d, where.slot, &bucket);
        displaced += lrd_slot_displacement(where.slot) > 0;
        memset(map, 0, lane_mark_bytes);
        switch (i % 4) {
        case 0:
            ck_assert_int_eq(get(l, key), 0);
            break;
        case 1:
            ck_assert_int_eq(larder_get(larder_default(l), key, strlen(key), NULL, 0, NULL), LARDER_TOO_SMALL);
            break;
        case 2:
            ck_assert_int_eq(larder_get_item(larder_default(l), key, strlen(key), &item), 0);
            break;
        case 3:
            ck_assert_int_eq(larder_get_many(larder_default(l), &k, &item, 1, NULL), 0);
            batches++;
            break;
        }
        /* Its own bit, and none of anything that has not its tag. */
        ck_assert_uint_ne(map[bucket] & mark, 0);
        ck_assert_uint_eq(map[bucket] & ~(mark >> 8), 0);
        map[bucket] = 0;
        ck_assert_uint_eq(marks_set(&d), 0);
    }
    ck_assert_uint_gt(displaced, 20);
    ck_assert_uint_gt(batches, 100);

    /* A mark that is there stays, and so do the others of its byte. */
    memset(map, 0xff, lane_mark_bytes);
    ck_assert_int_eq(get(l, "1"), 0);
    ck_assert_uint_eq(marks_set(&d), 8 * lane_mark_bytes);
    struct lrd_get where;
    uint32_t bucket;
    ck_assert_int_eq(fixture_get(&d.f.reader, 0, "1", 1, NULL, 0, &where), LRD_TOO_SMALL);
    uint32_t tags = mark_of(&d, where.slot, &bucket) >> 8;
    map[bucket] = (unsigned char)~tags;
    ck_assert_int_eq(get(l, "1"), 0);
    ck_assert_uint_ne(map[bucket] & tags, 0);
    ck_assert_uint_eq(map[bucket] | tags, 0xff);
    /* None for what is not there, has expired, or is ours alone. */
    memset(map, 0, lane_mark_bytes);
    ck_assert_int_eq(get(l, "nothing"), LARDER_MISS);
    ck_assert_int_eq(get(l, "expired"), LARDER_MISS);
    for (unsigned i = N; i < 2 * N; i++) {
        snprintf(key, sizeof key, "%u", i);
        ck_assert_int_eq(get(l, key), LARDER_MISS);
    }
    ck_assert_int_eq(set(l, "mine", "v"), 0);
    ck_assert_int_eq(get(l, "mine"), 0);
    ck_assert_uint_eq(marks_set(&d), 0);
    /* Beside a pending write the table's hits leave theirs. */
    ck_assert_int_eq(get(l, "1"), 0);
    ck_assert_uint_ge(marks_set(&d), 1);
    larder_close(l);
    daemon_die(&d);
}
END_TEST

static uint64_t hash_of_key(const struct daemon *d, const char *key) { return lrd_hash(d->f.reader.hash_seed, 0, key, strlen(key)); }

START_TEST(samples_of_hits)
{
    struct daemon d;
    daemon_start(&d, GOOD);
    struct larder *l = open_default();
    await_clients(&d, 1);
    const struct lrd_lane *lane = d.ring[0].lane;
    char key[8];
    enum { N = 64 };
    static char names[N][8];
    struct larder_key keys[N];
    struct larder_item items[N];
    for (unsigned i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], "%u", i);
        put(&d, names[i], 0);
        keys[i] = (struct larder_key){.size = sizeof *keys, .data = names[i], .data_size = strlen(names[i])};
        items[i] = (struct larder_item){.size = sizeof *items, .buffer = got, .capacity = sizeof got};
    }
    /* One hit in sixteen, misses between them or not. */
    for (unsigned i = 0; i < 160; i++) {
        snprintf(key, sizeof key, "%u", i % N);
        ck_assert_int_eq(get(l, key), 0);
        ck_assert_int_eq(get(l, "nothing"), LARDER_MISS);
    }
    ck_assert_uint_eq(lrd_load_relaxed(&lane->samples), 10);
    for (unsigned i = 0; i < 10; i++) {
        snprintf(key, sizeof key, "%u", (16 * i + 15) % N);
        ck_assert_uint_eq(lrd_load_relaxed(&lane->sample[i]), hash_of_key(&d, key));
    }
    /* Of a batch as well: the last four of 64 by sixteen. */
    ck_assert_int_eq(larder_get_many(larder_default(l), keys, items, N, NULL), 0);
    ck_assert_uint_eq(lrd_load_relaxed(&lane->samples), 14);
    for (unsigned i = 0; i < 4; i++)
        ck_assert_uint_eq(lrd_load_relaxed(&lane->sample[10 + i]), hash_of_key(&d, names[16 * i + 15]));
    /* Not what the own ring answers. */
    ck_assert_int_eq(set(l, "mine", "v"), 0);
    for (unsigned i = 0; i < 64; i++)
        ck_assert_int_eq(get(l, "mine"), 0);
    struct larder_key mine[32];
    for (unsigned i = 0; i < 32; i++)
        mine[i] = (struct larder_key){.size = sizeof *mine, .data = "mine", .data_size = 4};
    ck_assert_int_eq(larder_get_many(larder_default(l), mine, items, 32, NULL), 0);
    ck_assert_uint_eq(lrd_load_relaxed(&lane->samples), 14);
    /* The ring of samples goes round. */
    for (unsigned i = 0; i < 16 * LRD_SAMPLES; i++)
        ck_assert_int_eq(get_in(larder_default(l), "7"), 0);
    ck_assert_uint_eq(lrd_load_relaxed(&lane->samples), 14 + LRD_SAMPLES);
    for (unsigned i = 0; i < LRD_SAMPLES; i++)
        ck_assert_uint_eq(lrd_load_relaxed(&lane->sample[i]), hash_of_key(&d, "7"));
    larder_close(l);
    daemon_die(&d);

    /* A lane with a map does without. */
    l = open_marked(&d);
    put(&d, "7", 0);
    for (unsigned i = 0; i < 64; i++)
        ck_assert_int_eq(get(l, "7"), 0);
    ck_assert_uint_eq(lrd_load_relaxed(&d.ring[0].lane->samples), 0);
    larder_close(l);
    daemon_die(&d);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("client");
    TCase *c = tcase_create("client");
    suite_add_tcase(s, c);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, daemons_of_all_manners, 0, (int)(sizeof manners / sizeof *manners));
    tcase_add_test(c, daemon_that_says_nothing);
    tcase_add_test(c, daemon_that_does_not_accept);
    tcase_add_test(c, nobody_there);
    tcase_add_test(c, daemon_that_comes_later);
    tcase_add_test(c, socket_by_environment);
    tcase_add_test(c, words_for_results);
    tcase_add_test(c, misuse);
    tcase_add_test(c, own_writes_then_applied);
    tcase_add_test(c, expired_before_it_was_applied);
    tcase_add_test(c, many_at_once);
    tcase_add_test(c, full_ring);
    tcase_add_test(c, waiting_for_visibility);
    tcase_add_test(c, bounded_silence);
    tcase_add_loop_test(c, other_clock, 0, 2);
    tcase_add_test(c, forked_child);
    tcase_add_test(c, forked_child_of_many_kinds);
    tcase_add_test(c, forked_child_without_daemon);
    tcase_add_test(c, lane_given_away);
    tcase_add_test(c, fork_beside_threads);
    tcase_add_test(c, daemon_dies_and_another_comes);
    tcase_add_test(c, daemon_dies_with_a_full_ring);
    tcase_add_test(c, daemons_die_under_threads);
    tcase_add_test(c, counts_of_many_threads);
    tcase_add_test(c, namespaces_by_name);
    tcase_add_test(c, namespaces_of_the_next_daemon);
    tcase_add_test(c, too_many_names);
    tcase_add_test(c, namespaces_of_a_forked_child);
    tcase_add_loop_test(c, answers_of_all_kinds, 0, (int)(sizeof answers / sizeof *answers));
    tcase_add_test(c, making_a_namespace);
    tcase_add_test(c, nobody_answers);
    tcase_add_test(c, daemon_dies_before_it_answers);
    tcase_add_test(c, credit_is_taken);
    tcase_add_test(c, credit_for_bytes_is_not_for_items);
    tcase_add_test(c, credit_is_given_back);
    tcase_add_test(c, credit_of_the_next_daemon);
    tcase_add_loop_test(c, credit_of_many_threads, 0, (int)(sizeof hurries / sizeof *hurries));
    tcase_add_test(c, discarded_by_a_reset);
    tcase_add_test(c, discarded_while_it_waits);
    tcase_add_test(c, marks_of_hits);
    tcase_add_test(c, samples_of_hits);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
