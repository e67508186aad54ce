/* Read-your-writes: the table that says which of our writes are not applied yet, beside a ring that nobody empties. The applied position is moved by hand. */
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libclient/ryw.c" /* its functions are not exported */
#include "shm/lane.h"

#define CELLS 1024u

static struct lrd_attachment at;
static struct lrd_lane_words words;
static struct lrd_namespace namespaces[LRD_NAMESPACES];

static void setup(void)
{
    int fd = lrd_lane_create(CELLS, 0);
    ck_assert_int_ge(fd, 0);
    memset(&at, 0, sizeof at);
    memset(&words, 0, sizeof words);
    ck_assert_int_eq(lrd_lane_map(fd, CELLS, &at.ring), 0);
    close(fd);
    ck_assert_int_eq(lrd_ryw_create(&at.ryw, CELLS), 0);
    at.words = &words;
    at.r.namespaces = namespaces;
    at.r.hash_seed = 1;
    lrd_store32_relaxed(&namespaces[0].epoch, 1);
}

static void teardown(void)
{
    lrd_ryw_destroy(&at.ryw);
    lrd_lane_unmap(&at.ring);
}

/* A record as set.c makes it, with a hash of our choice. */
static uint64_t put(uint32_t kind, const char *key, const char *value, uint64_t hash)
{
    struct lrd_record rec = {.kind = (uint8_t)kind, .key_len = (uint16_t)strlen(key), .value_len = (uint32_t)strlen(value), .epoch = 1, .flags = 7};
    uint32_t n = lrd_ring_cells_for(rec.key_len, rec.value_len);
    uint64_t position;
    ck_assert(lrd_ring_claim(&at.ring, &words, &at.seen, n, &position));
    unsigned char *p = lrd_ring_at(&at.ring, position);
    memcpy(p, &rec, sizeof rec);
    memcpy(p + sizeof rec, key, rec.key_len);
    memcpy(p + sizeof rec + rec.key_len, value, rec.value_len);
    lrd_ring_commit(&at.ring, position, n, kind);
    lrd_ryw_raise(&at, hash, position);
    return position;
}

static char buffer[256];

static enum lrd_own get(const char *key, uint64_t hash)
{
    struct lrd_get g = {.key = key, .key_len = (uint32_t)strlen(key), .hash = hash, .buffer = buffer, .capacity = sizeof buffer};
    memset(buffer, 0, sizeof buffer);
    return lrd_ryw_get(&at, &g);
}

static void apply(uint64_t position) { lrd_store_release(&words.applied, position); }

/* The same bucket, another tag. */
static uint64_t hash_of(uint32_t tag) { return UINT64_C(5) << 32 | tag; }

START_TEST(pending_until_applied)
{
    ck_assert(!lrd_ryw_pending(&at));
    uint64_t position = put(LRD_RECORD_SET, "k", "one", hash_of(1));
    ck_assert(lrd_ryw_pending(&at));
    ck_assert_int_eq(get("k", hash_of(1)), LRD_OWN_VALUE);
    ck_assert_str_eq(buffer, "one");
    apply(position + 1);
    ck_assert_int_eq(get("k", hash_of(1)), LRD_OWN_NONE);
    ck_assert(!lrd_ryw_pending(&at));
    ck_assert_uint_eq(lrd_load_relaxed(&at.settled), position + 1);
}
END_TEST

START_TEST(the_newest_counts)
{
    put(LRD_RECORD_SET, "k", "one", hash_of(1));
    put(LRD_RECORD_SET, "k", "two", hash_of(1));
    ck_assert_int_eq(get("k", hash_of(1)), LRD_OWN_VALUE);
    ck_assert_str_eq(buffer, "two");
    put(LRD_RECORD_DELETE, "k", "", hash_of(1));
    ck_assert_int_eq(get("k", hash_of(1)), LRD_OWN_ABSENT);
    put(LRD_RECORD_SET, "k", "", hash_of(1));
    ck_assert_int_eq(get("k", hash_of(1)), LRD_OWN_VALUE);
}
END_TEST

START_TEST(raised_out_of_order)
{
    uint64_t one = put(LRD_RECORD_SET, "k", "one", hash_of(1));
    put(LRD_RECORD_SET, "k", "two", hash_of(1));
    lrd_ryw_raise(&at, hash_of(1), one); /* a thread that was stopped before its raise */
    ck_assert_int_eq(get("k", hash_of(1)), LRD_OWN_VALUE);
    ck_assert_str_eq(buffer, "two");
}
END_TEST

START_TEST(eight_keys_share_a_bucket)
{
    char key[2] = "a", value[2] = "A";
    for (uint32_t i = 0; i < LRD_RYW_WAYS; i++, key[0]++, value[0]++)
        put(LRD_RECORD_SET, key, value, hash_of(i + 1));
    key[0] = 'a';
    for (uint32_t i = 0; i < LRD_RYW_WAYS; i++, key[0]++) {
        ck_assert_int_eq(get(key, hash_of(i + 1)), LRD_OWN_VALUE);
        ck_assert_int_eq(buffer[0], 'A' + (int)i);
    }
}
END_TEST

/* Applies everything a little later: long before a waiting get gives up. */
static void *apply_soon(void *position)
{
    const struct timespec nap = {.tv_nsec = 20000000};
    nanosleep(&nap, NULL);
    apply(*(uint64_t *)position);
    return NULL;
}

START_TEST(nine_keys_crowd_it)
{
    char key[2] = "a", value[2] = "A";
    uint64_t last = 0;
    for (uint32_t i = 0; i <= LRD_RYW_WAYS; i++, key[0]++, value[0]++)
        last = put(LRD_RECORD_SET, key, value, hash_of(i + 1));
    /* The newest of the bucket is still known, whoever crowded it. */
    ck_assert_int_eq(get("i", hash_of(9)), LRD_OWN_VALUE);
    ck_assert_str_eq(buffer, "I");
    /* Any other key of the bucket waits until all of them are in the table. */
    pthread_t thread;
    uint64_t end = last + 1;
    ck_assert_int_eq(pthread_create(&thread, NULL, apply_soon, &end), 0);
    ck_assert_int_eq(get("a", hash_of(1)), LRD_OWN_NONE);
    ck_assert_uint_eq(lrd_load_acquire(&words.applied), end);
    pthread_join(thread, NULL);
    /* A key that was never written, in the bucket no longer crowded, asks nobody. */
    ck_assert_int_eq(get("z", hash_of(99)), LRD_OWN_NONE);
}
END_TEST

START_TEST(crowded_then_written_again)
{
    char key[2] = "a";
    for (uint32_t i = 0; i <= LRD_RYW_WAYS; i++, key[0]++)
        put(LRD_RECORD_SET, key, "old", hash_of(i + 1));
    put(LRD_RECORD_SET, "c", "new", hash_of(3));
    ck_assert_int_eq(get("c", hash_of(3)), LRD_OWN_VALUE);
    ck_assert_str_eq(buffer, "new");
}
END_TEST

START_TEST(same_tag_other_key)
{
    put(LRD_RECORD_SET, "k", "mine", hash_of(1));
    uint64_t last = put(LRD_RECORD_SET, "l", "other", hash_of(1));
    ck_assert_int_eq(get("l", hash_of(1)), LRD_OWN_VALUE);
    pthread_t thread;
    uint64_t end = last + 1;
    ck_assert_int_eq(pthread_create(&thread, NULL, apply_soon, &end), 0);
    ck_assert_int_eq(get("k", hash_of(1)), LRD_OWN_NONE);
    ck_assert_uint_eq(lrd_load_acquire(&words.applied), end);
    pthread_join(thread, NULL);
}
END_TEST

START_TEST(gives_up_on_a_dead_writer)
{
    put(LRD_RECORD_SET, "k", "mine", hash_of(1));
    put(LRD_RECORD_SET, "l", "other", hash_of(1));
    uint64_t before = lrd_clock_ns();
    ck_assert_int_eq(get("k", hash_of(1)), LRD_OWN_NONE);
    ck_assert_uint_ge(lrd_clock_ns() - before, WAIT_MS * 1000000u);
}
END_TEST

START_TEST(reset_namespace)
{
    put(LRD_RECORD_SET, "k", "one", hash_of(1));
    lrd_store32_release(&namespaces[0].epoch, 2);
    ck_assert_int_eq(get("k", hash_of(1)), LRD_OWN_NONE);
}
END_TEST

START_TEST(used_entries_are_used_again)
{
    /* Many laps of the ring through one bucket: entries that are not pending any more make room. */
    char key[16];
    for (uint32_t i = 0; i < 20 * CELLS; i++) {
        snprintf(key, sizeof key, "%u", i);
        uint64_t position = put(LRD_RECORD_SET, key, "v", hash_of(i & LRD_TAG_MASK));
        ck_assert_int_eq(get(key, hash_of(i & LRD_TAG_MASK)), LRD_OWN_VALUE);
        if (i % 5 == 4)
            apply(position + 1);
    }
}
END_TEST

START_TEST(cleared)
{
    put(LRD_RECORD_SET, "k", "one", hash_of(1));
    lrd_ryw_clear(&at.ryw);
    ck_assert_int_eq(get("k", hash_of(1)), LRD_OWN_NONE);
}
END_TEST

/* ---- threads: each writes its own keys and must read them back; all share two buckets, and a writer moves the applied position behind them ---- */

#define THREADS 4u
#define TURNS 20000u

static lrd_u64 failures;
static lrd_u32 stop;

static void *write_and_read(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    char key[16], value[16], mine[64];
    for (uint32_t i = 0; i < TURNS; i++) {
        snprintf(key, sizeof key, "k%u.%u", me, i % 3);
        snprintf(value, sizeof value, "%u", i);
        uint64_t hash = (uint64_t)(i % 2) << 32 | (me * 3 + i % 3);
        struct lrd_record rec = {.kind = LRD_RECORD_SET, .key_len = (uint16_t)strlen(key), .value_len = (uint32_t)strlen(value), .epoch = 1};
        uint64_t position;
        while (!lrd_ring_claim(&at.ring, &words, &at.seen, 1, &position))
            lrd_pause();
        lrd_fence_release();
        unsigned char *p = lrd_ring_at(&at.ring, position);
        lrd_racy_fill(p, &rec, sizeof rec);
        lrd_racy_fill(p + sizeof rec, key, rec.key_len);
        lrd_racy_fill(p + sizeof rec + rec.key_len, value, rec.value_len);
        lrd_ring_commit(&at.ring, position, 1, LRD_RECORD_SET);
        lrd_ryw_raise(&at, hash, position);

        struct lrd_get g = {.key = key, .key_len = rec.key_len, .hash = hash, .buffer = mine, .capacity = sizeof mine};
        enum lrd_own own = lrd_ryw_get(&at, &g);
        /* Either our value, or it has been applied. */
        if (own == LRD_OWN_VALUE ? lrd_item_value_len(g.head) != rec.value_len || memcmp(mine, value, rec.value_len) != 0
                                 : own != LRD_OWN_NONE || lrd_load_acquire(&words.applied) <= position)
            lrd_fetch_add_relaxed(&failures, 1);
    }
    return NULL;
}

static void *drain(void *arg)
{
    (void)arg;
    uint64_t head = 0;
    while (lrd_load32_acquire(&stop) == 0) {
        uint32_t n = lrd_ring_next(&at.ring, head);
        if (n > 0)
            lrd_store_release(&words.applied, head += n);
        else
            lrd_pause();
    }
    return NULL;
}

START_TEST(threads)
{
    pthread_t writer, thread[THREADS];
    ck_assert_int_eq(pthread_create(&writer, NULL, drain, NULL), 0);
    for (uintptr_t i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, write_and_read, (void *)i), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    lrd_store32_release(&stop, 1);
    pthread_join(writer, NULL);
    ck_assert_uint_eq(lrd_load_relaxed(&failures), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ryw");
    TCase *c = tcase_create("ryw");
    suite_add_tcase(s, c);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_set_timeout(c, 60);
    tcase_add_test(c, pending_until_applied);
    tcase_add_test(c, the_newest_counts);
    tcase_add_test(c, raised_out_of_order);
    tcase_add_test(c, eight_keys_share_a_bucket);
    tcase_add_test(c, nine_keys_crowd_it);
    tcase_add_test(c, crowded_then_written_again);
    tcase_add_test(c, same_tag_other_key);
    tcase_add_test(c, gives_up_on_a_dead_writer);
    tcase_add_test(c, reset_namespace);
    tcase_add_test(c, used_entries_are_used_again);
    tcase_add_test(c, cleared);
    tcase_add_test(c, threads);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
