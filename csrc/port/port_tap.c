/*
 * port_tap.c: TAP queues with a virtio-net header. One packet a system call, scattered into slots and
 * gathered from segments. Called through port.h's operations.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include "port/port_reader.h"

/*
 * No `lost`: what the VM sent and nobody took in time is in its device's tx_dropped, which no descriptor
 * tells.
 */

enum { TAP_WORK = 2048 };   /* a system call for each packet: 32 small ones take an eighth of a millisecond */

struct tap_rxq {
    struct port_rxq queue;
    struct port_reader reader;
    struct reader_span span;
};

static uint32_t tap_rx(struct port_rxq *rxq, struct io *io)
{
    struct tap_rxq *q = (struct tap_rxq *)rxq;
    struct port_reader *reader = &q->reader;
    struct port_count count = {0};
    while (!io_turn_over(io, rxq->port, &count)) {
        int n = port_reader_ready(reader, io, q->span, io->bin);
        ssize_t got = readv(rxq->fd, reader->iov, n);
        if (got < (ssize_t)sizeof reader->hdr)
            break;
        struct pkt *pkt = &io->batch.pkt[io->batch.n];
        enum drop drop = port_reader_take(reader, io, &q->span, (size_t)got, pkt);
        pkt->time = io->now;
        io_received(io, rxq->port, pkt, drop, &count);
    }
    port_count_rx(rxq->port, io, &count);
    return (uint32_t)count.packets;
}

static enum drop tap_write(const struct port_txq *txq, struct io *io, struct pkt *pkt)
{
    struct vnet_hdr hdr;
    struct iovec iov[1 + PORT_SEGS] = {{&hdr, sizeof hdr}};
    port_vnet_write(pkt, &hdr);
    int n = port_iov(txq->port, &io->pool, pkt, iov + 1);
    ssize_t wrote = n ? writev(txq->fd, iov, n + 1) : 0;
    if (wrote == (ssize_t)(sizeof hdr + pkt->len))
        return DROP_NONE;
    /* 4.5.3, 4.5.4 */
    return wrote < 0 && (errno == EAGAIN || errno == ENOBUFS) ? DROP_TX_FULL : DROP_TX_ERROR;
}

static void tap_tx(struct port_txq *txq, struct io *io, struct pkt *const *pkts, uint32_t n)
{
    struct port_count count = {0};
    for (uint32_t i = 0; i < n; i++) {
        enum drop drop = port_prepare(txq->port, &io->pool, pkts[i]);
        if (!drop)
            drop = tap_write(txq, io, pkts[i]);
        if (io_dropped(io, pkts[i], drop))
            continue;
        port_count(&count, pkts[i]);
        pool_pkt_free(&io->pool, pkts[i]);
    }
    port_count_tx(txq->port, io, &count);
}

static void tap_rest(struct port_rxq *rxq, struct pool *pool)
{
    struct tap_rxq *q = (struct tap_rxq *)rxq;
    q->span.more = 0;
    port_reader_disarm(&q->reader, pool, 1);
}

static void tap_reclaim(struct port *port, struct pool *pool)
{
    for (uint32_t q = 0; q < port->queues; q++)
        port_reader_disarm(&((struct tap_rxq *)port->rxqs[q])->reader, pool, 0);
    port_queues_free(port);
}

int port_tap_attach(struct port *port)
{
    static const struct port_ops ops = {.rx = tap_rx, .tx = tap_tx, .rest = tap_rest,
                                        .reclaim = tap_reclaim, .work = TAP_WORK};
    port->ops = &ops;
    port->caps |= PORT_SG | PORT_VNET;
    port->max_segs = PORT_SEGS;
    for (uint32_t q = 0; q < port->queues; q++) {
        int flags = fcntl(port->fds[q], F_GETFL);
        if (flags < 0)
            return DP_ESYS;
        if (!(flags & O_NONBLOCK))
            return DP_EINVAL;           /* readv() has no flag for it: an empty queue would block */
    }
    return port_queues_new(port, sizeof(struct tap_rxq), sizeof(struct port_txq));
}
