/*
 * map.h: the hash table behind every lookup: 64-bit words of key -> 4-byte act and 6-byte MAC. Called by
 * control/ to write and by lookups to read.
 *
 * Buckets of one 64-byte line: three entries with one-word keys (VSID and IPv4 CA, PA, VSID), two with
 * three-word keys (VSID and IPv6 CA). An entry lives in its first bucket, else in its second, else behind its
 * first in overflow buckets, so no entry is unplaceable whatever the hash does. The hash is keyed: a tenant
 * can't aim at a bucket.
 *
 * Threads: one writer; any number of readers, which never write and never wait for the writer to run. A
 * reader sees an entry as it was before or after a change, never a mix, and never misses an entry that was
 * there all the time:
 * - Each bucket has a sequence number, odd while the writer is in it. Fields, and its link, which lies beside
 *   the buckets, are read between two equal, even loads of it. Every field is an atomic word; readers load
 *   them with acquire, so the second load of the number comes last; the writer stores them with release, so
 *   the odd number comes first.
 * - Before the writer enters a bucket it leaves a copy of it, the shadow, for readers that come by meanwhile.
 *   A reader finds the shadow overwritten only when the writer has gone on, and then the bucket itself is
 *   there to be read again.
 * - An entry that moves is written to its new place before it leaves the old one. Towards its second bucket,
 *   readers come past it by themselves. Towards its first bucket, or along the overflow chain, its first
 *   bucket is written (its number moves) before the entry leaves the old place; a reader that found nothing
 *   looks at that number once more and begins again if it moved.
 * Growing builds a new table and swaps it in; the old one is freed by the caller's qsbr (see map_retired). A
 * reader takes map_view() once a batch and uses it until its next quiescent point.
 */
#ifndef MAP_H
#define MAP_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map;
struct mem_budget;          /* mem.h */
/* one generation of the table; its layout is in map_inline.h, for the lookup's inline functions */
struct map_view;

/*
 * Of an act: what is asked for more often than others. A new entry of this kind lives in its first bucket, if
 * another there can go; one that was there before with another act stays where it is until the map grows.
 */
#define MAP_HOME (1u << 27)

struct map_value {
    uint32_t act;           /* never 0 */
    uint8_t mac[6];
};

/*
 * words: 1 or 3 a key, the first of them never 0, and the first of three below 2^32. expected: entries to
 * make room for. secret: two words, see hash.h. NULL when out of memory.
 */
struct map *map_create(unsigned words, size_t expected, const uint64_t secret[2]);
/* What it and its clones will grow to comes out of the budget. */
void map_use_budget(struct map *map, struct mem_budget *budget);
/* A copy with room for at least `expected` entries, which no reader may look at before map_publish(). */
struct map *map_clone(const struct map *map, size_t expected);
void map_publish(struct map *map);
void map_destroy(struct map *map);

/* Writer. 0 or DP_ENOMEM: makes room, so that the next put can't fail. */
int map_ready(struct map *map);
/*
 * Writer. 0 or DP_ENOMEM; put replaces. `replaced`, when not NULL, gets the old value and act 0 if there was
 * none.
 */
int map_put(struct map *map, const uint64_t *key, const struct map_value *value, struct map_value *replaced);
/*
 * Writer, once the key's first bucket is in the cache (map_prefetch): its second, if a put will look there.
 */
void map_prefetch_put(const struct map *map, const uint64_t *key);
/* Writer. False: there is none. `removed` may be NULL. */
bool map_del(struct map *map, const uint64_t *key, struct map_value *removed);
/* Tables outgrown since the last call, as a list to free when every reader has been quiescent. */
struct map_view *map_retired(struct map *map);
void map_free_retired(struct map_view *list);
/* Writer or reader, scalar. */
bool map_get(const struct map *map, const uint64_t *key, struct map_value *value);
/* Called for every entry (writer's thread), until it returns false. */
typedef bool map_visit(void *ctx, const uint64_t *key, const struct map_value *value);
void map_each(const struct map *map, map_visit *visit, void *ctx);

/*
 * Writer. A map falls into MAP_SLICES parts by where entries lie. A part that was looked at counts as seen
 * until an entry comes, goes or changes there, whatever made it move; when the map grows or is cloned, all
 * are unseen.
 */
enum { MAP_SLICES = 1024 };
bool *map_seen(struct map *map);        /* by slice */
void map_slice_each(const struct map *map, uint32_t slice, map_visit *visit, void *ctx);

/*
 * capacity: entries before it grows. bytes: memory held. displaced: entries in their second bucket. overflow:
 * in a chain.
 */
struct map_stats { size_t entries, capacity, bytes, displaced, overflow; };
void map_stats(const struct map *map, struct map_stats *out);

/*
 * Batch lookup in three steps (map_inline.h), so that the memory latency of 64 keys overlaps:
 *   view = map_view(map);
 *   hash[i] = map_hash(view, 1, &key_i); map_prefetch(view, hash[i]);  for the batch
 *   map_find(view, 1, &key_i, hash[i], &value_i)                         for the batch
 */

#endif
