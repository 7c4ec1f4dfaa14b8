/*
 * neigh_table.h: the entries behind neigh.h: found by address, chained to the next hops whose eth word they
 * give. Private to neigh.c and neigh_table.c. Each field says who writes it; "worker 0" is the control thread
 * when there are no threads.
 */
#ifndef NEIGH_TABLE_H
#define NEIGH_TABLE_H
#include "base/mem.h"
#include "host/neigh.h"
#include "host/ring.h"

enum neigh_queue_id { NEIGH_RETRY, NEIGH_FRESH, NEIGH_QUEUES };

/* A MAC in a word: its bytes as they lie in memory, then two zeros. 0: unknown. */
struct neigh {
    uint8_t address[16];
    uint8_t family;
    uint8_t tries;                      /* worker 0: requests since it was last heard of */
    uint8_t queue;                      /* worker 0: the queue it stands in, NEIGH_QUEUES: none */
    _Atomic uint8_t state;              /* worker 0; all read: enum dp_neigh_state */
    _Atomic uint32_t held;              /* worker 0; all read */
    _Atomic uint32_t users;             /* control; all read: next hops in the chain */
    _Atomic uint32_t first;             /* control; worker 0 reads: the chain */
    uint32_t next_in_bucket;            /* never changes once the entry can be found */
    uint32_t before, behind;            /* worker 0: in its queue */
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

enum { NEIGH_BUCKETS = 1 << 14 };

struct neigh_table {
    struct next_hop *next_hops;         /* the tables' */
    struct qsbr *qsbr;
    uint32_t workers;
    int wake_fd;                        /* of worker 0 */
    struct mem entries_mem, holds_mem, previous_mem;
    struct neigh *entries;
    struct neigh_hold *holds;           /* worker 0, by entry; memory is touched only if something is held */
    uint32_t *previous;                 /* control: by next hop, the one before it in its chain */
    _Atomic uint32_t count;             /* control; all read */
    _Atomic uint64_t source;            /* control; all read: the underlay MAC's part of an eth word */
    _Atomic uint32_t slots;             /* all: that held packets and those in the rings have */
    struct neigh_queue queues[NEIGH_QUEUES];    /* worker 0 */
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
/* An address in 16 bytes: IPv4 in the first four. */
static inline void neigh_table_widen(uint8_t wide[16], unsigned family, const uint8_t *address)
{
    memset(wide, 0, 16);
    memcpy(wide, address, family == DP_IPV4 ? 4 : 16);
}

/* Any thread. NULL: none. */
struct neigh *neigh_table_find(struct neigh_table *table, unsigned family, const uint8_t *address);
/* Control thread. NULL: out of memory, or of room. */
struct neigh *neigh_table_make(struct neigh_table *table, unsigned family, const uint8_t *address);

/* Worker 0: the MAC, 0: unknown, and with it the eth word of each next hop. */
void neigh_table_set_mac(struct neigh_table *table, struct neigh *e, uint64_t mac);
/* The first 8 bytes of a frame to this MAC; 0 if it is unknown. */
static inline uint64_t neigh_table_eth(const struct neigh_table *table, uint64_t mac)
{
    return mac ? mac | atomic_load_explicit(&table->source, memory_order_relaxed) : 0;
}

#endif
