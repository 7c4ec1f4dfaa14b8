/*
 * map_search.c: a reader beyond the first bucket, or where the writer is. Called by map_find(), where that
 * alone can't tell.
 */
#include "table/map_inline.h"

enum found { FOUND_NOT, FOUND_IT, FOUND_RACE };

/* What one bucket says at one moment. */
struct glimpse {
    enum found found;
    uint32_t seq, next;
    uint16_t spill;
};

static inline struct glimpse map_search_read(const struct map_bucket *b, unsigned words, const uint64_t *key,
                                             struct map_value *value)
{
    unsigned match = map_match(b, words, key);
    struct glimpse g = {
        .found = match ? FOUND_IT : FOUND_NOT, .next = MAP_LOAD(b->next), .spill = MAP_LOAD(b->spill)};
    if (match)
        map_load_value(b, (unsigned)__builtin_ctz(match), value);
    return g;
}

/* A stable look at a bucket: itself, or what it held before the writer went in. */
static struct glimpse map_search_glimpse(const struct map_view *view, const struct map_bucket *b,
                                         unsigned words, const uint64_t *key, struct map_value *value)
{
    struct map_shadow *shadow = view->shadow;
    for (;;) {
        uint32_t seq = MAP_LOAD(b->seq);
        struct glimpse g;
        if (!(seq & 1)) {
            g = map_search_read(b, words, key, value);
            g.seq = seq;
            if (MAP_LOAD(b->seq) == seq)
                return g;
            continue;
        }
        uint32_t shadow_seq = MAP_LOAD(shadow->seq);
        if (shadow_seq & 1 || MAP_LOAD(shadow->of) != b)
            continue;
        g = map_search_read((const struct map_bucket *)shadow->copy, words, key, value);
        g.seq = seq;
        if (MAP_LOAD(shadow->seq) == shadow_seq)
            return g;
    }
}

static inline enum found map_search_once(const struct map_view *view, unsigned words, const uint64_t *key,
                                         struct map_value *value)
{
    uint64_t hash = map_hash(view, words, key);
    struct map_bucket *first = map_bucket_at(view, words, hash),
                      *second = map_bucket_at(view, words, map_rotate(hash));
    struct glimpse start = map_search_glimpse(view, first, words, key, value);
    if (start.found || start.spill == 0)
        return start.found;
    if (map_search_glimpse(view, second, words, key, value).found)
        return FOUND_IT;
    for (uint32_t next = start.next; next;) {
        struct glimpse g = map_search_glimpse(view, map_overflow_at(view, words, next), words, key, value);
        if (g.found)
            return FOUND_IT;
        next = g.next;
    }
    return MAP_LOAD(first->seq) == start.seq ? FOUND_NOT : FOUND_RACE;
}

bool map_search(const struct map_view *view, unsigned words, const uint64_t *key, struct map_value *value)
{
    enum found found;
    do
        found = words == 1 ? map_search_once(view, 1, key, value) : map_search_once(view, 3, key, value);
    while (found == FOUND_RACE);
    return found == FOUND_IT;
}
