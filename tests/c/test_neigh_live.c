/* Neighbours with worker threads that run and sleep: devices are socket pairs, a network of one host answers. */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>
#include "world.h"

enum { VNET = 10, QUEUES = 2, CHURN = 300, PATIENCE_MS = 20000 };

static struct world *w;
static struct frame f;
static int underlay[QUEUES], tenant[QUEUES];        /* our ends */
static int theirs[2 * QUEUES];

static void attach(uint32_t port, const uint8_t *mac, int *ends)
{
    struct dp_port_config config = {.name = "port", .kind = DP_PORT_TAP, .mtu = 1600, .queues = QUEUES};
    memcpy(config.mac, mac, 6);
    for (int q = 0; q < QUEUES; q++) {
        int fds[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
        config.fds[q] = theirs[port * QUEUES + (uint32_t)q] = fds[0];
        ends[q] = fds[1];
    }
    assert_int_equal(dp_port_attach(w->dp, port, &config), DP_OK);
}

static bool put(int fd, const struct frame *frame)
{
    uint8_t bytes[VNET + 2048] = {0};
    memcpy(bytes + VNET, frame->bytes, frame->len);
    return send(fd, bytes, VNET + frame->len, MSG_NOSIGNAL) == (ssize_t)(VNET + frame->len);
}

/* The next frame on either queue into `frame`; false: none came in time. */
static bool take(const int *ends, struct frame *frame, int ms)
{
    uint8_t bytes[VNET + 2048];
    struct pollfd fds[QUEUES] = {{.fd = ends[0], .events = POLLIN}, {.fd = ends[1], .events = POLLIN}};
    if (poll(fds, QUEUES, ms) <= 0)
        return false;
    ssize_t n = recv(fds[0].revents ? ends[0] : ends[1], bytes, sizeof bytes, 0);
    if (n < VNET)
        return false;
    frame->len = (uint32_t)n - VNET;
    memcpy(frame->bytes, bytes + VNET, frame->len);
    return true;
}

static void expect_request(const uint8_t *target)
{
    static struct frame got;
    assert_true(take(underlay, &got, PATIENCE_MS));
    frame_arp(&f, 1, broadcast, underlay_mac, underlay_mac, pa1, no_mac, target);
    assert_int_equal(got.len, f.len);
    assert_memory_equal(got.bytes, f.bytes, f.len);
}

static void expect_pushed(const uint8_t *mac)
{
    assert_true(take(underlay, &f, PATIENCE_MS));
    assert_int_equal(f.len, 102);
    assert_memory_equal(f.bytes, mac, 6);
}

/* Both the packet and the answer come in at worker 1; both workers sleep before each. */
static void a_sleeping_worker_is_woken(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct changes c = {.len = 0};      /* a neighbour that nobody knows yet */
        const uint8_t pa[4] = {192, 0, 2, (uint8_t)(10 + i)}, ca[4] = {10, 1, 1, (uint8_t)(100 + i)};
        add_pa(&c, DP_PUT, 10 + (uint32_t)i, 4, pa, DP_PA_SHARED);
        add_record(&c, DP_PUT, 4, ca, 10 + (uint32_t)i, 0, mac_far, 4, pa);
        change_apply(w, &c);
        assert_true(put(tenant[1], frame_udp(&f, mac_far, mac_a, ca_a, ca, 1)));
        expect_request(pa);
        frame_arp(&f, 2, underlay_mac, mac_host2, mac_host2, pa, underlay_mac, pa1);
        assert_true(put(underlay[1], &f));
        expect_pushed(mac_host2);
    }
}

static void wishes_are_fulfilled_while_it_runs(void **state)
{
    (void)state;
    static const uint8_t stranger[4] = {192, 0, 2, 200};
    assert_int_equal(dp_neigh_probe(w->dp, 4, stranger), DP_OK);
    expect_request(stranger);
    assert_true(put(tenant[0], frame_udp(&f, mac_far, mac_a, ca_a, ca_c, 1)));
    expect_request(pa2);
    assert_int_equal(dp_neigh_set(w->dp, 4, pa2, mac_host2), DP_OK);
    expect_pushed(mac_host2);
    assert_int_equal(dp_announce(w->dp), DP_OK);
    for (int i = 0; i < 5; i++)         /* three PAs, and the two next hops that are neither fixed nor being asked */
        assert_true(take(underlay, &f, PATIENCE_MS));
}

/* ---- churn ----------------------------------------------------------------------------------------------------------- */

static atomic_bool done;
static atomic_int wrong;

/* The provider network: the gateway answers requests, from another MAC each time; what is pushed must go to one of those. */
static void *gateway_host(void *arg)
{
    static struct frame in, out;
    uint8_t turn = 0;
    (void)arg;
    while (!atomic_load(&done)) {
        if (!take(underlay, &in, 10))
            continue;
        if (in.len == 42 && !memcmp(in.bytes + 38, gateway, 4)) {
            const uint8_t mac[6] = {2, 0, 0, 0, 0xfe, ++turn};
            put(underlay[turn % QUEUES], frame_arp(&out, 2, underlay_mac, mac, mac, gateway, underlay_mac, pa1));
        } else if (in.len == 102 && (in.bytes[0] != 2 || in.bytes[4] != 0xfe || memcmp(in.bytes + 6, underlay_mac, 6))) {
            atomic_fetch_add(&wrong, 1);
        }
    }
    return NULL;
}

static void *tenant_host(void *arg)
{
    static struct frame frames[2];
    (void)arg;
    frame_udp(&frames[0], mac_far, mac_a, ca_a, ca_d, 1);
    frame_udp(&frames[1], mac_far, mac_a, ca_a, ca_e, 2);
    for (unsigned n = 0; !atomic_load(&done); n++) {
        struct pollfd fd = {.fd = tenant[n % QUEUES], .events = POLLOUT};
        poll(&fd, 1, 10);
        put(fd.fd, &frames[n / 2 % 2]);
    }
    return NULL;
}

/* Next hops come and go behind a gateway that is asked, answers and moves, while both workers send to it. */
static void next_hops_come_and_go_under_traffic(void **state)
{
    (void)state;
    pthread_t threads[2];
    assert_int_equal(pthread_create(&threads[0], NULL, gateway_host, NULL), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, tenant_host, NULL), 0);
    for (int i = 0; i < CHURN; i++) {
        struct changes put_it = {.len = 0}, del_it = {.len = 0};
        add_pa(&put_it, DP_PUT, 4, 4, pa4, DP_PA_SHARED);
        add_record(&put_it, DP_PUT, 4, ca_e, 4, 0, mac_far, 4, pa4);
        change_apply(w, &put_it);
        if (i % 8 == 0)
            assert_int_equal(dp_neigh_probe(w->dp, 4, gateway), DP_OK);
        add_record(&del_it, DP_DEL, 4, ca_e, 4, 0, mac_far, 4, pa4);
        add_pa(&del_it, DP_DEL, 4, 4, pa4, DP_PA_SHARED);
        change_apply(w, &del_it);
    }
    atomic_store(&done, true);
    pthread_join(threads[1], NULL);
    pthread_join(threads[0], NULL);
    assert_int_equal(atomic_load(&wrong), 0);
    assert_int_equal(dp_stop(w->dp), DP_OK);
    world_assert_balance(w);
    assert_int_equal(world_counters(w, PORT_A).held, 0);
    assert_true(world_counters(w, DP_UNDERLAY).sent > 0);
}

static int setup(void **state)
{
    (void)state;
    w = world_engine(QUEUES);
    attach(DP_UNDERLAY, underlay_mac, underlay);
    attach(PORT_A, mac_a, tenant);
    world_attach(w, PORT_B, mac_b);
    world_policy(w);
    atomic_store(&done, false);
    return dp_start(w->dp);
}

static int teardown(void **state)
{
    (void)state;
    int result = dp_stop(w->dp);
    world_assert_balance(w);
    world_destroy(w);
    for (int q = 0; q < QUEUES; q++) {
        close(underlay[q]);
        close(tenant[q]);
    }
    for (int i = 0; i < 2 * QUEUES; i++)
        close(theirs[i]);
    return result;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_sleeping_worker_is_woken, setup, teardown),
        cmocka_unit_test_setup_teardown(wishes_are_fulfilled_while_it_runs, setup, teardown),
        cmocka_unit_test_setup_teardown(next_hops_come_and_go_under_traffic, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
