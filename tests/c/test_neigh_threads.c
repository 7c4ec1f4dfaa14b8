/* Neighbours between threads: no message is lost or sleeps, and no next hop is left with an older MAC. */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>
#include "host/neigh_table.h"
#include "base/qsbr.h"
#include <sys/eventfd.h>

enum { MESSAGES = 100000, HOPS = 16, ROUNDS = 30000 };

static struct neigh_table *table;
static struct qsbr qsbr = {.n = 1};
static struct next_hop hops[HOPS];

/* ---- the ring -------------------------------------------------------------------------------- */

struct consumer {
    struct ring *ring;
    int wake_fd;
    uint32_t taken, sleeps;
    bool in_order;
};

/* Sleeps whenever the ring is empty: a wake-up that is missed would be for ever. */
static void *consume(void *arg)
{
    struct consumer *c = arg;
    struct message message;
    while (c->taken < MESSAGES) {
        while (ring_pop(c->ring, &message)) {
            c->in_order &= message.neigh == c->taken && message.mac == c->taken * 3ull;
            c->taken++;
        }
        if (c->taken == MESSAGES)
            break;
        struct pollfd fd = {.fd = c->wake_fd, .events = POLLIN};
        uint64_t count;
        if (poll(&fd, 1, 20000) != 1 || read(c->wake_fd, &count, sizeof count) != sizeof count)
            return NULL;
        c->sleeps++;
    }
    return c;
}

static void every_message_arrives_in_order(void **state)
{
    (void)state;
    struct ring *ring = aligned_alloc(64, sizeof *ring);
    memset(ring, 0, sizeof *ring);
    struct consumer c = {.ring = ring, .wake_fd = eventfd(0, 0), .in_order = true};
    pthread_t thread;
    void *result;
    assert_int_equal(pthread_create(&thread, NULL, consume, &c), 0);
    for (uint32_t i = 0; i < MESSAGES;) {
        struct message message = {.kind = 1, .neigh = i, .mac = i * 3ull};
        uint64_t one = 1;
        bool wake = true;
        if (ring_push(ring, &message, &wake))
            i++;
        if (wake)               /* full, or caught up */
            assert_int_equal(write(c.wake_fd, &one, sizeof one), sizeof one);
    }
    pthread_join(thread, &result);
    assert_non_null(result);
    assert_int_equal(c.taken, MESSAGES);
    assert_true(c.in_order);
    assert_true(ring_empty(ring));
    close(c.wake_fd);
    free(ring);
}

static void a_full_ring_refuses(void **state)
{
    (void)state;
    struct ring *ring = aligned_alloc(64, sizeof *ring);
    memset(ring, 0, sizeof *ring);
    struct message message = {0};
    bool wake;
    for (int round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < RING_SIZE; i++) {
            assert_true(ring_push(ring, &message, &wake));
            assert_int_equal(wake, i == 0);
        }
        assert_false(ring_push(ring, &message, &wake));
        for (uint32_t i = 0; i < RING_SIZE; i++)
            assert_true(ring_pop(ring, &message));
        assert_false(ring_pop(ring, &message));
        assert_true(ring_empty(ring));
    }
    free(ring);
}

/* ---- the chain ------------------------------------------------------------------------------- */

static const uint8_t addresses[2][4] = {{192, 0, 2, 1}, {192, 0, 2, 2}};
static struct neigh *neighbours[2];
static _Atomic uint32_t arrived;

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
    return *state;
}

/*
 * Both threads leave within nanoseconds of each other, which a barrier that sleeps would not do. `n`:
 * meetings so far.
 */
static void meet(uint32_t *n)
{
    *n += 2;
    atomic_fetch_add(&arrived, 1);
    for (unsigned spins = 0; atomic_load(&arrived) < *n; spins++)
        if (spins > 1000)
            sched_yield();
}

static void linger(uint64_t random)
{
    for (volatile uint64_t n = random % 64; n; n--)
        ;
}

/* Worker 0. In each round a neighbour gets other MACs, now and then none. */
static void *resolve(void *arg)
{
    uint64_t random = 88172645463325252ull;
    uint32_t meetings = 0;
    (void)arg;
    qsbr_online(&qsbr.readers[0]);
    for (int round = 0; round < ROUNDS; round++) {
        meet(&meetings);
        linger(next_random(&random));
        for (uint64_t n = next_random(&random) % 3; n; n--) {
            uint64_t mac = next_random(&random) & 0xfffffffffffe;
            neigh_table_set_mac(table, neighbours[mac >> 1 & 1], mac % 7 ? mac : 0);
        }
        qsbr_offline(&qsbr.readers[0]);
        meet(&meetings);
        qsbr_online(&qsbr.readers[0]);
    }
    qsbr_offline(&qsbr.readers[0]);
    return NULL;
}

static void assert_caught_up(void)
{
    uint32_t seen = 0;
    for (int i = 0; i < 2; i++)
        for (uint32_t nh = neighbours[i]->first; nh != INDEX_NONE; nh = hops[nh].sibling, seen++)
            assert_int_equal(hops[nh].eth, neigh_table_eth(table, neighbours[i]->mac));
    assert_int_equal(seen, neighbours[0]->users + neighbours[1]->users);
}

/* A next hop joins or leaves. One that has left may join again, elsewhere, behind a quiescent point. */
static void change(uint32_t *of, uint64_t random)
{
    uint32_t nh = (uint32_t)random % HOPS;
    if (of[nh] == INDEX_NONE) {
        of[nh] = neigh_use(table, DP_IPV4, addresses[random >> 40 & 1], nh);
        assert_int_not_equal(of[nh], INDEX_NONE);
    } else {
        neigh_release(table, of[nh], nh);
        of[nh] = INDEX_NONE;
        qsbr_wait(&qsbr);
    }
}

static int make_neighbours(void **state)
{
    (void)state;
    table = neigh_create(1, hops, &qsbr, -1);
    if (!table)
        return -1;
    for (int i = 0; i < 2; i++)
        neighbours[i] = neigh_table_make(table, DP_IPV4, addresses[i]);
    return 0;
}

static int destroy_neighbours(void **state)
{
    (void)state;
    neigh_destroy(table);
    return 0;
}

static void no_next_hop_keeps_an_older_mac(void **state)
{
    (void)state;
    uint32_t of[HOPS];
    pthread_t thread;
    uint64_t random = 362436069362436069ull;
    uint32_t meetings = 0;
    for (uint32_t nh = 0; nh < HOPS; nh++)
        of[nh] = INDEX_NONE;
    assert_int_equal(pthread_create(&thread, NULL, resolve, NULL), 0);
    for (int round = 0; round < ROUNDS; round++) {
        const uint8_t mac[6] = {2, (uint8_t)round};
        meet(&meetings);
        linger(next_random(&random));
        if (round % 16 == 0)
            neigh_underlay(table, mac);
        else
            change(of, next_random(&random));
        meet(&meetings);
        assert_caught_up();
    }
    pthread_join(thread, NULL);
    for (uint32_t nh = 0; nh < HOPS; nh++)
        if (of[nh] != INDEX_NONE)
            neigh_release(table, of[nh], nh);
    assert_int_equal(neighbours[0]->users + neighbours[1]->users, 0);
    assert_int_equal(neighbours[0]->first, INDEX_NONE);
    assert_int_equal(neighbours[1]->first, INDEX_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_ring_refuses),
        cmocka_unit_test(every_message_arrives_in_order),
        cmocka_unit_test_setup_teardown(no_next_hop_keeps_an_older_mac, make_neighbours, destroy_neighbours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
