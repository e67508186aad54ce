/* larder-bench, inside: what its files share.
 *
 *   larder-bench.c    the command line
 *   bench_all.c       which modes there are, and all of them one after the other, each figure beside its target
 *   bench_clock.c     stamps, what a stamp costs
 *   bench_keys.c      which key comes next; values that certify themselves
 *   bench_target.c    the daemon's segment: through liblarder, and directly
 *   bench_daemon.c    a private larderd
 *   bench_crew.c      worker processes and threads
 *   bench_duel.c      contenders measured in turns: A B A B
 *   bench_floor.c     what the hardware asks for the same memory
 *   bench_read.c      gets
 *   bench_write.c     sets
 *   bench_signal.c    round trips between two cores, set and wait
 *   bench_incr.c      increments, and their results
 *   bench_beside.c    gets beside a process that sets
 *   bench_view.c      views and revisits
 *   bench_segment.c   attach, idle, bytes
 *   bench_trace.c     request traces: the file, and the sizes of a smaller cache
 *   bench_replay.c    replaying them
 *   bench_watch.c     what the daemon says of itself: counters, pauses, memory
 *   bench_rows.c      leaderboard: rows that are overwritten must not push out rows that are not
 *   bench_hunt.c      hunt: messages in a namespace that the clock resets
 *   bench_lease.c     lease: asked for, and handed over when its holder is killed
 *   bench_reset.c     reset: of a namespace full of small items
 *   bench_pauses.c    pauses: of the writer while everything happens at once
 *   bench_report.c    figures and distributions, as text and as JSON
 *
 * A figure is a ratio wherever it can be: of two things measured in turns, in one run, on one mapping, with one stream of keys. Throughput is measured
 * without looking at the clock in between; latency by stamps around every operation. Stamped loops say what a stamp costs, and show times
 * with it (raw) and without (net).
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "libclient/larder.h"
#include "shm/atomic.h"
#include "shm/clock.h"
#include "shm/histogram.h"
#include "shm/segment.h"

enum bench_status {
    BENCH_OK = 0,
    BENCH_WRONG = 1,      /* a value was not what was set */
    BENCH_FAILURE = 2,
    BENCH_USAGE = 64,     /* EX_USAGE */
    BENCH_NO_DAEMON = 69, /* EX_UNAVAILABLE */
};

/* One line on stderr: what is wrong, where, how to put it right. Returns status. */
enum bench_status bench_error(enum bench_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Memory for the program's life or until free(); zeroed, on a line of its own. Ends the program if there is none. */
void *bench_alloc(size_t n, size_t bytes);

/* Zeroed memory that processes forked later share. Ends the program if there is none. */
void *bench_share(size_t bytes);
void bench_unshare(void *p, size_t bytes);

/* ---- what the command line said ---- */
#define BENCH_DAEMON_OPTIONS 16u
#define BENCH_VALUE_NOT_SAID SIZE_MAX
#define BENCH_CPUS 256u

struct bench_options {
    const char *socket;
    const char *file; /* of replay */
    uint64_t items;
    uint64_t seed;
    uint64_t memory; /* of the private daemon; 0: what the mode needs */
    double seconds;  /* of each mode */
    double set_share; /* of mixed: 0 to 1 */
    double skew;      /* of the Zipf distribution; 0: uniform */
    double speed;     /* of replay; 0: as fast as it goes */
    double fraction;  /* of replay: of the trace's footprint that the cache has; 0: all of it */
    double rate;      /* of messages and sets a second, and of gets: below 0: what the mode says; 0: as fast as it goes */
    double get_rate;
    const char *policy;  /* of the default namespace of a private daemon; NULL: its own */
    uint64_t min_block;  /* of replay --fraction */
    unsigned blocks;
    unsigned unit;       /* requests that a worker takes at a time; 0: what fits */
    unsigned idle_lanes; /* attached and doing nothing */
    bool speed_auto;
    bool check_expiry;
    size_t value_size;
    unsigned processes;
    unsigned threads;
    unsigned batch;
    unsigned clients; /* of idle */
    unsigned n_cpus;  /* CPUs to pin to, in this order; 0: none */
    uint16_t cpus[BENCH_CPUS];
    bool json;
    bool start_daemon;
    bool verify;
    bool no_fill;
    const char *daemon;
    unsigned n_daemon_options;
    const char *daemon_options[BENCH_DAEMON_OPTIONS];
};

/* ---- stamps: bench_clock.c ---- */

/* The time in ticks. What stands before is finished when the clock is read, and what stands after has not begun. */
static inline uint64_t bench_stamp(void)
{
#if defined(__x86_64__)
    uint32_t low, high;
    __asm__ __volatile__("lfence\n\trdtsc\n\tlfence" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
#else
    __asm__ __volatile__("" : : : "memory");
    uint64_t now = lrd_clock_ns();
    __asm__ __volatile__("" : : : "memory");
    return now;
#endif
}

struct bench_clock {
    double ns_per_tick;
    double cost_ticks;   /* between two stamps with nothing in between: the mean of a million, without interruptions */
    uint64_t step_ticks; /* what the counter is a multiple of: some count in steps of 10 ns */
    uint64_t us1_ticks;  /* 1 us */
    uint64_t us20_ticks; /* 20 us */
};

/* Takes 0.1 s. */
void bench_clock_init(struct bench_clock *c);

/* A quantile between the counter's steps: a time that was counted as n steps is taken for evenly spread around n. */
double bench_quantile_ticks(const struct bench_clock *c, const struct lrd_histogram *h, double part);
/* In nanoseconds of one operation, without the stamp's own. */
double bench_net_ns(const struct bench_clock *c, double ticks, unsigned ops);

/* What a stamped loop notes. */
struct bench_stamps {
    struct lrd_histogram ticks;
    uint64_t us1_ticks, us20_ticks;
    uint64_t gaps_1us, gaps_20us; /* between two stamps in a row, whatever was between them */
    uint64_t total_ticks;         /* the loop's time */
    uint64_t ops;
};

static inline void bench_gap(struct bench_stamps *s, uint64_t ticks)
{
    if (lrd_unlikely(ticks >= s->us1_ticks)) {
        s->gaps_1us++;
        s->gaps_20us += ticks >= s->us20_ticks;
    }
}

/* An operation from begin to end; last is the end of the one before. */
static inline void bench_note(struct bench_stamps *s, uint64_t last, uint64_t begin, uint64_t end)
{
    lrd_histogram_record(&s->ticks, end - begin);
    bench_gap(s, begin - last);
    bench_gap(s, end - begin);
}

/* ---- keys and values: bench_keys.c ---- */
#define BENCH_KEY 16u

struct bench_key {
    unsigned char bytes[BENCH_KEY]; /* "k" and 15 digits */
    uint64_t id;
    uint64_t hash; /* as the table has it: for floors, which must not compute it */
};

/* A stream of random keys: number i depends on the seed and i only. */
struct bench_keys {
    uint64_t hash_seed;
    uint64_t seed;
    uint64_t counter;
    uint64_t n_items;
    double skew; /* 0: uniform */
    double low, high, cut; /* of the Zipf distribution's hull */
};

void bench_keys_init(struct bench_keys *k, const struct bench_options *o, uint64_t n_items, uint64_t hash_seed, unsigned stream);
void bench_keys_next(struct bench_keys *k, struct bench_key *keys, size_t n);
/* The same without a key: its id, and a random number of the same stream. */
uint64_t bench_keys_id(struct bench_keys *k);
uint64_t bench_keys_draw(struct bench_keys *k);
void bench_key_make(struct bench_key *key, uint64_t id, uint64_t hash_seed);

static inline uint64_t bench_mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* A value says whose it is in its first word, and all its words follow from that one: neither another key's value nor a mixture passes. */
void bench_value_fill(unsigned char *value, size_t bytes, uint64_t id, uint32_t version);
bool bench_value_good(const unsigned char *value, size_t bytes, uint64_t id);
#define BENCH_VERSION_MASK 0xffffffu /* what of the version is in it; values of 8 bytes and more have all of that */
uint32_t bench_value_version(const unsigned char *value);

/* ---- one run ---- */

/* What all processes of a run share. */
struct bench_shared {
    lrd_u64 oldest; /* id of the item that was set the longest ago: what is set next, so that a set replaces and nothing else is evicted */
    unsigned char pad0[56];
    lrd_u64 cursor; /* of replay: the next request; of hunt: the next message */
    unsigned char pad1[56];
    lrd_u64 pace_speed; /* of replay --speed auto: a double's bits, 0 until it is known; stored last, with release */
    lrd_u64 pace_ns;    /* since then, */
    lrd_u64 pace_from;  /* and from this request on */
    lrd_u32 idle;       /* lanes that are attached */
    lrd_u32 idle_status;
    unsigned char pad2[32];
    lrd_u32 ready;  /* workers at the start */
    lrd_u32 go;
    lrd_u32 stop;
    lrd_u32 wanted; /* of beside: what the setter is to do, and what it does */
    lrd_u32 doing;
    lrd_u64 go_ns;
};

struct bench_report;
struct bench_trace;

struct bench {
    struct bench_options o;
    const char *socket; /* in use: the option's, or the private daemon's */
    struct bench_clock clock;
    struct bench_shared *shared;
    struct bench_report *report;
    struct bench_trace *trace; /* of replay; else NULL */
};

/* ---- the daemon's segment: bench_target.c ---- */
struct bench_target {
    struct larder *larder;
    struct larder_ns *ns;
    struct lrd_reader r; /* through liblarder's own mapping if it can be found, else through one of ours */
    void *base;          /* ours; NULL: liblarder's */
    size_t bytes;
};

enum bench_status bench_target_open(struct bench_target *t, const struct bench *b);
/* The segment only, without a lane: larder and ns are NULL. */
enum bench_status bench_target_peek(struct bench_target *t, const struct bench *b);
void bench_target_close(struct bench_target *t);

/* Sets the value, however long the ring is full. */
int bench_set(struct bench_target *t, const struct bench_key *key, const void *value, size_t bytes);

/* Sets all items, oldest first. */
enum bench_status bench_fill(struct bench *b);

/* The same through an open target: 0 when all are visible, or a result of liblarder. */
int bench_fill_items(struct bench_target *t, const struct bench_options *o);

static inline uint64_t bench_counter(const struct bench_target *t, enum lrd_counter_id id)
{
    return lrd_counter_sum(&t->r, id);
}

/* Makes a namespace, or opens it if it is there: into t->ns, and its number into *number. */
enum bench_status bench_target_namespace(struct bench_target *t, const char *name, const struct larder_ns_options *options, uint32_t *number);

/* Part of the table's slots that are not empty. */
double bench_load(const struct bench_target *t);

/* ---- a private larderd: bench_daemon.c ---- */
struct bench_daemon {
    pid_t pid;
    char dir[256];
    char socket[300];
};

struct bench_daemon_size {
    uint64_t memory;
    uint64_t average_item;
    unsigned max_clients;
    double table_load;    /* 0: the daemon's own choice; so are the others */
    uint64_t block_bytes;
    unsigned blocks;
    uint64_t ring_bytes;
};

/* Starts it and waits until it answers. */
enum bench_status bench_daemon_start(struct bench_daemon *d, const struct bench *b, const struct bench_daemon_size *size);
void bench_daemon_stop(struct bench_daemon *d);

/* Memory in which all items fit and the table is about 65 % full. */
uint64_t bench_daemon_memory(const struct bench_options *o);

/* ---- workers: bench_crew.c ---- */
#define BENCH_ROUNDS 128u
#define BENCH_SIDES 5u

enum bench_metric { BENCH_MEAN_NS, BENCH_CPU_NS, BENCH_P50_NS, BENCH_P99_NS, BENCH_P999_NS, BENCH_N_METRICS };

/* What one contender did: a value of each metric for every round, and all stamps together. */
struct bench_side {
    double round[BENCH_N_METRICS][BENCH_ROUNDS];
    unsigned n_rounds[BENCH_N_METRICS];
    uint64_t ops, hits, wrong; /* plain slices */
    struct bench_stamps stamps;
};

/* Of one worker; lies in memory shared with the parent. */
struct bench_result {
    enum bench_status status;
    struct bench_side side[BENCH_SIDES];
    uint64_t count[16]; /* the mode's own */
    double wall_s;
};

/* Pages of what get_many wants. */
struct bench_many {
    struct larder_key *keys;
    struct larder_item *items;
    unsigned char *values; /* batch * value_size */
};

struct bench_worker {
    struct bench *b;
    const struct bench_target *target;
    struct bench_keys keys;
    struct bench_result *result;
    struct bench_key *chunk; /* the keys of the next operations */
    unsigned char *value;    /* room for one, with a line to spare */
    struct bench_many many;
    uint64_t zero;           /* 0, which the compiler does not know */
    uint64_t sink;
    uint32_t version;        /* of the next set's value */
    unsigned number;         /* among all workers */
};

typedef void bench_work(struct bench_worker *w);

/* Runs work in processes * threads workers; each process attaches. results: one for each. n_items: of the key stream. */
enum bench_status bench_crew_run(struct bench *b, unsigned processes, unsigned threads, uint64_t n_items, bench_work *work, struct bench_result **results);
void bench_crew_free(struct bench_result *results, unsigned n);

/* The CPUs this process may use, beginning with `first` (-1: the last of them). False: that one may not be used. */
bool bench_cpus_init(struct bench_options *o, int first);
/* Pins the calling thread to the n-th of them. */
void bench_pin(const struct bench_options *o, unsigned n);
/* Keeps it away from the first of them, if there is another. */
void bench_pin_away(const struct bench_options *o);

double bench_median(double *values, unsigned n);
/* Median over a side's rounds, mean over the workers. NAN: was not measured. */
double bench_side_median(const struct bench_result *results, unsigned n, unsigned side, enum bench_metric metric);
/* Operations per second of all workers together, by their medians. */
double bench_side_rate(const struct bench_result *results, unsigned n, unsigned side);
/* All workers' stamps. */
void bench_side_stamps(const struct bench_result *results, unsigned n, unsigned side, struct bench_stamps *sum);

void bench_round_note(struct bench_side *side, enum bench_metric metric, double value);
/* Adds a slice's stamps and its quantiles to the side. ops: operations between two stamps. */
void bench_stamps_note(struct bench_side *side, const struct bench_clock *c, struct bench_stamps *s, unsigned ops);
void bench_stamps_init(struct bench_stamps *s, const struct bench_clock *c);

/* ---- contenders in turns: bench_duel.c ---- */
#define BENCH_CHUNK 4096u
#define BENCH_BATCH 1024u /* largest */

struct bench_contender {
    /* Runs over n keys of the chunk; returns the hits. NULL: not measured. */
    size_t (*plain)(struct bench_worker *w, size_t n);
    size_t (*stamped)(struct bench_worker *w, struct bench_stamps *s, size_t n);
    unsigned ops; /* operations between two stamps */
};

/* Slices of each contender in turns, until the mode's seconds are over. Side i is contender i's. */
void bench_duel(struct bench_worker *w, const struct bench_contender *contenders, unsigned n);

static inline uint64_t bench_thread_cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- floors: bench_floor.c ---- */
extern const struct bench_contender bench_floor_one;   /* a bucket line, then an item, one after the other */
extern const struct bench_contender bench_floor_batch; /* the same, prefetched in batches */
extern const struct bench_contender bench_floor_hot;   /* as the first, stamped in groups */
extern const struct bench_contender bench_control;     /* nothing but stamps */
#define BENCH_GROUP 16u

/* ---- what the daemon says of itself: bench_watch.c ---- */
struct bench_sight {
    uint64_t at_ns;
    uint64_t counter[LRD_N_COUNTERS];
    uint64_t live_items, live_bytes;
    struct lrd_pauses pauses;
    uint64_t rss_bytes;     /* of worker and keeper together; 0: cannot be seen from here */
    uint64_t private_bytes; /* what of it is theirs alone */
};

/* Looks at everything once, without a lane. */
enum bench_status bench_look(const struct bench *b, struct bench_sight *s);
static inline double bench_since(const struct bench_sight *before, const struct bench_sight *after, enum lrd_counter_id id)
{
    return (double)(after->counter[id] - before->counter[id]);
}
/* What was recorded between two looks. The largest is exact if it is the largest ever, else within the resolution. */
void bench_histogram_since(struct lrd_histogram *h, const struct lrd_histogram *before, const struct lrd_histogram *after);
uint64_t bench_histogram_above(const struct lrd_histogram *h, uint64_t value);
/* Figures "MODE: ...": what became of items and blocks; the writer's pauses, its own and the scheduler's. */
void bench_say_counters(const struct bench *b, const char *mode, const struct bench_sight *before, const struct bench_sight *after);
void bench_say_pauses(const struct bench *b, const char *mode, const struct bench_sight *before, const struct bench_sight *after);
/* Live bytes in blocks of which every item has expired by then: in full ones, and in these and those being written. */
void bench_expired_bytes(const struct lrd_reader *r, uint64_t now_ms, uint64_t *full, uint64_t *open_too);

/* Attaches o.idle_lanes handles in a process of their own, which does nothing else. *pid: 0 if there are none to attach. */
enum bench_status bench_idle_start(struct bench *b, pid_t *pid);
void bench_idle_stop(pid_t pid);

/* ---- a process that only looks at the clock ---- */
struct bench_control {
    struct lrd_histogram own;       /* ns between two looks */
    struct lrd_histogram scheduler; /* over 20 us, and another thread ran on its core meanwhile */
    uint64_t cpu_ns;                /* that it had */
};
void bench_control_run(struct bench_control *c, uint64_t until_ns);

/* ---- request traces: bench_trace.c ---- */
struct bench_trace {
    uint32_t n_requests, n_objects;
    const uint32_t *size, *ttl_s, *object, *time_s;
    const uint8_t *op;
    uint64_t footprint;        /* sum of all sizes */
    /* as they are replayed */
    uint32_t *item;            /* bytes of each object's item */
    uint64_t item_footprint;   /* sum of them */
    uint32_t largest_item;
    double scale;              /* item bytes / size */
    uint64_t block_bytes;      /* of --fraction; 0: the daemon's choice */
    uint32_t shortest_ttl_s;   /* 0: no object has one */
    void *base;
    size_t bytes;
};

/* ---- modes ---- */
enum bench_status bench_get(struct bench *b);      /* bench_read.c */
enum bench_status bench_latency(struct bench *b);
enum bench_status bench_mixed(struct bench *b);
enum bench_status bench_get_many(struct bench *b);
enum bench_status bench_hot(struct bench *b);
enum bench_status bench_sets(struct bench *b);     /* bench_write.c */
enum bench_status bench_wait(struct bench *b);     /* bench_signal.c */
enum bench_status bench_incr(struct bench *b);     /* bench_incr.c */
enum bench_status bench_lease(struct bench *b);    /* bench_lease.c */
enum bench_status bench_beside(struct bench *b);   /* bench_beside.c */
enum bench_status bench_attach(struct bench *b);   /* bench_segment.c */
enum bench_status bench_idle(struct bench *b);
enum bench_status bench_bytes(struct bench *b);
enum bench_status bench_replay(struct bench *b);   /* bench_replay.c */
enum bench_status bench_rows(struct bench *b);     /* bench_rows.c */
enum bench_status bench_hunt(struct bench *b);     /* bench_hunt.c */
enum bench_status bench_reset(struct bench *b);    /* bench_reset.c */
enum bench_status bench_view(struct bench *b);     /* bench_view.c */
enum bench_status bench_pauses(struct bench *b);   /* bench_pauses.c */
void bench_rows_size(const struct bench *b, struct bench_daemon_size *size);
void bench_hunt_size(const struct bench *b, struct bench_daemon_size *size);
void bench_reset_size(const struct bench *b, struct bench_daemon_size *size);
void bench_pauses_size(const struct bench *b, struct bench_daemon_size *size);

/* Reads the file of replay, and says how large a daemon holds all of it. */
enum bench_status bench_trace_open(struct bench *b);
void bench_trace_close(struct bench *b);
void bench_trace_size(const struct bench *b, struct bench_daemon_size *size);

typedef void bench_daemon_sizer(const struct bench *b, struct bench_daemon_size *size);

struct bench_mode {
    const char *name;
    enum bench_status (*run)(struct bench *b);
    bench_daemon_sizer *size; /* of its private daemon */
    bool fills;               /* the items are set before */
    bool in_all;
    uint64_t items;   /* if the command line does not say; 0: 1M */
    size_t value;     /* and this; 0: 256 */
    const char *help;
};
const struct bench_mode *bench_mode_find(const char *name); /* bench_all.c */
const struct bench_mode *bench_mode_at(unsigned i);         /* NULL: no more */
/* Runs one, or all, with the daemon and the items they need. */
enum bench_status bench_mode_run(struct bench *b, const struct bench_mode *mode);
enum bench_status bench_all(struct bench *b);

/* ---- reporting: bench_report.c ---- */
struct bench_report *bench_report_new(void);
void bench_report_free(struct bench_report *r);
/* All has been measured: it is shown even if what was found is a failure. */
void bench_report_finish(struct bench_report *r);
bool bench_report_is_complete(const struct bench_report *r);
/* A figure. */
void bench_figure(struct bench_report *r, const char *name, double value, const char *unit);
/* The same, named "MODE: WHAT". */
void bench_figure_of(struct bench_report *r, const char *mode, const char *what, double value, const char *unit);
/* A figure that ought to be at most, or at least, its target. */
void bench_figure_most(struct bench_report *r, const char *name, double value, const char *unit, double target);
void bench_figure_least(struct bench_report *r, const char *name, double value, const char *unit, double target);
/* Quantiles of stamps of `ops` operations each. */
void bench_distribution(struct bench_report *r, const char *name, const struct bench_clock *c, const struct bench_stamps *s, unsigned ops);
void bench_report_print(const struct bench_report *r, const struct bench *b, const char *mode);
void bench_report_json(const struct bench_report *r, const struct bench *b, const char *mode);

#endif
