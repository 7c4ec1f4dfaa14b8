/*
 * flood.h: to every VM of a subnet but the one that sent it, README.md 5.2. A packet to a group that passed
 * flood_check() in; its copies are sent, held or dropped, and it ends. Called by from_tenant and
 * from_provider.
 */
#ifndef PATH_FLOOD_H
#define PATH_FLOOD_H
#include "host/host.h"

/* subnet: as index. From the underlay it goes to ports of this host alone. */
void path_flood(const struct host *host, struct pkt *pkt, uint32_t subnet);

#endif
