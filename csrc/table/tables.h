/*
 * tables.h: what the packet path reads and change sets write; const to everybody but control/. Used by
 * lookups, steps, paths and control/.
 *
 * Threads: the control thread writes (dp_apply), workers read. Single entries change atomically (map.h);
 * objects that records refer to by index (next hops, rewrites, vias, subnets) are written before an entry
 * refers to them and reused only after every worker has been quiescent. Port policies are immutable and
 * replaced whole.
 */
#ifndef TABLES_H
#define TABLES_H
#include "base/addr.h"
#include "dp_api.h"
#include "table/map.h"

/*
 * Next hops there may be: one for each shared PA, and for each rewrite PA that goes another way than its
 * host's.
 */
enum { NEXT_HOPS_MAX = 1 << 24, REWRITES_MAX = 1 << 24 };

/* The maps of tables, by number. */
enum table {
    TABLE_RECORDS4, TABLE_RECORDS6, TABLE_PAS4, TABLE_PAS6, TABLE_SUBNETS, TABLE_ROUTES4, TABLE_ROUTES6,
    TABLE_MOVES,
    /* never beside: the first is asked for the router's own address alone, the second by no packet */
    TABLE_PREFIXES, TABLE_FLOODS,
    TABLE_COUNT,
};
static inline enum table records_of(unsigned family) { return TABLE_RECORDS4 + (family != DP_IPV4); }
static inline enum table pas_of(unsigned family) { return TABLE_PAS4 + (family != DP_IPV4); }
static inline enum table routes_of(unsigned family) { return TABLE_ROUTES4 + (family != DP_IPV4); }

/* What a lookup yields: kind in the top 4 bits, then MAP_HOME, index below. 0 is a miss. */
enum act {
    ACT_NONE = 0,
    ACT_LOCAL = 1,          /* index: local port */
    ACT_NVGRE = 2,          /* index: next hop */
    ACT_REWRITE = 3,        /* index: rewrite */
    ACT_GATEWAY = 4,        /* a gateway CA; index: subnet */
    ACT_PA_SELF = 5,        /* PA map: a shared PA of this host */
    ACT_PA_HOST = 6,        /* PA map: another host's shared PA; index: next hop */
    ACT_PA_REWRITE = 7,     /* PA map: index: rewrite (local or remote) */
    ACT_ONLINK = 8,         /* routes: index: subnet */
    ACT_VIA = 9,            /* routes: index: via */
    ACT_SUBNET = 10,        /* subnet map: index: subnet */
    ACT_MOVE = 11,          /* moves; the other home's host stands in place of a MAC */
};
static inline uint32_t act_make(enum act kind, uint32_t index) { return (uint32_t)kind << 28 | index; }
static inline enum act act_kind(uint32_t act) { return (enum act)(act >> 28); }
static inline uint32_t act_index(uint32_t act) { return act & 0x07ffffff; }

/*
 * The way to a remote PA. `eth` holds destination MAC and the first two bytes of the source MAC and is the
 * one word that changes in place, when the neighbour is resolved: 0 while it is not. A v4 header ends within
 * the first cache line.
 *
 * header_len is what publishes header and sum: it is 0 while they are written, and whoever reads them has
 * read it by next_hop_header_len() and found it not 0. But eth and the rest of the source MAC, which a
 * rewritten packet needs without a header, are words that are read and written whole at any time:
 * next_hop_macs().
 */
struct next_hop {
    uint32_t host;
    uint32_t neigh;                     /* index of the neighbour in neigh.h, INDEX_NONE: no provider route */
    uint16_t sum;                       /* folded sum of the IPv4 header with length, TOS and checksum 0 */
    /* NVGRE4_LEN or NVGRE6_LEN; 0: this host has no shared PA of the family */
    uint8_t header_len;
    uint8_t family;
    /* next next hop behind the same neighbour, INDEX_NONE: last; see neigh.h */
    uint32_t sibling;
    union {
        _Atomic uint64_t eth;           /* the first 8 bytes of header */
        uint8_t header[NVGRE6_LEN];
    };
    uint8_t pa[16];
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct next_hop) == 128, "two lines, an IPv4 header within the first");

/*
 * A frame's MACs: eth, then what it lacks of the source MAC. The one place that knows: a template is made
 * whole.
 */
static inline uint64_t next_hop_eth(uint64_t to, uint64_t from) { return to | from << 48; }
static inline uint32_t next_hop_rest(uint64_t from) { return (uint32_t)(from >> 16); }
static inline void next_hop_put_macs(uint8_t *frame, uint64_t eth, uint32_t rest)
{
    memcpy(frame, &eth, 8);
    memcpy(frame + 8, &rest, 4);
}
static inline uint32_t *next_hop_rest_word(const struct next_hop *nh)
{
    return (uint32_t *)(uintptr_t)(nh->header + 8);
}
/* Reader: a frame's MACs as they are now, at any time. Returns eth. */
static inline uint64_t next_hop_macs(const struct next_hop *nh, uint8_t *frame)
{
    uint64_t eth = __atomic_load_n((const uint64_t *)&nh->eth, __ATOMIC_RELAXED);
    next_hop_put_macs(frame, eth, __atomic_load_n(next_hop_rest_word(nh), __ATOMIC_RELAXED));
    return eth;
}
/* Reader: what header and sum are good for from here on. */
static inline uint8_t next_hop_header_len(const struct next_hop *nh)
{
    return __atomic_load_n(&nh->header_len, __ATOMIC_ACQUIRE);
}

/*
 * A PA that stands for one CA: both directions of IP rewrite. vsid 0: no CA has it yet. Immutable once an
 * entry refers to it, but for its ways: a reader finds the old one or the new one, and may use either until
 * it is quiescent.
 */
struct rewrite {
    uint8_t pa[16];
    uint8_t ca[16];
    uint32_t vsid, rdid, host;
    /* remote: of the PA itself, or its host's shared PA when both go the same way */
    _Atomic uint32_t next_hop;
    /* remote: next hop of the host's shared PA, for NVGRE to this CA; INDEX_NONE: none */
    _Atomic uint32_t shared;
    uint16_t port;                      /* local */
    uint16_t delta;                     /* from PA to CA, of checksums: step/rewrite.h */
    uint8_t mac[6];
    uint8_t family;
    uint8_t pad;
};
_Static_assert(sizeof(struct rewrite) == 64, "one line");

/*
 * What the record of a remote CA under rewrite has in place of the MAC, which its rewrite has: an IPv4 PA and
 * the next hop, so that a packet on its way out needs no line more. Changed with the rewrite's way.
 */
enum { REWRITE_HOP_NONE = 0xffff };         /* one that is not below it: in the rewrite */
static inline void tables_rewrite_value(struct map_value *value, const struct rewrite *rewrite)
{
    uint16_t hop = REWRITE_HOP_NONE;
    if (rewrite->next_hop < REWRITE_HOP_NONE)
        hop = (uint16_t)rewrite->next_hop;
    memcpy(value->mac, rewrite->pa, 4);     /* of an IPv6 one some bytes, which nobody reads */
    memcpy(value->mac + 4, &hop, 2);
}

struct via { uint8_t ca[16]; uint32_t vsid, subnet; uint8_t family; };
struct prefix { uint8_t gateway[16]; uint32_t vsid; };

/* Which prefix lengths a routing domain has routes of: LPM probes the longest first. Bit n of len4: /n. */
struct rdid_lengths { _Atomic uint64_t len4; _Atomic uint64_t len6[3]; };
/* The word whose bit len % 64 a length is. */
static inline _Atomic uint64_t *tables_length(struct rdid_lengths *lengths, bool ip4, unsigned len)
{
    return ip4 ? &lengths->len4 : &lengths->len6[len / 64];
}

struct port_source {
    uint8_t ca[16];
    uint8_t pa[16];                     /* its rewrite PA when has_pa */
    uint8_t family, prefix_len;         /* a CA: 32 or 128 */
    uint8_t has_pa;
    uint8_t extra;                      /* from allowedSources: not an own address */
};

/*
 * Of packets or bytes; depth: how long an empty bucket takes to fill, and per_second 0: no limit. See
 * step/limit.h.
 */
struct limit_rate {
    uint64_t per_second, depth;
    uint32_t burst;
};
struct port_limit { struct limit_rate packets, bytes; };
/* When each is full again; 0: it is. Of a port id: policies come and go over it. */
struct limit_bucket { _Atomic uint64_t packets, bytes; } __attribute__((aligned(64)));

/*
 * Who hears what is sent to a group in a subnet: the local ports, then next hops of other hosts, in the order
 * of their PAs. Immutable, and replaced whole.
 */
struct flood {
    struct limit_rate rate;
    uint32_t ports, hops;
    uint32_t to[];                      /* port ids, then indexes of next hops */
};

/* vsid and rdid don't change; the rest, but for the buckets, is the writer's. */
struct subnet {
    uint32_t vsid, rdid;
    uint32_t flood_per_second, flood_burst;     /* as the row says; a reader's are the flood's */
    struct flood *_Atomic flood;        /* NULL: nothing is copied */
    _Atomic uint64_t sent, heard;       /* when their buckets are full again: step/limit.h */
};

/*
 * What a family's allowed prefixes hold, as edges: rising addresses, where a range begins, where it is over,
 * and so on; an address with an odd number of edges at or below it is allowed. level[0] has their keys
 * (source.h), in nodes of EDGE_NODE, two lines each; each level above has the first key of every node but
 * the first. INT64_MAX, which no key is, fills the last nodes.
 */
enum { EDGE_NODE = 16, EDGE_LEVELS = 5 };   /* enough for 65,535 prefixes */
struct source_edges {
    unsigned __int128 first;            /* of IPv6: a key is how far above it, without `shift` low bits */
    const unsigned __int128 *edges;     /* of IPv6 */
    int64_t *level[EDGE_LEVELS];
    uint32_t levels, count;
    uint32_t shift, alike;              /* alike: so many edges may have one key; 0: keys tell all */
};

/*
 * Policy of a tenant port. sources[]: the n4 IPv4 ones first, then the n6 IPv6 ones; in each family first the
 * own CAs, own4 and own6 of them, then prefixes, both by address. Behind them lies what edges4 and edges6
 * refer to.
 */
struct port_policy {
    uint32_t port, vsid, rdid, subnet;
    uint8_t mac[6];
    uint16_t n4, n6, own4, own6;
    struct source_edges edges4, edges6;
    struct limit_bucket *bucket;        /* NULL: no limit */
    struct port_limit limit;
    struct port_source sources[];
};

/*
 * Every change set that is kept swaps dp->tables; the struct itself never changes. A small one has changed
 * the maps in place, which both generations share; an atomic or large one has built new maps beside. The
 * arrays of objects are shared by all generations (reserved address space, they never move), since an object
 * that is referred to never changes.
 */
struct tables {
    union {
        struct map *maps[TABLE_COUNT];
        struct {
            /* key_record(vsid, ca): LOCAL, NVGRE, REWRITE, GATEWAY; CA 0 is the wildcard */
            struct map *records4, *records6;
            struct map *pas4, *pas6;    /* key_pa(): PA_SELF, PA_HOST, PA_REWRITE */
            struct map *subnet_by_vsid; /* key: vsid */
            /* key_route4(rdid, len, prefix), key_route6(): ONLINK, VIA. rdid 0: provider routes */
            struct map *routes4, *routes6;
            struct map *moves;          /* key_move(vsid, ca): MOVE */
            struct map *prefix_map;     /* key_prefix(): ONLINK; index: prefix */
            struct map *floods;         /* key_move(vsid, PA): NVGRE, and a member in place of a MAC */
        };
    };
    struct rdid_lengths *lengths;       /* by rdid, as far as there are subnets */
    struct next_hop *next_hops;
    struct rewrite *rewrites;
    struct subnet *subnets;
    struct via *vias;
    struct prefix *prefixes;
    uint64_t (*sums)[2][MAP_SLICES];    /* run/rows.c's digest, by map and slice; [1]: of provider routes */
    struct port_policy *_Atomic policies[DP_MAX_PORTS];
    uint8_t shared_pa4[16], shared_pa6[16];   /* this host's first shared PA of each family, all zero: none */
    uint64_t generation;
    uint32_t subnet_count;              /* highest subnet index in use + 1 */
    uint32_t self_host;                 /* of this host, as in dp_config: these three never change */
    uint8_t router_mac[6];
    bool flowid_off;
    struct tables_writer *writer;       /* what only the writer needs: control/changes.h */
};

/*
 * Keys. Of one word: a vsid, or an rdid and a length, above an IPv4 address; or a vsid alone. Of three: a
 * vsid or rdid and a byte that is not 0; then bytes as they lie in memory. A wildcard's has a mark besides.
 */
enum { RDIDS = 65536 };
_Static_assert(RDIDS <= 1 << 24 && VSID_MAX < 0xffffff, "keys have 24 bits for either, one besides for PAs");
extern const unsigned tables_words[TABLE_COUNT];    /* of a key */
static inline uint64_t key_first(uint32_t id, unsigned low) { return (uint64_t)id << 8 | (low & 0xff); }
static inline uint64_t key_ca4(uint32_t vsid, const uint8_t *ca) { return (uint64_t)vsid << 32 | load32(ca); }
static inline void key_ca6(uint64_t *key, uint32_t vsid, const uint8_t *ca)
{
    key[0] = key_first(vsid, 1);
    key[1] = load64(ca);
    key[2] = load64(ca + 8);
}
/* Of either family; room for three words. */
static inline void key_ca(uint64_t *key, uint32_t vsid, unsigned family, const uint8_t *ca)
{
    if (family == DP_IPV4)
        key[0] = key_ca4(vsid, ca);
    else
        key_ca6(key, vsid, ca);
}
/* A record's: the wildcard's, CA 0, is one that no packet's address has. */
static inline void key_record(uint64_t *key, uint32_t vsid, unsigned family, const uint8_t *ca)
{
    key_ca(key, vsid, family, ca);
    if (is_any(family, ca))
        key[0] |= family == DP_IPV4 ? 1ull << 56 : 2;
}
/* What a rewrite PA yields. Every packet that comes to this host asks for one of its own. */
static inline uint32_t tables_pa_act(const struct tables *tables, uint32_t host, uint32_t index)
{
    return act_make(ACT_PA_REWRITE, index) | (host == tables->self_host ? MAP_HOME : 0);
}
/* PAs have maps of their own; their keys are those of a VSID that nobody has (RFC 7637 section 3.4). */
enum { KEY_PAS = 0xffffff };
static inline void key_pa(uint64_t *key, unsigned family, const uint8_t *pa)
{
    key_ca(key, KEY_PAS, family, pa);
}
static inline bool key_is_pa4(const uint64_t *key) { return key[0] >> 32 != 0; }
static inline void key_move(uint64_t *key, uint32_t vsid, unsigned family, const uint8_t *ca)
{
    key[0] = key_first(vsid, family);
    key[1] = family == DP_IPV4 ? load32(ca) : load64(ca);
    key[2] = family == DP_IPV4 ? 0 : load64(ca + 8);
}
/* prefix must be masked to len. */
static inline uint64_t key_route4(uint32_t rdid, unsigned len, const uint8_t *prefix)
{
    return (uint64_t)rdid << 40 | (uint64_t)(len + 1) << 32 | load32(prefix);
}
static inline void key_route6(uint64_t *key, uint32_t rdid, unsigned len, const uint8_t *prefix)
{
    key_ca6(key, 0, prefix);
    key[0] = key_first(rdid, len + 1);
}
/* Of either family; room for three words. */
static inline void key_route(uint64_t *key, uint32_t rdid, unsigned family, const uint8_t *prefix,
                             unsigned len)
{
    if (family == DP_IPV4)
        key[0] = key_route4(rdid, len, prefix);
    else
        key_route6(key, rdid, len, prefix);
}
/* The byte: 1 to 129 for IPv6, 130 and more for IPv4. */
enum { KEY_PREFIX4 = 130 };
static inline void key_prefix(uint64_t *key, uint32_t rdid, unsigned family, const uint8_t *prefix,
                              unsigned len)
{
    key_ca6(key, 0, prefix);
    key[0] = key_first(rdid, family == DP_IPV4 ? KEY_PREFIX4 + len : len + 1);
}
static inline uint8_t key_prefix_family(const uint64_t *key)
{
    return (uint8_t)key[0] >= KEY_PREFIX4 ? DP_IPV4 : DP_IPV6;
}
static inline uint8_t key_prefix_len(const uint64_t *key)
{
    return (uint8_t)(key[0] - ((uint8_t)key[0] >= KEY_PREFIX4 ? KEY_PREFIX4 : 1));
}

/* The vsid or rdid of a record, a move or a prefix. */
static inline uint32_t key_id(enum table table, const uint64_t *key)
{
    return (uint32_t)(key[0] >> (tables_words[table] == 1 ? 32 : 8)) & 0xffffff;
}
static inline uint32_t key_route_rdid(const uint64_t *key, bool ip4)
{
    return (uint32_t)(key[0] >> (ip4 ? 40 : 8));
}
static inline uint8_t key_route_len(const uint64_t *key, bool ip4)
{
    return (uint8_t)((ip4 ? key[0] >> 32 : key[0]) - 1);
}

/* This host's first shared PA of the family, all zero: it has none. */
static inline const uint8_t *tables_shared_pa(const struct tables *tables, unsigned family)
{
    return family == DP_IPV4 ? tables->shared_pa4 : tables->shared_pa6;
}
/* Index of a subnet, INDEX_NONE: there is none. Reader. */
uint32_t tables_subnet(const struct tables *tables, uint32_t vsid);
/*
 * Longest prefix match: act ONLINK or VIA, or 0. rdid: one that a subnet has, or 0 for the provider's, where
 * ONLINK has no subnet (index 0) and a via's is INDEX_NONE. Reader.
 */
uint32_t tables_route(const struct tables *tables, uint32_t rdid, unsigned family, const uint8_t *ca);

#endif
