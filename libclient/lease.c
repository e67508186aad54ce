/* One flight: of all who miss a key at once, in whatever process, one loads the value, and the others wait for it or take the old one.
 *
 *   get -> fresh, or known to be absent: that is all; a get and a comparison
 *       -> missing or stale: does somebody hold the lease?   no: ask the writer for it (LRD_RECORD_LEASE)   granted: LARDER_LEASE
 *                                                            yes: stale: LARDER_OLD; missing: watch the key, look again, sleep, begin again
 *
 * The writer decides who gets the lease, when it comes to the record: a lease is part of the item (shm/layout.h, struct lrd_lease), so it survives the worker, and whatever replaces the item ends it. What is looked at
 * here only saves asking in vain: somebody who holds a lease is told by the item's words, and that he is alive by the state of his lane.
 *
 * Who waits is rung when the item changes, when its namespace is reset, and when any lane ends (watch.c); by himself he wakes at his own deadline and at the lease's. So it goes on as soon as the value is there, the lease was
 * given back, or its holder has died: his lane is LIVE, then DYING while the writer applies what is left in it (perhaps the value), then FREE, and only then somebody else is the holder.
 * No waiter is promised to be the next; one of them is.
 *
 * A process that dies
 *   before its record is committed      has asked nothing
 *   behind that                         may be granted a lease that nobody knows of: its lane ends, and the lease with it
 *   with a lease                        as above
 *   waiting                             leaves a watch, which goes with its lane
 * A caller that does not learn in a second what became of its record (LARDER_TIMEOUT) may have a lease without knowing; it ends by its own deadline.
 *
 * Threads of one process wait for each other as processes do.
 */
#include "libclient/client.h"

#include <errno.h>
#include <string.h>

#include "shm/table.h"

#define LEASE_MS 10000u
#define LEASE_MOST_MS 3600000u
#define WAIT_MS 1000u
#define TURNS_MOST 3u /* that the writer may say that there is something, and we see nothing, before it is a matter of the clocks */
#define LEAST_SLEEP_NS UINT64_C(1000000) /* a deadline is over a tick of the coarse clock after it is over: no turns without sleep until then */

static uint64_t ns_of_ms(uint32_t ms) { return ms * UINT64_C(1000000); }

/* ---- who holds it ---- */

/* As the writer sees it (is_held() of daemon/decide.c). Acquire: whoever sees the lane ended, sees what was applied of it before. */
static bool is_live(const struct lrd_attachment *at, const struct lrd_lease *lease)
{
    uint32_t lane = (uint32_t)(lease->holder >> 32), incarnation = (uint32_t)lease->holder;
    if (lease->token == 0 || lane >= at->r.geometry.n_lanes || lease->deadline_ms <= lrd_clock_segment_ms(at->zero_ns))
        return false;
    uint32_t state = lrd_load32_acquire(&at->r.lanes[lane].state);
    return (state == LRD_LANE_LIVE || state == LRD_LANE_DYING) && lrd_load32_relaxed(&at->r.lanes[lane].incarnation) == incarnation;
}

/* Whether the visible item of the key has a live lease, and until when (segment time). */
static bool is_held(const struct larder_ns *ns, const struct lrd_attachment *at, const void *key, size_t key_size, uint64_t *deadline_ms)
{
    unsigned char nowhere;
    struct lrd_get get = {.key = key,
                          .key_len = (uint32_t)key_size,
                          .ns = lrd_ns_index(at, ns),
                          .hash = lrd_ns_hash(at, ns, key, key_size),
                          .buffer = &nowhere, /* and no room there: the value is not wanted */
                          .zero_ns = at->zero_ns};
    (void)lrd_table_search(&at->r, &get, NULL);
    *deadline_ms = get.words.lease.deadline_ms;
    return get.slot != 0 && lrd_item_kind(get.head) != LRD_ITEM_PLAIN && is_live(at, &get.words.lease);
}

/* ---- asking for it ---- */

struct flight {
    struct larder_ns *ns;
    const void *key;
    size_t key_size;
    struct larder_item *item;
    uint32_t lease_ms, wait_ms;
    uint64_t end_ns;       /* of waiting; 0: it has not begun */
    bool fresh_only;
    int found;             /* what the last get said */
    unsigned turns;        /* that found the writer of another opinion */
    /* the watch */
    const struct lrd_attachment *watched; /* NULL: none */
    uint32_t rung;
    uint64_t worker_count;
};

/* 0 and *token; LARDER_EXISTS: there is something now; LARDER_HELD; other results of a conditional write. */
static int ask(const struct flight *f, uint64_t *token)
{
    struct lrd_op op = {.w = {.kind = LRD_RECORD_LEASE, .key = f->key, .key_len = (uint32_t)f->key_size, .ttl_ms = f->lease_ms}};
    struct lrd_answered a = {0};
    int r = lrd_operate(f->ns, &op, &a);
    if (r == 0)
        r = lrd_answer_result(&a);
    if (r == 0)
        *token = a.version;
    return r;
}

/* ---- waiting ---- */

static uint64_t lease_end_ns(const struct lrd_attachment *at, uint64_t deadline_ms) { return at->zero_ns + deadline_ms * UINT64_C(1000000); }

/* Is rung from here on. Then the item is to be looked at again before sleep. 0; a write's result. Where the call's end, or a nap, is over before the handle's time for room is: 0 as well. */
static int watch(struct flight *f, struct lrd_attachment *at)
{
    uint64_t busy_ns = lrd_busy_end(f->ns->handle);
    f->worker_count = lrd_load_acquire(&at->r.header->worker_count); /* before: a worker that comes meanwhile has not heard of us */
    int r = lrd_watch_key(f->ns, at, lrd_ns_hash(at, f->ns, f->key, f->key_size), f->end_ns, &f->rung);
    f->watched = r == 0 ? at : NULL;
    return r == LRD_ELSEWHERE || r == LARDER_LOST || (r == LARDER_BUSY && lrd_clock_ns() < busy_ns) ? 0 : r;
}

/* What was said to the writer still holds: it has not rung, and it is the same. Else nobody listens for us any more. */
static bool is_watched(const struct flight *f, const struct lrd_attachment *at)
{
    return f->watched == at && lrd_load32_acquire(&at->words->rung) == f->rung && lrd_load_acquire(&at->r.header->worker_count) == f->worker_count;
}

/* What a call comes to that has to wait; 0: it may. */
static int may_wait(struct flight *f, uint64_t now)
{
    if (f->found == 0 && !f->fresh_only)
        return LARDER_OLD;
    if (f->wait_ms == LARDER_NO_WAIT)
        return LARDER_HELD;
    if (f->end_ns == 0)
        f->end_ns = now + ns_of_ms(f->wait_ms);
    return now >= f->end_ns ? LARDER_TIMEOUT : 0;
}

/* Another holds the lease. 0: look again; anything else: that is the call's result. */
static int wait_for_holder(struct flight *f, struct lrd_attachment *at, uint64_t deadline_ms)
{
    uint64_t now = lrd_clock_ns();
    int r = may_wait(f, now);
    if (r != 0)
        return r;
    if (!is_watched(f, at))
        return watch(f, at);
    uint64_t end = lease_end_ns(at, deadline_ms);
    if (end < now + LEAST_SLEEP_NS)
        end = now + LEAST_SLEEP_NS;
    lrd_watch_wait(at, f->rung, end < f->end_ns ? end : f->end_ns);
    return 0;
}

/* The writer has found something else than we did. As a rule it has changed in between, and the next look shows it; else our clocks do not agree yet about a value that expires or becomes stale, which time mends: here it is
 * waited for, without the writer. As wait_for_holder(). */
static int wait_for_clock(struct flight *f, struct lrd_attachment *at)
{
    if (++f->turns <= TURNS_MOST)
        return 0;
    uint64_t now = lrd_clock_ns();
    int r = may_wait(f, now);
    if (r == 0)
        lrd_watch_wait(at, lrd_load32_acquire(&at->words->rung), now + LEAST_SLEEP_NS);
    return r;
}

/* ---- get_or_lease ---- */

/* Whether what a get said is not to be changed by a lease: a fresh value, one that does not fit, a key known to be absent, and all that went wrong. */
static bool is_settled(const struct flight *f) { return f->found == 0 ? f->item->soft_ttl_ms != 0 : f->found != LARDER_MISS; }

/* Nobody holds the lease, as far as we see. True: *r is the call's result. */
static bool try_to_hold(struct flight *f, uint64_t *token, int *r)
{
    *r = ask(f, token);
    if (*r == 0)
        *r = LARDER_LEASE;
    else if (*r == LARDER_EXISTS || *r == LARDER_DISCARDED || *r == LARDER_LOST)
        return false; /* there is something else than there was: look again */
    return *r != LARDER_HELD;
}

static __attribute__((noinline)) int fly(struct flight *f, uint64_t *token)
{
    for (;;) {
        struct lrd_attachment *at = lrd_current(f->ns->handle, f->ns->here);
        uint64_t deadline_ms = 0;
        int r = 0;
        if (at == NULL)
            return lrd_no_attachment(f->ns->handle);
        if (!is_held(f->ns, at, f->key, f->key_size, &deadline_ms) && try_to_hold(f, token, &r))
            return r == LARDER_LEASE || f->fresh_only || f->found != 0 ? r : LARDER_OLD; /* an old value is better than a reason why there is no lease */
        r = r == 0 || r == LARDER_HELD ? wait_for_holder(f, at, deadline_ms) : wait_for_clock(f, at);
        if (r != 0)
            return r;
        f->found = larder_get_item(f->ns, f->key, f->key_size, f->item);
        if (is_settled(f))
            return f->found;
    }
}

static int take_options(struct flight *f, const struct larder_lease_options *o)
{
    f->lease_ms = LEASE_MS;
    f->wait_ms = WAIT_MS;
    if (o == NULL)
        return 0;
    if (o->size < sizeof *o || (o->how & ~LARDER_LEASE_FRESH) != 0 || o->lease_ms > LEASE_MOST_MS || o->reserved != 0)
        return -EINVAL;
    if (o->lease_ms != 0)
        f->lease_ms = o->lease_ms;
    if (o->wait_ms != 0)
        f->wait_ms = o->wait_ms;
    f->fresh_only = (o->how & LARDER_LEASE_FRESH) != 0;
    return 0;
}

int larder_get_or_lease(struct larder_ns *ns, const void *key, size_t key_size, struct larder_item *item, const struct larder_lease_options *options, uint64_t *token)
{
    struct flight f = {.ns = ns, .key = key, .key_size = key_size, .item = item};
    if (token != NULL)
        *token = 0;
    if (lrd_unlikely(token == NULL || take_options(&f, options) != 0))
        return -EINVAL;
    f.found = larder_get_item(ns, key, key_size, item); /* looks at all the rest */
    if (lrd_likely(is_settled(&f)))
        return f.found;
    struct lrd_attachment *at = lrd_current(ns->handle, ns->here);
    uint64_t began = at != NULL ? lrd_time_begin(at) : 0;
    int r = fly(&f, token);
    if (at != NULL)
        lrd_time_end(at, LARDER_OP_LEASE, began);
    return r;
}

int larder_lease_abort(struct larder_ns *ns, const void *key, size_t key_size, uint64_t token)
{
    if (ns == NULL || !lrd_key_ok(key, key_size) || token == 0)
        return -EINVAL;
    struct lrd_op op = {.w = {.kind = LRD_RECORD_LEASE_END, .key = key, .key_len = (uint32_t)key_size, .ttl_ms = LARDER_TTL_NONE}, .args = {.version = token}};
    struct lrd_answered a = {0};
    int r = lrd_operate(ns, &op, &a);
    if (r == 0)
        r = lrd_answer_result(&a);
    return r == LARDER_DISCARDED || r == LARDER_LOST ? LARDER_VOID : r; /* a reset, or the daemon's end, was the lease's end */
}

/* ---- fetch ---- */

/* Puts what was loaded under the lease. 0 and *version; a conditional write's result. */
static int put(struct larder_ns *ns, const void *key, size_t key_size, const struct larder_loaded *loaded, bool absent, uint64_t token, uint64_t *version)
{
    struct lrd_op op = {
        .w = {.kind = LRD_RECORD_PUT, .key = key, .key_len = (uint32_t)key_size, .item_kind = LRD_ITEM_ABSENT, .flags = loaded->flags, .ttl_ms = loaded->ttl_ms},
        .args = {.condition = LRD_IF_LEASE, .version = token}};
    struct lrd_answered a = {0};
    if (loaded->value_size > LRD_VALUE_MAX || loaded->ttl_ms < LARDER_TTL_NONE || loaded->soft_ttl_ms < 0)
        return -EINVAL;
    if (!absent) {
        op.w.item_kind = loaded->soft_ttl_ms != 0 ? LRD_ITEM_SOFT : LRD_ITEM_PLAIN;
        op.w.soft_ttl_ms = loaded->soft_ttl_ms;
        op.w.value = loaded->value;
        op.w.value_len = (uint32_t)loaded->value_size;
    }
    int r = lrd_operate(ns, &op, &a);
    if (r == 0)
        r = lrd_answer_result(&a);
    if (r == 0)
        *version = a.version;
    return r;
}

/* Whether the lease is as it was: nothing was written. */
static bool is_still_held(int result)
{
    return result != 0 && result != LARDER_VOID && result != LARDER_DISCARDED && result != LARDER_TIMEOUT && result != LARDER_LOST;
}

static int64_t ttl_of(const struct larder_ns *ns, int64_t ttl_ms)
{
    if (ttl_ms != LARDER_TTL_DEFAULT)
        return ttl_ms;
    const struct lrd_attachment *at = lrd_current(ns->handle, ns->here);
    uint64_t by_default = at != NULL ? lrd_load_relaxed(&at->r.namespaces[lrd_ns_index(at, ns)].default_ttl_ms) : 0; /* relaxed, as for a write */
    return by_default != 0 ? (int64_t)by_default : LARDER_TTL_NONE;
}

/* Gives the caller what was loaded. */
static int hand_over(const struct larder_ns *ns, const struct larder_loaded *loaded, bool absent, uint64_t version, struct larder_item *item)
{
    bool fits = absent || loaded->value_size <= item->capacity;
    item->value_size = absent ? 0 : loaded->value_size;
    item->version = version;
    item->ttl_ms = ttl_of(ns, loaded->ttl_ms);
    item->soft_ttl_ms = !absent && loaded->soft_ttl_ms != 0 ? loaded->soft_ttl_ms : LARDER_TTL_NONE;
    item->flags = loaded->flags;
    item->result = absent ? LARDER_ABSENT : fits ? LARDER_OK : LARDER_TOO_SMALL;
    if (fits && item->value_size > 0)
        memcpy(item->buffer, loaded->value, loaded->value_size);
    return item->result;
}

/* token 0: the value is loaded for this caller alone. */
static int load(struct larder_ns *ns, const void *key, size_t key_size, larder_loader loader, void *context, struct larder_item *item, uint64_t token)
{
    struct larder_loaded loaded = {.size = sizeof loaded};
    uint64_t version = 0;
    int r = loader(context, key, key_size, &loaded);
    if (r == 0 && loaded.value == NULL && loaded.value_size != 0)
        r = -EINVAL;
    bool there = r == 0 || r == LARDER_ABSENT;
    /* A value that cannot be stored is a value all the same; the others must not wait for it until the lease ends. */
    if (token != 0 && (!there || is_still_held(put(ns, key, key_size, &loaded, r == LARDER_ABSENT, token, &version))))
        (void)larder_lease_abort(ns, key, key_size, token);
    if (there)
        r = hand_over(ns, &loaded, r == LARDER_ABSENT, version, item);
    if (loaded.release != NULL)
        loaded.release(context, loaded.value);
    return r;
}

int larder_fetch(struct larder_ns *ns, const void *key, size_t key_size, larder_loader loader, void *context, struct larder_item *item, const struct larder_lease_options *options)
{
    uint64_t token;
    if (lrd_unlikely(loader == NULL))
        return -EINVAL;
    int r = larder_get_or_lease(ns, key, key_size, item, options, &token);
    switch (r) {
    case LARDER_OLD:
        return 0;
    case LARDER_LEASE:
        return load(ns, key, key_size, loader, context, item, token);
    case LARDER_BUSY:
    case LARDER_DOWN:
    case LARDER_FULL:
    case LARDER_STALE:
    case LARDER_NO_NAMESPACE:
    case -E2BIG: /* a stale value with no room for a lease beside it, which the caller does not want */
        return load(ns, key, key_size, loader, context, item, 0);
    default:
        return r;
    }
}
