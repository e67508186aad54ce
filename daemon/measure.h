/* The worker's memory as the kernel sees it, by what it is for. A client asks for it (LRD_RECORD_MEASURE), the writer passes the word on, the clerk reads
 * /proc/self/smaps and stores the sums in the segment's header: reading it takes the kernel a while, and the writer has no time. */
#ifndef LRD_MEASURE_H
#define LRD_MEASURE_H

#include <stdint.h>
#include <stdio.h>

#include <event2/event.h>

#include "shm/segment.h"

/* Bytes resident. Their sum is what smaps adds up to, but for the second mapping of every lane's cells. */
struct lrd_measured {
    uint64_t segment;
    uint64_t lanes;
    uint64_t anonymous; /* heap, stacks, and what was written to private mappings of files: data and bss */
    uint64_t files;     /* programs and libraries, and whatever else is mapped */
};

/* Adds up a text like /proc/self/smaps. */
void lrd_measure_sum(FILE *smaps, struct lrd_measured *sum);

/* Maps the segment in and measures once, in the background; then measures whenever the eventfd is readable (lrd_writer_measure_fd()), but not more often than every 10 ms: what is asked meanwhile is answered by one measurement at
 * the end of them. */
struct lrd_measure;

/* 0; -ENOMEM. */
int lrd_measure_create(struct lrd_measure **out, struct lrd_store *store, int asked, struct event_base *base);
void lrd_measure_destroy(struct lrd_measure *m);

#endif
