/*
 * from_provider.c: provider to tenant (README.md section 3). Passes over the batch: parse the outer packet and start the lookup of its
 * PAs; finish that, pop, check what is inside and start the lookup of both CAs; finish those and carry out, in order. Only the last
 * has effects that other packets can see.
 */
#include "base/csum.h"
#include "host/provider.h"
#include "path/path.h"
#include "pkt/offload.h"
#include "pkt/parse.h"
#include "step/arpnd.h"
#include "step/icmp.h"
#include "step/nvgre.h"
#include "step/proxy.h"
#include "step/rewrite.h"
#include "table/lookup.h"
#include "table/map_inline.h"

enum step { STEP_NONE = 0, STEP_PA, STEP_ARP, STEP_ND, STEP_ECHO, STEP_REWRITE, STEP_POPPED, STEP_POPPED_ARP, STEP_POPPED_ND };

struct lookup {
    uint64_t key[3];
    uint64_t hash;
    struct map_value value;
};

/* What is known of one packet of the batch. */
struct decision {
    struct lookup from, to;         /* of the PAs, then of the inner CAs */
    uint32_t sender;                /* act of the outer source: the next hop back to its host */
    uint32_t subnet;                /* of the VSID, index */
    uint8_t step;                   /* enum step */
    uint8_t outer_tos;
};

struct context {
    const struct host *host;
    const struct tables *tables;
    struct port *in;
    const struct map_view *pas4, *pas6, *records4, *records6, *subnets;
};

static inline void start4(const struct map_view *view, struct lookup *l, uint64_t key)
{
    l->key[0] = key;
    l->hash = map_hash1(view, key);
    map_prefetch(view, l->hash);
}

static inline void start6(const struct map_view *view, struct lookup *l)
{
    l->hash = map_hash3(view, l->key);
    map_prefetch(view, l->hash);
}

/* A record that is not where it was looked for first comes into the cache as well. */
static inline void settle(const struct map_view *view4, const struct map_view *view6, unsigned family, struct lookup *l)
{
    l->hash = family == DP_IPV4 ? map_settle1(view4, l->key[0], l->hash) : map_settle3(view6, l->key, l->hash);
}

static inline void finish(const struct map_view *view4, const struct map_view *view6, unsigned family, struct lookup *l)
{
    bool hit = family == DP_IPV4 ? map_find1(view4, l->key[0], l->hash, &l->value) : map_find3(view6, l->key, l->hash, &l->value);
    if (!hit)
        l->value.act = 0;
}

/* Pass 1: the outer packet, and which PAs to look for. */
static inline enum drop check_outer(const struct context *c, struct pkt *pkt, struct decision *d)
{
    enum drop drop = parse_frame(pkt);
    if (drop)
        return drop;
    if (__builtin_expect(pkt->flags & PKT_VLAN, 0)) {
        if (parse_vlan(pkt))
            return DROP_UNDERLAY_VLAN;
        parse_strip_vlan(pkt);
    }
    if (!mac_equal(pkt->data, c->in->mac) && !(mac_is_group(pkt->data) && (pkt->l3_type == PKT_L3_ARP || arpnd_is_nd(pkt))))
        return DROP_UNDERLAY_DST_MAC;
    if (mac_is_group(pkt->data + 6))
        return DROP_UNDERLAY_SRC_MAC;
    d->step = STEP_PA;
    if (__builtin_expect(pkt->l3_type == PKT_L3_IP4, 1)) {
        start4(c->pas4, &d->from, key_pa4(pkt_source(pkt)));
        start4(c->pas4, &d->to, key_pa4(pkt_destination(pkt)));
    } else if (pkt->l3_type == PKT_L3_ARP) {
        d->step = STEP_ARP;
    } else if (pkt->l4_proto == PROTO_ICMP6 && arpnd_is_nd(pkt)) {
        d->step = STEP_ND;
    } else {
        key_pa6(d->from.key, pkt_source(pkt));
        key_pa6(d->to.key, pkt_destination(pkt));
        start6(c->pas6, &d->from);
        start6(c->pas6, &d->to);
    }
    return DROP_NONE;
}

/* Pops the tunnel: the inner frame, parsed, or a reason. */
static inline enum drop pop(const struct context *c, struct pkt *pkt, struct decision *d)
{
    uint32_t vsid;
    uint16_t outer_len;
    struct map_value subnet;
    enum drop drop = nvgre_check(pkt, &vsid, &outer_len);
    if (drop)
        return drop;
    if (!map_find1(c->subnets, vsid, map_hash1(c->subnets, vsid), &subnet))
        return DROP_VSID_UNKNOWN;
    if (act_kind(d->from.value.act) != ACT_PA_HOST)
        return DROP_OUTER_SOURCE;
    d->subnet = act_index(subnet.act);
    d->sender = d->from.value.act;
    d->outer_tos = pkt->tos;
    pkt_trim(pkt, pkt->l3_end);
    pkt_pop(pkt, outer_len);
    drop = parse_frame(pkt);
    if (drop)
        return drop;
    if (pkt->flags & PKT_VLAN)
        return DROP_INNER_VLAN;
    if (__builtin_expect((pkt->flags & PKT_PARTIAL) || pkt->gso, 0))
        return offload_check(c->host->io->pool.arena, pkt);
    return DROP_NONE;
}

static inline enum drop pop_and_start(const struct context *c, struct pkt *pkt, struct decision *d)
{
    enum drop drop = pop(c, pkt, d);
    if (drop)
        return drop;
    uint32_t vsid = c->tables->subnets[d->subnet].vsid;
    if (__builtin_expect(pkt->l3_type == PKT_L3_ARP, 0)) {
        d->step = STEP_POPPED_ARP;
    } else if (__builtin_expect(pkt->l4_proto == PROTO_ICMP6, 0) && arpnd_is_nd(pkt)) {
        d->step = STEP_POPPED_ND;
    } else if (pkt->l3_type == PKT_L3_IP4) {
        d->step = STEP_POPPED;
        start4(c->records4, &d->from, key_ca4(vsid, pkt_source(pkt)));
        start4(c->records4, &d->to, key_ca4(vsid, pkt_destination(pkt)));
    } else {
        d->step = STEP_POPPED;
        key_ca6(d->from.key, vsid, pkt_source(pkt));
        key_ca6(d->to.key, vsid, pkt_destination(pkt));
        start6(c->records6, &d->from);
        start6(c->records6, &d->to);
    }
    return DROP_NONE;
}

/* Pass 2: whose PAs these are, and so what the packet is. */
static inline enum drop check_pas(const struct context *c, struct pkt *pkt, struct decision *d)
{
    finish(c->pas4, c->pas6, pkt->l3_type, &d->to);
    finish(c->pas4, c->pas6, pkt->l3_type, &d->from);
    if (act_kind(d->to.value.act) == ACT_PA_REWRITE && lookup_host(c->tables, d->to.value.act) == c->tables->self_host) {
        d->step = STEP_REWRITE;
        return DROP_NONE;
    }
    if (act_kind(d->to.value.act) != ACT_PA_SELF)
        return DROP_UNDERLAY_NOT_OURS;
    if (pkt->l3_type == PKT_L3_IP4 && !csum_ip4_ok(pkt->data + pkt->l3, (unsigned)(pkt->l4 - pkt->l3)))
        return DROP_OUTER_CHECKSUM;
    if (pkt->flags & PKT_FRAGMENT)
        return DROP_OUTER_FRAGMENT;
    if (__builtin_expect(pkt->l4_proto == PROTO_GRE, 1))
        return pop_and_start(c, pkt, d);
    d->step = STEP_ECHO;
    return icmp_is_echo(pkt) ? DROP_NONE : DROP_PA_PROTOCOL;
}

/* Who may speak for a source CA that has no record in the VSID itself. */
static enum drop check_source_beyond(const struct context *c, const struct decision *d, unsigned family, const uint8_t *ca, const uint8_t *mac)
{
    const struct subnet *subnet = &c->tables->subnets[d->subnet];
    uint32_t sender = lookup_host(c->tables, d->sender), vsid = subnet->vsid;
    uint32_t act = tables_route(c->tables, subnet->rdid, family, ca);
    struct map_value record = {0};
    bool own = false;           /* the record found is the CA's own */
    if (act_kind(act) == ACT_VIA) {
        const struct via *via = &c->tables->vias[act_index(act)];
        vsid = via->vsid;
        record = lookup_record(c->tables, vsid, family, via->ca);
    } else if (act_kind(act) == ACT_ONLINK) {
        vsid = c->tables->subnets[act_index(act)].vsid;
        if (vsid != subnet->vsid)
            record = lookup_record(c->tables, vsid, family, ca);
        own = act_kind(record.act) != ACT_GATEWAY && record.act;
        if (!record.act)
            record = lookup_wildcard(c->tables, vsid, family);
    } else {
        record = lookup_wildcard(c->tables, vsid, family);
    }
    if (!record.act || lookup_host(c->tables, record.act) != sender)
        return own ? DROP_INNER_SOURCE_HOST : DROP_INNER_SOURCE;
    const uint8_t *expected = vsid == subnet->vsid ? record.mac : c->tables->router_mac;
    return mac_equal(mac, expected) ? DROP_NONE : DROP_INNER_SRC_MAC;
}

/* README.md 3.9. `record` is what (VSID, ca) yields. */
static inline enum drop check_source(const struct context *c, const struct decision *d, const struct map_value *record, unsigned family,
                                     const uint8_t *ca, const uint8_t *mac)
{
    if (__builtin_expect(act_kind(record->act) == ACT_NONE, 0))
        return check_source_beyond(c, d, family, ca, mac);
    if (act_kind(record->act) == ACT_GATEWAY)
        return DROP_INNER_SOURCE;
    bool same_hop = act_kind(record->act) == ACT_NVGRE && act_index(record->act) == act_index(d->sender);
    if (!same_hop && lookup_host(c->tables, record->act) != lookup_host(c->tables, d->sender))
        return DROP_INNER_SOURCE_HOST;
    return mac_equal(mac, record->mac) ? DROP_NONE : DROP_INNER_SRC_MAC;
}

/* No record for the inner destination: a prefix routed to a local CA, or the subnet's local wildcard. */
static struct map_value destination_beyond(const struct context *c, const struct decision *d, unsigned family, const uint8_t *ca)
{
    const struct subnet *subnet = &c->tables->subnets[d->subnet];
    uint32_t act = tables_route(c->tables, subnet->rdid, family, ca);
    struct map_value record = {0};
    if (act_kind(act) == ACT_VIA && c->tables->vias[act_index(act)].vsid == subnet->vsid)
        record = lookup_record(c->tables, subnet->vsid, family, c->tables->vias[act_index(act)].ca);
    if (act_kind(record.act) != ACT_LOCAL)
        record = lookup_wildcard(c->tables, subnet->vsid, family);
    return act_kind(record.act) == ACT_LOCAL ? record : (struct map_value){0};
}

static inline enum drop check_destination(const struct context *c, struct pkt *pkt, struct decision *d)
{
    if (__builtin_expect(d->to.value.act == 0, 0))
        d->to.value = destination_beyond(c, d, pkt->l3_type, pkt_destination(pkt));
    enum act kind = act_kind(d->to.value.act);
    if (__builtin_expect(kind != ACT_LOCAL, 0))
        return kind == ACT_NONE ? DROP_NO_RECORD : kind == ACT_GATEWAY ? DROP_ROUTER_LOCAL : DROP_NOT_LOCAL;
    if (!mac_equal(pkt->data, d->to.value.mac))
        return DROP_INNER_DST_MAC;
    return nvgre_ecn(pkt, d->outer_tos) ? DROP_NONE : DROP_ECN;
}

static inline void carry_popped(const struct context *c, struct pkt *pkt, struct decision *d)
{
    enum drop drop;
    const uint8_t *source = pkt_source(pkt);
    if (is_any(pkt->l3_type, source) || (pkt->l3_type == PKT_L3_IP6 && is_link_local(source)))
        drop = DROP_INNER_SOURCE;
    else
        drop = check_source(c, d, &d->from.value, pkt->l3_type, source, pkt->data + 6);
    if (!drop && mac_is_group(pkt->data))
        drop = DROP_MULTICAST;
    if (!drop && !is_host(pkt->l3_type, pkt_destination(pkt)))
        drop = DROP_NO_RECORD;
    if (!drop)
        drop = check_destination(c, pkt, d);
    if (!io_dropped(c->host->io, pkt, drop))
        local_deliver(c->host, pkt, act_index(d->to.value.act), d->subnet);
}

/* What a request from the tunnel becomes: its answer goes back to the host that sent it. */
static void answer(const struct context *c, struct pkt *pkt, const struct decision *d, struct proxy_verdict verdict)
{
    const struct next_hop *nh = &c->tables->next_hops[act_index(d->sender)];
    if (verdict.action == PROXY_DROP)
        io_drop(c->host->io, pkt, verdict.drop);
    else if (verdict.action == PROXY_CONSUME)
        io_consume(c->host->io, pkt);
    else
        underlay_answer(c->host, pkt, nh, c->tables->subnets[d->subnet].vsid,
                        d->step == STEP_POPPED_ARP ? 0 : parse_flowid(parse_flow(pkt)));
}

static void carry_popped_arp(const struct context *c, struct pkt *pkt, const struct decision *d)
{
    const uint8_t *arp = pkt->data + pkt->l3;
    const struct subnet *subnet = &c->tables->subnets[d->subnet];
    struct map_value record = lookup_record(c->tables, subnet->vsid, DP_IPV4, arp + 14);
    enum drop drop = load32(arp + 14) == 0 ? DROP_INNER_SOURCE : check_source(c, d, &record, DP_IPV4, arp + 14, arp + 8);
    if (!drop && !mac_equal(pkt->data + 6, arp + 8))
        drop = DROP_INNER_SRC_MAC;
    if (!io_dropped(c->host->io, pkt, drop))
        answer(c, pkt, d, proxy_tunnel_arp(c->tables, subnet, pkt));
}

static enum drop check_nd_source(const struct context *c, const struct pkt *pkt, const struct decision *d)
{
    const struct subnet *subnet = &c->tables->subnets[d->subnet];
    const uint8_t *source = pkt_source(pkt), *mac = pkt->data + 6, *lladdr;
    uint8_t type = pkt->data[pkt->l4];
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
    struct map_value record = lookup_record(c->tables, subnet->vsid, DP_IPV6, source);
    return check_source(c, d, &record, DP_IPV6, source, mac);
}

static void carry_popped_nd(const struct context *c, struct pkt *pkt, const struct decision *d)
{
    enum drop drop = check_nd_source(c, pkt, d);
    if (!io_dropped(c->host->io, pkt, drop))
        answer(c, pkt, d, proxy_tunnel_nd(c->tables, &c->tables->subnets[d->subnet], pkt));
}

static enum drop check_rewrite(const struct context *c, struct pkt *pkt, const struct rewrite *from, const struct rewrite *to)
{
    if (to->vsid == 0)
        return DROP_REWRITE_UNBOUND;
    if (from->rdid != to->rdid)
        return DROP_REWRITE_RDID;
    if (rewrite_is_icmp_error(pkt))
        return DROP_ICMP_ERROR;
    if (rewrite_has_route_option(pkt))
        return DROP_IP_OPTIONS;
    return (pkt->flags & PKT_PARTIAL) || pkt->gso ? offload_check(c->host->io->pool.arena, pkt) : DROP_NONE;
}

static void carry_rewrite(const struct context *c, struct pkt *pkt, const struct decision *d)
{
    const struct rewrite *to = &c->tables->rewrites[act_index(d->to.value.act)], *from = NULL;
    if (act_kind(d->from.value.act) == ACT_PA_REWRITE)
        from = &c->tables->rewrites[act_index(d->from.value.act)];
    if (!from || from->vsid == 0 || from->host == c->tables->self_host) {
        if (icmp_is_echo(pkt))
            provider_echo(c->host, pkt);
        else
            io_drop(c->host->io, pkt, DROP_REWRITE_SOURCE);
        return;
    }
    struct map_value subnet;
    enum drop drop = check_rewrite(c, pkt, from, to);
    if (!drop && !map_find1(c->subnets, to->vsid, map_hash1(c->subnets, to->vsid), &subnet))
        drop = DROP_REWRITE_UNBOUND;
    if (io_dropped(c->host->io, pkt, drop))
        return;
    rewrite_addresses(pkt, from->ca, to->ca);
    memcpy(pkt->data, to->mac, 6);
    memcpy(pkt->data + 6, from->vsid == to->vsid ? from->mac : c->tables->router_mac, 6);
    local_deliver(c->host, pkt, to->port, act_index(subnet.act));
}

/* Pass 3: one packet on its way. */
static inline void carry_out(const struct context *c, struct pkt *pkt, struct decision *d)
{
    if (d->step == STEP_POPPED)
        carry_popped(c, pkt, d);
    else if (d->step == STEP_REWRITE)
        carry_rewrite(c, pkt, d);
    else if (d->step == STEP_ARP)
        provider_arp(c->host, pkt);
    else if (d->step == STEP_ND)
        provider_nd(c->host, pkt);
    else if (d->step == STEP_ECHO)
        provider_echo(c->host, pkt);
    else if (d->step == STEP_POPPED_ARP)
        carry_popped_arp(c, pkt, d);
    else if (d->step == STEP_POPPED_ND)
        carry_popped_nd(c, pkt, d);
}

static inline void prepare(const struct context *c, struct pkt *pkt, struct decision *d)
{
    if (d->step == STEP_POPPED) {
        finish(c->records4, c->records6, pkt->l3_type, &d->from);
        finish(c->records4, c->records6, pkt->l3_type, &d->to);
    } else if (d->step == STEP_REWRITE) {
        __builtin_prefetch(&c->tables->rewrites[act_index(d->to.value.act)]);
        if (act_kind(d->from.value.act) == ACT_PA_REWRITE)
            __builtin_prefetch(&c->tables->rewrites[act_index(d->from.value.act)]);
    }
}

void from_provider(const struct host *host, struct port *in, struct batch *batch)
{
    const struct tables *t = host->tables;
    struct context c = {host, t, in, map_view(t->pas4), map_view(t->pas6), map_view(t->records4), map_view(t->records6), map_view(t->subnet_by_vsid)};
    struct decision d[DP_BATCH];

    for (uint32_t i = 0; i < batch->n; i++) {
        d[i].step = STEP_NONE;
        enum drop drop = check_outer(&c, &batch->pkt[i], &d[i]);
        if (io_dropped(host->io, &batch->pkt[i], drop))
            d[i].step = STEP_NONE;
    }
    for (uint32_t i = 0; i < batch->n; i++) {
        enum drop drop = d[i].step == STEP_PA ? check_pas(&c, &batch->pkt[i], &d[i]) : DROP_NONE;
        if (io_dropped(host->io, &batch->pkt[i], drop))
            d[i].step = STEP_NONE;
    }
    for (uint32_t i = 0; i < batch->n; i++) {
        if (d[i].step != STEP_POPPED)
            continue;
        settle(c.records4, c.records6, batch->pkt[i].l3_type, &d[i].from);
        settle(c.records4, c.records6, batch->pkt[i].l3_type, &d[i].to);
    }
    for (uint32_t i = 0; i < batch->n; i++)
        prepare(&c, &batch->pkt[i], &d[i]);
    for (uint32_t i = 0; i < batch->n; i++)
        carry_out(&c, &batch->pkt[i], &d[i]);
}
