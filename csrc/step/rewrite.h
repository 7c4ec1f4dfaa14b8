/*
 * rewrite.h: IP rewrite. Replaces both addresses of a parsed packet and fixes IPv4, TCP, UDP and ICMPv6
 * checksums by RFC 1624; a partial checksum's pseudo sum is adjusted instead. UDP 0 stays 0, a computed 0
 * becomes 0xffff. Later fragments: addresses only.
 */
#ifndef REWRITE_H
#define REWRITE_H
#include "pkt/pkt.h"

void rewrite_addresses(struct pkt *pkt, const uint8_t *source, const uint8_t *destination);
/* TTL or hop limit down by one, IPv4 checksum with it. The caller has checked that it is more than 1. */
void rewrite_ttl(struct pkt *pkt);
/* An ICMP or ICMPv6 error message, whose quote shows addresses (not a later fragment). */
bool rewrite_is_icmp_error(const struct pkt *pkt);
/*
 * IPv4 options that steer the packet on the provider's routers or have them write their addresses into it (RFC 791 section 3.1: loose and
 * strict source route, record route, timestamp), or that can't be read to their end.
 */
bool rewrite_has_route_option(const struct pkt *pkt);

#endif
