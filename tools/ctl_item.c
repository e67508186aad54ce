/* One item: get, set, delete, and the conditional writes. */
#include "tools/ctl.h"

#include <errno.h>
#include <inttypes.h>
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

/* What cas wants to know, and the rest of it. */
static void print_item(const struct lrd_get *get, uint64_t now_ms)
{
    uint64_t expires_ms = lrd_item_expires_ms(get->head);
    printf("version 0x%08" PRIx32 "%08" PRIx32 " flags %" PRIu32 " size %" PRIu32 " ttl ", lrd_block_word_generation(get->block_word), lrd_slot_location(get->slot),
           lrd_item_flags(get->head), lrd_item_value_len(get->head));
    if (expires_ms == 0)
        puts("-");
    else
        printf("%" PRIu64 "\n", expires_ms > now_ms ? expires_ms - now_ms : 0);
}

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
    if (lrd_table_get(&p->r, &get) == LRD_FOUND) {
        if (call->item)
            print_item(&get, ctl_now_ms(p));
        status = print_value(get.buffer, lrd_item_value_len(get.head));
    }
    free(get.buffer);
    return status;
}

enum ctl_status ctl_get(const struct ctl_call *call) { return ctl_look_up(call, get_item); }

/* ---- writing ---- */

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

/* The value is the last argument. */
static bool value_argument(const struct ctl_call *call, size_t max, struct ctl_bytes *out)
{
    char *text = call->args[call->n_args - 1];
    if (strcmp(text, "-") == 0)
        return read_input(out, max);
    return ctl_argument(call, "value", text, out);
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

/* What a verb does with its key and, if it has one, its value. */
struct write {
    const struct ctl_call *call;
    struct larder *l;
    struct larder_ns *ns;
    struct ctl_bytes key, value;
};

static enum ctl_status with_value(const struct ctl_call *call, bool has_value, enum ctl_status (*write)(const struct write *w))
{
    struct write w = {.call = call};
    if (!ctl_key_argument(call, &w.key))
        return CTL_USAGE;
    enum ctl_status status = open_ns(call, &w.l, &w.ns);
    if (status == CTL_OK) {
        if (!has_value)
            status = write(&w);
        else if (value_argument(call, larder_item_max(w.l), &w.value)) {
            status = write(&w);
            free(w.value.data);
        } else
            status = CTL_USAGE;
        larder_close(w.l);
    }
    free(w.key.data);
    return status;
}

static struct larder_set_options options_of(const struct ctl_call *call)
{
    return (struct larder_set_options){.size = sizeof(struct larder_set_options), .ttl_ms = call->ttl_ms, .flags = call->flags};
}

static enum ctl_status set(const struct write *w)
{
    const struct larder_set_options options = options_of(w->call);
    larder_ticket ticket;
    int r = larder_set(w->ns, w->key.data, w->key.size, w->value.data, w->value.size, &options, &ticket);
    return r == LARDER_OK ? settle(w->call, w->l, ticket) : refused(w->call, w->l, r, w->key.size + w->value.size);
}

enum ctl_status ctl_set(const struct ctl_call *call) { return with_value(call, true, set); }

static enum ctl_status delete(const struct write *w)
{
    size_t before = 0;
    larder_ticket ticket;
    bool miss = larder_get(w->ns, w->key.data, w->key.size, NULL, 0, &before) == LARDER_MISS;
    int r = larder_delete(w->ns, w->key.data, w->key.size, &ticket);
    enum ctl_status status = r == LARDER_OK ? settle(w->call, w->l, ticket) : refused(w->call, w->l, r, w->key.size);
    return status == CTL_OK && miss ? CTL_WARNING : status;
}

enum ctl_status ctl_delete(const struct ctl_call *call) { return with_value(call, false, delete); }

/* ---- conditional writes ---- */

/* That it was not done because of what is there is no failure. The result is known, or nothing was written; only after a second it may still happen. */
static enum ctl_status decided(const struct write *w, int r)
{
    switch (r) {
    case LARDER_OK:
        return CTL_OK;
    case LARDER_MISS:
    case LARDER_EXISTS:
        return CTL_WARNING;
    case LARDER_CHANGED:
        ctl_error("the item has another version; see larderctl get --item");
        return CTL_WARNING;
    case LARDER_OVERFLOW:
        ctl_error("the number would be less than %" PRId64 " or more than %" PRId64, INT64_MIN, INT64_MAX);
        return CTL_FAILURE;
    case LARDER_NOT_A_NUMBER:
        ctl_error("the value is not a decimal number from %" PRId64 " to %" PRId64, INT64_MIN, INT64_MAX);
        return CTL_FAILURE;
    case LARDER_TIMEOUT:
        ctl_error("acknowledged, but not decided after %u ms; it may still happen when the worker goes on (see larderctl --socket %s ping)", VISIBLE_MS,
                  w->call->socket);
        return CTL_FAILURE;
    default:
        return refused(w->call, w->l, r, w->key.size + w->value.size);
    }
}

static enum ctl_status add(const struct write *w)
{
    const struct larder_set_options options = options_of(w->call);
    return decided(w, larder_add(w->ns, w->key.data, w->key.size, w->value.data, w->value.size, &options, NULL));
}

static enum ctl_status replace(const struct write *w)
{
    const struct larder_set_options options = options_of(w->call);
    return decided(w, larder_replace(w->ns, w->key.data, w->key.size, w->value.data, w->value.size, &options, NULL));
}

static enum ctl_status cas(const struct write *w)
{
    const struct larder_set_options options = options_of(w->call);
    uint64_t version;
    if (!ctl_number(w->call->args[1], UINT64_MAX, &version) || version == 0) {
        ctl_error("'%s' is not a version; larderctl get --item shows it", w->call->args[1]);
        return CTL_USAGE;
    }
    return decided(w, larder_cas(w->ns, w->key.data, w->key.size, w->value.data, w->value.size, version, &options, NULL));
}

static enum ctl_status append(const struct write *w)
{
    return decided(w, larder_append(w->ns, w->key.data, w->key.size, w->value.data, w->value.size, NULL, NULL));
}

static enum ctl_status prepend(const struct write *w)
{
    return decided(w, larder_prepend(w->ns, w->key.data, w->key.size, w->value.data, w->value.size, NULL, NULL));
}

static enum ctl_status touch(const struct write *w)
{
    const struct larder_set_options options = options_of(w->call);
    return decided(w, larder_touch(w->ns, w->key.data, w->key.size, &options, NULL));
}

enum ctl_status ctl_add(const struct ctl_call *call) { return with_value(call, true, add); }
enum ctl_status ctl_replace(const struct ctl_call *call) { return with_value(call, true, replace); }
enum ctl_status ctl_cas(const struct ctl_call *call) { return with_value(call, true, cas); }
enum ctl_status ctl_append(const struct ctl_call *call) { return with_value(call, true, append); }
enum ctl_status ctl_prepend(const struct ctl_call *call) { return with_value(call, true, prepend); }
enum ctl_status ctl_touch(const struct ctl_call *call) { return with_value(call, false, touch); }

typedef int (*counting)(struct larder_ns *, const void *key, size_t key_size, int64_t by, const struct larder_incr_options *options, int64_t *number, larder_ticket *ticket);

static enum ctl_status count(const struct write *w, counting by_how_much)
{
    const struct larder_incr_options options = {.size = sizeof options,
                                                .initial = w->call->initial,
                                                .ttl_ms = w->call->ttl_ms,
                                                .flags = w->call->flags,
                                                .how = w->call->create ? LARDER_INCR_CREATE : 0};
    int64_t by = 1, number;
    if (w->call->n_args > 1 && (!ctl_signed(w->call->args[1], &by) || by == INT64_MIN)) {
        ctl_error("'%s' is not a whole number from %" PRId64 " to %" PRId64, w->call->args[1], -INT64_MAX, INT64_MAX);
        return CTL_USAGE;
    }
    int r = by_how_much(w->ns, w->key.data, w->key.size, by, &options, &number, NULL);
    if (r == LARDER_OK && (printf("%" PRId64 "\n", number) < 0 || fflush(stdout) != 0))
        return cannot_write();
    return decided(w, r);
}

static enum ctl_status incr(const struct write *w) { return count(w, larder_incr); }
static enum ctl_status decr(const struct write *w) { return count(w, larder_decr); }

enum ctl_status ctl_incr(const struct ctl_call *call) { return with_value(call, false, incr); }
enum ctl_status ctl_decr(const struct ctl_call *call) { return with_value(call, false, decr); }
