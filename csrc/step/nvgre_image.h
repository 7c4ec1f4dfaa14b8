/*
 * nvgre_image.h: what a tunnel's outer header looks like that needs no closer look: 42 or 62 bytes, compared
 * at once in two vectors that may overlap. A frame in, a yes or a no out. Called by from_provider.
 *
 * From a unicast MAC to ours, to our first shared PA, no options, no fragment, GRE as RFC 7637 section 3.2
 * has it: flags and version but for the bits that are ignored. README.md 3.1, 3.4, 3.6, 3.8. A no says
 * nothing: the packet is parsed then.
 */
#ifndef NVGRE_IMAGE_H
#define NVGRE_IMAGE_H
#include "base/hot.h"
#include <immintrin.h>
#include "base/addr.h"

/* Places of a header's bytes among its last 32. */
enum { NVGRE_LAST4 = 32 - (NVGRE4_LEN - 32), NVGRE_LAST6 = 32 - (NVGRE6_LEN - 32) };

/* The header's first 32 bytes, then its last 32. */
struct nvgre_image {
    uint8_t bytes[64];
};

static const struct nvgre_image nvgre_mask4 = {{
    [0] = 0xff,  0xff,
    0xff,        0xff,
    0xff,        0xff,
    [6] = 1,     [12] = 0xff,
    0xff,        0xff,
    [20] = 0xbf, 0xff,
    [23] = 0xff, [NVGRE_LAST4 + 30] = 0xff,
    0xff,        0xff,
    0xff,        [NVGRE_LAST4 + 34] = 0xfc,
    0x07,        0xff,
    0xff,
}};
static const struct nvgre_image nvgre_want4 = {{
    [12] = 8, 0, 0x45, [23] = PROTO_GRE, [NVGRE_LAST4 + 34] = GRE_K >> 8, 0, 0x65, 0x58,
}};
static const struct nvgre_image nvgre_mask6 = {{
    [0] = 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, [6] = 1, [12] = 0xff, 0xff, 0xf0, [20] = 0xff,
    [NVGRE_LAST6 + 38] = 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    [NVGRE_LAST6 + 46] = 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    [NVGRE_LAST6 + 54] = 0xfc, 0x07, 0xff, 0xff,
}};
static const struct nvgre_image nvgre_want6 = {{
    [12] = 0x86, 0xdd, 0x60, [20] = PROTO_GRE, [NVGRE_LAST6 + 54] = GRE_K >> 8, 0, 0x65, 0x58,
}};

/* To this MAC and PA, which is `len` bytes long. Without a PA nothing looks like it. */
static inline struct nvgre_image nvgre_image(const struct nvgre_image *like, const uint8_t *mac,
                                             const uint8_t *pa, unsigned at, unsigned len)
{
    struct nvgre_image want = *like;
    memcpy(want.bytes, mac, 6);
    memcpy(want.bytes + at, pa, len);
    if (is_any(len == 4 ? DP_IPV4 : DP_IPV6, pa))
        want.bytes[11] = 1;             /* where the mask has no bit */
    return want;
}

static inline struct nvgre_image nvgre_image4(const uint8_t *mac, const uint8_t *pa)
{
    return nvgre_image(&nvgre_want4, mac, pa, NVGRE_LAST4 + 30, 4);
}

static inline struct nvgre_image nvgre_image6(const uint8_t *mac, const uint8_t *pa)
{
    return nvgre_image(&nvgre_want6, mac, pa, NVGRE_LAST6 + 38, 16);
}

/* `len` bytes of header; a slot has them behind the frame's start. */
HOT bool nvgre_looks(const struct nvgre_image *image, const struct nvgre_image *masks, const uint8_t *frame,
                     unsigned len)
{
    const __m256i *want = (const __m256i *)(const void *)image, *mask = (const __m256i *)(const void *)masks;
    __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)frame);
    __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(frame + len - 32));
    a = _mm256_xor_si256(_mm256_and_si256(a, _mm256_loadu_si256(mask)), _mm256_loadu_si256(want));
    b = _mm256_xor_si256(_mm256_and_si256(b, _mm256_loadu_si256(mask + 1)), _mm256_loadu_si256(want + 1));
    __m256i wrong = _mm256_or_si256(a, b);
    return _mm256_testz_si256(wrong, wrong);
}

HOT bool nvgre_looks4(const struct nvgre_image *image, const uint8_t *frame)
{
    return nvgre_looks(image, &nvgre_mask4, frame, NVGRE4_LEN);
}

HOT bool nvgre_looks6(const struct nvgre_image *image, const uint8_t *frame)
{
    return nvgre_looks(image, &nvgre_mask6, frame, NVGRE6_LEN);
}

#endif
