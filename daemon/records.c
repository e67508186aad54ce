/* From a ring into the segment.
 *
 * A batch goes in stages, so that the memory accesses of its records overlap: headers are copied and checked; payloads are copied into the arena and hashed there; the
 * items they may replace are fetched; then record by record an intent is written and made. Only that last stage changes what anybody sees. If the worker dies before it, what was
 * copied is dead space in the block and the record is applied by the next worker. If a record finds no block to be copied into, the batch ends before it: it stays in the ring, and
 * its turn comes when room has been made (evict.h), a bounded step at a time.
 *
 * Conditional writes (decide.h) stand in batches of their own, because what is to be copied is known only when the records before are applied: the stages are headers, keys, and then record by
 * record the decision, the copy and the intent. */
#include "daemon/writer_parts.h"

#include <string.h>

#include "shm/item.h"
#include "shm/racy.h"
#include "shm/testpoint.h"
#include "shm/wait.h"

#define COPY_STEP_BYTES (16u << 10) /* copied between two looks at the rings: 1 us at 16 GB/s */
#define PREFETCH_CELLS 8u /* of a record: the processor follows longer ones by itself */
#define EVICT_STEPS 3u /* behind a batch, at most */

/* ---- stage 1: headers ---- */

static bool is_conditional(const struct lrd_pending *p) { return p->record.kind >= LRD_RECORD_PUT; }

static bool carries_value(const struct lrd_pending *p) { return p->record.kind == LRD_RECORD_SET || p->record.kind == LRD_RECORD_PUT; }

/* What kind of record may have which payload, and make which kind of item. */
static bool is_kind(const struct lrd_pending *p)
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
static bool is_acceptable(const struct lrd_writer *w, const struct lrd_pending *p)
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
static bool is_paid(const struct lrd_writer *w, const struct lrd_lane_ref *lane, const struct lrd_pending *p)
{
    return !carries_value(p) || lrd_credits_cover(&w->credits, (uint32_t)(lane - w->lanes), p->record.ns, p->bytes);
}

/* Copies the header of the record at a position: the only time it is read from the lane. */
static void take_header(struct lrd_writer *w, const struct lrd_lane_ref *lane, struct lrd_pending *p, uint64_t position, uint32_t cells)
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
static bool is_request(const struct lrd_pending *p) { return p->record.kind > LRD_RECORD_DELETE && p->record.kind < LRD_RECORD_PUT; }

static bool is_large(const struct lrd_pending *p) { return !p->refused && carries_value(p) && p->bytes > COPY_STEP_BYTES; }

/* Names the record to whoever looks after a fault. */
void lrd_note_record(struct lrd_writer *w, uint32_t lane, uint64_t position)
{
    lrd_store_relaxed(&w->s->journal->at_position, position);
    lrd_store_relaxed(&w->s->journal->at_lane, (uint64_t)lane + 1);
}

/* What is done next is done for no record. */
void lrd_note_nothing(struct lrd_writer *w) { lrd_store_relaxed(&w->s->journal->at_lane, 0); }

/* ---- stage 2: payloads ---- */

/* There is no block for a record: it waits. Either room has to be made, or free blocks wait for the sweep. */
static void note_stall(struct lrd_writer *w, uint32_t ns)
{
    lrd_u64 *owed = &w->s->journal->sweep_owed;
    uint64_t two_passes = (uint64_t)w->s->r.n_pairs * 4; /* to the end of this one and through the next */
    if (w->arena.blind)
        return; /* for a moment: nothing is wrong with the blocks */
    lrd_add_own(&w->s->counters[LRD_C_stalls], 1);
    if (lrd_arena_room_for(&w->arena, ns) < LRD_SPARE_BLOCKS)
        lrd_evict_stalled(w->evict, ns);
    else if (lrd_load_relaxed(owed) == 0)
        lrd_store_relaxed(owed, two_passes);
}

/* False: it has to wait. */
static bool reserve_item(struct lrd_writer *w, struct lrd_pending *p)
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

static void hash_copy(struct lrd_writer *w, struct lrd_pending *p)
{
    p->hash = lrd_hash(w->s->r.hash_seed, p->record.ns, p->key, p->record.key_len);
    if (p->hash != p->record.hash_hint)
        lrd_table_prefetch(&w->s->r, p->hash);
}

/* False: there is no block for it yet. */
static bool copy_payload(struct lrd_writer *w, struct lrd_pending *p, unsigned char *key_space)
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
static void step_credit(struct lrd_writer *w, const struct lrd_lane_ref *lane, struct lrd_pending *p)
{
    const struct lrd_record *r = &p->record;
    if (carries_value(p) && r->ns < LRD_NAMESPACES && !lrd_credits_use(&w->credits, (uint32_t)(lane - w->lanes), r->ns, p->bytes))
        p->refused = true;
}

static uint32_t step_record(struct lrd_writer *w, const struct lrd_pending *p)
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

void lrd_step_applied(struct lrd_writer *w, const struct lrd_lane_ref *lane, const struct lrd_pending *p)
{
    lrd_journal_add(&w->journal, &w->s->journal->applied_total, 1);
    lrd_journal_close(&w->journal); /* who sees the position sees the entries in the feed */
    /* Pairs with the acquires in lrd_ring_claim() and lrd_wait_applied(): the cells may be reused, the item is visible. */
    lrd_journal_step(&w->journal, &lane->words->applied, p->position + p->cells);
}

/* Who waits for a record that was not applied finds it in the record's commit word. Stored before the applied position, which publishes it. */
static void tell_discarded(const struct lrd_lane_ref *lane, const struct lrd_pending *p)
{
    lrd_store_relaxed(&lane->ring.commit[lrd_ring_idx(&lane->ring, p->position)], lrd_commit_make(lrd_ring_lap(&lane->ring, p->position), p->cells, LRD_COMMIT_DISCARDED));
}

/* Of a conditional write, for who waits for it. Relaxed: stored before the applied position, which publishes it; pairs with lrd_wait_applied(). The lane is the client's, and so is what it
 * does with a place for results. */
static void tell_result(const struct lrd_lane_ref *lane, const struct lrd_pending *p, enum lrd_answer answer, uint64_t version, uint64_t number)
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

static uint64_t holder_of(const struct lrd_writer *w, const struct lrd_lane_ref *lane)
{
    return (uint64_t)(lane - w->lanes) << 32 | lrd_load32_relaxed(&lane->words->incarnation);
}

static struct lrd_ask ask_of(const struct lrd_writer *w, const struct lrd_lane_ref *lane, const struct lrd_pending *p)
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

static void step_discarded(struct lrd_writer *w, const struct lrd_lane_ref *lane, const struct lrd_pending *p)
{
    lrd_journal_add(&w->journal, &w->s->counters[LRD_C_discarded], 1);
    lrd_journal_add(&w->journal, &lane->words->discarded, 1);
    tell_discarded(lane, p);
    tell_result(lane, p, LRD_ANSWER_DISCARDED, 0, 0);
}

/* Its whole effect, and that it was applied, is one intent: it happens once, whoever completes it. */
static void apply(struct lrd_writer *w, const struct lrd_lane_ref *lane, struct lrd_pending *p)
{
    lrd_journal_begin(&w->journal);
    step_credit(w, lane, p);
    if (p->refused)
        step_discarded(w, lane, p);
    else if (p->record.kind != LRD_RECORD_NOTHING)
        p->emptied = step_record(w, p);
    lrd_step_applied(w, lane, p);
    lrd_journal_commit(&w->journal);
    if (!p->refused && p->record.kind != LRD_RECORD_NOTHING)
        lrd_watches_changed(w->watches, p->record.ns, p->hash);
}

/* The same for what was planned. The result is in the lane before the intent is valid: a worker that dies in between leaves a record that is decided anew. */
static void apply_plan(struct lrd_writer *w, const struct lrd_lane_ref *lane, struct lrd_pending *p, struct lrd_decision *plan)
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
    lrd_step_applied(w, lane, p);
    lrd_journal_commit(&w->journal);
    if (!p->refused && plan->change != LRD_CHANGE_NONE)
        lrd_watches_changed(w->watches, p->record.ns, p->hash);
}

/* ---- a batch ---- */

enum alone { ALONE_NONE, ALONE_LARGE, ALONE_REQUEST };

static enum alone is_alone(const struct lrd_pending *p) { return is_request(p) ? ALONE_REQUEST : is_large(p) ? ALONE_LARGE : ALONE_NONE; }

/* Records from the head of the ring: at most LRD_BATCH, at most COPY_STEP_BYTES of payload, all conditional or none, none of them large or a request. If the first one is, it is left in the batch's first
 * place, *alone says so, and the result is 0. */
static unsigned collect(struct lrd_writer *w, struct lrd_lane_ref *lane, enum alone *alone)
{
    uint64_t position = lrd_load_relaxed(&lane->words->applied); /* relaxed: this thread stores it */
    uint32_t bytes = 0, cells;
    unsigned n = 0;
    *alone = ALONE_NONE;
    while (n < LRD_BATCH && position < lane->end && (cells = lrd_ring_next(&lane->ring, position)) != 0) {
        struct lrd_pending *p = &w->batch[n];
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
static void prefetch_ring(const struct lrd_lane_ref *lane, const struct lrd_pending *p, uint64_t ahead)
{
    __builtin_prefetch(&lane->ring.commit[lrd_ring_idx(&lane->ring, p->position + ahead)]);
    for (uint32_t i = 0; i < p->cells && i < PREFETCH_CELLS; i++)
        __builtin_prefetch(lrd_ring_at(&lane->ring, p->position + ahead + i));
}

/* Copies what there is a block for; how many that were. */
static unsigned copy_batch(struct lrd_writer *w, const struct lrd_lane_ref *lane, unsigned n)
{
    uint64_t ahead = w->batch[n - 1].position + w->batch[n - 1].cells - w->batch[0].position;
    /* Before the ring's lines are asked for: those come from another core, and would keep the buckets waiting (5.7 instead of 4.5 M sets/s). */
    for (unsigned i = 0; i < n; i++)
        if (!w->batch[i].refused)
            w->batch[i].old = lrd_table_hint(&w->table, w->batch[i].record.hash_hint);
    for (unsigned i = 0; i < n; i++) {
        if (n == LRD_BATCH)
            prefetch_ring(lane, &w->batch[i], ahead);
        lrd_note_record(w, lrd_lane_idx(w, lane), w->batch[i].position);
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
    lrd_note_nothing(w);
    lrd_add_own(&w->s->counters[LRD_C_batches], n > 0);
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
static bool apply_batch(struct lrd_writer *w, struct lrd_lane_ref *lane, unsigned n)
{
    n = copy_batch(w, lane, n);
    LRD_TESTPOINT("writer_copied");
    prefetch_items(w, n);
    for (unsigned i = 0; i < n; i++) {
        lrd_note_record(w, lrd_lane_idx(w, lane), w->batch[i].position);
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
    w->large.lane = LRD_NO_LANE;
    lrd_note_nothing(w);
}

/* Plans, and gets room. Nothing to copy: it is applied, and that was it. False: it has to wait. */
static bool large_plan(struct lrd_writer *w, struct lrd_lane_ref *lane)
{
    struct lrd_large *l = &w->large;
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
static bool large_begin(struct lrd_writer *w, struct lrd_lane_ref *lane, const struct lrd_pending *p)
{
    struct lrd_large *l = &w->large;
    l->p = *p;
    l->begun = 0;
    lrd_note_record(w, lrd_lane_idx(w, lane), p->position);
    lrd_racy_copy(l->key, p->payload, p->record.key_len);
    l->p.key = l->key;
    hash_copy(w, &l->p);
    l->lane = lrd_lane_idx(w, lane);
    bool applied = large_plan(w, lane) && l->lane == LRD_NO_LANE;
    lrd_note_nothing(w);
    return applied;
}

#define LARGE_TURNS 4u

/* True if the record was applied. */
static bool large_step(struct lrd_writer *w, struct lrd_lane_ref *lane)
{
    struct lrd_large *l = &w->large;
    const struct lrd_ask ask = ask_of(w, lane, &l->p);
    lrd_note_record(w, l->lane, l->p.position);
    l->p.refused = !is_acceptable(w, &l->p); /* its namespace may have been reset between two steps */
    bool applied = l->p.refused;
    if (!l->p.refused && !lrd_decide_still(&w->decider, &ask, &l->plan, w->now_ms)) {
        /* What it is made of was overwritten, or moved. Its copy is dead space. An item that somebody overwrites all the time is copied in one go in the end: 1 MiB, 60 us. */
        w->arena.held[LRD_HOLD_RECORD] = LRD_NO_BLOCK;
        if (!large_plan(w, lane))
            return false;
        if (l->lane == LRD_NO_LANE)
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
    lrd_note_nothing(w);
    return applied;
}

/* ---- conditional writes ---- */

/* False: it has to wait, or is copied in steps from now on. Adds to *copied. */
static bool decide(struct lrd_writer *w, struct lrd_lane_ref *lane, struct lrd_pending *p, uint32_t *copied)
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
            if (w->large.lane == LRD_NO_LANE) {
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
static bool decide_batch(struct lrd_writer *w, struct lrd_lane_ref *lane, unsigned n)
{
    unsigned done = 0;
    uint32_t copied = 0;
    for (unsigned i = 0; i < n; i++) {
        struct lrd_pending *p = &w->batch[i];
        if (p->refused || p->record.kind == LRD_RECORD_NOTHING)
            continue;
        lrd_racy_copy(w->keys[i], p->payload, p->record.key_len);
        p->key = w->keys[i];
        hash_copy(w, p);
    }
    prefetch_items(w, n);
    for (; done < n && copied < COPY_STEP_BYTES; done++) {
        lrd_note_record(w, lrd_lane_idx(w, lane), w->batch[done].position);
        if (!decide(w, lane, &w->batch[done], &copied))
            break;
        LRD_TESTPOINT("writer_applied");
    }
    end_batch(w, done);
    return done > 0;
}

void lrd_records_wake(struct lrd_writer *w, const struct lrd_lane_ref *lane)
{
    if (lrd_wake_waiters(lane->words, lane->ring.lane))
        lrd_bells_want(&w->bells, lrd_lane_idx(w, lane));
}

bool lrd_records_take(struct lrd_writer *w, struct lrd_lane_ref *lane)
{
    if (w->large.lane == lrd_lane_idx(w, lane)) {
        if (large_step(w, lane))
            lrd_records_wake(w, lane);
        return true;
    }
    enum alone alone;
    unsigned n = collect(w, lane, &alone);
    bool applied = n > 0 && (is_conditional(&w->batch[0]) ? decide_batch(w, lane, n) : apply_batch(w, lane, n));
    if (alone == ALONE_REQUEST) {
        lrd_request_apply(w, lane);
        applied = true;
    } else if (alone == ALONE_LARGE && w->large.lane == LRD_NO_LANE) /* else it waits for its turn: bounded, the other one is copied by us alone */
        applied |= large_begin(w, lane, &w->batch[0]);
    if (applied)
        lrd_records_wake(w, lane);
    return n > 0 || alone != ALONE_NONE;
}
