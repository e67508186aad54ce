/* A worker may die between any two stores. Here every change of a segment is made, taken back, and made again up to each of its stores in turn; then a new worker takes
 * over. The writing half is compiled in with its stores noted, so that nothing has to be copied: a death after store k is k noted stores.
 *
 *   before recovery   readers go on: every item that the change does not concern is found with its bytes, the concerned one old, new, or as the change allows
 *   after it          the segment is as it was before the change or as it is after it, word by word; after it once the intent was valid
 *   recovery itself   dies as well, after each of its stores, and is begun again */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/noted.h"
#include "tests/segment_fixture.h"

/* In loops: Check's own macros write to a file each time. */
#define expect(x) ((x) ? (void)0 : ck_abort_msg("%s", #x))

/* ---- pictures of everything but items ---- */

static unsigned char *picture_before, *picture_after, *picture_now;
static size_t picture_bytes;

static void take_picture(const struct fixture *f, unsigned char *to)
{
    memcpy(to, f->base, picture_bytes);
    /* What the journal holds when no intent is valid is of no consequence. */
    size_t steps = (size_t)((const unsigned char *)f->store.journal->step - (const unsigned char *)f->base);
    memset(to + steps, 0, sizeof f->store.journal->step);
    /* Departures are hints, outside the intents. */
    const struct lrd_part *departures = &f->store.header->parts[LRD_PART_DEPARTURES];
    memset(to + departures->off, 0, departures->bytes);
}

static void pictures_init(const struct fixture *f)
{
    picture_bytes = (size_t)f->store.header->parts[LRD_PART_ARENA].off;
    picture_before = malloc(picture_bytes);
    picture_after = malloc(picture_bytes);
    picture_now = malloc(picture_bytes);
    expect(picture_before && picture_after && picture_now);
}

static void pictures_fini(void)
{
    free(picture_before);
    free(picture_after);
    free(picture_now);
}

static bool looks_like(const struct fixture *f, const unsigned char *picture)
{
    take_picture(f, picture_now);
    return memcmp(picture_now, picture, picture_bytes) == 0;
}

/* ---- what readers may see while nobody works ---- */

#define KEYS 600u

struct known {
    enum { NEVER, ALWAYS, MAYBE } found; /* before the change, after it, and so all the way; or it may come or go */
    uint32_t seed[2]; /* of its value before and after */
};

static struct known known[KEYS];
static uint64_t state;

static uint32_t length_of(uint32_t seed) { return seed % 200; }

static bool find(const struct fixture *f, uint32_t id, uint32_t *seed)
{
    static unsigned char got[4096], want[4096];
    struct lrd_get get;
    if (fixture_get(&f->reader, 0, &id, sizeof id, got, sizeof got, &get) != LRD_FOUND)
        return false;
    *seed = lrd_item_flags(get.head);
    uint32_t len = lrd_item_value_len(get.head);
    expect(len == length_of(*seed));
    fixture_bytes(want, len, *seed);
    expect(memcmp(got, want, len) == 0);
    return true;
}

static void find_all(const struct fixture *f, int when)
{
    for (uint32_t id = 0; id < KEYS; id++) {
        bool found = find(f, id, &known[id].seed[when]);
        if (when == 0)
            known[id].found = found ? ALWAYS : NEVER;
        else if (found != (known[id].found == ALWAYS))
            known[id].found = MAYBE;
        if (!found)
            known[id].seed[when] = UINT32_MAX;
    }
}

static void look_while_dead(const struct fixture *f)
{
    for (uint32_t id = 0; id < KEYS; id++) {
        uint32_t seed = UINT32_MAX;
        bool found = find(f, id, &seed);
        expect(found || known[id].found != ALWAYS);
        expect(!found || seed == known[id].seed[0] || seed == known[id].seed[1]);
    }
}

/* ---- one change, with a death after each of its stores ---- */

static uint64_t deaths;

/* Recovery as a new worker does it, itself dying after every store. */
static void recover_again_and_again(struct fixture *f, bool was_valid)
{
    unsigned first = n_notes;
    noting = true;
    expect(lrd_journal_recover(&f->store) == was_valid);
    noting = false;
    unsigned last = n_notes;
    for (unsigned j = first; j < last; j++) {
        take_back(first, last);
        make_again(first, j);
        expect(lrd_journal_recover(&f->store));
        expect(looks_like(f, picture_after));
        deaths++;
    }
    n_notes = first;
}

/* What a new worker does next works from here; it is taken back. */
static void go_on_as_another(struct fixture *f)
{
    unsigned first = n_notes;
    struct fixture another = {.store = f->store, .reader = f->reader};
    noting = true;
    lrd_journal_init(&another.journal, &another.store);
    expect(lrd_arena_init(&another.arena, &another.store, &another.journal) == 0);
    another.table = (struct lrd_table){.s = &another.store, .a = &another.arena, .j = &another.journal};
    struct fixture_item item = {.key_len = 4, .value_len = 32000};
    for (int i = 0; i < 3; i++)
        (void)fixture_alloc(&another, &item);
    noting = false;
    lrd_arena_fini(&another.arena);
    expect(fixture_recount(&f->reader) == 0);
    take_back(first, n_notes);
    n_notes = first;
}

/* Everything noted since begin() is one change. one: it is one intent and nothing else. */
static void die_everywhere(struct fixture *f, bool one)
{
    noting = false;
    unsigned n = n_notes;
    take_picture(f, picture_after);
    find_all(f, 1);
    take_back(0, n);
    expect(looks_like(f, picture_before));
    bool was_valid = false;
    for (unsigned k = 0; k <= n; k++) {
        make_again(0, k);
        look_while_dead(f);
        bool valid = lrd_load_relaxed(&f->store.journal->n_steps) != 0;
        if (one) {
            was_valid |= valid;
            recover_again_and_again(f, valid);
            expect(looks_like(f, was_valid ? picture_after : picture_before));
        } else
            lrd_journal_recover(&f->store);
        expect(fixture_recount(&f->reader) == 0);
        go_on_as_another(f);
        /* Whatever recovery stored is among the notes: all of it is taken back. */
        make_again(0, n);
        take_back(0, n);
        deaths++;
    }
    make_again(0, n);
    expect(looks_like(f, picture_after));
    expect(!one || was_valid || n == 0);
    n_notes = 0;
}

static void begin(struct fixture *f)
{
    take_picture(f, picture_before);
    find_all(f, 0);
    n_notes = 0;
    noting = true;
}

/* ---- the changes ---- */

static void do_put(struct fixture *f, uint32_t id)
{
    static unsigned char value[4096];
    uint32_t seed = (uint32_t)fixture_random(&state) >> 1;
    fixture_bytes(value, length_of(seed), seed);
    struct fixture_item item = {
        .key = &id, .key_len = sizeof id, .value = value, .value_len = length_of(seed), .flags = seed};
    /* Some puts go a long way in their block, so that blocks come and go. */
    if (seed % 4 == 0) {
        struct fixture_item waste = {.key_len = 4, .value_len = 20000};
        begin(f);
        (void)fixture_alloc(f, &waste);
        die_everywhere(f, false);
    }
    begin(f);
    uint32_t location = fixture_alloc(f, &item);
    die_everywhere(f, false);
    struct lrd_new_item staged;
    fixture_fill(f, &item, location, &staged);
    begin(f);
    uint32_t emptied = fixture_publish(f, &staged);
    die_everywhere(f, true);
    if (emptied != LRD_NO_BLOCK) {
        begin(f);
        lrd_arena_free_if_empty(&f->arena, emptied, fixture_now_ms(&f->reader));
        die_everywhere(f, n_notes > 0);
    }
}

static void do_delete(struct fixture *f, uint32_t id)
{
    uint32_t emptied;
    begin(f);
    lrd_journal_begin(&f->journal);
    lrd_table_delete(&f->table, 0, &id, sizeof id, lrd_hash(f->store.r.hash_seed, 0, &id, sizeof id), fixture_now_ms(&f->reader), &emptied);
    lrd_journal_add(&f->journal, &f->store.lanes[0].applied, 1);
    lrd_journal_commit(&f->journal);
    die_everywhere(f, true);
}

static void do_free(struct fixture *f)
{
    uint32_t block = (uint32_t)(fixture_random(&state) % f->reader.n_blocks);
    if (!lrd_arena_may_free(&f->arena, block))
        return;
    begin(f);
    lrd_arena_free_block(&f->arena, block, LRD_CAUSE_EVICTED, fixture_now_ms(&f->reader), 0, 0);
    die_everywhere(f, true);
}

static void do_sweep(struct fixture *f)
{
    begin(f);
    lrd_table_sweep(&f->table, 3);
    die_everywhere(f, false);
}

/* An item's copy gets its slot: one intent. */
static void do_move(struct fixture *f, uint32_t id)
{
    struct lrd_get get;
    struct lrd_place at;
    if (fixture_get(&f->reader, 0, &id, sizeof id, NULL, 0, &get) == LRD_ABSENT)
        return;
    const struct lrd_item *from = lrd_arena_item(&f->reader, get.slot);
    struct lrd_item_head head = lrd_item_load(from);
    begin(f);
    uint32_t to = lrd_arena_alloc(&f->arena, 0, 0, head, LRD_FOR_COPY);
    die_everywhere(f, false);
    if (to == 0)
        return;
    memcpy(f->store.arena + ((uint64_t)to << f->reader.granule_shift) + sizeof *from, lrd_item_key(from), sizeof id + lrd_item_value_len(head));
    expect(lrd_table_find(&f->table, get.hash, lrd_slot_location(get.slot), &at));
    begin(f);
    lrd_journal_begin(&f->journal);
    lrd_table_move(&f->table, at, to);
    lrd_journal_add(&f->journal, lrd_store_counter(&f->store, 0, LRD_C_copied), 1);
    lrd_journal_add(&f->journal, lrd_store_counter(&f->store, 0, LRD_C_copied_bytes), lrd_live_bytes(lrd_item_live(head, f->reader.granule_shift)));
    lrd_journal_commit(&f->journal);
    die_everywhere(f, true);
}

/* A reset is one intent; what it leaves is doomed, and goes block by block. */
static void do_reset(struct fixture *f)
{
    lrd_u64 *epoch_and_state = (lrd_u64 *)(void *)&f->store.namespaces[0].epoch;
    begin(f);
    lrd_journal_begin(&f->journal);
    lrd_journal_step(&f->journal, epoch_and_state, lrd_load_relaxed(epoch_and_state) + 1);
    lrd_journal_add(&f->journal, &f->store.namespaces[0].resets, 1);
    lrd_journal_commit(&f->journal);
    unsigned first = n_notes;
    lrd_arena_doom(&f->arena, 0);
    unsigned n_dooms = n_notes - first;
    die_everywhere(f, false);
    ck_assert_uint_le(n_dooms, LRD_CHAINS); /* a state for each open block, and nothing else */
    ck_assert_uint_eq(fixture_recount_all(f), 0);
    do {
        begin(f);
        if (!lrd_arena_free_doomed(&f->arena, fixture_now_ms(&f->reader)))
            break;
        die_everywhere(f, true);
    } while (fixture_random(&state) % 4 != 0);
    noting = false;
    n_notes = 0;
}

static void run(uint32_t n_pairs, uint32_t n_keys, unsigned steps)
{
    struct fixture f;
    fixture_make(&f, n_pairs, 8, 16);
    pictures_init(&f);
    state = n_pairs;
    for (unsigned i = 0; i < steps * (fixture_long() ? 50 : 1); i++) {
        uint32_t id = (uint32_t)(fixture_random(&state) % n_keys);
        uint64_t dice = fixture_random(&state) % 100;
        if (dice < 65)
            do_put(&f, id);
        else if (dice < 73)
            do_move(&f, id);
        else if (dice < 85)
            do_delete(&f, id);
        else if (dice == 86 && fixture_random(&state) % 4 == 0)
            do_reset(&f);
        else if (dice < 87)
            do_free(&f);
        else
            do_sweep(&f);
        expect(fixture_recount_all(&f) == 0);
        if (i % 16 == 0)
            fixture_restart(&f);
    }
    /* All that these stores can do was done. */
    ck_assert_uint_gt(fixture_counter(&f.reader, LRD_C_overwrites), 0);
    ck_assert_uint_gt(fixture_counter(&f.reader, LRD_C_deletes), 0);
    ck_assert_uint_gt(fixture_counter(&f.reader, LRD_C_evicted), 0);
    ck_assert_uint_gt(fixture_counter(&f.reader, LRD_C_slots_swept), 0);
    ck_assert_uint_gt(fixture_counter(&f.reader, LRD_C_copied), 0);
    ck_assert_uint_gt(fixture_counter(&f.reader, LRD_C_reset_items), 0);
    printf("%u pairs: %llu deaths, %llu moved, %llu without room\n", n_pairs, (unsigned long long)deaths,
           (unsigned long long)fixture_counter(&f.reader, LRD_C_relocated), (unsigned long long)fixture_counter(&f.reader, LRD_C_no_room));
    if (n_pairs < 20) {
        ck_assert_uint_gt(fixture_counter(&f.reader, LRD_C_relocated), 0);
        ck_assert_uint_gt(fixture_counter(&f.reader, LRD_C_no_room), 0);
    }
    pictures_fini();
    fixture_drop(&f);
}

START_TEST(test_die_with_room) { run(61, KEYS, 800); }
END_TEST

START_TEST(test_die_crowded) { run(7, 500, 1600); }
END_TEST

START_TEST(test_die_overfull) { run(5, KEYS, 800); }
END_TEST

/* ---- the journal by itself ---- */

START_TEST(test_a_word_may_have_several_steps)
{
    struct fixture f;
    fixture_make(&f, 5, 8, 16);
    lrd_u64 *w = &f.store.counters[0], *x = &f.store.counters[1];
    lrd_journal_begin(&f.journal);
    ck_assert_uint_eq(lrd_journal_read(&f.journal, w), 0);
    lrd_journal_step(&f.journal, w, 5);
    lrd_journal_step(&f.journal, w, lrd_journal_read(&f.journal, w) + 2);
    lrd_journal_add(&f.journal, x, 1);
    ck_assert_uint_eq(lrd_journal_read(&f.journal, w), 7);
    ck_assert_uint_eq(lrd_load_relaxed(w), 0); /* nothing is visible yet */
    n_notes = 0;
    noting = true;
    lrd_journal_commit(&f.journal);
    noting = false;
    ck_assert_uint_eq(lrd_load_relaxed(w), 7);
    ck_assert_uint_eq(lrd_load_relaxed(x), 1);
    /* 2 stores for each step of the list, the valid word, 3 stores in their order, the valid word again. */
    ck_assert_uint_eq(n_notes, 6 + 1 + 3 + 1);
    ck_assert_ptr_eq(notes[6].w, &f.store.journal->n_steps);
    ck_assert_ptr_eq(notes[7].w, w);
    ck_assert_uint_eq(notes[7].after, 5);
    ck_assert_ptr_eq(notes[8].w, w);
    ck_assert_uint_eq(notes[8].after, 7);
    ck_assert_ptr_eq(notes[9].w, x);
    ck_assert(!lrd_journal_recover(&f.store));
    fixture_drop(&f);
}
END_TEST

START_TEST(test_too_many_steps_stop_us)
{
    struct fixture f;
    fixture_make(&f, 5, 8, 16);
    lrd_journal_begin(&f.journal);
    for (unsigned i = 0; i < LRD_STEPS; i++)
        lrd_journal_add(&f.journal, &f.store.counters[0], 1);
    lrd_journal_add(&f.journal, &f.store.counters[0], 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("journal");
    TCase *t = tcase_create("deaths");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, test_die_with_room);
    tcase_add_test(t, test_die_crowded);
    tcase_add_test(t, test_die_overfull);
    suite_add_tcase(s, t);
    t = tcase_create("list");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, test_a_word_may_have_several_steps);
    tcase_add_test_raise_signal(t, test_too_many_steps_stop_us, SIGABRT);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
