/* Proves the invariants of table and arena.
 *
 * A pass walks table and descriptors, counts everything anew, and collects what does not agree. On a live daemon the writer changes things under the walk, so
 * a pass alone proves little. Two things make a finding final: the writer stood still during the whole pass (nothing was applied, freed, opened, swept,
 * no intent was under way), or each of PASSES passes, some milliseconds apart, found the very same. What does not hold still is not a finding,
 * and it is said how much of that there was.
 *
 * Per slot:   its location lies in the arena, and its item in the written part of its block; the item's key hashes to that tag, and to a home from
 *             which that displacement leads to that bucket; a get of the key finds this slot and no other; no two items share bytes
 * Per bucket: the displaced word is exact (15 may stand for less)
 * Per block:  state, owner, live items, bytes and padding, latest expiry, epoch and generation fit each other and the slots
 * Per namespace: its counters add up to what is there; its blocks are within its maximum, one open at most in each of its chains; what it is made of makes sense
 * Per lane:   no more credit was used than granted
 * All:        the counters add up to what is there; the minimums fit into the arena but for its spare blocks; no two blocks have the same place in the order */
#include "tools/ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shm/arena.h"
#include "shm/counters.h"
#include "shm/feed.h"
#include "shm/hash.h"
#include "shm/item.h"
#include "shm/namespace.h"
#include "shm/table.h"

#define PASSES 10u
#define BETWEEN_MS 7   /* no multiple of anything that a writer does */
#define PRINTED 25u    /* findings of a kind; of the others only the number is said */
#define SEEN_BLOCKS_AHEAD (1u << 15)

enum finding_kind {
    SLOT_NONSENSE,
    SLOT_PLACE,
    SLOT_UNWRITTEN,
    SLOT_NAMESPACE,
    SLOT_EXPIRY,
    SLOT_HIDDEN,
    SLOT_DUPLICATE,
    SLOT_OVERLAP,
    WORD_DISPLACED,
    BLOCK_STATE,
    BLOCK_OWNER,
    BLOCK_LIVE,
    BLOCK_FREE_USED,
    BLOCK_EPOCH,
    BLOCK_GENERATION,
    BLOCK_SEQUENCE,
    OPEN_BLOCKS,
    SLOTS_USED,
    COUNTED_BLOCKS,
    COUNTED_ITEMS,
    COUNTED_ELSEWHERE,
    NS_COUNTED_BLOCKS,
    NS_COUNTED_ITEMS,
    NS_MAXIMUM,
    NS_MINIMUMS,
    NS_NONSENSE,
    CREDIT_BYTES,
    CREDIT_ITEMS,
};

struct finding {
    enum finding_kind kind;
    uint64_t where; /* slot: bucket * 8 + index; bucket; block; open block: namespace * LRD_CHAINS + chain; namespace; lane * LRD_CREDITS + account */
    uint64_t found;
    uint64_t expected;
};

struct findings {
    struct finding *f;
    size_t n;
};

struct check {
    const struct ctl_peek *p;
    const struct lrd_reader *r;
    struct ctl_item item;
    uint64_t *displaced; /* per bucket, counted anew: as the word itself, counters end at 15 */
    uint64_t *live;      /* per block, counted anew: as descriptor.live */
    uint64_t *taken;     /* a bit per granule */
    uint64_t slots_used, items;
    struct {
        uint64_t blocks, items;    /* as the descriptors say, of any epoch */
        uint64_t open[LRD_CHAINS]; /* of its epoch */
    } of[LRD_NAMESPACES];
    struct findings now;
};

/* ---- findings ---- */

static void find(struct check *c, enum finding_kind kind, uint64_t where, uint64_t found, uint64_t expected)
{
    struct findings *l = &c->now;
    if ((l->n & (l->n - 1)) == 0)
        l->f = ctl_grow(l->f, l->n ? l->n * 2 : 1, sizeof *l->f);
    l->f[l->n++] = (struct finding){kind, where, found, expected};
}

static int compare(uint64_t a, uint64_t b) { return (a > b) - (a < b); }

static int by_place(const void *x, const void *y)
{
    const struct finding *a = x, *b = y;
    int order = compare(a->kind, b->kind);
    if (order == 0)
        order = compare(a->where, b->where);
    if (order == 0)
        order = compare(a->found, b->found);
    return order ? order : compare(a->expected, b->expected);
}

/* Leaves in `kept` what both have. Both are sorted. */
static void keep_same(struct findings *kept, const struct findings *other)
{
    size_t n = 0, j = 0;
    for (size_t i = 0; i < kept->n; i++) {
        while (j < other->n && by_place(&other->f[j], &kept->f[i]) < 0)
            j++;
        if (j < other->n && by_place(&other->f[j], &kept->f[i]) == 0)
            kept->f[n++] = kept->f[i];
    }
    kept->n = n;
}

/* ---- slots ---- */

/* Marks the granules of an item; false: some are another's. */
static bool take_granules(struct check *c, const struct ctl_item *item)
{
    uint64_t first = item->off >> c->r->granule_shift, n = item->bytes >> c->r->granule_shift;
    bool free = true;
    for (uint64_t g = first; g < first + n; g++) {
        uint64_t bit = UINT64_C(1) << (g & 63);
        free &= (c->taken[g >> 6] & bit) == 0;
        c->taken[g >> 6] |= bit;
    }
    return free;
}

/* What a get of the item's own key finds. */
static void check_get(struct check *c, uint64_t where, uint64_t hash)
{
    const struct ctl_item *item = &c->item;
    unsigned char nothing;
    struct lrd_get get = {
        .key = item->data,
        .key_len = item->key_len,
        .ns = item->ns,
        .hash = hash,
        .buffer = &nothing, /* no room: nothing is copied */
        .zero_ns = c->p->zero_ns,
    };
    enum lrd_outcome outcome = lrd_table_get(c->r, &get);
    if (outcome == LRD_ABSENT && get.slot == 0)
        find(c, SLOT_HIDDEN, where, item->slot, 0);
    else if (get.slot != item->slot)
        find(c, SLOT_DUPLICATE, where, item->slot, get.slot);
}

static void check_live(struct check *c, uint32_t bucket, uint64_t where)
{
    const struct ctl_item *item = &c->item;
    const struct lrd_reader *r = c->r;
    uint64_t end = (item->off & ((UINT64_C(1) << r->block_shift) - 1)) + item->bytes;
    uint64_t hash = lrd_hash(r->hash_seed, item->ns, item->data, item->key_len);
    uint32_t tag = lrd_hash_tag(hash), displacement = lrd_slot_displacement(item->slot);
    c->items++;
    c->live[item->block] += lrd_live_make(1, item->bytes, item->bytes - lrd_item_used(item->kind, item->key_len, item->value_len));
    if (end > item->used)
        find(c, SLOT_UNWRITTEN, where, end, item->used);
    if (item->ns != item->block_ns)
        find(c, SLOT_NAMESPACE, where, item->ns, item->block_ns);
    if (item->latest_expiry < (item->expires_ms ? item->expires_ms : LRD_EXPIRES_MAX + 1))
        find(c, SLOT_EXPIRY, where, item->expires_ms, item->latest_expiry);
    if (!take_granules(c, item))
        find(c, SLOT_OVERLAP, where, item->slot, 0);
    if (tag != lrd_slot_tag(item->slot) || lrd_hash_bucket(lrd_hash_home(hash, r->n_pairs), tag, displacement, r->n_pairs) != bucket)
        find(c, SLOT_PLACE, where, item->slot, hash);
    else
        check_get(c, where, hash);
}

/* Counts a slot, live or dead, at its home. */
static void count_displaced(struct check *c, uint32_t bucket, uint64_t slot)
{
    uint32_t displacement = lrd_slot_displacement(slot), tag = lrd_slot_tag(slot);
    if (displacement == 0)
        return;
    uint64_t *word = &c->displaced[lrd_hash_bucket(bucket, tag, displacement, c->r->n_pairs)];
    if (lrd_displaced_count(*word, displacement, tag) < LRD_DISPLACED_MAX)
        *word += UINT64_C(1) << lrd_displaced_shift(displacement, tag);
}

static void check_slots(struct check *c)
{
    for (uint32_t b = 0; b < ctl_n_buckets(c->r); b++) {
        for (unsigned i = 0; i < LRD_SLOTS; i++) {
            uint64_t where = (uint64_t)b * 8 + i;
            enum ctl_slot state = ctl_item_look(c->r, &c->r->buckets[b].slot[i], &c->item, false);
            if (state == CTL_SLOT_EMPTY)
                continue;
            c->slots_used++;
            count_displaced(c, b, c->item.slot);
            if (state == CTL_SLOT_LIVE)
                check_live(c, b, where);
            else if (state == CTL_SLOT_BAD)
                find(c, SLOT_NONSENSE, where, c->item.slot, 0);
        }
    }
}

/* ---- what was counted ---- */

/* Equal, but a counter that stands at its end may have lost count. */
static bool same_displaced(uint64_t word, uint64_t counted)
{
    for (unsigned shift = 0; shift < 48; shift += 4) {
        uint64_t said = word >> shift & 15;
        if (said != (counted >> shift & 15) && said != LRD_DISPLACED_MAX)
            return false;
    }
    return word >> 48 == 0;
}

static void check_words(struct check *c)
{
    for (uint32_t b = 0; b < ctl_n_buckets(c->r); b++) {
        uint64_t word = lrd_load_acquire(&c->r->buckets[b].displaced);
        if (!same_displaced(word, c->displaced[b]))
            find(c, WORD_DISPLACED, b, word, c->displaced[b]);
    }
}

static void check_free_block(struct check *c, uint32_t i, const struct lrd_descriptor *d)
{
    uint64_t used = lrd_load_relaxed(&d->used);
    if (used != 0)
        find(c, BLOCK_FREE_USED, i, used, 0);
}

/* Nothing but a namespace that is live, or was when the block was filled, and one of its chains. */
static bool owner_ok(const struct check *c, uint64_t owner, uint64_t word)
{
    uint32_t ns = lrd_owner_ns(owner);
    if (ns >= LRD_NS_NOWHERE || ((uint32_t)owner >> 8) >= LRD_CHAINS)
        return false;
    return ctl_ns_is_live(c->r, ns) || lrd_block_word_epoch(word) < lrd_load32_acquire(&c->r->namespaces[ns].epoch);
}

static void check_used_block(struct check *c, uint32_t i, const struct lrd_descriptor *d, uint64_t word)
{
    uint64_t owner = lrd_load_relaxed(&d->owner), used = lrd_load_relaxed(&d->used);
    uint32_t ns = lrd_owner_ns(owner);
    if (used > UINT64_C(1) << c->r->block_shift)
        find(c, BLOCK_STATE, i, used, ns);
    if (!owner_ok(c, owner, word)) {
        find(c, BLOCK_OWNER, i, owner, 0);
        return;
    }
    uint32_t epoch = lrd_load32_acquire(&c->r->namespaces[ns].epoch);
    if (lrd_block_word_epoch(word) > epoch)
        find(c, BLOCK_EPOCH, i, lrd_block_word_epoch(word), epoch);
    uint32_t swept = lrd_load32_acquire(&d->generation_swept);
    if (lrd_block_word_generation(word) - swept >= SEEN_BLOCKS_AHEAD)
        find(c, BLOCK_GENERATION, i, lrd_block_word_generation(word), swept);
}

static int by_value(const void *x, const void *y)
{
    const uint64_t *a = x, *b = y;
    return compare(*a, *b);
}

/* Blocks in use were opened one after the other. */
static void check_order(struct check *c)
{
    uint64_t *sequence = ctl_alloc(c->r->n_blocks, sizeof *sequence), n = 0;
    for (uint32_t i = 0; i < c->r->n_blocks; i++)
        if (lrd_load_relaxed(&c->r->descriptors[i].state) != LRD_BLOCK_FREE)
            sequence[n++] = lrd_load_relaxed(&c->r->descriptors[i].sequence);
    qsort(sequence, n, sizeof *sequence, by_value);
    for (uint64_t i = 0; i < n; i++) {
        if (sequence[i] == 0 || sequence[i] > lrd_load_acquire(&c->r->journal->sequence) || (i > 0 && sequence[i] == sequence[i - 1]))
            find(c, BLOCK_SEQUENCE, 0, sequence[i], 0);
    }
    free(sequence);
}

/* What came less what went is what is there. A copied item stays one item. */
static uint64_t items_left(uint64_t (*count)(const struct check *c, uint32_t ns, enum lrd_counter_id id), const struct check *c, uint32_t ns)
{
    return count(c, ns, LRD_C_sets) - count(c, ns, LRD_C_overwrites) - count(c, ns, LRD_C_deletes) - count(c, ns, LRD_C_evicted) - count(c, ns, LRD_C_expired) -
           count(c, ns, LRD_C_reset_items) - count(c, ns, LRD_C_no_room);
}

static uint64_t count_all(const struct check *c, uint32_t ns, enum lrd_counter_id id)
{
    (void)ns;
    return lrd_counter_sum(c->r, id);
}

static uint64_t count_one(const struct check *c, uint32_t ns, enum lrd_counter_id id) { return lrd_load_relaxed(&lrd_ns_counters(c->r, ns)[id]); }

static void check_counters(struct check *c, uint64_t in_use, uint64_t live_items)
{
    uint64_t blocks = count_all(c, 0, LRD_C_blocks_opened) - count_all(c, 0, LRD_C_blocks_freed);
    if (blocks != in_use)
        find(c, COUNTED_BLOCKS, 0, blocks, in_use);
    uint64_t items = items_left(count_all, c, 0);
    if (items != live_items)
        find(c, COUNTED_ITEMS, 0, items, live_items);
    uint64_t slots = count_all(c, 0, LRD_C_slots_used);
    if (slots != c->slots_used)
        find(c, SLOTS_USED, 0, slots, c->slots_used);
}

/* ---- namespaces and lanes ---- */

static void check_ns_counters(struct check *c, uint32_t ns)
{
    uint64_t blocks = count_one(c, ns, LRD_C_blocks_opened) - count_one(c, ns, LRD_C_blocks_freed), items = items_left(count_one, c, ns);
    if (blocks != c->of[ns].blocks)
        find(c, NS_COUNTED_BLOCKS, ns, blocks, c->of[ns].blocks);
    if (items != c->of[ns].items)
        find(c, NS_COUNTED_ITEMS, ns, items, c->of[ns].items);
    for (unsigned i = 0; ns != 0 && i < LRD_N_COUNTERS; i++)
        if (lrd_counter_info[i].scope == LRD_SCOPE_all && count_one(c, ns, (enum lrd_counter_id)i) != 0)
            find(c, COUNTED_ELSEWHERE, ns, count_one(c, ns, (enum lrd_counter_id)i), i);
}

/* What its maker checked. */
static const char *const ns_faults[] = {NULL, "its name is none", "an unknown policy", "a minimum above its maximum, or a maximum above the arena",
                                        "an account of credit that does not fit its policy", "a name that another one has", "an epoch that cannot be",
                                        "a change feed that does not fit, or lies in another's", "a change feed that has published more than it has claimed"};

static unsigned feed_fault(const struct check *c, uint32_t ns)
{
    uint32_t entries;
    const struct lrd_feed *f = lrd_feed_of(c->r, ns, &entries);
    uint64_t word = lrd_load_relaxed(&c->r->namespaces[ns].feed), end = lrd_feed_page(word) + lrd_feed_pages(entries);
    if (f == NULL)
        return word != 0 ? 7 : 0;
    for (uint32_t other = 0; other < LRD_NS_NOWHERE; other++) {
        uint64_t theirs = lrd_load_relaxed(&c->r->namespaces[other].feed);
        if (other != ns && ctl_ns_is_live(c->r, other) && theirs != 0 && lrd_feed_page(theirs) < end &&
            lrd_feed_page(theirs) + lrd_feed_pages(lrd_feed_entries(theirs)) > lrd_feed_page(word))
            return 7;
    }
    uint64_t published = lrd_feed_end(f); /* before the other: the writer stores that first */
    return lrd_load_relaxed(&f->claimed) < published ? 8 : 0;
}

static unsigned ns_fault(const struct check *c, uint32_t ns)
{
    const struct lrd_namespace *n = &c->r->namespaces[ns];
    uint64_t min = lrd_load_relaxed(&n->min_blocks), max = lrd_load_relaxed(&n->max_blocks);
    uint32_t policy = lrd_load32_relaxed(&n->policy), credit = lrd_load32_relaxed(&n->credit);
    if (!lrd_ns_name_ok(n->name))
        return 1;
    if (policy >= LRD_N_POLICIES)
        return 2;
    if (min > max || max > c->r->n_blocks)
        return 3;
    if (policy == LRD_POLICY_REFUSE ? credit >= LRD_CREDITS || min != max : credit != LRD_NO_CREDIT)
        return 4;
    if (lrd_ns_find(c->r, n->name) != ns)
        return 5;
    return lrd_load32_relaxed(&n->epoch) == 0 ? 6 : feed_fault(c, ns);
}

static void check_namespaces(struct check *c)
{
    uint64_t minimums = 0;
    for (uint32_t ns = 0; ns < LRD_NAMESPACES; ns++) {
        const struct lrd_namespace *n = &c->r->namespaces[ns];
        check_ns_counters(c, ns);
        if (!ctl_ns_is_live(c->r, ns))
            continue;
        unsigned fault = ns_fault(c, ns);
        if (fault != 0)
            find(c, NS_NONSENSE, ns, fault, 0);
        /* One more where eviction is refused, while what workers that were killed have left behind is cleaned (LRD_FOR_RESCUE). */
        uint64_t max = lrd_load_relaxed(&n->max_blocks) + (lrd_load32_relaxed(&n->policy) == LRD_POLICY_REFUSE);
        if (c->of[ns].blocks > max)
            find(c, NS_MAXIMUM, ns, c->of[ns].blocks, max);
        minimums += lrd_load_relaxed(&n->min_blocks);
        for (uint32_t chain = 0; chain < LRD_CHAINS; chain++)
            if (c->of[ns].open[chain] > 1)
                find(c, OPEN_BLOCKS, ns * LRD_CHAINS + chain, c->of[ns].open[chain], 1);
    }
    if (minimums > c->r->n_blocks - LRD_SPARE_BLOCKS)
        find(c, NS_MINIMUMS, 0, minimums, c->r->n_blocks - LRD_SPARE_BLOCKS);
}

/* Two namespaces never share an account. */
static void check_accounts(struct check *c)
{
    uint32_t owner[LRD_CREDITS] = {0}; /* + 1 */
    for (uint32_t ns = 0; ns < LRD_NS_NOWHERE; ns++) {
        uint32_t credit = lrd_load32_relaxed(&c->r->namespaces[ns].credit);
        if (!ctl_ns_is_live(c->r, ns) || credit >= LRD_CREDITS)
            continue;
        if (owner[credit] != 0)
            find(c, NS_NONSENSE, ns, 4, owner[credit] - 1);
        owner[credit] = ns + 1;
    }
}

static void check_credits(struct check *c)
{
    for (uint32_t lane = 0; lane < c->r->geometry.n_lanes; lane++) {
        if (lrd_load32_acquire(&c->r->lanes[lane].state) != LRD_LANE_LIVE)
            continue;
        for (uint32_t i = 0; i < LRD_CREDITS; i++) {
            const struct lrd_credit *credit = &c->r->credits[lane].of[i];
            /* Used first: it never passes what was granted before. */
            uint64_t used_bytes = lrd_load_acquire(&credit->used_bytes), used_items = lrd_load_acquire(&credit->used_items);
            uint64_t granted_bytes = lrd_load_acquire(&credit->granted_bytes), granted_items = lrd_load_acquire(&credit->granted_items);
            if (used_bytes > granted_bytes)
                find(c, CREDIT_BYTES, lane * LRD_CREDITS + i, used_bytes, granted_bytes);
            if (used_items > granted_items)
                find(c, CREDIT_ITEMS, lane * LRD_CREDITS + i, used_items, granted_items);
        }
    }
}

/* ---- blocks ---- */

/* A block of an epoch before the last reset: its items are dead without having been counted off. */
static bool was_reset(const struct check *c, uint32_t block, const struct lrd_descriptor *d)
{
    uint64_t ns = lrd_owner_ns(lrd_load_relaxed(&d->owner));
    return ns < LRD_NAMESPACES && lrd_block_word_epoch(lrd_load_relaxed(&c->r->block_words[block])) != lrd_load32_relaxed(&c->r->namespaces[ns].epoch);
}

static void check_block(struct check *c, uint32_t i, uint64_t state, uint64_t live)
{
    const struct lrd_descriptor *d = &c->r->descriptors[i];
    if (state == LRD_BLOCK_FREE)
        check_free_block(c, i, d);
    else if (state > LRD_BLOCK_FULL)
        find(c, BLOCK_STATE, i, state, 0);
    else
        check_used_block(c, i, d, lrd_load_acquire(&c->r->block_words[i]));
    if (live != c->live[i] && (state == LRD_BLOCK_FREE || !was_reset(c, i, d)))
        find(c, BLOCK_LIVE, i, live, c->live[i]);
}

/* Counts a block in use for its namespace, whatever its epoch: its items are counted off when it is freed. */
static void count_block(struct check *c, uint32_t i, uint64_t state, uint64_t live)
{
    const struct lrd_descriptor *d = &c->r->descriptors[i];
    uint64_t owner = lrd_load_relaxed(&d->owner);
    uint32_t ns = lrd_owner_ns(owner);
    if (state == LRD_BLOCK_FREE || ns >= LRD_NAMESPACES)
        return;
    c->of[ns].blocks++;
    c->of[ns].items += lrd_live_items(live);
    c->of[ns].open[lrd_owner_chain(owner)] += state == LRD_BLOCK_OPEN && !was_reset(c, i, d);
}

static void check_blocks(struct check *c)
{
    uint64_t in_use = 0, live_items = 0;
    for (uint32_t i = 0; i < c->r->n_blocks; i++) {
        uint64_t state = lrd_load_acquire(&c->r->descriptors[i].state), live = lrd_load_acquire(&c->r->descriptors[i].live);
        check_block(c, i, state, live);
        count_block(c, i, state, live);
        in_use += state != LRD_BLOCK_FREE;
        live_items += lrd_live_items(live);
    }
    check_counters(c, in_use, live_items);
    check_order(c);
}

/* ---- passes ---- */

/* Words of which at least one changes with everything the writer does to table and arena. */
struct stand {
    uint64_t word[8];
};
#define STAND_STEPS 1 /* of the intent under way */

static struct stand look_at_writer(const struct lrd_reader *r)
{
    const struct lrd_journal *j = r->journal;
    uint64_t epochs = 0; /* a reset by the clock is no record */
    for (uint32_t ns = 0; ns < LRD_NAMESPACES; ns++)
        epochs += lrd_load32_acquire(&r->namespaces[ns].epoch);
    struct stand s = {{lrd_load_acquire(&j->applied_total), lrd_load_acquire(&j->n_steps), lrd_load_acquire(&j->sweep_owed),
                       lrd_counter_sum(r, LRD_C_blocks_freed), lrd_counter_sum(r, LRD_C_blocks_opened),
                       lrd_load_acquire(&r->counters[LRD_C_slots_swept]), lrd_counter_sum(r, LRD_C_copied), epochs}};
    lrd_fence_acquire(); /* what a pass loads is loaded after the first look */
    return s;
}

static void pass(struct check *c)
{
    uint64_t granules = (uint64_t)c->r->n_blocks << (c->r->block_shift - c->r->granule_shift);
    memset(c->displaced, 0, ctl_n_buckets(c->r) * sizeof *c->displaced);
    memset(c->live, 0, c->r->n_blocks * sizeof *c->live);
    memset(c->taken, 0, granules / 8);
    c->slots_used = c->items = 0;
    memset(c->of, 0, sizeof c->of);
    c->now = (struct findings){0};
    check_slots(c);
    check_words(c);
    check_blocks(c);
    check_namespaces(c);
    check_accounts(c);
    check_credits(c);
    if (c->now.n > 1)
        qsort(c->now.f, c->now.n, sizeof *c->now.f, by_place);
    lrd_fence_acquire(); /* and before the second */
}

static void rest(void)
{
    const struct timespec t = {.tv_nsec = BETWEEN_MS * 1000000L};
    nanosleep(&t, NULL);
}

/* Passes until a finding is final or there is none. The number of passes; *unsettled: differences that did not hold still; *quiet: the writer stood still. */
static unsigned settle(struct check *c, bool stable, struct findings *kept, size_t *unsettled, bool *quiet)
{
    unsigned n = 0;
    *quiet = false;
    *unsettled = 0;
    while (n < PASSES) {
        struct stand before = look_at_writer(c->r);
        pass(c);
        struct stand after = look_at_writer(c->r);
        *quiet = stable || memcmp(&before, &after, sizeof before) == 0;
        if (n++ == 0 || *quiet) {
            free(kept->f);
            *kept = c->now;
        } else {
            keep_same(kept, &c->now);
            *unsettled = c->now.n - kept->n;
            free(c->now.f);
        }
        /* In the middle of a change it may just have lost its core: it is given time to go on. */
        if ((*quiet && (stable || before.word[STAND_STEPS] == 0)) || (kept->n == 0 && *unsettled == 0))
            break;
        rest();
    }
    if (*quiet)
        *unsettled = 0;
    return n;
}

/* ---- what is said ---- */

static void print_slot(const struct finding *f, const char *what)
{
    printf("bucket %" PRIu64 " slot %" PRIu64 ": %s (slot word %016" PRIx64 ")\n", f->where / 8, f->where % 8, what, f->found);
}

static void print_finding(const struct lrd_reader *r, const struct finding *f)
{
    char name[LRD_NAMESPACE_NAME];
    uint64_t ns = f->kind == OPEN_BLOCKS ? f->where / LRD_CHAINS : f->where;
    ctl_ns_name(r, (uint32_t)(ns % LRD_NAMESPACES), name); /* of the kinds that are about one */
    switch (f->kind) {
    case SLOT_NONSENSE:
        print_slot(f, "points to something that is no item");
        break;
    case SLOT_PLACE:
        print_slot(f, "the key of its item does not belong here, or has another tag");
        break;
    case SLOT_UNWRITTEN:
        printf("bucket %" PRIu64 " slot %" PRIu64 ": its item ends at %" PRIu64 " in its block, of which %" PRIu64 " bytes are written\n", f->where / 8,
               f->where % 8, f->found, f->expected);
        break;
    case SLOT_NAMESPACE:
        printf("bucket %" PRIu64 " slot %" PRIu64 ": its item is of namespace %" PRIu64 ", its block of %" PRIu64 "\n", f->where / 8, f->where % 8, f->found,
               f->expected);
        break;
    case SLOT_EXPIRY:
        printf("bucket %" PRIu64 " slot %" PRIu64 ": its item expires at %" PRIu64 ", its block says %" PRIu64 " at the latest\n", f->where / 8, f->where % 8,
               f->found, f->expected);
        break;
    case SLOT_HIDDEN:
        print_slot(f, "a get of its key does not find it");
        break;
    case SLOT_DUPLICATE:
        print_slot(f, "a get of its key finds another slot");
        break;
    case SLOT_OVERLAP:
        print_slot(f, "its item shares bytes with another");
        break;
    case WORD_DISPLACED:
        printf("bucket %" PRIu64 ": displaced word is %016" PRIx64 ", counted %016" PRIx64 "\n", f->where, f->found, f->expected);
        break;
    case BLOCK_STATE:
        printf("block %" PRIu64 ": its descriptor makes no sense (%" PRIu64 ", %" PRIu64 ")\n", f->where, f->found, f->expected);
        break;
    case BLOCK_OWNER:
        printf("block %" PRIu64 ": its owner is no namespace, or no chain of one (%" PRIx64 ")\n", f->where, f->found);
        break;
    case BLOCK_LIVE:
        printf("block %" PRIu64 ": says %" PRIu32 " live items of %" PRIu32 " bytes with %" PRIu32 " of padding, counted %" PRIu32 " of %" PRIu32 " with %" PRIu32 "\n",
               f->where, lrd_live_items(f->found), lrd_live_bytes(f->found), lrd_live_padding(f->found), lrd_live_items(f->expected), lrd_live_bytes(f->expected),
               lrd_live_padding(f->expected));
        break;
    case BLOCK_FREE_USED:
        printf("block %" PRIu64 ": is free and says that %" PRIu64 " bytes are used\n", f->where, f->found);
        break;
    case BLOCK_EPOCH:
        printf("block %" PRIu64 ": is of epoch %" PRIu64 ", its namespace only of %" PRIu64 "\n", f->where, f->found, f->expected);
        break;
    case BLOCK_GENERATION:
        printf("block %" PRIu64 ": is of generation %" PRIu64 ", swept only to %" PRIu64 "\n", f->where, f->found, f->expected);
        break;
    case BLOCK_SEQUENCE:
        printf("blocks: one has place %" PRIu64 " in the order, which another has or which was not given yet\n", f->found);
        break;
    case OPEN_BLOCKS:
        printf("namespace %s: %" PRIu64 " blocks are open in chain %" PRIu64 "\n", name, f->found, f->where % LRD_CHAINS);
        break;
    case COUNTED_BLOCKS:
        printf("counters: %" PRIu64 " blocks were opened and not freed, %" PRIu64 " are in use\n", f->found, f->expected);
        break;
    case COUNTED_ITEMS:
        printf("counters: %" PRIu64 " items should be left of the sets, the blocks say %" PRIu64 "\n", f->found, f->expected);
        break;
    case COUNTED_ELSEWHERE:
        printf("namespace %s (%" PRIu64 "): counts %" PRIu64 " of %s, which belong to none\n", name, f->where, f->found, lrd_counter_info[f->expected].name);
        break;
    case NS_COUNTED_BLOCKS:
        printf("namespace %s (%" PRIu64 "): %" PRIu64 " blocks were opened and not freed, it has %" PRIu64 "\n", name, f->where, f->found, f->expected);
        break;
    case NS_COUNTED_ITEMS:
        printf("namespace %s (%" PRIu64 "): %" PRIu64 " items should be left of the sets, its blocks say %" PRIu64 "\n", name, f->where, f->found, f->expected);
        break;
    case NS_MAXIMUM:
        printf("namespace %s (%" PRIu64 "): has %" PRIu64 " blocks, at most %" PRIu64 " are its own\n", name, f->where, f->found, f->expected);
        break;
    case NS_MINIMUMS:
        printf("namespaces: the minimums are %" PRIu64 " blocks together, %" PRIu64 " can be promised\n", f->found, f->expected);
        break;
    case NS_NONSENSE:
        printf("namespace %s (%" PRIu64 "): %s\n", name, f->where, ns_faults[f->found]);
        break;
    case CREDIT_BYTES:
    case CREDIT_ITEMS:
        printf("lane %" PRIu64 ": used credit for %" PRIu64 " %s of account %" PRIu64 ", was granted %" PRIu64 "\n", f->where / LRD_CREDITS, f->found,
               f->kind == CREDIT_BYTES ? "bytes" : "items", f->where % LRD_CREDITS, f->expected);
        break;
    case SLOTS_USED:
        printf("table: slots_used says %" PRIu64 ", counted %" PRIu64 "\n", f->found, f->expected);
        break;
    }
}

/* Sorted by kind: one cause may show in many places of one kind, and hide no other. */
static void print_findings(const struct lrd_reader *r, const struct findings *l)
{
    size_t of_kind = 0, left_out = 0;
    for (size_t i = 0; i < l->n; i++) {
        of_kind = i > 0 && l->f[i - 1].kind == l->f[i].kind ? of_kind + 1 : 0;
        if (of_kind < PRINTED)
            print_finding(r, &l->f[i]);
        else
            left_out++;
    }
    if (left_out > 0)
        printf("and %zu more\n", left_out);
}

static void print_summary(const struct check *c, unsigned passes, size_t n_findings, size_t unsettled, bool quiet)
{
    printf("%zu findings; %" PRIu64 " items, %" PRIu64 " of %" PRIu64 " slots used, %" PRIu32 " blocks; %u passes, %s\n", n_findings, c->items, c->slots_used,
           (uint64_t)ctl_n_buckets(c->r) * LRD_SLOTS, c->r->n_blocks, passes, quiet ? "the last with the writer at rest" : "the writer at work");
    if (unsettled != 0)
        printf("%zu places differed in some passes and not in others, as they do while the writer works; check again when it rests to have them proved\n",
               unsettled);
}

/* An intent that stays is half of a change: the worker was stopped or killed in it. */
static enum ctl_status judge(const struct check *c, const struct findings *kept, bool quiet)
{
    if (kept->n == 0)
        return CTL_OK;
    uint64_t steps = lrd_load_acquire(&c->r->journal->n_steps);
    if (!quiet || steps == 0)
        return CTL_FAILURE;
    printf("the worker stands in the middle of a change of %" PRIu64 " words, which may be all there is to it: check again when it goes on\n", steps);
    return CTL_WARNING;
}

static enum ctl_status check(struct check *c, bool stable)
{
    struct findings kept = {0};
    size_t unsettled;
    bool quiet;
    unsigned passes = settle(c, stable, &kept, &unsettled, &quiet);
    print_findings(c->r, &kept);
    print_summary(c, passes, kept.n, unsettled, quiet);
    enum ctl_status status = judge(c, &kept, quiet);
    free(kept.f);
    if (fflush(stdout) == 0)
        return status;
    ctl_error("cannot write to standard output: %s", strerror(errno));
    return CTL_FAILURE;
}

enum ctl_status ctl_check(const struct ctl_call *call)
{
    struct ctl_peek p;
    enum ctl_status status = ctl_peek_open(&p, call->socket);
    if (status != CTL_OK)
        return status;
    struct check c = {.p = &p, .r = &p.r};
    ctl_item_init(&c.item, &p.r);
    uint64_t granules = (uint64_t)p.r.n_blocks << (p.r.block_shift - p.r.granule_shift);
    c.displaced = ctl_alloc(ctl_n_buckets(&p.r), sizeof *c.displaced);
    c.live = ctl_alloc(p.r.n_blocks, sizeof *c.live);
    c.taken = ctl_alloc(granules / 64, sizeof *c.taken);
    status = check(&c, call->stable);
    free(c.taken);
    free(c.live);
    free(c.displaced);
    ctl_item_fini(&c.item);
    ctl_peek_close(&p);
    return status;
}
