/*
 * frames.h: flat frames for the C tests, made and summed by the slowest means, and their way into packets.
 * Sums here are of big-endian numbers, byte by byte: nothing is shared with csum.c.
 */
#ifndef FRAMES_H
#define FRAMES_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "pkt/parse.h"
#include "pkt/pool.h"

enum { FRAME_MAX = 66000 };

struct frame {
    uint32_t len;
    uint8_t bytes[FRAME_MAX];
};

/* xorshift64*: the same numbers in every run. */
static uint64_t rnd_state = 0x2545f4914f6cdd1d;
static inline uint32_t rnd(uint32_t bound)
{
    rnd_state ^= rnd_state >> 12;
    rnd_state ^= rnd_state << 25;
    rnd_state ^= rnd_state >> 27;
    return (uint32_t)(rnd_state * 0x2545f4914f6cdd1dull >> 32) % bound;
}

static inline void rnd_fill(uint8_t *bytes, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)rnd(256);
}

static inline uint32_t naive_fold(uint32_t sum)
{
    while (sum > 0xffff)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

static inline uint32_t naive_sum(const uint8_t *bytes, uint32_t len, uint32_t sum)
{
    for (uint32_t i = 0; i < len; i++)
        sum = naive_fold(sum + (i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8));
    return sum;
}

/* Sum of the pseudo header of an IP packet. */
static inline uint32_t naive_pseudo(const uint8_t *ip, uint8_t proto, uint32_t l4len)
{
    uint32_t sum = ip[0] >> 4 == 4 ? naive_sum(ip + 12, 8, 0) : naive_sum(ip + 8, 32, 0);
    return naive_fold(sum + proto + l4len);
}

/* What a receiver gets when it sums an L4 packet with its pseudo header: 0xffff if its checksum is right. */
static inline uint32_t naive_residue(const uint8_t *ip, uint8_t proto, const uint8_t *l4, uint32_t l4len)
{
    return naive_sum(l4, l4len, naive_pseudo(ip, proto, l4len));
}

/* Two sums are the same number: 0 and 0xffff both are zero. */
static inline int same_sum(uint32_t a, uint32_t b) { return a % 0xffff == b % 0xffff; }

static inline unsigned checksum_offset(unsigned family, uint8_t proto)
{
    if (proto == PROTO_TCP || proto == PROTO_UDP)
        return proto == PROTO_TCP ? 16 : 6;
    return proto == PROTO_ICMP || (proto == PROTO_ICMP6 && family == 6) ? 2 : 0;
}

/*
 * Ethernet and IP around l4len bytes of L4, random addresses; the caller fills those in and calls
 * frame_seal(). Returns the offset of L4.
 */
static inline uint32_t frame_ip(struct frame *f, unsigned family, uint8_t proto, uint32_t l4len,
                                uint32_t options)
{
    uint8_t *ip = f->bytes + ETH_LEN;
    uint32_t header = family == 4 ? IP4_LEN + options : IP6_LEN;
    rnd_fill(f->bytes, 12);
    memset(ip, 0, header);
    put16(f->bytes + 12, family == 4 ? ETHERTYPE_IP4 : ETHERTYPE_IP6);
    if (family == 4) {
        ip[0] = (uint8_t)(0x40 | header / 4);
        put16(ip + 2, (uint16_t)(header + l4len));
        rnd_fill(ip + 4, 2);
        ip[8] = 64;
        ip[9] = proto;
        rnd_fill(ip + 12, 8);
        memset(ip + IP4_LEN, 1, options);   /* no-operation */
        put16(ip + 10, (uint16_t)~naive_sum(ip, header, 0));
    } else {
        ip[0] = 0x60;
        put16(ip + 4, (uint16_t)l4len);
        ip[6] = proto;
        ip[7] = 64;
        rnd_fill(ip + 8, 32);
    }
    f->len = ETH_LEN + header + l4len;
    return ETH_LEN + header;
}

/* Writes the L4 checksum at `field`: the whole one, or only the pseudo header's sum. */
static inline void frame_seal(struct frame *f, uint32_t l4, uint8_t proto, uint32_t field, int partial)
{
    uint8_t *ip = f->bytes + ETH_LEN;
    put16(f->bytes + field, 0);
    uint32_t sum = partial ? naive_pseudo(ip, proto, f->len - l4)
                           : 0xffff - naive_residue(ip, proto, f->bytes + l4, f->len - l4);
    put16(f->bytes + field, (uint16_t)(sum == 0 && !partial ? 0xffff : sum));
}

/* An L4 packet of random content with a right checksum, or a partial one. Returns the offset of L4. */
static inline uint32_t frame_l4(struct frame *f, unsigned family, uint8_t proto, uint32_t l4len, int partial)
{
    uint32_t l4 = frame_ip(f, family, proto, l4len, family == 4 ? rnd(3) * 4 : 0);
    uint8_t *h = f->bytes + l4;
    rnd_fill(h, l4len);
    if (proto == PROTO_TCP)
        h[12] = (uint8_t)(0x50 | (h[12] & 15));
    if (proto == PROTO_UDP)
        put16(h + 4, (uint16_t)l4len);
    if (checksum_offset(family, proto))
        frame_seal(f, l4, proto, l4 + checksum_offset(family, proto), partial);
    return l4;
}

/* The frame as a packet, with `head` bytes (at most POOL_HEAD_MAX) in the first slot. */
static inline void frame_to_pkt(struct pool *pool, const struct frame *f, struct pkt *pkt, uint32_t head)
{
    struct arena *arena = pool->arena;
    uint32_t at = f->len < head ? f->len : head, last;
    assert_true(pool_pkt_new(pool, pkt));
    pkt->len = f->len;
    pkt->head = (uint16_t)at;
    memcpy(pkt->data, f->bytes, at);
    for (last = pkt->slot; at < f->len; at += POOL_SLOT) {
        uint32_t slot = pool_get(pool), n = f->len - at < POOL_SLOT ? f->len - at : POOL_SLOT;
        assert_int_not_equal(slot, POOL_NONE);
        memcpy(arena_slot(arena, slot), f->bytes + at, n);
        arena->next[last] = slot;
        arena->next[slot] = POOL_NONE;
        last = slot;
        pkt->slots++;
    }
}

static inline void frame_of_pkt(const struct arena *arena, const struct pkt *pkt, struct frame *f)
{
    f->len = pkt->len;
    assert_true(pkt->len <= FRAME_MAX);
    assert_true(pkt_read(arena, pkt, 0, f->bytes, pkt->len));
}

#endif
