/* underlay.c: to another host, by NVGRE or rewritten, README.md 2.10 to 2.12. From from_tenant and from_provider, out by io.h. */
#include "host/neigh.h"
#include "path/path.h"
#include "path/segments.h"
#include "pkt/offload.h"
#include "pkt/parse.h"
#include "step/nvgre.h"
#include "step/rewrite.h"

/* A complete underlay frame, MACs aside: sends it by the next hop's neighbour, or waits for that. */
static void underlay_send(const struct host *host, struct pkt *pkt, const struct next_hop *nh)
{
    if (!host->underlay)
        io_drop(host->io, pkt, DROP_PORT_DOWN);
    else if (__builtin_expect(load64(pkt->data) != 0, 1))
        io_send(host->io, host->underlay, pkt);
    else if (nh->neigh == INDEX_NONE)
        io_drop(host->io, pkt, DROP_NO_PROVIDER_ROUTE);
    else if (!pool_pkt_own(&host->io->pool, pkt))
        io_drop(host->io, pkt, DROP_NO_SLOT);
    else
        neigh_hold(host, nh->neigh, pkt);
}

/* What every segment of one packet is pushed with. */
struct underlay_push {
    const struct next_hop *nh;
    uint32_t vsid;
    uint8_t flowid, tos;
};

static inline void underlay_push_one(const struct host *host, struct pkt *pkt, const struct underlay_push *push)
{
    if (pkt->flags & PKT_PARTIAL && !offload_finish(host->io->pool.arena, pkt)) {
        io_drop(host->io, pkt, DROP_BAD_OFFLOAD);
        return;
    }
    nvgre_push(pkt, push->nh, push->vsid, push->flowid, push->tos);
    underlay_send(host, pkt, push->nh);
}

void underlay_push(const struct host *host, struct pkt *pkt, const struct next_hop *nh, uint32_t vsid)
{
    if (nh->header_len == 0) {
        io_drop(host->io, pkt, DROP_NO_SHARED_PA);
        return;
    }
    uint32_t frame_len = pkt->gso ? gso_l3_len(pkt) + ETH_LEN : pkt->len;
    if (host->underlay && frame_len + nh->header_len - ETH_LEN > host->underlay->mtu) {
        io_drop(host->io, pkt, DROP_TOO_BIG);
        return;
    }
    uint8_t flowid = host->tables->flowid_off ? 0 : parse_flowid(parse_flow(pkt));
    const struct underlay_push push = {nh, vsid, flowid, pkt->tos};
    if (__builtin_expect(!pkt->gso, 1)) {
        underlay_push_one(host, pkt, &push);
        return;
    }
    struct gso_cut cut = gso_begin(host->io->pool.arena, pkt);
    for (struct pkt *segment; (segment = path_segment(host->io, &cut, pkt));)
        underlay_push_one(host, segment, &push);
}

void underlay_answer(const struct host *host, struct pkt *pkt, const struct next_hop *nh, uint32_t vsid, uint8_t flowid)
{
    io_answered(host->io, pkt);
    if (nh->header_len == 0) {
        io_drop(host->io, pkt, DROP_NO_SHARED_PA);
        return;
    }
    nvgre_push(pkt, nh, vsid, host->tables->flowid_off ? 0 : flowid, 0);
    underlay_send(host, pkt, nh);
}

void underlay_rewrite(const struct host *host, struct pkt *pkt, const uint8_t *source_pa, const struct rewrite *to)
{
    const struct next_hop *nh = &host->tables->next_hops[to->next_hop];
    rewrite_addresses(pkt, source_pa, to->pa);
    uint64_t eth = __atomic_load_n((const uint64_t *)&nh->eth, __ATOMIC_RELAXED);
    memcpy(pkt->data, &eth, 8);
    memcpy(pkt->data + 8, nh->header + 8, 4);
    if (!host->underlay || port_takes_gso(host->underlay, pkt)) {
        underlay_send(host, pkt, nh);
        return;
    }
    struct gso_cut cut = gso_begin(host->io->pool.arena, pkt);
    for (struct pkt *segment; (segment = path_segment(host->io, &cut, pkt));)
        underlay_send(host, segment, nh);
}
