/*
 * icmp_error.h: what the router tells the sender of a packet that it refuses, README.md 2.15: an ICMP or
 * ICMPv6 error that quotes it. A packet as its VM sent it, why it dies and const tables in, a frame out.
 * Called by from_tenant.
 */
#ifndef ICMP_ERROR_H
#define ICMP_ERROR_H
#include <stdatomic.h>
#include "base/drop.h"
#include "pkt/pool.h"
#include "table/tables.h"

/* Bytes of the longest frame: an IPv6 packet of 1,280 (RFC 4443 section 2.4c). */
enum { ICMP_ERROR_MAX = ETH_LEN + 1280 };

struct icmp_cause {
    struct pkt *pkt;            /* parsed, from a tenant port; its addresses and TTL are as they came */
    enum drop drop;             /* why it dies: no-route and no-record on the router's way */
    uint32_t mtu;               /* too-big: bytes of the largest IP packet that passes */
};

struct icmp_error {
    struct pkt *pkt;
    uint8_t type, code;
    uint32_t info;              /* what stands behind the checksum: an MTU, a pointer, or 0 */
    uint32_t len;               /* of the frame, bytes */
};

/* Whether its sender is told. *error is what, but for the frame. */
bool icmp_error_is_due(const struct icmp_cause *cause, struct icmp_error *error);
/* Takes one from the port's bucket, by the packet's time in ns. False: it is empty. Any worker. */
bool icmp_error_allowed(_Atomic uint64_t *bucket, uint64_t ns);
/*
 * Writes the frame, from the router to the port, and its length into *error. The packet's partial checksum is
 * completed. False: nobody may say it or be told, or there is no slot for a super-packet's first segment.
 */
bool icmp_error_write(struct icmp_error *error, struct pool *pool, const struct tables *tables,
                      const struct port_policy *policy, uint8_t frame[ICMP_ERROR_MAX]);

#endif
