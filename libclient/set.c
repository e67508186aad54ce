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
#define VISIBLE_MS 1000u /* of LARDER_SET_WAIT */
#define SLICE_MS 50u     /* of a wait: then it asks whether the daemon is gone */

struct write {
    uint32_t kind;
    uint32_t flags;
    const void *key;
    const void *value;
    uint32_t key_len;
    uint32_t value_len;
    int64_t ttl_ms;
};

/* ---- tickets: incarnation:12 | position + 1:52 ---- */

#define TICKET_BITS 52u
#define TICKET_MASK ((UINT64_C(1) << TICKET_BITS) - 1)

static larder_ticket ticket_make(uint32_t incarnation, uint64_t position) { return (uint64_t)incarnation << TICKET_BITS | ((position + 1) & TICKET_MASK); }

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

/* Segment time at which the item expires, 0 for never. -EINVAL: that is no time. */
static int expiry(const struct lrd_attachment *at, uint32_t ns, const struct write *w, uint64_t now_ms, uint64_t *expires_ms)
{
    *expires_ms = 0;
    uint64_t ttl_ms = (uint64_t)w->ttl_ms;
    if (w->ttl_ms == LARDER_TTL_DEFAULT) {
        /* Relaxed: a default that changes holds for writes from about then. */
        ttl_ms = lrd_load_relaxed(&at->r.namespaces[ns].default_ttl_ms);
        if (ttl_ms == 0)
            return 0;
        if (ttl_ms > LRD_EXPIRES_MAX - now_ms)
            ttl_ms = LRD_EXPIRES_MAX - now_ms; /* not the caller's fault */
    }
    if (w->ttl_ms == LARDER_TTL_NONE)
        return 0;
    if (now_ms >= LRD_EXPIRES_MAX || ttl_ms > LRD_EXPIRES_MAX - now_ms)
        return -EINVAL;
    *expires_ms = now_ms + ttl_ms;
    return 0;
}

static void fill(const struct lrd_attachment *at, uint64_t position, const struct lrd_record *rec, const struct write *w)
{
    unsigned char *p = lrd_ring_at(&at->ring, position);
    lrd_racy_fill(p, rec, sizeof *rec);
    lrd_racy_fill(p + sizeof *rec, w->key, w->key_len);
    if (w->value_len > 0)
        lrd_racy_fill(p + sizeof *rec + w->key_len, w->value, w->value_len);
}

__attribute__((noinline)) int lrd_write_anyway(struct larder *h, struct lrd_attachment *at)
{
    if (lrd_renew(h, at))
        return LRD_ELSEWHERE;
    return !lrd_lane_is_ours(at) || lrd_is_down(at) ? LARDER_DOWN : 0;
}

static int write_to(struct larder_ns *ns, struct lrd_attachment *at, const struct write *w, uint64_t *position)
{
    uint64_t now_ms = lrd_clock_segment_ms(at->zero_ns);
    uint32_t index;
    int r = lrd_may_write(ns->handle, at, now_ms);
    if (lrd_unlikely(r != 0) || lrd_unlikely((r = lrd_ns_live(ns, at, &index)) != 0))
        return r;
    uint32_t n = lrd_ring_cells_for(w->key_len, w->value_len), bytes = lrd_item_bytes(w->key_len, w->value_len, at->r.granule_shift);
    if (bytes > at->r.geometry.item_max || n > at->ring.n_cells)
        return -E2BIG;
    struct lrd_record rec = {.kind = (uint8_t)w->kind,
                             .ns = (uint16_t)index,
                             .key_len = (uint16_t)w->key_len,
                             .value_len = w->value_len,
                             .flags = w->flags,
                             .hash_hint = lrd_hash(at->r.hash_seed, index, w->key, w->key_len)};
    r = expiry(at, index, w, now_ms, &rec.expires_ms);
    if (r != 0)
        return r;
    uint64_t end_ns = 0;
    uint32_t account = LRD_NO_CREDIT;
    /* Relaxed: was made before the state, and stays. */
    if (lrd_unlikely(lrd_load32_relaxed(&at->r.namespaces[index].policy) == LRD_POLICY_REFUSE) && w->kind == LRD_RECORD_SET) {
        r = lrd_credit_take(ns->handle, at, index, bytes, &end_ns, &account);
        if (r != 0)
            return r;
    }
    /* Before the claim: a reset that we do not see here comes after us. Pairs with the release in a reset. */
    rec.epoch = lrd_load32_acquire(&at->r.namespaces[index].epoch);

    if (lrd_unlikely(!lrd_ring_claim(&at->ring, at->words, &at->seen, n, position))) {
        r = lrd_claim_slowly(ns->handle, at, n, end_ns != 0 ? end_ns : lrd_busy_end(ns->handle), position);
        if (r != 0) {
            if (account != LRD_NO_CREDIT)
                lrd_credit_give_back(at, account, bytes);
            return r;
        }
    }
    LRD_TESTPOINT("ring_after_claim");
    /* Whoever reads a byte of what follows also sees the applied position that let us claim; pairs with the acquire fence in lrd_ryw_get(). */
    lrd_fence_release();
    fill(at, *position, &rec, w);
    lrd_ring_commit(&at->ring, *position, n, w->kind);
    LRD_TESTPOINT("ring_after_commit");
    lrd_ryw_raise(at, rec.hash_hint, *position);
    lrd_doorbell_ring(at->words, at->doorbell, &at->rung);
    lrd_count(at, w->kind == LRD_RECORD_SET ? LRD_STAT_SETS : LRD_STAT_DELETES, 1);
    return 0;
}

static int became(struct larder *h, struct lrd_attachment *at, uint64_t position, uint32_t timeout_ms);

static int write_anywhere(struct larder_ns *ns, const struct write *w, bool wait, larder_ticket *ticket)
{
    struct lrd_attachment *at;
    uint64_t position = 0;
    int r;
    do {
        at = lrd_current(ns->handle, ns->here);
        r = at == NULL ? LARDER_DOWN : write_to(ns, at, w, &position);
    } while (lrd_unlikely(r == LRD_ELSEWHERE)); /* each turn is a daemon that has come and one that has gone */
    if (r != 0)
        return r;
    if (ticket != NULL)
        *ticket = ticket_make(at->incarnation, position);
    if (wait || (ns->handle->options.flags & LARDER_OPEN_WAIT_VISIBLE) != 0)
        return became(ns->handle, at, position, VISIBLE_MS);
    return 0;
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
    struct write w = {.kind = LRD_RECORD_SET,
                      .key = key,
                      .key_len = (uint32_t)key_size,
                      .value = value,
                      .value_len = (uint32_t)value_size,
                      .ttl_ms = LARDER_TTL_DEFAULT};
    bool wait = false;
    if (options != NULL) {
        if (options->size != sizeof *options || options->ttl_ms < LARDER_TTL_NONE || (options->how & ~LARDER_SET_WAIT) != 0)
            return -EINVAL;
        w.flags = options->flags;
        w.ttl_ms = options->ttl_ms;
        wait = (options->how & LARDER_SET_WAIT) != 0;
    }
    return write_anywhere(ns, &w, wait, ticket);
}

int larder_delete(struct larder_ns *ns, const void *key, size_t key_size, larder_ticket *ticket)
{
    if (ticket != NULL)
        *ticket = 0;
    if (lrd_unlikely(ns == NULL || !lrd_key_ok(key, key_size)))
        return -EINVAL;
    const struct write w = {.kind = LRD_RECORD_DELETE, .key = key, .key_len = (uint32_t)key_size, .ttl_ms = LARDER_TTL_NONE};
    return write_anywhere(ns, &w, false, ticket);
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
        if (timeout_ms == 0 && ours)
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

/* What became of one write: as lrd_wait_for(), and LARDER_DISCARDED. */
static int became(struct larder *h, struct lrd_attachment *at, uint64_t position, uint32_t timeout_ms)
{
    int r = lrd_wait_for(h, at, position, timeout_ms);
    return r == 0 && lrd_is_discarded(at, position) ? LARDER_DISCARDED : r;
}

int larder_wait(struct larder *h, larder_ticket ticket, uint32_t timeout_ms)
{
    if (h == NULL || (ticket & TICKET_MASK) == 0)
        return -EINVAL;
    struct lrd_attachment *at = lrd_current(h, h->here);
    uint64_t position = (ticket & TICKET_MASK) - 1;
    if (at == NULL || ticket >> TICKET_BITS != (at->incarnation & (UINT64_MAX >> TICKET_BITS)))
        return LARDER_LOST; /* of an attachment that was replaced, or the parent's */
    if (position >= lrd_load_relaxed(&at->ring.lane->tail))
        /* Never claimed; or the lane was replaced by zeros since we loaded the attachment: then there is another one by now. */
        return lrd_current(h, h->here) == at ? -EINVAL : LARDER_LOST;
    return became(h, at, position, timeout_ms);
}

int larder_flush(struct larder *h, uint32_t timeout_ms)
{
    if (h == NULL)
        return -EINVAL;
    struct lrd_attachment *at = lrd_current(h, h->here);
    if (at == NULL)
        return 0; /* a child that has written nothing */
    /* Relaxed: what was acknowledged before this call was claimed before it. */
    uint64_t tail = lrd_load_relaxed(&at->ring.lane->tail);
    int r = tail == 0 ? 0 : lrd_wait_for(h, at, tail - 1, timeout_ms);
    /* Said once. Losing the race to say it is as good as saying it. */
    if (lrd_load_relaxed(&h->here->lost) != 0) {
        lrd_store_relaxed(&h->here->lost, 0);
        return LARDER_LOST;
    }
    return r;
}
