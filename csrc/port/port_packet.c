/*
 * port_packet.c: AF_PACKET sockets with virtio-net headers, many packets a system call. Called through
 * port.h's operations.
 *
 * How long a packet is shows only when it is there. Narrow, a call receives as many messages as lately came
 * at once, up to PACKET_MSGS, each into one armed slot and a tail buffer of the queue's behind it, which is
 * copied in the rare case. After a packet longer than a slot it is wide, one message a call into slots for
 * the longest packet, until none came for a while. What a narrow call received beyond a turn waits in its
 * slots for the next turn.
 */
#include <errno.h>
#include <linux/if_packet.h>
#include <stdlib.h>
#include <sys/socket.h>
#include "port/port_reader.h"

enum {
    PACKET_MSGS = 16,                   /* of one call: were all of the longest, 1 MiB */
    PACKET_LEAST = 2,
    PACKET_TAIL = POOL_FRAME_MAX - POOL_HEAD_MAX,
    PACKET_CONTROL = CMSG_SPACE(sizeof(struct tpacket_auxdata)),
};
_Static_assert((int)PACKET_MSGS <= (int)PORT_ARMED, "a slot each");

struct packet_control {
    _Alignas(struct cmsghdr) uint8_t bytes[PACKET_CONTROL];
};

struct packet_rxq {
    struct port_rxq queue;
    struct port_reader reader;          /* wide */
    struct packet_control reader_control;
    struct port_armed armed;            /* narrow: of message i, slot i; used are those before `at` */
    uint32_t want;                      /* messages of the next call */
    uint32_t laid;                      /* messages that are laid out */
    uint32_t at, got;                   /* messages received and not yet taken */
    struct mmsghdr msgs[PACKET_MSGS];
    struct vnet_hdr hdrs[PACKET_MSGS];
    struct iovec iov[PACKET_MSGS][3];
    struct packet_control control[PACKET_MSGS];
    uint8_t (*tails)[PACKET_TAIL];      /* PACKET_MSGS of them, memory only once used */
};

/* ---- receiving ------------------------------------------------------------------------------- */

static void packet_lay_out(struct packet_rxq *q, const struct arena *arena, uint32_t i)
{
    struct iovec *iov = q->iov[i];
    iov[0] = (struct iovec){&q->hdrs[i], sizeof q->hdrs[i]};
    iov[1] = (struct iovec){pool_data(arena, q->armed.slots[i]), POOL_HEAD_MAX};
    iov[2] = (struct iovec){q->tails[i], PACKET_TAIL};
    q->msgs[i].msg_hdr = (struct msghdr){
        .msg_iov = iov, .msg_iovlen = 3, .msg_control = &q->control[i], .msg_controllen = PACKET_CONTROL};
}

/*
 * Messages for the next call, only those laid out anew that were used. Returns how many, 0: no slot is free.
 */
static uint32_t packet_ready(struct packet_rxq *q, struct io *io)
{
    uint32_t used = q->armed.used;
    port_arm(&q->armed, &io->pool, q->want);
    for (uint32_t i = 0; i < q->armed.n; i++)
        if (i < used || i >= q->laid)
            packet_lay_out(q, io->pool.arena, i);
    q->laid = q->armed.n;
    return q->armed.n < q->want ? q->armed.n : q->want;
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

/* Only one of the two ways to receive has slots armed, but for those with messages in them. */
static void packet_widen(struct packet_rxq *q, struct pool *pool)
{
    q->reader.wide = READER_WIDE;
    port_disarm(&q->armed, pool, q->got);
    q->laid = q->got;
}

/*
 * The next message that a narrow call has received. A slot that its packet did not get goes back: the message
 * is laid out anew.
 */
static void packet_take(struct packet_rxq *q, struct io *io, struct port_count *count)
{
    uint32_t i = q->at++, got = q->msgs[i].msg_len;
    uint32_t len = got > sizeof q->hdrs[i] ? got - (uint32_t)sizeof q->hdrs[i] : 0;
    struct pkt *pkt = &io->batch.pkt[io->batch.n];
    if (len > POOL_HEAD_MAX)
        packet_widen(q, &io->pool);
    bool filled = port_fill(&io->pool, &q->armed.slots[i], 1, pkt, len, q->tails[i]);
    if (!filled)
        pool_put(&io->pool, q->armed.slots[i]);
    q->armed.used = q->at;
    enum drop drop = filled ? port_vnet_read(pkt, &q->hdrs[i]) : port_refused(len);
    packet_received(q, io, &q->msgs[i].msg_hdr, drop, count);
}

/* One message. False: there is none. */
static bool packet_read_wide(struct packet_rxq *q, struct io *io, struct port_count *count)
{
    struct port_reader *reader = &q->reader;
    struct msghdr msg = {.msg_iovlen = (size_t)port_reader_ready(reader, io), .msg_iov = reader->iov,
                         .msg_control = &q->reader_control, .msg_controllen = PACKET_CONTROL};
    ssize_t got = recvmsg(q->queue.fd, &msg, MSG_DONTWAIT | MSG_TRUNC);
    if (got < 0)
        return packet_lost_one(q->queue.port, io, count);
    enum drop drop = port_reader_take(reader, io, (size_t)got, &io->batch.pkt[io->batch.n]);
    packet_received(q, io, &msg, drop, count);
    return true;
}

/* Messages to be taken. False: when they are, there are no more. */
static bool packet_read_narrow(struct packet_rxq *q, struct io *io, struct port_count *count)
{
    if (q->reader.armed.n)
        port_reader_disarm(&q->reader, &io->pool, 0);
    uint32_t n = packet_ready(q, io);
    if (n == 0)
        return packet_read_wide(q, io, count);
    int got = recvmmsg(q->queue.fd, q->msgs, n, MSG_DONTWAIT | MSG_TRUNC, NULL);
    if (got < 0)
        return packet_lost_one(q->queue.port, io, count);
    q->at = 0;
    q->got = (uint32_t)got;
    if (q->got < q->want)
        return q->got == n;
    q->want = q->want < PACKET_MSGS / 2 ? q->want * 2 : PACKET_MSGS;
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
            more = q->reader.wide ? packet_read_wide(q, io, &count) : packet_read_narrow(q, io, &count);
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

static void packet_disarm(struct packet_rxq *q, struct pool *pool, uint32_t keep)
{
    port_reader_disarm(&q->reader, pool, 0);
    port_disarm(&q->armed, pool, keep);
    q->laid = 0;
}

static void packet_rest(struct port_rxq *rxq, struct pool *pool)
{
    struct packet_rxq *q = (struct packet_rxq *)rxq;
    if (q->at < q->got)
        return;                         /* it rests not */
    q->reader.wide = 0;
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
 * A packet that fails is dropped and the rest goes on; a full socket buffer will not have emptied for the
 * rest.
 */
static void packet_send(const struct port_txq *txq, struct io *io, struct packet_out *out,
                        struct port_count *count)
{
    uint32_t done = 0;
    while (done < out->n) {
        int sent = sendmmsg(txq->fd, out->msgs + done, out->n - done, MSG_DONTWAIT);
        for (int i = 0; i < sent; i++, done++) {
            port_count(count, out->pkts[done]);
            pool_pkt_free(&io->pool, out->pkts[done]);
        }
        if (sent > 0)
            continue;
        bool buffer_full = errno == EAGAIN;
        enum drop drop = buffer_full || errno == ENOBUFS ? DROP_TX_FULL : DROP_TX_ERROR; /* 4.5.3, 4.5.4 */
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
