/* lookup.c: records, wildcards and PAs by single key, and whose they are. */
#include "table/lookup.h"
#include <stdatomic.h>

static const uint8_t lookup_any[16];

static struct map_value lookup_in(const struct map *map, const uint64_t *key)
{
    struct map_value value;
    return map_get(map, key, &value) ? value : (struct map_value){0};
}

static struct map_value lookup_key(const struct tables *tables, uint32_t vsid, unsigned family,
                                   const uint8_t *ca)
{
    uint64_t key[3];
    key_record(key, vsid, family, ca);
    return lookup_in(family == DP_IPV4 ? tables->records4 : tables->records6, key);
}

struct map_value lookup_record(const struct tables *tables, uint32_t vsid, unsigned family, const uint8_t *ca)
{
    return is_any(family, ca) ? (struct map_value){0} : lookup_key(tables, vsid, family, ca);
}

struct map_value lookup_wildcard(const struct tables *tables, uint32_t vsid, unsigned family)
{
    return lookup_key(tables, vsid, family, lookup_any);
}

struct map_value lookup_pa(const struct tables *tables, unsigned family, const uint8_t *pa)
{
    uint64_t key[3];
    key_pa(key, family, pa);
    return lookup_in(family == DP_IPV4 ? tables->pas4 : tables->pas6, key);
}

uint32_t lookup_host(const struct tables *tables, uint32_t act)
{
    switch (act_kind(act)) {
    case ACT_NVGRE:
    case ACT_PA_HOST:
        return tables->next_hops[act_index(act)].host;
    case ACT_REWRITE:
    case ACT_PA_REWRITE:
        return tables->rewrites[act_index(act)].host;
    case ACT_LOCAL:
    case ACT_PA_SELF:
        return tables->self_host;
    default:
        return INDEX_NONE;
    }
}

bool lookup_is_own_pa(const struct tables *tables, unsigned family, const uint8_t *address)
{
    struct map_value value = lookup_pa(tables, family, address);
    return value.act && lookup_host(tables, value.act) == tables->self_host;
}

const uint8_t *lookup_own_pa(const struct tables *tables, unsigned family)
{
    const uint8_t *shared = tables_shared_pa(tables, family), *lowest = NULL;
    if (!is_any(family, shared)) /* 2.12.10 */
        return shared;
    for (unsigned port = 0; port < DP_MAX_PORTS; port++) {
        const struct port_policy *policy = atomic_load(&tables->policies[port]);
        for (unsigned i = 0; policy && i < policy->n4 + policy->n6; i++) {
            const struct port_source *source = &policy->sources[i];
            if (source->has_pa && source->family == family && (!lowest || memcmp(source->pa, lowest, 16) < 0))
                lowest = source->pa;
        }
    }
    return lowest;
}

bool lookup_provider_hop(const struct tables *tables, unsigned family, const uint8_t *pa, uint8_t hop[16])
{
    uint32_t route = tables_route(tables, 0, family, pa);
    if (route) /* 2.12.3 */
        memcpy(hop, act_kind(route) == ACT_VIA ? tables->vias[act_index(route)].ca : pa, 16);
    return route != 0;
}

uint32_t lookup_move(const struct tables *tables, uint32_t vsid, unsigned family, const uint8_t *ca)
{
    uint64_t key[3];
    key_move(key, vsid, family, ca);
    const struct map_value value = lookup_in(tables->moves, key);
    return value.act ? load32(value.mac) : INDEX_NONE;
}

uint32_t lookup_way(const struct tables *tables, uint32_t act)
{
    return act_kind(act) == ACT_REWRITE ? tables->rewrites[act_index(act)].shared : act_index(act);
}
