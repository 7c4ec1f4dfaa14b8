/*
 * mem.h: memory for tables. A region is mapped whole and populated before use, or is address space of which
 * a growing front is backed by memory, so that what lies in it never moves. All of it is zero at first.
 * Called by all that have tables, on the control thread.
 */
#ifndef MEM_H
#define MEM_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * How much memory several regions may have together. It is asked for here before the kernel is, which
 * answers a process that has more than its share by ending it. One thread at a time.
 */
struct mem_budget {
    size_t limit;           /* bytes; 0: no limit */
    size_t used;
    bool must;              /* what is asked for now was promised: beyond the limit, too */
};

struct mem {
    uint8_t *base;
    size_t reserved;        /* bytes of address space */
    size_t committed;       /* bytes of memory, from base */
    struct mem_budget *budget;  /* set before a region is made, stays when it is unmapped; NULL: none */
};

/* Bytes out of the budget, which may be NULL. 0 or DP_ENOMEM. */
int mem_take(struct mem_budget *budget, size_t bytes);
void mem_give(struct mem_budget *budget, size_t bytes);
/* `bytes` rounded up to pages, huge pages where to be had, every page touched. 0 or DP_ENOMEM. */
int mem_map(struct mem *mem, size_t bytes);
/* Readable and writable from the start, memory a page at a time when it is touched first. 0 or DP_ENOMEM. */
int mem_lazy(struct mem *mem, size_t bytes);
/* Address space only. */
int mem_reserve(struct mem *mem, size_t bytes);
/*
 * Backs at least the first `bytes` of a reservation. 0 or DP_ENOMEM, also when it goes beyond the
 * reservation.
 */
int mem_commit(struct mem *mem, size_t bytes);
void mem_unmap(struct mem *mem);

#endif
