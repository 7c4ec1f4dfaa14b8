/* Any bytes as a frame: the parser reads nothing outside them, and what it says of them lies inside. */
#include <stdlib.h>
#include "base/csum.h"
#include "pkt/offload.h"
#include "pkt/parse.h"

#define require(what) do { if (!(what)) abort(); } while (0)

static void require_inside(const struct pkt *pkt)
{
    require(pkt->l3 <= pkt->l4);
    require(pkt->l4 <= pkt->l3_end);
    require(pkt->l3_end <= pkt->len);
    require(pkt->l4 <= pkt->head);
}

/* What parse_plain() takes is what parse_frame() finds, and nothing else. It reads a slot's bytes behind a short frame. */
static void require_plain_is_right(const uint8_t *frame, struct pkt pkt)
{
    static uint8_t slot[8192];
    memcpy(slot, frame, pkt.len);
    pkt.data = slot;
    for (int family = DP_IPV4; family <= DP_IPV6; family += DP_IPV6 - DP_IPV4) {
        struct pkt plain = pkt, full = pkt;
        if (!parse_plain(&plain, (unsigned)family)) {
            require(!memcmp(&plain, &pkt, sizeof pkt));
            continue;
        }
        require(parse_frame(&full) == DROP_NONE);
        full.flags |= PKT_PLAIN;
        require(!memcmp(&plain, &full, sizeof full));
        require(parse_flow(&plain) == ((full.flags &= (uint8_t)~PKT_PLAIN), parse_flow(&full)));
        require(parse_flow_plain(slot, (unsigned)family) == parse_flow(&full));
    }
}

/* input: flags (1: partial checksum, 2: gso, 4 and 8: its kind), csum_start, csum_offset, gso_size, 2 bytes each; then the frame. */
int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    enum { HEADER = 8 };
    if (size < HEADER || size > 4096)
        return 0;
    size_t len = size - HEADER;
    uint8_t *frame = malloc(len ? len : 1);     /* of its very size: one byte further is the sanitizer's */
    memcpy(frame, input + HEADER, len);
    struct pkt pkt = {.data = frame, .slot = POOL_NONE, .len = (uint32_t)len, .head = (uint16_t)len, .slots = 1,
                      .csum_start = load16(input + 2), .csum_offset = load16(input + 4), .gso_size = load16(input + 6)};
    if (input[0] & 1)
        pkt.flags = PKT_PARTIAL;
    if (input[0] & 2)
        pkt.gso = input[0] & 8 ? DP_GSO_UDP : input[0] & 4 ? DP_GSO_TCP4 : DP_GSO_TCP6;
    require_plain_is_right(frame, pkt);
    if (parse_frame(&pkt) == DROP_NONE) {
        require_inside(&pkt);
        (void)parse_flow(&pkt);
        if (pkt.flags & PKT_VLAN) {
            parse_strip_vlan(&pkt);
            require_inside(&pkt);
        }
        struct arena arena = {0};
        if (offload_check(&arena, &pkt) == DROP_NONE && pkt.flags & PKT_PARTIAL)
            require(pkt.csum_start + pkt.csum_offset + 2u <= pkt.l3_end);
    }
    free(frame);
    return 0;
}
