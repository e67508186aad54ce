/* Namespaces under load, with several processes, while the worker is killed again and again:
 *   resets    who begins a get after a reset returned never sees what was acknowledged before it was called; what is written after it returned is found
 *   refuse    at its limit every acknowledged write is there until it is overwritten or deleted, all others were refused at the call; deletes make room
 *   floods    one namespace floods with tiny and with large items; another keeps what fits its minimum, and one that refuses keeps all
 * After each: every acknowledged write was applied or discarded, once, and counters, blocks and table add up, by namespace.
 *
 * A key has one writer, which notes on a board what was acknowledged. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libclient/larder.h"
#include "shm/clock.h"
#include "shm/namespace.h"
#include "tests/certified.h"
#include "tests/daemon_fixture.h"
#include "tests/segment_fixture.h"

#define PROCESSES 5u
#define KEYS 4096u
#define RUN_MS 2500u

struct board {
    lrd_u64 stop, wrong;
    lrd_u64 acks, refused, deletes, discarded, reads, hits;
    lrd_u64 begun, done;                  /* resets: called, returned */
    lrd_u64 ready[PROCESSES];             /* has written what it wants to find at all times */
    lrd_u64 acked[PROCESSES][KEYS];       /* version of the last acknowledged write: even, a set; odd, a delete; 0: none */
    lrd_u64 visible[PROCESSES][KEYS];     /* of the last that everybody sees */
    lrd_u64 floor[PROCESSES][KEYS];       /* what was acknowledged before the last reset that returned was called */
};

static struct board *board;
static struct daemon_fixture d;
static struct larder *handle;
static struct larder_ns *ns;
static uint64_t value[CERTIFIED_MAX / 8];
static uint64_t state;
static uint32_t me;

static void wrong(const char *what, uint64_t key, uint64_t a, uint64_t b)
{
    if (lrd_fetch_add_relaxed(&board->wrong, 1) < 8)
        printf("process %u: %s: key %" PRIu64 ", %" PRIu64 ", %" PRIu64 "\n", me, what, key, a, b);
    fflush(stdout);
}

static void count(lrd_u64 *n) { lrd_fetch_add_relaxed(n, 1); }
static bool goes_on(void) { return lrd_load_relaxed(&board->stop) == 0 && lrd_load_relaxed(&board->wrong) == 0; }
static uint64_t id_of(uint32_t process, uint64_t key) { return (uint64_t)(process + 1) << 32 | key; }
static uint64_t dice(uint64_t n) { return (fixture_random(&state) >> 20) % n; }

static void attach(const char *name)
{
    struct larder_options o = {.size = sizeof o, .socket = d.socket, .open_timeout_ms = 10000, .busy_timeout_ms = 10000};
    int r = larder_open(&handle, &o);
    if (r == 0 && name == NULL)
        ns = larder_default(handle);
    else if (r == 0)
        r = larder_ns_open(handle, name, &ns);
    if (r != 0) {
        printf("open: %s\n", larder_strerror(r));
        exit(1);
    }
}

static void leave(void)
{
    int r = larder_flush(handle, 10000);
    if (r != 0)
        wrong(larder_strerror(r), 0, 0, 0);
    larder_close(handle);
    exit(0);
}

/* 0: a miss; UINT64_MAX: not a value of this key. */
static uint64_t read_version(uint32_t process, uint64_t key)
{
    uint64_t id = id_of(process, key), version;
    size_t size = 0;
    int r = larder_get(ns, &id, sizeof id, value, sizeof value, &size);
    count(&board->reads);
    if (r == LARDER_MISS)
        return 0;
    version = r == 0 ? certified_version(value, size, id) : UINT64_MAX;
    if (version == UINT64_MAX)
        wrong("not a value of that key; result, size", key, (uint64_t)r, size);
    count(&board->hits);
    return version;
}

static int set(uint64_t key, uint64_t version, uint32_t how, larder_ticket *ticket)
{
    const struct larder_set_options o = {.size = sizeof o, .how = how};
    uint64_t id = id_of(me, key);
    int r = larder_set(ns, &id, sizeof id, value, certified_make(value, id, version), &o, ticket);
    if (r == 0 || r == LARDER_DISCARDED)
        count(&board->acks);
    return r;
}

static uint64_t next_version(uint64_t key) { return (lrd_load_relaxed(&board->acked[me][key]) | 1) + 1; }

/* ---- resets ---- */

#define RESET_WRITERS 2u
#define RESET_KEYS 300u
#define BURST 30u

/* Written after the last reset returned, and none was called until it was read: it is there. */
static void write_and_find(uint64_t key)
{
    uint64_t done = lrd_load_acquire(&board->done), version = next_version(key), found;
    bool quiet = lrd_load_acquire(&board->begun) == done;
    int r = set(key, version, LARDER_SET_WAIT, NULL);
    if (r == LARDER_DISCARDED) {
        if (quiet && lrd_load_acquire(&board->begun) == done)
            wrong("discarded without a reset", key, version, done);
        count(&board->discarded);
        return;
    }
    if (r != 0) {
        wrong(larder_strerror(r), key, version, 0);
        return;
    }
    lrd_store_release(&board->acked[me][key], version);
    found = read_version(me, key);
    if (quiet && lrd_load_acquire(&board->begun) == done) {
        if (found != version)
            wrong("written after a reset, read", key, version, found);
        lrd_store_release(&board->visible[me][key], done << 40 | version);
    }
}

/* Many are acknowledged and not applied yet when a reset comes. */
static void write_and_ask(void)
{
    larder_ticket ticket[BURST];
    for (uint32_t i = 0; i < BURST; i++) {
        uint64_t key = dice(RESET_KEYS), version = next_version(key);
        int r = set(key, version, 0, &ticket[i]);
        if (r != 0)
            wrong(larder_strerror(r), key, version, 0);
        lrd_store_release(&board->acked[me][key], version);
    }
    for (uint32_t i = 0; i < BURST; i++) {
        int r = larder_wait(handle, ticket[i], 10000);
        if (r == LARDER_DISCARDED)
            count(&board->discarded);
        else if (r != 0)
            wrong(larder_strerror(r), ticket[i], (uint64_t)r, 1);
    }
}

static void be_a_reset_writer(void)
{
    while (goes_on()) {
        uint64_t key = dice(RESET_KEYS);
        if (dice(2) == 0)
            write_and_find(key);
        else
            write_and_ask();
    }
}

static void be_a_reset_reader(void)
{
    while (goes_on()) {
        uint32_t of = (uint32_t)dice(RESET_WRITERS);
        uint64_t key = dice(RESET_KEYS), lowest = lrd_load_acquire(&board->floor[of][key]), seen = lrd_load_acquire(&board->visible[of][key]), done = lrd_load_acquire(&board->done);
        bool quiet = lrd_load_acquire(&board->begun) == done && seen >> 40 == done;
        uint64_t version = read_version(of, key);
        if (version != 0 && version <= lowest)
            wrong("of before a reset: acknowledged before it was called, read", key, lowest, version);
        if (quiet && lrd_load_acquire(&board->begun) == done && seen != 0 && version < (seen & ((UINT64_C(1) << 40) - 1)))
            wrong("visible since a reset, read", key, seen & ((UINT64_C(1) << 40) - 1), version);
    }
}

static void be_a_resetter(void)
{
    static uint64_t acked[RESET_WRITERS][RESET_KEYS];
    for (uint64_t n = 1; goes_on(); n++) {
        pause_us((unsigned)dice(20000));
        lrd_store_release(&board->begun, n);
        lrd_fence_seq_cst();
        for (uint32_t w = 0; w < RESET_WRITERS; w++)
            for (uint32_t key = 0; key < RESET_KEYS; key++)
                acked[w][key] = lrd_load_acquire(&board->acked[w][key]);
        int r = larder_ns_reset(ns);
        if (r != 0)
            wrong(larder_strerror(r), 0, n, 0);
        for (uint32_t w = 0; w < RESET_WRITERS; w++)
            for (uint32_t key = 0; key < RESET_KEYS; key++)
                lrd_store_release(&board->floor[w][key], acked[w][key]);
        lrd_store_release(&board->done, n);
    }
}

static void in_resets(void)
{
    attach("r");
    if (me < RESET_WRITERS)
        be_a_reset_writer();
    else if (me < PROCESSES - 1)
        be_a_reset_reader();
    else
        be_a_resetter();
}

/* ---- refuse ---- */

#define REFUSE_KEYS 3000u

/* Own keys are as they were acknowledged, at any time. */
static void look_at_own(uint64_t key)
{
    uint64_t want = lrd_load_relaxed(&board->acked[me][key]), version = read_version(me, key);
    if (version != (want & 1 ? 0 : want))
        wrong("acknowledged where nothing is evicted, read", key, want, version);
}

static void look_at_others(uint32_t of, uint64_t key)
{
    uint64_t want = lrd_load_acquire(&board->visible[of][key]), version = read_version(of, key);
    if (version < want && lrd_load_acquire(&board->visible[of][key]) == want && (lrd_load_acquire(&board->acked[of][key]) == want))
        wrong("visible where nothing is evicted, read", key, want, version);
}

static void write_refusing(uint64_t key)
{
    uint64_t version = next_version(key);
    uint32_t how = dice(8) == 0 ? LARDER_SET_WAIT : 0;
    int r = set(key, version, how, NULL);
    if (r == LARDER_FULL) {
        count(&board->refused);
        return;
    }
    if (r != 0) {
        wrong(larder_strerror(r), key, version, 0);
        return;
    }
    lrd_store_release(&board->acked[me][key], version);
    if (how != 0)
        lrd_store_release(&board->visible[me][key], version);
}

static void delete_one(uint64_t key)
{
    uint64_t id = id_of(me, key), version = next_version(key) + 1;
    lrd_store_release(&board->visible[me][key], 0);
    lrd_store_release(&board->acked[me][key], version);
    int r = larder_delete(ns, &id, sizeof id, NULL);
    if (r != 0)
        wrong(larder_strerror(r), key, version, 0);
    count(&board->deletes);
}

static void work_refusing(uint32_t n_processes)
{
    for (uint64_t i = 0; goes_on(); i++) {
        uint64_t key = dice(REFUSE_KEYS);
        if (i / 2000 % 3 == 2 && dice(2) == 0)
            delete_one(key);
        else
            write_refusing(key);
        look_at_own(dice(REFUSE_KEYS));
        look_at_others((uint32_t)dice(n_processes), dice(REFUSE_KEYS));
    }
}

/* Everything goes, and then there is room for as much as there was. */
static void fill_again(void)
{
    uint64_t had = 0, fitted = 0;
    for (uint64_t key = 0; key < REFUSE_KEYS; key++) {
        uint64_t acked = lrd_load_relaxed(&board->acked[me][key]);
        had += acked != 0 && (acked & 1) == 0 ? certified_size(id_of(me, key), acked) : 0;
        delete_one(key);
    }
    if (larder_flush(handle, 10000) != 0)
        wrong("flush", 0, 0, 0);
    for (uint64_t key = 0; key < REFUSE_KEYS; key++) {
        uint64_t before = lrd_load_relaxed(&board->acked[me][key]);
        write_refusing(key);
        uint64_t acked = lrd_load_relaxed(&board->acked[me][key]);
        fitted += acked != before ? certified_size(id_of(me, key), acked) : 0;
    }
    if (fitted < had / 2) /* others may hold credit */
        wrong("deletes make no room: bytes that there were, that fitted", 0, had, fitted);
}

static void in_refuse(void)
{
    attach("c");
    work_refusing(PROCESSES);
    if (me == 0)
        fill_again();
}

/* ---- floods ---- */

#define KEPT 2500u /* keys of B: 2.2 MB of the 4 MB that are its minimum */

static void be_a_flood(bool large)
{
    static unsigned char bytes[30000];
    attach(NULL);
    while (goes_on()) {
        uint64_t id = id_of(me, fixture_random(&state) & UINT32_MAX);
        int r = larder_set(ns, &id, sizeof id, bytes, large ? 20000 + dice(10000) : dice(16), NULL, NULL);
        if (r != 0)
            wrong(larder_strerror(r), id, 0, 0);
        count(&board->acks);
    }
}

static void keep_what_is_mine(void)
{
    attach("b");
    for (uint64_t key = 0; key < KEPT; key++) {
        uint64_t version = next_version(key);
        if (set(key, version, 0, NULL) != 0)
            wrong("set", key, version, 0);
        lrd_store_release(&board->acked[me][key], version);
    }
    lrd_store_release(&board->ready[me], 1);
    while (goes_on()) {
        uint64_t key = dice(KEPT), want = lrd_load_relaxed(&board->acked[me][key]), version = read_version(me, key);
        if (version != want)
            wrong("within its minimum: written, read", key, want, version);
    }
}

static void in_floods(void)
{
    if (me == 0)
        be_a_flood(false);
    else if (me == 1)
        be_a_flood(true);
    else if (me == 2)
        keep_what_is_mine();
    else {
        attach("c");
        for (uint64_t i = 0; goes_on(); i++) {
            write_refusing(dice(REFUSE_KEYS));
            look_at_own(dice(REFUSE_KEYS));
        }
    }
}

/* ---- the end of each ---- */

static bool bad;

static uint64_t of_ns(uint32_t n, enum lrd_counter_id id) { return lrd_load_relaxed(&lrd_ns_counters(&d.r, n)[id]); }

static void must_be(const char *what, uint64_t is, uint64_t should)
{
    if (is == should)
        return;
    printf("%s: %" PRIu64 ", should be %" PRIu64 "\n", what, is, should);
    bad = true;
}

static void add_up(uint32_t n)
{
    uint64_t items = 0, opened = 0;
    for (uint32_t b = 0; b < d.r.n_blocks; b++) {
        const struct lrd_descriptor *k = &d.r.descriptors[b];
        if (lrd_load_relaxed(&k->state) == LRD_BLOCK_FREE || lrd_owner_ns(lrd_load_relaxed(&k->owner)) != n)
            continue;
        opened++;
        items += lrd_live_items(lrd_load_relaxed(&k->live));
    }
    must_be("items of a namespace", of_ns(n, LRD_C_sets) - of_ns(n, LRD_C_overwrites) - of_ns(n, LRD_C_deletes) - of_ns(n, LRD_C_evicted) - of_ns(n, LRD_C_expired) -
                                        of_ns(n, LRD_C_reset_items) - of_ns(n, LRD_C_no_room), items);
    must_be("blocks of a namespace", of_ns(n, LRD_C_blocks_opened) - of_ns(n, LRD_C_blocks_freed), opened);
    uint64_t most = lrd_load_relaxed(&d.r.namespaces[n].max_blocks) + (lrd_load32_relaxed(&d.r.namespaces[n].policy) == LRD_POLICY_REFUSE); /* LRD_FOR_RESCUE */
    if (opened > most)
        must_be("blocks of a namespace, at most", opened, most);
}

static void all_adds_up(void)
{
    if (!daemon_check(&d) || fixture_recount(&d.r) != 0)
        bad = true;
    for (uint32_t n = 0; n < LRD_NS_NOWHERE; n++)
        if (lrd_load32_relaxed(&d.r.namespaces[n].state) == LRD_NS_LIVE)
            add_up(n);
    must_be("acknowledged sets, applied or discarded", fixture_counter(&d.r, LRD_C_sets) + fixture_counter(&d.r, LRD_C_discarded), lrd_load_relaxed(&board->acks));
    must_be("deletes", fixture_counter(&d.r, LRD_C_deletes) + fixture_counter(&d.r, LRD_C_delete_misses), lrd_load_relaxed(&board->deletes));
    must_be("discarded because they were not covered", fixture_counter(&d.r, LRD_C_uncovered), 0);
}

static void nothing_was_lost_of(const char *name)
{
    uint32_t n = lrd_ns_find(&d.r, name);
    must_be("evicted", of_ns(n, LRD_C_evicted), 0);
    must_be("expired", of_ns(n, LRD_C_expired), 0);
    must_be("no room in the table", of_ns(n, LRD_C_no_room), 0);
}

/* What every process wrote, as a new client sees it. */
static void all_is_there(const char *name, uint32_t from, uint32_t to, uint32_t keys)
{
    attach(name);
    for (uint32_t p = from; p < to; p++)
        for (uint64_t key = 0; key < keys; key++) {
            uint64_t want = lrd_load_relaxed(&board->acked[p][key]), version = read_version(p, key);
            if (version != (want & 1 ? 0 : want))
                wrong("at the end: acknowledged, read", key, want, version);
        }
    larder_close(handle);
}

static void after_resets(void)
{
    uint32_t n = lrd_ns_find(&d.r, "r");
    must_be("evicted", of_ns(n, LRD_C_evicted), 0);
    must_be("resets", lrd_load_relaxed(&d.r.namespaces[n].resets), lrd_load_relaxed(&board->done));
    must_be("discarded, as their waiters were told", fixture_counter(&d.r, LRD_C_discarded), lrd_load_relaxed(&board->discarded));
    printf("%" PRIu64 " resets, %" PRIu64 " sets acknowledged, %" PRIu64 " discarded, %" PRIu64 " reads, %" PRIu64 " hits\n", lrd_load_relaxed(&board->done),
           lrd_load_relaxed(&board->acks), lrd_load_relaxed(&board->discarded), lrd_load_relaxed(&board->reads), lrd_load_relaxed(&board->hits));
    bad |= lrd_load_relaxed(&board->done) < 20;
}

static void after_refuse(void)
{
    all_is_there("c", 0, PROCESSES, REFUSE_KEYS);
    nothing_was_lost_of("c");
    uint32_t n = lrd_ns_find(&d.r, "c");
    printf("%" PRIu64 " sets acknowledged, %" PRIu64 " refused, %" PRIu64 " deletes, %" PRIu64 " blocks cleaned\n", lrd_load_relaxed(&board->acks), lrd_load_relaxed(&board->refused),
           lrd_load_relaxed(&board->deletes), of_ns(n, LRD_C_cleanings));
    bad |= lrd_load_relaxed(&board->refused) == 0 || of_ns(n, LRD_C_cleanings) == 0;
}

static void after_floods(void)
{
    all_is_there("b", 2, 3, KEPT);
    all_is_there("c", 3, PROCESSES, REFUSE_KEYS);
    nothing_was_lost_of("b");
    nothing_was_lost_of("c");
    printf("%" PRIu64 " sets acknowledged; of the flood %" PRIu64 " evicted, %" PRIu64 " without room in the table; %" PRIu64 " reads\n", lrd_load_relaxed(&board->acks),
           of_ns(0, LRD_C_evicted), of_ns(0, LRD_C_no_room), lrd_load_relaxed(&board->reads));
    bad |= of_ns(0, LRD_C_evicted) == 0;
}

/* ---- a race ---- */

struct race {
    const char *name;
    const char *options[16];
    void (*work)(void);
    void (*after)(void);
};

#define ARENA "--memory", "24M", "--average-item", "256", "--block-size", "64K", "--ring", "512K", "--max-clients", "16"
static const struct race races[] = {
    {"resets", {ARENA, "--namespace", "r,min=8M", NULL}, in_resets, after_resets},
    {"refuse", {ARENA, "--namespace", "c,policy=refuse,min=2M", NULL}, in_refuse, after_refuse},
    {"floods", {ARENA, "--namespace", "b,min=4M", "--namespace", "c,policy=refuse,min=3M", NULL}, in_floods, after_floods},
};

static void start(const struct race *race, pid_t pid[PROCESSES])
{
    fflush(NULL);
    for (uint32_t i = 0; i < PROCESSES; i++) {
        pid[i] = fork();
        if (pid[i] < 0)
            abort();
        if (pid[i] == 0) {
            me = i;
            state = 77 + i;
            race->work();
            leave();
        }
    }
}

static void stop(pid_t pid[PROCESSES])
{
    lrd_store_relaxed(&board->stop, 1);
    for (uint32_t i = 0; i < PROCESSES; i++) {
        int status;
        if (waitpid(pid[i], &status, 0) != pid[i] || status != 0) {
            printf("process %u ended with status %x\n", i, (unsigned)status);
            bad = true;
        }
    }
}

static void run(const struct race *race)
{
    pid_t pid[PROCESSES];
    unsigned kills = 0;
    memset(board, 0, sizeof *board);
    me = PROCESSES;
    state = 5;
    daemon_start(&d, NULL, race->options);
    start(race, pid);
    uint64_t end = lrd_clock_ns() + RUN_MS * UINT64_C(1000000) * (fixture_long() ? 40 : 1);
    while (lrd_clock_ns() < end && lrd_load_relaxed(&board->wrong) == 0) {
        pause_us(20000 + (unsigned)dice(150000));
        daemon_kill_worker(&d);
        kills++;
    }
    stop(pid);
    printf("%s, %u workers killed: ", race->name, kills);
    race->after();
    all_adds_up();
    bad |= lrd_load_relaxed(&board->wrong) > 0;
    daemon_stop(&d);
}

int main(int argc, char **argv)
{
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED)
        return 1;
    for (unsigned i = 0; i < sizeof races / sizeof *races && !bad; i++)
        if (argc < 2 || strcmp(argv[1], races[i].name) == 0)
            run(&races[i]);
    return bad;
}
