/* The daemon's name in the file system: PATH (where clients attach), PATH.peek (where anybody may ask for a look), PATH.lock, and the pid file.
 *
 * Who holds the lock owns the others. A socket that is there although the lock is free was left by a daemon that was killed, and is replaced. */
#ifndef LRD_DOOR_H
#define LRD_DOOR_H

#include <stdbool.h>

#include "daemon/config.h"

struct lrd_door {
    const struct lrd_config *config;
    char *lock_path, *peek_path;
    char *made_folder; /* NULL: it was there */
    int lock, listener, peek;
    bool bound, peek_bound, pid_written;
};

/* Takes the name: lock, pid file; removes what a dead daemon left. Nobody can connect yet. 0; else why says what is wrong, and nothing is left. */
int lrd_door_take(struct lrd_door *d, const struct lrd_config *c, char why[LRD_WHY_BYTES]);

/* Listens on both sockets. 0; else why. */
int lrd_door_open(struct lrd_door *d, char why[LRD_WHY_BYTES]);

/* Takes the sockets out of the file system, so that nobody comes any more. */
void lrd_door_shut(struct lrd_door *d);

/* Removes and closes everything. */
void lrd_door_leave(struct lrd_door *d);

#endif
