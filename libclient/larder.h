/* larder: a cache shared by the processes of one machine.
 *
 * Reads look into the daemon's memory: no syscall, no lock, no store to shared memory. Writes go to the daemon through a ring that
 * this process shares with it alone. Every function may be called from any thread at any time, except that nothing may be
 * called on a handle once larder_close() was called on it, and nothing from a signal handler.
 *
 * Results: 0 done; positive, an outcome to handle (enum larder_result); negative, -errno. Nothing here prints, exits, takes a signal, or
 * allocates memory on the way of a get or a set.
 *
 * Keys are bytes, 1 to LARDER_KEY_MAX of them. An item (key, value, 16 bytes, padding to 8) is at most half a block of the arena: 1 MiB unless
 * the segment is smaller than 256 MiB; larder_item_max() tells. Lengths are bytes, times are milliseconds.
 */
#ifndef LARDER_H
#define LARDER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The library is compiled with everything hidden but this. */
#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

#define LARDER_VERSION "0.1.0"
#define LARDER_KEY_MAX 1024

struct larder;    /* a handle: one lane, shared by the threads of this process; a process may have several handles */
struct larder_ns; /* a namespace seen through it; lives as long as its handle */

enum larder_result {
    LARDER_OK = 0,
    LARDER_MISS = 1,      /* no such item, or it has expired */
    LARDER_TOO_SMALL = 2, /* the value does not fit the buffer; its size was stored, nothing was copied */
    LARDER_BUSY = 3,      /* the ring stayed full until the deadline, or credit was not answered for until then; nothing was written */
    LARDER_FULL = 4,      /* the namespace refuses eviction and is full; nothing was written. Others never say so */
    LARDER_DOWN = 5,      /* no live daemon; nothing was written. A worker that is being restarted does not count as that */
    LARDER_STALE = 6,     /* the daemon has been silent for longer than max_silence_ms */
    LARDER_TIMEOUT = 7,   /* not yet; what was waited for may still happen */
    LARDER_LOST = 8,      /* the daemon that had the ticket is gone, with everything in it */
    LARDER_DISCARDED = 9, /* the write was acknowledged and not applied: its namespace was reset in between, or it was not covered by credit any more */
    /* about namespaces */
    LARDER_NO_NAMESPACE = 10, /* there is none of that name (any more: another daemon may have other ones) */
    LARDER_NOT_ALLOWED = 11,  /* this process may not do that to the daemon */
    LARDER_EXISTS = 12,       /* there is one of that name, made with other options */
    LARDER_NO_QUOTA = 13,     /* its minimum or maximum does not fit, or there are too many namespaces */
    /* why larder_open() failed */
    LARDER_NO_SOCKET = 20, /* nothing listens at the path */
    LARDER_DENIED = 21,    /* not permitted to connect to it */
    LARDER_VERSION_MISMATCH = 22, /* the daemon speaks another layout version */
    LARDER_NOT_SEALED = 23, /* what it sent is not a sealed segment: not a larderd */
    LARDER_TOO_MANY = 24,  /* all its lanes are taken */
    LARDER_PROTOCOL = 25,  /* it sent something else than an answer */
};

/* One line for a result of any function here, never NULL. Static memory; thread-safe; no syscall. */
const char *larder_strerror(int result);

/* The library's version, for example "0.1.0". */
const char *larder_version(void);

/* ---- opening ---- */

struct larder_options {
    size_t size;             /* sizeof(struct larder_options) */
    const char *socket;      /* NULL: $LARDER_SOCKET if set, else the first of /run/larder/default.sock and $XDG_RUNTIME_DIR/larder/default.sock that answers */
    uint32_t open_timeout_ms; /* how long to wait for a daemon that is not there yet; 0: only what an answer takes (at most 5 s) */
    uint32_t max_silence_ms; /* gets return LARDER_STALE once the daemon was silent for longer; 0: never; below 200 is taken as 200. A live one is heard every 100 ms */
    uint32_t busy_timeout_ms; /* how long a write waits for room in the ring, and for credit; 0: 1 ms; LARDER_NO_WAIT: not at all */
    uint32_t flags;          /* LARDER_OPEN_... */
};
#define LARDER_NO_WAIT UINT32_MAX
#define LARDER_OPEN_NO_POPULATE 1u /* do not map the segment's pages in advance: opening is faster, first touches of a page are slower */
#define LARDER_OPEN_WAIT_VISIBLE 2u /* every set and delete waits until it is visible to every process, as with LARDER_SET_WAIT */

/* Attaches to a daemon. options may be NULL. 0 and *out, to be closed with larder_close(); or LARDER_NO_SOCKET, LARDER_DENIED,
 * LARDER_VERSION_MISMATCH, LARDER_NOT_SEALED, LARDER_TOO_MANY, LARDER_PROTOCOL, LARDER_TIMEOUT, -EINVAL (options), -ENOMEM, -errno; then *out is NULL.
 * Cost: about 30 syscalls and 2 to 5 ms per GiB of segment. The segment is mapped read-only and shows up as shared memory in this process's RSS.
 *
 * After fork() the child's first call attaches anew by itself, with a lane of its own; parent and child may both go on. What the parent wrote is the child's to read
 * only when it is visible to every process. A child that finds no daemon gets LARDER_DOWN, from gets too, and tries again with later calls.
 *
 * When the daemon is gone with its keeper, reads go on with what they have, and writes return LARDER_DOWN as soon as that is noticed: at most 500 ms after the last
 * sign of life; what was acknowledged until then is lost. When another daemon listens at the same path, the handle attaches to it by itself, in the course of a call: a write, a wait, a get
 * that misses or would be stale, or one of a thousand that hit. The cache is empty then. */
int larder_open(struct larder **out, const struct larder_options *options);

/* Detaches and frees. What was acknowledged is still applied. NULL is fine. No other call on this handle may be running. */
void larder_close(struct larder *);

/* The namespace that every daemon has, named "default". Owned by the handle, stays the same for its life. NULL only for NULL. */
struct larder_ns *larder_default(struct larder *);

/* ---- namespaces ---- */

/* Opens a namespace that exists; its name has 1 to 31 of A-Z a-z 0-9 . _ -, the first neither . nor -. "default" is larder_default().
 * 0 and *out, owned by the handle until it is closed (the same pointer each time); LARDER_NO_NAMESPACE; LARDER_DOWN (a forked child without a daemon); -EINVAL (NULL, name);
 * -ENOMEM; -EMFILE (63 names in this handle). Anything but 0: *out is NULL, if out is not.
 * When the handle comes to another daemon, or a forked child to a lane of its own, the name is looked up there: without one of that name, gets miss and writes return
 * LARDER_NO_NAMESPACE, until somebody makes it: then writes find it, and gets after one that missed.
 * Cost: a walk over 63 states, and a lock that larder_ns_open() of other threads and attaching take; no syscall as a rule. A get or a set costs the same in every namespace that evicts. */
int larder_ns_open(struct larder *, const char *name, struct larder_ns **out);

enum larder_policy {
    LARDER_EVICT = 0,  /* what is worth least makes room */
    LARDER_FIFO = 1,   /* the oldest makes room */
    LARDER_REFUSE = 2, /* nothing makes room: a write for which there is none returns LARDER_FULL */
};

struct larder_ns_options {
    size_t size;             /* sizeof(struct larder_ns_options) */
    uint32_t policy;         /* enum larder_policy */
    uint32_t flags;          /* 0 */
    uint64_t min_bytes;      /* that others can never take away; rounded up to blocks. With LARDER_REFUSE not 0: at least 4 blocks */
    uint64_t max_bytes;      /* rounded down to blocks; 0: all there is. With LARDER_REFUSE the minimum, or 0, which means the same: all it may have is there */
    int64_t default_ttl_ms;  /* of sets with LARDER_TTL_DEFAULT; LARDER_TTL_NONE or 0: none; at most 3650 days */
    uint64_t reset_every_ms; /* the daemon resets it by the clock; 0: never; at most 3650 days */
};

/* Makes a namespace, or opens the one of that name if it was made with the same options. options may be NULL (evicts, no minimum); they and the name are copied.
 * 0 and *out, as larder_ns_open(); LARDER_EXISTS (made otherwise); LARDER_NOT_ALLOWED; LARDER_NO_QUOTA; LARDER_BUSY (no room in the ring for 1 s), LARDER_DOWN: nothing was
 * asked for; LARDER_TIMEOUT (1 s; it may still be made) and LARDER_LOST (the daemon went meanwhile); -EINVAL (NULL, name, options), -ENOMEM, -EMFILE as larder_ns_open(), which may
 * be after it was made; -EPROTO (the daemon answered something else than an answer). Anything but 0: *out is NULL, if out is not.
 * Cost: a round trip to the daemon through the ring, behind all writes in it. One thread of a handle at a time; others wait, for at most that second. */
int larder_ns_create(struct larder *, const char *name, const struct larder_ns_options *options, struct larder_ns **out);

/* Empties a namespace at one point of the daemon's order: whatever was acknowledged before, by any process, is gone or will be discarded; gets that begin
 * after this returned find nothing older. 0: done; LARDER_NOT_ALLOWED (neither root nor the daemon's user; with
 * --client-namespaces others may reset those that clients made);
 * LARDER_NO_NAMESPACE; LARDER_BUSY (no room in the ring for 1 s), LARDER_DOWN: nothing was done; LARDER_TIMEOUT (1 s): it will be; LARDER_LOST: the daemon went meanwhile,
 * with all its items; -EINVAL (NULL); -EPROTO as above. Cost: a round trip to the daemon as above; the daemon does one store, and memory is taken back afterwards. */
int larder_ns_reset(struct larder_ns *);

/* Bytes of the largest item: key, value and 16 bytes of header. 0: NULL, or no daemon (after fork). */
size_t larder_item_max(struct larder *);

/* ---- reading ---- */

/* Copies the value of key into buffer (capacity bytes) and its size into *size (may be NULL).
 * 0; LARDER_MISS; LARDER_TOO_SMALL (*size is set, buffer untouched or partly overwritten; capacity 0 with a NULL buffer asks for the size);
 * LARDER_STALE; LARDER_DOWN (a forked child without a daemon); -EINVAL (key size, NULL). When not 0 the buffer's content is undefined.
 * Sees every set and delete of this handle, by any thread of this process, that returned before.
 * Cost: a hash, 1 to 4 cache lines of the table (1.3 on average), the item's lines; no store but in its own lane (counters, and a
 * mark that the item was read), no syscall. */
int larder_get(struct larder_ns *, const void *key, size_t key_size, void *buffer, size_t capacity, size_t *size);

struct larder_item {
    size_t size;         /* sizeof(struct larder_item); in an array also its stride */
    void *buffer;        /* in: where the value goes, the caller's */
    size_t capacity;     /* in: bytes there */
    size_t value_size;   /* out: bytes of the value */
    uint64_t version;    /* out: changes with every write of the item; 0 when it was read from the own ring before it was visible */
    int64_t ttl_ms;      /* out: time left, LARDER_TTL_NONE if it never expires */
    uint32_t flags;      /* out: as given to set */
    int32_t result;      /* out: 0, LARDER_MISS, LARDER_TOO_SMALL, LARDER_STALE, LARDER_DOWN, -EINVAL */
};

/* As larder_get(), with everything known about the item. item->size, buffer and capacity are set by the caller; what is out is 0 when nothing was found.
 * Also costs a look at the clock. */
int larder_get_item(struct larder_ns *, const void *key, size_t key_size, struct larder_item *item);

struct larder_key {
    size_t size;          /* sizeof(struct larder_key): the array's stride */
    const void *data;
    size_t data_size;
    uint64_t hash;        /* prepared by larder_key_prepare(); used if segment_id is the segment's, else computed */
    uint64_t segment_id;  /* 0: not prepared */
};

/* Fills hash and segment_id from data, for keys that are asked for again and again, in this namespace. data must not change afterwards: it would not be found.
 * 0; -EINVAL. */
int larder_key_prepare(struct larder_ns *, struct larder_key *key);

/* n gets at once: their memory accesses overlap, which is several times faster than one by one when the data is not in the CPU's cache.
 * keys[0].size and items[0].size are the strides. items[i].result says how each went; *hits (may be NULL) counts the zeros.
 * Returns 0, LARDER_STALE or LARDER_DOWN (all results say so too), or -EINVAL (NULL, a stride too small). */
int larder_get_many(struct larder_ns *, const struct larder_key *keys, struct larder_item *items, size_t n, size_t *hits);

/* ---- writing ---- */

typedef uint64_t larder_ticket; /* names a write of this handle; 0 is none */

#define LARDER_TTL_DEFAULT 0
#define LARDER_TTL_NONE (-1)

struct larder_set_options {
    size_t size;     /* sizeof(struct larder_set_options) */
    int64_t ttl_ms;  /* LARDER_TTL_DEFAULT: the namespace's; LARDER_TTL_NONE; else at most 2^40 - 1 less the segment's age */
    uint32_t flags;  /* stored with the item, given back by get_item; larder does not look at them */
    uint32_t how;    /* LARDER_SET_WAIT */
};
#define LARDER_SET_WAIT 1u /* return when the write is visible to every process */

/* Writes an item. options and ticket may be NULL; value may be NULL if value_size is 0. The bytes are copied before the call returns.
 * 0: acknowledged: it will be applied, also if this process or the daemon's worker is killed now, in the order of this thread's calls, and this process
 * sees it from now on; other processes see it when it is applied, usually within a microsecond. LARDER_BUSY, LARDER_DOWN, LARDER_FULL, LARDER_NO_NAMESPACE: nothing was
 * written. -EINVAL: key or options; -E2BIG: the item is larger than larder_item_max(); -EPROTO: the daemon's word about a namespace that refuses makes no sense; nothing was
 * written. With LARDER_SET_WAIT also LARDER_TIMEOUT (after 1 s; it is acknowledged and will be applied), LARDER_LOST and LARDER_DISCARDED. *ticket is 0 if nothing was written.
 * Acknowledged writes are applied unless their namespace is reset first, or the daemon ends.
 * Cost: one compare-and-swap and the copy, to memory shared with the daemon only; one eventfd write if the daemon sleeps. In a namespace that refuses eviction two more, and
 * now and then a round trip to the daemon for credit, for as long as a write waits for room (busy_timeout_ms); with LARDER_NO_WAIT LARDER_BUSY instead, and credit later.
 * LARDER_FULL costs such a round trip each time. Credit that this process was given and has not used is not there for others until it closes or ends. */
int larder_set(struct larder_ns *, const void *key, size_t key_size, const void *value, size_t value_size,
               const struct larder_set_options *options, larder_ticket *ticket);

/* Deletes key, if there is such an item when the delete is applied. Results as larder_set(), but never LARDER_FULL or -E2BIG; whether there was one is not said. */
int larder_delete(struct larder_ns *, const void *key, size_t key_size, larder_ticket *ticket);

/* Waits until the write of that ticket is visible to every process. 0; LARDER_DISCARDED (it was not applied, see there; known until the ring has gone round once more, then 0);
 * LARDER_TIMEOUT; LARDER_LOST (it went with its daemon, or is the parent's); -EINVAL (not a ticket of this handle).
 * Spins for some microseconds, then sleeps. timeout_ms 0 only looks. */
int larder_wait(struct larder *, larder_ticket ticket, uint32_t timeout_ms);

/* Waits until everything that was acknowledged through this handle to any thread before the call is visible, or was discarded. 0; LARDER_TIMEOUT; LARDER_LOST: writes went with
 * their daemon before they were visible; -EINVAL (NULL). */
int larder_flush(struct larder *, uint32_t timeout_ms);

/* ---- looking ---- */

struct larder_stats {
    size_t size; /* sizeof(struct larder_stats) */
    /* the segment */
    uint64_t segment_bytes, table_bytes, arena_bytes;
    uint64_t live_items, live_bytes;
    uint64_t slots, slots_used;
    uint64_t sets, deletes, evicted, no_room; /* applied by the daemon, of all processes, since the segment was made */
    uint64_t silence_ms;                      /* since the writer's last sign of life */
    uint64_t worker_count;                    /* workers there have been: 1 + restarts */
    /* this handle */
    uint64_t gets, hits, restarts, own_sets, own_deletes, busy, lines, own_reads;
};

/* Has the daemon ask the kernel about its own memory; `larderctl mem` shows what it found. 0: there are figures younger than the call; LARDER_BUSY, LARDER_DOWN: it was not
 * asked; LARDER_TIMEOUT: not yet; LARDER_LOST; LARDER_NOT_ALLOWED; -EINVAL (NULL); -EPROTO as larder_ns_create(). Cost: a round trip to the daemon, then a look each ms; the daemon's
 * clerk reads its smaps, which takes milliseconds. */
int larder_measure(struct larder *, uint32_t timeout_ms);

/* Fills *stats (its size set by the caller). 0; LARDER_DOWN (a forked child without a daemon: zeros); -EINVAL. Counts are read one by one while others go on.
 * Cost: a walk over the block descriptors; no syscall. */
int larder_stats(struct larder *, struct larder_stats *stats);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif
#endif
