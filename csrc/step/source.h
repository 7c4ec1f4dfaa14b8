/*
 * source.h: from which addresses a port may send. A policy and bytes in, the source that allows it out.
 * Called by from_tenant and the ARP/ND proxy.
 */
#ifndef SOURCE_H
#define SOURCE_H
#include "base/drop.h"
#include "base/hot.h"
#include "pkt/pkt.h"
#include "table/tables.h"

/* Any frame of the port's, parsed in full and without its tag. DROP_NONE: it is from the port's MAC. */
enum drop source_parse(const struct port_policy *policy, struct pkt *pkt);

/* An address as a number. */
static inline unsigned __int128 source_number(bool ip4, const uint8_t *address)
{
    if (ip4)
        return get32(address);
    unsigned __int128 high = __builtin_bswap64(load64(address));
    return high << 64 | __builtin_bswap64(load64(address + 8));
}

/* The search of one family: 4 or 16 bytes. */
const struct port_source *source_search4(const struct port_policy *policy, const uint8_t *address);
const struct port_source *source_search6(const struct port_policy *policy, const uint8_t *address);

/*
 * The port's own CA; or, where an allowed prefix holds the address, the family's first prefix, which stands
 * for all of them; NULL: the port may not send from it.
 */
static inline const struct port_source *policy_source(const struct port_policy *policy, unsigned family,
                                                      const uint8_t *address)
{
    return family == DP_IPV4 ? source_search4(policy, address) : source_search6(policy, address);
}

/* The port's first own CA of each family: what most of its packets come from. */
struct source_own {
    const struct port_source *own4, *own6;      /* NULL: it has none */
    uint32_t ca4;
    uint64_t ca6[2];                            /* words as they lie */
};

static inline struct source_own source_own(const struct port_policy *policy)
{
    struct source_own own = {0};
    const struct port_source *s4 = policy->sources, *s6 = policy->sources + policy->n4;
    if (policy->own4)
        own.own4 = s4, own.ca4 = load32(s4->ca);
    if (policy->own6)
        own.own6 = s6, own.ca6[0] = load64(s6->ca), own.ca6[1] = load64(s6->ca + 8);
    return own;
}

/* policy_source(), the first own CA at once. */
HOT const struct port_source *source_find(const struct source_own *own, const struct port_policy *policy,
                                          unsigned family, const uint8_t *address)
{
    bool first4 = family == DP_IPV4 && load32(address) == own->ca4;
    if (__builtin_expect(first4 && own->own4, 1))
        return own->own4;
    bool first6 = family == DP_IPV6 && load64(address) == own->ca6[0] && load64(address + 8) == own->ca6[1];
    if (__builtin_expect(first6 && own->own6, 1))
        return own->own6;
    return policy_source(policy, family, address);
}

/* MLD to a group may come from :: and from a guest's link-local address, which are no sources otherwise. */
static inline bool source_is_mld(const struct pkt *pkt)
{
    if (pkt->l3_type != PKT_L3_IP6 || pkt->l4_proto != PROTO_ICMP6 || pkt->flags & PKT_LATER)
        return false;
    uint8_t type = pkt->data[pkt->l4];
    const uint8_t *source = pkt_source(pkt);
    bool mld = type == MLD_QUERY || type == MLD_REPORT || type == MLD_DONE || type == MLD2_REPORT;
    return mld && mac_is_group(pkt->data) && (is_any(DP_IPV6, source) || is_guest_link_local(source));
}

#endif
