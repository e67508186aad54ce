/* One item: get, set, delete. */
#include "tools/ctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/hash.h"
#include "shm/table.h"

#define VISIBLE_MS 1000u /* a worker that lives needs microseconds */

static enum ctl_status cannot_write(void)
{
    ctl_error("cannot write to standard output: %s", strerror(errno));
    return CTL_FAILURE;
}

/* ---- get ---- */

static enum ctl_status print_value(const unsigned char *value, size_t size)
{
    fwrite(value, 1, size, stdout);
    if (isatty(STDOUT_FILENO))
        putchar('\n'); /* for the eye; a file or pipe gets the value's bytes and no other */
    return fflush(stdout) == 0 ? CTL_OK : cannot_write();
}

static enum ctl_status get_item(const struct ctl_call *call, const struct ctl_peek *p, const struct ctl_bytes *key)
{
    uint32_t ns;
    if (!ctl_ns_find(call, &p->r, &ns))
        return CTL_FAILURE;
    size_t capacity = p->r.geometry.item_max;
    struct lrd_get get = {
        .key = key->data,
        .key_len = (uint32_t)key->size,
        .ns = ns,
        .hash = lrd_hash(p->r.hash_seed, ns, key->data, key->size),
        .buffer = ctl_alloc(capacity, 1),
        .capacity = capacity,
        .zero_ns = p->zero_ns,
    };
    enum ctl_status status = CTL_WARNING;
    if (lrd_table_get(&p->r, &get) == LRD_FOUND)
        status = print_value(get.buffer, lrd_item_value_len(get.head));
    free(get.buffer);
    return status;
}

enum ctl_status ctl_get(const struct ctl_call *call) { return ctl_look_up(call, get_item); }

/* ---- set, delete ---- */

/* All of standard input, but no more than max + 1 bytes. */
static bool read_input(struct ctl_bytes *out, size_t max)
{
    out->data = ctl_alloc(max + 1, 1);
    out->size = fread(out->data, 1, max + 1, stdin);
    if (!ferror(stdin))
        return true;
    ctl_error("cannot read the value from standard input: %s", strerror(errno));
    free(out->data);
    return false;
}

static bool value_argument(const struct ctl_call *call, size_t max, struct ctl_bytes *out)
{
    if (strcmp(call->args[1], "-") == 0)
        return read_input(out, max);
    return ctl_argument(call, "value", call->args[1], out);
}

/* Waits until other processes see the write. */
static enum ctl_status settle(const struct ctl_call *call, struct larder *l, larder_ticket ticket)
{
    int r = larder_wait(l, ticket, VISIBLE_MS);
    if (r == LARDER_TIMEOUT) {
        ctl_error("acknowledged, but not visible after %u ms; it will be when the worker goes on (see larderctl --socket %s ping)", VISIBLE_MS,
                  call->socket);
        return CTL_WARNING;
    }
    if (r != LARDER_OK)
        ctl_error("%s: %s", call->socket, larder_strerror(r));
    return ctl_result_status(r);
}

static enum ctl_status refused(const struct ctl_call *call, struct larder *l, int r, size_t size)
{
    if (r == -E2BIG)
        ctl_error("key and value together have %zu bytes, items at %s have at most %zu with 16 bytes of header: cut it, or start larderd with more --memory",
                  size, call->socket, larder_item_max(l));
    else if (r == LARDER_BUSY)
        ctl_error("the ring to %s stays full: does the worker live? See larderctl ping", call->socket);
    else if (r == LARDER_FULL)
        ctl_error("namespace '%s' refuses eviction and is full; delete or reset something, or make it larger", call->ns);
    else
        ctl_error("%s: %s", call->socket, larder_strerror(r));
    return ctl_result_status(r);
}

static enum ctl_status set(const struct ctl_call *call, struct larder *l, struct larder_ns *ns, const struct ctl_bytes *key, const struct ctl_bytes *value)
{
    const struct larder_set_options options = {.size = sizeof options, .ttl_ms = call->ttl_ms, .flags = call->flags};
    larder_ticket ticket;
    int r = larder_set(ns, key->data, key->size, value->data, value->size, &options, &ticket);
    return r == LARDER_OK ? settle(call, l, ticket) : refused(call, l, r, key->size + value->size);
}

/* Attaches, and opens the namespace. CTL_OK; anything else: a line was written, and nothing is left open. */
static enum ctl_status open_ns(const struct ctl_call *call, struct larder **l, struct larder_ns **ns)
{
    enum ctl_status status = ctl_attach(l, call);
    if (status != CTL_OK)
        return status;
    status = ctl_ns_open(call, *l, ns);
    if (status != CTL_OK)
        larder_close(*l);
    return status;
}

enum ctl_status ctl_set(const struct ctl_call *call)
{
    struct ctl_bytes key, value;
    struct larder *l;
    struct larder_ns *ns;
    if (!ctl_key_argument(call, &key))
        return CTL_USAGE;
    enum ctl_status status = open_ns(call, &l, &ns);
    if (status == CTL_OK) {
        if (value_argument(call, larder_item_max(l), &value)) {
            status = set(call, l, ns, &key, &value);
            free(value.data);
        } else
            status = CTL_USAGE;
        larder_close(l);
    }
    free(key.data);
    return status;
}

static enum ctl_status delete(const struct ctl_call *call, struct larder *l, struct larder_ns *ns, const struct ctl_bytes *key)
{
    size_t before = 0;
    larder_ticket ticket;
    bool miss = larder_get(ns, key->data, key->size, NULL, 0, &before) == LARDER_MISS;
    int r = larder_delete(ns, key->data, key->size, &ticket);
    enum ctl_status status = r == LARDER_OK ? settle(call, l, ticket) : refused(call, l, r, key->size);
    return status == CTL_OK && miss ? CTL_WARNING : status;
}

enum ctl_status ctl_delete(const struct ctl_call *call)
{
    struct ctl_bytes key;
    struct larder *l;
    struct larder_ns *ns;
    if (!ctl_key_argument(call, &key))
        return CTL_USAGE;
    enum ctl_status status = open_ns(call, &l, &ns);
    if (status == CTL_OK) {
        status = delete(call, l, ns, &key);
        larder_close(l);
    }
    free(key.data);
    return status;
}
