/*
 * port.c: what all kinds of port share: offloads on the way out, the virtio-net header, receiving into slots.
 */
#include "port/port.h"
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <sys/uio.h>
#include "pkt/offload.h"

enum { PORT_LINE = 64 };                /* a queue shares none with another's */

static void *port_queue_new(size_t size)
{
    size = (size + PORT_LINE - 1) / PORT_LINE * PORT_LINE;
    void *queue = aligned_alloc(PORT_LINE, size);
    return queue ? memset(queue, 0, size) : NULL;
}

int port_queues_new(struct port *port, size_t rxq, size_t txq)
{
    for (uint32_t q = 0; q < port->queues; q++) {
        struct port_rxq *queue = port->rxqs[q] = port_queue_new(rxq);
        if (!queue)
            break;
        *queue = (struct port_rxq){.port = port, .id = q, .fd = port->fds[q]};
    }
    for (uint32_t w = 0; w < port->workers; w++) {
        struct port_txq *queue = port->txqs[w] = port_queue_new(txq);
        if (!queue)
            break;
        *queue = (struct port_txq){.port = port, .id = w, .fd = port->fds[w % port->queues]};
    }
    if (port->rxqs[port->queues - 1] && port->txqs[port->workers - 1])
        return DP_OK;
    port_queues_free(port);
    return DP_ENOMEM;
}

void port_queues_free(struct port *port)
{
    for (uint32_t q = 0; q < DP_MAX_FDS; q++) {
        free(port->rxqs[q]);
        port->rxqs[q] = NULL;
    }
    for (uint32_t w = 0; w < DP_MAX_WORKERS; w++) {
        free(port->txqs[w]);
        port->txqs[w] = NULL;
    }
}

/*
 * Segmenting was the path's business: here a super-packet that the port can't take is a bug that must not
 * reach the wire.
 */
enum drop port_prepare(const struct port *port, struct pool *pool, struct pkt *pkt)
{
    if (!port_takes_gso(port, pkt)) /* 4.5.4 */
        return DROP_TX_ERROR;
    /* 4.2.4 */
    if (pkt->flags & PKT_PARTIAL && !(port->caps & PORT_CSUM) && !offload_finish(pool->arena, pkt))
        return DROP_TX_ERROR;
    return port->ops->keeps && !pool_pkt_own(pool, pkt) ? DROP_NO_SLOT : DROP_NONE;
}

int port_iov(const struct port *port, struct pool *pool, struct pkt *pkt, struct iovec *iov)
{
    int n = pkt_iov(pool->arena, pkt, 0, pkt->len, iov, (int)port->max_segs);
    if (__builtin_expect(n < 0, 0) && pool_pkt_flat(pool, pkt))
        n = pkt_iov(pool->arena, pkt, 0, pkt->len, iov, (int)port->max_segs);
    return n > 0 ? n : 0;
}

/*
 * hdr_len is a hint, and known to lie; it is never used. A valid checksum (DATA_VALID) is not believed, only
 * passed on.
 */
enum drop port_vnet_read(struct pkt *pkt, const struct vnet_hdr *hdr)
{
    if (hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
        pkt->flags |= PKT_PARTIAL;
        pkt->csum_start = hdr->csum_start;
        pkt->csum_offset = hdr->csum_offset;
    }
    switch (hdr->gso_type) {
    case VIRTIO_NET_HDR_GSO_NONE:
        return DROP_NONE;
    case VIRTIO_NET_HDR_GSO_TCPV4:
    case VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN:
        pkt->gso = DP_GSO_TCP4;
        break;
    case VIRTIO_NET_HDR_GSO_TCPV6:
    case VIRTIO_NET_HDR_GSO_TCPV6 | VIRTIO_NET_HDR_GSO_ECN:
        pkt->gso = DP_GSO_TCP6;
        break;
    case PORT_VNET_UDP:
        pkt->gso = DP_GSO_UDP;
        break;
    default: /* 4.5.2 */
        return DROP_BAD_OFFLOAD;
    }
    pkt->gso_size = hdr->gso_size;
    return DROP_NONE;
}

/*
 * A super-packet's type, and the length of its L4 header. Of TCP's CWR, which only the first segment may
 * have, the kernel must know.
 */
static uint8_t port_vnet_type(const struct pkt *pkt, uint16_t *len)
{
    uint8_t type = pkt->gso == DP_GSO_TCP4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
    *len = pkt->gso == DP_GSO_UDP ? UDP_LEN : TCP_LEN;
    if (pkt->gso == DP_GSO_UDP)
        return PORT_VNET_UDP;
    if (pkt_has(pkt, pkt->csum_start + TCP_LEN)) {
        const uint8_t *tcp = pkt->data + pkt->csum_start;
        *len = (uint16_t)((tcp[12] >> 4) * 4);
        type |= tcp[13] & 0x80 ? VIRTIO_NET_HDR_GSO_ECN : 0;
    }
    return type;
}

void port_vnet_write(const struct pkt *pkt, struct vnet_hdr *hdr)
{
    *hdr = (struct vnet_hdr){0};
    if (!(pkt->flags & PKT_PARTIAL))
        return;
    hdr->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    hdr->csum_start = pkt->csum_start;
    hdr->csum_offset = pkt->csum_offset;
    hdr->hdr_len = (uint16_t)(pkt->csum_start + pkt->csum_offset + 2);
    if (!pkt->gso)
        return;
    uint16_t l4_len;
    hdr->gso_type = port_vnet_type(pkt, &l4_len);
    hdr->gso_size = pkt->gso_size;
    hdr->hdr_len = (uint16_t)(pkt->csum_start + l4_len);
}

void port_arm(struct port_armed *armed, struct pool *pool, uint32_t want)
{
    uint32_t slot;
    bool short_of_slots = false;        /* so n has become less: it must show, also if there are some now */
    while (armed->used) {
        slot = pool_get(pool);
        short_of_slots |= slot == POOL_NONE;
        if (slot == POOL_NONE && armed->n > armed->used)
            slot = armed->slots[--armed->n];
        if (slot == POOL_NONE)
            armed->n = armed->used = 0;
        else
            armed->slots[--armed->used] = slot;
    }
    while (!short_of_slots && armed->n < want && (slot = pool_get(pool)) != POOL_NONE)
        armed->slots[armed->n++] = slot;
}

void port_disarm(struct port_armed *armed, struct pool *pool, uint32_t keep)
{
    uint32_t least = keep > armed->used ? keep : armed->used;
    while (armed->n > least)
        pool_put(pool, armed->slots[--armed->n]);
    if (keep == 0)
        armed->n = armed->used = 0;
}

uint32_t port_fill(struct pool *pool, const uint32_t *slots, uint32_t n, struct pkt *pkt, uint32_t len,
                   const uint8_t *beyond)
{
    *pkt = (struct pkt){.len = len};
    if (n == 0 || len > POOL_FRAME_MAX)
        return 0;
    uint32_t used = 1, head = len < POOL_HEAD_MAX ? len : POOL_HEAD_MAX, left = len - head;
    for (; left && used < n; used++) {
        uint32_t take = left < POOL_SLOT ? left : POOL_SLOT;
        pool->arena->segs[slots[used - 1]] = (struct seg){slots[used], 0, (uint16_t)take};
        left -= take;
    }
    int more = pool_grow(pool, slots[used - 1], left);
    if (more < 0)
        return 0;
    pkt->data = pool_data(pool->arena, slots[0]);
    pkt->slot = slots[0];
    pkt->slots = (uint16_t)(used + (uint32_t)more);
    pkt->head = (uint16_t)head;
    pkt_write(pool->arena, pkt, len - left, beyond, left);
    return used;
}
