/*
 * hash.h: keyed hash of one or three 64-bit words, for tables whose keys tenants choose. Words and a secret
 * in, a hash out. Called by lookups and the map.
 *
 * AES rounds under a secret: after two rounds every bit of the key has reached every bit of the state, and no
 * difference between two keys leads to equal states with a probability worth trying without the secret (at
 * least five active S-boxes, 2^-30; the third word is mixed in behind two rounds for that reason). The last
 * round is for the bits that pick the bucket.
 */
#ifndef HASH_H
#define HASH_H
#include <stdint.h>
#include <wmmintrin.h>

static inline uint64_t hash_1(uint64_t word, const uint64_t secret[2])
{
    __m128i s = _mm_loadu_si128((const __m128i *)secret), t = _mm_shuffle_epi32(s, 0x4e);
    __m128i x = _mm_xor_si128(_mm_cvtsi64_si128((long long)word), s);
    x = _mm_aesenc_si128(_mm_aesenc_si128(_mm_aesenc_si128(x, t), s), t);
    return (uint64_t)_mm_cvtsi128_si64(x);
}

/* The words come in registers: a vector can't be loaded from two words that have just been stored. */
static inline uint64_t hash_3(uint64_t first, uint64_t second, uint64_t third, const uint64_t secret[2])
{
    __m128i s = _mm_loadu_si128((const __m128i *)secret), t = _mm_shuffle_epi32(s, 0x4e);
    __m128i x = _mm_xor_si128(_mm_set_epi64x((long long)second, (long long)first), s);
    x = _mm_aesenc_si128(_mm_aesenc_si128(x, t), s);
    x = _mm_xor_si128(x, _mm_cvtsi64_si128((long long)third));
    x = _mm_aesenc_si128(_mm_aesenc_si128(_mm_aesenc_si128(x, t), s), t);
    return (uint64_t)_mm_cvtsi128_si64(x);
}

#endif
