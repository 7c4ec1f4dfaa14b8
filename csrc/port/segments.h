/* segments.h: a super-packet's segments with all that is counted of them. Called by the ways out. */
#ifndef SEGMENTS_H
#define SEGMENTS_H
#include "port/io.h"
#include "step/gso.h"

/*
 * The next segment of `pkt`, which was given to gso_begin(); it is the caller's. NULL: that was the last, or
 * slots ran out and the rest was dropped as one packet (no-slot); either way the packet has ended. Segments
 * beyond the first count originated at in_port.
 */
static inline struct pkt *io_segment(struct io *io, struct gso_cut *cut, struct pkt *pkt)
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

#endif
