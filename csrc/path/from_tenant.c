/*
 * from_tenant.c: tenant to provider (README.md section 2). Three passes over the batch: check and start the lookup; finish the lookup;
 * carry out, in order. Only the last has effects other packets can see, so the result does not depend on the batch size.
 */
#include "path/path.h"
#include "pkt/offload.h"
#include "pkt/parse.h"
#include "step/arpnd.h"
#include "step/gso.h"
#include "step/proxy.h"
#include "step/rewrite.h"
#include "step/source.h"
#include "table/lookup.h"
#include "table/map_inline.h"

enum step { STEP_NONE = 0, STEP_ARP, STEP_ND, STEP_RECORD4, STEP_RECORD6 };

/* What is known of one packet of the batch. */
struct decision {
    uint64_t key[3];
    uint64_t hash;
    const struct port_source *source;
    struct map_value record;
    uint32_t vsid;              /* of the record */
    uint32_t subnet;            /* the same, as index */
    uint8_t step;               /* enum step */
    bool routed;
    bool direct;                /* the record is the destination's own, not a next hop's or a wildcard's */
    bool wildcard;              /* a miss may fall back to the subnet's wildcard */
    uint8_t miss;               /* enum drop, when there is no record */
};

struct context {
    const struct host *host;
    const struct tables *tables;
    const struct port_policy *policy;
    struct port *in;
    const struct map_view *view4, *view6;
};

static inline void start_lookup(const struct context *c, struct decision *d, uint32_t subnet, unsigned family, const uint8_t *ca)
{
    d->subnet = subnet;
    d->vsid = c->tables->subnets[subnet].vsid;
    if (family == DP_IPV4) {
        d->step = STEP_RECORD4;
        d->key[0] = key_ca4(d->vsid, ca);
        d->hash = map_hash1(c->view4, d->key[0]);
        map_prefetch(c->view4, d->hash);
    } else {
        d->step = STEP_RECORD6;
        key_ca6(d->key, d->vsid, ca);
        d->hash = map_hash3(c->view6, d->key);
        map_prefetch(c->view6, d->hash);
    }
}

/* To the router's MAC: the longest prefix in the routing domain says in which subnet to look for what. */
static void start_routed(const struct context *c, struct decision *d, unsigned family, const uint8_t *destination)
{
    static const uint8_t any[16];
    uint32_t act = tables_route(c->tables, c->policy->rdid, family, destination);
    d->routed = true;
    if (act_kind(act) == ACT_ONLINK) {
        d->direct = d->wildcard = true;
        d->miss = DROP_NO_RECORD;
        start_lookup(c, d, act_index(act), family, destination);
    } else if (act_kind(act) == ACT_VIA) {
        const struct via *via = &c->tables->vias[act_index(act)];
        d->miss = DROP_NO_RECORD;
        start_lookup(c, d, via->subnet, family, via->ca);
    } else {
        d->miss = DROP_NO_ROUTE;
        start_lookup(c, d, c->policy->subnet, family, any);
    }
}

static inline void start_resolve(const struct context *c, struct decision *d, const struct pkt *pkt)
{
    unsigned family = pkt->l3_type;
    const uint8_t *destination = pkt_destination(pkt);
    d->routed = d->wildcard = d->direct = false;
    bool to_router = mac_equal(pkt->data, c->tables->router_mac);
    if (to_router && !(family == DP_IPV6 && is_link_local(destination))) {
        start_routed(c, d, family, destination);
        return;
    }
    d->direct = true;
    d->miss = DROP_NO_RECORD;
    start_lookup(c, d, c->policy->subnet, family, destination);
}

/* Pass 1: parse, the port's own rules, and where to look. */
static inline enum drop check(const struct context *c, struct pkt *pkt, struct decision *d)
{
    enum drop drop = parse_frame(pkt);
    if (drop)
        return drop;
    if (__builtin_expect(pkt->flags & PKT_VLAN, 0))
        parse_strip_vlan(pkt);
    if (!mac_equal(pkt->data + 6, c->policy->mac))
        return DROP_SRC_MAC;
    if (__builtin_expect((pkt->flags & PKT_PARTIAL) || pkt->gso, 0) && (drop = offload_check(c->host->io->pool.arena, pkt)))
        return drop;
    if (__builtin_expect(pkt->l3_type == PKT_L3_ARP, 0)) {
        d->step = STEP_ARP;
        return DROP_NONE;
    }
    if (__builtin_expect(pkt->l4_proto == PROTO_ICMP6, 0) && arpnd_is_nd(pkt)) {
        d->step = STEP_ND;
        return DROP_NONE;
    }
    d->source = policy_source(c->policy, pkt->l3_type, pkt_source(pkt));
    if (!d->source && !source_is_own_mld(c->policy, pkt))
        return DROP_SRC_ADDRESS;
    if (mac_is_group(pkt->data))
        return DROP_MULTICAST;
    if (!is_host(pkt->l3_type, pkt_destination(pkt)))
        return DROP_NO_RECORD;
    start_resolve(c, d, pkt);
    return DROP_NONE;
}

/* Before pass 2: a record that is not where it was looked for first comes into the cache as well. */
static inline void settle_lookup(const struct context *c, struct decision *d)
{
    if (d->step == STEP_RECORD4)
        d->hash = map_settle1(c->view4, d->key[0], d->hash);
    else if (d->step == STEP_RECORD6)
        d->hash = map_settle3(c->view6, d->key, d->hash);
}

/* Pass 2: the record, and what it points to on its way into the cache. */
static inline void finish_lookup(const struct context *c, struct decision *d)
{
    bool hit = d->step == STEP_RECORD4 ? map_find1(c->view4, d->key[0], d->hash, &d->record)
                                       : map_find3(c->view6, d->key, d->hash, &d->record);
    if (__builtin_expect(!hit, 0)) {
        d->record.act = 0;
        d->direct = false;
        if (d->wildcard)
            d->record = lookup_wildcard(c->tables, d->vsid, d->step == STEP_RECORD4 ? DP_IPV4 : DP_IPV6);
    }
    if (act_kind(d->record.act) == ACT_NVGRE)
        __builtin_prefetch(&c->tables->next_hops[act_index(d->record.act)]);
    else if (act_kind(d->record.act) == ACT_REWRITE)
        __builtin_prefetch(&c->tables->rewrites[act_index(d->record.act)]);
}

/* The inner frame as its receiver must see it. */
static inline void readdress(const struct context *c, struct pkt *pkt, const struct decision *d)
{
    memcpy(pkt->data, d->record.mac, 6);
    if (d->routed) {
        memcpy(pkt->data + 6, c->tables->router_mac, 6);
        rewrite_ttl(pkt);
    }
}

static void to_local(const struct context *c, struct pkt *pkt, const struct decision *d)
{
    uint32_t port = act_index(d->record.act);
    if (port == c->in->id) {
        io_drop(c->host->io, pkt, DROP_HAIRPIN);
        return;
    }
    readdress(c, pkt, d);
    local_deliver(c->host, pkt, port, d->subnet);
}

static void to_rewrite(const struct context *c, struct pkt *pkt, const struct decision *d)
{
    const struct rewrite *to = &c->tables->rewrites[act_index(d->record.act)];
    if (!d->direct || !d->source || !d->source->has_pa) {
        readdress(c, pkt, d);
        if (to->shared == INDEX_NONE)
            io_drop(c->host->io, pkt, DROP_NO_SHARED_PA);
        else
            underlay_push(c->host, pkt, &c->tables->next_hops[to->shared], d->vsid);
        return;
    }
    const struct port *underlay = c->host->underlay;
    if (rewrite_is_icmp_error(pkt)) {
        io_drop(c->host->io, pkt, DROP_ICMP_ERROR);
    } else if (rewrite_has_route_option(pkt)) {
        io_drop(c->host->io, pkt, DROP_IP_OPTIONS);
    } else if (underlay && gso_l3_len(pkt) > underlay->mtu) {
        io_drop(c->host->io, pkt, DROP_TOO_BIG);
    } else {
        if (d->routed)
            rewrite_ttl(pkt);
        underlay_rewrite(c->host, pkt, d->source->pa, to);
    }
}

/* What a request from the port becomes: its answer leaves by the port it came in at. */
static void answer(const struct context *c, struct pkt *pkt, struct proxy_verdict verdict)
{
    struct io *io = c->host->io;
    if (verdict.action == PROXY_DROP) {
        io_drop(io, pkt, verdict.drop);
    } else if (verdict.action == PROXY_CONSUME) {
        io_consume(io, pkt);
    } else {
        io_answered(io, pkt);
        io_send(io, c->in, pkt);
    }
}

/* Pass 3: one packet on its way. */
static inline void carry_out(const struct context *c, struct pkt *pkt, struct decision *d)
{
    enum act kind = act_kind(d->record.act);
    if (kind == ACT_NONE) {
        io_drop(c->host->io, pkt, d->miss);
    } else if (kind == ACT_GATEWAY) {
        answer(c, pkt, proxy_router(c->tables, pkt));
    } else if (d->routed && pkt_ttl(pkt) <= 1) {
        io_drop(c->host->io, pkt, DROP_TTL_EXCEEDED);
    } else if (kind == ACT_NVGRE) {
        readdress(c, pkt, d);
        underlay_push(c->host, pkt, &c->tables->next_hops[act_index(d->record.act)], d->vsid);
    } else if (kind == ACT_REWRITE) {
        to_rewrite(c, pkt, d);
    } else {
        to_local(c, pkt, d);
    }
}

static void count_accepted(const struct context *c, uint64_t packets, uint64_t bytes)
{
    struct vsid_stats *stats = &c->host->io->vsid_stats[c->policy->subnet];
    stats_add(&stats->from_port, packets);
    stats_add(&stats->from_port_bytes, bytes);
}

void from_tenant(const struct host *host, struct port *in, struct batch *batch)
{
    const struct tables *tables = host->tables;
    const struct port_policy *policy = __atomic_load_n((struct port_policy *const *)&tables->policies[in->id], __ATOMIC_ACQUIRE);
    struct context c = {host, tables, policy, in, map_view(tables->records4), map_view(tables->records6)};
    struct decision d[DP_BATCH];
    uint64_t accepted = 0, bytes = 0;

    for (uint32_t i = 0; i < batch->n; i++) {
        d[i].step = STEP_NONE;
        enum drop drop = policy ? check(&c, &batch->pkt[i], &d[i]) : DROP_PORT_NO_POLICY;
        if (drop) {
            io_drop(host->io, &batch->pkt[i], drop);
            d[i].step = STEP_NONE;
            continue;
        }
        accepted++;
        bytes += batch->pkt[i].len;
    }
    for (uint32_t i = 0; i < batch->n; i++)
        settle_lookup(&c, &d[i]);
    for (uint32_t i = 0; i < batch->n; i++)
        if (d[i].step >= STEP_RECORD4)
            finish_lookup(&c, &d[i]);
    for (uint32_t i = 0; i < batch->n; i++) {
        if (d[i].step >= STEP_RECORD4)
            carry_out(&c, &batch->pkt[i], &d[i]);
        else if (d[i].step == STEP_ARP)
            answer(&c, &batch->pkt[i], proxy_arp(tables, policy, &batch->pkt[i]));
        else if (d[i].step == STEP_ND)
            answer(&c, &batch->pkt[i], proxy_nd(tables, policy, &batch->pkt[i]));
    }
    if (policy)
        count_accepted(&c, accepted, bytes);
}
