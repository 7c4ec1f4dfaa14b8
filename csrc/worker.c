/* worker.c: what becomes of a packet, and the loop of a worker's thread. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>
#include "engine.h"
#include "forward.h"
#include "qsbr.h"

void worker_drop(struct worker *worker, struct pkt *pkt, enum drop reason)
{
    struct port_stats *stats = worker->stats[pkt->in_port];
    stats_add(&stats->dropped, 1);
    stats_add(&stats->drops[reason], 1);
    pool_pkt_free(&worker->pool, pkt);
}

void worker_consume(struct worker *worker, struct pkt *pkt)
{
    stats_add(&worker->stats[pkt->in_port]->consumed, 1);
    pool_pkt_free(&worker->pool, pkt);
}

static void flush_txqs(struct worker *worker)
{
    for (uint32_t i = 0; i < worker->active_n; i++) {
        struct txq *txq = worker->txqs[worker->active[i]];
        txq->port->ops->tx(txq->port, worker, txq->pkts, txq->n);
        txq->n = 0;
    }
    worker->active_n = 0;
}

void worker_send(struct worker *worker, struct port *port, struct pkt *pkt)
{
    struct txq *txq = worker->txqs[port->id];
    if (__builtin_expect(txq->n == TXQ_MAX, 0))
        flush_txqs(worker);
    if (txq->n == 0) {
        worker->active[worker->active_n++] = (uint16_t)port->id;
        txq->port = port;
    }
    txq->pkts[txq->n++] = pkt;
}

struct pkt *worker_make(struct worker *worker)
{
    if (worker->made_n == TXQ_MAX)
        worker_flush(worker);
    return &worker->made[worker->made_n++];
}

void worker_flush(struct worker *worker)
{
    flush_txqs(worker);
    worker->made_n = 0;
}

void worker_timers(struct worker *worker)
{
    neigh_timers(worker);
    worker_flush(worker);
}

void worker_forward(struct worker *worker, struct port *in)
{
    if (worker->batch.n)
        forward_batch(worker, in, &worker->batch);
    worker->batch.n = 0;
    worker_flush(worker);
}

static uint32_t receive(struct worker *worker, struct port *port, uint32_t queue)
{
    worker->batch.n = 0;
    uint32_t received = port->ops->rx(port, worker, queue, &worker->batch);
    worker_forward(worker, port);
    return received;
}

uint32_t worker_round(struct worker *worker, uint64_t now)
{
    const struct dp *dp = worker->dp;
    uint32_t received = 0;
    worker->now = now;
    worker_timers(worker);
    for (uint32_t id = 0; id < DP_MAX_PORTS; id++) {
        struct port *port = dp_port(dp, id);
        for (uint32_t q = worker->id; port && q < port->queues; q += dp->config.workers)
            received += receive(worker, port, q);
    }
    return received;
}

/* ---- threads ------------------------------------------------------------------------------------------------ */

enum { EVENTS = 64 };

/* What an epoll event is about: a port's queue, or WORKER_WAKE_EVENT. */
static uint64_t event_make(uint32_t port, uint32_t queue) { return (uint64_t)port << 32 | queue; }

static uint64_t clock_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void worker_wake(const struct worker *worker)
{
    uint64_t one = 1;
    ssize_t wrote = write(worker->wake_fd, &one, sizeof one);
    (void)wrote;                        /* a full counter wakes as well */
}

static void swallow_wake(const struct worker *worker)
{
    uint64_t count;
    ssize_t got = read(worker->wake_fd, &count, sizeof count);
    (void)got;
}

/* Milliseconds to the next timer, rounded up; -1: none. Timers are worker 0's. */
static int timeout(const struct worker *worker)
{
    if (worker->id != 0)
        return -1;
    uint64_t due = neigh_next_timer(worker->dp), now = clock_now();
    if (due == UINT64_MAX)
        return -1;
    uint64_t ms = due > now ? (due - now + 999999) / 1000000 : 0;
    return ms < INT_MAX ? (int)ms : INT_MAX;
}

/* While busy only looks; else blocks, without a reference to any table. */
static int wait_events(struct worker *worker, struct epoll_event *events, bool busy)
{
    if (busy)
        return epoll_wait(worker->epoll_fd, events, EVENTS, 0);
    int ms = timeout(worker);
    qsbr_offline(worker);
    int n = epoll_wait(worker->epoll_fd, events, EVENTS, ms);
    qsbr_online(worker);
    return n;
}

/* A descriptor whose device is gone reports an error for ever, and would keep us awake; one whose device went down reports it once. */
static void ignore_if_dead(const struct worker *worker, int fd)
{
    struct pollfd poll_fd = {.fd = fd};
    if (poll(&poll_fd, 1, 0) > 0)
        epoll_ctl(worker->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

static uint32_t handle_event(struct worker *worker, const struct epoll_event *event)
{
    if (event->data.u64 == WORKER_WAKE_EVENT) {
        swallow_wake(worker);
        return 0;
    }
    uint32_t queue = (uint32_t)event->data.u64;
    struct port *port = dp_port(worker->dp, (uint32_t)(event->data.u64 >> 32));
    if (!port || queue >= port->queues)
        return 0;
    worker->now = clock_now();
    uint32_t received = receive(worker, port, queue);
    if (received == 0 && event->events & (EPOLLERR | EPOLLHUP))
        ignore_if_dead(worker, port->fds[queue]);
    return received;
}

/* One burst from every queue that has packets: the kernel hands out ready queues in turn, so that none starves. */
void *worker_main(void *arg)
{
    struct worker *worker = arg;
    struct dp *dp = worker->dp;
    const uint64_t spin = dp->config.spin_us * 1000ull;
    struct epoll_event events[EVENTS];
    uint64_t last = 0;                  /* when packets came last */
    bool busy = false;
    qsbr_online(worker);
    while (!atomic_load_explicit(&dp->stopping, memory_order_acquire)) {
        int n = wait_events(worker, events, busy);
        uint32_t received = 0;
        worker->now = clock_now();
        worker_timers(worker);
        for (int i = 0; i < n; i++)
            received += handle_event(worker, &events[i]);
        qsbr_quiescent(worker);
        if (received)
            last = worker->now;
        busy = received || worker->now - last < spin;
    }
    qsbr_offline(worker);
    return NULL;
}

int worker_listen(struct dp *dp, const struct port *port)
{
    for (uint32_t q = 0; q < port->queues; q++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = event_make(port->id, q)};
        const struct worker *worker = &dp->workers[q % dp->config.workers];
        if (port->fds[q] >= 0 && epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, port->fds[q], &event))
            return DP_ESYS;
    }
    return DP_OK;
}

void worker_ignore(struct dp *dp, const struct port *port)
{
    for (uint32_t q = 0; q < port->queues; q++)
        if (port->fds[q] >= 0)
            epoll_ctl(dp->workers[q % dp->config.workers].epoll_fd, EPOLL_CTL_DEL, port->fds[q], NULL);
}
