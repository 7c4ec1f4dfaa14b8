/* policy.c: drafts; a policy, its sources in order, and behind them the edges that source.c searches. */
#include "step/policy.h"
#include <stdlib.h>
#include "step/limit.h"
#include "step/source.h"

/* ---- drafts -------------------------------------------------------------------------------------------- */

void policy_free(struct draft *draft)
{
    if (draft) {
        free(draft->sources);
        free(draft->bucket);
    }
    free(draft);
}

bool policy_room(struct draft *draft)
{
    const uint32_t wanted = draft->capacity ? draft->capacity * 2 : 16;
    if (draft->n < draft->capacity)
        return true;
    struct port_source *sources = realloc(draft->sources, wanted * sizeof *sources);
    if (sources) {
        draft->sources = sources;
        draft->capacity = wanted;
    }
    return sources;
}

struct port_source *policy_source_of(const struct draft *draft, unsigned family, const uint8_t *ca,
                                     unsigned prefix_len, bool extra)
{
    for (uint32_t i = 0; i < draft->n; i++) {
        struct port_source *s = &draft->sources[i];
        if (s->family == family && s->extra == extra && s->prefix_len == prefix_len && !memcmp(s->ca, ca, 16))
            return s;
    }
    return NULL;
}

void policy_add(struct draft *draft, const struct port_source *source)
{
    struct port_source *there =
        policy_source_of(draft, source->family, source->ca, source->prefix_len, source->extra);
    *(there ? there : &draft->sources[draft->n++]) = *source;
}

void policy_remove(struct draft *draft, const struct port_source *source)
{
    struct port_source *there =
        policy_source_of(draft, source->family, source->ca, source->prefix_len, source->extra);
    if (there)
        *there = draft->sources[--draft->n];
}

/* ---- its size ------------------------------------------------------------------------------------------ */

static size_t policy_line(size_t bytes) { return (bytes + POLICY_LINE - 1) / POLICY_LINE * POLICY_LINE; }

/* In nodes: of so many keys, without and with the levels above them. */
static size_t policy_nodes(size_t keys) { return (keys + EDGE_NODE - 1) / EDGE_NODE; }
static size_t policy_all_nodes(size_t keys)
{
    size_t nodes = 0;
    for (size_t n = policy_nodes(keys); n; n = policy_nodes(n - 1))
        nodes += n;
    return nodes;
}

static size_t policy_head(size_t sources)
{
    return policy_line(sizeof(struct port_policy) + sources * sizeof(struct port_source));
}

/* A source has two edges at most. In order, each at a line: sources, IPv6 edges, IPv6 keys, IPv4 keys. */
size_t policy_size(const struct port_source *sources, uint32_t n)
{
    size_t n4 = 0;
    for (uint32_t i = 0; i < n; i++)
        n4 += sources[i].family == DP_IPV4;
    const size_t n6 = n - n4;
    return policy_head(n) + policy_line(n6 * 2 * sizeof(unsigned __int128)) +
           (policy_all_nodes(n6 * 2) + policy_all_nodes(n4 * 2)) * EDGE_NODE * sizeof(int64_t);
}

/* ---- sources ------------------------------------------------------------------------------------------- */

/* IPv4 before IPv6, own CAs before prefixes, then by address, so that equal sources make equal policies. */
static int policy_compare(const void *a, const void *b)
{
    const struct port_source *x = a, *y = b;
    if (x->family != y->family)
        return x->family - y->family;
    if (x->extra != y->extra)
        return x->extra - y->extra;
    int order = memcmp(x->ca, y->ca, 16);
    return order ? order : x->prefix_len - y->prefix_len;
}

const struct port_source *policy_own(const struct port_policy *policy, unsigned family, const uint8_t *ca)
{
    struct port_source key = {.family = (uint8_t)family, .prefix_len = family == DP_IPV4 ? 32 : 128};
    memcpy(key.ca, ca, 16);
    return bsearch(&key, policy->sources, (size_t)policy->n4 + policy->n6, sizeof key, policy_compare);
}

/* ---- edges --------------------------------------------------------------------------------------------- */

/* Of IPv4 the keys, of IPv6 the edges. */
static void policy_edge(struct source_edges *edges, bool ip4, unsigned __int128 *to, unsigned __int128 edge)
{
    if (ip4)
        edges->level[0][edges->count++] = (int64_t)edge;
    else
        to[edges->count++] = edge;
}

/* From prefixes in the order of their addresses. A range up to the last address has no second edge. */
static void policy_merge(struct source_edges *edges, bool ip4, unsigned __int128 *to,
                         const struct port_source *s, size_t n)
{
    const unsigned __int128 highest = ip4 ? UINT32_MAX : ~(unsigned __int128)0;
    unsigned __int128 last = 0;         /* of the range that is open */
    for (size_t i = 0; i < n; i++) {
        unsigned __int128 rest = s[i].prefix_len < (ip4 ? 32 : 128) ? highest >> s[i].prefix_len : 0;
        unsigned __int128 first = source_number(ip4, s[i].ca) & ~rest;
        if (i == 0 || (first > last && first - last > 1)) {
            if (i)
                policy_edge(edges, ip4, to, last + 1);
            policy_edge(edges, ip4, to, first);
        }
        last = i == 0 || (first | rest) > last ? first | rest : last;
    }
    if (n && last < highest)
        policy_edge(edges, ip4, to, last + 1);
}

/* Keys of IPv6: as many high bits as are sure to be below INT64_MAX. */
static void policy_keys(struct source_edges *edges, const unsigned __int128 *of)
{
    edges->edges = of;
    edges->first = edges->count ? of[0] : 0;
    unsigned __int128 span = edges->count ? of[edges->count - 1] - edges->first : 0, lost = 0;
    while (span >> edges->shift >> 62)
        edges->shift++;
    for (uint32_t i = 0, same = 0; i < edges->count; i++) {
        unsigned __int128 above = of[i] - edges->first;
        edges->level[0][i] = (int64_t)(above >> edges->shift);
        same = i && edges->level[0][i] == edges->level[0][i - 1] ? same + 1 : 1;
        edges->alike = same > edges->alike ? same : edges->alike;
        lost |= above & (((unsigned __int128)1 << edges->shift) - 1);
    }
    edges->alike = lost ? edges->alike : 0;
}

/* Fills the last node of each level, and makes the levels above the first. */
static void policy_levels(struct source_edges *edges)
{
    uint32_t keys = edges->count;
    while (keys) {
        int64_t *level = edges->level[edges->levels++];
        uint32_t nodes = (uint32_t)policy_nodes(keys);
        for (uint32_t i = keys; i < nodes * EDGE_NODE; i++)
            level[i] = INT64_MAX;
        for (uint32_t i = 1; i < nodes; i++)
            level[(size_t)nodes * EDGE_NODE + i - 1] = level[(size_t)i * EDGE_NODE];
        if ((keys = nodes - 1))
            edges->level[edges->levels] = level + (size_t)nodes * EDGE_NODE;
    }
}

static void policy_edges(struct port_policy *policy)
{
    const struct port_source *s4 = policy->sources, *s6 = s4 + policy->n4;
    size_t prefixes4 = (size_t)policy->n4 - policy->own4, prefixes6 = (size_t)policy->n6 - policy->own6;
    char *at = (char *)policy + policy_head((size_t)policy->n4 + policy->n6);
    unsigned __int128 *edges6 = (void *)at;
    at += policy_line(prefixes6 * 2 * sizeof *edges6);
    policy->edges6.level[0] = (void *)at;
    at += policy_all_nodes(prefixes6 * 2) * EDGE_NODE * sizeof(int64_t);
    policy->edges4.level[0] = (void *)at;
    policy_merge(&policy->edges4, true, NULL, s4 + policy->own4, prefixes4);
    policy_merge(&policy->edges6, false, edges6, s6 + policy->own6, prefixes6);
    policy_keys(&policy->edges6, edges6);
    policy_levels(&policy->edges4);
    policy_levels(&policy->edges6);
}

static void policy_set_sources(struct port_policy *policy, const struct port_source *sources, uint32_t n)
{
    if (n)
        memcpy(policy->sources, sources, n * sizeof *sources);
    qsort(policy->sources, n, sizeof *sources, policy_compare);
    for (uint32_t i = 0; i < n; i++) {
        bool ip4 = sources[i].family == DP_IPV4;
        (*(ip4 ? &policy->n4 : &policy->n6))++;
        if (!sources[i].extra)
            (*(ip4 ? &policy->own4 : &policy->own6))++;
    }
    policy_edges(policy);
}

void policy_build(struct port_policy *policy, const struct draft *draft, uint32_t port, uint32_t subnet,
                  uint32_t rdid)
{
    memset(policy, 0, sizeof *policy);
    policy->port = port;
    policy->vsid = draft->vsid;
    policy->subnet = subnet;
    policy->rdid = rdid;
    memcpy(policy->mac, draft->mac, 6);
    policy->limit = draft->limit;
    policy->bucket = limit_limits(&draft->limit) ? draft->bucket : NULL;
    policy_set_sources(policy, draft->sources, draft->n);
}
