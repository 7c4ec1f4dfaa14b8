/* xsk.c: the rings of an AF_XDP socket. See xsk.h. */
#include "port/xsk.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

enum { XSK_A_CALL = 32, XSK_TRIES = 50 };       /* packets; milliseconds to be done with what was sent */

#ifndef SOL_XDP
#define SOL_XDP 283
#endif

/* ---- slots that the kernel has ----------------------------------------------------------------- */

static void xsk_mark(uint64_t *marks, uint32_t slot) { marks[slot / 64] |= 1ull << slot % 64; }

static bool xsk_is_marked(const uint64_t *marks, uint64_t slot) { return marks[slot / 64] >> slot % 64 & 1; }

/* False: the kernel names what it does not have. */
static bool xsk_returned(const struct xsk *xsk, uint64_t *marks, uint64_t address, uint32_t *slot)
{
    uint64_t number = address / POOL_SLOT;
    if (number >= xsk->arena->slots || !xsk_is_marked(marks, number))
        return false;
    marks[number / 64] &= ~(1ull << number % 64);
    *slot = (uint32_t)number;
    return true;
}

/* ---- rings ------------------------------------------------------------------------------------- */

static uint32_t xsk_load(const uint32_t *index) { return __atomic_load_n(index, __ATOMIC_ACQUIRE); }
static void xsk_publish(uint32_t *index, uint32_t at) { __atomic_store_n(index, at, __ATOMIC_RELEASE); }

static uint64_t *xsk_address(const struct xsk_ring *ring, uint32_t at)
{
    return (uint64_t *)ring->entries + at % XSK_RING;
}

static struct xdp_desc *xsk_desc(const struct xsk_ring *ring, uint32_t at)
{
    return (struct xdp_desc *)ring->entries + at % XSK_RING;
}

static int xsk_map(struct xsk_ring *ring, int fd, const struct xdp_ring_offset *at, size_t entry,
                   uint64_t offset)
{
    size_t len = at->desc + XSK_RING * entry;
    uint8_t *map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, (off_t)offset);
    if (map == MAP_FAILED)
        return DP_ESYS;
    *ring = (struct xsk_ring){.producer = (uint32_t *)(void *)(map + at->producer),
                              .consumer = (uint32_t *)(void *)(map + at->consumer),
                              .flags = (uint32_t *)(void *)(map + at->flags),
                              .entries = map + at->desc,
                              .map = map,
                              .map_len = len};
    return DP_OK;
}

static void xsk_unmap(struct xsk_ring *ring)
{
    if (ring->map)
        munmap(ring->map, ring->map_len);
}

static int xsk_map_all(struct xsk *xsk)
{
    const int fd = xsk->fd;
    struct xdp_mmap_offsets at;
    socklen_t len = sizeof at;
    if (getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &at, &len))
        return DP_ESYS;
    if (xsk_map(&xsk->rx, fd, &at.rx, sizeof(struct xdp_desc), XDP_PGOFF_RX_RING) ||
        xsk_map(&xsk->tx, fd, &at.tx, sizeof(struct xdp_desc), XDP_PGOFF_TX_RING) ||
        xsk_map(&xsk->fill, fd, &at.fr, sizeof(uint64_t), XDP_UMEM_PGOFF_FILL_RING) ||
        xsk_map(&xsk->done, fd, &at.cr, sizeof(uint64_t), XDP_UMEM_PGOFF_COMPLETION_RING))
        return DP_ESYS;
    return DP_OK;
}

int xsk_open(struct xsk *xsk, int fd, struct arena *arena)
{
    *xsk = (struct xsk){.fd = fd, .arena = arena};
    xsk->lent = calloc((arena->slots + 63) / 64, sizeof *xsk->lent);
    xsk->sent = calloc((arena->slots + 63) / 64, sizeof *xsk->sent);
    if (!xsk->lent || !xsk->sent)
        return DP_ENOMEM;
    return xsk_map_all(xsk);
}

void xsk_close(struct xsk *xsk, struct pool *pool)
{
    for (uint32_t tries = 0; xsk->in_flight && tries < XSK_TRIES; tries++) {
        xsk_kick(xsk);
        xsk_reap(xsk, pool);
        if (xsk->in_flight)
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    xsk_unmap(&xsk->rx);
    xsk_unmap(&xsk->tx);
    xsk_unmap(&xsk->fill);
    xsk_unmap(&xsk->done);
    for (uint32_t slot = 0; xsk->lent && slot < xsk->arena->slots; slot++)
        if (xsk_is_marked(xsk->lent, slot))
            pool_put(pool, slot);
    free(xsk->lent);
    free(xsk->sent);
}

/* ---- receiving --------------------------------------------------------------------------------- */

void xsk_fill(struct xsk *xsk, struct pool *pool)
{
    struct xsk_ring *fill = &xsk->fill;
    uint32_t slot, before = fill->at;
    while (xsk->filled < xsk->want && (slot = pool_get(pool)) != POOL_NONE) {
        *xsk_address(fill, fill->at++) = (uint64_t)slot * POOL_SLOT;
        xsk_mark(xsk->lent, slot);
        xsk->filled++;
    }
    if (fill->at != before)
        xsk_publish(fill->producer, fill->at);
}

void xsk_refill(struct xsk *xsk, struct io *io)
{
    xsk_fill(xsk, &io->pool);
    while (__builtin_expect(xsk->filled < xsk->want && io->batch.n, 0)) {
        io_drop(io, &io->batch.pkt[--io->batch.n], DROP_NO_SLOT); /* 4.5.1 */
        xsk_fill(xsk, &io->pool);
    }
}

/* What one descriptor names, linked behind what the packet has so far. False: it names what is not ours. */
static bool xsk_gather(struct xsk *xsk, const struct xdp_desc *desc, struct pkt *pkt, uint32_t *last)
{
    uint32_t slot;
    if (desc->addr % POOL_SLOT + desc->len > POOL_SLOT || !xsk_returned(xsk, xsk->lent, desc->addr, &slot))
        return false;
    xsk->filled--;
    if (pkt->slots == 0) {
        pkt->data = xsk->arena->base + desc->addr;
        __builtin_prefetch(pkt->data);  /* another CPU has written it */
        pkt->slot = slot;
        pkt->head = (uint16_t)desc->len;
    } else {
        uint16_t offset = (uint16_t)(desc->addr % POOL_SLOT);
        xsk->arena->segs[*last] = (struct seg){slot, offset, (uint16_t)desc->len};
    }
    pkt->slots++;
    pkt->len += desc->len;
    *last = slot;
    return true;
}

bool xsk_receive(struct xsk *xsk, struct pool *pool, struct pkt *pkt)
{
    struct xsk_ring *rx = &xsk->rx;
    uint32_t end = xsk_load(rx->producer), last = POOL_NONE;
    bool more = true, whole = true;
    *pkt = (struct pkt){0};
    if (rx->at == end)
        return false;
    while (more && rx->at != end) {
        const struct xdp_desc desc = *xsk_desc(rx, rx->at++);
        more = desc.options & XSK_MORE;
        whole &= xsk_gather(xsk, &desc, pkt, &last);
    }
    xsk_publish(rx->consumer, rx->at);
    if (more || !whole || pkt->slots > POOL_CHAIN_MAX)
        pool_pkt_free(pool, pkt);
    return true;
}

uint64_t xsk_lost(struct xsk *xsk)
{
    struct xdp_statistics now = {0};
    socklen_t len = sizeof now;
    if (getsockopt(xsk->fd, SOL_XDP, XDP_STATISTICS, &now, &len))
        return 0;
    uint64_t before = xsk->lost;
    xsk->lost = now.rx_dropped + now.rx_ring_full;
    return xsk->lost - before;
}

/* ---- sending ----------------------------------------------------------------------------------- */

bool xsk_send(struct xsk *xsk, struct pool *pool, const struct pkt *pkt)
{
    struct xsk_ring *tx = &xsk->tx;
    if (xsk->in_flight + pkt->slots > xsk->most)
        return false;
    const struct seg *segs = xsk->arena->segs;
    uint64_t address = (uint64_t)(pkt->data - xsk->arena->base);
    uint32_t slot = pkt->slot, len = pkt->head, left = pkt->len;
    for (uint32_t i = 0; i < pkt->slots; i++) {
        const struct seg next = segs[slot];
        if (left == 0) {
            pool_put(pool, slot);       /* it was cut off */
        } else {
            left -= len;
            *xsk_desc(tx, tx->at++) = (struct xdp_desc){address, len, left ? XSK_MORE : 0};
            xsk_mark(xsk->sent, slot);
            xsk->in_flight++;
        }
        slot = next.next;
        address = (uint64_t)slot * POOL_SLOT + next.off;
        len = left < next.len ? left : next.len;
    }
    xsk_publish(tx->producer, tx->at);
    return true;
}

void xsk_kick(struct xsk *xsk)
{
    const struct xsk_ring *tx = &xsk->tx;
    uint32_t left = tx->at - xsk_load(tx->consumer);
    /* A call sends at least so many; before Linux 6.16 what it has sent shows only at the end of all. */
    for (uint32_t calls = left / XSK_A_CALL + 1; left && calls; calls--) {
        if (sendto(xsk->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) == 0 || errno != EAGAIN)
            return;
        left = tx->at - xsk_load(tx->consumer);
    }
}

void xsk_reap(struct xsk *xsk, struct pool *pool)
{
    struct xsk_ring *done = &xsk->done;
    uint32_t slot, end = xsk_load(done->producer);
    if (done->at == end)
        return;
    while (done->at != end)
        if (xsk_returned(xsk, xsk->sent, *xsk_address(done, done->at++), &slot)) {
            pool_put(pool, slot);
            xsk->in_flight--;
        }
    xsk_publish(done->consumer, done->at);
}
