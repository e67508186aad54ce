/* The worker is killed on the path of conditional writes, at each testpoint and at random moments; clients go on. Each write happens exactly once, and its result is told exactly:
 * - every client counts one common number up; the numbers that all were told together are 1, 2, 3, ..., each once, and the last is what is there at the end;
 * - of keys that nobody else writes each client has a model, and every single result, version and value must be the model's. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libclient/larder.h"
#include "shm/clock.h"
#include "tests/daemon_fixture.h"
#include "tests/segment_fixture.h"

#define CLIENTS 2u
#define KEYS 6u
#define AT_ONCE 8u
#define VALUE_MAX 60000u
#define LARGE 40000u /* is copied in steps */
#define COUNTS 400000u
#define PATIENCE_MS 20000u

struct client {
    lrd_u64 wrong;
    lrd_u64 done;        /* operations */
    lrd_u64 conditional; /* of them */
    lrd_u64 in_time;     /* results that came by the ticket, after a timeout */
    lrd_u64 n;           /* of counted */
    uint32_t counted[COUNTS];
};

struct board {
    lrd_u64 stop;
    struct client client[CLIENTS];
};

static struct board *board;
static struct larder *handle;
static struct larder_ns *ns;

/* ---- a client ---- */

struct model {
    bool present;
    uint32_t size, flags;
    uint64_t version; /* 0: not known */
    unsigned char value[VALUE_MAX];
};

static struct client *me;
static uint32_t my_number;
static uint64_t dice;
static struct model models[KEYS];
static const char common[] = "common";

static uint64_t roll(uint64_t sides)
{
    dice = fixture_random(&dice);
    return (dice >> 20) % sides;
}

static void wrong(const char *what, int64_t want, int64_t got)
{
    if (lrd_fetch_add_relaxed(&me->wrong, 1) < 5)
        printf("client %u, operation %" PRIu64 ": %s: %" PRId64 " expected, %" PRId64 "\n", my_number, lrd_load_relaxed(&me->done), what, want, got);
    fflush(stdout);
}

static void expect(const char *what, int64_t want, int64_t got)
{
    if (want != got)
        wrong(what, want, got);
}

static void attach(const struct daemon_fixture *d)
{
    struct larder_options o = {.size = sizeof o, .socket = d->socket, .open_timeout_ms = PATIENCE_MS, .busy_timeout_ms = PATIENCE_MS};
    int r = larder_open(&handle, &o);
    if (r != 0) {
        printf("open: %s\n", larder_strerror(r));
        exit(1);
    }
    ns = larder_default(handle);
}

/* The result of a call that may have timed out, or did not wait, in the end; then outcome is filled in. */
static int settle(int r, bool async, larder_ticket ticket, struct larder_outcome *outcome)
{
    if (r != LARDER_TIMEOUT && (!async || r != 0))
        return r;
    lrd_add_own(&me->in_time, !async);
    outcome->size = sizeof *outcome;
    r = larder_result(handle, ticket, PATIENCE_MS, outcome);
    return r == 0 ? outcome->result : LARDER_TIMEOUT;
}

static uint32_t short_or_long(void) { return roll(4) == 0 ? 1 : PATIENCE_MS; }

static uint32_t async_or_not(void) { return roll(2) ? LARDER_SET_ASYNC : 0; }

static void count_common(void)
{
    bool at_once = roll(8) == 0;
    struct larder_incr_options o = {.size = sizeof o, .how = LARDER_INCR_CREATE | (at_once ? LARDER_SET_ASYNC : 0), .timeout_ms = short_or_long()};
    larder_ticket ticket[AT_ONCE] = {0};
    unsigned n = at_once ? AT_ONCE : 1;
    for (unsigned i = 0; i < n; i++) {
        struct larder_outcome outcome = {.number = 0};
        int r = larder_incr(ns, common, sizeof common, 1, &o, &outcome.number, &ticket[i]);
        expect("counting", 0, at_once ? r : settle(r, false, ticket[i], &outcome));
        if (!at_once)
            me->counted[lrd_fetch_add_relaxed(&me->n, 1)] = (uint32_t)outcome.number;
    }
    for (unsigned i = 0; at_once && i < n; i++) {
        struct larder_outcome outcome = {.size = sizeof outcome};
        expect("counting at once", 0, larder_result(handle, ticket[i], PATIENCE_MS, &outcome));
        expect("a result of it", 0, outcome.result);
        me->counted[lrd_fetch_add_relaxed(&me->n, 1)] = (uint32_t)outcome.number;
    }
    lrd_add_own(&me->conditional, n);
}

struct key {
    char name[32];
    size_t size;
};

static struct key key_of(unsigned idx)
{
    struct key k;
    k.size = (size_t)snprintf(k.name, sizeof k.name, "own %u %u", my_number, idx);
    return k;
}

/* What is there is what the model says. Its version too, if it is known. */
static void look(unsigned idx)
{
    static unsigned char buffer[VALUE_MAX];
    struct model *m = &models[idx];
    struct key k = key_of(idx);
    struct larder_item item = {.size = sizeof item, .buffer = buffer, .capacity = sizeof buffer, .how = LARDER_GET_VISIBLE};
    int r = larder_get_item(ns, k.name, k.size, &item);
    expect("get", m->present ? 0 : LARDER_MISS, r);
    if (!m->present || r != 0)
        return;
    expect("bytes there", m->size, (int64_t)item.value_size);
    if (item.value_size == m->size && memcmp(buffer, m->value, m->size) != 0)
        wrong("another value", 0, 0);
    expect("flags", m->flags, item.flags);
    if (m->version != 0)
        expect("version", (int64_t)m->version, (int64_t)item.version);
    m->version = item.version;
}

static void make_number(struct model *m, int64_t number)
{
    m->present = true;
    m->size = (uint32_t)snprintf((char *)m->value, sizeof m->value, "%" PRId64, number);
    m->version = 0;
}

static bool read_number(const struct model *m, int64_t *number)
{
    char text[32];
    uint32_t sign = m->size > 0 && m->value[0] == '-';
    if (m->size == sign || m->size > 20)
        return false;
    memcpy(text, m->value, m->size);
    text[m->size] = 0;
    *number = strtoll(text, NULL, 10);
    return strspn(text + sign, "0123456789") == m->size - sign;
}

static void do_incr(unsigned idx)
{
    struct model *m = &models[idx];
    struct key k = key_of(idx);
    struct larder_incr_options o = {.size = sizeof o, .how = (roll(2) ? LARDER_INCR_CREATE : 0) | async_or_not(), .initial = 1000, .timeout_ms = short_or_long(), .flags = 77};
    struct larder_outcome outcome = {.number = 0};
    larder_ticket ticket;
    int64_t number = 1000, by = (int64_t)roll(2000) - 1000;
    int want = !m->present && (o.how & LARDER_INCR_CREATE) == 0 ? LARDER_MISS : m->present && !read_number(m, &number) ? LARDER_NOT_A_NUMBER : 0;
    int r = larder_incr(ns, k.name, k.size, by, &o, &outcome.number, &ticket);
    expect("incr", want, settle(r, (o.how & LARDER_SET_ASYNC) != 0, ticket, &outcome));
    if (want != 0)
        return;
    expect("number", number + by, outcome.number);
    m->flags = m->present ? m->flags : 77;
    make_number(m, number + by);
    m->version = outcome.version; /* 0 if nobody said */
}

enum put { PUT_SET, PUT_ADD, PUT_REPLACE, PUT_CAS, PUT_OLD_CAS };

static void do_put(unsigned idx, enum put how)
{
    static unsigned char value[LARGE];
    static uint64_t old_version;
    struct model *m = &models[idx];
    struct key k = key_of(idx);
    struct larder_set_options o = {.size = sizeof o, .flags = (uint32_t)roll(1000), .timeout_ms = how == PUT_SET ? 0 : short_or_long(), .how = how == PUT_SET ? 0 : async_or_not()};
    struct larder_outcome outcome = {.number = 0};
    larder_ticket ticket;
    uint32_t size = (uint32_t)(roll(8) == 0 ? roll(LARGE) : roll(100));
    if (roll(2))
        size = (uint32_t)snprintf((char *)value, sizeof value, "%" PRIu64, roll(100000));
    else
        fixture_bytes(value, size, dice);
    int want = 0, r = -1;
    switch (how) {
    case PUT_SET:
        r = larder_set(ns, k.name, k.size, value, size, &o, &ticket);
        break;
    case PUT_ADD:
        want = m->present ? LARDER_EXISTS : 0;
        r = larder_add(ns, k.name, k.size, value, size, &o, &ticket);
        break;
    case PUT_REPLACE:
        want = m->present ? 0 : LARDER_MISS;
        r = larder_replace(ns, k.name, k.size, value, size, &o, &ticket);
        break;
    case PUT_CAS:
    case PUT_OLD_CAS:
        look(idx);
        if (how == PUT_CAS && m->present)
            old_version = m->version;
        if (old_version == 0)
            return;
        want = !m->present ? LARDER_MISS : m->version == old_version ? 0 : LARDER_CHANGED;
        r = larder_cas(ns, k.name, k.size, value, size, old_version, &o, &ticket);
        break;
    }
    expect("put", want, how == PUT_SET ? r : settle(r, (o.how & LARDER_SET_ASYNC) != 0, ticket, &outcome));
    lrd_add_own(&me->conditional, how != PUT_SET);
    if (want != 0)
        return;
    m->present = true;
    m->size = size;
    m->flags = o.flags;
    m->version = outcome.version;
    memcpy(m->value, value, size);
}

static void do_join(unsigned idx, bool before)
{
    unsigned char more[60];
    struct model *m = &models[idx];
    struct key k = key_of(idx);
    struct larder_set_options o = {.size = sizeof o, .timeout_ms = short_or_long(), .how = async_or_not()};
    struct larder_outcome outcome = {.number = 0};
    larder_ticket ticket;
    uint32_t size = (uint32_t)roll(sizeof more);
    if (m->size + size > VALUE_MAX)
        return;
    fixture_bytes(more, size, dice);
    int r = (before ? larder_prepend : larder_append)(ns, k.name, k.size, more, size, &o, &ticket);
    expect(before ? "prepend" : "append", m->present ? 0 : LARDER_MISS, settle(r, (o.how & LARDER_SET_ASYNC) != 0, ticket, &outcome));
    lrd_add_own(&me->conditional, 1);
    if (!m->present)
        return;
    memmove(m->value + (before ? size : 0), m->value, m->size);
    memcpy(m->value + (before ? 0 : m->size), more, size);
    m->size += size;
    m->version = outcome.version;
}

static void do_delete(unsigned idx)
{
    struct model *m = &models[idx];
    struct key k = key_of(idx);
    struct larder_outcome outcome = {.number = 0};
    struct larder_set_options o = {.size = sizeof o, .timeout_ms = short_or_long()};
    larder_ticket ticket;
    look(idx);
    if (!m->present || roll(2))
        expect("delete", 0, larder_delete(ns, k.name, k.size, NULL));
    else {
        int r = larder_delete_if(ns, k.name, k.size, m->version, &o, &ticket);
        expect("delete_if", 0, settle(r, (o.how & LARDER_SET_ASYNC) != 0, ticket, &outcome));
        lrd_add_own(&me->conditional, 1);
    }
    *m = (struct model){.present = false};
}

static void be_a_client(const struct daemon_fixture *d, uint32_t number)
{
    my_number = number;
    me = &board->client[number];
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* nothing is left of a test that dies */
    dice = lrd_clock_ns() ^ number;
    attach(d);
    while (lrd_load_relaxed(&board->stop) == 0 && lrd_load_relaxed(&me->n) < COUNTS - AT_ONCE && lrd_load_relaxed(&me->wrong) == 0) {
        unsigned idx = (unsigned)roll(KEYS);
        switch (roll(12)) {
        case 0: do_put(idx, PUT_SET); break;
        case 1: do_put(idx, PUT_ADD); break;
        case 2: do_put(idx, PUT_REPLACE); break;
        case 3: do_put(idx, PUT_CAS); break;
        case 4: do_put(idx, PUT_OLD_CAS); break;
        case 5: do_join(idx, true); break;
        case 6: do_join(idx, false); break;
        case 7: do_delete(idx); break;
        case 8: look(idx); break;
        case 9: count_common(); break;
        default:
            do_incr(idx);
            lrd_add_own(&me->conditional, 1);
        }
        lrd_add_own(&me->done, 1);
    }
    for (unsigned idx = 0; idx < KEYS; idx++)
        look(idx);
    larder_close(handle);
    _exit(0);
}

/* ---- a daemon's life ---- */

static uint64_t deaths, operations, counted, in_time;
static bool bad;

static void verify(const struct daemon_fixture *d)
{
    static bool told[CLIENTS * COUNTS + 1];
    uint64_t n = 0, conditional = 0;
    char text[32] = {0};
    memset(told, 0, sizeof told);
    for (uint32_t c = 0; c < CLIENTS; c++) {
        const struct client *from = &board->client[c];
        n += lrd_load_relaxed(&from->n);
        conditional += lrd_load_relaxed(&from->conditional);
        operations += lrd_load_relaxed(&from->done);
        in_time += lrd_load_relaxed(&from->in_time);
        bad |= lrd_load_relaxed(&from->wrong) != 0;
    }
    for (uint32_t c = 0; c < CLIENTS; c++)
        for (uint64_t i = 0; i < lrd_load_relaxed(&board->client[c].n); i++) {
            uint32_t number = board->client[c].counted[i];
            if (number == 0 || number > n || told[number]) {
                printf("client %u was told %" PRIu32 " of %" PRIu64 "%s\n", c, number, n, number <= n && told[number] ? ", again" : "");
                bad = true;
                break;
            }
            told[number] = true;
        }
    counted += n;
    attach(d);
    int r = larder_get(ns, common, sizeof common, text, sizeof text - 1, NULL);
    larder_close(handle);
    if (n > 0 && (r != 0 || strtoull(text, NULL, 10) != n)) {
        printf("counted %" PRIu64 " times, and there is \"%s\"\n", n, text);
        bad = true;
    }
    uint64_t decided = fixture_counter(&d->r, LRD_C_conditional) + fixture_counter(&d->r, LRD_C_unmet);
    if (decided != conditional) {
        printf("%" PRIu64 " conditional writes, %" PRIu64 " decided\n", conditional, decided);
        bad = true;
    }
    if (fixture_counter(&d->r, LRD_C_evicted) + fixture_counter(&d->r, LRD_C_no_room) + fixture_counter(&d->r, LRD_C_discarded) != 0) {
        printf("something was evicted, had no room, or was refused\n");
        bad = true;
    }
    bad |= !daemon_check(d) || fixture_recount(&d->r) != 0;
}

static uint64_t done_by_all(void)
{
    uint64_t n = 0;
    for (uint32_t c = 0; c < CLIENTS; c++)
        n += lrd_load_relaxed(&board->client[c].done);
    return n;
}

static bool somebody_is_wrong(void)
{
    for (uint32_t c = 0; c < CLIENTS; c++)
        if (lrd_load_relaxed(&board->client[c].wrong) != 0)
            return true;
    return false;
}

static void let_them_work(uint64_t n)
{
    uint64_t before = done_by_all(), end = lrd_clock_ns() + UINT64_C(10000000000);
    while (done_by_all() < before + n && lrd_clock_ns() < end && !somebody_is_wrong())
        pause_us(200);
}

static void one_life(const char *testpoint, unsigned random_deaths, uint64_t *state)
{
    static const char *const options[] = {"--memory", "32M", "--average-item", "500", "--ring", "256K", "--max-clients", "8", NULL};
    struct daemon_fixture d;
    pid_t pid[CLIENTS];
    daemon_start(&d, testpoint, options);
    memset(board, 0, sizeof *board);
    fflush(NULL);
    for (uint32_t c = 0; c < CLIENTS; c++)
        if ((pid[c] = fork()) == 0)
            be_a_client(&d, c);
    if (testpoint != NULL) {
        uint64_t end = lrd_clock_ns() + UINT64_C(20000000000);
        while (daemon_workers(&d) < 2 && lrd_clock_ns() < end && !somebody_is_wrong())
            let_them_work(10);
        if (daemon_workers(&d) < 2) {
            printf("nobody died at %s\n", testpoint);
            bad = true;
        }
        deaths++;
    }
    for (unsigned i = 0; i < random_deaths && !somebody_is_wrong(); i++) {
        let_them_work(5);
        pause_us((unsigned)(fixture_random(state) % 4000));
        daemon_kill_worker(&d);
        deaths++;
    }
    let_them_work(50);
    lrd_store_relaxed(&board->stop, 1);
    for (uint32_t c = 0; c < CLIENTS; c++) {
        int status;
        if (waitpid(pid[c], &status, 0) != pid[c] || status != 0) {
            printf("client %u ended with status %x\n", c, (unsigned)status);
            bad = true;
        }
    }
    verify(&d);
    daemon_stop(&d);
}

int main(void)
{
    static const struct {
        const char *name;
        unsigned most; /* passes before it dies, at most */
    } points[] = {
        {"writer_result", 2000}, {"journal_before_valid", 2000}, {"journal_after_valid", 2000}, {"journal_step", 50}, {"journal_step", 20000},
        {"writer_applied", 2000}, {"writer_large_step", 60}, {"arena_opened", 8},
    };
    const unsigned n_points = sizeof points / sizeof *points;
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED)
        return 1;
    uint64_t state = lrd_clock_ns() | 1;
    unsigned rounds = fixture_long() ? 40 : 1;
    for (unsigned i = 0; i < rounds && !bad; i++) {
        one_life(NULL, 100, &state);
#ifdef LRD_TESTPOINTS
        for (unsigned k = 0; k < 4 * n_points && !bad; k++) {
            char testpoint[64];
            snprintf(testpoint, sizeof testpoint, "%s:%" PRIu64, points[k % n_points].name, 1 + fixture_random(&state) % points[k % n_points].most);
            one_life(testpoint, 1, &state);
            if (bad)
                printf("after %s\n", testpoint);
        }
#else
        (void)n_points;
        (void)points;
#endif
    }
    printf("%" PRIu64 " deaths, %" PRIu64 " operations, %" PRIu64 " numbers told once, %" PRIu64 " results after a timeout\n", deaths, operations, counted, in_time);
    return bad;
}
