/*
 * wake.h: an eventfd that ends a worker's sleep. Any thread may wake. Its thread alone swallows. Called by
 * the engine, neigh and workers.
 */
#ifndef WAKE_H
#define WAKE_H
#include <stdint.h>
#include <unistd.h>

static inline void wake(int fd)
{
    uint64_t one = 1;
    ssize_t wrote = write(fd, &one, sizeof one);
    (void)wrote;                        /* a full counter wakes as well */
}

static inline void wake_swallow(int fd)
{
    uint64_t count;
    ssize_t got = read(fd, &count, sizeof count);
    (void)got;
}

#endif
