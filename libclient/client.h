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

struct lrd_attachment {
    /* what every get needs; fixed */
    struct lrd_reader r;
    const struct lrd_lane_words *words; /* the worker's, of our lane */
    struct lrd_ring ring;
    struct lrd_ryw ryw;
    uint64_t zero_ns;         /* our CLOCK_MONOTONIC at segment time 0 */
    struct lrd_marks marks;   /* where hits leave their marks: the lane's map, or full_mark */
    uint64_t look_mask;       /* hits of a thread between two that do something more, less 1: see now_and_then() */
    uint32_t max_silence_ms;  /* 0: not asked for */
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

struct lrd_private {
    /* Stored with release by who attached, under the mutex; loaded with acquire by every call. NULL: this process has none yet. */
    _Atomic(struct lrd_attachment *) at;
    bool born;                /* this process has taken the handle over (under the mutex) */
    pthread_mutex_t mutex;    /* all zeros is an unlocked one; nobody's in a child, whoever held it in the parent */
    pthread_mutex_t request;  /* held by the thread whose request is under way */
    lrd_u64 look_ns;          /* not before this time does anybody look again whether the daemon is gone */
    lrd_u64 lost;             /* 1: writes went with a daemon, and larder_flush() has not said so yet */
};

struct larder_ns {
    struct larder *handle;
    struct lrd_private *here;
    uint32_t number; /* of its name in this handle */
    char name[LRD_NAMESPACE_NAME];
};

#define LRD_PATHS 2

struct larder {
    struct lrd_private *here;
    struct lrd_attachment *newest; /* all of this process, and in a child at first those of the parent; pushed by one store (release), under the mutex */
    struct larder_options options; /* socket is NULL: see path */
    char *path[LRD_PATHS];         /* where to look for a daemon, in this order */
    unsigned n_paths;
    uint32_t n_attached;           /* attachments there have been, of parents too */
    struct larder_ns default_ns;
    struct larder_ns *ns[LRD_NS_NOWHERE]; /* by number, n_ns of them; under the mutex. The first is default_ns. */
    lrd_u32 n_ns;                  /* stored last, so that a process forked at any instant finds a whole list */
};

/* Not a result: another attachment is in use, begin again with that. */
#define LRD_ELSEWHERE (-4096)

/* ---- attach.c ---- */

/* The attachment in use, made now if this process has none (after fork). NULL: no daemon. */
struct lrd_attachment *lrd_attach_first(struct larder *handle);

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

/* ---- set.c ---- */

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

/* ---- credit.c ---- */

/* Takes credit for an item of `bytes` in a namespace that refuses, asking for it if need be, until *end_ns (0: set from the handle's options when it must wait). 0 and *account,
 * for lrd_credit_give_back(); LARDER_FULL, LARDER_BUSY, LARDER_DOWN, LRD_ELSEWHERE, -errno: nothing is taken. */
int lrd_credit_take(struct larder *handle, struct lrd_attachment *at, uint32_t ns, uint32_t bytes, uint64_t *end_ns, uint32_t *account);

/* The write it was taken for is not going to be. */
void lrd_credit_give_back(const struct lrd_attachment *at, uint32_t account, uint32_t bytes);

/* ---- ryw.c ---- */

enum lrd_own {
    LRD_OWN_NONE,     /* nothing of ours is pending for this key: the table knows */
    LRD_OWN_VALUE,    /* *get is filled as by lrd_table_get_at(), slot and block_word 0 */
    LRD_OWN_ABSENT,   /* our pending write is a delete, or has expired */
    LRD_OWN_TOO_SMALL
};

int lrd_ryw_create(struct lrd_ryw *ryw, uint32_t n_cells);
void lrd_ryw_destroy(struct lrd_ryw *ryw);

/* Forgets everything and gives the memory back; anybody may be looking. */
void lrd_ryw_clear(struct lrd_ryw *ryw);

/* The record at `position`, of a key with this hash, is committed: from here on this process's gets see it. */
void lrd_ryw_raise(struct lrd_attachment *at, uint64_t hash, uint64_t position);

enum lrd_own lrd_ryw_get(struct lrd_attachment *at, struct lrd_get *get);

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

#endif
