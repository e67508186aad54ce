/* Nobody can write to the segment, from any process, by any way that a descriptor of it offers: mapped, made writable afterwards, opened anew, written, cut, grown, punched. Tried
 * with the descriptor that everybody gets and with those of keeper and worker in /proc, as the same user and, for root, as another one. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libclient/larder.h"
#include "tests/daemon_fixture.h"
#include "tests/segment_fixture.h"

static struct daemon_fixture d;
static unsigned tried, opened;
static int failed;

static void refused(bool ok, const char *who, const char *what)
{
    tried++;
    if (ok)
        return;
    printf("%s: %s was possible\n", who, what);
    failed = 1;
}

static bool writable(int fd, size_t bytes, int flags)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (p == MAP_FAILED)
        return false;
    munmap(p, bytes);
    return true;
}

/* Everything that a descriptor can be used for. */
static void try_fd(int fd, const char *who)
{
    char byte = 0;
    size_t page = LRD_PAGE;
    refused(!writable(fd, page, MAP_SHARED), who, "mapping it to write");
    refused(!writable(fd, d.bytes, MAP_SHARED), who, "mapping all of it to write");
    refused(!writable(fd, page, MAP_SHARED_VALIDATE), who, "mapping it to write (validate)");
    unsigned char *p = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, 0);
    if (p != MAP_FAILED) {
        refused(mprotect(p, page, PROT_READ | PROT_WRITE) < 0, who, "making a mapping writable");
        refused(mprotect(p, page, PROT_WRITE) < 0, who, "making a mapping write-only");
        refused(madvise(p, page, MADV_REMOVE) < 0, who, "MADV_REMOVE");
        refused(mremap(p, page, page, 0) == p && mprotect(p, page, PROT_READ | PROT_WRITE) < 0, who, "making it writable after mremap");
        munmap(p, page);
    }
    /* A private mapping may be written, and changes nothing: checked at the end. */
    p = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (p != MAP_FAILED) {
        memset(p, 0xff, page);
        munmap(p, page);
    }
    refused(pwrite(fd, &byte, 1, 0) < 0, who, "write");
    refused(ftruncate(fd, 0) < 0, who, "cutting it to nothing");
    refused(ftruncate(fd, (off_t)d.bytes - LRD_PAGE) < 0, who, "cutting it");
    refused(ftruncate(fd, (off_t)d.bytes + LRD_PAGE) < 0, who, "growing it");
    refused(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, LRD_PAGE) < 0, who, "punching a hole");
    refused(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, LRD_PAGE) < 0, who, "zeroing");
    refused(fallocate(fd, 0, (off_t)d.bytes, LRD_PAGE) < 0, who, "allocating behind it");
    refused(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) < 0, who, "another seal");
}

static void try_path(const char *path, const char *who)
{
    static const int modes[] = {O_RDONLY, O_WRONLY, O_RDWR, O_RDWR | O_TRUNC, O_RDWR | O_APPEND};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        int fd = open(path, modes[i] | O_CLOEXEC);
        if (fd < 0)
            continue;
        opened++;
        try_fd(fd, who);
        close(fd);
    }
}

/* The descriptors of another process that are the segment. */
static void try_process(pid_t pid, const char *who)
{
    char folder[64], path[400];
    struct stat segment, st;
    fstat(d.fd, &segment);
    snprintf(folder, sizeof folder, "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(folder);
    struct dirent *e;
    while (dir != NULL && (e = readdir(dir)) != NULL) {
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (stat(path, &st) == 0 && st.st_dev == segment.st_dev && st.st_ino == segment.st_ino)
            try_path(path, who);
    }
    if (dir != NULL)
        closedir(dir);
}

static void try_everything(const char *who)
{
    char path[64];
    try_fd(d.fd, who);
    snprintf(path, sizeof path, "/proc/self/fd/%d", d.fd);
    try_path(path, who);
    try_process(d.keeper, who);
    try_process((pid_t)lrd_load_relaxed(&d.r.header->worker_pid), who);
    refused(mprotect(d.base, LRD_PAGE, PROT_READ | PROT_WRITE) < 0, who, "making the handed-out mapping writable");
}

static void in_a_child(uid_t uid, const char *who)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        abort();
    if (pid == 0) {
        if (uid != getuid() && (setgid((gid_t)uid) < 0 || setuid(uid) < 0))
            _exit(1);
        try_everything(who);
        printf("%s: %u ways tried, %u descriptors opened anew\n", who, tried, opened);
        fflush(stdout);
        _exit(failed || tried < 15);
    }
    int status;
    if (waitpid(pid, &status, 0) != pid || status != 0)
        failed = 1;
}

/* It lives, and it is as it was. */
static void still_works(const void *before)
{
    struct larder *handle;
    struct larder_options o = {.size = sizeof o, .socket = d.socket};
    struct larder_set_options wait = {.size = sizeof wait, .how = LARDER_SET_WAIT};
    char got[16] = "";
    size_t size = 0;
    if (memcmp(before, d.base, offsetof(struct lrd_header, heartbeat_ms)) != 0) {
        printf("the header has changed\n");
        failed = 1;
    }
    if (larder_open(&handle, &o) != 0 || larder_set(larder_default(handle), "key", 3, "value", 5, &wait, NULL) != 0 ||
        larder_get(larder_default(handle), "key", 3, got, sizeof got, &size) != 0 || size != 5 || memcmp(got, "value", 5) != 0) {
        printf("the cache does not work any more\n");
        failed = 1;
    } else
        larder_close(handle);
}

int main(void)
{
    static const char *const options[] = {"--memory", "16M", NULL};
    static unsigned char before[LRD_PAGE];
    struct stat st;
    daemon_start(&d, NULL, options);
    memcpy(before, d.base, sizeof before);
    if (fstat(d.fd, &st) != 0 || (st.st_mode & 0777) != 0600) {
        printf("mode of the segment: %o\n", (unsigned)st.st_mode);
        failed = 1;
    }
    in_a_child(getuid(), "the same user");
    if (getuid() == 0)
        in_a_child(65534, "another user");
    still_works(before);
    if (!daemon_check(&d) || daemon_workers(&d) != 1)
        failed = 1;
    daemon_stop(&d);
    return failed;
}
