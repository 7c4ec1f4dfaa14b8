/*
 * local.h: to a port of this host, README.md 2.9, 3.13. A parsed packet in, whose MACs and TTL are those of
 * its receiver; it is sent, in segments if need be, or dropped. Called by from_tenant and from_provider.
 */
#ifndef LOCAL_H
#define LOCAL_H
#include "base/hot.h"
#include "host/host.h"
#include "step/proxy.h"

/* What becomes of a request. True: it is its answer now, and goes on. */
static inline bool local_answers(struct io *io, struct pkt *pkt, struct proxy_verdict verdict)
{
    if (io_dropped(io, pkt, verdict.drop))
        return false;
    if (verdict.action == PROXY_CONSUME)
        io_consume(io, pkt);
    else
        io_answered(io, pkt);
    return verdict.action == PROXY_ANSWER;
}

/* A super-packet. */
void local_deliver_gso(const struct host *host, struct pkt *pkt, struct port *port, struct vsid_stats *stats);

/* subnet: the record's, as index. */
HOT void local_deliver(const struct host *host, struct pkt *pkt, uint32_t port_id, uint32_t subnet)
{
    struct io *io = host->io;
    struct port *port = port_at(host->ports, port_id);
    struct vsid_stats *stats = &io->vsid_stats[subnet];
    if (__builtin_expect(!port, 0)) { /* 2.9.2, 3.5.8, 3.13.5 */
        io_drop(io, pkt, DROP_PORT_DOWN);
    } else if (__builtin_expect(pkt->gso, 0)) {
        local_deliver_gso(host, pkt, port, stats);
    } else if (__builtin_expect(pkt->l3_end - pkt->l3 > port->mtu, 0)) { /* 2.9.3, 3.5.9, 3.13.6 */
        io_drop(io, pkt, DROP_TOO_BIG);
    } else {
        stats_add(&stats->to_port, 1); /* 4.4.2 */
        stats_add(&stats->to_port_bytes, pkt->len); /* 4.4.3 */
        io_send(io, port, pkt);
    }
}

#endif
