/* parse.h: bytes -> offsets. The one place that meets untrusted lengths first; see README.md for the order of its checks. */
#ifndef PARSE_H
#define PARSE_H
#include "pkt/pkt.h"
#include "base/drop.h"

/* Parses the Ethernet frame at pkt->data and sets l3..l3_end and flags (PKT_PARTIAL is kept). DROP_NONE or the reason. Writes no byte. */
enum drop parse_frame(struct pkt *pkt);
/* Flow hash of a parsed packet: CRC32c (init 0) over source, destination, {protocol, 0, 0, 0, ports}; ports 0 unless TCP, UDP or SCTP and no fragment. 0 if not IP. */
uint32_t parse_flow(const struct pkt *pkt);
/* The 8-bit FlowID of it: the four bytes of the hash xored. */
static inline uint8_t parse_flowid(uint32_t flow) { flow ^= flow >> 16; return (uint8_t)(flow ^ flow >> 8); }
/* Of a tag that parse_frame() has found (PKT_VLAN). 0: no VLAN, only a priority (IEEE 802.1Q section 9.6). */
static inline uint16_t parse_vlan(const struct pkt *pkt) { return get16(pkt->data + ETH_LEN) & 0x0fff; }
/* Moves the MACs over the 802.1Q tag and parses nothing anew: offsets are adjusted. */
void parse_strip_vlan(struct pkt *pkt);

#endif
