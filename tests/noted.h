/* The writing half of the table, compiled into a test so that each of its stores is noted: what it did can be taken back, and made again one store at a time.
 *
 * For one .c file of a test, which then does not take table.c, arena.c, feed.c and journal.c from the library. */
#ifndef TESTS_NOTED_H
#define TESTS_NOTED_H

#include <check.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/segment_fixture.h"

#include "shm/testpoint.h"

struct note {
    lrd_u64 *w;
    lrd_u32 *w32;
    uint64_t before, after;
};

#define NOTES 4096
static struct note notes[NOTES];
static unsigned n_notes;
static bool noting;

static void add_note(struct note n)
{
    if (!noting)
        return;
    if (n_notes == NOTES)
        ck_abort_msg("too many stores");
    notes[n_notes++] = n;
}

static void noted_store(lrd_u64 *w, uint64_t x)
{
    add_note((struct note){.w = w, .before = lrd_load_relaxed(w), .after = x});
    lrd_store_release(w, x);
}

static void noted_store32(lrd_u32 *w, uint32_t x)
{
    add_note((struct note){.w32 = w, .before = lrd_load32_relaxed(w), .after = x});
    lrd_store32_release(w, x);
}

static void store_note(const struct note *n, uint64_t x)
{
    if (n->w != NULL)
        lrd_store_relaxed(n->w, x);
    else
        lrd_store32_relaxed(n->w32, (uint32_t)x);
}

static inline void take_back(unsigned from, unsigned to)
{
    for (unsigned i = to; i-- > from;)
        store_note(&notes[i], notes[i].before);
}

static inline void make_again(unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++)
        store_note(&notes[i], notes[i].after);
}

#define lrd_store_relaxed(w, x) noted_store(w, x)
#define lrd_store_release(w, x) noted_store(w, x)
#define lrd_store32_relaxed(w, x) noted_store32(w, x)
#define lrd_store32_release(w, x) noted_store32(w, x)
#include "shm/feed.c"
#include "shm/journal.c"
#define ns_of ns_of_block /* table.c has one too */
#include "shm/arena.c"
#undef ns_of
#include "shm/table.c"
#undef lrd_store_relaxed
#undef lrd_store_release
#undef lrd_store32_relaxed
#undef lrd_store32_release

#endif
