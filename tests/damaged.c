/* Hands out a segment in which one thing is wrong, as the keeper hands out good ones: for tests of what larderctl finds.
 *
 *   damaged SOCKET KIND     listens on SOCKET.peek until its standard input ends; says "ready" first; "damaged" alone lists the kinds
 *
 * More items than table and arena hold, some written anew: there are displaced, dead, evicted ones, and some that had no room. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm/clock.h"
#include "shm/hello.h"
#include "tests/segment_fixture.h"

#define N_PAIRS 400u
#define N_BLOCKS 8u
#define BLOCK_SHIFT 16u
#define N_KEYS 8000u
#define N_AGAIN 1000u /* of the last ones */

static struct fixture_item numbered(uint32_t i, char key[32], char value[128])
{
    snprintf(key, 32, "key %u", i);
    memset(value, 'v', 128);
    return (struct fixture_item){.key = key, .key_len = (uint32_t)strlen(key), .value = value, .value_len = i % 128, .flags = i};
}

static void fill(struct fixture *f)
{
    char key[32], value[128];
    for (uint32_t i = 0; i < N_KEYS + N_AGAIN; i++) {
        struct fixture_item item = numbered(i < N_KEYS ? i : i - N_AGAIN, key, value);
        fixture_put(f, &item);
    }
}

/* A place in the table. */
struct place {
    lrd_u64 *at;
    uint64_t slot;
    uint32_t bucket;
    uint32_t home;
};

static struct place place_of(struct fixture *f, uint32_t bucket, unsigned i)
{
    lrd_u64 *at = &f->store.buckets[bucket].slot[i];
    uint64_t slot = lrd_load_relaxed(at);
    return (struct place){at, slot, bucket, lrd_hash_bucket(bucket, lrd_slot_tag(slot), lrd_slot_displacement(slot), f->store.r.n_pairs)};
}

static bool is_live(const struct fixture *f, uint64_t slot)
{
    return slot != 0 && !lrd_slot_dead(slot, lrd_load_relaxed(&f->store.block_words[lrd_arena_block(&f->store.r, slot)]), 1);
}

/* The first live item that is displaced, or that is not. */
static struct place live(struct fixture *f, bool displaced)
{
    for (uint32_t b = 0; b < f->store.r.n_pairs * 2; b++) {
        for (unsigned i = 0; i < LRD_SLOTS; i++) {
            struct place p = place_of(f, b, i);
            if (is_live(f, p.slot) && (lrd_slot_displacement(p.slot) != 0) == displaced)
                return p;
        }
    }
    abort(); /* then the numbers above are wrong */
}

static struct lrd_item *item_at(struct fixture *f, uint64_t slot)
{
    return (struct lrd_item *)(void *)(f->store.arena + lrd_arena_off(&f->store.r, slot));
}

/* ---- kinds of damage ---- */

static void none(struct fixture *f) { (void)f; }

static void key_changed(struct fixture *f) { *((unsigned char *)(item_at(f, live(f, false).slot) + 1)) ^= 1; }

static void length_changed(struct fixture *f)
{
    struct lrd_item *item = item_at(f, live(f, false).slot);
    lrd_store_relaxed(&item->word0, lrd_load_relaxed(&item->word0) | UINT64_C(1) << 63);
}

static void location_outside(struct fixture *f)
{
    struct place p = live(f, false);
    lrd_store_relaxed(p.at, p.slot | UINT32_MAX);
}

/* The home of a displaced item does not announce it: it is lost to readers. */
static void word_low(struct fixture *f) { lrd_store_relaxed(&f->store.buckets[live(f, true).home].displaced, 0); }

static void word_high(struct fixture *f)
{
    lrd_u64 *word = &f->store.buckets[live(f, true).home].displaced;
    lrd_store_relaxed(word, lrd_load_relaxed(word) + 1);
}

/* The same key once more, in another slot. */
static void duplicate(struct fixture *f)
{
    char key[32], value[128];
    struct lrd_new_item staged;
    struct fixture_item item = numbered(N_KEYS - 1, key, value); /* written last: it is there */
    uint32_t location = fixture_alloc(f, &item);
    fixture_fill(f, &item, location, &staged);
    uint32_t home = lrd_hash_home(staged.hash, f->store.r.n_pairs), generation = lrd_block_word_generation(lrd_load_relaxed(&f->store.block_words[f->arena.open]));
    for (unsigned i = 0; i < LRD_SLOTS; i++) {
        struct place p = place_of(f, home, i);
        if (lrd_slot_tag(p.slot) != lrd_hash_tag(staged.hash))
            lrd_store_relaxed(p.at, lrd_slot_make(lrd_hash_tag(staged.hash), 0, generation, location));
    }
}

static void live_off(struct fixture *f)
{
    lrd_u64 *live_word = &f->store.descriptors[3].live;
    lrd_store_relaxed(live_word, lrd_load_relaxed(live_word) + lrd_live_make(0, 8));
}

static void used_low(struct fixture *f) { lrd_store_relaxed(&f->store.descriptors[lrd_arena_block(&f->store.r, live(f, false).slot)].used, 64); }

static void state_unknown(struct fixture *f) { lrd_store_relaxed(&f->store.descriptors[2].state, 9); }

static void namespace_changed(struct fixture *f)
{
    struct lrd_item *item = item_at(f, live(f, false).slot);
    lrd_store_relaxed(&item->word1, lrd_load_relaxed(&item->word1) | UINT64_C(1) << 16);
}

static void sets_off(struct fixture *f) { lrd_add_own(&f->store.counters[LRD_C_sets], 1); }

static void slots_off(struct fixture *f) { lrd_add_own(&f->store.counters[LRD_C_slots_used], 1); }

static void half_a_change(struct fixture *f)
{
    slots_off(f);
    lrd_store_relaxed(&f->store.journal->n_steps, 3);
}

static void not_ready(struct fixture *f) { lrd_store_relaxed(&f->store.header->magic, 0); }

static void parts_outside(struct fixture *f) { f->store.header->parts[LRD_PART_ARENA].off += UINT64_C(1) << 40; }

/* Words anywhere behind the header, some of them replaced by any value, some changed by a bit. $LARDER_SEED: another choice. */
static void scribbled(struct fixture *f)
{
    const char *text = getenv("LARDER_SEED");
    uint64_t state = text ? strtoull(text, NULL, 10) * 2 + 1 : 1, n_words = (f->bytes - LRD_PAGE) / 8;
    lrd_u64 *word = (lrd_u64 *)(void *)(f->store.base + LRD_PAGE);
    for (unsigned i = 0; i < 2000; i++) {
        uint64_t x = fixture_random(&state), y = fixture_random(&state);
        lrd_u64 *at = &word[x % (i % 2 ? n_words : n_words / 8)]; /* most of it is arena; what points is before it */
        lrd_store_relaxed(at, i % 4 == 0 ? y : lrd_load_relaxed(at) ^ UINT64_C(1) << (y & 63));
    }
}

static const struct {
    const char *name;
    void (*damage)(struct fixture *f);
} kinds[] = {
    {"none", none},
    {"key_changed", key_changed},
    {"length_changed", length_changed},
    {"location_outside", location_outside},
    {"word_low", word_low},
    {"word_high", word_high},
    {"duplicate", duplicate},
    {"live_off", live_off},
    {"used_low", used_low},
    {"state_unknown", state_unknown},
    {"namespace_changed", namespace_changed},
    {"sets_off", sets_off},
    {"slots_off", slots_off},
    {"half_a_change", half_a_change},
    {"scribbled", scribbled},
    {"not_ready", not_ready},
    {"parts_outside", parts_outside},
};
#define N_KINDS (sizeof kinds / sizeof *kinds)

/* ---- serving ---- */

static int listen_at(const char *socket_path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int n = snprintf(addr.sun_path, sizeof addr.sun_path, "%s.peek", socket_path);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (n < 0 || (size_t)n >= sizeof addr.sun_path || fd < 0 || bind(fd, (const struct sockaddr *)&addr, sizeof addr) < 0 || listen(fd, 8) < 0) {
        perror(socket_path);
        exit(1);
    }
    return fd;
}

static void answer(const struct fixture *f, int listener)
{
    const struct lrd_welcome welcome = {
        .magic = LRD_HELLO_MAGIC,
        .layout_version = LRD_LAYOUT_VERSION,
        .layout_hash = LRD_LAYOUT_HASH,
        .lane = UINT32_MAX,
        .segment_bytes = f->bytes,
        .reserve_bytes = f->bytes,
        .segment_id = 1,
        .now_ns = lrd_clock_ns(),
    };
    int peer = accept(listener, NULL, NULL);
    if (peer < 0)
        return;
    if (lrd_send_fds(peer, &welcome, sizeof welcome, &f->fd, 1) < 0)
        perror("answer");
    close(peer);
}

static void serve(const struct fixture *f, int listener)
{
    struct pollfd p[2] = {{.fd = listener, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    puts("ready");
    fflush(stdout);
    while (poll(p, 2, -1) >= 0 && p[1].revents == 0)
        if (p[0].revents != 0)
            answer(f, listener);
}

int main(int argc, char **argv)
{
    struct fixture f;
    for (size_t i = 0; i < N_KINDS; i++) {
        if (argc == 1)
            puts(kinds[i].name);
        if (argc != 3 || strcmp(argv[2], kinds[i].name) != 0)
            continue;
        fixture_make_sealed(&f, N_PAIRS, N_BLOCKS, BLOCK_SHIFT);
        fill(&f);
        kinds[i].damage(&f);
        lrd_store_release(&f.store.header->heartbeat_ms, fixture_now_ms(&f.store.r));
        serve(&f, listen_at(argv[1]));
        fixture_drop(&f);
        return 0;
    }
    return argc == 1 ? 0 : 64;
}
