/* io.c: what becomes of a packet: dropped, consumed, or queued for a port and handed to it at the flush. */
#include "port/io.h"
#include <stdlib.h>
#include "port/merge.h"

int io_init(struct io *io, uint32_t id, struct arena *arena, const struct subnet_counters *subnets)
{
    io->id = id;
    io->batch_limit = DP_BATCH;
    pool_init(&io->pool, arena);
    io->vsid_stats = stats_subnets_of(subnets, id);
    io->bin = malloc(POOL_FRAME_MAX);
    return io->bin ? DP_OK : DP_ENOMEM;
}

void io_fini(struct io *io)
{
    for (uint32_t id = 0; id < DP_MAX_PORTS; id++) {
        free(io->stats[id]);
        free(io->txqs[id]);
    }
    free(io->bin);
}

int io_prepare(struct io *io, uint32_t port)
{
    if (io->stats[port])
        return DP_OK;
    struct port_stats *stats = aligned_alloc(_Alignof(struct port_stats), sizeof *stats);
    io->txqs[port] = calloc(1, sizeof *io->txqs[port]);
    if (!stats || !io->txqs[port]) {
        free(stats);
        free(io->txqs[port]);
        io->txqs[port] = NULL;
        return DP_ENOMEM;
    }
    memset(stats, 0, sizeof *stats);
    __atomic_store_n(&io->stats[port], stats, __ATOMIC_RELEASE);
    return DP_OK;
}

static void io_count_drop(struct io *io, const struct pkt *pkt, enum drop reason)
{
    struct port_stats *stats = io->stats[pkt->in_port];
    stats_add(&stats->dropped, 1);
    stats_add(&stats->drops[reason], 1);
}

void io_drop(struct io *io, struct pkt *pkt, enum drop reason)
{
    io_count_drop(io, pkt, reason);
    pool_pkt_free(&io->pool, pkt);
}

void io_drop_lent(struct io *io, struct pkt *pkt, enum drop reason)
{
    io_count_drop(io, pkt, reason);
    io_spend(io, pkt);
}

void io_spend(struct io *io, struct pkt *pkt)
{
    if (io->spent_n == DP_BATCH)
        io_flush(io);
    io->spent[io->spent_n++] = pkt;
}

void io_consume(struct io *io, struct pkt *pkt)
{
    stats_add(&io->stats[pkt->in_port]->consumed, 1);
    pool_pkt_free(&io->pool, pkt);
}

static void io_flush_txqs(struct io *io)
{
    for (uint32_t i = 0; i < io->active_n; i++) {
        uint16_t id = io->active[i];
        struct txq *txq = io->txqs[id];
        struct port_txq *to = txq->port->txqs[io->id];
        if (txq->n > 1 && txq->port->caps & PORT_MERGE)
            txq->n = merge_queue(io, txq->port, txq->pkts, txq->n);
        txq->port->ops->tx(to, io, txq->pkts, txq->n);
        txq->n = 0;
        if (__builtin_expect(to->in_flight && !io->is_late[id], 0)) {
            io->is_late[id] = true;
            io->late[io->late_n++] = id;
        }
    }
    io->active_n = 0;
}

/* A port that has gone, or another one of the same id, is none of ours. */
void io_reap(struct io *io, const port_slot *ports)
{
    for (uint32_t i = io->late_n; i-- > 0;) {
        uint16_t id = io->late[i];
        struct port *port = port_at(ports, id);
        struct port_txq *txq = port ? port->txqs[io->id] : NULL;
        if (txq && txq->in_flight)
            port->ops->reap(txq, io);
        if (!txq || !txq->in_flight) {
            io->is_late[id] = false;
            io->late[i] = io->late[--io->late_n];
        }
    }
}

void io_count_lost(struct io *io, struct port_rxq *rxq)
{
    const struct port *port = rxq->port;
    if (port->ops->lost)
        stats_add(&io->stats[port->id]->rx_kernel, port->ops->lost(rxq));
}

void io_open_txq(struct io *io, struct port *port)
{
    struct txq *txq = io->txqs[port->id];
    if (txq->n == TXQ_MAX)
        io_flush_txqs(io);
    if (txq->n == 0) {
        io->active[io->active_n++] = (uint16_t)port->id;
        txq->port = port;
    }
}

struct pkt *io_make(struct io *io)
{
    if (io->made_n == TXQ_MAX)
        io_flush(io);
    return &io->made[io->made_n++];
}

uint8_t *io_originate(struct io *io, struct port *port, uint16_t len, uint64_t time)
{
    struct pkt *pkt = io_make(io);
    if (!pool_pkt_new(&io->pool, pkt))
        return NULL;
    pkt->len = pkt->head = len;
    pkt->time = time;
    pkt->in_port = (uint16_t)port->id;
    io_originated(io, port->id, 1);
    io_send(io, port, pkt);
    return pkt->data;
}

void io_flush(struct io *io)
{
    io_flush_txqs(io);
    while (io->spent_n)
        pool_pkt_free(&io->pool, io->spent[--io->spent_n]);
    io->made_n = 0;
}

void port_count_rx(const struct port *port, struct io *io, const struct port_count *count)
{
    struct port_stats *stats = io->stats[port->id];
    stats_add(&stats->received, count->packets);
    stats_add(&stats->rx_bytes, count->bytes);
    stats_add(&stats->rx_gso, count->gso);
    stats_add(&stats->rx_csum_partial, count->partial);
    io->bytes += count->bytes;
    io->turn_over = io_turn_over(io, port, count);
}

void port_count_tx(const struct port *port, struct io *io, const struct port_count *count)
{
    struct port_stats *stats = io->stats[port->id];
    stats_add(&stats->sent, count->packets);
    stats_add(&stats->tx_bytes, count->bytes);
    stats_add(&stats->tx_gso, count->gso);
    stats_add(&stats->tx_csum_partial, count->partial);
}
