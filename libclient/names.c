/* Names: the namespaces a handle knows.
 *
 * A handle numbers the names that it opened: 0 is "default", 62 more at most. A number stays its name's for the life of the handle, whichever daemon it comes to; where
 * the namespace of that name is in the segment of an attachment stands in the attachment's ns_index[number]. So a get finds its namespace by one load, and a daemon that
 * is replaced by another one concerns nobody but who publishes the new attachment: all names are looked up there. The same in a forked child.
 *
 * ns_index[number] is LRD_NS_NOWHERE when there is no such namespace. That one is never live: it has no items, so gets miss without a branch of their own, and writes see its
 * state. Namespaces come while a segment lives and never go, so only nowhere is ever looked up again: by writes, by gets that miss, by larder_ns_open(). It costs a look
 * at 63 states, and needs no lock: whoever finds the name stores the same index.
 *
 * A process may be forked between any two stores here: a child sees the names up to n_ns, which is stored last.
 */
#include "libclient/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shm/namespace.h"

/* Release: publishes what lrd_ns_find() saw; pairs with the acquire in lrd_ns_index(). */
static void settle(struct lrd_attachment *at, uint32_t number, uint32_t index)
{
    lrd_store_relaxed(&at->ns_seed[number], lrd_hash_seed(at->r.hash_seed, index));
    lrd_store32_release(&at->ns_index[number], index);
}

void lrd_ns_look_up(const struct larder *h, struct lrd_attachment *at)
{
    uint32_t n = lrd_load32_relaxed(&h->n_ns); /* changes under the mutex only */
    for (uint32_t i = 0; i < LRD_NAMESPACES; i++)
        settle(at, i, i == 0 ? 0 : i < n ? lrd_ns_find(&at->r, h->ns[i]->name) : LRD_NS_NOWHERE); /* published with the attachment */
}

int lrd_ns_seek(struct larder_ns *ns, struct lrd_attachment *at, uint32_t *index)
{
    if (ns->number != 0 && (*index = lrd_ns_find(&at->r, ns->name)) != LRD_NS_NOWHERE) {
        settle(at, ns->number, *index);
        return 0;
    }
    /* A segment that was replaced by zeros has no namespace at all. */
    return lrd_current(ns->handle, ns->here) == at ? LARDER_NO_NAMESPACE : LRD_ELSEWHERE;
}

void lrd_ns_close_all(struct larder *h)
{
    for (uint32_t i = 0; i < lrd_load32_relaxed(&h->n_ns); i++)
        h->ns[i]->here = h->here;
}

void lrd_ns_free_all(struct larder *h)
{
    for (uint32_t i = 1; i < lrd_load32_relaxed(&h->n_ns); i++)
        free(h->ns[i]);
}

/* ---- opening ---- */

static struct larder_ns *known(const struct larder *h, const char *name)
{
    for (uint32_t i = 0; i < lrd_load32_relaxed(&h->n_ns); i++)
        if (strcmp(h->ns[i]->name, name) == 0)
            return h->ns[i];
    return NULL;
}

static int add(struct larder *h, const char *name, struct larder_ns **out)
{
    uint32_t n = lrd_load32_relaxed(&h->n_ns);
    if (n == LRD_NS_NOWHERE)
        return -EMFILE;
    struct larder_ns *ns = calloc(1, sizeof *ns);
    if (ns == NULL)
        return -ENOMEM;
    *ns = (struct larder_ns){.handle = h, .here = h->here, .number = n};
    memcpy(ns->name, name, strlen(name));
    h->ns[n] = ns;
    lrd_store32_release(&h->n_ns, n + 1);
    *out = ns;
    return 0;
}

/* Under the mutex. */
static int open_here(struct larder *h, const char *name, struct larder_ns **out)
{
    struct lrd_attachment *at = atomic_load_explicit(&h->here->at, memory_order_relaxed); /* changes under the mutex only */
    struct larder_ns *ns = known(h, name);
    if (ns == &h->default_ns) {
        *out = ns;
        return 0;
    }
    uint32_t index = lrd_ns_find(&at->r, name);
    if (index == LRD_NS_NOWHERE)
        return LARDER_NO_NAMESPACE;
    int r = ns != NULL ? 0 : add(h, name, &ns);
    if (r != 0)
        return r;
    settle(at, ns->number, index);
    *out = ns;
    return 0;
}

int larder_ns_open(struct larder *h, const char *name, struct larder_ns **out)
{
    if (out == NULL)
        return -EINVAL;
    *out = NULL;
    if (h == NULL || name == NULL || !lrd_ns_name_ok(name))
        return -EINVAL;
    for (;;) {
        struct lrd_attachment *at = lrd_current(h, h->here);
        if (at == NULL)
            return lrd_no_attachment(h);
        pthread_mutex_lock(&h->here->mutex);
        int r = open_here(h, name, out);
        pthread_mutex_unlock(&h->here->mutex);
        /* A daemon that is gone does not have the last word. */
        if (r != LARDER_NO_NAMESPACE || lrd_silence_ms(at, lrd_clock_segment_ms(at->zero_ns)) <= LRD_SUSPICIOUS_MS || !lrd_renew(h, at))
            return r;
    }
}

/* ---- making and resetting: requests ---- */

static int spec_make(struct lrd_ns_spec *spec, const char *name, const struct larder_ns_options *options)
{
    *spec = (struct lrd_ns_spec){.policy = LRD_POLICY_EVICT};
    memcpy(spec->name, name, strlen(name));
    if (options == NULL)
        return 0;
    if (options->size != sizeof *options || options->policy >= LRD_N_POLICIES || options->flags != 0 || options->reserved != 0 || options->default_ttl_ms < LARDER_TTL_NONE ||
        options->default_ttl_ms > (int64_t)LRD_EXPIRES_MAX || (options->max_bytes != 0 && options->max_bytes < options->min_bytes))
        return -EINVAL;
    bool refuses = options->policy == LARDER_REFUSE;
    if (refuses && (options->min_bytes == 0 || (options->max_bytes != 0 && options->max_bytes != options->min_bytes)))
        return -EINVAL; /* what it may have must be there */
    spec->policy = options->policy;
    spec->min_bytes = options->min_bytes;
    spec->max_bytes = refuses ? options->min_bytes : options->max_bytes;
    spec->default_ttl_ms = options->default_ttl_ms == LARDER_TTL_NONE ? 0 : (uint64_t)options->default_ttl_ms;
    spec->reset_every_ms = options->reset_every_ms;
    spec->feed_entries = options->feed_entries;
    return 0;
}
static_assert((int)LARDER_EVICT == (int)LRD_POLICY_EVICT && (int)LARDER_FIFO == (int)LRD_POLICY_FIFO && (int)LARDER_REFUSE == (int)LRD_POLICY_REFUSE, "one list");

int larder_ns_create(struct larder *h, const char *name, const struct larder_ns_options *options, struct larder_ns **out)
{
    if (out == NULL)
        return -EINVAL;
    *out = NULL;
    struct lrd_ns_spec spec;
    if (h == NULL || name == NULL || !lrd_ns_name_ok(name) || spec_make(&spec, name, options) != 0)
        return -EINVAL;
    const struct lrd_request request = {.kind = LRD_RECORD_NS_CREATE, .value = &spec, .value_len = sizeof spec};
    int r;
    do {
        struct lrd_attachment *at = lrd_current(h, h->here);
        r = at == NULL ? lrd_no_attachment(h) : lrd_request(h, at, &request);
    } while (r == LRD_ELSEWHERE);
    return r != 0 ? r : larder_ns_open(h, name, out);
}

int larder_ns_reset(struct larder_ns *ns)
{
    if (ns == NULL)
        return -EINVAL;
    int r;
    do {
        struct lrd_attachment *at = lrd_current(ns->handle, ns->here);
        if (at == NULL)
            return lrd_no_attachment(ns->handle);
        struct lrd_request request = {.kind = LRD_RECORD_NS_RESET};
        r = lrd_ns_live(ns, at, &request.ns);
        if (r == 0)
            r = lrd_request(ns->handle, at, &request);
    } while (r == LRD_ELSEWHERE);
    return r;
}
