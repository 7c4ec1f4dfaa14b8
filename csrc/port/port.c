/* port.c: what all kinds of port share: offloads on the way out, the virtio-net header, receiving into slots. */
#include "port/port.h"
#include <linux/virtio_net.h>
#include <sys/uio.h>
#include "pkt/offload.h"

/* Segmenting was the path's business: here a super-packet that the port can't take is a bug that must not reach the wire. */
enum drop port_prepare(const struct port *port, struct pkt *pkt)
{
    if (!port_takes_gso(port, pkt))
        return DROP_TX_ERROR;
    if (pkt->flags & PKT_PARTIAL && !(port->offloads & DP_OFFLOAD_CSUM) && !offload_finish(port->arena, pkt))
        return DROP_TX_ERROR;
    return DROP_NONE;
}

/* hdr_len is a hint, and known to lie; it is never used. A valid checksum (DATA_VALID) is not believed, only passed on. */
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
    default:
        return DROP_BAD_OFFLOAD;
    }
    pkt->gso_size = hdr->gso_size;
    return DROP_NONE;
}

/* Of a super-packet's TCP header: its length in bytes, and whether CWR is set, which only its first segment may have. */
static void tcp_facts(const struct pkt *pkt, uint16_t *len, bool *cwr)
{
    *len = TCP_LEN;
    *cwr = false;
    if (pkt_has(pkt, pkt->csum_start + TCP_LEN)) {
        const uint8_t *tcp = pkt->data + pkt->csum_start;
        *len = (uint16_t)((tcp[12] >> 4) * 4);
        *cwr = tcp[13] & 0x80;
    }
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
    uint16_t tcp_len;
    bool cwr;
    tcp_facts(pkt, &tcp_len, &cwr);
    hdr->gso_type = (uint8_t)((pkt->gso == DP_GSO_TCP4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6) | (cwr ? VIRTIO_NET_HDR_GSO_ECN : 0));
    hdr->gso_size = pkt->gso_size;
    hdr->hdr_len = (uint16_t)(pkt->csum_start + tcp_len);
}

uint32_t port_take_slots(struct pool *pool, uint32_t *slots, uint32_t n)
{
    uint32_t got = 0;
    while (got < n && (slots[got] = pool_get(pool)) != POOL_NONE)
        got++;
    return got;
}

void port_slots_iov(const struct arena *arena, const uint32_t *slots, uint32_t n, struct iovec *iov)
{
    if (n)
        iov[0] = (struct iovec){pool_data(arena, slots[0]), POOL_HEAD_MAX};
    for (uint32_t i = 1; i < n; i++)
        iov[i] = (struct iovec){arena_slot(arena, slots[i]), POOL_SLOT};
}

uint32_t port_fill(const struct arena *arena, const uint32_t *slots, uint32_t n, struct pkt *pkt, uint32_t len)
{
    uint32_t beyond = len > POOL_HEAD_MAX ? len - POOL_HEAD_MAX : 0;
    uint32_t used = 1 + (beyond + POOL_SLOT - 1) / POOL_SLOT;
    *pkt = (struct pkt){.len = len};
    if (used > n)
        return 0;
    pkt->data = pool_data(arena, slots[0]);
    pkt->slot = slots[0];
    pkt->slots = (uint16_t)used;
    pkt->head = (uint16_t)(len - beyond);
    for (uint32_t i = 0; i < used; i++)
        arena->next[slots[i]] = i + 1 < used ? slots[i + 1] : POOL_NONE;
    return used;
}
