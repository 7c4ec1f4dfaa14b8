/* local.c: to a port of this host, README.md 2.9. From from_tenant and from_provider, out by io.h. */
#include "path/path.h"
#include "path/segments.h"

void local_deliver(const struct host *host, struct pkt *pkt, uint32_t port_id, uint32_t subnet)
{
    struct io *io = host->io;
    struct port *port = port_at(host->ports, port_id);
    enum drop drop = !port ? DROP_PORT_DOWN : gso_l3_len(pkt) > port->mtu ? DROP_TOO_BIG : DROP_NONE;
    if (io_dropped(io, pkt, drop))
        return;
    stats_add(&io->vsid_stats[subnet].to_port, 1);
    stats_add(&io->vsid_stats[subnet].to_port_bytes, pkt->len);
    if (port_takes_gso(port, pkt)) {
        io_send(io, port, pkt);
        return;
    }
    struct gso_cut cut = gso_begin(io->pool.arena, pkt);
    for (struct pkt *segment; (segment = path_segment(io, &cut, pkt));)
        io_send(io, port, segment);
}
