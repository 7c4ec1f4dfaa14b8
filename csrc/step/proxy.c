/* proxy.c: the distributed router and the ARP/ND proxy, README.md 2.2, 2.3, 2.7 and 3.10. */
#include "step/proxy.h"
#include "pkt/parse.h"
#include "step/arpnd.h"
#include "step/icmp.h"
#include "step/source.h"
#include "table/lookup.h"

static const struct proxy_verdict proxy_consume = {PROXY_CONSUME, DROP_NONE};
static const struct proxy_verdict proxy_answer = {PROXY_ANSWER, DROP_NONE};

static struct proxy_verdict proxy_drop(enum drop drop) { return (struct proxy_verdict){PROXY_DROP, drop}; }

/* An address of the port itself, not one that it may merely send from. */
static bool proxy_own_address(const struct port_policy *policy, unsigned family, const uint8_t *address)
{
    const struct port_source *source = policy_source(policy, family, address);
    return source && !source->extra;
}

/* Who answers for the record: the router for a gateway, else the VM behind it. */
static const uint8_t *proxy_record_mac(const struct tables *tables, const struct map_value *record)
{
    return act_kind(record->act) == ACT_GATEWAY ? tables->router_mac : lookup_mac(tables, record);
}

/* ---- from a tenant port ---------------------------------------------------------------------- */

static struct proxy_verdict proxy_arp(const struct tables *tables, const struct port_policy *policy,
                                      struct pkt *pkt)
{
    const uint8_t *arp = arpnd_body(pkt), *sender = arp + 14, *target = arp + 24;
    bool known = is_any(DP_IPV4, sender) || policy_source(policy, DP_IPV4, sender);
    if (!mac_equal(arp + 8, policy->mac) || !known) /* 2.2.1, 2.2.2 */
        return proxy_drop(DROP_ARP_SENDER);
    if (get16(arp + 6) == ARP_REPLY || proxy_own_address(policy, DP_IPV4, target)) /* 2.2.3, 2.2.4 */
        return proxy_consume;
    struct map_value record = lookup_record(tables, policy->vsid, DP_IPV4, target);
    if (!record.act) /* 2.2.6 */
        return proxy_drop(DROP_ARP_UNKNOWN);
    arpnd_arp_reply(pkt, proxy_record_mac(tables, &record)); /* 2.2.5 */
    return proxy_answer;
}

/* What a port may say in ND, in the order of README.md 2.3. */
static enum drop proxy_check_nd(const struct port_policy *policy, const struct pkt *pkt)
{
    const uint8_t *lladdr, *source = pkt_source(pkt), *target = pkt->data + pkt->l4 + 8;
    if (!arpnd_nd_valid(pkt, &lladdr))
        return DROP_ND_MALFORMED;
    uint8_t type = pkt->data[pkt->l4];
    if (type == ND_RA || type == ND_REDIRECT) /* 2.3.11 */
        return DROP_ND_ROUTER;
    bool nobody = is_any(DP_IPV6, source) && (type == ND_NS || type == ND_RS);
    if (!nobody && !is_guest_link_local(source) && !policy_source(policy, DP_IPV6, source)) /* 2.3.12 */
        return DROP_SRC_ADDRESS;
    if (lladdr && !mac_equal(lladdr, policy->mac)) /* 2.3.13 */
        return DROP_ND_SPOOFED;
    bool own = is_guest_link_local(target) || proxy_own_address(policy, DP_IPV6, target);
    if (type == ND_NA && !own) /* 2.3.14 */
        return DROP_ND_SPOOFED;
    return DROP_NONE;
}

static struct proxy_verdict proxy_nd(const struct tables *tables, const struct port_policy *policy,
                                     struct pkt *pkt)
{
    enum drop drop = proxy_check_nd(policy, pkt);
    if (drop)
        return proxy_drop(drop);
    const uint8_t *target = pkt->data + pkt->l4 + 8;
    if (pkt->data[pkt->l4] != ND_NS || proxy_own_address(policy, DP_IPV6, target)) /* 2.3.15, 2.3.16 */
        return proxy_consume;
    struct map_value record = lookup_record(tables, policy->vsid, DP_IPV6, target);
    if (!record.act) { /* 2.3.18, 2.3.22 */
        bool claim = is_guest_link_local(target) && is_any(DP_IPV6, pkt_source(pkt));
        return claim ? proxy_consume : proxy_drop(DROP_ND_UNKNOWN);
    }
    uint8_t flags = act_kind(record.act) == ACT_GATEWAY ? ND_NA_ROUTER : 0;
    arpnd_na_reply(pkt, proxy_record_mac(tables, &record), flags); /* 2.3.17 */
    return proxy_answer;
}

struct proxy_verdict proxy_arpnd(const struct tables *tables, const struct port_policy *policy,
                                 struct pkt *pkt)
{
    return pkt->l3_type == PKT_L3_ARP ? proxy_arp(tables, policy, pkt) : proxy_nd(tables, policy, pkt);
}

struct proxy_verdict proxy_router(const struct arena *arena, const struct tables *tables, struct pkt *pkt)
{
    if (!icmp_is_echo(pkt)) /* 2.7.4 */
        return proxy_drop(DROP_ROUTER_LOCAL);
    icmp_echo_reply(arena, pkt, tables->router_mac);
    return proxy_answer;
}

/* ---- through the tunnel ---------------------------------------------------------------------- */

static struct proxy_verdict proxy_tunnel_arp(const struct tables *tables, const struct subnet *subnet,
                                             struct pkt *pkt)
{
    const uint8_t *arp = arpnd_body(pkt);
    if (get16(arp + 6) == ARP_REPLY) /* 3.10.3 */
        return proxy_consume;
    struct map_value record = lookup_record(tables, subnet->vsid, DP_IPV4, arp + 24);
    if (act_kind(record.act) != ACT_LOCAL) /* 3.10.6 */
        return proxy_drop(DROP_ARP_UNKNOWN);
    arpnd_arp_reply(pkt, record.mac);
    return proxy_answer;
}

static struct proxy_verdict proxy_tunnel_nd(const struct tables *tables, const struct subnet *subnet,
                                            struct pkt *pkt)
{
    if (pkt->data[pkt->l4] != ND_NS) /* 3.10.3 */
        return proxy_consume;
    struct map_value record = lookup_record(tables, subnet->vsid, DP_IPV6, pkt->data + pkt->l4 + 8);
    if (act_kind(record.act) != ACT_LOCAL) /* 3.10.7 */
        return proxy_drop(DROP_ND_UNKNOWN);
    arpnd_na_reply(pkt, record.mac, 0);
    parse_frame(pkt);                   /* for the flow of the answer */
    return proxy_answer;
}

struct proxy_verdict proxy_tunnel(const struct tables *tables, const struct subnet *subnet, struct pkt *pkt)
{
    return pkt->l3_type == PKT_L3_ARP ? proxy_tunnel_arp(tables, subnet, pkt)
                                      : proxy_tunnel_nd(tables, subnet, pkt);
}
