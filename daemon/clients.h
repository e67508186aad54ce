/* The clerk's clients: who attaches, who is attached, who is gone. One thread, in libevent's loop; nothing here polls. */
#ifndef LRD_CLIENTS_H
#define LRD_CLIENTS_H

#include <event2/event.h>

#include "daemon/keeper.h"
#include "daemon/writer.h"
#include "shm/segment.h"

struct lrd_clients;

/* 0; -ENOMEM; -errno, and *out is to be destroyed all the same unless it is NULL. Sorts out the lanes that the keeper holds and gives the living
 * and the dying to the writer, whose thread must be running. */
int lrd_clients_create(struct lrd_clients **out, const struct lrd_house *house, struct lrd_store *store, struct lrd_writer *writer, struct event_base *base);
void lrd_clients_destroy(struct lrd_clients *c);

#endif
