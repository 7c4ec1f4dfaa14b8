/* gso.c: cuts a super-packet into the segments or datagrams it stands for, or into shorter super-packets. */
#include "step/gso.h"
#include "base/csum.h"
#include "pkt/offload.h"

enum { TCP_FLAGS = 13, TCP_FIN_PSH = 0x09, TCP_CWR = 0x80 };

/* Bytes of all headers, Ethernet's too. */
static inline uint32_t gso_header_len(const struct pkt *pkt)
{
    return pkt->l4 + (pkt->gso == DP_GSO_UDP ? UDP_LEN : (pkt->data[pkt->l4 + 12] >> 4) * 4u);
}

uint32_t gso_l3_len(const struct pkt *pkt)
{
    if (__builtin_expect(pkt->gso == DP_GSO_NONE, 1))
        return pkt->l3_end - pkt->l3;
    uint32_t headers = gso_header_len(pkt), payload = pkt->l3_end - headers;
    return headers - pkt->l3 + (payload < pkt->gso_size ? payload : pkt->gso_size);
}

uint32_t gso_segments(const struct pkt *pkt)
{
    if (pkt->gso == DP_GSO_NONE)
        return 1;
    uint32_t payload = pkt->l3_end - gso_header_len(pkt);
    return payload ? (payload + pkt->gso_size - 1) / pkt->gso_size : 1;
}

void gso_set_ip(struct pkt *segment, uint32_t index)
{
    uint8_t *ip = segment->data + segment->l3;
    if (segment->l3_type == PKT_L3_IP6) {
        put16(ip + 4, (uint16_t)(segment->l3_end - segment->l3 - IP6_LEN));
        return;
    }
    uint32_t from = load32(ip + 2);
    put16(ip + 2, (uint16_t)(segment->l3_end - segment->l3));
    put16(ip + 4, (uint16_t)(get16(ip + 4) + index)); /* 4.3.2 */
    uint16_t field = csum_update(load16(ip + 10), from, load32(ip + 2)); /* 4.1.8 */
    memcpy(ip + 10, &field, 2);
}

/* Sequence number and flags (RFC 3168 section 6.1.2: CWR once). */
static void gso_set_tcp(uint8_t *tcp, const struct gso_cut *cut, bool last)
{
    put32(tcp + 4, get32(tcp + 4) + cut->done); /* 4.3.3 */
    if (!last) /* 4.3.4 */
        tcp[TCP_FLAGS] &= (uint8_t)~TCP_FIN_PSH;
    if (cut->index) /* 4.3.4 */
        tcp[TCP_FLAGS] &= (uint8_t)~TCP_CWR;
}

/* Also the partial checksum, which has the L4 length in it, as part of the pseudo header. */
static void gso_set_l4(struct pkt *segment, const struct gso_cut *cut, bool last)
{
    uint8_t *l4 = segment->data + segment->l4, *at = l4 + segment->csum_offset;
    uint32_t from = cut->source->l3_end - cut->source->l4, to = segment->l3_end - segment->l4;
    if (segment->gso == DP_GSO_UDP)
        put16(l4 + 4, (uint16_t)to); /* 4.3.6 */
    else
        gso_set_tcp(l4, cut, last);
    uint16_t was = (uint16_t)~csum_fold(__builtin_bswap32(from));
    uint16_t field = csum_fold((uint64_t)load16(at) + was + __builtin_bswap32(to)); /* 4.3.5 */
    memcpy(at, &field, 2);
}

struct gso_cut gso_begin(const struct arena *arena, const struct pkt *pkt)
{
    uint32_t headers = gso_header_len(pkt);
    return (struct gso_cut){.source = pkt,
                            .headers = headers,
                            .left = pkt->l3_end - headers,
                            .payload = cursor_at(arena, pkt, headers)};
}

/* The next `payload` bytes, borrowed, behind headers of their own; the cursor is the caller's to move. */
static inline bool gso_take(struct pool *pool, struct gso_cut *cut, struct pkt *taken, uint32_t payload)
{
    const struct pkt *source = cut->source;
    uint32_t slot = pool_get(pool);
    if (slot == POOL_NONE)
        return false;
    *taken = *source;
    taken->slot = slot;
    taken->slots = 1;
    taken->data = pool_data(pool->arena, slot);
    taken->head = (uint16_t)cut->headers;
    taken->len = taken->l3_end = cut->headers + payload;
    if (payload)
        pool->arena->segs[slot] = cursor_seg(&cut->payload);
    memcpy(taken->data, source->data, cut->headers); /* 4.3.1 */
    cut->left -= payload;
    gso_set_ip(taken, cut->index);
    gso_set_l4(taken, cut, cut->left == 0);
    cut->done += payload;
    return true;
}

bool gso_next(struct pool *pool, struct gso_cut *cut, struct pkt *segment)
{
    uint32_t size = cut->source->gso_size, payload = cut->left < size ? cut->left : size;
    if (!gso_take(pool, cut, segment, payload))
        return false;
    uint64_t sum = csum_fold(offload_run_sum(&cut->payload, payload));
    offload_put(segment, csum_add(segment->data + segment->l4, cut->headers - segment->l4, sum));
    segment->gso = DP_GSO_NONE;
    segment->gso_size = 0;
    segment->flags &= (uint8_t)~PKT_PARTIAL;
    cut->index++;
    return true;
}

bool gso_part(struct pool *pool, struct gso_cut *cut, uint32_t segments, struct pkt *part)
{
    uint32_t size = cut->source->gso_size * segments, payload = cut->left < size ? cut->left : size;
    if (!gso_take(pool, cut, part, payload)) /* 1.6.9 */
        return false;
    cursor_skip(&cut->payload, payload);
    cut->index += segments;
    return true;
}
