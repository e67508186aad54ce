/* Waiting for changes: of one key, and of a namespace by its change feed.
 *
 *   watch: record into the ring -> the writer notes it (daemon/watch.h) -> we look again -> sleep on lane_words.rung -> look again
 *
 * The look between arming and sleeping is what loses nothing: a change before the writer's note is seen by it, a later one rings. What the writer notes is private to the worker and dies with it, so
 * sleepers nap: 50 ms at most, then they look, and arm again if they were rung or another worker is at work.
 */
#include "libclient/client.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "shm/feed.h"
#include "shm/racy.h"
#include "shm/table.h"
#include "shm/wait.h"

#define NAP_MS 50u
#define TICK_NS UINT64_C(1000000) /* an item is gone when the coarse clock says so: up to some ms after its time */

/* ---- arming ---- */

/* Acquire: pairs with the release in daemon/watch.c; who sees the ring sees the change it is for. */
static uint32_t rung_now(const struct lrd_attachment *at) { return lrd_load32_acquire(&at->words->rung); }

int lrd_watch_arm(struct larder_ns *ns, struct lrd_attachment *at, uint64_t hash, uint32_t flags, uint32_t timeout_ms, uint32_t *rung)
{
    uint32_t index, n = lrd_ring_cells_for(0, 0);
    uint64_t position;
    int r = lrd_may_write(ns->handle, at, lrd_clock_segment_ms(at->zero_ns));
    if (r != 0 || (r = lrd_ns_live(ns, at, &index)) != 0)
        return r;
    *rung = rung_now(at); /* before the writer can have heard of it */
    /* No epoch: what was reset meanwhile may be watched as well. */
    const struct lrd_record rec = {.kind = LRD_RECORD_WATCH, .ns = (uint16_t)index, .flags = flags, .hash_hint = hash};
    if (!lrd_ring_claim(&at->ring, at->words, &at->seen, n, &position)) {
        uint64_t busy_ns = lrd_busy_end(ns->handle), end_ns = lrd_clock_ns() + timeout_ms * UINT64_C(1000000);
        r = lrd_claim_slowly(ns->handle, at, n, busy_ns < end_ns ? busy_ns : end_ns, &position);
        if (r != 0)
            return r;
    }
    lrd_fence_release(); /* as in a write: gets of this process may still look at what was in these cells */
    lrd_racy_fill(lrd_ring_at(&at->ring, position), &rec, sizeof rec);
    lrd_ring_commit(&at->ring, position, n, LRD_RECORD_WATCH);
    lrd_doorbell_ring(at->words, at->doorbell, &at->rung);
    return lrd_wait_for(ns->handle, at, position, timeout_ms);
}

int lrd_watch_key(struct larder_ns *ns, struct lrd_attachment *at, uint64_t hash, uint64_t end_ns, uint32_t *rung)
{
    uint32_t left_ms = lrd_left_ms(end_ns);
    int r = lrd_watch_arm(ns, at, hash, 0, left_ms < NAP_MS ? left_ms : NAP_MS, rung);
    return r == LARDER_TIMEOUT ? 0 : r;
}

void lrd_watch_wait(struct lrd_attachment *at, uint32_t rung, uint64_t end_ns)
{
    uint64_t now = lrd_clock_ns(), left = end_ns > now ? end_ns - now : 0;
    if (left == 0 || rung_now(at) != rung)
        return;
    if (left > NAP_MS * UINT64_C(1000000))
        left = NAP_MS * UINT64_C(1000000);
    const struct timespec t = {.tv_sec = (time_t)(left / 1000000000u), .tv_nsec = (long)(left % 1000000000u)};
    /* Shared futexes work on read-only mappings. The word changes before the wake-up, so none is missed; any result is fine, the caller looks again. */
    syscall(SYS_futex, (const void *)&at->words->rung, FUTEX_WAIT, rung, &t, NULL, 0);
}

/* ---- what both kinds of waiting have in common ---- */

/* What a sleeper has on watch in this attachment, until it is rung or another worker is at work. */
struct armed {
    struct lrd_attachment *at; /* NULL: nothing */
    uint64_t worker;
    uint32_t rung;
};

static uint64_t worker_of(const struct lrd_attachment *at) { return lrd_load_relaxed(&at->r.header->worker_count); }

static bool is_armed(const struct armed *a, const struct lrd_attachment *at) { return a->at == at && a->rung == rung_now(at) && a->worker == worker_of(at); }

/* 0: armed just now, look again. A full ring, or a writer that does not answer, costs a nap: then the next look comes without a ring. */
static int arm(struct larder_ns *ns, struct lrd_attachment *at, uint64_t hash, uint32_t flags, struct armed *a)
{
    a->worker = worker_of(at); /* before: another one does not know of it */
    int r = lrd_watch_arm(ns, at, hash, flags, NAP_MS, &a->rung);
    a->at = r == 0 ? at : NULL;
    if (r == LARDER_BUSY || r == LARDER_TIMEOUT) {
        a->rung = rung_now(at);
        return 0;
    }
    /* The daemon is gone; another is in use, or there is none. */
    return r == LARDER_LOST ? lrd_is_down(at) && lrd_current(ns->handle, ns->here) == at ? LARDER_DOWN : LRD_ELSEWHERE : r;
}

/* Nothing has come until the deadline: from a daemon that lives? */
static int too_late(struct larder *h, struct lrd_attachment *at)
{
    if (lrd_silence_ms(at, lrd_clock_segment_ms(at->zero_ns)) <= LRD_SUSPICIOUS_MS)
        return LARDER_TIMEOUT;
    if (lrd_renew(h, at))
        return LRD_ELSEWHERE;
    return lrd_is_down(at) ? LARDER_DOWN : LARDER_TIMEOUT;
}

/* The segment was replaced by zeros: what was read of it meanwhile may be those. */
static bool is_replaced(const struct lrd_attachment *at)
{
    lrd_fence_acquire(); /* what was read before the look; pairs with the release in retire() */
    return lrd_load_relaxed(&at->replaced) != 0;
}

/* ---- one key ---- */

int lrd_watch_look(struct larder_ns *ns, struct lrd_attachment *at, const void *key, size_t key_size, uint64_t *version, uint64_t *expires_ms)
{
    static unsigned char nowhere;
    uint32_t index;
    int r = lrd_ns_live(ns, at, &index);
    if (r != 0)
        return r;
    struct lrd_get get = {.key = key, .key_len = (uint32_t)key_size, .ns = index, .hash = lrd_ns_hash(at, ns, key, key_size), .buffer = &nowhere, .zero_ns = at->zero_ns};
    enum lrd_outcome outcome = lrd_table_search(&at->r, &get, NULL);
    bool there = outcome == LRD_FOUND || outcome == LRD_TOO_SMALL;
    *version = there ? (uint64_t)lrd_block_word_generation(get.block_word) << 32 | lrd_slot_location(get.slot) : 0;
    *expires_ms = there ? lrd_item_expires_ms(get.head) : 0;
    return is_replaced(at) ? LRD_ELSEWHERE : 0;
}

/* Own writes of this key that are not visible yet. */
static void let_own_be_seen(struct larder_ns *ns, struct lrd_attachment *at, uint64_t hash, uint64_t end_ns)
{
    if (lrd_ryw_pending(at) && lrd_ryw_has(at, hash))
        lrd_wait_for(ns->handle, at, lrd_load_relaxed(&at->ring.lane->tail) - 1, lrd_left_ms(end_ns)); /* whatever comes of it: then the look */
}

/* Until when to sleep: nobody tells of an expiry. */
static uint64_t sleep_end(const struct lrd_attachment *at, uint64_t expires_ms, uint64_t end_ns)
{
    if (expires_ms == 0)
        return end_ns;
    uint64_t gone_ns = at->zero_ns + expires_ms * UINT64_C(1000000), soon_ns = lrd_clock_ns() + TICK_NS;
    gone_ns = gone_ns > soon_ns ? gone_ns : soon_ns;
    return gone_ns < end_ns ? gone_ns : end_ns;
}

/* One look in this attachment, and one nap. LARDER_TIMEOUT: nothing yet. */
static int wait_here(struct larder_ns *ns, struct lrd_attachment *at, const void *key, size_t key_size, uint64_t version, uint64_t end_ns, struct armed *armed, uint64_t *now)
{
    uint64_t hash = lrd_ns_hash(at, ns, key, key_size), expires_ms;
    if (at->max_silence_ms != 0 && lrd_silence_ms(at, lrd_clock_segment_ms(at->zero_ns)) > at->max_silence_ms)
        return lrd_renew(ns->handle, at) ? LRD_ELSEWHERE : LARDER_STALE;
    let_own_be_seen(ns, at, hash, end_ns);
    int r = lrd_watch_look(ns, at, key, key_size, now, &expires_ms);
    if (r != 0 || *now != version)
        return r;
    if (lrd_clock_ns() >= end_ns)
        return too_late(ns->handle, at);
    if (is_armed(armed, at)) {
        lrd_watch_wait(at, armed->rung, sleep_end(at, expires_ms, end_ns));
        return lrd_silence_ms(at, lrd_clock_segment_ms(at->zero_ns)) > LRD_SUSPICIOUS_MS && lrd_renew(ns->handle, at) ? LRD_ELSEWHERE : LARDER_BUSY;
    }
    r = arm(ns, at, hash, 0, armed);
    if (r == 0 && armed->at == NULL)
        lrd_watch_wait(at, armed->rung, sleep_end(at, expires_ms, end_ns));
    return r == 0 ? LARDER_BUSY : r;
}

int larder_wait_change(struct larder_ns *ns, const void *key, size_t key_size, uint64_t version, uint32_t timeout_ms, uint64_t *now)
{
    uint64_t found = 0, end_ns = lrd_clock_ns() + timeout_ms * UINT64_C(1000000);
    struct armed armed = {NULL, 0, 0};
    if (now != NULL)
        *now = 0;
    if (ns == NULL || !lrd_key_ok(key, key_size))
        return -EINVAL;
    int r;
    do {
        struct lrd_attachment *at = lrd_current(ns->handle, ns->here);
        r = at == NULL ? lrd_no_attachment(ns->handle) : wait_here(ns, at, key, key_size, version, end_ns, &armed, &found);
    } while (r == LRD_ELSEWHERE || r == LARDER_BUSY);
    if (now != NULL)
        *now = found;
    return r;
}

/* ---- the feed ---- */

/* Where the next event of the watch lies. 0; LARDER_NO_NAMESPACE, LARDER_NO_FEED, LRD_ELSEWHERE. */
static int feed_here(struct larder_ns *ns, struct lrd_attachment *at, const struct lrd_feed **feed, uint32_t *entries)
{
    uint32_t index;
    int r = lrd_ns_live(ns, at, &index);
    if (r != 0)
        return r;
    *feed = lrd_feed_of(&at->r, index, entries);
    return is_replaced(at) ? LRD_ELSEWHERE : *feed == NULL ? LARDER_NO_FEED : 0;
}

int larder_watch_open(struct larder_ns *ns, struct larder_watch **out)
{
    if (out == NULL)
        return -EINVAL;
    *out = NULL;
    if (ns == NULL)
        return -EINVAL;
    struct lrd_attachment *at;
    const struct lrd_feed *feed;
    uint64_t end = 0;
    uint32_t entries;
    int r;
    do {
        at = lrd_current(ns->handle, ns->here);
        if (at == NULL)
            return lrd_no_attachment(ns->handle);
        r = feed_here(ns, at, &feed, &entries);
        if (r == 0)
            end = lrd_feed_end(feed);
    } while (r == LRD_ELSEWHERE || (r == 0 && is_replaced(at)));
    if (r != 0)
        return r;
    struct larder_watch *w = calloc(1, sizeof *w);
    if (w == NULL)
        return -ENOMEM;
    *w = (struct larder_watch){.ns = ns, .segment_id = at->r.geometry.segment_id, .next = end};
    pthread_mutex_lock(&ns->here->mutex);
    w->older = ns->handle->watches;
    ns->handle->watches = w; /* one store, so that a process forked at any instant finds a whole list */
    pthread_mutex_unlock(&ns->here->mutex);
    *out = w;
    return 0;
}

void larder_watch_close(struct larder_watch *w)
{
    if (w == NULL)
        return;
    pthread_mutex_lock(&w->ns->here->mutex);
    struct larder_watch **link = &w->ns->handle->watches;
    while (*link != w)
        link = &(*link)->older;
    *link = w->older;
    pthread_mutex_unlock(&w->ns->here->mutex);
    free(w);
}

void lrd_watch_free_all(struct larder *h)
{
    for (struct larder_watch *w = h->watches, *older; w != NULL; w = older) {
        older = w->older;
        free(w);
    }
    h->watches = NULL;
}

static void event_fill(struct larder_event *e, const struct lrd_happened *h)
{
    uint32_t n = lrd_feed_key_len(h->what);
    e->hash = h->hash;
    e->version = h->version;
    e->when_ms = h->when_ms;
    e->kind = lrd_feed_event(h->what);
    e->key_size = n;
    memset(e->key, 0, sizeof e->key);
    if (n <= sizeof e->key)
        memcpy(e->key, h->key, n);
}
static_assert(LARDER_EVENT_KEY == LRD_FEED_KEY, "one size");
static_assert((int)LARDER_EVENT_SET == (int)LRD_EVENT_SET && (int)LARDER_EVENT_DELETE == (int)LRD_EVENT_DELETE && (int)LARDER_EVENT_EVICTED == (int)LRD_EVENT_EVICTED &&
                  (int)LARDER_EVENT_BLOCK == (int)LRD_EVENT_BLOCK && (int)LARDER_EVENT_RESET == (int)LRD_EVENT_RESET, "one list");

/* What is there, up to n events. 0: *got of them, perhaps none. */
static int take(struct larder_watch *w, const struct lrd_feed *feed, uint32_t entries, struct larder_event *events, size_t n, size_t *got, uint64_t *missed)
{
    size_t stride = events->size;
    struct lrd_happened happened;
    enum lrd_feed_look look = LRD_FEED_GOT;
    while (*got < n && (look = lrd_feed_read(feed, entries, w->next, &happened)) == LRD_FEED_GOT) {
        event_fill((struct larder_event *)(void *)((unsigned char *)events + *got * stride), &happened);
        w->next++;
        ++*got;
    }
    if (look != LRD_FEED_OVERTAKEN || *got > 0)
        return 0; /* if it was overtaken now, the next call says so */
    uint64_t end = lrd_feed_end(feed);
    *missed = end - w->next;
    w->next = end;
    return LARDER_OVERTAKEN;
}

/* Another segment than the one it stood in: its end is where it goes on. A namespace that is not there yet will be new when it comes. */
static int go_over(struct larder_watch *w, const struct lrd_attachment *at, const struct lrd_feed *feed)
{
    w->next = feed != NULL ? lrd_feed_end(feed) : 0;
    if (is_replaced(at))
        return LRD_ELSEWHERE;
    w->segment_id = at->r.geometry.segment_id;
    return LARDER_LOST;
}

static int take_here(struct larder_watch *w, struct lrd_attachment *at, struct larder_event *events, size_t n, size_t *got, uint64_t *missed)
{
    const struct lrd_feed *feed = NULL;
    uint64_t next = w->next;
    uint32_t entries;
    int r = feed_here(w->ns, at, &feed, &entries);
    if (r != LRD_ELSEWHERE && at->r.geometry.segment_id != w->segment_id)
        return go_over(w, at, feed);
    if (r == 0)
        r = take(w, feed, entries, events, n, got, missed);
    if (is_replaced(at)) {
        w->next = next;
        *got = 0;
        *missed = 0;
        return LRD_ELSEWHERE;
    }
    return r;
}

static int next_here(struct larder_watch *w, struct lrd_attachment *at, struct larder_event *events, size_t n, size_t *got, uint64_t *missed, uint64_t end_ns, struct armed *armed)
{
    struct larder *h = w->ns->handle;
    int r = take_here(w, at, events, n, got, missed);
    if (r != 0 || *got > 0)
        return r;
    if (lrd_clock_ns() >= end_ns)
        return too_late(h, at);
    if (is_armed(armed, at)) {
        lrd_watch_wait(at, armed->rung, end_ns);
        return lrd_silence_ms(at, lrd_clock_segment_ms(at->zero_ns)) > LRD_SUSPICIOUS_MS && lrd_renew(h, at) ? LRD_ELSEWHERE : LARDER_BUSY;
    }
    r = arm(w->ns, at, 0, LRD_WATCH_FEED, armed);
    if (r == 0 && armed->at == NULL)
        lrd_watch_wait(at, armed->rung, end_ns);
    return r == 0 ? LARDER_BUSY : r;
}

int larder_watch_next(struct larder_watch *w, struct larder_event *events, size_t n, size_t *got, uint64_t *missed, uint32_t timeout_ms)
{
    uint64_t lost = 0, end_ns = timeout_ms == 0 ? 0 : lrd_clock_ns() + timeout_ms * UINT64_C(1000000);
    struct armed armed = {NULL, 0, 0};
    if (got != NULL)
        *got = 0;
    if (missed != NULL)
        *missed = 0;
    if (w == NULL || got == NULL || events == NULL || n == 0 || events->size < sizeof *events || events->size % _Alignof(struct larder_event) != 0)
        return -EINVAL;
    int r;
    do {
        struct lrd_attachment *at = lrd_current(w->ns->handle, w->ns->here);
        r = at == NULL ? lrd_no_attachment(w->ns->handle) : next_here(w, at, events, n, got, &lost, end_ns, &armed);
    } while (r == LRD_ELSEWHERE || r == LARDER_BUSY);
    if (missed != NULL)
        *missed = lost;
    return r;
}

/* For larder_arm_watch(). */
int lrd_watch_moved(const struct larder_watch *w, struct lrd_attachment *at, bool *moved)
{
    const struct lrd_feed *feed;
    uint32_t entries;
    *moved = at->r.geometry.segment_id != w->segment_id; /* larder_watch_next() has something to say about it */
    int r = *moved ? 0 : feed_here(w->ns, at, &feed, &entries);
    if (r == 0 && !*moved)
        *moved = lrd_feed_end(feed) != w->next;
    return r == 0 && is_replaced(at) ? LRD_ELSEWHERE : r;
}
