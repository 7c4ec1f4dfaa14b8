/*
 * Interleavings of one reader and the writer, step by step: a full lookup of every key after each single store that the writer makes, a full
 * change inside each single load of a lookup, and both in turns, stepping over each other at random. A lookup that waits for the writer
 * hangs in the first.
 */
#include <pthread.h>
#include <semaphore.h>
static void (*on_store)(void);
static void (*on_load)(void);
#define __atomic_store_n(at, value, order) ({ __atomic_store_n(at, value, order); if (on_store) on_store(); })
#define __atomic_load_n(at, order) ({ if (on_load) on_load(); __atomic_load_n(at, order); })
#ifndef __SANITIZE_THREAD__
#define __SANITIZE_THREAD__     /* keys are compared load by load, not in vectors: steps between them, too */
#endif
#include "degenerate_map.h"
#include "table/lookup_batch.h"

enum { KEYS = 36, STEADY = 12 };    /* the first are always there, though their values change */

static const uint64_t secret[2] = {3, 4};
static struct map *map;
static uint32_t act[KEYS], pending_key, pending_act;    /* act 0: not there; pending: what it may be already */
static uint32_t version;

static uint64_t rnd_state = 0x2545f4914f6cdd1d;
static uint32_t rnd(uint32_t bound)
{
    rnd_state ^= rnd_state >> 12;
    rnd_state ^= rnd_state << 25;
    rnd_state ^= rnd_state >> 27;
    return (uint32_t)(rnd_state * 0x2545f4914f6cdd1dull >> 32) % bound;
}

static void key_of(uint64_t *key, uint32_t i)
{
    key[0] = map->words == 3 ? 5001 << 8 | (i & 3) : 5001ull << 32 | i;
    key[1] = i / 4 % 2;
    key[2] = map->words == 3 ? i / 8 : 0;
}

/* Some are to live in their first bucket. */
static uint32_t home_of(uint32_t i) { return i % 4 == 1 ? MAP_HOME : 0; }

static struct map_value value_of(uint32_t act)
{
    struct map_value value = {.act = act};
    memset(value.mac, (int)(act % 251), 6);
    return value;
}

/* As packets are looked up, in a batch of one. */
static bool find_in_batch(const uint64_t *key, struct map_value *value)
{
    const struct map_view *view = map_view(map);
    const unsigned words = map->words;
    struct lookup lookup;
    struct lookup_answer answer;
    uint32_t there;
    lookup_begin(&lookup, view, words, key);
    if (!lookup_first(&lookup, words, &answer, &there) && lookup_fetch(&lookup, view, words))
        lookup_finish(&lookup, view, words, &answer);
    value->act = answer.act;
    memcpy(value->mac, &answer.mac, 6);
    return answer.act != 0;
}

static bool find(uint32_t i, bool in_batch, struct map_value *value)
{
    uint64_t key[3];
    key_of(key, i);
    return in_batch ? find_in_batch(key, value) : map_get(map, key, value);
}

static void check_found(uint32_t i, bool hit, const struct map_value *value, uint32_t before)
{
    uint32_t got = hit ? value->act : 0;
    struct map_value whole = value_of(got);
    assert_true(got == before || got == act[i] || (i == pending_key && got == pending_act));
    if (hit)
        assert_memory_equal(value->mac, whole.mac, 6);
}

/* One change of a key, picked at random. */
static void change(void)
{
    struct map_value value;
    uint64_t key[3];
    uint32_t i = rnd(KEYS);
    pending_key = i;
    pending_act = i < STEADY || rnd(100) < 60 ? ++version << 8 | i | home_of(i) : 0;
    key_of(key, i);
    value = value_of(pending_act);
    if (pending_act)
        assert_int_equal(map_put(map, key, &value, NULL), DP_OK);
    else
        map_del(map, key, NULL);
    act[i] = pending_act;
}

static void look_everywhere(void)
{
    void (*hook)(void) = on_store;
    on_store = NULL;
    for (uint32_t i = 0; i < KEYS; i++) {
        struct map_value value;
        check_found(i, find(i, false, &value), &value, act[i]);
        check_found(i, find(i, true, &value), &value, act[i]);
    }
    on_store = hook;
}

static void start(enum hash_mode mode, unsigned words)
{
    hash_mode = mode;
    map = map_create(words, 0, secret);
    memset(act, 0, sizeof act);
    pending_key = KEYS;
    version = 0;
    for (uint32_t i = 0; i < STEADY; i++) {
        uint64_t key[3];
        struct map_value value = value_of(act[i] = ++version << 8 | i | home_of(i));
        key_of(key, i);
        assert_int_equal(map_put(map, key, &value, NULL), DP_OK);
    }
}

static void finish(void)
{
    on_store = on_load = NULL;
    assert_true(version << 8 < MAP_HOME);
    check_map(map);
    map_destroy(map);
    hash_mode = HASH_GOOD;
}

static void every_step_of_the_writer_leaves_a_whole_table(void **state)
{
    (void)state;
    for (enum hash_mode mode = HASH_SIXTEEN; mode < HASH_MODES; mode++) {
        for (unsigned words = 1; words <= 3; words += 2) {
            start(mode, words);
            on_store = look_everywhere;
            for (int n = 0; n < 1000; n++)
                change();
            finish();
        }
    }
}

/* Grows by being told that it is full. */
static void growing_is_seen_at_no_step(void **state)
{
    (void)state;
    start(HASH_SIXTEEN, 1);
    on_store = look_everywhere;
    for (int n = 0; n < 20; n++) {
        map->limit = map->entries;
        change();
        map_free_retired(map_retired(map));
    }
    finish();
}

static uint32_t loads_left;
static void change_at_last_load(void)
{
    if (loads_left-- == 0) {
        on_load = NULL;
        change();
        change();
    }
}

static void a_change_within_any_load_of_a_lookup_is_survived(void **state)
{
    (void)state;
    for (enum hash_mode mode = HASH_SIXTEEN; mode < HASH_MODES; mode++) {
        for (unsigned words = 1; words <= 3; words += 2) {
            start(mode, words);
            for (uint32_t n = 0; n < 1000; n++) {
                uint32_t i = rnd(2) ? rnd(STEADY) : rnd(KEYS), before = act[i];
                bool reached = true;
                for (uint32_t load = 0; reached; load++) {
                    struct map_value value;
                    loads_left = load;
                    before = act[i];
                    on_load = change_at_last_load;
                    bool hit = find(i, n & 1, &value);
                    reached = on_load == NULL;
                    on_load = NULL;
                    if (i < STEADY || act[i] == before || !hit)
                        check_found(i, hit, &value, before);
                }
            }
            finish();
        }
    }
}

/* ---- in turns: two threads, of which one runs */

static sem_t turn[2];
static bool writer_done;

static void step_over(int self)
{
    if (writer_done || rnd(3))
        return;
    sem_post(&turn[!self]);
    sem_wait(&turn[self]);
}

static void reader_step(void) { step_over(0); }
static void writer_step(void) { step_over(1); }

/* The hooks are the reader's while it looks, else the writer's. */
static __thread bool is_reader;
static void any_step(void)
{
    if (is_reader)
        reader_step();
    else
        writer_step();
}

static void *reader(void *arg)
{
    (void)arg;
    is_reader = true;
    sem_wait(&turn[0]);
    while (!writer_done) {
        uint32_t i = rnd(2) ? rnd(STEADY) : rnd(KEYS), before = act[i], began = version;
        bool quiet = pending_key != i || pending_act == before;     /* nothing happens to the key meanwhile */
        struct map_value value;
        bool hit = find(i, rnd(2), &value);
        uint32_t newest = pending_key == i && pending_act > act[i] ? pending_act : act[i];
        struct map_value whole = value_of(hit ? value.act : 0);
        quiet = quiet && began == version && act[i] == before && (pending_key != i || pending_act == before);
        if (hit ? (value.act & 0xff) != i || memcmp(whole.mac, value.mac, 6) : i < STEADY)
            abort();
        if (i < STEADY && (value.act < before || value.act > newest))
            abort();
        if (quiet && (hit ? value.act : 0) != before)
            abort();
    }
    sem_post(&turn[1]);
    return NULL;
}

static void reader_and_writer_step_over_each_other(void **state)
{
    (void)state;
    for (enum hash_mode mode = HASH_SIXTEEN; mode < HASH_MODES; mode++) {
        for (unsigned words = 1; words <= 3; words += 2) {
            pthread_t thread;
            start(mode, words);
            sem_init(&turn[0], 0, 0);
            sem_init(&turn[1], 0, 0);
            writer_done = false;
            assert_int_equal(pthread_create(&thread, NULL, reader, NULL), 0);
            on_store = on_load = any_step;
            for (int n = 0; n < 1000; n++)
                change();
            writer_done = true;
            sem_post(&turn[0]);
            pthread_join(thread, NULL);
            finish();
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_step_of_the_writer_leaves_a_whole_table),
        cmocka_unit_test(growing_is_seen_at_no_step),
        cmocka_unit_test(a_change_within_any_load_of_a_lookup_is_survived),
        cmocka_unit_test(reader_and_writer_step_over_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
