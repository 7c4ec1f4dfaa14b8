/*
 * engine.h: the engine and its workers, seen from inside the core.
 *
 * A worker owns its pool, counters, receive batch and transmit queues. The control thread owns everything else and
 * publishes through atomics; it frees what workers may still read after qsbr_wait().
 */
#ifndef ENGINE_H
#define ENGINE_H
#include <pthread.h>
#include "neigh.h"
#include "pkt.h"
#include "pool.h"
#include "port.h"
#include "stats.h"
#include "tables.h"

enum { TXQ_MAX = 256, SUBNET_STATS = 4096 };

/* Packets on their way to one port. Flushed when full and at the end of each receive batch, always in order. */
struct txq {
    uint32_t n;
    struct pkt *pkts[TXQ_MAX];
};

struct worker {
    struct dp *dp;
    uint32_t id;
    uint32_t batch_limit;               /* packets a receive call may return, 1..DP_BATCH */
    uint64_t now;                       /* ns, set before each receive */
    struct pool pool;
    struct batch batch;                 /* what was just received; its packets stay in place until flush */
    struct pkt made[TXQ_MAX];           /* packets the core made while it works on the batch (segments, requests) */
    uint32_t made_n;
    struct txq *txqs[DP_MAX_PORTS];     /* allocated at port attach */
    uint16_t active[DP_MAX_PORTS];      /* ports with packets in their txq, in order of first use */
    uint32_t active_n;
    struct port_stats *stats[DP_MAX_PORTS];  /* allocated at port attach */
    struct vsid_stats *vsid_stats;      /* by subnet index, SUBNET_STATS; subnets beyond share the last */
    _Atomic uint64_t quiescent;         /* qsbr.h */
    int wake_fd;                        /* eventfd: stop, new ports */
    pthread_t thread;
};

struct dp {
    struct dp_config config;
    struct arena arena;
    struct tables *_Atomic tables;
    struct port *_Atomic ports[DP_MAX_PORTS];
    struct neigh_table *neigh;
    struct worker *workers;             /* config.workers of them */
    struct replay *replay;              /* sources of capture files; replay.c */
    _Atomic bool stopping;
    bool running;
    int last_errno;
};

static inline struct tables *dp_tables(const struct dp *dp) { return __atomic_load_n((struct tables *const *)&dp->tables, __ATOMIC_ACQUIRE); }
static inline struct port *dp_port(const struct dp *dp, uint32_t id) { return __atomic_load_n((struct port *const *)&dp->ports[id], __ATOMIC_ACQUIRE); }

/* worker.c: the only ways on for a packet. Each takes the packet. */
/* Counts the drop at the packet's in_port and frees it. */
void worker_drop(struct worker *worker, struct pkt *pkt, enum drop reason);
/* Counts consumed and frees it. */
void worker_consume(struct worker *worker, struct pkt *pkt);
/* Queues the packet for a port that is attached. `pkt` must stay in place until the flush: batch, made[] or held. */
void worker_send(struct worker *worker, struct port *port, struct pkt *pkt);
/* A descriptor for a packet the core makes, valid until the flush; flushes first when all are in use. Counts nothing. */
struct pkt *worker_make(struct worker *worker);
void worker_flush(struct worker *worker);
/* Counts what is made: originated at the port that caused it. */
static inline void worker_originated(struct worker *worker, uint32_t port, uint32_t n) { stats_add(&worker->stats[port]->originated, n); }

/* One round at time `now`: timers, then receive and forward from every queue of the worker. Returns packets received. */
uint32_t worker_round(struct worker *worker, uint64_t now);

#endif
