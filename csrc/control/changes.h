/*
 * changes.h: a change set at work, between changes.c (apply, keep or put back), its rows (rows.c,
 * records.c, paths.c, policies.c) and the state that only the writer needs. Used by control/ alone.
 *
 * Before a row is applied, the row that was there is written down, in step/row.h's form: that is the inverse.
 * A change set that is refused, or rolled back later, is put back by the same row functions, the last row
 * first. For this to come to an end whatever happens:
 * - A row function checks first, then asks for memory, then writes; behind its first write nothing fails. A
 *   row that was refused has written nothing.
 * - Nothing needs more on the way back than it did on the way there: maps and drafts don't shrink, and for
 *   each object that is given up another one is kept free (objects_ready). All counts are derived from map
 *   entries in one place, the accounting of change_entry().
 */
#ifndef CHANGES_H
#define CHANGES_H
#include "base/check.h"
#include "base/objects.h"
#include "base/outline.h"
#include "base/tell.h"
#include "control/control.h"
#include "step/policy.h"
#include "step/row.h"
#include "table/map.h"

enum { ROUTE_LENGTHS = 33 + 129 };
enum object { NEXT_HOPS, REWRITES, SUBNETS, VIAS, PREFIXES, HOSTS, MEMBERS, OBJECTS };
/* A row makes and gives up no more of a kind. */
enum { ROW_OBJECTS = 2 };

/*
 * The writer's side of a next hop: it stands for a shared PA, or for a rewrite PA that goes another way
 * than its host's.
 */
struct way {
    uint32_t refs;                  /* the PA's own entry and records that use it; 0: no next hop is here */
    uint32_t behind;                /* next shared PA of the same host, in order; INDEX_NONE: last */
    uint64_t order;                 /* shared PAs of a host stand in the order in which they were put */
    uint32_t moved;                 /* the change set that moved it: see tables_writer.changes */
    bool moving;                    /* to another neighbour, within path_resolve() */
    uint8_t hop[16];                /* the provider next hop; void without a neighbour */
};

/* The writer's side of a rewrite. One of another host that has a CA stands in its host's chain. */
struct bond {
    uint32_t refs;                  /* entries that refer to it */
    uint32_t before, behind;        /* INDEX_NONE: first, last */
    uint32_t moved;
};

/*
 * What hangs on a host: shared PAs in order, rewrites in no order. INDEX_NONE: none. An entry that was
 * made stays.
 */
struct hosted {
    uint32_t first_way, first_rewrite, next_touched;
    bool made;
    bool touched;                   /* its shared PAs or routes to its PAs changed: see path_finish() */
};

/*
 * The writer's side of a subnet. made: its flood until it is published, what it was from then on. Members are
 * named by their index and one more, 0 is none; so are subnets in the list of those whose flood is another.
 */
struct domain {
    uint32_t refs;                  /* entries in it */
    uint32_t first, members;
    uint32_t ports;                 /* while its flood is made */
    uint32_t next_touched;
    bool touched;
    struct flood *made;
};
/* A host that hears what is sent to a group in a subnet. */
struct member { uint32_t hop, before, behind; };
/* Floods of up to 2^n - 1 receivers. */
enum { FLOOD_CLASSES = 33 };

struct tables_writer {
    struct objects objects[OBJECTS];
    struct way *ways;               /* sides of next hops */
    struct bond *bonds;             /* of rewrites */
    struct domain *domains;         /* of subnets */
    struct member *members;         /* the members themselves */
    uint32_t touched_domains;
    size_t flood_bytes;
    struct hosted *hosted;          /* the hosts themselves */
    struct map *hosts;              /* host + 1 -> index + 1: host */
    struct mem lengths;
    uint32_t *route_counts[RDIDS];  /* by prefix length: IPv4 0..32, IPv6 0..128; NULL: rdid never used */
    struct draft *drafts[DP_MAX_PORTS];
    uint32_t locals[DP_MAX_PORTS];  /* records of each local port */
    uint64_t gateways[2], provider_routes;
    struct mem_budget budget;
    uint64_t order;
    uint32_t changes;               /* number of the change set at work */
    uint32_t touched;               /* list of hosts, INDEX_NONE ends it */
    uint64_t visited;               /* rewrites that path_finish() looked at: what changes cost */
    bool own_shared[2];             /* by family: this host had a shared PA when rewrites were looked at */
    uint8_t underlay_mac[6];
    uint64_t sums[TABLE_COUNT][2][MAP_SLICES];  /* tables.h has them */
    struct change *last;            /* the last change set, while it may be rolled back */
};

/*
 * The row that was there, or DEL and the key: followed by the row's bytes. What bytes a PA leaves free
 * hold more: paths.c.
 */
struct inverse {
    uint16_t kind;
    uint8_t op;                     /* enum dp_op, 0: nothing to be done */
    uint8_t moved;                  /* a PA that went to another host or kind */
    uint32_t act;                   /* what the entry said, 0: nothing; a route's: its rdid */
    uint32_t section, row;
};

struct change {
    struct control *control;
    struct tables_writer *writer;
    struct tables *next;            /* becomes dp->tables */
    bool beside;                    /* its maps are its own */
    bool restoring;                 /* rows of the inverse are applied */
    bool provider_routes, moved;    /* rows have touched them; have moved PAs */
    bool own_pas;                   /* headers may be of another one */
    uint8_t *inverse;               /* room for the inverse of all rows; the last one's stands first */
    size_t inverse_at, inverse_size;
    struct inverse *back;           /* of the row at work */
    struct row_entry at;            /* what is there of its key, if its kind has maps */
    uint64_t key[3];
    bool touched[DP_MAX_PORTS];     /* the port's draft */
    struct port_policy *spares[DP_MAX_PORTS];   /* of a touched port: room for the policy that it had */
    struct flood *floods[FLOOD_CLASSES];        /* room for those that there were, each ends with the next */
    uint64_t generation;            /* before */
    uint32_t memo_vsid, memo_subnet;    /* the last subnet looked for; vsid 0: void */
    struct tell tell;               /* the row at work */
};

static inline bool change_is_records(enum table t) { return t == TABLE_RECORDS4 || t == TABLE_RECORDS6; }
static inline bool change_is_routes(enum table t) { return t == TABLE_ROUTES4 || t == TABLE_ROUTES6; }

/* ---- hosted.c: what hangs on each host */

/* NULL: no PA was ever of this host. */
struct hosted *hosted_find(const struct tables_writer *w, uint32_t host);
/* path_finish() will look at it. */
void hosted_touch(struct tables_writer *w, struct hosted *host);
/* Index of the host's first shared PA of a family, INDEX_NONE: it has none. */
uint32_t hosted_shared(const struct tables_writer *w, const struct tables *t, uint32_t host, unsigned family);
/* A shared PA joins its host's, or leaves. */
void hosted_link(struct change *change, uint32_t index, bool in);
/*
 * A rewrite is referred to first, or no longer: its host's chain and the way that only it uses, if there
 * is one.
 */
void hosted_join(struct change *change, uint32_t index, bool in);
/* One reference more or less; at 0 it is dropped. */
static inline void change_way_ref(struct change *change, uint32_t index, int n)
{
    struct way *way = &change->writer->ways[index];
    way->refs += (uint32_t)n;
    if (way->refs == 0)
        objects_drop(&change->writer->objects[NEXT_HOPS], index);
}
/* It goes by a way of its own. */
static inline bool change_is_own(const struct tables *t, const struct rewrite *rewrite)
{
    return rewrite->next_hop != INDEX_NONE && !memcmp(t->next_hops[rewrite->next_hop].pa, rewrite->pa, 16);
}
/* It is of another host, and has a CA. */
static inline bool change_is_remote(const struct change *change, const struct rewrite *rewrite)
{
    return rewrite->vsid && rewrite->host != change->next->self_host;
}

/* ---- entry.c */

/* Puts (value) or deletes (NULL) an entry and accounts for it. */
void change_entry(struct change *change, enum table table, const uint64_t *key,
                  const struct map_value *value);
/* The subnet's index, INDEX_NONE if there is none. */
uint32_t change_subnet(struct change *change, uint32_t vsid);
/* 0, or the error is told. *subnet: the VSID's index. */
int change_check_subnet(struct change *change, uint32_t vsid, uint32_t *subnet);
/* A CA of a subnet: of any kind, as keys are. */
int change_check_ca(struct change *change, uint32_t vsid, unsigned family, const uint8_t *ca);
/* Objects to make and to give up, which then can't fail. 0, or the error is told. */
int change_ready(struct change *change, enum object object);

/* ---- rows: one function a kind and op. 0; or the error is told, and nothing was written */

typedef int row_fn(struct change *change, const void *row);
row_fn pa_put, pa_del, provider_route_put, provider_route_del, subnet_put, subnet_del, prefix_put, prefix_del;
row_fn port_put, port_del, source_put, source_del, record_put, record_del, route_put, route_del;
row_fn move_put, move_del, flood_put, flood_del;
/* Ahead of the rows from here on, of which so many are left. */
void record_prefetch(const struct change *change, const struct dp_row_record *rows, uint32_t left);

/* ---- paths.c: next hops and rewrites */

/* The PA's entry. */
bool path_find(const struct change *change, unsigned family, const uint8_t *pa, struct map_value *value);
/*
 * The PA of the rewrite `from` gets another, which stands for the CA in *like (vsid 0: for none), by the ways
 * there are now. Its index. With a CA it may fail, and has written nothing.
 */
int path_rebind(struct change *change, uint32_t from, const struct rewrite *like, uint32_t *index);
/* The PA stands for no CA any more, if this is the one that it stands for. */
void path_unbind(struct change *change, unsigned family, const uint8_t *pa, uint32_t vsid, const uint8_t *ca);
/* The shared PA's order, which its inverse has to give it back. */
void path_remember(const struct change *change, struct inverse *back);
/* The end of a change set, before it is published; may fail. */
int path_finish(struct change *change);
/* The headers of all next hops, by the shared PAs of `tables` and the underlay's MAC. */
void path_headers(struct control *control, struct tables_writer *writer, const struct tables *tables);

/* ---- policies.c */

/* NULL: there is none. */
struct draft *policy_draft(const struct change *change, uint32_t port);
/* What changing the port's draft by a source may need, and putting that back. 0, or the error is told. */
int policy_ready(struct change *change, uint32_t port);
/* Builds the policies of all ports touched into change->next. 0 or DP_ENOMEM. */
int policy_finish(struct change *change);
/* Every worker has been quiescent since: frees the policies that were replaced. */
void policy_settle(struct change *change, const struct tables *old);

/* ---- floods.c */

/* The flood of a subnet that has one will be another. 0, or the error is told. vsid: of any, or none. */
int flood_touch(struct change *change, uint32_t vsid);
/* Makes the floods of all subnets touched. 0 or DP_ENOMEM. */
int flood_finish(struct change *change);
/* Readers find them from now on. */
void flood_publish(struct change *change);
/* Every worker has been quiescent since: frees those that were replaced. */
void flood_settle(struct change *change);
/* Nothing is made of what was touched. */
void flood_free_spares(struct change *change);

/* ---- inverse.c: what a change set replaces */

/* Writes the row's inverse down, in front of those of earlier rows, as change->back. */
void inverse_write(struct change *change, uint16_t kind, const void *row);
/* The inverse's rows, the last one's first, from *at == inverse_at; NULL: that was all. */
static inline struct inverse *change_inverse(const struct change *change, size_t *at)
{
    struct inverse *back = (struct inverse *)(change->inverse + *at);
    if (*at == change->inverse_size)
        return NULL;
    *at += sizeof *back + row_sizes[back->kind];
    return back;
}

/* ---- changes.c */

/* Frees what could be put back by it. NULL: nothing. */
void change_free(struct change *change);

#endif
