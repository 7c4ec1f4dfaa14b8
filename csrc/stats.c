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
    static const char *const names[] = {"ok", "invalid argument", "out of memory", "no such object", "exists already", "malformed",
                                        "system call failed", "this CPU lacks AES-NI or AVX2", "not while workers run", "limit reached"};
    _Static_assert(sizeof names / sizeof names[0] == 1 - DP_EFULL, "a name each");
    return code <= 0 && code >= DP_EFULL ? names[-code] : "unknown error";
}

static uint64_t stats_get(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/* A port's counters are the same words in the same order, then its drops. */
enum { PORT_WORDS = sizeof(struct dp_counters) / 8 };
_Static_assert(offsetof(struct port_stats, drops) == sizeof(struct dp_counters), "as struct dp_counters");

static void add_words(uint64_t *sum, const void *counters, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        sum[i] += stats_get((const uint64_t *)counters + i);
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
        add_words((uint64_t *)out, stats, PORT_WORDS);
        if (drops)
            add_words(drops, stats->drops, DROP_COUNT);
    }
    return DP_OK;
}

static struct vsid_stats sum_subnet(const struct dp *dp, uint32_t index)
{
    struct vsid_stats sum = {0};
    for (uint32_t i = 0; i < dp->config.workers; i++)
        add_words((uint64_t *)&sum, &dp->workers[i].vsid_stats[index], sizeof sum / 8);
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
