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

enum { LOOKUP_MAX = 2 * DP_BATCH };

/* Lookups begun in one map, of one or three words a key. */
struct lookup_queue {
    uint32_t n;
    uint16_t at[LOOKUP_MAX];                    /* where the answer goes */
    const struct map_bucket *bucket[LOOKUP_MAX];
    uint64_t keys[3 * LOOKUP_MAX];              /* one behind the other */
};

static inline __attribute__((always_inline)) void lookup_begin(struct lookup_queue *queue, const struct map_view *view,
                                                               unsigned words, const uint64_t *key, uint32_t at)
{
    uint32_t n = queue->n++;
    const struct map_bucket *bucket = map_bucket_at(view, words, map_hash(view, words, key));
    __builtin_prefetch(bucket);
    if (words == 3)
        __builtin_prefetch((const char *)bucket + 64);
    for (unsigned i = 0; i < words; i++)
        queue->keys[n * words + i] = key[i];
    queue->bucket[n] = bucket;
    queue->at[n] = (uint16_t)at;
}

/* What a record's act refers to, on its way into the cache. */
static inline __attribute__((always_inline)) void lookup_prefetch(const struct tables *tables, uint32_t act)
{
    if (act_kind(act) == ACT_NVGRE)
        __builtin_prefetch(&tables->next_hops[act_index(act)]);
    else if (act_kind(act) == ACT_REWRITE || act_kind(act) == ACT_PA_REWRITE)
        __builtin_prefetch(&tables->rewrites[act_index(act)]);
}

/*
 * The answer if the first bucket tells: the key is there, or nowhere (nothing that belongs here lives elsewhere). False: it does
 * not tell, or the writer is in it; *answer is then a miss. Branch-free but for what the caller makes of it.
 */
static inline __attribute__((always_inline)) bool lookup_first(const struct map_bucket *b, unsigned words,
                                                               const uint64_t *key, struct lookup_answer *answer)
{
    uint32_t seq = MAP_LOAD(b->seq);
    unsigned match = map_match(b, words, key), slot = (unsigned)__builtin_ctz(match | 4);
    uint32_t head = MAP_LOAD(b->mac_head[slot]), act = MAP_LOAD(b->act[slot]);
    uint16_t tail = MAP_LOAD(b->mac_tail[slot]), spill = MAP_LOAD(b->spill);
    bool still = ((MAP_LOAD(b->seq) ^ seq) | (seq & 1)) == 0;
    answer->mac = head | (uint64_t)tail << 32;
    answer->act = match && still ? act : 0;
    return still & (match || !spill);
}

/* Answers stand `stride` bytes apart. */
static inline struct lookup_answer *lookup_answer_at(struct lookup_answer *answers, size_t stride, uint32_t at)
{
    return (struct lookup_answer *)(void *)((uint8_t *)answers + stride * at);
}

/* Those that their first bucket did not answer: the second ones are fetched for all before they are searched. */
static __attribute__((noinline)) void lookup_rest(const struct lookup_queue *queue, const struct map_view *view,
                                                  unsigned words, const uint16_t *rest, uint32_t n,
                                                  const struct tables *tables, struct lookup_answer *answers,
                                                  size_t stride)
{
    uint64_t hash[LOOKUP_MAX];
    for (uint32_t i = 0; i < n; i++) {
        hash[i] = map_hash(view, words, &queue->keys[rest[i] * words]);
        map_prefetch_words(view, words, map_rotate(hash[i]));
    }
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t *key = &queue->keys[rest[i] * words];
        struct map_value value;
        bool found = words == 1 ? map_find1(view, key[0], hash[i], &value) : map_find3(view, key, hash[i], &value);
        struct lookup_answer *answer = lookup_answer_at(answers, stride, queue->at[rest[i]]);
        *answer = (struct lookup_answer){found ? value.act : 0, 0};
        memcpy(&answer->mac, value.mac, sizeof value.mac);
        lookup_prefetch(tables, answer->act);
    }
}

/* Answers all that were begun; the queue is empty then. */
static inline __attribute__((always_inline)) void lookup_all(struct lookup_queue *queue, const struct map_view *view,
                                                             unsigned words, const struct tables *tables,
                                                             struct lookup_answer *answers, size_t stride)
{
    uint16_t rest[LOOKUP_MAX];
    uint32_t n = 0;
    for (uint32_t i = 0; i < queue->n; i++) {
        struct lookup_answer *answer = lookup_answer_at(answers, stride, queue->at[i]);
        rest[n] = (uint16_t)i;
        n += !lookup_first(queue->bucket[i], words, &queue->keys[i * words], answer);
        lookup_prefetch(tables, answer->act);
    }
    if (n)
        lookup_rest(queue, view, words, rest, n, tables, answers, stride);
    queue->n = 0;
}

#endif
