/* rows.c: rows out of what packets are forwarded by, summed, or compared with others. */
#include "run/rows.h"
#include <stdlib.h>
#include "step/policy.h"
#include "step/row.h"

/* Where rows of a kind go. */
struct rows {
    const struct tables *tables;
    uint16_t kind;
    enum table table;
    uint8_t *out;
    size_t size, room;              /* bytes of a row; rows that there is room for */
    uint64_t n, digest;
};

/* splitmix64 */
static inline uint64_t rows_mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

static bool rows_has_maps(uint16_t kind) { return row_maps[kind].first <= row_maps[kind].last; }
static uint32_t rows_sources(const struct port_policy *policy) { return (uint32_t)policy->n4 + policy->n6; }

/* False: the entry is none of the kind. */
static bool rows_of_entry(const struct tables *t, uint16_t kind, const struct row_entry *entry,
                          union table_row *row)
{
    memset(row, 0, sizeof *row);
    if (!row_of_entry(t, kind, entry, row))
        return false;
    if (act_kind(entry->value.act) == ACT_LOCAL)
        row_own(&row->record, policy_own(t->policies[row->record.port], row->record.family, row->record.ca));
    return true;
}

/* ---- all rows of a kind -------------------------------------------------------------------------------- */

static void rows_give(struct rows *r, const union table_row *row)
{
    uint64_t hash = r->kind;
    for (size_t at = 0; at < r->size; at += 8)
        hash = rows_mix(hash ^ load64((const uint8_t *)row + at));
    r->digest += hash;
    if (r->n < r->room)
        memcpy(r->out + r->n * r->size, row, r->size);
    r->n++;
}

static bool rows_entry(void *ctx, const uint64_t *key, const struct map_value *value)
{
    struct rows *r = ctx;
    union table_row row;
    if (rows_of_entry(r->tables, r->kind, &(struct row_entry){r->table, key, *value}, &row))
        rows_give(r, &row);
    return true;
}

static void rows_policy(struct rows *r, const struct port_policy *policy)
{
    union table_row row;
    for (uint32_t i = 0; i < (r->kind == DP_ROW_PORT ? 1 : rows_sources(policy)); i++) {
        memset(&row, 0, sizeof row);
        if (r->kind == DP_ROW_PORT)
            row_port(policy->port, policy->vsid, policy->mac, &policy->limit, &row);
        else if (!row_source(policy->port, &policy->sources[i], &row))
            continue;
        rows_give(r, &row);
    }
}

static void rows_all(struct rows *r)
{
    const struct tables *t = r->tables;
    for (r->table = row_maps[r->kind].first; r->table <= row_maps[r->kind].last; r->table++)
        map_each(t->maps[r->table], rows_entry, r);
    for (uint32_t port = 0; !rows_has_maps(r->kind) && port < DP_MAX_PORTS; port++)
        if (t->policies[port])
            rows_policy(r, t->policies[port]);
}

int64_t tables_rows(const struct tables *tables, uint32_t kind, uint8_t *out, size_t capacity)
{
    if (kind == 0 || kind >= ROW_KINDS)
        return DP_EINVAL;
    struct rows r = {.tables = tables, .kind = (uint16_t)kind, .out = out, .size = row_sizes[kind],
                     .room = capacity / row_sizes[kind]};
    rows_all(&r);
    return (int64_t)r.n;
}

/* ---- the digest, slice by slice ------------------------------------------------------------------------ */

/*
 * A slice that was written since it was looked at is looked at again: so all sums are of now when none is
 * left.
 */
static uint64_t rows_digest_slice(const struct tables *t, enum table table, uint32_t slice)
{
    uint64_t entries = 1;
    for (uint16_t kind = 1; kind < ROW_KINDS; kind++) {
        struct rows r = {.tables = t, .kind = kind, .table = table, .size = row_sizes[kind]};
        if (table < row_maps[kind].first || table > row_maps[kind].last)
            continue;
        map_slice_each(t->maps[table], slice, rows_entry, &r);
        t->sums[table][kind == DP_ROW_PROVIDER_ROUTE][slice] = r.digest;
        entries += r.n;
    }
    map_seen(t->maps[table])[slice] = true;
    return entries;
}

void tables_digest_begin(const struct tables *tables)
{
    for (enum table table = 0; table < TABLE_COUNT; table++)
        memset(map_seen(tables->maps[table]), 0, MAP_SLICES);
}

int tables_digest_step(const struct tables *t, uint64_t rows, uint64_t *out)
{
    uint64_t seen = 0;
    for (enum table table = 0; table < TABLE_COUNT; table++)
        for (uint32_t slice = 0; slice < MAP_SLICES; slice++) {
            if (map_seen(t->maps[table])[slice])
                continue;
            if (seen >= rows)
                return 0;
            seen += rows_digest_slice(t, table, slice);
        }
    for (uint16_t kind = 1; kind < ROW_KINDS; kind++) {
        struct rows r = {.tables = t, .kind = kind, .size = row_sizes[kind]};
        if (!rows_has_maps(kind))
            rows_all(&r);
        for (enum table table = row_maps[kind].first; table <= row_maps[kind].last; table++)
            for (uint32_t slice = 0; slice < MAP_SLICES; slice++)
                r.digest += t->sums[table][kind == DP_ROW_PROVIDER_ROUTE][slice];
        out[kind] = r.digest;
    }
    return 1;
}

/* ---- compared with those of a change set --------------------------------------------------------------- */

/* The last row of each key in a change set: what went before it is none of the tables' business any more. */
struct rows_last {
    uint64_t hash;                  /* 0: free */
    uint32_t section, row;
};

struct rows_check {
    const struct tables *tables;
    struct rows_last *keys;
    uint64_t mask;
};

/* What tells rows of a kind apart. */
static uint64_t rows_key_hash(const struct tables *tables, uint16_t kind, const union table_row *row)
{
    uint64_t key[3] = {0};
    if (kind == DP_ROW_SOURCE)
        memcpy(key, row, sizeof row->source);
    else if (kind == DP_ROW_PORT)
        key[0] = row->port.port;
    else
        row_key(tables, kind, row, key);
    return rows_mix(rows_mix(rows_mix(kind ^ key[0]) ^ key[1]) ^ key[2]);
}

static struct rows_last *rows_last(const struct rows_check *c, uint16_t kind, const union table_row *row)
{
    uint64_t hash = rows_key_hash(c->tables, kind, row) | 1, at = hash >> 1;
    while (c->keys[at & c->mask].hash && c->keys[at & c->mask].hash != hash)
        at++;
    c->keys[at & c->mask].hash = hash;
    return &c->keys[at & c->mask];
}

/*
 * The row of the same key, or false. A prefix's key is by the routing domain that its subnet has now: who was
 * there under another one may find a stranger's.
 */
static bool rows_find(const struct tables *t, uint16_t kind, const union table_row *like,
                      union table_row *row)
{
    uint64_t key[3];
    memset(row, 0, sizeof *row);
    if (rows_has_maps(kind)) {
        struct row_entry entry = row_find(t, kind, like, key);
        return entry.value.act && rows_of_entry(t, kind, &entry, row) &&
               (kind != DP_ROW_PREFIX || row->prefix.vsid == like->prefix.vsid);
    }
    const uint32_t port = kind == DP_ROW_PORT ? like->port.port : like->source.port;
    const struct port_policy *policy = port < DP_MAX_PORTS ? t->policies[port] : NULL;
    if (policy && kind == DP_ROW_PORT)
        row_port(port, policy->vsid, policy->mac, &policy->limit, row);
    if (!policy || kind == DP_ROW_PORT)
        return policy != NULL;
    for (uint32_t i = 0; i < rows_sources(policy); i++)
        if (row_source(port, &policy->sources[i], row) &&
            !memcmp(row, like, offsetof(struct dp_row_source, pad)))
            return true;
    return false;
}

/* As rows_find() gives it. */
static void rows_canonical(const struct tables *tables, uint16_t kind, union table_row *row)
{
    struct dp_row_record *record = &row->record;
    if (kind == DP_ROW_PA)
        row->pa.prefix_len = 0;
    if (kind != DP_ROW_RECORD)
        return;
    record->type = is_any(record->family, record->ca) ? DP_GATEWAY_WILDCARD : DP_STATIC;
    if (record->host == tables->self_host && record->translation == DP_NVGRE) {
        memset(record->provider_address, 0, 16);
        record->pa_family = 0;
    }
}

static bool rows_same(const struct tables *tables, const struct dp_section *section,
                      const union table_row *row)
{
    union table_row wanted, found;
    bool there = rows_find(tables, section->kind, row, &found);
    if (section->op == DP_DEL || !there)
        return there == (section->op == DP_PUT);
    memcpy(&wanted, row, row_sizes[section->kind]);
    rows_canonical(tables, section->kind, &wanted);
    return !memcmp(&wanted, &found, row_sizes[section->kind]);
}

static int rows_check_all(const struct rows_check *c, const struct outline *outline, bool compare,
                          struct dp_change_error *error)
{
    const struct dp_section *section = (const struct dp_section *)(outline->header + 1);
    for (uint32_t s = 0; s < outline->header->sections; s++, section = outline_next(section))
        for (uint32_t r = 0; r < section->count; r++) {
            const union table_row *row = outline_row(section, r);
            struct rows_last *last = rows_last(c, section->kind, row);
            if (!compare)
                *last = (struct rows_last){last->hash, s, r};
            else if (last->section == s && last->row == r && !rows_same(c->tables, section, row))
                return outline_fail(error, s, r, DP_ENOENT,
                                    "the tables don't hold this row as it was put, or still hold it");
        }
    return DP_OK;
}

int tables_check(const struct tables *tables, const uint8_t *change_set, size_t len,
                 struct dp_change_error *error)
{
    struct dp_change_error ignored;
    struct outline outline;
    struct rows_check c = {tables, NULL, 15};
    error = error ? error : &ignored;
    *error = (struct dp_change_error){0};
    int code = outline_of(&outline, change_set, len, error);
    if (code)
        return code;
    while (c.mask < 2 * outline.rows)
        c.mask = 2 * c.mask + 1;
    c.keys = calloc(c.mask + 1, sizeof *c.keys);
    if (!c.keys)
        return DP_ENOMEM;
    rows_check_all(&c, &outline, false, error);
    code = rows_check_all(&c, &outline, true, error);
    free(c.keys);
    return code;
}
