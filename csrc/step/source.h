/*
 * source.h: from which addresses a port may send. A policy and bytes in, the source that allows it out. Called by
 * from_tenant and the ARP/ND proxy.
 */
#ifndef SOURCE_H
#define SOURCE_H
#include <immintrin.h>
#include "pkt/pkt.h"
#include "table/tables.h"

/* An address as a number. */
static inline unsigned __int128 source_number(bool ip4, const uint8_t *address)
{
    if (ip4)
        return get32(address);
    unsigned __int128 high = __builtin_bswap64(load64(address));
    return high << 64 | __builtin_bswap64(load64(address + 8));
}

/*
 * The port's own CA of that number, NULL: there is none. The search, as those below, has no branch that
 * depends on the address, which a VM chooses: after each step the n from s on have among them the last one
 * that isn't above it.
 */
static inline const struct port_source *source_of_own(const struct port_policy *policy, bool ip4,
                                                      unsigned __int128 address)
{
    const struct port_source *s = policy->sources + (ip4 ? 0 : policy->n4);
    uint32_t n = ip4 ? policy->own4 : policy->own6;
    for (uint32_t half; n > 1; n -= half) {
        half = n / 2;
        s += half & -(uint32_t)(source_number(ip4, s[half].ca) <= address);
    }
    return n && source_number(ip4, s->ca) == address ? s : NULL;
}

/* Addresses below all edges have key -1, those far above them the highest. */
static inline int64_t source_key(const struct source_edges *edges, bool ip4, unsigned __int128 address)
{
    if (ip4)
        return (int64_t)address;
    unsigned __int128 key = (address - edges->first) >> edges->shift;
    int64_t kept = key < INT64_MAX ? (int64_t)key : INT64_MAX - 1;
    return address < edges->first ? -1 : kept;
}

/* How many edges have a key that isn't above this one. */
static inline uint32_t source_rank(const struct source_edges *edges, int64_t key)
{
    const __m256i above = _mm256_set1_epi64x(key + 1);
    uint64_t rank = 0;
    for (uint32_t level = edges->levels; level--;) {
        const __m256i *node = (const __m256i *)(edges->level[level] + rank * EDGE_NODE);
        __m256i a = _mm256_cmpgt_epi64(above, node[0]), b = _mm256_cmpgt_epi64(above, node[1]);
        __m256i c = _mm256_cmpgt_epi64(above, node[2]), d = _mm256_cmpgt_epi64(above, node[3]);
        __m256i twice = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        uint32_t below = (uint32_t)__builtin_popcount((uint32_t)_mm256_movemask_epi8(twice)) / 2;
        rank = rank * EDGE_NODE + below;
    }
    return (uint32_t)rank;
}

/* An allowed prefix holds it. */
static inline bool source_is_allowed(const struct port_policy *policy, bool ip4, unsigned __int128 address)
{
    const struct source_edges *edges = ip4 ? &policy->edges4 : &policy->edges6;
    uint32_t rank = source_rank(edges, source_key(edges, ip4, address));
    if (ip4 || !edges->alike || !rank)
        return rank & 1;
    uint32_t n = rank < edges->alike ? rank : edges->alike, at = rank - n;
    for (uint32_t half; n > 1; n -= half) {
        half = n / 2;
        at += half & -(uint32_t)(edges->edges[at + half] <= address);
    }
    return (at + (edges->edges[at] <= address)) & 1;
}

static inline __attribute__((always_inline)) const struct port_source *
source_search(const struct port_policy *policy, bool ip4, const uint8_t *address)
{
    unsigned __int128 number = source_number(ip4, address);
    const struct port_source *own = source_of_own(policy, ip4, number);
    if (own || !source_is_allowed(policy, ip4, number))
        return own;
    return policy->sources + (ip4 ? policy->own4 : policy->n4 + policy->own6);
}

static __attribute__((noinline, unused)) const struct port_source *
source_search4(const struct port_policy *policy, const uint8_t *address)
{
    return source_search(policy, true, address);
}

static __attribute__((noinline, unused)) const struct port_source *
source_search6(const struct port_policy *policy, const uint8_t *address)
{
    return source_search(policy, false, address);
}

/*
 * The port's own CA; or, where an allowed prefix holds the address, the family's first prefix, which stands
 * for all of them; NULL: the port may not send from it.
 */
static inline const struct port_source *policy_source(const struct port_policy *policy, unsigned family,
                                                      const uint8_t *address)
{
    return family == DP_IPV4 ? source_search4(policy, address) : source_search6(policy, address);
}

/* The port's first own CA of each family: what most of its packets come from. */
struct source_own {
    const struct port_source *own4, *own6;      /* NULL: it has none */
    uint32_t ca4;
    uint64_t ca6[2];                            /* words as they lie */
};

static inline struct source_own source_own(const struct port_policy *policy)
{
    struct source_own own = {0};
    const struct port_source *s4 = policy->sources, *s6 = policy->sources + policy->n4;
    if (policy->own4)
        own.own4 = s4, own.ca4 = load32(s4->ca);
    if (policy->own6)
        own.own6 = s6, own.ca6[0] = load64(s6->ca), own.ca6[1] = load64(s6->ca + 8);
    return own;
}

/* policy_source(), the first own CA at once. */
static inline __attribute__((always_inline)) const struct port_source *
source_find(const struct source_own *own, const struct port_policy *policy, unsigned family, const uint8_t *address)
{
    bool first4 = family == DP_IPV4 && load32(address) == own->ca4;
    if (__builtin_expect(first4 && own->own4, 1))
        return own->own4;
    bool first6 = family == DP_IPV6 && load64(address) == own->ca6[0] && load64(address + 8) == own->ca6[1];
    if (__builtin_expect(first6 && own->own6, 1))
        return own->own6;
    return policy_source(policy, family, address);
}

/* MLD to a group may come from :: and from the port's link-local address, which are no sources otherwise. */
static inline bool source_is_own_mld(const struct port_policy *policy, const struct pkt *pkt)
{
    if (pkt->l3_type != PKT_L3_IP6 || pkt->l4_proto != PROTO_ICMP6 || pkt->flags & PKT_LATER)
        return false;
    uint8_t type = pkt->data[pkt->l4];
    const uint8_t *source = pkt_source(pkt);
    bool mld = type == MLD_QUERY || type == MLD_REPORT || type == MLD_DONE || type == MLD2_REPORT;
    return mld && mac_is_group(pkt->data) && (is_any(DP_IPV6, source) || !memcmp(source, policy->link_local, 16));
}

#endif
