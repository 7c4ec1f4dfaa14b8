/*
 * map_slot.h: one slot of a bucket, written and read back. A bucket that the writer is in and an entry in,
 * the slot's words out. The writer alone calls it (map.c).
 */
#ifndef MAP_SLOT_H
#define MAP_SLOT_H
#include "table/map_inline.h"

#define MAP_STORE(field, v) __atomic_store_n(&(field), (v), __ATOMIC_RELEASE)

struct map_entry {
    uint64_t key[3];
    struct map_value value;
};

static inline void map_slot_set_value(struct map_bucket *b, unsigned words, unsigned slot,
                                      const struct map_value *value)
{
    uint64_t mac = 0;
    memcpy(&mac, value->mac, 6);
    MAP_STORE(b->act[slot], value->act);
    if (words == 1) {
        MAP_STORE(b->mac[slot], mac);
    } else {
        MAP_STORE(b->mac_head[slot], (uint32_t)mac);
        MAP_STORE(b->mac_tail[slot], (uint16_t)(mac >> 32));
    }
}

static inline void map_slot_set(struct map_bucket *b, unsigned words, unsigned slot,
                                const struct map_entry *entry)
{
    if (words == 1) {
        MAP_STORE(b->key[slot], entry->key[0]);
    } else {
        MAP_STORE(b->first[slot], (uint32_t)entry->key[0]);
        MAP_STORE(b->rest[slot][0], entry->key[1]);
        MAP_STORE(b->rest[slot][1], entry->key[2]);
    }
    map_slot_set_value(b, words, slot, &entry->value);
}

static inline void map_slot_clear(struct map_bucket *b, unsigned words, unsigned slot)
{
    if (words == 1)
        MAP_STORE(b->key[slot], 0);
    else
        MAP_STORE(b->first[slot], 0);
    MAP_STORE(b->act[slot], 0);
}

static inline void map_slot_key(const struct map_bucket *b, unsigned words, unsigned slot, uint64_t *key)
{
    key[0] = words == 1 ? b->key[slot] : b->first[slot];
    if (words != 1)
        memcpy(key + 1, b->rest[slot], 16);
}

static inline void map_slot_get(const struct map_bucket *b, unsigned words, unsigned slot,
                                struct map_entry *entry)
{
    map_slot_key(b, words, slot, entry->key);
    map_load_value(b, words, slot, &entry->value);
}

/* Bit s is set when slot s is empty. */
static inline unsigned map_slot_frees(const struct map_bucket *b, unsigned words)
{
    if (words != 1)
        return (unsigned)(b->first[0] == 0) | (unsigned)(b->first[1] == 0) << 1;
    return (unsigned)(b->key[0] == 0) | (unsigned)(b->key[1] == 0) << 1 | (unsigned)(b->key[2] == 0) << 2;
}

/* The first such slot, map_slots(): there is none. */
static inline unsigned map_slot_free(const struct map_bucket *b, unsigned words)
{
    return (unsigned)__builtin_ctz(map_slot_frees(b, words) | 1u << map_slots(words));
}

#endif
