/* flood.c: a copy for each who hears it, or the segments of a super-packet. */
#include "path/flood.h"
#include "path/underlay.h"
#include "port/deliver.h"
#include "router/flood.h"

/* Of a packet on its way to many: how many copies there are so far. */
struct flooding {
    const struct host *host;
    struct pkt *pkt;
    uint32_t subnet, copies;
};

/* To one that hears it: a port, or another host. False: slots have run out. */
static bool flood_to(struct flooding *f, struct port *port, const struct next_hop *nh)
{
    struct io *io = f->host->io;
    struct pkt *pkt = f->pkt;
    struct gso_cut cut = {0};
    if (pkt->gso) /* 5.2.6 */
        cut = gso_begin(io->pool.arena, pkt);
    do {
        struct pkt *copy = io_make(io);
        if (!(pkt->gso ? gso_next(&io->pool, &cut, copy) : flood_copy(&io->pool, pkt, copy)))
            return false;
        f->copies++;
        if (!nh)
            deliver(io, copy, port, f->subnet); /* 5.2.2 */
        else if (!io_dropped(io, copy, underlay_check(f->host, copy, nh)))
            underlay_push(f->host, copy, nh, f->host->tables->subnets[f->subnet].vsid); /* 5.2.3 */
    } while (cut.left);
    return true;
}

static bool flood_to_all(struct flooding *f, const struct flood *flood)
{
    const struct tables *t = f->host->tables;
    const uint32_t hops = f->pkt->in_port == DP_UNDERLAY ? 0 : flood->hops; /* 5.3.3 */
    bool room = true;
    for (uint32_t i = 0; room && i < flood->ports; i++) {
        struct port *port = port_at(f->host->ports, flood->to[i]);
        if (port && flood->to[i] != f->pkt->in_port)
            room = flood_to(f, port, NULL);
    }
    for (uint32_t i = 0; room && i < hops; i++)
        room = flood_to(f, NULL, &t->next_hops[flood->to[flood->ports + i]]);
    return room;
}

void path_flood(const struct host *host, struct pkt *pkt, uint32_t subnet)
{
    struct io *io = host->io;
    const struct flood *flood = flood_of(host->tables, subnet);
    struct flooding f = {.host = host, .pkt = pkt, .subnet = subnet};
    if (!flood) {
        io_drop(io, pkt, DROP_MULTICAST);
    } else if (!flood_allows(flood, &host->tables->subnets[subnet], pkt)) { /* 5.2.1 */
        io_drop(io, pkt, DROP_BROADCAST_LIMIT);
    } else if (!flood_to_all(&f, flood)) { /* 5.2.8 */
        io_originated(io, pkt->in_port, f.copies);
        io_drop_lent(io, pkt, DROP_NO_SLOT);
    } else if (f.copies == 0) { /* 5.2.5 */
        io_drop(io, pkt, DROP_NO_RECEIVER);
    } else {
        io_originated(io, pkt->in_port, f.copies - 1); /* 5.2.7 */
        io_spend(io, pkt);
    }
}
