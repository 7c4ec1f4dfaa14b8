/* icmp.c: echo requests into echo replies (RFC 792, RFC 4443 section 4); README.md 2.7, 3.7. */
#include "step/icmp.h"
#include "base/csum.h"
#include "pkt/offload.h"

enum { ICMP_TTL = 64 };

bool icmp_is_echo(const struct pkt *pkt)
{
    static const uint8_t echo4[2] = {ICMP_ECHO, 0}, echo6[2] = {ICMP6_ECHO, 0};
    if (pkt->flags & PKT_FRAGMENT)
        return false;
    const uint8_t *icmp = pkt->data + pkt->l4;
    if (pkt->l3_type == PKT_L3_IP4)
        /* 2.7.1 */
        return pkt->l4_proto == PROTO_ICMP && pkt->l4 == pkt->l3 + IP4_LEN && !memcmp(icmp, echo4, 2);
    return pkt->l3_type == PKT_L3_IP6 && pkt->l4_proto == PROTO_ICMP6 && !memcmp(icmp, echo6, 2); /* 2.7.1 */
}

static void icmp_swap_addresses(struct pkt *pkt)
{
    unsigned size = pkt->l3_type == PKT_L3_IP4 ? 4 : 16;
    uint8_t *source = pkt->data + pkt->l3 + (size == 4 ? 12 : 8), asker[16];
    memcpy(asker, source, size);
    memcpy(source, source + size, size);
    memcpy(source + size, asker, size);
}

/* Writes a byte that is the first of a 16-bit word, and updates the checksum over it. */
static void icmp_set_summed(uint8_t *byte, uint8_t value, uint8_t *checksum)
{
    uint16_t from = load16(byte);
    *byte = value;
    uint16_t field = csum_update(load16(checksum), from, load16(byte)); /* 2.7.3 */
    memcpy(checksum, &field, 2);
}

void icmp_echo_reply(const struct arena *arena, struct pkt *pkt, const uint8_t *mac)
{
    uint8_t *ip = pkt->data + pkt->l3, *icmp = pkt->data + pkt->l4;
    memcpy(pkt->data, pkt->data + 6, 6);
    memcpy(pkt->data + 6, mac, 6);
    icmp_swap_addresses(pkt); /* 2.7.2 */
    if (pkt->l3_type == PKT_L3_IP4)
        icmp_set_summed(ip + 8, ICMP_TTL, ip + 10);
    else
        ip[7] = ICMP_TTL;
    icmp_set_summed(icmp, pkt->l3_type == PKT_L3_IP4 ? ICMP_ECHO_REPLY : ICMP6_ECHO_REPLY, icmp + 2);
    /* Of zeros alone no difference tells, and a receiver's sum of 0 is wrong (RFC 1071 section 1). */
    if (load16(icmp + 2) == 0 && offload_sum(arena, pkt, pkt->l4, pkt->l3_end - pkt->l4) == 0)
        memset(icmp + 2, 0xff, 2); /* 2.7.3 */
}
