/* Clients that ask for all there is, with lies among it: conditional writes of every kind, leases, watches, views, credit, requests, mostly as liblarder would write them, in namespaces that evict, that
 * refuse, with feeds; and scribble meanwhile over pins, results, and what says who waits and what is armed. The worker is killed now and then. A client that keeps to the protocol has its own keys in a namespace
 * that refuses eviction: each of its increments happens exactly once, and nothing of what it was told is there goes. In the end nothing is wrong with the segment. */
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

#define HOSTILES 3u
#define KEYS 60u
#define OWN_KEYS 40u
#define FIRST_NUMBER 1000000
#define AT_ONCE 24u
#define KEPT "kept"
#define SEEN "seen"

struct board {
    lrd_u64 stop;
    lrd_u64 counted; /* increments of the other client */
    lrd_u64 written, refused; /* its sets */
    lrd_u64 wrong;
    lrd_u64 records, by_kind[32];
};

static struct board *board;
static struct daemon_fixture d;
static uint32_t kept, seen;

static uint32_t find_ns(const char *name)
{
    for (uint32_t ns = 0; ns < LRD_NAMESPACES; ns++)
        if (lrd_load32_acquire(&d.r.namespaces[ns].state) == LRD_NS_LIVE && strcmp(d.r.namespaces[ns].name, name) == 0)
            return ns;
    exit(4);
}

static uint64_t now_ms(void) { return lrd_clock_segment_ms(d.r.geometry.created_ns); }

/* ---- the other client ---- */

static uint64_t dice = 5;

static uint64_t roll(uint64_t *state, uint64_t sides) { return (fixture_random(state) >> 20) % sides; }

static void wrong(const char *what, uint64_t n, int64_t got)
{
    if (lrd_fetch_add_relaxed(&board->wrong, 1) < 10)
        printf("%s, %" PRIu64 ": %" PRId64 "\n", what, n, got);
    fflush(stdout);
}

static unsigned char value_of(uint64_t key, uint64_t n, size_t i) { return (unsigned char)(key * 31 + n * 7 + i); }

static void expect_value(struct larder_ns *ns, uint64_t k, uint64_t n, size_t size)
{
    static unsigned char got[4096];
    const uint64_t key[2] = {k, UINT64_C(0x6f2d83b1a94c7e05)};
    size_t size_got;
    int r = larder_get(ns, key, sizeof key, got, sizeof got, &size_got);
    if (r != 0 || size_got != size) {
        wrong("a value that was there", k, r);
        return;
    }
    for (size_t i = 0; i < size; i++)
        if (got[i] != value_of(k, n, i)) {
            wrong("a byte of a value", k, (int64_t)i);
            return;
        }
}

static void be_good(void)
{
    static unsigned char value[4096];
    static uint64_t version[OWN_KEYS];
    static size_t size[OWN_KEYS];
    struct larder *handle;
    struct larder_ns *ns;
    struct larder_options o = {.size = sizeof o, .socket = d.socket, .open_timeout_ms = 10000};
    const struct larder_incr_options count = {.size = sizeof count, .initial = FIRST_NUMBER, .how = LARDER_INCR_CREATE, .timeout_ms = 20000};
    int r = larder_open(&handle, &o);
    if (r == 0)
        r = larder_ns_open(handle, KEPT, &ns);
    for (uint64_t n = 1; r == 0 && lrd_load_relaxed(&board->stop) == 0; n++) {
        int64_t number = 0;
        larder_ticket ticket;
        r = larder_incr(ns, "the good one's", 14, 1, &count, &number, &ticket);
        if (r == LARDER_FULL && n == 1) {
            n = 0;
            r = 0;
            continue;
        }
        if (r != 0)
            break;
        if (number != FIRST_NUMBER + (int64_t)n)
            wrong("an increment", n, number);
        lrd_store_relaxed(&board->counted, n);
        uint64_t k = roll(&dice, OWN_KEYS);
        if (version[k] != 0)
            expect_value(ns, k, version[k], size[k]);
        const uint64_t key[2] = {k, UINT64_C(0x6f2d83b1a94c7e05)};
        size_t s = roll(&dice, 2000);
        for (size_t i = 0; i < s; i++)
            value[i] = value_of(k, n, i);
        r = larder_set(ns, key, sizeof key, value, s, NULL, &ticket);
        if (r == LARDER_FULL || r == LARDER_BUSY) {
            lrd_add_own(&board->refused, 1);
            r = 0;
            continue;
        }
        if (r != 0 || (r = larder_wait(handle, ticket, 20000)) != 0)
            break;
        lrd_add_own(&board->written, 1);
        version[k] = n;
        size[k] = s;
        expect_value(ns, k, n, s);
    }
    if (r != 0) {
        printf("the other client: %s after %" PRIu64 "\n", larder_strerror(r), lrd_load_relaxed(&board->counted));
        exit(1);
    }
    for (uint64_t k = 0; k < OWN_KEYS; k++)
        if (version[k] != 0)
            expect_value(ns, k, version[k], size[k]);
    larder_close(handle);
    exit(0);
}

/* ---- the hostile ones ---- */

struct hostile {
    int sock, bell;
    struct lrd_ring ring;
    const struct lrd_lane_words *words;
    uint64_t state;
};

static void attach(struct hostile *h)
{
    struct lrd_hello hello = {.magic = LRD_HELLO_MAGIC, .layout_version = LRD_LAYOUT_VERSION, .layout_hash = LRD_LAYOUT_HASH};
    struct lrd_welcome w;
    int fds[LRD_FDS_MAX];
    unsigned got = 0;
    for (int i = 0; i < 2000; i++) { /* no lane may be free yet, no worker there */
        h->sock = lrd_connect(d.socket);
        if (h->sock >= 0 && lrd_send_fds(h->sock, &hello, sizeof hello, NULL, 0) == 0 && lrd_recv_fds(h->sock, &w, sizeof w, fds, LRD_FDS_MAX, &got, 0) == 0 && w.result == LRD_WELCOME_OK)
            break;
        close(h->sock);
        got = 0;
        pause_us(5000);
    }
    if (got != 3 || lrd_lane_map(fds[1], w.n_cells, w.mark_bytes, &h->ring) != 0)
        exit(3);
    close(fds[0]);
    close(fds[1]);
    h->bell = fds[2];
    fcntl(h->bell, F_SETFL, O_NONBLOCK);
    h->words = &d.r.lanes[w.lane];
}

static uint8_t some_kind(struct hostile *h)
{
    static const uint8_t often[] = {LRD_RECORD_SET, LRD_RECORD_SET, LRD_RECORD_SET, LRD_RECORD_DELETE, LRD_RECORD_PUT, LRD_RECORD_PUT, LRD_RECORD_PUT, LRD_RECORD_PUT, LRD_RECORD_INCR, LRD_RECORD_INCR,
                                    LRD_RECORD_APPEND, LRD_RECORD_APPEND, LRD_RECORD_PREPEND, LRD_RECORD_TOUCH, LRD_RECORD_TOUCH, LRD_RECORD_DELETE_IF, LRD_RECORD_LEASE, LRD_RECORD_LEASE,
                                    LRD_RECORD_LEASE, LRD_RECORD_LEASE_END, LRD_RECORD_NOTHING, LRD_RECORD_WATCH, LRD_RECORD_WATCH, LRD_RECORD_CREDIT};
    static const uint8_t rarely[] = {LRD_RECORD_VIEWS, LRD_RECORD_VIEWS, LRD_RECORD_NS_CREATE, LRD_RECORD_NS_RESET, LRD_RECORD_MEASURE, 0, 9, 15, 25, 255};
    return roll(&h->state, 40) == 0 ? rarely[roll(&h->state, sizeof rarely)] : often[roll(&h->state, sizeof often)];
}

/* A version, or token, that may be right: what some result said, whoever wrote it there. */
static uint64_t some_version(struct hostile *h)
{
    uint64_t x = roll(&h->state, 8);
    if (x == 0)
        return fixture_random(&h->state);
    if (x < 4)
        return lrd_load_relaxed(&d.r.journal->leases) - roll(&h->state, 4); /* anybody may look */
    return lrd_load_relaxed(&h->ring.lane->result[roll(&h->state, 40)].version);
}

static uint64_t some_time(struct hostile *h)
{
    uint64_t x = roll(&h->state, 8);
    return x < 3 ? 0 : x == 3 ? fixture_random(&h->state) & LRD_EXPIRES_MAX : x == 4 ? now_ms() : now_ms() + roll(&h->state, 300) + 1;
}

static uint32_t some_length(struct hostile *h)
{
    uint64_t x = roll(&h->state, 32);
    return (uint32_t)(x == 0 ? d.r.geometry.item_max - 200 + roll(&h->state, 200) : x < 3 ? roll(&h->state, d.r.geometry.item_max) : x < 6 ? 0 : roll(&h->state, x < 20 ? 64 : 3000));
}

static void turn_a_bit(struct hostile *h, unsigned char *at, size_t bytes) { at[roll(&h->state, bytes)] ^= (unsigned char)(1u << roll(&h->state, 8)); }

/* At a position; its cells. Nobody may reset the namespace that the other client's values are in. */
static uint32_t write_record(struct hostile *h, uint64_t position)
{
    unsigned char *to = lrd_ring_at(&h->ring, position);
    char key[64];
    struct lrd_record r = {
        .kind = some_kind(h),
        .ns = (uint16_t)(roll(&h->state, 3) == 0 ? 0 : roll(&h->state, 2) == 0 ? kept : seen),
        .key_len = (uint16_t)snprintf(key, sizeof key, "key %u", (unsigned)roll(&h->state, KEYS)),
        .result = (uint16_t)roll(&h->state, 40),
        .flags = (uint32_t)roll(&h->state, 4),
        .expires_ms = some_time(h),
    };
    struct lrd_args a = {
        .condition = roll(&h->state, 3) == 0 ? (uint32_t)roll(&h->state, 6) : LRD_IF_ANY,
        .flags = (uint32_t)roll(&h->state, 2),
        .version = some_version(h),
        .by = (int64_t)(roll(&h->state, 50) == 0 ? fixture_random(&h->state) : roll(&h->state, 200)),
        .initial = (int64_t)roll(&h->state, 100),
    };
    r.epoch = lrd_load32_relaxed(&d.r.namespaces[r.ns].epoch);
    r.hash_hint = lrd_hash(d.r.geometry.hash_seed, r.ns, key, r.key_len);
    if (r.kind == LRD_RECORD_SET || r.kind == LRD_RECORD_PUT || r.kind == LRD_RECORD_APPEND || r.kind == LRD_RECORD_PREPEND)
        r.value_len = some_length(h);
    if (r.kind == LRD_RECORD_PUT) {
        static const uint8_t kinds[] = {LRD_ITEM_PLAIN, LRD_ITEM_SOFT, LRD_ITEM_ALIGNED, LRD_ITEM_SOFT | LRD_ITEM_ALIGNED, LRD_ITEM_ABSENT};
        r.item_kind = roll(&h->state, 20) == 0 ? (uint8_t)fixture_random(&h->state) : kinds[roll(&h->state, sizeof kinds)];
        a.soft_ms = (r.item_kind & LRD_ITEM_SOFT) != 0 ? now_ms() + roll(&h->state, 20) : 0;
        if (r.item_kind == LRD_ITEM_ABSENT)
            r.value_len = 0;
    }
    if (r.kind == LRD_RECORD_LEASE)
        r.expires_ms = now_ms() + roll(&h->state, 100);
    if (r.kind == LRD_RECORD_WATCH && roll(&h->state, 4) == 0)
        r.hash_hint = fixture_random(&h->state);
    if (r.kind == LRD_RECORD_NS_RESET && r.ns == kept)
        r.ns = (uint16_t)seen;
    bool conditional = r.kind >= LRD_RECORD_PUT;
    if (!conditional && r.kind > LRD_RECORD_DELETE)
        r.key_len = 0;
    uint16_t key_bytes = r.key_len;
    if (roll(&h->state, 100) == 0 && r.key_len != 0)
        r.key_len = (uint16_t)roll(&h->state, 1u << roll(&h->state, 17)); /* whatever lies there */
    struct lrd_credit_ask ask = {.bytes = roll(&h->state, 100000), .items = (uint32_t)roll(&h->state, 100), .largest = (uint32_t)roll(&h->state, d.r.geometry.item_max + 10)};
    if (r.kind == LRD_RECORD_CREDIT) {
        r.value_len = sizeof ask;
        r.ns = (uint16_t)kept;
    }
    uint64_t bytes = sizeof r + (conditional ? sizeof a : 0) + r.key_len + (uint64_t)r.value_len;
    uint32_t cells = (uint32_t)((bytes + LRD_CELL - 1) / LRD_CELL);
    if (cells > h->ring.n_cells / 2) {
        r.value_len = 0;
        r.key_len = key_bytes;
        cells = 4;
    }
    if (roll(&h->state, 16) == 0 && r.kind != LRD_RECORD_NS_RESET) {
        turn_a_bit(h, (unsigned char *)&r, sizeof r);
        if (r.kind == LRD_RECORD_NS_RESET)
            r.ns = (uint16_t)seen;
    }
    memcpy(to, &r, sizeof r);
    to += sizeof r;
    if (conditional) {
        memcpy(to, &a, sizeof a);
        to += sizeof a;
    }
    memcpy(to, r.kind == LRD_RECORD_CREDIT ? (const void *)&ask : key, r.kind == LRD_RECORD_CREDIT ? sizeof ask : strlen(key));
    if ((r.kind == LRD_RECORD_SET || r.kind == LRD_RECORD_PUT) && r.value_len > 0 && r.value_len < 20)
        memset(to + strlen(key), '7', r.value_len); /* a number */
    lrd_add_own(&board->by_kind[r.kind & 31], 1);
    return cells;
}

static void scribble(struct hostile *h)
{
    struct lrd_lane *lane = h->ring.lane;
    lrd_store_relaxed(&lane->pins_taken, roll(&h->state, 4) == 0 ? UINT64_MAX : fixture_random(&h->state));
    for (unsigned i = 0; i < LRD_PINS; i++)
        lrd_store_relaxed(&lane->pin[i], roll(&h->state, 3) == 0 ? fixture_random(&h->state) : fixture_random(&h->state) << 32 | roll(&h->state, d.r.n_blocks + 2));
    lrd_store32_relaxed(&lane->waiting, (uint32_t)roll(&h->state, 2));
    lrd_store32_relaxed(&lane->armed, (uint32_t)roll(&h->state, 4));
    lrd_store_relaxed(&lane->armed_position, roll(&h->state, 2) == 0 ? 0 : fixture_random(&h->state));
    lrd_store_relaxed(&lane->views, fixture_random(&h->state));
    struct lrd_result *r = &lane->result[roll(&h->state, LRD_RESULTS)];
    lrd_store_relaxed(&r->position, fixture_random(&h->state));
    lrd_store_relaxed(&r->answer, fixture_random(&h->state));
    lrd_store_relaxed(&r->version, fixture_random(&h->state));
}

/* Committed from behind: the writer sees all of them at once. */
static void write_some(struct hostile *h)
{
    uint64_t from = lrd_load_acquire(&h->words->applied), to = from, position[AT_ONCE];
    uint32_t cells[AT_ONCE], n = 0;
    while (n < AT_ONCE && to - from < h->ring.n_cells / 2) {
        position[n] = to;
        cells[n] = write_record(h, to);
        to += cells[n++];
    }
    lrd_store_relaxed(&h->ring.lane->tail, roll(&h->state, 50) == 0 ? fixture_random(&h->state) : to);
    for (uint32_t i = n; i-- > 0;)
        lrd_ring_commit(&h->ring, position[i], cells[i], LRD_RECORD_SET);
    (void)!write(h->bell, &(uint64_t){1}, 8);
    lrd_fetch_add_relaxed(&board->records, n);
    uint64_t end = lrd_clock_ns() + 20000000;
    while (lrd_load_acquire(&h->words->applied) < to && lrd_clock_ns() < end) {
        uint32_t i = (uint32_t)roll(&h->state, n);
        unsigned char *at = lrd_ring_at(&h->ring, position[i]);
        if (roll(&h->state, 4) == 0) /* not the kind: a reset may be the other client's end */
            turn_a_bit(h, at + sizeof(struct lrd_record), cells[i] * LRD_CELL - sizeof(struct lrd_record));
        if (roll(&h->state, 16) == 0)
            turn_a_bit(h, at + offsetof(struct lrd_record, key_len), sizeof(struct lrd_record) - offsetof(struct lrd_record, key_len));
    }
}

static void be_hostile(uint64_t seed)
{
    struct hostile h = {.state = seed * UINT64_C(0x9e3779b97f4a7c15) | 1};
    attach(&h);
    for (unsigned i = 0; i < 60 && lrd_load_relaxed(&board->stop) == 0; i++) {
        write_some(&h);
        if (roll(&h.state, 3) == 0)
            scribble(&h);
    }
    _exit(0);
}

/* ---- all ---- */

static void run(unsigned seconds_10)
{
    uint64_t end = lrd_clock_ns() + seconds_10 * UINT64_C(100000000), seed = 1, kills = 0, next_kill = lrd_clock_ns();
    pid_t bad[HOSTILES] = {0};
    const char *given = getenv("LARDER_SEED");
    if (given != NULL)
        seed = strtoull(given, NULL, 10) * 1000;
    while (lrd_clock_ns() < end && lrd_load_relaxed(&board->wrong) == 0) {
        for (unsigned i = 0; i < HOSTILES; i++) {
            int status = 0;
            if (bad[i] > 0 && waitpid(bad[i], &status, WNOHANG) != bad[i]) {
                if (roll(&dice, 200) == 0)
                    kill(bad[i], SIGKILL);
                continue;
            }
            if (status != 0 && !WIFSIGNALED(status))
                wrong("a hostile one's status", i, status);
            fflush(NULL);
            seed++;
            bad[i] = fork();
            if (bad[i] == 0)
                be_hostile(seed);
        }
        pause_us(1000);
        if (lrd_clock_ns() > next_kill && lrd_load_relaxed(&board->counted) > 0) {
            daemon_kill_worker(&d);
            kills++;
            next_kill = lrd_clock_ns() + 20000000 + roll(&dice, 200) * 1000000;
        }
    }
    lrd_store_relaxed(&board->stop, 1);
    for (unsigned i = 0; i < HOSTILES; i++) {
        kill(bad[i], SIGKILL);
        waitpid(bad[i], NULL, 0);
    }
    if (daemon_workers(&d) != kills + 1)
        wrong("workers that died by themselves", kills, (int64_t)daemon_workers(&d));
}

static unsigned lanes_in_use(void)
{
    unsigned n = 0;
    for (uint32_t i = 0; i < d.r.geometry.n_lanes; i++)
        n += lrd_load32_acquire(&d.r.lanes[i].state) != LRD_LANE_FREE;
    return n;
}

int main(void)
{
    static const char *const options[] = {"--memory", "8M", "--ring", "256K", "--max-clients", "8", "--block-size", "128K", "--namespace", KEPT ",policy=refuse,min=2M,feed=64",
                                          "--namespace", SEEN ",max=3M,feed=128", NULL};
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED)
        return 1;
    daemon_start(&d, NULL, options);
    kept = find_ns(KEPT);
    seen = find_ns(SEEN);
    fflush(NULL);
    pid_t good = fork();
    if (good == 0)
        be_good();
    run(fixture_long() ? 600 : 30);
    int status;
    bool ok = waitpid(good, &status, 0) == good && status == 0;
    uint64_t end = lrd_clock_ns() + UINT64_C(20000000000);
    while (lanes_in_use() > 0 && lrd_clock_ns() < end)
        pause_us(1000);
    if (lanes_in_use() > 0) {
        printf("%u lanes are still in use\n", lanes_in_use());
        ok = false;
    }
    printf("%" PRIu64 " records, %" PRIu64 " discarded, %" PRIu64 " conditional, %" PRIu64 " unmet, %" PRIu64 " leases, %" PRIu64 " revoked; %" PRIu64 " workers; the other one: %" PRIu64
           " counted, %" PRIu64 " written, %" PRIu64 " refused\n",
           lrd_load_relaxed(&board->records), fixture_counter(&d.r, LRD_C_discarded), fixture_counter(&d.r, LRD_C_conditional), fixture_counter(&d.r, LRD_C_unmet), fixture_counter(&d.r, LRD_C_leases),
           fixture_counter(&d.r, LRD_C_revoked), daemon_workers(&d), lrd_load_relaxed(&board->counted), lrd_load_relaxed(&board->written), lrd_load_relaxed(&board->refused));
    ok &= lrd_load_relaxed(&board->wrong) == 0;
    ok &= fixture_counter(&d.r, LRD_C_leases) > 100 && fixture_counter(&d.r, LRD_C_conditional) > 1000 && lrd_load_relaxed(&board->counted) > 100;
    ok &= daemon_check(&d);
    ok &= fixture_recount(&d.r) == 0;
    daemon_stop(&d);
    return !ok;
}
