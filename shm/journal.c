#include "shm/journal.h"

#include "shm/testpoint.h"

void lrd_journal_init(struct lrd_journal_writer *j, struct lrd_store *s)
{
    j->s = s;
    j->n = j->n_last = 0;
}

void lrd_journal_commit(struct lrd_journal_writer *j)
{
    struct lrd_journal *shared = j->s->journal;
    const unsigned char *base = j->s->base;
    lrd_journal_close(j);
    unsigned n = j->n;
    /* The last intent was cleared before this one overwrites it: keeps the relaxed stores below from moving up. No instruction on x86. */
    lrd_fence_release();
    for (unsigned i = 0; i < n; i++) {
        lrd_store_relaxed(&shared->step[i].off, (uint64_t)((const unsigned char *)j->word[i] - base));
        lrd_store_relaxed(&shared->step[i].value, j->value[i]);
    }
    LRD_TESTPOINT("journal_before_valid");
    /* Publishes the steps to the next worker, which reads them after this process is dead; the order is all that matters. */
    lrd_store_release(&shared->n_steps, n);
    LRD_TESTPOINT("journal_after_valid");
    for (unsigned i = 0; i < n; i++) {
        /* Each store publishes those before it: slots to lrd_table_get(), positions to lrd_ring_claim() and lrd_wait_applied(). */
        lrd_store_release(j->word[i], j->value[i]);
        LRD_TESTPOINT("journal_step");
    }
    lrd_store_release(&shared->n_steps, 0);
    j->n = 0;
}

bool lrd_journal_recover(struct lrd_store *s)
{
    struct lrd_journal *shared = s->journal;
    uint64_t n = lrd_load_acquire(&shared->n_steps);
    if (n == 0)
        return false;
    for (uint64_t i = 0; i < n && i < LRD_STEPS; i++) {
        uint64_t off = lrd_load_relaxed(&shared->step[i].off);
        lrd_u64 *word = (lrd_u64 *)(void *)(s->base + off);
        lrd_store_release(word, lrd_load_relaxed(&shared->step[i].value));
        LRD_TESTPOINT("recover_step");
    }
    lrd_store_release(&shared->n_steps, 0);
    return true;
}
