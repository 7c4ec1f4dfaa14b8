/*
 * rewrite.c: what is rare about rewriting: checksums of packets that are not plain, and what may not be
 * rewritten.
 */
#include "step/rewrite.h"
#include "step/gso.h"

unsigned rewrite_offset(unsigned family, uint8_t proto)
{
    switch (proto) { /* 4.1.3 */
    case PROTO_TCP:
        return 16;
    case PROTO_UDP:
    case PROTO_UDPLITE:
    case PROTO_DCCP:
        return 6;
    case PROTO_ICMP6:
        return family == DP_IPV6 ? 2 : REWRITE_NONE;
    default:
        return REWRITE_NONE;
    }
}

unsigned rewrite_field(const struct pkt *pkt)
{
    if (pkt->flags & PKT_LATER) /* 4.1.4 */
        return REWRITE_NONE;
    /* whether UDP-Lite's and DCCP's is there no parser has looked */
    if (pkt->l4_proto != PROTO_TCP && !(pkt->l4 + 8u <= pkt->l3_end && pkt_has(pkt, pkt->l4 + 8u)))
        return REWRITE_NONE; /* 4.1.5 */
    return rewrite_offset(pkt->l3_type, pkt->l4_proto);
}

static bool rewrite_has_route_option(const struct pkt *pkt)
{
    const uint8_t *at = pkt->data + pkt->l3 + IP4_LEN, *end = pkt->data + pkt->l4;
    if (pkt->l3_type != PKT_L3_IP4)
        return false;
    while (at < end && *at != IP4_OPT_END) {
        bool nop = *at == IP4_OPT_NOP;
        /* 2.10.3, 2.10.4, 3.5.7 */
        if (!nop && (end - at < 2 || at[1] < 2 || at[1] > end - at || *at == IP4_OPT_RR ||
                     *at == IP4_OPT_TIMESTAMP || *at == IP4_OPT_LSRR || *at == IP4_OPT_SSRR))
            return true;
        at += nop ? 1 : at[1];
    }
    return false;
}

enum drop rewrite_check(const struct pkt *pkt)
{
    return rewrite_has_route_option(pkt) ? DROP_IP_OPTIONS : DROP_NONE;
}

enum drop rewrite_check_out(const struct pkt *pkt, uint32_t mtu)
{
    enum drop drop = rewrite_check(pkt); /* 2.10.3, 2.10.4 */
    return drop || gso_l3_len(pkt) <= mtu ? drop : DROP_TOO_BIG; /* 2.10.5 */
}
