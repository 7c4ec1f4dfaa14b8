/*
 * world.h: an engine with a small policy, driven through dp_api.h alone: memory ports, a clock that the test
 * moves, frames made by hand.
 *
 * Host 1 is this one. On its link (192.0.2.0/24, 2001:db8::/64): host 2. Behind the gateway 192.0.2.254:
 * hosts 3 and 4. VSID 5001 has two local ports and CAs on each host; their names and addresses are below.
 */
#ifndef WORLD_H
#define WORLD_H
#include "dp_api.h"
#include "frames.h"

#define SECOND 1000000000ull
enum { VSID = 5001, PORT_A = 1, PORT_B = 2 };

static const uint8_t underlay_mac[6] = {2, 0, 0, 0, 0, 1}, router_mac[6] = {2, 0, 0x5e, 0, 0, 1};
static const uint8_t mac_a[6] = {2, 0xbb, 0, 0, 0, 0xa}, mac_b[6] = {2, 0xbb, 0, 0, 0, 0xb},
                     mac_far[6] = {2, 0xbb, 0, 0, 0, 0xf};
static const uint8_t mac_host2[6] = {2, 0, 0, 0, 0, 2}, mac_gateway[6] = {2, 0, 0, 0, 0, 0xfe};
static const uint8_t broadcast[6] = {255, 255, 255, 255, 255, 255}, no_mac[6], any4[4], any6[16];
/* PAs */
static const uint8_t pa1[4] = {192, 0, 2, 1}, pa1_rewrite[4] = {192, 0, 2, 101}, pa2[4] = {192, 0, 2, 2},
                     pa2_rewrite[4] = {192, 0, 2, 102};
static const uint8_t pa3[4] = {198, 51, 100, 3}, pa4[4] = {198, 51, 100, 4}, gateway[4] = {192, 0, 2, 254};
static const uint8_t pa1_6[16] = {0x20, 1, 0xd, 0xb8, [15] = 1},
                     pa2_6[16] = {0x20, 1, 0xd, 0xb8, [13] = 0x12, [15] = 2};
/* CAs: a and b of the local ports, c on host 2, c6 too but over IPv6, d on host 3, e on host 4; the router */
static const uint8_t ca_a[4] = {10, 1, 1, 10}, ca_b[4] = {10, 1, 1, 11}, ca_c[4] = {10, 1, 1, 20},
                     ca_c6[4] = {10, 1, 1, 26};
static const uint8_t ca_d[4] = {10, 1, 1, 30}, ca_e[4] = {10, 1, 1, 40}, ca_router[4] = {10, 1, 1, 1},
                     ca_nobody[4] = {10, 1, 1, 99};
static const uint8_t ca6_a[16] = {0xfd, 0, 0, 1, [15] = 0x10}, ca6_b[16] = {0xfd, 0, 0, 1, [15] = 0x11};
static const uint8_t ca6_c[16] = {0xfd, 0, 0, 1, [15] = 0x20}, ca6_router[16] = {0xfd, 0, 0, 1, [15] = 1},
                     ca6_nobody[16] = {0xfd, 0, 0, 1, [15] = 0x99};

struct world {
    struct dp *dp;
    uint64_t now;
    struct dp_frame frame;          /* of the last world_take() */
    uint8_t bytes[FRAME_MAX];
};

/* ---- change sets ----------------------------------------------------------------------------- */

struct changes {
    struct dp_change_header header;
    uint8_t rows[8192];
    size_t len;
};

/* One section of one row. `row` is a multiple of 8 bytes long. */
static inline void change_add(struct changes *c, uint16_t op, uint16_t kind, const void *row, size_t len)
{
    struct dp_section section = {.kind = kind, .op = op, .count = 1};
    assert_true(c->len + sizeof section + len <= sizeof c->rows);
    memcpy(c->rows + c->len, &section, sizeof section);
    memcpy(c->rows + c->len + sizeof section, row, len);
    c->len += sizeof section + len;
    c->header.sections++;
}

static inline void change_apply(struct world *w, struct changes *c)
{
    struct dp_change_error error = {0};
    c->header.magic = DP_CHANGE_MAGIC;
    c->header.version = DP_CHANGE_VERSION;
    c->header.generation = dp_generation(w->dp) + 1;
    int code = dp_apply(w->dp, (const uint8_t *)c, sizeof c->header + c->len, &error);
    if (code)
        fail_msg("section %u: %s", error.section, error.text);
}

static inline void add_pa(struct changes *c, uint16_t op, uint32_t host, unsigned family, const uint8_t *pa,
                          unsigned kind)
{
    struct dp_row_pa row = {
        .host = host, .family = (uint8_t)family, .kind = (uint8_t)kind, .prefix_len = family == 4 ? 24 : 64};
    memcpy(row.address, pa, family == 4 ? 4 : 16);
    change_add(c, op, DP_ROW_PA, &row, sizeof row);
}

static inline void add_provider_route(struct changes *c, unsigned family, const uint8_t *prefix, unsigned len,
                                      const uint8_t *next_hop)
{
    struct dp_row_provider_route row = {.family = (uint8_t)family, .prefix_len = (uint8_t)len};
    memcpy(row.prefix, prefix, family == 4 ? 4 : 16);
    if (next_hop)
        memcpy(row.next_hop, next_hop, family == 4 ? 4 : 16);
    change_add(c, DP_PUT, DP_ROW_PROVIDER_ROUTE, &row, sizeof row);
}

static inline void add_prefix(struct changes *c, unsigned family, const uint8_t *prefix, unsigned len,
                              const uint8_t *router)
{
    struct dp_row_prefix row = {.vsid = VSID, .family = (uint8_t)family, .prefix_len = (uint8_t)len};
    memcpy(row.prefix, prefix, family == 4 ? 4 : 16);
    memcpy(row.gateway, router, family == 4 ? 4 : 16);
    change_add(c, DP_PUT, DP_ROW_PREFIX, &row, sizeof row);
}

static inline void add_record(struct changes *c, uint16_t op, unsigned family, const uint8_t *ca,
                              uint32_t host, uint32_t port, const uint8_t *mac, unsigned pa_family,
                              const uint8_t *pa)
{
    struct dp_row_record row = {.vsid = VSID,
                                .host = host,
                                .port = port,
                                .family = (uint8_t)family,
                                .pa_family = (uint8_t)pa_family,
                                .translation = DP_NVGRE,
                                .type = DP_STATIC};
    memcpy(row.ca, ca, family == 4 ? 4 : 16);
    memcpy(row.provider_address, pa, pa_family == 4 ? 4 : 16);
    memcpy(row.mac, mac, 6);
    change_add(c, op, DP_ROW_RECORD, &row, sizeof row);
}

static inline void world_policy(struct world *w)
{
    static const uint8_t link4[4] = {192, 0, 2, 0}, link6[16] = {0x20, 1, 0xd, 0xb8},
                         subnet4[4] = {10, 1, 1, 0}, subnet6[16] = {0xfd, 0, 0, 1};
    struct changes c = {.len = 0};
    add_provider_route(&c, 4, link4, 24, NULL);
    add_provider_route(&c, 4, any4, 0, gateway);
    add_provider_route(&c, 6, link6, 64, NULL);
    add_pa(&c, DP_PUT, 1, 4, pa1, DP_PA_SHARED);
    add_pa(&c, DP_PUT, 1, 6, pa1_6, DP_PA_SHARED);
    add_pa(&c, DP_PUT, 1, 4, pa1_rewrite, DP_PA_REWRITE);
    add_pa(&c, DP_PUT, 2, 4, pa2, DP_PA_SHARED);
    add_pa(&c, DP_PUT, 2, 6, pa2_6, DP_PA_SHARED);
    add_pa(&c, DP_PUT, 2, 4, pa2_rewrite, DP_PA_REWRITE);
    add_pa(&c, DP_PUT, 3, 4, pa3, DP_PA_SHARED);
    change_add(&c, DP_PUT, DP_ROW_SUBNET, &(struct dp_row_subnet){.vsid = VSID, .rdid = 1},
               sizeof(struct dp_row_subnet));
    add_prefix(&c, 4, subnet4, 24, ca_router);
    add_prefix(&c, 6, subnet6, 64, ca6_router);
    for (unsigned port = PORT_A; port <= PORT_B; port++) {
        struct dp_row_port row = {.port = port, .vsid = VSID};
        memcpy(row.mac, port == PORT_A ? mac_a : mac_b, 6);
        change_add(&c, DP_PUT, DP_ROW_PORT, &row, sizeof row);
    }
    change_add(&c, DP_PUT, DP_ROW_SOURCE,
               &(struct dp_row_source){.prefix = {10, 9}, .port = PORT_A, .family = 4, .prefix_len = 16},
               sizeof(struct dp_row_source));
    add_record(&c, DP_PUT, 4, ca_a, 1, PORT_A, mac_a, 4, pa1);
    add_record(&c, DP_PUT, 6, ca6_a, 1, PORT_A, mac_a, 4, pa1);
    add_record(&c, DP_PUT, 4, ca_b, 1, PORT_B, mac_b, 4, pa1);
    add_record(&c, DP_PUT, 6, ca6_b, 1, PORT_B, mac_b, 4, pa1);
    add_record(&c, DP_PUT, 4, ca_c, 2, 0, mac_far, 4, pa2);
    add_record(&c, DP_PUT, 4, ca_c6, 2, 0, mac_far, 6, pa2_6);
    add_record(&c, DP_PUT, 6, ca6_c, 2, 0, mac_far, 4, pa2);
    add_record(&c, DP_PUT, 4, ca_d, 3, 0, mac_far, 4, pa3);
    change_apply(w, &c);
}

/* ---- life ------------------------------------------------------------------------------------ */

static inline void world_attach(struct world *w, uint32_t port, const uint8_t *mac)
{
    struct dp_port_config config = {
        .name = "port", .kind = DP_PORT_MEM, .mtu = port == DP_UNDERLAY ? 1600 : 1500};
    memcpy(config.mac, mac, 6);
    assert_int_equal(dp_port_attach(w->dp, port, &config), DP_OK);
}

/* No ports yet, no policy. */
static inline struct world *world_engine(uint32_t workers)
{
    struct world *w = calloc(1, sizeof *w);
    struct dp_config config = {.workers = workers, .slots = 1024, .self_host = 1, .hash_key = {1, 2}};
    memcpy(config.router_mac, router_mac, 6);
    assert_int_equal(dp_create(&config, &w->dp), DP_OK);
    w->now = 1000 * SECOND;
    return w;
}

static inline struct world *world_create(uint32_t workers)
{
    struct world *w = world_engine(workers);
    world_attach(w, DP_UNDERLAY, underlay_mac);
    world_attach(w, PORT_A, mac_a);
    world_attach(w, PORT_B, mac_b);
    world_policy(w);
    return w;
}

static inline void world_destroy(struct world *w)
{
    dp_destroy(w->dp);
    free(w);
}

/* ---- counters -------------------------------------------------------------------------------- */

static inline struct dp_counters world_counters(const struct world *w, uint32_t port)
{
    struct dp_counters c;
    uint64_t drops[256];
    assert_int_equal(dp_counters_read(w->dp, port, &c, drops), DP_OK);
    return c;
}

static inline uint64_t world_drops(const struct world *w, uint32_t port, const char *reason)
{
    struct dp_counters c;
    uint64_t drops[256];
    assert_int_equal(dp_counters_read(w->dp, port, &c, drops), DP_OK);
    for (uint32_t i = 0; i < dp_drop_count(); i++)
        if (!strcmp(dp_drop_name(i), reason))
            return drops[i];
    fail_msg("no drop reason %s", reason);
    return 0;
}

static inline void world_assert_balance(const struct world *w)
{
    int64_t in = 0, out = 0;
    for (uint32_t port = DP_UNDERLAY; port <= PORT_B; port++) {
        struct dp_counters c = world_counters(w, port);
        in += (int64_t)(c.received + c.originated);
        out += (int64_t)(c.sent + c.dropped + c.consumed + c.held);
    }
    assert_int_equal(in, out);
}

/* ---- packets --------------------------------------------------------------------------------- */

static inline void world_run(struct world *w, uint64_t ns)
{
    w->now += ns;
    assert_true(dp_poll(w->dp, w->now) >= 0);
    world_assert_balance(w);
}

static inline void world_inject(struct world *w, uint32_t port, const struct frame *f, uint32_t flow)
{
    struct dp_frame frame = {.time = w->now, .len = f->len, .flow = flow};
    assert_int_equal(dp_inject(w->dp, port, &frame, 1, f->bytes), DP_OK);
}

/* Hands a frame to a port and runs the engine, the clock standing still. */
static inline void world_send(struct world *w, uint32_t port, const struct frame *f)
{
    world_inject(w, port, f, 0);
    world_run(w, 0);
}

/* The oldest frame that left by the port into w->frame and w->bytes; false: none. */
static inline bool world_take(struct world *w, uint32_t port)
{
    int n = dp_collect(w->dp, port, &w->frame, 1, w->bytes, sizeof w->bytes);
    assert_true(n >= 0);
    return n == 1;
}

static inline void world_expect(struct world *w, uint32_t port, const struct frame *f)
{
    assert_true(world_take(w, port));
    assert_int_equal(w->frame.len, f->len);
    assert_memory_equal(w->bytes, f->bytes, f->len);
}

static inline void world_expect_nothing(struct world *w)
{
    for (uint32_t port = DP_UNDERLAY; port <= PORT_B; port++)
        assert_false(world_take(w, port));
}

/* The frame dies on this port for this reason, and nothing leaves. */
static inline void world_expect_drop(struct world *w, uint32_t port, const struct frame *f,
                                     const char *reason)
{
    uint64_t before = world_drops(w, port, reason), dropped = world_counters(w, port).dropped;
    world_send(w, port, f);
    if (world_drops(w, port, reason) != before + 1)
        fail_msg("not dropped as %s", reason);
    assert_int_equal(world_counters(w, port).dropped, dropped + 1);
    world_expect_nothing(w);
}

static inline void world_expect_consumed(struct world *w, uint32_t port, const struct frame *f)
{
    uint64_t before = world_counters(w, port).consumed;
    world_send(w, port, f);
    assert_int_equal(world_counters(w, port).consumed, before + 1);
    world_expect_nothing(w);
}

/* ---- frames ---------------------------------------------------------------------------------- */

static inline const struct frame *frame_eth(struct frame *f, const uint8_t *to, const uint8_t *from,
                                            uint16_t type, uint32_t len)
{
    memcpy(f->bytes, to, 6);
    memcpy(f->bytes + 6, from, 6);
    put16(f->bytes + 12, type);
    f->len = len;
    return f;
}

static inline const struct frame *frame_arp(struct frame *f, uint16_t op, const uint8_t *to,
                                            const uint8_t *from, const uint8_t *sender_mac,
                                            const uint8_t *sender, const uint8_t *target_mac,
                                            const uint8_t *target)
{
    uint8_t *arp = f->bytes + 14;
    memcpy(arp, (uint8_t[]){0, 1, 8, 0, 6, 4, 0, (uint8_t)op}, 8);
    memcpy(arp + 8, sender_mac, 6);
    memcpy(arp + 14, sender, 4);
    memcpy(arp + 18, target_mac, 6);
    memcpy(arp + 24, target, 4);
    return frame_eth(f, to, from, 0x0806, 42);
}

/* An IPv6 packet with hop limit 255 around `len` bytes of ICMPv6, whose checksum is set. */
static inline const struct frame *frame_icmp6(struct frame *f, const uint8_t *to, const uint8_t *from,
                                              const uint8_t *source, const uint8_t *destination,
                                              const uint8_t *message, uint32_t len)
{
    uint8_t *ip = f->bytes + 14;
    memset(ip, 0, 40);
    ip[0] = 0x60;
    put16(ip + 4, (uint16_t)len);
    ip[6] = 58;
    ip[7] = 255;
    memcpy(ip + 8, source, 16);
    memcpy(ip + 24, destination, 16);
    memcpy(ip + 40, message, len);
    put16(ip + 42, 0);
    put16(ip + 42, (uint16_t)(0xffff - naive_residue(ip, 58, ip + 40, len)));
    return frame_eth(f, to, from, 0x86dd, 54 + len);
}

/* NS or NA with one link-layer address option, or none. flags: the first byte behind the checksum. */
static inline const struct frame *frame_nd(struct frame *f, uint8_t type, const uint8_t *to,
                                           const uint8_t *from, const uint8_t *source,
                                           const uint8_t *destination, uint8_t flags, const uint8_t *target,
                                           const uint8_t *lladdr)
{
    uint8_t message[32] = {type, 0, 0, 0, flags};
    memcpy(message + 8, target, 16);
    message[24] = type == 135 ? 1 : 2;
    message[25] = 1;
    if (lladdr)
        memcpy(message + 26, lladdr, 6);
    return frame_icmp6(f, to, from, source, destination, message, lladdr ? 32 : 24);
}

/* A UDP packet between two CAs of the subnet, not routed; `mark` is its last byte. */
static inline const struct frame *frame_udp(struct frame *f, const uint8_t *to, const uint8_t *from,
                                            const uint8_t *source, const uint8_t *destination, uint8_t mark)
{
    uint8_t *ip = f->bytes + 14;
    memset(ip, 0, 46);
    ip[0] = 0x45;
    put16(ip + 2, 46);
    ip[8] = 64;
    ip[9] = 17;
    memcpy(ip + 12, source, 4);
    memcpy(ip + 16, destination, 4);
    put16(ip + 10, (uint16_t)(0xffff - naive_sum(ip, 20, 0)));
    put16(ip + 24, 26);
    ip[45] = mark;
    return frame_eth(f, to, from, 0x0800, 60);
}

/* An echo request: 84 bytes of IPv4, or 104 of IPv6. */
static inline const struct frame *frame_echo(struct frame *f, unsigned family, const uint8_t *to,
                                             const uint8_t *from, const uint8_t *source,
                                             const uint8_t *destination)
{
    uint8_t message[64] = {family == 4 ? 8 : 128, 0, 0, 0, 0x12, 0x34, 0, 1}, *ip = f->bytes + 14;
    for (uint8_t i = 8; i < 64; i++)
        message[i] = i;
    if (family == 6)
        return frame_icmp6(f, to, from, source, destination, message, 64);
    memset(ip, 0, 20);
    ip[0] = 0x45;
    put16(ip + 2, 84);
    put16(ip + 6, 0x4000);
    ip[8] = 17;
    ip[9] = 1;
    memcpy(ip + 12, source, 4);
    memcpy(ip + 16, destination, 4);
    put16(ip + 10, (uint16_t)(0xffff - naive_sum(ip, 20, 0)));
    memcpy(ip + 20, message, 64);
    put16(ip + 22, (uint16_t)(0xffff - naive_sum(ip + 20, 64, 0)));
    return frame_eth(f, to, from, 0x0800, 98);
}

#endif
