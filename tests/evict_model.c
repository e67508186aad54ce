#include "tests/evict_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The numbers of the policy. */
#define SMALL_PERCENT 20u
#define COPY_PERCENT 65u
#define SMALL_READS 2u
#define MAIN_READS 1u
#define SPARE 2u
#define SPLIT_BLOCKS 64u
#define WAYS 4u
#define NEVER UINT64_MAX
#define NONE UINT32_MAX

enum { SMALL, MAIN };

static uint32_t block_bytes(const struct model *m) { return 1u << m->shape.block_shift; }
static uint32_t policy_of(const struct model *m, uint32_t ns) { return m->shape.ns[ns].policy; }
static uint32_t max_of(const struct model *m, uint32_t ns)
{
    if (policy_of(m, ns) == LRD_POLICY_REFUSE)
        return m->shape.ns[ns].min;
    return m->shape.ns[ns].max != 0 ? m->shape.ns[ns].max : m->shape.n_blocks;
}

/* ---- what there is ---- */

static uint32_t n_free(const struct model *m)
{
    uint32_t n = 0;
    for (uint32_t b = 0; b < m->shape.n_blocks; b++)
        n += m->block[b].state == MODEL_FREE;
    return n;
}

static uint32_t n_blocks(const struct model *m, uint32_t ns)
{
    uint32_t n = 0;
    for (uint32_t b = 0; b < m->shape.n_blocks; b++)
        n += m->block[b].state != MODEL_FREE && m->block[b].ns == ns;
    return n;
}

/* Of this epoch. */
static uint32_t n_current(const struct model *m, uint32_t ns, uint32_t queue)
{
    uint32_t n = 0;
    for (uint32_t b = 0; b < m->shape.n_blocks; b++)
        n += (m->block[b].state == MODEL_OPEN || m->block[b].state == MODEL_FULL) && m->block[b].ns == ns && (m->block[b].queue == queue || queue == NONE);
    return n;
}

static uint32_t room_for(const struct model *m, uint32_t ns)
{
    uint32_t has = n_blocks(m, ns), quota = has < max_of(m, ns) ? max_of(m, ns) - has : 0, f = n_free(m);
    return quota < f ? quota : f;
}

uint32_t model_live_items(const struct model *m, uint32_t block)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->block[block].n_items; i++)
        n += m->block[block].item[i].alive;
    return n;
}

uint64_t model_live_bytes(const struct model *m, uint32_t block)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < m->block[block].n_items; i++)
        n += m->block[block].item[i].alive ? m->block[block].item[i].bytes : 0;
    return n;
}

static uint64_t live_bytes_of(const struct model *m, uint32_t ns)
{
    uint64_t n = 0;
    for (uint32_t b = 0; b < m->shape.n_blocks; b++)
        if (m->block[b].ns == ns && (m->block[b].state == MODEL_OPEN || m->block[b].state == MODEL_FULL))
            n += model_live_bytes(m, b);
    return n;
}

/* The oldest block in that state of a namespace's queue and class (NONE: any). */
static uint32_t oldest(const struct model *m, enum model_state state, uint32_t ns, uint32_t queue, uint32_t class)
{
    uint32_t best = NONE;
    for (uint32_t b = 0; b < m->shape.n_blocks; b++) {
        const struct model_block *k = &m->block[b];
        if (k->state == state && k->ns == ns && (queue == NONE || k->queue == queue) && (class == NONE || k->class == class) &&
            (best == NONE || k->opened < m->block[best].opened))
            best = b;
    }
    return best;
}

/* ---- ghost ---- */

static struct model_ghost *ghost_set(struct model *m, uint64_t hash) { return &m->ghost[((hash >> 32) * m->n_sets >> 32) * WAYS]; }
static uint32_t fingerprint_of(uint64_t hash) { return (uint32_t)(hash >> 15) & 0xffff; }
static uint32_t ghost_now(const struct model *m, uint32_t ns) { return (uint32_t)(m->ns[ns].ghost_bytes / m->ghost_unit) & 0xffff; }

/* In place of the same fingerprint or an empty entry, whichever comes first, else of the oldest, of several the last. */
static void ghost_note(struct model *m, uint32_t ns, uint64_t hash, uint32_t bytes)
{
    struct model_ghost *set = ghost_set(m, hash);
    uint32_t now = ghost_now(m, ns), to = 0;
    for (uint32_t i = 1; i < WAYS; i++)
        if (((now - set[i].at) & 0xffff) >= ((now - set[to].at) & 0xffff))
            to = i;
    for (uint32_t i = WAYS; i-- > 0;)
        if (set[i].fingerprint == 0 || set[i].fingerprint == fingerprint_of(hash))
            to = i;
    set[to] = (struct model_ghost){fingerprint_of(hash), now};
    m->ns[ns].ghost_bytes += bytes;
}

/* The entry of a key that was noted less than a cacheful ago. */
static struct model_ghost *ghost_find(struct model *m, uint32_t ns, uint64_t hash)
{
    struct model_ghost *set = ghost_set(m, hash);
    for (uint32_t i = 0; i < WAYS; i++)
        if (set[i].fingerprint == fingerprint_of(hash) && ((ghost_now(m, ns) - set[i].at) & 0xffff) <= (uint64_t)n_blocks(m, ns) * block_bytes(m) / m->ghost_unit)
            return &set[i];
    return NULL;
}

/* ---- placing ---- */

static uint32_t class_of(const struct model *m, uint32_t ns, uint64_t expires_ms)
{
    uint64_t left = expires_ms > m->now_ms ? expires_ms - m->now_ms : 0, turnover = m->ns[ns].turnover_ms;
    if (expires_ms == 0 || n_blocks(m, ns) + room_for(m, ns) < SPLIT_BLOCKS || left >= turnover)
        return 0;
    return left >= turnover / 4 ? 1 : left >= turnover / 16 ? 2 : 3;
}

static void free_block(struct model *m, uint32_t block)
{
    struct model_block *k = &m->block[block];
    for (uint32_t i = 0; i < k->n_items; i++)
        if (k->item[i].alive && k->state != MODEL_DOOMED)
            m->where[k->ns][k->item[i].key].there = false;
    m->ns[k->ns].n.blocks_freed++;
    k->state = MODEL_FREE;
    k->freed = ++m->order;
    k->n_items = 0;
    k->used = 0;
    k->latest_ms = 0;
}

static uint32_t take_free(struct model *m)
{
    uint32_t best = NONE;
    for (uint32_t b = 0; b < m->shape.n_blocks; b++)
        if (m->block[b].state == MODEL_FREE && (best == NONE || m->block[b].freed < m->block[best].freed))
            best = b;
    return best;
}

/* The open block of that queue and class, if the item fits, or another one if there are at least `need`. NONE: no room. */
static uint32_t room(struct model *m, uint32_t ns, uint32_t queue, uint32_t class, uint32_t bytes, uint32_t need)
{
    uint32_t open = oldest(m, MODEL_OPEN, ns, queue, class);
    if (open != NONE && m->block[open].used + bytes <= block_bytes(m))
        return open;
    if (room_for(m, ns) < need)
        return NONE;
    if (open != NONE)
        m->block[open].state = MODEL_FULL;
    uint32_t b = take_free(m);
    struct model_block *k = &m->block[b];
    k->state = MODEL_OPEN;
    k->ns = ns;
    k->queue = queue;
    k->class = class;
    k->opened = ++m->order;
    k->used = b == 0 ? 8 : 0;
    m->ns[ns].n.blocks_opened++;
    return b;
}

static void append(struct model *m, uint32_t block, struct model_item item)
{
    struct model_block *k = &m->block[block];
    uint64_t expiry = item.expires_ms == 0 ? NEVER : item.expires_ms;
    if (expiry > k->latest_ms)
        k->latest_ms = expiry;
    k->used += item.bytes;
    m->where[item.ns][item.key] = (struct model_where){block, k->n_items, true};
    k->item[k->n_items++] = item;
}

static struct model_item *item_of(struct model *m, uint32_t ns, uint32_t key)
{
    const struct model_where *w = &m->where[ns][key];
    return w->there ? &m->block[w->block].item[w->item] : NULL;
}

/* Dies otherwise than with its block. A full block that has nothing left is free. */
static void die(struct model *m, struct model_where w)
{
    struct model_block *k = &m->block[w.block];
    k->item[w.item].alive = false;
    if (k->state == MODEL_FULL && model_live_items(m, w.block) == 0)
        free_block(m, w.block);
}

static bool may_put(struct model *m, uint32_t ns, uint32_t bytes)
{
    uint64_t largest = bytes > m->ns[ns].largest ? bytes : m->ns[ns].largest, blocks = max_of(m, ns);
    if (policy_of(m, ns) != LRD_POLICY_REFUSE)
        return true;
    if (blocks <= 3 || live_bytes_of(m, ns) + bytes > (blocks - 3) * (block_bytes(m) - largest) / 8 * 7)
        return false;
    m->ns[ns].largest = largest;
    return true;
}

/* Where a set goes: where its key's item is, else to main if the ghost list knows it, else to small. */
static uint32_t queue_for(struct model *m, uint32_t ns, uint32_t key, struct model_ghost **ghost)
{
    *ghost = NULL;
    if (policy_of(m, ns) != LRD_POLICY_EVICT)
        return SMALL;
    if (m->where[ns][key].there)
        return m->block[m->where[ns][key].block].queue;
    *ghost = ghost_find(m, ns, cache_hash(ns, key));
    return *ghost != NULL ? MAIN : SMALL;
}

static uint32_t place(struct model *m, uint32_t ns, uint32_t key, uint32_t bytes, uint64_t expires_ms)
{
    struct model_ghost *ghost;
    uint32_t queue = queue_for(m, ns, key, &ghost), class = policy_of(m, ns) == LRD_POLICY_EVICT ? class_of(m, ns, expires_ms) : 0;
    uint32_t b = room(m, ns, queue, class, bytes, SPARE);
    if (b != NONE && ghost != NULL) {
        ghost->fingerprint = 0;
        m->ns[ns].n.ghost_hits++;
    }
    return b;
}

static void note_appended(struct model *m, uint32_t ns, uint32_t bytes)
{
    m->ns[ns].appended += bytes;
    if (room_for(m, ns) < SPARE)
        m->ns[ns].tight = true;
    if (m->ns[ns].appended < (uint64_t)(n_blocks(m, ns) + room_for(m, ns)) * block_bytes(m) / 16)
        return;
    m->ns[ns].turnover_ms = (m->now_ms - m->ns[ns].began_ms) * 16;
    m->ns[ns].began_ms = m->now_ms;
    m->ns[ns].appended = 0;
}

enum cache_result model_put(struct model *m, uint32_t ns, uint32_t key, uint32_t value_len, uint64_t expires_ms)
{
    uint32_t bytes = cache_bytes(value_len);
    if (!may_put(m, ns, bytes))
        return CACHE_FULL;
    uint32_t b = place(m, ns, key, bytes, expires_ms);
    if (b == NONE) {
        m->ns[ns].tight = true;
        model_settle(m);
        b = place(m, ns, key, bytes, expires_ms);
    }
    if (b == NONE)
        return CACHE_STUCK;
    note_appended(m, ns, bytes);
    struct model_where old = m->where[ns][key];
    uint32_t count = old.there ? item_of(m, ns, key)->count : 0;
    append(m, b, (struct model_item){.ns = ns, .key = key, .bytes = bytes, .expires_ms = expires_ms, .count = count, .alive = true});
    m->ns[ns].n.sets++;
    m->ns[ns].n.overwrites += old.there;
    if (old.there)
        die(m, old);
    return CACHE_DONE;
}

bool model_delete(struct model *m, uint32_t ns, uint32_t key)
{
    struct model_where old = m->where[ns][key];
    if (!old.there)
        return false;
    m->where[ns][key].there = false;
    m->ns[ns].n.deletes++;
    die(m, old);
    return true;
}

void model_read(struct model *m, uint32_t ns, uint32_t key)
{
    struct model_item *i = item_of(m, ns, key);
    if (i != NULL && i->count < 3)
        i->count++;
}

void model_reset(struct model *m, uint32_t ns)
{
    m->ns[ns].largest = 0;
    for (uint32_t chain = 0; chain < LRD_CHAINS; chain++) {
        uint32_t queue = chain / LRD_TTL_CLASSES, class = chain % LRD_TTL_CLASSES, b;
        while ((b = oldest(m, MODEL_FULL, ns, queue, class)) != NONE || (b = oldest(m, MODEL_OPEN, ns, queue, class)) != NONE) {
            m->block[b].state = MODEL_DOOMED;
            m->block[b].doomed = ++m->order;
        }
    }
    for (uint32_t key = 0; key < CACHE_KEYS; key++)
        m->where[ns][key].there = false;
}

/* ---- making room ---- */

static bool is_expired(const struct model *m, uint32_t block) { return m->block[block].latest_ms != 0 && m->block[block].latest_ms <= m->now_ms; }

/* Half octaves of reads per byte: 2k up to 1.5 times 2^k, 2k + 1 from there. */
static uint32_t density(uint32_t count, uint32_t bytes)
{
    uint64_t v = ((uint64_t)count << 24) / bytes;
    uint32_t k = 0;
    while (UINT64_C(2) << k <= v)
        k++;
    return 2 * k + (k > 0 && v >= (UINT64_C(3) << k) / 2);
}

/* The items of a block that is reclaimed by evicting that are kept: of those that were read often enough the densest, up to the budget. Of the density at which it runs out, what still
 * fits, in the order in which they lie. */
static void choose(const struct model *m, uint32_t block, uint32_t reads, bool *keep)
{
    const struct model_block *k = &m->block[block];
    uint64_t left = (uint64_t)block_bytes(m) * COPY_PERCENT / 100;
    for (int d = 63; d >= 0; d--) {
        uint64_t sum = 0;
        for (uint32_t i = 0; i < k->n_items; i++)
            sum += keep[i] && k->item[i].count >= reads && density(k->item[i].count, k->item[i].bytes) == (uint32_t)d ? k->item[i].bytes : 0;
        bool whole = sum <= left;
        for (uint32_t i = 0; i < k->n_items; i++) {
            if (!keep[i] || k->item[i].count < reads || density(k->item[i].count, k->item[i].bytes) != (uint32_t)d)
                continue;
            if (k->item[i].bytes > left)
                keep[i] = false;
            else
                left -= k->item[i].bytes;
        }
        if (!whole)
            left = 0;
    }
    for (uint32_t i = 0; i < k->n_items; i++)
        keep[i] = keep[i] && k->item[i].count >= reads;
}

/* False: there is no room for the copy. */
static bool copy_forward(struct model *m, uint32_t block, uint32_t at, bool cleaning)
{
    struct model_block *k = &m->block[block];
    struct model_item i = k->item[at];
    uint32_t class = policy_of(m, i.ns) == LRD_POLICY_EVICT ? class_of(m, i.ns, i.expires_ms) : 0;
    /* What survives cleaning stays in its queue. A namespace that refuses copies into a block of its own, which clients do not fill up. */
    uint32_t queue = policy_of(m, i.ns) == LRD_POLICY_EVICT && cleaning ? k->queue : MAIN;
    uint32_t to = room(m, i.ns, queue, class, i.bytes, 1);
    for (uint32_t chain = 0; cleaning && to == NONE && chain < LRD_CHAINS; chain++) /* what is cleaned may go anywhere */
        to = room(m, i.ns, chain / LRD_TTL_CLASSES, chain % LRD_TTL_CLASSES, i.bytes, 1);
    if (to == NONE && cleaning) {
        fprintf(stderr, "cleaning finds no room\n");
        abort();
    }
    if (to == NONE)
        return false;
    if (!cleaning)
        i.count = k->queue == SMALL ? 0 : i.count - 1;
    k->item[at].alive = false;
    append(m, to, i);
    m->ns[i.ns].n.copied++;
    m->ns[i.ns].n.copied_bytes += i.bytes;
    return true;
}

static void lose(struct model *m, uint32_t block, uint32_t at, bool cleaning)
{
    struct model_block *k = &m->block[block];
    struct model_item *i = &k->item[at];
    if (i->expires_ms != 0 && i->expires_ms <= m->now_ms) {
        m->ns[k->ns].n.expired++;
        return;
    }
    m->ns[k->ns].n.evicted++;
    m->ns[k->ns].n.evicted_unread += i->count == 0;
    if (policy_of(m, k->ns) == LRD_POLICY_EVICT && k->queue == SMALL && !cleaning)
        ghost_note(m, k->ns, cache_hash(k->ns, i->key), i->bytes);
}

static void reclaim(struct model *m, uint32_t block, bool cleaning)
{
    struct model_block *k = &m->block[block];
    bool *keep = calloc(k->n_items + 1, sizeof *keep);
    m->ns[k->ns].n.cleanings += cleaning;
    for (uint32_t i = 0; i < k->n_items; i++)
        keep[i] = k->item[i].alive && !(k->item[i].expires_ms != 0 && k->item[i].expires_ms <= m->now_ms);
    if (!cleaning && policy_of(m, k->ns) == LRD_POLICY_EVICT)
        choose(m, block, k->queue == SMALL ? SMALL_READS : MAIN_READS, keep);
    for (uint32_t i = 0; i < k->n_items; i++) {
        bool kept = keep[i] && (cleaning || policy_of(m, k->ns) == LRD_POLICY_EVICT) && copy_forward(m, block, i, cleaning);
        if (k->item[i].alive && !kept)
            lose(m, block, i, cleaning);
    }
    free(keep);
    free_block(m, block);
}

static void free_expired(struct model *m, uint32_t block)
{
    m->ns[m->block[block].ns].n.expired += model_live_items(m, block);
    free_block(m, block);
}

/* The one with the fewest live bytes, of those the oldest. */
static uint32_t emptiest(const struct model *m, uint32_t ns)
{
    uint32_t best = NONE;
    for (uint32_t b = 0; b < m->shape.n_blocks; b++) {
        const struct model_block *k = &m->block[b];
        if (k->state != MODEL_FULL || k->ns != ns)
            continue;
        uint64_t live = model_live_bytes(m, b), least = best == NONE ? UINT64_MAX : model_live_bytes(m, best);
        if (live < least || (live == least && k->opened < m->block[best].opened))
            best = b;
    }
    return best;
}

static uint32_t block_to_evict(const struct model *m, uint32_t ns)
{
    bool from_small = n_current(m, ns, SMALL) * 100 > n_current(m, ns, NONE) * SMALL_PERCENT;
    uint32_t b = oldest(m, MODEL_FULL, ns, from_small ? SMALL : MAIN, NONE);
    return b != NONE ? b : oldest(m, MODEL_FULL, ns, from_small ? MAIN : SMALL, NONE);
}

/* Only where a sixteenth of a block is won; else it is left alone until a record waits. */
static bool clean_refusing(struct model *m, uint32_t ns)
{
    uint32_t b = emptiest(m, ns), open = oldest(m, MODEL_OPEN, ns, NONE, NONE);
    if (b != NONE && block_bytes(m) - model_live_bytes(m, b) > block_bytes(m) / 16)
        reclaim(m, b, true);
    else if (b == NONE && open != NONE)
        m->block[open].state = MODEL_FULL;
    else
        m->ns[ns].tight = false;
    return true;
}

/* False: the namespace has no block. */
static bool reclaim_from(struct model *m, uint32_t ns)
{
    for (uint32_t chain = 0; chain < LRD_CHAINS; chain++) {
        uint32_t head = oldest(m, MODEL_FULL, ns, chain / LRD_TTL_CLASSES, chain % LRD_TTL_CLASSES);
        if (head != NONE && is_expired(m, head)) {
            free_expired(m, head);
            return true;
        }
    }
    bool wants = policy_of(m, ns) == LRD_POLICY_EVICT && live_bytes_of(m, ns) * 2 < (uint64_t)n_current(m, ns, NONE) * block_bytes(m);
    if (policy_of(m, ns) == LRD_POLICY_REFUSE)
        return clean_refusing(m, ns);
    uint32_t b = wants ? emptiest(m, ns) : NONE;
    if (b != NONE && model_live_bytes(m, b) * 2 < block_bytes(m)) {
        reclaim(m, b, true);
        return true;
    }
    b = block_to_evict(m, ns);
    if (b == NONE)
        b = oldest(m, MODEL_OPEN, ns, NONE, NONE);
    if (b == NONE)
        return false;
    m->block[b].state = MODEL_FULL;
    if (model_live_items(m, b) == 0)
        free_block(m, b);
    else
        reclaim(m, b, false);
    return true;
}

static bool free_doomed(struct model *m)
{
    uint32_t first = NONE;
    for (uint32_t b = 0; b < m->shape.n_blocks; b++)
        if (m->block[b].state == MODEL_DOOMED && (first == NONE || m->block[b].doomed < m->block[first].doomed))
            first = b;
    if (first == NONE)
        return false;
    m->ns[m->block[first].ns].n.reset_items += model_live_items(m, first);
    free_block(m, first);
    return true;
}

/* Who has most above its minimum, when blocks are short; else who is near its maximum. */
static uint32_t who_gives(struct model *m)
{
    uint32_t best = NONE, most = 0;
    for (uint32_t ns = 0; ns < m->shape.n_ns && n_free(m) < SPARE; ns++) {
        uint32_t has = n_blocks(m, ns), above = has > m->shape.ns[ns].min ? has - m->shape.ns[ns].min : 0;
        if (policy_of(m, ns) != LRD_POLICY_REFUSE && above > most && n_current(m, ns, NONE) > 0) {
            most = above;
            best = ns;
        }
    }
    if (best != NONE)
        return best;
    for (uint32_t i = 0; i < LRD_NAMESPACES; i++) {
        uint32_t ns = 0;
        bool any = false;
        for (uint32_t n = 0; n < m->shape.n_ns; n++)
            any |= m->ns[n].tight;
        if (!any)
            break;
        ns = m->tight_turn++ % LRD_NAMESPACES;
        if (ns >= m->shape.n_ns || !m->ns[ns].tight)
            continue;
        if (room_for(m, ns) < SPARE && n_current(m, ns, NONE) > 0)
            return ns;
        m->ns[ns].tight = false;
    }
    return NONE;
}

void model_settle(struct model *m)
{
    for (uint32_t n = 0;; n++) {
        if (free_doomed(m))
            continue;
        uint32_t ns = who_gives(m);
        if (ns == NONE || !reclaim_from(m, ns))
            return;
        if (n > 100000) {
            fprintf(stderr, "the model makes room without end\n");
            abort();
        }
    }
}

void model_tick(struct model *m, uint64_t by_ms)
{
    uint32_t freed = 0;
    m->now_ms += by_ms;
    for (uint32_t i = 0; i < 256 && i < m->shape.n_blocks && freed < 8; i++) {
        uint32_t b = m->tick_block;
        struct model_block *k = &m->block[b];
        m->tick_block = (b + 1) % m->shape.n_blocks;
        if (k->state == MODEL_OPEN && is_expired(m, b))
            k->state = MODEL_FULL;
        if (k->state == MODEL_FREE || k->state == MODEL_OPEN || !(is_expired(m, b) || model_live_items(m, b) == 0))
            continue;
        if (k->state == MODEL_DOOMED) {
            m->ns[k->ns].n.reset_items += model_live_items(m, b);
            free_block(m, b);
        } else
            free_expired(m, b);
        freed++;
    }
}

/* ---- life ---- */

void model_make(struct model *m, const struct cache *c)
{
    memset(m, 0, sizeof *m);
    m->shape = c->shape;
    m->now_ms = c->now_ms;
    uint32_t n = 0;
    for (uint32_t b = c->a.next[c->shape.n_blocks]; b < c->shape.n_blocks; b = c->a.next[b]) {
        m->block[b].freed = ++m->order;
        n++;
    }
    if (n != c->shape.n_blocks)
        abort();
    for (uint32_t b = 0; b < c->shape.n_blocks; b++)
        m->block[b].item = calloc(block_bytes(m) / 24 + 1, sizeof *m->block[b].item);
    m->n_sets = (c->shape.n_pairs * 2 * LRD_SLOTS + WAYS - 1) / WAYS;
    m->ghost = calloc((size_t)m->n_sets * WAYS, sizeof *m->ghost);
    m->ghost_unit = (uint64_t)c->shape.n_blocks * block_bytes(m) / 2048 + 1;
    for (uint32_t ns = 0; ns < CACHE_NS; ns++) {
        m->ns[ns].turnover_ms = 3600000;
        m->ns[ns].tight = true;
    }
}

void model_drop(struct model *m)
{
    for (uint32_t b = 0; b < m->shape.n_blocks; b++)
        free(m->block[b].item);
    free(m->ghost);
}

/* ---- comparing ---- */

static unsigned differs(const char *what, uint32_t ns, uint64_t model, uint64_t cache)
{
    if (model == cache)
        return 0;
    fprintf(stderr, "%s of %u: %llu, should be %llu\n", what, ns, (unsigned long long)cache, (unsigned long long)model);
    return 1;
}

#define COUNTER(name) differs(#name, ns, m->ns[ns].n.name, cache_counter(c, ns, LRD_C_##name))
static unsigned compare_counters(const struct model *m, const struct cache *c, uint32_t ns)
{
    return COUNTER(sets) + COUNTER(overwrites) + COUNTER(deletes) + COUNTER(evicted) + COUNTER(evicted_unread) + COUNTER(expired) + COUNTER(reset_items) + COUNTER(copied) +
           COUNTER(copied_bytes) + COUNTER(ghost_hits) + COUNTER(cleanings) + COUNTER(blocks_opened) + COUNTER(blocks_freed) +
           differs("no_room", ns, 0, cache_counter(c, ns, LRD_C_no_room)) + differs("blocks", ns, n_blocks(m, ns), c->a.ns[ns].n_blocks);
}

static unsigned compare_keys(const struct model *m, struct cache *c, uint32_t ns)
{
    for (uint32_t key = 0; key < CACHE_KEYS; key++) {
        const struct model_where *w = &m->where[ns][key];
        if (c->seen[ns][key] == (w->there ? w->block + 1 : 0))
            continue;
        fprintf(stderr, "namespace %u, key %u: in block %d, should be in %d (-1: not at all)\n", ns, key, (int)c->seen[ns][key] - 1, w->there ? (int)w->block : -1);
        return 1;
    }
    return 0;
}

unsigned model_compare(const struct model *m, struct cache *c)
{
    unsigned n = cache_walk(c);
    for (uint32_t ns = 0; ns < m->shape.n_ns; ns++)
        n += compare_counters(m, c, ns) + compare_keys(m, c, ns);
    for (uint32_t b = 0; b < m->shape.n_blocks; b++) {
        uint64_t live = lrd_load_relaxed(&c->s.descriptors[b].live);
        n += differs("live items of block", b, model_live_items(m, b), lrd_live_items(live)) + differs("live bytes of block", b, model_live_bytes(m, b), lrd_live_bytes(live));
    }
    return n;
}
