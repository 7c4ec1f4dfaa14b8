/* worker.c: the loop of a worker: wait, receive, forward, flush. Called by the engine; calls ports and paths. */
#include "run/worker.h"
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include "base/wake.h"
#include "host/neigh.h"
#include "host/provider.h"
#include "path/path.h"
#include "run/engine.h"

int worker_init(struct worker *worker, struct dp *dp, uint32_t id)
{
    worker->dp = dp;
    worker->reader = &dp->qsbr.readers[id];
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
    provider_timers(&host);
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

static uint32_t worker_receive(struct worker *worker, struct port *port, uint32_t queue)
{
    worker->io.batch.n = 0;
    uint32_t received = port->ops->rx(port, &worker->io, queue, &worker->io.batch);
    worker_forward(worker, port);
    return received;
}

uint32_t worker_round(struct worker *worker, uint64_t now)
{
    const struct dp *dp = worker->dp;
    uint32_t received = 0;
    worker->io.now = now;
    worker_timers(worker);
    for (uint32_t id = 0; id < DP_MAX_PORTS; id++) {
        struct port *port = dp_port(dp, id);
        for (uint32_t q = worker->io.id; port && q < port->queues; q += dp->config.workers)
            received += worker_receive(worker, port, q);
    }
    return received;
}

/* ---- threads ------------------------------------------------------------------------------------------------ */

enum { EVENTS = 64 };

/* What an epoll event is about: a port's queue, or WORKER_WAKE_EVENT. */
static uint64_t worker_event_make(uint32_t port, uint32_t queue) { return (uint64_t)port << 32 | queue; }

static uint64_t worker_clock_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Milliseconds to the next timer, rounded up; -1: none. Timers are worker 0's. */
static int worker_timeout(const struct worker *worker)
{
    if (worker->io.id != 0)
        return -1;
    uint64_t due = neigh_next_timer(worker->dp->neigh), now = worker_clock_now();
    if (due == UINT64_MAX)
        return -1;
    uint64_t ms = due > now ? (due - now + 999999) / 1000000 : 0;
    return ms < INT_MAX ? (int)ms : INT_MAX;
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
    return n;
}

/* A descriptor whose device is gone reports an error for ever, and would keep us awake; one whose device went down reports it once. */
static void worker_ignore_if_dead(const struct worker *worker, int fd)
{
    struct pollfd poll_fd = {.fd = fd};
    if (poll(&poll_fd, 1, 0) > 0)
        epoll_ctl(worker->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

static uint32_t worker_handle_event(struct worker *worker, const struct epoll_event *event)
{
    if (event->data.u64 == WORKER_WAKE_EVENT) {
        wake_swallow(worker->wake_fd);
        return 0;
    }
    uint32_t queue = (uint32_t)event->data.u64;
    struct port *port = dp_port(worker->dp, (uint32_t)(event->data.u64 >> 32));
    if (!port || queue >= port->queues)
        return 0;
    worker->io.now = worker_clock_now();
    uint32_t received = worker_receive(worker, port, queue);
    if (received == 0 && event->events & (EPOLLERR | EPOLLHUP))
        worker_ignore_if_dead(worker, port->fds[queue]);
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
    qsbr_online(worker->reader);
    while (!atomic_load_explicit(&dp->stopping, memory_order_acquire)) {
        int n = worker_wait_events(worker, events, busy);
        uint32_t received = 0;
        worker->io.now = worker_clock_now();
        worker_timers(worker);
        for (int i = 0; i < n; i++)
            received += worker_handle_event(worker, &events[i]);
        qsbr_quiescent(worker->reader);
        if (received)
            last = worker->io.now;
        busy = received || worker->io.now - last < spin;
    }
    qsbr_offline(worker->reader);
    return NULL;
}

int worker_listen(struct dp *dp, const struct port *port)
{
    for (uint32_t q = 0; q < port->queues; q++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = worker_event_make(port->id, q)};
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
