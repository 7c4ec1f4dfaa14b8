/*
 * map_inline.h: the reader's side of map.h, inline for the packet path. `words` is a constant at each call.
 * Called by lookups.
 */
#ifndef MAP_INLINE_H
#define MAP_INLINE_H
#include <immintrin.h>
#include <string.h>
#include "base/hash.h"
#include "base/hot.h"
#include "table/map.h"

/* Entries of a bucket: of one-word keys, and what three-word keys leave of it. */
enum { MAP_SLOTS = 3, MAP_SLOTS_WIDE = 2 };

/*
 * A line. Empty slots have 0 as the first word of their key. What every reader needs of a bucket stands
 * first, whatever its keys; then it is laid out for keys of one word, or of three, the first of 32 bits.
 */
struct map_bucket {
    union {
        struct {
            /*
             * Low 24 bits: the sequence number, odd while the writer is in it; it comes round after 2^23
             * changes of one bucket, more than there are between two quiescent points. Above them: entries
             * whose first bucket this is and that live elsewhere; 255: who knows.
             */
            uint32_t state;
            uint32_t act[MAP_SLOTS];
            uint64_t mac[MAP_SLOTS], key[MAP_SLOTS];
        };
        struct {
            uint32_t wide_state, wide_act[MAP_SLOTS_WIDE];
            uint32_t mac_head[MAP_SLOTS_WIDE];          /* bytes 0..3 of the MAC */
            uint16_t mac_tail[MAP_SLOTS_WIDE];          /* bytes 4..5 */
            uint32_t first[MAP_SLOTS_WIDE];
            uint64_t rest[MAP_SLOTS_WIDE][2];
        };
    };
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct map_bucket) == 64, "one line");
_Static_assert(offsetof(struct map_bucket, act) == offsetof(struct map_bucket, wide_act), "acts lie alike");
_Static_assert(offsetof(struct map_bucket, key) == 40 && offsetof(struct map_bucket, rest) == 32,
               "keys end with the line");

/* Of a state. */
enum { MAP_SPILL_SHIFT = 24 };
#define MAP_SPILL_MAX 255u
static inline uint32_t map_spill(uint32_t state) { return state >> MAP_SPILL_SHIFT; }

/* What the bucket that the writer is in held before. */
struct map_shadow {
    uint32_t seq;                       /* odd while the shadow itself is written */
    uint32_t next;
    const struct map_bucket *of;
    struct map_bucket copy;
};

struct map_view {
    struct map_bucket *buckets;
    uint64_t n;                         /* buckets; any number, a hash is scaled to it */
    struct map_bucket *overflow;
    /* chains: index + 1 of the next overflow bucket, 0: none; of first buckets, then of overflow buckets */
    uint32_t *next;
    uint64_t secret[2];
    struct map_shadow *shadow;
};

static inline unsigned map_slots(unsigned words) { return words == 1 ? MAP_SLOTS : MAP_SLOTS_WIDE; }

static inline struct map_bucket *map_bucket_at(const struct map_view *view, uint64_t hash)
{
    return &view->buckets[(uint64_t)((unsigned __int128)hash * view->n >> 64)];
}

static inline uint64_t map_hash(const struct map_view *view, unsigned words, const uint64_t *key)
{
    return words == 1 ? hash_1(key[0], view->secret) : hash_3(key[0], key[1], key[2], view->secret);
}

/* The bucket that a link refers to. */
static inline struct map_bucket *map_overflow_at(const struct map_view *view, uint32_t next)
{
    return &view->overflow[next - 1];
}

/* A bucket's own link. */
static inline uint32_t *map_next_of(const struct map_view *view, const struct map_bucket *b)
{
    const bool first = b >= view->buckets && b < view->buckets + view->n;
    return &view->next[first ? b - view->buckets : (b - view->overflow) + (ptrdiff_t)view->n];
}

/* The other half of the hash picks the second bucket. */
static inline uint64_t map_rotate(uint64_t hash) { return hash << 32 | hash >> 32; }

#define MAP_LOAD(field) __atomic_load_n(&(field), __ATOMIC_ACQUIRE)

/*
 * A match has a bit for each slot with the key: of keys of one word bit s, else bit 2 * s. Aligned words of a
 * vector are loaded whole, like single ones; the empty statement is what MAP_LOAD has for an order.
 */
static inline unsigned map_match_slot(unsigned words, unsigned match)
{
    return (unsigned)__builtin_ctz(match) >> (words != 1);
}

/* Keys lie in the last 24 bytes of the line: one vector holds them all. */
HOT unsigned map_match1(const struct map_bucket *b, uint64_t key)
{
#ifdef __SANITIZE_THREAD__
    return (unsigned)(MAP_LOAD(b->key[0]) == key) | (unsigned)(MAP_LOAD(b->key[1]) == key) << 1 |
           (unsigned)(MAP_LOAD(b->key[2]) == key) << 2;
#else
    __m256i keys = _mm256_load_si256((const __m256i *)(const void *)&b->mac[MAP_SLOTS - 1]);
    __m256i equal = _mm256_cmpeq_epi64(keys, _mm256_set1_epi64x((long long)key));
    __asm__ volatile("" ::: "memory");
    return (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(equal)) >> 1;
#endif
}

HOT unsigned map_match3(const struct map_bucket *b, const uint64_t *key)
{
#ifdef __SANITIZE_THREAD__
    unsigned same = 0;
    for (unsigned s = 0; s < MAP_SLOTS_WIDE; s++)
        same |= (unsigned)(MAP_LOAD(b->first[s]) == key[0] && MAP_LOAD(b->rest[s][0]) == key[1] &&
                           MAP_LOAD(b->rest[s][1]) == key[2]) << 2 * s;
    return same;
#else
    __m256i rest = _mm256_load_si256((const __m256i *)(const void *)b->rest);
    __m256i both = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(key + 1)));
    __m128i first = _mm_cvtepu32_epi64(_mm_loadl_epi64((const __m128i *)(const void *)b->first));
    first = _mm_cmpeq_epi64(first, _mm_set1_epi64x((long long)key[0]));
    unsigned same = (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(rest, both)));
    same &= (unsigned)_mm_movemask_ps(_mm_castsi128_ps(first));
    __asm__ volatile("" ::: "memory");
    return same & same >> 1 & 5;
#endif
}

HOT unsigned map_match(const struct map_bucket *b, unsigned words, const uint64_t *key)
{
    return words == 1 ? map_match1(b, key[0]) : map_match3(b, key);
}

/* The MAC's bytes as they lie in memory, then two that are 0. */
HOT uint64_t map_load_mac(const struct map_bucket *b, unsigned words, unsigned slot)
{
    if (words == 1)
        return MAP_LOAD(b->mac[slot]);
    return MAP_LOAD(b->mac_head[slot]) | (uint64_t)MAP_LOAD(b->mac_tail[slot]) << 32;
}

HOT void map_load_value(const struct map_bucket *b, unsigned words, unsigned slot, struct map_value *value)
{
    uint64_t mac = map_load_mac(b, words, slot);
    value->act = MAP_LOAD(b->act[slot]);
    memcpy(value->mac, &mac, 6);
}

/* The whole search, when the two buckets alone don't tell. */
bool map_search(const struct map_view *view, unsigned words, const uint64_t *key, struct map_value *value);

/* A bucket that was read since this state was: what belongs there is there, or nowhere. */
HOT bool map_is_whole(const struct map_bucket *b, uint32_t state)
{
    return (state & (MAP_SPILL_MAX << MAP_SPILL_SHIFT | 1)) == 0 && MAP_LOAD(b->state) == state;
}

HOT bool map_find(const struct map_view *view, unsigned words, const uint64_t *key, uint64_t hash,
                  struct map_value *value)
{
    const struct map_bucket *b = map_bucket_at(view, hash);
    uint32_t state = MAP_LOAD(b->state);
    unsigned match = map_match(b, words, key);
    if (!match) {
        if (map_is_whole(b, state))
            return false;
        b = map_bucket_at(view, map_rotate(hash));
        state = MAP_LOAD(b->state);
        match = map_match(b, words, key);
    }
    if (__builtin_expect(match != 0, 1)) {
        map_load_value(b, words, map_match_slot(words, match), value);
        if (__builtin_expect(((MAP_LOAD(b->state) ^ state) | (state & 1)) == 0, 1))
            return true;
    }
    return map_search(view, words, key, value);
}

/* The table as it is now: once a batch. */
const struct map_view *map_view(const struct map *map);

/* Always inline, as is whoever only prefetches: gcc drops a call that does nothing else. */
HOT void map_prefetch(const struct map_view *view, uint64_t hash)
{
    __builtin_prefetch(map_bucket_at(view, hash));
}

#endif
