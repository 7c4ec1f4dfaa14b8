/* neigh_table.c: entries by address, and the eth words of the next hops behind them. */
#include "host/neigh_table.h"
#include <stdlib.h>
#include "base/csum.h"

enum { NEIGH_MAX = 1 << 20 };

/* ---- by address ------------------------------------------------------------------------------ */

static _Atomic uint32_t *neigh_table_bucket(struct neigh_table *table, unsigned family, const uint8_t *wide)
{
    return &table->buckets[csum_crc32c(family, wide, 16) % NEIGH_BUCKETS];
}

struct neigh *neigh_table_find(struct neigh_table *table, unsigned family, const uint8_t *address)
{
    uint8_t wide[16];
    neigh_table_widen(wide, family, address);
    uint32_t at = atomic_load_explicit(neigh_table_bucket(table, family, wide), memory_order_acquire);
    for (; at != INDEX_NONE; at = table->entries[at].next_in_bucket)
        if (table->entries[at].family == family && !memcmp(table->entries[at].address, wide, 16))
            return &table->entries[at];
    return NULL;
}

struct neigh *neigh_table_make(struct neigh_table *table, unsigned family, const uint8_t *address)
{
    struct neigh *e = neigh_table_find(table, family, address);
    uint32_t index = atomic_load_explicit(&table->count, memory_order_relaxed);
    if (e)
        return e;
    if (index == NEIGH_MAX || mem_commit(&table->entries_mem, (index + 1) * sizeof *e) ||
        mem_commit(&table->holds_mem, (index + 1) * sizeof *table->holds))
        return NULL;
    e = &table->entries[index];
    neigh_table_widen(e->address, family, address);
    e->family = (uint8_t)family;
    e->queue = NEIGH_QUEUES;
    atomic_init(&e->first, INDEX_NONE);
    _Atomic uint32_t *bucket = neigh_table_bucket(table, family, e->address);
    e->next_in_bucket = atomic_load_explicit(bucket, memory_order_relaxed);
    atomic_store_explicit(bucket, index, memory_order_release);
    atomic_store_explicit(&table->count, index + 1, memory_order_release);
    return e;
}

/* ---- next hops ------------------------------------------------------------------------------- */

static struct next_hop *neigh_table_hop(const struct neigh_table *table, uint32_t nh)
{
    return &table->next_hops[nh];
}

/*
 * Who brings an eth word up to date when a neighbour is resolved while a next hop joins its chain? Worker 0
 * stores the MAC, then reads the chain. The control thread puts the next hop into the chain, then reads the
 * MAC. All four are in one total order, so at least one of them sees the other's. If both do, the control
 * thread must not be the last with an older MAC: it reads the MAC again behind its store. When that is still
 * the same, worker 0 has either done its walk already, with this MAC, or will walk with a newer one and
 * overwrite. A word of 0 for a moment does no harm: neigh_hold() sends to a known neighbour at once.
 */
static void neigh_table_catch_up(const struct neigh_table *table, const struct neigh *e, struct next_hop *hop)
{
    uint64_t mac;
    do {
        mac = atomic_load(&e->mac);
        atomic_store(&hop->eth, neigh_table_eth(table, mac));
    } while (atomic_load(&e->mac) != mac);
}

void neigh_table_set_mac(struct neigh_table *table, struct neigh *e, uint64_t mac)
{
    if (atomic_load_explicit(&e->mac, memory_order_relaxed) == mac)
        return;
    atomic_store(&e->mac, mac);
    uint64_t word = neigh_table_eth(table, mac);
    for (uint32_t nh = atomic_load(&e->first); nh != INDEX_NONE;) {
        struct next_hop *hop = neigh_table_hop(table, nh);
        atomic_store(&hop->eth, word);
        nh = __atomic_load_n(&hop->sibling, __ATOMIC_ACQUIRE);
    }
}

uint32_t neigh_use(struct neigh_table *table, unsigned family, const uint8_t *address, uint32_t nh)
{
    struct neigh *e = neigh_table_make(table, family, address);
    if (!e || nh >= NEXT_HOPS_MAX ||
        mem_commit(&table->previous_mem, (nh + (size_t)1) * sizeof *table->previous))
        return INDEX_NONE;
    struct next_hop *hop = neigh_table_hop(table, nh);
    uint32_t first = atomic_load_explicit(&e->first, memory_order_relaxed);
    __atomic_store_n(&hop->sibling, first, __ATOMIC_RELAXED);
    table->previous[nh] = INDEX_NONE;
    if (first != INDEX_NONE)
        table->previous[first] = nh;
    atomic_store(&e->first, nh);
    atomic_fetch_add_explicit(&e->users, 1, memory_order_relaxed);
    neigh_table_catch_up(table, e, hop);
    return neigh_table_index(table, e);
}

/* The next hop keeps its own link: worker 0 may be standing on it. */
void neigh_release(struct neigh_table *table, uint32_t neigh, uint32_t nh)
{
    struct neigh *e = &table->entries[neigh];
    uint32_t next = neigh_table_hop(table, nh)->sibling, previous = table->previous[nh];
    if (previous == INDEX_NONE)
        atomic_store(&e->first, next);
    else
        __atomic_store_n(&neigh_table_hop(table, previous)->sibling, next, __ATOMIC_RELEASE);
    if (next != INDEX_NONE)
        table->previous[next] = previous;
    atomic_fetch_sub_explicit(&e->users, 1, memory_order_relaxed);
}

/* Worker 0 may be about to store words with the old source: not any more behind qsbr_wait(). */
void neigh_underlay(struct neigh_table *table, const uint8_t *mac)
{
    atomic_store(&table->source, (uint64_t)load16(mac) << 48);
    qsbr_wait(table->qsbr);
    for (uint32_t i = 0; i < neigh_table_count(table); i++) {
        const struct neigh *e = &table->entries[i];
        uint32_t nh = atomic_load_explicit(&e->first, memory_order_relaxed);
        for (; nh != INDEX_NONE; nh = neigh_table_hop(table, nh)->sibling)
            neigh_table_catch_up(table, e, neigh_table_hop(table, nh));
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

struct neigh_table *neigh_create(uint32_t workers, struct next_hop *next_hops, struct qsbr *qsbr, int wake_fd)
{
    size_t size = sizeof(struct neigh_table) + workers * sizeof(struct ring);
    struct neigh_table *table = aligned_alloc(64, (size + 63) / 64 * 64);
    if (!table)
        return NULL;
    memset(table, 0, size);
    table->next_hops = next_hops;
    table->qsbr = qsbr;
    table->workers = workers;
    table->wake_fd = wake_fd;
    table->queues[NEIGH_RETRY] = (struct neigh_queue){NEIGH_RETRY_NS, INDEX_NONE, INDEX_NONE};
    table->queues[NEIGH_FRESH] = (struct neigh_queue){NEIGH_FRESH_NS, INDEX_NONE, INDEX_NONE};
    for (uint32_t i = 0; i < NEIGH_BUCKETS; i++)
        atomic_init(&table->buckets[i], INDEX_NONE);
    if (mem_reserve(&table->entries_mem, NEIGH_MAX * sizeof *table->entries) ||
        mem_reserve(&table->holds_mem, NEIGH_MAX * sizeof *table->holds) ||
        mem_reserve(&table->previous_mem, NEXT_HOPS_MAX * sizeof *table->previous)) {
        neigh_destroy(table);
        return NULL;
    }
    table->entries = (struct neigh *)(void *)table->entries_mem.base;
    table->holds = (struct neigh_hold *)(void *)table->holds_mem.base;
    table->previous = (uint32_t *)(void *)table->previous_mem.base;
    return table;
}

void neigh_destroy(struct neigh_table *table)
{
    mem_unmap(&table->entries_mem);
    mem_unmap(&table->holds_mem);
    mem_unmap(&table->previous_mem);
    free(table);
}
