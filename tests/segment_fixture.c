#include "tests/segment_fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/clock.h"

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    perror(what);
    abort();
}

/* ---- making ---- */

static void shape(struct lrd_geometry *g, struct lrd_part parts[LRD_N_PARTS], uint32_t n_pairs, uint32_t n_blocks, uint32_t block_shift)
{
    *g = (struct lrd_geometry){
        .segment_id = 1,
        .hash_seed = UINT64_C(0x5eed5eed5eed5eed),
        .created_ns = lrd_clock_ns() - FIXTURE_AGE_MS * 1000000u,
        .n_pairs = n_pairs,
        .n_blocks = n_blocks,
        .block_shift = block_shift,
        .granule_shift = 3,
        .n_lanes = FIXTURE_LANES,
        .n_cells = FIXTURE_CELLS,
        .item_max = 1u << (block_shift - 1),
        .average_item = 100,
        .n_departures = 256,
        .mark_bytes = (n_pairs * 2 + LRD_PAGE - 1) / LRD_PAGE * LRD_PAGE,
        .n_mark_maps = FIXTURE_LANES,
        .feed_pages = FIXTURE_FEED_PAGES,
    };
    lrd_segment_lay(g, parts, &g->segment_bytes);
    g->reserve_bytes = g->segment_bytes;
}

static void take_hold(struct fixture *f)
{
    lrd_journal_init(&f->journal, &f->store);
    must(lrd_arena_init(&f->arena, &f->store, &f->journal) == 0, "lrd_arena_init");
    f->table = (struct lrd_table){.s = &f->store, .a = &f->arena, .j = &f->journal};
}

static void format(struct fixture *f, const struct lrd_geometry *g, const struct lrd_part parts[LRD_N_PARTS])
{
    lrd_segment_format(&f->store, f->base, g, parts);
    must(f->store.r.arena != NULL, "lrd_segment_format");
    /* A second and a third namespace, for tests that need them. All of them may have everything. */
    for (uint32_t ns = 0; ns < 3; ns++) {
        lrd_store32_relaxed(&f->store.namespaces[ns].epoch, 1);
        lrd_store32_relaxed(&f->store.namespaces[ns].credit, LRD_NO_CREDIT);
        lrd_store_relaxed(&f->store.namespaces[ns].max_blocks, g->n_blocks);
        lrd_store32_relaxed(&f->store.namespaces[ns].state, LRD_NS_LIVE);
    }
    f->reader = f->store.r;
    f->sweep_per_put = 4;
    take_hold(f);
}

void fixture_make(struct fixture *f, uint32_t n_pairs, uint32_t n_blocks, uint32_t block_shift)
{
    struct lrd_geometry g;
    struct lrd_part parts[LRD_N_PARTS];
    shape(&g, parts, n_pairs, n_blocks, block_shift);
    *f = (struct fixture){.fd = -1, .bytes = g.segment_bytes};
    f->base = mmap(NULL, f->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(f->base != MAP_FAILED, "mmap");
    format(f, &g, parts);
}

void fixture_make_sealed(struct fixture *f, uint32_t n_pairs, uint32_t n_blocks, uint32_t block_shift)
{
    struct lrd_geometry g;
    struct lrd_part parts[LRD_N_PARTS];
    shape(&g, parts, n_pairs, n_blocks, block_shift);
    *f = (struct fixture){.bytes = g.segment_bytes};
    f->fd = memfd_create("fixture", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    must(f->fd >= 0 && ftruncate(f->fd, (off_t)f->bytes) == 0, "memfd");
    f->base = mmap(NULL, f->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, f->fd, 0);
    must(f->base != MAP_FAILED, "mmap");
    must(fcntl(f->fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0, "seals");
    format(f, &g, parts);
    f->seen = mmap(NULL, f->bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, f->fd, 0);
    must(f->seen != MAP_FAILED, "mmap to read");
    must(lrd_reader_init(&f->reader, f->seen, f->bytes) == LRD_SEGMENT_GOOD, "lrd_reader_init");
}

void fixture_drop(struct fixture *f)
{
    lrd_arena_fini(&f->arena);
    munmap(f->base, f->bytes);
    if (f->seen != NULL)
        munmap(f->seen, f->bytes);
    if (f->fd >= 0)
        close(f->fd);
}

void fixture_restart(struct fixture *f)
{
    lrd_arena_fini(&f->arena);
    must(lrd_store_init(&f->store, f->base, f->bytes) == LRD_SEGMENT_GOOD, "lrd_store_init");
    lrd_journal_recover(&f->store);
    take_hold(f);
}

/* ---- changing ---- */

uint64_t fixture_now_ms(const struct lrd_reader *r) { return lrd_clock_segment_ms(r->geometry.created_ns); }

struct lrd_item_head fixture_head(const struct fixture_item *item)
{
    return (struct lrd_item_head){lrd_item_word0(item->value_len, item->expires_ms), lrd_item_word1(item->flags, item->ns, item->key_len, LRD_ITEM_PLAIN)};
}

static uint64_t sequence_of(const struct fixture *f, uint32_t block) { return lrd_load_relaxed(&f->store.descriptors[block].sequence); }

/* The full block that was opened first. only: of this namespace, or of all if it is LRD_NS_NOWHERE. */
static uint32_t oldest_full(const struct fixture *f, uint32_t only)
{
    uint32_t best = LRD_NO_BLOCK;
    for (uint32_t b = 0; b < f->store.r.n_blocks; b++) {
        uint32_t ns = lrd_owner_ns(lrd_load_relaxed(&f->store.descriptors[b].owner));
        if (lrd_arena_may_free(&f->arena, b) && (only == LRD_NS_NOWHERE || ns == only) && (best == LRD_NO_BLOCK || sequence_of(f, b) < sequence_of(f, best)))
            best = b;
    }
    return best;
}

/* Nothing is full: what is open longest becomes so. */
static void close_oldest(struct fixture *f, uint32_t only)
{
    uint32_t best = LRD_NO_BLOCK, ns = 0, chain = 0;
    for (uint32_t n = 0; n < LRD_NAMESPACES; n++)
        for (uint32_t c = 0; c < LRD_CHAINS; c++) {
            uint32_t b = f->arena.ns[n].open[c];
            if (b != LRD_NO_BLOCK && (only == LRD_NS_NOWHERE || n == only) && (best == LRD_NO_BLOCK || sequence_of(f, b) < sequence_of(f, best))) {
                best = b;
                ns = n;
                chain = c;
            }
        }
    must(best != LRD_NO_BLOCK, "nothing to make room of");
    lrd_arena_close(&f->arena, ns, chain);
}

static void make_room(struct fixture *f, uint32_t ns)
{
    uint64_t now_ms = fixture_now_ms(&f->store.r);
    if (lrd_arena_free_doomed(&f->arena, now_ms))
        return;
    if (lrd_arena_room_for(&f->arena, ns) >= LRD_SPARE_BLOCKS) {
        f->sweeps_forced++;
        if (lrd_load_relaxed(&f->store.journal->sweep_owed) == 0) /* two sweeps, as a writer whose records wait */
            lrd_store_relaxed(&f->store.journal->sweep_owed, (uint64_t)f->store.r.n_pairs * 4);
        lrd_table_sweep(&f->table, 64);
        return;
    }
    uint32_t only = f->arena.n_free < LRD_SPARE_BLOCKS ? LRD_NS_NOWHERE : ns, block = oldest_full(f, only);
    if (block == LRD_NO_BLOCK)
        close_oldest(f, only);
    else
        lrd_arena_free_block(&f->arena, block, LRD_CAUSE_EVICTED, now_ms, 0, 0);
}

uint32_t fixture_alloc_in(struct fixture *f, const struct fixture_item *item, uint32_t chain)
{
    uint32_t location;
    while ((location = lrd_arena_alloc(&f->arena, item->ns, chain, fixture_head(item), LRD_FOR_CLIENT)) == 0)
        make_room(f, item->ns);
    return location;
}

uint32_t fixture_alloc(struct fixture *f, const struct fixture_item *item) { return fixture_alloc_in(f, item, 0); }

void fixture_fill(struct fixture *f, const struct fixture_item *item, uint32_t location, struct lrd_new_item *staged)
{
    const struct lrd_reader *r = &f->store.r;
    struct lrd_item *to = (struct lrd_item *)(void *)(f->store.arena + ((uint64_t)location << r->granule_shift));
    unsigned char *key = (unsigned char *)(to + 1);
    lrd_racy_fill(key, item->key, item->key_len);
    if (item->value_len > 0)
        lrd_racy_fill(key + item->key_len, item->value, item->value_len);
    *staged = (struct lrd_new_item){
        .key = key,
        .key_len = item->key_len,
        .ns = item->ns,
        .hash = lrd_hash(r->hash_seed, item->ns, key, item->key_len),
        .location = location,
        .bytes = lrd_item_bytes(item->key_len, item->value_len, r->granule_shift),
    };
}

uint32_t fixture_publish(struct fixture *f, const struct lrd_new_item *staged)
{
    lrd_journal_begin(&f->journal);
    uint32_t emptied = lrd_table_put(&f->table, staged, fixture_now_ms(&f->store.r));
    lrd_journal_add(&f->journal, &f->store.journal->applied_total, 1);
    lrd_journal_add(&f->journal, &f->store.lanes[0].applied, 1);
    lrd_journal_commit(&f->journal);
    return emptied;
}

void fixture_put_in(struct fixture *f, const struct fixture_item *item, uint32_t chain)
{
    struct lrd_new_item staged;
    fixture_fill(f, item, fixture_alloc_in(f, item, chain), &staged);
    uint32_t emptied = fixture_publish(f, &staged);
    if (emptied != LRD_NO_BLOCK)
        lrd_arena_free_if_empty(&f->arena, emptied, fixture_now_ms(&f->store.r));
    (void)lrd_arena_free_doomed(&f->arena, fixture_now_ms(&f->store.r));
    if (f->sweep_per_put > 0)
        lrd_table_sweep(&f->table, f->sweep_per_put);
}

void fixture_put(struct fixture *f, const struct fixture_item *item) { fixture_put_in(f, item, 0); }

bool fixture_delete(struct fixture *f, uint32_t ns, const void *key, uint32_t key_len)
{
    uint32_t emptied = LRD_NO_BLOCK;
    lrd_journal_begin(&f->journal);
    bool was = lrd_table_delete(&f->table, ns, key, key_len, lrd_hash(f->store.r.hash_seed, ns, key, key_len), fixture_now_ms(&f->store.r), &emptied);
    lrd_journal_add(&f->journal, &f->store.journal->applied_total, 1);
    lrd_journal_add(&f->journal, &f->store.lanes[0].applied, 1);
    lrd_journal_commit(&f->journal);
    if (emptied != LRD_NO_BLOCK)
        lrd_arena_free_if_empty(&f->arena, emptied, fixture_now_ms(&f->store.r));
    return was;
}

void fixture_reset(struct fixture *f, uint32_t ns)
{
    lrd_u32 *epoch = &f->store.namespaces[ns].epoch;
    /* Everything of before is dead for who sees it; pairs with the acquire in lrd_table_get(). */
    lrd_store32_release(epoch, lrd_load32_relaxed(epoch) + 1);
    lrd_arena_doom(&f->arena, ns);
}

bool fixture_move(struct fixture *f, uint32_t ns, const void *key, uint32_t key_len, uint32_t chain)
{
    const struct lrd_reader *r = &f->store.r;
    struct lrd_get get;
    if (fixture_get(r, ns, key, key_len, NULL, 0, &get) == LRD_ABSENT)
        return false;
    const struct lrd_item *from = lrd_arena_item(r, get.slot);
    struct lrd_item_head head = lrd_item_load(from);
    uint32_t to = lrd_arena_alloc(&f->arena, ns, chain, head, LRD_FOR_COPY);
    if (to == 0)
        return false;
    unsigned char *copy = f->store.arena + ((uint64_t)to << r->granule_shift) + sizeof *from;
    lrd_racy_fill(copy, lrd_item_key(from), (size_t)key_len + lrd_item_value_len(head));
    struct lrd_place at;
    must(lrd_table_find(&f->table, get.hash, lrd_slot_location(get.slot), &at), "an item that was got is not found by its location");
    lrd_journal_begin(&f->journal);
    lrd_table_move(&f->table, at, to);
    lrd_journal_commit(&f->journal);
    lrd_arena_free_if_empty(&f->arena, lrd_arena_block(r, get.slot), fixture_now_ms(r));
    return true;
}

void fixture_sweep_all(struct fixture *f)
{
    uint64_t buckets = (uint64_t)f->store.r.n_pairs * 2;
    lrd_store_release(&f->store.journal->sweep_owed, 2 * buckets);
    while (lrd_table_sweep(&f->table, 1024)) {
    }
}

/* ---- looking ---- */

enum lrd_outcome fixture_get(const struct lrd_reader *r, uint32_t ns, const void *key, uint32_t key_len, void *buffer, size_t capacity, struct lrd_get *get)
{
    static unsigned char nowhere;
    *get = (struct lrd_get){
        .key = key,
        .key_len = key_len,
        .ns = ns,
        .hash = lrd_hash(r->hash_seed, ns, key, key_len),
        .buffer = buffer != NULL ? buffer : &nowhere,
        .capacity = capacity,
        .zero_ns = r->geometry.created_ns,
    };
    return lrd_table_get(r, get);
}

struct recount {
    const struct lrd_reader *r;
    uint8_t *displaced;  /* 12 counts a bucket */
    uint8_t *begins;     /* a bit a granule: an item begins there */
    uint64_t *items, *bytes, *padding; /* live, a block */
    uint64_t slots_used;
    unsigned wrong;
};

#define wrong(c, ...) ((c)->wrong++ < 20 ? (void)(fprintf(stderr, "recount: " __VA_ARGS__), fputc('\n', stderr)) : (void)0)

typedef unsigned long long number;

static uint32_t owner_of(const struct lrd_reader *r, uint32_t block) { return lrd_owner_ns(lrd_load_relaxed(&r->descriptors[block].owner)) % LRD_NAMESPACES; }

/* Of an epoch that is over. */
static bool is_doomed(const struct lrd_reader *r, uint32_t block)
{
    return lrd_block_word_epoch(lrd_load_relaxed(&r->block_words[block])) != lrd_load32_relaxed(&r->namespaces[owner_of(r, block)].epoch);
}

/* From item to item up to what was written, whenever its writer was killed. */
static void recount_walk(struct recount *c, uint32_t block)
{
    const struct lrd_reader *r = c->r;
    uint64_t start = (uint64_t)block << r->block_shift, used = lrd_load_relaxed(&r->descriptors[block].used);
    uint64_t at = block == 0 && used > 0 ? UINT64_C(1) << r->granule_shift : 0;
    while (at < used) {
        uint64_t granule = (start + at) >> r->granule_shift;
        struct lrd_item_head h = lrd_item_load((const struct lrd_item *)(const void *)(r->arena + start + at));
        if (lrd_item_ns(h) != owner_of(r, block) || lrd_item_key_len(h) == 0 || lrd_item_kind(h) >= LRD_N_ITEM_KINDS)
            break;
        c->begins[granule / 8] |= (uint8_t)(1u << granule % 8);
        at += lrd_item_bytes_of(h, r->granule_shift);
    }
    if (at != used)
        wrong(c, "block %u cannot be walked: %llu of %llu bytes", block, (number)at, (number)used);
}

static void recount_live(struct recount *c, uint32_t bucket, uint64_t slot, uint32_t block)
{
    const struct lrd_reader *r = c->r;
    uint64_t off = lrd_arena_off(r, slot), granule = off >> r->granule_shift;
    const struct lrd_item *item = lrd_arena_item(r, slot);
    struct lrd_item_head h = lrd_item_load(item);
    uint32_t key_len = lrd_item_key_len(h), ns = lrd_item_ns(h), bytes = lrd_item_bytes_of(h, r->granule_shift);
    uint64_t within = off & ((UINT64_C(1) << r->block_shift) - 1);
    if (within + bytes > lrd_load_relaxed(&r->descriptors[block].used) || (c->begins[granule / 8] >> granule % 8 & 1) == 0) {
        wrong(c, "an item of block %u ends beyond what was written, or begins inside another", block);
        return;
    }
    if (ns != lrd_owner_ns(lrd_load_relaxed(&r->descriptors[block].owner)))
        wrong(c, "an item of namespace %u in a block of another", ns);
    c->items[block]++;
    c->bytes[block] += bytes;
    c->padding[block] += bytes - lrd_item_used(lrd_item_kind(h), key_len, lrd_item_value_len(h));
    uint64_t hash = lrd_hash(r->hash_seed, ns, lrd_item_key_of(item, h), key_len);
    if (lrd_hash_tag(hash) != lrd_slot_tag(slot) ||
        lrd_hash_bucket(lrd_hash_home(hash, r->n_pairs), lrd_slot_tag(slot), lrd_slot_displacement(slot), r->n_pairs) != bucket)
        wrong(c, "a slot in bucket %u with the tag or place of another key", bucket);
    /* Found at this slot: so it is found, and it is the only one. */
    struct lrd_get get;
    (void)fixture_get(r, ns, lrd_item_key_of(item, h), key_len, NULL, 0, &get);
    if (get.slot != slot)
        wrong(c, "an item of bucket %u, slot %llx, is found at %llx", bucket, (number)slot, (number)get.slot);
}

static void recount_slots(struct recount *c)
{
    const struct lrd_reader *r = c->r;
    for (uint32_t bucket = 0; bucket < r->n_pairs * 2; bucket++) {
        for (unsigned i = 0; i < LRD_SLOTS; i++) {
            uint64_t slot = lrd_load_relaxed(&r->buckets[bucket].slot[i]);
            if (slot == 0)
                continue;
            c->slots_used++;
            uint32_t tag = lrd_slot_tag(slot), d = lrd_slot_displacement(slot), block = lrd_arena_block(r, slot);
            if (block >= r->n_blocks) {
                wrong(c, "a slot that points behind the arena");
                continue;
            }
            if (d > 0)
                c->displaced[(size_t)lrd_hash_bucket(bucket, tag, d, r->n_pairs) * 12 + (d - 1) * 4 + (tag & 3)]++;
            uint32_t ns = lrd_owner_ns(lrd_load_relaxed(&r->descriptors[block].owner));
            if (!lrd_slot_dead(slot, lrd_load_relaxed(&r->block_words[block]), lrd_load32_relaxed(&r->namespaces[ns].epoch)))
                recount_live(c, bucket, slot, block);
        }
    }
    if (c->slots_used != fixture_counter(r, LRD_C_slots_used))
        wrong(c, "%llu slots are used, the counter says %llu", (unsigned long long)c->slots_used,
              (unsigned long long)fixture_counter(r, LRD_C_slots_used));
}

static void recount_displaced(struct recount *c)
{
    const struct lrd_reader *r = c->r;
    for (uint32_t bucket = 0; bucket < r->n_pairs * 2; bucket++) {
        uint64_t word = lrd_load_relaxed(&r->buckets[bucket].displaced);
        for (uint32_t i = 0; i < 12; i++) {
            uint64_t says = word >> i * 4 & 15, is = c->displaced[(size_t)bucket * 12 + i];
            if (says != is && says != LRD_DISPLACED_MAX)
                wrong(c, "bucket %u: displaced counter %u says %llu, there are %llu", bucket, i, (unsigned long long)says, (unsigned long long)is);
        }
        if (word >> 48 != 0)
            wrong(c, "bucket %u: displaced word %llx", bucket, (unsigned long long)word);
    }
}

static void recount_block(struct recount *c, uint32_t b)
{
    const struct lrd_reader *r = c->r;
    const struct lrd_descriptor *d = &r->descriptors[b];
    uint64_t says = lrd_load_relaxed(&d->live), state = lrd_load_relaxed(&d->state), owner = lrd_load_relaxed(&d->owner), used = lrd_load_relaxed(&d->used);
    if (state > LRD_BLOCK_FULL)
        wrong(c, "block %u is in state %llu", b, (number)state);
    if ((uint32_t)owner != lrd_owner_make(owner_of(r, b), lrd_owner_chain(owner), 0))
        wrong(c, "block %u has owner %llx", b, (number)owner);
    if (state == LRD_BLOCK_FREE && (says != 0 || used != 0 || lrd_load_relaxed(&d->latest_expiry) != 0))
        wrong(c, "free block %u has live or written bytes, or a time", b);
    if (used > UINT64_C(1) << r->block_shift)
        wrong(c, "block %u is written beyond its end", b);
    if (lrd_load_relaxed(&d->sequence) > lrd_load_relaxed(&r->journal->sequence) || (state != LRD_BLOCK_FREE && lrd_load_relaxed(&d->sequence) == 0))
        wrong(c, "block %u was opened as number %llu", b, (number)lrd_load_relaxed(&d->sequence));
    enum lrd_cause cause = lrd_freed_cause(lrd_load_relaxed(&d->freed));
    if (cause != LRD_CAUSE_NONE && cause != LRD_CAUSE_EXPIRED && cause != LRD_CAUSE_EVICTED && cause != LRD_CAUSE_RESET && cause != LRD_CAUSE_EMPTY)
        wrong(c, "block %u was freed for %d", b, (int)cause);
    /* After a reset a block's items are dead without being counted off: its live word tells what it had. */
    uint64_t is = lrd_live_make((uint32_t)c->items[b], (uint32_t)c->bytes[b], (uint32_t)c->padding[b]);
    if (is_doomed(r, b) && state != LRD_BLOCK_FREE ? c->items[b] != 0 : says != is)
        wrong(c, "block %u says %u items of %u bytes, %u of them padding, there are %llu of %llu, %llu", b, lrd_live_items(says), lrd_live_bytes(says), lrd_live_padding(says),
              (number)c->items[b], (number)c->bytes[b], (number)c->padding[b]);
}

static uint64_t of(const struct recount *c, uint32_t ns, enum lrd_counter_id id) { return lrd_load_relaxed(&lrd_ns_counters(c->r, ns)[id]); }

/* What came less what went is what is there, those of an epoch that is over included until their blocks are freed. */
static void recount_namespace(struct recount *c, uint32_t ns)
{
    const struct lrd_reader *r = c->r;
    uint64_t live = 0, in_use = 0, open[LRD_CHAINS] = {0};
    for (uint32_t b = 0; b < r->n_blocks; b++) {
        const struct lrd_descriptor *d = &r->descriptors[b];
        uint64_t state = lrd_load_relaxed(&d->state);
        if (owner_of(r, b) != ns || state == LRD_BLOCK_FREE)
            continue;
        live += lrd_live_items(lrd_load_relaxed(&d->live));
        in_use++;
        open[lrd_owner_chain(lrd_load_relaxed(&d->owner))] += state == LRD_BLOCK_OPEN && !is_doomed(r, b);
    }
    for (uint32_t chain = 0; chain < LRD_CHAINS; chain++)
        if (open[chain] > 1)
            wrong(c, "%llu blocks of namespace %u, chain %u are open", (number)open[chain], ns, chain);
    if (in_use > lrd_load_relaxed(&r->namespaces[ns].max_blocks))
        wrong(c, "namespace %u has %llu blocks, more than it may have", ns, (number)in_use);
    if (of(c, ns, LRD_C_blocks_opened) - of(c, ns, LRD_C_blocks_freed) != in_use)
        wrong(c, "%llu blocks of namespace %u in use do not add up", (number)in_use, ns);
    uint64_t sets = of(c, ns, LRD_C_sets), gone = of(c, ns, LRD_C_overwrites) + of(c, ns, LRD_C_deletes) + of(c, ns, LRD_C_evicted) + of(c, ns, LRD_C_expired) +
                                                  of(c, ns, LRD_C_reset_items) + of(c, ns, LRD_C_no_room);
    if (sets - gone != live)
        wrong(c, "namespace %u: %llu sets, %llu gone and %llu live items do not add up", ns, (number)sets, (number)gone, (number)live);
    static const enum lrd_counter_id pairs[][2] = {
        {LRD_C_evicted, LRD_C_evicted_bytes}, {LRD_C_expired, LRD_C_expired_bytes}, {LRD_C_reset_items, LRD_C_reset_bytes}, {LRD_C_copied, LRD_C_copied_bytes}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        uint64_t items = of(c, ns, pairs[i][0]), bytes = of(c, ns, pairs[i][1]);
        if (bytes < items * 24 || bytes > items * r->geometry.item_max || bytes % (UINT64_C(1) << r->granule_shift) != 0)
            wrong(c, "namespace %u: %llu items of %llu bytes, counters %d and %d", ns, (number)items, (number)bytes, (int)pairs[i][0], (int)pairs[i][1]);
    }
}

static void *zeroed(size_t n, size_t bytes)
{
    void *p = calloc(n, bytes);
    must(p != NULL, "calloc");
    return p;
}

unsigned fixture_recount(const struct lrd_reader *r)
{
    struct recount c = {.r = r};
    c.displaced = zeroed((size_t)r->n_pairs * 2 * 12, sizeof *c.displaced);
    c.begins = zeroed((size_t)(r->arena_bytes >> r->granule_shift) / 8 + 1, 1);
    c.items = zeroed(r->n_blocks, sizeof *c.items);
    c.bytes = zeroed(r->n_blocks, sizeof *c.bytes);
    c.padding = zeroed(r->n_blocks, sizeof *c.padding);
    if (lrd_load_relaxed(&r->journal->n_steps) != 0)
        wrong(&c, "an intent is open");
    for (uint32_t b = 0; b < r->n_blocks; b++)
        recount_walk(&c, b);
    recount_slots(&c);
    recount_displaced(&c);
    for (uint32_t b = 0; b < r->n_blocks; b++)
        recount_block(&c, b);
    for (uint32_t ns = 0; ns < LRD_NAMESPACES; ns++)
        recount_namespace(&c, ns);
    free(c.displaced);
    free(c.begins);
    free(c.items);
    free(c.bytes);
    free(c.padding);
    return c.wrong;
}

/* ---- what the arena noted ---- */

static uint32_t list_length(struct recount *c, const struct lrd_arena *a, uint32_t list)
{
    uint32_t n = 0;
    for (uint32_t b = a->next[list], last = list; n <= c->r->n_blocks; last = b, b = a->next[b]) {
        if (a->prev[b] != last)
            wrong(c, "list %u is broken at %u", list, b);
        if (b == list)
            break;
        n++;
    }
    return n;
}

static void recount_chain(struct recount *c, const struct lrd_arena *a, uint32_t ns, uint32_t chain, uint32_t *n)
{
    const struct lrd_reader *r = c->r;
    uint64_t before = 0;
    for (uint32_t b = lrd_arena_first(a, ns, chain); b != LRD_NO_BLOCK && *n <= r->n_blocks; b = lrd_arena_after(a, ns, chain, b)) {
        const struct lrd_descriptor *d = &r->descriptors[b];
        uint64_t sequence = lrd_load_relaxed(&d->sequence);
        if (lrd_load_relaxed(&d->state) != LRD_BLOCK_FULL || is_doomed(r, b) || (uint32_t)lrd_load_relaxed(&d->owner) != lrd_owner_make(ns, chain, 0) || sequence <= before)
            wrong(c, "block %u stands in chain %u of namespace %u", b, chain, ns);
        before = sequence;
        ++*n;
    }
    uint32_t open = a->ns[ns].open[chain];
    if (open != LRD_NO_BLOCK &&
        (lrd_load_relaxed(&r->descriptors[open].state) != LRD_BLOCK_OPEN || (uint32_t)lrd_load_relaxed(&r->descriptors[open].owner) != lrd_owner_make(ns, chain, 0) || is_doomed(r, open)))
        wrong(c, "block %u is taken for the open one of chain %u of namespace %u", open, chain, ns);
    *n += open != LRD_NO_BLOCK;
}

static void recount_tally(struct recount *c, const struct lrd_arena *a, uint32_t ns)
{
    const struct lrd_reader *r = c->r;
    const struct lrd_tally *says = &a->ns[ns];
    struct lrd_tally is = {0};
    uint32_t listed = 0;
    for (uint32_t b = 0; b < r->n_blocks; b++) {
        const struct lrd_descriptor *d = &r->descriptors[b];
        if (owner_of(r, b) != ns || lrd_load_relaxed(&d->state) == LRD_BLOCK_FREE)
            continue;
        is.n_blocks++;
        is.n_doomed += is_doomed(r, b);
        if (is_doomed(r, b))
            continue;
        is.n_queue[lrd_owner_chain(lrd_load_relaxed(&d->owner)) / LRD_TTL_CLASSES]++;
        is.live_items += lrd_live_items(lrd_load_relaxed(&d->live));
        is.live_bytes += lrd_live_bytes(lrd_load_relaxed(&d->live));
    }
    for (uint32_t chain = 0; chain < LRD_CHAINS; chain++)
        recount_chain(c, a, ns, chain, &listed);
    if (listed + is.n_doomed != is.n_blocks)
        wrong(c, "namespace %u: %u blocks of %u are in its chains", ns, listed, is.n_blocks - is.n_doomed);
    if (says->n_blocks != is.n_blocks || says->n_doomed != is.n_doomed || memcmp(says->n_queue, is.n_queue, sizeof is.n_queue) != 0)
        wrong(c, "namespace %u is noted with %u blocks (%u doomed, %u small, %u main); there are %u (%u, %u, %u)", ns, says->n_blocks, says->n_doomed, says->n_queue[0],
              says->n_queue[1], is.n_blocks, is.n_doomed, is.n_queue[0], is.n_queue[1]);
    if (says->live_items != is.live_items || says->live_bytes != is.live_bytes)
        wrong(c, "namespace %u is noted with %llu items of %llu bytes; there are %llu of %llu", ns, (number)says->live_items, (number)says->live_bytes, (number)is.live_items,
              (number)is.live_bytes);
}

unsigned fixture_recount_all(const struct fixture *f)
{
    const struct lrd_arena *a = &f->arena;
    struct recount c = {.r = &f->store.r, .wrong = fixture_recount(&f->reader)};
    uint32_t n_free = 0, n_doomed = 0;
    for (uint32_t b = 0; b < c.r->n_blocks; b++) {
        bool is_free = lrd_load_relaxed(&c.r->descriptors[b].state) == LRD_BLOCK_FREE;
        n_free += is_free;
        n_doomed += !is_free && is_doomed(c.r, b);
    }
    for (uint32_t ns = 0; ns < LRD_NAMESPACES; ns++)
        recount_tally(&c, a, ns);
    if (a->n_free != n_free || list_length(&c, a, c.r->n_blocks) != n_free)
        wrong(&c, "%u blocks are noted as free, %u in the list; there are %u", a->n_free, list_length(&c, a, c.r->n_blocks), n_free);
    if (a->n_doomed != n_doomed || list_length(&c, a, c.r->n_blocks + 1) != n_doomed)
        wrong(&c, "%u blocks are noted as doomed, %u in the list; there are %u", a->n_doomed, list_length(&c, a, c.r->n_blocks + 1), n_doomed);
    return c.wrong;
}

double fixture_load(const struct lrd_reader *r)
{
    uint64_t live = 0;
    for (uint32_t b = 0; b < r->n_blocks; b++)
        live += lrd_live_items(lrd_load_relaxed(&r->descriptors[b].live));
    return (double)live / (double)((uint64_t)r->n_pairs * 2 * LRD_SLOTS);
}

/* ---- bytes ---- */

void fixture_bytes(void *to, size_t n, uint64_t seed)
{
    unsigned char *t = to;
    uint64_t state = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15) | 1;
    while (n > 0) {
        uint64_t x = fixture_random(&state);
        size_t here = n < sizeof x ? n : sizeof x;
        memcpy(t, &x, here);
        t += here;
        n -= here;
    }
}

bool fixture_long(void)
{
    const char *s = getenv("LARDER_LONG");
    return s != NULL && strcmp(s, "1") == 0;
}
