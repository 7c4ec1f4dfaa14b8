/* rows.c: checks of fields, and the rows of subnets, prefixes and routes. */
#include <stdlib.h>
#include "control/changes.h"

static const uint8_t any[16];
static const uint8_t router_link_local[16] = {0xfe, 0x80, [15] = 1};

/* ---- fields ------------------------------------------------------------------------------------------------------ */

int check_family(struct change *change, const char *field, unsigned family)
{
    return family == DP_IPV4 || family == DP_IPV6 ? DP_OK : change_fail(change, DP_EINVAL, "%s %u is neither 4 nor 6", field, family);
}

int check_address(struct change *change, const char *field, unsigned family, const uint8_t *address)
{
    if (family == DP_IPV4 && (load32(address + 4) | load64(address + 8)))
        return change_fail(change, DP_EINVAL, "%s: bytes behind an IPv4 address", field);
    return DP_OK;
}

int check_unicast(struct change *change, const char *field, unsigned family, const uint8_t *address)
{
    int code = check_address(change, field, family, address);
    if (code == DP_OK && !is_host(family, address))
        return change_fail(change, DP_EINVAL, "%s %s is no unicast address", field, change_address(family, address).s);
    return code;
}

int check_prefix(struct change *change, unsigned family, const uint8_t *prefix, unsigned len)
{
    int code = check_family(change, "family", family);
    if (code)
        return code;
    unsigned bits = family == DP_IPV4 ? 32 : 128;
    if (len > bits)
        return change_fail(change, DP_EINVAL, "prefix_len %u is over %u", len, bits);
    for (unsigned i = len; i < 128; i++)
        if (prefix[i / 8] & 0x80 >> i % 8)
            return change_fail(change, DP_EINVAL, "prefix %s/%u has bits behind its length", change_address(family, prefix).s, len);
    return DP_OK;
}

int check_zero(struct change *change, const uint8_t *pad, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (pad[i])
            return change_fail(change, DP_EINVAL, "padding is not zero");
    return DP_OK;
}

int check_mac(struct change *change, const uint8_t *mac)
{
    return mac_is_group(mac) ? change_fail(change, DP_EINVAL, "mac is a group address") : DP_OK;
}

static int check_vsid(struct change *change, uint32_t vsid)
{
    if (vsid < VSID_MIN || vsid > VSID_MAX)
        return change_fail(change, DP_EINVAL, "vsid %u is not in %u..%u", vsid, VSID_MIN, VSID_MAX);
    return DP_OK;
}

int check_subnet(struct change *change, uint32_t vsid, uint32_t *subnet)
{
    int code = check_vsid(change, vsid);
    if (code)
        return code;
    *subnet = change_subnet(change, vsid);
    return *subnet == POOL_NONE ? change_fail(change, DP_ENOENT, "no subnet has vsid %u", vsid) : DP_OK;
}

/* ---- subnets ----------------------------------------------------------------------------------------------------- */

/* subnet POOL_NONE: it goes. */
static int set_gateway(struct change *change, uint32_t subnet, uint32_t vsid, unsigned family, const uint8_t *gateway)
{
    struct map_value value = {.act = act_make(ACT_GATEWAY, subnet)};
    memcpy(value.mac, change->next->router_mac, 6);
    uint64_t key[3];
    key_record(key, vsid, family, gateway);
    return change_entry(change, records_of(family), key, subnet == POOL_NONE ? NULL : &value, NULL);
}

static bool subnet_in_use(const struct change *change, uint32_t vsid, uint32_t subnet)
{
    for (uint32_t port = 0; port < DP_MAX_PORTS; port++)
        if (policy_draft(change, port) && policy_draft(change, port)->vsid == vsid)
            return true;
    return *change_subnet_refs(change->writer, subnet) != 0;
}

static int subnet_make(struct change *change, const struct dp_row_subnet *row)
{
    uint32_t index;
    const uint64_t key = row->vsid;
    int code = objects_make(&change->writer->subnets, &index);
    if (code == DP_OK)                  /* readers look at a routing domain's lengths before it has a route */
        code = mem_commit(&change->writer->lengths, (row->rdid + 1) * sizeof(struct rdid_lengths));
    if (code)
        return change_no_memory(change, code);
    change->next->subnets[index] = (struct subnet){row->vsid, row->rdid};
    stats_subnet_reset(change->control->subnets, index);
    return change_entry(change, TABLE_SUBNETS, &key, &(struct map_value){.act = act_make(ACT_SUBNET, index)}, NULL);
}

int subnet_put(struct change *change, const void *p)
{
    const struct dp_row_subnet *row = p;
    int code = check_vsid(change, row->vsid);
    if (code)
        return code;
    if (row->rdid == 0 || row->rdid >= RDIDS)
        return change_fail(change, DP_EINVAL, "rdid %u is not in 1..%u", row->rdid, RDIDS - 1);
    uint32_t old = change_subnet(change, row->vsid);
    if (old != POOL_NONE && change->next->subnets[old].rdid == row->rdid)
        return DP_OK;
    if (old != POOL_NONE && subnet_in_use(change, row->vsid, old))
        return change_fail(change, DP_EINVAL, "vsid %u has ports, prefixes or records: its rdid can't change", row->vsid);
    code = subnet_make(change, row);
    return code ? code : set_gateway(change, change_subnet(change, row->vsid), row->vsid, DP_IPV6, router_link_local);
}

int subnet_del(struct change *change, const void *p)
{
    const struct dp_row_subnet *row = p;
    const uint64_t key = row->vsid;
    uint32_t subnet;
    int code = check_subnet(change, row->vsid, &subnet);
    if (code)
        return code;
    if (subnet_in_use(change, row->vsid, subnet))
        return change_fail(change, DP_EINVAL, "vsid %u still has ports, prefixes, routes or records", row->vsid);
    code = set_gateway(change, POOL_NONE, row->vsid, DP_IPV6, router_link_local);
    return code ? code : change_entry(change, TABLE_SUBNETS, &key, NULL, NULL);
}

/* ---- prefixes ---------------------------------------------------------------------------------------------------- */

static void key_prefix(uint64_t *key, uint32_t rdid, unsigned family, const uint8_t *prefix, unsigned len)
{
    key_ca6(key, 0, prefix);
    key[0] = (uint64_t)rdid << 32 | family << 8 | len;
}

static enum table routes_of(unsigned family) { return family == DP_IPV4 ? TABLE_ROUTES4 : TABLE_ROUTES6; }

static void key_route(uint64_t *key, uint32_t rdid, unsigned family, const uint8_t *prefix, unsigned len)
{
    if (family == DP_IPV4)
        key[0] = key_route4(rdid, len, prefix);
    else
        key_route6(key, rdid, len, prefix);
}

/* What stands behind a prefix now; NULL: nothing. */
static const struct prefix *prefix_find(const struct change *change, const uint64_t *key)
{
    struct map_value value;
    if (!change_get(change, TABLE_PREFIXES, key, &value))
        return NULL;
    return change_prefix(change->writer, act_index(value.act));
}

static int prefix_make(struct change *change, const struct dp_row_prefix *row, const uint64_t *key)
{
    uint32_t index;
    int code = objects_make(&change->writer->prefixes, &index);
    if (code)
        return change_no_memory(change, code);
    struct prefix *prefix = change_prefix(change->writer, index);
    prefix->vsid = row->vsid;
    memcpy(prefix->gateway, row->gateway, 16);
    return change_entry(change, TABLE_PREFIXES, key, &(struct map_value){.act = act_make(ACT_ONLINK, index)}, NULL);
}

static int check_prefix_row(struct change *change, const struct dp_row_prefix *row, uint32_t *subnet)
{
    int code = check_prefix(change, row->family, row->prefix, row->prefix_len);
    return code ? code : check_subnet(change, row->vsid, subnet);
}

/* Its gateway must be nobody's: neither a record's nor another prefix's. */
static int gateway_put(struct change *change, const struct dp_row_prefix *row, uint32_t subnet)
{
    uint64_t key[3];
    struct map_value value;
    int code = check_unicast(change, "gateway", row->family, row->gateway);
    if (code)
        return code;
    key_record(key, row->vsid, row->family, row->gateway);
    if (change_get(change, records_of(row->family), key, &value))
        return change_fail(change, DP_EEXIST, "gateway %s of vsid %u is taken", change_address(row->family, row->gateway).s, row->vsid);
    return set_gateway(change, subnet, row->vsid, row->family, row->gateway);
}

int prefix_put(struct change *change, const void *p)
{
    const struct dp_row_prefix *row = p;
    uint32_t subnet;
    int code = check_prefix_row(change, row, &subnet);
    if (code || (code = check_zero(change, row->pad, sizeof row->pad)))
        return code;
    uint64_t key[3], route[3];
    struct map_value there;
    uint32_t rdid = change->next->subnets[subnet].rdid;
    key_prefix(key, rdid, row->family, row->prefix, row->prefix_len);
    key_route(route, rdid, row->family, row->prefix, row->prefix_len);
    const struct prefix *old = prefix_find(change, key);
    if (!old && change_get(change, routes_of(row->family), route, &there))
        return change_fail(change, DP_EEXIST, "%s/%u is a route by a next hop", change_address(row->family, row->prefix).s, row->prefix_len);
    bool same_gateway = old && old->vsid == row->vsid && !memcmp(old->gateway, row->gateway, 16);
    if (same_gateway)
        return DP_OK;
    if (memcmp(row->gateway, any, 16) && (code = gateway_put(change, row, subnet)))
        return code;
    code = prefix_make(change, row, key);
    if (code == DP_OK)
        code = change_entry(change, routes_of(row->family), route, &(struct map_value){.act = act_make(ACT_ONLINK, subnet)}, NULL);
    if (code == DP_OK && old && memcmp(old->gateway, any, 16))
        code = set_gateway(change, POOL_NONE, old->vsid, row->family, old->gateway);
    return code;
}

int prefix_del(struct change *change, const void *p)
{
    const struct dp_row_prefix *row = p;
    uint32_t subnet;
    int code = check_prefix_row(change, row, &subnet);
    if (code)
        return code;
    uint64_t key[3], route[3];
    uint32_t rdid = change->next->subnets[subnet].rdid;
    key_prefix(key, rdid, row->family, row->prefix, row->prefix_len);
    key_route(route, rdid, row->family, row->prefix, row->prefix_len);
    const struct prefix *old = prefix_find(change, key);
    if (!old)
        return change_fail(change, DP_ENOENT, "no prefix %s/%u in rdid %u", change_address(row->family, row->prefix).s, row->prefix_len, rdid);
    code = change_entry(change, routes_of(row->family), route, NULL, NULL);
    if (code == DP_OK && memcmp(old->gateway, any, 16))
        code = set_gateway(change, POOL_NONE, old->vsid, row->family, old->gateway);
    return code ? code : change_entry(change, TABLE_PREFIXES, key, NULL, NULL);
}

/* ---- routes: the provider's are those of rdid 0 ------------------------------------------------------------------ */

static int via_put(struct change *change, unsigned family, const uint64_t *key, const uint8_t *next_hop, uint32_t vsid, uint32_t subnet)
{
    uint32_t index;
    struct map_value value;
    struct via via;
    memset(&via, 0, sizeof via);
    memcpy(via.ca, next_hop, 16);
    via.vsid = vsid;
    via.subnet = subnet;
    via.family = (uint8_t)family;
    if (change_get(change, routes_of(family), key, &value) && act_kind(value.act) == ACT_VIA &&
        !memcmp(&change->next->vias[act_index(value.act)], &via, sizeof via))
        return DP_OK;
    int code = objects_make(&change->writer->vias, &index);
    if (code)
        return change_no_memory(change, code);
    memcpy(&change->next->vias[index], &via, sizeof via);
    return change_entry(change, routes_of(family), key, &(struct map_value){.act = act_make(ACT_VIA, index)}, NULL);
}

int route_put(struct change *change, const void *p)
{
    const struct dp_row_route *row = p;
    uint32_t subnet;
    int code = check_prefix(change, row->family, row->prefix, row->prefix_len);
    if (code || (code = check_unicast(change, "next_hop", row->family, row->next_hop)) || (code = check_subnet(change, row->vsid, &subnet)) ||
        (code = check_zero(change, row->pad, sizeof row->pad)))
        return code;
    if (row->rdid == 0 || change->next->subnets[subnet].rdid != row->rdid)
        return change_fail(change, DP_EINVAL, "vsid %u of the next hop is not in rdid %u", row->vsid, row->rdid);
    uint64_t key[3];
    struct map_value there;
    key_route(key, row->rdid, row->family, row->prefix, row->prefix_len);
    if (change_get(change, routes_of(row->family), key, &there) && act_kind(there.act) == ACT_ONLINK)
        return change_fail(change, DP_EEXIST, "%s/%u is a prefix on link", change_address(row->family, row->prefix).s, row->prefix_len);
    return via_put(change, row->family, key, row->next_hop, row->vsid, subnet);
}

/* A provider's route, of rdid 0, may be on link; in a routing domain that is a prefix, not a route. */
static int via_del(struct change *change, uint32_t rdid, bool provider, unsigned family, const uint8_t *prefix, unsigned len)
{
    uint64_t key[3];
    struct map_value there;
    int code = check_prefix(change, family, prefix, len);
    if (code)
        return code;
    key_route(key, rdid, family, prefix, len);
    bool found = (rdid == 0) == provider && rdid < RDIDS && change_get(change, routes_of(family), key, &there);
    if (!found || (!provider && act_kind(there.act) != ACT_VIA))
        return change_fail(change, DP_ENOENT, "no route %s/%u in rdid %u", change_address(family, prefix).s, len, rdid);
    change->provider_routes |= provider;
    return change_entry(change, routes_of(family), key, NULL, NULL);
}

int route_del(struct change *change, const void *p)
{
    const struct dp_row_route *row = p;
    return via_del(change, row->rdid, false, row->family, row->prefix, row->prefix_len);
}

int provider_route_put(struct change *change, const void *p)
{
    const struct dp_row_provider_route *row = p;
    int code = check_prefix(change, row->family, row->prefix, row->prefix_len);
    if (code || (code = check_zero(change, row->pad, sizeof row->pad)))
        return code;
    uint64_t key[3];
    key_route(key, 0, row->family, row->prefix, row->prefix_len);
    change->provider_routes = true;
    if (!memcmp(row->next_hop, any, 16))
        return change_entry(change, routes_of(row->family), key, &(struct map_value){.act = act_make(ACT_ONLINK, 0)}, NULL);
    if ((code = check_unicast(change, "next_hop", row->family, row->next_hop)))
        return code;
    return via_put(change, row->family, key, row->next_hop, 0, POOL_NONE);
}

int provider_route_del(struct change *change, const void *p)
{
    const struct dp_row_provider_route *row = p;
    return via_del(change, 0, true, row->family, row->prefix, row->prefix_len);
}
