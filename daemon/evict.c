#include "daemon/evict.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/ghost.h"
#include "daemon/harvest.h"
#include "shm/departures.h"
#include "shm/hash.h"
#include "shm/item.h"
#include "shm/journal.h"
#include "shm/racy.h"
#include "shm/testpoint.h"

#define STEP_ITEMS 32u
#define STEP_BYTES (8u << 10)     /* copied in a step */
#define SMALL_PERCENT 20u
#define COPY_PERCENT 65u          /* of a block, at most, when it is reclaimed by evicting */
#define SMALL_READS 2u            /* that bring an item from small to main */
#define MAIN_READS 1u             /* that keep it there */
#define CLASS_BLOCKS 64u          /* fewer are not split by time to live */
#define TURNOVER_MS 3600000u      /* until it was measured */
#define ROUNDS_PER_TURNOVER 16u
#define TICK_BLOCKS 256u
#define TICK_FREES 8u
#define SEARCH_BLOCKS 256u        /* looked at in a step for the one with the fewest live bytes */
#define SEARCH_STEPS 16u          /* after so many one that is half empty is good enough */
#define GAIN_LEAST 16u            /* a block that would gain less than this part of itself is not cleaned */
#define DENSITIES 64u

/* An item found alive in the block that is being reclaimed: granule in the block:18 | bucket:31 | slot:3 | count:2 | expired:1. */
typedef uint64_t found;

static found found_make(uint32_t granule, struct lrd_place at, uint32_t count, bool expired)
{
    return (uint64_t)granule << 37 | (uint64_t)at.bucket << 6 | at.idx << 3 | count << 1 | expired;
}
static uint32_t found_granule(found f) { return (uint32_t)(f >> 37); }
static struct lrd_place found_place(found f) { return (struct lrd_place){(uint32_t)(f >> 6) & 0x7fffffff, (uint32_t)(f >> 3) & 7}; }
static uint32_t found_count(found f) { return (uint32_t)(f >> 1) & 3; }
static bool found_expired(found f) { return f & 1; }

enum phase { PHASE_IDLE, PHASE_SEARCH, PHASE_SCAN, PHASE_COPY };

struct job {
    enum phase phase;
    uint32_t block;
    uint64_t word;        /* its block word when it was chosen: another one tells that the block was freed meanwhile, because all in it had died */
    uint32_t ns;
    bool cleaning;
    bool to_ghost;
    uint32_t reads;       /* an item with fewer is not kept; with cleaning all are */
    uint32_t searched, fewest; /* steps of the search for it, and the live bytes it has */
    uint32_t at, end;     /* bytes of the block: walked, to walk */
    uint32_t n_found;
    uint32_t next;        /* of them: to decide about */
    uint32_t cut;         /* density from which on items are kept, */
    uint64_t cut_bytes;   /* and how many bytes of exactly that density */
    uint32_t n_unread;    /* of those that are not kept */
    uint32_t n_expired;
    uint64_t expired_bytes;
    uint64_t kept_by_density[DENSITIES];
};

/* An item that is copied in several steps. */
struct copy {
    uint32_t to;   /* location; 0: none */
    uint32_t done;
};

struct pace {
    uint64_t appended;    /* since the turnover was measured the last time */
    uint64_t began_ms;
    uint64_t turnover_ms;
};

struct lrd_evict {
    struct lrd_store *s;
    struct lrd_arena *a;
    struct lrd_table *t;
    struct lrd_journal_writer *j;
    uint16_t *counts;
    found *found;
    struct lrd_ghost ghost;
    uint32_t *ghost_hit;   /* entry of the key whose chain was asked for last; forgotten when its item has a place */
    struct job job;
    struct copy copy;
    struct lrd_harvest harvest;
    struct pace pace[LRD_NAMESPACES];
    int64_t debt_bytes;    /* of blocks to be walked for what was appended */
    uint64_t tight;        /* namespaces that opened a block near their maximum, by bit */
    uint32_t tight_turn;
    uint32_t tick_block, search_block; /* where they go on */
    uint64_t private_bytes;
};

static uint64_t block_bytes(const struct lrd_evict *e) { return UINT64_C(1) << e->s->r.block_shift; }
static uint32_t policy_of(const struct lrd_evict *e, uint32_t ns) { return lrd_load32_relaxed(&e->s->namespaces[ns].policy); }
static void count_ns(struct lrd_evict *e, uint32_t ns, enum lrd_counter_id id, uint64_t n) { lrd_add_own(lrd_store_counter(e->s, ns, id), n); }

/* Blocks a namespace could have now. */
static uint64_t reach(const struct lrd_evict *e, uint32_t ns) { return (uint64_t)e->a->ns[ns].n_blocks + lrd_arena_room_for(e->a, ns); }

/* ---- where a set goes ---- */

static uint32_t class_of(const struct lrd_evict *e, uint32_t ns, uint64_t expires_ms, uint64_t now_ms)
{
    if (expires_ms == 0 || reach(e, ns) < CLASS_BLOCKS)
        return 0;
    uint64_t left_ms = expires_ms > now_ms ? expires_ms - now_ms : 0, turnover_ms = e->pace[ns].turnover_ms;
    /* What outlives a turnover is evicted before it expires. */
    return left_ms >= turnover_ms ? 0 : left_ms >= turnover_ms / 4 ? 1 : left_ms >= turnover_ms / 16 ? 2 : 3;
}

static uint32_t chain_make(enum lrd_queue queue, uint32_t class) { return (uint32_t)queue * LRD_TTL_CLASSES + class; }

void lrd_evict_prefetch(const struct lrd_evict *e, uint64_t hash) { lrd_ghost_prefetch(&e->ghost, hash); }

uint32_t lrd_evict_chain(struct lrd_evict *e, uint32_t ns, uint64_t hash, uint32_t old, uint64_t expires_ms, uint64_t now_ms)
{
    e->ghost_hit = NULL;
    if (policy_of(e, ns) != LRD_POLICY_EVICT)
        return 0;
    uint32_t class = class_of(e, ns, expires_ms, now_ms);
    if (old != LRD_NO_BLOCK)
        return chain_make((enum lrd_queue)(lrd_owner_chain(lrd_load_relaxed(&e->s->descriptors[old].owner)) / LRD_TTL_CLASSES), class);
    e->ghost_hit = lrd_ghost_find(&e->ghost, ns, hash, e->a->ns[ns].n_blocks * block_bytes(e));
    return chain_make(e->ghost_hit != NULL ? LRD_QUEUE_MAIN : LRD_QUEUE_SMALL, class);
}

void lrd_evict_appended(struct lrd_evict *e, uint32_t ns, uint32_t bytes, uint64_t now_ms)
{
    struct pace *p = &e->pace[ns];
    /* Only now: a record that has to wait for a block asks for its chain again. */
    if (e->ghost_hit != NULL) {
        *e->ghost_hit = 0;
        e->ghost_hit = NULL;
        count_ns(e, ns, LRD_C_ghost_hits, 1);
    }
    e->debt_bytes += 2 * (int64_t)bytes;
    p->appended += bytes;
    if (lrd_arena_room_for(e->a, ns) < LRD_SPARE_BLOCKS)
        e->tight |= UINT64_C(1) << ns;
    if (p->appended < reach(e, ns) * block_bytes(e) / ROUNDS_PER_TURNOVER)
        return;
    p->turnover_ms = (now_ms - p->began_ms) * ROUNDS_PER_TURNOVER;
    p->began_ms = now_ms;
    p->appended = 0;
    e->harvest.due = true;
}

void lrd_evict_stalled(struct lrd_evict *e, uint32_t ns) { e->tight |= UINT64_C(1) << ns; }

/* ---- which block ---- */

static bool is_expired(const struct lrd_evict *e, uint32_t block, uint64_t now_ms)
{
    uint64_t latest_ms = lrd_load_relaxed(&e->s->descriptors[block].latest_expiry);
    return latest_ms != 0 && latest_ms <= now_ms;
}

static uint64_t sequence_of(const struct lrd_evict *e, uint32_t block) { return lrd_load_relaxed(&e->s->descriptors[block].sequence); }

/* The first of a chain that may be freed. */
static uint32_t head_of(const struct lrd_evict *e, uint32_t ns, uint32_t chain)
{
    uint32_t b = lrd_arena_first(e->a, ns, chain);
    while (b != LRD_NO_BLOCK && !lrd_arena_may_free(e->a, b)) /* two at most are held */
        b = lrd_arena_after(e->a, ns, chain, b);
    return b;
}

/* The oldest of the heads of a queue's chains; one that has expired before all others. */
static uint32_t oldest_of(const struct lrd_evict *e, uint32_t ns, enum lrd_queue queue)
{
    uint32_t best = LRD_NO_BLOCK;
    for (uint32_t class = 0; class < LRD_TTL_CLASSES; class++) {
        uint32_t b = head_of(e, ns, chain_make(queue, class));
        if (b != LRD_NO_BLOCK && (best == LRD_NO_BLOCK || sequence_of(e, b) < sequence_of(e, best)))
            best = b;
    }
    return best;
}

static uint32_t expired_head(const struct lrd_evict *e, uint32_t ns, uint64_t now_ms)
{
    for (uint32_t chain = 0; chain < LRD_CHAINS; chain++) {
        uint32_t b = head_of(e, ns, chain);
        if (b != LRD_NO_BLOCK && is_expired(e, b, now_ms))
            return b;
    }
    return LRD_NO_BLOCK;
}

static bool wants_cleaning(const struct lrd_evict *e, uint32_t ns)
{
    const struct lrd_tally *t = &e->a->ns[ns];
    return policy_of(e, ns) == LRD_POLICY_REFUSE ||
           (policy_of(e, ns) == LRD_POLICY_EVICT && t->live_bytes * 2 < (uint64_t)(t->n_blocks - t->n_doomed) * block_bytes(e));
}

/* Nothing in the namespace is full: the open block that is oldest is closed. */
static uint32_t close_oldest(struct lrd_evict *e, uint32_t ns)
{
    const struct lrd_tally *t = &e->a->ns[ns];
    uint32_t chain = LRD_CHAINS;
    for (uint32_t c = 0; c < LRD_CHAINS; c++)
        if (t->open[c] != LRD_NO_BLOCK && (chain == LRD_CHAINS || sequence_of(e, t->open[c]) < sequence_of(e, t->open[chain])))
            chain = c;
    if (chain == LRD_CHAINS)
        return LRD_NO_BLOCK;
    uint32_t block = t->open[chain];
    lrd_arena_close(e->a, ns, chain);
    return lrd_arena_may_free(e->a, block) ? block : LRD_NO_BLOCK;
}

/* Whether cleaning a block makes room. Copying a block that is mostly alive, or an open one that was closed for it, could go on for ever: the garbage may lie in open blocks. */
static bool gains(const struct lrd_evict *e, uint32_t ns, uint32_t block)
{
    if (block == LRD_NO_BLOCK)
        return false;
    uint64_t live = lrd_live_bytes(lrd_load_relaxed(&e->s->descriptors[block].live)), least = policy_of(e, ns) == LRD_POLICY_REFUSE ? block_bytes(e) / GAIN_LEAST : block_bytes(e) / 2;
    return block_bytes(e) - live > least;
}

/* The block to evict from. */
static uint32_t oldest(const struct lrd_evict *e, uint32_t ns)
{
    const struct lrd_tally *t = &e->a->ns[ns];
    bool from_small = t->n_queue[LRD_QUEUE_SMALL] * 100 > (t->n_blocks - t->n_doomed) * SMALL_PERCENT;
    uint32_t block = oldest_of(e, ns, from_small ? LRD_QUEUE_SMALL : LRD_QUEUE_MAIN);
    return block != LRD_NO_BLOCK ? block : oldest_of(e, ns, from_small ? LRD_QUEUE_MAIN : LRD_QUEUE_SMALL);
}

static void begin(struct lrd_evict *e, uint32_t ns, uint32_t block, bool cleaning)
{
    uint32_t first = block == 0 ? 1u << e->s->r.granule_shift : 0; /* granule 0 is never used */
    bool small = lrd_owner_chain(lrd_load_relaxed(&e->s->descriptors[block].owner)) < LRD_TTL_CLASSES;
    e->job = (struct job){
        .phase = PHASE_SCAN,
        .block = block,
        .word = lrd_load_relaxed(&e->s->block_words[block]),
        .ns = ns,
        .cleaning = cleaning,
        .to_ghost = small && !cleaning && policy_of(e, ns) == LRD_POLICY_EVICT,
        .reads = policy_of(e, ns) != LRD_POLICY_EVICT ? UINT32_MAX : small ? SMALL_READS : MAIN_READS,
        .at = first,
        .end = (uint32_t)lrd_load_relaxed(&e->s->descriptors[block].used),
    };
    if (cleaning)
        count_ns(e, ns, LRD_C_cleanings, 1);
}

/* ---- cleaning: the block with the fewest live bytes ---- */

static void begin_search(struct lrd_evict *e, uint32_t ns)
{
    e->job = (struct job){.phase = PHASE_SEARCH, .block = LRD_NO_BLOCK, .ns = ns, .fewest = UINT32_MAX};
}

static bool evict_from(struct lrd_evict *e, uint32_t ns, uint64_t now_ms)
{
    uint32_t block = oldest(e, ns);
    if (block == LRD_NO_BLOCK)
        block = close_oldest(e, ns);
    if (block == LRD_NO_BLOCK)
        return false;
    if (lrd_load_relaxed(&e->s->descriptors[block].live) == 0)
        lrd_arena_free_if_empty(e->a, block, now_ms);
    else
        begin(e, ns, block, false);
    return true;
}

/* All blocks were looked at, or enough. */
static void end_search(struct lrd_evict *e, uint64_t now_ms)
{
    uint32_t ns = e->job.ns, block = e->job.block;
    e->job.phase = PHASE_IDLE;
    if (block != LRD_NO_BLOCK && (!lrd_arena_may_free(e->a, block) || lrd_load_relaxed(&e->s->block_words[block]) != e->job.word))
        begin_search(e, ns); /* it was freed meanwhile, because all in it had died */
    else if (gains(e, ns, block))
        begin(e, ns, block, true);
    else if (policy_of(e, ns) != LRD_POLICY_REFUSE)
        evict_from(e, ns, now_ms);
    else if (block != LRD_NO_BLOCK || close_oldest(e, ns) == LRD_NO_BLOCK)
        e->tight &= ~(UINT64_C(1) << ns); /* nothing is to be gained until something dies; a record that waits says so again */
}

/* Of equally empty ones the oldest. */
static void search_step(struct lrd_evict *e, uint64_t now_ms)
{
    struct job *job = &e->job;
    uint32_t n = e->s->r.n_blocks;
    for (uint32_t i = 0; i < SEARCH_BLOCKS && i < n; i++) {
        uint32_t block = e->search_block;
        const struct lrd_descriptor *d = &e->s->descriptors[block];
        uint32_t live = lrd_live_bytes(lrd_load_relaxed(&d->live));
        e->search_block = block + 1 < n ? block + 1 : 0;
        if (live > job->fewest || lrd_owner_ns(lrd_load_relaxed(&d->owner)) != job->ns || !lrd_arena_may_free(e->a, block))
            continue;
        if (live == job->fewest && sequence_of(e, block) > sequence_of(e, job->block))
            continue;
        job->fewest = live;
        job->block = block;
        job->word = lrd_load_relaxed(&e->s->block_words[block]);
    }
    job->searched++;
    if ((uint64_t)job->searched * SEARCH_BLOCKS >= n || (job->searched >= SEARCH_STEPS && job->fewest <= block_bytes(e) / 2))
        end_search(e, now_ms);
}

/* Begins to reclaim a block of the namespace, or frees one at once. False: it has none. */
static bool reclaim_from(struct lrd_evict *e, uint32_t ns, uint64_t now_ms)
{
    uint32_t block = expired_head(e, ns, now_ms);
    if (block != LRD_NO_BLOCK)
        lrd_arena_free_block(e->a, block, LRD_CAUSE_EXPIRED, now_ms, 0, 0);
    else if (wants_cleaning(e, ns))
        begin_search(e, ns);
    else
        return evict_from(e, ns, now_ms);
    return true;
}

/* The namespace that has most above its minimum: memory goes where it is needed, and nobody's minimum is touched. */
static uint32_t most_above(const struct lrd_evict *e)
{
    uint32_t best = LRD_NS_NOWHERE, most = 0;
    for (uint32_t ns = 0; ns < LRD_NS_NOWHERE; ns++) {
        uint32_t above = lrd_arena_above_min(e->a, ns);
        if (above > most && policy_of(e, ns) != LRD_POLICY_REFUSE && e->a->ns[ns].n_blocks > e->a->ns[ns].n_doomed) {
            most = above;
            best = ns;
        }
    }
    return best;
}

/* A namespace that has used up its maximum. They take turns, so that one that floods does not keep the others waiting. */
static uint32_t most_tight(struct lrd_evict *e)
{
    for (uint32_t i = 0; e->tight != 0 && i < LRD_NAMESPACES; i++) {
        uint32_t ns = e->tight_turn++ % LRD_NAMESPACES;
        uint64_t bit = UINT64_C(1) << ns;
        if ((e->tight & bit) == 0)
            continue;
        if (lrd_arena_room_for(e->a, ns) < LRD_SPARE_BLOCKS && e->a->ns[ns].n_blocks > e->a->ns[ns].n_doomed)
            return ns;
        e->tight &= ~bit;
    }
    return LRD_NS_NOWHERE;
}

static bool begin_somewhere(struct lrd_evict *e, uint64_t now_ms)
{
    uint32_t ns = e->a->n_free < LRD_SPARE_BLOCKS ? most_above(e) : LRD_NS_NOWHERE;
    if (ns == LRD_NS_NOWHERE)
        ns = most_tight(e);
    return ns != LRD_NS_NOWHERE && reclaim_from(e, ns, now_ms);
}

/* ---- scanning: which items of the block are alive, and how many reads per byte each has ---- */

static const struct lrd_item *item_in(const struct lrd_evict *e, uint32_t block, uint32_t at)
{
    return (const struct lrd_item *)(const void *)(e->s->arena + ((uint64_t)block << e->s->r.block_shift) + at);
}

static uint32_t location_in(const struct lrd_evict *e, uint32_t block, uint32_t at)
{
    return (uint32_t)((((uint64_t)block << e->s->r.block_shift) + at) >> e->s->r.granule_shift);
}

static uint32_t bytes_of(const struct lrd_evict *e, struct lrd_item_head h)
{
    return lrd_item_bytes_of(h, e->s->r.granule_shift);
}

static uint64_t hash_of(const struct lrd_evict *e, const struct lrd_item *item, struct lrd_item_head h)
{
    return lrd_hash(e->s->r.hash_seed, lrd_item_ns(h), lrd_item_key_of(item, h), lrd_item_key_len(h));
}

/* Reads per byte, in half octaves. */
static uint32_t density(uint32_t count, uint32_t bytes)
{
    uint32_t v = (count << 24) / bytes | 1, top = 31u - (uint32_t)__builtin_clz(v);
    return 2 * top + (top > 0 ? v >> (top - 1) & 1 : 0);
}

static bool is_candidate(const struct job *job, uint32_t count, bool expired) { return !expired && count >= job->reads; }

static void choose_cut(struct lrd_evict *e)
{
    struct job *job = &e->job;
    uint64_t left = block_bytes(e) * COPY_PERCENT / 100;
    uint32_t d = DENSITIES;
    while (d > 0 && job->kept_by_density[d - 1] <= left)
        left -= job->kept_by_density[--d];
    job->cut = d == 0 ? 0 : d - 1;
    job->cut_bytes = d == 0 ? UINT64_MAX : left;
    job->phase = PHASE_COPY;
}

static uint32_t scan_step(struct lrd_evict *e, uint64_t now_ms)
{
    struct job *job = &e->job;
    uint32_t from = job->at, at[STEP_ITEMS], n = 0;
    struct lrd_item_head head[STEP_ITEMS];
    uint64_t hash[STEP_ITEMS];
    for (; n < STEP_ITEMS && job->at < job->end; n++) {
        const struct lrd_item *item = item_in(e, job->block, job->at);
        at[n] = job->at;
        head[n] = lrd_item_load(item);
        hash[n] = hash_of(e, item, head[n]);
        lrd_table_prefetch(&e->s->r, hash[n]);
        job->at += bytes_of(e, head[n]);
    }
    for (uint32_t i = 0; i < n; i++) {
        struct lrd_place place;
        if (!lrd_table_find(e->t, hash[i], location_in(e, job->block, at[i]), &place))
            continue;
        uint64_t expires_ms = lrd_item_expires_ms(head[i]);
        bool expired = expires_ms != 0 && expires_ms <= now_ms;
        uint32_t count = lrd_table_count(e->t, place.bucket, place.idx), bytes = bytes_of(e, head[i]);
        e->found[job->n_found++] = found_make(at[i] >> e->s->r.granule_shift, place, count, expired);
        if (is_candidate(job, count, expired))
            job->kept_by_density[density(count, bytes)] += bytes;
    }
    if (job->at >= job->end)
        choose_cut(e);
    return job->at - from;
}

/* ---- deciding and copying ---- */

static bool is_kept(struct job *job, uint32_t count, uint32_t bytes, bool expired)
{
    if (job->cleaning && !expired)
        return true;
    if (!is_candidate(job, count, expired))
        return false;
    uint32_t d = density(count, bytes);
    if (d != job->cut)
        return d > job->cut;
    if (bytes > job->cut_bytes)
        return false;
    job->cut_bytes -= bytes;
    return true;
}

/* Where the item is now: its slot may have moved on since the scan. */
static bool still_there(const struct lrd_evict *e, found f, const struct lrd_item *item, struct lrd_item_head head, struct lrd_place *at)
{
    uint32_t location = location_in(e, e->job.block, found_granule(f) << e->s->r.granule_shift);
    *at = found_place(f);
    uint64_t slot = lrd_load_relaxed(&e->s->buckets[at->bucket].slot[at->idx]);
    uint32_t generation = lrd_block_word_generation(lrd_load_relaxed(&e->s->block_words[e->job.block]));
    if (lrd_slot_location(slot) == location && lrd_slot_generation(slot) == (generation & LRD_GENERATION_MASK))
        return true;
    return lrd_table_find(e->t, hash_of(e, item, head), location, at);
}

static void drop(struct lrd_evict *e, found f, const struct lrd_item *item, struct lrd_item_head head, uint64_t now_ms)
{
    struct job *job = &e->job;
    uint64_t hash = hash_of(e, item, head);
    bool expired = found_expired(f);
    lrd_depart(e->s, lrd_departure_who(lrd_hash_home(hash, e->s->r.n_pairs), lrd_hash_tag(hash), job->ns, expired ? LRD_CAUSE_EXPIRED : LRD_CAUSE_EVICTED, found_count(f) > 0),
               lrd_departure_when(now_ms, lrd_ttl_left_make(lrd_item_expires_ms(head), now_ms)));
    if (expired) {
        job->n_expired++;
        job->expired_bytes += bytes_of(e, head);
        return;
    }
    job->n_unread += found_count(f) == 0;
    if (job->to_ghost)
        lrd_ghost_note(&e->ghost, job->ns, hash, bytes_of(e, head));
}

/* What survives cleaning stays in its queue; what survives evicting goes to main's end. A namespace that refuses eviction copies into a block of its own: what clients write meanwhile
 * must not take the room of what has to be copied, or there is no way on. */
static uint32_t target_chain(const struct lrd_evict *e, struct lrd_item_head head, uint64_t now_ms)
{
    if (policy_of(e, e->job.ns) != LRD_POLICY_EVICT)
        return chain_make(LRD_QUEUE_MAIN, 0);
    uint32_t own = lrd_owner_chain(lrd_load_relaxed(&e->s->descriptors[e->job.block].owner)) / LRD_TTL_CLASSES;
    return chain_make(e->job.cleaning ? (enum lrd_queue)own : LRD_QUEUE_MAIN, class_of(e, e->job.ns, lrd_item_expires_ms(head), now_ms));
}

/* The copy is whole: its slot. If the item died meanwhile, the copy is dead too. */
static void publish(struct lrd_evict *e, found f, const struct lrd_item *item, struct lrd_item_head head, uint32_t to)
{
    struct lrd_place at;
    if (!still_there(e, f, item, head, &at))
        return;
    uint32_t bytes = bytes_of(e, head), count = found_count(f);
    lrd_journal_begin(e->j);
    lrd_table_move(e->t, at, to);
    lrd_journal_add(e->j, lrd_store_counter(e->s, e->job.ns, LRD_C_copied), 1);
    lrd_journal_add(e->j, lrd_store_counter(e->s, e->job.ns, LRD_C_copied_bytes), bytes);
    lrd_journal_commit(e->j);
    LRD_TESTPOINT("evict_copied");
    if (!e->job.cleaning)
        lrd_table_set_count(e->t, at.bucket, at.idx, e->job.to_ghost || count == 0 ? 0 : count - 1);
}

/* Copies what is before an item's value, and up to `room` bytes of that. True if it is whole. */
static bool copy_some(struct lrd_evict *e, const struct lrd_item *item, struct lrd_item_head head, uint32_t room, uint32_t *copied)
{
    struct copy *c = &e->copy;
    uint32_t kind = lrd_item_kind(head), key_len = lrd_item_key_len(head), key_end = lrd_item_key_end(kind, key_len);
    uint64_t to_off = (uint64_t)c->to << e->s->r.granule_shift;
    unsigned char *to = e->s->arena + to_off;
    if (c->done == 0) {
        lrd_racy_fill(to + sizeof *item, lrd_item_at(item, (uint32_t)sizeof *item), key_end - sizeof *item);
        *copied += key_end;
    }
    uint32_t n = lrd_item_value_len(head) - c->done;
    if (n > room)
        n = room;
    /* An aligned value may lie elsewhere in its copy. */
    uint64_t off = (uint64_t)((const unsigned char *)item - e->s->arena);
    lrd_racy_fill(to + lrd_item_value_off(kind, key_len, to_off) + c->done, lrd_item_at(item, lrd_item_value_off(kind, key_len, off)) + c->done, n);
    c->done += n;
    *copied += n;
    return c->done == lrd_item_value_len(head);
}

/* Room for an item that is kept. What is cleaned is not dropped for want of a block in its own chain: the last free block is kept back for one chain at least, and has room
 * for all that a block to be cleaned holds. Where items may be evicted clients write into it too, and a worker that was killed may have left it half full: then there may be no room. */
static uint32_t room_for_copy(struct lrd_evict *e, struct lrd_item_head head, uint64_t now_ms)
{
    uint32_t own = target_chain(e, head, now_ms), to = lrd_arena_alloc(e->a, e->job.ns, own, head, LRD_FOR_COPY);
    for (uint32_t chain = 0; to == 0 && e->job.cleaning && chain < LRD_CHAINS; chain++)
        to = lrd_arena_alloc(e->a, e->job.ns, chain, head, LRD_FOR_COPY);
    /* Workers that were killed while they copied have left dead copies behind, until there is no room for the rest. */
    if (to == 0 && policy_of(e, e->job.ns) == LRD_POLICY_REFUSE)
        to = lrd_arena_alloc(e->a, e->job.ns, own, head, LRD_FOR_RESCUE);
    return to;
}

enum verdict { VERDICT_DONE, VERDICT_AGAIN, VERDICT_STUCK };

/* Keeps an item: AGAIN if it is not whole yet; STUCK if there is no block for it. */
static enum verdict keep(struct lrd_evict *e, found f, const struct lrd_item *item, struct lrd_item_head head, uint64_t now_ms, uint32_t *copied)
{
    struct copy *c = &e->copy;
    if (c->to == 0) {
        *c = (struct copy){.to = room_for_copy(e, head, now_ms)};
        if (c->to == 0)
            return VERDICT_STUCK;
        e->a->held[LRD_HOLD_COPY] = c->to >> e->s->r.location_shift;
    }
    if (!copy_some(e, item, head, STEP_BYTES > *copied ? STEP_BYTES - *copied : 1, copied))
        return VERDICT_AGAIN;
    publish(e, f, item, head, c->to);
    e->debt_bytes += 2 * (int64_t)bytes_of(e, head);
    c->to = 0;
    e->a->held[LRD_HOLD_COPY] = LRD_NO_BLOCK;
    return VERDICT_DONE;
}

static void finish(struct lrd_evict *e, uint64_t now_ms)
{
    struct job *job = &e->job;
    uint64_t live = lrd_load_relaxed(&e->s->descriptors[job->block].live);
    /* Some of what had expired may have been overwritten since it was counted. */
    uint32_t items = lrd_live_items(live), n_expired = job->n_expired < items ? job->n_expired : items;
    uint64_t bytes = lrd_live_bytes(live), expired_bytes = job->expired_bytes < bytes && n_expired < items ? job->expired_bytes : bytes;
    if (n_expired == 0)
        expired_bytes = 0;
    count_ns(e, job->ns, LRD_C_evicted_unread, job->n_unread < items - n_expired ? job->n_unread : items - n_expired);
    job->phase = PHASE_IDLE;
    LRD_TESTPOINT("evict_free");
    lrd_arena_free_block(e->a, job->block, LRD_CAUSE_EVICTED, now_ms, n_expired, expired_bytes);
}

static uint32_t copy_step(struct lrd_evict *e, uint64_t now_ms, bool *stuck)
{
    struct job *job = &e->job;
    uint32_t copied = 0, walked = job->end / (job->n_found + 1), n = 0; /* bytes of the block for each item found */
    for (; n < STEP_ITEMS && copied < STEP_BYTES && job->next < job->n_found; n++, job->next++) {
        found f = e->found[job->next];
        const struct lrd_item *item = item_in(e, job->block, found_granule(f) << e->s->r.granule_shift);
        struct lrd_item_head head = lrd_item_load(item);
        struct lrd_place at;
        if (e->copy.to == 0 && !still_there(e, f, item, head, &at))
            continue;
        if (e->copy.to == 0 && !is_kept(job, found_count(f), bytes_of(e, head), found_expired(f))) {
            drop(e, f, item, head, now_ms);
            continue;
        }
        enum verdict v = keep(e, f, item, head, now_ms, &copied);
        if (v == VERDICT_STUCK && policy_of(e, job->ns) != LRD_POLICY_REFUSE) {
            drop(e, f, item, head, now_ms); /* all free blocks went to other classes meanwhile, or clients filled the block that it was to go to */
            continue;
        }
        if (v != VERDICT_DONE) {
            *stuck = v == VERDICT_STUCK;
            break;
        }
    }
    if (job->next == job->n_found)
        finish(e, now_ms);
    return n * walked + copied;
}

/* ---- steps ---- */

static void cancel(struct lrd_evict *e)
{
    e->job.phase = PHASE_IDLE;
    e->copy.to = 0;
    e->a->held[LRD_HOLD_COPY] = LRD_NO_BLOCK;
}

/* There is no block to copy to, in a namespace that refuses eviction: a worker that was killed in the middle of large copies, more than once, may have left it so. It waits until something dies
 * there, and others need not wait as well; a record that waits has it tried again. */
static void give_up(struct lrd_evict *e)
{
    e->tight &= ~(UINT64_C(1) << e->job.ns);
    cancel(e);
}

/* Whether the job is over because of what happened between two steps: all in the block has died, and it was freed; or other blocks of the namespace were freed so, and it has no more than its
 * minimum now. */
static bool is_overtaken(const struct lrd_evict *e)
{
    const struct job *job = &e->job;
    if (job->phase <= PHASE_SEARCH)
        return false;
    bool near_max = e->a->ns[job->ns].n_blocks + LRD_SPARE_BLOCKS > lrd_load_relaxed(&e->s->namespaces[job->ns].max_blocks);
    return lrd_load_relaxed(&e->s->block_words[job->block]) != job->word || (lrd_arena_above_min(e->a, job->ns) == 0 && !near_max);
}

static bool is_needed(struct lrd_evict *e)
{
    return e->job.phase != PHASE_IDLE || e->a->n_doomed > 0 || e->a->n_free < LRD_SPARE_BLOCKS || e->tight != 0;
}

bool lrd_evict_owes(const struct lrd_evict *e) { return e->debt_bytes > 0; }

bool lrd_evict_step(struct lrd_evict *e, uint64_t now_ms)
{
    if (lrd_unlikely(e->a->blind))
        return false; /* without a block to copy to it would drop what it should keep */
    bool stuck = false;
    uint32_t walked = 0;
    if (is_overtaken(e))
        cancel(e);
    if (!is_needed(e)) {
        e->debt_bytes = 0;
        return false;
    }
    if (e->a->n_doomed > 0 && lrd_arena_free_doomed(e->a, now_ms))
        return true;
    if (e->job.phase == PHASE_SEARCH)
        search_step(e, now_ms);
    else if (e->job.phase == PHASE_SCAN)
        walked = scan_step(e, now_ms);
    else if (e->job.phase == PHASE_COPY)
        walked = copy_step(e, now_ms, &stuck);
    else if (!begin_somewhere(e, now_ms)) {
        e->debt_bytes = 0;
        return false;
    }
    e->debt_bytes -= walked;
    if (stuck)
        give_up(e);
    return !stuck;
}

void lrd_evict_tick(struct lrd_evict *e, uint64_t now_ms)
{
    uint32_t n = e->s->r.n_blocks, frees = 0;
    for (uint32_t i = 0; i < TICK_BLOCKS && i < n && frees < TICK_FREES; i++) {
        uint32_t block = e->tick_block;
        struct lrd_descriptor *d = &e->s->descriptors[block];
        uint64_t state = lrd_load_relaxed(&d->state), owner = lrd_load_relaxed(&d->owner);
        e->tick_block = block + 1 < n ? block + 1 : 0;
        bool expired = is_expired(e, block, now_ms);
        if (state == LRD_BLOCK_OPEN && expired)
            lrd_arena_close(e->a, lrd_owner_ns(owner), lrd_owner_chain(owner));
        if (state == LRD_BLOCK_FREE || !lrd_arena_may_free(e->a, block) || !(expired || lrd_load_relaxed(&d->live) == 0))
            continue;
        if (e->job.phase != PHASE_IDLE && e->job.block == block)
            cancel(e);
        bool doomed = lrd_block_word_epoch(lrd_load_relaxed(&e->s->block_words[block])) != lrd_load32_relaxed(&e->s->namespaces[lrd_owner_ns(owner)].epoch);
        lrd_arena_free_block(e->a, block, doomed ? LRD_CAUSE_RESET : LRD_CAUSE_EXPIRED, now_ms, 0, 0);
        frees++;
    }
}

void lrd_evict_reset(struct lrd_evict *e, uint32_t ns)
{
    if (e->job.phase != PHASE_IDLE && e->job.ns == ns)
        cancel(e);
    lrd_arena_doom(e->a, ns);
}

bool lrd_evict_harvest(struct lrd_evict *e, const struct lrd_ring *const *lanes, uint32_t n, uint64_t now_ns) { return lrd_harvest_step(&e->harvest, lanes, n, now_ns); }

/* ---- life ---- */

static void *alloc(struct lrd_evict *e, size_t n, size_t bytes)
{
    e->private_bytes += n * bytes;
    return calloc(n, bytes);
}

int lrd_evict_create(struct lrd_evict **out, struct lrd_store *s, struct lrd_arena *a, struct lrd_table *t, struct lrd_journal_writer *j)
{
    *out = NULL;
    struct lrd_evict *e = calloc(1, sizeof *e);
    if (e == NULL)
        return -ENOMEM;
    uint32_t buckets = lrd_n_buckets(&s->r);
    e->s = s;
    e->a = a;
    e->t = t;
    e->j = j;
    e->private_bytes = sizeof *e;
    e->counts = alloc(e, buckets, sizeof *e->counts);
    e->found = alloc(e, (size_t)(block_bytes(e) / (sizeof(struct lrd_item) + 8)), sizeof *e->found);
    if (e->counts == NULL || e->found == NULL || lrd_ghost_init(&e->ghost, (uint64_t)buckets * LRD_SLOTS, (uint64_t)s->r.n_blocks << s->r.block_shift) != 0 || lrd_harvest_init(&e->harvest, s, t) != 0) {
        lrd_evict_destroy(e);
        return -ENOMEM;
    }
    for (uint32_t ns = 0; ns < LRD_NAMESPACES; ns++)
        e->pace[ns].turnover_ms = TURNOVER_MS;
    for (uint32_t ns = 0; ns < LRD_NS_NOWHERE; ns++)
        if (lrd_load32_relaxed(&s->namespaces[ns].state) == LRD_NS_LIVE)
            e->tight |= UINT64_C(1) << ns; /* to be looked at once */
    t->counts = e->counts;
    *out = e;
    return 0;
}

void lrd_evict_destroy(struct lrd_evict *e)
{
    if (e == NULL)
        return;
    free(e->counts);
    free(e->found);
    lrd_ghost_fini(&e->ghost);
    lrd_harvest_fini(&e->harvest);
    free(e);
}

uint64_t lrd_evict_private_bytes(const struct lrd_evict *e)
{
    return e->private_bytes + lrd_ghost_private_bytes(&e->ghost) + e->s->r.geometry.n_mark_maps * sizeof(unsigned char *);
}
