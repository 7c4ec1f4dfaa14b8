/*
 * objects.h: arrays of what others refer to by index, as table entries do to next hops, rewrites, subnets and
 * vias. They never move. An index that is given up is free again only when every reader has been quiescent,
 * so whoever got it before may still use it. One writer; called by control/, on the control thread.
 */
#ifndef OBJECTS_H
#define OBJECTS_H
#include <stdbool.h>
#include "base/mem.h"

struct object_list {
    struct mem mem;
    uint32_t n;
};

struct objects {
    struct mem objects;
    struct mem sides;                   /* what only the writer keeps of each, by the same index */
    struct object_list free, dropped;   /* indexes; the second since objects_settle() */
    size_t size, side_size;
    uint32_t limit, used;               /* indexes there may be, and were ever in use or free */
};

/* 0 or DP_ENOMEM. */
int objects_create(struct objects *objects, size_t size, size_t side_size, uint32_t limit,
                   struct mem_budget *budget);
void objects_destroy(struct objects *objects);
/*
 * Makes sure that n can be made and, besides, as many as are dropped and will be if n more are; restoring:
 * that n can be made. 0, DP_ENOMEM or DP_EFULL.
 */
int objects_ready(struct objects *objects, uint32_t n, bool restoring);
/* An index whose object and side are all zero. */
uint32_t objects_make(struct objects *objects);
/* Gives an index up, once. */
void objects_drop(struct objects *objects, uint32_t index);
/* Every worker has been quiescent since: frees and clears what was dropped. */
void objects_settle(struct objects *objects);
size_t objects_bytes(const struct objects *objects);

static inline uint32_t objects_live(const struct objects *objects) { return objects->used - objects->free.n; }
static inline uint32_t object_list_at(const struct object_list *list, uint32_t i)
{
    return ((const uint32_t *)list->mem.base)[i];
}

#endif
