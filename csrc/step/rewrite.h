/*
 * rewrite.h: IP rewrite. Replaces both addresses of a parsed packet and fixes IPv4, TCP, UDP and ICMPv6
 * checksums by RFC 1624; a partial checksum's pseudo sum is adjusted instead. UDP 0 stays 0, a computed 0
 * becomes 0xffff. Later fragments: addresses only. Called by the paths.
 */
#ifndef REWRITE_H
#define REWRITE_H
#include "base/hot.h"
#include "base/csum.h"
#include "base/drop.h"
#include "pkt/pkt.h"

/* Offset in the L4 header of the checksum that covers a pseudo header, REWRITE_NONE without one. */
enum { REWRITE_NONE = 0xff };
unsigned rewrite_offset(unsigned family, uint8_t proto);
/* The same of a packet that is not plain, if it has it. */
unsigned rewrite_field(const struct pkt *pkt);

/*
 * What may not be rewritten: IPv4 options that steer the packet on the provider's routers or have them write
 * their addresses into it (RFC 791 section 3.1: loose and strict source route, record route, timestamp), or
 * that can't be read to their end (ip-options). Of plain packets nothing.
 */
enum drop rewrite_check(const struct pkt *pkt);
/* The same of what leaves for the provider network, and has to fit. */
enum drop rewrite_check_out(const struct pkt *pkt, uint32_t mtu);

/* csum_update() for a difference that is folded: two 16-bit words carry once. */
static inline uint16_t rewrite_update(uint16_t field, uint16_t delta)
{
    uint32_t sum = (uint32_t)(uint16_t)~field + delta; /* 4.1.1 */
    return (uint16_t)~(sum + (sum >> 16));
}

/* TTL or hop limit down by one, IPv4 checksum with it. The caller has checked that it is more than 1. */
HOT void rewrite_ttl(struct pkt *pkt)
{
    uint8_t *ip = pkt->data + pkt->l3;
    if (pkt->l3_type == PKT_L3_IP6) {
        ip[7]--;
        return;
    }
    ip[8]--; /* the low byte of a word as it lies: ~m + (m - 1) is 0xfffe for every m */
    uint16_t field = rewrite_update(load16(ip + 10), 0xfffe); /* 4.1.8 */
    memcpy(ip + 10, &field, 2);
}

static inline uint64_t rewrite_sum6(const uint8_t *address)
{
    uint64_t high = load64(address), low = load64(address + 8);
    return (high & 0xffffffff) + (high >> 32) + (low & 0xffffffff) + (low >> 32);
}

/* From one address to another, neither of which is 0: folded, and never 0 itself. */
static inline uint16_t rewrite_delta(unsigned family, const uint8_t *from, const uint8_t *to)
{
    if (family == DP_IPV4)
        return csum_fold((uint16_t)~csum_fold(load32(from)) + (uint64_t)load32(to));
    return csum_fold((uint16_t)~csum_fold(rewrite_sum6(from)) + rewrite_sum6(to));
}

/* The checksums of a plain packet at its frame. delta: of both addresses together, folded. */
HOT void rewrite_plain_sums(uint8_t *frame, unsigned family, uint16_t delta)
{
    const bool ip4 = family == DP_IPV4;
    uint8_t *ip = frame + ETH_LEN, proto = ip[ip4 ? 9 : 6];
    uint8_t *at = ip + (ip4 ? IP4_LEN : IP6_LEN) + (proto == PROTO_UDP ? 6 : 16);
    uint16_t field, l4 = load16(at);
    if (ip4) {
        field = rewrite_update(load16(ip + 10), delta); /* 4.1.8 */
        memcpy(ip + 10, &field, 2);
    }
    if (__builtin_expect(proto == PROTO_UDP && l4 == 0, 0)) /* 4.1.6 */
        return;
    l4 = rewrite_update(l4, delta);
    if (__builtin_expect(proto == PROTO_UDP && l4 == 0, 0)) /* 4.1.7 */
        l4 = 0xffff;
    memcpy(at, &l4, 2);
}

/* A plain packet at its frame, between two addresses; deltas: the sum of what each does. */
HOT void rewrite_plain(uint8_t *frame, unsigned family, uint32_t deltas, const uint8_t *source,
                       const uint8_t *destination)
{
    const unsigned size = family == DP_IPV4 ? 4 : 16;
    uint8_t *at = frame + ETH_LEN + (family == DP_IPV4 ? 12 : 8);
    rewrite_plain_sums(frame, family, (uint16_t)(deltas + (deltas >> 16)));
    memcpy(at, source, size);
    memcpy(at + size, destination, size);
}

/*
 * A plain IPv4 packet at its frame, both addresses at once: `constant` is rewrite_constant4() of the old and
 * the new source.
 */
static inline uint64_t rewrite_constant4(const uint8_t *from, const uint8_t *to)
{
    return (uint64_t)(uint32_t)~load32(from) + load32(to);
}

HOT void rewrite_plain4(uint8_t *frame, uint64_t constant, uint32_t source, uint32_t destination)
{
    uint64_t addresses = source | (uint64_t)destination << 32;
    uint64_t sum = constant + (uint32_t)~load32(frame + ETH_LEN + 16) + destination;    /* of 32-bit words */
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    rewrite_plain_sums(frame, DP_IPV4, (uint16_t)((sum & 0xffff) + (sum >> 16)));
    memcpy(frame + ETH_LEN + 12, &addresses, 8);
}

HOT void rewrite_l4(struct pkt *pkt, unsigned offset, uint16_t delta)
{
    uint8_t *at = pkt->data + pkt->l4 + offset;
    uint16_t field = load16(at);
    if (__builtin_expect(pkt->flags & PKT_PARTIAL, 0)) {
        field = csum_fold((uint64_t)field + delta); /* 4.2.1 */
    } else if (field || pkt->l4_proto != PROTO_UDP) { /* 4.1.6 */
        field = rewrite_update(field, delta);
        if (field == 0 && (pkt->l4_proto == PROTO_UDP || pkt->l4_proto == PROTO_UDPLITE)) /* 4.1.7 */
            field = 0xffff;
    }
    memcpy(at, &field, 2);
}

HOT void rewrite_addresses(struct pkt *pkt, const uint8_t *source, const uint8_t *destination)
{
    uint8_t *ip = pkt->data + pkt->l3;
    uint64_t from, to;
    if (__builtin_expect(pkt->l3_type == PKT_L3_IP4, 1)) {
        from = (uint64_t)load32(ip + 12) + load32(ip + 16);
        to = (uint64_t)load32(source) + load32(destination);
        memcpy(ip + 12, source, 4);
        memcpy(ip + 16, destination, 4);
    } else {
        from = rewrite_sum6(ip + 8) + rewrite_sum6(ip + 24);
        to = rewrite_sum6(source) + rewrite_sum6(destination);
        memcpy(ip + 8, source, 16);
        memcpy(ip + 24, destination, 16);
    }
    uint16_t delta = csum_fold((uint16_t)~csum_fold(from) + to); /* 4.1.1 */
    if (pkt->l3_type == PKT_L3_IP4) {
        uint16_t field = rewrite_update(load16(ip + 10), delta); /* 4.1.8 */
        memcpy(ip + 10, &field, 2);
    }
    unsigned offset;
    if (__builtin_expect(pkt->flags & PKT_PLAIN, 1))
        offset = pkt->l4_proto == PROTO_UDP ? 6 : 16;
    else
        offset = rewrite_field(pkt);
    if (offset != REWRITE_NONE)
        rewrite_l4(pkt, offset, delta);
}

#endif
