#include "libclient/larder.h"

#include <string.h>

static const struct {
    int result;
    const char *text;
} outcomes[] = {
    {LARDER_OK, "done"},
    {LARDER_MISS, "no such item"},
    {LARDER_TOO_SMALL, "the value does not fit the buffer"},
    {LARDER_BUSY, "the ring stayed full until the deadline, or credit was not there"},
    {LARDER_FULL, "the namespace is full and refuses eviction"},
    {LARDER_DOWN, "no live daemon"},
    {LARDER_STALE, "the daemon has been silent for too long"},
    {LARDER_TIMEOUT, "not yet"},
    {LARDER_LOST, "the daemon that had the write is gone"},
    {LARDER_DISCARDED, "the write was not applied: its namespace was reset before"},
    {LARDER_NO_NAMESPACE, "no namespace of that name"},
    {LARDER_NOT_ALLOWED, "this process may not do that"},
    {LARDER_EXISTS, "there is a namespace of that name, made with other options"},
    {LARDER_NO_QUOTA, "the namespace does not fit: its minimum, its maximum, or one too many"},
    {LARDER_NO_SOCKET, "nothing listens at the socket"},
    {LARDER_DENIED, "not permitted to connect to the socket"},
    {LARDER_VERSION_MISMATCH, "the daemon has another layout version"},
    {LARDER_NOT_SEALED, "what the daemon sent is not a sealed segment"},
    {LARDER_TOO_MANY, "all lanes of the daemon are taken"},
    {LARDER_PROTOCOL, "the daemon sent something else than an answer"},
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
