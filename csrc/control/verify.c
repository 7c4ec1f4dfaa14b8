/*
 * verify.c: whether the tables hold what a change set says, row by row. Control thread; nothing here writes
 * to a table. Called by run/api.c.
 */
#include <stdlib.h>
#include "control/changes.h"

/* The last row of each key in a change set: what went before it is none of the tables' business any more. */
struct verify_key {
    uint64_t hash;                  /* 0: free */
    uint32_t section, row;
};

struct verify {
    const struct tables *tables;
    struct verify_key *keys;
    uint64_t mask;
};

static struct verify_key *verify_key(const struct verify *v, uint16_t kind, const uint8_t *row)
{
    uint64_t hash = export_key_hash(v->tables, kind, row) | 1, at = hash >> 1;
    while (v->keys[at & v->mask].hash && v->keys[at & v->mask].hash != hash)
        at++;
    v->keys[at & v->mask].hash = hash;
    return &v->keys[at & v->mask];
}

/* As export_row() gives it. */
static void verify_canonical(const struct tables *tables, uint16_t kind, uint8_t *bytes)
{
    struct dp_row_record *record = (struct dp_row_record *)bytes;
    if (kind == DP_ROW_PA)
        ((struct dp_row_pa *)bytes)->prefix_len = 0;
    if (kind != DP_ROW_RECORD)
        return;
    record->type = is_any(record->family, record->ca) ? DP_GATEWAY_WILDCARD : DP_STATIC;
    if (record->host == tables->self_host && record->translation == DP_NVGRE) {
        memset(record->provider_address, 0, 16);
        record->pa_family = 0;
    }
}

static bool verify_row(const struct tables *tables, const struct dp_section *section, const uint8_t *row)
{
    _Alignas(8) uint8_t wanted[sizeof(struct dp_row_record)], found[sizeof wanted];
    uint32_t act;
    bool there = export_row(tables, false, section->kind, row, found, &act);
    if (section->op == DP_DEL || !there)
        return there == (section->op == DP_PUT);
    memcpy(wanted, row, row_sizes[section->kind]);
    verify_canonical(tables, section->kind, wanted);
    return !memcmp(wanted, found, row_sizes[section->kind]);
}

static int verify_rows(const struct verify *v, const struct outline *outline, bool compare,
                       struct dp_change_error *error)
{
    const struct dp_section *section = (const struct dp_section *)(outline->header + 1);
    for (uint32_t s = 0; s < outline->header->sections; s++, section = outline_next(section))
        for (uint32_t r = 0; r < section->count; r++) {
            const uint8_t *row = (const uint8_t *)(section + 1) + r * row_sizes[section->kind];
            struct verify_key *key = verify_key(v, section->kind, row);
            if (!compare)
                *key = (struct verify_key){key->hash, s, r};
            else if (key->section == s && key->row == r && !verify_row(v->tables, section, row))
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
    struct verify v = {tables, NULL, 15};
    error = error ? error : &ignored;
    *error = (struct dp_change_error){0};
    int code = outline_of(&outline, change_set, len, error);
    if (code)
        return code;
    while (v.mask < 2 * outline.rows)
        v.mask = 2 * v.mask + 1;
    v.keys = calloc(v.mask + 1, sizeof *v.keys);
    if (!v.keys)
        return DP_ENOMEM;
    verify_rows(&v, &outline, false, error);
    code = verify_rows(&v, &outline, true, error);
    free(v.keys);
    return code;
}
