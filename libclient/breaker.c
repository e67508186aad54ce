/* The breaker: writes that are refused go to a fallback of the application's, and while nothing but that can be expected, they go there at once.
 *
 *   closed      writes are tried; one that is refused (LARDER_BUSY, LARDER_DOWN, LARDER_FULL) goes to the fallback
 *   open        there was nothing but that refusal for longer than its threshold: writes go to the fallback without being tried
 *   half open   probe_ms later one write is tried. Taken: closed. Else open for another probe_ms
 *
 * Three switches: busy and down for the handle, full for each of its namespaces. A switch is one word, so that threads need no lock:
 *
 *   0                          closed, nothing was refused since the last write that was taken
 *   since:62 | 0 | 0           closed, refused since then
 *   probe:62 | open | trying   open until then; trying: somebody has gone to see, which is for people who look
 *
 * The word `tripped` counts the switches that are not 0. While it is 0 a write pays one load and a branch for all this (lrd_breaker_is_quiet()), else a look at the three
 * that concern it; if one of them is not 0 it comes here, is tried or not, and its result moves the switches:
 *   taken       closes busy and down, and full if it was a write that FULL could have refused; a delete never is, so it passes an open full and says nothing about it
 *   FULL        the daemon has answered: closes busy and down
 *   BUSY, DOWN  end a run of the other one; what is open stays open
 * A write that began before a switch opened and is taken after it closes it all the same: it was taken.
 *
 * Everything stands in the page that fork empties: a child begins closed. The options and the callback are in a list that only grows until the handle is closed, published by one
 * store, so a thread may still call the former callback while larder_set_fallback() returns.
 *
 *   any thread   larder_set_fallback, larder_breaker, lrd_breaker_write   beside each other and everything but close
 *
 * A thread that ends in the middle leaves at most `trying` set; the time beside it lets the next one go.
 */
#include "libclient/client.h"

#include <errno.h>
#include <stdlib.h>

#define BUSY_MS 20u
#define PROBE_MS 100u

#define TRYING UINT64_C(1)
#define OPEN UINT64_C(2)
#define TIME_SHIFT 2u

struct lrd_fallback {
    larder_fallback call; /* NULL: none */
    void *context;
    uint64_t busy_ns, full_ns, down_ns, probe_ns;
    struct lrd_fallback *older;
};

static bool is_open(uint64_t word) { return (word & OPEN) != 0; }
static uint64_t time_of(uint64_t word) { return word >> TIME_SHIFT; }

/* ---- a switch ---- */

/* All of it relaxed, as far as lrd_cas() is: the words publish nothing. */
static void note_refusal(struct lrd_private *here, lrd_u64 *word, uint64_t threshold_ns, uint64_t probe_ns, uint64_t now)
{
    uint64_t was = lrd_load_relaxed(word), want;
    do {
        uint64_t since = was == 0 || time_of(was) > now ? now : time_of(was);
        if (is_open(was))
            return;
        want = now - since >= threshold_ns ? (now + probe_ns) << TIME_SHIFT | OPEN : since << TIME_SHIFT;
        if (want == was)
            return;
    } while (!lrd_cas(word, &was, want));
    if (was == 0)
        lrd_fetch_add_relaxed(&here->tripped, 1);
}

/* Back to 0; what is open only if even_open. */
static void close_switch(struct lrd_private *here, lrd_u64 *word, bool even_open)
{
    uint64_t was = lrd_load_relaxed(word);
    while (was != 0 && (even_open || !is_open(was)))
        if (lrd_cas(word, &was, 0)) {
            lrd_fetch_add_relaxed(&here->tripped, UINT64_MAX);
            return;
        }
}

static void stop_trying(lrd_u64 *word)
{
    uint64_t was = lrd_load_relaxed(word);
    while ((was & TRYING) != 0 && !lrd_cas(word, &was, was & ~TRYING)) {
    }
}

/* ---- the switches that concern a write ---- */

#define SWITCHES 3u

struct concern {
    lrd_u64 *word[SWITCHES];
    int reason[SWITCHES];
    unsigned n;
};

static struct concern concern_of(struct larder_ns *ns, bool is_delete)
{
    struct lrd_breaker_state *s = &ns->here->breaker;
    return (struct concern){{&s->down, &s->busy, &s->full[ns->number]}, {LARDER_DOWN, LARDER_BUSY, LARDER_FULL}, is_delete ? 2 : SWITCHES};
}

/* Nobody goes for the first n: as they were, the next one may. */
static void leave(const struct concern *c, unsigned n, const uint64_t was[SWITCHES], uint64_t trying)
{
    for (unsigned i = 0; i < n; i++)
        for (uint64_t now = trying; is_open(was[i]) && now == trying && !lrd_cas(c->word[i], &now, was[i]);) {
        }
}

__attribute__((noinline, cold)) bool lrd_breaker_concerns(const struct larder_ns *ns)
{
    const struct lrd_breaker_state *s = &ns->here->breaker;
    return (lrd_load_relaxed(&s->down) | lrd_load_relaxed(&s->busy) | lrd_load_relaxed(&s->full[ns->number])) != 0;
}

/* 0: the write may be tried, *probe says whether as a probe; else why it may not. */
static int gate(const struct concern *c, uint64_t probe_ns, bool *probe)
{
    uint64_t was[SWITCHES], now = lrd_clock_ns(), trying = (now + probe_ns) << TIME_SHIFT | OPEN | TRYING;
    for (unsigned i = 0; i < c->n; i++) {
        was[i] = lrd_load_relaxed(c->word[i]);
        if (is_open(was[i]) && time_of(was[i]) > now)
            return c->reason[i];
    }
    for (unsigned i = 0; i < c->n; i++) {
        if (!is_open(was[i]))
            continue;
        uint64_t time = was[i] >> TIME_SHIFT;
        while (!lrd_cas(c->word[i], &was[i], trying))
            if (!is_open(was[i]) || time_of(was[i]) != time) {
                leave(c, i, was, trying);
                return c->reason[i]; /* another thread goes */
            }
        *probe = true;
    }
    return 0;
}

static void note_result(struct larder_ns *ns, const struct lrd_fallback *f, const struct concern *c, int r)
{
    struct lrd_private *here = ns->here;
    struct lrd_breaker_state *s = &here->breaker;
    switch (r) {
    case 0:
        for (unsigned i = 0; i < c->n; i++)
            close_switch(here, c->word[i], true);
        break;
    case LARDER_BUSY:
        close_switch(here, &s->down, false);
        note_refusal(here, &s->busy, f->busy_ns, f->probe_ns, lrd_clock_ns());
        break;
    case LARDER_DOWN:
        close_switch(here, &s->busy, false);
        note_refusal(here, &s->down, f->down_ns, f->probe_ns, lrd_clock_ns());
        break;
    case LARDER_FULL:
        close_switch(here, &s->down, true);
        close_switch(here, &s->busy, true);
        note_refusal(here, &s->full[ns->number], f->full_ns, f->probe_ns, lrd_clock_ns());
        break;
    default:
        break;
    }
}

/* ---- a write ---- */

/* What no daemon would take is the caller's to mend, not the fallback's. As far as is known without one. */
static int bad_write(struct larder_ns *ns, const struct lrd_write *w)
{
    /* Acquire: as lrd_current(); but a child without a daemon does not look for one here. */
    const struct lrd_attachment *at = atomic_load_explicit(&ns->here->at, memory_order_acquire);
    struct lrd_ready ready;
    return at == NULL ? 0 : lrd_write_ready(at, lrd_ns_index(at, ns), w, lrd_clock_segment_ms(at->zero_ns), &ready);
}

static int divert(struct larder_ns *ns, const struct lrd_write *w, const struct lrd_fallback *f, int reason, const struct larder_set_options *options)
{
    int r = bad_write(ns, w);
    if (r != 0)
        return r;
    const struct larder_diverted d = {.size = sizeof d,
                                      .ns = ns,
                                      .kind = w->kind == LRD_RECORD_DELETE ? LARDER_WRITE_DELETE : LARDER_WRITE_SET,
                                      .reason = reason,
                                      .key = w->key,
                                      .key_size = w->key_len,
                                      .value = w->value,
                                      .value_size = w->value_len,
                                      .options = options};
    lrd_fetch_add_relaxed(&ns->here->breaker.diverted[ns->number], 1);
    f->call(f->context, &d);
    return LARDER_DIVERTED;
}

static bool is_refusal(int r) { return r == LARDER_BUSY || r == LARDER_FULL || r == LARDER_DOWN; }

__attribute__((noinline)) int lrd_breaker_write(struct larder_ns *ns, const struct lrd_write *w, int r, uint64_t end_ns, const struct larder_set_options *options,
                                                struct lrd_attachment **at, uint64_t *position)
{
    static const struct lrd_fallback none;
    /* Acquire: pairs with the release in larder_set_fallback(). */
    const struct lrd_fallback *f = atomic_load_explicit(&ns->handle->fallback, memory_order_acquire);
    if (f == NULL)
        f = &none;
    const struct concern c = concern_of(ns, w->kind == LRD_RECORD_DELETE);
    bool probe = false;
    if (r == LRD_ELSEWHERE) {
        bool quiet = lrd_breaker_is_quiet(ns);
        if (!quiet && f->call != NULL) {
            int reason = gate(&c, f->probe_ns, &probe);
            if (reason != 0)
                return divert(ns, w, f, reason, options);
        }
        r = lrd_write_anywhere(ns, w, end_ns, at, position);
        if (quiet && r == 0)
            return 0;
    }
    if (f->call != NULL || r == 0)
        note_result(ns, f, &c, r);
    if (probe)
        for (unsigned i = 0; i < c.n; i++)
            stop_trying(c.word[i]);
    return f->call != NULL && is_refusal(r) ? divert(ns, w, f, r, options) : r;
}

/* ---- setting, looking ---- */

static uint64_t ms_or(uint32_t ms, uint32_t otherwise) { return (uint64_t)(ms != 0 ? ms : otherwise) * 1000000u; }

int larder_set_fallback(struct larder *h, larder_fallback fallback, void *context, const struct larder_breaker_options *options)
{
    static const struct larder_breaker_options usual = {.size = sizeof usual};
    if (h == NULL || (options != NULL && options->size < sizeof *options))
        return -EINVAL;
    if (h->closed)
        return -EBADF;
    const struct larder_breaker_options *o = options != NULL ? options : &usual;
    struct lrd_fallback *f = malloc(sizeof *f);
    if (f == NULL)
        return -ENOMEM;
    *f = (struct lrd_fallback){fallback, context, ms_or(o->busy_ms, BUSY_MS), ms_or(o->full_ms, 0), ms_or(o->down_ms, 0), ms_or(o->probe_ms, PROBE_MS), NULL};
    f->older = atomic_load_explicit(&h->fallback, memory_order_relaxed);
    /* Release: publishes what it points to; pairs with the acquire in lrd_breaker_write(). One store, so that a process forked at any instant finds a whole list. */
    while (!atomic_compare_exchange_weak_explicit(&h->fallback, &f->older, f, memory_order_release, memory_order_relaxed)) {
    }
    struct lrd_breaker_state *s = &h->here->breaker;
    close_switch(h->here, &s->busy, true);
    close_switch(h->here, &s->down, true);
    for (unsigned i = 0; i < LRD_NAMESPACES; i++)
        close_switch(h->here, &s->full[i], true);
    return 0;
}

int larder_breaker(struct larder_ns *ns, uint64_t *diverted)
{
    if (ns == NULL)
        return -EINVAL;
    if (ns->handle->closed)
        return -EBADF;
    if (diverted != NULL)
        *diverted = lrd_load_relaxed(&ns->here->breaker.diverted[ns->number]);
    const struct concern c = concern_of(ns, false);
    uint64_t now = lrd_clock_ns();
    int state = LARDER_BREAKER_CLOSED;
    for (unsigned i = 0; i < c.n; i++) {
        uint64_t word = lrd_load_relaxed(c.word[i]);
        if (is_open(word) && (word & TRYING) == 0 && time_of(word) > now)
            return LARDER_BREAKER_OPEN;
        if (is_open(word))
            state = LARDER_BREAKER_HALF_OPEN;
    }
    return state;
}

uint64_t lrd_breaker_diverted(const struct larder *h)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < LRD_NAMESPACES; i++)
        sum += lrd_load_relaxed(&h->here->breaker.diverted[i]);
    return sum;
}

void lrd_breaker_free(struct larder *h)
{
    for (struct lrd_fallback *f = atomic_load_explicit(&h->fallback, memory_order_relaxed), *older; f != NULL; f = older) {
        older = f->older;
        free(f);
    }
    atomic_store_explicit(&h->fallback, NULL, memory_order_relaxed);
}
