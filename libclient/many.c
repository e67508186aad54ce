/* Many writes in one call: one claim, one doorbell for as many records as there is room for.
 *
 *   gather     as many records as stand in `ready` and half a ring: checked, hashed, paid for where eviction is refused. What cannot be written gets its result and is left out
 *   claim      one compare-and-swap for all of them; the ring has less room: for half as many, and so on; none for one: wait for that one
 *   place      one after the other: fill, commit, raise. The writer begins with the first while the second is filled
 *   doorbell   once
 *   settle     what was refused goes to the fallback, if there is one (breaker.c): behind the records before it, so the array's order holds there as well
 *
 * A process that dies in the middle leaves what it has committed, and a hole in its own ring (set.c). Nothing waits while cells are claimed: credit is asked for before, and
 * the fallback is called after.
 *
 * While a switch of the breaker is not 0, and for a write that has a result to wait for, records go one by one.
 */
#include "libclient/client.h"

#include <errno.h>

#include "shm/testpoint.h"
#include "shm/wait.h"

#define GATHER 64u /* records to a claim, at most: 6 KiB of stack, and what is left of the claim's price for a record is below an instruction */

struct batch {
    struct larder_ns *ns;
    struct larder_write *writes;
    size_t stride;
    size_t n;
    bool deletes;
    bool late;       /* the ring stayed full until the deadline */
    bool refused;    /* something of this claim was */
    bool waits;      /* for visibility, some at least */
    uint64_t end_ns; /* the deadline of the whole call for room in the ring; 0: nothing had to wait yet */
    /* of one claim */
    struct lrd_ready ready[GATHER];
    size_t of[GATHER]; /* which of the writes it is */
    unsigned n_ready;
};

static struct larder_write *write_at(const struct batch *b, size_t i) { return (struct larder_write *)(void *)((unsigned char *)b->writes + i * b->stride); }

static bool is_refusal(int r) { return r == LARDER_BUSY || r == LARDER_FULL || r == LARDER_DOWN; }

static const struct larder_set_options *options_of(const struct batch *b, const struct larder_write *u) { return b->deletes ? NULL : u->options; }

/* The write that the caller means, as larder_set() and larder_delete() would have it. */
static int make_write(struct batch *b, const struct larder_write *u, struct lrd_write *w)
{
    if (!lrd_key_ok(u->key, u->key_size))
        return -EINVAL;
    *w = (struct lrd_write){.key = u->key, .key_len = (uint32_t)u->key_size};
    if (b->deletes) {
        w->kind = LRD_RECORD_DELETE;
        w->ttl_ms = LARDER_TTL_NONE;
        return 0;
    }
    if (u->value == NULL && u->value_size != 0)
        return -EINVAL;
    if (u->value_size > LRD_VALUE_MAX)
        return -E2BIG;
    w->kind = LRD_RECORD_SET;
    w->value = u->value;
    w->value_len = (uint32_t)u->value_size;
    if (lrd_likely(u->options == NULL))
        return 0; /* LARDER_TTL_DEFAULT is 0 */
    int r = lrd_write_of_set(w, u->options);
    b->waits = b->waits || (r == 0 && (u->options->how & LARDER_SET_WAIT) != 0);
    return r;
}

/* ---- one by one ---- */

/* r: what became of it so far; LRD_ELSEWHERE: not tried. */
static void write_one(struct batch *b, struct larder_write *u, int r)
{
    struct lrd_write w;
    struct lrd_attachment *at;
    uint64_t position;
    if (r == LRD_ELSEWHERE && b->end_ns == 0)
        b->end_ns = lrd_busy_end(b->ns->handle);
    int bad = make_write(b, u, &w);
    u->ticket = 0;
    u->result = bad != 0 ? bad : lrd_breaker_write(b->ns, &w, b->late && r == LRD_ELSEWHERE ? LARDER_BUSY : r, b->end_ns, options_of(b, u), &at, &position);
    if (u->result != 0)
        return;
    u->ticket = lrd_ticket_make(at, position);
    uint32_t index = lrd_ns_index(at, b->ns);
    if (index != LRD_NS_NOWHERE && lrd_load32_relaxed(&at->r.namespaces[index].policy) == LRD_POLICY_REFUSE)
        b->end_ns = 0; /* as in gather() */
}

static bool has_token(const struct batch *b, const struct larder_write *u)
{
    const struct larder_set_options *o = options_of(b, u);
    return o != NULL && o->size >= sizeof *o && o->token != 0;
}

/* ---- one claim ---- */

/* From the i-th write on. The first that is not in it, nor has got a result; LRD_ELSEWHERE in *r: begin again. */
static size_t gather(struct batch *b, struct lrd_attachment *at, uint32_t index, uint64_t now_ms, size_t i, int *r)
{
    bool refuses = lrd_load32_relaxed(&at->r.namespaces[index].policy) == LRD_POLICY_REFUSE; /* relaxed: as in a single write */
    uint32_t cells = 0;
    b->n_ready = 0;
    b->refused = false;
    for (*r = 0; i < b->n && b->n_ready < GATHER; i++) {
        struct larder_write *u = write_at(b, i);
        struct lrd_ready *ready = &b->ready[b->n_ready];
        struct lrd_write w;
        if (has_token(b, u))
            break;
        u->ticket = 0;
        u->result = make_write(b, u, &w);
        if (lrd_unlikely(u->result != 0) || lrd_unlikely((u->result = lrd_write_ready(at, index, &w, now_ms, ready)) != 0))
            continue;
        if (b->n_ready > 0 && cells + ready->need.cells > at->ring.n_cells / 2)
            break;
        uint64_t credit_end_ns = 0; /* each its own: what is granted is progress, and the first that is not answered in time ends it for all */
        if (lrd_unlikely(refuses) && (u->result = lrd_write_pay(b->ns->handle, at, ready, &credit_end_ns)) != 0) {
            b->refused = true;
            if (u->result == LARDER_FULL)
                continue;
            *r = u->result;
            b->late = b->late || *r == LARDER_BUSY;
            return i + 1;
        }
        cells += ready->need.cells;
        b->of[b->n_ready++] = i;
    }
    return i;
}

static void unpay_from(const struct batch *b, const struct lrd_attachment *at, unsigned from)
{
    for (unsigned k = from; k < b->n_ready; k++)
        lrd_write_unpay(at, &b->ready[k]);
}

/* How many of those that are ready have their cells; they begin at *position. 0: *r says why. */
static unsigned claim(struct batch *b, struct lrd_attachment *at, uint64_t *position, int *r)
{
    for (unsigned k = b->n_ready; k > 0; k /= 2) {
        uint32_t cells = 0;
        for (unsigned i = 0; i < k; i++)
            cells += b->ready[i].need.cells;
        if (lrd_ring_claim(&at->ring, at->words, &at->seen, cells, position))
            return k;
    }
    if (b->end_ns == 0)
        b->end_ns = lrd_busy_end(b->ns->handle);
    *r = lrd_claim_slowly(b->ns->handle, at, b->ready[0].need.cells, b->end_ns, position);
    return *r == 0 ? 1 : 0;
}

static void place(struct batch *b, struct lrd_attachment *at, unsigned k, uint32_t epoch, uint64_t position)
{
    LRD_TESTPOINT("ring_after_claim");
    for (unsigned i = 0; i < k; i++) {
        struct larder_write *u = write_at(b, b->of[i]);
        b->ready[i].rec.epoch = epoch;
        lrd_write_place(at, position, &b->ready[i], u->key, u->value);
        u->ticket = lrd_ticket_make(at, position);
        position += b->ready[i].need.cells;
    }
    lrd_doorbell_ring(at->words, at->doorbell, &at->rung);
}

/* The first write after those that have their results now. */
static size_t write_some(struct batch *b, size_t first)
{
    struct lrd_attachment *at = lrd_current(b->ns->handle, b->ns->here);
    uint64_t position, now_ms = at == NULL ? 0 : lrd_clock_segment_ms(at->zero_ns);
    uint32_t index;
    int r = at == NULL ? lrd_no_attachment(b->ns->handle) : lrd_may_write(b->ns->handle, at, now_ms);
    if (r == 0)
        r = lrd_ns_live(b->ns, at, &index);
    if (r == LRD_ELSEWHERE)
        return first;
    if (r != 0) {
        write_one(b, write_at(b, first), r);
        return first + 1;
    }
    size_t end = gather(b, at, index, now_ms, first, &r);
    /* Before the claim, as in a single write. Pairs with the release in a reset. */
    uint32_t epoch = lrd_load32_acquire(&at->r.namespaces[index].epoch);
    if (r == LRD_ELSEWHERE) {
        unpay_from(b, at, 0); /* for the threads that still work with that one */
        return first;
    }
    if (b->n_ready > 0) {
        unsigned k = claim(b, at, &position, &r);
        unpay_from(b, at, k);
        if (k == 0 && r == LRD_ELSEWHERE)
            return first;
        if (k == 0) {
            write_at(b, b->of[0])->result = r;
            b->late = b->late || r == LARDER_BUSY;
            b->refused = true;
            end = b->of[0] + 1;
        } else {
            if (k < b->n_ready)
                end = b->of[k];
            place(b, at, k, epoch, position);
        }
    }
    for (size_t i = first; b->refused && i < end; i++)
        if (is_refusal(write_at(b, i)->result))
            write_one(b, write_at(b, i), write_at(b, i)->result);
    return end;
}

/* ---- all of them ---- */

static void wait_for_some(struct batch *b)
{
    bool all = (b->ns->handle->options.flags & LARDER_OPEN_WAIT_VISIBLE) != 0;
    if (!all && !b->waits)
        return;
    uint64_t start = lrd_clock_ns();
    for (size_t i = 0; i < b->n; i++) {
        struct larder_write *u = write_at(b, i);
        const struct larder_set_options *o = options_of(b, u);
        if (u->result == 0 && !has_token(b, u) && lrd_waits(b->ns->handle, o != NULL ? o->how : 0))
            u->result = larder_wait(b->ns->handle, u->ticket, lrd_left_ms(start + lrd_timeout_ms(o != NULL ? o->timeout_ms : 0) * UINT64_C(1000000)));
    }
}

static int write_many(struct larder_ns *ns, struct larder_write *writes, size_t n, size_t *done, bool deletes)
{
    if (done != NULL)
        *done = 0;
    if (ns == NULL || (n > 0 && (writes == NULL || writes->size < sizeof *writes || writes->size % _Alignof(struct larder_write) != 0)))
        return -EINVAL;
    struct batch b;
    b.ns = ns;
    b.writes = writes;
    b.stride = n > 0 ? writes->size : 0;
    b.n = n;
    b.deletes = deletes;
    b.late = b.refused = b.waits = false;
    b.end_ns = 0;
    for (size_t i = 0; i < n;) {
        struct larder_write *u = write_at(&b, i);
        if (has_token(&b, u)) {
            u->result = larder_set(ns, u->key, u->key_size, u->value, u->value_size, u->options, &u->ticket);
            i++;
        } else if (!lrd_breaker_is_quiet(ns) || b.late) {
            write_one(&b, u, LRD_ELSEWHERE);
            i++;
        } else
            i = write_some(&b, i);
    }
    wait_for_some(&b);
    size_t zeros = 0;
    int first = 0;
    for (size_t i = 0; i < n; i++) {
        int r = write_at(&b, i)->result;
        zeros += r == 0;
        if (first == 0)
            first = r;
    }
    if (done != NULL)
        *done = zeros;
    return first;
}

int larder_set_many(struct larder_ns *ns, struct larder_write *writes, size_t n, size_t *done) { return write_many(ns, writes, n, done, false); }

int larder_delete_many(struct larder_ns *ns, struct larder_write *writes, size_t n, size_t *done) { return write_many(ns, writes, n, done, true); }
