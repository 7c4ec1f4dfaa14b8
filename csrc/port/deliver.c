/* deliver.c: what is rarely delivered at once: super-packets, and what can't be. */
#include "port/deliver.h"

void deliver_rest(struct io *io, struct pkt *pkt, struct port *port, uint32_t subnet)
{
    if (!io_dropped(io, pkt, deliver_check(port, pkt)))
        deliver_send(io, pkt, port, subnet);
}
