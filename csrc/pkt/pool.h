/*
 * pool.h: the arena of packet slots, and each worker's pool of free ones.
 *
 * One arena for all workers: POOL_SLOT bytes a slot, aligned to its size, huge pages where to be had (it can
 * be an AF_XDP UMEM). A pool belongs to one worker and is used by its thread alone; pools that run full or
 * dry trade bundles of slots through a lock-free depot, so a packet may be freed by another worker than the
 * one that got it.
 *
 * Segments. A packet's bytes are `head` of them at `data` in its first slot, then those that the arena's side
 * table names: for each slot what follows it, {next slot, where in it, how many bytes}, as far as the frame
 * goes (pkt->len). So the pieces of a received frame need not be full, nor start at their slots' beginnings,
 * and a packet can go on in the payload of another. The first pkt->slots slots of this chain are the packet's
 * own and freed with it. If the frame goes on behind them, that is borrowed: another's, who keeps it as it is
 * until the flush that sends the borrower (io.h). Who keeps a packet longer calls pool_pkt_own() first. There
 * are no reference counts.
 */
#ifndef POOL_H
#define POOL_H
#include "base/mem.h"
#include "pkt/pkt.h"

enum { POOL_SLOT = 4096, POOL_HEADROOM = 254, POOL_HEAD_MAX = 3392, POOL_NONE = 0xffffffff };
/* Slots of the longest frame that a port takes: an IP packet of 64 KiB, its Ethernet header and tag. */
enum { POOL_CHAIN_MAX = 17, POOL_FRAME_MAX = POOL_HEAD_MAX + (POOL_CHAIN_MAX - 1) * POOL_SLOT };
_Static_assert(POOL_FRAME_MAX >= 65535 + 18, "every IP packet fits");

/* What follows a slot of a packet; all of it is undefined behind the end of the frame. */
struct seg {
    uint32_t next;          /* slot */
    uint16_t off, len;      /* bytes, off + len <= POOL_SLOT */
};

struct arena {
    struct mem mem;         /* slots * POOL_SLOT bytes, populated: a page fault costs more than a packet */
    uint8_t *base;
    struct seg *segs;       /* by slot */
    uint32_t slots;
    uint32_t lent;          /* that wait with AF_XDP sockets; the control thread's */
    /* the depot of free bundles is private to pool.c */
    struct depot *depot;
};

struct pool {
    struct arena *arena;
    uint32_t n;             /* free slots at hand */
    uint32_t free[512];
};

int arena_create(struct arena *arena, uint32_t slots);      /* 0 or DP_ENOMEM */
/* The same in the memory behind a descriptor, which others can map too. -1: as arena_create(). */
int arena_create_in(struct arena *arena, uint32_t slots, int fd);
void arena_destroy(struct arena *arena);
void pool_init(struct pool *pool, struct arena *arena);     /* empty: fills from the depot on first use */
void pool_drain(struct pool *pool);  /* gives all back to the depot; the worker has ended */
/* at rest: for leak checks */
uint32_t arena_free_slots(const struct arena *arena, const struct pool *pools, uint32_t n);

uint32_t pool_refill(struct pool *pool);                    /* slow path of pool_get: a slot or POOL_NONE */
void pool_spill(struct pool *pool);                         /* slow path of pool_put */

static inline uint8_t *arena_slot(const struct arena *arena, uint32_t slot)
{
    return arena->base + (size_t)slot * POOL_SLOT;
}

/*
 * Where a new packet's frame starts in its first slot. Slots are 4 KiB apart and would all meet in the same
 * few sets of the L1 cache: frames start in one of eight lines instead. They start 62 bytes into it, so that
 * an outer header, 42 or 62 bytes, goes into the line that receiving has brought into the cache.
 */
enum { POOL_COLOURS = 8, POOL_COLOUR_STEP = 64 };
_Static_assert(POOL_HEADROOM % 64 == NVGRE6_LEN % 64, "as said");
_Static_assert(POOL_HEADROOM + (POOL_COLOURS - 1) * POOL_COLOUR_STEP + POOL_HEAD_MAX <= POOL_SLOT,
               "room for the first slot's part");
static inline uint8_t *pool_data(const struct arena *arena, uint32_t slot)
{
    return arena_slot(arena, slot) + POOL_HEADROOM + slot % POOL_COLOURS * POOL_COLOUR_STEP;
}

static inline uint32_t pool_get(struct pool *pool)
{
    return pool->n ? pool->free[--pool->n] : pool_refill(pool);
}

static inline void pool_put(struct pool *pool, uint32_t slot)
{
    if (pool->n == 512)
        pool_spill(pool);
    pool->free[pool->n++] = slot;
}

/* A packet's own slots: the last, and the bytes of all; the frame may end before that, or go on behind it. */
struct pool_chain {
    uint32_t last, len;
};
static inline struct pool_chain pool_chain(const struct arena *arena, const struct pkt *pkt)
{
    struct pool_chain chain = {pkt->slot, pkt->head};
    for (uint32_t i = 1; i < pkt->slots; i++) {
        chain.len += arena->segs[chain.last].len;
        chain.last = arena->segs[chain.last].next;
    }
    return chain;
}

/*
 * A packet of one slot, empty, `data` behind the headroom; false when no slot is free. Other fields of *pkt
 * become 0.
 */
bool pool_pkt_new(struct pool *pool, struct pkt *pkt);
/*
 * A packet with room for `len` bytes in as many slots as that needs; bytes undefined. False (and nothing
 * taken) when short of slots.
 */
bool pool_pkt_new_len(struct pool *pool, struct pkt *pkt, uint32_t len);
/* Frees the packet's own slots. */
void pool_pkt_free(struct pool *pool, struct pkt *pkt);
/*
 * Copies the packet into as few slots of its own as it needs. False when short of slots: the packet is as it
 * was.
 */
bool pool_pkt_flat(struct pool *pool, struct pkt *pkt);
/* The same if it borrows anything. */
bool pool_pkt_own(struct pool *pool, struct pkt *pkt);
/* Links slots for `len` bytes behind the slot `last`. How many; -1, and none, when there are not enough. */
int pool_grow(struct pool *pool, uint32_t last, uint32_t len);
/*
 * Copies `len` bytes from offset `at` of the frame (all segments) to `to`, or from `from` into the frame; the
 * range is checked, false if outside.
 */
bool pkt_read(const struct arena *arena, const struct pkt *pkt, uint32_t at, void *to, uint32_t len);
bool pkt_write(const struct arena *arena, struct pkt *pkt, uint32_t at, const void *from, uint32_t len);
/*
 * The frame as runs of bytes for readv/writev: fills iov from offset `at` for `len` bytes, returns entries
 * used (<= max) or -1.
 */
struct iovec;
int pkt_iov(const struct arena *arena, const struct pkt *pkt, uint32_t at, uint32_t len, struct iovec *iov,
            int max);

#endif
