/*
 * port_reader.h: one packet a system call, scattered into armed slots: virtio-net header, slots, and worker's
 * bin for what has no room in them. Narrow it waits with one slot, and the rare long packet is copied out of
 * the bin; wide with as many as the longest packet needs, while such packets come. Called by port_tap.c and
 * port_packet.c.
 */
#ifndef PORT_READER_H
#define PORT_READER_H
#include <sys/uio.h>
#include "port/io.h"

/* Short packets in a row until it is narrow again. */
enum { READER_WIDE = 16 };

struct port_reader {
    struct vnet_hdr hdr;
    uint32_t wide;                      /* more short packets until it is narrow */
    struct port_armed armed;
    uint32_t laid;                      /* slots in iov, the bin behind them */
    struct iovec iov[1 + PORT_ARMED + 1];
};

static inline void port_reader_disarm(struct port_reader *reader, struct pool *pool, uint32_t keep)
{
    port_disarm(&reader->armed, pool, keep);
    reader->laid = 0;
}

/* Lays out reader->iov for the next packet; returns its entries. */
static inline int port_reader_ready(struct port_reader *reader, struct io *io)
{
    const struct arena *arena = io->pool.arena;
    struct port_armed *armed = &reader->armed;
    uint32_t used = armed->used;
    if (!reader->wide && armed->n > 1)
        port_reader_disarm(reader, &io->pool, 1);
    port_arm(armed, &io->pool, reader->wide ? PORT_ARMED : 1);
    for (uint32_t i = 0; i < armed->n; i++) {
        if (i >= used && i < reader->laid)
            continue;
        uint8_t *bytes = i ? arena_slot(arena, armed->slots[i]) : pool_data(arena, armed->slots[i]);
        reader->iov[1 + i] = (struct iovec){bytes, i ? POOL_SLOT : POOL_HEAD_MAX};
    }
    if (armed->n != reader->laid || armed->n == 0) {
        reader->iov[0] = (struct iovec){&reader->hdr, sizeof reader->hdr};
        reader->iov[1 + armed->n] = (struct iovec){io->bin, POOL_FRAME_MAX};
        reader->laid = armed->n;
    }
    return (int)armed->n + 2;
}

/* What came with a header and `got` bytes in all as a packet; the reason to drop it, or DROP_NONE. */
static inline enum drop port_reader_take(struct port_reader *reader, struct io *io, size_t got,
                                         struct pkt *pkt)
{
    struct port_armed *armed = &reader->armed;
    uint32_t len = got > sizeof reader->hdr ? (uint32_t)(got - sizeof reader->hdr) : 0;
    armed->used = port_fill(&io->pool, armed->slots, armed->n, pkt, len, io->bin);
    if (len > POOL_HEAD_MAX)
        reader->wide = READER_WIDE;
    else if (reader->wide)
        reader->wide--;
    return armed->used ? port_vnet_read(pkt, &reader->hdr) : port_refused(len);
}

#endif
