/*
 * parse.c: bytes -> offsets, in the order of README.md section 1. Nothing is read before its length is
 * checked.
 */
#include "pkt/parse.h"

enum { IP6_EXTENSIONS_MAX = 8, IP4_PAYLOAD_MAX = 65535 - IP4_LEN, IP6_PAYLOAD_MAX = 65535 };

/* The first `len` bytes from l4 on belong to the IP packet and can be read. */
static inline bool parse_has(const struct pkt *pkt, uint32_t len)
{
    uint32_t end = pkt->l4 + len;
    return end <= pkt->l3_end && pkt_has(pkt, end); /* 1.5.6 */
}

static enum drop parse_tcp(const struct pkt *pkt)
{
    if (!parse_has(pkt, TCP_LEN)) /* 1.5.1 */
        return DROP_L4_SHORT;
    uint32_t hlen = (pkt->data[pkt->l4 + 12] >> 4) * 4u;
    return hlen >= TCP_LEN && parse_has(pkt, hlen) ? DROP_NONE : DROP_L4_LENGTH; /* 1.5.2 */
}

static enum drop parse_udp(const struct pkt *pkt)
{
    if (!parse_has(pkt, UDP_LEN)) /* 1.5.1 */
        return DROP_L4_SHORT;
    uint32_t len = get16(pkt->data + pkt->l4 + 4);
    bool fits = pkt->flags & PKT_FRAGMENT || len <= pkt->l3_end - pkt->l4; /* 1.5.4 */
    return len >= UDP_LEN && fits ? DROP_NONE : DROP_L4_LENGTH; /* 1.5.3, 1.5.4 */
}

static inline enum drop parse_l4(const struct pkt *pkt)
{
    switch (pkt->l4_proto) {
    case PROTO_TCP:
        return parse_tcp(pkt);
    case PROTO_UDP:
        return parse_udp(pkt);
    case PROTO_ICMP:
    case PROTO_ICMP6:           /* each in its own family only */
        /* 1.5.1, 1.5.5 */
        return (pkt->l4_proto == PROTO_ICMP) != (pkt->l3_type == PKT_L3_IP4) || parse_has(pkt, ICMP_LEN)
                   ? DROP_NONE
                   : DROP_L4_SHORT;
    default: /* 1.5.5 */
        return DROP_NONE;
    }
}

/* `offset` is in bytes; `payload` is what this fragment carries of a datagram of at most `max` bytes. */
static enum drop parse_fragment(struct pkt *pkt, uint32_t offset, bool more, uint32_t payload, uint32_t max)
{
    if (more && (payload == 0 || payload % 8)) /* 1.3.7, 1.4.7 */
        return DROP_IP_FRAGMENT;
    if (offset + payload > max) /* 1.3.8, 1.4.8 */
        return DROP_IP_FRAGMENT;
    pkt->flags |= offset ? PKT_FRAGMENT | PKT_LATER : PKT_FRAGMENT; /* 1.3.6, 1.3.9, 1.4.9, 1.4.10 */
    return DROP_NONE;
}

static inline enum drop parse_ip4(struct pkt *pkt)
{
    const uint8_t *ip = pkt->data + pkt->l3;
    if (!pkt_has(pkt, pkt->l3 + IP4_LEN)) /* 1.3.1 */
        return DROP_IP_SHORT;
    if (ip[0] >> 4 != 4) /* 1.3.2 */
        return DROP_IP_VERSION;
    uint32_t hlen = (ip[0] & 15) * 4u, total = get16(ip + 2);
    if (hlen < IP4_LEN || !pkt_has(pkt, pkt->l3 + hlen)) /* 1.3.3 */
        return DROP_IP_HEADER_LENGTH;
    if (total < hlen || total > pkt->len - pkt->l3) /* 1.3.4 */
        return DROP_IP_LENGTH;
    pkt->l3_type = PKT_L3_IP4;
    pkt->tos = ip[1];
    pkt->l4 = (uint16_t)(pkt->l3 + hlen);
    pkt->l4_proto = ip[9];
    pkt->l3_end = pkt->l3 + total; /* 1.3.5 */
    uint16_t frag = get16(ip + 6);
    if (frag & (IP4_MF | IP4_OFFSET)) { /* 1.3.6 */
        enum drop drop = parse_fragment(pkt, (frag & IP4_OFFSET) * 8u, frag & IP4_MF, total - hlen,
                                        IP4_PAYLOAD_MAX);
        if (drop || pkt->flags & PKT_LATER) /* 1.3.9 */
            return drop;
    }
    return parse_l4(pkt);
}

/* One extension header at l4; sets l4 and l4_proto behind it. */
static enum drop parse_extension(struct pkt *pkt)
{
    const uint8_t *h = pkt->data + pkt->l4;
    if (!parse_has(pkt, 8)) /* 1.4.6 */
        return DROP_IP6_EXTENSION;
    uint32_t len = pkt->l4_proto == PROTO_AH ? (h[1] + 2u) * 4 : (h[1] + 1u) * 8;
    if (pkt->l4_proto == PROTO_FRAGMENT)
        len = 8;
    if (!parse_has(pkt, len)) /* 1.4.6 */
        return DROP_IP6_EXTENSION;
    bool fragment = pkt->l4_proto == PROTO_FRAGMENT;
    pkt->l4_proto = h[0];
    pkt->l4 = (uint16_t)(pkt->l4 + len);
    if (!fragment)
        return DROP_NONE;
    uint16_t offset = get16(h + 2);
    return parse_fragment(pkt, offset & 0xfff8, offset & 1, pkt->l3_end - pkt->l4, IP6_PAYLOAD_MAX);
}

static enum drop parse_ip6(struct pkt *pkt)
{
    const uint8_t *ip = pkt->data + pkt->l3;
    if (!pkt_has(pkt, pkt->l3 + IP6_LEN)) /* 1.4.1 */
        return DROP_IP_SHORT;
    if (ip[0] >> 4 != 6) /* 1.4.2 */
        return DROP_IP_VERSION;
    uint32_t total = IP6_LEN + get16(ip + 4);
    if (total > pkt->len - pkt->l3) /* 1.4.3 */
        return DROP_IP_LENGTH;
    pkt->l3_type = PKT_L3_IP6;
    pkt->tos = (uint8_t)(ip[0] << 4 | ip[1] >> 4);
    pkt->l4 = (uint16_t)(pkt->l3 + IP6_LEN);
    pkt->l4_proto = ip[6];
    pkt->l3_end = pkt->l3 + total;
    for (int n = 0; parse_is_extension(pkt->l4_proto); n++) { /* 1.4.4 */
        enum drop drop = n < IP6_EXTENSIONS_MAX ? parse_extension(pkt) : DROP_IP6_EXTENSION; /* 1.4.5 */
        if (drop || pkt->flags & PKT_LATER) /* 1.4.10 */
            return drop;
    }
    return parse_l4(pkt);
}

static enum drop parse_arp(struct pkt *pkt)
{
    const uint8_t *arp = pkt->data + pkt->l3;
    if (!pkt_has(pkt, pkt->l3 + ARP_LEN)) /* 1.2.2 */
        return DROP_ARP_MALFORMED;
    uint16_t op = get16(arp + 6);
    if (get16(arp) != 1 || get16(arp + 2) != ETHERTYPE_IP4 || arp[4] != 6 || arp[5] != 4 || /* 1.2.3 */
        (op != ARP_REQUEST && op != ARP_REPLY))
        return DROP_ARP_MALFORMED;
    pkt->l3_type = PKT_L3_ARP;
    pkt->tos = 0;
    pkt->l4 = pkt->l3;
    pkt->l4_proto = 0;
    pkt->l3_end = pkt->l3 + ARP_LEN;
    return DROP_NONE;
}

enum drop parse_frame(struct pkt *pkt)
{
    pkt->flags &= PKT_PARTIAL;
    pkt->l3 = ETH_LEN;
    if (!pkt_has(pkt, ETH_LEN)) /* 1.1.1 */
        return DROP_ETH_SHORT;
    uint16_t type = get16(pkt->data + 12);
    if (__builtin_expect(type == ETHERTYPE_VLAN, 0)) {
        if (!pkt_has(pkt, ETH_LEN + VLAN_LEN)) /* 1.1.2 */
            return DROP_ETH_SHORT;
        pkt->flags |= PKT_VLAN; /* 1.1.3 */
        pkt->l3 = ETH_LEN + VLAN_LEN;
        type = get16(pkt->data + 16);
        if (type == ETHERTYPE_VLAN) /* 1.1.4 */
            return DROP_VLAN_STACKED;
    }
    switch (type) {
    case ETHERTYPE_IP4:
        return parse_ip4(pkt);
    case ETHERTYPE_IP6:
        return parse_ip6(pkt);
    case ETHERTYPE_ARP:
        return parse_arp(pkt);
    case ETHERTYPE_QINQ: /* 1.1.4 */
        return DROP_VLAN_STACKED;
    default: /* 1.2.1 */
        return DROP_ETHERTYPE;
    }
}

void parse_strip_vlan(struct pkt *pkt)
{
    memmove(pkt->data + VLAN_LEN, pkt->data, 12);
    pkt_pop(pkt, VLAN_LEN);
    pkt->l3 = ETH_LEN;
    pkt->l4 = (uint16_t)(pkt->l4 - VLAN_LEN);
    pkt->l3_end -= VLAN_LEN;
    pkt->flags &= (uint8_t)~PKT_VLAN;
}
