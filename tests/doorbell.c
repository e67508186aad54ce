/* A client that does to its own lane and doorbell all that it can: it makes the bell blocking, drains it, fills it to its maximum, writes nonsense over ring, commit words
 * and tail, commits records full of lies and changes them while they are read. Another client is served all the time; in the end nothing is wrong with the segment. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libclient/larder.h"
#include "shm/clock.h"
#include "shm/hello.h"
#include "shm/lane.h"
#include "tests/daemon_fixture.h"
#include "tests/segment_fixture.h"

#define MAX_CLIENTS 4u

struct board {
    lrd_u64 stop;
    lrd_u64 served; /* writes of the other client that became visible */
    lrd_u64 reset;  /* its writes that a reset took: the hostile one may ask for that */
    lrd_u64 wrong;
    lrd_u64 bells, scribbles, lies;
};

static struct board *board;
static struct daemon_fixture d;

/* ---- the other client ---- */

static void be_served(void)
{
    struct larder *handle;
    struct larder_options o = {.size = sizeof o, .socket = d.socket, .open_timeout_ms = 10000};
    int r = larder_open(&handle, &o);
    for (uint64_t n = 1; r == 0 && lrd_load_relaxed(&board->stop) == 0; n++) {
        /* No key that nonsense may hit. */
        uint64_t key[2] = {n % 100, UINT64_C(0x6f2d83b1a94c7e05)}, got[2];
        size_t size;
        const uint64_t value[2] = {n % 100, n};
        larder_ticket ticket;
        uint64_t resets = lrd_load_acquire(&d.r.namespaces[0].resets);
        if ((r = larder_set(larder_default(handle), key, sizeof key, value, sizeof value, NULL, &ticket)) != 0)
            break;
        r = larder_wait(handle, ticket, 10000);
        if (r == 0)
            r = larder_get(larder_default(handle), key, sizeof key, got, sizeof got, &size);
        if ((r == LARDER_DISCARDED || r == LARDER_MISS) && lrd_load_acquire(&d.r.namespaces[0].resets) != resets) {
            lrd_add_own(&board->reset, 1);
            r = 0;
            continue;
        }
        if (r != 0)
            break;
        if (size != sizeof value || memcmp(got, value, size) != 0)
            lrd_add_own(&board->wrong, 1);
        lrd_store_relaxed(&board->served, n);
    }
    if (r != 0) {
        printf("the other client: %s after %" PRIu64 " writes\n", larder_strerror(r), lrd_load_relaxed(&board->served));
        exit(1);
    }
    larder_close(handle);
    exit(0);
}

/* ---- the hostile one ---- */

struct hostile {
    int sock, bell;
    struct lrd_ring ring;
    const struct lrd_lane_words *words;
    uint64_t state;
};

/* As liblarder does it, without its manners. */
static void attach(struct hostile *h)
{
    struct lrd_hello hello = {.magic = LRD_HELLO_MAGIC, .layout_version = LRD_LAYOUT_VERSION, .layout_hash = LRD_LAYOUT_HASH};
    struct lrd_welcome w;
    int fds[LRD_FDS_MAX];
    unsigned got = 0;
    for (int i = 0; i < 1000; i++) { /* the lane of before may not be free yet */
        h->sock = lrd_connect(d.socket);
        if (h->sock < 0 || lrd_send_fds(h->sock, &hello, sizeof hello, NULL, 0) != 0 || lrd_recv_fds(h->sock, &w, sizeof w, fds, LRD_FDS_MAX, &got, 0) != 0)
            exit(2);
        if (w.result == LRD_WELCOME_OK)
            break;
        close(h->sock);
        pause_us(5000);
    }
    if (w.result != LRD_WELCOME_OK || got != 3 || lrd_lane_map(fds[1], w.n_cells, w.mark_bytes, &h->ring) != 0)
        exit(3);
    close(fds[0]);
    close(fds[1]);
    h->bell = fds[2];
    h->words = &d.r.lanes[w.lane];
}

static void random_bytes(struct hostile *h, void *at, size_t n)
{
    uint64_t *to = at;
    for (size_t i = 0; i < n / 8; i++)
        to[i] = fixture_random(&h->state);
}

static void mistreat_bell(struct hostile *h)
{
    uint64_t n, most = UINT64_MAX - 1;
    lrd_add_own(&board->bells, 1);
    fcntl(h->bell, F_SETFL, O_NONBLOCK);
    (void)!read(h->bell, &n, sizeof n);
    if (fixture_random(&h->state) & 1)
        (void)!write(h->bell, &most, sizeof most);
    fcntl(h->bell, F_SETFL, 0); /* from here on whoever reads or writes it may block */
}

/* Rings, and has taken it back before the writer comes. */
static void tease(struct hostile *h)
{
    uint64_t n = 1;
    for (unsigned i = 0; i < 20; i++) {
        fcntl(h->bell, F_SETFL, O_NONBLOCK);
        (void)!write(h->bell, &n, sizeof n);
        (void)!read(h->bell, &n, sizeof n);
        n = 1;
        fcntl(h->bell, F_SETFL, 0);
        pause_us(100);
    }
}

static void scribble(struct hostile *h)
{
    lrd_add_own(&board->scribbles, 1);
    switch (fixture_random(&h->state) % 4) {
    case 0: /* everything: header, tail, statistics, commit words, cells */
        random_bytes(h, h->ring.lane, lrd_lane_bytes(h->ring.n_cells, h->ring.mark_bytes));
        break;
    case 1:
        lrd_store_relaxed(&h->ring.lane->tail, fixture_random(&h->state));
        lrd_store32_relaxed(&h->ring.lane->waiting, (uint32_t)fixture_random(&h->state));
        break;
    case 2:
        random_bytes(h, h->ring.commit, h->ring.n_cells * sizeof *h->ring.commit);
        break;
    default:
        random_bytes(h, h->ring.cells, (size_t)h->ring.n_cells * LRD_CELL);
    }
}

/* Without waiting: it may be full. */
static void ring_bell(struct hostile *h)
{
    fcntl(h->bell, F_SETFL, O_NONBLOCK);
    (void)!write(h->bell, &(uint64_t){1}, 8);
}

/* A header that is nearly right. */
static struct lrd_record lie(struct hostile *h)
{
    uint64_t x = fixture_random(&h->state), y = fixture_random(&h->state);
    struct lrd_record r = {
        .kind = x & 1 ? LRD_RECORD_SET : LRD_RECORD_DELETE,
        .key_len = (uint16_t)(1 + (x >> 8) % 40),
        .value_len = (uint32_t)((x >> 16) % 3000),
        .flags = (uint32_t)y,
        .epoch = lrd_load32_relaxed(&d.r.namespaces[0].epoch),
        .hash_hint = y,
    };
    switch (x >> 40 & 15) {
    case 0:
        r.kind = (uint8_t)y;
        break;
    case 1:
        r.ns = (uint16_t)y;
        break;
    case 2:
        r.key_len = (uint16_t)y;
        break;
    case 3:
        r.value_len = (uint32_t)y;
        break;
    case 4:
        r.epoch = (uint32_t)y;
        break;
    case 5:
        r.expires_ms = y;
        break;
    case 6:
        r.key_len = 0;
        break;
    case 7:
        r.value_len = UINT32_MAX - r.key_len + 1; /* the sum comes round */
        break;
    case 8:
        random_bytes(h, &r, sizeof r);
        break;
    case 9: /* up to more than a ring; or just about the largest item */
        r.value_len = (uint32_t)(y % (70u << 10));
        break;
    case 11: /* requests, most of them without what belongs to them; a reset now and then */
        r.kind = y % 64 == 0 ? LRD_RECORD_NS_RESET : LRD_RECORD_NS_CREATE;
        break;
    case 12:
        r.kind = (y & 1) != 0 ? LRD_RECORD_CREDIT : LRD_RECORD_NS_CREATE;
        r.key_len = 0;
        r.value_len = (y & 1) != 0 ? sizeof(struct lrd_credit_ask) : sizeof(struct lrd_ns_spec);
        break;
    case 10:
        r.value_len = (uint32_t)(d.r.geometry.item_max - 16 - r.key_len + y % 33 - 16);
        break;
    default:
        break;
    }
    return r;
}

/* Commits records where the writer looks next, with lengths of its own choice, and goes on changing them. */
static void tell_lies(struct hostile *h, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        uint64_t at = lrd_load_acquire(&h->words->applied), x = fixture_random(&h->state);
        struct lrd_record r = lie(h);
        unsigned char *to = lrd_ring_at(&h->ring, at);
        memcpy(to, &r, sizeof r);
        uint32_t cells = x % 4 == 0 ? (uint32_t)(x >> 8) : lrd_ring_cells_for(r.key_len, r.value_len);
        lrd_ring_commit(&h->ring, at, cells, x >> 40 & 7 ? r.kind : (uint32_t)(x >> 44)); /* where the kind is too large, it spoils the cells */
        lrd_store_relaxed(&h->ring.lane->tail, at + (x >> 20) % 100);
        for (unsigned k = 0; k < 64; k++) {
            to[sizeof r + fixture_random(&h->state) % 3000] ^= 1;
            if (k % 8 == 0 && x >> 52 & 1)
                to[fixture_random(&h->state) % sizeof r] ^= 0x40;
        }
        lrd_add_own(&board->lies, 1);
        if (x >> 60 == 0)
            ring_bell(h);
    }
}

static void be_hostile(unsigned round)
{
    struct hostile h = {.state = 77 + round * UINT64_C(0x9e3779b97f4a7c15)};
    attach(&h);
    for (unsigned i = 0; i < 20; i++) {
        if (round % 3 != 0)
            mistreat_bell(&h);
        tell_lies(&h, 200);
        ring_bell(&h);
        if (round % 2 != 0)
            scribble(&h);
        ring_bell(&h);
    }
    if (round % 3 != 0)
        tease(&h);
    mistreat_bell(&h);
    scribble(&h);
    _exit(0); /* its lane is drained as it is */
}

/* Hangs up and goes on committing: always a ring full of records ahead of the writer. */
static void be_undead(void)
{
    struct hostile h = {.state = 3};
    attach(&h);
    const struct lrd_record r = {.kind = LRD_RECORD_SET, .key_len = 8, .value_len = 8, .epoch = lrd_load32_relaxed(&d.r.namespaces[0].epoch)};
    for (uint32_t i = 0; i < h.ring.n_cells; i++)
        memcpy(h.ring.cells + (size_t)i * LRD_CELL, &r, sizeof r);
    ring_bell(&h);
    close(h.sock);
    for (uint64_t next = 0;;) {
        uint64_t applied = lrd_load_acquire(&h.words->applied);
        if (next < applied)
            next = applied;
        for (; next < applied + h.ring.n_cells; next++)
            lrd_ring_commit(&h.ring, next, 1, LRD_RECORD_SET);
        lrd_store_relaxed(&h.ring.lane->tail, next);
    }
}

/* ---- both ---- */

static unsigned lanes_in_use(void)
{
    unsigned n = 0;
    for (uint32_t i = 0; i < d.r.geometry.n_lanes; i++)
        n += lrd_load32_acquire(&d.r.lanes[i].state) != LRD_LANE_FREE;
    return n;
}

static bool served_more(void)
{
    uint64_t before = lrd_load_relaxed(&board->served), end = lrd_clock_ns() + UINT64_C(20000000000);
    while (lrd_load_relaxed(&board->served) < before + 20 && lrd_clock_ns() < end)
        pause_us(100);
    return lrd_load_relaxed(&board->served) >= before + 20;
}

int main(void)
{
    static const char *const options[] = {"--memory", "16M", "--ring", "64K", "--max-clients", "4", NULL};
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED)
        return 1;
    daemon_start(&d, NULL, options);
    fflush(NULL);
    pid_t good = fork();
    if (good == 0)
        be_served();
    bool ok = served_more();
    unsigned rounds = fixture_long() ? 4000 : 200, i;
    for (i = 0; i < rounds && ok; i++) {
        int status;
        pid_t bad = fork();
        if (bad == 0)
            be_hostile(i);
        if (i % 5 == 4) {
            pause_us(3000);
            kill(bad, SIGKILL);
        }
        ok = waitpid(bad, &status, 0) == bad && (i % 5 == 4 || status == 0) && served_more();
        if (!ok)
            printf("round %u: status %x, %" PRIu64 " writes served\n", i, (unsigned)status, lrd_load_relaxed(&board->served));
    }
    pid_t undead = fork();
    if (undead == 0)
        be_undead();
    pause_us(50000);
    uint64_t end = lrd_clock_ns() + UINT64_C(20000000000);
    while (lanes_in_use() != 1 && lrd_clock_ns() < end)
        pause_us(1000);
    if (lanes_in_use() != 1) {
        printf("%u lanes are in use while one client hung up and writes on\n", lanes_in_use());
        ok = false;
    }
    kill(undead, SIGKILL);
    waitpid(undead, NULL, 0);
    lrd_store_relaxed(&board->stop, 1);
    int status;
    ok &= waitpid(good, &status, 0) == good && status == 0;
    end = lrd_clock_ns() + UINT64_C(20000000000);
    while (lanes_in_use() > 0 && lrd_clock_ns() < end)
        pause_us(1000);
    if (lanes_in_use() > 0) {
        printf("%u lanes are still in use\n", lanes_in_use());
        ok = false;
    }
    if (daemon_workers(&d) != 1) {
        printf("%" PRIu64 " workers\n", daemon_workers(&d));
        ok = false;
    }
    printf("%u rounds: %" PRIu64 " times the bell, %" PRIu64 " scribbles, %" PRIu64 " lies, %" PRIu64 " records refused, %" PRIu64 " sets, %" PRIu64 " resets; %" PRIu64
           " writes served, %" PRIu64 " reset\n", i,
           lrd_load_relaxed(&board->bells), lrd_load_relaxed(&board->scribbles), lrd_load_relaxed(&board->lies), fixture_counter(&d.r, LRD_C_discarded),
           fixture_counter(&d.r, LRD_C_sets), lrd_load_relaxed(&d.r.namespaces[0].resets), lrd_load_relaxed(&board->served), lrd_load_relaxed(&board->reset));
    ok &= lrd_load_relaxed(&d.r.namespaces[0].resets) > 0;
    ok &= lrd_load_relaxed(&board->wrong) == 0 && fixture_counter(&d.r, LRD_C_discarded) > 1000;
    ok &= fixture_counter(&d.r, LRD_C_sets) > lrd_load_relaxed(&board->served) + 1000; /* lies that were believable */
    ok &= daemon_check(&d);
    ok &= fixture_recount(&d.r) == 0;
    daemon_stop(&d);
    return !ok;
}
