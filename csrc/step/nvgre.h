/* nvgre.h: the NVGRE tunnel (RFC 7637): template (control), push and pop (hot). */
#ifndef NVGRE_H
#define NVGRE_H
#include "pkt/pkt.h"
#include "base/stats.h"
#include "table/tables.h"

/* Fills header, header_len, family and sum of a next hop from addresses; `eth` stays 0 and the source MAC is set. */
void nvgre_template(struct next_hop *nh, unsigned family, const uint8_t *source_pa, const uint8_t *pa, const uint8_t *underlay_mac);
/* Puts the outer header before the frame. eth word 0 is written as it is: the neighbour fills it in. */
void nvgre_push(struct pkt *pkt, const struct next_hop *nh, uint32_t vsid, uint8_t flowid, uint8_t tos);
/* Checks the GRE header at pkt->l4 of a parsed outer packet; DROP_NONE: *vsid is set, and *len is what to pop up to the inner frame. */
enum drop nvgre_check(const struct pkt *pkt, uint32_t *vsid, uint16_t *len);
/* RFC 6040 section 4.2, figure 4: merges the outer ECN field into the parsed inner packet. False: must be dropped. */
bool nvgre_ecn(struct pkt *inner, uint8_t outer_tos);

#endif
