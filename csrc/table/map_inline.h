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

enum { MAP_SLOTS = 3 };

/* Empty slots have 0 as the first word of their key. keys[slot * words + word]. */
struct map_bucket {
    uint32_t act[MAP_SLOTS];
    uint32_t mac_head[MAP_SLOTS];       /* bytes 0..3 of the MAC */
    uint16_t mac_tail[MAP_SLOTS];       /* bytes 4..5 */
    /* entries whose first bucket this is and that live elsewhere; 0xffff: who knows */
    uint16_t spill;
    uint32_t seq;                       /* odd while the writer is in it */
    uint32_t next;                      /* overflow chain: index + 1 of its first bucket, 0: none */
    uint64_t keys[];
};
_Static_assert(offsetof(struct map_bucket, keys) + MAP_SLOTS * 8 == 64, "one line with keys of one word");
_Static_assert(offsetof(struct map_bucket, keys) + 8 * 3 == 64,
               "the first key of three words ends with the first line");

/* What the bucket that the writer is in held before. */
struct map_shadow {
    uint32_t seq;                       /* odd while the shadow itself is written */
    const struct map_bucket *of;
    _Alignas(64) uint64_t copy[16];
};

struct map_view {
    uint8_t *buckets;
    uint64_t n;                         /* buckets; any number, a hash is scaled to it */
    unsigned shift;                     /* a bucket is 1 << shift bytes: 64 or 128 */
    uint8_t *overflow;
    uint64_t secret[2];
    struct map_shadow *shadow;
};

static inline size_t map_stride(unsigned words) { return words == 1 ? 64 : 128; }

static inline struct map_bucket *map_bucket_at(const struct map_view *view, unsigned words, uint64_t hash)
{
    uint64_t i = (uint64_t)((unsigned __int128)hash * view->n >> 64);
    return (struct map_bucket *)(view->buckets + i * map_stride(words));
}

static inline uint64_t map_hash(const struct map_view *view, unsigned words, const uint64_t *key)
{
    return words == 1 ? hash_1(key[0], view->secret) : hash_3(key[0], key[1], key[2], view->secret);
}

static inline struct map_bucket *map_overflow_at(const struct map_view *view, unsigned words, uint32_t next)
{
    return (struct map_bucket *)(view->overflow + (size_t)(next - 1) * map_stride(words));
}

/* The other half of the hash picks the second bucket. */
static inline uint64_t map_rotate(uint64_t hash) { return hash << 32 | hash >> 32; }

#define MAP_LOAD(field) __atomic_load_n(&(field), __ATOMIC_ACQUIRE)

/*
 * Bit s is set when slot s has the one-word key. Keys lie in the last 24 bytes of the line: one vector holds
 * them all.
 */
HOT unsigned map_match1(const struct map_bucket *b, uint64_t key)
{
#ifdef __SANITIZE_THREAD__
    return (unsigned)(MAP_LOAD(b->keys[0]) == key) | (unsigned)(MAP_LOAD(b->keys[1]) == key) << 1 |
           (unsigned)(MAP_LOAD(b->keys[2]) == key) << 2;
#else
    /*
     * Aligned words of a vector are loaded whole, like single ones; the empty statement is what MAP_LOAD has
     * for an order.
     */
    __m256i keys = _mm256_load_si256((const __m256i *)(b->keys - 1));
    __m256i equal = _mm256_cmpeq_epi64(keys, _mm256_set1_epi64x((long long)key));
    __asm__ volatile("" ::: "memory");
    return (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(equal)) >> 1;
#endif
}

/* The same for the last word of three, where two keys differ most often. */
HOT unsigned map_match_last(const struct map_bucket *b, const uint64_t *key)
{
    return (unsigned)(MAP_LOAD(b->keys[2]) == key[2]) | (unsigned)(MAP_LOAD(b->keys[5]) == key[2]) << 1 |
           (unsigned)(MAP_LOAD(b->keys[8]) == key[2]) << 2;
}

HOT unsigned map_match3(const struct map_bucket *b, const uint64_t *key)
{
    for (unsigned left = map_match_last(b, key); left; left &= left - 1) {
        const uint64_t *k = &b->keys[(unsigned)__builtin_ctz(left) * 3];
        if (__builtin_expect(MAP_LOAD(k[0]) == key[0] && MAP_LOAD(k[1]) == key[1], 1))
            return left & -left;
    }
    return 0;
}

HOT unsigned map_match(const struct map_bucket *b, unsigned words, const uint64_t *key)
{
    return words == 1 ? map_match1(b, key[0]) : map_match3(b, key);
}

HOT void map_load_value(const struct map_bucket *b, unsigned slot, struct map_value *value)
{
    uint32_t head = MAP_LOAD(b->mac_head[slot]);
    uint16_t tail = MAP_LOAD(b->mac_tail[slot]);
    value->act = MAP_LOAD(b->act[slot]);
    memcpy(value->mac, &head, 4);
    memcpy(value->mac + 4, &tail, 2);
}

/* The whole search, when the two buckets alone don't tell. */
bool map_search(const struct map_view *view, unsigned words, const uint64_t *key, struct map_value *value);

HOT bool map_find(const struct map_view *view, unsigned words, const uint64_t *key, uint64_t hash,
                  struct map_value *value)
{
    const struct map_bucket *b = map_bucket_at(view, words, hash);
    uint32_t seq = MAP_LOAD(b->seq);
    unsigned match = map_match(b, words, key);
    if (!match && MAP_LOAD(b->spill)) {
        b = map_bucket_at(view, words, map_rotate(hash));
        seq = MAP_LOAD(b->seq);
        match = map_match(b, words, key);
    }
    if (__builtin_expect(match != 0, 1)) {
        map_load_value(b, (unsigned)__builtin_ctz(match), value);
        if (__builtin_expect(((MAP_LOAD(b->seq) ^ seq) | (seq & 1)) == 0, 1))
            return true;
    }
    return map_search(view, words, key, value);
}

HOT void map_prefetch_words(const struct map_view *view, unsigned words, uint64_t hash)
{
    const struct map_bucket *b = map_bucket_at(view, words, hash);
    __builtin_prefetch(b);
    if (words == 3)
        __builtin_prefetch((const char *)b + 64);
}

HOT uint64_t map_settle(const struct map_view *view, unsigned words, const uint64_t *key, uint64_t hash)
{
    const struct map_bucket *first = map_bucket_at(view, words, hash);
    unsigned hint = words == 1 ? map_match1(first, key[0]) : map_match_last(first, key);
    uint64_t rotated = map_rotate(hash);
    /* A conditional move: which bucket it is can't be predicted. */
    __asm__("test %2, %2\n\tcmovz %1, %0" : "+r"(hash) : "r"(rotated), "r"(hint) : "cc");
    map_prefetch_words(view, words, hash);
    return hash;
}

/* The table as it is now: once a batch. */
const struct map_view *map_view(const struct map *map);

static inline uint64_t map_hash1(const struct map_view *view, uint64_t key)
{
    return hash_1(key, view->secret);
}
static inline uint64_t map_hash3(const struct map_view *view, const uint64_t *key)
{
    return hash_3(key[0], key[1], key[2], view->secret);
}

HOT void map_prefetch1(const struct map_view *view, uint64_t hash)
{
    map_prefetch_words(view, 1, hash);
}
HOT void map_prefetch3(const struct map_view *view, uint64_t hash)
{
    map_prefetch_words(view, 3, hash);
}

/*
 * For tables of either key length. Always inline, as is whoever only prefetches: gcc drops a call that does
 * nothing else.
 */
HOT void map_prefetch(const struct map_view *view, uint64_t hash)
{
    const uint8_t *b = view->buckets + ((uint64_t)((unsigned __int128)hash * view->n >> 64) << view->shift);
    __builtin_prefetch(b);
    __builtin_prefetch(b + ((1u << view->shift) - 64));
}

/*
 * Optional pass between prefetch and find: where the key is not in its first bucket, its second is
 * prefetched. Give what it returns to map_find in place of the hash, which then has nothing to wait for and
 * no branch to mispredict.
 */
static inline uint64_t map_settle1(const struct map_view *view, uint64_t key, uint64_t hash)
{
    return map_settle(view, 1, &key, hash);
}
static inline uint64_t map_settle3(const struct map_view *view, const uint64_t *key, uint64_t hash)
{
    return map_settle(view, 3, key, hash);
}

HOT bool map_find1(const struct map_view *view, uint64_t key, uint64_t hash, struct map_value *value)
{
    return map_find(view, 1, &key, hash, value);
}

HOT bool map_find3(const struct map_view *view, const uint64_t *key, uint64_t hash, struct map_value *value)
{
    return map_find(view, 3, key, hash, value);
}

#endif
