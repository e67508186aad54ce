/* Many producers, one consumer, one small ring: each committed record comes out once, whole, in the order of its producer.
 *
 * Here the producers are the threads of a process that is killed in the middle: at any moment, and while one of them holds a claim that it never commits. What it had
 * committed by its own account must come out when the ring is drained to its end. race_tsan_ring.c lets the producers be threads of this process. */
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/clock.h"
#include "shm/lane.h"
#include "tests/segment_fixture.h"

#define PRODUCERS 3u
#define CELLS 64u

struct board {
    lrd_u64 stop;
    lrd_u64 full; /* claims that found no room */
    lrd_u64 holding;
    lrd_u64 committed[PRODUCERS]; /* records, noted after their commit */
    struct lrd_lane_words words;
};

static struct board *board;
static struct lrd_ring ring;
static lrd_u64 seen;

static void fail(const char *what, uint64_t a, uint64_t b)
{
    printf("%s: %" PRIu64 ", %" PRIu64 "\n", what, a, b);
    exit(1);
}

/* ---- records ---- */

static uint64_t word_of(uint64_t producer, uint64_t n, uint64_t place)
{
    uint64_t x = producer * UINT64_C(0x9e3779b97f4a7c15) ^ n * UINT64_C(0xc2b2ae3d27d4eb4f) ^ place * UINT64_C(0x165667b19e3779f9);
    return (x ^ x >> 31) * UINT64_C(0xff51afd7ed558ccd);
}

static uint32_t cells_of(uint64_t producer, uint64_t n)
{
    uint64_t x = word_of(producer, n, 77) >> 20;
    return 1 + (uint32_t)(x % 50 == 0 ? x / 50 % CELLS : x / 50 % 6);
}

static void record_write(uint64_t position, uint64_t producer, uint64_t n, uint32_t cells)
{
    uint64_t *at = (uint64_t *)(void *)lrd_ring_at(&ring, position);
    at[0] = producer;
    at[1] = n;
    for (uint32_t i = 2; i < cells * 8; i++)
        at[i] = word_of(producer, n, i);
}

/* What the consumer is to see next of each. */
static uint64_t next[PRODUCERS];

static void record_check(uint64_t position, uint32_t cells)
{
    const uint64_t *at = (const uint64_t *)(const void *)lrd_ring_at(&ring, position);
    uint64_t producer = at[0], n = at[1];
    if (producer >= PRODUCERS)
        fail("a record of nobody", producer, position);
    if (n != next[producer])
        fail("out of order: record, expected", n, next[producer]);
    if (cells != cells_of(producer, n))
        fail("cells, expected", cells, cells_of(producer, n));
    for (uint32_t i = 2; i < cells * 8; i++)
        if (at[i] != word_of(producer, n, i))
            fail("a torn record, word", n, i);
    next[producer]++;
}

/* ---- a producer ---- */

static void *produce(void *arg)
{
    uint64_t producer = (uintptr_t)arg, n = 0, position;
    uint64_t state = lrd_clock_ns() ^ (producer + 1) << 40;
    while (lrd_load_relaxed(&board->stop) == 0) {
        uint32_t cells = cells_of(producer, n);
        if (!lrd_ring_claim(&ring, &board->words, &seen, cells, &position)) {
            lrd_fetch_add_relaxed(&board->full, 1);
            sched_yield();
            continue;
        }
        record_write(position, producer, n, cells);
        if (lrd_load_relaxed(&board->holding) == 1 && fixture_random(&state) % 64 == 0) {
            lrd_store_relaxed(&board->holding, 2);
            pause(); /* until we are killed */
        }
        lrd_ring_commit(&ring, position, cells, LRD_RECORD_SET);
        n++;
        lrd_store_relaxed(&board->committed[producer], n);
    }
    return NULL;
}

static void start(pthread_t thread[PRODUCERS])
{
    for (uintptr_t i = 0; i < PRODUCERS; i++)
        if (pthread_create(&thread[i], NULL, produce, (void *)i) != 0)
            abort();
}

/* ---- the consumer ---- */

static uint64_t head, taken;

/* True if there was one. */
static bool consume(void)
{
    uint32_t n = lrd_ring_next(&ring, head);
    if (n == 0)
        return false;
    record_check(head, n);
    taken++;
    head += n;
    lrd_store_release(&board->words.applied, head); /* pairs with the acquire in lrd_ring_claim() */
    return true;
}

static void consume_until(uint64_t end_ns)
{
    while (lrd_clock_ns() < end_ns)
        for (unsigned i = 0; i < 100; i++)
            if (!consume())
                sched_yield();
}

static void new_lane(void)
{
    int fd = lrd_lane_create(CELLS, 0, 0);
    if (fd < 0 || lrd_lane_map(fd, CELLS, 0, &ring) != 0)
        abort();
    close(fd);
    memset(board, 0, sizeof *board);
    memset(next, 0, sizeof next);
    lrd_store_relaxed(&seen, 0);
    head = 0;
}

#ifdef RACE_THREADS

int main(void)
{
    pthread_t thread[PRODUCERS];
    board = calloc(1, sizeof *board);
    new_lane();
    start(thread);
    consume_until(lrd_clock_ns() + (fixture_long() ? 60 : 5) * UINT64_C(1000000000));
    lrd_store_relaxed(&board->stop, 1);
    for (unsigned i = 0; i < PRODUCERS; i++)
        pthread_join(thread[i], NULL);
    while (consume()) {
    }
    if (head != lrd_ring_end(&ring, head))
        fail("records are left", head, lrd_ring_end(&ring, head));
    for (unsigned i = 0; i < PRODUCERS; i++)
        if (next[i] != lrd_load_relaxed(&board->committed[i]))
            fail("came out, went in", next[i], lrd_load_relaxed(&board->committed[i]));
    printf("%" PRIu64 " records, %" PRIu64 " laps, full %" PRIu64 " times\n", taken, head / CELLS, lrd_load_relaxed(&board->full));
    return head / CELLS < 100;
}

#else

static uint64_t skipped, rounds_with_a_hole, laps, full;

/* One client's life. hold: it dies while one of its threads has claimed and not committed. */
static void live_and_die(bool hold, uint64_t life_ns)
{
    new_lane();
    pid_t pid = fork();
    if (pid < 0)
        abort();
    if (pid == 0) {
        pthread_t thread[PRODUCERS];
        start(thread);
        for (;;)
            pause();
    }
    consume_until(lrd_clock_ns() + life_ns);
    if (hold) {
        lrd_store_relaxed(&board->holding, 1);
        while (lrd_load_relaxed(&board->holding) == 1)
            consume();
        consume_until(lrd_clock_ns() + life_ns / 4);
    }
    kill(pid, SIGKILL);
    if (waitpid(pid, NULL, 0) != pid)
        abort();

    uint64_t skipped_before = skipped, end = lrd_ring_end(&ring, head);
    while (head < end)
        if (!consume()) {
            head++;
            skipped++;
        }
    if (head != end)
        fail("drained, end", head, end);
    rounds_with_a_hole += skipped > skipped_before;
    for (unsigned i = 0; i < PRODUCERS; i++) {
        uint64_t noted = lrd_load_relaxed(&board->committed[i]);
        if (next[i] != noted && next[i] != noted + 1) /* it may die between commit and note */
            fail("came out, went in", next[i], noted);
    }
    laps += end / CELLS;
    full += lrd_load_relaxed(&board->full);
    lrd_lane_unmap(&ring);
}

int main(void)
{
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED)
        return 1;
    uint64_t state = 11;
    unsigned rounds = fixture_long() ? 5000 : 250;
    for (unsigned i = 0; i < rounds; i++)
        live_and_die(i % 2 == 1, 2000000 + fixture_random(&state) % 20000000);
    printf("%" PRIu64 " records, %" PRIu64 " laps, full %" PRIu64 " times; %u deaths, %" PRIu64 " with a hole, %" PRIu64 " cells skipped\n", taken, laps, full,
           rounds, rounds_with_a_hole, skipped);
    return rounds_with_a_hole < rounds / 2 || full == 0 || laps < rounds;
}

#endif
