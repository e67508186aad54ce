/* Namespaces as text, and what a client may ask for. */
#include "shm/namespace.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "shm/feed.h"
#include "shm/units.h"

static const char *const policies[LRD_N_POLICIES] = {"evict", "fifo", "refuse"};

const char *lrd_policy_text(uint32_t policy) { return policy < LRD_N_POLICIES ? policies[policy] : "?"; }

bool lrd_ns_client_may_add(const struct lrd_reader *r, const struct lrd_ns_spec *spec, uint32_t limit)
{
    uint32_t made = 0;
    for (uint32_t ns = 0; ns < LRD_NS_NOWHERE; ns++) {
        const struct lrd_namespace *n = &r->namespaces[ns];
        /* Acquire: pairs with the release in make(). */
        made += lrd_load32_acquire(&n->state) == LRD_NS_LIVE && lrd_load_relaxed(&n->by_client) != 0;
    }
    return spec->min_bytes == 0 && spec->policy != LRD_POLICY_REFUSE && made < limit;
}

/* ---- parsing ---- */

enum word { WORD_POLICY, WORD_MIN, WORD_MAX, WORD_TTL, WORD_RESET_EVERY, WORD_FEED, N_WORDS };

static const char *const words[N_WORDS] = {"policy", "min", "max", "ttl", "reset-every", "feed"};

#define PART_BYTES 64u /* of an option; none that is right is longer */

struct parse {
    struct lrd_ns_spec *spec;
    bool said[N_WORDS];
    char *why;
    size_t why_bytes;
};

__attribute__((format(printf, 2, 3))) static bool complain(const struct parse *p, const char *format, ...)
{
    va_list args;
    if (p->why_bytes == 0)
        return false;
    size_t n = p->spec->name[0] != '\0' ? (size_t)snprintf(p->why, p->why_bytes, "%s: ", p->spec->name) : 0;
    if (n >= p->why_bytes)
        return false;
    va_start(args, format);
    vsnprintf(p->why + n, p->why_bytes - n, format, args);
    va_end(args);
    return false;
}

static bool take_name(struct parse *p, const char *text, size_t n)
{
    char quoted[LRD_NAMESPACE_NAME + 8], name[LRD_NAMESPACE_NAME + 8];
    snprintf(name, sizeof name, "%.*s", (int)(n < sizeof name ? n : sizeof name), text);
    if (!lrd_ns_name_ok(name))
        return complain(p, "\"%s\" is no name of a namespace: say 1 to 31 of A-Z a-z 0-9 . _ -, the first neither . nor -", lrd_quote(name, quoted, sizeof quoted));
    memcpy(p->spec->name, name, n);
    return true;
}

static bool take_policy(struct parse *p, const char *value)
{
    for (uint32_t i = 0; i < LRD_N_POLICIES; i++) {
        if (strcmp(value, policies[i]) == 0) {
            p->spec->policy = i;
            return true;
        }
    }
    return false;
}

static bool take_time(const char *value, uint64_t *ms) { return lrd_ms_parse(value, ms) && *ms > 0 && *ms <= LRD_NS_MS_MAX; }

static bool take_entries(const char *value, uint32_t *entries)
{
    char *end;
    if (*value < '0' || *value > '9')
        return false;
    unsigned long n = strtoul(value, &end, 10);
    *entries = (uint32_t)n;
    return *end == '\0' && n > 0 && n <= LRD_FEED_MOST;
}

static bool take_value(struct parse *p, enum word word, const char *value)
{
    switch (word) {
    case WORD_POLICY:
        return take_policy(p, value);
    case WORD_MIN:
        return lrd_size_parse(value, &p->spec->min_bytes);
    case WORD_MAX:
        return lrd_size_parse(value, &p->spec->max_bytes);
    case WORD_TTL:
        return take_time(value, &p->spec->default_ttl_ms);
    case WORD_RESET_EVERY:
        return take_time(value, &p->spec->reset_every_ms);
    case WORD_FEED:
        return take_entries(value, &p->spec->feed_entries);
    case N_WORDS:
        break;
    }
    return false;
}

static const char *expectation(enum word word)
{
    return word == WORD_POLICY                       ? "evict, fifo or refuse"
           : word == WORD_FEED                    ? "how many entries its change feed has, from 1 to 67108864, for example 4096"
           : word == WORD_MIN || word == WORD_MAX ? "bytes or a number with K, M, G or T, for example 64M"
                                                     : "a number with ms, s, m, h or d, from 1ms to 3650d, for example 30m";
}

static bool take_option(struct parse *p, const char *text, size_t n)
{
    char part[PART_BYTES], quoted[PART_BYTES];
    snprintf(part, sizeof part, "%.*s", (int)(n < sizeof part ? n : sizeof part), text);
    lrd_quote(part, quoted, sizeof quoted);
    size_t key = strcspn(part, "=");
    for (unsigned i = 0; i < N_WORDS; i++) {
        if (strlen(words[i]) != key || memcmp(part, words[i], key) != 0 || part[key] == '\0')
            continue;
        if (p->said[i])
            return complain(p, "%s is there twice: say it once", words[i]);
        p->said[i] = true;
        if (n < sizeof part && take_value(p, (enum word)i, part + key + 1))
            return true;
        return complain(p, "\"%s\" does not do: say %s", quoted, expectation((enum word)i));
    }
    return complain(p, "\"%s\" is no option of a namespace: there are policy=, min=, max=, ttl=, reset-every= and feed=", quoted);
}

/* What the options say about each other. */
static bool agree(const struct parse *p)
{
    struct lrd_ns_spec *spec = p->spec;
    char a[24], b[24];
    if (spec->policy == LRD_POLICY_REFUSE) {
        if (spec->min_bytes == 0)
            return complain(p, "policy=refuse needs min=SIZE: it holds what is set apart for it, and no more");
        if (!p->said[WORD_MAX])
            spec->max_bytes = spec->min_bytes;
        if (spec->max_bytes != spec->min_bytes)
            return complain(p, "with policy=refuse min and max are the same: leave max out, or say max=%s", lrd_size_exact_text(spec->min_bytes, a));
    }
    if (spec->max_bytes != 0 && spec->min_bytes > spec->max_bytes)
        return complain(p, "min %s is more than max %s: lower min or raise max", lrd_size_text(spec->min_bytes, a), lrd_size_text(spec->max_bytes, b));
    return true;
}

bool lrd_ns_spec_parse(const char *text, struct lrd_ns_spec *spec, char *why, size_t why_bytes)
{
    struct parse p = {.spec = spec, .why = why, .why_bytes = why_bytes};
    size_t n = strcspn(text, ",");
    memset(spec, 0, sizeof *spec);
    if (!take_name(&p, text, n))
        return false;
    while (text[n] == ',') {
        text += n + 1;
        n = strcspn(text, ",");
        if (!take_option(&p, text, n))
            return false;
    }
    return agree(&p);
}
