/* offload.c: partial checksums and segmentation as virtio-net headers state them; README.md 1.6, 4.2. */
#include "pkt/offload.h"
#include "base/csum.h"

enum { SCTP_CHECKSUM = 8, UDP_CHECKSUM = 6 };   /* offsets in the L4 header, RFC 9260 section 3.1, RFC 768 */

/*
 * The longest packet in segments of 48 bytes, the fewest that Linux makes: a VM must not turn one packet into
 * 65,000.
 */
#define GSO_SEGMENTS_MAX 1365u

uint64_t offload_pseudo(const struct pkt *pkt, uint32_t l4len)
{
    const uint8_t *ip = pkt->data + pkt->l3;
    uint64_t sum = __builtin_bswap32(l4len) + ((uint64_t)pkt->l4_proto << 8);
    return pkt->l3_type == PKT_L3_IP4 ? csum_add(ip + 12, 8, sum) : csum_add(ip + 8, 32, sum);
}

uint64_t offload_run_sum(struct cursor *c, uint32_t len)
{
    uint64_t sum = 0;
    bool odd = false;   /* the run starts amid a word: its sum is byte-swapped (RFC 1071 section 2B) */
    uint8_t *run;
    while (len) {
        uint32_t n = cursor_run(c, len, &run);
        uint64_t part = csum_add(run, n, 0);
        sum += odd ? __builtin_bswap16(csum_fold(part)) : part;
        odd ^= n & 1;
        len -= n;
    }
    return sum;
}

uint64_t offload_sum(const struct arena *arena, const struct pkt *pkt, uint32_t at, uint32_t len)
{
    struct cursor c = cursor_at(arena, pkt, at);
    return offload_run_sum(&c, len);
}

/* RFC 9260 appendix A: over the packet with the field 0, stored low byte first. */
static void offload_finish_sctp(const struct arena *arena, struct pkt *pkt, uint32_t len)
{
    uint8_t *field = pkt->data + pkt->l4 + SCTP_CHECKSUM, *run;
    struct cursor c = cursor_at(arena, pkt, pkt->l4);
    uint32_t crc = 0xffffffff;
    memset(field, 0, 4); /* 4.2.3 */
    while (len) {
        uint32_t n = cursor_run(&c, len, &run);
        crc = csum_crc32c(crc, run, n);
        len -= n;
    }
    crc = ~crc;
    memcpy(field, &crc, 4);
}

void offload_put(struct pkt *pkt, uint64_t sum)
{
    uint16_t field = (uint16_t)~csum_fold(sum); /* 4.2.2 */
    if (field == 0 && pkt->csum_offset == UDP_CHECKSUM)     /* a UDP field of 0 says: none (RFC 768) */
        field = 0xffff;
    memcpy(pkt->data + pkt->csum_start + pkt->csum_offset, &field, 2);
}

bool offload_finish(const struct arena *arena, struct pkt *pkt)
{
    bool sctp = pkt->l4_proto == PROTO_SCTP && pkt->csum_start == pkt->l4 &&
                pkt->csum_offset == SCTP_CHECKSUM;
    uint32_t field = (uint32_t)pkt->csum_start + pkt->csum_offset, end = field + (sctp ? 4 : 2);
    if (end > pkt->l3_end || !pkt_has(pkt, end))
        return false;
    uint32_t len = pkt->l3_end - pkt->csum_start;
    if (sctp) {
        offload_finish_sctp(arena, pkt, len);
    } else {
        offload_put(pkt, offload_sum(arena, pkt, pkt->csum_start, len));
    }
    pkt->flags &= (uint8_t)~PKT_PARTIAL;
    return true;
}

/* The checksum that is left to do is the one of this TCP or UDP packet itself. */
static bool offload_is_own(const struct pkt *pkt)
{
    bool tcp = pkt->l4_proto == PROTO_TCP && pkt->csum_offset == 16;
    bool udp = pkt->l4_proto == PROTO_UDP && pkt->csum_offset == 6;
    return (tcp || udp) && !(pkt->flags & PKT_FRAGMENT) && pkt->csum_start == pkt->l4;
}

/* The super-packet is of the protocol that it is said to be of, and its header of all of it. */
static bool offload_is_gso(const struct pkt *pkt) /* 1.6.2 */
{
    uint32_t len = pkt->l3_end - pkt->l4;
    if (pkt->gso == DP_GSO_UDP)
        return pkt->l4_proto == PROTO_UDP && get16(pkt->data + pkt->l4 + 4) == len;
    return pkt->l4_proto == PROTO_TCP && pkt->l3_type == (pkt->gso == DP_GSO_TCP4 ? PKT_L3_IP4 : PKT_L3_IP6);
}

enum drop offload_check(const struct arena *arena, struct pkt *pkt)
{
    bool partial = pkt->flags & PKT_PARTIAL, own = partial && offload_is_own(pkt);
    if (pkt->gso != DP_GSO_NONE && (!own || !offload_is_gso(pkt) || /* 1.6.1, 1.6.2, 1.6.3 */
                                    pkt->gso_size * GSO_SEGMENTS_MAX < pkt->l3_end - pkt->l4))
        return DROP_BAD_OFFLOAD;
    if (!partial || own) /* 1.6.4 */
        return DROP_NONE;
    uint32_t field = (uint32_t)pkt->csum_start + pkt->csum_offset + 2;
    /* 1.6.5, 1.6.6 */
    bool fits = pkt->l3_type != PKT_L3_ARP && pkt->csum_start >= pkt->l4 && field <= pkt->l3_end &&
                pkt_has(pkt, field);
    return fits && offload_finish(arena, pkt) ? DROP_NONE : DROP_BAD_OFFLOAD; /* 1.6.7 */
}
