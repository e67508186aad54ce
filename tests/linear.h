/* Is a recorded history linearizable? After Wing and Gong (1993) and Lowe (2017).
 *
 * A history is what several processes did to some keys: of each operation when it was invoked, when it returned, and what it answered. It is linearizable if each operation can be given one
 * moment between the two such that a sequential cache, doing them in that order, gives the same answers. That holds for all keys together if it holds for each (Herlihy and Wing), so
 * keys are searched one by one: depth first, over the operations that may be next (invoked before any that is left has returned), remembering which pairs of (operations done, state) led nowhere.
 *
 * An operation whose end is not known (timed out and given up, or its process was killed) is pending: it may take effect at any moment after it was invoked, or never.
 *
 * Versions. A version names one item: one write, from its moment to the next write of the key. The sequential cache does not know which version it gives; what operations say they found
 * binds it. Where the daemon may move items (LINEAR_MOVES) an item may take a new version at any moment, and so a cas may be told CHANGED, without effect, although nobody wrote; a version
 * never comes back in either case, and a cas or delete_if that succeeds has met the version it named.
 *
 * Processes must not read their own unapplied writes: that a get answers with what no other process sees yet is the cache's promise to the writer, and is not linearizable. So who records waits
 * for each plain write before the next operation on its key.
 *
 * The pairs are remembered as 128 bits of hash: two that collide could make a right history look wrong (one in 2^80 or so), never a wrong one right. */
#ifndef TESTS_LINEAR_H
#define TESTS_LINEAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum linear_what {
    LINEAR_GET,       /* DONE: seen, found; MISSING */
    LINEAR_SET,       /* DONE */
    LINEAR_ADD,       /* DONE, PRESENT */
    LINEAR_REPLACE,   /* DONE, MISSING */
    LINEAR_CAS,       /* DONE, CHANGED, MISSING */
    LINEAR_EXCHANGE,  /* DONE: seen is the old value; MISSING: written, there was none */
    LINEAR_INCR,      /* DONE: seen is the number; MISSING, OVERFLOW; with create there is 0 where there is none */
    LINEAR_APPEND,    /* DONE, MISSING */
    LINEAR_TOUCH,     /* DONE, MISSING; the value stays, the version does not */
    LINEAR_GET_AND_TOUCH, /* DONE: seen; MISSING */
    LINEAR_DELETE,    /* DONE, whether there was one or not */
    LINEAR_DELETE_IF, /* DONE, CHANGED, MISSING */
    LINEAR_WHATS
};

enum linear_end {
    LINEAR_PENDING, LINEAR_DONE, LINEAR_MISSING, LINEAR_PRESENT, LINEAR_CHANGED, LINEAR_OVERFLOW,
    LINEAR_MAYBE, /* of pieces of a history: done before it returned, or before the piece began */
};

struct linear_op {
    uint64_t invoked_ns;  /* one clock for all */
    uint64_t returned_ns; /* not looked at if pending */
    uint32_t key;
    uint16_t process;
    uint8_t what;         /* enum linear_what */
    uint8_t end;          /* enum linear_end */
    bool create;          /* of incr */
    int64_t value;        /* what is written, by how much, or the byte that is appended */
    int64_t seen;
    uint64_t version;     /* that cas and delete_if name */
    uint64_t found;       /* version of the item that was read, was written, or stood in the way; 0: not told, or there is none */
};

static inline bool linear_is_known(const struct linear_op *op) { return op->end != LINEAR_PENDING && op->end != LINEAR_MAYBE; }

/* Values are numbers. That of a text is this fold of its bytes, from 0 on, so that an append is a step of it. */
static inline int64_t linear_fold(int64_t value, unsigned char byte)
{
    return (int64_t)(((uint64_t)value ^ byte ^ 0x9e3779b97f4a7c15u) * 0xff51afd7ed558ccdu);
}

#define LINEAR_MOVES 1u   /* items may be given another version without a write */
#define LINEAR_ANY_STATE 2u /* nothing is known about what was there at first, else nothing was: of pieces of a history */
#define LINEAR_IN_ORDER 4u  /* writes of one process take effect in the order of its calls, also those that overlap, and those of which the end is not known */

struct linear_verdict {
    uint32_t key;     /* the one that is wrong, or was too much */
    uint64_t visited; /* pairs, of all keys */
    bool gave_up;     /* more pairs than most of them: neither right nor wrong */
};

#define LINEAR_MOST UINT64_C(5000000)

/* True: linearizable. Sorts ops by key and invocation. */
bool linear_check(struct linear_op *ops, size_t n, unsigned how, struct linear_verdict *verdict);

/* Cuts a history that linear_check() refused, sorted by it, down to a piece of its wrong key that is refused too, in place, and returns how many operations that has. Each cut only allows more: operations
 * without effect are left out, those that stand across a cut are pending or LINEAR_MAYBE, and what was there before the first is anything; *how may change. */
size_t linear_shrink(struct linear_op *ops, size_t n, unsigned *how, uint32_t key);

void linear_print(FILE *to, const struct linear_op *ops, size_t n);

#endif
