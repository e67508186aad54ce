/* Words that two processes share, and the only ways to touch them.
 *
 * A shared word is a struct, so that a bare `=` or `+` on it does not compile. The order stands in the name of every
 * access; the caller's comment names its pair. Nothing wider than 8 bytes is atomic here: a 16-byte atomic load is a
 * locked read-modify-write and faults on a read-only mapping.
 */
#ifndef LRD_ATOMIC_H
#define LRD_ATOMIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    _Atomic uint64_t v;
} lrd_u64;

typedef struct {
    _Atomic uint32_t v;
} lrd_u32;

typedef struct {
    _Atomic uint8_t v;
} lrd_u8;

_Static_assert(sizeof(lrd_u64) == 8 && sizeof(lrd_u32) == 4, "a shared word is exactly its value");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "shared words must be lock-free");

static inline uint64_t lrd_load_relaxed(const lrd_u64 *w) { return atomic_load_explicit(&w->v, memory_order_relaxed); }
static inline uint64_t lrd_load_acquire(const lrd_u64 *w) { return atomic_load_explicit(&w->v, memory_order_acquire); }
static inline void lrd_store_relaxed(lrd_u64 *w, uint64_t x) { atomic_store_explicit(&w->v, x, memory_order_relaxed); }
static inline void lrd_store_release(lrd_u64 *w, uint64_t x) { atomic_store_explicit(&w->v, x, memory_order_release); }

static inline uint32_t lrd_load32_relaxed(const lrd_u32 *w) { return atomic_load_explicit(&w->v, memory_order_relaxed); }
static inline uint32_t lrd_load32_acquire(const lrd_u32 *w) { return atomic_load_explicit(&w->v, memory_order_acquire); }
static inline void lrd_store32_relaxed(lrd_u32 *w, uint32_t x) { atomic_store_explicit(&w->v, x, memory_order_relaxed); }
static inline void lrd_store32_release(lrd_u32 *w, uint32_t x) { atomic_store_explicit(&w->v, x, memory_order_release); }

static inline uint8_t lrd_load8_relaxed(const lrd_u8 *w) { return atomic_load_explicit(&w->v, memory_order_relaxed); }
static inline void lrd_store8_relaxed(lrd_u8 *w, uint8_t x) { atomic_store_explicit(&w->v, x, memory_order_relaxed); }

/* Takes *expected's value to x; on failure *expected is what was found. Acquire and release on success, relaxed on failure. */
static inline bool lrd_cas(lrd_u64 *w, uint64_t *expected, uint64_t x)
{
    return atomic_compare_exchange_weak_explicit(&w->v, expected, x, memory_order_acq_rel, memory_order_relaxed);
}

static inline uint64_t lrd_fetch_add_relaxed(lrd_u64 *w, uint64_t n)
{
    return atomic_fetch_add_explicit(&w->v, n, memory_order_relaxed);
}

/* Bits of a word that both sides change. */
static inline uint32_t lrd_or32(lrd_u32 *w, uint32_t bits) { return atomic_fetch_or_explicit(&w->v, bits, memory_order_acq_rel); }
static inline uint32_t lrd_and32(lrd_u32 *w, uint32_t bits) { return atomic_fetch_and_explicit(&w->v, bits, memory_order_acq_rel); }
static inline uint64_t lrd_exchange(lrd_u64 *w, uint64_t x) { return atomic_exchange_explicit(&w->v, x, memory_order_acq_rel); }

static inline uint32_t lrd_exchange32(lrd_u32 *w, uint32_t x)
{
    return atomic_exchange_explicit(&w->v, x, memory_order_acq_rel);
}

/* Everything loaded before the fence is loaded before everything after it. ThreadSanitizer does not understand fences;
 * racy.h keeps what relies on them in relaxed atomics there. */
static inline void lrd_fence_acquire(void) { atomic_thread_fence(memory_order_acquire); }
static inline void lrd_fence_release(void) { atomic_thread_fence(memory_order_release); }
static inline void lrd_fence_seq_cst(void) { atomic_thread_fence(memory_order_seq_cst); }

/* A counter with one writer: no read-modify-write needed. Others may read it at any time, a stale look is fine. */
static inline void lrd_add_own(lrd_u64 *w, uint64_t n) { lrd_store_relaxed(w, lrd_load_relaxed(w) + n); }

static inline void lrd_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

#define lrd_likely(x) __builtin_expect(!!(x), 1)
#define lrd_unlikely(x) __builtin_expect(!!(x), 0)

#endif
