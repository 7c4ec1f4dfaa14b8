/* records.c: rows of lookup records. A local one is also a source of its port's policy; one under rewrite also what its PA stands for. */
#include "changes.h"
#include "forward.h"
#include "map_inline.h"

/* A row that was checked, and what it refers to. */
struct record {
    const struct dp_row_record *row;
    uint64_t key[3];
    uint32_t subnet;
    bool local, wildcard, rewrite;
    struct map_value pa;
};

static int check_types(struct change *change, const struct dp_row_record *row)
{
    if (row->type == DP_L2ONLY)
        return change_fail(change, DP_EINVAL, "l2only records are not supported yet");
    if (row->type != DP_STATIC && row->type != DP_DYNAMIC && row->type != DP_GATEWAY_WILDCARD)
        return change_fail(change, DP_EINVAL, "unknown type %u", row->type);
    if (row->translation != DP_NVGRE && row->translation != DP_REWRITE)
        return change_fail(change, DP_EINVAL, "unknown translation %u", row->translation);
    if (row->translation == DP_REWRITE && row->type == DP_GATEWAY_WILDCARD)
        return change_fail(change, DP_EINVAL, "a gateway-wildcard has no rewrite PA");
    if (row->translation == DP_REWRITE && row->family != row->pa_family)
        return change_fail(change, DP_EINVAL, "rewrite between families %u and %u", row->family, row->pa_family);
    return DP_OK;
}

static int check_ca(struct change *change, const struct dp_row_record *row)
{
    if (row->type != DP_GATEWAY_WILDCARD)
        return check_unicast(change, "ca", row->family, row->ca);
    return load64(row->ca) | load64(row->ca + 8) ? change_fail(change, DP_EINVAL, "a gateway-wildcard's ca is not zero") : DP_OK;
}

/* The port a record names: of this host's own, and in the same subnet. */
static int check_port(struct change *change, const struct record *record)
{
    const struct dp_row_record *row = record->row;
    if (!record->local)
        return row->port ? change_fail(change, DP_EINVAL, "port %u for a record of another host", row->port) : DP_OK;
    if (row->port == DP_UNDERLAY || row->port >= DP_MAX_PORTS)
        return change_fail(change, DP_EINVAL, "port %u is not in 1..%u", row->port, DP_MAX_PORTS - 1);
    const struct draft *draft = policy_draft(change, row->port);
    if (!draft)
        return change_fail(change, DP_ENOENT, "port %u has no policy", row->port);
    if (draft->vsid != row->vsid)
        return change_fail(change, DP_EINVAL, "port %u is in vsid %u, not %u", row->port, draft->vsid, row->vsid);
    return DP_OK;
}

/* provider_address: a PA of the same host, of the kind that the translation needs. */
static int check_pa(struct change *change, struct record *record)
{
    const struct dp_row_record *row = record->row;
    const struct tables *t = change->next;
    const char *pa = "provider_address";
    if (!path_find(change, row->pa_family, row->provider_address, &record->pa))
        return change_fail(change, DP_ENOENT, "no PA %s", change_address(row->pa_family, row->provider_address).s);
    uint32_t index = act_index(record->pa.act);
    bool rewrite = act_kind(record->pa.act) == ACT_PA_REWRITE;
    uint32_t host = rewrite ? t->rewrites[index].host : t->next_hops[index].host;
    if (host != row->host)
        return change_fail(change, DP_EINVAL, "%s %s is of host %u, not %u", pa, change_address(row->pa_family, row->provider_address).s, host,
                           row->host);
    if (rewrite != record->rewrite)
        return change_fail(change, DP_EINVAL, "%s %s is of the other kind", pa, change_address(row->pa_family, row->provider_address).s);
    const struct rewrite *bound = &t->rewrites[index];
    if (rewrite && bound->vsid && (bound->vsid != row->vsid || memcmp(bound->ca, row->ca, 16)))
        return change_fail(change, DP_EEXIST, "%s %s stands for another CA of vsid %u", pa,
                           change_address(row->pa_family, row->provider_address).s, bound->vsid);
    return DP_OK;
}

static int check_record(struct change *change, const struct dp_row_record *row, struct record *record)
{
    int code;
    record->local = row->host == change->dp->config.self_host;
    bool no_pa = record->local && row->translation == DP_NVGRE && !(row->pa_family | load64(row->provider_address) | load64(row->provider_address + 8));
    if ((code = check_family(change, "family", row->family)) || (!no_pa && (code = check_family(change, "pa_family", row->pa_family))) ||
        (code = check_types(change, row)) || (code = check_ca(change, row)) || (code = check_mac(change, row->mac)) ||
        (code = check_address(change, "provider_address", row->pa_family, row->provider_address)) ||
        (code = check_zero(change, row->pad, sizeof row->pad)) || (code = check_subnet(change, row->vsid, &record->subnet)))
        return code;
    record->row = row;
    record->wildcard = row->type == DP_GATEWAY_WILDCARD;
    record->rewrite = row->translation == DP_REWRITE;
    key_record(record->key, row->vsid, row->family, row->ca);
    code = check_port(change, record);
    /* A local record under NVGRE is never sent to its PA, which may come and go. */
    return code || (record->local && !record->rewrite) ? code : check_pa(change, record);
}

/* ---- what the record was before ---------------------------------------------------------------------------------- */

/* The PA that stood for the CA, if it still does so by that very rewrite. */
static int unbind_pa(struct change *change, unsigned family, const uint8_t *pa, uint32_t vsid, const uint8_t *ca)
{
    struct map_value value;
    if (!path_find(change, family, pa, &value) || act_kind(value.act) != ACT_PA_REWRITE)
        return DP_OK;
    const struct rewrite *bound = &change->next->rewrites[act_index(value.act)];
    bool ours = bound->vsid == vsid && bound->host == change->dp->config.self_host && !memcmp(bound->ca, ca, 16);
    return ours ? path_unbind(change, act_index(value.act)) : DP_OK;
}

/* Undoes what an entry meant beyond itself. now: the record in its place, NULL if there is none. */
static int leave(struct change *change, uint32_t vsid, unsigned family, const uint8_t *ca, uint32_t act, const struct record *now)
{
    bool keeps_pa = false;
    if (act_kind(act) == ACT_REWRITE) {
        const struct rewrite *old = &change->next->rewrites[act_index(act)];
        keeps_pa = now && now->rewrite && !memcmp(now->row->provider_address, old->pa, 16);
        return keeps_pa ? DP_OK : path_unbind(change, act_index(act));
    }
    if (act_kind(act) != ACT_LOCAL)
        return DP_OK;
    const struct draft *draft = policy_draft(change, act_index(act));
    const struct port_source *found = policy_source_of(draft, family, ca, family == DP_IPV4 ? 32 : 128, false);
    if (!found)
        return DP_OK;       /* a wildcard */
    struct port_source source = *found;
    keeps_pa = now && now->rewrite && !memcmp(now->row->provider_address, source.pa, 16);
    int code = now && now->local && now->row->port == act_index(act) ? DP_OK : policy_remove(change, act_index(act), &source);
    if (code == DP_OK && source.has_pa && !keeps_pa)
        code = unbind_pa(change, family, source.pa, vsid, ca);
    return code;
}

/* ---- put --------------------------------------------------------------------------------------------------------- */

static struct rewrite rewrite_of(const struct change *change, const struct record *record)
{
    const struct dp_row_record *row = record->row;
    struct rewrite rewrite;
    memset(&rewrite, 0, sizeof rewrite);
    memcpy(rewrite.ca, row->ca, 16);
    memcpy(rewrite.mac, row->mac, 6);
    rewrite.vsid = row->vsid;
    rewrite.rdid = change->next->subnets[record->subnet].rdid;
    rewrite.port = row->port;
    return rewrite;
}

static int bind_pa(struct change *change, const struct record *record, uint32_t *index)
{
    struct rewrite like = rewrite_of(change, record);
    return path_rebind(change, act_index(record->pa.act), &like, index);
}

static int add_source(struct change *change, const struct record *record, bool replace)
{
    const struct dp_row_record *row = record->row;
    struct port_source source = {.family = row->family, .prefix_len = row->family == DP_IPV4 ? 32 : 128, .has_pa = record->rewrite};
    memcpy(source.ca, row->ca, 16);
    if (record->rewrite)
        memcpy(source.pa, row->provider_address, 16);
    return policy_add(change, row->port, &source, replace);
}

/* What can be wrong is looked for before anything is written, since readers see that at once. */
static int check_place(struct change *change, const struct record *record)
{
    const struct dp_row_record *row = record->row;
    struct map_value there;
    if (change_get(change, records_of(row->family), record->key, &there) && act_kind(there.act) == ACT_GATEWAY)
        return change_fail(change, DP_EEXIST, "ca %s of vsid %u is a gateway", change_address(row->family, row->ca).s, row->vsid);
    if (!record->local || record->wildcard)
        return DP_OK;
    const struct draft *draft = policy_draft(change, row->port);
    bool full = draft->n == UINT16_MAX && !policy_source_of(draft, row->family, row->ca, row->family == DP_IPV4 ? 32 : 128, false);
    return full ? policy_full(change, row->port) : DP_OK;
}

/* The entry itself, then what the old one leaves behind. */
static int put_entry(struct change *change, const struct record *record, uint32_t act, struct map_value *old)
{
    const struct dp_row_record *row = record->row;
    struct map_value value = {.act = act};
    memcpy(value.mac, row->mac, 6);
    int code = change_entry(change, records_of(row->family), record->key, &value, old);
    return code ? code : leave(change, row->vsid, row->family, row->ca, old->act, record);
}

int record_put(struct change *change, const void *p)
{
    struct record record;
    struct map_value old;
    uint32_t index = POOL_NONE, act;
    int code = check_record(change, p, &record);
    if (code || (code = check_place(change, &record)))
        return code;
    if (record.rewrite && (code = bind_pa(change, &record, &index)))
        return code;
    if (record.local)
        act = act_make(ACT_LOCAL, record.row->port);
    else
        act = record.rewrite ? act_make(ACT_REWRITE, index) : act_make(ACT_NVGRE, act_index(record.pa.act));
    code = put_entry(change, &record, act, &old);
    if (code == DP_OK && record.local && !record.wildcard)
        code = add_source(change, &record, old.act == act);
    return code;
}

/* ---- delete ------------------------------------------------------------------------------------------------------ */

int record_del(struct change *change, const void *p)
{
    const struct dp_row_record *row = p;
    uint64_t key[3];
    struct map_value old;
    uint32_t subnet;
    int code = check_family(change, "family", row->family);
    if (code || (code = check_address(change, "ca", row->family, row->ca)) || (code = check_subnet(change, row->vsid, &subnet)))
        return code;
    key_record(key, row->vsid, row->family, row->ca);
    if (!change_get(change, records_of(row->family), key, &old) || act_kind(old.act) == ACT_GATEWAY)
        return change_fail(change, DP_ENOENT, "no record of vsid %u, ca %s", row->vsid, change_address(row->family, row->ca).s);
    code = change_entry(change, records_of(row->family), key, NULL, NULL);
    return code ? code : leave(change, row->vsid, row->family, row->ca, old.act, NULL);
}

/* Always inline: gcc drops a call that does nothing but prefetch. */
static inline __attribute__((always_inline)) void prefetch_key(const struct map_view *view, unsigned family, const uint64_t *key)
{
    if (family == DP_IPV4)
        map_prefetch1(view, map_hash1(view, key[0]));
    else
        map_prefetch3(view, map_hash3(view, key));
}

static inline __attribute__((always_inline)) void prefetch_first(const struct tables *t, const struct dp_row_record *row)
{
    uint64_t key[3];
    key_record(key, row->vsid, row->family, row->ca);
    prefetch_key(map_view(row->family == DP_IPV4 ? t->records4 : t->records6), row->family, key);
    key_pa(key, row->pa_family, row->provider_address);
    prefetch_key(map_view(row->pa_family == DP_IPV4 ? t->pas4 : t->pas6), row->pa_family, key);
}

/* The lines that rows will touch: their own buckets and their PAs'; a while later, their second ones. */
void record_prefetch(const struct change *change, const void *rows, uint32_t n, bool later)
{
    const struct dp_row_record *row = rows;
    uint64_t key[3];
    for (uint32_t i = 0; i < n; i++) {
        if (!later) {
            prefetch_first(change->next, &row[i]);
            continue;
        }
        key_record(key, row[i].vsid, row[i].family, row[i].ca);
        map_prefetch_put(change_map(change->next, records_of(row[i].family)), key);
    }
}
