/*
 * IP rewrite, and segmentation, of any packet that the parser lets through. Nothing but addresses, TTL and checksums
 * changes; what a receiver sums does not; there and back is where it was; segments put together are the packet.
 */
#include <stdlib.h>
#include "base/csum.h"
#include "step/gso.h"
#include "pkt/offload.h"
#include "pkt/parse.h"
#include "step/rewrite.h"

#define require(what) do { if (!(what)) abort(); } while (0)

/* Input: flags, gso_size, csum_start, csum_offset, head: 2 bytes each, two addresses; then the frame. */
enum { FLAG_PARTIAL = 1, FLAG_GSO = 2, HEADER = 10 + 32, SLOTS = 64, LEN_MAX = 16384 };

static struct arena arena;
static struct pool pool;

/* ---- checks -------------------------------------------------------------------------------- */

/* The checksum that covers the addresses, 0: none. */
static uint32_t field_of(const struct pkt *pkt)
{
    if (pkt->flags & PKT_LATER)
        return 0;
    if (pkt->l4_proto == PROTO_TCP || pkt->l4_proto == PROTO_UDP)
        return pkt->l4 + (pkt->l4_proto == PROTO_TCP ? 16u : 6u);
    if (pkt->l4_proto == PROTO_DCCP || pkt->l4_proto == PROTO_UDPLITE)
        return pkt->l4 + 8u <= pkt->l3_end && pkt_has(pkt, pkt->l4 + 8u) ? pkt->l4 + 6u : 0;
    return pkt->l3_type == PKT_L3_IP6 && pkt->l4_proto == PROTO_ICMP6 ? pkt->l4 + 2u : 0;
}

/* By how much the packet's checksum is wrong, modulo 0xffff; of a partial one, the sum in its field. */
static uint32_t error_of(const struct pkt *pkt)
{
    uint32_t field = field_of(pkt), len = pkt->l3_end - pkt->l4;
    if (!field)
        return 0;
    if (pkt->flags & PKT_PARTIAL)
        return (load16(pkt->data + field) + 0xffffu - csum_fold(offload_pseudo(pkt, len))) % 0xffff;
    if (pkt->l4_proto == PROTO_UDP && load16(pkt->data + field) == 0)
        return 0;
    uint32_t sum = csum_fold(offload_pseudo(pkt, len) + offload_sum(&arena, pkt, pkt->l4, len));
    return (0xffffu - sum) % 0xffff;
}

static uint32_t ip4_error_of(const struct pkt *pkt)
{
    const uint8_t *ip = pkt->data + pkt->l3;
    return pkt->l3_type == PKT_L3_IP4 ? csum_fold(csum_add(ip, (ip[0] & 15u) * 4u, 0)) % 0xffff : 0;
}

/* Equal but for the addresses and for checksums; those, modulo 0xffff, if `back`. */
static void require_same(const struct pkt *pkt, const uint8_t *before, bool back)
{
    static uint8_t after[LEN_MAX];
    bool ip4 = pkt->l3_type == PKT_L3_IP4;
    uint32_t addresses = pkt->l3 + (ip4 ? 12u : 8u), size = ip4 ? 8 : 32, field = field_of(pkt), ip_field = pkt->l3 + 10u;
    require(pkt_read(&arena, pkt, 0, after, pkt->len));
    if (back)
        require(ip4 ? load16(after + ip_field) % 0xffff == load16(before + ip_field) % 0xffff : true);
    if (back && field)
        require(load16(after + field) % 0xffff == load16(before + field) % 0xffff);
    if (!back)
        memcpy(after + addresses, before + addresses, size);
    if (ip4)
        memcpy(after + ip_field, before + ip_field, 2);
    if (field)
        memcpy(after + field, before + field, 2);
    require(!memcmp(after, before, pkt->len));
}

/* Another parse finds what the first found. */
static bool parses(const struct pkt *pkt)
{
    struct pkt again = *pkt;
    return parse_frame(&again) == DROP_NONE && !memcmp(&again, pkt, sizeof again);
}

struct check {
    const uint8_t *before;
    uint32_t headers, end, done, error;
};

static void check_segment(struct check *check, struct pkt *segment)
{
    static uint8_t bytes[LEN_MAX];
    require(parses(segment));
    require(pkt_read(&arena, segment, 0, bytes, segment->len));
    uint32_t payload = segment->len - check->headers;
    require(check->headers + check->done + payload <= check->end);
    require(!memcmp(bytes + check->headers, check->before + check->headers + check->done, payload));
    require(error_of(segment) == check->error);
    check->done += payload;
    pool_pkt_free(&pool, segment);
}

static void segment(struct pkt *pkt, const uint8_t *before)
{
    uint32_t headers = pkt->l4 + (pkt->gso == DP_GSO_UDP ? UDP_LEN : (pkt->data[pkt->l4 + 12] >> 4) * 4u);
    struct check check = {.before = before, .headers = headers, .end = pkt->l3_end, .error = error_of(pkt)};
    require(gso_l3_len(pkt) <= pkt->l3_end - pkt->l3);
    struct gso_cut cut = gso_begin(&arena, pkt);
    do {
        struct pkt made;
        if (!gso_next(&pool, &cut, &made)) {        /* out of slots */
            pool_pkt_free(&pool, pkt);
            return;
        }
        check_segment(&check, &made);
    } while (cut.left);
    pool_pkt_free(&pool, pkt);
    require(headers + check.done == check.end);
}

static void rewrite(struct pkt *pkt, const uint8_t *source, const uint8_t *destination)
{
    static uint8_t before[LEN_MAX];
    uint8_t own[32];
    unsigned at = pkt->l3 + (pkt->l3_type == PKT_L3_IP4 ? 12u : 8u), size = pkt->l3_type == PKT_L3_IP4 ? 4 : 16;
    uint32_t error = error_of(pkt), ip4_error = ip4_error_of(pkt);
    require(pkt_read(&arena, pkt, 0, before, pkt->len));
    memcpy(own, pkt->data + at, 2 * size);
    (void)rewrite_check(pkt);
    rewrite_addresses(pkt, source, destination);
    require(!memcmp(pkt->data + at, source, size) && !memcmp(pkt->data + at + size, destination, size));
    require(error_of(pkt) == error && ip4_error_of(pkt) == ip4_error);
    require_same(pkt, before, false);
    require(parses(pkt));
    rewrite_addresses(pkt, own, own + size);
    require_same(pkt, before, true);
    if (pkt_ttl(pkt) > 1)
        rewrite_ttl(pkt);
    require(ip4_error_of(pkt) == ip4_error);
    require(parses(pkt));
    require(pkt_read(&arena, pkt, 0, before, pkt->len));
    if (pkt->gso)
        segment(pkt, before);
    else
        pool_pkt_free(&pool, pkt);
}

/* The frame in slots, `head` bytes of it in the first. */
static bool make(struct pkt *pkt, const uint8_t *frame, uint32_t len, uint32_t head)
{
    if (!pool_pkt_new_len(&pool, pkt, len + POOL_HEAD_MAX))      /* one slot more than is needed at most */
        return false;
    pkt->len = len;
    pkt->head = (uint16_t)(head < len ? head : len);
    return pkt_write(&arena, pkt, 0, frame, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    if (!arena.base) {
        require(arena_create(&arena, SLOTS) == DP_OK);
        pool_init(&pool, &arena);
    }
    struct pkt pkt;
    if (size < HEADER || size > LEN_MAX)
        return 0;
    require(make(&pkt, input + HEADER, (uint32_t)(size - HEADER), load16(input + 8) % (POOL_HEAD_MAX + 1)));
    pkt.gso_size = load16(input + 2);
    pkt.csum_start = load16(input + 4);
    pkt.csum_offset = load16(input + 6);
    if (input[0] & FLAG_PARTIAL)
        pkt.flags = PKT_PARTIAL;
    if (input[0] & FLAG_GSO)
        pkt.gso = input[1] & 2 ? DP_GSO_UDP : input[1] & 1 ? DP_GSO_TCP6 : DP_GSO_TCP4;
    bool ip = parse_frame(&pkt) == DROP_NONE && !(pkt.flags & PKT_VLAN) && pkt.l3_type != PKT_L3_ARP;
    /* A partial checksum of something else may have been completed into the UDP length: not of interest here. */
    if (ip && offload_check(&arena, &pkt) == DROP_NONE && parses(&pkt))
        rewrite(&pkt, input + 10, input + 26);
    else
        pool_pkt_free(&pool, &pkt);
    require(arena_free_slots(&arena, &pool, 1) == SLOTS);
    return 0;
}
