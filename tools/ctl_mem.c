/* Where every byte is: the segment's parts, the table's slots, the arena by namespace; the lanes and the worker; and the same as the kernel sees it.
 *
 * Nothing is found by subtraction: the parts' contents, the rest of their last pages, and what lies between them are each reckoned from the header's offsets, and their
 * sum is compared with the segment's size. With a writer at work the numbers of a namespace are of slightly different moments; the sum is exact. */
#include "tools/ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "shm/lane.h"

#define MEASURE_MS 2000u
#define SILENT_MS 1000u /* ten missed heartbeats: nobody would answer */

/* ---- the segment ---- */

struct account {
    uint64_t content[LRD_N_PARTS]; /* bytes that mean something */
    uint64_t rounding;             /* from there to the end of a part: less than a page each */
    uint64_t between, behind;      /* parts begin on a page, table and arena on a huge one; after the last */
    uint64_t slots_live, slots_dead, slots_empty;
    struct ctl_arena arena;
    uint64_t block_bytes;
    uint64_t sum;
};

static void account_parts(const struct lrd_reader *r, struct account *a)
{
    const struct lrd_geometry *g = &r->geometry;
    const uint64_t content[LRD_N_PARTS] = {
        [LRD_PART_HEADER] = sizeof(struct lrd_header),
        [LRD_PART_NAMESPACES] = LRD_NAMESPACES * sizeof(struct lrd_namespace),
        [LRD_PART_COUNTERS] = (uint64_t)LRD_NAMESPACES * LRD_N_COUNTERS * sizeof(lrd_u64),
        [LRD_PART_LANES] = g->n_lanes * sizeof(struct lrd_lane_words),
        [LRD_PART_CREDITS] = g->n_lanes * sizeof(struct lrd_lane_credit),
        [LRD_PART_JOURNAL] = sizeof(struct lrd_journal),
        [LRD_PART_PAUSES] = sizeof(struct lrd_pauses),
        [LRD_PART_DEPARTURES] = sizeof(struct lrd_departures) + (uint64_t)g->n_departures * sizeof(struct lrd_departure),
        [LRD_PART_FEEDS] = (uint64_t)g->feed_pages * LRD_PAGE,
        [LRD_PART_BLOCK_WORDS] = (uint64_t)g->n_blocks * sizeof(lrd_u64),
        [LRD_PART_DESCRIPTORS] = (uint64_t)g->n_blocks * sizeof(struct lrd_descriptor),
        [LRD_PART_TABLE] = (uint64_t)ctl_n_buckets(r) * sizeof(struct lrd_bucket),
        [LRD_PART_ARENA] = (uint64_t)g->n_blocks << g->block_shift,
    };
    uint64_t end = 0;
    for (unsigned i = 0; i < LRD_N_PARTS; i++) {
        const struct lrd_part *p = &r->header->parts[i];
        uint64_t last = p->off + content[i] > p->off + p->bytes ? p->off + content[i] : p->off + p->bytes;
        a->content[i] = content[i];
        a->rounding += last - p->off - content[i];
        a->between += p->off > end ? p->off - end : 0; /* parts that overlap make the sum too large */
        end = last;
    }
    a->behind = g->segment_bytes > end ? g->segment_bytes - end : 0;
}

static void account_slots(const struct lrd_reader *r, struct account *a)
{
    for (uint32_t b = 0; b < ctl_n_buckets(r); b++) {
        for (unsigned i = 0; i < LRD_SLOTS; i++) {
            uint64_t slot = lrd_load_relaxed(&r->buckets[b].slot[i]); /* relaxed: only counted */
            if (slot == 0)
                a->slots_empty++;
            else if (ctl_slot_is_live(r, slot))
                a->slots_live++;
            else
                a->slots_dead++;
        }
    }
}

static uint64_t displaced_bytes(const struct lrd_reader *r) { return (uint64_t)ctl_n_buckets(r) * sizeof(lrd_u64); }

static void account_segment(const struct lrd_reader *r, struct account *a)
{
    account_parts(r, a);
    account_slots(r, a);
    ctl_arena_look(r, &a->arena);
    a->block_bytes = UINT64_C(1) << r->block_shift;
    for (unsigned i = 0; i < LRD_PART_TABLE; i++)
        a->sum += a->content[i];
    a->sum += displaced_bytes(r) + (a->slots_live + a->slots_dead + a->slots_empty) * sizeof(lrd_u64);
    for (uint32_t ns = 0; ns < LRD_NAMESPACES; ns++)
        a->sum += ctl_space_bytes(&a->arena.of[ns]);
    a->sum += (a->arena.free_blocks + a->arena.unknown_blocks) * a->block_bytes;
    a->sum += a->rounding + a->between + a->behind;
}

static void report_parts(struct ctl_report *out, const struct lrd_reader *r, const struct account *a)
{
    static const char *const name[LRD_PART_TABLE] = {"header",  "namespaces", "counters",   "lane_words",  "credits",
                                                     "journal", "pauses",     "departures", "feeds", "block_words", "descriptors"};
    ctl_report_group(out, "parts");
    for (unsigned i = 0; i < LRD_PART_TABLE; i++)
        ctl_report_u64(out, name[i], "bytes", a->content[i]);
    ctl_report_u64(out, "page_rounding", "bytes", a->rounding);
    ctl_report_u64(out, "between_parts", "bytes", a->between);
    ctl_report_u64(out, "behind_parts", "bytes", a->behind);
    ctl_report_group(out, "table");
    ctl_report_u64(out, "slots_live", "bytes", a->slots_live * sizeof(lrd_u64));
    ctl_report_u64(out, "slots_dead", "bytes", a->slots_dead * sizeof(lrd_u64));
    ctl_report_u64(out, "slots_free", "bytes", a->slots_empty * sizeof(lrd_u64));
    ctl_report_u64(out, "displaced_words", "bytes", displaced_bytes(r));
}

static void report_arena(struct ctl_report *out, const struct account *a)
{
    const struct ctl_space *s = &a->arena.all;
    ctl_report_group(out, "arena");
    ctl_report_u64(out, "live_payload", "bytes", s->payload_bytes);
    ctl_report_u64(out, "live_headers", "bytes", s->header_bytes);
    ctl_report_u64(out, "live_padding", "bytes", s->padding_bytes);
    ctl_report_u64(out, "dead", "bytes", s->dead_bytes);
    ctl_report_u64(out, "free", "bytes", s->free_bytes);
    ctl_report_u64(out, "block_tails", "bytes", s->tail_bytes);
    ctl_report_u64(out, "free_blocks", "bytes", a->arena.free_blocks * a->block_bytes);
    ctl_report_u64(out, "unknown_blocks", "bytes", a->arena.unknown_blocks * a->block_bytes);
}

static void report_namespaces(struct ctl_report *out, const struct lrd_reader *r, const struct account *a)
{
    ctl_report_table(out, "namespaces");
    for (uint32_t ns = 0; ns < LRD_NAMESPACES; ns++) {
        const struct ctl_space *s = &a->arena.of[ns];
        char name[LRD_NAMESPACE_NAME];
        if (!ctl_ns_is_live(r, ns) && s->blocks == 0)
            continue;
        ctl_ns_name(r, ns, name);
        ctl_report_row(out);
        ctl_report_text(out, "name", "%s", name);
        ctl_report_u64(out, "blocks", "blocks", s->blocks);
        ctl_report_u64(out, "items", "items", s->items);
        ctl_report_u64(out, "live_payload", "bytes", s->payload_bytes);
        ctl_report_u64(out, "live_headers", "bytes", s->header_bytes);
        ctl_report_u64(out, "live_padding", "bytes", s->padding_bytes);
        ctl_report_u64(out, "dead", "bytes", s->dead_bytes);
        ctl_report_u64(out, "free", "bytes", s->free_bytes);
        ctl_report_u64(out, "block_tails", "bytes", s->tail_bytes);
        ctl_report_u64(out, "bytes", "bytes", ctl_space_bytes(s));
    }
}

/* ---- beside it ---- */

static void report_lanes(struct ctl_report *out, const struct lrd_reader *r)
{
    const struct lrd_geometry *g = &r->geometry;
    uint64_t lanes = 0, with_map = 0, bytes = 0;
    for (uint32_t i = 0; i < g->n_lanes; i++) {
        if (lrd_load32_relaxed(&r->lanes[i].state) == LRD_LANE_FREE)
            continue;
        uint64_t map = lrd_load_relaxed(&r->lanes[i].mark_bytes);
        map = map <= g->mark_bytes ? map : g->mark_bytes;
        lanes++;
        with_map += map != 0;
        bytes += lrd_lane_bytes(g->n_cells, (uint32_t)map);
    }
    ctl_report_group(out, "lanes");
    ctl_report_u64(out, "lanes", "lanes", lanes);
    ctl_report_u64(out, "with_mark_map", "lanes", with_map);
    ctl_report_u64(out, "each", "bytes", lrd_lane_bytes(g->n_cells, 0));
    ctl_report_u64(out, "each_with_mark_map", "bytes", lrd_lane_bytes(g->n_cells, g->mark_bytes));
    ctl_report_u64(out, "bytes", "bytes", bytes);
    ctl_report_u64(out, "bytes_at_most", "bytes", lrd_lanes_bytes(g));
}

/* What the kernel said when it was asked the last time. */
struct kernel {
    uint64_t measured, at_ms, segment, lanes, anonymous, files, notes;
};

static struct kernel load_kernel(const struct lrd_header *h)
{
    struct kernel k;
    k.measured = lrd_load_acquire(&h->measured); /* pairs with its release, after the others: at least that measurement's */
    k.at_ms = lrd_load_relaxed(&h->measured_ms);
    k.segment = lrd_load_relaxed(&h->kernel_segment);
    k.lanes = lrd_load_relaxed(&h->kernel_lanes);
    k.anonymous = lrd_load_relaxed(&h->kernel_private);
    k.files = lrd_load_relaxed(&h->kernel_files);
    k.notes = lrd_load_relaxed(&h->private_bytes);
    return k;
}

/* While another measurement is written, its figures are mixed with those of the one before. */
static struct kernel look_at_kernel(const struct lrd_header *h)
{
    struct kernel k, again = load_kernel(h);
    for (unsigned i = 0; i < 100; i++) {
        k = again;
        lrd_fence_acquire();
        again = load_kernel(h);
        if (memcmp(&k, &again, sizeof k) == 0)
            break;
    }
    return again;
}

static void report_kernel(struct ctl_report *out, const struct ctl_peek *p, const struct kernel *k)
{
    uint64_t now_ms = ctl_now_ms(p);
    ctl_report_group(out, "worker");
    ctl_report_u64(out, "private_notes", "bytes", k->notes);
    ctl_report_group(out, "kernel");
    ctl_report_u64(out, "measurements", "times", k->measured);
    ctl_report_u64(out, "measured_ago_ms", "ms", k->measured != 0 && now_ms > k->at_ms ? now_ms - k->at_ms : 0);
    ctl_report_u64(out, "segment", "bytes", k->segment);
    ctl_report_u64(out, "lanes", "bytes", k->lanes);
    ctl_report_u64(out, "private", "bytes", k->anonymous);
    ctl_report_u64(out, "files", "bytes", k->files);
}

/* ---- what does not fit ---- */

/* Signed, as text is read: found less expected. */
static int64_t difference(uint64_t found, uint64_t expected) { return (int64_t)(found - expected); }

static bool warn(struct ctl_report *out, const struct lrd_reader *r, const struct account *a, const struct kernel *k)
{
    uint64_t segment = r->geometry.segment_bytes;
    bool any = false;
    ctl_report_list(out, "warnings");
    if (a->sum != segment) {
        ctl_report_say(out, "the parts sum up to %" PRIu64 " bytes and the segment has %" PRIu64 " (%+" PRId64 "): its parts overlap, see larderctl check", a->sum, segment,
                       difference(a->sum, segment));
        any = true;
    }
    if (a->arena.unknown_blocks != 0) {
        ctl_report_say(out, "the descriptors of %" PRIu64 " blocks make no sense: see larderctl check", a->arena.unknown_blocks);
        any = true;
    }
    if (k->measured != 0 && k->segment != segment) {
        ctl_report_say(out,
                       "the kernel says that the worker has %" PRIu64 " bytes of the segment in memory, and the segment has %" PRIu64 " (%+" PRId64
                       "): was it swapped out? See /proc/swaps",
                       k->segment, segment, difference(k->segment, segment));
        any = true;
    }
    return any;
}

static void note(struct ctl_report *out, const struct ctl_call *call, const struct kernel *k, const char *why_not)
{
    ctl_report_list(out, "notes");
    if (why_not)
        ctl_report_say(out, "the kernel was not asked anew: %s", why_not);
    if (k->measured == 0)
        ctl_report_say(out, "the kernel was never asked%s", call->no_measure ? ": leave out --no-measure" : "");
}

/* ---- mem ---- */

/* NULL: it measured; else why it did not. *l is attached until the lanes were counted, as they were when the kernel was asked; NULL if it never was. */
static const char *measure(const struct ctl_call *call, const struct ctl_peek *p, struct larder **l)
{
    const struct larder_options options = {.size = sizeof options, .socket = call->socket, .busy_timeout_ms = 1000, .flags = LARDER_OPEN_NO_POPULATE};
    if (ctl_silence_ms(p) > SILENT_MS)
        return "the worker is silent (see larderctl ping)";
    int r = larder_open(l, &options);
    if (r == LARDER_OK)
        r = larder_measure(*l, MEASURE_MS);
    return r == LARDER_OK ? NULL : r == LARDER_TIMEOUT ? "the worker does not answer (see larderctl ping)" : larder_strerror(r);
}

enum ctl_status ctl_mem(const struct ctl_call *call)
{
    struct ctl_peek p;
    struct account a = {0};
    struct larder *l = NULL;
    enum ctl_status status = ctl_peek_open(&p, call->socket);
    if (status != CTL_OK)
        return status;
    const char *why_not = call->no_measure ? NULL : measure(call, &p, &l);
    struct kernel k = look_at_kernel(p.r.header);
    account_segment(&p.r, &a);

    struct ctl_report *out = ctl_report_create();
    report_parts(out, &p.r, &a);
    report_arena(out, &a);
    report_namespaces(out, &p.r, &a);
    ctl_report_group(out, "total");
    ctl_report_u64(out, "sum", "bytes", a.sum);
    ctl_report_u64(out, "segment", "bytes", p.r.geometry.segment_bytes);
    report_lanes(out, &p.r);
    larder_close(l);
    report_kernel(out, &p, &k);
    if (warn(out, &p.r, &a, &k))
        status = CTL_WARNING;
    note(out, call, &k, why_not);
    if (!ctl_report_print(out, call->json)) {
        ctl_error("cannot write to standard output: %s", strerror(errno));
        status = CTL_FAILURE;
    }
    ctl_report_free(out);
    ctl_peek_close(&p);
    return status;
}
