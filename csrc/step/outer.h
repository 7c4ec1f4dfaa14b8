/*
 * outer.h: what may come from the provider network, README.md 3.1 and 3.4 to 3.6. A frame as it was
 * received in, a reason to drop it out. Called by from_provider.
 */
#ifndef OUTER_H
#define OUTER_H
#include "base/drop.h"
#include "base/hot.h"
#include "pkt/pkt.h"
#include "table/tables.h"

/* Parses it. DROP_NONE: it is untagged, from a host, and for the one with this MAC, or ARP or ND for all. */
enum drop outer_check(struct pkt *pkt, const uint8_t *mac);
/* To no rewrite PA of this host. to: what the PA yields. DROP_NONE: a tunnel, or an echo request. */
enum drop outer_check_shared(const struct pkt *pkt, uint32_t to);

/* The rewrite of a PA that stands for a CA of another host; NULL: it does not. from: what the PA yields. */
HOT const struct rewrite *outer_rewrite_source(const struct tables *tables, uint32_t from)
{
    const struct rewrite *rewrite = &tables->rewrites[act_index(from)];
    if (__builtin_expect(act_kind(from) != ACT_PA_REWRITE, 0))
        return NULL;
    return rewrite->vsid == 0 || rewrite->host == tables->self_host ? NULL : rewrite;
}

HOT enum drop outer_check_rewrite(const struct rewrite *from, const struct rewrite *to)
{
    if (to->vsid == 0) /* 3.5.3 */
        return DROP_REWRITE_UNBOUND;
    return from->rdid != to->rdid ? DROP_REWRITE_RDID : DROP_NONE; /* 3.5.4 */
}

#endif
