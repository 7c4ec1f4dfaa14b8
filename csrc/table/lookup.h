/*
 * lookup.h: lookups of one key, for what comes rarely: a miss is act 0. Readers; steps and paths call them.
 * What CA 0 has is the wildcard's.
 */
#ifndef LOOKUP_H
#define LOOKUP_H
#include "table/tables.h"

/*
 * What a lookup yields: act 0: nothing. The MAC's bytes as they lie in memory, then two that are 0; but what
 * tables_rewrite_value() has put there in the record of a remote CA under rewrite: see lookup_mac().
 */
struct lookup_answer {
    uint32_t act;
    uint64_t mac;
};
static inline uint32_t lookup_pa4(const struct lookup_answer *answer) { return (uint32_t)answer->mac; }
static inline uint32_t lookup_hop(const struct lookup_answer *answer)
{
    return (uint32_t)(answer->mac >> 32);
}

static inline struct lookup_answer lookup_answer_of(struct map_value value)
{
    struct lookup_answer answer = {value.act, 0};
    memcpy(&answer.mac, value.mac, sizeof value.mac);
    return answer;
}

/* The MAC of a record that was found. */
static inline const uint8_t *lookup_mac(const struct tables *tables, const struct map_value *record)
{
    return act_kind(record->act) == ACT_REWRITE ? tables->rewrites[act_index(record->act)].mac : record->mac;
}
static inline uint64_t lookup_mac_word(const struct tables *tables, const struct lookup_answer *record)
{
    return act_kind(record->act) == ACT_REWRITE ? mac_word(tables->rewrites[act_index(record->act)].mac)
                                                : record->mac;
}

struct map_value lookup_record(const struct tables *tables, uint32_t vsid, unsigned family,
                               const uint8_t *ca);
struct map_value lookup_wildcard(const struct tables *tables, uint32_t vsid, unsigned family);
struct map_value lookup_pa(const struct tables *tables, unsigned family, const uint8_t *pa);
/* The host behind what a record or PA yields; this one for local ones. INDEX_NONE: nobody's. */
uint32_t lookup_host(const struct tables *tables, uint32_t act);
/* A PA of this host, shared or rewrite. */
bool lookup_is_own_pa(const struct tables *tables, unsigned family, const uint8_t *address);
/*
 * Who asks on the provider network: this host's first shared PA of the family, else the lowest rewrite PA of
 * a CA that lives here; NULL: it has none.
 */
const uint8_t *lookup_own_pa(const struct tables *tables, unsigned family);
/* The provider next hop of a PA of 16 bytes, by the routes of now; false: there is none. */
bool lookup_provider_hop(const struct tables *tables, unsigned family, const uint8_t *pa, uint8_t hop[16]);
/* The other home of a record that is in a move, INDEX_NONE: it is in none. A wildcard's CA is 0. */
uint32_t lookup_move(const struct tables *tables, uint32_t vsid, unsigned family, const uint8_t *ca);
/* Index of the next hop for NVGRE to what another host's record yields, INDEX_NONE: there is none. */
uint32_t lookup_way(const struct tables *tables, uint32_t act);

#endif
