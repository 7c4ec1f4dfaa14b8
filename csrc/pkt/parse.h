/*
 * parse.h: bytes -> offsets. The one place that meets untrusted lengths first; README.md section 1 has the
 * order of its checks. A frame in, offsets and flags in its descriptor out; both paths call it, and steps for
 * what they have made.
 */
#ifndef PARSE_H
#define PARSE_H
#include "base/hot.h"
#include <immintrin.h>
#include "base/drop.h"
#include "pkt/pkt.h"

/*
 * Parses the Ethernet frame at pkt->data and sets l3..l3_end and flags (PKT_PARTIAL is kept, PKT_PLAIN is not
 * found out). DROP_NONE or the reason. Writes no byte.
 */
enum drop parse_frame(struct pkt *pkt);
/* An IPv6 extension header that parse_frame() passes over. */
static inline bool parse_is_extension(uint8_t proto)
{
    return proto == PROTO_HOPOPTS || proto == PROTO_ROUTING || proto == PROTO_FRAGMENT ||
           proto == PROTO_DSTOPTS || proto == PROTO_AH;
}
/* Of a tag that parse_frame() has found (PKT_VLAN). 0: no VLAN, only a priority (IEEE 802.1Q section 9.6). */
static inline uint16_t parse_vlan(const struct pkt *pkt) { return get16(pkt->data + ETH_LEN) & 0x0fff; }
/* Moves the MACs over the 802.1Q tag and parses nothing anew: offsets are adjusted. */
void parse_strip_vlan(struct pkt *pkt);

/*
 * What most packets are, in a few compares: an IP packet of this family, whole in the first slot, without
 * options or extensions and no fragment, TCP or UDP in it. True: all is set as parse_frame() would, and
 * PKT_PLAIN with it. False: nothing is known, and nothing is changed. flags are as received: PKT_PARTIAL or
 * none. A slot has 70 bytes from any frame's start on that may be read.
 */
HOT bool parse_plain(struct pkt *pkt, unsigned family)
{
    const uint8_t *p = pkt->data;
    const uint64_t word = load64(p + 12);       /* EtherType, then the IP header's first bytes */
    const uint32_t l4 = family == DP_IPV4 ? ETH_LEN + IP4_LEN : ETH_LEN + IP6_LEN;
    uint32_t end;
    uint64_t proto, tos;
    if (family == DP_IPV4) {
        if ((word & 0xffffff) != 0x450008 || load16(p + ETH_LEN + 6) & 0xffbf)      /* DF may be set */
            return false;
        end = ETH_LEN + (uint32_t)get16(p + ETH_LEN + 2);
        proto = p[ETH_LEN + 9];
        tos = word >> 24 & 0xff;
    } else {
        if ((word & 0xf0ffff) != 0x60dd86)
            return false;
        end = l4 + get16(p + ETH_LEN + 4);
        proto = p[ETH_LEN + 6];
        tos = (p[ETH_LEN] << 4 | p[ETH_LEN + 1] >> 4) & 0xff;
    }
    if (end > pkt->head)
        return false;
    int32_t left = (int32_t)(end - l4), hlen;
    if (proto == PROTO_UDP) {
        hlen = get16(p + l4 + 4);               /* of all of it: header and payload */
        if (hlen < UDP_LEN || hlen > left)
            return false;
    } else if (proto == PROTO_TCP && left >= TCP_LEN) {
        hlen = (p[l4 + 12] & 0xf0) >> 2;
        if (hlen < TCP_LEN || hlen > left)
            return false;
    } else {
        return false;
    }
    const uint16_t l3 = (uint16_t)(ETH_LEN | family << 8);
    pkt->flags |= PKT_PLAIN;
    pkt->layers = end | (uint64_t)l4 << 32 | proto << 48 | tos << 56;
    memcpy(&pkt->l3, &l3, 2);
    return true;
}

/* Source and destination port as they lie, when the flow's hash may use them. */
static inline uint32_t parse_ports(const struct pkt *pkt)
{
    uint8_t proto = pkt->l4_proto;
    bool ported = proto == PROTO_TCP || proto == PROTO_UDP || proto == PROTO_SCTP;
    bool whole = pkt->l4 + 4u <= pkt->l3_end && pkt_has(pkt, pkt->l4 + 4u);
    /* 2.13.4, 2.13.5 */
    return ported && !(pkt->flags & PKT_FRAGMENT) && whole ? load32(pkt->data + pkt->l4) : 0;
}

/*
 * Flow hash of a parsed packet: CRC32c (init 0) over source, destination, {protocol, 0, 0, 0, ports}; ports 0
 * unless TCP, UDP or SCTP and no fragment. 0 if not IP.
 */
static inline uint32_t parse_flow(const struct pkt *pkt)
{
    const uint8_t *ip = pkt->data + pkt->l3;
    uint64_t crc = 0; /* 2.13.3 */
    if (__builtin_expect(pkt->l3_type == PKT_L3_IP4, 1)) {
        crc = _mm_crc32_u64(crc, load64(ip + 12));
    } else if (pkt->l3_type == PKT_L3_IP6) {
        for (int i = 8; i < IP6_LEN; i += 8)
            crc = _mm_crc32_u64(crc, load64(ip + i));
    } else {
        return 0; /* 2.13.1 */
    }
    uint32_t ports =
        __builtin_expect(pkt->flags & PKT_PLAIN, 1) ? load32(pkt->data + pkt->l4) : parse_ports(pkt);
    return (uint32_t)_mm_crc32_u64(crc, (uint64_t)ports << 32 | pkt->l4_proto); /* 2.13.2 */
}

/* The same of a plain packet, at its frame. */
HOT uint32_t parse_flow_plain(const uint8_t *frame, unsigned family)
{
    const uint8_t *ip = frame + ETH_LEN, *l4 = ip + (family == DP_IPV4 ? IP4_LEN : IP6_LEN);
    uint64_t crc = 0; /* 2.13.3 */
    for (const uint8_t *at = ip + (family == DP_IPV4 ? 12 : 8); at < l4; at += 8)
        crc = _mm_crc32_u64(crc, load64(at));
    /* 2.13.2 */
    return (uint32_t)_mm_crc32_u64(crc, (uint64_t)load32(l4) << 32 | ip[family == DP_IPV4 ? 9 : 6]);
}

/* The 8-bit FlowID of it (RFC 7637 section 3.2): the four bytes of the hash xored. */
static inline uint8_t parse_flowid(uint32_t flow)
{
    flow ^= flow >> 16; /* 2.13.2 */
    return (uint8_t)(flow ^ flow >> 8);
}

#endif
