/* mem.c: huge pages for what is looked up at random, reserved address space for arrays that may not move. */
#include "base/mem.h"
#include <errno.h>
#include <sys/mman.h>
#include "dp_api.h"

enum { PAGE = 4096, HUGE_PAGE = 2 << 20 };
/* Whole huge pages waste up to one of them: not more than a sixteenth of the region. */
#define HUGETLB_MIN ((size_t)16 * HUGE_PAGE)

static size_t mem_round(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

static uint8_t *mem_pages(size_t bytes, int protection, int flags)
{
    void *p = mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/*
 * `bytes` at a multiple of the huge page size, so that the kernel can back all of it but the tail with
 * huge pages.
 */
static uint8_t *mem_aligned(size_t bytes, int protection, int flags)
{
    uint8_t *p = mem_pages(bytes + HUGE_PAGE, protection, flags);
    if (!p)
        return NULL;
    uint8_t *base = (uint8_t *)mem_round((uintptr_t)p, HUGE_PAGE);
    if (base > p)
        munmap(p, (size_t)(base - p));
    munmap(base + bytes, (size_t)(p + HUGE_PAGE - base));
    madvise(base, bytes, MADV_HUGEPAGE);
    return base;
}

/* Page by page only where the kernel does not know how to: memory that it refuses must not be touched. */
static int mem_populate(uint8_t *base, size_t bytes)
{
#ifdef MADV_POPULATE_WRITE
    if (madvise(base, bytes, MADV_POPULATE_WRITE) == 0)
        return DP_OK;
    if (errno != EINVAL)
        return DP_ENOMEM;
#endif
    for (size_t at = 0; at < bytes; at += PAGE)
        *(volatile uint8_t *)(base + at) = 0;
    return DP_OK;
}

int mem_take(struct mem_budget *budget, size_t bytes)
{
    if (!budget)
        return DP_OK;
    if (budget->limit && !budget->must &&
        (budget->used > budget->limit || bytes > budget->limit - budget->used))
        return DP_ENOMEM;
    budget->used += bytes;
    return DP_OK;
}

void mem_give(struct mem_budget *budget, size_t bytes)
{
    if (budget)
        budget->used -= bytes;
}

/* Whole huge pages if they are worth it and there are some; else what is as good as they are. */
static void mem_find(struct mem *mem, size_t bytes)
{
    if (bytes >= HUGETLB_MIN) {
        mem->reserved = mem_round(bytes, HUGE_PAGE);
        mem->base = mem_pages(mem->reserved, PROT_READ | PROT_WRITE, MAP_HUGETLB | MAP_POPULATE);
    }
    if (mem->base)
        return;
    mem->reserved = bytes;
    mem->base = (bytes >= HUGE_PAGE ? mem_aligned : mem_pages)(bytes, PROT_READ | PROT_WRITE, 0);
    if (mem->base && mem_populate(mem->base, bytes)) {
        munmap(mem->base, bytes);
        mem->base = NULL;
    }
}

int mem_map(struct mem *mem, size_t bytes)
{
    struct mem_budget *budget = mem->budget;
    *mem = (struct mem){.budget = budget};
    bytes = mem_round(bytes, PAGE);
    if (mem_take(budget, bytes))
        return DP_ENOMEM;
    mem_find(mem, bytes);
    if (!mem->base) {
        mem_give(budget, bytes);
        return DP_ENOMEM;
    }
    mem->committed = mem->reserved;
    if (budget)
        budget->used += mem->committed - bytes;
    return DP_OK;
}

int mem_reserve(struct mem *mem, size_t bytes)
{
    *mem = (struct mem){.reserved = mem_round(bytes, PAGE), .budget = mem->budget};
    mem->base = mem_aligned(mem->reserved, PROT_NONE, MAP_NORESERVE);
    return mem->base ? DP_OK : DP_ENOMEM;
}

int mem_lazy(struct mem *mem, size_t bytes)
{
    *mem = (struct mem){.reserved = mem_round(bytes, PAGE), .budget = mem->budget};
    mem->base = mem_pages(mem->reserved, PROT_READ | PROT_WRITE, MAP_NORESERVE);
    return mem->base ? DP_OK : DP_ENOMEM;
}

int mem_commit(struct mem *mem, size_t bytes)
{
    if (bytes <= mem->committed)
        return DP_OK;
    if (bytes > mem->reserved)
        return DP_ENOMEM;
    size_t to = bytes + bytes / 8;
    to = mem_round(to, to < HUGE_PAGE ? PAGE : HUGE_PAGE);
    if (to > mem->reserved)
        to = mem->reserved;
    if (mem_take(mem->budget, to - mem->committed)) {
        to = mem_round(bytes, PAGE);    /* no more than is needed, then */
        if (mem_take(mem->budget, to - mem->committed))
            return DP_ENOMEM;
    }
    if (mprotect(mem->base + mem->committed, to - mem->committed, PROT_READ | PROT_WRITE)) {
        mem_give(mem->budget, to - mem->committed);
        return DP_ENOMEM;
    }
    mem->committed = to;
    return DP_OK;
}

void mem_unmap(struct mem *mem)
{
    if (mem->base)
        munmap(mem->base, mem->reserved);
    mem_give(mem->budget, mem->committed);
    *mem = (struct mem){.budget = mem->budget};
}
