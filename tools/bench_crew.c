/* Workers: processes with threads, each process with a handle of its own, all starting at once; and what becomes of their results.
 *
 * The parent attaches to nothing and measures nothing. Results lie in memory that it shares with its children. */
#include "tools/bench.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAP_US 200u

/* ---- CPUs ---- */

bool bench_cpus_init(struct bench_options *o, int first)
{
    cpu_set_t allowed;
    unsigned n = 0, at = 0;
    uint16_t cpus[BENCH_CPUS];
    o->n_cpus = 0;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return first < 0;
    for (unsigned cpu = 0; cpu < CPU_SETSIZE && n < BENCH_CPUS; cpu++)
        if (CPU_ISSET(cpu, &allowed))
            cpus[n++] = (uint16_t)cpu;
    while (at + 1 < n && cpus[at] != first)
        at++;
    if (n == 0 || (first >= 0 && cpus[at] != first))
        return false;
    for (unsigned i = 0; i < n; i++)
        o->cpus[i] = cpus[(at + i) % n];
    o->n_cpus = n;
    return true;
}

void bench_pin(const struct bench_options *o, unsigned n)
{
    cpu_set_t set;
    if (o->n_cpus == 0)
        return;
    CPU_ZERO(&set);
    CPU_SET(o->cpus[n % o->n_cpus], &set);
    sched_setaffinity(0, sizeof set, &set);
}

void bench_pin_away(const struct bench_options *o)
{
    cpu_set_t set;
    if (o->n_cpus < 2)
        return;
    CPU_ZERO(&set);
    for (unsigned i = 1; i < o->n_cpus; i++)
        CPU_SET(o->cpus[i], &set);
    sched_setaffinity(0, sizeof set, &set);
}

/* ---- one worker ---- */

struct crew {
    struct bench *b;
    bench_work *work;
    struct bench_result *results;
    uint64_t n_items;
    unsigned processes, threads;
};

struct member {
    const struct crew *crew;
    struct bench_target *target;
    unsigned number;
    pthread_t thread;
};

static void many_init(struct bench_many *m, const struct bench_options *o)
{
    m->keys = bench_alloc(o->batch, sizeof *m->keys);
    m->items = bench_alloc(o->batch, sizeof *m->items);
    m->values = bench_alloc(o->batch, o->value_size + LRD_LINE);
    for (unsigned i = 0; i < o->batch; i++) {
        m->keys[i] = (struct larder_key){.size = sizeof *m->keys, .data_size = BENCH_KEY};
        m->items[i] = (struct larder_item){.size = sizeof *m->items, .buffer = m->values + i * o->value_size, .capacity = o->value_size};
    }
}

static void many_free(struct bench_many *m)
{
    free(m->keys);
    free(m->items);
    free(m->values);
}

static void wait_for_start(struct bench_shared *shared)
{
    /* Acquire: pairs with the parent's release of go. */
    __atomic_fetch_add((uint32_t *)&shared->ready, 1, __ATOMIC_ACQ_REL);
    while (lrd_load32_acquire(&shared->go) == 0)
        usleep(NAP_US);
}

static void *run(void *arg)
{
    struct member *m = arg;
    const struct crew *crew = m->crew;
    const struct bench_options *o = &crew->b->o;
    struct bench_worker w = {.b = crew->b, .target = m->target, .result = &crew->results[m->number], .number = m->number};
    bench_pin(o, m->number);
    bench_keys_init(&w.keys, o, crew->n_items, m->target->r.hash_seed, m->number);
    w.chunk = bench_alloc(BENCH_CHUNK, sizeof *w.chunk);
    w.value = bench_alloc(1, o->value_size + LRD_LINE);
    many_init(&w.many, o);
    __asm__ __volatile__("" : "+r"(w.zero)); /* the compiler no longer knows it */
    wait_for_start(crew->b->shared);

    uint64_t begin = lrd_clock_ns();
    crew->work(&w);
    w.result->wall_s = (double)(lrd_clock_ns() - begin) / 1e9;

    __asm__ __volatile__("" : : "r"(w.sink));
    many_free(&w.many);
    free(w.value);
    free(w.chunk);
    return NULL;
}

/* ---- one process ---- */

static enum bench_status run_process(const struct crew *crew, unsigned process)
{
    struct bench_target target;
    struct member *members = bench_alloc(crew->threads, sizeof *members);
    bench_pin(&crew->b->o, process * crew->threads);
    enum bench_status status = bench_target_open(&target, crew->b);
    if (status != BENCH_OK)
        return status;
    for (unsigned i = 0; i < crew->threads; i++) {
        members[i] = (struct member){.crew = crew, .target = &target, .number = process * crew->threads + i};
        if (i > 0 && pthread_create(&members[i].thread, NULL, run, &members[i]) != 0)
            return bench_error(BENCH_FAILURE, "cannot start thread %u of %u", i + 1, crew->threads);
    }
    run(&members[0]);
    for (unsigned i = 1; i < crew->threads; i++)
        pthread_join(members[i].thread, NULL);
    bench_target_close(&target);
    free(members);
    return BENCH_OK;
}

static pid_t start_process(const struct crew *crew, unsigned process)
{
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    _exit(getppid() == parent ? (int)run_process(crew, process) : BENCH_FAILURE);
}

/* ---- all of them ---- */

static enum bench_status status_of(int wait_status)
{
    if (WIFEXITED(wait_status))
        return (enum bench_status)WEXITSTATUS(wait_status);
    return bench_error(BENCH_FAILURE, "a worker died of signal %d", WTERMSIG(wait_status));
}

/* Until all are at the start, or one has failed. */
static enum bench_status gather(const struct crew *crew, pid_t *pids)
{
    int wait_status;
    while (lrd_load32_acquire(&crew->b->shared->ready) < crew->processes * crew->threads) {
        for (unsigned i = 0; i < crew->processes; i++)
            if (pids[i] > 0 && waitpid(pids[i], &wait_status, WNOHANG) == pids[i]) {
                pids[i] = 0;
                enum bench_status status = status_of(wait_status);
                return status != BENCH_OK ? status : BENCH_FAILURE;
            }
        usleep(NAP_US);
    }
    return BENCH_OK;
}

static enum bench_status collect(const struct crew *crew, pid_t *pids, enum bench_status status)
{
    for (unsigned i = 0; i < crew->processes; i++) {
        int wait_status;
        if (pids[i] <= 0)
            continue;
        if (status != BENCH_OK)
            kill(pids[i], SIGKILL); /* somebody else could not: nobody measures alone */
        if (waitpid(pids[i], &wait_status, 0) == pids[i] && status == BENCH_OK)
            status = status_of(wait_status);
    }
    for (unsigned i = 0; i < crew->processes * crew->threads && status == BENCH_OK; i++)
        status = crew->results[i].status;
    return status;
}

enum bench_status bench_crew_run(struct bench *b, unsigned processes, unsigned threads, uint64_t n_items, bench_work *work, struct bench_result **results)
{
    size_t bytes = (size_t)processes * threads * sizeof **results;
    *results = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (*results == MAP_FAILED) {
        *results = NULL;
        return bench_error(BENCH_FAILURE, "no memory for the results of %u workers", processes * threads);
    }
    const struct crew crew = {.b = b, .work = work, .results = *results, .n_items = n_items, .processes = processes, .threads = threads};
    pid_t *pids = bench_alloc(processes, sizeof *pids);
    enum bench_status status = BENCH_OK;
    lrd_store32_relaxed(&b->shared->ready, 0); /* nobody else runs yet */
    lrd_store32_relaxed(&b->shared->go, 0);
    for (unsigned i = 0; i < processes && status == BENCH_OK; i++) {
        pids[i] = start_process(&crew, i);
        if (pids[i] < 0)
            status = bench_error(BENCH_FAILURE, "cannot fork: %s", strerror(errno));
    }
    if (status == BENCH_OK)
        status = gather(&crew, pids);
    lrd_store_relaxed(&b->shared->go_ns, lrd_clock_ns());
    lrd_store32_release(&b->shared->go, 1); /* pairs with the acquire in wait_for_start() */
    status = collect(&crew, pids, status);
    free(pids);
    return status;
}

void bench_crew_free(struct bench_result *results, unsigned n)
{
    if (results)
        munmap(results, n * sizeof *results);
}

/* ---- results ---- */

static int ascending(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

double bench_median(double *values, unsigned n)
{
    if (n == 0)
        return (double)NAN;
    qsort(values, n, sizeof *values, ascending);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

static double worker_median(const struct bench_side *side, enum bench_metric metric)
{
    double values[BENCH_ROUNDS];
    memcpy(values, side->round[metric], sizeof values);
    return bench_median(values, side->n_rounds[metric]);
}

double bench_side_median(const struct bench_result *results, unsigned n, unsigned side, enum bench_metric metric)
{
    double sum = 0;
    for (unsigned i = 0; i < n; i++)
        sum += worker_median(&results[i].side[side], metric);
    return sum / n;
}

double bench_side_rate(const struct bench_result *results, unsigned n, unsigned side)
{
    double sum = 0;
    for (unsigned i = 0; i < n; i++)
        sum += 1e9 / worker_median(&results[i].side[side], BENCH_MEAN_NS);
    return sum;
}

static void stamps_add(struct bench_stamps *sum, const struct bench_stamps *s)
{
    lrd_histogram_add(&sum->ticks, &s->ticks);
    sum->gaps_1us += s->gaps_1us;
    sum->gaps_20us += s->gaps_20us;
    sum->total_ticks += s->total_ticks;
    sum->ops += s->ops;
}

void bench_side_stamps(const struct bench_result *results, unsigned n, unsigned side, struct bench_stamps *sum)
{
    memset(sum, 0, sizeof *sum);
    for (unsigned i = 0; i < n; i++)
        stamps_add(sum, &results[i].side[side].stamps);
}

void bench_round_note(struct bench_side *side, enum bench_metric metric, double value)
{
    if (side->n_rounds[metric] < BENCH_ROUNDS)
        side->round[metric][side->n_rounds[metric]++] = value;
}

static double net_ns(const struct bench_clock *c, const struct bench_stamps *s, double part, unsigned ops)
{
    return bench_net_ns(c, bench_quantile_ticks(c, &s->ticks, part), ops);
}

void bench_stamps_init(struct bench_stamps *s, const struct bench_clock *c)
{
    memset(s, 0, sizeof *s);
    s->us1_ticks = c->us1_ticks;
    s->us20_ticks = c->us20_ticks;
}

void bench_stamps_note(struct bench_side *side, const struct bench_clock *c, struct bench_stamps *s, unsigned ops)
{
    bench_round_note(side, BENCH_P50_NS, net_ns(c, s, 0.5, ops));
    bench_round_note(side, BENCH_P99_NS, net_ns(c, s, 0.99, ops));
    bench_round_note(side, BENCH_P999_NS, net_ns(c, s, 0.999, ops));
    stamps_add(&side->stamps, s);
}
