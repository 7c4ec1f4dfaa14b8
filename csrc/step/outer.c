/* outer.c: checks of outer packets, in the order of README.md. */
#include "step/outer.h"
#include "base/csum.h"
#include "pkt/parse.h"
#include "step/arpnd.h"
#include "step/icmp.h"

enum drop outer_check(struct pkt *pkt, const uint8_t *mac)
{
    /* 3.1.1 */
    enum drop drop = parse_plain(pkt, DP_IPV4) || parse_plain(pkt, DP_IPV6) ? DROP_NONE : parse_frame(pkt);
    if (drop)
        return drop;
    if (pkt->flags & PKT_VLAN) {
        if (parse_vlan(pkt)) /* 3.1.2 */
            return DROP_UNDERLAY_VLAN;
        parse_strip_vlan(pkt); /* 3.1.5 */
    }
    bool for_all = mac_is_group(pkt->data) && arpnd_is(pkt);
    if (!mac_equal(pkt->data, mac) && !for_all) /* 3.1.3 */
        return DROP_UNDERLAY_DST_MAC;
    return mac_is_group(pkt->data + 6) ? DROP_UNDERLAY_SRC_MAC : DROP_NONE; /* 3.1.4 */
}

enum drop outer_check_shared(const struct pkt *pkt, uint32_t to)
{
    if (act_kind(to) != ACT_PA_SELF) /* 3.4.1 */
        return DROP_UNDERLAY_NOT_OURS;
    /* 3.6.1 */
    if (pkt->l3_type == PKT_L3_IP4 && !csum_ip4_ok(pkt->data + pkt->l3, (unsigned)(pkt->l4 - pkt->l3)))
        return DROP_OUTER_CHECKSUM;
    if (pkt->flags & PKT_FRAGMENT) /* 3.6.2 */
        return DROP_OUTER_FRAGMENT;
    return pkt->l4_proto == PROTO_GRE || icmp_is_echo(pkt) ? DROP_NONE : DROP_PA_PROTOCOL; /* 3.6.5 */
}
