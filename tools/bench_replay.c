/* Replays a request trace: get; on a miss, set.
 *
 * .ltr, little endian: "LTR1", u32 requests n, u32 objects m, u32 0; then u32 size[m] (bytes of key, value and 16 of header), u32 ttl_s[m] (0: none),
 * u32 object[n], u32 time_s[n], u8 op[n] (0 get, 1 set).
 *
 * Workers share the trace: each takes the next few requests when it has done its last ones, so that the order is kept up to these few. */
#include "tools/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/layout.h"

#define TAKE 32u
#define HEAD_BYTES 16u
#define AVERAGE_MAX (1u << 20) /* larderd takes no more */
#define FLUSH_MS 60000u
#define NAP_MAX_NS 500000000.0

struct bench_trace {
    uint32_t n_requests, n_objects;
    const uint32_t *size, *ttl_s, *object, *time_s;
    const uint8_t *op;
    uint64_t footprint; /* sum of all sizes */
    uint32_t largest;
    void *base;
    size_t bytes;
};

enum count { GETS, MISSES, BYTES, MISSED_BYTES, SETS, REFUSED, WRONG, N_COUNTS };
_Static_assert(N_COUNTS <= sizeof((struct bench_result *)0)->count / sizeof(uint64_t), "room for the counts");

/* ---- the file ---- */

static bool sound(const struct bench_trace *t)
{
    for (uint32_t i = 0; i < t->n_requests; i++)
        if (t->object[i] >= t->n_objects || t->op[i] > 1)
            return false;
    return true;
}

static bool cut(struct bench_trace *t)
{
    const uint32_t *word = t->base;
    if (t->bytes < HEAD_BYTES || memcmp(word, "LTR1", 4) != 0)
        return false;
    t->n_requests = word[1];
    t->n_objects = word[2];
    if (t->n_requests == 0 || t->bytes != HEAD_BYTES + UINT64_C(8) * t->n_objects + UINT64_C(9) * t->n_requests)
        return false;
    t->size = word + 4;
    t->ttl_s = t->size + t->n_objects;
    t->object = t->ttl_s + t->n_objects;
    t->time_s = t->object + t->n_requests;
    t->op = (const uint8_t *)(t->time_s + t->n_requests);
    for (uint32_t i = 0; i < t->n_objects; i++) {
        t->footprint += t->size[i];
        t->largest = t->size[i] > t->largest ? t->size[i] : t->largest;
    }
    return sound(t);
}

enum bench_status bench_trace_open(struct bench *b)
{
    struct stat st;
    struct bench_trace *t = bench_alloc(1, sizeof *t);
    int fd = open(b->o.file, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        free(t);
        return bench_error(BENCH_USAGE, "cannot read %s: %s", b->o.file, strerror(errno));
    }
    t->bytes = (size_t)st.st_size;
    t->base = mmap(NULL, t->bytes > 0 ? t->bytes : 1, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    close(fd);
    if (t->base == MAP_FAILED || !cut(t)) {
        if (t->base != MAP_FAILED)
            munmap(t->base, t->bytes > 0 ? t->bytes : 1);
        free(t);
        return bench_error(BENCH_USAGE, "%s is not an LTR1 trace", b->o.file);
    }
    b->trace = t;
    return BENCH_OK;
}

void bench_trace_close(struct bench *b)
{
    if (!b->trace)
        return;
    munmap(b->trace->base, b->trace->bytes);
    free(b->trace);
    b->trace = NULL;
}

void bench_trace_size(const struct bench *b, struct bench_daemon_size *size)
{
    const struct bench_trace *t = b->trace;
    uint64_t mean = t->footprint / t->n_objects;
    size->average_item = mean > HEAD_BYTES ? mean - HEAD_BYTES : 1;
    if (size->average_item > AVERAGE_MAX)
        size->average_item = AVERAGE_MAX;
    size->memory = (t->footprint + (uint64_t)t->n_objects * 16) / 10 * 11 + (UINT64_C(48) << 20);
}

/* ---- a request ---- */

static uint32_t value_bytes(const struct bench_trace *t, uint32_t object)
{
    return t->size[object] > HEAD_BYTES + BENCH_KEY ? t->size[object] - HEAD_BYTES - BENCH_KEY : 0;
}

static void set_object(struct bench_worker *w, const struct bench_key *key, uint32_t object, unsigned char *value)
{
    const struct bench_trace *t = w->b->trace;
    struct larder_set_options options = {.size = sizeof options};
    uint32_t bytes = value_bytes(t, object), ttl_s = t->ttl_s[object];
    if (ttl_s > 0) {
        double ttl_ms = ttl_s * 1000.0 / (w->b->o.speed > 0 ? w->b->o.speed : 1);
        options.ttl_ms = ttl_ms < 1 ? 1 : (int64_t)ttl_ms;
    }
    bench_value_fill(value, bytes, key->id, ++w->version);
    int r;
    do
        r = larder_set(w->target->ns, key->bytes, BENCH_KEY, value, bytes, &options, NULL);
    while (r == LARDER_BUSY);
    w->result->count[r == 0 ? SETS : REFUSED]++;
}

static void request(struct bench_worker *w, uint32_t i, unsigned char *value, size_t capacity)
{
    const struct bench_trace *t = w->b->trace;
    uint64_t *count = w->result->count;
    uint32_t object = t->object[i];
    struct bench_key key;
    size_t size = 0;
    bench_key_make(&key, object, w->keys.hash_seed);
    if (t->op[i] == 1) {
        set_object(w, &key, object, value);
        return;
    }
    count[GETS]++;
    count[BYTES] += t->size[object];
    if (larder_get(w->target->ns, key.bytes, BENCH_KEY, value, capacity, &size) == 0) {
        if (w->b->o.verify && (size != value_bytes(t, object) || !bench_value_good(value, size, object)))
            count[WRONG]++;
        return;
    }
    count[MISSES]++;
    count[MISSED_BYTES] += t->size[object];
    set_object(w, &key, object, value);
}

/* Sleeps until the trace's time has come. */
static void pace(const struct bench *b, uint32_t i)
{
    const struct bench_trace *t = b->trace;
    if (b->o.speed <= 0)
        return;
    double due_ns = ((double)t->time_s[i] - t->time_s[0]) * 1e9 / b->o.speed;
    for (;;) {
        double early_ns = due_ns - (double)(lrd_clock_ns() - lrd_load_relaxed(&b->shared->go_ns)); /* stored before go */
        if (early_ns <= 0)
            return;
        usleep((useconds_t)(early_ns < NAP_MAX_NS ? early_ns / 1000 : NAP_MAX_NS / 1000));
    }
}

static void work(struct bench_worker *w)
{
    const struct bench_trace *t = w->b->trace;
    size_t capacity = t->largest;
    unsigned char *value = bench_alloc(1, capacity + LRD_LINE);
    for (;;) {
        uint64_t first = lrd_fetch_add_relaxed(&w->b->shared->cursor, TAKE); /* only a number */
        if (first >= t->n_requests)
            break;
        pace(w->b, (uint32_t)first);
        for (uint64_t i = first; i < first + TAKE && i < t->n_requests; i++)
            request(w, (uint32_t)i, value, capacity);
    }
    if (larder_flush(w->target->larder, FLUSH_MS) != 0)
        w->result->status = bench_error(BENCH_FAILURE, "the daemon did not apply all sets");
    if (w->result->count[WRONG] > 0)
        w->result->status = bench_error(BENCH_WRONG, "a get returned something that was not set");
    free(value);
}

/* ---- the mode ---- */

static void say(const struct bench *b, const struct bench_result *results, unsigned n)
{
    const struct bench_trace *t = b->trace;
    double count[N_COUNTS] = {0}, wall_s = 0;
    for (unsigned i = 0; i < n; i++) {
        for (unsigned j = 0; j < N_COUNTS; j++)
            count[j] += (double)results[i].count[j];
        wall_s = results[i].wall_s > wall_s ? results[i].wall_s : wall_s;
    }
    bench_figure(b->report, "replay: requests", t->n_requests, "");
    bench_figure(b->report, "replay: objects", t->n_objects, "");
    bench_figure(b->report, "replay: footprint", (double)t->footprint / 1e6, "MB");
    bench_figure(b->report, "replay: speed", t->n_requests / wall_s / 1e6, "M/s");
    bench_figure(b->report, "replay: miss ratio", count[GETS] > 0 ? count[MISSES] / count[GETS] : 0, "");
    bench_figure(b->report, "replay: byte miss ratio", count[BYTES] > 0 ? count[MISSED_BYTES] / count[BYTES] : 0, "");
    bench_figure(b->report, "replay: sets", count[SETS], "");
    bench_figure(b->report, "replay: sets refused", count[REFUSED], "");
}

static enum bench_status say_segment(const struct bench *b)
{
    struct bench_target t;
    enum bench_status status = bench_target_open(&t, b);
    if (status != BENCH_OK)
        return status;
    double arena = (double)((uint64_t)t.r.n_blocks << t.r.block_shift);
    bench_figure(b->report, "replay: arena / footprint", arena / (double)b->trace->footprint, "");
    bench_figure(b->report, "replay: items replaced for want of a slot", (double)bench_counter(&t, LRD_C_no_room), "");
    bench_target_close(&t);
    return BENCH_OK;
}

enum bench_status bench_replay(struct bench *b)
{
    struct bench_result *results;
    unsigned n = b->o.processes * b->o.threads;
    lrd_store_relaxed(&b->shared->cursor, 0); /* nobody else runs yet */
    enum bench_status status = bench_crew_run(b, b->o.processes, b->o.threads, b->trace->n_objects, work, &results);
    if (status == BENCH_OK) {
        say(b, results, n);
        status = say_segment(b);
    }
    bench_crew_free(results, n);
    return status;
}
