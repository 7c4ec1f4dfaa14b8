/*
 * lookup_batch.h: the lookups of a batch, so that the memory latency of its keys overlaps: each is begun (its
 * bucket on its way into the cache), then all are answered. Keys in, what the map holds of them out, by
 * place. Called by the paths.
 */
#ifndef LOOKUP_BATCH_H
#define LOOKUP_BATCH_H
#include "base/hot.h"
#include "table/lookup.h"
#include "table/map_inline.h"
#include "table/tables.h"

/* A lookup that is begun. Keys of one word leave the others void. */
struct lookup {
    const struct map_bucket *bucket;
    uint64_t key[3];
};

/*
 * The key's words are copied. Buckets are fetched into the L2 cache alone: a batch of them in the L1 cache
 * drives out what packets lie in, which with a million records is worth 5 to 8 clocks a packet.
 */
HOT void lookup_begin(struct lookup *l, const struct map_view *view, unsigned words, const uint64_t *key)
{
    const uint64_t first = key[0], second = words == 3 ? key[1] : 0, third = words == 3 ? key[2] : 0;
    uint64_t hash = words == 1 ? hash_1(first, view->secret) : hash_3(first, second, third, view->secret);
    l->bucket = map_bucket_at(view, words, hash);
    __builtin_prefetch(l->bucket, 0, 2);
    l->key[0] = first;
    if (words == 3) {
        __builtin_prefetch((const char *)l->bucket + 64, 0, 2);
        l->key[1] = second;
        l->key[2] = third;
    }
}

/* What the answer to a key of `words` refers to, on its way into the cache. */
HOT void lookup_prefetch(const struct tables *tables, const struct lookup_answer *answer, unsigned words)
{
    const uint32_t index = act_index(answer->act);
    const enum act kind = act_kind(answer->act);
    if (__builtin_expect(kind == ACT_NVGRE, 1)) {
        __builtin_prefetch(&tables->next_hops[index]);
    } else if (kind == ACT_REWRITE) {
        __builtin_prefetch(&tables->next_hops[lookup_hop(answer)]);
        if (words == 3)
            __builtin_prefetch(&tables->rewrites[index]);
    } else if (kind == ACT_PA_REWRITE) {
        __builtin_prefetch(&tables->rewrites[index]);
    }
}

/*
 * The answer if the key is in its first bucket, and nobody writes there: what it refers to is fetched. False:
 * it takes lookup_fetch() and lookup_finish(); *answer is then a miss. No branch depends on whether it is a
 * hit, which can't be predicted: in place of nothing, what the last hit referred to (*last) is fetched again;
 * behind a rewrite, a next hop that may be any.
 */
HOT bool lookup_first(const struct lookup *l, unsigned words, const struct tables *tables, uint32_t *last,
                      struct lookup_answer *answer)
{
    const struct map_bucket *b = l->bucket;
    uint32_t seq = MAP_LOAD(b->seq) & ~1u;      /* odd: differs from what is loaded last */
    unsigned match = map_match(b, words, l->key), slot = (unsigned)__builtin_ctz(match | 4);
    uint32_t head = MAP_LOAD(b->mac_head[slot]), act = MAP_LOAD(b->act[slot]);
    uint16_t tail = MAP_LOAD(b->mac_tail[slot]);
    if (__builtin_expect(MAP_LOAD(b->seq) != seq, 0))
        match = 0;
    uint32_t none = 0;
    /* Conditional moves: whether it is a hit can't be predicted. */
    __asm__("test %3, %3\n\tcmovnz %2, %0\n\tcmovz %4, %1"
            : "+&r"(*last), "+&r"(act)
            : "r"(act), "r"(match), "r"(none)
            : "cc");
    answer->mac = head | (uint64_t)tail << 32;
    answer->act = act;
    lookup_prefetch(tables, &(struct lookup_answer){*last, answer->mac}, words);
    return match;
}

/*
 * For lookups that were not answered: each is fetched, then each is finished, so that the memory latency of
 * second buckets overlaps. *hash is lookup_fetch()'s, for lookup_finish(). False: it is finished, there is
 * nothing, since all that belongs into the first bucket lives there.
 */
static inline bool lookup_fetch(const struct lookup *l, const struct map_view *view, unsigned words,
                                uint64_t *hash)
{
    uint32_t seq = MAP_LOAD(l->bucket->seq) & ~1u;
    unsigned match = map_match(l->bucket, words, l->key);
    uint16_t spill = MAP_LOAD(l->bucket->spill);
    if (!match && !spill && MAP_LOAD(l->bucket->seq) == seq)
        return false;
    *hash = map_hash(view, words, l->key);
    map_prefetch_words(view, words, map_rotate(*hash));
    return true;
}

static inline void lookup_finish(const struct lookup *l, const struct map_view *view, unsigned words,
                                 uint64_t hash, struct lookup_answer *answer)
{
    struct map_value value;
    bool found =
        words == 1 ? map_find1(view, l->key[0], hash, &value) : map_find3(view, l->key, hash, &value);
    *answer = found ? lookup_answer_of(value) : (struct lookup_answer){0};
}

#endif
