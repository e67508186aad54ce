/* larder: a cache shared by the processes of one machine.
 *
 * Reads look into the daemon's memory: no syscall, no lock, no store to shared memory. Writes go to the daemon through a ring that
 * this process shares with it alone. Every function may be called from any thread at any time, except that no call may run beside
 * larder_close() of its handle, and none in a signal handler.
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
#ifdef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow" /* functions that are called as their structs: C++ tells them apart by the word struct */
#endif
#endif

#define LARDER_VERSION "0.1.0"
#define LARDER_KEY_MAX 1024

struct larder;    /* a handle: one lane, shared by the threads of this process; a process may have several handles */
struct larder_ns; /* a namespace seen through it; lives as long as its handle */

enum larder_result {
    LARDER_OK = 0,
    LARDER_MISS = 1,      /* no such item, or it has expired */
    LARDER_TOO_SMALL = 2, /* the value does not fit the buffer; its size was stored, nothing was copied */
    LARDER_BUSY = 3,      /* the ring stayed full until the deadline, or credit was not answered for until then, or too many views or results are held; nothing was written */
    LARDER_FULL = 4,      /* the namespace refuses eviction and is full; nothing was written. Others never say so */
    LARDER_DOWN = 5,      /* no live daemon; nothing was written. A worker that is being restarted does not count as that */
    LARDER_STALE = 6,     /* the daemon has been silent for longer than max_silence_ms */
    LARDER_TIMEOUT = 7,   /* not yet; what was waited for may still happen */
    LARDER_LOST = 8,      /* the daemon that had the ticket, the feed or the scan is gone, with everything in it */
    LARDER_DISCARDED = 9, /* the write was acknowledged and not applied: its namespace was reset in between, or it was not covered by credit any more */
    /* about namespaces */
    LARDER_NO_NAMESPACE = 10, /* there is none of that name (any more: another daemon may have other ones) */
    LARDER_NOT_ALLOWED = 11,  /* this process may not do that to the daemon */
    LARDER_EXISTS = 12,       /* there is one: a namespace of that name, made with other options; an item (add) */
    LARDER_NO_QUOTA = 13,     /* its minimum, maximum or feed does not fit, or there are too many namespaces */
    /* what conditional writes found; nothing was changed */
    LARDER_CHANGED = 14,      /* the item has another version */
    LARDER_OVERFLOW = 15,     /* the number would not fit 64 bits with sign */
    LARDER_NOT_A_NUMBER = 16, /* the value is no decimal number of that size */
    /* why larder_open() failed */
    LARDER_NO_SOCKET = 20, /* nothing listens at the path */
    LARDER_DENIED = 21,    /* not permitted to connect to it */
    LARDER_VERSION_MISMATCH = 22, /* the daemon speaks another layout version */
    LARDER_NOT_SEALED = 23, /* what it sent is not a sealed segment: not a larderd */
    LARDER_TOO_MANY = 24,  /* all its lanes are taken */
    LARDER_PROTOCOL = 25,  /* it sent something else than an answer */
    /* absence, leases, age */
    LARDER_ABSENT = 30, /* somebody has said that there is no value for this key (larder_set_absent()) */
    LARDER_LEASE = 31,  /* the caller has the lease: it is the one to load the value */
    LARDER_HELD = 32,   /* somebody else has the lease */
    LARDER_VOID = 33,   /* the token is not that of a lease any more; nothing was written */
    LARDER_OLD = 34,    /* here is the value, and it is older than its soft time to live */
    /* views, watching, scanning, results, breaker */
    LARDER_REVOKED = 40,   /* the view was held too long: what was read through it may have been anything */
    LARDER_OVERTAKEN = 41, /* events were lost: the feed has gone round */
    LARDER_NO_FEED = 42,   /* the namespace was made without a change feed */
    LARDER_END = 43,       /* the scan has been everywhere */
    LARDER_FORGOTTEN = 44, /* that result was collected or given up before */
    LARDER_DIVERTED = 45,  /* the write went to the fallback */
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
    uint32_t time_each;      /* times one call in so many (larder_latency()): a power of two up to 2^20; 0: 1,024; LARDER_NO_TIMES: none */
    uint32_t reserved;       /* 0 */
};
#define LARDER_NO_TIMES UINT32_MAX
#define LARDER_NO_WAIT UINT32_MAX
#define LARDER_OPEN_NO_POPULATE 1u /* do not map the segment's pages in advance: opening is faster, first touches of a page are slower */
#define LARDER_OPEN_WAIT_VISIBLE 2u /* every set and delete waits until it is visible to every process, as with LARDER_SET_WAIT, but those with LARDER_SET_ASYNC */

/* Attaches to a daemon. options may be NULL. 0 and *out, to be closed with larder_close(); or LARDER_NO_SOCKET, LARDER_DENIED,
 * LARDER_VERSION_MISMATCH, LARDER_NOT_SEALED, LARDER_TOO_MANY, LARDER_PROTOCOL, LARDER_TIMEOUT, -EINVAL (NULL; options: another size, unknown flags, time_each, reserved), -ENAMETOOLONG (socket),
 * -ENOMEM, -errno; then *out is NULL.
 * Cost: about 30 syscalls and 2 to 5 ms per GiB of segment. The segment is mapped read-only and shows up as shared memory in this process's RSS.
 *
 * After fork() the child's first call attaches anew by itself, with a lane of its own; parent and child may both go on. What the parent wrote is the child's to read
 * only when it is visible to every process. A child that finds no daemon gets LARDER_DOWN, from gets too, and tries again with later calls.
 *
 * When the daemon is gone with its keeper, reads go on with what they have, and writes return LARDER_DOWN as soon as that is noticed: at most 500 ms after the last
 * sign of life; what was acknowledged until then is lost. When another daemon listens at the same path, the handle attaches to it by itself, in the course of a call: a write, a wait, a get
 * that misses or would be stale, or one of a thousand that hit. The cache is empty then. */
int larder_open(struct larder **out, const struct larder_options *options);

/* Detaches and frees: lane, segment, descriptors. What was acknowledged is still applied. NULL is fine. No other call on this handle may be running.
 * A call on a closed handle, or on a namespace of it, does nothing: -EBADF (NULL and 0 where the result is none; a second close: nothing). So it is for the last 1,024 handles that this
 * process closed, whose names alone are kept (some 700 bytes each); what happens with older ones is not defined. */
void larder_close(struct larder *);

/* The namespace that every daemon has, named "default". Owned by the handle, stays the same for its life. NULL only for NULL and for a closed handle. */
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
    uint32_t feed_entries;   /* of its change feed, 64 bytes each, rounded up to a power of two, at least 64; 0: it has none (larder_watch_open()) */
    uint32_t reserved;       /* 0 */
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

/* Bytes of the largest item: key, value and 16 bytes of header. 0: NULL, a closed handle, or no daemon (after fork). */
size_t larder_item_max(struct larder *);

/* ---- reading ---- */

/* Copies the value of key into buffer (capacity bytes) and its size into *size (may be NULL).
 * 0; LARDER_MISS; LARDER_ABSENT (known to have no value: larder_set_absent()); LARDER_TOO_SMALL (*size is set, buffer untouched or partly overwritten; capacity 0 with a NULL buffer asks
 * for the size); LARDER_STALE; LARDER_DOWN (a forked child without a daemon); -EINVAL (key size, NULL); -EBADF (closed). When not 0 the buffer's content is undefined. A value past its soft time to
 * live is a value.
 * Sees every set, set_absent and delete of this handle, by any thread of this process, that returned before. A conditional write of its own (also a set with a token) that is not decided yet it waits for, up to
 * 100 ms; then it shows what is visible.
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
    int32_t result;      /* out: 0, LARDER_MISS, LARDER_TOO_SMALL, LARDER_ABSENT, LARDER_STALE, LARDER_DOWN, -EINVAL */
    int64_t soft_ttl_ms; /* out: time left until the value is stale, 0 if it is, LARDER_TTL_NONE if it has no soft time to live */
    uint32_t how;        /* in: LARDER_GET_... */
    uint32_t reserved;   /* 0 */
};
#define LARDER_GET_VISIBLE 1u /* what every process sees, with its version: waits for an own pending write of the key, up to 100 ms */

/* As larder_get(), with everything known about the item. item->size, buffer, capacity and how are set by the caller, reserved is 0; what is out is 0 when nothing was found. With LARDER_ABSENT
 * version, ttl_ms and flags are those of the entry that says so. Returns item->result; -EINVAL (also unknown bits of how, a size too small) leaves the item as it is.
 * With LARDER_GET_VISIBLE, after 100 ms in vain: what every process sees, which is older than this process's own write.
 * Also costs a look at the clock; with LARDER_GET_VISIBLE and a write of the key on its way what larder_wait() costs. */
int larder_get_item(struct larder_ns *, const void *key, size_t key_size, struct larder_item *item);

struct larder_key {
    size_t size;          /* sizeof(struct larder_key): the array's stride */
    const void *data;
    size_t data_size;
    uint64_t hash;        /* prepared by larder_key_prepare(); used if segment_id is the segment's, else computed */
    uint64_t segment_id;  /* 0: not prepared */
};

/* Fills hash and segment_id from data, for keys that are asked for again and again, in this namespace. data must not change afterwards: it would not be found.
 * 0; -EINVAL (key size, NULL, size too small); -EBADF (closed). Cost: a hash. */
int larder_key_prepare(struct larder_ns *, struct larder_key *key);

/* n gets at once: their memory accesses overlap, which is several times faster than one by one when the data is not in the CPU's cache.
 * keys[0].size and items[0].size are the strides. items[i].result says how each went, as larder_get_item(), -EINVAL too; *hits (may be NULL) counts the zeros.
 * Returns 0; LARDER_STALE, LARDER_DOWN, -EBADF (all results say so too); or -EINVAL (NULL, strides; no result is set). n 0 does nothing. Of items that ask for what is visible, the first that is
 * waited for in vain is the last that is waited for. */
int larder_get_many(struct larder_ns *, const struct larder_key *keys, struct larder_item *items, size_t n, size_t *hits);

/* ---- writing ---- */

typedef uint64_t larder_ticket; /* names a write of this handle; 0 is none */

#define LARDER_TTL_DEFAULT 0
#define LARDER_TTL_NONE (-1)

struct larder_set_options {
    size_t size;     /* sizeof(struct larder_set_options) */
    int64_t ttl_ms;  /* LARDER_TTL_DEFAULT: the namespace's; LARDER_TTL_NONE; else at most 2^40 - 1 less the segment's age */
    uint32_t flags;  /* stored with the item, given back by get_item; larder does not look at them */
    uint32_t how;    /* LARDER_SET_... */
    int64_t soft_ttl_ms; /* from then on the value is stale: larder_get_or_lease() has somebody load a newer one; 0: never. Costs 8 bytes an item */
    uint64_t token;      /* of a lease (larder_get_or_lease()): written only if the lease is still held, and ends it; 0: none */
    uint32_t timeout_ms; /* of waiting for visibility or for a result; 0: 1 s */
    uint32_t reserved;   /* 0 */
};
#define LARDER_SET_WAIT 1u    /* return when the write is visible to every process */
#define LARDER_SET_ALIGNED 2u /* the value begins at an address that is a multiple of 64, for who reads it by larder_view(). Costs up to 63 bytes an item, and now and then 56 more */
#define LARDER_SET_ASYNC 4u   /* return when it is acknowledged: larder_result() collects the result of what has one, and LARDER_OPEN_WAIT_VISIBLE does not count */

/* Writes an item. options and ticket may be NULL; value may be NULL if value_size is 0. The bytes are copied before the call returns.
 * 0: acknowledged: it will be applied, also if this process or the daemon's worker is killed now, in the order of this thread's calls, and this process
 * sees it from now on; other processes see it when it is applied, usually within a microsecond. LARDER_BUSY, LARDER_DOWN, LARDER_FULL, LARDER_NO_NAMESPACE: nothing was
 * written. LARDER_DIVERTED: one of the first three, and it went to the fallback (larder_set_fallback()). -EINVAL: key or options (a size below what this version knows, a bit of how that it does
 * not, reserved not 0, LARDER_SET_WAIT with LARDER_SET_ASYNC, a time beyond the end of segment time; soft_ttl_ms below 0, or not below the time to live, be that the namespace's);
 * -E2BIG: the item is larger than larder_item_max(); -EPROTO: the daemon's word about a namespace that refuses makes no sense; -EBADF: the handle was closed; nothing was
 * written. With LARDER_SET_WAIT also LARDER_TIMEOUT (after timeout_ms; it is acknowledged and will be applied), LARDER_LOST and LARDER_DISCARDED. *ticket is 0 if nothing was written.
 * With a token the set is a conditional write, with their results (see there), and LARDER_VOID: the token is not that of a lease, any more; nothing was written. It waits for the answer unless
 * LARDER_SET_ASYNC says otherwise, and never goes to the fallback.
 * Acknowledged writes are applied unless their namespace is reset first, or the daemon ends.
 * Cost: one compare-and-swap and the copy, to memory shared with the daemon only; one eventfd write if the daemon sleeps. About 480 instructions; with soft_ttl_ms or LARDER_SET_ALIGNED 40 bytes
 * more in the ring. In a namespace that refuses eviction two more compare-and-swaps, and
 * now and then a round trip to the daemon for credit, for as long as a write waits for room (busy_timeout_ms); with LARDER_NO_WAIT LARDER_BUSY instead, and credit later.
 * LARDER_FULL costs such a round trip each time. Credit that this process was given and has not used is not there for others until it closes or ends. */
int larder_set(struct larder_ns *, const void *key, size_t key_size, const void *value, size_t value_size,
               const struct larder_set_options *options, larder_ticket *ticket);

/* Deletes key, if there is such an item when the delete is applied. Results as larder_set() without options, but never LARDER_FULL or -E2BIG; whether there was one is not said. */
int larder_delete(struct larder_ns *, const void *key, size_t key_size, larder_ticket *ticket);

/* Waits until the write of that ticket is visible to every process. 0; LARDER_DISCARDED (it was not applied, see there; known until the ring has gone round once more, then 0);
 * LARDER_TIMEOUT; LARDER_LOST (it went with its daemon, or is the parent's); -EINVAL (not a ticket of this handle).
 * Spins for some microseconds, then sleeps. timeout_ms 0 only looks. */
int larder_wait(struct larder *, larder_ticket ticket, uint32_t timeout_ms);

/* Waits until everything that was acknowledged through this handle to any thread before the call is visible, or was discarded. 0; LARDER_TIMEOUT; LARDER_LOST: writes went with
 * their daemon before they were visible; -EINVAL (NULL). */
int larder_flush(struct larder *, uint32_t timeout_ms);

/* ---- many at once ---- */

struct larder_write {
    size_t size; /* sizeof(struct larder_write): the array's stride */
    const void *key;
    size_t key_size;
    const void *value;
    size_t value_size;
    const struct larder_set_options *options; /* NULL: none */
    larder_ticket ticket; /* out; 0: not written */
    int32_t result;       /* out: as larder_set() */
    uint32_t reserved;    /* 0 */
};

/* n sets at once, in the array's order: of several of one key the last counts. writes[0].size is the stride. writes[i].result and ticket are what larder_set() would have returned and
 * stored; what cannot be written (-EINVAL, -E2BIG, LARDER_FULL, LARDER_VOID ...) does not stop the others. *done (may be NULL) counts the zeros. busy_timeout_ms is that of the whole call: when the ring stayed
 * full until then, all that follow have LARDER_BUSY. Only for credit, in a namespace that refuses eviction, it begins anew with each write, until one is not answered in time. With a fallback each that is refused goes there, behind those before it.
 * Returns 0 if all results are 0, else the first in the array that is not; -EINVAL also for NULL or a stride too small or not a multiple of 8, then no result was touched. n may be 0.
 * LARDER_SET_WAIT in the options of some: waits for those when all are written. With a token: writes what stands before it, then that one alone, and waits for its answer.
 * Keys, values and options must stay as they are until the call returns.
 * Cost: one compare-and-swap and one look at the doorbell for up to 64 records, or as many as there is room for, at most half a ring at a time (beyond what one record takes); for each record
 * that of a set without these: the fence and the locked instruction are saved, the instructions are as many (about 520). */
int larder_set_many(struct larder_ns *, struct larder_write *writes, size_t n, size_t *done);
/* The same for deletes: key, key_size, result and ticket are used, value and options are not looked at. Results as larder_delete(). */
int larder_delete_many(struct larder_ns *, struct larder_write *writes, size_t n, size_t *done);

/* ---- conditional writes ----
 *
 * The daemon decides them, each at one point in its order of all writes, so each is atomic across all processes; and it happens once or not at all, also if this process or the
 * daemon's worker is killed in the middle. The calls wait for the decision, spinning for some microseconds, then asleep, for at most timeout_ms (1 s if that is 0 or there are no options).
 *
 * Results that all of them have, beside their own:
 *   0                                     it was done
 *   LARDER_TIMEOUT                        not decided yet: it may still happen. *ticket tells, by larder_result(), also when the worker was restarted; without a ticket nobody will know.
 *   LARDER_LOST                           its daemon went meanwhile, with all its items
 *   LARDER_DISCARDED                      the namespace was reset in between: it did not happen
 *   LARDER_BUSY                           no room in the ring within busy_timeout_ms, or 1,024 results wait to be collected: it did not and will not happen
 *   LARDER_DOWN, LARDER_NO_NAMESPACE      it did not and will not happen
 *   LARDER_FULL                           there is no room in a namespace that refuses eviction: the same
 *   -EINVAL                               NULL, key size, options (an unknown size or bit of how, a time to live that is negative or beyond the end of segment time, or what that
 *                                         function cannot use): the same
 *   -E2BIG                                the item would be larger than larder_item_max(): the same
 *   -EPROTO                               the daemon said nothing, or something that makes no sense
 *
 * ticket may be NULL. *ticket is 0 if nothing was written, else it names the write, for larder_wait() as well; the result has to be collected or forgotten only after LARDER_TIMEOUT
 * and with LARDER_SET_ASYNC. With that the call returns 0 as soon as the write is acknowledged, as larder_set() does; with a NULL ticket nobody learns what became of it. LARDER_SET_WAIT changes
 * nothing: who has a result sees what was done, as every process does. Both at once: -EINVAL. LARDER_OPEN_WAIT_VISIBLE does not make LARDER_SET_ASYNC wait.
 *
 * A get of this process waits for its own conditional writes of that key that are not decided yet, for up to 100 ms; then it answers from what is there.
 *
 * Cost: that of larder_set(), 40 bytes more in the ring, two compare-and-swaps in this process's memory for the place of the result, and the round trip: about a microsecond while the
 * daemon's writer is awake, a futex syscall after 50 us. */

/* Writes an item if there is none. LARDER_EXISTS: there is one; nothing was changed. A negative entry (larder_set_absent()) is none. options as for larder_set(), but token must be 0. */
int larder_add(struct larder_ns *, const void *key, size_t key_size, const void *value, size_t value_size,
               const struct larder_set_options *options, larder_ticket *ticket);

/* Writes an item if there is one; nothing of the old one is kept. LARDER_MISS: there is none; nothing was changed. options as larder_add(). */
int larder_replace(struct larder_ns *, const void *key, size_t key_size, const void *value, size_t value_size,
                   const struct larder_set_options *options, larder_ticket *ticket);

/* Writes an item if the one there has this version (larder_get_item(), larder_result()). LARDER_CHANGED: it has another one; LARDER_MISS: there is none; nothing was changed. An item
 * also changes its version when the daemon moves it to make room: get it anew and try again. version 0 (an item read before it was visible to others; see LARDER_GET_VISIBLE): -EINVAL.
 * options as larder_add(). */
int larder_cas(struct larder_ns *, const void *key, size_t key_size, const void *value, size_t value_size, uint64_t version,
               const struct larder_set_options *options, larder_ticket *ticket);

/* Adds bytes behind, or before, the value that is there; flags and time to live stay. LARDER_MISS: there is no item; nothing was changed. value_size 0 is fine: the version changes. Of options
 * only how and timeout_ms; ttl_ms, flags, soft_ttl_ms and token must be 0. The daemon copies the whole value: adding n bytes m times copies n * m * m / 2. */
int larder_append(struct larder_ns *, const void *key, size_t key_size, const void *value, size_t value_size,
                  const struct larder_set_options *options, larder_ticket *ticket);
int larder_prepend(struct larder_ns *, const void *key, size_t key_size, const void *value, size_t value_size,
                   const struct larder_set_options *options, larder_ticket *ticket);

/* Gives an item a new time to live: options->ttl_ms as in larder_set(), the namespace's without options. LARDER_MISS: there is none (it may have expired). flags, soft_ttl_ms and token
 * must be 0. The daemon copies the item: items do not change, so its version does. */
int larder_touch(struct larder_ns *, const void *key, size_t key_size, const struct larder_set_options *options, larder_ticket *ticket);

/* Deletes the item if it has this version. LARDER_CHANGED, LARDER_MISS, version 0 and -EINVAL as larder_cas(); options as larder_append(). */
int larder_delete_if(struct larder_ns *, const void *key, size_t key_size, uint64_t version,
                     const struct larder_set_options *options, larder_ticket *ticket);

struct larder_incr_options {
    size_t size;         /* sizeof(struct larder_incr_options) */
    int64_t initial;     /* with LARDER_INCR_CREATE: the number there is taken to be if there is no item; by is added to it */
    int64_t ttl_ms;      /* of an item that is created; an existing one keeps its own */
    uint32_t flags;      /* of an item that is created */
    uint32_t how;        /* LARDER_INCR_CREATE, LARDER_SET_ASYNC */
    uint32_t timeout_ms; /* 0: 1 s */
    uint32_t reserved;   /* 0 */
};
#define LARDER_INCR_CREATE 16u

/* Adds `by` to the number that the value is, in decimal: a minus sign or none, then digits. number may be NULL; *number is what came out, and is touched only with 0 and without
 * LARDER_SET_ASYNC. LARDER_MISS: there is no item, and LARDER_INCR_CREATE was not given; LARDER_OVERFLOW: the sum would not fit an int64_t; LARDER_NOT_A_NUMBER: the value is none that does;
 * nothing was changed. An item that is there keeps flags and time to live. larder_decr() subtracts; INT64_MIN there is -EINVAL. */
int larder_incr(struct larder_ns *, const void *key, size_t key_size, int64_t by, const struct larder_incr_options *options, int64_t *number,
                larder_ticket *ticket);
int larder_decr(struct larder_ns *, const void *key, size_t key_size, int64_t by, const struct larder_incr_options *options, int64_t *number,
                larder_ticket *ticket);

/* As larder_get_item(), and gives the item that was read a new time to live (ttl_ms as in larder_set()). 0: item->version and ttl_ms are those it has now. LARDER_MISS,
 * LARDER_ABSENT, LARDER_TOO_SMALL (*item as larder_get_item()), LARDER_STALE: nothing was changed. LARDER_CHANGED: others were quicker each time, for 1 s; nothing was changed.
 * LARDER_TIMEOUT: it may still be touched; *item is what was read. Others as above. Of item->how LARDER_GET_VISIBLE is implied. Cost: that of a get and a touch, which begin again
 * while somebody else writes the item in between. */
int larder_get_and_touch(struct larder_ns *, const void *key, size_t key_size, int64_t ttl_ms, struct larder_item *item);

/* Writes an item and reads the one that it replaced, with nothing in between. old is set up as for larder_get_item() and says what there was: old->result is 0, LARDER_MISS or LARDER_ABSENT.
 * 0: it is written. LARDER_TOO_SMALL: the old value does not fit old->buffer, old->value_size says how large that must be; nothing was changed. LARDER_STALE, LARDER_CHANGED (for timeout_ms) and
 * LARDER_TIMEOUT as larder_get_and_touch(). options as larder_add(), and not LARDER_SET_ASYNC. Cost: that of a get and a cas, which begin again while somebody else writes the item in between. */
int larder_exchange(struct larder_ns *, const void *key, size_t key_size, const void *value, size_t value_size,
                    const struct larder_set_options *options, struct larder_item *old);

struct larder_outcome {
    size_t size;      /* sizeof(struct larder_outcome) */
    uint64_t version; /* out: of the item that was written, or that stood in the way; of a lease the token; 0: none */
    int64_t number;   /* out: of incr and decr that were done */
    int32_t result;   /* out: what the call would have returned */
    uint32_t reserved; /* 0 */
};

/* Collects the result of a conditional write: one that was LARDER_SET_ASYNC with a ticket, or returned LARDER_TIMEOUT. 0: *outcome is filled, and the ticket's place in the lane is free
 * again; of several threads that ask for one ticket, one gets that. LARDER_TIMEOUT: not decided within timeout_ms (0: only looks); ask again, or forget it. LARDER_FORGOTTEN: it was collected or
 * forgotten before, or there is no result to collect: a plain write, one that returned its result. LARDER_LOST: the daemon went with it, or it is the parent's; -EINVAL (not a ticket
 * of this handle, NULL, size). At most 1,024 of a handle can be outstanding. Cost: two loads and a compare-and-swap in the process's memory, three loads in the lane; waits as
 * larder_wait(). A ticket that has no result, and one among tickets that are more than 4,096 cells of the ring apart, takes a look at all 1,024 places. */
int larder_result(struct larder *, larder_ticket ticket, uint32_t timeout_ms, struct larder_outcome *outcome);

/* Says that nobody will collect that result. It happens all the same. 0; LARDER_FORGOTTEN, LARDER_LOST, -EINVAL as larder_result(). No syscall. */
int larder_forget(struct larder *, larder_ticket ticket);

/* ---- zero-copy ---- */

struct larder_view {
    size_t size;       /* sizeof(struct larder_view) */
    const void *data;  /* out: the value, in the daemon's memory, until larder_view_end(); NULL: there is none */
    size_t value_size; /* out */
    uint64_t version;  /* out */
    int64_t ttl_ms;    /* out */
    uint32_t flags;    /* out */
    uint32_t reserved;
    uint64_t own[6];   /* the library's */
};

/* Shows a value where it lies, without copying it: view->data to view->value_size bytes, read-only, at whatever address (at a multiple of 64 if it was set with LARDER_SET_ALIGNED).
 * view->size is set by the caller; the struct is the caller's, is written by every call, and may be copied or moved, but ended once. An open view keeps showing the value
 * that the key had, whatever is set, deleted or reset meanwhile, and never keeps the daemon from anything: if its block is needed, or is wanted again after --view-ms of the daemon's
 * (1 s), it is overwritten, and larder_view_end() says so. So: what was read through a view is believed only after its end returned 0, and until then nothing is done with it
 * that cannot be undone; a length or an offset in the bytes may be any number. The daemon prefers other blocks while there are some, so views of microseconds are hardly ever
 * revoked; in a cache that is full and turns over fast a longer one may be revoked before --view-ms have passed.
 *
 * 0: to be ended by larder_view_end(), by any thread of this process; LARDER_MISS; LARDER_ABSENT; LARDER_BUSY: too many are open (49 in a handle, and one more for each of its first
 * 15 threads), or, for the first view of a handle, the ring stayed full for 1 s; LARDER_STALE; LARDER_DOWN (a forked child without a daemon; the first view of a handle whose
 * daemon is gone, or one that the daemon has taken for dead); LARDER_TIMEOUT: the first view of a handle had no answer for 1 s; -EPROTO: it had a wrong one; -EINVAL (NULL, key size, view->size); -EBADF (closed).
 * Anything but 0: view->data is NULL, and there is nothing to end.
 * Sees every set and delete of this handle that returned before: where one of that key is not visible yet it waits for that, up to 100 ms; then it shows what is visible.
 * Cost: as larder_get() without the copy, and one fence (6 ns); a thread's second view at a time two compare-and-swaps more; no store but in its own lane, no syscall. The first view of a handle asks the daemon to
 * look at its pins: a round trip. Each time the daemon opens a block it looks at the pins of all handles that ever had a view. */
int larder_view(struct larder_ns *, const void *key, size_t key_size, struct larder_view *view);

/* Ends a view: its address must not be looked at any more. 0: all that was seen through it was the value. LARDER_REVOKED: it may have been anything; also in a forked child that
 * inherited the view (nothing is mapped at its address there), and after the handle came to another daemon. -EINVAL (NULL, view->size, not open); -EBADF (closed).
 * Cost: some loads and stores in its own lane; no syscall. */
int larder_view_end(struct larder_view *view);

struct larder_hold {
    size_t size;     /* sizeof(struct larder_hold) */
    uint64_t own[7]; /* the library's */
};

/* As larder_get(), with its results and its cost, and notes in *hold where the item is, for larder_revisit(). hold->size is set by the caller; it is the caller's memory, holds
 * nothing of the daemon's, and needs no end. It holds something after 0 and LARDER_ABSENT, unless that was an own write that was not visible yet; else larder_revisit() says
 * LARDER_CHANGED. -EINVAL also for hold (NULL, size). */
int larder_get_hold(struct larder_ns *, const void *key, size_t key_size, void *buffer, size_t capacity, size_t *size, struct larder_hold *hold);

/* Whether a former larder_get_hold() would find the same item again: the caller's copy of the value still holds. ns: the namespace it came from, through this handle or another one of the
 * same daemon's, in this process or a forked child.
 * 0: it would. LARDER_CHANGED: it may not: another value was set, it was deleted, evicted or reset, it has expired, it was moved while room was made, a write of this process to that key, or to one that
 * cannot be told from it, is not visible yet, or the daemon is another one: get it again. LARDER_STALE; LARDER_DOWN (a forked child without a daemon); -EINVAL (NULL, hold->size); -EBADF (closed).
 * Counts as a hit, and leaves a mark as a get does: what is only revisited is kept. Does not see that an item's soft time to live has passed.
 * Cost: about ten loads and two stores to its own lane, 9 ns; a look at the clock more if the item expires; no hash, no search, no syscall. */
int larder_revisit(struct larder_ns *, const struct larder_hold *hold);

struct larder_reservation {
    size_t size;       /* sizeof(struct larder_reservation) */
    void *data;        /* out: value_size bytes, in the lane, to be written until larder_commit() or larder_abort() */
    size_t value_size; /* out: as asked for */
    uint64_t own[5];   /* the library's */
};

/* Sets in two halves, between which the value is built where the daemon will take it from: the application that serialises into `data` copies nothing itself.
 *
 * larder_reserve() does all of a set but the value: checks, takes credit where eviction is refused, claims cells of the ring, writes the key. 0: reservation->data has value_size bytes, contiguous, of
 * no particular alignment and with anything in them, the caller's until larder_commit() or larder_abort(), from any thread. Others as larder_set(): LARDER_BUSY, LARDER_FULL,
 * LARDER_DOWN, LARDER_NO_NAMESPACE, -EINVAL (also a token, or reservation NULL or its size too small), -E2BIG, -EPROTO, -EBADF: nothing is reserved, data is NULL; never LARDER_DIVERTED. Times to live begin here.
 *
 * Until it is committed or aborted, everything that this handle writes later stands behind it: it is acknowledged and this process reads it, but it is not applied, so larder_flush(), LARDER_SET_WAIT,
 * conditional writes, requests for credit and larder_ns_reset() wait until they give up, and once the ring (2 MiB, unless larderd has another --ring) is full, writes
 * return LARDER_BUSY: after some 6,000 sets of 256 bytes. So do not wait for anything in between, and be quick. Other processes are not concerned. A thread that never comes back leaves its handle's writes
 * standing until the process ends or closes it; then what was reserved is dropped, and what is behind it is applied. Its place in the order of writes is that of the reserve: a set of the same key
 * in between is the later one.
 *
 * Cost: that of a set without the copy. */
int larder_reserve(struct larder_ns *, const void *key, size_t key_size, size_t value_size, const struct larder_set_options *options,
                   struct larder_reservation *reservation);
/* Writes the item with the first value_size bytes of data; fewer than were reserved are fine (the ring's cells stay taken until it is applied; credit for the rest is given back). 0: acknowledged
 * as a set is, and the reservation is used up: data is NULL. *ticket (may be NULL) as of a set. With LARDER_SET_WAIT at the reserve, or LARDER_OPEN_WAIT_VISIBLE, also LARDER_TIMEOUT and
 * LARDER_DISCARDED. -EINVAL: more than was reserved (it still is), NULL, or there is no reservation (any more); LARDER_LOST: it went with its daemon, or is the parent's; -EBADF: the handle
 * was closed. After LARDER_LOST data may be written to for as long as the handle is open; it goes nowhere. */
int larder_commit(struct larder_reservation *reservation, size_t value_size, larder_ticket *ticket);
/* Gives it up: nothing is written, and the ring goes on. Results as larder_commit(). */
int larder_abort(struct larder_reservation *reservation);

/* ---- one flight ---- */

struct larder_lease_options {
    size_t size;       /* sizeof(struct larder_lease_options) */
    uint32_t lease_ms; /* how long the holder has to load the value; 0: 10 s; at most an hour */
    uint32_t wait_ms;  /* how long to wait for another's load; 0: 1 s; LARDER_NO_WAIT: not at all */
    uint32_t how;      /* LARDER_LEASE_... */
    uint32_t reserved; /* 0 */
};
#define LARDER_LEASE_FRESH 1u /* waits for a fresh value also where there is a stale one */

/* A get, and where there is no value, or a stale one (soft_ttl_ms of larder_set_options), the right to load it: of all callers in all processes one has it at a time, the lease.
 * *item is filled as by larder_get_item(). options may be NULL.
 * 0: a fresh value, or an own write that is not visible yet. LARDER_ABSENT: known to have none. LARDER_TOO_SMALL: as there, also where it is stale.
 * LARDER_LEASE: the caller has the lease, *token is its name; item->result says whether the stale value is at hand (0) or nothing (LARDER_MISS). It is to load the value and call larder_set() or
 * larder_set_absent() with the token in the options, or larder_lease_abort().
 * LARDER_OLD: the stale value, and another has the lease, or (not with LARDER_LEASE_FRESH) there is none to be had now.
 * LARDER_HELD (with LARDER_NO_WAIT), LARDER_TIMEOUT: another has the lease and has not set the value within wait_ms, or for so long the daemon's clock and ours do not agree whether a value is over; with LARDER_LEASE_FRESH the stale value may be in *item (item->result 0).
 * LARDER_TIMEOUT also if the daemon has not answered in a second: the lease may be ours, and ends by its own time.
 * LARDER_BUSY, LARDER_FULL, LARDER_DOWN, LARDER_STALE, LARDER_NO_NAMESPACE, -EPROTO as in other calls: nothing was asked for; -EINVAL (NULL, key, options, item); -EBADF.
 * -E2BIG: only with LARDER_LEASE_FRESH: the stale value is in *item, and as large as an item may be: a lease takes 24 bytes of it and does not fit. Without it that is LARDER_OLD, until a set without a token, or the
 * value's end; so keep items with a soft time to live 24 bytes below larder_item_max().
 * *token is 0 unless it is LARDER_LEASE.
 * A lease ends when its token is used; after lease_ms; when its holder closes the handle or ends, in whatever way, after what it had written was applied; and when the item is set, deleted or reset by anybody: then
 * the token is void, and what is written with it is refused (LARDER_VOID): a value that was loaded before a delete does not come back after it. It survives the daemon's worker. Where a lease
 * stands, gets miss, and a scan finds nothing. Threads of one process wait for each other as processes do; which of several waiters is next is left to chance.
 * Cost: that of larder_get_item() for a fresh value. For the lease a look at the item and a round trip to the daemon through the ring, a copy of the stale value there. Who waits: a round trip, then a sleep until it
 * is rung, that wakes every 50 ms to look again. */
int larder_get_or_lease(struct larder_ns *, const void *key, size_t key_size, struct larder_item *item,
                        const struct larder_lease_options *options, uint64_t *token);
/* Gives a lease back without a value: the next who asks, or waits, gets it. 0; LARDER_VOID: it was over; LARDER_BUSY, LARDER_DOWN, LARDER_NO_NAMESPACE: not sent; LARDER_TIMEOUT (a second; it may
 * still happen); -EINVAL (NULL, key, token 0), -EPROTO, -EBADF. Cost: a round trip to the daemon. */
int larder_lease_abort(struct larder_ns *, const void *key, size_t key_size, uint64_t token);

/* Says that there is no value for this key, for a time: a get returns LARDER_ABSENT until then, a set replaces it. ttl_ms as in larder_set(). Acknowledged and seen as a set, with the
 * results of one; LARDER_SET_WAIT waits until every process sees it, for timeout_ms. With a token it ends the lease and waits for the result, as the conditional writes above:
 * LARDER_VOID: the lease was over, and nothing was written. soft_ttl_ms must be 0, LARDER_SET_ALIGNED is -EINVAL. It takes room as an item without a value does. Cost: that of larder_set(). */
int larder_set_absent(struct larder_ns *, const void *key, size_t key_size, const struct larder_set_options *options, larder_ticket *ticket);

/* What a loader brings. All fields but size are its to set; they are zeros before. */
struct larder_loaded {
    size_t size;
    const void *value; /* the loader's; must stay until larder_fetch() has returned, or until release() was called */
    size_t value_size;
    int64_t ttl_ms, soft_ttl_ms;
    uint32_t flags;
    uint32_t reserved;
    void (*release)(void *context, const void *value); /* called once when the value is not needed any more, whatever the loader returned; NULL: nothing to do */
};

/* 0: loaded; LARDER_ABSENT: there is no such thing (ttl_ms is that of this knowledge); anything else: it failed, and larder_fetch() returns that. */
typedef int (*larder_loader)(void *context, const void *key, size_t key_size, struct larder_loaded *loaded);

/* The value of a key, loaded if need be, once for all processes: larder_get_or_lease(), and with a lease loader(context, key, key_size, &loaded), called in this thread, then a set or
 * larder_set_absent() under the lease. item and options as there.
 * 0: the value is in *item: a fresh one; what was just loaded; or, while another loads, the stale one (item->soft_ttl_ms is 0). LARDER_ABSENT, LARDER_TOO_SMALL (loaded and stored all the same).
 * What the loader returned, if that is neither 0 nor LARDER_ABSENT: the lease is given back; a stale value is in *item then (item->result 0). Its results should be others than those here.
 * LARDER_HELD, LARDER_TIMEOUT as there: another is at it for longer than the caller waits. -EINVAL (also: a NULL with a length was loaded), -EPROTO, -EBADF.
 * What cannot be stored is handed to the caller all the same, item->version is 0 then: it is too large, there is no room, the lease was void, a time is none. And where no lease can be had because of LARDER_BUSY, LARDER_FULL,
 * LARDER_DOWN, LARDER_STALE, LARDER_NO_NAMESPACE or -E2BIG the loader is called for this caller alone, and nothing is stored.
 * The loader may call anything of this library, but not for the same key: it would wait for itself. Cost: as larder_get_or_lease(), and a round trip to the daemon for the set. */
int larder_fetch(struct larder_ns *, const void *key, size_t key_size, larder_loader loader, void *context, struct larder_item *item,
                 const struct larder_lease_options *options);

/* ---- waiting and watching ---- */

/* Sleeps until the item of a key is another one than that of `version` (larder_get_item(); 0: there is none), and stores the version that it has now into *now (may be NULL; 0: none). A key that is known to be
 * absent, or that somebody has the lease to load, has none. What counts is what every process sees: an own write of the key that is not visible yet is waited for first. Two changes that lie
 * close together may be told as one, and a change back to nothing as none.
 * 0; LARDER_TIMEOUT (timeout_ms 0 only looks); LARDER_DOWN (no live daemon), LARDER_STALE, LARDER_NO_NAMESPACE; -EINVAL (NULL, key). *now is set with 0 and LARDER_TIMEOUT.
 * It may return 0 when the item was only moved while the daemon made room: its version is another one, its value is not. If another daemon takes over, that is a change too.
 * A write, a delete or a reset wakes the sleeper at once; an expiry is noticed by the clock, some milliseconds late; an eviction within 50 ms.
 * Cost: a look at the table if it has changed already. Else a record in the ring and its round trip to the daemon, which remembers it, and then a sleep, of which it wakes every 50 ms. The daemon remembers
 * 128 keys of a handle; beyond, a change is noticed within 50 ms. */
int larder_wait_change(struct larder_ns *, const void *key, size_t key_size, uint64_t version, uint32_t timeout_ms, uint64_t *now);

/* A place in the change feed of a namespace: a ring of events in the segment, which every process reads at its own pace. The daemon waits for nobody: who is too slow is overtaken, and told how many events it
 * missed. It takes a namespace that was made with a feed (larder_ns_options.feed_entries). A watch belongs to its handle and is for one thread at a time; a forked child has a copy, which goes on where
 * the parent stood, through the child's own attachment. */
struct larder_watch;

enum larder_event_kind {
    LARDER_EVENT_SET = 1,
    LARDER_EVENT_DELETE = 2,  /* also: is now known to be absent */
    LARDER_EVENT_EVICTED = 3, /* one item: its place in the table was needed */
    LARDER_EVENT_BLOCK = 4,   /* a block's worth of items went at once: evicted or expired. Which they were is not said */
    LARDER_EVENT_RESET = 5,   /* everything of before is gone */
};

#define LARDER_EVENT_KEY 32
struct larder_event {
    size_t size;       /* sizeof(struct larder_event): the array's stride */
    uint64_t hash;     /* of the key, as larder_key_prepare() has it; 0 if it is not about one key */
    uint64_t version;  /* of the item; 0: there is none any more */
    uint64_t when_ms;  /* since the segment was made */
    uint32_t kind;     /* enum larder_event_kind */
    uint32_t key_size; /* 0: not about one key */
    unsigned char key[LARDER_EVENT_KEY]; /* if key_size is not more */
};

/* Opens a watch at the end of the feed: what happens from now on. 0 and *out, to be closed with larder_watch_close() before or by larder_close(); LARDER_NO_FEED, LARDER_NO_NAMESPACE, LARDER_DOWN;
 * -EINVAL (NULL), -ENOMEM; then *out is NULL, if out is not. Cost: two loads and an allocation; no syscall as a rule. Nothing is stored that others see. */
int larder_watch_open(struct larder_ns *, struct larder_watch **out);

/* The next events, at most n, in order: *got of them. Waits up to timeout_ms for the first (0 only looks), never for a second. events[0].size is the stride. Every change that has an event has it exactly
 * once, also through a kill of the worker, and not before the change is visible; a write that was waited for (LARDER_SET_WAIT) has its event by then. An item that expired has none until its block goes
 * (LARDER_EVENT_BLOCK), an item that was only moved none at all.
 * 0; LARDER_TIMEOUT; LARDER_OVERTAKEN: *missed (may be NULL) events were overwritten before they were read, exactly so many, and the watch stands at the end of the feed: scan, or forget what was
 * derived, then go on; LARDER_LOST: another daemon has taken over, with nothing of the last one, and the watch stands at its end: said once; LARDER_DOWN, LARDER_NO_NAMESPACE, LARDER_NO_FEED
 * (the daemon that took over has another namespace of that name); -EINVAL (NULL, n 0, size).
 * Cost: 11 loads an event, no store but to the caller's memory. When there is none, a record in the ring and its round trip to the daemon, and then a sleep, of which it wakes every 50 ms. */
int larder_watch_next(struct larder_watch *, struct larder_event *events, size_t n, size_t *got, uint64_t *missed, uint32_t timeout_ms);

/* Ends a watch and frees it. NULL is fine. Cost: a lock that attaching takes; no syscall as a rule. */
void larder_watch_close(struct larder_watch *);

/* A descriptor for poll(), epoll and event loops, one for each handle: it becomes readable when something that was armed has happened, when the daemon ends, and when the handle has come to another one. It may become
 * readable for nothing. It stays the same for the life of the handle, and is the handle's: larder_close() closes it; nothing is to be read from it. A forked child asks for its own, and never uses the parent's.
 * What is armed is armed once, and what rings rings for the whole handle: when it is readable, first larder_event_clear(), then for everything that is waited for its own call (larder_wait(), larder_result(), larder_get_or_lease(),
 * larder_watch_next(), each with a timeout of 0), and for what has not happened yet arm again; then poll again. All threads share it.
 * The descriptor; -EINVAL (NULL); -errno. Cost: some syscalls the first time, then a lock. */
int larder_event_fd(struct larder *);

/* Makes it unreadable until something happens from now on. 0; -EINVAL (NULL; nobody has asked for the descriptor). If the daemon has ended, looks for another one. Cost: three or four syscalls. */
int larder_event_clear(struct larder *);

/* Rings when the write of that ticket is visible or was discarded, or, for several armed, when the first of them is: then arm the others again. Of whatever kind the write is: when it is visible it has its result, and a
 * lease was granted or refused. Survives a restart of the worker.
 * 0: armed; LARDER_CHANGED: it is so already, and nothing is armed for it; LARDER_LOST, LARDER_DOWN; -EINVAL (NULL, not a ticket of this handle, nobody has asked for the descriptor).
 * Cost: a lock, a fence and two stores in the own lane; to the daemon nothing until it rings, then a syscall. */
int larder_arm_ticket(struct larder *, larder_ticket ticket);

/* Rings when the item of a key changes, as larder_wait_change() would return, but for expiry: nobody tells of that, so poll no longer than the item lives. Also when an item is evicted for another's place nothing rings.
 * 0: armed; LARDER_CHANGED: it has another version than that; LARDER_DOWN, LARDER_BUSY (no room in the ring), LARDER_NO_NAMESPACE; LARDER_TIMEOUT (the daemon did not take it within 1 s): not armed; -EINVAL as above. A
 * handle has room for 128 keys; one more rings at once. Cost: a record in the ring and its round trip to the daemon. */
int larder_arm_change(struct larder_ns *, const void *key, size_t key_size, uint64_t version);

/* Rings when larder_watch_next() would have something. 0: armed; LARDER_CHANGED: it has; others as larder_arm_change(), LARDER_NO_FEED. Cost: the same. */
int larder_arm_watch(struct larder_watch *);

/* ---- scanning ---- */

/* Where a scan is. Belongs to the caller, who may keep it as long as he likes, copy it, or drop it: nobody else knows of it. */
struct larder_cursor {
    size_t size;     /* sizeof(struct larder_cursor) */
    uint64_t own[7]; /* zeros at the beginning of a scan; the library's after that */
};

struct larder_entry {
    size_t size;         /* sizeof(struct larder_entry): the array's stride */
    void *key;           /* in: where the key goes, the caller's */
    size_t key_capacity; /* in: LARDER_KEY_MAX is always enough */
    size_t key_size;     /* out: if more than the capacity, the key is not there */
    size_t value_size;   /* out */
    uint64_t version;    /* out */
    int64_t ttl_ms;      /* out */
    uint32_t flags;      /* out */
    uint32_t reserved;
};

struct larder_scan_options {
    size_t size;         /* sizeof(struct larder_scan_options) */
    const void *pattern; /* NULL: all keys */
    size_t pattern_size; /* at most 2,048 */
    uint32_t how;        /* 0: keys that begin with pattern; LARDER_SCAN_GLOB: keys that match it as a whole: * ? [a-z] [^a-z] \x */
    uint32_t most_buckets; /* looked at in one call, 64 bytes with up to 7 items each; 0: as many as it takes */
};
#define LARDER_SCAN_GLOB 1u

/* Hands out items of a namespace, in no order, up to n a call, from where the cursor is; the cursor goes on. options may be NULL; they and the pattern may change from call to call. All keys:
 *
 *   struct larder_cursor cursor = {.size = sizeof cursor};
 *   while ((r = larder_scan(ns, &cursor, NULL, entries, n, &got)) == 0)
 *       for (size_t i = 0; i < got; i++) ...
 *
 * Every item that is there from the first call to the last is handed out at least once: beside writers at full speed, whether it is overwritten or moved meanwhile or not, however long the scan
 * takes. It may be handed out more than once, and what comes or goes meanwhile may be or not. Shown is what every process sees: own writes that are not visible yet are
 * not (larder_flush()); neither is what has expired, what is known to be absent (larder_set_absent()), and what is only being loaded. No value is copied; the version is
 * that of larder_get_item().
 * entries[0].size is the stride; key and key_capacity of each are the caller's to set (NULL and 0: keys are not wanted). A key that is longer than its room is not copied, and key_size says how long
 * it is.
 * 0: *got items were handed out, and there may be more: n, or less when most_buckets were looked at (0 too), or at the end. LARDER_END: the scan has been everywhere; *got is 0, and so it stays.
 * LARDER_LOST: another daemon is there, with other items: begin again with zeros. LARDER_STALE, LARDER_DOWN as larder_get(); LARDER_NO_NAMESPACE; -EINVAL (NULL, sizes,
 * options, a pattern that is none: a [ without its ], nothing behind a \; a cursor of another namespace). Unless it is 0, the cursor stays where it was and *got is 0.
 * Cost: no syscall, no store to shared memory, no lock, nothing kept anywhere. Each bucket is a line of memory in order, each item of this namespace another one, fetched in advance: a scan looks
 * at the whole table, whatever the namespace has in it. It leaves no marks: what is scanned does not count as read. */
int larder_scan(struct larder_ns *, struct larder_cursor *cursor, const struct larder_scan_options *options, struct larder_entry *entries, size_t n,
                size_t *got);

/* ---- the breaker ---- */

/* What to do with writes that cannot be taken: they go to a fallback of the application's, a queue or a database, and while nothing but that is to be expected, at once.
 *
 * With a fallback set, a write of larder_set(), larder_delete(), larder_set_many() or larder_delete_many() that would have returned LARDER_BUSY, LARDER_FULL or LARDER_DOWN is handed to it,
 * and LARDER_DIVERTED is returned: it is in the fallback's hands and nowhere else. What has a result (conditional writes, a set with a token) and larder_reserve() return their refusal.
 *
 *   closed      as without a breaker, but for the above
 *   open        after so long (larder_breaker_options) of nothing but LARDER_BUSY or LARDER_DOWN from the handle, or LARDER_FULL from the namespace: writes go to the fallback without being tried
 *   half open   once in probe_ms one write is tried: if it is taken, the breaker closes, else that write goes to the fallback too
 *
 * LARDER_FULL opens it for that namespace alone, and not for deletes, which are never refused for it and make room; whoever diverts sets must therefore mind himself that a delete may reach the cache
 * before a set of the same key that he has yet to bring there. Bad arguments and items too large are not diverted. Without a fallback nothing of this happens.
 * Cost: one load and a branch for a write while nothing is refused. */
enum larder_write_kind { LARDER_WRITE_SET = 1, LARDER_WRITE_DELETE = 2 };

struct larder_diverted {
    size_t size;     /* sizeof(struct larder_diverted) */
    struct larder_ns *ns;
    uint32_t kind;   /* enum larder_write_kind */
    int32_t reason;  /* LARDER_BUSY, LARDER_FULL, LARDER_DOWN */
    const void *key;
    size_t key_size;
    const void *value;
    size_t value_size;
    const struct larder_set_options *options; /* as given; NULL: none, or a delete */
};

/* Runs in the thread whose write it is, once for each, outside all locks. *write and all that it points to are the caller's of that write: copy what is to stay. It may call larder, on this handle
 * too, but not larder_set_fallback() or larder_close(); a write that is diverted again comes here again. */
typedef void (*larder_fallback)(void *context, const struct larder_diverted *write);

struct larder_breaker_options {
    size_t size;       /* sizeof(struct larder_breaker_options) */
    uint32_t busy_ms;  /* opens after so long of nothing but LARDER_BUSY; 0: 20 ms */
    uint32_t full_ms;  /* the same for LARDER_FULL, by namespace; 0: at once */
    uint32_t down_ms;  /* the same for LARDER_DOWN; 0: at once */
    uint32_t probe_ms; /* while open, one write in so long is tried; 0: 100 ms */
};

enum larder_breaker_state { LARDER_BREAKER_CLOSED = 0, LARDER_BREAKER_OPEN = 1, LARDER_BREAKER_HALF_OPEN = 2 };

/* Sets the fallback of a handle, or with NULL none. options may be NULL and is copied. The breaker is closed then. A write under way in another thread may still go to the former one. A forked child has
 * the same, closed. 0; -EINVAL (NULL, size), -ENOMEM, -EBADF. Cost: an allocation that stays until the handle is closed. */
int larder_set_fallback(struct larder *, larder_fallback fallback, void *context, const struct larder_breaker_options *options);
/* enum larder_breaker_state for writes to this namespace: half open also while a probe is due. *diverted (may be NULL): writes to it that went to the fallback, of this process through this
 * handle; larder_stats() has the sum. -EINVAL (NULL), -EBADF. Cost: four loads and a look at the clock. */
int larder_breaker(struct larder_ns *, uint64_t *diverted);

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
    uint64_t diverted; /* writes that went to the fallback */
};

struct larder_ns_stats {
    size_t size; /* sizeof(struct larder_ns_stats) */
    uint64_t live_items, live_bytes, blocks, min_blocks, max_blocks, block_bytes;
    uint64_t sets, overwrites, deletes, delete_misses, evicted, evicted_unread, expired, reset_items, no_room; /* since it was made, of all processes */
    uint64_t resets, epoch;
    uint32_t policy; /* enum larder_policy */
    uint32_t reserved;
};

/* Fills *stats (its size set by the caller) with what the daemon counts for a namespace. Items of before a reset are not among the live ones, their blocks are until they are freed. 0; LARDER_NO_NAMESPACE
 * (there is none of that name any more), LARDER_DOWN, -EBADF: zeros; -EINVAL (NULL, size too small). Cost: a walk over the block descriptors; no syscall. */
int larder_ns_stats(struct larder_ns *, struct larder_ns_stats *stats);

/* Segment, namespaces, and this handle with its latencies, as one JSON object, with the names of struct larder_stats and larder_ns_stats:
 *   {"segment": {...}, "handle": {...}, "latency_ns": {"get": {"count": n, "p50": n, "p90", "p99", "p999", "p9999", "max", "sum"}, ... one for each enum larder_op}, "namespaces": [{"name": ...}, ...]}
 * (of the handle without own_; what was not timed has a count of 0 and nothing else). Names may be added. *size (may be NULL) is the length without the final NUL. 0; LARDER_TOO_SMALL (the buffer has as much as
 * fits, with a NUL, and is no JSON; *size is what it takes, which may be a few bytes more by the next call; capacity 0 with a NULL buffer asks for it); LARDER_DOWN, -EINVAL, -EBADF: *size is 0.
 * Cost: a walk over block descriptors and counters, 10 KiB of stack; no syscall, no allocation. */
int larder_stats_json(struct larder *, char *buffer, size_t capacity, size_t *size);

enum larder_op {
    LARDER_OP_GET = 0, /* larder_get(), larder_get_item() */
    LARDER_OP_GET_MANY = 1, /* a whole call */
    LARDER_OP_SET = 2, /* writes without a result: until they are acknowledged */
    LARDER_OP_RESULT = 3, /* conditional writes that were waited for: until the result */
    LARDER_OP_WAIT = 4, /* larder_wait(), larder_flush(), LARDER_SET_WAIT */
    LARDER_OP_VIEW = 5, /* larder_view() */
    LARDER_OP_LEASE = 6, /* larder_get_or_lease() */
    LARDER_OP_SCAN = 7, /* a call of larder_scan() */
    LARDER_OPS = 8,
};

/* How long calls of this handle took since it attached: *ns is the time that `quantile` (0 to 1) of those that were timed did not exceed, to within 1/32; 1 is the longest. One call in time_each
 * is timed from its beginning to its end (larder_options), by chance among its like, with the two looks at the clock (some 40 ns together); of gets it is one in so many keys, so that of larder_get_many() more calls are.
 * All other calls are counted together, by thread. 0; LARDER_MISS (none was timed yet), LARDER_DOWN (a forked child without a daemon), -EINVAL (NULL, op, quantile), -EBADF: *ns is 0.
 * The figures are a forked child's own, and begin anew with another daemon. Cost: 2,176 loads from the lane, no syscall. An untimed get pays nothing for it, an untimed other call three instructions. */
int larder_latency(struct larder *, int op, double quantile, uint64_t *ns);

/* Whether this library has a feature, by name: 1 or 0 (NULL, no such). A name once there stays: absent aligned append batches breaker cas event_fd feed fetch incr json latency lease ns_stats reserve
 * result revisit scan soft_ttl touch view visible wait_change. */
int larder_has(const char *feature);

/* Has the daemon ask the kernel about its own memory; `larderctl mem` shows what it found. 0: there are figures younger than the call; LARDER_BUSY, LARDER_DOWN: it was not
 * asked; LARDER_TIMEOUT: not yet; LARDER_LOST; LARDER_NOT_ALLOWED; -EINVAL (NULL); -EPROTO as larder_ns_create(). Cost: a round trip to the daemon, then a look each ms; the daemon's
 * clerk reads its smaps, which takes milliseconds. */
int larder_measure(struct larder *, uint32_t timeout_ms);

/* Fills *stats (its size set by the caller). 0; LARDER_DOWN (a forked child without a daemon: zeros); -EBADF (zeros); -EINVAL. A key known to be absent counts as a hit: it was answered. Counts are read one by one while others go on.
 * Cost: a walk over the block descriptors; no syscall. */
int larder_stats(struct larder *, struct larder_stats *stats);

#if defined(__GNUC__)
#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif
#endif
