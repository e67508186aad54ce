/* Writing: a record in our ring; and waiting for what became of it.
 *
 *   check -> (credit, where nothing is evicted) -> claim cells -> record, key, value -> commit -> raise read-your-writes -> doorbell
 *
 * From the commit on the write is acknowledged: it lies in memory that the keeper and the worker hold as well, and the writer will come to it whoever dies. Where this
 * process may be killed, and what is left behind:
 *   before the claim                nothing
 *   between claim and commit        cells that the writer steps over when it knows that we are dead; until then our other records behind it wait
 *   after the commit                a record that is applied
 * Credit that was taken goes with the lane, wherever its client was killed (credit.c).
 * A write returns only after it was raised, so the thread that wrote, and whoever it tells, reads it back.
 */
#include "libclient/client.h"

#include <errno.h>
#include <string.h>

#include "shm/hash.h"
#include "shm/item.h"
#include "shm/racy.h"
#include "shm/testpoint.h"
#include "shm/wait.h"

#define DEFAULT_BUSY_MS 1u
#define SLICE_MS 50u     /* of a wait: then it asks whether the daemon is gone */

/* ---- the ring has no room ---- */

static int claim_failed(struct larder *h, struct lrd_attachment *at)
{
    if (lrd_renew(h, at))
        return LRD_ELSEWHERE;
    if (lrd_is_down(at))
        return LARDER_DOWN;
    lrd_count(at, LRD_STAT_BUSY, 1);
    return LARDER_BUSY;
}

uint64_t lrd_busy_end(const struct larder *h)
{
    uint32_t timeout_ms = h->options.busy_timeout_ms == 0 ? DEFAULT_BUSY_MS : h->options.busy_timeout_ms == LARDER_NO_WAIT ? 0 : h->options.busy_timeout_ms;
    return lrd_clock_ns() + (uint64_t)timeout_ms * 1000000u;
}

/* A worker that is being restarted is just slow; the end of the daemon is asked for at last. */
__attribute__((noinline)) int lrd_claim_slowly(struct larder *h, struct lrd_attachment *at, uint32_t n, uint64_t end_ns, uint64_t *position)
{
    for (uint64_t now = lrd_clock_ns(); now < end_ns;) {
        uint64_t left_ms = (end_ns - now + 999999u) / 1000000u;
        uint64_t tail = lrd_load_relaxed(&at->ring.lane->tail);
        /* Room for us is there when this position was applied, unless another thread is quicker. */
        if (tail + n > at->ring.n_cells)
            lrd_wait_applied(at->words, at->ring.lane, tail + n - at->ring.n_cells - 1, left_ms < SLICE_MS ? (uint32_t)left_ms : SLICE_MS);
        if (lrd_ring_claim(&at->ring, at->words, &at->seen, n, position))
            return 0;
        now = lrd_clock_ns();
        if (now < end_ns && lrd_silence_ms(at, lrd_clock_segment_ms(at->zero_ns)) > LRD_SUSPICIOUS_MS) {
            if (lrd_renew(h, at))
                return LRD_ELSEWHERE;
            if (lrd_is_down(at))
                return LARDER_DOWN;
        }
    }
    return claim_failed(h, at);
}

/* ---- one write ---- */

/* The bodies marked so are compiled into larder_set(), where kind and args are constants and `need` stays in registers, and once more for all other writes: 520 instructions a
 * set otherwise, instead of 480. */
#define TWICE static inline __attribute__((always_inline))

/* Segment time at which the item expires, 0 for never. -EINVAL: that is no time. */
TWICE int expiry(const struct lrd_attachment *at, uint32_t ns, int64_t asked_ms, uint64_t now_ms, uint64_t *expires_ms)
{
    *expires_ms = 0;
    uint64_t ttl_ms = (uint64_t)asked_ms;
    if (asked_ms == LARDER_TTL_DEFAULT) {
        /* Relaxed: a default that changes holds for writes from about then. */
        ttl_ms = lrd_load_relaxed(&at->r.namespaces[ns].default_ttl_ms);
        if (ttl_ms == 0)
            return 0;
        if (ttl_ms > LRD_EXPIRES_MAX - now_ms)
            ttl_ms = LRD_EXPIRES_MAX - now_ms; /* not the caller's fault */
    }
    if (asked_ms == LARDER_TTL_NONE)
        return 0;
    if (now_ms >= LRD_EXPIRES_MAX || ttl_ms > LRD_EXPIRES_MAX - now_ms)
        return -EINVAL;
    *expires_ms = now_ms + ttl_ms;
    return 0;
}

/* Segment time from which the value is stale: before it expires. */
static int staleness(uint64_t soft_ttl_ms, uint64_t now_ms, uint64_t expires_ms, uint64_t *soft_ms)
{
    if (now_ms >= LRD_EXPIRES_MAX || soft_ttl_ms > LRD_EXPIRES_MAX - now_ms)
        return -EINVAL;
    *soft_ms = now_ms + soft_ttl_ms;
    return expires_ms != 0 && *soft_ms >= expires_ms ? -EINVAL : 0;
}

/* The credit that a write needs in a namespace that refuses: what carries a whole value pays at the call; what the writer makes of an item that is there, it sees to itself. */
static inline bool needs_credit(uint32_t kind) { return kind == LRD_RECORD_SET || kind == LRD_RECORD_PUT; }

TWICE int make_ready(const struct lrd_attachment *at, uint32_t ns, const struct lrd_write *w, uint64_t now_ms, struct lrd_record *rec, struct lrd_args *args, struct lrd_need *need)
{
    need->n_args = w->args != NULL ? (uint32_t)sizeof *w->args : 0;
    need->cells = lrd_ring_cells_for(w->key_len + need->n_args, w->value_len);
    need->bytes = lrd_item_bytes_as(w->item_kind, w->key_len, w->value_len, at->r.granule_shift);
    need->account = LRD_NO_CREDIT;
    if (lrd_unlikely(need->bytes > at->r.geometry.item_max) || lrd_unlikely(need->cells > at->ring.n_cells))
        return -E2BIG;
    *rec = (struct lrd_record){.kind = (uint8_t)w->kind,
                               .item_kind = (uint8_t)w->item_kind,
                               .result = (uint16_t)w->result,
                               .ns = (uint16_t)ns,
                               .key_len = (uint16_t)w->key_len,
                               .value_len = w->value_len,
                               .flags = w->flags,
                               .hash_hint = lrd_hash(at->r.hash_seed, ns, w->key, w->key_len)};
    int r = expiry(at, ns, w->ttl_ms, now_ms, &rec->expires_ms);
    if (w->args == NULL || r != 0)
        return r;
    *args = *w->args;
    return w->soft_ttl_ms != 0 ? staleness((uint64_t)w->soft_ttl_ms, now_ms, rec->expires_ms, &args->soft_ms) : 0;
}

int lrd_write_ready(const struct lrd_attachment *at, uint32_t ns, const struct lrd_write *w, uint64_t now_ms, struct lrd_ready *ready)
{
    return make_ready(at, ns, w, now_ms, &ready->rec, &ready->args, &ready->need);
}

TWICE int pay(struct larder *h, struct lrd_attachment *at, uint32_t ns, uint32_t kind, struct lrd_need *need, uint64_t *end_ns)
{
    /* Relaxed: was made before the state, and stays. */
    if (lrd_likely(lrd_load32_relaxed(&at->r.namespaces[ns].policy) != LRD_POLICY_REFUSE) || !needs_credit(kind))
        return 0;
    uint64_t end = *end_ns; /* this and the next have addresses; what they are copied from may stay in registers */
    uint32_t account;
    int r = lrd_credit_take(h, at, ns, need->bytes, &end, &account);
    *end_ns = end;
    need->account = account;
    return r;
}

int lrd_write_pay(struct larder *h, struct lrd_attachment *at, struct lrd_ready *ready, uint64_t *end_ns)
{
    return pay(h, at, ready->rec.ns, ready->rec.kind, &ready->need, end_ns);
}

TWICE void unpay(const struct lrd_attachment *at, const struct lrd_need *need)
{
    if (need->account != LRD_NO_CREDIT)
        lrd_credit_give_back(at, need->account, need->bytes);
}

void lrd_write_unpay(const struct lrd_attachment *at, const struct lrd_ready *ready) { unpay(at, &ready->need); }

/* All but the value. Where that goes. */
TWICE unsigned char *fill_head(const struct lrd_attachment *at, uint64_t position, const struct lrd_record *rec, const struct lrd_args *args, const void *key, uint32_t key_len)
{
    /* Whoever reads a byte of what follows also sees the applied position that let us claim; pairs with the acquire fence in lrd_ryw_get(). */
    lrd_fence_release();
    unsigned char *p = lrd_ring_at(&at->ring, position);
    lrd_racy_fill(p, rec, sizeof *rec);
    p += sizeof *rec;
    if (args != NULL) {
        lrd_racy_fill(p, args, sizeof *args);
        p += sizeof *args;
    }
    lrd_racy_fill(p, key, key_len);
    return p + key_len;
}

unsigned char *lrd_write_head(const struct lrd_attachment *at, uint64_t position, const struct lrd_ready *ready, const void *key)
{
    return fill_head(at, position, &ready->rec, ready->need.n_args != 0 ? &ready->args : NULL, key, ready->rec.key_len);
}

/* The cells are filled: the record is for all to see. Without the doorbell. */
TWICE void show(struct lrd_attachment *at, uint64_t position, uint32_t kind, uint32_t cells, uint64_t hash)
{
    lrd_ring_commit(&at->ring, position, cells, kind);
    LRD_TESTPOINT("ring_after_commit");
    lrd_ryw_raise(at, hash, position);
    lrd_count(at, kind == LRD_RECORD_DELETE || kind == LRD_RECORD_DELETE_IF ? LRD_STAT_DELETES : LRD_STAT_SETS, 1);
}

void lrd_write_place(struct lrd_attachment *at, uint64_t position, const struct lrd_ready *ready, const void *key, const void *value)
{
    unsigned char *p = lrd_write_head(at, position, ready, key);
    if (ready->rec.value_len > 0)
        lrd_racy_fill(p, value, ready->rec.value_len);
    show(at, position, ready->rec.kind, ready->need.cells, ready->rec.hash_hint);
}

__attribute__((noinline)) int lrd_write_anyway(struct larder *h, struct lrd_attachment *at)
{
    if (lrd_renew(h, at))
        return LRD_ELSEWHERE;
    return !lrd_lane_is_ours(at) || lrd_is_down(at) ? LARDER_DOWN : 0;
}

/* end_ns: until when it waits for credit and room; 0: as long as the handle's options say, from when it must wait. */
TWICE int write_to(struct larder_ns *ns, struct lrd_attachment *at, const struct lrd_write *w, uint64_t end_ns, uint64_t *position)
{
    uint64_t now_ms = lrd_clock_segment_ms(at->zero_ns);
    uint32_t index;
    struct lrd_record rec;
    struct lrd_args args;
    struct lrd_need need;
    int r = lrd_may_write(ns->handle, at, now_ms);
    if (lrd_unlikely(r != 0) || lrd_unlikely((r = lrd_ns_live(ns, at, &index)) != 0) || lrd_unlikely((r = make_ready(at, index, w, now_ms, &rec, &args, &need)) != 0) ||
        lrd_unlikely((r = pay(ns->handle, at, index, w->kind, &need, &end_ns)) != 0))
        return r;
    /* Before the claim: a reset that we do not see here comes after us. Pairs with the release in a reset. */
    rec.epoch = lrd_load32_acquire(&at->r.namespaces[index].epoch);

    if (lrd_unlikely(!lrd_ring_claim(&at->ring, at->words, &at->seen, need.cells, position))) {
        r = lrd_claim_slowly(ns->handle, at, need.cells, end_ns != 0 ? end_ns : lrd_busy_end(ns->handle), position);
        if (r != 0) {
            unpay(at, &need);
            return r;
        }
    }
    LRD_TESTPOINT("ring_after_claim");
    unsigned char *p = fill_head(at, *position, &rec, w->args != NULL ? &args : NULL, w->key, w->key_len);
    if (w->value_len > 0)
        lrd_racy_fill(p, w->value, w->value_len);
    show(at, *position, w->kind, need.cells, rec.hash_hint);
    lrd_doorbell_ring(at->words, at->doorbell, &at->rung);
    return 0;
}

/* All but plain sets. */
static __attribute__((noinline)) int write_any_to(struct larder_ns *ns, struct lrd_attachment *at, const struct lrd_write *w, uint64_t end_ns, uint64_t *position)
{
    return write_to(ns, at, w, end_ns, position);
}

int lrd_write_to(struct larder_ns *ns, struct lrd_attachment *at, const struct lrd_write *w, uint64_t *position) { return write_any_to(ns, at, w, 0, position); }

int lrd_write_anywhere(struct larder_ns *ns, const struct lrd_write *w, uint64_t end_ns, struct lrd_attachment **at, uint64_t *position)
{
    int r;
    do {
        *at = lrd_current(ns->handle, ns->here);
        uint64_t began = *at == NULL ? 0 : lrd_time_begin(*at);
        r = *at == NULL ? lrd_no_attachment(ns->handle) : write_any_to(ns, *at, w, end_ns, position);
        lrd_time_end(*at, LARDER_OP_SET, began);
    } while (lrd_unlikely(r == LRD_ELSEWHERE)); /* each turn is a daemon that has come and one that has gone */
    return r;
}

/* Acknowledged. */
static int done(struct larder_ns *ns, struct lrd_attachment *at, uint64_t position, uint32_t how, uint32_t timeout_ms, larder_ticket *ticket)
{
    if (ticket != NULL)
        *ticket = lrd_ticket_make(at, position);
    if (lrd_unlikely(lrd_waits(ns->handle, how)))
        return lrd_became(ns->handle, at, position, lrd_timeout_ms(timeout_ms));
    return 0;
}

/* r: what its first try came to; LRD_ELSEWHERE: it was not tried yet. */
static __attribute__((noinline)) int write_slowly(struct larder_ns *ns, const struct lrd_write *w, int r, const struct larder_set_options *options, larder_ticket *ticket)
{
    struct lrd_attachment *at;
    uint64_t position;
    r = lrd_breaker_write(ns, w, r, 0, options, &at, &position);
    return r != 0 ? r : done(ns, at, position, options != NULL ? options->how : 0, options != NULL ? options->timeout_ms : 0, ticket);
}

/* ---- set, delete ---- */

int lrd_write_options(struct lrd_write *w, const struct larder_set_options *o, uint32_t allowed)
{
    if (o == NULL)
        return 0;
    if (o->size < sizeof *o || o->ttl_ms < LARDER_TTL_NONE || o->soft_ttl_ms < 0 || (o->how & ~allowed) != 0 || o->reserved != 0 ||
        (o->how & (LARDER_SET_WAIT | LARDER_SET_ASYNC)) == (LARDER_SET_WAIT | LARDER_SET_ASYNC))
        return -EINVAL;
    w->flags = o->flags;
    w->ttl_ms = o->ttl_ms;
    w->soft_ttl_ms = o->soft_ttl_ms;
    w->item_kind = (o->soft_ttl_ms != 0 ? LRD_ITEM_SOFT : 0u) | ((o->how & LARDER_SET_ALIGNED) != 0 ? LRD_ITEM_ALIGNED : 0u);
    return 0;
}

static const struct lrd_args unconditional = {.condition = LRD_IF_ANY};

int lrd_write_of_set(struct lrd_write *w, const struct larder_set_options *options)
{
    w->kind = LRD_RECORD_SET;
    w->ttl_ms = LARDER_TTL_DEFAULT;
    int r = lrd_write_options(w, options, LARDER_SET_WAIT | LARDER_SET_ALIGNED | LARDER_SET_ASYNC);
    if (r == 0 && w->item_kind != LRD_ITEM_PLAIN) {
        w->kind = LRD_RECORD_PUT;
        w->args = &unconditional;
    }
    return r;
}

/* Options of which a plain set knows nothing, and bad ones. */
static inline bool is_special(const struct larder_set_options *o)
{
    return o->size < sizeof *o || o->ttl_ms < LARDER_TTL_NONE || ((uint64_t)o->soft_ttl_ms | o->token | o->reserved) != 0 || (o->how & ~LARDER_SET_WAIT) != 0;
}

/* What ends a lease is decided by the writer, and answered. It does not go to the fallback: there nobody knows of the lease. */
static int set_leased(struct larder_ns *ns, struct lrd_write w, const struct larder_set_options *options, larder_ticket *ticket)
{
    w.kind = LRD_RECORD_PUT;
    struct lrd_op op = {.w = w,
                        .args = {.condition = LRD_IF_LEASE, .version = options->token},
                        .timeout_ms = options->timeout_ms,
                        .async = (options->how & LARDER_SET_ASYNC) != 0,
                        .ticket = ticket};
    struct lrd_answered a = {0};
    int r = lrd_operate(ns, &op, &a);
    return r != 0 ? r : lrd_answer_result(&a);
}

static __attribute__((noinline)) int set_specially(struct larder_ns *ns, struct lrd_write w, const struct larder_set_options *options, larder_ticket *ticket)
{
    int r = lrd_write_of_set(&w, options);
    if (r != 0)
        return r;
    return options->token != 0 ? set_leased(ns, w, options, ticket) : write_slowly(ns, &w, LRD_ELSEWHERE, options, ticket);
}

int larder_set(struct larder_ns *ns, const void *key, size_t key_size, const void *value, size_t value_size, const struct larder_set_options *options,
               larder_ticket *ticket)
{
    if (ticket != NULL)
        *ticket = 0;
    if (lrd_unlikely(ns == NULL || !lrd_key_ok(key, key_size) || (value == NULL && value_size != 0)))
        return -EINVAL;
    if (lrd_unlikely(value_size > LRD_VALUE_MAX))
        return -E2BIG;
    struct lrd_write w = {.kind = LRD_RECORD_SET,
                          .key = key,
                          .key_len = (uint32_t)key_size,
                          .value = value,
                          .value_len = (uint32_t)value_size,
                          .ttl_ms = LARDER_TTL_DEFAULT};
    uint32_t how = 0, timeout_ms = 0;
    if (options != NULL) {
        if (is_special(options))
            return set_specially(ns, (struct lrd_write){.key = key, .key_len = (uint32_t)key_size, .value = value, .value_len = (uint32_t)value_size}, options, ticket);
        w.flags = options->flags;
        w.ttl_ms = options->ttl_ms;
        how = options->how;
        timeout_ms = options->timeout_ms;
    }
    int r = LRD_ELSEWHERE;
    if (lrd_likely(lrd_breaker_is_quiet(ns))) {
        struct lrd_attachment *at = lrd_current(ns->handle, ns->here);
        uint64_t position, began = at == NULL ? 0 : lrd_time_begin(at);
        r = at == NULL ? lrd_no_attachment(ns->handle) : write_to(ns, at, &w, 0, &position);
        lrd_time_end(at, LARDER_OP_SET, began);
        if (lrd_likely(r == 0))
            return done(ns, at, position, how, timeout_ms, ticket);
    }
    const struct lrd_write slow = w; /* of its own, so that w needs no memory */
    return write_slowly(ns, &slow, r, options, ticket);
}

int larder_delete(struct larder_ns *ns, const void *key, size_t key_size, larder_ticket *ticket)
{
    if (ticket != NULL)
        *ticket = 0;
    if (lrd_unlikely(ns == NULL || !lrd_key_ok(key, key_size)))
        return -EINVAL;
    const struct lrd_write w = {.kind = LRD_RECORD_DELETE, .key = key, .key_len = (uint32_t)key_size, .ttl_ms = LARDER_TTL_NONE};
    return write_slowly(ns, &w, LRD_ELSEWHERE, NULL, ticket);
}

/* ---- what became of it ---- */

int lrd_wait_for(struct larder *h, struct lrd_attachment *at, uint64_t position, uint32_t timeout_ms)
{
    uint64_t end = 0;
    for (uint64_t left_ms = timeout_ms;;) {
        bool applied = lrd_wait_applied(at->words, at->ring.lane, position, left_ms < SLICE_MS ? (uint32_t)left_ms : SLICE_MS);
        bool ours = lrd_lane_is_ours(at); /* after it: a position of the lane's next client is not ours */
        if (applied && ours)
            return 0;
        /* Who only looks, again and again, must learn of the end as well. */
        if (timeout_ms == 0 && ours && !lrd_is_down(at) && lrd_silence_ms(at, lrd_clock_segment_ms(at->zero_ns)) <= LRD_SUSPICIOUS_MS)
            return LARDER_TIMEOUT;
        if (lrd_renew(h, at) || !ours || lrd_is_down(at))
            return LARDER_LOST;
        uint64_t now = lrd_clock_ns();
        if (end == 0)
            end = now + (timeout_ms > SLICE_MS ? timeout_ms - SLICE_MS : 0) * UINT64_C(1000000); /* one slice is behind us */
        if (now >= end)
            return LARDER_TIMEOUT;
        left_ms = (end - now + 999999u) / 1000000u;
    }
}

int lrd_became(struct larder *h, struct lrd_attachment *at, uint64_t position, uint32_t timeout_ms)
{
    uint64_t began = lrd_time_begin(at);
    int r = lrd_wait_for(h, at, position, timeout_ms);
    lrd_time_end(at, LARDER_OP_WAIT, began);
    return r == 0 && lrd_is_discarded(at, position) ? LARDER_DISCARDED : r;
}

int lrd_ticket_find(struct larder *h, larder_ticket ticket, struct lrd_attachment **at, uint64_t *position)
{
    if (h == NULL || (ticket & LRD_TICKET_MASK) == 0)
        return -EINVAL;
    *at = lrd_current(h, h->here);
    *position = (ticket & LRD_TICKET_MASK) - 1;
    if (h->closed)
        return -EBADF;
    if (*at == NULL || ticket >> LRD_TICKET_BITS != ((*at)->incarnation & (UINT64_MAX >> LRD_TICKET_BITS)))
        return LARDER_LOST; /* of an attachment that was replaced, or the parent's */
    if (*position >= lrd_load_relaxed(&(*at)->ring.lane->tail))
        /* Never claimed; or the lane was replaced by zeros since we loaded the attachment: then there is another one by now. */
        return lrd_current(h, h->here) == *at ? -EINVAL : LARDER_LOST;
    return 0;
}

int larder_wait(struct larder *h, larder_ticket ticket, uint32_t timeout_ms)
{
    struct lrd_attachment *at;
    uint64_t position;
    int r = lrd_ticket_find(h, ticket, &at, &position);
    return r != 0 ? r : lrd_became(h, at, position, timeout_ms);
}

int larder_flush(struct larder *h, uint32_t timeout_ms)
{
    if (h == NULL)
        return -EINVAL;
    struct lrd_attachment *at = lrd_current(h, h->here);
    if (at == NULL)
        return h->closed ? -EBADF : 0; /* a child that has written nothing */
    /* Relaxed: what was acknowledged before this call was claimed before it. */
    uint64_t tail = lrd_load_relaxed(&at->ring.lane->tail);
    uint64_t began = lrd_time_begin(at);
    int r = tail == 0 ? 0 : lrd_wait_for(h, at, tail - 1, timeout_ms);
    lrd_time_end(at, LARDER_OP_WAIT, began);
    /* Said once. Losing the race to say it is as good as saying it. */
    if (lrd_load_relaxed(&h->here->lost) != 0) {
        lrd_store_relaxed(&h->here->lost, 0);
        return LARDER_LOST;
    }
    return r;
}
