/* What several processes do to few keys of one cache, all operations of the interface mixed, is linearizable, while the worker is killed again and again, and now and then a client in the middle of whatever it does.
 *
 * Each process notes an operation before the call and its answer after it, in a mapping that all share, so what a killed one was doing is pending; afterwards tests/linear.c looks for an order. What makes the
 * history one that must have one:
 * - A plain set or delete ends when its ticket is visible, and the process does nothing else on the key until then: it would read its own write earlier than others do.
 * - Conditional writes end when their result is known: at once, by their ticket after a timeout, or by their ticket after others were written (LARDER_SET_ASYNC). One that is forgotten is pending.
 * - Nothing is evicted: there is room for everything, and the test says so if it was not (counters). Nothing expires.
 * - Half of the rounds have a process that fills blocks with other items, so that items are moved while room is made. There a cas may be told of a change that was only a move; in a round in which the
 *   daemon has counted no move, a cas that fails must have had a reason.
 * - Writes of one process take effect in the order of its calls, also those it does not wait for: they go through one ring. Without that, many that overlap could not be searched.
 * Each round has keys of its own, at first absent. */
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
#include "tests/linear.h"
#include "tests/segment_fixture.h"

#define WORKERS 4u
#define NUMBERS 3u /* keys whose values are numbers; one more has texts */
#define TEXT NUMBERS
#define KEYS (NUMBERS + 1u)
#define LIVES 48u /* clients of a round, killed ones and their successors */
#define OPS 5000u /* of a life */
#define AT_ONCE 4u
#define LARGE 20000u /* of texts: is copied in steps */
#define VALUE_MAX 40000u
#define PATIENCE_MS 20000u
#define QUIET_NS UINT64_C(60000000)

struct life {
    lrd_u64 called, returned; /* operations; all but the last few called have returned */
    lrd_u64 wrong;
    struct linear_op op[OPS];
};

struct board {
    lrd_u64 stop;
    bool moves; /* before there are others */
    struct life life[LIVES];
};

static struct board *board;
static struct daemon_fixture d;

/* ---- one client ---- */

static struct larder *handle;
static struct larder_ns *ns;
static struct life *life;
static uint16_t me;
static unsigned round_no;
static uint64_t dice;
static uint64_t known[KEYS]; /* versions */

#define NEVER_HAPPENED UINT8_MAX /* an end: nothing was written */

static void wrong(const char *what, int r)
{
    if (lrd_fetch_add_relaxed(&life->wrong, 1) < 5)
        printf("round %u, process %u: %s: %d, %s\n", round_no, me, what, r, larder_strerror(r));
    fflush(stdout);
}

static uint64_t roll(uint64_t sides)
{
    dice = fixture_random(&dice);
    return (dice >> 20) % sides;
}

static const char *key_name(uint32_t key, unsigned round)
{
    static char name[AT_ONCE][32];
    snprintf(name[key], sizeof name[key], "linear %u %" PRIu32, round, key);
    return name[key];
}
#define KEY(key) key_name(key, round_no), strlen(key_name(key, round_no))

/* What a value says. A number must be written as one, and a text have the letters it should have. */
static int64_t meaning(uint32_t key, char *text, size_t size)
{
    int64_t value = 0;
    if (key == TEXT) {
        for (size_t i = 0; i < size; i++)
            value = linear_fold(value, (unsigned char)text[i]);
        return value;
    }
    char again[32], *end;
    text[size] = 0;
    value = strtoll(text, &end, 10);
    snprintf(again, sizeof again, "%" PRId64, value);
    if (size == 0 || strcmp(again, text) != 0)
        wrong("no number", (int)size);
    return value;
}

static uint64_t clock_ns(void) { return lrd_clock_ns(); }

/* Notes a call. value: 0: none. */
static struct linear_op *call(uint32_t key, enum linear_what what, int64_t value)
{
    uint64_t n = lrd_load_relaxed(&life->called), now = clock_ns();
    struct linear_op *op = &life->op[n];
    if (n > 0 && life->op[n - 1].invoked_ns >= now)
        now = life->op[n - 1].invoked_ns + 1; /* the order of calls is to be seen */
    *op = (struct linear_op){.key = key, .process = me, .what = (uint8_t)what, .value = value, .invoked_ns = now};
    /* Published by our end, of which the parent knows by waitpid(). The order matters if it comes between these two. */
    lrd_store_release(&life->called, n + 1);
    return op;
}

/* All that were called have returned, with what is noted in them. */
static void all_returned(void)
{
    uint64_t now = clock_ns(), n = lrd_load_relaxed(&life->called);
    for (uint64_t i = lrd_load_relaxed(&life->returned); i < n; i++)
        life->op[i].returned_ns = now;
    lrd_store_release(&life->returned, n);
}

static uint8_t end_of(int r, const char *what)
{
    switch (r) {
    case 0: return LINEAR_DONE;
    case LARDER_MISS: return LINEAR_MISSING;
    case LARDER_EXISTS: return LINEAR_PRESENT;
    case LARDER_CHANGED: return LINEAR_CHANGED;
    case LARDER_OVERFLOW: return LINEAR_OVERFLOW;
    case LARDER_BUSY: return NEVER_HAPPENED;
    case LARDER_TIMEOUT: return LINEAR_PENDING;
    default: wrong(what, r); return LINEAR_PENDING;
    }
}

/* A value that nobody else writes, far enough from all others to be counted up from. */
static int64_t fresh_value(void) { return (int64_t)((uint64_t)(me + 1u) << 48 | lrd_load_relaxed(&life->called) << 24); }

static size_t spell(uint32_t key, int64_t number, char *value, int64_t *means)
{
    size_t size = (size_t)snprintf(value, 32, key == TEXT ? "t%" PRId64 "." : "%" PRId64, number);
    if (key == TEXT && roll(3) == 0) { /* all of one size, so that one cannot be told from another by it */
        memset(value + size, '.', LARGE - size);
        size = LARGE;
    }
    *means = meaning(key, value, size);
    return size;
}

/* ---- reading ---- */

static char buffer[AT_ONCE][VALUE_MAX + 1], text[VALUE_MAX + 1];

static void note_item(struct linear_op *op, const struct larder_item *item, char *value)
{
    op->end = end_of(item->result, "get");
    if (item->result != 0)
        return;
    op->seen = meaning(op->key, value, item->value_size);
    op->found = item->version;
    if (item->version != 0)
        known[op->key] = item->version;
}

static void do_get(uint32_t key)
{
    struct larder_item item = {.size = sizeof item, .buffer = buffer[0], .capacity = VALUE_MAX};
    struct linear_op *op = call(key, LINEAR_GET, 0);
    uint64_t way = roll(4);
    item.how = way == 1 ? LARDER_GET_VISIBLE : 0;
    item.result = way == 0 ? larder_get(ns, KEY(key), buffer[0], VALUE_MAX, &item.value_size) : larder_get_item(ns, KEY(key), &item);
    note_item(op, &item, buffer[0]);
    all_returned();
}

static void do_get_many(void)
{
    struct larder_key keys[KEYS];
    struct larder_item items[KEYS];
    struct linear_op *op[KEYS];
    for (uint32_t k = 0; k < KEYS; k++) {
        keys[k] = (struct larder_key){.size = sizeof keys[k], .data = key_name(k, round_no), .data_size = strlen(key_name(k, round_no))};
        items[k] = (struct larder_item){.size = sizeof items[k], .buffer = buffer[k], .capacity = VALUE_MAX};
        op[k] = call(k, LINEAR_GET, 0);
    }
    int r = larder_get_many(ns, keys, items, KEYS, NULL);
    if (r != 0)
        wrong("get_many", r);
    for (uint32_t k = 0; k < KEYS; k++)
        note_item(op[k], &items[k], buffer[k]);
    all_returned();
}

/* ---- plain writes ---- */

/* Until it is visible: it is acknowledged, so it will be. */
static uint8_t wait_for(larder_ticket ticket)
{
    int r = larder_wait(handle, ticket, PATIENCE_MS);
    if (r != 0)
        wrong("wait", r);
    return LINEAR_DONE;
}

static void do_set(uint32_t key)
{
    struct larder_set_options o = {.size = sizeof o, .how = LARDER_SET_WAIT, .timeout_ms = PATIENCE_MS};
    larder_ticket ticket = 0;
    struct linear_op *op = call(key, LINEAR_SET, 0);
    size_t size = spell(key, fresh_value(), text, &op->value);
    bool wait = roll(2);
    int r = larder_set(ns, KEY(key), text, size, wait ? &o : NULL, &ticket);
    op->end = end_of(r, "set");
    if (op->end == LINEAR_DONE && !wait)
        op->end = wait_for(ticket);
    all_returned();
}

static void do_delete(uint32_t key)
{
    larder_ticket ticket = 0;
    struct linear_op *op = call(key, LINEAR_DELETE, 0);
    op->end = end_of(larder_delete(ns, KEY(key), &ticket), "delete");
    if (op->end == LINEAR_DONE)
        op->end = wait_for(ticket);
    all_returned();
}

/* Some keys in one call, in any order, one perhaps twice. */
static void do_many(bool deletes)
{
    static char texts[AT_ONCE][VALUE_MAX + 1];
    struct larder_write writes[AT_ONCE];
    struct linear_op *op[AT_ONCE];
    size_t done = 0;
    for (unsigned i = 0; i < AT_ONCE; i++) {
        uint32_t key = (uint32_t)roll(KEYS);
        op[i] = call(key, deletes ? LINEAR_DELETE : LINEAR_SET, 0);
        writes[i] = (struct larder_write){.size = sizeof writes[i], .key = key_name(key, round_no), .key_size = strlen(key_name(key, round_no))};
        if (!deletes) {
            writes[i].value_size = spell(key, fresh_value(), texts[i], &op[i]->value);
            writes[i].value = texts[i];
        }
    }
    int r = (deletes ? larder_delete_many : larder_set_many)(ns, writes, AT_ONCE, &done);
    if (r < 0)
        wrong("many", r);
    for (unsigned i = 0; i < AT_ONCE; i++) {
        op[i]->end = end_of(writes[i].result, "one of many");
        if (op[i]->end == LINEAR_DONE)
            op[i]->end = wait_for(writes[i].ticket);
    }
    all_returned();
}

static void do_reserved(uint32_t key)
{
    struct larder_reservation r = {.size = sizeof r};
    larder_ticket ticket = 0;
    struct linear_op *op = call(key, LINEAR_SET, 0);
    size_t size = spell(key, fresh_value(), text, &op->value);
    int result = larder_reserve(ns, KEY(key), size + 10, NULL, &r);
    if (result == 0) {
        memcpy(r.data, text, size);
        bool abort = roll(8) == 0;
        result = abort ? larder_abort(&r) : larder_commit(&r, size, &ticket);
        op->end = abort && result == 0 ? NEVER_HAPPENED : end_of(result, "commit");
    } else
        op->end = end_of(result, "reserve");
    if (op->end == LINEAR_DONE)
        op->end = wait_for(ticket);
    all_returned();
}

/* ---- what has a result ---- */

/* Asks for the result of what timed out or was not waited for. */
static int collect(struct linear_op *op, larder_ticket ticket)
{
    struct larder_outcome outcome = {.size = sizeof outcome};
    int r = larder_result(handle, ticket, PATIENCE_MS, &outcome);
    if (r != 0) {
        wrong("result", r);
        return LARDER_TIMEOUT;
    }
    op->seen = outcome.number;
    if (outcome.result == 0 || outcome.result == LARDER_CHANGED || outcome.result == LARDER_EXISTS)
        op->found = outcome.version;
    if (outcome.result == 0 && op->what == LINEAR_DELETE_IF)
        op->found = 0;
    if (op->found != 0)
        known[op->key] = op->found;
    return outcome.result;
}

/* Makes the call; *ticket if it was asked for. */
static int ask(struct linear_op *op, size_t size, uint32_t how, uint32_t timeout_ms, larder_ticket *ticket)
{
    struct larder_set_options o = {.size = sizeof o, .how = how, .timeout_ms = timeout_ms};
    struct larder_incr_options i = {.size = sizeof i, .how = how | (op->create ? LARDER_INCR_CREATE : 0), .timeout_ms = timeout_ms};
    uint32_t key = op->key;
    switch ((enum linear_what)op->what) {
    case LINEAR_ADD: return larder_add(ns, KEY(key), text, size, &o, ticket);
    case LINEAR_REPLACE: return larder_replace(ns, KEY(key), text, size, &o, ticket);
    case LINEAR_CAS: return larder_cas(ns, KEY(key), text, size, op->version, &o, ticket);
    case LINEAR_APPEND: return larder_append(ns, KEY(key), text, 1, &o, ticket);
    case LINEAR_DELETE_IF: return larder_delete_if(ns, KEY(key), op->version, &o, ticket);
    case LINEAR_INCR:
        return op->value < 0 ? larder_decr(ns, KEY(key), -op->value, &i, &op->seen, ticket) : larder_incr(ns, KEY(key), op->value, &i, &op->seen, ticket);
    case LINEAR_TOUCH:
        o.ttl_ms = LARDER_TTL_NONE;
        return larder_touch(ns, KEY(key), &o, ticket);
    default: abort();
    }
}

static struct linear_op *prepare(uint32_t key, enum linear_what what, size_t *size)
{
    uint64_t version = known[key];
    int64_t value = 0, means = 0;
    *size = spell(key, fresh_value(), text, &means);
    if (what == LINEAR_APPEND)
        text[0] = (char)(means = 'a' + (int64_t)roll(26));
    value = what == LINEAR_INCR ? (int64_t)roll(5) - 1 : means;
    struct linear_op *op = call(key, what, value);
    op->create = what == LINEAR_INCR && roll(2);
    op->version = what == LINEAR_CAS || what == LINEAR_DELETE_IF ? version : 0;
    return op;
}

static void do_conditional(uint32_t key, enum linear_what what)
{
    size_t size;
    larder_ticket ticket = 0;
    if ((what == LINEAR_CAS || what == LINEAR_DELETE_IF) && (known[key] == 0 || roll(2)))
        do_get(key);
    if ((what == LINEAR_CAS || what == LINEAR_DELETE_IF) && known[key] == 0)
        return;
    struct linear_op *op = prepare(key, what, &size);
    bool is_short = roll(2);
    int r = ask(op, size, 0, is_short ? 1 : PATIENCE_MS, is_short || roll(2) ? &ticket : NULL);
    if (r == LARDER_TIMEOUT && ticket != 0 && roll(8) == 0)
        larder_forget(handle, ticket);
    else if (r == LARDER_TIMEOUT && ticket != 0)
        r = collect(op, ticket);
    op->end = end_of(r, "conditional write");
    if (r == LARDER_TIMEOUT && !is_short)
        wrong("conditional write", r);
    if (op->end == LINEAR_PENDING) { /* what comes after it does not end it */
        lrd_store_release(&life->returned, lrd_load_relaxed(&life->called));
        return;
    }
    all_returned();
}

/* Some at once; each may be anywhere between its call and the last result. */
static void do_some(uint32_t key, enum linear_what what)
{
    struct linear_op *op[AT_ONCE];
    larder_ticket ticket[AT_ONCE] = {0};
    size_t size;
    if ((what == LINEAR_CAS || what == LINEAR_DELETE_IF) && known[key] == 0)
        return;
    for (unsigned i = 0; i < AT_ONCE; i++) {
        op[i] = prepare(key, what, &size);
        op[i]->end = end_of(ask(op[i], size, LARDER_SET_ASYNC, 0, &ticket[i]), "conditional write");
    }
    for (unsigned i = AT_ONCE; i-- > 0;)
        if (op[i]->end == LINEAR_DONE)
            op[i]->end = end_of(collect(op[i], ticket[i]), "result");
    all_returned();
}

static void do_get_and_touch(uint32_t key)
{
    struct larder_item item = {.size = sizeof item, .buffer = buffer[0], .capacity = VALUE_MAX};
    struct linear_op *op = call(key, LINEAR_GET_AND_TOUCH, 0);
    op->end = end_of(larder_get_and_touch(ns, KEY(key), LARDER_TTL_NONE, &item), "get_and_touch");
    if (op->end == LINEAR_DONE)
        op->seen = meaning(key, buffer[0], item.value_size);
    all_returned();
}

static void do_exchange(uint32_t key)
{
    struct larder_item old = {.size = sizeof old, .buffer = buffer[0], .capacity = VALUE_MAX};
    struct larder_set_options o = {.size = sizeof o, .timeout_ms = PATIENCE_MS};
    struct linear_op *op = call(key, LINEAR_EXCHANGE, 0);
    size_t size = spell(key, fresh_value(), text, &op->value);
    int r = larder_exchange(ns, KEY(key), text, size, &o, &old);
    op->end = end_of(r == 0 ? old.result : r, "exchange");
    if (op->end == LINEAR_DONE)
        op->seen = meaning(key, buffer[0], old.value_size);
    all_returned();
}

/* ---- a life ---- */

static void attach(void)
{
    struct larder_options o = {.size = sizeof o, .socket = d.socket, .open_timeout_ms = PATIENCE_MS, .busy_timeout_ms = PATIENCE_MS};
    int r = larder_open(&handle, &o);
    if (r != 0) {
        printf("open: %s\n", larder_strerror(r));
        _exit(1);
    }
    ns = larder_default(handle);
}

/* Where items are to move, they must be left alone for as long as it takes to fill the arena once. */
static bool is_quiet(void) { return board->moves && lrd_clock_ns() / QUIET_NS % 2 == 1; }

static void do_something(void)
{
    uint32_t key = (uint32_t)roll(KEYS);
    if (is_quiet() && roll(1024) != 0) {
        pause_us(1000);
        do_get(key);
        return;
    }
    bool some = roll(8) == 0;
    static const enum linear_what numbers[] = {LINEAR_INCR, LINEAR_INCR, LINEAR_INCR, LINEAR_CAS, LINEAR_CAS, LINEAR_ADD, LINEAR_ADD, LINEAR_REPLACE, LINEAR_TOUCH, LINEAR_DELETE_IF};
    static const enum linear_what texts[] = {LINEAR_APPEND, LINEAR_APPEND, LINEAR_APPEND, LINEAR_CAS, LINEAR_CAS, LINEAR_ADD, LINEAR_ADD, LINEAR_REPLACE, LINEAR_TOUCH, LINEAR_DELETE_IF};
    switch (roll(16)) {
    case 0: case 1: case 2: case 3: do_get(key); break;
    case 4: do_get_many(); break;
    case 5:
        if (some)
            do_many(roll(3) == 0);
        else if (roll(4) == 0)
            do_reserved(key);
        else
            do_set(key);
        break;
    case 6: do_delete(key); break;
    case 7: roll(2) ? do_exchange(key) : do_get_and_touch(key); break;
    default: {
        uint64_t i = roll(sizeof numbers / sizeof *numbers);
        (some ? do_some : do_conditional)(key, key == TEXT ? texts[i] : numbers[i]);
    }
    }
}

static void live(uint16_t place)
{
    me = place;
    life = &board->life[place];
    dice = lrd_clock_ns() ^ (uint64_t)place << 40;
    attach();
    while (lrd_load_relaxed(&board->stop) == 0 && lrd_load_relaxed(&life->called) < OPS - 2 * AT_ONCE)
        do_something();
    larder_close(handle);
    _exit(0);
}

/* Others' items, which live shortly: blocks are given up, and what we look at is copied forward. Less than half of the arena is alive, so nothing is evicted. */
static void fill(void)
{
    static unsigned char value[8000];
    life = &board->life[LIVES - 1];
    dice = lrd_clock_ns();
    attach();
    while (lrd_load_relaxed(&board->stop) == 0) {
        bool stays = roll(8) == 0; /* for some time: so no block empties itself */
        uint64_t key = stays ? roll(4000) : 10000 + roll(100);
        int r = larder_set(ns, &key, sizeof key, value, roll(stays ? 1000 : sizeof value), NULL, NULL);
        if (r != 0)
            wrong("filling", r);
    }
    larder_close(handle);
    _exit(0);
}

/* ---- the parent ---- */

static bool bad;
static uint64_t deaths, client_deaths, operations, pendings, visited, rounds_moved;
static uint64_t ends[LINEAR_WHATS][LINEAR_OVERFLOW + 1];

static pid_t start(void (*what)(void), uint16_t place)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        abort();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* nothing is left of a test that dies */
        if (what != NULL)
            what();
        live(place);
    }
    return pid;
}

static void join(pid_t pid)
{
    int status;
    if (waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return;
    printf("a client ended with status %x\n", (unsigned)status);
    bad = true;
}

/* What is still to be done by those who live. */
static bool all_full(const uint16_t *place)
{
    for (unsigned i = 0; i < WORKERS; i++)
        if (lrd_load_relaxed(&board->life[place[i]].called) < OPS - 2 * AT_ONCE)
            return false;
    return true;
}

static void play(bool moves, uint64_t *state)
{
    pid_t pid[WORKERS], filler = moves ? start(fill, 0) : 0;
    uint16_t place[WORKERS], lives = 0;
    for (unsigned i = 0; i < WORKERS; i++)
        pid[i] = start(NULL, place[i] = lives++);
    uint64_t end = lrd_clock_ns() + UINT64_C(600000000);
    while (lrd_clock_ns() < end && !all_full(place)) {
        pause_us((unsigned)(fixture_random(state) % 12000));
        if (fixture_random(state) % 4 != 0) {
            daemon_kill_worker(&d);
            deaths++;
        } else if (lives < LIVES - 1) {
            unsigned i = (unsigned)(fixture_random(state) % WORKERS);
            kill(pid[i], SIGKILL);
            waitpid(pid[i], NULL, 0);
            client_deaths++;
            pid[i] = start(NULL, place[i] = lives++);
        }
    }
    lrd_store_relaxed(&board->stop, 1);
    for (unsigned i = 0; i < WORKERS; i++)
        join(pid[i]);
    if (moves)
        join(filler);
}

static size_t gather(struct linear_op *all)
{
    size_t n = 0;
    for (unsigned l = 0; l < LIVES; l++) {
        const struct life *from = &board->life[l];
        uint64_t called = lrd_load_acquire(&from->called), returned = lrd_load_acquire(&from->returned);
        bad |= lrd_load_relaxed(&from->wrong) != 0;
        for (uint64_t i = 0; i < called; i++) {
            struct linear_op op = from->op[i];
            if (i >= returned)
                op.end = LINEAR_PENDING;
            if (op.end == NEVER_HAPPENED)
                continue;
            ends[op.what][op.end]++;
            pendings += op.end == LINEAR_PENDING;
            all[n++] = op;
        }
    }
    return n;
}

static uint64_t moves_so_far(void) { return fixture_counter(&d.r, LRD_C_copied); }

/* moves: some item may have been moved. */
static void judge(bool moves)
{
    struct linear_op *all = malloc(sizeof *all * LIVES * OPS);
    struct linear_verdict v;
    if (all == NULL)
        abort();
    size_t n = gather(all);
    if (moves)
        rounds_moved += !linear_check(all, n, LINEAR_IN_ORDER, &v);
    unsigned how = (moves ? LINEAR_MOVES : 0) | LINEAR_IN_ORDER;
    operations += n;
    if (!linear_check(all, n, how, &v)) {
        printf("round %u, key %" PRIu32 ": %s; of %zu operations; %s\n", round_no, v.key, v.gave_up ? "too much to search" : "not linearizable", n, moves ? "items move" : "items do not move");
        size_t left = linear_shrink(all, n, &how, v.key);
        if (left < 1000) {
            linear_print(stdout, all, left);
            printf("%s\n", how & LINEAR_ANY_STATE ? "whatever was there before" : "at first there is nothing");
        }
        bad = true;
    }
    visited += v.visited;
    free(all);
}

static void rounds(bool moves, unsigned n, uint64_t *state)
{
    static const char *const small[] = {"--memory", "16M", "--average-item", "500", "--ring", "128K", "--max-clients", "16", NULL};
    static const char *const large[] = {"--memory", "64M", "--average-item", "500", "--ring", "128K", "--max-clients", "16", NULL};
    daemon_start(&d, NULL, moves ? small : large);
    for (unsigned i = 0; i < n && !bad; i++) {
        memset(board, 0, sizeof *board);
        board->moves = moves;
        round_no++;
        uint64_t before = moves_so_far();
        play(moves, state);
        judge(moves_so_far() != before);
    }
    if (fixture_counter(&d.r, LRD_C_evicted) + fixture_counter(&d.r, LRD_C_no_room) + fixture_counter(&d.r, LRD_C_discarded) != 0) {
        printf("%" PRIu64 " items were evicted, %" PRIu64 " had no room, %" PRIu64 " records were refused\n", fixture_counter(&d.r, LRD_C_evicted), fixture_counter(&d.r, LRD_C_no_room),
               fixture_counter(&d.r, LRD_C_discarded));
        bad = true;
    }
    printf("%" PRIu64 " sets, %" PRIu64 " blocks freed, %" PRIu64 " items copied forward\n", fixture_counter(&d.r, LRD_C_sets), fixture_counter(&d.r, LRD_C_blocks_freed),
           fixture_counter(&d.r, LRD_C_copied));
    if (moves && moves_so_far() == 0) {
        printf("nothing was moved\n");
        bad = true;
    }
    bad |= !daemon_check(&d) || fixture_recount(&d.r) != 0;
    daemon_stop(&d);
}

int main(void)
{
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED)
        return 1;
    uint64_t state = lrd_clock_ns() | 1;
    unsigned n = fixture_long() ? 100 : 3;
    rounds(false, n, &state);
    if (!bad)
        rounds(true, n, &state);
    static const char *const whats[] = {"get", "set", "add", "replace", "cas", "exchange", "incr", "append", "touch", "get_and_touch", "delete", "delete_if"};
    for (unsigned w = 0; w < LINEAR_WHATS; w++)
        printf("%-13s %8" PRIu64 " done %8" PRIu64 " missing %8" PRIu64 " present %8" PRIu64 " changed %8" PRIu64 " pending\n", whats[w], ends[w][LINEAR_DONE], ends[w][LINEAR_MISSING],
               ends[w][LINEAR_PRESENT], ends[w][LINEAR_CHANGED], ends[w][LINEAR_PENDING]);
    printf("in %" PRIu64 " rounds of %u the items looked at were moved\n", rounds_moved, n);
    bad |= fixture_long() && rounds_moved == 0;
    printf("%" PRIu64 " operations, %" PRIu64 " deaths of the worker, %" PRIu64 " of clients, %" PRIu64 " pending, %" PRIu64 " states searched\n", operations, deaths, client_deaths, pendings, visited);
    return bad;
}
