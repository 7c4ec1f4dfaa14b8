/*
 * The contract of ports by a port that is as far from the others as it allows, as AF_XDP will be: one segment
 * a packet, no virtio-net header, frames received in buffers of any offset, and transmitted ones that come
 * back late, or only after the port was stopped and its device closed.
 */
#include <sys/uio.h>
#include "hub.h"
#include "pkt/cursor.h"

enum { LATE_RING = 32 };

/* A device: frames that it has and has not sent yet, in order; buffers of a frame that it has received. */
struct late_port {
    struct pkt ring[LATE_RING];
    uint32_t n, done;                   /* done: of them, the device is ready with */
    uint64_t seen;                      /* frames that the device has read */
    bool stopped, closed;
    const struct frame *incoming;       /* NULL: none */
};

static struct late_port *late_of(const struct port *port) { return port->state; }

/* A frame that comes in buffers of at most 700 bytes, each somewhere in a slot. */
static uint32_t late_rx(struct port_rxq *rxq, struct io *io)
{
    struct late_port *late = late_of(rxq->port);
    struct port_count count = {0};
    const struct frame *frame = late->incoming;
    if (!frame)
        return 0;
    struct pkt *pkt = &io->batch.pkt[io->batch.n];
    assert_true(pool_pkt_new(&io->pool, pkt));
    uint32_t at = frame->len < 700 ? frame->len : 700, slot = pkt->slot;
    pkt->head = (uint16_t)at;
    memcpy(pkt->data, frame->bytes, at);
    for (; at < frame->len; pkt->slots++) {
        uint32_t take = frame->len - at < 700 ? frame->len - at : 700, next = pool_get(&io->pool);
        assert_int_not_equal(next, POOL_NONE);
        io->pool.arena->segs[slot] = (struct seg){next, (uint16_t)rnd(POOL_SLOT - 700), (uint16_t)take};
        memcpy(arena_slot(io->pool.arena, next) + io->pool.arena->segs[slot].off, frame->bytes + at, take);
        slot = next;
        at += take;
    }
    pkt->len = frame->len;
    late->incoming = NULL;
    io_received(io, rxq->port, pkt, DROP_NONE, &count);
    port_count_rx(rxq->port, io, &count);
    return 1;
}

static void late_tx(struct port_txq *txq, struct io *io, struct pkt *const *pkts, uint32_t n)
{
    struct late_port *late = late_of(txq->port);
    struct port_count count = {0};
    for (uint32_t i = 0; i < n; i++) {
        struct iovec iov[1];
        enum drop drop = port_prepare(txq->port, &io->pool, pkts[i]);
        if (!drop && late->n == LATE_RING)
            drop = DROP_TX_FULL;
        if (!drop && port_iov(txq->port, &io->pool, pkts[i], iov) != 1)
            drop = DROP_TX_ERROR;
        if (io_dropped(io, pkts[i], drop))
            continue;
        port_count(&count, pkts[i]);
        late->ring[late->n++] = *pkts[i];
        txq->in_flight++;
    }
    port_count_tx(txq->port, io, &count);
}

static uint32_t late_give_back(struct late_port *late, struct pool *pool, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        pool_pkt_free(pool, &late->ring[i]);
    late->n -= n;
    memmove(late->ring, late->ring + n, late->n * sizeof *late->ring);
    return n;
}

static uint32_t late_reap(struct port_txq *txq, struct io *io)
{
    struct late_port *late = late_of(txq->port);
    uint32_t n = late_give_back(late, &io->pool, late->done);
    late->done = 0;
    txq->in_flight -= n;
    return n;
}

static void late_stop(struct port *port) { late_of(port)->stopped = true; }

static void late_reclaim(struct port *port, struct pool *pool)
{
    struct late_port *late = late_of(port);
    assert_true(late->stopped && late->closed);
    late_give_back(late, pool, late->n);
    port_queues_free(port);
}

static const struct port_ops late_ops = {.rx = late_rx, .tx = late_tx, .reap = late_reap, .stop = late_stop,
                                         .reclaim = late_reclaim, .keeps = true};

/* In place of the kind that was attached. */
static struct late_port *late_attach(uint32_t id, struct late_port *late)
{
    struct pool none = {0};
    assert_int_equal(hub_attach(id, DP_PORT_MEM, 0, 0, NULL), DP_OK);
    struct port *port = hub->ports[id];
    port->ops->reclaim(port, &none);
    *late = (struct late_port){0};
    port->ops = &late_ops;
    port->state = late;
    port->caps = 0;
    port->max_segs = 1;
    assert_int_equal(port_queues_new(port, sizeof(struct port_rxq), sizeof(struct port_txq)), DP_OK);
    return late;
}

static void inject(const struct frame *f)
{
    const struct dp_frame frame = {.len = f->len};
    assert_int_equal(dp_inject(hub, 1, &frame, 1, f->bytes), DP_OK);
}

static uint64_t now;
static void rounds(int n)
{
    while (n--)
        assert_true(dp_poll(hub, ++now) >= 0);
}

static uint32_t free_slots(void) { return arena_free_slots(&hub->arena, &hub->workers[0].io.pool, 1); }

static void begin(struct late_port *late)
{
    now = 0;
    hub_start(1, 256);
    assert_int_equal(hub_attach(1, DP_PORT_MEM, DP_OFFLOAD_CSUM, 0, NULL), DP_OK);
    late_attach(2, late);
}

static void slots_come_back_when_the_device_is_ready(void **state)
{
    (void)state;
    static struct late_port late;
    static struct frame f;
    begin(&late);
    for (uint32_t i = 0; i < 3 * LATE_RING; i++) {
        hub_frame(&f, 60 + i, HUB_SEND, 2, i);
        inject(&f);
        rounds(3);                                  /* reaps in vain, but for every fourth */
        assert_int_equal(free_slots(), 256 - late.n);
        assert_int_equal(get32(late.ring[late.n - 1].data + 6), i);
        if (i % 4 == 3)
            late.done = 1 + rnd(late.n);
        if (late.n == LATE_RING)
            late.done = LATE_RING;
        rounds(1);
        assert_int_equal(free_slots(), 256 - late.n);
        assert_int_equal(hub->ports[2]->txqs[0]->in_flight, late.n);
    }
    assert_int_equal(hub_counters(2).sent, 3 * LATE_RING);
    late.done = late.n;
    rounds(1);
    assert_int_equal(free_slots(), 256);
    assert_int_equal(hub->workers[0].io.late_n, 0);
    late.closed = true;
    hub_end();
}

static void a_full_device_drops_the_newest(void **state)
{
    (void)state;
    static struct late_port late;
    static struct frame f;
    begin(&late);
    for (uint32_t i = 0; i < LATE_RING + 5; i++) {
        hub_frame(&f, 60, HUB_SEND, 2, i);
        inject(&f);
    }
    rounds(1);
    assert_int_equal(late.n, LATE_RING);
    assert_int_equal(hub_drops(1, DROP_TX_FULL), 5);
    late.closed = true;
    hub_end();
}

/*
 * stop, close, reclaim: what the device had comes back, and a port of the same id does not meet what is left
 * of the old one.
 */
static void what_is_in_flight_survives_stop_and_close(void **state)
{
    (void)state;
    static struct late_port late, next;
    static struct frame f;
    begin(&late);
    for (uint32_t i = 0; i < 20; i++) {
        hub_frame(&f, 1000, HUB_SEND, 2, i);
        inject(&f);
    }
    rounds(2);
    late.done = 5;
    assert_int_equal(dp_port_stop(hub, 2), DP_OK);
    assert_int_equal(dp_port_stop(hub, 2), DP_ENOENT);
    assert_int_equal(hub_attach(2, DP_PORT_MEM, 0, 0, NULL), DP_EEXIST);
    assert_true(late.stopped);
    rounds(2);                                      /* nobody reaps it any more */
    assert_int_equal(late.n, 20);
    assert_int_equal(free_slots(), 256 - 20);
    hub_frame(&f, 1000, HUB_SEND, 2, 20);
    inject(&f);
    rounds(1);
    assert_int_equal(hub_drops(1, DROP_PORT_DOWN), 1);
    late.closed = true;
    assert_int_equal(dp_port_detach(hub, 2), DP_OK);
    assert_int_equal(dp_port_detach(hub, 2), DP_ENOENT);
    assert_int_equal(free_slots(), 256);
    late_attach(2, &next);
    inject(&f);
    rounds(2);
    assert_int_equal(next.n, 1);
    assert_int_equal(hub->workers[0].io.late_n, 1);
    next.done = 1;
    rounds(1);
    assert_int_equal(free_slots(), 256);
    next.closed = true;
    hub_end();
}

/*
 * A frame of several buffers is forwarded as one, to a port that takes segments and to one that takes none.
 */
static void several_buffers_are_one_packet(void **state)
{
    (void)state;
    static struct late_port late;
    static struct frame f, back;
    struct dp_frame frame;
    begin(&late);
    for (uint32_t len = 60; len < 9000; len += 311) {
        hub_frame(&f, len, HUB_SEND, 1, len);
        late.incoming = &f;
        rounds(1);
        assert_int_equal(dp_collect(hub, 1, &frame, 1, back.bytes, sizeof back.bytes), 1);
        assert_int_equal(frame.len, len);
        assert_memory_equal(back.bytes, f.bytes, len);
        hub_frame(&f, len, HUB_SEND, 2, len);
        late.incoming = &f;
        rounds(1);
        if (len <= POOL_HEAD_MAX) {
            assert_int_equal(late.n, 1);
            assert_int_equal(late.ring[0].slots, 1);
            assert_memory_equal(late.ring[0].data, f.bytes, len);
        } else {
            assert_int_equal(late.n, 0);            /* no single segment holds it */
        }
        late.done = late.n;
        rounds(1);
        assert_int_equal(free_slots(), 256);
    }
    assert_true(hub_drops(2, DROP_TX_ERROR) > 0);
    late.closed = true;
    hub_end();
}

/*
 * Payload that is lent until the flush is the port's own when it stays longer: the lender's bytes change, its
 * do not.
 */
static void what_is_borrowed_is_copied_before_it_stays(void **state)
{
    (void)state;
    static struct late_port late;
    static struct frame f;
    begin(&late);
    struct io *io = &hub->workers[0].io;
    struct pkt lender, *pkt = io_make(io);
    rnd_fill(f.bytes, f.len = 3000);
    assert_true(pool_pkt_new_len(&io->pool, &lender, f.len));
    assert_true(pkt_write(&hub->arena, &lender, 0, f.bytes, f.len));
    lender.in_port = 1;
    assert_true(pool_pkt_new(&io->pool, pkt));
    struct cursor c = cursor_at(&hub->arena, &lender, 100);
    memcpy(pkt->data, f.bytes, 100);
    hub->arena.segs[pkt->slot] = cursor_seg(&c);
    pkt->head = 100;
    pkt->len = 1500;
    pkt->in_port = 1;
    io_originated(io, 1, 1);
    io_send(io, hub->ports[2], pkt);
    io_spend(io, &lender);
    io_flush(io);
    memset(lender.data, 0, f.len);
    assert_int_equal(late.n, 1);
    assert_int_equal(late.ring[0].head, 1500);
    assert_memory_equal(late.ring[0].data, f.bytes, 1500);
    assert_int_equal(free_slots(), 255);
    late.closed = true;
    hub_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_come_back_when_the_device_is_ready),
        cmocka_unit_test(a_full_device_drops_the_newest),
        cmocka_unit_test(what_is_in_flight_survives_stop_and_close),
        cmocka_unit_test(several_buffers_are_one_packet),
        cmocka_unit_test(what_is_borrowed_is_copied_before_it_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
