/* forward.c: lookups by single key, and the ways out of the core. */
#include "forward.h"
#include "csum.h"
#include "gso.h"
#include "nvgre.h"
#include "parse.h"
#include "rewrite.h"

static const uint8_t any_address[16];

static struct map_value look_up(const struct map *map, const uint64_t *key)
{
    struct map_value value;
    return map_get(map, key, &value) ? value : (struct map_value){0};
}

static struct map_value lookup_key(const struct tables *tables, uint32_t vsid, unsigned family, const uint8_t *ca)
{
    uint64_t key[3];
    key_record(key, vsid, family, ca);
    return look_up(family == DP_IPV4 ? tables->records4 : tables->records6, key);
}

struct map_value lookup_record(const struct tables *tables, uint32_t vsid, unsigned family, const uint8_t *ca)
{
    return is_any(family, ca) ? (struct map_value){0} : lookup_key(tables, vsid, family, ca);
}

struct map_value lookup_wildcard(const struct tables *tables, uint32_t vsid, unsigned family)
{
    return lookup_key(tables, vsid, family, any_address);
}

struct map_value lookup_pa(const struct tables *tables, unsigned family, const uint8_t *pa)
{
    uint64_t key[3];
    key_pa(key, family, pa);
    return look_up(family == DP_IPV4 ? tables->pas4 : tables->pas6, key);
}

uint32_t forward_host(const struct worker *worker, const struct tables *tables, uint32_t act)
{
    switch (act_kind(act)) {
    case ACT_NVGRE:
    case ACT_PA_HOST:
        return tables->next_hops[act_index(act)].host;
    case ACT_REWRITE:
    case ACT_PA_REWRITE:
        return tables->rewrites[act_index(act)].host;
    case ACT_LOCAL:
    case ACT_PA_SELF:
        return worker->dp->config.self_host;
    default:
        return POOL_NONE;
    }
}

static bool takes_gso(const struct port *port, const struct pkt *pkt)
{
    return pkt->gso == DP_GSO_NONE || port->offloads & (pkt->gso == DP_GSO_TCP4 ? DP_OFFLOAD_TSO4 : DP_OFFLOAD_TSO6);
}

static void send_segment(void *port, struct worker *worker, struct pkt *segment)
{
    worker_send(worker, port, segment);
}

void forward_deliver(struct worker *worker, struct pkt *pkt, uint32_t port_id, uint32_t subnet)
{
    struct port *port = dp_port(worker->dp, port_id);
    enum drop drop = !port ? DROP_PORT_DOWN : gso_l3_len(pkt) > port->mtu ? DROP_TOO_BIG : DROP_NONE;
    if (worker_dropped(worker, pkt, drop))
        return;
    struct vsid_stats *stats = &worker->vsid_stats[subnet < SUBNET_STATS ? subnet : SUBNET_STATS - 1];
    stats_add(&stats->to_port, 1);
    stats_add(&stats->to_port_bytes, pkt->len);
    if (takes_gso(port, pkt))
        worker_send(worker, port, pkt);
    else
        gso_segment(worker, pkt, send_segment, port);
}

void forward_underlay(struct worker *worker, struct pkt *pkt, const struct next_hop *nh)
{
    struct port *underlay = dp_port(worker->dp, DP_UNDERLAY);
    if (!underlay)
        worker_drop(worker, pkt, DROP_PORT_DOWN);
    else if (__builtin_expect(load64(pkt->data) != 0, 1))
        worker_send(worker, underlay, pkt);
    else if (nh->neigh == POOL_NONE)
        worker_drop(worker, pkt, DROP_NO_PROVIDER_ROUTE);
    else
        neigh_hold(worker, nh->neigh, pkt);
}

static uint32_t underlay_mtu(const struct worker *worker)
{
    const struct port *underlay = dp_port(worker->dp, DP_UNDERLAY);
    return underlay ? underlay->mtu : UINT32_MAX;
}

/* What every segment of one packet is pushed with. */
struct push {
    const struct next_hop *nh;
    uint32_t vsid;
    uint8_t flowid, tos;
};

static inline void push_one(struct worker *worker, struct pkt *pkt, const struct push *push)
{
    if (pkt->flags & PKT_PARTIAL && !csum_finish(&worker->dp->arena, pkt)) {
        worker_drop(worker, pkt, DROP_BAD_OFFLOAD);
        return;
    }
    nvgre_push(pkt, push->nh, push->vsid, push->flowid, push->tos);
    forward_underlay(worker, pkt, push->nh);
}

static void push_segment(void *push, struct worker *worker, struct pkt *segment)
{
    push_one(worker, segment, push);
}

void forward_push(struct worker *worker, struct pkt *pkt, const struct next_hop *nh, uint32_t vsid)
{
    if (nh->header_len == 0) {
        worker_drop(worker, pkt, DROP_NO_SHARED_PA);
        return;
    }
    uint32_t frame_len = pkt->gso ? gso_l3_len(pkt) + ETH_LEN : pkt->len;
    if (frame_len + nh->header_len - ETH_LEN > underlay_mtu(worker)) {
        worker_drop(worker, pkt, DROP_TOO_BIG);
        return;
    }
    bool off = worker->dp->config.flags & DP_FLOWID_OFF;
    struct push push = {nh, vsid, off ? 0 : parse_flowid(parse_flow(pkt)), pkt->tos};
    if (__builtin_expect(pkt->gso, 0))
        gso_segment(worker, pkt, push_segment, &push);
    else
        push_one(worker, pkt, &push);
}

static void underlay_segment(void *nh, struct worker *worker, struct pkt *segment)
{
    forward_underlay(worker, segment, nh);
}

void forward_rewrite(struct worker *worker, const struct tables *tables, struct pkt *pkt, const uint8_t *source_pa, const struct rewrite *to)
{
    struct next_hop *nh = &tables->next_hops[to->next_hop];
    struct port *underlay = dp_port(worker->dp, DP_UNDERLAY);
    rewrite_addresses(pkt, source_pa, to->pa);
    uint64_t eth = __atomic_load_n((const uint64_t *)&nh->eth, __ATOMIC_RELAXED);
    memcpy(pkt->data, &eth, 8);
    memcpy(pkt->data + 8, nh->header + 8, 4);
    if (!underlay || takes_gso(underlay, pkt))
        forward_underlay(worker, pkt, nh);
    else
        gso_segment(worker, pkt, underlay_segment, nh);
}
