/*
 * map_search.c: a reader beyond the first bucket, or where the writer is. Called by lookups where the two
 * buckets alone can't tell.
 */
#include "table/map_inline.h"

enum found { FOUND_NOT, FOUND_IT, FOUND_RACE };

/* What one bucket says at one moment. */
struct glimpse {
    enum found found;
    uint32_t state, spill, next;
};

static inline struct glimpse map_search_read(const struct map_bucket *b, const uint32_t *next, unsigned words,
                                             const uint64_t *key, struct map_value *value)
{
    unsigned match = map_match(b, words, key);
    struct glimpse g = {.found = match ? FOUND_IT : FOUND_NOT,
                        .spill = map_spill(MAP_LOAD(b->state)),
                        .next = MAP_LOAD(*next)};
    if (match)
        map_load_value(b, words, map_match_slot(words, match), value);
    return g;
}

/* A stable look at a bucket: itself, or what it held before the writer went in. */
static struct glimpse map_search_glimpse(const struct map_view *view, const struct map_bucket *b,
                                         unsigned words, const uint64_t *key, struct map_value *value)
{
    struct map_shadow *shadow = view->shadow;
    const uint32_t *next = map_next_of(view, b);
    for (;;) {
        uint32_t state = MAP_LOAD(b->state);
        struct glimpse g;
        if (!(state & 1)) {
            g = map_search_read(b, next, words, key, value);
            g.state = state;
            if (MAP_LOAD(b->state) == state)
                return g;
            continue;
        }
        uint32_t shadow_seq = MAP_LOAD(shadow->seq);
        if (shadow_seq & 1 || MAP_LOAD(shadow->of) != b)
            continue;
        g = map_search_read(&shadow->copy, &shadow->next, words, key, value);
        g.state = state;
        if (MAP_LOAD(shadow->seq) == shadow_seq)
            return g;
    }
}

static inline enum found map_search_once(const struct map_view *view, unsigned words, const uint64_t *key,
                                         struct map_value *value)
{
    uint64_t hash = map_hash(view, words, key);
    struct map_bucket *first = map_bucket_at(view, hash),
                      *second = map_bucket_at(view, map_rotate(hash));
    struct glimpse start = map_search_glimpse(view, first, words, key, value);
    if (start.found || start.spill == 0)
        return start.found;
    if (map_search_glimpse(view, second, words, key, value).found)
        return FOUND_IT;
    for (uint32_t next = start.next; next;) {
        struct glimpse g = map_search_glimpse(view, map_overflow_at(view, next), words, key, value);
        if (g.found)
            return FOUND_IT;
        next = g.next;
    }
    return MAP_LOAD(first->state) == start.state ? FOUND_NOT : FOUND_RACE;
}

bool map_search(const struct map_view *view, unsigned words, const uint64_t *key, struct map_value *value)
{
    enum found found;
    do
        found = words == 1 ? map_search_once(view, 1, key, value) : map_search_once(view, 3, key, value);
    while (found == FOUND_RACE);
    return found == FOUND_IT;
}
