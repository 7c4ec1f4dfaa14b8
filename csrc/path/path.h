/*
 * path.h: the two ways of a packet, and the ways out that they share. A batch of received packets in; each ends sent, held,
 * dropped or consumed. README.md has the rules. Called by the worker's loop.
 */
#ifndef PATH_H
#define PATH_H
#include "host/host.h"

void from_tenant(const struct host *host, struct port *in, struct batch *batch);
void from_provider(const struct host *host, struct port *in, struct batch *batch);

static inline void path_forward(const struct host *host, struct port *in, struct batch *batch)
{
    if (in->id == DP_UNDERLAY)
        from_provider(host, in, batch);
    else
        from_tenant(host, in, batch);
}

/*
 * Ways out. Each takes a parsed packet and sends, holds or drops it. MACs of the (inner) frame are already those of the receiver,
 * TTL is already down.
 */
/* To a local port, of the subnet with this index. */
void local_deliver(const struct host *host, struct pkt *pkt, uint32_t port, uint32_t subnet);
/* Into NVGRE by the next hop. */
void underlay_push(const struct host *host, struct pkt *pkt, const struct next_hop *nh, uint32_t vsid);
/* An answer that the core made, TOS 0, with this FlowID (0 if FlowIDs are off). */
void underlay_answer(const struct host *host, struct pkt *pkt, const struct next_hop *nh, uint32_t vsid, uint8_t flowid);
/* As an IP packet between two PAs. */
void underlay_rewrite(const struct host *host, struct pkt *pkt, const uint8_t *source_pa, const struct rewrite *to);

#endif
