#include "shm/arena.h"

#include <errno.h>
#include <stdlib.h>

#include "shm/journal.h"
#include "shm/testpoint.h"

/* One block may be opened at any moment while a large copy holds another: 2 are enough for bounded steps. */
#define SPARE_BLOCKS 2u

/* Half of what a slot's 16 bits of generation can tell apart: a slot from before the last completed sweep cannot look live again. */
#define GENERATIONS_PER_SWEEP (1u << 15)

/* ---- the two lists: free blocks and full ones, first in, first out ---- */

static uint32_t free_list(const struct lrd_arena *a) { return a->s->r.n_blocks; }
static uint32_t full_list(const struct lrd_arena *a) { return a->s->r.n_blocks + 1; }

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

static void sort_into_lists(struct lrd_arena *a, struct block_age *ages)
{
    uint32_t n = a->s->r.n_blocks;
    for (uint32_t i = 0; i < n; i++)
        ages[i] = (struct block_age){lrd_load_relaxed(&a->s->descriptors[i].sequence), i};
    qsort(ages, n, sizeof *ages, by_age);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t block = ages[i].block;
        switch ((enum lrd_block_state)lrd_load_relaxed(&a->s->descriptors[block].state)) {
        case LRD_BLOCK_OPEN:
            a->open = block; /* goes on where `used` says; what a dead worker copied there without a slot stays dead bytes */
            break;
        case LRD_BLOCK_FULL:
            list_append(a, full_list(a), block);
            break;
        case LRD_BLOCK_FREE:
            list_append(a, free_list(a), block);
            a->n_free++;
            break;
        }
    }
}

int lrd_arena_init(struct lrd_arena *a, struct lrd_store *s, struct lrd_journal_writer *j)
{
    uint32_t n = s->r.n_blocks;
    *a = (struct lrd_arena){.s = s, .j = j, .open = LRD_NO_BLOCK, .held = LRD_NO_BLOCK, .batch_sequence = UINT64_MAX, .spare = SPARE_BLOCKS};
    a->next = calloc(n + 2, sizeof *a->next);
    a->prev = calloc(n + 2, sizeof *a->prev);
    struct block_age *ages = calloc(n, sizeof *ages);
    if (a->next == NULL || a->prev == NULL || ages == NULL) {
        free(ages);
        lrd_arena_fini(a);
        return -ENOMEM;
    }
    list_init(a, free_list(a));
    list_init(a, full_list(a));
    sort_into_lists(a, ages);
    free(ages);
    return 0;
}

void lrd_arena_fini(struct lrd_arena *a)
{
    free(a->next);
    free(a->prev);
    a->next = a->prev = NULL;
}

/* ---- freeing ---- */

static bool may_free(const struct lrd_arena *a, uint32_t block)
{
    const struct lrd_descriptor *d = &a->s->descriptors[block];
    return lrd_load_relaxed(&d->state) == LRD_BLOCK_FULL && block != a->held && lrd_load_relaxed(&d->sequence) < a->batch_sequence;
}

/* A sweep must complete while at most 2^14 blocks are freed, and where there are fewer blocks once per turnover of the arena. */
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

void lrd_arena_free_block(struct lrd_arena *a, uint32_t block)
{
    struct lrd_store *s = a->s;
    struct lrd_descriptor *d = &s->descriptors[block];
    uint64_t word = lrd_load_relaxed(&s->block_words[block]), live = lrd_load_relaxed(&d->live);
    list_remove(a, block);

    lrd_journal_begin(a->j);
    /* From this store on readers miss what lay here; pairs with the acquire in lrd_table_look(). */
    lrd_journal_step(a->j, &s->block_words[block], lrd_block_word_make(lrd_block_word_generation(word) + 1, lrd_block_word_epoch(word)));
    if (live != 0) {
        lrd_journal_step(a->j, &d->live, 0);
        lrd_journal_add(a->j, &s->counters[LRD_C_evicted], lrd_live_items(live));
        lrd_journal_add(a->j, &s->counters[LRD_C_evicted_bytes], lrd_live_bytes(live));
    }
    lrd_journal_step(a->j, &d->used, 0);
    lrd_journal_step(a->j, &d->latest_expiry, 0);
    lrd_journal_add(a->j, &s->counters[LRD_C_blocks_freed], 1);
    lrd_journal_step(a->j, &s->journal->sweep_owed, sweep_owed_then(s));
    lrd_journal_step(a->j, &d->state, LRD_BLOCK_FREE);
    lrd_journal_commit(a->j);

    list_append(a, free_list(a), block);
    a->n_free++;
}

void lrd_arena_free_if_empty(struct lrd_arena *a, uint32_t block)
{
    if (lrd_load_relaxed(&a->s->descriptors[block].live) == 0 && may_free(a, block))
        lrd_arena_free_block(a, block);
}

/* The oldest block that may be freed. The batch and the held block are never all there is: a batch spans two blocks at most. */
static uint32_t oldest(const struct lrd_arena *a)
{
    for (uint32_t b = a->next[full_list(a)]; b != full_list(a); b = a->next[b])
        if (may_free(a, b))
            return b;
    return LRD_NO_BLOCK;
}

bool lrd_arena_reclaim(struct lrd_arena *a)
{
    if (a->n_free >= a->spare)
        return false;
    uint32_t block = oldest(a);
    if (block == LRD_NO_BLOCK)
        return false;
    lrd_arena_free_block(a, block);
    return true;
}

/* ---- filling ---- */

static bool may_open(const struct lrd_arena *a, uint32_t block)
{
    uint32_t generation = lrd_block_word_generation(lrd_load_relaxed(&a->s->block_words[block]));
    return generation - lrd_load32_relaxed(&a->s->descriptors[block].generation_swept) < GENERATIONS_PER_SWEEP;
}

/* The free block that was freed longest ago, of those whose generation the sweep has caught up with. */
static uint32_t pick_free(const struct lrd_arena *a)
{
    for (uint32_t b = a->next[free_list(a)]; b != free_list(a); b = a->next[b])
        if (may_open(a, b))
            return b;
    return LRD_NO_BLOCK;
}

static void close_open_block(struct lrd_arena *a)
{
    uint32_t block = a->open;
    if (block == LRD_NO_BLOCK)
        return;
    a->open = LRD_NO_BLOCK;
    lrd_store_release(&a->s->descriptors[block].state, LRD_BLOCK_FULL);
    list_append(a, full_list(a), block);
    lrd_arena_free_if_empty(a, block);
}

static bool open_block(struct lrd_arena *a, uint32_t ns)
{
    struct lrd_store *s = a->s;
    close_open_block(a);
    lrd_arena_reclaim(a);
    uint32_t block = pick_free(a);
    if (block == LRD_NO_BLOCK)
        return false;
    list_remove(a, block);
    a->n_free--;

    struct lrd_descriptor *d = &s->descriptors[block];
    uint32_t generation = lrd_block_word_generation(lrd_load_relaxed(&s->block_words[block]));
    uint64_t sequence = lrd_load_relaxed(&s->journal->sequence) + 1;
    lrd_journal_begin(a->j);
    lrd_journal_step(a->j, &s->journal->sequence, sequence);
    lrd_journal_step(a->j, &d->sequence, sequence);
    lrd_journal_step(a->j, &d->ns, ns);
    lrd_journal_step(a->j, &d->used, block == 0 ? UINT64_C(1) << s->r.granule_shift : 0); /* granule 0 is never used: no slot is 0 */
    lrd_journal_step(a->j, &s->block_words[block], lrd_block_word_make(generation, lrd_load32_relaxed(&s->namespaces[ns].epoch)));
    lrd_journal_add(a->j, &s->counters[LRD_C_blocks_opened], 1);
    lrd_journal_step(a->j, &d->state, LRD_BLOCK_OPEN);
    lrd_journal_commit(a->j);
    a->open = block;
    LRD_TESTPOINT("arena_opened");

    /* The word that says the old items are gone before the first byte that overwrites them; pairs with the acquire fence in lrd_table_look(). */
    lrd_fence_release();
    return true;
}

static uint64_t open_used(const struct lrd_arena *a) { return lrd_load_relaxed(&a->s->descriptors[a->open].used); }

/* The open block is of this namespace and its epoch, and has that much room. */
static bool open_fits(const struct lrd_arena *a, uint32_t ns, uint32_t bytes)
{
    if (a->open == LRD_NO_BLOCK)
        return false;
    const struct lrd_store *s = a->s;
    return lrd_load_relaxed(&s->descriptors[a->open].ns) == ns &&
           lrd_block_word_epoch(lrd_load_relaxed(&s->block_words[a->open])) == lrd_load32_relaxed(&s->namespaces[ns].epoch) &&
           open_used(a) + bytes <= UINT64_C(1) << s->r.block_shift;
}

void lrd_arena_batch_begin(struct lrd_arena *a)
{
    /* The open block may close within the batch; all that are opened later are newer. */
    a->batch_sequence = a->open == LRD_NO_BLOCK ? lrd_load_relaxed(&a->s->journal->sequence) + 1 : lrd_load_relaxed(&a->s->descriptors[a->open].sequence);
}

uint32_t lrd_arena_alloc(struct lrd_arena *a, uint32_t ns, uint32_t bytes, uint64_t expires_ms)
{
    if (!open_fits(a, ns, bytes) && !open_block(a, ns))
        return 0;
    struct lrd_descriptor *d = &a->s->descriptors[a->open];
    uint64_t used = open_used(a), expiry = expires_ms ? expires_ms : LRD_EXPIRES_MAX + 1;
    if (expiry > lrd_load_relaxed(&d->latest_expiry))
        lrd_store_relaxed(&d->latest_expiry, expiry);
    /* Both before any slot that depends on them: if the worker dies now, these bytes are dead, never overwritten under an item. */
    lrd_store_release(&d->used, used + bytes);
    uint64_t off = ((uint64_t)a->open << a->s->r.block_shift) + used;
    return (uint32_t)(off >> a->s->r.granule_shift);
}
