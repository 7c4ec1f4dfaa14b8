/*
 * entry.c: the one place where maps change and counts follow. In: an entry; out: its map and the accounts of
 * all that it refers to. Called by rows, behind their checks.
 */
#include <stdatomic.h>
#include "control/changes.h"

uint32_t change_subnet(struct change *change, uint32_t vsid)
{
    if (change->memo_vsid != vsid) {
        change->memo_vsid = vsid;
        change->memo_subnet = tables_subnet(change->next, vsid);
    }
    return change->memo_subnet;
}

int change_check_subnet(struct change *change, uint32_t vsid, uint32_t *subnet)
{
    int code = check_vsid(&change->tell, vsid);
    if (code)
        return code;
    *subnet = change_subnet(change, vsid);
    return *subnet == INDEX_NONE ? tell(&change->tell, DP_ENOENT, "no subnet has vsid %u", vsid) : DP_OK;
}

int change_check_ca(struct change *change, uint32_t vsid, unsigned family, const uint8_t *ca)
{
    uint32_t subnet;
    int code = check_family(&change->tell, "family", family);
    if (code || (code = check_address(&change->tell, "ca", family, ca)))
        return code;
    return change_check_subnet(change, vsid, &subnet);
}

int change_ready(struct change *change, enum object object)
{
    int code = objects_ready(&change->writer->objects[object], ROW_OBJECTS, change->restoring);
    return code ? tell_no_memory(&change->tell, code) : DP_OK;
}

static void entry_account_rewrite(struct change *change, uint32_t index, int n)
{
    struct bond *bond = &change->writer->bonds[index];
    if (bond->refs == 0)
        hosted_join(change, index, true);
    bond->refs += (uint32_t)n;
    if (bond->refs == 0) {
        hosted_join(change, index, false);
        objects_drop(&change->writer->objects[REWRITES], index);
    }
}

static void entry_account_record(struct change *change, enum table table, const uint64_t *key, uint32_t act,
                                  int n)
{
    if (act_kind(act) == ACT_GATEWAY) {
        change->writer->gateways[table == TABLE_RECORDS6] += (uint64_t)n;
        return;
    }
    if (act_kind(act) == ACT_NVGRE)
        change_way_ref(change, act_index(act), n);
    else if (act_kind(act) == ACT_REWRITE)
        entry_account_rewrite(change, act_index(act), n);
    else
        change->writer->locals[act_index(act)] += (uint32_t)n;
    change->writer->domains[change_subnet(change, key_id(table, key))].refs += (uint32_t)n;
}

static void entry_account_pa(struct change *change, uint32_t act, int n)
{
    if (act_kind(act) == ACT_PA_REWRITE) {
        entry_account_rewrite(change, act_index(act), n);
        return;
    }
    hosted_link(change, act_index(act), n > 0);
    change_way_ref(change, act_index(act), n);
}

static void entry_account_route(struct change *change, enum table table, const uint64_t *key, uint32_t act,
                                 int n)
{
    struct tables_writer *w = change->writer;
    bool ip4 = table == TABLE_ROUTES4;
    uint32_t rdid = key_route_rdid(key, ip4), len = key_route_len(key, ip4);
    w->route_counts[rdid][ip4 ? len : 33 + len] += (uint32_t)n;
    if (rdid == 0)
        w->provider_routes += (uint64_t)n;
    uint32_t subnet = act_kind(act) == ACT_VIA ? change->next->vias[act_index(act)].subnet : act_index(act);
    if (rdid != 0)
        w->domains[subnet].refs += (uint32_t)n;
    if (act_kind(act) == ACT_VIA && n < 0)
        objects_drop(&w->objects[VIAS], act_index(act));
    if (n > 0)
        atomic_fetch_or(tables_length(&change->next->lengths[rdid], ip4, len), 1ull << len % 64);
}

static void entry_account(struct change *change, enum table table, const uint64_t *key, uint32_t act, int n)
{
    if (act == 0)
        return;
    if (table == TABLE_FLOODS)
        change_way_ref(change, act_index(act), n);
    if (change_is_records(table))
        entry_account_record(change, table, key, act, n);
    else if (table == TABLE_PAS4 || table == TABLE_PAS6)
        entry_account_pa(change, act, n);
    else if (change_is_routes(table))
        entry_account_route(change, table, key, act, n);
    else if (table == TABLE_MOVES || table == TABLE_FLOODS)
        change->writer->domains[change_subnet(change, key_id(table, key))].refs += (uint32_t)n;
    else if (n < 0)
        objects_drop(&change->writer->objects[table == TABLE_SUBNETS ? SUBNETS : PREFIXES], act_index(act));
    if (table == TABLE_SUBNETS)
        change->memo_vsid = 0;
}

void change_entry(struct change *change, enum table table, const uint64_t *key, const struct map_value *value)
{
    struct map *map = change->next->maps[table];
    struct map_value old = {0};
    if (value)
        map_put(map, key, value, &old);     /* change_apply_row() has made room */
    else
        map_del(map, key, &old);
    if (value)
        entry_account(change, table, key, value->act, 1);
    entry_account(change, table, key, old.act, -1);
}
