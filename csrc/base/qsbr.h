/*
 * qsbr.h: when may the writer free or reuse what readers might still look at? Each reader counts: an odd
 * number while it may hold references, moved on at every quiescent point between batches; an even one while
 * it holds none (before it blocks, and before it first runs). The writer unlinks, then waits until every
 * reader's number is even or has moved. Readers are workers; the writer is the control thread. (The idea:
 * liburcu's qsbr flavour.) Called by workers and the writer.
 */
#ifndef QSBR_H
#define QSBR_H
#include <stdbool.h>
#include <stdint.h>
#include "dp_api.h"

struct qsbr_reader { _Alignas(64) _Atomic uint64_t count; };

struct qsbr {
    uint32_t n;             /* readers */
    struct qsbr_reader readers[DP_MAX_WORKERS];
};

void qsbr_online(struct qsbr_reader *reader);  /* its thread, before it looks at anything; it was offline */
void qsbr_offline(struct qsbr_reader *reader);      /* before blocking; holds no reference from here on */
void qsbr_quiescent(struct qsbr_reader *reader);    /* between batches, online */
void qsbr_wait(struct qsbr *qsbr);  /* writer only; returns at once when no reader is online */

#endif
