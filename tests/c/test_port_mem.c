/* Memory ports: what is injected and collected, and what the engine counts meanwhile. */
#include "hub.h"

static struct frame f, back;
static struct dp_frame meta;

static void inject(uint32_t port, const struct frame *frame, uint64_t time, uint32_t flow)
{
    const struct dp_frame m = {.time = time, .len = frame->len, .flow = flow};
    assert_int_equal(dp_inject(hub, port, &m, 1, frame->bytes), DP_OK);
}

static bool collect(uint32_t port)
{
    int got = dp_collect(hub, port, &meta, 1, back.bytes, sizeof back.bytes);
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
    assert_int_equal(dp_inject(hub, 1, &m, 1, f.bytes), DP_OK);
    dp_poll(hub, 0);
    assert_true(collect(2));
    assert_memory_equal(&meta, &m, sizeof m);
    assert_int_equal(hub_counters(1).rx_gso, 1);
    assert_int_equal(hub_counters(1).rx_csum_partial, 1);
    assert_int_equal(hub_counters(2).tx_gso, 1);
    assert_int_equal(hub_counters(2).tx_csum_partial, 1);
    m.gso = DP_GSO_TCP6;                            /* not agreed on with this port */
    assert_int_equal(dp_inject(hub, 1, &m, 1, f.bytes), DP_OK);
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
    assert_int_equal(dp_inject(hub, 1, &m, 1, f.bytes), DP_OK);
    dp_poll(hub, 0);
    assert_true(collect(2));
    assert_int_equal(meta.csum_partial, 0);
    assert_int_equal(naive_residue(back.bytes + ETH_LEN, PROTO_UDP, back.bytes + l4, 100), 0xffff);
    assert_int_equal(hub_counters(2).tx_csum_partial, 0);
    m.csum_start = (uint16_t)f.len;                 /* beyond the packet: can't be completed */
    assert_int_equal(dp_inject(hub, 1, &m, 1, f.bytes), DP_OK);
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

/* As many as there is room for each time: 3 frames, then the bytes of 2, then all. */
static void many_frames_cross_in_one_call(void **state)
{
    (void)state;
    enum { MANY = 10 };
    static uint8_t bytes[MANY * 200], got[MANY * 200];
    struct dp_frame in[MANY], left[MANY];
    uint32_t size = 0;
    start(1, 0, 0);
    for (uint32_t i = 0; i < MANY; i++) {
        hub_frame(&f, 60 + 7 * i, HUB_SEND, 2, i);
        in[i] = (struct dp_frame){.time = i, .len = f.len};
        memcpy(bytes + size, f.bytes, f.len);
        size += f.len;
    }
    assert_int_equal(dp_inject(hub, 1, in, 0, bytes), DP_OK);
    assert_int_equal(dp_inject(hub, 1, in, MANY, bytes), DP_OK);
    in[MANY - 1].gso = 4;                           /* of these, none is taken */
    assert_int_equal(dp_inject(hub, 1, in, MANY, bytes), DP_EINVAL);
    in[MANY - 1].gso = 0;
    assert_int_equal(dp_poll(hub, 0), MANY);
    const uint32_t three = in[0].len + in[1].len + in[2].len, five = three + in[3].len + in[4].len;
    assert_int_equal(dp_collect(hub, 2, left, 3, got, size), 3);
    assert_int_equal(dp_collect(hub, 2, left + 3, MANY, got + three, five - three + in[5].len - 1), 2);
    assert_int_equal(dp_collect(hub, 2, left + 5, MANY, got + five, size - five), MANY - 5);
    assert_memory_equal(left, in, sizeof in);
    assert_memory_equal(got, bytes, size);
    assert_int_equal(dp_collect(hub, 2, left, MANY, got, size), 0);
    hub_end();
}

/* As the contract of ports says: longer than any packet is counted as received. */
static void a_frame_beyond_the_longest_is_bad_offload(void **state)
{
    (void)state;
    static uint8_t bytes[262144] = {2, 0, 0, 0, HUB_DROP};
    start(1, 0, 0);
    for (uint32_t len = POOL_FRAME_MAX; len <= POOL_FRAME_MAX + 1; len++)
        assert_int_equal(dp_inject(hub, 1, &(struct dp_frame){.len = len}, 1, bytes), DP_OK);
    assert_int_equal(dp_inject(hub, 1, &(struct dp_frame){.len = sizeof bytes}, 1, bytes), DP_OK);
    assert_int_equal(dp_poll(hub, 0), 3);
    assert_int_equal(hub_drops(1, DROP_MULTICAST), 1);
    assert_int_equal(hub_drops(1, DROP_BAD_OFFLOAD), 2);
    hub_end();
}

static void the_next_timer_is_known(void **state)
{
    (void)state;
    start(1, 0, 0);
    assert_true(dp_next_timer(hub) == UINT64_MAX);
    hub_frame(&f, 60, HUB_HOLD, 2, 0);
    inject(1, &f, 77, 0);
    dp_poll(hub, 77);
    assert_true(dp_next_timer(hub) == 77 + NEIGH_RETRY_NS);
    dp_poll(hub, dp_next_timer(hub) - 1);
    assert_false(collect(2));
    dp_poll(hub, dp_next_timer(hub));
    assert_true(collect(2));
    assert_true(dp_next_timer(hub) == UINT64_MAX);
    hub_end();
}

static void wrong_calls_are_refused(void **state)
{
    (void)state;
    const int fd = 0;
    start(2, 0, 0);
    hub_frame(&f, 60, HUB_SEND, 2, 0);
    struct dp_frame m = {.len = 262145};
    assert_int_equal(dp_inject(hub, 1, &m, 1, f.bytes), DP_EINVAL);
    m.len = 60;
    assert_int_equal(dp_inject(hub, 9, &m, 1, f.bytes), DP_EINVAL);
    m.gso = 4;
    assert_int_equal(dp_inject(hub, 1, &m, 1, f.bytes), DP_EINVAL);
    assert_int_equal(hub_attach(1, DP_PORT_MEM, 0, 0, NULL), DP_EEXIST);
    assert_int_equal(hub_attach(DP_MAX_PORTS, DP_PORT_MEM, 0, 0, NULL), DP_EINVAL);
    assert_int_equal(hub_attach(5, DP_PORT_MEM, DP_OFFLOAD_TSO4, 0, NULL), DP_EINVAL);
    assert_int_equal(hub_attach(5, DP_PORT_MEM, DP_OFFLOAD_USO, 0, NULL), DP_EINVAL);
    assert_int_equal(hub_attach(5, DP_PORT_TAP, 0, 0, NULL), DP_EINVAL);
    assert_int_equal(hub_attach(5, (enum dp_port_kind)1, 0, 1, &fd), DP_EINVAL);
    assert_int_equal(hub_attach(5, (enum dp_port_kind)4, 0, 1, &fd), DP_EINVAL);
    assert_int_equal(dp_port_detach(hub, 5), DP_ENOENT);
    assert_int_equal(dp_poll(hub, 100), 0);
    assert_int_equal(dp_poll(hub, 99), DP_EINVAL);
    inject(1, &f, 0, 0);
    dp_poll(hub, 100);
    assert_int_equal(dp_collect(hub, 2, &meta, 1, back.bytes, 59), DP_EINVAL);
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
    static struct subnet subnets[3] = {[1] = {.vsid = 5001, .rdid = 1}};
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
        cmocka_unit_test(many_frames_cross_in_one_call),
        cmocka_unit_test(a_frame_beyond_the_longest_is_bad_offload),
        cmocka_unit_test(the_next_timer_is_known),
        cmocka_unit_test(wrong_calls_are_refused),
        cmocka_unit_test(counters_outlive_their_port),
        cmocka_unit_test(a_subnet_starts_counting_at_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
