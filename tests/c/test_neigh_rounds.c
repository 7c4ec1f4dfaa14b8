/*
 * Very many next hops that are announced to, learned and lost together: what worker 0 says of its own accord
 * comes in rounds, and between two of them it receives.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "host/neigh_table.h"
#include "run/engine.h"
#include "world.h"

enum { HOPS = 10000, ROUND = 64 };

static struct world *w;
static struct frame f;

/* ---- the underlay, watched ------------------------------------------------------------------- */

static const struct port_ops *ops;
static uint32_t asked[HOPS];                        /* requests for each */
static bool waits[HOPS];                            /* asked for since they answered */
static uint32_t requests, in_a_row, longest;        /* ... between two receive calls */
static uint32_t pushed;                             /* packets of the tenant */

static const uint8_t *hop_address(uint32_t i)
{
    static uint8_t address[4];
    memcpy(address, (uint8_t[]){192, 0, (uint8_t)(4 + i / 256), (uint8_t)i}, 4);
    return address;
}

static uint32_t hop_of(const uint8_t *address) { return (address[2] - 4u) * 256 + address[3]; }

static uint32_t watched_rx(struct port_rxq *rxq, struct io *io)
{
    in_a_row = 0;
    return ops->rx(rxq, io);
}

static void watched_tx(struct port_txq *txq, struct io *io, struct pkt *const *pkts, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        pushed += pkts[i]->len == 102;
        if (pkts[i]->data[12] != 8 || pkts[i]->data[13] != 6 || pkts[i]->data[40] < 4)
            continue;
        requests++;
        asked[hop_of(pkts[i]->data + 38)]++;
        waits[hop_of(pkts[i]->data + 38)] = true;
        if (++in_a_row > longest)
            longest = in_a_row;
    }
    ops->tx(txq, io, pkts, n);
}

static void watch(void)
{
    static struct port_ops watched;
    struct port *port = dp_port(w->dp, DP_UNDERLAY);
    ops = port->ops;
    watched = *ops;
    watched.rx = watched_rx;
    watched.tx = watched_tx;
    port->ops = &watched;
}

/* ---- time ------------------------------------------------------------------------------------ */

/* One round of the worker, and the network takes what it sent. */
static void run_once(uint64_t now)
{
    w->now = now;
    assert_true(dp_poll(w->dp, w->now) >= 0);
    while (world_take(w, DP_UNDERLAY))
        ;
}

/* From timer to timer for so long. */
static void run_for(uint64_t ns)
{
    const uint64_t end = w->now + ns;
    for (uint64_t due; (due = neigh_next_timer(w->dp->neigh)) <= end;)
        run_once(due > w->now ? due : w->now);
    run_once(end);
    world_assert_balance(w);
}

static void begin(void)
{
    memset(asked, 0, sizeof asked);
    requests = in_a_row = longest = pushed = 0;
}

static void assert_each_asked(uint32_t times)
{
    for (uint32_t i = 0; i < HOPS; i++)
        assert_int_equal(asked[i], times);
    assert_int_equal(world_drops(w, DP_UNDERLAY, "tx-full"), 0);
}

static uint32_t in_state(enum dp_neigh_state state)
{
    static struct dp_neigh seen[HOPS + 16];
    uint32_t n = 0, count = (uint32_t)dp_neigh_read(w->dp, seen, HOPS + 16);
    for (uint32_t i = 0; i < count; i++)
        n += seen[i].state == state && seen[i].address[1] == 0 && seen[i].address[2] >= 4;
    return n;
}

/* ---- the steps of one life ------------------------------------------------------------------- */

static void ask_for_all(void)
{
    begin();
    assert_int_equal(dp_announce(w->dp), DP_OK);
    run_for(900 * SECOND / 1000);
    printf("# announced: %u requests, at most %u in a row\n", requests, longest);
    assert_each_asked(1);
    assert_true(longest <= ROUND);
}

static void all_answer(void)
{
    for (uint32_t i = 0; i < HOPS; i++) {
        if (!waits[i])
            continue;
        waits[i] = false;
        const uint8_t mac[6] = {2, 1, 0, 0, (uint8_t)(i >> 8), (uint8_t)i};
        frame_arp(&f, 2, underlay_mac, mac, mac, hop_address(i), underlay_mac, pa1);
        world_inject(w, DP_UNDERLAY, &f, 0);
    }
    run_once(w->now);
    assert_int_equal(in_state(DP_NEIGH_KNOWN), HOPS);
}

/* What was learned at one time is asked again by and by, over some seconds. */
static void all_are_asked_again(void)
{
    uint32_t seconds = 0;
    begin();
    run_for(26 * SECOND);
    assert_int_equal(requests, 0);
    for (uint32_t before = 0; before < HOPS && seconds < 10; seconds++) {
        run_for(SECOND / 2);
        assert_true(requests - before < HOPS / 2);
        before = requests;
        all_answer();
    }
    printf("# asked again: %u requests in %u half seconds, at most %u in a row\n", requests, seconds,
           longest);
    assert_each_asked(1);
    assert_true(longest <= ROUND && seconds >= 6);
}

static void all_are_lost(void)
{
    begin();
    run_for(60 * SECOND);
    printf("# lost: %u requests, at most %u in a row\n", requests, longest);
    assert_each_asked(3);
    assert_true(longest <= ROUND);
    assert_int_equal(in_state(DP_NEIGH_FAILED), HOPS);
}

/* 2.12.15 */
static void ten_thousand_are_asked_in_rounds(void **state)
{
    (void)state;
    ask_for_all();
    all_answer();
    all_are_asked_again();
    all_are_lost();
    ask_for_all();
}

/* While it asks, a packet that comes in is served in the round it came in. */
static void packets_are_served_between_rounds(void **state)
{
    (void)state;
    assert_int_equal(dp_neigh_set(w->dp, 4, pa2, mac_host2), DP_OK);
    begin();
    assert_int_equal(dp_announce(w->dp), DP_OK);
    for (int i = 0; requests < HOPS; i++) {
        assert_true(i < HOPS);
        uint32_t before = requests;
        world_inject(w, PORT_A, frame_udp(&f, mac_far, mac_a, ca_a, ca_c, 1), 0);
        run_once(w->now + 1000000);
        assert_int_equal(pushed, i + 1);
        assert_true(requests - before <= ROUND);
    }
}

static int setup(void **state)
{
    const size_t len =
        sizeof(struct dp_change_header) + sizeof(struct dp_section) + HOPS * sizeof(struct dp_row_pa);
    struct dp_change_header *header = calloc(1, len);
    struct dp_section *section = (struct dp_section *)(header + 1);
    struct dp_row_pa *rows = (struct dp_row_pa *)(section + 1);
    (void)state;
    w = world_create(1);
    watch();
    struct changes c = {.len = 0};
    add_provider_route(&c, 4, (uint8_t[]){192, 0, 0, 0}, 16, NULL);
    change_apply(w, &c);
    *header = (struct dp_change_header){DP_CHANGE_MAGIC, DP_CHANGE_VERSION, 0, 100, 1, 0};
    *section = (struct dp_section){DP_ROW_PA, DP_PUT, HOPS};
    for (uint32_t i = 0; i < HOPS; i++) {
        rows[i] = (struct dp_row_pa){.host = 100 + i, .family = 4, .kind = DP_PA_SHARED, .prefix_len = 16};
        memcpy(rows[i].address, hop_address(i), 4);
    }
    int code = dp_apply(w->dp, (const uint8_t *)header, len, NULL);
    free(header);
    return code;
}

static int teardown(void **state)
{
    (void)state;
    world_destroy(w);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ten_thousand_are_asked_in_rounds, setup, teardown),
        cmocka_unit_test_setup_teardown(packets_are_served_between_rounds, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
