#include "shm/units.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool lrd_whole_parse(const char *text, int base, uint64_t *value, const char **rest)
{
    char *end;
    if (!isdigit((unsigned char)text[0]))
        return false; /* strtoull would take signs and spaces */
    errno = 0;
    *value = strtoull(text, &end, base);
    *rest = end;
    return errno == 0 && end != text;
}

bool lrd_size_parse(const char *text, uint64_t *bytes)
{
    static const char units[] = "KMGT";
    const char *rest;
    if (!lrd_whole_parse(text, 10, bytes, &rest))
        return false;
    if (*rest == '\0')
        return true;
    const char *unit = strchr(units, toupper((unsigned char)*rest));
    if (unit == NULL)
        return false;
    unsigned shift = 10 * ((unsigned)(unit - units) + 1);
    if (*bytes > UINT64_MAX >> shift || (rest[1] != '\0' && strcmp(rest + 1, "iB") != 0))
        return false;
    *bytes <<= shift;
    return true;
}

static const struct {
    const char *unit;
    uint64_t ms;
} times[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};

#define N_TIMES (sizeof times / sizeof times[0])

bool lrd_ms_parse(const char *text, uint64_t *ms)
{
    const char *rest;
    uint64_t n;
    if (!lrd_whole_parse(text, 10, &n, &rest))
        return false;
    for (size_t i = 0; i < N_TIMES; i++)
        if (strcmp(rest, times[i].unit) == 0)
            return !__builtin_mul_overflow(n, times[i].ms, ms);
    return false;
}

char *lrd_size_text(uint64_t bytes, char text[16])
{
    static const char units[] = "KMGT";
    unsigned i = 0;
    uint64_t unit = 1;
    while (i < 4 && bytes / unit >= 1024) {
        unit <<= 10;
        i++;
    }
    char suffix[2] = {i == 0 ? '\0' : units[i - 1], '\0'};
    if (bytes % unit == 0)
        snprintf(text, 16, "%u%s", (unsigned)(bytes / unit), suffix);
    else
        snprintf(text, 16, "%.1f%s", (double)bytes / (double)unit, suffix);
    return text;
}

char *lrd_size_exact_text(uint64_t bytes, char text[24])
{
    static const char *const units[] = {"", "K", "M", "G", "T"};
    unsigned i = 0;
    while (i < 4 && bytes != 0 && bytes % 1024 == 0) {
        bytes /= 1024;
        i++;
    }
    snprintf(text, 24, "%llu%s", (unsigned long long)bytes, units[i]);
    return text;
}

char *lrd_ms_text(uint64_t ms, char text[24])
{
    size_t i = 0;
    while (i + 1 < N_TIMES && (ms == 0 || ms % times[i].ms != 0))
        i++;
    snprintf(text, 24, "%llu%s", (unsigned long long)(ms / times[i].ms), times[i].unit);
    return text;
}

char *lrd_quote(const char *text, char *to, size_t bytes)
{
    size_t n = 0;
    for (; text[n] != '\0' && n + 1 < bytes; n++)
        to[n] = isprint((unsigned char)text[n]) ? text[n] : '?';
    to[n] = '\0';
    return to;
}
