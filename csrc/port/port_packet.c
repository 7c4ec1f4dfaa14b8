/*
 * port_packet.c: AF_PACKET sockets with virtio-net headers, many packets a system call. Called through
 * port.h's operations.
 *
 * A call receives as many messages as lately came at once, up to PACKET_MSGS, each into as many armed slots
 * as packets lately needed (port_reader.h), up to PACKET_SLOTS in all. What it received beyond a turn waits
 * in its slots for the next turn.
 */
#include <errno.h>
#include <linux/if_packet.h>
#include <stdlib.h>
#include <sys/socket.h>
#include "port/port_reader.h"

enum {
    PACKET_MSGS = 16,                   /* of one call: were all of the longest, 1 MiB */
    PACKET_LEAST = 2,
    PACKET_SLOTS = PACKET_MSGS * READER_JUMBO,
    PACKET_CONTROL = CMSG_SPACE(sizeof(struct tpacket_auxdata)),
};
_Static_assert((int)PACKET_SLOTS >= (int)PORT_ARMED, "one of the longest");

struct packet_control {
    _Alignas(struct cmsghdr) uint8_t bytes[PACKET_CONTROL];
};

struct packet_rxq {
    struct port_rxq queue;
    struct reader_span span;
    uint32_t want;                      /* messages of the next call */
    uint32_t ready;                     /* messages that may have slots armed */
    uint32_t at, got;                   /* messages received and not yet taken */
    struct mmsghdr msgs[PACKET_MSGS];
    struct packet_control control[PACKET_MSGS];
    struct port_reader readers[PACKET_MSGS];
    uint8_t (*tails)[POOL_FRAME_MAX];   /* PACKET_MSGS of them, memory only once used */
};

/* ---- receiving ------------------------------------------------------------------------------- */

/* Gives back slots of all messages but the first `keep`, which have one. */
static void packet_disarm(struct packet_rxq *q, struct pool *pool, uint32_t keep)
{
    for (uint32_t i = 0; i < q->ready; i++)
        port_reader_disarm(&q->readers[i], pool, i < keep);
    q->ready = q->ready < keep ? q->ready : keep;
}

/*
 * Lays out messages for the next call. Returns how many: the first waits with the slots that there are, those
 * of the others too if there are few, and if with none, its packet is lost; the others with as many as they
 * should have.
 */
static uint32_t packet_ready(struct packet_rxq *q, struct io *io)
{
    uint32_t slots = 1 + q->span.more, n = 0;
    uint32_t want = q->want * slots <= PACKET_SLOTS ? q->want : PACKET_SLOTS / slots;
    for (uint32_t i = want; i < q->ready; i++)
        port_reader_disarm(&q->readers[i], &io->pool, 0);
    q->ready = want;
    for (; n < want; n++) {
        struct port_reader *reader = &q->readers[n];
        int iovs = port_reader_ready(reader, io, q->span, q->tails[n]);
        if (n == 0 && reader->armed.n < slots) {
            for (uint32_t i = 1; i < want; i++)
                port_reader_disarm(&q->readers[i], &io->pool, 0);
            iovs = port_reader_ready(reader, io, q->span, q->tails[n]);
        } else if (reader->armed.n < slots) {
            port_reader_disarm(reader, &io->pool, 0);
            q->want = PACKET_LEAST;
            break;
        }
        q->msgs[n].msg_hdr = (struct msghdr){.msg_iov = reader->iov, .msg_iovlen = (size_t)iovs,
                                             .msg_control = &q->control[n],
                                             .msg_controllen = PACKET_CONTROL};
    }
    return n;
}

/* The kernel takes the tag off before the socket sees the frame. */
static void packet_restore_vlan(struct pkt *pkt, struct msghdr *msg)
{
    const struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg);
    struct tpacket_auxdata aux;
    if (!cmsg || cmsg->cmsg_level != SOL_PACKET || cmsg->cmsg_type != PACKET_AUXDATA)
        return;
    memcpy(&aux, CMSG_DATA(cmsg), sizeof aux);
    if (!(aux.tp_status & TP_STATUS_VLAN_VALID) || !pkt_has(pkt, 12))
        return;
    uint8_t *data = pkt_push(pkt, VLAN_LEN);
    memmove(data, data + VLAN_LEN, 12);
    put16(data + 12, aux.tp_status & TP_STATUS_VLAN_TPID_VALID ? aux.tp_vlan_tpid : ETHERTYPE_VLAN);
    put16(data + 14, aux.tp_vlan_tci);
}

/*
 * EINVAL is how the kernel says that it had, and lost, a packet whose segmentation a virtio-net header can't
 * express.
 */
static bool packet_lost_one(const struct port *port, struct io *io, struct port_count *count)
{
    if (errno != EINVAL)
        return false;
    struct pkt pkt = {.in_port = (uint16_t)port->id};
    port_count(count, &pkt);
    io_drop(io, &pkt, DROP_BAD_OFFLOAD); /* 4.5.2 */
    return true;
}

static void packet_received(struct packet_rxq *q, struct io *io, struct msghdr *msg, enum drop drop,
                            struct port_count *count)
{
    struct pkt *pkt = &io->batch.pkt[io->batch.n];
    pkt->time = io->now;
    if (pkt->slots)
        packet_restore_vlan(pkt, msg);
    io_received(io, q->queue.port, pkt, drop, count);
}

/* The next message that was received. */
static void packet_take(struct packet_rxq *q, struct io *io, struct port_count *count)
{
    uint32_t i = q->at++;
    struct pkt *pkt = &io->batch.pkt[io->batch.n];
    enum drop drop = port_reader_take(&q->readers[i], io, &q->span, q->msgs[i].msg_len, pkt);
    packet_received(q, io, &q->msgs[i].msg_hdr, drop, count);
}

/* Messages to be taken. False: when they are, there are no more. */
static bool packet_read(struct packet_rxq *q, struct io *io, struct port_count *count)
{
    uint32_t n = packet_ready(q, io);
    int got = recvmmsg(q->queue.fd, q->msgs, n, MSG_DONTWAIT | MSG_TRUNC, NULL);
    if (got < 0)
        return packet_lost_one(q->queue.port, io, count);
    q->at = 0;
    q->got = (uint32_t)got;
    if (q->got < n)
        return false;
    if (n == q->want)
        q->want = n < PACKET_MSGS / 2 ? n * 2 : PACKET_MSGS;
    return true;
}

static uint32_t packet_rx(struct port_rxq *rxq, struct io *io)
{
    struct packet_rxq *q = (struct packet_rxq *)rxq;
    struct port_count count = {0};
    bool more = true;
    while (!io_turn_over(io, rxq->port, &count)) {
        if (q->at < q->got)
            packet_take(q, io, &count);
        else if (!more)
            break;
        else
            more = packet_read(q, io, &count);
    }
    rxq->more = q->at < q->got;
    port_count_rx(rxq->port, io, &count);
    return (uint32_t)count.packets;
}

/* Asking sets the kernel's count back to 0. */
static uint64_t packet_lost(struct port_rxq *rxq)
{
    struct tpacket_stats stats = {0};
    socklen_t size = sizeof stats;
    return getsockopt(rxq->fd, SOL_PACKET, PACKET_STATISTICS, &stats, &size) ? 0 : stats.tp_drops;
}

static void packet_rest(struct port_rxq *rxq, struct pool *pool)
{
    struct packet_rxq *q = (struct packet_rxq *)rxq;
    if (q->at < q->got)
        return;                         /* it rests not */
    q->span.more = 0;
    q->want = PACKET_LEAST;
    packet_disarm(q, pool, PACKET_LEAST);
}

/* ---- sending --------------------------------------------------------------------------------- */

/* Packets of one sendmmsg(). */
enum { PACKET_IOVS = 4 * DP_BATCH };
_Static_assert((int)PACKET_IOVS > (int)PORT_SEGS + 1, "the longest packet fits");

struct packet_out {
    uint32_t n, iovs;
    struct pkt *pkts[DP_BATCH];
    struct mmsghdr msgs[DP_BATCH];
    struct vnet_hdr hdrs[DP_BATCH];
    struct iovec iov[PACKET_IOVS];
};

static enum drop packet_gather(const struct port *port, struct io *io, struct packet_out *out,
                               struct pkt *pkt)
{
    enum drop drop = port_prepare(port, &io->pool, pkt);
    if (drop)
        return drop;
    uint32_t i = out->n;
    struct iovec *iov = out->iov + out->iovs;
    int n = port_iov(port, &io->pool, pkt, iov + 1);
    if (n == 0)
        return DROP_TX_ERROR;
    port_vnet_write(pkt, &out->hdrs[i]);
    iov[0] = (struct iovec){&out->hdrs[i], sizeof out->hdrs[i]};
    out->msgs[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = iov, .msg_iovlen = (size_t)n + 1}};
    out->pkts[i] = pkt;
    out->iovs += (uint32_t)n + 1;
    out->n++;
    return DROP_NONE;
}

/*
 * A packet that fails twice is dropped and the rest goes on: the first error may be another's, of a packet
 * that was received by the same socket. A full socket buffer will not have emptied for the rest.
 */
static void packet_send(const struct port_txq *txq, struct io *io, struct packet_out *out,
                        struct port_count *count)
{
    uint32_t done = 0, failed = UINT32_MAX;
    while (done < out->n) {
        int sent = sendmmsg(txq->fd, out->msgs + done, out->n - done, MSG_DONTWAIT);
        for (int i = 0; i < sent; i++, done++) {
            port_count(count, out->pkts[done]);
            pool_pkt_free(&io->pool, out->pkts[done]);
        }
        if (sent > 0)
            continue;
        bool buffer_full = errno == EAGAIN, is_full = buffer_full || errno == ENOBUFS;
        if (!is_full && failed != done) {
            failed = done;
            continue;
        }
        enum drop drop = is_full ? DROP_TX_FULL : DROP_TX_ERROR; /* 4.5.3, 4.5.4 */
        do
            io_drop(io, out->pkts[done++], drop);
        while (buffer_full && done < out->n);
    }
    out->n = out->iovs = 0;
}

static void packet_tx(struct port_txq *txq, struct io *io, struct pkt *const *pkts, uint32_t n)
{
    struct port_count count = {0};
    struct packet_out out;
    out.n = out.iovs = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (out.n == DP_BATCH || PACKET_IOVS - out.iovs < PORT_SEGS + 1)
            packet_send(txq, io, &out, &count);
        io_dropped(io, pkts[i], packet_gather(txq->port, io, &out, pkts[i]));
    }
    packet_send(txq, io, &out, &count);
    port_count_tx(txq->port, io, &count);
}

/* ---- the port -------------------------------------------------------------------------------- */

/* What was received and not taken yet goes uncounted, as if it were still in the socket. */
static void packet_reclaim(struct port *port, struct pool *pool)
{
    for (uint32_t q = 0; q < port->queues; q++) {
        struct packet_rxq *queue = (struct packet_rxq *)port->rxqs[q];
        packet_disarm(queue, pool, 0);
        free(queue->tails);
    }
    port_queues_free(port);
}

int port_packet_attach(struct port *port)
{
    static const struct port_ops ops = {.rx = packet_rx, .tx = packet_tx, .lost = packet_lost,
                                        .rest = packet_rest, .reclaim = packet_reclaim};
    port->ops = &ops;
    port->caps |= PORT_SG | PORT_VNET;
    port->max_segs = PORT_SEGS;
    if (port_queues_new(port, sizeof(struct packet_rxq), sizeof(struct port_txq)))
        return DP_ENOMEM;
    for (uint32_t q = 0; q < port->queues; q++) {
        struct packet_rxq *queue = (struct packet_rxq *)port->rxqs[q];
        queue->want = PACKET_LEAST;
        if (!(queue->tails = calloc(PACKET_MSGS, sizeof *queue->tails))) {
            packet_reclaim(port, NULL);
            return DP_ENOMEM;
        }
    }
    return DP_OK;
}
