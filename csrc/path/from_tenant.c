/*
 * from_tenant.c: tenant to provider (README.md section 2). Called by path.h. Passes over the batch: check,
 * and begin the lookup; answer all lookups; carry out, in order. A packet that fails a check leaves the
 * batch. Only the last pass has effects that other packets can see, so the result does not depend on the
 * batch size.
 */
#include "base/hot.h"
#include "path/flood.h"
#include "path/path.h"
#include "path/underlay.h"
#include "pkt/offload.h"
#include "pkt/parse.h"
#include "port/answer.h"
#include "port/deliver.h"
#include "router/flood.h"
#include "router/icmp_error.h"
#include "router/quote.h"
#include "step/arpnd.h"
#include "step/limit.h"
#include "step/rewrite.h"
#include "step/route.h"
#include "step/source.h"
#include "table/lookup.h"
#include "table/lookup_batch.h"

/*
 * What is known of a packet besides: bits, and in the byte above them the drop (enum drop) for want of a
 * record.
 */
enum tenant_how {
    TENANT_WIDE = 1,            /* its lookup's key is of three words */
    TENANT_ROUTED = 2,          /* it came to the router's MAC and goes on, one hop further */
    TENANT_DIRECT = 4,          /* the record is the destination's own, not a next hop's or a wildcard's */
    TENANT_WILDCARD = 8,        /* a miss may fall back to the subnet's wildcard */
    TENANT_ARPND = 16,
    TENANT_GROUP = 32,          /* to a group's MAC, and ARPND besides: there is nothing to look up */
    TENANT_PLAIN = 64,          /* a plain packet without offloads, within the subnet: a run may take it */
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

HOT void tenant_look(const struct tenant *t, struct tenant_pkt *d, uint32_t vsid, unsigned family,
                     const uint8_t *ca, uint32_t how)
{
    d->how = family == DP_IPV4 ? how : how | TENANT_WIDE;
    uint64_t key[3];
    key_record(key, vsid, family, ca);
    lookup_begin(&d->lookup, family == DP_IPV4 ? t->view4 : t->view6, family == DP_IPV4 ? 1 : 3, key);
}

/* To the router's MAC: the longest prefix in the routing domain says in which subnet to look for what. */
RARE void tenant_route(const struct tenant *t, struct tenant_pkt *d, unsigned family,
                       const uint8_t *destination)
{
    const struct route route = route_find(t->tables, t->policy->rdid, family, destination);
    const uint32_t how = TENANT_ROUTED | TENANT_MISS * route.miss;
    d->subnet = route.subnet == INDEX_NONE ? t->policy->subnet : route.subnet; /* 2.6.2 */
    tenant_look(t, d, t->tables->subnets[d->subnet].vsid, family, route.ca,
                route.on_link ? how | TENANT_DIRECT | TENANT_WILDCARD : how);
}

RARE enum drop tenant_group(const struct tenant *t, struct tenant_pkt *d)
{
    d->how = TENANT_ARPND | TENANT_GROUP;
    d->answer.act = ACT_NONE;
    return flood_check(t->tables, t->policy->subnet, d->pkt);
}

/* Pass 1, of a parsed IP packet with the port's MAC: the port's own rules, and where to look. */
HOT enum drop tenant_check(const struct tenant *t, struct pkt *pkt, struct tenant_pkt *d, unsigned family,
                           uint32_t how)
{
    const uint8_t *source = pkt->data + pkt->l3 + (family == DP_IPV4 ? 12 : 8);
    const uint8_t *destination = pkt->data + pkt->l3 + (family == DP_IPV4 ? 16 : 24);
    uint64_t to = mac_word(pkt->data);
    d->pkt = pkt;
    d->source = source_find(&t->own, t->policy, family, source);
    if (__builtin_expect(!d->source, 0) && !source_is_mld(pkt)) /* 2.4.1, 2.4.2 */
        return DROP_SRC_ADDRESS;
    if (__builtin_expect(t->policy->bucket != NULL, 0) && limit_refuses(t->policy, pkt))
        return DROP_RATE_LIMIT; /* 2.4.3 */
    if (to & 1)                 /* 2.5.1 */
        return tenant_group(t, d);
    if (!is_host(family, destination)) /* 2.5.2, 2.5.3 */
        return DROP_NO_RECORD;
    /* 2.6.1 */
    if (__builtin_expect(to == t->router_mac, 0) && !(family == DP_IPV6 && is_link_local(destination)))
        tenant_route(t, d, family, destination);
    else
        tenant_look(t, d, t->policy->vsid, family, destination, /* 2.6.9, 2.6.10 */
                    how | TENANT_DIRECT | TENANT_MISS * DROP_NO_RECORD);
    return DROP_NONE;
}

HOT enum drop tenant_check_plain(const struct tenant *t, struct pkt *pkt, struct tenant_pkt *d,
                                 unsigned family, bool offloaded)
{
    if (mac_word(pkt->data + 6) != t->mac) /* 2.1.4 */
        return DROP_SRC_MAC;
    if (__builtin_expect(offloaded, 0)) {
        enum drop drop = offload_check(t->host->io->pool.arena, pkt); /* 2.1.5 */
        return drop ? drop : tenant_check(t, pkt, d, family, 0);
    }
    return tenant_check(t, pkt, d, family, TENANT_PLAIN);
}

/* What is no plain TCP or UDP: parsed in full; ARP and ND are answered later. */
RARE enum drop tenant_check_rest(const struct tenant *t, struct pkt *pkt, struct tenant_pkt *d)
{
    enum drop drop = source_parse(t->policy, pkt); /* 2.1.2 to 2.1.4 */
    if (!drop && pkt_offloaded(pkt))
        drop = offload_check(t->host->io->pool.arena, pkt); /* 2.1.5 */
    if (drop)
        return drop;
    if (arpnd_is(pkt)) {
        if (t->policy->bucket && limit_refuses(t->policy, pkt))
            return DROP_RATE_LIMIT;     /* 2.1.6 */
        d->pkt = pkt;
        d->how = TENANT_ARPND;
        d->answer.act = ACT_NONE;
        return DROP_NONE;
    }
    return tenant_check(t, pkt, d, pkt->l3_type, 0);
}

HOT enum drop tenant_start(const struct tenant *t, struct pkt *pkt, struct tenant_pkt *d)
{
    bool offloaded = pkt_offloaded(pkt);
    if (__builtin_expect(parse_plain(pkt, DP_IPV4), 1)) /* 2.1.2 */
        return tenant_check_plain(t, pkt, d, DP_IPV4, offloaded);
    if (parse_plain(pkt, DP_IPV6))
        return tenant_check_plain(t, pkt, d, DP_IPV6, offloaded);
    return tenant_check_rest(t, pkt, d);
}

/* ---- pass 2: the answers, and what they refer to on its way into the cache */

RARE void tenant_look_further(const struct tenant *t, struct tenant_pkt *pkts, uint8_t *at, uint32_t n)
{
    uint32_t m = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct tenant_pkt *d = &pkts[at[i]];
        at[m] = at[i];
        m += d->how & TENANT_WIDE ? lookup_fetch(&d->lookup, t->view6, 3)
                                  : lookup_fetch(&d->lookup, t->view4, 1);
    }
    for (uint32_t i = 0; i < m; i++) {
        struct tenant_pkt *d = &pkts[at[i]];
        if (d->how & TENANT_WIDE)
            lookup_finish(&d->lookup, t->view6, 3, &d->answer);
        else
            lookup_finish(&d->lookup, t->view4, 1, &d->answer);
        lookup_prefetch(t->tables, &d->answer, d->answer.act, d->how & TENANT_WIDE ? 3 : 1);
    }
}

HOT void tenant_look_up(const struct tenant *t, struct tenant_pkt *pkts, uint32_t n)
{
    uint8_t further[DP_BATCH];
    uint32_t m = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct tenant_pkt *d = &pkts[i];
        uint32_t there;
        unsigned told = 1;
        if (__builtin_expect((d->how & (TENANT_WIDE | TENANT_ARPND)) == 0, 1)) {
            told = lookup_first(&d->lookup, 1, &d->answer, &there);
            lookup_prefetch(t->tables, &d->answer, there, 1);
        } else if (d->how & TENANT_WIDE) {
            told = lookup_first(&d->lookup, 3, &d->answer, &there);
            lookup_prefetch(t->tables, &d->answer, there, 3);
        }
        further[m] = (uint8_t)i;
        m += told == 0;
    }
    if (m)
        tenant_look_further(t, pkts, further, m);
}

/* ---- pass 3 */

/* The inner frame as its receiver must see it. */
HOT void tenant_readdress(const struct tenant *t, struct pkt *pkt, const struct tenant_pkt *d)
{
    memcpy(pkt->data, &d->answer.mac, 6); /* 2.9.4, 2.11.7 */
    if (__builtin_expect(d->how & TENANT_ROUTED, 0)) { /* 2.9.5, 2.11.8 */
        memcpy(pkt->data + 6, t->tables->router_mac, 6);
        rewrite_ttl(pkt);
    }
}

/*
 * Drops a packet that is still as it came; its sender hears of that as README.md 2.15 says. mtu: bytes of the
 * largest IP packet that its way takes, if it is too big.
 */
RARE void tenant_refuse(const struct tenant *t, const struct tenant_pkt *d, enum drop drop, uint32_t mtu)
{
    struct io *io = t->host->io;
    const struct icmp_cause cause = {.pkt = d->pkt, .drop = drop, .mtu = mtu};
    struct icmp_error error;
    if (icmp_error_is_due(&cause, &error)) {
        uint8_t made[ICMP_ERROR_MAX], *frame;
        if (!icmp_error_allowed(&t->in->errors, d->pkt->time))
            stats_add(&io->stats[t->in->id]->icmp_limited, 1);
        else if (icmp_error_write(&error, &io->pool, t->tables, t->policy, made) &&
                 (frame = io_originate(io, t->in, error.len, d->pkt->time)))
            memcpy(frame, made, error.len);
    }
    io_drop(io, d->pkt, drop);
}

HOT void tenant_push(const struct tenant *t, struct pkt *pkt, const struct tenant_pkt *d, uint32_t hop)
{
    const struct host *host = t->host;
    const struct next_hop *nh = &t->tables->next_hops[hop];
    enum drop drop = underlay_fits(host, pkt, nh) ? DROP_NONE : underlay_check(host, pkt, nh);
    if (__builtin_expect(drop, 0)) {
        tenant_refuse(t, d, drop, underlay_room(host, nh));
        return;
    }
    tenant_readdress(t, pkt, d);
    underlay_push(host, pkt, nh, tenant_vsid(t, d));
}

static void tenant_local(const struct tenant *t, struct pkt *pkt, const struct tenant_pkt *d)
{
    struct port *port = port_at(t->host->ports, act_index(d->answer.act));
    bool own = act_index(d->answer.act) == t->in->id; /* 2.9.1 */
    enum drop drop = own ? DROP_HAIRPIN : deliver_check(port, pkt);
    if (__builtin_expect(drop, 0)) {
        tenant_refuse(t, d, drop, port ? port->mtu : 0);
        return;
    }
    tenant_readdress(t, pkt, d);
    deliver_send(t->host->io, pkt, port, tenant_subnet(t, d));
}

HOT void tenant_rewrite(const struct tenant *t, struct pkt *pkt, struct tenant_pkt *d)
{
    const struct rewrite *to = &t->tables->rewrites[act_index(d->answer.act)];
    if (__builtin_expect(!(d->how & TENANT_DIRECT) || !d->source || !d->source->has_pa, 0)) { /* 2.10.1 */
        uint32_t shared = to->shared;
        d->answer.mac = mac_word(to->mac);
        if (shared == INDEX_NONE) /* 2.11.3 */
            io_drop(t->host->io, pkt, DROP_NO_SHARED_PA);
        else
            tenant_push(t, pkt, d, shared); /* 2.11.2 */
        return;
    }
    bool plain = pkt->flags & PKT_PLAIN && !pkt->gso && pkt->l3_end - pkt->l3 <= t->host->underlay_mtu;
    enum drop drop = plain ? DROP_NONE : quote_out(t->policy, pkt, to->pa); /* 2.10.2 */
    if (!plain && !drop)
        drop = rewrite_check_out(pkt, t->host->underlay_mtu);
    if (__builtin_expect(drop, 0)) {
        tenant_refuse(t, d, drop, t->host->underlay_mtu);
        return;
    }
    const struct next_hop *nh = &t->tables->next_hops[to->next_hop];
    if (d->how & TENANT_ROUTED) /* 2.10.6 */
        rewrite_ttl(pkt);
    rewrite_addresses(pkt, d->source->pa, to->pa); /* 2.10.7 */
    uint64_t eth = next_hop_macs(nh, pkt->data); /* 2.10.8 */
    if (__builtin_expect(pkt->gso, 0))
        underlay_rewritten(t->host, pkt, nh);
    else
        underlay_send(t->host, pkt, nh, eth);
}

/* An answer leaves by the port that the request came in at. */
static void tenant_answer(const struct tenant *t, struct pkt *pkt, struct proxy_verdict verdict)
{
    if (answer_is(t->host->io, pkt, verdict))
        io_send(t->host->io, t->in, pkt);
}

/* What is no record of a host: a gateway, or none, but perhaps the subnet's wildcard. */
RARE void tenant_odd(const struct tenant *t, struct tenant_pkt *d);

RARE void tenant_carry(const struct tenant *t, struct tenant_pkt *d)
{
    uint32_t act = d->answer.act;
    bool host = act_kind(act) != ACT_NONE && act_kind(act) != ACT_GATEWAY;
    if (__builtin_expect(d->how & TENANT_ROUTED, 0) && host && pkt_ttl(d->pkt) <= 1) /* 2.8.1 */
        tenant_refuse(t, d, DROP_TTL_EXCEEDED, 0);
    else if (__builtin_expect(act_kind(act) == ACT_NVGRE, 1)) /* 2.11.1 */
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
    if (d->how & TENANT_GROUP) {
        path_flood(t->host, d->pkt, t->policy->subnet);
        return;
    }
    if (d->how & TENANT_ARPND) {
        tenant_answer(t, d->pkt, proxy_arpnd(t->tables, t->policy, d->pkt));
        return;
    }
    if (act_kind(d->answer.act) == ACT_GATEWAY) {
        struct proxy_verdict verdict = proxy_router(t->host->io->pool.arena, t->tables, d->pkt);
        if (verdict.drop)
            tenant_refuse(t, d, verdict.drop, 0);
        else
            tenant_answer(t, d->pkt, verdict);
        return;
    }
    if (d->how & TENANT_WILDCARD) /* 2.6.5 */
        wildcard = lookup_wildcard(t->tables, tenant_vsid(t, d), d->pkt->l3_type);
    if (!wildcard.act) {
        if (d->how & TENANT_ROUTED)
            tenant_refuse(t, d, (enum drop)(d->how / TENANT_MISS), 0);
        else /* 2.6.10 */
            io_drop(t->host->io, d->pkt, (enum drop)(d->how / TENANT_MISS));
        return;
    }
    d->answer = lookup_answer_of(wildcard);
    d->how &= ~(uint32_t)(TENANT_DIRECT | TENANT_WILDCARD);
    tenant_carry(t, d);
}

/* ---- runs of what most packets are: plain, within the subnet, all the same way; what is odd about one is
 * dealt with alone */

static inline bool tenant_runs(const struct tenant_pkt *d, enum act kind)
{
    const uint32_t how = TENANT_PLAIN | TENANT_DIRECT | TENANT_MISS * DROP_NO_RECORD;
    return (d->how & ~(uint32_t)TENANT_WIDE) == how && act_kind(d->answer.act) == kind;
}

/* Into NVGRE. The first packet behind the run. */
HOT struct tenant_pkt *tenant_push_run(const struct tenant *t, struct tenant_pkt *d,
                                       const struct tenant_pkt *end)
{
    const struct host *host = t->host;
    const struct next_hop *hops = t->tables->next_hops;
    /* the first two bytes of the source MAC, behind the destination's */
    const uint64_t source = t->mac << 48;
    const uint32_t vsid = t->policy->vsid, longest = host->underlay_frame;
    do {
        struct pkt *pkt = d->pkt;
        const struct next_hop *nh = &hops[act_index(d->answer.act)];
        uint8_t *frame = pkt->data;
        if (__builtin_expect(next_hop_header_len(nh) == 0 || pkt->len > longest, 0)) {
            tenant_carry(t, d);
            continue;
        }
        uint64_t macs = d->answer.mac | source;
        memcpy(frame, &macs, 8); /* 2.11.7 */
        uint32_t flow = __builtin_expect(d->how & TENANT_WIDE, 0) ? parse_flow_plain(frame, DP_IPV6)
                                                                  : parse_flow_plain(frame, DP_IPV4);
        /* 2.13.1 */
        uint64_t eth = nvgre_push(pkt, nh, vsid, parse_flowid(flow) & host->flowid_mask, pkt->tos);
        underlay_send(host, pkt, nh, eth);
    } while (++d < end && tenant_runs(d, ACT_NVGRE));
    return d;
}

/* From the port's first own CA of the family, rewritten. The first packet behind the run. */
HOT struct tenant_pkt *tenant_rewrite_run(const struct tenant *t, struct tenant_pkt *d,
                                          const struct tenant_pkt *end)
{
    const struct host *host = t->host;
    const struct tables *tables = t->tables;
    const struct port_source *own4 = t->own.own4, *own6 = t->own.own6;
    const bool runs4 = own4 && own4->has_pa, runs6 = own6 && own6->has_pa;
    const uint32_t longest = host->underlay_mtu, source = runs4 ? load32(own4->pa) : 0;
    const uint64_t constant = runs4 ? rewrite_constant4(own4->ca, own4->pa) : 0;
    const uint16_t delta6 = runs6 ? rewrite_delta(DP_IPV6, own6->ca, own6->pa) : 0;
    do {
        struct pkt *pkt = d->pkt;
        const uint32_t hop = lookup_hop(&d->answer);
        const struct next_hop *nh = &tables->next_hops[hop];
        bool is4 = runs4 && d->source == own4, own = is4 || (runs6 && d->source == own6);
        if (__builtin_expect(pkt->l3_end - ETH_LEN > longest || !own || hop == REWRITE_HOP_NONE, 0)) {
            tenant_carry(t, d);
            continue;
        }
        if (__builtin_expect(is4, 1)) { /* 2.10.7 */
            rewrite_plain4(pkt->data, constant, source, lookup_pa4(&d->answer));
        } else {
            const struct rewrite *to = &tables->rewrites[act_index(d->answer.act)];
            rewrite_plain(pkt->data, DP_IPV6, delta6 + (uint32_t)(uint16_t)~to->delta, own6->pa, to->pa);
        }
        underlay_send(host, pkt, nh, next_hop_macs(nh, pkt->data)); /* 2.10.8 */
    } while (++d < end && tenant_runs(d, ACT_REWRITE));
    return d;
}

void from_tenant(const struct host *host, struct port *in, struct batch *batch)
{
    const struct tables *tables = host->tables;
    const struct port_policy *policy =
        __atomic_load_n((struct port_policy *const *)&tables->policies[in->id], __ATOMIC_ACQUIRE);
    struct tenant_pkt pkts[DP_BATCH], *d = pkts;
    uint64_t bytes = 0;
    if (!policy) { /* 2.1.1 */
        for (uint32_t i = 0; i < batch->n; i++)
            io_drop(host->io, &batch->pkt[i], DROP_PORT_NO_POLICY);
        return;
    }
    const struct tenant t = {
        .host = host, .tables = tables, .policy = policy, .in = in, .own = source_own(policy),
        .mac = mac_word(policy->mac), .router_mac = mac_word(tables->router_mac),
        .view4 = map_view(tables->records4), .view6 = map_view(tables->records6)};
    for (struct pkt *pkt = batch->pkt, *end = pkt + batch->n; pkt < end; pkt++) {
        enum drop drop = tenant_start(&t, pkt, d);
        if (__builtin_expect(drop, 0)) {
            io_refuse(host->io, in, pkt, drop);
            continue;
        }
        bytes += pkt->len;
        d++;
    }
    uint32_t n = (uint32_t)(d - pkts);
    tenant_look_up(&t, pkts, n);
    for (d = pkts; d < pkts + n;)
        if (__builtin_expect(tenant_runs(d, ACT_NVGRE), 1))
            d = tenant_push_run(&t, d, pkts + n);
        else if (tenant_runs(d, ACT_REWRITE))
            d = tenant_rewrite_run(&t, d, pkts + n);
        else
            tenant_carry(&t, d++);
    struct vsid_stats *stats = &host->io->vsid_stats[policy->subnet];
    stats_add(&stats->from_port, n); /* 4.4.1 */
    stats_add(&stats->from_port_bytes, bytes); /* 4.4.3 */
}
