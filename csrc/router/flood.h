/*
 * flood.h: what is sent to a group in a subnet, README.md section 5. A parsed packet whose source was checked
 * in; a reason to drop it, or a copy out. Called by path/.
 */
#ifndef FLOOD_H
#define FLOOD_H
#include "base/drop.h"
#include "pkt/pool.h"
#include "table/tables.h"

/* Reader. NULL: nothing is copied in the subnet, whose index it is. */
static inline const struct flood *flood_of(const struct tables *tables, uint32_t subnet)
{
    return __atomic_load_n((struct flood *const *)&tables->subnets[subnet].flood, __ATOMIC_ACQUIRE);
}

/* DROP_NONE: packets to groups are copied in the subnet, and this is one whose address and MAC agree. */
enum drop flood_check(const struct tables *tables, uint32_t subnet, const struct pkt *pkt);
/* Within the subnet's limit, of what came in at ports or of what came from the underlay. */
bool flood_allows(const struct flood *flood, struct subnet *subnet, const struct pkt *pkt);
/*
 * MLD that no address of a record needs to speak for: from a host of the flood, and from :: or a link-local
 * address. Inside a tunnel; host: that sent it.
 */
bool flood_is_mld(const struct tables *tables, uint32_t subnet, uint32_t host, const struct pkt *pkt);
/*
 * Its first slot's bytes again; what lies behind them is borrowed. False: there is no slot. Not of a
 * super-packet.
 */
bool flood_copy(struct pool *pool, const struct pkt *pkt, struct pkt *copy);

#endif
