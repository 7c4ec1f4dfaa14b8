/*
 * gateway.h: whose address the router has beside a CA. A routing domain and an address in, a prefix on link
 * and its gateway out. Called by steps of the router that say something to a port; readers.
 */
#ifndef GATEWAY_H
#define GATEWAY_H
#include "table/tables.h"

/* The longest prefix on link that holds the address, and its length; NULL: there is none. */
const struct prefix *gateway_on_link(const struct tables *tables, uint32_t rdid, unsigned family,
                                     const uint8_t *address, unsigned *len);
/* The subnet's gateway beside the address, NULL: there is none. */
const uint8_t *gateway_beside(const struct tables *tables, uint32_t rdid, uint32_t vsid, unsigned family,
                              const uint8_t *address);

/* Where a subnet has none: in IPv6 what the router is called on every link, in IPv4 nobody (NULL). */
static inline const uint8_t *gateway_or_any(const uint8_t *gateway, unsigned family)
{
    return gateway || family == DP_IPV4 ? gateway : router_link_local;
}

#endif
