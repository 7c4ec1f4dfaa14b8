/* pool.c: the arena, the depot of free bundles, and packets of several slots. */
#include "pkt/pool.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/uio.h>

enum { POOL_SIZE = 512, BUNDLE = POOL_SIZE / 2 };

/*
 * The depot is a stack of bundles. A bundle is named by its first slot, and lists its slots in that slot's own memory, which nobody
 * else uses while it is free. `below` links the stack; it stands apart from the slots because a loser of the race for the top may
 * still read the link of a bundle that the winner has taken. The top carries a count of changes, so that a top which left and
 * came back is not mistaken for one that stayed (ABA).
 */
struct bundle {
    uint32_t n;
    uint32_t slot[BUNDLE];
};
_Static_assert(sizeof(struct bundle) <= POOL_SLOT, "a bundle's list fits into one of its slots");
_Static_assert(sizeof(((struct pool *)0)->free) / sizeof(uint32_t) == POOL_SIZE, "as pool_put() knows it");

struct depot {
    _Atomic uint64_t top;               /* changes << 32 | slot */
    _Atomic uint32_t below[];           /* by slot: the next bundle down, or POOL_NONE */
};

static struct bundle *bundle_at(const struct arena *arena, uint32_t slot)
{
    return (struct bundle *)(void *)arena_slot(arena, slot);
}

static uint64_t top_make(uint64_t old, uint32_t slot)
{
    return ((old >> 32) + 1) << 32 | slot;
}

/* Moves n slots (1..BUNDLE) into the depot. */
static void depot_push(const struct arena *arena, const uint32_t *slots, uint32_t n)
{
    struct depot *depot = arena->depot;
    struct bundle *bundle = bundle_at(arena, slots[0]);
    bundle->n = n;
    memcpy(bundle->slot, slots, n * sizeof *slots);
    uint64_t top = atomic_load_explicit(&depot->top, memory_order_relaxed);
    do
        atomic_store_explicit(&depot->below[slots[0]], (uint32_t)top, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&depot->top, &top, top_make(top, slots[0]), memory_order_release, memory_order_relaxed));
}

/* Takes a bundle out of the depot: copies up to BUNDLE slots and returns how many. */
static uint32_t depot_pop(const struct arena *arena, uint32_t *slots)
{
    struct depot *depot = arena->depot;
    uint64_t top = atomic_load_explicit(&depot->top, memory_order_acquire);
    uint64_t next;
    do {
        if ((uint32_t)top == POOL_NONE)
            return 0;
        next = top_make(top, atomic_load_explicit(&depot->below[(uint32_t)top], memory_order_relaxed));
    } while (!atomic_compare_exchange_weak_explicit(&depot->top, &top, next, memory_order_acquire, memory_order_acquire));
    const struct bundle *bundle = bundle_at(arena, (uint32_t)top);
    uint32_t n = bundle->n;
    memcpy(slots, bundle->slot, n * sizeof *slots);
    return n;
}

static void fill_depot(const struct arena *arena)
{
    uint32_t slots[BUNDLE];
    for (uint32_t first = 0; first < arena->slots; first += BUNDLE) {
        uint32_t n = arena->slots - first < BUNDLE ? arena->slots - first : BUNDLE;
        for (uint32_t i = 0; i < n; i++)
            slots[i] = first + i;
        depot_push(arena, slots, n);
    }
}

int arena_create(struct arena *arena, uint32_t slots)
{
    *arena = (struct arena){.slots = slots};
    int error = mem_map(&arena->mem, (size_t)slots * POOL_SLOT);
    arena->base = arena->mem.base;
    arena->next = malloc(slots * sizeof *arena->next);
    arena->depot = malloc(sizeof *arena->depot + slots * sizeof arena->depot->below[0]);
    if (error || !arena->next || !arena->depot) {
        arena_destroy(arena);
        return DP_ENOMEM;
    }
    atomic_init(&arena->depot->top, POOL_NONE);
    for (uint32_t i = 0; i < slots; i++)
        atomic_init(&arena->depot->below[i], POOL_NONE);
    fill_depot(arena);
    return DP_OK;
}

void arena_destroy(struct arena *arena)
{
    mem_unmap(&arena->mem);
    free(arena->next);
    free(arena->depot);
    *arena = (struct arena){0};
}

void pool_init(struct pool *pool, struct arena *arena)
{
    *pool = (struct pool){.arena = arena};
}

void pool_drain(struct pool *pool)
{
    while (pool->n) {
        uint32_t n = pool->n < BUNDLE ? pool->n : BUNDLE;
        pool->n -= n;
        depot_push(pool->arena, pool->free + pool->n, n);
    }
}

uint32_t arena_free_slots(const struct arena *arena, const struct pool *pools, uint32_t n)
{
    uint32_t slots = 0;
    for (uint32_t i = 0; i < n; i++)
        slots += pools[i].n;
    uint32_t at = (uint32_t)atomic_load(&arena->depot->top);
    for (; at != POOL_NONE; at = atomic_load(&arena->depot->below[at]))
        slots += bundle_at(arena, at)->n;
    return slots;
}

uint32_t pool_refill(struct pool *pool)
{
    pool->n = depot_pop(pool->arena, pool->free);
    return pool->n ? pool->free[--pool->n] : POOL_NONE;
}

/* The half that was freed first goes: the rest is more likely in the cache. */
void pool_spill(struct pool *pool)
{
    depot_push(pool->arena, pool->free, BUNDLE);
    pool->n -= BUNDLE;
    memmove(pool->free, pool->free + BUNDLE, pool->n * sizeof *pool->free);
}

bool pool_pkt_new(struct pool *pool, struct pkt *pkt)
{
    uint32_t slot = pool_get(pool);
    if (slot == POOL_NONE)
        return false;
    pool->arena->next[slot] = POOL_NONE;
    *pkt = (struct pkt){.data = pool_data(pool->arena, slot), .slot = slot, .slots = 1};
    return true;
}

bool pool_pkt_new_len(struct pool *pool, struct pkt *pkt, uint32_t len)
{
    if (!pool_pkt_new(pool, pkt))
        return false;
    uint32_t *next = pool->arena->next;
    uint32_t last = pkt->slot, room = POOL_HEAD_MAX;
    for (; room < len; room += POOL_SLOT) {
        uint32_t slot = pool_get(pool);
        if (slot == POOL_NONE) {
            pool_pkt_free(pool, pkt);
            return false;
        }
        next[last] = slot;
        next[slot] = POOL_NONE;
        last = slot;
        pkt->slots++;
    }
    pkt->len = len;
    pkt->head = (uint16_t)(len < POOL_HEAD_MAX ? len : POOL_HEAD_MAX);
    return true;
}

void pool_pkt_free(struct pool *pool, struct pkt *pkt)
{
    uint32_t slot = pkt->slot;
    for (uint32_t i = pkt->slots; i; i--) {
        uint32_t next = i > 1 ? pool->arena->next[slot] : POOL_NONE;
        pool_put(pool, slot);
        slot = next;
    }
    pkt->slots = 0;
}

/* The run of bytes of a frame at an offset, up to the end of its slot. */
struct run {
    uint8_t *bytes;
    uint32_t len;           /* of the run, as far as the frame goes */
    uint32_t slot;
    uint32_t left;          /* of the frame, behind the run */
};

static inline struct run run_first(const struct pkt *pkt)
{
    return (struct run){pkt->data, pkt->head, pkt->slot, pkt->len - pkt->head};
}

static inline struct run run_next(const struct arena *arena, const struct run *run)
{
    uint32_t slot = arena->next[run->slot], len = run->left < POOL_SLOT ? run->left : POOL_SLOT;
    return (struct run){arena_slot(arena, slot), len, slot, run->left - len};
}

int pkt_iov(const struct arena *arena, const struct pkt *pkt, uint32_t at, uint32_t len, struct iovec *iov, int max)
{
    if (at > pkt->len || len > pkt->len - at)
        return -1;
    int n = 0;
    struct run run = run_first(pkt);
    while (len) {
        if (at < run.len) {
            uint32_t take = run.len - at < len ? run.len - at : len;
            if (n == max)
                return -1;
            iov[n++] = (struct iovec){run.bytes + at, take};
            len -= take;
            at = 0;
        } else {
            at -= run.len;
        }
        if (len)
            run = run_next(arena, &run);
    }
    return n;
}

bool pkt_read(const struct arena *arena, const struct pkt *pkt, uint32_t at, void *to, uint32_t len)
{
    struct iovec iov[POOL_CHAIN_MAX];
    int n = pkt_iov(arena, pkt, at, len, iov, POOL_CHAIN_MAX);
    uint8_t *out = to;
    for (int i = 0; i < n; out += iov[i++].iov_len)
        memcpy(out, iov[i].iov_base, iov[i].iov_len);
    return n >= 0;
}

bool pkt_write(const struct arena *arena, struct pkt *pkt, uint32_t at, const void *from, uint32_t len)
{
    struct iovec iov[POOL_CHAIN_MAX];
    int n = pkt_iov(arena, pkt, at, len, iov, POOL_CHAIN_MAX);
    const uint8_t *in = from;
    for (int i = 0; i < n; in += iov[i++].iov_len)
        memcpy(iov[i].iov_base, in, iov[i].iov_len);
    return n >= 0;
}
