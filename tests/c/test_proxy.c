/* What the proxy, the router and the underlay answer, and what they refuse: by frames alone. */
#include "world.h"

static struct world *w;
static struct frame f;

static const uint8_t link_local_a[16] = {0xfe, 0x80, [8] = 0x00, 0xbb, 0x00, 0xff, 0xfe, 0x00, 0x00, 0x0a};
static const uint8_t opaque[16] = {0xfe, 0x80, [8] = 0xa1, 0xb2, 0xc3, 0xd4, 0xe5, 0xf6, 0x07, 0x18};
static const uint8_t all_nodes[16] = {0xff, 2, [15] = 1}, all_nodes_mac[6] = {0x33, 0x33, 0, 0, 0, 1};
static const uint8_t solicited[16] = {0xff, 2, [11] = 1, 0xff, 0, 0, 0x20},
                     solicited_mac[6] = {0x33, 0x33, 0xff, 0, 0, 0x20};

/* ---- tenant ARP ------------------------------------------------------------------------------ */

static const struct frame *arp_a(const uint8_t *sender, const uint8_t *target)
{
    return frame_arp(&f, 1, broadcast, mac_a, mac_a, sender, no_mac, target);
}

static void expect_arp_answer(const uint8_t *mac, const uint8_t *target, const uint8_t *asker)
{
    world_run(w, 0);
    world_expect(w, PORT_A, frame_arp(&f, 2, mac_a, mac, mac, target, mac_a, asker));
    world_expect_nothing(w);
}

static void arp_for_known_addresses_is_answered(void **state)
{
    (void)state;
    static const struct { const uint8_t *target, *mac; } known[] = {
        {ca_c, mac_far}, {ca_c6, mac_far}, {ca_b, mac_b}, {ca_router, router_mac},
    };
    static const uint8_t extra[4] = {10, 9, 255, 1}, *const senders[] = {ca_a, any4, extra};
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < 3; j++) {
            world_inject(w, PORT_A, arp_a(senders[j], known[i].target), 0);
            expect_arp_answer(known[i].mac, known[i].target, senders[j]);
        }
    struct dp_counters c = world_counters(w, PORT_A);
    assert_int_equal(c.received, 12);
    assert_int_equal(c.consumed, 12);
    assert_int_equal(c.originated, 12);
    assert_int_equal(c.sent, 12);
    /* Neighbour unreachability detection asks by unicast; a padded frame is answered unpadded. */
    frame_arp(&f, 1, mac_far, mac_a, mac_a, ca_a, mac_far, ca_c);
    memset(f.bytes + f.len, 0x77, 200);
    f.len = 242;
    world_inject(w, PORT_A, &f, 0);
    expect_arp_answer(mac_far, ca_c, ca_a);
}

static void arp_that_gets_no_answer(void **state)
{
    (void)state;
    static const uint8_t mapped[4] = {10, 8, 0, 1};
    world_expect_drop(w, PORT_A, arp_a(ca_a, ca_nobody), "arp-unknown");
    world_expect_drop(w, PORT_A, arp_a(ca_a, any4), "arp-unknown");
    world_expect_drop(w, PORT_A, arp_a(ca_b, ca_c), "arp-sender");
    world_expect_drop(w, PORT_A, arp_a(mapped, ca_c), "arp-sender");
    world_expect_drop(w, PORT_A, frame_arp(&f, 1, broadcast, mac_a, mac_b, ca_a, no_mac, ca_c), "arp-sender");
    world_expect_drop(w, PORT_A, frame_arp(&f, 2, broadcast, mac_a, mac_b, ca_a, no_mac, ca_c), "arp-sender");
    world_expect_consumed(w, PORT_A, frame_arp(&f, 2, mac_far, mac_a, mac_a, ca_a, mac_far, ca_c));
    world_expect_consumed(w, PORT_A, arp_a(any4, ca_a));        /* probe of its own address */
    world_expect_consumed(w, PORT_A, arp_a(ca_a, ca_a));        /* gratuitous */
}

/* A range that it may send from is not its own: another's record in it is answered. */
static void an_allowed_source_is_no_own_address(void **state)
{
    (void)state;
    static const uint8_t other[4] = {10, 9, 0, 1};
    struct changes c = {.len = 0};
    add_record(&c, DP_PUT, 4, other, 1, PORT_B, mac_b, 4, pa1);
    change_apply(w, &c);
    world_inject(w, PORT_A, arp_a(ca_a, other), 0);
    expect_arp_answer(mac_b, other, ca_a);
}

/* ---- tenant ND ------------------------------------------------------------------------------- */

static const struct frame *ns_a(const uint8_t *source, const uint8_t *target)
{
    bool nobody = !memcmp(source, any6, 16);
    return frame_nd(&f, 135, solicited_mac, mac_a, source, solicited, 0, target, nobody ? NULL : mac_a);
}

static void expect_na(const uint8_t *mac, const uint8_t *target, const uint8_t *asker, uint8_t flags)
{
    bool nobody = !memcmp(asker, any6, 16);
    world_run(w, 0);
    world_expect(w, PORT_A,
                 frame_nd(&f, 136, nobody ? all_nodes_mac : mac_a, mac, target, nobody ? all_nodes : asker,
                          flags, target, mac));
    world_expect_nothing(w);
}

static void ns_for_known_addresses_is_answered(void **state)
{
    (void)state;
    enum { ROUTER = 0x80, SOLICITED = 0x40, OVERRIDE = 0x20 };
    static const struct {
        const uint8_t *target, *mac;
        uint8_t flags;
    } known[] = {
        {ca6_c, mac_far, 0},
        {ca6_b, mac_b, 0},
        {ca6_router, router_mac, ROUTER},
        {router_link_local, router_mac, ROUTER},
    };
    const uint8_t *askers[] = {ca6_a, link_local_a, opaque, any6};
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < 4; j++) {
            world_inject(w, PORT_A, ns_a(askers[j], known[i].target), 0);
            expect_na(known[i].mac, known[i].target, askers[j],
                      known[i].flags | OVERRIDE | (j < 3 ? SOLICITED : 0));
        }
}

static void nd_that_gets_no_answer(void **state)
{
    (void)state;
    static const uint8_t rs[8] = {133}, ra[16] = {134}, redirect[40] = {137};
    world_expect_drop(w, PORT_A, ns_a(ca6_a, ca6_nobody), "nd-unknown");
    world_expect_drop(w, PORT_A, ns_a(ca6_a, any6), "nd-unknown");
    world_expect_drop(w, PORT_A, ns_a(ca6_b, ca6_c), "src-address");
    world_expect_drop(w, PORT_A, frame_nd(&f, 135, solicited_mac, mac_a, ca6_a, solicited, 0, ca6_c, mac_b),
                      "nd-spoofed");
    world_expect_drop(w, PORT_A,
                      frame_nd(&f, 136, all_nodes_mac, mac_a, ca6_a, all_nodes, 0x20, ca6_b, mac_a),
                      "nd-spoofed");
    world_expect_drop(w, PORT_A,
                      frame_nd(&f, 136, all_nodes_mac, mac_a, ca6_a, all_nodes, 0x20, ca6_a, mac_b),
                      "nd-spoofed");
    world_expect_drop(w, PORT_A, frame_nd(&f, 136, all_nodes_mac, mac_a, any6, all_nodes, 0x20, ca6_a, NULL),
                      "src-address");
    world_expect_drop(w, PORT_A, frame_icmp6(&f, all_nodes_mac, mac_a, link_local_a, all_nodes, ra, 16),
                      "nd-router");
    world_expect_drop(w, PORT_A, frame_icmp6(&f, all_nodes_mac, mac_a, ca6_a, all_nodes, redirect, 40),
                      "nd-router");
    world_expect_consumed(w, PORT_A, frame_icmp6(&f, all_nodes_mac, mac_a, any6, all_nodes, rs, 8));
    world_expect_consumed(w, PORT_A, frame_icmp6(&f, all_nodes_mac, mac_a, link_local_a, all_nodes, rs, 8));
    world_expect_consumed(w, PORT_A,
                          frame_nd(&f, 136, all_nodes_mac, mac_a, ca6_a, all_nodes, 0x20, ca6_a, mac_a));
    world_expect_consumed(
        w, PORT_A,
        frame_nd(&f, 136, all_nodes_mac, mac_a, link_local_a, all_nodes, 0x20, link_local_a, mac_a));
    world_expect_consumed(w, PORT_A, ns_a(any6, ca6_a));        /* duplicate address detection */
    world_expect_consumed(w, PORT_A, ns_a(any6, link_local_a));
    world_expect_consumed(w, PORT_A, ns_a(any6, opaque));
    world_expect_drop(w, PORT_A, ns_a(router_link_local, ca6_c), "src-address");
    world_expect_drop(w, PORT_A,
                      frame_nd(&f, 136, all_nodes_mac, mac_a, ca6_a, all_nodes, 0x20, router_link_local, mac_a),
                      "nd-spoofed");
}

static void expect_malformed(const struct frame *frame)
{
    world_expect_drop(w, PORT_A, frame, "nd-malformed");
}

/* Sums an NS that was changed anew. */
static const struct frame *sealed(void)
{
    put16(f.bytes + 56, 0);
    put16(f.bytes + 56, (uint16_t)(0xffff - naive_residue(f.bytes + 14, 58, f.bytes + 54, f.len - 54)));
    return &f;
}

static void nd_must_be_valid(void **state)
{
    (void)state;
    static const uint8_t group[16] = {0xff, 2, [15] = 9};
    ns_a(ca6_a, ca6_c);
    f.bytes[21] = 254;
    expect_malformed(&f);
    ns_a(ca6_a, ca6_c);
    f.bytes[85] ^= 1;                   /* checksum */
    expect_malformed(&f);
    ns_a(ca6_a, ca6_c);
    f.bytes[55] = 1;                    /* code */
    expect_malformed(sealed());
    ns_a(ca6_a, ca6_c);
    f.bytes[79] = 0;                    /* option of length 0 */
    expect_malformed(sealed());
    ns_a(ca6_a, ca6_c);
    f.bytes[79] = 2;                    /* beyond the packet */
    expect_malformed(sealed());
    expect_malformed(ns_a(ca6_a, group));
    expect_malformed(frame_nd(&f, 135, solicited_mac, mac_a, any6, solicited, 0, ca6_c, mac_a));
    const uint8_t no_target[23] = {135}, short_rs[9] = {133};
    expect_malformed(frame_icmp6(&f, solicited_mac, mac_a, ca6_a, solicited, no_target, 23));
    frame_icmp6(&f, all_nodes_mac, mac_a, ca6_a, all_nodes, short_rs, 9);    /* one byte of an option */
    expect_malformed(&f);
    ns_a(ca6_a, ca6_c);                 /* as the first and only fragment */
    memmove(f.bytes + 62, f.bytes + 54, 32);
    memcpy(f.bytes + 54, (uint8_t[]){58, 0, 0, 0, 0, 0, 0, 1}, 8);
    f.bytes[20] = 44;
    put16(f.bytes + 18, 40);
    f.len += 8;
    expect_malformed(&f);
    assert_int_equal(world_counters(w, PORT_A).dropped, 10);
}

/* ---- router ping ----------------------------------------------------------------------------- */

/* The request in f, turned round by the slowest means. */
static const struct frame *echo_reply(unsigned family, const uint8_t *mac)
{
    uint8_t *ip = f.bytes + 14, *icmp = ip + (family == 4 ? 20 : 40), swap[16];
    unsigned at = family == 4 ? 12 : 8, size = family == 4 ? 4 : 16;
    memcpy(f.bytes, f.bytes + 6, 6);
    memcpy(f.bytes + 6, mac, 6);
    memcpy(swap, ip + at, size);
    memcpy(ip + at, ip + at + size, size);
    memcpy(ip + at + size, swap, size);
    ip[family == 4 ? 8 : 7] = 64;
    icmp[0] = family == 4 ? 0 : 129;
    put16(icmp + 2, 0);
    if (family == 4) {
        put16(ip + 10, 0);
        put16(ip + 10, (uint16_t)(0xffff - naive_sum(ip, 20, 0)));
        put16(icmp + 2, (uint16_t)(0xffff - naive_sum(icmp, 64, 0)));
    } else {
        put16(icmp + 2, (uint16_t)(0xffff - naive_residue(ip, 58, icmp, 64)));
    }
    return &f;
}

static void the_router_answers_pings(void **state)
{
    (void)state;
    world_send(w, PORT_A, frame_echo(&f, 4, router_mac, mac_a, ca_a, ca_router));
    world_expect(w, PORT_A, echo_reply(4, router_mac));
    world_send(w, PORT_A, frame_echo(&f, 6, router_mac, mac_a, ca6_a, ca6_router));
    world_expect(w, PORT_A, echo_reply(6, router_mac));
    world_send(w, PORT_A, frame_echo(&f, 4, router_mac, mac_a, ca_a, ca_router));
    assert_true(world_take(w, PORT_A));
    frame_echo(&f, 4, router_mac, mac_a, ca_a, ca_router);
    f.bytes[60] ^= 0x40;                /* a wrong checksum stays wrong by as much */
    world_send(w, PORT_A, &f);
    echo_reply(4, router_mac);
    assert_true(world_take(w, PORT_A));
    assert_true(same_sum(naive_sum(w->bytes + 34, 64, 0), 0x4000));
    assert_int_equal(world_counters(w, PORT_A).consumed, 4);
}

static void the_router_answers_nothing_else(void **state)
{
    (void)state;
    frame_echo(&f, 4, router_mac, mac_a, ca_a, ca_router);
    f.bytes[34] = 13;
    world_expect_drop(w, PORT_A, &f, "router-local");
    frame_echo(&f, 4, router_mac, mac_a, ca_a, ca_router);
    f.bytes[35] = 1;
    world_expect_drop(w, PORT_A, &f, "router-local");
    frame_echo(&f, 4, router_mac, mac_a, ca_a, ca_router);
    put16(f.bytes + 20, 0x2000);
    world_expect_drop(w, PORT_A, &f, "router-local");
}

/* ---- through the tunnel ---------------------------------------------------------------------- */

/* Wraps f in NVGRE between two PAs. */
static const struct frame *tunnel(const uint8_t *to, const uint8_t *from, const uint8_t *source,
                                  const uint8_t *destination, uint8_t flowid, uint16_t ip_flags)
{
    uint8_t *ip = f.bytes + 14;
    memmove(f.bytes + 42, f.bytes, f.len);
    memset(ip, 0, 28);
    ip[0] = 0x45;
    put16(ip + 2, (uint16_t)(f.len + 28));
    put16(ip + 6, ip_flags);
    ip[8] = 64;
    ip[9] = 47;
    memcpy(ip + 12, source, 4);
    memcpy(ip + 16, destination, 4);
    put16(ip + 10, (uint16_t)(0xffff - naive_sum(ip, 20, 0)));
    memcpy(ip + 20, (uint8_t[]){0x20, 0, 0x65, 0x58, 0, VSID >> 8, VSID & 255, flowid}, 8);
    return frame_eth(&f, to, from, 0x0800, f.len + 42);
}

static const struct frame *from_host2(void) { return tunnel(underlay_mac, mac_host2, pa2, pa1, 0, 0x4000); }

static void arp_through_the_tunnel(void **state)
{
    (void)state;
    assert_int_equal(dp_neigh_set(w->dp, 4, pa2, mac_host2), DP_OK);
    frame_arp(&f, 1, broadcast, mac_far, mac_far, ca_c, no_mac, ca_a);
    world_send(w, DP_UNDERLAY, from_host2());
    frame_arp(&f, 2, mac_far, mac_a, mac_a, ca_a, mac_far, ca_c);
    world_expect(w, DP_UNDERLAY, tunnel(mac_host2, underlay_mac, pa1, pa2, 0, 0x4000));
    world_expect_nothing(w);
    struct dp_counters c = world_counters(w, DP_UNDERLAY);
    assert_int_equal(c.consumed, 1);
    assert_int_equal(c.originated, 1);
    assert_int_equal(c.sent, 1);
    frame_arp(&f, 2, mac_a, mac_far, mac_far, ca_c, mac_a, ca_a);
    world_expect_consumed(w, DP_UNDERLAY, from_host2());
    frame_arp(&f, 1, broadcast, mac_far, mac_far, ca_c, no_mac, ca_d);          /* another host's */
    world_expect_drop(w, DP_UNDERLAY, from_host2(), "arp-unknown");
    frame_arp(&f, 1, broadcast, mac_far, mac_far, ca_c, no_mac, ca_router);
    world_expect_drop(w, DP_UNDERLAY, from_host2(), "arp-unknown");
    frame_arp(&f, 1, broadcast, mac_far, mac_far, ca_d, no_mac, ca_a);
    world_expect_drop(w, DP_UNDERLAY, from_host2(), "inner-source-host");
}

static uint8_t naive_flowid(const uint8_t *ip6)
{
    uint8_t bytes[40], id = 0;
    uint32_t crc = 0;
    memcpy(bytes, ip6 + 8, 32);
    memset(bytes + 32, 0, 8);
    bytes[32] = 58;
    for (int i = 0; i < 40; i++) {
        crc ^= bytes[i];
        for (int b = 0; b < 8; b++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
    }
    for (; crc; crc >>= 8)
        id ^= (uint8_t)crc;
    return id;
}

static void ns_through_the_tunnel(void **state)
{
    (void)state;
    static const uint8_t far_link_local[16] = {0xfe, 0x80, [8] = 0x00, 0xbb, 0x00,
                                               0xff, 0xfe, 0x00,       0x00, 0x0f};
    const uint8_t *askers[] = {ca6_c, far_link_local};
    assert_int_equal(dp_neigh_set(w->dp, 4, pa2, mac_host2), DP_OK);
    for (int i = 0; i < 2; i++) {
        frame_nd(&f, 135, solicited_mac, mac_far, askers[i], solicited, 0, ca6_a, i ? mac_far : NULL);
        world_send(w, DP_UNDERLAY, from_host2());
        frame_nd(&f, 136, mac_far, mac_a, ca6_a, askers[i], 0x60, ca6_a, mac_a);
        world_expect(w, DP_UNDERLAY,
                     tunnel(mac_host2, underlay_mac, pa1, pa2, naive_flowid(f.bytes + 14), 0x4000));
    }
    frame_nd(&f, 136, mac_a, mac_far, ca6_c, ca6_a, 0x60, ca6_c, mac_far);
    world_expect_consumed(w, DP_UNDERLAY, from_host2());
    frame_nd(&f, 135, solicited_mac, mac_far, ca6_c, solicited, 0, ca6_nobody, NULL);
    world_expect_drop(w, DP_UNDERLAY, from_host2(), "nd-unknown");
    frame_nd(&f, 135, solicited_mac, mac_far, ca6_c, solicited, 0, ca6_a, NULL);
    f.bytes[70] ^= 1;
    world_expect_drop(w, DP_UNDERLAY, from_host2(), "nd-malformed");
    const uint8_t ra[16] = {134};
    frame_icmp6(&f, all_nodes_mac, mac_far, far_link_local, all_nodes, ra, 16);
    world_expect_drop(w, DP_UNDERLAY, from_host2(), "nd-router");
}

/* The way back is not resolved yet: the answer waits like any other packet, at the underlay. */
static void an_answer_waits_for_its_next_hop(void **state)
{
    (void)state;
    frame_arp(&f, 1, broadcast, mac_far, mac_far, ca_c, no_mac, ca_a);
    world_send(w, DP_UNDERLAY, from_host2());
    assert_int_equal(world_counters(w, DP_UNDERLAY).held, 1);
    world_expect(w, DP_UNDERLAY, frame_arp(&f, 1, broadcast, underlay_mac, underlay_mac, pa1, no_mac, pa2));
    world_send(w, DP_UNDERLAY, frame_arp(&f, 2, underlay_mac, mac_host2, mac_host2, pa2, underlay_mac, pa1));
    frame_arp(&f, 2, mac_far, mac_a, mac_a, ca_a, mac_far, ca_c);
    world_expect(w, DP_UNDERLAY, tunnel(mac_host2, underlay_mac, pa1, pa2, 0, 0x4000));
    world_expect_nothing(w);
}

/* ---- the underlay as a host ------------------------------------------------------------------ */

static void pas_are_answered_for(void **state)
{
    (void)state;
    static const uint8_t stranger[4] = {192, 0, 2, 50}, *const ours[] = {pa1, pa1_rewrite};
    for (int i = 0; i < 2; i++) {
        world_send(w, DP_UNDERLAY,
                   frame_arp(&f, 1, broadcast, mac_host2, mac_host2, stranger, no_mac, ours[i]));
        world_expect(w, DP_UNDERLAY,
                     frame_arp(&f, 2, mac_host2, underlay_mac, underlay_mac, ours[i], mac_host2, stranger));
        frame_arp(&f, 1, broadcast, mac_host2, mac_host2, any4, no_mac, ours[i]);    /* conflict detection */
        world_send(w, DP_UNDERLAY, &f);
        world_expect(w, DP_UNDERLAY,
                     frame_arp(&f, 2, mac_host2, underlay_mac, underlay_mac, ours[i], mac_host2, any4));
    }
    world_expect_drop(w, DP_UNDERLAY,
                      frame_arp(&f, 1, broadcast, mac_host2, mac_host2, stranger, no_mac, gateway),
                      "underlay-not-ours");
    world_expect_drop(w, DP_UNDERLAY,
                      frame_arp(&f, 1, broadcast, mac_host2, mac_host2, stranger, no_mac, pa2_rewrite),
                      "underlay-not-ours");
    frame_arp(&f, 1, broadcast, mac_host2, mac_host2, pa2, no_mac, gateway);     /* a next hop of ours */
    world_expect_consumed(w, DP_UNDERLAY, &f);
    world_expect_consumed(w, DP_UNDERLAY,
                          frame_arp(&f, 2, underlay_mac, mac_host2, mac_host2, stranger, underlay_mac, pa1));
}

static void pas_are_answered_for_by_na(void **state)
{
    (void)state;
    static const uint8_t stranger[16] = {0x20, 1, 0xd, 0xb8, [15] = 0x50},
                         group[16] = {0xff, 2, [11] = 1, 0xff, 0, 0, 1};
    static const uint8_t group_mac[6] = {0x33, 0x33, 0xff, 0, 0, 1};
    world_send(w, DP_UNDERLAY, frame_nd(&f, 135, group_mac, mac_host2, stranger, group, 0, pa1_6, mac_host2));
    world_expect(w, DP_UNDERLAY,
                 frame_nd(&f, 136, mac_host2, underlay_mac, pa1_6, stranger, 0x60, pa1_6, underlay_mac));
    world_send(w, DP_UNDERLAY, frame_nd(&f, 135, group_mac, mac_host2, any6, group, 0, pa1_6, NULL));
    world_expect(w, DP_UNDERLAY,
                 frame_nd(&f, 136, all_nodes_mac, underlay_mac, pa1_6, all_nodes, 0x20, pa1_6, underlay_mac));
    world_expect_drop(w, DP_UNDERLAY,
                      frame_nd(&f, 135, group_mac, mac_host2, stranger, group, 0, stranger, mac_host2),
                      "underlay-not-ours");
    world_expect_drop(w, DP_UNDERLAY,
                      frame_nd(&f, 136, underlay_mac, mac_host2, stranger, pa1_6, 0x60, stranger, mac_host2),
                      "underlay-not-ours");
    const uint8_t ra[16] = {134};
    world_expect_drop(w, DP_UNDERLAY,
                      frame_icmp6(&f, all_nodes_mac, mac_host2, link_local_a, all_nodes, ra, 16),
                      "underlay-not-ours");
    frame_nd(&f, 135, group_mac, mac_host2, stranger, group, 0, pa1_6, mac_host2);
    f.bytes[21] = 64;
    world_expect_drop(w, DP_UNDERLAY, &f, "nd-malformed");
}

/* 3.2.1: who asks us is known to us, if we send to it: no request is needed any more. */
static void who_asks_is_learned(void **state)
{
    (void)state;
    world_send(w, DP_UNDERLAY, frame_arp(&f, 1, broadcast, mac_host2, mac_host2, pa2, no_mac, pa1));
    assert_true(world_take(w, DP_UNDERLAY));
    world_send(w, PORT_A, frame_udp(&f, mac_far, mac_a, ca_a, ca_c, 1));
    assert_true(world_take(w, DP_UNDERLAY));
    assert_memory_equal(w->bytes, mac_host2, 6);
    world_expect_nothing(w);
}

static void pas_answer_pings(void **state)
{
    (void)state;
    static const uint8_t stranger[4] = {192, 0, 2, 50}, stranger6[16] = {0x20, 1, 0xd, 0xb8, [15] = 0x50},
                         *const ours[] = {pa1, pa1_rewrite};
    for (int i = 0; i < 2; i++) {
        world_send(w, DP_UNDERLAY, frame_echo(&f, 4, underlay_mac, mac_host2, stranger, ours[i]));
        world_expect(w, DP_UNDERLAY, echo_reply(4, underlay_mac));
    }
    world_send(w, DP_UNDERLAY, frame_echo(&f, 6, underlay_mac, mac_host2, stranger6, pa1_6));
    world_expect(w, DP_UNDERLAY, echo_reply(6, underlay_mac));
    world_expect_drop(w, DP_UNDERLAY, frame_echo(&f, 4, underlay_mac, mac_host2, stranger, gateway),
                      "underlay-not-ours");
    frame_echo(&f, 4, underlay_mac, mac_host2, stranger, pa1);
    put16(f.bytes + 20, 0x2000);
    put16(f.bytes + 24, (uint16_t)naive_fold(get16(f.bytes + 24) + 0x2000u));
    world_expect_drop(w, DP_UNDERLAY, &f, "outer-fragment");
}

/*
 * Every PA of this host is told of, rewrite ones too, and every next hop in use is asked for; the order is
 * the tables'.
 */
static void announcements(void **state)
{
    (void)state;
    static const uint8_t group[16] = {0xff, 2, [11] = 1, 0xff, 0x12, 0, 2},
                         group_mac[6] = {0x33, 0x33, 0xff, 0x12, 0, 2};
    static struct frame expected[6];
    frame_arp(&expected[0], 1, broadcast, underlay_mac, underlay_mac, pa1, no_mac, pa1);
    frame_arp(&expected[1], 1, broadcast, underlay_mac, underlay_mac, pa1_rewrite, no_mac, pa1_rewrite);
    frame_nd(&expected[2], 136, all_nodes_mac, underlay_mac, pa1_6, all_nodes, 0x20, pa1_6, underlay_mac);
    frame_arp(&expected[3], 1, broadcast, underlay_mac, underlay_mac, pa1, no_mac, pa2);
    frame_arp(&expected[4], 1, broadcast, underlay_mac, underlay_mac, pa1, no_mac, gateway);
    frame_nd(&expected[5], 135, group_mac, underlay_mac, pa1_6, group, 0, pa2_6, underlay_mac);
    assert_int_equal(dp_announce(w->dp), DP_OK);
    assert_int_equal(dp_poll(w->dp, w->now), 0);    /* a round of requests */
    world_assert_balance(w);
    assert_int_equal(world_counters(w, DP_UNDERLAY).originated, 6);
    unsigned seen = 0;
    while (world_take(w, DP_UNDERLAY))
        for (unsigned i = 0; i < 6; i++)
            if (w->frame.len == expected[i].len && !memcmp(w->bytes, expected[i].bytes, w->frame.len))
                seen |= 1u << i;
    assert_int_equal(seen, 0x3f);
}

static int setup(void **state)
{
    (void)state;
    w = world_create(1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_destroy(w);
    return 0;
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(arp_for_known_addresses_is_answered),
        TEST(arp_that_gets_no_answer),
        TEST(an_allowed_source_is_no_own_address),
        TEST(ns_for_known_addresses_is_answered),
        TEST(nd_that_gets_no_answer),
        TEST(nd_must_be_valid),
        TEST(the_router_answers_pings),
        TEST(the_router_answers_nothing_else),
        TEST(arp_through_the_tunnel),
        TEST(ns_through_the_tunnel),
        TEST(an_answer_waits_for_its_next_hop),
        TEST(pas_are_answered_for),
        TEST(pas_are_answered_for_by_na),
        TEST(who_asks_is_learned),
        TEST(pas_answer_pings),
        TEST(announcements),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
