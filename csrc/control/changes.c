/*
 * changes.c: a change set from its bytes to the tables, whole or not at all. Rows are applied in the order
 * they stand: in place, or to copies of the maps when there are many. One that is refused is put back by
 * its inverse, and one that was kept may be later. Either way dp->tables is swapped once, at the end; what
 * nothing refers to any more is freed when every worker has been quiescent.
 */
#include "control/changes.h"
#include <stdatomic.h>
#include <stdlib.h>

enum { BESIDE_MIN = 1024, BESIDE_SHARE = 8 };

#define IN(table) (1u << (table))

/* tables, objects: that a row of the kind may add to or take from, as bits; tables besides its own. */
struct row_kind {
    const char *name;
    row_fn *put, *del;
    uint32_t objects, tables;
};

static const struct row_kind change_kinds[] = {
    [DP_ROW_PA] = {"PA", pa_put, pa_del, IN(NEXT_HOPS) | IN(REWRITES), 0},
    [DP_ROW_PROVIDER_ROUTE] = {"provider route", provider_route_put, provider_route_del, IN(VIAS), 0},
    [DP_ROW_SUBNET] = {"subnet", subnet_put, subnet_del, IN(SUBNETS), IN(TABLE_RECORDS6)},
    [DP_ROW_PREFIX] = {"prefix", prefix_put, prefix_del, IN(PREFIXES),
                       IN(TABLE_ROUTES4) | IN(TABLE_ROUTES6) | IN(TABLE_RECORDS4) | IN(TABLE_RECORDS6)},
    [DP_ROW_PORT] = {"port", port_put, port_del, 0, 0},
    [DP_ROW_SOURCE] = {"source", source_put, source_del, 0, 0},
    [DP_ROW_RECORD] = {"record", record_put, record_del, IN(NEXT_HOPS) | IN(REWRITES), 0},
    [DP_ROW_ROUTE] = {"route", route_put, route_del, IN(VIAS), 0},
    [DP_ROW_MOVE] = {"move", move_put, move_del, 0, 0},
    [DP_ROW_FLOOD] = {"flood", flood_put, flood_del, IN(NEXT_HOPS) | IN(MEMBERS), 0},
};
/* ---- the end ------------------------------------------------------------------------------------------- */

static void change_release_ways(struct change *change)
{
    const struct object_list *dropped = &change->writer->objects[NEXT_HOPS].dropped;
    for (uint32_t i = 0; i < dropped->n; i++) {
        uint32_t index = object_list_at(dropped, i);
        uint32_t neigh = change->next->next_hops[index].neigh;
        if (neigh != INDEX_NONE)
            neigh_release(change->control->neigh, neigh, index);
    }
}

/* Where rows of routes have their family, and behind it the length. */
static const size_t change_route_family[ROW_KINDS] = {
    [DP_ROW_PROVIDER_ROUTE] = offsetof(struct dp_row_provider_route, family),
    [DP_ROW_PREFIX] = offsetof(struct dp_row_prefix, family),
    [DP_ROW_ROUTE] = offsetof(struct dp_row_route, family),
};

/*
 * A length without a route may be asked for in vain, so it goes after the last reader that could know
 * such a route.
 */
static void change_settle_lengths(struct change *change)
{
    size_t at = change->inverse_at;
    for (struct inverse *back; (back = change_inverse(change, &at));) {
        const uint8_t *row = (const uint8_t *)(back + 1) + change_route_family[back->kind];
        if (change_route_family[back->kind] == 0)
            continue;
        bool ip4 = row[0] == DP_IPV4;
        unsigned len = row[1];
        if (!change->writer->route_counts[back->act][ip4 ? len : 33 + len])
            atomic_fetch_and(tables_length(&change->next->lengths[back->act], ip4, len), ~(1ull << len % 64));
    }
}

/* Every worker has been quiescent since. */
static void change_settle(struct change *change)
{
    struct tables_writer *w = change->writer;
    change_settle_lengths(change);
    for (uint32_t i = 0; i < OBJECTS; i++)
        objects_settle(&w->objects[i]);
    for (enum table table = 0; table < TABLE_COUNT; table++)
        map_free_retired(map_retired(control_tables(change->control)->maps[table]));
    map_free_retired(map_retired(w->hosts));
}

static void change_free_tables(struct tables *t, bool maps)
{
    for (enum table table = 0; maps && table < TABLE_PREFIXES; table++)
        map_destroy(t->maps[table]);
    free(t);
}

static void change_publish(struct change *change, uint64_t generation)
{
    struct control *control = change->control;
    struct tables *old = control_tables(control), *next = change->next;
    next->generation = generation;
    next->subnet_count = change->writer->objects[SUBNETS].used;
    for (enum table table = 0; table < TABLE_PREFIXES; table++)
        map_publish(next->maps[table]);
    if (change->own_pas)
        path_headers(control, change->writer, next);
    flood_publish(change);
    atomic_store(control->tables, next);
    change_release_ways(change);
    qsbr_wait(control->qsbr);
    policy_settle(change, old);
    flood_settle(change);
    change_settle(change);
    change_free_tables(old, change->beside);
}

/* ---- applying ------------------------------------------------------------------------------------------ */

static bool change_is_large(const struct tables *t, const struct outline *outline)
{
    struct map_stats records4, records6;
    map_stats(t->records4, &records4);
    map_stats(t->records6, &records6);
    return outline->rows > BESIDE_MIN &&
           outline->rows > (records4.entries + records6.entries) / BESIDE_SHARE;
}

static bool change_copy_maps(struct tables *to, struct tables *from, const uint64_t records[2])
{
    bool whole = true;
    for (enum table table = 0; table < TABLE_PREFIXES; table++) {
        uint64_t expected = change_is_records(table) ? records[table == TABLE_RECORDS6] : 0;
        to->maps[table] = map_clone(from->maps[table], expected);
        whole &= to->maps[table] != NULL;
    }
    return whole;
}

/* The tables to be, in change->next. */
static int change_begin(struct change *change, const uint64_t records[2])
{
    struct tables *now = control_tables(change->control), *next = malloc(sizeof *next);
    if (!next)
        return DP_ENOMEM;
    memcpy(next, now, sizeof *next);
    if (change->beside && !change_copy_maps(next, now, records)) {
        change_free_tables(next, true);
        return DP_ENOMEM;
    }
    change->next = next;
    change->memo_vsid = 0;
    return DP_OK;
}

/* What the row may need: behind this neither it nor its inverse fails for want of it. */
static int change_make_room(struct change *change, const struct row_kind *kind)
{
    const struct row_maps own = row_maps[kind - change_kinds];
    const uint32_t tables = own.first > own.last ? 0 : IN(own.first) | IN(own.last);
    for (uint32_t left = kind->tables | tables; left; left &= left - 1)
        if (map_ready(change->next->maps[__builtin_ctz(left)]))
            return tell_no_memory(&change->tell, DP_ENOMEM);
    for (uint32_t left = kind->objects; left; left &= left - 1) {
        int code = change_ready(change, (enum object)__builtin_ctz(left));
        if (code)
            return code;
    }
    return DP_OK;
}

/* Unless it is a row of the inverse, its own inverse is written. */
static int change_apply_row(struct change *change, uint16_t number, unsigned op, const void *row)
{
    const struct row_kind *kind = &change_kinds[number];
    int code = change_make_room(change, kind);
    if (code)
        return code;
    if (row_maps[number].first <= row_maps[number].last)
        change->at = row_find(change->next, number, row, change->key);
    if (!change->restoring)
        inverse_write(change, number, row);
    return (op == DP_PUT ? kind->put : kind->del)(change, row);
}

static int change_apply_section(struct change *change, const struct dp_section *section)
{
    const uint8_t *row = (const uint8_t *)(section + 1);
    change->tell.row_name = change_kinds[section->kind].name;
    for (change->tell.row = 0; change->tell.row < section->count; change->tell.row++) {
        if (section->kind == DP_ROW_RECORD)
            record_prefetch(change, (const void *)row, section->count - change->tell.row);
        int code = change_apply_row(change, section->kind, section->op, row);
        if (code)
            return code;
        change->inverse_at = (size_t)((uint8_t *)change->back - change->inverse);
        row += row_sizes[section->kind];
    }
    return DP_OK;
}

static int change_apply_rows(struct change *change, const struct dp_change_header *header)
{
    const struct dp_section *section = (const struct dp_section *)(header + 1);
    for (change->tell.section = 0; change->tell.section < header->sections; change->tell.section++) {
        int code = change_apply_section(change, section);
        if (code)
            return code;
        section = outline_next(section);
    }
    return DP_OK;
}

static int change_finish(struct change *change)
{
    int code = path_finish(change);
    if (code == DP_OK)
        code = flood_finish(change);
    return code ? code : policy_finish(change);
}

/*
 * Puts back what the inverse says, the last row first. A PA that has moved goes before all others: records
 * went after it, and must not come back before it. A record amid two moves may then find the wrong one, see
 * record_put().
 */
static int change_restore(struct change *change)
{
    int code = DP_OK;
    change->restoring = change->tell.told = change->writer->budget.must = true;
    for (int moved = 1; moved >= 0; moved--) {
        size_t at = change->inverse_at;
        while ((change->back = change_inverse(change, &at))) {
            const struct inverse *back = change->back;
            if (back->moved != moved || back->op == 0)
                continue;
            int error = change_apply_row(change, back->kind, back->op, back + 1);
            code = error ? error : code;
        }
    }
    int error = change_finish(change);
    change->writer->budget.must = false;
    return error ? error : code;
}

void change_free(struct change *change)
{
    if (!change)
        return;
    for (uint32_t port = 0; port < DP_MAX_PORTS; port++)
        free(change->spares[port]);
    flood_free_spares(change);
    free(change->inverse);
    mem_give(&change->writer->budget, change->inverse_size);
    free(change);
}

static struct change *change_new(struct control *control, const struct outline *outline,
                                 struct dp_change_error *error)
{
    struct change *change = calloc(1, sizeof *change);
    if (!change)
        return NULL;
    change->control = control;
    change->writer = control_tables(control)->writer;
    change->tell.error = error;
    change->tell.row_name = "change set";
    change->generation = control_tables(control)->generation;
    change->writer->changes++;
    change->beside = outline->header->flags & DP_CHANGE_ATOMIC ||
                     change_is_large(control_tables(control), outline);
    const size_t inverse = outline->rows * sizeof(struct inverse) + outline->bytes;
    change->inverse_at = change->inverse_size = inverse;
    if (mem_take(&change->writer->budget, inverse)) {
        free(change);
        return NULL;
    }
    change->inverse = malloc(inverse + 1);
    if (change->inverse && !change_begin(change, outline->records))
        return change;
    change_free(change);
    return NULL;
}

int tables_apply(struct control *control, const uint8_t *change_set, size_t len,
                 struct dp_change_error *error)
{
    struct outline outline;
    *error = (struct dp_change_error){0};
    tables_verified(control);
    int code = outline_of(&outline, change_set, len, error);
    if (code)
        return code;
    struct change *change = change_new(control, &outline, error);
    if (!change)
        return outline_fail(error, 0, 0, DP_ENOMEM, "change set: out of memory");
    code = change_apply_rows(change, outline.header);
    if (code == DP_OK)
        code = change_finish(change);
    if (code == DP_OK) {
        change_publish(change, outline.header->generation);
        change->writer->last = change;
        return DP_OK;
    }
    if (change_restore(change))
        code = outline_fail(error, change->tell.section, change->tell.row, DP_ENOMEM,
                            "it can't be taken back: tables are incomplete");
    change_publish(change, change->generation);
    change_free(change);
    return code;
}

int tables_rollback(struct control *control)
{
    struct tables_writer *w = control_tables(control)->writer;
    struct change *change = w->last;
    if (!change)
        return DP_ENOENT;
    if (change_begin(change, (const uint64_t[2]){0}))
        return DP_ENOMEM;
    w->last = NULL;
    int code = change_restore(change);  /* tells nothing */
    change_publish(change, change->generation);
    change_free(change);
    return code;
}

int tables_verified(struct control *control)
{
    struct tables_writer *w = control_tables(control)->writer;
    int code = w->last ? DP_OK : DP_ENOENT;
    change_free(w->last);
    w->last = NULL;
    return code;
}
