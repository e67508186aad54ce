/* Conditional writes: what is decided by the writer when it comes to the record, and answered through the lane.
 *
 *   check -> take a place for the result -> record with lrd_args (set.c) -> wait for its position -> read the result (result.c)
 *
 * The condition is looked at where all writes have their one order, so each is atomic across all processes, and it happens exactly once: the record is applied once, whoever is
 * killed. A call that returns before it knows the result (LARDER_TIMEOUT, LARDER_SET_ASYNC) leaves the place to its ticket. One that nobody will ask names no place.
 *
 * exchange and get_and_touch are made of a get and a write under the condition that nothing has changed since, again and again; only their last write does something.
 *
 * A process that dies anywhere here leaves what one leaves that dies in a set; what it had written is decided all the same, and its answer goes with its lane.
 */
#include "libclient/client.h"

#include <errno.h>
#include <limits.h>

/* ---- one ---- */

static int operate_in(struct larder_ns *ns, struct lrd_attachment *at, struct lrd_op *op, struct lrd_answered *a)
{
    uint64_t position = 0, began = lrd_time_begin(at);
    op->w.result = 0;
    if (!op->async || (op->ticket != NULL && !op->plain)) {
        op->w.result = lrd_result_take(at);
        if (lrd_unlikely(op->w.result == 0)) {
            /* A lane that nobody reads any more gives none back. */
            int r = lrd_may_write(ns->handle, at, lrd_clock_segment_ms(at->zero_ns));
            if (r == 0)
                lrd_count(at, LRD_STAT_BUSY, 1);
            return r != 0 ? r : LARDER_BUSY;
        }
    }
    int r = lrd_write_to(ns, at, &op->w, &position);
    if (lrd_unlikely(r != 0)) {
        if (op->w.result != 0)
            lrd_result_give_back(at, op->w.result);
        return r;
    }
    if (!op->async)
        r = lrd_result_await(ns->handle, at, op->w.result, position, lrd_timeout_ms(op->timeout_ms), a);
    lrd_time_end(at, op->async ? LARDER_OP_SET : LARDER_OP_RESULT, began);
    if (op->ticket != NULL)
        *op->ticket = lrd_ticket_make(at, position);
    if (op->w.result != 0 && (op->async || r == LARDER_TIMEOUT)) {
        if (op->ticket != NULL)
            lrd_result_hold(at, op->w.result, position);
        else
            lrd_result_abandon(at, op->w.result, position);
    }
    return r;
}

int lrd_operate(struct larder_ns *ns, struct lrd_op *op, struct lrd_answered *a)
{
    int r;
    op->w.args = &op->args;
    if (op->soft_ttl_ms != 0) { /* else what the write says: a set under a lease is made whole */
        op->w.soft_ttl_ms = op->soft_ttl_ms;
        op->w.item_kind |= LRD_ITEM_SOFT;
    }
    do {
        struct lrd_attachment *at = lrd_current(ns->handle, ns->here);
        r = at == NULL ? lrd_no_attachment(ns->handle) : operate_in(ns, at, op, a);
    } while (lrd_unlikely(r == LRD_ELSEWHERE));
    return r;
}

/* The whole of a call that has been checked. */
static int run(struct larder_ns *ns, struct lrd_op *op)
{
    struct lrd_answered a = {0};
    int r = lrd_operate(ns, op, &a);
    return r != 0 ? r : lrd_answer_result(&a);
}

/* ---- what came in ---- */

static int begin(struct larder_ns *ns, const void *key, size_t key_size, larder_ticket *ticket, uint32_t kind, struct lrd_op *op)
{
    if (ticket != NULL)
        *ticket = 0;
    if (lrd_unlikely(ns == NULL || !lrd_key_ok(key, key_size)))
        return -EINVAL;
    *op = (struct lrd_op){.w = {.kind = kind, .key = key, .key_len = (uint32_t)key_size}, .ticket = ticket};
    return 0;
}

static int take_value(struct lrd_op *op, const void *value, size_t value_size)
{
    if (value == NULL && value_size != 0)
        return -EINVAL;
    if (value_size > LRD_VALUE_MAX)
        return -E2BIG;
    op->w.value = value;
    op->w.value_len = (uint32_t)value_size;
    return 0;
}

/* What a kind of write can do with options; the others must be 0. */
enum uses { USES_NOTHING = 0, USES_TTL = 1, USES_FLAGS = 2, USES_SOFT = 4, USES_ALIGNED = 8, USES_TOKEN = 16, USES_ALL_OF_VALUE = 15 };

static bool options_ok(const struct larder_set_options *o, unsigned uses)
{
    uint32_t how = LARDER_SET_WAIT | LARDER_SET_ASYNC | ((uses & USES_ALIGNED) != 0 ? LARDER_SET_ALIGNED : 0);
    return o->size >= sizeof *o && o->reserved == 0 && (o->how & ~how) == 0 && o->ttl_ms >= LARDER_TTL_NONE && o->soft_ttl_ms >= 0 &&
           (o->ttl_ms == 0 || (uses & USES_TTL) != 0) && (o->flags == 0 || (uses & USES_FLAGS) != 0) && (o->soft_ttl_ms == 0 || (uses & USES_SOFT) != 0) &&
           (o->token == 0 || (uses & USES_TOKEN) != 0) && (o->how & (LARDER_SET_WAIT | LARDER_SET_ASYNC)) != (LARDER_SET_WAIT | LARDER_SET_ASYNC);
}

static int take_options(struct lrd_op *op, const struct larder_set_options *o, unsigned uses)
{
    if (o == NULL)
        return 0;
    if (!options_ok(o, uses))
        return -EINVAL;
    op->w.ttl_ms = o->ttl_ms;
    op->w.flags = o->flags;
    op->w.item_kind = (o->how & LARDER_SET_ALIGNED) != 0 ? LRD_ITEM_ALIGNED : 0u;
    op->soft_ttl_ms = o->soft_ttl_ms;
    op->timeout_ms = o->timeout_ms;
    op->async = (o->how & LARDER_SET_ASYNC) != 0;
    return 0;
}

/* ---- values under a condition ---- */

static int put_if(struct larder_ns *ns, const void *key, size_t key_size, const void *value, size_t value_size, enum lrd_condition condition, uint64_t version,
                  const struct larder_set_options *options, larder_ticket *ticket)
{
    struct lrd_op op;
    int r = begin(ns, key, key_size, ticket, LRD_RECORD_PUT, &op);
    if (r != 0 || (r = take_value(&op, value, value_size)) != 0 || (r = take_options(&op, options, USES_ALL_OF_VALUE)) != 0)
        return r;
    op.args.condition = condition;
    op.args.version = version;
    return run(ns, &op);
}

int larder_add(struct larder_ns *ns, const void *key, size_t key_size, const void *value, size_t value_size, const struct larder_set_options *options,
               larder_ticket *ticket)
{
    return put_if(ns, key, key_size, value, value_size, LRD_IF_ABSENT, 0, options, ticket);
}

int larder_replace(struct larder_ns *ns, const void *key, size_t key_size, const void *value, size_t value_size, const struct larder_set_options *options,
                   larder_ticket *ticket)
{
    return put_if(ns, key, key_size, value, value_size, LRD_IF_PRESENT, 0, options, ticket);
}

static int no_version(larder_ticket *ticket)
{
    if (ticket != NULL)
        *ticket = 0;
    return -EINVAL;
}

int larder_cas(struct larder_ns *ns, const void *key, size_t key_size, const void *value, size_t value_size, uint64_t version,
               const struct larder_set_options *options, larder_ticket *ticket)
{
    return version == 0 ? no_version(ticket) : put_if(ns, key, key_size, value, value_size, LRD_IF_VERSION, version, options, ticket);
}

/* Negative entries have an expiry like values, and may end a lease like them. Without a token nobody is asked anything, and it is as plain a write as a set. */
int larder_set_absent(struct larder_ns *ns, const void *key, size_t key_size, const struct larder_set_options *options, larder_ticket *ticket)
{
    struct lrd_op op;
    larder_ticket own = 0;
    int r = begin(ns, key, key_size, ticket, LRD_RECORD_PUT, &op);
    if (r != 0 || (r = take_options(&op, options, USES_TTL | USES_FLAGS | USES_TOKEN)) != 0)
        return r;
    op.w.item_kind = LRD_ITEM_ABSENT;
    op.args.condition = LRD_IF_ANY;
    if (options != NULL && options->token != 0) {
        op.args.condition = LRD_IF_LEASE;
        op.args.version = options->token;
        return run(ns, &op);
    }
    op.async = op.plain = true;
    op.ticket = &own;
    struct lrd_answered a;
    r = lrd_operate(ns, &op, &a);
    if (r != 0)
        return r;
    if (ticket != NULL)
        *ticket = own;
    return lrd_waits(ns->handle, options != NULL ? options->how : 0) ? larder_wait(ns->handle, own, lrd_timeout_ms(op.timeout_ms)) : 0;
}

/* ---- what is made of an item that is there ---- */

static int join(struct larder_ns *ns, const void *key, size_t key_size, const void *value, size_t value_size, enum lrd_record_kind kind,
                const struct larder_set_options *options, larder_ticket *ticket)
{
    struct lrd_op op;
    int r = begin(ns, key, key_size, ticket, kind, &op);
    if (r != 0 || (r = take_value(&op, value, value_size)) != 0 || (r = take_options(&op, options, USES_NOTHING)) != 0)
        return r;
    return run(ns, &op);
}

int larder_append(struct larder_ns *ns, const void *key, size_t key_size, const void *value, size_t value_size, const struct larder_set_options *options,
                  larder_ticket *ticket)
{
    return join(ns, key, key_size, value, value_size, LRD_RECORD_APPEND, options, ticket);
}

int larder_prepend(struct larder_ns *ns, const void *key, size_t key_size, const void *value, size_t value_size, const struct larder_set_options *options,
                   larder_ticket *ticket)
{
    return join(ns, key, key_size, value, value_size, LRD_RECORD_PREPEND, options, ticket);
}

int larder_touch(struct larder_ns *ns, const void *key, size_t key_size, const struct larder_set_options *options, larder_ticket *ticket)
{
    struct lrd_op op;
    int r = begin(ns, key, key_size, ticket, LRD_RECORD_TOUCH, &op);
    if (r != 0 || (r = take_options(&op, options, USES_TTL)) != 0)
        return r;
    op.args.condition = LRD_IF_PRESENT;
    return run(ns, &op);
}

int larder_delete_if(struct larder_ns *ns, const void *key, size_t key_size, uint64_t version, const struct larder_set_options *options, larder_ticket *ticket)
{
    struct lrd_op op;
    int r = begin(ns, key, key_size, ticket, LRD_RECORD_DELETE_IF, &op);
    if (r != 0 || version == 0 || (r = take_options(&op, options, USES_NOTHING)) != 0)
        return r != 0 ? r : -EINVAL;
    op.w.ttl_ms = LARDER_TTL_NONE;
    op.args.condition = LRD_IF_VERSION;
    op.args.version = version;
    return run(ns, &op);
}

/* ---- numbers ---- */

static int take_incr_options(struct lrd_op *op, const struct larder_incr_options *o)
{
    if (o == NULL)
        return 0;
    if (o->size < sizeof *o || o->reserved != 0 || (o->how & ~(LARDER_INCR_CREATE | LARDER_SET_ASYNC)) != 0 || o->ttl_ms < LARDER_TTL_NONE)
        return -EINVAL;
    op->w.ttl_ms = o->ttl_ms;
    op->w.flags = o->flags;
    op->args.flags = (o->how & LARDER_INCR_CREATE) != 0 ? LRD_INCR_CREATE : 0;
    op->args.initial = o->initial;
    op->timeout_ms = o->timeout_ms;
    op->async = (o->how & LARDER_SET_ASYNC) != 0;
    return 0;
}

int larder_incr(struct larder_ns *ns, const void *key, size_t key_size, int64_t by, const struct larder_incr_options *options, int64_t *number,
                larder_ticket *ticket)
{
    struct lrd_op op;
    struct lrd_answered a = {0};
    int r = begin(ns, key, key_size, ticket, LRD_RECORD_INCR, &op);
    if (lrd_unlikely(r != 0) || lrd_unlikely((r = take_incr_options(&op, options)) != 0))
        return r;
    op.args.by = by;
    r = lrd_operate(ns, &op, &a);
    if (r == 0)
        r = lrd_answer_result(&a);
    if (r == 0 && !op.async && number != NULL)
        *number = (int64_t)a.number;
    return r;
}

int larder_decr(struct larder_ns *ns, const void *key, size_t key_size, int64_t by, const struct larder_incr_options *options, int64_t *number,
                larder_ticket *ticket)
{
    return by == INT64_MIN ? no_version(ticket) : larder_incr(ns, key, key_size, -by, options, number, ticket);
}

/* ---- a get and a write that are one ---- */

/* Gives the caller's item what was read; what it brought stays. */
static void item_give(struct larder_item *to, const struct larder_item *from)
{
    to->value_size = from->value_size;
    to->version = from->version;
    to->ttl_ms = from->ttl_ms;
    to->flags = from->flags;
    to->result = from->result;
    to->soft_ttl_ms = from->soft_ttl_ms;
}

/* What came in, as a local that asks for what is visible. -EINVAL. */
static int item_take(struct larder_item *item, const struct larder_item *from)
{
    if (from == NULL || from->size < sizeof *from || (from->buffer == NULL && from->capacity != 0) || (from->how & ~LARDER_GET_VISIBLE) != 0)
        return -EINVAL;
    *item = (struct larder_item){.size = sizeof *item, .buffer = from->buffer, .capacity = from->capacity, .how = LARDER_GET_VISIBLE};
    return 0;
}

static bool is_other_now(int r) { return r == LARDER_CHANGED || r == LARDER_EXISTS || r == LARDER_MISS; }

/* One try: a get, and op if nothing has changed since. create: also where there is nothing. *again: something has. */
static int try_with(struct larder_ns *ns, struct lrd_op *op, bool create, struct larder_item *item, uint64_t end_ns, struct lrd_answered *a, bool *again)
{
    *again = false;
    /* If a write of ours is still on its way to a writer that stands still, what is found has no version, or an old one. */
    int r = larder_get_item(ns, op->w.key, op->w.key_len, item);
    bool missing = r == LARDER_MISS || r == LARDER_ABSENT;
    if (r != 0 && !(missing && create))
        return r;
    op->args.condition = missing ? LRD_IF_ABSENT : LRD_IF_VERSION;
    op->args.version = item->version;
    op->timeout_ms = lrd_left_ms(end_ns);
    if (op->timeout_ms == 0)
        return LARDER_BUSY; /* it took all the time to see what is there */
    r = lrd_operate(ns, op, a);
    if (r != 0)
        return r;
    r = lrd_answer_result(a);
    *again = is_other_now(r);
    return *again ? LARDER_CHANGED : r;
}

static int repeat(struct larder_ns *ns, struct lrd_op *op, bool create, struct larder_item *item, struct lrd_answered *a)
{
    uint64_t end_ns = lrd_clock_ns() + lrd_timeout_ms(op->timeout_ms) * UINT64_C(1000000);
    bool again;
    int r;
    do
        r = try_with(ns, op, create, item, end_ns, a, &again);
    while (again && lrd_clock_ns() < end_ns);
    return r;
}

int larder_exchange(struct larder_ns *ns, const void *key, size_t key_size, const void *value, size_t value_size, const struct larder_set_options *options,
                    struct larder_item *old)
{
    struct lrd_op op;
    struct larder_item item;
    struct lrd_answered a;
    int r = begin(ns, key, key_size, NULL, LRD_RECORD_PUT, &op);
    if (r != 0 || (r = item_take(&item, old)) != 0 || (r = take_value(&op, value, value_size)) != 0 || (r = take_options(&op, options, USES_ALL_OF_VALUE)) != 0)
        return r;
    if (op.async)
        return -EINVAL;
    r = repeat(ns, &op, true, &item, &a);
    item_give(old, &item);
    return r;
}

/* The time to live that a write with this one gets. Relaxed: as in set.c. */
static int64_t ttl_given(struct larder_ns *ns, int64_t ttl_ms)
{
    struct lrd_attachment *at = lrd_current(ns->handle, ns->here);
    if (ttl_ms != LARDER_TTL_DEFAULT || at == NULL)
        return ttl_ms;
    uint64_t given_ms = lrd_load_relaxed(&at->r.namespaces[lrd_ns_index(at, ns)].default_ttl_ms);
    return given_ms != 0 ? (int64_t)given_ms : LARDER_TTL_NONE;
}

int larder_get_and_touch(struct larder_ns *ns, const void *key, size_t key_size, int64_t ttl_ms, struct larder_item *out)
{
    struct lrd_op op;
    struct larder_item item;
    struct lrd_answered a;
    int r = begin(ns, key, key_size, NULL, LRD_RECORD_TOUCH, &op);
    if (r != 0 || (r = item_take(&item, out)) != 0)
        return r;
    if (ttl_ms < LARDER_TTL_NONE)
        return -EINVAL;
    op.w.ttl_ms = ttl_ms;
    r = repeat(ns, &op, false, &item, &a);
    if (r == 0) {
        item.version = a.version;
        item.ttl_ms = ttl_given(ns, ttl_ms);
    }
    item_give(out, &item);
    return r;
}
