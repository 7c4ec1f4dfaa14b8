/* Memory ports: what is injected and collected, and what the engine counts meanwhile. */
#include "hub.h"

static struct frame f, back;
static struct dp_frame meta;

static void inject(uint32_t port, const struct frame *frame, uint64_t time, uint32_t flow)
{
    const struct dp_frame m = {.time = time, .len = frame->len, .flow = flow};
    assert_int_equal(dp_inject(hub, port, &m, frame->bytes), DP_OK);
}

static bool collect(uint32_t port)
{
    int got = dp_collect(hub, port, &meta, back.bytes, sizeof back.bytes);
    assert_true(got == 0 || got == 1);
    back.len = got ? meta.len : 0;
    return got;
}

static void start(uint32_t workers, uint32_t slots, uint32_t offloads)
{
    hub_start(workers, slots);
    for (uint32_t id = 0; id < 3; id++)
        assert_int_equal(hub_attach(id, DP_PORT_MEM, offloads, 0, NULL), DP_OK);
}

static void a_frame_crosses_unchanged_at_every_length(void **state)
{
    (void)state;
    const uint32_t lengths[] = {14, 60, 1514, POOL_HEAD_MAX, POOL_HEAD_MAX + 1, 9014, 65549};
    start(1, 0, 0);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        hub_frame(&f, lengths[i], HUB_SEND, 2, 7);
        inject(1, &f, 1000 + i, 0);
        assert_int_equal(dp_poll(hub, 5000 + i), 1);
        assert_true(collect(2));
        assert_int_equal(meta.time, 1000 + i);
        assert_int_equal(back.len, f.len);
        assert_memory_equal(back.bytes, f.bytes, f.len);
        assert_false(collect(2));
    }
    assert_int_equal(hub_counters(1).received, sizeof lengths / sizeof *lengths);
    assert_int_equal(hub_counters(1).rx_bytes, hub_counters(2).tx_bytes);
    hub_end();
}

static void a_runt_is_received_too(void **state)
{
    (void)state;
    start(1, 0, 0);
    for (f.len = 0; f.len < ETH_LEN; f.len++)
        inject(1, &f, 0, 0);
    assert_int_equal(dp_poll(hub, 0), ETH_LEN);
    assert_int_equal(hub_drops(1, DROP_MULTICAST), ETH_LEN);
    hub_end();
}

static void offload_metadata_crosses(void **state)
{
    (void)state;
    start(1, 0, DP_OFFLOAD_CSUM | DP_OFFLOAD_TSO4);
    hub_frame(&f, 20000, HUB_SEND, 2, 0);
    struct dp_frame m = {.len = f.len, .csum_partial = 1, .csum_start = 34, .csum_offset = 16, .gso = DP_GSO_TCP4, .gso_size = 1448};
    assert_int_equal(dp_inject(hub, 1, &m, f.bytes), DP_OK);
    dp_poll(hub, 0);
    assert_true(collect(2));
    assert_memory_equal(&meta, &m, sizeof m);
    assert_int_equal(hub_counters(1).rx_gso, 1);
    assert_int_equal(hub_counters(1).rx_csum_partial, 1);
    assert_int_equal(hub_counters(2).tx_gso, 1);
    assert_int_equal(hub_counters(2).tx_csum_partial, 1);
    m.gso = DP_GSO_TCP6;                            /* not agreed on with this port */
    assert_int_equal(dp_inject(hub, 1, &m, f.bytes), DP_OK);
    dp_poll(hub, 0);
    assert_false(collect(2));
    assert_int_equal(hub_drops(1, DROP_TX_ERROR), 1);
    hub_end();
}

/* 4.2.4 */
static void a_port_without_the_offload_gets_a_complete_checksum(void **state)
{
    (void)state;
    start(1, 0, 0);
    uint32_t l4 = frame_l4(&f, 4, PROTO_UDP, 100, 1);
    f.bytes[0] = 2, f.bytes[4] = HUB_SEND, f.bytes[5] = 2;
    struct dp_frame m = {.len = f.len, .csum_partial = 1, .csum_start = (uint16_t)l4, .csum_offset = 6};
    assert_int_equal(dp_inject(hub, 1, &m, f.bytes), DP_OK);
    dp_poll(hub, 0);
    assert_true(collect(2));
    assert_int_equal(meta.csum_partial, 0);
    assert_int_equal(naive_residue(back.bytes + ETH_LEN, PROTO_UDP, back.bytes + l4, 100), 0xffff);
    assert_int_equal(hub_counters(2).tx_csum_partial, 0);
    m.csum_start = (uint16_t)f.len;                 /* beyond the packet: can't be completed */
    assert_int_equal(dp_inject(hub, 1, &m, f.bytes), DP_OK);
    dp_poll(hub, 0);
    assert_int_equal(hub_drops(1, DROP_TX_ERROR), 1);
    hub_end();
}

static void frames_leave_in_order_over_all_workers(void **state)
{
    (void)state;
    start(3, 0, 0);
    for (uint32_t i = 0; i < 900; i++) {
        hub_frame(&f, 60, HUB_SEND, 2, i);
        inject(1, &f, i, i);
    }
    assert_int_equal(dp_poll(hub, 0), 900);
    uint32_t next[3] = {0, 1, 2};                   /* each worker's flows stay in order; workers take turns by bursts */
    for (uint32_t i = 0; i < 900; i++) {
        assert_true(collect(2));
        uint32_t number = get32(back.bytes + 6);
        assert_int_equal(number, next[number % 3]);
        next[number % 3] += 3;
        assert_int_equal(number % 3, i < 3 * 256 ? i / DP_BATCH % 3 : (i - 3 * 256) / 44 % 3);
    }
    assert_false(collect(2));
    hub_end();
}

static void every_end_of_a_packet_is_counted(void **state)
{
    (void)state;
    start(1, 0, 0);
    const enum hub_action actions[] = {HUB_SEND, HUB_CONSUME, HUB_DROP, HUB_COPY, HUB_HOLD};
    for (uint32_t i = 0; i < 500; i++) {
        hub_frame(&f, 60 + rnd(5000), actions[i % 5], i % 3 ? 2 : 9, i);
        inject(1, &f, i, 0);
    }
    assert_int_equal(dp_poll(hub, 600), 500);
    assert_int_equal(hub_balance(), 500);
    struct dp_counters c = hub_counters(1);
    assert_int_equal(c.originated, 100);
    assert_int_equal(c.consumed, 100);
    assert_int_equal(c.held, 100);
    assert_int_equal(hub_drops(1, DROP_MULTICAST), 100);
    assert_int_equal(hub_drops(1, DROP_PORT_DOWN), 34 + 2 * 34);
    dp_poll(hub, 600 + NEIGH_RETRY_NS);
    assert_int_equal(hub_counters(1).held, 0);
    assert_int_equal(hub_balance(), 500);
    hub_end();
}

static void too_few_slots_are_a_counted_drop(void **state)
{
    (void)state;
    start(1, 5, 0);
    for (uint32_t i = 0; i < 8; i++) {
        hub_frame(&f, 60, HUB_CONSUME, 2, i);
        inject(1, &f, 0, 0);
    }
    hub_frame(&f, 65549, HUB_CONSUME, 2, 8);
    inject(1, &f, 0, 0);
    assert_int_equal(dp_poll(hub, 0), 9);
    assert_int_equal(hub_drops(1, DROP_NO_SLOT), 4);
    assert_int_equal(hub_counters(1).consumed, 5);
    hub_end();
}

static void a_peer_that_does_not_collect_fills_its_queue(void **state)
{
    (void)state;
    start(1, 0, 0);
    for (uint32_t i = 0; i < 4100; i++) {
        hub_frame(&f, 60, HUB_SEND, 2, i);
        inject(1, &f, 0, 0);
    }
    assert_int_equal(dp_poll(hub, 0), 4100);
    assert_int_equal(hub_drops(1, DROP_TX_FULL), 4);
    assert_true(collect(2));
    assert_int_equal(get32(back.bytes + 6), 0);
    hub_end();
}

static void wrong_calls_are_refused(void **state)
{
    (void)state;
    const int fd = 0;
    start(2, 0, 0);
    hub_frame(&f, 60, HUB_SEND, 2, 0);
    struct dp_frame m = {.len = 65550};
    assert_int_equal(dp_inject(hub, 1, &m, f.bytes), DP_EINVAL);
    m.len = 60;
    assert_int_equal(dp_inject(hub, 9, &m, f.bytes), DP_EINVAL);
    m.gso = 3;
    assert_int_equal(dp_inject(hub, 1, &m, f.bytes), DP_EINVAL);
    assert_int_equal(hub_attach(1, DP_PORT_MEM, 0, 0, NULL), DP_EEXIST);
    assert_int_equal(hub_attach(DP_MAX_PORTS, DP_PORT_MEM, 0, 0, NULL), DP_EINVAL);
    assert_int_equal(hub_attach(5, DP_PORT_MEM, DP_OFFLOAD_TSO4, 0, NULL), DP_EINVAL);
    assert_int_equal(hub_attach(5, DP_PORT_TAP, 0, 0, NULL), DP_EINVAL);
    assert_int_equal(hub_attach(5, DP_PORT_PCAP, 0, 1, &fd), DP_EINVAL);   /* two workers, one file */
    assert_int_equal(dp_port_detach(hub, 5), DP_ENOENT);
    assert_int_equal(dp_poll(hub, 100), 0);
    assert_int_equal(dp_poll(hub, 99), DP_EINVAL);
    inject(1, &f, 0, 0);
    dp_poll(hub, 100);
    assert_int_equal(dp_collect(hub, 2, &meta, back.bytes, 59), DP_EINVAL);
    assert_true(collect(2));
    hub_end();
}

static void counters_outlive_their_port(void **state)
{
    (void)state;
    start(1, 0, 0);
    struct dp_counters c;
    assert_int_equal(dp_counters_read(hub, 7, &c, NULL), DP_ENOENT);
    assert_int_equal(dp_counters_read(hub, DP_MAX_PORTS, &c, NULL), DP_EINVAL);
    hub_frame(&f, 60, HUB_SEND, 2, 0);
    inject(1, &f, 0, 0);
    inject(1, &f, 0, 0);
    dp_poll(hub, 0);
    inject(1, &f, 0, 0);                            /* never received: the port goes first */
    assert_int_equal(dp_port_detach(hub, 1), DP_OK);
    assert_int_equal(dp_port_detach(hub, 2), DP_OK);
    assert_int_equal(hub_counters(1).received, 2);
    assert_int_equal(hub_counters(2).sent, 2);
    assert_int_equal(hub_attach(1, DP_PORT_MEM, 0, 0, NULL), DP_OK);
    assert_int_equal(dp_poll(hub, 0), 0);
    hub_end();
}

static void a_subnet_starts_counting_at_zero(void **state)
{
    (void)state;
    static struct subnet subnets[3] = {{0, 0}, {5001, 1}, {0, 0}};
    struct dp_vsid_counters out[2];
    start(2, 0, 0);
    hub_tables.subnets = subnets;
    hub_tables.subnet_count = 2;
    hub->workers[0].io.vsid_stats[1].from_port = 3;
    hub->workers[1].io.vsid_stats[1].from_port = 4;
    assert_int_equal(dp_vsid_counters_read(hub, out, 2), 1);
    assert_int_equal(out[0].vsid, 5001);
    assert_int_equal(out[0].from_port, 7);
    stats_subnet_reset(&hub->subnets, 1);
    subnets[1].vsid = 5002;
    hub->workers[0].io.vsid_stats[1].from_port++;
    assert_int_equal(dp_vsid_counters_read(hub, out, 0), 1);
    assert_int_equal(dp_vsid_counters_read(hub, out, 2), 1);
    assert_int_equal(out[0].vsid, 5002);
    assert_int_equal(out[0].from_port, 1);
    hub_tables = (struct tables){0};
    hub_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_crosses_unchanged_at_every_length),
        cmocka_unit_test(a_runt_is_received_too),
        cmocka_unit_test(offload_metadata_crosses),
        cmocka_unit_test(a_port_without_the_offload_gets_a_complete_checksum),
        cmocka_unit_test(frames_leave_in_order_over_all_workers),
        cmocka_unit_test(every_end_of_a_packet_is_counted),
        cmocka_unit_test(too_few_slots_are_a_counted_drop),
        cmocka_unit_test(a_peer_that_does_not_collect_fills_its_queue),
        cmocka_unit_test(wrong_calls_are_refused),
        cmocka_unit_test(counters_outlive_their_port),
        cmocka_unit_test(a_subnet_starts_counting_at_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
