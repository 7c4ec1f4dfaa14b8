/*
 * source.c: a port's sources searched, README.md 2.4. An address in, the source that allows it out. Called by
 * source.h for what is not the port's first own CA; source_parse() by from_tenant.
 */
#include "step/source.h"
#include <immintrin.h>
#include "base/hot.h"
#include "pkt/parse.h"

enum drop source_parse(const struct port_policy *policy, struct pkt *pkt)
{
    enum drop drop = parse_frame(pkt); /* 2.1.2 */
    if (drop)
        return drop;
    if (pkt->flags & PKT_VLAN)
        parse_strip_vlan(pkt); /* 2.1.3 */
    return mac_equal(pkt->data + 6, policy->mac) ? DROP_NONE : DROP_SRC_MAC; /* 2.1.4 */
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

HOT const struct port_source *source_search(const struct port_policy *policy, bool ip4,
                                            const uint8_t *address)
{
    unsigned __int128 number = source_number(ip4, address);
    const struct port_source *own = source_of_own(policy, ip4, number);
    if (own || !source_is_allowed(policy, ip4, number))
        return own;
    return policy->sources + (ip4 ? policy->own4 : policy->n4 + policy->own6);
}

const struct port_source *source_search4(const struct port_policy *policy, const uint8_t *address)
{
    return source_search(policy, true, address);
}

const struct port_source *source_search6(const struct port_policy *policy, const uint8_t *address)
{
    return source_search(policy, false, address);
}
