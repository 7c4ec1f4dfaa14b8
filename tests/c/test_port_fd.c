/*
 * TAP and AF_PACKET ports over socket pairs, which keep message boundaries as the devices do: virtio-net headers both ways,
 * packets of one slot and of many in one burst, full and closed peers.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_net.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include "hub.h"

enum { HDR = sizeof(struct vnet_hdr), BIG_BUFFER = 8 << 20 };
enum { ALL = DP_OFFLOAD_CSUM | DP_OFFLOAD_TSO4 | DP_OFFLOAD_TSO6 | DP_OFFLOAD_USO };

static const enum dp_port_kind kinds[] = {DP_PORT_TAP, DP_PORT_PACKET};
static int peer[3];                     /* the other ends of ports 1 and 2 */
static int ours[3];
static struct frame f, back;

static void make_pair(uint32_t id)
{
    int fds[2], size = BIG_BUFFER;
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(setsockopt(fds[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size), 0);
    ours[id] = fds[0];
    peer[id] = fds[1];
}

static void start(enum dp_port_kind kind, uint32_t slots, uint32_t offloads)
{
    hub_start(1, slots);
    for (uint32_t id = 1; id <= 2; id++) {
        make_pair(id);
        assert_int_equal(hub_attach(id, kind, offloads, 1, &ours[id]), DP_OK);
    }
}

static void end(void)
{
    hub_end();
    for (uint32_t id = 1; id <= 2; id++) {
        close(ours[id]);
        close(peer[id]);
    }
}

static void put(const struct vnet_hdr *hdr, const struct frame *frame)
{
    struct iovec iov[2] = {{(void *)(uintptr_t)hdr, HDR}, {(void *)(uintptr_t)frame->bytes, frame->len}};
    assert_int_equal(writev(peer[1], iov, 2), HDR + frame->len);
}

static bool get(struct vnet_hdr *hdr)
{
    struct iovec iov[2] = {{hdr, HDR}, {back.bytes, sizeof back.bytes}};
    ssize_t got = readv(peer[2], iov, 2);
    if (got < 0)
        assert_int_equal(errno, EAGAIN);
    back.len = got < 0 ? 0 : (uint32_t)got - HDR;
    return got >= 0;
}

static uint64_t now;

static uint32_t poll_all(void)
{
    int n = dp_poll(hub, ++now);
    assert_true(n >= 0);
    return (uint32_t)n;
}

static void each_kind(void (*test)(enum dp_port_kind kind))
{
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        now = 0;
        test(kinds[k]);
    }
}

/* ---- frames --------------------------------------------------------------------------------------------------------- */

/* Bursts of random lengths, so that the AF_PACKET port turns wide and narrow again: nothing may be mixed up. */
static void bursts(enum dp_port_kind kind)
{
    static struct frame sent[24];
    const struct vnet_hdr plain = {0};
    struct vnet_hdr hdr;
    start(kind, 0, ALL);
    for (uint32_t burst = 0; burst < 60; burst++) {
        uint32_t n = 1 + rnd(24), longest = burst % 4 == 3 ? 65549 : burst % 4 == 2 ? 9000 : 1514;
        for (uint32_t i = 0; i < n; i++) {
            hub_frame(&sent[i], ETH_LEN + rnd(longest - ETH_LEN + 1), HUB_SEND, 2, i);
            put(&plain, &sent[i]);
        }
        assert_int_equal(poll_all(), n);
        for (uint32_t i = 0; i < n; i++) {
            assert_true(get(&hdr));
            assert_memory_equal(&hdr, &plain, HDR);
            assert_int_equal(back.len, sent[i].len);
            assert_memory_equal(back.bytes, sent[i].bytes, sent[i].len);
        }
        assert_false(get(&hdr));
    }
    end();
}

/* Slots that wait with other messages of a queue serve its first one when there are no more. */
static void idle_slots_are_used(enum dp_port_kind kind)
{
    static uint32_t taken[1024];
    const struct vnet_hdr plain = {0};
    struct vnet_hdr hdr;
    uint32_t n = 0;
    start(kind, 1024, ALL);
    for (uint32_t burst = 0; burst < 10; burst++) {
        for (uint32_t i = 0; i < (burst < 9 ? 24 : 1); i++) {   /* the last one leaves the others' slots where they are */
            hub_frame(&f, 100, HUB_SEND, 2, i);
            put(&plain, &f);
        }
        poll_all();
        while (get(&hdr))
            ;
    }
    struct pool *pool = &hub->workers[0].io.pool;
    for (uint32_t slot; (slot = pool_get(pool)) != POOL_NONE;)
        taken[n++] = slot;
    hub_frame(&f, 100, HUB_SEND, 2, 0);
    put(&plain, &f);
    assert_int_equal(poll_all(), 1);
    assert_int_equal(hub_drops(1, DROP_NO_SLOT), 0);
    assert_true(get(&hdr));
    assert_memory_equal(back.bytes, f.bytes, f.len);
    while (n)
        pool_put(pool, taken[--n]);
    end();
}

static void idle_slots_are_used_when_there_are_no_more(void **state)
{
    (void)state;
    now = 0;
    idle_slots_are_used(DP_PORT_PACKET);
}

static void runts(enum dp_port_kind kind)
{
    const struct vnet_hdr plain = {0};
    start(kind, 0, ALL);
    for (f.len = 0; f.len < ETH_LEN; f.len++)
        put(&plain, &f);
    assert_int_equal(write(peer[1], &plain, HDR), HDR);
    assert_int_equal(poll_all(), ETH_LEN + 1);
    assert_int_equal(hub_drops(1, DROP_MULTICAST), ETH_LEN + 1);
    end();
}

/* 4.5.2 */
static void too_long(enum dp_port_kind kind)
{
    const struct vnet_hdr plain = {0};
    static uint8_t rest[POOL_FRAME_MAX];
    struct iovec iov[3] = {{(void *)(uintptr_t)&plain, HDR}, {f.bytes, ETH_LEN}, {rest, POOL_FRAME_MAX - ETH_LEN}};
    start(kind, 0, ALL);
    hub_frame(&f, ETH_LEN, HUB_CONSUME, 2, 0);
    assert_int_equal(writev(peer[1], iov, 3), HDR + POOL_FRAME_MAX);
    iov[2].iov_len++;
    assert_int_equal(writev(peer[1], iov, 3), HDR + POOL_FRAME_MAX + 1);
    assert_int_equal(poll_all(), 2);
    assert_int_equal(hub_counters(1).consumed, 1);
    assert_int_equal(hub_drops(1, DROP_BAD_OFFLOAD), 1);
    end();
}

/* 4.5.1 */
static void short_of_slots(enum dp_port_kind kind)
{
    const struct vnet_hdr plain = {0};
    struct vnet_hdr hdr;
    start(kind, 5, ALL);                    /* two of them armed at port 2 */
    for (uint32_t i = 0; i < 12; i++) {
        hub_frame(&f, i == 5 ? 65549 : 60, HUB_SEND, 2, i);
        put(&plain, &f);
    }
    uint32_t received = 0, sent = 0;
    for (uint32_t n; (n = poll_all()); received += n)
        ;
    while (get(&hdr))
        sent++;
    assert_int_equal(received, 12);
    assert_true(sent >= 3);
    assert_int_equal(sent + hub_drops(1, DROP_NO_SLOT), 12);
    hub_frame(&f, POOL_HEAD_MAX + POOL_SLOT, HUB_SEND, 2, 99);      /* all slots are free again */
    put(&plain, &f);
    assert_int_equal(poll_all(), 1);
    assert_true(get(&hdr));
    assert_memory_equal(back.bytes, f.bytes, f.len);
    end();
}

/* ---- turns ----------------------------------------------------------------------------------------------------- */

/* Packets of one turn of port 1, by which its worker passes on to the next queue; they are forwarded. */
static uint32_t one_turn(void)
{
    struct worker *worker = &hub->workers[0];
    struct port_rxq *rxq = hub->ports[1]->rxqs[0];
    worker->io.batch.n = 0;
    uint32_t n = rxq->port->ops->rx(rxq, &worker->io);
    assert_true(n <= DP_BATCH);
    worker_forward(worker, hub->ports[1]);
    return n;
}

/* Every turn takes something as long as anything is there, and ends with the packet that exceeds what a turn may cost. */
static void turns(enum dp_port_kind kind)
{
    static const struct {
        uint32_t len, gso_size, of_tap, of_packet;
    } cases[] = {{60, 0, 32, 64}, {1514, 0, 22, 39}, {20000, 0, 5, 5}, {65000, 0, 2, 2},
                 {65000, 1448, 1, 1}, {65000, 536, 1, 1}, {65000, 48, 1, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        start(kind, 0, ALL);
        struct vnet_hdr hdr = {.gso_size = (uint16_t)cases[i].gso_size};
        hdr.gso_type = hdr.gso_size ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_NONE;
        uint32_t sent = 0, got = 0, most = 0, count = 0;
        hub_frame(&f, cases[i].len, HUB_CONSUME, 2, 0);
        for (; sent < 100; sent++)
            put(&hdr, &f);
        for (uint32_t n; (n = one_turn()); got += n, count++)
            most = n > most ? n : most;
        assert_int_equal(got, sent);
        assert_int_equal(most, kind == DP_PORT_TAP ? cases[i].of_tap : cases[i].of_packet);
        assert_int_equal(count, (sent + most - 1) / most);
        assert_false(hub->ports[1]->rxqs[0]->more);
        end();
    }
}

/* What a turn has left at hand is not shown by the descriptor: its queue says so, and every packet comes in its order. */
static void turns_of_mixed_lengths(enum dp_port_kind kind)
{
    const struct vnet_hdr plain = {0};
    struct vnet_hdr hdr;
    uint32_t sent = 0, got = 0;
    start(kind, 0, ALL);
    for (uint32_t round = 0; round < 40; round++) {
        for (uint32_t i = 0, n = rnd(40); i < n; i++, sent++) {
            hub_frame(&f, rnd(3) ? 60 + rnd(1400) : 60 + rnd(65000), HUB_SEND, 2, sent);
            put(&plain, &f);
        }
        while (one_turn())
            ;
        for (; get(&hdr); got++)
            assert_int_equal(get32(back.bytes + 6), got);
    }
    assert_int_equal(got, sent);
    end();
}

/* ---- virtio-net headers --------------------------------------------------------------------------------------------- */

static void tcp_frame(uint32_t len, uint8_t flags)
{
    uint32_t l4 = frame_l4(&f, 4, PROTO_TCP, len, 1);
    f.bytes[0] = 2, f.bytes[4] = HUB_SEND, f.bytes[5] = 2;
    f.bytes[l4 + 12] = 0x80;
    f.bytes[l4 + 13] = flags;
}

static void offloads_both_ways(enum dp_port_kind kind)
{
    start(kind, 0, ALL);
    struct vnet_hdr in = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_offset = 16}, out;
    tcp_frame(1000, 0x10);
    in.csum_start = (uint16_t)(f.len - 1000);
    in.hdr_len = 7;                                                 /* lies, and is not believed */
    put(&in, &f);
    in.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
    in.gso_size = 1448;
    tcp_frame(60000, 0x10);
    in.csum_start = (uint16_t)(f.len - 60000);
    put(&in, &f);
    f.bytes[in.csum_start + 13] = 0x90;                             /* CWR: segments differ, the kernel must know */
    in.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
    put(&in, &f);
    in.gso_type = VIRTIO_NET_HDR_GSO_TCPV6 | VIRTIO_NET_HDR_GSO_ECN;
    f.bytes[in.csum_start + 13] = 0x10;
    put(&in, &f);
    in.gso_type = PORT_VNET_UDP;
    in.csum_offset = 6;
    put(&in, &f);
    assert_int_equal(poll_all(), 5);
    const uint8_t types[] = {0, VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN, VIRTIO_NET_HDR_GSO_TCPV6, PORT_VNET_UDP};
    for (size_t i = 0; i < 5; i++) {
        assert_true(get(&out));
        assert_int_equal(out.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
        assert_int_equal(out.gso_type, types[i]);
        assert_int_equal(out.csum_start, back.len - (i ? 60000 : 1000));
        assert_int_equal(out.csum_offset, i == 4 ? 6 : 16);
        assert_int_equal(out.gso_size, i ? 1448 : 0);
        assert_int_equal(out.hdr_len, out.csum_start + (i == 0 ? 18 : i == 4 ? UDP_LEN : 32));
    }
    struct dp_counters rx = hub_counters(1), tx = hub_counters(2);
    assert_int_equal(rx.rx_gso, 4);
    assert_int_equal(rx.rx_csum_partial, 5);
    assert_int_equal(tx.tx_gso, 4);
    assert_int_equal(tx.tx_csum_partial, 5);
    assert_int_equal(rx.rx_bytes, tx.tx_bytes);
    end();
}

static void no_offloads(enum dp_port_kind kind)
{
    start(kind, 0, 0);
    struct vnet_hdr in = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_offset = 16}, out, none = {0};
    tcp_frame(1000, 0x10);
    in.csum_start = (uint16_t)(f.len - 1000);
    put(&in, &f);
    in.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;                         /* forward.c would have segmented it */
    in.gso_size = 500;
    put(&in, &f);
    in.gso_type = PORT_VNET_UDP;
    put(&in, &f);
    assert_int_equal(poll_all(), 3);
    assert_true(get(&out));
    assert_memory_equal(&out, &none, HDR);
    assert_int_equal(naive_residue(back.bytes + ETH_LEN, PROTO_TCP, back.bytes + in.csum_start, 1000), 0xffff);
    assert_false(get(&out));
    assert_int_equal(hub_drops(1, DROP_TX_ERROR), 2);
    end();
}

/* 4.5.2 */
static void segmentation_types(enum dp_port_kind kind)
{
    start(kind, 0, ALL);
    uint64_t good = 0;
    for (uint32_t type = 0; type < 256; type++) {
        struct vnet_hdr in = {.flags = VIRTIO_NET_HDR_F_DATA_VALID, .gso_type = (uint8_t)type, .gso_size = 1000};
        uint32_t plain = type & ~(uint32_t)VIRTIO_NET_HDR_GSO_ECN;
        good += type == 0 || plain == VIRTIO_NET_HDR_GSO_TCPV4 || plain == VIRTIO_NET_HDR_GSO_TCPV6 || type == PORT_VNET_UDP;
        hub_frame(&f, 2000, HUB_CONSUME, 2, type);
        put(&in, &f);
        assert_int_equal(poll_all(), 1);
        assert_int_equal(hub_counters(1).consumed, good);
    }
    assert_int_equal(hub_drops(1, DROP_BAD_OFFLOAD), 256 - good);
    end();
}

/* ---- peers ---------------------------------------------------------------------------------------------------------- */

/* 4.5.3 */
static void full_peer(enum dp_port_kind kind)
{
    const struct vnet_hdr plain = {0};
    start(kind, 0, ALL);
    uint32_t before = 0, small = 1;
    assert_int_equal(setsockopt(ours[2], SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
    for (uint32_t i = 0; i < 50; i++) {
        hub_frame(&f, 1514, HUB_SEND, 2, i);
        put(&plain, &f);
    }
    assert_int_equal(poll_all(), 50);
    struct vnet_hdr hdr;
    for (; get(&hdr); before++)
        assert_int_equal(get32(back.bytes + 6), before);            /* the first ones, in order */
    assert_in_range(before, 1, 49);
    assert_int_equal(hub_drops(1, DROP_TX_FULL), 50 - before);
    put(&plain, &f);
    poll_all();
    assert_true(get(&hdr));
    end();
}

/* 4.5.4 */
static void closed_peer(enum dp_port_kind kind)
{
    const struct vnet_hdr plain = {0};
    start(kind, 0, ALL);
    close(peer[2]);
    for (uint32_t i = 0; i < 70; i++) {
        hub_frame(&f, 100, i == 3 ? HUB_CONSUME : HUB_SEND, 2, i);
        put(&plain, &f);
    }
    assert_int_equal(poll_all(), 70);
    assert_int_equal(hub_drops(1, DROP_TX_ERROR), 69);
    assert_int_equal(hub_counters(2).sent, 0);
    assert_int_equal(poll_all(), 0);
    peer[2] = -1;
    end();
}

static void a_tap_that_would_block_is_refused(void **state)
{
    (void)state;
    const int closed = 999;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds), 0);
    hub_start(1, 0);
    assert_int_equal(hub_attach(1, DP_PORT_TAP, 0, 1, fds), DP_EINVAL);
    assert_int_equal(hub_attach(1, DP_PORT_TAP, 0, 1, &closed), DP_ESYS);
    assert_int_equal(dp_last_errno(hub), EBADF);
    assert_int_equal(hub_attach(1, DP_PORT_PACKET, 0, 1, &closed), DP_ESYS);
    assert_int_equal(dp_last_errno(hub), EBADF);
    assert_int_equal(hub_attach(1, DP_PORT_PACKET, 0, 1, fds), DP_OK);
    hub_end();
    close(fds[0]);
    close(fds[1]);
}

static void bursts_keep_their_frames_apart(void **state) { (void)state, each_kind(bursts); }
static void runts_are_received(void **state) { (void)state, each_kind(runts); }
static void a_frame_beyond_the_chain_is_dropped(void **state) { (void)state, each_kind(too_long); }
static void a_turn_is_bounded(void **state) { (void)state, each_kind(turns); }
static void turns_keep_the_order(void **state) { (void)state, each_kind(turns_of_mixed_lengths); }
static void short_of_slots_is_counted_and_passes(void **state) { (void)state, each_kind(short_of_slots); }
static void offloads_cross_both_ways(void **state) { (void)state, each_kind(offloads_both_ways); }
static void a_plain_port_gets_plain_frames(void **state) { (void)state, each_kind(no_offloads); }
static void unknown_segmentation_is_refused(void **state) { (void)state, each_kind(segmentation_types); }
static void a_full_peer_drops_the_newest(void **state) { (void)state, each_kind(full_peer); }
static void a_closed_peer_drops_all(void **state) { (void)state, each_kind(closed_peer); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bursts_keep_their_frames_apart),
        cmocka_unit_test(idle_slots_are_used_when_there_are_no_more),
        cmocka_unit_test(runts_are_received),
        cmocka_unit_test(a_frame_beyond_the_chain_is_dropped),
        cmocka_unit_test(short_of_slots_is_counted_and_passes),
        cmocka_unit_test(a_turn_is_bounded),
        cmocka_unit_test(turns_keep_the_order),
        cmocka_unit_test(offloads_cross_both_ways),
        cmocka_unit_test(a_plain_port_gets_plain_frames),
        cmocka_unit_test(unknown_segmentation_is_refused),
        cmocka_unit_test(a_full_peer_drops_the_newest),
        cmocka_unit_test(a_closed_peer_drops_all),
        cmocka_unit_test(a_tap_that_would_block_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
