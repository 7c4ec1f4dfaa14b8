/* change_set.h: change sets for tests, row by row; and the tables they make, as sorted lines of text that say nothing of indexes. */
#ifndef CHANGE_SET_H
#define CHANGE_SET_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "control/changes.h"
#include "run/engine.h"
#include "table/lookup.h"

enum { ROW_MAX = 64 };

struct row {
    uint16_t kind, op;
    _Alignas(8) uint8_t bytes[ROW_MAX];
};

struct change_set {
    size_t len, capacity;
    uint8_t *bytes;
};

static inline void *change_set_add(struct change_set *set, size_t size)
{
    if (set->len + size > set->capacity) {
        set->capacity = (set->len + size) * 2;
        set->bytes = realloc(set->bytes, set->capacity);
    }
    set->len += size;
    return memset(set->bytes + set->len - size, 0, size);
}

static inline void change_set_begin(struct change_set *set, uint16_t flags)
{
    set->len = 0;
    struct dp_change_header *header = change_set_add(set, sizeof *header);
    *header = (struct dp_change_header){.magic = DP_CHANGE_MAGIC, .version = DP_CHANGE_VERSION, .flags = flags, .generation = 1};
}

static inline void *change_set_section(struct change_set *set, uint16_t kind, uint16_t op, uint32_t count)
{
    struct dp_section *section = change_set_add(set, sizeof *section);
    *section = (struct dp_section){kind, op, count};
    ((struct dp_change_header *)set->bytes)->sections++;
    return count ? change_set_add(set, count * row_sizes[kind]) : NULL;
}

static inline void change_set_row(struct change_set *set, const struct row *row)
{
    memcpy(change_set_section(set, row->kind, row->op, 1), row->bytes, row_sizes[row->kind]);
}

static inline int apply_rows_of(struct dp *dp, uint16_t flags, const struct row *rows, uint32_t n, struct dp_change_error *error)
{
    struct change_set set = {0};
    change_set_begin(&set, flags);
    for (uint32_t i = 0; i < n; i++)
        change_set_row(&set, &rows[i]);
    int code = tables_apply(&dp->control, set.bytes, set.len, error);
    free(set.bytes);
    return code;
}

/* ---- rows by what they say; addresses as text ------------------------------------------------------------------- */

static inline unsigned family_of(const char *address) { return strchr(address, ':') ? DP_IPV6 : DP_IPV4; }

static inline void set_address(uint8_t *to, const char *address)
{
    memset(to, 0, 16);
    assert_int_equal(inet_pton(family_of(address) == DP_IPV4 ? AF_INET : AF_INET6, address, to), 1);
}

#define ROW(row, kind_, type) \
    struct row row; \
    memset(&row, 0, sizeof row); \
    row.kind = kind_; \
    row.op = DP_PUT; \
    type *r = (type *)row.bytes

static inline struct row pa_row(const char *address, uint32_t host, uint8_t kind)
{
    ROW(row, DP_ROW_PA, struct dp_row_pa);
    set_address(r->address, address);
    r->host = host;
    r->family = (uint8_t)family_of(address);
    r->kind = kind;
    r->prefix_len = 24;
    return row;
}

static inline struct row provider_route_row(const char *prefix, uint8_t len, const char *next_hop)
{
    ROW(row, DP_ROW_PROVIDER_ROUTE, struct dp_row_provider_route);
    set_address(r->prefix, prefix);
    set_address(r->next_hop, next_hop);
    r->family = (uint8_t)family_of(prefix);
    r->prefix_len = len;
    return row;
}

static inline struct row subnet_row(uint32_t vsid, uint32_t rdid)
{
    ROW(row, DP_ROW_SUBNET, struct dp_row_subnet);
    *r = (struct dp_row_subnet){vsid, rdid};
    return row;
}

static inline struct row prefix_row(uint32_t vsid, const char *prefix, uint8_t len, const char *gateway)
{
    ROW(row, DP_ROW_PREFIX, struct dp_row_prefix);
    set_address(r->prefix, prefix);
    set_address(r->gateway, gateway);
    r->vsid = vsid;
    r->family = (uint8_t)family_of(prefix);
    r->prefix_len = len;
    return row;
}

static inline struct row port_row(uint32_t port, uint32_t vsid, uint8_t mac)
{
    ROW(row, DP_ROW_PORT, struct dp_row_port);
    r->port = port;
    r->vsid = vsid;
    r->mac[0] = 2;
    r->mac[5] = mac;
    return row;
}

static inline struct row source_row(uint32_t port, const char *prefix, uint8_t len)
{
    ROW(row, DP_ROW_SOURCE, struct dp_row_source);
    set_address(r->prefix, prefix);
    r->port = port;
    r->family = (uint8_t)family_of(prefix);
    r->prefix_len = len;
    return row;
}

/* Translation by the kind of the PA; a wildcard if ca is all zero. */
static inline struct row record_row(uint32_t vsid, const char *ca, uint8_t mac, uint32_t host, uint32_t port, const char *pa, uint8_t translation)
{
    ROW(row, DP_ROW_RECORD, struct dp_row_record);
    static const uint8_t zero[16];
    set_address(r->ca, ca);
    set_address(r->provider_address, pa);
    r->vsid = vsid;
    r->host = host;
    r->port = port;
    r->mac[0] = 2;
    r->mac[5] = mac;
    r->family = (uint8_t)family_of(ca);
    r->pa_family = (uint8_t)family_of(pa);
    r->translation = translation;
    r->type = memcmp(r->ca, zero, 16) ? DP_STATIC : DP_GATEWAY_WILDCARD;
    return row;
}

static inline struct row route_row(uint32_t rdid, const char *prefix, uint8_t len, const char *next_hop, uint32_t vsid)
{
    ROW(row, DP_ROW_ROUTE, struct dp_row_route);
    set_address(r->prefix, prefix);
    set_address(r->next_hop, next_hop);
    r->rdid = rdid;
    r->vsid = vsid;
    r->family = (uint8_t)family_of(prefix);
    r->prefix_len = len;
    return row;
}

/* A wildcard's if ca is all zero. */
static inline struct row move_row(uint32_t vsid, const char *ca, uint32_t host)
{
    ROW(row, DP_ROW_MOVE, struct dp_row_move);
    set_address(r->ca, ca);
    r->vsid = vsid;
    r->host = host;
    r->family = (uint8_t)family_of(ca);
    return row;
}

static inline struct row flood_row(uint32_t vsid, const char *pa, uint32_t host)
{
    ROW(row, DP_ROW_FLOOD, struct dp_row_flood);
    set_address(r->provider_address, pa);
    r->vsid = vsid;
    r->host = host;
    r->family = (uint8_t)family_of(pa);
    return row;
}

/* Of a subnet's row: so many packets to groups are copied. */
static inline struct row flooded(struct row row, uint32_t per_second, uint32_t burst)
{
    struct dp_row_subnet *r = (void *)row.bytes;
    r->flood_per_second = per_second;
    r->flood_burst = burst;
    return row;
}

static inline struct row deleted(struct row row)
{
    row.op = DP_DEL;
    return row;
}

/* ---- tables as text ---------------------------------------------------------------------------------------------- */

struct dump {
    const struct dp *dp;
    const struct tables *tables;
    char (*lines)[400];
    uint32_t n, capacity;
    enum table table;
};

static inline char *dump_line(struct dump *dump)
{
    if (dump->n == dump->capacity) {
        dump->capacity = dump->capacity * 2 + 16;
        dump->lines = realloc(dump->lines, dump->capacity * sizeof *dump->lines);
        assert_non_null(dump->lines);
    }
    return dump->lines[dump->n++];
}

static inline const char *hex(char *to, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sprintf(to + 2 * i, "%02x", bytes[i]);
    return to;
}

/* All of a next hop but for its eth word. */
static inline void say_next_hop(const struct dump *dump, char *to, uint32_t index)
{
    char header[200], hop[40], pa[40];
    const struct next_hop *nh = &dump->tables->next_hops[index];
    if (index == INDEX_NONE) {
        sprintf(to, "none");
        return;
    }
    sprintf(to, "%s host %u family %u len %u sum %04x header %s hop %s", hex(pa, nh->pa, 16), nh->host, nh->family, nh->header_len, nh->sum,
            hex(header, nh->header + 8, sizeof nh->header - 8), nh->neigh == INDEX_NONE ? "none" : hex(hop, dump->tables->writer->ways[index].hop, 16));
}

static inline void say_rewrite(const struct dump *dump, char *to, uint32_t index)
{
    char pa[40], ca[40], mac[16], way[40] = "none", shared[40] = "none";
    const struct rewrite *r = &dump->tables->rewrites[index];
    if (r->next_hop != INDEX_NONE)
        hex(way, dump->tables->next_hops[r->next_hop].pa, 16);
    if (r->shared != INDEX_NONE)
        hex(shared, dump->tables->next_hops[r->shared].pa, 16);
    sprintf(to, "pa %s ca %s vsid %u rdid %u host %u port %u mac %s family %u way %s shared %s", hex(pa, r->pa, 16), hex(ca, r->ca, 16), r->vsid,
            r->rdid, r->host, r->port, hex(mac, r->mac, 6), r->family, way, shared);
}

static inline void say_act(const struct dump *dump, char *to, uint32_t act)
{
    const struct tables *t = dump->tables;
    const uint32_t index = act_index(act);
    char ca[40];
    switch (act_kind(act)) {
    case ACT_LOCAL:
        sprintf(to, "local %u", index);
        break;
    case ACT_NVGRE:
    case ACT_PA_SELF:
    case ACT_PA_HOST:
        to += sprintf(to, "kind %u ", act_kind(act));
        say_next_hop(dump, to, index);
        break;
    case ACT_REWRITE:
    case ACT_PA_REWRITE:
        to += sprintf(to, "rewrite ");
        say_rewrite(dump, to, index);
        break;
    case ACT_VIA:
        sprintf(to, "via %s vsid %u subnet %u family %u", hex(ca, t->vias[index].ca, 16), t->vias[index].vsid,
                t->vias[index].subnet == INDEX_NONE ? 0 : t->subnets[t->vias[index].subnet].vsid, t->vias[index].family);
        break;
    case ACT_GATEWAY:
    case ACT_ONLINK:
    case ACT_SUBNET:
        sprintf(to, "kind %u subnet %u of %u", act_kind(act), index < t->writer->objects[SUBNETS].used ? t->subnets[index].vsid : 0,
                index < t->writer->objects[SUBNETS].used ? t->subnets[index].rdid : 0);
        break;
    default:
        fail_msg("act %x", act);
    }
}

static inline bool dump_entry(void *ctx, const uint64_t *key, const struct map_value *value)
{
    struct dump *dump = ctx;
    const bool wide = dump->table == TABLE_RECORDS6 || dump->table == TABLE_PAS6 || dump->table == TABLE_ROUTES6 || dump->table == TABLE_MOVES ||
                      dump->table == TABLE_FLOODS;
    char mac[16], *line = dump_line(dump);
    line += sprintf(line, "table %u %016lx %016lx %016lx mac %s ", dump->table, key[0], wide ? key[1] : 0, wide ? key[2] : 0,
                    dump->table == TABLE_FLOODS ? "none" : hex(mac, lookup_mac(dump->tables, value), 6));
    bool routes = dump->table == TABLE_ROUTES4 || dump->table == TABLE_ROUTES6;
    bool provider = routes && key_route_rdid(key, dump->table == TABLE_ROUTES4) == 0;
    if (provider && act_kind(value->act) == ACT_ONLINK)
        sprintf(line, "on link");
    else if (dump->table == TABLE_MOVES)
        sprintf(line, "other home %u", value->act - 1);
    else
        say_act(dump, line, value->act);
    return true;
}

static inline void dump_policy(struct dump *dump, const struct port_policy *p)
{
    char mac[16], ca[40], pa[40];
    sprintf(dump_line(dump), "policy %u vsid %u rdid %u subnet %u mac %s n4 %u n6 %u", p->port, p->vsid, p->rdid, dump->tables->subnets[p->subnet].vsid,
            hex(mac, p->mac, 6), p->n4, p->n6);
    for (uint32_t i = 0; i < (uint32_t)p->n4 + p->n6; i++) {
        const struct port_source *s = &p->sources[i];
        assert_int_equal(s->family, i < p->n4 ? DP_IPV4 : DP_IPV6);
        assert_true(i == 0 || i == p->n4 || s[-1].extra <= s->extra);
        sprintf(dump_line(dump), "source of %u: %s/%u pa %u %s extra %u", p->port, hex(ca, s->ca, 16), s->prefix_len, s->has_pa, hex(pa, s->pa, 16), s->extra);
    }
}

/* As readers find it: the order is part of it. */
static inline void dump_flood(struct dump *dump, const struct subnet *subnet)
{
    const struct flood *flood = subnet->flood;
    char pa[40], *line = dump_line(dump);
    line += sprintf(line, "flood of %u, %lu a second, %u at once:", subnet->vsid, flood->rate.per_second, flood->rate.burst);
    for (uint32_t i = 0; i < flood->ports; i++)
        line += sprintf(line, " %u", flood->to[i]);
    for (uint32_t i = 0; i < flood->hops; i++)
        line += sprintf(line, " %s", hex(pa, dump->tables->next_hops[flood->to[flood->ports + i]].pa, 16));
}

static inline int compare_lines(const void *a, const void *b) { return strcmp(a, b); }

static inline struct dump dump_tables(const struct dp *dp)
{
    struct dump dump = {.dp = dp, .tables = dp_tables(dp)};
    const struct tables *t = dump.tables;
    char shared[80];
    for (dump.table = 0; dump.table < TABLE_COUNT; dump.table++)
        if (dump.table != TABLE_PREFIXES)
            map_each(t->maps[dump.table], dump_entry, &dump);
    for (uint32_t i = 0; i < t->subnet_count; i++)
        if (t->subnets[i].flood)
            dump_flood(&dump, &t->subnets[i]);
    for (uint32_t port = 0; port < DP_MAX_PORTS; port++)
        if (t->policies[port])
            dump_policy(&dump, t->policies[port]);
    for (uint32_t rdid = 0; (rdid + 1) * sizeof *t->lengths <= t->writer->lengths.committed; rdid++)
        if (t->lengths[rdid].len4 || t->lengths[rdid].len6[0] || t->lengths[rdid].len6[1] || t->lengths[rdid].len6[2])
            sprintf(dump_line(&dump), "lengths of %u: %lx %lx %lx %lx", rdid, t->lengths[rdid].len4, t->lengths[rdid].len6[0],
                    t->lengths[rdid].len6[1], t->lengths[rdid].len6[2]);
    sprintf(dump_line(&dump), "shared %s %s", hex(shared, t->shared_pa4, 16), hex(shared + 40, t->shared_pa6, 16));
    qsort(dump.lines, dump.n, sizeof *dump.lines, compare_lines);
    return dump;
}

static inline void assert_same_dump(const struct dump *a, const struct dump *b)
{
    uint32_t i = 0;
    while (i < a->n && i < b->n && !strcmp(a->lines[i], b->lines[i]))
        i++;
    if (i < a->n || i < b->n)
        fail_msg("line %u:\n- %s\n- %s", i, i < a->n ? a->lines[i] : "(none)", i < b->n ? b->lines[i] : "(none)");
}

#endif
