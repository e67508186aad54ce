#include "tests/linear.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define NOTHING UINT32_MAX

/* ---- the sequential cache ---- */

enum presence { ABSENT, PRESENT, ANYTHING };

struct state {
    enum presence presence;
    uint32_t version; /* as an index; NOTHING: not known yet, or not any more */
    int64_t value;
    uint64_t latest_ns; /* the last invocation of what is done; told by what is done, so it makes no other pair */
};

/* Of one key. */
struct search {
    const struct linear_op *ops;
    uint32_t n;
    unsigned how;
    /* versions that operations found, as indices */
    uint64_t *versions;
    uint32_t n_versions;
    uint32_t *named, *found;  /* of each operation; NOTHING: none, or one that nobody found */
    uint32_t *told;           /* of each version, how many of the operations done have found it */
    /* what is left: calls and returns of completed operations by time, a list */
    uint32_t *next, *prev;    /* node 0 is the head; call of operation i: 1 + 2i, its return: 2 + 2i */
    uint32_t *pending;        /* operations, by invocation */
    bool *applied;            /* which of those */
    uint32_t n_pending, left; /* completed ones that are left */
    /* writes of one process, in order: an operation after which nothing but later ones may come */
    uint32_t *process;        /* of each operation, as an index; NOTHING: it may stand anywhere */
    uint32_t *known_before;   /* of each, 1 + the last completed one before it; 0: none */
    uint32_t *last;           /* of each process, 1 + the last one that is done; 0: none */
    /* pairs that were seen */
    uint64_t (*salt)[2];      /* of each operation */
    uint64_t done[2];         /* sum of those that are done */
    uint64_t (*pairs)[2];
    size_t n_pairs, room;
};

static bool was_told(const struct search *s, uint32_t version) { return s->told[version] > 0; }

/* The item that is there is found to have this version. */
static bool meet(const struct search *s, struct state *st, uint32_t version)
{
    if (version == NOTHING || st->version == version)
        return true;
    if (was_told(s, version)) /* it had another one since, or is another item */
        return false;
    if (st->version != NOTHING && !(s->how & LINEAR_MOVES))
        return false;
    st->version = version;
    return true;
}

/* May the item that is there have the version that this operation names? */
static bool is_named(const struct search *s, const struct state *st, uint32_t op)
{
    if (st->presence == ABSENT)
        return false;
    if (s->named[op] != NOTHING && st->version == s->named[op])
        return true;
    /* In a piece of a history it may have been found before the piece began. */
    return (s->how & LINEAR_ANY_STATE) && st->version == NOTHING && (s->named[op] == NOTHING || !was_told(s, s->named[op]));
}

/* Must it have it? Only then CHANGED is a lie. */
static bool must_be_named(const struct search *s, const struct state *st, uint32_t op)
{
    return !(s->how & LINEAR_MOVES) && st->presence == PRESENT && s->named[op] != NOTHING && st->version == s->named[op];
}

static bool write_item(const struct search *s, struct state *st, int64_t value, uint32_t version)
{
    st->presence = PRESENT;
    st->version = version;
    st->value = value;
    return version == NOTHING || !was_told(s, version);
}

/* PRESENT and CHANGED: it stood in the way. */
static bool stay(const struct search *s, struct state *st, uint32_t op)
{
    const struct linear_op *o = &s->ops[op];
    if (st->presence == ABSENT || (o->end == LINEAR_CHANGED && o->found != 0 && o->found == o->version))
        return false;
    if (s->found[op] == NOTHING && o->end == LINEAR_CHANGED && st->version == s->named[op])
        st->version = NOTHING; /* moved: it does not have that one any more */
    return meet(s, st, s->found[op]);
}

static bool remove_item(struct state *st)
{
    st->presence = ABSENT;
    st->version = NOTHING;
    return true;
}

static bool see_none(struct state *st) { return st->presence != PRESENT && remove_item(st); }

/* A function of what is not known is not known. */
static bool change_anything(const struct search *s, struct state *st, uint32_t op)
{
    write_item(s, st, 0, s->found[op]);
    st->presence = ANYTHING;
    return s->found[op] == NOTHING || !was_told(s, s->found[op]);
}

static bool do_incr(const struct search *s, struct state *st, uint32_t i)
{
    const struct linear_op *op = &s->ops[i];
    int64_t number;
    if (op->end == LINEAR_MISSING)
        return !op->create && see_none(st);
    if (op->end == LINEAR_PRESENT || op->end == LINEAR_CHANGED)
        return false;
    if (st->presence == ANYTHING && op->end != LINEAR_OVERFLOW)
        return !linear_is_known(op) ? change_anything(s, st, i) : write_item(s, st, op->seen, s->found[i]);
    if (st->presence == ANYTHING)
        return true;
    if (st->presence == ABSENT && !op->create)
        return false;
    bool over = __builtin_add_overflow(st->presence == PRESENT ? st->value : 0, op->value, &number);
    if (op->end == LINEAR_OVERFLOW)
        return over;
    return !over && (!linear_is_known(op) || op->seen == number) && write_item(s, st, number, s->found[i]);
}

static bool do_touch(const struct search *s, struct state *st, uint32_t i)
{
    const struct linear_op *op = &s->ops[i];
    bool sees = op->what == LINEAR_GET_AND_TOUCH && linear_is_known(op);
    if (st->presence == ABSENT || (st->presence == PRESENT && sees && st->value != op->seen))
        return false;
    if (st->presence == ANYTHING && !sees)
        return change_anything(s, st, i);
    return write_item(s, st, sees ? op->seen : st->value, s->found[i]);
}

/* Can this operation, with this end, be next? Pending: can it have an effect? */
static bool step(const struct search *s, struct state *st, uint32_t i)
{
    const struct linear_op *op = &s->ops[i];
    bool done = op->end == LINEAR_DONE || !linear_is_known(op);
    switch ((enum linear_what)op->what) {
    case LINEAR_GET:
        if (op->end == LINEAR_MISSING)
            return see_none(st);
        if (op->end != LINEAR_DONE || st->presence == ABSENT || (st->presence == PRESENT && st->value != op->seen))
            return false;
        st->presence = PRESENT;
        st->value = op->seen;
        return meet(s, st, s->found[i]);
    case LINEAR_SET:
        return done && write_item(s, st, op->value, s->found[i]);
    case LINEAR_ADD:
        if (op->end == LINEAR_PRESENT)
            return stay(s, st, i);
        return done && st->presence != PRESENT && write_item(s, st, op->value, s->found[i]);
    case LINEAR_REPLACE:
        if (op->end == LINEAR_MISSING)
            return see_none(st);
        return done && st->presence != ABSENT && write_item(s, st, op->value, s->found[i]);
    case LINEAR_CAS:
        if (op->end == LINEAR_MISSING)
            return see_none(st);
        if (op->end == LINEAR_CHANGED)
            return !must_be_named(s, st, i) && stay(s, st, i);
        return done && is_named(s, st, i) && write_item(s, st, op->value, s->found[i]);
    case LINEAR_EXCHANGE:
        if (op->end == LINEAR_MISSING ? st->presence == PRESENT : op->end == LINEAR_DONE && (st->presence == ABSENT || (st->presence == PRESENT && st->value != op->seen)))
            return false;
        return (done || op->end == LINEAR_MISSING) && write_item(s, st, op->value, s->found[i]);
    case LINEAR_INCR:
        return do_incr(s, st, i);
    case LINEAR_APPEND:
        if (op->end == LINEAR_MISSING)
            return see_none(st);
        if (!done || st->presence == ABSENT)
            return false;
        if (st->presence == ANYTHING)
            return change_anything(s, st, i);
        return write_item(s, st, linear_fold(st->value, (unsigned char)op->value), s->found[i]);
    case LINEAR_TOUCH:
    case LINEAR_GET_AND_TOUCH:
        return op->end == LINEAR_MISSING ? see_none(st) : done && do_touch(s, st, i);
    case LINEAR_DELETE:
        return done && remove_item(st);
    case LINEAR_DELETE_IF:
        if (op->end == LINEAR_MISSING)
            return see_none(st);
        if (op->end == LINEAR_CHANGED)
            return !must_be_named(s, st, i) && stay(s, st, i);
        return done && is_named(s, st, i) && remove_item(st);
    case LINEAR_WHATS:
        break;
    }
    return false;
}

/* ---- pairs that were seen ---- */

static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static void *must(void *p)
{
    if (p == NULL)
        abort();
    return p;
}

static void pair_put(uint64_t (*pairs)[2], size_t room, const uint64_t pair[2])
{
    size_t at = pair[0] & (room - 1);
    while (pairs[at][0] != 0)
        at = (at + 1) & (room - 1);
    pairs[at][0] = pair[0];
    pairs[at][1] = pair[1];
}

/* False: it was seen before. */
static bool is_new(struct search *s, const struct state *st)
{
    uint64_t pair[2];
    uint64_t kind = (uint64_t)st->presence << 32 | st->version, value = st->presence == PRESENT ? (uint64_t)st->value : 0;
    for (unsigned k = 0; k < 2; k++)
        pair[k] = mix(mix(mix(s->done[k] + k) + kind) + value);
    pair[0] |= 1; /* 0 is an empty place */
    for (size_t at = pair[0] & (s->room - 1); s->pairs[at][0] != 0; at = (at + 1) & (s->room - 1))
        if (s->pairs[at][0] == pair[0] && s->pairs[at][1] == pair[1])
            return false;
    if (s->n_pairs >= s->room / 2) {
        uint64_t(*more)[2] = must(calloc(s->room * 2, sizeof *more));
        for (size_t i = 0; i < s->room; i++)
            if (s->pairs[i][0] != 0)
                pair_put(more, s->room * 2, s->pairs[i]);
        free(s->pairs);
        s->pairs = more;
        s->room *= 2;
    }
    pair_put(s->pairs, s->room, pair);
    s->n_pairs++;
    return true;
}

/* ---- the search ---- */

static bool is_call(uint32_t node) { return node & 1; }
static uint32_t op_of(uint32_t node) { return (node - 1) / 2; }

static void list_remove(struct search *s, uint32_t node)
{
    s->next[s->prev[node]] = s->next[node];
    if (s->next[node] != NOTHING)
        s->prev[s->next[node]] = s->prev[node];
}

static void list_restore(struct search *s, uint32_t node)
{
    s->next[s->prev[node]] = node;
    if (s->next[node] != NOTHING)
        s->prev[s->next[node]] = node;
}

static bool is_too_late(const struct linear_op *op, const struct state *st) { return op->end == LINEAR_MAYBE && op->returned_ns < st->latest_ns; }

/* What may be next: calls before the first return, then pending ones that were invoked by then, named 2n + 1 + place. Pending ones last: mostly they have no effect that anybody saw. */
static uint32_t candidate_after(const struct search *s, const struct state *st, uint32_t c)
{
    uint32_t first_pending = 2 * s->n + 1, place = 0;
    if (c < first_pending) {
        c = s->next[c];
        if (c != NOTHING && is_call(c))
            return c;
    } else {
        place = c - first_pending + 1;
    }
    uint32_t r = s->next[0];
    while (is_call(r)) /* something is left, so there is a return */
        r = s->next[r];
    for (; place < s->n_pending && s->ops[s->pending[place]].invoked_ns <= s->ops[op_of(r)].returned_ns; place++)
        if (!s->applied[place] && !is_too_late(&s->ops[s->pending[place]], st))
            return first_pending + place;
    return NOTHING;
}

static bool is_in_turn(const struct search *s, uint32_t op)
{
    uint32_t last = s->process[op] == NOTHING ? 0 : s->last[s->process[op]];
    return s->process[op] == NOTHING || (last <= op && last >= s->known_before[op]);
}

static uint32_t candidate_op(const struct search *s, uint32_t c) { return c <= 2 * s->n ? op_of(c) : s->pending[c - 2 * s->n - 1]; }

static void count_done(struct search *s, uint32_t c, bool back)
{
    uint32_t op = candidate_op(s, c);
    for (unsigned k = 0; k < 2; k++)
        s->done[k] += back ? -s->salt[op][k] : s->salt[op][k];
    if (s->found[op] != NOTHING)
        s->told[s->found[op]] += back ? -1u : 1u;
}

static void take(struct search *s, uint32_t c)
{
    count_done(s, c, false);
    if (c > 2 * s->n) {
        s->applied[c - 2 * s->n - 1] = true;
        return;
    }
    list_remove(s, c);
    list_remove(s, c + 1);
    s->left--;
}

static void give_back(struct search *s, uint32_t c)
{
    count_done(s, c, true);
    if (c > 2 * s->n) {
        s->applied[c - 2 * s->n - 1] = false;
        return;
    }
    list_restore(s, c + 1);
    list_restore(s, c);
    s->left++;
}

static uint32_t set_last(struct search *s, uint32_t op, uint32_t last)
{
    if (s->process[op] == NOTHING)
        return 0;
    uint32_t before = s->last[s->process[op]];
    s->last[s->process[op]] = last;
    return before;
}

static bool search(struct search *s, bool *gave_up)
{
    struct frame {
        uint32_t candidate, last;
        struct state before;
    } *stack = must(malloc(((size_t)s->n + 1) * sizeof *stack));
    size_t depth = 0;
    struct state st = {.presence = s->how & LINEAR_ANY_STATE ? ANYTHING : ABSENT, .version = NOTHING};
    uint32_t c = 0;
    while (s->left > 0) {
        c = candidate_after(s, &st, c);
        if (c == NOTHING) {
            if (depth == 0)
                break;
            c = stack[--depth].candidate;
            st = stack[depth].before;
            give_back(s, c);
            set_last(s, candidate_op(s, c), stack[depth].last);
            continue;
        }
        struct state after = st;
        const struct linear_op *op = &s->ops[candidate_op(s, c)];
        if (!is_in_turn(s, candidate_op(s, c)) || !step(s, &after, candidate_op(s, c)))
            continue;
        after.latest_ns = op->invoked_ns > st.latest_ns ? op->invoked_ns : st.latest_ns;
        take(s, c);
        if (!is_new(s, &after)) {
            give_back(s, c);
            continue;
        }
        if (s->n_pairs > LINEAR_MOST) {
            *gave_up = true;
            break;
        }
        stack[depth++] = (struct frame){.candidate = c, .before = st, .last = set_last(s, candidate_op(s, c), candidate_op(s, c) + 1)};
        st = after;
        c = 0;
    }
    free(stack);
    return s->left == 0;
}

/* ---- getting ready ---- */

struct event {
    uint64_t when_ns;
    uint32_t node;
};

/* At the same time, calls go first: who cannot tell must allow both orders. */
static int compare_events(const void *a, const void *b)
{
    const struct event *x = a, *y = b;
    if (x->when_ns != y->when_ns)
        return x->when_ns < y->when_ns ? -1 : 1;
    if (is_call(x->node) != is_call(y->node))
        return is_call(x->node) ? -1 : 1;
    return x->node < y->node ? -1 : 1;
}

static int compare_words(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static uint32_t version_index(const struct search *s, uint64_t version)
{
    const uint64_t *at = s->n_versions == 0 || version == 0 ? NULL : bsearch(&version, s->versions, s->n_versions, sizeof *at, compare_words);
    return at == NULL ? NOTHING : (uint32_t)(at - s->versions);
}

static void number_versions(struct search *s)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (linear_is_known(&s->ops[i]) && s->ops[i].found != 0)
            s->versions[s->n_versions++] = s->ops[i].found;
    uint32_t different = 0;
    if (s->n_versions > 1)
        qsort(s->versions, s->n_versions, sizeof *s->versions, compare_words);
    for (uint32_t i = 0; i < s->n_versions; i++)
        if (i == 0 || s->versions[i] != s->versions[i - 1])
            s->versions[different++] = s->versions[i];
    s->n_versions = different;
    for (uint32_t i = 0; i < s->n; i++) {
        s->named[i] = version_index(s, s->ops[i].version);
        s->found[i] = linear_is_known(&s->ops[i]) ? version_index(s, s->ops[i].found) : NOTHING;
    }
}

static void list_events(struct search *s)
{
    struct event *events = must(malloc((2 * (size_t)s->n + 1) * sizeof *events));
    uint32_t n = 0, last = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        if (!linear_is_known(&s->ops[i])) {
            s->pending[s->n_pending++] = i;
            continue;
        }
        events[n++] = (struct event){s->ops[i].invoked_ns, 1 + 2 * i};
        events[n++] = (struct event){s->ops[i].returned_ns, 2 + 2 * i};
        s->left++;
    }
    if (n > 0)
        qsort(events, n, sizeof *events, compare_events);
    for (uint32_t i = 0; i < n; i++) {
        s->next[last] = events[i].node;
        s->prev[events[i].node] = last;
        last = events[i].node;
    }
    s->next[last] = NOTHING;
    free(events);
}

/* Goes through a ring; what was only read does not. */
static bool is_write(const struct linear_op *op) { return op->what != LINEAR_GET && (op->what != LINEAR_GET_AND_TOUCH || op->end != LINEAR_MISSING); }

static void order_processes(struct search *s)
{
    uint32_t processes = 1;
    for (uint32_t i = 0; i < s->n; i++)
        processes = s->ops[i].process >= processes ? s->ops[i].process + 1u : processes;
    s->last = must(calloc(processes, sizeof *s->last));
    uint32_t *known = must(calloc(processes, sizeof *known)); /* of each process, 1 + the last completed one */
    for (uint32_t i = 0; i < s->n; i++) {
        uint16_t p = s->ops[i].process;
        s->process[i] = (s->how & LINEAR_IN_ORDER) && is_write(&s->ops[i]) ? p : NOTHING;
        s->known_before[i] = known[p];
        if (s->process[i] != NOTHING && linear_is_known(&s->ops[i]))
            known[p] = i + 1;
    }
    free(known);
}

/* Of one key, sorted by invocation. */
static bool check_key(const struct linear_op *ops, size_t n, unsigned how, struct linear_verdict *verdict)
{
    struct search s = {.ops = ops, .n = (uint32_t)n, .how = how, .room = 1024};
    s.versions = must(malloc((n + 1) * sizeof *s.versions));
    s.named = must(malloc((n + 1) * sizeof *s.named));
    s.found = must(malloc((n + 1) * sizeof *s.found));
    s.told = must(calloc(n + 1, sizeof *s.told));
    s.next = must(malloc((2 * n + 1) * sizeof *s.next));
    s.prev = must(malloc((2 * n + 1) * sizeof *s.prev));
    s.pending = must(malloc((n + 1) * sizeof *s.pending));
    s.applied = must(calloc(n + 1, sizeof *s.applied));
    s.process = must(malloc((n + 1) * sizeof *s.process));
    s.known_before = must(malloc((n + 1) * sizeof *s.known_before));
    s.salt = must(malloc((n + 1) * sizeof *s.salt));
    s.pairs = must(calloc(s.room, sizeof *s.pairs));
    for (uint32_t i = 0; i < n; i++)
        for (unsigned k = 0; k < 2; k++)
            s.salt[i][k] = mix(2 * (uint64_t)i + k + UINT64_C(0x5bd1e995) * (k + 1));
    number_versions(&s);
    list_events(&s);
    order_processes(&s);
    bool right = search(&s, &verdict->gave_up);
    verdict->visited += s.n_pairs;
    free(s.versions);
    free(s.named);
    free(s.found);
    free(s.told);
    free(s.next);
    free(s.prev);
    free(s.pending);
    free(s.applied);
    free(s.process);
    free(s.known_before);
    free(s.last);
    free(s.salt);
    free(s.pairs);
    return right;
}

static int compare_ops(const void *a, const void *b)
{
    const struct linear_op *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    if (x->invoked_ns != y->invoked_ns)
        return x->invoked_ns < y->invoked_ns ? -1 : 1;
    return x->process < y->process ? -1 : x->process > y->process;
}

static size_t end_of_key(const struct linear_op *ops, size_t n, size_t from)
{
    size_t to = from;
    while (to < n && ops[to].key == ops[from].key)
        to++;
    return to;
}

bool linear_check(struct linear_op *ops, size_t n, unsigned how, struct linear_verdict *verdict)
{
    *verdict = (struct linear_verdict){.key = NOTHING};
    if (n > 1)
        qsort(ops, n, sizeof *ops, compare_ops);
    for (size_t from = 0, to; from < n; from = to) {
        to = end_of_key(ops, n, from);
        verdict->key = ops[from].key;
        if (!check_key(ops + from, to - from, how, verdict))
            return false;
    }
    return true;
}

/* ---- cutting ---- */

/* Whatever end it had, nobody's state depended on it. */
static bool has_no_effect(const struct linear_op *op)
{
    if (op->what == LINEAR_GET || op->end == LINEAR_PRESENT || op->end == LINEAR_CHANGED || op->end == LINEAR_OVERFLOW)
        return true;
    return op->end == LINEAR_MISSING && op->what != LINEAR_EXCHANGE;
}

/* What was invoked after to_ns is left out, and what had returned before from_ns. What stands across to_ns is pending; across from_ns, it may have happened before; either is left out if it
 * has no effect. */
static size_t cut(const struct linear_op *ops, size_t n, uint64_t from_ns, uint64_t to_ns, struct linear_op *out)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        struct linear_op op = ops[i];
        bool open = op.end != LINEAR_PENDING && op.returned_ns > to_ns, begun = op.invoked_ns < from_ns;
        if (op.invoked_ns > to_ns || (op.end != LINEAR_PENDING && op.returned_ns < from_ns) || ((open || begun) && has_no_effect(&op)))
            continue;
        if (open)
            op.end = LINEAR_PENDING;
        else if (begun && op.end != LINEAR_PENDING)
            op.end = LINEAR_MAYBE;
        out[kept++] = op;
    }
    return kept;
}

static bool is_refused(const struct linear_op *ops, size_t n, unsigned how)
{
    struct linear_verdict v = {0};
    return !check_key(ops, n, how, &v) && !v.gave_up;
}

/* Moves one end of the piece as far as it goes; each further cut allows more, so it is a search by halves over the times of the operations. */
static void move_end(const struct linear_op *ops, size_t n, const uint64_t *times, size_t n_times, bool front, uint64_t *from_ns, uint64_t *to_ns, unsigned how, struct linear_op *piece)
{
    size_t refused = front ? 0 : n_times - 1, low = 0, high = n_times;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        bool r = is_refused(piece, cut(ops, n, front ? times[middle] : *from_ns, front ? *to_ns : times[middle], piece), how);
        if (r)
            refused = middle;
        if (r == front)
            low = middle + 1;
        else
            high = middle;
    }
    *(front ? from_ns : to_ns) = times[refused];
}

size_t linear_shrink(struct linear_op *ops, size_t n, unsigned *how, uint32_t key)
{
    size_t from = 0;
    while (from < n && ops[from].key != key)
        from++;
    n = end_of_key(ops, n, from) - from;
    memmove(ops, ops + from, n * sizeof *ops);
    uint64_t *times = must(malloc((2 * n + 1) * sizeof *times)), from_ns = 0, to_ns = UINT64_MAX;
    struct linear_op *piece = must(malloc((n + 1) * sizeof *piece));
    size_t n_times = 0;
    for (size_t i = 0; i < n; i++) {
        times[n_times++] = ops[i].invoked_ns;
        if (ops[i].end != LINEAR_PENDING)
            times[n_times++] = ops[i].returned_ns;
    }
    if (n_times > 1)
        qsort(times, n_times, sizeof *times, compare_words);
    if (n_times > 0)
        move_end(ops, n, times, n_times, false, &from_ns, &to_ns, *how, piece);
    if (n_times > 0 && is_refused(piece, cut(ops, n, from_ns, to_ns, piece), *how | LINEAR_ANY_STATE)) {
        *how |= LINEAR_ANY_STATE;
        move_end(ops, n, times, n_times, true, &from_ns, &to_ns, *how, piece);
    }
    n = cut(ops, n, from_ns, to_ns, ops);
    for (size_t i = n; i-- > 0;) {
        if (!has_no_effect(&ops[i]))
            continue;
        memcpy(piece, ops, i * sizeof *ops);
        memcpy(piece + i, ops + i + 1, (n - i - 1) * sizeof *ops);
        if (is_refused(piece, n - 1, *how))
            memcpy(ops, piece, --n * sizeof *ops);
    }
    free(piece);
    free(times);
    return n;
}

void linear_print(FILE *to, const struct linear_op *ops, size_t n)
{
    static const char *const whats[] = {"get", "set", "add", "replace", "cas", "exchange", "incr", "append", "touch", "get_and_touch", "delete", "delete_if"};
    static const char *const ends[] = {"pending", "done", "missing", "present", "changed", "overflow", "done or not"};
    uint64_t zero = UINT64_MAX;
    for (size_t i = 0; i < n; i++)
        zero = ops[i].invoked_ns < zero ? ops[i].invoked_ns : zero;
    for (size_t i = 0; i < n; i++) {
        const struct linear_op *o = &ops[i];
        fprintf(to, "  key %" PRIu32 "  %12.3f .. ", o->key, (double)(o->invoked_ns - zero) / 1000);
        if (o->end == LINEAR_PENDING)
            fprintf(to, "%12s us", "");
        else
            fprintf(to, "%12.3f us", (double)(o->returned_ns - zero) / 1000);
        fprintf(to, "  process %2u  %s%s", o->process, whats[o->what], o->create ? " (create)" : "");
        if (o->what != LINEAR_GET && o->what < LINEAR_TOUCH)
            fprintf(to, " %" PRId64, o->value);
        if (o->version != 0)
            fprintf(to, " if %" PRIx64, o->version);
        fprintf(to, ": %s", ends[o->end]);
        if (o->end == LINEAR_DONE && (o->what == LINEAR_GET || o->what == LINEAR_INCR || o->what == LINEAR_EXCHANGE || o->what == LINEAR_GET_AND_TOUCH))
            fprintf(to, ", %" PRId64, o->seen);
        if (linear_is_known(o) && o->found != 0)
            fprintf(to, ", version %" PRIx64, o->found);
        fputc('\n', to);
    }
    fflush(to);
}
