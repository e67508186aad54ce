#include "shm/wait.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shm/clock.h"

/* How long a waiter looks before it sleeps. A busy writer needs about a microsecond, a parked one 20 to 40 to wake up; sleeping too would add as much again. */
#define SPIN_NS 50000u

/* A sleeper looks again this often, whoever stole its wake-up. */
#define NAP_MS 10u

void lrd_doorbell_write(int fd)
{
    uint64_t one = 1;
    /* EAGAIN would mean 2^64 unread rings: the bell is ringing all the same. */
    while (write(fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

#define WAKE_MOST 64

static void nap(const lrd_u32 *word, uint32_t seen, uint64_t ns)
{
    struct timespec t = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    /* Shared futexes work on read-only mappings. Any result is fine: the caller looks again. */
    syscall(SYS_futex, (const void *)word, FUTEX_WAIT, seen, &t, NULL, 0);
}

/* Acquire: pairs with the release of the applied position in an intent; the item is visible to whoever is told so. */
static bool is_applied(const struct lrd_lane_words *words, uint64_t position) { return lrd_load_acquire(&words->applied) > position; }

bool lrd_wait_applied(const struct lrd_lane_words *words, struct lrd_lane *lane, uint64_t position, uint32_t timeout_ms)
{
    if (is_applied(words, position))
        return true;
    if (timeout_ms == 0)
        return false;
    uint64_t start = lrd_clock_ns(), now = start, end = start + (uint64_t)timeout_ms * 1000000u;
    do {
        for (int i = 0; i < 32; i++) {
            if (is_applied(words, position))
                return true;
            lrd_pause();
        }
        now = lrd_clock_ns();
    } while (now - start < SPIN_NS && now < end);

    while (now < end) {
        uint32_t seen = lrd_load32_acquire(&words->woken);
        lrd_store32_relaxed(&lane->waiting, 1);
        lrd_fence_seq_cst(); /* the announcement before the look; pairs with the fence in lrd_wake_waiters() */
        if (is_applied(words, position))
            return true; /* the announcement costs the writer one wake-up for nobody */
        uint64_t left = end - now;
        nap(&words->woken, seen, left < NAP_MS * 1000000u ? left : NAP_MS * 1000000u);
        now = lrd_clock_ns();
    }
    return is_applied(words, position);
}

/* ---- the bell ---- */

/* A full queue is a bell that rings. A peer that has hung up hears nothing more. Never waits, whatever the peer has made of its end. */
void lrd_bell_ring(int bell)
{
    const char byte = 0;
    while (send(bell, &byte, sizeof byte, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EINTR) {
    }
}

/* Two threads may not do this at once: the lower position must not be lost. The writer may take the bit away at any time; then the bell rings, and everybody arms again. */
bool lrd_arm_position(const struct lrd_lane_words *words, struct lrd_lane *lane, uint64_t position)
{
    bool armed = (lrd_load32_relaxed(&lane->armed) & LRD_ARMED_POSITION) != 0;
    if (!armed || position < lrd_load_relaxed(&lane->armed_position))
        lrd_store_relaxed(&lane->armed_position, position);
    lrd_or32(&lane->armed, LRD_ARMED_POSITION); /* the position before the bit; pairs with the acquire in wake_armed() */
    lrd_fence_seq_cst(); /* the announcement before the look; pairs with the fence in lrd_wake_waiters() */
    return !is_applied(words, position);
}

void lrd_arm_watch(struct lrd_lane *lane) { lrd_or32(&lane->armed, LRD_ARMED_WATCH); }

static bool wake_armed(const struct lrd_lane_words *words, struct lrd_lane *lane)
{
    /* Acquire: pairs with the release of the bit in lrd_arm_position(). */
    if ((lrd_load32_acquire(&lane->armed) & LRD_ARMED_POSITION) == 0 || lrd_load_relaxed(&words->applied) <= lrd_load_relaxed(&lane->armed_position))
        return false;
    lrd_and32(&lane->armed, ~LRD_ARMED_POSITION); /* before the bell: who hears it arms again */
    return true;
}

static void wake_waiting(struct lrd_lane_words *words, struct lrd_lane *lane)
{
    /* Cleared before the wake-up: who announces itself later is for the next. */
    lrd_store32_relaxed(&lane->waiting, 0);
    /* Release: who sees the new value and looks at the position again sees it moved. */
    lrd_store32_release(&words->woken, lrd_load32_relaxed(&words->woken) + 1);
    /* Bounded: a client may hang any number of threads here. Whoever is left looks again after its nap, or with the next batch. */
    if (syscall(SYS_futex, (void *)&words->woken, FUTEX_WAKE, WAKE_MOST, NULL, NULL, 0) == WAKE_MOST)
        lrd_store32_relaxed(&lane->waiting, 1);
}

bool lrd_wake_waiters(struct lrd_lane_words *words, struct lrd_lane *lane)
{
    _Static_assert(offsetof(struct lrd_lane, waiting) % 8 == 0 && offsetof(struct lrd_lane, armed) == offsetof(struct lrd_lane, waiting) + 4, "one word");
    lrd_fence_seq_cst(); /* the applied position before the look; pairs with the fences in lrd_wait_applied() and lrd_arm_position() */
    if (lrd_likely(lrd_load_relaxed((const lrd_u64 *)(const void *)&lane->waiting) == 0))
        return false;
    if (lrd_load32_relaxed(&lane->waiting) != 0)
        wake_waiting(words, lane);
    return wake_armed(words, lane);
}

bool lrd_ring_sleepers(struct lrd_lane_words *words, struct lrd_lane *lane)
{
    /* Publishes the change it is for; pairs with the acquire in libclient/watch.c. */
    lrd_store32_release(&words->rung, lrd_load32_relaxed(&words->rung) + 1);
    syscall(SYS_futex, (void *)&words->rung, FUTEX_WAKE, WAKE_MOST, NULL, NULL, 0); /* bounded, as above: the others nap */
    /* The bit was set before the record that we had from the ring. */
    if ((lrd_load32_relaxed(&lane->armed) & LRD_ARMED_WATCH) == 0)
        return false;
    lrd_and32(&lane->armed, ~LRD_ARMED_WATCH);
    return true;
}
