/* Looking at a segment: every number is checked against the mapping before it is used, because the peer may be anybody. */
#include "shm/segment.h"

#include "shm/item.h"

/* Part `id`, if it lies in the segment, begins on a page and has at least `least` bytes. */
static const unsigned char *part_at(const struct lrd_header *h, const unsigned char *base, enum lrd_part_id id, uint64_t segment_bytes, uint64_t least)
{
    struct lrd_part p = h->parts[id];
    if (p.off % LRD_PAGE != 0 || p.off > segment_bytes || p.bytes > segment_bytes - p.off || p.bytes < least)
        return NULL;
    return base + p.off;
}

static int geometry_ok(const struct lrd_geometry *g, size_t bytes)
{
    return g->segment_bytes >= LRD_PAGE && g->segment_bytes <= bytes && g->reserve_bytes >= g->segment_bytes && g->n_pairs >= 2 &&
           g->n_pairs <= 1u << 30 && g->block_shift >= LRD_BLOCK_SHIFT_MIN && g->block_shift <= LRD_BLOCK_SHIFT_MAX && g->n_blocks >= 4 &&
           g->n_blocks <= UINT64_MAX >> (g->block_shift + 1) && g->granule_shift >= 3 && g->granule_shift <= 12 && g->n_lanes >= 1 &&
           g->n_lanes <= 1u << 16 && g->n_cells >= 64 && g->n_cells <= 1u << 15 && (g->n_cells & (g->n_cells - 1)) == 0 &&
           g->item_max <= 1u << (g->block_shift - 1) && g->n_departures >= 1 && (g->n_departures & (g->n_departures - 1)) == 0 &&
           g->mark_bytes >= g->n_pairs * 2 && g->mark_bytes % LRD_PAGE == 0;
}

/* An average item, wherever in a line it begins. */
static uint32_t item_lines(const struct lrd_geometry *g)
{
    uint64_t lines = (sizeof(struct lrd_item) + (uint64_t)g->average_item + 2 * LRD_LINE - 9) / LRD_LINE;
    return lines < 8 ? (uint32_t)lines : 8;
}

enum lrd_segment_state lrd_reader_init(struct lrd_reader *r, const void *base, size_t bytes)
{
    const struct lrd_header *h = base;
    if (bytes < sizeof *h)
        return LRD_SEGMENT_SHORT;
    /* Pairs with the release in lrd_segment_format(): who sees the magic sees the rest. */
    if (lrd_load_acquire(&h->magic) != LRD_MAGIC)
        return LRD_SEGMENT_NOT_READY;
    if (h->layout_version != LRD_LAYOUT_VERSION || h->layout_hash != LRD_LAYOUT_HASH)
        return LRD_SEGMENT_OTHER_VERSION;
    struct lrd_geometry g = h->geometry;
    if (g.segment_bytes > bytes)
        return LRD_SEGMENT_SHORT;
    if (!geometry_ok(&g, bytes))
        return LRD_SEGMENT_DAMAGED;

    const unsigned char *b = base;
    uint64_t n = g.segment_bytes;
    const void *namespaces = part_at(h, b, LRD_PART_NAMESPACES, n, LRD_NAMESPACES * sizeof(struct lrd_namespace));
    const void *counters = part_at(h, b, LRD_PART_COUNTERS, n, (uint64_t)LRD_NAMESPACES * LRD_N_COUNTERS * sizeof(lrd_u64));
    const void *lanes = part_at(h, b, LRD_PART_LANES, n, g.n_lanes * sizeof(struct lrd_lane_words));
    const void *journal = part_at(h, b, LRD_PART_JOURNAL, n, sizeof(struct lrd_journal));
    const void *block_words = part_at(h, b, LRD_PART_BLOCK_WORDS, n, g.n_blocks * sizeof(lrd_u64));
    const void *descriptors = part_at(h, b, LRD_PART_DESCRIPTORS, n, g.n_blocks * sizeof(struct lrd_descriptor));
    const void *credits = part_at(h, b, LRD_PART_CREDITS, n, g.n_lanes * sizeof(struct lrd_lane_credit));
    const void *pauses = part_at(h, b, LRD_PART_PAUSES, n, sizeof(struct lrd_pauses));
    const void *departures = part_at(h, b, LRD_PART_DEPARTURES, n, sizeof(struct lrd_departures) + (uint64_t)g.n_departures * sizeof(struct lrd_departure));
    const void *table = part_at(h, b, LRD_PART_TABLE, n, (uint64_t)g.n_pairs * 2 * sizeof(struct lrd_bucket));
    const void *arena = part_at(h, b, LRD_PART_ARENA, n, (uint64_t)g.n_blocks << g.block_shift);
    const void *feeds = part_at(h, b, LRD_PART_FEEDS, n, (uint64_t)g.feed_pages * LRD_PAGE);
    if (!feeds || !namespaces || !counters || !lanes || !journal || !credits || !pauses || !departures || !block_words || !descriptors || !table || !arena)
        return LRD_SEGMENT_DAMAGED;

    *r = (struct lrd_reader){
        .buckets = table,
        .block_words = block_words,
        .namespaces = namespaces,
        .arena = arena,
        .hash_seed = g.hash_seed,
        .arena_bytes = (uint64_t)g.n_blocks << g.block_shift,
        .n_pairs = g.n_pairs,
        .n_blocks = g.n_blocks,
        .block_shift = g.block_shift,
        .granule_shift = g.granule_shift,
        .location_shift = g.block_shift - g.granule_shift,
        .item_lines = item_lines(&g),
        .header = h,
        .counters = counters,
        .lanes = lanes,
        .journal = journal,
        .descriptors = descriptors,
        .credits = credits,
        .pauses = pauses,
        .departures = departures,
        .feeds = feeds,
        .geometry = g,
    };
    return LRD_SEGMENT_GOOD;
}

const char *lrd_segment_state_text(enum lrd_segment_state state)
{
    switch (state) {
    case LRD_SEGMENT_GOOD:
        return "good";
    case LRD_SEGMENT_SHORT:
        return "smaller than it says";
    case LRD_SEGMENT_NOT_READY:
        return "not ready, or not a segment";
    case LRD_SEGMENT_OTHER_VERSION:
        return "made by another layout version";
    case LRD_SEGMENT_DAMAGED:
        return "damaged: its parts do not fit into it";
    }
    return "unknown";
}
