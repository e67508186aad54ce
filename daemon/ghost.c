#include "daemon/ghost.h"

#include <errno.h>
#include <stdlib.h>

#define WAYS 4u
#define UNITS 2048u /* to a turnover of the arena */

static uint32_t *set_of(const struct lrd_ghost *g, uint64_t hash) { return &g->entry[((hash >> 32) * g->n_sets >> 32) * WAYS]; }
static uint32_t fingerprint(uint64_t hash) { return (uint32_t)(hash >> 15) & 0xffff; }
static uint32_t clock_of(const struct lrd_ghost *g, uint32_t ns) { return (uint32_t)(g->bytes[ns] / g->unit_bytes) & 0xffff; }
static uint32_t age(uint32_t entry, uint32_t clock) { return (clock - entry) & 0xffff; }

int lrd_ghost_init(struct lrd_ghost *g, uint64_t n_slots, uint64_t arena_bytes)
{
    uint32_t n_sets = (uint32_t)((n_slots + WAYS - 1) / WAYS);
    *g = (struct lrd_ghost){.entry = calloc((size_t)n_sets * WAYS, sizeof(uint32_t)), .n_sets = n_sets, .unit_bytes = arena_bytes / UNITS + 1};
    return g->entry != NULL ? 0 : -ENOMEM;
}

void lrd_ghost_fini(struct lrd_ghost *g) { free(g->entry); }

uint64_t lrd_ghost_private_bytes(const struct lrd_ghost *g) { return (uint64_t)g->n_sets * WAYS * sizeof(uint32_t); }

void lrd_ghost_prefetch(const struct lrd_ghost *g, uint64_t hash) { __builtin_prefetch(set_of(g, hash)); }

/* It takes its own entry, or an empty one, or the oldest. */
void lrd_ghost_note(struct lrd_ghost *g, uint32_t ns, uint64_t hash, uint32_t bytes)
{
    uint32_t *set = set_of(g, hash), clock = clock_of(g, ns), victim = 0, oldest = 0;
    for (uint32_t i = 0; i < WAYS; i++) {
        if (set[i] == 0 || set[i] >> 16 == fingerprint(hash)) {
            victim = i;
            break;
        }
        if (age(set[i], clock) >= oldest) {
            oldest = age(set[i], clock);
            victim = i;
        }
    }
    set[victim] = fingerprint(hash) << 16 | clock;
    g->bytes[ns] += bytes;
}

uint32_t *lrd_ghost_find(struct lrd_ghost *g, uint32_t ns, uint64_t hash, uint64_t cacheful_bytes)
{
    uint32_t *set = set_of(g, hash), clock = clock_of(g, ns);
    for (uint32_t i = 0; i < WAYS; i++)
        if (set[i] != 0 && set[i] >> 16 == fingerprint(hash) && age(set[i], clock) <= cacheful_bytes / g->unit_bytes)
            return &set[i];
    return NULL;
}
