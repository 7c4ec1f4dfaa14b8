/*
 * The steps of host/ alone: no engine, no worker, a port that keeps what is sent. What we ask and announce,
 * what becomes of a neighbour, how the provider side answers.
 */
#include "fake_io.h"
#include "host/ask.h"
#include "host/neigh.h"
#include "host/pa.h"
#include "world.h"

enum { KEPT = 64 };

static struct tables tables;
static struct qsbr qsbr;
static struct next_hop hops[2];
static struct port underlay;
static struct port_txq underlay_txq = {.port = &underlay};
static struct txq txq;
static struct port_stats underlay_stats;
static struct host host;
static struct frame f;
static struct { uint32_t len; uint8_t bytes[128]; } kept[KEPT];
static uint32_t kept_n, taken;

static void keep(struct port_txq *to, struct io *io, struct pkt *const *pkts, uint32_t n)
{
    (void)to;
    for (uint32_t i = 0; i < n; i++) {
        kept[kept_n].len = pkts[i]->len;
        memcpy(kept[kept_n++].bytes, pkts[i]->data, pkts[i]->len);
        pool_pkt_free(&io->pool, pkts[i]);
    }
}

static const struct port_ops ops = {.tx = keep};

/* ---- frames in and out ----------------------------------------------------------------------- */

static struct pkt *arrived(const struct frame *frame)
{
    struct pkt *pkt = io_make(&fake_io);
    frame_to_pkt(&fake_io.pool, frame, pkt, frame->len);
    pkt->in_port = DP_UNDERLAY;
    assert_int_equal(parse_frame(pkt), DROP_NONE);
    return pkt;
}

static void expect(const struct frame *frame)
{
    io_flush(&fake_io);
    assert_true(taken < kept_n);
    assert_int_equal(kept[taken].len, frame->len);
    assert_memory_equal(kept[taken++].bytes, frame->bytes, frame->len);
}

static void expect_nothing(void)
{
    io_flush(&fake_io);
    assert_int_equal(taken, kept_n);
}

static void expect_request(const uint8_t *to)
{
    expect(frame_arp(&f, 1, to, underlay_mac, underlay_mac, pa1, no_mac, pa2));
}

static void expect_drop(uint64_t *before, enum drop reason)
{
    assert_int_equal(underlay_stats.drops[reason], ++*before);
    expect_nothing();
}

/* A packet that a tenant's became, but for its MACs. */
static void hold(uint32_t neigh, uint8_t mark)
{
    struct pkt *pkt = io_make(&fake_io);
    frame_udp(&f, no_mac, no_mac, pa1, pa2, mark);
    frame_to_pkt(&fake_io.pool, &f, pkt, f.len);
    pkt->in_port = DP_UNDERLAY;
    pkt->time = fake_io.now;
    neigh_hold(&host, neigh, pkt);
}

static void expect_held(const uint8_t *mac, uint8_t mark)
{
    expect(frame_udp(&f, mac, underlay_mac, pa1, pa2, mark));
}

static enum dp_neigh_state state_of_pa2(void)
{
    struct dp_neigh n = {0};
    return neigh_read(host.neigh, &n, 1) ? (enum dp_neigh_state)n.state : DP_NEIGH_IDLE;
}

static void later(uint64_t ns)
{
    fake_io.now += ns;
    neigh_due(&host);
}

/* ---- asking ---------------------------------------------------------------------------------- */

static void asks_all_or_the_one_it_knew(void **state)
{
    (void)state;
    ask_for(&host, 4, pa2, NULL, 7);
    expect_request(broadcast);
    ask_for(&host, 4, pa2, mac_host2, 7);
    expect_request(mac_host2);
    assert_int_equal(underlay_stats.originated, 2);
}

static void without_a_device_or_a_pa_nobody_asks(void **state)
{
    (void)state;
    ask_for(&host, 6, pa2_6, NULL, 7);              /* no IPv6 PA */
    host.underlay = NULL;
    ask_for(&host, 4, pa2, NULL, 7);
    ask_announce(&host, 4, pa1);
    expect_nothing();
    assert_int_equal(underlay_stats.originated, 0);
}

static void announces_a_pa(void **state)
{
    static const uint8_t nodes[16] = {0xff, 2, [15] = 1}, nodes_mac[6] = {0x33, 0x33, 0, 0, 0, 1};
    (void)state;
    ask_announce(&host, 4, pa1);
    expect(frame_arp(&f, 1, broadcast, underlay_mac, underlay_mac, pa1, no_mac, pa1));
    ask_announce(&host, 6, pa1_6);
    expect(frame_nd(&f, 136, nodes_mac, underlay_mac, pa1_6, nodes, 0x20, pa1_6, underlay_mac));
}

/* ---- a neighbour's states -------------------------------------------------------------------- */

static void idle_asking_known_idle(void **state)
{
    (void)state;
    uint32_t neigh = neigh_use(host.neigh, 4, pa2, 0);
    assert_int_equal(state_of_pa2(), DP_NEIGH_IDLE);
    hold(neigh, 1);
    assert_int_equal(state_of_pa2(), DP_NEIGH_ASKING);
    expect_request(broadcast);
    assert_true(neigh_learn(&host, 4, pa2, mac_host2));
    assert_int_equal(state_of_pa2(), DP_NEIGH_KNOWN);
    expect_held(mac_host2, 1);
    hold(neigh, 2);
    expect_held(mac_host2, 2);
    neigh_release(host.neigh, neigh, 0);
    later(30 * SECOND);
    expect_nothing();
    assert_int_equal(neigh_read(host.neigh, NULL, 0), 0);
    assert_false(neigh_learn(&host, 4, pa2, mac_host2));
}

static void asking_failed_asking(void **state)
{
    (void)state;
    uint32_t neigh = neigh_use(host.neigh, 4, pa2, 0);
    hold(neigh, 1);
    for (int try = 0; try < 3; try++) {
        expect_request(broadcast);
        assert_int_equal(underlay_stats.held, 1);
        later(SECOND);
    }
    assert_int_equal(state_of_pa2(), DP_NEIGH_FAILED);
    assert_int_equal(underlay_stats.drops[DROP_NEIGH_FAILED], 1);
    assert_int_equal(underlay_stats.held, 0);
    later(100 * SECOND);                            /* in use: it stays what it is, in silence */
    expect_nothing();
    assert_int_equal(state_of_pa2(), DP_NEIGH_FAILED);
    hold(neigh, 2);
    expect_request(broadcast);
    assert_int_equal(state_of_pa2(), DP_NEIGH_ASKING);
    neigh_release(host.neigh, neigh, 0);
    for (int try = 0; try < 3; try++)
        later(SECOND);
    assert_int_equal(state_of_pa2(), DP_NEIGH_FAILED);
    later(30 * SECOND);
    assert_int_equal(neigh_read(host.neigh, NULL, 0), 0);
}

static void fixed_for_good(void **state)
{
    (void)state;
    uint32_t neigh = neigh_use(host.neigh, 4, pa2, 0);
    hold(neigh, 1);
    expect_request(broadcast);
    assert_int_equal(neigh_fix(host.neigh, &host, 4, pa2, mac_gateway), DP_OK);
    expect_held(mac_gateway, 1);
    assert_true(neigh_learn(&host, 4, pa2, mac_host2));
    hold(neigh, 2);
    expect_held(mac_gateway, 2);
    assert_int_equal(neigh_next_timer(host.neigh), UINT64_MAX);
}

/* ---- the provider side ----------------------------------------------------------------------- */

static void arp_is_answered_for_our_pas_alone(void **state)
{
    uint64_t not_ours = 0;
    (void)state;
    pa_arpnd(&host, arrived(frame_arp(&f, 1, broadcast, mac_host2, mac_host2, pa2, no_mac, pa1)));
    expect(frame_arp(&f, 2, mac_host2, underlay_mac, underlay_mac, pa1, mac_host2, pa2));
    pa_arpnd(&host, arrived(frame_arp(&f, 1, broadcast, mac_host2, mac_host2, pa2, no_mac, pa3)));
    expect_drop(&not_ours, DROP_UNDERLAY_NOT_OURS);
    neigh_use(host.neigh, 4, pa2, 0);
    frame_arp(&f, 2, underlay_mac, mac_host2, mac_host2, pa2, underlay_mac, pa3);
    pa_arpnd(&host, arrived(&f));
    expect_nothing();
    assert_int_equal(state_of_pa2(), DP_NEIGH_KNOWN);
    assert_int_equal(underlay_stats.consumed, 2);
}

static void echo_is_answered_to_hosts(void **state)
{
    uint64_t protocol = 0;
    (void)state;
    pa_echo(&host, arrived(frame_echo(&f, 4, underlay_mac, mac_host2, pa2, pa1)));
    io_flush(&fake_io);
    assert_int_equal(kept[taken].len, 98);
    assert_memory_equal(kept[taken].bytes, mac_host2, 6);
    assert_int_equal(kept[taken++].bytes[34], 0);
    pa_echo(&host, arrived(frame_echo(&f, 4, underlay_mac, mac_host2, pa1, pa1)));
    expect_drop(&protocol, DROP_PA_PROTOCOL);
    pa_echo(&host, arrived(frame_echo(&f, 4, underlay_mac, mac_host2, any4, pa1)));
    expect_drop(&protocol, DROP_PA_PROTOCOL);
}

/* ---- a host of one PA ------------------------------------------------------------------------ */

static int setup(void **state)
{
    static const uint64_t secret[2] = {1, 2};
    const uint64_t key = key_ca4(KEY_PAS, pa1);
    (void)state;
    fake_io_init(64);
    fake_io.now = 1000 * SECOND;
    fake_io.stats[DP_UNDERLAY] = &underlay_stats;
    fake_io.txqs[DP_UNDERLAY] = &txq;
    underlay_stats = (struct port_stats){0};
    txq.n = kept_n = taken = 0;
    memset(hops, 0, sizeof hops);
    underlay = (struct port){.txqs = {&underlay_txq}, .ops = &ops, .id = DP_UNDERLAY, .mtu = 1500, .arena = &fake_arena};
    memcpy(underlay.mac, underlay_mac, 6);
    memset(&tables, 0, sizeof tables);
    tables.self_host = 1;
    memcpy(tables.shared_pa4, pa1, 4);
    tables.pas4 = map_create(1, 0, secret);
    tables.pas6 = map_create(3, 0, secret);
    map_put(tables.pas4, &key, &(struct map_value){.act = act_make(ACT_PA_SELF, 1)}, NULL);
    hops[1].host = 1;
    tables.next_hops = hops;
    host = (struct host){.io = &fake_io, .tables = &tables, .underlay = &underlay};
    host.neigh = neigh_create(1, hops, &qsbr, -1);
    neigh_underlay(host.neigh, underlay_mac);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    neigh_drop_held(&host);
    neigh_destroy(host.neigh);
    map_destroy(tables.pas4);
    map_destroy(tables.pas6);
    fake_io_end();
    return 0;
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(asks_all_or_the_one_it_knew),
        TEST(without_a_device_or_a_pa_nobody_asks),
        TEST(announces_a_pa),
        TEST(idle_asking_known_idle),
        TEST(asking_failed_asking),
        TEST(fixed_for_good),
        TEST(arp_is_answered_for_our_pas_alone),
        TEST(echo_is_answered_to_hosts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
