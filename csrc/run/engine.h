/*
 * engine.h: the engine, seen by run/ alone. The control thread owns all of it but what the workers own
 * (worker.h), and publishes through atomics; it frees what workers may still read after qsbr_wait().
 */
#ifndef ENGINE_H
#define ENGINE_H
#include "control/control.h"
#include "run/worker.h"

struct dp {
    struct dp_config config;
    struct arena arena;
    struct tables *_Atomic tables;
    port_slot ports[DP_MAX_PORTS];
    struct port *stopped[DP_MAX_PORTS]; /* no worker's any more, and not yet detached */
    struct neigh_table *neigh;
    struct qsbr qsbr;
    struct subnet_counters subnets;
    struct control control;             /* the same objects, as the writer of tables knows them */
    struct worker *workers;             /* config.workers of them */
    _Atomic bool stopping;
    bool running;
    int last_errno;
};

static inline struct tables *dp_tables(const struct dp *dp) { return control_tables(&dp->control); }
static inline struct port *dp_port(const struct dp *dp, uint32_t id) { return port_at(dp->ports, id); }

#endif
