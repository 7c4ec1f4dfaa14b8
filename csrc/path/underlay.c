/*
 * underlay.c: what is rare on the way to another host: offloads, waiting for a neighbour, and reasons not to
 * go.
 */
#include "path/underlay.h"
#include "host/neigh.h"
#include "port/segments.h"
#include "pkt/offload.h"

void underlay_wait(const struct host *host, struct pkt *pkt, const struct next_hop *nh)
{
    uint32_t neigh = __atomic_load_n(&nh->neigh, __ATOMIC_ACQUIRE);
    if (!host->underlay) /* 2.12.1 */
        io_drop(host->io, pkt, DROP_PORT_DOWN);
    else if (neigh == INDEX_NONE) /* 2.12.2 */
        io_drop(host->io, pkt, DROP_NO_PROVIDER_ROUTE);
    else if (!pool_pkt_own(&host->io->pool, pkt)) /* 4.5.1 */
        io_drop(host->io, pkt, DROP_NO_SLOT);
    else
        neigh_hold(host, neigh, pkt);
}

static void underlay_push_one(const struct host *host, struct pkt *pkt, const struct next_hop *nh,
                              uint32_t vsid, uint8_t flowid)
{
    const uint8_t *inner = pkt->data;
    bool bad = pkt->flags & PKT_PARTIAL && !pkt->gso && !offload_finish(host->io->pool.arena, pkt);
    if (io_dropped(host->io, pkt, bad ? DROP_BAD_OFFLOAD : DROP_NONE)) /* 2.11.6 */
        return;
    uint64_t eth = nvgre_push(pkt, nh, vsid, flowid, pkt->tos);
    pkt_tunnel(pkt, inner - pkt->data);
    underlay_send(host, pkt, nh, eth);
}

enum drop underlay_check(const struct host *host, const struct pkt *pkt, const struct next_hop *nh)
{
    uint32_t frame_len = pkt->gso ? gso_l3_len(pkt) + ETH_LEN : pkt->len;
    uint8_t header_len = next_hop_header_len(nh);
    if (!header_len) /* 2.11.3 */
        return DROP_NO_SHARED_PA;
    return frame_len + header_len - ETH_LEN > host->underlay_mtu ? DROP_TOO_BIG : DROP_NONE; /* 2.11.4 */
}

void underlay_push_rest(const struct host *host, struct pkt *pkt, const struct next_hop *nh, uint32_t vsid)
{
    const uint8_t header_len = next_hop_header_len(nh);
    uint8_t flowid = parse_flowid(parse_flow(pkt)) & host->flowid_mask; /* 2.13.1 */
    if (!pkt->gso || (host->underlay && port_takes_tunnelled(host->underlay, pkt, header_len))) {
        pkt_trim(pkt, pkt->gso ? pkt->l3_end : pkt->len);
        underlay_push_one(host, pkt, nh, vsid, flowid);
        return;
    }
    struct gso_cut cut = gso_begin(host->io->pool.arena, pkt); /* 2.11.5 */
    for (struct pkt *segment; (segment = segments_next(host->io, &cut, pkt));)
        underlay_push_one(host, segment, nh, vsid, flowid);
}

void underlay_rewritten(const struct host *host, struct pkt *pkt, const struct next_hop *nh)
{
    if (!host->underlay || port_takes_gso(host->underlay, pkt)) { /* 2.10.9 */
        underlay_send(host, pkt, nh, load64(pkt->data));
        return;
    }
    struct gso_cut cut = gso_begin(host->io->pool.arena, pkt);
    for (struct pkt *segment; (segment = segments_next(host->io, &cut, pkt));)
        underlay_send(host, segment, nh, load64(segment->data));
}
