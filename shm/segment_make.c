/* Making a segment: how large its parts are, and what is in them before the first record. */
#include "shm/segment.h"

#include <errno.h>
#include <string.h>

#include "shm/feed.h"
#include "shm/item.h"
#include "shm/namespace.h"

/* Of the table when the arena is full: no put without room up to 0.75, 1.2 lines per hit at 0.70 (HACKING.md). */
#define LOAD_DEFAULT 0.70

/* The arena is cut into about this many blocks: enough that the spare ones and the open one are under 3 %, few enough that block words stay in L1. */
#define BLOCKS_WANTED 128u

/* The table's index has 32 bits, of buckets: 1 TiB of arena at 100 bytes an item. Beyond, the table is fuller than asked for. */
#define PAIRS_MOST (1u << 30)

#define MARKS_LEAST (UINT64_C(1) << 20)

#define MEMORY_LEAST (4 * (uint64_t)LRD_HUGE)

static uint64_t round_up(uint64_t x, uint64_t to) { return (x + to - 1) / to * to; }

static uint32_t log2_floor(uint64_t x) { return 63u - (uint32_t)__builtin_clzll(x | 1); }

static uint32_t clamp(uint32_t x, uint32_t low, uint32_t high) { return x < low ? low : x > high ? high : x; }

/* Cells for the wanted bytes, at least for two of the largest items: one may be read while the next is written. */
static uint32_t cells_for(uint32_t ring_bytes, uint32_t item_max)
{
    uint32_t least = 64;
    uint64_t want = ring_bytes / LRD_CELL, need = 2 * ((uint64_t)item_max + sizeof(struct lrd_record) + LRD_CELL) / LRD_CELL;
    /* A record that just fits half a block needs a little more than half of a ring of a block: the next power of two would double every lane. */
    if (need > want && (uint64_t)item_max * 2 <= want * LRD_CELL)
        need = want;
    while (least < want || least < need)
        least *= 2;
    return least > 1u << 15 ? 1u << 15 : least;
}

static uint64_t lay(struct lrd_part *part, uint64_t off, uint64_t bytes, uint64_t align)
{
    part->off = round_up(off, align);
    part->bytes = round_up(bytes, LRD_PAGE);
    return part->off + part->bytes;
}

void lrd_segment_lay(const struct lrd_geometry *g, struct lrd_part parts[LRD_N_PARTS], uint64_t *end)
{
    uint64_t align = g->segment_bytes >= 16 * (uint64_t)LRD_HUGE ? LRD_HUGE : LRD_PAGE; /* a small segment would be all padding */
    uint64_t off = lay(&parts[LRD_PART_HEADER], 0, sizeof(struct lrd_header), LRD_PAGE);
    off = lay(&parts[LRD_PART_NAMESPACES], off, LRD_NAMESPACES * sizeof(struct lrd_namespace), LRD_PAGE);
    off = lay(&parts[LRD_PART_COUNTERS], off, (uint64_t)LRD_NAMESPACES * LRD_N_COUNTERS * sizeof(lrd_u64), LRD_PAGE);
    off = lay(&parts[LRD_PART_LANES], off, g->n_lanes * sizeof(struct lrd_lane_words), LRD_PAGE);
    off = lay(&parts[LRD_PART_CREDITS], off, g->n_lanes * sizeof(struct lrd_lane_credit), LRD_PAGE);
    off = lay(&parts[LRD_PART_JOURNAL], off, sizeof(struct lrd_journal), LRD_PAGE);
    off = lay(&parts[LRD_PART_PAUSES], off, sizeof(struct lrd_pauses), LRD_PAGE);
    off = lay(&parts[LRD_PART_DEPARTURES], off, sizeof(struct lrd_departures) + (uint64_t)g->n_departures * sizeof(struct lrd_departure), LRD_PAGE);
    off = lay(&parts[LRD_PART_FEEDS], off, (uint64_t)g->feed_pages * LRD_PAGE, LRD_PAGE);
    off = lay(&parts[LRD_PART_BLOCK_WORDS], off, g->n_blocks * sizeof(lrd_u64), LRD_PAGE);
    off = lay(&parts[LRD_PART_DESCRIPTORS], off, g->n_blocks * sizeof(struct lrd_descriptor), LRD_PAGE);
    off = lay(&parts[LRD_PART_TABLE], off, (uint64_t)g->n_pairs * 2 * sizeof(struct lrd_bucket), align);
    *end = lay(&parts[LRD_PART_ARENA], off, (uint64_t)g->n_blocks << g->block_shift, align);
}

/* Departures of about the last eighth of a cacheful, within reason: 16 KiB to 1 MiB. */
static uint32_t departures_for(uint32_t n_pairs) { return 1u << log2_floor(clamp(n_pairs / 4, 1024, 65536)); }

/* All maps together take at most 5 % of the arena's memory, or 1 MiB, which is less than a lane's ring; one is always allowed. */
static void plan_marks(struct lrd_geometry *g)
{
    g->mark_bytes = (uint32_t)round_up((uint64_t)g->n_pairs * 2, LRD_PAGE);
    uint64_t part = ((uint64_t)g->n_blocks << g->block_shift) / 20, budget = part > MARKS_LEAST ? part : MARKS_LEAST;
    uint64_t maps = budget / g->mark_bytes;
    g->n_mark_maps = maps < 1 ? 1 : maps > g->n_lanes ? g->n_lanes : (uint32_t)maps;
}

static bool fits(const struct lrd_geometry *g, struct lrd_part parts[LRD_N_PARTS], uint64_t memory)
{
    uint64_t end;
    lrd_segment_lay(g, parts, &end);
    return end <= memory;
}

static bool load_ok(double load) { return load <= 0 || (load >= 0.05 && load <= 0.9); }

static int plan_for(const struct lrd_plan *plan, struct lrd_geometry *g, struct lrd_part parts[LRD_N_PARTS])
{
    double load = plan->load > 0 ? plan->load : LOAD_DEFAULT;
    uint64_t memory = plan->memory_bytes & ~(uint64_t)(LRD_HUGE - 1);
    memset(g, 0, sizeof *g);
    if (memory < MEMORY_LEAST)
        return -EINVAL;

    g->segment_bytes = memory;
    g->reserve_bytes = memory;
    g->n_lanes = plan->n_lanes;
    g->average_item = plan->average_item;
    g->feed_pages = (uint32_t)((plan->feed_bytes + LRD_PAGE - 1) / LRD_PAGE) + 1; /* never empty: every part has an offset of its own */
    g->view_ms = plan->view_ms;
    g->granule_shift = 3;
    while ((memory - 1) >> 32 >= UINT64_C(1) << g->granule_shift)
        g->granule_shift++;

    uint64_t per_item = (uint64_t)sizeof(struct lrd_item) + plan->average_item + 4 /* padding, on average */;
    double slot_bytes = (double)sizeof(struct lrd_bucket) / LRD_SLOTS / load;
    uint64_t arena = (uint64_t)((double)memory * (double)per_item / ((double)per_item + slot_bytes));
    g->block_shift = plan->block_shift ? plan->block_shift : clamp(log2_floor(arena / BLOCKS_WANTED), LRD_BLOCK_SHIFT_MIN, LRD_BLOCK_SHIFT_MAX);
    g->item_max = 1u << (g->block_shift - 1);
    g->n_cells = cells_for(plan->ring_bytes, g->item_max);

    /* The table takes what it was reckoned to need; whole blocks take the rest. */
    g->n_blocks = (uint32_t)(arena >> g->block_shift) + 1;
    if (plan->n_blocks != 0 && g->n_blocks > plan->n_blocks + 1)
        g->n_blocks = plan->n_blocks + 1;
    do {
        g->n_blocks--;
        double items = (double)((uint64_t)g->n_blocks << g->block_shift) / (double)per_item;
        double pairs = items / load / LRD_SLOTS / 2;
        g->n_pairs = pairs < PAIRS_MOST - 2 ? (uint32_t)pairs + 2 : PAIRS_MOST;
        g->n_departures = departures_for(g->n_pairs);
    } while (g->n_blocks > LRD_BLOCKS_LEAST && !fits(g, parts, memory));
    plan_marks(g);
    return g->n_blocks < LRD_BLOCKS_LEAST || !fits(g, parts, memory) ? -EINVAL : 0;
}

/* Tried, not reckoned: sizes depend on each other. */
static uint64_t least_for(const struct lrd_plan *plan)
{
    struct lrd_plan p = *plan;
    struct lrd_geometry g;
    struct lrd_part parts[LRD_N_PARTS];
    for (p.memory_bytes = MEMORY_LEAST; plan_for(&p, &g, parts) != 0;)
        p.memory_bytes *= 2;
    uint64_t works = p.memory_bytes, too_little = works / 2;
    while (works - too_little > LRD_HUGE) {
        p.memory_bytes = too_little + (works - too_little) / 2 / LRD_HUGE * LRD_HUGE;
        if (plan_for(&p, &g, parts) == 0)
            works = p.memory_bytes;
        else
            too_little = p.memory_bytes;
    }
    return works;
}

int lrd_segment_plan(const struct lrd_plan *plan, struct lrd_geometry *g, struct lrd_part parts[LRD_N_PARTS], uint64_t *least_bytes)
{
    if (least_bytes)
        *least_bytes = MEMORY_LEAST;
    if (plan->average_item == 0 || !load_ok(plan->load) || plan->n_lanes == 0 || (plan->n_blocks != 0 && plan->n_blocks < LRD_BLOCKS_LEAST))
        return -EINVAL;
    int err = plan_for(plan, g, parts);
    if (err != 0 && least_bytes)
        *least_bytes = least_for(plan);
    return err;
}

static void fill_store(struct lrd_store *s, void *base)
{
    unsigned char *b = base;
    const struct lrd_part *parts = s->header->parts;
    void *at[LRD_N_PARTS];
    for (unsigned i = 0; i < LRD_N_PARTS; i++)
        at[i] = b + parts[i].off;
    s->base = b;
    s->namespaces = at[LRD_PART_NAMESPACES];
    s->counters = at[LRD_PART_COUNTERS];
    s->lanes = at[LRD_PART_LANES];
    s->credits = at[LRD_PART_CREDITS];
    s->journal = at[LRD_PART_JOURNAL];
    s->pauses = at[LRD_PART_PAUSES];
    s->departures = at[LRD_PART_DEPARTURES];
    s->feeds = at[LRD_PART_FEEDS];
    s->block_words = at[LRD_PART_BLOCK_WORDS];
    s->descriptors = at[LRD_PART_DESCRIPTORS];
    s->buckets = at[LRD_PART_TABLE];
    s->arena = at[LRD_PART_ARENA];
}

enum lrd_segment_state lrd_store_init(struct lrd_store *s, void *base, size_t bytes)
{
    memset(s, 0, sizeof *s);
    enum lrd_segment_state state = lrd_reader_init(&s->r, base, bytes);
    if (state != LRD_SEGMENT_GOOD)
        return state;
    s->header = base;
    fill_store(s, base);
    return LRD_SEGMENT_GOOD;
}

void lrd_segment_format(struct lrd_store *s, void *base, const struct lrd_geometry *g, const struct lrd_part parts[LRD_N_PARTS])
{
    struct lrd_header *h = base;
    h->layout_version = LRD_LAYOUT_VERSION;
    h->layout_hash = LRD_LAYOUT_HASH;
    h->header_bytes = sizeof *h;
    h->geometry = *g;
    memcpy(h->parts, parts, sizeof h->parts);
    s->header = h;
    fill_store(s, base);
    /* Not 0, so that no block word ever is: a mapping replaced by zeros holds no live item. Above that by the segment's random number, and the same for tokens: a version or a token that a
     * client has from a former daemon must not name anything here, where the same keys may have been set in the same order. */
    uint32_t generation = 1 + ((uint32_t)(g->segment_id >> 1) & 0x3fffffff);
    for (uint32_t i = 0; i < g->n_blocks; i++) {
        lrd_store_relaxed(&s->block_words[i], lrd_block_word_make(generation, 1));
        lrd_store32_relaxed(&s->descriptors[i].generation_swept, generation);
        lrd_store32_relaxed(&s->descriptors[i].generation_seen, generation);
    }
    lrd_store_relaxed(&s->journal->leases, g->segment_id >> 2);
    lrd_ns_format(s->namespaces, g->n_blocks);
    /* Publishes all of the above; pairs with the acquire in lrd_reader_init(). */
    lrd_store_release(&h->magic, LRD_MAGIC);
    (void)lrd_store_init(s, base, g->segment_bytes);
}

void lrd_segment_clear(struct lrd_store *s)
{
    const struct lrd_geometry *g = &s->r.geometry;
    lrd_store_release(&s->journal->n_steps, 0);
    /* Readers go on meanwhile: block words first, so that every slot is dead before it goes. Pairs with the acquire in lrd_table_look(). */
    for (uint32_t i = 0; i < g->n_blocks; i++) {
        uint64_t w = lrd_load_relaxed(&s->block_words[i]);
        lrd_store_release(&s->block_words[i], lrd_block_word_make(lrd_block_word_generation(w) + 1, lrd_block_word_epoch(w)));
        struct lrd_descriptor *d = &s->descriptors[i];
        uint64_t live = lrd_load_relaxed(&d->live);
        /* Counted as evicted, so that the counters go on adding up. */
        uint32_t ns = lrd_owner_ns(lrd_load_relaxed(&d->owner)) % LRD_NAMESPACES;
        bool reset = lrd_block_word_epoch(w) != lrd_load32_relaxed(&s->namespaces[ns].epoch);
        lrd_add_own(lrd_store_counter(s, ns, reset ? LRD_C_reset_items : LRD_C_evicted), lrd_live_items(live));
        lrd_add_own(lrd_store_counter(s, ns, reset ? LRD_C_reset_bytes : LRD_C_evicted_bytes), lrd_live_bytes(live));
        lrd_add_own(lrd_store_counter(s, ns, LRD_C_blocks_freed), lrd_load_relaxed(&d->state) != LRD_BLOCK_FREE);
        lrd_store32_relaxed(&d->generation_swept, lrd_block_word_generation(w) + 1); /* no slot is left of any earlier one */
        lrd_store32_relaxed(&d->generation_seen, lrd_block_word_generation(w) + 1);
        lrd_store_relaxed(&d->state, LRD_BLOCK_FREE);
        lrd_store_relaxed(&d->live, 0);
        lrd_store_relaxed(&d->used, 0);
        lrd_store_relaxed(&d->latest_expiry, 0);
    }
    for (uint64_t b = 0; b < (uint64_t)g->n_pairs * 2; b++) {
        for (unsigned i = 0; i < LRD_SLOTS; i++)
            lrd_store_release(&s->buckets[b].slot[i], 0);
        lrd_store_release(&s->buckets[b].displaced, 0);
    }
    for (uint32_t ns = 0; ns < LRD_NAMESPACES; ns++)
        if (lrd_feed_has(s, ns))
            lrd_feed_note_now(s, &(struct lrd_note){.ns = ns, .event = LRD_EVENT_RESET, .cause = LRD_CAUSE_EVICTED, .now_ms = lrd_load_relaxed(&s->header->heartbeat_ms)});
    lrd_store_relaxed(&s->counters[LRD_C_slots_used], 0);
    lrd_store_relaxed(&s->journal->sweep_cursor, 0);
    lrd_store_relaxed(&s->journal->sweep_owed, 0);
}
