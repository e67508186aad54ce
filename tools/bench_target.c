/* The daemon's segment, twice: through liblarder as any application has it, and directly, for floors and for looking at it.
 *
 * A floor is only one if it reads through the same page tables: so the direct look goes through liblarder's own mapping, found in this process's
 * list of mappings by the segment's inode. Only if it is not there, the segment is mapped once more. */
#include "tools/bench.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "shm/hello.h"
#include "shm/namespace.h"

#define BUSY_MS 1000u
#define ANSWER_S 5

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

/* ---- the segment's descriptor ---- */

static int receive(const char *socket_path, struct lrd_welcome *w, int *fd)
{
    char peek[4096];
    const struct timeval timeout = {.tv_sec = ANSWER_S};
    unsigned got = 0;
    if ((size_t)snprintf(peek, sizeof peek, "%s.peek", socket_path) >= sizeof peek)
        return -ENAMETOOLONG;
    int sock = lrd_connect(peek);
    if (sock < 0)
        return sock;
    setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    int r = lrd_recv_fds(sock, w, sizeof *w, fd, 1, &got, 0);
    close(sock);
    if (r < 0)
        return r;
    if (got == 1 && w->magic == LRD_HELLO_MAGIC && lrd_segment_is_sealed(*fd, w->segment_bytes))
        return 0;
    if (got == 1)
        close(*fd);
    return -EPROTO;
}

/* ---- its mapping ---- */

/* Where liblarder has mapped the file from its start; NULL: nowhere. */
static const void *find_mapping(const struct stat *st, size_t bytes)
{
    char line[512];
    const void *base = NULL;
    FILE *maps = fopen("/proc/self/maps", "re");
    if (!maps)
        return NULL;
    while (!base && fgets(line, sizeof line, maps)) {
        uintptr_t begin, end;
        uint64_t off, inode;
        unsigned major_no, minor_no;
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %*s %" SCNx64 " %x:%x %" SCNu64, &begin, &end, &off, &major_no, &minor_no, &inode) == 6 &&
            off == 0 && inode == st->st_ino && major_no == major(st->st_dev) && minor_no == minor(st->st_dev) && end - begin >= bytes)
            base = (const void *)begin; /* NOLINT: the address the kernel says */
    }
    fclose(maps);
    return base;
}

/* A mapping of our own, as liblarder would make it: at an address that huge pages can have. */
static int map_own(struct bench_target *t, int fd, size_t bytes)
{
    unsigned char *space = mmap(NULL, bytes + LRD_HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (space == MAP_FAILED)
        return -errno;
    size_t before = (LRD_HUGE - ((uintptr_t)space & (LRD_HUGE - 1))) & (LRD_HUGE - 1);
    unsigned char *at = space + before;
    if (before > 0)
        munmap(space, before);
    if (before < LRD_HUGE)
        munmap(at + bytes, LRD_HUGE - before);
    if (mmap(at, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
        int r = -errno;
        munmap(at, bytes);
        return r;
    }
    madvise(at, bytes, MADV_POPULATE_READ);
    t->base = at;
    t->bytes = bytes;
    return 0;
}

static enum bench_status look(struct bench_target *t, const char *socket_path)
{
    struct lrd_welcome w;
    struct stat st;
    int fd = -1;
    int r = receive(socket_path, &w, &fd);
    if (r < 0)
        return bench_error(BENCH_FAILURE, "cannot look at the segment through %s.peek: %s", socket_path, strerror(-r));
    const void *base = fstat(fd, &st) == 0 ? find_mapping(&st, (size_t)w.segment_bytes) : NULL;
    if (!base) {
        r = map_own(t, fd, (size_t)w.segment_bytes);
        base = t->base;
    }
    close(fd);
    if (r < 0)
        return bench_error(BENCH_FAILURE, "cannot map the segment of %s: %s", socket_path, strerror(-r));
    enum lrd_segment_state state = lrd_reader_init(&t->r, base, (size_t)w.segment_bytes);
    if (state != LRD_SEGMENT_GOOD)
        return bench_error(BENCH_FAILURE, "the segment of %s: %s", socket_path, lrd_segment_state_text(state));
    return BENCH_OK;
}

/* ---- both ---- */

enum bench_status bench_target_open(struct bench_target *t, const struct bench *b)
{
    const struct larder_options options = {.size = sizeof options, .socket = b->socket, .busy_timeout_ms = BUSY_MS};
    memset(t, 0, sizeof *t);
    int r = larder_open(&t->larder, &options);
    if (r == LARDER_NO_SOCKET)
        return bench_error(BENCH_NO_DAEMON, "no daemon at %s: start larderd, or say --start-daemon", b->socket);
    if (r != LARDER_OK)
        return bench_error(BENCH_FAILURE, "cannot attach to %s: %s", b->socket, larder_strerror(r));
    t->ns = larder_default(t->larder);
    enum bench_status status = look(t, b->socket);
    if (status != BENCH_OK)
        bench_target_close(t);
    return status;
}

enum bench_status bench_target_peek(struct bench_target *t, const struct bench *b)
{
    memset(t, 0, sizeof *t);
    enum bench_status status = look(t, b->socket);
    if (status != BENCH_OK)
        bench_target_close(t);
    return status;
}

void bench_target_close(struct bench_target *t)
{
    if (t->base)
        munmap(t->base, t->bytes);
    larder_close(t->larder);
    memset(t, 0, sizeof *t);
}

double bench_load(const struct bench_target *t)
{
    return (double)bench_counter(t, LRD_C_slots_used) / ((double)t->r.n_pairs * 2 * LRD_SLOTS);
}

/* ---- namespaces ---- */

enum bench_status bench_target_namespace(struct bench_target *t, const char *name, const struct larder_ns_options *options, uint32_t *number)
{
    int r = larder_ns_create(t->larder, name, options, &t->ns);
    if (r != LARDER_OK)
        return bench_error(BENCH_FAILURE, "cannot make the namespace %s: %s", name, larder_strerror(r));
    *number = lrd_ns_find(&t->r, name);
    if (*number == LRD_NS_NOWHERE)
        return bench_error(BENCH_FAILURE, "the namespace %s was made and is not in the segment", name);
    return BENCH_OK;
}

/* ---- filling it ---- */

int bench_set(struct bench_target *t, const struct bench_key *key, const void *value, size_t bytes)
{
    int r;
    do
        r = larder_set(t->ns, key->bytes, BENCH_KEY, value, bytes, NULL, NULL);
    while (r == LARDER_BUSY);
    return r;
}

int bench_fill_items(struct bench_target *t, const struct bench_options *o)
{
    struct bench_key key;
    unsigned char *value = bench_alloc(1, o->value_size + LRD_LINE);
    int r = 0;
    for (uint64_t id = 0; id < o->items && r == 0; id++) {
        bench_key_make(&key, id, t->r.hash_seed);
        bench_value_fill(value, o->value_size, id, 0);
        r = bench_set(t, &key, value, o->value_size);
    }
    if (r == 0)
        r = larder_flush(t->larder, 60000);
    free(value);
    return r;
}

enum bench_status bench_fill(struct bench *b)
{
    struct bench_target t;
    enum bench_status status = bench_target_open(&t, b);
    if (status != BENCH_OK)
        return status;
    int r = bench_fill_items(&t, &b->o);
    if (r != 0)
        status = bench_error(BENCH_FAILURE, "cannot set the items: %s", larder_strerror(r));
    else {
        lrd_store_relaxed(&b->shared->oldest, 0); /* nobody else runs yet */
        bench_figure(b->report, "table load", 100 * bench_load(&t), "%");
    }
    bench_target_close(&t);
    return status;
}
