/*
 * port_xdp.c: AF_XDP sockets, one a worker as far as the device has queues, beside AF_PACKET sockets that see
 * what the XDP program lets by. Called through port.h's operations.
 *
 * Receive queues are those of the AF_PACKET sockets, then those of the AF_XDP sockets. A worker that has an
 * AF_XDP socket sends by it, another by AF_PACKET. There is no metadata: checksums are complete, what was
 * received is one packet, and super-packets are cut before they come here.
 */
#include <errno.h>
#include <stdlib.h>
#include "port/xsk.h"

enum {
    XDP_ARMED = 1024,                   /* slots that wait for packets, a socket, and half as many to send */
    XDP_LEAST = 64,
    XDP_SHARE = 2,                      /* ... and all sockets together, of the arena: one in so many */
};

struct xdp_port {
    struct port_ops packet;             /* what AF_PACKET does */
    uint32_t sockets;                   /* AF_PACKET */
    uint32_t xsks;
    struct xsk xsk[];
};

static struct xdp_port *xdp_port_of(const struct port *port) { return port->state; }

/* NULL: an AF_PACKET queue. */
static struct xsk *xdp_of_rxq(const struct port_rxq *rxq)
{
    struct xdp_port *xdp = xdp_port_of(rxq->port);
    return rxq->id < xdp->sockets ? NULL : &xdp->xsk[rxq->id - xdp->sockets];
}

static struct xsk *xdp_of_txq(const struct port_txq *txq)
{
    struct xdp_port *xdp = xdp_port_of(txq->port);
    return txq->id < xdp->xsks ? &xdp->xsk[txq->id] : NULL;
}

static uint32_t xdp_rx(struct port_rxq *rxq, struct io *io)
{
    struct xsk *xsk = xdp_of_rxq(rxq);
    if (!xsk)
        return xdp_port_of(rxq->port)->packet.rx(rxq, io);
    struct port_count count = {0};
    struct pkt *pkt = &io->batch.pkt[0];
    while (!io_turn_over(io, rxq->port, &count) && xsk_receive(xsk, &io->pool, pkt)) {
        pkt->time = io->now;
        enum drop drop = pkt->slots ? DROP_NONE : DROP_BAD_OFFLOAD;     /* 4.5.2 */
        io_received(io, rxq->port, pkt, drop, &count);
        pkt = &io->batch.pkt[io->batch.n];
    }
    xsk_refill(xsk, io);
    port_count_rx(rxq->port, io, &count);
    return (uint32_t)count.packets;
}

static uint32_t xdp_reap(struct port_txq *txq, struct io *io)
{
    struct xsk *xsk = xdp_of_txq(txq);
    xsk_kick(xsk);
    uint32_t before = xsk->in_flight;
    xsk_reap(xsk, &io->pool);
    txq->in_flight = xsk->in_flight;
    return before - xsk->in_flight;
}

/* Has the kernel take packets that there was no room for at first; *full: it did not, lately. */
static bool xdp_queue(struct xsk *xsk, struct io *io, const struct pkt *pkt, bool *full)
{
    if (xsk_send(xsk, &io->pool, pkt))
        return true;
    if (*full)
        return false;
    xsk_kick(xsk);
    xsk_reap(xsk, &io->pool);
    *full = !xsk_send(xsk, &io->pool, pkt);
    return !*full;
}

/* In so many slots as the device takes at once. */
static enum drop xdp_prepare(const struct port *port, struct io *io, struct pkt *pkt)
{
    enum drop drop = port_prepare(port, &io->pool, pkt);
    if (drop || pkt->slots <= port->max_segs)
        return drop;
    if (pkt->len > POOL_HEAD_MAX)
        return DROP_TX_ERROR;           /* 4.5.4 */
    return pool_pkt_flat(&io->pool, pkt) ? DROP_NONE : DROP_NO_SLOT;    /* 4.5.1 */
}

static void xdp_tx(struct port_txq *txq, struct io *io, struct pkt *const *pkts, uint32_t n)
{
    struct xsk *xsk = xdp_of_txq(txq);
    if (!xsk) {
        xdp_port_of(txq->port)->packet.tx(txq, io, pkts, n);
        return;
    }
    struct port_count count = {0};
    bool full = false;
    xsk_reap(xsk, &io->pool);
    for (uint32_t i = 0; i < n; i++) {
        enum drop drop = xdp_prepare(txq->port, io, pkts[i]);
        if (!drop && !xdp_queue(xsk, io, pkts[i], &full))
            drop = DROP_TX_FULL;        /* 4.5.3 */
        if (!io_dropped(io, pkts[i], drop))
            port_count(&count, pkts[i]);
    }
    xsk_kick(xsk);
    xsk_reap(xsk, &io->pool);
    txq->in_flight = xsk->in_flight;
    port_count_tx(txq->port, io, &count);
}

static uint64_t xdp_lost(struct port_rxq *rxq)
{
    struct xsk *xsk = xdp_of_rxq(rxq);
    return xsk ? xsk_lost(xsk) : xdp_port_of(rxq->port)->packet.lost(rxq);
}

static void xdp_rest(struct port_rxq *rxq, struct pool *pool)
{
    struct xsk *xsk = xdp_of_rxq(rxq);
    if (xsk)
        xsk_fill(xsk, pool);
    else
        xdp_port_of(rxq->port)->packet.rest(rxq, pool);
}

static void xdp_reclaim(struct port *port, struct pool *pool)
{
    struct xdp_port *xdp = xdp_port_of(port);
    for (uint32_t i = 0; i < xdp->xsks; i++) {
        port->arena->lent -= xdp->xsk[i].want + xdp->xsk[i].most;
        xsk_close(&xdp->xsk[i], pool);
    }
    const struct port_ops packet = xdp->packet;
    free(xdp);
    packet.reclaim(port, pool);
}

/* Slots that wait with a socket are nobody else's: the more sockets there are, the fewer each gets. */
static int xdp_want(struct xsk *xsk)
{
    struct arena *arena = xsk->arena;
    uint32_t all = arena->slots / XDP_SHARE, share = all > arena->lent ? (all - arena->lent) / 3 : 0;
    if (share < XDP_LEAST)
        return DP_ENOMEM;
    xsk->want = share < XDP_ARMED ? share : XDP_ARMED;
    xsk->most = xsk->want / 2;
    arena->lent += xsk->want + xsk->most;
    return DP_OK;
}

/* The kernel does nothing with slots before packets are steered to the sockets. */
static int xdp_open(const struct port *port, struct xdp_port *xdp)
{
    struct pool pool;
    int error = DP_OK;
    for (; xdp->xsks < port->xsks && !error; xdp->xsks++) {
        struct xsk *xsk = &xdp->xsk[xdp->xsks];
        error = xsk_open(xsk, port->fds[xdp->sockets + xdp->xsks], port->arena);
        if (!error)
            error = xdp_want(xsk);
    }
    pool_init(&pool, port->arena);
    for (uint32_t i = 0; i < xdp->xsks && !error; i++) {
        xsk_fill(&xdp->xsk[i], &pool);
        if (xdp->xsk[i].filled < xdp->xsk[i].want)
            error = DP_ENOMEM;
    }
    pool_drain(&pool);
    return error;
}

int port_xdp_attach(struct port *port)
{
    static const struct port_ops ops = {.rx = xdp_rx, .tx = xdp_tx, .reap = xdp_reap, .lost = xdp_lost,
                                        .rest = xdp_rest, .reclaim = xdp_reclaim, .keeps = true};
    struct xdp_port *xdp = calloc(1, sizeof *xdp + port->xsks * sizeof xdp->xsk[0]);
    if (!xdp)
        return DP_ENOMEM;
    xdp->sockets = port->queues;
    port->queues += port->xsks;
    int error = port_packet_attach(port);
    if (error) {
        free(xdp);
        return error;
    }
    xdp->packet = *port->ops;
    port->ops = &ops;
    port->state = xdp;
    port->caps &= ~(uint32_t)PORT_VNET;
    port->max_segs = port->caps & PORT_XDP_SG ? POOL_CHAIN_MAX : 1;
    error = xdp_open(port, xdp);
    if (error) {
        int why = errno;
        struct pool pool;
        pool_init(&pool, port->arena);
        xdp_reclaim(port, &pool);
        pool_drain(&pool);
        errno = why;
    }
    return error;
}
