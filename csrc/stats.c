/* stats.c: sums over workers, and the names of drops and errors. */
#include "stats.h"
#include "engine.h"

static const struct {
    const char *name, *text;
} reasons[DROP_COUNT] = {
    [DROP_NONE] = {"none", "not dropped"},
#define DROP(symbol, name, text) [DROP_##symbol] = {name, text},
#include "drop.def"
#undef DROP
};

uint32_t dp_drop_count(void)
{
    return DROP_COUNT;
}

const char *dp_drop_name(uint32_t reason)
{
    return reason < DROP_COUNT ? reasons[reason].name : NULL;
}

const char *dp_drop_text(uint32_t reason)
{
    return reason < DROP_COUNT ? reasons[reason].text : NULL;
}

const char *dp_error_name(int code)
{
    switch ((enum dp_error)code) {
    case DP_OK: return "ok";
    case DP_EINVAL: return "invalid argument";
    case DP_ENOMEM: return "out of memory";
    case DP_ENOENT: return "no such object";
    case DP_EEXIST: return "exists already";
    case DP_EFORMAT: return "malformed";
    case DP_ESYS: return "system call failed";
    case DP_ECPU: return "this CPU lacks AES-NI or AVX2";
    case DP_EBUSY: return "not while workers run";
    case DP_EFULL: return "limit reached";
    }
    return "unknown error";
}

static uint64_t stats_get(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static void add_port(const struct port_stats *stats, struct dp_counters *out, uint64_t *drops)
{
    out->received += stats_get(&stats->received);
    out->originated += stats_get(&stats->originated);
    out->sent += stats_get(&stats->sent);
    out->dropped += stats_get(&stats->dropped);
    out->consumed += stats_get(&stats->consumed);
    out->held += (uint64_t)__atomic_load_n(&stats->held, __ATOMIC_RELAXED);
    out->rx_bytes += stats_get(&stats->rx_bytes);
    out->tx_bytes += stats_get(&stats->tx_bytes);
    out->rx_gso += stats_get(&stats->rx_gso);
    out->rx_csum_partial += stats_get(&stats->rx_csum_partial);
    out->tx_gso += stats_get(&stats->tx_gso);
    out->tx_csum_partial += stats_get(&stats->tx_csum_partial);
    for (uint32_t reason = 0; drops && reason < DROP_COUNT; reason++)
        drops[reason] += stats_get(&stats->drops[reason]);
}

int dp_counters_read(const struct dp *dp, uint32_t port, struct dp_counters *out, uint64_t *drops)
{
    if (port >= DP_MAX_PORTS)
        return DP_EINVAL;
    *out = (struct dp_counters){0};
    if (drops)
        memset(drops, 0, DROP_COUNT * sizeof *drops);
    for (uint32_t i = 0; i < dp->config.workers; i++) {
        const struct port_stats *stats = __atomic_load_n(&dp->workers[i].stats[port], __ATOMIC_ACQUIRE);
        if (!stats)
            return DP_ENOENT;
        add_port(stats, out, drops);
    }
    return DP_OK;
}

static struct vsid_stats sum_subnet(const struct dp *dp, uint32_t index)
{
    struct vsid_stats sum = {0};
    for (uint32_t i = 0; i < dp->config.workers; i++) {
        const struct vsid_stats *stats = &dp->workers[i].vsid_stats[index];
        sum.from_port += stats_get(&stats->from_port);
        sum.from_port_bytes += stats_get(&stats->from_port_bytes);
        sum.to_port += stats_get(&stats->to_port);
        sum.to_port_bytes += stats_get(&stats->to_port_bytes);
    }
    return sum;
}

void stats_subnet_reset(struct dp *dp, uint32_t index)
{
    if (index < SUBNET_STATS - 1)
        dp->vsid_base[index] = sum_subnet(dp, index);
}

int dp_vsid_counters_read(const struct dp *dp, struct dp_vsid_counters *out, uint32_t capacity)
{
    const struct tables *tables = dp_tables(dp);
    uint32_t n = 0;
    for (uint32_t i = 0; i < tables->subnet_count && i < SUBNET_STATS - 1; i++) {
        if (tables->subnets[i].vsid == 0)
            continue;
        if (n < capacity) {
            struct vsid_stats sum = sum_subnet(dp, i), *base = &dp->vsid_base[i];
            out[n] = (struct dp_vsid_counters){
                .vsid = tables->subnets[i].vsid,
                .from_port = sum.from_port - base->from_port,
                .from_port_bytes = sum.from_port_bytes - base->from_port_bytes,
                .to_port = sum.to_port - base->to_port,
                .to_port_bytes = sum.to_port_bytes - base->to_port_bytes,
            };
        }
        n++;
    }
    return (int)n;
}
