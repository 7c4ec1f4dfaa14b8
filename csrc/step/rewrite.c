/* rewrite.c: new addresses for a packet, and every checksum that covers them by the difference alone. */
#include "step/rewrite.h"
#include "base/csum.h"

enum { L4_NONE = 0xff };

/* Offset in the L4 header of the checksum that covers a pseudo header, L4_NONE without one. */
static inline unsigned l4_field(const struct pkt *pkt)
{
    if (pkt->flags & PKT_LATER)
        return L4_NONE;
    switch (pkt->l4_proto) {
    case PROTO_TCP:
        return 16;
    case PROTO_UDP:
        return 6;
    case PROTO_UDPLITE:
    case PROTO_DCCP:                    /* no parser has looked whether it is there */
        return pkt->l4 + 8u <= pkt->l3_end && pkt_has(pkt, pkt->l4 + 8u) ? 6 : L4_NONE;
    case PROTO_ICMP6:
        return pkt->l3_type == PKT_L3_IP6 ? 2 : L4_NONE;
    default:
        return L4_NONE;
    }
}

static inline void update_l4(struct pkt *pkt, unsigned offset, uint64_t from, uint64_t to)
{
    uint8_t *at = pkt->data + pkt->l4 + offset;
    uint16_t field = load16(at);
    if (__builtin_expect(pkt->flags & PKT_PARTIAL, 0)) {
        field = csum_fold((uint64_t)field + (uint16_t)~csum_fold(from) + to);
    } else if (field || pkt->l4_proto != PROTO_UDP) {
        field = csum_update(field, from, to);
        if (field == 0 && (pkt->l4_proto == PROTO_UDP || pkt->l4_proto == PROTO_UDPLITE))
            field = 0xffff;
    }
    memcpy(at, &field, 2);
}

static inline uint64_t sum6(const uint8_t *address)
{
    uint64_t high = load64(address), low = load64(address + 8);
    return (high & 0xffffffff) + (high >> 32) + (low & 0xffffffff) + (low >> 32);
}

void rewrite_addresses(struct pkt *pkt, const uint8_t *source, const uint8_t *destination)
{
    uint8_t *ip = pkt->data + pkt->l3;
    uint64_t from, to;
    if (pkt->l3_type == PKT_L3_IP4) {
        from = (uint64_t)load32(ip + 12) + load32(ip + 16);
        to = (uint64_t)load32(source) + load32(destination);
        memcpy(ip + 12, source, 4);
        memcpy(ip + 16, destination, 4);
        uint16_t field = csum_update(load16(ip + 10), from, to);
        memcpy(ip + 10, &field, 2);
    } else {
        from = sum6(ip + 8) + sum6(ip + 24);
        to = sum6(source) + sum6(destination);
        memcpy(ip + 8, source, 16);
        memcpy(ip + 24, destination, 16);
    }
    unsigned offset = l4_field(pkt);
    if (offset != L4_NONE)
        update_l4(pkt, offset, from, to);
}

void rewrite_ttl(struct pkt *pkt)
{
    uint8_t *ip = pkt->data + pkt->l3;
    if (pkt->l3_type == PKT_L3_IP6) {
        ip[7]--;
        return;
    }
    uint16_t from = load16(ip + 8);
    ip[8]--;
    uint16_t field = csum_update(load16(ip + 10), from, load16(ip + 8));
    memcpy(ip + 10, &field, 2);
}

bool rewrite_is_icmp_error(const struct pkt *pkt)
{
    if (pkt->flags & PKT_LATER)
        return false;
    const uint8_t *type = pkt->data + pkt->l4;
    if (pkt->l3_type == PKT_L3_IP4 && pkt->l4_proto == PROTO_ICMP)
        return *type == 3 || *type == 4 || *type == 5 || *type == 11 || *type == 12;
    return pkt->l3_type == PKT_L3_IP6 && pkt->l4_proto == PROTO_ICMP6 && *type < 128;
}

bool rewrite_has_route_option(const struct pkt *pkt)
{
    const uint8_t *at = pkt->data + pkt->l3 + IP4_LEN, *end = pkt->data + pkt->l4;
    if (pkt->l3_type != PKT_L3_IP4)
        return false;
    while (at < end && *at != IP4_OPT_END) {
        bool nop = *at == IP4_OPT_NOP;
        if (!nop && (end - at < 2 || at[1] < 2 || at[1] > end - at || *at == IP4_OPT_RR || *at == IP4_OPT_TIMESTAMP ||
                     *at == IP4_OPT_LSRR || *at == IP4_OPT_SSRR))
            return true;
        at += nop ? 1 : at[1];
    }
    return false;
}
