/* arpnd.c: ARP (RFC 826) and neighbour discovery (RFC 4861 sections 4.3, 4.4) from scratch. */
#include "arpnd.h"
#include "csum.h"

const uint8_t arpnd_broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
const uint8_t arpnd_all_nodes[16] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
const uint8_t arpnd_all_nodes_mac[6] = {0x33, 0x33, 0, 0, 0, 1};

static void put_eth(uint8_t *frame, const uint8_t *to, const uint8_t *from, uint16_t type)
{
    memcpy(frame, to, 6);
    memcpy(frame + 6, from, 6);
    put16(frame + 12, type);
}

void arpnd_arp(uint8_t *frame, const struct arpnd_arp *arp)
{
    uint8_t *body = frame + ETH_LEN;
    put_eth(frame, arp->to, arp->mac, ETHERTYPE_ARP);
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

void arpnd_nd(uint8_t *frame, const struct arpnd_nd *nd)
{
    enum { LEN = ND_LEN + 8 };
    uint8_t *ip = frame + ETH_LEN, *icmp = ip + IP6_LEN;
    put_eth(frame, nd->to, nd->mac, ETHERTYPE_IP6);
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
    uint16_t sum = (uint16_t)~csum_fold(csum_add(icmp, LEN, csum_pseudo(&pkt, LEN)));
    memcpy(icmp + 2, &sum, 2);
}

void arpnd_solicited_node(const uint8_t *address, uint8_t *group, uint8_t *mac)
{
    static const uint8_t prefix[13] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff};
    memcpy(group, prefix, sizeof prefix);
    memcpy(group + 13, address + 13, 3);
    mac[0] = mac[1] = 0x33;
    memcpy(mac + 2, group + 12, 4);
}
