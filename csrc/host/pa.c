/* pa.c: ARP, neighbour discovery and ping for our PAs, README.md 3.2, 3.3 and 3.7. */
#include "host/pa.h"
#include "host/neigh.h"
#include "pkt/offload.h"
#include "step/arpnd.h"
#include "step/icmp.h"
#include "table/lookup.h"

static void pa_arp(const struct host *host, struct pkt *pkt)
{
    const uint8_t *arp = pkt->data + pkt->l3;
    if (neigh_hand_over(host, pkt))
        return;
    /* 3.2.1 */
    bool known = neigh_learn(host, DP_IPV4, arp + 14, arp + 8);
    bool ours = lookup_is_own_pa(host->tables, DP_IPV4, arp + 24);
    if (!ours && !known) { /* 3.2.4 */
        io_drop(host->io, pkt, DROP_UNDERLAY_NOT_OURS);
    } else if (!ours || !host->underlay || get16(arp + 6) == ARP_REPLY) { /* 3.2.5, 3.2.7 */
        io_consume(host->io, pkt);
    } else {
        arpnd_arp_reply(pkt, host->underlay->mac); /* 3.2.6 */
        io_answer(host->io, host->underlay, pkt);
    }
}

static void pa_nd(const struct host *host, struct pkt *pkt)
{
    const uint8_t *lladdr, *target = pkt->data + pkt->l4 + 8;
    uint8_t type = pkt->data[pkt->l4];
    if (neigh_hand_over(host, pkt))
        return;
    if (!arpnd_nd_valid(pkt, &lladdr)) { /* 3.3.1 */
        io_drop(host->io, pkt, DROP_ND_MALFORMED);
    } else if (type == ND_NA && neigh_learn(host, DP_IPV6, target, lladdr ? lladdr : pkt->data + 6)) {
        io_consume(host->io, pkt); /* 3.3.2 */
    } else if (type == ND_NS && host->underlay && lookup_is_own_pa(host->tables, DP_IPV6, target)) {
        if (lladdr) /* 3.3.4 */
            neigh_learn(host, DP_IPV6, pkt_source(pkt), lladdr);
        arpnd_na_reply(pkt, host->underlay->mac, 0); /* 3.3.3 */
        io_answer(host->io, host->underlay, pkt);
    } else {
        io_drop(host->io, pkt, DROP_UNDERLAY_NOT_OURS); /* 3.3.5 */
    }
}

void pa_arpnd(const struct host *host, struct pkt *pkt)
{
    if (pkt->l3_type == PKT_L3_ARP)
        pa_arp(host, pkt);
    else
        pa_nd(host, pkt);
}

void pa_echo(const struct host *host, struct pkt *pkt)
{
    const uint8_t *source = pkt_source(pkt);
    enum drop drop = host->underlay ? DROP_NONE : DROP_PORT_DOWN;
    bool foreign = is_host(pkt->l3_type, source) && !lookup_is_own_pa(host->tables, pkt->l3_type, source);
    if (!drop && !foreign) /* 3.7.1, 3.7.2 */
        drop = DROP_PA_PROTOCOL;
    if (!drop)
        drop = offload_check(host->io->pool.arena, pkt); /* 3.7.3 */
    if (io_dropped(host->io, pkt, drop))
        return;
    icmp_echo_reply(host->io->pool.arena, pkt, host->underlay->mac); /* 3.7.4 */
    io_answer(host->io, host->underlay, pkt);
}

void pa_timers(const struct host *host)
{
    struct neigh_taking taking = {0};
    struct pkt *pkt;
    if (host->io->id)
        return;
    while ((pkt = neigh_take(host, &taking)))
        pa_arpnd(host, pkt);
    neigh_due(host);
}
