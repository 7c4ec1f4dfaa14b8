/*
 * qsbr.h: when may the writer free or reuse what readers might still look at? Each worker counts: an odd number while it may hold
 * references to tables, moved on at every quiescent point between batches; an even one while it holds none (before it blocks, and
 * before it first runs). The writer unlinks, then waits until every worker's number is even or has moved.
 */
#ifndef QSBR_H
#define QSBR_H
#include "engine.h"

void qsbr_online(struct worker *worker);        /* the worker's thread, before it looks at any table; it was offline */
void qsbr_offline(struct worker *worker);       /* before blocking; holds no reference to any table from here on */
void qsbr_quiescent(struct worker *worker);     /* between batches, online */
void qsbr_wait(struct dp *dp);                  /* control thread only; returns at once when workers are not running */

#endif
