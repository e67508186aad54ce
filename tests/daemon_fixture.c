#include "tests/daemon_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shm/clock.h"
#include "shm/hello.h"

#define PATIENCE_MS 20000u /* for what takes milliseconds */
#define OPTIONS 32u

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    printf("%s: %s\n", what, strerror(errno));
    exit(1);
}

void pause_us(unsigned us)
{
    const struct timespec t = {.tv_sec = us / 1000000, .tv_nsec = (long)(us % 1000000) * 1000};
    nanosleep(&t, NULL);
}

static const char *program(const char *name)
{
    static char path[512];
    const char *build = getenv("LARDER_BUILD");
    snprintf(path, sizeof path, "%s/%s", build ? build : ".", name);
    return path;
}

/* The daemon's log is shown only if something is wrong with it. */
static void print_log(const struct daemon_fixture *d)
{
    char path[128], line[512];
    snprintf(path, sizeof path, "%s/log", d->folder);
    FILE *f = fopen(path, "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        fputs(line, stdout);
    if (f != NULL)
        fclose(f);
}

static void be_the_daemon(const struct daemon_fixture *d, const char *testpoint, const char *const *options)
{
    char path[128], *argv[OPTIONS];
    unsigned n = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* nothing is left of a test that dies */
    snprintf(path, sizeof path, "%s/log", d->folder);
    int log = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600), none = open("/dev/null", O_RDONLY);
    dup2(none, 0);
    dup2(log, 1);
    dup2(log, 2);
    if (testpoint != NULL)
        setenv("LARDER_TESTPOINT", testpoint, 1);
    const char *file = program("larderd");
    argv[n++] = strdup(file);
    argv[n++] = strdup("--socket");
    argv[n++] = strdup(d->socket);
    while (options != NULL && *options != NULL && n < OPTIONS - 1)
        argv[n++] = strdup(*options++);
    argv[n] = NULL;
    execv(file, argv);
    perror(file);
    _exit(127);
}

/* As larderctl does it. */
static bool peek(struct daemon_fixture *d)
{
    char path[128];
    struct lrd_welcome w;
    unsigned got = 0;
    snprintf(path, sizeof path, "%s.peek", d->socket);
    int sock = lrd_connect(path);
    if (sock < 0)
        return false;
    int r = lrd_recv_fds(sock, &w, sizeof w, &d->fd, 1, &got, 0);
    close(sock);
    if (r != 0 || got != 1)
        return false;
    d->bytes = w.segment_bytes;
    d->base = mmap(NULL, d->bytes, PROT_READ, MAP_SHARED, d->fd, 0);
    must(d->base != MAP_FAILED, "mmap");
    must(lrd_reader_init(&d->r, d->base, d->bytes) == LRD_SEGMENT_GOOD, "lrd_reader_init");
    return true;
}

uint64_t daemon_workers(const struct daemon_fixture *d) { return lrd_load_acquire(&d->r.header->worker_count); }

static void give_up(const struct daemon_fixture *d, const char *what)
{
    print_log(d);
    printf("%s\n", what);
    exit(1);
}

void daemon_start(struct daemon_fixture *d, const char *testpoint, const char *const *options)
{
    memset(d, 0, sizeof *d);
    strcpy(d->folder, "/tmp/larder-test.XXXXXX");
    must(mkdtemp(d->folder) != NULL, "mkdtemp");
    snprintf(d->socket, sizeof d->socket, "%s/socket", d->folder);
    fflush(NULL);
    d->keeper = fork();
    must(d->keeper >= 0, "fork");
    if (d->keeper == 0)
        be_the_daemon(d, testpoint, options);
    uint64_t end = lrd_clock_ns() + PATIENCE_MS * UINT64_C(1000000);
    while (!peek(d) && lrd_clock_ns() < end && waitpid(d->keeper, NULL, WNOHANG) == 0)
        pause_us(1000);
    if (d->base == NULL)
        give_up(d, "larderd does not start");
    while (daemon_workers(d) == 0 && lrd_clock_ns() < end)
        pause_us(1000);
    if (daemon_workers(d) == 0)
        give_up(d, "no worker runs");
}

void daemon_stop(struct daemon_fixture *d)
{
    int status = -1;
    kill(d->keeper, SIGTERM);
    must(waitpid(d->keeper, &status, 0) == d->keeper, "waitpid");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        printf("larderd ended with status %x\n", (unsigned)status);
        give_up(d, "");
    }
    munmap(d->base, d->bytes);
    close(d->fd);
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", d->folder);
    must(system(command) == 0, command);
}

void daemon_kill_worker(struct daemon_fixture *d)
{
    uint64_t count = daemon_workers(d), end = lrd_clock_ns() + PATIENCE_MS * UINT64_C(1000000);
    pid_t pid = (pid_t)lrd_load_relaxed(&d->r.header->worker_pid);
    must(pid > 1 && pid != d->keeper, "the worker's pid");
    kill(pid, SIGKILL);
    while (daemon_workers(d) == count && lrd_clock_ns() < end)
        pause_us(200);
    if (daemon_workers(d) == count)
        give_up(d, "no other worker runs");
}

bool daemon_wait32(const lrd_u32 *word, uint32_t value, uint64_t ms)
{
    uint64_t end = lrd_clock_ns() + ms * 1000000u;
    while (lrd_load32_acquire(word) != value && lrd_clock_ns() < end)
        pause_us(200);
    return lrd_load32_acquire(word) == value;
}

bool daemon_check(const struct daemon_fixture *d)
{
    char command[700];
    int status = 1;
    /* Exit status 1: a worker stands in a change, which is over when one runs. */
    for (int i = 0; i < 50 && status == 1; i++) {
        snprintf(command, sizeof command, "%s --socket %s check >%s/check 2>&1", program("larderctl"), d->socket, d->folder);
        status = WEXITSTATUS(system(command));
        if (status == 1)
            pause_us(20000);
    }
    if (status == 0)
        return true;
    print_log(d);
    snprintf(command, sizeof command, "tail -n 30 %s/check", d->folder);
    fflush(NULL);
    (void)!system(command);
    printf("larderctl check: exit status %d\n", status);
    return false;
}

static bool is_stopped(pid_t pid, const char *thread)
{
    char path[64], line[256] = "";
    snprintf(path, sizeof path, "/proc/%d/task/%.20s/stat", (int)pid, thread);
    FILE *f = fopen(path, "r");
    if (f != NULL) {
        (void)!fgets(line, sizeof line, f);
        fclose(f);
    }
    const char *end = strrchr(line, ')');
    return end != NULL && end[1] == ' ' && end[2] == 'T';
}

pid_t daemon_freeze_worker(const struct daemon_fixture *d)
{
    pid_t pid = (pid_t)lrd_load_relaxed(&d->r.header->worker_pid);
    char path[32];
    bool all;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    kill(pid, SIGSTOP);
    do {
        DIR *threads = opendir(path);
        all = threads != NULL;
        for (const struct dirent *e; threads != NULL && (e = readdir(threads)) != NULL;)
            all &= e->d_name[0] == '.' || is_stopped(pid, e->d_name);
        if (threads != NULL)
            closedir(threads);
    } while (!all);
    return pid;
}
