/* What a handle is made of.
 *
 *   struct larder              what the caller holds: options, paths, all attachments it ever had
 *   struct lrd_private         one page of it that the kernel empties in a forked child: the attachment in use, and the lock of the slow paths
 *   struct lrd_attachment      one lane of one segment, as mapped here. Fixed once it is published, except the words that say otherwise.
 *
 * A call loads the attachment in use once (lrd_current) and works with it to its end. The load is all that a fork and a lost daemon cost: a forked
 * child finds NULL there, because the kernel gave it an empty page, and attaches anew (attach.c); when the daemon is replaced, a slow path of some
 * thread stores another attachment there. The old one stays until larder_close(), so a thread that still works with it touches nothing that is not there.
 *
 *   who                                         may run beside
 *   get, set, wait, stats (any thread)          everything but close
 *   lrd_attach_first, lrd_renew, names          everything but close; they take the mutex
 *   requests                                    everything but close; they take the other one (request.c), and that one first
 *   larder_close                                nothing
 */
#ifndef LRD_CLIENT_H
#define LRD_CLIENT_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "libclient/larder.h"
#include "shm/clock.h"
#include "shm/hash.h"
#include "shm/layout.h"
#include "shm/marks.h"
#include "shm/ring.h"
#include "shm/segment.h"

/* ---- read-your-writes: ryw.c ---- */

struct lrd_get;

struct lrd_ryw {
    lrd_u64 *entry; /* (bucket_mask + 1) buckets of LRD_RYW_WAYS entries */
    size_t bytes;
    uint32_t bucket_mask;
};

/* Which places in the lane are taken for results, and for which tickets they are held. This process's alone: result.c. */
#define LRD_RESULT_HINTS (2u * LRD_RESULTS)
struct lrd_results {
    lrd_u64 given_back;             /* the place given back last: turns:48 | place:16; place 0: none */
    lrd_u32 under[LRD_RESULTS];     /* by place - 1: the one given back before it */
    lrd_u32 fresh;                  /* places that were ever asked for, while none was given back */
    lrd_u64 owner[LRD_RESULTS];     /* by place - 1: position + 1 of its record:62 | enum owner:2 */
    lrd_u32 hint[LRD_RESULT_HINTS]; /* by position: a place that may be its own */
};

struct lrd_attachment {
    /* what every get needs; fixed */
    struct lrd_reader r;
    const struct lrd_lane_words *words; /* the worker's, of our lane */
    struct lrd_ring ring;
    struct lrd_ryw ryw;
    uint64_t zero_ns;         /* our CLOCK_MONOTONIC at segment time 0 */
    struct lrd_marks marks;   /* where hits leave their marks: the lane's map, or full_mark */
    uint64_t look_mask;       /* hits of a thread between two that do something more, less 1: see now_and_then() */
    lrd_u32 special;          /* not 0: a get has something to do before it begins (LRD_SPECIAL_...) */
    uint32_t max_silence_ms;  /* 0: not asked for */
    uint32_t time_each;       /* one call in so many is timed; 0: none */
    uint32_t incarnation;     /* in tickets: 1 for the first attachment of the handle */
    uint32_t lane_incarnation; /* of the lane when we got it: see lrd_lane_is_ours() */
    int sock;                 /* its end is the daemon's */
    int doorbell;

    /* By the handle's number of a name, the index of that namespace in the segment; LRD_NS_NOWHERE: there is none, or no such number. Goes from nowhere to somewhere and
     * stays (release; names.c). The first is always the default namespace's. */
    lrd_u32 ns_index[LRD_NAMESPACES];
    lrd_u64 ns_seed[LRD_NAMESPACES]; /* lrd_hash_seed() of each; stored before its index */
    const struct lrd_lane_credit *credit; /* the worker's, of our lane */

    /* gets store here after writes of ours; gets load it */
    _Alignas(LRD_LINE) lrd_u64 settled; /* everything below was applied when somebody looked */

    /* producers */
    _Alignas(LRD_LINE) lrd_u64 seen; /* see lrd_ring_claim() */
    lrd_u32 rung;                    /* see lrd_doorbell_ring() */

    /* slow paths */
    unsigned char full_mark;  /* 0xff: where the marks of a lane without a map fall */
    lrd_u64 asked;            /* end of the last request for credit; under the request mutex */
    struct lrd_results results;
    lrd_u64 down;             /* 1: its daemon is gone for good */
    lrd_u64 replaced;         /* 1: segment and lane are zeros, or will be in a moment */
    struct lrd_fd_id {        /* what the descriptors were: a process may close all it has without telling us */
        dev_t dev;
        ino_t ino;
    } sock_id, doorbell_id;
    void *base;               /* the segment's place in our address space: reserved_bytes from here are ours */
    size_t reserved_bytes;
    struct lrd_attachment *older;
};

/* A switch of the breaker: next probe, or since when it is being refused, ns:62 | open:1 | trying:1; 0: closed, nothing was refused (breaker.c). */
struct lrd_breaker_state {
    lrd_u64 busy, down;
    lrd_u64 full[LRD_NAMESPACES];     /* by number of the name, as the next */
    lrd_u64 diverted[LRD_NAMESPACES]; /* writes that went to the fallback */
};

struct lrd_private {
    /* Stored with release by who attached, under the mutex; loaded with acquire by every call. NULL: this process has none yet. */
    _Atomic(struct lrd_attachment *) at;
    lrd_u64 tripped; /* switches of the breaker that are not 0: every write loads it, so it stands beside `at` */
    bool born;                /* this process has taken the handle over (under the mutex) */
    pthread_mutex_t mutex;    /* all zeros is an unlocked one; nobody's in a child, whoever held it in the parent */
    pthread_mutex_t request;  /* held by the thread whose request is under way */
    lrd_u64 look_ns;          /* not before this time does anybody look again whether the daemon is gone */
    lrd_u64 lost;             /* 1: writes went with a daemon, and larder_flush() has not said so yet */
    struct lrd_breaker_state breaker;
};
static_assert(sizeof(struct lrd_private) <= LRD_PAGE, "a page");

struct larder_ns {
    struct larder *handle;
    struct lrd_private *here;
    uint32_t number; /* of its name in this handle */
    char name[LRD_NAMESPACE_NAME];
};

#define LRD_PATHS 2

/* What a closed handle and its namespaces have for a private page: nothing, for ever. */
extern struct lrd_private lrd_nobody;

struct larder {
    struct lrd_private *here;      /* of a closed handle lrd_nobody */
    struct lrd_attachment *newest; /* all of this process, and in a child at first those of the parent; pushed by one store (release), under the mutex */
    struct larder_options options; /* socket is NULL: see path */
    char *path[LRD_PATHS];         /* where to look for a daemon, in this order */
    unsigned n_paths;
    uint32_t n_attached;           /* attachments there have been, of parents too */
    struct larder_ns default_ns;
    struct larder_ns *ns[LRD_NS_NOWHERE]; /* by number, n_ns of them; under the mutex. The first is default_ns. */
    _Atomic(struct lrd_fallback *) fallback; /* the one in use; NULL: none. With the former ones behind it until the handle is closed */
    struct larder_watch *watches;  /* all that are open; under the mutex */
    struct {
        int fd, own;               /* -1: nobody has asked for them */
    } event;                       /* event.c; under the mutex */
    lrd_u32 n_ns;                  /* stored last, so that a process forked at any instant finds a whole list */
    bool closed;                   /* larder_close() was called on it: see attach.c */
};

/* Not a result: another attachment is in use, begin again with that. */
#define LRD_ELSEWHERE (-4096)

/* ---- attach.c ---- */

/* The attachment in use, made now if this process has none (after fork). NULL: no daemon, or the handle is closed: lrd_no_attachment() is the call's result then. */
struct lrd_attachment *lrd_attach_first(struct larder *handle);

static inline int lrd_no_attachment(const struct larder *handle) { return handle->closed ? -EBADF : LARDER_DOWN; }

/* Whether another attachment than `at` is in use now. If its daemon is gone, tries to attach to the next one; looks at most every 50 ms, else returns at once. */
bool lrd_renew(struct larder *handle, struct lrd_attachment *at);

static inline struct lrd_attachment *lrd_current(struct larder *handle, struct lrd_private *here)
{
    /* Pairs with the release in publish(): who sees the attachment sees what is in it. */
    struct lrd_attachment *at = atomic_load_explicit(&here->at, memory_order_acquire);
    return lrd_likely(at != NULL) ? at : lrd_attach_first(handle);
}

/* Milliseconds since the writer's last sign of life. Relaxed: a stale look makes it one sign older. */
static inline uint64_t lrd_silence_ms(const struct lrd_attachment *at, uint64_t now_ms)
{
    uint64_t beat_ms = lrd_load_relaxed(&at->r.header->heartbeat_ms);
    return now_ms > beat_ms ? now_ms - beat_ms : 0;
}

/* A thread that only hits would never learn that its daemon is gone: it looks with one hit in so many. A power of two, as LRD_SAMPLE_EACH, and more. */
#define LRD_LOOK_EACH 1024u

/* After so long a silence it is worth asking whether the daemon is gone: five times the longest silence of one that lives. */
#define LRD_SUSPICIOUS_MS 500u

/* Whether the worker still reads our lane. It does not if it has taken us for dead: somebody closed our socket behind our back, or the lane was detached after faults. The lane's
 * words are then another client's, and positions there mean nothing to us. They share a line with `parked`, which a write looks at anyway. Relaxed: a write that does
 * not see it yet went with the lane, as one an instant earlier. */
static inline bool lrd_lane_is_ours(const struct lrd_attachment *at)
{
    return lrd_load32_relaxed(&at->words->incarnation) == at->lane_incarnation && lrd_load32_relaxed(&at->words->state) == LRD_LANE_LIVE;
}

static inline bool lrd_is_down(const struct lrd_attachment *at) { return lrd_load_relaxed(&at->down) != 0; }

static inline bool lrd_key_ok(const void *key, size_t key_size) { return key != NULL && key_size - 1 < LARDER_KEY_MAX; }

/* ---- names.c ---- */

/* Looks up all the handle's names in an attachment that is about to be published; under the mutex, or before anybody has the handle. */
void lrd_ns_look_up(const struct larder *handle, struct lrd_attachment *at);

/* Looks a name up again that seems to be nowhere. 0 and *index; LARDER_NO_NAMESPACE; LRD_ELSEWHERE. */
int lrd_ns_seek(struct larder_ns *ns, struct lrd_attachment *at, uint32_t *index);

/* The handle is closed: its namespaces have no attachment any more. */
void lrd_ns_close_all(struct larder *handle);
void lrd_ns_free_all(struct larder *handle);

/* Where the namespace is in that segment. Acquire: pairs with the release in names.c, so that who takes another thread's word for it sees what that one saw. */
static inline uint32_t lrd_ns_index(const struct lrd_attachment *at, const struct larder_ns *ns) { return lrd_load32_acquire(&at->ns_index[ns->number]); }

/* The hash of a key in that namespace. Relaxed: to be called after lrd_ns_index(), whose acquire pairs with the release of the index. */
static inline uint64_t lrd_ns_hash(const struct lrd_attachment *at, const struct larder_ns *ns, const void *key, size_t key_size)
{
    return lrd_hash_seeded(lrd_load_relaxed(&at->ns_seed[ns->number]), key, key_size);
}

/* The same for who writes there: LRD_NS_NOWHERE is looked up again. */
static inline int lrd_ns_live(struct larder_ns *ns, struct lrd_attachment *at, uint32_t *index)
{
    *index = lrd_ns_index(at, ns);
    return lrd_likely(lrd_load32_acquire(&at->r.namespaces[*index].state) == LRD_NS_LIVE) ? 0 : lrd_ns_seek(ns, at, index);
}

/* ---- tickets: incarnation:12 | position + 1:52 ---- */

#define LRD_TICKET_BITS 52u
#define LRD_TICKET_MASK ((UINT64_C(1) << LRD_TICKET_BITS) - 1)

static inline larder_ticket lrd_ticket_make(const struct lrd_attachment *at, uint64_t position)
{
    return (uint64_t)at->incarnation << LRD_TICKET_BITS | ((position + 1) & LRD_TICKET_MASK);
}

/* ---- set.c ---- */

/* A write on its way into the ring. */
struct lrd_write {
    uint32_t kind;      /* enum lrd_record_kind */
    uint32_t item_kind; /* of PUT */
    uint32_t flags;
    uint32_t result;    /* index of its result in the lane, + 1; 0: none (result.c) */
    const void *key;
    const void *value;
    uint32_t key_len;
    uint32_t value_len;
    int64_t ttl_ms;     /* LARDER_TTL_... */
    int64_t soft_ttl_ms; /* with LRD_ITEM_SOFT: becomes args.soft_ms; else 0 */
    const struct lrd_args *args; /* of conditional writes; NULL: none */
};

/* What a write needs. */
struct lrd_need {
    uint32_t cells;
    uint32_t n_args;  /* bytes of args in the record: 0 or all */
    uint32_t bytes;   /* of the item, as the daemon reckons credit */
    uint32_t account; /* where credit was taken for it; LRD_NO_CREDIT: none was */
};

/* A write that was checked: it lacks only its place. */
struct lrd_ready {
    struct lrd_record rec; /* without the epoch, which is loaded before the claim */
    struct lrd_args args;
    struct lrd_need need;
};

/* Writes a record into this attachment's ring: checks, credit, claim, fill, commit, raise, doorbell. 0 and *position; LARDER_BUSY, LARDER_DOWN, LARDER_FULL, LARDER_NO_NAMESPACE,
 * LRD_ELSEWHERE, -EINVAL, -E2BIG, -EPROTO: nothing was written. */
int lrd_write_to(struct larder_ns *ns, struct lrd_attachment *at, const struct lrd_write *w, uint64_t *position);

/* The same wherever the daemon is now, waiting for credit and room until end_ns (0: as long as the handle's options say): 0, *at and *position; never LRD_ELSEWHERE. */
int lrd_write_anywhere(struct larder_ns *ns, const struct lrd_write *w, uint64_t end_ns, struct lrd_attachment **at, uint64_t *position);

/* Takes over what options say: flags, ttl_ms, soft_ttl_ms, item_kind; NULL: nothing. allowed: bits of how that are. The token is the caller's to look at. 0; -EINVAL. */
int lrd_write_options(struct lrd_write *w, const struct larder_set_options *options, uint32_t allowed);

/* Its kind and options, as larder_set() would have them; key and value are not looked at. 0; -EINVAL. */
int lrd_write_of_set(struct lrd_write *w, const struct larder_set_options *options);

/* The stages of a write one by one, for who makes more than one at a time, or one in two calls (many.c, reserve.c). ns is the index in the segment (lrd_ns_live()). */
int lrd_write_ready(const struct lrd_attachment *at, uint32_t ns, const struct lrd_write *w, uint64_t now_ms, struct lrd_ready *ready); /* 0; -E2BIG, -EINVAL */
int lrd_write_pay(struct larder *handle, struct lrd_attachment *at, struct lrd_ready *ready, uint64_t *end_ns); /* as lrd_credit_take(), if it needs credit */
void lrd_write_unpay(const struct lrd_attachment *at, const struct lrd_ready *ready);
/* Fills claimed cells with all but the value; where that goes. */
unsigned char *lrd_write_head(const struct lrd_attachment *at, uint64_t position, const struct lrd_ready *ready, const void *key);
/* Fills claimed cells, commits, raises for read-your-writes, counts. No doorbell. */
void lrd_write_place(struct lrd_attachment *at, uint64_t position, const struct lrd_ready *ready, const void *key, const void *value);

/* What a timeout_ms of 0 in options means. */
static inline uint32_t lrd_timeout_ms(uint32_t timeout_ms) { return timeout_ms == 0 ? 1000 : timeout_ms; }

/* The attachment and position of a ticket. 0; LARDER_LOST; -EINVAL. */
int lrd_ticket_find(struct larder *h, larder_ticket ticket, struct lrd_attachment **at, uint64_t *position);

/* What became of one write: as lrd_wait_for(), and LARDER_DISCARDED. */
int lrd_became(struct larder *h, struct lrd_attachment *at, uint64_t position, uint32_t timeout_ms);

/* Until when a write that begins to wait now waits for room: CLOCK_MONOTONIC. */
uint64_t lrd_busy_end(const struct larder *handle);

/* Waits for room for n cells until end_ns, and claims them. 0; LARDER_BUSY, LARDER_DOWN, LRD_ELSEWHERE. */
int lrd_claim_slowly(struct larder *handle, struct lrd_attachment *at, uint32_t n, uint64_t end_ns, uint64_t *position);

/* The lane is not ours any more, or the daemon has been silent: 0 if writes may go there all the same; LARDER_DOWN, LRD_ELSEWHERE. */
int lrd_write_anyway(struct larder *handle, struct lrd_attachment *at);

/* Before every record. 0; LARDER_DOWN, LRD_ELSEWHERE. */
static inline int lrd_may_write(struct larder *handle, struct lrd_attachment *at, uint64_t now_ms)
{
    return lrd_likely(lrd_lane_is_ours(at) && lrd_silence_ms(at, now_ms) <= LRD_SUSPICIOUS_MS) ? 0 : lrd_write_anyway(handle, at);
}

/* Waits until the position is applied. 0; LARDER_TIMEOUT; LARDER_LOST. */
int lrd_wait_for(struct larder *handle, struct lrd_attachment *at, uint64_t position, uint32_t timeout_ms);

/* Whether the writer left word that it did not apply the record at a position that is applied. The word is gone when another record begins there, a ring later. Relaxed: stored
 * before the applied position, which was loaded with acquire. Zeros if the lane was replaced since: no lap is 0. */
static inline bool lrd_is_discarded(const struct lrd_attachment *at, uint64_t position)
{
    uint64_t w = lrd_load_relaxed(&at->ring.commit[lrd_ring_idx(&at->ring, position)]);
    return w == lrd_commit_make(lrd_ring_lap(&at->ring, position), lrd_commit_cells(w), LRD_COMMIT_DISCARDED);
}

/* Milliseconds until then, rounded up; 0: it is behind us. */
static inline uint32_t lrd_left_ms(uint64_t end_ns)
{
    uint64_t now = lrd_clock_ns();
    return now < end_ns ? (uint32_t)((end_ns - now + 999999u) / 1000000u) : 0;
}

/* ---- request.c ---- */

struct lrd_request {
    uint32_t kind; /* enum lrd_record_kind */
    uint32_t ns;
    const void *value;
    uint32_t value_len;
};

/* Takes the right to ask: one thread at a time. False: not until end_ns. */
bool lrd_request_begin(struct lrd_private *here, uint64_t end_ns);
void lrd_request_end(struct lrd_private *here);

/* Sends a request and waits for the answer until end_ns, with the right to ask. What the answer says, as a result of the library (-EPROTO: no answer that we know); LARDER_BUSY,
 * LARDER_DOWN, LRD_ELSEWHERE: it was not sent; LARDER_TIMEOUT, LARDER_LOST: it was. *position is where it stands, if
 * it was sent. */
int lrd_request_send(struct larder *handle, struct lrd_attachment *at, const struct lrd_request *request, uint64_t end_ns, uint64_t *position);

/* All of it: for up to a second. */
int lrd_request(struct larder *handle, struct lrd_attachment *at, const struct lrd_request *request);

/* ---- watch.c ---- */

/* Asks the writer to ring this lane once when an item with that hash changes, its namespace is reset, or any lane ends, and waits until it has heard that. What changed before is not
 * told: look at the key after this, then sleep.
 * *rung is for lrd_watch_wait(). 0; a write's result, LRD_ELSEWHERE too: the lane is not watched. 0 as well if the writer takes longer than a nap to hear it: who sleeps in naps and looks again
 * misses nothing for longer than one. Takes a nap for each of room and hearing at most, and not longer than until end_ns. */
int lrd_watch_key(struct larder_ns *ns, struct lrd_attachment *at, uint64_t hash, uint64_t end_ns, uint32_t *rung);

/* Sleeps until the lane is rung, or end_ns (CLOCK_MONOTONIC), or a nap of 50 ms; may return early. Then look again. A ring is for everything this lane has on watch: whatever is still waited for is
 * armed again when *rung is not lane_words.rung any more, or when header.worker_count has changed. Arming again each time is right too, and costs a round trip a nap. */
void lrd_watch_wait(struct lrd_attachment *at, uint32_t rung, uint64_t end_ns);

/* The same as lrd_watch_key() with flags of LRD_WATCH_... and a time to wait for room, for which the handle's counts if that is shorter, and once more for the writer: LARDER_TIMEOUT, LARDER_LOST. */
int lrd_watch_arm(struct larder_ns *ns, struct lrd_attachment *at, uint64_t hash, uint32_t flags, uint32_t timeout_ms, uint32_t *rung);

/* The version of the visible item of a key, 0 if there is none, and when it expires (segment time, 0: never). 0; LARDER_NO_NAMESPACE, LRD_ELSEWHERE. */
int lrd_watch_look(struct larder_ns *ns, struct lrd_attachment *at, const void *key, size_t key_size, uint64_t *version, uint64_t *expires_ms);

/* A place in the feed of a namespace; one thread at a time. */
struct larder_watch {
    struct larder_ns *ns;
    uint64_t segment_id; /* in which `next` counts */
    uint64_t next;
    struct larder_watch *older; /* of the handle; under the mutex */
};

/* Whether larder_watch_next() would have something. 0; LARDER_NO_NAMESPACE, LARDER_NO_FEED, LRD_ELSEWHERE. */
int lrd_watch_moved(const struct larder_watch *w, struct lrd_attachment *at, bool *moved);

void lrd_watch_free_all(struct larder *handle);

/* ---- event.c ---- */

/* Another attachment is in use; under the mutex. */
void lrd_event_attached(struct larder *handle, const struct lrd_attachment *at);

/* Closes what larder_event_fd() made. */
void lrd_event_close(struct larder *handle);

/* ---- credit.c ---- */

/* Takes credit for an item of `bytes` in a namespace that refuses, asking for it if need be, until *end_ns (0: is set from the handle's options when it must wait). 0 and *account,
 * for lrd_credit_give_back(); LARDER_FULL, LARDER_BUSY, LARDER_DOWN, LRD_ELSEWHERE, -errno: nothing is taken. */
int lrd_credit_take(struct larder *handle, struct lrd_attachment *at, uint32_t ns, uint32_t bytes, uint64_t *end_ns, uint32_t *account);

/* The write it was taken for is not going to be. */
void lrd_credit_give_back(const struct lrd_attachment *at, uint32_t account, uint32_t bytes);

/* The write is, and is smaller. */
void lrd_credit_give_back_bytes(const struct lrd_attachment *at, uint32_t account, uint32_t bytes);

/* Whether a write returns when it is visible to all: what it says itself counts, then what the handle says. */
static inline bool lrd_waits(const struct larder *handle, uint32_t how)
{
    return ((how & LARDER_SET_WAIT) | (handle->options.flags & LARDER_OPEN_WAIT_VISIBLE)) != 0 && (how & LARDER_SET_ASYNC) == 0;
}

/* ---- breaker.c ---- */

/* Nothing was refused lately that concerns this namespace: a write may be tried without asking. A load and a branch; a call and three loads more while any switch is not 0, be it that of a namespace that nobody writes to
 * any more. Relaxed: who does not see yet that it has tripped is refused himself. */
bool lrd_breaker_concerns(const struct larder_ns *ns);
static inline bool lrd_breaker_is_quiet(const struct larder_ns *ns) { return lrd_likely(lrd_load_relaxed(&ns->here->tripped) == 0) || !lrd_breaker_concerns(ns); }

/* A write without a result, as lrd_write_anywhere(), or the fallback. r: what a first try came to; LRD_ELSEWHERE: there was none. options are for the fallback. Also LARDER_DIVERTED. */
int lrd_breaker_write(struct larder_ns *ns, const struct lrd_write *w, int r, uint64_t end_ns, const struct larder_set_options *options, struct lrd_attachment **at,
                      uint64_t *position);

/* Writes of this handle that went to the fallback. */
uint64_t lrd_breaker_diverted(const struct larder *handle);

void lrd_breaker_free(struct larder *handle);

/* ---- result.c ---- */

/* What a conditional write was answered, as the writer left it in the lane. */
struct lrd_answered {
    uint64_t answer; /* enum lrd_answer, or anything */
    uint64_t version;
    uint64_t number;
};

/* As a result of the library: 0, LARDER_MISS, ..., -E2BIG, -EINVAL, -EPROTO (no answer that we know). */
int lrd_answer_result(const struct lrd_answered *a);

/* Takes a place in the lane for a result. Its index + 1, as it stands in a record; 0: all of them are taken. It is given back by one of the next four, once. */
uint32_t lrd_result_take(struct lrd_attachment *at);

/* Nothing was written that knows the place. */
void lrd_result_give_back(struct lrd_attachment *at, uint32_t place);

/* Nobody will ask for the result of the record at that position: the place is free when it is applied. */
void lrd_result_abandon(struct lrd_attachment *at, uint32_t place, uint64_t position);

/* From here on larder_result() finds it by its ticket. */
void lrd_result_hold(struct lrd_attachment *at, uint32_t place, uint64_t position);

/* Waits for the result of the record at that position and gives the place back. 0 and *a; -EPROTO: there is none; LARDER_LOST. LARDER_TIMEOUT: the place is still taken. */
int lrd_result_await(struct larder *h, struct lrd_attachment *at, uint32_t place, uint64_t position, uint32_t timeout_ms, struct lrd_answered *a);

/* ---- op.c ---- */

/* A conditional write on its way. */
struct lrd_op {
    struct lrd_write w;    /* args, result, soft_ttl_ms and LRD_ITEM_SOFT are lrd_operate()'s to set */
    struct lrd_args args;  /* but soft_ms */
    int64_t soft_ttl_ms;   /* 0: none */
    uint32_t timeout_ms;   /* 0: 1 s */
    bool async;            /* without a ticket nobody will ask for the result */
    bool plain;            /* with async: has a ticket and no result, as a set */
    larder_ticket *ticket; /* or NULL */
};

/* Writes it and, unless async, waits for its result. 0: *a is the answer (async: is not touched). LARDER_TIMEOUT, LARDER_LOST: it may happen, or has happened. Anything else: it did
 * not happen; nothing was written, or (-EPROTO) the writer left no word. */
int lrd_operate(struct larder_ns *ns, struct lrd_op *op, struct lrd_answered *a);

/* ---- ryw.c ---- */

enum lrd_own {
    LRD_OWN_NONE,     /* nothing of ours is pending for this key (any more): the table knows */
    LRD_OWN_VALUE,    /* *get is filled as by lrd_table_get_at(), slot and block_word 0 */
    LRD_OWN_ABSENT,   /* our pending write is a delete, or has expired */
    LRD_OWN_KNOWN_ABSENT, /* it says that there is no value */
    LRD_OWN_TOO_SMALL
};

int lrd_ryw_create(struct lrd_ryw *ryw, uint32_t n_cells);
void lrd_ryw_destroy(struct lrd_ryw *ryw);

/* Forgets everything and gives the memory back; anybody may be looking. */
void lrd_ryw_clear(struct lrd_ryw *ryw);

/* The record at `position`, of a key with this hash, is committed: from here on this process's gets see it. */
void lrd_ryw_raise(struct lrd_attachment *at, uint64_t hash, uint64_t position);

enum lrd_own lrd_ryw_get(struct lrd_attachment *at, struct lrd_get *get);

/* Waits until nothing that this process had written to a key with this hash before the call is pending. False: not within timeout_ms. */
bool lrd_ryw_settle(struct lrd_attachment *at, uint64_t hash, uint32_t timeout_ms);

/* Whether a write of ours to a key with this hash seems to be pending. */
bool lrd_ryw_has(const struct lrd_attachment *at, uint64_t hash);

#define LRD_RYW_WAYS 8u

static inline lrd_u64 *lrd_ryw_bucket(const struct lrd_ryw *ryw, uint64_t hash)
{
    return &ryw->entry[((uint32_t)(hash >> 32) & ryw->bucket_mask) * LRD_RYW_WAYS];
}

/* Whether a write of this process may not be applied yet. Two loads and a branch when none is. */
static inline bool lrd_ryw_pending(struct lrd_attachment *at)
{
    /* Acquire: pairs with the release below; who takes another thread's word for it must also see in the table what that thread could. The tail
     * is relaxed: writes that are ordered before this get were claimed before it, and a claim is a change of the tail. */
    uint64_t tail = lrd_load_relaxed(&at->ring.lane->tail);
    if (lrd_likely(lrd_load_acquire(&at->settled) == tail))
        return false;
    /* Pairs with the release of the applied position in an intent: the items of those records are in the table. */
    if (lrd_load_acquire(&at->words->applied) < tail)
        return true;
    /* Threads may store an older tail over a newer one: then the next get looks once more. */
    lrd_store_release(&at->settled, tail);
    return false;
}

/* ---- stats.c ---- */

/* The line of the calling thread: 0 none yet, 1 to 15 its own, 16 the one for all others. */
extern __thread unsigned lrd_stat_line __attribute__((tls_model("initial-exec")));

void lrd_stat_line_take(void);

/* Words of a line, in the order of struct lrd_lane_stats. */
enum lrd_stat {
    LRD_STAT_HITS,
    LRD_STAT_MISSES,
    LRD_STAT_RESTARTS,
    LRD_STAT_SETS,
    LRD_STAT_DELETES,
    LRD_STAT_BUSY,
    LRD_STAT_LINES_BEYOND,
    LRD_STAT_OWN
};

/* A thread without a line of its own. */
uint64_t lrd_count_shared(const struct lrd_attachment *at, enum lrd_stat what, uint64_t n);

/* Adds n where the calling thread counts; the sum there. The lane is the client's own: a wrong number there is its own. */
static inline uint64_t lrd_count(const struct lrd_attachment *at, enum lrd_stat what, uint64_t n)
{
    unsigned line = lrd_stat_line - 1;
    if (lrd_unlikely(line >= LRD_STAT_LINES - 1))
        return lrd_count_shared(at, what, n);
    lrd_u64 *word = &at->ring.lane->stats[line].word[what];
    uint64_t sum = lrd_load_relaxed(word) + n;
    lrd_store_relaxed(word, sum);
    return sum;
}

/* What is known of the namespaces of a segment by a walk over its blocks; by index, LRD_NAMESPACES of them. */
void lrd_ns_stats_all(const struct lrd_reader *r, struct larder_ns_stats *stats);

void lrd_stats_of(const struct larder *handle, const struct lrd_attachment *at, struct larder_stats *stats);

/* ---- latency.c: how long calls take ----
 *
 * One call in time_each is timed, from its first line to its last, the two looks at the clock included. Which one is left to chance a little, so that a program with a
 * period does not have the same call timed each time.
 *
 *   larder_get, get_item, get_many      now_and_then() makes one due each time_each keys (hits; misses too) by at->special, which a get looks at anyway. The call that finds it is
 *                                       timed: an untimed one pays nothing. Whether it hits is not known by then, so both kinds come in their shares
 *   all other calls                     lrd_time_begin() counts down in the thread: three instructions. One countdown for all of them and for all handles
 *
 *       uint64_t began = lrd_time_begin(at);
 *       ...
 *       lrd_time_end(at, LARDER_OP_VIEW, began);
 */

#define LRD_SPECIAL_SILENCE 0x80000000u /* always: the silence is bounded */
#define LRD_SPECIAL_OWED 0x00ff0000u    /* so many timed gets more behind that one */
#define LRD_SPECIAL_DUE 0x0000ffffu     /* not 0: a timed get is due when so many have come, this one included */

/* n more gets were counted of a kind, and their sum is that: whether one more is to be timed. */
void lrd_time_due(struct lrd_attachment *at, uint64_t sum, uint64_t n);

/* Whether this get, which has found `special` not 0, is the one to be timed. */
bool lrd_time_taken(struct lrd_attachment *at);

extern __thread uint32_t lrd_untimed __attribute__((tls_model("initial-exec"))); /* calls until one is timed */

uint64_t lrd_time_begin_slowly(const struct lrd_attachment *at);
void lrd_time_add(const struct lrd_attachment *at, enum larder_op op, uint64_t ns);

/* When this call began; 0: it is not to be timed. */
static inline uint64_t lrd_time_begin(const struct lrd_attachment *at) { return lrd_likely(--lrd_untimed != 0) ? 0 : lrd_time_begin_slowly(at); }

static inline void lrd_time_end(const struct lrd_attachment *at, enum larder_op op, uint64_t began)
{
    if (lrd_unlikely(began != 0))
        lrd_time_add(at, op, lrd_clock_ns() - began);
}

#endif
