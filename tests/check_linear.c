/* The checker of histories is checked: by small histories that are right or wrong for a reason each; against a search through all orders, with a cache written down once more, on many random
 * small ones; by long ones that are right because they were made from an order, and then changed so that they cannot be. */
#include <check.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/linear.h"
#include "tests/segment_fixture.h"

/* ---- small ones, by hand ---- */

#define GOT(p, from, to, v) {.process = p, .invoked_ns = from, .returned_ns = to, .what = LINEAR_GET, .end = LINEAR_DONE, .seen = v}
#define GOT_VERSION(p, from, to, v, ver) {.process = p, .invoked_ns = from, .returned_ns = to, .what = LINEAR_GET, .end = LINEAR_DONE, .seen = v, .found = ver}
#define MISSED(p, from, to) {.process = p, .invoked_ns = from, .returned_ns = to, .what = LINEAR_GET, .end = LINEAR_MISSING}
#define WROTE(p, from, to, w, e, v) {.process = p, .invoked_ns = from, .returned_ns = to, .what = LINEAR_##w, .end = LINEAR_##e, .value = v}
#define DELETED(p, from, to) WROTE(p, from, to, DELETE, DONE, 0)
#define SET(p, from, to, v) WROTE(p, from, to, SET, DONE, v)
#define PENDING(p, from, w, v) {.process = p, .invoked_ns = from, .what = LINEAR_##w, .end = LINEAR_PENDING, .value = v}
#define CAS(p, from, to, e, v, ver) {.process = p, .invoked_ns = from, .returned_ns = to, .what = LINEAR_CAS, .end = LINEAR_##e, .value = v, .version = ver}
#define DELETED_IF(p, from, to, e, ver) {.process = p, .invoked_ns = from, .returned_ns = to, .what = LINEAR_DELETE_IF, .end = LINEAR_##e, .version = ver}
#define COUNTED(p, from, to, by, n) {.process = p, .invoked_ns = from, .returned_ns = to, .what = LINEAR_INCR, .create = true, .end = LINEAR_DONE, .value = by, .seen = n}
#define EXCHANGED(p, from, to, v, old) {.process = p, .invoked_ns = from, .returned_ns = to, .what = LINEAR_EXCHANGE, .end = LINEAR_DONE, .value = v, .seen = old}

#define OPS 12u

struct story {
    const char *name;
    bool right, right_with_moves;
    struct linear_op ops[OPS]; /* the last has no times */
};

static const struct story stories[] = {
    /* right ones */
    {"nothing", true, true, {{0}}},
    {"a miss, a set, a get", true, true, {MISSED(0, 1, 2), SET(0, 3, 4, 7), GOT(1, 5, 6, 7)}},
    {"a get beside a set sees either", true, true, {SET(0, 1, 2, 7), SET(0, 3, 9, 8), GOT(1, 4, 5, 7), GOT(1, 6, 7, 8), GOT(2, 4, 5, 8)}},
    {"the order of overlapping sets is what gets say", true, true, {SET(0, 1, 9, 7), SET(1, 1, 9, 8), GOT(0, 10, 11, 7), GOT(1, 12, 13, 7)}},
    {"at one nanosecond both orders are possible", true, true, {SET(0, 1, 5, 7), SET(1, 5, 9, 8), GOT(0, 10, 11, 7)}},
    {"a pending set is seen much later", true, true, {SET(0, 1, 2, 7), PENDING(1, 3, SET, 8), GOT(0, 4, 5, 7), DELETED(2, 6, 7), GOT(0, 8, 9, 8)}},
    {"a pending set is never seen", true, true, {PENDING(1, 1, SET, 8), MISSED(0, 4, 5)}},
    {"one add of two succeeds", true, true, {WROTE(0, 1, 5, ADD, PRESENT, 7), WROTE(1, 1, 5, ADD, DONE, 8), GOT(0, 6, 7, 8)}},
    {"counted by three", true, true, {COUNTED(0, 1, 9, 1, 3), COUNTED(1, 1, 9, 1, 1), COUNTED(2, 1, 9, 1, 2), GOT(0, 10, 11, 3)}},
    {"a pending incr fills a gap", true, true, {COUNTED(0, 1, 2, 1, 1), PENDING(1, 3, INCR, 1), COUNTED(0, 4, 5, 1, 3)}},
    {"cas meets its version", true, true, {SET(0, 1, 2, 7), GOT_VERSION(1, 3, 4, 7, 100), CAS(1, 5, 6, DONE, 8, 100), GOT(0, 7, 8, 8)}},
    {"a version stays", true, true, {SET(0, 1, 2, 7), GOT_VERSION(1, 3, 4, 7, 100), GOT_VERSION(2, 5, 6, 7, 100)}},
    {"a pending cas made way", true, true, {SET(0, 1, 2, 7), GOT_VERSION(1, 3, 4, 7, 100), PENDING(1, 5, CAS, 8), GOT(0, 7, 8, 7)}},
    {"exchanges in a row", true, true, {SET(0, 1, 2, 7), EXCHANGED(1, 3, 9, 8, 7), EXCHANGED(2, 3, 9, 9, 8), GOT(0, 10, 11, 9)}},
    /* right only if items move */
    {"two versions without a write", false, true, {SET(0, 1, 2, 7), GOT_VERSION(1, 3, 4, 7, 100), GOT_VERSION(2, 5, 6, 7, 101)}},
    {"cas is told of a change that was none", false, true, {SET(0, 1, 2, 7), GOT_VERSION(1, 3, 4, 7, 100), CAS(1, 5, 6, CHANGED, 8, 100)}},
    {"so is delete_if", false, true, {SET(0, 1, 2, 7), GOT_VERSION(1, 3, 4, 7, 100), DELETED_IF(1, 5, 6, CHANGED, 100), GOT(0, 7, 8, 7)}},
    /* wrong ones */
    {"a value nobody wrote", false, false, {SET(0, 1, 2, 7), GOT(1, 3, 4, 8)}},
    {"a value before it was written", false, false, {GOT(1, 1, 2, 7), SET(0, 3, 4, 7)}},
    {"a value before anything was there", false, false, {GOT(1, 1, 2, 7)}},
    {"a stale read", false, false, {SET(0, 1, 2, 7), SET(0, 3, 4, 8), GOT(1, 5, 6, 7)}},
    {"a stale miss", false, false, {SET(0, 1, 2, 7), MISSED(1, 3, 4)}},
    {"a set that is lost", false, false, {DELETED(0, 1, 2), SET(0, 3, 4, 8), MISSED(1, 5, 6)}},
    {"reads that go back", false, false, {SET(0, 1, 2, 7), SET(0, 3, 9, 8), GOT(1, 4, 5, 8), GOT(2, 6, 7, 7)}},
    {"reads that go back beside a pending set", false, false, {SET(0, 1, 2, 7), PENDING(0, 3, SET, 8), GOT(1, 4, 5, 8), GOT(2, 6, 7, 7)}},
    {"two readers see two orders", false, false, {SET(0, 1, 20, 7), SET(1, 1, 20, 8), GOT(2, 2, 3, 7), GOT(2, 4, 5, 8), GOT(3, 6, 7, 7)}},
    {"an own write seen before it was visible to others", false, false, {SET(0, 1, 2, 7), SET(0, 3, 9, 8), GOT(0, 4, 5, 8), GOT(1, 6, 7, 7), GOT(1, 8, 9, 8)}},
    {"a delete that comes back", false, false, {SET(0, 1, 2, 7), DELETED(0, 3, 4), MISSED(1, 5, 6), GOT(1, 7, 8, 7)}},
    {"a delete that is lost", false, false, {SET(0, 1, 2, 7), DELETED(0, 3, 4), GOT(1, 5, 6, 7)}},
    {"a pending delete takes effect once", false, false, {SET(0, 1, 2, 7), PENDING(1, 3, DELETE, 0), MISSED(0, 4, 5), GOT(0, 6, 7, 7)}},
    {"a pending set is not seen before its call", false, false, {GOT(0, 1, 2, 8), PENDING(1, 3, SET, 8)}},
    {"a pending set takes effect once", false, false, {PENDING(1, 1, SET, 8), GOT(0, 2, 3, 8), DELETED(0, 4, 5), GOT(0, 6, 7, 8)}},
    {"two adds succeed", false, false, {WROTE(0, 1, 5, ADD, DONE, 7), WROTE(1, 1, 5, ADD, DONE, 8)}},
    {"an add overwrites", false, false, {SET(0, 1, 2, 7), WROTE(1, 3, 4, ADD, DONE, 8)}},
    {"an add is told of what is not there", false, false, {WROTE(1, 3, 4, ADD, PRESENT, 8)}},
    {"an add that failed has written", false, false, {SET(0, 1, 2, 7), WROTE(1, 3, 4, ADD, PRESENT, 8), GOT(0, 5, 6, 8)}},
    {"a replace makes an item", false, false, {WROTE(0, 1, 2, REPLACE, DONE, 7)}},
    {"a replace misses what is there", false, false, {SET(0, 1, 2, 7), WROTE(0, 3, 4, REPLACE, MISSING, 8)}},
    {"incr applied twice", false, false, {COUNTED(0, 1, 2, 1, 1), COUNTED(1, 3, 4, 1, 2), GOT(0, 5, 6, 3)}},
    {"incr applied twice, and told so", false, false, {COUNTED(0, 1, 2, 1, 1), COUNTED(1, 3, 4, 1, 3)}},
    {"incr lost", false, false, {COUNTED(0, 1, 2, 1, 1), COUNTED(1, 3, 4, 1, 2), GOT(0, 5, 6, 1)}},
    {"two incr are told one number", false, false, {COUNTED(0, 1, 9, 1, 1), COUNTED(1, 1, 9, 1, 2), COUNTED(2, 1, 9, 1, 2)}},
    {"a pending incr takes effect once", false, false, {COUNTED(0, 1, 2, 1, 1), PENDING(1, 3, INCR, 1), COUNTED(0, 4, 5, 1, 4)}},
    {"incr misses what is there", false, false, {SET(0, 1, 2, 7), WROTE(0, 3, 4, INCR, MISSING, 1)}},
    {"incr is refused though it fits", false, false, {SET(0, 1, 2, 7), WROTE(0, 3, 4, INCR, OVERFLOW, 1)}},
    {"incr goes round", false, false, {SET(0, 1, 2, INT64_MAX), COUNTED(0, 3, 4, 1, INT64_MIN)}},
    {"the lost update", false, false,
     {SET(0, 1, 2, 7), GOT_VERSION(0, 3, 4, 7, 100), GOT_VERSION(1, 3, 4, 7, 100), CAS(0, 5, 6, DONE, 8, 100), CAS(1, 7, 8, DONE, 9, 100)}},
    {"the lost update, at the same time", false, false,
     {SET(0, 1, 2, 7), GOT_VERSION(0, 3, 4, 7, 100), GOT_VERSION(1, 3, 4, 7, 100), CAS(0, 5, 9, DONE, 8, 100), CAS(1, 5, 9, DONE, 9, 100)}},
    {"cas on an old version", false, false, {SET(0, 1, 2, 7), GOT_VERSION(1, 3, 4, 7, 100), SET(0, 5, 6, 9), CAS(1, 7, 8, DONE, 8, 100)}},
    {"cas on an old version of the same value", false, false, {SET(0, 1, 2, 7), GOT_VERSION(1, 3, 4, 7, 100), SET(0, 5, 6, 7), CAS(1, 7, 8, DONE, 8, 100)}},
    {"cas on what was deleted", false, false, {SET(0, 1, 2, 7), GOT_VERSION(1, 3, 4, 7, 100), DELETED(0, 5, 6), CAS(1, 7, 8, DONE, 8, 100)}},
    {"cas on a version nobody was given", false, false, {SET(0, 1, 2, 7), CAS(1, 7, 8, DONE, 8, 100)}},
    {"cas is told of a change where there is nothing", false, false,
     {SET(0, 1, 2, 7), GOT_VERSION(1, 3, 4, 7, 100), DELETED(0, 5, 6), CAS(1, 7, 8, CHANGED, 8, 100)}},
    {"cas that failed has written", false, false,
     {SET(0, 1, 2, 7), GOT_VERSION(1, 3, 4, 7, 100), SET(0, 5, 6, 9), CAS(1, 7, 8, CHANGED, 8, 100), GOT(0, 9, 10, 8)}},
    {"cas misses what is there", false, false, {SET(0, 1, 2, 7), GOT_VERSION(1, 3, 4, 7, 100), CAS(1, 5, 6, MISSING, 8, 100)}},
    {"a version comes back", false, false, {SET(0, 1, 2, 7), GOT_VERSION(1, 3, 4, 7, 100), SET(0, 5, 6, 7), GOT_VERSION(1, 7, 8, 7, 100)}},
    {"a version comes back after a move", false, false,
     {SET(0, 1, 2, 7), GOT_VERSION(1, 3, 4, 7, 100), GOT_VERSION(1, 5, 6, 7, 101), GOT_VERSION(1, 7, 8, 7, 100)}},
    {"two exchanges take one value", false, false, {SET(0, 1, 2, 7), EXCHANGED(1, 3, 9, 8, 7), EXCHANGED(2, 3, 9, 9, 7)}},
    {"an exchange finds nothing where there is something", false, false, {SET(0, 1, 2, 7), WROTE(0, 3, 4, EXCHANGE, MISSING, 8)}},
    {"delete_if on an old version", false, false, {SET(0, 1, 2, 7), GOT_VERSION(1, 3, 4, 7, 100), SET(0, 5, 6, 9), DELETED_IF(1, 7, 8, DONE, 100)}},
    {"delete_if did not", false, false, {SET(0, 1, 2, 7), GOT_VERSION(1, 3, 4, 7, 100), DELETED_IF(1, 7, 8, DONE, 100), GOT(0, 9, 10, 7)}},
    {"an append is lost", false, false, {SET(0, 1, 2, 0), WROTE(0, 3, 4, APPEND, DONE, 'a'), GOT(0, 5, 6, 0)}},
    {"an append makes an item", false, false, {WROTE(0, 3, 4, APPEND, DONE, 'a')}},
    {"touched, and still there", true, true, {SET(0, 1, 2, 7), WROTE(0, 3, 4, TOUCH, DONE, 0), GOT(0, 5, 6, 7)}},
    {"a touch makes an item", false, false, {WROTE(0, 3, 4, TOUCH, DONE, 0)}},
    {"a touch misses what is there", false, false, {SET(0, 1, 2, 7), WROTE(0, 3, 4, TOUCH, MISSING, 0)}},
    {"cas on what was touched", false, false, {SET(0, 1, 2, 7), GOT_VERSION(1, 3, 4, 7, 100), WROTE(0, 5, 6, TOUCH, DONE, 0), CAS(1, 7, 8, DONE, 8, 100)}},
    {"a touch brings back what was overwritten", false, false, {SET(0, 1, 2, 7), WROTE(1, 3, 9, TOUCH, DONE, 0), SET(0, 4, 5, 8), GOT(0, 10, 11, 7)}},
    {"get_and_touch sees what is not there any more", false, false,
     {SET(0, 1, 2, 7), SET(0, 3, 4, 8), {.process = 1, .invoked_ns = 5, .returned_ns = 6, .what = LINEAR_GET_AND_TOUCH, .end = LINEAR_DONE, .seen = 7}}},
    {"only the second key is wrong", false, false, {SET(0, 1, 2, 7), GOT(1, 3, 4, 7), {.key = 1, .process = 1, .invoked_ns = 5, .returned_ns = 6, .what = LINEAR_GET, .end = LINEAR_DONE, .seen = 7}}},
};

static size_t load(const struct story *story, struct linear_op *ops)
{
    size_t n = 0;
    while (n < OPS && story->ops[n].invoked_ns != 0)
        n++;
    memcpy(ops, story->ops, sizeof story->ops);
    return n;
}

START_TEST(test_stories)
{
    const struct story *story = &stories[_i];
    struct linear_op ops[OPS];
    struct linear_verdict v;
    size_t n = load(story, ops);
    ck_assert_msg(linear_check(ops, n, 0, &v) == story->right, "%s", story->name);
    ck_assert_msg(linear_check(ops, n, LINEAR_MOVES, &v) == story->right_with_moves, "%s, with moves", story->name);
    ck_assert(!v.gave_up);
}
END_TEST

START_TEST(test_in_order)
{
    struct linear_verdict v;
    struct linear_op turned[] = {SET(0, 1, 9, 7), SET(0, 2, 9, 8), GOT(1, 10, 11, 7)};
    ck_assert(linear_check(turned, 3, 0, &v));
    ck_assert(!linear_check(turned, 3, LINEAR_IN_ORDER, &v));
    struct linear_op late[] = {SET(0, 1, 2, 7), PENDING(1, 3, SET, 8), SET(1, 4, 5, 9), GOT(0, 6, 7, 9), GOT(0, 8, 9, 8)};
    ck_assert(linear_check(late, 5, 0, &v));
    ck_assert(!linear_check(late, 5, LINEAR_IN_ORDER, &v));
    struct linear_op right[] = {SET(0, 1, 9, 7), SET(0, 2, 9, 8), PENDING(0, 3, SET, 9), GOT(1, 4, 11, 7), GOT(1, 12, 13, 9)};
    ck_assert(linear_check(right, 5, LINEAR_IN_ORDER, &v));
}
END_TEST

START_TEST(test_texts)
{
    int64_t a = linear_fold(0, 'a'), ab = linear_fold(a, 'b'), ba = linear_fold(linear_fold(0, 'b'), 'a');
    struct linear_verdict v;
    struct linear_op right[] = {SET(0, 1, 2, a), WROTE(1, 3, 4, APPEND, DONE, 'b'), GOT(0, 5, 6, ab)};
    ck_assert(linear_check(right, 3, 0, &v));
    struct linear_op wrong[] = {SET(0, 1, 2, a), WROTE(1, 3, 4, APPEND, DONE, 'b'), GOT(0, 5, 6, ba)};
    ck_assert(!linear_check(wrong, 3, 0, &v));
    struct linear_op twice[] = {SET(0, 1, 2, a), WROTE(1, 3, 4, APPEND, DONE, 'b'), GOT(0, 5, 6, linear_fold(ab, 'b'))};
    ck_assert(!linear_check(twice, 3, 0, &v));
    struct linear_op pending[] = {SET(0, 1, 2, a), PENDING(1, 3, APPEND, 'b'), GOT(0, 5, 6, ab)};
    ck_assert(linear_check(pending, 3, 0, &v));
}
END_TEST

/* ---- random ones, made from an order ---- */

struct cache {
    bool present;
    int64_t value;
    uint64_t version, last_version;
};

static void put(struct cache *c, int64_t value)
{
    *c = (struct cache){.present = true, .value = value, .version = ++c->last_version, .last_version = c->last_version};
}

/* Does it and fills in its end. */
static void do_op(struct cache *c, struct linear_op *op)
{
    int64_t number;
    op->end = LINEAR_DONE;
    op->found = c->present ? c->version : 0;
    switch ((enum linear_what)op->what) {
    case LINEAR_GET:
        op->end = c->present ? LINEAR_DONE : LINEAR_MISSING;
        op->seen = c->value;
        return;
    case LINEAR_SET:
        put(c, op->value);
        break;
    case LINEAR_ADD:
        if (c->present)
            op->end = LINEAR_PRESENT;
        else
            put(c, op->value);
        break;
    case LINEAR_REPLACE:
    case LINEAR_APPEND:
        if (!c->present)
            op->end = LINEAR_MISSING;
        else
            put(c, op->what == LINEAR_APPEND ? linear_fold(c->value, (unsigned char)op->value) : op->value);
        break;
    case LINEAR_CAS:
    case LINEAR_DELETE_IF:
        if (!c->present)
            op->end = LINEAR_MISSING;
        else if (c->version != op->version)
            op->end = LINEAR_CHANGED;
        else if (op->what == LINEAR_CAS)
            put(c, op->value);
        else
            c->present = false;
        break;
    case LINEAR_EXCHANGE:
        op->end = c->present ? LINEAR_DONE : LINEAR_MISSING;
        op->seen = c->value;
        put(c, op->value);
        break;
    case LINEAR_TOUCH:
    case LINEAR_GET_AND_TOUCH:
        op->seen = c->value;
        if (!c->present)
            op->end = LINEAR_MISSING;
        else
            put(c, c->value);
        break;
    case LINEAR_INCR:
        if (!c->present && !op->create)
            op->end = LINEAR_MISSING;
        else if (__builtin_add_overflow(c->present ? c->value : 0, op->value, &number))
            op->end = LINEAR_OVERFLOW;
        else
            put(c, op->seen = number);
        break;
    case LINEAR_DELETE:
        c->present = false;
        break;
    case LINEAR_WHATS:
        abort();
    }
    op->found = c->present ? c->version : 0;
}

struct plan {
    size_t n;
    unsigned processes, one_in_pending, reach; /* how many moments an operation may stand to each side of its own */
    bool moves, small;                         /* small: values repeat */
};

#define PROCESSES 64u

static size_t generate(const struct plan *plan, uint64_t *state, struct linear_op *ops)
{
    struct cache cache = {0};
    uint64_t returned[PROCESSES] = {0}, known[PROCESSES] = {0};
    uint16_t name[PROCESSES], names = 0;
    for (unsigned p = 0; p < plan->processes; p++)
        name[p] = names++;
    size_t n = 0;
    for (uint64_t moment = 100; n < plan->n; moment += 100) {
        uint64_t x = fixture_random(state);
        unsigned p = (unsigned)(x % plan->processes);
        if (returned[p] >= moment)
            continue;
        struct linear_op *op = &ops[n++];
        uint64_t reach = 100 * (uint64_t)plan->reach, early = (x >> 8) % (reach + 1);
        *op = (struct linear_op){.process = name[p], .what = (uint8_t)((x >> 24) % 3 == 0 ? LINEAR_GET : (x >> 32) % LINEAR_WHATS), .create = x >> 40 & 1, .version = known[p]};
        op->invoked_ns = moment - early > returned[p] + 1 && early < moment ? moment - early : returned[p] + 1;
        op->returned_ns = returned[p] = moment + (fixture_random(state) >> 8) % (reach + 1);
        op->value = plan->small ? (int64_t)(x >> 44) % 3 : (int64_t)n << 20;
        if (op->what == LINEAR_INCR || op->what == LINEAR_APPEND)
            op->value = 1 + (int64_t)(x >> 44) % 3;
        if (op->what != LINEAR_CAS && op->what != LINEAR_DELETE_IF)
            op->version = 0;
        else if (op->version == 0)
            op->what = LINEAR_GET;
        if (plan->moves && x >> 50 & 1)
            cache.version = ++cache.last_version;
        x = fixture_random(state) >> 8;
        bool gone = plan->one_in_pending != 0 && x % plan->one_in_pending == 0;
        if (!gone || x >> 32 & 1)
            do_op(&cache, op);
        /* Plain writes and some others are not told the version. */
        if (op->what == LINEAR_SET || (op->what != LINEAR_GET && x >> 33 & 1))
            op->found = 0;
        if (gone) {
            op->end = LINEAR_PENDING;
            name[p] = names++;
            known[p] = 0;
        } else if (op->found != 0) {
            known[p] = op->found;
        }
    }
    return n;
}

/* ---- all orders, with the cache written down once more ---- */

struct orders {
    const struct linear_op *ops;
    size_t n;
    bool moves, in_order;
    bool used[OPS];
    int item_of[256]; /* by version: which item had it; 0: not said yet */
};

struct item {
    int id; /* 0: there is none */
    int64_t value;
    uint64_t version; /* that it was last said to have; 0: not yet */
};

static bool try_orders(struct orders *o, struct item item, int ids);

/* The item is said to have this version from here on. */
static bool say_version(struct orders *o, struct item *item, uint64_t version)
{
    if (version == 0 || item->version == version)
        return true;
    if (o->item_of[version] != 0 || (item->version != 0 && !o->moves))
        return false;
    o->item_of[version] = item->id;
    item->version = version;
    return true;
}

static bool explains(struct orders *o, const struct linear_op *op, struct item *item, int id)
{
    bool is = item->id != 0, pending = op->end == LINEAR_PENDING, same = is && op->version != 0 && item->version == op->version;
    uint64_t found = pending ? 0 : op->found;
    struct item made = {.id = id, .value = op->value};
    int expected = LINEAR_DONE; /* the end it has here */
    bool writes = false, removes = false;
    switch ((enum linear_what)op->what) {
    case LINEAR_GET:
        expected = is ? LINEAR_DONE : LINEAR_MISSING;
        if (pending || (is && item->value != op->seen))
            return false;
        break;
    case LINEAR_SET: writes = true; break;
    case LINEAR_ADD:
        writes = !is;
        expected = is ? LINEAR_PRESENT : LINEAR_DONE;
        break;
    case LINEAR_REPLACE:
        writes = is;
        expected = is ? LINEAR_DONE : LINEAR_MISSING;
        break;
    case LINEAR_APPEND:
        writes = is;
        made.value = linear_fold(item->value, (unsigned char)op->value);
        expected = is ? LINEAR_DONE : LINEAR_MISSING;
        break;
    case LINEAR_EXCHANGE:
        writes = true;
        expected = is ? LINEAR_DONE : LINEAR_MISSING;
        if (!pending && is && op->end == LINEAR_DONE && op->seen != item->value)
            return false;
        break;
    case LINEAR_INCR:
        writes = is || op->create;
        made.value = (is ? item->value : 0) + op->value; /* small numbers here */
        expected = writes ? LINEAR_DONE : LINEAR_MISSING;
        if (!pending && op->end == LINEAR_DONE && op->seen != made.value)
            return false;
        break;
    case LINEAR_TOUCH:
    case LINEAR_GET_AND_TOUCH:
        writes = is;
        made.value = item->value;
        expected = is ? LINEAR_DONE : LINEAR_MISSING;
        if (!pending && is && op->what == LINEAR_GET_AND_TOUCH && op->seen != item->value)
            return false;
        break;
    case LINEAR_DELETE: removes = true; break;
    case LINEAR_CAS:
    case LINEAR_DELETE_IF:
        if (op->end == LINEAR_CHANGED && found != 0 && found == op->version)
            return false;
        expected = !is ? LINEAR_MISSING : same ? LINEAR_DONE : LINEAR_CHANGED;
        if (!pending && same && o->moves && op->end == LINEAR_CHANGED) { /* it moved just before; to where, found may say */
            expected = LINEAR_CHANGED;
            if (found == 0) { /* any other: one that is nobody else's */
                for (found = 200; o->item_of[found] != 0; found++)
                    ;
            }
        }
        writes = expected == LINEAR_DONE && op->what == LINEAR_CAS;
        removes = expected == LINEAR_DONE && op->what == LINEAR_DELETE_IF;
        break;
    case LINEAR_WHATS: abort();
    }
    if (pending ? !writes && !removes : op->end != expected)
        return false;
    if (writes)
        *item = made;
    if (removes)
        *item = (struct item){0};
    return item->id == 0 || say_version(o, item, found);
}

static bool try_next(struct orders *o, size_t i, struct item item, int ids)
{
    for (size_t k = 0; k < o->n; k++) /* nothing that is left may have returned before this one was invoked */
        if (!o->used[k] && o->ops[k].end != LINEAR_PENDING && o->ops[k].returned_ns < o->ops[i].invoked_ns)
            return false;
    for (size_t k = 0; o->in_order && o->ops[i].what != LINEAR_GET && (o->ops[i].what != LINEAR_GET_AND_TOUCH || o->ops[i].end != LINEAR_MISSING) && k < o->n; k++)
        if (o->ops[k].process == o->ops[i].process && o->ops[k].what != LINEAR_GET && (o->ops[k].what != LINEAR_GET_AND_TOUCH || o->ops[k].end != LINEAR_MISSING) &&
            (k < i ? !o->used[k] && o->ops[k].end != LINEAR_PENDING : k > i && o->used[k]))
            return false;
    int before[256];
    memcpy(before, o->item_of, sizeof before);
    o->used[i] = true;
    bool ok = explains(o, &o->ops[i], &item, ids) && try_orders(o, item, ids + 1);
    o->used[i] = false;
    memcpy(o->item_of, before, sizeof before);
    return ok;
}

static bool try_orders(struct orders *o, struct item item, int ids)
{
    bool all = true;
    for (size_t i = 0; i < o->n; i++)
        all &= o->used[i] || o->ops[i].end == LINEAR_PENDING;
    if (all)
        return true;
    for (size_t i = 0; i < o->n; i++)
        if (!o->used[i] && try_next(o, i, item, ids))
            return true;
    return false;
}

/* Something about one operation is changed to something plausible. */
static void damage(struct linear_op *ops, size_t n, uint64_t *state)
{
    uint64_t x = fixture_random(state);
    struct linear_op *op = &ops[(x >> 8) % n], *other = &ops[(x >> 16) % n];
    switch (x % 6) {
    case 0:
        op->seen = other->what == LINEAR_GET ? other->seen : other->value;
        break;
    case 1:
        op->end = (uint8_t)(LINEAR_DONE + (x >> 24) % 4);
        break;
    case 2:
        op->found = op->found != 0 ? other->found : 0;
        break;
    case 3:
        op->what = (uint8_t)((x >> 24) % LINEAR_WHATS);
        break;
    case 4:
        op->seen += x >> 24 & 1 ? 1 : -1;
        break;
    default: {
        struct linear_op was = *op;
        op->invoked_ns = other->invoked_ns;
        op->returned_ns = other->returned_ns;
        other->invoked_ns = was.invoked_ns;
        other->returned_ns = was.returned_ns;
    }
    }
    if (op->what != LINEAR_CAS && op->what != LINEAR_DELETE_IF)
        op->version = 0;
    /* Where there is nothing, nothing has a version. */
    if ((op->end == LINEAR_MISSING && op->what != LINEAR_EXCHANGE) || op->what == LINEAR_DELETE || (op->what == LINEAR_DELETE_IF && op->end == LINEAR_DONE))
        op->found = 0;
}

START_TEST(test_all_orders)
{
    uint64_t state = 7, right = 0, wrong = 0;
    unsigned rounds = fixture_long() ? 2000000 : 60000;
    for (unsigned i = 0; i < rounds; i++) {
        struct linear_op ops[OPS], copy[OPS];
        struct linear_verdict v;
        struct plan plan = {.n = 3 + i % 5, .processes = 3, .one_in_pending = i % 3 == 0 ? 4 : 0, .reach = 1 + i / 8 % 3, .moves = i & 1, .small = i & 4};
        size_t n = generate(&plan, &state, ops);
        for (unsigned k = i % 4; k > 0; k--)
            damage(ops, n, &state);
        bool in_order = i % 7 < 3;
        unsigned how = (plan.moves ? LINEAR_MOVES : 0) | (in_order ? LINEAR_IN_ORDER : 0);
        for (size_t k = 0; k < n && in_order; k++)
            ops[k].process /= 2; /* so that one process has overlapping ones */
        bool got = linear_check(ops, n, how, &v); /* and sorted */
        memcpy(copy, ops, sizeof copy);
        struct orders o = {.ops = copy, .n = n, .moves = plan.moves, .in_order = in_order};
        bool want = try_orders(&o, (struct item){0}, 1);
        if (want != got)
            linear_print(stdout, ops, n);
        ck_assert_msg(want == got, "history %u%s: %d by all orders, %d by the checker", i, plan.moves ? " (moves)" : "", want, got);
        ck_assert(want || i % 4 != 0 || in_order);
        right += want;
        wrong += !want;
        if (got)
            continue;
        /* What it is cut down to is not right either, by the other judge where he can tell. */
        size_t left = linear_shrink(ops, n, &how, v.key);
        ck_assert_uint_le(left, n);
        ck_assert(!linear_check(ops, left, how, &v));
        o = (struct orders){.ops = ops, .n = left, .moves = plan.moves, .in_order = in_order};
        ck_assert(how & LINEAR_ANY_STATE || !try_orders(&o, (struct item){0}, 1));
    }
    ck_assert_uint_gt(right, rounds / 4);
    ck_assert_uint_gt(wrong, rounds / 4);
}
END_TEST

/* A piece of a right history, from anywhere to anywhere, with what stands across unknown, is right as long as nothing is said about what was there before. */
START_TEST(test_pieces)
{
    uint64_t state = 11;
    static struct linear_op ops[400], piece[400];
    for (unsigned i = 0; i < 300; i++) {
        struct plan plan = {.n = 20 + i, .processes = 2 + i % 4, .one_in_pending = i % 2 ? 40 : 0, .reach = 1 + i % 5, .moves = i & 4, .small = i & 1};
        struct linear_verdict v;
        size_t n = generate(&plan, &state, ops), kept = 0;
        uint64_t from_ns = fixture_random(&state) % (100 * n);
        for (size_t k = 0; k < n; k++) {
            if (ops[k].end != LINEAR_PENDING && ops[k].returned_ns < from_ns)
                continue;
            piece[kept] = ops[k];
            if (ops[k].invoked_ns < from_ns)
                piece[kept].end = ops[k].end == LINEAR_PENDING ? LINEAR_PENDING : LINEAR_MAYBE;
            kept++;
        }
        ck_assert(linear_check(piece, kept, (plan.moves ? LINEAR_MOVES : 0) | LINEAR_ANY_STATE, &v));
    }
}
END_TEST

/* ---- long ones ---- */

#define LONG 6000u

static size_t long_history(uint64_t *state, bool moves, struct linear_op *ops)
{
    struct plan plan = {.n = LONG, .processes = 6, .one_in_pending = LONG / 5, .reach = 5, .moves = moves};
    return generate(&plan, state, ops);
}

static void must_be_refused(struct linear_op *ops, size_t n, bool moves, const char *what)
{
    unsigned how = moves ? LINEAR_MOVES : 0;
    struct linear_verdict v;
    ck_assert_msg(!linear_check(ops, n, how, &v) && !v.gave_up, "%s", what);
    size_t left = linear_shrink(ops, n, &how, v.key);
    ck_assert(!linear_check(ops, left, how, &v));
    if (left > 40)
        linear_print(stdout, ops, left);
    ck_assert_msg(left <= 40, "%s: %zu operations are left", what, left);
}

/* Is a the last that wrote this value, and has another set of another value begun after it returned and returned before b began? */
static bool is_overwritten(const struct linear_op *ops, size_t n, const struct linear_op *a, const struct linear_op *b)
{
    for (size_t i = 0; i < n; i++)
        if (ops[i].what == LINEAR_SET && ops[i].end == LINEAR_DONE && ops[i].value != a->value && ops[i].invoked_ns > a->returned_ns && ops[i].returned_ns < b->invoked_ns)
            return true;
    return false;
}

START_TEST(test_long)
{
    static struct linear_op ops[LONG], broken[LONG];
    uint64_t state = 100 + (uint64_t)_i, stale = 0;
    bool moves = _i & 1;
    struct linear_verdict v;
    size_t n = long_history(&state, moves, ops);
    ck_assert(linear_check(ops, n, moves ? LINEAR_MOVES : 0, &v));
    ck_assert_uint_lt(v.visited, 200 * LONG);
    /* A value nobody wrote. */
    for (size_t at = n / 2; at < n; at++)
        if (ops[at].what == LINEAR_GET && ops[at].end == LINEAR_DONE) {
            memcpy(broken, ops, sizeof broken);
            broken[at].seen = -5;
            must_be_refused(broken, n, moves, "a value nobody wrote");
            break;
        }
    /* A value that a set wrote, read after another set came and went: all values of sets are different, and no number becomes one by being counted (at most 3 each time, 2^20 apart). */
    for (unsigned tries = 0; tries < 10000 && stale < 3; tries++) {
        size_t a = fixture_random(&state) % (n - 100), b = a + fixture_random(&state) % 100;
        if (ops[a].what != LINEAR_SET || ops[a].end != LINEAR_DONE || ops[b].what != LINEAR_GET || ops[b].end == LINEAR_PENDING || !is_overwritten(ops, n, &ops[a], &ops[b]))
            continue;
        memcpy(broken, ops, sizeof broken);
        broken[b].end = LINEAR_DONE;
        broken[b].seen = ops[a].value;
        broken[b].found = 0;
        must_be_refused(broken, n, moves, "a stale read");
        stale++;
    }
    ck_assert_uint_eq(stale, 3);
    /* A version that comes back after a set that came and went. */
    for (size_t a = n / 3; a < n; a++) {
        size_t b = a + 1;
        while (ops[a].what == LINEAR_GET && ops[a].found != 0 && b < n && b < a + 100 &&
               !(ops[b].what == LINEAR_GET && ops[b].end == LINEAR_DONE && ops[b].found != 0 && is_overwritten(ops, n, &ops[a], &ops[b])))
            b++;
        if (ops[a].what != LINEAR_GET || ops[a].found == 0 || b == n || b == a + 100)
            continue;
        memcpy(broken, ops, sizeof broken);
        broken[b].found = broken[a].found;
        must_be_refused(broken, n, moves, "a version comes back");
        break;
    }
    /* A cas that succeeds on it. */
    for (size_t a = n / 3, b = 0; a < n; a++) {
        for (b = a + 1; ops[a].what == LINEAR_GET && ops[a].found != 0 && b < n && b < a + 100; b++)
            if (ops[b].what == LINEAR_CAS && ops[b].end == LINEAR_CHANGED && is_overwritten(ops, n, &ops[a], &ops[b]))
                break;
        if (ops[a].what != LINEAR_GET || ops[a].found == 0 || b == n || b == a + 100)
            continue;
        memcpy(broken, ops, sizeof broken);
        broken[b].end = LINEAR_DONE;
        broken[b].version = ops[a].found;
        broken[b].found = 0;
        must_be_refused(broken, n, moves, "an old cas");
        break;
    }
}
END_TEST

/* Only counting by one and reading: n operations that returned give n numbers, each once. */
START_TEST(test_counts)
{
    static struct linear_op ops[LONG + 1], broken[LONG + 1];
    uint64_t state = 200 + (uint64_t)_i;
    struct plan plan = {.n = LONG, .processes = 6, .reach = 5};
    struct cache cache = {0};
    struct linear_verdict v;
    size_t n = generate(&plan, &state, ops);
    for (size_t i = 0; i < n; i++) { /* as they were ordered, with other things to do */
        ops[i].what = i % 3 ? LINEAR_INCR : LINEAR_GET;
        ops[i].value = 1;
        ops[i].create = true;
        ops[i].version = 0;
        do_op(&cache, &ops[i]);
    }
    memcpy(broken, ops, sizeof broken);
    ck_assert(linear_check(broken, n, 0, &v));
    size_t at = n / 2 + fixture_random(&state) % 1000;
    at += ops[at].what == LINEAR_GET; /* two of three are incr */
    memcpy(broken, ops, sizeof broken);
    broken[at].seen++;
    broken[at].found = 0;
    must_be_refused(broken, n, false, "a number told twice");
    memcpy(broken, ops, sizeof broken);
    broken[at].what = LINEAR_GET; /* and so one is missing */
    broken[at].found = 0;
    must_be_refused(broken, n, false, "a number that nobody made");
    memcpy(broken, ops, sizeof broken);
    for (size_t i = at; i < n; i++)
        broken[i].seen++;
    must_be_refused(broken, n, false, "one was applied twice");
    memcpy(broken, ops, sizeof broken);
    for (size_t i = at; i < n; i++)
        broken[i].seen--;
    must_be_refused(broken, n, false, "one was lost");
    /* A pending one explains one number too many, but only one. */
    memcpy(broken, ops, sizeof broken);
    for (size_t i = at; i < n; i++)
        broken[i].seen++;
    broken[n++] = (struct linear_op){.process = 99, .invoked_ns = ops[at - 50].invoked_ns, .what = LINEAR_INCR, .create = true, .value = 1};
    ck_assert(linear_check(broken, n, 0, &v));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("linear");
    TCase *t = tcase_create("linear");
    tcase_set_timeout(t, fixture_long() ? 600 : 30);
    tcase_add_loop_test(t, test_stories, 0, (int)(sizeof stories / sizeof *stories));
    tcase_add_test(t, test_in_order);
    tcase_add_test(t, test_texts);
    tcase_add_test(t, test_all_orders);
    tcase_add_test(t, test_pieces);
    tcase_add_loop_test(t, test_long, 0, 4);
    tcase_add_loop_test(t, test_counts, 0, 4);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
