#include "daemon/door.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "daemon/log.h"

#define PEEK_SUFFIX ".peek"

/* A killed daemon's worker holds the lock until the kernel has torn it down: large segments take a while. */
#define WAIT_FOR_DEAD_MS 3000u
#define WAIT_STEP_MS 10u

/* ---- lock ---- */

static bool same_file(int fd, const char *path)
{
    struct stat a, b;
    return fstat(fd, &a) == 0 && lstat(path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* Who wrote its pid into the lock file; 0: nobody (yet). */
static pid_t lock_holder(int fd)
{
    char text[32] = "";
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    long pid = n > 0 ? strtol(text, NULL, 10) : 0;
    return pid > 0 ? (pid_t)pid : 0;
}

static bool alive(pid_t pid) { return pid > 0 && (kill(pid, 0) == 0 || errno == EPERM); }

static int write_pid(int fd)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) != n)
        return -errno;
    return 0;
}

static int say_folder(const char *what, const char *path, int err, char why[LRD_WHY_BYTES])
{
    const char *fix = err == ENOENT    ? "make the folder, or choose another by --socket"
                      : err == EACCES  ? "run larderd as who may write there, or choose another folder by --socket"
                      : err == ENOTDIR ? "a part of the path is not a folder; choose another by --socket"
                                       : "choose another folder by --socket";
    snprintf(why, LRD_WHY_BYTES, "cannot make %s %.300s: %s: %s", what, path, strerror(err), fix);
    return -err;
}

/* One try: 0 and d->lock; -EAGAIN: try again, *holder was set if somebody has it (otherwise its file was removed under us); -errno. */
static int try_lock(struct lrd_door *d, pid_t *holder)
{
    /* 0600: who can open it can lock it, and keep us from starting. */
    int fd = open(d->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    int err = 0;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        err = -errno;
        *holder = lock_holder(fd);
    } else if (!same_file(fd, d->lock_path))
        err = -EAGAIN; /* its last holder removed it while it had the lock */
    if (err < 0) {
        close(fd);
        return err; /* flock says EWOULDBLOCK, which is the same as EAGAIN on Linux */
    }
    d->lock = fd;
    return 0;
}

static int take_lock(struct lrd_door *d, char why[LRD_WHY_BYTES])
{
    for (unsigned waited = 0;; waited += WAIT_STEP_MS) {
        pid_t holder = -1; /* stays so if nobody held it */
        int err = try_lock(d, &holder);
        if (err == 0)
            break;
        if (err != -EAGAIN)
            return say_folder("the lock", d->lock_path, -err, why);
        if (holder >= 0 && (alive(holder) || waited >= WAIT_FOR_DEAD_MS)) {
            if (alive(holder))
                snprintf(why, LRD_WHY_BYTES, "%.300s is already in use by the larderd with pid %ld: stop that one, or choose another by --socket", d->config->socket,
                         (long)holder);
            else
                snprintf(why, LRD_WHY_BYTES, "%.300s is already in use by another larderd: stop that one, or choose another by --socket", d->config->socket);
            return -EADDRINUSE;
        }
        nanosleep(&(struct timespec){.tv_nsec = WAIT_STEP_MS * 1000000L}, NULL);
    }
    int err = write_pid(d->lock);
    if (err < 0)
        return say_folder("the lock", d->lock_path, -err, why);
    return 0;
}

/* ---- what is there already ---- */

/* Whether somebody accepts connections there; never blocks. */
static int try_connect(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    memcpy(addr.sun_path, path, strlen(path) + 1);
    int err = connect(fd, (const struct sockaddr *)&addr, sizeof addr) < 0 ? -errno : 0;
    close(fd);
    return err;
}

static int remove_left_over(const char *path, char why[LRD_WHY_BYTES])
{
    struct stat st;
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : say_folder("the socket", path, errno, why);
    if (!S_ISSOCK(st.st_mode)) {
        snprintf(why, LRD_WHY_BYTES, "%.300s exists and is not a socket: move it away, or choose another by --socket", path);
        return -EEXIST;
    }
    int err = try_connect(path);
    if (err != -ECONNREFUSED) {
        /* We hold the lock, so this is no larderd. */
        snprintf(why, LRD_WHY_BYTES, "%.300s is in use by another program: stop that one, or choose another by --socket", path);
        return -EADDRINUSE;
    }
    if (unlink(path) < 0)
        return say_folder("room for the socket", path, errno, why);
    lrd_log(LRD_INFO, "removed %s, left over by a daemon that is gone", path);
    return 0;
}

/* ---- pid file ---- */

static int make_pid_file(struct lrd_door *d, char why[LRD_WHY_BYTES])
{
    const char *path = d->config->pid_file;
    if (path[0] == '\0')
        return 0;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    int err = fd < 0 ? -errno : write_pid(fd);
    if (fd >= 0)
        close(fd);
    if (err < 0)
        snprintf(why, LRD_WHY_BYTES, "cannot write --pid-file %.300s: %s", path, strerror(-err));
    d->pid_written = err == 0;
    return err;
}

/* ---- folder ---- */

/* Only the default's own folder is made: an unknown folder in a path that somebody wrote is a mistake. */
static int make_default_folder(struct lrd_door *d, char why[LRD_WHY_BYTES])
{
    static const char tail[] = "/larder/default.sock";
    const char *path = d->config->socket;
    size_t n = strlen(path);
    if (n < sizeof tail - 1 || strcmp(path + n - (sizeof tail - 1), tail) != 0)
        return 0;
    char *folder = strndup(path, n - strlen("/default.sock"));
    if (folder == NULL)
        return -ENOMEM;
    if (mkdir(folder, 0755) == 0) {
        d->made_folder = folder;
        return 0;
    }
    int err = errno == EEXIST ? 0 : say_folder("the folder", folder, errno, why);
    free(folder);
    return err;
}

/* ---- taking, opening, leaving ---- */

static char *with_suffix(const char *path, const char *suffix)
{
    char *s;
    return asprintf(&s, "%s%s", path, suffix) < 0 ? NULL : s;
}

int lrd_door_take(struct lrd_door *d, const struct lrd_config *c, char why[LRD_WHY_BYTES])
{
    const size_t longest = sizeof(((struct sockaddr_un *)0)->sun_path) - sizeof PEEK_SUFFIX;
    *d = (struct lrd_door){.config = c, .lock = -1, .listener = -1, .peek = -1};
    if (strlen(c->socket) > longest) {
        snprintf(why, LRD_WHY_BYTES, "--socket %.200s: the path has %zu bytes, at most %zu do: choose a shorter one", c->socket, strlen(c->socket), longest);
        return -ENAMETOOLONG;
    }
    snprintf(why, LRD_WHY_BYTES, "no memory");
    d->lock_path = with_suffix(c->socket, ".lock");
    d->peek_path = with_suffix(c->socket, PEEK_SUFFIX);
    int err = d->lock_path == NULL || d->peek_path == NULL ? -ENOMEM : make_default_folder(d, why);
    if (err == 0)
        err = take_lock(d, why);
    if (err == 0)
        err = remove_left_over(c->socket, why);
    if (err == 0)
        err = remove_left_over(d->peek_path, why);
    if (err == 0)
        err = make_pid_file(d, why);
    if (err < 0)
        lrd_door_leave(d);
    return err;
}

static int listen_at(const char *path, mode_t mode, int *fd, bool *bound)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    *fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (*fd < 0)
        return -errno;
    memcpy(addr.sun_path, path, strlen(path) + 1);
    /* Never wider than asked for, not even for a moment. */
    mode_t before = umask(0777 & ~mode);
    int err = bind(*fd, (const struct sockaddr *)&addr, sizeof addr) < 0 ? -errno : 0;
    umask(before);
    if (err < 0)
        return err;
    *bound = true;
    return chmod(path, mode) < 0 || listen(*fd, SOMAXCONN) < 0 ? -errno : 0;
}

int lrd_door_open(struct lrd_door *d, char why[LRD_WHY_BYTES])
{
    /* PATH last: when it is there, everything is. */
    const char *path = d->peek_path;
    int err = listen_at(path, d->config->socket_mode, &d->peek, &d->peek_bound);
    if (err == 0) {
        path = d->config->socket;
        err = listen_at(path, d->config->socket_mode, &d->listener, &d->bound);
    }
    return err < 0 ? say_folder("the socket", path, -err, why) : 0;
}

void lrd_door_shut(struct lrd_door *d)
{
    if (d->bound)
        unlink(d->config->socket);
    if (d->peek_bound)
        unlink(d->peek_path);
    d->bound = d->peek_bound = false;
}

static void close_if(int fd)
{
    if (fd >= 0)
        close(fd);
}

void lrd_door_leave(struct lrd_door *d)
{
    lrd_door_shut(d);
    close_if(d->listener);
    close_if(d->peek);
    if (d->pid_written)
        unlink(d->config->pid_file);
    /* Last, and while it is held: who waits for it finds that its file is gone and makes a new one. */
    if (d->lock >= 0)
        unlink(d->lock_path);
    close_if(d->lock);
    if (d->made_folder != NULL)
        rmdir(d->made_folder);
    free(d->made_folder);
    free(d->lock_path);
    free(d->peek_path);
    *d = (struct lrd_door){.lock = -1, .listener = -1, .peek = -1};
}
