/* smaps has for each mapping a line with addresses, offset, inode and name, and below it lines with figures in kB. What a page is counted as:
 *
 *   /memfd:larder-segment   the segment. Pages of the pool are not in Rss; they have lines of their own.
 *   /memfd:larder-lane      a lane. Its cells are mapped twice in a row, and a page that both mappings show is in the Rss of both. Counted is the first mapping, which
 *                           has the whole lane; the second, of the same inode and of offsets that were counted, is not. So each page counts once.
 *   others                  the part that the kernel calls anonymous is private memory, wherever it is mapped: heap and stacks, and copied pages of programs. The rest is
 *                           of files.
 *
 * Resident is what is in this process's page table. The keeper populated the segment, but a forked worker begins with an empty table for it and would fill it page by
 * page, in the writer's time. So a new worker maps it in once, in steps, before it measures for the first time; clients.c does the same with every lane. From then on the
 * kernel's figures are those of the memory there is, unless the kernel took some of it away.
 */
#include "daemon/measure.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "daemon/log.h"
#include "shm/clock.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

#define MAP_STEP_BYTES (UINT64_C(16) << 20) /* mapped in between two looks at clients: 4,096 small pages, about a millisecond */
#define PAUSE_MS 10u /* reading the smaps of 4 GiB in small pages takes about as long */

enum kind { KIND_SEGMENT, KIND_LANE, KIND_MIRROR, KIND_OTHER };

/* The lane that is being looked at: its mappings follow each other. */
struct lane {
    unsigned long long inode;
    unsigned long long end; /* offset up to which it was counted */
};

/* A memfd's name in smaps has this behind it. */
static bool is_memfd(const char *path, const char *name)
{
    static const char begin[] = "/memfd:";
    size_t n = strlen(name);
    if (strncmp(path, begin, sizeof begin - 1) != 0 || strncmp(path + sizeof begin - 1, name, n) != 0)
        return false;
    path += sizeof begin - 1 + n;
    return *path == '\n' || *path == '\0' || strncmp(path, " (deleted)", 10) == 0;
}

/* Whether a line begins a mapping, and which kind. */
static bool begins_mapping(const char *line, struct lane *lane, enum kind *kind)
{
    unsigned long long from, to, offset, inode;
    int path = 0;
    if (sscanf(line, "%llx-%llx %*s %llx %*x:%*x %llu %n", &from, &to, &offset, &inode, &path) != 4)
        return false;
    *kind = KIND_OTHER;
    if (path > 0 && is_memfd(line + path, "larder-segment"))
        *kind = KIND_SEGMENT;
    if (path == 0 || !is_memfd(line + path, "larder-lane"))
        return true;
    if (inode != lane->inode)
        *lane = (struct lane){.inode = inode};
    *kind = offset < lane->end ? KIND_MIRROR : KIND_LANE;
    if (*kind == KIND_LANE)
        lane->end = offset + (to - from);
    return true;
}

/* What a line with one of the figures says, in bytes; 0: it is another line. */
static uint64_t figure(const char *line, const char *name)
{
    size_t n = strlen(name);
    return strncmp(line, name, n) == 0 ? strtoull(line + n, NULL, 10) * 1024 : 0;
}

static void add_line(struct lrd_measured *sum, enum kind kind, const char *line)
{
    uint64_t rss = figure(line, "Rss:"), anonymous = figure(line, "Anonymous:"), huge = figure(line, "Shared_Hugetlb:") + figure(line, "Private_Hugetlb:");
    switch (kind) {
    case KIND_SEGMENT:
        sum->segment += rss + huge;
        break;
    case KIND_LANE:
        sum->lanes += rss + huge;
        break;
    case KIND_MIRROR:
        break;
    case KIND_OTHER:
        sum->files += rss; /* all of it so far */
        sum->anonymous += anonymous + huge;
        sum->files -= anonymous < sum->files ? anonymous : sum->files;
        break;
    }
}

void lrd_measure_sum(FILE *smaps, struct lrd_measured *sum)
{
    char *line = NULL;
    size_t bytes = 0;
    enum kind kind = KIND_OTHER;
    struct lane lane = {0};
    *sum = (struct lrd_measured){0};
    /* Whole lines: the end of a long path must not be taken for a figure. */
    while (getline(&line, &bytes, smaps) > 0)
        if (!begins_mapping(line, &lane, &kind))
            add_line(sum, kind, line);
    free(line);
}

/* ---- when asked ---- */

struct lrd_measure {
    struct lrd_store *store;
    struct event *on_asked, *on_step, *on_pause_end;
    uint64_t mapped;   /* bytes of the segment that are mapped in */
    uint64_t done_ns;  /* when the last one was over; 0: there was none */
    bool pausing;      /* somebody asks again, too early */
    bool complained;
};

/* The last store is the one that who asked waits for. Where there is no /proc all figures are 0, and he need not wait for nothing. */
static void measure(struct lrd_measure *m)
{
    struct lrd_header *h = m->store->header;
    struct lrd_measured sum = {0};
    FILE *f = fopen("/proc/self/smaps", "re");
    if (f != NULL) {
        lrd_measure_sum(f, &sum);
        fclose(f);
    } else if (!m->complained) {
        lrd_log(LRD_WARNING, "memory cannot be measured: /proc/self/smaps: %s", strerror(errno));
        m->complained = true;
    }
    lrd_store_relaxed(&h->kernel_segment, sum.segment);
    lrd_store_relaxed(&h->kernel_lanes, sum.lanes);
    lrd_store_relaxed(&h->kernel_private, sum.anonymous);
    lrd_store_relaxed(&h->kernel_files, sum.files);
    lrd_store_relaxed(&h->measured_ms, lrd_clock_segment_ms(m->store->r.geometry.created_ns));
    /* Publishes the figures; pairs with the acquire of who asked. */
    lrd_store_release(&h->measured, lrd_load_relaxed(&h->measured) + 1);
    m->done_ns = lrd_clock_ns();
}

static void on_step(evutil_socket_t fd, short what, void *arg)
{
    struct lrd_measure *m = arg;
    uint64_t left = m->store->r.geometry.segment_bytes - m->mapped;
    (void)fd, (void)what;
    if (left > 0) {
        /* If it cannot be done (Linux before 5.14) pages come when they are touched. */
        (void)madvise(m->store->base + m->mapped, left < MAP_STEP_BYTES ? left : MAP_STEP_BYTES, MADV_POPULATE_READ);
        m->mapped += left < MAP_STEP_BYTES ? left : MAP_STEP_BYTES;
        if (event_add(m->on_step, &(struct timeval){0}) == 0)
            return;
    }
    m->mapped = m->store->r.geometry.segment_bytes;
    measure(m);
}

static void on_asked(evutil_socket_t fd, short what, void *arg)
{
    struct lrd_measure *m = arg;
    eventfd_t n;
    (void)what;
    (void)eventfd_read(fd, &n); /* before the look: who asks behind it makes it readable again */
    if (m->done_ns == 0)
        return; /* the first one is on its way */
    uint64_t passed_ms = (lrd_clock_ns() - m->done_ns) / 1000000;
    if (passed_ms >= PAUSE_MS) {
        measure(m);
        return;
    }
    if (!m->pausing)
        m->pausing = event_add(m->on_pause_end, &(struct timeval){.tv_usec = (suseconds_t)(PAUSE_MS - passed_ms) * 1000}) == 0;
    if (!m->pausing)
        measure(m); /* no memory for a timer */
}

static void on_pause_end(evutil_socket_t fd, short what, void *arg)
{
    struct lrd_measure *m = arg;
    (void)fd, (void)what;
    m->pausing = false;
    measure(m);
}

int lrd_measure_create(struct lrd_measure **out, struct lrd_store *store, int asked, struct event_base *base)
{
    struct lrd_measure *m = calloc(1, sizeof *m);
    *out = m;
    if (m == NULL)
        return -ENOMEM;
    m->store = store;
    m->on_asked = event_new(base, asked, EV_READ | EV_PERSIST, on_asked, m);
    m->on_step = event_new(base, -1, 0, on_step, m);
    m->on_pause_end = event_new(base, -1, 0, on_pause_end, m);
    if (m->on_asked != NULL && m->on_step != NULL && m->on_pause_end != NULL && event_add(m->on_asked, NULL) == 0 && event_add(m->on_step, &(struct timeval){0}) == 0)
        return 0;
    lrd_measure_destroy(m);
    *out = NULL;
    return -ENOMEM;
}

void lrd_measure_destroy(struct lrd_measure *m)
{
    if (m == NULL)
        return;
    if (m->on_asked != NULL)
        event_free(m->on_asked);
    if (m->on_step != NULL)
        event_free(m->on_step);
    if (m->on_pause_end != NULL)
        event_free(m->on_pause_end);
    free(m);
}
