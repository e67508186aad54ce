/* Says what changes in a namespace, as it does: a line for each event of its change feed. */
#include "tools/ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define AT_ONCE 64u
#define WAIT_MS 1000u

static const char *kind_text(uint32_t kind)
{
    static const char *const text[] = {"?", "set", "delete", "evicted", "block", "reset"};
    return kind < sizeof text / sizeof *text ? text[kind] : text[0];
}

/* For JSON: what stands between quotes. Bytes above 126 as the characters of those numbers, so that nothing is lost. */
static void print_json_bytes(const unsigned char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i] < 32 || bytes[i] > 126 || bytes[i] == '"' || bytes[i] == '\\')
            printf("\\u%04x", bytes[i]);
        else
            putchar(bytes[i]);
}

static bool is_whole(const struct larder_event *e) { return e->key_size > 0 && e->key_size <= LARDER_EVENT_KEY; }

/* A key that does not fit into an entry is named by its hash. */
static void print_text(const struct larder_event *e)
{
    printf("%" PRIu64 "\t%s\t", e->when_ms, kind_text(e->kind));
    if (is_whole(e))
        ctl_escape(stdout, e->key, e->key_size, true);
    else if (e->key_size > 0)
        printf("#%016" PRIx64, e->hash);
    else
        putchar('-');
    printf("\t0x%016" PRIx64 "\n", e->version);
}

static void print_json(const struct larder_event *e)
{
    printf("{\"when_ms\": %" PRIu64 ", \"event\": \"%s\"", e->when_ms, kind_text(e->kind));
    if (is_whole(e)) {
        printf(", \"key\": \"");
        print_json_bytes(e->key, e->key_size);
        putchar('"');
    }
    if (e->key_size > 0)
        printf(", \"key_size\": %" PRIu32 ", \"hash\": \"%016" PRIx64 "\", \"version\": \"0x%016" PRIx64 "\"", e->key_size, e->hash, e->version);
    printf("}\n");
}

static void print_gap(const struct ctl_call *call, int r, uint64_t missed)
{
    if (r == LARDER_OVERTAKEN)
        printf(call->json ? "{\"event\": \"overtaken\", \"missed\": %" PRIu64 "}\n" : "-\tovertaken\t-\t%" PRIu64 "\n", missed);
    else
        printf(call->json ? "{\"event\": \"lost\"}\n" : "-\tlost\t-\t0\n");
}

static enum ctl_status follow(const struct ctl_call *call, struct larder_watch *w)
{
    struct larder_event e[AT_ONCE];
    enum ctl_status status = CTL_OK;
    for (uint64_t left = call->count > 0 ? call->count : UINT64_MAX; left > 0;) {
        size_t got, n = left < AT_ONCE ? (size_t)left : AT_ONCE;
        uint64_t missed;
        e[0].size = sizeof *e;
        int r = larder_watch_next(w, e, n, &got, &missed, WAIT_MS);
        if (r == LARDER_TIMEOUT)
            continue;
        if (r == LARDER_OVERTAKEN || r == LARDER_LOST) {
            print_gap(call, r, missed);
            status = CTL_WARNING;
        } else if (r != LARDER_OK) {
            ctl_error("namespace '%s' at %s: %s", call->ns, call->socket, larder_strerror(r));
            return ctl_result_status(r);
        }
        for (size_t i = 0; i < got; i++)
            (call->json ? print_json : print_text)(&e[i]);
        left -= got;
        if (fflush(stdout) != 0) {
            ctl_error("cannot write to standard output: %s", strerror(errno));
            return CTL_FAILURE;
        }
    }
    return status;
}

enum ctl_status ctl_watch(const struct ctl_call *call)
{
    struct larder *l;
    struct larder_ns *ns;
    struct larder_watch *w;
    enum ctl_status status = ctl_attach(&l, call);
    if (status != CTL_OK)
        return status;
    status = ctl_ns_open(call, l, &ns);
    if (status == CTL_OK) {
        int r = larder_watch_open(ns, &w);
        if (r == LARDER_OK)
            status = follow(call, w);
        else if (r == LARDER_NO_FEED) {
            ctl_error("namespace '%s' at %s has no change feed: make it with feed=N", call->ns, call->socket);
            status = CTL_FAILURE;
        } else {
            ctl_error("namespace '%s' at %s: %s", call->ns, call->socket, larder_strerror(r));
            status = ctl_result_status(r);
        }
    }
    larder_close(l);
    return status;
}
