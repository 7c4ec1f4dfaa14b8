/*
 * source.h: from which addresses a port may send. A policy and bytes in, the source that allows it out. Called by
 * from_tenant and the ARP/ND proxy.
 */
#ifndef SOURCE_H
#define SOURCE_H
#include "pkt/pkt.h"
#include "table/tables.h"

/* The port's source that holds the address, its own CAs first; NULL: the port may not send from it. */
static inline const struct port_source *policy_source(const struct port_policy *policy, unsigned family,
                                                      const uint8_t *address)
{
    bool ip4 = family == DP_IPV4;
    const struct port_source *s = policy->sources + (ip4 ? 0 : policy->n4), *end = s + (ip4 ? policy->n4 : policy->n6);
    if (ip4 && s < end && s->prefix_len == 32 && load32(s->ca) == load32(address))
        return s;
    for (; s < end; s++)
        if (prefix_holds(s->ca, s->prefix_len, address))
            return s;
    return NULL;
}

/* MLD to a group may come from :: and from the port's link-local address, which are no sources otherwise. */
static inline bool source_is_own_mld(const struct port_policy *policy, const struct pkt *pkt)
{
    if (pkt->l3_type != PKT_L3_IP6 || pkt->l4_proto != PROTO_ICMP6 || pkt->flags & PKT_LATER)
        return false;
    uint8_t type = pkt->data[pkt->l4];
    const uint8_t *source = pkt_source(pkt);
    bool mld = type == MLD_QUERY || type == MLD_REPORT || type == MLD_DONE || type == MLD2_REPORT;
    return mld && mac_is_group(pkt->data) && (is_any(DP_IPV6, source) || !memcmp(source, policy->link_local, 16));
}

#endif
