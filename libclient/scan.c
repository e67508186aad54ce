/* Scanning: the items of a namespace, a few at a time, in no order.
 *
 * shm/walk.h walks the table and says why nothing that stays is missed; here a walk is kept in the caller's cursor from one call to the next, and each item that it comes by is copied, believed,
 * compared with the pattern and handed out. Nothing is stored in shared memory, nobody is waited for, and nothing is left behind by who never finishes.
 *
 *   cursor->own   pass + 1 | bucket * 8 + slot | `relocated` at the pass's beginning | settled then | segment's id | index of the namespace
 *                 all zeros: the beginning. The caller may have changed it: what is in it is checked, and the worst it can do is leave items out.
 *
 * What is shown is what every process sees: own writes that are still in the ring are not there yet. */
#include "libclient/client.h"

#include <errno.h>
#include <string.h>

#include "shm/glob.h"
#include "shm/racy.h"
#include "shm/walk.h"

enum { OWN_PASS, OWN_PLACE, OWN_RELOCATED, OWN_SETTLED, OWN_SEGMENT, OWN_NS };

struct scan {
    const struct lrd_reader *r;
    const struct larder_scan_options *options;
    uint32_t ns;
    uint64_t now_ms;
    /* an item, copied */
    struct lrd_item_head head;
    unsigned char key[LARDER_KEY_MAX];
};

/* ---- one item ---- */

/* Copies what a slot says. False: it is no value of this namespace. */
static bool copy_item(struct scan *s, const lrd_u64 *at, struct lrd_seen *seen)
{
    bool found;
    do {
        found = false;
        if (!lrd_seen_look(s->r, at, seen))
            continue;
        if (seen->state != LRD_SLOT_HELD || lrd_seen_ns(s->r, seen) != s->ns || !lrd_seen_is_current(s->r, seen, s->ns)) {
            if (lrd_seen_stands(s->r, seen))
                return false;
            continue;
        }
        const struct lrd_item *item = lrd_arena_item(s->r, seen->slot);
        s->head = lrd_item_load(item);
        found = lrd_item_is_value(lrd_item_kind(s->head)) && lrd_item_ns(s->head) == s->ns && lrd_seen_fault(s->r, seen, s->head) == NULL;
        if (found)
            lrd_racy_copy(s->key, lrd_item_key_of(item, s->head), lrd_item_key_len(s->head));
        if (lrd_seen_stands(s->r, seen))
            return found;
    } while (true);
}

static bool is_wanted(const struct scan *s)
{
    const struct larder_scan_options *o = s->options;
    uint64_t expires_ms = lrd_item_expires_ms(s->head);
    size_t key_size = lrd_item_key_len(s->head);
    if (expires_ms != 0 && expires_ms <= s->now_ms)
        return false;
    if (o == NULL || o->pattern == NULL)
        return true;
    if ((o->how & LARDER_SCAN_GLOB) != 0)
        return lrd_glob_match(o->pattern, o->pattern_size, s->key, key_size);
    return o->pattern_size <= key_size && memcmp(s->key, o->pattern, o->pattern_size) == 0;
}

static void hand_out(const struct scan *s, const struct lrd_seen *seen, struct larder_entry *e)
{
    uint64_t expires_ms = lrd_item_expires_ms(s->head);
    e->key_size = lrd_item_key_len(s->head);
    e->value_size = lrd_item_value_len(s->head);
    e->version = (uint64_t)lrd_block_word_generation(seen->block_word) << 32 | lrd_slot_location(seen->slot);
    e->ttl_ms = expires_ms == 0 ? LARDER_TTL_NONE : (int64_t)(expires_ms - s->now_ms);
    e->flags = lrd_item_flags(s->head);
    if (e->key_size <= e->key_capacity)
        memcpy(e->key, s->key, e->key_size);
}

/* ---- the cursor ---- */

/* 0; LARDER_LOST: it is of another segment; -EINVAL: of another namespace, or of nobody. */
static int cursor_load(const struct scan *s, const struct larder_cursor *cursor, struct lrd_walk *w)
{
    const uint64_t *own = cursor->own;
    if (own[OWN_PASS] == 0) {
        lrd_walk_begin(s->r, w);
        return 0;
    }
    if (own[OWN_SEGMENT] != s->r->geometry.segment_id)
        return LARDER_LOST;
    if (own[OWN_NS] != s->ns || own[OWN_PASS] - 1 > LRD_WALK_PASSES || own[OWN_PLACE] >> 3 > lrd_n_buckets(s->r) || (own[OWN_PLACE] & 7) >= LRD_SLOTS)
        return -EINVAL;
    *w = (struct lrd_walk){.relocated = own[OWN_RELOCATED],
                           .pass = (uint32_t)own[OWN_PASS] - 1,
                           .bucket = (uint32_t)(own[OWN_PLACE] >> 3),
                           .idx = (uint32_t)own[OWN_PLACE] & 7,
                           .settled = own[OWN_SETTLED] != 0};
    return 0;
}

static void cursor_store(const struct scan *s, struct larder_cursor *cursor, const struct lrd_walk *w)
{
    cursor->own[OWN_PASS] = w->pass + 1;
    cursor->own[OWN_PLACE] = (uint64_t)w->bucket << 3 | w->idx;
    cursor->own[OWN_RELOCATED] = w->relocated;
    cursor->own[OWN_SETTLED] = w->settled;
    cursor->own[OWN_SEGMENT] = s->r->geometry.segment_id;
    cursor->own[OWN_NS] = s->ns;
}

/* ---- a call ---- */

static bool options_ok(const struct larder_scan_options *o)
{
    if (o == NULL)
        return true;
    if (o->size != sizeof *o || (o->how & ~LARDER_SCAN_GLOB) != 0 || (o->pattern == NULL && o->pattern_size != 0) || o->pattern_size > LRD_GLOB_MAX)
        return false;
    return o->pattern == NULL || (o->how & LARDER_SCAN_GLOB) == 0 || lrd_glob_ok(o->pattern, o->pattern_size);
}

static struct larder_entry *entry_at(struct larder_entry *entries, size_t stride, size_t i) { return (struct larder_entry *)(void *)((char *)entries + i * stride); }

static bool entries_ok(struct larder_entry *entries, size_t n)
{
    if (entries == NULL || n == 0 || entries->size < sizeof *entries || entries->size % _Alignof(struct larder_entry) != 0)
        return false;
    for (size_t i = 0; i < n; i++) {
        const struct larder_entry *e = entry_at(entries, entries->size, i);
        if (e->key == NULL && e->key_capacity != 0)
            return false;
    }
    return true;
}

static int scan_in(struct larder_ns *ns, struct lrd_attachment *at, struct larder_cursor *cursor, const struct larder_scan_options *options, struct larder_entry *entries, size_t n, size_t *got)
{
    struct scan s = {.r = &at->r, .options = options, .now_ms = lrd_clock_segment_ms(at->zero_ns)};
    struct lrd_walk w;
    int r = lrd_ns_live(ns, at, &s.ns);
    if (r == 0)
        r = cursor_load(&s, cursor, &w);
    if (r != 0)
        return r;
    uint64_t budget = options != NULL && options->most_buckets != 0 ? options->most_buckets : UINT64_MAX;
    size_t stride = entries->size, found = 0;
    const lrd_u64 *place;
    while (found < n && (place = lrd_walk_next(s.r, &w, &budget)) != NULL) {
        struct lrd_seen seen;
        if (copy_item(&s, place, &seen) && is_wanted(&s))
            hand_out(&s, &seen, entry_at(entries, stride, found++));
    }
    /* If the segment became zeros meanwhile, its slots were empty without reason; pairs with the release in retire(). */
    lrd_fence_acquire();
    if (lrd_load_relaxed(&at->replaced) != 0)
        return cursor->own[OWN_PASS] == 0 ? LRD_ELSEWHERE : LARDER_LOST;
    cursor_store(&s, cursor, &w);
    *got = found;
    return found == 0 && w.pass == LRD_WALK_PASSES ? LARDER_END : 0;
}

/* The daemon has been silent for longer than the handle's options allow, and there is no other one. */
static bool is_stale(struct larder_ns *ns, struct lrd_attachment *at)
{
    return at->max_silence_ms != 0 && lrd_silence_ms(at, lrd_clock_segment_ms(at->zero_ns)) > at->max_silence_ms && !lrd_renew(ns->handle, at);
}

int larder_scan(struct larder_ns *ns, struct larder_cursor *cursor, const struct larder_scan_options *options, struct larder_entry *entries, size_t n, size_t *got)
{
    if (got != NULL)
        *got = 0;
    if (ns == NULL || got == NULL || cursor == NULL || cursor->size != sizeof *cursor || !options_ok(options) || !entries_ok(entries, n))
        return -EINVAL;
    int r;
    do {
        struct lrd_attachment *at = lrd_current(ns->handle, ns->here);
        if (at == NULL)
            return lrd_no_attachment(ns->handle);
        if (is_stale(ns, at))
            return LARDER_STALE;
        uint64_t began = lrd_time_begin(at);
        r = scan_in(ns, at, cursor, options, entries, n, got);
        lrd_time_end(at, LARDER_OP_SCAN, began);
    } while (r == LRD_ELSEWHERE);
    return r;
}
