#include "daemon/watch.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/types.h>

#include "shm/feed.h"
#include "shm/wait.h"

#define BUCKETS 1024u     /* of the index by namespace and hash; a power of two */
#define NONE UINT32_MAX
#define RINGS_PER_STEP 8u /* two syscalls each, 1 to 2 us */
#define LANES_PER_STEP 64u
#define CLEARS_PER_STEP 4u /* lanes with hashes among them */

/* A hash that a lane watches. Its number is lane * LRD_WATCHES + place. */
struct watch {
    uint64_t hash;
    uint32_t next, prev; /* in its bucket; prev is NONE for the first */
    uint32_t ns;
    bool used;
};

struct lane {
    struct watch *watch;  /* LRD_WATCHES of them, when there was ever one */
    struct lrd_lane *shared; /* NULL: no such lane now */
    uint32_t n;
    uint32_t victim;      /* the place that is given up next when all are taken */
    uint64_t feeds;       /* bit by namespace */
    bool queued;
};

struct lrd_watches {
    struct lrd_watched watched; /* hashes, of all lanes; first: see lrd_watches_changed() */
    struct lrd_store *s;
    struct lrd_bells *bells;
    struct lane *lanes;
    uint32_t n_lanes;
    uint64_t secret;          /* odd; hashes come from clients, who must not choose which of them share a bucket */
    uint32_t n_tables;        /* lanes that have one */
    uint32_t bucket[BUCKETS];
    uint32_t *queue;          /* lanes to ring, from `head`, n_queued of them, in a ring of n_lanes */
    uint32_t head, n_queued;
    uint64_t feeds;           /* watched by somebody, and not found to have moved since */
    uint64_t seen[LRD_NAMESPACES]; /* where they stood then */
    uint64_t round_ns, round_feeds; /* what the round under way is for */
    uint32_t round_at, round_left;
};

int lrd_watches_create(struct lrd_watches **out, struct lrd_store *s, struct lrd_bells *bells)
{
    struct lrd_watches *ws = calloc(1, sizeof *ws);
    *out = ws;
    if (ws == NULL)
        return -ENOMEM;
    ws->s = s;
    ws->bells = bells;
    ws->n_lanes = s->r.geometry.n_lanes;
    if (getrandom(&ws->secret, sizeof ws->secret, GRND_NONBLOCK) != (ssize_t)sizeof ws->secret)
        ws->secret = (uint64_t)(uintptr_t)ws * UINT64_C(0x9e3779b97f4a7c15);
    ws->secret |= 1;
    ws->lanes = calloc(ws->n_lanes, sizeof *ws->lanes);
    ws->queue = calloc(ws->n_lanes, sizeof *ws->queue);
    for (uint32_t i = 0; i < BUCKETS; i++)
        ws->bucket[i] = NONE;
    return ws->lanes == NULL || ws->queue == NULL ? -ENOMEM : 0;
}

void lrd_watches_destroy(struct lrd_watches *ws)
{
    if (ws == NULL)
        return;
    for (uint32_t i = 0; ws->lanes != NULL && i < ws->n_lanes; i++)
        free(ws->lanes[i].watch);
    free(ws->lanes);
    free(ws->queue);
    free(ws);
}

uint64_t lrd_watches_private_bytes(const struct lrd_watches *ws)
{
    return sizeof *ws + ws->n_lanes * (sizeof *ws->lanes + sizeof *ws->queue) + (uint64_t)ws->n_tables * LRD_WATCHES * sizeof(struct watch);
}

/* ---- the index ---- */

static struct watch *at(const struct lrd_watches *ws, uint32_t number) { return &ws->lanes[number / LRD_WATCHES].watch[number % LRD_WATCHES]; }

static uint32_t *bucket_of(struct lrd_watches *ws, uint32_t ns, uint64_t hash)
{
    uint64_t x = (hash ^ ws->secret) * ws->secret;
    return &ws->bucket[((x ^ x >> 32) + ns) * ws->secret >> 32 & (BUCKETS - 1)];
}

static void put(struct lrd_watches *ws, uint32_t number, uint32_t ns, uint64_t hash)
{
    uint32_t *first = bucket_of(ws, ns, hash);
    *at(ws, number) = (struct watch){.hash = hash, .next = *first, .prev = NONE, .ns = ns, .used = true};
    if (*first != NONE)
        at(ws, *first)->prev = number;
    *first = number;
    ws->lanes[number / LRD_WATCHES].n++;
    ws->watched.n++;
}

static void drop(struct lrd_watches *ws, uint32_t number)
{
    struct watch *w = at(ws, number);
    if (w->next != NONE)
        at(ws, w->next)->prev = w->prev;
    *(w->prev != NONE ? &at(ws, w->prev)->next : bucket_of(ws, w->ns, w->hash)) = w->next;
    w->used = false;
    ws->lanes[number / LRD_WATCHES].n--;
    ws->watched.n--;
}

/* ---- the queue ---- */

static void enqueue(struct lrd_watches *ws, uint32_t lane)
{
    if (ws->lanes[lane].queued || ws->lanes[lane].shared == NULL)
        return;
    ws->lanes[lane].queued = true;
    ws->queue[(ws->head + ws->n_queued++) % ws->n_lanes] = lane; /* each lane is there once at most */
}

static void ring(struct lrd_watches *ws, uint32_t lane)
{
    struct lane *l = &ws->lanes[lane];
    if (l->shared != NULL && lrd_ring_sleepers(&ws->s->lanes[lane], l->shared))
        lrd_bells_want(ws->bells, lane);
}

static bool ring_some(struct lrd_watches *ws)
{
    unsigned n = 0;
    for (; n < RINGS_PER_STEP && ws->n_queued > 0; n++) {
        uint32_t lane = ws->queue[ws->head];
        ws->head = (ws->head + 1) % ws->n_lanes;
        ws->n_queued--;
        ws->lanes[lane].queued = false;
        ring(ws, lane);
    }
    return n > 0;
}

/* ---- rounds over the lanes ---- */

static void begin_round(struct lrd_watches *ws, uint64_t ns, uint64_t feeds)
{
    ws->round_ns |= ns;
    ws->round_feeds |= feeds;
    ws->round_left = ws->n_lanes; /* from where it stands, once around */
}

static void drop_those_of(struct lrd_watches *ws, uint32_t lane, uint64_t ns)
{
    for (uint32_t i = 0; i < LRD_WATCHES && ws->lanes[lane].n > 0; i++)
        if (ws->lanes[lane].watch[i].used && (ns >> ws->lanes[lane].watch[i].ns & 1) != 0)
            drop(ws, lane * LRD_WATCHES + i);
}

static bool go_round(struct lrd_watches *ws)
{
    if (ws->round_left == 0)
        return false;
    unsigned cleared = 0;
    for (unsigned i = 0; i < LANES_PER_STEP && ws->round_left > 0 && cleared < CLEARS_PER_STEP; i++, ws->round_left--) {
        struct lane *l = &ws->lanes[ws->round_at];
        uint32_t before = l->n;
        if (before > 0 && ws->round_ns != 0) {
            drop_those_of(ws, ws->round_at, ws->round_ns);
            cleared++;
        }
        if (l->n != before || (l->feeds & ws->round_feeds) != 0)
            enqueue(ws, ws->round_at);
        l->feeds &= ~ws->round_feeds;
        ws->round_at = ws->round_at + 1 < ws->n_lanes ? ws->round_at + 1 : 0;
    }
    if (ws->round_left == 0)
        ws->round_ns = ws->round_feeds = 0;
    return true;
}

/* ---- feeds ---- */

static uint64_t feed_end(const struct lrd_watches *ws, uint32_t ns)
{
    uint32_t entries;
    const struct lrd_feed *f = lrd_feed_of(&ws->s->r, ns, &entries);
    return f != NULL ? lrd_feed_end(f) : 0;
}

static void look_at_feeds(struct lrd_watches *ws)
{
    uint64_t moved = 0;
    for (uint64_t left = ws->feeds; left != 0; left &= left - 1) {
        uint32_t ns = (uint32_t)__builtin_ctzll(left);
        if (feed_end(ws, ns) != ws->seen[ns])
            moved |= UINT64_C(1) << ns;
    }
    if (moved == 0)
        return;
    ws->feeds &= ~moved;
    begin_round(ws, 0, moved);
}

static void note_feed(struct lrd_watches *ws, struct lane *l, uint32_t ns)
{
    uint64_t bit = UINT64_C(1) << ns;
    l->feeds |= bit;
    /* Who watches it already must not miss what came since; for this one it may be a ring for nothing. */
    if ((ws->feeds & bit) == 0)
        ws->seen[ns] = feed_end(ws, ns);
    ws->feeds |= bit;
}

/* ---- what clients say ---- */

/* Among the lane's own: in the bucket there may be all lanes that wait for the same key. */
static bool has(const struct lane *l, uint32_t ns, uint64_t hash)
{
    for (uint32_t i = 0, left = l->n; left > 0; i++) {
        if (l->watch[i].used && l->watch[i].hash == hash && l->watch[i].ns == ns)
            return true;
        left -= l->watch[i].used;
    }
    return false;
}

static bool has_table(struct lrd_watches *ws, struct lane *l)
{
    if (l->watch != NULL)
        return true;
    l->watch = calloc(LRD_WATCHES, sizeof *l->watch);
    if (l->watch == NULL)
        return false;
    ws->n_tables++;
    lrd_add_own(&ws->s->header->private_bytes, LRD_WATCHES * sizeof *l->watch);
    return true;
}

void lrd_watches_note(struct lrd_watches *ws, uint32_t lane, uint32_t ns, uint64_t hash, uint32_t flags)
{
    struct lane *l = &ws->lanes[lane];
    if (flags & LRD_WATCH_FEED) {
        note_feed(ws, l, ns);
        return;
    }
    bool none = !has_table(ws, l);
    if (none || l->n == LRD_WATCHES) {
        if (flags & LRD_WATCH_BELL)
            enqueue(ws, lane); /* nobody sleeps there for something that is not noted */
        if (none)
            return;
    }
    if (has(l, ns, hash))
        return;
    uint32_t place = 0;
    if (l->n == LRD_WATCHES) {
        place = l->victim++ % LRD_WATCHES;
        drop(ws, lane * LRD_WATCHES + place);
    } else
        while (l->watch[place].used)
            place++;
    put(ws, lane * LRD_WATCHES + place, ns, hash);
}

void lrd_watches_add_lane(struct lrd_watches *ws, uint32_t lane, struct lrd_lane *shared)
{
    struct lane *l = &ws->lanes[lane];
    l->shared = shared;
    /* What a dead worker knew of was a record that it applied. */
    if (lrd_load_relaxed(&ws->s->lanes[lane].applied) != 0)
        enqueue(ws, lane);
}

void lrd_watches_remove_lane(struct lrd_watches *ws, uint32_t lane)
{
    struct lane *l = &ws->lanes[lane];
    drop_those_of(ws, lane, UINT64_MAX);
    l->shared = NULL;
    l->feeds = 0;
    if (ws->watched.n > 0)
        begin_round(ws, UINT64_MAX, 0);
}

/* ---- what has happened ---- */

void lrd_watches_queue(struct lrd_watches *ws, uint32_t ns, uint64_t hash)
{
    for (uint32_t i = *bucket_of(ws, ns, hash), next; i != NONE; i = next) {
        next = at(ws, i)->next;
        if (at(ws, i)->hash != hash || at(ws, i)->ns != ns)
            continue;
        enqueue(ws, i / LRD_WATCHES);
        drop(ws, i);
    }
}

void lrd_watches_reset(struct lrd_watches *ws, uint32_t ns)
{
    if (ws->watched.n > 0)
        begin_round(ws, UINT64_C(1) << ns, 0);
}

bool lrd_watches_step(struct lrd_watches *ws)
{
    if (lrd_unlikely(ws->feeds != 0))
        look_at_feeds(ws);
    bool worked = go_round(ws);
    return ring_some(ws) || worked;
}
