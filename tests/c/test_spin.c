/* When an idle worker looks on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>
#include "base/spin.h"

enum { LIMIT = 60000, MS = 1000000 };

static struct spin spin;
static uint64_t now, bytes;

/* Packets of so many bytes, n times, each so long behind the one before. */
static void receive(uint32_t n, uint64_t gap, uint64_t each)
{
    for (uint32_t i = 0; i < n; i++)
        spin_received(&spin, now += gap, bytes += each);
}

static int begin(void **state)
{
    (void)state;
    spin = (struct spin){.limit = LIMIT};
    now = 5 * (uint64_t)MS, bytes = 0;
    return 0;
}

static void where_packets_come_soon(void **state)
{
    (void)state;
    assert_false(spin_on(&spin, now));
    receive(3, 40000, 100);
    assert_false(spin_on(&spin, now + 1));
    receive(7, 40000, 100);
    assert_true(spin_on(&spin, now + 1));
    assert_true(spin_on(&spin, now + LIMIT - 1));
    assert_false(spin_on(&spin, now + LIMIT)); /* nothing more is to be hoped for */
}

/* Who blocks is woken late: a little more than the limit says that looking would have paid. */
static void it_begins_anew_by_itself(void **state)
{
    (void)state;
    receive(20, 100000, 100);
    assert_true(spin_on(&spin, now + 1));
}

static void not_where_waits_are_long(void **state)
{
    (void)state;
    receive(20, 40000, 100);
    receive(2, 2 * MS, 100);
    assert_false(spin_on(&spin, now + 1));
    receive(100, 2 * MS, 100);
    assert_false(spin_on(&spin, now + 1));
    receive(10, 40000, 100);
    assert_true(spin_on(&spin, now + 1));
}

static void not_where_much_comes(void **state)
{
    (void)state;
    receive(1000, 10000, 1500); /* 1.2 Gb/s */
    assert_false(spin_on(&spin, now + 1));
    receive(200, 40000, 100);
    assert_true(spin_on(&spin, now + 1));
    receive(1000, 50000, 1500); /* 0.24 Gb/s */
    assert_true(spin_on(&spin, now + 1));
}

static void never(void **state)
{
    (void)state;
    spin.limit = 0;
    receive(100, 0, 100);
    assert_false(spin_on(&spin, now));
    assert_false(spin_on(&spin, now + 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(where_packets_come_soon, begin), cmocka_unit_test_setup(it_begins_anew_by_itself, begin),
        cmocka_unit_test_setup(not_where_waits_are_long, begin), cmocka_unit_test_setup(not_where_much_comes, begin),
        cmocka_unit_test_setup(never, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
