/*
 * csum.h: the Internet checksum (RFC 1071), its incremental update (RFC 1624), and CRC32c for SCTP. Called
 * by steps, offloads and neigh.
 *
 * A "sum" is a one's-complement sum of 16-bit words as they lie in memory (RFC 1071 section 2B: byte order
 * does not matter as long as it is the same throughout); fold it and store it as it is. A checksum field
 * holds the complement.
 */
#ifndef CSUM_H
#define CSUM_H
#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>
#include <string.h>

/* Sum of `len` bytes, from an even offset of what is summed; a zero is thought behind an odd last byte. */
uint64_t csum_add(const void *bytes, size_t len, uint64_t sum);
static inline uint16_t csum_fold(uint64_t sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffffffff) + (sum >> 32);
    uint32_t s = (uint32_t)sum;
    s = (s & 0xffff) + (s >> 16);
    return (uint16_t)((s & 0xffff) + (s >> 16));
}

/* RFC 1624 eqn. 3: the field after words summing to `from` became words summing to `to`. All as in memory. */
static inline uint16_t csum_update(uint16_t field, uint64_t from, uint64_t to) /* 4.1.1, 4.1.2 */
{
    return (uint16_t)~csum_fold((uint64_t)(uint16_t)~field + (uint16_t)~csum_fold(from) + to);
}

/* Verifies the IPv4 header at `header` (hlen bytes): true when it sums to 0xffff. */
bool csum_ip4_ok(const uint8_t *header, unsigned hlen);
/* The same of a header without options. */
static inline bool csum_ip4_plain_ok(const uint8_t *header)
{
    uint64_t sum, b;
    uint32_t c;
    memcpy(&sum, header, 8), memcpy(&b, header + 8, 8), memcpy(&c, header + 16, 4);
    sum += b, sum += sum < b;           /* carries come round (RFC 1071 section 2) */
    sum += c, sum += sum < c;
    sum += sum << 32 | sum >> 32;       /* both halves' sum with its carry, in the upper half */
    uint32_t half = (uint32_t)(sum >> 32);
    half += half << 16 | half >> 16;
    return half >> 16 == 0xffff;
}
uint32_t csum_crc32c(uint32_t crc, const void *bytes, size_t len);

#endif
