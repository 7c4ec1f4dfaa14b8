/*
 * qsbr.c: every step is a read-modify-write of the reader's counter, by reader and writer alike, so that one
 * of the two comes first: either the writer sees the reader's step and with it that all its earlier reads are
 * done, or the reader's later reads see what the writer unlinked.
 */
#include "base/qsbr.h"
#include <sched.h>
#include <time.h>

enum { QSBR_YIELDS = 64, QSBR_NAP_NS = 20000 };

static void qsbr_step(struct qsbr_reader *reader, uint64_t n)
{
    __atomic_fetch_add((uint64_t *)&reader->count, n, __ATOMIC_SEQ_CST);
}

void qsbr_online(struct qsbr_reader *reader) { qsbr_step(reader, 1); }
void qsbr_offline(struct qsbr_reader *reader) { qsbr_step(reader, 1); }
void qsbr_quiescent(struct qsbr_reader *reader) { qsbr_step(reader, 2); }

/* A batch takes microseconds; a worker that has lost its CPU takes longer. */
static void qsbr_pause(unsigned round)
{
    const struct timespec nap = {.tv_nsec = QSBR_NAP_NS};
    if (round < QSBR_YIELDS)
        sched_yield();
    else
        nanosleep(&nap, NULL);
}

static bool qsbr_unmoved(struct qsbr_reader *reader, uint64_t seen)
{
    return seen & 1 && __atomic_load_n((uint64_t *)&reader->count, __ATOMIC_ACQUIRE) == seen;
}

void qsbr_wait(struct qsbr *qsbr)
{
    uint64_t seen[DP_MAX_WORKERS];
    for (uint32_t i = 0; i < qsbr->n; i++)
        seen[i] = __atomic_fetch_add((uint64_t *)&qsbr->readers[i].count, 0, __ATOMIC_SEQ_CST);
    for (uint32_t i = 0; i < qsbr->n; i++)
        for (unsigned round = 0; qsbr_unmoved(&qsbr->readers[i], seen[i]); round++)
            qsbr_pause(round);
}
