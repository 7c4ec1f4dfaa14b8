/*
 * port_mem.c: a port whose peer is the caller, by dp_inject() and dp_collect(). What is injected waits in the caller's memory, what
 * left waits in its slots; both are lists of each worker's own.
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

struct mem_queue {
    struct injected *first, **end;
    uint32_t head, n;                   /* ring of what left */
    struct left *left;                  /* COLLECT_MAX of them */
} __attribute__((aligned(64)));

struct mem_port {
    _Atomic uint64_t order;
    struct mem_queue queues[];          /* by worker */
};

int port_mem_inject(struct port *port, const struct dp_frame *frame, const uint8_t *bytes)
{
    struct mem_port *mem = port->state;
    struct mem_queue *queue = &mem->queues[frame->flow % port->queues];
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

static struct injected *take_injected(struct mem_queue *queue)
{
    struct injected *injected = queue->first;
    if (injected && !(queue->first = injected->next))
        queue->end = &queue->first;
    return injected;
}

static void set_offload(struct pkt *pkt, const struct dp_frame *frame)
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

static uint32_t mem_rx(struct port *port, struct io *io, uint32_t q, struct batch *batch)
{
    struct mem_port *mem = port->state;
    struct port_count count = {0};
    struct injected *injected;
    while (count.packets < io->batch_limit && (injected = take_injected(&mem->queues[q]))) {
        const struct dp_frame *frame = &injected->frame;
        struct pkt *pkt = &batch->pkt[batch->n];
        bool got = frame->len <= POOL_FRAME_MAX && pool_pkt_new_len(&io->pool, pkt, frame->len);
        if (!got)
            *pkt = (struct pkt){.len = frame->len};
        pkt->time = frame->time;
        set_offload(pkt, frame);
        if (got)
            pkt_write(port->arena, pkt, 0, injected->bytes, frame->len);
        io_received(io, port, pkt, got ? DROP_NONE : port_refused(frame->len), &count);
        free(injected);
    }
    port_count_rx(port, io, &count);
    return (uint32_t)count.packets;
}

static void mem_tx(struct port *port, struct io *io, struct pkt *const *pkts, uint32_t n)
{
    struct mem_port *mem = port->state;
    struct mem_queue *queue = &mem->queues[io->id];
    struct port_count count = {0};
    for (uint32_t i = 0; i < n; i++) {
        enum drop drop = port_prepare(port, pkts[i]);
        if (!drop && queue->n == COLLECT_MAX)
            drop = DROP_TX_FULL;
        if (io_dropped(io, pkts[i], drop))
            continue;
        port_count(&count, pkts[i]);
        struct left *left = &queue->left[(queue->head + queue->n++) % COLLECT_MAX];
        left->order = atomic_fetch_add_explicit(&mem->order, 1, memory_order_relaxed);
        left->pkt = *pkts[i];
    }
    port_count_tx(port, io, &count);
}

static struct mem_queue *oldest(const struct port *port)
{
    struct mem_port *mem = port->state;
    struct mem_queue *best = NULL;
    for (uint32_t q = 0; q < port->queues; q++) {
        struct mem_queue *queue = &mem->queues[q];
        if (queue->n && (!best || queue->left[queue->head].order < best->left[best->head].order))
            best = queue;
    }
    return best;
}

int port_mem_collect(struct port *port, struct pool *pool, struct dp_frame *frame, uint8_t *bytes, uint32_t capacity)
{
    struct mem_queue *queue = oldest(port);
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
    pkt_read(port->arena, pkt, 0, bytes, pkt->len);
    pool_pkt_free(pool, pkt);
    queue->head = (queue->head + 1) % COLLECT_MAX;
    queue->n--;
    return 1;
}

/* Slots go to the depot by a pool of our own: workers may run. */
static void mem_detach(struct port *port)
{
    struct mem_port *mem = port->state;
    struct pool pool;
    pool_init(&pool, port->arena);
    for (uint32_t q = 0; q < port->queues; q++) {
        struct mem_queue *queue = &mem->queues[q];
        struct injected *injected;
        while ((injected = take_injected(queue)))
            free(injected);
        for (; queue->left && queue->n; queue->n--, queue->head = (queue->head + 1) % COLLECT_MAX)
            pool_pkt_free(&pool, &queue->left[queue->head].pkt);
        free(queue->left);
    }
    pool_drain(&pool);
    free(mem);
}

int port_mem_attach(struct port *port)
{
    static const struct port_ops ops = {mem_rx, mem_tx, mem_detach};
    port->queues = port->workers;
    size_t size = sizeof(struct mem_port) + port->queues * sizeof(struct mem_queue);
    struct mem_port *mem = aligned_alloc(_Alignof(struct mem_port), size);
    if (!mem)
        return DP_ENOMEM;
    memset(mem, 0, size);
    port->ops = &ops;
    port->state = mem;
    for (uint32_t q = 0; q < port->queues; q++) {
        mem->queues[q].end = &mem->queues[q].first;
        if (!(mem->queues[q].left = calloc(COLLECT_MAX, sizeof(struct left)))) {
            mem_detach(port);
            return DP_ENOMEM;
        }
    }
    return DP_OK;
}
