/* Conditional writes: what a record asks for is decided when its turn comes, against the item that is there then.
 *
 *   plan     looks at the item and at what is asked for: either nothing is to change, and the answer says why, or an item is to be made or removed
 *   room     gets room for the new item; nothing is visible yet
 *   copy     fills it, from the record, the old item, or both; in steps if it is large
 *   still    whether the plan would be the same now: other records may have been applied between two steps
 *   step     adds the change to the open intent
 *
 * The writer calls these in this order for each record, one after the other, so each is decided after the one before it was applied. The answer goes to the lane before the intent
 * that passes the record: a worker that is killed before that decides anew, against an item that nothing has changed; one that is killed after it leaves the answer in place.
 *
 * An item is never changed: incr, append, touch and a lease on a stale value make a new one and replace the old, as a set does.
 *
 * A lease is an item, or words of one: it outlives the worker, and whatever replaces or removes the item ends it. It is held while its time is not over and the lane that
 * it was granted to is the same client's; a client that died holds it until its lane has been drained. */
#ifndef LRD_DECIDE_H
#define LRD_DECIDE_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/credit.h"
#include "daemon/evict.h"
#include "shm/arena.h"
#include "shm/journal.h"
#include "shm/segment.h"
#include "shm/table.h"

struct lrd_decider {
    struct lrd_store *s;
    struct lrd_arena *a;
    struct lrd_table *t;
    struct lrd_journal_writer *j;
    struct lrd_evict *e;
    struct lrd_credits *c;
};

/* What is asked for: private copies, but for the payload, which lies in the ring and is only ever copied. */
struct lrd_ask {
    const struct lrd_record *record;
    const struct lrd_args *args; /* NULL: a plain set */
    const unsigned char *key;
    const unsigned char *payload; /* record->value_len bytes */
    uint64_t hash;
    uint64_t holder;              /* lane:32 | incarnation:32 of who asks */
};

enum lrd_change { LRD_CHANGE_NONE, LRD_CHANGE_PUT, LRD_CHANGE_REMOVE };

#define LRD_NUMBER_TEXT 24u

struct lrd_decision {
    enum lrd_answer answer;
    enum lrd_change change;
    uint64_t version;  /* of the item there; 0: none. In the end that of the new one */
    uint64_t number;   /* for the result */
    /* of the item to be made */
    struct lrd_item_head head;
    struct lrd_item_words words;
    uint32_t bytes;    /* padding included */
    uint32_t location; /* 0: no room was got yet */
    uint32_t old;      /* block of the item there, or LRD_NO_BLOCK */
    uint64_t made_of;  /* version of the item whose value is copied; 0: none */
    const unsigned char *piece[2]; /* its value; private text is in text[] */
    uint32_t piece_len[2];
    uint32_t copied;
    bool has_text;
    char text[LRD_NUMBER_TEXT];
};

void lrd_decide_plan(const struct lrd_decider *d, const struct lrd_ask *ask, struct lrd_decision *plan, uint64_t now_ms);

/* Room for an item that a client writes: its location, or 0 if it has to wait. Not inside an intent. */
uint32_t lrd_decide_room(const struct lrd_decider *d, struct lrd_item_head head, uint64_t hash, uint32_t old, uint64_t now_ms);

/* Copies up to `most` bytes of the new item's value, and before the first all that stands before it. True: it is whole. */
bool lrd_decide_copy(const struct lrd_decider *d, const struct lrd_ask *ask, struct lrd_decision *plan, uint32_t most);

/* Plans again. False: another item would have to be made. */
bool lrd_decide_still(const struct lrd_decider *d, const struct lrd_ask *ask, struct lrd_decision *plan, uint64_t now_ms);

/* Adds the change to the open intent. The block in which an item may have died, or LRD_NO_BLOCK. */
uint32_t lrd_decide_step(const struct lrd_decider *d, const struct lrd_ask *ask, struct lrd_decision *plan, uint64_t now_ms);

#endif
