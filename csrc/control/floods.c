/*
 * floods.c: who hears what is sent to a group in a subnet, made of its ports and its members at the end of a
 * change set. Called by changes.c, and by rows that change what a flood is made of.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include "control/changes.h"
#include "step/limit.h"

/* ---- touching ------------------------------------------------------------------------------------------ */

/* So that a flood finds room among those of its class, whichever was whose. */
static unsigned flood_class(uint32_t receivers)
{
    return receivers ? 32 - (unsigned)__builtin_clz(receivers) : 0;
}
static size_t flood_size(unsigned class)
{
    return sizeof(struct flood) + ((UINT64_C(1) << class) - 1) * sizeof(uint32_t);
}
static size_t flood_bytes(const struct flood *flood)
{
    return flood ? flood_size(flood_class(flood->ports + flood->hops)) : 0;
}

/* What has no use yet begins with what is next of its class. */
static struct flood **flood_behind(struct flood *spare) { return (struct flood **)(void *)spare; }
static struct flood *flood_spare(struct change *change, unsigned class)
{
    struct flood *spare = change->floods[class];
    if (spare)
        change->floods[class] = *flood_behind(spare);
    return spare;
}

int flood_touch(struct change *change, uint32_t vsid)
{
    struct tables_writer *w = change->writer;
    const uint32_t subnet = change_subnet(change, vsid);
    if (subnet == INDEX_NONE || w->domains[subnet].touched)
        return DP_OK;
    const struct flood *now = change->next->subnets[subnet].flood;
    if (now && !change->restoring) {
        const unsigned class = flood_class(now->ports + now->hops);
        struct flood *spare = malloc(flood_size(class));
        if (!spare)
            return tell_no_memory(&change->tell, DP_ENOMEM);
        *flood_behind(spare) = change->floods[class];
        change->floods[class] = spare;
    }
    w->domains[subnet].touched = true;
    w->domains[subnet].next_touched = w->touched_domains;
    w->touched_domains = subnet + 1;
    return DP_OK;
}

void flood_free_spares(struct change *change)
{
    for (unsigned class = 0; class < FLOOD_CLASSES; class++)
        while (change->floods[class])
            free(flood_spare(change, class));
}

/* ---- floods -------------------------------------------------------------------------------------------- */

/* 5.2.4 */
static int flood_compare(const void *a, const void *b, void *hops)
{
    const struct next_hop *x = (struct next_hop *)hops + *(const uint32_t *)a,
                          *y = (struct next_hop *)hops + *(const uint32_t *)b;
    return x->family != y->family ? x->family - y->family : memcmp(x->pa, y->pa, 16);
}

/* The domain of a port's subnet, if that is touched. */
static struct domain *flood_of_port(struct change *change, uint32_t port)
{
    const struct draft *draft = change->writer->drafts[port];
    const uint32_t subnet = draft && draft->vsid ? change_subnet(change, draft->vsid) : INDEX_NONE;
    return subnet != INDEX_NONE && change->writer->domains[subnet].touched ? &change->writer->domains[subnet]
                                                                           : NULL;
}

/* With room for its ports, which are counted, and with its next hops behind that. */
static int flood_make(struct change *change, uint32_t index)
{
    const struct tables_writer *w = change->writer;
    const struct subnet *subnet = &change->next->subnets[index];
    struct domain *domain = &w->domains[index];
    if (!subnet->flood_per_second || tables_subnet(change->next, subnet->vsid) != index)
        return DP_OK;
    const unsigned class = flood_class(domain->ports + domain->members);
    struct flood *flood = domain->made =
        change->restoring ? flood_spare(change, class) : malloc(flood_size(class));
    if (!flood)
        return tell_no_memory(&change->tell, DP_ENOMEM);
    *flood = (struct flood){.rate = limit_rate(subnet->flood_per_second, subnet->flood_burst)};
    uint32_t *to = flood->to + domain->ports;
    for (uint32_t at = domain->first; at; at = w->members[at - 1].behind)
        to[flood->hops++] = w->members[at - 1].hop;
    qsort_r(to, flood->hops, sizeof *to, flood_compare, change->next->next_hops);
    return DP_OK;
}

int flood_finish(struct change *change)
{
    struct tables_writer *w = change->writer;
    struct domain *domain;
    for (uint32_t at = w->touched_domains; at; at = domain->next_touched) {
        domain = &w->domains[at - 1];
        free(domain->made);             /* what a first try made: no reader has seen it */
        domain->made = NULL;
        domain->ports = 0;
    }
    for (uint32_t port = 0; w->touched_domains && port < DP_MAX_PORTS; port++)
        if ((domain = flood_of_port(change, port)))
            domain->ports++;
    for (uint32_t at = w->touched_domains; at; at = w->domains[at - 1].next_touched) {
        int code = flood_make(change, at - 1);
        if (code)
            return code;
    }
    for (uint32_t port = 0; w->touched_domains && port < DP_MAX_PORTS; port++)
        if ((domain = flood_of_port(change, port)) && domain->made)
            domain->made->to[domain->made->ports++] = port;
    return DP_OK;
}

void flood_publish(struct change *change)
{
    struct tables_writer *w = change->writer;
    for (uint32_t at = w->touched_domains; at; at = w->domains[at - 1].next_touched) {
        struct domain *domain = &w->domains[at - 1];
        struct subnet *subnet = &change->next->subnets[at - 1];
        struct flood *was = subnet->flood, *is = domain->made;
        if (is && !(was && limit_same_rate(&was->rate, &is->rate))) { /* 2.14.1: as a port's */
            atomic_store(&subnet->sent, 0);
            atomic_store(&subnet->heard, 0);
        }
        w->flood_bytes += flood_bytes(is) - flood_bytes(was);
        atomic_store(&subnet->flood, is);
        domain->made = was;
    }
}

void flood_settle(struct change *change)
{
    struct tables_writer *w = change->writer;
    while (w->touched_domains) {
        struct domain *domain = &w->domains[w->touched_domains - 1];
        free(domain->made);
        domain->made = NULL;
        domain->touched = false;
        w->touched_domains = domain->next_touched;
    }
}
