/* Feeds: what a reader gets at each instant of the writing of an entry, what becomes of an entry whose worker dies after each of its stores, what is an event and what is none, and where feeds lie.
 * The writing half is compiled in with its stores noted (noted.h). */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/feed.h"
#include "shm/namespace.h"
#include "tests/noted.h"
#include "tests/segment_fixture.h"

#define ENTRIES 64u

/* In loops: Check's own macros write to a file each time. */
#define expect(x) ((x) ? (void)0 : ck_abort_msg("%s", #x))

static struct fixture f;
static const struct lrd_feed *feed;
static uint32_t entries;

static void setup(void)
{
    fixture_make(&f, 64, 16, 16);
    lrd_store_relaxed(&f.store.namespaces[0].feed, lrd_feed_make(ENTRIES, 1));
    feed = lrd_feed_of(&f.reader, 0, &entries);
    ck_assert_ptr_nonnull(feed);
    ck_assert_uint_eq(entries, ENTRIES);
}

static void teardown(void) { fixture_drop(&f); }

/* An entry that certifies itself: of change number x. */
static void note(uint64_t x)
{
    uint64_t key[4] = {x, ~x, x * 3, x * 5};
    lrd_feed_note_now(&f.store, &(struct lrd_note){.event = LRD_EVENT_SET, .key_len = sizeof key, .key = key, .hash = x * 7, .version = x * 11, .now_ms = x * 13});
}

static bool is_of(const struct lrd_happened *h, uint64_t x)
{
    return h->hash == x * 7 && h->version == x * 11 && h->when_ms == x * 13 && h->key[0] == x && h->key[1] == ~x && h->key[2] == x * 3 && h->key[3] == x * 5 &&
           lrd_feed_event(h->what) == LRD_EVENT_SET && lrd_feed_key_len(h->what) == 32;
}

static enum lrd_feed_look look(uint64_t i, struct lrd_happened *h) { return lrd_feed_read(feed, entries, i, h); }

/* ---- the ring ---- */

START_TEST(test_what_is_there)
{
    struct lrd_happened h;
    expect(look(0, &h) == LRD_FEED_NOTHING);
    for (uint64_t n = 1; n <= 5 * ENTRIES; n++) {
        note(n - 1);
        for (uint64_t i = 0; i < n; i++) {
            enum lrd_feed_look l = look(i, &h);
            expect(l == (i + ENTRIES < n ? LRD_FEED_OVERTAKEN : LRD_FEED_GOT));
            expect(l != LRD_FEED_GOT || is_of(&h, i));
        }
        expect(look(n, &h) == LRD_FEED_NOTHING && look(n + 1, &h) == LRD_FEED_NOTHING && lrd_feed_end(feed) == n);
    }
}
END_TEST

/* A reader that comes between any two stores, and a writer that begins again after each of them. */
START_TEST(test_no_entry_is_torn)
{
    struct lrd_happened h;
    for (uint64_t n = 0; n < 3 * ENTRIES; n++) {
        n_notes = 0;
        noting = true;
        note(n);
        noting = false;
        unsigned all = n_notes;
        take_back(0, all);
        for (unsigned k = 0; k < all; k++) {
            make_again(0, k);
            for (uint64_t i = n > ENTRIES ? n - ENTRIES : 0; i < n; i++) {
                enum lrd_feed_look l = look(i, &h);
                expect(l == LRD_FEED_GOT ? is_of(&h, i) : l == LRD_FEED_OVERTAKEN && i + ENTRIES == n);
            }
            expect(look(n, &h) == LRD_FEED_NOTHING);
            take_back(0, k);
        }
        make_again(0, all);
        expect(look(n, &h) == LRD_FEED_GOT && is_of(&h, n));
    }
}
END_TEST

/* ---- an entry and its change are one ---- */

static void put(uint32_t ns, const char *key, const char *value)
{
    fixture_put(&f, &(struct fixture_item){.ns = ns, .key = key, .key_len = (uint32_t)strlen(key), .value = value, .value_len = (uint32_t)strlen(value)});
}

static uint64_t version_of(uint32_t ns, const char *key)
{
    struct lrd_get get;
    char buffer[64];
    if (fixture_get(&f.reader, ns, key, (uint32_t)strlen(key), buffer, sizeof buffer, &get) != LRD_FOUND)
        return 0;
    return (uint64_t)lrd_block_word_generation(get.block_word) << 32 | lrd_slot_location(get.slot);
}

/* A second entry in the same intent, as of a victim. */
static void change(struct lrd_new_item *staged, bool two)
{
    lrd_journal_begin(&f.journal);
    if (two)
        lrd_feed_note(&f.store, &f.journal, &(struct lrd_note){.event = LRD_EVENT_EVICTED, .hash = 99});
    lrd_table_put(&f.table, staged, fixture_now_ms(&f.reader));
    lrd_journal_close(&f.journal);
    lrd_journal_add(&f.journal, &f.store.lanes[0].applied, 1);
    lrd_journal_commit(&f.journal);
}

START_TEST(test_a_death_loses_no_entry_and_doubles_none)
{
    struct lrd_happened h;
    for (uint64_t n = 0; n < ENTRIES; n++)
        note(n);
    bool two = _i != 0;
    uint64_t before = lrd_feed_end(feed);
    put(0, "key", "old");
    uint64_t was = version_of(0, "key"), base = before + 1;
    struct fixture_item item = {.key = "key", .key_len = 3, .value = "new", .value_len = 3};
    struct lrd_new_item staged;
    fixture_fill(&f, &item, fixture_alloc(&f, &item), &staged);
    n_notes = 0;
    noting = true;
    change(&staged, two);
    noting = false;
    unsigned all = n_notes, happened = 0;
    uint64_t is = version_of(0, "key");
    expect(is != was);
    for (unsigned k = 0; k <= all; k++) {
        n_notes = all;
        take_back(0, all);
        make_again(0, k);
        /* Seen before it is done, or by who looks on meanwhile: never the entry without the change. */
        expect(lrd_feed_end(feed) == base || version_of(0, "key") == is);
        /* Never the position without the entry. */
        expect(lrd_load_relaxed(&f.store.lanes[0].applied) == notes[all - 2].before || lrd_feed_end(feed) == base + 1 + two);
        noting = true;
        lrd_journal_recover(&f.store);
        bool done = version_of(0, "key") == is;
        happened += done;
        expect(lrd_feed_end(feed) == base + (done ? 1 + two : 0));
        if (done)
            expect(look(base + two, &h) == LRD_FEED_GOT && h.version == is && memcmp(h.key, "key", 3) == 0);
        /* What the next worker writes is one entry, of which a dead one may have claimed two; what is still read is whole. */
        uint64_t end = lrd_feed_end(feed);
        lrd_feed_note_now(&f.store, &(struct lrd_note){.event = LRD_EVENT_RESET, .hash = 5});
        expect(look(end, &h) == LRD_FEED_GOT && h.hash == 5);
        for (uint64_t i = before - ENTRIES; i < before; i++)
            expect(look(i, &h) == LRD_FEED_OVERTAKEN || is_of(&h, i));
        noting = false;
        take_back(all, n_notes);
        make_again(0, all);
    }
    expect(happened > 0 && happened < all);
}
END_TEST

/* ---- what is an event ---- */

static uint64_t seen;

static bool is_next(enum lrd_event event, enum lrd_cause cause, const char *key, uint64_t version)
{
    struct lrd_happened h;
    uint32_t n = key != NULL ? (uint32_t)strlen(key) : 0;
    if (look(seen, &h) != LRD_FEED_GOT)
        return false;
    seen++;
    return lrd_feed_event(h.what) == event && lrd_feed_cause(h.what) == cause && lrd_feed_key_len(h.what) == n && memcmp(h.key, key != NULL ? key : "", n) == 0 &&
           h.version == version && h.hash == (n != 0 ? lrd_hash(f.reader.hash_seed, 0, key, n) : 0);
}

static bool is_all(void) { return lrd_feed_end(feed) == seen; }

/* An item of another kind. */
static void put_kind(uint32_t kind)
{
    struct fixture_item item = {.key = "key", .key_len = 3, .value = NULL, .value_len = 40};
    struct lrd_new_item staged;
    uint32_t location = fixture_alloc(&f, &item);
    fixture_fill(&f, &(struct fixture_item){.key = "key", .key_len = 3, .value = "01234567890123456789012345678901234567890", .value_len = 40}, location, &staged);
    unsigned char *at = f.store.arena + ((uint64_t)location << 3);
    struct lrd_item_head head = {lrd_item_word0(0, 0), lrd_item_word1(0, 0, 3, kind)};
    memmove(at + lrd_item_key_off(kind), "key", 3);
    lrd_store_relaxed(&((struct lrd_item *)(void *)at)->word0, head.word0);
    lrd_store_relaxed(&((struct lrd_item *)(void *)at)->word1, head.word1);
    staged.key = at + lrd_item_key_off(kind);
    lrd_journal_begin(&f.journal);
    lrd_table_put(&f.table, &staged, fixture_now_ms(&f.reader));
    lrd_journal_commit(&f.journal);
}

START_TEST(test_events)
{
    seen = 0;
    put(1, "other", "v");
    expect(is_all());
    put(0, "key", "v");
    expect(is_next(LRD_EVENT_SET, LRD_CAUSE_NONE, "key", version_of(0, "key")) && is_all());
    put(0, "key", "w");
    expect(is_next(LRD_EVENT_SET, LRD_CAUSE_NONE, "key", version_of(0, "key")) && is_all());
    expect(fixture_move(&f, 0, "key", 3, 0) && is_all()); /* its value is the same */
    expect(fixture_delete(&f, 0, "key", 3));
    expect(is_next(LRD_EVENT_DELETE, LRD_CAUSE_DELETED, "key", 0) && is_all());
    expect(!fixture_delete(&f, 0, "key", 3) && is_all());
    put_kind(LRD_ITEM_LEASE);
    expect(is_all());
    put_kind(LRD_ITEM_ABSENT);
    expect(is_next(LRD_EVENT_DELETE, LRD_CAUSE_NONE, "key", 0) && is_all());
    uint32_t block = f.arena.ns[0].open[0];
    lrd_arena_close(&f.arena, 0, 0);
    lrd_arena_free_block(&f.arena, block, LRD_CAUSE_EXPIRED, 9, 1, 24);
    expect(is_next(LRD_EVENT_BLOCK, LRD_CAUSE_EXPIRED, NULL, 0) && is_all());
    put(0, "key", "v");
    expect(is_next(LRD_EVENT_SET, LRD_CAUSE_NONE, "key", version_of(0, "key")));
    expect(fixture_delete(&f, 0, "key", 3) && is_next(LRD_EVENT_DELETE, LRD_CAUSE_DELETED, "key", 0));
    block = f.arena.ns[0].open[0];
    lrd_arena_close(&f.arena, 0, 0);
    lrd_arena_free_if_empty(&f.arena, block, 9);
    expect(is_all()); /* nothing was alive in it */
    lrd_segment_clear(&f.store);
    expect(is_next(LRD_EVENT_RESET, LRD_CAUSE_EVICTED, NULL, 0) && is_all());
}
END_TEST

/* A table so full that items have to go one by one. */
START_TEST(test_victims)
{
    struct fixture small;
    uint64_t sets = 0, evicted = 0;
    fixture_make(&small, 2, 16, 16);
    lrd_store_relaxed(&small.store.namespaces[0].feed, lrd_feed_make(128, 0));
    const struct lrd_feed *its = lrd_feed_of(&small.reader, 0, &entries);
    for (uint32_t id = 0; id < 100; id++)
        fixture_put(&small, &(struct fixture_item){.key = &id, .key_len = sizeof id});
    for (uint64_t i = 0; i < lrd_feed_end(its); i++) {
        struct lrd_happened h;
        enum lrd_feed_look l = lrd_feed_read(its, entries, i, &h);
        if (l != LRD_FEED_GOT)
            continue;
        uint32_t id;
        memcpy(&id, h.key, sizeof id);
        expect(h.hash == lrd_hash(small.reader.hash_seed, 0, &id, sizeof id));
        sets += lrd_feed_event(h.what) == LRD_EVENT_SET;
        evicted += lrd_feed_event(h.what) == LRD_EVENT_EVICTED;
    }
    expect(lrd_feed_end(its) == 100 + fixture_counter(&small.reader, LRD_C_no_room));
    expect(sets > 0 && evicted > 0 && sets + evicted == 128);
    fixture_drop(&small);
}
END_TEST

/* ---- where they lie ---- */

START_TEST(test_what_does_not_fit_is_none)
{
    lrd_u64 *word = &f.store.namespaces[0].feed;
    static const uint64_t bad[] = {UINT64_C(64) << 32 | 2, UINT64_C(65) << 32, UINT64_C(1) << 63, UINT64_C(64) << 32 | UINT32_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        lrd_store_relaxed(word, bad[i]);
        ck_assert_ptr_null(lrd_feed_of(&f.reader, 0, &entries));
    }
    lrd_store_relaxed(word, lrd_feed_make(128, 0));
    ck_assert_ptr_nonnull(lrd_feed_of(&f.reader, 0, &entries));
}
END_TEST

START_TEST(test_specs)
{
    struct lrd_ns_spec spec;
    char why[200];
    ck_assert(lrd_ns_spec_parse("a,feed=4096", &spec, why, sizeof why));
    ck_assert_uint_eq(spec.feed_entries, 4096);
    static const char *const bad[] = {"a,feed=", "a,feed=0", "a,feed=-1", "a,feed=4K", "a,feed=67108865", "a,feed=99999999999999999999", "a,feed=1,feed=2", "a,feed"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(!lrd_ns_spec_parse(bad[i], &spec, why, sizeof why), "%s", bad[i]);
    ck_assert_uint_eq(lrd_feed_round(0), 0);
    ck_assert_uint_eq(lrd_feed_round(1), 64);
    ck_assert_uint_eq(lrd_feed_round(64), 64);
    ck_assert_uint_eq(lrd_feed_round(65), 128);
    ck_assert_uint_eq(lrd_feed_round(LRD_FEED_MOST), LRD_FEED_MOST);
    ck_assert_uint_eq(lrd_feed_round(UINT32_MAX), UINT32_MAX);
}
END_TEST

static struct lrd_geometry geometry = {.n_blocks = 64, .block_shift = 16, .feed_pages = 16};

START_TEST(test_feeds_do_not_overlap)
{
    struct lrd_namespace all[LRD_NAMESPACES];
    char why[200];
    const struct lrd_ns_spec specs[] = {{.name = "a", .feed_entries = 100}, {.name = "b"}, {.name = "default", .feed_entries = 1}, {.name = "c", .feed_entries = 64}, {.name = "d", .feed_entries = 500}};
    ck_assert_int_eq(lrd_ns_plan(&geometry, specs, 4, all, why, sizeof why), LRD_ANSWER_OK);
    ck_assert_uint_eq(lrd_load_relaxed(&all[1].feed), lrd_feed_make(128, 0)); /* 3 pages */
    ck_assert_uint_eq(lrd_load_relaxed(&all[2].feed), 0);
    ck_assert_uint_eq(lrd_load_relaxed(&all[0].feed), lrd_feed_make(64, 3)); /* 2 pages */
    ck_assert_uint_eq(lrd_load_relaxed(&all[3].feed), lrd_feed_make(64, 5));
    ck_assert_int_eq(lrd_ns_plan(&geometry, specs, 5, all, why, sizeof why), LRD_ANSWER_OK); /* 9 pages: to the end */
    geometry.feed_pages = 15;
    ck_assert_int_eq(lrd_ns_plan(&geometry, specs, 5, all, why, sizeof why), LRD_ANSWER_NO_QUOTA);
    ck_assert_ptr_nonnull(strstr(why, "--feeds"));
    const struct lrd_ns_spec huge = {.name = "a", .feed_entries = LRD_FEED_MOST + 1};
    ck_assert_int_eq(lrd_ns_plan(&geometry, &huge, 1, all, why, sizeof why), LRD_ANSWER_MALFORMED);
}
END_TEST

START_TEST(test_clients_share_a_part)
{
    uint32_t ns;
    char why[200];
    struct fixture g = f;
    g.store.r.geometry.feed_pages = 16; /* on paper */
    lrd_store_relaxed(&g.store.namespaces[0].feed, 0);
    const struct lrd_ns_spec a = {.name = "a", .feed_entries = 64}, b = {.name = "b", .feed_entries = 64}, c = {.name = "c", .feed_entries = 64}, other = {.name = "a", .feed_entries = 65};
    ck_assert_int_eq(lrd_ns_add_for_client(&g.store, &a, 9, &ns, why, sizeof why), LRD_ANSWER_OK);
    ck_assert_int_eq(lrd_ns_add_for_client(&g.store, &a, 9, &ns, why, sizeof why), LRD_ANSWER_OK);
    ck_assert_int_eq(lrd_ns_add_for_client(&g.store, &other, 9, &ns, why, sizeof why), LRD_ANSWER_EXISTS);
    ck_assert_int_eq(lrd_ns_add_for_client(&g.store, &b, 9, &ns, why, sizeof why), LRD_ANSWER_OK); /* 4 of 16 pages */
    ck_assert_int_eq(lrd_ns_add_for_client(&g.store, &c, 9, &ns, why, sizeof why), LRD_ANSWER_NO_QUOTA);
    ck_assert_int_eq(lrd_ns_add(&g.store, &c, &ns, why, sizeof why), LRD_ANSWER_OK);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("feed");
    TCase *t = tcase_create("feed");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_what_is_there);
    tcase_add_test(t, test_no_entry_is_torn);
    tcase_add_loop_test(t, test_a_death_loses_no_entry_and_doubles_none, 0, 2);
    tcase_add_test(t, test_events);
    tcase_add_test(t, test_victims);
    tcase_add_test(t, test_what_does_not_fit_is_none);
    tcase_add_test(t, test_specs);
    tcase_add_test(t, test_feeds_do_not_overlap);
    tcase_add_test(t, test_clients_share_a_part);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
