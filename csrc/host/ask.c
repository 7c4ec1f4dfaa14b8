/* ask.c: requests and announcements of our own, README.md 2.12. */
#include "host/ask.h"
#include <stdatomic.h>
#include "step/arpnd.h"

/*
 * A frame of ours, queued already, whose bytes are to be written; NULL, and nothing was made, without a
 * slot.
 */
static uint8_t *ask_send(const struct host *host, uint16_t len, uint64_t time)
{
    struct pkt *pkt = io_make(host->io);
    if (!pool_pkt_new(&host->io->pool, pkt))
        return NULL;
    pkt->len = pkt->head = len;
    pkt->time = time;
    pkt->in_port = DP_UNDERLAY;
    io_originated(host->io, DP_UNDERLAY, 1);
    io_send(host->io, host->underlay, pkt);
    return pkt->data;
}

static void ask_send_arp(const struct host *host, const struct arpnd_arp *arp, uint64_t time)
{
    uint8_t *frame = ask_send(host, ARP_FRAME, time);
    if (frame)
        arpnd_arp(frame, arp);
}

static void ask_send_nd(const struct host *host, const struct arpnd_nd *nd, uint64_t time)
{
    uint8_t *frame = ask_send(host, ND_FRAME, time);
    if (frame)
        arpnd_nd(frame, nd);
}

static const uint8_t ask_no_mac[6];

/*
 * Who asks: this host's first shared PA of the family, else the lowest rewrite PA of a CA that lives here;
 * NULL: it has none.
 */
static const uint8_t *ask_source(const struct tables *tables, unsigned family)
{
    const uint8_t *shared = family == DP_IPV4 ? tables->shared_pa4 : tables->shared_pa6, *lowest = NULL;
    if (!is_any(family, shared)) /* 2.12.10 */
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

void ask_for(const struct host *host, unsigned family, const uint8_t *address, const uint8_t *mac,
             uint64_t time)
{
    const uint8_t *own = ask_source(host->tables, family);
    uint8_t group[16], group_mac[6];
    if (!host->underlay || !own) /* 2.12.10 */
        return;
    if (family == DP_IPV4) {
        const struct arpnd_arp arp = { /* 2.12.9 */
            .to = mac ? mac : arpnd_broadcast, .mac = host->underlay->mac, .sender = own,
            .target_mac = ask_no_mac, .target = address, .op = ARP_REQUEST};
        ask_send_arp(host, &arp, time);
        return;
    }
    arpnd_solicited_node(address, group, group_mac);
    /* 2.12.9 */
    const struct arpnd_nd ns = {.to = mac ? mac : group_mac, .mac = host->underlay->mac, .source = own,
                                .destination = mac ? address : group, .target = address, .type = ND_NS};
    ask_send_nd(host, &ns, time);
}

void ask_announce(const struct host *host, unsigned family, const uint8_t *address)
{
    if (!host->underlay)
        return;
    if (family == DP_IPV4) {
        const struct arpnd_arp arp = {.to = arpnd_broadcast, .mac = host->underlay->mac, .sender = address,
                                      .target_mac = ask_no_mac, .target = address, .op = ARP_REQUEST};
        ask_send_arp(host, &arp, host->io->now);
        return;
    }
    const struct arpnd_nd na = {.to = arpnd_all_nodes_mac, .mac = host->underlay->mac, .source = address,
                                .destination = arpnd_all_nodes, .target = address, .type = ND_NA,
                                .flags = ND_NA_OVERRIDE};
    ask_send_nd(host, &na, host->io->now);
}
