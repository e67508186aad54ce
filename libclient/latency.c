/* How long calls take: which are timed (client.h), and what came out. The figures lie in the lane, so they go with it: after fork, and with another daemon, they begin anew. */
#include "libclient/client.h"

#include <errno.h>

#include "shm/latency.h"

static_assert((int)LARDER_OPS == (int)LRD_LATENCIES, "one histogram each");

#define JITTER 16u         /* a timed get is one of so many from when it was due: each costs a few instructions more */
#define UNTIMED_EACH 1024u /* calls through a handle that times none still count down for other handles */

__thread uint32_t lrd_untimed __attribute__((tls_model("initial-exec"))) = 1;
static __thread uint32_t chance; /* 0: this thread has counted nothing down yet */

/* xorshift: enough to come out of step with a program. */
static uint32_t next_chance(void)
{
    uint32_t x = chance != 0 ? chance : (uint32_t)lrd_clock_ns() | 1;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return chance = x;
}

static uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* ---- gets ---- */

#define OWED_ONE (LRD_SPECIAL_OWED & (0u - LRD_SPECIAL_OWED))

static uint32_t soon(const struct lrd_attachment *at) { return 1 + (next_chance() & (smaller(at->time_each, JITTER) - 1)); }

/* Loads and stores: of two threads that are here at once, one may be forgotten, and a call more or less is timed. */
void lrd_time_due(struct lrd_attachment *at, uint64_t sum, uint64_t n)
{
    uint32_t each = at->time_each, special = lrd_load32_relaxed(&at->special);
    if (each == 0 || (sum & (each - 1)) >= n)
        return;
    if ((special & LRD_SPECIAL_DUE) == 0)
        lrd_store32_relaxed(&at->special, special | soon(at));
    else if ((special & LRD_SPECIAL_OWED) != LRD_SPECIAL_OWED) /* hits and misses come due together */
        lrd_store32_relaxed(&at->special, special + OWED_ONE);
}

bool lrd_time_taken(struct lrd_attachment *at)
{
    uint32_t special = lrd_load32_relaxed(&at->special), due = special & LRD_SPECIAL_DUE;
    if (due == 0)
        return false;
    special--;
    if (due == 1 && (special & LRD_SPECIAL_OWED) != 0)
        special = special - OWED_ONE + soon(at);
    lrd_store32_relaxed(&at->special, special);
    return due == 1;
}

/* ---- other calls ---- */

uint64_t lrd_time_begin_slowly(const struct lrd_attachment *at)
{
    bool first = chance == 0;
    uint32_t each = at->time_each != 0 ? at->time_each : UNTIMED_EACH, some = next_chance() & (each - 1);
    /* From half to one and a half of it. A thread begins anywhere in it: of many that end after a few calls, one now and then is timed too. */
    lrd_untimed = first ? 1 + some : 1 + each / 2 + some;
    return at->time_each == 0 || (first && each > 1) ? 0 : lrd_clock_ns();
}

void lrd_time_add(const struct lrd_attachment *at, enum larder_op op, uint64_t ns) { lrd_latency_record(&at->ring.lane->latency[op], ns); }

/* ---- looking ---- */

int larder_latency(struct larder *h, int op, double quantile, uint64_t *ns)
{
    if (ns != NULL)
        *ns = 0;
    if (h == NULL || ns == NULL || op < 0 || op >= LARDER_OPS || !(quantile >= 0 && quantile <= 1)) /* NaN is neither */
        return -EINVAL;
    const struct lrd_attachment *at = lrd_current(h, h->here);
    if (at == NULL)
        return lrd_no_attachment(h);
    const struct lrd_latency *l = &at->ring.lane->latency[op];
    uint64_t count = lrd_latency_count(l);
    if (count == 0)
        return LARDER_MISS;
    *ns = lrd_latency_quantile(l, quantile, count);
    return 0;
}
