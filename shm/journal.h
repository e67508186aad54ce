/* The intent: how a change of several words happens at once although the worker may be killed between any two instructions.
 *
 *   begin:   the writer collects (word, value) steps                 nothing of it is visible yet
 *   commit:  n_steps = n (release)                                   from here the change will happen, whoever completes it
 *            word = value, for each step in order (release)          readers see each word as it is stored
 *            n_steps = 0 (release)                                   from here the next intent may be written
 *   recover: a new worker that finds n_steps != 0 makes all the stores again, from the first.
 *
 * Values are absolute, so a store made twice is a store made once; nobody else writes these words. The order of the steps is the order the table and the arena
 * need for their readers: all displaced words up, then slots, each once and a moved item's new one before its old one, then displaced words down. Made a second time,
 * the first raise of a word takes it back while the slots are there already; so a word is raised once, for all of them (lrd_journal_merge). The last step of a record's intent is its lane's applied position: a record whose intent was written is never
 * executed again, only completed. A record that changes one word only, its position, needs no intent.
 */
#ifndef LRD_JOURNAL_H
#define LRD_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "shm/layout.h"
#include "shm/segment.h"

#define LRD_LAST_STEPS 4u

struct lrd_journal_writer {
    struct lrd_store *s;
    unsigned n;                        /* steps collected */
    unsigned n_last;                   /* words that are stored behind all others */
    lrd_u64 *word[LRD_STEPS];
    uint64_t value[LRD_STEPS];
    lrd_u64 *last_word[LRD_LAST_STEPS];
    uint64_t last_value[LRD_LAST_STEPS];
};

void lrd_journal_init(struct lrd_journal_writer *j, struct lrd_store *s);

static inline void lrd_journal_begin(struct lrd_journal_writer *j) { j->n = j->n_last = 0; }

/* What a word will be after the steps collected so far. */
static inline uint64_t lrd_journal_read(const struct lrd_journal_writer *j, const lrd_u64 *word)
{
    for (unsigned i = j->n; i-- > 0;)
        if (j->word[i] == word)
            return j->value[i];
    return lrd_load_relaxed(word); /* relaxed: this thread is the only one that stores it */
}

/* Adds a step. A word may have several: each is stored in its turn. */
static inline void lrd_journal_step(struct lrd_journal_writer *j, lrd_u64 *word, uint64_t value)
{
    if (lrd_unlikely(j->n == LRD_STEPS))
        abort(); /* our own mistake: no change has that many words */
    j->word[j->n] = word;
    j->value[j->n] = value;
    j->n++;
}

/* A step that replaces the value of the word's last one, if it has one. */
static inline void lrd_journal_merge(struct lrd_journal_writer *j, lrd_u64 *word, uint64_t value)
{
    for (unsigned i = j->n; i-- > 0;)
        if (j->word[i] == word) {
            j->value[i] = value;
            return;
        }
    lrd_journal_step(j, word, value);
}

/* Counts, in a word that has no other step in this intent: a plain load instead of lrd_journal_read(). */
static inline void lrd_journal_add(struct lrd_journal_writer *j, lrd_u64 *word, uint64_t n) { lrd_journal_step(j, word, lrd_load_relaxed(word) + n); }

/* A word that says of the change that it has happened: it is stored behind all other steps, but for the applied position. Given again it replaces its value. */
static inline void lrd_journal_last(struct lrd_journal_writer *j, lrd_u64 *word, uint64_t value)
{
    unsigned i = 0;
    while (i < j->n_last && j->last_word[i] != word)
        i++;
    if (lrd_unlikely(i == LRD_LAST_STEPS))
        abort(); /* our own mistake: an intent is about an item and its victim */
    j->last_word[i] = word;
    j->last_value[i] = value;
    if (i == j->n_last)
        j->n_last++;
}

/* What such a word will be. */
static inline uint64_t lrd_journal_last_value(const struct lrd_journal_writer *j, const lrd_u64 *word)
{
    for (unsigned i = 0; i < j->n_last; i++)
        if (j->last_word[i] == word)
            return j->last_value[i];
    return lrd_load_relaxed(word); /* relaxed: this thread is the only one that stores it */
}

/* Makes them steps: before the applied position is. */
static inline void lrd_journal_close(struct lrd_journal_writer *j)
{
    for (unsigned i = 0; lrd_unlikely(i < j->n_last); i++)
        lrd_journal_step(j, j->last_word[i], j->last_value[i]);
    j->n_last = 0;
}

/* Writes the intent down and makes it; what was to be last and is no step yet becomes one. */
void lrd_journal_commit(struct lrd_journal_writer *j);

/* Completes an intent that a dead worker left. True if there was one. Before anything else touches the segment. */
bool lrd_journal_recover(struct lrd_store *s);

#endif
