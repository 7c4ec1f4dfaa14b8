/* icmp.h: what is answered to pings. A parsed packet in, its answer in place. Called by proxy and pa. */
#ifndef ICMP_H
#define ICMP_H
#include "pkt/pool.h"

/* An echo request that can be answered in place: whole, and without IPv4 options. */
bool icmp_is_echo(const struct pkt *pkt);
/*
 * Turns it into its answer, from `mac`; what the parser found stays true. Checksums by RFC 1624. Counts
 * nothing.
 */
void icmp_echo_reply(const struct arena *arena, struct pkt *pkt, const uint8_t *mac);

#endif
