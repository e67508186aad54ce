/* Results: where the writer says what became of conditional writes.
 *
 * A lane has LRD_RESULTS places. A record names one, and the writer stores the result there before the intent that passes the record; so it is there when the record's position is
 * applied. Who uses which place is known to this process alone:
 *
 *   given back, or fresh  --take-->  in a call  --await--> given back                         the common way: nothing is noted anywhere
 *                                               --hold---> held for a ticket                  the caller waited in vain, or did not want to wait
 *                                               --abandon--> abandoned
 *   held       --larder_result()--> given back;  --larder_forget()--> abandoned
 *   abandoned  --its position is applied, and somebody looks--> given back
 *
 *   who                                          may run beside
 *   all of it (any thread)                       everything but close
 *
 * Promises:
 *   - a place that a record may still be answered in is nobody else's: it is given back by who saw the record's position applied (acquire), and what the next user's record is
 *     answered comes after that.
 *   - of several that collect or forget one ticket, exactly one does: it takes the owner word away with a compare-and-swap.
 *   - nothing here waits, but larder_result() and lrd_result_await() for the writer. The places given back are a stack, by compare-and-swap with a count of turns in its top; the newest
 *     is used next, which is in the cache.
 *   - a ticket is found by its position: the hint says where to look first, the owner word whether it is so. Hints of records that are 4 * LRD_RESULTS cells apart overwrite each other; then all
 *     places are looked at, as for a ticket that has none.
 *   - all places are also looked at when none is left, for abandoned ones.
 *
 * A place in a call of a thread that ends with its process needs nobody: the lane ends too. After fork() the attachment is another one, and so are the places. The writer trusts
 * nothing here; who scribbles over its lane gets its own results wrong.
 */
#include "libclient/client.h"

#include <errno.h>

enum owner { OWNER_NONE, OWNER_HELD, OWNER_ABANDONED };

static uint64_t owner_make(uint64_t position, enum owner owner) { return (position + 1) << 2 | owner; }
static bool owner_is_abandoned(uint64_t o) { return (o & 3) == OWNER_ABANDONED; }
static uint64_t owner_position(uint64_t o) { return (o >> 2) - 1; }

static struct lrd_result *result_at(const struct lrd_attachment *at, uint32_t place) { return &at->ring.lane->result[place - 1]; }
static lrd_u64 *owner_at(struct lrd_attachment *at, uint32_t place) { return &at->results.owner[place - 1]; }

/* ---- the stack of those given back ---- */

#define PLACE_BITS 16u

static void push(struct lrd_results *r, uint32_t place)
{
    uint64_t top = lrd_load_relaxed(&r->given_back); /* relaxed: the compare-and-swap decides */
    do
        lrd_store32_relaxed(&r->under[place - 1], (uint32_t)top & ((1u << PLACE_BITS) - 1));
    /* Release: publishes what is under it, and that we are done with its result; pairs with the acquire in pop(). */
    while (!lrd_cas(&r->given_back, &top, ((top >> PLACE_BITS) + 1) << PLACE_BITS | place));
}

static uint32_t pop(struct lrd_results *r)
{
    uint64_t top = lrd_load_acquire(&r->given_back); /* pairs with the release in push(): what is under it */
    uint32_t place;
    while ((place = (uint32_t)top & ((1u << PLACE_BITS) - 1)) != 0) {
        /* Relaxed: if it is not under that top any more, the turns are others. */
        uint32_t under = lrd_load32_relaxed(&r->under[place - 1]);
        if (lrd_cas(&r->given_back, &top, ((top >> PLACE_BITS) + 1) << PLACE_BITS | under))
            return place;
        top = lrd_load_acquire(&r->given_back); /* as above; a failed compare-and-swap has no order */
    }
    return 0;
}

/* ---- taking one ---- */

static uint32_t take_fresh(struct lrd_attachment *at)
{
    /* Read first, so that it does not count round. */
    if (lrd_load32_relaxed(&at->results.fresh) >= LRD_RESULTS)
        return 0;
    uint32_t i = atomic_fetch_add_explicit(&at->results.fresh.v, 1, memory_order_relaxed); /* who gets the number has the place; nothing else is told by it */
    if (i >= LRD_RESULTS)
        return 0;
    /* A new lane's zeros would be an answer at position 0. */
    lrd_store_relaxed(&at->ring.lane->result[i].position, UINT64_MAX);
    return i + 1;
}

/* Whether an abandoned place is ours now: its record has been passed. */
static bool reclaim(struct lrd_attachment *at, uint32_t place, uint64_t applied)
{
    uint64_t o = lrd_load_relaxed(owner_at(at, place)); /* relaxed: the compare-and-swap decides */
    while (owner_is_abandoned(o) && owner_position(o) < applied)
        if (lrd_cas(owner_at(at, place), &o, OWNER_NONE))
            return true;
    return false;
}

static __attribute__((noinline)) uint32_t take_abandoned(struct lrd_attachment *at)
{
    /* Acquire: pairs with the release of the applied position in an intent; no result of those records is stored after it. */
    uint64_t applied = lrd_load_acquire(&at->words->applied);
    uint32_t mine = 0;
    for (uint32_t place = 1; place <= LRD_RESULTS; place++) {
        if (!reclaim(at, place, applied))
            continue;
        if (mine == 0)
            mine = place;
        else
            push(&at->results, place);
    }
    return mine;
}

uint32_t lrd_result_take(struct lrd_attachment *at)
{
    uint32_t place = pop(&at->results);
    if (lrd_unlikely(place == 0))
        place = take_fresh(at);
    return lrd_likely(place != 0) ? place : take_abandoned(at);
}

void lrd_result_give_back(struct lrd_attachment *at, uint32_t place) { push(&at->results, place); }

void lrd_result_abandon(struct lrd_attachment *at, uint32_t place, uint64_t position)
{
    /* Release: we are done with it; pairs with the acquire of the compare-and-swap in reclaim(). */
    lrd_store_release(owner_at(at, place), owner_make(position, OWNER_ABANDONED));
}

/* ---- by ticket ---- */

/* Records that ask for a result have two cells at least: the lowest bit says nothing. */
static lrd_u32 *hint_at(struct lrd_attachment *at, uint64_t position) { return &at->results.hint[(position >> 1) % LRD_RESULT_HINTS]; }

void lrd_result_hold(struct lrd_attachment *at, uint32_t place, uint64_t position)
{
    lrd_store32_relaxed(hint_at(at, position), place); /* believed by nobody */
    /* Release: as in lrd_result_abandon(); pairs with the compare-and-swap of who collects. */
    lrd_store_release(owner_at(at, place), owner_make(position, OWNER_HELD));
}

/* The place that is held for this position; 0: none is. Relaxed: who has a ticket has it from who held the place, and so the owner word; whether it is still so, the
 * compare-and-swap decides. */
static uint32_t find(struct lrd_attachment *at, uint64_t position)
{
    uint64_t held = owner_make(position, OWNER_HELD);
    uint32_t place = lrd_load32_relaxed(hint_at(at, position));
    if (lrd_likely(place != 0 && lrd_load_relaxed(owner_at(at, place)) == held))
        return place;
    for (place = 1; place <= LRD_RESULTS; place++)
        if (lrd_load_relaxed(owner_at(at, place)) == held)
            return place;
    return 0;
}

/* Takes the ticket's right to its place away. False: another thread has collected or forgotten it. */
static bool release_to(struct lrd_attachment *at, uint32_t place, uint64_t position, uint64_t owner)
{
    uint64_t held = owner_make(position, OWNER_HELD), o = held;
    while (!lrd_cas(owner_at(at, place), &o, owner)) /* which may fail for nothing */
        if (o != held)
            return false;
    return true;
}

/* ---- reading ---- */

int lrd_answer_result(const struct lrd_answered *a)
{
    switch (a->answer) {
    case LRD_ANSWER_OK:
        return 0;
    case LRD_ANSWER_MISSING:
        return LARDER_MISS;
    case LRD_ANSWER_PRESENT:
        return LARDER_EXISTS;
    case LRD_ANSWER_CHANGED:
        return LARDER_CHANGED;
    case LRD_ANSWER_OVERFLOW:
        return LARDER_OVERFLOW;
    case LRD_ANSWER_NO_NUMBER:
        return LARDER_NOT_A_NUMBER;
    case LRD_ANSWER_TOO_LARGE:
        return -E2BIG;
    case LRD_ANSWER_FULL:
        return LARDER_FULL;
    case LRD_ANSWER_HELD:
        return LARDER_HELD;
    case LRD_ANSWER_VOID:
        return LARDER_VOID;
    case LRD_ANSWER_DISCARDED:
        return LARDER_DISCARDED;
    case LRD_ANSWER_NO_NS:
        return LARDER_NO_NAMESPACE;
    default:
        return -EPROTO;
    }
}

/* The record at that position was applied. 0; -EPROTO: no word about it; LARDER_LOST. */
static int read_result(const struct lrd_attachment *at, uint32_t place, uint64_t position, struct lrd_answered *a)
{
    const struct lrd_result *r = result_at(at, place);
    /* Relaxed: stored before the applied position that we have seen. */
    uint64_t of = lrd_load_relaxed(&r->position);
    *a = (struct lrd_answered){lrd_load_relaxed(&r->answer), lrd_load_relaxed(&r->version), lrd_load_relaxed(&r->number)};
    lrd_fence_acquire(); /* the look at the lane before the look whether it still was one; pairs with the release in retire() */
    if (lrd_unlikely(lrd_load_relaxed(&at->replaced) != 0))
        return LARDER_LOST;
    return lrd_likely(of == position) ? 0 : -EPROTO;
}

int lrd_result_await(struct larder *h, struct lrd_attachment *at, uint32_t place, uint64_t position, uint32_t timeout_ms, struct lrd_answered *a)
{
    int r = lrd_wait_for(h, at, position, timeout_ms);
    if (lrd_unlikely(r == LARDER_TIMEOUT))
        return r;
    if (lrd_likely(r == 0))
        r = read_result(at, place, position, a);
    if (r != LARDER_LOST)
        lrd_result_give_back(at, place);
    return r; /* the lane is lost, and the place with it */
}

/* ---- tickets ---- */

/* 0: *at, *position and *place of a ticket that nobody has collected; LARDER_FORGOTTEN, LARDER_LOST, -EINVAL. */
static int find_ticket(struct larder *h, larder_ticket ticket, struct lrd_attachment **at, uint64_t *position, uint32_t *place)
{
    int r = lrd_ticket_find(h, ticket, at, position);
    if (r != 0)
        return r;
    *place = find(*at, *position);
    return *place != 0 ? 0 : LARDER_FORGOTTEN;
}

int larder_result(struct larder *h, larder_ticket ticket, uint32_t timeout_ms, struct larder_outcome *outcome)
{
    struct lrd_attachment *at;
    struct lrd_answered a;
    uint64_t position;
    uint32_t place;
    if (outcome == NULL || outcome->size < sizeof *outcome)
        return -EINVAL;
    int r = find_ticket(h, ticket, &at, &position, &place);
    if (r == 0)
        r = lrd_wait_for(h, at, position, timeout_ms);
    if (r != 0)
        return r;
    if (!release_to(at, place, position, OWNER_NONE))
        return LARDER_FORGOTTEN;
    r = read_result(at, place, position, &a);
    if (r == LARDER_LOST)
        return r;
    lrd_result_give_back(at, place);
    if (r != 0)
        a = (struct lrd_answered){.answer = UINT64_MAX};
    outcome->version = a.version;
    outcome->number = (int64_t)a.number;
    outcome->result = lrd_answer_result(&a);
    outcome->reserved = 0;
    return 0;
}

int larder_forget(struct larder *h, larder_ticket ticket)
{
    struct lrd_attachment *at;
    uint64_t position;
    uint32_t place;
    int r = find_ticket(h, ticket, &at, &position, &place);
    if (r != 0)
        return r;
    if (!release_to(at, place, position, owner_make(position, OWNER_ABANDONED)))
        return LARDER_FORGOTTEN;
    /* Acquire: as in take_abandoned(). */
    if (reclaim(at, place, lrd_load_acquire(&at->words->applied)))
        lrd_result_give_back(at, place);
    return 0;
}
