/* pool.c: the arena, the depot of free bundles, and packets of several slots. */
#include "pkt/pool.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include "pkt/cursor.h"

enum { POOL_SIZE = 512, BUNDLE = POOL_SIZE / 2 };

/*
 * The depot is a stack of bundles. A bundle is named by its first slot, and lists its slots in that slot's
 * own memory, which nobody else uses while it is free. `below` links the stack; it stands apart from the
 * slots because a loser of the race for the top may still read the link of a bundle that the winner has
 * taken. The top carries a count of changes, so that a top which left and came back is not mistaken for one
 * that stayed (ABA).
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

static struct bundle *pool_bundle_at(const struct arena *arena, uint32_t slot)
{
    return (struct bundle *)(void *)arena_slot(arena, slot);
}

static uint64_t pool_top_make(uint64_t old, uint32_t slot)
{
    return ((old >> 32) + 1) << 32 | slot;
}

/* Moves n slots (1..BUNDLE) into the depot. */
static void pool_depot_push(const struct arena *arena, const uint32_t *slots, uint32_t n)
{
    struct depot *depot = arena->depot;
    struct bundle *bundle = pool_bundle_at(arena, slots[0]);
    bundle->n = n;
    memcpy(bundle->slot, slots, n * sizeof *slots);
    uint64_t top = atomic_load_explicit(&depot->top, memory_order_relaxed);
    do
        atomic_store_explicit(&depot->below[slots[0]], (uint32_t)top, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&depot->top, &top, pool_top_make(top, slots[0]),
                                                  memory_order_release, memory_order_relaxed));
}

/* Takes a bundle out of the depot: copies up to BUNDLE slots and returns how many. */
static uint32_t pool_depot_pop(const struct arena *arena, uint32_t *slots)
{
    struct depot *depot = arena->depot;
    uint64_t top = atomic_load_explicit(&depot->top, memory_order_acquire);
    uint64_t next;
    do {
        if ((uint32_t)top == POOL_NONE)
            return 0;
        next = pool_top_make(top, atomic_load_explicit(&depot->below[(uint32_t)top], memory_order_relaxed));
    } while (!atomic_compare_exchange_weak_explicit(&depot->top, &top, next, memory_order_acquire,
                                                    memory_order_acquire));
    const struct bundle *bundle = pool_bundle_at(arena, (uint32_t)top);
    uint32_t n = bundle->n;
    memcpy(slots, bundle->slot, n * sizeof *slots);
    return n;
}

static void pool_depot_fill(const struct arena *arena)
{
    uint32_t slots[BUNDLE];
    for (uint32_t first = 0; first < arena->slots; first += BUNDLE) {
        uint32_t n = arena->slots - first < BUNDLE ? arena->slots - first : BUNDLE;
        for (uint32_t i = 0; i < n; i++)
            slots[i] = first + i;
        pool_depot_push(arena, slots, n);
    }
}

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* In huge pages if they are to be had: else it is as good, but for its speed. */
static int pool_map(struct mem *mem, size_t bytes, int fd)
{
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (base == MAP_FAILED)
        return DP_ENOMEM;
    madvise(base, bytes, MADV_COLLAPSE);
    *mem = (struct mem){.base = base, .reserved = bytes, .committed = bytes};
    return DP_OK;
}

int arena_create(struct arena *arena, uint32_t slots)
{
    return arena_create_in(arena, slots, -1);
}

int arena_create_in(struct arena *arena, uint32_t slots, int fd)
{
    const size_t bytes = (size_t)slots * POOL_SLOT;
    *arena = (struct arena){.slots = slots};
    int error = fd < 0 ? mem_map(&arena->mem, bytes) : pool_map(&arena->mem, bytes, fd);
    arena->base = arena->mem.base;
    arena->segs = calloc(slots, sizeof *arena->segs);
    arena->depot = malloc(sizeof *arena->depot + slots * sizeof arena->depot->below[0]);
    if (error || !arena->segs || !arena->depot) {
        arena_destroy(arena);
        return DP_ENOMEM;
    }
    atomic_init(&arena->depot->top, POOL_NONE);
    for (uint32_t i = 0; i < slots; i++)
        atomic_init(&arena->depot->below[i], POOL_NONE);
    pool_depot_fill(arena);
    return DP_OK;
}

void arena_destroy(struct arena *arena)
{
    mem_unmap(&arena->mem);
    free(arena->segs);
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
        pool_depot_push(pool->arena, pool->free + pool->n, n);
    }
}

uint32_t arena_free_slots(const struct arena *arena, const struct pool *pools, uint32_t n)
{
    uint32_t slots = 0;
    for (uint32_t i = 0; i < n; i++)
        slots += pools[i].n;
    uint32_t at = (uint32_t)atomic_load(&arena->depot->top);
    for (; at != POOL_NONE; at = atomic_load(&arena->depot->below[at]))
        slots += pool_bundle_at(arena, at)->n;
    return slots;
}

uint32_t pool_refill(struct pool *pool)
{
    pool->n = pool_depot_pop(pool->arena, pool->free);
    return pool->n ? pool->free[--pool->n] : POOL_NONE;
}

/* The half that was freed first goes: the rest is more likely in the cache. */
void pool_spill(struct pool *pool)
{
    pool_depot_push(pool->arena, pool->free, BUNDLE);
    pool->n -= BUNDLE;
    memmove(pool->free, pool->free + BUNDLE, pool->n * sizeof *pool->free);
}

bool pool_pkt_new(struct pool *pool, struct pkt *pkt)
{
    uint32_t slot = pool_get(pool);
    if (slot == POOL_NONE)
        return false;
    *pkt = (struct pkt){.data = pool_data(pool->arena, slot), .slot = slot, .slots = 1};
    return true;
}

/* Gives n slots of a chain back. */
static void pool_put_chain(struct pool *pool, uint32_t slot, uint32_t n)
{
    while (n--) {
        uint32_t next = pool->arena->segs[slot].next;
        pool_put(pool, slot);
        slot = next;
    }
}

int pool_grow(struct pool *pool, uint32_t last, uint32_t len)
{
    struct seg *segs = pool->arena->segs;
    const uint32_t first = last;
    int n = 0;
    for (; len; n++) {
        uint32_t take = len < POOL_SLOT ? len : POOL_SLOT, slot = pool_get(pool);
        if (slot == POOL_NONE) {
            pool_put_chain(pool, segs[first].next, (uint32_t)n);
            return -1;
        }
        segs[last] = (struct seg){slot, 0, (uint16_t)take};
        last = slot;
        len -= take;
    }
    return n;
}

bool pool_pkt_new_len(struct pool *pool, struct pkt *pkt, uint32_t len)
{
    if (!pool_pkt_new(pool, pkt))
        return false;
    uint32_t head = len < POOL_HEAD_MAX ? len : POOL_HEAD_MAX;
    int more = pool_grow(pool, pkt->slot, len - head);
    if (more < 0) {
        pool_pkt_free(pool, pkt);
        return false;
    }
    pkt->slots = (uint16_t)(1 + more);
    pkt->len = len;
    pkt->head = (uint16_t)head;
    return true;
}

void pool_pkt_free(struct pool *pool, struct pkt *pkt)
{
    pool_put_chain(pool, pkt->slot, pkt->slots);
    pkt->slots = 0;
}

bool pool_pkt_own(struct pool *pool, struct pkt *pkt)
{
    return pool_chain(pool->arena, pkt).len >= pkt->len || pool_pkt_flat(pool, pkt);
}

bool pool_pkt_flat(struct pool *pool, struct pkt *pkt)
{
    struct pkt flat;
    if (!pool_pkt_new_len(pool, &flat, pkt->len))
        return false;
    struct cursor from = cursor_at(pool->arena, pkt, 0), to = cursor_at(pool->arena, &flat, 0);
    uint8_t *run;
    for (uint32_t left = pkt->len; left;) {
        uint32_t n = cursor_run(&from, left, &run);
        cursor_write(&to, run, n);
        left -= n;
    }
    pool_pkt_free(pool, pkt);
    pkt->data = flat.data;
    pkt->slot = flat.slot;
    pkt->slots = flat.slots;
    pkt->head = flat.head;
    return true;
}

/* `len` bytes from `at` on lie in the frame. */
static bool pool_in_frame(const struct pkt *pkt, uint32_t at, uint32_t len)
{
    return at <= pkt->len && len <= pkt->len - at;
}

int pkt_iov(const struct arena *arena, const struct pkt *pkt, uint32_t at, uint32_t len, struct iovec *iov,
            int max)
{
    if (!pool_in_frame(pkt, at, len))
        return -1;
    struct cursor c = cursor_at(arena, pkt, at);
    int n = 0;
    for (uint8_t *run; len; n++) {
        if (n == max)
            return -1;
        uint32_t take = cursor_run(&c, len, &run);
        iov[n] = (struct iovec){run, take};
        len -= take;
    }
    return n;
}

bool pkt_read(const struct arena *arena, const struct pkt *pkt, uint32_t at, void *to, uint32_t len)
{
    if (!pool_in_frame(pkt, at, len))
        return false;
    struct cursor c = cursor_at(arena, pkt, at);
    uint8_t *out = to;
    for (uint8_t *run; len;) {
        uint32_t n = cursor_run(&c, len, &run);
        memcpy(out, run, n);
        out += n;
        len -= n;
    }
    return true;
}

bool pkt_write(const struct arena *arena, struct pkt *pkt, uint32_t at, const void *from, uint32_t len)
{
    if (!pool_in_frame(pkt, at, len))
        return false;
    struct cursor c = cursor_at(arena, pkt, at);
    cursor_write(&c, from, len);
    return true;
}
