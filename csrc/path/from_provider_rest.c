/*
 * from_provider_rest.c: what rarely comes from the underlay, and every reason to refuse what does: README.md 3.1 to 3.12 in their
 * order. Called by from_provider.c, packet by packet; lookups are single ones.
 */
#include "base/csum.h"
#include "host/provider.h"
#include "path/from_provider.h"
#include "path/local.h"
#include "path/underlay.h"
#include "pkt/offload.h"
#include "step/arpnd.h"
#include "step/icmp.h"
#include "step/proxy.h"
#include "step/rewrite.h"
#include "table/lookup.h"

static struct lookup_answer provider_answer_of(struct map_value value)
{
    struct lookup_answer answer = {value.act, 0};
    memcpy(&answer.mac, value.mac, sizeof value.mac);
    return answer;
}

static bool provider_mac_is(const uint8_t *mac, const struct lookup_answer *answer)
{
    return (load64(mac) & PROVIDER_MAC) == answer->mac;
}

/* ---- who sent it */

/* The outer source is a shared PA of another host: d->sender is its act. */
static bool provider_has_sender(const struct provider *p, struct provider_pkt *d)
{
    if (d->sender == 0) {
        bool ip4 = d->outer_len == NVGRE4_LEN;
        struct map_value value = lookup_pa(p->tables, ip4 ? DP_IPV4 : DP_IPV6, d->outer + ETH_LEN + (ip4 ? 12 : 8));
        d->sender = value.act;
    }
    return act_kind(d->sender) == ACT_PA_HOST;
}

void provider_drop_inner(const struct provider *p, struct pkt *pkt, struct provider_pkt *d, enum drop drop)
{
    io_drop(p->host->io, pkt, provider_has_sender(p, d) ? drop : DROP_OUTER_SOURCE);
}

/* Who may speak for a source CA that has no record in the VSID itself. */
static enum drop provider_check_beyond(const struct provider *p, const struct provider_pkt *d, unsigned family,
                                       const uint8_t *ca, const uint8_t *mac)
{
    const struct tables *t = p->tables;
    const struct subnet *subnet = &t->subnets[d->subnet];
    uint32_t sender = lookup_host(t, d->sender), vsid = subnet->vsid;
    uint32_t act = tables_route(t, subnet->rdid, family, ca);
    struct map_value record = {0};
    bool own = false;           /* the record found is the CA's own */
    if (act_kind(act) == ACT_VIA) {
        const struct via *via = &t->vias[act_index(act)];
        vsid = via->vsid;
        record = lookup_record(t, vsid, family, via->ca);
    } else if (act_kind(act) == ACT_ONLINK) {
        vsid = t->subnets[act_index(act)].vsid;
        if (vsid != subnet->vsid)
            record = lookup_record(t, vsid, family, ca);
        own = act_kind(record.act) != ACT_GATEWAY && record.act;
        if (!record.act)
            record = lookup_wildcard(t, vsid, family);
    } else {
        record = lookup_wildcard(t, vsid, family);
    }
    if (!record.act || lookup_host(t, record.act) != sender)
        return own ? DROP_INNER_SOURCE_HOST : DROP_INNER_SOURCE;
    const uint8_t *expected = vsid == subnet->vsid ? record.mac : t->router_mac;
    return mac_equal(mac, expected) ? DROP_NONE : DROP_INNER_SRC_MAC;
}

/* README.md 3.9. `record` is what (VSID, ca) yields. */
static enum drop provider_check_source(const struct provider *p, const struct provider_pkt *d,
                                       const struct lookup_answer *record, unsigned family, const uint8_t *ca,
                                       const uint8_t *mac)
{
    if (act_kind(record->act) == ACT_NONE)
        return provider_check_beyond(p, d, family, ca, mac);
    if (act_kind(record->act) == ACT_GATEWAY)
        return DROP_INNER_SOURCE;
    if (lookup_host(p->tables, record->act) != lookup_host(p->tables, d->sender))
        return DROP_INNER_SOURCE_HOST;
    return provider_mac_is(mac, record) ? DROP_NONE : DROP_INNER_SRC_MAC;
}

/* ---- whom it is for */

/* No record for the inner destination: a prefix routed to a local CA, or the subnet's local wildcard. */
static struct lookup_answer provider_beyond(const struct provider *p, const struct provider_pkt *d)
{
    const struct tables *t = p->tables;
    const struct subnet *subnet = &t->subnets[d->subnet];
    unsigned family = d->pkt->l3_type;
    uint32_t act = tables_route(t, subnet->rdid, family, pkt_destination(d->pkt));
    struct map_value record = {0};
    if (act_kind(act) == ACT_VIA && t->vias[act_index(act)].vsid == subnet->vsid)
        record = lookup_record(t, subnet->vsid, family, t->vias[act_index(act)].ca);
    if (act_kind(record.act) != ACT_LOCAL)
        record = lookup_wildcard(t, subnet->vsid, family);
    return provider_answer_of(act_kind(record.act) == ACT_LOCAL ? record : (struct map_value){0});
}

static enum drop provider_check_destination(const struct provider *p, struct provider_pkt *d)
{
    if (d->to.act == 0)
        d->to = provider_beyond(p, d);
    enum act kind = act_kind(d->to.act);
    if (kind != ACT_LOCAL)
        return kind == ACT_NONE ? DROP_NO_RECORD : kind == ACT_GATEWAY ? DROP_ROUTER_LOCAL : DROP_NOT_LOCAL;
    return provider_mac_is(d->pkt->data, &d->to) ? DROP_NONE : DROP_INNER_DST_MAC;
}

static enum drop provider_check_popped(const struct provider *p, struct provider_pkt *d)
{
    const struct pkt *pkt = d->pkt;
    const uint8_t *source = pkt_source(pkt);
    if (!provider_has_sender(p, d))
        return DROP_OUTER_SOURCE;
    if (is_any(pkt->l3_type, source) || (pkt->l3_type == PKT_L3_IP6 && is_link_local(source)))
        return DROP_INNER_SOURCE;
    enum drop drop = provider_check_source(p, d, &d->from, pkt->l3_type, source, pkt->data + 6);
    if (drop)
        return drop;
    if (mac_is_group(pkt->data))
        return DROP_MULTICAST;
    if (!is_host(pkt->l3_type, pkt_destination(pkt)))
        return DROP_NO_RECORD;
    return provider_check_destination(p, d);
}

bool provider_refused(const struct provider *p, struct provider_pkt *d)
{
    return io_dropped(p->host->io, d->pkt, provider_check_popped(p, d));
}

/* ---- ARP and ND in a tunnel */

/* Its answer goes back to the host that sent it. */
static void provider_answer(const struct provider *p, const struct provider_pkt *d, struct proxy_verdict verdict)
{
    struct io *io = p->host->io;
    if (verdict.action == PROXY_DROP) {
        io_drop(io, d->pkt, verdict.drop);
    } else if (verdict.action == PROXY_CONSUME) {
        io_consume(io, d->pkt);
    } else {
        io_answered(io, d->pkt);
        const struct next_hop *nh = &p->tables->next_hops[act_index(d->sender)];
        underlay_push(p->host, d->pkt, nh, p->tables->subnets[d->subnet].vsid);
    }
}

static void provider_popped_arp(const struct provider *p, struct provider_pkt *d)
{
    const uint8_t *arp = arpnd_body(d->pkt);
    const struct subnet *subnet = &p->tables->subnets[d->subnet];
    struct lookup_answer record = provider_answer_of(lookup_record(p->tables, subnet->vsid, DP_IPV4, arp + 14));
    enum drop drop = provider_has_sender(p, d) ? DROP_NONE : DROP_OUTER_SOURCE;
    if (!drop && load32(arp + 14) == 0)
        drop = DROP_INNER_SOURCE;
    if (!drop)
        drop = provider_check_source(p, d, &record, DP_IPV4, arp + 14, arp + 8);
    if (!drop && !mac_equal(d->pkt->data + 6, arp + 8))
        drop = DROP_INNER_SRC_MAC;
    if (!io_dropped(p->host->io, d->pkt, drop))
        provider_answer(p, d, proxy_tunnel_arp(p->tables, subnet, d->pkt));
}

static enum drop provider_check_nd(const struct provider *p, struct provider_pkt *d)
{
    const struct pkt *pkt = d->pkt;
    const uint8_t *source = pkt_source(pkt), *mac = pkt->data + 6, *lladdr;
    uint8_t type = pkt->data[pkt->l4];
    if (!provider_has_sender(p, d))
        return DROP_OUTER_SOURCE;
    if (!arpnd_nd_valid(pkt, &lladdr))
        return DROP_ND_MALFORMED;
    if (type == ND_RA || type == ND_REDIRECT)
        return DROP_ND_ROUTER;
    if (is_any(DP_IPV6, source))
        return DROP_INNER_SOURCE;
    if (is_link_local(source)) {
        uint8_t own[16];
        mac_link_local(own, mac);
        return type == ND_NS && !memcmp(source, own, 16) ? DROP_NONE : DROP_INNER_SOURCE;
    }
    uint32_t vsid = p->tables->subnets[d->subnet].vsid;
    struct lookup_answer record = provider_answer_of(lookup_record(p->tables, vsid, DP_IPV6, source));
    return provider_check_source(p, d, &record, DP_IPV6, source, mac);
}

static void provider_popped_nd(const struct provider *p, struct provider_pkt *d)
{
    if (!io_dropped(p->host->io, d->pkt, provider_check_nd(p, d)))
        provider_answer(p, d, proxy_tunnel_nd(p->tables, &p->tables->subnets[d->subnet], d->pkt));
}

/* ---- tunnels that do not look like most: to another shared PA, with options or extension headers, or malformed */

static enum drop provider_pop_any(struct provider *p, struct provider_pkt *d)
{
    struct pkt *pkt = d->pkt;
    uint32_t vsid;
    uint16_t len;
    enum drop drop = nvgre_check(pkt, &vsid, &len);
    if (drop)
        return drop;
    d->subnet = provider_subnet(p, vsid);
    if (d->subnet == INDEX_NONE)
        return DROP_VSID_UNKNOWN;
    if (act_kind(d->from.act) != ACT_PA_HOST)
        return DROP_OUTER_SOURCE;
    d->sender = d->from.act;
    d->outer_tos = pkt->tos;
    pkt_trim(pkt, pkt->l3_end);
    pkt_pop(pkt, len);
    if ((drop = parse_frame(pkt)))
        return drop;
    if (pkt->flags & PKT_VLAN)
        return DROP_INNER_VLAN;
    return (pkt->flags & PKT_PARTIAL) || pkt->gso ? offload_check(p->host->io->pool.arena, pkt) : DROP_NONE;
}

static void provider_tunnel(struct provider *p, struct provider_pkt *d)
{
    struct pkt *pkt = d->pkt;
    if (io_dropped(p->host->io, pkt, provider_pop_any(p, d)))
        return;
    uint32_t vsid = p->tables->subnets[d->subnet].vsid;
    if (pkt->l3_type == PKT_L3_ARP) {
        provider_popped_arp(p, d);
    } else if (arpnd_is_nd(pkt)) {
        provider_popped_nd(p, d);
    } else {
        d->from = provider_answer_of(lookup_record(p->tables, vsid, pkt->l3_type, pkt_source(pkt)));
        d->to = provider_answer_of(lookup_record(p->tables, vsid, pkt->l3_type, pkt_destination(pkt)));
        if (provider_refused(p, d))
            return;
        if (nvgre_ecn(pkt, d->outer_tos))
            local_deliver(p->host, pkt, act_index(d->to.act), d->subnet);
        else
            io_drop(p->host->io, pkt, DROP_ECN);
    }
}

/* ---- PAs */

void provider_no_source(const struct provider *p, const struct provider_pkt *d)
{
    if (icmp_is_echo(d->pkt))
        provider_echo(p->host, d->pkt);
    else
        io_drop(p->host->io, d->pkt, DROP_REWRITE_SOURCE);
}

enum drop provider_check_rewrite(const struct provider *p, struct pkt *pkt)
{
    if (rewrite_is_icmp_error(pkt))
        return DROP_ICMP_ERROR;
    if (rewrite_has_route_option(pkt))
        return DROP_IP_OPTIONS;
    return (pkt->flags & PKT_PARTIAL) || pkt->gso ? offload_check(p->host->io->pool.arena, pkt) : DROP_NONE;
}

/* To a PA that is not a rewrite PA of ours. */
static enum drop provider_check_shared(const struct provider_pkt *d)
{
    const struct pkt *pkt = d->pkt;
    if (act_kind(d->to.act) != ACT_PA_SELF)
        return DROP_UNDERLAY_NOT_OURS;
    if (pkt->l3_type == PKT_L3_IP4 && !csum_ip4_ok(pkt->data + pkt->l3, (unsigned)(pkt->l4 - pkt->l3)))
        return DROP_OUTER_CHECKSUM;
    if (pkt->flags & PKT_FRAGMENT)
        return DROP_OUTER_FRAGMENT;
    return pkt->l4_proto == PROTO_GRE || icmp_is_echo(pkt) ? DROP_NONE : DROP_PA_PROTOCOL;
}

void provider_rest(struct provider *p, struct provider_pkt *d)
{
    switch (d->step) {
    case PROVIDER_ARP:
        provider_arp(p->host, d->pkt);
        break;
    case PROVIDER_ND:
        provider_nd(p->host, d->pkt);
        break;
    case PROVIDER_POPPED_ARP:
        provider_popped_arp(p, d);
        break;
    case PROVIDER_POPPED_ND:
        provider_popped_nd(p, d);
        break;
    default:
        if (io_dropped(p->host->io, d->pkt, provider_check_shared(d)))
            break;
        if (d->pkt->l4_proto == PROTO_GRE)
            provider_tunnel(p, d);
        else
            provider_echo(p->host, d->pkt);
    }
}
