/* Statistics as one JSON object, without a library for it: numbers, and names that need no quoting (lrd_ns_name_ok(); what is none is not printed).
 *
 *   {"segment": {...}, "handle": {...}, "latency_ns": {"get": {"count": n, "p50": n, ...}, ...}, "namespaces": [{"name": "default", ...}, ...]}
 *
 * A member is one line in one of the lists below. What was not timed has a count of 0 and no other figure.
 */
#include "libclient/client.h"

#include <errno.h>
#include <string.h>

#include "shm/latency.h"
#include "shm/namespace.h"

/* Counts what is needed, and keeps what fits. */
struct json {
    char *buffer;
    size_t capacity;
    size_t n;
    bool more; /* something stands before it in the same object or array */
};

static void put(struct json *j, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++, j->n++)
        if (j->n + 1 < j->capacity)
            j->buffer[j->n] = text[i];
}

static void put_text(struct json *j, const char *text) { put(j, text, strlen(text)); }

static void put_uint(struct json *j, uint64_t x)
{
    char digits[20];
    size_t i = sizeof digits;
    do {
        digits[--i] = (char)('0' + x % 10);
        x /= 10;
    } while (x > 0);
    put(j, digits + i, sizeof digits - i);
}

static void put_string(struct json *j, const char *text)
{
    put_text(j, "\"");
    put_text(j, text);
    put_text(j, "\"");
}

/* name NULL: in an array, or the whole. */
static void begin(struct json *j, const char *name)
{
    if (j->more)
        put_text(j, ", ");
    if (name != NULL) {
        put_string(j, name);
        put_text(j, ": ");
    }
    j->more = true;
}

static void open_with(struct json *j, const char *name, const char *bracket)
{
    begin(j, name);
    put_text(j, bracket);
    j->more = false;
}

static void close_with(struct json *j, const char *bracket)
{
    put_text(j, bracket);
    j->more = true;
}

static void add_uint(struct json *j, const char *name, uint64_t x)
{
    begin(j, name);
    put_uint(j, x);
}

static void add_string(struct json *j, const char *name, const char *text)
{
    begin(j, name);
    put_string(j, text);
}

/* ---- what is in it ---- */

#define ADD(field) add_uint(j, #field, s->field)

static void add_segment(struct json *j, const struct larder_stats *s)
{
    open_with(j, "segment", "{");
    ADD(segment_bytes);
    ADD(table_bytes);
    ADD(arena_bytes);
    ADD(live_items);
    ADD(live_bytes);
    ADD(slots);
    ADD(slots_used);
    ADD(sets);
    ADD(deletes);
    ADD(evicted);
    ADD(no_room);
    ADD(silence_ms);
    ADD(worker_count);
    close_with(j, "}");
}

static void add_handle(struct json *j, const struct larder_stats *s)
{
    open_with(j, "handle", "{");
    ADD(gets);
    ADD(hits);
    ADD(restarts);
    add_uint(j, "sets", s->own_sets);
    add_uint(j, "deletes", s->own_deletes);
    ADD(busy);
    ADD(lines);
    ADD(own_reads);
    ADD(diverted);
    close_with(j, "}");
}

static const char *const op_names[LARDER_OPS] = {"get", "get_many", "set", "result", "wait", "view", "lease", "scan"};

static const struct {
    const char *name;
    double part;
} quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}, {"p9999", 0.9999}, {"max", 1}};

static void add_latency(struct json *j, const char *name, const struct lrd_latency *l)
{
    uint64_t count = lrd_latency_count(l);
    open_with(j, name, "{");
    add_uint(j, "count", count);
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles && count > 0; i++)
        add_uint(j, quantiles[i].name, lrd_latency_quantile(l, quantiles[i].part, count));
    if (count > 0)
        add_uint(j, "sum", lrd_load_relaxed(&l->sum_ns));
    close_with(j, "}");
}

static void add_latencies(struct json *j, const struct lrd_lane *lane)
{
    open_with(j, "latency_ns", "{");
    for (unsigned op = 0; op < LARDER_OPS; op++)
        add_latency(j, op_names[op], &lane->latency[op]);
    close_with(j, "}");
}

static void add_namespace(struct json *j, const char *name, const struct larder_ns_stats *s)
{
    open_with(j, NULL, "{");
    add_string(j, "name", name);
    add_string(j, "policy", lrd_policy_text(s->policy));
    ADD(live_items);
    ADD(live_bytes);
    ADD(blocks);
    ADD(min_blocks);
    ADD(max_blocks);
    ADD(block_bytes);
    ADD(sets);
    ADD(overwrites);
    ADD(deletes);
    ADD(delete_misses);
    ADD(evicted);
    ADD(evicted_unread);
    ADD(expired);
    ADD(reset_items);
    ADD(no_room);
    ADD(resets);
    ADD(epoch);
    close_with(j, "}");
}

static void add_namespaces(struct json *j, const struct lrd_reader *r)
{
    struct larder_ns_stats all[LRD_NAMESPACES];
    lrd_ns_stats_all(r, all);
    open_with(j, "namespaces", "[");
    for (uint32_t ns = 0; ns < LRD_NS_NOWHERE; ns++) {
        char name[LRD_NAMESPACE_NAME];
        /* Acquire: pairs with the release in make() of namespace_make.c. */
        if (lrd_load32_acquire(&r->namespaces[ns].state) != LRD_NS_LIVE)
            continue;
        memcpy(name, r->namespaces[ns].name, sizeof name); /* looked at, then used: the segment is another process's */
        if (lrd_ns_name_ok(name))
            add_namespace(j, name, &all[ns]);
    }
    close_with(j, "]");
}

int larder_stats_json(struct larder *h, char *buffer, size_t capacity, size_t *size)
{
    if (size != NULL)
        *size = 0;
    if (h == NULL || (buffer == NULL && capacity != 0))
        return -EINVAL;
    if (capacity > 0)
        buffer[0] = '\0';
    struct lrd_attachment *at = lrd_current(h, h->here);
    if (at == NULL)
        return lrd_no_attachment(h);
    struct larder_stats stats = {.size = sizeof stats};
    lrd_stats_of(h, at, &stats);
    struct json j = {.buffer = buffer, .capacity = capacity};
    open_with(&j, NULL, "{");
    add_segment(&j, &stats);
    add_handle(&j, &stats);
    add_latencies(&j, at->ring.lane);
    add_namespaces(&j, &at->r);
    close_with(&j, "}");
    if (capacity > 0)
        buffer[j.n < capacity ? j.n : capacity - 1] = '\0';
    if (size != NULL)
        *size = j.n;
    return j.n < capacity ? 0 : LARDER_TOO_SMALL;
}
