/*
 * The races between the control thread, which puts a next hop into a neighbour's chain, and worker 0, which
 * resolves the neighbour: one side is stopped by the CPU's trap flag behind each of its instructions in turn,
 * and the other does all it does. (Memory order is for test_neigh_threads and for the argument in
 * neigh_table.c.)
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <ucontext.h>
#include <cmocka.h>
#include "host/neigh_table.h"

/* The sanitizers put several instructions of theirs behind each of ours. */
#ifdef __SANITIZE_ADDRESS__
enum { STRIDE = 7 };
#else
enum { STRIDE = 1 };
#endif
enum { TRAP_FLAG = 0x100, HOPS = 4, STEPS_MAX = 5000 };

static struct neigh_table *table;
static struct qsbr qsbr;
static struct next_hop hops[HOPS];
static struct neigh *neighbour;
static const uint8_t address[4] = {192, 0, 2, 1};
static uint32_t used = INDEX_NONE;

/* ---- one step at a time ---------------------------------------------------------------------- */

static volatile uint32_t steps, stop_at;
static void (*interruption)(void);

static void trapped(int signal, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    (void)signal;
    (void)info;
    if (++steps < stop_at)
        return;
    u->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
    interruption();
}

static inline void trap_flag_on(void)
{
    __asm__ volatile("pushfq\n\torq $0x100, (%%rsp)\n\tpopfq" ::: "memory", "cc");
}
static inline void trap_flag_off(void)
{
    __asm__ volatile("pushfq\n\tandq $~0x100, (%%rsp)\n\tpopfq" ::: "memory", "cc");
}

/* Runs `outer` with `inner` behind its n-th instruction. False: it has ended before. */
static bool run_interrupted(void (*outer)(void), void (*inner)(void), uint32_t n)
{
    interruption = inner;
    steps = 0;
    stop_at = n;
    trap_flag_on();
    outer();
    trap_flag_off();
    return steps >= n;
}

/* ---- the two sides --------------------------------------------------------------------------- */

static void join(void) { used = neigh_use(table, DP_IPV4, address, 0); }
static void resolve(void) { neigh_table_set_mac(table, neighbour, 0x222222222202); }
static void resolve_twice(void)
{
    neigh_table_set_mac(table, neighbour, 0x333333333302);
    resolve();
}
static void lose(void) { neigh_table_set_mac(table, neighbour, 0); }

static void begin_unknown(void) { lose(); }
static void begin_known(void) { neigh_table_set_mac(table, neighbour, 0x111111111102); }

static void every_interleaving(void (*begin)(void), void (*outer)(void), void (*inner)(void))
{
    uint32_t n = 1;
    bool inside = true;
    for (; inside; n += STRIDE) {
        assert_true(n < STEPS_MAX);
        begin();
        hops[0].sibling = INDEX_NONE;    /* a link from an earlier life, which must not be followed */
        inside = run_interrupted(outer, inner, n);
        if (!inside)
            inner();
        uint64_t word = neigh_table_eth(table, neighbour->mac);
        assert_int_not_equal(used, INDEX_NONE);
        assert_int_equal(hops[0].eth, word);
        assert_int_equal(hops[1].eth, word);
        neigh_release(table, used, 0);
        used = INDEX_NONE;
    }
    assert_true(n > 20);        /* instructions that were stopped behind */
}

static void joining_is_interrupted(void **state)
{
    (void)state;
    every_interleaving(begin_unknown, join, resolve);
    every_interleaving(begin_known, join, resolve);
    every_interleaving(begin_known, join, resolve_twice);
    every_interleaving(begin_known, join, lose);
}

static void resolving_is_interrupted(void **state)
{
    (void)state;
    every_interleaving(begin_unknown, resolve, join);
    every_interleaving(begin_known, resolve, join);
    every_interleaving(begin_known, resolve_twice, join);
    every_interleaving(begin_known, lose, join);
}

/* Worker 0 walks the chain while the next hop that it stands on leaves. */
static void leave(void) { neigh_release(table, used, 0); }

static void walking_over_one_that_leaves(void **state)
{
    (void)state;
    bool inside = true;
    for (uint32_t n = 1; inside; n += STRIDE) {
        begin_unknown();
        join();
        inside = run_interrupted(resolve, leave, n);
        if (!inside)
            leave();
        assert_int_equal(hops[1].eth, neigh_table_eth(table, neighbour->mac));
        assert_int_equal(neighbour->users, 1);
        assert_int_equal(neighbour->first, 1);
    }
    used = INDEX_NONE;
}

static int setup(void **state)
{
    struct sigaction action = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO};
    static const uint8_t mac[6] = {2, 3, 4, 5, 6, 7};
    (void)state;
    memset(hops, 0, sizeof hops);
    used = INDEX_NONE;
    table = neigh_create(1, hops, &qsbr, -1);
    if (!table || sigaction(SIGTRAP, &action, NULL))
        return -1;
    neigh_underlay(table, mac);
    neighbour = neigh_table_make(table, DP_IPV4, address);
    return neigh_use(table, DP_IPV4, address, 1) == INDEX_NONE;     /* one that is there all the time */
}

static int teardown(void **state)
{
    (void)state;
    neigh_destroy(table);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(joining_is_interrupted, setup, teardown),
        cmocka_unit_test_setup_teardown(resolving_is_interrupted, setup, teardown),
        cmocka_unit_test_setup_teardown(walking_over_one_that_leaves, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
