/*
 * quote.c: the packet within an ICMP error (RFC 792, RFC 4443 section 2.4), whose addresses and checksums are
 * rewritten as its own were on its way (RFC 3022 section 4.3, RFC 5508 section 4.2).
 */
#include "router/quote.h"
#include "base/csum.h"
#include "pkt/offload.h"
#include "pkt/parse.h"
#include "router/gateway.h"
#include "step/outer.h"
#include "step/rewrite.h"
#include "step/source.h"
#include "table/lookup.h"

enum {
    QUOTE_LEAST = 8,            /* bytes behind the quoted IP header: RFC 792 */
    QUOTE_FRAGMENT = 8,         /* bytes of a fragment header: no more than these */
    QUOTE_KEPT = 128,           /* bytes of a quote that a router appends something to: RFC 4884 section 4 */
};
enum { QUOTE_REDIRECT = 5, QUOTE_LAST6 = 4, ICMP6_TOO_BIG = 2 };

static unsigned quote_size(const struct pkt *pkt) { return pkt->l3_type == PKT_L3_IP4 ? 4 : 16; }

/* ICMP of the packet's family: only that has a type to be read. */
static bool quote_is_icmp(const struct pkt *pkt, uint8_t proto)
{
    return proto == (pkt->l3_type == PKT_L3_IP4 ? PROTO_ICMP : PROTO_ICMP6);
}

static bool quote_is_error_type(const struct pkt *pkt, uint8_t type)
{
    if (pkt->l3_type == PKT_L3_IP4)
        return type == 3 || type == 4 || type == QUOTE_REDIRECT || type == 11 || type == 12;
    return type < 128;
}

bool quote_is_error(const struct pkt *pkt) /* 2.10.2, 2.15.12, 3.5.6 */
{
    return !(pkt->flags & PKT_LATER) && quote_is_icmp(pkt, pkt->l4_proto) &&
           quote_is_error_type(pkt, pkt->data[pkt->l4]);
}

/* The message goes on to here, in its first slot. */
static bool quote_has(const struct pkt *pkt, uint32_t end)
{
    return end <= pkt->l3_end && pkt_has(pkt, end);
}

/* Where the quoted IP packet begins, of a message that has ICMP_LEN bytes (1.5.1). */
static uint8_t *quote_ip(const struct pkt *pkt) { return pkt->data + pkt->l4 + ICMP_LEN; }

static uint8_t *quote_source(const struct pkt *pkt)
{
    return quote_ip(pkt) + (pkt->l3_type == PKT_L3_IP4 ? 12 : 8);
}

/* Bytes of the quoted IP header, without IPv6 extension headers; 0: the quote is none that can be read. */
static uint32_t quote_header(const struct pkt *pkt)
{
    const uint32_t at = pkt->l4 + ICMP_LEN;
    const bool ip4 = pkt->l3_type == PKT_L3_IP4;
    if (!quote_has(pkt, at + (ip4 ? IP4_LEN : IP6_LEN) + QUOTE_LEAST)) /* 4.7.3 */
        return 0;
    const uint8_t *ip = quote_ip(pkt);
    const uint32_t len = ip4 ? (ip[0] & 15) * 4u : IP6_LEN;
    if (ip[0] >> 4 != pkt->l3_type || len < (ip4 ? IP4_LEN : IP6_LEN)) /* 4.7.2 */
        return 0;
    return quote_has(pkt, at + len + QUOTE_LEAST) ? len : 0; /* 4.7.3 */
}

/* An error whose quote is of a packet that `sent` did send, as far as addresses tell. */
static bool quote_is_of(const struct pkt *pkt, const uint8_t *sent)
{
    const uint8_t type = pkt->data[pkt->l4];
    if (pkt->l3_type == PKT_L3_IP4 ? type == QUOTE_REDIRECT : type == 0 || type > QUOTE_LAST6) /* 4.7.1 */
        return false;
    return quote_header(pkt) && !memcmp(quote_source(pkt), sent, quote_size(pkt)); /* 4.7.4 */
}

/*
 * Where the quoted packet goes on behind its IP header and a fragment header, and what it says is there; 0:
 * in the midst of a datagram.
 */
static uint32_t quote_l4(const struct pkt *pkt, uint8_t *proto)
{
    const uint8_t *ip = quote_ip(pkt), *fragment = ip + IP6_LEN;
    const uint32_t at = pkt->l4 + ICMP_LEN + quote_header(pkt);
    const bool ip4 = pkt->l3_type == PKT_L3_IP4;
    *proto = ip[ip4 ? 9 : 6];
    if (ip4)
        return get16(ip + 6) & IP4_OFFSET ? 0 : at; /* 4.7.9 */
    if (*proto != PROTO_FRAGMENT)
        return at;
    *proto = fragment[0];
    return get16(fragment + 2) & 0xfff8 ? 0 : at + QUOTE_FRAGMENT; /* 4.7.9 */
}

/* The checksum in the quote that covers its addresses; NULL: there is none, or not so much of the packet. */
static uint8_t *quote_field(const struct pkt *pkt, uint8_t *proto)
{
    const uint32_t l4 = quote_l4(pkt, proto);
    const unsigned offset = rewrite_offset(pkt->l3_type, *proto); /* 4.7.10 */
    return l4 && offset != REWRITE_NONE && quote_has(pkt, l4 + offset + 2) ? pkt->data + l4 + offset : NULL;
}

/* Sums (csum.h) of words that are others now. */
struct quote_change { uint64_t from, to; };

/* A checksum in the quote that counts addresses; all: of the quote. full: 0 says that there is none. */
static void quote_update(uint8_t *at, bool full, const struct quote_change *addresses,
                         struct quote_change *all)
{
    uint16_t field = csum_update(load16(at), addresses->from, addresses->to);
    if (full && field == 0) /* 4.1.7 */
        field = 0xffff;
    all->from += load16(at);
    all->to += field;
    memcpy(at, &field, 2);
}

/* Addresses, and every checksum that counts them: in the quote, then the message's own. */
static void quote_rewrite(struct pkt *pkt, const uint8_t *source, const uint8_t *destination)
{
    const unsigned size = quote_size(pkt);
    uint8_t proto, *ip = quote_ip(pkt), *at = quote_source(pkt), *l4 = quote_field(pkt, &proto);
    uint8_t *checksum = pkt->data + pkt->l4 + 2;
    const uint64_t to = csum_add(source, size, csum_add(destination, size, 0));
    const struct quote_change addresses = {csum_add(at, 2 * size, 0), to};
    struct quote_change all = addresses;
    memcpy(at, source, size); /* 4.7.6 */
    memcpy(at + size, destination, size);
    if (size == 4)
        quote_update(ip + 10, false, &addresses, &all); /* 4.7.7 */
    if (l4 && (load16(l4) || proto != PROTO_UDP)) /* 4.7.8, 4.1.6 */
        quote_update(l4, proto == PROTO_UDP || proto == PROTO_UDPLITE, &addresses, &all);
    const uint16_t field = csum_update(load16(checksum), all.from, all.to); /* 4.7.11 */
    memcpy(checksum, &field, 2);
}

enum drop quote_out(const struct port_policy *policy, struct pkt *pkt, const uint8_t *pa)
{
    if (!quote_is_error(pkt))
        return DROP_NONE;
    if (!quote_is_of(pkt, pkt_destination(pkt)))
        return DROP_ICMP_ERROR;
    const struct port_source *own =
        policy_source(policy, pkt->l3_type, quote_source(pkt) + quote_size(pkt));
    if (!own || own->extra || !own->has_pa) /* 4.7.5 */
        return DROP_ICMP_ERROR;
    quote_rewrite(pkt, pa, own->pa);
    return DROP_NONE;
}

/* Where the packet went that is quoted, if it can have gone there from `to`; NULL: it can't. In PAs. */
static const struct rewrite *quote_sent_to(const struct tables *tables, const struct rewrite *to,
                                           const struct pkt *pkt)
{
    if (!quote_is_of(pkt, to->pa))
        return NULL;
    const uint8_t *pa = quote_source(pkt) + quote_size(pkt);
    const struct rewrite *from = outer_rewrite_source(tables, lookup_pa(tables, pkt->l3_type, pa).act);
    return from && from->rdid == to->rdid ? from : NULL; /* 4.7.5, 4.8.4 */
}

enum drop quote_in(const struct tables *tables, const struct arena *arena, const struct rewrite *to,
                   struct pkt *pkt)
{
    enum drop drop = pkt_offloaded(pkt) ? offload_check(arena, pkt) : DROP_NONE; /* 3.5.5 */
    if (!drop && quote_is_error(pkt)) { /* 3.5.6 */
        const struct rewrite *from = quote_sent_to(tables, to, pkt);
        if (!from)
            return DROP_ICMP_ERROR;
        quote_rewrite(pkt, to->ca, from->ca);
    }
    return drop ? drop : rewrite_check(pkt); /* 3.5.7 */
}

/* ---- of routers of the provider network */

/* What a router says of a packet that it did not forward, in a header that says nothing besides. */
static bool quote_is_routers(const struct pkt *pkt) /* 4.8.1 */
{
    const bool ip4 = pkt->l3_type == PKT_L3_IP4;
    if (!quote_is_error(pkt) || pkt->flags & PKT_FRAGMENT || pkt_offloaded(pkt) ||
        pkt->l4 != pkt->l3 + (ip4 ? IP4_LEN : IP6_LEN) || !is_host(pkt->l3_type, pkt_source(pkt)))
        return false;
    const uint8_t type = pkt->data[pkt->l4];
    return ip4 ? type == 3 || type == 11 : type >= 1 && type <= 3;
}

/*
 * There are PAs in it that nobody finds: in an error, which quotes a packet itself, and of which no router
 * tells; in a checksum behind extension headers.
 */
static bool quote_hides(const struct pkt *pkt)
{
    uint8_t proto;
    const uint32_t l4 = quote_l4(pkt, &proto);
    if (l4 && pkt->l3_type == PKT_L3_IP6 && parse_is_extension(proto)) /* 4.8.11 */
        return true;
    return l4 && quote_is_icmp(pkt, proto) && quote_has(pkt, l4 + 1) &&
           quote_is_error_type(pkt, pkt->data[l4]); /* 4.8.10 */
}

/*
 * Cuts off what lies behind the first bytes of the quote, where routers tell about themselves: a structure
 * that begins there or later (RFC 4884 section 4).
 */
static void quote_cut(const struct arena *arena, struct pkt *pkt) /* 4.8.5, 4.8.6 */
{
    const bool ip4 = pkt->l3_type == PKT_L3_IP4;
    const uint32_t end = pkt->l4 + ICMP_LEN + QUOTE_KEPT;
    uint8_t *ip = pkt->data + pkt->l3, *icmp = pkt->data + pkt->l4, *length = ip + (ip4 ? 2 : 4);
    struct quote_change change = {load16(icmp + 4), 0};
    if (ip4)
        icmp[5] = 0;
    else if (*icmp != ICMP6_TOO_BIG) /* whose MTU lies there */
        icmp[4] = 0;
    change.to = load16(icmp + 4);
    if (pkt->l3_end > end) {
        const uint16_t was = load16(length);
        change.from += offload_sum(arena, pkt, end, pkt->l3_end - end);
        put16(length, (uint16_t)(get16(length) - (pkt->l3_end - end)));
        if (ip4) {
            const uint16_t field = csum_update(load16(ip + 10), was, load16(length));
            memcpy(ip + 10, &field, 2);
        } else {                /* the pseudo header has it */
            change.from += was, change.to += load16(length);
        }
        pkt->l3_end = end;
        pkt_trim(pkt, end);
    }
    const uint16_t field = csum_update(load16(icmp + 2), change.from, change.to);
    memcpy(icmp + 2, &field, 2);
}

enum drop quote_from_router(const struct tables *tables, const struct arena *arena, const struct rewrite *to,
                            struct pkt *pkt)
{
    if (!quote_is_routers(pkt))
        return DROP_REWRITE_SOURCE; /* 3.5.2 */
    if (to->vsid == 0) /* 4.8.2 */
        return DROP_REWRITE_UNBOUND;
    const struct rewrite *from = quote_sent_to(tables, to, pkt); /* 4.8.3, 4.8.4 */
    if (!from || quote_hides(pkt))
        return DROP_ICMP_ERROR;
    const uint8_t *gateway = gateway_beside(tables, to->rdid, to->vsid, pkt->l3_type, to->ca);
    gateway = gateway_or_any(gateway, pkt->l3_type); /* 4.8.7 */
    if (!gateway)
        return DROP_ICMP_ERROR;
    quote_cut(arena, pkt);
    quote_rewrite(pkt, to->ca, from->ca);
    rewrite_addresses(pkt, gateway, to->ca);
    memcpy(pkt->data, to->mac, 6); /* 4.8.8 */
    memcpy(pkt->data + 6, tables->router_mac, 6);
    return DROP_NONE;
}
