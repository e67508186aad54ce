#include "libclient/larder.h"

#include <errno.h>
#include <string.h>

static const struct {
    int result;
    const char *text;
} outcomes[] = {
    {LARDER_OK, "done"},
    {LARDER_MISS, "no such item"},
    {LARDER_TOO_SMALL, "the value does not fit the buffer"},
    {LARDER_BUSY, "no room in time: the ring stayed full, credit was not there, or too many views or results are held"},
    {LARDER_FULL, "the namespace is full and refuses eviction"},
    {LARDER_DOWN, "no live daemon"},
    {LARDER_STALE, "the daemon has been silent for too long"},
    {LARDER_TIMEOUT, "not yet"},
    {LARDER_LOST, "the daemon that had it is gone, with all that was in it"},
    {LARDER_DISCARDED, "the write was not applied: its namespace was reset before"},
    {LARDER_NO_NAMESPACE, "no namespace of that name"},
    {LARDER_NOT_ALLOWED, "this process may not do that"},
    {LARDER_EXISTS, "there is one already: an item, or a namespace made with other options"},
    {LARDER_NO_QUOTA, "the namespace does not fit: its minimum, its maximum, its feed, or one too many"},
    {LARDER_CHANGED, "the item has another version, or is gone"},
    {LARDER_OVERFLOW, "the number would not fit 64 bits with sign"},
    {LARDER_NOT_A_NUMBER, "the value is not a decimal number of 64 bits with sign"},
    {LARDER_NO_SOCKET, "nothing listens at the socket"},
    {LARDER_DENIED, "not permitted to connect to the socket"},
    {LARDER_VERSION_MISMATCH, "the daemon has another layout version"},
    {LARDER_NOT_SEALED, "what the daemon sent is not a sealed segment"},
    {LARDER_TOO_MANY, "all lanes of the daemon are taken"},
    {LARDER_PROTOCOL, "the daemon sent something else than an answer"},
    {LARDER_ABSENT, "known to have no value"},
    {LARDER_LEASE, "the caller has the lease, and is to load the value"},
    {LARDER_HELD, "somebody else has the lease"},
    {LARDER_VOID, "the token is not that of a lease any more"},
    {LARDER_OLD, "the value is older than its soft time to live"},
    {LARDER_REVOKED, "the view was held too long"},
    {LARDER_OVERTAKEN, "events were lost: the feed has gone round"},
    {LARDER_NO_FEED, "the namespace has no change feed"},
    {LARDER_END, "the scan has been everywhere"},
    {LARDER_FORGOTTEN, "that result was collected or given up before"},
    {LARDER_DIVERTED, "the write went to the fallback"},
    /* what the kernel's words would mislead about */
    {-EINVAL, "an argument does not do: a NULL, a key of 0 or too many bytes, an option, or a struct whose size is not set"},
    {-E2BIG, "the item is larger than items may be: larder_item_max() tells"},
    {-EBADF, "the handle was closed"},
    {-EPROTO, "the daemon's answer makes no sense"},
};

/* Not glibc's strerror(): the text of a number it does not know lies in a buffer that the next call overwrites. */
static const char *errno_text(int err)
{
#ifdef __GLIBC__
    return strerrordesc_np(err);
#else
    return strerror(err);
#endif
}

const char *larder_strerror(int result)
{
    for (size_t i = 0; i < sizeof outcomes / sizeof *outcomes; i++)
        if (outcomes[i].result == result)
            return outcomes[i].text;
    const char *text = result < 0 && result >= -4095 ? errno_text(-result) : NULL;
    return text != NULL ? text : "unknown result";
}

const char *larder_version(void) { return LARDER_VERSION; }

/* What a program may want to know before it calls: a name for each thing that an older library of the same soname has not. Names come, and never go. */
static const char *const features[] = {
    "absent", "aligned", "append", "batches", "breaker", "cas",    "event_fd", "feed",  "fetch",  "incr",     "json",        "latency",
    "lease",  "ns_stats", "reserve", "result",  "revisit", "scan", "soft_ttl", "touch", "view", "visible", "wait_change",
};

int larder_has(const char *feature)
{
    for (size_t i = 0; feature != NULL && i < sizeof features / sizeof *features; i++)
        if (strcmp(features[i], feature) == 0)
            return 1;
    return 0;
}
