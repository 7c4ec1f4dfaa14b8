/* Neighbours that nobody has a use for any more are given back, and made again for other addresses. */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "host/neigh_table.h"
#include "run/engine.h"
#include "world.h"

enum { PROBES = 1000000, LIVES = 20000, AT_ONCE = 40 };

static struct world *w;
static struct frame f;

static const uint8_t *stranger(uint32_t i)
{
    static uint8_t address[4];
    memcpy(address, (uint8_t[]){10, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i}, 4);
    return address;
}

/* From timer to timer for so long. */
static void run_for(uint64_t ns)
{
    const uint64_t end = w->now + ns;
    for (uint64_t due; (due = neigh_next_timer(w->dp->neigh)) <= end;) {
        w->now = due > w->now ? due : w->now;
        assert_true(dp_poll(w->dp, w->now) >= 0);
    }
    world_run(w, end - w->now);
}

static uint32_t entries(void) { return w->dp->neigh->count; }

/* A new host, and a packet that goes to it. */
static void expect_a_new_pa_to_work(const uint8_t *pa, uint8_t mark)
{
    struct changes c = {.len = 0};
    const uint8_t mac[6] = {2, 0, 9, 9, 9, mark};
    add_pa(&c, DP_PUT, 4, 4, pa, DP_PA_SHARED);
    add_record(&c, DP_PUT, 4, ca_e, 4, 0, mac_far, 4, pa);
    change_apply(w, &c);
    world_send(w, PORT_A, frame_udp(&f, mac_far, mac_a, ca_a, ca_e, mark));
    world_expect(w, DP_UNDERLAY, frame_arp(&f, 1, broadcast, underlay_mac, underlay_mac, pa1, no_mac, pa));
    world_send(w, DP_UNDERLAY, frame_arp(&f, 2, underlay_mac, mac, mac, pa, underlay_mac, pa1));
    assert_true(world_take(w, DP_UNDERLAY));
    assert_memory_equal(w->bytes, mac, 6);
    assert_memory_equal(w->bytes + 30, pa, 4);
    assert_int_equal(w->bytes[w->frame.len - 1], mark);
    world_expect_nothing(w);
}

/* Without a device nobody is really asked: the rest is as ever. */
static void a_million_probes_leave_nothing_behind(void **state)
{
    (void)state;
    const uint32_t before = (uint32_t)dp_neigh_read(w->dp, NULL, 0);
    assert_int_equal(dp_port_detach(w->dp, DP_UNDERLAY), DP_OK);
    for (uint32_t done = 0; done < PROBES;) {
        for (uint32_t i = 0; i < NEIGH_PROBES && done < PROBES; i++)
            assert_int_equal(dp_neigh_probe(w->dp, 4, stranger(done++)), DP_OK);
        run_for(40 * SECOND);
    }
    assert_int_equal(dp_neigh_read(w->dp, NULL, 0), before);
    const size_t bytes = w->dp->neigh->entries_mem.committed;
    printf("# %u probes: %u entries, %zu KiB\n", PROBES, entries(), bytes / 1024);
    assert_true(entries() <= before + NEIGH_PROBES + NEIGH_LOOKS);
    world_attach(w, DP_UNDERLAY, underlay_mac);
    expect_a_new_pa_to_work((uint8_t[]){192, 0, 2, 4}, 1);
    assert_int_equal(dp_neigh_read(w->dp, NULL, 0), before + 1);
}

/* A million at once: what can't be remembered is refused, policy has its room. */
static void a_burst_of_probes_is_refused_beyond_its_share(void **state)
{
    (void)state;
    world_run(w, 0);
    assert_int_equal(dp_port_detach(w->dp, DP_UNDERLAY), DP_OK);
    for (uint32_t i = 0; i < PROBES; i++)
        assert_int_equal(dp_neigh_probe(w->dp, 4, stranger(i)), i < NEIGH_PROBES ? DP_OK : DP_EFULL);
    assert_int_equal(dp_neigh_probe(w->dp, 4, stranger(0)), DP_OK);     /* known already */
    assert_int_equal(dp_neigh_probe(w->dp, 4, pa2), DP_OK);             /* in use */
    world_attach(w, DP_UNDERLAY, underlay_mac);
    expect_a_new_pa_to_work((uint8_t[]){192, 0, 2, 4}, 1);
    assert_int_equal(dp_port_detach(w->dp, DP_UNDERLAY), DP_OK);
    run_for(40 * SECOND);
    for (uint32_t i = 0; i < NEIGH_PROBES; i++)
        assert_int_equal(dp_neigh_probe(w->dp, 4, stranger(NEIGH_PROBES + i)), DP_OK);
}

/* A probed address that becomes a next hop, or gets a MAC for good, no longer counts as one. */
static void a_probe_that_finds_a_use_is_no_probe(void **state)
{
    (void)state;
    static const uint8_t used[4] = {192, 0, 2, 4}, fixed[4] = {192, 0, 2, 5};
    assert_int_equal(dp_neigh_probe(w->dp, 4, used), DP_OK);
    assert_int_equal(dp_neigh_probe(w->dp, 4, fixed), DP_OK);
    assert_int_equal(w->dp->neigh->probed, 2);
    assert_int_equal(dp_neigh_set(w->dp, 4, fixed, mac_host2), DP_OK);
    struct changes c = {.len = 0};
    add_pa(&c, DP_PUT, 4, 4, used, DP_PA_SHARED);
    change_apply(w, &c);
    assert_int_equal(w->dp->neigh->probed, 0);
    run_for(100 * SECOND);
    for (uint32_t i = 0; i < 100; i++)
        dp_neigh_probe(w->dp, 4, stranger(i));
    assert_true(neigh_table_find(w->dp->neigh, 4, used) && neigh_table_find(w->dp->neigh, 4, fixed));
}

/* Hosts come, are sent to, and go: each address once. */
static void next_hops_that_go_are_given_back(void **state)
{
    (void)state;
    const uint32_t before = (uint32_t)dp_neigh_read(w->dp, NULL, 0);
    for (uint32_t i = 0; i < LIVES / AT_ONCE; i++) {
        struct changes put_them = {.len = 0}, del_them = {.len = 0};
        uint8_t pa[4] = {192, 0, 2, 0};
        add_provider_route(&put_them, 4, (uint8_t[]){10, 0, 0, 0}, 8, NULL);
        for (uint32_t n = 0; n < AT_ONCE; n++) {
            memcpy(pa, stranger(i * AT_ONCE + n), 4);
            add_pa(&put_them, DP_PUT, 10 + n, 4, pa, DP_PA_SHARED);
            add_pa(&del_them, DP_DEL, 10 + n, 4, pa, DP_PA_SHARED);
        }
        change_apply(w, &put_them);
        assert_int_equal(dp_neigh_read(w->dp, NULL, 0), before + AT_ONCE);
        change_apply(w, &del_them);
        assert_int_equal(dp_neigh_read(w->dp, NULL, 0), before);
    }
    printf("# %u next hops: %u entries\n", LIVES, entries());
    assert_true(entries() <= before + 4 * AT_ONCE + NEIGH_LOOKS);
}

/* The same entry for another address: no MAC, no packet, no try of the last one's. */
static void an_entry_made_again_begins_anew(void **state)
{
    (void)state;
    static const uint8_t first[4] = {192, 0, 2, 30}, second[4] = {192, 0, 2, 31};
    assert_int_equal(dp_neigh_probe(w->dp, 4, first), DP_OK);
    frame_arp(&f, 2, underlay_mac, mac_gateway, mac_gateway, first, underlay_mac, pa1);
    world_send(w, DP_UNDERLAY, &f);
    const struct neigh *e = neigh_table_find(w->dp->neigh, 4, first);
    assert_int_equal(e->state, DP_NEIGH_KNOWN);
    run_for(30 * SECOND);
    neigh_reclaim(w->dp->neigh);
    assert_null(neigh_table_find(w->dp->neigh, 4, first));
    while (world_take(w, DP_UNDERLAY))
        ;
    expect_a_new_pa_to_work(second, 3);
    assert_ptr_equal(neigh_table_find(w->dp->neigh, 4, second), e);
}

/* What a worker has handed over but worker 0 not yet taken keeps the entry. */
static void a_message_on_its_way_keeps_its_entry(void **state)
{
    (void)state;
    static const uint8_t pa[4] = {192, 0, 2, 40};
    struct changes put_it = {.len = 0}, del_it = {.len = 0};
    add_pa(&put_it, DP_PUT, 4, 4, pa, DP_PA_SHARED);
    add_record(&put_it, DP_PUT, 4, ca_e, 4, 0, mac_far, 4, pa);
    change_apply(w, &put_it);
    const struct neigh *e = neigh_table_find(w->dp->neigh, 4, pa);
    world_inject(w, PORT_A, frame_udp(&f, mac_far, mac_a, ca_a, ca_e, 1), 1);
    worker_round(&w->dp->workers[1], w->now);
    assert_int_equal(e->on_way, 1);
    add_record(&del_it, DP_DEL, 4, ca_e, 4, 0, mac_far, 4, pa);
    add_pa(&del_it, DP_DEL, 4, 4, pa, DP_PA_SHARED);
    change_apply(w, &del_it);
    neigh_reclaim(w->dp->neigh);
    assert_ptr_equal(neigh_table_find(w->dp->neigh, 4, pa), e);
    world_run(w, 0);                    /* asked for: the packet was accepted, and goes when it answers */
    assert_int_equal(e->on_way, 0);
    world_expect(w, DP_UNDERLAY, frame_arp(&f, 1, broadcast, underlay_mac, underlay_mac, pa1, no_mac, pa));
    world_send(w, DP_UNDERLAY, frame_arp(&f, 2, underlay_mac, mac_host2, mac_host2, pa, underlay_mac, pa1));
    assert_true(world_take(w, DP_UNDERLAY));
    run_for(30 * SECOND);
    neigh_reclaim(w->dp->neigh);
    assert_null(neigh_table_find(w->dp->neigh, 4, pa));
}

static void *reclaim(void *arg)
{
    neigh_reclaim(w->dp->neigh);
    return arg;
}

static void wait_until_gone(const uint8_t *pa)
{
    for (int i = 0; neigh_table_find(w->dp->neigh, 4, pa); i++) {
        assert_true(i < 10000);
        poll(NULL, 0, 1);
    }
}

/* A worker in its batch has read the index out of a next hop that has been released since. */
static void an_index_in_a_workers_hands_is_not_given_on(void **state)
{
    (void)state;
    static const uint8_t pa[4] = {192, 0, 2, 41};
    struct neigh_table *table = w->dp->neigh;
    struct changes c = {.len = 0};
    pthread_t thread;
    world_run(w, 0);
    const struct neigh *e = neigh_table_make(table, 4, pa);
    const uint32_t life = e->life, free_before = table->free.n;
    qsbr_online(w->dp->workers[0].reader);
    assert_int_equal(pthread_create(&thread, NULL, reclaim, NULL), 0);
    wait_until_gone(pa);
    poll(NULL, 0, 20);
    const bool waited = e->life == life;
    struct host host = worker_host(&w->dp->workers[0]);
    struct pkt *pkt = io_make(host.io);
    frame_udp(&f, no_mac, no_mac, pa1, pa, 1);
    frame_to_pkt(&host.io->pool, &f, pkt, f.len);
    pkt->in_port = DP_UNDERLAY;
    io_originated(host.io, DP_UNDERLAY, 1);
    neigh_hold(&host, neigh_table_index(table, e), pkt);
    io_flush(host.io);
    qsbr_offline(w->dp->workers[0].reader);
    pthread_join(thread, NULL);
    assert_true(waited);
    assert_int_equal(e->life, life);                /* and now a packet waits for it */
    assert_ptr_equal(neigh_table_find(table, 4, pa), e);
    assert_int_equal(table->free.n, free_before);
    world_send(w, DP_UNDERLAY, frame_arp(&f, 2, underlay_mac, mac_host2, mac_host2, pa, underlay_mac, pa1));
    assert_true(world_take(w, DP_UNDERLAY) && world_take(w, DP_UNDERLAY));
    assert_memory_equal(w->bytes, mac_host2, 6);
    run_for(30 * SECOND);
    change_apply(w, &c);
    assert_null(neigh_table_find(table, 4, pa));
    assert_int_equal(e->life, life + 1);
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
    world_assert_balance(w);
    world_destroy(w);
    return 0;
}

#define ONE(test) cmocka_unit_test_setup_teardown(test, one_worker, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ONE(a_million_probes_leave_nothing_behind),
        ONE(a_burst_of_probes_is_refused_beyond_its_share),
        ONE(a_probe_that_finds_a_use_is_no_probe),
        ONE(next_hops_that_go_are_given_back),
        ONE(an_entry_made_again_begins_anew),
        ONE(an_index_in_a_workers_hands_is_not_given_on),
        cmocka_unit_test_setup_teardown(a_message_on_its_way_keeps_its_entry, two_workers, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
