/*
 * pkt.h: a packet, a batch of packets, and checked ways to its bytes. Used by every floor above.
 *
 * A packet is a list of segments in 4 KiB slots of the arena. Its frame starts at `data` in the first slot,
 * where `head` bytes of it lie; the rest follows in the segments linked from it (pool.h). Every header that
 * is read or written lies in the first slot: ask pkt_has() first. Nothing is copied when the start moves;
 * pkt_push() takes headroom, of which every received packet has POOL_HEADROOM bytes.
 *
 * Ownership: rx gives packets to the batch; each function that takes a packet says whether it ends there
 * (sent, dropped, consumed, held) or goes back to its caller.
 */
#ifndef PKT_H
#define PKT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/addr.h"
#include "base/wire.h"
#include "dp_api.h"

/* Of an IP packet it is the family (dp_api.h). */
enum pkt_l3 { PKT_L3_NONE = 0, PKT_L3_IP4 = 4, PKT_L3_IP6 = 6, PKT_L3_ARP = 1 };
_Static_assert((int)PKT_L3_IP4 == (int)DP_IPV4 && (int)PKT_L3_IP6 == (int)DP_IPV6, "an l3_type is a family");

enum pkt_flag {
    PKT_VLAN = 1,           /* one 802.1Q tag between the MACs and the EtherType */
    PKT_FRAGMENT = 2,       /* any fragment, the first too */
    PKT_LATER = 4,          /* not the first fragment: no L4 header here */
    PKT_PARTIAL = 8,        /* the L4 checksum field holds only the pseudo-header sum (virtio NEEDS_CSUM) */
    /* TCP or UDP right behind an IP header without options or extensions, no tag, no fragment */
    PKT_PLAIN = 16,
    PKT_TUNNELLED = 32,     /* a super-packet under an outer header; its metadata is that of the TCP within */
};

/*
 * Lengths and offsets are in bytes, offsets from `data`. The parser sets flags and l3_end..l3_type; they are
 * void once `data` moves. What every packet needs comes first.
 */
struct pkt {
    uint8_t *data;
    uint32_t len;           /* of the whole frame, all segments */
    uint16_t head;          /* bytes of the frame in the first slot */
    uint8_t flags;          /* enum pkt_flag */
    uint8_t gso;            /* enum dp_gso */
    union {
        struct {
            /* where the IP packet ends, as its header says: l3 + IP length; Ethernet padding may follow */
            uint32_t l3_end;
            uint16_t l4;        /* offset of the L4 header, or of what follows the L3 headers */
            uint8_t l4_proto;   /* IP protocol behind all extension headers */
            uint8_t tos;        /* IPv4 TOS or IPv6 traffic class */
        };
        uint64_t layers;        /* the same, to be set at once */
    };
    uint8_t l3;             /* offset of the L3 header: ETH_LEN, or 18 behind a tag */
    uint8_t l3_type;        /* enum pkt_l3 */
    uint16_t in_port;       /* where it was received: drops are counted there */
    uint32_t slot;          /* first slot */
    uint64_t time;          /* ns: when it came in; what it causes carries it on */
    uint16_t slots;         /* its own */
    uint16_t csum_start;    /* when PKT_PARTIAL */
    uint16_t csum_offset;
    uint16_t gso_size;      /* L4 payload bytes a segment, when gso */
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct pkt) == 64, "a packet descriptor is a cache line");
_Static_assert(offsetof(struct pkt, gso) == offsetof(struct pkt, flags) + 1, "pkt_offloaded() reads both");
_Static_assert(offsetof(struct pkt, l3_type) == offsetof(struct pkt, l3) + 1, "parse_plain() writes both");

struct batch {
    uint32_t n;
    struct pkt pkt[DP_BATCH];
};

/*
 * There is something left to do: a checksum, or to cut it into segments. Ask before parsing: parse_plain()
 * writes half of what is read here at once, and a load can't be served from a store that has only a part of
 * it.
 */
static inline bool pkt_offloaded(const struct pkt *pkt)
{
    return (load16(&pkt->flags) & (0xff00 | PKT_PARTIAL)) != 0;     /* flags, gso */
}

/* The first `len` bytes of the frame can be read and written in the first slot. */
static inline bool pkt_has(const struct pkt *pkt, uint32_t len) { return len <= pkt->head; }

/* Of a parsed IP packet. */
static inline const uint8_t *pkt_source(const struct pkt *pkt)
{
    return pkt->data + pkt->l3 + (pkt->l3_type == PKT_L3_IP4 ? 12 : 8);
}

static inline const uint8_t *pkt_destination(const struct pkt *pkt)
{
    return pkt->data + pkt->l3 + (pkt->l3_type == PKT_L3_IP4 ? 16 : 24);
}

static inline uint8_t pkt_ttl(const struct pkt *pkt)
{
    return pkt->data[pkt->l3 + (pkt->l3_type == PKT_L3_IP4 ? 8 : 7)];
}

/* Takes `len` bytes off the front. The caller has checked pkt_has(pkt, len). */
static inline void pkt_pop(struct pkt *pkt, uint16_t len)
{
    pkt->data += len;
    pkt->len -= len;
    pkt->head = (uint16_t)(pkt->head - len);
    pkt->csum_start = (uint16_t)(pkt->csum_start - len);
}

/*
 * Puts `len` bytes of headroom before the front; their content is undefined. The slot's headroom is the
 * caller's to know.
 */
static inline uint8_t *pkt_push(struct pkt *pkt, uint16_t len)
{
    pkt->data -= len;
    pkt->len += len;
    pkt->head = (uint16_t)(pkt->head + len);
    pkt->csum_start = (uint16_t)(pkt->csum_start + len);
    return pkt->data;
}

/* The same for a packet without a partial checksum, or whose caller moves that: pkt_tunnel(). */
static inline uint8_t *pkt_push_whole(struct pkt *pkt, uint16_t len)
{
    pkt->data -= len;
    pkt->len += len;
    pkt->head = (uint16_t)(pkt->head + len);
    return pkt->data;
}

/* What was within is behind `len` bytes of outer header now, which were pushed whole. */
static inline void pkt_tunnel(struct pkt *pkt, ptrdiff_t len)
{
    pkt->flags |= PKT_TUNNELLED;
    pkt->csum_start = (uint16_t)(pkt->csum_start + len);
}

/*
 * Cuts the frame to its first `len` bytes, len <= pkt->len. Slots that it no longer reaches stay its own
 * until it is freed.
 */
static inline void pkt_trim(struct pkt *pkt, uint32_t len)
{
    pkt->len = len;
    if (pkt->head > len)
        pkt->head = (uint16_t)len;
}

#endif
