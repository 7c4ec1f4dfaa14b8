/* objects.c: indexes with free lists whose room is found when an index is made, so that giving up and undoing can't fail. */
#include "control/objects.h"
#include <string.h>
#include "dp_api.h"

int objects_create(struct objects *o, size_t size, size_t side_size, uint32_t limit)
{
    const size_t list = sizeof(uint32_t) * limit;
    *o = (struct objects){.size = size, .side_size = side_size, .limit = limit};
    if (mem_reserve(&o->objects, size * limit) || (side_size && mem_reserve(&o->sides, side_size * limit)) || mem_reserve(&o->free.mem, list) ||
        mem_reserve(&o->made.mem, list) || mem_reserve(&o->dropped.mem, list))
        return DP_ENOMEM;
    return DP_OK;
}

void objects_destroy(struct objects *o)
{
    mem_unmap(&o->objects);
    mem_unmap(&o->sides);
    mem_unmap(&o->free.mem);
    mem_unmap(&o->made.mem);
    mem_unmap(&o->dropped.mem);
}

static void push(struct object_list *list, uint32_t index)
{
    ((uint32_t *)list->mem.base)[list->n++] = index;
}

static int extend(struct objects *o)
{
    const size_t n = (size_t)o->used + 1;
    if (o->used == o->limit)
        return DP_EFULL;
    if (mem_commit(&o->objects, n * o->size) || mem_commit(&o->sides, n * o->side_size) || mem_commit(&o->free.mem, n * sizeof(uint32_t)) ||
        mem_commit(&o->made.mem, n * sizeof(uint32_t)) || mem_commit(&o->dropped.mem, n * sizeof(uint32_t)))
        return DP_ENOMEM;
    push(&o->free, o->used++);
    return DP_OK;
}

int objects_make(struct objects *o, uint32_t *index)
{
    int error = o->free.n ? DP_OK : extend(o);
    if (error)
        return error;
    *index = object_list_at(&o->free, --o->free.n);
    push(&o->made, *index);
    return DP_OK;
}

void objects_drop(struct objects *o, uint32_t index)
{
    push(&o->dropped, index);
}

void objects_settle(struct objects *o, bool kept)
{
    const struct object_list *unused = kept ? &o->dropped : &o->made;
    for (uint32_t i = 0; i < unused->n; i++) {
        uint32_t index = object_list_at(unused, i);
        memset(o->objects.base + index * o->size, 0, o->size);
        if (o->side_size)
            memset(o->sides.base + index * o->side_size, 0, o->side_size);
        push(&o->free, index);
    }
    o->made.n = o->dropped.n = 0;
}

size_t objects_bytes(const struct objects *o)
{
    return o->objects.committed + o->sides.committed + o->free.mem.committed + o->made.mem.committed + o->dropped.mem.committed;
}
