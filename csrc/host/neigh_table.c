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
    addr_widen(wide, family, address);
    uint32_t at = atomic_load_explicit(neigh_table_bucket(table, family, wide), memory_order_acquire);
    while (at != INDEX_NONE) {
        struct neigh *e = &table->entries[at];
        if (e->family == family && !memcmp(e->address, wide, 16))
            return e;
        at = atomic_load_explicit(&e->next_in_bucket, memory_order_acquire);
    }
    return NULL;
}

static void neigh_table_enter_bucket(struct neigh_table *table, struct neigh *e)
{
    _Atomic uint32_t *bucket = neigh_table_bucket(table, e->family, e->address);
    uint32_t first = atomic_load_explicit(bucket, memory_order_relaxed);
    atomic_store_explicit(&e->next_in_bucket, first, memory_order_release);
    atomic_store_explicit(bucket, neigh_table_index(table, e), memory_order_release);
}

/* The entry keeps its own link: a worker may be standing on it. */
static void neigh_table_leave_bucket(struct neigh_table *table, struct neigh *e)
{
    _Atomic uint32_t *at = neigh_table_bucket(table, e->family, e->address);
    const uint32_t index = neigh_table_index(table, e);
    while (atomic_load_explicit(at, memory_order_relaxed) != index)
        at = &table->entries[atomic_load_explicit(at, memory_order_relaxed)].next_in_bucket;
    uint32_t next = atomic_load_explicit(&e->next_in_bucket, memory_order_relaxed);
    atomic_store_explicit(at, next, memory_order_release);
}

/* ---- making and giving back ------------------------------------------------------------------ */

static void neigh_table_list(struct neigh_table *table, struct neigh_list *list, uint32_t index)
{
    table->links[index] = INDEX_NONE;
    *(list->n++ ? &table->links[list->last] : &list->first) = index;
    list->last = index;
}

static uint32_t neigh_table_unlist(struct neigh_table *table, struct neigh_list *list)
{
    uint32_t index = list->first;
    list->first = table->links[index];
    list->n--;
    table->links[index] = NEIGH_UNLISTED;
    return index;
}

/* Index of a new entry, INDEX_NONE: out of memory, or of room. */
static uint32_t neigh_table_extend(struct neigh_table *table)
{
    uint32_t index = neigh_table_count(table);
    const size_t n = (size_t)index + 1;
    if (index == NEIGH_MAX || mem_commit(&table->entries_mem, n * sizeof *table->entries) ||
        mem_commit(&table->holds_mem, n * sizeof *table->holds) ||
        mem_commit(&table->links_mem, n * sizeof *table->links))
        return INDEX_NONE;
    struct neigh *e = &table->entries[index];
    e->queue = NEIGH_QUEUES;
    atomic_init(&e->first, INDEX_NONE);
    atomic_init(&e->life, 1);
    table->links[index] = NEIGH_UNLISTED;
    atomic_store_explicit(&table->count, index + 1, memory_order_release);
    return index;
}

/* It stands for this address from here on. neigh_read() may be looking. */
static void neigh_table_begin_life(struct neigh *e, unsigned family, const uint8_t *address)
{
    uint8_t wide[16];
    addr_widen(wide, family, address);
    for (unsigned at = 0; at < 16; at += 8)
        __atomic_store_n((uint64_t *)(void *)(e->address + at), load64(wide + at), __ATOMIC_RELEASE);
    __atomic_store_n(&e->family, (uint8_t)family, __ATOMIC_RELEASE);
    atomic_fetch_add(&e->life, 1);
}

struct neigh *neigh_table_make(struct neigh_table *table, unsigned family, const uint8_t *address)
{
    struct neigh *e = neigh_table_find(table, family, address);
    if (e)
        return e;
    uint32_t index = table->free.n ? neigh_table_unlist(table, &table->free) : neigh_table_extend(table);
    if (index == INDEX_NONE)
        return NULL;
    e = &table->entries[index];
    neigh_table_begin_life(e, family, address);
    neigh_table_enter_bucket(table, e);
    neigh_table_list(table, &table->unused, index);
    table->made++;
    return e;
}

void neigh_table_set_probed(struct neigh_table *table, struct neigh *e, bool probed)
{
    table->probed += (uint32_t)probed - e->probed;
    e->probed = probed;
}

static bool neigh_table_at_rest(struct neigh *e)
{
    return atomic_load_explicit(&e->on_way, memory_order_acquire) == 0 &&
           atomic_load_explicit(&e->users, memory_order_relaxed) == 0 &&
           atomic_load_explicit(&e->state, memory_order_relaxed) == DP_NEIGH_IDLE;
}

/* It has a use: a next hop's, or a MAC for good. */
static bool neigh_table_wanted(const struct neigh *e)
{
    return atomic_load_explicit(&e->users, memory_order_relaxed) ||
           atomic_load_explicit(&e->state, memory_order_relaxed) == DP_NEIGH_FIXED;
}

static void neigh_table_end_life(struct neigh_table *table, struct neigh *e)
{
    atomic_fetch_add(&e->life, 1);
    neigh_table_set_probed(table, e, false);
    neigh_table_list(table, &table->free, neigh_table_index(table, e));
}

void neigh_reclaim(struct neigh_table *table)
{
    struct neigh_list gone = {0};
    uint32_t n = NEIGH_LOOKS + 2 * table->made;     /* faster than they can be made */
    table->made = 0;
    for (n = n < table->unused.n ? n : table->unused.n; n; n--) {
        uint32_t index = neigh_table_unlist(table, &table->unused);
        struct neigh *e = &table->entries[index];
        if (neigh_table_wanted(e))
            continue;
        bool at_rest = neigh_table_at_rest(e);
        if (at_rest)
            neigh_table_leave_bucket(table, e);
        neigh_table_list(table, at_rest ? &gone : &table->unused, index);
    }
    if (gone.n == 0)
        return;
    qsbr_wait(table->qsbr);
    while (gone.n) {
        uint32_t index = neigh_table_unlist(table, &gone);
        struct neigh *e = &table->entries[index];
        if (neigh_table_at_rest(e)) {
            neigh_table_end_life(table, e);
        } else {
            neigh_table_enter_bucket(table, e);
            neigh_table_list(table, &table->unused, index);
        }
    }
}

/* ---- next hops ------------------------------------------------------------------------------- */

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
        struct next_hop *hop = &table->next_hops[nh];
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
    struct next_hop *hop = &table->next_hops[nh];
    uint32_t first = atomic_load_explicit(&e->first, memory_order_relaxed);
    __atomic_store_n(&hop->sibling, first, __ATOMIC_RELAXED);
    table->previous[nh] = INDEX_NONE;
    if (first != INDEX_NONE)
        table->previous[first] = nh;
    atomic_store(&e->first, nh);
    atomic_fetch_add_explicit(&e->users, 1, memory_order_relaxed); /* 2.12.14 */
    neigh_table_set_probed(table, e, false);
    neigh_table_catch_up(table, e, hop);
    return neigh_table_index(table, e);
}

/* The next hop keeps its own link: worker 0 may be standing on it. */
void neigh_release(struct neigh_table *table, uint32_t neigh, uint32_t nh)
{
    struct neigh *e = &table->entries[neigh];
    uint32_t next = table->next_hops[nh].sibling, previous = table->previous[nh];
    if (previous == INDEX_NONE)
        atomic_store(&e->first, next);
    else
        __atomic_store_n(&table->next_hops[previous].sibling, next, __ATOMIC_RELEASE);
    if (next != INDEX_NONE)
        table->previous[next] = previous;
    bool last = atomic_fetch_sub_explicit(&e->users, 1, memory_order_relaxed) == 1;
    if (last && table->links[neigh] == NEIGH_UNLISTED)
        neigh_table_list(table, &table->unused, neigh);
}

/* Worker 0 may be about to store words with the old source: not any more behind qsbr_wait(). */
void neigh_underlay(struct neigh_table *table, const uint8_t *mac)
{
    atomic_store(&table->source, mac_word_alone(mac));
    qsbr_wait(table->qsbr);
    for (uint32_t i = 0; i < neigh_table_count(table); i++) {
        const struct neigh *e = &table->entries[i];
        uint32_t nh = atomic_load_explicit(&e->first, memory_order_relaxed);
        for (; nh != INDEX_NONE; nh = table->next_hops[nh].sibling)
            neigh_table_catch_up(table, e, &table->next_hops[nh]);
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
    table->left = NEIGH_ROUND;
    table->ask_at = INDEX_NONE;
    table->queues[NEIGH_RETRY] = (struct neigh_queue){NEIGH_RETRY_NS, INDEX_NONE, INDEX_NONE};
    for (uint32_t i = 0; i < NEIGH_SPREAD; i++)
        table->queues[NEIGH_FRESH + i] =
            (struct neigh_queue){NEIGH_FRESH_NS - i * NEIGH_SPREAD_NS, INDEX_NONE, INDEX_NONE};
    for (uint32_t i = 0; i < NEIGH_BUCKETS; i++)
        atomic_init(&table->buckets[i], INDEX_NONE);
    int error = mem_reserve(&table->entries_mem, NEIGH_MAX * sizeof *table->entries) ||
                mem_reserve(&table->holds_mem, NEIGH_MAX * sizeof *table->holds) ||
                mem_reserve(&table->links_mem, NEIGH_MAX * sizeof *table->links) ||
                mem_reserve(&table->previous_mem, NEXT_HOPS_MAX * sizeof *table->previous);
    table->entries = (struct neigh *)(void *)table->entries_mem.base;
    table->holds = (struct neigh_hold *)(void *)table->holds_mem.base;
    table->links = (uint32_t *)(void *)table->links_mem.base;
    table->previous = (uint32_t *)(void *)table->previous_mem.base;
    if (error || neigh_table_extend(table) != 0) {
        neigh_destroy(table);
        return NULL;
    }
    return table;
}

void neigh_destroy(struct neigh_table *table)
{
    mem_unmap(&table->entries_mem);
    mem_unmap(&table->holds_mem);
    mem_unmap(&table->links_mem);
    mem_unmap(&table->previous_mem);
    free(table);
}
