#include "daemon/bell.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "shm/wait.h"

int lrd_bells_create(struct lrd_bells *b, uint32_t n_lanes)
{
    *b = (struct lrd_bells){.wanted = calloc(n_lanes, sizeof *b->wanted), .n_lanes = n_lanes, .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    return b->wanted == NULL ? -ENOMEM : b->fd < 0 ? -errno : 0;
}

void lrd_bells_destroy(struct lrd_bells *b)
{
    free(b->wanted);
    if (b->wanted != NULL && b->fd >= 0)
        close(b->fd);
    b->wanted = NULL;
}

void lrd_bells_want(struct lrd_bells *b, uint32_t lane)
{
    if (lrd_exchange32(&b->wanted[lane], 1) == 0)
        lrd_doorbell_write(b->fd);
}

bool lrd_bells_take(struct lrd_bells *b, uint32_t *lane)
{
    for (; *lane < b->n_lanes; ++*lane)
        if (lrd_load32_relaxed(&b->wanted[*lane]) != 0 && lrd_exchange32(&b->wanted[*lane], 0) != 0)
            return true;
    return false;
}
