#include "daemon/harvest.h"

#include <errno.h>
#include <stdlib.h>

#include "shm/clock.h"

#define ROUND_MAX_NS UINT64_C(10000000000)
#define HARVEST_BYTES (8u << 10)  /* of maps, in a step */
#define HARVEST_SAMPLES 32u       /* in a step: each may be four buckets that are in no cache */
#define HARVEST_SHARE 10u         /* at most this part of the writer's time */

/* For each bit i + 1 of a mark byte: 1 in the two bits of slot i. */
static uint16_t spread[256];

static void make_spread(void)
{
    for (unsigned byte = 0; byte < 256; byte++)
        for (unsigned i = 0; i < LRD_SLOTS; i++)
            spread[byte] |= (uint16_t)((byte >> (i + 1) & 1) << (2 * i));
}

/* Adds one to each marked slot's count that is below 3. */
static void raise_counts(struct lrd_harvest *h, uint32_t bucket, uint8_t marks)
{
    uint32_t counts = h->t->counts[bucket], full = counts & counts >> 1 & 0x5555;
    h->t->counts[bucket] = (uint16_t)(counts + (spread[marks] & ~full));
}

static void take_word(struct lrd_harvest *h, uint32_t first_bucket, uint64_t marks)
{
    for (unsigned i = 0; i < 8; i++) {
        uint8_t byte = (uint8_t)(marks >> (8 * i));
        if (byte != 0 && first_bucket + i < lrd_n_buckets(&h->s->r))
            raise_counts(h, first_bucket + i, byte);
    }
    lrd_add_own(lrd_store_counter(h->s, 0, LRD_C_marks), (uint64_t)__builtin_popcountll(marks));
}

/* The same piece of all maps at once: an item that several processes read counts once in a round. */
static void take_piece(struct lrd_harvest *h, uint32_t n_maps, uint32_t at, uint32_t end)
{
    for (; at < end; at += 8) {
        uint64_t marks = 0;
        for (uint32_t i = 0; i < n_maps; i++) {
            lrd_u64 *word = (lrd_u64 *)(void *)(h->maps[i] + at);
            uint64_t w = lrd_load_relaxed(word);
            if (w != 0) {
                lrd_store_relaxed(word, 0); /* what its client sets in this instant may get lost: hints */
                marks |= w;
            }
        }
        if (marks != 0)
            take_word(h, at, marks);
    }
}

static void take_samples(struct lrd_harvest *h, const struct lrd_ring *ring, uint32_t at)
{
    uint64_t hash[HARVEST_SAMPLES];
    for (uint32_t i = 0; i < HARVEST_SAMPLES; i++) {
        hash[i] = lrd_load_relaxed(&ring->lane->sample[at + i]);
        if (hash[i] != 0)
            lrd_table_prefetch(&h->s->r, hash[i]);
    }
    for (uint32_t i = 0; i < HARVEST_SAMPLES; i++) {
        if (hash[i] == 0)
            continue;
        lrd_store_relaxed(&ring->lane->sample[at + i], 0);
        lrd_table_mark(h->t, hash[i]);
    }
}
_Static_assert(LRD_SAMPLES % HARVEST_SAMPLES == 0, "whole steps");

static void end_round(struct lrd_harvest *h, uint64_t now_ns)
{
    h->running = h->due = false;
    h->ended_ns = now_ns;
    lrd_add_own(lrd_store_counter(h->s, 0, LRD_C_harvests), 1);
}

/* Some samples of the next lane that has no map. False: there is none left in this round. */
static bool sample_step(struct lrd_harvest *h, const struct lrd_ring *const *lanes, uint32_t n)
{
    while (h->sampled < n && lanes[h->sampled]->marks != NULL)
        h->sampled++;
    if (h->sampled >= n)
        return false;
    take_samples(h, lanes[h->sampled], h->sample);
    h->sample += HARVEST_SAMPLES;
    if (h->sample < LRD_SAMPLES)
        return true;
    h->sampled++;
    h->sample = 0;
    return true;
}

/* The lanes' maps of now. */
static uint32_t find_maps(struct lrd_harvest *h, const struct lrd_ring *const *lanes, uint32_t n)
{
    uint32_t maps = 0;
    for (uint32_t i = 0; i < n && maps < h->s->r.geometry.n_mark_maps; i++)
        if (lanes[i]->marks != NULL)
            h->maps[maps++] = lanes[i]->marks;
    return maps;
}

/* The next piece of all maps. False: it was the last. */
static bool map_step(struct lrd_harvest *h, const struct lrd_ring *const *lanes, uint32_t n)
{
    uint32_t maps = find_maps(h, lanes, n), end = (lrd_n_buckets(&h->s->r) + 7) & ~7u;
    if (maps == 0)
        return false;
    uint32_t piece = HARVEST_BYTES / maps & ~63u, to = end;
    if (end - h->at > (piece < 64 ? 64 : piece))
        to = h->at + (piece < 64 ? 64 : piece);
    take_piece(h, maps, h->at, to);
    h->at = to;
    return to < end;
}

bool lrd_harvest_step(struct lrd_harvest *h, const struct lrd_ring *const *lanes, uint32_t n, uint64_t now_ns)
{
    if (!h->running) {
        if (!h->due && now_ns - h->ended_ns < ROUND_MAX_NS)
            return false;
        h->running = true;
        h->sampled = h->sample = h->at = 0;
    }
    if (now_ns < h->not_before_ns)
        return false;
    uint64_t began_ns = lrd_clock_ns();
    /* Lanes that sample come first. */
    if (!sample_step(h, lanes, n) && !map_step(h, lanes, n))
        end_round(h, now_ns);
    h->not_before_ns = now_ns + (lrd_clock_ns() - began_ns) * HARVEST_SHARE;
    return true;
}

int lrd_harvest_init(struct lrd_harvest *h, struct lrd_store *s, struct lrd_table *t)
{
    *h = (struct lrd_harvest){.s = s, .t = t, .maps = calloc(s->r.geometry.n_mark_maps, sizeof(unsigned char *))};
    if (spread[255] == 0)
        make_spread();
    return h->maps != NULL ? 0 : -ENOMEM;
}

void lrd_harvest_fini(struct lrd_harvest *h) { free(h->maps); }
