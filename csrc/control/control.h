/*
 * control.h: the writer of tables: change sets in, new tables published. Called by the engine, on the control
 * thread; sees neighbours by neigh_use() and neigh_release() alone.
 */
#ifndef CONTROL_H
#define CONTROL_H
#include "base/qsbr.h"
#include "port/stats.h"
#include "host/neigh.h"
#include "table/tables.h"

/* What the writer works on; the engine's. */
struct control {
    struct tables *_Atomic *tables;     /* where they are published */
    struct neigh_table *neigh;
    struct qsbr *qsbr;
    struct subnet_counters *subnets;
};

static inline struct tables *control_tables(const struct control *control)
{
    return __atomic_load_n((struct tables *const *)control->tables, __ATOMIC_ACQUIRE);
}

/* Empty tables of the host that config describes. NULL: out of memory. */
struct tables *tables_create(const struct dp_config *config);
void tables_destroy(struct tables *tables);
/* The body of dp_apply(): decodes, checks, applies all or nothing. May swap *control->tables. */
int tables_apply(struct control *control, const uint8_t *change_set, size_t len,
                 struct dp_change_error *error);
/* The bodies of dp_rollback() and dp_verified(). */
int tables_rollback(struct control *control);
int tables_verified(struct control *control);
/*
 * The underlay got a device with this MAC. It becomes the source of every next hop's header, present and
 * future.
 */
void tables_underlay(struct control *control, const uint8_t *mac);
/* The body of dp_table_stats(). */
void tables_stats(const struct tables *tables, struct dp_table_stats *out);

#endif
