/*
 * Readers beside a writer that puts, replaces, deletes, moves and grows, over hashes that crowd the keys. A reader must never miss a key that
 * is always there, never see a value that was never written for the key, nor one older than it has seen. Memory that readers
 * might still use is unmapped by qsbr, so that coming too early is a fault.
 */
#include "degenerate_map.h"
#include <pthread.h>
#include <sched.h>
#include "base/qsbr.h"

enum { STEADY = 400, VOLATILE = 4000, READERS = 2, BATCH = 32, ROUNDS = 12, STEPS = 2500 };

static const uint64_t secret[2] = {1, 2};

static struct qsbr qsbr = {.n = READERS};
static struct map *map;
static bool stop;
static uint64_t looked[READERS], missed[READERS];

static void key_of(uint64_t *key, unsigned words, uint32_t i)
{
    key[0] = words == 3 ? 5001 << 8 | (i & 7) : 5001ull << 32 | i;
    key[1] = i / 8 % 3;
    key[2] = words == 3 ? i / 24 : 0;
}

/* act: 12 bits of key, 20 of version; the MAC follows from both. */
static struct map_value value_of(uint32_t i, uint32_t version)
{
    struct map_value value = {.act = i << 20 | version};
    for (unsigned b = 0; b < 6; b++)
        value.mac[b] = (uint8_t)(value.act * 2654435761u >> b * 4);
    return value;
}

static void check_value(uint32_t i, const struct map_value *value)
{
    struct map_value expected = value_of(i, value->act & 0xfffff);
    if (expected.act != value->act || memcmp(expected.mac, value->mac, 6))
        abort();
}

static void read_batch(unsigned words, uint32_t id, uint32_t first, uint32_t *seen)
{
    const struct map_view *view = map_view(map);
    for (uint32_t b = 0; b < BATCH; b++) {
        uint32_t i = (first + b * 7) % VOLATILE;
        uint64_t key[3];
        struct map_value value;
        key_of(key, words, i);
        uint64_t hash = map_hash(view, words, key);
        bool hit = words == 1 ? map_find(view, 1, key, hash, &value) : map_find(view, 3, key, hash, &value);
        if (!hit && i < STEADY)
            abort();
        missed[id] += !hit;
        if (!hit)
            continue;
        check_value(i, &value);
        if (i < STEADY && (value.act & 0xfffff) < seen[i])
            abort();
        if (i < STEADY)
            seen[i] = value.act & 0xfffff;
    }
    __atomic_fetch_add(&looked[id], BATCH, __ATOMIC_RELEASE);
}

static void *reader(void *arg)
{
    struct qsbr_reader *self = arg;
    uint32_t id = (uint32_t)(self - qsbr.readers), seen[STEADY] = {0}, at = id * 13;
    const unsigned words = map->words;
    qsbr_online(self);
    while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
        for (uint32_t n = 0; n < 16; n++, at += 31)
            read_batch(words, id, n & 1 ? at % STEADY : at, seen);
        qsbr_quiescent(self);
        if (at % 97 == 0) {
            qsbr_offline(self);
            qsbr_online(self);
        }
    }
    qsbr_offline(self);
    return NULL;
}

static void write_key(uint32_t i, uint32_t version)
{
    uint64_t key[3];
    struct map_value value = value_of(i, version);
    key_of(key, map->words, i);
    assert_int_equal(map_put(map, key, &value, NULL), DP_OK);
}

static void delete_key(uint32_t i)
{
    uint64_t key[3];
    key_of(key, map->words, i);
    map_del(map, key, NULL);
}

/* Fills up, so that entries move and the table grows; empties, so that chains move up. */
static void writer(uint32_t volatiles)
{
    uint32_t version = 1, state = 1;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t step = 0; step < STEPS; step++) {
            state = state * 1664525 + 1013904223;
            uint32_t i = STEADY + (state >> 8) % volatiles;
            if (step % 4 == 0)
                write_key((state >> 16) % STEADY, ++version);
            else if ((state >> 5) % 100 < (round % 2 ? 25 : 80))
                write_key(i, version & 0xfffff);
            else
                delete_key(i);
        }
        struct map_view *retired = map_retired(map);
        qsbr_wait(&qsbr);
        map_free_retired(retired);
    }
}

static void run(enum hash_mode mode, unsigned words)
{
    pthread_t threads[READERS];
    hash_mode = mode;
    map = map_create(words, 0, secret);
    for (uint32_t i = 0; i < STEADY; i++)
        write_key(i, 1);
    __atomic_store_n(&stop, false, __ATOMIC_RELEASE);
    for (uint32_t i = 0; i < READERS; i++) {
        looked[i] = missed[i] = 0;
        assert_int_equal(pthread_create(&threads[i], NULL, reader, &qsbr.readers[i]), 0);
    }
    for (uint32_t i = 0; i < READERS; i++)
        while (__atomic_load_n(&looked[i], __ATOMIC_ACQUIRE) < STEADY)
            sched_yield();
    writer(mode == HASH_GOOD ? VOLATILE - STEADY : 200);
    __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
    for (uint32_t i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(looked[i] > 0 && missed[i] > 0);
    }
    check_map(map);
    map_destroy(map);
    hash_mode = HASH_GOOD;
}

static void readers_miss_nothing_and_see_no_mix(void **state)
{
    (void)state;
    for (enum hash_mode mode = HASH_GOOD; mode < HASH_MODES; mode++) {
        run(mode, 1);
        run(mode, 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(readers_miss_nothing_and_see_no_mix)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
