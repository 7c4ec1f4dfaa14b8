/*
 * gso.h: software segmentation (TCP and UDP over IPv4 and IPv6). A parsed super-packet in, its segments or
 * datagrams out one by one: headers of its own in one slot, payload borrowed from the super-packet (pool.h),
 * summed as it is passed over. Called by the paths; by workers for parts, each a shorter super-packet.
 */
#ifndef GSO_H
#define GSO_H
#include "pkt/cursor.h"

/* Size of the largest segment's IP packet, bytes, or the packet's own when it has no gso. */
uint32_t gso_l3_len(const struct pkt *pkt);

/* How many it is cut into, 1 without gso; of a parsed packet behind offload_check(). */
uint32_t gso_segments(const struct pkt *pkt);

/*
 * Writes what the IP header says of a parsed packet that has got another l3_end: its length and, in IPv4, the
 * identification, `index` more than it was. A wrong header checksum stays wrong.
 */
void gso_set_ip(struct pkt *segment, uint32_t index);

/* A packet being cut. */
struct gso_cut {
    const struct pkt *source;
    struct cursor payload;      /* what the next segment begins with */
    uint32_t headers;           /* bytes of all headers */
    uint32_t done, left;        /* bytes of payload */
    uint32_t index;             /* of the next segment */
};

/*
 * Begins with a parsed gso packet whose own checksum is PKT_PARTIAL (offload_check()). It stays in place,
 * and its owner's, until its segments are sent: io_spend().
 */
struct gso_cut gso_begin(const struct arena *arena, const struct pkt *pkt);
/*
 * Makes the next segment, its checksum complete; false, and nothing is made, when slots have run out. There
 * is another one as long as cut->left; the first is there even without payload.
 */
bool gso_next(struct pool *pool, struct gso_cut *cut, struct pkt *segment);
/* The same for a super-packet of the next `segments` of them, its checksum partial as the whole one's. */
bool gso_part(struct pool *pool, struct gso_cut *cut, uint32_t segments, struct pkt *part);

#endif
