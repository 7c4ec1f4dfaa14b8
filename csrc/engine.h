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
    struct port *port;
    struct pkt *pkts[TXQ_MAX];
};

struct worker {
    struct dp *dp;
    uint32_t id;
    uint32_t batch_limit;               /* packets a receive call may return, 1..DP_BATCH */
    uint64_t now;                       /* ns, set before each receive; in replay the packets of a batch differ: see pkt.time */
    struct pool pool;
    struct batch batch;                 /* what was just received; its packets stay in place until flush */
    struct pkt made[TXQ_MAX];           /* packets the core made while it works on the batch (segments, requests) */
    uint32_t made_n;
    struct txq *txqs[DP_MAX_PORTS];     /* allocated with stats */
    uint16_t active[DP_MAX_PORTS];      /* ports with packets in their txq, in order of first use */
    uint32_t active_n;
    struct port_stats *stats[DP_MAX_PORTS];  /* allocated at port attach, kept until the end; the underlay's always there */
    struct vsid_stats *vsid_stats;      /* by subnet index, SUBNET_STATS; subnets beyond share the last */
    _Atomic uint64_t quiescent;         /* qsbr.h */
    uint8_t *bin;                       /* POOL_FRAME_MAX bytes that receive what has no slot */
    int wake_fd;                        /* eventfd, see worker_wake() */
    int epoll_fd;                       /* wake_fd and the worker's queues */
    pthread_t thread;
} __attribute__((aligned(64)));

struct dp {
    struct dp_config config;
    struct arena arena;
    struct tables *_Atomic tables;
    struct port *_Atomic ports[DP_MAX_PORTS];
    struct neigh_table *neigh;
    struct worker *workers;             /* config.workers of them */
    struct replay *replay;              /* sources of capture files; replay.c */
    struct vsid_stats *vsid_base;       /* by subnet index: what the index's earlier subnets had counted */
    _Atomic bool stopping;
    bool running;
    int last_errno;
};

static inline struct tables *dp_tables(const struct dp *dp) { return __atomic_load_n((struct tables *const *)&dp->tables, __ATOMIC_ACQUIRE); }
static inline struct port *dp_port(const struct dp *dp, uint32_t id) { return __atomic_load_n((struct port *const *)&dp->ports[id], __ATOMIC_ACQUIRE); }

/* worker.c: the only ways on for a packet. Each takes the packet. */
/* Counts the drop at the packet's in_port and frees it. */
void worker_drop(struct worker *worker, struct pkt *pkt, enum drop reason);
/* If there is a reason. */
static inline bool worker_dropped(struct worker *worker, struct pkt *pkt, enum drop reason)
{
    if (reason)
        worker_drop(worker, pkt, reason);
    return reason != DROP_NONE;
}
/* Counts consumed and frees it. */
void worker_consume(struct worker *worker, struct pkt *pkt);
/* Queues the packet for a port that is attached. `pkt` must stay in place until the flush: batch, made[] or held. */
void worker_send(struct worker *worker, struct port *port, struct pkt *pkt);
/* A descriptor for a packet the core makes, valid until the flush; flushes first when all are in use. Counts nothing. */
struct pkt *worker_make(struct worker *worker);
void worker_flush(struct worker *worker);
/* Counts the batch's next packet, which came in at the port: it stays, or is dropped if there is a reason. */
static inline void worker_received(struct worker *worker, const struct port *port, struct pkt *pkt, enum drop drop, struct port_count *count)
{
    pkt->in_port = (uint16_t)port->id;
    port_count(count, pkt);
    if (drop)
        worker_drop(worker, pkt, drop);
    else
        worker->batch.n++;
}
/* Counts what is made: originated at the port that caused it. */
static inline void worker_originated(struct worker *worker, uint32_t port, uint32_t n) { stats_add(&worker->stats[port]->originated, n); }

/* What is due at worker->now. */
void worker_timers(struct worker *worker);
/* Forwards the batch, which came in at `in`, and flushes. */
void worker_forward(struct worker *worker, struct port *in);
/* One round at time `now`: timers, then receive and forward from every queue of the worker. Returns packets received. */
uint32_t worker_round(struct worker *worker, uint64_t now);

/* epoll's data for wake_fd. */
#define WORKER_WAKE_EVENT UINT64_MAX

/* Threads. Any thread may wake a worker that blocks: it then runs its timers. */
void *worker_main(void *worker);
void worker_wake(const struct worker *worker);
/* Control thread. The worker whose queue it is listens to the descriptor, or no longer. 0 or DP_ESYS (errno). */
int worker_listen(struct dp *dp, const struct port *port);
void worker_ignore(struct dp *dp, const struct port *port);

/* replay.c: frees dp->replay. */
void replay_destroy(struct dp *dp);

#endif
