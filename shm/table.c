#include "shm/table.h"

#include <string.h>

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

static bool is_dead(const struct lrd_table *t, uint64_t slot)
{
    const struct lrd_store *s = t->s;
    uint32_t block = lrd_arena_block(&s->r, slot);
    uint32_t ns = (uint32_t)lrd_load_relaxed(&s->descriptors[block].ns);
    return lrd_slot_dead(slot, lrd_load_relaxed(&s->block_words[block]), lrd_load32_relaxed(&s->namespaces[ns].epoch));
}

static bool is_vacant(const struct lrd_table *t, uint64_t slot) { return slot == 0 || is_dead(t, slot); }

static uint32_t home_of(const struct lrd_table *t, uint32_t bucket, uint64_t slot)
{
    return lrd_hash_bucket(bucket, lrd_slot_tag(slot), lrd_slot_displacement(slot), t->s->r.n_pairs);
}

static uint32_t bytes_of(const struct lrd_table *t, uint64_t slot)
{
    struct lrd_item_head h = lrd_item_load(lrd_arena_item(&t->s->r, slot));
    return lrd_item_bytes(lrd_item_key_len(h), lrd_item_value_len(h), t->s->r.granule_shift);
}

static bool is_key(const struct lrd_table *t, uint64_t slot, uint32_t ns, const void *key, uint32_t key_len)
{
    const struct lrd_item *item = lrd_arena_item(&t->s->r, slot);
    struct lrd_item_head h = lrd_item_load(item);
    return lrd_item_key_len(h) == key_len && lrd_item_ns(h) == ns && memcmp(lrd_item_key(item), key, key_len) == 0;
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

static void step_live(struct lrd_table *t, uint64_t slot, uint32_t bytes, int by)
{
    lrd_u64 *word = &t->s->descriptors[lrd_arena_block(&t->s->r, slot)].live;
    uint64_t live = lrd_journal_read(t->j, word), item = lrd_live_make(1, bytes);
    lrd_journal_step(t->j, word, by > 0 ? live + item : live - item);
}

static void step_count(struct lrd_table *t, enum lrd_counter_id id, uint64_t n) { lrd_journal_add(t->j, &t->s->counters[id], n); }

/* One slot stored where `old` was; the item's home announces it if it lies elsewhere. */
struct change {
    struct place at;
    uint64_t old;
    uint64_t slot;
    uint32_t home;
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
        step_forget(t, c[i].at.bucket, c[i].old);
        if (c[i].old == 0)
            step_count(t, LRD_C_slots_used, 1);
    }
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
            };
            *at = (struct place){bucket, i, d};
            return true;
        }
    }
    return false;
}

/* Of the 28 items in a full neighbourhood: an expired one, else the one in the oldest block. */
static struct place find_victim(const struct lrd_table *t, uint32_t home, uint32_t tag, uint64_t now_ms)
{
    struct place at = {home, 0, 0};
    uint64_t oldest = UINT64_MAX;
    for (uint32_t d = 0; d < 4; d++) {
        uint32_t bucket = lrd_hash_bucket(home, tag, d, t->s->r.n_pairs);
        for (uint32_t i = 0; i < LRD_SLOTS; i++) {
            uint64_t slot = load_slot(t, bucket, i);
            uint64_t expires_ms = lrd_item_expires_ms(lrd_item_load(lrd_arena_item(&t->s->r, slot)));
            uint64_t age = lrd_load_relaxed(&t->s->descriptors[lrd_arena_block(&t->s->r, slot)].sequence);
            if (expires_ms != 0 && expires_ms <= now_ms)
                age = 0;
            if (age < oldest) {
                oldest = age;
                at = (struct place){bucket, i, d};
            }
        }
    }
    return at;
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
    step_live(t, old, bytes_of(t, old), -1);
    lrd_journal_step(t->j, slot_at(t, at.bucket, at.idx), slot_for(t, item, at.displacement));
    step_count(t, LRD_C_overwrites, 1);
    return lrd_arena_block(&t->s->r, old);
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
        at = find_victim(t, home, tag, now_ms);
        uint64_t victim = load_slot(t, at.bucket, at.idx);
        step_live(t, victim, bytes_of(t, victim), -1);
        step_count(t, LRD_C_no_room, 1);
        emptied = lrd_arena_block(&t->s->r, victim);
    }
    c[n++] = (struct change){.at = at, .old = load_slot(t, at.bucket, at.idx), .slot = slot_for(t, item, at.displacement), .home = home};
    step_changes(t, c, n);
    return emptied;
}

uint32_t lrd_table_put(struct lrd_table *t, const struct lrd_new_item *item, uint64_t now_ms)
{
    struct place at;
    step_live(t, slot_for(t, item, 0), item->bytes, 1);
    step_count(t, LRD_C_sets, 1);
    if (locate(t, item->ns, item->key, item->key_len, item->hash, &at))
        return overwrite(t, item, at);
    return insert(t, item, now_ms);
}

/* Empties a slot; its home need not announce it any more. */
static void step_clear(struct lrd_table *t, uint32_t bucket, uint32_t idx)
{
    uint64_t slot = load_slot(t, bucket, idx);
    lrd_journal_step(t->j, slot_at(t, bucket, idx), 0);
    step_forget(t, bucket, slot);
    step_count(t, LRD_C_slots_used, (uint64_t)-1);
}

bool lrd_table_delete(struct lrd_table *t, uint32_t ns, const void *key, uint32_t key_len, uint64_t hash, uint32_t *emptied)
{
    struct place at;
    if (!locate(t, ns, key, key_len, hash, &at))
        return false;
    uint64_t slot = load_slot(t, at.bucket, at.idx);
    step_live(t, slot, bytes_of(t, slot), -1);
    step_count(t, LRD_C_deletes, 1);
    step_clear(t, at.bucket, at.idx);
    *emptied = lrd_arena_block(&t->s->r, slot);
    return true;
}

/* ---- the sweep ---- */

static void sweep_bucket(struct lrd_table *t, uint32_t bucket)
{
    for (uint32_t i = 0; i < LRD_SLOTS; i++) {
        uint64_t slot = load_slot(t, bucket, i);
        if (slot == 0 || !is_dead(t, slot))
            continue;
        lrd_journal_begin(t->j);
        step_clear(t, bucket, i);
        step_count(t, LRD_C_slots_swept, 1);
        lrd_journal_commit(t->j);
    }
}

/* What a sweep that begins now will have proved when it completes: no slot is left of a generation that is dead now. */
static void note_generations(struct lrd_table *t)
{
    struct lrd_store *s = t->s;
    for (uint32_t i = 0; i < s->r.n_blocks; i++)
        lrd_store32_relaxed(&s->descriptors[i].generation_seen, lrd_block_word_generation(lrd_load_relaxed(&s->block_words[i])));
}

static void complete_sweep(struct lrd_table *t)
{
    struct lrd_store *s = t->s;
    for (uint32_t i = 0; i < s->r.n_blocks; i++)
        lrd_store32_relaxed(&s->descriptors[i].generation_swept, lrd_load32_relaxed(&s->descriptors[i].generation_seen));
    lrd_store_relaxed(&s->journal->sweeps, lrd_load_relaxed(&s->journal->sweeps) + 1);
}

/* A worker that dies here leaves the cursor where it was or a bucket further: looking at a bucket twice does no harm. Cursor 0 begins anew with fresh notes, so notes that
 * were half taken are taken again. */
bool lrd_table_sweep(struct lrd_table *t, uint32_t n)
{
    struct lrd_journal *shared = t->s->journal;
    uint64_t owed = lrd_load_relaxed(&shared->sweep_owed), cursor = lrd_load_relaxed(&shared->sweep_cursor);
    uint64_t n_buckets = (uint64_t)t->s->r.n_pairs * 2;
    for (; n > 0 && owed > 0; n--, owed--) {
        if (cursor == 0)
            note_generations(t);
        sweep_bucket(t, (uint32_t)cursor);
        if (++cursor == n_buckets) {
            complete_sweep(t);
            cursor = 0;
        }
        lrd_store_release(&shared->sweep_cursor, cursor);
    }
    lrd_store_release(&shared->sweep_owed, owed);
    return owed > 0;
}
