/* Planning a segment, and looking at one that anybody may have made. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/segment_fixture.h"

/* In loops: Check's own macros write to a file each time. */
#define expect(x) ((x) ? (void)0 : ck_abort_msg("%s", #x))

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

/* ---- the plan ---- */

static uint64_t least_of(enum lrd_part_id id, const struct lrd_geometry *g)
{
    switch (id) {
    case LRD_PART_HEADER:
        return sizeof(struct lrd_header);
    case LRD_PART_NAMESPACES:
        return LRD_NAMESPACES * sizeof(struct lrd_namespace);
    case LRD_PART_COUNTERS:
        return (uint64_t)LRD_NAMESPACES * LRD_N_COUNTERS * sizeof(lrd_u64);
    case LRD_PART_LANES:
        return g->n_lanes * sizeof(struct lrd_lane_words);
    case LRD_PART_CREDITS:
        return g->n_lanes * sizeof(struct lrd_lane_credit);
    case LRD_PART_PAUSES:
        return sizeof(struct lrd_pauses);
    case LRD_PART_DEPARTURES:
        return sizeof(struct lrd_departures) + (uint64_t)g->n_departures * sizeof(struct lrd_departure);
    case LRD_PART_FEEDS:
        return (uint64_t)g->feed_pages * LRD_PAGE;
    case LRD_PART_JOURNAL:
        return sizeof(struct lrd_journal);
    case LRD_PART_BLOCK_WORDS:
        return g->n_blocks * sizeof(lrd_u64);
    case LRD_PART_DESCRIPTORS:
        return g->n_blocks * sizeof(struct lrd_descriptor);
    case LRD_PART_TABLE:
        return (uint64_t)g->n_pairs * 2 * sizeof(struct lrd_bucket);
    case LRD_PART_ARENA:
        return (uint64_t)g->n_blocks << g->block_shift;
    case LRD_N_PARTS:
        break;
    }
    return UINT64_MAX;
}

static void check_parts(const struct lrd_geometry *g, const struct lrd_part parts[LRD_N_PARTS])
{
    uint64_t end = 0, waste = 0;
    for (unsigned id = 0; id < LRD_N_PARTS; id++) {
        expect(parts[id].off % LRD_PAGE == 0 && parts[id].bytes % LRD_PAGE == 0);
        expect(parts[id].off >= end); /* in order, so no two overlap */
        expect(parts[id].bytes >= least_of((enum lrd_part_id)id, g));
        waste += parts[id].off - end;
        end = parts[id].off + parts[id].bytes;
    }
    expect(parts[0].off == 0);
    expect(end <= g->segment_bytes);
    if (g->segment_bytes >= 64 * MIB)
        expect(parts[LRD_PART_TABLE].off % LRD_HUGE == 0 && parts[LRD_PART_ARENA].off % LRD_HUGE == 0);
    expect(waste <= 2 * LRD_HUGE);
}

static void check_plan(const struct lrd_plan *p, const struct lrd_geometry *g, const struct lrd_part parts[LRD_N_PARTS])
{
    expect(g->segment_bytes <= p->memory_bytes && g->segment_bytes > p->memory_bytes - LRD_HUGE);
    expect(g->reserve_bytes >= g->segment_bytes);
    check_parts(g, parts);
    expect(g->n_blocks >= 8 && g->n_pairs >= 2 && g->n_pairs <= 1u << 30);
    expect(g->block_shift >= LRD_BLOCK_SHIFT_MIN && g->block_shift <= LRD_BLOCK_SHIFT_MAX);
    expect(p->block_shift == 0 || g->block_shift == p->block_shift);
    expect(g->item_max == 1u << (g->block_shift - 1));
    /* A ring takes the largest record, at least: its header is 24 bytes longer than an item's. Two of them, but for a few bytes. */
    expect(g->n_cells >= 64 && g->n_cells <= 1u << 15 && (g->n_cells & (g->n_cells - 1)) == 0);
    expect((uint64_t)g->n_cells * LRD_CELL >= 2 * (uint64_t)g->item_max);
    expect(g->n_cells == 1u << 15 || (uint64_t)g->n_cells * LRD_CELL >= p->ring_bytes);
    expect(lrd_ring_cells_for(1, g->item_max - 17) <= g->n_cells);
    /* Every granule of the arena has a location, and the granule is no larger than that takes. */
    uint64_t arena = (uint64_t)g->n_blocks << g->block_shift;
    expect((arena - 1) >> g->granule_shift <= UINT32_MAX);
    expect(g->granule_shift == 3 || g->segment_bytes > GIB << (g->granule_shift + 1));
    expect(g->granule_shift >= 3);
    if (g->segment_bytes <= 32 * GIB)
        expect(g->granule_shift == 3);
    /* Full of average items the table has the load that was asked for. */
    double items = (double)arena / (double)(16 + p->average_item + 4), slots = (double)g->n_pairs * 2 * LRD_SLOTS;
    double load = p->load > 0 ? p->load : 0.70;
    if (items / slots > load + 0.001 && g->n_pairs < 1u << 30)
        ck_abort_msg("%llu bytes, items of %u: load %g", (unsigned long long)p->memory_bytes, p->average_item, items / slots);
    expect(items / slots >= load * 0.95 || slots < 2000);
}

static unsigned planned, refused;

static void plan_one(const struct lrd_plan *p)
{
    struct lrd_geometry g;
    struct lrd_part parts[LRD_N_PARTS];
    uint64_t least = 0;
    int r = lrd_segment_plan(p, &g, parts, &least);
    if (r == 0) {
        check_plan(p, &g, parts);
        planned++;
        return;
    }
    refused++;
    expect(r == -EINVAL);
    expect(least + LRD_HUGE > p->memory_bytes);
    struct lrd_plan q = *p;
    q.memory_bytes = least;
    if (lrd_segment_plan(&q, &g, parts, NULL) != 0)
        ck_abort_msg("%llu bytes, items of %u, load %g, %u lanes, shift %u: it says %llu are enough; they are not", (unsigned long long)p->memory_bytes,
                     p->average_item, p->load, p->n_lanes, p->block_shift, (unsigned long long)least);
}

START_TEST(test_plans)
{
    static const uint64_t memory[] = {1,         4 * MIB,  8 * MIB,       9 * MIB,  10 * MIB,         16 * MIB,           30 * MIB,  32 * MIB,
                                      64 * MIB,  100 * MIB, 256 * MIB,    GIB,      5 * GIB + 12345,  31 * GIB,           32 * GIB,  32 * GIB + 2 * MIB,
                                      64 * GIB,  65 * GIB, 1024 * GIB,    4096 * GIB};
    static const uint32_t average[] = {1, 8, 40, 100, 300, 1000, 4096, 70000, 1000000};
    static const double load[] = {0, 0.05, 0.5, 0.6, 0.75, 0.9};
    static const uint32_t lanes[] = {1, 64, 1000, 65536};
    static const uint32_t ring[] = {0, 100000, 2u << 20, 64u << 20};
    static const uint32_t shift[] = {0, 16, 18, 21};
    for (size_t m = 0; m < sizeof memory / sizeof *memory; m++)
        for (size_t a = 0; a < sizeof average / sizeof *average; a++)
            for (size_t l = 0; l < sizeof load / sizeof *load; l++)
                for (size_t n = 0; n < sizeof lanes / sizeof *lanes; n++)
                    for (size_t i = 0; i < 16; i++) {
                        struct lrd_plan p = {memory[m], average[a], load[l], lanes[n], ring[i & 3], shift[i >> 2], 0, 0, 0};
                        plan_one(&p);
                    }
    ck_assert_uint_gt(planned, 10000);
    ck_assert_uint_gt(refused, 100);
}
END_TEST

START_TEST(test_plans_of_nonsense)
{
    static const struct lrd_plan nonsense[] = {
        {GIB, 0, 0, 1, 0, 0, 0, 0, 0}, {GIB, 100, 0.95, 1, 0, 0, 0, 0, 0}, {GIB, 100, 0.01, 1, 0, 0, 0, 0, 0}, {GIB, 100, 0, 0, 0, 0, 0, 0, 0}, {0, 100, 0, 1, 0, 0, 0, 0, 0}};
    struct lrd_geometry g;
    struct lrd_part parts[LRD_N_PARTS];
    ck_assert_int_eq(lrd_segment_plan(&nonsense[_i], &g, parts, NULL), -EINVAL);
}
END_TEST

/* ---- what a reader refuses ---- */

static unsigned char *segment; /* of a plan of 8 MiB */
static struct lrd_header *header;
static size_t segment_bytes;

static void segment_setup(void)
{
    struct lrd_plan p = {8 * MIB, 100, 0, 16, 0, 0, 0, 0, 0};
    struct lrd_geometry g;
    struct lrd_part parts[LRD_N_PARTS];
    struct lrd_store s;
    ck_assert_int_eq(lrd_segment_plan(&p, &g, parts, NULL), 0);
    segment_bytes = g.segment_bytes;
    segment = mmap(NULL, segment_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(segment, MAP_FAILED);
    header = (struct lrd_header *)(void *)segment;
    lrd_segment_format(&s, segment, &g, parts);
    ck_assert_ptr_nonnull(s.r.arena);
}

static void segment_teardown(void) { munmap(segment, segment_bytes); }

static enum lrd_segment_state look(size_t bytes)
{
    struct lrd_reader r;
    enum lrd_segment_state state = lrd_reader_init(&r, segment, bytes);
    struct lrd_store s;
    ck_assert_int_eq(lrd_store_init(&s, segment, bytes), state);
    ck_assert_ptr_nonnull(lrd_segment_state_text(state));
    return state;
}

START_TEST(test_good)
{
    ck_assert_int_eq(look(segment_bytes), LRD_SEGMENT_GOOD);
    ck_assert_int_eq(look(segment_bytes + LRD_PAGE), LRD_SEGMENT_GOOD);
    struct lrd_reader r;
    lrd_reader_init(&r, segment, segment_bytes);
    ck_assert_mem_eq(&r.geometry, &header->geometry, sizeof r.geometry);
    ck_assert_ptr_eq(r.arena, segment + header->parts[LRD_PART_ARENA].off);
    ck_assert_ptr_eq(r.buckets, segment + header->parts[LRD_PART_TABLE].off);
    ck_assert_ptr_eq(r.journal, segment + header->parts[LRD_PART_JOURNAL].off);
    ck_assert_ptr_eq(r.counters, segment + header->parts[LRD_PART_COUNTERS].off);
    ck_assert_str_eq(r.namespaces[0].name, "default");
    ck_assert_uint_eq(fixture_recount(&r), 0);
}
END_TEST

START_TEST(test_short)
{
    ck_assert_int_eq(look(0), LRD_SEGMENT_SHORT);
    ck_assert_int_eq(look(sizeof(struct lrd_header) - 1), LRD_SEGMENT_SHORT);
    ck_assert_int_eq(look(sizeof(struct lrd_header)), LRD_SEGMENT_SHORT);
    ck_assert_int_eq(look(segment_bytes - 1), LRD_SEGMENT_SHORT);
    header->geometry.segment_bytes = UINT64_MAX;
    ck_assert_int_eq(look(segment_bytes), LRD_SEGMENT_SHORT);
}
END_TEST

START_TEST(test_not_ready)
{
    lrd_store_relaxed(&header->magic, 0);
    ck_assert_int_eq(look(segment_bytes), LRD_SEGMENT_NOT_READY);
    lrd_store_relaxed(&header->magic, LRD_MAGIC ^ 1);
    ck_assert_int_eq(look(segment_bytes), LRD_SEGMENT_NOT_READY);
}
END_TEST

START_TEST(test_other_version)
{
    header->layout_version++;
    ck_assert_int_eq(look(segment_bytes), LRD_SEGMENT_OTHER_VERSION);
    header->layout_version--;
    header->layout_hash ^= 1;
    ck_assert_int_eq(look(segment_bytes), LRD_SEGMENT_OTHER_VERSION);
}
END_TEST

/* Each number of the geometry at values that do not go with the others. */
START_TEST(test_damaged_geometry)
{
    struct lrd_geometry *g = &header->geometry;
    const struct lrd_geometry good = *g;
#define DAMAGED(field, value)                                          \
    do {                                                               \
        g->field = value;                                              \
        if (look(segment_bytes) != LRD_SEGMENT_DAMAGED)                \
            ck_abort_msg(#field " = " #value " is taken for good");    \
        *g = good;                                                     \
    } while (0)
    DAMAGED(segment_bytes, 0);
    DAMAGED(segment_bytes, LRD_PAGE - 1);
    DAMAGED(segment_bytes, good.segment_bytes / 2);
    DAMAGED(reserve_bytes, good.segment_bytes - 1);
    DAMAGED(n_pairs, 0);
    DAMAGED(n_pairs, 1);
    DAMAGED(n_pairs, 1u << 31);
    DAMAGED(n_pairs, good.n_pairs * 2);
    DAMAGED(n_blocks, 0);
    DAMAGED(n_blocks, UINT32_MAX);
    DAMAGED(n_blocks, good.n_blocks * 2);
    DAMAGED(block_shift, 0);
    DAMAGED(block_shift, LRD_BLOCK_SHIFT_MIN - 1);
    DAMAGED(block_shift, LRD_BLOCK_SHIFT_MAX + 1);
    DAMAGED(block_shift, 64);
    DAMAGED(block_shift, 255);
    DAMAGED(granule_shift, 0);
    DAMAGED(granule_shift, 2);
    DAMAGED(granule_shift, 13);
    DAMAGED(granule_shift, 64);
    DAMAGED(n_lanes, 0);
    DAMAGED(n_lanes, 1u << 20);
    DAMAGED(n_lanes, UINT32_MAX);
    DAMAGED(n_cells, 0);
    DAMAGED(n_cells, 63);
    DAMAGED(n_cells, 100);
    DAMAGED(n_cells, 1u << 16);
    DAMAGED(item_max, (1u << (good.block_shift - 1)) + 1);
    DAMAGED(item_max, UINT32_MAX);
    ck_assert_int_eq(look(segment_bytes), LRD_SEGMENT_GOOD);
}
END_TEST

START_TEST(test_damaged_part)
{
    unsigned id = (unsigned)_i;
    struct lrd_part *p = &header->parts[id];
    const struct lrd_part good = *p;
    const struct lrd_part damaged[] = {
        {good.off + 1, good.bytes},
        {good.off + 64, good.bytes},
        {segment_bytes, good.bytes},
        {segment_bytes + LRD_PAGE, 0},
        {segment_bytes - good.bytes + LRD_PAGE, good.bytes},
        {UINT64_MAX - LRD_PAGE + 1, good.bytes},
        {good.off, UINT64_MAX},
        {good.off, UINT64_MAX - good.off + 1},
        {good.off, segment_bytes - good.off + 1},
        {good.off, least_of((enum lrd_part_id)id, &header->geometry) - 1},
        {good.off, 0},
    };
    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++) {
        *p = damaged[i];
        if (look(segment_bytes) != LRD_SEGMENT_DAMAGED)
            ck_abort_msg("part %u, damage %zu is taken for good", id, i);
    }
    *p = good;
    ck_assert_int_eq(look(segment_bytes), LRD_SEGMENT_GOOD);
}
END_TEST

static bool inside(const void *p, uint64_t bytes)
{
    const unsigned char *at = p;
    return at >= segment && bytes <= segment_bytes && (uint64_t)(at - segment) <= segment_bytes - bytes;
}

/* Any bits wrong: refused, or all that a reader will ever touch is in the mapping. */
START_TEST(test_damaged_at_random)
{
    static struct lrd_header good;
    uint64_t state = 4711;
    unsigned n_good = 0;
    memcpy(&good, header, sizeof good);
    for (unsigned i = 0; i < 200000; i++) {
        memcpy(header, &good, sizeof good);
        unsigned n = 1 + (unsigned)(fixture_random(&state) % 3);
        while (n-- > 0) {
            uint64_t x = fixture_random(&state);
            segment[64 + (x >> 8) % 384] ^= (unsigned char)(x & 1 ? 1u << (x >> 1 & 7) : x >> 20); /* geometry and parts */
        }
        struct lrd_reader r;
        if (lrd_reader_init(&r, segment, segment_bytes) != LRD_SEGMENT_GOOD)
            continue;
        n_good++;
        expect(inside(r.buckets, (uint64_t)r.n_pairs * 2 * sizeof *r.buckets));
        expect(inside(r.block_words, r.n_blocks * sizeof *r.block_words));
        expect(inside(r.descriptors, r.n_blocks * sizeof *r.descriptors));
        expect(inside(r.namespaces, LRD_NAMESPACES * sizeof *r.namespaces));
        expect(inside(r.counters, LRD_N_COUNTERS * sizeof *r.counters));
        expect(inside(r.lanes, r.geometry.n_lanes * sizeof *r.lanes));
        expect(inside(r.journal, sizeof *r.journal));
        expect(inside(r.arena, (uint64_t)r.n_blocks << r.block_shift));
        /* A slot may hold anything: no location leads out of the arena. */
        for (unsigned k = 0; k < 4; k++) {
            uint64_t slot = fixture_random(&state);
            if (lrd_arena_block(&r, slot) < r.n_blocks)
                expect(inside(lrd_arena_item(&r, slot), sizeof(struct lrd_item)) && inside(lrd_arena_item(&r, slot), lrd_arena_room(&r, lrd_arena_off(&r, slot))));
        }
    }
    ck_assert_uint_gt(n_good, 100); /* what is not checked may be anything: seed, times */
    memcpy(header, &good, sizeof good);
}
END_TEST

/* ---- emptying ---- */

START_TEST(test_clear)
{
    struct fixture f;
    fixture_make(&f, 23, 12, 16);
    unsigned char value[3000] = {0};
    for (uint32_t id = 0; id < 400; id++) {
        struct fixture_item item = {.key = &id, .key_len = sizeof id, .value = value, .value_len = sizeof value};
        fixture_put(&f, &item);
    }
    uint64_t sets = fixture_counter(&f.reader, LRD_C_sets), applied = lrd_load_relaxed(&f.store.lanes[0].applied);
    lrd_segment_clear(&f.store);
    for (uint32_t id = 0; id < 400; id++) {
        struct lrd_get get;
        expect(fixture_get(&f.reader, 0, &id, sizeof id, value, sizeof value, &get) == LRD_ABSENT);
    }
    ck_assert_uint_eq(fixture_counter(&f.reader, LRD_C_slots_used), 0);
    ck_assert_uint_eq(fixture_counter(&f.reader, LRD_C_sets), sets);
    ck_assert_uint_eq(lrd_load_relaxed(&f.store.lanes[0].applied), applied);
    ck_assert_uint_eq(fixture_recount(&f.reader), 0); /* and the counters still add up */
    fixture_restart(&f);
    for (uint32_t id = 0; id < 400; id++) {
        struct fixture_item item = {.key = &id, .key_len = sizeof id, .value = value, .value_len = sizeof value};
        fixture_put(&f, &item);
    }
    ck_assert_uint_eq(fixture_recount(&f.reader), 0);
    fixture_drop(&f);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("segment");
    TCase *t = tcase_create("plan");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, test_plans);
    tcase_add_loop_test(t, test_plans_of_nonsense, 0, 5);
    suite_add_tcase(s, t);
    t = tcase_create("refuse");
    tcase_set_timeout(t, 0);
    tcase_add_checked_fixture(t, segment_setup, segment_teardown);
    tcase_add_test(t, test_good);
    tcase_add_test(t, test_short);
    tcase_add_test(t, test_not_ready);
    tcase_add_test(t, test_other_version);
    tcase_add_test(t, test_damaged_geometry);
    tcase_add_loop_test(t, test_damaged_part, LRD_PART_NAMESPACES, LRD_N_PARTS);
    tcase_add_test(t, test_damaged_at_random);
    suite_add_tcase(s, t);
    t = tcase_create("clear");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, test_clear);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
