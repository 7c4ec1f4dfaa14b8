/* route.c: the longest prefix, and what it means for a lookup. */
#include "step/route.h"

struct route route_find(const struct tables *tables, uint32_t rdid, unsigned family,
                        const uint8_t *destination)
{
    static const uint8_t any[16];
    uint32_t act = tables_route(tables, rdid, family, destination);
    if (act_kind(act) == ACT_ONLINK) /* 2.6.4, 2.6.6 */
        return (struct route){act_index(act), destination, true, DROP_NO_RECORD};
    if (act_kind(act) == ACT_VIA) { /* 2.6.7, 2.6.8 */
        const struct via *via = &tables->vias[act_index(act)];
        return (struct route){via->subnet, via->ca, false, DROP_NO_RECORD};
    }
    return (struct route){INDEX_NONE, any, false, DROP_NO_ROUTE}; /* 2.6.2, 2.6.3 */
}
