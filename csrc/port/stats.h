/*
 * stats.h: counters of ports and of subnets. Each worker counts in its own block, so that counting is a
 * plain add; readers sum the blocks at any time. The hot path adds once a batch: sums are kept in locals and
 * flushed. Called by io and paths; read by the engine.
 */
#ifndef STATS_H
#define STATS_H
#include <stdint.h>
#include "base/drop.h"
#include "base/mem.h"
#include "dp_api.h"

struct port_stats {
    uint64_t received, originated, sent, dropped, consumed;
    /* a packet may be held by one worker and let go by another: only the sum counts */
    int64_t held;
    uint64_t rx_bytes, tx_bytes, rx_gso, rx_csum_partial, tx_gso, tx_csum_partial, rx_kernel,
        icmp_limited;
    uint64_t drops[DROP_COUNT];
} __attribute__((aligned(64)));

struct vsid_stats {
    uint64_t from_port, from_port_bytes, to_port, to_port_bytes;
};

/* Single-writer add that a concurrent reader may see torn from its neighbours, never in itself. */
static inline void stats_add(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static inline uint64_t stats_get(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/* Adds n counters to sums. */
static inline void stats_sum(uint64_t *sum, const void *counters, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        sum[i] += stats_get((const uint64_t *)counters + i);
}

/*
 * Counters by subnet index: a block for each worker, address space for all STATS_SUBNETS, memory for those
 * that count. An index is used again by another subnet: `base` is what its earlier subnets had counted.
 */
enum { STATS_SUBNETS = 1 << 20 };

struct subnet_counters {
    uint32_t workers;
    struct mem base, blocks[DP_MAX_WORKERS];
};

int stats_subnets_create(struct subnet_counters *counters, uint32_t workers);    /* 0 or DP_ENOMEM */
void stats_subnets_destroy(struct subnet_counters *counters);
/* The worker's block: STATS_SUBNETS of them. */
static inline struct vsid_stats *stats_subnets_of(const struct subnet_counters *counters, uint32_t worker)
{
    return (struct vsid_stats *)(void *)counters->blocks[worker].base;
}
/* Control thread. The index gets a new subnet, which starts counting at 0. */
void stats_subnet_reset(struct subnet_counters *counters, uint32_t index);
/* Control thread: what the index's subnet has counted. */
struct vsid_stats stats_subnet_read(const struct subnet_counters *counters, uint32_t index);

#endif
