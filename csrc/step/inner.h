/*
 * inner.h: who may say what inside a tunnel, README.md 3.9 to 3.12. A popped, parsed packet, what its
 * addresses' lookups yielded and const tables in, a reason to drop it out. Called by from_provider.
 */
#ifndef INNER_H
#define INNER_H
#include "base/drop.h"
#include "pkt/pkt.h"
#include "table/lookup.h"

/*
 * Where the packet came out: the subnet of its VSID (index), and the host that sent it. redirected: which was
 * not the first (3.14.1). excused: it may have been that one, whoever the source is; inner_check() sets it.
 */
struct inner {
    const struct tables *tables;
    uint32_t subnet, sender;
    bool redirected, excused;
};

/*
 * An IP packet: `from`, `to`: what (VSID, source) and (VSID, destination) yield. *to becomes what there is
 * instead, when a route or the subnet's wildcard leads here. DROP_NONE: it is *to's, a port's of this host;
 * or another host's, to be redirected.
 */
enum drop inner_check(struct inner *inner, const struct pkt *pkt, const struct lookup_answer *from,
                      struct lookup_answer *to);
/* The sender of ARP, of ND (whose form is checked first). */
enum drop inner_check_arp(const struct inner *inner, const struct pkt *pkt);
enum drop inner_check_nd(const struct inner *inner, const struct pkt *pkt);

#endif
