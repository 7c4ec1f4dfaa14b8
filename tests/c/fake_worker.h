/*
 * fake_worker.h: one worker without an engine, for tests of a single step. What a step does with a packet is
 * counted and nothing else; the balance of counters can be asserted as in the engine.
 */
#ifndef FAKE_WORKER_H
#define FAKE_WORKER_H
#include "engine.h"
#include "frames.h"

static struct dp fake_dp;
static struct worker fake_worker;
static struct port_stats fake_stats;
static enum drop fake_last_drop;

void worker_drop(struct worker *worker, struct pkt *pkt, enum drop reason)
{
    stats_add(&worker->stats[pkt->in_port]->dropped, 1);
    fake_last_drop = reason;
    pool_pkt_free(&worker->pool, pkt);
}

struct pkt *worker_make(struct worker *worker)
{
    struct pkt *pkt = &worker->made[worker->made_n];
    worker->made_n = (worker->made_n + 1) % TXQ_MAX;
    return pkt;
}

static inline void fake_worker_init(uint32_t slots)
{
    assert_int_equal(arena_create(&fake_dp.arena, slots), DP_OK);
    fake_worker = (struct worker){.dp = &fake_dp};
    fake_stats = (struct port_stats){0};
    fake_worker.stats[1] = &fake_stats;
    pool_init(&fake_worker.pool, &fake_dp.arena);
}

/* Every slot must be free again. */
static inline void fake_worker_end(void)
{
    assert_int_equal(arena_free_slots(&fake_dp.arena, &fake_worker.pool, 1), fake_dp.arena.slots);
    arena_destroy(&fake_dp.arena);
}

#endif
