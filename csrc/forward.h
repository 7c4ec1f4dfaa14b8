/* forward.h: the two ways of a packet, in order. Each takes every packet of the batch. Read forward.c first. */
#ifndef FORWARD_H
#define FORWARD_H
#include "engine.h"

void forward_from_tenant(struct worker *worker, struct port *in, struct batch *batch);
void forward_from_provider(struct worker *worker, struct port *in, struct batch *batch);
static inline void forward_batch(struct worker *worker, struct port *in, struct batch *batch)
{
    if (in->id == DP_UNDERLAY)
        forward_from_provider(worker, in, batch);
    else
        forward_from_tenant(worker, in, batch);
}

#endif
