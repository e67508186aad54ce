/* Walks of the table beside a writer that moves what it is about to come to, step by step; patterns against a plain matcher; larder_scan() with a daemon. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libclient/larder.h"
#include "shm/clock.h"
#include "shm/glob.h"
#include "shm/walk.h"
#include "tests/daemon_fixture.h"
#include "tests/segment_fixture.h"

/* In loops: Check's own macros write to a file each time. */
#define expect(x) ((x) ? (void)0 : ck_abort_msg("%s", #x))

/* ---- walks beside a writer ---- */

#define STAYING 120u
#define OTHERS 400u

struct crowd {
    struct fixture f;
    uint64_t state;
    bool seen[STAYING];
    uint64_t walks, long_walks;
};

static void put(struct fixture *f, uint64_t id)
{
    struct fixture_item item = {.key = &id, .key_len = sizeof id, .value = &id, .value_len = sizeof id};
    fixture_put(f, &item);
}

static bool is_there(const struct fixture *f, uint64_t id)
{
    uint64_t value;
    struct lrd_get get;
    return fixture_get(&f->reader, 0, &id, sizeof id, &value, sizeof value, &get) == LRD_FOUND;
}

/* Who stays is written anew and moved as others are, but never comes back: one that is there at the end was there all the time. */
static void disturb(struct crowd *c)
{
    uint64_t dice = fixture_random(&c->state) % 100, id = fixture_random(&c->state) >> 20;
    if (dice < 60)
        put(&c->f, STAYING + id % OTHERS);
    else if (dice < 70) {
        id = STAYING + id % OTHERS;
        fixture_delete(&c->f, 0, &id, sizeof id);
    } else if (dice < 85) {
        id %= STAYING;
        if (is_there(&c->f, id))
            put(&c->f, id);
    } else {
        id %= STAYING;
        fixture_move(&c->f, 0, &id, sizeof id, LRD_TTL_CLASSES);
    }
}

static void look(struct crowd *c, const lrd_u64 *at)
{
    struct lrd_seen seen;
    uint64_t id;
    expect(lrd_seen_look(&c->f.reader, at, &seen));
    if (seen.state != LRD_SLOT_HELD || !lrd_seen_is_current(&c->f.reader, &seen, 0))
        return;
    const struct lrd_item *item = lrd_arena_item(&c->f.reader, seen.slot);
    expect(lrd_seen_ns(&c->f.reader, &seen) == 0 && lrd_seen_fault(&c->f.reader, &seen, lrd_item_load(item)) == NULL);
    memcpy(&id, lrd_item_key(item), sizeof id);
    expect(lrd_seen_stands(&c->f.reader, &seen));
    if (id < STAYING)
        c->seen[id] = true;
}

/* One walk, some changes after each bucket. */
static void walk_beside(struct crowd *c, unsigned changes)
{
    struct lrd_walk w;
    const lrd_u64 *at;
    memset(c->seen, 0, sizeof c->seen);
    for (uint64_t id = 0; id < STAYING; id++)
        put(&c->f, id);
    lrd_walk_begin(&c->f.reader, &w);
    bool further = false;
    while (w.pass < LRD_WALK_PASSES) {
        uint64_t budget = 1;
        while ((at = lrd_walk_next(&c->f.reader, &w, &budget)) != NULL)
            look(c, at);
        further |= w.pass == 1;
        for (unsigned i = 0; i < changes; i++)
            disturb(c);
    }
    c->walks++;
    c->long_walks += further;
    for (uint64_t id = 0; id < STAYING; id++)
        expect(c->seen[id] || !is_there(&c->f, id));
}

START_TEST(test_what_stays_is_seen)
{
    static const uint32_t pairs[] = {31, 24, 20};
    struct crowd c = {.state = 1 + (uint64_t)_i};
    fixture_make(&c.f, pairs[_i], 16, 16);
    for (unsigned i = 0; i < (fixture_long() ? 20000 : 400); i++)
        walk_beside(&c, i % 4);
    ck_assert_uint_gt(fixture_counter(&c.f.reader, LRD_C_relocated), 100);
    ck_assert_uint_gt(c.long_walks, c.walks / 50);
    ck_assert_uint_eq(fixture_recount_all(&c.f), 0);
    fixture_drop(&c.f);
}
END_TEST

START_TEST(test_quiet_walk_sees_each_once)
{
    struct crowd c = {.state = 5};
    fixture_make(&c.f, 31, 16, 16);
    for (uint64_t id = 0; id < STAYING; id++)
        put(&c.f, id);
    struct lrd_walk w;
    uint64_t budget = UINT64_MAX, n = 0;
    const lrd_u64 *at;
    for (lrd_walk_begin(&c.f.reader, &w); (at = lrd_walk_next(&c.f.reader, &w, &budget)) != NULL; n++)
        look(&c, at);
    ck_assert_uint_eq(n, STAYING);
    ck_assert_uint_eq(UINT64_MAX - budget, 62);
    for (uint64_t id = 0; id < STAYING; id++)
        expect(c.seen[id]);
    ck_assert_ptr_null(lrd_walk_next(&c.f.reader, &w, &budget));
    fixture_drop(&c.f);
}
END_TEST

/* A move by hand: what the intent of make_room() stores, in its order, as far as a walk looks at it. */
struct move {
    lrd_u64 *from, *to;
    uint64_t slot;
};

static lrd_u64 *vacant_in(struct fixture *f, uint32_t bucket)
{
    for (uint32_t i = 0; i < LRD_SLOTS; i++)
        if (lrd_load_relaxed(&f->store.buckets[bucket].slot[i]) == 0)
            return &f->store.buckets[bucket].slot[i];
    ck_abort_msg("a full bucket");
    return NULL;
}

static struct move move_make(struct fixture *f, lrd_u64 *from, uint32_t home)
{
    uint64_t slot = lrd_load_relaxed(from);
    uint32_t d = lrd_slot_displacement(slot) + 1;
    return (struct move){.from = from,
                         .to = vacant_in(f, lrd_hash_bucket(home, lrd_slot_tag(slot), d, f->reader.n_pairs)),
                         .slot = lrd_slot_make(lrd_slot_tag(slot), d, lrd_slot_generation(slot), lrd_slot_location(slot))};
}

static void move_announce(struct fixture *f) { lrd_add_own(&f->store.counters[LRD_C_relocated], 1); }

static void move_do(const struct move *m)
{
    lrd_store_release(m->to, m->slot);
    lrd_store_release(m->from, 0);
}

static uint32_t bucket_of(const struct fixture *f, const lrd_u64 *at) { return (uint32_t)(((const unsigned char *)at - (const unsigned char *)f->store.buckets) / LRD_LINE); }

/* Goes on until the walk is about to look at a bucket. How often it came by the location of `slot`. */
static unsigned walk_to(const struct fixture *f, struct lrd_walk *w, uint32_t pass, uint32_t bucket, uint64_t slot)
{
    unsigned n = 0;
    while (w->pass < LRD_WALK_PASSES && !(w->pass == pass && w->bucket == bucket)) {
        uint64_t budget = 1;
        const lrd_u64 *at;
        while ((at = lrd_walk_next(&f->reader, w, &budget)) != NULL)
            n += lrd_slot_location(lrd_load_relaxed(at)) == lrd_slot_location(slot);
        if (w->pass == pass && w->bucket == bucket)
            break;
    }
    return n;
}

/* An item that lies at home, whose four buckets are each before the one that comes before it in the item's order. */
static lrd_u64 *find_descending(struct fixture *f, uint32_t *home)
{
    for (uint64_t id = 0; id < 100; id++) {
        struct lrd_get get;
        put(f, id);
        (void)fixture_get(&f->reader, 0, &id, sizeof id, NULL, 0, &get);
        *home = lrd_hash_home(get.hash, f->reader.n_pairs);
        uint32_t alternate = lrd_hash_bucket(*home, lrd_hash_tag(get.hash), 2, f->reader.n_pairs);
        if (*home % 2 == 1 && alternate < *home - 1 && lrd_slot_displacement(get.slot) == 0)
            for (uint32_t i = 0; i < LRD_SLOTS; i++)
                if (lrd_load_relaxed(&f->store.buckets[*home].slot[i]) == get.slot)
                    return &f->store.buckets[*home].slot[i];
    }
    ck_abort_msg("no such item");
    return NULL;
}

/* It goes behind the walk's back as often as an item can. */
START_TEST(test_four_passes)
{
    struct fixture f;
    uint32_t home;
    fixture_make(&f, 211, 8, 16);
    lrd_u64 *at = find_descending(&f, &home);
    uint64_t slot = lrd_load_relaxed(at);
    struct lrd_walk w;
    lrd_walk_begin(&f.reader, &w);
    for (uint32_t pass = 0; pass < 3; pass++) {
        ck_assert_uint_eq(walk_to(&f, &w, pass, bucket_of(&f, at), slot), 0);
        ck_assert_uint_eq(w.pass, pass);
        struct move m = move_make(&f, at, home);
        ck_assert_uint_lt(bucket_of(&f, m.to), bucket_of(&f, at));
        move_announce(&f);
        move_do(&m);
        at = m.to;
    }
    ck_assert_uint_eq(walk_to(&f, &w, LRD_WALK_PASSES, 0, slot), 1);
    fixture_drop(&f);
}
END_TEST

/* The move has been counted when the walk begins, and its slots have not been stored: a worker stopped there, or killed. */
START_TEST(test_move_under_way_at_the_beginning)
{
    struct fixture f;
    uint32_t home;
    fixture_make(&f, 211, 8, 16);
    lrd_u64 *at = find_descending(&f, &home);
    uint64_t slot = lrd_load_relaxed(at);
    struct move m = move_make(&f, at, home);
    struct lrd_walk w;
    lrd_store_release(&f.store.journal->n_steps, 3);
    move_announce(&f);
    lrd_walk_begin(&f.reader, &w);
    ck_assert_uint_eq(walk_to(&f, &w, 0, home, slot), 0);
    move_do(&m);
    lrd_store_release(&f.store.journal->n_steps, 0);
    ck_assert_uint_eq(walk_to(&f, &w, LRD_WALK_PASSES, 0, slot), 1);
    fixture_drop(&f);
}
END_TEST

/* A worker that is stopped in the middle for good costs passes, and no waiting. */
START_TEST(test_intent_that_stays)
{
    struct crowd c = {.state = 5};
    fixture_make(&c.f, 31, 16, 16);
    put(&c.f, 1);
    lrd_store_release(&c.f.store.journal->n_steps, 3);
    struct lrd_walk w;
    uint64_t budget = UINT64_MAX;
    for (lrd_walk_begin(&c.f.reader, &w); lrd_walk_next(&c.f.reader, &w, &budget) != NULL;)
        continue;
    ck_assert_uint_eq(w.pass, LRD_WALK_PASSES);
    ck_assert_uint_eq(UINT64_MAX - budget, 4 * 62);
    fixture_drop(&c.f);
}
END_TEST

/* What was copied from an item is not believed if its block was freed meanwhile; nor that a slot is dead, if it may have come to life. */
START_TEST(test_block_goes_under_a_look)
{
    struct fixture f;
    uint32_t home;
    struct lrd_seen seen;
    fixture_make(&f, 211, 8, 16);
    lrd_u64 *at = find_descending(&f, &home);
    ck_assert(lrd_seen_look(&f.reader, at, &seen) && seen.state == LRD_SLOT_HELD && lrd_seen_is_current(&f.reader, &seen, 0) && lrd_seen_stands(&f.reader, &seen));
    fixture_reset(&f, 0);
    ck_assert(lrd_seen_stands(&f.reader, &seen) && !lrd_seen_is_current(&f.reader, &seen, 0));
    while (lrd_arena_free_doomed(&f.arena, 1))
        continue;
    ck_assert(!lrd_seen_stands(&f.reader, &seen));
    ck_assert(lrd_seen_look(&f.reader, at, &seen) && seen.state == LRD_SLOT_DEAD && lrd_seen_stands(&f.reader, &seen));
    lrd_add_own(&f.store.block_words[seen.block], 1);
    ck_assert(!lrd_seen_stands(&f.reader, &seen));
    fixture_drop(&f);
}
END_TEST

/* ---- patterns ---- */

static const struct {
    const char *pattern, *text;
    bool match;
} patterns[] = {
    {"", "", true}, {"", "a", false}, {"a", "a", true}, {"a", "", false}, {"a", "b", false}, {"a", "ab", false},
    {"*", "", true}, {"*", "abc", true}, {"**", "abc", true}, {"a*", "abc", true}, {"*c", "abc", true}, {"*b", "abc", false}, {"a*c", "ac", true},
    {"a*b*c", "aXbYbZc", true}, {"a*b*c", "aXcYb", false}, {"*ab", "aab", true}, {"*aab*", "aaab", true}, {"user:*:name", "user:1/2:.x:name", true},
    {"?", "", false}, {"?", "a", true}, {"??", "a", false}, {"?*", "a", true}, {"*?", "", false},
    {"[abc]", "b", true}, {"[abc]", "d", false}, {"[a-c]x", "bx", true}, {"[a-c]", "d", false}, {"[^a-c]", "d", true}, {"[^a-c]", "b", false}, {"[!a-c]", "d", true},
    {"[]]", "]", true}, {"[]a]", "a", true}, {"[^]]", "]", false}, {"[^]]", "a", true}, {"[a-]", "-", true}, {"[-a]", "-", true}, {"[a-]", "b", false},
    {"[\\]]", "]", true}, {"[\\a-\\c]", "b", true}, {"[a\\-c]", "b", false}, {"[a\\-c]", "-", true}, {"[z-a]", "m", false}, {"[^z-a]", "m", true}, {"[[]", "[", true},
    {"[*?]", "*", true}, {"[*?]", "x", false}, {"[a!]", "!", true}, {"[^^]", "^", false},
    {"\\*", "*", true}, {"\\*", "a", false}, {"\\\\", "\\", true}, {"\\a", "a", true}, {"]", "]", true}, {"a]", "a]", true},
    {"[\x80-\xff]", "\xc3", true}, {"?", "\xff", true}, {"[a-\xff]", "b", true},
};

static bool is_pattern(const char *p) { return lrd_glob_ok(p, strlen(p)); }

START_TEST(test_patterns)
{
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        const char *p = patterns[i].pattern, *t = patterns[i].text;
        ck_assert_msg(is_pattern(p), "%s", p);
        ck_assert_msg(lrd_glob_match(p, strlen(p), t, strlen(t)) == patterns[i].match, "%s %s", p, t);
    }
    static const char *const broken[] = {"[", "[a", "[]", "[^]", "[!]", "[a-", "[a-]x[", "\\", "a\\", "[\\", "[a\\", "[a-\\", "*["};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        ck_assert_msg(!is_pattern(broken[i]), "%s", broken[i]);
    ck_assert(lrd_glob_ok("\0*", 2) && lrd_glob_match("\0*", 2, "\0a\0", 3) && !lrd_glob_match("\0*", 2, "a", 1));
    static const char many[LRD_GLOB_MAX + 1];
    ck_assert(lrd_glob_ok(many, LRD_GLOB_MAX) && !lrd_glob_ok(many, LRD_GLOB_MAX + 1));
}
END_TEST

/* Stars and plain bytes only, as the definition says it. */
static bool plain_match(const char *p, const char *t)
{
    if (*p == '\0')
        return *t == '\0';
    if (*p == '*')
        return plain_match(p + 1, t) || (*t != '\0' && plain_match(p, t + 1));
    return *t != '\0' && (*p == '?' || *p == *t) && plain_match(p + 1, t + 1);
}

START_TEST(test_patterns_against_a_plain_matcher)
{
    static const char of[] = "ab*?ab*";
    uint64_t state = 3, matches = 0;
    for (unsigned i = 0; i < 200000; i++) {
        char p[9], t[9];
        size_t np = fixture_random(&state) % 8, nt = fixture_random(&state) % 8;
        for (size_t k = 0; k < np; k++)
            p[k] = of[fixture_random(&state) % 7];
        for (size_t k = 0; k < nt; k++)
            t[k] = of[fixture_random(&state) % 2];
        p[np] = t[nt] = '\0';
        bool match = plain_match(p, t);
        matches += match;
        ck_assert_msg(lrd_glob_match(p, np, t, nt) == match, "%s %s", p, t);
    }
    ck_assert_uint_gt(matches, 10000);
}
END_TEST

/* Whatever the bytes are, nothing is read beyond them (AddressSanitizer looks), and what is a pattern ends. */
START_TEST(test_patterns_of_any_bytes)
{
    static const char of[] = "[]^!-\\*?ab";
    uint64_t state = 4, good = 0;
    for (unsigned i = 0; i < 200000; i++) {
        size_t n = fixture_random(&state) % 10;
        char *p = malloc(n), t[3]; /* NULL for none is a pattern too */
        for (size_t k = 0; k < n; k++)
            p[k] = of[fixture_random(&state) % 10];
        for (size_t k = 0; k < sizeof t; k++)
            t[k] = of[fixture_random(&state) % 10];
        bool ok = lrd_glob_ok(p, n);
        good += ok;
        (void)lrd_glob_match(p, n, t, sizeof t);
        free(p);
    }
    ck_assert_uint_gt(good, 10000);
}
END_TEST

START_TEST(test_patterns_that_are_hard)
{
    char p[LRD_GLOB_MAX], t[LARDER_KEY_MAX];
    memset(t, 'a', sizeof t);
    for (size_t i = 0; i < sizeof p; i++)
        p[i] = i % 2 == 0 ? '*' : 'a';
    p[sizeof p - 1] = 'b';
    uint64_t begun = lrd_clock_ns();
    for (unsigned i = 0; i < 20; i++)
        ck_assert(!lrd_glob_match(p, sizeof p, t, sizeof t));
    ck_assert_uint_lt(lrd_clock_ns() - begun, UINT64_C(2000000000)); /* two million steps each, at most */
}
END_TEST

/* ---- with a daemon ---- */

#define KEYS 3000u

static struct daemon_fixture d;
static struct larder *handle;
static struct larder_ns *ns;

static void start(void)
{
    static const char *const options[] = {"--memory", "24M", "--average-item", "64", "--block-size", "64K", "--namespace", "other", NULL};
    daemon_start(&d, NULL, options);
    const struct larder_options o = {.size = sizeof o, .socket = d.socket, .open_timeout_ms = 10000, .busy_timeout_ms = 10000};
    ck_assert_int_eq(larder_open(&handle, &o), 0);
    ns = larder_default(handle);
}

static void stop(void)
{
    larder_close(handle);
    daemon_stop(&d);
}

static void set(struct larder_ns *in, const char *key, const char *value, int64_t ttl_ms, uint32_t flags)
{
    const struct larder_set_options o = {.size = sizeof o, .ttl_ms = ttl_ms, .flags = flags, .how = LARDER_SET_WAIT};
    ck_assert_int_eq(larder_set(in, key, strlen(key), value, strlen(value), &o, NULL), 0);
}

/* Writes key-0000 and so on, and waits until they are there. */
static void fill(void)
{
    larder_ticket ticket = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        char key[16];
        int n = snprintf(key, sizeof key, "key-%04u", i);
        const struct larder_set_options o = {.size = sizeof o, .flags = i};
        expect(larder_set(ns, key, (size_t)n, key, i % 9, &o, &ticket) == 0);
    }
    ck_assert_int_eq(larder_wait(handle, ticket, 10000), 0);
}

/* Scans all of it, n entries a call; how many came, and how many calls it took. Counts by number of "key-0000" in times[]. */
static unsigned scan(struct larder_ns *in, const struct larder_scan_options *options, size_t n, unsigned char times[KEYS], unsigned *calls)
{
    char keys[64][16];
    struct larder_entry e[64];
    struct larder_cursor cursor = {.size = sizeof cursor};
    unsigned all = 0;
    size_t got;
    int r;
    expect(n <= 64);
    for (size_t i = 0; i < n; i++)
        e[i] = (struct larder_entry){.size = sizeof e[i], .key = keys[i], .key_capacity = sizeof keys[i]};
    *calls = 1;
    while ((r = larder_scan(in, &cursor, options, e, n, &got)) == 0) {
        expect(got <= n);
        for (size_t i = 0; i < got; i++, all++) {
            unsigned id = KEYS;
            if (e[i].key_size == 8 && sscanf(keys[i], "key-%4u", &id) == 1 && times != NULL) {
                expect(id < KEYS && e[i].flags == id && e[i].value_size == id % 9 && e[i].ttl_ms == LARDER_TTL_NONE);
                times[id]++;
            }
        }
        ++*calls;
    }
    ck_assert_int_eq(r, LARDER_END);
    expect(got == 0);
    ck_assert_int_eq(larder_scan(in, &cursor, options, e, n, &got), LARDER_END);
    return all;
}

START_TEST(test_scan_all)
{
    unsigned char times[KEYS];
    unsigned calls;
    start();
    ck_assert_uint_eq(scan(ns, NULL, 10, NULL, &calls), 0);
    ck_assert_uint_eq(calls, 1);
    fill();
    set(larder_default(handle), "zzz", "v", LARDER_TTL_NONE, 0);
    for (size_t n = 1; n <= 64; n += 21) {
        memset(times, 0, sizeof times);
        ck_assert_uint_eq(scan(ns, NULL, n, times, &calls), KEYS + 1);
        for (unsigned i = 0; i < KEYS; i++)
            expect(times[i] == 1);
        ck_assert_uint_eq(calls, (KEYS + 1 + n - 1) / n + 1);
    }
    const struct larder_scan_options few = {.size = sizeof few, .most_buckets = 3};
    ck_assert_uint_eq(scan(ns, &few, 64, NULL, &calls), KEYS + 1);
    ck_assert_uint_ge(calls, lrd_n_buckets(&d.r) / 3);
    stop();
}
END_TEST

START_TEST(test_scan_some)
{
    unsigned calls;
    start();
    fill();
    const struct {
        const char *pattern;
        uint32_t how;
        unsigned n;
    } some[] = {{"key-1", 0, 1000},          {"key-00", 0, 100},      {"", 0, KEYS},       {"ey", 0, 0}, {"key-0000", 0, 1}, {"key-00000", 0, 0},
                {"", LARDER_SCAN_GLOB, 0},   {"*", LARDER_SCAN_GLOB, KEYS}, {"*7", LARDER_SCAN_GLOB, 300}, {"key-[01]?[^0-8]*", LARDER_SCAN_GLOB, 200},
                {"key-000", LARDER_SCAN_GLOB, 0}};
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        const struct larder_scan_options o = {.size = sizeof o, .pattern = some[i].pattern, .pattern_size = strlen(some[i].pattern), .how = some[i].how};
        ck_assert_msg(scan(ns, &o, 64, NULL, &calls) == some[i].n, "%s", some[i].pattern);
    }
    stop();
}
END_TEST

/* One entry of one item, with the key's room. */
static int scan_one(struct larder_ns *in, struct larder_entry *e, char *key, size_t room)
{
    struct larder_cursor cursor = {.size = sizeof cursor};
    size_t got;
    *e = (struct larder_entry){.size = sizeof *e, .key = key, .key_capacity = room};
    return larder_scan(in, &cursor, NULL, e, 1, &got);
}

START_TEST(test_what_an_entry_says)
{
    struct larder_entry e;
    struct larder_item item = {.size = sizeof item};
    struct larder_ns *other;
    char key[8];
    start();
    ck_assert_int_eq(larder_ns_open(handle, "other", &other), 0);
    set(ns, "abcd", "12345", 60000, 77);
    ck_assert_int_eq(scan_one(ns, &e, key, sizeof key), 0);
    ck_assert_int_eq(larder_get_item(ns, "abcd", 4, &item), LARDER_TOO_SMALL);
    ck_assert(e.key_size == 4 && memcmp(key, "abcd", 4) == 0 && e.value_size == 5 && e.flags == 77 && e.version == item.version && e.version != 0);
    ck_assert(e.ttl_ms > 50000 && e.ttl_ms <= 60000);
    memcpy(key, "________", 8);
    ck_assert_int_eq(scan_one(ns, &e, key, 3), 0);
    ck_assert(e.key_size == 4 && memcmp(key, "________", 8) == 0);
    ck_assert_int_eq(scan_one(ns, &e, NULL, 0), 0);
    ck_assert_uint_eq(e.key_size, 4);
    /* not another namespace's, not what has expired, not what was reset */
    ck_assert_int_eq(scan_one(other, &e, key, sizeof key), LARDER_END);
    set(other, "x", "1", 30, 0);
    ck_assert_int_eq(scan_one(other, &e, key, sizeof key), 0);
    set(other, "long", "1", 2000, 0); /* keeps the block */
    pause_us(60000);
    ck_assert_int_eq(scan_one(other, &e, key, sizeof key), 0);
    ck_assert(e.key_size == 4);
    unsigned calls;
    ck_assert_uint_eq(scan(other, NULL, 1, NULL, &calls), 1);
    set(other, "x", "1", LARDER_TTL_NONE, 0);
    ck_assert_int_eq(larder_ns_reset(other), 0);
    ck_assert_int_eq(scan_one(other, &e, key, sizeof key), LARDER_END);
    ck_assert_int_eq(scan_one(ns, &e, key, sizeof key), 0);
    stop();
}
END_TEST

START_TEST(test_what_cannot_be_asked)
{
    struct larder_ns *other;
    char key[8];
    struct larder_entry e[2] = {{.size = sizeof *e, .key = key, .key_capacity = sizeof key}, {.size = sizeof *e}};
    struct larder_cursor cursor = {.size = sizeof cursor};
    struct larder_scan_options o = {.size = sizeof o};
    size_t got;
    start();
    ck_assert_int_eq(larder_ns_open(handle, "other", &other), 0);
    set(ns, "a", "1", 0, 0);
    set(ns, "b", "1", 0, 0);
#define refused(...) ck_assert_int_eq(larder_scan(__VA_ARGS__), -EINVAL)
    refused(NULL, &cursor, &o, e, 1, &got);
    refused(ns, NULL, &o, e, 1, &got);
    refused(ns, &cursor, &o, NULL, 1, &got);
    refused(ns, &cursor, &o, e, 0, &got);
    refused(ns, &cursor, &o, e, 1, NULL);
    cursor.size--;
    refused(ns, &cursor, &o, e, 1, &got);
    cursor.size++;
    e[0].size -= 8;
    refused(ns, &cursor, &o, e, 1, &got);
    e[0].size += 8;
    e[1].key_capacity = 1;
    refused(ns, &cursor, &o, e, 2, &got);
    o.size++;
    refused(ns, &cursor, &o, e, 1, &got);
    o = (struct larder_scan_options){.size = sizeof o, .how = 2};
    refused(ns, &cursor, &o, e, 1, &got);
    o = (struct larder_scan_options){.size = sizeof o, .pattern_size = 1};
    refused(ns, &cursor, &o, e, 1, &got);
    o = (struct larder_scan_options){.size = sizeof o, .pattern = "[", .pattern_size = 1, .how = LARDER_SCAN_GLOB};
    refused(ns, &cursor, &o, e, 1, &got);
    o.how = 0;
    ck_assert_int_eq(larder_scan(ns, &cursor, &o, e, 1, &got), LARDER_END);

    /* cursors of others, and of nobody */
    cursor = (struct larder_cursor){.size = sizeof cursor};
    ck_assert_int_eq(larder_scan(ns, &cursor, NULL, e, 1, &got), 0);
    refused(other, &cursor, NULL, e, 1, &got);
    for (unsigned i = 0; i < 64 * 7; i++) {
        struct larder_cursor spoiled = cursor;
        spoiled.own[i / 64] ^= UINT64_C(1) << i % 64;
        int r = larder_scan(ns, &spoiled, NULL, e, 1, &got);
        expect(r == 0 || r == LARDER_END || r == LARDER_LOST || r == -EINVAL);
    }
    stop();
}
END_TEST

/* The handle comes to another daemon in the middle of a scan. */
START_TEST(test_scan_of_a_daemon_that_goes)
{
    static const char *const options[] = {"--memory", "24M", NULL};
    struct daemon_fixture first, second;
    char link[64], key[8];
    struct larder_entry e = {.size = sizeof e, .key = key, .key_capacity = sizeof key};
    struct larder_cursor cursor = {.size = sizeof cursor};
    size_t got;
    snprintf(link, sizeof link, "/tmp/larder-test-scan.%d", (int)getpid());
    daemon_start(&first, NULL, options);
    ck_assert_int_eq(symlink(first.socket, link), 0);
    const struct larder_options o = {.size = sizeof o, .socket = link, .busy_timeout_ms = 10000};
    ck_assert_int_eq(larder_open(&handle, &o), 0);
    ns = larder_default(handle);
    set(ns, "a", "1", 0, 0);
    set(ns, "b", "1", 0, 0);
    ck_assert_int_eq(larder_scan(ns, &cursor, NULL, &e, 1, &got), 0);
    daemon_stop(&first);
    ck_assert_int_eq(larder_scan(ns, &cursor, NULL, &e, 1, &got), 0); /* what is there can still be read */
    daemon_start(&second, NULL, options);
    ck_assert_int_eq(unlink(link), 0);
    ck_assert_int_eq(symlink(second.socket, link), 0);
    uint64_t end = lrd_clock_ns() + UINT64_C(10000000000);
    const struct larder_set_options wait = {.size = sizeof wait, .how = LARDER_SET_WAIT};
    while (larder_set(ns, "c", 1, "1", 1, &wait, NULL) != 0 && lrd_clock_ns() < end)
        pause_us(10000);
    ck_assert_int_eq(larder_scan(ns, &cursor, NULL, &e, 1, &got), LARDER_LOST);
    ck_assert_uint_eq(got, 0);
    cursor = (struct larder_cursor){.size = sizeof cursor};
    ck_assert_int_eq(larder_scan(ns, &cursor, NULL, &e, 1, &got), 0);
    ck_assert(e.key_size == 1 && key[0] == 'c');
    larder_close(handle);
    daemon_stop(&second);
    unlink(link);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("scan");
    TCase *walks = tcase_create("walks"), *globs = tcase_create("patterns"), *daemons = tcase_create("daemon");
    tcase_add_loop_test(walks, test_what_stays_is_seen, 0, 3);
    tcase_add_test(walks, test_quiet_walk_sees_each_once);
    tcase_add_test(walks, test_four_passes);
    tcase_add_test(walks, test_move_under_way_at_the_beginning);
    tcase_add_test(walks, test_intent_that_stays);
    tcase_add_test(walks, test_block_goes_under_a_look);
    tcase_add_test(globs, test_patterns);
    tcase_add_test(globs, test_patterns_against_a_plain_matcher);
    tcase_add_test(globs, test_patterns_of_any_bytes);
    tcase_add_test(globs, test_patterns_that_are_hard);
    tcase_add_test(daemons, test_scan_all);
    tcase_add_test(daemons, test_scan_some);
    tcase_add_test(daemons, test_what_an_entry_says);
    tcase_add_test(daemons, test_what_cannot_be_asked);
    tcase_add_test(daemons, test_scan_of_a_daemon_that_goes);
    tcase_set_timeout(walks, fixture_long() ? 600 : 20);
    tcase_set_timeout(daemons, 60);
    suite_add_tcase(s, walks);
    suite_add_tcase(s, globs);
    suite_add_tcase(s, daemons);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
