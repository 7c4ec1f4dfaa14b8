/* The hash table beside an array that is indexed by key: random operations, hashes from good to hopeless. */
#include "degenerate_map.h"

static const uint64_t secret[2] = {0x0123456789abcdef, 0xfedcba9876543210};

static uint64_t rnd_state = 0x2545f4914f6cdd1d;
static uint32_t rnd(uint32_t bound)
{
    rnd_state ^= rnd_state >> 12;
    rnd_state ^= rnd_state << 25;
    rnd_state ^= rnd_state >> 27;
    return (uint32_t)(rnd_state * 0x2545f4914f6cdd1dull >> 32) % bound;
}

/* Keys of three words that share any two of them with others. */
static void key_of(uint64_t *key, unsigned words, uint32_t i)
{
    key[0] = words == 1 ? 5001ull << 32 | i : 1 + i % 7;
    if (words == 3) {
        key[1] = i / 7 % 11;
        key[2] = i / 77;
    }
}

static struct map_value value_of(uint32_t i, uint32_t version)
{
    struct map_value value = {.act = (i * 31 + version + 1) | (i % 5 ? 0 : MAP_HOME)};
    for (unsigned b = 0; b < 6; b++)
        value.mac[b] = (uint8_t)(value.act * (b + 3));
    return value;
}

static bool same(const struct map_value *a, const struct map_value *b) { return a->act == b->act && !memcmp(a->mac, b->mac, 6); }

enum { KEYS = 3000 };

/* The naive twin: a value for each key; act 0, it has none. */
struct twin {
    struct map *map;
    unsigned words;
    size_t n;
    struct map_value value[KEYS];
};

static void check_key(const struct twin *twin, uint32_t i)
{
    uint64_t key[3], hash;
    struct map_value got = {0}, found = {0};
    const struct map_view *view = map_view(twin->map);
    bool there = twin->value[i].act != 0;
    key_of(key, twin->words, i);
    assert_int_equal(map_get(twin->map, key, &got), there);
    if (twin->words == 1) {
        hash = map_hash(view, 1, key);
        map_prefetch(view, hash);
        assert_int_equal(map_find(view, 1, key, hash, &found), there);
    } else {
        hash = map_hash(view, 3, key);
        map_prefetch(view, hash);
        assert_int_equal(map_find(view, 3, key, hash, &found), there);
    }
    if (there)
        assert_true(same(&got, &twin->value[i]) && same(&found, &twin->value[i]));
}

static void put_key(struct twin *twin, uint32_t i, uint32_t version)
{
    uint64_t key[3];
    struct map_value value = value_of(i, version), replaced;
    key_of(key, twin->words, i);
    assert_int_equal(map_put(twin->map, key, &value, &replaced), DP_OK);
    assert_int_equal(replaced.act, twin->value[i].act);
    twin->n += twin->value[i].act == 0;
    twin->value[i] = value;
}

static void del_key(struct twin *twin, uint32_t i)
{
    uint64_t key[3];
    struct map_value removed;
    bool there = twin->value[i].act != 0;
    key_of(key, twin->words, i);
    assert_int_equal(map_del(twin->map, key, &removed), there);
    if (there)
        assert_true(same(&removed, &twin->value[i]));
    twin->n -= there;
    twin->value[i].act = 0;
}

static bool count_entry(void *ctx, const uint64_t *key, const struct map_value *value)
{
    struct twin *twin = ctx;
    uint32_t i = (uint32_t)(twin->words == 1 ? key[0] & 0xffffffff : key[2] * 77 + key[1] * 7 + key[0] - 1);
    assert_true(i < KEYS && same(value, &twin->value[i]));
    twin->n--;
    return true;
}

static void check_all(struct twin *twin)
{
    struct map_stats stats;
    check_map(twin->map);
    map_stats(twin->map, &stats);
    assert_int_equal(stats.entries, twin->n);
    for (uint32_t i = 0; i < KEYS; i++)
        check_key(twin, i);
    map_each(twin->map, count_entry, twin);
    assert_int_equal(twin->n, 0);
    twin->n = stats.entries;
}

/* Grows past several sizes, shrinks, and ends with every key deleted. */
static void random_operations(struct twin *twin, uint32_t steps)
{
    for (uint32_t phase = 0; phase < 4; phase++) {
        for (uint32_t step = 0; step < steps; step++) {
            uint32_t i = rnd(KEYS);
            if (rnd(100) < (phase % 2 ? 30 : 75))
                put_key(twin, i, step);
            else
                del_key(twin, i);
            check_key(twin, rnd(KEYS));
        }
        check_all(twin);
        map_free_retired(map_retired(twin->map));
    }
    for (uint32_t i = 0; i < KEYS; i++)
        del_key(twin, i);
    check_all(twin);
}

static void agrees_with_the_twin(void **state)
{
    (void)state;
    for (hash_mode = HASH_GOOD; hash_mode < HASH_MODES; hash_mode++) {
        for (unsigned words = 1; words <= 3; words += 2) {
            struct twin *twin = calloc(1, sizeof *twin);
            twin->words = words;
            twin->map = map_create(words, 0, secret);
            random_operations(twin, hash_mode == HASH_GOOD ? 20000 : 2500);
            map_destroy(twin->map);
            free(twin);
        }
    }
    hash_mode = HASH_GOOD;
}

static void a_full_chain_uses_what_was_freed(void **state)
{
    (void)state;
    struct twin *twin = calloc(1, sizeof *twin);
    hash_mode = HASH_ONE;
    twin->words = 1;
    twin->map = map_create(1, KEYS, secret);
    uint32_t used = 0;
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < KEYS; i++)
            put_key(twin, i, round);
        check_map(twin->map);
        if (round == 0)
            used = map_table(twin->map)->overflow_used;
        assert_int_equal(map_table(twin->map)->overflow_used, used);
        for (uint32_t i = 0; i < KEYS; i++)
            del_key(twin, round % 2 ? i : KEYS - 1 - i);
        assert_int_equal(map_table(twin->map)->chained, 0);
    }
    check_all(twin);
    map_destroy(twin->map);
    free(twin);
    hash_mode = HASH_GOOD;
}

/* More entries behind one bucket than its count can say: a miss is slow from then on, but still a miss. */
static void spill_counts_as_far_as_it_can(void **state)
{
    (void)state;
    enum { MANY = 70000 };
    uint64_t key[3];
    struct map_value value = {.act = 1};
    hash_mode = HASH_ONE;
    struct map *map = map_create(1, MANY, secret);
    /* map_put() would search the whole chain for each. */
    for (uint32_t i = 0; i < MANY; i++, map->entries++)
        assert_int_equal(map_place_new(map_table(map), 1, 0, &(struct map_entry){{5001ull << 32 | i}, {.act = 1}}), DP_OK);
    check_map(map);
    assert_int_equal(map_spill(map_table(map)->view.buckets->state), MAP_SPILL_MAX);
    for (uint32_t i = 0; i < MANY; i += MANY / 10) {
        key_of(key, 1, i);
        assert_true(map_get(map, key, &value));
    }
    key_of(key, 1, MANY);
    assert_false(map_get(map, key, &value));
    map_destroy(map);
    hash_mode = HASH_GOOD;
}

static void a_clone_is_a_copy_of_its_own(void **state)
{
    (void)state;
    for (hash_mode = HASH_GOOD; hash_mode < HASH_MODES; hash_mode++) {
        struct twin *twin = calloc(1, sizeof *twin), *other = calloc(1, sizeof *other);
        twin->words = 3;
        twin->map = map_create(3, 0, secret);
        for (uint32_t i = 0; i < 1000; i++)
            put_key(twin, i, 1);
        *other = *twin;
        other->map = map_clone(twin->map, 0);
        assert_non_null(other->map);
        for (uint32_t i = 500; i < 1500; i++)
            put_key(other, i, 2);
        for (uint32_t i = 0; i < 100; i++)
            del_key(twin, i);
        check_all(twin);
        check_all(other);
        map_destroy(twin->map);
        map_destroy(other->map);
        free(twin);
        free(other);
    }
    hash_mode = HASH_GOOD;
}

/* 64 bytes a record, both copies of a swap included: when built to size, and at the worst moment after growing. */
static void a_v4_record_takes_little_memory(void **state)
{
    (void)state;
    for (size_t n = 8192; n <= 1 << 19; n = n * 5 / 3) {
        struct map *built = map_create(1, n, secret), *grown = map_create(1, 0, secret);
        struct map_value value = {.act = 1};
        struct map_stats one, two;
        for (uint32_t i = 0; i < n; i++) {
            const uint64_t key = 5001ull << 32 | __builtin_bswap32(0x0a000000 + i);
            assert_int_equal(map_put(built, &key, &value, NULL), DP_OK);
            assert_int_equal(map_put(grown, &key, &value, NULL), DP_OK);
            map_free_retired(map_retired(grown));
        }
        map_stats(built, &one);
        map_stats(grown, &two);
        assert_true(2 * one.bytes <= 64 * n);
        assert_true(one.bytes + two.bytes <= 64 * n);
        assert_true(one.overflow < n / 200);
        map_destroy(built);
        map_destroy(grown);
    }
}

/* Neighbouring keys, as tenants have them, spread like random ones: no more first buckets are empty than chance has it. */
static void hash_spreads_neighbouring_keys(void **state)
{
    (void)state;
    enum { N = 1 << 16 };
    static uint8_t seen[2][N];
    uint32_t empty[2] = {N, N};
    memset(seen, 0, sizeof seen);
    for (uint64_t i = 0; i < N; i++) {
        const uint64_t key[3] = {5001 << 8 | 1, i << 32, i << 56};
        uint64_t one = hash_1(5001ull << 32 | i << 16, secret), three = hash_3(key[0], key[1], key[2], secret);
        uint32_t at[2] = {(uint32_t)(one >> 48), (uint32_t)(map_rotate(three) >> 48)};
        for (int k = 0; k < 2; k++) {
            empty[k] -= !seen[k][at[k]];
            seen[k][at[k]] = 1;
        }
    }
    for (int k = 0; k < 2; k++)
        assert_in_range(empty[k], N * 0.36, N * 0.375);     /* 1/e = 0.368 */
}

/* What is asked for often lives in its first bucket, whenever it came and however often the table has grown since. */
static void what_is_asked_for_often_is_at_home(void **state)
{
    (void)state;
    enum { N = 50000, OFTEN = 500 };
    for (unsigned words = 1; words <= 3; words += 2) {
        struct map *map = map_create(words, 0, secret);
        uint32_t away = 0;
        for (uint32_t i = 0; i < N; i++) {
            struct map_value value = {.act = 1 | (i % (N / OFTEN) == 7 ? MAP_HOME : 0)};
            uint64_t key[3];
            key_of(key, words, i);
            assert_int_equal(map_put(map, key, &value, NULL), DP_OK);
            map_free_retired(map_retired(map));
        }
        check_map(map);
        const struct map_table *t = map_table(map);
        for (uint64_t b = 0; b < t->view.n; b++)
            for (unsigned s = 0; s < map_slots(words); s++)
                away += t->view.buckets[b].act[s] & MAP_HOME && map_bucket_at(&t->view, slot_hash(t, words, &t->view.buckets[b], s)) != &t->view.buckets[b];
        assert_in_range(away, 0, 3);        /* of 500, where each of the others is displaced with a chance of 0.1 to 0.2 */
        assert_true(t->displaced > N / 20);
        map_destroy(map);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_twin),
        cmocka_unit_test(a_full_chain_uses_what_was_freed),
        cmocka_unit_test(spill_counts_as_far_as_it_can),
        cmocka_unit_test(a_clone_is_a_copy_of_its_own),
        cmocka_unit_test(a_v4_record_takes_little_memory),
        cmocka_unit_test(hash_spreads_neighbouring_keys),
        cmocka_unit_test(what_is_asked_for_often_is_at_home),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
