/* What the segment says about itself, and what is to be done about it. */
#include "tools/ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "shm/counters.h"
#include "shm/histogram.h"
#include "shm/item.h"
#include "shm/racy.h"

#define FULL_LOAD 0.80      /* of the table with the arena full: above, puts begin to find no room */
#define ITEMS_TO_JUDGE 1000u
#define NO_ROOM_RATE 1000u  /* one set in so many without room is worth a warning */
#define SILENT_MS 1000u     /* ten missed heartbeats */

/* What a walk over table and descriptors finds. */
struct tally {
    uint64_t used, live, displaced, lines;        /* slots; buckets that gets of all live items look at */
    struct ctl_arena arena;                       /* as the descriptors say */
};

static void tally_table(const struct lrd_reader *r, struct tally *t)
{
    for (uint32_t b = 0; b < ctl_n_buckets(r); b++) {
        for (unsigned i = 0; i < LRD_SLOTS; i++) {
            uint64_t slot = lrd_load_relaxed(&r->buckets[b].slot[i]); /* relaxed: only its bits are looked at */
            t->used += slot != 0;
            if (!ctl_slot_is_live(r, slot))
                continue;
            t->live++;
            t->displaced += lrd_slot_displacement(slot) != 0;
            t->lines += ctl_slot_lines(r, b, slot);
        }
    }
}

static double ratio(uint64_t a, uint64_t b) { return b ? (double)a / (double)b : 0; }

static uint64_t counter(const struct lrd_reader *r, enum lrd_counter_id id) { return lrd_counter_sum(r, id); }

static uint64_t arena_bytes(const struct lrd_reader *r) { return (uint64_t)r->n_blocks << r->block_shift; }
static uint64_t table_bytes(const struct lrd_reader *r) { return (uint64_t)ctl_n_buckets(r) * sizeof(struct lrd_bucket); }
static uint64_t n_slots(const struct lrd_reader *r) { return (uint64_t)ctl_n_buckets(r) * LRD_SLOTS; }

/* Bytes of key and value of the average live item: without its header and, on average, half a granule of padding. */
static uint64_t average_item(const struct lrd_reader *r, const struct tally *t)
{
    uint64_t around = sizeof(struct lrd_item) + (1u << r->granule_shift) / 2;
    const struct ctl_space *all = &t->arena.all;
    uint64_t bytes = all->items ? ctl_space_live(all) / all->items : 0;
    return bytes > around ? bytes - around : bytes ? 1 : 0;
}

/* ---- the report ---- */

static void report_segment(struct ctl_report *out, const struct ctl_peek *p, const char *socket)
{
    const struct lrd_reader *r = &p->r;
    const struct lrd_geometry *g = &r->geometry;
    ctl_report_group(out, "segment");
    ctl_report_text(out, "socket", "%s", socket);
    ctl_report_text(out, "id", "%016" PRIx64, g->segment_id);
    ctl_report_u64(out, "layout", "", LRD_LAYOUT_VERSION);
    ctl_report_u64(out, "age_ms", "ms", ctl_now_ms(p));
    ctl_report_u64(out, "bytes", "bytes", g->segment_bytes);
    ctl_report_u64(out, "table_bytes", "bytes", table_bytes(r));
    ctl_report_u64(out, "arena_bytes", "bytes", arena_bytes(r));
    ctl_report_u64(out, "other_bytes", "bytes", g->segment_bytes - table_bytes(r) - arena_bytes(r));
    ctl_report_u64(out, "block_bytes", "bytes", UINT64_C(1) << r->block_shift);
    ctl_report_u64(out, "item_max_bytes", "bytes", g->item_max);

    const lrd_u64 *tier = r->header->page_bytes;
    ctl_report_group(out, "pages");
    ctl_report_u64(out, "hugetlb_bytes", "bytes", lrd_load_relaxed(&tier[LRD_PAGES_HUGETLB]));
    ctl_report_u64(out, "transparent_huge_bytes", "bytes", lrd_load_relaxed(&tier[LRD_PAGES_THP]));
    ctl_report_u64(out, "small_bytes", "bytes", lrd_load_relaxed(&tier[LRD_PAGES_SMALL]));
    uint64_t node = lrd_load_relaxed(&r->header->numa_node);
    if (node != 0)
        ctl_report_u64(out, "numa_node", "", node - 1);
}

static void report_daemon(struct ctl_report *out, const struct ctl_peek *p)
{
    const struct lrd_header *h = p->r.header;
    const struct lrd_journal *j = p->r.journal;
    ctl_report_group(out, "daemon");
    ctl_report_u64(out, "keeper_pid", "", lrd_load_relaxed(&h->keeper_pid));
    ctl_report_u64(out, "worker_pid", "", lrd_load_relaxed(&h->worker_pid));
    ctl_report_u64(out, "worker_count", "workers", lrd_load_relaxed(&h->worker_count));
    ctl_report_u64(out, "silence_ms", "ms", ctl_silence_ms(p));
    ctl_report_u64(out, "applied", "records", lrd_load_relaxed(&j->applied_total));
    ctl_report_u64(out, "intent_steps", "stores", lrd_load_relaxed(&j->n_steps));
    ctl_report_u64(out, "faults", "workers", lrd_load_relaxed(&j->faults));
    ctl_report_u64(out, "sweeps", "sweeps", lrd_load_relaxed(&j->sweeps));
    ctl_report_u64(out, "sweep_owed", "buckets", lrd_load_relaxed(&j->sweep_owed));
}

static void report_table(struct ctl_report *out, const struct lrd_reader *r, const struct tally *t)
{
    ctl_report_group(out, "table");
    ctl_report_u64(out, "buckets", "buckets", ctl_n_buckets(r));
    ctl_report_u64(out, "slots", "slots", n_slots(r));
    ctl_report_u64(out, "slots_live", "slots", t->live);
    ctl_report_u64(out, "slots_dead", "slots", t->used - t->live);
    ctl_report_real(out, "load", "of all slots", ratio(t->used, n_slots(r)));
    ctl_report_u64(out, "displaced", "items", t->displaced);
    ctl_report_real(out, "lines_per_hit", "buckets", ratio(t->lines, t->live));
    ctl_report_u64(out, "no_room", "items", counter(r, LRD_C_no_room));
    ctl_report_u64(out, "average_item_planned", "bytes", r->geometry.average_item);
    ctl_report_u64(out, "average_item_found", "bytes", average_item(r, t));
}

static void report_arena(struct ctl_report *out, const struct lrd_reader *r, const struct tally *t)
{
    const struct ctl_arena *a = &t->arena;
    ctl_report_group(out, "arena");
    ctl_report_u64(out, "live_items", "items", a->all.items);
    ctl_report_u64(out, "live_bytes", "bytes", ctl_space_live(&a->all));
    ctl_report_u64(out, "dead_bytes", "bytes", a->all.dead_bytes);
    ctl_report_u64(out, "tail_bytes", "bytes", a->all.tail_bytes);
    ctl_report_u64(out, "free_bytes", "bytes", a->all.free_bytes + (a->free_blocks << r->block_shift));
    ctl_report_u64(out, "blocks", "blocks", r->n_blocks);
    ctl_report_u64(out, "blocks_free", "blocks", a->free_blocks);
    ctl_report_u64(out, "blocks_open", "blocks", a->open_blocks);
    ctl_report_u64(out, "blocks_full", "blocks", a->all.blocks - a->open_blocks);
}

static const char *lane_state(uint32_t state)
{
    static const char *const name[] = {"free", "prepared", "live", "dying"};
    return state < sizeof name / sizeof *name ? name[state] : "unknown";
}

/* How far its ring is filled stands in the lane, which only its client and the daemon can see. */
static void report_lane(struct ctl_report *out, const struct ctl_peek *p, uint32_t i)
{
    const struct lrd_lane_words *words = &p->r.lanes[i];
    uint64_t now_ms = ctl_now_ms(p), attached_ms = lrd_load_relaxed(&words->attached_ms);
    ctl_report_row(out);
    ctl_report_u64(out, "lane", "", i);
    ctl_report_u64(out, "pid", "", lrd_load_relaxed(&words->client_pid));
    ctl_report_text(out, "state", "%s", lane_state(lrd_load32_relaxed(&words->state)));
    ctl_report_text(out, "writer", "%s", lrd_load32_relaxed(&words->parked) & 1 ? "parked" : "looking");
    ctl_report_u64(out, "applied", "cells", lrd_load_relaxed(&words->applied));
    ctl_report_u64(out, "discarded", "records", lrd_load_relaxed(&words->discarded));
    ctl_report_u64(out, "incarnation", "", lrd_load32_relaxed(&words->incarnation));
    ctl_report_u64(out, "attached_for_ms", "ms", now_ms > attached_ms ? now_ms - attached_ms : 0);
}

static void report_lanes(struct ctl_report *out, const struct ctl_peek *p)
{
    uint64_t taken = 0;
    ctl_report_list(out, "lanes");
    for (uint32_t i = 0; i < p->r.geometry.n_lanes; i++) {
        if (lrd_load32_relaxed(&p->r.lanes[i].state) == LRD_LANE_FREE)
            continue;
        taken++;
        report_lane(out, p, i);
    }
    ctl_report_group(out, "clients");
    ctl_report_u64(out, "lanes", "lanes", p->r.geometry.n_lanes);
    ctl_report_u64(out, "lanes_taken", "lanes", taken);
    ctl_report_u64(out, "ring_bytes", "bytes", (uint64_t)p->r.geometry.n_cells * LRD_CELL);
}

/* Of all namespaces, or of one: then without those that belong to none. */
static void report_counters(struct ctl_report *out, const struct lrd_reader *r, const uint32_t *ns)
{
    ctl_report_group(out, "counters");
    for (unsigned i = 0; i < LRD_N_COUNTERS; i++) {
        const struct lrd_counter_info *info = &lrd_counter_info[i];
        if (ns == NULL)
            ctl_report_u64(out, info->name, info->unit, counter(r, (enum lrd_counter_id)i));
        else if (info->scope == LRD_SCOPE_ns)
            ctl_report_u64(out, info->name, info->unit, lrd_load_relaxed(&lrd_ns_counters(r, *ns)[i]));
    }
}

static void report_histogram(struct ctl_report *out, const char *name, const struct lrd_histogram *shared)
{
    static const struct {
        const char *name;
        double part;
    } shown[] = {{"p50_ns", 0.5}, {"p99_ns", 0.99}, {"p99_9_ns", 0.999}, {"p99_99_ns", 0.9999}};
    struct lrd_histogram *h = ctl_alloc(1, sizeof *h);
    lrd_racy_copy(h, shared, sizeof *h); /* the writer goes on recording: each count is true by itself */
    ctl_report_group(out, name);
    ctl_report_u64(out, "count", "times", lrd_histogram_count(h));
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
        ctl_report_u64(out, shown[i].name, "ns", lrd_histogram_quantile(h, shown[i].part));
    ctl_report_u64(out, "max_ns", "ns", h->max);
    free(h);
}

/* ---- what is to be done ---- */

/* The load that the table will have when the arena is full of items like these. */
static double load_when_full(const struct lrd_reader *r, const struct tally *t)
{
    return ratio(t->arena.all.items, ctl_space_live(&t->arena.all)) * (double)arena_bytes(r) / (double)n_slots(r);
}

static bool warn_table(struct ctl_report *out, const struct lrd_reader *r, const struct tally *t)
{
    uint64_t no_room = counter(r, LRD_C_no_room), sets = counter(r, LRD_C_sets);
    double load = load_when_full(r, t);
    bool small = t->arena.all.items >= ITEMS_TO_JUDGE && load > FULL_LOAD;
    if (!small && (no_room == 0 || no_room < sets / NO_ROOM_RATE))
        return false;
    ctl_report_say(out,
                   "the table limits what fits, not the arena: it was made for items of %" PRIu32 " bytes (key and value), those there have %" PRIu64
                   ", and with the arena full it would be %.0f %% full; %" PRIu64 " items had to go for want of a slot: start larderd with --average-item %" PRIu64,
                   r->geometry.average_item, average_item(r, t), load * 100, no_room, average_item(r, t));
    return true;
}

static bool warn(struct ctl_report *out, const struct ctl_peek *p, const struct tally *t)
{
    const struct lrd_reader *r = &p->r;
    uint64_t silence_ms = ctl_silence_ms(p), faults = lrd_load_relaxed(&r->journal->faults);
    ctl_report_list(out, "warnings");
    bool any = warn_table(out, r, t);
    if (silence_ms > SILENT_MS) {
        ctl_report_say(out, "the worker is silent since %" PRIu64 " ms: is it stopped? Gets go on, nothing that is written becomes visible", silence_ms);
        any = true;
    }
    if (faults != 0) {
        ctl_report_say(out, "%" PRIu64 " workers died in a row, the last at lane %" PRIu64 ", position %" PRIu64 ": see the daemon's log", faults,
                       lrd_load_relaxed(&r->journal->fault_lane), lrd_load_relaxed(&r->journal->fault_position));
        any = true;
    }
    return any;
}

/* Nothing is wrong, but it could be better. */
static void advise(struct ctl_report *out, const struct lrd_reader *r)
{
    uint64_t small = lrd_load_relaxed(&r->header->page_bytes[LRD_PAGES_SMALL]);
    ctl_report_list(out, "notes");
    if (small > r->geometry.segment_bytes / 16)
        ctl_report_say(out, "%.0f %% of the segment lies in small pages: gets are slower than they could be; see --pages in larderd(8)",
                       100 * ratio(small, r->geometry.segment_bytes));
}

enum ctl_status ctl_stat(const struct ctl_call *call)
{
    struct ctl_peek p;
    struct tally t = {0};
    uint32_t ns;
    enum ctl_status status = ctl_peek_open(&p, call->socket);
    if (status != CTL_OK)
        return status;
    if (call->ns_given && !ctl_ns_find(call, &p.r, &ns)) {
        ctl_peek_close(&p);
        return CTL_FAILURE;
    }
    tally_table(&p.r, &t);
    ctl_arena_look(&p.r, &t.arena);

    struct ctl_report *out = ctl_report_create();
    report_segment(out, &p, call->socket);
    report_daemon(out, &p);
    report_table(out, &p.r, &t);
    report_arena(out, &p.r, &t);
    report_lanes(out, &p);
    report_histogram(out, "pauses", &p.r.pauses->own);
    report_histogram(out, "pauses_scheduler", &p.r.pauses->scheduler);
    report_counters(out, &p.r, call->ns_given ? &ns : NULL);
    if (warn(out, &p, &t))
        status = CTL_WARNING;
    advise(out, &p.r);
    if (!ctl_report_print(out, call->json)) {
        ctl_error("cannot write to standard output: %s", strerror(errno));
        status = CTL_FAILURE;
    }
    ctl_report_free(out);
    ctl_peek_close(&p);
    return status;
}
