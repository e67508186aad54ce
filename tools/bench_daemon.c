/* A private larderd: beside this program, on a socket in a folder of its own, gone when the measurement is over or this process is. */
#include "tools/bench.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/hello.h"
#include "shm/item.h"

#define START_S 120u /* it populates its memory first: about 3 s for 10 GiB of small pages */
#define STOP_S 10u
#define NAP_US 2000u
#define OWN_ARGS 10u
#define ARG_BYTES 340u
#define MAX_ARGS (BENCH_DAEMON_OPTIONS + OWN_ARGS + 1)

uint64_t bench_daemon_memory(const struct bench_options *o)
{
    /* An item's bytes in the arena and its share of the table; a tenth for what an even stream of sets leaves dead, and for spare blocks. */
    uint64_t item = lrd_item_bytes(BENCH_KEY, (uint32_t)o->value_size, 3) + 14;
    return o->items * item / 10 * 11 + (UINT64_C(8) << 20);
}

/* ---- finding it ---- */

/* Beside this program: in the same folder, as a build has it, or in ../sbin, as an installation has it. Libtool puts this program in .libs. */
static bool find(char *path, size_t bytes)
{
    static const char *const places[] = {"larderd", "../larderd", "../sbin/larderd"};
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0)
        return false;
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    if (!slash)
        return false;
    *slash = '\0';
    size_t dir = strlen(self);
    if (dir > 6 && strcmp(self + dir - 6, "/.libs") == 0)
        self[dir - 6] = '\0';
    for (unsigned i = 0; i < sizeof places / sizeof *places; i++)
        if ((size_t)snprintf(path, bytes, "%s/%s", self, places[i]) < bytes && access(path, X_OK) == 0)
            return true;
    return false;
}

/* ---- starting ---- */

/* In the child: never returns. */
static void become(const struct bench_daemon *d, const struct bench *b, char *const *args, const char *path, pid_t parent)
{
    char log[300];
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(127);
    snprintf(log, sizeof log, "%s/log", d->dir);
    int out = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (out >= 0) {
        dup2(out, STDOUT_FILENO);
        dup2(out, STDERR_FILENO);
    }
    if (in >= 0)
        dup2(in, STDIN_FILENO);
    bench_pin_away(&b->o);
    execv(path, args);
    fprintf(stderr, "cannot run %s: %s\n", path, strerror(errno));
    _exit(127);
}

static bool listens(const char *path)
{
    int sock = lrd_connect(path);
    if (sock >= 0)
        close(sock);
    return sock >= 0;
}

static bool answers(const struct bench_daemon *d)
{
    char peek[320];
    snprintf(peek, sizeof peek, "%s.peek", d->socket);
    return listens(peek) && listens(d->socket);
}

/* The last line it wrote. */
static void last_words(const struct bench_daemon *d, char *line, size_t bytes)
{
    char path[300], next[512];
    snprintf(path, sizeof path, "%s/log", d->dir);
    snprintf(line, bytes, "it said nothing");
    FILE *log = fopen(path, "re");
    if (!log)
        return;
    while (fgets(next, sizeof next, log)) {
        next[strcspn(next, "\n")] = '\0';
        if (next[0])
            snprintf(line, bytes, "%s", next);
    }
    fclose(log);
}

static enum bench_status wait_for_answer(struct bench_daemon *d)
{
    char line[512];
    for (unsigned i = 0; i < START_S * 1000000u / NAP_US; i++) {
        if (answers(d))
            return BENCH_OK;
        if (waitpid(d->pid, NULL, WNOHANG) == d->pid) {
            d->pid = 0;
            last_words(d, line, sizeof line);
            return bench_error(BENCH_FAILURE, "the private larderd ended: %s", line);
        }
        usleep(NAP_US);
    }
    return bench_error(BENCH_FAILURE, "the private larderd did not answer in %u s", START_S);
}

/* Where the next argument goes. */
struct line {
    unsigned n;
    char *args[MAX_ARGS];
};

static void __attribute__((format(printf, 2, 3))) say(struct line *l, const char *format, ...)
{
    va_list list;
    char text[ARG_BYTES];
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    l->args[l->n++] = strdup(text);
    l->args[l->n] = NULL;
}

static void say_all(struct line *l, const struct bench_daemon *d, const struct bench *b, const struct bench_daemon_size *size)
{
    say(l, "larderd");
    say(l, "--memory=%llu", (unsigned long long)size->memory);
    say(l, "--average-item=%llu", (unsigned long long)size->average_item);
    say(l, "--max-clients=%u", size->max_clients);
    say(l, "--socket=%s", d->socket);
    if (size->table_load > 0)
        say(l, "--table-load=%g", size->table_load);
    if (size->block_bytes > 0)
        say(l, "--block-size=%llu", (unsigned long long)size->block_bytes);
    if (size->blocks > 0)
        say(l, "--blocks=%u", size->blocks);
    if (size->ring_bytes > 0)
        say(l, "--ring=%llu", (unsigned long long)size->ring_bytes);
    if (b->o.policy)
        say(l, "--namespace=default,policy=%s", b->o.policy);
    for (unsigned i = 0; i < b->o.n_daemon_options; i++)
        l->args[l->n++] = strdup(b->o.daemon_options[i]);
    l->args[l->n] = NULL;
}

enum bench_status bench_daemon_start(struct bench_daemon *d, const struct bench *b, const struct bench_daemon_size *size)
{
    char path[4200];
    struct line line = {0};
    const char *tmp = getenv("TMPDIR");
    memset(d, 0, sizeof *d);
    if (b->o.daemon)
        snprintf(path, sizeof path, "%s", b->o.daemon);
    else if (!find(path, sizeof path))
        return bench_error(BENCH_NO_DAEMON, "no larderd beside this program: name it with --larderd");
    if ((size_t)snprintf(d->dir, sizeof d->dir, "%s/larder-bench.XXXXXX", tmp && *tmp ? tmp : "/tmp") >= sizeof d->dir || !mkdtemp(d->dir)) {
        d->dir[0] = '\0';
        return bench_error(BENCH_FAILURE, "cannot make a folder in $TMPDIR: %s", strerror(errno));
    }
    snprintf(d->socket, sizeof d->socket, "%s/socket", d->dir);
    say_all(&line, d, b, size);

    pid_t parent = getpid();
    d->pid = fork();
    if (d->pid == 0)
        become(d, b, line.args, path, parent);
    while (line.n > 0)
        free(line.args[--line.n]);
    enum bench_status status = d->pid < 0 ? bench_error(BENCH_FAILURE, "cannot fork: %s", strerror(errno)) : wait_for_answer(d);
    if (status != BENCH_OK)
        bench_daemon_stop(d);
    return status;
}

/* ---- stopping ---- */

static void end_process(pid_t pid)
{
    kill(pid, SIGTERM);
    for (unsigned i = 0; i < STOP_S * 1000000u / NAP_US; i++) {
        if (waitpid(pid, NULL, WNOHANG) != 0)
            return;
        usleep(NAP_US);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void remove_dir(const char *dir)
{
    DIR *open_dir = opendir(dir);
    if (!open_dir)
        return;
    for (struct dirent *e; (e = readdir(open_dir)) != NULL;)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            unlinkat(dirfd(open_dir), e->d_name, 0);
    closedir(open_dir);
    rmdir(dir);
}

void bench_daemon_stop(struct bench_daemon *d)
{
    if (d->pid > 0)
        end_process(d->pid);
    if (d->dir[0])
        remove_dir(d->dir);
    memset(d, 0, sizeof *d);
}
