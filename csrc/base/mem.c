/* mem.c: huge pages for what is looked up at random, reserved address space for arrays that may not move. */
#include "base/mem.h"
#include <sys/mman.h>
#include "dp_api.h"

enum { PAGE = 4096, HUGE_PAGE = 2 << 20 };
/* Whole huge pages waste up to one of them: not more than a sixteenth of the region. */
#define HUGETLB_MIN ((size_t)16 * HUGE_PAGE)

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

static uint8_t *map_pages(size_t bytes, int protection, int flags)
{
    void *p = mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* `bytes` at a multiple of the huge page size, so that the kernel can back all of it but the tail with huge pages. */
static uint8_t *map_aligned(size_t bytes)
{
    uint8_t *p = map_pages(bytes + HUGE_PAGE, PROT_READ | PROT_WRITE, 0);
    if (!p)
        return NULL;
    uint8_t *base = (uint8_t *)round_up((uintptr_t)p, HUGE_PAGE);
    if (base > p)
        munmap(p, (size_t)(base - p));
    munmap(base + bytes, (size_t)(p + HUGE_PAGE - base));
    madvise(base, bytes, MADV_HUGEPAGE);
    return base;
}

static void populate(uint8_t *base, size_t bytes)
{
#ifdef MADV_POPULATE_WRITE
    if (madvise(base, bytes, MADV_POPULATE_WRITE) == 0)
        return;
#endif
    for (size_t at = 0; at < bytes; at += PAGE)
        *(volatile uint8_t *)(base + at) = 0;
}

int mem_map(struct mem *mem, size_t bytes)
{
    *mem = (struct mem){0};
    bytes = round_up(bytes, PAGE);
    if (bytes >= HUGETLB_MIN) {
        size_t whole = round_up(bytes, HUGE_PAGE);
        mem->base = map_pages(whole, PROT_READ | PROT_WRITE, MAP_HUGETLB | MAP_POPULATE);
        mem->reserved = mem->committed = whole;
    }
    if (!mem->base) {
        mem->base = bytes >= HUGE_PAGE ? map_aligned(bytes) : map_pages(bytes, PROT_READ | PROT_WRITE, 0);
        mem->reserved = mem->committed = bytes;
        if (!mem->base)
            return DP_ENOMEM;
        populate(mem->base, bytes);
    }
    return DP_OK;
}

int mem_lazy(struct mem *mem, size_t bytes)
{
    *mem = (struct mem){.reserved = round_up(bytes, PAGE)};
    mem->base = map_pages(mem->reserved, PROT_READ | PROT_WRITE, MAP_NORESERVE);
    return mem->base ? DP_OK : DP_ENOMEM;
}

int mem_reserve(struct mem *mem, size_t bytes)
{
    *mem = (struct mem){.reserved = round_up(bytes, PAGE)};
    mem->base = map_pages(mem->reserved, PROT_NONE, MAP_NORESERVE);
    return mem->base ? DP_OK : DP_ENOMEM;
}

int mem_commit(struct mem *mem, size_t bytes)
{
    if (bytes <= mem->committed)
        return DP_OK;
    if (bytes > mem->reserved)
        return DP_ENOMEM;
    size_t to = round_up(bytes + bytes / 8, PAGE);
    if (to > mem->reserved)
        to = mem->reserved;
    if (mprotect(mem->base + mem->committed, to - mem->committed, PROT_READ | PROT_WRITE))
        return DP_ENOMEM;
    mem->committed = to;
    return DP_OK;
}

void mem_unmap(struct mem *mem)
{
    if (mem->base)
        munmap(mem->base, mem->reserved);
    *mem = (struct mem){0};
}
