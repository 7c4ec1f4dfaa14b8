/*
 * port_packet.c: AF_PACKET sockets with virtio-net headers, many packets a system call.
 *
 * How long a packet is shows only when it is there. A burst is received narrow, one slot a message and a tail buffer of the queue's
 * behind it that is copied in the rare case, until a packet longer than a slot came; then wide, with slots for the longest
 * packet behind each of fewer messages, until no such packet came.
 */
#include <errno.h>
#include <linux/if_packet.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include "port/io.h"

enum {
    WIDE_MSGS = 16,
    RX_SLOTS = WIDE_MSGS * POOL_CHAIN_MAX,
    RX_IOVS = WIDE_MSGS * (1 + POOL_CHAIN_MAX),
    TAIL = POOL_FRAME_MAX - POOL_HEAD_MAX,
    CONTROL = CMSG_SPACE(sizeof(struct tpacket_auxdata)),
};
_Static_assert((int)RX_SLOTS >= (int)DP_BATCH && (int)RX_IOVS >= 3 * (int)DP_BATCH, "a narrow burst fits too");

struct packet_queue {
    struct mmsghdr msgs[DP_BATCH];
    struct vnet_hdr hdrs[DP_BATCH];
    struct iovec iov[RX_IOVS];
    _Alignas(struct cmsghdr) uint8_t control[DP_BATCH][CONTROL];
    uint32_t slots[RX_SLOTS];           /* `width` of them a message */
    uint32_t taken[DP_BATCH];           /* of them: 0 or `width` */
    uint32_t width;                     /* 1 or POOL_CHAIN_MAX */
    uint8_t (*tails)[TAIL];             /* DP_BATCH of them, memory only once used */
};

/* Message i: virtio-net header, slots, tail; or, short of slots, the bin. */
static struct iovec *lay_out(struct packet_queue *queue, struct io *io, uint32_t i, struct iovec *iov)
{
    struct msghdr *msg = &queue->msgs[i].msg_hdr;
    uint32_t *slots = queue->slots + i * queue->width;
    *msg = (struct msghdr){.msg_iov = iov, .msg_control = queue->control[i], .msg_controllen = CONTROL};
    *iov++ = (struct iovec){&queue->hdrs[i], sizeof queue->hdrs[i]};
    uint32_t got = port_take_slots(&io->pool, slots, queue->width);
    queue->taken[i] = got;
    if (got == queue->width) {
        port_slots_iov(io->pool.arena, slots, got, iov);
        iov += got;
        if (got == 1)
            *iov++ = (struct iovec){queue->tails[i], TAIL};
    } else {
        while (queue->taken[i])
            pool_put(&io->pool, slots[--queue->taken[i]]);
        *iov++ = (struct iovec){io->bin, POOL_FRAME_MAX};
    }
    msg->msg_iovlen = (size_t)(iov - msg->msg_iov);
    return iov;
}

/* Chains the packet of message i; a tail moves into slots of its own. Returns the slots it used. */
static uint32_t fill(struct packet_queue *queue, struct io *io, uint32_t i, struct pkt *pkt, uint32_t len)
{
    const struct arena *arena = io->pool.arena;
    uint32_t *slots = queue->slots + i * queue->width;
    if (queue->width > 1 || queue->taken[i] == 0 || len <= POOL_HEAD_MAX || len > POOL_FRAME_MAX)
        return port_fill(arena, slots, queue->taken[i], pkt, len);
    uint32_t chain[POOL_CHAIN_MAX] = {slots[0]};
    uint32_t beyond = (len - POOL_HEAD_MAX + POOL_SLOT - 1) / POOL_SLOT;
    uint32_t got = port_take_slots(&io->pool, chain + 1, beyond);
    if (port_fill(arena, chain, 1 + got, pkt, len)) {
        pkt_write(arena, pkt, POOL_HEAD_MAX, queue->tails[i], len - POOL_HEAD_MAX);
        return 1;
    }
    while (got)
        pool_put(&io->pool, chain[got--]);
    return 0;
}

/* The kernel takes the tag off before the socket sees the frame. */
static void restore_vlan(struct pkt *pkt, struct msghdr *msg)
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

/* Message i as the packet pkt, whose slots are its own from here on; the message's other slots go back. */
static enum drop receive(struct packet_queue *queue, struct io *io, uint32_t i, struct pkt *pkt)
{
    uint32_t got = queue->msgs[i].msg_len;
    uint32_t len = got > sizeof queue->hdrs[i] ? got - (uint32_t)sizeof queue->hdrs[i] : 0;
    uint32_t used = fill(queue, io, i, pkt, len);
    for (uint32_t s = used; s < queue->taken[i]; s++)
        pool_put(&io->pool, queue->slots[i * queue->width + s]);
    if (!used)
        return port_refused(len);
    enum drop drop = port_vnet_read(pkt, &queue->hdrs[i]);
    restore_vlan(pkt, &queue->msgs[i].msg_hdr);
    return drop;
}

/* EINVAL is how the kernel says that it had, and lost, a packet whose segmentation a virtio-net header can't express. */
static void lost_one(struct port *port, struct io *io, struct port_count *count)
{
    struct pkt pkt = {.in_port = (uint16_t)port->id};
    port_count(count, &pkt);
    io_drop(io, &pkt, DROP_BAD_OFFLOAD);
}

static uint32_t packet_rx(struct port *port, struct io *io, uint32_t q, struct batch *batch)
{
    struct packet_queue *queue = &((struct packet_queue *)port->state)[q];
    struct port_count count = {0};
    struct iovec *iov = queue->iov;
    uint32_t want = queue->width > 1 && io->batch_limit > WIDE_MSGS ? WIDE_MSGS : io->batch_limit;
    for (uint32_t i = 0; i < want; i++)
        iov = lay_out(queue, io, i, iov);
    int result = recvmmsg(port->fds[q], queue->msgs, want, MSG_DONTWAIT | MSG_TRUNC, NULL);
    uint32_t got = result > 0 ? (uint32_t)result : 0;
    if (result < 0 && errno == EINVAL)
        lost_one(port, io, &count);
    for (uint32_t i = got; i < want; i++)
        while (queue->taken[i])
            pool_put(&io->pool, queue->slots[i * queue->width + --queue->taken[i]]);
    bool wide = false;
    for (uint32_t i = 0; i < got; i++) {
        struct pkt *pkt = &batch->pkt[batch->n];
        enum drop drop = receive(queue, io, i, pkt);
        pkt->time = io->now;
        wide |= pkt->len > POOL_HEAD_MAX;
        io_received(io, port, pkt, drop, &count);
    }
    queue->width = wide ? POOL_CHAIN_MAX : 1;
    port_count_rx(port, io, &count);
    return (uint32_t)count.packets;
}

/* Packets of one sendmmsg(). */
struct outgoing {
    uint32_t n;
    struct pkt *pkts[DP_BATCH];
    struct mmsghdr msgs[DP_BATCH];
    struct vnet_hdr hdrs[DP_BATCH];
    struct iovec iov[DP_BATCH][1 + POOL_CHAIN_MAX];
};

static void gather(struct outgoing *out, const struct arena *arena, struct pkt *pkt)
{
    uint32_t i = out->n++;
    struct iovec *iov = out->iov[i];
    out->pkts[i] = pkt;
    port_vnet_write(pkt, &out->hdrs[i]);
    iov[0] = (struct iovec){&out->hdrs[i], sizeof out->hdrs[i]};
    int n = pkt_iov(arena, pkt, 0, pkt->len, iov + 1, POOL_CHAIN_MAX);
    out->msgs[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = iov, .msg_iovlen = (size_t)n + 1}};
}

/* A packet that fails is dropped and the rest goes on; a full socket buffer will not have emptied for the rest. */
static void send_all(const struct port *port, struct io *io, struct outgoing *out, struct port_count *count)
{
    uint32_t done = 0;
    while (done < out->n) {
        int sent = sendmmsg(port->fds[io->id % port->queues], out->msgs + done, out->n - done, MSG_DONTWAIT);
        for (int i = 0; i < sent; i++, done++) {
            port_count(count, out->pkts[done]);
            pool_pkt_free(&io->pool, out->pkts[done]);
        }
        if (sent > 0)
            continue;
        bool buffer_full = errno == EAGAIN;
        enum drop drop = buffer_full || errno == ENOBUFS ? DROP_TX_FULL : DROP_TX_ERROR;
        do
            io_drop(io, out->pkts[done++], drop);
        while (buffer_full && done < out->n);
    }
    out->n = 0;
}

static void packet_tx(struct port *port, struct io *io, struct pkt *const *pkts, uint32_t n)
{
    struct port_count count = {0};
    struct outgoing out;
    out.n = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!io_dropped(io, pkts[i], port_prepare(port, pkts[i])))
            gather(&out, io->pool.arena, pkts[i]);
        if (out.n == DP_BATCH)
            send_all(port, io, &out, &count);
    }
    send_all(port, io, &out, &count);
    port_count_tx(port, io, &count);
}

static void packet_detach(struct port *port)
{
    struct packet_queue *queues = port->state;
    for (uint32_t q = 0; q < port->queues; q++)
        free(queues[q].tails);
    free(queues);
}

int port_packet_attach(struct port *port)
{
    static const struct port_ops ops = {packet_rx, packet_tx, packet_detach};
    struct packet_queue *queues = calloc(port->queues, sizeof *queues);
    if (!queues)
        return DP_ENOMEM;
    port->ops = &ops;
    port->state = queues;
    for (uint32_t q = 0; q < port->queues; q++) {
        queues[q].width = 1;
        if (!(queues[q].tails = calloc(DP_BATCH, sizeof *queues[q].tails))) {
            packet_detach(port);
            return DP_ENOMEM;
        }
    }
    return DP_OK;
}
