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
    l->bucket = map_bucket_at(view, hash);
    __builtin_prefetch(l->bucket, 0, 2);
    l->key[0] = first;
    if (words == 3) {
        l->key[1] = second;
        l->key[2] = third;
    }
}

/*
 * What a record refers to, on its way into the cache: the next hop, and a rewrite, where an IPv6 PA is; of a
 * miss the first there is. Where a batch goes one way the branch is always the same: `there` is like its
 * neighbours even if this one is a miss.
 */
HOT void lookup_prefetch(const struct tables *tables, const struct lookup_answer *record, uint32_t there,
                         unsigned words)
{
    const uint32_t index = act_index(record->act);
    const bool rewrite = act_kind(there) == ACT_REWRITE;
    __builtin_prefetch(&tables->next_hops[rewrite ? lookup_hop(record) : index]);
    if (rewrite && words == 3)
        __builtin_prefetch(&tables->rewrites[index], 0, 2);
}

/*
 * The answer if the key is in its first bucket, and nobody writes there. 0: it takes lookup_fetch() and
 * lookup_finish(); *answer is then a miss. Whether it is a hit can't be predicted, and no branch depends on
 * it. *there: the act where a hit would be.
 */
HOT unsigned lookup_first(const struct lookup *l, unsigned words, struct lookup_answer *answer,
                          uint32_t *there)
{
    const struct map_bucket *b = l->bucket;
    uint32_t state = MAP_LOAD(b->state) & ~1u;      /* odd: differs from what is loaded last */
    unsigned match = map_match(b, words, l->key), slot = map_match_slot(words, match | 4);
    uint32_t act = MAP_LOAD(b->act[slot]);
    answer->mac = map_load_mac(b, words, slot);
    if (__builtin_expect(MAP_LOAD(b->state) != state, 0))
        match = 0;
    uint32_t none = 0;
    *there = act;
    __asm__("test %1, %1\n\tcmovz %2, %0" : "+&r"(act) : "r"(match), "r"(none) : "cc");
    answer->act = act;
    return match;
}

/*
 * For lookups that were not answered: each is fetched, then each is finished, so that the memory latency of
 * second buckets overlaps: l->bucket becomes that. False: it is finished, there is nothing, since all that
 * belongs into the first bucket lives there.
 */
static inline bool lookup_fetch(struct lookup *l, const struct map_view *view, unsigned words)
{
    uint32_t state = MAP_LOAD(l->bucket->state);
    if (!map_match(l->bucket, words, l->key) && map_is_whole(l->bucket, state))
        return false;
    l->bucket = map_bucket_at(view, map_rotate(map_hash(view, words, l->key)));
    __builtin_prefetch(l->bucket);
    return true;
}

static inline void lookup_finish(const struct lookup *l, const struct map_view *view, unsigned words,
                                 struct lookup_answer *answer)
{
    struct map_value value;
    uint32_t there;
    if (lookup_first(l, words, answer, &there))
        return;
    *answer = map_search(view, words, l->key, &value) ? lookup_answer_of(value) : (struct lookup_answer){0};
}

#endif
