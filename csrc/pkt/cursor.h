/*
 * cursor.h: the one walk over the bytes of a frame across its segments (pool.h), in runs that lie together.
 * Called by whatever reads, sums, copies, cuts or sends more than a packet's head.
 */
#ifndef CURSOR_H
#define CURSOR_H
#include "pkt/pool.h"

struct cursor {
    const struct arena *arena;
    uint8_t *bytes;             /* the next byte */
    uint32_t left;              /* from there to the end of its segment */
    uint32_t slot;
};

/* At the beginning of a segment. */
static inline struct cursor cursor_of(const struct arena *arena, const struct seg *seg)
{
    return (struct cursor){arena, arena_slot(arena, seg->next) + seg->off, seg->len, seg->next};
}

static inline void cursor_next(struct cursor *c) { *c = cursor_of(c->arena, &c->arena->segs[c->slot]); }

/* At byte `at` of the frame, at <= pkt->len. */
static inline struct cursor cursor_at(const struct arena *arena, const struct pkt *pkt, uint32_t at)
{
    struct cursor c = {arena, pkt->data, pkt->head, pkt->slot};
    while (at > c.left) {
        at -= c.left;
        cursor_next(&c);
    }
    c.bytes += at;
    c.left -= at;
    return c;
}

/* The next run: 1..want bytes, which the caller knows to belong to the frame. Returns its length. */
static inline uint32_t cursor_run(struct cursor *c, uint32_t want, uint8_t **run)
{
    while (c->left == 0)
        cursor_next(c);
    uint32_t n = want < c->left ? want : c->left;
    *run = c->bytes;
    c->bytes += n;
    c->left -= n;
    return n;
}

/* Past `len` bytes, which belong to the frame. */
static inline void cursor_skip(struct cursor *c, uint32_t len)
{
    for (uint8_t *run; len;)
        len -= cursor_run(c, len, &run);
}

/* Copies `len` bytes to where it is, which belong to the frame. */
static inline void cursor_write(struct cursor *c, const uint8_t *from, uint32_t len)
{
    for (uint8_t *run; len;) {
        uint32_t n = cursor_run(c, len, &run);
        memcpy(run, from, n);
        from += n;
        len -= n;
    }
}

/*
 * The segment from here to the end of the one it is in, the next one if this is its end; there are bytes to
 * come.
 */
static inline struct seg cursor_seg(struct cursor *c)
{
    while (c->left == 0)
        cursor_next(c);
    return (struct seg){c->slot, (uint16_t)(c->bytes - arena_slot(c->arena, c->slot)), (uint16_t)c->left};
}

#endif
