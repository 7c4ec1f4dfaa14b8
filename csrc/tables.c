/*
 * tables.c: making and ending the tables, what readers ask of them beyond single entries, and what they
 * hold.
 */
#include "tables.h"
#include <stdatomic.h>
#include <stdlib.h>
#include "changes.h"
#include "map_inline.h"

/* Of each kind of object: its size, its side's, and how many there may be. */
static const struct {
    size_t size, side_size;
    uint32_t limit;
} tables_objects[OBJECTS] = {
    [NEXT_HOPS] = {sizeof(struct next_hop), sizeof(struct way), NEXT_HOPS_MAX},
    [REWRITES] = {sizeof(struct rewrite), sizeof(struct bond), REWRITES_MAX},
    [SUBNETS] = {sizeof(struct subnet), sizeof(uint32_t), 1 << 20},
    [VIAS] = {sizeof(struct via), 0, 1 << 20},
    [PREFIXES] = {sizeof(struct prefix), 0, 1 << 20},
    [HOSTS] = {sizeof(struct host), 0, 1 << 20},
};

static void tables_writer_destroy(struct tables_writer *w)
{
    change_free(w->last);
    map_destroy(w->prefix_map);
    map_destroy(w->hosts);
    for (uint32_t i = 0; i < OBJECTS; i++)
        objects_destroy(&w->objects[i]);
    mem_unmap(&w->lengths);
    for (uint32_t rdid = 0; rdid < RDIDS; rdid++)
        free(w->route_counts[rdid]);
    for (uint32_t port = 0; port < DP_MAX_PORTS; port++)
        policy_free(w->drafts[port]);
    free(w);
}

static struct tables_writer *tables_writer_create(const uint64_t secret[2], size_t budget)
{
    struct tables_writer *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->touched = INDEX_NONE;
    w->budget.limit = budget;
    w->lengths.budget = &w->budget;
    w->prefix_map = map_create(3, 0, secret);
    w->hosts = map_create(1, 0, secret);
    int error = !w->prefix_map || !w->hosts;
    for (uint32_t i = 0; i < OBJECTS; i++)
        error |= objects_create(&w->objects[i], tables_objects[i].size, tables_objects[i].side_size,
                                tables_objects[i].limit, &w->budget);
    error |= mem_reserve(&w->lengths, RDIDS * sizeof(struct rdid_lengths)) ||
             mem_commit(&w->lengths, sizeof(struct rdid_lengths));
    if (!error) {
        map_use_budget(w->prefix_map, &w->budget);
        map_use_budget(w->hosts, &w->budget);
        return w;
    }
    tables_writer_destroy(w);
    return NULL;
}

struct tables *tables_create(const uint64_t secret[2], size_t budget)
{
    struct tables *t = calloc(1, sizeof *t);
    struct tables_writer *w = t ? tables_writer_create(secret, budget) : NULL;
    if (!w) {
        free(t);
        return NULL;
    }
    t->writer = w;
    bool whole = true;
    for (enum table table = 0; table < TABLE_PREFIXES; table++) {
        struct map *map = *change_map_at(t, table) = map_create(change_words(table), 0, secret);
        if (map)
            map_use_budget(map, &w->budget);
        whole &= map != NULL;
    }
    t->lengths = (struct rdid_lengths *)w->lengths.base;
    t->next_hops = (struct next_hop *)w->objects[NEXT_HOPS].objects.base;
    t->rewrites = (struct rewrite *)w->objects[REWRITES].objects.base;
    t->subnets = (struct subnet *)w->objects[SUBNETS].objects.base;
    t->vias = (struct via *)w->objects[VIAS].objects.base;
    if (!whole) {
        tables_destroy(t);
        return NULL;
    }
    return t;
}

void tables_destroy(struct tables *t)
{
    for (enum table table = 0; table < TABLE_PREFIXES; table++)
        map_destroy(change_map(t, table));
    for (uint32_t port = 0; port < DP_MAX_PORTS; port++)
        free(t->policies[port]);
    tables_writer_destroy(t->writer);
    free(t);
}

uint32_t tables_subnet(const struct tables *tables, uint32_t vsid)
{
    const uint64_t key = vsid;
    struct map_value value;
    return map_get(tables->subnet_by_vsid, &key, &value) ? act_index(value.act) : INDEX_NONE;
}

/* ---- longest prefix match: the lengths that a routing domain has, longest first */

static uint32_t tables_route4(const struct tables *tables, uint32_t rdid, const uint8_t *ca)
{
    const struct map_view *view = map_view(tables->routes4);
    uint64_t lengths = atomic_load_explicit(&tables->lengths[rdid].len4, memory_order_acquire);
    while (lengths) {
        unsigned len = 63 - (unsigned)__builtin_clzll(lengths);
        uint32_t masked = load32(ca) & __builtin_bswap32((uint32_t)~(UINT64_C(0xffffffff) >> len));
        uint64_t key = key_route4(rdid, len, (const uint8_t *)&masked);
        struct map_value value;
        if (map_find1(view, key, map_hash1(view, key), &value))
            return value.act;
        lengths &= ~(1ull << len);
    }
    return ACT_NONE;
}

/* The first `len` bits of 64, as they lie in memory. */
static inline uint64_t tables_mask(unsigned len)
{
    return len == 0 ? 0 : __builtin_bswap64(~0ull << (64 - len));
}

static uint32_t tables_route6(const struct tables *tables, uint32_t rdid, const uint8_t *ca)
{
    const struct map_view *view = map_view(tables->routes6);
    for (unsigned word = 3; word-- > 0;) {
        uint64_t lengths = atomic_load_explicit(&tables->lengths[rdid].len6[word], memory_order_acquire);
        while (lengths) {
            unsigned bit = 63 - (unsigned)__builtin_clzll(lengths), len = word * 64 + bit;
            uint64_t key[3];
            key_route6(key, rdid, len, ca);
            key[1] &= tables_mask(len < 64 ? len : 64);
            key[2] &= tables_mask(len < 64 ? 0 : len - 64);
            struct map_value value;
            if (map_find3(view, key, map_hash3(view, key), &value))
                return value.act;
            lengths &= ~(1ull << bit);
        }
    }
    return ACT_NONE;
}

uint32_t tables_route(const struct tables *tables, uint32_t rdid, unsigned family, const uint8_t *ca)
{
    return family == DP_IPV4 ? tables_route4(tables, rdid, ca) : tables_route6(tables, rdid, ca);
}

/* ---- what there is */

static size_t tables_count(const struct map *map, struct dp_table_stats *out, bool records)
{
    struct map_stats stats;
    map_stats(map, &stats);
    out->bytes += stats.bytes;
    out->displaced += records ? stats.displaced : 0;
    out->overflow += records ? stats.overflow : 0;
    return stats.entries;
}

int dp_table_stats(const struct dp *dp, struct dp_table_stats *out)
{
    const struct tables *t = dp_tables(dp);
    const struct tables_writer *w = t->writer;
    *out = (struct dp_table_stats){.rewrites = objects_live(&w->objects[REWRITES]),
                                   .next_hops = objects_live(&w->objects[NEXT_HOPS])};
    out->records4 = tables_count(t->records4, out, true) - w->gateways[0];
    out->records6 = tables_count(t->records6, out, true) - w->gateways[1];
    out->pas = tables_count(t->pas4, out, false) + tables_count(t->pas6, out, false);
    out->subnets = tables_count(t->subnet_by_vsid, out, false);
    out->routes =
        tables_count(t->routes4, out, false) + tables_count(t->routes6, out, false) - w->provider_routes;
    tables_count(w->prefix_map, out, false);
    tables_count(w->hosts, out, false);
    out->bytes += w->lengths.committed + sizeof *t + sizeof *w;
    for (uint32_t i = 0; i < OBJECTS; i++)
        out->bytes += objects_bytes(&w->objects[i]);
    for (uint32_t port = 0; port < DP_MAX_PORTS; port++)
        if (w->drafts[port])
            out->bytes += 2 * w->drafts[port]->n * sizeof(struct port_source);
    return DP_OK;
}
