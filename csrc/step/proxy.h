/*
 * proxy.h: the distributed router and the ARP/ND proxy: what becomes of a request for a known CA or a
 * gateway, or of a ping to a gateway. A parsed packet and const tables in, a verdict out; requests become
 * their answers in place. Called by the paths.
 */
#ifndef PROXY_H
#define PROXY_H
#include "base/drop.h"
#include "pkt/pool.h"
#include "table/tables.h"

enum proxy_action {
    PROXY_DROP,             /* for the reason */
    PROXY_CONSUME,          /* it ends here as intended */
    PROXY_ANSWER,           /* it has become its answer, which goes back to where it came from */
};

struct proxy_verdict {
    enum proxy_action action;
    enum drop drop;
};

/* From a tenant port: an ARP or ND packet (parsed, tag stripped, source MAC checked). README.md 2.2, 2.3. */
struct proxy_verdict proxy_arpnd(const struct tables *tables, const struct port_policy *policy,
                                 struct pkt *pkt);
/* A packet to a gateway CA: an echo request is answered, else router-local. README.md 2.7. */
struct proxy_verdict proxy_router(const struct arena *arena, const struct tables *tables, struct pkt *pkt);
/*
 * Through the tunnel, README.md 3.10: a parsed inner frame, ND valid and neither RA nor redirect, whose
 * sender is known to live on the host that sent it. An answer is parsed anew, but for ARP.
 */
struct proxy_verdict proxy_tunnel(const struct tables *tables, const struct subnet *subnet, struct pkt *pkt);

#endif
