/* proxy.h: the distributed router and the ARP/ND proxy: answers for known CAs and gateways, and their pings. */
#ifndef PROXY_H
#define PROXY_H
#include "engine.h"
#include "nvgre.h"

/* From a tenant port: takes an ARP or ND packet (parsed, tag stripped, source MAC checked). */
void proxy_arp(struct worker *worker, const struct tables *tables, const struct port_policy *policy,
               struct port *in, struct pkt *pkt);
void proxy_nd(struct worker *worker, const struct tables *tables, const struct port_policy *policy,
              struct port *in, struct pkt *pkt);
/*
 * Through the tunnel, parsed inner frame, ND valid and neither RA nor redirect; its sender is known to live
 * on nh's host. Answered back by nh with the VSID.
 */
void proxy_tunnel_arp(struct worker *worker, const struct tables *tables, const struct subnet *subnet,
                      struct next_hop *nh, struct pkt *pkt);
void proxy_tunnel_nd(struct worker *worker, const struct tables *tables, const struct subnet *subnet,
                     struct next_hop *nh, struct pkt *pkt);
/* A packet to a gateway CA: answers an echo request out of `in`, else drops (router-local). */
void proxy_router(struct worker *worker, struct port *in, struct pkt *pkt);
/* An echo request that can be answered in place: whole, and without IPv4 options. */
bool proxy_is_echo(const struct pkt *pkt);

/* An ND message of a parsed ICMPv6 packet that is no later fragment: types 133..137. */
bool proxy_is_nd(const struct pkt *pkt);
/*
 * Checks length, hop limit, code, checksum, options (RFC 4861 section 7.1); *lladdr: the link-layer address
 * option's MAC or NULL.
 */
bool proxy_nd_valid(const struct pkt *pkt, const uint8_t **lladdr);
/*
 * Turns a received request into its answer in place (same slot): MACs, addresses, lengths, checksum. Counts
 * nothing. `mac`: whose answer it is. flags: ND_NA_ROUTER or 0. What the parser found is void afterwards, but
 * for the echo.
 */
void proxy_arp_reply(struct pkt *pkt, const uint8_t *mac);
void proxy_na_reply(struct pkt *pkt, const uint8_t *mac, uint8_t flags);
void proxy_echo_reply(struct pkt *pkt, const uint8_t *mac);
/* Counts a request that has become its answer: consumed and originated where it came in. */
static inline void proxy_answered(struct worker *worker, const struct pkt *pkt)
{
    stats_add(&worker->stats[pkt->in_port]->consumed, 1);
    worker_originated(worker, pkt->in_port, 1);
}

#endif
