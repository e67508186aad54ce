/* Hunt: messages that are worthless after some milliseconds, in a namespace of 128 MiB that the daemon resets by the clock.
 *
 * A message is set once, under a number of its own. It carries the namespace's epoch as its writer saw it before the set. A reader loads the epoch, then gets one of the last messages: a
 * hit with an older epoch was there before a reset that had completed before the get began, and must not have been found.
 *
 * Unless the reset came between the writer's look and its set: the set came after it, and only its note is old. So a writer looks again afterwards, and if the epoch
 * has changed, writes the message into a list. What a reader suspects is looked up there when all is over. */
#include "tools/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NAME "hunt"
#define BYTES (UINT64_C(128) << 20) /* of the namespace; half of --memory if that is less */
#define RESET_MS 16u
#define SMALLEST 64.0
#define LARGEST 8192u
#define SIZES 4096u      /* a table of them, evenly distributed in their logarithms */
#define MESSAGES_A_SECOND 500e3
#define TAKE 32u         /* numbers of messages that a writer takes at a time */
#define RECENT 2048u     /* messages among which a reader chooses */
#define BURST 64u        /* gets between two naps */
#define NAP_US 400u
#define FLUSH_MS 60000u
#define COPY_S 0.3
#define LISTED 65536u

enum count { SETS, SET_BYTES, FAILED, GETS, HITS, WRONG, COPIED_BYTES, COPY_NS };

struct doubt {
    uint64_t id;
    uint32_t epoch; /* of a writer: after the set; of a reader: before the get */
    uint32_t pad;
};

/* Shared by all processes. */
struct notes {
    lrd_u64 n_between, n_suspects; /* ever; entries are kept as long as there is room */
    struct doubt between[LISTED];
    struct doubt suspect[LISTED];
    uint16_t sizes[SIZES];
};

static struct notes *notes;

void bench_hunt_size(const struct bench *b, struct bench_daemon_size *size)
{
    (void)b;
    size->average_item = 1024;
    size->memory = BYTES + (UINT64_C(96) << 20);
}

static uint64_t hunt_bytes(const struct bench *b) { return b->o.memory > 0 && b->o.memory / 2 < BYTES ? b->o.memory / 2 : BYTES; }

/* ---- messages: number and epoch at the beginning, the same mixed at the end ---- */

static size_t message_bytes(uint64_t id) { return notes->sizes[bench_mix(id) % SIZES]; }

static void message_fill(unsigned char *value, size_t bytes, uint64_t id, uint32_t epoch)
{
    uint64_t words[2] = {id, epoch}, last = bench_mix(id ^ (uint64_t)epoch << 40);
    memcpy(value, words, sizeof words);
    memcpy(value + bytes - sizeof last, &last, sizeof last);
}

static bool message_good(const unsigned char *value, size_t bytes, uint64_t id, uint32_t *epoch)
{
    uint64_t words[2], last;
    if (bytes != message_bytes(id))
        return false;
    memcpy(words, value, sizeof words);
    memcpy(&last, value + bytes - sizeof last, sizeof last);
    *epoch = (uint32_t)words[1];
    return words[0] == id && words[1] <= UINT32_MAX && last == bench_mix(id ^ words[1] << 40);
}

static void make_sizes(void)
{
    for (unsigned i = 0; i < SIZES; i++)
        notes->sizes[i] = (uint16_t)(SMALLEST * exp(log(LARGEST / SMALLEST) * i / (SIZES - 1)));
}

static void note(lrd_u64 *n, struct doubt *list, uint64_t id, uint32_t epoch)
{
    uint64_t i = lrd_fetch_add_relaxed(n, 1); /* looked at when all processes have ended */
    if (i < LISTED)
        list[i] = (struct doubt){.id = id, .epoch = epoch};
}

/* ---- what copying alone costs ---- */

/* The same sizes into as much memory, one after the other. */
static void copy_plain(struct bench_worker *w, const unsigned char *from)
{
    unsigned char *to = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (to == MAP_FAILED)
        return;
    double seconds = w->b->o.seconds < 4 * COPY_S ? w->b->o.seconds / 4 : COPY_S;
    uint64_t begin_ns = lrd_clock_ns(), off = 0, bytes = 0, ns;
    do {
        for (uint64_t i = 0; i < 256; i++) {
            size_t size = message_bytes(bytes + i);
            off = off + size > BYTES ? 0 : off;
            memcpy(to + off, from, size);
            off += size;
            bytes += size;
        }
        __asm__ __volatile__("" : : "r"(to) : "memory");
        ns = lrd_clock_ns() - begin_ns;
    } while ((double)ns < seconds * 1e9);
    w->result->count[COPIED_BYTES] = bytes;
    w->result->count[COPY_NS] = ns;
    munmap(to, BYTES);
}

/* ---- writers ---- */

static void send_message(struct bench_worker *w, const struct bench_target *t, const lrd_u32 *epoch_word, unsigned char *value, uint64_t id)
{
    struct bench_key key;
    size_t bytes = message_bytes(id);
    uint32_t epoch = lrd_load32_acquire(epoch_word); /* pairs with the reset's release */
    int r;
    bench_key_make(&key, id, w->keys.hash_seed);
    message_fill(value, bytes, id, epoch);
    do
        r = larder_set(t->ns, key.bytes, BENCH_KEY, value, bytes, NULL, NULL);
    while (r == LARDER_BUSY);
    uint32_t after = lrd_load32_acquire(epoch_word); /* the same */
    if (after != epoch)
        note(&notes->n_between, notes->between, id, after);
    w->result->count[r == 0 ? SETS : FAILED]++;
    w->result->count[SET_BYTES] += r == 0 ? bytes : 0;
}

static void write_messages(struct bench_worker *w, const struct bench_target *t, const lrd_u32 *epoch_word, double rate)
{
    unsigned char *value = bench_alloc(1, LARGEST);
    copy_plain(w, value);
    uint64_t begin_ns = lrd_clock_ns(), end_ns = begin_ns + (uint64_t)(w->b->o.seconds * 1e9), now_ns;
    while ((now_ns = lrd_clock_ns()) < end_ns) {
        if (rate > 0 && (double)w->result->count[SETS] > (double)(now_ns - begin_ns) / 1e9 * rate) {
            lrd_pause();
            continue;
        }
        uint64_t first = lrd_fetch_add_relaxed(&w->b->shared->cursor, TAKE); /* only a number */
        for (uint64_t id = first; id < first + TAKE; id++)
            send_message(w, t, epoch_word, value, id);
    }
    if (larder_flush(t->larder, FLUSH_MS) != 0)
        w->result->status = bench_error(BENCH_FAILURE, "the daemon did not apply all sets");
    lrd_store32_relaxed(&w->b->shared->stop, 1); /* the reader sees it some gets later */
    free(value);
}

/* ---- the reader ---- */

static void get_one(struct bench_worker *w, const struct bench_target *t, const lrd_u32 *epoch_word, unsigned char *value)
{
    uint64_t *count = w->result->count, next = lrd_load_relaxed(&w->b->shared->cursor); /* about */
    struct bench_key key;
    size_t size = 0;
    uint32_t carried = 0;
    if (next < RECENT)
        return;
    uint64_t id = next - 1 - bench_keys_draw(&w->keys) % RECENT;
    bench_key_make(&key, id, w->keys.hash_seed);
    uint32_t epoch = lrd_load32_acquire(epoch_word); /* pairs with the reset's release: what is older must be missed */
    count[GETS]++;
    if (larder_get(t->ns, key.bytes, BENCH_KEY, value, LARGEST, &size) != 0)
        return;
    count[HITS]++;
    if (!message_good(value, size, id, &carried))
        count[WRONG]++;
    else if ((int32_t)(carried - epoch) < 0)
        note(&notes->n_suspects, notes->suspect, id, epoch);
}

static void read_messages(struct bench_worker *w, const struct bench_target *t, const lrd_u32 *epoch_word)
{
    unsigned char *value = bench_alloc(1, LARGEST + LRD_LINE);
    while (!lrd_load32_relaxed(&w->b->shared->stop)) {
        for (unsigned i = 0; i < BURST; i++)
            get_one(w, t, epoch_word, value);
        usleep(NAP_US);
    }
    free(value);
}

static enum bench_status open_hunt(const struct bench *b, struct bench_target *t, uint32_t *number)
{
    uint64_t bytes = hunt_bytes(b);
    const struct larder_ns_options options = {.size = sizeof options, .policy = LARDER_FIFO, .min_bytes = bytes, .max_bytes = bytes, .reset_every_ms = RESET_MS};
    return bench_target_namespace(t, NAME, &options, number);
}

static void work(struct bench_worker *w)
{
    struct bench_target t = *w->target;
    uint32_t number;
    double rate = w->b->o.rate < 0 ? MESSAGES_A_SECOND : w->b->o.rate;
    w->result->status = open_hunt(w->b, &t, &number);
    if (w->result->status != BENCH_OK) {
        lrd_store32_relaxed(&w->b->shared->stop, 1);
        return;
    }
    const lrd_u32 *epoch_word = &t.r.namespaces[number].epoch;
    if (w->number < w->b->o.processes)
        write_messages(w, &t, epoch_word, rate / w->b->o.processes);
    else
        read_messages(w, &t, epoch_word);
    if (w->result->count[WRONG] > 0)
        w->result->status = bench_error(BENCH_WRONG, "a get returned something that was not set");
}

/* ---- the end ---- */

/* Suspects whose message was set before a reset: not those that the reset overtook on their way. */
static uint64_t count_stale(void)
{
    uint64_t n = lrd_load_relaxed(&notes->n_suspects), n_between = lrd_load_relaxed(&notes->n_between), stale = 0; /* everybody has ended */
    for (uint64_t i = 0; i < n && i < LISTED; i++) {
        bool overtaken = false;
        for (uint64_t j = 0; j < n_between && j < LISTED && !overtaken; j++)
            overtaken = notes->between[j].id == notes->suspect[i].id && (int32_t)(notes->between[j].epoch - notes->suspect[i].epoch) >= 0;
        stale += !overtaken;
    }
    return stale + (n > LISTED ? n - LISTED : 0);
}

static uint64_t sum(const struct bench_result *results, unsigned n, enum count which)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < n; i++)
        total += results[i].count[which];
    return total;
}

static enum bench_status say(const struct bench *b, const struct bench_result *results, const struct bench_sight *before, const struct bench_sight *after,
                             uint64_t resets_before)
{
    struct bench_target t;
    uint32_t number;
    enum bench_status status = bench_target_open(&t, b);
    if (status != BENCH_OK)
        return status;
    status = open_hunt(b, &t, &number);
    if (status == BENCH_OK) {
        const struct lrd_namespace *ns = &t.r.namespaces[number];
        unsigned n = b->o.processes + 1;
        double seconds = 0, copied = 0;
        for (unsigned i = 0; i < b->o.processes; i++) {
            double copy_s = (double)results[i].count[COPY_NS] / 1e9;
            seconds = results[i].wall_s - copy_s > seconds ? results[i].wall_s - copy_s : seconds;
            copied += copy_s > 0 ? (double)results[i].count[COPIED_BYTES] / copy_s : 0;
        }
        double bytes = (double)sum(results, n, SET_BYTES) / seconds;
        bench_figure(b->report, "hunt: messages", (double)sum(results, n, SETS) / seconds / 1e3, "k/s");
        bench_figure(b->report, "hunt: bytes of messages", bytes / 1e6, "MB/s");
        bench_figure(b->report, "hunt: plain memcpy of the same sizes", copied / 1e6, "MB/s");
        bench_figure(b->report, "hunt: messages / memcpy", copied > 0 ? bytes / copied : (double)NAN, "x");
        bench_figure(b->report, "hunt: sets failed", (double)sum(results, n, FAILED), "");
        bench_figure(b->report, "hunt: resets", (double)(lrd_load_relaxed(&ns->resets) - resets_before), "");
        bench_figure(b->report, "hunt: longest reset in the writer", (double)lrd_load_relaxed(&ns->reset_ns) / 1e3, "us");
        bench_figure(b->report, "hunt: gets", (double)sum(results, n, GETS), "");
        bench_figure(b->report, "hunt: hits", (double)sum(results, n, HITS), "");
        bench_figure_most(b->report, "hunt: hits from before a reset", (double)count_stale(), "", 0);
        bench_figure(b->report, "hunt: messages that a reset overtook", (double)lrd_load_relaxed(&notes->n_between), "");
        bench_say_counters(b, "hunt", before, after);
        bench_say_pauses(b, "hunt", before, after);
        bench_report_finish(b->report);
        if (count_stale() > 0)
            status = bench_error(BENCH_WRONG, "%llu gets returned a message of before a reset", (unsigned long long)count_stale());
    }
    bench_target_close(&t);
    return status;
}

/* ---- the mode ---- */

static enum bench_status prepare(const struct bench *b, uint64_t *resets)
{
    struct bench_target t;
    uint32_t number;
    enum bench_status status = bench_target_open(&t, b);
    if (status != BENCH_OK)
        return status;
    status = open_hunt(b, &t, &number);
    if (status == BENCH_OK)
        *resets = lrd_load_relaxed(&t.r.namespaces[number].resets);
    bench_target_close(&t);
    return status;
}

static enum bench_status run(struct bench *b, struct bench_sight *before, struct bench_sight *after)
{
    struct bench_result *results = NULL;
    uint64_t resets = 0;
    unsigned n = b->o.processes + 1;
    make_sizes();
    lrd_store_relaxed(&b->shared->cursor, 0); /* nobody else runs yet */
    lrd_store32_relaxed(&b->shared->stop, 0);
    enum bench_status status = prepare(b, &resets);
    if (status == BENCH_OK)
        status = bench_look(b, before);
    if (status == BENCH_OK)
        status = bench_crew_run(b, n, 1, 1, work, &results);
    if ((status == BENCH_OK || status == BENCH_WRONG) && results) {
        enum bench_status end = bench_look(b, after);
        if (end == BENCH_OK)
            end = say(b, results, before, after, resets);
        status = status != BENCH_OK ? status : end;
    }
    bench_crew_free(results, n);
    return status;
}

enum bench_status bench_hunt(struct bench *b)
{
    notes = bench_share(sizeof *notes);
    struct bench_sight *sights = bench_alloc(2, sizeof *sights);
    enum bench_status status = run(b, &sights[0], &sights[1]);
    free(sights);
    bench_unshare(notes, sizeof *notes);
    return status;
}
