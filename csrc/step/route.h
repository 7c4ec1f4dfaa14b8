/*
 * route.h: where to look for what goes to the router, README.md 2.6. A routing domain and a destination in,
 * the record's key out. Called by from_tenant.
 */
#ifndef ROUTE_H
#define ROUTE_H
#include "base/drop.h"
#include "table/tables.h"

struct route {
    uint32_t subnet;            /* of the record, index; INDEX_NONE: of who asks */
    const uint8_t *ca;          /* of the record: the destination, the next hop, or the wildcard's */
    bool on_link;               /* the destination's own; a miss may fall back to the subnet's wildcard */
    enum drop miss;             /* for want of a record */
};

struct route route_find(const struct tables *tables, uint32_t rdid, unsigned family,
                        const uint8_t *destination);

#endif
