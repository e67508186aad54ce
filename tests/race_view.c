/* Views while the arena turns over and namespaces are reset: processes with threads that hold several views each, look at them again and again, and end them sooner or later; others
 * that overwrite and reset all the time, on a segment of few small blocks, with a worker that is killed now and then. A view that ended well has never shown a byte that was not its
 * value's; a value that looks wrong must be followed by an end that says so. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libclient/larder.h"
#include "shm/clock.h"
#include "tests/certified.h"
#include "tests/daemon_fixture.h"
#include "tests/segment_fixture.h"

#define PROCESSES 2u
#define THREADS 2u
#define VIEWERS (PROCESSES * THREADS)
#define VIEWS 12u /* of a thread at once */
#define KEYS 400u /* more than there is room for */
#define VALUE_MAX 2000u
#define RUN_MS 5000u
#define VIEW_MS 20u

struct tally {
    lrd_u64 views, misses, good, revoked, seen_changed, held, wrong;
    lrd_u64 pad[1];
};

struct board {
    lrd_u64 stop;
    struct tally tally[VIEWERS];
};

static struct board *board;
static struct daemon_fixture d;
static struct larder *handle;
static struct larder_ns *ns[2];

static size_t size_of(uint64_t key, uint64_t version) { return 16 + 8 * (size_t)(certified_word(key, version, 5) % (VALUE_MAX / 8 - 2)); }

static size_t make_value(uint64_t *value, uint64_t key, uint64_t version)
{
    size_t bytes = size_of(key, version);
    value[0] = key;
    value[1] = version;
    for (size_t i = 2; i < bytes / 8; i++)
        value[i] = certified_word(key, version, i);
    return bytes;
}

/* The bytes may change under this: each is loaded once. */
static bool is_whole(const unsigned char *data, size_t bytes, uint64_t key)
{
    uint64_t head[2], word;
    if (bytes < 16 || bytes % 8 != 0)
        return false;
    lrd_racy_copy(head, data, sizeof head);
    if (head[0] != key || bytes != size_of(key, head[1]))
        return false;
    for (size_t i = 2; i < bytes / 8; i++) {
        lrd_racy_copy(&word, data + i * 8, sizeof word);
        if (word != certified_word(key, head[1], i))
            return false;
    }
    return true;
}

struct held {
    struct larder_view view;
    uint64_t key;
    uint64_t end_ns;
    bool open, changed;
};

static void open_one(struct tally *t, struct held *v, uint64_t x)
{
    v->key = x % KEYS;
    v->changed = false;
    v->view = (struct larder_view){.size = sizeof v->view};
    int r = larder_view(ns[x >> 20 & 1], &v->key, sizeof v->key, &v->view);
    v->open = r == 0;
    lrd_add_own(r == 0 ? &t->views : &t->misses, 1);
    /* Most are short, some are held for longer than they may be. */
    v->end_ns = (x >> 30) % 4 == 0 ? lrd_clock_ns() + (x >> 32) % (2 * VIEW_MS) * UINT64_C(1000000) : 0;
    if (r != 0 && r != LARDER_MISS) {
        printf("view: %s\n", larder_strerror(r));
        lrd_add_own(&t->wrong, 1);
    }
}

static void look(struct held *v) { v->changed |= !is_whole(v->view.data, v->view.value_size, v->key); }

static void end_one(struct tally *t, struct held *v)
{
    look(v);
    int r = larder_view_end(&v->view);
    v->open = false;
    lrd_add_own(&t->held, v->end_ns != 0);
    if (r == 0) {
        lrd_add_own(&t->good, 1);
        if (v->changed) {
            lrd_add_own(&t->wrong, 1);
            printf("a view of key %" PRIu64 " ended well, and had changed\n", v->key);
        }
    } else if (r == LARDER_REVOKED) {
        lrd_add_own(&t->revoked, 1);
        lrd_add_own(&t->seen_changed, v->changed);
    } else {
        lrd_add_own(&t->wrong, 1);
        printf("view_end: %d\n", r);
    }
    fflush(stdout);
}

static void *work(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    uint64_t state = 200 + me, value[VALUE_MAX / 8];
    struct held held[VIEWS] = {0};
    struct tally *t = &board->tally[me];
    for (uint64_t n = 1; lrd_load_relaxed(&board->stop) == 0; n++) {
        uint64_t x = fixture_random(&state), key = (x >> 8) % KEYS;
        struct held *v = &held[x % VIEWS];
        if (!v->open)
            open_one(t, v, fixture_random(&state));
        else if (v->end_ns <= lrd_clock_ns())
            end_one(t, v);
        else
            look(v);
        (void)larder_set(ns[x >> 40 & 1], &key, sizeof key, value, make_value(value, key, n * VIEWERS + me), NULL, NULL);
        if ((x >> 41) % 2048 == 0 && larder_ns_reset(ns[x >> 52 & 1]) < 0)
            lrd_add_own(&t->wrong, 1);
    }
    for (unsigned i = 0; i < VIEWS; i++)
        if (held[i].open)
            end_one(t, &held[i]);
    return NULL;
}

static void be_a_process(uint32_t idx)
{
    pthread_t thread[THREADS];
    struct larder_options o = {.size = sizeof o, .socket = d.socket, .busy_timeout_ms = 10000};
    int r = larder_open(&handle, &o);
    if (r == 0)
        r = larder_ns_create(handle, "other", NULL, &ns[1]);
    if (r != 0) {
        printf("open: %s\n", larder_strerror(r));
        exit(1);
    }
    ns[0] = larder_default(handle);
    for (uint32_t i = 0; i < THREADS; i++)
        if (pthread_create(&thread[i], NULL, work, (void *)(uintptr_t)(idx * THREADS + i)) != 0)
            abort();
    for (uint32_t i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    larder_close(handle);
    exit(0);
}

#define TOTAL(field) total(offsetof(struct tally, field))
static uint64_t total(size_t field)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < VIEWERS; i++)
        n += lrd_load_relaxed((const lrd_u64 *)(const void *)((const char *)&board->tally[i] + field));
    return n;
}

int main(void)
{
    static const char *const options[] = {"--memory", "8M", "--block-size", "8K", "--blocks", "24", "--average-item", "1000", "--ring", "64K", "--max-clients", "8",
                                          "--view-ms", "20", NULL};
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED)
        return 1;
    daemon_start(&d, NULL, options);
    pid_t pid[PROCESSES];
    for (uint32_t i = 0; i < PROCESSES; i++)
        if ((pid[i] = fork()) == 0)
            be_a_process(i);
    uint64_t end = lrd_clock_ns() + RUN_MS * UINT64_C(1000000) * (fixture_long() ? 60 : 1);
    uint64_t kills = 0;
    for (unsigned n = 1; lrd_clock_ns() < end && TOTAL(wrong) == 0; n++) {
        pause_us(10000);
        if (n % 32 == 0) {
            daemon_kill_worker(&d);
            kills++;
        }
    }
    lrd_store_relaxed(&board->stop, 1);
    bool bad = false;
    for (uint32_t i = 0; i < PROCESSES; i++) {
        int status;
        bad |= waitpid(pid[i], &status, 0) != pid[i] || status != 0;
    }
    uint64_t pinned = fixture_counter(&d.r, LRD_C_pinned), revoked = fixture_counter(&d.r, LRD_C_revoked);
    printf("%" PRIu64 " views, %" PRIu64 " misses: %" PRIu64 " ended well, %" PRIu64 " revoked, of which %" PRIu64 " showed other bytes; %" PRIu64 " held; %" PRIu64
           " blocks freed, %" PRIu64 " times passed over, %" PRIu64 " revoked; %" PRIu64 " workers\n",
           TOTAL(views), TOTAL(misses), TOTAL(good), TOTAL(revoked), TOTAL(seen_changed), TOTAL(held), fixture_counter(&d.r, LRD_C_blocks_freed), pinned, revoked,
           daemon_workers(&d));
    /* Else nothing was tried. */
    bad |= TOTAL(good) == 0 || TOTAL(seen_changed) == 0 || pinned == 0;
    bad |= TOTAL(wrong) > 0 || TOTAL(good) + TOTAL(revoked) != TOTAL(views);
    bad |= daemon_workers(&d) != 1 + kills; /* one died by itself */
    bad |= !daemon_check(&d);
    bad |= fixture_recount(&d.r) != 0;
    daemon_stop(&d);
    return bad;
}
