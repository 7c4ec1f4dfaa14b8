/*
 * qsbr.c: every step is a read-modify-write of the worker's counter, by worker and writer alike, so that one of the two comes first: either
 * the writer sees the worker's step and with it that all its earlier reads are done, or the worker's later reads see what the writer unlinked.
 */
#include "qsbr.h"
#include <sched.h>
#include <time.h>

enum { YIELDS = 64, NAP_NS = 20000 };

static void step(struct worker *worker, uint64_t n)
{
    __atomic_fetch_add((uint64_t *)&worker->quiescent, n, __ATOMIC_SEQ_CST);
}

void qsbr_online(struct worker *worker) { step(worker, 1); }
void qsbr_offline(struct worker *worker) { step(worker, 1); }
void qsbr_quiescent(struct worker *worker) { step(worker, 2); }

/* A batch takes microseconds; a worker that has lost its CPU takes longer. */
static void pause_for(unsigned round)
{
    const struct timespec nap = {.tv_nsec = NAP_NS};
    if (round < YIELDS)
        sched_yield();
    else
        nanosleep(&nap, NULL);
}

void qsbr_wait(struct dp *dp)
{
    if (!dp->running)
        return;
    uint64_t seen[DP_MAX_WORKERS];
    for (uint32_t i = 0; i < dp->config.workers; i++)
        seen[i] = __atomic_fetch_add((uint64_t *)&dp->workers[i].quiescent, 0, __ATOMIC_SEQ_CST);
    for (uint32_t i = 0; i < dp->config.workers; i++)
        for (unsigned round = 0; seen[i] & 1 && __atomic_load_n((uint64_t *)&dp->workers[i].quiescent, __ATOMIC_ACQUIRE) == seen[i]; round++)
            pause_for(round);
}
