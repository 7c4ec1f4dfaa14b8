/*
 * addr.h: what addresses are. Takes bytes in network order: IPv4 4, IPv6 16, or the family. Used by every
 * floor.
 */
#ifndef ADDR_H
#define ADDR_H
#include <stdbool.h>
#include "base/wire.h"
#include "dp_api.h"

/* No index: of a slot, a neighbour, a subnet, a next hop. */
enum { INDEX_NONE = 0xffffffff };

static inline bool is_any(unsigned family, const uint8_t *address)
{
    return family == DP_IPV4 ? load32(address) == 0 : (load64(address) | load64(address + 8)) == 0;
}

static inline uint8_t addr_bits(unsigned family) { return family == DP_IPV4 ? 32 : 128; }

/* An address in 16 bytes: IPv4 in the first four. */
static inline void addr_widen(uint8_t wide[16], unsigned family, const uint8_t *address)
{
    memset(wide, 0, 16);
    memcpy(wide, address, family == DP_IPV4 ? 4 : 16);
}

static inline bool is_loopback6(const uint8_t *address)
{
    return (load64(address) | (load64(address + 8) ^ __builtin_bswap64(1))) == 0;
}

/*
 * A destination that may lie beyond the link: not 0 (the wildcards' CA), loopback, multicast or broadcast
 * (RFC 1812 section 5.3.7, RFC 4291 sections 2.5.3 and 2.7).
 */
static inline bool is_host(unsigned family, const uint8_t *address)
{
    if (family == DP_IPV4)
        return load32(address) != 0 && address[0] != 127 && address[0] < 224;
    return address[0] != 0xff && !is_any(family, address) && !is_loopback6(address);
}

static inline bool is_link_local(const uint8_t *address6)
{
    return address6[0] == 0xfe && (address6[1] & 0xc0) == 0x80;
}

/* fe80::1: the router's on every link. */
static const uint8_t router_link_local[16] = {0xfe, 0x80, [15] = 1};
/*
 * Link-local and not the router's: a guest may make it as it likes, an interface id has no form that tells
 * whose it is (RFC 7136, RFC 7217).
 */
static inline bool is_guest_link_local(const uint8_t *address6)
{
    return is_link_local(address6) && memcmp(address6, router_link_local, 16);
}

/* The prefix's first `len` bits are those of the address. */
static inline bool prefix_holds(const uint8_t *prefix, unsigned len, const uint8_t *address)
{
    unsigned bytes = len / 8, bits = len % 8;
    if (memcmp(prefix, address, bytes))
        return false;
    return bits == 0 || ((prefix[bytes] ^ address[bytes]) >> (8 - bits)) == 0;
}

static inline int mac_equal(const uint8_t *a, const uint8_t *b)
{
    return load32(a) == load32(b) && load16(a + 4) == load16(b + 4);
}

/*
 * A MAC in the low 48 bits of a word, as it lies. Two bytes behind it are read: in a frame there is always
 * more, and where MACs are kept, too.
 */
static inline uint64_t mac_word(const uint8_t *mac) { return load64(mac) & 0xffffffffffffull; }
/* The same of a MAC behind which there may be nothing. */
static inline uint64_t mac_word_alone(const uint8_t *mac)
{
    uint64_t word = 0;
    memcpy(&word, mac, 6);
    return word;
}

static inline int mac_is_group(const uint8_t *mac) { return mac[0] & 1; }

#endif
