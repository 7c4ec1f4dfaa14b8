/*
 * proxy.c: the distributed router and the ARP/ND proxy, README.md 2.2, 2.3, 2.7 and 3.10. Requests become
 * their answers in place.
 */
#include "proxy.h"
#include "arpnd.h"
#include "csum.h"
#include "forward.h"
#include "parse.h"

enum { ECHO_TTL = 64 };

static const uint8_t *arp_body(const struct pkt *pkt) { return pkt->data + pkt->l3; }

/* ---- what is asked for ----------------------------------------------------------------------- */

/* An address of the port itself, not one that it may merely send from. */
static bool own_address(const struct port_policy *policy, unsigned family, const uint8_t *address)
{
    const struct port_source *source = policy_source(policy, family, address);
    return source && !source->extra;
}

/* Who answers for the record: the router for a gateway, else the VM behind it. */
static const uint8_t *record_mac(const struct worker *worker, const struct map_value *record)
{
    return act_kind(record->act) == ACT_GATEWAY ? worker->dp->config.router_mac : record->mac;
}

/* ---- requests into answers ------------------------------------------------------------------- */

/*
 * A frame of `len` bytes made in the packet's own first slot, behind its headroom: it may be longer than what
 * it replaces.
 */
static uint8_t *restart_frame(struct pkt *pkt, uint16_t len)
{
    pkt->data = (uint8_t *)((uintptr_t)pkt->data & ~(uintptr_t)(POOL_SLOT - 1)) + POOL_HEADROOM;
    pkt->len = pkt->head = len;
    pkt->flags = 0;
    pkt->gso = DP_GSO_NONE;
    return pkt->data;
}

void proxy_arp_reply(struct pkt *pkt, const uint8_t *mac)
{
    uint8_t asker_mac[6], asker[4], target[4], to[6];
    memcpy(to, pkt->data + 6, 6);
    memcpy(asker_mac, arp_body(pkt) + 8, 6);
    memcpy(asker, arp_body(pkt) + 14, 4);
    memcpy(target, arp_body(pkt) + 24, 4);
    const struct arpnd_arp reply = {.to = to, .mac = mac, .sender = target, .target_mac = asker_mac,
                                    .target = asker, .op = ARP_REPLY};
    arpnd_arp(restart_frame(pkt, ARP_FRAME), &reply);
}

void proxy_na_reply(struct pkt *pkt, const uint8_t *mac, uint8_t flags)
{
    uint8_t asker_mac[6], asker[16], target[16];
    memcpy(asker_mac, pkt->data + 6, 6);
    memcpy(asker, pkt_source(pkt), 16);
    memcpy(target, pkt->data + pkt->l4 + 8, 16);
    bool nobody = is_any(DP_IPV6, asker);   /* no address yet: all nodes are told (RFC 4861 section 7.2.4) */
    flags |= nobody ? ND_NA_OVERRIDE : ND_NA_OVERRIDE | ND_NA_SOLICITED;
    const struct arpnd_nd reply = {.to = nobody ? arpnd_all_nodes_mac : asker_mac, .mac = mac,
                                   .source = target, .destination = nobody ? arpnd_all_nodes : asker,
                                   .target = target, .type = ND_NA, .flags = flags};
    arpnd_nd(restart_frame(pkt, ND_FRAME), &reply);
}

static void swap_addresses(struct pkt *pkt)
{
    unsigned size = pkt->l3_type == PKT_L3_IP4 ? 4 : 16;
    uint8_t *source = pkt->data + pkt->l3 + (size == 4 ? 12 : 8), asker[16];
    memcpy(asker, source, size);
    memcpy(source, source + size, size);
    memcpy(source + size, asker, size);
}

/* Writes a byte that is the first of a 16-bit word, and updates the checksum over it. */
static void set_summed(uint8_t *byte, uint8_t value, uint8_t *checksum)
{
    uint16_t from = load16(byte);
    *byte = value;
    uint16_t field = csum_update(load16(checksum), from, load16(byte));
    memcpy(checksum, &field, 2);
}

void proxy_echo_reply(struct pkt *pkt, const uint8_t *mac)
{
    uint8_t *ip = pkt->data + pkt->l3, *icmp = pkt->data + pkt->l4;
    memcpy(pkt->data, pkt->data + 6, 6);
    memcpy(pkt->data + 6, mac, 6);
    swap_addresses(pkt);
    if (pkt->l3_type == PKT_L3_IP4)
        set_summed(ip + 8, ECHO_TTL, ip + 10);
    else
        ip[7] = ECHO_TTL;
    set_summed(icmp, pkt->l3_type == PKT_L3_IP4 ? ICMP_ECHO_REPLY : ICMP6_ECHO_REPLY, icmp + 2);
}

/* ---- neighbour discovery --------------------------------------------------------------------- */

bool proxy_is_nd(const struct pkt *pkt)
{
    if (pkt->l3_type != PKT_L3_IP6 || pkt->l4_proto != PROTO_ICMP6 || pkt->flags & PKT_LATER)
        return false;
    uint8_t type = pkt->data[pkt->l4];
    return type >= ND_RS && type <= ND_REDIRECT;
}

/* Walks the options; *lladdr: the MAC of the first of type `wanted`. False: one is malformed. */
static bool nd_options(const uint8_t *at, const uint8_t *end, uint8_t wanted, const uint8_t **lladdr)
{
    while (at < end) {
        if (end - at < 2 || at[1] == 0 || end - at < at[1] * 8)
            return false;
        if (at[0] == wanted && !*lladdr)
            *lladdr = at + 2;
        at += at[1] * 8;
    }
    return true;
}

bool proxy_nd_valid(const struct pkt *pkt, const uint8_t **lladdr)
{
    const uint8_t *icmp = pkt->data + pkt->l4;
    uint32_t len = pkt->l3_end - pkt->l4;
    uint8_t type = icmp[0];
    *lladdr = NULL;
    if (pkt->flags & PKT_FRAGMENT || pkt_ttl(pkt) != 255 || icmp[1] != 0 || !pkt_has(pkt, pkt->l3_end) ||
        csum_fold(csum_add(icmp, len, csum_pseudo(pkt, len))) != 0xffff)
        return false;
    if (type == ND_RA || type == ND_REDIRECT)
        return true;
    uint32_t fixed = type == ND_RS ? 8 : ND_LEN;
    if (len < fixed || (type != ND_RS && icmp[8] == 0xff))
        return false;
    if (!nd_options(icmp + fixed, icmp + len, type == ND_NA ? ND_OPT_TLLA : ND_OPT_SLLA, lladdr))
        return false;
    return !(type == ND_NS && *lladdr && is_any(DP_IPV6, pkt_source(pkt)));
}

/* ---- from a tenant port ---------------------------------------------------------------------- */

void proxy_arp(struct worker *worker, const struct tables *tables, const struct port_policy *policy,
               struct port *in, struct pkt *pkt)
{
    const uint8_t *arp = arp_body(pkt), *sender = arp + 14, *target = arp + 24;
    bool known = is_any(DP_IPV4, sender) || policy_source(policy, DP_IPV4, sender);
    if (!mac_equal(arp + 8, policy->mac) || !known) {
        worker_drop(worker, pkt, DROP_ARP_SENDER);
        return;
    }
    if (get16(arp + 6) == ARP_REPLY || own_address(policy, DP_IPV4, target)) {
        worker_consume(worker, pkt);
        return;
    }
    struct map_value record = lookup_record(tables, policy->vsid, DP_IPV4, target);
    if (!record.act) {
        worker_drop(worker, pkt, DROP_ARP_UNKNOWN);
        return;
    }
    proxy_arp_reply(pkt, record_mac(worker, &record));
    proxy_answered(worker, pkt);
    worker_send(worker, in, pkt);
}

/* What a port may say in ND, in the order of README.md 2.3. */
static enum drop check_tenant_nd(const struct port_policy *policy, const struct pkt *pkt)
{
    const uint8_t *lladdr, *source = pkt_source(pkt), *target = pkt->data + pkt->l4 + 8;
    if (!proxy_nd_valid(pkt, &lladdr))
        return DROP_ND_MALFORMED;
    uint8_t type = pkt->data[pkt->l4];
    if (type == ND_RA || type == ND_REDIRECT)
        return DROP_ND_ROUTER;
    bool nobody = is_any(DP_IPV6, source) && (type == ND_NS || type == ND_RS);
    if (!nobody && memcmp(source, policy->link_local, 16) && !policy_source(policy, DP_IPV6, source))
        return DROP_SRC_ADDRESS;
    if (lladdr && !mac_equal(lladdr, policy->mac))
        return DROP_ND_SPOOFED;
    if (type == ND_NA && memcmp(target, policy->link_local, 16) && !own_address(policy, DP_IPV6, target))
        return DROP_ND_SPOOFED;
    return DROP_NONE;
}

void proxy_nd(struct worker *worker, const struct tables *tables, const struct port_policy *policy,
              struct port *in, struct pkt *pkt)
{
    if (worker_dropped(worker, pkt, check_tenant_nd(policy, pkt)))
        return;
    const uint8_t *target = pkt->data + pkt->l4 + 8;
    if (pkt->data[pkt->l4] != ND_NS || !memcmp(target, policy->link_local, 16) ||
        own_address(policy, DP_IPV6, target)) {
        worker_consume(worker, pkt);
        return;
    }
    struct map_value record = lookup_record(tables, policy->vsid, DP_IPV6, target);
    if (!record.act) {
        worker_drop(worker, pkt, DROP_ND_UNKNOWN);
        return;
    }
    proxy_na_reply(pkt, record_mac(worker, &record), act_kind(record.act) == ACT_GATEWAY ? ND_NA_ROUTER : 0);
    proxy_answered(worker, pkt);
    worker_send(worker, in, pkt);
}

bool proxy_is_echo(const struct pkt *pkt)
{
    static const uint8_t echo4[2] = {ICMP_ECHO, 0}, echo6[2] = {ICMP6_ECHO, 0};
    if (pkt->flags & PKT_FRAGMENT)
        return false;
    const uint8_t *icmp = pkt->data + pkt->l4;
    if (pkt->l3_type == PKT_L3_IP4)
        return pkt->l4_proto == PROTO_ICMP && pkt->l4 == pkt->l3 + IP4_LEN && !memcmp(icmp, echo4, 2);
    return pkt->l3_type == PKT_L3_IP6 && pkt->l4_proto == PROTO_ICMP6 && !memcmp(icmp, echo6, 2);
}

void proxy_router(struct worker *worker, struct port *in, struct pkt *pkt)
{
    if (!proxy_is_echo(pkt)) {
        worker_drop(worker, pkt, DROP_ROUTER_LOCAL);
        return;
    }
    proxy_echo_reply(pkt, worker->dp->config.router_mac);
    proxy_answered(worker, pkt);
    worker_send(worker, in, pkt);
}

/* ---- through the tunnel ---------------------------------------------------------------------- */

static void answer_through_tunnel(struct worker *worker, struct pkt *pkt, const struct next_hop *nh,
                                  uint32_t vsid, uint8_t flowid)
{
    proxy_answered(worker, pkt);
    if (nh->header_len == 0) {
        worker_drop(worker, pkt, DROP_NO_SHARED_PA);
        return;
    }
    nvgre_push(pkt, nh, vsid, flowid, 0);
    forward_underlay(worker, pkt, nh);
}

void proxy_tunnel_arp(struct worker *worker, const struct tables *tables, const struct subnet *subnet,
                      struct next_hop *nh, struct pkt *pkt)
{
    if (get16(arp_body(pkt) + 6) == ARP_REPLY) {
        worker_consume(worker, pkt);
        return;
    }
    struct map_value record = lookup_record(tables, subnet->vsid, DP_IPV4, arp_body(pkt) + 24);
    if (act_kind(record.act) != ACT_LOCAL) {
        worker_drop(worker, pkt, DROP_ARP_UNKNOWN);
        return;
    }
    proxy_arp_reply(pkt, record.mac);
    answer_through_tunnel(worker, pkt, nh, subnet->vsid, 0);
}

void proxy_tunnel_nd(struct worker *worker, const struct tables *tables, const struct subnet *subnet,
                     struct next_hop *nh, struct pkt *pkt)
{
    if (pkt->data[pkt->l4] != ND_NS) {
        worker_consume(worker, pkt);
        return;
    }
    struct map_value record = lookup_record(tables, subnet->vsid, DP_IPV6, pkt->data + pkt->l4 + 8);
    if (act_kind(record.act) != ACT_LOCAL) {
        worker_drop(worker, pkt, DROP_ND_UNKNOWN);
        return;
    }
    proxy_na_reply(pkt, record.mac, 0);
    parse_frame(pkt);                   /* for the flow of the answer */
    bool off = worker->dp->config.flags & DP_FLOWID_OFF;
    answer_through_tunnel(worker, pkt, nh, subnet->vsid, off ? 0 : parse_flowid(parse_flow(pkt)));
}
