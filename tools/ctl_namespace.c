/* Namespaces: what they are and hold; making one, emptying one. */
#include "tools/ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "shm/feed.h"
#include "shm/namespace.h"
#include "shm/racy.h"
#include "shm/units.h"

/* ---- by name ---- */

void ctl_ns_name(const struct lrd_reader *r, uint32_t ns, char name[LRD_NAMESPACE_NAME])
{
    static const char good[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    lrd_racy_copy(name, r->namespaces[ns].name, LRD_NAMESPACE_NAME);
    name[LRD_NAMESPACE_NAME - 1] = '\0';
    for (char *c = name; *c; c++)
        if (strchr(good, *c) == NULL)
            *c = '?'; /* the segment may be damaged, and a terminal does things with some bytes */
}

bool ctl_ns_is_live(const struct lrd_reader *r, uint32_t ns)
{
    /* Pairs with the release of the state, which goes last: who sees it sees the name. */
    return ns < LRD_NS_NOWHERE && lrd_load32_acquire(&r->namespaces[ns].state) == LRD_NS_LIVE;
}

bool ctl_ns_find(const struct ctl_call *call, const struct lrd_reader *r, uint32_t *ns)
{
    *ns = lrd_ns_find(r, call->ns);
    if (*ns != LRD_NS_NOWHERE)
        return true;
    ctl_error("no namespace '%s' at %s; see larderctl namespaces", call->ns, call->socket);
    return false;
}

/* What went wrong with a namespace, in a line. */
static enum ctl_status failed(const struct ctl_call *call, const char *name, int r)
{
    switch (r) {
    case LARDER_OK:
        break;
    case LARDER_NO_NAMESPACE:
    case -EINVAL: /* a name that none can have */
        ctl_error("no namespace '%s' at %s; see larderctl namespaces", name, call->socket);
        break;
    case LARDER_NOT_ALLOWED:
        ctl_error("%s does not let this user do that to namespace '%s': run as root or as the daemon's user", call->socket, name);
        break;
    case LARDER_EXISTS:
        ctl_error("there is a namespace '%s' at %s already, made with other options; see larderctl namespaces", name, call->socket);
        break;
    case LARDER_TIMEOUT:
        ctl_error("%s took the request for namespace '%s' and has not answered yet: see larderctl ping", call->socket, name);
        return CTL_WARNING;
    default:
        ctl_error("namespace '%s' at %s: %s", name, call->socket, larder_strerror(r));
    }
    return ctl_result_status(r);
}

enum ctl_status ctl_ns_open(const struct ctl_call *call, struct larder *l, struct larder_ns **ns)
{
    return failed(call, call->ns, larder_ns_open(l, call->ns, ns));
}

/* ---- reset, create ---- */

enum ctl_status ctl_reset(const struct ctl_call *call)
{
    struct larder *l;
    struct larder_ns *ns;
    const char *name = call->args[0];
    enum ctl_status status = ctl_attach(&l, call);
    if (status != CTL_OK)
        return status;
    int r = larder_ns_open(l, name, &ns);
    if (r == LARDER_OK)
        r = larder_ns_reset(ns);
    status = failed(call, name, r);
    larder_close(l);
    return status;
}

/* What the namespaces that are there leave for another one. */
struct left {
    uint32_t n, n_refusing;
    uint64_t blocks;
    uint64_t feed_pages; /* behind the last feed */
};

static struct left what_is_left(const struct lrd_reader *r)
{
    struct left l = {.blocks = r->n_blocks > LRD_SPARE_BLOCKS ? r->n_blocks - LRD_SPARE_BLOCKS : 0, .feed_pages = r->geometry.feed_pages};
    for (uint32_t ns = 0; ns < LRD_NS_NOWHERE; ns++) {
        const struct lrd_namespace *n = &r->namespaces[ns];
        if (!ctl_ns_is_live(r, ns))
            continue;
        uint64_t min = lrd_load_relaxed(&n->min_blocks);
        l.n++;
        l.n_refusing += lrd_load32_relaxed(&n->policy) == LRD_POLICY_REFUSE;
        l.blocks -= min < l.blocks ? min : l.blocks;
        uint64_t feed = lrd_load_relaxed(&n->feed), end = lrd_feed_page(feed) + (feed != 0 ? lrd_feed_pages(lrd_feed_entries(feed)) : 0);
        uint64_t behind = r->geometry.feed_pages > end ? r->geometry.feed_pages - end : 0;
        l.feed_pages = behind < l.feed_pages ? behind : l.feed_pages;
    }
    return l;
}

/* Why the daemon found no room for a namespace, as the segment tells it now. */
static enum ctl_status no_quota(const struct ctl_call *call, const struct lrd_ns_spec *spec)
{
    struct ctl_peek p;
    char a[16], b[16], c[24];
    enum ctl_status status = ctl_peek_open(&p, call->socket);
    if (status != CTL_OK)
        return status;
    const struct left l = what_is_left(&p.r);
    uint64_t most = spec->max_bytes != 0 && spec->policy != LRD_POLICY_REFUSE ? spec->max_bytes : spec->min_bytes;
    lrd_size_text(UINT64_C(1) << p.r.block_shift, b);
    if (l.n == LRD_NS_NOWHERE)
        ctl_error("namespace '%s' does not fit into %s: there are %u namespaces, and there cannot be more", spec->name, call->socket, LRD_NS_NOWHERE);
    else if (spec->policy == LRD_POLICY_REFUSE && l.n_refusing == LRD_CREDITS)
        ctl_error("namespace '%s' does not fit into %s: there are %u that refuse eviction, and there cannot be more", spec->name, call->socket, LRD_CREDITS);
    else if (spec->feed_entries != 0 && lrd_feed_pages(lrd_feed_round(spec->feed_entries)) > l.feed_pages)
        ctl_error("namespace '%s' does not fit into %s: a change feed of %u entries takes more than the %s that are left; start larderd with more --feeds", spec->name, call->socket,
                  lrd_feed_round(spec->feed_entries), lrd_size_exact_text(l.feed_pages * LRD_PAGE, c));
    else if (spec->min_bytes > l.blocks << p.r.block_shift)
        ctl_error("namespace '%s' does not fit into %s: a minimum of %s is more than the %s that can still be set apart; lower it, or start larderd with more --memory", spec->name,
                  call->socket, lrd_size_text(spec->min_bytes, a), lrd_size_exact_text(l.blocks << p.r.block_shift, c));
    else if (most != 0 && most >> p.r.block_shift < LRD_NS_BLOCKS_LEAST)
        ctl_error("namespace '%s' does not fit into %s: %s is too little where blocks have %s; give it %s or more", spec->name, call->socket, lrd_size_text(most, a), b,
                  lrd_size_exact_text((uint64_t)LRD_NS_BLOCKS_LEAST << p.r.block_shift, c));
    else
        ctl_error("namespace '%s' does not fit into %s: make its minimum and maximum whole blocks of %s", spec->name, call->socket, b);
    ctl_peek_close(&p);
    return CTL_FAILURE;
}

enum ctl_status ctl_create(const struct ctl_call *call)
{
    struct lrd_ns_spec spec;
    char why[256];
    if (!lrd_ns_spec_parse(call->args[0], &spec, why, sizeof why)) {
        ctl_error("%s", why);
        return CTL_USAGE;
    }
    const struct larder_ns_options options = {
        .size = sizeof options,
        .policy = spec.policy,
        .min_bytes = spec.min_bytes,
        .max_bytes = spec.max_bytes,
        .default_ttl_ms = (int64_t)spec.default_ttl_ms,
        .reset_every_ms = spec.reset_every_ms,
        .feed_entries = spec.feed_entries,
    };
    struct larder *l;
    struct larder_ns *ns;
    enum ctl_status status = ctl_attach(&l, call);
    if (status != CTL_OK)
        return status;
    int r = larder_ns_create(l, spec.name, &options, &ns);
    if (r == -EINVAL) {
        ctl_error("'%s': the daemon at %s does not take these options", call->args[0], call->socket);
        status = CTL_USAGE;
    } else if (r == LARDER_NO_QUOTA)
        status = no_quota(call, &spec);
    else if (r == LARDER_NOT_ALLOWED) {
        ctl_error("%s does not let this user make namespace '%s': others than root and the daemon's user may make as many as larderd --client-namespaces says, without a minimum "
                  "and not refusing eviction",
                  call->socket, spec.name);
        status = CTL_FAILURE;
    } else
        status = failed(call, spec.name, r);
    larder_close(l);
    return status;
}

/* ---- namespaces ---- */

/* What lanes may still write into a namespace that refuses eviction: granted, and not used yet. */
static void promised(const struct lrd_reader *r, uint32_t account, uint64_t *bytes, uint64_t *items)
{
    *bytes = *items = 0;
    for (uint32_t i = 0; account < LRD_CREDITS && i < r->geometry.n_lanes; i++) {
        uint32_t state = lrd_load32_relaxed(&r->lanes[i].state); /* relaxed, as the rest: figures for people */
        if (state != LRD_LANE_LIVE && state != LRD_LANE_DYING)
            continue;
        const struct lrd_credit *c = &r->credits[i].of[account];
        uint64_t used_bytes = lrd_load_acquire(&c->used_bytes), used_items = lrd_load_acquire(&c->used_items);
        uint64_t granted_bytes = lrd_load_acquire(&c->granted_bytes), granted_items = lrd_load_acquire(&c->granted_items);
        *bytes += granted_bytes > used_bytes ? granted_bytes - used_bytes : 0;
        *items += granted_items > used_items ? granted_items - used_items : 0;
    }
}

static void report_space(struct ctl_report *out, const struct lrd_namespace *n, const struct ctl_space *s)
{
    ctl_report_u64(out, "min_blocks", "blocks", lrd_load_relaxed(&n->min_blocks));
    ctl_report_u64(out, "blocks", "blocks", s->blocks);
    ctl_report_u64(out, "max_blocks", "blocks", lrd_load_relaxed(&n->max_blocks));
    ctl_report_u64(out, "live_items", "items", s->items);
    ctl_report_u64(out, "live_bytes", "bytes", ctl_space_live(s));
    ctl_report_u64(out, "dead_bytes", "bytes", s->dead_bytes);
    ctl_report_u64(out, "free_bytes", "bytes", s->free_bytes + s->tail_bytes);
}

static void report_counts(struct ctl_report *out, const lrd_u64 *counter)
{
    static const struct {
        enum lrd_counter_id id;
        const char *name, *unit;
    } shown[] = {
        {LRD_C_sets, "sets", "records"},
        {LRD_C_evicted, "evicted", "items"},
        {LRD_C_evicted_unread, "evicted_unread", "items"},
        {LRD_C_expired, "expired", "items"},
        {LRD_C_reset_items, "reset_items", "items"},
        {LRD_C_no_room, "no_room", "items"},
        {LRD_C_ghost_hits, "ghost_hits", "records"},
        {LRD_C_copied_bytes, "copied_bytes", "bytes"},
    };
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
        ctl_report_u64(out, shown[i].name, shown[i].unit, lrd_load_relaxed(&counter[shown[i].id]));
    uint64_t appended = lrd_load_relaxed(&counter[LRD_C_appended_bytes]), copied = lrd_load_relaxed(&counter[LRD_C_copied_bytes]);
    ctl_report_real(out, "write_amplification", "times", appended ? ((double)appended + (double)copied) / (double)appended : 1);
}

static void report_times(struct ctl_report *out, const struct ctl_peek *p, const struct lrd_namespace *n)
{
    uint64_t now_ms = ctl_now_ms(p), reset_ms = lrd_load_relaxed(&n->reset_ms), resets = lrd_load_relaxed(&n->resets);
    ctl_report_u64(out, "default_ttl_ms", "ms", lrd_load_relaxed(&n->default_ttl_ms));
    ctl_report_u64(out, "reset_every_ms", "ms", lrd_load_relaxed(&n->reset_every_ms));
    ctl_report_u64(out, "resets", "times", resets);
    ctl_report_u64(out, "last_reset_ago_ms", "ms", resets != 0 && now_ms > reset_ms ? now_ms - reset_ms : 0);
    ctl_report_u64(out, "longest_reset_ns", "ns", lrd_load_relaxed(&n->reset_ns));
    ctl_report_u64(out, "epoch", "", lrd_load32_relaxed(&n->epoch));
}

static void report_credit(struct ctl_report *out, const struct lrd_reader *r, const struct lrd_namespace *n)
{
    uint64_t bytes, items;
    promised(r, lrd_load32_relaxed(&n->policy) == LRD_POLICY_REFUSE ? lrd_load32_relaxed(&n->credit) : LRD_NO_CREDIT, &bytes, &items);
    ctl_report_u64(out, "credit_bytes", "bytes", bytes);
    ctl_report_u64(out, "credit_items", "items", items);
    ctl_report_u64(out, "largest_bytes", "bytes", lrd_load_relaxed(&n->largest));
}

/* Events ever told, of which the last are still there. */
static void report_feed(struct ctl_report *out, const struct lrd_reader *r, uint32_t ns)
{
    uint32_t entries;
    const struct lrd_feed *f = lrd_feed_of(r, ns, &entries);
    ctl_report_u64(out, "feed_entries", "", entries);
    ctl_report_u64(out, "feed_events", "", f != NULL ? lrd_feed_end(f) : 0);
}

static void report_namespaces(struct ctl_report *out, const struct ctl_peek *p)
{
    struct ctl_arena a;
    ctl_arena_look(&p->r, &a);
    ctl_report_table(out, "namespaces");
    for (uint32_t ns = 0; ns < LRD_NAMESPACES; ns++) {
        const struct lrd_namespace *n = &p->r.namespaces[ns];
        char name[LRD_NAMESPACE_NAME];
        if (!ctl_ns_is_live(&p->r, ns))
            continue;
        ctl_ns_name(&p->r, ns, name);
        ctl_report_row(out);
        ctl_report_text(out, "name", "%s", name);
        ctl_report_text(out, "policy", "%s", lrd_policy_text(lrd_load32_relaxed(&n->policy)));
        report_space(out, n, &a.of[ns]);
        report_counts(out, lrd_ns_counters(&p->r, ns));
        report_times(out, p, n);
        report_feed(out, &p->r, ns);
        report_credit(out, &p->r, n);
    }
}

enum ctl_status ctl_namespaces(const struct ctl_call *call)
{
    struct ctl_peek p;
    enum ctl_status status = ctl_peek_open(&p, call->socket);
    if (status != CTL_OK)
        return status;
    struct ctl_report *out = ctl_report_create();
    report_namespaces(out, &p);
    if (!ctl_report_print(out, call->json)) {
        ctl_error("cannot write to standard output: %s", strerror(errno));
        status = CTL_FAILURE;
    }
    ctl_report_free(out);
    ctl_peek_close(&p);
    return status;
}
