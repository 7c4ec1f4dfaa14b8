/* Worker threads: nothing is lost or mixed up, ports come and go meanwhile, an idle worker sleeps. */
#include <linux/virtio_net.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include "hub.h"

enum { HDR = sizeof(struct vnet_hdr), QUEUES = 2 };
#define MILLISECOND 1000000ull

static uint64_t now_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- ports over socket pairs ----------------------------------------------------------------- */

struct device {
    int ours[QUEUES], peer[QUEUES];
};

static void device_open_queue(struct device *d, int q)
{
    const int size = 4 << 20;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    d->ours[q] = fds[0];
    d->peer[q] = fds[1];
    for (int i = 0; i < 2; i++)
        assert_int_equal(setsockopt(fds[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size), 0);
}

static struct device device_open(void)
{
    struct device d;
    for (int q = 0; q < QUEUES; q++)
        device_open_queue(&d, q);
    return d;
}

static void device_close(struct device *d)
{
    for (int q = 0; q < QUEUES; q++) {
        close(d->ours[q]);
        close(d->peer[q]);
    }
}

static void start(uint32_t workers, uint32_t spin_us)
{
    const struct dp_config config = {.workers = workers, .spin_us = spin_us, .router_mac = {2, 0, 0, 0, 0, 1}, .hash_key = {1, 2}};
    assert_int_equal(dp_create(&config, &hub), DP_OK);
    hub_held_n = 0;
}

/* True once `fd` has something to read; false after ten seconds. */
static bool readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 10000) == 1;
}

/* ---- traffic --------------------------------------------------------------------------------- */

enum { FRAMES = 20000, AHEAD = 150 };

struct flow {
    struct device *from, *to;
    uint8_t to_port, source;
    int queue;
    uint32_t sent, got, wrong, last;
};

static bool flow_send(struct flow *flow)
{
    uint8_t bytes[HDR + 2048] = {0}, *frame = bytes + HDR;
    uint32_t len = 60 + flow->sent % 1000;
    frame[0] = 2, frame[4] = HUB_SEND, frame[5] = flow->to_port;
    put32(frame + 6, flow->sent);
    frame[10] = (uint8_t)flow->queue;
    frame[11] = flow->source;
    if (send(flow->from->peer[flow->queue], bytes, HDR + len, 0) != (ssize_t)(HDR + len))
        return false;
    flow->sent++;
    return true;
}

/* What comes out must have the length that belongs to its number, and numbers only rise. */
static bool flow_receive(struct flow *flow)
{
    uint8_t bytes[HDR + 2048];
    ssize_t n = recv(flow->to->peer[flow->queue], bytes, sizeof bytes, 0);
    if (n < 0)
        return false;
    uint32_t number = get32(bytes + HDR + 6);
    flow->wrong += n != HDR + 60 + number % 1000 || (flow->got && number <= flow->last) || bytes[HDR + 10] != flow->queue;
    flow->last = number;
    flow->got++;
    return true;
}

/* Keeps up to AHEAD frames on their way until all have come back. */
static void *run_flow(void *arg)
{
    struct flow *flow = arg;
    while (flow->got < FRAMES) {
        while (flow->sent < FRAMES && flow->sent - flow->got < AHEAD && flow_send(flow))
            ;
        if (!flow_receive(flow) && !readable(flow->to->peer[flow->queue]))
            break;
    }
    return NULL;
}

/* Two ports of two queues, both ways at once. Queue q belongs to worker q, which sends by queue q. */
static void cross(enum dp_port_kind kind)
{
    struct device d[2] = {device_open(), device_open()};
    struct flow flows[4];
    pthread_t threads[4];
    start(QUEUES, 20);
    for (uint32_t id = 1; id <= 2; id++)
        assert_int_equal(hub_attach(id, kind, DP_OFFLOAD_CSUM, QUEUES, d[id - 1].ours), DP_OK);
    assert_int_equal(dp_start(hub), DP_OK);
    for (int i = 0; i < 4; i++) {
        flows[i] = (struct flow){.from = &d[i / 2], .to = &d[1 - i / 2], .to_port = (uint8_t)(2 - i / 2), .queue = i % 2};
        pthread_create(&threads[i], NULL, run_flow, &flows[i]);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(dp_stop(hub), DP_OK);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(flows[i].got, FRAMES);
        assert_int_equal(flows[i].wrong, 0);
    }
    assert_int_equal(hub_balance(), 4 * FRAMES);
    assert_int_equal(hub_counters(1).sent + hub_counters(2).sent, 4 * FRAMES);
    hub_end();
    device_close(&d[0]);
    device_close(&d[1]);
}

static void taps_cross_without_loss_or_disorder(void **state) { (void)state, cross(DP_PORT_TAP); }
static void packet_sockets_cross_without_loss_or_disorder(void **state) { (void)state, cross(DP_PORT_PACKET); }

/* ---- ports that come and go ------------------------------------------------------------------ */

static _Atomic bool enough;

static void *flood(void *arg)
{
    struct flow *flow = arg;
    while (!enough) {
        struct pollfd p = {.fd = flow->from->peer[flow->queue], .events = POLLOUT};
        if (!flow_send(flow))
            poll(&p, 1, 10);
    }
    return NULL;
}

static void ports_come_and_go_under_traffic(void **state)
{
    (void)state;
    struct device from = device_open(), to = device_open();
    struct flow flows[QUEUES];
    pthread_t threads[QUEUES];
    start(QUEUES, 0);
    assert_int_equal(hub_attach(1, DP_PORT_TAP, 0, QUEUES, from.ours), DP_OK);
    assert_int_equal(dp_start(hub), DP_OK);
    enough = false;
    for (int q = 0; q < QUEUES; q++) {
        flows[q] = (struct flow){.from = &from, .to = &to, .to_port = 2, .queue = q};
        pthread_create(&threads[q], NULL, flood, &flows[q]);
    }
    for (int i = 0; i < 100; i++) {
        assert_int_equal(hub_attach(2, i % 2 ? DP_PORT_TAP : DP_PORT_PACKET, 0, QUEUES, to.ours), DP_OK);
        assert_true(readable(to.peer[i % QUEUES]));
        for (int n = 0; n < 200; n++)
            flow_receive(&flows[n % QUEUES]);
        assert_int_equal(dp_port_detach(hub, 2), DP_OK);
    }
    enough = true;
    for (int q = 0; q < QUEUES; q++)
        pthread_join(threads[q], NULL);
    assert_int_equal(dp_stop(hub), DP_OK);
    while (dp_poll(hub, now_ns(CLOCK_MONOTONIC)) > 0)
        ;
    assert_int_equal(hub_balance(), flows[0].sent + flows[1].sent);
    assert_int_equal(flows[0].wrong + flows[1].wrong, 0);
    assert_true(hub_drops(1, DROP_PORT_DOWN) > 0);
    hub_end();
    device_close(&from);
    device_close(&to);
}

/* ---- sleep ----------------------------------------------------------------------------------- */

/* CPU time of the process over some wall-clock time without packets. */
static uint64_t idle_cost(uint64_t wall)
{
    uint64_t before = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    poll(NULL, 0, (int)(wall / MILLISECOND));
    return now_ns(CLOCK_PROCESS_CPUTIME_ID) - before;
}

static void an_idle_worker_sleeps(void **state)
{
    (void)state;
    struct device d[2] = {device_open(), device_open()};
    struct flow flow = {.from = &d[0], .to = &d[1], .to_port = 2};
    start(QUEUES, 1000);
    for (uint32_t id = 1; id <= 2; id++)
        assert_int_equal(hub_attach(id, DP_PORT_TAP, 0, QUEUES, d[id - 1].ours), DP_OK);
    assert_int_equal(dp_start(hub), DP_OK);
    for (int i = 0; i < 20; i++) {
        assert_true(flow_send(&flow));
        assert_true(readable(d[1].peer[0]));
        assert_true(flow_receive(&flow));
    }
    assert_true(idle_cost(300 * MILLISECOND) < 6 * MILLISECOND);        /* 2 % */
    assert_true(flow_send(&flow));
    assert_true(readable(d[1].peer[0]));
    hub_end();
    device_close(&d[0]);
    device_close(&d[1]);
}

/* The one that gets a packet each time it sleeps; the other one, that has none, once at most for each start. */
static void wake_ups_are_counted(void **state)
{
    (void)state;
    enum { TIMES = 10 };
    struct device d = device_open();
    uint8_t bytes[HDR + 60] = {0};
    bytes[HDR + 4] = HUB_SEND, bytes[HDR + 5] = 1;
    start(QUEUES, 0);
    assert_int_equal(hub_attach(1, DP_PORT_TAP, 0, QUEUES, d.ours), DP_OK);
    assert_int_equal(dp_wakeups(hub, 0) + dp_wakeups(hub, 1), 0);
    assert_int_equal(dp_start(hub), DP_OK);
    for (int i = 1; i <= TIMES; i++) {
        assert_int_equal(send(d.peer[0], bytes, sizeof bytes, 0), sizeof bytes);
        assert_true(readable(d.peer[0]));
        assert_true(recv(d.peer[0], bytes, sizeof bytes, 0) > 0);
        for (int tries = 0; tries < 10000 && dp_wakeups(hub, 0) < (uint64_t)i; tries++)
            poll(NULL, 0, 1);
    }
    assert_in_range(dp_wakeups(hub, 0), TIMES, 3 * TIMES);
    assert_int_equal(dp_wakeups(hub, 1), 0);
    assert_int_equal(dp_wakeups(hub, QUEUES), 0);
    hub_end();
    device_close(&d);
}

/* How often the worker sleeps while packets come soon after each other, one at a time. */
static uint64_t sleeps_of(struct flow *flow, int times)
{
    uint64_t before = dp_wakeups(hub, 0);
    for (int i = 0; i < times; i++) {
        assert_true(flow_send(flow));
        assert_true(readable(flow->to->peer[0]));
        assert_true(flow_receive(flow));
    }
    return dp_wakeups(hub, 0) - before;
}

/* At any time; the other port is one that it would look on for, were there packets. */
static void a_worker_does_not_look_on_for_a_port_that_sleeps(void **state)
{
    (void)state;
    enum { TIMES = 50, SECOND_US = 1000000 };
    struct device d[2] = {device_open(), device_open()};
    struct flow flow = {.from = &d[0], .to = &d[1], .to_port = 2};
    start(1, SECOND_US);
    assert_int_equal(dp_port_spin(hub, 1, 0), DP_ENOENT);
    assert_int_equal(dp_port_spin(hub, DP_MAX_PORTS, 0), DP_ENOENT);
    for (uint32_t id = 1; id <= 2; id++)
        assert_int_equal(hub_attach(id, DP_PORT_TAP, 0, 1, d[id - 1].ours), DP_OK);
    assert_int_equal(dp_port_spin(hub, 1, 0), DP_OK);
    assert_int_equal(dp_start(hub), DP_OK);
    assert_true(sleeps_of(&flow, TIMES) >= TIMES - 1);
    assert_true(idle_cost(300 * MILLISECOND) < 6 * MILLISECOND);
    assert_int_equal(dp_port_spin(hub, 1, 1), DP_OK);
    assert_true(sleeps_of(&flow, TIMES) < TIMES / 2);
    assert_int_equal(dp_port_spin(hub, 1, 0), DP_OK);
    poll(NULL, 0, 2 * SECOND_US / 1000);                /* it looks on for those before */
    assert_true(sleeps_of(&flow, TIMES) >= TIMES - 1);
    hub_end();
    device_close(&d[0]);
    device_close(&d[1]);
}

static void a_dead_device_does_not_keep_a_worker_awake(void **state)
{
    (void)state;
    struct device d = device_open();
    start(1, 0);
    assert_int_equal(hub_attach(1, DP_PORT_TAP, 0, QUEUES, d.ours), DP_OK);
    assert_int_equal(dp_start(hub), DP_OK);
    close(d.peer[0]);
    close(d.peer[1]);
    assert_true(idle_cost(300 * MILLISECOND) < 6 * MILLISECOND);
    d.peer[0] = d.peer[1] = -1;
    hub_end();
    device_close(&d);
}

/*
 * The descriptor becomes a live device again behind our back, as one does that goes down and up between read
 * and poll.
 */
/* Two floods take turns, and a third port's only frame waits for no more than one of each. */
static void queues_take_turns(enum dp_port_kind kind)
{
    enum { FLOOD = 400, MOST = 2 * DP_BATCH };
    struct device d[4] = {device_open(), device_open(), device_open(), device_open()};
    struct flow flows[3];
    uint32_t got[3] = {0};
    start(1, 0);
    for (uint32_t id = 1; id <= 4; id++)
        assert_int_equal(hub_attach(id, kind, 0, 1, d[id - 1].ours), DP_OK);
    for (int i = 0; i < 3; i++) {
        flows[i] = (struct flow){.from = &d[i], .to = &d[3], .to_port = 4, .source = (uint8_t)i};
        while (flows[i].sent < (i == 2 ? 1 : FLOOD))
            assert_true(flow_send(&flows[i]));
    }
    assert_int_equal(dp_start(hub), DP_OK);
    for (uint32_t n = 0; n < 2 * FLOOD + 1; n++) {
        uint8_t bytes[HDR + 2048];
        assert_true(readable(d[3].peer[0]));
        assert_true(recv(d[3].peer[0], bytes, sizeof bytes, 0) > HDR);
        got[bytes[HDR + 11]]++;
        assert_true(got[0] <= got[1] + MOST && got[1] <= got[0] + MOST);
        assert_true(n < MOST || got[2] == 1);
    }
    hub_end();
    for (int i = 0; i < 4; i++)
        device_close(&d[i]);
}

static void tap_queues_take_turns(void **state) { (void)state, queues_take_turns(DP_PORT_TAP); }
static void packet_queues_take_turns(void **state) { (void)state, queues_take_turns(DP_PORT_PACKET); }

enum { LONG = 65000, LONG_SIZE = 48, LONG_FRAMES = 3, PART_MAX = 4096 };

/* As a VM may send it: 1,354 segments. */
static void long_send(struct device *d, uint8_t to_port)
{
    static struct frame f;
    struct vnet_hdr hdr = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .gso_size = LONG_SIZE, .csum_offset = 16};
    hdr.csum_start = (uint16_t)frame_l4(&f, 4, PROTO_TCP, TCP_LEN + LONG, 1);
    f.bytes[0] = 2, f.bytes[4] = HUB_SEND, f.bytes[5] = to_port;
    put32(f.bytes + hdr.csum_start + 4, 0);
    f.bytes[hdr.csum_start + 12] = 0x50;
    struct iovec iov[2] = {{&hdr, sizeof hdr}, {f.bytes, f.len}};
    assert_int_equal(writev(d->peer[0], iov, 2), sizeof hdr + f.len);
}

/* Bytes of payload of what comes out next; 0: it is no part of a long packet, which is `*at` bytes on by now. */
static uint32_t long_part(struct device *d, uint32_t *at)
{
    uint8_t bytes[PART_MAX];
    const struct vnet_hdr *hdr = (const struct vnet_hdr *)(void *)bytes;
    assert_true(readable(d->peer[0]));
    ssize_t n = recv(d->peer[0], bytes, sizeof bytes, MSG_TRUNC);
    assert_true(n > HDR && n < (ssize_t)sizeof bytes);
    if (!hdr->gso_type)
        return 0;
    uint32_t headers = HDR + hdr->csum_start + TCP_LEN, payload = (uint32_t)n - headers;
    assert_int_equal(get32(bytes + headers - TCP_LEN + 4), *at % LONG);
    *at += payload;
    return payload;
}

/* Beside a flood that takes whole turns, one packet takes as many of them as it has times IO_SEGMENTS segments. */
static void a_long_packet_takes_turns(enum dp_port_kind kind)
{
    enum { FLOOD = 400, PARTS = (LONG / LONG_SIZE + IO_SEGMENTS) / IO_SEGMENTS };
    struct device d[3] = {device_open(), device_open(), device_open()};
    struct flow flow = {.from = &d[1], .to_port = 3};
    start(1, 0);
    for (uint32_t id = 1; id <= 3; id++)
        assert_int_equal(hub_attach(id, kind, DP_OFFLOAD_CSUM | DP_OFFLOAD_TSO4, 1, d[id - 1].ours), DP_OK);
    for (uint32_t i = 0; i < LONG_FRAMES; i++)
        long_send(&d[0], 3);
    while (flow.sent < FLOOD)
        assert_true(flow_send(&flow));
    assert_int_equal(dp_start(hub), DP_OK);
    uint32_t at = 0, parts = 0, others = 0;
    for (bool was_part = false; parts < LONG_FRAMES * PARTS || others < FLOOD;) {
        uint32_t payload = long_part(&d[2], &at);
        assert_true(payload <= IO_SEGMENTS * LONG_SIZE);
        assert_true(!payload || !was_part || others == FLOOD);
        was_part = payload;
        parts += was_part;
        others += !was_part;
    }
    assert_int_equal(at, LONG_FRAMES * LONG);
    assert_int_equal(dp_stop(hub), DP_OK);
    assert_int_equal(hub_balance(), LONG_FRAMES + FLOOD);
    assert_int_equal(hub_counters(1).originated, LONG_FRAMES * (PARTS - 1));
    hub_end();
    for (int i = 0; i < 3; i++)
        device_close(&d[i]);
}

static void a_long_packet_takes_turns_of_a_tap(void **state) { (void)state, a_long_packet_takes_turns(DP_PORT_TAP); }
static void a_long_packet_takes_turns_of_a_socket(void **state) { (void)state, a_long_packet_takes_turns(DP_PORT_PACKET); }

static void a_port_goes_amid_a_long_packet(void **state)
{
    (void)state;
    struct device d[2] = {device_open(), device_open()};
    for (int i = 0; i < 20; i++) {
        uint32_t at = 0;
        start(1, 0);
        for (uint32_t id = 1; id <= 2; id++)
            assert_int_equal(hub_attach(id, DP_PORT_TAP, DP_OFFLOAD_CSUM | DP_OFFLOAD_TSO4, 1, d[id - 1].ours), DP_OK);
        long_send(&d[0], 2);
        assert_int_equal(dp_start(hub), DP_OK);
        assert_true(long_part(&d[1], &at) > 0);
        assert_int_equal(dp_port_detach(hub, 1), DP_OK);
        hub_end();
        for (uint8_t bytes[PART_MAX]; recv(d[1].peer[0], bytes, sizeof bytes, 0) > 0;)
            ;
    }
    device_close(&d[0]);
    device_close(&d[1]);
}

static void a_device_that_erred_is_heard_again(void **state)
{
    (void)state;
    struct device dead = device_open(), live = device_open(), to = device_open();
    struct flow flow = {.from = &live, .to = &to, .to_port = 2};
    start(1, 0);
    assert_int_equal(hub_attach(1, DP_PORT_TAP, 0, QUEUES, dead.ours), DP_OK);
    assert_int_equal(hub_attach(2, DP_PORT_TAP, 0, QUEUES, to.ours), DP_OK);
    assert_int_equal(dp_start(hub), DP_OK);
    close(dead.peer[0]);
    dead.peer[0] = -1;
    for (int i = 0; i < 3; i++) {
        poll(NULL, 0, 100);             /* erred a few times by now */
        assert_true(dup2(live.ours[0], dead.ours[0]) >= 0);
        assert_true(flow_send(&flow));
        assert_true(readable(to.peer[0]));
        assert_true(flow_receive(&flow));
        close(live.ours[0]);
        close(live.peer[0]);
        poll(NULL, 0, 20);
        device_open_queue(&live, 0);
    }
    hub_end();
    device_close(&dead);
    device_close(&live);
    device_close(&to);
}

static void a_timer_wakes_worker_0(void **state)
{
    (void)state;
    struct device d[2] = {device_open(), device_open()};
    uint8_t bytes[HDR + 60] = {0};
    start(1, 0);
    for (uint32_t id = 1; id <= 2; id++)
        assert_int_equal(hub_attach(id, DP_PORT_TAP, 0, 1, d[id - 1].ours), DP_OK);
    assert_int_equal(dp_start(hub), DP_OK);
    bytes[HDR + 4] = HUB_HOLD, bytes[HDR + 5] = 2;
    uint64_t before = now_ns(CLOCK_MONOTONIC);
    assert_int_equal(send(d[0].peer[0], bytes, sizeof bytes, 0), sizeof bytes);
    assert_true(readable(d[1].peer[0]));
    assert_true(now_ns(CLOCK_MONOTONIC) - before >= NEIGH_RETRY_NS);
    hub_end();
    device_close(&d[0]);
    device_close(&d[1]);
}

static void what_is_held_when_the_engine_stops_is_dropped(void **state)
{
    (void)state;
    struct device d = device_open();
    uint8_t bytes[HDR + 60] = {0};
    start(1, 0);
    assert_int_equal(hub_attach(1, DP_PORT_TAP, 0, 1, d.ours), DP_OK);
    assert_int_equal(dp_start(hub), DP_OK);
    assert_int_equal(dp_start(hub), DP_EBUSY);
    assert_int_equal(dp_poll(hub, UINT64_MAX), DP_EBUSY);
    bytes[HDR + 4] = HUB_HOLD, bytes[HDR + 5] = 1;
    assert_int_equal(send(d.peer[0], bytes, sizeof bytes, 0), sizeof bytes);
    for (int i = 0; i < 10000 && hub_counters(1).held == 0; i++)
        poll(NULL, 0, 1);
    assert_int_equal(hub_counters(1).held, 1);
    assert_int_equal(dp_stop(hub), DP_OK);
    assert_int_equal(hub_counters(1).held, 0);
    assert_int_equal(hub_drops(1, DROP_STOPPED), 1);
    hub_end();
    device_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(taps_cross_without_loss_or_disorder),
        cmocka_unit_test(packet_sockets_cross_without_loss_or_disorder),
        cmocka_unit_test(ports_come_and_go_under_traffic),
        cmocka_unit_test(an_idle_worker_sleeps),
        cmocka_unit_test(wake_ups_are_counted),
        cmocka_unit_test(a_worker_does_not_look_on_for_a_port_that_sleeps),
        cmocka_unit_test(a_dead_device_does_not_keep_a_worker_awake),
        cmocka_unit_test(tap_queues_take_turns),
        cmocka_unit_test(packet_queues_take_turns),
        cmocka_unit_test(a_long_packet_takes_turns_of_a_tap),
        cmocka_unit_test(a_long_packet_takes_turns_of_a_socket),
        cmocka_unit_test(a_port_goes_amid_a_long_packet),
        cmocka_unit_test(a_device_that_erred_is_heard_again),
        cmocka_unit_test(a_timer_wakes_worker_0),
        cmocka_unit_test(what_is_held_when_the_engine_stops_is_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
