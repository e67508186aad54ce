/* Writing in place: a write in two halves, between which its value is built in the ring.
 *
 *   reserve   check, credit, claim, record header and key: as a set (set.c) up to where the value would be copied
 *   commit    the value's length, commit word, read-your-writes, doorbell. A shorter value than was reserved keeps its cells; credit for what is not used is given back
 *   abort     the cells become a record of nothing, over which the writer steps
 *
 * Between the two the writer cannot pass the reserved cells, so whatever else this process writes stands behind them. Its place in the order of writes is that of the reserve.
 *
 * What the library keeps is in the caller's struct: sealed with a word that says that it is ours, and that it was not used up. Whether the lane is still the one that it was taken from, the
 * attachment's number in this handle says: a forked child, or a handle that has come to another daemon, has another. Even a copy of a struct that is used up is told from an open one: the commit word
 * at its place says so for as long as the writer is not past it, and after that the applied position does.
 *
 * A process that dies in between leaves a hole, like one that dies in a set. A thread that does not come back leaves its process's ring standing.
 */
#include "libclient/client.h"

#include <errno.h>

#include "shm/item.h"
#include "shm/racy.h"
#include "shm/testpoint.h"
#include "shm/wait.h"

#define SEAL UINT64_C(0x9d8a4c1f6b3e7025)

/* own[0] namespace | own[1] position | own[2] attachment's incarnation:32, value_size:32 | own[3] timeout_ms:32, wait:1, account:4, item_kind:4, key_len:16 | own[4] seal */
struct reserved {
    struct larder_ns *ns;
    uint64_t position;
    uint32_t incarnation;
    uint32_t value_len;
    uint32_t timeout_ms;
    bool wait;
    uint32_t account;
    uint32_t item_kind;
    uint32_t key_len;
    uint32_t cells;
};

static uint64_t seal_of(const uint64_t own[5]) { return SEAL ^ own[0] ^ own[1] * 3 ^ own[2] * 5 ^ own[3] * 7; }

static void keep(struct larder_reservation *r, const struct reserved *k)
{
    r->own[0] = (uint64_t)(uintptr_t)k->ns;
    r->own[1] = k->position;
    r->own[2] = (uint64_t)k->incarnation << 32 | k->value_len;
    r->own[3] = (uint64_t)k->timeout_ms << 32 | (uint64_t)k->wait << 24 | k->account << 20 | k->item_kind << 16 | k->key_len;
    r->own[4] = seal_of(r->own);
}

static void use_up(struct larder_reservation *r)
{
    r->own[4] = ~seal_of(r->own);
    r->data = NULL;
    r->value_size = 0;
}

static uint32_t args_of(uint32_t item_kind) { return item_kind != LRD_ITEM_PLAIN ? (uint32_t)sizeof(struct lrd_args) : 0; }

/* 0 and the attachment it lies in; LARDER_LOST: that is gone, and with it the reservation; -EINVAL: there is none. */
static int find(struct larder_reservation *r, struct reserved *k, struct lrd_attachment **at)
{
    if (r == NULL || r->size < sizeof *r || r->own[4] != seal_of(r->own))
        return -EINVAL;
    *k = (struct reserved){.ns = (struct larder_ns *)(uintptr_t)r->own[0],
                           .position = r->own[1],
                           .incarnation = (uint32_t)(r->own[2] >> 32),
                           .value_len = (uint32_t)r->own[2],
                           .timeout_ms = (uint32_t)(r->own[3] >> 32),
                           .wait = (r->own[3] >> 24 & 1) != 0,
                           .account = (uint32_t)r->own[3] >> 20 & 15,
                           .item_kind = (uint32_t)r->own[3] >> 16 & 15,
                           .key_len = (uint32_t)r->own[3] & 0xffff};
    k->cells = lrd_ring_cells_for(k->key_len + args_of(k->item_kind), k->value_len);
    /* Acquire: pairs with the release in publish(). Not lrd_current(): nobody needs to attach for what is not there. */
    *at = atomic_load_explicit(&k->ns->here->at, memory_order_acquire);
    if (*at == NULL || (*at)->incarnation != k->incarnation || !lrd_lane_is_ours(*at)) {
        use_up(r);
        return k->ns->handle->closed ? -EBADF : LARDER_LOST;
    }
    const struct lrd_ring *ring = &(*at)->ring;
    uint64_t word = lrd_load_relaxed(&ring->commit[lrd_ring_idx(ring, k->position)]); /* ours to store; the writer does after the applied position could pass */
    if (lrd_load_relaxed(&(*at)->words->applied) > k->position || lrd_commit_lap(word) == lrd_ring_lap(ring, k->position)) {
        use_up(r);
        return -EINVAL;
    }
    return 0;
}

static uint32_t item_bytes(const struct lrd_attachment *at, const struct reserved *k, uint32_t value_len)
{
    return lrd_item_bytes_as(k->item_kind, k->key_len, value_len, at->r.granule_shift);
}

/* ---- reserve ---- */

static int reserve_in(struct larder_ns *ns, struct lrd_attachment *at, const struct lrd_write *w, struct reserved *k, void **data)
{
    uint64_t end_ns = 0, now_ms = lrd_clock_segment_ms(at->zero_ns);
    uint32_t index;
    struct lrd_ready ready;
    int r = lrd_may_write(ns->handle, at, now_ms);
    if (r != 0 || (r = lrd_ns_live(ns, at, &index)) != 0 || (r = lrd_write_ready(at, index, w, now_ms, &ready)) != 0 ||
        (r = lrd_write_pay(ns->handle, at, &ready, &end_ns)) != 0)
        return r;
    /* Before the claim, as in a set. Pairs with the release in a reset. */
    ready.rec.epoch = lrd_load32_acquire(&at->r.namespaces[index].epoch);
    if (!lrd_ring_claim(&at->ring, at->words, &at->seen, ready.need.cells, &k->position)) {
        r = lrd_claim_slowly(ns->handle, at, ready.need.cells, end_ns != 0 ? end_ns : lrd_busy_end(ns->handle), &k->position);
        if (r != 0) {
            lrd_write_unpay(at, &ready);
            return r;
        }
    }
    *data = lrd_write_head(at, k->position, &ready, w->key);
    LRD_TESTPOINT("ring_reserved");
    k->incarnation = at->incarnation;
    k->account = ready.need.account;
    return 0;
}

int larder_reserve(struct larder_ns *ns, const void *key, size_t key_size, size_t value_size, const struct larder_set_options *options, struct larder_reservation *reservation)
{
    if (reservation == NULL || reservation->size < sizeof *reservation)
        return -EINVAL;
    reservation->data = NULL;
    reservation->value_size = 0;
    reservation->own[4] = ~seal_of(reservation->own);
    if (ns == NULL || !lrd_key_ok(key, key_size))
        return -EINVAL;
    if (value_size > LRD_VALUE_MAX)
        return -E2BIG;
    struct lrd_write w = {.key = key, .key_len = (uint32_t)key_size, .value_len = (uint32_t)value_size};
    int r = lrd_write_of_set(&w, options);
    if (r != 0)
        return r;
    if (options != NULL && options->token != 0)
        return -EINVAL;
    struct reserved k = {.ns = ns,
                         .value_len = w.value_len,
                         .timeout_ms = options != NULL ? options->timeout_ms : 0,
                         .wait = lrd_waits(ns->handle, options != NULL ? options->how : 0),
                         .item_kind = w.item_kind,
                         .key_len = w.key_len};
    do {
        struct lrd_attachment *at = lrd_current(ns->handle, ns->here);
        r = at == NULL ? lrd_no_attachment(ns->handle) : reserve_in(ns, at, &w, &k, &reservation->data);
    } while (r == LRD_ELSEWHERE);
    if (r != 0)
        return r;
    reservation->value_size = value_size;
    keep(reservation, &k);
    return 0;
}

/* ---- commit, abort ---- */

int larder_commit(struct larder_reservation *reservation, size_t value_size, larder_ticket *ticket)
{
    struct reserved k;
    struct lrd_attachment *at;
    if (ticket != NULL)
        *ticket = 0;
    int r = find(reservation, &k, &at);
    if (r != 0)
        return r;
    if (value_size > k.value_len)
        return -EINVAL; /* and still reserved */
    unsigned char *p = lrd_ring_at(&at->ring, k.position);
    struct lrd_record rec;
    lrd_racy_copy(&rec, p, sizeof rec);
    rec.value_len = (uint32_t)value_size;
    lrd_racy_fill(p, &rec, sizeof rec);
    lrd_ring_commit(&at->ring, k.position, k.cells, rec.kind);
    use_up(reservation);
    LRD_TESTPOINT("ring_after_commit");
    lrd_ryw_raise(at, rec.hash_hint, k.position);
    lrd_doorbell_ring(at->words, at->doorbell, &at->rung);
    lrd_count(at, LRD_STAT_SETS, 1);
    if (k.account != LRD_NO_CREDIT)
        lrd_credit_give_back_bytes(at, k.account, item_bytes(at, &k, k.value_len) - item_bytes(at, &k, rec.value_len));
    if (ticket != NULL)
        *ticket = lrd_ticket_make(at, k.position);
    if (k.wait)
        return lrd_became(k.ns->handle, at, k.position, lrd_timeout_ms(k.timeout_ms));
    return 0;
}

int larder_abort(struct larder_reservation *reservation)
{
    struct reserved k;
    struct lrd_attachment *at;
    int r = find(reservation, &k, &at);
    if (r != 0)
        return r;
    const struct lrd_record nothing = {.kind = LRD_RECORD_NOTHING};
    lrd_racy_fill(lrd_ring_at(&at->ring, k.position), &nothing, sizeof nothing);
    lrd_ring_commit(&at->ring, k.position, k.cells, LRD_RECORD_NOTHING);
    use_up(reservation);
    lrd_doorbell_ring(at->words, at->doorbell, &at->rung);
    if (k.account != LRD_NO_CREDIT)
        lrd_credit_give_back(at, k.account, item_bytes(at, &k, k.value_len));
    return 0;
}
