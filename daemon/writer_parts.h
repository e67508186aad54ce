/* What the writer's files share, and nobody else:
 *
 *   writer.c     the loop: lanes that come, sleep and end; maintenance; waiting
 *   records.c    from a ring into the segment: batches, large records, conditional writes
 *   requests.c   what is asked of the daemon beside changes of items; resets
 *
 * All of it is one thread's. */
#ifndef LRD_WRITER_PARTS_H
#define LRD_WRITER_PARTS_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/bell.h"
#include "daemon/credit.h"
#include "daemon/decide.h"
#include "daemon/evict.h"
#include "daemon/watch.h"
#include "daemon/writer.h"
#include "shm/arena.h"
#include "shm/journal.h"
#include "shm/ring.h"
#include "shm/segment.h"
#include "shm/table.h"

#define LRD_BATCH 16u
#define LRD_NO_LANE UINT32_MAX

struct lrd_lane_ref {
    /* the writer's */
    struct lrd_ring ring;
    struct lrd_lane_words *words;
    int doorbell;
    bool known;
    bool active;  /* in w->active; else parked */
    bool dying;
    uint64_t end; /* nothing is taken from here on: where a dying lane's claims end; UINT64_MAX while it lives */
    uint64_t idle_since_ns; /* 0: was not idle at the last look */
    /* between clerk and writer: each store releases what was stored before it, each load acquires */
    lrd_u32 command; /* enum command, in writer.c */
    lrd_u32 drained;
    const struct lrd_ring *new_ring;
    int new_doorbell;
};

/* A record on its way through the stages. */
struct lrd_pending {
    struct lrd_record record;  /* private copy: checked here, used from here */
    struct lrd_args args;      /* of conditional writes, likewise */
    const unsigned char *payload; /* in the ring */
    uint64_t position;
    uint64_t hash;
    const unsigned char *key;  /* a copy that no client can change */
    uint32_t cells;
    uint32_t location;
    uint32_t bytes;
    uint32_t old;              /* block of what it overwrites, as far as the hint tells */
    uint32_t emptied;          /* block in which the last item may have died, or LRD_NO_BLOCK */
    bool refused;
};

/* A record whose item is copied in steps. At most one in the whole daemon. */
struct lrd_large {
    uint32_t lane; /* LRD_NO_LANE: none */
    unsigned begun; /* how often: what it is made of may change between two steps */
    struct lrd_pending p;
    struct lrd_decision plan;
    unsigned char key[LRD_KEY_MAX];
};

struct lrd_writer {
    struct lrd_store *s;
    struct lrd_journal_writer journal;
    struct lrd_arena arena;
    struct lrd_table table;
    struct lrd_evict *evict;
    struct lrd_watches *watches;
    struct lrd_bells bells;
    struct lrd_credits credits;
    struct lrd_decider decider;
    uint64_t reset_due_ns[LRD_NAMESPACES]; /* of those that the clock resets; UINT64_MAX: never */
    uint64_t next_reset_ns;
    uint32_t client_namespaces;
    struct lrd_lane_ref *lanes;
    const struct lrd_ring **rings; /* of all known lanes, in no order */
    uint32_t n_rings;
    uint32_t *active;
    uint32_t n_active;
    uint32_t n_lanes;
    int epoll;
    int command_fd; /* the clerk's: a command waits */
    int drained_fd;
    int measure_fd; /* the clerk's: somebody asked for it */
    lrd_u32 commands; /* counts commands given */
    uint32_t commands_seen;
    lrd_u32 lanes_known; /* 1: the clerk has added all lanes that were there before this worker */
    lrd_u32 stop;
    uint64_t spin_ns, spin_max_ns;
    uint64_t now_ns, now_ms, polled_ns, parked_looked_ns;
    uint64_t looked_ns; /* at the rings, the last time; 0: it slept since */
    uint32_t turn;
    long switches;      /* that it was made to leave its core, when we asked the last time */
    struct lrd_large large;
    struct lrd_pending batch[LRD_BATCH];
    unsigned char keys[LRD_BATCH][LRD_KEY_MAX]; /* of deletes and conditional writes, which have no item (yet) to hold a copy */
};

static inline uint32_t lrd_lane_idx(const struct lrd_writer *w, const struct lrd_lane_ref *lane) { return (uint32_t)(lane - w->lanes); }

/* ---- records.c ---- */

/* Takes what one lane has for one turn: a batch, a request, or a step of a large record. True if there was something to do. */
bool lrd_records_take(struct lrd_writer *w, struct lrd_lane_ref *lane);

/* Wakes who waits for this lane's applied position. */
void lrd_records_wake(struct lrd_writer *w, const struct lrd_lane_ref *lane);

/* Names the record that is worked on to whoever looks after a fault; and that it is none. */
void lrd_note_record(struct lrd_writer *w, uint32_t lane, uint64_t position);
void lrd_note_nothing(struct lrd_writer *w);

/* The last steps of each record's intent. */
void lrd_step_applied(struct lrd_writer *w, const struct lrd_lane_ref *lane, const struct lrd_pending *p);

/* ---- requests.c ---- */

/* Applies the request in the batch's first place. */
void lrd_request_apply(struct lrd_writer *w, struct lrd_lane_ref *lane);

/* When the clock resets next; and the resets that are due. */
void lrd_resets_plan(struct lrd_writer *w);
void lrd_resets_by_clock(struct lrd_writer *w);

#endif
