/* Read-your-writes: the table that says which of our writes are not applied yet, beside a ring that nobody empties. The applied position is moved by hand. */
#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "libclient/ryw.c" /* its functions are not exported */
#include "shm/lane.h"

#define CELLS 1024u

static struct lrd_attachment at;
static struct lrd_lane_words words;
static struct lrd_namespace namespaces[LRD_NAMESPACES];

static void setup(void)
{
    int fd = lrd_lane_create(CELLS, 0, 0);
    ck_assert_int_ge(fd, 0);
    memset(&at, 0, sizeof at);
    memset(&words, 0, sizeof words);
    ck_assert_int_eq(lrd_lane_map(fd, CELLS, 0, &at.ring), 0);
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

/* A record as set.c makes it, committed; not raised yet. */
static uint64_t commit(uint32_t kind, const char *key, const char *value)
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
    return position;
}

/* With a hash of our choice. */
static uint64_t put(uint32_t kind, const char *key, const char *value, uint64_t hash)
{
    uint64_t position = commit(kind, key, value);
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

/* The crowded entry has the tag of one of those it stands for; that key's next write must not make the others forgotten. */
START_TEST(crowded_stays_crowded)
{
    char key[2] = "a";
    for (uint32_t i = 0; i <= LRD_RYW_WAYS; i++, key[0]++)
        put(LRD_RECORD_SET, key, "old", hash_of(i + 1));
    uint64_t end = put(LRD_RECORD_SET, "i", "new", hash_of(9)) + 1;
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, apply_soon, &end), 0);
    ck_assert_int_eq(get("a", hash_of(1)), LRD_OWN_NONE);
    ck_assert_uint_eq(lrd_load_acquire(&words.applied), end);
    pthread_join(thread, NULL);
}
END_TEST

/* A thread that was stopped before its raise, and comes into a full bucket of newer writes: they stay known. */
START_TEST(crowded_by_an_older_write)
{
    uint64_t old = commit(LRD_RECORD_SET, "z", "late");
    char key[2] = "a";
    for (uint32_t i = 0; i < LRD_RYW_WAYS; i++, key[0]++)
        put(LRD_RECORD_SET, key, "newer", hash_of(i + 1));
    lrd_ryw_raise(&at, hash_of(9), old);
    key[0] = 'a';
    for (uint32_t i = 0; i < LRD_RYW_WAYS; i++, key[0]++)
        ck_assert_int_eq(get(key, hash_of(i + 1)), LRD_OWN_VALUE);
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

/* ---- the cells of a record used again in the middle of its copy ---- */

static unsigned char *trap; /* two pages, the second of which faults */

/* The copy has come to the second page: the writer applies everything, and the cells are filled anew. */
static void reuse(int signal)
{
    (void)signal;
    mprotect(trap + LRD_PAGE, LRD_PAGE, PROT_READ | PROT_WRITE);
    apply(lrd_load_relaxed(&at.ring.lane->tail));
    memset(at.ring.cells, 0x55, (size_t)CELLS * LRD_CELL);
}

START_TEST(cells_used_again)
{
    char value[LRD_PAGE + 1];
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    put(LRD_RECORD_SET, "k", value, hash_of(1));
    trap = mmap(NULL, 2 * LRD_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(trap != MAP_FAILED && mprotect(trap + LRD_PAGE, LRD_PAGE, PROT_NONE) == 0);
    const struct sigaction action = {.sa_handler = reuse};
    ck_assert_int_eq(sigaction(SIGSEGV, &action, NULL), 0);
    struct lrd_get g = {.key = "k", .key_len = 1, .hash = hash_of(1), .buffer = trap + LRD_PAGE / 2, .capacity = LRD_PAGE};
    ck_assert_int_eq(lrd_ryw_get(&at, &g), LRD_OWN_NONE);
    ck_assert_uint_gt(lrd_load_relaxed(&words.applied), 0);
    munmap(trap, 2 * LRD_PAGE);
}
END_TEST

/* ---- threads: each writes its own keys and must read them back, and reads those of the others. All share two buckets; a writer lets the ring fill, then applies all of
 * it at once, so that pending entries are many and cells are used again at once. ---- */

#define THREADS 4u
#define VALUE 400u

static lrd_u64 failures;
static lrd_u32 stop;
static unsigned turns;

static void key_of(char key[16], uint32_t thread, uint32_t i) { snprintf(key, 16, "k%u.%u", thread, i % 3); }

/* Twelve tags in two buckets: one of them is crowded at times. */
static uint64_t hash_for(uint32_t thread, uint32_t i) { return (uint64_t)(thread == 0 && i % 3 == 0) << 32 | (thread * 3 + i % 3); }

static uint64_t write_one(uint32_t me, uint32_t i)
{
    char key[16];
    unsigned char value[VALUE];
    key_of(key, me, i);
    memset(value, (int)(i & 255), sizeof value);
    struct lrd_record rec = {.kind = LRD_RECORD_SET, .key_len = (uint16_t)strlen(key), .value_len = VALUE - i % 64, .epoch = 1, .flags = i};
    uint32_t n = lrd_ring_cells_for(rec.key_len, rec.value_len);
    uint64_t position;
    while (!lrd_ring_claim(&at.ring, &words, &at.seen, n, &position))
        sched_yield();
    lrd_fence_release();
    unsigned char *p = lrd_ring_at(&at.ring, position);
    lrd_racy_fill(p, &rec, sizeof rec);
    lrd_racy_fill(p + sizeof rec, key, rec.key_len);
    lrd_racy_fill(p + sizeof rec + rec.key_len, value, rec.value_len);
    lrd_ring_commit(&at.ring, position, n, LRD_RECORD_SET);
    lrd_ryw_raise(&at, hash_for(me, i), position);
    return position;
}

/* Nothing, or a whole value; *turn is the one it was written in. */
static enum lrd_own read_one(uint32_t thread, uint32_t i, uint32_t *turn)
{
    char key[16];
    unsigned char value[VALUE] = {0};
    key_of(key, thread, i);
    struct lrd_get g = {.key = key, .key_len = (uint32_t)strlen(key), .hash = hash_for(thread, i), .buffer = value, .capacity = sizeof value};
    enum lrd_own own = lrd_ryw_get(&at, &g);
    if (own != LRD_OWN_VALUE)
        return own;
    *turn = lrd_item_flags(g.head);
    bool whole = lrd_item_value_len(g.head) == VALUE - *turn % 64;
    for (uint32_t k = 0; whole && k < VALUE - *turn % 64; k++)
        whole = value[k] == (*turn & 255);
    if (!whole)
        lrd_fetch_add_relaxed(&failures, 1);
    return own;
}

static void *write_and_read(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg, turn = 0;
    for (uint32_t i = 0; i < turns; i++) {
        uint64_t position = write_one(me, i);
        enum lrd_own own = read_one(me, i, &turn);
        /* Either our value, or it has been applied. */
        if (own == LRD_OWN_VALUE ? turn != i : own != LRD_OWN_NONE || lrd_load_acquire(&words.applied) <= position)
            lrd_fetch_add_relaxed(&failures, 1);
        read_one((me + 1) % THREADS, i, &turn);
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
            head += n;
        else {
            sched_yield();
            lrd_store_release(&words.applied, head);
        }
        if (head - lrd_load_relaxed(&words.applied) > CELLS - 40)
            lrd_store_release(&words.applied, head);
    }
    return NULL;
}

START_TEST(threads)
{
    turns = getenv("LARDER_LONG") != NULL ? 1000000 : 30000;
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
    tcase_add_test(c, crowded_stays_crowded);
    tcase_add_test(c, crowded_by_an_older_write);
    tcase_add_test(c, same_tag_other_key);
    tcase_add_test(c, gives_up_on_a_dead_writer);
    tcase_add_test(c, reset_namespace);
    tcase_add_test(c, used_entries_are_used_again);
    tcase_add_test(c, cleared);
    tcase_add_test(c, cells_used_again);
    tcase_add_test(c, threads);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
