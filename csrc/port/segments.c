/* segments.c: a super-packet in, its segments out: one by one, or to a port that does not take it whole. */
#include "port/segments.h"

struct pkt *segments_next(struct io *io, struct gso_cut *cut, struct pkt *pkt)
{
    if (cut->index && cut->left == 0) {
        io_originated(io, pkt->in_port, cut->index - 1);
        io_spend(io, pkt);
        return NULL;
    }
    struct pkt *segment = io_make(io);
    if (gso_next(&io->pool, cut, segment))
        return segment;
    io_originated(io, pkt->in_port, cut->index);
    io_drop_lent(io, pkt, DROP_NO_SLOT); /* 4.5.1 */
    return NULL;
}

void segments_send(struct io *io, struct port *port, struct pkt *pkt)
{
    if (port_takes_gso(port, pkt)) { /* 2.9.6 */
        io_send(io, port, pkt);
        return;
    }
    struct gso_cut cut = gso_begin(io->pool.arena, pkt);
    for (struct pkt *segment; (segment = segments_next(io, &cut, pkt));)
        io_send(io, port, segment);
}
