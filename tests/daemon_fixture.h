/* A larderd of a test's own, in a folder of its own, and a look at its segment from outside. */
#ifndef TESTS_DAEMON_FIXTURE_H
#define TESTS_DAEMON_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "shm/segment.h"

struct daemon_fixture {
    char folder[64];
    char socket[96];
    pid_t keeper;
    int fd;                /* of the segment, as larderctl gets it */
    void *base;
    size_t bytes;
    struct lrd_reader r;   /* read-only, of the daemon that runs */
};

/* Starts $LARDER_BUILD/larderd with these options (NULL ends them) and waits until a worker runs. testpoint: LARDER_TESTPOINT of the daemon, or NULL. What goes wrong
 * ends the test. */
void daemon_start(struct daemon_fixture *d, const char *testpoint, const char *const *options);

/* SIGTERM; the daemon must end with status 0. Removes the folder. */
void daemon_stop(struct daemon_fixture *d);

/* Kills the worker and waits until another one runs. */
void daemon_kill_worker(struct daemon_fixture *d);

/* SIGSTOP, and waits until all its threads stand still: they are not stopped at once. Its pid, for SIGCONT. */
pid_t daemon_freeze_worker(const struct daemon_fixture *d);

uint64_t daemon_workers(const struct daemon_fixture *d); /* that there have been */

/* Waits until the counters stand still, then runs larderctl check. True: nothing wrong. */
bool daemon_check(const struct daemon_fixture *d);

/* Waits for at most this long until a word has a value. */
bool daemon_wait32(const lrd_u32 *word, uint32_t value, uint64_t ms);

void pause_us(unsigned us);

#endif
