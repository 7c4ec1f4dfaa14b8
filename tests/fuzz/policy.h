/*
 * A small policy for harnesses that run the whole core: two routing domains with the same addresses, one by NVGRE (VSID 5001, and 5002
 * routed to it), one by rewrite (6001); local ports 1 (5001), 2 (6001), 3 (5002); host 2 is remote, and the other home of one of ours,
 * as we are of one of its. All of it in both families.
 */
#ifndef FUZZ_POLICY_H
#define FUZZ_POLICY_H
#include <stdlib.h>
#include <string.h>
#include "dp_api.h"
#include <sanitizer/lsan_interface.h>
#include "run/engine.h"

#define require(what) do { if (!(what)) abort(); } while (0)

enum { SELF = 1, REMOTE = 2, BLUE = 5001, BLUE2 = 5002, RED = 6001, PORTS = 4 };
static const uint8_t router_mac[6] = {2, 0x15, 0x0a, 0, 0, 1}, underlay_mac[6] = {2, 0, 0, 0, 0x77, 1}, remote_mac[6] = {2, 0, 0, 0, 0x77, 2};

struct builder {
    uint8_t bytes[16384];
    size_t len;
    uint32_t sections;
};

static void add(struct builder *b, uint16_t kind, const void *row, size_t size)
{
    struct dp_section section = {kind, DP_PUT, 1};
    require(b->len + sizeof section + size <= sizeof b->bytes);
    memcpy(b->bytes + b->len, &section, sizeof section);
    memcpy(b->bytes + b->len + sizeof section, row, size);
    b->len += sizeof section + size;
    b->sections++;
}

/* 192.168.77.n or fd77::n; 10.1.s.n or fd00:1:s::n */
static void pa(uint8_t *out, unsigned family, uint8_t n)
{
    static const uint8_t v4[4] = {192, 168, 77}, v6[16] = {0xfd, 0x77};
    memset(out, 0, 16);
    memcpy(out, family == 4 ? v4 : v6, family == 4 ? 4 : 16);
    out[family == 4 ? 3 : 15] = n;
}

static void ca(uint8_t *out, unsigned family, uint8_t subnet, uint8_t n)
{
    const uint8_t v4[4] = {10, 1, subnet, 0}, v6[16] = {0xfd, 0, 0, 1, 0, subnet};
    memset(out, 0, 16);
    memcpy(out, family == 4 ? v4 : v6, family == 4 ? 4 : 16);
    out[family == 4 ? 3 : 15] = n;
}

static void add_pa(struct builder *b, unsigned family, uint8_t n, uint32_t host, uint8_t kind)
{
    struct dp_row_pa row = {.host = host, .family = (uint8_t)family, .kind = kind, .prefix_len = family == 4 ? 24 : 64};
    pa(row.address, family, n);
    add(b, DP_ROW_PA, &row, sizeof row);
}

static void add_record(struct builder *b, unsigned family, uint32_t vsid, uint8_t subnet, uint8_t n, uint32_t host, uint32_t port, uint8_t pa_n)
{
    struct dp_row_record row = {.vsid = vsid, .host = host, .port = port, .mac = {2, 0xbb, 0, 0, subnet, n}, .family = (uint8_t)family,
                                .pa_family = (uint8_t)family, .translation = vsid == RED ? DP_REWRITE : DP_NVGRE, .type = DP_STATIC};
    ca(row.ca, family, subnet, n);
    pa(row.provider_address, family, pa_n);
    if (vsid == RED)
        add_pa(b, family, pa_n, host, DP_PA_REWRITE);
    add(b, DP_ROW_RECORD, &row, sizeof row);
}

static void add_subnet(struct builder *b, uint32_t vsid, uint32_t rdid, uint8_t subnet)
{
    const uint32_t copies = vsid == RED ? 0 : 1000000;
    struct dp_row_subnet row = {vsid, rdid, copies, copies};
    add(b, DP_ROW_SUBNET, &row, sizeof row);
    for (unsigned family = 4; family <= 6; family += 2) {
        struct dp_row_prefix prefix = {.vsid = vsid, .family = (uint8_t)family, .prefix_len = family == 4 ? 24 : 64};
        ca(prefix.prefix, family, subnet, 0);
        ca(prefix.gateway, family, subnet, 1);
        add(b, DP_ROW_PREFIX, &prefix, sizeof prefix);
    }
}

static void add_port(struct builder *b, uint32_t port, uint32_t vsid, uint8_t subnet, uint8_t n)
{
    struct dp_row_port row = {.port = port, .vsid = vsid, .mac = {2, 0xbb, 0, 0, subnet, n}};
    add(b, DP_ROW_PORT, &row, sizeof row);
}

static void add_move(struct builder *b, unsigned family, uint32_t vsid, uint8_t subnet, uint8_t n, uint32_t host)
{
    struct dp_row_move row = {.vsid = vsid, .host = host, .family = (uint8_t)family};
    ca(row.ca, family, subnet, n);
    add(b, DP_ROW_MOVE, &row, sizeof row);
}

static void policy_build(struct builder *b)
{
    struct dp_change_header header = {.magic = DP_CHANGE_MAGIC, .version = DP_CHANGE_VERSION, .generation = 1};
    b->len = sizeof header;
    b->sections = 0;
    for (unsigned family = 4; family <= 6; family += 2) {
        struct dp_row_provider_route route = {.family = (uint8_t)family, .prefix_len = family == 4 ? 24 : 64};
        pa(route.prefix, family, 0);
        add(b, DP_ROW_PROVIDER_ROUTE, &route, sizeof route);
        add_pa(b, family, 101, SELF, DP_PA_SHARED);
        add_pa(b, family, 102, REMOTE, DP_PA_SHARED);
    }
    add_subnet(b, BLUE, 1, 1);
    add_subnet(b, BLUE2, 1, 2);
    add_subnet(b, RED, 2, 1);
    add_port(b, 1, BLUE, 1, 10);
    add_port(b, 2, RED, 1, 10);
    add_port(b, 3, BLUE2, 2, 10);
    for (unsigned family = 4; family <= 6; family += 2) {
        add_record(b, family, BLUE, 1, 10, SELF, 1, 101);
        add_record(b, family, BLUE, 1, 20, REMOTE, 0, 102);
        add_record(b, family, BLUE2, 2, 10, SELF, 3, 101);
        add_record(b, family, BLUE2, 2, 20, REMOTE, 0, 102);
        add_record(b, family, RED, 1, 10, SELF, 2, 110);
        add_record(b, family, RED, 1, 20, REMOTE, 0, 120);
        add_move(b, family, BLUE, 1, 20, SELF);
        add_move(b, family, BLUE2, 2, 10, REMOTE);
    }
    struct dp_row_flood flood = {.vsid = BLUE, .host = REMOTE, .family = 4};
    pa(flood.provider_address, 4, 102);
    add(b, DP_ROW_FLOOD, &flood, sizeof flood);
    header.sections = b->sections;
    memcpy(b->bytes, &header, sizeof header);
}

/*
 * An engine with the policy, memory ports 0..3, and host 2 as a fixed neighbour. What a port takes differs, so that
 * super-packets go whole and are cut, and segments are merged or not.
 */
static struct dp *policy_engine(void)
{
    static const uint32_t offloads[PORTS] = {
        [DP_UNDERLAY] = DP_OFFLOAD_CSUM | DP_OFFLOAD_TSO4 | DP_OFFLOAD_NVGRE,
        [1] = DP_OFFLOAD_CSUM | DP_OFFLOAD_TSO4 | DP_OFFLOAD_TSO6 | DP_OFFLOAD_MERGE,
        [3] = DP_OFFLOAD_CSUM | DP_OFFLOAD_TSO6 | DP_OFFLOAD_MERGE,
    };
    struct dp_config config = {.workers = 1, .slots = 1024, .self_host = SELF, .hash_key = {1, 2}};
    struct dp *dp;
    struct dp_change_error error;
    static struct builder builder;
    memcpy(config.router_mac, router_mac, 6);
    require(dp_create(&config, &dp) == DP_OK);
    for (uint32_t port = 0; port < PORTS; port++) {
        struct dp_port_config c = {.kind = DP_PORT_MEM, .mtu = port ? 1500 : 1600, .mac = {2, 0xbb, 0, 0, port == 3 ? 2 : 1, 10}};
        c.name[0] = (char)('0' + port);
        c.offloads = offloads[port];
        if (port == DP_UNDERLAY)
            memcpy(c.mac, underlay_mac, 6);
        require(dp_port_attach(dp, port, &c) == DP_OK);
    }
    policy_build(&builder);
    require(dp_apply(dp, builder.bytes, builder.len, &error) == DP_OK);
    /* What floods are referred to from is mapped: the search for leaks does not look there by itself. */
    __lsan_register_root_region(dp_tables(dp)->subnets, 1 << 16);
    for (unsigned family = 4; family <= 6; family += 2) {
        static const uint8_t remote[] = {102, 120};
        for (unsigned i = 0; i < sizeof remote; i++) {
            uint8_t address[16];
            pa(address, family, remote[i]);
            require(dp_neigh_set(dp, family, address, remote_mac) == DP_OK);
        }
    }
    return dp;
}

#endif
