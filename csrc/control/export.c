/*
 * export.c: rows and their digest, out of what packets are forwarded by; and, for the inverse of a change
 * set, out of what the writer has. Control thread; nothing here writes to a table. Called by changes.c,
 * verify.c and run/api.c.
 */
#include "control/changes.h"

/* Where rows are made from. own: the writer's drafts in place of the policies that are built of them. */
struct export {
    const struct tables *tables;
    bool drafts;
    uint16_t kind;
    enum table table;
    uint8_t *out;
    size_t size, room;              /* bytes of a row; rows that there is room for */
    uint64_t n, digest;
};

/* splitmix64 */
static inline uint64_t export_mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

union export_row_of {
    struct dp_row_pa pa;
    struct dp_row_provider_route provider_route;
    struct dp_row_subnet subnet;
    struct dp_row_prefix prefix;
    struct dp_row_port port;
    struct dp_row_source source;
    struct dp_row_record record;
    struct dp_row_route route;
    struct dp_row_move move;
};

/* ---- one row: of a map's entry; false: that is none of the kind ---------------------------------------- */

/* The address at the end of a key; of IPv4 the rest stays 0. */
static uint8_t export_address(enum table table, const uint64_t *key, uint8_t *address)
{
    bool ip4 = table == TABLE_RECORDS4 || table == TABLE_PAS4 || table == TABLE_ROUTES4;
    memcpy(address, ip4 ? key : key + 1, ip4 ? 4 : 16);
    return ip4 ? DP_IPV4 : DP_IPV6;
}

static bool export_pa(const struct export *e, const uint64_t *key, const struct map_value *value,
                      union export_row_of *row)
{
    const uint32_t index = act_index(value->act);
    bool rewrite = act_kind(value->act) == ACT_PA_REWRITE;
    row->pa.host = rewrite ? e->tables->rewrites[index].host : e->tables->next_hops[index].host;
    row->pa.kind = rewrite ? DP_PA_REWRITE : DP_PA_SHARED;
    row->pa.family = export_address(e->table, key, row->pa.address);
    return true;
}

static bool export_provider_route(const struct export *e, const uint64_t *key, const struct map_value *value,
                                  union export_row_of *row)
{
    bool ip4 = e->table == TABLE_ROUTES4;
    row->provider_route.family = export_address(e->table, key, row->provider_route.prefix);
    row->provider_route.prefix_len = key_route_len(key, ip4);
    if (act_kind(value->act) == ACT_VIA)
        memcpy(row->provider_route.next_hop, e->tables->vias[act_index(value->act)].ca, 16);
    return key_route_rdid(key, ip4) == 0;
}

/* A prefix on link is none. */
static bool export_route(const struct export *e, const uint64_t *key, const struct map_value *value,
                         union export_row_of *row)
{
    bool ip4 = e->table == TABLE_ROUTES4;
    row->route.rdid = key_route_rdid(key, ip4);
    row->route.prefix_len = key_route_len(key, ip4);
    row->route.family = export_address(e->table, key, row->route.prefix);
    if (row->route.rdid == 0 || act_kind(value->act) != ACT_VIA)
        return false;
    row->route.vsid = e->tables->vias[act_index(value->act)].vsid;
    memcpy(row->route.next_hop, e->tables->vias[act_index(value->act)].ca, 16);
    return true;
}

static bool export_subnet(const struct export *e, const uint64_t *key, const struct map_value *value,
                          union export_row_of *row)
{
    row->subnet = (struct dp_row_subnet){(uint32_t)key[0], e->tables->subnets[act_index(value->act)].rdid};
    return true;
}

static bool export_prefix(const struct export *e, const uint64_t *key, const struct map_value *value,
                          union export_row_of *row)
{
    const struct prefix *prefix = change_prefix(e->tables->writer, act_index(value->act));
    row->prefix.vsid = prefix->vsid;
    row->prefix.family = (uint8_t)(key[0] >> 8);
    row->prefix.prefix_len = (uint8_t)key[0];
    memcpy(row->prefix.prefix, key + 1, 16);
    memcpy(row->prefix.gateway, prefix->gateway, 16);
    return true;
}

/* The port's own CA; NULL: it is not. */
static const struct port_source *export_own(const struct export *e, uint32_t port, unsigned family,
                                            const uint8_t *ca)
{
    const struct draft *draft = e->tables->writer->drafts[port];
    if (e->drafts)
        return policy_source_of(draft, family, ca, family == DP_IPV4 ? 32 : 128, false);
    return policy_own(e->tables->policies[port], family, ca);
}

static bool export_record(const struct export *e, const uint64_t *key, const struct map_value *value,
                          union export_row_of *out)
{
    struct dp_row_record *row = &out->record;
    const uint32_t index = act_index(value->act);
    const enum act kind = act_kind(value->act);
    const struct next_hop *nh = &e->tables->next_hops[index];
    const uint8_t *rewrite = kind == ACT_REWRITE ? e->tables->rewrites[index].pa : NULL;
    row->vsid = (uint32_t)(key[0] >> 32);
    row->host = e->tables->self_host;
    row->translation = DP_NVGRE;
    row->family = export_address(e->table, key, row->ca);
    row->type = is_any(row->family, row->ca) ? DP_GATEWAY_WILDCARD : DP_STATIC;
    memcpy(row->mac, value->mac, 6);
    if (kind == ACT_REWRITE) {
        row->host = e->tables->rewrites[index].host;
    } else if (kind == ACT_NVGRE) {
        row->host = nh->host;
        row->pa_family = nh->family;
        memcpy(row->provider_address, nh->pa, 16);
    } else if (kind == ACT_LOCAL) {
        const struct port_source *own = export_own(e, index, row->family, row->ca);
        row->port = index;
        rewrite = own && own->has_pa ? own->pa : NULL;
    }
    if (rewrite) {
        row->translation = DP_REWRITE;
        row->pa_family = row->family;
        memcpy(row->provider_address, rewrite, 16);
    }
    return kind != ACT_GATEWAY;
}

static bool export_move(const struct export *e, const uint64_t *key, const struct map_value *value,
                        union export_row_of *row)
{
    (void)e;
    memcpy(row->move.ca, key + 1, 16);
    row->move.vsid = (uint32_t)(key[0] >> 32);
    row->move.host = value->act - 1;
    row->move.family = (uint8_t)key[0];
    return true;
}

static void export_port(uint32_t port, uint32_t vsid, const uint8_t *mac, const struct port_limit *limit,
                        union export_row_of *row)
{
    row->port.port = port;
    row->port.vsid = vsid;
    memcpy(row->port.mac, mac, 6);
    row->port.packets_per_second = (uint32_t)limit->packets.per_second;
    row->port.burst_packets = limit->packets.burst;
    row->port.bytes_per_second = limit->bytes.per_second;
    row->port.burst_bytes = limit->bytes.burst;
}

/* False: an own CA, which is a record's. */
static bool export_source(uint32_t port, const struct port_source *source, union export_row_of *row)
{
    row->source.port = port;
    row->source.family = source->family;
    row->source.prefix_len = source->prefix_len;
    memcpy(row->source.prefix, source->ca, 16);
    return source->extra;
}

/* By kind: the maps whose entries are its rows, if there are such, and what makes one of them. */
static const struct {
    enum table first, last;
    bool (*entry)(const struct export *e, const uint64_t *key, const struct map_value *value,
                  union export_row_of *row);
} export_kinds[ROW_KINDS] = {
    [DP_ROW_PA] = {TABLE_PAS4, TABLE_PAS6, export_pa},
    [DP_ROW_PROVIDER_ROUTE] = {TABLE_ROUTES4, TABLE_ROUTES6, export_provider_route},
    [DP_ROW_SUBNET] = {TABLE_SUBNETS, TABLE_SUBNETS, export_subnet},
    [DP_ROW_PREFIX] = {TABLE_PREFIXES, TABLE_PREFIXES, export_prefix},
    [DP_ROW_PORT] = {TABLE_COUNT, 0, NULL},
    [DP_ROW_SOURCE] = {TABLE_COUNT, 0, NULL},
    [DP_ROW_RECORD] = {TABLE_RECORDS4, TABLE_RECORDS6, export_record},
    [DP_ROW_ROUTE] = {TABLE_ROUTES4, TABLE_ROUTES6, export_route},
    [DP_ROW_MOVE] = {TABLE_MOVES, TABLE_MOVES, export_move},
};

/* ---- the row of a key ---------------------------------------------------------------------------------- */

static bool export_find_port(const struct export *e, uint32_t port, union export_row_of *row)
{
    const struct draft *draft = port < DP_MAX_PORTS ? e->tables->writer->drafts[port] : NULL;
    const struct port_policy *policy = port < DP_MAX_PORTS ? e->tables->policies[port] : NULL;
    if (!e->drafts && policy)
        export_port(port, policy->vsid, policy->mac, &policy->limit, row);
    if (!e->drafts || !draft || !draft->vsid)
        return !e->drafts && policy;
    export_port(port, draft->vsid, draft->mac, &draft->limit, row);
    return true;
}

static bool export_find_source(const struct export *e, const struct dp_row_source *key,
                               union export_row_of *row)
{
    const struct draft *draft = key->port < DP_MAX_PORTS ? e->tables->writer->drafts[key->port] : NULL;
    const struct port_policy *policy = key->port < DP_MAX_PORTS ? e->tables->policies[key->port] : NULL;
    if (e->drafts) {
        const struct port_source *found =
            draft ? policy_source_of(draft, key->family, key->prefix, key->prefix_len, true) : NULL;
        return found && export_source(key->port, found, row);
    }
    for (uint32_t i = 0; policy && i < (uint32_t)policy->n4 + policy->n6; i++) {
        const struct port_source *s = &policy->sources[i];
        if (s->extra && s->family == key->family && s->prefix_len == key->prefix_len &&
            !memcmp(s->ca, key->prefix, 16))
            return export_source(key->port, s, row);
    }
    return false;
}

/* The map and the key in it. */
static enum table export_key(const struct export *e, const union export_row_of *row, uint64_t *key)
{
    uint32_t subnet;
    switch (e->kind) {
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
        subnet = tables_subnet(e->tables, row->prefix.vsid);
        key_prefix(key, subnet == INDEX_NONE ? 0 : e->tables->subnets[subnet].rdid, row->prefix.family,
                   row->prefix.prefix, row->prefix.prefix_len);
        return TABLE_PREFIXES;
    case DP_ROW_MOVE:
        key_move(key, row->move.vsid, row->move.family, row->move.ca);
        return TABLE_MOVES;
    default:
        key[0] = row->subnet.vsid;
        return TABLE_SUBNETS;
    }
}

bool export_row(const struct tables *t, bool drafts, uint16_t kind, const void *of, void *out, uint32_t *act)
{
    struct export e = {.tables = t, .kind = kind, .drafts = drafts};
    const union export_row_of *like = of;
    union export_row_of *row = out;
    struct map_value value = {0};
    uint64_t key[3];
    memset(out, 0, row_sizes[kind]);
    *act = 0;
    if (kind == DP_ROW_PORT)
        return export_find_port(&e, like->port.port, row);
    if (kind == DP_ROW_SOURCE)
        return export_find_source(&e, &like->source, row);
    e.table = export_key(&e, like, key);
    bool found = key[0] != 0 && map_get(change_map(t, e.table), key, &value);
    *act = kind == DP_ROW_PREFIX ? (uint32_t)(key[0] >> 32) : kind == DP_ROW_ROUTE ? like->route.rdid
           : kind == DP_ROW_PROVIDER_ROUTE ? 0 : value.act;
    return found && export_kinds[kind].entry(&e, key, &value, row);
}

uint64_t export_key_hash(const struct tables *tables, uint16_t kind, const void *row)
{
    struct export e = {.tables = tables, .kind = kind};
    uint64_t key[3] = {0};
    if (kind == DP_ROW_SOURCE)
        memcpy(key, row, sizeof(struct dp_row_source));
    else if (kind == DP_ROW_PORT)
        key[0] = ((const struct dp_row_port *)row)->port;
    else
        export_key(&e, row, key);
    return export_mix(export_mix(export_mix(kind ^ key[0]) ^ key[1]) ^ key[2]);
}

/* ---- all rows of a kind -------------------------------------------------------------------------------- */

static void export_give(struct export *e, const union export_row_of *row)
{
    uint64_t hash = e->kind;
    for (size_t at = 0; at < e->size; at += 8)
        hash = export_mix(hash ^ load64((const uint8_t *)row + at));
    e->digest += hash;
    if (e->n < e->room)
        memcpy(e->out + e->n * e->size, row, e->size);
    e->n++;
}

static bool export_entry(void *ctx, const uint64_t *key, const struct map_value *value)
{
    struct export *e = ctx;
    union export_row_of row;
    memset(&row, 0, sizeof row);
    if (export_kinds[e->kind].entry(e, key, value, &row))
        export_give(e, &row);
    return true;
}

static void export_policy(struct export *e, const struct port_policy *policy)
{
    union export_row_of row;
    for (uint32_t i = 0; i < (e->kind == DP_ROW_PORT ? 1 : (uint32_t)policy->n4 + policy->n6); i++) {
        memset(&row, 0, sizeof row);
        if (e->kind == DP_ROW_PORT)
            export_port(policy->port, policy->vsid, policy->mac, &policy->limit, &row);
        else if (!export_source(policy->port, &policy->sources[i], &row))
            continue;
        export_give(e, &row);
    }
}

static int export_all(const struct tables *t, struct export *e, uint32_t kind)
{
    if (kind == 0 || kind >= ROW_KINDS)
        return DP_EINVAL;
    e->tables = t;
    e->kind = (uint16_t)kind;
    e->size = row_sizes[kind];
    e->room /= e->size;
    for (e->table = export_kinds[kind].first; e->table <= export_kinds[kind].last; e->table++)
        map_each(change_map(t, e->table), export_entry, e);
    for (uint32_t port = 0; !export_kinds[kind].entry && port < DP_MAX_PORTS; port++)
        if (t->policies[port])
            export_policy(e, t->policies[port]);
    return DP_OK;
}

int64_t tables_rows(const struct tables *tables, uint32_t kind, uint8_t *out, size_t capacity)
{
    struct export e = {.out = out, .room = capacity};
    int code = export_all(tables, &e, kind);
    return code ? code : (int64_t)e.n;
}

/* ---- the digest, slice by slice ------------------------------------------------------------------------ */

/*
 * A slice that was written since it was looked at is looked at again: so all sums are of now when none is
 * left.
 */
static uint64_t export_digest_slice(const struct tables *t, enum table table, uint32_t slice)
{
    uint64_t entries = 1;
    for (uint16_t kind = 1; kind < ROW_KINDS; kind++) {
        struct export e = {.tables = t, .kind = kind, .table = table, .size = row_sizes[kind]};
        if (table < export_kinds[kind].first || table > export_kinds[kind].last)
            continue;
        map_slice_each(change_map(t, table), slice, export_entry, &e);
        t->writer->sums[table][kind == DP_ROW_PROVIDER_ROUTE][slice] = e.digest;
        entries += e.n;
    }
    map_seen(change_map(t, table))[slice] = true;
    return entries;
}

void tables_digest_begin(const struct tables *tables)
{
    for (enum table table = 0; table < TABLE_COUNT; table++)
        memset(map_seen(change_map(tables, table)), 0, MAP_SLICES);
}

int tables_digest_step(const struct tables *t, uint64_t rows, uint64_t *out)
{
    uint64_t seen = 0;
    for (enum table table = 0; table < TABLE_COUNT; table++)
        for (uint32_t slice = 0; slice < MAP_SLICES; slice++) {
            if (map_seen(change_map(t, table))[slice])
                continue;
            if (seen >= rows)
                return 0;
            seen += export_digest_slice(t, table, slice);
        }
    for (uint16_t kind = 1; kind < ROW_KINDS; kind++) {
        struct export e = {0};
        if (!export_kinds[kind].entry)
            export_all(t, &e, kind);
        for (enum table table = export_kinds[kind].first; table <= export_kinds[kind].last; table++)
            for (uint32_t slice = 0; slice < MAP_SLICES; slice++)
                e.digest += t->writer->sums[table][kind == DP_ROW_PROVIDER_ROUTE][slice];
        out[kind] = e.digest;
    }
    return 1;
}
