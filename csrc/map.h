/*
 * map.h: the hash table behind every lookup: 64-bit words of key -> 4-byte act and 6-byte MAC.
 *
 * Buckets of three entries: one 64-byte line with one-word keys (VSID and IPv4 CA, PA, VSID), two lines with three-word keys
 * (VSID and IPv6 CA). An entry lives in its first bucket, else in its second, else behind its first in overflow
 * buckets, so no entry is unplaceable whatever the hash does. The hash is keyed: a tenant can't aim at a bucket.
 *
 * Threads: one writer; any number of readers, which never wait and never write. A reader sees an entry as it was before or
 * after a change, never a mix: each bucket has a sequence number, odd while the writer is in it, and the writer leaves a copy of
 * the bucket's old content for readers that come by. Growing builds a new table and swaps it in; the old one is freed by
 * the caller's qsbr (see map_reclaim). A reader takes map_view() once a batch and uses it until its next quiescent point.
 */
#ifndef MAP_H
#define MAP_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map;
struct map_view;            /* one generation of the table; its layout is in map_inline.h, for the lookup's inline functions */

struct map_value {
    uint32_t act;           /* never 0 */
    uint8_t mac[6];
};

/* words: 1 or 3 a key. expected: entries to make room for. secret: two words, see hash.h. NULL when out of memory. */
struct map *map_create(unsigned words, size_t expected, const uint64_t secret[2]);
void map_destroy(struct map *map);

/* Writer. 0 or DP_ENOMEM; put replaces. `replaced`, when not NULL, gets the old value and act 0 if there was none. */
int map_put(struct map *map, const uint64_t *key, const struct map_value *value, struct map_value *replaced);
bool map_del(struct map *map, const uint64_t *key, struct map_value *removed);
/* Tables outgrown since the last call, as a list to free when every reader has been quiescent. */
struct map_view *map_retired(struct map *map);
void map_free_retired(struct map_view *list);
/* Writer or reader, scalar. */
bool map_get(const struct map *map, const uint64_t *key, struct map_value *value);
/* Calls fn for every entry (writer's thread); stops when fn returns false. */
void map_each(const struct map *map, bool (*fn)(void *ctx, const uint64_t *key, const struct map_value *value), void *ctx);

struct map_stats { size_t entries, capacity, bytes, displaced, overflow; };
void map_stats(const struct map *map, struct map_stats *out);

/*
 * Batch lookup in three steps, so that the memory latency of 64 keys overlaps:
 *   view = map_view(map);
 *   hash[i] = map_hash(view, key_i); map_prefetch(view, hash[i]);     for the batch
 *   map_find(view, key_i, hash[i], &value_i)                           for the batch
 * words is a constant at each call, so that the compiler makes one body for each key length.
 */

#endif
