#include "shm/lane.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define LANE_MAGIC UINT64_C(0x31454e414c44524c) /* "LRDLANE1" */

static uint64_t commit_bytes(uint32_t n_cells) { return ((uint64_t)n_cells * sizeof(lrd_u64) + LRD_PAGE - 1) & ~(uint64_t)(LRD_PAGE - 1); }
static uint64_t ring_bytes(uint32_t n_cells) { return (uint64_t)n_cells * LRD_CELL; }

uint64_t lrd_lane_bytes(uint32_t n_cells, uint32_t mark_bytes) { return sizeof(struct lrd_lane) + commit_bytes(n_cells) + mark_bytes + ring_bytes(n_cells); }

int lrd_lane_create(uint32_t n_cells, uint32_t mark_bytes, uint32_t index)
{
    int fd = memfd_create("larder-lane", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    int err = 0;
    void *p = MAP_FAILED;
    uint64_t bytes = lrd_lane_bytes(n_cells, mark_bytes);
    /* Populated here, so that no touch of it can fail later, in whichever process and memory cgroup; unless the client punches
     * holes into its own lane: then the pages that come back are zeros, which are no records. */
    if (ftruncate(fd, (off_t)bytes) < 0 || fallocate(fd, 0, 0, (off_t)bytes) < 0 || fchmod(fd, 0600) < 0)
        err = -errno;
    else if ((p = mmap(NULL, sizeof(struct lrd_lane), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) == MAP_FAILED)
        err = -errno;
    else {
        struct lrd_lane *lane = p;
        lane->magic = LANE_MAGIC;
        lane->n_cells = n_cells;
        lane->index = index;
        munmap(p, sizeof(struct lrd_lane));
        if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
            err = -errno;
    }
    if (err < 0) {
        close(fd);
        return err;
    }
    return fd;
}

/* Neither side can make the other's accesses fail: the size is sealed. */
static int check_lane_fd(int fd, uint64_t bytes)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW))
        return -EINVAL;
    if (fstat(fd, &st) < 0 || (uint64_t)st.st_size != bytes)
        return -EINVAL;
    return 0;
}

int lrd_lane_map(int fd, uint32_t n_cells, uint32_t mark_bytes, struct lrd_ring *ring)
{
    uint64_t bytes = lrd_lane_bytes(n_cells, mark_bytes), cells = ring_bytes(n_cells);
    if (n_cells < 64 || n_cells > 1u << 15 || (n_cells & (n_cells - 1)) != 0 || mark_bytes % LRD_PAGE != 0 || check_lane_fd(fd, bytes) < 0)
        return -EINVAL;
    /* One reservation, so that both maps lie behind each other and unmapping is one call. */
    unsigned char *base = mmap(NULL, bytes + cells, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return -errno;
    if (mmap(base, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
        mmap(base + bytes, cells, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, (off_t)(bytes - cells)) == MAP_FAILED) {
        int err = -errno;
        munmap(base, bytes + cells);
        return err;
    }
    ring->lane = (struct lrd_lane *)(void *)base;
    ring->commit = (lrd_u64 *)(void *)(base + sizeof(struct lrd_lane));
    ring->marks = mark_bytes > 0 ? base + bytes - cells - mark_bytes : NULL;
    ring->mark_bytes = mark_bytes;
    ring->cells = base + bytes - cells;
    ring->n_cells = n_cells;
    ring->lap_shift = (uint32_t)__builtin_ctz(n_cells);
    return 0;
}

void lrd_lane_unmap(struct lrd_ring *ring)
{
    if (ring->lane != NULL)
        munmap(ring->lane, lrd_lane_bytes(ring->n_cells, ring->mark_bytes) + ring_bytes(ring->n_cells));
    ring->lane = NULL;
}
