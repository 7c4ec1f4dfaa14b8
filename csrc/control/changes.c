/*
 * changes.c: a change set from its bytes to the tables, whole or not at all. Rows are applied in the order they stand: in place, or to
 * copies of the maps when there are many. Either way dp->tables is swapped once, at the end; what nothing refers to any
 * more is freed when every worker has been quiescent.
 */
#include "control/changes.h"
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include "table/map_inline.h"
#include "base/qsbr.h"

enum { BESIDE_MIN = 1024, BESIDE_SHARE = 8, GROUP = 16, SAMPLES = 1024 };

struct row_kind {
    const char *name;
    size_t size;
    row_fn *put, *del;
    void (*prefetch)(const struct change *change, const void *rows, uint32_t n, bool later);
};

static const struct row_kind kinds[] = {
    [DP_ROW_PA] = {"PA", sizeof(struct dp_row_pa), pa_put, pa_del, NULL},
    [DP_ROW_PROVIDER_ROUTE] = {"provider route", sizeof(struct dp_row_provider_route), provider_route_put, provider_route_del, NULL},
    [DP_ROW_SUBNET] = {"subnet", sizeof(struct dp_row_subnet), subnet_put, subnet_del, NULL},
    [DP_ROW_PREFIX] = {"prefix", sizeof(struct dp_row_prefix), prefix_put, prefix_del, NULL},
    [DP_ROW_PORT] = {"port", sizeof(struct dp_row_port), port_put, port_del, NULL},
    [DP_ROW_SOURCE] = {"source", sizeof(struct dp_row_source), source_put, source_del, NULL},
    [DP_ROW_RECORD] = {"record", sizeof(struct dp_row_record), record_put, record_del, record_prefetch},
    [DP_ROW_ROUTE] = {"route", sizeof(struct dp_row_route), route_put, route_del, NULL},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };
_Static_assert(sizeof(struct dp_change_header) == 24 && sizeof(struct dp_section) == 8, "rows are 8-byte aligned");
_Static_assert(sizeof(struct dp_row_pa) == 32 && sizeof(struct dp_row_provider_route) == 40 && sizeof(struct dp_row_subnet) == 8 &&
               sizeof(struct dp_row_prefix) == 40 && sizeof(struct dp_row_port) == 16 && sizeof(struct dp_row_source) == 24 &&
               sizeof(struct dp_row_record) == 64 && sizeof(struct dp_row_route) == 48, "rows without holes");

/* ---- telling what is wrong ------------------------------------------------------------------------------------- */

static int tell(struct dp_change_error *error, uint32_t section, uint32_t row, int code, const char *text)
{
    error->section = section;
    error->row = row;
    snprintf(error->text, sizeof error->text, "%s", text);
    return code;
}

int change_fail(struct change *change, int code, const char *format, ...)
{
    char text[sizeof change->error->text];
    va_list args;
    va_start(args, format);
    int n = snprintf(text, sizeof text, "%s: ", change->row_name);
    vsnprintf(text + n, sizeof text - (size_t)n, format, args);
    va_end(args);
    return tell(change->error, change->section, change->row, code, text);
}

int change_no_memory(struct change *change, int code)
{
    return change_fail(change, code, code == DP_EFULL ? "too many of them" : "out of memory");
}

struct change_text change_address(unsigned family, const uint8_t *address)
{
    struct change_text text;
    inet_ntop(family == DP_IPV4 ? AF_INET : AF_INET6, address, text.s, sizeof text.s);
    return text;
}

bool change_room(void *list, uint32_t n, uint32_t *capacity, size_t size)
{
    void *old, *new;
    if (n < *capacity)
        return true;
    memcpy(&old, list, sizeof old);
    uint32_t wanted = *capacity ? *capacity * 2 : 16;
    new = realloc(old, wanted * size);
    if (!new)
        return false;
    memcpy(list, &new, sizeof new);
    *capacity = wanted;
    return true;
}

/* ---- entries: the one place where maps change, counts follow and the old is kept --------------------------------- */

struct map **change_map_at(struct tables *t, enum table table)
{
    switch (table) {
    case TABLE_RECORDS4: return &t->records4;
    case TABLE_RECORDS6: return &t->records6;
    case TABLE_PAS4: return &t->pas4;
    case TABLE_PAS6: return &t->pas6;
    case TABLE_SUBNETS: return &t->subnet_by_vsid;
    case TABLE_ROUTES4: return &t->routes4;
    case TABLE_ROUTES6: return &t->routes6;
    default: return &t->writer->prefix_map;
    }
}

unsigned change_words(enum table table)
{
    bool wide = table == TABLE_RECORDS6 || table == TABLE_PAS6 || table == TABLE_ROUTES6 || table == TABLE_PREFIXES;
    return wide ? 3 : 1;
}

uint32_t change_subnet(struct change *change, uint32_t vsid)
{
    if (change->memo_vsid != vsid) {
        change->memo_vsid = vsid;
        change->memo_subnet = tables_subnet(change->next, vsid);
    }
    return change->memo_subnet;
}

static void drop(struct change *change, struct objects *objects, uint32_t index)
{
    if (!change->undoing)
        objects_drop(objects, index);
}

void change_way_ref(struct change *change, uint32_t index, int n)
{
    struct way *way = change_way(change->writer, index);
    way->refs += (uint32_t)n;
    if (way->refs == 0)
        drop(change, &change->writer->next_hops, index);
}

static void rewrite_ref(struct change *change, uint32_t index, int n)
{
    uint32_t *refs = change_rewrite_refs(change->writer, index), old = *refs;
    *refs += (uint32_t)n;
    if (old == 0)
        path_own_way(change, index, 1);
    if (*refs == 0) {
        path_own_way(change, index, -1);
        drop(change, &change->writer->rewrites, index);
    }
}

static void account_record(struct change *change, enum table table, const uint64_t *key, uint32_t act, int n)
{
    if (act_kind(act) == ACT_GATEWAY) {
        change->writer->gateways[table == TABLE_RECORDS6] += (uint64_t)n;
        return;
    }
    if (act_kind(act) == ACT_NVGRE)
        change_way_ref(change, act_index(act), n);
    else if (act_kind(act) == ACT_REWRITE)
        rewrite_ref(change, act_index(act), n);
    else
        change->writer->locals[act_index(act)] += (uint32_t)n;
    *change_subnet_refs(change->writer, change_subnet(change, (uint32_t)(key[0] >> 32))) += (uint32_t)n;
}

static void account_pa(struct change *change, uint32_t act, int n)
{
    if (act_kind(act) == ACT_PA_REWRITE) {
        rewrite_ref(change, act_index(act), n);
        return;
    }
    path_link(change, act_index(act), n > 0);
    change_way_ref(change, act_index(act), n);
}

static void account_route(struct change *change, enum table table, const uint64_t *key, uint32_t act, int n)
{
    struct tables_writer *w = change->writer;
    bool ip4 = table == TABLE_ROUTES4;
    uint32_t rdid = key_route_rdid(key, ip4), len = key_route_len(key, ip4);
    uint32_t slot = ip4 ? len : 33 + len, *counts = w->route_counts[rdid];
    counts[slot] += (uint32_t)n;
    if (rdid == 0)
        w->provider_routes += (uint64_t)n;
    uint32_t subnet = act_kind(act) == ACT_VIA ? change->next->vias[act_index(act)].subnet : act_index(act);
    if (rdid != 0)
        *change_subnet_refs(w, subnet) += (uint32_t)n;
    if (act_kind(act) == ACT_VIA && n < 0)
        drop(change, &w->vias, act_index(act));
    if (change->undoing)
        return;
    struct rdid_lengths *lengths = &change->next->lengths[rdid];
    if (n > 0 && ip4)
        atomic_fetch_or(&lengths->len4, 1ull << len);
    else if (n > 0)
        atomic_fetch_or(&lengths->len6[len / 64], 1ull << len % 64);
    change->lengths[change->lengths_n++] = rdid << 8 | slot;
}

static bool is_records(enum table table) { return table == TABLE_RECORDS4 || table == TABLE_RECORDS6; }
static bool is_routes(enum table table) { return table == TABLE_ROUTES4 || table == TABLE_ROUTES6; }

static void account(struct change *change, enum table table, const uint64_t *key, uint32_t act, int n)
{
    if (act == 0)
        return;
    if (is_records(table))
        account_record(change, table, key, act, n);
    else if (table == TABLE_PAS4 || table == TABLE_PAS6)
        account_pa(change, act, n);
    else if (is_routes(table))
        account_route(change, table, key, act, n);
    else if (n < 0)
        drop(change, table == TABLE_SUBNETS ? &change->writer->subnets : &change->writer->prefixes, act_index(act));
    if (table == TABLE_SUBNETS)
        change->memo_vsid = 0;
}

/* Counts of a routing domain, and the lengths that readers look at. */
static bool route_room(struct change *change, enum table table, const uint64_t *key)
{
    struct tables_writer *w = change->writer;
    uint32_t rdid = key_route_rdid(key, table == TABLE_ROUTES4);
    if (!w->route_counts[rdid])
        w->route_counts[rdid] = calloc(ROUTE_LENGTHS, sizeof(uint32_t));
    return w->route_counts[rdid] && !mem_commit(&w->lengths, (rdid + 1) * sizeof(struct rdid_lengths)) &&
           change_room(&change->lengths, change->lengths_n + 1, &change->lengths_capacity, sizeof *change->lengths);
}

int change_entry(struct change *change, enum table table, const uint64_t *key, const struct map_value *value, struct map_value *out)
{
    struct map *map = change_map(change->next, table);
    struct map_value old = {0};
    /* Copies of the records are undone by throwing them away. */
    bool log = !(change->beside && is_records(table));
    if (log && !change_room(&change->undo, change->undo_n, &change->undo_capacity, sizeof *change->undo))
        return change_no_memory(change, DP_ENOMEM);
    if (is_routes(table) && !route_room(change, table, key))
        return change_no_memory(change, DP_ENOMEM);
    if (value && map_put(map, key, value, &old))
        return change_no_memory(change, DP_ENOMEM);
    if (!value)
        map_del(map, key, &old);
    if (log) {
        struct undo *undo = &change->undo[change->undo_n++];
        *undo = (struct undo){.old = old, .table = table};
        memcpy(undo->key, key, change_words(table) * sizeof *key);
    }
    if (value)
        account(change, table, key, value->act, 1);
    account(change, table, key, old.act, -1);
    if (out)
        *out = old;
    return DP_OK;
}

/* ---- undoing ---------------------------------------------------------------------------------------------------- */

struct recount {
    struct change *change;
    enum table table;
    int n;
};

static bool recount_entry(void *ctx, const uint64_t *key, const struct map_value *value)
{
    struct recount *recount = ctx;
    account(recount->change, recount->table, key, value->act, recount->n);
    return true;
}

static void recount(struct change *change, struct tables *tables, int n)
{
    for (enum table table = TABLE_RECORDS4; table <= TABLE_RECORDS6; table++)
        map_each(change_map(tables, table), recount_entry, &(struct recount){change, table, n});
}

/* False: memory ran out on the way back, entries are missing. */
static bool undo_entries(struct change *change)
{
    bool whole = true;
    change->undoing = true;
    if (change->beside)
        recount(change, change->next, -1);
    for (uint32_t i = change->undo_n; i-- > 0;) {
        const struct undo *undo = &change->undo[i];
        struct map *map = change_map(change->next, undo->table);
        struct map_value new = {0};
        if (undo->old.act == 0)
            map_del(map, undo->key, &new);
        else if (map_put(map, undo->key, &undo->old, &new))
            whole = false;
        account(change, undo->table, undo->key, undo->old.act, 1);
        account(change, undo->table, undo->key, new.act, -1);
    }
    if (change->beside)
        recount(change, control_tables(change->control), 1);
    return whole;
}

/* ---- keeping or undoing as a whole ------------------------------------------------------------------------------- */

static void release_ways(struct change *change, const struct object_list *list)
{
    for (uint32_t i = 0; i < list->n; i++) {
        uint32_t index = object_list_at(list, i);
        uint32_t neigh = change->next->next_hops[index].neigh;
        if (neigh != POOL_NONE)
            neigh_release(change->control->neigh, neigh, index);
    }
}

/* A length without a route may be asked for in vain, so it goes after the last reader that could know such a route. */
static void settle_lengths(struct change *change)
{
    for (uint32_t i = 0; i < change->lengths_n; i++) {
        uint32_t rdid = change->lengths[i] >> 8, slot = change->lengths[i] & 0xff;
        struct rdid_lengths *lengths = &change->next->lengths[rdid];
        if (change->writer->route_counts[rdid][slot])
            continue;
        if (slot < 33)
            atomic_fetch_and(&lengths->len4, ~(1ull << slot));
        else
            atomic_fetch_and(&lengths->len6[(slot - 33) / 64], ~(1ull << (slot - 33) % 64));
    }
}

/* Every worker has been quiescent since. */
static void settle(struct change *change, bool kept)
{
    struct tables_writer *w = change->writer;
    settle_lengths(change);
    for (uint32_t i = 0; i < OBJECTS; i++)
        objects_settle(&w->objects[i], kept);
    for (enum table table = 0; table < TABLE_PREFIXES; table++)
        map_free_retired(map_retired(change_map(control_tables(change->control), table)));
    map_free_retired(map_retired(w->prefix_map));
    map_free_retired(map_retired(w->hosts));
}

static void free_tables(struct tables *t, bool maps)
{
    for (enum table table = 0; maps && table < TABLE_PREFIXES; table++)
        map_destroy(change_map(t, table));
    free(t);
}

static void keep(struct change *change, uint64_t generation)
{
    struct control *control = change->control;
    struct tables *old = control_tables(control), *next = change->next;
    next->generation = generation;
    next->subnet_count = change->writer->subnets.used;
    for (enum table table = 0; table < TABLE_PREFIXES; table++)
        map_publish(change_map(next, table));
    atomic_store(control->tables, next);
    release_ways(change, &change->writer->next_hops.dropped);
    qsbr_wait(control->qsbr);
    policy_settle(change, old, true);
    settle(change, true);
    free_tables(old, change->beside);
}

static void undo(struct change *change)
{
    struct control *control = change->control;
    if (!undo_entries(change))
        change_fail(change, DP_ENOMEM, "out of memory while it was taken back: tables are incomplete");
    policy_settle(change, control_tables(control), false);
    if (change->provider_routes)
        path_resolve(control, change->writer, control_tables(control));
    release_ways(change, &change->writer->next_hops.made);
    qsbr_wait(control->qsbr);
    settle(change, false);
    free_tables(change->next, change->beside);
}

/* ---- decoding ---------------------------------------------------------------------------------------------------- */

/* What a change set holds, before any of it is applied. */
struct outline {
    const struct dp_change_header *header;
    uint64_t rows;
    uint64_t records[2];            /* to put, by family; estimated */
};

/* Of a section's records, how many are IPv6: from a sample. */
static void outline_records(struct outline *outline, const struct dp_row_record *rows, uint32_t count)
{
    uint32_t step = count / SAMPLES + 1, n = 0, v6 = 0;
    for (uint32_t i = 0; i < count; i += step, n++)
        v6 += rows[i].family == DP_IPV6;
    outline->records[1] += (uint64_t)count * v6 / n;
    outline->records[0] += count - (uint64_t)count * v6 / n;
}

static int outline_section(struct outline *outline, const uint8_t *at, size_t left, uint32_t index, struct dp_change_error *error, size_t *len)
{
    const struct dp_section *section = (const struct dp_section *)at;
    if (left < sizeof *section)
        return tell(error, index, 0, DP_EFORMAT, "the change set ends before this section");
    if (section->kind == 0 || section->kind >= KINDS)
        return tell(error, index, 0, DP_EFORMAT, "unknown kind of row");
    if (section->op != DP_PUT && section->op != DP_DEL)
        return tell(error, index, 0, DP_EFORMAT, "op is neither put nor delete");
    *len = sizeof *section + section->count * kinds[section->kind].size;
    if (left < *len)
        return tell(error, index, 0, DP_EFORMAT, "the change set ends before the last row of this section");
    outline->rows += section->count;
    if (section->kind == DP_ROW_RECORD && section->op == DP_PUT && section->count)
        outline_records(outline, (const struct dp_row_record *)(at + sizeof *section), section->count);
    return DP_OK;
}

static int outline_change_set(struct outline *outline, const uint8_t *bytes, size_t len, struct dp_change_error *error)
{
    const struct dp_change_header *header = (const struct dp_change_header *)bytes;
    if ((uintptr_t)bytes % 8)
        return tell(error, 0, 0, DP_EINVAL, "the change set is not 8-byte aligned in memory");
    if (len < sizeof *header)
        return tell(error, 0, 0, DP_EFORMAT, "shorter than its header");
    if (header->magic != DP_CHANGE_MAGIC || header->version != DP_CHANGE_VERSION)
        return tell(error, 0, 0, DP_EFORMAT, "not a change set of this version");
    if (header->flags & ~DP_CHANGE_ATOMIC || header->pad)
        return tell(error, 0, 0, DP_EFORMAT, "unknown flags");
    *outline = (struct outline){.header = header};
    size_t at = sizeof *header;
    for (uint32_t i = 0; i < header->sections; i++) {
        size_t section_len;
        int code = outline_section(outline, bytes + at, len - at, i, error, &section_len);
        if (code)
            return code;
        at += section_len;
    }
    return at == len ? DP_OK : tell(error, header->sections, 0, DP_EFORMAT, "bytes behind the last section");
}

/* ---- applying ---------------------------------------------------------------------------------------------------- */

static uint64_t entries(const struct map *map)
{
    struct map_stats stats;
    map_stats(map, &stats);
    return stats.entries;
}

static int copy_maps(struct tables *to, struct tables *from, const struct outline *outline)
{
    int code = DP_OK;
    for (enum table table = 0; table < TABLE_PREFIXES; table++) {
        uint64_t expected = is_records(table) ? outline->records[table == TABLE_RECORDS6] : 0;
        *change_map_at(to, table) = map_clone(change_map(from, table), expected);
        if (!change_map(to, table))
            code = DP_ENOMEM;
    }
    return code;
}

static struct tables *begin(struct change *change, const struct outline *outline)
{
    struct tables *now = control_tables(change->control), *next = malloc(sizeof *next);
    uint64_t share = (entries(now->records4) + entries(now->records6)) / BESIDE_SHARE;
    if (!next)
        return NULL;
    memcpy(next, now, sizeof *next);
    change->beside = outline->header->flags & DP_CHANGE_ATOMIC || outline->rows > (share > BESIDE_MIN ? share : BESIDE_MIN);
    if (change->beside && copy_maps(next, now, outline)) {
        free_tables(next, true);
        return NULL;
    }
    return next;
}

/*
 * Records are many and lie anywhere. Fetching goes ahead of applying by groups, each in loops so tight that the misses of several rows
 * overlap: the rows, their buckets, what these lead to.
 */
static void prefetch(const struct change *change, const struct row_kind *kind, const uint8_t *rows, uint32_t left)
{
    const size_t group = GROUP * kind->size;
    if (left < 4 * GROUP)
        return;
    for (size_t at = 0; at < group; at += 64)
        __builtin_prefetch(rows + 3 * group + at);
    kind->prefetch(change, rows + 2 * group, GROUP, false);
    kind->prefetch(change, rows + group, GROUP, true);
}

static int apply_section(struct change *change, const struct dp_section *section)
{
    const struct row_kind *kind = &kinds[section->kind];
    const uint8_t *rows = (const uint8_t *)(section + 1);
    row_fn *apply = section->op == DP_PUT ? kind->put : kind->del;
    change->row_name = kind->name;
    for (change->row = 0; change->row < section->count; change->row++) {
        const uint8_t *row = rows + change->row * kind->size;
        if (kind->prefetch && change->row % GROUP == 0)
            prefetch(change, kind, row, section->count - change->row);
        int code = apply(change, row);
        if (code)
            return code;
    }
    return DP_OK;
}

static int apply_rows(struct change *change, const struct dp_change_header *header)
{
    const uint8_t *at = (const uint8_t *)(header + 1);
    for (change->section = 0; change->section < header->sections; change->section++) {
        const struct dp_section *section = (const struct dp_section *)at;
        int code = apply_section(change, section);
        if (code)
            return code;
        at += sizeof *section + section->count * kinds[section->kind].size;
    }
    return DP_OK;
}

static int apply(struct change *change, const struct outline *outline)
{
    int code = apply_rows(change, outline->header);
    if (code == DP_OK)
        code = path_finish(change);
    if (code == DP_OK)
        code = policy_finish(change);
    if (code) {
        undo(change);
        return code;
    }
    if (change->shared_pas)
        path_headers(change->control, change->writer, change->next);
    keep(change, outline->header->generation);
    return DP_OK;
}

int tables_apply(struct control *control, const uint8_t *change_set, size_t len, struct dp_change_error *error)
{
    struct outline outline;
    *error = (struct dp_change_error){0};
    int code = outline_change_set(&outline, change_set, len, error);
    if (code)
        return code;
    struct change *change = calloc(1, sizeof *change);
    if (!change)
        return tell(error, 0, 0, DP_ENOMEM, "out of memory");
    change->control = control;
    change->writer = control_tables(control)->writer;
    change->error = error;
    change->row_name = "change set";
    change->next = begin(change, &outline);
    code = change->next ? apply(change, &outline) : change_no_memory(change, DP_ENOMEM);
    free(change->undo);
    free(change->stale);
    free(change->lengths);
    free(change);
    return code;
}
