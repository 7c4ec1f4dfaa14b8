/*
 * quote.c: the packet within an ICMP error (RFC 792, RFC 4443 section 2.4), whose addresses and checksums are
 * rewritten as its own were on its way (RFC 3022 section 4.3, RFC 5508 section 4.2).
 */
#include "router/quote.h"
#include "base/csum.h"
#include "step/outer.h"
#include "step/rewrite.h"
#include "step/source.h"
#include "table/lookup.h"

enum { QUOTE_LEAST = 8 };       /* bytes behind the quoted IP header: RFC 792 */
enum { QUOTE_REDIRECT = 5, QUOTE_LAST6 = 4 };

static unsigned quote_size(const struct pkt *pkt) { return pkt->l3_type == PKT_L3_IP4 ? 4 : 16; }

bool quote_is_error(const struct pkt *pkt) /* 2.10.2, 2.15.12, 3.5.6 */
{
    if (pkt->flags & PKT_LATER)
        return false;
    const uint8_t type = pkt->data[pkt->l4];
    if (pkt->l3_type == PKT_L3_IP4 && pkt->l4_proto == PROTO_ICMP)
        return type == 3 || type == 4 || type == QUOTE_REDIRECT || type == 11 || type == 12;
    return pkt->l3_type == PKT_L3_IP6 && pkt->l4_proto == PROTO_ICMP6 && type < 128;
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

/* The checksum in the quote that covers its addresses; NULL: there is none, or not so much of the packet. */
static uint8_t *quote_field(const struct pkt *pkt)
{
    const uint8_t *ip = quote_ip(pkt);
    const bool ip4 = pkt->l3_type == PKT_L3_IP4;
    if (ip4 && get16(ip + 6) & IP4_OFFSET) /* 4.7.9 */
        return NULL;
    const unsigned offset = rewrite_offset(pkt->l3_type, ip[ip4 ? 9 : 6]); /* 4.7.10 */
    const uint32_t at = pkt->l4 + ICMP_LEN + quote_header(pkt) + offset;
    return offset != REWRITE_NONE && quote_has(pkt, at + 2) ? pkt->data + at : NULL;
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
    uint8_t *ip = quote_ip(pkt), *at = quote_source(pkt), *l4 = quote_field(pkt);
    uint8_t *checksum = pkt->data + pkt->l4 + 2;
    const uint8_t proto = ip[size == 4 ? 9 : 6];
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

enum drop quote_in(const struct tables *tables, const struct rewrite *to, struct pkt *pkt)
{
    if (!quote_is_error(pkt))
        return DROP_NONE;
    if (!quote_is_of(pkt, to->pa))
        return DROP_ICMP_ERROR;
    const uint8_t *pa = quote_source(pkt) + quote_size(pkt);
    const struct rewrite *from = outer_rewrite_source(tables, lookup_pa(tables, pkt->l3_type, pa).act);
    if (!from || from->rdid != to->rdid) /* 4.7.5 */
        return DROP_ICMP_ERROR;
    quote_rewrite(pkt, to->ca, from->ca);
    return DROP_NONE;
}
