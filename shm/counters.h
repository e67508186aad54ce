/* The counters of counters.def with their names, for people who print them. */
#ifndef LRD_COUNTERS_H
#define LRD_COUNTERS_H

#include "shm/layout.h"

struct lrd_counter_info {
    const char *name;
    const char *unit;
    const char *help; /* begins with "* " when exact after any crash */
};

static const struct lrd_counter_info lrd_counter_info[LRD_N_COUNTERS] = {
#define LRD_COUNTER(name, unit, help) {#name, #unit, help},
#include "shm/counters.def"
#undef LRD_COUNTER
};

#endif
