/* local.c: super-packets to a port of this host: whole if it takes them, else in segments. */
#include "path/local.h"
#include "port/segments.h"

void local_deliver_gso(const struct host *host, struct pkt *pkt, struct port *port, struct vsid_stats *stats)
{
    struct io *io = host->io;
    if (gso_l3_len(pkt) > port->mtu) { /* 2.9.3, 3.5.9 */
        io_drop(io, pkt, DROP_TOO_BIG);
        return;
    }
    stats_add(&stats->to_port, 1); /* 4.4.2, 4.4.3 */
    stats_add(&stats->to_port_bytes, pkt->len);
    if (port_takes_gso(port, pkt)) { /* 2.9.6 */
        io_send(io, port, pkt);
        return;
    }
    struct gso_cut cut = gso_begin(io->pool.arena, pkt);
    for (struct pkt *segment; (segment = io_segment(io, &cut, pkt));)
        io_send(io, port, segment);
}
