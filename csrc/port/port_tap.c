/* port_tap.c: TAP queues with a virtio-net header. One packet a system call, scattered into slots and gathered from them. */
#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>
#include "port/io.h"

/* Slots that wait for a packet, always as many as the longest needs, if the pool has them. */
struct reader {
    struct vnet_hdr hdr;
    uint32_t n;
    uint32_t slots[POOL_CHAIN_MAX];
    struct iovec iov[1 + POOL_CHAIN_MAX + 1];
};

/* The next packet's bytes into the slots, what has no room into the bin. Returns its length, -1: none. */
static ssize_t read_one(struct reader *r, struct io *io, int fd)
{
    r->n += port_take_slots(&io->pool, r->slots + r->n, POOL_CHAIN_MAX - r->n);
    r->iov[0] = (struct iovec){&r->hdr, sizeof r->hdr};
    port_slots_iov(io->pool.arena, r->slots, r->n, r->iov + 1);
    r->iov[1 + r->n] = (struct iovec){io->bin, POOL_FRAME_MAX};
    ssize_t got = readv(fd, r->iov, (int)r->n + 2);
    return got < (ssize_t)sizeof r->hdr ? -1 : got - (ssize_t)sizeof r->hdr;
}

static uint32_t tap_rx(struct port *port, struct io *io, uint32_t q, struct batch *batch)
{
    struct reader r;
    struct port_count count = {0};
    ssize_t len;
    r.n = 0;
    while (count.packets < io->batch_limit && (len = read_one(&r, io, port->fds[q])) >= 0) {
        struct pkt *pkt = &batch->pkt[batch->n];
        uint32_t used = port_fill(io->pool.arena, r.slots, r.n, pkt, (uint32_t)len);
        enum drop drop = used ? port_vnet_read(pkt, &r.hdr) : port_refused(pkt->len);
        pkt->time = io->now;
        r.n -= used;
        memmove(r.slots, r.slots + used, r.n * sizeof *r.slots);
        io_received(io, port, pkt, drop, &count);
    }
    while (r.n)
        pool_put(&io->pool, r.slots[--r.n]);
    port_count_rx(port, io, &count);
    return (uint32_t)count.packets;
}

static enum drop write_one(const struct port *port, const struct io *io, const struct pkt *pkt)
{
    struct vnet_hdr hdr;
    struct iovec iov[1 + POOL_CHAIN_MAX] = {{&hdr, sizeof hdr}};
    port_vnet_write(pkt, &hdr);
    int n = pkt_iov(io->pool.arena, pkt, 0, pkt->len, iov + 1, POOL_CHAIN_MAX);
    ssize_t wrote = writev(port->fds[io->id % port->queues], iov, n + 1);
    if (wrote == (ssize_t)(sizeof hdr + pkt->len))
        return DROP_NONE;
    return wrote < 0 && (errno == EAGAIN || errno == ENOBUFS) ? DROP_TX_FULL : DROP_TX_ERROR;
}

static void tap_tx(struct port *port, struct io *io, struct pkt *const *pkts, uint32_t n)
{
    struct port_count count = {0};
    for (uint32_t i = 0; i < n; i++) {
        enum drop drop = port_prepare(port, pkts[i]);
        if (!drop)
            drop = write_one(port, io, pkts[i]);
        if (io_dropped(io, pkts[i], drop))
            continue;
        port_count(&count, pkts[i]);
        pool_pkt_free(&io->pool, pkts[i]);
    }
    port_count_tx(port, io, &count);
}

static void tap_detach(struct port *port)
{
    (void)port;
}

int port_tap_attach(struct port *port)
{
    static const struct port_ops ops = {tap_rx, tap_tx, tap_detach};
    port->ops = &ops;
    for (uint32_t q = 0; q < port->queues; q++) {
        int flags = fcntl(port->fds[q], F_GETFL);
        if (flags < 0)
            return DP_ESYS;
        if (!(flags & O_NONBLOCK))
            return DP_EINVAL;           /* readv() has no flag for it: an empty queue would hold up the worker */
    }
    return DP_OK;
}
