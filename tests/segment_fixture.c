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

static uint64_t lay(struct lrd_part *part, uint64_t off, uint64_t bytes)
{
    part->off = off;
    part->bytes = (bytes + LRD_PAGE - 1) / LRD_PAGE * LRD_PAGE;
    return off + part->bytes;
}

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
    };
    uint64_t off = lay(&parts[LRD_PART_HEADER], 0, sizeof(struct lrd_header));
    off = lay(&parts[LRD_PART_NAMESPACES], off, LRD_NAMESPACES * sizeof(struct lrd_namespace));
    off = lay(&parts[LRD_PART_COUNTERS], off, LRD_N_COUNTERS * sizeof(lrd_u64));
    off = lay(&parts[LRD_PART_LANES], off, g->n_lanes * sizeof(struct lrd_lane_words));
    off = lay(&parts[LRD_PART_JOURNAL], off, sizeof(struct lrd_journal));
    off = lay(&parts[LRD_PART_BLOCK_WORDS], off, n_blocks * sizeof(lrd_u64));
    off = lay(&parts[LRD_PART_DESCRIPTORS], off, n_blocks * sizeof(struct lrd_descriptor));
    off = lay(&parts[LRD_PART_TABLE], off, (uint64_t)n_pairs * 2 * sizeof(struct lrd_bucket));
    off = lay(&parts[LRD_PART_ARENA], off, (uint64_t)n_blocks << block_shift);
    g->segment_bytes = g->reserve_bytes = off;
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
    /* A second namespace, for tests that need one. */
    lrd_store32_relaxed(&f->store.namespaces[1].epoch, 1);
    lrd_store32_relaxed(&f->store.namespaces[1].state, LRD_NS_LIVE);
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

uint32_t fixture_alloc(struct fixture *f, const struct fixture_item *item)
{
    uint32_t location, bytes = lrd_item_bytes(item->key_len, item->value_len, f->store.r.granule_shift);
    while ((location = lrd_arena_alloc(&f->arena, item->ns, bytes, item->expires_ms)) == 0) {
        f->sweeps_forced++;
        /* Who has no room because of the sweep owes it. */
        must(lrd_load_relaxed(&f->store.journal->sweep_owed) != 0, "no room and no sweep owed");
        lrd_table_sweep(&f->table, 64);
    }
    return location;
}

void fixture_fill(struct fixture *f, const struct fixture_item *item, uint32_t location, struct lrd_new_item *staged)
{
    const struct lrd_reader *r = &f->store.r;
    struct lrd_item *to = (struct lrd_item *)(void *)(f->store.arena + ((uint64_t)location << r->granule_shift));
    lrd_store_relaxed(&to->word0, lrd_item_word0(item->value_len, item->expires_ms));
    lrd_store_relaxed(&to->word1, lrd_item_word1(item->flags, item->ns, item->key_len, LRD_ITEM_PLAIN));
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

void fixture_put(struct fixture *f, const struct fixture_item *item)
{
    struct lrd_new_item staged;
    fixture_fill(f, item, fixture_alloc(f, item), &staged);
    uint32_t emptied = fixture_publish(f, &staged);
    if (emptied != LRD_NO_BLOCK)
        lrd_arena_free_if_empty(&f->arena, emptied);
    if (f->sweep_per_put > 0)
        lrd_table_sweep(&f->table, f->sweep_per_put);
}

bool fixture_delete(struct fixture *f, uint32_t ns, const void *key, uint32_t key_len)
{
    uint32_t emptied = LRD_NO_BLOCK;
    lrd_journal_begin(&f->journal);
    bool was = lrd_table_delete(&f->table, ns, key, key_len, lrd_hash(f->store.r.hash_seed, ns, key, key_len), &emptied);
    lrd_journal_add(&f->journal, &f->store.journal->applied_total, 1);
    lrd_journal_add(&f->journal, &f->store.lanes[0].applied, 1);
    lrd_journal_commit(&f->journal);
    if (emptied != LRD_NO_BLOCK)
        lrd_arena_free_if_empty(&f->arena, emptied);
    return was;
}

void fixture_reset(struct fixture *f, uint32_t ns)
{
    lrd_u32 *epoch = &f->store.namespaces[ns].epoch;
    /* Everything of before is dead for who sees it; pairs with the acquire in lrd_table_get(). */
    lrd_store32_release(epoch, lrd_load32_relaxed(epoch) + 1);
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
    uint8_t *displaced; /* 12 counts a bucket */
    uint64_t *items, *bytes; /* live, a block */
    uint64_t slots_used;
    unsigned wrong;
};

#define wrong(c, ...) ((c)->wrong++ < 20 ? (void)(fprintf(stderr, "recount: " __VA_ARGS__), fputc('\n', stderr)) : (void)0)

static void recount_live(struct recount *c, uint32_t bucket, uint64_t slot, uint32_t block)
{
    const struct lrd_reader *r = c->r;
    uint64_t off = lrd_arena_off(r, slot);
    const struct lrd_item *item = lrd_arena_item(r, slot);
    struct lrd_item_head h = lrd_item_load(item);
    uint32_t key_len = lrd_item_key_len(h), ns = lrd_item_ns(h), bytes = lrd_item_bytes(key_len, lrd_item_value_len(h), r->granule_shift);
    uint64_t within = off & ((UINT64_C(1) << r->block_shift) - 1);
    if (within + bytes > lrd_load_relaxed(&r->descriptors[block].used)) {
        wrong(c, "an item of block %u ends beyond what was written", block);
        return;
    }
    if (ns != lrd_load_relaxed(&r->descriptors[block].ns))
        wrong(c, "an item of namespace %u in a block of another", ns);
    c->items[block]++;
    c->bytes[block] += bytes;
    uint64_t hash = lrd_hash(r->hash_seed, ns, lrd_item_key(item), key_len);
    if (lrd_hash_tag(hash) != lrd_slot_tag(slot) ||
        lrd_hash_bucket(lrd_hash_home(hash, r->n_pairs), lrd_slot_tag(slot), lrd_slot_displacement(slot), r->n_pairs) != bucket)
        wrong(c, "a slot in bucket %u with the tag or place of another key", bucket);
    /* Found at this slot: so it is found, and it is the only one. */
    struct lrd_get get;
    (void)fixture_get(r, ns, lrd_item_key(item), key_len, NULL, 0, &get);
    if (get.slot != slot)
        wrong(c, "an item of bucket %u, slot %llx, is found at %llx", bucket, (unsigned long long)slot, (unsigned long long)get.slot);
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
            uint32_t ns = (uint32_t)lrd_load_relaxed(&r->descriptors[block].ns);
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

static void recount_blocks(struct recount *c)
{
    const struct lrd_reader *r = c->r;
    uint64_t live = 0, in_use = 0, open = 0;
    for (uint32_t b = 0; b < r->n_blocks; b++) {
        const struct lrd_descriptor *d = &r->descriptors[b];
        uint64_t says = lrd_load_relaxed(&d->live), state = lrd_load_relaxed(&d->state), word = lrd_load_relaxed(&r->block_words[b]);
        live += lrd_live_items(says);
        in_use += state != LRD_BLOCK_FREE;
        open += state == LRD_BLOCK_OPEN;
        if (state > LRD_BLOCK_FULL)
            wrong(c, "block %u is in state %llu", b, (unsigned long long)state);
        if (state == LRD_BLOCK_FREE && (says != 0 || lrd_load_relaxed(&d->used) != 0))
            wrong(c, "free block %u has live or written bytes", b);
        if (lrd_load_relaxed(&d->used) > UINT64_C(1) << r->block_shift)
            wrong(c, "block %u is written beyond its end", b);
        /* After a reset a block's items are dead without being counted off: its live word tells what it had. */
        uint32_t epoch = lrd_load32_relaxed(&r->namespaces[lrd_load_relaxed(&d->ns) % LRD_NAMESPACES].epoch);
        bool exact = lrd_block_word_epoch(word) == epoch || state == LRD_BLOCK_FREE;
        if (exact ? (lrd_live_items(says) != c->items[b] || lrd_live_bytes(says) != c->bytes[b]) : lrd_live_items(says) < c->items[b])
            wrong(c, "block %u says %u items of %u bytes, there are %llu of %llu", b, lrd_live_items(says), lrd_live_bytes(says),
                  (unsigned long long)c->items[b], (unsigned long long)c->bytes[b]);
    }
    if (open > 1)
        wrong(c, "%llu blocks are open", (unsigned long long)open);
    if (fixture_counter(r, LRD_C_blocks_opened) - fixture_counter(r, LRD_C_blocks_freed) != in_use)
        wrong(c, "%llu blocks in use do not add up", (unsigned long long)in_use);
    uint64_t sets = fixture_counter(r, LRD_C_sets);
    if (sets - fixture_counter(r, LRD_C_overwrites) - fixture_counter(r, LRD_C_deletes) - fixture_counter(r, LRD_C_evicted) -
            fixture_counter(r, LRD_C_no_room) !=
        live)
        wrong(c, "%llu sets and %llu live items do not add up", (unsigned long long)sets, (unsigned long long)live);
}

unsigned fixture_recount(const struct lrd_reader *r)
{
    struct recount c = {.r = r};
    c.displaced = calloc((size_t)r->n_pairs * 2 * 12, sizeof *c.displaced);
    c.items = calloc(r->n_blocks, sizeof *c.items);
    c.bytes = calloc(r->n_blocks, sizeof *c.bytes);
    must(c.displaced != NULL && c.items != NULL && c.bytes != NULL, "calloc");
    if (lrd_load_relaxed(&r->journal->n_steps) != 0)
        wrong(&c, "an intent is open");
    recount_slots(&c);
    recount_displaced(&c);
    recount_blocks(&c);
    free(c.displaced);
    free(c.items);
    free(c.bytes);
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
