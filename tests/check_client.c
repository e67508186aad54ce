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
};

static void pause_ms(unsigned ms)
{
    const struct timespec nap = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&nap, NULL);
}

/* Where every test finds its daemon. */
static char socket_path[64];

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
        fd[1] = raw_memfd(lrd_lane_bytes(FIXTURE_CELLS));
        break;
    case LANE_OF_OTHER_SIZE:
        close(fd[1]);
        fd[1] = lrd_lane_create(2 * FIXTURE_CELLS, 0);
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
    int fd[3] = {dup(d->f.fd), lrd_lane_create(FIXTURE_CELLS, lane), eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    must(lrd_lane_map(fd[1], FIXTURE_CELLS, &d->ring[lane]) == 0);
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
                            .now_ns = lrd_clock_ns()};
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

static void apply_lane(struct daemon *d, unsigned lane)
{
    struct lrd_lane_words *words = &d->f.store.lanes[lane % FIXTURE_LANES];
    uint64_t head = lrd_load_relaxed(&words->applied);
    uint32_t n;
    while ((n = lrd_ring_next(&d->ring[lane], head)) > 0) {
        const unsigned char *p = lrd_ring_at(&d->ring[lane], head);
        struct lrd_record rec;
        memcpy(&rec, p, sizeof rec);
        struct fixture_item item = {.ns = rec.ns,
                                    .key = p + sizeof rec,
                                    .key_len = rec.key_len,
                                    .value = p + sizeof rec + rec.key_len,
                                    .value_len = rec.value_len,
                                    .flags = rec.flags,
                                    .expires_ms = rec.expires_ms};
        if (rec.kind == LRD_RECORD_SET)
            fixture_put(&d->f, &item);
        else
            fixture_delete(&d->f, rec.ns, item.key, item.key_len);
        head += n;
        /* The fixture counts one cell of lane 0 for each. */
        if (lane % FIXTURE_LANES != 0)
            lrd_store_release(&d->f.store.lanes[0].applied, 0);
        lrd_store_release(&words->applied, head);
    }
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

static int set(struct larder *l, const char *key, const char *value) { return larder_set(larder_default(l), key, strlen(key), value, strlen(value), NULL, NULL); }

static char got[64];

static int get(struct larder *l, const char *key)
{
    size_t size = 0;
    memset(got, 0, sizeof got);
    return larder_get(larder_default(l), key, strlen(key), got, sizeof got - 1, &size);
}

static unsigned open_fds(void)
{
    unsigned n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void setup(void) { snprintf(socket_path, sizeof socket_path, "/tmp/larder-check-%d.sock", getpid()); }
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
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
