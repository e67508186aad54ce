/* A ladder: reserved huge pages, transparent ones, small ones. Each rung is tried completely (made, mapped, populated) and undone completely if it fails.
 *
 * Everything is populated before anybody is let in: a hole that a reader touches would be allocated then, and charged to the reader's memory cgroup. What the
 * ladder believes to have got is not reported; smaps is. */
#include "daemon/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef HAVE_NUMA
#include <numa.h>
#include <numaif.h>
#endif

#include "daemon/log.h"
#include "shm/layout.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* Populated between two looks at signals and limits: 0.2 s of the slowest rung. */
#define CHUNK_BYTES (UINT64_C(64) << 20)

/* Left to everybody else: page tables, the daemon's own heap, and what others take while we populate. */
#define MARGIN_BYTES (UINT64_C(16) << 20)

/* ---- limits ---- */

static bool read_text(const char *path, char *text, size_t bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, bytes - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    return n > 0;
}

/* The number behind `key` at the beginning of a line, times `scale`; otherwise `otherwise`. */
static uint64_t number_after(const char *text, const char *key, uint64_t scale, uint64_t otherwise)
{
    size_t n = strlen(key);
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, n) == 0)
            return strtoull(line + n, NULL, 10) * scale;
        if (*line == '\0')
            break;
    }
    return otherwise;
}

/* A limit file: a number, or "max" and friends. cgroup v1 says "none" by a number near 2^63. */
static uint64_t read_limit(const char *path)
{
    char text[64];
    if (!read_text(path, text, sizeof text) || text[0] < '0' || text[0] > '9')
        return UINT64_MAX;
    uint64_t limit = strtoull(text, NULL, 10);
    return limit >= UINT64_C(1) << 62 ? UINT64_MAX : limit;
}

struct cgroup_files {
    const char *limit, *usage;
    const char *cache[2]; /* keys in memory.stat of what can be dropped */
};

static const struct cgroup_files cgroup_v1 = {"memory.limit_in_bytes", "memory.usage_in_bytes", {"total_inactive_file ", "total_active_file "}};
static const struct cgroup_files cgroup_v2 = {"memory.max", "memory.current", {"inactive_file ", "active_file "}};

/* One level of the hierarchy: kept if it is the tightest so far. */
static void look_at_cgroup(const char *folder, const struct cgroup_files *files, struct lrd_limits *l)
{
    char path[1400], stat[8192];
    snprintf(path, sizeof path, "%s/%s", folder, files->limit);
    uint64_t limit = read_limit(path);
    if (limit == UINT64_MAX)
        return;
    char usage_path[1400];
    snprintf(usage_path, sizeof usage_path, "%s/%s", folder, files->usage);
    uint64_t usage = read_limit(usage_path), cache = 0;
    usage = usage == UINT64_MAX ? 0 : usage;
    snprintf(usage_path, sizeof usage_path, "%s/memory.stat", folder);
    if (read_text(usage_path, stat, sizeof stat))
        cache = number_after(stat, files->cache[0], 1, 0) + number_after(stat, files->cache[1], 1, 0);
    usage -= cache < usage ? cache : usage;
    uint64_t room = usage < limit ? limit - usage : 0;
    if (l->cgroup_limit == UINT64_MAX || room < l->cgroup_room) {
        l->cgroup_limit = limit;
        l->cgroup_room = room;
        snprintf(l->cgroup_file, sizeof l->cgroup_file, "%.255s", path);
    }
}

/* From our own cgroup up to where the hierarchy is mounted: every level's limit holds. */
static void walk_cgroups(const char *mount, const char *path, const struct cgroup_files *files, struct lrd_limits *l)
{
    char folder[1300];
    size_t top = strlen(mount);
    snprintf(folder, sizeof folder, "%s%s", mount, strcmp(path, "/") == 0 ? "" : path);
    for (;;) {
        look_at_cgroup(folder, files, l);
        char *slash = strrchr(folder, '/');
        if (slash == NULL || strlen(folder) <= top)
            return;
        *slash = '\0';
    }
}

/* Our path in a hierarchy: v1's with the memory controller, or v2's. False: we are in none. */
static bool own_cgroup(const char *root, bool v2, char *path, size_t bytes)
{
    char name[1100], line[1024];
    bool found = false;
    snprintf(name, sizeof name, "%s/proc/self/cgroup", root);
    FILE *f = fopen(name, "re");
    while (f != NULL && !found && fgets(line, sizeof line, f) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':'), *at = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (at == NULL)
            continue;
        *at++ = '\0';
        controllers++;
        if (v2)
            found = controllers[0] == '\0';
        else
            for (char *save, *word = strtok_r(controllers, ",", &save); word != NULL && !found; word = strtok_r(NULL, ",", &save))
                found = strcmp(word, "memory") == 0;
        if (found)
            snprintf(path, bytes, "%s", at);
    }
    if (f != NULL)
        fclose(f);
    return found;
}

/* Where that hierarchy is mounted, and which of its folders: in a container that is not its root. */
static bool cgroup_mount(const char *root, bool v2, char *mount, char *mounted, size_t bytes)
{
    char name[1100], line[2048];
    bool found = false;
    snprintf(name, sizeof name, "%s/proc/self/mountinfo", root);
    FILE *f = fopen(name, "re");
    while (f != NULL && !found && fgets(line, sizeof line, f) != NULL) {
        char from[512], to[512], type[64], options[512];
        const char *tail = strstr(line, " - ");
        if (tail == NULL || sscanf(line, "%*s %*s %*s %511s %511s", from, to) != 2 || sscanf(tail, " - %63s %*s %511s", type, options) != 2)
            continue;
        found = v2 ? strcmp(type, "cgroup2") == 0 : strcmp(type, "cgroup") == 0 && strstr(options, "memory") != NULL;
        if (found) {
            snprintf(mount, bytes, "%s%s", root, to);
            snprintf(mounted, bytes, "%s", from);
        }
    }
    if (f != NULL)
        fclose(f);
    return found;
}

static void read_cgroups(const char *root, bool v2, struct lrd_limits *l)
{
    char path[600], mount[600], mounted[600];
    if (!own_cgroup(root, v2, path, sizeof path) || !cgroup_mount(root, v2, mount, mounted, sizeof mount))
        return;
    size_t n = strlen(mounted);
    const char *below = path;
    if (n > 1 && strncmp(path, mounted, n) == 0 && (path[n] == '/' || path[n] == '\0'))
        below = path + n;
    else if (n > 1)
        below = "/"; /* the mount shows something else of the hierarchy; its top is as near as we can get */
    walk_cgroups(mount, below[0] == '\0' ? "/" : below, v2 ? &cgroup_v2 : &cgroup_v1, l);
}

void lrd_limits_read(const char *root, struct lrd_limits *l)
{
    char path[1100], text[8192];
    *l = (struct lrd_limits){.available = UINT64_MAX, .cgroup_limit = UINT64_MAX, .cgroup_room = UINT64_MAX};
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    if (read_text(path, text, sizeof text))
        l->available = number_after(text, "MemAvailable:", 1024, UINT64_MAX);
    /* Of the pool for 2 MiB pages, whatever the default size is. */
    static const char pool[] = "sys/kernel/mm/hugepages/hugepages-2048kB";
    uint64_t n_free = 0, n_reserved = 0;
    snprintf(path, sizeof path, "%s/%s/free_hugepages", root, pool);
    if (read_text(path, text, sizeof text))
        n_free = strtoull(text, NULL, 10);
    snprintf(path, sizeof path, "%s/%s/resv_hugepages", root, pool);
    if (read_text(path, text, sizeof text))
        n_reserved = strtoull(text, NULL, 10);
    l->huge_free = n_free > n_reserved ? (n_free - n_reserved) * LRD_HUGE : 0;
    read_cgroups(root, false, l);
    read_cgroups(root, true, l);
}

bool lrd_limits_allow(const struct lrd_limits *l, uint64_t segment, uint64_t lanes, bool huge, char why[LRD_WHY_BYTES])
{
    char a[16], b[16], c[16], d[16];
    uint64_t need;
    if (__builtin_add_overflow(huge ? 0 : segment, lanes, &need) || __builtin_add_overflow(need, MARGIN_BYTES, &need))
        need = UINT64_MAX;
    if (huge && segment > l->huge_free) {
        snprintf(why, LRD_WHY_BYTES, "a segment of %s takes %llu huge pages of 2 MiB, free are %llu: write more into /proc/sys/vm/nr_hugepages, or do without by --pages auto",
                 lrd_size_text(segment, a), (unsigned long long)(segment / LRD_HUGE), (unsigned long long)(l->huge_free / LRD_HUGE));
        return false;
    }
    if (need > l->cgroup_room) {
        snprintf(why, LRD_WHY_BYTES, "%s for the segment and %s for the lanes of all clients do not fit: %s of %s are left by %s; lower --memory, --max-clients or --ring, or raise that limit",
                 lrd_size_text(huge ? 0 : segment, a), lrd_size_text(lanes, b), lrd_size_text(l->cgroup_room, c), lrd_size_text(l->cgroup_limit, d), l->cgroup_file);
        return false;
    }
    if (need > l->available) {
        snprintf(why, LRD_WHY_BYTES, "%s for the segment and %s for the lanes of all clients do not fit: this machine has %s available; lower --memory, --max-clients or --ring",
                 lrd_size_text(huge ? 0 : segment, a), lrd_size_text(lanes, b), lrd_size_text(l->available, c));
        return false;
    }
    return true;
}

/* ---- mapping ---- */

/* At an address aligned to 2 MiB: only then can huge pages be mapped, here and in clients. */
static void *map_aligned(int fd, uint64_t bytes)
{
    unsigned char *reserved = mmap(NULL, bytes + LRD_HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED)
        return MAP_FAILED;
    unsigned char *base = reserved + (-(uintptr_t)reserved & (LRD_HUGE - 1));
    /* Without MAP_NORESERVE: for huge pages this is where the pool says no, and not by SIGBUS later. */
    void *p = mmap(base, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    if (p == MAP_FAILED) {
        int err = errno;
        munmap(reserved, bytes + LRD_HUGE);
        errno = err;
        return MAP_FAILED;
    }
    if (base > reserved)
        munmap(reserved, (size_t)(base - reserved));
    munmap(base + bytes, LRD_HUGE - (size_t)(base - reserved));
    return base;
}

static int make_memfd(struct lrd_pages *p, uint64_t bytes, unsigned flags)
{
    *p = (struct lrd_pages){.fd = -1, .node = -1};
    int fd = memfd_create("larder-segment", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)bytes) < 0 || fchmod(fd, 0600) < 0 || (p->base = map_aligned(fd, bytes)) == MAP_FAILED) {
        int err = -errno;
        p->base = NULL;
        close(fd);
        return err;
    }
    p->fd = fd;
    p->bytes = bytes;
    /* A core dump of ours would hold all of it. */
    madvise(p->base, bytes, MADV_DONTDUMP);
    return 0;
}

void lrd_pages_drop(struct lrd_pages *p)
{
    if (p->base != NULL)
        munmap(p->base, p->bytes);
    if (p->fd >= 0)
        close(p->fd);
    *p = (struct lrd_pages){.fd = -1, .node = -1};
}

int lrd_pages_seal(const struct lrd_pages *p)
{
    return fcntl(p->fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0 ? -errno : 0;
}

/* ---- memory nodes ---- */

#ifdef HAVE_NUMA

static int place(struct lrd_pages *p, struct lrd_numa_wish numa, char why[LRD_WHY_BYTES])
{
    if (numa.policy == LRD_NUMA_NONE)
        return 0;
    bool one_node = numa_available() < 0 || numa_max_node() == 0;
    int node = numa.policy == LRD_NUMA_BIND ? (int)numa.node : one_node ? 0 : numa_node_of_cpu(sched_getcpu());
    if (one_node ? node != 0 : !numa_bitmask_isbitset(numa_all_nodes_ptr, (unsigned)node)) {
        snprintf(why, LRD_WHY_BYTES, "--numa bind:%d: there is no such memory node, or we may not use it: numactl --hardware lists them", node);
        return -EINVAL;
    }
    if (one_node)
        return 0;
    long long free_bytes = 0;
    numa_node_size64(node, &free_bytes);
    if (numa.policy == LRD_NUMA_BIND && p->bytes > (uint64_t)free_bytes) {
        /* Bound to a node without room, populating would end in an OOM kill. */
        char a[16], b[16];
        snprintf(why, LRD_WHY_BYTES, "--numa bind:%d: the node has %s free, the segment takes %s: lower --memory or use --numa local", node,
                 lrd_size_text((uint64_t)free_bytes, a), lrd_size_text(p->bytes, b));
        return -ENOMEM;
    }
    struct bitmask *nodes = numa_allocate_nodemask();
    if (numa.policy == LRD_NUMA_INTERLEAVE)
        copy_bitmask_to_bitmask(numa_all_nodes_ptr, nodes);
    else
        numa_bitmask_setbit(nodes, (unsigned)node);
    int mode = numa.policy == LRD_NUMA_INTERLEAVE ? MPOL_INTERLEAVE : numa.policy == LRD_NUMA_BIND ? MPOL_BIND : MPOL_PREFERRED;
    long err = mbind(p->base, p->bytes, mode, nodes->maskp, nodes->size + 1, 0) < 0 ? -errno : 0;
    numa_free_nodemask(nodes);
    if (err < 0)
        snprintf(why, LRD_WHY_BYTES, "--numa: mbind: %s", strerror((int)-err));
    p->node = numa.policy == LRD_NUMA_INTERLEAVE ? -1 : node;
    return (int)err;
}

void lrd_pages_run_on(int node)
{
    if (node >= 0 && numa_available() >= 0 && numa_run_on_node(node) < 0)
        lrd_log(LRD_WARNING, "the writer cannot run on memory node %d: %s", node, strerror(errno));
}

#else

static int place(struct lrd_pages *p, struct lrd_numa_wish numa, char why[LRD_WHY_BYTES])
{
    (void)p;
    if (numa.policy == LRD_NUMA_NONE)
        return 0;
    snprintf(why, LRD_WHY_BYTES, "--numa: this larderd was built without libnuma: use --numa none");
    return -EINVAL;
}

void lrd_pages_run_on(int node) { (void)node; }

#endif

/* ---- populating ---- */

static bool told_to_stop(void)
{
    sigset_t pending;
    sigemptyset(&pending);
    sigpending(&pending);
    return sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1;
}

/* Others take memory as well while we do: what is still to come must fit each time. */
static int still_fits(uint64_t segment, uint64_t lanes, bool huge, char why[LRD_WHY_BYTES])
{
    struct lrd_limits l;
    if (told_to_stop()) {
        snprintf(why, LRD_WHY_BYTES, "stopped while the segment was being populated");
        return -EINTR;
    }
    lrd_limits_read("", &l);
    if (huge)
        l.huge_free = segment; /* reserved for us by mmap */
    return lrd_limits_allow(&l, segment, lanes, huge, why) ? 0 : -ENOMEM;
}

static int populate_by_hand(unsigned char *at, size_t bytes)
{
    /* Before Linux 5.14. A store of zero to fresh memory is no change; an atomic one is not optimized away. */
    for (size_t i = 0; i < bytes; i += LRD_PAGE)
        lrd_store_relaxed((lrd_u64 *)(void *)(at + i), 0);
    return 0;
}

static int populate_chunk(unsigned char *at, size_t bytes, bool huge)
{
    int r;
    do
        r = madvise(at, bytes, MADV_POPULATE_WRITE);
    while (r < 0 && (errno == EINTR || errno == EAGAIN));
    if (r < 0 && errno == EINVAL && !huge)
        return populate_by_hand(at, bytes);
    return r < 0 ? -errno : 0;
}

/* collapse: turn small pages into huge ones behind us; as long as it works. */
static int populate(const struct lrd_pages *p, uint64_t lanes, bool huge, bool collapse, char why[LRD_WHY_BYTES])
{
    unsigned char *base = p->base;
    for (uint64_t done = 0; done < p->bytes; done += CHUNK_BYTES) {
        size_t bytes = p->bytes - done < CHUNK_BYTES ? p->bytes - done : CHUNK_BYTES;
        int err = still_fits(p->bytes - done, lanes, huge, why);
        if (err < 0)
            return err;
        err = populate_chunk(base + done, bytes, huge);
        if (err < 0) {
            snprintf(why, LRD_WHY_BYTES, "populating the segment: %s", strerror(-err));
            return err;
        }
        if (collapse && madvise(base + done, bytes, MADV_COLLAPSE) < 0)
            collapse = errno == EAGAIN || errno == EBUSY; /* these ones not, perhaps the next; anything else is for all */
    }
    return 0;
}

/* ---- rungs ---- */

static bool shmem_takes_advice(void)
{
    char text[128];
    return read_text("/sys/kernel/mm/transparent_hugepage/shmem_enabled", text, sizeof text) && strstr(text, "[never]") == NULL && strstr(text, "[deny]") == NULL;
}

static int try_rung(struct lrd_pages *p, uint64_t bytes, uint64_t lanes, enum lrd_page_tier tier, struct lrd_numa_wish numa, char why[LRD_WHY_BYTES])
{
    struct lrd_limits l;
    bool huge = tier == LRD_PAGES_HUGETLB;
    lrd_limits_read("", &l);
    if (!lrd_limits_allow(&l, bytes, lanes, huge, why))
        return -ENOMEM;
    int err = make_memfd(p, bytes, huge ? MFD_HUGETLB | MFD_HUGE_2MB : 0);
    if (err < 0) {
        char a[16];
        snprintf(why, LRD_WHY_BYTES, "no mapping of %s: %s: lower --memory, or raise what limits it (ulimit -v, vm.overcommit_memory)", lrd_size_text(bytes, a),
                 strerror(-err));
        return err;
    }
    if (tier == LRD_PAGES_THP)
        madvise(p->base, bytes, MADV_HUGEPAGE);
    if (tier == LRD_PAGES_SMALL)
        madvise(p->base, bytes, MADV_NOHUGEPAGE);
    err = place(p, numa, why);
    if (err == 0)
        err = populate(p, lanes, huge, tier == LRD_PAGES_THP && !shmem_takes_advice(), why);
    if (err < 0) {
        lrd_pages_drop(p);
        return err;
    }
    lrd_pages_count("/proc/self/smaps", p->base, bytes, p->tier_bytes);
    return 0;
}

int lrd_pages_make(struct lrd_pages *p, uint64_t bytes, uint64_t lanes, enum lrd_pages_wish wish, struct lrd_numa_wish numa, char why[LRD_WHY_BYTES])
{
    *p = (struct lrd_pages){.fd = -1, .node = -1};
    if (wish == LRD_PAGES_WISH_HUGETLB)
        return try_rung(p, bytes, lanes, LRD_PAGES_HUGETLB, numa, why);
    if (wish == LRD_PAGES_WISH_SMALL)
        return try_rung(p, bytes, lanes, LRD_PAGES_SMALL, numa, why);
    if (wish == LRD_PAGES_WISH_AUTO) {
        int err = try_rung(p, bytes, lanes, LRD_PAGES_HUGETLB, numa, why);
        if (err == 0 || err == -EINTR)
            return err;
        struct lrd_limits l;
        lrd_limits_read("", &l);
        lrd_log(l.huge_free > 0 ? LRD_INFO : LRD_DEBUG, "reserved huge pages are not used: %s", why); /* who reserved some wants to know */
    }
    /* Transparent pages become small ones by themselves where there are none: the same rung. */
    int err = try_rung(p, bytes, lanes, LRD_PAGES_THP, numa, why);
    if (err == 0 && wish == LRD_PAGES_WISH_THP && p->tier_bytes[LRD_PAGES_THP] == 0) {
        lrd_pages_drop(p);
        snprintf(why, LRD_WHY_BYTES, "--pages thp: the kernel gave none: write advise into /sys/kernel/mm/transparent_hugepage/shmem_enabled, or use --pages auto");
        return -ENOMEM;
    }
    return err;
}

/* ---- what it became ---- */

struct smaps_part {
    uint64_t rss, pmd, huge;
};

void lrd_pages_count(const char *smaps_path, const void *base, uint64_t bytes, uint64_t tier_bytes[4])
{
    char line[512];
    struct smaps_part sum = {0};
    bool inside = false;
    uintptr_t low = (uintptr_t)base, high = low + bytes;
    memset(tier_bytes, 0, 4 * sizeof tier_bytes[0]);
    FILE *f = fopen(smaps_path, "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            inside = from >= low && to <= high;
        if (!inside)
            continue;
        sum.rss += number_after(line, "Rss:", 1024, 0);
        sum.pmd += number_after(line, "ShmemPmdMapped:", 1024, 0);
        sum.huge += number_after(line, "Shared_Hugetlb:", 1024, 0) + number_after(line, "Private_Hugetlb:", 1024, 0);
    }
    if (f != NULL)
        fclose(f);
    tier_bytes[LRD_PAGES_HUGETLB] = sum.huge;
    tier_bytes[LRD_PAGES_THP] = sum.pmd;
    tier_bytes[LRD_PAGES_SMALL] = sum.rss - (sum.pmd < sum.rss ? sum.pmd : sum.rss);
}
