/* csum.c: sums of long runs with AVX2, of frames in several slots, and what a partial checksum still lacks. */
#include "csum.h"
#include <immintrin.h>
#include "cursor.h"

enum { SCTP_CHECKSUM = 8 };     /* offset of the CRC32c in an SCTP header, RFC 9260 section 3.1 */

/*
 * Sum of 64-byte blocks. 32-bit words are summed in 64-bit lanes, so that nothing carries: 2^16 is 1 modulo
 * 2^16 - 1, and a lane has room for 2^32 of them.
 */
static uint64_t csum_add_blocks(const uint8_t *p, size_t blocks)
{
    const __m256i low = _mm256_set1_epi64x(0xffffffff);
    __m256i even = _mm256_setzero_si256(), odd = even;
    for (; blocks; blocks--, p += 64) {
        __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)p);
        __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(p + 32));
        even = _mm256_add_epi64(even, _mm256_add_epi64(_mm256_and_si256(a, low), _mm256_and_si256(b, low)));
        odd = _mm256_add_epi64(odd, _mm256_add_epi64(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32)));
    }
    even = _mm256_add_epi64(even, odd);
    __m128i half = _mm_add_epi64(_mm256_castsi256_si128(even), _mm256_extracti128_si256(even, 1));
    return (uint64_t)_mm_cvtsi128_si64(half) + (uint64_t)_mm_extract_epi64(half, 1);
}

uint64_t csum_add(const void *bytes, size_t len, uint64_t sum)
{
    const uint8_t *p = bytes;
    if (len >= 64) {
        sum += csum_add_blocks(p, len / 64);
        p += len & ~(size_t)63;
        len &= 63;
    }
    for (; len >= 8; len -= 8, p += 8) {
        uint64_t v = load64(p);
        sum += (v & 0xffffffff) + (v >> 32);
    }
    if (len & 4) {
        sum += load32(p);
        p += 4;
    }
    if (len & 2) {
        sum += load16(p);
        p += 2;
    }
    return len & 1 ? sum + *p : sum;
}

uint64_t csum_pseudo(const struct pkt *pkt, uint32_t l4len)
{
    const uint8_t *ip = pkt->data + pkt->l3;
    uint64_t sum = __builtin_bswap32(l4len) + ((uint64_t)pkt->l4_proto << 8);
    return pkt->l3_type == PKT_L3_IP4 ? csum_add(ip + 12, 8, sum) : csum_add(ip + 8, 32, sum);
}

bool csum_ip4_ok(const uint8_t *header, unsigned hlen)
{
    return csum_fold(csum_add(header, hlen, 0)) == 0xffff;
}

uint64_t csum_frame(const struct arena *arena, const struct pkt *pkt, uint32_t at, uint32_t len)
{
    struct cursor c = cursor_at(arena, pkt, at);
    uint64_t sum = 0;
    bool odd = false;   /* the run starts amid a word: its sum is byte-swapped (RFC 1071 section 2B) */
    uint8_t *run;
    while (len) {
        uint32_t n = cursor_run(&c, len, &run);
        uint64_t part = csum_add(run, n, 0);
        sum += odd ? __builtin_bswap16(csum_fold(part)) : part;
        odd ^= n & 1;
        len -= n;
    }
    return sum;
}

uint32_t csum_crc32c(uint32_t crc, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    uint64_t c = crc;
    for (; len >= 8; len -= 8, p += 8)
        c = _mm_crc32_u64(c, load64(p));
    for (; len; len--)
        c = _mm_crc32_u8((uint32_t)c, *p++);
    return (uint32_t)c;
}

/* RFC 9260 appendix A: over the packet with the field 0, stored low byte first. */
static void finish_sctp(const struct arena *arena, struct pkt *pkt, uint32_t len)
{
    uint8_t *field = pkt->data + pkt->l4 + SCTP_CHECKSUM, *run;
    struct cursor c = cursor_at(arena, pkt, pkt->l4);
    uint32_t crc = 0xffffffff;
    memset(field, 0, 4);
    while (len) {
        uint32_t n = cursor_run(&c, len, &run);
        crc = csum_crc32c(crc, run, n);
        len -= n;
    }
    crc = ~crc;
    memcpy(field, &crc, 4);
}

bool csum_finish(const struct arena *arena, struct pkt *pkt)
{
    bool sctp = pkt->l4_proto == PROTO_SCTP && pkt->csum_start == pkt->l4 &&
                pkt->csum_offset == SCTP_CHECKSUM;
    uint32_t field = (uint32_t)pkt->csum_start + pkt->csum_offset, end = field + (sctp ? 4 : 2);
    if (end > pkt->l3_end || !pkt_has(pkt, end))
        return false;
    uint32_t len = pkt->l3_end - pkt->csum_start;
    if (sctp) {
        finish_sctp(arena, pkt, len);
    } else {
        uint16_t sum = (uint16_t)~csum_fold(csum_frame(arena, pkt, pkt->csum_start, len));
        if (sum == 0)   /* UDP must (RFC 768); in others the two zeros are one, and Linux does the same */
            sum = 0xffff;
        memcpy(pkt->data + field, &sum, 2);
    }
    pkt->flags &= (uint8_t)~PKT_PARTIAL;
    return true;
}
