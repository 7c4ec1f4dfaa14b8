/*
 * port_mem.c: a port whose peer is the caller, by dp_inject() and dp_collect(). What is injected waits in
 * the caller's memory, what left waits in its slots; both are lists of each worker's own. Called through
 * port.h's operations and by the engine (inject, collect).
 */
#include <stdatomic.h>
#include <stdlib.h>
#include "port/io.h"

enum { COLLECT_MAX = 4096 };            /* frames of one worker that wait to be collected; more are tx-full */

struct injected {
    struct injected *next;
    struct dp_frame frame;
    uint8_t bytes[];
};

struct left {
    uint64_t order;                     /* of leaving, over all workers */
    struct pkt pkt;
};

struct mem_rxq {
    struct port_rxq queue;
    struct injected *first, **end;
};

struct mem_txq {
    struct port_txq queue;
    uint32_t head, n;                   /* ring of what left */
    struct left *left;                  /* COLLECT_MAX of them */
};

static struct mem_rxq *mem_rxq(const struct port *port, uint32_t q)
{
    return (struct mem_rxq *)port->rxqs[q];
}

static struct mem_txq *mem_txq(const struct port *port, uint32_t worker)
{
    return (struct mem_txq *)port->txqs[worker];
}

int port_mem_inject(struct port *port, const struct dp_frame *frame, const uint8_t *bytes)
{
    struct mem_rxq *queue = mem_rxq(port, frame->flow % port->queues);
    struct injected *injected = malloc(sizeof *injected + frame->len);
    if (!injected)
        return DP_ENOMEM;
    injected->next = NULL;
    injected->frame = *frame;
    if (frame->len)
        memcpy(injected->bytes, bytes, frame->len);
    *queue->end = injected;
    queue->end = &injected->next;
    return DP_OK;
}

static struct injected *port_mem_take(struct mem_rxq *queue)
{
    struct injected *injected = queue->first;
    if (injected && !(queue->first = injected->next))
        queue->end = &queue->first;
    return injected;
}

static void mem_set_offload(struct pkt *pkt, const struct dp_frame *frame)
{
    if (frame->csum_partial) {
        pkt->flags |= PKT_PARTIAL;
        pkt->csum_start = frame->csum_start;
        pkt->csum_offset = frame->csum_offset;
    }
    if (frame->gso) {
        pkt->gso = frame->gso;
        pkt->gso_size = frame->gso_size;
    }
}

static uint32_t mem_rx(struct port_rxq *rxq, struct io *io)
{
    struct port_count count = {0};
    struct injected *injected;
    while (!io_turn_over(io, rxq->port, &count) && (injected = port_mem_take((struct mem_rxq *)rxq))) {
        const struct dp_frame *frame = &injected->frame;
        struct pkt *pkt = &io->batch.pkt[io->batch.n];
        bool got = frame->len <= POOL_FRAME_MAX && pool_pkt_new_len(&io->pool, pkt, frame->len);
        if (!got)
            *pkt = (struct pkt){.len = frame->len};
        pkt->time = frame->time;
        mem_set_offload(pkt, frame);
        if (got)
            pkt_write(io->pool.arena, pkt, 0, injected->bytes, frame->len);
        io_received(io, rxq->port, pkt, got ? DROP_NONE : port_refused(frame->len), &count);
        free(injected);
    }
    port_count_rx(rxq->port, io, &count);
    return (uint32_t)count.packets;
}

/* Packets stay until they are collected. */
static void mem_tx(struct port_txq *txq, struct io *io, struct pkt *const *pkts, uint32_t n)
{
    struct mem_txq *queue = (struct mem_txq *)txq;
    _Atomic uint64_t *order = txq->port->state;
    struct port_count count = {0};
    for (uint32_t i = 0; i < n; i++) {
        enum drop drop = port_prepare(txq->port, &io->pool, pkts[i]);
        if (!drop && queue->n == COLLECT_MAX)
            drop = DROP_TX_FULL; /* 4.5.3 */
        if (io_dropped(io, pkts[i], drop))
            continue;
        port_count(&count, pkts[i]);
        struct left *left = &queue->left[(queue->head + queue->n++) % COLLECT_MAX];
        left->order = atomic_fetch_add_explicit(order, 1, memory_order_relaxed);
        left->pkt = *pkts[i];
    }
    port_count_tx(txq->port, io, &count);
}

static struct mem_txq *mem_oldest(const struct port *port)
{
    struct mem_txq *best = NULL;
    for (uint32_t w = 0; w < port->workers; w++) {
        struct mem_txq *queue = mem_txq(port, w);
        if (queue->n && (!best || queue->left[queue->head].order < best->left[best->head].order))
            best = queue;
    }
    return best;
}

int port_mem_collect(struct port *port, struct pool *pool, struct dp_frame *frame, uint8_t *bytes,
                     uint32_t capacity)
{
    struct mem_txq *queue = mem_oldest(port);
    if (!queue)
        return 0;
    struct pkt *pkt = &queue->left[queue->head].pkt;
    if (pkt->len > capacity)
        return DP_EINVAL;
    bool partial = pkt->flags & PKT_PARTIAL;
    *frame = (struct dp_frame){
        .time = pkt->time,
        .len = pkt->len,
        .csum_partial = partial,
        .csum_start = partial ? pkt->csum_start : 0,
        .csum_offset = partial ? pkt->csum_offset : 0,
        .gso = pkt->gso,
        .gso_size = pkt->gso ? pkt->gso_size : 0,
    };
    pkt_read(pool->arena, pkt, 0, bytes, pkt->len);
    pool_pkt_free(pool, pkt);
    queue->head = (queue->head + 1) % COLLECT_MAX;
    queue->n--;
    return 1;
}

static void mem_reclaim(struct port *port, struct pool *pool)
{
    for (uint32_t q = 0; q < port->queues; q++) {
        struct injected *injected;
        while ((injected = port_mem_take(mem_rxq(port, q))))
            free(injected);
    }
    for (uint32_t w = 0; w < port->workers; w++) {
        struct mem_txq *queue = mem_txq(port, w);
        for (; queue->n; queue->n--, queue->head = (queue->head + 1) % COLLECT_MAX)
            pool_pkt_free(pool, &queue->left[queue->head].pkt);
        free(queue->left);
    }
    free(port->state);
    port_queues_free(port);
}

int port_mem_attach(struct port *port)
{
    static const struct port_ops ops = {.rx = mem_rx, .tx = mem_tx, .reclaim = mem_reclaim, .keeps = true};
    port->ops = &ops;
    port->caps |= PORT_SG | PORT_VNET;
    port->max_segs = PORT_SEGS;
    port->queues = port->workers;
    if (port_queues_new(port, sizeof(struct mem_rxq), sizeof(struct mem_txq)))
        return DP_ENOMEM;
    bool whole = (port->state = calloc(1, sizeof(_Atomic uint64_t)));
    for (uint32_t w = 0; w < port->workers; w++) {
        mem_rxq(port, w)->end = &mem_rxq(port, w)->first;
        struct left *left = aligned_alloc(_Alignof(struct left), COLLECT_MAX * sizeof *left);
        whole &= (mem_txq(port, w)->left = left) != NULL;
    }
    if (whole)
        return DP_OK;
    mem_reclaim(port, NULL);
    return DP_ENOMEM;
}
