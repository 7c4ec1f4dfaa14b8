/*
 * inverse.c: what a row replaces, before it is applied. In: a row; out: the row of the same key that was
 * there, or that there was none. Called by changes.c, which puts it back; paths.c looks what moved.
 */
#include "control/changes.h"

/* From the port's draft, which is what its policy will be. */
static bool inverse_of_draft(const struct change *change, uint16_t kind, const union table_row *like,
                             union table_row *row)
{
    const uint32_t port = kind == DP_ROW_PORT ? like->port.port : like->source.port;
    const struct draft *draft = port < DP_MAX_PORTS ? policy_draft(change, port) : NULL;
    if (!draft)
        return false;
    if (kind == DP_ROW_PORT) {
        row_port(port, draft->vsid, draft->mac, &draft->limit, row);
        return true;
    }
    const struct dp_row_source *key = &like->source;
    const struct port_source *found =
        policy_source_of(draft, key->family, key->prefix, key->prefix_len, true);
    return found && row_source(port, found, row);
}

/* What a row's entry said; a route's or prefix's: its rdid. */
static uint32_t inverse_act(const struct row_entry *entry)
{
    if (entry->table == TABLE_PREFIXES)
        return key_id(entry->table, entry->key);
    if (change_is_routes(entry->table))
        return key_route_rdid(entry->key, entry->table == TABLE_ROUTES4);
    return entry->value.act;
}

/* The row of the same key; false: there is none. */
static bool inverse_find(const struct change *change, uint16_t kind, const union table_row *like,
                         union table_row *row, uint32_t *act)
{
    if (kind == DP_ROW_PORT || kind == DP_ROW_SOURCE)
        return inverse_of_draft(change, kind, like, row);
    *act = inverse_act(&change->at);
    if (!change->at.value.act || !row_of_entry(change->next, kind, &change->at, row))
        return false;
    if (act_kind(change->at.value.act) == ACT_LOCAL) {
        struct dp_row_record *record = &row->record;
        row_own(record, policy_own_of(change->writer->drafts[record->port], record->family, record->ca));
    }
    return true;
}

void inverse_write(struct change *change, uint16_t kind, const void *row)
{
    const size_t size = row_sizes[kind];
    struct inverse *back = (struct inverse *)(change->inverse + change->inverse_at - size - sizeof *back);
    const struct tell *at = &change->tell;
    *back = (struct inverse){.kind = kind, .op = DP_PUT, .section = at->section, .row = at->row};
    memset(back + 1, 0, size);
    if (!inverse_find(change, kind, row, (union table_row *)(back + 1), &back->act)) {
        back->op = DP_DEL;
        memcpy(back + 1, row, size);
    } else if (kind == DP_ROW_PA) {
        path_remember(change, back);
    }
    change->back = back;
}
