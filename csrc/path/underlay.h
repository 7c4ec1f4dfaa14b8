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
/* Why the frame can't go into NVGRE by the next hop. */
enum drop underlay_check(const struct host *host, const struct pkt *pkt, const struct next_hop *nh);
/* The largest IP packet, in bytes, that goes into NVGRE by it. */
static inline uint32_t underlay_room(const struct host *host, const struct next_hop *nh)
{
    const uint8_t header_len = next_hop_header_len(nh);
    return host->underlay_mtu > header_len ? host->underlay_mtu - header_len : 0; /* 2.15.8 */
}
/* What has offloads: whole, segmented or completed. */
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

/* The frame fits in any header, as most do: nobody need ask underlay_check(). */
HOT bool underlay_fits(const struct host *host, const struct pkt *pkt, const struct next_hop *nh)
{
    return pkt->len <= host->underlay_frame && next_hop_header_len(nh);
}

/* What may, into NVGRE by the next hop. */
HOT void underlay_push(const struct host *host, struct pkt *pkt, const struct next_hop *nh, uint32_t vsid)
{
    if (__builtin_expect(pkt_offloaded(pkt), 0)) {
        underlay_push_rest(host, pkt, nh, vsid);
        return;
    }
    uint8_t flowid = parse_flowid(parse_flow(pkt)) & host->flowid_mask; /* 2.13.1 */
    underlay_send(host, pkt, nh, nvgre_push(pkt, nh, vsid, flowid, pkt->tos));
}

#endif
