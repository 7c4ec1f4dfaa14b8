/*
 * records.c: rows of lookup records. A local one is also a source of its port's policy; one under rewrite
 * also what its PA stands for. Called by changes.c, row by row.
 */
#include "control/changes.h"
#include "table/map_inline.h"

enum { RECORD_GROUP = 16 };

/* A row that was checked, and what it refers to. */
struct record {
    const struct dp_row_record *row;
    uint32_t subnet;
    bool local, rewrite, source;        /* source: one of its port's policy, no wildcard */
    struct map_value pa;                /* its PA's entry */
};

static int record_check_types(struct change *change, const struct dp_row_record *row)
{
    if (row->type == DP_L2ONLY)
        return tell(&change->tell, DP_EINVAL, "l2only records are not supported yet");
    if (row->type != DP_STATIC && row->type != DP_DYNAMIC && row->type != DP_GATEWAY_WILDCARD)
        return tell(&change->tell, DP_EINVAL, "unknown type %u", row->type);
    if (row->translation != DP_NVGRE && row->translation != DP_REWRITE)
        return tell(&change->tell, DP_EINVAL, "unknown translation %u", row->translation);
    if (row->translation == DP_REWRITE && row->type == DP_GATEWAY_WILDCARD)
        return tell(&change->tell, DP_EINVAL, "a gateway-wildcard has no rewrite PA");
    if (row->translation == DP_REWRITE && row->family != row->pa_family)
        return tell(&change->tell, DP_EINVAL, "rewrite between families %u and %u", row->family,
                    row->pa_family);
    return DP_OK;
}

static int record_check_ca(struct change *change, const struct dp_row_record *row)
{
    if (row->type != DP_GATEWAY_WILDCARD)
        return check_unicast(&change->tell, "ca", row->family, row->ca);
    return load64(row->ca) | load64(row->ca + 8)
               ? tell(&change->tell, DP_EINVAL, "a gateway-wildcard's ca is not zero")
               : DP_OK;
}

/* The port a record names: of this host's own, and in the same subnet. */
static int record_check_port(struct change *change, const struct record *record)
{
    const struct dp_row_record *row = record->row;
    if (!record->local)
        return row->port ? tell(&change->tell, DP_EINVAL, "port %u for a record of another host", row->port)
                         : DP_OK;
    int code = check_port(&change->tell, row->port);
    if (code)
        return code;
    const struct draft *draft = policy_draft(change, row->port);
    if (!draft)
        return tell(&change->tell, DP_ENOENT, "port %u has no policy", row->port);
    if (draft->vsid != row->vsid)
        return tell(&change->tell, DP_EINVAL, "port %u is in vsid %u, not %u", row->port, draft->vsid,
                    row->vsid);
    return DP_OK;
}

/* provider_address: a PA of the same host, of the kind that the translation needs. */
static int record_check_pa(struct change *change, struct record *record)
{
    const struct dp_row_record *row = record->row;
    const struct tables *t = change->next;
    const char *pa = "provider_address";
    if (!path_find(change, row->pa_family, row->provider_address, &record->pa))
        return tell(&change->tell, DP_ENOENT, "no PA %s",
                    tell_address(row->pa_family, row->provider_address).s);
    uint32_t index = act_index(record->pa.act);
    bool rewrite = act_kind(record->pa.act) == ACT_PA_REWRITE;
    uint32_t host = rewrite ? t->rewrites[index].host : t->next_hops[index].host;
    if (host != row->host)
        return tell(&change->tell, DP_EINVAL, "%s %s is of host %u, not %u", pa,
                    tell_address(row->pa_family, row->provider_address).s, host, row->host);
    if (rewrite != record->rewrite)
        return tell(&change->tell, DP_EINVAL, "%s %s is of the other kind", pa,
                    tell_address(row->pa_family, row->provider_address).s);
    const struct rewrite *bound = &t->rewrites[index];
    if (rewrite && bound->vsid && (bound->vsid != row->vsid || memcmp(bound->ca, row->ca, 16)))
        return tell(&change->tell, DP_EEXIST, "%s %s stands for another CA of vsid %u", pa,
                    tell_address(row->pa_family, row->provider_address).s, bound->vsid);
    return DP_OK;
}

static int record_check_record(struct change *change, const struct dp_row_record *row, struct record *record)
{
    int code;
    record->local = row->host == change->next->self_host;
    bool no_pa = record->local && row->translation == DP_NVGRE &&
                 !(row->pa_family | load64(row->provider_address) | load64(row->provider_address + 8));
    if ((code = check_family(&change->tell, "family", row->family)) ||
        (!no_pa && (code = check_family(&change->tell, "pa_family", row->pa_family))) ||
        (code = record_check_types(change, row)) || (code = record_check_ca(change, row)) ||
        (code = check_mac(&change->tell, row->mac)) ||
        (code = check_address(&change->tell, "provider_address", row->pa_family, row->provider_address)) ||
        (code = check_zero(&change->tell, row->pad, sizeof row->pad)) ||
        (code = change_check_subnet(change, row->vsid, &record->subnet)))
        return code;
    record->row = row;
    record->rewrite = row->translation == DP_REWRITE;
    record->source = record->local && row->type != DP_GATEWAY_WILDCARD;
    code = record_check_port(change, record);
    /* A local record under NVGRE is never sent to its PA, which may come and go. */
    return code || (record->local && !record->rewrite) ? code : record_check_pa(change, record);
}

/*
 * Besides the row itself, its place: what can be wrong is looked for before anything is written, which
 * readers see at once.
 */
static int record_check_place(struct change *change, const struct record *record)
{
    const struct dp_row_record *row = record->row;
    const uint32_t old = change->at.value.act;
    if (act_kind(old) == ACT_GATEWAY)
        return tell(&change->tell, DP_EEXIST, "ca %s of vsid %u is a gateway",
                    tell_address(row->family, row->ca).s, row->vsid);
    int code = act_kind(old) == ACT_LOCAL ? policy_ready(change, act_index(old)) : DP_OK;
    if (code || !record->source || (code = policy_ready(change, row->port)))
        return code;
    const struct draft *draft = policy_draft(change, row->port);
    return draft->n < UINT16_MAX || policy_own_of(draft, row->family, row->ca)
               ? DP_OK
               : tell(&change->tell, DP_EFULL, "port %u has %u sources already", row->port, draft->n);
}

/* ---- what the record was before ------------------------------------------------------------------------ */

/* The PA stands for the CA no more, unless the record in its place (NULL: none) keeps it. */
static void record_unbind(struct change *change, const struct dp_row_record *row, const struct record *now,
                          const uint8_t *pa)
{
    if (!now || !now->rewrite || memcmp(row->provider_address, pa, 16))
        path_unbind(change, row->family, pa, row->vsid, row->ca);
}

/*
 * Takes back what the key's entry meant beyond itself. now: the record in its place, NULL if there is none.
 */
static void record_leave(struct change *change, const struct dp_row_record *row, const struct record *now)
{
    const uint32_t index = act_index(change->at.value.act);
    if (act_kind(change->at.value.act) == ACT_REWRITE)
        record_unbind(change, row, now, change->next->rewrites[index].pa);
    if (act_kind(change->at.value.act) != ACT_LOCAL)
        return;
    struct draft *draft = change->writer->drafts[index];
    const struct port_source *found = policy_own_of(draft, row->family, row->ca);
    if (!found)
        return;             /* a wildcard */
    struct port_source source = *found;
    if (!now || !now->local || row->port != index)
        policy_remove(draft, &source);
    if (source.has_pa)
        record_unbind(change, row, now, source.pa);
}

/* ---- put ----------------------------------------------------------------------------------------------- */

static struct rewrite record_rewrite(const struct change *change, const struct record *record)
{
    const struct dp_row_record *row = record->row;
    struct rewrite rewrite;
    memset(&rewrite, 0, sizeof rewrite);
    memcpy(rewrite.ca, row->ca, 16);
    memcpy(rewrite.mac, row->mac, 6);
    rewrite.vsid = row->vsid;
    rewrite.rdid = change->next->subnets[record->subnet].rdid;
    rewrite.port = (uint16_t)row->port;
    return rewrite;
}

static void record_source(struct change *change, const struct record *record)
{
    const struct dp_row_record *row = record->row;
    struct port_source source = {
        .family = row->family, .prefix_len = addr_bits(row->family), .has_pa = record->rewrite};
    memcpy(source.ca, row->ca, 16);
    if (record->rewrite)
        memcpy(source.pa, row->provider_address, 16);
    policy_add(change->writer->drafts[row->port], &source);
}

/* The PA is bound first, then comes the entry itself, then goes what the old one leaves behind. */
static int record_write(struct change *change, const struct record *record)
{
    const struct dp_row_record *row = record->row;
    struct map_value value = {.act = act_make(ACT_NVGRE, act_index(record->pa.act))};
    memcpy(value.mac, row->mac, 6);
    if (record->rewrite) {
        uint32_t index;
        struct rewrite like = record_rewrite(change, record);
        int code = path_rebind(change, act_index(record->pa.act), &like, &index);
        if (code)
            return code;
        value.act = act_make(ACT_REWRITE, index);
        if (!record->local)
            tables_rewrite_value(&value, &change->next->rewrites[index]);
    }
    if (record->local)
        value.act = act_make(ACT_LOCAL, row->port) | MAP_HOME;
    change_entry(change, change->at.table, change->key, &value);
    record_leave(change, row, record);
    if (record->source)
        record_source(change, record);
    return DP_OK;
}

/*
 * On the way back, a record that can't be names a PA that had moved when it was put and has been moved back
 * already. It is none of those that were there before, which all name the PA as it is now: the key's own
 * one is still to come, or there was none.
 */
int record_put(struct change *change, const void *p)
{
    struct record record;
    int code = record_check_record(change, p, &record);
    if (code == DP_OK)
        code = record_check_place(change, &record);
    if (change->restoring && code && code != DP_ENOMEM)
        return record_del(change, p);
    return code ? code : record_write(change, &record);
}

/* ---- delete -------------------------------------------------------------------------------------------- */

int record_del(struct change *change, const void *p)
{
    const struct dp_row_record *row = p;
    const uint32_t old = change->at.value.act;
    int code = change_check_ca(change, row->vsid, row->family, row->ca);
    if (code)
        return code;
    if (act_kind(old) == ACT_NONE || act_kind(old) == ACT_GATEWAY)
        return change->restoring ? DP_OK
                                 : tell(&change->tell, DP_ENOENT, "no record of vsid %u, ca %s", row->vsid,
                                        tell_address(row->family, row->ca).s);
    if (act_kind(old) == ACT_LOCAL && (code = policy_ready(change, act_index(old))))
        return code;
    change_entry(change, change->at.table, change->key, NULL);
    record_leave(change, row, NULL);
    return DP_OK;
}

/* ---- prefetch ------------------------------------------------------------------------------------------ */

/* Always inline: gcc drops a call that does nothing but prefetch. */
static inline __attribute__((always_inline)) void record_prefetch_key(const struct map *map, unsigned family,
                                                                      const uint64_t *key)
{
    const struct map_view *view = map_view(map);
    const unsigned words = family == DP_IPV4 ? 1 : 3;
    map_prefetch(view, map_hash(view, words, key));
}

/*
 * Records are many and lie anywhere. Fetching goes ahead of applying by groups, each in loops so tight that
 * the misses of several rows overlap: the rows, then their own buckets and their PAs', then their second
 * ones.
 */
void record_prefetch(const struct change *change, const struct dp_row_record *rows, uint32_t left)
{
    const struct tables *t = change->next;
    uint64_t key[3];
    if (change->tell.row % RECORD_GROUP || left < 4 * RECORD_GROUP)
        return;
    for (const struct dp_row_record *row = rows + RECORD_GROUP; row < rows + 2 * RECORD_GROUP; row++) {
        key_record(key, row->vsid, row->family, row->ca);
        map_prefetch_put(t->maps[records_of(row->family)], key);
    }
    for (const struct dp_row_record *row = rows + 2 * RECORD_GROUP; row < rows + 3 * RECORD_GROUP; row++) {
        __builtin_prefetch(row + RECORD_GROUP);
        key_record(key, row->vsid, row->family, row->ca);
        record_prefetch_key(t->maps[records_of(row->family)], row->family, key);
        key_pa(key, row->pa_family, row->provider_address);
        record_prefetch_key(t->maps[pas_of(row->pa_family)], row->pa_family, key);
    }
}
