/* export.c: rows and their digest, out of what packets are forwarded by. Control thread; nothing here writes to a table. */
#include "control/changes.h"

struct export {
    const struct tables *tables;
    uint32_t self, kind;
    enum table table;
    uint8_t *out;
    size_t size, room;              /* bytes of a row; rows that there is room for */
    uint64_t n, digest;
};

/* splitmix64 */
static inline uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

static void give(struct export *e, const void *row)
{
    uint64_t hash = e->kind;
    for (size_t at = 0; at < e->size; at += 8)
        hash = mix(hash ^ load64((const uint8_t *)row + at));
    e->digest += hash;
    if (e->n < e->room)
        memcpy(e->out + e->n * e->size, row, e->size);
    e->n++;
}

/* The address at the end of a key; of IPv4 the rest stays 0. */
static uint8_t take_address(const struct export *e, const uint64_t *key, uint8_t *address)
{
    bool ip4 = e->table == TABLE_RECORDS4 || e->table == TABLE_PAS4 || e->table == TABLE_ROUTES4;
    memcpy(address, ip4 ? key : key + 1, ip4 ? 4 : 16);
    return ip4 ? DP_IPV4 : DP_IPV6;
}

static void pa_row(struct export *e, const uint64_t *key, const struct map_value *value)
{
    const uint32_t index = act_index(value->act);
    bool rewrite = act_kind(value->act) == ACT_PA_REWRITE;
    struct dp_row_pa row = {.host = rewrite ? e->tables->rewrites[index].host : e->tables->next_hops[index].host,
                            .kind = rewrite ? DP_PA_REWRITE : DP_PA_SHARED};
    row.family = take_address(e, key, row.address);
    give(e, &row);
}

static void route_row(struct export *e, const uint64_t *key, const struct map_value *value)
{
    bool ip4 = e->table == TABLE_ROUTES4, via = act_kind(value->act) == ACT_VIA, provider = key_route_rdid(key, ip4) == 0;
    struct dp_row_route row = {.rdid = key_route_rdid(key, ip4), .prefix_len = key_route_len(key, ip4)};
    if (provider != (e->kind == DP_ROW_PROVIDER_ROUTE) || !(provider || via))
        return;                     /* a prefix on link */
    row.family = take_address(e, key, row.prefix);
    if (via) {
        row.vsid = e->tables->vias[act_index(value->act)].vsid;
        memcpy(row.next_hop, e->tables->vias[act_index(value->act)].ca, 16);
    }
    if (provider)
        memmove((uint8_t *)&row + offsetof(struct dp_row_route, rdid), (uint8_t *)&row + offsetof(struct dp_row_route, family), 8);  /* no ids */
    give(e, &row);
}

static void subnet_row(struct export *e, const uint64_t *key, const struct map_value *value)
{
    give(e, &(struct dp_row_subnet){(uint32_t)key[0], e->tables->subnets[act_index(value->act)].rdid});
}

static void prefix_row(struct export *e, const uint64_t *key, const struct map_value *value)
{
    const struct prefix *prefix = change_prefix(e->tables->writer, act_index(value->act));
    struct dp_row_prefix row = {.vsid = prefix->vsid, .family = (uint8_t)(key[0] >> 8), .prefix_len = (uint8_t)key[0]};
    memcpy(row.prefix, key + 1, 16);
    memcpy(row.gateway, prefix->gateway, 16);
    give(e, &row);
}

static void record_row(struct export *e, const uint64_t *key, const struct map_value *value)
{
    struct dp_row_record row = {.vsid = (uint32_t)(key[0] >> 32), .host = e->self, .translation = DP_NVGRE};
    const uint32_t index = act_index(value->act);
    const enum act kind = act_kind(value->act);
    const struct next_hop *nh = &e->tables->next_hops[index];
    if (kind == ACT_GATEWAY)
        return;
    row.family = take_address(e, key, row.ca);
    row.type = is_any(row.family, row.ca) ? DP_GATEWAY_WILDCARD : DP_STATIC;
    memcpy(row.mac, value->mac, 6);
    const uint8_t *rewrite = kind == ACT_REWRITE ? e->tables->rewrites[index].pa : NULL;
    if (kind == ACT_REWRITE) {
        row.host = e->tables->rewrites[index].host;
    } else if (kind == ACT_NVGRE) {
        row.host = nh->host;
        row.pa_family = nh->family;
        memcpy(row.provider_address, nh->pa, 16);
    } else {
        const struct port_source *own = policy_own(e->tables->policies[index], row.family, row.ca);
        row.port = index;
        rewrite = own && own->has_pa ? own->pa : NULL;
    }
    if (rewrite) {
        row.translation = DP_REWRITE;
        row.pa_family = row.family;
        memcpy(row.provider_address, rewrite, 16);
    }
    give(e, &row);
}

static void source_rows(struct export *e, const struct port_policy *policy)
{
    for (uint32_t i = 0; i < (uint32_t)policy->n4 + policy->n6; i++) {
        const struct port_source *source = &policy->sources[i];
        struct dp_row_source row = {.port = policy->port, .family = source->family, .prefix_len = source->prefix_len};
        memcpy(row.prefix, source->ca, 16);
        if (source->extra)
            give(e, &row);
    }
}

static void port_rows(struct export *e, const struct port_policy *policy)
{
    struct dp_row_port row = {.port = policy->port, .vsid = policy->vsid};
    memcpy(row.mac, policy->mac, 6);
    give(e, &row);
}

/* By kind: what makes rows of a map's entry or of a port's policy. */
static const struct {
    size_t size;
    enum table first, last;
    void (*entry)(struct export *e, const uint64_t *key, const struct map_value *value);
    void (*policy)(struct export *e, const struct port_policy *policy);
} kinds[] = {
    [DP_ROW_PA] = {sizeof(struct dp_row_pa), TABLE_PAS4, TABLE_PAS6, pa_row, NULL},
    [DP_ROW_PROVIDER_ROUTE] = {sizeof(struct dp_row_provider_route), TABLE_ROUTES4, TABLE_ROUTES6, route_row, NULL},
    [DP_ROW_SUBNET] = {sizeof(struct dp_row_subnet), TABLE_SUBNETS, TABLE_SUBNETS, subnet_row, NULL},
    [DP_ROW_PREFIX] = {sizeof(struct dp_row_prefix), TABLE_PREFIXES, TABLE_PREFIXES, prefix_row, NULL},
    [DP_ROW_PORT] = {sizeof(struct dp_row_port), 0, 0, NULL, port_rows},
    [DP_ROW_SOURCE] = {sizeof(struct dp_row_source), 0, 0, NULL, source_rows},
    [DP_ROW_RECORD] = {sizeof(struct dp_row_record), TABLE_RECORDS4, TABLE_RECORDS6, record_row, NULL},
    [DP_ROW_ROUTE] = {sizeof(struct dp_row_route), TABLE_ROUTES4, TABLE_ROUTES6, route_row, NULL},
};

static bool each_entry(void *ctx, const uint64_t *key, const struct map_value *value)
{
    struct export *e = ctx;
    kinds[e->kind].entry(e, key, value);
    return true;
}

static int export_rows(const struct tables *t, struct export *e)
{
    if (e->kind == 0 || e->kind >= sizeof kinds / sizeof kinds[0])
        return DP_EINVAL;
    e->tables = t;
    e->self = t->self_host;
    e->size = kinds[e->kind].size;
    e->room /= e->size;
    for (e->table = kinds[e->kind].first; kinds[e->kind].entry && e->table <= kinds[e->kind].last; e->table++)
        map_each(change_map(t, e->table), each_entry, e);
    for (uint32_t port = 0; kinds[e->kind].policy && port < DP_MAX_PORTS; port++)
        if (t->policies[port])
            kinds[e->kind].policy(e, t->policies[port]);
    return DP_OK;
}

int64_t tables_rows(const struct tables *tables, uint32_t kind, uint8_t *out, size_t capacity)
{
    struct export e = {.kind = kind, .out = out, .room = capacity};
    int code = export_rows(tables, &e);
    return code ? code : (int64_t)e.n;
}

int tables_digest(const struct tables *tables, uint32_t kind, uint64_t *out)
{
    struct export e = {.kind = kind};
    int code = export_rows(tables, &e);
    *out = e.digest;
    return code;
}
