/*
 * gso.h: software segmentation (TCP over IPv4 and IPv6). Slots in, slots out: each segment is a packet of its
 * own, headers in its first slot. It may copy payload now; a caller can't tell.
 */
#ifndef GSO_H
#define GSO_H
#include "engine.h"

/* Size of the largest segment's IP packet, bytes, or the packet's own when it has no gso. */
uint32_t gso_l3_len(const struct pkt *pkt);
/*
 * Cuts a parsed gso packet with PKT_PARTIAL into segments with complete checksums and calls each(ctx, worker,
 * segment) in order; each takes the segment. The source packet becomes the first segment's source and ends
 * here. Counts originated for all segments beyond the first at in_port; when slots run out the rest is
 * dropped and counted (no-slot) as one packet.
 */
void gso_segment(struct worker *worker, struct pkt *pkt,
                 void (*each)(void *ctx, struct worker *worker, struct pkt *segment), void *ctx);

#endif
