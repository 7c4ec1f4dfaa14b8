/*
 * worker.h: a worker: a thread, or the control thread without threads, that receives, forwards and flushes.
 * Called by the engine; calls the paths.
 */
#ifndef WORKER_H
#define WORKER_H
#include <pthread.h>
#include "base/qsbr.h"
#include "host/host.h"
#include "port/io.h"

struct dp;

struct worker {
    struct io io;
    struct dp *dp;
    struct qsbr_reader *reader;
    int wake_fd;                        /* eventfd, see wake.h */
    int epoll_fd;                       /* wake_fd and the worker's queues */
    uint32_t round, received;           /* number of the round, packets received in it */
    bool spins;                         /* ... by a port that is worth looking on for */
    bool more;                          /* a queue has packets that its descriptor does not show */
    uint64_t retry, tidy;               /* ns: listen again to queues that erred; look after those in use */
    uint32_t tidy_port;
    uint64_t wakeups;                   /* times it has blocked and gone on */
    pthread_t thread;
} __attribute__((aligned(64)));

/* epoll's data for wake_fd. */
#define WORKER_WAKE_EVENT UINT64_MAX

/* 0, DP_ENOMEM or DP_ESYS (errno); worker_fini() either way, once both descriptors are set to -1. */
int worker_init(struct worker *worker, struct dp *dp, uint32_t id);
void worker_fini(struct worker *worker);

/* What it knows of this host, until its next quiescent point. */
struct host worker_host(struct worker *worker);
/* What is due at io.now. */
void worker_timers(struct worker *worker);
/* Forwards the batch, which came in at `in`, and flushes. */
void worker_forward(struct worker *worker, struct port *in);
/*
 * One round at time `now`: timers, then receive and forward from every queue of the worker. Returns packets
 * received.
 */
uint32_t worker_round(struct worker *worker, uint64_t now);

/* Its thread. */
void *worker_main(void *worker);
/*
 * Control thread. The worker whose queue it is listens to the descriptor, or no longer. 0 or DP_ESYS (errno).
 */
int worker_listen(struct dp *dp, const struct port *port);
void worker_ignore(struct dp *dp, const struct port *port);

#endif
