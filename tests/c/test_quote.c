/*
 * ICMP errors by rewrite: which messages are errors, and that of any quote nothing but addresses and the checksums
 * that count them changes; what was right is right, what was wrong is wrong by as much, and back again is where it was.
 */
#include "router/quote.h"
#include "base/csum.h"
#include "frames.h"

enum { QUOTE_AT = ICMP_LEN };

static struct arena arena;
static struct pool pool;
static struct frame frame, inner, before, after;

/* A port with one own CA of the family, and its rewrite PA. */
static struct port_policy *policy;
static struct port_source *own;

static void make_port(unsigned family, const uint8_t *ca)
{
    memset(policy, 0, sizeof *policy + sizeof *own);
    policy->n4 = policy->own4 = family == 4;
    policy->n6 = policy->own6 = family == 6;
    own->family = (uint8_t)family;
    own->prefix_len = family == 4 ? 32 : 128;
    own->has_pa = 1;
    memcpy(own->ca, ca, family == 4 ? 4 : 16);
    rnd_fill(own->pa, family == 4 ? 4 : 16);
}

static void errors_are_known(void **state)
{
    (void)state;
    struct pkt pkt;
    const uint8_t pa[16] = {192, 168, 77, 1};
    for (unsigned type = 0; type < 256; type++) {
        bool error4 = type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
        const struct { unsigned family; uint8_t proto; bool later, error; } cases[] = {
            {4, PROTO_ICMP, false, error4}, {4, PROTO_ICMP, true, false}, {4, PROTO_ICMP6, false, false},
            {6, PROTO_ICMP6, false, type < 128}, {6, PROTO_ICMP, false, false}, {6, PROTO_NONE, false, false},
        };
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            uint32_t l4 = frame_ip(&frame, cases[i].family, cases[i].proto, 64, 0);
            memset(frame.bytes + l4, 0, 64);
            frame.bytes[l4] = (uint8_t)type;
            if (cases[i].later)
                put16(frame.bytes + ETH_LEN + 6, 8);
            frame_to_pkt(&pool, &frame, &pkt, POOL_HEAD_MAX);
            assert_int_equal(parse_frame(&pkt), DROP_NONE);
            make_port(cases[i].family, pkt_source(&pkt));
            assert_int_equal(quote_out(policy, &pkt, pa) == DROP_ICMP_ERROR, cases[i].error);
            frame_of_pkt(&arena, &pkt, &after);
            assert_memory_equal(after.bytes, frame.bytes, frame.len);
            pool_pkt_free(&pool, &pkt);
        }
    }
}

/* Behind a packet that ends with its headers nothing is read: another's slot may lie there, or none. */
static void what_has_no_type_is_not_asked(void **state)
{
    (void)state;
    const uint8_t pa[16] = {192, 168, 77, 1};
    for (unsigned family = 4; family <= 6; family += 2) {
        const uint32_t len = frame_ip(&frame, family, PROTO_NONE, 0, 0);
        uint8_t *bytes = malloc(len);
        struct pkt pkt = {.data = bytes, .len = len, .head = (uint16_t)len};
        memcpy(bytes, frame.bytes, len);
        assert_int_equal(parse_frame(&pkt), DROP_NONE);
        make_port(family, pkt_source(&pkt));
        assert_int_equal(quote_out(policy, &pkt, pa), DROP_NONE);
        free(bytes);
    }
}

/* An error about a packet, its first `len` bytes; its own checksum is off by `off`. Returns the offset of L4. */
static uint32_t make_error(unsigned family, uint32_t len, uint16_t off)
{
    const uint8_t proto = family == 4 ? PROTO_ICMP : PROTO_ICMP6;
    const uint32_t size = family == 4 ? 4 : 16, addresses = ETH_LEN + (family == 4 ? 12 : 8);
    uint32_t l4 = frame_ip(&frame, family, proto, QUOTE_AT + len, 0);
    uint8_t *icmp = frame.bytes + l4;
    memcpy(frame.bytes + addresses, inner.bytes + addresses + size, size);
    memcpy(frame.bytes + addresses + size, inner.bytes + addresses, size);
    memset(icmp, 0, QUOTE_AT);
    icmp[0] = family == 4 ? 3 : 1;
    memcpy(icmp + QUOTE_AT, inner.bytes + ETH_LEN, len);
    uint32_t sum = family == 4 ? naive_sum(icmp, QUOTE_AT + len, 0)
                               : naive_residue(frame.bytes + ETH_LEN, proto, icmp, QUOTE_AT + len);
    put16(icmp + 2, (uint16_t)(0xffff - sum + off));
    return l4;
}

/* What a receiver of the quoted packet sums of its L4; 0 if it has no checksum. */
static uint32_t quoted_residue(const uint8_t *ip, uint32_t header, uint8_t proto, uint32_t len)
{
    const uint8_t *l4 = ip + header;
    bool none = proto == PROTO_ICMP || (proto == PROTO_UDP && load16(l4 + 6) == 0);
    return none ? 0 : naive_residue(ip, proto, l4, len - header);
}

static void check_quote(unsigned family, uint8_t proto, uint32_t l4len, uint32_t cut)
{
    struct pkt pkt;
    const uint32_t size = family == 4 ? 4 : 16, at = family == 4 ? 12 : 8;
    const uint32_t l4 = frame_l4(&inner, family, proto, l4len, 0), header = l4 - ETH_LEN;
    if (rnd(4) == 0 && checksum_offset(family, proto))
        rnd_fill(inner.bytes + l4 + checksum_offset(family, proto), 2);
    if (rnd(4) == 0 && proto == PROTO_UDP)
        put16(inner.bytes + l4 + 6, 0);
    const uint32_t whole = inner.len - ETH_LEN, len = whole - cut;
    const uint32_t icmp = make_error(family, len, (uint16_t)(rnd(2) ? 0 : rnd(0xffff)));
    uint8_t pa[16];
    rnd_fill(pa, sizeof pa);
    make_port(family, frame.bytes + ETH_LEN + at);
    before = frame;
    frame_to_pkt(&pool, &frame, &pkt, POOL_HEAD_MAX);
    assert_int_equal(parse_frame(&pkt), DROP_NONE);
    assert_int_equal(quote_out(policy, &pkt, pa), DROP_NONE);
    frame_of_pkt(&arena, &pkt, &after);
    pool_pkt_free(&pool, &pkt);

    uint8_t *old = before.bytes + icmp + QUOTE_AT, *new = after.bytes + icmp + QUOTE_AT;
    assert_memory_equal(new + at, pa, size);
    assert_memory_equal(new + at + size, own->pa, size);
    /* both message's sums are the same number, as nothing outside of it has changed */
    assert_true(same_sum(naive_sum(before.bytes + icmp, QUOTE_AT + len, 0),
                         naive_sum(after.bytes + icmp, QUOTE_AT + len, 0)));
    if (family == 4)
        assert_true(same_sum(naive_sum(old, header, 0), naive_sum(new, header, 0)));
    if (cut == 0)
        assert_true(same_sum(quoted_residue(old, header, proto, len), quoted_residue(new, header, proto, len)));
    uint32_t field = proto == PROTO_ICMP ? 0 : checksum_offset(family, proto);
    bool there = field && header + field + 2 <= len;
    if (there && proto == PROTO_UDP)
        assert_int_equal(load16(old + header + 6) == 0, load16(new + header + 6) == 0);

    /* and nothing else has changed */
    memcpy(new + at, old + at, 2 * size);
    memcpy(after.bytes + icmp + 2, before.bytes + icmp + 2, 2);
    if (family == 4)
        memcpy(new + 10, old + 10, 2);
    if (there)
        memcpy(new + header + field, old + header + field, 2);
    assert_int_equal(after.len, before.len);
    assert_memory_equal(after.bytes, before.bytes, before.len);
}

static void quotes_of_any_packet(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 20000; n++) {
        const unsigned family = rnd(2) ? 4 : 6;
        const uint8_t protos[] = {PROTO_TCP, PROTO_UDP, family == 4 ? PROTO_ICMP : PROTO_ICMP6};
        const uint32_t l4len = 20 + rnd(60);
        check_quote(family, protos[rnd(3)], l4len, rnd(2) ? rnd(l4len - 7) : 0);
    }
}

static int setup(void **state)
{
    (void)state;
    int result = arena_create(&arena, 64);
    pool_init(&pool, &arena);
    policy = malloc(sizeof *policy + sizeof *own);
    own = policy->sources;
    return policy ? result : -1;
}

static int teardown(void **state)
{
    (void)state;
    uint32_t left = arena_free_slots(&arena, &pool, 1);
    arena_destroy(&arena);
    free(policy);
    return left == 64 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_known),
        cmocka_unit_test(what_has_no_type_is_not_asked),
        cmocka_unit_test(quotes_of_any_packet),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
