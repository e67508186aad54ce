/* A namespace: its name, what it was told, where it is.
 *
 * A namespace is made once and stays as it was made; only its epoch moves, when it is reset. Its index is found by name, and is good for as long as the segment is.
 *
 *   who                     does                                    beside
 *   anybody                 lrd_ns_find, lrd_ns_client_may_add      everything
 *   the worker's writer     lrd_ns_add, lrd_ns_add_for_client       readers; no other writer
 *   the keeper, at start    lrd_ns_configure                        nobody: no worker runs, nobody has the segment
 *
 * All fields are stored before the state says LIVE, which is stored with release: who finds it live sees the rest. A worker that is killed in between leaves it NONE,
 * and the next one, which finds the record still in the ring, makes it again. The record may also be applied when the namespace is there already: the same
 * made once more is what is there.
 *
 * What the arena can promise is its blocks but for the spare ones. The minimums of all namespaces together stay within it. Where they take all of it, a
 * namespace without a minimum has no block to count on. */
#ifndef LRD_NAMESPACE_H
#define LRD_NAMESPACE_H

#include <stdbool.h>
#include <string.h>

#include "shm/segment.h"

#define LRD_NS_BLOCKS_LEAST 4u                    /* that a namespace's maximum is: an open block for each queue, and one to reclaim while one is filled */
#define LRD_FEED_CLIENTS_PART 4u                  /* the feeds of all namespaces that clients made are at most that part of the space for feeds */
#define LRD_NS_MS_MAX (UINT64_C(3650) * 86400000) /* of ttl and reset-every; with what the clock says it stays below LRD_EXPIRES_MAX for 24 years */

/* ---- reading half ---- */

/* 1 to 31 of A-Z a-z 0-9 . _ -, of which the first is neither - nor . Looks at 32 bytes at most. */
static inline bool lrd_ns_name_ok(const char *name)
{
    uint32_t n = 0;
    for (; n < LRD_NAMESPACE_NAME && name[n] != '\0'; n++) {
        char c = name[n];
        bool word = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
        if (!word && (n == 0 || (c != '.' && c != '-')))
            return false;
    }
    return n > 0 && n < LRD_NAMESPACE_NAME;
}

/* The index of the namespace of that name; LRD_NS_NOWHERE: there is none. */
static inline uint32_t lrd_ns_find(const struct lrd_reader *r, const char *name)
{
    for (uint32_t ns = 0; ns < LRD_NS_NOWHERE; ns++) {
        const struct lrd_namespace *n = &r->namespaces[ns];
        /* Acquire: pairs with the release in make() of namespace_make.c. The name does not change from then on. */
        if (lrd_load32_acquire(&n->state) == LRD_NS_LIVE && strncmp(n->name, name, LRD_NAMESPACE_NAME) == 0)
            return ns;
    }
    return LRD_NS_NOWHERE;
}

/* Whether a client that is no administrator may make it, when all of them may make `limit` in all: no minimum, it does not refuse eviction, and
 * there are fewer. */
bool lrd_ns_client_may_add(const struct lrd_reader *r, const struct lrd_ns_spec *spec, uint32_t limit);

/* ---- as text ---- */

#define LRD_NS_SPEC_SYNTAX "NAME[,policy=evict|fifo|refuse][,min=SIZE][,max=SIZE][,ttl=TIME][,reset-every=TIME][,feed=N]"

/* LRD_NS_SPEC_SYNTAX into *spec. Sizes are bytes or have K, M, G or T behind them, times have ms, s, m, h or d. False: why is a line without its end that names the
 * namespace, what is wrong and what would be right. Whether it fits into a segment is another question. */
bool lrd_ns_spec_parse(const char *text, struct lrd_ns_spec *spec, char *why, size_t why_bytes);

/* "evict", "fifo", "refuse"; "?" for anything else. */
const char *lrd_policy_text(uint32_t policy);

/* ---- writing half: namespace_make.c. In all of it `why` gets a line without its end unless the answer is OK; NULL and 0 for who does not want it. ---- */

/* Finds the namespace that is made as *spec says, or makes it, and sets *ns. What *spec says may come from anybody, but nobody else may be able to change it.
 *
 *   OK          *ns is it
 *   EXISTS      there is one of that name, and it was made differently. Nothing changed.
 *   NO_QUOTA    its minimum, its maximum, or its feed does not fit
 *   TOO_MANY    all indexes, or all accounts of namespaces that refuse, are taken
 *   MALFORMED   *spec contradicts itself, or its name is none */
enum lrd_answer lrd_ns_add(struct lrd_store *s, const struct lrd_ns_spec *spec, uint32_t *ns, char *why, size_t why_bytes);

/* The same for a client that is no administrator; DENIED: it is not there, and lrd_ns_client_may_add() says no. */
enum lrd_answer lrd_ns_add_for_client(struct lrd_store *s, const struct lrd_ns_spec *spec, uint32_t limit, uint32_t *ns, char *why, size_t why_bytes);

/* Makes namespaces that the configuration names, in a segment that no worker has seen; "default" is there and becomes what its spec says. DENIED: a worker has seen it. */
enum lrd_answer lrd_ns_configure(struct lrd_store *s, const struct lrd_ns_spec *specs, uint32_t n_specs, char *why, size_t why_bytes);

/* What lrd_ns_configure() would make of a segment that is planned so; all[] is overwritten. */
enum lrd_answer lrd_ns_plan(const struct lrd_geometry *g, const struct lrd_ns_spec *specs, uint32_t n_specs, struct lrd_namespace all[LRD_NAMESPACES], char *why,
                            size_t why_bytes);

/* "default", in a segment that is being made: zeroed, and nobody sees it. */
void lrd_ns_format(struct lrd_namespace all[LRD_NAMESPACES], uint32_t n_blocks);

#endif
