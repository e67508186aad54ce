/* Readers against the writer, on one small segment: blocks are recycled, items overwritten, deleted, moved and copied forward, the namespace is reset, all at once.
 *
 * Values certify themselves: each of their words is made from key, version and place. A board beside the segment says, for each key, which version is visible: the
 * writer stores it after publication, a reader loads it before a get and must see that one or a later one, or a miss. Kept keys are copied forward, or rewritten, before their
 * block goes: they must never be missed while the board says that they are there, and some of them are copied all the time. At the end everything is counted again.
 *
 * Here readers are processes with a read-only mapping of their own. race_tsan_segment.c is the same with threads. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef RACE_THREADS
#include <pthread.h>
#endif

#include "tests/segment_fixture.h"

#define READERS 3u
#define KEPT 200u     /* of namespace 1 */
#define HOT 16u       /* of namespace 0: overwritten all the time */
#define KEYS 5000u    /* of namespace 0, the hot ones included */
#define BLOCKS 24u
#define PAIRS 230u    /* about 0.8 of the slots are live between two resets */
#define VALUE_MAX 16384u

#ifdef LRD_TSAN
#define RUN_MS 6000u
#define READS_WANTED UINT64_C(3000000)
#define LONGEST_MS 10000u
#define RESET_EVERY 20000u /* sets and deletes */
#else
#define RUN_MS 9000u
#define READS_WANTED UINT64_C(100000000)
#define LONGEST_MS 60000u /* of the short form: a sanitizer's build does not get so far */
#define RESET_EVERY 100000u
#endif

struct tally {
    lrd_u64 reads, validated, missed, restarts, wrong;
    lrd_u64 pad[3];
};

struct board {
    lrd_u64 stop;
    lrd_u64 cursor; /* key written last, of those that are written in turn */
    lrd_u64 floor;  /* version when namespace 0 was reset last */
    lrd_u64 pad[5];
    struct tally tally[READERS];
    lrd_u64 visible[KEYS];
    lrd_u64 kept_visible[KEPT];
};

static struct board *board;
static struct fixture fixture;

/* ---- values ---- */

static uint64_t word_of(uint64_t key, uint64_t version, uint64_t place)
{
    uint64_t x = key * UINT64_C(0x9e3779b97f4a7c15) ^ version * UINT64_C(0xc2b2ae3d27d4eb4f) ^ place * UINT64_C(0x165667b19e3779f9);
    return (x ^ x >> 31) * UINT64_C(0xff51afd7ed558ccd);
}

/* Key, version, then words of them. */
static uint32_t words_of(uint64_t key, uint64_t version)
{
    uint64_t x = word_of(key, version, 77);
    return 2 + (uint32_t)(x % 64 == 0 ? (x >> 8) % (VALUE_MAX / 8 - 2) : (x >> 8) % 40);
}

static uint32_t value_make(uint64_t *value, uint64_t key, uint64_t version)
{
    uint32_t n = words_of(key, version);
    value[0] = key;
    value[1] = version;
    for (uint32_t i = 2; i < n; i++)
        value[i] = word_of(key, version, i);
    return n * 8;
}

static bool value_ok(const uint64_t *value, uint32_t bytes, uint64_t key)
{
    if (bytes < 16 || value[0] != key || bytes != words_of(key, value[1]) * 8)
        return false;
    for (uint32_t i = 2; i < bytes / 8; i++)
        if (value[i] != word_of(key, value[1], i))
            return false;
    return true;
}

/* Keys of several lengths. */
static uint32_t key_make(unsigned char *key, uint32_t ns, uint64_t id)
{
    uint32_t len = 8 + (uint32_t)(id * 13 % 40);
    memset(key, (int)ns, len);
    memcpy(key, &id, sizeof id);
    return len;
}

/* ---- a reader ---- */

static void wrong(struct tally *t, const char *what, uint32_t ns, uint64_t id, uint64_t version, uint64_t least)
{
    if (lrd_load_relaxed(&t->wrong) < 5)
        fprintf(stderr, "%s: namespace %u, key %" PRIu64 ", version %" PRIu64 ", at least %" PRIu64 " was visible\n", what, ns, id, version, least);
    lrd_add_own(&t->wrong, 1);
}

static void read_one(const struct lrd_reader *r, struct tally *t, uint32_t ns, uint64_t id, uint64_t *buffer)
{
    unsigned char key[64];
    struct lrd_get get;
    /* Pairs with the releases in publish(): what is visible by the board is visible to the get. */
    uint64_t least = lrd_load_acquire(ns == 0 ? &board->visible[id] : &board->kept_visible[id]), floor = lrd_load_acquire(&board->floor);
    enum lrd_outcome o = fixture_get(r, ns, key, key_make(key, ns, id), buffer, VALUE_MAX, &get);
    lrd_add_own(&t->reads, 1);
    lrd_add_own(&t->restarts, get.restarts);
    if (o != LRD_FOUND) {
        lrd_add_own(&t->missed, 1);
        if (o != LRD_ABSENT)
            wrong(t, "too small", ns, id, 0, least);
        else if (ns == 1 && least > 0 && lrd_load_acquire(&board->kept_visible[id]) == least) /* it was there all the time */
            wrong(t, "missed", ns, id, 0, least);
        return;
    }
    uint64_t version = buffer[1];
    if (!value_ok(buffer, lrd_item_value_len(get.head), id))
        wrong(t, "torn or foreign", ns, id, version, least);
    else if (lrd_item_flags(get.head) != (uint32_t)version)
        wrong(t, "another's flags", ns, id, version, least);
    else if (version < least)
        wrong(t, "too old", ns, id, version, least);
    else if (ns == 0 && version < floor)
        wrong(t, "of before the reset", ns, id, version, floor);
    else
        lrd_add_own(&t->validated, 1);
}

/* Most gets go where something is just happening: to keys whose block is about to be freed, and to hot ones. */
static uint64_t pick(uint64_t *state)
{
    uint64_t x = fixture_random(state), cursor = lrd_load_relaxed(&board->cursor);
    switch (x % 8) {
    case 0:
    case 1:
        return (x >> 8) % KEYS;
    case 2:
        return (x >> 8) % HOT;
    case 3:
        return (cursor + KEYS - (x >> 8) % 32) % KEYS;
    default:
        return (cursor + KEYS - KEYS / 3 - (x >> 8) % (KEYS / 3)) % KEYS;
    }
}

static void read_all(const struct lrd_reader *r, uint32_t idx)
{
    uint64_t state = 1000 + idx;
    uint64_t *buffer = malloc(VALUE_MAX);
    while (lrd_load_relaxed(&board->stop) == 0)
        for (unsigned i = 0; i < 64; i++) {
            if (i % 2 == 0)
                read_one(r, &board->tally[idx], 1, fixture_random(&state) % KEPT, buffer);
            read_one(r, &board->tally[idx], 0, pick(&state), buffer);
        }
    free(buffer);
}

/* ---- the writer ---- */

static uint64_t version, n_copied;

static void publish(uint32_t ns, uint64_t id)
{
    static uint64_t value[VALUE_MAX / 8];
    unsigned char key[64];
    version++;
    struct fixture_item item = {.ns = ns, .key = key, .key_len = key_make(key, ns, id), .value = value, .flags = (uint32_t)version};
    item.value_len = value_make(value, id, version);
    fixture_put(&fixture, &item);
    lrd_store_release(ns == 0 ? &board->visible[id] : &board->kept_visible[id], version); /* pairs with the acquire in read_one() */
}

static void delete_one(uint64_t id)
{
    unsigned char key[64];
    version++;
    fixture_delete(&fixture, 0, key, key_make(key, 0, id));
    lrd_store_release(&board->visible[id], version); /* nothing older may be seen: a miss, or what comes later */
}

static void reset(void)
{
    version++;
    fixture_reset(&fixture, 0);
    lrd_store_release(&board->floor, version);
}

/* A full block of namespace 0 goes before its time. */
static void free_some_block(uint64_t x)
{
    uint32_t b = (uint32_t)(x % BLOCKS);
    const struct lrd_descriptor *d = &fixture.store.descriptors[b];
    if (lrd_arena_may_free(&fixture.arena, b) && lrd_owner_ns(lrd_load_relaxed(&d->owner)) == 0)
        lrd_arena_free_block(&fixture.arena, b, LRD_CAUSE_EVICTED, fixture_now_ms(&fixture.store.r), 0, 0);
}

/* What a worker does before it frees a block: the block that the item left may go at once, and be used again. */
static void copy_forward(uint64_t id)
{
    unsigned char key[64];
    uint32_t len = key_make(key, 1, id);
    struct lrd_get get;
    if (fixture_get(&fixture.store.r, 1, key, len, NULL, 0, &get) == LRD_ABSENT)
        abort(); /* never missed: by the writer neither */
    if (!fixture_move(&fixture, 1, key, len, LRD_TTL_CLASSES))
        return;
    n_copied++;
    uint32_t old = lrd_arena_block(&fixture.store.r, get.slot);
    if (lrd_live_items(lrd_load_relaxed(&fixture.store.descriptors[old].live)) == 0)
        lrd_arena_free_if_empty(&fixture.arena, old, fixture_now_ms(&fixture.store.r));
}

/* An item that is overwritten stays at its place, and one that was moved on never comes back: some are put anew. */
static void keep(uint64_t *state)
{
    /* Into blocks that are young: one that was open for long is the oldest when it is full. */
    lrd_arena_close(&fixture.arena, 1, 0);
    lrd_arena_close(&fixture.arena, 1, LRD_TTL_CLASSES);
    for (uint64_t id = 0; id < KEPT; id++) {
        if (fixture_random(state) % 8 == 0) {
            unsigned char key[64];
            lrd_store_release(&board->kept_visible[id], 0);
            lrd_fence_seq_cst(); /* who does not see that has begun before the delete; it looks again after a miss */
            fixture_delete(&fixture, 1, key, key_make(key, 1, id));
        }
        if (fixture_random(state) % 4 != 0 && lrd_load_relaxed(&board->kept_visible[id]) != 0)
            copy_forward(id); /* the same version, somewhere else */
        else
            publish(1, id);
    }
}

static void write_some(uint64_t *state)
{
    static uint64_t kept_at;
    uint64_t x = fixture_random(state), opened = fixture_counter(&fixture.store.r, LRD_C_blocks_opened), cursor = lrd_load_relaxed(&board->cursor);
    if (version == 0 || opened - kept_at > BLOCKS / 4) {
        keep(state);
        kept_at = opened;
    }
    switch (x % 16) {
    case 0:
    case 1:
    case 2:
        publish(0, (x >> 8) % HOT);
        break;
    case 3:
        publish(0, (x >> 8) % KEYS);
        break;
    case 4:
        delete_one((x >> 8) % KEYS);
        break;
    default:
        publish(0, cursor);
        lrd_store_relaxed(&board->cursor, (cursor + 1) % KEYS);
    }
    if (x >> 8 < (UINT64_C(1) << 56) / 2000)
        free_some_block(x);
    if (x >> 40 & 1)
        copy_forward((x >> 20) % KEPT);
    if (version % RESET_EVERY == 0)
        reset();
}

/* ---- both at once ---- */

static uint64_t total(size_t field)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < READERS; i++)
        n += lrd_load_relaxed((const lrd_u64 *)(const void *)((const char *)&board->tally[i] + field));
    return n;
}
#define TOTAL(field) total(offsetof(struct tally, field))

static void write_until_done(void)
{
    uint64_t state = 42, start = lrd_clock_ns(), end = start + RUN_MS * UINT64_C(1000000), last = start + LONGEST_MS * UINT64_C(1000000);
    do {
        for (unsigned i = 0; i < 1000; i++)
            write_some(&state);
    } while (lrd_clock_ns() < end || (TOTAL(validated) < READS_WANTED && (fixture_long() || lrd_clock_ns() < last)));
    lrd_store_relaxed(&board->stop, 1);
}

#ifdef RACE_THREADS

static void *reader_thread(void *arg)
{
    read_all(&fixture.store.r, (uint32_t)(uintptr_t)arg);
    return NULL;
}

static bool run(void)
{
    pthread_t thread[READERS];
    for (uintptr_t i = 0; i < READERS; i++)
        if (pthread_create(&thread[i], NULL, reader_thread, (void *)i) != 0)
            abort();
    write_until_done();
    for (uint32_t i = 0; i < READERS; i++)
        pthread_join(thread[i], NULL);
    return true;
}

#else

/* Another process, with the memfd only. */
static void reader_process(uint32_t idx)
{
    struct lrd_reader r;
    void *seen = mmap(NULL, fixture.bytes, PROT_READ, MAP_SHARED, fixture.fd, 0);
    munmap(fixture.base, fixture.bytes);
    munmap(fixture.seen, fixture.bytes);
    if (seen == MAP_FAILED || lrd_reader_init(&r, seen, fixture.bytes) != LRD_SEGMENT_GOOD)
        abort();
    read_all(&r, idx);
    _exit(0);
}

static bool run(void)
{
    pid_t pid[READERS];
    bool ok = true;
    for (uint32_t i = 0; i < READERS; i++) {
        pid[i] = fork();
        if (pid[i] == 0)
            reader_process(i);
        if (pid[i] < 0)
            abort();
    }
    write_until_done();
    for (uint32_t i = 0; i < READERS; i++) {
        int status;
        ok &= waitpid(pid[i], &status, 0) == pid[i] && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    }
    return ok;
}

#endif

int main(void)
{
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED)
        return 1;
    fixture_make_sealed(&fixture, PAIRS, BLOCKS, 16);
    bool ok = run();
    const struct lrd_reader *r = &fixture.store.r;
    uint64_t validated = TOTAL(validated), restarts = TOTAL(restarts), moved = fixture_counter(r, LRD_C_relocated), no_room = fixture_counter(r, LRD_C_no_room);
    printf("%" PRIu64 " reads validated, %" PRIu64 " missed, %" PRIu64 " restarts; %" PRIu64 " sets, %" PRIu64 " blocks freed, %" PRIu64 " items moved, %" PRIu64
           " without room, %" PRIu64 " copied forward, %" PRIu64 " resets, load %.2f\n",
           validated, TOTAL(missed), restarts, fixture_counter(r, LRD_C_sets), fixture_counter(r, LRD_C_blocks_freed), moved, no_room, n_copied,
           (uint64_t)lrd_load32_relaxed(&r->namespaces[0].epoch) - 1, fixture_load(r));
    unsigned recounted = fixture_recount_all(&fixture);
    if (TOTAL(wrong) > 0 || recounted > 0 || !ok) {
        printf("%" PRIu64 " reads wrong, %u things wrong at the end, readers %s\n", TOTAL(wrong), recounted, ok ? "fine" : "died");
        return 1;
    }
    if (restarts == 0 || moved == 0 || n_copied < 1000 || lrd_load32_relaxed(&r->namespaces[0].epoch) == 1 || validated < 100000) {
        printf("nothing raced\n");
        return 1;
    }
    fixture_drop(&fixture);
    return 0;
}
