/* arpnd.c: ARP (RFC 826) and neighbour discovery (RFC 4861 sections 4.3, 4.4) from scratch. */
#include "step/arpnd.h"
#include "base/csum.h"
#include "pkt/offload.h"

static const uint8_t arpnd_broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
static const uint8_t arpnd_all_nodes[16] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
static const uint8_t arpnd_all_nodes_mac[6] = {0x33, 0x33, 0, 0, 0, 1};
static const uint8_t arpnd_no_mac[6];

static void arpnd_put_eth(uint8_t *frame, const uint8_t *to, const uint8_t *from, uint16_t type)
{
    memcpy(frame, to, 6);
    memcpy(frame + 6, from, 6);
    put16(frame + 12, type);
}

struct arpnd_arp {
    const uint8_t *to;              /* Ethernet destination */
    const uint8_t *mac;             /* Ethernet source, and sender's MAC */
    const uint8_t *sender;
    const uint8_t *target_mac;
    const uint8_t *target;
    uint16_t op;                    /* ARP_REQUEST or ARP_REPLY */
};

/* Writes ARP_FRAME bytes. */
static void arpnd_arp(uint8_t *frame, const struct arpnd_arp *arp)
{
    uint8_t *body = frame + ETH_LEN;
    arpnd_put_eth(frame, arp->to, arp->mac, ETHERTYPE_ARP);
    put16(body, 1);
    put16(body + 2, ETHERTYPE_IP4);
    body[4] = 6;
    body[5] = 4;
    put16(body + 6, arp->op);
    memcpy(body + 8, arp->mac, 6);
    memcpy(body + 14, arp->sender, 4);
    memcpy(body + 18, arp->target_mac, 6);
    memcpy(body + 24, arp->target, 4);
}

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
static void arpnd_nd(uint8_t *frame, const struct arpnd_nd *nd)
{
    enum { LEN = ND_LEN + 8 };
    uint8_t *ip = frame + ETH_LEN, *icmp = ip + IP6_LEN;
    arpnd_put_eth(frame, nd->to, nd->mac, ETHERTYPE_IP6);
    put32(ip, 6u << 28);
    put16(ip + 4, LEN);
    ip[6] = PROTO_ICMP6;
    ip[7] = 255;
    memcpy(ip + 8, nd->source, 16);
    memcpy(ip + 24, nd->destination, 16);
    memset(icmp, 0, 8);
    icmp[0] = nd->type;
    icmp[4] = nd->flags;
    memcpy(icmp + 8, nd->target, 16);
    icmp[24] = nd->type == ND_NS ? ND_OPT_SLLA : ND_OPT_TLLA;
    icmp[25] = 1;                   /* in units of 8 bytes */
    memcpy(icmp + 26, nd->mac, 6);
    struct pkt pkt = {.data = frame, .l3 = ETH_LEN, .l3_type = PKT_L3_IP6, .l4_proto = PROTO_ICMP6};
    uint16_t sum = (uint16_t)~csum_fold(csum_add(icmp, LEN, offload_pseudo(&pkt, LEN)));
    memcpy(icmp + 2, &sum, 2);
}

/* ---- of our own accord */

/*
 * RFC 4291 section 2.7.1, RFC 2464 section 7: the group (16 bytes) and MAC (6 bytes) that solicitations of an
 * address go to.
 */
static void arpnd_solicited_node(const uint8_t *address, uint8_t *group, uint8_t *mac)
{
    static const uint8_t prefix[13] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff};
    memcpy(group, prefix, sizeof prefix);
    memcpy(group + 13, address + 13, 3);
    mac[0] = mac[1] = 0x33;
    memcpy(mac + 2, group + 12, 4);
}

void arpnd_request(uint8_t *frame, unsigned family, const uint8_t *from, const uint8_t *own,
                   const uint8_t *to, const uint8_t *address)
{
    uint8_t group[16], group_mac[6];
    if (family == DP_IPV4) {
        const struct arpnd_arp arp = {.to = to ? to : arpnd_broadcast, .mac = from, .sender = own,
                                      .target_mac = arpnd_no_mac, .target = address, .op = ARP_REQUEST};
        arpnd_arp(frame, &arp);
        return;
    }
    arpnd_solicited_node(address, group, group_mac);
    const struct arpnd_nd ns = {.to = to ? to : group_mac, .mac = from, .source = own,
                                .destination = to ? address : group, .target = address, .type = ND_NS};
    arpnd_nd(frame, &ns);
}

void arpnd_announcement(uint8_t *frame, unsigned family, const uint8_t *from, const uint8_t *address)
{
    if (family == DP_IPV4) {
        arpnd_request(frame, family, from, address, NULL, address);
        return;
    }
    const struct arpnd_nd na = {.to = arpnd_all_nodes_mac, .mac = from, .source = address,
                                .destination = arpnd_all_nodes, .target = address, .type = ND_NA,
                                .flags = ND_NA_OVERRIDE};
    arpnd_nd(frame, &na);
}

/* ---- requests into answers */

/*
 * A frame of `len` bytes made in the packet's own first slot, behind its headroom: it may be longer than what
 * it replaces.
 */
static uint8_t *arpnd_restart(struct pkt *pkt, uint16_t len)
{
    pkt->data = (uint8_t *)((uintptr_t)pkt->data & ~(uintptr_t)(POOL_SLOT - 1)) + POOL_HEADROOM;
    pkt->len = pkt->head = len;
    pkt->flags = 0;
    pkt->gso = DP_GSO_NONE;
    return pkt->data;
}

void arpnd_arp_reply(struct pkt *pkt, const uint8_t *mac)
{
    uint8_t asker_mac[6], asker[4], target[4], to[6];
    memcpy(to, pkt->data + 6, 6);
    memcpy(asker_mac, arpnd_body(pkt) + 8, 6);
    memcpy(asker, arpnd_body(pkt) + 14, 4);
    memcpy(target, arpnd_body(pkt) + 24, 4);
    /* 2.2.7 */
    const struct arpnd_arp reply = {.to = to, .mac = mac, .sender = target, .target_mac = asker_mac,
                                    .target = asker, .op = ARP_REPLY};
    arpnd_arp(arpnd_restart(pkt, ARP_FRAME), &reply);
}

void arpnd_na_reply(struct pkt *pkt, const uint8_t *mac, uint8_t flags)
{
    uint8_t asker_mac[6], asker[16], target[16];
    memcpy(asker_mac, pkt->data + 6, 6);
    memcpy(asker, pkt_source(pkt), 16);
    memcpy(target, pkt->data + pkt->l4 + 8, 16);
    bool nobody = is_any(DP_IPV6, asker);   /* no address yet: all nodes are told (RFC 4861 section 7.2.4) */
    flags |= nobody ? ND_NA_OVERRIDE : ND_NA_OVERRIDE | ND_NA_SOLICITED; /* 2.3.21 */
    /* 2.3.19, 2.3.20 */
    const struct arpnd_nd reply = {.to = nobody ? arpnd_all_nodes_mac : asker_mac, .mac = mac,
                                   .source = target, .destination = nobody ? arpnd_all_nodes : asker,
                                   .target = target, .type = ND_NA, .flags = flags};
    arpnd_nd(arpnd_restart(pkt, ND_FRAME), &reply);
}

/* ---- neighbour discovery received */

bool arpnd_is(const struct pkt *pkt)
{
    if (pkt->l3_type == PKT_L3_ARP)
        return true;
    if (pkt->l3_type != PKT_L3_IP6 || pkt->l4_proto != PROTO_ICMP6 || pkt->flags & PKT_LATER)
        return false;
    uint8_t type = pkt->data[pkt->l4];
    return type >= ND_RS && type <= ND_REDIRECT;
}

/* Walks the options; *lladdr: the MAC of the first of type `wanted`. False: one is malformed. */
static bool arpnd_nd_options(const uint8_t *at, const uint8_t *end, uint8_t wanted, const uint8_t **lladdr)
{
    while (at < end) {
        if (end - at < 2 || at[1] == 0 || end - at < at[1] * 8)
            return false;
        if (at[0] == wanted && !*lladdr)
            *lladdr = at + 2;
        at += at[1] * 8;
    }
    return true;
}

bool arpnd_nd_valid(const struct pkt *pkt, const uint8_t **lladdr)
{
    const uint8_t *icmp = pkt->data + pkt->l4;
    uint32_t len = pkt->l3_end - pkt->l4;
    uint8_t type = icmp[0];
    *lladdr = NULL;
    /* 2.3.1, 2.3.2, 2.3.3, 2.3.4, 2.3.5 */
    if (pkt->flags & PKT_FRAGMENT || pkt_ttl(pkt) != 255 || icmp[1] != 0 || !pkt_has(pkt, pkt->l3_end) ||
        csum_fold(csum_add(icmp, len, offload_pseudo(pkt, len))) != 0xffff)
        return false;
    if (type == ND_RA || type == ND_REDIRECT) /* 2.3.6 */
        return true;
    uint32_t fixed = type == ND_RS ? 8 : ND_LEN;
    if (len < fixed || (type != ND_RS && icmp[8] == 0xff)) /* 2.3.7, 2.3.8 */
        return false;
    /* 2.3.9 */
    if (!arpnd_nd_options(icmp + fixed, icmp + len, type == ND_NA ? ND_OPT_TLLA : ND_OPT_SLLA, lladdr))
        return false;
    return !(type == ND_NS && *lladdr && is_any(DP_IPV6, pkt_source(pkt))); /* 2.3.10 */
}
