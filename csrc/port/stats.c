/* stats.c: counters of subnets: blocks of all workers, summed on request of the control thread. */
#include "port/stats.h"

enum { WORDS = sizeof(struct vsid_stats) / 8 };

int stats_subnets_create(struct subnet_counters *counters, uint32_t workers)
{
    const size_t size = STATS_SUBNETS * sizeof(struct vsid_stats);
    *counters = (struct subnet_counters){.workers = workers};
    int error = mem_lazy(&counters->base, size);
    for (uint32_t i = 0; i < workers && !error; i++)
        error = mem_lazy(&counters->blocks[i], size);
    return error;
}

void stats_subnets_destroy(struct subnet_counters *counters)
{
    mem_unmap(&counters->base);
    for (uint32_t i = 0; i < DP_MAX_WORKERS; i++)
        mem_unmap(&counters->blocks[i]);
}

static struct vsid_stats stats_subnet_total(const struct subnet_counters *counters, uint32_t index)
{
    struct vsid_stats sum = {0};
    for (uint32_t i = 0; i < counters->workers; i++)
        stats_sum((uint64_t *)&sum, &stats_subnets_of(counters, i)[index], WORDS);
    return sum;
}

static struct vsid_stats *stats_subnet_base(const struct subnet_counters *counters, uint32_t index)
{
    return (struct vsid_stats *)(void *)counters->base.base + index;
}

void stats_subnet_reset(struct subnet_counters *counters, uint32_t index)
{
    struct vsid_stats total = stats_subnet_total(counters, index);
    if (total.from_port | total.to_port)            /* most indexes are new: their pages stay untouched */
        *stats_subnet_base(counters, index) = total;
}

struct vsid_stats stats_subnet_read(const struct subnet_counters *counters, uint32_t index)
{
    struct vsid_stats sum = stats_subnet_total(counters, index), *base = stats_subnet_base(counters, index);
    return (struct vsid_stats){sum.from_port - base->from_port, sum.from_port_bytes - base->from_port_bytes,
                               sum.to_port - base->to_port, sum.to_port_bytes - base->to_port_bytes};
}
