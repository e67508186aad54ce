/* The counters of counters.def with their names, for people who print them. */
#ifndef LRD_COUNTERS_H
#define LRD_COUNTERS_H

#include "shm/layout.h"

enum lrd_counter_scope { LRD_SCOPE_all, LRD_SCOPE_ns };

struct lrd_counter_info {
    const char *name;
    const char *unit;
    enum lrd_counter_scope scope;
    const char *help; /* begins with "* " when exact after any crash */
};

static const struct lrd_counter_info lrd_counter_info[LRD_N_COUNTERS] = {
#define LRD_COUNTER(name, unit, scope, help) {#name, #unit, LRD_SCOPE_##scope, help},
#include "shm/counters.def"
#undef LRD_COUNTER
};

#endif
