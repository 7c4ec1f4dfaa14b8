/*
 * arpnd.h: the ARP and ND messages that the core makes, as whole untagged frames. Addresses and MACs in
 * network order.
 */
#ifndef ARPND_H
#define ARPND_H
#include "pkt.h"

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

#endif
