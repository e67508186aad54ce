/* Departures: a ring in which the writer notes which item went and why; `larderctl why` reads it.
 *
 *   writer   entry[n & mask] = ...; n = n + 1 (release)
 *   reader   n (acquire); the entries n - 1 down to n - n_departures + 1; acquire fence; n again: what was entry i is good if i + n_departures > n of now
 *
 * An entry that is being overwritten belongs to a number one ring ago: the reader's second look at n tells. The entry of number n - n_departures may be half
 * overwritten at any time, so it does not count. Entries are hints for people, outside the intents: a worker that is killed may leave out its last ones.
 */
#ifndef LRD_DEPARTURES_H
#define LRD_DEPARTURES_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/hash.h"
#include "shm/layout.h"
#include "shm/segment.h"

#define LRD_TTL_LEFT_NEVER 0xffffffu

static inline uint32_t lrd_ttl_left_make(uint64_t expires_ms, uint64_t now_ms)
{
    if (expires_ms == 0)
        return LRD_TTL_LEFT_NEVER;
    uint64_t left_ms = expires_ms > now_ms ? expires_ms - now_ms : 0;
    if (left_ms < 1u << 23)
        return (uint32_t)left_ms;
    uint64_t left_s = left_ms / 1000;
    return left_s < (1u << 23) - 1 ? 1u << 23 | (uint32_t)left_s : LRD_TTL_LEFT_NEVER - 1;
}

/* Milliseconds; UINT64_MAX: never. */
static inline uint64_t lrd_ttl_left_ms(uint32_t left) { return left == LRD_TTL_LEFT_NEVER ? UINT64_MAX : left < 1u << 23 ? left : (uint64_t)(left & 0x7fffff) * 1000; }

static inline uint64_t lrd_departure_who(uint32_t home, uint32_t tag, uint32_t ns, enum lrd_cause cause, bool ever_read)
{
    return (uint64_t)home << 32 | (uint64_t)tag << 18 | (uint64_t)ns << 12 | (uint64_t)cause << 8 | ever_read;
}
static inline uint32_t lrd_departure_home(uint64_t who) { return (uint32_t)(who >> 32); }
static inline uint32_t lrd_departure_tag(uint64_t who) { return (uint32_t)(who >> 18) & LRD_TAG_MASK; }
static inline uint32_t lrd_departure_ns(uint64_t who) { return (uint32_t)(who >> 12) & 63; }
static inline enum lrd_cause lrd_departure_cause(uint64_t who) { return (enum lrd_cause)((uint32_t)(who >> 8) & 15); }
static inline bool lrd_departure_read(uint64_t who) { return (who & 1) != 0; }

static inline uint64_t lrd_departure_when(uint64_t now_ms, uint32_t ttl_left) { return now_ms << 24 | ttl_left; }
static inline uint64_t lrd_departure_ms(uint64_t when) { return when >> 24; }
static inline uint32_t lrd_departure_left(uint64_t when) { return (uint32_t)when & 0xffffff; }

static inline const struct lrd_departure *lrd_departure_at(const struct lrd_departures *d, uint64_t i, uint32_t n_departures)
{
    return (const struct lrd_departure *)(const void *)(d + 1) + (i & (n_departures - 1));
}

/* ---- writing half ---- */

static inline void lrd_depart(struct lrd_store *s, uint64_t who, uint64_t when)
{
    uint64_t n = lrd_load_relaxed(&s->departures->n);
    struct lrd_departure *e = (struct lrd_departure *)(void *)(s->departures + 1) + (n & (s->r.geometry.n_departures - 1));
    /* Who reads a new byte of this entry sees n at its second look; pairs with the acquire fence there. */
    lrd_fence_release();
    lrd_store_relaxed(&e->who, who);
    lrd_store_relaxed(&e->when, when);
    lrd_store_release(&s->departures->n, n + 1);
}

#endif
