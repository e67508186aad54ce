/* What is written down before a segment is emptied because its worker kept dying: a text file for whoever has to find out why. */
#ifndef LRD_POSTMORTEM_H
#define LRD_POSTMORTEM_H

#include "daemon/keeper.h"
#include "shm/segment.h"

/* Writes DIR/NAME.post-mortem, NAME being the socket's; the one before becomes NAME.post-mortem.old, so there are never more than two. At most about 600 KiB, readable
 * by the owner only: it holds keys and values. Failures are logged. */
void lrd_postmortem_write(const struct lrd_house *house, const struct lrd_store *store);

#endif
