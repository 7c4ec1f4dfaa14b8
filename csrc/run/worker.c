/*
 * worker.c: the loop of a worker: wait, receive, forward, flush. Called by the engine; calls ports and paths.
 */
#include "run/worker.h"
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include "base/spin.h"
#include "base/wake.h"
#include "host/neigh.h"
#include "host/pa.h"
#include "path/path.h"
#include "port/turn.h"
#include "run/engine.h"

int worker_init(struct worker *worker, struct dp *dp, uint32_t id)
{
    worker->dp = dp;
    worker->reader = &dp->qsbr.readers[id];
    worker->retry = worker->tidy = UINT64_MAX;
    if (io_init(&worker->io, id, &dp->arena, &dp->subnets))
        return DP_ENOMEM;
    worker->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = WORKER_WAKE_EVENT};
    bool whole = worker->wake_fd >= 0 && worker->epoll_fd >= 0;
    return whole && !epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, worker->wake_fd, &event) ? DP_OK : DP_ESYS;
}

void worker_fini(struct worker *worker)
{
    io_fini(&worker->io);
    if (worker->wake_fd >= 0)
        close(worker->wake_fd);
    if (worker->epoll_fd >= 0)
        close(worker->epoll_fd);
}

struct host worker_host(struct worker *worker)
{
    struct dp *dp = worker->dp;
    const struct tables *tables = dp_tables(dp);
    struct port *underlay = dp_port(dp, DP_UNDERLAY);
    uint32_t mtu = underlay ? underlay->mtu : UINT32_MAX;
    return (struct host){.io = &worker->io,
                         .tables = tables,
                         .ports = dp->ports,
                         .underlay = underlay,
                         .neigh = dp->neigh,
                         .underlay_mtu = mtu,
                         .underlay_frame = mtu > IP6_LEN + GRE_LEN ? mtu - IP6_LEN - GRE_LEN : 0,
                         .flowid_mask = tables->flowid_off ? 0 : 0xff};
}

void worker_timers(struct worker *worker)
{
    struct host host = worker_host(worker);
    if (__builtin_expect(worker->io.late_n != 0, 0))
        io_reap(&worker->io, worker->dp->ports);
    pa_timers(&host);
    io_flush(&worker->io);
}

void worker_forward(struct worker *worker, struct port *in)
{
    struct io *io = &worker->io;
    if (io->batch.n) {
        struct host host = worker_host(worker);
        path_forward(&host, in, &io->batch);
    }
    io->batch.n = 0;
    io_flush(io);
}

/* A turn of one queue: packets received, or a part of one. */
static uint32_t worker_receive(struct worker *worker, struct port_rxq *rxq)
{
    rxq->round = worker->round;
    uint32_t received = turn_begin(&worker->io, rxq);
    worker_forward(worker, rxq->port);
    turn_end(&worker->io, rxq);
    worker->received += received;
    worker->more |= rxq->more;
    if (received) {
        worker->spins |= !port_sleeps(rxq->port);
        rxq->used = true;
        rxq->pause = 0;
    }
    return received;
}

/*
 * fn for each queue of the worker, of ports from *port on while fn says true; *port: where to go on,
 * DP_MAX_PORTS: at the end.
 */
static void worker_each_queue(struct worker *worker, uint32_t *port,
                              bool (*fn)(struct worker *worker, struct port_rxq *rxq, void *ctx), void *ctx)
{
    const struct dp *dp = worker->dp;
    for (bool go_on = true; go_on && *port < DP_MAX_PORTS; ++*port) {
        const struct port *at = dp_port(dp, *port);
        for (uint32_t q = worker->io.id; at && q < at->queues; q += dp->config.workers)
            go_on &= fn(worker, at->rxqs[q], ctx);
    }
}

static bool worker_poll_queue(struct worker *worker, struct port_rxq *rxq, void *ctx)
{
    (void)ctx;
    do
        worker_receive(worker, rxq);
    while (rxq->whole.slots);
    return true;
}

uint32_t worker_round(struct worker *worker, uint64_t now)
{
    uint32_t port = 0;
    worker->received = 0;
    worker->io.now = now;
    worker_timers(worker);
    worker_each_queue(worker, &port, worker_poll_queue, NULL);
    return worker->received;
}

/* ---- threads --------------------------------------------------------------------------------- */

enum { EVENTS = 64 };

#define WORKER_PAUSE_NS 10000000ull         /* of a descriptor that errs: at first */
#define WORKER_PAUSE_MAX_NS 500000000ull    /* ... and at most */
#define WORKER_TIDY_NS 1000000000ull        /* from a burst's first packet to a look after its queue */
#define WORKER_REAP_NS 1000000ull           /* between looks for what a device has sent */

/* What an epoll event is about: a port's queue, or WORKER_WAKE_EVENT. */
static uint64_t worker_event_make(uint32_t port, uint32_t queue) { return (uint64_t)port << 32 | queue; }

static uint64_t worker_clock_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t worker_sooner(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* ns: the next timer of this worker. Those of neighbours are worker 0's. */
static uint64_t worker_due(const struct worker *worker)
{
    uint64_t due = worker->io.id == 0 ? neigh_next_timer(worker->dp->neigh) : UINT64_MAX;
    due = worker_sooner(due, worker_sooner(worker->retry, worker->tidy));
    return worker->io.late_n ? worker_sooner(due, worker->io.now + WORKER_REAP_NS) : due;
}

/* Milliseconds to it, rounded up; -1: none. */
static int worker_timeout(const struct worker *worker)
{
    uint64_t due = worker_due(worker), now = worker->io.now;
    if (due == UINT64_MAX)
        return -1;
    return (int)worker_sooner(due > now ? (due - now + 999999) / 1000000 : 0, INT_MAX);
}

/* While busy only looks; else blocks, without a reference to any table. */
static int worker_wait_events(struct worker *worker, struct epoll_event *events, bool busy)
{
    if (busy)
        return epoll_wait(worker->epoll_fd, events, EVENTS, 0);
    int ms = worker_timeout(worker);
    qsbr_offline(worker->reader);
    int n = epoll_wait(worker->epoll_fd, events, EVENTS, ms);
    qsbr_online(worker->reader);
    stats_add(&worker->wakeups, 1);
    return n;
}

static int worker_epoll(const struct worker *worker, int op, const struct port_rxq *rxq)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = worker_event_make(rxq->port->id, rxq->id)};
    return epoll_ctl(worker->epoll_fd, op, rxq->fd, &event);
}

/*
 * A descriptor whose device went down reports it once; one whose device is gone reports it for ever, and
 * would keep us awake. What goes on reporting is not listened to for a while, twice as long each time until
 * packets come, but never given up.
 */
static void worker_pause(struct worker *worker, struct port_rxq *rxq)
{
    struct pollfd poll_fd = {.fd = rxq->fd};
    if (poll(&poll_fd, 1, 0) <= 0 || worker_epoll(worker, EPOLL_CTL_DEL, rxq))
        return;
    rxq->pause = rxq->pause ? worker_sooner(2 * rxq->pause, WORKER_PAUSE_MAX_NS) : WORKER_PAUSE_NS;
    rxq->retry = worker->io.now + rxq->pause;
    worker->retry = worker_sooner(worker->retry, rxq->retry);
}

static bool worker_retry_queue(struct worker *worker, struct port_rxq *rxq, void *ctx)
{
    (void)ctx;
    if (rxq->retry && rxq->retry <= worker->io.now && !worker_epoll(worker, EPOLL_CTL_ADD, rxq))
        rxq->retry = 0;
    else if (rxq->retry && rxq->retry <= worker->io.now)
        rxq->retry = worker->io.now + WORKER_PAUSE_MAX_NS;
    if (rxq->retry)
        worker->retry = worker_sooner(worker->retry, rxq->retry);
    return true;
}

/* Of queues that received since the last time; one port a call, so that no round is long. */
static bool worker_tidy_queue(struct worker *worker, struct port_rxq *rxq, void *ctx)
{
    (void)ctx;
    if (!rxq->used)
        return true;
    rxq->used = false;
    io_count_lost(&worker->io, rxq);
    if (rxq->port->ops->rest)
        rxq->port->ops->rest(rxq, &worker->io.pool);
    return false;
}

/* What a round serves last: the queue that has waited longest of those whose last turn was a whole one. */
struct worker_heavy {
    struct port_rxq *rxq;
    uint32_t events;
};

static void worker_turn(struct worker *worker, struct port_rxq *rxq, uint32_t events)
{
    if (worker_receive(worker, rxq) == 0 && events & (EPOLLERR | EPOLLHUP))
        worker_pause(worker, rxq);
}

static void worker_offer(struct worker *worker, struct port_rxq *rxq, uint32_t events,
                         struct worker_heavy *heavy)
{
    if (!rxq->heavy)
        worker_turn(worker, rxq, events);
    else if (!heavy->rxq || (int32_t)(rxq->round - heavy->rxq->round) < 0)
        *heavy = (struct worker_heavy){rxq, events};
}

static void worker_handle_event(struct worker *worker, const struct epoll_event *event,
                                struct worker_heavy *heavy)
{
    if (event->data.u64 == WORKER_WAKE_EVENT) {
        wake_swallow(worker->wake_fd);
        return;
    }
    uint32_t queue = (uint32_t)event->data.u64;
    struct port *port = dp_port(worker->dp, (uint32_t)(event->data.u64 >> 32));
    if (port && queue < port->queues)
        worker_offer(worker, port->rxqs[queue], event->events, heavy);
}

static bool worker_offer_more(struct worker *worker, struct port_rxq *rxq, void *heavy)
{
    if (rxq->more && rxq->round != worker->round)       /* one turn a round */
        worker_offer(worker, rxq, 0, heavy);
    worker->more |= rxq->more;
    return true;
}

/* What is due of the queues themselves. */
static void worker_upkeep(struct worker *worker)
{
    uint32_t port = 0;
    if (worker->io.now >= worker->retry) {
        worker->retry = UINT64_MAX;
        worker_each_queue(worker, &port, worker_retry_queue, NULL);
    }
    if (worker->io.now >= worker->tidy) {
        worker_each_queue(worker, &worker->tidy_port, worker_tidy_queue, NULL);
        if (worker->tidy_port == DP_MAX_PORTS) {
            worker->tidy_port = 0;
            worker->tidy = UINT64_MAX;
        }
    }
}

/*
 * A turn of every queue that has packets, but of those that used up their last turn only one, the others stay
 * ready. So a packet of a queue that has little waits for a single turn of any other, whose length is bounded
 * (io_turn_over()), however many of them flood; and those share what is left in turns.
 */
static void worker_turns(struct worker *worker, const struct epoll_event *events, int n)
{
    struct worker_heavy heavy = {0};
    uint32_t port = 0;
    worker->received = 0;
    worker->spins = false;
    worker->round++;
    for (int i = 0; i < n; i++)
        worker_handle_event(worker, &events[i], &heavy);
    if (worker->more) {
        worker->more = false;
        worker_each_queue(worker, &port, worker_offer_more, &heavy);
    }
    if (heavy.rxq)
        worker_turn(worker, heavy.rxq, heavy.events);
    if (worker->received && worker->tidy == UINT64_MAX)
        worker->tidy = worker->io.now + WORKER_TIDY_NS;
}

void *worker_main(void *arg)
{
    struct worker *worker = arg;
    struct dp *dp = worker->dp;
    struct spin spin = {.limit = dp->config.spin_us * 1000ull};
    struct epoll_event events[EVENTS];
    bool busy = true;                   /* what came before the last stop may not be done */
    worker->io.now = worker_clock_now();
    qsbr_online(worker->reader);
    while (!atomic_load_explicit(&dp->stopping, memory_order_acquire)) {
        int n = worker_wait_events(worker, events, busy);
        worker->io.now = worker_clock_now();
        worker_timers(worker);
        worker_upkeep(worker);
        worker_turns(worker, events, n);
        qsbr_quiescent(worker->reader);
        if (worker->spins)
            spin_received(&spin, worker->io.now, worker->io.bytes);
        busy = worker->spins || worker->more || spin_on(&spin, worker->io.now);
    }
    qsbr_offline(worker->reader);
    return NULL;
}

int worker_listen(struct dp *dp, const struct port *port)
{
    for (uint32_t q = 0; q < port->queues; q++) {
        const struct worker *worker = &dp->workers[q % dp->config.workers];
        if (port->rxqs[q]->fd >= 0 && worker_epoll(worker, EPOLL_CTL_ADD, port->rxqs[q]))
            return DP_ESYS;
    }
    return DP_OK;
}

void worker_ignore(struct dp *dp, const struct port *port)
{
    for (uint32_t q = 0; q < port->queues; q++)
        if (port->rxqs[q]->fd >= 0)
            worker_epoll(&dp->workers[q % dp->config.workers], EPOLL_CTL_DEL, port->rxqs[q]);
}
