/*
 * wire.h: headers on the wire, their constants, and unaligned big-endian loads and stores. Bytes in, numbers
 * out, and back. Used by every floor.
 */
#ifndef WIRE_H
#define WIRE_H
#include <stdint.h>
#include <string.h>

enum {
    ETH_LEN = 14,
    VLAN_LEN = 4,
    ARP_LEN = 28,
    IP4_LEN = 20,
    IP6_LEN = 40,
    TCP_LEN = 20,
    UDP_LEN = 8,
    ICMP_LEN = 8,
    GRE_LEN = 8,                        /* with a key, RFC 2890 */
    ND_LEN = 24,                        /* NS and NA up to their options */
    NVGRE4_LEN = ETH_LEN + IP4_LEN + GRE_LEN,
    NVGRE6_LEN = ETH_LEN + IP6_LEN + GRE_LEN,
};

enum {
    ETHERTYPE_IP4 = 0x0800, ETHERTYPE_ARP = 0x0806, ETHERTYPE_VLAN = 0x8100, ETHERTYPE_QINQ = 0x88a8,
    ETHERTYPE_IP6 = 0x86dd,
};

enum {
    PROTO_HOPOPTS = 0, PROTO_ICMP = 1, PROTO_TCP = 6, PROTO_UDP = 17, PROTO_ROUTING = 43, PROTO_FRAGMENT = 44,
    PROTO_GRE = 47, PROTO_AH = 51, PROTO_ICMP6 = 58, PROTO_NONE = 59, PROTO_DSTOPTS = 60, PROTO_SCTP = 132,
    PROTO_DCCP = 33, PROTO_UDPLITE = 136,
};

enum { IP4_DF = 0x4000, IP4_MF = 0x2000, IP4_OFFSET = 0x1fff };
enum {
    IP4_OPT_END = 0, IP4_OPT_NOP = 1, IP4_OPT_RR = 7, IP4_OPT_TIMESTAMP = 68, IP4_OPT_LSRR = 131,
    IP4_OPT_SSRR = 137,
};
enum { ARP_REQUEST = 1, ARP_REPLY = 2 };
enum { ICMP_ECHO_REPLY = 0, ICMP_ECHO = 8, ICMP6_ECHO = 128, ICMP6_ECHO_REPLY = 129 };
enum {
    ND_RS = 133, ND_RA = 134, ND_NS = 135, ND_NA = 136, ND_REDIRECT = 137, ND_OPT_SLLA = 1, ND_OPT_TLLA = 2,
};
enum { ND_NA_ROUTER = 0x80, ND_NA_SOLICITED = 0x40, ND_NA_OVERRIDE = 0x20 };
enum { MLD_QUERY = 130, MLD_REPORT = 131, MLD_DONE = 132, MLD2_REPORT = 143 };
enum {
    GRE_C = 0x8000, GRE_K = 0x2000, GRE_S = 0x1000, GRE_BITS_1_4_5 = 0x4c00, GRE_VERSION = 0x0007,
    GRE_TEB = 0x6558,
};
/* RFC 7637 section 3.4: 0..0xFFF reserved, 0xFFFFFF vendor NVE */
enum { VSID_MIN = 0x1000, VSID_MAX = 0xfffffe };

static inline uint16_t get16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static inline uint32_t get32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return __builtin_bswap32(v); }
static inline void put16(uint8_t *p, uint16_t v) { p[0] = (uint8_t)(v >> 8); p[1] = (uint8_t)v; }
static inline void put32(uint8_t *p, uint32_t v) { v = __builtin_bswap32(v); memcpy(p, &v, 4); }

/* Words as they lie in memory: for comparing and hashing only. */
static inline uint16_t load16(const uint8_t *p) { uint16_t v; memcpy(&v, p, 2); return v; }
static inline uint32_t load32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return v; }
static inline uint64_t load64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return v; }

#endif
