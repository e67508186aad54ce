/* One thread applies everything: it looks at the rings of the active lanes in turn, takes a batch from each, and between two batches does a bounded
 * piece of maintenance. Nothing it does depends on a client going on: a lane is a source of bytes, checked after they were copied once.
 *
 * A batch goes in stages, so that the memory accesses of its records overlap: headers are copied and checked; payloads are copied into the arena and hashed there; the
 * items they may replace are fetched; then record by record an intent is written and made. Only that last stage changes what anybody sees. If the worker dies before it, what was
 * copied is dead space in the block and the record is applied by the next worker.
 *
 * A lane that stayed silent is parked: its client rings its doorbell. Doorbells are registered edge-triggered and never read, because a client can make them blocking
 * or drain them; all parked rings are looked at again every 50 ms.
 */
#include "daemon/writer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "shm/arena.h"
#include "shm/clock.h"
#include "shm/item.h"
#include "shm/journal.h"
#include "shm/racy.h"
#include "shm/table.h"
#include "shm/testpoint.h"
#include "shm/wait.h"

#define BATCH 16u
#define COPY_STEP_BYTES (16u << 10) /* copied between two looks at the rings: 1 us at 16 GB/s */
#define PREFETCH_CELLS 8u            /* of a record: the processor follows longer ones by itself */
#define SWEEP_STEP 64u              /* buckets */
#define SKIP_STEP 4096u             /* cells of a dead client */
#define POLL_NS 50000u              /* a busy writer looks at the doorbells of parked lanes this often */
#define SLEEP_MS 50                 /* the heartbeat is promised every 100 */
#define NO_LANE UINT32_MAX
#define BELL_OF_CLERK UINT32_MAX

enum command { COMMAND_NONE, COMMAND_ADD, COMMAND_DRAIN };

struct lane_ref {
    /* the writer's */
    struct lrd_ring ring;
    struct lrd_lane_words *words;
    int doorbell;
    bool known;
    bool active;  /* in w->active; else parked */
    bool dying;
    uint64_t end; /* nothing is taken from here on: where a dying lane's claims end; UINT64_MAX while it lives */
    uint64_t idle_since_ns; /* 0: was not idle at the last look */
    /* between clerk and writer: each store releases what was stored before it, each load acquires */
    lrd_u32 command;
    lrd_u32 drained;
    const struct lrd_ring *new_ring;
    int new_doorbell;
};

/* A record on its way through the stages. */
struct pending {
    struct lrd_record record;  /* private copy: checked here, used from here */
    const unsigned char *payload; /* in the ring */
    uint64_t position;
    uint64_t hash;
    const unsigned char *key;  /* a copy that no client can change */
    uint32_t cells;
    uint32_t location;
    uint32_t bytes;
    bool refused;
};

/* A record that is copied in steps. At most one in the whole daemon. */
struct large {
    uint32_t lane; /* NO_LANE: none */
    uint32_t copied;
    struct pending p;
};

struct lrd_writer {
    struct lrd_store *s;
    struct lrd_journal_writer journal;
    struct lrd_arena arena;
    struct lrd_table table;
    struct lane_ref *lanes;
    uint32_t *active;
    uint32_t n_active;
    uint32_t n_lanes;
    int epoll;
    int bell;       /* the clerk's: a command waits */
    int drained_fd;
    lrd_u32 commands; /* counts commands given */
    uint32_t commands_seen;
    lrd_u32 stop;
    uint64_t spin_ns, spin_max_ns;
    uint64_t now_ns, now_ms, polled_ns, parked_looked_ns;
    struct large large;
    struct pending batch[BATCH];
    unsigned char keys[BATCH][LRD_KEY_MAX]; /* of deletes, which have no item to hold a copy */
};

static uint64_t counter_add(struct lrd_writer *w, enum lrd_counter_id id, uint64_t n)
{
    lrd_add_own(&w->s->counters[id], n);
    return n;
}

/* ---- stage 1: headers ---- */

/* What a client may ask for. Anything else is refused, whole. */
static bool is_acceptable(const struct lrd_writer *w, const struct pending *p)
{
    const struct lrd_record *r = &p->record;
    uint64_t room = (uint64_t)p->cells * LRD_CELL - sizeof *r;
    if (r->key_len == 0 || r->key_len > LRD_KEY_MAX || r->value_len > LRD_VALUE_MAX || (uint64_t)r->key_len + r->value_len > room)
        return false;
    if (r->kind != LRD_RECORD_SET && !(r->kind == LRD_RECORD_DELETE && r->value_len == 0))
        return false;
    if (lrd_item_bytes(r->key_len, r->value_len, w->s->r.granule_shift) > w->s->r.geometry.item_max || r->expires_ms > LRD_EXPIRES_MAX)
        return false;
    if (r->ns >= LRD_NAMESPACES || lrd_load32_relaxed(&w->s->namespaces[r->ns].state) != LRD_NS_LIVE)
        return false;
    /* Written before a reset that was completed: it is discarded, as everything that was there. Relaxed: this thread stores the epoch. */
    return r->epoch == lrd_load32_relaxed(&w->s->namespaces[r->ns].epoch);
}

/* Copies the header of the record at a position: the only time it is read from the lane. */
static void take_header(struct lrd_writer *w, const struct lane_ref *lane, struct pending *p, uint64_t position, uint32_t cells)
{
    const unsigned char *at = lrd_ring_at(&lane->ring, position);
    lrd_racy_copy(&p->record, at, sizeof p->record);
    p->payload = at + sizeof p->record;
    p->position = position;
    p->cells = cells;
    p->bytes = lrd_item_bytes(p->record.key_len, p->record.value_len, w->s->r.granule_shift);
    p->refused = !is_acceptable(w, p);
    if (!p->refused)
        lrd_table_prefetch(&w->s->r, p->record.hash_hint); /* a hint: any value names some bucket */
}

static bool is_large(const struct pending *p) { return !p->refused && p->bytes > COPY_STEP_BYTES; }

/* Names the record to whoever looks after a fault. */
static void note_record(struct lrd_writer *w, uint32_t lane, uint64_t position)
{
    lrd_store_relaxed(&w->s->journal->at_position, position);
    lrd_store_relaxed(&w->s->journal->at_lane, (uint64_t)lane + 1);
}

/* ---- stage 2: payloads ---- */

/* A block may be reused only when the sweep has caught up with its generation. Paced as it is the sweep is always ahead; this is for the day it is not. */
static void finish_sweep(struct lrd_writer *w)
{
    struct lrd_journal *shared = w->s->journal;
    uint64_t sweeps = lrd_load_relaxed(&shared->sweeps);
    lrd_store_relaxed(&shared->sweep_owed, (uint64_t)w->s->r.n_pairs * 4); /* to the end of this one and through the next */
    while (lrd_load_relaxed(&shared->sweeps) < sweeps + 2 && lrd_table_sweep(&w->table, SWEEP_STEP)) {
    }
}

static unsigned char *reserve_item(struct lrd_writer *w, struct pending *p)
{
    const struct lrd_record *r = &p->record;
    p->location = lrd_arena_alloc(&w->arena, r->ns, p->bytes, r->expires_ms);
    if (p->location == 0) {
        finish_sweep(w);
        p->location = lrd_arena_alloc(&w->arena, r->ns, p->bytes, r->expires_ms);
        if (p->location == 0)
            abort(); /* our own mistake: after a sweep every free block may be opened */
    }
    unsigned char *at = w->s->arena + ((uint64_t)p->location << w->s->r.granule_shift);
    struct lrd_item *item = (struct lrd_item *)(void *)at;
    /* Relaxed: published by the slot. A reader of the block's former life may look; it will see the new block word. */
    lrd_store_relaxed(&item->word0, lrd_item_word0(r->value_len, r->expires_ms));
    lrd_store_relaxed(&item->word1, lrd_item_word1(r->flags, r->ns, r->key_len, LRD_ITEM_PLAIN));
    p->key = at + sizeof *item;
    return at + sizeof *item;
}

static void hash_copy(struct lrd_writer *w, struct pending *p)
{
    p->hash = lrd_hash(w->s->r.hash_seed, p->record.ns, p->key, p->record.key_len);
    if (p->hash != p->record.hash_hint)
        lrd_table_prefetch(&w->s->r, p->hash);
}

static void copy_payload(struct lrd_writer *w, struct pending *p, unsigned char *key_space)
{
    const struct lrd_record *r = &p->record;
    if (r->kind == LRD_RECORD_SET)
        lrd_racy_fill(reserve_item(w, p), p->payload, (size_t)r->key_len + r->value_len);
    else {
        lrd_racy_copy(key_space, p->payload, r->key_len);
        p->key = key_space;
    }
    hash_copy(w, p);
}

/* ---- stage 4: one record ---- */

static uint32_t step_record(struct lrd_writer *w, const struct pending *p)
{
    const struct lrd_record *r = &p->record;
    uint32_t emptied = LRD_NO_BLOCK;
    if (r->kind == LRD_RECORD_DELETE) {
        if (!lrd_table_delete(&w->table, r->ns, p->key, r->key_len, p->hash, &emptied))
            lrd_journal_add(&w->journal, &w->s->counters[LRD_C_delete_misses], 1);
        return emptied;
    }
    const struct lrd_new_item item = {
        .key = p->key, .key_len = r->key_len, .ns = r->ns, .hash = p->hash, .location = p->location, .bytes = p->bytes};
    return lrd_table_put(&w->table, &item, w->now_ms);
}

/* Its whole effect, and that it was applied, is one intent: it happens once, whoever completes it. */
static void apply(struct lrd_writer *w, const struct lane_ref *lane, const struct pending *p)
{
    uint32_t emptied = LRD_NO_BLOCK;
    lrd_journal_begin(&w->journal);
    if (p->refused) {
        lrd_journal_add(&w->journal, &w->s->counters[LRD_C_discarded], 1);
        lrd_journal_add(&w->journal, &lane->words->discarded, 1);
    } else
        emptied = step_record(w, p);
    lrd_journal_add(&w->journal, &w->s->journal->applied_total, 1);
    /* Pairs with the acquires in lrd_ring_claim() and lrd_wait_applied(): the cells may be reused, the item is visible. */
    lrd_journal_step(&w->journal, &lane->words->applied, p->position + p->cells);
    lrd_journal_commit(&w->journal);
    if (emptied != LRD_NO_BLOCK)
        lrd_arena_free_if_empty(&w->arena, emptied);
}

/* ---- a batch ---- */

static uint32_t lane_idx(const struct lrd_writer *w, const struct lane_ref *lane) { return (uint32_t)(lane - w->lanes); }

/* Records from the head of the ring: at most BATCH, at most COPY_STEP_BYTES of payload, none of them large. If the first one is, it is left in the batch's first
 * place, *large says so, and the result is 0. */
static unsigned collect(struct lrd_writer *w, struct lane_ref *lane, bool *large)
{
    uint64_t position = lrd_load_relaxed(&lane->words->applied); /* relaxed: this thread stores it */
    uint32_t bytes = 0, cells;
    unsigned n = 0;
    *large = false;
    while (n < BATCH && position < lane->end && (cells = lrd_ring_next(&lane->ring, position)) != 0) {
        struct pending *p = &w->batch[n];
        take_header(w, lane, p, position, cells);
        *large = n == 0 && is_large(p);
        if (is_large(p) || bytes + (p->refused ? 0 : p->bytes) > COPY_STEP_BYTES + LRD_KEY_MAX)
            break;
        bytes += p->refused ? 0 : p->bytes;
        position += cells;
        n++;
    }
    return n;
}

/* A full batch means that more is waiting behind it, in the producer's cache: fetches what lies `ahead` cells behind a record, which the next batch will look at. Half
 * of the writer's time went into waiting for these lines one by one. */
static void prefetch_ring(const struct lane_ref *lane, const struct pending *p, uint64_t ahead)
{
    __builtin_prefetch(&lane->ring.commit[lrd_ring_idx(&lane->ring, p->position + ahead)]);
    for (uint32_t i = 0; i < p->cells && i < PREFETCH_CELLS; i++)
        __builtin_prefetch(lrd_ring_at(&lane->ring, p->position + ahead + i));
}

static void apply_batch(struct lrd_writer *w, struct lane_ref *lane, unsigned n)
{
    uint32_t idx = lane_idx(w, lane);
    uint64_t ahead = w->batch[n - 1].position + w->batch[n - 1].cells - w->batch[0].position;
    lrd_arena_batch_begin(&w->arena);
    for (unsigned i = 0; i < n; i++) {
        if (n == BATCH)
            prefetch_ring(lane, &w->batch[i], ahead);
        note_record(w, idx, w->batch[i].position);
        if (!w->batch[i].refused)
            copy_payload(w, &w->batch[i], w->keys[i]);
    }
    LRD_TESTPOINT("writer_copied");
    if (n > 1)
        for (unsigned i = 0; i < n; i++)
            if (!w->batch[i].refused)
                lrd_table_prefetch_item(&w->s->r, w->batch[i].hash, lrd_table_home(&w->s->r, w->batch[i].hash), 1); /* its header and key */
    for (unsigned i = 0; i < n; i++) {
        note_record(w, idx, w->batch[i].position);
        apply(w, lane, &w->batch[i]);
        LRD_TESTPOINT("writer_applied");
    }
    lrd_arena_batch_end(&w->arena);
    lrd_store_relaxed(&w->s->journal->at_lane, 0);
    counter_add(w, LRD_C_batches, 1);
}

/* ---- a large record, in steps ---- */

/* collect() left its header in the first place of the batch. */
static void large_begin(struct lrd_writer *w, struct lane_ref *lane)
{
    struct large *l = &w->large;
    l->p = w->batch[0];
    l->copied = 0;
    l->lane = lane_idx(w, lane);
    reserve_item(w, &l->p);
    w->arena.held = w->arena.open; /* not freed before its slot is stored; other records may fill it up meanwhile */
}

static void large_end(struct lrd_writer *w, const struct lane_ref *lane)
{
    struct large *l = &w->large;
    hash_copy(w, &l->p);
    l->p.refused = !is_acceptable(w, &l->p); /* its namespace may have been reset between two steps */
    apply(w, lane, &l->p);
    w->arena.held = LRD_NO_BLOCK;
    l->lane = NO_LANE;
}

static void large_step(struct lrd_writer *w, struct lane_ref *lane)
{
    struct large *l = &w->large;
    uint32_t total = (uint32_t)l->p.record.key_len + l->p.record.value_len, n = total - l->copied;
    if (n > COPY_STEP_BYTES)
        n = COPY_STEP_BYTES;
    note_record(w, l->lane, l->p.position);
    unsigned char *to = w->s->arena + ((uint64_t)l->p.location << w->s->r.granule_shift) + sizeof(struct lrd_item) + l->copied;
    lrd_racy_fill(to, l->p.payload + l->copied, n);
    l->copied += n;
    LRD_TESTPOINT("writer_large_step");
    if (l->copied == total)
        large_end(w, lane);
    lrd_store_relaxed(&w->s->journal->at_lane, 0);
}

/* True if there was something to do. */
static bool look_at(struct lrd_writer *w, struct lane_ref *lane)
{
    if (w->large.lane == lane_idx(w, lane)) {
        large_step(w, lane);
        if (w->large.lane == NO_LANE)
            lrd_wake_waiters(lane->words, lane->ring.lane);
        return true;
    }
    bool large;
    unsigned n = collect(w, lane, &large);
    if (n > 0) {
        apply_batch(w, lane, n);
        lrd_wake_waiters(lane->words, lane->ring.lane);
    } else if (large && w->large.lane == NO_LANE)
        large_begin(w, lane); /* else it waits for its turn: bounded, the other one is copied by us alone */
    return n > 0 || large;
}

/* ---- lanes that end ---- */

static void activate(struct lrd_writer *w, struct lane_ref *lane)
{
    lrd_unpark(lane->words);
    lane->idle_since_ns = 0;
    if (lane->active)
        return;
    lane->active = true;
    w->active[w->n_active++] = lane_idx(w, lane);
}

static void deactivate(struct lrd_writer *w, uint32_t at)
{
    w->lanes[w->active[at]].active = false;
    w->active[at] = w->active[--w->n_active];
}

/* Goes on from a cell that a dead client claimed and never committed. */
static void skip_holes(struct lrd_writer *w, struct lane_ref *lane)
{
    uint64_t head = lrd_load_relaxed(&lane->words->applied), from = head;
    while (head < lane->end && head - from < SKIP_STEP && lrd_ring_next(&lane->ring, head) == 0)
        head++;
    /* One word, so no intent; a worker that dies before it steps over the same cells again. */
    lrd_store_release(&lane->words->applied, head);
    counter_add(w, LRD_C_skipped_cells, head - from);
}

static void forget(struct lrd_writer *w, struct lane_ref *lane)
{
    epoll_ctl(w->epoll, EPOLL_CTL_DEL, lane->doorbell, NULL);
    lane->known = lane->dying = false;
    lrd_store32_release(&lane->words->state, LRD_LANE_FREE);
    LRD_TESTPOINT("writer_lane_free");
    lrd_store32_release(&lane->drained, 1); /* pairs with the acquire in lrd_writer_drained() */
    lrd_doorbell_write(w->drained_fd);
}

/* A dead client's lane with nothing committed at its head: true if it was forgotten. */
static bool go_on_dying(struct lrd_writer *w, struct lane_ref *lane)
{
    if (lrd_load_relaxed(&lane->words->applied) < lane->end) {
        skip_holes(w, lane);
        return false;
    }
    forget(w, lane);
    return true;
}

/* ---- what the clerk asks for ---- */

static void take_add(struct lrd_writer *w, struct lane_ref *lane)
{
    uint32_t idx = lane_idx(w, lane);
    lane->ring = *lane->new_ring;
    lane->doorbell = lane->new_doorbell;
    lane->words = &w->s->lanes[idx];
    lane->known = true;
    lane->dying = false;
    lane->end = UINT64_MAX;
    struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data.u32 = idx};
    epoll_ctl(w->epoll, EPOLL_CTL_ADD, lane->doorbell, &e); /* if it fails the timeout's look finds the records */
    activate(w, lane);
}

static void take_drain(struct lrd_writer *w, struct lane_ref *lane)
{
    if (!lane->known) { /* nobody added it: nothing to apply */
        lrd_store32_release(&lane->drained, 1);
        lrd_doorbell_write(w->drained_fd);
        return;
    }
    lane->dying = true;
    lane->end = lrd_ring_end(&lane->ring, lrd_load_relaxed(&lane->words->applied)); /* once: a lying tail moves no more */
    activate(w, lane);
}

static bool take_commands(struct lrd_writer *w)
{
    /* Acquire: pairs with the release in give(). */
    uint32_t commands = lrd_load32_acquire(&w->commands);
    if (lrd_likely(commands == w->commands_seen))
        return false;
    w->commands_seen = commands;
    for (uint32_t i = 0; i < w->n_lanes; i++) {
        enum command c = (enum command)lrd_exchange32(&w->lanes[i].command, COMMAND_NONE);
        if (c == COMMAND_ADD)
            take_add(w, &w->lanes[i]);
        else if (c == COMMAND_DRAIN)
            take_drain(w, &w->lanes[i]);
    }
    return true;
}

/* ---- waiting ---- */

static void look_at_clock(struct lrd_writer *w)
{
    w->now_ns = lrd_clock_ns();
    uint64_t now_ms = lrd_clock_segment_ms(w->s->r.geometry.created_ns);
    if (now_ms == w->now_ms)
        return;
    w->now_ms = now_ms;
    lrd_store_release(&w->s->header->heartbeat_ms, now_ms);
}

/* Doorbells that rang; the lanes are active from now on. A ring that comes while its lane is active is for nothing. */
static void poll_bells(struct lrd_writer *w, int timeout_ms)
{
    struct epoll_event e[64];
    int n = epoll_wait(w->epoll, e, 64, timeout_ms);
    for (int i = 0; i < n; i++)
        if (e[i].data.u32 != BELL_OF_CLERK && w->lanes[e[i].data.u32].known)
            activate(w, &w->lanes[e[i].data.u32]);
    w->polled_ns = w->now_ns;
}

/* Somebody may have drained a doorbell, or stolen its edge. By the clock, whether we sleep or not. */
static void look_at_parked(struct lrd_writer *w)
{
    if (w->now_ns - w->parked_looked_ns < (SLEEP_MS - 1) * UINT64_C(1000000))
        return;
    w->parked_looked_ns = w->now_ns;
    for (uint32_t i = 0; i < w->n_lanes; i++) {
        struct lane_ref *lane = &w->lanes[i];
        if (lane->known && !lane->active && lrd_ring_next(&lane->ring, lrd_load_relaxed(&lane->words->applied)) != 0)
            activate(w, lane);
    }
}

/* Parks a lane that was silent for as long as looking at it pays. True if it is not active any more. */
static bool park_if_silent(struct lrd_writer *w, uint32_t at)
{
    struct lane_ref *lane = &w->lanes[w->active[at]];
    if (lane->idle_since_ns == 0)
        lane->idle_since_ns = w->now_ns;
    if (w->now_ns - lane->idle_since_ns < w->spin_ns || !lrd_park(lane->words, &lane->ring, lrd_load_relaxed(&lane->words->applied)))
        return false;
    deactivate(w, at);
    return true;
}

/* Spinning is worth more when something came while we did, less when not. */
static void adapt_spin(struct lrd_writer *w, bool paid)
{
    w->spin_ns = paid ? w->spin_ns * 2 : w->spin_ns / 2;
    if (w->spin_ns > w->spin_max_ns)
        w->spin_ns = w->spin_max_ns;
    if (w->spin_ns < w->spin_max_ns / 8)
        w->spin_ns = w->spin_max_ns / 8;
}

static bool look_at_lanes(struct lrd_writer *w)
{
    bool worked = false;
    for (uint32_t i = 0; i < w->n_active;) {
        struct lane_ref *lane = &w->lanes[w->active[i]];
        if (look_at(w, lane)) {
            if (lane->idle_since_ns != 0)
                adapt_spin(w, true);
            lane->idle_since_ns = 0;
            worked = true;
            i++;
        } else if (lane->dying) {
            worked = true;
            if (go_on_dying(w, lane))
                deactivate(w, i);
            else
                i++;
        } else if (!park_if_silent(w, i))
            i++;
    }
    return worked;
}

static bool maintain(struct lrd_writer *w)
{
    if (lrd_arena_reclaim(&w->arena))
        return true;
    return lrd_table_sweep(&w->table, SWEEP_STEP);
}

static void sleep_until_rung(struct lrd_writer *w)
{
    adapt_spin(w, false);
    counter_add(w, LRD_C_parks, 1);
    /* The clerk's bell rings after its command is there, and stays until this returns: nothing is missed. */
    poll_bells(w, SLEEP_MS);
    look_at_clock(w);
}

void lrd_writer_run(struct lrd_writer *w)
{
    look_at_clock(w);
    while (lrd_load32_relaxed(&w->stop) == 0) {
        bool worked = take_commands(w);
        look_at_clock(w);
        worked |= look_at_lanes(w);
        worked |= maintain(w);
        look_at_parked(w);
        if (w->n_active == 0 && !worked)
            sleep_until_rung(w);
        else if (w->now_ns - w->polled_ns >= POLL_NS)
            poll_bells(w, 0);
        else if (!worked)
            lrd_pause();
    }
}

/* ---- making and ending it ---- */

static int watch(int epoll, int fd, uint32_t what)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data.u32 = what};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

static int open_descriptors(struct lrd_writer *w)
{
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    w->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    w->drained_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->epoll < 0 || w->bell < 0 || w->drained_fd < 0)
        return -errno;
    return watch(w->epoll, w->bell, BELL_OF_CLERK);
}

int lrd_writer_create(struct lrd_writer **out, struct lrd_store *store, const struct lrd_writer_options *options)
{
    *out = NULL;
    struct lrd_writer *w = calloc(1, sizeof *w);
    if (w == NULL)
        return -ENOMEM;
    w->s = store;
    w->n_lanes = store->r.geometry.n_lanes;
    w->spin_ns = w->spin_max_ns = (uint64_t)options->spin_us * 1000u;
    w->large.lane = NO_LANE;
    w->epoll = w->bell = w->drained_fd = -1;
    w->lanes = calloc(w->n_lanes, sizeof *w->lanes);
    w->active = calloc(w->n_lanes, sizeof *w->active);
    lrd_journal_init(&w->journal, store);
    w->table = (struct lrd_table){.s = store, .a = &w->arena, .j = &w->journal};
    int err = w->lanes == NULL || w->active == NULL ? -ENOMEM : lrd_arena_init(&w->arena, store, &w->journal);
    if (err == 0)
        err = open_descriptors(w);
    if (err < 0) {
        lrd_writer_destroy(w);
        return err;
    }
    *out = w;
    return 0;
}

static void close_if(int fd)
{
    if (fd >= 0)
        close(fd);
}

void lrd_writer_destroy(struct lrd_writer *w)
{
    if (w == NULL)
        return;
    close_if(w->epoll);
    close_if(w->bell);
    close_if(w->drained_fd);
    lrd_arena_fini(&w->arena);
    free(w->lanes);
    free(w->active);
    free(w);
}

/* ---- from other threads ---- */

/* The command is there before its count, the count before the bell. */
static void give(struct lrd_writer *w, uint32_t lane, enum command c)
{
    lrd_store32_release(&w->lanes[lane].command, c); /* pairs with the exchange in take_commands() */
    atomic_fetch_add_explicit(&w->commands.v, 1, memory_order_release);
    lrd_doorbell_write(w->bell);
}

void lrd_writer_stop(struct lrd_writer *w)
{
    lrd_store32_release(&w->stop, 1);
    lrd_doorbell_write(w->bell);
}

void lrd_writer_add(struct lrd_writer *w, uint32_t lane, const struct lrd_ring *ring, int doorbell)
{
    w->lanes[lane].new_ring = ring;
    w->lanes[lane].new_doorbell = doorbell;
    give(w, lane, COMMAND_ADD);
}

void lrd_writer_drain(struct lrd_writer *w, uint32_t lane)
{
    /* An add that was not taken yet must not be overwritten: the lane would never be drained. Bounded by one turn of the writer's loop. */
    while (lrd_load32_acquire(&w->lanes[lane].command) == COMMAND_ADD)
        lrd_pause();
    give(w, lane, COMMAND_DRAIN);
}

int lrd_writer_drained_fd(const struct lrd_writer *w) { return w->drained_fd; }

bool lrd_writer_drained(struct lrd_writer *w, uint32_t *lane)
{
    for (uint32_t i = 0; i < w->n_lanes; i++) {
        if (lrd_load32_acquire(&w->lanes[i].drained) != 0) { /* pairs with the release in forget() */
            lrd_store32_relaxed(&w->lanes[i].drained, 0);
            *lane = i;
            return true;
        }
    }
    return false;
}
