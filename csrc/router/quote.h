/*
 * quote.h: what ICMP errors quote, translated with the packet around them; README.md 4.7. A parsed packet and
 * its PAs or CAs in, a reason to drop it out; DROP_NONE: it was no error, or its quote and its checksum are
 * those of the other side now, and its own addresses are still to be rewritten. Called by the paths.
 *
 * Who is told of a packet sent it (RFC 1122 section 3.2.2), and is shown no address but its own and one that
 * it could have sent to: a forged quote tells a tenant nothing.
 */
#ifndef QUOTE_H
#define QUOTE_H
#include "base/drop.h"
#include "pkt/pkt.h"
#include "table/tables.h"

/* An ICMP or ICMPv6 error, of a packet that is parsed. */
bool quote_is_error(const struct pkt *pkt);
/* From a port, by rewrite; pa: of the destination. Its partial checksum, if it had one, is complete. */
enum drop quote_out(const struct port_policy *policy, struct pkt *pkt, const uint8_t *pa);
/* From a rewrite PA of another host to that of `to`, whose CA lives here. The same of its checksum. */
enum drop quote_in(const struct tables *tables, const struct rewrite *to, struct pkt *pkt);

#endif
