/* The harvest: the writer's rounds through the mark maps of all lanes (shm/marks.h), in which the private counts of the table are raised.
 *
 * A round is due when a sixteenth of a namespace was turned over since the last, or after 10 s. It goes in steps of 8 KiB of maps, the same piece of all of them at once, so that an item that several
 * processes read counts once; lanes without a map come first, a few of their samples a step. All steps together take at most a tenth of the writer's time: beyond that rounds get longer. */
#ifndef LRD_HARVEST_H
#define LRD_HARVEST_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/ring.h"
#include "shm/segment.h"
#include "shm/table.h"

struct lrd_harvest {
    struct lrd_store *s;
    struct lrd_table *t;
    bool due, running;
    uint32_t sampled;      /* lanes looked at for samples, */
    uint32_t sample;       /* and samples of the next */
    unsigned char **maps;  /* scratch of a step: the lanes' mark maps */
    uint32_t at;           /* byte of the maps */
    uint64_t ended_ns, not_before_ns;
};

/* 0; -ENOMEM. The table keeps counts. */
int lrd_harvest_init(struct lrd_harvest *h, struct lrd_store *s, struct lrd_table *t);
void lrd_harvest_fini(struct lrd_harvest *h);

/* A step, if a round is under way or due and the budget allows it. n lanes. True if it did something. */
bool lrd_harvest_step(struct lrd_harvest *h, const struct lrd_ring *const *lanes, uint32_t n, uint64_t now_ns);

#endif
