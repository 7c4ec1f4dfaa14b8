/*
 * from_provider_rest.c: what rarely comes from the underlay, and every reason to refuse what does:
 * README.md 3.1 to 3.12 in their order, and 3.14. Called by from_provider.c, packet by packet; lookups are
 * single ones.
 */
#include "host/pa.h"
#include "path/flood.h"
#include "path/from_provider.h"
#include "path/underlay.h"
#include "pkt/offload.h"
#include "port/answer.h"
#include "port/deliver.h"
#include "router/flood.h"
#include "router/quote.h"
#include "step/arpnd.h"
#include "step/icmp.h"
#include "step/inner.h"
#include "step/outer.h"
#include "table/lookup.h"

/* ---- who sent it */

/* The outer source is a shared PA of another host, d->sender its act; else the packet is dropped. */
static bool provider_enter(const struct provider *p, struct provider_pkt *d, struct inner *inner)
{
    if (d->sender == 0)
        d->sender = inner_sender(p->tables, d->outer, d->outer_len);
    *inner = inner_at(p->tables, d->subnet, d->sender, d->outer, d->outer_len);
    bool known = act_kind(d->sender) == ACT_PA_HOST;
    return !io_dropped(p->host->io, d->pkt, known ? DROP_NONE : DROP_OUTER_SOURCE); /* 3.8.12 */
}

void provider_drop_inner(const struct provider *p, struct provider_pkt *d, enum drop drop)
{
    struct inner inner;
    if (provider_enter(p, d, &inner))
        io_drop(p->host->io, d->pkt, drop);
}

/* Into the tunnel that its subnet is in. */
static void provider_push(const struct provider *p, const struct provider_pkt *d, const struct next_hop *nh)
{
    if (!io_dropped(p->host->io, d->pkt, underlay_check(p->host, d->pkt, nh)))
        underlay_push(p->host, d->pkt, nh, p->tables->subnets[d->subnet].vsid);
}

/* To where the record lives now. The inner frame stays as it is. */
static bool provider_redirect(const struct provider *p, const struct provider_pkt *d)
{
    struct next_hop nh;
    enum drop drop = inner_redirect(p->tables, d->pkt, provider_outer_tos(d), d->to.act, &nh);
    if (!io_dropped(p->host->io, d->pkt, drop))
        provider_push(p, d, &nh);
    return true;
}

/* To the VSID's ports here, by a group's MAC. */
static bool provider_flood(const struct provider *p, const struct provider_pkt *d)
{
    enum drop drop = flood_check(p->tables, d->subnet, d->pkt); /* 5.3.2 */
    if (!drop && !nvgre_ecn(d->pkt, provider_outer_tos(d)))
        drop = DROP_ECN;
    if (!io_dropped(p->host->io, d->pkt, drop))
        path_flood(p->host, d->pkt, d->subnet);
    return true;
}

bool provider_refused(const struct provider *p, struct provider_pkt *d)
{
    struct inner inner;
    if (!provider_enter(p, d, &inner))
        return true;
    if (flood_is_mld(p->tables, d->subnet, inner.sender, d->pkt)) /* 5.3.1 */
        return provider_flood(p, d);
    if (io_dropped(p->host->io, d->pkt, inner_check(&inner, d->pkt, &d->from, &d->to)))
        return true;
    if (mac_is_group(d->pkt->data)) /* 3.11.1 */
        return provider_flood(p, d);
    return act_kind(d->to.act) != ACT_LOCAL && provider_redirect(p, d);
}

/* ---- ARP and ND in a tunnel */

/* Its answer goes back to the host that sent it. */
static void provider_answer(const struct provider *p, const struct provider_pkt *d,
                            struct proxy_verdict verdict)
{
    const struct next_hop *nh = &p->tables->next_hops[act_index(d->sender)];
    if (answer_is(p->host->io, d->pkt, verdict))
        provider_push(p, d, nh); /* 3.10.4, 3.10.5 */
}

static void provider_popped_arpnd(const struct provider *p, struct provider_pkt *d)
{
    const struct subnet *subnet = &p->tables->subnets[d->subnet];
    struct inner inner;
    if (provider_enter(p, d, &inner) &&
        !io_dropped(p->host->io, d->pkt, inner_check_arpnd(&inner, d->pkt)))
        provider_answer(p, d, proxy_tunnel(p->tables, subnet, d->pkt));
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
    if (!provider_in_subnet(p, vsid)) /* 3.8.11 */
        return DROP_VSID_UNKNOWN;
    d->subnet = p->last_subnet;
    if (act_kind(d->from.act) != ACT_PA_HOST) /* 3.8.12 */
        return DROP_OUTER_SOURCE;
    d->sender = d->from.act;
    d->outer = pkt->data;
    d->outer_len = pkt->l3_type == PKT_L3_IP4 ? NVGRE4_LEN : NVGRE6_LEN;
    drop = nvgre_pop(pkt, len);
    return drop || !pkt_offloaded(pkt) ? drop : offload_check(p->host->io->pool.arena, pkt); /* 3.8.15 */
}

static void provider_tunnel(struct provider *p, struct provider_pkt *d)
{
    struct pkt *pkt = d->pkt;
    if (io_dropped(p->host->io, pkt, provider_pop_any(p, d)))
        return;
    uint32_t vsid = p->tables->subnets[d->subnet].vsid;
    if (arpnd_is(pkt)) {
        provider_popped_arpnd(p, d);
    } else {
        d->from = lookup_answer_of(lookup_record(p->tables, vsid, pkt->l3_type, pkt_source(pkt)));
        d->to = lookup_answer_of(lookup_record(p->tables, vsid, pkt->l3_type, pkt_destination(pkt)));
        if (provider_refused(p, d))
            return;
        if (nvgre_ecn(pkt, provider_outer_tos(d)))
            deliver(p->host->io, pkt, port_at(p->host->ports, act_index(d->to.act)), d->subnet);
        else
            io_drop(p->host->io, pkt, DROP_ECN);
    }
}

/* ---- PAs */

void provider_no_source(struct provider *p, const struct provider_pkt *d)
{
    const struct rewrite *to = &p->tables->rewrites[act_index(d->to.act)];
    if (icmp_is_echo(d->pkt)) { /* 3.5.1 */
        pa_echo(p->host, d->pkt);
        return;
    }
    enum drop drop = d->from.act ? DROP_REWRITE_SOURCE /* 3.5.2, 4.8.1 */
                                 : quote_from_router(p->tables, p->host->io->pool.arena, to, d->pkt);
    if (!drop && !provider_in_subnet(p, to->vsid))
        drop = DROP_REWRITE_UNBOUND;
    if (!io_dropped(p->host->io, d->pkt, drop))
        deliver(p->host->io, d->pkt, port_at(p->host->ports, to->port), p->last_subnet); /* 4.8.9 */
}

void provider_rest(struct provider *p, struct provider_pkt *d)
{
    if (d->step == PROVIDER_ARPND)
        pa_arpnd(p->host, d->pkt);
    else if (d->step == PROVIDER_POPPED_ARPND)
        provider_popped_arpnd(p, d);
    else if (io_dropped(p->host->io, d->pkt, outer_check_shared(d->pkt, d->to.act)))
        return;
    else if (d->pkt->l4_proto == PROTO_GRE) /* 3.6.3 */
        provider_tunnel(p, d);
    else
        pa_echo(p->host, d->pkt); /* 3.6.4 */
}
