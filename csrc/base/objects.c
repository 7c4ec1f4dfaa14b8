/*
 * objects.c: indexes with free lists whose room is found before an index is made or given up, so that
 * neither can fail.
 */
#include "base/objects.h"
#include <string.h>
#include "dp_api.h"

int objects_create(struct objects *o, size_t size, size_t side_size, uint32_t limit,
                   struct mem_budget *budget)
{
    const size_t list = sizeof(uint32_t) * limit;
    *o = (struct objects){.size = size, .side_size = side_size, .limit = limit};
    o->objects.budget = o->sides.budget = o->free.mem.budget = o->dropped.mem.budget = budget;
    if (mem_reserve(&o->objects, size * limit) || (side_size && mem_reserve(&o->sides, side_size * limit)) ||
        mem_reserve(&o->free.mem, list) || mem_reserve(&o->dropped.mem, list))
        return DP_ENOMEM;
    return DP_OK;
}

void objects_destroy(struct objects *o)
{
    mem_unmap(&o->objects);
    mem_unmap(&o->sides);
    mem_unmap(&o->free.mem);
    mem_unmap(&o->dropped.mem);
}

static void objects_push(struct object_list *list, uint32_t index)
{
    ((uint32_t *)list->mem.base)[list->n++] = index;
}

/* The lowest of the new ones is made first. */
static int objects_extend(struct objects *o, uint32_t more)
{
    if (more > o->limit - o->used)
        return DP_EFULL;
    const size_t n = (size_t)o->used + more;
    if (mem_commit(&o->objects, n * o->size) || mem_commit(&o->sides, n * o->side_size) ||
        mem_commit(&o->free.mem, n * sizeof(uint32_t)) || mem_commit(&o->dropped.mem, n * sizeof(uint32_t)))
        return DP_ENOMEM;
    for (uint32_t i = more; i-- > 0;)
        objects_push(&o->free, o->used + i);
    o->used += more;
    return DP_OK;
}

int objects_ready(struct objects *o, uint32_t n, bool restoring)
{
    uint32_t wanted = restoring ? n : o->dropped.n + 2 * n;
    return o->free.n >= wanted ? DP_OK : objects_extend(o, wanted - o->free.n);
}

uint32_t objects_make(struct objects *o)
{
    return object_list_at(&o->free, --o->free.n);
}

void objects_drop(struct objects *o, uint32_t index)
{
    objects_push(&o->dropped, index);
}

void objects_settle(struct objects *o)
{
    for (uint32_t i = 0; i < o->dropped.n; i++) {
        uint32_t index = object_list_at(&o->dropped, i);
        memset(o->objects.base + index * o->size, 0, o->size);
        if (o->side_size)
            memset(o->sides.base + index * o->side_size, 0, o->side_size);
        objects_push(&o->free, index);
    }
    o->dropped.n = 0;
}

size_t objects_bytes(const struct objects *o)
{
    return o->objects.committed + o->sides.committed + o->free.mem.committed + o->dropped.mem.committed;
}
