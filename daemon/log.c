/* A log that stands still would stand the keeper still: standard error may be a pipe whose reader is stopped. So a line is written only when poll says
 * that there is room; a pipe then takes a page, which is more than a line. */
#include "daemon/log.h"

#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES 1024u
#define LOST_BYTES 64u /* kept free at its end to say that lines were lost */

static const char *const level_name[] = {"error", "warning", "info", "debug"};
static const int level_syslog[] = {3, 4, 6, 7}; /* sd-daemon(3): <N> in front of a line is its priority */

static enum lrd_log_level level_max = LRD_INFO;
static bool to_journal;
static atomic_ulong n_lost;

void lrd_log_init(enum lrd_log_level level)
{
    level_max = level;
    to_journal = getenv("JOURNAL_STREAM") != NULL;
}

/* What stands before the text; its length. */
static size_t put_head(char *line, enum lrd_log_level level)
{
    size_t n = 0;
    if (to_journal)
        n = (size_t)snprintf(line, LINE_BYTES, "<%d>", level_syslog[level]);
    else {
        struct timespec now;
        struct tm tm;
        clock_gettime(CLOCK_REALTIME, &now);
        localtime_r(&now.tv_sec, &tm);
        n = strftime(line, LINE_BYTES, "%Y-%m-%d %H:%M:%S", &tm);
        n += (size_t)snprintf(line + n, LINE_BYTES - n, ".%03ld ", now.tv_nsec / 1000000);
    }
    return n + (size_t)snprintf(line + n, LINE_BYTES - n, "larderd[%ld]: %s: ", (long)getpid(), level_name[level]);
}

static bool write_line(const char *line, size_t n)
{
    struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
    return poll(&p, 1, 0) == 1 && (p.revents & POLLOUT) != 0 && write(STDERR_FILENO, line, n) >= 0;
}

void lrd_log(enum lrd_log_level level, const char *format, ...)
{
    if (level > level_max)
        return;
    char line[LINE_BYTES];
    size_t n = put_head(line, level);
    va_list args;
    va_start(args, format);
    int text = vsnprintf(line + n, sizeof line - n - LOST_BYTES, format, args);
    va_end(args);
    n += text < 0 ? 0 : strlen(line + n);

    /* Relaxed: a count for people. */
    unsigned long lost = atomic_exchange_explicit(&n_lost, 0, memory_order_relaxed);
    if (lost > 0)
        n += (size_t)snprintf(line + n, LOST_BYTES - 1, " (%lu lines before this one were lost)", lost);
    line[n] = '\n';
    if (!write_line(line, n + 1))
        atomic_fetch_add_explicit(&n_lost, lost + 1, memory_order_relaxed);
}
