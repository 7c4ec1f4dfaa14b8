/*
 * qsbr.h: when may the writer free or reuse what readers might still look at? Each worker counts a quiescent point between
 * batches and goes offline (an even count... see qsbr.c) before it blocks. The writer waits until every worker has passed one.
 */
#ifndef QSBR_H
#define QSBR_H
#include "engine.h"

void qsbr_online(struct worker *worker);
void qsbr_offline(struct worker *worker);       /* before blocking; holds no reference to any table from here on */
void qsbr_quiescent(struct worker *worker);     /* between batches */
void qsbr_wait(struct dp *dp);                  /* control thread only; returns at once when workers are not running */

#endif
