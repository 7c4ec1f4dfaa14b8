/*
 * What leaves by the underlay while the control thread writes what it is made of: our own shared PA changes
 * under traffic, by NVGRE and rewritten. Every frame is of before or of after.
 */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>
#include "world.h"

enum { VNET = 10, CHANGES = 200, SEEN_MIN = 500 };

static struct world *w;
static int underlay[2], tenant[2];                  /* the engine's end, ours */
static const uint8_t other_pa[4] = {192, 0, 2, 3};
static atomic_bool done;
static atomic_uint pushed, rewritten, wrong;

static void attach(uint32_t port, const uint8_t *mac, int *fds)
{
    struct dp_port_config config = {.name = "port", .kind = DP_PORT_TAP, .mtu = 1600, .queues = 1};
    memcpy(config.mac, mac, 6);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    config.fds[0] = fds[0];
    assert_int_equal(dp_port_attach(w->dp, port, &config), DP_OK);
}

static void add_rewrite(struct changes *c, const uint8_t *ca, uint32_t host, uint32_t port,
                        const uint8_t *mac, const uint8_t *pa)
{
    struct dp_row_record row = {.vsid = VSID, .host = host, .port = port, .family = 4, .pa_family = 4,
                                .translation = DP_REWRITE, .type = DP_STATIC};
    memcpy(row.ca, ca, 4);
    memcpy(row.provider_address, pa, 4);
    memcpy(row.mac, mac, 6);
    change_add(c, DP_PUT, DP_ROW_RECORD, &row, sizeof row);
}

static bool right(const uint8_t *frame, const uint8_t *source, const uint8_t *destination)
{
    return !memcmp(frame, mac_host2, 6) && !memcmp(frame + 6, underlay_mac, 6) &&
           !memcmp(frame + 26, source, 4) && !memcmp(frame + 30, destination, 4) &&
           naive_sum(frame + 14, 20, 0) == 0xffff;
}

static void look_at(const uint8_t *frame, size_t len)
{
    bool gre = frame[23] == 47;
    if (len != (gre ? 102 : 60))
        return;                                     /* ARP */
    if (gre)
        atomic_fetch_add(&wrong, !right(frame, pa1, pa2) && !right(frame, other_pa, pa2));
    else
        atomic_fetch_add(&wrong, !right(frame, pa1_rewrite, pa2_rewrite));
    atomic_fetch_add(gre ? &pushed : &rewritten, 1);
}

static void *peers(void *arg)
{
    static struct frame frames[2];
    uint8_t bytes[2][VNET + 60] = {{0}}, in[2048];
    (void)arg;
    frame_udp(&frames[0], mac_far, mac_a, ca_a, ca_c, 1);
    frame_udp(&frames[1], mac_far, mac_a, ca_a, ca_e, 2);
    for (int i = 0; i < 2; i++)
        memcpy(bytes[i] + VNET, frames[i].bytes, 60);
    for (unsigned n = 0; !atomic_load(&done); n++) {
        if (send(tenant[1], bytes[n % 2], sizeof bytes[0], MSG_NOSIGNAL) < 0)
            poll(&(struct pollfd){.fd = underlay[1], .events = POLLIN}, 1, 1);
        for (ssize_t got; (got = recv(underlay[1], in, sizeof in, 0)) > VNET + 34;)
            look_at(in + VNET, (size_t)got - VNET);
    }
    return NULL;
}

/* The first in order is the one in use: the other is put, then this one goes. */
static void swap_shared_pa(int round)
{
    const uint8_t *from = round % 2 ? other_pa : pa1, *to = round % 2 ? pa1 : other_pa;
    struct changes c = {.len = 0};
    add_pa(&c, DP_PUT, 1, 4, to, DP_PA_SHARED);
    add_pa(&c, DP_DEL, 1, 4, from, DP_PA_SHARED);
    change_apply(w, &c);
}

static void our_shared_pa_changes_under_traffic(void **state)
{
    (void)state;
    pthread_t thread;
    assert_int_equal(dp_start(w->dp), DP_OK);
    assert_int_equal(pthread_create(&thread, NULL, peers, NULL), 0);
    for (int i = 0; i < CHANGES || atomic_load(&pushed) < SEEN_MIN || atomic_load(&rewritten) < SEEN_MIN;
         i++) {
        swap_shared_pa(i);
        if (i > CHANGES)
            poll(NULL, 0, 1);
        assert_true(i < 100 * CHANGES);
    }
    atomic_store(&done, true);
    pthread_join(thread, NULL);
    assert_int_equal(dp_stop(w->dp), DP_OK);
    assert_int_equal(atomic_load(&wrong), 0);
    world_assert_balance(w);
}

static int setup(void **state)
{
    struct changes c = {.len = 0};
    (void)state;
    w = world_engine(1);
    attach(DP_UNDERLAY, underlay_mac, underlay);
    attach(PORT_A, mac_a, tenant);
    world_attach(w, PORT_B, mac_b);
    world_policy(w);
    add_record(&c, DP_DEL, 4, ca_c, 2, 0, mac_far, 4, pa2);
    add_record(&c, DP_DEL, 4, ca_a, 1, PORT_A, mac_a, 4, pa1);
    add_rewrite(&c, ca_a, 1, PORT_A, mac_a, pa1_rewrite);
    add_rewrite(&c, ca_c, 2, 0, mac_far, pa2_rewrite);
    add_record(&c, DP_PUT, 4, ca_e, 2, 0, mac_far, 4, pa2);
    change_apply(w, &c);
    return dp_neigh_set(w->dp, 4, pa2, mac_host2);
}

static int teardown(void **state)
{
    (void)state;
    world_destroy(w);
    for (int i = 0; i < 2; i++) {
        close(underlay[i]);
        close(tenant[i]);
    }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(our_shared_pa_changes_under_traffic, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
