/*
 * port_reader.h: a message scattered into armed slots: virtio-net header, slots, and a buffer for what has no
 * room in them. How long a packet is shows only when it is there: a message waits with as many slots as
 * packets lately needed, and what the first longer one has more is copied out of the buffer. Called by
 * port_tap.c and port_packet.c.
 */
#ifndef PORT_READER_H
#define PORT_READER_H
#include <sys/uio.h>
#include "port/io.h"

/* Slots of jumbo frames; packets in a row that need fewer until one is enough. */
enum { READER_JUMBO = 3, READER_CALM = 16 };

/* Slots beyond the first that a queue's messages wait with. */
struct reader_span {
    uint32_t more;                      /* 0, those of jumbo frames, or those of the longest packet */
    uint32_t calm;                      /* so many packets more that need fewer, and it is 0 */
};

struct port_reader {
    struct vnet_hdr hdr;
    struct port_armed armed;
    uint32_t laid;                      /* slots in iov, the buffer behind them */
    struct iovec iov[1 + PORT_ARMED + 1];
};

static inline void reader_span_of(struct reader_span *span, uint32_t len)
{
    uint32_t more = 0;
    if (len > POOL_HEAD_MAX)
        more = (len <= POOL_HEAD_MAX + (READER_JUMBO - 1) * POOL_SLOT ? READER_JUMBO : PORT_ARMED) - 1;
    if (more >= span->more)
        *span = (struct reader_span){more, READER_CALM};
    else if (--span->calm == 0)
        span->more = 0;
}

static inline void port_reader_disarm(struct port_reader *reader, struct pool *pool, uint32_t keep)
{
    port_disarm(&reader->armed, pool, keep);
    reader->laid = 0;
}

/* Lays out reader->iov for the next packet, POOL_FRAME_MAX bytes at `beyond`; returns its entries. */
static inline int port_reader_ready(struct port_reader *reader, struct io *io, struct reader_span span,
                                    uint8_t *beyond)
{
    const struct arena *arena = io->pool.arena;
    struct port_armed *armed = &reader->armed;
    uint32_t used = armed->used;
    if (armed->n > 1 + span.more)
        port_reader_disarm(reader, &io->pool, 1 + span.more);
    port_arm(armed, &io->pool, 1 + span.more);
    for (uint32_t i = 0; i < armed->n; i++) {
        if (i >= used && i < reader->laid)
            continue;
        uint8_t *bytes = i ? arena_slot(arena, armed->slots[i]) : pool_data(arena, armed->slots[i]);
        reader->iov[1 + i] = (struct iovec){bytes, i ? POOL_SLOT : POOL_HEAD_MAX};
    }
    if (armed->n != reader->laid || armed->n == 0) {
        reader->iov[0] = (struct iovec){&reader->hdr, sizeof reader->hdr};
        reader->iov[1 + armed->n] = (struct iovec){beyond, POOL_FRAME_MAX};
        reader->laid = armed->n;
    }
    return (int)armed->n + 2;
}

/* What came with a header and `got` bytes in all as a packet; the reason to drop it, or DROP_NONE. */
static inline enum drop port_reader_take(struct port_reader *reader, struct io *io, struct reader_span *span,
                                         size_t got, struct pkt *pkt)
{
    struct port_armed *armed = &reader->armed;
    uint32_t len = got > sizeof reader->hdr ? (uint32_t)(got - sizeof reader->hdr) : 0;
    armed->used = port_fill(&io->pool, armed->slots, armed->n, pkt, len, reader->iov[1 + armed->n].iov_base);
    reader_span_of(span, len);
    return armed->used ? port_vnet_read(pkt, &reader->hdr) : port_refused(len);
}

#endif
