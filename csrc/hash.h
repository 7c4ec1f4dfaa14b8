/*
 * hash.h: keyed hash of one or three 64-bit words, for tables whose keys tenants choose.
 *
 * AES rounds under a secret: after two rounds every bit of the key has reached every bit of the state, and no difference between
 * two keys leads to equal states with a probability worth trying without the secret (at least five active S-boxes, 2^-30; the third
 * word is mixed in behind two rounds for that reason). The last round is for the bits that pick the bucket.
 */
#ifndef HASH_H
#define HASH_H
#include <stdint.h>

#ifdef __AES__
#include <wmmintrin.h>

static inline uint64_t hash_1(uint64_t word, const uint64_t secret[2])
{
    __m128i s = _mm_loadu_si128((const __m128i *)secret), t = _mm_shuffle_epi32(s, 0x4e);
    __m128i x = _mm_xor_si128(_mm_cvtsi64_si128((long long)word), s);
    x = _mm_aesenc_si128(_mm_aesenc_si128(_mm_aesenc_si128(x, t), s), t);
    return (uint64_t)_mm_cvtsi128_si64(x);
}

static inline uint64_t hash_3(const uint64_t words[3], const uint64_t secret[2])
{
    __m128i s = _mm_loadu_si128((const __m128i *)secret), t = _mm_shuffle_epi32(s, 0x4e);
    __m128i x = _mm_xor_si128(_mm_loadu_si128((const __m128i *)words), s);
    x = _mm_aesenc_si128(_mm_aesenc_si128(x, t), s);
    x = _mm_xor_si128(x, _mm_cvtsi64_si128((long long)words[2]));
    x = _mm_aesenc_si128(_mm_aesenc_si128(_mm_aesenc_si128(x, t), s), t);
    return (uint64_t)_mm_cvtsi128_si64(x);
}

#else

static inline uint64_t hash_mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t hash_1(uint64_t word, const uint64_t secret[2])
{
    uint64_t x = hash_mix(word ^ secret[0], secret[1] | 1);
    return hash_mix(x ^ secret[1], 0x9e3779b97f4a7c15u);
}

static inline uint64_t hash_3(const uint64_t words[3], const uint64_t secret[2])
{
    uint64_t x = hash_mix(words[0] ^ secret[0], words[1] ^ secret[1]);
    return hash_mix(x ^ words[2] ^ secret[1], secret[0] ^ 0x9e3779b97f4a7c15u) ^ hash_1(words[1] ^ words[2], secret);
}

#endif
#endif
