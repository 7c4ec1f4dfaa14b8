/* turn.c: a receive queue's turn, and the parts of a super-packet that is too much for one. See turn.h. */
#include "port/turn.h"
#include "pkt/offload.h"
#include "pkt/parse.h"
#include "step/gso.h"

/*
 * The batch's last packet, if it is a super-packet of more segments than a turn may have, becomes its first
 * part. The whole stays with the queue, and its other parts are the queue's next turns. What is refused goes
 * on as it is, to where that is counted; so does what there is no slot for.
 */
static void turn_begin_parts(struct io *io, struct port_rxq *rxq)
{
    struct pkt *pkt = &io->batch.pkt[io->batch.n - 1];
    bool fits = pkt->gso == DP_GSO_NONE || pkt->len <= pkt->gso_size * (uint32_t)IO_SEGMENTS;
    if (fits || parse_frame(pkt) || offload_check(io->pool.arena, pkt) || gso_segments(pkt) <= IO_SEGMENTS)
        return;
    rxq->whole = *pkt;
    rxq->cut = gso_begin(io->pool.arena, &rxq->whole);
    if (!gso_part(&io->pool, &rxq->cut, IO_SEGMENTS, pkt)) /* 1.6.8 */
        rxq->whole.slots = 0;
}

static void turn_next_part(struct io *io, struct port_rxq *rxq)
{
    io_originated(io, rxq->port->id, 1);
    if (gso_part(&io->pool, &rxq->cut, IO_SEGMENTS, io->batch.pkt))
        io->batch.n = 1;
    else
        io_drop(io, &rxq->whole, DROP_NO_SLOT); /* 4.5.1 */
}

uint32_t turn_begin(struct io *io, struct port_rxq *rxq)
{
    io->batch.n = 0;
    if (rxq->whole.slots) {
        turn_next_part(io, rxq);
        return 1;
    }
    rxq->more = io->turn_over = false;
    const uint32_t received = rxq->port->ops->rx(rxq, io);
    rxq->heavy = io->turn_over;
    if (io->turn_over && io->batch.n)
        turn_begin_parts(io, rxq);
    return received;
}

void turn_end(struct io *io, struct port_rxq *rxq)
{
    if (rxq->whole.slots && rxq->cut.left == 0)
        pool_pkt_free(&io->pool, &rxq->whole);
    rxq->more |= rxq->whole.slots != 0;
}
