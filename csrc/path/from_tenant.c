/*
 * from_tenant.c: tenant to provider (README.md section 2). Passes over the batch: check, and begin the lookup; answer all
 * lookups; carry out, in order. A packet that fails a check leaves the batch. Only the last pass has effects that other packets
 * can see, so the result does not depend on the batch size.
 */
#include "path/local.h"
#include "path/path.h"
#include "path/underlay.h"
#include "pkt/offload.h"
#include "pkt/parse.h"
#include "step/arpnd.h"
#include "step/gso.h"
#include "step/proxy.h"
#include "step/rewrite.h"
#include "step/source.h"
#include "table/lookup.h"
#include "table/lookup_batch.h"

enum tenant_step { TENANT_RECORD, TENANT_ARP, TENANT_ND };

/* What is known of one packet of the batch. */
struct tenant_pkt {
    struct pkt *pkt;
    const struct port_source *source;
    struct lookup_answer answer;
    uint32_t subnet;            /* of the record, as index */
    uint8_t step;               /* enum tenant_step */
    bool routed;
    bool direct;                /* the record is the destination's own, not a next hop's or a wildcard's */
    bool wildcard;              /* a miss may fall back to the subnet's wildcard */
    uint8_t miss;               /* enum drop, when there is no record */
};

/* The port's side of the batch: what its packets are compared with. MACs in the low 48 bits, as they lie. */
struct tenant {
    const struct host *host;
    const struct tables *tables;
    const struct port_policy *policy;
    struct port *in;
    uint64_t mac, router_mac;
    struct source_own own;
    const struct map_view *view4, *view6;
    struct lookup_queue queue4, queue6;
};

#define TENANT_MAC 0xffffffffffffull

static inline __attribute__((always_inline)) void tenant_lookup(struct tenant *t, struct tenant_pkt *d, uint32_t at,
                                                                uint32_t subnet, unsigned family, const uint8_t *ca)
{
    uint32_t vsid = subnet == t->policy->subnet ? t->policy->vsid : t->tables->subnets[subnet].vsid;
    uint64_t key[3];
    d->subnet = subnet;
    key_record(key, vsid, family, ca);
    if (family == DP_IPV4)
        lookup_begin(&t->queue4, t->view4, 1, key, at);
    else
        lookup_begin(&t->queue6, t->view6, 3, key, at);
}

/* To the router's MAC: the longest prefix in the routing domain says in which subnet to look for what. */
static void tenant_route(struct tenant *t, struct tenant_pkt *d, uint32_t at, unsigned family, const uint8_t *destination)
{
    static const uint8_t any[16];
    uint32_t act = tables_route(t->tables, t->policy->rdid, family, destination);
    d->routed = true;
    if (act_kind(act) == ACT_ONLINK) {
        d->wildcard = true;
        tenant_lookup(t, d, at, act_index(act), family, destination);
        return;
    }
    d->direct = false;
    if (act_kind(act) == ACT_VIA) {
        const struct via *via = &t->tables->vias[act_index(act)];
        tenant_lookup(t, d, at, via->subnet, family, via->ca);
    } else {
        d->miss = DROP_NO_ROUTE;
        tenant_lookup(t, d, at, t->policy->subnet, family, any);
    }
}

static inline __attribute__((always_inline)) void tenant_resolve(struct tenant *t, struct tenant_pkt *d, uint32_t at,
                                                                 uint64_t to, const struct pkt *pkt)
{
    const uint8_t *destination = pkt_destination(pkt);
    unsigned family = pkt->l3_type;
    d->step = TENANT_RECORD;
    d->routed = d->wildcard = false;
    d->direct = true;
    d->miss = DROP_NO_RECORD;
    if (__builtin_expect(to == t->router_mac, 0) && !(family == DP_IPV6 && is_link_local(destination)))
        tenant_route(t, d, at, family, destination);
    else if (__builtin_expect(family == DP_IPV4, 1))
        tenant_lookup(t, d, at, t->policy->subnet, DP_IPV4, destination);
    else
        tenant_lookup(t, d, at, t->policy->subnet, DP_IPV6, destination);
}

/* What is no plain TCP or UDP: parsed in full, offloads fitted; ARP and ND find their step. */
static __attribute__((noinline)) enum drop tenant_check_rest(const struct tenant *t, struct pkt *pkt, struct tenant_pkt *d)
{
    enum drop drop = parse_frame(pkt);
    if (drop)
        return drop;
    if (pkt->flags & PKT_VLAN)
        parse_strip_vlan(pkt);
    if (!mac_equal(pkt->data + 6, t->policy->mac))
        return DROP_SRC_MAC;
    if (pkt->flags & PKT_PARTIAL || pkt->gso)
        drop = offload_check(t->host->io->pool.arena, pkt);
    if (pkt->l3_type == PKT_L3_ARP)
        d->step = TENANT_ARP;
    else if (arpnd_is_nd(pkt))
        d->step = TENANT_ND;
    d->answer.act = 0;
    d->routed = false;
    return drop;
}

/* Pass 1: the port's own rules, and where to look. */
static inline __attribute__((always_inline)) enum drop tenant_check(struct tenant *t, struct pkt *pkt, struct tenant_pkt *d,
                                                                    uint32_t at)
{
    d->pkt = pkt;
    d->step = TENANT_RECORD;
    if (__builtin_expect(!parse_plain(pkt), 0)) {
        enum drop drop = tenant_check_rest(t, pkt, d);
        if (drop || d->step != TENANT_RECORD)
            return drop;
    } else {
        if ((load64(pkt->data + 6) & TENANT_MAC) != t->mac)
            return DROP_SRC_MAC;
        if (__builtin_expect(pkt->flags & PKT_PARTIAL || pkt->gso, 0)) {
            enum drop drop = offload_check(t->host->io->pool.arena, pkt);
            if (drop)
                return drop;
        }
    }
    uint64_t to = load64(pkt->data) & TENANT_MAC;
    d->source = source_find(&t->own, t->policy, pkt->l3_type, pkt_source(pkt));
    if (__builtin_expect(!d->source, 0) && !source_is_own_mld(t->policy, pkt))
        return DROP_SRC_ADDRESS;
    if (to & 1)
        return DROP_MULTICAST;
    if (!is_host(pkt->l3_type, pkt_destination(pkt)))
        return DROP_NO_RECORD;
    tenant_resolve(t, d, at, to, pkt);
    return DROP_NONE;
}

/* The inner frame as its receiver must see it. */
static inline __attribute__((always_inline)) void tenant_readdress(const struct tenant *t, struct pkt *pkt,
                                                                   const struct tenant_pkt *d)
{
    memcpy(pkt->data, &d->answer.mac, 6);
    if (__builtin_expect(d->routed, 0)) {
        memcpy(pkt->data + 6, t->tables->router_mac, 6);
        rewrite_ttl(pkt);
    }
}

static inline __attribute__((always_inline)) void tenant_push(const struct tenant *t, struct pkt *pkt,
                                                              const struct tenant_pkt *d, uint32_t hop)
{
    uint32_t vsid = d->subnet == t->policy->subnet ? t->policy->vsid : t->tables->subnets[d->subnet].vsid;
    tenant_readdress(t, pkt, d);
    underlay_push(t->host, pkt, &t->tables->next_hops[hop], vsid);
}

static void tenant_local(const struct tenant *t, struct pkt *pkt, const struct tenant_pkt *d)
{
    uint32_t port = act_index(d->answer.act);
    if (port == t->in->id) {
        io_drop(t->host->io, pkt, DROP_HAIRPIN);
        return;
    }
    tenant_readdress(t, pkt, d);
    local_deliver(t->host, pkt, port, d->subnet);
}

/* What may not be rewritten. */
static enum drop tenant_check_rewrite(const struct tenant *t, const struct pkt *pkt)
{
    if (rewrite_is_icmp_error(pkt))
        return DROP_ICMP_ERROR;
    if (rewrite_has_route_option(pkt))
        return DROP_IP_OPTIONS;
    return gso_l3_len(pkt) > t->host->underlay_mtu ? DROP_TOO_BIG : DROP_NONE;
}

static inline __attribute__((always_inline)) void tenant_rewrite(const struct tenant *t, struct pkt *pkt,
                                                                 const struct tenant_pkt *d)
{
    const struct rewrite *to = &t->tables->rewrites[act_index(d->answer.act)];
    if (__builtin_expect(!d->direct || !d->source || !d->source->has_pa, 0)) {
        if (to->shared == INDEX_NONE)
            io_drop(t->host->io, pkt, DROP_NO_SHARED_PA);
        else
            tenant_push(t, pkt, d, to->shared);
        return;
    }
    bool plain = pkt->flags & PKT_PLAIN && !pkt->gso && pkt->l3_end - pkt->l3 <= t->host->underlay_mtu;
    if (__builtin_expect(!plain, 0) && io_dropped(t->host->io, pkt, tenant_check_rewrite(t, pkt)))
        return;
    const struct next_hop *nh = &t->tables->next_hops[to->next_hop];
    if (d->routed)
        rewrite_ttl(pkt);
    rewrite_addresses(pkt, d->source->pa, to->pa);
    uint64_t eth = __atomic_load_n((const uint64_t *)&nh->eth, __ATOMIC_RELAXED);
    memcpy(pkt->data, &eth, 8);
    memcpy(pkt->data + 8, nh->header + 8, 4);
    if (__builtin_expect(pkt->gso, 0))
        underlay_rewritten(t->host, pkt, nh);
    else
        underlay_send(t->host, pkt, nh, eth);
}

/* What a request from the port becomes: its answer leaves by the port it came in at. */
static void tenant_answer(const struct tenant *t, struct pkt *pkt, struct proxy_verdict verdict)
{
    struct io *io = t->host->io;
    if (verdict.action == PROXY_DROP) {
        io_drop(io, pkt, verdict.drop);
    } else if (verdict.action == PROXY_CONSUME) {
        io_consume(io, pkt);
    } else {
        io_answered(io, pkt);
        io_send(io, t->in, pkt);
    }
}

/* What is no record of a host: a gateway, or none, but perhaps the subnet's wildcard. */
static __attribute__((noinline)) void tenant_odd(const struct tenant *t, struct tenant_pkt *d);

/* Pass 3: one packet on its way. */
static inline __attribute__((always_inline)) void tenant_carry(const struct tenant *t, struct tenant_pkt *d)
{
    uint32_t act = d->answer.act;
    if (__builtin_expect(d->routed && pkt_ttl(d->pkt) <= 1 && act_kind(act) != ACT_NONE && act_kind(act) != ACT_GATEWAY, 0))
        io_drop(t->host->io, d->pkt, DROP_TTL_EXCEEDED);
    else if (__builtin_expect(act_kind(act) == ACT_NVGRE, 1))
        tenant_push(t, d->pkt, d, act_index(act));
    else if (act_kind(act) == ACT_REWRITE)
        tenant_rewrite(t, d->pkt, d);
    else if (act_kind(act) == ACT_LOCAL)
        tenant_local(t, d->pkt, d);
    else
        tenant_odd(t, d);
}

static void tenant_odd(const struct tenant *t, struct tenant_pkt *d)
{
    if (d->step == TENANT_ARP) {
        tenant_answer(t, d->pkt, proxy_arp(t->tables, t->policy, d->pkt));
    } else if (d->step == TENANT_ND) {
        tenant_answer(t, d->pkt, proxy_nd(t->tables, t->policy, d->pkt));
    } else if (act_kind(d->answer.act) == ACT_GATEWAY) {
        tenant_answer(t, d->pkt, proxy_router(t->tables, d->pkt));
    } else {
        struct map_value wildcard = {0};
        if (d->wildcard)
            wildcard = lookup_wildcard(t->tables, t->tables->subnets[d->subnet].vsid, d->pkt->l3_type);
        if (!wildcard.act) {
            io_drop(t->host->io, d->pkt, d->miss);
            return;
        }
        d->answer = (struct lookup_answer){wildcard.act, 0};
        memcpy(&d->answer.mac, wildcard.mac, sizeof wildcard.mac);
        d->direct = d->wildcard = false;
        tenant_carry(t, d);
    }
}

static inline uint64_t tenant_mac(const uint8_t *mac)
{
    uint64_t word = 0;
    memcpy(&word, mac, 6);
    return word;
}

void from_tenant(const struct host *host, struct port *in, struct batch *batch)
{
    const struct tables *tables = host->tables;
    const struct port_policy *policy = __atomic_load_n((struct port_policy *const *)&tables->policies[in->id], __ATOMIC_ACQUIRE);
    struct tenant_pkt pkts[DP_BATCH];
    uint64_t bytes = 0;
    uint32_t n = 0;
    if (!policy) {
        for (uint32_t i = 0; i < batch->n; i++)
            io_drop(host->io, &batch->pkt[i], DROP_PORT_NO_POLICY);
        return;
    }
    struct tenant t;
    t.host = host, t.tables = tables, t.policy = policy, t.in = in;
    t.mac = tenant_mac(policy->mac), t.router_mac = tenant_mac(tables->router_mac);
    t.own = source_own(policy);
    t.view4 = map_view(tables->records4), t.view6 = map_view(tables->records6);
    t.queue4.n = t.queue6.n = 0;

    for (uint32_t i = 0; i < batch->n; i++) {
        struct pkt *pkt = &batch->pkt[i];
        enum drop drop = tenant_check(&t, pkt, &pkts[n], n);
        if (__builtin_expect(drop, 0)) {
            io_drop(host->io, pkt, drop);
            continue;
        }
        bytes += pkt->len;
        n++;
    }
    lookup_all(&t.queue4, t.view4, 1, tables, &pkts[0].answer, sizeof *pkts);
    lookup_all(&t.queue6, t.view6, 3, tables, &pkts[0].answer, sizeof *pkts);
    for (uint32_t i = 0; i < n; i++)
        tenant_carry(&t, &pkts[i]);
    struct vsid_stats *stats = &host->io->vsid_stats[policy->subnet];
    stats_add(&stats->from_port, n);
    stats_add(&stats->from_port_bytes, bytes);
}
