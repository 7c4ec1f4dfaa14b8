/*
 * rows.c: the rows of subnets, prefixes, routes, moves and floods. In: a row; out: entries changed, or a code
 * and nothing. Called by changes.c.
 */
#include <stdlib.h>
#include "control/changes.h"

/* ---- subnets ------------------------------------------------------------------------------------------- */

/* subnet INDEX_NONE: it goes. */
static void rows_set_gateway(struct change *change, uint32_t subnet, uint32_t vsid, unsigned family,
                             const uint8_t *gateway)
{
    struct map_value value = {.act = act_make(ACT_GATEWAY, subnet)};
    memcpy(value.mac, change->next->router_mac, 6);
    uint64_t key[3];
    key_record(key, vsid, family, gateway);
    change_entry(change, records_of(family), key, subnet == INDEX_NONE ? NULL : &value);
}

/* Counts of a routing domain that gets a route. */
static int rows_counts(struct change *change, uint32_t rdid)
{
    uint32_t **counts = &change->writer->route_counts[rdid];
    if (!*counts)
        *counts = calloc(ROUTE_LENGTHS, sizeof(uint32_t));
    return *counts ? DP_OK : tell_no_memory(&change->tell, DP_ENOMEM);
}

static bool rows_subnet_used(const struct change *change, uint32_t vsid, uint32_t subnet)
{
    for (uint32_t port = 0; port < DP_MAX_PORTS; port++)
        if (policy_draft(change, port) && policy_draft(change, port)->vsid == vsid)
            return true;
    return change->writer->domains[subnet].refs != 0;
}

int subnet_put(struct change *change, const void *p)
{
    const struct dp_row_subnet *row = p;
    int code = check_vsid(&change->tell, row->vsid);
    if (code)
        return code;
    if (row->rdid == 0 || row->rdid >= RDIDS)
        return tell(&change->tell, DP_EINVAL, "rdid %u is not in 1..%u", row->rdid, RDIDS - 1);
    if (!row->flood_per_second != !row->flood_burst)
        return tell(&change->tell, DP_EINVAL, "a rate of copied packets and no burst, or a burst alone");
    uint32_t old = change_subnet(change, row->vsid);
    struct subnet *there = old == INDEX_NONE ? NULL : &change->next->subnets[old];
    bool same = there && there->rdid == row->rdid;
    if (same && there->flood_per_second == row->flood_per_second && there->flood_burst == row->flood_burst)
        return DP_OK;
    if ((code = flood_touch(change, row->vsid)))
        return code;
    if (same) {
        there->flood_per_second = row->flood_per_second;
        there->flood_burst = row->flood_burst;
        /* for the digest; a key that is there: it does not fail */
        map_put(change->next->subnet_by_vsid, change->key, &change->at.value, NULL);
        return DP_OK;
    }
    if (old != INDEX_NONE && rows_subnet_used(change, row->vsid, old))
        return tell(&change->tell, DP_EINVAL,
                    "vsid %u has ports, prefixes, records, moves or floods: its rdid can't change",
                    row->vsid);
    /* Readers look at the lengths of a routing domain before it has a route. */
    if (mem_commit(&change->writer->lengths, (row->rdid + 1) * sizeof(struct rdid_lengths)))
        return tell_no_memory(&change->tell, DP_ENOMEM);
    uint32_t index = objects_make(&change->writer->objects[SUBNETS]);
    change->next->subnets[index] = (struct subnet){.vsid = row->vsid, .rdid = row->rdid,
                                                   .flood_per_second = row->flood_per_second,
                                                   .flood_burst = row->flood_burst};
    stats_subnet_reset(change->control->subnets, index);
    const struct map_value value = {.act = act_make(ACT_SUBNET, index)};
    change_entry(change, TABLE_SUBNETS, change->key, &value);
    flood_touch(change, row->vsid);     /* it has none yet: it does not fail */
    rows_set_gateway(change, index, row->vsid, DP_IPV6, router_link_local);
    return DP_OK;
}

int subnet_del(struct change *change, const void *p)
{
    const struct dp_row_subnet *row = p;
    uint32_t subnet;
    int code = change_check_subnet(change, row->vsid, &subnet);
    if (code)
        return code;
    if (rows_subnet_used(change, row->vsid, subnet))
        return tell(&change->tell, DP_EINVAL,
                    "vsid %u still has ports, prefixes, routes, records, moves or floods", row->vsid);
    if ((code = flood_touch(change, row->vsid)))
        return code;
    rows_set_gateway(change, INDEX_NONE, row->vsid, DP_IPV6, router_link_local);
    change_entry(change, TABLE_SUBNETS, change->key, NULL);
    return DP_OK;
}

/* ---- prefixes ------------------------------------------------------------------------------------------ */

static int rows_check_prefix(struct change *change, const struct dp_row_prefix *row, uint32_t *subnet)
{
    int code = check_prefix(&change->tell, row->family, row->prefix, row->prefix_len);
    return code ? code : change_check_subnet(change, row->vsid, subnet);
}

/* Its gateway must be nobody's: neither a record's nor another prefix's. */
static int rows_check_gateway(struct change *change, const struct dp_row_prefix *row)
{
    uint64_t key[3];
    struct map_value value;
    int code = check_unicast(&change->tell, "gateway", row->family, row->gateway);
    if (code)
        return code;
    key_record(key, row->vsid, row->family, row->gateway);
    if (map_get(change->next->maps[records_of(row->family)], key, &value))
        return tell(&change->tell, DP_EEXIST, "gateway %s of vsid %u is taken",
                    tell_address(row->family, row->gateway).s, row->vsid);
    return DP_OK;
}

int prefix_put(struct change *change, const void *p)
{
    const struct dp_row_prefix *row = p;
    uint32_t subnet;
    int code = rows_check_prefix(change, row, &subnet);
    if (code || (code = check_zero(&change->tell, row->pad, sizeof row->pad)))
        return code;
    uint64_t route[3];
    struct map_value there;
    uint32_t rdid = change->next->subnets[subnet].rdid;
    key_route(route, rdid, row->family, row->prefix, row->prefix_len);
    const struct prefix *prefixes = change->next->prefixes,
                        *old = change->at.value.act ? &prefixes[act_index(change->at.value.act)] : NULL;
    if (!old && map_get(change->next->maps[routes_of(row->family)], route, &there))
        return tell(&change->tell, DP_EEXIST, "%s/%u is a route by a next hop",
                    tell_address(row->family, row->prefix).s, row->prefix_len);
    if (old && old->vsid == row->vsid && !memcmp(old->gateway, row->gateway, 16))
        return DP_OK;
    bool gateway = !is_any(DP_IPV6, row->gateway);
    if ((gateway && (code = rows_check_gateway(change, row))) || (code = rows_counts(change, rdid)))
        return code;
    const uint32_t index = objects_make(&change->writer->objects[PREFIXES]);
    const struct map_value value = {.act = act_make(ACT_ONLINK, index)},
                           onlink = {.act = act_make(ACT_ONLINK, subnet)};
    change->next->prefixes[index].vsid = row->vsid;
    memcpy(change->next->prefixes[index].gateway, row->gateway, 16);
    if (gateway)
        rows_set_gateway(change, subnet, row->vsid, row->family, row->gateway);
    change_entry(change, TABLE_PREFIXES, change->key, &value);
    change_entry(change, routes_of(row->family), route, &onlink);
    if (old && !is_any(DP_IPV6, old->gateway))
        rows_set_gateway(change, INDEX_NONE, old->vsid, row->family, old->gateway);
    return DP_OK;
}

int prefix_del(struct change *change, const void *p)
{
    const struct dp_row_prefix *row = p;
    uint32_t subnet;
    int code = rows_check_prefix(change, row, &subnet);
    if (code)
        return code;
    uint64_t route[3];
    uint32_t rdid = change->next->subnets[subnet].rdid;
    key_route(route, rdid, row->family, row->prefix, row->prefix_len);
    const struct prefix *old = &change->next->prefixes[act_index(change->at.value.act)];
    if (!change->at.value.act)
        return tell(&change->tell, DP_ENOENT, "no prefix %s/%u in rdid %u",
                    tell_address(row->family, row->prefix).s, row->prefix_len, rdid);
    change_entry(change, routes_of(row->family), route, NULL);
    if (!is_any(DP_IPV6, old->gateway))
        rows_set_gateway(change, INDEX_NONE, old->vsid, row->family, old->gateway);
    change_entry(change, TABLE_PREFIXES, change->key, NULL);
    return DP_OK;
}

/* ---- routes: the provider's are those of rdid 0 -------------------------------------------------------- */

/* By `via`, whose CA is the next hop; NULL: on link. */
static int rows_put_route(struct change *change, uint32_t rdid, struct via via, const uint8_t *next_hop)
{
    const uint32_t there = change->at.value.act;
    const struct via *old = &change->next->vias[act_index(there)];
    struct map_value value = {.act = act_make(ACT_ONLINK, 0)};
    if (next_hop && act_kind(there) == ACT_VIA && old->vsid == via.vsid && !memcmp(old->ca, next_hop, 16))
        return DP_OK;
    int code = rows_counts(change, rdid);
    if (code)
        return code;
    if (next_hop) {
        uint32_t index = objects_make(&change->writer->objects[VIAS]);
        memcpy(via.ca, next_hop, 16);
        change->next->vias[index] = via;
        value.act = act_make(ACT_VIA, index);
    }
    change_entry(change, change->at.table, change->key, &value);
    return DP_OK;
}

int route_put(struct change *change, const void *p)
{
    const struct dp_row_route *row = p;
    uint32_t subnet;
    int code = check_prefix(&change->tell, row->family, row->prefix, row->prefix_len);
    if (code || (code = check_unicast(&change->tell, "next_hop", row->family, row->next_hop)) ||
        (code = change_check_subnet(change, row->vsid, &subnet)) ||
        (code = check_zero(&change->tell, row->pad, sizeof row->pad)))
        return code;
    if (row->rdid == 0 || change->next->subnets[subnet].rdid != row->rdid)
        return tell(&change->tell, DP_EINVAL, "vsid %u of the next hop is not in rdid %u", row->vsid,
                    row->rdid);
    if (act_kind(change->at.value.act) == ACT_ONLINK)
        return tell(&change->tell, DP_EEXIST, "%s/%u is a prefix on link",
                    tell_address(row->family, row->prefix).s, row->prefix_len);
    const struct via via = {.vsid = row->vsid, .subnet = subnet, .family = row->family};
    return rows_put_route(change, row->rdid, via, row->next_hop);
}

/* A provider's route, of rdid 0, may be on link; in a routing domain that is a prefix, not a route. */
static int rows_del_route(struct change *change, uint32_t rdid, bool provider, unsigned family,
                          const uint8_t *prefix, unsigned len)
{
    const enum act there = act_kind(change->at.value.act);
    int code = check_prefix(&change->tell, family, prefix, len);
    if (code)
        return code;
    bool found = provider ? there != ACT_NONE : there == ACT_VIA && rdid != 0 && rdid < RDIDS;
    if (!found)
        return tell(&change->tell, DP_ENOENT, "no route %s/%u in rdid %u", tell_address(family, prefix).s,
                    len, rdid);
    change->provider_routes |= provider;
    change_entry(change, change->at.table, change->key, NULL);
    return DP_OK;
}

int route_del(struct change *change, const void *p)
{
    const struct dp_row_route *row = p;
    return rows_del_route(change, row->rdid, false, row->family, row->prefix, row->prefix_len);
}

int provider_route_put(struct change *change, const void *p)
{
    const struct dp_row_provider_route *row = p;
    int code = check_prefix(&change->tell, row->family, row->prefix, row->prefix_len);
    if (code || (code = check_zero(&change->tell, row->pad, sizeof row->pad)))
        return code;
    const struct via via = {.subnet = INDEX_NONE, .family = row->family};
    bool is_via = !is_any(DP_IPV6, row->next_hop);
    if (is_via && (code = check_unicast(&change->tell, "next_hop", row->family, row->next_hop)))
        return code;
    change->provider_routes = true;
    return rows_put_route(change, 0, via, is_via ? row->next_hop : NULL);
}

int provider_route_del(struct change *change, const void *p)
{
    const struct dp_row_provider_route *row = p;
    return rows_del_route(change, 0, true, row->family, row->prefix, row->prefix_len);
}

/* ---- moves: a host's number alone, whose PAs may come and go ------------------------------------------- */

/* value NULL: it goes. */
static int rows_move(struct change *change, const struct dp_row_move *row, const struct map_value *value)
{
    int code = change_check_ca(change, row->vsid, row->family, row->ca);
    if (code)
        return code;
    if (!value && change->at.value.act == 0)
        return tell(&change->tell, DP_ENOENT, "no move of vsid %u, ca %s", row->vsid,
                    tell_address(row->family, row->ca).s);
    change_entry(change, TABLE_MOVES, change->key, value);
    return DP_OK;
}

int move_put(struct change *change, const void *p)
{
    const struct dp_row_move *row = p;
    struct map_value value = {.act = act_make(ACT_MOVE, 0)};
    int code = check_zero(&change->tell, row->pad, sizeof row->pad);
    memcpy(value.mac, &row->host, sizeof row->host);
    return code || (code = check_host(&change->tell, row->host)) ? code : rows_move(change, row, &value);
}

int move_del(struct change *change, const void *p) { return rows_move(change, p, NULL); }

/* ---- floods: other hosts that hear what is sent to a group in a subnet --------------------------------- */

static int rows_check_flood(struct change *change, const struct dp_row_flood *row, uint32_t *subnet)
{
    const struct tell *where = &change->tell;
    int code = check_family(where, "family", row->family);
    if (code || (code = check_unicast(where, "provider_address", row->family, row->provider_address)))
        return code;
    return change_check_subnet(change, row->vsid, subnet);
}

/* The PA must be another host's shared one. */
static int rows_check_flood_pa(struct change *change, const struct dp_row_flood *row, struct map_value *pa)
{
    const struct tell_text text = tell_address(row->family, row->provider_address);
    if (!path_find(change, row->family, row->provider_address, pa) || act_kind(pa->act) != ACT_PA_HOST ||
        change->next->next_hops[act_index(pa->act)].host != row->host)
        return tell(&change->tell, DP_ENOENT, "no shared PA %s of host %u, another one", text.s, row->host);
    return DP_OK;
}

static void rows_link(struct tables_writer *w, struct domain *domain, uint32_t index)
{
    struct member *member = &w->members[index];
    member->behind = domain->first;
    if (domain->first)
        w->members[domain->first - 1].before = index + 1;
    domain->first = index + 1;
    domain->members++;
}

static void rows_unlink(struct tables_writer *w, struct domain *domain, uint32_t index)
{
    const struct member *member = &w->members[index];
    *(member->before ? &w->members[member->before - 1].behind : &domain->first) = member->behind;
    if (member->behind)
        w->members[member->behind - 1].before = member->before;
    domain->members--;
    objects_drop(&w->objects[MEMBERS], index);
}

int flood_put(struct change *change, const void *p)
{
    const struct dp_row_flood *row = p;
    struct tables_writer *w = change->writer;
    struct map_value pa, value = {0};
    uint32_t subnet, index = load32(change->at.value.mac);
    int code = rows_check_flood(change, row, &subnet);
    if (code || (code = check_zero(&change->tell, row->pad, sizeof row->pad)) ||
        (code = rows_check_flood_pa(change, row, &pa)) || (code = flood_touch(change, row->vsid)))
        return code;
    if (!change->at.value.act) {
        index = objects_make(&w->objects[MEMBERS]);
        rows_link(w, &w->domains[subnet], index);
    }
    w->members[index].hop = act_index(pa.act);
    value.act = act_make(ACT_NVGRE, act_index(pa.act));
    memcpy(value.mac, &index, sizeof index);
    change_entry(change, TABLE_FLOODS, change->key, &value);
    return DP_OK;
}

int flood_del(struct change *change, const void *p)
{
    const struct dp_row_flood *row = p;
    uint32_t subnet;
    int code = rows_check_flood(change, row, &subnet);
    if (code)
        return code;
    if (!change->at.value.act)
        return tell(&change->tell, DP_ENOENT, "no flood of vsid %u to %s", row->vsid,
                    tell_address(row->family, row->provider_address).s);
    if ((code = flood_touch(change, row->vsid)))
        return code;
    rows_unlink(change->writer, &change->writer->domains[subnet], load32(change->at.value.mac));
    change_entry(change, TABLE_FLOODS, change->key, NULL);
    return DP_OK;
}
