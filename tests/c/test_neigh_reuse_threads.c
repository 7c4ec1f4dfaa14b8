/*
 * Neighbours given back and made again under traffic: two workers send to hosts that come and go, each with
 * an address that never was before, while time flies. Indexes pass from address to address; what is sent to
 * one must never leave with the MAC of another. Devices are made here: the network answers, each address
 * from its own MAC.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "host/neigh_table.h"
#include "run/engine.h"
#include "world.h"

enum { WORKERS = 2, HOSTS = 8, CHANGES = 700, ASKED = 4096, BURST = 8 };
/* Of a change: an entry that was used is free 30 s later. */
#define TICK SECOND

static struct world *w;
static struct port_ops underlay_ops, tenant_ops;
static _Atomic uint64_t now;
static _Atomic bool done;
static _Atomic uint32_t wrong, sent, answers, seen_wrong;

static void mac_of(uint8_t mac[6], const uint8_t *pa)
{
    memcpy(mac, (uint8_t[]){2, 0, pa[0], pa[1], pa[2], pa[3]}, 6);
}

static void ca_of(uint8_t ca[4], uint32_t host)
{
    memcpy(ca, (uint8_t[]){10, 1, 1, (uint8_t)(100 + host)}, 4);
}

/* 10.x.y.z, never twice. */
static void pa_of(uint8_t pa[4], uint32_t n)
{
    memcpy(pa, (uint8_t[]){10, (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n}, 4);
}

/* ---- the network ----------------------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint8_t asked[ASKED][4];
static uint32_t asked_n;

static void ask(const uint8_t *target)
{
    pthread_mutex_lock(&lock);
    if (asked_n < ASKED)
        memcpy(asked[asked_n++], target, 4);
    pthread_mutex_unlock(&lock);
}

static bool take_asked(uint8_t target[4])
{
    pthread_mutex_lock(&lock);
    bool any = asked_n != 0;
    if (any)
        memcpy(target, asked[--asked_n], 4);
    pthread_mutex_unlock(&lock);
    return any;
}

static void receive(struct port *port, struct io *io, struct port_count *count, const struct frame *frame)
{
    struct pkt *pkt = &io->batch.pkt[io->batch.n];
    if (!pool_pkt_new_len(&io->pool, pkt, frame->len))
        return;
    pkt_write(port->arena, pkt, 0, frame->bytes, frame->len);
    pkt->time = io->now;
    io_received(io, port, pkt, DROP_NONE, count);
}

/* Answers what was asked, but for every fourth address. */
static uint32_t underlay_rx(struct port_rxq *rxq, struct io *io)
{
    static _Thread_local struct frame frame;
    struct port_count count = {0};
    uint8_t target[4], mac[6];
    while (count.packets < BURST && take_asked(target)) {
        mac_of(mac, target);
        frame_arp(&frame, 2, underlay_mac, mac, mac, target, underlay_mac, pa1);
        if (target[3] % 4)
            receive(rxq->port, io, &count, &frame);
    }
    port_count_rx(rxq->port, io, &count);
    atomic_fetch_add(&answers, (uint32_t)count.packets);
    return (uint32_t)count.packets;
}

static void underlay_tx(struct port_txq *txq, struct io *io, struct pkt *const *pkts, uint32_t n)
{
    struct port_count count = {0};
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *frame = pkts[i]->data;
        uint8_t mac[6];
        mac_of(mac, frame + 30);
        if (pkts[i]->len == 42)
            ask(frame + 38);
        else if (memcmp(frame, mac, 6) || memcmp(frame + 6, underlay_mac, 6))
            atomic_fetch_add(&wrong, 1);
        else
            atomic_fetch_add(&sent, 1);
        port_count(&count, pkts[i]);
        pool_pkt_free(&io->pool, pkts[i]);
    }
    port_count_tx(txq->port, io, &count);
}

static uint32_t tenant_rx(struct port_rxq *rxq, struct io *io)
{
    static _Thread_local struct frame frame;
    static _Thread_local uint32_t turn;
    struct port_count count = {0};
    uint8_t ca[4];
    for (int i = 0; i < BURST; i++) {
        ca_of(ca, turn++ % HOSTS);
        receive(rxq->port, io, &count, frame_udp(&frame, mac_far, mac_a, ca_a, ca, 1));
    }
    port_count_rx(rxq->port, io, &count);
    return (uint32_t)count.packets;
}

/* ---- threads --------------------------------------------------------------------------------- */

static void *work(void *arg)
{
    struct worker *worker = arg;
    qsbr_online(worker->reader);
    while (!atomic_load(&done)) {
        worker_round(worker, atomic_load(&now));
        qsbr_quiescent(worker->reader);
        sched_yield();
    }
    qsbr_offline(worker->reader);
    return NULL;
}

/* Any thread may look at any time: never half an address. */
static void *look(void *arg)
{
    static struct dp_neigh seen[256];
    (void)arg;
    while (!atomic_load(&done)) {
        int n = dp_neigh_read(w->dp, seen, 256);
        for (int i = 0; i < n && i < 256; i++) {
            const uint8_t *a = seen[i].address;
            bool real = seen[i].family == 4 ? a[0] == 10 || a[0] == 192 : a[0] == 0x20;
            atomic_fetch_add(&seen_wrong, !real);
        }
        sched_yield();
    }
    return NULL;
}

/* The host gets an address that nobody had. */
static void move(uint32_t host, uint32_t n)
{
    struct changes c = {.len = 0};
    uint8_t ca[4], from[4], to[4];
    ca_of(ca, host);
    pa_of(from, n - HOSTS);
    pa_of(to, n);
    add_pa(&c, DP_PUT, 10 + host, 4, to, DP_PA_SHARED);
    add_record(&c, DP_PUT, 4, ca, 10 + host, 0, mac_far, 4, to);
    if (n >= 2 * HOSTS)
        add_pa(&c, DP_DEL, 10 + host, 4, from, DP_PA_SHARED);
    change_apply(w, &c);
}

static void indexes_pass_from_address_to_address(void **state)
{
    (void)state;
    pthread_t threads[WORKERS + 1];
    uint32_t n = HOSTS;
    for (; n < 2 * HOSTS; n++)
        move(n % HOSTS, n);
    w->dp->running = true;              /* by threads of our own */
    for (uint32_t i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &w->dp->workers[i]), 0);
    assert_int_equal(pthread_create(&threads[WORKERS], NULL, look, NULL), 0);
    for (; n < CHANGES; n++) {
        uint8_t stranger[4] = {10, 200, (uint8_t)(n >> 8), (uint8_t)n};
        move(n % HOSTS, n);
        assert_int_equal(dp_neigh_probe(w->dp, 4, stranger), DP_OK);
        atomic_fetch_add(&now, TICK);
    }
    atomic_store(&done, true);
    for (uint32_t i = 0; i <= WORKERS; i++)
        pthread_join(threads[i], NULL);
    w->dp->running = false;
    printf("# %u addresses, %u entries, %u packets, %u answers\n", 2 * n, w->dp->neigh->count,
           atomic_load(&sent), atomic_load(&answers));
    assert_int_equal(atomic_load(&wrong), 0);
    assert_int_equal(atomic_load(&seen_wrong), 0);
    assert_true(w->dp->neigh->count < 2 * n / 4);
    assert_true(atomic_load(&sent) > 0);
}

static void replace(uint32_t id, struct port_ops *ops)
{
    struct port *port = dp_port(w->dp, id);
    ops->reclaim = port->ops->reclaim;
    port->ops = ops;
}

static int setup(void **state)
{
    (void)state;
    w = world_create(WORKERS);
    underlay_ops.rx = underlay_rx, underlay_ops.tx = underlay_tx;
    tenant_ops.rx = tenant_rx, tenant_ops.tx = underlay_tx;
    replace(DP_UNDERLAY, &underlay_ops);
    replace(PORT_A, &tenant_ops);
    struct changes c = {.len = 0};
    add_provider_route(&c, 4, (uint8_t[]){10, 0, 0, 0}, 8, NULL);
    change_apply(w, &c);
    atomic_store(&now, w->now);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    struct host host = worker_host(&w->dp->workers[0]);
    neigh_drop_held(&host);
    world_assert_balance(w);
    world_destroy(w);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(indexes_pass_from_address_to_address, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
