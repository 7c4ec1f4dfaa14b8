/*
 * forward.h: the two ways of a packet. from_tenant.c and from_provider.c decide for a whole batch, then carry each packet out in order
 * through one of the ways out in forward.c. README.md has the rules.
 */
#ifndef FORWARD_H
#define FORWARD_H
#include "engine.h"

void from_tenant(struct worker *worker, struct port *in, struct batch *batch);
void from_provider(struct worker *worker, struct port *in, struct batch *batch);

static inline void forward_batch(struct worker *worker, struct port *in, struct batch *batch)
{
    if (in->id == DP_UNDERLAY)
        from_provider(worker, in, batch);
    else
        from_tenant(worker, in, batch);
}

/*
 * Ways out. Each takes a parsed packet and sends, holds or drops it. MACs of the (inner) frame are already those of the receiver,
 * TTL is already down.
 */
/* To a local port, of the subnet with this index. */
void forward_deliver(struct worker *worker, struct pkt *pkt, uint32_t port, uint32_t subnet);
/* Into NVGRE by the next hop. */
void forward_push(struct worker *worker, struct pkt *pkt, const struct next_hop *nh, uint32_t vsid);
/* As an IP packet between two PAs. */
void forward_rewrite(struct worker *worker, const struct tables *tables, struct pkt *pkt, const uint8_t *source_pa, const struct rewrite *to);
/* A complete underlay frame, MACs aside: sends it by the next hop's neighbour, or waits for that. */
void forward_underlay(struct worker *worker, struct pkt *pkt, const struct next_hop *nh);

/* The host behind what a record or PA yields; `self` for local ones. POOL_NONE: nobody's. */
uint32_t forward_host(const struct worker *worker, const struct tables *tables, uint32_t act);

/* Scalar lookups. A miss is act 0. The key of address 0 is the wildcard's: no CA 0 has a record. */
struct map_value lookup_record(const struct tables *tables, uint32_t vsid, unsigned family, const uint8_t *ca);
struct map_value lookup_wildcard(const struct tables *tables, uint32_t vsid, unsigned family);
struct map_value lookup_pa(const struct tables *tables, unsigned family, const uint8_t *pa);

static inline const uint8_t *pkt_source(const struct pkt *pkt) { return pkt->data + pkt->l3 + (pkt->l3_type == PKT_L3_IP4 ? 12 : 8); }
static inline const uint8_t *pkt_destination(const struct pkt *pkt) { return pkt->data + pkt->l3 + (pkt->l3_type == PKT_L3_IP4 ? 16 : 24); }
static inline uint8_t pkt_ttl(const struct pkt *pkt) { return pkt->data[pkt->l3 + (pkt->l3_type == PKT_L3_IP4 ? 8 : 7)]; }
static inline bool is_any(unsigned family, const uint8_t *ca) { return family == DP_IPV4 ? load32(ca) == 0 : (load64(ca) | load64(ca + 8)) == 0; }
/*
 * A destination that may lie beyond the link: not 0 (the wildcards' key), loopback, multicast or broadcast
 * (RFC 1812 section 5.3.7, RFC 4291 sections 2.5.3 and 2.7).
 */
static inline bool is_host(unsigned family, const uint8_t *ca)
{
    if (family == DP_IPV4)
        return load32(ca) != 0 && ca[0] != 127 && ca[0] < 224;
    return ca[0] != 0xff && (load64(ca) != 0 || get32(ca + 8) != 0 || get32(ca + 12) > 1);
}
static inline bool is_link_local(const uint8_t *ca6) { return ca6[0] == 0xfe && (ca6[1] & 0xc0) == 0x80; }

/* The prefix's first `len` bits are those of the address. */
static inline bool prefix_holds(const uint8_t *prefix, unsigned len, const uint8_t *address)
{
    unsigned bytes = len / 8, bits = len % 8;
    if (memcmp(prefix, address, bytes))
        return false;
    return bits == 0 || ((prefix[bytes] ^ address[bytes]) >> (8 - bits)) == 0;
}

/* The port's source that holds the address, its own CAs first; NULL: the port may not send from it. */
static inline const struct port_source *policy_source(const struct port_policy *policy, unsigned family, const uint8_t *address)
{
    bool ip4 = family == DP_IPV4;
    const struct port_source *s = policy->sources + (ip4 ? 0 : policy->n4), *end = s + (ip4 ? policy->n4 : policy->n6);
    if (ip4 && s < end && s->prefix_len == 32 && load32(s->ca) == load32(address))
        return s;
    for (; s < end; s++)
        if (prefix_holds(s->ca, s->prefix_len, address))
            return s;
    return NULL;
}

#endif
