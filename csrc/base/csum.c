/* csum.c: sums of long runs with AVX2. */
#include "base/csum.h"
#include <immintrin.h>
#include "base/wire.h"

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

bool csum_ip4_ok(const uint8_t *header, unsigned hlen)
{
    return csum_fold(csum_add(header, hlen, 0)) == 0xffff;
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
