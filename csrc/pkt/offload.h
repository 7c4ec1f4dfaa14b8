/*
 * offload.h: what a packet's peer left to do, a partial checksum (virtio NEEDS_CSUM) and segmentation: fitted
 * to the parsed packet on the way in, completed on the way out. Called by the paths and by ports.
 */
#ifndef OFFLOAD_H
#define OFFLOAD_H
#include "base/drop.h"
#include "pkt/cursor.h"

/*
 * Sum (csum.h) of the pseudo header of the packet's L4: addresses from its IP header, protocol, bytes of L4.
 */
uint64_t offload_pseudo(const struct pkt *pkt, uint32_t l4len);
/* Sum (csum.h) of the next `len` bytes, which belong to the frame; they are passed over. */
uint64_t offload_run_sum(struct cursor *c, uint32_t len);
/* Sum over `len` bytes from `at` of a frame in any number of segments (range checked by the caller). */
uint64_t offload_sum(const struct arena *arena, const struct pkt *pkt, uint32_t at, uint32_t len);
/*
 * Fits offload metadata (PKT_PARTIAL, gso) to the parsed packet: TCP and UDP keep it, others are completed.
 * DROP_NONE or BAD_OFFLOAD.
 */
enum drop offload_check(const struct arena *arena, struct pkt *pkt);
/* The packet's checksum, the complement of what has been summed for it, into its field. */
void offload_put(struct pkt *pkt, uint64_t sum);
/*
 * Completes a partial checksum in place (SCTP: CRC32c) and clears PKT_PARTIAL. False: metadata does not fit.
 */
bool offload_finish(const struct arena *arena, struct pkt *pkt);

#endif
