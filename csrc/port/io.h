/*
 * io.h: a worker's way in and out: its slots, its counters, the batch that it received and the queues of what
 * leaves. The only ways on for a packet are here: dropped, consumed, sent. Called by ports, neighbours and
 * paths. Each worker has one and is its only user; the control thread uses worker 0's while workers are at
 * rest.
 */
#ifndef IO_H
#define IO_H
#include "base/addr.h"
#include "port/stats.h"
#include "pkt/pool.h"
#include "port/port.h"

enum { TXQ_MAX = 256 };

/*
 * What one turn of one queue may cost beside DP_BATCH packets, so that no tenant holds up the others of a
 * worker: the bytes it brings, IO_PACKET_WORK for each packet and what its kind of port adds, and
 * IO_SEGMENT_WORK for each that it is cut into on the way out. The packet that exceeds it is the turn's last,
 * and so is a super-packet of more than IO_SEGMENTS, which is as much as a turn: it takes several (turn.c).
 * Measured: a segment costs half a microsecond to two to cut and send, a super-packet ten to receive.
 */
enum { IO_TURN_WORK = 96 << 10, IO_PACKET_WORK = 1024, IO_SEGMENT_WORK = 1536 };
enum { IO_SEGMENTS = IO_TURN_WORK / IO_SEGMENT_WORK };

/*
 * Packets on their way to one port. Flushed when full and at the end of each receive batch, always in order.
 */
struct txq {
    uint32_t n;
    struct port *port;
    struct pkt *pkts[TXQ_MAX];
};

struct io {
    uint32_t id;                        /* of the worker */
    uint32_t batch_limit;               /* packets a receive call may return, 1..DP_BATCH */
    /* ns, set before each receive; what it does for a packet carries pkt.time */
    uint64_t now;
    struct pool pool;
    struct batch batch;                 /* what was just received; its packets stay in place until flush */
    /* packets the core made while it works on the batch (segments, requests) */
    struct pkt made[TXQ_MAX];
    uint32_t made_n;
    struct pkt *spent[DP_BATCH];        /* what segments on their way borrow from: freed behind them */
    uint32_t spent_n;
    struct txq *txqs[DP_MAX_PORTS];     /* allocated with stats */
    uint16_t active[DP_MAX_PORTS];      /* ports with packets in their txq, in order of first use */
    uint32_t active_n;
    uint16_t late[DP_MAX_PORTS];        /* ports that keep packets of ours until they are reaped */
    bool is_late[DP_MAX_PORTS];
    uint32_t late_n;
    /* allocated at port attach, kept until the end; the underlay's always there */
    struct port_stats *stats[DP_MAX_PORTS];
    struct vsid_stats *vsid_stats;      /* by subnet index */
    uint64_t bytes;                     /* that were received, ever */
    bool turn_over;                     /* the last turn was a whole one */
    uint8_t *bin;                       /* POOL_FRAME_MAX bytes that receive what has no slot */
} __attribute__((aligned(64)));

/* 0 or DP_ENOMEM; io_fini() either way. *io was all zero. */
int io_init(struct io *io, uint32_t id, struct arena *arena, const struct subnet_counters *subnets);
void io_fini(struct io *io);
/*
 * Control thread: counters and a transmit queue for a port id. They stay when the port goes: what it counted
 * still counts.
 */
int io_prepare(struct io *io, uint32_t port);

/* Each takes the packet. */
/* Counts the drop at the packet's in_port and frees it. */
void io_drop(struct io *io, struct pkt *pkt, enum drop reason);
/* If there is a reason. */
static inline bool io_dropped(struct io *io, struct pkt *pkt, enum drop reason)
{
    if (reason)
        io_drop(io, pkt, reason);
    return reason != DROP_NONE;
}
/* The same for a packet that others borrow from. */
void io_drop_lent(struct io *io, struct pkt *pkt, enum drop reason);
/* What a VM sent: of a source MAC that is not its own the port keeps the last, for the operator. */
static inline void io_refuse(struct io *io, struct port *in, struct pkt *pkt, enum drop reason)
{
    if (reason == DROP_SRC_MAC)
        __atomic_store_n(&in->stranger, mac_word(pkt->data + 6), __ATOMIC_RELAXED);
    io_drop(io, pkt, reason);
}
/* Frees a packet that others borrow from, once they have gone: at the flush. It stays in place until then. */
void io_spend(struct io *io, struct pkt *pkt);
/* Counts consumed and frees it. */
void io_consume(struct io *io, struct pkt *pkt);
/* The port's queue with room for a packet more, and a place in the flush. */
void io_open_txq(struct io *io, struct port *port);
/*
 * Queues the packet for a port that is attached. `pkt` must stay in place until the flush: batch, made[] or
 * held.
 */
static inline void io_send(struct io *io, struct port *port, struct pkt *pkt)
{
    struct txq *txq = io->txqs[port->id];
    if (__builtin_expect(txq->n - 1 >= TXQ_MAX - 1, 0))     /* empty or full */
        io_open_txq(io, port);
    txq->pkts[txq->n++] = pkt;
}

/*
 * A descriptor for a packet the core makes, valid until the flush; flushes first when all are in use. Counts
 * nothing.
 */
struct pkt *io_make(struct io *io);
/*
 * A frame of the core's own, queued already, whose bytes are to be written; NULL, and nothing was made,
 * without a slot.
 */
uint8_t *io_originate(struct io *io, struct port *port, uint16_t len, uint64_t time);
void io_flush(struct io *io);
/* Takes back what ports have let go of. */
void io_reap(struct io *io, const port_slot *ports);
/*
 * Counts what the kernel has lost in front of a queue. Its owner; or the control thread, once the port has no
 * worker.
 */
void io_count_lost(struct io *io, struct port_rxq *rxq);
/* Counts what is made: originated at the port that caused it. */
static inline void io_originated(struct io *io, uint32_t port, uint32_t n)
{
    stats_add(&io->stats[port]->originated, n);
}
/* Counts a request that has become its answer: consumed and originated where it came in. */
static inline void io_answered(struct io *io, const struct pkt *pkt)
{
    stats_add(&io->stats[pkt->in_port]->consumed, 1);
    io_originated(io, pkt->in_port, 1);
}

/* Sends it besides. */
static inline void io_answer(struct io *io, struct port *port, struct pkt *pkt)
{
    io_answered(io, pkt);
    io_send(io, port, pkt);
}

/* What passed a port in one call: kept in locals, added to the counters once. */
struct port_count {
    uint64_t packets, bytes, gso, partial;
    uint64_t segments;                  /* of super-packets, as gso_size says: it need not be true */
};
static inline void port_count(struct port_count *count, const struct pkt *pkt)
{
    count->packets++;
    count->bytes += pkt->len;
    count->gso += pkt->gso != DP_GSO_NONE;
    count->partial += (pkt->flags & PKT_PARTIAL) != 0;
    if (__builtin_expect(pkt->gso_size != 0, 0))
        count->segments += pkt->len / pkt->gso_size;
}
/* Of what was received in a turn: it has had its share. */
static inline bool io_turn_over(const struct io *io, const struct port *port, const struct port_count *count)
{
    uint64_t packets = count->packets * (IO_PACKET_WORK + port->ops->work);
    return count->packets >= io->batch_limit ||
           count->bytes + packets + count->segments * IO_SEGMENT_WORK >= IO_TURN_WORK;
}
/* Ends a turn. */
void port_count_rx(const struct port *port, struct io *io, const struct port_count *count);
void port_count_tx(const struct port *port, struct io *io, const struct port_count *count);
/* Counts the batch's next packet, which came in at the port: it stays, or is dropped if there is a reason. */
static inline void io_received(struct io *io, const struct port *port, struct pkt *pkt, enum drop drop,
                               struct port_count *count)
{
    pkt->in_port = (uint16_t)port->id;
    port_count(count, pkt);
    if (drop)
        io_drop(io, pkt, drop);
    else
        io->batch.n++;
}

#endif
