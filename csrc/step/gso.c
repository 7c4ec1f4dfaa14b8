/* gso.c: cuts a super-packet into the TCP segments it stands for. */
#include "step/gso.h"
#include "base/csum.h"
#include "pkt/offload.h"

enum { TCP_CHECKSUM = 16, TCP_FLAGS = 13, TCP_FIN_PSH = 0x09, TCP_CWR = 0x80 };

/* Bytes of all headers, Ethernet's too. */
static inline uint32_t gso_header_len(const struct pkt *pkt)
{
    return pkt->l4 + (pkt->data[pkt->l4 + 12] >> 4) * 4u;
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

/* Length and, in IPv4, the identification, which counts up. A wrong header checksum stays wrong. */
static void gso_set_ip(struct pkt *segment, uint32_t index)
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

/*
 * Sequence number and flags (RFC 3168 section 6.1.2: CWR once); the checksum. The partial one has the L4
 * length in it, as part of the pseudo header; it is completed by the header and the payload, whose sum the
 * caller has.
 */
static void gso_set_tcp(struct pkt *segment, const struct gso_cut *cut, bool last, uint64_t payload_sum)
{
    uint8_t *tcp = segment->data + segment->l4;
    put32(tcp + 4, get32(tcp + 4) + cut->done); /* 4.3.3 */
    if (!last) /* 4.3.4 */
        tcp[TCP_FLAGS] &= (uint8_t)~TCP_FIN_PSH;
    if (cut->index) /* 4.3.4 */
        tcp[TCP_FLAGS] &= (uint8_t)~TCP_CWR;
    uint32_t from = __builtin_bswap32(cut->source->l3_end - cut->source->l4);
    uint32_t to = __builtin_bswap32(segment->l3_end - segment->l4);
    uint64_t sum = csum_add(tcp, cut->headers - segment->l4, (uint16_t)~csum_fold(from)); /* 4.3.5 */
    uint16_t field = (uint16_t)~csum_fold(sum + to + csum_fold(payload_sum));
    memcpy(tcp + TCP_CHECKSUM, &field, 2);
}

struct gso_cut gso_begin(const struct arena *arena, const struct pkt *pkt)
{
    uint32_t headers = gso_header_len(pkt);
    return (struct gso_cut){.source = pkt,
                            .headers = headers,
                            .left = pkt->l3_end - headers,
                            .payload = cursor_at(arena, pkt, headers)};
}

bool gso_next(struct pool *pool, struct gso_cut *cut, struct pkt *segment)
{
    const struct pkt *source = cut->source;
    uint32_t payload = cut->left < source->gso_size ? cut->left : source->gso_size;
    uint32_t slot = pool_get(pool);
    if (slot == POOL_NONE)
        return false;
    *segment = *source;
    segment->slot = slot;
    segment->slots = 1;
    segment->data = pool_data(pool->arena, slot);
    segment->head = (uint16_t)cut->headers;
    segment->len = segment->l3_end = cut->headers + payload;
    segment->gso = DP_GSO_NONE;
    segment->gso_size = 0;
    segment->flags &= (uint8_t)~PKT_PARTIAL;
    if (payload)
        pool->arena->segs[slot] = cursor_seg(&cut->payload);
    memcpy(segment->data, source->data, cut->headers); /* 4.3.1 */
    cut->left -= payload;
    gso_set_ip(segment, cut->index);
    gso_set_tcp(segment, cut, cut->left == 0, offload_run_sum(&cut->payload, payload));
    cut->done += payload;
    cut->index++;
    return true;
}
