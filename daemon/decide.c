#include "daemon/decide.h"

#include <stdio.h>
#include <string.h>

#include "shm/item.h"
#include "shm/racy.h"

#define LEASE_MOST_MS 3600000u
#define DIGITS_MOST 20u /* a sign and 19 digits */

/* ---- the item that is there ---- */

struct found {
    bool is_item;   /* not expired; of any kind */
    bool is_value;
    bool is_stale;
    bool is_leased; /* held now */
    uint64_t version;
    uint32_t block;
    const struct lrd_item *item;
    uint64_t off;
    struct lrd_item_head head;
    struct lrd_item_words words;
};

/* Acquire is not needed: a lane's words are stored by this process. */
static bool is_held(const struct lrd_decider *d, const struct lrd_lease *lease, uint64_t now_ms)
{
    uint32_t lane = (uint32_t)(lease->holder >> 32), incarnation = (uint32_t)lease->holder;
    if (lease->token == 0 || lease->deadline_ms <= now_ms || lane >= d->s->r.geometry.n_lanes)
        return false;
    uint32_t state = lrd_load32_relaxed(&d->s->lanes[lane].state);
    return lrd_load32_relaxed(&d->s->lanes[lane].incarnation) == incarnation && (state == LRD_LANE_LIVE || state == LRD_LANE_DYING);
}

static void find(const struct lrd_decider *d, const struct lrd_ask *ask, struct found *f, uint64_t now_ms)
{
    const struct lrd_reader *r = &d->s->r;
    uint64_t slot = lrd_table_slot(d->t, ask->record->ns, ask->key, ask->record->key_len, ask->hash);
    *f = (struct found){.block = LRD_NO_BLOCK};
    if (slot == 0)
        return;
    f->block = lrd_arena_block(r, slot);
    f->off = lrd_arena_off(r, slot);
    f->item = lrd_arena_item(r, slot);
    f->head = lrd_item_load(f->item);
    f->words = lrd_item_load_words(f->item, lrd_item_kind(f->head));
    uint64_t expires_ms = lrd_item_expires_ms(f->head);
    f->is_item = expires_ms == 0 || expires_ms > now_ms;
    if (!f->is_item)
        return;
    f->is_value = lrd_item_is_value(lrd_item_kind(f->head));
    f->is_stale = f->is_value && f->words.soft_ms != 0 && f->words.soft_ms <= now_ms;
    f->is_leased = is_held(d, &f->words.lease, now_ms);
    f->version = (uint64_t)lrd_block_word_generation(lrd_load_relaxed(&d->s->block_words[f->block])) << 32 | lrd_slot_location(slot);
}

/* ---- plans ---- */

static void plan_nothing(struct lrd_decision *plan, enum lrd_answer answer)
{
    plan->answer = answer;
    plan->change = LRD_CHANGE_NONE;
    plan->number = 0;
}

static void plan_item(const struct lrd_decider *d, const struct lrd_ask *ask, struct lrd_decision *plan, uint32_t kind, uint32_t flags, uint64_t value_len, uint64_t expires_ms)
{
    const struct lrd_record *rec = ask->record;
    if (value_len > LRD_VALUE_MAX || lrd_item_bytes_as(kind, rec->key_len, (uint32_t)value_len, d->s->r.granule_shift) > d->s->r.geometry.item_max) {
        plan_nothing(plan, LRD_ANSWER_TOO_LARGE);
        return;
    }
    plan->answer = LRD_ANSWER_OK;
    plan->change = LRD_CHANGE_PUT;
    plan->head = (struct lrd_item_head){lrd_item_word0((uint32_t)value_len, expires_ms), lrd_item_word1(flags, rec->ns, rec->key_len, kind)};
    plan->bytes = lrd_item_bytes_of(plan->head, d->s->r.granule_shift);
}

/* The value is the old one's, with what is in the record before or behind it. */
static void plan_from_old(const struct lrd_decider *d, const struct lrd_ask *ask, struct lrd_decision *plan, const struct found *f, uint32_t kind, uint64_t expires_ms)
{
    uint32_t old_kind = lrd_item_kind(f->head), old_len = lrd_item_value_len(f->head), added = ask->record->value_len;
    bool before = ask->record->kind == LRD_RECORD_PREPEND;
    plan->made_of = f->version;
    plan->piece[before] = lrd_item_at(f->item, lrd_item_value_off(old_kind, ask->record->key_len, f->off));
    plan->piece_len[before] = old_len;
    plan->piece[!before] = ask->payload;
    plan->piece_len[!before] = added;
    plan->words = f->words;
    plan_item(d, ask, plan, kind, lrd_item_flags(f->head), (uint64_t)old_len + added, expires_ms);
}

static uint32_t without_lease(uint32_t kind) { return kind & ~(uint32_t)LRD_ITEM_LEASED; }

static enum lrd_answer check(const struct lrd_ask *ask, const struct found *f, uint64_t now_ms)
{
    switch (ask->args == NULL ? LRD_IF_ANY : ask->args->condition) {
    case LRD_IF_ANY:
        return LRD_ANSWER_OK;
    case LRD_IF_ABSENT:
        return f->is_value ? LRD_ANSWER_PRESENT : LRD_ANSWER_OK;
    case LRD_IF_PRESENT:
        return f->is_value ? LRD_ANSWER_OK : LRD_ANSWER_MISSING;
    case LRD_IF_VERSION:
        if (!f->is_item || lrd_item_kind(f->head) == LRD_ITEM_LEASE)
            return LRD_ANSWER_MISSING;
        return f->version == ask->args->version ? LRD_ANSWER_OK : LRD_ANSWER_CHANGED;
    case LRD_IF_LEASE:
        return f->is_item && f->words.lease.token == ask->args->version && f->words.lease.token != 0 && f->words.lease.deadline_ms > now_ms ? LRD_ANSWER_OK : LRD_ANSWER_VOID;
    default:
        return LRD_ANSWER_MALFORMED;
    }
}

static void plan_put(const struct lrd_decider *d, const struct lrd_ask *ask, struct lrd_decision *plan)
{
    plan->piece[0] = ask->payload;
    plan->piece_len[0] = ask->record->value_len;
    plan->words.soft_ms = ask->args != NULL ? ask->args->soft_ms : 0;
    plan_item(d, ask, plan, ask->record->item_kind, ask->record->flags, ask->record->value_len, ask->record->expires_ms);
}

/* A decimal number, and nothing else. */
static bool parse_number(const unsigned char *text, uint32_t n, int64_t *number)
{
    uint32_t i = n > 0 && text[0] == '-';
    bool negative = i == 1;
    int64_t sum = 0;
    if (i == n || n > DIGITS_MOST)
        return false;
    for (; i < n; i++) {
        int64_t digit = text[i] - '0';
        if (digit < 0 || digit > 9 || __builtin_mul_overflow(sum, 10, &sum) || __builtin_add_overflow(sum, negative ? -digit : digit, &sum))
            return false;
    }
    *number = sum;
    return true;
}

static void plan_incr(const struct lrd_decider *d, const struct lrd_ask *ask, struct lrd_decision *plan, const struct found *f)
{
    int64_t number = ask->args->initial;
    uint32_t kind = LRD_ITEM_PLAIN, flags = ask->record->flags;
    uint64_t expires_ms = ask->record->expires_ms;
    if (f->is_value) {
        kind = without_lease(lrd_item_kind(f->head));
        flags = lrd_item_flags(f->head);
        expires_ms = lrd_item_expires_ms(f->head);
        plan->words.soft_ms = f->words.soft_ms;
        if (!parse_number(lrd_item_at(f->item, lrd_item_value_off(lrd_item_kind(f->head), ask->record->key_len, f->off)), lrd_item_value_len(f->head), &number)) {
            plan_nothing(plan, LRD_ANSWER_NO_NUMBER);
            return;
        }
    } else if ((ask->args->flags & LRD_INCR_CREATE) == 0) {
        plan_nothing(plan, LRD_ANSWER_MISSING);
        return;
    }
    if (__builtin_add_overflow(number, ask->args->by, &number)) {
        plan_nothing(plan, LRD_ANSWER_OVERFLOW);
        return;
    }
    int n = snprintf(plan->text, sizeof plan->text, "%lld", (long long)number);
    plan->has_text = true;
    plan->piece_len[0] = (uint32_t)n;
    plan->number = (uint64_t)number;
    plan_item(d, ask, plan, kind, flags, (uint32_t)n, expires_ms);
}

/* Append, prepend, touch. */
static void plan_derived(const struct lrd_decider *d, const struct lrd_ask *ask, struct lrd_decision *plan, const struct found *f)
{
    bool touch = ask->record->kind == LRD_RECORD_TOUCH;
    if (!f->is_value)
        plan_nothing(plan, LRD_ANSWER_MISSING);
    else
        plan_from_old(d, ask, plan, f, touch ? lrd_item_kind(f->head) : without_lease(lrd_item_kind(f->head)), touch ? ask->record->expires_ms : lrd_item_expires_ms(f->head));
}

static void plan_lease(const struct lrd_decider *d, const struct lrd_ask *ask, struct lrd_decision *plan, const struct found *f, uint64_t now_ms)
{
    uint64_t deadline_ms = ask->record->expires_ms < now_ms + LEASE_MOST_MS ? ask->record->expires_ms : now_ms + LEASE_MOST_MS;
    if (f->is_item && (f->is_value ? !f->is_stale : lrd_item_kind(f->head) == LRD_ITEM_ABSENT)) {
        plan_nothing(plan, LRD_ANSWER_PRESENT);
        return;
    }
    if (f->is_item && f->is_leased) {
        plan_nothing(plan, LRD_ANSWER_HELD);
        plan->number = f->words.lease.deadline_ms;
        return;
    }
    if (f->is_value)
        plan_from_old(d, ask, plan, f, lrd_item_kind(f->head) | LRD_ITEM_LEASED, lrd_item_expires_ms(f->head));
    else
        plan_item(d, ask, plan, LRD_ITEM_LEASE, 0, 0, deadline_ms);
    plan->words.lease = (struct lrd_lease){.token = lrd_load_relaxed(&d->s->journal->leases) + 1, .holder = ask->holder, .deadline_ms = deadline_ms};
}

static void plan_lease_end(const struct lrd_decider *d, const struct lrd_ask *ask, struct lrd_decision *plan, const struct found *f)
{
    if (!f->is_item || f->words.lease.token == 0 || f->words.lease.token != ask->args->version || !f->is_leased)
        plan_nothing(plan, LRD_ANSWER_VOID);
    else if (f->is_value)
        plan_from_old(d, ask, plan, f, without_lease(lrd_item_kind(f->head)), lrd_item_expires_ms(f->head));
    else
        plan->change = LRD_CHANGE_REMOVE;
}

static void plan_kind(const struct lrd_decider *d, const struct lrd_ask *ask, struct lrd_decision *plan, const struct found *f, uint64_t now_ms)
{
    switch (ask->record->kind) {
    case LRD_RECORD_SET:
    case LRD_RECORD_PUT:
        plan_put(d, ask, plan);
        return;
    case LRD_RECORD_INCR:
        plan_incr(d, ask, plan, f);
        return;
    case LRD_RECORD_APPEND:
    case LRD_RECORD_PREPEND:
    case LRD_RECORD_TOUCH:
        plan_derived(d, ask, plan, f);
        return;
    case LRD_RECORD_DELETE_IF:
        if (f->is_item && lrd_item_kind(f->head) != LRD_ITEM_LEASE)
            plan->change = LRD_CHANGE_REMOVE;
        else
            plan_nothing(plan, LRD_ANSWER_MISSING);
        return;
    case LRD_RECORD_LEASE:
        plan_lease(d, ask, plan, f, now_ms);
        return;
    case LRD_RECORD_LEASE_END:
        plan_lease_end(d, ask, plan, f);
        return;
    default:
        plan_nothing(plan, LRD_ANSWER_MALFORMED);
    }
}

/* A namespace that refuses eviction: what carries a whole value was paid for at the call, for all else there must be room now. */
static bool is_affordable(const struct lrd_decider *d, const struct lrd_ask *ask, const struct lrd_decision *plan, const struct found *f)
{
    if (plan->change != LRD_CHANGE_PUT || ask->record->kind == LRD_RECORD_SET || ask->record->kind == LRD_RECORD_PUT)
        return true;
    uint32_t old = f->item != NULL ? lrd_item_bytes_of(f->head, d->s->r.granule_shift) : 0;
    return lrd_credits_afford(d->c, ask->record->ns, plan->bytes, old);
}

void lrd_decide_plan(const struct lrd_decider *d, const struct lrd_ask *ask, struct lrd_decision *plan, uint64_t now_ms)
{
    struct found f;
    find(d, ask, &f, now_ms);
    *plan = (struct lrd_decision){.answer = LRD_ANSWER_OK, .version = f.version, .old = f.block};
    enum lrd_answer answer = ask->record->kind == LRD_RECORD_LEASE || ask->record->kind == LRD_RECORD_LEASE_END ? LRD_ANSWER_OK : check(ask, &f, now_ms);
    if (answer != LRD_ANSWER_OK)
        plan_nothing(plan, answer);
    else
        plan_kind(d, ask, plan, &f, now_ms);
    if (!is_affordable(d, ask, plan, &f))
        plan_nothing(plan, LRD_ANSWER_FULL);
}

/* ---- making the item ---- */

uint32_t lrd_decide_room(const struct lrd_decider *d, struct lrd_item_head head, uint64_t hash, uint32_t old, uint64_t now_ms)
{
    uint32_t ns = lrd_item_ns(head), bytes = lrd_item_bytes_of(head, d->s->r.granule_shift);
    uint32_t chain = lrd_evict_chain(d->e, ns, hash, old, lrd_item_expires_ms(head), now_ms);
    uint32_t location = lrd_arena_alloc(d->a, ns, chain, head, LRD_FOR_CLIENT);
    if (location == 0)
        return 0;
    lrd_evict_appended(d->e, ns, bytes, now_ms);
    lrd_add_own(lrd_store_counter(d->s, ns, LRD_C_appended_bytes), bytes);
    return location;
}

/* Optional words and key. The header is there since the room is. */
static void copy_before_value(const struct lrd_ask *ask, const struct lrd_decision *plan, unsigned char *item)
{
    uint32_t kind = lrd_item_kind(plan->head);
    if (lrd_item_has_soft(kind))
        lrd_racy_fill(item + sizeof(struct lrd_item), &plan->words.soft_ms, sizeof plan->words.soft_ms);
    if (lrd_item_has_lease(kind))
        lrd_racy_fill(item + lrd_item_lease_off(kind), &plan->words.lease, sizeof plan->words.lease);
    lrd_racy_fill(item + lrd_item_key_off(kind), ask->key, ask->record->key_len);
}

bool lrd_decide_copy(const struct lrd_decider *d, const struct lrd_ask *ask, struct lrd_decision *plan, uint32_t most)
{
    uint64_t off = (uint64_t)plan->location << d->s->r.granule_shift;
    unsigned char *item = d->s->arena + off, *value = item + lrd_item_value_off(lrd_item_kind(plan->head), ask->record->key_len, off);
    if (plan->copied == 0)
        copy_before_value(ask, plan, item);
    uint32_t begin = 0; /* of the piece, in the value */
    for (unsigned i = 0; i < 2 && most > 0; begin += plan->piece_len[i++]) {
        if (plan->copied >= begin + plan->piece_len[i])
            continue;
        uint32_t done = plan->copied - begin, n = plan->piece_len[i] - done;
        if (n > most)
            n = most;
        const unsigned char *from = plan->has_text ? (const unsigned char *)plan->text : plan->piece[i];
        lrd_racy_fill(value + plan->copied, from + done, n);
        plan->copied += n;
        most -= n;
    }
    return plan->copied == lrd_item_value_len(plan->head);
}

bool lrd_decide_still(const struct lrd_decider *d, const struct lrd_ask *ask, struct lrd_decision *plan, uint64_t now_ms)
{
    struct lrd_decision now;
    lrd_decide_plan(d, ask, &now, now_ms);
    if (now.change == LRD_CHANGE_PUT) {
        if (now.made_of != plan->made_of || now.head.word0 != plan->head.word0 || now.head.word1 != plan->head.word1 || now.words.lease.token != plan->words.lease.token)
            return false;
        now.location = plan->location;
        now.copied = plan->copied;
    }
    *plan = now;
    return true;
}

/* ---- changing ---- */

static void count(const struct lrd_decider *d, uint32_t ns, enum lrd_counter_id id) { lrd_journal_add(d->j, lrd_store_counter(d->s, ns, id), 1); }

static uint32_t step_put(const struct lrd_decider *d, const struct lrd_ask *ask, struct lrd_decision *plan, uint64_t now_ms)
{
    const struct lrd_record *rec = ask->record;
    const struct lrd_new_item item = {
        .key = ask->key, .key_len = rec->key_len, .ns = rec->ns, .hash = ask->hash, .location = plan->location, .bytes = plan->bytes};
    uint32_t block = plan->location >> d->s->r.location_shift;
    plan->version = (uint64_t)lrd_block_word_generation(lrd_load_relaxed(&d->s->block_words[block])) << 32 | plan->location;
    if (rec->kind == LRD_RECORD_LEASE) {
        plan->version = plan->words.lease.token; /* that is what the asker wants to know */
        lrd_journal_step(d->j, &d->s->journal->leases, plan->words.lease.token);
        count(d, rec->ns, LRD_C_leases);
    }
    if (rec->kind != LRD_RECORD_SET && rec->kind != LRD_RECORD_PUT)
        lrd_credits_afforded(d->c, rec->ns, plan->bytes);
    return lrd_table_put(d->t, &item, now_ms);
}

uint32_t lrd_decide_step(const struct lrd_decider *d, const struct lrd_ask *ask, struct lrd_decision *plan, uint64_t now_ms)
{
    const struct lrd_record *rec = ask->record;
    uint32_t emptied = LRD_NO_BLOCK;
    if (rec->kind != LRD_RECORD_SET)
        count(d, rec->ns, plan->answer == LRD_ANSWER_OK ? LRD_C_conditional : LRD_C_unmet);
    if (plan->change == LRD_CHANGE_PUT)
        return step_put(d, ask, plan, now_ms);
    if (plan->change == LRD_CHANGE_REMOVE) {
        plan->version = 0;
        (void)lrd_table_delete(d->t, rec->ns, ask->key, rec->key_len, ask->hash, now_ms, &emptied);
    }
    return emptied;
}
