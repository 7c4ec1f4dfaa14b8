/*
 * api.c: dp_api.h's functions that only look, and those that tell neighbours; the rest of it is in engine.c.
 * Control thread. Called by Python.
 */
#include "run/engine.h"
#include "run/rows.h"
#include "table/lookup.h"

const char *dp_error_name(int code)
{
    static const char *const names[] = {
        "ok", "invalid argument", "out of memory", "no such object", "exists already", "malformed",
        "system call failed", "this CPU lacks AES-NI or AVX2", "not while workers run", "limit reached"};
    _Static_assert(sizeof names / sizeof names[0] == 1 - DP_EFULL, "a name each");
    return code <= 0 && code >= DP_EFULL ? names[-code] : "unknown error";
}

int dp_last_errno(const struct dp *dp)
{
    return dp->last_errno;
}

/* ---- counters */

/* A port's counters are the same words in the same order, then its drops. */
enum { API_PORT_WORDS = sizeof(struct dp_counters) / 8 };
_Static_assert(offsetof(struct port_stats, drops) == sizeof(struct dp_counters), "as struct dp_counters");

int dp_counters_read(const struct dp *dp, uint32_t port, struct dp_counters *out, uint64_t *drops)
{
    if (port >= DP_MAX_PORTS)
        return DP_EINVAL;
    *out = (struct dp_counters){0};
    if (drops)
        memset(drops, 0, DROP_COUNT * sizeof *drops);
    for (uint32_t i = 0; i < dp->config.workers; i++) {
        const struct port_stats *stats = __atomic_load_n(&dp->workers[i].io.stats[port], __ATOMIC_ACQUIRE);
        if (!stats)
            return DP_ENOENT;
        stats_sum((uint64_t *)out, stats, API_PORT_WORDS);
        if (drops)
            stats_sum(drops, stats->drops, DROP_COUNT);
    }
    return DP_OK;
}

uint64_t dp_port_stranger(const struct dp *dp, uint32_t id)
{
    const struct port *port = id < DP_MAX_PORTS ? dp_port(dp, id) : NULL;
    return port ? stats_get(&port->stranger) : 0;
}

int dp_vsid_counters_read(const struct dp *dp, struct dp_vsid_counters *out, uint32_t capacity)
{
    const struct tables *tables = dp_tables(dp);
    uint32_t n = 0;
    for (uint32_t i = 0; i < tables->subnet_count; i++) {
        if (tables->subnets[i].vsid == 0 || n++ >= capacity)
            continue;
        struct vsid_stats s = stats_subnet_read(&dp->subnets, i);
        out[n - 1] = (struct dp_vsid_counters){tables->subnets[i].vsid, 0, s.from_port, s.from_port_bytes,
                                               s.to_port, s.to_port_bytes};
    }
    return (int)n;
}

uint64_t dp_wakeups(const struct dp *dp, uint32_t worker)
{
    return worker < dp->config.workers ? stats_get(&dp->workers[worker].wakeups) : 0;
}

/* ---- tables */

uint64_t dp_generation(const struct dp *dp)
{
    return dp_tables(dp)->generation;
}

int dp_table_stats(const struct dp *dp, struct dp_table_stats *out)
{
    tables_stats(dp_tables(dp), out);
    return DP_OK;
}

int64_t dp_rows_read(const struct dp *dp, uint32_t kind, uint8_t *out, size_t capacity)
{
    return tables_rows(dp_tables(dp), kind, out, capacity);
}

int dp_rows_check(const struct dp *dp, const uint8_t *change_set, size_t len, struct dp_change_error *error)
{
    return tables_check(dp_tables(dp), change_set, len, error);
}

int dp_digest_begin(struct dp *dp)
{
    tables_digest_begin(dp_tables(dp));
    return DP_OK;
}

int dp_digest_step(struct dp *dp, uint64_t rows, uint64_t *out)
{
    return tables_digest_step(dp_tables(dp), rows, out);
}

/* ---- neighbours */

/* Worker 0's view if the control thread is worker 0. */
static const struct host *api_at_rest(struct dp *dp, struct host *host)
{
    if (dp->running)
        return NULL;
    *host = worker_host(&dp->workers[0]);
    return host;
}

uint64_t dp_next_timer(const struct dp *dp)
{
    return dp->running ? UINT64_MAX : neigh_next_timer(dp->neigh);
}

int dp_neigh_read(const struct dp *dp, struct dp_neigh *out, uint32_t capacity)
{
    return (int)neigh_read(dp->neigh, out, capacity);
}

int dp_neigh_set(struct dp *dp, uint32_t family, const uint8_t *address, const uint8_t *mac)
{
    struct host host;
    return neigh_fix(dp->neigh, api_at_rest(dp, &host), family, address, mac);
}

int dp_neigh_probe(struct dp *dp, uint32_t family, const uint8_t *address)
{
    struct host host;
    return neigh_probe(dp->neigh, api_at_rest(dp, &host), family, address);
}

static bool api_announce(void *ctx, const uint64_t *key, const struct map_value *value)
{
    struct dp *dp = ctx;
    const struct tables *tables = dp_tables(dp);
    bool ip4 = key_is_pa4(key);
    struct host host;
    if (lookup_host(tables, value->act) == tables->self_host)
        neigh_announce(dp->neigh, api_at_rest(dp, &host), ip4 ? DP_IPV4 : DP_IPV6,
                       (const uint8_t *)(ip4 ? key : key + 1));
    return true;
}

int dp_announce(struct dp *dp)
{
    struct host host;
    if (!dp_port(dp, DP_UNDERLAY))
        return DP_ENOENT;
    map_each(dp_tables(dp)->pas4, api_announce, dp);
    map_each(dp_tables(dp)->pas6, api_announce, dp);
    neigh_ask_all(dp->neigh, api_at_rest(dp, &host));
    return DP_OK;
}
