/*
 * pa.h: our PAs as hosts on the provider network see them: answered for by ARP, ND and ping. Called by
 * from_provider and the worker's timers. A worker.
 */
#ifndef PA_H
#define PA_H
#include "host/host.h"

/* Takes an ARP packet, or a valid or invalid ND packet, that came from the underlay. */
void pa_arpnd(const struct host *host, struct pkt *pkt);
/* Takes an echo request to one of our PAs that came from there. */
void pa_echo(const struct host *host, struct pkt *pkt);
/* What other workers handed over, and neighbours that are due: worker 0. Others: nothing. */
void pa_timers(const struct host *host);

#endif
