/*
 * lookup_batch.h: the lookups of a batch, so that the memory latency of its keys overlaps: each is begun (its bucket on its way
 * into the cache), then all are answered. Keys in, what the map holds of them out, by place. Called by the paths.
 */
#ifndef LOOKUP_BATCH_H
#define LOOKUP_BATCH_H
#include "table/map_inline.h"
#include "table/tables.h"

/* What a lookup yields: act 0: nothing. The MAC's bytes as they lie in memory, then two that are 0. */
struct lookup_answer {
    uint32_t act;
    uint64_t mac;
};

/* A lookup that is begun. Keys of one word leave the others void. */
struct lookup {
    const struct map_bucket *bucket;
    uint64_t key[3];
};

static inline __attribute__((always_inline)) void lookup_begin(struct lookup *l, const struct map_view *view, unsigned words)
{
    l->bucket = map_bucket_at(view, words, map_hash(view, words, l->key));
    __builtin_prefetch(l->bucket);
    if (words == 3)
        __builtin_prefetch((const char *)l->bucket + 64);
}

/* What an act refers to, on its way into the cache. */
static inline __attribute__((always_inline)) void lookup_prefetch(const struct tables *tables, uint32_t act)
{
    if (__builtin_expect(act_kind(act) == ACT_NVGRE, 1))
        __builtin_prefetch(&tables->next_hops[act_index(act)]);
    else if (act_kind(act) == ACT_REWRITE || act_kind(act) == ACT_PA_REWRITE)
        __builtin_prefetch(&tables->rewrites[act_index(act)]);
}

/*
 * The answer if the key is in its first bucket, and nobody writes there: what it refers to is fetched. False: it takes lookup_fetch()
 * and lookup_finish(); *answer is then a miss. No branch depends on whether it is a hit, which can't be predicted: in place of
 * nothing, what the last hit referred to (*last) is fetched again.
 */
static inline __attribute__((always_inline)) bool lookup_first(const struct lookup *l, unsigned words,
                                                               const struct tables *tables, uint32_t *last,
                                                               struct lookup_answer *answer)
{
    const struct map_bucket *b = l->bucket;
    uint32_t seq = MAP_LOAD(b->seq) & ~1u;      /* odd: differs from what is loaded last */
    unsigned match = map_match(b, words, l->key), slot = (unsigned)__builtin_ctz(match | 4);
    uint32_t head = MAP_LOAD(b->mac_head[slot]), act = MAP_LOAD(b->act[slot]);
    uint16_t tail = MAP_LOAD(b->mac_tail[slot]);
    if (__builtin_expect(MAP_LOAD(b->seq) != seq, 0))
        match = 0;
    uint32_t hit = match ? UINT32_MAX : 0;
    __asm__("" : "+r"(hit));            /* gcc would make a jump of it */
    answer->mac = head | (uint64_t)tail << 32;
    answer->act = act & hit;
    *last = (act & hit) | (*last & ~hit);
    lookup_prefetch(tables, *last);
    return hit;
}

/*
 * For lookups that were not answered: each is fetched, then each is finished, so that the memory latency of second buckets
 * overlaps. *hash is lookup_fetch()'s, for lookup_finish(). False: it is finished, there is nothing, since all that belongs into
 * the first bucket lives there.
 */
static inline bool lookup_fetch(const struct lookup *l, const struct map_view *view, unsigned words, uint64_t *hash)
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

static inline void lookup_finish(const struct lookup *l, const struct map_view *view, unsigned words, uint64_t hash,
                                 struct lookup_answer *answer)
{
    struct map_value value;
    bool found = words == 1 ? map_find1(view, l->key[0], hash, &value) : map_find3(view, l->key, hash, &value);
    *answer = (struct lookup_answer){found ? value.act : 0, 0};
    memcpy(&answer->mac, value.mac, sizeof value.mac);
}

#endif
