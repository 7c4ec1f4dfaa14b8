/*
 * quote.h: what ICMP errors quote, translated with the packet around them; README.md 4.7 and 4.8. A parsed
 * packet and its PAs or CAs in, a reason to drop it out; DROP_NONE: it was no error, or its quote and its
 * checksum are those of the other side now. Called by the paths.
 *
 * Who is told of a packet sent it (RFC 1122 section 3.2.2), and is shown no address but its own and one that
 * it could have sent to: a forged quote tells a tenant nothing.
 */
#ifndef QUOTE_H
#define QUOTE_H
#include "base/drop.h"
#include "pkt/pool.h"
#include "table/tables.h"

/* An ICMP or ICMPv6 error, of a packet that is parsed. */
bool quote_is_error(const struct pkt *pkt);
/* From a port, to be rewritten; pa: of the destination. Its partial checksum, if it had one, is complete. */
enum drop quote_out(const struct port_policy *policy, struct pkt *pkt, const uint8_t *pa);
/*
 * From a rewrite PA of another host to that of `to`, whose CA lives here, to be rewritten and not plain. What
 * else such a packet is asked, too: offload metadata and IPv4 options.
 */
enum drop quote_in(const struct tables *tables, const struct arena *arena, const struct rewrite *to,
                   struct pkt *pkt);
/*
 * From an address that is no PA, to that of `to`: rewritten, and from the gateway, if a router of the
 * provider network tells of a packet that the CA sent.
 */
enum drop quote_from_router(const struct tables *tables, const struct arena *arena, const struct rewrite *to,
                            struct pkt *pkt);

#endif
