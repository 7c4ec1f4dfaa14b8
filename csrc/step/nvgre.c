/*
 * nvgre.c: build a next hop's outer header once; copy and patch it for each packet; check it on the way in.
 */
#include "step/nvgre.h"
#include "base/csum.h"
#include "pkt/parse.h"

void nvgre_template(struct next_hop *nh, unsigned family, const uint8_t *source_pa, const uint8_t *pa,
                    const uint8_t *underlay_mac)
{
    uint8_t *h = nh->header, *ip = h + ETH_LEN;
    memset(h, 0, sizeof nh->header);
    memcpy(h + 6, underlay_mac, 6);
    nh->family = (uint8_t)family;
    memcpy(nh->pa, pa, 16);
    if (family == DP_IPV4) {
        nh->header_len = NVGRE4_LEN;
        put16(h + 12, ETHERTYPE_IP4);
        ip[0] = 0x45;
        put16(ip + 6, IP4_DF); /* 2.11.11 */
        ip[8] = NVGRE_TTL;
        ip[9] = PROTO_GRE;
        memcpy(ip + 12, source_pa, 4);
        memcpy(ip + 16, pa, 4);
        nh->sum = csum_fold(csum_add(ip, IP4_LEN, 0));
    } else {
        nh->header_len = NVGRE6_LEN;
        put16(h + 12, ETHERTYPE_IP6);
        ip[0] = 0x60;
        ip[6] = PROTO_GRE;
        ip[7] = NVGRE_TTL; /* 2.11.12 */
        memcpy(ip + 8, source_pa, 16);
        memcpy(ip + 24, pa, 16);
    }
    uint8_t *gre = h + nh->header_len - GRE_LEN;
    put16(gre, GRE_K); /* 2.11.9 */
    put16(gre + 2, GRE_TEB);
    __atomic_store_n((uint64_t *)&nh->eth, 0, __ATOMIC_RELEASE);
}

bool nvgre_same(const struct next_hop *a, const struct next_hop *b)
{
    return a->header_len == b->header_len && !memcmp(a->header + 8, b->header + 8, sizeof a->header - 8);
}

void nvgre_set(struct next_hop *nh, const struct next_hop *like)
{
    __atomic_store_n(next_hop_rest_word(nh), *next_hop_rest_word(like), __ATOMIC_RELAXED);
    memcpy(nh->header + 12, like->header + 12, sizeof nh->header - 12);
    nh->sum = like->sum;
    __atomic_store_n(&nh->header_len, like->header_len, __ATOMIC_RELEASE);
}

void nvgre_redirecting(struct next_hop *to, const struct next_hop *nh)
{
    uint8_t *ip = to->header + ETH_LEN;
    memset(to, 0, sizeof *to);
    to->header_len = next_hop_header_len(nh);
    to->neigh = __atomic_load_n(&nh->neigh, __ATOMIC_ACQUIRE);
    if (to->header_len == 0)
        return;
    nvgre_copy(to->header, nh, to->header_len);
    ip[to->header_len == NVGRE4_LEN ? 8 : 7] = NVGRE_TTL_REDIRECTED; /* 3.14.3 */
    to->sum = csum_fold(csum_add(ip, IP4_LEN, 0));
}

static inline enum drop nvgre_flags(uint16_t flags)
{
    /* 3.8.9 */
    if (__builtin_expect((flags & (GRE_VERSION | GRE_C | GRE_S | GRE_BITS_1_4_5 | GRE_K)) == GRE_K, 1))
        return DROP_NONE;
    if (flags & GRE_VERSION) /* 3.8.2 */
        return DROP_GRE_VERSION;
    if (flags & GRE_C) /* 3.8.3 */
        return DROP_GRE_CHECKSUM_BIT;
    if (flags & GRE_S) /* 3.8.4 */
        return DROP_GRE_SEQUENCE_BIT;
    return flags & GRE_BITS_1_4_5 ? DROP_GRE_RESERVED_BITS : DROP_GRE_NO_KEY; /* 3.8.5, 3.8.6 */
}

enum drop nvgre_check(const struct pkt *pkt, uint32_t *vsid, uint16_t *len)
{
    const uint8_t *gre = pkt->data + pkt->l4;
    uint32_t room = pkt->l3_end - pkt->l4;
    if (room < 4 || !pkt_has(pkt, pkt->l4 + 4u)) /* 3.8.1 */
        return DROP_GRE_SHORT;
    enum drop drop = nvgre_flags(get16(gre));
    if (drop)
        return drop;
    if (get16(gre + 2) != GRE_TEB) /* 3.8.7 */
        return DROP_GRE_PROTOCOL;
    if (room < GRE_LEN || !pkt_has(pkt, pkt->l4 + (uint32_t)GRE_LEN)) /* 3.8.8 */
        return DROP_GRE_SHORT;
    *vsid = get32(gre + 4) >> 8;
    *len = (uint16_t)(pkt->l4 + GRE_LEN);
    return *vsid >= VSID_MIN && *vsid <= VSID_MAX ? DROP_NONE : DROP_VSID_RESERVED; /* 3.8.10 */
}

enum drop nvgre_pop(struct pkt *pkt, uint16_t len)
{
    pkt_trim(pkt, pkt->l3_end); /* 3.8.13 */
    pkt_pop(pkt, len);
    enum drop drop = parse_frame(pkt);
    return !drop && pkt->flags & PKT_VLAN ? DROP_INNER_VLAN : drop; /* 3.8.14 */
}

bool nvgre_ecn(struct pkt *inner, uint8_t outer_tos)
{
    enum { NOT_ECT = 0, ECT0 = 2, CE = 3 };
    uint8_t outer = outer_tos & 3, in = inner->tos & 3;
    if (__builtin_expect(outer == in || outer == NOT_ECT || in == CE, 1)) /* 3.13.4 */
        return true;
    if (in == NOT_ECT) /* 3.13.1 */
        return outer != CE;
    if (outer == ECT0)  /* in ECT(1), which stays: and so does its checksum, 0xffff too */
        return true;
    inner->tos = (uint8_t)((inner->tos & ~3) | outer); /* 3.13.2, 3.13.3 */
    uint8_t *ip = inner->data + inner->l3;
    if (inner->l3_type == PKT_L3_IP4) {
        uint16_t from = load16(ip), field = load16(ip + 10);
        ip[1] = inner->tos;
        field = csum_update(field, from, load16(ip));
        memcpy(ip + 10, &field, 2);
    } else {
        ip[1] = (uint8_t)((ip[1] & 0x0f) | inner->tos << 4);
    }
    return true;
}
