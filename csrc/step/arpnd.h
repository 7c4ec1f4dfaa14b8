/*
 * arpnd.h: ARP and ND: messages made from scratch as whole untagged frames, received ones checked, requests
 * turned into answers in place. Addresses and MACs in network order. Called by proxy, pa and
 * ask.
 */
#ifndef ARPND_H
#define ARPND_H
#include "pkt/pool.h"

enum { ARP_FRAME = ETH_LEN + ARP_LEN, ND_FRAME = ETH_LEN + IP6_LEN + ND_LEN + 8 };

/* Bytes of what the next two write. */
static inline uint16_t arpnd_len(unsigned family) { return family == DP_IPV4 ? ARP_FRAME : ND_FRAME; }
/*
 * ARP request or NS: who has `address`? From a host that has the MAC `from` and the address `own`, to the one
 * that had the MAC `to`; NULL: to all.
 */
void arpnd_request(uint8_t *frame, unsigned family, const uint8_t *from, const uint8_t *own,
                   const uint8_t *to, const uint8_t *address);
/*
 * To all: the host with this MAC has `address`. Gratuitous ARP request (RFC 5227 section 3), unsolicited NA
 * (RFC 4861 section 7.2.6).
 */
void arpnd_announcement(uint8_t *frame, unsigned family, const uint8_t *from, const uint8_t *address);

/* The ARP message of a parsed packet. */
static inline const uint8_t *arpnd_body(const struct pkt *pkt) { return pkt->data + pkt->l3; }

/* A parsed packet is ARP, or an ND message that is no later fragment: ICMPv6 types 133..137. */
bool arpnd_is(const struct pkt *pkt);
/*
 * Checks length, hop limit, code, checksum, options (RFC 4861 section 7.1); *lladdr: the link-layer address
 * option's MAC or NULL.
 */
bool arpnd_nd_valid(const struct pkt *pkt, const uint8_t **lladdr);
/*
 * Turns a received request into its answer in place (same slot): MACs, addresses, lengths, checksum. Counts
 * nothing. `mac`: whose answer it is. flags: ND_NA_ROUTER or 0. What the parser found is void afterwards.
 */
void arpnd_arp_reply(struct pkt *pkt, const uint8_t *mac);
void arpnd_na_reply(struct pkt *pkt, const uint8_t *mac, uint8_t flags);

#endif
