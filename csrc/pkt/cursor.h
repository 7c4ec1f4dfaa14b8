/* cursor.h: walks the bytes of a frame across its slots, in runs that lie together. */
#ifndef CURSOR_H
#define CURSOR_H
#include "pkt/pool.h"

struct cursor {
    const struct arena *arena;
    uint8_t *bytes;             /* the next byte */
    uint32_t left;              /* from there to the end of its slot */
    uint32_t slot;
};

static inline void cursor_next_slot(struct cursor *c)
{
    c->slot = c->arena->next[c->slot];
    c->bytes = arena_slot(c->arena, c->slot);
    c->left = POOL_SLOT;
}

/* At byte `at` of the frame, at <= pkt->len. */
static inline struct cursor cursor_at(const struct arena *arena, const struct pkt *pkt, uint32_t at)
{
    struct cursor c = {arena, pkt->data, pkt->head, pkt->slot};
    while (at > c.left) {
        at -= c.left;
        cursor_next_slot(&c);
    }
    c.bytes += at;
    c.left -= at;
    return c;
}

/* The next run: 1..want bytes, which the caller knows to belong to the frame. Returns its length. */
static inline uint32_t cursor_run(struct cursor *c, uint32_t want, uint8_t **run)
{
    if (c->left == 0)
        cursor_next_slot(c);
    uint32_t n = want < c->left ? want : c->left;
    *run = c->bytes;
    c->bytes += n;
    c->left -= n;
    return n;
}

#endif
