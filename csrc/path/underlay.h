/*
 * underlay.h: to another host, by NVGRE or rewritten, README.md 2.10 to 2.12. A parsed packet in, whose inner
 * MACs and TTL are those of its receiver; it is sent, held or dropped. Called by from_tenant and
 * from_provider.
 */
#ifndef UNDERLAY_H
#define UNDERLAY_H
#include "base/hot.h"
#include "host/host.h"
#include "pkt/parse.h"
#include "step/nvgre.h"

/* A complete underlay frame, MACs aside, whose neighbour is not known, or that has no device to leave by. */
void underlay_wait(const struct host *host, struct pkt *pkt, const struct next_hop *nh);
/*
 * What has offloads, a next hop without header, or no room: whole, segmented, completed, or dropped for what
 * is wrong with it.
 */
void underlay_push_rest(const struct host *host, struct pkt *pkt, const struct next_hop *nh, uint32_t vsid);
/* As an IP packet between two PAs, which it has already; MACs are set. */
void underlay_rewritten(const struct host *host, struct pkt *pkt, const struct next_hop *nh);

/* `eth`: the frame's first word, the next hop's. */
HOT void underlay_send(const struct host *host, struct pkt *pkt, const struct next_hop *nh, uint64_t eth)
{
    if (__builtin_expect(eth && host->underlay, 1))
        io_send(host->io, host->underlay, pkt);
    else
        underlay_wait(host, pkt, nh);
}

/* Into NVGRE by the next hop. */
HOT void underlay_push(const struct host *host, struct pkt *pkt, const struct next_hop *nh, uint32_t vsid)
{
    /* the frame in any header, as most do */
    bool fits = pkt->len <= host->underlay_frame && next_hop_header_len(nh);
    if (__builtin_expect(!fits || pkt_offloaded(pkt), 0)) {
        underlay_push_rest(host, pkt, nh, vsid);
        return;
    }
    uint8_t flowid = parse_flowid(parse_flow(pkt)) & host->flowid_mask; /* 2.13.1 */
    underlay_send(host, pkt, nh, nvgre_push(pkt, nh, vsid, flowid, pkt->tos));
}

#endif
