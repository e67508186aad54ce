/* larderd: reads its options, then is the keeper until it is told to stop. */
#include <stdio.h>
#include <stdlib.h>

#include "daemon/config.h"
#include "daemon/keeper.h"
#include "daemon/log.h"
#include "daemon/pages.h"
#include "shm/feed.h"
#include "shm/item.h"
#include "shm/lane.h"

#define EXIT_USAGE 64 /* sysexits: EX_USAGE */

static void print_namespaces(const struct lrd_config *c, const struct lrd_geometry *g)
{
    struct lrd_namespace all[LRD_NAMESPACES];
    char a[16], b[16], t[24];
    if (lrd_ns_plan(g, c->namespaces.at, c->namespaces.n, all, NULL, 0) != LRD_ANSWER_OK)
        return; /* lrd_keeper_plan() has said why */
    uint64_t promised = 0;
    for (uint32_t ns = 0; ns < LRD_NS_NOWHERE; ns++) {
        const struct lrd_namespace *n = &all[ns];
        if (lrd_load32_relaxed(&n->state) != LRD_NS_LIVE)
            continue;
        promised += lrd_load_relaxed(&n->min_blocks);
        printf("namespace %s: %s, %s to %s", n->name, lrd_policy_text(lrd_load32_relaxed(&n->policy)), lrd_size_text(lrd_load_relaxed(&n->min_blocks) << g->block_shift, a),
               lrd_size_text(lrd_load_relaxed(&n->max_blocks) << g->block_shift, b));
        if (lrd_load_relaxed(&n->default_ttl_ms) != 0)
            printf(", items live %s", lrd_ms_text(lrd_load_relaxed(&n->default_ttl_ms), t));
        if (lrd_load_relaxed(&n->reset_every_ms) != 0)
            printf(", reset every %s", lrd_ms_text(lrd_load_relaxed(&n->reset_every_ms), t));
        if (lrd_load_relaxed(&n->feed) != 0)
            printf(", change feed of %u entries", lrd_feed_entries(lrd_load_relaxed(&n->feed)));
        putchar('\n');
    }
    if (promised != 0)
        printf("minimums  %s of the arena; what is used of them, other namespaces do not have: %s is left to all\n", lrd_size_text(promised << g->block_shift, a),
               lrd_size_text((g->n_blocks - promised) << g->block_shift, b));
}

/* What --check-config says: everything that is decided before a byte is taken. */
static int check(const struct lrd_config *c, const struct lrd_geometry *g, const struct lrd_part parts[LRD_N_PARTS])
{
    char why[LRD_WHY_BYTES], a[16], b[16];
    uint64_t lane = lrd_lane_bytes(g->n_cells, 0), lanes = lrd_lanes_bytes(g), arena = (uint64_t)g->n_blocks << g->block_shift;
    printf("socket    %s, mode %04o\n", c->socket, c->socket_mode);
    printf("table     %s: %u buckets, %llu slots, load %.2f when the arena is full\n", lrd_size_text(parts[LRD_PART_TABLE].bytes, a), g->n_pairs * 2,
           (unsigned long long)g->n_pairs * 2 * LRD_SLOTS, c->table_load);
    printf("arena     %s: about %llu items of %u bytes\n", lrd_size_text(arena, a), (unsigned long long)(arena / lrd_item_bytes(0, g->average_item, g->granule_shift)),
           g->average_item);
    printf("blocks    %u of %s; largest item %s\n", g->n_blocks, lrd_size_text(UINT64_C(1) << g->block_shift, a), lrd_size_text(g->item_max, b));
    print_namespaces(c, g);
    printf("feeds     %s, for the change feeds of all namespaces\n", lrd_size_text((uint64_t)g->feed_pages * LRD_PAGE, a));
    printf("lanes     %u of %s (ring %s)\n", g->n_lanes, lrd_size_text(lane, a), lrd_size_text((uint64_t)g->n_cells * LRD_CELL, b));
    printf("marks     %u of the lanes with %s more for a mark map\n", g->n_mark_maps, lrd_size_text(g->mark_bytes, a));
    printf("segment   %s\n", lrd_size_text(g->segment_bytes, a));
    printf("in total  %s when all clients are attached\n", lrd_size_text(g->segment_bytes + lanes, a));
    fflush(stdout);

    struct lrd_limits l;
    lrd_limits_read("", &l);
    bool must_huge = c->pages == LRD_PAGES_WISH_HUGETLB, may_huge = must_huge || c->pages == LRD_PAGES_WISH_AUTO;
    bool huge = may_huge && lrd_limits_allow(&l, g->segment_bytes, lanes, true, why);
    bool fits = huge || (!must_huge && lrd_limits_allow(&l, g->segment_bytes, lanes, false, why));
    if (!fits || !lrd_keeper_raise_descriptors(g->n_lanes, why)) {
        fprintf(stderr, "larderd: %s\n", why);
        return EXIT_FAILURE;
    }
    printf("pages     %s\n", huge                               ? "reserved huge pages"
                              : c->pages == LRD_PAGES_WISH_SMALL ? "4 KiB"
                                                                 : "transparent huge pages where the kernel gives them, else 4 KiB");
    return EXIT_SUCCESS;
}

static int wrong(const char *why)
{
    fprintf(stderr, "larderd: %s\n", why);
    return EXIT_USAGE;
}

static int run(const struct lrd_config *c)
{
    struct lrd_geometry g;
    struct lrd_part parts[LRD_N_PARTS];
    char why[LRD_WHY_BYTES];
    if (!lrd_keeper_plan(c, &g, parts, why))
        return wrong(why);
    if (c->check_only)
        return check(c, &g, parts);
    lrd_log_init((enum lrd_log_level)c->log_level);
    return lrd_keeper_run(c);
}

int main(int argc, char **argv)
{
    struct lrd_config config;
    char why[LRD_WHY_BYTES];
    enum lrd_config_result result = lrd_config_read(&config, argc, argv, why);
    int status = result == LRD_CONFIG_DONE ? EXIT_SUCCESS : result == LRD_CONFIG_WRONG ? wrong(why) : run(&config);
    lrd_config_free(&config);
    return status;
}
