/* Hands out a segment in which one thing is wrong, or which has a past that was made up, as the keeper hands out good ones: for tests of what larderctl finds.
 *
 *   damaged SOCKET KIND     listens on SOCKET.peek until its standard input ends; says "ready" first; "damaged" alone lists the kinds
 *
 * More items than table and arena hold, some written anew: there are displaced, dead, evicted ones, and some that had no room. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm/clock.h"
#include "shm/departures.h"
#include "shm/hello.h"
#include "tests/segment_fixture.h"

#define N_PAIRS 400u
#define N_BLOCKS 8u
#define BLOCK_SHIFT 16u
#define N_KEYS 8000u
#define N_AGAIN 1000u /* of the last ones */

static struct fixture_item numbered(uint32_t i, char key[32], char value[128])
{
    snprintf(key, 32, "key %u", i);
    memset(value, 'v', 128);
    return (struct fixture_item){.key = key, .key_len = (uint32_t)strlen(key), .value = value, .value_len = i % 128, .flags = i};
}

static void fill(struct fixture *f)
{
    char key[32], value[128];
    for (uint32_t i = 0; i < N_KEYS + N_AGAIN; i++) {
        struct fixture_item item = numbered(i < N_KEYS ? i : i - N_AGAIN, key, value);
        fixture_put(f, &item);
    }
}

/* A place in the table. */
struct place {
    lrd_u64 *at;
    uint64_t slot;
    uint32_t bucket;
    uint32_t home;
};

static struct place place_of(struct fixture *f, uint32_t bucket, unsigned i)
{
    lrd_u64 *at = &f->store.buckets[bucket].slot[i];
    uint64_t slot = lrd_load_relaxed(at);
    return (struct place){at, slot, bucket, lrd_hash_bucket(bucket, lrd_slot_tag(slot), lrd_slot_displacement(slot), f->store.r.n_pairs)};
}

static bool is_live(const struct fixture *f, uint64_t slot)
{
    return slot != 0 && !lrd_slot_dead(slot, lrd_load_relaxed(&f->store.block_words[lrd_arena_block(&f->store.r, slot)]), 1);
}

/* The first live item that is displaced, or that is not. */
static struct place live(struct fixture *f, bool displaced)
{
    for (uint32_t b = 0; b < f->store.r.n_pairs * 2; b++) {
        for (unsigned i = 0; i < LRD_SLOTS; i++) {
            struct place p = place_of(f, b, i);
            if (is_live(f, p.slot) && (lrd_slot_displacement(p.slot) != 0) == displaced)
                return p;
        }
    }
    abort(); /* then the numbers above are wrong */
}

static struct lrd_item *item_at(struct fixture *f, uint64_t slot)
{
    return (struct lrd_item *)(void *)(f->store.arena + lrd_arena_off(&f->store.r, slot));
}

/* ---- kinds of damage ---- */

static void none(struct fixture *f) { (void)f; }

static void key_changed(struct fixture *f) { *((unsigned char *)(item_at(f, live(f, false).slot) + 1)) ^= 1; }

static void length_changed(struct fixture *f)
{
    struct lrd_item *item = item_at(f, live(f, false).slot);
    lrd_store_relaxed(&item->word0, lrd_load_relaxed(&item->word0) | UINT64_C(1) << 63);
}

static void location_outside(struct fixture *f)
{
    struct place p = live(f, false);
    lrd_store_relaxed(p.at, p.slot | UINT32_MAX);
}

/* The home of a displaced item does not announce it: it is lost to readers. */
static void word_low(struct fixture *f) { lrd_store_relaxed(&f->store.buckets[live(f, true).home].displaced, 0); }

static void word_high(struct fixture *f)
{
    lrd_u64 *word = &f->store.buckets[live(f, true).home].displaced;
    lrd_store_relaxed(word, lrd_load_relaxed(word) + 1);
}

/* The same key once more, in another slot. */
static void duplicate(struct fixture *f)
{
    char key[32], value[128];
    struct lrd_new_item staged;
    struct fixture_item item = numbered(N_KEYS - 1, key, value); /* written last: it is there */
    uint32_t location = fixture_alloc(f, &item);
    fixture_fill(f, &item, location, &staged);
    uint32_t home = lrd_hash_home(staged.hash, f->store.r.n_pairs);
    uint32_t generation = lrd_block_word_generation(lrd_load_relaxed(&f->store.block_words[location >> f->store.r.location_shift]));
    for (unsigned i = 0; i < LRD_SLOTS; i++) {
        struct place p = place_of(f, home, i);
        if (lrd_slot_tag(p.slot) != lrd_hash_tag(staged.hash))
            lrd_store_relaxed(p.at, lrd_slot_make(lrd_hash_tag(staged.hash), 0, generation, location));
    }
}

static void live_off(struct fixture *f)
{
    lrd_u64 *live_word = &f->store.descriptors[3].live;
    lrd_store_relaxed(live_word, lrd_load_relaxed(live_word) + lrd_live_make(0, 8, 0));
}

static void used_low(struct fixture *f) { lrd_store_relaxed(&f->store.descriptors[lrd_arena_block(&f->store.r, live(f, false).slot)].used, 64); }

static void state_unknown(struct fixture *f) { lrd_store_relaxed(&f->store.descriptors[2].state, 9); }

static void namespace_changed(struct fixture *f)
{
    struct lrd_item *item = item_at(f, live(f, false).slot);
    lrd_store_relaxed(&item->word1, lrd_load_relaxed(&item->word1) | UINT64_C(1) << 16);
}

static void sets_off(struct fixture *f) { lrd_add_own(&f->store.counters[LRD_C_sets], 1); }

static void slots_off(struct fixture *f) { lrd_add_own(&f->store.counters[LRD_C_slots_used], 1); }

static void half_a_change(struct fixture *f)
{
    slots_off(f);
    lrd_store_relaxed(&f->store.journal->n_steps, 3);
}

/* ---- namespaces ---- */

static struct lrd_descriptor *descriptor_of(struct fixture *f, uint64_t slot) { return &f->store.descriptors[lrd_arena_block(&f->store.r, slot)]; }

static void owner_nobody(struct fixture *f) { lrd_store_relaxed(&descriptor_of(f, live(f, false).slot)->owner, LRD_NAMESPACES); }

static void owner_not_live(struct fixture *f) { lrd_store_relaxed(&descriptor_of(f, live(f, false).slot)->owner, lrd_owner_make(7, 0, 0)); }

static void owner_chain(struct fixture *f)
{
    lrd_u64 *owner = &descriptor_of(f, live(f, false).slot)->owner;
    lrd_store_relaxed(owner, lrd_load_relaxed(owner) | (uint64_t)LRD_CHAINS << 8);
}

static void padding_off(struct fixture *f)
{
    lrd_u64 *word = &descriptor_of(f, live(f, false).slot)->live;
    lrd_store_relaxed(word, lrd_load_relaxed(word) + lrd_live_make(0, 0, 8));
}

static void two_open(struct fixture *f)
{
    for (uint32_t i = 0, n = 0; i < f->store.r.n_blocks && n < 2; i++)
        if (lrd_load_relaxed(&f->store.descriptors[i].state) == LRD_BLOCK_FULL) {
            lrd_store_relaxed(&f->store.descriptors[i].state, LRD_BLOCK_OPEN);
            n++;
        }
}

/* One too many here, one too few there: the sum is right. */
static void namespaces_off(struct fixture *f)
{
    lrd_add_own(lrd_store_counter(&f->store, 0, LRD_C_sets), 1);
    lrd_add_own(lrd_store_counter(&f->store, 1, LRD_C_evicted), 1);
}

static void namespace_blocks_off(struct fixture *f)
{
    lrd_add_own(lrd_store_counter(&f->store, 0, LRD_C_blocks_opened), 1);
    lrd_add_own(lrd_store_counter(&f->store, 1, LRD_C_blocks_freed), 1);
}

static void counted_elsewhere(struct fixture *f) { lrd_add_own(lrd_store_counter(&f->store, 1, LRD_C_batches), 1); }

static void maximum_low(struct fixture *f) { lrd_store_relaxed(&f->store.namespaces[0].max_blocks, 2); }

static void minimums_high(struct fixture *f)
{
    lrd_store_relaxed(&f->store.namespaces[0].min_blocks, 1);
    lrd_store_relaxed(&f->store.namespaces[1].min_blocks, N_BLOCKS - LRD_SPARE_BLOCKS);
}

static void policy_unknown(struct fixture *f) { lrd_store32_relaxed(&f->store.namespaces[1].policy, LRD_N_POLICIES); }

static void account_unfit(struct fixture *f) { lrd_store32_relaxed(&f->store.namespaces[1].credit, 0); }

static void name_twice(struct fixture *f) { strcpy(f->store.namespaces[1].name, "default"); }

static void credit_over(struct fixture *f)
{
    lrd_store32_relaxed(&f->store.lanes[1].state, LRD_LANE_LIVE);
    lrd_store_relaxed(&f->store.credits[1].of[2].granted_bytes, 1000);
    lrd_store_relaxed(&f->store.credits[1].of[2].used_bytes, 1001);
}

/* Nothing is wrong: a namespace with items of its own, one that refuses eviction with credit in two lanes, figures of the writer. */
static void peopled(struct fixture *f)
{
    char key[32], value[128];
    struct lrd_namespace *refuse = &f->store.namespaces[2];
    for (uint32_t i = 0; i < 10; i++) {
        struct fixture_item item = numbered(i, key, value);
        item.ns = 1;
        fixture_put(f, &item);
    }
    lrd_store32_relaxed(&refuse->policy, LRD_POLICY_REFUSE);
    lrd_store32_relaxed(&refuse->credit, 3);
    lrd_store_relaxed(&refuse->min_blocks, 2);
    lrd_store_relaxed(&refuse->max_blocks, 2);
    lrd_store_relaxed(&refuse->default_ttl_ms, 5000);
    lrd_store_relaxed(&refuse->largest, 4711);
    for (uint32_t lane = 0; lane < FIXTURE_LANES; lane++) {
        struct lrd_credit *c = &f->store.credits[lane].of[3];
        lrd_store_relaxed(&c->granted_bytes, 1000);
        lrd_store_relaxed(&c->used_bytes, 100 * (lane + 1));
        lrd_store_relaxed(&c->granted_items, 10);
        lrd_store_relaxed(&c->used_items, 3);
        lrd_store32_relaxed(&f->store.lanes[lane].state, lane == 0 ? LRD_LANE_LIVE : LRD_LANE_DYING);
    }
    lrd_store_relaxed(&f->store.lanes[0].mark_bytes, f->store.r.geometry.mark_bytes);
    lrd_store_relaxed(lrd_store_counter(&f->store, 1, LRD_C_appended_bytes), 1000);
    lrd_store_relaxed(lrd_store_counter(&f->store, 1, LRD_C_copied_bytes), 250);
    for (uint32_t i = 1; i <= 10000; i++)
        lrd_histogram_record(&f->store.pauses->own, i < 9990 ? 100 : 5000);
    lrd_histogram_record(&f->store.pauses->scheduler, 40000);
}

/* The same, and the second namespace was reset: its block is of an older epoch. */
static void was_reset(struct fixture *f)
{
    peopled(f);
    fixture_reset(f, 1);
    lrd_store_relaxed(&f->store.namespaces[1].resets, 1);
    lrd_store_relaxed(&f->store.namespaces[1].reset_ms, fixture_now_ms(&f->store.r));
}

/* ---- what the kernel says ---- */

static void measured(struct fixture *f)
{
    lrd_store_relaxed(&f->store.header->measured_ms, fixture_now_ms(&f->store.r) - 1500);
    lrd_store_relaxed(&f->store.header->kernel_segment, f->store.r.geometry.segment_bytes);
    lrd_store_relaxed(&f->store.header->kernel_lanes, 11);
    lrd_store_relaxed(&f->store.header->kernel_private, 12);
    lrd_store_relaxed(&f->store.header->kernel_files, 13);
    lrd_store_relaxed(&f->store.header->private_bytes, 14);
    lrd_store_release(&f->store.header->measured, 1);
}

static void measured_short(struct fixture *f)
{
    measured(f);
    lrd_store_relaxed(&f->store.header->kernel_segment, f->store.r.geometry.segment_bytes - 4096);
}

static void parts_overlap(struct fixture *f) { f->store.header->parts[LRD_PART_TABLE].off -= LRD_PAGE; }

/* ---- departures ---- */

static uint64_t hash_of(const struct fixture *f, uint32_t ns, const char *key) { return lrd_hash(f->store.r.hash_seed, ns, key, strlen(key)); }

static void depart(struct fixture *f, uint32_t ns, const char *key, enum lrd_cause cause, bool read, uint64_t ago_ms, uint64_t ttl_ms)
{
    uint64_t hash = hash_of(f, ns, key), when_ms = fixture_now_ms(&f->store.r) - ago_ms;
    lrd_depart(&f->store, lrd_departure_who(lrd_hash_home(hash, f->store.r.n_pairs), lrd_hash_tag(hash), ns, cause, read),
               lrd_departure_when(when_ms, lrd_ttl_left_make(ttl_ms ? when_ms + ttl_ms : 0, when_ms)));
}

/* The segment is FIXTURE_AGE_MS old when it is made: that is as far back as a past can lie. */
static void departed(struct fixture *f)
{
    char key[32];
    lrd_store_relaxed(&f->store.departures->n, 0);
    depart(f, 0, "twice", LRD_CAUSE_DELETED, false, 1900, 0);
    depart(f, 0, "expired", LRD_CAUSE_EXPIRED, true, 1800, 0);
    depart(f, 0, "evicted", LRD_CAUSE_EVICTED, true, 1700, 0);
    depart(f, 0, "unread", LRD_CAUSE_EVICTED, false, 1600, 50000);
    depart(f, 0, "deleted", LRD_CAUSE_DELETED, true, 1500, 0);
    depart(f, 0, "crowded", LRD_CAUSE_NO_ROOM, true, 1400, 0);
    depart(f, 0, "twice", LRD_CAUSE_EVICTED, true, 1300, 0);
    depart(f, 1, "before", LRD_CAUSE_DELETED, true, 1200, 0);
    lrd_store_relaxed(&f->store.namespaces[1].resets, 1);
    lrd_store_relaxed(&f->store.namespaces[1].reset_ms, fixture_now_ms(&f->store.r) - 1100);
    depart(f, 1, "after", LRD_CAUSE_DELETED, true, 1000, 0);
    uint64_t hash = hash_of(f, 0, "foreign"); /* place and tag of a key, and another namespace */
    lrd_depart(&f->store, lrd_departure_who(lrd_hash_home(hash, f->store.r.n_pairs), lrd_hash_tag(hash), 1, LRD_CAUSE_DELETED, true), lrd_departure_when(1000, 0));
    for (uint32_t i = 0; i < 20; i++) {
        snprintf(key, sizeof key, "other %u", i);
        depart(f, 0, key, LRD_CAUSE_DELETED, true, 900, 0);
    }
}

/* The ring turned over: what was first in it is gone. */
static void departed_all(struct fixture *f)
{
    char key[32];
    departed(f);
    for (uint32_t i = 0; i < f->store.r.geometry.n_departures - 5; i++) {
        snprintf(key, sizeof key, "more %u", i);
        depart(f, 0, key, LRD_CAUSE_EXPIRED, true, 500, 0);
    }
}

/* Turned over; what is oldest in it is a late note of what had expired long before. The latest departure of a key was noted before an earlier one. */
static void departed_late(struct fixture *f)
{
    char key[32];
    lrd_store_relaxed(&f->store.departures->n, 0);
    lrd_store_relaxed(&f->store.namespaces[1].resets, 1);
    lrd_store_relaxed(&f->store.namespaces[1].reset_ms, fixture_now_ms(&f->store.r) - 1100);
    for (uint32_t i = 0; i < f->store.r.geometry.n_departures; i++) {
        snprintf(key, sizeof key, "more %u", i);
        depart(f, 0, key, LRD_CAUSE_EXPIRED, true, 1900, 0);
    }
    depart(f, 0, "twice", LRD_CAUSE_DELETED, true, 600, 0);
    depart(f, 0, "twice", LRD_CAUSE_EXPIRED, true, 1800, 0);
}

static struct fixture_item text_item(const char *key)
{
    return (struct fixture_item){.key = key, .key_len = (uint32_t)strlen(key), .value = "value", .value_len = 5};
}

static void free_under(struct fixture *f, uint32_t block, enum lrd_cause cause, uint64_t ago_ms)
{
    lrd_u64 *word = &f->store.block_words[block];
    uint64_t w = lrd_load_relaxed(word);
    lrd_store_relaxed(&f->store.descriptors[block].freed, lrd_freed_make(cause, 0, fixture_now_ms(&f->store.r) - ago_ms));
    lrd_store_release(word, lrd_block_word_make(lrd_block_word_generation(w) + 1, lrd_block_word_epoch(w)));
}

static uint64_t slot_of(struct fixture *f, const char *key)
{
    struct lrd_get get;
    if (fixture_get(&f->store.r, 0, key, (uint32_t)strlen(key), NULL, 0, &get) == LRD_ABSENT && get.slot == 0)
        abort(); /* what has expired is absent, and has a slot */
    return get.slot;
}

/* An item whose block was freed, and is in that state now. Where that is not free, another item lies there. */
static void slot_of_item(struct fixture *f, enum lrd_block_state state, uint64_t expires_ms)
{
    struct fixture_item item = text_item("slot");
    item.expires_ms = expires_ms;
    fixture_put(f, &item);
    departed(f);
    uint64_t slot = slot_of(f, "slot");
    uint32_t block = lrd_arena_block(&f->store.r, slot);
    free_under(f, block, LRD_CAUSE_EVICTED, 700);
    lrd_store_relaxed(&f->store.descriptors[block].state, state);
    if (state != LRD_BLOCK_FREE)
        *((unsigned char *)(item_at(f, slot) + 1)) ^= 1;
}

static void slot_with(struct fixture *f, enum lrd_block_state state) { slot_of_item(f, state, 0); }

/* It had expired when its block was evicted. */
static void slot_late(struct fixture *f) { slot_of_item(f, LRD_BLOCK_FREE, fixture_now_ms(&f->store.r) - 1000); }

/* Its bytes are gone; the ring knows that it had. */
static void slot_late_reused(struct fixture *f)
{
    slot_of_item(f, LRD_BLOCK_OPEN, fixture_now_ms(&f->store.r) - 1000);
    depart(f, 0, "slot", LRD_CAUSE_EXPIRED, false, 750, 0);
}

static void slot_freed(struct fixture *f) { slot_with(f, LRD_BLOCK_FREE); }

static void slot_reused(struct fixture *f) { slot_with(f, LRD_BLOCK_OPEN); }

/* The slot lies in a bucket of the key, and says a displacement that does not lead there: it is another key's. */
static void slot_elsewhere(struct fixture *f)
{
    slot_with(f, LRD_BLOCK_OPEN);
    uint64_t hash = hash_of(f, 0, "slot");
    uint32_t home = lrd_hash_home(hash, f->store.r.n_pairs), tag = lrd_hash_tag(hash);
    for (uint32_t d = 0; d < 4; d++)
        for (unsigned i = 0; i < LRD_SLOTS; i++) {
            struct place p = place_of(f, lrd_hash_bucket(home, tag, d, f->store.r.n_pairs), i);
            if (p.slot != 0 && lrd_slot_tag(p.slot) == tag)
                lrd_store_relaxed(p.at, p.slot ^ UINT64_C(1) << 48);
        }
}

/* The ring knows of it as well, and more. */
static void slot_and_ring(struct fixture *f)
{
    slot_with(f, LRD_BLOCK_FREE);
    depart(f, 0, "slot", LRD_CAUSE_EVICTED, false, 750, 60000);
}

/* It was written once more, and deleted, after that block was freed. */
static void slot_older(struct fixture *f)
{
    slot_with(f, LRD_BLOCK_FREE);
    depart(f, 0, "slot", LRD_CAUSE_DELETED, true, 300, 0);
}

/* Freed for a namespace that is another's. */
static void slot_of_other(struct fixture *f)
{
    slot_with(f, LRD_BLOCK_OPEN);
    for (uint32_t i = 0; i < f->store.r.n_blocks; i++)
        lrd_store_relaxed(&f->store.descriptors[i].freed, lrd_freed_make(LRD_CAUSE_EVICTED, 5, 1));
}

static void slot_expired(struct fixture *f)
{
    struct fixture_item item = text_item("late");
    item.expires_ms = fixture_now_ms(&f->store.r) - 600;
    fixture_put(f, &item);
    item = text_item("short");
    item.expires_ms = fixture_now_ms(&f->store.r) + 3600000;
    fixture_put(f, &item);
    item = text_item("long");
    fixture_put(f, &item);
    departed(f);
}

/* ---- segments that are none ---- */

static void not_ready(struct fixture *f) { lrd_store_relaxed(&f->store.header->magic, 0); }

static void parts_outside(struct fixture *f) { f->store.header->parts[LRD_PART_ARENA].off += UINT64_C(1) << 40; }

/* Words anywhere behind the header, some of them replaced by any value, some changed by a bit. $LARDER_SEED: another choice. */
static void scribbled(struct fixture *f)
{
    const char *text = getenv("LARDER_SEED");
    uint64_t state = text ? strtoull(text, NULL, 10) * 2 + 1 : 1, n_words = (f->bytes - LRD_PAGE) / 8;
    lrd_u64 *word = (lrd_u64 *)(void *)(f->store.base + LRD_PAGE);
    for (unsigned i = 0; i < 2000; i++) {
        uint64_t x = fixture_random(&state), y = fixture_random(&state);
        lrd_u64 *at = &word[x % (i % 2 ? n_words : n_words / 8)]; /* most of it is arena; what points is before it */
        lrd_store_relaxed(at, i % 4 == 0 ? y : lrd_load_relaxed(at) ^ UINT64_C(1) << (y & 63));
    }
}

static const struct {
    const char *name;
    void (*damage)(struct fixture *f);
} kinds[] = {
    {"none", none},
    {"key_changed", key_changed},
    {"length_changed", length_changed},
    {"location_outside", location_outside},
    {"word_low", word_low},
    {"word_high", word_high},
    {"duplicate", duplicate},
    {"live_off", live_off},
    {"used_low", used_low},
    {"state_unknown", state_unknown},
    {"namespace_changed", namespace_changed},
    {"sets_off", sets_off},
    {"slots_off", slots_off},
    {"half_a_change", half_a_change},
    {"scribbled", scribbled},
    {"owner_nobody", owner_nobody},
    {"owner_not_live", owner_not_live},
    {"owner_chain", owner_chain},
    {"padding_off", padding_off},
    {"two_open", two_open},
    {"namespaces_off", namespaces_off},
    {"namespace_blocks_off", namespace_blocks_off},
    {"counted_elsewhere", counted_elsewhere},
    {"maximum_low", maximum_low},
    {"minimums_high", minimums_high},
    {"policy_unknown", policy_unknown},
    {"account_unfit", account_unfit},
    {"name_twice", name_twice},
    {"credit_over", credit_over},
    {"peopled", peopled},
    {"was_reset", was_reset},
    {"measured", measured},
    {"measured_short", measured_short},
    {"parts_overlap", parts_overlap},
    {"departed", departed},
    {"departed_all", departed_all},
    {"departed_late", departed_late},
    {"slot_late", slot_late},
    {"slot_late_reused", slot_late_reused},
    {"slot_freed", slot_freed},
    {"slot_reused", slot_reused},
    {"slot_elsewhere", slot_elsewhere},
    {"slot_and_ring", slot_and_ring},
    {"slot_older", slot_older},
    {"slot_of_other", slot_of_other},
    {"slot_expired", slot_expired},
    {"not_ready", not_ready},
    {"parts_outside", parts_outside},
};
#define N_KINDS (sizeof kinds / sizeof *kinds)

/* ---- serving ---- */

static int listen_at(const char *socket_path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int n = snprintf(addr.sun_path, sizeof addr.sun_path, "%s.peek", socket_path);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (n < 0 || (size_t)n >= sizeof addr.sun_path || fd < 0 || bind(fd, (const struct sockaddr *)&addr, sizeof addr) < 0 || listen(fd, 8) < 0) {
        perror(socket_path);
        exit(1);
    }
    return fd;
}

static void answer(const struct fixture *f, int listener)
{
    const struct lrd_welcome welcome = {
        .magic = LRD_HELLO_MAGIC,
        .layout_version = LRD_LAYOUT_VERSION,
        .layout_hash = LRD_LAYOUT_HASH,
        .lane = UINT32_MAX,
        .segment_bytes = f->bytes,
        .reserve_bytes = f->bytes,
        .segment_id = 1,
        .now_ns = lrd_clock_ns(),
    };
    int peer = accept(listener, NULL, NULL);
    if (peer < 0)
        return;
    if (lrd_send_fds(peer, &welcome, sizeof welcome, &f->fd, 1) < 0)
        perror("answer");
    close(peer);
}

static void serve(const struct fixture *f, int listener)
{
    struct pollfd p[2] = {{.fd = listener, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    puts("ready");
    fflush(stdout);
    while (poll(p, 2, -1) >= 0 && p[1].revents == 0)
        if (p[0].revents != 0)
            answer(f, listener);
}

int main(int argc, char **argv)
{
    struct fixture f;
    for (size_t i = 0; i < N_KINDS; i++) {
        if (argc == 1)
            puts(kinds[i].name);
        if (argc != 3 || strcmp(argv[2], kinds[i].name) != 0)
            continue;
        fixture_make_sealed(&f, N_PAIRS, N_BLOCKS, BLOCK_SHIFT);
        strcpy(f.store.namespaces[1].name, "second");
        strcpy(f.store.namespaces[2].name, "kept");
        fill(&f);
        kinds[i].damage(&f);
        lrd_store_release(&f.store.header->heartbeat_ms, fixture_now_ms(&f.store.r));
        serve(&f, listen_at(argv[1]));
        fixture_drop(&f);
        return 0;
    }
    return argc == 1 ? 0 : 64;
}
