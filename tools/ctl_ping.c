/* Is there a daemon, and does its worker work? */
#include "tools/ctl.h"

#include <inttypes.h>

enum ctl_status ctl_ping(const struct ctl_call *call)
{
    struct ctl_peek p;
    enum ctl_status status = ctl_peek_open(&p, call->socket);
    if (status != CTL_OK)
        return status;
    uint64_t silence_ms = ctl_silence_ms(&p);
    uint64_t pid = lrd_load_relaxed(&p.r.header->worker_pid), count = lrd_load_relaxed(&p.r.header->worker_count);
    ctl_peek_close(&p);
    if (silence_ms > call->max_silence_ms) {
        printf("%s: worker %" PRIu64 " silent since %" PRIu64 " ms\n", call->socket, pid, silence_ms);
        return CTL_WARNING;
    }
    /* The writer lives; whether the clerk does shows when somebody attaches. */
    struct larder *l;
    status = ctl_attach(&l, call);
    if (status != CTL_OK)
        return CTL_WARNING;
    larder_close(l);
    printf("%s: alive, worker %" PRIu64 " (number %" PRIu64 "), last sign of life %" PRIu64 " ms ago\n", call->socket, pid, count, silence_ms);
    return CTL_OK;
}
