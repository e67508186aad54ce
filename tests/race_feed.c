/* Readers of a feed against a writer at full speed, on a ring so small that they are overtaken all the time. An entry certifies itself: each of its words is made from its number. Whatever a reader gets is
 * whole and the one that is next; what it does not get it counts, and both together are all that were written. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/clock.h"
#include "shm/feed.h"
#include "tests/segment_fixture.h"

#define READERS 3u
#define RUN_MS 1500u

struct board {
    lrd_u64 stop;
    lrd_u64 got[READERS], missed[READERS], overtaken[READERS], torn[READERS];
};

static struct board *board;
static struct fixture f;

static uint64_t word(uint64_t i, uint64_t k) { return (i + 1) * UINT64_C(0x9e3779b97f4a7c15) * (2 * k + 1); }

static bool is_whole(const struct lrd_happened *h, uint64_t i)
{
    bool whole = h->hash == word(i, 0) && h->version == word(i, 1) && h->when_ms == word(i, 2);
    for (unsigned k = 0; k < LRD_FEED_KEY / 8; k++)
        whole = whole && h->key[k] == word(i, 3 + k);
    return whole && lrd_feed_key_len(h->what) == LRD_FEED_KEY;
}

static void read_all(unsigned me)
{
    uint32_t entries;
    const struct lrd_feed *feed = lrd_feed_of(&f.reader, 0, &entries);
    uint64_t next = 0;
    struct lrd_happened h;
    for (;;) {
        bool last = lrd_load_acquire(&board->stop) != 0;
        enum lrd_feed_look look = lrd_feed_read(feed, entries, next, &h);
        if (look == LRD_FEED_GOT) {
            lrd_add_own(&board->torn[me], !is_whole(&h, next));
            lrd_add_own(&board->got[me], 1);
            next++;
        } else if (look == LRD_FEED_OVERTAKEN) {
            /* Not to the end, as liblarder does, but among the entries that are about to go. */
            uint64_t to = lrd_feed_end(feed);
            to = to > entries ? to - entries : 0;
            to = to > next ? to : next + 1;
            lrd_add_own(&board->missed[me], to - next);
            lrd_add_own(&board->overtaken[me], 1);
            next = to;
        } else if (last)
            return;
    }
}

int main(void)
{
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    fixture_make_sealed(&f, 64, 8, 16);
    lrd_store_relaxed(&f.store.namespaces[0].feed, lrd_feed_make(64, 0));
    for (unsigned i = 0; i < READERS; i++)
        if (fork() == 0) {
            read_all(i);
            _exit(0);
        }
    uint64_t n = 0, end = lrd_clock_ns() + RUN_MS * (fixture_long() ? 20 : 1) * UINT64_C(1000000);
    while (lrd_clock_ns() < end)
        for (unsigned burst = 0; burst < 200; burst++, n++) {
            uint64_t key[LRD_FEED_KEY / 8];
            for (unsigned k = 0; k < LRD_FEED_KEY / 8; k++)
                key[k] = word(n, 3 + k);
            lrd_feed_note_now(&f.store, &(struct lrd_note){.event = LRD_EVENT_SET, .hash = word(n, 0), .version = word(n, 1), .now_ms = word(n, 2), .key = key, .key_len = sizeof key});
            if (n % 64 == 0 && n % 4096 < 2048)
                usleep(1); /* at times a reader keeps up */
        }
    lrd_store_release(&board->stop, 1);
    int status, failed = 0;
    while (wait(&status) > 0)
        failed |= status;
    for (unsigned i = 0; i < READERS; i++) {
        uint64_t got = lrd_load_relaxed(&board->got[i]), missed = lrd_load_relaxed(&board->missed[i]), torn = lrd_load_relaxed(&board->torn[i]);
        printf("reader %u: %" PRIu64 " of %" PRIu64 " entries, %" PRIu64 " missed, overtaken %" PRIu64 " times, %" PRIu64 " torn\n", i, got, n, missed, lrd_load_relaxed(&board->overtaken[i]), torn);
        failed |= torn != 0 || got + missed != n || got == 0 || missed == 0;
    }
    return failed != 0;
}
