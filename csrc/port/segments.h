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
struct pkt *segments_next(struct io *io, struct gso_cut *cut, struct pkt *pkt);
/* A super-packet to a port of this host: whole if the port takes it, else in segments. */
void segments_send(struct io *io, struct port *port, struct pkt *pkt);

#endif
