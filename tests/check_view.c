/* Views and holds: pins on the segment fixture, then the library against a larderd. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libclient/larder.h"
#include "shm/clock.h"
#include "shm/pins.h"
#include "tests/daemon_fixture.h"
#include "tests/segment_fixture.h"

/* In loops: Check's own macros write to a file each time. */
#define expect(x) ((x) ? (void)0 : ck_abort_msg("%s", #x))

/* ---- pins: the writer's half ---- */

#define BLOCKS 8u
#define BLOCK_SHIFT 12u
#define VIEW_MS 60u

static struct fixture f;
static struct lrd_lane *lane[2];

static void setup(void)
{
    fixture_make(&f, 101, BLOCKS, BLOCK_SHIFT);
    f.store.r.geometry.view_ms = VIEW_MS;
    for (unsigned i = 0; i < 2; i++) {
        lane[i] = aligned_alloc(LRD_PAGE, sizeof *lane[i]);
        memset(lane[i], 0, sizeof *lane[i]);
    }
}

static void teardown(void)
{
    free(lane[0]);
    free(lane[1]);
    fixture_drop(&f);
}

static uint64_t word_of(uint32_t block) { return lrd_load_relaxed(&f.store.block_words[block]); }
static uint64_t count_of(enum lrd_counter_id id) { return lrd_load_relaxed(&f.store.counters[id]); }

/* As a view does it. */
static unsigned pin(unsigned of, uint32_t block)
{
    unsigned i = lrd_pins_take(lane[of], LRD_PINS_OWN);
    expect(i < LRD_PINS);
    lrd_pin_set(lane[of], i, lrd_pin_make(word_of(block), block));
    return i;
}
static uint64_t pin_now(unsigned of, unsigned i) { return lrd_load_relaxed(&lane[of]->pin[i]); }

/* Fills a block with one item that is half of it, and one more: the block that was opened. */
static uint32_t open_next(enum lrd_asker asker)
{
    static const struct fixture_item item = {.key = "key", .key_len = 3, .value_len = (1u << (BLOCK_SHIFT - 1)) - 19};
    lrd_arena_close(&f.arena, 0, 0);
    uint32_t location = lrd_arena_alloc(&f.arena, 0, 0, fixture_head(&item), asker);
    return location == 0 ? LRD_NO_BLOCK : location >> f.store.r.location_shift;
}
static void free_block(uint32_t block) { lrd_arena_free_block(&f.arena, block, LRD_CAUSE_EVICTED, 1, 0, 0); }

/* All but `left` free blocks are in use, the rest were freed in their order. Block 0 is full and pinned by lane 0. */
static unsigned begin_with_free(uint32_t n_free, uint32_t *pinned)
{
    uint32_t block[BLOCKS];
    for (uint32_t i = 0; i < BLOCKS; i++)
        block[i] = open_next(LRD_FOR_COPY);
    lrd_arena_close(&f.arena, 0, 0);
    lrd_pins_add(&f.arena.pins, lane[0]);
    unsigned i = pin(0, block[0]);
    for (uint32_t b = 0; b < n_free; b++)
        free_block(block[b]);
    *pinned = block[0];
    return i;
}

START_TEST(test_a_pin_delays_its_block)
{
    uint32_t pinned;
    uint64_t before;
    unsigned i = begin_with_free(4, &pinned);
    before = pin_now(0, i);
    for (unsigned n = 0; n < 2; n++)
        ck_assert_uint_ne(open_next(LRD_FOR_CLIENT), pinned);
    ck_assert_uint_eq(count_of(LRD_C_pinned), 2);
    ck_assert_uint_eq(pin_now(0, i), before);
    expect(lrd_pin_end(lane[0], i, before));
    ck_assert_uint_eq(open_next(LRD_FOR_CLIENT), pinned);
    ck_assert_uint_eq(count_of(LRD_C_revoked), 0);
    ck_assert_uint_eq(lrd_load_relaxed(&lane[0]->pins_taken), 0);
}
END_TEST

START_TEST(test_the_last_free_block_is_not_delayed)
{
    uint32_t pinned;
    unsigned i = begin_with_free(2, &pinned);
    uint64_t before = pin_now(0, i);
    ck_assert_uint_ne(open_next(LRD_FOR_CLIENT), pinned);
    ck_assert_uint_eq(open_next(LRD_FOR_COPY), pinned);
    ck_assert_uint_eq(pin_now(0, i), LRD_PIN_REVOKED);
    ck_assert_uint_eq(count_of(LRD_C_revoked), 1);
    expect(!lrd_pin_end(lane[0], i, before));
    ck_assert_uint_eq(pin_now(0, i), 0);
    ck_assert_uint_eq(lrd_load_relaxed(&lane[0]->pins_taken), 0);
}
END_TEST

/* By the writer's clock, from its first sight; a view that is renewed by a lie is not renewed. */
START_TEST(test_a_deadline)
{
    uint32_t pinned;
    unsigned i = begin_with_free(BLOCKS, &pinned);
    uint64_t before = pin_now(0, i);
    pause_us(2 * VIEW_MS * 1000); /* nobody has seen it yet */
    ck_assert_uint_ne(open_next(LRD_FOR_CLIENT), pinned);
    ck_assert_uint_ne(open_next(LRD_FOR_CLIENT), pinned);
    expect(lrd_pin_end(lane[0], i, before));
    for (unsigned n = 0; n < 8; n++) {
        pause_us(VIEW_MS * 1000 / 6);
        unsigned again = pin(0, pinned); /* a new one each time: no view would be found valid */
        expect(again < LRD_PINS);
    }
    ck_assert_uint_eq(open_next(LRD_FOR_CLIENT), pinned);
    ck_assert_uint_eq(count_of(LRD_C_revoked), 8);
    /* In its next life it has a deadline of its own. */
    while (open_next(LRD_FOR_COPY) != LRD_NO_BLOCK)
        ;
    lrd_arena_close(&f.arena, 0, 0);
    lrd_store_relaxed(&lane[0]->pins_taken, 0);
    before = pin(0, pinned);
    for (uint32_t b = 0; b < 4; b++)
        free_block((pinned + b) % BLOCKS);
    ck_assert_uint_eq(open_next(LRD_FOR_CLIENT), (pinned + 1) % BLOCKS);
}
END_TEST

/* Of six, three are passed over and no more. */
START_TEST(test_no_more_than_half)
{
    uint32_t pinned;
    (void)begin_with_free(6, &pinned);
    for (uint32_t b = 1; b < 4; b++)
        (void)pin(0, (pinned + b) % BLOCKS);
    ck_assert_uint_eq(open_next(LRD_FOR_CLIENT), pinned);
    ck_assert_uint_eq(open_next(LRD_FOR_CLIENT), (pinned + 1) % BLOCKS);
    ck_assert_uint_eq(open_next(LRD_FOR_CLIENT), (pinned + 4) % BLOCKS);
    ck_assert_uint_eq(count_of(LRD_C_pinned), 2);
    ck_assert_uint_eq(count_of(LRD_C_revoked), 2);
}
END_TEST

/* Who pins all that is free delays half of it, and no record. */
START_TEST(test_half_of_the_free_blocks)
{
    uint32_t pinned;
    (void)begin_with_free(6, &pinned);
    for (uint32_t b = 0; b < BLOCKS; b++)
        (void)pin(0, b);
    ck_assert_uint_eq(open_next(LRD_FOR_CLIENT), pinned);
    ck_assert_uint_eq(count_of(LRD_C_pinned), 0);
    ck_assert_uint_eq(count_of(LRD_C_revoked), 2);
    for (unsigned n = 0; n < 4; n++)
        expect(open_next(LRD_FOR_CLIENT) != LRD_NO_BLOCK);
    expect(open_next(LRD_FOR_CLIENT) == LRD_NO_BLOCK); /* the spare one */
    expect(open_next(LRD_FOR_COPY) != LRD_NO_BLOCK);
}
END_TEST

START_TEST(test_any_words)
{
    uint64_t state = 5;
    lrd_pins_add(&f.arena.pins, lane[0]);
    lrd_pins_add(&f.arena.pins, lane[1]);
    for (unsigned n = 0; n < 5000; n++) {
        for (unsigned i = 0; i < LRD_PINS; i++) {
            uint64_t x = fixture_random(&state);
            lrd_store_relaxed(&lane[n % 2]->pin[i], x % 3 == 0 ? x : x % 3 == 1 ? (x & ~UINT64_C(0xffffffff)) | x % (BLOCKS + 2) : LRD_PIN_REVOKED);
        }
        lrd_store_relaxed(&lane[n % 2]->pins_taken, fixture_random(&state));
        struct fixture_item item = {.key = &n, .key_len = sizeof n, .value = lane[0], .value_len = 1500};
        fixture_put(&f, &item);
    }
    ck_assert_uint_eq(fixture_recount_all(&f), 0);
}
END_TEST

START_TEST(test_lanes_that_count)
{
    uint32_t pinned;
    unsigned i = begin_with_free(4, &pinned);
    (void)i;
    lrd_pins_add(&f.arena.pins, lane[1]);
    lrd_pins_add(&f.arena.pins, lane[1]);
    ck_assert_uint_eq(f.arena.pins.n, 2);
    lrd_pins_remove(&f.arena.pins, lane[0]);
    ck_assert_uint_eq(f.arena.pins.n, 1);
    lrd_pins_remove(&f.arena.pins, lane[0]);
    ck_assert_uint_eq(f.arena.pins.n, 1);
    ck_assert_uint_eq(open_next(LRD_FOR_CLIENT), pinned); /* nobody counts its pins any more */
    ck_assert_uint_eq(count_of(LRD_C_revoked), 0);
    lrd_pins_remove(&f.arena.pins, lane[1]);
    ck_assert_uint_eq(f.arena.pins.n, 0);
}
END_TEST

START_TEST(test_a_blind_worker_opens_nothing)
{
    f.arena.blind = true;
    expect(open_next(LRD_FOR_CLIENT) == LRD_NO_BLOCK);
    expect(open_next(LRD_FOR_RESCUE) == LRD_NO_BLOCK);
    f.arena.blind = false;
    expect(open_next(LRD_FOR_CLIENT) != LRD_NO_BLOCK);
}
END_TEST

/* A segment that was emptied takes a generation of free blocks as well: their views are heard all the same. */
START_TEST(test_after_the_segment_was_emptied)
{
    uint32_t pinned;
    unsigned i = begin_with_free(4, &pinned);
    lrd_segment_clear(&f.store);
    fixture_restart(&f);
    f.store.r.geometry.view_ms = VIEW_MS;
    lrd_pins_add(&f.arena.pins, lane[0]);
    for (unsigned n = 0; n < 4; n++)
        expect(open_next(LRD_FOR_CLIENT) != pinned);
    pause_us(VIEW_MS * 1000 + 20000);
    ck_assert_uint_eq(open_next(LRD_FOR_CLIENT), pinned);
    ck_assert_uint_eq(pin_now(0, i), LRD_PIN_REVOKED);
}
END_TEST

/* ---- the library ---- */

#define DAEMON_VIEW_MS 400u
#define MOST (1 + LRD_PINS - LRD_PINS_OWN) /* views of a thread at once */
#define VALUE 8192u
#define TURNS 4u /* of the arena: 16 blocks of 64K */

static struct daemon_fixture d;
static struct larder *h;
static struct larder_ns *ns;
static lrd_u32 *kills; /* of workers, by all tests */

static void kill_worker(void)
{
    lrd_store32_relaxed(kills, lrd_load32_relaxed(kills) + 1);
    daemon_kill_worker(&d);
}

static void start_daemon(void)
{
    kills = mmap(NULL, sizeof *kills, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    expect(kills != MAP_FAILED);
    static const char *const options[] = {"--memory", "8M", "--block-size", "64K", "--blocks", "16", "--average-item", "4000", "--ring", "64K", "--max-clients", "16",
                                          "--view-ms", "400", NULL};
    daemon_start(&d, NULL, options);
}
static void stop_daemon(void)
{
    expect(daemon_check(&d));
    expect(daemon_workers(&d) == 1 + (uint64_t)lrd_load32_relaxed(kills)); /* none died by itself */
    munmap(kills, sizeof *kills);
    daemon_stop(&d);
}
static void open_handle(void)
{
    struct larder_options o = {.size = sizeof o, .socket = d.socket, .busy_timeout_ms = 10000};
    ck_assert_int_eq(larder_open(&h, &o), 0);
    ns = larder_default(h);
    ck_assert_int_eq(larder_ns_reset(ns), 0);
}
static void close_handle(void) { larder_close(h); }

static void put(const char *key, uint64_t seed, size_t size)
{
    static unsigned char value[VALUE];
    struct larder_set_options o = {.size = sizeof o, .flags = (uint32_t)seed, .how = LARDER_SET_WAIT};
    fixture_bytes(value, size, seed);
    ck_assert_int_eq(larder_set(ns, key, strlen(key), value, size, &o, NULL), 0);
}

static bool is_of(const struct larder_view *v, uint64_t seed, size_t size)
{
    static unsigned char value[VALUE];
    fixture_bytes(value, size, seed);
    return v->value_size == size && memcmp(v->data, value, size) == 0;
}

static int view(const char *key, struct larder_view *v)
{
    *v = (struct larder_view){.size = sizeof *v};
    return larder_view(ns, key, strlen(key), v);
}

static int hold_of(const char *key, struct larder_hold *hold)
{
    static unsigned char value[VALUE];
    *hold = (struct larder_hold){.size = sizeof *hold};
    return larder_get_hold(ns, key, strlen(key), value, sizeof value, NULL, hold);
}

/* The arena goes round so many times. */
static void turn_over(unsigned turns)
{
    static unsigned char value[VALUE];
    for (uint64_t i = 0; i < turns * 16u * (65536 / VALUE); i++)
        expect(larder_set(ns, &i, sizeof i, value, sizeof value, NULL, NULL) == 0);
    ck_assert_int_eq(larder_flush(h, 10000), 0);
}

static uint64_t daemon_count(enum lrd_counter_id id) { return lrd_counter_sum(&d.r, id); }

START_TEST(test_what_a_view_shows)
{
    struct larder_view v, w;
    put("key", 3, 1000);
    ck_assert_int_eq(view("key", &v), 0);
    expect(is_of(&v, 3, 1000));
    struct larder_item item = {.size = sizeof item};
    ck_assert_int_eq(larder_get_item(ns, "key", 3, &item), LARDER_TOO_SMALL);
    ck_assert_uint_eq(v.version, item.version);
    ck_assert_uint_eq(v.flags, 3);
    ck_assert_int_eq(v.ttl_ms, LARDER_TTL_NONE);
    ck_assert_int_eq(view("key", &w), 0);
    ck_assert_ptr_eq(w.data, v.data);
    /* It shows what was, whatever comes. */
    put("key", 4, 1000);
    expect(is_of(&v, 3, 1000));
    ck_assert_int_eq(larder_view_end(&v), 0);
    ck_assert_ptr_null(v.data);
    ck_assert_int_eq(larder_view_end(&v), -EINVAL);
    ck_assert_int_eq(view("key", &v), 0);
    expect(is_of(&v, 4, 1000) && is_of(&w, 3, 1000));
    ck_assert_int_eq(larder_delete(ns, "key", 3, NULL), 0);
    ck_assert_int_eq(larder_view_end(&v), 0);
    ck_assert_int_eq(larder_view_end(&w), 0);
    ck_assert_int_eq(view("key", &v), LARDER_MISS);
    ck_assert_ptr_null(v.data);
    /* Nothing at all is a value. */
    struct larder_set_options o = {.size = sizeof o, .ttl_ms = 100000};
    ck_assert_int_eq(larder_set(ns, "nil", 3, NULL, 0, &o, NULL), 0);
    ck_assert_int_eq(view("nil", &v), 0);
    ck_assert_uint_eq(v.value_size, 0);
    expect(v.ttl_ms > 90000 && v.ttl_ms <= 100000);
    ck_assert_int_eq(larder_view_end(&v), 0);
}
END_TEST

/* Whatever stands before the value, and wherever it begins. */
START_TEST(test_kinds)
{
    struct larder_set_options aligned = {.size = sizeof aligned, .how = LARDER_SET_WAIT | LARDER_SET_ALIGNED};
    struct larder_set_options soft = {.size = sizeof soft, .how = LARDER_SET_WAIT | LARDER_SET_ALIGNED, .soft_ttl_ms = 100000};
    struct larder_set_options wait = {.size = sizeof wait, .how = LARDER_SET_WAIT};
    unsigned char value[1000];
    struct larder_view v;
    struct larder_hold hold;
    for (unsigned i = 0; i < 300; i++) {
        char key[64];
        size_t size = 1 + i * 3;
        snprintf(key, sizeof key, "%.*s", (int)(1 + i % 60), "0123456789012345678901234567890123456789012345678901234567890123456789");
        fixture_bytes(value, size, i);
        expect(larder_set(ns, key, strlen(key), value, size, i % 2 == 0 ? &aligned : &soft, NULL) == 0);
        expect(view(key, &v) == 0);
        expect((uintptr_t)v.data % 64 == 0 && is_of(&v, i, size));
        expect(larder_view_end(&v) == 0);
        expect(hold_of(key, &hold) == 0 && larder_revisit(ns, &hold) == 0);
    }
    struct larder_stats before = {.size = sizeof before}, after = {.size = sizeof after};
    ck_assert_int_eq(larder_set_absent(ns, "none", 4, &wait, NULL), 0);
    ck_assert_int_eq(larder_stats(h, &before), 0);
    ck_assert_int_eq(view("none", &v), LARDER_ABSENT);
    ck_assert_int_eq(hold_of("none", &hold), LARDER_ABSENT);
    ck_assert_int_eq(larder_revisit(ns, &hold), 0);
    ck_assert_int_eq(larder_stats(h, &after), 0);
    ck_assert_uint_eq(after.hits - before.hits, 3); /* each was answered */
    ck_assert_int_eq(larder_set(ns, "none", 4, "x", 1, &wait, NULL), 0);
    ck_assert_int_eq(larder_revisit(ns, &hold), LARDER_CHANGED);
    /* A pending one of another kind is waited for as well. */
    for (unsigned i = 0; i < 1000; i++) {
        aligned.how = LARDER_SET_ALIGNED;
        expect(larder_set(ns, "key", 3, &i, sizeof i, &aligned, NULL) == 0);
        expect(view("key", &v) == 0 && v.value_size == sizeof i && memcmp(v.data, &i, sizeof i) == 0 && larder_view_end(&v) == 0);
    }
}
END_TEST

START_TEST(test_own_writes)
{
    for (uint64_t i = 0; i < 3000; i++) {
        struct larder_view v;
        expect(larder_set(ns, "own", 3, &i, sizeof i, NULL, NULL) == 0);
        expect(view("own", &v) == 0 && memcmp(v.data, &i, sizeof i) == 0);
        expect(larder_view_end(&v) == 0);
    }
}
END_TEST

START_TEST(test_bad_input)
{
    struct larder_view v = {.size = sizeof v}, small = {.size = sizeof small - 8};
    struct larder_hold hold = {.size = sizeof hold};
    char key[LARDER_KEY_MAX + 1] = {0};
    size_t size;
    put("key", 1, 10);
    ck_assert_int_eq(larder_view(NULL, "key", 3, &v), -EINVAL);
    ck_assert_int_eq(larder_view(ns, NULL, 3, &v), -EINVAL);
    ck_assert_int_eq(larder_view(ns, "key", 0, &v), -EINVAL);
    ck_assert_int_eq(larder_view(ns, key, sizeof key, &v), -EINVAL);
    ck_assert_int_eq(larder_view(ns, "key", 3, NULL), -EINVAL);
    ck_assert_int_eq(larder_view(ns, "key", 3, &small), -EINVAL);
    ck_assert_int_eq(larder_view_end(NULL), -EINVAL);
    ck_assert_int_eq(larder_view_end(&small), -EINVAL);
    ck_assert_int_eq(larder_view_end(&v), -EINVAL);
    ck_assert_int_eq(larder_get_hold(NULL, "key", 3, key, sizeof key, &size, &hold), -EINVAL);
    ck_assert_int_eq(larder_get_hold(ns, "key", 3, NULL, 1, &size, &hold), -EINVAL);
    ck_assert_int_eq(larder_get_hold(ns, "key", 3, key, sizeof key, &size, NULL), -EINVAL);
    ck_assert_int_eq(larder_get_hold(ns, "key", 0, key, sizeof key, &size, &hold), -EINVAL);
    ck_assert_int_eq(larder_revisit(NULL, &hold), -EINVAL);
    ck_assert_int_eq(larder_revisit(ns, NULL), -EINVAL);
    ck_assert_int_eq(larder_revisit(ns, &hold), LARDER_CHANGED); /* one that holds nothing */
    hold.size--;
    ck_assert_int_eq(larder_revisit(ns, &hold), -EINVAL);
}
END_TEST

START_TEST(test_all_pins)
{
    struct larder_view v[MOST], more;
    put("key", 5, 500);
    for (unsigned i = 0; i < MOST; i++)
        ck_assert_int_eq(view("key", &v[i]), 0);
    ck_assert_int_eq(view("key", &more), LARDER_BUSY);
    ck_assert_int_eq(view("none", &more), LARDER_BUSY);
    ck_assert_int_eq(larder_view_end(&v[17]), 0);
    ck_assert_int_eq(view("none", &more), LARDER_MISS);
    ck_assert_int_eq(view("key", &v[17]), 0);
    for (unsigned i = 0; i < MOST; i++) {
        expect(is_of(&v[i], 5, 500));
        ck_assert_int_eq(larder_view_end(&v[i]), 0);
    }
}
END_TEST

static void *end_it(void *arg)
{
    struct larder_view other;
    expect(view("key", &other) == 0);
    expect(larder_view_end(arg) == 0);
    expect(larder_view_end(&other) == 0);
    return NULL;
}

/* A view may be ended by another thread than began it, and outlive that one. */
static void *begin_it(void *arg)
{
    struct larder_view *v = arg;
    expect(view("key", &v[0]) == 0 && view("key", &v[1]) == 0 && view("key", &v[2]) == 0);
    return NULL;
}

START_TEST(test_threads)
{
    struct larder_view v[3];
    pthread_t thread;
    put("key", 5, 500);
    for (unsigned i = 0; i < 100; i++) {
        expect(pthread_create(&thread, NULL, begin_it, v) == 0 && pthread_join(thread, NULL) == 0);
        expect(pthread_create(&thread, NULL, end_it, &v[1]) == 0 && pthread_join(thread, NULL) == 0);
        expect(is_of(&v[0], 5, 500) && is_of(&v[2], 5, 500));
        expect(larder_view_end(&v[0]) == 0);
        expect(pthread_create(&thread, NULL, end_it, &v[2]) == 0 && pthread_join(thread, NULL) == 0);
    }
}
END_TEST

START_TEST(test_a_view_outlives_its_item)
{
    struct larder_view v;
    uint64_t pinned = daemon_count(LRD_C_pinned), freed = daemon_count(LRD_C_blocks_freed);
    put("key", 6, VALUE);
    ck_assert_int_eq(view("key", &v), 0);
    turn_over(TURNS);
    ck_assert_int_eq(larder_get(ns, "key", 3, NULL, 0, NULL), LARDER_MISS);
    expect(daemon_count(LRD_C_blocks_freed) - freed > 32);
    expect(daemon_count(LRD_C_pinned) > pinned);
    expect(is_of(&v, 6, VALUE));
    ck_assert_int_eq(larder_view_end(&v), 0);
    /* The same through a reset, and through a worker's end. */
    put("key", 7, VALUE);
    ck_assert_int_eq(view("key", &v), 0);
    ck_assert_int_eq(larder_ns_reset(ns), 0);
    turn_over(1);
    kill_worker();
    turn_over(TURNS);
    expect(is_of(&v, 7, VALUE));
    ck_assert_int_eq(larder_view_end(&v), 0);
}
END_TEST

/* The lane of the view is the last that a new worker hears of, and records for many blocks wait in the first; the block that was freed first is the view's. */
START_TEST(test_a_new_worker_knows_all_views_before_it_begins)
{
    enum { OTHERS = 12 };
    struct larder *other[OTHERS];
    struct larder_options o = {.size = sizeof o, .socket = d.socket, .busy_timeout_ms = LARDER_NO_WAIT};
    static unsigned char value[16000];
    for (unsigned i = 0; i < OTHERS; i++)
        ck_assert_int_eq(larder_open(&other[i], &o), 0);
    for (uint64_t round = 0; round < 5; round++) {
        struct larder_view v = {.size = sizeof v};
        put("key", round, VALUE);
        ck_assert_int_eq(larder_view(larder_default(other[OTHERS - 1]), "key", 3, &v), 0);
        turn_over(1);
        pid_t worker = (pid_t)lrd_load_relaxed(&d.r.header->worker_pid);
        ck_assert_int_eq(kill(worker, SIGSTOP), 0);
        for (uint64_t i = 0; larder_set(larder_default(other[0]), &i, sizeof i, value, sizeof value, NULL, NULL) == 0; i++)
            ;
        for (uint64_t i = 0; i < 3; i++)
            expect(larder_set(ns, &i, sizeof i, value, sizeof value, NULL, NULL) == 0);
        kill_worker();
        ck_assert_int_eq(larder_flush(h, 10000), 0);
        turn_over(1);
        expect(is_of(&v, round, VALUE));
        ck_assert_int_eq(larder_view_end(&v), 0);
    }
    for (unsigned i = 0; i < OTHERS; i++)
        larder_close(other[i]);
}
END_TEST

START_TEST(test_a_view_held_too_long)
{
    struct larder_view v;
    uint64_t revoked = daemon_count(LRD_C_revoked), end = lrd_clock_ns() + 2000 * UINT64_C(1000000);
    put("key", 8, VALUE);
    ck_assert_int_eq(view("key", &v), 0);
    while (daemon_count(LRD_C_revoked) == revoked && lrd_clock_ns() < end)
        turn_over(1);
    ck_assert_uint_eq(daemon_count(LRD_C_revoked), revoked + 1);
    turn_over(1);
    expect(!is_of(&v, 8, VALUE));
    ck_assert_int_eq(larder_view_end(&v), LARDER_REVOKED);
    ck_assert_int_eq(larder_view_end(&v), -EINVAL);
    /* The pin is there again. */
    struct larder_view all[MOST];
    put("key", 9, 100);
    for (unsigned i = 0; i < MOST; i++)
        ck_assert_int_eq(view("key", &all[i]), 0);
    for (unsigned i = 0; i < MOST; i++)
        ck_assert_int_eq(larder_view_end(&all[i]), 0);
}
END_TEST

START_TEST(test_a_forked_child)
{
    struct larder_view v;
    struct larder_hold hold = {.size = sizeof hold};
    unsigned char value[100];
    put("key", 10, 100);
    ck_assert_int_eq(view("key", &v), 0);
    ck_assert_int_eq(larder_get_hold(ns, "key", 3, value, sizeof value, NULL, &hold), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct larder_view mine, late = v;
        bool good = larder_view_end(&v) == LARDER_REVOKED;   /* before it has a lane of its own */
        good = good && view("key", &mine) == 0 && is_of(&mine, 10, 100);
        good = good && larder_view_end(&late) == LARDER_REVOKED; /* and after */
        good = good && larder_view_end(&mine) == 0;
        good = good && larder_revisit(ns, &hold) == 0; /* nothing in it is an address */
        _exit(good ? 0 : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    expect(is_of(&v, 10, 100));
    ck_assert_int_eq(larder_view_end(&v), 0);
}
END_TEST

/* ---- holds ---- */

START_TEST(test_what_ends_a_hold)
{
    struct larder_hold hold, other;
    struct larder *second;
    struct larder_options o = {.size = sizeof o, .socket = d.socket};
    ck_assert_int_eq(larder_open(&second, &o), 0);
    put("key", 11, 100);
    put("other", 12, 100);
    ck_assert_int_eq(hold_of("key", &hold), 0);
    ck_assert_int_eq(hold_of("other", &other), 0);
    for (unsigned i = 0; i < 10000; i++)
        expect(larder_revisit(ns, &hold) == 0);
    ck_assert_int_eq(larder_revisit(larder_default(second), &hold), 0);
    /* An own write, before and after it is visible. */
    for (unsigned i = 0; i < 1000; i++) {
        expect(larder_set(ns, "key", 3, &i, sizeof i, NULL, NULL) == 0);
        expect(larder_revisit(ns, &hold) == LARDER_CHANGED);
        expect(hold_of("key", &hold) == 0);
    }
    ck_assert_int_eq(larder_flush(h, 10000), 0);
    ck_assert_int_eq(hold_of("key", &hold), 0);
    ck_assert_int_eq(larder_revisit(ns, &hold), 0);
    ck_assert_int_eq(larder_revisit(ns, &other), 0);
    /* Another's. */
    struct larder_set_options wait = {.size = sizeof wait, .how = LARDER_SET_WAIT};
    ck_assert_int_eq(larder_set(larder_default(second), "key", 3, "x", 1, &wait, NULL), 0);
    ck_assert_int_eq(larder_revisit(ns, &hold), LARDER_CHANGED);
    ck_assert_int_eq(hold_of("key", &hold), 0);
    ck_assert_int_eq(larder_delete(ns, "key", 3, NULL), 0);
    ck_assert_int_eq(larder_revisit(ns, &hold), LARDER_CHANGED);
    ck_assert_int_eq(hold_of("key", &hold), LARDER_MISS);
    ck_assert_int_eq(larder_revisit(ns, &hold), LARDER_CHANGED);
    /* Eviction and resets, looked at before the slot is swept, or the block is freed. Whole blocks go where the oldest makes room. */
    const struct larder_ns_options fifo = {.size = sizeof fifo, .policy = LARDER_FIFO};
    ck_assert_int_eq(larder_ns_create(h, "fifo", &fifo, &ns), 0);
    for (uint64_t i = 0; i < 20; i++) {
        put("key", i, 100);
        expect(hold_of("key", &hold) == 0);
        for (uint64_t filler = 0; larder_get(ns, "key", 3, NULL, 0, NULL) != LARDER_MISS; filler++)
            expect(larder_set(ns, &filler, sizeof filler, &o, sizeof o, NULL, NULL) == 0);
        expect(larder_revisit(ns, &hold) == LARDER_CHANGED);
    }
    ns = larder_default(h);
    for (uint64_t i = 0; i < 300; i++) {
        put("key", i, 100);
        expect(hold_of("key", &hold) == 0);
        expect(larder_revisit(ns, &hold) == 0);
        expect(larder_ns_reset(ns) == 0);
        expect(larder_revisit(ns, &hold) == LARDER_CHANGED);
    }
    larder_close(second);
}
END_TEST

START_TEST(test_closed)
{
    struct larder *other;
    struct larder_options o = {.size = sizeof o, .socket = d.socket};
    struct larder_view v, w = {.size = sizeof w};
    struct larder_hold hold;
    uint64_t ns_each;
    put("key", 15, 100);
    ck_assert_int_eq(larder_open(&other, &o), 0);
    ns = larder_default(other);
    ck_assert_int_eq(view("key", &v), 0);
    ck_assert_int_eq(hold_of("key", &hold), 0);
    for (unsigned i = 0; i < 5000; i++)
        expect(view("key", &w) == 0 && larder_view_end(&w) == 0);
    ck_assert_int_eq(larder_latency(other, LARDER_OP_VIEW, 0.5, &ns_each), 0);
    ck_assert_uint_gt(ns_each, 0);
    larder_close(other);
    ck_assert_int_eq(larder_view_end(&v), -EBADF);
    ck_assert_int_eq(view("key", &v), -EBADF);
    ck_assert_int_eq(hold_of("key", &hold), -EBADF);
    ck_assert_int_eq(larder_revisit(ns, &hold), -EBADF);
}
END_TEST

START_TEST(test_a_hold_expires)
{
    struct larder_set_options o = {.size = sizeof o, .ttl_ms = 80, .how = LARDER_SET_WAIT};
    struct larder_hold hold;
    ck_assert_int_eq(larder_set(ns, "key", 3, "x", 1, &o, NULL), 0);
    ck_assert_int_eq(hold_of("key", &hold), 0);
    ck_assert_int_eq(larder_revisit(ns, &hold), 0);
    /* Its block would be freed at once. */
    pid_t worker = (pid_t)lrd_load_relaxed(&d.r.header->worker_pid);
    ck_assert_int_eq(kill(worker, SIGSTOP), 0);
    pause_us(100000);
    int r = larder_revisit(ns, &hold);
    ck_assert_int_eq(kill(worker, SIGCONT), 0);
    ck_assert_int_eq(r, LARDER_CHANGED);
}
END_TEST

/* What is only revisited was read: the policy keeps it. */
START_TEST(test_revisits_leave_marks)
{
    struct larder_hold hold;
    struct larder_stats before = {.size = sizeof before}, after = {.size = sizeof after};
    put("key", 14, 100);
    ck_assert_int_eq(hold_of("key", &hold), 0);
    uint64_t marks = daemon_count(LRD_C_marks), end = lrd_clock_ns() + 3000 * UINT64_C(1000000);
    ck_assert_int_eq(larder_stats(h, &before), 0);
    for (unsigned i = 0; i < 3; i++)
        expect(larder_revisit(ns, &hold) == 0);
    ck_assert_int_eq(larder_stats(h, &after), 0);
    ck_assert_uint_eq(after.hits - before.hits, 3);
    while (daemon_count(LRD_C_marks) <= marks + 1 && lrd_clock_ns() < end) { /* the get left one */
        int r = larder_revisit(ns, &hold);
        if (r != 0 && hold_of("key", &hold) != 0)
            put("key", 14, 100); /* it made room for what fills the arena */
        put("filler", 1, VALUE);
    }
    expect(daemon_count(LRD_C_marks) > marks + 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("view");
    TCase *pins = tcase_create("pins"), *library = tcase_create("library");
    tcase_add_checked_fixture(pins, setup, teardown);
    tcase_add_test(pins, test_a_pin_delays_its_block);
    tcase_add_test(pins, test_the_last_free_block_is_not_delayed);
    tcase_add_test(pins, test_a_deadline);
    tcase_add_test(pins, test_no_more_than_half);
    tcase_add_test(pins, test_half_of_the_free_blocks);
    tcase_add_test(pins, test_any_words);
    tcase_add_test(pins, test_lanes_that_count);
    tcase_add_test(pins, test_a_blind_worker_opens_nothing);
    tcase_add_test(pins, test_after_the_segment_was_emptied);
    suite_add_tcase(s, pins);
    tcase_add_unchecked_fixture(library, start_daemon, stop_daemon);
    tcase_add_checked_fixture(library, open_handle, close_handle);
    tcase_set_timeout(library, 30);
    tcase_add_test(library, test_what_a_view_shows);
    tcase_add_test(library, test_kinds);
    tcase_add_test(library, test_own_writes);
    tcase_add_test(library, test_bad_input);
    tcase_add_test(library, test_all_pins);
    tcase_add_test(library, test_threads);
    tcase_add_test(library, test_a_view_outlives_its_item);
    tcase_add_test(library, test_a_new_worker_knows_all_views_before_it_begins);
    tcase_add_test(library, test_a_view_held_too_long);
    tcase_add_test(library, test_a_forked_child);
    tcase_add_test(library, test_what_ends_a_hold);
    tcase_add_test(library, test_closed);
    tcase_add_test(library, test_a_hold_expires);
    tcase_add_test(library, test_revisits_leave_marks);
    suite_add_tcase(s, library);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
