/* nvgre.h: the NVGRE tunnel (RFC 7637): a next hop's template, push and pop. Called by control/ and paths. */
#ifndef NVGRE_H
#define NVGRE_H
#include <immintrin.h>
#include "base/drop.h"
#include "base/hot.h"
#include "pkt/pkt.h"
#include "table/tables.h"

/*
 * Fills header, header_len, family and sum of a next hop from addresses; `eth` stays 0 and the source MAC is
 * set.
 */
void nvgre_template(struct next_hop *nh, unsigned family, const uint8_t *source_pa, const uint8_t *pa,
                    const uint8_t *underlay_mac);

/* All but the eth word, which is the neighbour's. */
bool nvgre_same(const struct next_hop *a, const struct next_hop *b);
/*
 * Takes all but the eth word from `like`, and opens the next hop, which has been closed (length 0) since all
 * readers were quiescent.
 */
void nvgre_set(struct next_hop *nh, const struct next_hop *like);

/*
 * Outer TTL or hop limit, as sent. A redirected packet has another, that tells it from the rest wherever it
 * arrives: a TTL never grows.
 */
enum { NVGRE_TTL = 64, NVGRE_TTL_REDIRECTED = 32 };

/* A copy of a next hop, whose header is a redirected packet's. Reader. */
void nvgre_redirecting(struct next_hop *to, const struct next_hop *nh);

/*
 * Copies a next hop's header to `to` and returns its first word, which is 0 while the neighbour is unknown:
 * it is loaded once, and whole (x86-64: aligned words of a vector are), so what is returned is what was
 * copied.
 */
HOT uint64_t nvgre_copy(uint8_t *to, const struct next_hop *nh, unsigned len)
{
#ifdef __SANITIZE_THREAD__
    uint64_t eth = __atomic_load_n((const uint64_t *)&nh->eth, __ATOMIC_RELAXED);
    memcpy(to + 8, nh->header + 8, len - 8);
    memcpy(to, &eth, 8);
    return eth;
#else
    __m256i first = _mm256_loadu_si256((const __m256i *)(const void *)nh->header);
    __m256i last = _mm256_loadu_si256((const __m256i *)(const void *)(nh->header + len - 32));
    __asm__ volatile("" ::: "memory");
    _mm256_storeu_si256((__m256i *)(void *)(to + len - 32), last);
    _mm256_storeu_si256((__m256i *)(void *)to, first);
    return (uint64_t)_mm_cvtsi128_si64(_mm256_castsi256_si128(first));
#endif
}

/*
 * The IPv4 outer header before a frame of `len` bytes at `frame`, by a next hop whose header_len is
 * NVGRE4_LEN. Returns its first word.
 */
HOT uint64_t nvgre_push4(uint8_t *frame, uint32_t len, const struct next_hop *nh, uint32_t key, uint8_t tos)
{
    uint8_t *h = frame - NVGRE4_LEN, *ip = h + ETH_LEN;
    uint16_t total = __builtin_bswap16((uint16_t)(len + NVGRE4_LEN - ETH_LEN));
    uint32_t sum = (uint32_t)nh->sum + total + ((uint32_t)tos << 8);
    sum +=
        sum << 16 | sum >> 16; /* both halves' sum with its carry, in the upper half; the sum is below 2^18 */
    uint64_t eth = nvgre_copy(h, nh, NVGRE4_LEN);
    ip[1] = tos; /* 2.11.10 */
    memcpy(ip + 2, &total, 2);
    sum = ~sum >> 16;
    memcpy(ip + 10, &sum, 2);
    put32(h + NVGRE4_LEN - 4, key); /* 2.11.9 */
    return eth;
}

/*
 * Puts the outer header before the frame. Returns its first word: 0 is written as it is, the neighbour fills
 * it in. nh->header_len is NVGRE4_LEN or NVGRE6_LEN; csum_start stays as it is.
 */
HOT uint64_t nvgre_push(struct pkt *pkt, const struct next_hop *nh, uint32_t vsid, uint8_t flowid,
                        uint8_t tos)
{
    if (__builtin_expect(next_hop_header_len(nh) == NVGRE4_LEN, 1)) {
        uint64_t eth = nvgre_push4(pkt->data, pkt->len, nh, vsid << 8 | flowid, tos);
        pkt_push_whole(pkt, NVGRE4_LEN);
        return eth;
    }
    uint8_t *h = pkt_push_whole(pkt, NVGRE6_LEN), *ip = h + ETH_LEN;
    uint64_t eth = nvgre_copy(h, nh, NVGRE6_LEN);
    ip[0] = (uint8_t)(0x60 | tos >> 4); /* 2.11.10 */
    ip[1] = (uint8_t)(tos << 4);
    put16(ip + 4, (uint16_t)(pkt->len - ETH_LEN - IP6_LEN));
    put32(h + NVGRE6_LEN - 4, vsid << 8 | flowid); /* 2.11.9 */
    return eth;
}

/*
 * Checks the GRE header at pkt->l4 of a parsed outer packet; DROP_NONE: *vsid is set, and *len is what to pop
 * up to the inner frame.
 */
enum drop nvgre_check(const struct pkt *pkt, uint32_t *vsid, uint16_t *len);
/* Ends the packet where the outer one does, takes `len` bytes off and parses what was within. */
enum drop nvgre_pop(struct pkt *pkt, uint16_t len);
/*
 * RFC 6040 section 4.2, figure 4: merges the outer ECN field into the parsed inner packet. False: must be
 * dropped.
 */
bool nvgre_ecn(struct pkt *inner, uint8_t outer_tos);

#endif
