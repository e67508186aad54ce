/* Making namespaces: the same code for a segment, where a reader may look on, and for a plan. */
#include <stdarg.h>
#include <stdio.h>

#include "shm/feed.h"
#include "shm/namespace.h"
#include "shm/units.h"

/* Where namespaces are made, and out of what. */
struct place {
    struct lrd_namespace *all;
    uint32_t n_blocks;
    uint32_t block_shift;
    uint32_t feed_pages;
    char *why;
    size_t why_bytes;
};

/* What a spec comes to in blocks. */
struct quota {
    uint64_t min, max;
};

__attribute__((format(printf, 4, 5))) static enum lrd_answer say(const struct place *p, const struct lrd_ns_spec *spec, enum lrd_answer answer, const char *format, ...)
{
    va_list args;
    if (p->why_bytes == 0)
        return answer;
    size_t n = (size_t)snprintf(p->why, p->why_bytes, "%s: ", spec->name);
    if (n < p->why_bytes) {
        va_start(args, format);
        vsnprintf(p->why + n, p->why_bytes - n, format, args);
        va_end(args);
    }
    return answer;
}

static bool is_live(const struct lrd_namespace *n) { return lrd_load32_relaxed(&n->state) == LRD_NS_LIVE; } /* relaxed: this thread stores it */

static uint32_t promisable(uint32_t n_blocks) { return n_blocks > LRD_SPARE_BLOCKS ? n_blocks - LRD_SPARE_BLOCKS : 0; }

/* ---- whether it can be ---- */

static enum lrd_answer check(const struct place *p, const struct lrd_ns_spec *spec)
{
    char quoted[LRD_NAMESPACE_NAME];
    if (!lrd_ns_name_ok(spec->name)) {
        if (p->why_bytes > 0) {
            snprintf(quoted, sizeof quoted, "%.*s", (int)sizeof quoted - 1, spec->name);
            snprintf(p->why, p->why_bytes, "\"%s\" is no name of a namespace", lrd_quote(quoted, quoted, sizeof quoted));
        }
        return LRD_ANSWER_MALFORMED;
    }
    if (spec->policy >= LRD_N_POLICIES)
        return say(p, spec, LRD_ANSWER_MALFORMED, "there is no policy %u", spec->policy);
    if (spec->default_ttl_ms > LRD_NS_MS_MAX || spec->reset_every_ms > LRD_NS_MS_MAX)
        return say(p, spec, LRD_ANSWER_MALFORMED, "a time is longer than 3650 days");
    if (spec->feed_entries > LRD_FEED_MOST)
        return say(p, spec, LRD_ANSWER_MALFORMED, "a change feed has at most %u entries", LRD_FEED_MOST);
    if (spec->max_bytes != 0 && spec->min_bytes > spec->max_bytes)
        return say(p, spec, LRD_ANSWER_MALFORMED, "its minimum is more than its maximum");
    if (spec->policy == LRD_POLICY_REFUSE && (spec->min_bytes == 0 || (spec->max_bytes != 0 && spec->max_bytes != spec->min_bytes)))
        return say(p, spec, LRD_ANSWER_MALFORMED, "a namespace that refuses eviction has a minimum, and its maximum is the same");
    return LRD_ANSWER_OK;
}

static struct quota round_to_blocks(const struct place *p, const struct lrd_ns_spec *spec)
{
    uint64_t below = (UINT64_C(1) << p->block_shift) - 1, most = p->n_blocks;
    uint64_t min = (spec->min_bytes >> p->block_shift) + ((spec->min_bytes & below) != 0);
    uint64_t max = spec->max_bytes == 0 ? most : spec->max_bytes >> p->block_shift;
    if (spec->policy == LRD_POLICY_REFUSE)
        return (struct quota){min, min};
    return (struct quota){min, max < most ? max : most};
}

/* self: its index if it is there already, else LRD_NS_NOWHERE. */
static enum lrd_answer check_quota(const struct place *p, const struct lrd_ns_spec *spec, struct quota q, uint32_t self)
{
    char a[16], b[16], c[24];
    uint64_t most = promisable(p->n_blocks), taken = 0;
    for (uint32_t ns = 0; ns < LRD_NS_NOWHERE; ns++)
        if (ns != self && is_live(&p->all[ns]))
            taken += lrd_load_relaxed(&p->all[ns].min_blocks);
    uint64_t left = taken < most ? most - taken : 0;
    lrd_size_text((uint64_t)p->n_blocks << p->block_shift, b);
    if (q.min > left)
        return say(p, spec, LRD_ANSWER_NO_QUOTA, "a minimum of %s does not fit: the arena has %s, and %s of it at most can still be set apart", lrd_size_text(spec->min_bytes, a), b,
                   lrd_size_exact_text(left << p->block_shift, c));
    lrd_size_text(UINT64_C(1) << p->block_shift, b);
    lrd_size_exact_text((uint64_t)LRD_NS_BLOCKS_LEAST << p->block_shift, c);
    if (q.max < LRD_NS_BLOCKS_LEAST)
        return say(p, spec, LRD_ANSWER_NO_QUOTA, "%s is too little: blocks have %s, and a namespace may have at least four: give it %s or more",
                   lrd_size_text(spec->max_bytes != 0 ? spec->max_bytes : spec->min_bytes, a), b, c);
    if (q.min > q.max)
        return say(p, spec, LRD_ANSWER_NO_QUOTA, "in whole blocks of %s its minimum is %llu of them and its maximum %llu: make both a multiple of that", b,
                   (unsigned long long)q.min, (unsigned long long)q.max);
    return LRD_ANSWER_OK;
}

/* ---- its feed ---- */

/* Namespaces are never dropped: what lies behind the last feed is free, and was never written to. self as above. */
static enum lrd_answer place_feed(const struct place *p, const struct lrd_ns_spec *spec, uint32_t self, bool by_client, uint64_t *feed)
{
    char a[16], b[24];
    uint32_t entries = lrd_feed_round(spec->feed_entries);
    uint64_t pages = lrd_feed_pages(entries), end = 0, of_clients = 0;
    *feed = 0;
    if (entries == 0)
        return LRD_ANSWER_OK;
    for (uint32_t ns = 0; ns < LRD_NS_NOWHERE; ns++) {
        uint64_t word = lrd_load_relaxed(&p->all[ns].feed);
        if (ns == self || !is_live(&p->all[ns]) || word == 0)
            continue;
        uint64_t n = lrd_feed_pages(lrd_feed_entries(word)), last = lrd_feed_page(word) + n;
        end = last > end ? last : end;
        of_clients += lrd_load_relaxed(&p->all[ns].by_client) != 0 ? n : 0;
    }
    uint64_t left = p->feed_pages > end ? p->feed_pages - end : 0, share = p->feed_pages / LRD_FEED_CLIENTS_PART;
    if (by_client && share < of_clients + left)
        left = share > of_clients ? share - of_clients : 0;
    if (pages > left)
        return say(p, spec, LRD_ANSWER_NO_QUOTA, "a change feed of %u entries takes %s, and %s are left for it: raise --feeds", entries, lrd_size_text(pages * LRD_PAGE, a),
                   lrd_size_exact_text(left * LRD_PAGE, b));
    *feed = lrd_feed_make(entries, (uint32_t)end);
    return LRD_ANSWER_OK;
}

/* An account that no namespace has; LRD_NO_CREDIT: all are taken. self as above. */
static uint32_t free_account(const struct place *p, uint32_t self)
{
    uint32_t taken = 0, account = 0;
    for (uint32_t ns = 0; ns < LRD_NS_NOWHERE; ns++)
        if (ns != self && is_live(&p->all[ns]) && lrd_load32_relaxed(&p->all[ns].credit) < LRD_CREDITS)
            taken |= 1u << lrd_load32_relaxed(&p->all[ns].credit);
    while (account < LRD_CREDITS && (taken >> account & 1) != 0)
        account++;
    return account; /* LRD_NO_CREDIT is LRD_CREDITS */
}

static enum lrd_answer take_account(const struct place *p, const struct lrd_ns_spec *spec, uint32_t self, uint32_t *account)
{
    *account = LRD_NO_CREDIT;
    if (spec->policy != LRD_POLICY_REFUSE)
        return LRD_ANSWER_OK;
    *account = free_account(p, self);
    if (*account == LRD_NO_CREDIT)
        return say(p, spec, LRD_ANSWER_TOO_MANY, "there are %u namespaces that refuse eviction, and there cannot be more", LRD_CREDITS);
    return LRD_ANSWER_OK;
}

/* ---- making ---- */

static void fill(struct lrd_namespace *n, const struct lrd_ns_spec *spec, struct quota q, uint32_t account, uint64_t feed)
{
    lrd_store_relaxed(&n->feed, feed);
    lrd_store_relaxed(&n->default_ttl_ms, spec->default_ttl_ms);
    lrd_store32_relaxed(&n->policy, spec->policy);
    lrd_store32_relaxed(&n->credit, account);
    lrd_store_relaxed(&n->largest, 0);
    lrd_store_relaxed(&n->min_blocks, q.min);
    lrd_store_relaxed(&n->max_blocks, q.max);
    lrd_store_relaxed(&n->reset_every_ms, spec->reset_every_ms);
    lrd_store_relaxed(&n->resets, 0);
    lrd_store_relaxed(&n->reset_ms, 0);
    lrd_store_relaxed(&n->reset_ns, 0);
}

static void make(struct lrd_namespace *n, const struct lrd_ns_spec *spec, struct quota q, uint32_t account, uint64_t feed, bool by_client)
{
    memset(n->name, 0, sizeof n->name);
    memcpy(n->name, spec->name, strlen(spec->name));
    fill(n, spec, q, account, feed);
    lrd_store_relaxed(&n->by_client, by_client);
    /* An index that was used before has items of that life in the arena: they are of an older epoch. 0 is nobody's. */
    uint32_t epoch = lrd_load32_relaxed(&n->epoch) + 1;
    lrd_store32_relaxed(&n->epoch, epoch != 0 ? epoch : 1);
    /* Publishes all of the above; pairs with the acquire in lrd_ns_find(). */
    lrd_store32_release(&n->state, LRD_NS_LIVE);
}

static uint32_t find(const struct place *p, const char *name)
{
    struct lrd_reader r = {.namespaces = p->all};
    return lrd_ns_find(&r, name);
}

static bool is_same(const struct lrd_namespace *n, const struct lrd_ns_spec *spec, struct quota q)
{
    return lrd_load32_relaxed(&n->policy) == spec->policy && lrd_load_relaxed(&n->min_blocks) == q.min && lrd_load_relaxed(&n->max_blocks) == q.max &&
           lrd_load_relaxed(&n->default_ttl_ms) == spec->default_ttl_ms && lrd_load_relaxed(&n->reset_every_ms) == spec->reset_every_ms &&
           lrd_feed_entries(lrd_load_relaxed(&n->feed)) == lrd_feed_round(spec->feed_entries);
}

static uint32_t free_index(const struct place *p)
{
    uint32_t ns = 0;
    while (ns < LRD_NS_NOWHERE && is_live(&p->all[ns]))
        ns++;
    return ns;
}

/* limit: what clients may make in all, or NULL for who may make any. */
static enum lrd_answer add(const struct place *p, const struct lrd_ns_spec *spec, const uint32_t *limit, uint32_t *ns)
{
    uint32_t account;
    uint64_t feed;
    enum lrd_answer answer = check(p, spec);
    if (answer != LRD_ANSWER_OK)
        return answer;
    struct quota q = round_to_blocks(p, spec);
    *ns = find(p, spec->name);
    if (*ns != LRD_NS_NOWHERE)
        return is_same(&p->all[*ns], spec, q) ? LRD_ANSWER_OK : say(p, spec, LRD_ANSWER_EXISTS, "it is there, and was made differently");
    const struct lrd_reader r = {.namespaces = p->all};
    if (limit != NULL && !lrd_ns_client_may_add(&r, spec, *limit))
        return say(p, spec, LRD_ANSWER_DENIED, "clients of other users may make %u namespaces, without a minimum and not refusing eviction", *limit);
    answer = check_quota(p, spec, q, LRD_NS_NOWHERE);
    if (answer == LRD_ANSWER_OK)
        answer = take_account(p, spec, LRD_NS_NOWHERE, &account);
    if (answer == LRD_ANSWER_OK)
        answer = place_feed(p, spec, LRD_NS_NOWHERE, limit != NULL, &feed);
    if (answer != LRD_ANSWER_OK)
        return answer;
    uint32_t at = free_index(p);
    if (at == LRD_NS_NOWHERE)
        return say(p, spec, LRD_ANSWER_TOO_MANY, "there are %u namespaces, and there cannot be more", LRD_NS_NOWHERE);
    make(&p->all[at], spec, q, account, feed, limit != NULL);
    *ns = at;
    return LRD_ANSWER_OK;
}

static struct place place_of(struct lrd_store *s, char *why, size_t why_bytes)
{
    return (struct place){.all = s->namespaces, .n_blocks = s->r.n_blocks, .block_shift = s->r.block_shift, .feed_pages = s->r.geometry.feed_pages, .why = why, .why_bytes = why_bytes};
}

enum lrd_answer lrd_ns_add(struct lrd_store *s, const struct lrd_ns_spec *spec, uint32_t *ns, char *why, size_t why_bytes)
{
    struct place p = place_of(s, why, why_bytes);
    return add(&p, spec, NULL, ns);
}

enum lrd_answer lrd_ns_add_for_client(struct lrd_store *s, const struct lrd_ns_spec *spec, uint32_t limit, uint32_t *ns, char *why, size_t why_bytes)
{
    struct place p = place_of(s, why, why_bytes);
    return add(&p, spec, &limit, ns);
}

/* ---- at start ---- */

void lrd_ns_format(struct lrd_namespace all[LRD_NAMESPACES], uint32_t n_blocks)
{
    const struct lrd_ns_spec spec = {.name = "default"};
    make(&all[0], &spec, (struct quota){0, n_blocks}, LRD_NO_CREDIT, 0, false);
}

static enum lrd_answer change_default(const struct place *p, const struct lrd_ns_spec *spec)
{
    uint32_t account;
    uint64_t feed;
    struct quota q = round_to_blocks(p, spec);
    enum lrd_answer answer = check(p, spec);
    if (answer == LRD_ANSWER_OK)
        answer = check_quota(p, spec, q, 0);
    if (answer == LRD_ANSWER_OK)
        answer = take_account(p, spec, 0, &account);
    if (answer == LRD_ANSWER_OK)
        answer = place_feed(p, spec, 0, false, &feed);
    if (answer == LRD_ANSWER_OK)
        fill(&p->all[0], spec, q, account, feed);
    return answer;
}

static enum lrd_answer configure(const struct place *p, const struct lrd_ns_spec *specs, uint32_t n_specs)
{
    for (uint32_t i = 0; i < n_specs; i++) {
        uint32_t ns;
        bool is_default = strncmp(specs[i].name, "default", LRD_NAMESPACE_NAME) == 0;
        enum lrd_answer answer = is_default ? change_default(p, &specs[i]) : add(p, &specs[i], NULL, &ns);
        if (answer != LRD_ANSWER_OK)
            return answer;
    }
    return LRD_ANSWER_OK;
}

enum lrd_answer lrd_ns_configure(struct lrd_store *s, const struct lrd_ns_spec *specs, uint32_t n_specs, char *why, size_t why_bytes)
{
    struct place p = place_of(s, why, why_bytes);
    if (lrd_load_relaxed(&s->header->worker_count) != 0) {
        if (why_bytes > 0)
            snprintf(why, why_bytes, "the segment is in use");
        return LRD_ANSWER_DENIED;
    }
    return configure(&p, specs, n_specs);
}

enum lrd_answer lrd_ns_plan(const struct lrd_geometry *g, const struct lrd_ns_spec *specs, uint32_t n_specs, struct lrd_namespace all[LRD_NAMESPACES], char *why,
                            size_t why_bytes)
{
    struct place p = {.all = all, .n_blocks = g->n_blocks, .block_shift = g->block_shift, .feed_pages = g->feed_pages, .why = why, .why_bytes = why_bytes};
    memset(all, 0, LRD_NAMESPACES * sizeof *all);
    lrd_ns_format(all, g->n_blocks);
    return configure(&p, specs, n_specs);
}
