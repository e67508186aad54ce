/* Counting, and looking at what was counted.
 *
 * Each of the first fifteen threads of a process has a line of its own in every lane, which it alone writes: an increment is a load and a store to a line that no
 * other core holds. All others share the last line and pay a locked add each. Which line is a thread's is a matter of the process, not of the handle,
 * and is known to the thread by a thread-local that costs one load (initial-exec).
 *
 *   lines_taken bit i    line i + 1 belongs to a living thread; taken by the thread's first call, given back when it ends (acquire and release, so the
 *                        next owner's plain stores follow the last one's)
 *
 * In a forked child only the forking thread lives: the child's handler gives the others' lines back. If no handler runs (a plain clone) they
 * are lost, and later threads share the last line: counts stay right, only dearer.
 */
#include "libclient/client.h"

#include <errno.h>
#include <string.h>

#define SHARED_LINE LRD_STAT_LINES
#define OWN_LINES ((1u << (LRD_STAT_LINES - 1)) - 1)

__thread unsigned lrd_stat_line;

static lrd_u64 lines_taken;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static bool have_key;

static void line_give_back(void *line)
{
    uint64_t bit = UINT64_C(1) << ((uintptr_t)line - 1), taken = lrd_load_relaxed(&lines_taken);
    while (!lrd_cas(&lines_taken, &taken, taken & ~bit)) {
    }
    lrd_stat_line = 0; /* another destructor of this thread may call us again, and takes one anew */
}

static void keep_mine_only(void)
{
    unsigned mine = lrd_stat_line;
    lrd_store_relaxed(&lines_taken, mine > 0 && mine < SHARED_LINE ? UINT64_C(1) << (mine - 1) : 0);
}

static void prepare(void)
{
    have_key = pthread_key_create(&key, line_give_back) == 0;
    pthread_atfork(NULL, NULL, keep_mine_only);
}

/* A library that is unloaded must not leave its destructor behind. */
__attribute__((destructor)) static void forget_key(void)
{
    if (have_key)
        pthread_key_delete(key);
}

void lrd_stat_line_take(void)
{
    pthread_once(&once, prepare);
    lrd_stat_line = SHARED_LINE;
    if (!have_key)
        return; /* a line could never be given back */
    uint64_t taken = lrd_load_relaxed(&lines_taken);
    while ((taken & OWN_LINES) != OWN_LINES) {
        unsigned i = (unsigned)__builtin_ctzll(~taken);
        if (!lrd_cas(&lines_taken, &taken, taken | UINT64_C(1) << i))
            continue;
        lrd_stat_line = i + 1;
        if (pthread_setspecific(key, (void *)(uintptr_t)(i + 1)) != 0) {
            line_give_back((void *)(uintptr_t)(i + 1)); /* nobody would at the thread's end */
            lrd_stat_line = SHARED_LINE;
        }
        return;
    }
}

uint64_t lrd_count_shared(const struct lrd_attachment *at, enum lrd_stat what, uint64_t n)
{
    if (lrd_stat_line == 0) {
        lrd_stat_line_take();
        return lrd_count(at, what, n);
    }
    return lrd_fetch_add_relaxed(&at->ring.lane->stats[SHARED_LINE - 1].word[what], n) + n;
}

/* ---- looking: every count is read at its own moment ---- */

static void add_segment(const struct lrd_reader *r, struct larder_stats *s)
{
    const struct lrd_header *h = r->header;
    s->segment_bytes = r->geometry.segment_bytes;
    s->table_bytes = (uint64_t)r->n_pairs * 2 * sizeof(struct lrd_bucket);
    s->arena_bytes = (uint64_t)r->n_blocks << r->block_shift;
    s->slots = (uint64_t)r->n_pairs * 2 * LRD_SLOTS;
    for (uint32_t i = 0; i < r->n_blocks; i++) {
        uint64_t live = lrd_load_relaxed(&r->descriptors[i].live);
        s->live_items += lrd_live_items(live);
        s->live_bytes += lrd_live_bytes(live);
    }
    s->slots_used = lrd_counter_sum(r, LRD_C_slots_used);
    s->sets = lrd_counter_sum(r, LRD_C_sets);
    s->deletes = lrd_counter_sum(r, LRD_C_deletes);
    s->evicted = lrd_counter_sum(r, LRD_C_evicted);
    s->no_room = lrd_counter_sum(r, LRD_C_no_room);
    s->worker_count = lrd_load_relaxed(&h->worker_count);
}

static void add_lane(const struct lrd_lane *lane, struct larder_stats *s)
{
    uint64_t sum[8] = {0};
    for (unsigned i = 0; i < LRD_STAT_LINES; i++)
        for (unsigned what = 0; what < 8; what++)
            sum[what] += lrd_load_relaxed(&lane->stats[i].word[what]);
    s->gets = sum[LRD_STAT_HITS] + sum[LRD_STAT_MISSES];
    s->hits = sum[LRD_STAT_HITS];
    s->restarts = sum[LRD_STAT_RESTARTS];
    s->own_sets = sum[LRD_STAT_SETS];
    s->own_deletes = sum[LRD_STAT_DELETES];
    s->busy = sum[LRD_STAT_BUSY];
    s->lines = sum[LRD_STAT_LINES_BEYOND];
    s->own_reads = sum[LRD_STAT_OWN];
}

void lrd_stats_of(const struct larder *h, const struct lrd_attachment *at, struct larder_stats *s)
{
    add_segment(&at->r, s);
    s->diverted = lrd_breaker_diverted(h);
    add_lane(at->ring.lane, s);
    s->silence_ms = lrd_silence_ms(at, lrd_clock_segment_ms(at->zero_ns));
}

int larder_stats(struct larder *h, struct larder_stats *stats)
{
    if (h == NULL || stats == NULL || stats->size < sizeof *stats)
        return -EINVAL;
    struct larder_stats s = {.size = stats->size};
    struct lrd_attachment *at = lrd_current(h, h->here);
    if (at != NULL)
        lrd_stats_of(h, at, &s);
    *stats = s;
    return at != NULL ? 0 : lrd_no_attachment(h);
}

/* ---- namespaces ---- */

static void add_counters(const struct lrd_reader *r, uint32_t ns, struct larder_ns_stats *s)
{
    const struct lrd_namespace *n = &r->namespaces[ns];
    const lrd_u64 *c = lrd_ns_counters(r, ns);
    s->min_blocks = lrd_load_relaxed(&n->min_blocks);
    s->max_blocks = lrd_load_relaxed(&n->max_blocks);
    s->block_bytes = UINT64_C(1) << r->block_shift;
    s->policy = lrd_load32_relaxed(&n->policy);
    s->epoch = lrd_load32_relaxed(&n->epoch);
    s->resets = lrd_load_relaxed(&n->resets);
    s->sets = lrd_load_relaxed(&c[LRD_C_sets]);
    s->overwrites = lrd_load_relaxed(&c[LRD_C_overwrites]);
    s->deletes = lrd_load_relaxed(&c[LRD_C_deletes]);
    s->delete_misses = lrd_load_relaxed(&c[LRD_C_delete_misses]);
    s->evicted = lrd_load_relaxed(&c[LRD_C_evicted]);
    s->evicted_unread = lrd_load_relaxed(&c[LRD_C_evicted_unread]);
    s->expired = lrd_load_relaxed(&c[LRD_C_expired]);
    s->reset_items = lrd_load_relaxed(&c[LRD_C_reset_items]);
    s->no_room = lrd_load_relaxed(&c[LRD_C_no_room]);
}

/* A block that is doomed counts as its namespace's until it is freed; what is in it does not. */
static void add_block(const struct lrd_reader *r, uint32_t block, struct larder_ns_stats *stats)
{
    const struct lrd_descriptor *d = &r->descriptors[block];
    uint32_t ns = lrd_owner_ns(lrd_load_relaxed(&d->owner));
    if (lrd_load_relaxed(&d->state) == LRD_BLOCK_FREE || ns >= LRD_NAMESPACES)
        return;
    struct larder_ns_stats *s = &stats[ns];
    s->blocks++;
    if (lrd_block_word_epoch(lrd_load_relaxed(&r->block_words[block])) != lrd_load32_relaxed(&r->namespaces[ns].epoch))
        return;
    uint64_t live = lrd_load_relaxed(&d->live);
    s->live_items += lrd_live_items(live);
    s->live_bytes += lrd_live_bytes(live);
}

void lrd_ns_stats_all(const struct lrd_reader *r, struct larder_ns_stats *stats)
{
    for (uint32_t ns = 0; ns < LRD_NAMESPACES; ns++) {
        stats[ns] = (struct larder_ns_stats){.size = sizeof *stats};
        add_counters(r, ns, &stats[ns]);
    }
    for (uint32_t i = 0; i < r->n_blocks; i++)
        add_block(r, i, stats);
}

int larder_ns_stats(struct larder_ns *ns, struct larder_ns_stats *stats)
{
    if (ns == NULL || stats == NULL || stats->size < sizeof *stats)
        return -EINVAL;
    struct larder_ns_stats s = {.size = stats->size}, all[LRD_NAMESPACES];
    int r;
    do {
        struct lrd_attachment *at = lrd_current(ns->handle, ns->here);
        uint32_t index;
        r = at == NULL ? lrd_no_attachment(ns->handle) : lrd_ns_live(ns, at, &index);
        if (r == 0) {
            lrd_ns_stats_all(&at->r, all);
            s = all[index];
            s.size = stats->size;
        }
    } while (r == LRD_ELSEWHERE);
    *stats = s;
    return r;
}
