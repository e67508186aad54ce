/* A client for tests/system/client.bats: an ordinary program that looks closely at what it gets.
 *
 *   client_story write SOCKET THREADS SECONDS    threads that write keys of their own, read them back, and watch those of the others; prints what must be there at the end
 *   client_story verify SOCKET                   reads that from standard input and looks for it
 *   client_story watch SOCKET SECONDS            sets and gets every 5 ms, prints each change of the results
 *   client_story read SOCKET SECONDS SILENCE     gets only, with max_silence_ms; prints each change
 *   client_story fork SOCKET CHILDREN            forks beside writing threads; each child writes, reads and ends
 *   client_story kinds SOCKET                    leaves a note of absence under "none", an aligned value with a soft time to live under "soft", and holds the lease of "loading" until it is killed
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "libclient/larder.h"
#include "shm/atomic.h"
#include "shm/clock.h"

#define KEYS 32u       /* of each thread */
#define THREADS_MAX 16u
#define VALUE_MAX 3000u

static const char *prefix = "story"; /* of keys that are watched */
static struct larder *handle;
static struct larder_ns *ns;
static unsigned n_threads;
static lrd_u64 end_ns;
static lrd_u64 wrong, busy, writes, reads;
static lrd_u64 written[THREADS_MAX][KEYS]; /* sequence of the last write that was acknowledged; by its thread */

#define say_wrong(...) (lrd_fetch_add_relaxed(&wrong, 1) < 20 ? (void)fprintf(stderr, __VA_ARGS__) : (void)0)

static void pause_ms(unsigned ms)
{
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

static void open_or_die(const char *socket, uint32_t max_silence_ms)
{
    struct larder_options options = {.size = sizeof options, .socket = socket, .open_timeout_ms = 5000, .max_silence_ms = max_silence_ms};
    int r = larder_open(&handle, &options);
    if (r != 0) {
        fprintf(stderr, "open: %s\n", larder_strerror(r));
        exit(2);
    }
    ns = larder_default(handle);
}

/* ---- values that tell what they are: key and sequence, then bytes that follow from the sequence ---- */

struct head {
    uint32_t thread, key;
    uint64_t sequence;
};

static size_t value_size(uint64_t sequence) { return sizeof(struct head) + sequence * 7919 % (VALUE_MAX - sizeof(struct head)); }

static size_t value_make(unsigned char *value, uint32_t thread, uint32_t key, uint64_t sequence)
{
    struct head h = {thread, key, sequence};
    size_t size = value_size(sequence);
    memcpy(value, &h, sizeof h);
    memset(value + sizeof h, (int)(sequence % 251), size - sizeof h);
    return size;
}

/* The sequence in it; UINT64_MAX: it is no value of this key. */
static uint64_t value_check(const unsigned char *value, size_t size, uint32_t thread, uint32_t key)
{
    struct head h;
    if (size < sizeof h)
        return UINT64_MAX;
    memcpy(&h, value, sizeof h);
    if (h.thread != thread || h.key != key || size != value_size(h.sequence))
        return UINT64_MAX;
    for (size_t i = sizeof h; i < size; i++)
        if (value[i] != h.sequence % 251)
            return UINT64_MAX;
    return h.sequence;
}

/* 0: not there. */
static uint64_t read_sequence(uint32_t thread, uint32_t key)
{
    char name[32];
    unsigned char value[VALUE_MAX];
    size_t size = 0;
    int n = snprintf(name, sizeof name, "%s.%u.%u", prefix, thread, key);
    int r = larder_get(ns, name, (size_t)n, value, sizeof value, &size);
    lrd_fetch_add_relaxed(&reads, 1);
    if (r == LARDER_MISS)
        return 0;
    if (r != 0) {
        say_wrong("get %s: %s\n", name, larder_strerror(r));
        return 0;
    }
    uint64_t sequence = value_check(value, size, thread, key);
    if (sequence == UINT64_MAX)
        say_wrong("get %s: a torn or foreign value\n", name);
    return sequence;
}

/* Until it is acknowledged. */
static void write_sequence(uint32_t thread, uint32_t key, uint64_t sequence)
{
    char name[32];
    unsigned char value[VALUE_MAX];
    int n = snprintf(name, sizeof name, "%s.%u.%u", prefix, thread, key), r;
    size_t size = value_make(value, thread, key, sequence);
    while ((r = larder_set(ns, name, (size_t)n, value, size, NULL, NULL)) == LARDER_BUSY)
        lrd_fetch_add_relaxed(&busy, 1);
    if (r != 0)
        say_wrong("set %s: %s\n", name, larder_strerror(r));
    lrd_fetch_add_relaxed(&writes, 1);
}

static void *write_and_watch(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    uint64_t seen[THREADS_MAX][KEYS] = {0}, sequence = 0;
    uint32_t seed = me + 1;
    while (lrd_clock_ns() < lrd_load_relaxed(&end_ns)) {
        for (unsigned i = 0; i < 64; i++) {
            seed = seed * 1664525 + 1013904223;
            uint32_t key = (seed >> 16) % KEYS, other = (seed >> 8) % n_threads;
            write_sequence(me, key, ++sequence);
            /* For the others: they must see at least this from now on. Pairs with the acquire below. */
            lrd_store_release(&written[me][key], sequence);
            uint64_t back = read_sequence(me, key);
            if (back != sequence)
                say_wrong("own key %u.%u: wrote %llu, read %llu\n", me, key, (unsigned long long)sequence, (unsigned long long)back);
            uint64_t least = lrd_load_acquire(&written[other][key]);
            uint64_t now = read_sequence(other, key);
            if (now < least || now < seen[other][key])
                say_wrong("key %u.%u of another thread: %llu after %llu\n", other, key, (unsigned long long)now,
                          (unsigned long long)(least > seen[other][key] ? least : seen[other][key]));
            seen[other][key] = now;
        }
    }
    return NULL;
}

static int end(void)
{
    fprintf(stderr, "%llu writes, %llu reads, %llu times busy, %llu wrong\n", (unsigned long long)lrd_load_relaxed(&writes),
            (unsigned long long)lrd_load_relaxed(&reads), (unsigned long long)lrd_load_relaxed(&busy), (unsigned long long)lrd_load_relaxed(&wrong));
    larder_close(handle);
    return lrd_load_relaxed(&wrong) == 0 ? 0 : 1;
}

/* What an earlier story left would be taken for the future of this one. */
static void forget_keys(void)
{
    for (uint32_t t = 0; t < n_threads; t++)
        for (uint32_t k = 0; k < KEYS; k++) {
            char name[32];
            int n = snprintf(name, sizeof name, "%s.%u.%u", prefix, t, k);
            if (larder_delete(ns, name, (size_t)n, NULL) != 0)
                exit(2);
        }
}

static void start_threads(pthread_t *thread, unsigned n, double seconds)
{
    n_threads = n < THREADS_MAX ? n : THREADS_MAX;
    forget_keys();
    lrd_store_relaxed(&end_ns, lrd_clock_ns() + (uint64_t)(seconds * 1e9));
    for (uintptr_t i = 0; i < n_threads; i++)
        if (pthread_create(&thread[i], NULL, write_and_watch, (void *)i) != 0)
            exit(2);
}

static int story_write(unsigned n, double seconds)
{
    pthread_t thread[THREADS_MAX];
    start_threads(thread, n, seconds);
    for (unsigned i = 0; i < n_threads; i++)
        pthread_join(thread[i], NULL);
    int r = larder_flush(handle, 10000);
    if (r != 0)
        say_wrong("flush: %s\n", larder_strerror(r));
    for (uint32_t t = 0; t < n_threads; t++)
        for (uint32_t k = 0; k < KEYS; k++)
            printf("%u %u %llu\n", t, k, (unsigned long long)lrd_load_relaxed(&written[t][k]));
    return end();
}

static int story_verify(void)
{
    unsigned t, k, n = 0;
    unsigned long long sequence;
    for (; scanf("%u %u %llu", &t, &k, &sequence) == 3; n++) {
        uint64_t found = read_sequence(t, k);
        if (found != sequence)
            say_wrong("key %u.%u: %llu, should be %llu\n", t, k, (unsigned long long)found, sequence);
    }
    if (n == 0)
        say_wrong("nothing to verify\n");
    return end();
}

/* Prints a result when it is another than the last time. */
static void report(const char *what, int result, int *last)
{
    if (result != *last) {
        printf("%s: %s\n", what, larder_strerror(result));
        fflush(stdout);
    }
    *last = result;
}

static int story_watch(double seconds)
{
    int last_set = -1, last_get = -1, last_wait = -1;
    uint64_t until = lrd_clock_ns() + (uint64_t)(seconds * 1e9);
    while (lrd_clock_ns() < until) {
        char buffer[8];
        larder_ticket ticket;
        int r = larder_set(ns, "watched", 7, "x", 1, NULL, &ticket);
        report("set", r, &last_set);
        if (r == 0)
            report("wait", larder_wait(handle, ticket, 2000), &last_wait);
        report("get", larder_get(ns, "watched", 7, buffer, sizeof buffer, NULL), &last_get);
        pause_ms(5);
    }
    larder_close(handle);
    return 0;
}

static int story_read(double seconds)
{
    int last = -1;
    uint64_t until = lrd_clock_ns() + (uint64_t)(seconds * 1e9);
    while (lrd_clock_ns() < until) {
        char buffer[8];
        report("get", larder_get(ns, "watched", 7, buffer, sizeof buffer, NULL), &last);
        pause_ms(5);
    }
    larder_close(handle);
    return 0;
}

/* In the child: what every process sees, and what it writes itself. */
static int child(unsigned i)
{
    char name[32], buffer[32];
    size_t size = 0;
    int n = snprintf(name, sizeof name, "child.%u", i);
    if (larder_get(ns, "before", 6, buffer, sizeof buffer, &size) != 0 || size != 4)
        return 3;
    if (larder_set(ns, name, (size_t)n, name, (size_t)n, NULL, NULL) != 0)
        return 4;
    if (larder_get(ns, name, (size_t)n, buffer, sizeof buffer, &size) != 0 || size != (size_t)n || memcmp(buffer, name, size) != 0)
        return 5;
    if (i % 2 == 0) {
        if (larder_flush(handle, 5000) != 0)
            return 6;
        larder_close(handle);
    } /* else it ends without a word: what it wrote is applied all the same */
    return 0;
}

static int story_fork(unsigned n)
{
    if (larder_set(ns, "before", 6, "fork", 4, NULL, NULL) != 0 || larder_flush(handle, 5000) != 0)
        return 2;
    prefix = "fork"; /* another story may have been told to this daemon */
    pthread_t thread[2];
    start_threads(thread, 2, 60);
    for (unsigned i = 0; i < n; i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(child(i));
        int status = -1;
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
            say_wrong("child %u: status %x\n", i, (unsigned)status);
    }
    lrd_store_relaxed(&end_ns, 0);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    for (unsigned i = 0; i < n; i++) {
        char name[32], buffer[32];
        int len = snprintf(name, sizeof name, "child.%u", i), r = LARDER_MISS;
        /* A child's lane is drained after its end. */
        for (unsigned k = 0; k < 1000 && r == LARDER_MISS; k++) {
            r = larder_get(ns, name, (size_t)len, buffer, sizeof buffer, NULL);
            if (r == LARDER_MISS)
                pause_ms(5);
        }
        if (r != 0)
            say_wrong("%s: %s\n", name, larder_strerror(r));
    }
    return end();
}

static int story_kinds(void)
{
    const struct larder_set_options absent = {.size = sizeof absent, .ttl_ms = 60000, .how = LARDER_SET_WAIT};
    const struct larder_set_options soft = {.size = sizeof soft, .ttl_ms = 60000, .soft_ttl_ms = 30000, .how = LARDER_SET_WAIT | LARDER_SET_ALIGNED};
    struct larder_item item = {.size = sizeof item};
    uint64_t token;
    if (larder_set_absent(ns, "none", 4, &absent, NULL) != 0 || larder_set(ns, "soft", 4, "v", 1, &soft, NULL) != 0 ||
        larder_get_or_lease(ns, "loading", 7, &item, NULL, &token) != LARDER_LEASE)
        return 1;
    pause();
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 64;
    const char *verb = argv[1];
    double third = argc > 3 ? atof(argv[3]) : 0, fourth = argc > 4 ? atof(argv[4]) : 0;
    open_or_die(argv[2], strcmp(verb, "read") == 0 ? (uint32_t)fourth : 0);
    if (strcmp(verb, "write") == 0)
        return story_write((unsigned)third, fourth);
    if (strcmp(verb, "verify") == 0)
        return story_verify();
    if (strcmp(verb, "watch") == 0)
        return story_watch(third);
    if (strcmp(verb, "read") == 0)
        return story_read(third);
    if (strcmp(verb, "fork") == 0)
        return story_fork((unsigned)third);
    if (strcmp(verb, "kinds") == 0)
        return story_kinds();
    return 64;
}
