/* The keys of a namespace, as lines or as JSON. The table is walked (shm/walk.h), through SOCKET.peek, so it works beside a worker that hangs as well. */
#include "tools/ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "shm/glob.h"
#include "shm/item.h"
#include "shm/walk.h"

struct keys {
    const struct ctl_call *call;
    const struct ctl_peek *p;
    struct ctl_bytes prefix;
    struct ctl_item item;
    uint32_t ns;
    uint64_t n;
};

static bool is_wanted(const struct keys *k)
{
    const struct ctl_item *item = &k->item;
    const char *match = k->call->match;
    if (item->ns != k->ns || !lrd_item_is_value(item->kind) || (item->expires_ms != 0 && item->expires_ms <= ctl_now_ms(k->p)))
        return false;
    if (k->prefix.size > item->key_len || memcmp(item->data, k->prefix.data, k->prefix.size) != 0)
        return false;
    return match == NULL || lrd_glob_match(match, strlen(match), item->data, item->key_len);
}

static void write_line(const struct keys *k)
{
    ctl_escape(stdout, k->item.data, k->item.key_len, false);
    putchar('\n');
}

/* One object a line; together an array. */
static void write_json(const struct keys *k)
{
    const struct ctl_item *item = &k->item;
    char *key = NULL;
    size_t size;
    FILE *f = open_memstream(&key, &size);
    if (f == NULL)
        return;
    ctl_escape(f, item->data, item->key_len, false);
    fclose(f);
    uint64_t now_ms = ctl_now_ms(k->p);
    json_t *ttl = item->expires_ms == 0 ? json_null() : json_integer(item->expires_ms > now_ms ? (json_int_t)(item->expires_ms - now_ms) : 0);
    json_t *o = json_pack("{s:s, s:I, s:I, s:I, s:o}", "key", key, "key_bytes", (json_int_t)item->key_len, "value_bytes", (json_int_t)item->value_len, "flags",
                          (json_int_t)item->flags, "ttl_left_ms", ttl);
    if (k->n > 0)
        fputs(",\n ", stdout);
    if (o != NULL)
        json_dumpf(o, stdout, JSON_COMPACT);
    json_decref(o);
    free(key);
}

static void write_all(struct keys *k)
{
    const struct lrd_reader *r = &k->p->r;
    const lrd_u64 *at;
    struct lrd_walk w;
    uint64_t budget = UINT64_MAX;
    lrd_walk_begin(r, &w);
    while ((at = lrd_walk_next(r, &w, &budget)) != NULL) {
        if (ctl_item_look(r, at, &k->item, false) != CTL_SLOT_LIVE || !is_wanted(k))
            continue;
        if (k->call->json)
            write_json(k);
        else
            write_line(k);
        k->n++;
    }
}

static enum ctl_status keys(struct keys *k)
{
    ctl_item_init(&k->item, &k->p->r);
    if (k->call->json)
        fputs("[", stdout);
    write_all(k);
    if (k->call->json)
        fputs("]\n", stdout);
    ctl_item_fini(&k->item);
    if (fflush(stdout) == 0 && !ferror(stdout))
        return CTL_OK;
    ctl_error("cannot write to standard output: %s; these are not all keys", strerror(errno));
    return CTL_FAILURE;
}

enum ctl_status ctl_keys(const struct ctl_call *call)
{
    struct ctl_peek p;
    struct keys k = {.call = call, .p = &p};
    if (call->match != NULL && !lrd_glob_ok(call->match, strlen(call->match))) {
        ctl_error("'%s' is not a pattern: it is too long, a [ is not closed, or nothing follows a \\", call->match);
        return CTL_USAGE;
    }
    if (!ctl_argument(call, "prefix", call->prefix != NULL ? call->prefix : "", &k.prefix))
        return CTL_USAGE;
    enum ctl_status status = ctl_peek_open(&p, call->socket);
    if (status == CTL_OK) {
        status = ctl_ns_find(call, &p.r, &k.ns) ? keys(&k) : CTL_FAILURE;
        ctl_peek_close(&p);
    }
    free(k.prefix.data);
    return status;
}
