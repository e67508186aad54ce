#include "daemon/postmortem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/log.h"
#include "shm/counters.h"
#include "shm/lane.h"
#include "shm/ring.h"

/* Of the ring, from the record at fault on: four bytes of text for each. */
#define CELLS_MAX 2048u
#define CELLS_BEFORE 64u /* what was applied last */

/* Rows of zeros are left out. */
static void put_bytes(FILE *f, const unsigned char *at, size_t n)
{
    static const unsigned char zeros[32];
    for (size_t i = 0; i < n; i += 32) {
        if (n - i >= 32 && memcmp(at + i, zeros, 32) == 0)
            continue;
        fprintf(f, "%06zx ", i);
        for (size_t j = i; j < i + 32 && j < n; j++)
            fprintf(f, " %02x", at[j]);
        fputc('\n', f);
    }
}

static void put_header(FILE *f, const struct lrd_store *s)
{
    const struct lrd_geometry *g = &s->r.geometry;
    char now[64];
    time_t t = time(NULL);
    struct tm tm;
    localtime_r(&t, &tm);
    strftime(now, sizeof now, "%Y-%m-%d %H:%M:%S %z", &tm);
    fprintf(f, "larderd %s post-mortem, %s\n", PACKAGE_VERSION, now);
    fprintf(f, "segment %016" PRIx64 ", %" PRIu64 " bytes, %" PRIu32 " pairs, %" PRIu32 " blocks of %" PRIu32 ", %" PRIu32 " lanes of %" PRIu32 " cells\n", g->segment_id,
            g->segment_bytes, g->n_pairs, g->n_blocks, UINT32_C(1) << g->block_shift, g->n_lanes, g->n_cells);
    fprintf(f, "workers %" PRIu64 ", heartbeat at %" PRIu64 " ms\n\nheader\n", lrd_load_relaxed(&s->header->worker_count), lrd_load_relaxed(&s->header->heartbeat_ms));
    put_bytes(f, s->base, offsetof(struct lrd_header, rest));
}

static void put_journal(FILE *f, const struct lrd_store *s)
{
    const struct lrd_journal *j = s->journal;
    uint64_t n = lrd_load_relaxed(&j->n_steps);
    fprintf(f, "\njournal: %" PRIu64 " steps, at lane %" PRIu64 " (0: none, else + 1), position %" PRIu64 ", %" PRIu64 " records applied\n", n,
            lrd_load_relaxed(&j->at_lane), lrd_load_relaxed(&j->at_position), lrd_load_relaxed(&j->applied_total));
    fprintf(f, "faults %" PRIu64 ", of the same record %" PRIu64 "\n", lrd_load_relaxed(&j->faults), lrd_load_relaxed(&j->fault_repeats));
    for (uint64_t i = 0; i < n && i < LRD_STEPS; i++)
        fprintf(f, "  at %012" PRIx64 " store %016" PRIx64 "\n", lrd_load_relaxed(&j->step[i].off), lrd_load_relaxed(&j->step[i].value));
    fprintf(f, "\ncounters\n");
    for (unsigned i = 0; i < LRD_N_COUNTERS; i++)
        fprintf(f, "  %s %" PRIu64 "\n", lrd_counter_info[i].name, lrd_counter_sum(&s->r, (enum lrd_counter_id)i));
}

static void put_lane(FILE *f, const struct lrd_house *house, const struct lrd_store *s, uint32_t lane)
{
    const struct lrd_lane_words *words = &s->lanes[lane];
    uint64_t position = lrd_load_relaxed(&s->journal->fault_position), applied = lrd_load_relaxed(&words->applied);
    fprintf(f, "\nlane %" PRIu32 ": state %" PRIu32 ", incarnation %" PRIu32 ", client %" PRIu64 ", applied %" PRIu64 ", discarded %" PRIu64 "\n", lane,
            lrd_load32_relaxed(&words->state), lrd_load32_relaxed(&words->incarnation), lrd_load_relaxed(&words->client_pid), applied,
            lrd_load_relaxed(&words->discarded));
    struct lrd_ring ring;
    if (!house->kept[lane].used || lrd_lane_map(house->kept[lane].lane, s->r.geometry.n_cells, (uint32_t)lrd_load_relaxed(&s->lanes[lane].mark_bytes), &ring) < 0) {
        fprintf(f, "not mapped\n");
        return;
    }
    uint64_t from = position > CELLS_BEFORE ? position - CELLS_BEFORE : 0;
    uint32_t n = ring.n_cells < CELLS_MAX ? ring.n_cells : CELLS_MAX;
    fprintf(f, "tail %" PRIu64 ", record at fault at %" PRIu64 "; %" PRIu32 " cells from %" PRIu64 "\ncommit words\n", lrd_load_relaxed(&ring.lane->tail), position, n, from);
    for (uint64_t p = from; p < from + n; p++) {
        uint64_t w = lrd_load_relaxed(&ring.commit[lrd_ring_idx(&ring, p)]);
        if (w != 0)
            fprintf(f, "  %" PRIu64 ": lap %" PRIu64 ", %" PRIu32 " cells, kind %" PRIu64 "\n", p, lrd_commit_lap(w), lrd_commit_cells(w), w & 0xff);
    }
    fprintf(f, "cells\n");
    put_bytes(f, lrd_ring_at(&ring, from), (size_t)n * LRD_CELL); /* contiguous: they are mapped twice in a row */
    lrd_lane_unmap(&ring);
}

static int write_all(const struct lrd_house *house, const struct lrd_store *s, const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    if (f == NULL) {
        int err = -errno;
        if (fd >= 0)
            close(fd);
        return err;
    }
    uint64_t lane = lrd_load_relaxed(&s->journal->fault_lane);
    put_header(f, s);
    put_journal(f, s);
    if (lane > 0 && lane <= s->r.geometry.n_lanes)
        put_lane(f, house, s, (uint32_t)lane - 1);
    bool bad = ferror(f) != 0;
    return fclose(f) != 0 || bad ? -EIO : 0;
}

void lrd_postmortem_write(const struct lrd_house *house, const struct lrd_store *store)
{
    const char *name = strrchr(house->config->socket, '/');
    char *path = NULL, *old = NULL;
    name = name != NULL ? name + 1 : house->config->socket;
    if (asprintf(&path, "%s/%s.post-mortem", house->config->dump_dir, name) < 0 || asprintf(&old, "%s.old", path) < 0) {
        lrd_log(LRD_ERROR, "no post-mortem: no memory");
        return;
    }
    if (rename(path, old) < 0 && errno != ENOENT)
        lrd_log(LRD_WARNING, "cannot rename %s: %s", path, strerror(errno));
    int err = write_all(house, store, path);
    if (err < 0)
        lrd_log(LRD_ERROR, "no post-mortem at %s: %s", path, strerror(-err));
    else
        lrd_log(LRD_ERROR, "post-mortem written to %s", path);
    free(path);
    free(old);
}
