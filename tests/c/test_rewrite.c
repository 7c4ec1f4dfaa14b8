/*
 * IP rewrite: right checksums stay right, wrong ones stay wrong by the same difference, whatever the packet.
 */
#include "step/rewrite.h"
#include "base/csum.h"
#include "pkt/offload.h"
#include "frames.h"

static struct arena arena;
static struct pool pool;
static struct frame frame, after;

static void make_pkt(struct pkt *pkt)
{
    frame_to_pkt(&pool, &frame, pkt, POOL_HEAD_MAX);
    assert_int_equal(parse_frame(pkt), DROP_NONE);
}

static void random_addresses(uint8_t *source, uint8_t *destination)
{
    rnd_fill(source, 16);
    rnd_fill(destination, 16);
    if (rnd(4) == 0)
        memset(source, 0xff * (int)rnd(2), 16);
    if (rnd(4) == 0)
        memset(destination, 0xff * (int)rnd(2), 16);
}

/* Both addresses are new, every byte but those and the checksums is as it was. */
static void check_bytes(unsigned family, const uint8_t *source, const uint8_t *destination, uint32_t l4,
                        uint8_t proto)
{
    uint32_t at = ETH_LEN + (family == 4 ? 12 : 8), size = family == 4 ? 4 : 16;
    assert_memory_equal(after.bytes + at, source, size);
    assert_memory_equal(after.bytes + at + size, destination, size);
    memcpy(after.bytes + at, frame.bytes + at, 2 * size);
    if (family == 4)
        memcpy(after.bytes + ETH_LEN + 10, frame.bytes + ETH_LEN + 10, 2);
    uint32_t field = proto == PROTO_ICMP ? 0 : checksum_offset(family, proto);
    if (field)
        memcpy(after.bytes + l4 + field, frame.bytes + l4 + field, 2);
    assert_int_equal(after.len, frame.len);
    assert_memory_equal(after.bytes, frame.bytes, frame.len);
}

/* New addresses, by one of the ways there are for such a packet. */
static void readdress_by(uint32_t way, struct pkt *pkt, const uint8_t *source, const uint8_t *destination)
{
    struct pkt again = *pkt;
    const unsigned family = pkt->l3_type == PKT_L3_IP4 ? DP_IPV4 : DP_IPV6;
    const uint8_t *from = pkt->data + ETH_LEN + (family == DP_IPV4 ? 12 : 8);
    const uint8_t *to = from + (family == DP_IPV4 ? 4 : 16);
    if (way == 0 || !parse_plain(&again, family)) {
        rewrite_addresses(pkt, source, destination);
    } else if (way == 1 && family == DP_IPV4) {
        rewrite_plain4(pkt->data, rewrite_constant4(from, source), load32(source), load32(destination));
    } else {
        uint32_t delta = rewrite_delta(family, from, source) + (uint32_t)rewrite_delta(family, to, destination);
        rewrite_plain(pkt->data, family, delta, source, destination);
    }
}

static void readdress(struct pkt *pkt, const uint8_t *source, const uint8_t *destination)
{
    readdress_by(rnd(3), pkt, source, destination);
}

/*
 * What a full computation puts into the field: 0 and not 0xffff, as a pseudo header is never all 0, but in
 * UDP and UDP-Lite, where 0 says that there is none (RFC 768, RFC 3828 section 3.1).
 */
static uint16_t full_field(uint8_t *bytes, uint8_t proto, uint32_t l4, uint32_t at, uint32_t len)
{
    put16(bytes + at, 0);
    uint32_t field = 0xffff - naive_residue(bytes + ETH_LEN, proto, bytes + l4, len - l4);
    bool never_zero = proto == PROTO_UDP || proto == PROTO_UDPLITE;
    put16(bytes + at, (uint16_t)(field == 0 && never_zero ? 0xffff : field));
    return get16(bytes + at);
}

/* One word of `frame` and one of its IPv4 header are `word`; both checksums, as full computations have them. */
static void check_full(unsigned family, uint8_t proto, uint32_t way, uint32_t at, uint16_t word)
{
    static const uint8_t source[16] = {10, 9, 8, 7, 6, 5}, destination[16] = {192, 0, 2, 255, 255, 255};
    uint8_t *ip = frame.bytes + ETH_LEN;
    uint32_t l4 = ETH_LEN + (family == 4 ? IP4_LEN : IP6_LEN);
    struct pkt pkt;
    put16(frame.bytes + l4 + 20, word);
    if (full_field(frame.bytes, proto, l4, at, frame.len) == 0 && rnd(2))
        put16(frame.bytes + at, 0xffff);    /* as right, and as Linux completes it */
    if (family == 4) {
        put16(ip + 4, word);
        put16(ip + 10, 0);
        put16(ip + 10, (uint16_t)~naive_sum(ip, IP4_LEN, 0));
    }
    make_pkt(&pkt);
    readdress_by(way, &pkt, source, destination);
    rewrite_ttl(&pkt);
    uint16_t field = get16(pkt.data + at), header = get16(pkt.data + ETH_LEN + 10);
    assert_int_equal(field, full_field(pkt.data, proto, l4, at, pkt.len));
    if (family == 4) {
        put16(pkt.data + ETH_LEN + 10, 0);
        assert_int_equal(header, (uint16_t)~naive_sum(pkt.data + ETH_LEN, IP4_LEN, 0));
    }
    pool_pkt_free(&pool, &pkt);
}

/* 4.1.2, 4.1.3, 4.1.7 */
static void every_checksum_is_that_of_a_full_sum(void **state)
{
    (void)state;
    static const struct { uint8_t proto, field; } cases[] = {
        {PROTO_TCP, 16}, {PROTO_UDP, 6}, {PROTO_UDPLITE, 6}, {PROTO_DCCP, 6}, {PROTO_ICMP6, 2},
    };
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        unsigned family = i % 2 ? 6 : 4;
        uint8_t proto = cases[i / 2].proto;
        if (proto == PROTO_ICMP6 && family == 4)
            continue;
        uint32_t l4 = frame_ip(&frame, family, proto, 40, 0);
        rnd_fill(frame.bytes + l4, 40);
        if (proto == PROTO_TCP)
            frame.bytes[l4 + 12] = 0x50;
        if (proto == PROTO_UDP)
            put16(frame.bytes + l4 + 4, 40);
        for (uint32_t way = 0; way < (proto == PROTO_TCP || proto == PROTO_UDP ? 3 : 1); way++)
            for (uint32_t word = 0; word < 65536; word++)
                check_full(family, proto, way, l4 + cases[i / 2].field, (uint16_t)word);
    }
}

static void checksums_keep_their_difference(void **state)
{
    (void)state;
    static const uint8_t protos[] = {PROTO_TCP, PROTO_UDP, PROTO_ICMP, PROTO_ICMP6, PROTO_GRE, PROTO_SCTP};
    uint8_t source[16], destination[16];
    struct pkt pkt;
    for (int i = 0; i < 20000; i++) {
        unsigned family = rnd(2) ? 4 : 6;
        uint8_t proto = protos[rnd(6)];
        uint32_t l4 = frame_l4(&frame, family, proto, 20 + rnd(100), 0), hlen = l4 - ETH_LEN;
        if (i % 3 == 0)
            frame.bytes[l4 + 19] ^= 0x55;       /* a wrong L4 checksum, and a wrong one in the IPv4 header */
        if (i % 5 == 0 && family == 4)
            frame.bytes[ETH_LEN + 5] ^= 0x55;
        uint32_t ip_residue = naive_sum(frame.bytes + ETH_LEN, hlen, 0);
        uint32_t residue = naive_residue(frame.bytes + ETH_LEN, proto, frame.bytes + l4, frame.len - l4);
        make_pkt(&pkt);
        random_addresses(source, destination);
        readdress(&pkt, source, destination);
        frame_of_pkt(&arena, &pkt, &after);
        if (family == 4)
            assert_true(same_sum(naive_sum(after.bytes + ETH_LEN, hlen, 0), ip_residue));
        if (proto != PROTO_ICMP && checksum_offset(family, proto))
            assert_true(same_sum(
                naive_residue(after.bytes + ETH_LEN, proto, after.bytes + l4, after.len - l4), residue));
        if (proto == PROTO_UDP)
            assert_int_not_equal(get16(after.bytes + l4 + 6), 0);
        check_bytes(family, source, destination, l4, proto);
        pool_pkt_free(&pool, &pkt);
    }
}

static void udp_without_checksum_stays_without(void **state)
{
    (void)state;
    uint8_t source[16], destination[16];
    struct pkt pkt;
    for (int i = 0; i < 100; i++) {
        uint32_t l4 = frame_l4(&frame, i % 2 ? 4 : 6, PROTO_UDP, 40, 0);
        put16(frame.bytes + l4 + 6, 0);
        make_pkt(&pkt);
        random_addresses(source, destination);
        readdress(&pkt, source, destination);
        assert_int_equal(get16(pkt.data + l4 + 6), 0);
        pool_pkt_free(&pool, &pkt);
    }
}

/* The new source is chosen so that the new checksum computes to 0. */
static void udp_never_becomes_zero(void **state)
{
    (void)state;
    uint8_t source[16] = {0}, destination[16] = {0};
    struct pkt pkt;
    for (int i = 0; i < 30; i++) {
        uint32_t l4 = frame_l4(&frame, 4, PROTO_UDP, 40, 0), ip = ETH_LEN;
        memcpy(source, frame.bytes + ip + 12, 4);
        memcpy(destination, frame.bytes + ip + 16, 4);
        put16(source, (uint16_t)naive_fold(get16(source) + (uint32_t)get16(frame.bytes + l4 + 6)));
        make_pkt(&pkt);
        readdress(&pkt, source, destination);
        assert_int_equal(get16(pkt.data + l4 + 6), 0xffff);
        assert_int_equal(naive_residue(pkt.data + ip, PROTO_UDP, pkt.data + l4, frame.len - l4), 0xffff);
        pool_pkt_free(&pool, &pkt);
    }
}

/* 4.2.1 */
static void partial_checksums_come_out_right(void **state)
{
    (void)state;
    uint8_t source[16], destination[16];
    struct pkt pkt;
    for (int i = 0; i < 2000; i++) {
        unsigned family = rnd(2) ? 4 : 6;
        uint8_t proto = rnd(2) ? PROTO_TCP : PROTO_UDP;
        uint32_t l4 = frame_l4(&frame, family, proto, 20 + rnd(200), 1);
        frame_to_pkt(&pool, &frame, &pkt, POOL_HEAD_MAX);
        pkt.flags = PKT_PARTIAL;
        pkt.csum_start = (uint16_t)l4;
        pkt.csum_offset = (uint16_t)checksum_offset(family, proto);
        assert_int_equal(parse_frame(&pkt), DROP_NONE);
        random_addresses(source, destination);
        rewrite_addresses(&pkt, source, destination);
        uint32_t field = get16(pkt.data + l4 + pkt.csum_offset);
        assert_true(same_sum(field, naive_pseudo(pkt.data + ETH_LEN, proto, frame.len - l4)));
        assert_true(offload_finish(&arena, &pkt));
        assert_int_equal(naive_residue(pkt.data + ETH_LEN, proto, pkt.data + l4, frame.len - l4), 0xffff);
        pool_pkt_free(&pool, &pkt);
    }
}

/* The datagram's checksum is in the first fragment and covers bytes that are not here. */
static void fragments_first_and_later(void **state)
{
    (void)state;
    uint8_t source[16], destination[16];
    struct pkt pkt;
    for (int i = 0; i < 500; i++) {
        bool later = i % 2;
        uint32_t l4 = frame_ip(&frame, 4, PROTO_TCP, 64, 0);
        rnd_fill(frame.bytes + l4, 64);
        frame.bytes[l4 + 12] = 0x50;
        put16(frame.bytes + ETH_LEN + 6, later ? IP4_MF | 5 : IP4_MF);
        uint32_t residue = naive_residue(frame.bytes + ETH_LEN, PROTO_TCP, frame.bytes + l4, 64);
        make_pkt(&pkt);
        assert_int_equal(pkt.flags, later ? PKT_FRAGMENT | PKT_LATER : PKT_FRAGMENT);
        random_addresses(source, destination);
        rewrite_addresses(&pkt, source, destination);
        if (later)
            assert_memory_equal(pkt.data + l4, frame.bytes + l4, 64);
        else
            assert_true(same_sum(naive_residue(pkt.data + ETH_LEN, PROTO_TCP, pkt.data + l4, 64), residue));
        pool_pkt_free(&pool, &pkt);
    }
}

static void ttl_falls_and_its_checksum_with_it(void **state)
{
    (void)state;
    struct pkt pkt;
    for (int i = 0; i < 2000; i++) {
        unsigned family = i % 2 ? 4 : 6;
        uint32_t l4 = frame_l4(&frame, family, PROTO_UDP, 20, 0), at = ETH_LEN + (family == 4 ? 8 : 7);
        frame.bytes[at] = (uint8_t)(2 + rnd(254));
        uint32_t residue = naive_sum(frame.bytes + ETH_LEN, l4 - ETH_LEN, 0);
        make_pkt(&pkt);
        rewrite_ttl(&pkt);
        assert_int_equal(pkt.data[at], frame.bytes[at] - 1);
        if (family == 4)
            assert_true(same_sum(naive_sum(pkt.data + ETH_LEN, l4 - ETH_LEN, 0), residue));
        pkt.data[at]++;
        if (family == 6)
            assert_memory_equal(pkt.data, frame.bytes, frame.len);
        pool_pkt_free(&pool, &pkt);
    }
}

static int setup(void **state)
{
    (void)state;
    int result = arena_create(&arena, 64);
    pool_init(&pool, &arena);
    return result;
}

static int teardown(void **state)
{
    (void)state;
    uint32_t left = arena_free_slots(&arena, &pool, 1);
    arena_destroy(&arena);
    return left == 64 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_checksum_is_that_of_a_full_sum),
        cmocka_unit_test(checksums_keep_their_difference),
        cmocka_unit_test(udp_without_checksum_stays_without),
        cmocka_unit_test(udp_never_becomes_zero),
        cmocka_unit_test(partial_checksums_come_out_right),
        cmocka_unit_test(fragments_first_and_later),
        cmocka_unit_test(ttl_falls_and_its_checksum_with_it),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
