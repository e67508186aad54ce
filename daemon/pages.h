/* The segment's memory: how much may be taken, which pages it is made of, and on which memory node.
 *
 * Limits are read before anything is taken, because the kernel says no too late: beyond a memory cgroup's limit, populating ends in SIGKILL, not in an errno. */
#ifndef LRD_PAGES_H
#define LRD_PAGES_H

#include <stdint.h>

#include "daemon/config.h"

/* ---- limits ---- */

struct lrd_limits {
    uint64_t available;    /* MemAvailable */
    uint64_t cgroup_limit; /* of the memory cgroup that has the least room left, this process's or one above it; UINT64_MAX: none has a limit */
    uint64_t cgroup_room;  /* what is left there; caches that can be dropped count as left */
    uint64_t huge_free;    /* bytes of 2 MiB pages in the pool that nobody has reserved */
    char cgroup_file[256]; /* the file that says cgroup_limit */
};

/* root: "" for this machine; a test names a folder with a proc and a sys of its own. What cannot be read is no limit. */
void lrd_limits_read(const char *root, struct lrd_limits *l);

/* Whether `segment` and `lanes` bytes fit; if not, why says so with the numbers. huge: the segment comes from the pool. */
bool lrd_limits_allow(const struct lrd_limits *l, uint64_t segment, uint64_t lanes, bool huge, char why[LRD_WHY_BYTES]);

/* ---- pages ---- */

struct lrd_pages {
    int fd;                 /* the memfd, read-write; -1: none */
    void *base;             /* aligned to 2 MiB */
    uint64_t bytes;
    uint64_t tier_bytes[4]; /* by enum lrd_page_tier, as the kernel says in smaps */
    int node;               /* memory node that the writer should run on; -1: any */
};

/* Makes, maps, places and populates a memfd of `bytes` bytes (a multiple of 2 MiB) by the best means that the wish allows. lanes: bytes to leave for them.
 * 0; else why says what was wrong, and nothing is left. Long: about 0.2 to 3 s per GiB. -EINTR: SIGTERM or SIGINT, which are blocked, came meanwhile. */
int lrd_pages_make(struct lrd_pages *p, uint64_t bytes, uint64_t lanes, enum lrd_pages_wish wish, struct lrd_numa_wish numa, char why[LRD_WHY_BYTES]);
void lrd_pages_drop(struct lrd_pages *p);

/* From here on only this mapping, and those that fork inherits, can write. 0 or -errno. */
int lrd_pages_seal(const struct lrd_pages *p);

/* What a text like /proc/self/smaps says about [base, base + bytes). */
void lrd_pages_count(const char *smaps_path, const void *base, uint64_t bytes, uint64_t tier_bytes[4]);

/* Makes the calling thread run on the node. */
void lrd_pages_run_on(int node);

#endif
