/* Checksums beside a byte-wise reference. */
#include "base/csum.h"
#include "pkt/offload.h"
#include "step/icmp.h"
#include "frames.h"

static struct arena arena;
static struct pool pool;
static struct frame frame;

static uint32_t crc32c_bitwise(uint32_t crc, const uint8_t *bytes, uint32_t len)
{
    while (len--) {
        crc ^= *bytes++;
        for (int i = 0; i < 8; i++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
    }
    return crc;
}

static uint16_t field_at(const struct pkt *pkt, uint32_t at)
{
    uint8_t b[2];
    assert_true(pkt_read(&arena, pkt, at, b, 2));
    return get16(b);
}

static void sum_of_every_length_and_alignment(void **state)
{
    (void)state;
    static uint8_t random[9001 + 64], ones[9001 + 64];
    rnd_fill(random, sizeof random);
    memset(ones, 0xff, sizeof ones);
    for (uint32_t len = 0; len <= 9001; len++) {
        const uint8_t *at = (len % 7 ? random : ones) + rnd(64);
        uint16_t sum = csum_fold(csum_add(at, len, 0));
        assert_int_equal(__builtin_bswap16(sum), naive_sum(at, len, 0));
        uint16_t more = csum_fold(csum_add(at, len, 0xffffffffffull));
        const uint32_t seed = 0xff00;       /* 2^40 - 1 is 00ff modulo ffff */
        assert_true(same_sum(__builtin_bswap16(more), naive_sum(at, len, seed)));
    }
}

static void fold_is_zero_only_of_zero(void **state)
{
    (void)state;
    assert_int_equal(csum_fold(0), 0);
    assert_int_equal(csum_fold(0xffff), 0xffff);
    assert_int_equal(csum_fold(0x10000), 1);
    assert_int_equal(csum_fold(0xffffffffffffffffull), 0xffff);
    assert_int_equal(csum_fold(0xffffffff00000000ull), 0xffff);
}

/* RFC 1624 section 4: a header that sums to CD7A besides the word 5555, which becomes 3285. */
static void example_of_rfc1624(void **state)
{
    (void)state;
    const uint8_t header[] = {0xcd, 0x7a, 0x55, 0x55}, word[] = {0x55, 0x55}, becomes[] = {0x32, 0x85};
    uint16_t field = (uint16_t)~csum_fold(csum_add(header, 4, 0));
    assert_int_equal(__builtin_bswap16(field), 0xdd2f);
    assert_int_equal(csum_update(field, load16(word), load16(becomes)), 0x0000);
}

static void increments_equal_a_full_sum(void **state)
{
    (void)state;
    static const uint16_t edges[] = {0x0000, 0xffff, 0x0001, 0xfffe, 0x8000};
    uint8_t header[40] = {0x45};
    rnd_fill(header + 1, sizeof header - 1);
    uint16_t field = (uint16_t)~csum_fold(csum_add(header, sizeof header, 0));
    for (int i = 0; i < 200000; i++) {
        uint32_t at = 2 + 2 * rnd(19), words = 1 + rnd(20 - at / 2);
        uint64_t from = csum_add(header + at, words * 2, 0);
        for (uint32_t w = 0; w < words; w++) {
            uint32_t pick = rnd(8);
            put16(header + at + 2 * w, pick < 5 ? edges[pick] : (uint16_t)rnd(65536));
        }
        field = csum_update(field, from, csum_add(header + at, words * 2, 0));
        assert_int_equal(__builtin_bswap16(field), 0xffff - naive_sum(header, sizeof header, 0));
    }
}

static void sum_of_a_frame_in_slots(void **state)
{
    (void)state;
    struct pkt pkt;
    for (int i = 0; i < 400; i++) {
        frame.len = 1 + rnd(i % 2 ? 65000 : 9000);
        rnd_fill(frame.bytes, frame.len);
        frame_to_pkt(&pool, &frame, &pkt, 1 + rnd(POOL_HEAD_MAX));
        for (int j = 0; j < 4; j++) {
            uint32_t at = rnd(frame.len + 1), len = rnd(frame.len - at + 1);
            uint16_t sum = csum_fold(offload_sum(&arena, &pkt, at, len));
            assert_int_equal(__builtin_bswap16(sum), naive_sum(frame.bytes + at, len, 0));
        }
        pool_pkt_free(&pool, &pkt);
    }
}

static void pseudo_headers_and_ip4_headers(void **state)
{
    (void)state;
    static const uint8_t protos[] = {PROTO_TCP, PROTO_UDP, PROTO_ICMP6, PROTO_GRE, 255};
    struct pkt pkt;
    for (int i = 0; i < 500; i++) {
        uint8_t proto = protos[rnd(5)];
        unsigned family = i % 2 ? 4 : 6;
        frame_l4(&frame, family, proto, 60 + rnd(500), 0);
        frame_to_pkt(&pool, &frame, &pkt, POOL_HEAD_MAX);
        assert_int_equal(parse_frame(&pkt), DROP_NONE);
        uint32_t l4len = rnd(65536);
        assert_int_equal(__builtin_bswap16(csum_fold(offload_pseudo(&pkt, l4len))),
                         naive_pseudo(frame.bytes + ETH_LEN, proto, l4len));
        if (family == 4) {
            unsigned hlen = pkt.l4 - pkt.l3;
            assert_true(csum_ip4_ok(pkt.data + pkt.l3, hlen));
            pkt.data[pkt.l3 + rnd(hlen)] ^= (uint8_t)(1 << rnd(8));
            assert_false(csum_ip4_ok(pkt.data + pkt.l3, hlen));
        }
        pool_pkt_free(&pool, &pkt);
    }
}

/* 4.2.2 */
static void finish_makes_partial_sums_whole(void **state)
{
    (void)state;
    struct pkt pkt;
    for (int i = 0; i < 400; i++) {
        unsigned family = rnd(2) ? 4 : 6;
        uint8_t proto = rnd(2) ? PROTO_TCP : PROTO_UDP;
        uint32_t l4 = frame_l4(&frame, family, proto, 20 + rnd(i % 4 ? 3000 : 60000), 1);
        uint32_t end = frame.len, padding = rnd(40);
        rnd_fill(frame.bytes + frame.len, padding);
        frame.len += padding;
        frame_to_pkt(&pool, &frame, &pkt, 200 + rnd(POOL_HEAD_MAX - 200));
        pkt.flags = PKT_PARTIAL;
        pkt.csum_start = (uint16_t)l4;
        pkt.csum_offset = (uint16_t)checksum_offset(family, proto);
        assert_int_equal(parse_frame(&pkt), DROP_NONE);
        assert_true(offload_finish(&arena, &pkt));
        assert_int_equal(pkt.flags & PKT_PARTIAL, 0);
        frame_of_pkt(&arena, &pkt, &frame);
        assert_int_equal(naive_residue(frame.bytes + ETH_LEN, proto, frame.bytes + l4, end - l4), 0xffff);
        assert_int_not_equal(field_at(&pkt, l4 + pkt.csum_offset), proto == PROTO_UDP ? 0 : 0xffff);
        pool_pkt_free(&pool, &pkt);
    }
}

/*
 * The payload is made so that the sum comes out as 0xffff and the field 0, which in UDP means "no checksum"
 * and in TCP is the checksum.
 */
static void finish_computes_zero_but_in_udp(void **state)
{
    (void)state;
    struct pkt pkt;
    for (int udp = 0; udp < 2; udp++) {
        uint8_t proto = udp ? PROTO_UDP : PROTO_TCP;
        uint32_t l4 = frame_l4(&frame, 4, proto, 40, 1);
        put16(frame.bytes + l4 + 20, 0);
        put16(frame.bytes + l4 + 20, (uint16_t)(0xffff - naive_sum(frame.bytes + l4, 40, 0)));
        frame_to_pkt(&pool, &frame, &pkt, POOL_HEAD_MAX);
        pkt.flags = PKT_PARTIAL;
        pkt.csum_start = (uint16_t)l4;
        pkt.csum_offset = udp ? 6 : 16;
        assert_int_equal(parse_frame(&pkt), DROP_NONE);
        assert_true(offload_finish(&arena, &pkt));
        assert_int_equal(field_at(&pkt, l4 + pkt.csum_offset), udp ? 0xffff : 0);
        pool_pkt_free(&pool, &pkt);
    }
}

/* 2.7.3 */
static void echo_replies_equal_a_full_sum(void **state)
{
    (void)state;
    static const uint8_t mac[6] = {2};
    struct pkt pkt;
    for (uint32_t i = 0; i < 2 * 65536; i++) {
        unsigned family = i % 2 ? 4 : 6;
        uint8_t proto = family == 4 ? PROTO_ICMP : PROTO_ICMP6;
        uint32_t l4 = frame_ip(&frame, family, proto, 64, 0);
        uint8_t *ip = frame.bytes + ETH_LEN, *icmp = frame.bytes + l4;
        memset(icmp, 0, 64);
        icmp[0] = family == 4 ? ICMP_ECHO : ICMP6_ECHO;
        put16(icmp + 4, (uint16_t)(i / 2));
        put16(icmp + 2, (uint16_t)~(family == 4 ? naive_sum(icmp, 64, 0) : naive_residue(ip, proto, icmp, 64)));
        frame_to_pkt(&pool, &frame, &pkt, POOL_HEAD_MAX);
        assert_int_equal(parse_frame(&pkt), DROP_NONE);
        assert_true(icmp_is_echo(&pkt));
        icmp_echo_reply(&arena, &pkt, mac);
        ip = pkt.data + ETH_LEN, icmp = pkt.data + l4;
        uint16_t field = get16(icmp + 2), header = get16(ip + 10);
        put16(icmp + 2, 0);
        uint32_t sum = family == 4 ? naive_sum(icmp, 64, 0) : naive_residue(ip, proto, icmp, 64);
        assert_int_equal(field, 0xffff - sum);
        if (family == 4) {
            put16(ip + 10, 0);
            assert_int_equal(header, 0xffff - naive_sum(ip, IP4_LEN, 0));
        }
        pool_pkt_free(&pool, &pkt);
    }
}

/* 4.2.3 */
static void finish_of_sctp_is_crc32c(void **state)
{
    (void)state;
    struct pkt pkt;
    assert_int_equal(~csum_crc32c(0xffffffff, "123456789", 9), 0xe3069283);
    for (int i = 0; i < 200; i++) {
        uint32_t l4len = 12 + rnd(i % 4 ? 1400 : 30000);
        uint32_t l4 = frame_l4(&frame, i % 2 ? 4 : 6, PROTO_SCTP, l4len, 0);
        frame_to_pkt(&pool, &frame, &pkt, 120 + rnd(POOL_HEAD_MAX - 120));
        pkt.flags = PKT_PARTIAL;
        pkt.csum_start = (uint16_t)l4;
        pkt.csum_offset = 8;
        assert_int_equal(parse_frame(&pkt), DROP_NONE);
        assert_true(offload_finish(&arena, &pkt));
        memset(frame.bytes + l4 + 8, 0, 4);
        uint32_t expected = ~crc32c_bitwise(0xffffffff, frame.bytes + l4, l4len);
        for (int b = 0; b < 4; b++)
            assert_int_equal(pkt.data[l4 + 8 + b], expected >> 8 * b & 0xff);
        pool_pkt_free(&pool, &pkt);
    }
}

static void finish_refuses_what_lies_outside(void **state)
{
    (void)state;
    struct pkt pkt;
    static const struct {
        uint8_t proto;
        uint16_t l4len, start, offset;
    } cases[] = {
        {PROTO_GRE, 100, 99, 0}, {PROTO_GRE, 100, 0, 99}, {PROTO_GRE, 100, 100, 0},
        {PROTO_GRE, 100, 65000, 65535}, {PROTO_SCTP, 11, 0, 8}, {PROTO_GRE, 4000, 3500, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t l4 = frame_ip(&frame, 4, cases[i].proto, cases[i].l4len, 0);
        memset(frame.bytes + frame.len, 0, 10);
        frame.len += 10;            /* Ethernet padding is outside, too */
        frame_to_pkt(&pool, &frame, &pkt, POOL_HEAD_MAX);
        pkt.flags = PKT_PARTIAL;
        assert_int_equal(parse_frame(&pkt), DROP_NONE);
        pkt.csum_start = (uint16_t)(l4 + cases[i].start);
        pkt.csum_offset = cases[i].offset;
        assert_false(offload_finish(&arena, &pkt));
        assert_true(pkt.flags & PKT_PARTIAL);
        struct frame *after = malloc(sizeof *after);
        frame_of_pkt(&arena, &pkt, after);
        assert_memory_equal(after->bytes, frame.bytes, frame.len);
        free(after);
        pool_pkt_free(&pool, &pkt);
    }
}

static int setup(void **state)
{
    (void)state;
    int result = arena_create(&arena, 512);
    pool_init(&pool, &arena);
    return result;
}

static int teardown(void **state)
{
    (void)state;
    uint32_t left = arena_free_slots(&arena, &pool, 1);
    arena_destroy(&arena);
    return left == 512 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sum_of_every_length_and_alignment),
        cmocka_unit_test(fold_is_zero_only_of_zero),
        cmocka_unit_test(example_of_rfc1624),
        cmocka_unit_test(increments_equal_a_full_sum),
        cmocka_unit_test(sum_of_a_frame_in_slots),
        cmocka_unit_test(pseudo_headers_and_ip4_headers),
        cmocka_unit_test(finish_makes_partial_sums_whole),
        cmocka_unit_test(finish_computes_zero_but_in_udp),
        cmocka_unit_test(echo_replies_equal_a_full_sum),
        cmocka_unit_test(finish_of_sctp_is_crc32c),
        cmocka_unit_test(finish_refuses_what_lies_outside),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
