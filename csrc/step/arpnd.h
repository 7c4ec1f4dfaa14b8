/*
 * arpnd.h: ARP and ND: messages made from scratch as whole untagged frames, received ones checked, requests
 * turned into answers in place. Addresses and MACs in network order. Called by proxy and pa.
 */
#ifndef ARPND_H
#define ARPND_H
#include "pkt/pool.h"

enum { ARP_FRAME = ETH_LEN + ARP_LEN, ND_FRAME = ETH_LEN + IP6_LEN + ND_LEN + 8 };

struct arpnd_arp {
    const uint8_t *to;              /* Ethernet destination */
    const uint8_t *mac;             /* Ethernet source, and sender's MAC */
    const uint8_t *sender;
    const uint8_t *target_mac;
    const uint8_t *target;
    uint16_t op;                    /* ARP_REQUEST or ARP_REPLY */
};

/* Writes ARP_FRAME bytes. */
void arpnd_arp(uint8_t *frame, const struct arpnd_arp *arp);

struct arpnd_nd {
    const uint8_t *to;              /* Ethernet destination */
    const uint8_t *mac;             /* Ethernet source, and what the link-layer address option says */
    const uint8_t *source;
    const uint8_t *destination;
    const uint8_t *target;
    uint8_t type;                   /* ND_NS with a source, ND_NA with a target link-layer address option */
    uint8_t flags;                  /* ND_NA_... */
};

/* Writes ND_FRAME bytes: hop limit 255, traffic class and flow label 0. */
void arpnd_nd(uint8_t *frame, const struct arpnd_nd *nd);

extern const uint8_t arpnd_broadcast[6];
extern const uint8_t arpnd_all_nodes[16], arpnd_all_nodes_mac[6];
/*
 * RFC 4291 section 2.7.1, RFC 2464 section 7: the group (16 bytes) and MAC (6 bytes) that solicitations of an
 * address go to.
 */
void arpnd_solicited_node(const uint8_t *address, uint8_t *group, uint8_t *mac);

/* The ARP message of a parsed packet. */
static inline const uint8_t *arpnd_body(const struct pkt *pkt) { return pkt->data + pkt->l3; }

/* An ND message of a parsed ICMPv6 packet that is no later fragment: types 133..137. */
bool arpnd_is_nd(const struct pkt *pkt);
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
