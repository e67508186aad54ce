#include "shm/table.h"

#include "shm/departures.h"
#include "shm/feed.h"
#include "shm/journal.h"
#include "shm/testpoint.h"

/* Where a slot is: bucket index, index in it, and the displacement of an item of ours that lies there. */
struct place {
    uint32_t bucket;
    uint32_t idx;
    uint32_t displacement;
};

#define NOWHERE UINT32_MAX

static lrd_u64 *slot_at(const struct lrd_table *t, uint32_t bucket, uint32_t idx) { return &t->s->buckets[bucket].slot[idx]; }
static uint64_t load_slot(const struct lrd_table *t, uint32_t bucket, uint32_t idx)
{
    return lrd_load_relaxed(slot_at(t, bucket, idx)); /* relaxed: this thread is the only one that stores it */
}

/* ---- what a slot means ---- */

static uint32_t ns_of(const struct lrd_table *t, uint64_t slot)
{
    return lrd_owner_ns(lrd_load_relaxed(&t->s->descriptors[lrd_arena_block(&t->s->r, slot)].owner));
}

static bool is_dead(const struct lrd_table *t, uint64_t slot)
{
    const struct lrd_store *s = t->s;
    uint32_t block = lrd_arena_block(&s->r, slot);
    uint32_t ns = lrd_owner_ns(lrd_load_relaxed(&s->descriptors[block].owner));
    return lrd_slot_dead(slot, lrd_load_relaxed(&s->block_words[block]), lrd_load32_relaxed(&s->namespaces[ns].epoch));
}

static bool is_vacant(const struct lrd_table *t, uint64_t slot) { return slot == 0 || is_dead(t, slot); }

static uint32_t home_of(const struct lrd_table *t, uint32_t bucket, uint64_t slot)
{
    return lrd_hash_bucket(bucket, lrd_slot_tag(slot), lrd_slot_displacement(slot), t->s->r.n_pairs);
}

/* What an item adds to its block's live word. */
static uint64_t share_of(const struct lrd_table *t, uint64_t slot)
{
    return lrd_item_live(lrd_item_load(lrd_arena_item(&t->s->r, slot)), t->s->r.granule_shift);
}

static bool is_key(const struct lrd_table *t, uint64_t slot, uint32_t ns, const void *key, uint32_t key_len)
{
    const struct lrd_item *item = lrd_arena_item(&t->s->r, slot);
    struct lrd_item_head h = lrd_item_load(item);
    return lrd_item_key_len(h) == key_len && lrd_item_ns(h) == ns && lrd_racy_equal(lrd_item_key_of(item, h), key, key_len);
}

/* ---- steps ---- */

/* Raises (by 1) or lowers (by -1) what the home bucket of a displaced slot says about it. A counter that has reached its maximum has lost count and stays. */
static void step_displaced(struct lrd_table *t, uint32_t home, uint32_t displacement, uint32_t tag, int by)
{
    if (displacement == 0)
        return;
    lrd_u64 *word = &t->s->buckets[home].displaced;
    uint64_t was = lrd_journal_read(t->j, word);
    uint32_t count = lrd_displaced_count(was, displacement, tag);
    if (count == LRD_DISPLACED_MAX)
        return;
    uint64_t one = UINT64_C(1) << lrd_displaced_shift(displacement, tag);
    if (by > 0)
        lrd_journal_merge(t->j, word, was + one);
    else
        lrd_journal_step(t->j, word, was - one);
}

/* After the slot is gone from its bucket: its home need not announce it any more. */
static void step_forget(struct lrd_table *t, uint32_t bucket, uint64_t slot)
{
    if (slot != 0)
        step_displaced(t, home_of(t, bucket, slot), lrd_slot_displacement(slot), lrd_slot_tag(slot), -1);
}

static void step_live(struct lrd_table *t, uint64_t slot, int by) { lrd_arena_step_live(t->a, lrd_arena_block(&t->s->r, slot), share_of(t, slot), by); }

static void step_count(struct lrd_table *t, enum lrd_counter_id id, uint64_t n) { lrd_journal_add(t->j, &t->s->counters[id], n); }

static void step_count_ns(struct lrd_table *t, uint32_t ns, enum lrd_counter_id id) { lrd_journal_add(t->j, lrd_store_counter(t->s, ns, id), 1); }

/* One slot stored where `old` was; the item's home announces it if it lies elsewhere. */
struct change {
    struct place at;
    uint64_t old;
    uint64_t slot;
    uint32_t home;
    uint32_t count;
};

/* Raises all displaced words, then stores the slots in order, then lowers. A word that is raised twice gets one step with both: when a new worker makes the steps again, the word
 * goes back to its first value here, while the slots are there already; that value must announce them all. Lowered values it passes again are only too high. */
static void step_changes(struct lrd_table *t, const struct change *c, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        step_displaced(t, c[i].home, c[i].at.displacement, lrd_slot_tag(c[i].slot), 1);
    for (unsigned i = 0; i < n; i++)
        lrd_journal_step(t->j, slot_at(t, c[i].at.bucket, c[i].at.idx), c[i].slot);
    for (unsigned i = 0; i < n; i++) {
        lrd_table_set_count(t, c[i].at.bucket, c[i].at.idx, c[i].count);
        step_forget(t, c[i].at.bucket, c[i].old);
        if (c[i].old == 0)
            step_count(t, LRD_C_slots_used, 1);
    }
}

/* ---- departures ---- */

static uint64_t expires_of(const struct lrd_table *t, uint64_t slot) { return lrd_item_expires_ms(lrd_item_load(lrd_arena_item(&t->s->r, slot))); }

static void depart(struct lrd_table *t, uint32_t bucket, uint32_t idx, enum lrd_cause cause, uint64_t now_ms)
{
    uint64_t slot = load_slot(t, bucket, idx), expires_ms = expires_of(t, slot);
    if (expires_ms != 0 && expires_ms <= now_ms)
        cause = LRD_CAUSE_EXPIRED;
    lrd_depart(t->s, lrd_departure_who(home_of(t, bucket, slot), lrd_slot_tag(slot), ns_of(t, slot), cause, lrd_table_count(t, bucket, idx) > 0),
               lrd_departure_when(now_ms, lrd_ttl_left_make(expires_ms, now_ms)));
}

/* Blocks that expire are freed whole, without a look at their items: which they were is known again when their dead slots go. */
static void note_dead(struct lrd_table *t, uint32_t bucket, uint32_t idx)
{
    const struct lrd_store *s = t->s;
    uint64_t slot = load_slot(t, bucket, idx);
    uint32_t block = lrd_arena_block(&s->r, slot), generation = lrd_block_word_generation(lrd_load_relaxed(&s->block_words[block]));
    uint64_t freed = lrd_load_relaxed(&s->descriptors[block].freed);
    if (lrd_freed_cause(freed) == LRD_CAUSE_EXPIRED && lrd_slot_generation(slot) == ((generation - 1) & LRD_GENERATION_MASK))
        lrd_depart(t->s, lrd_departure_who(home_of(t, bucket, slot), lrd_slot_tag(slot), lrd_freed_ns(freed), LRD_CAUSE_EXPIRED, lrd_table_count(t, bucket, idx) > 0),
                   lrd_departure_when(lrd_freed_ms(freed), 0));
}

/* ---- the feed ---- */

/* The item whose bytes lie at `location` is what its key has from now on. A placeholder is a miss before and after, and a stale value with a lease is the value it was. */
static void note_put(struct lrd_table *t, const struct lrd_new_item *item, uint64_t now_ms)
{
    if (!lrd_feed_has(t->s, item->ns))
        return;
    const struct lrd_reader *r = &t->s->r;
    uint32_t kind = lrd_item_kind(lrd_item_load((const struct lrd_item *)(const void *)(r->arena + ((uint64_t)item->location << r->granule_shift))));
    if (lrd_item_has_lease(kind))
        return;
    uint32_t generation = lrd_block_word_generation(lrd_load_relaxed(&t->s->block_words[item->location >> r->location_shift]));
    const struct lrd_note note = {
        .ns = item->ns,
        .event = lrd_item_is_value(kind) ? LRD_EVENT_SET : LRD_EVENT_DELETE,
        .key_len = item->key_len,
        .key = item->key,
        .hash = item->hash,
        .version = lrd_item_is_value(kind) ? (uint64_t)generation << 32 | item->location : 0,
        .now_ms = now_ms,
    };
    lrd_feed_note(t->s, t->j, &note);
}

static void note_gone(struct lrd_table *t, uint32_t ns, const void *key, uint32_t key_len, uint64_t hash, enum lrd_event event, enum lrd_cause cause, uint64_t now_ms)
{
    const struct lrd_note note = {.ns = ns, .event = event, .cause = cause, .key_len = key_len, .key = key, .hash = hash, .now_ms = now_ms};
    if (lrd_feed_has(t->s, ns))
        lrd_feed_note(t->s, t->j, &note);
}

static void note_victim(struct lrd_table *t, uint64_t slot, uint64_t now_ms)
{
    uint32_t ns = ns_of(t, slot);
    if (!lrd_feed_has(t->s, ns))
        return;
    const struct lrd_item *item = lrd_arena_item(&t->s->r, slot);
    struct lrd_item_head h = lrd_item_load(item);
    const unsigned char *key = lrd_item_key_of(item, h);
    if (lrd_item_kind(h) != LRD_ITEM_LEASE)
        note_gone(t, ns, key, lrd_item_key_len(h), lrd_hash(t->s->r.hash_seed, ns, key, lrd_item_key_len(h)), LRD_EVENT_EVICTED, LRD_CAUSE_NO_ROOM, now_ms);
}

/* ---- finding ---- */

/* The place of a live item of that key, in the readers' order. */
static bool locate(const struct lrd_table *t, uint32_t ns, const void *key, uint32_t key_len, uint64_t hash, struct place *at)
{
    uint32_t tag = lrd_hash_tag(hash), home = lrd_hash_home(hash, t->s->r.n_pairs);
    uint64_t displaced = lrd_load_relaxed(&t->s->buckets[home].displaced);
    for (uint32_t d = 0; d < 4; d++) {
        if (d > 0 && lrd_displaced_count(displaced, d, tag) == 0)
            continue;
        uint32_t bucket = lrd_hash_bucket(home, tag, d, t->s->r.n_pairs);
        for (uint32_t match = lrd_table_match(&t->s->buckets[bucket], tag); match != 0; match &= match - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(match) - 1;
            uint64_t slot = load_slot(t, bucket, i);
            if (slot != 0 && !is_dead(t, slot) && is_key(t, slot, ns, key, key_len)) {
                *at = (struct place){bucket, i, d};
                return true;
            }
        }
    }
    return false;
}

/* Vacant slots of a bucket, and one of them: an empty one if there is one. */
static unsigned vacancies(const struct lrd_table *t, uint32_t bucket, uint32_t *idx)
{
    unsigned n = 0;
    *idx = NOWHERE;
    for (uint32_t i = LRD_SLOTS; i-- > 0;) {
        uint64_t slot = load_slot(t, bucket, i);
        if (!is_vacant(t, slot))
            continue;
        n++;
        if (*idx == NOWHERE || slot == 0)
            *idx = i;
    }
    return n;
}

/* Home if it has room, else the emptiest of the others. */
static bool find_vacant(const struct lrd_table *t, uint32_t home, uint32_t tag, struct place *at)
{
    unsigned most = 0;
    for (uint32_t d = 0; d < 4; d++) {
        uint32_t idx, bucket = lrd_hash_bucket(home, tag, d, t->s->r.n_pairs);
        unsigned n = vacancies(t, bucket, &idx);
        if (n > most) {
            most = n;
            *at = (struct place){bucket, idx, d};
        }
        if (d == 0 && n > 0)
            break;
    }
    return most > 0;
}

/* Where the item of a slot could move on to, in its own order. */
static bool find_forward(const struct lrd_table *t, uint32_t bucket, uint64_t slot, struct place *to)
{
    uint32_t home = home_of(t, bucket, slot), tag = lrd_slot_tag(slot);
    for (uint32_t d = lrd_slot_displacement(slot) + 1; d < 4; d++) {
        uint32_t idx, next = lrd_hash_bucket(home, tag, d, t->s->r.n_pairs);
        if (next != bucket && vacancies(t, next, &idx) > 0) {
            *to = (struct place){next, idx, d};
            return true;
        }
    }
    return false;
}

/* An item of our four full buckets that can move forward: its change, and its place is ours. The change stands before the one that replaces it, so a reader, who looks in
 * the same order, finds the item at one of the two. */
static bool make_room(const struct lrd_table *t, uint32_t home, uint32_t tag, struct change *move, struct place *at)
{
    for (uint32_t d = 0; d < 4; d++) {
        uint32_t bucket = lrd_hash_bucket(home, tag, d, t->s->r.n_pairs);
        for (uint32_t i = 0; i < LRD_SLOTS; i++) {
            struct place to;
            uint64_t slot = load_slot(t, bucket, i);
            if (!find_forward(t, bucket, slot, &to))
                continue;
            *move = (struct change){
                .at = to,
                .old = load_slot(t, to.bucket, to.idx),
                .slot = lrd_slot_make(lrd_slot_tag(slot), to.displacement, lrd_slot_generation(slot), lrd_slot_location(slot)),
                .home = home_of(t, bucket, slot),
                .count = lrd_table_count(t, bucket, i),
            };
            *at = (struct place){bucket, i, d};
            return true;
        }
    }
    return false;
}

/* Slots that are a namespace's whatever others put: its minimum of the arena, at three quarters full. */
static uint64_t min_slots(const struct lrd_table *t, uint32_t ns)
{
    uint64_t slots = (uint64_t)t->s->r.n_pairs * 2 * LRD_SLOTS;
    return slots * 3 / 4 * lrd_load_relaxed(&t->s->namespaces[ns].min_blocks) / t->s->r.n_blocks;
}

enum rank { RANK_EXPIRED, RANK_OWN, RANK_ABOVE, RANK_BELOW, RANK_NEVER };

/* How willingly an item is given up for a new one of namespace ns. */
static enum rank rank_of(const struct lrd_table *t, uint64_t slot, uint32_t ns, uint64_t now_ms)
{
    uint32_t other = ns_of(t, slot);
    uint64_t expires_ms = expires_of(t, slot);
    if (expires_ms != 0 && expires_ms <= now_ms)
        return RANK_EXPIRED;
    if (lrd_load32_relaxed(&t->s->namespaces[other].policy) == LRD_POLICY_REFUSE)
        return RANK_NEVER;
    if (other == ns)
        return RANK_OWN;
    if (t->a->ns[other].live_items > min_slots(t, other))
        return RANK_ABOVE;
    /* A write for which credit was given weighs more than a minimum. */
    return lrd_load32_relaxed(&t->s->namespaces[ns].policy) == LRD_POLICY_REFUSE ? RANK_BELOW : RANK_NEVER;
}

/* Of the 28 items in a full neighbourhood the one that is given up most willingly, of those the one in the oldest block. False: none may go. */
static bool find_victim(const struct lrd_table *t, uint32_t home, uint32_t tag, uint32_t ns, uint64_t now_ms, struct place *at)
{
    enum rank best = RANK_NEVER;
    uint64_t oldest = UINT64_MAX;
    for (uint32_t d = 0; d < 4; d++) {
        uint32_t bucket = lrd_hash_bucket(home, tag, d, t->s->r.n_pairs);
        for (uint32_t i = 0; i < LRD_SLOTS; i++) {
            uint64_t slot = load_slot(t, bucket, i);
            uint64_t age = lrd_load_relaxed(&t->s->descriptors[lrd_arena_block(&t->s->r, slot)].sequence);
            enum rank rank = rank_of(t, slot, ns, now_ms);
            if (rank < best || (rank == best && rank < RANK_NEVER && age < oldest)) {
                best = rank;
                oldest = age;
                *at = (struct place){bucket, i, d};
            }
        }
    }
    return best < RANK_NEVER;
}

/* ---- changing ---- */

static uint64_t slot_for(const struct lrd_table *t, const struct lrd_new_item *item, uint32_t displacement)
{
    uint32_t block = item->location >> t->s->r.location_shift;
    uint32_t generation = lrd_block_word_generation(lrd_load_relaxed(&t->s->block_words[block]));
    return lrd_slot_make(lrd_hash_tag(item->hash), displacement, generation, item->location);
}

/* One store replaces the item: whoever looks sees the old one or the new one. */
static uint32_t overwrite(struct lrd_table *t, const struct lrd_new_item *item, struct place at)
{
    uint64_t old = load_slot(t, at.bucket, at.idx);
    step_live(t, old, -1);
    lrd_journal_step(t->j, slot_at(t, at.bucket, at.idx), slot_for(t, item, at.displacement));
    step_count_ns(t, item->ns, LRD_C_overwrites);
    return lrd_arena_block(&t->s->r, old);
}

/* Takes the place of an item that has to go for it. */
static uint32_t step_victim(struct lrd_table *t, struct place at, uint64_t now_ms)
{
    uint64_t victim = load_slot(t, at.bucket, at.idx);
    depart(t, at.bucket, at.idx, LRD_CAUSE_NO_ROOM, now_ms);
    note_victim(t, victim, now_ms);
    step_live(t, victim, -1);
    step_count_ns(t, ns_of(t, victim), LRD_C_no_room);
    return lrd_arena_block(&t->s->r, victim);
}

/* There is no slot for it: as if it had been put and replaced at once. */
static void step_lost(struct lrd_table *t, const struct lrd_new_item *item, uint32_t home, uint64_t now_ms)
{
    uint64_t expires_ms = lrd_item_expires_ms(lrd_item_load((const struct lrd_item *)(const void *)(t->s->arena + ((uint64_t)item->location << t->s->r.granule_shift))));
    lrd_depart(t->s, lrd_departure_who(home, lrd_hash_tag(item->hash), item->ns, LRD_CAUSE_NO_ROOM, false),
               lrd_departure_when(now_ms, lrd_ttl_left_make(expires_ms, now_ms)));
    note_gone(t, item->ns, item->key, item->key_len, item->hash, LRD_EVENT_EVICTED, LRD_CAUSE_NO_ROOM, now_ms);
    step_count_ns(t, item->ns, LRD_C_no_room);
}

/* A key that has no item yet gets one. Returns the block of a live item that had to go, or LRD_NO_BLOCK. */
static uint32_t insert(struct lrd_table *t, const struct lrd_new_item *item, uint64_t now_ms)
{
    uint32_t home = lrd_hash_home(item->hash, t->s->r.n_pairs), tag = lrd_hash_tag(item->hash), emptied = LRD_NO_BLOCK;
    struct change c[2];
    struct place at;
    unsigned n = 0;
    bool vacant = find_vacant(t, home, tag, &at);
    if (!vacant && make_room(t, home, tag, &c[0], &at)) {
        step_count(t, LRD_C_relocated, 1);
        n = 1;
    } else if (!vacant) {
        if (!find_victim(t, home, tag, item->ns, now_ms, &at)) {
            step_lost(t, item, home, now_ms);
            return LRD_NO_BLOCK;
        }
        emptied = step_victim(t, at, now_ms);
    } else if (load_slot(t, at.bucket, at.idx) != 0)
        note_dead(t, at.bucket, at.idx);
    c[n++] = (struct change){.at = at, .old = load_slot(t, at.bucket, at.idx), .slot = slot_for(t, item, at.displacement), .home = home};
    step_changes(t, c, n);
    step_live(t, slot_for(t, item, 0), 1);
    note_put(t, item, now_ms);
    return emptied;
}

uint32_t lrd_table_put(struct lrd_table *t, const struct lrd_new_item *item, uint64_t now_ms)
{
    struct place at;
    step_count_ns(t, item->ns, LRD_C_sets);
    if (!locate(t, item->ns, item->key, item->key_len, item->hash, &at))
        return insert(t, item, now_ms);
    step_live(t, slot_for(t, item, 0), 1);
    note_put(t, item, now_ms);
    return overwrite(t, item, at);
}

/* Empties a slot; its home need not announce it any more. */
static void step_clear(struct lrd_table *t, uint32_t bucket, uint32_t idx)
{
    uint64_t slot = load_slot(t, bucket, idx);
    lrd_journal_step(t->j, slot_at(t, bucket, idx), 0);
    step_forget(t, bucket, slot);
    step_count(t, LRD_C_slots_used, (uint64_t)-1);
}

bool lrd_table_delete(struct lrd_table *t, uint32_t ns, const void *key, uint32_t key_len, uint64_t hash, uint64_t now_ms, uint32_t *emptied)
{
    struct place at;
    if (!locate(t, ns, key, key_len, hash, &at))
        return false;
    uint64_t slot = load_slot(t, at.bucket, at.idx);
    depart(t, at.bucket, at.idx, LRD_CAUSE_DELETED, now_ms);
    note_gone(t, ns, key, key_len, hash, LRD_EVENT_DELETE, LRD_CAUSE_DELETED, now_ms);
    step_live(t, slot, -1);
    step_count_ns(t, ns, LRD_C_deletes);
    step_clear(t, at.bucket, at.idx);
    *emptied = lrd_arena_block(&t->s->r, slot);
    return true;
}

uint64_t lrd_table_slot(const struct lrd_table *t, uint32_t ns, const void *key, uint32_t key_len, uint64_t hash)
{
    struct place at;
    return locate(t, ns, key, key_len, hash, &at) ? load_slot(t, at.bucket, at.idx) : 0;
}

/* ---- by location ---- */

bool lrd_table_find(const struct lrd_table *t, uint64_t hash, uint32_t location, struct lrd_place *at)
{
    uint32_t tag = lrd_hash_tag(hash), home = lrd_hash_home(hash, t->s->r.n_pairs);
    uint64_t displaced = lrd_load_relaxed(&t->s->buckets[home].displaced);
    uint32_t generation = lrd_block_word_generation(lrd_load_relaxed(&t->s->block_words[location >> t->s->r.location_shift]));
    for (uint32_t d = 0; d < 4; d++) {
        if (d > 0 && lrd_displaced_count(displaced, d, tag) == 0)
            continue;
        uint32_t bucket = lrd_hash_bucket(home, tag, d, t->s->r.n_pairs);
        uint64_t want = lrd_slot_make(tag, d, generation, location);
        for (uint32_t i = 0; i < LRD_SLOTS; i++)
            if (load_slot(t, bucket, i) == want) {
                *at = (struct lrd_place){bucket, i};
                return true;
            }
    }
    return false;
}

void lrd_table_move(struct lrd_table *t, struct lrd_place at, uint32_t location)
{
    uint64_t old = load_slot(t, at.bucket, at.idx);
    uint32_t generation = lrd_block_word_generation(lrd_load_relaxed(&t->s->block_words[location >> t->s->r.location_shift]));
    uint64_t slot = lrd_slot_make(lrd_slot_tag(old), lrd_slot_displacement(old), generation, location);
    step_live(t, old, -1);
    step_live(t, slot, 1);
    /* One store: whoever looks sees the item at its old place or at its new one; the old block is freed after that. */
    lrd_journal_step(t->j, slot_at(t, at.bucket, at.idx), slot);
}

uint32_t lrd_table_hint(const struct lrd_table *t, uint64_t hash)
{
    uint32_t tag = lrd_hash_tag(hash), home = lrd_hash_home(hash, t->s->r.n_pairs);
    uint64_t displaced = lrd_load_relaxed(&t->s->buckets[home].displaced);
    for (uint32_t d = 0; d < 4; d++) {
        if (d > 0 && lrd_displaced_count(displaced, d, tag) == 0)
            continue;
        uint32_t bucket = lrd_hash_bucket(home, tag, d, t->s->r.n_pairs);
        for (uint32_t match = lrd_table_match(&t->s->buckets[bucket], tag); match != 0; match &= match - 1) {
            uint64_t slot = load_slot(t, bucket, (uint32_t)__builtin_ctz(match) - 1);
            if (slot != 0 && !is_dead(t, slot))
                return lrd_arena_block(&t->s->r, slot);
        }
    }
    return LRD_NO_BLOCK;
}

void lrd_table_mark(struct lrd_table *t, uint64_t hash)
{
    uint32_t tag = lrd_hash_tag(hash), home = lrd_hash_home(hash, t->s->r.n_pairs);
    for (uint32_t d = 0; d < 4; d++) {
        uint32_t bucket = lrd_hash_bucket(home, tag, d, t->s->r.n_pairs);
        for (uint32_t i = 0; i < LRD_SLOTS; i++) {
            uint64_t slot = load_slot(t, bucket, i);
            uint32_t count = lrd_table_count(t, bucket, i);
            if (slot != 0 && lrd_slot_tag(slot) == tag && lrd_slot_displacement(slot) == d && count < 3)
                lrd_table_set_count(t, bucket, i, count + 1);
        }
    }
}

/* ---- the sweep ---- */

static void sweep_bucket(struct lrd_table *t, uint32_t bucket)
{
    for (uint32_t i = 0; i < LRD_SLOTS; i++) {
        uint64_t slot = load_slot(t, bucket, i);
        if (slot == 0 || !is_dead(t, slot))
            continue;
        note_dead(t, bucket, i);
        lrd_journal_begin(t->j);
        step_clear(t, bucket, i);
        step_count(t, LRD_C_slots_swept, 1);
        lrd_journal_commit(t->j);
    }
}

/* A worker that dies here leaves the cursor where it was or a bucket further: looking at a bucket twice does no harm. A sweep is counted after the cursor went
 * back to 0: if the worker dies between the two it is not counted, and what it proved is proved by a later one. */
bool lrd_table_sweep(struct lrd_table *t, uint32_t n)
{
    struct lrd_journal *shared = t->s->journal;
    uint64_t owed = lrd_load_relaxed(&shared->sweep_owed), cursor = lrd_load_relaxed(&shared->sweep_cursor);
    uint64_t n_buckets = (uint64_t)t->s->r.n_pairs * 2;
    for (; n > 0 && owed > 0; n--, owed--) {
        sweep_bucket(t, (uint32_t)cursor);
        bool completed = ++cursor == n_buckets;
        if (completed)
            cursor = 0;
        lrd_store_release(&shared->sweep_cursor, cursor);
        if (completed)
            lrd_store_release(&shared->sweeps, lrd_load_relaxed(&shared->sweeps) + 1);
    }
    lrd_store_release(&shared->sweep_owed, owed);
    return owed > 0;
}
