/*
 * deliver.h: to a port of this host, README.md 2.9, 3.13. A parsed packet in; it is sent, in segments if need
 * be, or dropped. Called by from_tenant and from_provider.
 */
#ifndef DELIVER_H
#define DELIVER_H
#include "base/hot.h"
#include "port/segments.h"

/* Why it can't go to the port; NULL: one without a device. */
HOT enum drop deliver_check(const struct port *port, const struct pkt *pkt)
{
    if (__builtin_expect(!port, 0)) /* 2.9.2, 3.5.8, 3.13.5 */
        return DROP_PORT_DOWN;
    uint32_t len = __builtin_expect(pkt->gso, 0) ? gso_l3_len(pkt) : pkt->l3_end - pkt->l3;
    return __builtin_expect(len > port->mtu, 0) ? DROP_TOO_BIG : DROP_NONE; /* 2.9.3, 3.5.9, 3.13.6 */
}

/* One that may, and whose MACs and TTL are those of its receiver. subnet: the record's, as index. */
HOT void deliver_send(struct io *io, struct pkt *pkt, struct port *port, uint32_t subnet)
{
    struct vsid_stats *stats = &io->vsid_stats[subnet];
    stats_add(&stats->to_port, 1); /* 4.4.2 */
    stats_add(&stats->to_port_bytes, pkt->len); /* 4.4.3 */
    if (__builtin_expect(pkt->gso, 0))
        segments_send(io, port, pkt);
    else
        io_send(io, port, pkt);
}

/* Both. */
void deliver_rest(struct io *io, struct pkt *pkt, struct port *port, uint32_t subnet);
/* The same, what is in one piece at once. */
HOT void deliver(struct io *io, struct pkt *pkt, struct port *port, uint32_t subnet)
{
    bool plain = port && !pkt->gso && pkt->l3_end - pkt->l3 <= port->mtu;
    if (__builtin_expect(!plain, 0))
        deliver_rest(io, pkt, port, subnet);
    else
        deliver_send(io, pkt, port, subnet);
}

#endif
