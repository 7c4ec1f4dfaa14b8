/* Provider next hops as the provider network sees them: by frames alone. */
#include "world.h"

static struct world *w;
static struct frame f;

/* A packet from port A to a CA, as it must leave: outer destination MAC and inner mark. */
static void send_to(const uint8_t *ca, uint8_t mark)
{
    world_send(w, PORT_A, frame_udp(&f, mac_far, mac_a, ca_a, ca, mark));
}

static void expect_pushed(const uint8_t *mac, const uint8_t *pa, uint8_t mark)
{
    assert_true(world_take(w, DP_UNDERLAY));
    assert_int_equal(w->frame.len, 60 + 42);
    assert_memory_equal(w->bytes, mac, 6);
    assert_memory_equal(w->bytes + 6, underlay_mac, 6);
    assert_memory_equal(w->bytes + 30, pa, 4);
    assert_int_equal(w->bytes[w->frame.len - 1], mark);
}

static void expect_request(const uint8_t *to, const uint8_t *target)
{
    world_expect(w, DP_UNDERLAY, frame_arp(&f, 1, to, underlay_mac, underlay_mac, pa1, no_mac, target));
}

static const struct frame *reply(const uint8_t *mac, const uint8_t *address)
{
    return frame_arp(&f, 2, underlay_mac, mac, mac, address, underlay_mac, pa1);
}

static int state_of(const uint8_t *address, unsigned family)
{
    struct dp_neigh n[16];
    int count = dp_neigh_read(w->dp, n, 16);
    for (int i = 0; i < count; i++)
        if (n[i].family == family && !memcmp(n[i].address, address, family == 4 ? 4 : 16))
            return n[i].state;
    return -1;
}

/* 2.12.6, 2.12.7, 2.12.9, 2.12.10 */
static void held_until_it_answers(void **state)
{
    (void)state;
    for (uint8_t mark = 0; mark < 3; mark++)
        send_to(ca_c, mark);
    expect_request(broadcast, pa2);
    assert_int_equal(w->frame.time, w->now);
    world_expect_nothing(w);
    assert_int_equal(world_counters(w, PORT_A).held, 3);
    assert_int_equal(world_counters(w, DP_UNDERLAY).originated, 1);
    assert_int_equal(state_of(pa2, 4), DP_NEIGH_ASKING);
    uint64_t sent_at = w->now;
    world_run(w, SECOND / 2);
    world_send(w, DP_UNDERLAY, reply(mac_host2, pa2));
    for (uint8_t mark = 0; mark < 3; mark++) {
        expect_pushed(mac_host2, pa2, mark);
        assert_int_equal(w->frame.time, sent_at);
    }
    assert_int_equal(world_counters(w, PORT_A).held, 0);
    assert_int_equal(state_of(pa2, 4), DP_NEIGH_KNOWN);
    send_to(ca_c, 9);
    expect_pushed(mac_host2, pa2, 9);
    world_expect_nothing(w);
}

/* 2.12.5, 2.12.8 */
static void asked_three_times_then_dropped(void **state)
{
    (void)state;
    for (uint8_t mark = 0; mark < 18; mark++)
        send_to(ca_c, mark);
    assert_int_equal(world_counters(w, PORT_A).held, 16);
    assert_int_equal(world_drops(w, PORT_A, "neigh-full"), 2);
    expect_request(broadcast, pa2);
    for (int try = 2; try <= 3; try++) {
        world_run(w, SECOND - 1);
        world_expect_nothing(w);
        world_run(w, 1);
        expect_request(broadcast, pa2);
        assert_int_equal(w->frame.time, w->now);
    }
    world_run(w, SECOND - 1);
    assert_int_equal(world_drops(w, PORT_A, "neigh-failed"), 0);
    world_run(w, 1);
    world_expect_nothing(w);
    assert_int_equal(world_drops(w, PORT_A, "neigh-failed"), 16);
    assert_int_equal(world_counters(w, PORT_A).held, 0);
    assert_int_equal(state_of(pa2, 4), DP_NEIGH_FAILED);
    world_run(w, 100 * SECOND);
    world_expect_nothing(w);
    send_to(ca_c, 7);                   /* it is asked anew */
    expect_request(broadcast, pa2);
    world_send(w, DP_UNDERLAY, reply(mac_host2, pa2));
    expect_pushed(mac_host2, pa2, 7);
}

static void over_ipv6_by_neighbour_discovery(void **state)
{
    (void)state;
    static const uint8_t group[16] = {0xff, 2, [11] = 1, 0xff, 0x12, 0, 2},
                         group_mac[6] = {0x33, 0x33, 0xff, 0x12, 0, 2};
    send_to(ca_c6, 5);
    world_expect(w, DP_UNDERLAY,
                 frame_nd(&f, 135, group_mac, underlay_mac, pa1_6, group, 0, pa2_6, underlay_mac));
    world_send(w, DP_UNDERLAY,
               frame_nd(&f, 136, underlay_mac, mac_host2, pa2_6, pa1_6, 0x60, pa2_6, mac_host2));
    assert_true(world_take(w, DP_UNDERLAY));
    assert_memory_equal(w->bytes, mac_host2, 6);
    assert_memory_equal(w->bytes + 38, pa2_6, 16);
    assert_int_equal(w->frame.len, 60 + 62);
    assert_int_equal(state_of(pa2_6, 6), DP_NEIGH_KNOWN);
    world_run(w, 30 * SECOND);          /* and asked again by unicast */
    world_expect(w, DP_UNDERLAY,
                 frame_nd(&f, 135, mac_host2, underlay_mac, pa1_6, pa2_6, 0, pa2_6, underlay_mac));
    frame_nd(&f, 136, underlay_mac, mac_host2, pa2_6, pa1_6, 0x40, pa2_6, NULL); /* no option: its own MAC */
    world_send(w, DP_UNDERLAY, &f);
    world_run(w, 10 * SECOND);
    world_expect_nothing(w);
}

/* 2.12.3: hosts 3 and 4 are behind one gateway; host 4 comes later. */
static void one_answer_serves_all_behind_a_gateway(void **state)
{
    (void)state;
    send_to(ca_d, 1);
    expect_request(broadcast, gateway);
    world_send(w, DP_UNDERLAY, reply(mac_gateway, gateway));
    expect_pushed(mac_gateway, pa3, 1);
    struct changes c = {.len = 0};
    add_pa(&c, DP_PUT, 4, 4, pa4, DP_PA_SHARED);
    add_record(&c, DP_PUT, 4, ca_e, 4, 0, mac_far, 4, pa4);
    change_apply(w, &c);
    send_to(ca_e, 2);
    expect_pushed(mac_gateway, pa4, 2);
    static const uint8_t other[6] = {2, 0, 0, 0, 0, 0xfd};
    frame_arp(&f, 1, broadcast, other, other, gateway, no_mac, gateway);     /* it has moved */
    world_send(w, DP_UNDERLAY, &f);
    send_to(ca_d, 3);
    expect_pushed(other, pa3, 3);
    send_to(ca_e, 4);
    expect_pushed(other, pa4, 4);
    world_expect_nothing(w);
}

/* 2.12.11, 2.12.13 */
static void known_ones_are_asked_again_by_unicast(void **state)
{
    (void)state;
    send_to(ca_c, 1);
    expect_request(broadcast, pa2);
    world_send(w, DP_UNDERLAY, reply(mac_host2, pa2));
    expect_pushed(mac_host2, pa2, 1);
    world_run(w, 30 * SECOND - 1);
    world_expect_nothing(w);
    world_run(w, 1);
    expect_request(mac_host2, pa2);
    world_send(w, DP_UNDERLAY, reply(mac_host2, pa2));
    world_run(w, 29 * SECOND);
    world_expect_nothing(w);
    world_run(w, SECOND);
    for (int try = 1; try <= 3; try++) { /* now it is silent, but is sent to as long as it is being asked */
        expect_request(mac_host2, pa2);
        send_to(ca_c, 2);
        expect_pushed(mac_host2, pa2, 2);
        assert_int_equal(state_of(pa2, 4), DP_NEIGH_KNOWN);
        world_run(w, SECOND);
    }
    world_expect_nothing(w);
    assert_int_equal(state_of(pa2, 4), DP_NEIGH_FAILED);
    send_to(ca_c, 3);
    expect_request(broadcast, pa2);
    assert_int_equal(world_counters(w, PORT_A).held, 1);
    world_send(w, DP_UNDERLAY, reply(mac_host2, pa2));
    expect_pushed(mac_host2, pa2, 3);
}

/* 3.2.2 */
static void fixed_ones_never_change(void **state)
{
    (void)state;
    static const uint8_t group_mac[6] = {3, 0, 0, 0, 0, 1};
    send_to(ca_c, 1);
    expect_request(broadcast, pa2);
    assert_int_equal(dp_neigh_set(w->dp, 4, pa2, group_mac), DP_EINVAL);
    assert_int_equal(dp_neigh_set(w->dp, 4, pa2, no_mac), DP_EINVAL);
    assert_int_equal(dp_neigh_set(w->dp, 5, pa2, mac_host2), DP_EINVAL);
    assert_int_equal(dp_neigh_set(w->dp, 4, pa2, mac_host2), DP_OK);
    expect_pushed(mac_host2, pa2, 1);
    world_expect_consumed(w, DP_UNDERLAY, reply(mac_gateway, pa2));
    send_to(ca_c, 2);
    expect_pushed(mac_host2, pa2, 2);
    assert_int_equal(dp_neigh_set(w->dp, 4, gateway, mac_gateway), DP_OK);      /* before any packet */
    send_to(ca_d, 3);
    expect_pushed(mac_gateway, pa3, 3);
    world_run(w, 100 * SECOND);
    world_expect_nothing(w);
    assert_int_equal(state_of(pa2, 4), DP_NEIGH_FIXED);
}

/* 2.12.12, 3.2.1: nobody's packets wait for it, and policy does not know it. */
static void probe_asks_and_learns(void **state)
{
    (void)state;
    static const uint8_t stranger[4] = {192, 0, 2, 77};
    const struct frame *gratuitous = frame_arp(&f, 1, broadcast, mac_host2, mac_host2, stranger, no_mac,
                                               stranger);
    world_expect_drop(w, DP_UNDERLAY, gratuitous, "underlay-not-ours");
    world_run(w, 0);
    assert_int_equal(state_of(stranger, 4), -1);
    assert_int_equal(dp_neigh_probe(w->dp, 4, stranger), DP_OK);
    assert_int_equal(dp_neigh_probe(w->dp, 4, stranger), DP_OK);        /* not twice within a second */
    expect_request(broadcast, stranger);
    world_expect_nothing(w);
    assert_int_equal(state_of(stranger, 4), DP_NEIGH_ASKING);
    world_expect_consumed(w, DP_UNDERLAY, reply(mac_host2, stranger));
    assert_int_equal(state_of(stranger, 4), DP_NEIGH_KNOWN);
    world_run(w, 30 * SECOND);                                          /* not in use: forgotten, not asked */
    world_expect_nothing(w);
    assert_int_equal(state_of(stranger, 4), -1);
    assert_int_equal(dp_neigh_probe(w->dp, 9, stranger), DP_EINVAL);
    assert_int_equal(dp_neigh_probe(w->dp, 4, any4), DP_EINVAL);
}

/* 3.2.3 */
static void macs_that_no_host_has_are_not_learned(void **state)
{
    (void)state;
    static const uint8_t group_mac[6] = {3, 0, 0, 0, 0, 1};
    send_to(ca_c, 1);
    expect_request(broadcast, pa2);
    world_expect_consumed(w, DP_UNDERLAY,
                          frame_arp(&f, 2, underlay_mac, mac_host2, group_mac, pa2, underlay_mac, pa1));
    world_expect_consumed(w, DP_UNDERLAY,
                          frame_arp(&f, 2, underlay_mac, mac_host2, no_mac, pa2, underlay_mac, pa1));
    assert_int_equal(state_of(pa2, 4), DP_NEIGH_ASKING);
    assert_int_equal(world_counters(w, PORT_A).held, 1);
}

/* 2.12.14 */
static void one_that_policy_drops_is_no_neighbour(void **state)
{
    (void)state;
    send_to(ca_c6, 1);
    assert_true(world_take(w, DP_UNDERLAY));
    struct changes c = {.len = 0};
    add_record(&c, DP_DEL, 4, ca_c6, 2, 0, mac_far, 6, pa2_6);
    add_pa(&c, DP_DEL, 2, 6, pa2_6, DP_PA_SHARED);
    change_apply(w, &c);
    world_send(w, DP_UNDERLAY,
               frame_nd(&f, 136, underlay_mac, mac_host2, pa2_6, pa1_6, 0x60, pa2_6, mac_host2));
    assert_true(world_take(w, DP_UNDERLAY));        /* what waited was accepted, and still goes */
    assert_int_equal(world_counters(w, PORT_A).held, 0);
    world_expect_drop(w, DP_UNDERLAY,
                      frame_nd(&f, 136, underlay_mac, mac_host2, pa2_6, pa1_6, 0x60, pa2_6, mac_host2),
                      "underlay-not-ours");
}

static void a_new_underlay_mac_reaches_every_header(void **state)
{
    (void)state;
    static const uint8_t other[6] = {0x52, 0x54, 0x99, 0x98, 0x97, 0x96};
    assert_int_equal(dp_neigh_set(w->dp, 4, pa2, mac_host2), DP_OK);
    assert_int_equal(dp_port_detach(w->dp, DP_UNDERLAY), DP_OK);
    send_to(ca_c, 1);
    assert_int_equal(world_drops(w, PORT_A, "port-down"), 1);
    world_attach(w, DP_UNDERLAY, other);
    send_to(ca_c, 2);
    assert_true(world_take(w, DP_UNDERLAY));
    assert_memory_equal(w->bytes, mac_host2, 6);
    assert_memory_equal(w->bytes + 6, other, 6);
}

/* Hold with the underlay gone, and with it everybody who could answer. */
static void without_underlay_nobody_is_asked(void **state)
{
    (void)state;
    send_to(ca_c, 1);
    expect_request(broadcast, pa2);
    assert_int_equal(dp_port_detach(w->dp, DP_UNDERLAY), DP_OK);
    for (int i = 0; i < 3; i++)
        world_run(w, SECOND);
    assert_int_equal(world_drops(w, PORT_A, "neigh-failed"), 1);
    assert_int_equal(dp_announce(w->dp), DP_ENOENT);
}

/* 4.5.6 */
static void what_is_held_when_the_engine_stops_is_accounted_for(void **state)
{
    (void)state;
    send_to(ca_c, 1);
    send_to(ca_d, 2);
    assert_int_equal(world_counters(w, PORT_A).held, 2);
    assert_int_equal(dp_start(w->dp), DP_OK);
    assert_int_equal(dp_stop(w->dp), DP_OK);
    assert_int_equal(world_counters(w, PORT_A).held, 0);
    assert_int_equal(world_drops(w, PORT_A, "stopped"), 2);
    world_assert_balance(w);
}

/* The second worker's packets reach worker 0 by the ring. */
static void other_workers_hand_over(void **state)
{
    (void)state;
    for (uint8_t mark = 0; mark < 20; mark++)
        world_inject(w, PORT_A, frame_udp(&f, mac_far, mac_a, ca_a, ca_c, mark), 1);
    world_run(w, 0);
    expect_request(broadcast, pa2);
    assert_int_equal(world_counters(w, PORT_A).held, 16);
    assert_int_equal(world_drops(w, PORT_A, "neigh-full"), 4);
    world_inject(w, DP_UNDERLAY, frame_arp(&f, 2, underlay_mac, mac_host2, mac_host2, pa2, underlay_mac, pa1),
                 1);
    world_inject(w, DP_UNDERLAY, frame_arp(&f, 1, broadcast, mac_host2, mac_host2, pa2, no_mac, pa1), 1);
    world_run(w, 0);
    for (uint8_t mark = 0; mark < 16; mark++)
        expect_pushed(mac_host2, pa2, mark);
    world_expect(w, DP_UNDERLAY,
                 frame_arp(&f, 2, mac_host2, underlay_mac, underlay_mac, pa1, mac_host2, pa2));
    world_inject(w, PORT_A, frame_udp(&f, mac_far, mac_a, ca_a, ca_c, 99), 1);
    world_run(w, 0);
    expect_pushed(mac_host2, pa2, 99);
    world_expect_nothing(w);
}

/* 4.5.5: more than the ring holds, in one round. */
static void a_full_ring_drops(void **state)
{
    (void)state;
    for (int i = 0; i < 300; i++)
        world_inject(w, DP_UNDERLAY, frame_arp(&f, 1, broadcast, mac_host2, mac_host2, pa2, no_mac, pa1), 1);
    world_run(w, 0);
    world_run(w, 0);
    uint64_t answered = 0;
    while (world_take(w, DP_UNDERLAY))
        answered++;
    assert_int_equal(answered + world_drops(w, DP_UNDERLAY, "neigh-full"), 300);
    assert_true(answered >= 256);
    assert_int_equal(world_counters(w, DP_UNDERLAY).held, 0);
}

static int one_worker(void **state)
{
    (void)state;
    w = world_create(1);
    return 0;
}

static int two_workers(void **state)
{
    (void)state;
    w = world_create(2);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_destroy(w);
    return 0;
}

#define ONE(test) cmocka_unit_test_setup_teardown(test, one_worker, teardown)
#define TWO(test) cmocka_unit_test_setup_teardown(test, two_workers, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ONE(held_until_it_answers),
        ONE(asked_three_times_then_dropped),
        ONE(over_ipv6_by_neighbour_discovery),
        ONE(one_answer_serves_all_behind_a_gateway),
        ONE(known_ones_are_asked_again_by_unicast),
        ONE(fixed_ones_never_change),
        ONE(probe_asks_and_learns),
        ONE(macs_that_no_host_has_are_not_learned),
        ONE(one_that_policy_drops_is_no_neighbour),
        ONE(a_new_underlay_mac_reaches_every_header),
        ONE(without_underlay_nobody_is_asked),
        ONE(what_is_held_when_the_engine_stops_is_accounted_for),
        TWO(other_workers_hand_over),
        TWO(a_full_ring_drops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
