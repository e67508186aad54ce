/* Why is a key not there?
 *
 * In this order: the item itself, or the note or lease in its place; a dead slot of the key that nobody has swept yet, whose block says how it was freed; the writer's ring of departures; the namespace's last
 * reset. A slot and a ring's entry have 14 bits of the key's hash besides its bucket: where the bytes of the item are still there the key is compared, else what is said is as good
 * as the tag, and another key is taken for this one about once in 16384 departures from the same bucket.
 *
 * A block is freed for one cause, and some of its items may have died of another before: what had expired in a block that was evicted has expired. The item says so where it
 * still lies, else the ring. */
#include "tools/ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shm/departures.h"
#include "shm/hash.h"
#include "shm/table.h"

#define NOTED_BEFORE_MS 5000u /* an item's departure is noted while its block is reclaimed, in steps; the block is freed behind that */

/* What became of a key. */
enum fate { UNKNOWN, PRESENT, EXPIRED, EVICTED, EVICTED_UNREAD, DELETED, RESET, NO_ROOM, ABSENT, LEASED };

static const char *const fate_name[] = {"unknown", "present", "expired", "evicted", "evicted_unread", "deleted", "reset", "no_room", "absent", "leased"};

/* Where it stands. */
enum source { SOURCE_NONE, SOURCE_ITEM, SOURCE_SLOT, SOURCE_RING, SOURCE_NAMESPACE };

static const char *const source_name[] = {"none", "item", "slot", "ring", "namespace"};

struct answer {
    enum fate fate;
    enum source source;
    bool sure;         /* the key itself was compared */
    uint64_t when_ms;  /* segment time; of what expired, when that was noticed at the latest */
    uint64_t expired_ms; /* 0: not known to the millisecond */
    bool ttl_known;
    uint64_t ttl_left_ms; /* then, or now if it is present; UINT64_MAX: for ever */
};

/* How far back the ring knows. */
struct reach {
    uint64_t n;         /* good entries */
    uint64_t oldest_ms; /* segment time since when none was overwritten */
    bool whole;         /* none was overwritten yet */
};

struct why {
    const struct ctl_peek *p;
    const struct lrd_reader *r;
    const struct ctl_bytes *key;
    uint32_t ns, tag, home;
    uint64_t hash;
    uint64_t now_ms;
    struct answer answer;
    struct reach reach;
    bool was_reset; /* the namespace, ever */
    uint64_t reset_ms;
    uint64_t expired; /* items of the namespace that expired, ever; blocks that expired whole are noted only when their slots go */
};

static uint64_t ago(const struct why *w, uint64_t when_ms) { return w->now_ms > when_ms ? w->now_ms - when_ms : 0; }

static enum fate fate_of(enum lrd_cause cause, bool read)
{
    switch (cause) {
    case LRD_CAUSE_EXPIRED:
        return EXPIRED;
    case LRD_CAUSE_EVICTED:
        return read ? EVICTED : EVICTED_UNREAD;
    case LRD_CAUSE_DELETED:
        return DELETED;
    case LRD_CAUSE_RESET:
        return RESET;
    case LRD_CAUSE_NO_ROOM:
        return NO_ROOM;
    case LRD_CAUSE_NONE:
    case LRD_CAUSE_EMPTY: /* of a block in which nothing was alive: its slots were gone before */
    case LRD_N_CAUSES:
        break;
    }
    return UNKNOWN;
}

/* ---- the item ---- */

/* As the writer and clients see it: is_held() of daemon/decide.c and is_live() of libclient/lease.c. */
static bool is_held(const struct why *w, const struct lrd_lease *lease)
{
    uint32_t lane = (uint32_t)(lease->holder >> 32), incarnation = (uint32_t)lease->holder;
    if (lease->token == 0 || lane >= w->r->geometry.n_lanes || lease->deadline_ms <= w->now_ms)
        return false;
    uint32_t state = lrd_load32_acquire(&w->r->lanes[lane].state);
    return (state == LRD_LANE_LIVE || state == LRD_LANE_DYING) && lrd_load32_relaxed(&w->r->lanes[lane].incarnation) == incarnation;
}

/* True: it is there, alive or expired, or what stands in its place says why there is none: a note of absence, or a lease that is held. */
static bool ask_item(struct why *w)
{
    unsigned char nothing;
    struct lrd_get get = {
        .key = w->key->data,
        .key_len = (uint32_t)w->key->size,
        .ns = w->ns,
        .hash = w->hash,
        .buffer = &nothing, /* no room: nothing is copied */
        .zero_ns = w->p->zero_ns,
    };
    enum lrd_outcome outcome = lrd_table_get(w->r, &get);
    if (outcome == LRD_ABSENT && get.slot == 0)
        return false;
    uint64_t expires_ms = lrd_item_expires_ms(get.head);
    bool is_lease = lrd_item_kind(get.head) == LRD_ITEM_LEASE;
    if (is_lease && !is_held(w, &get.words.lease))
        return false; /* left over; it says nothing of what was there before it */
    w->answer = (struct answer){.fate = outcome == LRD_KNOWN_ABSENT ? ABSENT : PRESENT, .source = SOURCE_ITEM, .sure = true, .ttl_known = true, .ttl_left_ms = UINT64_MAX};
    if (is_lease)
        w->answer = (struct answer){.fate = LEASED, .source = SOURCE_ITEM, .sure = true, .ttl_known = true, .ttl_left_ms = get.words.lease.deadline_ms - w->now_ms};
    else if (outcome == LRD_ABSENT)
        w->answer = (struct answer){.fate = EXPIRED, .source = SOURCE_ITEM, .sure = true, .when_ms = expires_ms, .expired_ms = expires_ms};
    else if (expires_ms != 0)
        w->answer.ttl_left_ms = expires_ms > w->now_ms ? expires_ms - w->now_ms : 0;
    return true;
}

/* ---- dead slots ---- */

enum same_key { KEY_OTHER, KEY_SAME, KEY_GONE };

/* The key of the bytes a dead slot points to, and when they expire. They are intact while the block keeps its generation, and after that until it is opened again. */
static enum same_key compare_key(const struct why *w, uint64_t slot, uint64_t word, bool freed, uint64_t *expires_ms)
{
    const struct lrd_reader *r = w->r;
    uint32_t block = lrd_arena_block(r, slot);
    const lrd_u64 *state = &r->descriptors[block].state;
    if (lrd_arena_room(r, lrd_arena_off(r, slot)) < sizeof(struct lrd_item) + w->key->size)
        return KEY_OTHER;
    const struct lrd_item *item = lrd_arena_item(r, slot);
    struct lrd_item_head head = lrd_item_load(item);
    uint32_t kind = lrd_item_kind(head);
    bool same = lrd_item_is_of(head, w->ns, (uint32_t)w->key->size) && kind < LRD_N_ITEM_KINDS &&
                lrd_item_key_off(kind) + w->key->size <= lrd_arena_room(r, lrd_arena_off(r, slot)) && lrd_racy_equal(lrd_item_key_of(item, head), w->key->data, w->key->size);
    *expires_ms = lrd_item_expires_ms(head);
    /* What was compared is loaded before the words below; pairs with the release fence after a block is opened. Opened and freed again it has another generation. */
    lrd_fence_acquire();
    if (lrd_load_relaxed(&r->block_words[block]) != word || (freed && lrd_load_relaxed(state) != LRD_BLOCK_FREE))
        return KEY_GONE;
    return same ? KEY_SAME : KEY_OTHER;
}

/* What became of an item whose block was freed. Whether it was read stands in the ring only. */
static struct answer ask_freed(uint64_t freed, bool sure, uint64_t expires_ms)
{
    struct answer a = {.fate = fate_of(lrd_freed_cause(freed), true), .source = SOURCE_SLOT, .sure = sure, .when_ms = lrd_freed_ms(freed)};
    if (sure && expires_ms != 0 && expires_ms <= a.when_ms && (a.fate == EVICTED || a.fate == EXPIRED)) {
        a.fate = EXPIRED;
        a.expired_ms = expires_ms;
    }
    return a;
}

/* A slot with our tag, at the displacement it says: what it tells of the key. */
static struct answer ask_slot(const struct why *w, uint64_t slot)
{
    struct answer none = {0}, a = {.source = SOURCE_SLOT};
    uint64_t expires_ms = 0;
    uint32_t block = lrd_arena_block(w->r, slot);
    if (block >= w->r->n_blocks || lrd_slot_location(slot) == 0)
        return none;
    uint64_t word = lrd_load_acquire(&w->r->block_words[block]); /* pairs with its releases, as in lrd_table_look() */
    uint32_t behind = (lrd_block_word_generation(word) - lrd_slot_generation(slot)) & 0xffff;
    if (behind > 1)
        return none;
    uint64_t freed = lrd_load_acquire(&w->r->descriptors[block].freed);
    enum same_key same = compare_key(w, slot, word, behind == 1, &expires_ms);
    if (same == KEY_OTHER)
        return none;
    a.sure = same == KEY_SAME;
    if (behind == 1) {
        /* freed by its next change could be another's: then the generation is another as well */
        if (lrd_freed_ns(freed) != w->ns || lrd_load_acquire(&w->r->block_words[block]) != word)
            return none;
        a = ask_freed(freed, a.sure, expires_ms);
    } else if (a.sure && lrd_block_word_epoch(word) != lrd_load32_acquire(&w->r->namespaces[w->ns].epoch)) {
        a.fate = RESET;
        a.when_ms = w->reset_ms;
    }
    return a.fate == UNKNOWN ? none : a;
}

/* The latest of them. */
static struct answer ask_slots(const struct why *w)
{
    struct answer best = {0};
    for (uint32_t d = 0; d < 4; d++) {
        const struct lrd_bucket *b = &w->r->buckets[lrd_hash_bucket(w->home, w->tag, d, w->r->n_pairs)];
        for (unsigned i = 0; i < LRD_SLOTS; i++) {
            uint64_t slot = lrd_load_acquire(&b->slot[i]);
            if (slot == 0 || lrd_slot_tag(slot) != w->tag || lrd_slot_displacement(slot) != d)
                continue;
            struct answer a = ask_slot(w, slot);
            if (a.fate != UNKNOWN && (best.fate == UNKNOWN || a.when_ms > best.when_ms))
                best = a;
        }
    }
    return best;
}

/* ---- the ring ---- */

/* Copies the ring, newest entry first, and says how many of the copies are good. See departures.h. */
static uint64_t copy_ring(const struct lrd_reader *r, uint64_t *who, uint64_t *when)
{
    const struct lrd_departures *d = r->departures;
    uint32_t room = r->geometry.n_departures;
    uint64_t n = lrd_load_acquire(&d->n); /* pairs with the release in lrd_depart(): entries below n are written */
    uint64_t copied = n < room - 1 ? n : room - 1;
    for (uint64_t i = 0; i < copied; i++) {
        const struct lrd_departure *e = lrd_departure_at(d, n - 1 - i, room);
        who[i] = lrd_load_relaxed(&e->who);
        when[i] = lrd_load_relaxed(&e->when);
    }
    lrd_fence_acquire(); /* pairs with the release fence in lrd_depart(): who copied a new word sees n of then or later */
    uint64_t since = lrd_load_relaxed(&d->n) - n;
    /* Entry n - 1 - i was not begun anew if n - 1 - i + room > n + since. */
    uint64_t good = since < room - 1 ? room - 1 - since : 0;
    return copied < good ? copied : good;
}

/* Since when every departure that was noted is still there. What expired may be noted long after it went, with the time it went: its entries do not tell. */
static uint64_t reach_ms(const uint64_t *who, const uint64_t *when, uint64_t n)
{
    for (uint64_t i = n; i-- > 0;)
        if (lrd_departure_cause(who[i]) != LRD_CAUSE_EXPIRED)
            return lrd_departure_ms(when[i]);
    uint64_t latest = 0;
    for (uint64_t i = 0; i < n; i++)
        if (lrd_departure_ms(when[i]) > latest)
            latest = lrd_departure_ms(when[i]);
    return latest;
}

/* The latest departure of the key; and how far the ring reaches. */
static struct answer ask_ring(struct why *w)
{
    uint32_t room = w->r->geometry.n_departures;
    uint64_t *who = ctl_alloc(room, sizeof *who), *when = ctl_alloc(room, sizeof *when);
    uint64_t n = copy_ring(w->r, who, when);
    struct answer a = {0};
    w->reach = (struct reach){.n = n, .whole = lrd_load_acquire(&w->r->departures->n) == n};
    w->reach.oldest_ms = w->reach.whole && n > 0 ? lrd_departure_ms(when[n - 1]) : reach_ms(who, when, n);
    for (uint64_t i = 0; i < n; i++) {
        if (lrd_departure_home(who[i]) != w->home || lrd_departure_tag(who[i]) != w->tag || lrd_departure_ns(who[i]) != w->ns)
            continue;
        if (a.fate != UNKNOWN && lrd_departure_ms(when[i]) <= a.when_ms)
            continue;
        a = (struct answer){
            .fate = fate_of(lrd_departure_cause(who[i]), lrd_departure_read(who[i])),
            .source = SOURCE_RING,
            .when_ms = lrd_departure_ms(when[i]),
            .ttl_known = true,
            .ttl_left_ms = lrd_ttl_left_ms(lrd_departure_left(when[i])),
        };
    }
    free(who);
    free(when);
    return a;
}

/* ---- all of it ---- */

/* Whether a slot and the ring may mean one departure. A slot that only says how its block was freed does not know of what had expired in it. */
static bool same_cause(struct answer slot, struct answer ring)
{
    return slot.fate == ring.fate || (slot.fate == EVICTED && (ring.fate == EVICTED_UNREAD || (ring.fate == EXPIRED && !slot.sure)));
}

/* What a slot and the ring say of one key. The later of two departures; of one departure the ring knows more. */
static struct answer later(struct answer slot, struct answer ring)
{
    if (slot.fate == UNKNOWN || ring.fate == UNKNOWN)
        return slot.fate == UNKNOWN ? ring : slot;
    if (ring.when_ms > slot.when_ms)
        return ring;
    if (!same_cause(slot, ring) || slot.when_ms - ring.when_ms > NOTED_BEFORE_MS)
        return slot;
    ring.sure = slot.sure;
    ring.expired_ms = slot.expired_ms;
    return ring;
}

static void ask(struct why *w)
{
    const struct lrd_namespace *n = &w->r->namespaces[w->ns];
    w->was_reset = lrd_load_acquire(&n->resets) != 0;
    w->reset_ms = lrd_load_acquire(&n->reset_ms);
    w->expired = lrd_load_relaxed(&lrd_ns_counters(w->r, w->ns)[LRD_C_expired]);
    struct answer ring = ask_ring(w);
    if (ask_item(w))
        return;
    w->answer = later(ask_slots(w), ring);
    /* A reset behind the last that is known of the key: it may have been written between the two. */
    bool in_reach = w->reach.whole || (w->reach.n > 0 && w->reset_ms >= w->reach.oldest_ms);
    if (w->was_reset && (w->answer.fate == UNKNOWN ? in_reach : w->answer.fate != RESET && w->reset_ms > w->answer.when_ms))
        w->answer = (struct answer){.fate = RESET, .source = SOURCE_NAMESPACE, .when_ms = w->reset_ms};
}

/* ---- what is said ---- */

/* A span of time in the two largest units that say something. */
static const char *span(uint64_t ms, char text[48])
{
    uint64_t s = ms / 1000;
    if (ms < 10000)
        snprintf(text, 48, "%" PRIu64 " ms", ms);
    else if (s < 60)
        snprintf(text, 48, "%" PRIu64 ".%" PRIu64 " s", s, ms % 1000 / 100);
    else if (s < 3600)
        snprintf(text, 48, "%" PRIu64 " min %" PRIu64 " s", s / 60, s % 60);
    else if (s < 86400)
        snprintf(text, 48, "%" PRIu64 " h %" PRIu64 " min", s / 3600, s / 60 % 60);
    else
        snprintf(text, 48, "%" PRIu64 " d %" PRIu64 " h", s / 86400, s / 3600 % 24);
    return text;
}

static uint64_t expired_ms(const struct answer *a) { return a->expired_ms != 0 ? a->expired_ms : a->when_ms; }

/* "12 ms ago (2026-01-02 03:04:05)" */
static const char *moment(const struct why *w, uint64_t when_ms, char text[128])
{
    char for_span[48], date[64] = "";
    uint64_t ms = ago(w, when_ms);
    time_t then = time(NULL) - (time_t)(ms / 1000);
    struct tm tm;
    if (localtime_r(&then, &tm) == NULL || strftime(date, sizeof date, " (%F %T)", &tm) == 0)
        *date = '\0';
    snprintf(text, 128, "%s ago%s", span(ms, for_span), date);
    return text;
}

static void print_ttl(const struct answer *a)
{
    char text[48];
    if (!a->ttl_known || a->fate == EXPIRED)
        return;
    if (a->ttl_left_ms == UINT64_MAX)
        fputs(a->fate == PRESENT || a->fate == ABSENT ? ", never expires" : "; it would never have expired", stdout);
    else if (a->fate == LEASED || a->fate == ABSENT)
        printf(a->fate == LEASED ? ", for at most %s more" : ", which expires in %s", span(a->ttl_left_ms, text));
    else if (a->ttl_left_ms == 0 && a->fate != PRESENT)
        fputs("; it had expired", stdout);
    else
        printf(a->fate == PRESENT ? ", expires in %s" : "; it had %s to live", span(a->ttl_left_ms, text));
}

/* A key that has left no trace: what may have become of it. */
static void print_unknown(const struct why *w, const char *ns)
{
    char text[128];
    if (w->reach.whole && w->expired == 0 && !w->was_reset) {
        printf("never seen in namespace %s, as far back as the ring goes", ns);
        return;
    }
    printf("no trace of it in namespace %s: never set", ns);
    if (!w->reach.whole)
        fputs(", or gone before the ring begins", stdout);
    if (w->expired != 0)
        fputs(", or expired with its whole block", stdout);
    if (w->was_reset)
        printf(", or gone with a reset, the last %s", moment(w, w->reset_ms, text));
}

static void print_verdict(const struct why *w, const char *ns)
{
    static const char *const text[] = {
        [EVICTED] = "evicted",
        [EVICTED_UNREAD] = "evicted, unread as far as the marks tell,",
        [DELETED] = "deleted",
        [NO_ROOM] = "replaced because its four buckets were full",
    };
    const struct answer *a = &w->answer;
    char when[128];
    switch (a->fate) {
    case UNKNOWN:
        print_unknown(w, ns);
        break;
    case PRESENT:
        fputs("present", stdout);
        break;
    case ABSENT:
        fputs("known to be absent: somebody has left a note that there is no value", stdout);
        break;
    case LEASED:
        fputs("not there yet: somebody has the lease to load it", stdout);
        break;
    case RESET:
        printf("namespace %s was reset %s%s", ns, moment(w, a->when_ms, when),
               a->source == SOURCE_NAMESPACE ? "; what was there before went with it, and nothing is known of that" : ", and the item went with it");
        break;
    case EXPIRED:
        printf("expired %s%s", a->expired_ms == 0 ? "at least " : "", moment(w, expired_ms(a), when));
        break;
    case EVICTED:
        printf("%s%s %s", text[a->fate], !a->sure && a->source == SOURCE_SLOT && w->expired != 0 ? ", unless it had expired," : "", moment(w, a->when_ms, when));
        break;
    case EVICTED_UNREAD:
    case DELETED:
    case NO_ROOM:
        printf("%s %s", text[a->fate], moment(w, a->when_ms, when));
        break;
    }
    print_ttl(a);
    putchar('\n');
}

static void print_reach(const struct why *w)
{
    char text[48];
    if (w->reach.n == 0)
        puts("the ring of departures is empty: no departure was noted since the segment was made");
    else
        printf("the ring of departures has %" PRIu64 " %s and goes back %s%s\n", w->reach.n, w->reach.n == 1 ? "entry" : "entries", span(ago(w, w->reach.oldest_ms), text),
               w->reach.whole ? ", to the first" : "");
}

static void report(struct ctl_report *out, const struct why *w, const char *ns)
{
    const struct answer *a = &w->answer;
    ctl_report_group(out, "why");
    ctl_report_text(out, "namespace", "%s", ns);
    ctl_report_text(out, "verdict", "%s", fate_name[a->fate]);
    ctl_report_text(out, "source", "%s", source_name[a->source]);
    ctl_report_text(out, "sure", "%s", a->sure ? "yes" : "no");
    if (a->fate != UNKNOWN && a->fate != PRESENT && a->fate != ABSENT && a->fate != LEASED)
        ctl_report_u64(out, "ago_ms", "ms", ago(w, a->fate == EXPIRED ? expired_ms(a) : a->when_ms));
    if (a->ttl_known && a->ttl_left_ms == UINT64_MAX)
        ctl_report_text(out, "ttl", "none");
    else if (a->ttl_known)
        ctl_report_u64(out, "ttl_left_ms", "ms", a->ttl_left_ms);
    ctl_report_group(out, "ring");
    ctl_report_u64(out, "entries", "entries", w->reach.n);
    ctl_report_u64(out, "oldest_ago_ms", "ms", w->reach.n ? ago(w, w->reach.oldest_ms) : 0);
    ctl_report_text(out, "complete", "%s", w->reach.whole ? "yes" : "no");
}

static bool say(const struct why *w, bool json)
{
    char ns[LRD_NAMESPACE_NAME];
    ctl_ns_name(w->r, w->ns, ns);
    if (!json) {
        print_verdict(w, ns);
        print_reach(w);
        return fflush(stdout) == 0;
    }
    struct ctl_report *out = ctl_report_create();
    report(out, w, ns);
    bool ok = ctl_report_print(out, true);
    ctl_report_free(out);
    return ok;
}

static enum ctl_status why(const struct ctl_call *call, const struct ctl_peek *p, const struct ctl_bytes *key)
{
    struct why w = {.p = p, .r = &p->r, .key = key};
    if (!ctl_ns_find(call, &p->r, &w.ns))
        return CTL_FAILURE;
    w.hash = lrd_hash(p->r.hash_seed, w.ns, key->data, key->size);
    w.tag = lrd_hash_tag(w.hash);
    w.home = lrd_hash_home(w.hash, p->r.n_pairs);
    w.now_ms = ctl_now_ms(p);
    ask(&w);
    if (say(&w, call->json))
        return w.answer.fate == PRESENT ? CTL_OK : CTL_WARNING;
    ctl_error("cannot write to standard output: %s", strerror(errno));
    return CTL_FAILURE;
}

enum ctl_status ctl_why(const struct ctl_call *call) { return ctl_look_up(call, why); }
