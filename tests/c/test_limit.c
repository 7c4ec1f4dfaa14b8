/* A bucket in time beside a naive one in tokens, and shared by two threads. */
#include "frames.h"
#include <pthread.h>
#include "step/limit.h"

/* Tokens times 4 * 10^9, so that a quarter of a nanosecond brings `per_second` of them, without rounding. */
struct naive {
    __int128 packets, bytes;
    uint64_t then;
};

static __int128 naive_filled(const struct limit_rate *rate, __int128 level, uint64_t ns)
{
    __int128 most = (__int128)rate->burst * LIMIT_SECOND;
    level += (__int128)rate->per_second * ns * 4;
    return level < most ? level : most;
}

static bool naive_allows(const struct port_limit *limit, struct naive *n, uint64_t now, uint64_t packets,
                         uint64_t bytes)
{
    n->packets = naive_filled(&limit->packets, n->packets, now - n->then);
    n->bytes = naive_filled(&limit->bytes, n->bytes, now - n->then);
    n->then = now;
    if ((limit->packets.per_second && n->packets <= 0) || (limit->bytes.per_second && n->bytes <= 0))
        return false;
    n->packets -= (__int128)packets * LIMIT_SECOND;
    n->bytes -= (__int128)bytes * LIMIT_SECOND;
    return true;
}

static uint64_t state = 1;

static uint64_t below(uint64_t n)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % n;
}

/* 2.14.1, 2.14.2, 2.14.3: with rates that make a whole number of quarters of a nanosecond */
static void passes_what_the_naive_one_passes(void **unused)
{
    (void)unused;
    static const uint64_t rates[] = {0, 1, 50, 1000, 1000000, 10000000, 125000000};
    for (uint32_t round = 0; round < 500; round++) {
        const struct port_limit limit = {limit_rate(rates[below(7)], 1 + (uint32_t)below(200)),
                                         limit_rate(rates[below(7)], 1 + (uint32_t)below(300000))};
        struct limit_bucket bucket = {0, 0};
        uint64_t now = below(2) ? below(1000) : 1700000000000000000 + below(1000);
        struct naive naive = {(__int128)limit.packets.burst * LIMIT_SECOND,
                              (__int128)limit.bytes.burst * LIMIT_SECOND, now};
        for (uint32_t i = 0; i < 2000; i++, now += below(4) ? below(2000) : below(4000000)) {
            uint64_t packets = below(8) ? 1 : 1 + below(1365), bytes = 60 + below(packets > 1 ? 65000 : 1455);
            bool expected = naive_allows(&limit, &naive, now, packets, bytes);
            assert_int_equal(limit_allows(&limit, &bucket, now, packets, bytes), expected);
        }
    }
}

/* 2.14.4: with any rate the bytes that pass within ten seconds are the limit's, less under a thousandth */
static void keeps_the_rate(void **unused)
{
    (void)unused;
    for (uint32_t round = 0; round < 20; round++) {
        const uint64_t rate = 100000 + below(30000000);
        const struct port_limit limit = {limit_rate(0, 0), limit_rate(rate, 131072)};
        struct limit_bucket bucket = {0, 0};
        uint64_t passed = 0, step = 1000000000000 / rate;   /* 1,000 bytes' time; twice as many come */
        for (uint64_t now = 0; now < 10000000000; now += step)
            passed += limit_allows(&limit, &bucket, now, 1, 2000) ? 2000 : 0;
        assert_true(passed <= 10 * rate + 131072 + 4000);
        assert_true(passed >= (10 * rate + 131072) / 1000 * 999);
    }
}

/* 2.14.2: so a packet over the limit of bytes does not use up the limit of packets */
static void takes_nothing_when_refused(void **unused)
{
    (void)unused;
    const struct port_limit limit = {limit_rate(1, 3), limit_rate(1, 100)};
    struct limit_bucket bucket = {0, 0};
    assert_true(limit_allows(&limit, &bucket, 5, 1, 100));
    for (unsigned i = 0; i < 10; i++)
        assert_false(limit_allows(&limit, &bucket, 5, 1, 1));
    assert_int_equal(bucket.packets, 5 * 4 + LIMIT_SECOND);
}

static struct limit_bucket shared;
static const uint32_t shared_burst = 200000;

static void *take_all(void *passed)
{
    const struct port_limit limit = {limit_rate(1, shared_burst), limit_rate(0, 0)};
    for (uint32_t i = 0; i < shared_burst; i++)
        *(uint32_t *)passed += limit_allows(&limit, &shared, 7, 1, 60);
    return NULL;
}

static void two_workers_share_one_limit(void **unused)
{
    (void)unused;
    uint32_t passed[2] = {0, 0};
    pthread_t threads[2];
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_all, &passed[i]), 0);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(passed[0] + passed[1], shared_burst);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passes_what_the_naive_one_passes),
        cmocka_unit_test(keeps_the_rate),
        cmocka_unit_test(takes_nothing_when_refused),
        cmocka_unit_test(two_workers_share_one_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
