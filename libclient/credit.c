/* Credit: the right to write into a namespace that refuses eviction.
 *
 * Nothing makes room there, so whether a write has room must be known before it is acknowledged. The daemon gives each lane credit in advance: bytes of items, padding
 * included, and a number of items, for each of up to eight such namespaces (accounts). A set takes from it before it claims cells; where there is not enough, it asks for
 * more, and if there is none, it returns LARDER_FULL and has written nothing. A delete needs none.
 *
 *   granted    in the segment, by the writer, only grows        what this lane was ever given
 *   taken      in the lane, by our threads                      what they took; given back when the write that it was for did not come to be
 *   used       in the segment, by the writer                    settled by records that were applied or discarded; nothing here looks at it
 *   largest    in the segment, by the writer                    bytes of the largest item that credit was given for: room for bytes is not room for one large item
 *
 * What holds, whichever threads are at it:
 *   - taken never exceeds granted, neither in bytes nor in items: each is taken by a compare-and-swap that has compared with a granted that was true then, and granted only grows.
 *   - a thread that took bytes and finds no item gives the bytes back at once. Others may find too little meanwhile, and ask in vain: that costs a question.
 *   - what is given back was taken by the same call, so taken never falls below what acknowledged writes need.
 *   - one thread asks at a time, and looks again before it does; and no question is asked while an earlier one, which nobody waited for to the end, has no answer: an impatient
 *     caller does not pile up credit.
 *   - a thread that dies, with its process, between taking and commit leaves credit that nobody uses until the daemon takes the lane back.
 * The writer does not rely on any of it: it keeps its own account of granted and used, and refuses a record that is not covered.
 *
 * Another attachment is another lane: its accounts begin with nothing taken and nothing granted.
 */
#include "libclient/client.h"

#include <errno.h>

/* Adds n to *taken if it does not exceed *granted then. Relaxed: numbers that publish nothing. A stale granted is too small, and asks once too often. */
static bool take(lrd_u64 *taken, const lrd_u64 *granted, uint64_t n)
{
    uint64_t t = lrd_load_relaxed(taken);
    do {
        uint64_t g = lrd_load_relaxed(granted);
        if (g < t || g - t < n)
            return false;
    } while (!lrd_cas(taken, &t, t + n));
    return true;
}

static void give_back(lrd_u64 *taken, uint64_t n) { lrd_fetch_add_relaxed(taken, 0 - n); }

static bool take_one(const struct lrd_attachment *at, const struct lrd_namespace *ns, uint32_t account, uint32_t bytes)
{
    const struct lrd_credit *c = &at->credit->of[account];
    struct lrd_lane *lane = at->ring.lane;
    if (lrd_load_relaxed(&ns->largest) < bytes || !take(&lane->taken_bytes[account], &c->granted_bytes, bytes))
        return false;
    if (take(&lane->taken_items[account], &c->granted_items, 1))
        return true;
    give_back(&lane->taken_bytes[account], bytes);
    return false;
}

void lrd_credit_give_back(const struct lrd_attachment *at, uint32_t account, uint32_t bytes)
{
    give_back(&at->ring.lane->taken_items[account], 1);
    give_back(&at->ring.lane->taken_bytes[account], bytes);
}

void lrd_credit_give_back_bytes(const struct lrd_attachment *at, uint32_t account, uint32_t bytes) { give_back(&at->ring.lane->taken_bytes[account], bytes); }

/* A question that an earlier call did not wait for to the end. 0: it has its answer; LARDER_TIMEOUT, LARDER_LOST. */
static int await_earlier(struct larder *h, struct lrd_attachment *at, uint64_t end_ns)
{
    uint64_t end = lrd_load_relaxed(&at->asked);
    return end == 0 ? 0 : lrd_wait_for(h, at, end - 1, lrd_left_ms(end_ns));
}

/* How much of n is not there. Relaxed: others may take what is left meanwhile, and the question is asked once more. */
static uint64_t lacking(const lrd_u64 *taken, const lrd_u64 *granted, uint64_t n)
{
    uint64_t t = lrd_load_relaxed(taken), g = lrd_load_relaxed(granted), have = g > t ? g - t : 0;
    return n > have ? n - have : 0;
}

/* With the right to ask, for what is lacking: who has bytes left of larger items and needs a place for one must not be refused for bytes. 0: it was answered well; a result of
 * lrd_request_send(). */
static int ask(struct larder *h, struct lrd_attachment *at, uint32_t ns, uint32_t account, uint32_t bytes, uint64_t end_ns)
{
    const struct lrd_credit *c = &at->credit->of[account];
    const struct lrd_lane *lane = at->ring.lane;
    const struct lrd_credit_ask value = {.bytes = lacking(&lane->taken_bytes[account], &c->granted_bytes, bytes),
                                         .items = (uint32_t)lacking(&lane->taken_items[account], &c->granted_items, 1),
                                         .largest = bytes};
    const struct lrd_request request = {.kind = LRD_RECORD_CREDIT, .ns = ns, .value = &value, .value_len = sizeof value};
    uint64_t position;
    int r = lrd_request_send(h, at, &request, end_ns, &position);
    if (r == LARDER_TIMEOUT)
        lrd_store_relaxed(&at->asked, position + lrd_ring_cells_for(0, sizeof value));
    return r;
}

/* A result of a question, as one of the write that asked it: nothing was written. */
static int write_result(struct larder *h, const struct lrd_attachment *at, int r)
{
    if (r == LARDER_TIMEOUT) {
        lrd_count(at, LRD_STAT_BUSY, 1);
        return LARDER_BUSY;
    }
    if (r == LARDER_LOST)
        return lrd_current(h, h->here) == at ? LARDER_DOWN : LRD_ELSEWHERE;
    if (r == LARDER_FULL || r == LARDER_BUSY || r == LARDER_DOWN || r == LARDER_NO_NAMESPACE || r == LRD_ELSEWHERE)
        return r;
    return -EPROTO; /* no answer to that question */
}

__attribute__((noinline)) int lrd_credit_take(struct larder *h, struct lrd_attachment *at, uint32_t index, uint32_t bytes, uint64_t *end_ns, uint32_t *account)
{
    const struct lrd_namespace *ns = &at->r.namespaces[index];
    uint32_t c = lrd_load32_relaxed(&ns->credit);
    if (c >= LRD_CREDITS)
        return -EPROTO; /* it refuses, and has no account */
    *account = c;
    if (lrd_likely(take_one(at, ns, c, bytes)))
        return 0;

    if (*end_ns == 0)
        *end_ns = lrd_busy_end(h);
    int r;
    do {
        if (!lrd_request_begin(h->here, *end_ns))
            r = LARDER_TIMEOUT;
        else {
            r = await_earlier(h, at, *end_ns);
            bool enough = r == 0 && take_one(at, ns, c, bytes);
            if (r == 0 && !enough) {
                r = ask(h, at, index, c, bytes, *end_ns);
                enough = r == 0 && take_one(at, ns, c, bytes);
            }
            lrd_request_end(h->here);
            if (enough)
                return 0;
        }
        /* Answered well, and other threads were quicker. */
    } while (r == 0 && lrd_clock_ns() < *end_ns);
    *account = LRD_NO_CREDIT;
    return write_result(h, at, r == 0 ? LARDER_TIMEOUT : r);
}
