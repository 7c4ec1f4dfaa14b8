/* lookup.c: records, wildcards and PAs by single key, and whose they are. */
#include "table/lookup.h"

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

uint32_t lookup_move(const struct tables *tables, uint32_t vsid, unsigned family, const uint8_t *ca)
{
    uint64_t key[3];
    key_move(key, vsid, family, ca);
    return lookup_in(tables->moves, key).act - 1;
}

uint32_t lookup_way(const struct tables *tables, uint32_t act)
{
    return act_kind(act) == ACT_REWRITE ? tables->rewrites[act_index(act)].shared : act_index(act);
}
