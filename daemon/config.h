/* What larderd was told: struct lrd_config and who fills it. params.def is the list; everything here is made from it.
 *
 * Command line over configuration file over defaults. What cannot be understood is one line that says what, where and what would be right. */
#ifndef LRD_CONFIG_H
#define LRD_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/namespace.h"
#include "shm/units.h"

/* The order of the words in params.def. */
enum lrd_pages_wish { LRD_PAGES_WISH_AUTO, LRD_PAGES_WISH_HUGETLB, LRD_PAGES_WISH_THP, LRD_PAGES_WISH_SMALL };

enum lrd_numa_policy { LRD_NUMA_NONE, LRD_NUMA_LOCAL, LRD_NUMA_BIND, LRD_NUMA_INTERLEAVE };

struct lrd_numa_wish {
    enum lrd_numa_policy policy;
    uint32_t node; /* of LRD_NUMA_BIND */
};

typedef uint64_t lrd_param_size;
typedef uint32_t lrd_param_count;
typedef double lrd_param_ratio;
typedef uint32_t lrd_param_mode;
typedef uint32_t lrd_param_choice;
typedef char *lrd_param_text; /* never NULL; owned */
typedef struct lrd_numa_wish lrd_param_numa;

typedef struct lrd_param_list {
    struct lrd_ns_spec *at; /* owned; no name is there twice */
    uint32_t n;
} lrd_param_list;

struct lrd_config {
#define LRD_PARAM(name, option, type, standard, low, high, argument, help) lrd_param_##type name;
#define LRD_ACTION(option, argument, help)
#include "daemon/params.def"
#undef LRD_PARAM
#undef LRD_ACTION
    bool check_only; /* --check-config */
};

#define LRD_WHY_BYTES 512u

enum lrd_config_result {
    LRD_CONFIG_RUN,   /* go on */
    LRD_CONFIG_DONE,  /* --help, --version: printed; exit 0 */
    LRD_CONFIG_WRONG  /* why says what; exit 64 */
};

/* Sets defaults, reads the command line and the configuration file it names. `why` is a line without its end. Whatever the result, *c is to be
 * freed with lrd_config_free(). */
enum lrd_config_result lrd_config_read(struct lrd_config *c, int argc, char **argv, char why[LRD_WHY_BYTES]);
void lrd_config_free(struct lrd_config *c);

/* A word of a choice, by its index: lrd_config_choice(pages). */
#define lrd_config_choice(c, name) lrd_config_word(#name, (c)->name)
const char *lrd_config_word(const char *name, uint32_t index);

#endif
