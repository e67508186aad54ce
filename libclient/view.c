/* Reading without copying, and without searching.
 *
 * view      pin -> search (as a get) -> pin = the item's block -> is it still there? -> the item's address
 *           Where the writer looks at pins, and why that is enough, is in shm/pins.h. The search says what the key's value is at some time during the call; the block word, unchanged behind
 *           the pin, that not a byte of it went before the pin counted.
 * view_end  what was seen through it stands if the pin is still what it was, the lane is still ours, and the segment has not been replaced by zeros (attach.c).
 *           A view is this process's: in a forked child nothing is mapped at its address, and its end says so.
 *
 * hold      where the slot stands, and what it was. Nothing in it is an address.
 * revisit   the slot is what it was, and the block, and the namespace's epoch; behind the slot, in this order: a block's generation and an epoch never come back, so when the slot was
 *           loaded all three were what they had been, and that was the item. No hash, no search.
 *
 * A hit leaves its mark and is counted as a get's is: what is only revisited is read as well, and must be kept.
 */
#include "libclient/client.h"

#include <errno.h>
#include <string.h>

#include "shm/pins.h"
#include "shm/table.h"

#define PENDING_MS 100u /* how long a view waits for the writer where a write of ours to its key is pending; as in ryw.c */

/* ---- for both ---- */

static bool is_silent(const struct lrd_attachment *at)
{
    return lrd_unlikely(at->max_silence_ms != 0) && lrd_silence_ms(at, lrd_clock_segment_ms(at->zero_ns)) > at->max_silence_ms;
}

/* The attachment to read from. 0; LARDER_DOWN: there is none in this (forked) process; LARDER_STALE; -EBADF. */
static inline int begin(struct larder_ns *ns, struct lrd_attachment **at)
{
    *at = lrd_current(ns->handle, ns->here);
    if (lrd_unlikely(*at == NULL))
        return lrd_no_attachment(ns->handle);
    if (lrd_likely(!is_silent(*at)))
        return 0;
    if (!lrd_renew(ns->handle, *at))
        return LARDER_STALE;
    *at = lrd_current(ns->handle, ns->here);
    return is_silent(*at) ? LARDER_STALE : 0;
}

static void look_for_end(struct larder_ns *ns, struct lrd_attachment *at)
{
    if (lrd_silence_ms(at, lrd_clock_segment_ms(at->zero_ns)) > LRD_SUSPICIOUS_MS)
        lrd_renew(ns->handle, at);
}

static __attribute__((noinline)) void count_miss(struct larder_ns *ns, struct lrd_attachment *at)
{
    lrd_count(at, LRD_STAT_MISSES, 1);
    look_for_end(ns, at);
    uint32_t index = lrd_ns_index(at, ns);
    if (index == LRD_NS_NOWHERE)
        lrd_ns_seek(ns, at, &index); /* somebody may have made it */
}

/* One hit in look_mask + 1 comes here, as in get.c. */
static __attribute__((noinline)) void now_and_then(struct larder_ns *ns, struct lrd_attachment *at, uint64_t sum, uint64_t hash)
{
    struct lrd_lane *lane = at->ring.lane;
    if (at->ring.marks == NULL && sum % LRD_SAMPLE_EACH == 0)
        lrd_store_relaxed(&lane->sample[lrd_fetch_add_relaxed(&lane->samples, 1) % LRD_SAMPLES], hash);
    if (sum % LRD_LOOK_EACH == 0)
        look_for_end(ns, at);
}

static inline void count_hit(struct larder_ns *ns, struct lrd_attachment *at, uint64_t hash)
{
    uint64_t sum = lrd_count(at, LRD_STAT_HITS, 1);
    if (lrd_unlikely((sum & at->look_mask) == 0))
        now_and_then(ns, at, sum, hash);
}

/* As in get.c: that there is no value is something to know as well. */
static __attribute__((noinline)) void count_other(struct larder_ns *ns, struct lrd_attachment *at, uint64_t hash, enum lrd_outcome outcome)
{
    if (outcome == LRD_KNOWN_ABSENT)
        count_hit(ns, at, hash);
    else
        count_miss(ns, at);
}

static void count_detours(struct lrd_attachment *at, const struct lrd_get *get)
{
    if (lrd_unlikely(get->lines > 1))
        lrd_count(at, LRD_STAT_LINES_BEYOND, get->lines - 1);
    if (lrd_unlikely(get->restarts > 0))
        lrd_count(at, LRD_STAT_RESTARTS, get->restarts);
}

static inline void get_begin(struct lrd_get *get, const struct lrd_attachment *at, uint32_t ns, const void *key, size_t key_size, uint64_t hash)
{
    static unsigned char nowhere; /* memcpy wants an address also for no bytes */
    get->key = key;
    get->key_len = (uint32_t)key_size;
    get->ns = ns;
    get->hash = hash;
    get->buffer = &nowhere;
    get->capacity = 0;
    get->zero_ns = at->zero_ns;
}

/* ---- views ---- */

/* What the library keeps in view->own; no namespace: it is not open. */
enum { VIEW_NS, VIEW_ATTACHMENT, VIEW_PIN, VIEW_PLACE /* incarnation of the attachment:32 | index of the pin:32 */ };

/* The writer must know that it has to look at our pins, once. 0; LARDER_BUSY, LARDER_DOWN, LARDER_TIMEOUT, LRD_ELSEWHERE, -EPROTO. */
static __attribute__((noinline)) int announce(struct larder_ns *ns, struct lrd_attachment *at)
{
    static const struct lrd_request request = {.kind = LRD_RECORD_VIEWS};
    lrd_u64 *views = &at->ring.lane->views;
    uint64_t none = 0;
    while (none == 0 && !lrd_cas(views, &none, 1)) /* not over a thread's 2 */
        ;
    /* Released by the record's commit: a worker that has applied it, or will, or comes after that, finds one or the other. */
    int r = lrd_request(ns->handle, at, &request);
    if (r == 0)
        lrd_store_release(views, 2); /* pairs with the acquire in view_at(): the writer's word, for other threads too */
    return r != LARDER_LOST ? r : lrd_renew(ns->handle, at) ? LRD_ELSEWHERE : LARDER_DOWN;
}

static int64_t ttl_left(struct lrd_item_head head, uint64_t zero_ns)
{
    uint64_t expires_ms = lrd_item_expires_ms(head);
    if (expires_ms == 0)
        return LARDER_TTL_NONE;
    uint64_t now_ms = lrd_clock_segment_ms(zero_ns);
    return expires_ms > now_ms ? (int64_t)(expires_ms - now_ms) : 0;
}

static __attribute__((noinline)) void view_clear(struct larder_view *view)
{
    size_t size = view->size;
    memset(view, 0, sizeof *view);
    view->size = size;
}

static inline void view_fill(struct larder_view *view, const struct larder_ns *ns, const struct lrd_attachment *at, const struct lrd_get *get, uint64_t pin, unsigned i)
{
    uint64_t off = lrd_arena_off(&at->r, get->slot);
    uint32_t value_off = lrd_item_value_off(lrd_item_kind(get->head), get->key_len, off);
    view->data = at->r.arena + off + value_off;
    view->value_size = lrd_item_value_len(get->head);
    view->version = (uint64_t)lrd_block_word_generation(get->block_word) << 32 | lrd_slot_location(get->slot);
    view->ttl_ms = ttl_left(get->head, at->zero_ns);
    view->flags = lrd_item_flags(get->head);
    view->own[VIEW_NS] = (uintptr_t)ns;
    view->own[VIEW_ATTACHMENT] = (uintptr_t)at;
    view->own[VIEW_PIN] = pin;
    view->own[VIEW_PLACE] = (uint64_t)at->incarnation << 32 | i;
}

/* Finds the item and pins its block: outcome as of a get without a buffer. */
__attribute__((always_inline)) static inline enum lrd_outcome pin_item(struct lrd_attachment *at, struct lrd_get *get, const struct lrd_bucket *home, unsigned i, uint64_t *pin)
{
    struct lrd_lane *lane = at->ring.lane;
    for (uint32_t restarts = 0;; restarts++) {
        enum lrd_outcome outcome = lrd_table_get_at(&at->r, get, home, &at->marks);
        get->restarts += restarts;
        if (outcome != LRD_FOUND && outcome != LRD_TOO_SMALL)
            return outcome;
        uint32_t block = lrd_arena_block(&at->r, get->slot);
        *pin = lrd_pin_make(get->block_word, block);
        lrd_pin_set(lane, i, *pin); /* again in each turn: the writer may have revoked the last */
        /* Relaxed: behind the fence. Unchanged: not freed until now, so the writer finds the pin before it uses the block again. */
        if (lrd_likely(lrd_load_relaxed(&at->r.block_words[block]) == get->block_word))
            return outcome;
    }
}

__attribute__((always_inline)) static inline int view_at(struct larder_ns *ns, struct lrd_attachment *at, const void *key, size_t key_size, struct larder_view *view)
{
    struct lrd_lane *lane = at->ring.lane;
    uint32_t index = lrd_ns_index(at, ns);
    uint64_t hash = lrd_ns_hash(at, ns, key, key_size);
    const struct lrd_bucket *home = lrd_table_home(&at->r, hash);
    __builtin_prefetch(home);
    __builtin_prefetch(lrd_marks_at(&at->marks, home));
    if (lrd_unlikely(lrd_load_acquire(&lane->views) != 2)) {
        int r = announce(ns, at);
        if (r != 0)
            return r;
    }
    if (lrd_unlikely(!lrd_lane_is_ours(at)))
        return lrd_renew(ns->handle, at) ? LRD_ELSEWHERE : LARDER_DOWN; /* nobody looks at our pins: no view would end well */
    unsigned i = lrd_pins_take(lane, lrd_stat_line - 1);
    if (lrd_unlikely(i == LRD_PINS))
        return LARDER_BUSY;
    if (lrd_unlikely(lrd_ryw_pending(at)))
        lrd_ryw_settle(at, hash, PENDING_MS); /* what is in our ring does not stay there. If it takes longer, the table's word counts */

    /* The value's beginning is on its way when the fence behind the pin stops everything else. */
    lrd_table_prefetch_item(&at->r, hash, home, 2);
    struct lrd_get get;
    uint64_t pin = 0;
    get_begin(&get, at, index, key, key_size, hash);
    enum lrd_outcome outcome = pin_item(at, &get, home, i, &pin);
    count_detours(at, &get);
    if (lrd_likely(outcome == LRD_FOUND || outcome == LRD_TOO_SMALL)) {
        count_hit(ns, at, hash);
        view_fill(view, ns, at, &get, pin, i);
        return 0;
    }
    lrd_pin_drop(lane, i); /* a former turn may have set it */
    count_other(ns, at, hash, outcome);
    return outcome == LRD_KNOWN_ABSENT ? LARDER_ABSENT : LARDER_MISS;
}

int larder_view(struct larder_ns *ns, const void *key, size_t key_size, struct larder_view *view)
{
    if (lrd_unlikely(view == NULL || view->size < sizeof *view))
        return -EINVAL;
    struct lrd_attachment *at;
    int r = -EINVAL;
    if (lrd_likely(ns != NULL && lrd_key_ok(key, key_size)))
        do {
            r = begin(ns, &at);
            if (lrd_likely(r == 0)) {
                uint64_t began = lrd_time_begin(at);
                r = view_at(ns, at, key, key_size, view);
                lrd_time_end(at, LARDER_OP_VIEW, began);
            }
        } while (lrd_unlikely(r == LRD_ELSEWHERE));
    if (lrd_unlikely(r != 0))
        view_clear(view); /* only then: the fence waits for every store before it */
    return r;
}

int larder_view_end(struct larder_view *view)
{
    if (lrd_unlikely(view == NULL || view->size < sizeof *view || view->own[VIEW_NS] == 0))
        return -EINVAL;
    const struct larder_ns *ns = (const struct larder_ns *)(uintptr_t)view->own[VIEW_NS];
    struct lrd_attachment *at = (struct lrd_attachment *)(uintptr_t)view->own[VIEW_ATTACHMENT];
    uint64_t pin = view->own[VIEW_PIN], place = view->own[VIEW_PLACE];
    view->data = NULL;
    view->own[VIEW_NS] = 0;
    /* All that the caller saw is loaded before what is below. Pairs with the release fence in lrd_arena_open_block(), behind pin and lane's state; and with publish() in attach.c, which
     * stores the new attachment before the old segment becomes zeros. */
    lrd_fence_acquire();
    /* Compared before it is touched: it is this process's, and was not replaced. */
    if (lrd_unlikely(atomic_load_explicit(&ns->here->at, memory_order_acquire) != at) || lrd_unlikely(at->incarnation != (uint32_t)(place >> 32)))
        return ns->handle->closed ? -EBADF : LARDER_REVOKED;
    bool ours = lrd_lane_is_ours(at);
    return lrd_likely(lrd_pin_end(at->ring.lane, (unsigned)place & (LRD_PINS - 1), pin)) && lrd_likely(ours) ? 0 : LARDER_REVOKED;
}

/* ---- holds ---- */

/* What the library keeps in hold->own; all zeros: it is never confirmed. */
enum { HOLD_SEGMENT, HOLD_PLACE, HOLD_SLOT, HOLD_BLOCK_WORD, HOLD_HASH, HOLD_EXPIRES, HOLD_NS };

#define WORDS_OF_BUCKET (LRD_LINE / sizeof(lrd_u64))

static void hold_clear(struct larder_hold *hold) { memset(hold->own, 0, sizeof hold->own); }

static void hold_fill(struct larder_hold *hold, const struct lrd_attachment *at, const struct lrd_get *get)
{
    hold->own[HOLD_SEGMENT] = at->r.geometry.segment_id;
    hold->own[HOLD_PLACE] = (uint64_t)(get->place - (const lrd_u64 *)(const void *)at->r.buckets);
    hold->own[HOLD_SLOT] = get->slot;
    hold->own[HOLD_BLOCK_WORD] = get->block_word;
    hold->own[HOLD_HASH] = get->hash;
    hold->own[HOLD_EXPIRES] = lrd_item_expires_ms(get->head);
    hold->own[HOLD_NS] = get->ns;
}

/* From the own ring if a write of ours is pending: nothing of that can be held. False: the table knows. */
static __attribute__((noinline)) bool get_own(struct lrd_attachment *at, struct lrd_get *get, enum lrd_outcome *outcome)
{
    get->lines = get->restarts = 0;
    switch (lrd_ryw_get(at, get)) {
    case LRD_OWN_VALUE:
        *outcome = LRD_FOUND;
        break;
    case LRD_OWN_TOO_SMALL:
        *outcome = LRD_TOO_SMALL;
        break;
    case LRD_OWN_ABSENT:
        *outcome = LRD_ABSENT;
        break;
    case LRD_OWN_KNOWN_ABSENT:
        *outcome = LRD_KNOWN_ABSENT;
        break;
    default:
        return false;
    }
    lrd_count(at, LRD_STAT_OWN, 1);
    return true;
}

int larder_get_hold(struct larder_ns *ns, const void *key, size_t key_size, void *buffer, size_t capacity, size_t *size, struct larder_hold *hold)
{
    if (lrd_unlikely(hold == NULL || hold->size < sizeof *hold))
        return -EINVAL;
    hold_clear(hold);
    if (lrd_unlikely(ns == NULL || !lrd_key_ok(key, key_size) || (buffer == NULL && capacity != 0)))
        return -EINVAL;
    struct lrd_attachment *at;
    int r = begin(ns, &at);
    if (lrd_unlikely(r != 0))
        return r;
    struct lrd_get get;
    get_begin(&get, at, lrd_ns_index(at, ns), key, key_size, lrd_ns_hash(at, ns, key, key_size));
    if (buffer != NULL) {
        get.buffer = buffer;
        get.capacity = capacity;
    }
    enum lrd_outcome outcome;
    bool own = lrd_unlikely(lrd_ryw_pending(at)) && get_own(at, &get, &outcome);
    if (!own) {
        outcome = lrd_table_get_at(&at->r, &get, lrd_table_home(&at->r, get.hash), &at->marks);
        if (outcome == LRD_FOUND || outcome == LRD_KNOWN_ABSENT)
            hold_fill(hold, at, &get);
    }
    count_detours(at, &get);
    if (lrd_likely(outcome == LRD_FOUND))
        count_hit(ns, at, get.hash);
    else
        count_other(ns, at, get.hash, outcome);
    if (outcome == LRD_ABSENT)
        return LARDER_MISS;
    if (outcome == LRD_KNOWN_ABSENT)
        return LARDER_ABSENT;
    if (size != NULL)
        *size = lrd_item_value_len(get.head);
    return outcome == LRD_FOUND ? LARDER_OK : LARDER_TOO_SMALL;
}

static __attribute__((noinline)) bool is_pending(const struct lrd_attachment *at, uint64_t hash)
{
    bool pending = lrd_ryw_has(at, hash);
    lrd_fence_acquire(); /* what is not pending is in the table: pairs with the release of the applied position in an intent */
    return pending;
}

int larder_revisit(struct larder_ns *ns, const struct larder_hold *hold)
{
    if (lrd_unlikely(ns == NULL || hold == NULL || hold->size < sizeof *hold))
        return -EINVAL;
    struct lrd_attachment *at;
    int r = begin(ns, &at);
    if (lrd_unlikely(r != 0))
        return r;
    const struct lrd_reader *reader = &at->r;
    uint64_t place = hold->own[HOLD_PLACE], slot = hold->own[HOLD_SLOT], word = hold->own[HOLD_BLOCK_WORD], expires_ms = hold->own[HOLD_EXPIRES];
    uint32_t block = lrd_arena_block(reader, slot), ns_index = (uint32_t)hold->own[HOLD_NS] % LRD_NAMESPACES;
    if (lrd_unlikely(hold->own[HOLD_SEGMENT] != reader->geometry.segment_id || slot == 0 || place >= (uint64_t)reader->n_pairs * 2 * WORDS_OF_BUCKET || block >= reader->n_blocks))
        return LARDER_CHANGED;
    if (lrd_unlikely(lrd_ryw_pending(at)) && is_pending(at, hold->own[HOLD_HASH]))
        return LARDER_CHANGED;
    const struct lrd_bucket *bucket = &reader->buckets[place / WORDS_OF_BUCKET];
    /* Acquire: the other two words are loaded behind it; pairs with the releases in intents. */
    if (lrd_load_acquire((const lrd_u64 *)(const void *)bucket + place % WORDS_OF_BUCKET) != slot || lrd_load_relaxed(&reader->block_words[block]) != word ||
        lrd_load32_relaxed(&reader->namespaces[ns_index].epoch) != lrd_block_word_epoch(word))
        return LARDER_CHANGED;
    if (expires_ms != 0 && expires_ms <= lrd_clock_segment_ms(at->zero_ns))
        return LARDER_CHANGED;
    lrd_marks_set(&at->marks, bucket, 1u << (place % WORDS_OF_BUCKET));
    count_hit(ns, at, hold->own[HOLD_HASH]);
    return 0;
}
