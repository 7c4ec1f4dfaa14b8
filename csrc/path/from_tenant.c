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
#include "step/limit.h"
#include "step/proxy.h"
#include "step/rewrite.h"
#include "step/source.h"
#include "table/lookup.h"
#include "table/lookup_batch.h"

/* What is known of a packet besides: bits, and in the byte above them the drop (enum drop) for want of a record. */
enum tenant_how {
    TENANT_WIDE = 1,            /* its lookup's key is of three words */
    TENANT_ROUTED = 2,          /* it came to the router's MAC and goes on, one hop further */
    TENANT_DIRECT = 4,          /* the record is the destination's own, not a next hop's or a wildcard's */
    TENANT_WILDCARD = 8,        /* a miss may fall back to the subnet's wildcard */
    TENANT_ARP = 16,
    TENANT_ND = 32,
    TENANT_PLAIN = 64,          /* a plain IPv4 packet without offloads, within the subnet: a run may take it */
    TENANT_MISS = 256,          /* times the drop */
};

struct tenant_pkt {
    struct pkt *pkt;
    const struct port_source *source;
    struct lookup lookup;
    struct lookup_answer answer;
    uint32_t how;               /* enum tenant_how */
    uint32_t subnet;            /* of the record, as index, if it is routed; else it is the port's */
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
};

static inline uint32_t tenant_subnet(const struct tenant *t, const struct tenant_pkt *d)
{
    return __builtin_expect(d->how & TENANT_ROUTED, 0) ? d->subnet : t->policy->subnet;
}

static inline uint32_t tenant_vsid(const struct tenant *t, const struct tenant_pkt *d)
{
    return __builtin_expect(d->how & TENANT_ROUTED, 0) ? t->tables->subnets[d->subnet].vsid : t->policy->vsid;
}

static inline __attribute__((always_inline)) void tenant_look(const struct tenant *t, struct tenant_pkt *d, uint32_t vsid,
                                                              unsigned family, const uint8_t *ca, uint32_t how)
{
    d->how = family == DP_IPV4 ? how : how | TENANT_WIDE;
    uint64_t key[3];
    key_record(key, vsid, family, ca);
    lookup_begin(&d->lookup, family == DP_IPV4 ? t->view4 : t->view6, family == DP_IPV4 ? 1 : 3, key);
}

/* To the router's MAC: the longest prefix in the routing domain says in which subnet to look for what. */
static __attribute__((noinline)) enum drop tenant_route(const struct tenant *t, struct tenant_pkt *d, unsigned family,
                                                   const uint8_t *destination)
{
    static const uint8_t any[16];
    const struct tables *tables = t->tables;
    uint32_t act = tables_route(tables, t->policy->rdid, family, destination);
    const uint8_t *ca = any;
    uint32_t how = TENANT_ROUTED | TENANT_MISS * DROP_NO_ROUTE;
    d->subnet = t->policy->subnet;
    if (!is_host(family, destination))
        return DROP_NO_RECORD;
    if (act_kind(act) == ACT_ONLINK) {
        d->subnet = act_index(act);
        ca = destination;
        how = TENANT_ROUTED | TENANT_DIRECT | TENANT_WILDCARD | TENANT_MISS * DROP_NO_RECORD;
    } else if (act_kind(act) == ACT_VIA) {
        d->subnet = tables->vias[act_index(act)].subnet;
        ca = tables->vias[act_index(act)].ca;
        how = TENANT_ROUTED | TENANT_MISS * DROP_NO_RECORD;
    }
    if (family == DP_IPV4)
        tenant_look(t, d, tables->subnets[d->subnet].vsid, DP_IPV4, ca, how);
    else
        tenant_look(t, d, tables->subnets[d->subnet].vsid, DP_IPV6, ca, how);
    return DROP_NONE;
}

static bool tenant_over(const struct tenant *t, const struct pkt *pkt)
{
    return !limit_allows(&t->policy->limit, t->policy->bucket, pkt->time, gso_segments(pkt), pkt->len);
}

/* Pass 1, of a parsed IP packet with the port's MAC: the port's own rules, and where to look. */
static inline __attribute__((always_inline)) enum drop tenant_check(const struct tenant *t, struct pkt *pkt,
                                                                    struct tenant_pkt *d, unsigned family, uint32_t how)
{
    const uint8_t *source = pkt->data + pkt->l3 + (family == DP_IPV4 ? 12 : 8);
    const uint8_t *destination = pkt->data + pkt->l3 + (family == DP_IPV4 ? 16 : 24);
    uint64_t to = mac_word(pkt->data);
    d->pkt = pkt;
    d->source = source_find(&t->own, t->policy, family, source);
    if (__builtin_expect(!d->source, 0) && !source_is_own_mld(t->policy, pkt))
        return DROP_SRC_ADDRESS;
    if (__builtin_expect(t->policy->bucket != NULL, 0) && tenant_over(t, pkt))
        return DROP_RATE_LIMIT;     /* 2.4.3 */
    if (to & 1)
        return DROP_MULTICAST;
    if (is_any(family, destination))    /* the wildcard's key; what else is no host's address has no record */
        return DROP_NO_RECORD;
    if (__builtin_expect(to == t->router_mac, 0) && !(family == DP_IPV6 && is_link_local(destination)))
        return tenant_route(t, d, family, destination);
    tenant_look(t, d, t->policy->vsid, family, destination, how | TENANT_DIRECT | TENANT_MISS * DROP_NO_RECORD);
    return DROP_NONE;
}

static inline __attribute__((always_inline)) enum drop tenant_check_plain(const struct tenant *t, struct pkt *pkt,
                                                                          struct tenant_pkt *d, unsigned family,
                                                                          bool offloaded)
{
    if (mac_word(pkt->data + 6) != t->mac)
        return DROP_SRC_MAC;
    if (__builtin_expect(offloaded, 0)) {
        enum drop drop = offload_check(t->host->io->pool.arena, pkt);
        return drop ? drop : tenant_check(t, pkt, d, family, 0);
    }
    return tenant_check(t, pkt, d, family, family == DP_IPV4 ? TENANT_PLAIN : 0);
}

/* What is no plain TCP or UDP: parsed in full; ARP and ND are answered later. */
static __attribute__((noinline)) enum drop tenant_check_rest(const struct tenant *t, struct pkt *pkt, struct tenant_pkt *d)
{
    enum drop drop = parse_frame(pkt);
    if (drop)
        return drop;
    if (pkt->flags & PKT_VLAN)
        parse_strip_vlan(pkt);
    if (!mac_equal(pkt->data + 6, t->policy->mac))
        return DROP_SRC_MAC;
    if (pkt_offloaded(pkt) && (drop = offload_check(t->host->io->pool.arena, pkt)))
        return drop;
    bool arp = pkt->l3_type == PKT_L3_ARP;
    if (arp || arpnd_is_nd(pkt)) {
        if (t->policy->bucket && tenant_over(t, pkt))
            return DROP_RATE_LIMIT;     /* 2.1.6 */
        d->pkt = pkt;
        d->how = arp ? TENANT_ARP : TENANT_ND;
        d->answer.act = ACT_NONE;
        return DROP_NONE;
    }
    return pkt->l3_type == PKT_L3_IP4 ? tenant_check(t, pkt, d, DP_IPV4, 0) : tenant_check(t, pkt, d, DP_IPV6, 0);
}

static inline __attribute__((always_inline)) enum drop tenant_start(const struct tenant *t, struct pkt *pkt,
                                                                    struct tenant_pkt *d)
{
    bool offloaded = pkt_offloaded(pkt);
    if (__builtin_expect(parse_plain(pkt, DP_IPV4), 1))
        return tenant_check_plain(t, pkt, d, DP_IPV4, offloaded);
    if (parse_plain(pkt, DP_IPV6))
        return tenant_check_plain(t, pkt, d, DP_IPV6, offloaded);
    return tenant_check_rest(t, pkt, d);
}

/* ---- pass 2: the answers, and what they refer to on its way into the cache */

static __attribute__((noinline)) void tenant_look_further(const struct tenant *t, struct tenant_pkt *pkts, uint8_t *at,
                                                          uint32_t n)
{
    uint64_t hash[DP_BATCH];
    uint32_t m = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct tenant_pkt *d = &pkts[at[i]];
        at[m] = at[i];
        m += d->how & TENANT_WIDE ? lookup_fetch(&d->lookup, t->view6, 3, &hash[m]) : lookup_fetch(&d->lookup, t->view4, 1, &hash[m]);
    }
    for (uint32_t i = 0; i < m; i++) {
        struct tenant_pkt *d = &pkts[at[i]];
        if (d->how & TENANT_WIDE)
            lookup_finish(&d->lookup, t->view6, 3, hash[i], &d->answer);
        else
            lookup_finish(&d->lookup, t->view4, 1, hash[i], &d->answer);
        lookup_prefetch(t->tables, d->answer.act);
    }
}

static inline __attribute__((always_inline)) void tenant_look_up(const struct tenant *t, struct tenant_pkt *pkts, uint32_t n)
{
    uint8_t further[DP_BATCH];
    uint32_t m = 0, last = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct tenant_pkt *d = &pkts[i];
        bool told = true;
        if (__builtin_expect((d->how & (TENANT_WIDE | TENANT_ARP | TENANT_ND)) == 0, 1))
            told = lookup_first(&d->lookup, 1, t->tables, &last, &d->answer);
        else if (d->how & TENANT_WIDE)
            told = lookup_first(&d->lookup, 3, t->tables, &last, &d->answer);
        further[m] = (uint8_t)i;
        m += !told;
    }
    if (m)
        tenant_look_further(t, pkts, further, m);
}

/* ---- pass 3 */

/* The inner frame as its receiver must see it. */
static inline __attribute__((always_inline)) void tenant_readdress(const struct tenant *t, struct pkt *pkt,
                                                                   const struct tenant_pkt *d)
{
    memcpy(pkt->data, &d->answer.mac, 6);
    if (__builtin_expect(d->how & TENANT_ROUTED, 0)) {
        memcpy(pkt->data + 6, t->tables->router_mac, 6);
        rewrite_ttl(pkt);
    }
}

static inline __attribute__((always_inline)) void tenant_push(const struct tenant *t, struct pkt *pkt,
                                                              const struct tenant_pkt *d, uint32_t hop)
{
    tenant_readdress(t, pkt, d);
    underlay_push(t->host, pkt, &t->tables->next_hops[hop], tenant_vsid(t, d));
}

static void tenant_local(const struct tenant *t, struct pkt *pkt, const struct tenant_pkt *d)
{
    uint32_t port = act_index(d->answer.act);
    if (port == t->in->id) {
        io_drop(t->host->io, pkt, DROP_HAIRPIN);
        return;
    }
    tenant_readdress(t, pkt, d);
    local_deliver(t->host, pkt, port, tenant_subnet(t, d));
}

/* What may not be rewritten. */
static enum drop tenant_check_rewrite(const struct tenant *t, const struct pkt *pkt)
{
    enum drop drop = rewrite_check(pkt);
    return drop || gso_l3_len(pkt) <= t->host->underlay_mtu ? drop : DROP_TOO_BIG;
}

static inline __attribute__((always_inline)) void tenant_rewrite(const struct tenant *t, struct pkt *pkt,
                                                                 const struct tenant_pkt *d)
{
    const struct rewrite *to = &t->tables->rewrites[act_index(d->answer.act)];
    if (__builtin_expect(!(d->how & TENANT_DIRECT) || !d->source || !d->source->has_pa, 0)) {
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
    if (d->how & TENANT_ROUTED)
        rewrite_ttl(pkt);
    rewrite_addresses(pkt, d->source->pa, to->pa);
    uint64_t eth = next_hop_macs(nh, pkt->data);
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

static inline __attribute__((always_inline)) void tenant_carry(const struct tenant *t, struct tenant_pkt *d)
{
    uint32_t act = d->answer.act;
    bool host = act_kind(act) != ACT_NONE && act_kind(act) != ACT_GATEWAY;
    if (__builtin_expect(d->how & TENANT_ROUTED, 0) && host && pkt_ttl(d->pkt) <= 1)
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
    struct map_value wildcard = {0};
    if (d->how & TENANT_ARP) {
        tenant_answer(t, d->pkt, proxy_arp(t->tables, t->policy, d->pkt));
        return;
    }
    if (d->how & TENANT_ND) {
        tenant_answer(t, d->pkt, proxy_nd(t->tables, t->policy, d->pkt));
        return;
    }
    if (act_kind(d->answer.act) == ACT_GATEWAY) {
        tenant_answer(t, d->pkt, proxy_router(t->tables, d->pkt));
        return;
    }
    if (d->how & TENANT_WILDCARD)
        wildcard = lookup_wildcard(t->tables, tenant_vsid(t, d), d->pkt->l3_type);
    if (!wildcard.act) {
        io_drop(t->host->io, d->pkt, (enum drop)(d->how / TENANT_MISS));
        return;
    }
    d->answer = lookup_answer_of(wildcard);
    d->how &= ~(uint32_t)(TENANT_DIRECT | TENANT_WILDCARD);
    tenant_carry(t, d);
}

/* One of a run: plain, within the subnet, into NVGRE. */
static inline bool tenant_runs(const struct tenant_pkt *d)
{
    const uint32_t how = TENANT_PLAIN | TENANT_DIRECT | TENANT_MISS * DROP_NO_RECORD;
    return d->how == how && act_kind(d->answer.act) == ACT_NVGRE;
}

/* The packets of a run, and the first behind it. What is odd about one's next hop is dealt with one by one. */
static inline __attribute__((always_inline)) struct tenant_pkt *tenant_push_run(const struct tenant *t, struct tenant_pkt *d,
                                                                                const struct tenant_pkt *end)
{
    const struct host *host = t->host;
    const struct next_hop *hops = t->tables->next_hops;
    struct port *underlay = host->underlay;
    const uint64_t source = t->mac << 48;       /* the first two bytes of the source MAC, behind the destination's */
    const uint32_t vsid = t->policy->vsid << 8, longest = underlay ? host->underlay_frame : 0;
    do {
        struct pkt *pkt = d->pkt;
        const struct next_hop *nh = &hops[act_index(d->answer.act)];
        uint8_t *frame = pkt->data;
        if (__builtin_expect(next_hop_header_len(nh) != NVGRE4_LEN || pkt->len > longest, 0)) {
            tenant_carry(t, d);
            continue;
        }
        uint64_t macs = d->answer.mac | source;
        memcpy(frame, &macs, 8);
        uint8_t flowid = parse_flowid(parse_flow_plain4(frame)) & host->flowid_mask;
        uint64_t eth = nvgre_push4(frame, pkt->len, nh, vsid | flowid, frame[ETH_LEN + 1]);
        pkt_push_whole(pkt, NVGRE4_LEN);
        if (__builtin_expect(eth != 0, 1))
            io_send(host->io, underlay, pkt);
        else
            underlay_wait(host, pkt, nh);
    } while (++d < end && tenant_runs(d));
    return d;
}

void from_tenant(const struct host *host, struct port *in, struct batch *batch)
{
    const struct tables *tables = host->tables;
    const struct port_policy *policy = __atomic_load_n((struct port_policy *const *)&tables->policies[in->id], __ATOMIC_ACQUIRE);
    struct tenant_pkt pkts[DP_BATCH], *d = pkts;
    uint64_t bytes = 0;
    if (!policy) {
        for (uint32_t i = 0; i < batch->n; i++)
            io_drop(host->io, &batch->pkt[i], DROP_PORT_NO_POLICY);
        return;
    }
    const struct tenant t = {.host = host,
                             .tables = tables,
                             .policy = policy,
                             .in = in,
                             .mac = mac_word(policy->mac),
                             .router_mac = mac_word(tables->router_mac),
                             .own = source_own(policy),
                             .view4 = map_view(tables->records4),
                             .view6 = map_view(tables->records6)};
    for (struct pkt *pkt = batch->pkt, *end = pkt + batch->n; pkt < end; pkt++) {
        enum drop drop = tenant_start(&t, pkt, d);
        if (__builtin_expect(drop, 0)) {
            io_drop(host->io, pkt, drop);
            continue;
        }
        bytes += pkt->len;
        d++;
    }
    uint32_t n = (uint32_t)(d - pkts);
    tenant_look_up(&t, pkts, n);
    for (d = pkts; d < pkts + n;)
        if (__builtin_expect(tenant_runs(d), 1))
            d = tenant_push_run(&t, d, pkts + n);
        else
            tenant_carry(&t, d++);
    struct vsid_stats *stats = &host->io->vsid_stats[policy->subnet];
    stats_add(&stats->from_port, n);
    stats_add(&stats->from_port_bytes, bytes);
}
