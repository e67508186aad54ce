#include <stdio.h>
#include <stdlib.h>

#include "daemon/config.h"
#include "daemon/keeper.h"
#include "daemon/log.h"
#include "daemon/pages.h"
#include "shm/lane.h"

#define EXIT_USAGE 64 /* sysexits: EX_USAGE */

/* What --check-config says: everything that is decided before a byte is taken. */
static int check(const struct lrd_config *c)
{
    struct lrd_geometry g;
    struct lrd_part parts[LRD_N_PARTS];
    char why[LRD_WHY_BYTES], a[16], b[16];
    if (!lrd_keeper_plan(c, &g, parts, why)) {
        fprintf(stderr, "larderd: %s\n", why);
        return EXIT_USAGE;
    }
    uint64_t lane = lrd_lane_bytes(g.n_cells), lanes = lane * g.n_lanes, arena = (uint64_t)g.n_blocks << g.block_shift, table = parts[LRD_PART_TABLE].bytes;
    printf("socket    %s, mode %04o\n", c->socket, c->socket_mode);
    printf("table     %s: %u buckets, %llu slots, load %.2f when the arena is full\n", lrd_size_text(table, a), g.n_pairs * 2, (unsigned long long)g.n_pairs * 2 * LRD_SLOTS,
           c->table_load);
    printf("arena     %s: about %llu items of %u bytes\n", lrd_size_text(arena, a), (unsigned long long)(arena / (sizeof(struct lrd_item) + g.average_item + 4)), g.average_item);
    printf("blocks    %u of %s; largest item %s\n", g.n_blocks, lrd_size_text(UINT64_C(1) << g.block_shift, a), lrd_size_text(g.item_max, b));
    printf("lanes     %u of %s (ring %s)\n", g.n_lanes, lrd_size_text(lane, a), lrd_size_text((uint64_t)g.n_cells * LRD_CELL, b));
    printf("segment   %s\n", lrd_size_text(g.segment_bytes, a));
    printf("in total  %s when all clients are attached\n", lrd_size_text(g.segment_bytes + lanes, a));

    struct lrd_limits l;
    lrd_limits_read("", &l);
    bool may_huge = c->pages == LRD_PAGES_WISH_AUTO || c->pages == LRD_PAGES_WISH_HUGETLB, must_huge = c->pages == LRD_PAGES_WISH_HUGETLB;
    bool huge = may_huge && lrd_limits_allow(&l, g.segment_bytes, lanes, true, why);
    if (!huge && (must_huge || !lrd_limits_allow(&l, g.segment_bytes, lanes, false, why))) {
        fflush(stdout);
        fprintf(stderr, "larderd: %s\n", why);
        return EXIT_FAILURE;
    }
    printf("pages     %s\n", huge ? "reserved huge pages" : c->pages == LRD_PAGES_WISH_SMALL ? "4 KiB" : "transparent huge pages where the kernel gives them, else 4 KiB");
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    struct lrd_config config;
    char why[LRD_WHY_BYTES];
    int status = EXIT_SUCCESS;
    switch (lrd_config_read(&config, argc, argv, why)) {
    case LRD_CONFIG_DONE:
        break;
    case LRD_CONFIG_WRONG:
        fprintf(stderr, "larderd: %s\n", why);
        status = EXIT_USAGE;
        break;
    case LRD_CONFIG_RUN:
        lrd_log_init((enum lrd_log_level)config.log_level);
        status = config.check_only ? check(&config) : lrd_keeper_run(&config);
        break;
    }
    lrd_config_free(&config);
    return status;
}
