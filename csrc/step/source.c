/*
 * source.c: a port's sources searched by halving, README.md 2.4. An address in, the source that allows it
 * out. Called by source.h for what is not the port's first own CA.
 */
#include "step/source.h"
#include "base/hot.h"

/*
 * The port's own CA of that number, NULL: there is none. Both searches are without a branch that depends on
 * the address, which a VM chooses: after each step [0, n) of what is left holds the last one that isn't above
 * it.
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

/* An allowed prefix holds it. */
static inline bool source_is_allowed(const struct port_policy *policy, bool ip4, unsigned __int128 address)
{
    uint32_t at = 0, n = ip4 ? policy->edge_count4 : policy->edge_count6;
    if (!n)
        return false;
    for (uint32_t half; n > 1; n -= half) {
        half = n / 2;
        at += half & -(uint32_t)((ip4 ? policy->edges4[at + half] : policy->edges6[at + half]) <= address);
    }
    return (at + ((ip4 ? policy->edges4[at] : policy->edges6[at]) <= address)) & 1;
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
