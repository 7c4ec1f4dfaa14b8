/*
 * writer.c: making and ending the tables and what only their writer needs, and what they hold. Called by the
 * engine.
 */
#include <stdlib.h>
#include "control/changes.h"

/* Of each kind of object: its size, its side's, and how many there may be. */
static const struct {
    size_t size, side_size;
    uint32_t limit;
} writer_objects[OBJECTS] = {
    [NEXT_HOPS] = {sizeof(struct next_hop), sizeof(struct way), NEXT_HOPS_MAX},
    [REWRITES] = {sizeof(struct rewrite), sizeof(struct bond), REWRITES_MAX},
    [SUBNETS] = {sizeof(struct subnet), sizeof(struct domain), 1 << 20},
    [VIAS] = {sizeof(struct via), 0, 1 << 20},
    [PREFIXES] = {sizeof(struct prefix), 0, 1 << 20},
    [HOSTS] = {sizeof(struct hosted), 0, 1 << 20},
    [MEMBERS] = {sizeof(struct member), 0, 1 << 24},
};

static void writer_destroy(struct tables_writer *w)
{
    change_free(w->last);
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

static struct tables_writer *writer_create(const uint64_t secret[2], size_t budget)
{
    struct tables_writer *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->touched = INDEX_NONE;
    w->budget.limit = budget;
    w->lengths.budget = &w->budget;
    w->hosts = map_create(1, 0, secret);
    int error = !w->hosts;
    for (uint32_t i = 0; i < OBJECTS; i++)
        error |= objects_create(&w->objects[i], writer_objects[i].size, writer_objects[i].side_size,
                                writer_objects[i].limit, &w->budget);
    w->ways = (struct way *)w->objects[NEXT_HOPS].sides.base;
    w->bonds = (struct bond *)w->objects[REWRITES].sides.base;
    w->domains = (struct domain *)w->objects[SUBNETS].sides.base;
    w->members = (struct member *)w->objects[MEMBERS].objects.base;
    w->hosted = (struct hosted *)w->objects[HOSTS].objects.base;
    error |= mem_reserve(&w->lengths, RDIDS * sizeof(struct rdid_lengths)) ||
             mem_commit(&w->lengths, sizeof(struct rdid_lengths));
    if (!error) {
        map_use_budget(w->hosts, &w->budget);
        return w;
    }
    writer_destroy(w);
    return NULL;
}

struct tables *tables_create(const struct dp_config *config)
{
    struct tables *t = calloc(1, sizeof *t);
    struct tables_writer *w = t ? writer_create(config->hash_key, config->table_budget) : NULL;
    if (!w) {
        free(t);
        return NULL;
    }
    t->writer = w;
    t->self_host = config->self_host;
    memcpy(t->router_mac, config->router_mac, sizeof t->router_mac);
    t->flowid_off = config->flags & DP_FLOWID_OFF;
    bool whole = true;
    for (enum table table = 0; table < TABLE_COUNT; table++) {
        struct map *map = t->maps[table] = map_create(tables_words[table], 0, config->hash_key);
        if (map)
            map_use_budget(map, &w->budget);
        whole &= map != NULL;
    }
    t->lengths = (struct rdid_lengths *)w->lengths.base;
    t->next_hops = (struct next_hop *)w->objects[NEXT_HOPS].objects.base;
    t->rewrites = (struct rewrite *)w->objects[REWRITES].objects.base;
    t->subnets = (struct subnet *)w->objects[SUBNETS].objects.base;
    t->vias = (struct via *)w->objects[VIAS].objects.base;
    t->prefixes = (struct prefix *)w->objects[PREFIXES].objects.base;
    t->sums = w->sums;
    if (whole)
        return t;
    tables_destroy(t);
    return NULL;
}

void tables_destroy(struct tables *t)
{
    for (enum table table = 0; table < TABLE_COUNT; table++)
        map_destroy(t->maps[table]);
    for (uint32_t port = 0; port < DP_MAX_PORTS; port++)
        free(t->policies[port]);
    for (uint32_t i = 0; i < t->writer->objects[SUBNETS].used; i++)
        free(t->subnets[i].flood);
    writer_destroy(t->writer);
    free(t);
}

void tables_stats(const struct tables *t, struct dp_table_stats *out)
{
    const struct tables_writer *w = t->writer;
    struct map_stats of[TABLE_COUNT], hosts;
    map_stats(w->hosts, &hosts);
    *out = (struct dp_table_stats){.rewrites = objects_live(&w->objects[REWRITES]),
                                   .next_hops = objects_live(&w->objects[NEXT_HOPS]),
                                   .bytes = hosts.bytes + w->lengths.committed + w->flood_bytes + sizeof *t +
                                            sizeof *w};
    for (enum table table = 0; table < TABLE_COUNT; table++) {
        map_stats(t->maps[table], &of[table]);
        out->bytes += of[table].bytes;
    }
    out->records4 = of[TABLE_RECORDS4].entries - w->gateways[0];
    out->records6 = of[TABLE_RECORDS6].entries - w->gateways[1];
    out->displaced = of[TABLE_RECORDS4].displaced + of[TABLE_RECORDS6].displaced;
    out->overflow = of[TABLE_RECORDS4].overflow + of[TABLE_RECORDS6].overflow;
    out->pas = of[TABLE_PAS4].entries + of[TABLE_PAS6].entries;
    out->subnets = of[TABLE_SUBNETS].entries;
    out->routes = of[TABLE_ROUTES4].entries + of[TABLE_ROUTES6].entries - w->provider_routes;
    for (uint32_t i = 0; i < OBJECTS; i++)
        out->bytes += objects_bytes(&w->objects[i]);
    for (uint32_t port = 0; port < DP_MAX_PORTS; port++)
        if (w->drafts[port])
            out->bytes += w->drafts[port]->n * sizeof(struct port_source) +
                          policy_size(w->drafts[port]->sources, w->drafts[port]->n);
}
