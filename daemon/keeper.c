/* What the keeper holds is what makes a worker replaceable: the writable mapping (nobody can make another one after the seal), the listening socket, and for every lane
 * its memory, its doorbell and the client's connection. It is small so that it need not be replaced itself: it parses nothing that a client wrote, takes no lock
 * and never waits for anybody but poll.
 *
 *   the keeper dies       the worker is killed by the kernel, clients see their connection end; the next start is a cold one
 *   the worker dies       what it had handed over is here; what it was about to hand over is closed with it, and the client asks again
 *   a KEEP in the pair    is taken before the next worker is forked; that worker finds the lane PREPARED and drops it
 *   a DROP in the pair    likewise; had it not been sent, the next worker finds the lane FREE but kept, and drops it
 */
#include "daemon/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "daemon/door.h"
#include "daemon/log.h"
#include "daemon/pages.h"
#include "daemon/worker.h"
#include "shm/clock.h"
#include "shm/feed.h"
#include "shm/hello.h"
#include "shm/lane.h"
#include "shm/testpoint.h"

#define MS UINT64_C(1000000)
#define STOP_MS 5000u         /* between SIGTERM and SIGKILL */
#define PEEK_PAUSE_MS 100u    /* when descriptors are short: poll and accept would spin */
#define PEEKS_PER_TURN 16u    /* then a look at signals and the worker */
#define FIRST_TRIES 3u        /* workers that may fail before the first was ever ready */
#define WORKER_FDS 160u       /* beside the lanes': half-open connections, libevent, standard ones */
#define FDS_PER_LANE 4u       /* lane, doorbell, socket, pidfd */

struct keeper {
    const struct lrd_config *config;
    struct lrd_door door;
    struct lrd_pages pages;
    struct lrd_store store;
    struct lrd_house house;
    struct lrd_part parts[LRD_N_PARTS];
    int signals;
    int pair;              /* to the worker; -1: none, or it has hung up */
    pid_t worker;          /* 0: none */
    bool worker_ready, ever_ready;
    unsigned n_unready;    /* workers in a row that died before they were ready */
    bool stopping, failed;
    /* on CLOCK_MONOTONIC; 0: not set */
    uint64_t fork_at_ns, kill_at_ns, peek_at_ns;
};

/* ---- planning ---- */

static bool plan_namespaces(const struct lrd_config *c, const struct lrd_geometry *g, char why[LRD_WHY_BYTES])
{
    struct lrd_namespace all[LRD_NAMESPACES];
    size_t n = (size_t)snprintf(why, LRD_WHY_BYTES, "--namespace: ");
    return lrd_ns_plan(g, c->namespaces.at, c->namespaces.n, all, why + n, LRD_WHY_BYTES - n) == LRD_ANSWER_OK;
}

/* Never nearly all of the memory: a plan that cannot be says so by itself. */
static uint64_t feed_bytes(const struct lrd_config *c)
{
    uint64_t need = 0;
    if (c->feeds != 0)
        return c->feeds < c->memory ? c->feeds : c->memory;
    for (uint32_t i = 0; i < c->namespaces.n; i++)
        if (c->namespaces.at[i].feed_entries != 0)
            need += lrd_feed_pages(lrd_feed_round(c->namespaces.at[i].feed_entries)) * LRD_PAGE;
    return need > c->memory / 256 ? need : c->memory / 256;
}

bool lrd_keeper_plan(const struct lrd_config *c, struct lrd_geometry *g, struct lrd_part parts[LRD_N_PARTS], char why[LRD_WHY_BYTES])
{
    uint64_t least = 0;
    struct lrd_plan plan = {
        .memory_bytes = c->memory,
        .average_item = c->average_item,
        .view_ms = c->view_ms,
        .load = c->table_load,
        .n_lanes = c->max_clients,
        .ring_bytes = (uint32_t)c->ring,
        .block_shift = c->block_size > 0 ? (uint32_t)__builtin_ctzll(c->block_size) : 0,
        .n_blocks = c->blocks,
        .feed_bytes = feed_bytes(c),
    };
    if (c->block_size != 0 && ((c->block_size & (c->block_size - 1)) != 0 || plan.block_shift < LRD_BLOCK_SHIFT_MIN)) {
        snprintf(why, LRD_WHY_BYTES, "--block-size %llu: say a power of two from 4K to 2M, or 0", (unsigned long long)c->block_size);
        return false;
    }
    if (c->blocks != 0 && c->blocks < LRD_BLOCKS_LEAST) {
        snprintf(why, LRD_WHY_BYTES, "--blocks %u: say %u or more, or 0 for all", c->blocks, LRD_BLOCKS_LEAST);
        return false;
    }
    if (lrd_segment_plan(&plan, g, parts, &least) == 0)
        return plan_namespaces(c, g, why);
    char a[16], b[16];
    uint64_t feeds = plan.feed_bytes, without;
    plan.feed_bytes = 0;
    if (feeds > c->memory / 256 && lrd_segment_plan(&plan, g, parts, &without) == 0) {
        snprintf(why, LRD_WHY_BYTES, "--memory %s has no room for change feeds of %s: lower %s, or raise --memory", lrd_size_text(c->memory, a),
                 lrd_size_text(c->feeds != 0 ? c->feeds : feeds, b), c->feeds != 0 ? "--feeds" : "feed= of the namespaces");
        return false;
    }
    snprintf(why, LRD_WHY_BYTES, "--memory %s is too little for %u clients and items of %u bytes: give it at least %s", lrd_size_text(c->memory, a), c->max_clients,
             c->average_item, lrd_size_text(least, b));
    return false;
}

/* ---- making everything, in order ---- */

bool lrd_keeper_raise_descriptors(uint32_t n_lanes, char why[LRD_WHY_BYTES])
{
    struct rlimit limit;
    rlim_t need = (rlim_t)n_lanes * FDS_PER_LANE + WORKER_FDS;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= need)
        return true;
    if (limit.rlim_max < need) {
        snprintf(why, LRD_WHY_BYTES, "%u clients take %llu descriptors, at most %llu are allowed: raise the hard limit (ulimit -Hn, LimitNOFILE=), or lower --max-clients to %llu",
                 n_lanes, (unsigned long long)need, (unsigned long long)limit.rlim_max,
                 (unsigned long long)(limit.rlim_max > WORKER_FDS ? (limit.rlim_max - WORKER_FDS) / FDS_PER_LANE : 0));
        return false;
    }
    limit.rlim_cur = need;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

static int block_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return -errno;
    /* A reader of our log that goes away, or a file size limit, must not end the daemon. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

/* Clients get a descriptor that was never writable. Where /proc is not mounted the seal alone protects. */
static int reopen_read_only(int fd)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int ro = open(path, O_RDONLY | O_CLOEXEC);
    return ro >= 0 ? ro : fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

static void log_pages(const struct lrd_pages *p)
{
    char a[16], b[16], c[16];
    lrd_log(LRD_INFO, "pages: %s reserved huge, %s transparent huge, %s small", lrd_size_text(p->tier_bytes[LRD_PAGES_HUGETLB], a),
            lrd_size_text(p->tier_bytes[LRD_PAGES_THP], b), lrd_size_text(p->tier_bytes[LRD_PAGES_SMALL], c));
    if (p->tier_bytes[LRD_PAGES_SMALL] > p->bytes / 2)
        lrd_log(LRD_WARNING, "most of the segment lies on 4 KiB pages: reads are slower; see PAGES in larderd(8)");
}

static bool make_segment(struct keeper *k, char why[LRD_WHY_BYTES])
{
    struct lrd_geometry *g = &k->house.geometry;
    uint64_t lanes = lrd_lanes_bytes(g);
    if (lrd_pages_make(&k->pages, g->segment_bytes, lanes, (enum lrd_pages_wish)k->config->pages, k->config->numa, why) < 0)
        return false;
    log_pages(&k->pages);

    if (getrandom(&g->segment_id, sizeof g->segment_id, 0) != sizeof g->segment_id || getrandom(&g->hash_seed, sizeof g->hash_seed, 0) != sizeof g->hash_seed) {
        snprintf(why, LRD_WHY_BYTES, "no random numbers: %s", strerror(errno));
        return false;
    }
    g->segment_id |= 1; /* 0 means none */
    g->created_ns = lrd_clock_ns();
    lrd_segment_format(&k->store, k->pages.base, g, k->parts);
    if (lrd_ns_configure(&k->store, k->config->namespaces.at, k->config->namespaces.n, why, LRD_WHY_BYTES) != LRD_ANSWER_OK)
        return false; /* the plan had room for them: never */
    for (unsigned i = 0; i < 4; i++)
        lrd_store_relaxed(&k->store.header->page_bytes[i], k->pages.tier_bytes[i]);
    lrd_store_relaxed(&k->store.header->keeper_pid, (uint64_t)getpid());
    lrd_store_relaxed(&k->store.header->numa_node, (uint64_t)(k->pages.node + 1));

    int err = lrd_pages_seal(&k->pages);
    if (err < 0) {
        snprintf(why, LRD_WHY_BYTES, "cannot seal the segment: %s: larderd needs Linux 5.1 or later", strerror(-err));
        return false;
    }
    k->house.segment = reopen_read_only(k->pages.fd);
    k->house.base = k->pages.base;
    k->house.node = k->pages.node;
    close(k->pages.fd); /* the mapping is what counts */
    k->pages.fd = -1;
    if (k->house.segment < 0)
        snprintf(why, LRD_WHY_BYTES, "no descriptor of the segment for clients: %s", strerror(errno));
    return k->house.segment >= 0;
}

static bool make_kept(struct keeper *k, char why[LRD_WHY_BYTES])
{
    k->house.kept = calloc(k->config->max_clients, sizeof *k->house.kept);
    if (k->house.kept == NULL)
        snprintf(why, LRD_WHY_BYTES, "no memory for %u lanes", k->config->max_clients);
    return k->house.kept != NULL;
}

static bool make_everything(struct keeper *k, char why[LRD_WHY_BYTES])
{
    /* What can be known to fail without touching anything comes first. */
    if (!lrd_keeper_plan(k->config, &k->house.geometry, k->parts, why) || !lrd_keeper_raise_descriptors(k->config->max_clients, why) || !make_kept(k, why))
        return false;
    k->signals = block_signals();
    if (k->signals < 0) {
        snprintf(why, LRD_WHY_BYTES, "signalfd: %s", strerror(-k->signals));
        return false;
    }
    if (lrd_door_take(&k->door, k->config, why) < 0 || !make_segment(k, why))
        return false;
    /* Otherwise a process of the same user could write our memory, or take our descriptors, by ptrace and its relatives. After the segment: /proc/self changes
     * hands with this. */
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (lrd_door_open(&k->door, why) < 0)
        return false;
    k->house.listener = k->door.listener;
    return true;
}

/* ---- what is kept ---- */

static void close_kept(struct lrd_kept *kept)
{
    if (!kept->used)
        return;
    close(kept->lane);
    close(kept->doorbell);
    close(kept->client);
    *kept = (struct lrd_kept){0};
}

static void answer(const struct keeper *k, enum lrd_keeper_kind kind, const struct lrd_keeper_message *to)
{
    struct lrd_keeper_message m = {.kind = kind, .lane = to->lane, .incarnation = to->incarnation};
    int err = lrd_send_fds(k->pair, &m, sizeof m, NULL, 0);
    if (err < 0 && err != -EPIPE && err != -ECONNRESET)
        lrd_log(LRD_WARNING, "an answer to the worker about lane %u is lost: %s", to->lane, strerror(-err));
}

static void notify_ready(const struct keeper *k)
{
    char a[16];
    lrd_log(LRD_INFO, "ready: %s at %s, %u clients", lrd_size_text(k->house.geometry.segment_bytes, a), k->config->socket, k->house.geometry.n_lanes);
#ifdef HAVE_SYSTEMD
    sd_notify(0, "READY=1");
#endif
}

static void take_message(struct keeper *k, const struct lrd_keeper_message *m, const int fds[LRD_FDS_MAX], unsigned n_fds)
{
    if (m->kind == LRD_KEEPER_READY) {
        k->worker_ready = true;
        k->n_unready = 0;
        if (!k->ever_ready)
            notify_ready(k);
        k->ever_ready = true;
        return;
    }
    struct lrd_kept *kept = m->lane < k->house.geometry.n_lanes ? &k->house.kept[m->lane] : NULL;
    if (kept != NULL && m->kind == LRD_KEEPER_KEEP && n_fds == LRD_FDS_MAX) {
        close_kept(kept);
        *kept = (struct lrd_kept){.used = true, .incarnation = m->incarnation, .lane = fds[0], .doorbell = fds[1], .client = fds[2]};
        answer(k, LRD_KEEPER_KEPT, m);
        return;
    }
    for (unsigned i = 0; i < n_fds; i++)
        close(fds[i]);
    if (kept != NULL && m->kind == LRD_KEEPER_DROP)
        close_kept(kept);
}

/* Everything that is in the pair; at its end it is closed. */
static void take_messages(struct keeper *k)
{
    while (k->pair >= 0) {
        struct lrd_keeper_message m = {0};
        int fds[LRD_FDS_MAX];
        unsigned n_fds = 0;
        int err = lrd_recv_fds(k->pair, &m, sizeof m, fds, LRD_FDS_MAX, &n_fds, MSG_DONTWAIT);
        if (err == 0)
            take_message(k, &m, fds, n_fds);
        else if (err == -EPROTO)
            answer(k, LRD_KEEPER_NOT_KEPT, &m); /* its descriptors did not get through */
        else if (err == -EAGAIN)
            return;
        else {
            close(k->pair);
            k->pair = -1;
        }
    }
}

/* ---- workers ---- */

static void be_worker(struct keeper *k, int pair, pid_t keeper)
{
    sigset_t none;
    close(k->signals);
    close(k->door.peek);
    close(k->pair);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    k->house.keeper = pair;
    _exit(lrd_worker_run(&k->house, keeper));
}

static void fork_worker(struct keeper *k)
{
    int pair[2];
    pid_t keeper = getpid();
    k->fork_at_ns = 0;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
        lrd_log(LRD_ERROR, "no socket pair for a worker: %s; trying again", strerror(errno));
        k->fork_at_ns = lrd_clock_ns() + 100 * MS;
        return;
    }
    k->pair = pair[0];
    k->worker_ready = false;
    pid_t pid = fork();
    if (pid == 0)
        be_worker(k, pair[1], keeper);
    close(pair[1]);
    if (pid > 0) {
        k->worker = pid;
        lrd_log(LRD_DEBUG, "worker %ld starts", (long)pid);
        return;
    }
    lrd_log(LRD_ERROR, "cannot fork a worker: %s; trying again", strerror(errno));
    close(k->pair);
    k->pair = -1;
    k->fork_at_ns = lrd_clock_ns() + 100 * MS;
}

/* Counts a fault in the journal, where the next worker looks what to do about it. No worker is alive: these words are ours now. */
static void note_fault(struct keeper *k)
{
    struct lrd_journal *j = k->store.journal;
    uint64_t applied = lrd_load_relaxed(&j->applied_total), lane = lrd_load_relaxed(&j->at_lane), position = lrd_load_relaxed(&j->at_position);
    uint64_t faults = lrd_load_relaxed(&j->faults), repeats = lrd_load_relaxed(&j->fault_repeats);
    bool went_on = faults == 0 || applied != lrd_load_relaxed(&j->fault_applied);
    bool same = faults > 0 && lane != 0 && lane == lrd_load_relaxed(&j->fault_lane) && position == lrd_load_relaxed(&j->fault_position);
    lrd_store_relaxed(&j->fault_applied, applied);
    lrd_store_relaxed(&j->fault_lane, lane);
    lrd_store_relaxed(&j->fault_position, position);
    lrd_store_relaxed(&j->fault_repeats, lane == 0 ? 0 : same ? repeats + 1 : 1);
    lrd_store_relaxed(&j->faults, went_on ? 1 : faults + 1);
    if (lane != 0)
        lrd_log(LRD_ERROR, "fault at lane %llu, position %llu; %llu in a row without a record applied in between", (unsigned long long)lane - 1,
                (unsigned long long)position, (unsigned long long)lrd_load_relaxed(&j->faults));
    else
        lrd_log(LRD_ERROR, "fault outside of any record; %llu in a row without a record applied in between", (unsigned long long)lrd_load_relaxed(&j->faults));
}

/* How long to wait before the next worker: not at all, unless workers fail in series. */
static uint64_t back_off_ms(const struct keeper *k, bool fault)
{
    uint64_t faults = fault ? lrd_load_relaxed(&k->store.journal->faults) : 0;
    uint64_t n = faults > k->n_unready ? faults : k->n_unready;
    return n <= 1 ? 0 : n >= 7 ? 1000 : UINT64_C(10) << n;
}

static void worker_died(struct keeper *k, int status)
{
    pid_t pid = k->worker;
    bool signaled = WIFSIGNALED(status);
    int number = signaled ? WTERMSIG(status) : WEXITSTATUS(status);
    bool fault = signaled ? number != SIGKILL && number != SIGTERM : number != LRD_WORKER_DONE && number != LRD_WORKER_LACKS;
    k->worker = 0;
    k->kill_at_ns = 0;
    take_messages(k); /* what it had sent before it died counts */
    if (k->stopping)
        return;
    lrd_log(fault ? LRD_ERROR : LRD_WARNING, "worker %ld %s %d%s%s%s; the next one takes over", (long)pid, signaled ? "died of signal" : "exited with status", number,
            signaled ? " (" : "", signaled ? strsignal(number) : "", signaled ? ")" : "");
    if (fault)
        note_fault(k);
#ifdef LRD_TESTPOINTS
    unsetenv("LARDER_TESTPOINT"); /* it has killed one; the next inherits our environment */
#endif
    k->n_unready += !k->worker_ready;
    if (!k->ever_ready && k->n_unready >= FIRST_TRIES) {
        lrd_log(LRD_ERROR, "%u workers failed and none was ever ready: giving up", k->n_unready);
        k->failed = k->stopping = true;
        return;
    }
    k->fork_at_ns = lrd_clock_ns() + back_off_ms(k, fault) * MS;
}

static void reap(struct keeper *k)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        if (pid == k->worker)
            worker_died(k, status);
}

/* ---- the loop ---- */

static void begin_to_stop(struct keeper *k, int signal_number)
{
    if (k->stopping)
        return;
    lrd_log(LRD_INFO, "%s: stopping", strsignal(signal_number));
#ifdef HAVE_SYSTEMD
    sd_notify(0, "STOPPING=1");
#endif
    k->stopping = true;
    k->fork_at_ns = 0;
    lrd_door_shut(&k->door);
    if (k->worker > 0) {
        kill(k->worker, SIGTERM);
        k->kill_at_ns = lrd_clock_ns() + STOP_MS * MS;
    }
}

static void take_signals(struct keeper *k)
{
    struct signalfd_siginfo info;
    while (read(k->signals, &info, sizeof info) == sizeof info) {
        int number = (int)info.ssi_signo;
        if (number == SIGCHLD)
            reap(k);
        else if (number == SIGHUP)
            lrd_log(LRD_INFO, "SIGHUP: nothing to do, options are read at start");
        else
            begin_to_stop(k, number);
    }
}

/* Hands the segment to whoever asks. Nothing is read: there is nothing to get wrong. */
static void greet(struct keeper *k)
{
    const struct lrd_geometry *g = &k->house.geometry;
    struct lrd_welcome w = {
        .magic = LRD_HELLO_MAGIC,
        .layout_version = LRD_LAYOUT_VERSION,
        .layout_hash = LRD_LAYOUT_HASH,
        .result = LRD_WELCOME_OK,
        .lane = UINT32_MAX,
        .n_cells = g->n_cells,
        .n_lanes = g->n_lanes,
        .segment_bytes = g->segment_bytes,
        .reserve_bytes = g->reserve_bytes,
        .segment_id = g->segment_id,
        .now_ns = lrd_clock_ns(),
    };
    for (unsigned i = 0; i < PEEKS_PER_TURN; i++) {
        int fd = accept4(k->door.peek, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            lrd_send_fds(fd, &w, sizeof w, &k->house.segment, 1); /* who does not take it has had his chance */
            close(fd);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            k->peek_at_ns = lrd_clock_ns() + PEEK_PAUSE_MS * MS;
        if (errno != ECONNABORTED && errno != EINTR)
            return;
    }
}

static bool is_due(uint64_t *at_ns, uint64_t now)
{
    if (*at_ns == 0 || *at_ns > now)
        return false;
    *at_ns = 0;
    return true;
}

/* Until the next of the three; -1: none is set. */
static int poll_timeout_ms(const struct keeper *k)
{
    const uint64_t at[] = {k->fork_at_ns, k->kill_at_ns, k->peek_at_ns};
    uint64_t now = lrd_clock_ns(), next = UINT64_MAX;
    for (unsigned i = 0; i < 3; i++)
        if (at[i] != 0 && at[i] < next)
            next = at[i];
    if (next == UINT64_MAX)
        return -1;
    return next <= now ? 0 : (int)((next - now + MS - 1) / MS);
}

static void keep_time(struct keeper *k)
{
    uint64_t now = lrd_clock_ns();
    if (is_due(&k->kill_at_ns, now) && k->worker > 0) {
        lrd_log(LRD_WARNING, "worker %ld does not stop: killed", (long)k->worker);
        kill(k->worker, SIGKILL);
    }
    if (is_due(&k->fork_at_ns, now) && !k->stopping)
        fork_worker(k);
    (void)is_due(&k->peek_at_ns, now);
}

static void keep(struct keeper *k)
{
    fork_worker(k);
    while (!k->stopping || k->worker > 0) {
        bool may_peek = k->peek_at_ns == 0 && !k->stopping;
        struct pollfd p[] = {
            {.fd = k->signals, .events = POLLIN},
            {.fd = k->pair, .events = POLLIN},
            {.fd = may_peek ? k->door.peek : -1, .events = POLLIN},
        };
        int n = poll(p, 3, poll_timeout_ms(k));
        /* Messages before deaths: a worker's last words are read while its pair is open. */
        if (n > 0 && p[1].revents != 0)
            take_messages(k);
        if (n > 0 && p[0].revents != 0)
            take_signals(k);
        if (n > 0 && p[2].revents != 0)
            greet(k);
        keep_time(k);
    }
}

static void drop_everything(struct keeper *k)
{
    lrd_door_leave(&k->door);
    for (uint32_t i = 0; k->house.kept != NULL && i < k->config->max_clients; i++)
        close_kept(&k->house.kept[i]);
    free(k->house.kept);
    if (k->pair >= 0)
        close(k->pair);
    if (k->house.segment >= 0)
        close(k->house.segment);
    if (k->signals >= 0)
        close(k->signals);
    lrd_pages_drop(&k->pages);
}

int lrd_keeper_run(const struct lrd_config *c)
{
    char why[LRD_WHY_BYTES] = "";
    struct keeper k = {
        .config = c,
        .door = {.lock = -1, .listener = -1, .peek = -1},
        .pages = {.fd = -1, .node = -1},
        .house = {.config = c, .segment = -1, .listener = -1, .keeper = -1, .node = -1},
        .signals = -1,
        .pair = -1,
    };
    bool made = make_everything(&k, why);
    if (made) {
        keep(&k);
        if (!k.failed)
            lrd_log(LRD_INFO, "stopped");
    } else
        lrd_log(LRD_ERROR, "%s", why);
    drop_everything(&k);
    return made && !k.failed ? EXIT_SUCCESS : EXIT_FAILURE;
}
