#include "daemon/credit.h"

#define EXTRA_BYTES (64u << 10) /* granted beyond what is asked for, at most */
#define EXTRA_ITEMS 256u

/* ---- accounts ---- */

/* A namespace's account, or LRD_NO_CREDIT. */
static uint32_t account_of(const struct lrd_credits *c, uint32_t ns)
{
    const struct lrd_namespace *n = &c->s->namespaces[ns];
    uint32_t account = lrd_load32_relaxed(&n->credit);
    return lrd_load32_relaxed(&n->state) == LRD_NS_LIVE && account < LRD_CREDITS ? account : LRD_NO_CREDIT;
}

static uint64_t unused_bytes(const struct lrd_credit *k) { return lrd_load_relaxed(&k->granted_bytes) - lrd_load_relaxed(&k->used_bytes); }
static uint64_t unused_items(const struct lrd_credit *k) { return lrd_load_relaxed(&k->granted_items) - lrd_load_relaxed(&k->used_items); }

static void promise_all(struct lrd_credits *c, uint32_t lane)
{
    for (uint32_t i = 0; i < LRD_CREDITS; i++) {
        c->promised[i].bytes += unused_bytes(&c->s->credits[lane].of[i]);
        c->promised[i].items += unused_items(&c->s->credits[lane].of[i]);
    }
}

void lrd_credits_return(struct lrd_credits *c, uint32_t lane)
{
    for (uint32_t i = 0; i < LRD_CREDITS; i++) {
        c->promised[i].bytes -= unused_bytes(&c->s->credits[lane].of[i]);
        c->promised[i].items -= unused_items(&c->s->credits[lane].of[i]);
    }
}

void lrd_credits_init(struct lrd_credits *c, struct lrd_store *s, const struct lrd_arena *a, struct lrd_journal_writer *j)
{
    *c = (struct lrd_credits){.s = s, .a = a, .j = j};
    for (uint32_t lane = 0; lane < s->r.geometry.n_lanes; lane++) {
        uint32_t state = lrd_load32_relaxed(&s->lanes[lane].state);
        if (state == LRD_LANE_LIVE || state == LRD_LANE_DYING)
            promise_all(c, lane);
    }
}

/* ---- use ---- */

static bool is_enough(const struct lrd_credits *c, const struct lrd_credit *k, uint32_t ns, uint32_t bytes)
{
    return unused_bytes(k) >= bytes && unused_items(k) > 0 && bytes <= lrd_load_relaxed(&c->s->namespaces[ns].largest);
}

bool lrd_credits_cover(const struct lrd_credits *c, uint32_t lane, uint32_t ns, uint32_t bytes)
{
    uint32_t account = account_of(c, ns);
    return account == LRD_NO_CREDIT || is_enough(c, &c->s->credits[lane].of[account], ns, bytes);
}

bool lrd_credits_use(struct lrd_credits *c, uint32_t lane, uint32_t ns, uint32_t bytes)
{
    uint32_t account = account_of(c, ns);
    if (account == LRD_NO_CREDIT)
        return true;
    struct lrd_credit *k = &c->s->credits[lane].of[account];
    if (!is_enough(c, k, ns, bytes)) {
        lrd_journal_add(c->j, lrd_store_counter(c->s, ns, LRD_C_uncovered), 1);
        return false;
    }
    c->promised[account].bytes -= bytes;
    c->promised[account].items--;
    lrd_journal_add(c->j, &k->used_bytes, bytes);
    lrd_journal_add(c->j, &k->used_items, 1);
    return true;
}

/* ---- grant ---- */

/* Bytes that a namespace that refuses eviction can always hold, whatever was overwritten in which order: cleaning copies into a block while it empties another and a third takes what clients
 * write; at each block's end there may be too little left for the largest item; and an eighth is garbage, or cleaning would have to copy all for nothing. */
static uint64_t capacity_of(const struct lrd_credits *c, uint32_t ns, uint64_t largest)
{
    uint64_t blocks = lrd_load_relaxed(&c->s->namespaces[ns].max_blocks), block = UINT64_C(1) << c->s->r.block_shift;
    return blocks > 3 ? (blocks - 3) * (block - largest) / 8 * 7 : 0;
}

/* Its part of the table, at three quarters full. */
static uint64_t slots_of(const struct lrd_credits *c, uint32_t ns)
{
    uint64_t slots = (uint64_t)lrd_n_buckets(&c->s->r) * LRD_SLOTS;
    return slots * 3 / 4 * lrd_load_relaxed(&c->s->namespaces[ns].max_blocks) / c->s->r.n_blocks;
}

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* What is left after a wish, or nothing at all. */
static bool take(uint64_t capacity, uint64_t taken, uint64_t wish, uint64_t *left)
{
    if (wish > capacity || taken > capacity - wish)
        return false;
    *left = capacity - wish - taken;
    return true;
}

bool lrd_credits_afford(const struct lrd_credits *c, uint32_t ns, uint32_t bytes, uint32_t old)
{
    uint32_t account = account_of(c, ns);
    if (account == LRD_NO_CREDIT)
        return true;
    const struct lrd_promise *p = &c->promised[account];
    const struct lrd_tally *t = &c->a->ns[ns];
    uint64_t largest = lrd_load_relaxed(&c->s->namespaces[ns].largest), left;
    if (bytes > largest)
        largest = bytes;
    return take(capacity_of(c, ns, largest), t->live_bytes - old + p->bytes, bytes, &left) && take(slots_of(c, ns), t->live_items - (old > 0) + p->items, 1, &left);
}

void lrd_credits_afforded(struct lrd_credits *c, uint32_t ns, uint32_t bytes)
{
    lrd_u64 *largest = &c->s->namespaces[ns].largest;
    if (account_of(c, ns) != LRD_NO_CREDIT && bytes > lrd_load_relaxed(largest))
        lrd_journal_step(c->j, largest, bytes);
}

/* A little more than is asked for, so that the next writes need not ask; less of it the less there is, because what a lane has and does not use others cannot have. */
enum lrd_answer lrd_credits_grant(struct lrd_credits *c, uint32_t lane, uint32_t ns, const struct lrd_credit_ask *ask)
{
    if (ask->largest > c->s->r.geometry.item_max)
        return LRD_ANSWER_MALFORMED;
    uint32_t account = ns < LRD_NAMESPACES ? account_of(c, ns) : LRD_NO_CREDIT;
    if (account == LRD_NO_CREDIT)
        return LRD_ANSWER_NO_NS;
    struct lrd_promise *p = &c->promised[account];
    const struct lrd_tally *t = &c->a->ns[ns];
    uint64_t largest = lrd_load_relaxed(&c->s->namespaces[ns].largest), bytes_left, items_left, lanes = c->s->r.geometry.n_lanes;
    if (ask->largest > largest)
        largest = ask->largest;
    if (!take(capacity_of(c, ns, largest), t->live_bytes + p->bytes, ask->bytes, &bytes_left) || !take(slots_of(c, ns), t->live_items + p->items, ask->items, &items_left))
        return LRD_ANSWER_FULL;
    uint64_t bytes = ask->bytes + least(bytes_left / (8 * lanes), EXTRA_BYTES), items = ask->items + least(items_left / (8 * lanes), EXTRA_ITEMS);
    struct lrd_credit *k = &c->s->credits[lane].of[account];
    p->bytes += bytes;
    p->items += items;
    lrd_journal_add(c->j, &k->granted_bytes, bytes);
    lrd_journal_add(c->j, &k->granted_items, items);
    lrd_journal_step(c->j, &c->s->namespaces[ns].largest, largest);
    return LRD_ANSWER_OK;
}
