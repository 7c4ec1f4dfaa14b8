/*
 * changes.h: a change set at work, between changes.c (decode, apply, keep or undo), its rows (rows.c, records.c, paths.c,
 * policies.c) and the state that only the writer needs.
 *
 * What undoing needs: every change of a map goes through change_entry(), which logs what was there before; objects are made anew,
 * never altered; policies are drafted in copies. All counts are derived from map entries in one place (change_entry's
 * accounting), so taking entries back takes the counts back.
 */
#ifndef CHANGES_H
#define CHANGES_H
#include <arpa/inet.h>
#include "engine.h"
#include "map.h"
#include "objects.h"

enum { RDIDS = 65536, ROUTE_LENGTHS = 33 + 129, OBJECTS = 5 };

/* The writer's side of a next hop: it stands for a shared PA, or for a rewrite PA that goes another way than its host's. */
struct way {
    uint32_t refs;                  /* the PA's own entry and the records that use it; 0: no next hop is here */
    uint32_t behind;                /* next shared PA of the same host + 1, in order; 0: last */
    uint64_t order;                 /* shared PAs of a host stand in the order in which they were put */
    bool moving;                    /* to another neighbour, within path_resolve() */
    uint8_t hop[16];                /* the provider next hop; void without a neighbour */
};

struct prefix { uint8_t gateway[16]; uint32_t vsid; };

/* A port's policy as rows make it; sources in no order. */
struct draft {
    uint32_t vsid;
    uint8_t mac[6];
    uint32_t n, capacity;
    struct port_source *sources;
};

struct tables_writer {
    union {
        struct {
            struct objects next_hops;   /* struct next_hop, struct way */
            struct objects rewrites;    /* struct rewrite, uint32_t: entries that refer to it */
            struct objects subnets;     /* struct subnet, uint32_t: records, prefixes and routes in it */
            struct objects vias;        /* struct via */
            struct objects prefixes;    /* struct prefix */
        };
        struct objects objects[OBJECTS];
    };
    struct map *prefix_map;         /* change_prefix_key() -> ACT_ONLINK, index: prefix */
    struct map *hosts;              /* host + 1 -> index + 1 of its first shared PA's next hop, HOST_EMPTY: none */
    struct mem lengths;
    uint32_t *route_counts[RDIDS];  /* by prefix length: IPv4 0..32, then IPv6 0..128; NULL: rdid never used */
    struct draft *drafts[DP_MAX_PORTS];
    uint32_t locals[DP_MAX_PORTS];  /* records of each local port */
    uint64_t gateways[2], provider_routes;
    uint64_t order;
    uint8_t underlay_mac[6];
};

enum { HOST_EMPTY = 0xffffffff };

enum table {
    TABLE_RECORDS4, TABLE_RECORDS6, TABLE_PAS4, TABLE_PAS6, TABLE_SUBNETS, TABLE_ROUTES4, TABLE_ROUTES6,
    TABLE_PREFIXES,                 /* the writer's own: never beside */
    TABLE_COUNT,
};

struct undo {
    uint64_t key[3];
    struct map_value old;
    uint32_t table;
};

/* Something that was given another host while it was in use: by the end of the change set nothing may use the old one. */
struct stale {
    uint32_t act, section, row;
};

struct change {
    struct dp *dp;
    struct tables_writer *writer;
    struct tables *next;            /* becomes dp->tables */
    bool beside;                    /* its maps are its own */
    bool undoing;
    bool shared_pas, provider_routes;   /* rows have touched them */
    struct undo *undo;
    uint32_t undo_n, undo_capacity;
    struct stale *stale;
    uint32_t stale_n, stale_capacity;
    struct draft *saved[DP_MAX_PORTS];  /* drafts as they were before; void unless touched */
    bool touched[DP_MAX_PORTS];
    uint32_t *lengths;              /* rdid << 8 | index of a route_counts entry that went from or to 0 */
    uint32_t lengths_n, lengths_capacity;
    uint32_t memo_vsid, memo_subnet;    /* the last subnet looked for; vsid 0: void */
    const char *row_name;
    uint32_t section, row;
    struct dp_change_error *error;
};

static inline enum table records_of(unsigned family) { return family == DP_IPV4 ? TABLE_RECORDS4 : TABLE_RECORDS6; }

/* ---- changes.c */

/* Puts (value) or deletes (NULL) an entry, logs and accounts. *old, unless NULL: what was there, act 0 if nothing. 0 or DP_ENOMEM. */
int change_entry(struct change *change, enum table table, const uint64_t *key, const struct map_value *value, struct map_value *old);
struct map **change_map_at(struct tables *tables, enum table table);
static inline struct map *change_map(struct tables *tables, enum table table) { return *change_map_at(tables, table); }
/* Words of its keys. */
unsigned change_words(enum table table);
static inline bool change_get(const struct change *change, enum table table, const uint64_t *key, struct map_value *value)
{
    return map_get(change_map(change->next, table), key, value);
}
/* The subnet's index, POOL_NONE if there is none. */
uint32_t change_subnet(struct change *change, uint32_t vsid);
/* One reference more or less; at 0 it is dropped. */
void change_way_ref(struct change *change, uint32_t index, int n);
/* Tells what is wrong with the row; returns code. */
int change_fail(struct change *change, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
int change_no_memory(struct change *change, int code);
/* Makes room for n + 1 elements of a list that doubles. False: out of memory. */
bool change_room(void *list, uint32_t n, uint32_t *capacity, size_t size);
struct change_text { char s[INET6_ADDRSTRLEN]; };
struct change_text change_address(unsigned family, const uint8_t *address);

static inline struct way *change_way(const struct tables_writer *w, uint32_t i) { return (struct way *)w->next_hops.sides.base + i; }
static inline struct prefix *change_prefix(const struct tables_writer *w, uint32_t i) { return (struct prefix *)w->prefixes.objects.base + i; }
static inline uint32_t *change_rewrite_refs(const struct tables_writer *w, uint32_t i) { return (uint32_t *)w->rewrites.sides.base + i; }
static inline uint32_t *change_subnet_refs(const struct tables_writer *w, uint32_t i) { return (uint32_t *)w->subnets.sides.base + i; }

/* ---- checks of fields (rows.c): 0, or the error is told */

int check_family(struct change *change, const char *field, unsigned family);
/* The bytes beyond a family's length are 0. */
int check_address(struct change *change, const char *field, unsigned family, const uint8_t *address);
int check_unicast(struct change *change, const char *field, unsigned family, const uint8_t *address);
int check_prefix(struct change *change, unsigned family, const uint8_t *prefix, unsigned len);
int check_zero(struct change *change, const uint8_t *pad, size_t len);
int check_mac(struct change *change, const uint8_t *mac);
int check_subnet(struct change *change, uint32_t vsid, uint32_t *subnet);

/* ---- rows: one function a kind and op; each leaves undoing to its caller */

typedef int row_fn(struct change *change, const void *row);
row_fn pa_put, pa_del, provider_route_put, provider_route_del, subnet_put, subnet_del, prefix_put, prefix_del;
row_fn port_put, port_del, source_put, source_del, record_put, record_del, route_put, route_del;
void record_prefetch(const struct change *change, const void *rows, uint32_t n, bool later);

/* ---- paths.c: next hops and rewrites */

/* The PA's entry. */
bool path_find(const struct change *change, unsigned family, const uint8_t *pa, struct map_value *value);
/* Like the PA's rewrite `from`, but standing for the CA in *like (vsid 0: for none), by the ways there are now. Its index. */
int path_rebind(struct change *change, uint32_t from, const struct rewrite *like, uint32_t *index);
/* The rewrite PA stands for no CA any more, if this is still what it is. */
int path_unbind(struct change *change, uint32_t index);
/* A shared PA joins its host's, or leaves. */
void path_link(struct change *change, uint32_t index, bool in);
/* The way that only this rewrite uses, if there is one, gets a reference or loses it. */
void path_own_way(struct change *change, uint32_t index, int n);
/* The end of a change set, before it is published; may fail. */
int path_finish(struct change *change);
/* Provider next hops of all ways by the routes of `tables`. DP_ENOMEM: some have none. */
int path_resolve(struct dp *dp, struct tables_writer *writer, const struct tables *tables);
/* The headers of all next hops, by the shared PAs of `tables` and the underlay's MAC. */
void path_headers(struct dp *dp, struct tables_writer *writer, const struct tables *tables);

/* ---- policies.c */

struct draft *policy_draft(const struct change *change, uint32_t port);
/* The same to be written to, its old state saved. NULL: out of memory. */
struct draft *policy_edit(struct change *change, uint32_t port);
/* The own CA (extra false) or allowed prefix (extra true), NULL: there is none. */
struct port_source *policy_source_of(const struct draft *draft, unsigned family, const uint8_t *ca, unsigned prefix_len, bool extra);
/* Tells that the port has as many sources as it may have: DP_EFULL. */
int policy_full(struct change *change, uint32_t port);
/* replace: if it is there already, else it must not be. 0 or the error is told. */
int policy_add(struct change *change, uint32_t port, const struct port_source *source, bool replace);
int policy_remove(struct change *change, uint32_t port, const struct port_source *source);
/* Builds the policies of all ports touched into change->next. 0 or DP_ENOMEM. */
int policy_finish(struct change *change);
/* The change set was kept and every worker has been quiescent, or it was undone: frees what that leaves unused. */
void policy_settle(struct change *change, const struct tables *old, bool kept);
void policy_free(struct draft *draft);
/* The policy's own CA, in many by halving; NULL: it is not. */
const struct port_source *policy_own(const struct port_policy *policy, unsigned family, const uint8_t *ca);

#endif
