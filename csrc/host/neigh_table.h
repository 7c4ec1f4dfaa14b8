/*
 * neigh_table.h: the entries behind neigh.h: found by address, chained to the next hops whose eth word they
 * give. Private to neigh.c and neigh_table.c. Each field says who writes it; "worker 0" is the control thread
 * when there are no threads.
 *
 * Reuse. An entry is at rest when it is no next hop's, idle, and no message about it is on its way: then
 * only who finds it by its address, or read its index out of a next hop before that was released, can touch
 * it. So the control thread takes it out of its bucket, waits until every worker has been quiescent, and
 * gives it to another address if it is at rest still. Since all others who look at it are workers, but for
 * neigh_read(), which asks `life`, they need not care.
 */
#ifndef NEIGH_TABLE_H
#define NEIGH_TABLE_H
#include "base/mem.h"
#include "host/neigh.h"
#include "pkt/ring.h"

/* What is heard of at the same time is asked again at NEIGH_SPREAD times, by its address. */
enum { NEIGH_SPREAD = 16 };
enum neigh_queue_id { NEIGH_RETRY, NEIGH_FRESH, NEIGH_QUEUES = NEIGH_FRESH + NEIGH_SPREAD };

/* A MAC in a word: its bytes as they lie in memory, then two zeros. 0: unknown. */
struct neigh {
    uint8_t address[16];
    uint8_t family;
    uint8_t tries;                      /* worker 0: requests since it was last heard of */
    uint8_t queue;                      /* worker 0: the queue it stands in, NEIGH_QUEUES: none */
    _Atomic uint8_t state;              /* worker 0; all read: enum dp_neigh_state */
    _Atomic uint8_t held;               /* worker 0; all read */
    uint8_t probed;                     /* control: made by a probe, and no next hop's since */
    _Atomic uint16_t on_way;            /* messages about it: who sends one adds, worker 0 takes off */
    _Atomic uint32_t users;             /* control; all read: next hops in the chain */
    _Atomic uint32_t first;             /* control; worker 0 reads: the chain */
    _Atomic uint32_t next_in_bucket;    /* control; all read */
    uint32_t before, behind;            /* worker 0: in its queue */
    _Atomic uint32_t life;              /* control; all read: even: stands for its address; odd: free */
    _Atomic uint64_t mac;               /* worker 0; all read */
    uint64_t due;                       /* worker 0: when it stands in a queue */
};
_Static_assert(sizeof(struct neigh) == 64, "one line");

struct neigh_hold {
    struct pkt pkts[NEIGH_HOLD];
};

/* Entries that wait equally long: the first is the first due. */
struct neigh_queue {
    uint64_t wait;
    uint32_t first, last;
};

/* Entries by the control thread's links, in order. */
struct neigh_list {
    uint32_t first, last, n;
};

enum { NEIGH_BUCKETS = 1 << 14, NEIGH_UNLISTED = 0xfffffffe };
/* Entries that are looked at in one go. */
enum { NEIGH_LOOKS = 64 };

struct neigh_table {
    struct next_hop *next_hops;         /* the tables' */
    struct qsbr *qsbr;
    uint32_t workers;
    int wake_fd;                        /* of worker 0 */
    struct mem entries_mem, holds_mem, links_mem, previous_mem;
    struct neigh *entries;
    struct neigh_hold *holds;           /* worker 0, by entry; memory is touched only if something is held */
    uint32_t *previous;                 /* control: by next hop, the one before it in its chain */
    uint32_t *links;                    /* control: by entry, the next of its list, or NEIGH_UNLISTED */
    struct neigh_list unused, free;     /* control: no next hop's when they came in; to be made again */
    uint32_t made;                      /* control: entries, since neigh_reclaim() */
    uint32_t probed;                    /* control: entries that a probe made */
    _Atomic uint32_t count;             /* control; all read: entries that were ever made */
    _Atomic uint64_t source;            /* control; all read: the underlay's MAC */
    _Atomic uint32_t slots;             /* all: that held packets and those in the rings have */
    struct neigh_queue queues[NEIGH_QUEUES];    /* worker 0 */
    uint64_t due;                       /* worker 0: nothing is due before */
    uint64_t round;                     /* worker 0: when the round of now began, ... */
    uint32_t left;                      /* ... and what may yet be done in it */
    uint32_t ask_at;                    /* worker 0: how far neigh_ask_all() is, INDEX_NONE: done */
    _Atomic uint32_t buckets[NEIGH_BUCKETS];    /* control; all read */
    struct ring rings[];                /* to worker 0, by worker; worker 0's own is the control thread's */
};

static inline uint32_t neigh_table_count(const struct neigh_table *table)
{
    return atomic_load_explicit(&table->count, memory_order_acquire);
}
static inline uint32_t neigh_table_index(const struct neigh_table *table, const struct neigh *e)
{
    return (uint32_t)(e - table->entries);
}

/* Any thread. NULL: none. */
struct neigh *neigh_table_find(struct neigh_table *table, unsigned family, const uint8_t *address);
/* Control thread. NULL: out of memory, or of room. */
struct neigh *neigh_table_make(struct neigh_table *table, unsigned family, const uint8_t *address);
/* Control thread: whether a probe made it, and nothing else has a use for it. */
void neigh_table_set_probed(struct neigh_table *table, struct neigh *e, bool probed);

/* Worker 0: the MAC, 0: unknown, and with it the eth word of each next hop. */
void neigh_table_set_mac(struct neigh_table *table, struct neigh *e, uint64_t mac);
static inline uint64_t neigh_table_source(const struct neigh_table *table)
{
    return atomic_load_explicit(&table->source, memory_order_relaxed);
}
/* The eth word of a next hop with this MAC; 0 if it is unknown. */
static inline uint64_t neigh_table_eth(const struct neigh_table *table, uint64_t mac)
{
    return mac ? next_hop_eth(mac, neigh_table_source(table)) : 0;
}

#endif
