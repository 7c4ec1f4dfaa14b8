/* icmp_error.c: which errors are due, whose address they have, and their bytes. README.md 2.15. */
#include "router/icmp_error.h"
#include "base/csum.h"
#include "pkt/offload.h"
#include "router/gateway.h"
#include "router/quote.h"
#include "step/gso.h"
#include "step/limit.h"

enum { ERROR_TTL = 64, ERROR_TOS4 = 0xc0, ERROR_MAX4 = 576, ERROR_MTU4 = 68, ERROR_MTU6 = 1280 };
enum {
    ICMP_UNREACHABLE = 3, ICMP_TIME_EXCEEDED = 11, ICMP_NET = 0, ICMP_HOST = 1, ICMP_PROTOCOL = 2,
    ICMP_PORT = 3, ICMP_NEEDS_FRAGMENTS = 4,
};
enum {
    ICMP6_UNREACHABLE = 1, ICMP6_TOO_BIG = 2, ICMP6_TIME_EXCEEDED = 3, ICMP6_PARAMETER = 4,
    ICMP6_NO_ROUTE = 0, ICMP6_ADDRESS = 3, ICMP6_PORT = 4, ICMP6_NEXT_HEADER = 1,
};
/*
 * A traceroute makes the first router answer 3 probes at once, an mtr one a second: a burst for twenty that
 * begin together, and a rate at which a flood costs a VM's worker less than its own packets do.
 */
enum { ERRORS_PER_SECOND = 100, ERRORS_BURST = 64 };

/* ---- which */

static bool icmp_error_in(struct icmp_error *error, bool ip4, uint8_t type, uint8_t code, uint8_t type6,
                          uint8_t code6)
{
    error->type = ip4 ? type : type6;
    error->code = ip4 ? code : code6;
    return true;
}

/* Of an IPv6 packet: where the header before what the parser has stopped at says what that is. */
static uint32_t icmp_error_next_header(const struct pkt *pkt)
{
    const uint8_t *ip = pkt->data + pkt->l3;
    uint32_t at = 6, next = IP6_LEN, proto = ip[at];
    while (next < (uint32_t)pkt->l4 - pkt->l3) {
        at = next;
        uint32_t len = proto == PROTO_AH ? (ip[at + 1] + 2u) * 4 : (ip[at + 1] + 1u) * 8;
        next += proto == PROTO_FRAGMENT ? 8 : len;
        proto = ip[at];
    }
    return at;
}

static bool icmp_error_of_local(const struct pkt *pkt, bool ip4, struct icmp_error *error)
{
    const uint8_t proto = pkt->l4_proto;
    if (proto == PROTO_UDP || proto == PROTO_TCP) /* 2.15.4 */
        return icmp_error_in(error, ip4, ICMP_UNREACHABLE, ICMP_PORT, ICMP6_UNREACHABLE, ICMP6_PORT);
    if (proto == (ip4 ? PROTO_ICMP : PROTO_ICMP6) || (!ip4 && proto == PROTO_NONE)) /* 2.15.6 */
        return false;
    error->info = ip4 ? 0 : icmp_error_next_header(pkt); /* 2.15.5 */
    return icmp_error_in(error, ip4, ICMP_UNREACHABLE, ICMP_PROTOCOL, ICMP6_PARAMETER, ICMP6_NEXT_HEADER);
}

static bool icmp_error_of_size(const struct icmp_cause *cause, bool ip4, struct icmp_error *error)
{
    const uint32_t least = ip4 ? ERROR_MTU4 : ERROR_MTU6;
    if (gso_l3_len(cause->pkt) <= cause->mtu) /* 2.15.10 */
        return false;
    if (ip4 && !(cause->pkt->data[cause->pkt->l3 + 6] & IP4_DF >> 8)) /* 2.15.9: its place is here */
        return false;
    error->info = cause->mtu > least ? cause->mtu : least; /* 2.15.8 */
    return icmp_error_in(error, ip4, ICMP_UNREACHABLE, ICMP_NEEDS_FRAGMENTS, ICMP6_TOO_BIG, 0); /* 2.15.7 */
}

static bool icmp_error_of(const struct icmp_cause *cause, bool ip4, struct icmp_error *error)
{
    switch (cause->drop) {
    case DROP_TTL_EXCEEDED: /* 2.15.1 */
        return icmp_error_in(error, ip4, ICMP_TIME_EXCEEDED, 0, ICMP6_TIME_EXCEEDED, 0);
    case DROP_NO_ROUTE: /* 2.15.2 */
        return icmp_error_in(error, ip4, ICMP_UNREACHABLE, ICMP_NET, ICMP6_UNREACHABLE, ICMP6_NO_ROUTE);
    case DROP_NO_RECORD: /* 2.15.3 */
        return icmp_error_in(error, ip4, ICMP_UNREACHABLE, ICMP_HOST, ICMP6_UNREACHABLE, ICMP6_ADDRESS);
    case DROP_ROUTER_LOCAL:
        return icmp_error_of_local(cause->pkt, ip4, error);
    case DROP_TOO_BIG:
        return icmp_error_of_size(cause, ip4, error);
    default:
        return false;
    }
}

bool icmp_error_is_due(const struct icmp_cause *cause, struct icmp_error *error)
{
    const bool ip4 = cause->pkt->l3_type == PKT_L3_IP4;
    *error = (struct icmp_error){.pkt = cause->pkt};
    return icmp_error_of(cause, ip4, error) && !(cause->pkt->flags & PKT_LATER) && /* 2.15.11 */
           !quote_is_error(cause->pkt) && /* 2.15.12 */
           is_host(cause->pkt->l3_type, pkt_source(cause->pkt)); /* 2.15.13 */
}

bool icmp_error_allowed(_Atomic uint64_t *bucket, uint64_t ns)
{
    const struct limit_rate rate = limit_rate(ERRORS_PER_SECOND, ERRORS_BURST);
    return limit_take(bucket, &rate, ns * (LIMIT_SECOND / 1000000000), limit_cost(&rate, 1)); /* 2.15.15 */
}

/* ---- whose address */

/* NULL: nobody can say it. */
static const uint8_t *icmp_error_source(const struct tables *t, const struct port_policy *policy,
                                        const struct pkt *pkt)
{
    const bool ip4 = pkt->l3_type == PKT_L3_IP4;
    const struct port_source *own = &policy->sources[ip4 ? 0 : policy->n4];
    const uint32_t rdid = policy->rdid, vsid = policy->vsid;
    const uint8_t *gateway = gateway_beside(t, rdid, vsid, pkt->l3_type, pkt_source(pkt)); /* 2.15.16 */
    if (!gateway && (ip4 ? policy->own4 : policy->own6))
        gateway = gateway_beside(t, rdid, vsid, pkt->l3_type, own->ca); /* 2.15.17 */
    return gateway_or_any(gateway, pkt->l3_type); /* 2.15.18, 2.15.19 */
}

/* To all of a subnet: the last address of an IPv4 prefix of more than two. */
static bool icmp_error_is_broadcast(const struct tables *t, const struct port_policy *policy,
                                    const struct pkt *pkt)
{
    unsigned len;
    const uint8_t *to = pkt_destination(pkt);
    return pkt->l3_type == PKT_L3_IP4 && gateway_on_link(t, policy->rdid, DP_IPV4, to, &len) && len < 31 &&
           (get32(to) | (uint32_t)(UINT64_C(0xffffffff) << (32 - len))) == 0xffffffff; /* 2.15.14 */
}

/* ---- bytes */

static uint8_t *icmp_error_put_ip4(uint8_t *ip, uint32_t payload, const uint8_t *from, const uint8_t *to)
{
    const uint8_t header[IP4_LEN] = {0x45, ERROR_TOS4, [6] = IP4_DF >> 8, [8] = ERROR_TTL, PROTO_ICMP};
    memcpy(ip, header, sizeof header); /* 2.15.21 */
    put16(ip + 2, (uint16_t)(IP4_LEN + payload));
    memcpy(ip + 12, from, 4);
    memcpy(ip + 16, to, 4);
    const uint16_t field = (uint16_t)~csum_fold(csum_add(ip, IP4_LEN, 0));
    memcpy(ip + 10, &field, 2);
    return ip + IP4_LEN;
}

static uint8_t *icmp_error_put_ip6(uint8_t *ip, uint32_t payload, const uint8_t *from, const uint8_t *to)
{
    const uint8_t header[8] = {0x60, [6] = PROTO_ICMP6, ERROR_TTL};
    memcpy(ip, header, sizeof header); /* 2.15.22 */
    put16(ip + 4, (uint16_t)payload);
    memcpy(ip + 8, from, 16);
    memcpy(ip + 24, to, 16);
    return ip + IP6_LEN;
}

/* All but the quote, which is there. Of ICMPv6 the sum covers a pseudo header. */
static void icmp_error_put(const struct icmp_error *error, uint8_t *ip, const uint8_t *from, uint32_t payload)
{
    const bool ip4 = error->pkt->l3_type == PKT_L3_IP4;
    const uint8_t *to = pkt_source(error->pkt);
    uint8_t *icmp = (ip4 ? icmp_error_put_ip4 : icmp_error_put_ip6)(ip, payload, from, to);
    uint64_t sum = ip4 ? 0 : csum_add(ip + 8, 32, __builtin_bswap32(payload) + (uint64_t)(PROTO_ICMP6 << 8));
    icmp[0] = error->type;
    icmp[1] = error->code;
    memset(icmp + 2, 0, 2);
    put32(icmp + 4, error->info);
    const uint16_t field = (uint16_t)~csum_fold(csum_add(icmp, payload, sum));
    memcpy(icmp + 2, &field, 2);
}

/* The first `len` bytes of the packet, or of its first segment, as they would go on the wire. */
static bool icmp_error_quote(struct pool *pool, struct pkt *pkt, uint8_t *to, uint32_t len)
{
    struct pkt segment;
    if (pkt->gso) { /* 2.15.24 */
        struct gso_cut cut = gso_begin(pool->arena, pkt);
        if (!gso_next(pool, &cut, &segment))
            return false;
    } else if (pkt->flags & PKT_PARTIAL && !offload_finish(pool->arena, pkt)) { /* 2.15.24 */
        return false;
    }
    bool whole = pkt_read(pool->arena, pkt->gso ? &segment : pkt, pkt->l3, to, len); /* 2.15.23 */
    if (pkt->gso)
        pool_pkt_free(pool, &segment);
    return whole;
}

bool icmp_error_write(struct icmp_error *error, struct pool *pool, const struct tables *tables,
                      const struct port_policy *policy, uint8_t frame[ICMP_ERROR_MAX])
{
    struct pkt *pkt = error->pkt;
    const bool ip4 = pkt->l3_type == PKT_L3_IP4;
    const uint8_t *source = icmp_error_source(tables, policy, pkt);
    const uint32_t headers = (ip4 ? IP4_LEN : IP6_LEN) + ICMP_LEN;
    const uint32_t room = (ip4 ? (uint32_t)ERROR_MAX4 : ICMP_ERROR_MAX - ETH_LEN) - headers;
    const uint32_t all = gso_l3_len(pkt), len = all < room ? all : room;
    if (!source || icmp_error_is_broadcast(tables, policy, pkt) ||
        !icmp_error_quote(pool, pkt, frame + ETH_LEN + headers, len))
        return false;
    memcpy(frame, policy->mac, 6); /* 2.15.20 */
    memcpy(frame + 6, tables->router_mac, 6);
    put16(frame + 12, ip4 ? ETHERTYPE_IP4 : ETHERTYPE_IP6);
    icmp_error_put(error, frame + ETH_LEN, source, ICMP_LEN + len);
    error->len = ETH_LEN + headers + len;
    return true;
}
