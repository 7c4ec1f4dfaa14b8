/*
 * degenerate_map.h: map.c compiled here once more, with a hash that can be made as bad as a test wants. The symbols are those of the
 * core's own map.c, which therefore is not linked.
 */
#ifndef DEGENERATE_MAP_H
#define DEGENERATE_MAP_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#define hash_1 good_hash_1
#define hash_3 good_hash_3
#include "base/hash.h"
#undef hash_1
#undef hash_3

enum hash_mode {
    HASH_GOOD,
    HASH_SIXTEEN,       /* sixteen buckets, first and second: much is displaced */
    HASH_FOUR,          /* four buckets */
    HASH_ONE,           /* one bucket, first and second, for all */
    HASH_CROSSED,       /* two buckets: everybody's second is the others' first */
    HASH_MODES,
};
static enum hash_mode hash_mode;

static inline uint64_t hash_degrade(uint64_t hash)
{
    switch (hash_mode) {
    case HASH_SIXTEEN:
        return hash & 0xf0000000f0000000;
    case HASH_FOUR:
        return hash & 0xc0000000c0000000;
    case HASH_ONE:
        return 0;
    case HASH_CROSSED:
        return hash & 1 ? 0x8000000000000000 : 0x80000000;
    default:
        return hash;
    }
}

static inline uint64_t hash_1(uint64_t word, const uint64_t secret[2]) { return hash_degrade(good_hash_1(word, secret)); }
static inline uint64_t hash_3(uint64_t first, uint64_t second, uint64_t third, const uint64_t secret[2])
{
    return hash_degrade(good_hash_3(first, second, third, secret));
}

#include "table/map_search.c"
#include "table/map.c"

/* ---- what must always hold: every entry is where a search comes by, and all counts are right */

struct census {
    size_t entries, displaced, chained;
};

static bool slot_holds(const struct map_bucket *b, unsigned words, unsigned slot)
{
    return !(map_slot_frees(b, words) >> slot & 1);
}

static uint64_t slot_hash(const struct map_table *t, unsigned words, const struct map_bucket *b, unsigned slot)
{
    uint64_t key[3] = {0};
    map_slot_key(b, words, slot, key);
    return map_hash(&t->view, words, key);
}

static void census_bucket(const struct map_table *t, unsigned words, const struct map_bucket *b, uint32_t *spilled, struct census *census)
{
    for (unsigned s = 0; s < map_slots(words); s++) {
        if (!slot_holds(b, words, s))
            continue;
        uint64_t hash = slot_hash(t, words, b, s);
        const struct map_bucket *first = map_bucket_at(&t->view, hash), *second = map_bucket_at(&t->view, map_rotate(hash));
        assert_true(b == first || b == second);
        assert_int_not_equal(b->act[s], 0);
        census->entries++;
        census->displaced += b != first;
        spilled[first - t->view.buckets] += b != first;
    }
    assert_int_equal(b->state % 2, 0);
}

static uint32_t census_chain(const struct map_table *t, unsigned words, const struct map_bucket *first)
{
    uint32_t chained = 0;
    bool head = true;
    for (uint32_t next = *map_next_of(&t->view, first); next; head = false) {
        const struct map_bucket *b = map_overflow_at(&t->view, next);
        unsigned here = 0;
        for (unsigned s = 0; s < map_slots(words); s++) {
            here += slot_holds(b, words, s);
            if (slot_holds(b, words, s))
                assert_ptr_equal(map_bucket_at(&t->view, slot_hash(t, words, b, s)), first);
        }
        assert_true(here == map_slots(words) || (head && here));
        assert_int_equal(b->state % 2, 0);
        chained += here;
        next = *map_next_of(&t->view, b);
    }
    return chained;
}

static inline void check_map(const struct map *map)
{
    const struct map_table *t = map_table(map);
    const unsigned words = map->words;
    struct census census = {0};
    struct map_stats stats;
    uint32_t *spilled = calloc(t->view.n, sizeof *spilled);
    for (uint64_t i = 0; i < t->view.n; i++)
        census_bucket(t, words, &t->view.buckets[i], spilled, &census);
    for (uint64_t i = 0; i < t->view.n; i++) {
        const struct map_bucket *b = &t->view.buckets[i];
        uint32_t chained = census_chain(t, words, b);
        census.chained += chained;
        if (map_spill(b->state) != MAP_SPILL_MAX)
            assert_int_equal(map_spill(b->state), spilled[i] + chained);
    }
    map_stats(map, &stats);
    assert_int_equal(stats.entries, census.entries + census.chained);
    assert_int_equal(stats.displaced, census.displaced);
    assert_int_equal(stats.overflow, census.chained);
    free(spilled);
}

#endif
