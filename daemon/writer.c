/* One thread applies everything: it looks at the rings of the active lanes in turn, takes a batch from each, and between two batches does a bounded
 * piece of maintenance. Nothing it does depends on a client going on: a lane is a source of bytes, checked after they were copied once.
 *
 * A batch goes in stages, so that the memory accesses of its records overlap: headers are copied and checked; payloads are copied into the arena and hashed there; the
 * items they may replace are fetched; then record by record an intent is written and made. Only that last stage changes what anybody sees. If the worker dies before it, what was
 * copied is dead space in the block and the record is applied by the next worker. If a record finds no block to be copied into, the batch ends before it: it stays in the ring, and
 * its turn comes when room has been made (evict.h), a bounded step at a time.
 *
 * Conditional writes (decide.h) stand in batches of their own, because what is to be copied is known only when the records before are applied: the stages are headers, keys, and then record by
 * record the decision, the copy and the intent.
 *
 * A lane that stayed silent is parked: its client rings its doorbell. Doorbells are registered edge-triggered and never read, because a client can make them blocking
 * or drain them; all parked rings are looked at again every 50 ms.
 */
#include "daemon/writer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/credit.h"
#include "daemon/decide.h"
#include "daemon/evict.h"
#include "daemon/watch.h"
#include "shm/arena.h"
#include "shm/clock.h"
#include "shm/feed.h"
#include "shm/item.h"
#include "shm/journal.h"
#include "shm/namespace.h"
#include "shm/racy.h"
#include "shm/table.h"
#include "shm/testpoint.h"
#include "shm/wait.h"

#define BATCH 16u
#define COPY_STEP_BYTES (16u << 10) /* copied between two looks at the rings: 1 us at 16 GB/s */
#define PREFETCH_CELLS 8u            /* of a record: the processor follows longer ones by itself */
#define SWEEP_STEP 64u              /* buckets */
#define SKIP_STEP 4096u             /* cells of a dead client */
#define POLL_NS 50000u              /* a busy writer looks at the doorbells of parked lanes this often */
#define SLEEP_MS 50                 /* the heartbeat is promised every 100 */
#define EVICT_STEPS 3u              /* behind a batch, at most */
#define PAUSE_NS 20000u             /* longer than that between two looks at the rings: was it us, or the scheduler? */
#define NO_LANE UINT32_MAX
#define BELL_OF_CLERK UINT32_MAX

enum command { COMMAND_NONE, COMMAND_ADD, COMMAND_DRAIN };

struct lane_ref {
    /* the writer's */
    struct lrd_ring ring;
    struct lrd_lane_words *words;
    int doorbell, bell;
    bool known;
    bool active;  /* in w->active; else parked */
    bool dying;
    uint64_t end; /* nothing is taken from here on: where a dying lane's claims end; UINT64_MAX while it lives */
    uint64_t idle_since_ns; /* 0: was not idle at the last look */
    /* between clerk and writer: each store releases what was stored before it, each load acquires */
    lrd_u32 command;
    lrd_u32 drained;
    const struct lrd_ring *new_ring;
    int new_doorbell, new_bell;
};

/* A record on its way through the stages. */
struct pending {
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
struct large {
    uint32_t lane; /* NO_LANE: none */
    unsigned begun; /* how often: what it is made of may change between two steps */
    struct pending p;
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
    struct lrd_credits credits;
    struct lrd_decider decider;
    uint64_t reset_due_ns[LRD_NAMESPACES]; /* of those that the clock resets; UINT64_MAX: never */
    uint64_t next_reset_ns;
    uint32_t client_namespaces;
    struct lane_ref *lanes;
    const struct lrd_ring **rings; /* of all known lanes, in no order */
    uint32_t n_rings;
    uint32_t *active;
    uint32_t n_active;
    uint32_t n_lanes;
    int epoll;
    int bell;       /* the clerk's: a command waits */
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
    struct large large;
    struct pending batch[BATCH];
    unsigned char keys[BATCH][LRD_KEY_MAX]; /* of deletes and conditional writes, which have no item (yet) to hold a copy */
};

static uint64_t counter_add(struct lrd_writer *w, enum lrd_counter_id id, uint64_t n)
{
    lrd_add_own(&w->s->counters[id], n);
    return n;
}

/* ---- stage 1: headers ---- */

static bool is_conditional(const struct pending *p) { return p->record.kind >= LRD_RECORD_PUT; }

static bool carries_value(const struct pending *p) { return p->record.kind == LRD_RECORD_SET || p->record.kind == LRD_RECORD_PUT; }

/* What kind of record may have which payload, and make which kind of item. */
static bool is_kind(const struct pending *p)
{
    const struct lrd_record *r = &p->record;
    switch (r->kind) {
    case LRD_RECORD_SET:
    case LRD_RECORD_APPEND:
    case LRD_RECORD_PREPEND:
        return r->item_kind == LRD_ITEM_PLAIN;
    case LRD_RECORD_PUT:
        if (r->item_kind == LRD_ITEM_ABSENT)
            return r->value_len == 0;
        return (r->item_kind & ~(LRD_ITEM_SOFT | LRD_ITEM_ALIGNED)) == 0 && ((r->item_kind & LRD_ITEM_SOFT) != 0) == (p->args.soft_ms != 0) && p->args.soft_ms <= LRD_EXPIRES_MAX;
    case LRD_RECORD_DELETE:
    case LRD_RECORD_INCR:
    case LRD_RECORD_TOUCH:
    case LRD_RECORD_DELETE_IF:
    case LRD_RECORD_LEASE_END:
        return r->item_kind == LRD_ITEM_PLAIN && r->value_len == 0;
    case LRD_RECORD_LEASE:
        return r->item_kind == LRD_ITEM_PLAIN && r->value_len == 0 && r->expires_ms != 0;
    default:
        return false;
    }
}

/* What a client may ask for. Anything else is refused, whole. */
static bool is_acceptable(const struct lrd_writer *w, const struct pending *p)
{
    const struct lrd_record *r = &p->record;
    uint64_t before = sizeof *r + (is_conditional(p) ? sizeof p->args : 0), room = (uint64_t)p->cells * LRD_CELL;
    if (r->key_len == 0 || r->key_len > LRD_KEY_MAX || r->value_len > LRD_VALUE_MAX || before + r->key_len + r->value_len > room)
        return false;
    if (!is_kind(p) || r->result > LRD_RESULTS)
        return false;
    if (lrd_item_bytes_as(r->item_kind, r->key_len, r->value_len, w->s->r.granule_shift) > w->s->r.geometry.item_max || r->expires_ms > LRD_EXPIRES_MAX)
        return false;
    if (r->ns >= LRD_NAMESPACES || lrd_load32_relaxed(&w->s->namespaces[r->ns].state) != LRD_NS_LIVE)
        return false;
    /* Written before a reset that was completed: it is discarded, as everything that was there. Relaxed: this thread stores the epoch. */
    return r->epoch == lrd_load32_relaxed(&w->s->namespaces[r->ns].epoch);
}

/* Whether a set may be copied into its namespace: what has no credit must not fill blocks there. Records before it in its batch may use up the credit that is seen here: step_credit() decides. */
static bool is_paid(const struct lrd_writer *w, const struct lane_ref *lane, const struct pending *p)
{
    return !carries_value(p) || lrd_credits_cover(&w->credits, (uint32_t)(lane - w->lanes), p->record.ns, p->bytes);
}

/* Copies the header of the record at a position: the only time it is read from the lane. */
static void take_header(struct lrd_writer *w, const struct lane_ref *lane, struct pending *p, uint64_t position, uint32_t cells)
{
    const unsigned char *at = lrd_ring_at(&lane->ring, position);
    lrd_racy_copy(&p->record, at, sizeof p->record);
    p->payload = at + sizeof p->record;
    p->position = position;
    p->cells = cells;
    p->bytes = lrd_item_bytes_as(p->record.item_kind, p->record.key_len, p->record.value_len, w->s->r.granule_shift);
    p->emptied = LRD_NO_BLOCK;
    if (is_conditional(p) && p->record.kind != LRD_RECORD_NOTHING) {
        lrd_racy_copy(&p->args, p->payload, sizeof p->args); /* a ring is mapped twice in a row: this much is always there */
        p->payload += sizeof p->args;
    }
    p->refused = p->record.kind != LRD_RECORD_NOTHING && (!is_acceptable(w, p) || !is_paid(w, lane, p));
    if (p->refused || p->record.kind == LRD_RECORD_NOTHING)
        return;
    lrd_table_prefetch(&w->s->r, p->record.hash_hint); /* a hint: any value names some bucket */
    lrd_evict_prefetch(w->evict, p->record.hash_hint);
}

/* Asks for something else than a change of an item: it is looked at alone, and whatever its namespace's epoch is by now. */
static bool is_request(const struct pending *p) { return p->record.kind > LRD_RECORD_DELETE && p->record.kind < LRD_RECORD_PUT; }

static bool is_large(const struct pending *p) { return !p->refused && carries_value(p) && p->bytes > COPY_STEP_BYTES; }

/* Names the record to whoever looks after a fault. */
static void note_record(struct lrd_writer *w, uint32_t lane, uint64_t position)
{
    lrd_store_relaxed(&w->s->journal->at_position, position);
    lrd_store_relaxed(&w->s->journal->at_lane, (uint64_t)lane + 1);
}

/* What is done next is done for no record. */
static void note_nothing(struct lrd_writer *w) { lrd_store_relaxed(&w->s->journal->at_lane, 0); }

/* ---- stage 2: payloads ---- */

/* There is no block for a record: it waits. Either room has to be made, or free blocks wait for the sweep. */
static void note_stall(struct lrd_writer *w, uint32_t ns)
{
    lrd_u64 *owed = &w->s->journal->sweep_owed;
    uint64_t two_passes = (uint64_t)w->s->r.n_pairs * 4; /* to the end of this one and through the next */
    if (w->arena.blind)
        return; /* for a moment: nothing is wrong with the blocks */
    counter_add(w, LRD_C_stalls, 1);
    if (lrd_arena_room_for(&w->arena, ns) < LRD_SPARE_BLOCKS)
        lrd_evict_stalled(w->evict, ns);
    else if (lrd_load_relaxed(owed) == 0)
        lrd_store_relaxed(owed, two_passes);
}

/* False: it has to wait. */
static bool reserve_item(struct lrd_writer *w, struct pending *p)
{
    const struct lrd_record *r = &p->record;
    const struct lrd_item_head head = {lrd_item_word0(r->value_len, r->expires_ms), lrd_item_word1(r->flags, r->ns, r->key_len, LRD_ITEM_PLAIN)};
    p->location = lrd_decide_room(&w->decider, head, r->hash_hint, p->old, w->now_ms);
    if (p->location == 0) {
        note_stall(w, r->ns);
        return false;
    }
    p->key = w->s->arena + ((uint64_t)p->location << w->s->r.granule_shift) + sizeof(struct lrd_item);
    return true;
}

static void hash_copy(struct lrd_writer *w, struct pending *p)
{
    p->hash = lrd_hash(w->s->r.hash_seed, p->record.ns, p->key, p->record.key_len);
    if (p->hash != p->record.hash_hint)
        lrd_table_prefetch(&w->s->r, p->hash);
}

/* False: there is no block for it yet. */
static bool copy_payload(struct lrd_writer *w, struct pending *p, unsigned char *key_space)
{
    const struct lrd_record *r = &p->record;
    if (r->kind == LRD_RECORD_SET) {
        if (!reserve_item(w, p))
            return false;
        lrd_racy_fill(w->s->arena + ((uint64_t)p->location << w->s->r.granule_shift) + sizeof(struct lrd_item), p->payload, (size_t)r->key_len + r->value_len);
    } else {
        lrd_racy_copy(key_space, p->payload, r->key_len);
        p->key = key_space;
    }
    hash_copy(w, p);
    return true;
}

/* ---- stage 4: one record ---- */

/* The credit that a set took at the call is used up by it, whether it is applied or discarded. Without it the set is refused. */
static void step_credit(struct lrd_writer *w, const struct lane_ref *lane, struct pending *p)
{
    const struct lrd_record *r = &p->record;
    if (carries_value(p) && r->ns < LRD_NAMESPACES && !lrd_credits_use(&w->credits, (uint32_t)(lane - w->lanes), r->ns, p->bytes))
        p->refused = true;
}

static uint32_t step_record(struct lrd_writer *w, const struct pending *p)
{
    const struct lrd_record *r = &p->record;
    uint32_t emptied = LRD_NO_BLOCK;
    if (r->kind == LRD_RECORD_DELETE) {
        if (!lrd_table_delete(&w->table, r->ns, p->key, r->key_len, p->hash, w->now_ms, &emptied))
            lrd_journal_add(&w->journal, lrd_store_counter(w->s, r->ns, LRD_C_delete_misses), 1);
        return emptied;
    }
    const struct lrd_new_item item = {
        .key = p->key, .key_len = r->key_len, .ns = r->ns, .hash = p->hash, .location = p->location, .bytes = p->bytes};
    return lrd_table_put(&w->table, &item, w->now_ms);
}

static void step_applied(struct lrd_writer *w, const struct lane_ref *lane, const struct pending *p)
{
    lrd_journal_add(&w->journal, &w->s->journal->applied_total, 1);
    lrd_journal_close(&w->journal); /* who sees the position sees the entries in the feed */
    /* Pairs with the acquires in lrd_ring_claim() and lrd_wait_applied(): the cells may be reused, the item is visible. */
    lrd_journal_step(&w->journal, &lane->words->applied, p->position + p->cells);
}

/* Who waits for a record that was not applied finds it in the record's commit word. Stored before the applied position, which publishes it. */
static void tell_discarded(const struct lane_ref *lane, const struct pending *p)
{
    lrd_store_relaxed(&lane->ring.commit[lrd_ring_idx(&lane->ring, p->position)], lrd_commit_make(lrd_ring_lap(&lane->ring, p->position), p->cells, LRD_COMMIT_DISCARDED));
}

/* Of a conditional write, for who waits for it. Relaxed: stored before the applied position, which publishes it; pairs with lrd_wait_applied(). The lane is the client's, and so is what it
 * does with a place for results. */
static void tell_result(const struct lane_ref *lane, const struct pending *p, enum lrd_answer answer, uint64_t version, uint64_t number)
{
    uint32_t at = p->record.result;
    if (!is_conditional(p) || at == 0 || at > LRD_RESULTS)
        return;
    struct lrd_result *r = &lane->ring.lane->result[at - 1];
    lrd_store_relaxed(&r->position, p->position);
    lrd_store_relaxed(&r->answer, answer);
    lrd_store_relaxed(&r->version, version);
    lrd_store_relaxed(&r->number, number);
}

static uint64_t holder_of(const struct lrd_writer *w, const struct lane_ref *lane)
{
    return (uint64_t)(lane - w->lanes) << 32 | lrd_load32_relaxed(&lane->words->incarnation);
}

static struct lrd_ask ask_of(const struct lrd_writer *w, const struct lane_ref *lane, const struct pending *p)
{
    return (struct lrd_ask){
        .record = &p->record,
        .args = is_conditional(p) ? &p->args : NULL,
        .key = p->key,
        .payload = p->payload + p->record.key_len,
        .hash = p->hash,
        .holder = holder_of(w, lane),
    };
}

static void step_discarded(struct lrd_writer *w, const struct lane_ref *lane, const struct pending *p)
{
    lrd_journal_add(&w->journal, &w->s->counters[LRD_C_discarded], 1);
    lrd_journal_add(&w->journal, &lane->words->discarded, 1);
    tell_discarded(lane, p);
    tell_result(lane, p, LRD_ANSWER_DISCARDED, 0, 0);
}

/* Its whole effect, and that it was applied, is one intent: it happens once, whoever completes it. */
static void apply(struct lrd_writer *w, const struct lane_ref *lane, struct pending *p)
{
    lrd_journal_begin(&w->journal);
    step_credit(w, lane, p);
    if (p->refused)
        step_discarded(w, lane, p);
    else if (p->record.kind != LRD_RECORD_NOTHING)
        p->emptied = step_record(w, p);
    step_applied(w, lane, p);
    lrd_journal_commit(&w->journal);
    if (!p->refused && p->record.kind != LRD_RECORD_NOTHING)
        lrd_watches_changed(w->watches, p->record.ns, p->hash);
}

/* The same for what was planned. The result is in the lane before the intent is valid: a worker that dies in between leaves a record that is decided anew. */
static void apply_plan(struct lrd_writer *w, const struct lane_ref *lane, struct pending *p, struct lrd_decision *plan)
{
    const struct lrd_ask ask = ask_of(w, lane, p);
    lrd_journal_begin(&w->journal);
    step_credit(w, lane, p);
    if (p->refused)
        step_discarded(w, lane, p);
    else {
        p->emptied = lrd_decide_step(&w->decider, &ask, plan, w->now_ms);
        tell_result(lane, p, plan->answer, plan->version, plan->number);
    }
    LRD_TESTPOINT("writer_result");
    step_applied(w, lane, p);
    lrd_journal_commit(&w->journal);
    if (!p->refused && plan->change != LRD_CHANGE_NONE)
        lrd_watches_changed(w->watches, p->record.ns, p->hash);
}

/* ---- a batch ---- */

static uint32_t lane_idx(const struct lrd_writer *w, const struct lane_ref *lane) { return (uint32_t)(lane - w->lanes); }

enum alone { ALONE_NONE, ALONE_LARGE, ALONE_REQUEST };

static enum alone is_alone(const struct pending *p) { return is_request(p) ? ALONE_REQUEST : is_large(p) ? ALONE_LARGE : ALONE_NONE; }

/* Records from the head of the ring: at most BATCH, at most COPY_STEP_BYTES of payload, all conditional or none, none of them large or a request. If the first one is, it is left in the batch's first
 * place, *alone says so, and the result is 0. */
static unsigned collect(struct lrd_writer *w, struct lane_ref *lane, enum alone *alone)
{
    uint64_t position = lrd_load_relaxed(&lane->words->applied); /* relaxed: this thread stores it */
    uint32_t bytes = 0, cells;
    unsigned n = 0;
    *alone = ALONE_NONE;
    while (n < BATCH && position < lane->end && (cells = lrd_ring_next(&lane->ring, position)) != 0) {
        struct pending *p = &w->batch[n];
        take_header(w, lane, p, position, cells);
        if (is_conditional(p) != is_conditional(&w->batch[0]))
            break;
        if (n == 0)
            *alone = is_alone(p);
        if (is_alone(p) != ALONE_NONE || (n > 0 && bytes + (p->refused ? 0 : p->bytes) > COPY_STEP_BYTES + LRD_KEY_MAX))
            break;
        bytes += p->refused ? 0 : p->bytes;
        position += cells;
        n++;
    }
    return n;
}

/* A full batch means that more is waiting behind it, in the producer's cache: fetches what lies `ahead` cells behind a record, which the next batch will look at. Half
 * of the writer's time went into waiting for these lines one by one. */
static void prefetch_ring(const struct lane_ref *lane, const struct pending *p, uint64_t ahead)
{
    __builtin_prefetch(&lane->ring.commit[lrd_ring_idx(&lane->ring, p->position + ahead)]);
    for (uint32_t i = 0; i < p->cells && i < PREFETCH_CELLS; i++)
        __builtin_prefetch(lrd_ring_at(&lane->ring, p->position + ahead + i));
}

/* Copies what there is a block for; how many that were. */
static unsigned copy_batch(struct lrd_writer *w, const struct lane_ref *lane, unsigned n)
{
    uint64_t ahead = w->batch[n - 1].position + w->batch[n - 1].cells - w->batch[0].position;
    /* Before the ring's lines are asked for: those come from another core, and would keep the buckets waiting (5.7 instead of 4.5 M sets/s). */
    for (unsigned i = 0; i < n; i++)
        if (!w->batch[i].refused)
            w->batch[i].old = lrd_table_hint(&w->table, w->batch[i].record.hash_hint);
    for (unsigned i = 0; i < n; i++) {
        if (n == BATCH)
            prefetch_ring(lane, &w->batch[i], ahead);
        note_record(w, lane_idx(w, lane), w->batch[i].position);
        if (!w->batch[i].refused && !copy_payload(w, &w->batch[i], w->keys[i]))
            return i;
    }
    return n;
}

/* After n records of a batch were applied. */
static void end_batch(struct lrd_writer *w, unsigned n)
{
    /* Only now: before, an empty block may have held what was copied and had no slot. */
    for (unsigned i = 0; i < n; i++)
        if (w->batch[i].emptied != LRD_NO_BLOCK)
            lrd_arena_free_if_empty(&w->arena, w->batch[i].emptied, w->now_ms);
    note_nothing(w);
    counter_add(w, LRD_C_batches, n > 0);
    for (unsigned i = 0; i < EVICT_STEPS && lrd_evict_owes(w->evict); i++)
        if (!lrd_evict_step(w->evict, w->now_ms))
            break;
}

static void prefetch_items(const struct lrd_writer *w, unsigned n)
{
    if (n > 1)
        for (unsigned i = 0; i < n; i++)
            if (!w->batch[i].refused)
                lrd_table_prefetch_item(&w->s->r, w->batch[i].hash, lrd_table_home(&w->s->r, w->batch[i].hash), 1); /* its header and key */
}

/* True if some records were applied. */
static bool apply_batch(struct lrd_writer *w, struct lane_ref *lane, unsigned n)
{
    n = copy_batch(w, lane, n);
    LRD_TESTPOINT("writer_copied");
    prefetch_items(w, n);
    for (unsigned i = 0; i < n; i++) {
        note_record(w, lane_idx(w, lane), w->batch[i].position);
        apply(w, lane, &w->batch[i]);
        LRD_TESTPOINT("writer_applied");
    }
    end_batch(w, n);
    return n > 0;
}

/* ---- a large record, in steps ---- */

static void large_end(struct lrd_writer *w)
{
    w->arena.held[LRD_HOLD_RECORD] = LRD_NO_BLOCK;
    w->large.lane = NO_LANE;
    note_nothing(w);
}

/* Plans, and gets room. Nothing to copy: it is applied, and that was it. False: it has to wait. */
static bool large_plan(struct lrd_writer *w, struct lane_ref *lane)
{
    struct large *l = &w->large;
    const struct lrd_ask ask = ask_of(w, lane, &l->p);
    l->begun++;
    lrd_decide_plan(&w->decider, &ask, &l->plan, w->now_ms);
    if (l->plan.change != LRD_CHANGE_PUT) {
        apply_plan(w, lane, &l->p, &l->plan);
        large_end(w);
        return true;
    }
    l->plan.location = lrd_decide_room(&w->decider, l->plan.head, l->p.hash, l->plan.old, w->now_ms);
    if (l->plan.location == 0) {
        note_stall(w, l->p.record.ns);
        large_end(w);
        return false;
    }
    w->arena.held[LRD_HOLD_RECORD] = l->plan.location >> w->s->r.location_shift; /* not freed before its slot is stored; other records may fill it up meanwhile */
    return true;
}

/* True if that was it. */
static bool large_begin(struct lrd_writer *w, struct lane_ref *lane, const struct pending *p)
{
    struct large *l = &w->large;
    l->p = *p;
    l->begun = 0;
    note_record(w, lane_idx(w, lane), p->position);
    lrd_racy_copy(l->key, p->payload, p->record.key_len);
    l->p.key = l->key;
    hash_copy(w, &l->p);
    l->lane = lane_idx(w, lane);
    bool applied = large_plan(w, lane) && l->lane == NO_LANE;
    note_nothing(w);
    return applied;
}

#define LARGE_TURNS 4u

/* True if the record was applied. */
static bool large_step(struct lrd_writer *w, struct lane_ref *lane)
{
    struct large *l = &w->large;
    const struct lrd_ask ask = ask_of(w, lane, &l->p);
    note_record(w, l->lane, l->p.position);
    l->p.refused = !is_acceptable(w, &l->p); /* its namespace may have been reset between two steps */
    bool applied = l->p.refused;
    if (!l->p.refused && !lrd_decide_still(&w->decider, &ask, &l->plan, w->now_ms)) {
        /* What it is made of was overwritten, or moved. Its copy is dead space. An item that somebody overwrites all the time is copied in one go in the end: 1 MiB, 60 us. */
        w->arena.held[LRD_HOLD_RECORD] = LRD_NO_BLOCK;
        if (!large_plan(w, lane))
            return false;
        if (l->lane == NO_LANE)
            return true;
    }
    if (!l->p.refused && l->plan.change == LRD_CHANGE_PUT)
        applied = lrd_decide_copy(&w->decider, &ask, &l->plan, l->begun < LARGE_TURNS ? COPY_STEP_BYTES : UINT32_MAX);
    else
        applied = true; /* refused, or its condition does not hold any more */
    LRD_TESTPOINT("writer_large_step");
    if (applied) {
        apply_plan(w, lane, &l->p, &l->plan);
        large_end(w);
        if (l->p.emptied != LRD_NO_BLOCK)
            lrd_arena_free_if_empty(&w->arena, l->p.emptied, w->now_ms);
    }
    note_nothing(w);
    return applied;
}

/* ---- conditional writes ---- */

/* False: it has to wait, or is copied in steps from now on. Adds to *copied. */
static bool decide(struct lrd_writer *w, struct lane_ref *lane, struct pending *p, uint32_t *copied)
{
    struct lrd_decision plan;
    const struct lrd_ask ask = ask_of(w, lane, p);
    if (p->refused || p->record.kind == LRD_RECORD_NOTHING) {
        apply(w, lane, p);
        return true;
    }
    lrd_decide_plan(&w->decider, &ask, &plan, w->now_ms);
    if (plan.change == LRD_CHANGE_PUT) {
        if (plan.bytes > COPY_STEP_BYTES) {
            if (w->large.lane == NO_LANE) {
                large_begin(w, lane, p);
            }
            return false;
        }
        plan.location = lrd_decide_room(&w->decider, plan.head, p->hash, plan.old, w->now_ms);
        if (plan.location == 0) {
            note_stall(w, p->record.ns);
            return false;
        }
        lrd_decide_copy(&w->decider, &ask, &plan, UINT32_MAX);
        *copied += plan.bytes;
    }
    apply_plan(w, lane, p, &plan);
    return true;
}

/* True if some records were applied. What they copy is known only here: a touch of few bytes copies the whole item. So it ends when enough was copied, and the others' turn comes at the next look. */
static bool decide_batch(struct lrd_writer *w, struct lane_ref *lane, unsigned n)
{
    unsigned done = 0;
    uint32_t copied = 0;
    for (unsigned i = 0; i < n; i++) {
        struct pending *p = &w->batch[i];
        if (p->refused || p->record.kind == LRD_RECORD_NOTHING)
            continue;
        lrd_racy_copy(w->keys[i], p->payload, p->record.key_len);
        p->key = w->keys[i];
        hash_copy(w, p);
    }
    prefetch_items(w, n);
    for (; done < n && copied < COPY_STEP_BYTES; done++) {
        note_record(w, lane_idx(w, lane), w->batch[done].position);
        if (!decide(w, lane, &w->batch[done], &copied))
            break;
        LRD_TESTPOINT("writer_applied");
    }
    end_batch(w, done);
    return done > 0;
}

/* ---- resets ---- */

/* Epoch and state of a namespace as the one word they are: intents store whole words. */
static lrd_u64 *epoch_and_state(struct lrd_writer *w, uint32_t ns)
{
    _Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && offsetof(struct lrd_namespace, epoch) == 0 && offsetof(struct lrd_namespace, state) == 4, "state:32 | epoch:32");
    return (lrd_u64 *)(void *)&w->s->namespaces[ns].epoch;
}

static void step_reset(struct lrd_writer *w, uint32_t ns)
{
    struct lrd_namespace *n = &w->s->namespaces[ns];
    /* From this store on readers miss all that was there, and records of before are discarded. Pairs with the acquires in lrd_table_get_at() and write_to(). */
    lrd_journal_step(&w->journal, epoch_and_state(w, ns), (uint64_t)LRD_NS_LIVE << 32 | (lrd_load32_relaxed(&n->epoch) + 1));
    lrd_journal_add(&w->journal, &n->resets, 1);
    lrd_journal_step(&w->journal, &n->reset_ms, w->now_ms);
    if (lrd_feed_has(w->s, ns))
        lrd_feed_note(w->s, &w->journal, &(struct lrd_note){.ns = ns, .event = LRD_EVENT_RESET, .cause = LRD_CAUSE_RESET, .now_ms = w->now_ms});
}

/* After the intent: the blocks go in bounded steps, and after a crash the next worker sees that they are of an older epoch. */
static void reset_done(struct lrd_writer *w, uint32_t ns, uint64_t began_ns)
{
    lrd_u64 *longest = &w->s->namespaces[ns].reset_ns;
    lrd_evict_reset(w->evict, ns);
    lrd_watches_reset(w->watches, ns);
    uint64_t took_ns = lrd_clock_ns() - began_ns;
    if (took_ns > lrd_load_relaxed(longest))
        lrd_store_relaxed(longest, took_ns);
}

static uint64_t period_ns(const struct lrd_writer *w, uint32_t ns) { return lrd_load_relaxed(&w->s->namespaces[ns].reset_every_ms) * UINT64_C(1000000); }

/* When the clock resets next: at whole periods since the segment was made, so that a restart does not shift it. */
static void plan_resets(struct lrd_writer *w)
{
    uint64_t created_ns = w->s->r.geometry.created_ns;
    w->next_reset_ns = UINT64_MAX;
    for (uint32_t ns = 0; ns < LRD_NAMESPACES; ns++) {
        bool timed = lrd_load32_relaxed(&w->s->namespaces[ns].state) == LRD_NS_LIVE && period_ns(w, ns) > 0;
        w->reset_due_ns[ns] = timed ? created_ns + ((w->now_ns - created_ns) / period_ns(w, ns) + 1) * period_ns(w, ns) : UINT64_MAX;
        if (w->reset_due_ns[ns] < w->next_reset_ns)
            w->next_reset_ns = w->reset_due_ns[ns];
    }
}

static void reset_by_clock(struct lrd_writer *w)
{
    for (uint32_t ns = 0; ns < LRD_NAMESPACES; ns++) {
        if (w->reset_due_ns[ns] > w->now_ns)
            continue;
        uint64_t began_ns = lrd_clock_ns();
        lrd_journal_begin(&w->journal);
        step_reset(w, ns);
        lrd_journal_commit(&w->journal);
        reset_done(w, ns, began_ns);
    }
    plan_resets(w);
}

/* ---- requests ---- */

static bool has_right(const struct lane_ref *lane, uint64_t right) { return (lrd_load_relaxed(&lane->words->rights) & right) != 0; }

/* Copies a request's payload, which must have exactly that size. */
static bool take_payload(const struct pending *p, void *to, size_t bytes)
{
    if (p->record.key_len != 0 || p->record.value_len != bytes || (uint64_t)p->cells * LRD_CELL < sizeof p->record + bytes)
        return false;
    lrd_racy_copy(to, p->payload, bytes);
    return true;
}

static enum lrd_answer create_namespace(struct lrd_writer *w, const struct lane_ref *lane, const struct pending *p)
{
    struct lrd_ns_spec spec;
    uint32_t ns;
    char why[200];
    if (!take_payload(p, &spec, sizeof spec))
        return LRD_ANSWER_MALFORMED;
    enum lrd_answer answer = has_right(lane, LRD_RIGHT_ADMIN) ? lrd_ns_add(w->s, &spec, &ns, why, sizeof why)
                                                              : lrd_ns_add_for_client(w->s, &spec, w->client_namespaces, &ns, why, sizeof why);
    plan_resets(w);
    return answer;
}

static enum lrd_answer reset_namespace(struct lrd_writer *w, const struct lane_ref *lane, const struct pending *p)
{
    uint32_t ns = p->record.ns;
    if (ns >= LRD_NAMESPACES || lrd_load32_relaxed(&w->s->namespaces[ns].state) != LRD_NS_LIVE)
        return LRD_ANSWER_NO_NS;
    bool own = has_right(lane, LRD_RIGHT_CREATE) && lrd_load_relaxed(&w->s->namespaces[ns].by_client) != 0;
    if (!has_right(lane, LRD_RIGHT_ADMIN) && !own)
        return LRD_ANSWER_DENIED;
    step_reset(w, ns);
    return LRD_ANSWER_OK;
}

static enum lrd_answer grant_credit(struct lrd_writer *w, const struct lane_ref *lane, const struct pending *p)
{
    struct lrd_credit_ask ask;
    if (!take_payload(p, &ask, sizeof ask))
        return LRD_ANSWER_MALFORMED;
    return lrd_credits_grant(&w->credits, lane_idx(w, lane), p->record.ns, &ask);
}

/* Nobody waits for an answer, and other threads of the client may be waiting for theirs. If we die, the note goes with us and the client looks again after its nap. */
static void take_watch(struct lrd_writer *w, const struct lane_ref *lane, const struct pending *p)
{
    if (p->record.ns < LRD_NAMESPACES)
        lrd_watches_note(w->watches, lane_idx(w, lane), p->record.ns, p->record.hash_hint, p->record.flags);
    lrd_journal_begin(&w->journal);
    step_applied(w, lane, p);
    lrd_journal_commit(&w->journal);
}

/* From here on its pins are looked at. What is left of a dead client's ring may ask as well: it has no views any more. */
static enum lrd_answer begin_views(struct lrd_writer *w, const struct lane_ref *lane)
{
    if (!lane->dying)
        lrd_pins_add(&w->arena.pins, lane->ring.lane);
    return LRD_ANSWER_OK;
}

static enum lrd_answer do_request(struct lrd_writer *w, const struct lane_ref *lane, const struct pending *p)
{
    switch (p->record.kind) {
    case LRD_RECORD_NS_CREATE:
        return create_namespace(w, lane, p);
    case LRD_RECORD_NS_RESET:
        return reset_namespace(w, lane, p);
    case LRD_RECORD_CREDIT:
        return grant_credit(w, lane, p);
    case LRD_RECORD_VIEWS:
        return begin_views(w, lane);
    case LRD_RECORD_MEASURE:
        lrd_doorbell_write(w->measure_fd);
        return LRD_ANSWER_OK;
    default:
        return LRD_ANSWER_MALFORMED;
    }
}

/* The answer lies in the lane before the position that says so. If we die between the two, the next worker executes the request again: whatever it changes is in the same intent as the position,
 * but for the making of a namespace, which is then found made. */
static void apply_request(struct lrd_writer *w, struct lane_ref *lane)
{
    struct pending *p = &w->batch[0];
    struct lrd_lane *shared = lane->ring.lane;
    uint64_t began_ns = lrd_clock_ns();
    note_record(w, lane_idx(w, lane), p->position);
    if (p->record.kind == LRD_RECORD_WATCH) {
        take_watch(w, lane, p);
        note_nothing(w);
        return;
    }
    lrd_journal_begin(&w->journal);
    enum lrd_answer answer = do_request(w, lane, p);
    lrd_store_relaxed(&shared->answer, answer);
    lrd_store_relaxed(&shared->answer_position, p->position);
    step_applied(w, lane, p);
    LRD_TESTPOINT("writer_request");
    lrd_journal_commit(&w->journal);
    if (p->record.kind == LRD_RECORD_NS_RESET && answer == LRD_ANSWER_OK)
        reset_done(w, p->record.ns, began_ns);
    note_nothing(w);
}

/* True if there was something to do. */
static bool look_at(struct lrd_writer *w, struct lane_ref *lane)
{
    if (w->large.lane == lane_idx(w, lane)) {
        if (large_step(w, lane))
            lrd_wake_waiters(lane->words, lane->ring.lane, lane->bell);
        return true;
    }
    enum alone alone;
    unsigned n = collect(w, lane, &alone);
    bool applied = n > 0 && (is_conditional(&w->batch[0]) ? decide_batch(w, lane, n) : apply_batch(w, lane, n));
    if (alone == ALONE_REQUEST) {
        apply_request(w, lane);
        applied = true;
    } else if (alone == ALONE_LARGE && w->large.lane == NO_LANE) /* else it waits for its turn: bounded, the other one is copied by us alone */
        applied |= large_begin(w, lane, &w->batch[0]);
    if (applied)
        lrd_wake_waiters(lane->words, lane->ring.lane, lane->bell);
    return n > 0 || alone != ALONE_NONE;
}

/* ---- lanes that end ---- */

static void activate(struct lrd_writer *w, struct lane_ref *lane)
{
    lrd_unpark(lane->words);
    lane->idle_since_ns = 0;
    if (lane->active)
        return;
    lane->active = true;
    w->active[w->n_active++] = lane_idx(w, lane);
}

static void deactivate(struct lrd_writer *w, uint32_t at)
{
    w->lanes[w->active[at]].active = false;
    w->active[at] = w->active[--w->n_active];
}

/* Goes on from a cell that a dead client claimed and never committed. */
static void skip_holes(struct lrd_writer *w, struct lane_ref *lane)
{
    uint64_t head = lrd_load_relaxed(&lane->words->applied), from = head;
    while (head < lane->end && head - from < SKIP_STEP && lrd_ring_next(&lane->ring, head) == 0)
        head++;
    /* One word, so no intent; a worker that dies before it steps over the same cells again. */
    lrd_store_release(&lane->words->applied, head);
    counter_add(w, LRD_C_skipped_cells, head - from);
}

static void forget(struct lrd_writer *w, struct lane_ref *lane)
{
    lrd_credits_return(&w->credits, lane_idx(w, lane)); /* a worker that dies here: the next one counts the lanes that are left */
    for (uint32_t i = 0; i < w->n_rings; i++)
        if (w->rings[i] == &lane->ring)
            w->rings[i] = w->rings[--w->n_rings];
    epoll_ctl(w->epoll, EPOLL_CTL_DEL, lane->doorbell, NULL);
    lane->known = lane->dying = false;
    lrd_watches_remove_lane(w->watches, lane_idx(w, lane));
    lrd_store32_release(&lane->words->state, LRD_LANE_FREE);
    LRD_TESTPOINT("writer_lane_free");
    lrd_store32_release(&lane->drained, 1); /* pairs with the acquire in lrd_writer_drained() */
    lrd_doorbell_write(w->drained_fd);
}

/* A dead client's lane with nothing committed at its head: true if it was forgotten. */
static bool go_on_dying(struct lrd_writer *w, struct lane_ref *lane)
{
    if (lrd_load_relaxed(&lane->words->applied) < lane->end) {
        skip_holes(w, lane);
        return false;
    }
    forget(w, lane);
    return true;
}

/* ---- what the clerk asks for ---- */

static void take_add(struct lrd_writer *w, struct lane_ref *lane)
{
    uint32_t idx = lane_idx(w, lane);
    lane->ring = *lane->new_ring;
    lane->doorbell = lane->new_doorbell;
    lane->bell = lane->new_bell;
    lane->words = &w->s->lanes[idx];
    lane->known = true;
    lane->dying = false;
    lane->end = UINT64_MAX;
    w->rings[w->n_rings++] = &lane->ring;
    lrd_watches_add_lane(w->watches, idx, lane->ring.lane, lane->bell);
    lrd_wake_waiters(lane->words, lane->ring.lane, lane->bell); /* a position that was armed may have been applied by the worker that died, or by what completed its intent */
    struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data.u32 = idx};
    epoll_ctl(w->epoll, EPOLL_CTL_ADD, lane->doorbell, &e); /* if it fails the timeout's look finds the records */
    /* It told a former worker. Relaxed: who is just telling has its record in the ring. */
    if (lrd_load_relaxed(&lane->ring.lane->views) != 0)
        lrd_pins_add(&w->arena.pins, lane->ring.lane);
    activate(w, lane);
}

static void take_drain(struct lrd_writer *w, struct lane_ref *lane)
{
    if (!lane->known) { /* nobody added it: nothing to apply */
        lrd_store32_release(&lane->drained, 1);
        lrd_doorbell_write(w->drained_fd);
        return;
    }
    lane->dying = true;
    lrd_pins_remove(&w->arena.pins, lane->ring.lane); /* its state is not LIVE: a client that is alive all the same sees that at the end of each view */
    lane->end = lrd_ring_end(&lane->ring, lrd_load_relaxed(&lane->words->applied)); /* once: a lying tail moves no more */
    activate(w, lane);
}

static bool take_commands(struct lrd_writer *w)
{
    /* Acquire: pairs with the release in give(). */
    uint32_t commands = lrd_load32_acquire(&w->commands);
    if (lrd_likely(commands == w->commands_seen))
        return false;
    w->commands_seen = commands;
    bool known = lrd_load32_acquire(&w->lanes_known) != 0; /* before the look: pairs with the release in lrd_writer_lanes_known(), behind the commands */
    for (uint32_t i = 0; i < w->n_lanes; i++) {
        enum command c = (enum command)lrd_exchange32(&w->lanes[i].command, COMMAND_NONE);
        if (c == COMMAND_ADD)
            take_add(w, &w->lanes[i]);
        else if (c == COMMAND_DRAIN)
            take_drain(w, &w->lanes[i]);
    }
    if (known)
        w->arena.blind = false;
    return true;
}

/* ---- waiting ---- */

static void look_at_clock(struct lrd_writer *w)
{
    w->now_ns = lrd_clock_ns();
    uint64_t now_ms = lrd_clock_segment_ms(w->s->r.geometry.created_ns);
    if (now_ms == w->now_ms)
        return;
    w->now_ms = now_ms;
    lrd_store_release(&w->s->header->heartbeat_ms, now_ms);
    lrd_evict_tick(w->evict, now_ms);
}

static long switches(void)
{
    struct rusage u;
    return getrusage(RUSAGE_THREAD, &u) == 0 ? u.ru_nivcsw : 0;
}

/* Files the time since the last look at the rings. A long one during which another thread was given our core is the scheduler's. */
static void note_interval(struct lrd_writer *w)
{
    uint64_t interval_ns = w->now_ns - w->looked_ns;
    bool first = w->looked_ns == 0;
    struct lrd_histogram *to = &w->s->pauses->own;
    w->looked_ns = w->now_ns;
    if (first)
        return;
    if (interval_ns > PAUSE_NS) {
        long n = switches();
        if (n != w->switches)
            to = &w->s->pauses->scheduler;
        w->switches = n;
    }
    lrd_histogram_record(to, interval_ns);
}

/* Doorbells that rang; the lanes are active from now on. A ring that comes while its lane is active is for nothing. */
static void poll_bells(struct lrd_writer *w, int timeout_ms)
{
    struct epoll_event e[64];
    int n = epoll_wait(w->epoll, e, 64, timeout_ms);
    for (int i = 0; i < n; i++)
        if (e[i].data.u32 != BELL_OF_CLERK && w->lanes[e[i].data.u32].known)
            activate(w, &w->lanes[e[i].data.u32]);
    w->polled_ns = w->now_ns;
}

/* Somebody may have drained a doorbell, or stolen its edge. By the clock, whether we sleep or not. */
static void look_at_parked(struct lrd_writer *w)
{
    if (w->now_ns - w->parked_looked_ns < (SLEEP_MS - 1) * UINT64_C(1000000))
        return;
    w->parked_looked_ns = w->now_ns;
    for (uint32_t i = 0; i < w->n_lanes; i++) {
        struct lane_ref *lane = &w->lanes[i];
        if (lane->known && !lane->active && lrd_ring_next(&lane->ring, lrd_load_relaxed(&lane->words->applied)) != 0)
            activate(w, lane);
    }
}

/* Parks a lane that was silent for as long as looking at it pays. True if it is not active any more. */
static bool park_if_silent(struct lrd_writer *w, uint32_t at)
{
    struct lane_ref *lane = &w->lanes[w->active[at]];
    if (lane->idle_since_ns == 0)
        lane->idle_since_ns = w->now_ns;
    if (w->now_ns - lane->idle_since_ns < w->spin_ns || !lrd_park(lane->words, &lane->ring, lrd_load_relaxed(&lane->words->applied)))
        return false;
    deactivate(w, at);
    return true;
}

/* Spinning is worth more when something came while we did, less when not. */
static void adapt_spin(struct lrd_writer *w, bool paid)
{
    w->spin_ns = paid ? w->spin_ns * 2 : w->spin_ns / 2;
    if (w->spin_ns > w->spin_max_ns)
        w->spin_ns = w->spin_max_ns;
    if (w->spin_ns < w->spin_max_ns / 8)
        w->spin_ns = w->spin_max_ns / 8;
}

/* Each time another lane comes first: if room is made between two looks, it is not always the same one that takes it. */
static bool look_at_lanes(struct lrd_writer *w)
{
    bool worked = false;
    uint32_t at = w->turn;
    for (uint32_t left = w->n_active; left > 0 && w->n_active > 0; left--) {
        at = at < w->n_active ? at : at % w->n_active;
        struct lane_ref *lane = &w->lanes[w->active[at]];
        if (look_at(w, lane)) {
            if (lane->idle_since_ns != 0)
                adapt_spin(w, true);
            lane->idle_since_ns = 0;
            worked = true;
            at++;
        } else if (lane->dying) {
            worked = true;
            if (go_on_dying(w, lane))
                deactivate(w, at);
            else
                at++;
        } else if (!park_if_silent(w, at))
            at++;
    }
    return worked;
}

/* While records come, sweep and harvest take turns, so that each look at the rings waits for one of them only. */
static bool maintain(struct lrd_writer *w, bool busy)
{
    bool worked = lrd_evict_step(w->evict, w->now_ms);
    worked |= lrd_watches_step(w->watches); /* behind it: it may have freed a block */
    w->turn++;
    if (!busy || w->turn % 2 == 0)
        worked |= lrd_table_sweep(&w->table, SWEEP_STEP);
    if (!busy || w->turn % 2 != 0)
        worked |= lrd_evict_harvest(w->evict, w->rings, w->n_rings, w->now_ns);
    return worked;
}

/* Milliseconds that it may sleep. */
static int sleep_ms(const struct lrd_writer *w)
{
    uint64_t left_ns = w->next_reset_ns > w->now_ns ? w->next_reset_ns - w->now_ns : 0;
    return left_ns < SLEEP_MS * UINT64_C(1000000) ? (int)((left_ns + 999999) / 1000000) : SLEEP_MS;
}

static void sleep_until_rung(struct lrd_writer *w)
{
    adapt_spin(w, false);
    counter_add(w, LRD_C_parks, 1);
    /* The clerk's bell rings after its command is there, and stays until this returns: nothing is missed. */
    poll_bells(w, sleep_ms(w));
    look_at_clock(w);
    w->looked_ns = 0;
}

void lrd_writer_run(struct lrd_writer *w)
{
    look_at_clock(w);
    plan_resets(w);
    w->switches = switches();
    while (lrd_load32_relaxed(&w->stop) == 0) {
        bool worked = take_commands(w);
        look_at_clock(w);
        note_interval(w);
        if (w->now_ns >= w->next_reset_ns)
            reset_by_clock(w);
        worked |= look_at_lanes(w);
        worked |= maintain(w, worked);
        look_at_parked(w);
        if (w->n_active == 0 && !worked)
            sleep_until_rung(w);
        else if (w->now_ns - w->polled_ns >= POLL_NS)
            poll_bells(w, 0);
        else if (!worked)
            lrd_pause();
    }
}

/* ---- making and ending it ---- */

static int watch(int epoll, int fd, uint32_t what)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data.u32 = what};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

static int open_descriptors(struct lrd_writer *w)
{
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    w->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    w->drained_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    w->measure_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->epoll < 0 || w->bell < 0 || w->drained_fd < 0 || w->measure_fd < 0)
        return -errno;
    return watch(w->epoll, w->bell, BELL_OF_CLERK);
}

int lrd_writer_create(struct lrd_writer **out, struct lrd_store *store, const struct lrd_writer_options *options)
{
    *out = NULL;
    struct lrd_writer *w = calloc(1, sizeof *w);
    if (w == NULL)
        return -ENOMEM;
    w->s = store;
    w->n_lanes = store->r.geometry.n_lanes;
    w->spin_ns = w->spin_max_ns = (uint64_t)options->spin_us * 1000u;
    w->large.lane = NO_LANE;
    w->client_namespaces = options->client_namespaces;
    w->epoll = w->bell = w->drained_fd = w->measure_fd = -1;
    w->lanes = calloc(w->n_lanes, sizeof *w->lanes);
    w->active = calloc(w->n_lanes, sizeof *w->active);
    w->rings = calloc(w->n_lanes, sizeof *w->rings);
    lrd_journal_init(&w->journal, store);
    w->table = (struct lrd_table){.s = store, .a = &w->arena, .j = &w->journal};
    int err = w->lanes == NULL || w->active == NULL || w->rings == NULL ? -ENOMEM : lrd_arena_init(&w->arena, store, &w->journal);
    if (err == 0)
        err = lrd_evict_create(&w->evict, store, &w->arena, &w->table, &w->journal);
    if (err == 0)
        err = lrd_watches_create(&w->watches, store);
    if (err == 0)
        err = open_descriptors(w);
    if (err < 0) {
        lrd_writer_destroy(w);
        return err;
    }
    w->arena.blind = true;
    lrd_credits_init(&w->credits, store, &w->arena, &w->journal);
    w->decider = (struct lrd_decider){.s = store, .a = &w->arena, .t = &w->table, .j = &w->journal, .e = w->evict, .c = &w->credits};
    lrd_store_relaxed(&store->header->private_bytes, sizeof *w + w->n_lanes * (sizeof *w->lanes + sizeof *w->active + sizeof *w->rings) + lrd_arena_private_bytes(&w->arena) +
                                                         lrd_evict_private_bytes(w->evict) + lrd_watches_private_bytes(w->watches));
    *out = w;
    return 0;
}

static void close_if(int fd)
{
    if (fd >= 0)
        close(fd);
}

void lrd_writer_destroy(struct lrd_writer *w)
{
    if (w == NULL)
        return;
    close_if(w->epoll);
    close_if(w->bell);
    close_if(w->drained_fd);
    close_if(w->measure_fd);
    lrd_evict_destroy(w->evict);
    lrd_watches_destroy(w->watches);
    lrd_arena_fini(&w->arena);
    free(w->lanes);
    free(w->active);
    free(w->rings);
    free(w);
}

/* ---- from other threads ---- */

/* The command is there before its count, the count before the bell. */
static void tell(struct lrd_writer *w)
{
    atomic_fetch_add_explicit(&w->commands.v, 1, memory_order_release);
    lrd_doorbell_write(w->bell);
}

static void give(struct lrd_writer *w, uint32_t lane, enum command c)
{
    lrd_store32_release(&w->lanes[lane].command, c); /* pairs with the exchange in take_commands() */
    tell(w);
}

void lrd_writer_stop(struct lrd_writer *w)
{
    lrd_store32_release(&w->stop, 1);
    lrd_doorbell_write(w->bell);
}

void lrd_writer_add(struct lrd_writer *w, uint32_t lane, const struct lrd_ring *ring, int doorbell, int bell)
{
    w->lanes[lane].new_ring = ring;
    w->lanes[lane].new_doorbell = doorbell;
    w->lanes[lane].new_bell = bell;
    give(w, lane, COMMAND_ADD);
}

void lrd_writer_lanes_known(struct lrd_writer *w)
{
    lrd_store32_release(&w->lanes_known, 1); /* pairs with the acquire in take_commands() */
    tell(w);
}

void lrd_writer_drain(struct lrd_writer *w, uint32_t lane)
{
    /* An add that was not taken yet must not be overwritten: the lane would never be drained. Bounded by one turn of the writer's loop. */
    while (lrd_load32_acquire(&w->lanes[lane].command) == COMMAND_ADD)
        lrd_pause();
    give(w, lane, COMMAND_DRAIN);
}

int lrd_writer_measure_fd(const struct lrd_writer *w) { return w->measure_fd; }

int lrd_writer_drained_fd(const struct lrd_writer *w) { return w->drained_fd; }

bool lrd_writer_drained(struct lrd_writer *w, uint32_t *lane)
{
    for (uint32_t i = 0; i < w->n_lanes; i++) {
        if (lrd_load32_acquire(&w->lanes[i].drained) != 0) { /* pairs with the release in forget() */
            lrd_store32_relaxed(&w->lanes[i].drained, 0);
            *lane = i;
            return true;
        }
    }
    return false;
}
