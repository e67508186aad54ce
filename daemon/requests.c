/* What clients ask of the daemon beside changes of items: namespaces, credit, measuring, views, watches. And resets, asked for or by the clock.
 *
 * A request is looked at alone, whatever its namespace's epoch is by now. Its answer lies in the lane before the position that says so. */
#include "daemon/writer_parts.h"

#include "shm/clock.h"
#include "shm/feed.h"
#include "shm/namespace.h"
#include "shm/racy.h"
#include "shm/testpoint.h"
#include "shm/wait.h"

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
void lrd_resets_plan(struct lrd_writer *w)
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

void lrd_resets_by_clock(struct lrd_writer *w)
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
    lrd_resets_plan(w);
}

/* ---- requests ---- */

static bool has_right(const struct lrd_lane_ref *lane, uint64_t right) { return (lrd_load_relaxed(&lane->words->rights) & right) != 0; }

/* Copies a request's payload, which must have exactly that size. */
static bool take_payload(const struct lrd_pending *p, void *to, size_t bytes)
{
    if (p->record.key_len != 0 || p->record.value_len != bytes || (uint64_t)p->cells * LRD_CELL < sizeof p->record + bytes)
        return false;
    lrd_racy_copy(to, p->payload, bytes);
    return true;
}

static enum lrd_answer create_namespace(struct lrd_writer *w, const struct lrd_lane_ref *lane, const struct lrd_pending *p)
{
    struct lrd_ns_spec spec;
    uint32_t ns;
    char why[200];
    if (!take_payload(p, &spec, sizeof spec))
        return LRD_ANSWER_MALFORMED;
    enum lrd_answer answer = has_right(lane, LRD_RIGHT_ADMIN) ? lrd_ns_add(w->s, &spec, &ns, why, sizeof why)
                                                              : lrd_ns_add_for_client(w->s, &spec, w->client_namespaces, &ns, why, sizeof why);
    lrd_resets_plan(w);
    return answer;
}

static enum lrd_answer reset_namespace(struct lrd_writer *w, const struct lrd_lane_ref *lane, const struct lrd_pending *p)
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

static enum lrd_answer grant_credit(struct lrd_writer *w, const struct lrd_lane_ref *lane, const struct lrd_pending *p)
{
    struct lrd_credit_ask ask;
    if (!take_payload(p, &ask, sizeof ask))
        return LRD_ANSWER_MALFORMED;
    return lrd_credits_grant(&w->credits, lrd_lane_idx(w, lane), p->record.ns, &ask);
}

/* Nobody waits for an answer, and other threads of the client may be waiting for theirs. If we die, the note goes with us and the client looks again after its nap. */
static void take_watch(struct lrd_writer *w, const struct lrd_lane_ref *lane, const struct lrd_pending *p)
{
    if (p->record.ns < LRD_NAMESPACES)
        lrd_watches_note(w->watches, lrd_lane_idx(w, lane), p->record.ns, p->record.hash_hint, p->record.flags);
    lrd_journal_begin(&w->journal);
    lrd_step_applied(w, lane, p);
    lrd_journal_commit(&w->journal);
}

/* From here on its pins are looked at. What is left of a dead client's ring may ask as well: it has no views any more. */
static enum lrd_answer begin_views(struct lrd_writer *w, const struct lrd_lane_ref *lane)
{
    if (!lane->dying)
        lrd_pins_add(&w->arena.pins, lane->ring.lane);
    return LRD_ANSWER_OK;
}

static enum lrd_answer do_request(struct lrd_writer *w, const struct lrd_lane_ref *lane, const struct lrd_pending *p)
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
void lrd_request_apply(struct lrd_writer *w, struct lrd_lane_ref *lane)
{
    struct lrd_pending *p = &w->batch[0];
    struct lrd_lane *shared = lane->ring.lane;
    uint64_t began_ns = lrd_clock_ns();
    lrd_note_record(w, lrd_lane_idx(w, lane), p->position);
    if (p->record.kind == LRD_RECORD_WATCH) {
        take_watch(w, lane, p);
        lrd_note_nothing(w);
        return;
    }
    lrd_journal_begin(&w->journal);
    enum lrd_answer answer = do_request(w, lane, p);
    lrd_store_relaxed(&shared->answer, answer);
    lrd_store_relaxed(&shared->answer_position, p->position);
    lrd_step_applied(w, lane, p);
    LRD_TESTPOINT("writer_request");
    lrd_journal_commit(&w->journal);
    if (p->record.kind == LRD_RECORD_NS_RESET && answer == LRD_ANSWER_OK)
        reset_done(w, p->record.ns, began_ns);
    lrd_note_nothing(w);
}
