/*
 * tables.c: what readers ask of the tables beyond single entries: a subnet by VSID, the longest prefix of an
 * address.
 */
#include "table/tables.h"
#include <stdatomic.h>
#include "table/map_inline.h"

const unsigned tables_words[TABLE_COUNT] = {
    [TABLE_RECORDS4] = 1, [TABLE_RECORDS6] = 3, [TABLE_PAS4] = 1,    [TABLE_PAS6] = 3,
    [TABLE_SUBNETS] = 1,  [TABLE_ROUTES4] = 1,  [TABLE_ROUTES6] = 3, [TABLE_MOVES] = 3,
    [TABLE_PREFIXES] = 3, [TABLE_FLOODS] = 3,
};

uint32_t tables_subnet(const struct tables *tables, uint32_t vsid)
{
    const uint64_t key = vsid;
    struct map_value value;
    /* Key 0 is an empty place's: no map has it. */
    return key && map_get(tables->subnet_by_vsid, &key, &value) ? act_index(value.act) : INDEX_NONE;
}

/* ---- longest prefix match: the lengths that a routing domain has, longest first */

static uint32_t tables_route4(const struct tables *tables, uint32_t rdid, const uint8_t *ca)
{
    const struct map_view *view = map_view(tables->routes4);
    uint64_t lengths = atomic_load_explicit(&tables->lengths[rdid].len4, memory_order_acquire);
    while (lengths) {
        unsigned len = 63 - (unsigned)__builtin_clzll(lengths);
        uint32_t masked = load32(ca) & __builtin_bswap32((uint32_t)~(UINT64_C(0xffffffff) >> len));
        uint64_t key = key_route4(rdid, len, (const uint8_t *)&masked);
        struct map_value value;
        if (map_find(view, 1, &key, map_hash(view, 1, &key), &value))
            return value.act;
        lengths &= ~(1ull << len);
    }
    return ACT_NONE;
}

/* The first `len` bits of 64, as they lie in memory. */
static inline uint64_t tables_mask64(unsigned len)
{
    return len == 0 ? 0 : __builtin_bswap64(~0ull << (64 - len));
}

static uint32_t tables_route6(const struct tables *tables, uint32_t rdid, const uint8_t *ca)
{
    const struct map_view *view = map_view(tables->routes6);
    for (unsigned word = 3; word-- > 0;) {
        uint64_t lengths = atomic_load_explicit(&tables->lengths[rdid].len6[word], memory_order_acquire);
        while (lengths) {
            unsigned bit = 63 - (unsigned)__builtin_clzll(lengths), len = word * 64 + bit;
            uint64_t key[3];
            key_route6(key, rdid, len, ca);
            key[1] &= tables_mask64(len < 64 ? len : 64);
            key[2] &= tables_mask64(len < 64 ? 0 : len - 64);
            struct map_value value;
            if (map_find(view, 3, key, map_hash(view, 3, key), &value))
                return value.act;
            lengths &= ~(1ull << bit);
        }
    }
    return ACT_NONE;
}

uint32_t tables_route(const struct tables *tables, uint32_t rdid, unsigned family, const uint8_t *ca)
{
    return family == DP_IPV4 ? tables_route4(tables, rdid, ca) : tables_route6(tables, rdid, ca);
}
