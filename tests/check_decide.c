/* Conditional writes, decided on a segment of the test's own: what each asks for, against an item that is there, is not, has expired, is stale, is leased, is known to be absent. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/decide.h"
#include "shm/item.h"
#include "tests/segment_fixture.h"

#define HOUR_MS 3600000u

static struct fixture f;
static struct lrd_evict *evict;
static struct lrd_credits credits;
static struct lrd_decider decider;
static uint64_t now_ms;
static uint64_t who = 1; /* holder: lane 0, incarnation 1 */

static void setup(void)
{
    fixture_make(&f, 97, 64, 16);
    ck_assert_int_eq(lrd_evict_create(&evict, &f.store, &f.arena, &f.table, &f.journal), 0);
    lrd_credits_init(&credits, &f.store, &f.arena, &f.journal);
    decider = (struct lrd_decider){&f.store, &f.arena, &f.table, &f.journal, evict, &credits};
    for (uint32_t i = 0; i < FIXTURE_LANES; i++) {
        lrd_store32_relaxed(&f.store.lanes[i].state, LRD_LANE_LIVE);
        lrd_store32_relaxed(&f.store.lanes[i].incarnation, 1);
    }
    now_ms = fixture_now_ms(&f.reader) + 10;
    who = 1;
}

static void teardown(void)
{
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
    lrd_evict_destroy(evict);
    fixture_drop(&f);
}

struct wish {
    enum lrd_record_kind kind;
    const char *value;
    uint32_t value_len; /* 0: of value */
    uint32_t item_kind, flags;
    uint64_t expires_ms;
    struct lrd_args args;
};

static struct lrd_decision out;

static enum lrd_answer wish(const char *key, struct wish w)
{
    static unsigned char payload[1 << 15];
    uint32_t len = w.value_len != 0 ? w.value_len : w.value != NULL ? (uint32_t)strlen(w.value) : 0;
    if (w.value != NULL)
        memcpy(payload, w.value, len);
    const struct lrd_record rec = {.kind = (uint8_t)w.kind, .item_kind = (uint8_t)w.item_kind, .key_len = (uint16_t)strlen(key), .value_len = len, .flags = w.flags, .epoch = 1, .expires_ms = w.expires_ms};
    const struct lrd_ask ask = {.record = &rec,
                                .args = w.kind == LRD_RECORD_SET ? NULL : &w.args,
                                .key = (const unsigned char *)key,
                                .payload = payload,
                                .hash = lrd_hash(f.store.r.hash_seed, 0, key, strlen(key)),
                                .holder = who};
    lrd_decide_plan(&decider, &ask, &out, now_ms);
    if (out.change == LRD_CHANGE_PUT) {
        out.location = lrd_decide_room(&decider, out.head, ask.hash, out.old, now_ms);
        ck_assert_uint_ne(out.location, 0);
        /* in steps of 7: an item of two pieces is cut anywhere */
        while (!lrd_decide_copy(&decider, &ask, &out, 7))
            ck_assert(lrd_decide_still(&decider, &ask, &out, now_ms));
    }
    lrd_journal_begin(&f.journal);
    uint32_t emptied = lrd_decide_step(&decider, &ask, &out, now_ms);
    lrd_journal_commit(&f.journal);
    if (emptied != LRD_NO_BLOCK)
        lrd_arena_free_if_empty(&f.arena, emptied, now_ms);
    return out.answer;
}

#define WISH(key, ...) wish(key, (struct wish){__VA_ARGS__})
#define SET(key, v, ...) WISH(key, .kind = LRD_RECORD_SET, .value = (v), ##__VA_ARGS__)
#define PUT(key, v, cond, ...) WISH(key, .kind = LRD_RECORD_PUT, .value = (v), .args = {.condition = (cond), ##__VA_ARGS__})
#define INCR(key, n, ...) WISH(key, .kind = LRD_RECORD_INCR, .args = {.by = (n), ##__VA_ARGS__})
#define LEASE(key) WISH(key, .kind = LRD_RECORD_LEASE, .expires_ms = now_ms + 1000)

static struct lrd_get got;
static char value[1 << 15];

/* What a get sees: its text, or why not. */
static const char *seen(const char *key)
{
    memset(value, 0, sizeof value);
    got = (struct lrd_get){.key = key,
                           .key_len = (uint32_t)strlen(key),
                           .hash = lrd_hash(f.store.r.hash_seed, 0, key, strlen(key)),
                           .buffer = value,
                           .capacity = sizeof value - 1,
                           .zero_ns = lrd_clock_coarse_ns() - now_ms * 1000000};
    switch (lrd_table_get(&f.reader, &got)) {
    case LRD_FOUND:
        return value;
    case LRD_KNOWN_ABSENT:
        return "(absent)";
    case LRD_TOO_SMALL:
        return "(large)";
    default:
        return "(miss)";
    }
}

static uint64_t version(const char *key)
{
    ck_assert_str_ne(seen(key), "(miss)");
    return (uint64_t)lrd_block_word_generation(got.block_word) << 32 | lrd_slot_location(got.slot);
}

START_TEST(test_add_and_replace)
{
    ck_assert_int_eq(PUT("a", "1", LRD_IF_PRESENT), LRD_ANSWER_MISSING);
    ck_assert_str_eq(seen("a"), "(miss)");
    ck_assert_int_eq(PUT("a", "2", LRD_IF_ABSENT), LRD_ANSWER_OK);
    ck_assert_uint_eq(out.version, version("a"));
    ck_assert_int_eq(PUT("a", "3", LRD_IF_ABSENT), LRD_ANSWER_PRESENT);
    ck_assert_uint_eq(out.version, version("a"));
    ck_assert_str_eq(seen("a"), "2");
    ck_assert_int_eq(PUT("a", "4", LRD_IF_PRESENT), LRD_ANSWER_OK);
    ck_assert_str_eq(seen("a"), "4");
    /* what has expired is not there */
    SET("b", "old", .expires_ms = now_ms - 1);
    ck_assert_int_eq(PUT("b", "5", LRD_IF_PRESENT), LRD_ANSWER_MISSING);
    ck_assert_int_eq(PUT("b", "6", LRD_IF_ABSENT), LRD_ANSWER_OK);
    ck_assert_str_eq(seen("b"), "6");
    ck_assert_uint_eq(fixture_counter(&f.reader, LRD_C_conditional), 3);
    ck_assert_uint_eq(fixture_counter(&f.reader, LRD_C_unmet), 3);
}
END_TEST

START_TEST(test_cas)
{
    SET("a", "1");
    uint64_t v = version("a");
    ck_assert_int_eq(PUT("a", "2", LRD_IF_VERSION, .version = v + 1), LRD_ANSWER_CHANGED);
    ck_assert_uint_eq(out.version, v);
    ck_assert_int_eq(PUT("a", "2", LRD_IF_VERSION, .version = v), LRD_ANSWER_OK);
    ck_assert_int_eq(PUT("a", "3", LRD_IF_VERSION, .version = v), LRD_ANSWER_CHANGED);
    ck_assert_str_eq(seen("a"), "2");
    ck_assert_int_eq(PUT("none", "3", LRD_IF_VERSION, .version = v), LRD_ANSWER_MISSING);
    /* the same bits of generation in a slot are not the same version */
    v = version("a");
    ck_assert_int_eq(PUT("a", "3", LRD_IF_VERSION, .version = v + (UINT64_C(1) << 48)), LRD_ANSWER_CHANGED);
    ck_assert_int_eq(WISH("a", .kind = LRD_RECORD_DELETE_IF, .args = {.condition = LRD_IF_VERSION, .version = v - 1}), LRD_ANSWER_CHANGED);
    ck_assert_int_eq(WISH("a", .kind = LRD_RECORD_DELETE_IF, .args = {.condition = LRD_IF_VERSION, .version = v}), LRD_ANSWER_OK);
    ck_assert_str_eq(seen("a"), "(miss)");
    ck_assert_int_eq(WISH("a", .kind = LRD_RECORD_DELETE_IF), LRD_ANSWER_MISSING);
}
END_TEST

/* Moved by reclaim: another version, and a fresh look has it. */
START_TEST(test_cas_after_a_move)
{
    SET("a", "1");
    uint64_t v = version("a");
    ck_assert(fixture_move(&f, 0, "a", 1, 1));
    ck_assert_int_eq(PUT("a", "2", LRD_IF_VERSION, .version = v), LRD_ANSWER_CHANGED);
    ck_assert_int_eq(PUT("a", "2", LRD_IF_VERSION, .version = version("a")), LRD_ANSWER_OK);
}
END_TEST

START_TEST(test_incr)
{
    ck_assert_int_eq(INCR("n", 5), LRD_ANSWER_MISSING);
    ck_assert_int_eq(WISH("n", .kind = LRD_RECORD_INCR, .flags = 7, .expires_ms = now_ms + HOUR_MS, .args = {.by = 5, .flags = LRD_INCR_CREATE, .initial = 100}), LRD_ANSWER_OK);
    ck_assert_int_eq((int64_t)out.number, 105);
    ck_assert_str_eq(seen("n"), "105");
    ck_assert_uint_eq(lrd_item_flags(got.head), 7);
    ck_assert_uint_eq(lrd_item_expires_ms(got.head), now_ms + HOUR_MS);
    /* an existing one keeps what it has */
    ck_assert_int_eq(INCR("n", -200), LRD_ANSWER_OK);
    ck_assert_str_eq(seen("n"), "-95");
    ck_assert_uint_eq(lrd_item_flags(got.head), 7);
    ck_assert_uint_eq(lrd_item_expires_ms(got.head), now_ms + HOUR_MS);
    static const struct {
        const char *text;
        int64_t by;
        enum lrd_answer answer;
        const char *after;
    } cases[] = {
        {"9223372036854775806", 1, LRD_ANSWER_OK, "9223372036854775807"},
        {"9223372036854775807", 1, LRD_ANSWER_OVERFLOW, "9223372036854775807"},
        {"-9223372036854775808", -1, LRD_ANSWER_OVERFLOW, "-9223372036854775808"},
        {"-9223372036854775807", -1, LRD_ANSWER_OK, "-9223372036854775808"},
        {"0", INT64_MIN, LRD_ANSWER_OK, "-9223372036854775808"},
        {"-1", INT64_MIN, LRD_ANSWER_OVERFLOW, "-1"},
        {"9223372036854775808", 1, LRD_ANSWER_NO_NUMBER, "9223372036854775808"},
        {"007", 1, LRD_ANSWER_OK, "8"},
        {"-0", 1, LRD_ANSWER_OK, "1"},
        {"1 ", 1, LRD_ANSWER_NO_NUMBER, "1 "},
        {"+1", 1, LRD_ANSWER_NO_NUMBER, "+1"},
        {"-", 1, LRD_ANSWER_NO_NUMBER, "-"},
        {"1e3", 1, LRD_ANSWER_NO_NUMBER, "1e3"},
        {"000000000000000000001", 1, LRD_ANSWER_NO_NUMBER, "000000000000000000001"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        SET("m", cases[i].text);
        ck_assert_int_eq(INCR("m", cases[i].by), cases[i].answer);
        ck_assert_str_eq(seen("m"), cases[i].after);
    }
    WISH("empty", .kind = LRD_RECORD_SET);
    ck_assert_int_eq(INCR("empty", 1), LRD_ANSWER_NO_NUMBER);
    ck_assert_int_eq(WISH("over", .kind = LRD_RECORD_INCR, .args = {.by = 1, .flags = LRD_INCR_CREATE, .initial = INT64_MAX}), LRD_ANSWER_OVERFLOW);
    ck_assert_str_eq(seen("over"), "(miss)");
    /* no room for the digits: what it would have been is not said */
    static char key[1025];
    memset(key, 'k', sizeof key - 1);
    uint32_t item_max = f.store.r.geometry.item_max;
    f.store.r.geometry.item_max = 64;
    ck_assert_int_eq(WISH(key, .kind = LRD_RECORD_INCR, .args = {.by = 1, .flags = LRD_INCR_CREATE, .initial = 41}), LRD_ANSWER_TOO_LARGE);
    ck_assert_uint_eq(out.number, 0);
    f.store.r.geometry.item_max = item_max;
}
END_TEST

START_TEST(test_append_prepend_touch)
{
    ck_assert_int_eq(WISH("a", .kind = LRD_RECORD_APPEND, .value = "x"), LRD_ANSWER_MISSING);
    ck_assert_int_eq(WISH("a", .kind = LRD_RECORD_TOUCH, .expires_ms = now_ms + 5), LRD_ANSWER_MISSING);
    SET("a", "middle", .flags = 3, .expires_ms = now_ms + 100);
    ck_assert_int_eq(WISH("a", .kind = LRD_RECORD_APPEND, .value = " and the end"), LRD_ANSWER_OK);
    ck_assert_int_eq(WISH("a", .kind = LRD_RECORD_PREPEND, .value = "the beginning, "), LRD_ANSWER_OK);
    ck_assert_str_eq(seen("a"), "the beginning, middle and the end");
    ck_assert_uint_eq(lrd_item_flags(got.head), 3);
    ck_assert_uint_eq(lrd_item_expires_ms(got.head), now_ms + 100);
    ck_assert_int_eq(WISH("a", .kind = LRD_RECORD_TOUCH, .expires_ms = now_ms + HOUR_MS), LRD_ANSWER_OK);
    ck_assert_str_eq(seen("a"), "the beginning, middle and the end");
    ck_assert_uint_eq(lrd_item_flags(got.head), 3);
    ck_assert_uint_eq(lrd_item_expires_ms(got.head), now_ms + HOUR_MS);
    /* no further than the largest item */
    char *large = calloc(1, 20000);
    memset(large, 'l', 20000);
    WISH("a", .kind = LRD_RECORD_SET, .value = large, .value_len = 20000);
    ck_assert_int_eq(WISH("a", .kind = LRD_RECORD_APPEND, .value = large, .value_len = 13000), LRD_ANSWER_TOO_LARGE);
    ck_assert_int_eq(WISH("a", .kind = LRD_RECORD_APPEND, .value = large, .value_len = 12000), LRD_ANSWER_OK);
    seen("a");
    ck_assert_uint_eq(lrd_item_value_len(got.head), 32000);
    free(large);
}
END_TEST

/* Values at multiples of 64, of keys of all lengths, wherever they are moved. */
START_TEST(test_aligned)
{
    char key[70] = "", text[100];
    for (unsigned i = 0; i < 64; i++) {
        key[i] = 'k';
        snprintf(text, sizeof text, "value of %u", i);
        ck_assert_int_eq(WISH(key, .kind = LRD_RECORD_PUT, .item_kind = LRD_ITEM_ALIGNED | (i % 3 == 0 ? LRD_ITEM_SOFT : 0), .value = text, .args = {.soft_ms = i % 3 == 0 ? now_ms + 9 : 0}),
                         LRD_ANSWER_OK);
        SET("odd", text); /* of many lengths */
        ck_assert_int_eq(WISH(key, .kind = LRD_RECORD_APPEND, .value = "!"), LRD_ANSWER_OK);
        strcat(text, "!");
        ck_assert_str_eq(seen(key), text);
        uint64_t off = lrd_arena_off(&f.reader, got.slot);
        ck_assert_uint_eq((off + lrd_item_value_off(lrd_item_kind(got.head), i + 1, off)) % 64, 0);
        ck_assert_uint_le(lrd_item_value_off(lrd_item_kind(got.head), i + 1, off) + lrd_item_value_len(got.head), lrd_item_bytes_of(got.head, 3));
        ck_assert_uint_eq(got.words.soft_ms, i % 3 == 0 ? now_ms + 9 : 0);
    }
}
END_TEST

START_TEST(test_absent)
{
    ck_assert_int_eq(WISH("a", .kind = LRD_RECORD_PUT, .item_kind = LRD_ITEM_ABSENT, .expires_ms = now_ms + 50), LRD_ANSWER_OK);
    ck_assert_str_eq(seen("a"), "(absent)");
    ck_assert_int_eq(PUT("a", "v", LRD_IF_PRESENT), LRD_ANSWER_MISSING);
    ck_assert_int_eq(WISH("a", .kind = LRD_RECORD_APPEND, .value = "v"), LRD_ANSWER_MISSING);
    ck_assert_int_eq(INCR("a", 1), LRD_ANSWER_MISSING);
    ck_assert_int_eq(LEASE("a"), LRD_ANSWER_PRESENT);
    now_ms += 51;
    ck_assert_str_eq(seen("a"), "(miss)");
    ck_assert_int_eq(WISH("a", .kind = LRD_RECORD_PUT, .item_kind = LRD_ITEM_ABSENT, .expires_ms = now_ms + 50), LRD_ANSWER_OK);
    ck_assert_int_eq(PUT("a", "v", LRD_IF_ABSENT), LRD_ANSWER_OK);
    ck_assert_str_eq(seen("a"), "v");
}
END_TEST

START_TEST(test_lease)
{
    ck_assert_int_eq(LEASE("a"), LRD_ANSWER_OK);
    uint64_t token = out.version;
    ck_assert_uint_ne(token, 0);
    ck_assert_str_eq(seen("a"), "(miss)");
    ck_assert_uint_eq(got.words.lease.token, token);
    ck_assert_uint_eq(got.words.lease.holder, who);
    ck_assert_int_eq(LEASE("a"), LRD_ANSWER_HELD); /* the holder itself too */
    ck_assert_uint_eq(out.number, now_ms + 1000);
    ck_assert_int_eq(PUT("a", "v", LRD_IF_PRESENT), LRD_ANSWER_MISSING);
    ck_assert_int_eq(PUT("a", "v", LRD_IF_LEASE, .version = token + 1), LRD_ANSWER_VOID);
    ck_assert_int_eq(PUT("a", "v", LRD_IF_LEASE, .version = token), LRD_ANSWER_OK);
    ck_assert_str_eq(seen("a"), "v");
    ck_assert_int_eq(PUT("a", "w", LRD_IF_LEASE, .version = token), LRD_ANSWER_VOID); /* once */
    ck_assert_int_eq(LEASE("a"), LRD_ANSWER_PRESENT);
    ck_assert_int_eq(PUT("a", "w", LRD_IF_LEASE, .version = 0), LRD_ANSWER_VOID);
}
END_TEST

static uint64_t leased(const char *key)
{
    ck_assert_int_eq(LEASE(key), LRD_ANSWER_OK);
    return out.version;
}

START_TEST(test_ends_of_a_lease)
{
    /* a newer set, add, incr; a delete */
    uint64_t token = leased("a");
    SET("a", "newer");
    ck_assert_int_eq(PUT("a", "v", LRD_IF_LEASE, .version = token), LRD_ANSWER_VOID);
    token = leased("b");
    ck_assert_int_eq(PUT("b", "newer", LRD_IF_ABSENT), LRD_ANSWER_OK);
    ck_assert_int_eq(PUT("b", "v", LRD_IF_LEASE, .version = token), LRD_ANSWER_VOID);
    token = leased("c");
    ck_assert(fixture_delete(&f, 0, "c", 1));
    ck_assert_int_eq(PUT("c", "v", LRD_IF_LEASE, .version = token), LRD_ANSWER_VOID);
    /* given back */
    token = leased("d");
    ck_assert_int_eq(WISH("d", .kind = LRD_RECORD_LEASE_END, .args = {.version = token + 7}), LRD_ANSWER_VOID);
    ck_assert_int_eq(WISH("d", .kind = LRD_RECORD_LEASE_END, .args = {.version = token}), LRD_ANSWER_OK);
    ck_assert_int_eq(WISH("d", .kind = LRD_RECORD_LEASE_END, .args = {.version = token}), LRD_ANSWER_VOID);
    ck_assert_uint_gt(leased("d"), token);
    /* its time */
    token = leased("e");
    now_ms += 1001;
    ck_assert_int_eq(PUT("e", "v", LRD_IF_LEASE, .version = token), LRD_ANSWER_VOID);
    uint64_t second = leased("e");
    ck_assert_int_eq(PUT("e", "v", LRD_IF_LEASE, .version = token), LRD_ANSWER_VOID);
    ck_assert_int_eq(PUT("e", "v", LRD_IF_LEASE, .version = second), LRD_ANSWER_OK);
    /* a reset */
    token = leased("f");
    fixture_reset(&f, 0);
    ck_assert_int_eq(PUT("f", "v", LRD_IF_LEASE, .version = token), LRD_ANSWER_VOID);
    ck_assert_uint_gt(leased("f"), token);
}
END_TEST

START_TEST(test_holder_dies)
{
    who = UINT64_C(1) << 32 | 1;
    leased("a");
    who = 1;
    ck_assert_int_eq(LEASE("a"), LRD_ANSWER_HELD);
    lrd_store32_relaxed(&f.store.lanes[1].state, LRD_LANE_DYING); /* its ring may still hold the set */
    ck_assert_int_eq(LEASE("a"), LRD_ANSWER_HELD);
    lrd_store32_relaxed(&f.store.lanes[1].state, LRD_LANE_FREE);
    ck_assert_int_eq(LEASE("a"), LRD_ANSWER_OK);
    /* its lane is another client's */
    who = UINT64_C(1) << 32 | 1;
    lrd_store32_relaxed(&f.store.lanes[1].state, LRD_LANE_LIVE);
    leased("b");
    lrd_store32_relaxed(&f.store.lanes[1].incarnation, 2);
    who = 1;
    ck_assert_int_eq(LEASE("b"), LRD_ANSWER_OK);
    /* at most an hour */
    ck_assert_int_eq(WISH("c", .kind = LRD_RECORD_LEASE, .expires_ms = LRD_EXPIRES_MAX), LRD_ANSWER_OK);
    ck_assert_uint_eq(out.words.lease.deadline_ms, now_ms + HOUR_MS);
}
END_TEST

START_TEST(test_stale)
{
    WISH("a", .kind = LRD_RECORD_PUT, .item_kind = LRD_ITEM_SOFT, .value = "old", .flags = 9, .expires_ms = now_ms + 500, .args = {.soft_ms = now_ms + 10});
    ck_assert_int_eq(LEASE("a"), LRD_ANSWER_PRESENT);
    now_ms += 10;
    uint64_t token = leased("a");
    ck_assert_str_eq(seen("a"), "old");
    ck_assert_uint_eq(lrd_item_flags(got.head), 9);
    ck_assert_uint_eq(lrd_item_expires_ms(got.head), now_ms + 490);
    ck_assert_uint_eq(got.words.soft_ms, now_ms);
    ck_assert_uint_eq(got.words.lease.token, token);
    ck_assert_int_eq(LEASE("a"), LRD_ANSWER_HELD);
    /* touch keeps the lease, giving back leaves the value */
    ck_assert_int_eq(WISH("a", .kind = LRD_RECORD_TOUCH, .expires_ms = now_ms + HOUR_MS), LRD_ANSWER_OK);
    ck_assert_int_eq(LEASE("a"), LRD_ANSWER_HELD);
    ck_assert_int_eq(WISH("a", .kind = LRD_RECORD_LEASE_END, .args = {.version = token}), LRD_ANSWER_OK);
    ck_assert_str_eq(seen("a"), "old");
    ck_assert_uint_eq(lrd_item_kind(got.head), LRD_ITEM_SOFT);
    /* a lease whose time is over is replaced; append ends it */
    token = leased("a");
    now_ms += 1001;
    ck_assert_int_eq(PUT("a", "v", LRD_IF_LEASE, .version = token), LRD_ANSWER_VOID);
    ck_assert_int_eq(WISH("a", .kind = LRD_RECORD_LEASE_END, .args = {.version = token}), LRD_ANSWER_VOID);
    uint64_t second = leased("a");
    ck_assert_uint_gt(second, token);
    ck_assert_int_eq(WISH("a", .kind = LRD_RECORD_APPEND, .value = "er"), LRD_ANSWER_OK);
    ck_assert_str_eq(seen("a"), "older");
    ck_assert_int_eq(PUT("a", "v", LRD_IF_LEASE, .version = second), LRD_ANSWER_VOID);
    second = leased("a");
    ck_assert_int_eq(PUT("a", "new", LRD_IF_LEASE, .version = second), LRD_ANSWER_OK);
    ck_assert_str_eq(seen("a"), "new");
    ck_assert_uint_eq(lrd_item_kind(got.head), LRD_ITEM_PLAIN);
}
END_TEST

/* Between two steps of a large one: the item it is made of was overwritten, or moved. */
START_TEST(test_still)
{
    SET("a", "first");
    const struct lrd_record rec = {.kind = LRD_RECORD_TOUCH, .key_len = 1, .epoch = 1, .expires_ms = now_ms + 77};
    const struct lrd_args args = {0};
    const struct lrd_ask ask = {.record = &rec, .args = &args, .key = (const unsigned char *)"a", .payload = NULL, .hash = lrd_hash(f.store.r.hash_seed, 0, "a", 1), .holder = who};
    struct lrd_decision plan;
    lrd_decide_plan(&decider, &ask, &plan, now_ms);
    ck_assert(lrd_decide_still(&decider, &ask, &plan, now_ms));
    SET("b", "other");
    ck_assert(lrd_decide_still(&decider, &ask, &plan, now_ms));
    SET("a", "again");
    ck_assert(!lrd_decide_still(&decider, &ask, &plan, now_ms));
    lrd_decide_plan(&decider, &ask, &plan, now_ms);
    ck_assert(fixture_move(&f, 0, "a", 1, 1));
    ck_assert(!lrd_decide_still(&decider, &ask, &plan, now_ms));
    lrd_decide_plan(&decider, &ask, &plan, now_ms);
    ck_assert(fixture_delete(&f, 0, "a", 1));
    ck_assert(lrd_decide_still(&decider, &ask, &plan, now_ms)); /* nothing is to be made any more */
    ck_assert_int_eq(plan.answer, LRD_ANSWER_MISSING);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("decide");
    TCase *t = tcase_create("decide");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_add_and_replace);
    tcase_add_test(t, test_cas);
    tcase_add_test(t, test_cas_after_a_move);
    tcase_add_test(t, test_incr);
    tcase_add_test(t, test_append_prepend_touch);
    tcase_add_test(t, test_aligned);
    tcase_add_test(t, test_absent);
    tcase_add_test(t, test_lease);
    tcase_add_test(t, test_ends_of_a_lease);
    tcase_add_test(t, test_holder_dies);
    tcase_add_test(t, test_stale);
    tcase_add_test(t, test_still);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
