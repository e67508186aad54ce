/* Every byte that processes share.
 *
 * The segment (a sealed memfd, one per daemon; the worker writes it, everybody else can only read):
 *
 *   header | namespaces | counters | lane words | credits | journal | pauses | departures | feeds | block words | descriptors | table | arena
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
 *   item    = value_len:24 expires_ms:40 | flags:32 namespace:16 key_len:12 kind:4 | optional words by kind | key | value | padding to a granule
 *
 *   A slot is dead when its generation is not its block's (low 16 bits) or the block's epoch is not its namespace's.
 *
 * A lane (a sealed memfd of its own for every attachment, written by that client and read by the worker, which trusts no byte of it):
 *
 *   lane header (with results, pins, histograms) | commit words (8 bytes per cell) | mark map (a byte per bucket, or none) | cells (64 bytes each; mapped twice in a row, so a
 *   record never wraps)
 *
 * A change of an offset changes LRD_LAYOUT_VERSION and tests/layout.txt.
 */
#ifndef LRD_LAYOUT_H
#define LRD_LAYOUT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/atomic.h"
#include "shm/histogram.h"

#define LRD_MAGIC UINT64_C(0x314745534452414c) /* "LARDSEG1" in memory */
#define LRD_LAYOUT_VERSION 3u

#define LRD_LINE 64u
#define LRD_PAGE 4096u
#define LRD_HUGE (2u << 20)

/* ---- limits ---- */
#define LRD_KEY_MAX 1024u
#define LRD_VALUE_MAX ((1u << 24) - 1)           /* value_len:24; half a block is the tighter limit */
#define LRD_EXPIRES_MAX ((UINT64_C(1) << 40) - 1) /* 34 years of milliseconds */
#define LRD_NAMESPACES 64u                       /* the last is never live: who has no namespace in a segment looks there */
#define LRD_NS_NOWHERE (LRD_NAMESPACES - 1)
#define LRD_NAMESPACE_NAME 32u                   /* bytes, with the final NUL */
#define LRD_SPARE_BLOCKS 2u /* free blocks to keep: one for clients while the other takes what is copied forward */
#define LRD_BLOCK_SHIFT_MIN 12u
#define LRD_BLOCK_SHIFT_MAX 21u

/* ---- header ---- */
enum lrd_part_id {
    LRD_PART_HEADER,
    LRD_PART_NAMESPACES,
    LRD_PART_COUNTERS,
    LRD_PART_LANES,
    LRD_PART_CREDITS,
    LRD_PART_JOURNAL,
    LRD_PART_PAUSES,
    LRD_PART_DEPARTURES,
    LRD_PART_FEEDS,
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
    uint32_t n_departures;  /* entries of that ring; a power of two */
    uint32_t mark_bytes;    /* of a lane's mark map: one for each bucket, in whole pages */
    uint32_t n_mark_maps;   /* lanes that may have one at a time; others sample */
    uint32_t feed_pages;    /* of all change feeds */
    uint32_t view_ms;       /* how long a view may keep a freed block from being used again */
    uint32_t pad;
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
    /* line 9: the worker as the kernel sees it, measured when a client asks (LRD_RECORD_MEASURE) */
    lrd_u64 measured;         /* measurements; stored last, with release */
    lrd_u64 measured_ms;      /* segment time of the last */
    lrd_u64 kernel_segment;   /* bytes resident, by mapping: the segment (huge pages counted) */
    lrd_u64 kernel_lanes;     /* all lanes */
    lrd_u64 kernel_private;   /* anonymous memory: heap, stacks, data */
    lrd_u64 kernel_files;     /* programs and libraries */
    lrd_u64 private_bytes;    /* what the writer knows it has allocated for its notes: part of kernel_private */
    unsigned char pad5[8];
    unsigned char rest[LRD_PAGE - 640];
};
static_assert(offsetof(struct lrd_header, geometry) == 64, "line 1");
static_assert(offsetof(struct lrd_header, parts) == 192, "line 3");
static_assert(offsetof(struct lrd_header, heartbeat_ms) == 448, "line 7");
static_assert(offsetof(struct lrd_header, page_bytes) == 512, "line 8");
static_assert(offsetof(struct lrd_header, measured) == 576, "line 9");
static_assert(sizeof(struct lrd_header) == LRD_PAGE, "a page");

/* ---- namespaces ---- */
enum lrd_ns_state { LRD_NS_NONE, LRD_NS_LIVE };

enum lrd_policy {
    LRD_POLICY_EVICT,  /* what is worth least makes room */
    LRD_POLICY_FIFO,   /* the oldest makes room */
    LRD_POLICY_REFUSE, /* nothing makes room: a write takes credit at the call, or is refused there */
    LRD_N_POLICIES
};

#define LRD_CREDITS 8u /* namespaces that refuse eviction, at most */
#define LRD_NO_CREDIT LRD_CREDITS

struct lrd_namespace {
    /* line 0: read by every get and set, written by the worker when something about the namespace changes. The state goes last. */
    lrd_u32 epoch; /* counts resets; starts at 1 */
    lrd_u32 state;
    lrd_u64 default_ttl_ms; /* 0: none */
    lrd_u32 policy;         /* enum lrd_policy */
    lrd_u32 credit;         /* its account in each lane, below LRD_CREDITS; LRD_NO_CREDIT unless it refuses */
    char name[LRD_NAMESPACE_NAME];
    lrd_u64 largest;        /* of a namespace that refuses: bytes of the largest item that credit was ever given for */
    /* line 1: written by the worker */
    lrd_u64 min_blocks;     /* never taken away by others; of a namespace that refuses both are the same */
    lrd_u64 max_blocks;
    lrd_u64 reset_every_ms; /* 0: not by the clock */
    lrd_u64 resets;         /* since it was made */
    lrd_u64 reset_ms;       /* segment time of the last */
    lrd_u64 reset_ns;       /* the longest that one took in the writer */
    lrd_u64 by_client;      /* 1: made by a client that is not an administrator */
    lrd_u64 feed;           /* its change feed: entries:32 (a power of two) | offset in the part, in pages:32; 0: it has none. Fixed */
};
static_assert(offsetof(struct lrd_namespace, min_blocks) == 64, "line 1");
static_assert(sizeof(struct lrd_namespace) == 128, "two lines");

/* What a namespace is made of: as a value in a record, and what programs pass around. */
struct lrd_ns_spec {
    char name[LRD_NAMESPACE_NAME];
    uint32_t policy;
    uint32_t feed_entries;   /* rounded up to a power of two; 0: no change feed */
    uint64_t min_bytes;      /* rounded up to whole blocks */
    uint64_t max_bytes;      /* rounded down; 0: all there is */
    uint64_t default_ttl_ms; /* 0: none */
    uint64_t reset_every_ms; /* 0: never */
};
static_assert(sizeof(struct lrd_ns_spec) == 72, "fixed");

/* ---- table ---- */
#define LRD_SLOTS 7u

struct lrd_bucket {
    lrd_u64 displaced; /* of the items whose home this is and that lie elsewhere: see table.h */
    lrd_u64 slot[LRD_SLOTS];
};
static_assert(sizeof(struct lrd_bucket) == LRD_LINE, "a line");

/* Fewer bits in tests that see a generation come round. */
#ifndef LRD_GENERATION_BITS
#define LRD_GENERATION_BITS 16u
#endif
#define LRD_GENERATION_MASK ((1u << LRD_GENERATION_BITS) - 1)

#define LRD_TAG_BITS 14u
#define LRD_TAG_MASK ((1u << LRD_TAG_BITS) - 1)

static inline uint64_t lrd_slot_make(uint32_t tag, uint32_t displacement, uint32_t generation, uint32_t location)
{
    return (uint64_t)tag << 50 | (uint64_t)displacement << 48 | (uint64_t)(generation & LRD_GENERATION_MASK) << 32 | location;
}
static inline uint32_t lrd_slot_tag(uint64_t slot) { return (uint32_t)(slot >> 50); }
static inline uint32_t lrd_slot_displacement(uint64_t slot) { return (uint32_t)(slot >> 48) & 3; }
static inline uint32_t lrd_slot_generation(uint64_t slot) { return (uint32_t)(slot >> 32) & LRD_GENERATION_MASK; }
static inline uint32_t lrd_slot_location(uint64_t slot) { return (uint32_t)slot; }

/* ---- blocks ---- */
static inline uint64_t lrd_block_word_make(uint32_t generation, uint32_t epoch) { return (uint64_t)generation << 32 | epoch; }
static inline uint32_t lrd_block_word_generation(uint64_t w) { return (uint32_t)(w >> 32); }
static inline uint32_t lrd_block_word_epoch(uint64_t w) { return (uint32_t)w; }

enum lrd_block_state { LRD_BLOCK_FREE, LRD_BLOCK_OPEN, LRD_BLOCK_FULL };

/* The worker's notes about a block; larderctl reads them. Readers of items never do. */
struct lrd_descriptor {
    lrd_u64 state;          /* enum lrd_block_state */
    lrd_u64 owner;          /* namespace, chain, and when generation_seen was noted: see below */
    lrd_u64 used;           /* bytes written, from the block's start; stored before a slot that lies below it */
    lrd_u64 live;           /* live items, their bytes, and how many of those are padding: see below */
    lrd_u64 latest_expiry;  /* ms; LRD_EXPIRES_MAX + 1 when an item never expires; stored before the slot */
    lrd_u64 sequence;       /* order of opening; 0 before the first */
    lrd_u32 generation_swept; /* no slot is left of a generation below this one */
    lrd_u32 generation_seen;  /* the same can be said of this one when two more sweeps were completed since it was noted */
    lrd_u64 freed;          /* how it was freed the last time: see below */
};
static_assert(sizeof(struct lrd_descriptor) == LRD_LINE, "a line");

/* A namespace's blocks stand in chains, oldest first: two queues by up to four classes of time to live. */
enum lrd_queue { LRD_QUEUE_SMALL, LRD_QUEUE_MAIN, LRD_N_QUEUES };
#define LRD_TTL_CLASSES 4u
#define LRD_CHAINS 8u /* queue * LRD_TTL_CLASSES + class */

/* owner: sweeps completed when generation_seen was noted:32 | chain:24 | namespace:8 */
static inline uint64_t lrd_owner_make(uint32_t ns, uint32_t chain, uint32_t sweeps) { return (uint64_t)sweeps << 32 | (uint64_t)chain << 8 | ns; }
static inline uint32_t lrd_owner_sweeps(uint64_t owner) { return (uint32_t)(owner >> 32); }
static inline uint32_t lrd_owner_ns(uint64_t owner) { return (uint32_t)owner & 0xff; }
static inline uint32_t lrd_owner_chain(uint64_t owner) { return (uint32_t)(owner >> 8) & (LRD_CHAINS - 1); }

/* live items:20 | their bytes, padding included:22 | padding:22. A block has at most 2^21 bytes. */
static inline uint64_t lrd_live_make(uint32_t items, uint32_t bytes, uint32_t padding) { return (uint64_t)items << 44 | (uint64_t)bytes << 22 | padding; }
static inline uint32_t lrd_live_items(uint64_t live) { return (uint32_t)(live >> 44); }
static inline uint32_t lrd_live_bytes(uint64_t live) { return (uint32_t)(live >> 22) & 0x3fffff; }
static inline uint32_t lrd_live_padding(uint64_t live) { return (uint32_t)live & 0x3fffff; }

/* ---- departures: why an item is not there any more ---- */
enum lrd_cause {
    LRD_CAUSE_NONE,
    LRD_CAUSE_EXPIRED,
    LRD_CAUSE_EVICTED,
    LRD_CAUSE_DELETED,
    LRD_CAUSE_RESET,
    LRD_CAUSE_NO_ROOM, /* all four buckets of a put were full */
    LRD_CAUSE_EMPTY,   /* of a block: nothing in it was alive */
    LRD_N_CAUSES
};

/* freed: cause:8 | namespace:8 | segment time in ms:40. A dead slot whose generation is the one before its block's died of this. */
static inline uint64_t lrd_freed_make(enum lrd_cause cause, uint32_t ns, uint64_t now_ms) { return (uint64_t)cause << 48 | (uint64_t)ns << 40 | now_ms; }
static inline enum lrd_cause lrd_freed_cause(uint64_t freed) { return (enum lrd_cause)(freed >> 48); }
static inline uint32_t lrd_freed_ns(uint64_t freed) { return (uint32_t)(freed >> 40) & 0xff; }
static inline uint64_t lrd_freed_ms(uint64_t freed) { return freed & LRD_EXPIRES_MAX; }

struct lrd_departure {
    lrd_u64 who;  /* home bucket:32 | tag:14 | namespace:6 | cause:4 | ever read:8 */
    lrd_u64 when; /* segment time in ms:40 | time to live that was left:24, in ms below 2^23, else 2^23 + seconds; all ones: would never have expired */
};

struct lrd_departures {
    lrd_u64 n; /* entries ever written; entry i is at i & (n_departures - 1). See departures.h. */
    uint64_t pad[7];
    /* the entries follow */
};
static_assert(sizeof(struct lrd_departures) == LRD_LINE, "a line");

/* ---- feeds: what changed in a namespace, for those who watch it. A ring for each namespace that was made with one; see feed.h. ---- */
enum lrd_event {
    LRD_EVENT_SET = 1,
    LRD_EVENT_DELETE,  /* also a lease that ended without a value */
    LRD_EVENT_EVICTED, /* one item: it gave its slot up */
    LRD_EVENT_BLOCK,   /* a block was freed with what was in it, of which the cause is in `flags`; one event for all its items */
    LRD_EVENT_RESET,   /* everything before it is gone */
};

#define LRD_FEED_KEY 32u
struct lrd_feed_entry {
    lrd_u64 hash;    /* of the key; 0 for a block or a reset */
    lrd_u64 version; /* of the item: generation:32 | location:32; 0: it has none any more */
    lrd_u64 what;    /* enum lrd_event:8 | enum lrd_cause:8 | key_len:16 */
    lrd_u64 when_ms;
    lrd_u64 key[LRD_FEED_KEY / 8]; /* if it fits */
};
static_assert(sizeof(struct lrd_feed_entry) == LRD_LINE, "a line");

struct lrd_feed {
    lrd_u64 claimed;   /* entries whose writing has begun */
    lrd_u64 published; /* entries that are whole; entry i is at i & (entries - 1) */
    uint64_t pad[6];
    /* the entries follow */
};
static_assert(sizeof(struct lrd_feed) == LRD_LINE, "a line");

/* ---- credit: what a lane may still write into a namespace that refuses eviction. Written by the worker. ---- */
struct lrd_credit {
    lrd_u64 granted_bytes; /* since the client attached */
    lrd_u64 granted_items;
    lrd_u64 used_bytes;    /* by records that were applied or discarded; what lies between is promised */
    lrd_u64 used_items;
};

struct lrd_lane_credit {
    struct lrd_credit of[LRD_CREDITS];
};
static_assert(sizeof(struct lrd_lane_credit) == 256, "four lines");

/* ---- pauses: time between two looks of the writer at its rings, ns ---- */
struct lrd_pauses {
    struct lrd_histogram own;       /* its own work */
    struct lrd_histogram scheduler; /* over 20 us, and another thread ran on its core meanwhile */
};

/* ---- items ---- */
enum lrd_item_kind {
    LRD_ITEM_PLAIN = 0,
    /* of a value, any of: */
    LRD_ITEM_SOFT = 1,    /* one word more: segment time in ms from which the value is stale */
    LRD_ITEM_LEASED = 2,  /* struct lrd_lease more: somebody is loading a newer value */
    LRD_ITEM_ALIGNED = 4, /* the value begins at the next multiple of 64 bytes of the arena behind the key; 56 bytes more, wherever that is */
    /* no value: */
    LRD_ITEM_ABSENT = 8,  /* the key is known to be absent */
    LRD_ITEM_LEASE = 9,   /* struct lrd_lease more: somebody is loading the value; a miss to all others */
    LRD_N_ITEM_KINDS
};

/* Optional words of an item, between header and key. */
struct lrd_lease {
    uint64_t token;       /* no other lease of this segment ever has it */
    uint64_t holder;      /* lane:32 | its incarnation:32 */
    uint64_t deadline_ms; /* segment time */
};
static_assert(sizeof(struct lrd_lease) == 24, "three words");

struct lrd_item {
    lrd_u64 word0; /* value_len:24 | expires_ms:40; expires_ms is segment time, 0 = never */
    lrd_u64 word1; /* flags:32 | namespace:16 | key_len:12 | kind:4 */
    /* optional words, key, value: see item.h */
};
static_assert(sizeof(struct lrd_item) == 16, "header of an item");

/* ---- lane words: what the worker says about a lane; it alone writes here ---- */
enum lrd_lane_state {
    LRD_LANE_FREE,
    LRD_LANE_PREPARED, /* handed to the keeper; its client has no answer and none is coming: a new worker drops it */
    LRD_LANE_LIVE,     /* its client may have got its answer: a new worker answers once more if `answered` is not set */
    LRD_LANE_DYING     /* its client is gone: apply what is committed, then free */
};

#define LRD_RIGHT_ADMIN 1u  /* client of root or of the daemon's user: makes and resets namespaces */
#define LRD_RIGHT_CREATE 2u /* may make namespaces within what --client-namespaces leaves, and reset those that clients made */

struct lrd_lane_words {
    /* line 0: changes with every record applied */
    lrd_u64 applied;  /* position: every record below is applied; acquire here pairs with the journal's release */
    lrd_u32 woken;    /* futex word: changes when waiters are woken */
    lrd_u32 rung;     /* changes when something happened that this lane's client had set a watch on (LRD_RECORD_WATCH) */
    lrd_u64 discarded; /* records that were refused: malformed, of an older epoch, or without credit */
    uint64_t pad1[5];
    /* line 1: changes rarely, so producers keep it cached */
    lrd_u32 parked;      /* odd: the writer looks at this ring only when its doorbell rings; changes each time */
    lrd_u32 incarnation; /* clients this lane has had */
    lrd_u32 state;       /* enum lrd_lane_state */
    lrd_u32 answered;
    lrd_u64 client_pid;  /* as the kernel told at attach; 0 where pids do not reach */
    lrd_u64 attached_ms;
    lrd_u64 rights;      /* LRD_RIGHT_...: what its client may ask of the daemon */
    lrd_u64 mark_bytes;  /* of its mark map; 0: it samples */
    uint64_t pad2[2];
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
    lrd_u64 leases;       /* token of the lease granted last; begins anywhere */
    uint64_t pad2[3];
    struct lrd_step step[LRD_STEPS];
};
static_assert(offsetof(struct lrd_journal, faults) == 64, "line 1");
static_assert(offsetof(struct lrd_journal, sweep_cursor) == 128, "line 2");
static_assert(offsetof(struct lrd_journal, step) == 192, "line 3");
static_assert(sizeof(struct lrd_journal) <= LRD_PAGE, "a page");

/* ---- counters: a row for each namespace, u64 each in the order of counters.def. What belongs to no namespace is counted in row 0. ---- */
enum lrd_counter_id {
#define LRD_COUNTER(name, unit, scope, help) LRD_C_##name,
#include "shm/counters.def"
#undef LRD_COUNTER
    LRD_N_COUNTERS
};

/* ---- lane: written by its client, read by the worker ---- */
enum lrd_record_kind {
    LRD_RECORD_SET = 1,
    LRD_RECORD_DELETE = 2,
    /* Requests: a waiter finds the result in the lane (struct lrd_lane, answer). At most one at a time in a lane. */
    LRD_RECORD_NS_CREATE = 3, /* value: struct lrd_ns_spec. No key. */
    LRD_RECORD_NS_RESET = 4,  /* ns. No key, no value. */
    LRD_RECORD_CREDIT = 5,    /* ns; value: struct lrd_credit_ask */
    LRD_RECORD_MEASURE = 6,   /* measure memory (lrd_header.measured). No key, no value. */
    LRD_RECORD_VIEWS = 7,     /* from here on the writer looks at this lane's pins. No key, no value. */
    LRD_RECORD_WATCH = 8,     /* ring this lane once when an item with hash_hint changes, or when this namespace's feed moves (value_len 0: item; flags 1: feed). No key. */
    /* Conditional writes: struct lrd_args stands between header and key; decided when they are applied, with a result (struct lrd_result) if they ask for one. */
    LRD_RECORD_PUT = 16,      /* a value, under a condition; also one with optional words */
    LRD_RECORD_INCR = 17,     /* no value */
    LRD_RECORD_APPEND = 18,   /* value: what is added */
    LRD_RECORD_PREPEND = 19,
    LRD_RECORD_TOUCH = 20,    /* expires_ms is the new expiry */
    LRD_RECORD_DELETE_IF = 21,
    LRD_RECORD_LEASE = 22,    /* the lease to load the value, if it is missing or stale: expires_ms is the lease's deadline */
    LRD_RECORD_LEASE_END = 23, /* gives a lease back without a value */
    LRD_RECORD_NOTHING = 24   /* cells that were reserved and are not needed: stepped over. Nothing of it is looked at. */
};

enum lrd_condition {
    LRD_IF_ANY,
    LRD_IF_ABSENT,  /* no live value */
    LRD_IF_PRESENT,
    LRD_IF_VERSION, /* args.version is that of the item */
    LRD_IF_LEASE    /* args.version is the token of the item's lease, and its deadline has not passed */
};

#define LRD_INCR_CREATE 1u /* args.flags */

struct lrd_args {
    uint32_t condition;   /* enum lrd_condition */
    uint32_t flags;
    uint64_t version;     /* or token */
    uint64_t soft_ms;     /* segment time from which the value is stale; with LRD_ITEM_SOFT */
    int64_t by;           /* of INCR */
    int64_t initial;      /* of INCR with LRD_INCR_CREATE: the number before `by` is added is this if there is no item */
};
static_assert(sizeof(struct lrd_args) == 40, "fixed");

struct lrd_credit_ask {
    uint64_t bytes;   /* that are needed at once */
    uint32_t items;
    uint32_t largest; /* bytes of the largest of them */
};
static_assert(sizeof(struct lrd_credit_ask) == 16, "fixed");

/* flags of LRD_RECORD_WATCH */
#define LRD_WATCH_FEED 1u /* when the namespace's feed moves, not for one hash */
#define LRD_WATCH_BELL 2u /* somebody sleeps on the bell: if the writer has no room left for it, the lane is rung at once */

/* Result of a request. */
enum lrd_answer {
    LRD_ANSWER_OK,
    LRD_ANSWER_DENIED,     /* this client may not */
    LRD_ANSWER_EXISTS,     /* there is a namespace of that name and it was made differently */
    LRD_ANSWER_NO_QUOTA,   /* minimum or maximum do not fit */
    LRD_ANSWER_TOO_MANY,   /* no room for another namespace, or another that refuses */
    LRD_ANSWER_NO_NS,      /* no such namespace */
    LRD_ANSWER_FULL,       /* no credit; no room in a namespace that refuses */
    LRD_ANSWER_MALFORMED,
    /* of conditional writes; nothing was changed */
    LRD_ANSWER_MISSING,    /* there is no item */
    LRD_ANSWER_PRESENT,    /* there is an item; of a lease: a fresh one */
    LRD_ANSWER_CHANGED,    /* the version is another one */
    LRD_ANSWER_OVERFLOW,
    LRD_ANSWER_NO_NUMBER,
    LRD_ANSWER_TOO_LARGE,  /* what would come out is larger than the largest item */
    LRD_ANSWER_HELD,       /* another client has the lease */
    LRD_ANSWER_VOID,       /* the token is not that of a lease (any more) */
    LRD_ANSWER_DISCARDED   /* its namespace was reset since the record was written */
};

/* First bytes of a record; key and value follow at once. Payload never looks like a commit word: those are elsewhere. */
struct lrd_record {
    uint8_t kind;
    uint8_t item_kind;   /* of PUT: LRD_ITEM_SOFT, LRD_ITEM_ALIGNED, or LRD_ITEM_ABSENT; else 0 */
    uint16_t ns;
    uint16_t key_len;
    uint16_t result;     /* of conditional writes: where the result goes, + 1; 0: nobody wants it */
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
#define LRD_COMMIT_DISCARDED 0xffu /* kind, stored by the writer before the applied position: the record was not applied */
static inline uint64_t lrd_commit_lap(uint64_t w) { return w >> 24; }
static inline uint32_t lrd_commit_kind(uint64_t w) { return (uint32_t)w & 0xff; }
static inline uint32_t lrd_commit_cells(uint64_t w) { return (uint32_t)(w >> 8) & 0xffff; }

/* What threads of the client count, a line for each of the first 15; the last line is for all others. */
struct lrd_lane_stats {
    lrd_u64 word[8]; /* hits, misses, gets that started over, sets, deletes, writes refused because the ring stayed full, buckets looked at beyond home,
                        gets answered from the process's own ring */
};
static_assert(sizeof(struct lrd_lane_stats) == LRD_LINE, "a line");
#define LRD_STAT_LINES 16u

/* A lane without a mark map notes the hash of one hit in LRD_SAMPLE_EACH here instead. */
#define LRD_SAMPLES 1024u
#define LRD_SAMPLE_EACH 16u

/* The result of a conditional write. The writer stores it before the intent that passes the record; it means something once the applied position has passed it. If the worker is
 * killed in between, the next one decides anew and stores it again. The client keeps who uses which (libclient/result.c); the writer stores where it is told. */
struct lrd_result {
    lrd_u64 position; /* of the record */
    lrd_u64 answer;   /* enum lrd_answer */
    lrd_u64 version;  /* of the item as it is now, or as it stopped the write; of a lease the token; 0: none */
    lrd_u64 number;   /* of INCR: what came out; of a lease that is HELD its deadline */
};
static_assert(sizeof(struct lrd_result) == 32, "two in a line");
#define LRD_RESULTS 1024u

/* A view's claim on a block: generation:32 | block + 1:32; 0: free. The client stores it, the writer exchanges it for LRD_PIN_REVOKED when it cannot wait any longer (pins.h). */
#define LRD_PINS 64u
#define LRD_PIN_REVOKED UINT64_MAX

/* How long calls took, ns: steps of 1/32. By the client; threads may lose each other's counts. */
#define LRD_LATENCY_BITS 5u
#define LRD_LATENCY_COUNTERS ((LRD_HISTOGRAM_VALUE_BITS - LRD_LATENCY_BITS + 1) << LRD_LATENCY_BITS)
#define LRD_LATENCIES 8u /* enum larder_op */
struct lrd_latency {
    lrd_u64 max_ns;
    lrd_u64 sum_ns;
    lrd_u64 pad[6];
    lrd_u32 n[LRD_LATENCY_COUNTERS];
};

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
    lrd_u32 armed;   /* LRD_ARMED_...: the writer rings the bell, the connection this client attached by (wait.h), once; then it takes the bit away */
    lrd_u64 armed_position; /* with LRD_ARMED_POSITION: when this one is applied */
    unsigned char pad2[48];
    /* line 3: the result of the last request, written by the writer before the applied position passes it */
    lrd_u64 answer_position; /* of the record */
    lrd_u64 answer;          /* enum lrd_answer */
    unsigned char pad3[48];
    /* lines 4-19 */
    struct lrd_lane_stats stats[LRD_STAT_LINES];
    /* lines 20-21: credit taken by the client's threads, bytes and items of each account; compared with what is granted */
    lrd_u64 taken_bytes[LRD_CREDITS];
    lrd_u64 taken_items[LRD_CREDITS];
    /* line 22 */
    lrd_u64 samples; /* ever written */
    unsigned char pad4[56];
    /* line 23: views */
    lrd_u64 pins_taken; /* bit i: pin[i] may be in use; set before it is stored. What has no bit is not looked at */
    lrd_u64 views;      /* not 0: this client has views; said before LRD_RECORD_VIEWS, for the next worker. 2: it has been answered */
    unsigned char pad5[48];
    unsigned char rest[LRD_PAGE - 24 * 64];
    lrd_u64 sample[LRD_SAMPLES];
    lrd_u64 pin[LRD_PINS];
    unsigned char rest2[LRD_PAGE - LRD_PINS * 8];
    struct lrd_result result[LRD_RESULTS];
    struct lrd_latency latency[LRD_LATENCIES];
    unsigned char rest3[9 * LRD_PAGE - LRD_LATENCIES * sizeof(struct lrd_latency)];
};
#define LRD_ARMED_POSITION 1u
#define LRD_ARMED_WATCH 2u /* when lane_words.rung changes */
static_assert(offsetof(struct lrd_lane, tail) == 64, "line 1");
static_assert(offsetof(struct lrd_lane, waiting) == 128, "line 2");
static_assert(offsetof(struct lrd_lane, answer_position) == 192, "line 3");
static_assert(offsetof(struct lrd_lane, stats) == 256, "line 4");
static_assert(offsetof(struct lrd_lane, taken_bytes) == 20 * 64, "line 20");
static_assert(offsetof(struct lrd_lane, samples) == 22 * 64, "line 22");
static_assert(offsetof(struct lrd_lane, pins_taken) == 23 * 64, "line 23");
static_assert(offsetof(struct lrd_lane, pin) == 3 * LRD_PAGE && offsetof(struct lrd_lane, result) == 4 * LRD_PAGE, "pages");
static_assert(sizeof(struct lrd_lane) == 21 * LRD_PAGE, "21 pages");

/* Changes when a struct does; the version says it to people, the hash to programs built from different trees. */
#define LRD_LAYOUT_HASH                                                                                                          \
    ((uint32_t)(LRD_LAYOUT_VERSION * 2654435761u + sizeof(struct lrd_header) * 31u + sizeof(struct lrd_namespace) * 37u +        \
                sizeof(struct lrd_bucket) * 41u + sizeof(struct lrd_descriptor) * 43u + sizeof(struct lrd_item) * 47u +          \
                sizeof(struct lrd_lane_words) * 53u + sizeof(struct lrd_journal) * 59u + sizeof(struct lrd_record) * 61u +       \
                sizeof(struct lrd_lane) * 67u + sizeof(struct lrd_ns_spec) * 79u + sizeof(struct lrd_lane_credit) * 83u + sizeof(struct lrd_args) * 89u + sizeof(struct lrd_feed_entry) * 97u + (unsigned)LRD_N_COUNTERS * 71u + LRD_N_PARTS * 73u))

#endif
