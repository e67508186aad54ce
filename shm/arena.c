#include "shm/arena.h"

#include <errno.h>
#include <stdlib.h>

#include "shm/feed.h"
#include "shm/journal.h"
#include "shm/testpoint.h"

/* Half of what a slot's bits of generation can tell apart: a slot from before the last completed sweep cannot look live again. */
#define GENERATIONS_PER_SWEEP (1u << (LRD_GENERATION_BITS - 1))

/* ---- the lists ---- */

#define N_LISTS (2 + LRD_NAMESPACES * LRD_CHAINS)

static uint32_t free_list(const struct lrd_arena *a) { return a->s->r.n_blocks; }
static uint32_t doomed_list(const struct lrd_arena *a) { return a->s->r.n_blocks + 1; }
static uint32_t chain_list(const struct lrd_arena *a, uint32_t ns, uint32_t chain) { return a->s->r.n_blocks + 2 + ns * LRD_CHAINS + chain; }

static void list_init(struct lrd_arena *a, uint32_t list) { a->next[list] = a->prev[list] = list; }

static void list_append(struct lrd_arena *a, uint32_t list, uint32_t block)
{
    uint32_t last = a->prev[list];
    a->next[last] = block;
    a->prev[block] = last;
    a->next[block] = list;
    a->prev[list] = block;
}

static void list_remove(struct lrd_arena *a, uint32_t block)
{
    a->next[a->prev[block]] = a->next[block];
    a->prev[a->next[block]] = a->prev[block];
}

/* All of one list to the end of another: a reset of any number of blocks. */
static void list_splice(struct lrd_arena *a, uint32_t to, uint32_t from)
{
    if (a->next[from] == from)
        return;
    uint32_t first = a->next[from], last = a->prev[from], end = a->prev[to];
    a->next[end] = first;
    a->prev[first] = end;
    a->next[last] = to;
    a->prev[to] = last;
    list_init(a, from);
}

/* ---- what a descriptor says ---- */

static struct lrd_descriptor *descriptor(const struct lrd_arena *a, uint32_t block) { return &a->s->descriptors[block]; }
static uint32_t ns_of(const struct lrd_arena *a, uint32_t block) { return lrd_owner_ns(lrd_load_relaxed(&descriptor(a, block)->owner)); }
static uint32_t chain_of(const struct lrd_arena *a, uint32_t block) { return lrd_owner_chain(lrd_load_relaxed(&descriptor(a, block)->owner)); }
static uint32_t queue_of(uint32_t chain) { return chain / LRD_TTL_CLASSES; }

static bool is_doomed(const struct lrd_arena *a, uint32_t block)
{
    return lrd_block_word_epoch(lrd_load_relaxed(&a->s->block_words[block])) != lrd_load32_relaxed(&a->s->namespaces[ns_of(a, block)].epoch);
}

static void tally(struct lrd_arena *a, uint32_t block)
{
    struct lrd_tally *t = &a->ns[ns_of(a, block)];
    uint64_t live = lrd_load_relaxed(&descriptor(a, block)->live);
    t->n_queue[queue_of(chain_of(a, block))]++;
    t->live_items += lrd_live_items(live);
    t->live_bytes += lrd_live_bytes(live);
}

/* ---- taking hold ---- */

struct block_age {
    uint64_t sequence;
    uint32_t block;
};

static int by_age(const void *x, const void *y)
{
    const struct block_age *a = x, *b = y;
    return (a->sequence > b->sequence) - (a->sequence < b->sequence);
}

static void close_block(struct lrd_arena *a, uint32_t block)
{
    lrd_store_release(&descriptor(a, block)->state, LRD_BLOCK_FULL);
    list_append(a, chain_list(a, ns_of(a, block), chain_of(a, block)), block);
}

static void take_block(struct lrd_arena *a, uint32_t block)
{
    uint64_t state = lrd_load_relaxed(&descriptor(a, block)->state);
    uint32_t ns = ns_of(a, block), chain = chain_of(a, block);
    if (state == LRD_BLOCK_FREE) {
        list_append(a, free_list(a), block);
        a->n_free++;
        return;
    }
    a->ns[ns].n_blocks++;
    if (is_doomed(a, block)) {
        lrd_store_release(&descriptor(a, block)->state, LRD_BLOCK_FULL); /* as lrd_arena_doom() would have done */
        list_append(a, doomed_list(a), block);
        a->ns[ns].n_doomed++;
        a->n_doomed++;
        return;
    }
    tally(a, block);
    if (state == LRD_BLOCK_FULL)
        list_append(a, chain_list(a, ns, chain), block);
    else if (a->ns[ns].open[chain] == LRD_NO_BLOCK)
        a->ns[ns].open[chain] = block; /* goes on where `used` says; what a dead worker copied there without a slot stays dead bytes */
    else
        close_block(a, block); /* it died between opening one and closing the other */
}

int lrd_arena_init(struct lrd_arena *a, struct lrd_store *s, struct lrd_journal_writer *j)
{
    uint32_t n = s->r.n_blocks;
    *a = (struct lrd_arena){.s = s, .j = j, .held = {LRD_NO_BLOCK, LRD_NO_BLOCK}};
    a->next = calloc(n + N_LISTS, sizeof *a->next);
    a->prev = calloc(n + N_LISTS, sizeof *a->prev);
    struct block_age *ages = calloc(n, sizeof *ages);
    if (a->next == NULL || a->prev == NULL || ages == NULL || lrd_pins_init(&a->pins, s) < 0) {
        free(ages);
        lrd_arena_fini(a);
        return -ENOMEM;
    }
    for (uint32_t list = n; list < n + N_LISTS; list++)
        list_init(a, list);
    for (uint32_t ns = 0; ns < LRD_NAMESPACES; ns++)
        for (uint32_t chain = 0; chain < LRD_CHAINS; chain++)
            a->ns[ns].open[chain] = LRD_NO_BLOCK;
    for (uint32_t i = 0; i < n; i++)
        ages[i] = (struct block_age){lrd_load_relaxed(&s->descriptors[i].sequence), i};
    qsort(ages, n, sizeof *ages, by_age);
    /* Youngest first would take the right one of two open blocks; oldest first keeps the chains in order. Both are open only for the length of an intent. */
    for (uint32_t i = 0; i < n; i++)
        take_block(a, ages[i].block);
    free(ages);
    return 0;
}

void lrd_arena_fini(struct lrd_arena *a)
{
    free(a->next);
    free(a->prev);
    lrd_pins_fini(&a->pins);
    a->next = a->prev = NULL;
}

uint64_t lrd_arena_private_bytes(const struct lrd_arena *a) { return (uint64_t)(a->s->r.n_blocks + N_LISTS) * 2 * sizeof *a->next + lrd_pins_private_bytes(&a->pins); }

/* ---- looking ---- */

uint32_t lrd_arena_room_for(const struct lrd_arena *a, uint32_t ns)
{
    uint64_t max = lrd_load_relaxed(&a->s->namespaces[ns].max_blocks);
    uint32_t quota = a->ns[ns].n_blocks < max ? (uint32_t)(max - a->ns[ns].n_blocks) : 0;
    return quota < a->n_free ? quota : a->n_free;
}

static uint32_t or_none(const struct lrd_arena *a, uint32_t at) { return at < a->s->r.n_blocks ? at : LRD_NO_BLOCK; }

uint32_t lrd_arena_first(const struct lrd_arena *a, uint32_t ns, uint32_t chain) { return or_none(a, a->next[chain_list(a, ns, chain)]); }

uint32_t lrd_arena_after(const struct lrd_arena *a, uint32_t ns, uint32_t chain, uint32_t block)
{
    (void)ns, (void)chain;
    return or_none(a, a->next[block]);
}

bool lrd_arena_may_free(const struct lrd_arena *a, uint32_t block)
{
    return lrd_load_relaxed(&descriptor(a, block)->state) == LRD_BLOCK_FULL && block != a->held[LRD_HOLD_RECORD] && block != a->held[LRD_HOLD_COPY];
}

/* ---- freeing ---- */

/* A sweep must complete while at most a quarter of all generations go by in any block, and where there are fewer blocks once per turnover of the arena. */
static uint64_t sweep_share(const struct lrd_store *s)
{
    uint64_t buckets = (uint64_t)s->r.n_pairs * 2, frees = s->r.n_blocks;
    if (frees > GENERATIONS_PER_SWEEP / 2)
        frees = GENERATIONS_PER_SWEEP / 2;
    return buckets / frees + 1;
}

/* What is owed after one more block was freed. Two passes prove everything: more is never owed. */
static uint64_t sweep_owed_then(const struct lrd_store *s)
{
    uint64_t owed = lrd_load_relaxed(&s->journal->sweep_owed) + sweep_share(s), most = (uint64_t)s->r.n_pairs * 4;
    return owed < most ? owed : most;
}

static void step_deaths(struct lrd_arena *a, uint32_t ns, enum lrd_cause cause, uint64_t items, uint64_t bytes)
{
    if (items == 0)
        return;
    enum lrd_counter_id id = cause == LRD_CAUSE_EXPIRED ? LRD_C_expired : cause == LRD_CAUSE_RESET ? LRD_C_reset_items : LRD_C_evicted;
    enum lrd_counter_id bytes_id = cause == LRD_CAUSE_EXPIRED ? LRD_C_expired_bytes : cause == LRD_CAUSE_RESET ? LRD_C_reset_bytes : LRD_C_evicted_bytes;
    lrd_journal_add(a->j, lrd_store_counter(a->s, ns, id), items);
    lrd_journal_add(a->j, lrd_store_counter(a->s, ns, bytes_id), bytes);
}

static void untally(struct lrd_arena *a, uint32_t block, bool doomed)
{
    struct lrd_tally *t = &a->ns[ns_of(a, block)];
    uint64_t live = lrd_load_relaxed(&descriptor(a, block)->live);
    t->n_blocks--;
    if (doomed) {
        t->n_doomed--;
        a->n_doomed--;
        return;
    }
    t->n_queue[queue_of(chain_of(a, block))]--;
    t->live_items -= lrd_live_items(live);
    t->live_bytes -= lrd_live_bytes(live);
}

void lrd_arena_free_block(struct lrd_arena *a, uint32_t block, enum lrd_cause cause, uint64_t now_ms, uint32_t n_expired, uint64_t expired_bytes)
{
    struct lrd_store *s = a->s;
    struct lrd_descriptor *d = descriptor(a, block);
    uint64_t word = lrd_load_relaxed(&s->block_words[block]), live = lrd_load_relaxed(&d->live);
    uint32_t ns = ns_of(a, block);
    untally(a, block, is_doomed(a, block));
    list_remove(a, block);

    lrd_journal_begin(a->j);
    /* From this store on readers miss what lay here; pairs with the acquire in lrd_table_look(). */
    lrd_journal_step(a->j, &s->block_words[block], lrd_block_word_make(lrd_block_word_generation(word) + 1, lrd_block_word_epoch(word)));
    lrd_journal_step(a->j, &d->freed, lrd_freed_make(live == 0 ? LRD_CAUSE_EMPTY : cause, ns, now_ms));
    if (live != 0) {
        lrd_journal_step(a->j, &d->live, 0);
        step_deaths(a, ns, cause, lrd_live_items(live) - n_expired, lrd_live_bytes(live) - expired_bytes);
        step_deaths(a, ns, LRD_CAUSE_EXPIRED, n_expired, expired_bytes);
    }
    lrd_journal_step(a->j, &d->used, 0);
    lrd_journal_step(a->j, &d->latest_expiry, 0);
    lrd_journal_add(a->j, lrd_store_counter(s, ns, LRD_C_blocks_freed), 1);
    lrd_journal_step(a->j, &s->journal->sweep_owed, sweep_owed_then(s));
    lrd_journal_step(a->j, &d->state, LRD_BLOCK_FREE);
    /* A reset was told of when it was. */
    if (live != 0 && cause != LRD_CAUSE_RESET && lrd_feed_has(s, ns))
        lrd_feed_note(s, a->j, &(struct lrd_note){.ns = ns, .event = LRD_EVENT_BLOCK, .cause = cause, .now_ms = now_ms});
    lrd_journal_commit(a->j);

    list_append(a, free_list(a), block);
    a->n_free++;
}

void lrd_arena_free_if_empty(struct lrd_arena *a, uint32_t block, uint64_t now_ms)
{
    if (lrd_load_relaxed(&descriptor(a, block)->live) == 0 && lrd_arena_may_free(a, block))
        lrd_arena_free_block(a, block, LRD_CAUSE_EMPTY, now_ms, 0, 0);
}

void lrd_arena_doom(struct lrd_arena *a, uint32_t ns)
{
    struct lrd_tally *t = &a->ns[ns];
    for (uint32_t chain = 0; chain < LRD_CHAINS; chain++) {
        lrd_arena_close(a, ns, chain);
        list_splice(a, doomed_list(a), chain_list(a, ns, chain));
    }
    a->n_doomed += t->n_blocks - t->n_doomed;
    t->n_doomed = t->n_blocks;
    t->n_queue[LRD_QUEUE_SMALL] = t->n_queue[LRD_QUEUE_MAIN] = 0;
    t->live_items = t->live_bytes = 0;
}

bool lrd_arena_free_doomed(struct lrd_arena *a, uint64_t now_ms)
{
    for (uint32_t b = a->next[doomed_list(a)]; b != doomed_list(a); b = a->next[b])
        if (lrd_arena_may_free(a, b)) {
            lrd_arena_free_block(a, b, LRD_CAUSE_RESET, now_ms, 0, 0);
            return true;
        }
    return false;
}

/* ---- filling ---- */

static uint32_t generation_of(const struct lrd_arena *a, uint32_t block) { return lrd_block_word_generation(lrd_load_relaxed(&a->s->block_words[block])); }

/* What the sweep has proved about a free block. A slot of a generation below `seen` was dead when that was noted; the second sweep completed since then began after it, so
 * it has emptied them all: `swept` moves up, and the generation of now is noted. So a sweep's end need not go through all blocks. If the worker dies between the two stores
 * the older generation counts as noted later than it was, which is true as well. */
static void note_proof(struct lrd_arena *a, uint32_t block)
{
    struct lrd_descriptor *d = descriptor(a, block);
    uint64_t owner = lrd_load_relaxed(&d->owner);
    uint32_t sweeps = (uint32_t)lrd_load_relaxed(&a->s->journal->sweeps);
    if (sweeps - lrd_owner_sweeps(owner) < 2)
        return;
    lrd_store_release(&d->owner, lrd_owner_make(lrd_owner_ns(owner), lrd_owner_chain(owner), sweeps));
    lrd_store32_release(&d->generation_swept, lrd_load32_relaxed(&d->generation_seen));
    lrd_store32_release(&d->generation_seen, generation_of(a, block));
}

static bool may_open(struct lrd_arena *a, uint32_t block)
{
    note_proof(a, block);
    return generation_of(a, block) - lrd_load32_relaxed(&descriptor(a, block)->generation_swept) < GENERATIONS_PER_SWEEP;
}

/* The free block that was freed longest ago, of those whose generation the sweep has caught up with and that no view delays. Views may delay half of the free blocks at most, and
 * never the only one: then it is the first all the same, and they are revoked. */
static uint32_t pick_free(struct lrd_arena *a)
{
    bool pinned = lrd_pins_look(&a->pins);
    uint32_t first = LRD_NO_BLOCK, passed = 0;
    for (uint32_t b = a->next[free_list(a)]; b != free_list(a); b = a->next[b]) {
        if (!may_open(a, b))
            continue;
        if (lrd_likely(!pinned) || !lrd_pins_delay(&a->pins, b)) {
            lrd_add_own(&a->s->counters[LRD_C_pinned], passed);
            return b;
        }
        if (first == LRD_NO_BLOCK)
            first = b;
        if (++passed > a->n_free / 2)
            break;
    }
    return first;
}

void lrd_arena_close(struct lrd_arena *a, uint32_t ns, uint32_t chain)
{
    uint32_t block = a->ns[ns].open[chain];
    if (block == LRD_NO_BLOCK)
        return;
    a->ns[ns].open[chain] = LRD_NO_BLOCK;
    close_block(a, block);
}

static bool open_block(struct lrd_arena *a, uint32_t ns, uint32_t chain, enum lrd_asker asker)
{
    struct lrd_store *s = a->s;
    uint32_t room = asker == LRD_FOR_RESCUE ? a->n_free : lrd_arena_room_for(a, ns);
    if (room < (asker == LRD_FOR_CLIENT ? LRD_SPARE_BLOCKS : 1))
        return false;
    uint32_t block = a->blind ? LRD_NO_BLOCK : pick_free(a);
    if (block == LRD_NO_BLOCK)
        return false;
    uint32_t revoked = lrd_pins_revoke(&a->pins, block);
    if (lrd_unlikely(revoked > 0))
        lrd_add_own(&s->counters[LRD_C_revoked], revoked);
    LRD_TESTPOINT("arena_revoked");
    lrd_arena_close(a, ns, chain);
    list_remove(a, block);
    a->n_free--;

    struct lrd_descriptor *d = &s->descriptors[block];
    uint64_t sequence = lrd_load_relaxed(&s->journal->sequence) + 1;
    lrd_journal_begin(a->j);
    lrd_journal_step(a->j, &s->journal->sequence, sequence);
    lrd_journal_step(a->j, &d->sequence, sequence);
    lrd_journal_step(a->j, &d->owner, lrd_owner_make(ns, chain, lrd_owner_sweeps(lrd_load_relaxed(&d->owner))));
    lrd_journal_step(a->j, &d->used, block == 0 ? UINT64_C(1) << s->r.granule_shift : 0); /* granule 0 is never used: no slot is 0 */
    lrd_journal_step(a->j, &s->block_words[block], lrd_block_word_make(generation_of(a, block), lrd_load32_relaxed(&s->namespaces[ns].epoch)));
    lrd_journal_add(a->j, lrd_store_counter(s, ns, LRD_C_blocks_opened), 1);
    lrd_journal_step(a->j, &d->state, LRD_BLOCK_OPEN);
    lrd_journal_commit(a->j);
    a->ns[ns].open[chain] = block;
    a->ns[ns].n_blocks++;
    a->ns[ns].n_queue[queue_of(chain)]++;
    LRD_TESTPOINT("arena_opened");

    /* The word that says the old items are gone, and the pins that say their views are, before the first byte that overwrites them; pairs with the acquire fences in
     * lrd_table_look() and larder_view_end(). */
    lrd_fence_release();
    return true;
}

static bool open_fits(const struct lrd_arena *a, uint32_t ns, uint32_t chain, uint32_t bytes)
{
    uint32_t block = a->ns[ns].open[chain];
    return block != LRD_NO_BLOCK && lrd_load_relaxed(&descriptor(a, block)->used) + bytes <= UINT64_C(1) << a->s->r.block_shift;
}

uint32_t lrd_arena_alloc(struct lrd_arena *a, uint32_t ns, uint32_t chain, struct lrd_item_head head, enum lrd_asker asker)
{
    const struct lrd_reader *r = &a->s->r;
    uint32_t bytes = lrd_item_bytes_of(head, r->granule_shift);
    if (!open_fits(a, ns, chain, bytes) && !open_block(a, ns, chain, asker))
        return 0;
    uint32_t block = a->ns[ns].open[chain];
    struct lrd_descriptor *d = descriptor(a, block);
    uint64_t used = lrd_load_relaxed(&d->used), off = ((uint64_t)block << r->block_shift) + used;
    uint64_t expires_ms = lrd_item_expires_ms(head), expiry = expires_ms ? expires_ms : LRD_EXPIRES_MAX + 1;
    struct lrd_item *item = (struct lrd_item *)(void *)(a->s->arena + off);
    /* Relaxed: published by the slot. A reader of the block's former life may look; it will see the new block word. Before `used`, so that a block
     * can be walked from item to item whenever its writer was killed. */
    lrd_store_relaxed(&item->word0, head.word0);
    lrd_store_relaxed(&item->word1, head.word1);
    if (expiry > lrd_load_relaxed(&d->latest_expiry))
        lrd_store_release(&d->latest_expiry, expiry);
    /* All before any slot that depends on them: if the worker dies now, these bytes are dead, never overwritten under an item. */
    lrd_store_release(&d->used, used + bytes);
    return (uint32_t)(off >> r->granule_shift);
}

void lrd_arena_step_live(struct lrd_arena *a, uint32_t block, uint64_t share, int by)
{
    struct lrd_tally *t = &a->ns[ns_of(a, block)];
    lrd_u64 *word = &descriptor(a, block)->live;
    uint64_t live = lrd_journal_read(a->j, word);
    lrd_journal_step(a->j, word, by > 0 ? live + share : live - share);
    t->live_items += by > 0 ? 1 : (uint64_t)-1;
    t->live_bytes += by > 0 ? lrd_live_bytes(share) : -(uint64_t)lrd_live_bytes(share);
}
