/* Requests: what the daemon is asked to do, and what it answers.
 *
 * A request is a record in the ring like any write, so it comes to the writer's one order of things. Its result is in the lane: the writer stores the answer, then the position
 * it belongs to, then the applied position, which the asker waits for.
 *
 *   lane.answer, lane.answer_position      stored by the writer before the applied position passes the record (release); loaded after it (acquire)
 *   the right to ask                       a mutex in the page that fork empties: one thread at a time, so that an answer is not overwritten by the next before it is read
 *
 * An asker that gave up leaves its record in the ring. Its answer comes before that of any later request, because records are applied in order; who waits for a later
 * position reads the answer of that one. The lane is our own memory: a wrong number there fools nobody but this process, and an unknown one is -EPROTO.
 *
 * A request is not a write: it is not raised for read-your-writes and not counted.
 *
 * A process that dies anywhere here leaves a ring like one that dies in a set (set.c); what it asked for is done or not.
 */
#include "libclient/client.h"

#include <errno.h>
#include <time.h>

#include "shm/racy.h"
#include "shm/wait.h"

#define ANSWER_MS 1000u

/* Not by the wall clock, which may be set meanwhile. ThreadSanitizer (clang 14) does not see that pthread_mutex_clocklock() locks. */
static int lock_until(pthread_mutex_t *mutex, uint64_t end_ns)
{
#ifdef LRD_TSAN
    while (pthread_mutex_trylock(mutex) != 0) {
        if (lrd_clock_ns() >= end_ns)
            return ETIMEDOUT;
        lrd_pause();
    }
    return 0;
#else
    const struct timespec end = {.tv_sec = (time_t)(end_ns / 1000000000u), .tv_nsec = (long)(end_ns % 1000000000u)};
    return pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &end);
#endif
}

bool lrd_request_begin(struct lrd_private *here, uint64_t end_ns) { return lock_until(&here->request, end_ns) == 0; }

void lrd_request_end(struct lrd_private *here) { pthread_mutex_unlock(&here->request); }

static int answer_result(const struct lrd_attachment *at, uint64_t position)
{
    const struct lrd_lane *lane = at->ring.lane;
    /* Relaxed: stored before the applied position that we waited for. */
    if (lrd_load_relaxed(&lane->answer_position) != position)
        return -EPROTO;
    switch (lrd_load_relaxed(&lane->answer)) {
    case LRD_ANSWER_OK:
        return 0;
    case LRD_ANSWER_DENIED:
        return LARDER_NOT_ALLOWED;
    case LRD_ANSWER_EXISTS:
        return LARDER_EXISTS;
    case LRD_ANSWER_NO_QUOTA:
    case LRD_ANSWER_TOO_MANY:
        return LARDER_NO_QUOTA;
    case LRD_ANSWER_NO_NS:
        return LARDER_NO_NAMESPACE;
    case LRD_ANSWER_FULL:
        return LARDER_FULL;
    case LRD_ANSWER_MALFORMED:
        return -EINVAL;
    default:
        return -EPROTO;
    }
}

int lrd_request_send(struct larder *h, struct lrd_attachment *at, const struct lrd_request *request, uint64_t end_ns, uint64_t *position)
{
    int r = lrd_may_write(h, at, lrd_clock_segment_ms(at->zero_ns));
    if (r != 0)
        return r;
    /* No epoch: it is executed, whatever was reset meanwhile. */
    const struct lrd_record rec = {.kind = (uint8_t)request->kind, .ns = (uint16_t)request->ns, .value_len = request->value_len};
    uint32_t n = lrd_ring_cells_for(0, request->value_len);
    if (!lrd_ring_claim(&at->ring, at->words, &at->seen, n, position)) {
        r = lrd_claim_slowly(h, at, n, end_ns, position);
        if (r != 0)
            return r;
    }
    /* A new lane's zeros would be an answer at position 0. An earlier request's answer may still come over it, with its own position. */
    lrd_store_relaxed(&at->ring.lane->answer_position, UINT64_MAX);
    lrd_fence_release(); /* as in a write: gets of this process may still look at what was in these cells */
    unsigned char *p = lrd_ring_at(&at->ring, *position);
    lrd_racy_fill(p, &rec, sizeof rec);
    if (request->value_len > 0)
        lrd_racy_fill(p + sizeof rec, request->value, request->value_len);
    lrd_ring_commit(&at->ring, *position, n, request->kind);
    lrd_doorbell_ring(at->words, at->doorbell, &at->rung);
    r = lrd_wait_for(h, at, *position, lrd_left_ms(end_ns));
    return r != 0 ? r : answer_result(at, *position);
}

static int send_until(struct larder *h, struct lrd_attachment *at, const struct lrd_request *request, uint64_t end_ns)
{
    uint64_t position;
    if (!lrd_request_begin(h->here, end_ns))
        return LARDER_BUSY; /* others ask, and get no answer either */
    int r = lrd_request_send(h, at, request, end_ns, &position);
    lrd_request_end(h->here);
    return r;
}

int lrd_request(struct larder *h, struct lrd_attachment *at, const struct lrd_request *request)
{
    return send_until(h, at, request, lrd_clock_ns() + ANSWER_MS * UINT64_C(1000000));
}

/* ---- memory ---- */

static int measure_in(struct larder *h, struct lrd_attachment *at, uint64_t end_ns)
{
    static const struct lrd_request request = {.kind = LRD_RECORD_MEASURE};
    uint64_t before = lrd_load_acquire(&at->r.header->measured);
    int r = send_until(h, at, &request, end_ns);
    /* The writer only passes it on. Acquire: pairs with the release of the count, which is stored last. */
    while (r == 0 && lrd_load_acquire(&at->r.header->measured) == before) {
        if (!lrd_lane_is_ours(at) || lrd_current(h, h->here) != at)
            return LARDER_LOST;
        if (lrd_clock_ns() >= end_ns)
            return lrd_renew(h, at) || lrd_is_down(at) ? LARDER_LOST : LARDER_TIMEOUT;
        const struct timespec nap = {.tv_nsec = 1000000};
        nanosleep(&nap, NULL);
    }
    return r;
}

int larder_measure(struct larder *h, uint32_t timeout_ms)
{
    if (h == NULL)
        return -EINVAL;
    uint64_t end_ns = lrd_clock_ns() + timeout_ms * UINT64_C(1000000);
    int r;
    do {
        struct lrd_attachment *at = lrd_current(h, h->here);
        r = at == NULL ? lrd_no_attachment(h) : measure_in(h, at, end_ns);
    } while (r == LRD_ELSEWHERE);
    return r;
}
