/* Segmentation beside a naive segmenter that works on flat bytes. */
#include "pkt/offload.h"
#include "port/segments.h"
#include "pkt/parse.h"
#include "fake_io.h"

static struct frame frame, got, expected;

static uint32_t naive_headers(const struct frame *f, uint32_t l4)
{
    const uint8_t *ip = f->bytes + ETH_LEN;
    bool udp = (ip[0] >> 4 == 4 ? ip[9] : ip[6]) == PROTO_UDP;
    return l4 + (udp ? UDP_LEN : (f->bytes[l4 + 12] >> 4) * 4u);
}

/*
 * Bytes of the i-th of the segments of `frame`; true if it is the last. The checksum is summed whole, and off
 * by `error`.
 */
static bool naive_segment(const struct frame *f, uint32_t l4, uint32_t end, uint32_t size, uint32_t i,
                          uint32_t error, struct frame *out)
{
    uint32_t headers = naive_headers(f, l4), from = headers + i * size;
    uint32_t to = from + size < end ? from + size : end;
    uint8_t *ip = out->bytes + ETH_LEN, *tcp = out->bytes + l4;
    bool last = to == end, udp = headers == l4 + UDP_LEN;
    memcpy(out->bytes, f->bytes, headers);
    memcpy(out->bytes + headers, f->bytes + from, to - from);
    out->len = headers + (to - from);
    if (ip[0] >> 4 == 4) {
        uint32_t wrong = naive_sum(ip, l4 - ETH_LEN, 0); /* right or wrong, it goes on summing to it */
        put16(ip + 2, (uint16_t)(out->len - ETH_LEN));
        put16(ip + 4, (uint16_t)(get16(ip + 4) + i));
        put16(ip + 10, 0);
        put16(ip + 10, (uint16_t)naive_fold(wrong + 0xffff - naive_sum(ip, l4 - ETH_LEN, 0)));
    } else {
        put16(ip + 4, (uint16_t)(out->len - ETH_LEN - IP6_LEN));
    }
    if (udp) {
        put16(tcp + 4, (uint16_t)(out->len - l4));
    } else {
        put32(tcp + 4, get32(tcp + 4) + i * size);
        if (!last)
            tcp[13] &= (uint8_t)~0x09;
        if (i)
            tcp[13] &= 0x7f;
    }
    uint8_t *field = tcp + (udp ? 6 : 16);
    put16(field, 0);
    put16(field, (uint16_t)~naive_fold(naive_residue(ip, udp ? PROTO_UDP : PROTO_TCP, tcp, out->len - l4) + error));
    if (udp && get16(field) == 0)
        put16(field, 0xffff);
    return last;
}

static void make_super(uint8_t proto, unsigned family, uint32_t payload, uint32_t size, uint32_t head, struct pkt *pkt)
{
    bool udp = proto == PROTO_UDP;
    uint32_t options = rnd(11) * 4, l4len = (udp ? UDP_LEN : TCP_LEN + options) + payload;
    uint32_t l4 = frame_ip(&frame, family, proto, l4len, family == 4 ? rnd(3) * 4 : 0);
    rnd_fill(frame.bytes + l4, l4len);
    if (udp)
        put16(frame.bytes + l4 + 4, (uint16_t)l4len);
    else
        frame.bytes[l4 + 12] = (uint8_t)((5 + options / 4) << 4);
    frame_seal(&frame, l4, proto, l4 + checksum_offset(family, proto), 1);
    uint32_t padding = rnd(4) ? 0 : rnd(30);
    rnd_fill(frame.bytes + frame.len, padding);
    frame.len += padding;
    frame_to_pkt(&fake_io.pool, &frame, pkt, head);
    pkt->in_port = 1;
    pkt->time = 77;
    pkt->flags = PKT_PARTIAL;
    pkt->gso = udp ? DP_GSO_UDP : family == 4 ? DP_GSO_TCP4 : DP_GSO_TCP6;
    pkt->gso_size = (uint16_t)size;
    pkt->csum_start = (uint16_t)l4;
    pkt->csum_offset = (uint16_t)checksum_offset(family, proto);
    assert_int_equal(parse_frame(pkt), DROP_NONE);
    assert_int_equal(offload_check(&fake_arena, pkt), size * 1365 < l4len ? DROP_BAD_OFFLOAD : DROP_NONE);
}

struct check {
    uint32_t n, l4, l3_end, size, error;
    bool ended;
};

/* 0 and 0xffff in the IPv4 header's checksum are the same. */
static void assert_same_frame(const struct frame *a, const struct frame *b)
{
    assert_int_equal(a->len, b->len);
    if (a->bytes[12] == 8 && get16(a->bytes + ETH_LEN + 10) != get16(b->bytes + ETH_LEN + 10)) {
        assert_true(same_sum(get16(a->bytes + ETH_LEN + 10), get16(b->bytes + ETH_LEN + 10)));
        assert_memory_equal(a->bytes, b->bytes, ETH_LEN + 10);
        assert_memory_equal(a->bytes + ETH_LEN + 12, b->bytes + ETH_LEN + 12, a->len - ETH_LEN - 12);
    } else {
        assert_memory_equal(a->bytes, b->bytes, a->len);
    }
}

static void check_segment(void *ctx, struct pkt *segment)
{
    struct check *check = ctx;
    assert_false(check->ended);
    check->ended = naive_segment(&frame, check->l4, check->l3_end, check->size, check->n++, check->error,
                                 &expected);
    frame_of_pkt(&fake_arena, segment, &got);
    assert_same_frame(&got, &expected);
    assert_int_equal(segment->gso, DP_GSO_NONE);
    assert_int_equal(segment->time, 77);
    assert_int_equal(segment->in_port, 1);
    struct pkt again = *segment;
    assert_int_equal(parse_frame(&again), DROP_NONE);
    assert_memory_equal(&again, segment, sizeof again);
    pool_pkt_free(&fake_io.pool, segment);
    stats_add(&fake_io.stats[1]->sent, 1);
}

/* Every segment is given to fn, which takes it. */
static void each_segment(struct pkt *pkt, void (*fn)(void *ctx, struct pkt *segment), void *ctx)
{
    struct gso_cut cut = gso_begin(&fake_arena, pkt);
    for (struct pkt *segment; (segment = segments_next(&fake_io, &cut, pkt));)
        fn(ctx, segment);
    assert_int_equal(fake_io.spent_n, 1);
    io_flush(&fake_io);
}

static uint32_t cut_and_check(struct pkt *pkt, uint32_t error)
{
    struct check check = {.l4 = pkt->l4, .l3_end = pkt->l3_end, .size = pkt->gso_size, .error = error};
    uint32_t largest = gso_l3_len(pkt), header = naive_headers(&frame, pkt->l4);
    uint32_t payload = pkt->l3_end - header;
    assert_int_equal(largest, header - ETH_LEN + (payload < pkt->gso_size ? payload : pkt->gso_size));
    fake_stats = (struct port_stats){.received = 1};
    each_segment(pkt, check_segment, &check);
    assert_true(check.ended);
    assert_int_equal(check.n, payload ? (payload + check.size - 1) / check.size : 1);
    assert_int_equal(fake_stats.received + fake_stats.originated, fake_stats.sent);
    return check.n;
}

static const uint8_t protos[] = {PROTO_TCP, PROTO_UDP};

/* 4.3.1, 4.3.2, 4.3.3, 4.3.5, 4.3.6 */
static void segments_are_those_of_the_naive_twin(void **state)
{
    (void)state;
    struct pkt pkt;
    for (int i = 0; i < 600; i++) {
        uint32_t payload = rnd(4) ? rnd(65000) : rnd(3000), size = 1 + rnd(rnd(2) ? 1448 : 20000);
        if (payload / size > 2000)
            size = 1448;
        make_super(protos[rnd(2)], rnd(2) ? 4 : 6, payload, size, 200 + rnd(POOL_HEAD_MAX - 200), &pkt);
        cut_and_check(&pkt, 0);
    }
}

static void edges_of_the_size(void **state)
{
    (void)state;
    static const struct {
        uint32_t payload, size, segments;
    } cases[] = {
        {0, 1448, 1}, {1, 1448, 1}, {1447, 1448, 1}, {1448, 1448, 1}, {1449, 1448, 2}, {2896, 1448, 2},
        {65000, 65535, 1}, {5, 1, 5}, {64000, 8900, 8},
    };
    struct pkt pkt;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (unsigned kind = 0; kind < 4; kind++) {
            make_super(protos[kind / 2], kind % 2 ? 4 : 6, cases[i].payload, cases[i].size, POOL_HEAD_MAX, &pkt);
            assert_int_equal(cut_and_check(&pkt, 0), cases[i].segments);
        }
}

/* 1.6.8, 1.6.9: a super-packet in parts, each in segments, comes out as the same segments in one go. */
static void parts_make_the_same_segments(void **state)
{
    (void)state;
    struct pkt pkt, part, again;
    for (int round = 0; round < 200; round++) {
        uint32_t payload = rnd(4) ? rnd(3000) : rnd(60000), size = 50 + rnd(300), segments = 1 + rnd(100);
        make_super(protos[rnd(2)], rnd(2) ? 4 : 6, payload, size, 200 + rnd(POOL_HEAD_MAX - 200), &pkt);
        struct check check = {.l4 = pkt.l4, .l3_end = pkt.l3_end, .size = size};
        struct gso_cut cut = gso_begin(&fake_arena, &pkt);
        do {
            assert_true(gso_part(&fake_io.pool, &cut, segments, &part));
            assert_int_equal(part.gso, pkt.gso);
            again = part;
            assert_int_equal(parse_frame(&again), DROP_NONE);
            assert_int_equal(offload_check(&fake_arena, &again), DROP_NONE);
            assert_memory_equal(&again, &part, sizeof again);
            assert_true(cut.left ? gso_segments(&part) == segments : gso_segments(&part) <= segments);
            each_segment(&part, check_segment, &check);
        } while (cut.left);
        assert_true(check.ended);
        pool_pkt_free(&fake_io.pool, &pkt);
    }
}

/*
 * The sender's partial sum and its header checksum are wrong: every segment is wrong by as much, none is
 * repaired.
 */
static void wrong_sums_stay_wrong(void **state)
{
    (void)state;
    struct pkt pkt;
    for (int i = 0; i < 40; i++) {
        make_super(protos[i / 2 % 2], i % 2 ? 4 : 6, 5000, 1000, POOL_HEAD_MAX, &pkt);
        uint32_t field = pkt.l4 + pkt.csum_offset, error = 1 + rnd(60000);
        put16(frame.bytes + field, (uint16_t)naive_fold(get16(frame.bytes + field) + error));
        if (i % 2)
            frame.bytes[ETH_LEN + 10] ^= 0x11;
        memcpy(pkt.data, frame.bytes, field + 2);
        cut_and_check(&pkt, error);
    }
}

/* 4.2.2: in TCP a field that comes out 0 is 0, in UDP 0xffff */
static void a_field_that_comes_out_zero(void **state)
{
    (void)state;
    struct pkt pkt;
    for (unsigned kind = 0; kind < 4; kind++) {
        make_super(protos[kind / 2], kind % 2 ? 4 : 6, 2000, 1000, POOL_HEAD_MAX, &pkt);
        uint32_t field = pkt.l4 + pkt.csum_offset, word = naive_headers(&frame, pkt.l4);
        naive_segment(&frame, pkt.l4, pkt.l3_end, 1000, 0, 0, &expected);
        put16(frame.bytes + word, (uint16_t)naive_fold(get16(frame.bytes + word) + get16(expected.bytes + field)));
        memcpy(pkt.data + word, frame.bytes + word, 2);
        naive_segment(&frame, pkt.l4, pkt.l3_end, 1000, 0, 0, &expected);
        assert_int_equal(get16(expected.bytes + field), kind / 2 ? 0xffff : 0);
        assert_int_equal(cut_and_check(&pkt, 0), 2);
    }
}

struct flags {
    const uint8_t *of;
    uint32_t n, at;
};

static void check_flags(void *ctx, struct pkt *segment)
{
    struct flags *flags = ctx;
    assert_int_equal(segment->data[flags->at], flags->of[flags->n++]);
    pool_pkt_free(&fake_io.pool, segment);
}

/* 4.3.4 */
static void flags_of_first_and_last(void **state)
{
    (void)state;
    enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16, URG = 32, ECE = 64, CWR = 128 };
    static const struct { uint8_t flags, segments[3]; } cases[] = {
        {ACK, {ACK, ACK, ACK}},
        {ACK | PSH, {ACK, ACK, ACK | PSH}},
        {ACK | FIN | PSH, {ACK, ACK, ACK | FIN | PSH}},
        {ACK | CWR | ECE, {ACK | CWR | ECE, ACK | ECE, ACK | ECE}},
        {0xff, {0xff & ~(FIN | PSH), 0xff & ~(FIN | PSH | CWR), 0xff & ~CWR}},
    };
    struct pkt pkt;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make_super(PROTO_TCP, 4, 300, 100, POOL_HEAD_MAX, &pkt);
        struct flags flags = {.of = cases[i].segments, .at = pkt.l4 + 13u};
        pkt.data[pkt.l4 + 13] = cases[i].flags;
        each_segment(&pkt, check_flags, &flags);
        assert_int_equal(flags.n, 3);
    }
}

struct kept {
    struct pkt *pkts[16];
    uint32_t n;
};

static void keep(void *ctx, struct pkt *segment)
{
    struct kept *kept = ctx;
    kept->pkts[kept->n++] = segment;
}

/* A 40,000-byte packet takes 10 of 16 slots, which leaves 6 for the headers of its segments. */
static void without_slots_the_rest_is_one_drop(void **state)
{
    (void)state;
    struct pkt pkt;
    struct kept kept = {.n = 0};
    fake_io_end();
    fake_io_init(16);
    make_super(PROTO_TCP, 4, 39000, 4000, POOL_HEAD_MAX, &pkt);
    assert_int_equal(pkt.slots, 10);
    fake_stats = (struct port_stats){.received = 1};
    each_segment(&pkt, keep, &kept);
    assert_int_equal(kept.n, 6);
    assert_int_equal(fake_stats.drops[DROP_NO_SLOT], 1);
    assert_int_equal(fake_stats.dropped, 1);
    assert_int_equal(fake_stats.received + fake_stats.originated, kept.n + fake_stats.dropped);
    while (kept.n)
        pool_pkt_free(&fake_io.pool, kept.pkts[--kept.n]);
}

static int setup(void **state)
{
    (void)state;
    fake_io_init(1024);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_io_end();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(segments_are_those_of_the_naive_twin, setup, teardown),
        cmocka_unit_test_setup_teardown(edges_of_the_size, setup, teardown),
        cmocka_unit_test_setup_teardown(parts_make_the_same_segments, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_sums_stay_wrong, setup, teardown),
        cmocka_unit_test_setup_teardown(a_field_that_comes_out_zero, setup, teardown),
        cmocka_unit_test_setup_teardown(flags_of_first_and_last, setup, teardown),
        cmocka_unit_test_setup_teardown(without_slots_the_rest_is_one_drop, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
