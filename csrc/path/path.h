/*
 * path.h: the two ways of a packet. A batch of received packets in; each ends sent, held, dropped or
 * consumed. README.md has the rules. Called by the worker's loop.
 */
#ifndef PATH_H
#define PATH_H
#include "host/host.h"

void from_tenant(const struct host *host, struct port *in, struct batch *batch);
void from_provider(const struct host *host, struct port *in, struct batch *batch);

static inline void path_forward(const struct host *host, struct port *in, struct batch *batch)
{
    (in->id == DP_UNDERLAY ? from_provider : from_tenant)(host, in, batch);
}

#endif
