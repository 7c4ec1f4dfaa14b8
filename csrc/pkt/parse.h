/*
 * parse.h: bytes -> offsets. The one place that meets untrusted lengths first; README.md section 1 has the order of its checks.
 * A frame in, offsets and flags in its descriptor out; both paths call it, and steps for what they have made.
 */
#ifndef PARSE_H
#define PARSE_H
#include <immintrin.h>
#include "base/drop.h"
#include "pkt/pkt.h"

/*
 * Parses the Ethernet frame at pkt->data and sets l3..l3_end and flags (PKT_PARTIAL is kept, PKT_PLAIN is not found out).
 * DROP_NONE or the reason. Writes no byte.
 */
enum drop parse_frame(struct pkt *pkt);
/* Moves the MACs over the 802.1Q tag and parses nothing anew: offsets are adjusted. */
void parse_strip_vlan(struct pkt *pkt);

/* The L4 header at l4 is whole within `room` bytes; `left`: what the IP packet has from l4 on. TCP or UDP. */
static inline __attribute__((always_inline)) bool parse_plain_l4(const uint8_t *data, uint32_t l4, unsigned proto,
                                                                 uint32_t room, uint32_t left)
{
    if (proto == PROTO_UDP)
        return room >= l4 + UDP_LEN && get16(data + l4 + 4) - (uint32_t)UDP_LEN <= left - UDP_LEN;
    uint32_t hlen = (data[l4 + 12] >> 4) * 4u;
    return proto == PROTO_TCP && room >= l4 + TCP_LEN && hlen >= TCP_LEN && room >= l4 + hlen;
}

/*
 * What most packets are, in a few compares: true, and all is set as parse_frame() would, and PKT_PLAIN with it. False: nothing
 * is known, and nothing but flags is changed.
 */
static inline __attribute__((always_inline)) bool parse_plain(struct pkt *pkt)
{
    enum { HEAD4 = ETH_LEN + IP4_LEN, HEAD6 = ETH_LEN + IP6_LEN };
    const uint8_t *p = pkt->data;
    uint64_t word = load64(p + 12);     /* EtherType, then the IP header's first bytes; 42 bytes are looked at below */
    uint32_t l4, end;
    unsigned proto, tos;
    if (__builtin_expect((word & 0xffffff) == 0x450008, 1)) {
        l4 = HEAD4;
        end = ETH_LEN + (uint32_t)__builtin_bswap16((uint16_t)(word >> 32));
        proto = p[ETH_LEN + 9];
        tos = (unsigned)(word >> 24) & 0xff;
        if (load16(p + ETH_LEN + 6) & 0xffbf)   /* all but DF */
            return false;
    } else if ((word & 0xf0ffff) == 0x60dd86) {
        l4 = HEAD6;
        end = HEAD6 + (uint32_t)get16(p + ETH_LEN + 4);
        proto = p[ETH_LEN + 6];
        tos = ((unsigned)p[ETH_LEN] << 4 | p[ETH_LEN + 1] >> 4) & 0xff;
    } else {
        return false;
    }
    uint32_t room = end < pkt->head ? end : pkt->head;
    if (end > pkt->len || room < l4 + UDP_LEN || !parse_plain_l4(p, l4, proto, room, end - l4))
        return false;
    pkt->flags = (uint8_t)((pkt->flags & PKT_PARTIAL) | PKT_PLAIN);
    pkt->layers = end | (uint64_t)l4 << 32 | (uint64_t)proto << 48 | (uint64_t)tos << 56;
    pkt->l3 = ETH_LEN;
    pkt->l3_type = l4 == HEAD4 ? PKT_L3_IP4 : PKT_L3_IP6;
    return true;
}

/* Source and destination port as they lie, when the flow's hash may use them. */
static inline uint32_t parse_ports(const struct pkt *pkt)
{
    uint8_t proto = pkt->l4_proto;
    bool ported = proto == PROTO_TCP || proto == PROTO_UDP || proto == PROTO_SCTP;
    bool whole = pkt->l4 + 4u <= pkt->l3_end && pkt_has(pkt, pkt->l4 + 4u);
    return ported && !(pkt->flags & PKT_FRAGMENT) && whole ? load32(pkt->data + pkt->l4) : 0;
}

/*
 * Flow hash of a parsed packet: CRC32c (init 0) over source, destination, {protocol, 0, 0, 0, ports}; ports 0 unless TCP, UDP
 * or SCTP and no fragment. 0 if not IP.
 */
static inline uint32_t parse_flow(const struct pkt *pkt)
{
    const uint8_t *ip = pkt->data + pkt->l3;
    uint64_t crc = 0;
    if (__builtin_expect(pkt->l3_type == PKT_L3_IP4, 1)) {
        crc = _mm_crc32_u64(crc, load64(ip + 12));
    } else if (pkt->l3_type == PKT_L3_IP6) {
        for (int i = 8; i < IP6_LEN; i += 8)
            crc = _mm_crc32_u64(crc, load64(ip + i));
    } else {
        return 0;
    }
    uint32_t ports = __builtin_expect(pkt->flags & PKT_PLAIN, 1) ? load32(pkt->data + pkt->l4) : parse_ports(pkt);
    return (uint32_t)_mm_crc32_u64(crc, (uint64_t)ports << 32 | pkt->l4_proto);
}

/* The 8-bit FlowID of it (RFC 7637 section 3.2): the four bytes of the hash xored. */
static inline uint8_t parse_flowid(uint32_t flow)
{
    flow ^= flow >> 16;
    return (uint8_t)(flow ^ flow >> 8);
}

#endif
