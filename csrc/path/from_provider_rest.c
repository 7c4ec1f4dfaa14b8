/*
 * from_provider_rest.c: what rarely comes from the underlay, and every reason to refuse what does:
 * README.md 3.1 to 3.12 in their order, and 3.14. Called by from_provider.c, packet by packet; lookups are
 * single ones.
 */
#include "base/csum.h"
#include "host/pa.h"
#include "path/from_provider.h"
#include "path/local.h"
#include "path/underlay.h"
#include "pkt/offload.h"
#include "step/arpnd.h"
#include "step/icmp.h"
#include "step/inner.h"
#include "step/proxy.h"
#include "step/rewrite.h"
#include "table/lookup.h"

/* ---- who sent it */

/* The outer source is a shared PA of another host: d->sender is its act. */
static bool provider_has_sender(const struct provider *p, struct provider_pkt *d)
{
    if (d->sender == 0) {
        bool ip4 = d->outer_len == NVGRE4_LEN;
        struct map_value value =
            lookup_pa(p->tables, ip4 ? DP_IPV4 : DP_IPV6, d->outer + ETH_LEN + (ip4 ? 12 : 8));
        d->sender = value.act;
    }
    return act_kind(d->sender) == ACT_PA_HOST; /* 3.8.12 */
}

void provider_drop_inner(const struct provider *p, struct pkt *pkt, struct provider_pkt *d, enum drop drop)
{
    io_drop(p->host->io, pkt, provider_has_sender(p, d) ? drop : DROP_OUTER_SOURCE);
}

static struct inner provider_inside(const struct provider *p, const struct provider_pkt *d)
{
    uint8_t ttl = d->outer[ETH_LEN + (d->outer_len == NVGRE4_LEN ? 8 : 7)];
    bool redirected = ttl <= NVGRE_TTL_REDIRECTED; /* 3.14.1 */
    return (struct inner){p->tables, d->subnet, lookup_host(p->tables, d->sender), redirected, false};
}

/* To where the record lives now. The inner frame stays as it is. */
static void provider_redirect(const struct provider *p, const struct provider_pkt *d)
{
    uint32_t way = lookup_way(p->tables, d->to.act);
    struct next_hop nh;
    enum drop drop = way == INDEX_NONE ? DROP_NO_SHARED_PA : DROP_NONE;
    if (!nvgre_ecn(d->pkt, d->outer_tos)) /* 3.14.2 */
        drop = DROP_ECN;
    if (io_dropped(p->host->io, d->pkt, drop))
        return;
    nvgre_redirecting(&nh, &p->tables->next_hops[way]);
    underlay_push(p->host, d->pkt, &nh, p->tables->subnets[d->subnet].vsid);
}

bool provider_refused(const struct provider *p, struct provider_pkt *d)
{
    enum drop drop = DROP_OUTER_SOURCE;
    if (provider_has_sender(p, d)) {
        struct inner inner = provider_inside(p, d);
        drop = inner_check(&inner, d->pkt, &d->from, &d->to);
    }
    if (io_dropped(p->host->io, d->pkt, drop))
        return true;
    if (act_kind(d->to.act) == ACT_LOCAL)
        return false;
    provider_redirect(p, d);
    return true;
}

/* ---- ARP and ND in a tunnel */

/* Its answer goes back to the host that sent it. */
static void provider_answer(const struct provider *p, const struct provider_pkt *d,
                            struct proxy_verdict verdict)
{
    struct io *io = p->host->io;
    if (verdict.action == PROXY_DROP) {
        io_drop(io, d->pkt, verdict.drop);
    } else if (verdict.action == PROXY_CONSUME) {
        io_consume(io, d->pkt);
    } else {
        io_answered(io, d->pkt);
        const struct next_hop *nh = &p->tables->next_hops[act_index(d->sender)];
        underlay_push(p->host, d->pkt, nh, p->tables->subnets[d->subnet].vsid); /* 3.10.4, 3.10.5 */
    }
}

static void provider_popped_arpnd(const struct provider *p, struct provider_pkt *d, bool arp)
{
    const struct subnet *subnet = &p->tables->subnets[d->subnet];
    enum drop drop = DROP_OUTER_SOURCE;
    if (provider_has_sender(p, d)) {
        struct inner inner = provider_inside(p, d);
        drop = arp ? inner_check_arp(&inner, d->pkt) : inner_check_nd(&inner, d->pkt);
    }
    if (io_dropped(p->host->io, d->pkt, drop))
        return;
    if (arp)
        provider_answer(p, d, proxy_tunnel_arp(p->tables, subnet, d->pkt));
    else
        provider_answer(p, d, proxy_tunnel_nd(p->tables, subnet, d->pkt));
}

/* ---- tunnels that do not look like most: to another shared PA, with options or extension headers, or
 * malformed */

static enum drop provider_pop_any(struct provider *p, struct provider_pkt *d)
{
    struct pkt *pkt = d->pkt;
    uint32_t vsid;
    uint16_t len;
    enum drop drop = nvgre_check(pkt, &vsid, &len);
    if (drop)
        return drop;
    d->subnet = provider_subnet(p, vsid);
    if (d->subnet == INDEX_NONE) /* 3.8.11 */
        return DROP_VSID_UNKNOWN;
    if (act_kind(d->from.act) != ACT_PA_HOST) /* 3.8.12 */
        return DROP_OUTER_SOURCE;
    d->sender = d->from.act;
    d->outer = pkt->data;
    d->outer_len = pkt->l3_type == PKT_L3_IP4 ? NVGRE4_LEN : NVGRE6_LEN;
    d->outer_tos = pkt->tos;
    pkt_trim(pkt, pkt->l3_end); /* 3.8.13 */
    pkt_pop(pkt, len);
    if ((drop = parse_frame(pkt)))
        return drop;
    if (pkt->flags & PKT_VLAN) /* 3.8.14 */
        return DROP_INNER_VLAN;
    return pkt_offloaded(pkt) ? offload_check(p->host->io->pool.arena, pkt) : DROP_NONE; /* 3.8.15 */
}

static void provider_tunnel(struct provider *p, struct provider_pkt *d)
{
    struct pkt *pkt = d->pkt;
    if (io_dropped(p->host->io, pkt, provider_pop_any(p, d)))
        return;
    uint32_t vsid = p->tables->subnets[d->subnet].vsid;
    bool arp = pkt->l3_type == PKT_L3_ARP;
    if (arp || arpnd_is_nd(pkt)) {
        provider_popped_arpnd(p, d, arp);
    } else {
        d->from = lookup_answer_of(lookup_record(p->tables, vsid, pkt->l3_type, pkt_source(pkt)));
        d->to = lookup_answer_of(lookup_record(p->tables, vsid, pkt->l3_type, pkt_destination(pkt)));
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
    if (icmp_is_echo(d->pkt)) /* 3.5.1 */
        pa_echo(p->host, d->pkt);
    else
        io_drop(p->host->io, d->pkt, DROP_REWRITE_SOURCE); /* 3.5.2 */
}

enum drop provider_check_rewrite(const struct provider *p, struct pkt *pkt)
{
    enum drop drop = rewrite_check(pkt); /* 3.5.5, 3.5.6 */
    return drop || !pkt_offloaded(pkt) ? drop : offload_check(p->host->io->pool.arena, pkt); /* 3.5.7 */
}

/* To a PA that is not a rewrite PA of ours. */
static enum drop provider_check_shared(const struct provider_pkt *d)
{
    const struct pkt *pkt = d->pkt;
    if (act_kind(d->to.act) != ACT_PA_SELF) /* 3.4.1 */
        return DROP_UNDERLAY_NOT_OURS;
    /* 3.6.1 */
    if (pkt->l3_type == PKT_L3_IP4 && !csum_ip4_ok(pkt->data + pkt->l3, (unsigned)(pkt->l4 - pkt->l3)))
        return DROP_OUTER_CHECKSUM;
    if (pkt->flags & PKT_FRAGMENT) /* 3.6.2 */
        return DROP_OUTER_FRAGMENT;
    return pkt->l4_proto == PROTO_GRE || icmp_is_echo(pkt) ? DROP_NONE : DROP_PA_PROTOCOL; /* 3.6.5 */
}

void provider_rest(struct provider *p, struct provider_pkt *d)
{
    switch (d->step) {
    case PROVIDER_ARP:
        pa_arp(p->host, d->pkt);
        break;
    case PROVIDER_ND:
        pa_nd(p->host, d->pkt);
        break;
    case PROVIDER_POPPED_ARP:
    case PROVIDER_POPPED_ND:
        provider_popped_arpnd(p, d, d->step == PROVIDER_POPPED_ARP);
        break;
    default:
        if (io_dropped(p->host->io, d->pkt, provider_check_shared(d)))
            break;
        if (d->pkt->l4_proto == PROTO_GRE) /* 3.6.3 */
            provider_tunnel(p, d);
        else
            pa_echo(p->host, d->pkt); /* 3.6.4 */
    }
}
