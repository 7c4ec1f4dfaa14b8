/* gateway.c: prefixes on link, the longest first; of the lengths that the routing domain has routes of. */
#include "router/gateway.h"
#include <stdatomic.h>

const struct prefix *gateway_on_link(const struct tables *tables, uint32_t rdid, unsigned family,
                                     const uint8_t *address, unsigned *len)
{
    const bool ip4 = family == DP_IPV4;
    for (*len = addr_bits(family) + 1u; (*len)-- > 0;) {
        uint8_t prefix[16] = {0};
        uint64_t key[3];
        struct map_value value;
        const uint64_t lengths = atomic_load(tables_length(&tables->lengths[rdid], ip4, *len));
        if (!(lengths >> *len % 64 & 1))
            continue;
        memcpy(prefix, address, (*len + 7) / 8);
        if (*len % 8)
            prefix[*len / 8] &= (uint8_t)(0xff00 >> *len % 8);
        key_prefix(key, rdid, family, prefix, *len);
        if (map_get(tables->prefix_map, key, &value))
            return &tables->prefixes[act_index(value.act)];
    }
    return NULL;
}

const uint8_t *gateway_beside(const struct tables *tables, uint32_t rdid, uint32_t vsid, unsigned family,
                              const uint8_t *address)
{
    unsigned len;
    const struct prefix *prefix = gateway_on_link(tables, rdid, family, address, &len);
    bool ours = prefix && prefix->vsid == vsid && !is_any(DP_IPV6, prefix->gateway);
    return ours ? prefix->gateway : NULL;
}
