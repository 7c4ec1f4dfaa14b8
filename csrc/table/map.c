/*
 * map.c: the writer's side of map.h. The writer alone stores, so it reads plainly; every store to what
 * readers may see is an atomic release between map_bucket_enter() and map_bucket_leave().
 */
#include "table/map_slot.h"
#include <stdlib.h>
#include "dp_api.h"
#include "base/mem.h"

/*
 * Entries of a hundred buckets: as the table is built for a known number of them, where one in six (IPv4) to
 * eight is displaced, and as it grows, up to one in four to six.
 */
static unsigned map_load_built(unsigned words) { return words == 1 ? 224 : 100; }
static unsigned map_load_max(unsigned words) { return words == 1 ? 255 : 121; }
enum { GROWTH = 120 };

/* A view and what only the writer needs of it. */
struct map_table {
    struct map_view view;
    struct map_shadow shadow;
    struct mem buckets, overflow, next;
    uint32_t overflow_used;         /* overflow buckets ever used */
    uint32_t overflow_free;         /* free ones, linked; index + 1 */
    size_t displaced, chained;      /* entries in their second bucket, in a chain */
    bool published;                 /* readers may be in it */
    uint64_t slice;                 /* buckets of a slice; the last one is that of all overflow buckets */
    bool seen[MAP_SLICES];          /* slices; never before it is published */
    struct map_table *retired;
};

struct map {
    unsigned words;
    struct map_table *_Atomic table;
    size_t entries, limit;
    struct map_table *retired;
    struct mem_budget *budget;
};

/* Where an entry is. in == first: first bucket; in == second: there; else in the chain. */
struct place {
    struct map_bucket *in;
    unsigned slot;
};

/* A bucket is copied by words, whatever its fields are. */
typedef uint64_t __attribute__((may_alias)) word;

static struct map_table *map_table(const struct map *map)
{
    return __atomic_load_n((struct map_table *const *)&map->table, __ATOMIC_ACQUIRE);
}

const struct map_view *map_view(const struct map *map) { return &map_table(map)->view; }

/* ---- writing one bucket */

/* With the next sequence number. */
static uint32_t map_state_after(uint32_t state)
{
    const uint32_t mask = (1u << MAP_SPILL_SHIFT) - 1;
    return (state & ~mask) | ((state + 1) & mask);
}

static void map_bucket_enter(struct map_table *t, struct map_bucket *b)
{
    if (!t->published)
        return;
    const uint32_t *next = map_next_of(&t->view, b);
    uint64_t at = (uint64_t)(next - t->view.next);
    t->seen[at < t->view.n ? at / t->slice : MAP_SLICES - 1] = false;
    struct map_shadow *shadow = &t->shadow;
    const word *from = (const word *)b;
    MAP_STORE(shadow->seq, shadow->seq + 1);
    for (unsigned i = 0; i < sizeof *b / 8; i++)
        MAP_STORE(((word *)&shadow->copy)[i], from[i]);
    MAP_STORE(shadow->next, *next);
    MAP_STORE(shadow->of, b);
    MAP_STORE(shadow->seq, shadow->seq + 1);
    MAP_STORE(b->state, map_state_after(b->state));
}

static void map_bucket_leave(struct map_table *t, struct map_bucket *b)
{
    if (t->published)
        MAP_STORE(b->state, map_state_after(b->state));
}

static void map_spill_add(struct map_bucket *b, int n)
{
    if (map_spill(b->state) != MAP_SPILL_MAX)
        MAP_STORE(b->state, b->state + ((uint32_t)n << MAP_SPILL_SHIFT));
}

static void map_fill_slot(struct map_table *t, unsigned words, struct map_bucket *b, unsigned slot,
                          const struct map_entry *entry, int spill)
{
    map_bucket_enter(t, b);
    map_slot_set(b, words, slot, entry);
    map_spill_add(b, spill);
    map_bucket_leave(t, b);
}

static void map_empty_slot(struct map_table *t, unsigned words, struct map_bucket *b, unsigned slot,
                           int spill)
{
    map_bucket_enter(t, b);
    map_slot_clear(b, words, slot);
    map_spill_add(b, spill);
    map_bucket_leave(t, b);
}

static void map_set_spill(struct map_table *t, struct map_bucket *b, int spill, uint32_t next)
{
    map_bucket_enter(t, b);
    map_spill_add(b, spill);
    MAP_STORE(*map_next_of(&t->view, b), next);
    map_bucket_leave(t, b);
}

/* ---- overflow chains: only the head may have free slots */

/* Index + 1 of an empty bucket, 0 when out of memory. */
static uint32_t map_overflow_take(struct map_table *t)
{
    uint32_t taken = t->overflow_free;
    if (taken) {
        t->overflow_free = *map_next_of(&t->view, map_overflow_at(&t->view, taken));
        return taken;
    }
    if (mem_commit(&t->overflow, (size_t)(t->overflow_used + 1) * sizeof(struct map_bucket)))
        return 0;
    return ++t->overflow_used;
}

static int map_overflow_push(struct map_table *t, unsigned words, struct map_bucket *first,
                             const struct map_entry *entry)
{
    uint32_t head = *map_next_of(&t->view, first);
    struct map_bucket *b = head ? map_overflow_at(&t->view, head) : NULL;
    if (b && map_slot_free(b, words) < map_slots(words)) {
        map_fill_slot(t, words, b, map_slot_free(b, words), entry, 0);
        map_set_spill(t, first, 1, head);
    } else {
        uint32_t taken = map_overflow_take(t);
        if (!taken)
            return DP_ENOMEM;
        b = map_overflow_at(&t->view, taken);
        map_set_spill(t, b, 0, head);
        map_fill_slot(t, words, b, 0, entry, 0);
        map_set_spill(t, first, 1, taken);
    }
    t->chained++;
    return DP_OK;
}

/*
 * Fills `hole`, in the first bucket itself (pull) or in its chain, with an entry taken off the head of the
 * chain; a hole in the head just opens. The first bucket is written before an entry leaves its old place.
 */
static void map_overflow_shift(struct map_table *t, unsigned words, struct map_bucket *first,
                               struct place hole)
{
    uint32_t head = *map_next_of(&t->view, first);
    struct map_bucket *b = map_overflow_at(&t->view, head);
    unsigned last = b == hole.in ? hole.slot : (unsigned)__builtin_ctz(~map_slot_frees(b, words)), left = 0;
    bool pull = hole.in == first;
    uint32_t behind = *map_next_of(&t->view, b);
    struct map_entry entry;
    map_slot_get(b, words, last, &entry);
    if (b != hole.in && !pull)
        map_fill_slot(t, words, hole.in, hole.slot, &entry, 0);
    for (unsigned s = 0; s < map_slots(words); s++)
        left += s != last && !(map_slot_frees(b, words) >> s & 1);
    map_bucket_enter(t, first);
    if (pull)
        map_slot_set(first, words, hole.slot, &entry);
    map_spill_add(first, -1);
    MAP_STORE(*map_next_of(&t->view, first), left ? head : behind);
    map_bucket_leave(t, first);
    map_empty_slot(t, words, b, last, 0);
    if (!left) {
        map_set_spill(t, b, 0, t->overflow_free);
        t->overflow_free = head;
    }
    t->chained--;
}

/* ---- placing */

/*
 * Moves one of the entries of a full bucket to its other bucket, if there is room, or room can be made there
 * in the same way. Its slot, or map_slots().
 */
static unsigned map_displace(struct map_table *t, unsigned words, struct map_bucket *b, bool make_room)
{
    const struct map_view *view = &t->view;
    struct map_bucket *first[MAP_SLOTS], *other[MAP_SLOTS];
    for (unsigned s = 0; s < map_slots(words); s++) {
        uint64_t key[3], hash;
        map_slot_key(b, words, s, key);
        hash = map_hash(view, words, key);
        first[s] = map_bucket_at(view, hash);
        other[s] = first[s] == b ? map_bucket_at(view, map_rotate(hash)) : first[s];
        __builtin_prefetch(other[s]);
    }
    for (unsigned s = 0; s < map_slots(words); s++) {
        unsigned room = map_slot_free(other[s], words);
        bool home = first[s] != b;
        if (other[s] == b || (!home && b->act[s] & MAP_HOME))
            continue;
        if (room == map_slots(words) && make_room)
            room = map_displace(t, words, other[s], false);
        if (room == map_slots(words))
            continue;
        struct map_entry entry;
        map_slot_get(b, words, s, &entry);
        map_fill_slot(t, words, other[s], room, &entry, home ? -1 : 0);
        map_empty_slot(t, words, b, s, home ? 0 : 1);
        t->displaced += home ? (size_t)-1 : 1;
        return s;
    }
    return map_slots(words);
}

/* A key that is not there yet. */
static int map_place_new(struct map_table *t, unsigned words, uint64_t hash, const struct map_entry *entry)
{
    struct map_bucket *first = map_bucket_at(&t->view, hash),
                      *second = map_bucket_at(&t->view, map_rotate(hash));
    unsigned none = map_slots(words), slot = map_slot_free(first, words);
    if (slot == none && (entry->value.act & MAP_HOME || map_slot_free(second, words) == none))
        slot = map_displace(t, words, first, entry->value.act & MAP_HOME);
    if (slot < none) {
        map_fill_slot(t, words, first, slot, entry, 0);
        return DP_OK;
    }
    slot = map_slot_free(second, words);
    if (slot == none && second != first)
        slot = map_displace(t, words, second, false);
    if (slot == none)
        return map_overflow_push(t, words, first, entry);
    map_fill_slot(t, words, second, slot, entry, 0);
    map_set_spill(t, first, 1, *map_next_of(&t->view, first));
    t->displaced++;
    return DP_OK;
}

static bool map_locate_in(struct map_bucket *b, unsigned words, const uint64_t *key, struct place *place)
{
    unsigned match = map_match(b, words, key);
    *place = (struct place){b, match ? map_match_slot(words, match) : 0};
    return match != 0;
}

static bool map_locate(const struct map_table *t, unsigned words, const uint64_t *key, uint64_t hash,
                       struct place *place)
{
    struct map_bucket *first = map_bucket_at(&t->view, hash);
    if (map_locate_in(first, words, key, place))
        return true;
    if (map_spill(first->state) == 0)
        return false;
    if (map_locate_in(map_bucket_at(&t->view, map_rotate(hash)), words, key, place))
        return true;
    for (uint32_t next = *map_next_of(&t->view, first); next; next = *map_next_of(&t->view, place->in))
        if (map_locate_in(map_overflow_at(&t->view, next), words, key, place))
            return true;
    return false;
}

static void map_table_free(struct map_table *t)
{
    mem_unmap(&t->buckets);
    mem_unmap(&t->overflow);
    mem_unmap(&t->next);
    free(t);
}

static struct map_table *map_table_create(unsigned words, size_t expected, const uint64_t secret[2],
                                      struct mem_budget *budget)
{
    struct map_table *t = aligned_alloc(64, sizeof *t);
    if (!t)
        return NULL;
    memset(t, 0, sizeof *t);
    t->buckets.budget = t->overflow.budget = t->next.budget = budget;
    const size_t line = sizeof(struct map_bucket);
    /* Chains are full but for their heads: a bucket for each map_slots(), and one for each first bucket. */
    if (mem_map(&t->buckets, (expected * 100 / map_load_built(words) + 1) * line) ||
        mem_reserve(&t->overflow, 2 * t->buckets.committed + line) ||
        mem_lazy(&t->next, (t->buckets.committed + t->overflow.reserved) / line * sizeof(uint32_t)) ||
        mem_take(budget, t->buckets.committed / line * sizeof(uint32_t))) {
        map_table_free(t);
        return NULL;
    }
    t->next.committed = t->buckets.committed / line * sizeof(uint32_t);
    t->view = (struct map_view){.buckets = (struct map_bucket *)(void *)t->buckets.base,
                                .n = t->buckets.committed / line,
                                .overflow = (struct map_bucket *)(void *)t->overflow.base,
                                .next = (uint32_t *)(void *)t->next.base,
                                .secret = {secret[0], secret[1]},
                                .shadow = &t->shadow};
    t->slice = t->view.n / (MAP_SLICES - 1) + 1;
    return t;
}

static bool map_bucket_each(const struct map_bucket *b, unsigned words, map_visit *visit, void *ctx)
{
    for (unsigned s = 0; s < map_slots(words); s++) {
        struct map_entry entry;
        if (map_slot_frees(b, words) >> s & 1)
            continue;
        map_slot_get(b, words, s, &entry);
        if (!visit(ctx, entry.key, &entry.value))
            return false;
    }
    return true;
}

static bool map_each_in(const struct map_table *t, unsigned words, uint32_t slice, map_visit *visit,
                        void *ctx)
{
    bool chains = slice == MAP_SLICES - 1;
    const struct map_bucket *buckets = chains ? t->view.overflow : t->view.buckets;
    uint64_t at = chains ? 0 : slice * t->slice, last = at + t->slice < t->view.n ? at + t->slice : t->view.n;
    for (uint64_t end = chains ? t->overflow_used : last; at < end; at++)
        if (!map_bucket_each(buckets + at, words, visit, ctx))
            return false;
    return true;
}

static void map_table_each(const struct map_table *t, unsigned words, map_visit *visit, void *ctx)
{
    for (uint32_t slice = 0; slice < MAP_SLICES && map_each_in(t, words, slice, visit, ctx); slice++)
        ;
}

/*
 * Copying goes through the first buckets in order, since a hash is scaled to their number. What does not fit
 * there waits until its second bucket has come into the cache.
 */
enum { COPY_WAITING = 16 };
struct copy {
    struct map_table *to;
    unsigned words;
    uint32_t waiting;
    int result;
    struct map_entry entries[COPY_WAITING];
};

static int map_copy_waiting(struct copy *copy)
{
    int result = DP_OK;
    while (copy->waiting && result == DP_OK) {
        const struct map_entry *entry = &copy->entries[--copy->waiting];
        const uint64_t hash = map_hash(&copy->to->view, copy->words, entry->key);
        result = map_place_new(copy->to, copy->words, hash, entry);
    }
    return result;
}

static bool map_copy_entry(void *ctx, const uint64_t *key, const struct map_value *value)
{
    struct copy *copy = ctx;
    const struct map_view *view = &copy->to->view;
    struct map_entry *entry = &copy->entries[copy->waiting];
    memcpy(entry->key, key, copy->words * 8);
    entry->value = *value;
    uint64_t hash = map_hash(view, copy->words, key);
    struct map_bucket *first = map_bucket_at(view, hash);
    if (map_slot_frees(first, copy->words)) {
        map_fill_slot(copy->to, copy->words, first, map_slot_free(first, copy->words), entry, 0);
        return true;
    }
    map_prefetch(view, map_rotate(hash));
    if (++copy->waiting == COPY_WAITING)
        copy->result = map_copy_waiting(copy);
    return copy->result == DP_OK;
}

static struct map_table *map_table_copy(const struct map_table *from, unsigned words, size_t expected,
                                    struct mem_budget *budget)
{
    struct copy copy = {.to = map_table_create(words, expected, from->view.secret, budget), .words = words};
    if (!copy.to)
        return NULL;
    map_table_each(from, words, map_copy_entry, &copy);
    if (copy.result == DP_OK)
        copy.result = map_copy_waiting(&copy);
    if (copy.result == DP_OK)
        return copy.to;
    map_table_free(copy.to);
    return NULL;
}

static void map_use(struct map *map, struct map_table *t, bool published)
{
    t->published = published;
    map->limit = t->view.n * map_load_max(map->words) / 100;
    __atomic_store_n((struct map_table **)&map->table, t, __ATOMIC_RELEASE);
}

void map_publish(struct map *map) { map_table(map)->published = true; }

static int map_grow(struct map *map)
{
    struct map_table *old = map_table(map);
    const unsigned words = map->words;
    const size_t room = map->entries * GROWTH / 100 * map_load_built(words) / map_load_max(words) + 1;
    struct map_table *new = map_table_copy(old, words, room, map->budget);
    if (!new)
        return DP_ENOMEM;
    map_use(map, new, old->published);
    old->retired = map->retired;
    map->retired = old;
    return DP_OK;
}

struct map *map_create(unsigned words, size_t expected, const uint64_t secret[2])
{
    struct map *map = calloc(1, sizeof *map);
    struct map_table *t = map ? map_table_create(words, expected, secret, NULL) : NULL;
    if (!t) {
        free(map);
        return NULL;
    }
    map->words = words;
    map_use(map, t, true);
    return map;
}

void map_use_budget(struct map *map, struct mem_budget *budget) { map->budget = budget; }

struct map *map_clone(const struct map *map, size_t expected)
{
    struct map *clone = calloc(1, sizeof *clone);
    const size_t room = expected > map->entries ? expected : map->entries;
    struct map_table *t = clone ? map_table_copy(map_table(map), map->words, room, map->budget) : NULL;
    if (!t) {
        free(clone);
        return NULL;
    }
    *clone = (struct map){.words = map->words, .entries = map->entries, .budget = map->budget};
    map_use(clone, t, false);
    return clone;
}

void map_destroy(struct map *map)
{
    if (!map)
        return;
    map_free_retired(map_retired(map));
    map_table_free(map_table(map));
    free(map);
}

int map_ready(struct map *map)
{
    if (map->entries >= map->limit && map_grow(map))
        return DP_ENOMEM;
    struct map_table *t = map_table(map);
    const size_t one_more = (size_t)(t->overflow_used + 1) * sizeof(struct map_bucket);
    return t->overflow_free ? DP_OK : mem_commit(&t->overflow, one_more);
}

static inline int map_put_words(struct map *map, unsigned words, const uint64_t *key,
                                const struct map_value *value, struct map_value *replaced)
{
    struct map_table *t = map_table(map);
    uint64_t hash = map_hash(&t->view, words, key);
    struct place place;
    if (map_locate(t, words, key, hash, &place)) {
        if (replaced)
            map_load_value(place.in, words, place.slot, replaced);
        map_bucket_enter(t, place.in);
        map_slot_set_value(place.in, words, place.slot, value);
        map_bucket_leave(t, place.in);
        return DP_OK;
    }
    if (replaced)
        *replaced = (struct map_value){0};
    if (map_ready(map))
        return DP_ENOMEM;
    t = map_table(map);
    struct map_entry entry = {.value = *value};
    memcpy(entry.key, key, words * 8);
    int result = map_place_new(t, words, hash, &entry);
    map->entries += result == DP_OK;
    return result;
}

/* Without a branch: whether a bucket is full can't be predicted. */
void map_prefetch_put(const struct map *map, const uint64_t *key)
{
    const struct map_view *view = map_view(map);
    uint64_t hash = map_hash(view, map->words, key), rotated = map_rotate(hash);
    uint64_t full = (uint64_t)0 - (map_slot_frees(map_bucket_at(view, hash), map->words) == 0);
    map_prefetch(view, (rotated & full) | (hash & ~full));
}

int map_put(struct map *map, const uint64_t *key, const struct map_value *value, struct map_value *replaced)
{
    return map->words == 1 ? map_put_words(map, 1, key, value, replaced)
                           : map_put_words(map, 3, key, value, replaced);
}

bool map_del(struct map *map, const uint64_t *key, struct map_value *removed)
{
    struct map_table *t = map_table(map);
    unsigned words = map->words;
    uint64_t hash = map_hash(&t->view, words, key);
    struct map_bucket *first = map_bucket_at(&t->view, hash),
                      *second = map_bucket_at(&t->view, map_rotate(hash));
    struct place place;
    if (!map_locate(t, words, key, hash, &place))
        return false;
    if (removed)
        map_load_value(place.in, words, place.slot, removed);
    map->entries--;
    if (place.in != first && place.in != second) {
        map_overflow_shift(t, words, first, place);
        return true;
    }
    map_empty_slot(t, words, place.in, place.slot, 0);
    if (place.in != first) {
        map_set_spill(t, first, -1, *map_next_of(&t->view, first));
        t->displaced--;
    }
    if (*map_next_of(&t->view, place.in))
        map_overflow_shift(t, words, place.in, place);
    return true;
}

struct map_view *map_retired(struct map *map)
{
    struct map_table *list = map->retired;
    map->retired = NULL;
    return list ? &list->view : NULL;
}

void map_free_retired(struct map_view *list)
{
    for (struct map_table *t = (struct map_table *)list, *next; t; t = next) {
        next = t->retired;
        map_table_free(t);
    }
}

bool map_get(const struct map *map, const uint64_t *key, struct map_value *value)
{
    const struct map_view *view = map_view(map);
    return map->words == 1 ? map_find(view, 1, key, map_hash(view, 1, key), value)
                           : map_find(view, 3, key, map_hash(view, 3, key), value);
}

void map_each(const struct map *map, map_visit *visit, void *ctx)
{
    map_table_each(map_table(map), map->words, visit, ctx);
}

static size_t map_table_bytes(const struct map_table *t)
{
    return sizeof *t + t->buckets.committed + t->overflow.committed + t->next.committed;
}

void map_stats(const struct map *map, struct map_stats *out)
{
    const struct map_table *t = map_table(map);
    *out = (struct map_stats){
        .entries = map->entries, .capacity = map->limit, .displaced = t->displaced, .overflow = t->chained,
        .bytes = sizeof *map + map_table_bytes(t)};
    for (const struct map_table *r = map->retired; r; r = r->retired)
        out->bytes += map_table_bytes(r);
}

bool *map_seen(struct map *map) { return map_table(map)->seen; }

void map_slice_each(const struct map *map, uint32_t slice, map_visit *visit, void *ctx)
{
    map_each_in(map_table(map), map->words, slice, visit, ctx);
}
