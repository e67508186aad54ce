/* Generations of four bits: what takes 2^16 uses of a block in earnest takes sixteen here, so that millions of puts see it thousands of times. The shared halves are compiled
 * into this program with LRD_GENERATION_BITS of their own (Makefile.inc).
 *
 * Random puts, overwrites, deletes, copies forward, resets, frees and sweeps, the sweep as late as the arena allows; a model knows of each key which life it is in. A get returns that
 * life or nothing: never another key's value, never an older life. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/segment_fixture.h"

/* In loops: Check's own macros write to a file each time. */
#define expect(x) ((x) ? (void)0 : ck_abort_msg("%s", #x))

_Static_assert(LRD_GENERATION_BITS <= 4, "compiled with narrow generations");

#define KEYS 600u
#define NAMESPACES 3u

struct life {
    uint64_t number; /* of the put; 0: dead */
    uint32_t epoch;
};

struct world {
    struct fixture f;
    struct life life[NAMESPACES][KEYS];
    uint64_t state, puts, hits, gone;
};

static uint64_t random_of(struct world *w) { return fixture_random(&w->state); }

static uint32_t epoch_of(const struct world *w, uint32_t ns) { return lrd_load32_relaxed(&w->f.store.namespaces[ns].epoch); }

static void put(struct world *w, uint32_t ns, uint32_t id, uint32_t len)
{
    static unsigned char value[4096];
    uint64_t number = ++w->puts;
    fixture_bytes(value, len, number);
    memcpy(value, &number, sizeof number);
    struct fixture_item item = {.ns = ns, .key = &id, .key_len = sizeof id, .value = value, .value_len = len, .flags = (uint32_t)number};
    fixture_put_in(&w->f, &item, (uint32_t)(random_of(w) % 4 == 0 ? LRD_TTL_CLASSES : 0));
    w->life[ns][id] = (struct life){number, epoch_of(w, ns)};
}

/* True: its own value, of this life. */
static bool look(struct world *w, uint32_t ns, uint32_t id)
{
    static unsigned char got[4096], want[4096];
    struct lrd_get get;
    struct life *life = &w->life[ns][id];
    if (fixture_get(&w->f.reader, ns, &id, sizeof id, got, sizeof got, &get) != LRD_FOUND)
        return false;
    uint64_t number;
    uint32_t len = lrd_item_value_len(get.head);
    memcpy(&number, got, sizeof number);
    if (number != life->number || life->epoch != epoch_of(w, ns))
        ck_abort_msg("namespace %u, key %u: life %llu is returned, it is in %llu", ns, id, (unsigned long long)number, (unsigned long long)life->number);
    fixture_bytes(want, len, number);
    memcpy(want, &number, sizeof number);
    expect(memcmp(got, want, len) == 0);
    return true;
}

static void look_at_all(struct world *w)
{
    for (uint32_t ns = 0; ns < NAMESPACES; ns++)
        for (uint32_t id = 0; id < KEYS; id++) {
            bool is = look(w, ns, id);
            w->hits += is;
            /* Gone, with its block or without room: it must not come again. */
            if (!is && w->life[ns][id].number != 0) {
                w->life[ns][id].number = 0;
                w->gone++;
            }
        }
}

/* No slot of a generation that its block will have again before the sweep comes by: what is open is less than half of all generations from what was swept. */
static void look_at_blocks(const struct world *w)
{
    for (uint32_t b = 0; b < w->f.reader.n_blocks; b++) {
        const struct lrd_descriptor *d = &w->f.reader.descriptors[b];
        uint32_t generation = lrd_block_word_generation(lrd_load_relaxed(&w->f.reader.block_words[b]));
        if (lrd_load_relaxed(&d->state) != LRD_BLOCK_FREE)
            expect(generation - lrd_load32_relaxed(&d->generation_swept) < 1u << (LRD_GENERATION_BITS - 1));
    }
}

/* Dead slots from before the last completed sweep: there is none. */
static void look_at_slots(const struct world *w)
{
    const struct lrd_reader *r = &w->f.reader;
    for (uint32_t i = 0; i < lrd_n_buckets(r); i++)
        for (unsigned k = 0; k < LRD_SLOTS; k++) {
            uint64_t slot = lrd_load_relaxed(&r->buckets[i].slot[k]);
            if (slot == 0)
                continue;
            uint32_t block = lrd_arena_block(r, slot), generation = lrd_block_word_generation(lrd_load_relaxed(&r->block_words[block]));
            uint32_t behind = (generation - lrd_slot_generation(slot)) & LRD_GENERATION_MASK;
            expect(behind <= generation - lrd_load32_relaxed(&r->descriptors[block].generation_swept));
        }
}

static void step(struct world *w)
{
    uint64_t x = random_of(w), dice = x % 1000;
    uint32_t ns = (uint32_t)(x >> 12) % NAMESPACES, id = (uint32_t)(x >> 20) % KEYS;
    struct fixture *f = &w->f;
    if (dice < 600)
        put(w, ns, id, 8 + (uint32_t)(x >> 40) % 800);
    else if (dice < 700) {
        fixture_delete(f, ns, &id, sizeof id);
        w->life[ns][id].number = 0;
        expect(!look(w, ns, id));
    } else if (dice < 780) {
        bool was = look(w, ns, id);
        expect(!fixture_move(f, ns, &id, sizeof id, LRD_TTL_CLASSES) || was);
        expect(!was || look(w, ns, id));
    } else if (dice < 980)
        (void)look(w, ns, id);
    else if (dice < 998) {
        uint32_t block = (uint32_t)(x >> 40) % f->reader.n_blocks;
        if (lrd_arena_may_free(&f->arena, block))
            lrd_arena_free_block(&f->arena, block, LRD_CAUSE_EVICTED, fixture_now_ms(&f->reader), 0, 0);
    } else if (x >> 60 < 4)
        fixture_reset(f, ns);
    else if (x >> 60 < 8)
        fixture_restart(f);
}

static void run(uint32_t n_pairs, uint32_t n_blocks, uint32_t sweep_per_put, unsigned steps)
{
    struct world w = {.state = 77 + n_pairs + sweep_per_put};
    fixture_make(&w.f, n_pairs, n_blocks, 14);
    w.f.sweep_per_put = sweep_per_put;
    for (unsigned i = 0; i < steps * (fixture_long() ? 20 : 1); i++) {
        step(&w);
        if (i % 500 == 0) {
            look_at_blocks(&w);
            look_at_slots(&w);
        }
        if (i % 5000 == 0) {
            look_at_all(&w);
            expect(fixture_recount_all(&w.f) == 0);
        }
    }
    uint64_t freed = fixture_counter(&w.f.reader, LRD_C_blocks_freed);
    printf("%u pairs, %u blocks, %u buckets a put: %llu puts, %llu blocks freed, %llu sweeps, %llu of them waited for\n", n_pairs, n_blocks, sweep_per_put,
           (unsigned long long)w.puts, (unsigned long long)freed, (unsigned long long)lrd_load_relaxed(&w.f.store.journal->sweeps), (unsigned long long)w.f.sweeps_forced);
    ck_assert_uint_gt(w.hits, 1000);
    ck_assert_uint_gt(w.gone, 1000);
    ck_assert_uint_gt(freed, n_blocks * 16u * 16u); /* each came round many times */
    ck_assert(sweep_per_put > 0 || w.f.sweeps_forced > 100);
    fixture_drop(&w.f);
}

START_TEST(test_round_and_round)
{
    static const struct {
        uint32_t n_pairs, n_blocks, sweep_per_put;
    } worlds[] = {{97, 12, 0}, {97, 12, 4}, {41, 40, 0}, {211, 24, 1}};
    run(worlds[_i].n_pairs, worlds[_i].n_blocks, worlds[_i].sweep_per_put, 1500000);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("wrap");
    TCase *t = tcase_create("wrap");
    tcase_set_timeout(t, 0);
    tcase_add_loop_test(t, test_round_and_round, 0, 4);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
