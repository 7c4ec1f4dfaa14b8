/*
 * rewrite.c: what is rare about rewriting: checksums of packets that are not plain, and what may not be
 * rewritten.
 */
#include "step/rewrite.h"
#include "step/gso.h"

unsigned rewrite_field(const struct pkt *pkt)
{
    if (pkt->flags & PKT_LATER) /* 4.1.4 */
        return REWRITE_NONE;
    switch (pkt->l4_proto) { /* 4.1.3 */
    case PROTO_TCP:
        return 16;
    case PROTO_UDP:
        return 6;
    case PROTO_UDPLITE:
    case PROTO_DCCP:                    /* no parser has looked whether it is there */
        return pkt->l4 + 8u <= pkt->l3_end && pkt_has(pkt, pkt->l4 + 8u) ? 6 : REWRITE_NONE; /* 4.1.5 */
    case PROTO_ICMP6:
        return pkt->l3_type == PKT_L3_IP6 ? 2 : REWRITE_NONE;
    default:
        return REWRITE_NONE;
    }
}

static bool rewrite_is_icmp_error(const struct pkt *pkt)
{
    if (pkt->flags & PKT_LATER)
        return false;
    const uint8_t *type = pkt->data + pkt->l4;
    if (pkt->l3_type == PKT_L3_IP4 && pkt->l4_proto == PROTO_ICMP)
        return *type == 3 || *type == 4 || *type == 5 || *type == 11 || *type == 12; /* 2.10.2, 3.5.5 */
    return pkt->l3_type == PKT_L3_IP6 && pkt->l4_proto == PROTO_ICMP6 && *type < 128;
}

static bool rewrite_has_route_option(const struct pkt *pkt)
{
    const uint8_t *at = pkt->data + pkt->l3 + IP4_LEN, *end = pkt->data + pkt->l4;
    if (pkt->l3_type != PKT_L3_IP4)
        return false;
    while (at < end && *at != IP4_OPT_END) {
        bool nop = *at == IP4_OPT_NOP;
        /* 2.10.3, 2.10.4, 3.5.6 */
        if (!nop && (end - at < 2 || at[1] < 2 || at[1] > end - at || *at == IP4_OPT_RR ||
                     *at == IP4_OPT_TIMESTAMP || *at == IP4_OPT_LSRR || *at == IP4_OPT_SSRR))
            return true;
        at += nop ? 1 : at[1];
    }
    return false;
}

enum drop rewrite_check(const struct pkt *pkt)
{
    if (rewrite_is_icmp_error(pkt))
        return DROP_ICMP_ERROR;
    return rewrite_has_route_option(pkt) ? DROP_IP_OPTIONS : DROP_NONE;
}

enum drop rewrite_check_out(const struct pkt *pkt, uint32_t mtu)
{
    enum drop drop = rewrite_check(pkt); /* 2.10.2, 2.10.3, 2.10.4 */
    return drop || gso_l3_len(pkt) <= mtu ? drop : DROP_TOO_BIG; /* 2.10.5 */
}
