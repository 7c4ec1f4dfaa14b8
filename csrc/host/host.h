/*
 * host.h: what a worker knows of this host while it works on a batch: made anew for each, valid until the
 * worker's next quiescent point. Passed down from run/ to the paths, the provider side and the neighbours.
 */
#ifndef HOST_H
#define HOST_H
#include "port/io.h"
#include "table/tables.h"

struct neigh_table;

struct host {
    struct io *io;
    const struct tables *tables;
    const port_slot *ports;
    struct port *underlay;              /* NULL: it has no device */
    struct neigh_table *neigh;
    uint32_t underlay_mtu;              /* UINT32_MAX without one */
    uint32_t underlay_frame;            /* bytes of an inner frame that fits into it in the longest header */
    uint8_t flowid_mask;                /* 0: FlowIDs are off */
};

#endif
