/* Namespaces: what can be said of one, what fits, what is found again, and what a record of anybody may hold. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/namespace.h"
#include "shm/units.h"
#include "tests/segment_fixture.h"

#define BLOCK_SHIFT 16u
#define BLOCK (UINT64_C(1) << BLOCK_SHIFT)
#define BLOCKS 32u
#define MOST (BLOCKS - 2)

static struct fixture f;
static struct lrd_store *s;
static struct lrd_ns_spec spec;
static char why[256];
static uint32_t ns;

static void setup(void)
{
    fixture_make(&f, 64, BLOCKS, BLOCK_SHIFT);
    s = &f.store;
    memset(&s->namespaces[1], 0, (LRD_NAMESPACES - 1) * sizeof *s->namespaces); /* the fixture's others */
}

static void teardown(void) { fixture_drop(&f); }

/* ---- text ---- */

START_TEST(names)
{
    static const char *const good[] = {"a", "Z9", "_", "sessions", "a.b-c_d", "9lives", "abcdefghijklmnopqrstuvwxyz01234"};
    static const char *const bad[] = {"", "-a", ".a", "a b", "a/b", "a,b", "a=b", "\xc3\xa4", "a\n", "abcdefghijklmnopqrstuvwxyz012345", "a\x7f", "*"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        ck_assert_msg(lrd_ns_name_ok(good[i]), "\"%s\"", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_msg(!lrd_ns_name_ok(bad[i]), "\"%s\"", bad[i]);
    char open_end[LRD_NAMESPACE_NAME + 1] = "";
    memset(open_end, 'a', LRD_NAMESPACE_NAME);
    open_end[LRD_NAMESPACE_NAME] = '\0';
    ck_assert(!lrd_ns_name_ok(open_end));
}
END_TEST

START_TEST(good_specs)
{
    ck_assert(lrd_ns_spec_parse("plain", &spec, why, sizeof why));
    ck_assert_str_eq(spec.name, "plain");
    ck_assert_uint_eq(spec.policy, LRD_POLICY_EVICT);
    ck_assert_uint_eq(spec.min_bytes + spec.max_bytes + spec.default_ttl_ms + spec.reset_every_ms, 0);
    ck_assert(lrd_ns_spec_parse("all,ttl=30m,max=2G,policy=fifo,reset-every=16ms,min=64M", &spec, why, sizeof why));
    ck_assert_uint_eq(spec.policy, LRD_POLICY_FIFO);
    ck_assert_uint_eq(spec.min_bytes, UINT64_C(64) << 20);
    ck_assert_uint_eq(spec.max_bytes, UINT64_C(2) << 30);
    ck_assert_uint_eq(spec.default_ttl_ms, 30 * 60 * 1000);
    ck_assert_uint_eq(spec.reset_every_ms, 16);
    ck_assert(lrd_ns_spec_parse("keep,policy=refuse,min=5000", &spec, why, sizeof why));
    ck_assert_uint_eq(spec.policy, LRD_POLICY_REFUSE);
    ck_assert_uint_eq(spec.max_bytes, 5000);
    ck_assert(lrd_ns_spec_parse("keep,policy=refuse,min=1M,max=1024K", &spec, why, sizeof why));
    ck_assert(lrd_ns_spec_parse("zero,min=0,max=0", &spec, why, sizeof why));
    ck_assert(lrd_ns_spec_parse("abcdefghijklmnopqrstuvwxyz01234,ttl=3650d", &spec, why, sizeof why));
}
END_TEST

START_TEST(what_is_wrong_with_a_spec)
{
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"", "\"\" is no name of a namespace: say 1 to 31 of"},
        {",min=1M", "\"\" is no name"},
        {"-x", "\"-x\" is no name"},
        {"a b,min=1M", "\"a b\" is no name"},
        {"min=1M", "\"min=1M\" is no name"},
        {"abcdefghijklmnopqrstuvwxyz012345", "is no name"},
        {"abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz", "is no name"},
        {"x\ty", "\"x?y\" is no name"},
        {"a,", "a: \"\" is no option of a namespace: there are policy="},
        {"a,min", "a: \"min\" is no option"},
        {"a,minimum=1M", "a: \"minimum=1M\" is no option"},
        {"a,mi=1M", "a: \"mi=1M\" is no option"},
        {"a,min=1M,", "a: \"\" is no option"},
        {"a, min=1M", "a: \" min=1M\" is no option"},
        {"a,=1M", "a: \"=1M\" is no option"},
        {"a,MIN=1M", "a: \"MIN=1M\" is no option"},
        {"a,\x1b[2J", "a: \"?[2J\" is no option"},
        {"a,min=", "a: \"min=\" does not do: say bytes or a number with K, M, G or T"},
        {"a,min=-1", "a: \"min=-1\" does not do"},
        {"a,min=10%", "a: \"min=10%\" does not do: say bytes"},
        {"a,max=12X", "a: \"max=12X\" does not do"},
        {"a,max=99999999999999999999", "does not do: say bytes"},
        {"a,max=99999999T", "does not do: say bytes"},
        {"a,policy=lru", "a: \"policy=lru\" does not do: say evict, fifo or refuse"},
        {"a,policy=", "a: \"policy=\" does not do"},
        {"a,policy=evict ", "does not do"},
        {"a,ttl=10", "a: \"ttl=10\" does not do: say a number with ms, s, m, h or d"},
        {"a,ttl=0s", "a: \"ttl=0s\" does not do"},
        {"a,ttl=3651d", "from 1ms to 3650d"},
        {"a,ttl=99999999999999999d", "from 1ms to 3650d"},
        {"a,reset-every=1.5s", "a: \"reset-every=1.5s\" does not do"},
        {"a,reset-every=5M", "does not do"},
        {"a,min=1M,min=1M", "a: min is there twice"},
        {"a,policy=fifo,policy=evict", "a: policy is there twice"},
        {"a,min=00000000000000000000000000000000000000000000000000000000000000001", "does not do"},
        {"a,policy=refuse", "a: policy=refuse needs min=SIZE"},
        {"a,policy=refuse,max=1M", "a: policy=refuse needs min=SIZE"},
        {"a,policy=refuse,min=1536K,max=2M", "a: with policy=refuse min and max are the same: leave max out, or say max=1536K"},
        {"a,policy=refuse,min=1M,max=0", "the same"},
        {"a,min=2M,max=1M", "a: min 2M is more than max 1M: lower min or raise max"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(!lrd_ns_spec_parse(bad[i].text, &spec, why, sizeof why), "%s", bad[i].text);
        ck_assert_msg(strstr(why, bad[i].says) != NULL, "\"%s\" is not in \"%s\"", bad[i].says, why);
        ck_assert(strchr(why, '\n') == NULL);
        ck_assert(!lrd_ns_spec_parse(bad[i].text, &spec, NULL, 0));
        char little[8];
        ck_assert(!lrd_ns_spec_parse(bad[i].text, &spec, little, sizeof little));
        ck_assert_uint_lt(strlen(little), sizeof little);
    }
}
END_TEST

START_TEST(units)
{
    uint64_t n;
    char t[24];
    static const struct {
        const char *text;
        uint64_t ms;
    } times[] = {{"16ms", 16}, {"10s", 10000}, {"5m", 300000}, {"1h", 3600000}, {"2d", 172800000}, {"0ms", 0}};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        ck_assert(lrd_ms_parse(times[i].text, &n));
        ck_assert_uint_eq(n, times[i].ms);
        ck_assert_str_eq(lrd_ms_text(n, t), times[i].text);
    }
    ck_assert_str_eq(lrd_ms_text(90000, t), "90s");
    ck_assert_str_eq(lrd_ms_text(UINT64_MAX, t), "18446744073709551615ms");
    ck_assert(!lrd_ms_parse("", &n) && !lrd_ms_parse("s", &n) && !lrd_ms_parse("1", &n) && !lrd_ms_parse("1 s", &n) && !lrd_ms_parse("1S", &n) && !lrd_ms_parse("+1s", &n));
    ck_assert_str_eq(lrd_size_exact_text(0, t), "0");
    ck_assert_str_eq(lrd_size_exact_text(UINT64_C(58880) << 10, t), "58880K");
    ck_assert_str_eq(lrd_size_exact_text(UINT64_C(5) << 60, t), "5242880T");
    ck_assert_str_eq(lrd_size_exact_text(1025, t), "1025");
}
END_TEST

START_TEST(policies)
{
    ck_assert_str_eq(lrd_policy_text(LRD_POLICY_EVICT), "evict");
    ck_assert_str_eq(lrd_policy_text(LRD_POLICY_FIFO), "fifo");
    ck_assert_str_eq(lrd_policy_text(LRD_POLICY_REFUSE), "refuse");
    ck_assert_str_eq(lrd_policy_text(LRD_N_POLICIES), "?");
}
END_TEST

/* ---- making ---- */

static struct lrd_ns_spec named(const char *name)
{
    struct lrd_ns_spec x = {.policy = LRD_POLICY_EVICT};
    snprintf(x.name, sizeof x.name, "%s", name);
    return x;
}

static enum lrd_answer add(const struct lrd_ns_spec *x)
{
    ns = 12345;
    why[0] = '\0';
    return lrd_ns_add(s, x, &ns, why, sizeof why);
}

static struct lrd_namespace *made(const struct lrd_ns_spec *x)
{
    ck_assert_int_eq(add(x), LRD_ANSWER_OK);
    ck_assert_uint_lt(ns, LRD_NS_NOWHERE);
    ck_assert_uint_eq(lrd_ns_find(&s->r, x->name), ns);
    ck_assert_uint_eq(lrd_load32_acquire(&s->namespaces[ns].state), LRD_NS_LIVE);
    return &s->namespaces[ns];
}

/* Refused with that answer and those words, and nothing changed. */
static void refused(const struct lrd_ns_spec *x, enum lrd_answer answer, const char *says)
{
    struct lrd_namespace before[LRD_NAMESPACES];
    memcpy(before, s->namespaces, sizeof before);
    ck_assert_int_eq(add(x), answer);
    ck_assert_int_eq(memcmp(before, s->namespaces, sizeof before), 0);
    ck_assert_msg(strstr(why, says) != NULL, "\"%s\" is not in \"%s\"", says, why);
    ck_assert(strchr(why, '\n') == NULL);
    ck_assert_int_eq(lrd_ns_add(s, x, &ns, NULL, 0), answer);
}

START_TEST(fields)
{
    struct lrd_ns_spec x = {.name = "frames", .policy = LRD_POLICY_FIFO, .min_bytes = 4 * BLOCK, .max_bytes = 8 * BLOCK, .default_ttl_ms = 5, .reset_every_ms = 16};
    ck_assert_uint_eq(lrd_ns_find(&s->r, "frames"), LRD_NS_NOWHERE);
    struct lrd_namespace *n = made(&x);
    ck_assert_uint_eq(ns, 1);
    ck_assert_str_eq(n->name, "frames");
    ck_assert_uint_eq(lrd_load32_relaxed(&n->epoch), 1);
    ck_assert_uint_eq(lrd_load32_relaxed(&n->policy), LRD_POLICY_FIFO);
    ck_assert_uint_eq(lrd_load32_relaxed(&n->credit), LRD_NO_CREDIT);
    ck_assert_uint_eq(lrd_load_relaxed(&n->default_ttl_ms), 5);
    ck_assert_uint_eq(lrd_load_relaxed(&n->reset_every_ms), 16);
    ck_assert_uint_eq(lrd_load_relaxed(&n->min_blocks), 4);
    ck_assert_uint_eq(lrd_load_relaxed(&n->max_blocks), 8);
    ck_assert_uint_eq(lrd_load_relaxed(&n->by_client), 0);
    ck_assert_uint_eq(lrd_ns_find(&s->r, "frame"), LRD_NS_NOWHERE);
    ck_assert_uint_eq(lrd_ns_find(&s->r, "frames2"), LRD_NS_NOWHERE);
    ck_assert_uint_eq(lrd_ns_find(&s->r, "default"), 0);
}
END_TEST

/* Minimum up, maximum down, all of it is all but the spare blocks. */
START_TEST(rounding)
{
    struct lrd_ns_spec x = named("a");
    x.min_bytes = BLOCK + 1;
    x.max_bytes = 5 * BLOCK - 1;
    struct lrd_namespace *n = made(&x);
    ck_assert_uint_eq(lrd_load_relaxed(&n->min_blocks), 2);
    ck_assert_uint_eq(lrd_load_relaxed(&n->max_blocks), 4);
    x = named("b");
    n = made(&x);
    ck_assert_uint_eq(lrd_load_relaxed(&n->min_blocks), 0);
    ck_assert_uint_eq(lrd_load_relaxed(&n->max_blocks), BLOCKS);
    x = named("c");
    x.max_bytes = UINT64_MAX;
    n = made(&x);
    ck_assert_uint_eq(lrd_load_relaxed(&n->max_blocks), BLOCKS);
    x = named("d");
    x.max_bytes = (BLOCKS + 1) * BLOCK;
    ck_assert_uint_eq(lrd_load_relaxed(&made(&x)->max_blocks), BLOCKS);
    x = named("e");
    x.min_bytes = 5 * BLOCK + 1;
    x.max_bytes = 6 * BLOCK - 1;
    refused(&x, LRD_ANSWER_NO_QUOTA, "e: in whole blocks of 64K its minimum is 6 of them and its maximum 5");
    x = named("f");
    x.max_bytes = 4 * BLOCK - 1;
    refused(&x, LRD_ANSWER_NO_QUOTA, "give it 256K or more");
    x.max_bytes = 1;
    refused(&x, LRD_ANSWER_NO_QUOTA, "give it 256K or more");
    x.max_bytes = 4 * BLOCK;
    made(&x);
    x = named("g");
    x.policy = LRD_POLICY_REFUSE;
    x.min_bytes = 4 * BLOCK + 1;
    n = made(&x);
    ck_assert_uint_eq(lrd_load_relaxed(&n->min_blocks), 5);
    ck_assert_uint_eq(lrd_load_relaxed(&n->max_blocks), 5);
}
END_TEST

START_TEST(minimums_add_up_to_the_arena_but_two)
{
    struct lrd_ns_spec x = named("too-much");
    x.min_bytes = (MOST + 1) * BLOCK;
    refused(&x, LRD_ANSWER_NO_QUOTA, "too-much: a minimum of 1.9M does not fit: the arena has 2M, and 1920K of it at most can still be set apart");
    x.min_bytes = UINT64_MAX;
    refused(&x, LRD_ANSWER_NO_QUOTA, "at most can still be set apart");
    x.policy = LRD_POLICY_REFUSE;
    refused(&x, LRD_ANSWER_NO_QUOTA, "at most can still be set apart");
    x = named("a");
    x.min_bytes = 10 * BLOCK;
    made(&x);
    x = named("b");
    x.min_bytes = (MOST - 10 + 1) * BLOCK;
    refused(&x, LRD_ANSWER_NO_QUOTA, "1280K of it at most");
    x.min_bytes -= BLOCK - 1; /* rounded up again it is the same as the one more block */
    refused(&x, LRD_ANSWER_NO_QUOTA, "1280K of it at most");
    x.min_bytes = (MOST - 10) * BLOCK;
    made(&x);
    x = named("c");
    x.min_bytes = 1;
    refused(&x, LRD_ANSWER_NO_QUOTA, "0 of it at most");
    x.min_bytes = 0;
    made(&x);
}
END_TEST

START_TEST(the_same_is_found_and_another_is_not_made)
{
    struct lrd_ns_spec x = {.name = "a", .min_bytes = 2 * BLOCK, .max_bytes = 8 * BLOCK, .default_ttl_ms = 1000};
    made(&x);
    uint32_t first = ns;
    made(&x);
    ck_assert_uint_eq(ns, first);
    x.min_bytes -= 1; /* comes to the same blocks */
    made(&x);
    ck_assert_uint_eq(ns, first);
    struct lrd_ns_spec y = x;
    y.policy = LRD_POLICY_FIFO;
    refused(&y, LRD_ANSWER_EXISTS, "a: it is there, and was made differently");
    y = x;
    y.min_bytes = BLOCK;
    refused(&y, LRD_ANSWER_EXISTS, "a: ");
    y = x;
    y.max_bytes = 0;
    refused(&y, LRD_ANSWER_EXISTS, "a: ");
    y = x;
    y.default_ttl_ms = 0;
    refused(&y, LRD_ANSWER_EXISTS, "a: ");
    y = x;
    y.reset_every_ms = 1;
    refused(&y, LRD_ANSWER_EXISTS, "a: ");
    y = x;
    y.min_bytes = y.max_bytes = UINT64_C(1) << 50; /* and would not fit besides */
    refused(&y, LRD_ANSWER_EXISTS, "a: ");
    y = named("default");
    made(&y);
    ck_assert_uint_eq(ns, 0);
    y.default_ttl_ms = 1;
    refused(&y, LRD_ANSWER_EXISTS, "default: ");
}
END_TEST

START_TEST(accounts)
{
    char name[16];
    for (uint32_t i = 0; i < LRD_CREDITS; i++) {
        snprintf(name, sizeof name, "keep%u", i);
        struct lrd_ns_spec x = named(name);
        x.policy = LRD_POLICY_REFUSE;
        x.min_bytes = i == 0 ? 2 * BLOCK : 3 * BLOCK;
        refused(&x, LRD_ANSWER_NO_QUOTA, "give it 256K or more"); /* four at least */
    }
    fixture_drop(&f);
    fixture_make(&f, 64, LRD_CREDITS * 4 + 8, BLOCK_SHIFT);
    lrd_store32_relaxed(&s->namespaces[1].state, LRD_NS_NONE);
    uint32_t taken = 0;
    for (uint32_t i = 0; i < LRD_CREDITS; i++) {
        snprintf(name, sizeof name, "keep%u", i);
        struct lrd_ns_spec x = named(name);
        x.policy = LRD_POLICY_REFUSE;
        x.min_bytes = 4 * BLOCK;
        uint32_t account = lrd_load32_relaxed(&made(&x)->credit);
        ck_assert_uint_lt(account, LRD_CREDITS);
        taken |= 1u << account;
    }
    ck_assert_uint_eq(taken, (1u << LRD_CREDITS) - 1);
    struct lrd_ns_spec x = named("keep");
    x.policy = LRD_POLICY_REFUSE;
    x.min_bytes = x.max_bytes = 4 * BLOCK;
    refused(&x, LRD_ANSWER_TOO_MANY, "8 namespaces that refuse eviction");
    x = named("keep0"); /* who has one already */
    x.policy = LRD_POLICY_REFUSE;
    x.min_bytes = 4 * BLOCK;
    made(&x);
}
END_TEST

START_TEST(nowhere_is_never_given_out)
{
    char name[16];
    for (uint32_t i = 1; i < LRD_NS_NOWHERE; i++) {
        snprintf(name, sizeof name, "n%u", i);
        struct lrd_ns_spec x = named(name);
        made(&x);
        ck_assert_uint_eq(ns, i); /* none is used twice */
    }
    struct lrd_ns_spec x = named("one-more");
    refused(&x, LRD_ANSWER_TOO_MANY, "63 namespaces");
    ck_assert_uint_eq(lrd_load32_relaxed(&s->namespaces[LRD_NS_NOWHERE].state), LRD_NS_NONE);
    x = named("n62");
    made(&x);
    /* Nor is it found, should somebody have written there. */
    strcpy(s->namespaces[LRD_NS_NOWHERE].name, "ghost");
    lrd_store32_relaxed(&s->namespaces[LRD_NS_NOWHERE].state, LRD_NS_LIVE);
    ck_assert_uint_eq(lrd_ns_find(&s->r, "ghost"), LRD_NS_NOWHERE);
}
END_TEST

/* A worker that died before the state: the next one makes it, and what the index was used for before is of another epoch. */
START_TEST(half_made)
{
    struct lrd_namespace *n = &s->namespaces[1];
    strcpy(n->name, "half-of-a-long-name");
    lrd_store32_relaxed(&n->epoch, 7);
    lrd_store_relaxed(&n->resets, 3);
    lrd_store_relaxed(&n->largest, 3);
    lrd_store_relaxed(&n->min_blocks, 1000); /* not counted: nobody has it */
    lrd_store_relaxed(&n->by_client, 1);
    lrd_store32_relaxed(&n->credit, 0);
    ck_assert_uint_eq(lrd_ns_find(&s->r, "half-of-a-long-name"), LRD_NS_NOWHERE);
    struct lrd_ns_spec x = named("a");
    ck_assert_ptr_eq(made(&x), n);
    ck_assert_uint_eq(lrd_load32_relaxed(&n->epoch), 8);
    ck_assert_uint_eq(lrd_load_relaxed(&n->resets) + lrd_load_relaxed(&n->largest) + lrd_load_relaxed(&n->by_client) + lrd_load_relaxed(&n->min_blocks), 0);
    ck_assert_uint_eq(lrd_load32_relaxed(&n->credit), LRD_NO_CREDIT);
    for (size_t i = 1; i < sizeof n->name; i++)
        ck_assert_int_eq(n->name[i], 0);
    lrd_store32_relaxed(&n->state, LRD_NS_NONE);
    lrd_store32_relaxed(&n->epoch, UINT32_MAX);
    made(&x);
    ck_assert_uint_eq(lrd_load32_relaxed(&n->epoch), 1);
}
END_TEST

/* As it comes in a record: any bytes. */
START_TEST(hostile)
{
    struct lrd_ns_spec x;
    memset(&x, 0, sizeof x);
    refused(&x, LRD_ANSWER_MALFORMED, "is no name");
    memset(x.name, 'a', sizeof x.name); /* no end */
    refused(&x, LRD_ANSWER_MALFORMED, "is no name");
    x = named("a\n\x1b[2J");
    refused(&x, LRD_ANSWER_MALFORMED, "\"a??[2J\" is no name");
    x = named("a");
    x.policy = LRD_N_POLICIES;
    refused(&x, LRD_ANSWER_MALFORMED, "a: there is no policy 3");
    x.policy = UINT32_MAX;
    refused(&x, LRD_ANSWER_MALFORMED, "a: there is no policy");
    x = named("a");
    x.default_ttl_ms = LRD_NS_MS_MAX + 1;
    refused(&x, LRD_ANSWER_MALFORMED, "a: a time");
    x = named("a");
    x.reset_every_ms = UINT64_MAX;
    refused(&x, LRD_ANSWER_MALFORMED, "a: a time");
    x = named("a");
    x.min_bytes = 2;
    x.max_bytes = 1;
    refused(&x, LRD_ANSWER_MALFORMED, "minimum is more");
    x = named("a");
    x.policy = LRD_POLICY_REFUSE;
    refused(&x, LRD_ANSWER_MALFORMED, "refuses eviction");
    x.min_bytes = 4 * BLOCK;
    x.max_bytes = 5 * BLOCK;
    refused(&x, LRD_ANSWER_MALFORMED, "refuses eviction");
    x = named("a");
    x.min_bytes = x.max_bytes = UINT64_MAX;
    refused(&x, LRD_ANSWER_NO_QUOTA, "does not fit");
    x.min_bytes = UINT64_MAX - BLOCK / 2;
    x.max_bytes = 0;
    refused(&x, LRD_ANSWER_NO_QUOTA, "does not fit");

    /* Bytes of no kind: whatever is answered, what is there adds up. */
    uint64_t state = 42;
    for (int i = 0; i < 200000; i++) {
        fixture_bytes(&x, sizeof x, fixture_random(&state));
        uint64_t how = fixture_random(&state);
        if (how & 1)
            snprintf(x.name, sizeof x.name, "r%u", (unsigned)(how >> 8 & 127));
        if (how & 2)
            x.policy &= 3;
        if (how & 4)
            x.min_bytes &= 0x3ffff;
        if (how & 8)
            x.max_bytes &= 0x1fffff;
        if (how & 16)
            x.default_ttl_ms = x.reset_every_ms = 0;
        if (how & 32)
            x.min_bytes = x.max_bytes = 0;
        if (how & 64)
            x.feed_entries = 0;
        (void)add(&x);
    }
    uint64_t sum = 0;
    uint32_t live = 0, accounts_taken = 0;
    for (uint32_t i = 0; i < LRD_NAMESPACES; i++) {
        const struct lrd_namespace *n = &s->namespaces[i];
        if (lrd_load32_relaxed(&n->state) != LRD_NS_LIVE)
            continue;
        live++;
        sum += lrd_load_relaxed(&n->min_blocks);
        ck_assert(lrd_ns_name_ok(n->name));
        ck_assert_uint_eq(lrd_ns_find(&s->r, n->name), i); /* no name twice */
        ck_assert_uint_ge(lrd_load_relaxed(&n->max_blocks), LRD_NS_BLOCKS_LEAST);
        ck_assert_uint_le(lrd_load_relaxed(&n->max_blocks), BLOCKS);
        ck_assert_uint_le(lrd_load_relaxed(&n->min_blocks), lrd_load_relaxed(&n->max_blocks));
        uint32_t account = lrd_load32_relaxed(&n->credit);
        ck_assert_int_eq(account == LRD_NO_CREDIT, lrd_load32_relaxed(&n->policy) != LRD_POLICY_REFUSE);
        if (account != LRD_NO_CREDIT)
            ck_assert_uint_eq(accounts_taken >> account & 1, 0);
        accounts_taken |= account != LRD_NO_CREDIT ? 1u << account : 0;
    }
    ck_assert_uint_le(sum, MOST);
    ck_assert_uint_gt(live, 20);
    ck_assert_uint_lt(live, LRD_NAMESPACES);
}
END_TEST

/* ---- clients of other users ---- */

static enum lrd_answer client_add(const struct lrd_ns_spec *x, uint32_t limit) { return lrd_ns_add_for_client(s, x, limit, &ns, why, sizeof why); }

START_TEST(clients)
{
    struct lrd_ns_spec a = named("a"), b = named("b"), c = named("c"), x = named("x");
    ck_assert_int_eq(client_add(&a, 0), LRD_ANSWER_DENIED);
    ck_assert_ptr_nonnull(strstr(why, "a: clients of other users may make 0"));
    ck_assert_uint_eq(lrd_ns_find(&s->r, "a"), LRD_NS_NOWHERE);
    x.min_bytes = 1;
    ck_assert_int_eq(client_add(&x, 2), LRD_ANSWER_DENIED);
    x.policy = LRD_POLICY_REFUSE;
    x.min_bytes = 4 * BLOCK;
    ck_assert_int_eq(client_add(&x, 2), LRD_ANSWER_DENIED);
    made(&x); /* an administrator's does not count */
    ck_assert_int_eq(client_add(&x, 0), LRD_ANSWER_OK); /* what is there may be asked for */
    ck_assert_int_eq(client_add(&a, 2), LRD_ANSWER_OK);
    ck_assert_uint_eq(lrd_load_relaxed(&s->namespaces[ns].by_client), 1);
    b.policy = LRD_POLICY_FIFO;
    ck_assert_int_eq(client_add(&b, 2), LRD_ANSWER_OK);
    ck_assert_int_eq(client_add(&c, 2), LRD_ANSWER_DENIED);
    ck_assert_int_eq(client_add(&a, 2), LRD_ANSWER_OK);
    b.default_ttl_ms = 1;
    ck_assert_int_eq(client_add(&b, 2), LRD_ANSWER_EXISTS);
    ck_assert(!lrd_ns_client_may_add(&s->r, &c, 2));
    ck_assert(lrd_ns_client_may_add(&s->r, &c, 3));
    made(&a); /* found by an administrator it stays a client's */
    ck_assert_uint_eq(lrd_load_relaxed(&s->namespaces[ns].by_client), 1);
    made(&c);
    ck_assert_uint_eq(lrd_load_relaxed(&s->namespaces[ns].by_client), 0);
    x = named("");
    ck_assert_int_eq(client_add(&x, 9), LRD_ANSWER_MALFORMED);
}
END_TEST

/* ---- by configuration ---- */

START_TEST(default_is_there)
{
    const struct lrd_namespace *n = &s->namespaces[0];
    ck_assert_uint_eq(lrd_ns_find(&s->r, "default"), 0);
    ck_assert_uint_eq(lrd_load32_relaxed(&n->epoch), 1);
    ck_assert_uint_eq(lrd_load_relaxed(&n->min_blocks), 0);
    ck_assert_uint_eq(lrd_load_relaxed(&n->max_blocks), BLOCKS);
    ck_assert_uint_eq(lrd_load32_relaxed(&n->credit), LRD_NO_CREDIT);
}
END_TEST

START_TEST(configured)
{
    const struct lrd_ns_spec specs[] = {
        {.name = "a", .min_bytes = 10 * BLOCK},
        {.name = "default", .policy = LRD_POLICY_REFUSE, .min_bytes = 8 * BLOCK, .default_ttl_ms = 9},
        {.name = "b", .policy = LRD_POLICY_FIFO, .min_bytes = 12 * BLOCK},
    };
    struct lrd_namespace all[LRD_NAMESPACES];
    ck_assert_int_eq(lrd_ns_plan(&s->r.geometry, specs, 3, all, why, sizeof why), LRD_ANSWER_OK);
    ck_assert_uint_eq(lrd_ns_find(&s->r, "a"), LRD_NS_NOWHERE); /* a plan is a plan */
    ck_assert_int_eq(lrd_ns_configure(s, specs, 3, why, sizeof why), LRD_ANSWER_OK);
    ck_assert_int_eq(memcmp(&all[2], &s->namespaces[2], sizeof all[2]), 0);
    const struct lrd_namespace *n = &s->namespaces[0];
    ck_assert_str_eq(n->name, "default");
    ck_assert_uint_eq(lrd_load32_relaxed(&n->state), LRD_NS_LIVE);
    ck_assert_uint_eq(lrd_load32_relaxed(&n->epoch), 1);
    ck_assert_uint_eq(lrd_load32_relaxed(&n->policy), LRD_POLICY_REFUSE);
    ck_assert_uint_eq(lrd_load32_relaxed(&n->credit), 0);
    ck_assert_uint_eq(lrd_load_relaxed(&n->min_blocks), 8);
    ck_assert_uint_eq(lrd_load_relaxed(&n->max_blocks), 8);
    ck_assert_uint_eq(lrd_load_relaxed(&n->default_ttl_ms), 9);
    ck_assert_uint_eq(lrd_ns_find(&s->r, "b"), 2);
    /* Full to the last block. */
    struct lrd_ns_spec x = named("c");
    x.min_bytes = 1;
    refused(&x, LRD_ANSWER_NO_QUOTA, "0 of it at most");

    /* What default was told before is not counted against what it is told now: neither its minimum nor its account. */
    ck_assert_int_eq(lrd_ns_configure(s, &specs[1], 1, why, sizeof why), LRD_ANSWER_OK);
    ck_assert_uint_eq(lrd_load32_relaxed(&n->credit), 0);

    struct lrd_ns_spec more[3];
    memcpy(more, specs, sizeof more);
    more[1].min_bytes++; /* default's does not count against itself, but against the others */
    ck_assert_int_eq(lrd_ns_plan(&s->r.geometry, more, 2, all, why, sizeof why), LRD_ANSWER_OK);
    ck_assert_int_eq(lrd_ns_plan(&s->r.geometry, more, 3, all, why, sizeof why), LRD_ANSWER_NO_QUOTA);
    ck_assert_ptr_nonnull(strstr(why, "b: a minimum of 768K does not fit: the arena has 2M, and 704K of it at most"));
    more[1].policy = 17;
    ck_assert_int_eq(lrd_ns_plan(&s->r.geometry, more, 3, all, why, sizeof why), LRD_ANSWER_MALFORMED);

    lrd_store_relaxed(&s->header->worker_count, 1);
    ck_assert_int_eq(lrd_ns_configure(s, specs, 3, why, sizeof why), LRD_ANSWER_DENIED);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("namespace");
    TCase *tc = tcase_create("text");
    tcase_add_test(tc, names);
    tcase_add_test(tc, good_specs);
    tcase_add_test(tc, what_is_wrong_with_a_spec);
    tcase_add_test(tc, units);
    tcase_add_test(tc, policies);
    suite_add_tcase(suite, tc);
    tc = tcase_create("making");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, fields);
    tcase_add_test(tc, rounding);
    tcase_add_test(tc, minimums_add_up_to_the_arena_but_two);
    tcase_add_test(tc, the_same_is_found_and_another_is_not_made);
    tcase_add_test(tc, accounts);
    tcase_add_test(tc, nowhere_is_never_given_out);
    tcase_add_test(tc, half_made);
    tcase_add_test(tc, hostile);
    tcase_add_test(tc, clients);
    tcase_add_test(tc, default_is_there);
    tcase_add_test(tc, configured);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
