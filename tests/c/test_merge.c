/* Merging beside a naive twin on flat frames, and undone by a naive segmenter: what goes out is what came. */
#include "port/merge.h"
#include "fake_io.h"
#include "pkt/offload.h"
#include "step/gso.h"

enum { FRAMES = 60, FLOWS = 4, OPTIONS = 12 };
enum { FIN = 1, SYN = 2, PSH = 8, ACK = 16, URG = 32, ECE = 64, CWR = 128 };

static struct frame frames[FRAMES], merged, part;
static struct pkt pkts[FRAMES], *queue[FRAMES];
static uint32_t slots_of[FRAMES];
static struct port port = {.id = 2, .caps = PORT_CSUM | PORT_TSO4 | PORT_TSO6 | PORT_USO | PORT_MERGE};

/* What the next segment of a flow is made of. */
struct flow {
    unsigned family;
    uint32_t number, seq, ack, options;
    uint16_t id, window;
    uint8_t tos, ttl, df, flags, proto;
};

static struct flow new_flow(unsigned family, uint32_t number)
{
    return (struct flow){.family = family, .number = number, .seq = rnd(UINT32_MAX), .ack = rnd(UINT32_MAX),
                         .options = rnd(2) * OPTIONS, .id = (uint16_t)rnd(65536), .window = 500, .tos = 2,
                         .ttl = 64, .df = (uint8_t)(rnd(2) * 0x40), .flags = ACK, .proto = PROTO_TCP};
}

static uint32_t l4_of(const struct frame *f) { return f->bytes[12] == 8 ? ETH_LEN + IP4_LEN : ETH_LEN + IP6_LEN; }
static uint8_t proto_of(const struct frame *f) { return f->bytes[f->bytes[12] == 8 ? ETH_LEN + 9 : ETH_LEN + 6]; }
static bool is_udp(const struct frame *f) { return proto_of(f) == PROTO_UDP; }
static uint32_t sum_of(const struct frame *f) { return l4_of(f) + (is_udp(f) ? 6 : 16); }
static uint32_t headers_of(const struct frame *f)
{
    return l4_of(f) + (is_udp(f) ? UDP_LEN : (f->bytes[l4_of(f) + 12] >> 4) * 4u);
}

static void seal(struct frame *f)
{
    uint8_t *ip = f->bytes + ETH_LEN;
    if (ip[0] >> 4 == 4) {
        put16(ip + 10, 0);
        put16(ip + 10, (uint16_t)~naive_sum(ip, IP4_LEN, 0));
    }
    frame_seal(f, l4_of(f), proto_of(f), sum_of(f), 0);
}

/* The flow's next segment; the flow goes on behind it. */
static void next_segment(struct flow *flow, uint32_t payload, struct frame *f)
{
    uint32_t headers = flow->proto == PROTO_UDP ? UDP_LEN : TCP_LEN + flow->options;
    uint32_t l4len = headers + payload, l4 = frame_ip(f, flow->family, flow->proto, l4len, 0);
    uint8_t *ip = f->bytes + ETH_LEN, *tcp = f->bytes + l4;
    memset(f->bytes, 2, 12);
    f->bytes[5] = (uint8_t)flow->number;
    memset(ip + (flow->family == 4 ? 12 : 8), (int)flow->number, flow->family == 4 ? 8 : 32);
    if (flow->family == 4) {
        ip[1] = flow->tos, ip[8] = flow->ttl, ip[6] = flow->df;
        put16(ip + 4, flow->id++);
    } else {
        ip[1] = (uint8_t)(flow->tos << 4), ip[7] = flow->ttl;
    }
    memset(tcp, 0, headers);
    put32(tcp, 0x10002000);
    if (flow->proto == PROTO_UDP) {
        put16(tcp + 4, (uint16_t)l4len);
    } else {
        put32(tcp + 4, flow->seq);
        put32(tcp + 8, flow->ack);
        tcp[12] = (uint8_t)(headers << 2);
        tcp[13] = flow->flags;
        put16(tcp + 14, flow->window);
        memset(tcp + TCP_LEN, 1, flow->options);
    }
    rnd_fill(tcp + headers, payload);
    flow->seq += payload;
    seal(f);
}

/* ---- the twin ------------------------------------------------------------------------------------------------ */

static bool twin_fits(const struct frame *f)
{
    const uint8_t *ip = f->bytes + ETH_LEN, *tcp = f->bytes + l4_of(f);
    uint32_t end = ip[0] >> 4 == 4 ? ETH_LEN + get16(ip + 2) : ETH_LEN + IP6_LEN + get16(ip + 4);
    bool plain = is_udp(f) ? get16(tcp + 6) && get16(tcp + 4) == end - l4_of(f) : (tcp[13] & ~PSH) == ACK;
    return f->len == end && f->len > headers_of(f) && plain;
}

static bool twin_right(const struct frame *f)
{
    const uint8_t *ip = f->bytes + ETH_LEN;
    bool right = ip[0] >> 4 == 6 || naive_sum(ip, IP4_LEN, 0) == 0xffff;
    return right && naive_residue(ip, proto_of(f), f->bytes + l4_of(f), f->len - l4_of(f)) == 0xffff;
}

/* b follows a, the n-th behind the run's first one, whose total is `len`; `slots` with those of b. */
static bool twin_follows(const struct frame *first, const struct frame *a, const struct frame *b, uint32_t n, uint32_t len,
                         uint32_t slots)
{
    uint32_t l4 = l4_of(a), headers = headers_of(a), payload = b->len - headers_of(b);
    const uint8_t *x = first->bytes, *y = b->bytes, *ip = x + ETH_LEN;
    struct frame *same = &part; /* b with what may differ as in the first */
    *same = *b;
    bool pushed = false;
    put32(same->bytes + l4 + 4, get32(x + l4 + 4));
    if (!is_udp(a)) {
        put16(same->bytes + l4 + 16, get16(x + l4 + 16));
        same->bytes[l4 + 13] = (uint8_t)((y[l4 + 13] & ~PSH) | (x[l4 + 13] & PSH));
        pushed = a->bytes[l4 + 13] & PSH || get32(y + l4 + 4) != get32(a->bytes + l4 + 4) + (a->len - headers);
    }
    if (ip[0] >> 4 == 4) {
        if (!(ip[6] & 0x40) && get16(y + 18) != (uint16_t)(get16(x + 18) + n))
            return false;
        memcpy(same->bytes + 16, x + 16, 4);
        memcpy(same->bytes + 24, x + 24, 2);
    } else {
        memcpy(same->bytes + 18, x + 18, 2);
    }
    return headers_of(b) == headers && !memcmp(same->bytes, x, headers) && !pushed &&
           a->len == first->len && payload <= first->len - headers && slots <= PORT_SEGS && len + payload <= 65535 + ETH_LEN &&
           twin_right(first) && twin_right(b);
}

/* How many packets are left of n frames, each of a flow: the number before its last MAC byte; -1: of any. */
static uint32_t twin_left(const int *flow_of, uint32_t n)
{
    struct {
        const struct frame *first, *last;
        uint32_t n, len, slots;
    } runs[FLOWS + 1] = {0};
    uint32_t left = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (flow_of[i] < 0) {
            memset(runs, 0, sizeof runs);
            left++;
            continue;
        }
        const struct frame *f = &frames[i];
        bool fits = twin_fits(f);
        if (runs[flow_of[i]].first && fits &&
            twin_follows(runs[flow_of[i]].first, runs[flow_of[i]].last, f, runs[flow_of[i]].n, runs[flow_of[i]].len,
                         runs[flow_of[i]].slots + slots_of[i])) {
            runs[flow_of[i]].last = f;
            runs[flow_of[i]].n++;
            runs[flow_of[i]].slots += slots_of[i];
            runs[flow_of[i]].len += f->len - headers_of(f);
            continue;
        }
        left++;
        runs[flow_of[i]].first = runs[flow_of[i]].last = fits ? f : NULL;
        runs[flow_of[i]].n = 1;
        runs[flow_of[i]].len = f->len;
        runs[flow_of[i]].slots = slots_of[i];
    }
    return left;
}

/* ---- and undone ---------------------------------------------------------------------------------------------- */

/* The i-th segment of a super-packet of n, cut by the slowest means. */
static void cut_naively(const struct frame *f, uint32_t size, uint32_t i, uint32_t n)
{
    uint32_t l4 = l4_of(f), headers = headers_of(f), from = headers + i * size;
    uint32_t to = from + size < f->len ? from + size : f->len;
    uint8_t *ip = part.bytes + ETH_LEN;
    memcpy(part.bytes, f->bytes, headers);
    memcpy(part.bytes + headers, f->bytes + from, to - from);
    part.len = headers + to - from;
    if (is_udp(f))
        put16(part.bytes + l4 + 4, (uint16_t)(part.len - l4));
    else
        put32(part.bytes + l4 + 4, get32(f->bytes + l4 + 4) + i * size);
    if (!is_udp(f) && i + 1 < n)
        part.bytes[l4 + 13] &= (uint8_t)~PSH;
    if (ip[0] >> 4 == 4) {
        put16(ip + 2, (uint16_t)(part.len - ETH_LEN));
        put16(ip + 4, (uint16_t)(get16(ip + 4) + i));
    } else {
        put16(ip + 4, (uint16_t)(part.len - l4));
    }
    seal(&part);
}

/* 0 and 0xffff are the same sum; an identification says nothing beside DF (RFC 6864 section 4.1). */
static void assert_same(const struct frame *got, const struct frame *f)
{
    static struct frame a, b;
    a = *got, b = *f;
    if (get16(a.bytes + sum_of(&a)) % 0xffff == 0 && get16(b.bytes + sum_of(&b)) % 0xffff == 0)
        memset(a.bytes + sum_of(&a), 0, 2), memset(b.bytes + sum_of(&b), 0, 2);
    if (a.bytes[12] == 8 && a.bytes[20] & 0x40) {
        memset(a.bytes + 18, 0, 2), memset(b.bytes + 18, 0, 2);
        memset(a.bytes + 24, 0, 2), memset(b.bytes + 24, 0, 2);
    }
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.bytes, b.bytes, a.len);
}

/* The core's own way to cut it makes the same of it. */
static void assert_cut_alike(const struct pkt *super, uint32_t parts)
{
    struct pkt segment;
    static struct frame f;
    struct gso_cut cut = gso_begin(&fake_arena, super);
    for (uint32_t i = 0; i < parts; i++) {
        assert_true(gso_next(&fake_io.pool, &cut, &segment));
        frame_of_pkt(&fake_arena, &segment, &f);
        cut_naively(&merged, super->gso_size, i, parts);
        assert_same(&f, &part);
        pool_pkt_free(&fake_io.pool, &segment);
    }
    assert_int_equal(cut.left, 0);
}

/* Each frame comes once, in the order of its flow. Frees the packets. */
static void check_left(const int *flow_of, uint32_t n, uint32_t left)
{
    bool seen[FRAMES] = {0};
    for (uint32_t p = 0; p < left; p++) {
        const struct pkt *pkt = queue[p];
        uint32_t first = (uint32_t)(pkt - pkts), at = first, parts = 1;
        frame_of_pkt(&fake_arena, pkt, &merged);
        if (pkt->gso) {
            struct pkt again = *pkt;
            assert_int_equal(parse_frame(&again), DROP_NONE);
            assert_int_equal(offload_check(&fake_arena, &again), DROP_NONE);
            assert_true(again.flags & PKT_PARTIAL && again.gso == pkt->gso); /* the VM's kernel would take it */
            parts = (merged.len - headers_of(&merged) + pkt->gso_size - 1) / pkt->gso_size;
            assert_true(parts > 1);
            const uint8_t *ip = merged.bytes + ETH_LEN;
            uint32_t l4 = l4_of(&merged), sum = naive_pseudo(ip, proto_of(&merged), merged.len - l4);
            assert_true(same_sum(get16(merged.bytes + sum_of(&merged)), sum));
            assert_true(ip[0] >> 4 == 6 || naive_sum(ip, IP4_LEN, 0) == 0xffff);
            assert_cut_alike(&again, parts);
        }
        for (uint32_t i = 0; i < parts; i++, at++) {
            while (at < n && (seen[at] || (i && flow_of[at] != flow_of[first])))
                at++;
            assert_true(at < n);
            seen[at] = true;
            if (parts > 1)
                cut_naively(&merged, pkt->gso_size, i, parts);
            assert_same(parts > 1 ? &part : &merged, &frames[at]);
        }
        pool_pkt_free(&fake_io.pool, queue[p]);
    }
    for (uint32_t i = 0; i < n; i++)
        assert_true(seen[i]);
}

/* So many frames in the queue, as packets of `head` bytes in the first slot, 0: of any; how many are left. */
static uint32_t run_of(uint32_t n, uint32_t head)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t headers = headers_of(&frames[i]), any = rnd(4) ? POOL_HEAD_MAX : headers + rnd(POOL_HEAD_MAX - headers);
        frame_to_pkt(&fake_io.pool, &frames[i], &pkts[i], head ? head : any);
        pkts[i].in_port = 1;
        slots_of[i] = pkts[i].slots;
        queue[i] = &pkts[i];
    }
    fake_stats = (struct port_stats){0};
    uint32_t left = merge_queue(&fake_io, &port, queue, n);
    assert_int_equal(fake_stats.consumed, n - left); /* 4.6.6 */
    return left;
}

static uint32_t run(uint32_t n) { return run_of(n, 0); }

/* ---- tests --------------------------------------------------------------------------------------------------- */

/* Makes the flow or the frame that came of it different; true: the frame may be of any flow. */
static bool disturb(struct flow *flow, struct frame *f)
{
    uint8_t *ip = f->bytes + ETH_LEN, *tcp = f->bytes + l4_of(f);
    if (flow->proto == PROTO_UDP && rnd(4) == 0) {      /* 4.6.7 */
        if (rnd(2))
            put16(tcp + 6, 0);
        else
            put16(tcp + 4, (uint16_t)(get16(tcp + 4) - 1)), seal(f);
        return false;
    }
    switch (rnd(18)) {
    case 0: flow->ack++; break;
    case 1: flow->window++; break;
    case 2: flow->tos ^= 1; break;
    case 3: flow->ttl--; break;
    case 4: flow->id += 3; break;
    case 5: flow->df ^= 0x40; break;
    case 6: flow->seq += 100; break;
    case 7: flow->seq -= 1000; break;
    case 8: flow->options ^= OPTIONS; break;
    case 9: tcp[13] |= (uint8_t)(1u << rnd(8)), seal(f); break;
    case 10: tcp[17] ^= 1; break;
    case 11: f->bytes[f->len - 1] ^= 0x80; break;
    case 12: memset(f->bytes + f->len, 0, 9), f->len += 9; break;
    case 13: ip[flow->family == 4 ? 10 : 5] ^= 1; break;
    case 14: ip[6] = flow->family == 4 ? 0x20 : 43; return true;
    case 15:    /* a fragment with less than a TCP header */
        if (flow->family == 6)
            break;
        ip[6] = 0, ip[7] = 100, put16(ip + 2, IP4_LEN + 8), f->len = ETH_LEN + IP4_LEN + 8;
        return true;
    case 16: tcp[18] ^= 1, seal(f); break;
    default: tcp[TCP_LEN] ^= 1; break;
    }
    return false;
}

static void what_goes_out_is_what_came(void **state)
{
    (void)state;
    int flow_of[FRAMES];
    uint32_t fewer = 0;
    for (int round = 0; round < 3000; round++) {
        struct flow flows[FLOWS];
        uint32_t n = 1 + rnd(FRAMES), used = 1 + rnd(FLOWS), seldom = rnd(3) ? 30 : 3;
        uint32_t size = round % 16 ? 1000 : 1000 + rnd(7949);
        for (uint32_t i = 0; i < used; i++)
            flows[i] = new_flow(rnd(2) ? 4 : 6, i + 1), flows[i].proto = rnd(2) ? PROTO_TCP : PROTO_UDP;
        for (uint32_t i = 0; i < n; i++) {
            struct flow *flow = &flows[rnd(used)];
            flow->flags = rnd(12) ? ACK : ACK | PSH;
            next_segment(flow, rnd(12) ? size : rnd(size + 400), &frames[i]);
            flow_of[i] = (int)flow->number;
            if (rnd(seldom) == 0 && disturb(flow, &frames[i]))
                flow_of[i] = -1;
        }
        uint32_t left = run(n);
        assert_int_equal(left, twin_left(flow_of, n));
        check_left(flow_of, n, left);
        fewer += n - left;
    }
    assert_true(fewer > 3000 * 5);
}

/* More flows than are merged side by side: fewer are merged, nothing is lost. */
static void many_flows_at_once(void **state)
{
    (void)state;
    int flow_of[FRAMES];
    struct flow flows[12];
    for (int round = 0; round < 200; round++) {
        uint32_t used = 1 + rnd(12);
        for (uint32_t i = 0; i < used; i++)
            flows[i] = new_flow(rnd(2) ? 4 : 6, i + 1), flows[i].proto = rnd(2) ? PROTO_TCP : PROTO_UDP;
        for (uint32_t i = 0; i < FRAMES; i++) {
            struct flow *flow = &flows[rnd(used)];
            next_segment(flow, 500, &frames[i]);
            flow_of[i] = (int)flow->number;
        }
        uint32_t left = run(FRAMES);
        assert_true(used > 4 || left <= 2 * used);
        check_left(flow_of, FRAMES, left);
    }
}

/* 4.6.1, 4.6.4: as many as an IP packet has room for, and slots. */
static void the_longest(void **state)
{
    (void)state;
    static const struct { uint32_t payload, n, head, left; } cases[] = {
        {1448, 45, POOL_HEAD_MAX, 1}, {1448, 46, POOL_HEAD_MAX, 2}, {100, 60, POOL_HEAD_MAX, 1},
        {3000, 22, POOL_HEAD_MAX, 2}, {8948, 7, POOL_HEAD_MAX, 1}, {8948, 8, POOL_HEAD_MAX, 2},
        {8948, 7, ETH_LEN + IP4_LEN + TCP_LEN, 1}, {100, 32, 100, 1}, {100, 33, 100, 2},
    };
    int flow_of[FRAMES] = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct flow flow = new_flow(4, 0);
        flow.options = 0;
        for (uint32_t k = 0; k < cases[i].n; k++)
            next_segment(&flow, cases[i].payload, &frames[k]);
        uint32_t left = run_of(cases[i].n, cases[i].head);
        assert_int_equal(left, cases[i].left);
        check_left(flow_of, cases[i].n, left);
    }
}

/* 4.6.2, 4.6.3, 4.6.4, 4.6.5: one thing at a time, of the second of three. */
static void what_keeps_segments_apart(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        int at; /* byte of an IPv4 frame without options; 0: none */
        uint8_t flip;
        bool sealed;
        uint32_t left;
    } cases[] = {
        {"nothing", 0, 0, true, 1},          {"a MAC", 0, 0x04, true, 3},         {"TOS", 15, 1, true, 3},
        {"an id that skips", 19, 8, true, 3}, {"DF", 20, 0x40, true, 3},           {"TTL", 22, 1, true, 3},
        {"header checksum", 24, 1, false, 3}, {"an address", 29, 1, true, 3},      {"a port", 34, 1, true, 3},
        {"sequence", 40, 1, true, 3},         {"acknowledgement", 45, 1, true, 3}, {"PSH ends it", 47, PSH, true, 2},
        {"FIN", 47, FIN, true, 3},            {"URG", 47, URG, true, 3},           {"ECE", 47, ECE, true, 3},
        {"CWR", 47, CWR, true, 3},            {"window", 49, 1, true, 3},          {"checksum", 50, 1, false, 3},
        {"payload", 60, 1, false, 3},         {"reserved bit", 46, 1, true, 3},   {"urgent pointer", 53, 1, true, 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct flow flow = new_flow(4, 1);
        flow.options = 0, flow.df = 0;
        for (uint32_t k = 0; k < 3; k++)
            next_segment(&flow, 100, &frames[k]);
        frames[1].bytes[cases[i].at] ^= cases[i].flip;
        if (cases[i].sealed)
            seal(&frames[1]);
        uint32_t left = run(3);
        if (left != cases[i].left)
            fail_msg("%s: %u are left, not %u", cases[i].what, left, cases[i].left);
        for (uint32_t p = 0; p < left; p++)
            pool_pkt_free(&fake_io.pool, queue[p]);
    }
}

/* 4.6.5: what others keep is none of the super-packet's. */
static void what_is_borrowed_goes_as_it_is(void **state)
{
    (void)state;
    struct flow flow = new_flow(4, 0);
    int flow_of[3] = {0};
    struct pkt lender;
    for (uint32_t k = 0; k < 3; k++)
        next_segment(&flow, 6000, &frames[k]);
    frame_to_pkt(&fake_io.pool, &frames[1], &lender, POOL_HEAD_MAX);
    for (uint32_t k = 0; k < 3; k++) {
        frame_to_pkt(&fake_io.pool, &frames[k], &pkts[k], POOL_HEAD_MAX);
        pkts[k].in_port = 1;
        queue[k] = &pkts[k];
    }
    pool_pkt_free(&fake_io.pool, &pkts[1]);
    pkts[1] = lender, pkts[1].in_port = 1, pkts[1].slots = 1;
    uint32_t left = merge_queue(&fake_io, &port, queue, 3);
    assert_int_equal(left, 3);
    check_left(flow_of, 3, left);
    lender.slot = fake_arena.segs[lender.slot].next, lender.slots--;
    pool_pkt_free(&fake_io.pool, &lender);
}

/* 4.6.7, and which of TCP and UDP of the same addresses and ports are one flow. */
static void datagrams(void **state)
{
    (void)state;
    static const struct { const char *what; uint32_t payload[3], at, left; bool sealed; uint8_t flip, cap; } cases[] = {
        {"nothing", {100, 100, 100}, 0, 1, true, 0, 0},     {"the last is shorter", {100, 100, 1}, 0, 1, true, 0, 0},
        {"a shorter one", {100, 99, 100}, 0, 2, true, 0, 0}, {"a longer one", {100, 101, 101}, 0, 2, true, 0, 0},
        {"empty", {100, 0, 100}, 0, 3, true, 0, 0},         {"length", {100, 100, 100}, 39, 3, true, 1, 0},
        {"checksum", {100, 100, 100}, 40, 3, false, 1, 0},  {"a port", {100, 100, 100}, 37, 3, true, 1, 0},
        {"protocol", {100, 100, 100}, 23, 3, true, PROTO_TCP ^ PROTO_UDP, 0}, {"of no use", {100, 100, 100}, 0, 3, true, 0, PORT_USO},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct flow flow = new_flow(4, 1);
        flow.proto = PROTO_UDP, flow.df = 0;
        for (uint32_t k = 0; k < 3; k++)
            next_segment(&flow, cases[i].payload[k], &frames[k]);
        frames[1].bytes[cases[i].at] ^= cases[i].flip;
        if (cases[i].sealed)
            seal(&frames[1]);
        port.caps ^= cases[i].cap;
        uint32_t left = run(3);
        port.caps ^= cases[i].cap;
        if (left != cases[i].left)
            fail_msg("%s: %u are left, not %u", cases[i].what, left, cases[i].left);
        for (uint32_t p = 0; p < left; p++)
            pool_pkt_free(&fake_io.pool, queue[p]);
    }
}

static void a_port_gets_what_it_takes(void **state)
{
    (void)state;
    for (unsigned family = 4; family <= 6; family += 2) {
        struct flow flow = new_flow(family, 1);
        int flow_of[2] = {1, 1};
        for (uint32_t k = 0; k < 2; k++)
            next_segment(&flow, 100, &frames[k]);
        port.caps &= ~(uint32_t)(family == 4 ? PORT_TSO4 : PORT_TSO6);
        check_left(flow_of, 2, run(2));
        assert_int_equal(fake_stats.consumed, 0);
        port.caps |= PORT_TSO4 | PORT_TSO6;
        uint32_t left = run(2);
        assert_int_equal(left, 1);
        check_left(flow_of, 2, left);
    }
}

static int begin(void **state) { (void)state, fake_io_init(512); return 0; }
static int end(void **state) { (void)state, fake_io_end(); return 0; }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_goes_out_is_what_came, begin, end),
        cmocka_unit_test_setup_teardown(many_flows_at_once, begin, end),
        cmocka_unit_test_setup_teardown(the_longest, begin, end),
        cmocka_unit_test_setup_teardown(what_keeps_segments_apart, begin, end),
        cmocka_unit_test_setup_teardown(what_is_borrowed_goes_as_it_is, begin, end),
        cmocka_unit_test_setup_teardown(datagrams, begin, end),
        cmocka_unit_test_setup_teardown(a_port_gets_what_it_takes, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
