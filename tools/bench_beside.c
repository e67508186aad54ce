/* Gets beside a process that sets as fast as the writer applies: slices with it and without it in turns.
 *
 * What is compared is the reader's own CPU time per get: on a machine with few cores the setter may take the reader's core away for a while, which is
 * the scheduler's doing. */
#include "tools/bench.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define SLICE_NS 50000000.0
#define NAP_US 100u
#define RUN 256u

enum { ALONE, BESIDE };

/* ---- the setter ---- */

static void set_run(struct bench *b, struct bench_target *t, unsigned char *value, uint32_t version)
{
    struct bench_key key;
    uint64_t first = lrd_fetch_add_relaxed(&b->shared->oldest, RUN); /* only a number */
    for (uint64_t i = 0; i < RUN; i++) {
        uint64_t id = (first + i) % b->o.items;
        bench_key_make(&key, id, t->r.hash_seed);
        bench_value_fill(value, b->o.value_size, id, version);
        bench_set(t, &key, value, b->o.value_size);
    }
}

static enum bench_status set_all(struct bench *b)
{
    struct bench_target t;
    enum bench_status status = bench_target_open(&t, b);
    if (status != BENCH_OK)
        return status;
    unsigned char *value = bench_alloc(1, b->o.value_size + LRD_LINE);
    for (uint32_t version = 0; !lrd_load32_acquire(&b->shared->stop); version++) {
        /* Acquire and release: pair with the reader's in setter_do(). */
        uint32_t wanted = lrd_load32_acquire(&b->shared->wanted);
        if (!wanted && lrd_load32_relaxed(&b->shared->doing))
            larder_flush(t.larder, 10000);
        lrd_store32_release(&b->shared->doing, wanted);
        if (wanted)
            set_run(b, &t, value, version);
        else
            usleep(NAP_US);
    }
    free(value);
    bench_target_close(&t);
    return BENCH_OK;
}

static pid_t setter_start(struct bench *b)
{
    pid_t parent = getpid();
    lrd_store32_relaxed(&b->shared->stop, 0); /* before the fork */
    lrd_store32_relaxed(&b->shared->wanted, 0);
    lrd_store32_relaxed(&b->shared->doing, 1); /* until it says otherwise */
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    bench_pin_away(&b->o);
    _exit(getppid() == parent ? (int)set_all(b) : BENCH_FAILURE);
}

/* ---- the reader ---- */

/* Tells the setter, and waits until it does it. A setter that is no more does nothing: the parent looks at its end. */
static void setter_do(struct bench_shared *shared, uint32_t what)
{
    lrd_store32_release(&shared->wanted, what);
    for (unsigned i = 0; i < 10000 && lrd_load32_acquire(&shared->doing) != what; i++)
        usleep(NAP_US);
}

static void slice(struct bench_worker *w, struct bench_side *side, uint64_t slice_cpu_ns)
{
    uint64_t cpu_ns = 0, ops = 0;
    size_t size;
    do {
        bench_keys_next(&w->keys, w->chunk, BENCH_CHUNK);
        uint64_t begin = bench_thread_cpu_ns();
        for (size_t i = 0; i < BENCH_CHUNK; i++)
            side->hits += larder_get(w->target->ns, w->chunk[i].bytes, BENCH_KEY, w->value, w->b->o.value_size, &size) == 0;
        cpu_ns += bench_thread_cpu_ns() - begin;
        ops += BENCH_CHUNK;
    } while (cpu_ns < slice_cpu_ns);
    side->ops += ops;
    bench_round_note(side, BENCH_CPU_NS, (double)cpu_ns / (double)ops);
}

static void work(struct bench_worker *w)
{
    struct bench_shared *shared = w->b->shared;
    double total_ns = w->b->o.seconds * 1e9;
    double wanted = total_ns / (2 * SLICE_NS);
    unsigned rounds = wanted < 3 ? 3 : wanted < BENCH_ROUNDS ? (unsigned)wanted : BENCH_ROUNDS;
    uint64_t slice_ns = (uint64_t)(total_ns / (2 * rounds));
    for (unsigned i = 0; i < rounds; i++) {
        setter_do(shared, 0);
        slice(w, &w->result->side[ALONE], slice_ns);
        setter_do(shared, 1);
        uint64_t sets = bench_counter(w->target, LRD_C_sets), begin = lrd_clock_ns();
        slice(w, &w->result->side[BESIDE], slice_ns);
        w->result->count[0] += bench_counter(w->target, LRD_C_sets) - sets;
        w->result->count[1] += lrd_clock_ns() - begin;
    }
    setter_do(shared, 0);
}

/* ---- the mode ---- */

static void say(const struct bench *b, const struct bench_result *result)
{
    double alone = bench_side_median(result, 1, ALONE, BENCH_CPU_NS), beside = bench_side_median(result, 1, BESIDE, BENCH_CPU_NS);
    const struct bench_side *side = &result->side[BESIDE];
    bench_figure(b->report, "beside: sets applied", (double)result->count[0] / (double)result->count[1] * 1e3, "M/s");
    bench_figure(b->report, "beside: get alone, CPU time", alone, "ns");
    bench_figure(b->report, "beside: get, CPU time", beside, "ns");
    bench_figure(b->report, "beside: hits", 100 * (double)side->hits / (double)side->ops, "%");
    bench_figure_most(b->report, "beside: fewer gets per CPU second", 100 * (1 - alone / beside), "%", 25);
}

enum bench_status bench_beside(struct bench *b)
{
    struct bench_result *result;
    int wait_status = 0;
    pid_t pid = setter_start(b);
    if (pid < 0)
        return bench_error(BENCH_FAILURE, "cannot fork");
    enum bench_status status = bench_crew_run(b, 1, 1, b->o.items, work, &result);
    lrd_store32_release(&b->shared->stop, 1); /* pairs with the acquire in set_all() */
    waitpid(pid, &wait_status, 0);
    if (status == BENCH_OK && wait_status != 0)
        status = WIFEXITED(wait_status) ? (enum bench_status)WEXITSTATUS(wait_status) : BENCH_FAILURE;
    if (status == BENCH_OK)
        say(b, result);
    bench_crew_free(result, 1);
    return status;
}
