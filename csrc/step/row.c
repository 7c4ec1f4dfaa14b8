/* row.c: one row, of an entry or of what a port's policy says. */
#include "step/row.h"
#include "table/lookup.h"

const struct row_maps row_maps[ROW_KINDS] = {
    [DP_ROW_PA] = {TABLE_PAS4, TABLE_PAS6},
    [DP_ROW_PROVIDER_ROUTE] = {TABLE_ROUTES4, TABLE_ROUTES6},
    [DP_ROW_SUBNET] = {TABLE_SUBNETS, TABLE_SUBNETS},
    [DP_ROW_PREFIX] = {TABLE_PREFIXES, TABLE_PREFIXES},
    [DP_ROW_PORT] = {TABLE_COUNT, 0},
    [DP_ROW_SOURCE] = {TABLE_COUNT, 0},
    [DP_ROW_RECORD] = {TABLE_RECORDS4, TABLE_RECORDS6},
    [DP_ROW_ROUTE] = {TABLE_ROUTES4, TABLE_ROUTES6},
    [DP_ROW_MOVE] = {TABLE_MOVES, TABLE_MOVES},
    [DP_ROW_FLOOD] = {TABLE_FLOODS, TABLE_FLOODS},
};

/* The address at the end of a key; of IPv4 the rest stays 0. */
static uint8_t row_address(const struct row_entry *e, uint8_t *address)
{
    bool ip4 = e->table == TABLE_RECORDS4 || e->table == TABLE_PAS4 || e->table == TABLE_ROUTES4;
    memcpy(address, ip4 ? e->key : e->key + 1, ip4 ? 4 : 16);
    return ip4 ? DP_IPV4 : DP_IPV6;
}

static bool row_pa(const struct tables *t, const struct row_entry *e, struct dp_row_pa *row)
{
    const uint32_t index = act_index(e->value.act);
    bool rewrite = act_kind(e->value.act) == ACT_PA_REWRITE;
    row->host = rewrite ? t->rewrites[index].host : t->next_hops[index].host;
    row->kind = rewrite ? DP_PA_REWRITE : DP_PA_SHARED;
    row->family = row_address(e, row->address);
    return true;
}

static bool row_provider_route(const struct tables *t, const struct row_entry *e,
                               struct dp_row_provider_route *row)
{
    bool ip4 = e->table == TABLE_ROUTES4;
    row->family = row_address(e, row->prefix);
    row->prefix_len = key_route_len(e->key, ip4);
    if (act_kind(e->value.act) == ACT_VIA)
        memcpy(row->next_hop, t->vias[act_index(e->value.act)].ca, 16);
    return key_route_rdid(e->key, ip4) == 0;
}

/* A prefix on link is none. */
static bool row_route(const struct tables *t, const struct row_entry *e, struct dp_row_route *row)
{
    bool ip4 = e->table == TABLE_ROUTES4;
    row->rdid = key_route_rdid(e->key, ip4);
    row->prefix_len = key_route_len(e->key, ip4);
    row->family = row_address(e, row->prefix);
    if (row->rdid == 0 || act_kind(e->value.act) != ACT_VIA)
        return false;
    row->vsid = t->vias[act_index(e->value.act)].vsid;
    memcpy(row->next_hop, t->vias[act_index(e->value.act)].ca, 16);
    return true;
}

static bool row_prefix(const struct tables *t, const struct row_entry *e, struct dp_row_prefix *row)
{
    const struct prefix *prefix = &t->prefixes[act_index(e->value.act)];
    row->vsid = prefix->vsid;
    row->family = key_prefix_family(e->key);
    row->prefix_len = key_prefix_len(e->key);
    memcpy(row->prefix, e->key + 1, 16);
    memcpy(row->gateway, prefix->gateway, 16);
    return true;
}

static void row_rewrite(struct dp_row_record *row, const uint8_t *pa)
{
    row->translation = DP_REWRITE;
    row->pa_family = row->family;
    memcpy(row->provider_address, pa, 16);
}

void row_own(struct dp_row_record *row, const struct port_source *own)
{
    if (own && own->has_pa)
        row_rewrite(row, own->pa);
}

static bool row_record(const struct tables *t, const struct row_entry *e, struct dp_row_record *row)
{
    const uint32_t index = act_index(e->value.act);
    const enum act kind = act_kind(e->value.act);
    row->vsid = key_id(e->table, e->key);
    row->host = t->self_host;
    row->translation = DP_NVGRE;
    row->family = row_address(e, row->ca);
    row->type = is_any(row->family, row->ca) ? DP_GATEWAY_WILDCARD : DP_STATIC;
    memcpy(row->mac, lookup_mac(t, &e->value), 6);
    if (kind == ACT_REWRITE) {
        row->host = t->rewrites[index].host;
        row_rewrite(row, t->rewrites[index].pa);
    } else if (kind == ACT_NVGRE) {
        row->host = t->next_hops[index].host;
        row->pa_family = t->next_hops[index].family;
        memcpy(row->provider_address, t->next_hops[index].pa, 16);
    } else if (kind == ACT_LOCAL) {
        row->port = index;
    }
    return kind != ACT_GATEWAY;
}

static bool row_move(const struct row_entry *e, struct dp_row_move *row)
{
    memcpy(row->ca, e->key + 1, 16);
    row->vsid = key_id(e->table, e->key);
    row->host = load32(e->value.mac);
    row->family = (uint8_t)e->key[0];
    return true;
}

static bool row_flood(const struct tables *t, const struct row_entry *e, struct dp_row_flood *row)
{
    memcpy(row->provider_address, e->key + 1, 16);
    row->vsid = key_id(e->table, e->key);
    row->host = t->next_hops[act_index(e->value.act)].host;
    row->family = (uint8_t)e->key[0];
    return true;
}

static bool row_subnet(const struct tables *t, const struct row_entry *e, struct dp_row_subnet *row)
{
    const struct subnet *subnet = &t->subnets[act_index(e->value.act)];
    *row = (struct dp_row_subnet){subnet->vsid, subnet->rdid, subnet->flood_per_second, subnet->flood_burst};
    return true;
}

bool row_of_entry(const struct tables *t, uint16_t kind, const struct row_entry *e, union table_row *row)
{
    switch (kind) {
    case DP_ROW_MOVE: return row_move(e, &row->move);
    case DP_ROW_FLOOD: return row_flood(t, e, &row->flood);
    case DP_ROW_PA: return row_pa(t, e, &row->pa);
    case DP_ROW_PROVIDER_ROUTE: return row_provider_route(t, e, &row->provider_route);
    case DP_ROW_PREFIX: return row_prefix(t, e, &row->prefix);
    case DP_ROW_RECORD: return row_record(t, e, &row->record);
    case DP_ROW_ROUTE: return row_route(t, e, &row->route);
    default: return row_subnet(t, e, &row->subnet);
    }
}

/* ---- of a port's policy -------------------------------------------------------------------------------- */

void row_port(uint32_t port, uint32_t vsid, const uint8_t *mac, const struct port_limit *limit,
              union table_row *row)
{
    row->port.port = port;
    row->port.vsid = vsid;
    memcpy(row->port.mac, mac, 6);
    row->port.packets_per_second = (uint32_t)limit->packets.per_second;
    row->port.burst_packets = limit->packets.burst;
    row->port.bytes_per_second = limit->bytes.per_second;
    row->port.burst_bytes = limit->bytes.burst;
}

bool row_source(uint32_t port, const struct port_source *source, union table_row *row)
{
    row->source.port = port;
    row->source.family = source->family;
    row->source.prefix_len = source->prefix_len;
    memcpy(row->source.prefix, source->ca, 16);
    return source->extra;
}

/* ---- the entry of a key -------------------------------------------------------------------------------- */

enum table row_key(const struct tables *t, uint16_t kind, const union table_row *row, uint64_t *key)
{
    uint32_t subnet;
    switch (kind) {
    case DP_ROW_PA:
        key_pa(key, row->pa.family, row->pa.address);
        return pas_of(row->pa.family);
    case DP_ROW_RECORD:
        key_record(key, row->record.vsid, row->record.family, row->record.ca);
        return records_of(row->record.family);
    case DP_ROW_PROVIDER_ROUTE:
        key_route(key, 0, row->provider_route.family, row->provider_route.prefix,
                  row->provider_route.prefix_len);
        return routes_of(row->provider_route.family);
    case DP_ROW_ROUTE:
        key_route(key, row->route.rdid, row->route.family, row->route.prefix, row->route.prefix_len);
        return routes_of(row->route.family);
    case DP_ROW_PREFIX:
        subnet = tables_subnet(t, row->prefix.vsid);
        key_prefix(key, subnet == INDEX_NONE ? 0 : t->subnets[subnet].rdid, row->prefix.family,
                   row->prefix.prefix, row->prefix.prefix_len);
        return TABLE_PREFIXES;
    case DP_ROW_MOVE:
        key_move(key, row->move.vsid, row->move.family, row->move.ca);
        return TABLE_MOVES;
    case DP_ROW_FLOOD:
        key_move(key, row->flood.vsid, row->flood.family, row->flood.provider_address);
        return TABLE_FLOODS;
    default:
        key[0] = row->subnet.vsid;
        return TABLE_SUBNETS;
    }
}

struct row_entry row_find(const struct tables *t, uint16_t kind, const union table_row *like, uint64_t *key)
{
    struct row_entry e = {.table = row_key(t, kind, like, key), .key = key};
    if (key[0] == 0 || !map_get(t->maps[e.table], key, &e.value))
        e.value.act = ACT_NONE;
    return e;
}
