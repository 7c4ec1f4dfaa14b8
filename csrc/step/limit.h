/*
 * limit.h: rate limits of a port (README.md 2.14). A bucket, a time and what a packet is in, whether it may
 * pass out. Called by from_tenant, and by control/, which makes buckets.
 *
 * A bucket holds one number for packets and one for bytes: the time at which it is full again. So the whole
 * port has one bucket, whichever of its queues a packet came by: a flow, which is always of one queue, may
 * use all of the limit, and workers share it without a lock. Two workers at once may only differ in which of
 * two packets passes: when the bytes refuse one, the packets it took are given back, and another worker may
 * have been refused for them meanwhile.
 *
 * Times are in quarters of a nanosecond, of any epoch up to 2^62 ns; what a packet takes is rounded up.
 */
#ifndef LIMIT_H
#define LIMIT_H
#include <stdatomic.h>
#include "step/gso.h"
#include "table/tables.h"

#define LIMIT_SECOND UINT64_C(4000000000)
/* A bucket that takes longer to fill, 18 years, holds what it takes so long. */
#define LIMIT_LONGEST (UINT64_C(1) << 61)

/* per_second 0: none. */
static inline struct limit_rate limit_rate(uint64_t per_second, uint32_t burst)
{
    uint64_t depth = per_second ? burst * LIMIT_SECOND / per_second : 0;
    return (struct limit_rate){per_second, depth < LIMIT_LONGEST ? depth : LIMIT_LONGEST, burst};
}

static inline bool limit_limits(const struct port_limit *limit)
{
    return limit->packets.per_second || limit->bytes.per_second;
}

static inline bool limit_same_rate(const struct limit_rate *a, const struct limit_rate *b)
{
    return a->per_second == b->per_second && a->burst == b->burst;
}

static inline bool limit_same(const struct port_limit *a, const struct port_limit *b)
{
    return limit_same_rate(&a->packets, &b->packets) && limit_same_rate(&a->bytes, &b->bytes);
}

/* 2.14.1: a limit that is new or another one begins with a full bucket. */
static inline void limit_fill(struct limit_bucket *bucket)
{
    atomic_store(&bucket->packets, 0);
    atomic_store(&bucket->bytes, 0);
}

/* 2.14.4: the time that n packets or bytes stand for, n under 2^32. */
static inline uint64_t limit_cost(const struct limit_rate *rate, uint64_t n)
{
    return (n * LIMIT_SECOND + rate->per_second - 1) / rate->per_second;
}

/* False: nothing is left. What is taken beyond what is left is owed. */
static inline bool limit_take(_Atomic uint64_t *full, const struct limit_rate *rate, uint64_t now,
                              uint64_t cost)
{
    uint64_t at = atomic_load_explicit(full, memory_order_relaxed), from;
    do {
        from = at > now ? at : now;
        if (from - now >= rate->depth)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(full, &at, from + cost, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

/* ns: the packet's time. Any thread. */
static inline bool limit_allows(const struct port_limit *limit, struct limit_bucket *bucket, uint64_t ns,
                                uint64_t packets, uint64_t bytes)
{
    const struct limit_rate *of_packets = &limit->packets, *of_bytes = &limit->bytes;
    const uint64_t now = ns * (LIMIT_SECOND / 1000000000);
    uint64_t cost = of_packets->per_second ? limit_cost(of_packets, packets) : 0;
    /* 2.14.2, 2.14.3 */
    if (cost && !limit_take(&bucket->packets, of_packets, now, cost))
        return false;
    if (!of_bytes->per_second || limit_take(&bucket->bytes, of_bytes, now, limit_cost(of_bytes, bytes)))
        return true;
    atomic_fetch_sub_explicit(&bucket->packets, cost, memory_order_relaxed);
    return false;
}

/* A packet of a port that has a limit. */
static inline bool limit_refuses(const struct port_policy *policy, const struct pkt *pkt)
{
    return !limit_allows(&policy->limit, policy->bucket, pkt->time, gso_segments(pkt), pkt->len);
}

#endif
