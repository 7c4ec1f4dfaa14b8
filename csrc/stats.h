/*
 * stats.h: counters. Each worker counts in its own block, so that counting is a plain add; readers sum the blocks at any time.
 * The hot path adds once a batch: sums are kept in locals and flushed.
 */
#ifndef STATS_H
#define STATS_H
#include <stdint.h>
#include "dp_api.h"

enum drop {
    DROP_NONE = 0,
#define DROP(symbol, name, text) DROP_##symbol,
#include "drop.def"
#undef DROP
    DROP_COUNT
};

struct port_stats {
    uint64_t received, originated, sent, dropped, consumed;
    int64_t held;           /* a packet may be held by one worker and let go by another: only the sum counts */
    uint64_t rx_bytes, tx_bytes, rx_gso, rx_csum_partial, tx_gso, tx_csum_partial;
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

struct dp;
/* Control thread. The subnet index gets a new subnet, which starts counting at 0. */
void stats_subnet_reset(struct dp *dp, uint32_t index);

#endif
