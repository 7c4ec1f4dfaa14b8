/*
 * underlay.c: ARP, neighbour discovery and ping for our PAs, README.md 3.2, 3.3 and 3.7; requests and
 * announcements of our own.
 */
#include "underlay.h"
#include <stdatomic.h>
#include "arpnd.h"
#include "forward.h"
#include "parse.h"
#include "proxy.h"

void underlay_send(struct worker *worker, struct pkt *pkt, enum drop otherwise)
{
    struct port *underlay = dp_port(worker->dp, DP_UNDERLAY);
    if (underlay)
        worker_send(worker, underlay, pkt);
    else
        worker_drop(worker, pkt, otherwise);
}

/* ---- what others ask ------------------------------------------------------------------------- */

static bool is_own_pa(const struct worker *worker, unsigned family, const uint8_t *address)
{
    const struct tables *tables = dp_tables(worker->dp);
    struct map_value value = lookup_pa(tables, family, address);
    return value.act && forward_host(worker, tables, value.act) == worker->dp->config.self_host;
}

/* The packet has become its answer. */
static void answer(struct worker *worker, struct pkt *pkt)
{
    proxy_answered(worker, pkt);
    underlay_send(worker, pkt, DROP_PORT_DOWN);
}

void underlay_arp(struct worker *worker, struct pkt *pkt)
{
    const struct port *underlay = dp_port(worker->dp, DP_UNDERLAY);
    const uint8_t *arp = pkt->data + pkt->l3;
    if (neigh_hand_over(worker, pkt))
        return;
    bool known = neigh_learn(worker, DP_IPV4, arp + 14, arp + 8), ours = is_own_pa(worker, DP_IPV4, arp + 24);
    if (!ours && !known) {
        worker_drop(worker, pkt, DROP_UNDERLAY_NOT_OURS);
    } else if (!ours || !underlay || get16(arp + 6) == ARP_REPLY) {
        worker_consume(worker, pkt);
    } else {
        proxy_arp_reply(pkt, underlay->mac);
        answer(worker, pkt);
    }
}

void underlay_nd(struct worker *worker, struct pkt *pkt)
{
    const struct port *underlay = dp_port(worker->dp, DP_UNDERLAY);
    const uint8_t *lladdr, *target = pkt->data + pkt->l4 + 8;
    uint8_t type = pkt->data[pkt->l4];
    if (neigh_hand_over(worker, pkt))
        return;
    if (!proxy_nd_valid(pkt, &lladdr)) {
        worker_drop(worker, pkt, DROP_ND_MALFORMED);
    } else if (type == ND_NA && neigh_learn(worker, DP_IPV6, target, lladdr ? lladdr : pkt->data + 6)) {
        worker_consume(worker, pkt);
    } else if (type == ND_NS && underlay && is_own_pa(worker, DP_IPV6, target)) {
        if (lladdr)
            neigh_learn(worker, DP_IPV6, pkt_source(pkt), lladdr);
        proxy_na_reply(pkt, underlay->mac, 0);
        answer(worker, pkt);
    } else {
        worker_drop(worker, pkt, DROP_UNDERLAY_NOT_OURS);
    }
}

void underlay_echo(struct worker *worker, struct pkt *pkt)
{
    const struct port *underlay = dp_port(worker->dp, DP_UNDERLAY);
    enum drop drop = underlay ? DROP_NONE : DROP_PORT_DOWN;
    if (!drop && (!is_host(pkt->l3_type, pkt_source(pkt)) || is_own_pa(worker, pkt->l3_type, pkt_source(pkt))))
        drop = DROP_PA_PROTOCOL;
    if (!drop)
        drop = parse_offload(&worker->dp->arena, pkt);
    if (worker_dropped(worker, pkt, drop))
        return;
    proxy_echo_reply(pkt, underlay->mac);
    answer(worker, pkt);
}

/* ---- what we say ----------------------------------------------------------------------------- */

/* A frame of ours; NULL, and nothing was made, without a slot. */
static struct pkt *make(struct worker *worker, uint16_t len, uint64_t time)
{
    struct pkt *pkt = worker_make(worker);
    if (!pool_pkt_new(&worker->pool, pkt))
        return NULL;
    pkt->len = pkt->head = len;
    pkt->time = time;
    pkt->in_port = DP_UNDERLAY;
    worker_originated(worker, DP_UNDERLAY, 1);
    return pkt;
}

static void send_arp(struct worker *worker, const struct arpnd_arp *arp, uint64_t time)
{
    struct pkt *pkt = make(worker, ARP_FRAME, time);
    if (!pkt)
        return;
    arpnd_arp(pkt->data, arp);
    underlay_send(worker, pkt, DROP_STOPPED);
}

static void send_nd(struct worker *worker, const struct arpnd_nd *nd, uint64_t time)
{
    struct pkt *pkt = make(worker, ND_FRAME, time);
    if (!pkt)
        return;
    arpnd_nd(pkt->data, nd);
    underlay_send(worker, pkt, DROP_STOPPED);
}

static const uint8_t no_mac[6];

/*
 * Who asks: this host's first shared PA of the family, else the lowest rewrite PA of a CA that lives here;
 * NULL: it has none.
 */
static const uint8_t *asking_pa(const struct tables *tables, unsigned family)
{
    const uint8_t *shared = family == DP_IPV4 ? tables->shared_pa4 : tables->shared_pa6, *lowest = NULL;
    if (!is_any(family, shared))
        return shared;
    for (unsigned port = 0; port < DP_MAX_PORTS; port++) {
        const struct port_policy *policy = atomic_load(&tables->policies[port]);
        for (unsigned i = 0; policy && i < policy->n4 + policy->n6; i++) {
            const struct port_source *source = &policy->sources[i];
            if (source->has_pa && source->family == family && (!lowest || memcmp(source->pa, lowest, 16) < 0))
                lowest = source->pa;
        }
    }
    return lowest;
}

void underlay_ask(struct worker *worker, unsigned family, const uint8_t *address, const uint8_t *mac,
                  uint64_t time)
{
    const struct port *underlay = dp_port(worker->dp, DP_UNDERLAY);
    const uint8_t *own = asking_pa(dp_tables(worker->dp), family);
    uint8_t group[16], group_mac[6];
    if (!underlay || !own)
        return;
    if (family == DP_IPV4) {
        const struct arpnd_arp arp = {.to = mac ? mac : arpnd_broadcast, .mac = underlay->mac, .sender = own,
                                      .target_mac = no_mac, .target = address, .op = ARP_REQUEST};
        send_arp(worker, &arp, time);
        return;
    }
    arpnd_solicited_node(address, group, group_mac);
    const struct arpnd_nd ns = {.to = mac ? mac : group_mac, .mac = underlay->mac, .source = own,
                                .destination = mac ? address : group, .target = address, .type = ND_NS};
    send_nd(worker, &ns, time);
}

void underlay_announce(struct worker *worker, unsigned family, const uint8_t *address)
{
    const struct port *underlay = dp_port(worker->dp, DP_UNDERLAY);
    if (!underlay)
        return;
    if (family == DP_IPV4) {
        const struct arpnd_arp arp = {.to = arpnd_broadcast, .mac = underlay->mac, .sender = address,
                                      .target_mac = no_mac, .target = address, .op = ARP_REQUEST};
        send_arp(worker, &arp, worker->now);
        return;
    }
    const struct arpnd_nd na = {.to = arpnd_all_nodes_mac, .mac = underlay->mac, .source = address,
                                .destination = arpnd_all_nodes, .target = address, .type = ND_NA,
                                .flags = ND_NA_OVERRIDE};
    send_nd(worker, &na, worker->now);
}

/* ---- dp_api.h -------------------------------------------------------------------------------- */

static bool announce(void *ctx, const uint64_t *key, const struct map_value *value)
{
    struct dp *dp = ctx;
    bool ip4 = key_is_pa4(key);
    if (forward_host(&dp->workers[0], dp_tables(dp), value->act) == dp->config.self_host)
        neigh_announce(dp, ip4 ? DP_IPV4 : DP_IPV6, (const uint8_t *)(ip4 ? key : key + 1));
    return true;
}

int dp_announce(struct dp *dp)
{
    if (!dp_port(dp, DP_UNDERLAY))
        return DP_ENOENT;
    map_each(dp_tables(dp)->pas4, announce, dp);
    map_each(dp_tables(dp)->pas6, announce, dp);
    neigh_ask_all(dp);
    return DP_OK;
}
