/* Every byte that processes share.
 *
 * The segment (a sealed memfd, one per daemon; the worker writes it, everybody else can only read):
 *
 *   header | namespaces | counters | lane words | journal | block words | descriptors | table | arena
 *
 *   The header names the offset and size of each part; every part begins on a page, table and arena on 2 MiB. Offsets, never
 *   pointers: each process maps the segment where it likes.
 *
 *   table   bucket[n_pairs * 2], 64 bytes each:  displaced word | slot slot slot slot slot slot slot
 *   slot    tag:14 | displacement:2 | generation:16 | location:32                                         0 = empty
 *   location = granules (of 8 bytes, more above 32 GiB) from the arena's start; granule 0 is never used
 *
 *   arena   block[n_blocks], each a log of items:   item item item ... (written up to descriptor.used) ... free
 *   block word = generation:32 | epoch:32            one per block, in an array of their own that readers keep cached
 *   item    = value_len:24 expires_ms:40 | flags:32 namespace:16 key_len:12 kind:4 | key | value | padding to a granule
 *
 *   A slot is dead when its generation is not its block's (low 16 bits) or the block's epoch is not its namespace's.
 *
 * A lane (a sealed memfd of its own for every attachment, written by that client and read by the worker, which trusts no byte of it):
 *
 *   lane header | commit words (8 bytes per cell) | cells (64 bytes each; mapped twice in a row, so a record never wraps)
 *
 * A change of an offset changes LRD_LAYOUT_VERSION and tests/layout.txt.
 */
#ifndef LRD_LAYOUT_H
#define LRD_LAYOUT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/atomic.h"

#define LRD_MAGIC UINT64_C(0x314745534452414c) /* "LARDSEG1" in memory */
#define LRD_LAYOUT_VERSION 1u

#define LRD_LINE 64u
#define LRD_PAGE 4096u
#define LRD_HUGE (2u << 20)

/* ---- limits ---- */
#define LRD_KEY_MAX 1024u
#define LRD_VALUE_MAX ((1u << 24) - 1)           /* value_len:24; half a block is the tighter limit */
#define LRD_EXPIRES_MAX ((UINT64_C(1) << 40) - 1) /* 34 years of milliseconds */
#define LRD_NAMESPACES 64u
#define LRD_NAMESPACE_NAME 32u                   /* bytes, with the final NUL */
#define LRD_BLOCK_SHIFT_MIN 16u
#define LRD_BLOCK_SHIFT_MAX 21u

/* ---- header ---- */
enum lrd_part_id {
    LRD_PART_HEADER,
    LRD_PART_NAMESPACES,
    LRD_PART_COUNTERS,
    LRD_PART_LANES,
    LRD_PART_JOURNAL,
    LRD_PART_BLOCK_WORDS,
    LRD_PART_DESCRIPTORS,
    LRD_PART_TABLE,
    LRD_PART_ARENA,
    LRD_N_PARTS
};

struct lrd_part {
    uint64_t off;   /* bytes from the segment's start */
    uint64_t bytes; /* multiple of a page */
};

/* What is fixed when the segment is made. Readers copy it once, at attach. */
struct lrd_geometry {
    uint64_t segment_bytes;
    uint64_t reserve_bytes; /* address space to reserve; the segment may grow into it */
    uint64_t segment_id;    /* random; another segment has another */
    uint64_t hash_seed;     /* random */
    uint64_t created_ns;    /* the daemon's CLOCK_MONOTONIC when segment time was 0 */
    uint32_t n_pairs;       /* pairs of buckets in the table */
    uint32_t n_blocks;
    uint32_t block_shift;   /* a block is 1 << block_shift bytes */
    uint32_t granule_shift; /* a granule is 1 << granule_shift bytes */
    uint32_t n_lanes;
    uint32_t n_cells;       /* of each lane's ring; a power of two */
    uint32_t item_max;      /* bytes of the largest item, header and padding included */
    uint32_t average_item;  /* bytes of key and value the table was sized for; said by stat */
};

enum lrd_page_tier { LRD_PAGES_SMALL = 1, LRD_PAGES_THP, LRD_PAGES_HUGETLB };

struct lrd_header {
    /* line 0: fixed. The magic is stored last, with release: who sees it sees the rest. */
    lrd_u64 magic;
    uint32_t layout_version;
    uint32_t layout_hash;
    uint64_t features;
    uint64_t header_bytes;
    unsigned char pad0[32];
    /* lines 1-2: fixed */
    struct lrd_geometry geometry;
    unsigned char pad1[128 - sizeof(struct lrd_geometry)];
    /* lines 3-6: fixed */
    struct lrd_part parts[LRD_N_PARTS];
    unsigned char pad2[256 - LRD_N_PARTS * sizeof(struct lrd_part)];
    /* line 7: life. The worker's writer thread writes it; clients look when they were asked to bound staleness. */
    lrd_u64 heartbeat_ms; /* segment time of the writer's last sign of life, at least every 100 ms */
    lrd_u64 worker_pid;
    lrd_u64 worker_count; /* workers there have been; the first is 1 */
    unsigned char pad3[40];
    /* line 8: about the pages, written by the keeper before anybody is let in */
    lrd_u64 page_bytes[4]; /* by enum lrd_page_tier, as the kernel says in smaps */
    lrd_u64 keeper_pid;
    lrd_u64 numa_node;     /* + 1; 0: none asked for */
    unsigned char pad4[16];
    unsigned char rest[LRD_PAGE - 576];
};
static_assert(offsetof(struct lrd_header, geometry) == 64, "line 1");
static_assert(offsetof(struct lrd_header, parts) == 192, "line 3");
static_assert(offsetof(struct lrd_header, heartbeat_ms) == 448, "line 7");
static_assert(offsetof(struct lrd_header, page_bytes) == 512, "line 8");
static_assert(sizeof(struct lrd_header) == LRD_PAGE, "a page");

/* ---- namespaces ---- */
enum lrd_ns_state { LRD_NS_NONE, LRD_NS_LIVE };

struct lrd_namespace {
    /* line 0: read by every get, written by the worker when something about the namespace changes */
    lrd_u32 epoch; /* counts resets; starts at 1 */
    lrd_u32 state;
    lrd_u64 default_ttl_ms; /* 0: none */
    uint32_t policy;        /* room for the next layout; 0 */
    uint32_t pad0;
    char name[LRD_NAMESPACE_NAME];
    uint64_t pad1;
    /* line 1: written by the worker */
    unsigned char rest[64];
};
static_assert(offsetof(struct lrd_namespace, rest) == 64, "line 1");
static_assert(sizeof(struct lrd_namespace) == 128, "two lines");

/* ---- table ---- */
#define LRD_SLOTS 7u

struct lrd_bucket {
    lrd_u64 displaced; /* of the items whose home this is and that lie elsewhere: see table.h */
    lrd_u64 slot[LRD_SLOTS];
};
static_assert(sizeof(struct lrd_bucket) == LRD_LINE, "a line");

#define LRD_TAG_BITS 14u
#define LRD_TAG_MASK ((1u << LRD_TAG_BITS) - 1)

static inline uint64_t lrd_slot_make(uint32_t tag, uint32_t displacement, uint32_t generation, uint32_t location)
{
    return (uint64_t)tag << 50 | (uint64_t)displacement << 48 | (uint64_t)(generation & 0xffff) << 32 | location;
}
static inline uint32_t lrd_slot_tag(uint64_t slot) { return (uint32_t)(slot >> 50); }
static inline uint32_t lrd_slot_displacement(uint64_t slot) { return (uint32_t)(slot >> 48) & 3; }
static inline uint32_t lrd_slot_generation(uint64_t slot) { return (uint32_t)(slot >> 32) & 0xffff; }
static inline uint32_t lrd_slot_location(uint64_t slot) { return (uint32_t)slot; }

/* ---- blocks ---- */
static inline uint64_t lrd_block_word_make(uint32_t generation, uint32_t epoch) { return (uint64_t)generation << 32 | epoch; }
static inline uint32_t lrd_block_word_generation(uint64_t w) { return (uint32_t)(w >> 32); }
static inline uint32_t lrd_block_word_epoch(uint64_t w) { return (uint32_t)w; }

enum lrd_block_state { LRD_BLOCK_FREE, LRD_BLOCK_OPEN, LRD_BLOCK_FULL };

/* The worker's notes about a block; larderctl reads them. Readers of items never do. */
struct lrd_descriptor {
    lrd_u64 state;          /* enum lrd_block_state */
    lrd_u64 ns;
    lrd_u64 used;           /* bytes written, from the block's start; stored before a slot that lies below it */
    lrd_u64 live;           /* live items:32 | their bytes:32, padding included */
    lrd_u64 latest_expiry;  /* ms; LRD_EXPIRES_MAX + 1 when an item never expires; stored before the slot */
    lrd_u64 sequence;       /* order of opening; 0 before the first */
    lrd_u32 generation_swept; /* generation when the last completed sweep began */
    lrd_u32 generation_seen;  /* generation when the running sweep began */
    uint64_t pad;
};
static_assert(sizeof(struct lrd_descriptor) == LRD_LINE, "a line");

static inline uint64_t lrd_live_make(uint32_t items, uint32_t bytes) { return (uint64_t)items << 32 | bytes; }
static inline uint32_t lrd_live_items(uint64_t live) { return (uint32_t)(live >> 32); }
static inline uint32_t lrd_live_bytes(uint64_t live) { return (uint32_t)live; }

/* ---- items ---- */
enum lrd_item_kind { LRD_ITEM_PLAIN };

struct lrd_item {
    lrd_u64 word0; /* value_len:24 | expires_ms:40; expires_ms is segment time, 0 = never */
    lrd_u64 word1; /* flags:32 | namespace:16 | key_len:12 | kind:4 */
    /* key, value */
};
static_assert(sizeof(struct lrd_item) == 16, "header of an item");

/* ---- lane words: what the worker says about a lane; it alone writes here ---- */
enum lrd_lane_state {
    LRD_LANE_FREE,
    LRD_LANE_PREPARED, /* handed to the keeper; its client has no answer and none is coming: a new worker drops it */
    LRD_LANE_LIVE,     /* its client may have got its answer: a new worker answers once more if `answered` is not set */
    LRD_LANE_DYING     /* its client is gone: apply what is committed, then free */
};

struct lrd_lane_words {
    /* line 0: changes with every record applied */
    lrd_u64 applied;  /* position: every record below is applied; acquire here pairs with the journal's release */
    lrd_u32 woken;    /* futex word: changes when waiters are woken */
    lrd_u32 pad0;
    lrd_u64 discarded; /* records that were refused: malformed, or of an older epoch */
    uint64_t pad1[5];
    /* line 1: changes rarely, so producers keep it cached */
    lrd_u32 parked;      /* odd: the writer looks at this ring only when its doorbell rings; changes each time */
    lrd_u32 incarnation; /* clients this lane has had */
    lrd_u32 state;       /* enum lrd_lane_state */
    lrd_u32 answered;
    lrd_u64 client_pid;  /* as the kernel told at attach; 0 where pids do not reach */
    lrd_u64 attached_ms;
    uint64_t pad2[4];
};
static_assert(offsetof(struct lrd_lane_words, parked) == 64, "line 1");
static_assert(sizeof(struct lrd_lane_words) == 128, "two lines");

/* ---- journal: worker only ---- */
#define LRD_STEPS 40u

struct lrd_step {
    lrd_u64 off;   /* of the word, from the segment's start */
    lrd_u64 value; /* its value after the step */
};

struct lrd_journal {
    /* line 0 */
    lrd_u64 n_steps; /* the valid word: 0 = no intent */
    lrd_u64 at_lane; /* lane + 1 of the record being looked at; 0 = none. Names the culprit after a fault. */
    lrd_u64 at_position;
    lrd_u64 applied_total; /* records applied since the segment was made; in every record's intent */
    uint64_t pad0[4];
    /* line 1: faults (deaths that were neither SIGKILL nor SIGTERM), written by the keeper between two workers */
    lrd_u64 faults;             /* in a row without a record applied in between */
    lrd_u64 fault_applied;      /* applied_total at the last */
    lrd_u64 fault_lane;         /* at_lane, at_position of the last */
    lrd_u64 fault_position;
    lrd_u64 fault_repeats;      /* of that lane and position */
    uint64_t pad1[3];
    /* line 2: the sweep and the order of blocks */
    lrd_u64 sweep_cursor; /* next bucket to look at */
    lrd_u64 sweep_owed;   /* buckets to look at before the sweep may rest */
    lrd_u64 sweeps;       /* completed */
    lrd_u64 sequence;     /* of the block opened last */
    uint64_t pad2[4];
    struct lrd_step step[LRD_STEPS];
};
static_assert(offsetof(struct lrd_journal, faults) == 64, "line 1");
static_assert(offsetof(struct lrd_journal, sweep_cursor) == 128, "line 2");
static_assert(offsetof(struct lrd_journal, step) == 192, "line 3");
static_assert(sizeof(struct lrd_journal) <= LRD_PAGE, "a page");

/* ---- counters: u64 each, in the order of counters.def ---- */
enum lrd_counter_id {
#define LRD_COUNTER(name, unit, help) LRD_C_##name,
#include "shm/counters.def"
#undef LRD_COUNTER
    LRD_N_COUNTERS
};

/* ---- lane: written by its client, read by the worker ---- */
enum lrd_record_kind { LRD_RECORD_SET = 1, LRD_RECORD_DELETE = 2 };

/* First bytes of a record; key and value follow at once. Payload never looks like a commit word: those are elsewhere. */
struct lrd_record {
    uint8_t kind;
    uint8_t pad0;
    uint16_t ns;
    uint16_t key_len;
    uint16_t pad1;
    uint32_t value_len;
    uint32_t flags;
    uint32_t epoch;      /* the namespace's, loaded before the claim */
    uint32_t pad2;
    uint64_t expires_ms; /* segment time, 0 = never */
    uint64_t hash_hint;  /* the client's hash of the key: the worker prefetches by it and computes its own */
};
static_assert(sizeof(struct lrd_record) == 40, "header of a record");

#define LRD_CELL 64u

/* commit word of the cell a record begins at: lap:40 | cells:16 | kind:8. The lap is position / n_cells + 1, so 0 is never valid. */
static inline uint64_t lrd_commit_make(uint64_t lap, uint32_t cells, uint32_t kind)
{
    return lap << 24 | (uint64_t)(cells & 0xffff) << 8 | kind;
}
static inline uint64_t lrd_commit_lap(uint64_t w) { return w >> 24; }
static inline uint32_t lrd_commit_cells(uint64_t w) { return (uint32_t)(w >> 8) & 0xffff; }

/* What threads of the client count, a line for each of the first 15; the last line is for all others. */
struct lrd_lane_stats {
    lrd_u64 word[8]; /* hits, misses, gets that started over, sets, deletes, writes refused because the ring stayed full, buckets looked at beyond home,
                        gets answered from the process's own ring */
};
static_assert(sizeof(struct lrd_lane_stats) == LRD_LINE, "a line");
#define LRD_STAT_LINES 16u

struct lrd_lane {
    /* line 0: fixed by the daemon before the client sees it, for people who look; nobody relies on it */
    uint64_t magic;
    uint32_t n_cells;
    uint32_t index;
    unsigned char pad0[48];
    /* line 1: producers */
    lrd_u64 tail; /* position of the next claim */
    unsigned char pad1[56];
    /* line 2: waiters */
    lrd_u32 waiting; /* set by who sleeps on lane_words.woken, taken by the writer */
    unsigned char pad2[60];
    /* lines 3-18 */
    struct lrd_lane_stats stats[LRD_STAT_LINES];
    unsigned char rest[LRD_PAGE - 3 * 64 - LRD_STAT_LINES * 64];
};
static_assert(offsetof(struct lrd_lane, tail) == 64, "line 1");
static_assert(offsetof(struct lrd_lane, waiting) == 128, "line 2");
static_assert(offsetof(struct lrd_lane, stats) == 192, "line 3");
static_assert(sizeof(struct lrd_lane) == LRD_PAGE, "a page");

/* Changes when a struct does; the version says it to people, the hash to programs built from different trees. */
#define LRD_LAYOUT_HASH                                                                                                          \
    ((uint32_t)(LRD_LAYOUT_VERSION * 2654435761u + sizeof(struct lrd_header) * 31u + sizeof(struct lrd_namespace) * 37u +        \
                sizeof(struct lrd_bucket) * 41u + sizeof(struct lrd_descriptor) * 43u + sizeof(struct lrd_item) * 47u +          \
                sizeof(struct lrd_lane_words) * 53u + sizeof(struct lrd_journal) * 59u + sizeof(struct lrd_record) * 61u +       \
                sizeof(struct lrd_lane) * 67u + (unsigned)LRD_N_COUNTERS * 71u + LRD_N_PARTS * 73u))

#endif
