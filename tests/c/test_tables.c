/* Change sets: what is refused and how it is told, and what each kind of row means to those who look up. */
#include <pthread.h>
#include <sched.h>
#include "change_set.h"
#include "run/engine.h"
#include "step/source.h"
#include "table/lookup.h"
#include "step/nvgre.h"
#include "base/qsbr.h"

enum { SELF = 1, PEER = 2, OTHER = 3, BLUE = 5001, BLUE2 = 5002, RED = 6001, SHARED = DP_PA_SHARED, REWRITING = DP_PA_REWRITE };

static struct dp *make_engine(void)
{
    struct dp_config config = {.workers = 1, .slots = 512, .self_host = SELF, .router_mac = {2, 0x15, 0x5d, 0, 0, 1}, .hash_key = {5, 6}};
    struct dp *dp;
    assert_int_equal(dp_create(&config, &dp), DP_OK);
    return dp;
}

/* Two subnets of one routing domain, one of another; a local port in each of the first two. */
static uint32_t base(struct row *rows)
{
    const struct row all[] = {
        pa_row("192.168.77.1", SELF, SHARED), pa_row("192.168.77.2", PEER, SHARED), pa_row("192.168.78.3", OTHER, SHARED),
        pa_row("fd77::1", SELF, SHARED), pa_row("fd77::2", PEER, SHARED),
        pa_row("192.168.77.101", SELF, REWRITING), pa_row("192.168.77.102", PEER, REWRITING), pa_row("192.168.78.103", OTHER, REWRITING),
        provider_route_row("192.168.77.0", 24, "0.0.0.0"), provider_route_row("0.0.0.0", 0, "192.168.77.254"), provider_route_row("fd77::", 64, "::"),
        subnet_row(BLUE, 1), subnet_row(BLUE2, 1), subnet_row(RED, 2),
        prefix_row(BLUE, "10.1.1.0", 24, "10.1.1.1"), prefix_row(BLUE2, "10.1.2.0", 24, "10.1.2.1"), prefix_row(RED, "10.1.1.0", 24, "10.1.1.1"),
        prefix_row(BLUE, "fd00:1:1::", 64, "fd00:1:1::1"),
        port_row(1, BLUE, 10), port_row(2, RED, 10),
        source_row(1, "172.16.0.0", 12),
        record_row(BLUE, "10.1.1.10", 10, SELF, 1, "192.168.77.101", DP_REWRITE), record_row(BLUE, "10.1.1.20", 20, PEER, 0, "192.168.77.102", DP_REWRITE),
        record_row(BLUE, "fd00:1:1::20", 20, PEER, 0, "fd77::2", DP_NVGRE), record_row(BLUE2, "10.1.2.20", 22, PEER, 0, "fd77::2", DP_NVGRE),
        record_row(RED, "10.1.1.10", 10, SELF, 2, "192.168.77.1", DP_NVGRE), record_row(RED, "10.1.1.20", 20, PEER, 0, "192.168.77.2", DP_NVGRE),
        record_row(RED, "0.0.0.0", 30, OTHER, 0, "192.168.78.3", DP_NVGRE),
        route_row(1, "10.9.0.0", 16, "10.1.1.20", BLUE),
    };
    memcpy(rows, all, sizeof all);
    return sizeof all / sizeof all[0];
}

static struct dp *make_base(void)
{
    struct row rows[64];
    struct dp_change_error error;
    struct dp *dp = make_engine();
    uint32_t n = base(rows);
    int code = apply_rows_of(dp, 0, rows, n, &error);
    if (code)
        fail_msg("%d: row %u: %s", code, error.section, error.text);
    return dp;
}

static void must_apply(struct dp *dp, const struct row *rows, uint32_t n)
{
    struct dp_change_error error;
    int code = apply_rows_of(dp, 0, rows, n, &error);
    if (code)
        fail_msg("%d: row %u: %s", code, error.section, error.text);
}
#define APPLY(dp, ...) must_apply(dp, (struct row[]){__VA_ARGS__}, sizeof((struct row[]){__VA_ARGS__}) / sizeof(struct row))

static struct map_value record_at(const struct dp *dp, uint32_t vsid, const char *ca)
{
    uint8_t address[16];
    set_address(address, ca);
    return lookup_record(dp_tables(dp), vsid, family_of(ca), address);
}

static struct map_value pa_at(const struct dp *dp, const char *pa)
{
    uint8_t address[16];
    set_address(address, pa);
    return lookup_pa(dp_tables(dp), family_of(pa), address);
}

static const struct rewrite *rewrite_at(const struct dp *dp, const char *pa)
{
    struct map_value value = pa_at(dp, pa);
    assert_int_equal(act_kind(value.act), ACT_PA_REWRITE);
    return &dp_tables(dp)->rewrites[act_index(value.act)];
}

static uint32_t hop_at(const struct dp *dp, const char *pa)
{
    struct map_value value = pa_at(dp, pa);
    assert_int_equal(act_kind(value.act), ACT_PA_HOST);
    return act_index(value.act);
}

static void assert_hop(const struct dp *dp, const char *pa, const char *hop)
{
    uint8_t address[16];
    uint32_t index = hop_at(dp, pa);
    set_address(address, hop);
    assert_int_not_equal(dp_tables(dp)->next_hops[index].neigh, INDEX_NONE);
    assert_memory_equal(dp_tables(dp)->writer->ways[index].hop, address, 16);
}

/* ---- what is refused --------------------------------------------------------------------------------------------- */

static void refuse_bytes(struct dp *dp, const void *bytes, size_t len, int code, uint32_t section, const char *text)
{
    struct dp_change_error error;
    assert_int_equal(tables_apply(&dp->control, bytes, len, &error), code);
    assert_int_equal(error.section, section);
    if (!strstr(error.text, text))
        fail_msg("\"%s\" does not say \"%s\"", error.text, text);
}

static void malformed_change_sets_are_refused(void **state)
{
    (void)state;
    struct dp *dp = make_base();
    struct dump before = dump_tables(dp);
    struct change_set set = {0};
    change_set_begin(&set, 0);
    ((struct dp_row_subnet *)change_set_section(&set, DP_ROW_SUBNET, DP_PUT, 2))[0] = (struct dp_row_subnet){7001, 3};
    struct dp_change_header *header = (struct dp_change_header *)set.bytes;
    struct dp_section *section = (struct dp_section *)(header + 1);
    for (size_t len = 0; len < set.len; len++)
        refuse_bytes(dp, set.bytes, len, DP_EFORMAT, 0, len < sizeof *header ? "header" : "ends before");
    refuse_bytes(dp, set.bytes + 4, set.len - 4, DP_EINVAL, 0, "aligned");
    header->magic++;
    refuse_bytes(dp, set.bytes, set.len, DP_EFORMAT, 0, "not a change set");
    header->magic--;
    header->version++;
    refuse_bytes(dp, set.bytes, set.len, DP_EFORMAT, 0, "version");
    header->version--;
    header->flags = 2;
    refuse_bytes(dp, set.bytes, set.len, DP_EFORMAT, 0, "flags");
    header->flags = 0;
    for (uint16_t kind = 0; kind < 12; kind += kind ? 1 : ROW_KINDS) {
        section->kind = kind;
        refuse_bytes(dp, set.bytes, set.len, DP_EFORMAT, 0, "kind");
    }
    section->kind = DP_ROW_SUBNET;
    section->op = 3;
    refuse_bytes(dp, set.bytes, set.len, DP_EFORMAT, 0, "op");
    section->op = DP_PUT;
    section->count = UINT32_MAX;
    refuse_bytes(dp, set.bytes, set.len, DP_EFORMAT, 0, "last row");
    section->count = 1;
    refuse_bytes(dp, set.bytes, set.len, DP_EFORMAT, 1, "behind the last section");
    header->sections = 2;
    refuse_bytes(dp, set.bytes, set.len, DP_EFORMAT, 1, "kind");
    struct dump after = dump_tables(dp);
    assert_same_dump(&before, &after);
    free(before.lines);
    free(after.lines);
    free(set.bytes);
    dp_destroy(dp);
}

struct refusal {
    struct row row;
    int code;
    const char *text;
};

/* A row with one byte of it changed. */
static struct row with(struct row row, size_t at, uint8_t byte)
{
    row.bytes[at] = byte;
    return row;
}

#define AT(type, field) offsetof(struct dp_row_##type, field)

static void rows_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    const struct row record = record_row(RED, "10.1.1.40", 40, PEER, 0, "192.168.77.2", DP_NVGRE);
    const struct row pa = pa_row("192.168.77.9", PEER, SHARED), route = route_row(1, "10.8.0.0", 16, "10.1.1.20", BLUE);
    const struct row prefix = prefix_row(BLUE, "10.1.3.0", 24, "10.1.3.1"), way = provider_route_row("10.0.0.0", 8, "192.168.77.9");
    const struct row move = move_row(RED, "10.1.1.20", OTHER);
    const struct refusal refusals[] = {
        {with(pa, AT(pa, family), 5), DP_EINVAL, "family 5"},
        {with(pa, AT(pa, kind), 3), DP_EINVAL, "kind 3"},
        {with(pa, AT(pa, address) + 4, 1), DP_EINVAL, "behind an IPv4 address"},
        {with(pa, AT(pa, prefix_len), 33), DP_EINVAL, "prefix_len 33"},
        {with(pa, AT(pa, pad) + 8, 1), DP_EINVAL, "padding"},
        {pa_row("224.0.0.1", PEER, SHARED), DP_EINVAL, "224.0.0.1 is no unicast"},
        {pa_row("::", PEER, SHARED), DP_EINVAL, "no unicast"},
        {pa_row("ff02::1", PEER, SHARED), DP_EINVAL, "no unicast"},
        {pa_row("192.168.77.9", UINT32_MAX, SHARED), DP_EINVAL, "reserved"},
        {deleted(pa), DP_ENOENT, "no PA 192.168.77.9"},
        {deleted(pa_row("192.168.77.2", PEER, SHARED)), DP_EINVAL, "192.168.77.2 is still used"},
        {deleted(pa_row("192.168.77.102", PEER, REWRITING)), DP_EINVAL, "still used"},
        {deleted(pa_row("192.168.77.101", SELF, REWRITING)), DP_EINVAL, "still used"},
        {pa_row("192.168.77.2", OTHER, SHARED), DP_EINVAL, "records of the old one"},
        {pa_row("192.168.77.102", OTHER, REWRITING), DP_EINVAL, "records of the old one"},
        {pa_row("192.168.77.101", PEER, REWRITING), DP_EINVAL, "records of the old one"},
        {pa_row("192.168.77.101", SELF, SHARED), DP_EINVAL, "records of the old one"},
        {with(way, AT(provider_route, prefix) + 1, 1), DP_EINVAL, "10.1.0.0/8 has bits"},
        {with(way, AT(provider_route, prefix_len), 33), DP_EINVAL, "prefix_len 33"},
        {with(way, AT(provider_route, next_hop), 230), DP_EINVAL, "next_hop"},
        {with(way, AT(provider_route, pad), 1), DP_EINVAL, "padding"},
        {deleted(way), DP_ENOENT, "no route 10.0.0.0/8"},
        {subnet_row(0xfff, 1), DP_EINVAL, "vsid 4095"},
        {subnet_row(0xffffff, 1), DP_EINVAL, "vsid 16777215"},
        {subnet_row(7001, 0), DP_EINVAL, "rdid 0"},
        {subnet_row(7001, 65536), DP_EINVAL, "rdid 65536"},
        {subnet_row(BLUE, 2), DP_EINVAL, "rdid can't change"},
        {deleted(subnet_row(7001, 0)), DP_ENOENT, "no subnet has vsid 7001"},
        {deleted(subnet_row(BLUE2, 0)), DP_EINVAL, "5002 still has"},
        {with(prefix, AT(prefix, family), 0), DP_EINVAL, "family 0"},
        {with(prefix, AT(prefix, prefix_len), 16), DP_EINVAL, "bits behind"},
        {with(prefix, AT(prefix, pad), 1), DP_EINVAL, "padding"},
        {prefix_row(7001, "10.1.3.0", 24, "10.1.3.1"), DP_ENOENT, "no subnet has vsid 7001"},
        {prefix_row(BLUE, "10.1.3.0", 24, "10.1.1.20"), DP_EEXIST, "gateway 10.1.1.20 of vsid 5001 is taken"},
        {prefix_row(BLUE, "10.1.3.0", 24, "10.1.1.1"), DP_EEXIST, "taken"},
        {prefix_row(BLUE, "10.9.0.0", 16, "10.9.0.1"), DP_EEXIST, "route by a next hop"},
        {prefix_row(BLUE, "10.1.3.0", 24, "239.1.1.1"), DP_EINVAL, "gateway"},
        {deleted(prefix), DP_ENOENT, "no prefix 10.1.3.0/24 in rdid 1"},
        {port_row(0, BLUE, 1), DP_EINVAL, "port 0"},
        {port_row(1024, BLUE, 1), DP_EINVAL, "port 1024"},
        {port_row(3, 7001, 1), DP_ENOENT, "7001"},
        {port_row(1, RED, 10), DP_EINVAL, "port 1 has records"},
        {with(port_row(3, BLUE, 1), AT(port, mac), 1), DP_EINVAL, "group"},
        {with(port_row(3, BLUE, 1), AT(port, pad), 1), DP_EINVAL, "padding"},
        {deleted(port_row(3, 0, 0)), DP_ENOENT, "no port 3"},
        {deleted(port_row(2, 0, 0)), DP_EINVAL, "port 2 still has"},
        {source_row(3, "10.0.0.0", 8), DP_ENOENT, "no port 3"},
        {source_row(1, "11.0.0.0", 7), DP_EINVAL, "bits behind"},
        {deleted(source_row(1, "10.0.0.0", 8)), DP_ENOENT, "no source 10.0.0.0/8"},
        {with(record, AT(record, family), 7), DP_EINVAL, "family 7"},
        {with(record, AT(record, pa_family), 0), DP_EINVAL, "pa_family 0"},
        {with(record, AT(record, type), DP_L2ONLY), DP_EINVAL, "l2only"},
        {with(record, AT(record, type), 5), DP_EINVAL, "type 5"},
        {with(record, AT(record, type), DP_GATEWAY_WILDCARD), DP_EINVAL, "not zero"},
        {with(record, AT(record, translation), 3), DP_EINVAL, "translation 3"},
        {with(record, AT(record, mac), 3), DP_EINVAL, "group"},
        {with(record, AT(record, port), 1), DP_EINVAL, "port 1 for a record of another host"},
        {with(record, AT(record, pad) + 9, 1), DP_EINVAL, "padding"},
        {record_row(7001, "10.1.1.40", 1, PEER, 0, "192.168.77.2", DP_NVGRE), DP_ENOENT, "7001"},
        {record_row(RED, "10.1.1.40", 1, PEER, 0, "192.168.77.77", DP_NVGRE), DP_ENOENT, "no PA 192.168.77.77"},
        {record_row(RED, "10.1.1.40", 1, OTHER, 0, "192.168.77.2", DP_NVGRE), DP_EINVAL, "is of host 2, not 3"},
        {record_row(RED, "10.1.1.40", 1, PEER, 0, "192.168.77.2", DP_REWRITE), DP_EINVAL, "other kind"},
        {record_row(RED, "10.1.1.40", 1, PEER, 0, "192.168.77.102", DP_NVGRE), DP_EINVAL, "other kind"},
        {record_row(RED, "10.1.1.40", 1, PEER, 0, "192.168.77.102", DP_REWRITE), DP_EEXIST, "another CA of vsid 5001"},
        {record_row(RED, "fd00::40", 1, PEER, 0, "192.168.77.102", DP_REWRITE), DP_EINVAL, "between families"},
        {record_row(RED, "0.0.0.0", 1, PEER, 0, "192.168.77.102", DP_REWRITE), DP_EINVAL, "no rewrite PA"},
        {record_row(RED, "10.1.1.1", 1, PEER, 0, "192.168.77.2", DP_NVGRE), DP_EEXIST, "10.1.1.1 of vsid 6001 is a gateway"},
        {record_row(RED, "fe80::1", 1, PEER, 0, "192.168.77.2", DP_NVGRE), DP_EEXIST, "gateway"},
        {record_row(RED, "10.1.1.40", 1, SELF, 0, "192.168.77.1", DP_NVGRE), DP_EINVAL, "port 0"},
        {record_row(RED, "10.1.1.40", 1, SELF, 3, "192.168.77.1", DP_NVGRE), DP_ENOENT, "port 3 has no policy"},
        {record_row(RED, "10.1.1.40", 1, SELF, 1, "192.168.77.1", DP_NVGRE), DP_EINVAL, "port 1 is in vsid 5001"},
        {deleted(record), DP_ENOENT, "no record of vsid 6001, ca 10.1.1.40"},
        {deleted(record_row(RED, "10.1.1.1", 1, 0, 0, "0.0.0.0", 0)), DP_ENOENT, "no record"},
        {with(route, AT(route, pad), 1), DP_EINVAL, "padding"},
        {route_row(2, "10.8.0.0", 16, "10.1.1.20", BLUE), DP_EINVAL, "not in rdid 2"},
        {route_row(0, "10.8.0.0", 16, "10.1.1.20", BLUE), DP_EINVAL, "rdid 0"},
        {route_row(1, "10.1.2.0", 24, "10.1.1.20", BLUE), DP_EEXIST, "prefix on link"},
        {route_row(1, "10.8.0.0", 16, "0.0.0.0", BLUE), DP_EINVAL, "next_hop"},
        {deleted(route), DP_ENOENT, "no route 10.8.0.0/16 in rdid 1"},
        {deleted(route_row(1, "10.1.2.0", 24, "0.0.0.0", 0)), DP_ENOENT, "no route"},
        {deleted(route_row(0, "0.0.0.0", 0, "0.0.0.0", 0)), DP_ENOENT, "no route"},
        {deleted(route_row(70000, "0.0.0.0", 0, "0.0.0.0", 0)), DP_ENOENT, "no route"},
        {with(move, AT(move, family), 5), DP_EINVAL, "family 5"},
        {with(move, AT(move, ca) + 4, 1), DP_EINVAL, "behind an IPv4 address"},
        {with(move, AT(move, pad), 1), DP_EINVAL, "padding"},
        {move_row(RED, "10.1.1.20", UINT32_MAX), DP_EINVAL, "reserved"},
        {move_row(7001, "10.1.1.20", OTHER), DP_ENOENT, "no subnet has vsid 7001"},
        {deleted(move), DP_ENOENT, "no move of vsid 6001, ca 10.1.1.20"},
    };
    struct dp *dp = make_base();
    struct dump before = dump_tables(dp);
    for (uint32_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        const struct refusal *refusal = &refusals[i];
        /* Behind rows that were applied, in place and beside. */
        const struct row rows[] = {record_row(RED, "10.1.1.41", 41, PEER, 0, "192.168.77.2", DP_NVGRE), pa_row("192.168.77.41", OTHER, SHARED),
                                   provider_route_row("192.168.78.0", 24, "192.168.77.253"), refusal->row};
        for (uint16_t flags = 0; flags <= DP_CHANGE_ATOMIC; flags++) {
            struct dp_change_error error;
            int code = apply_rows_of(dp, flags, rows, 4, &error);
            if (code != refusal->code || !strstr(error.text, refusal->text) || error.section != 3)
                fail_msg("refusal %u: %d, section %u, \"%s\"; not %d, \"%s\"", i, code, error.section, error.text, refusal->code, refusal->text);
            struct dump after = dump_tables(dp);
            assert_same_dump(&before, &after);
            free(after.lines);
        }
    }
    free(before.lines);
    dp_destroy(dp);
}

/* ---- what rows mean ---------------------------------------------------------------------------------------------- */

static const struct port_source *source_at(const struct dp *dp, uint32_t port, const char *ca)
{
    uint8_t address[16];
    set_address(address, ca);
    return policy_source(dp_tables(dp)->policies[port], family_of(ca), address);
}

static void local_records_are_sources_of_their_port(void **state)
{
    (void)state;
    struct dp *dp = make_base();
    const struct port_source *own = source_at(dp, 1, "10.1.1.10");
    uint8_t pa[16];
    set_address(pa, "192.168.77.101");
    assert_true(own && own->has_pa && !own->extra && own->prefix_len == 32 && !memcmp(own->pa, pa, 16));
    assert_true(source_at(dp, 1, "172.20.1.1")->extra);
    assert_null(source_at(dp, 1, "10.1.1.20"));
    assert_false(source_at(dp, 2, "10.1.1.10")->has_pa);
    APPLY(dp, record_row(BLUE, "fd00:1:1::10", 10, SELF, 1, "fd77::1", DP_NVGRE), record_row(BLUE, "0.0.0.0", 10, SELF, 1, "192.168.77.1", DP_NVGRE));
    assert_int_equal(dp_tables(dp)->policies[1]->n6, 1);
    assert_int_equal(dp_tables(dp)->policies[1]->n4, 2);        /* a wildcard is no source */
    APPLY(dp, deleted(record_row(BLUE, "10.1.1.10", 0, 0, 0, "0.0.0.0", 0)));
    assert_null(source_at(dp, 1, "10.1.1.10"));
    assert_int_equal(rewrite_at(dp, "192.168.77.101")->vsid, 0);
    APPLY(dp, deleted(record_row(BLUE, "fd00:1:1::10", 0, 0, 0, "::", 0)), deleted(record_row(BLUE, "0.0.0.0", 0, 0, 0, "0.0.0.0", 0)),
          deleted(source_row(1, "172.16.0.0", 12)), deleted(port_row(1, 0, 0)));
    assert_null(dp_tables(dp)->policies[1]);
    dp_destroy(dp);
}

static void gateways_are_records_of_the_router(void **state)
{
    (void)state;
    struct dp *dp = make_base();
    for (const char *const *ca = (const char *const[]){"10.1.1.1", "fd00:1:1::1", "fe80::1", NULL}; *ca; ca++) {
        struct map_value value = record_at(dp, BLUE, *ca);
        assert_int_equal(act_kind(value.act), ACT_GATEWAY);
        assert_int_equal(dp_tables(dp)->subnets[act_index(value.act)].vsid, BLUE);
        assert_memory_equal(value.mac, dp->config.router_mac, 6);
    }
    APPLY(dp, prefix_row(BLUE, "10.1.1.0", 24, "10.1.1.254"));
    assert_int_equal(record_at(dp, BLUE, "10.1.1.1").act, 0);
    assert_int_equal(act_kind(record_at(dp, BLUE, "10.1.1.254").act), ACT_GATEWAY);
    APPLY(dp, prefix_row(BLUE2, "10.1.1.0", 24, "10.1.1.254"));
    assert_int_equal(record_at(dp, BLUE, "10.1.1.254").act, 0);
    assert_int_equal(dp_tables(dp)->subnets[act_index(record_at(dp, BLUE2, "10.1.1.254").act)].vsid, BLUE2);
    APPLY(dp, prefix_row(BLUE2, "10.1.1.0", 24, "0.0.0.0"));
    assert_int_equal(record_at(dp, BLUE2, "10.1.1.254").act, 0);
    APPLY(dp, deleted(prefix_row(BLUE2, "10.1.1.0", 24, "0.0.0.0")), prefix_row(BLUE, "10.1.1.0", 24, "10.1.1.1"));
    assert_int_equal(act_kind(record_at(dp, BLUE, "10.1.1.1").act), ACT_GATEWAY);
    dp_destroy(dp);
}

/* Blue's record has the PA and the way of the rewrite it stands for, and yields the MAC of its row. */
static void assert_goes(const struct dp *dp, const char *ca, const struct rewrite *rewrite)
{
    struct map_value record = record_at(dp, BLUE, ca);
    struct lookup_answer answer = lookup_answer_of(record);
    assert_int_equal(lookup_pa4(&answer), load32(rewrite->pa));
    assert_int_equal(lookup_hop(&answer), rewrite->next_hop);
    assert_memory_equal(lookup_mac(dp_tables(dp), &record), rewrite->mac, 6);
}

static void a_rewrite_pa_stands_for_its_ca(void **state)
{
    (void)state;
    struct dp *dp = make_base();
    const struct rewrite *all = dp_tables(dp)->rewrites;
    const struct rewrite *local = rewrite_at(dp, "192.168.77.101"), *remote = rewrite_at(dp, "192.168.77.102");
    assert_true(local->vsid == BLUE && local->rdid == 1 && local->host == SELF && local->port == 1 && local->mac[5] == 10);
    assert_true(remote->vsid == BLUE && remote->host == PEER && remote->mac[5] == 20);
    assert_int_equal(record_at(dp, BLUE, "10.1.1.20").act, act_make(ACT_REWRITE, (uint32_t)(remote - all)));
    assert_int_equal(record_at(dp, BLUE, "10.1.1.10").act, act_make(ACT_LOCAL, 1) | MAP_HOME);
    /* Both on link: the host's own next hop; beyond the router both go there, but each PA by itself is no different way. */
    assert_int_equal(remote->next_hop, hop_at(dp, "192.168.77.2"));
    assert_int_equal(remote->shared, remote->next_hop);
    APPLY(dp, record_row(BLUE, "10.1.1.30", 30, OTHER, 0, "192.168.78.103", DP_REWRITE));
    assert_int_equal(rewrite_at(dp, "192.168.78.103")->next_hop, hop_at(dp, "192.168.78.3"));
    /* A provider route of its own: a next hop of its own, while NVGRE stays as it is. */
    APPLY(dp, provider_route_row("192.168.78.103", 32, "192.168.77.253"));
    const struct rewrite *other = rewrite_at(dp, "192.168.78.103");
    assert_int_equal(other->shared, hop_at(dp, "192.168.78.3"));
    assert_int_not_equal(other->next_hop, other->shared);
    assert_memory_equal(dp_tables(dp)->next_hops[other->next_hop].pa, other->pa, 16);
    assert_int_equal(record_at(dp, BLUE, "10.1.1.30").act, act_make(ACT_REWRITE, (uint32_t)(other - all)));
    assert_goes(dp, "10.1.1.30", other);
    APPLY(dp, deleted(provider_route_row("192.168.78.103", 32, "0.0.0.0")));
    assert_int_equal(rewrite_at(dp, "192.168.78.103")->next_hop, hop_at(dp, "192.168.78.3"));
    assert_goes(dp, "10.1.1.30", other);
    dp_destroy(dp);
}

static void a_vm_moves_between_hosts(void **state)
{
    (void)state;
    struct dp *dp = make_base();
    APPLY(dp, pa_row("192.168.77.101", PEER, REWRITING), record_row(BLUE, "10.1.1.10", 10, PEER, 0, "192.168.77.101", DP_REWRITE));
    assert_null(source_at(dp, 1, "10.1.1.10"));
    assert_int_equal(rewrite_at(dp, "192.168.77.101")->host, PEER);
    assert_int_equal(act_kind(record_at(dp, BLUE, "10.1.1.10").act), ACT_REWRITE);
    APPLY(dp, pa_row("192.168.77.101", SELF, REWRITING), record_row(BLUE, "10.1.1.10", 10, SELF, 1, "192.168.77.101", DP_REWRITE));
    assert_true(source_at(dp, 1, "10.1.1.10")->has_pa);
    assert_int_equal(rewrite_at(dp, "192.168.77.101")->port, 1);
    /* Another PA, then none. */
    APPLY(dp, pa_row("192.168.77.111", SELF, REWRITING), record_row(BLUE, "10.1.1.10", 10, SELF, 1, "192.168.77.111", DP_REWRITE));
    assert_int_equal(rewrite_at(dp, "192.168.77.101")->vsid, 0);
    assert_int_equal(source_at(dp, 1, "10.1.1.10")->pa[3], 111);
    APPLY(dp, record_row(BLUE, "10.1.1.10", 10, SELF, 1, "192.168.77.1", DP_NVGRE));
    assert_false(source_at(dp, 1, "10.1.1.10")->has_pa);
    assert_int_equal(rewrite_at(dp, "192.168.77.111")->vsid, 0);
    /* A shared PA of another host, with the records that name it. */
    APPLY(dp, pa_row("192.168.77.2", OTHER, SHARED), record_row(RED, "10.1.1.20", 20, OTHER, 0, "192.168.77.2", DP_NVGRE));
    assert_int_equal(dp_tables(dp)->next_hops[act_index(record_at(dp, RED, "10.1.1.20").act)].host, OTHER);
    dp_destroy(dp);
}

static void a_move_names_another_home(void **state)
{
    (void)state;
    static const uint8_t ca[16] = {10, 1, 1, 20}, any[16];
    struct dp *dp = make_base();
    APPLY(dp, move_row(RED, "10.1.1.20", 0), move_row(RED, "0.0.0.0", OTHER));
    assert_int_equal(lookup_move(dp_tables(dp), RED, DP_IPV4, ca), 0);
    assert_int_equal(lookup_move(dp_tables(dp), RED, DP_IPV4, any), OTHER);
    assert_int_equal(lookup_move(dp_tables(dp), RED, DP_IPV6, any), INDEX_NONE);
    assert_int_equal(lookup_move(dp_tables(dp), BLUE, DP_IPV4, ca), INDEX_NONE);
    APPLY(dp, move_row(RED, "10.1.1.20", PEER));
    assert_int_equal(lookup_move(dp_tables(dp), RED, DP_IPV4, ca), PEER);
    assert_int_equal(dp_rollback(dp), DP_OK);
    assert_int_equal(lookup_move(dp_tables(dp), RED, DP_IPV4, ca), 0);
    static const uint32_t hosts[] = {0x0fffffff, 0x10000000, 0xfffffffe};      /* any number is a host's */
    for (unsigned i = 0; i < 3; i++) {
        APPLY(dp, move_row(RED, "10.1.1.20", hosts[i]));
        APPLY(dp, move_row(RED, "10.1.1.20", hosts[i]));
        assert_int_equal(lookup_move(dp_tables(dp), RED, DP_IPV4, ca), hosts[i]);
        APPLY(dp, deleted(move_row(RED, "10.1.1.20", 0)));
        assert_int_equal(dp_rollback(dp), DP_OK);
        assert_int_equal(lookup_move(dp_tables(dp), RED, DP_IPV4, ca), hosts[i]);
    }
    /* A subnet's moves go before it, and are nobody's when the VSID is another tenant's. */
    APPLY(dp, subnet_row(7001, 3), move_row(7001, "10.1.1.20", PEER));
    struct dp_change_error error;
    const struct row gone = deleted(subnet_row(7001, 0));
    assert_int_equal(apply_rows_of(dp, 0, &gone, 1, &error), DP_EINVAL);
    APPLY(dp, deleted(move_row(7001, "10.1.1.20", 0)), gone);
    dp_destroy(dp);
}

static void provider_routes_pick_the_next_hop(void **state)
{
    (void)state;
    struct dp *dp = make_base();
    assert_hop(dp, "192.168.77.2", "192.168.77.2");
    assert_hop(dp, "192.168.78.3", "192.168.77.254");
    assert_hop(dp, "fd77::2", "fd77::2");
    APPLY(dp, provider_route_row("192.168.78.0", 24, "192.168.77.253"));
    assert_hop(dp, "192.168.78.3", "192.168.77.253");
    APPLY(dp, deleted(provider_route_row("192.168.78.0", 24, "0.0.0.0")), deleted(provider_route_row("0.0.0.0", 0, "0.0.0.0")));
    assert_int_equal(dp_tables(dp)->next_hops[hop_at(dp, "192.168.78.3")].neigh, INDEX_NONE);
    APPLY(dp, provider_route_row("192.168.78.2", 31, "0.0.0.0"));
    assert_hop(dp, "192.168.78.3", "192.168.78.3");
    dp_destroy(dp);
}

static void assert_header(const struct dp *dp, const char *pa, const char *own, const uint8_t *mac)
{
    struct next_hop expected;
    uint8_t from[16], to[16];
    const struct next_hop *nh = &dp_tables(dp)->next_hops[hop_at(dp, pa)];
    set_address(from, own);
    set_address(to, pa);
    memset(&expected, 0, sizeof expected);
    nvgre_template(&expected, family_of(pa), from, to, mac);
    assert_int_equal(nh->header_len, is_any(family_of(pa), from) ? 0 : expected.header_len);
    assert_int_equal(nh->sum, expected.sum);
    assert_memory_equal(nh->header + 8, expected.header + 8, sizeof nh->header - 8);
}

static void headers_follow_own_pa_and_mac(void **state)
{
    (void)state;
    static const uint8_t none[6], mac[6] = {2, 0, 0, 0, 0x77, 1};
    struct dp *dp = make_base();
    assert_header(dp, "192.168.77.2", "192.168.77.1", none);
    tables_underlay(&dp->control, mac);
    assert_header(dp, "192.168.77.2", "192.168.77.1", mac);
    assert_header(dp, "fd77::2", "fd77::1", mac);
    APPLY(dp, pa_row("192.168.77.5", SELF, SHARED));        /* the first one stays the source */
    assert_header(dp, "192.168.77.2", "192.168.77.1", mac);
    APPLY(dp, deleted(pa_row("192.168.77.1", 0, 0)));
    assert_header(dp, "192.168.77.2", "192.168.77.5", mac);
    assert_int_equal(dp_tables(dp)->shared_pa4[3], 5);
    APPLY(dp, deleted(pa_row("192.168.77.5", 0, 0)));
    assert_header(dp, "192.168.77.2", "0.0.0.0", mac);
    assert_header(dp, "fd77::2", "fd77::1", mac);
    APPLY(dp, pa_row("192.168.77.1", SELF, SHARED), pa_row("192.168.77.6", OTHER, SHARED));
    assert_header(dp, "192.168.77.2", "192.168.77.1", mac);
    assert_header(dp, "192.168.77.6", "192.168.77.1", mac);
    dp_destroy(dp);
}

/* Without a shared PA of the family on both ends, what can't go by rewrite goes by the other family. */
static void nvgre_to_a_rewrite_record_uses_what_both_hosts_have(void **state)
{
    (void)state;
    struct dp *dp = make_base();
    assert_int_equal(rewrite_at(dp, "192.168.77.102")->shared, hop_at(dp, "192.168.77.2"));
    APPLY(dp, deleted(pa_row("192.168.77.1", 0, 0)));
    assert_int_equal(rewrite_at(dp, "192.168.77.102")->shared, hop_at(dp, "fd77::2"));
    APPLY(dp, pa_row("192.168.77.1", SELF, SHARED), record_row(RED, "10.1.1.20", 20, PEER, 0, "fd77::2", DP_NVGRE), deleted(pa_row("192.168.77.2", 0, 0)));
    assert_int_equal(rewrite_at(dp, "192.168.77.102")->shared, hop_at(dp, "fd77::2"));
    assert_memory_equal(dp_tables(dp)->next_hops[rewrite_at(dp, "192.168.77.102")->next_hop].pa, rewrite_at(dp, "192.168.77.102")->pa, 16);
    dp_destroy(dp);
}

/* ---- longest prefix beside a scan of all --------------------------------------------------------------------------- */

struct naive_route {
    uint8_t prefix[16];
    uint8_t len, family;
    uint16_t number;        /* its via is 10.0.number or a00::number */
};

static uint32_t naive_longest(const struct naive_route *routes, uint32_t n, unsigned family, const uint8_t *ca)
{
    int best = -1;
    uint32_t number = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (routes[i].family != family || routes[i].len <= best || !prefix_holds(routes[i].prefix, routes[i].len, ca))
            continue;
        best = routes[i].len;
        number = routes[i].number;
    }
    return number;
}

static void random_address(uint8_t *to, unsigned family)
{
    memset(to, 0, 16);
    for (unsigned i = 0; i < (family == DP_IPV4 ? 4 : 16); i++)
        to[i] = (uint8_t)(rand() % 8 ? 0xff * (rand() % 2) : rand());
    if (family == DP_IPV4)
        to[0] = 10;
}

static void check_longest(const struct dp *dp, const struct naive_route *routes, uint32_t n)
{
    for (uint32_t i = 0; i < 4000; i++) {
        uint8_t ca[16];
        unsigned family = i & 1 ? DP_IPV4 : DP_IPV6;
        random_address(ca, family);
        uint32_t act = tables_route(dp_tables(dp), 1, family, ca), number = naive_longest(routes, n, family, ca);
        assert_int_equal(act_kind(act), number ? ACT_VIA : ACT_NONE);
        if (number)
            assert_int_equal(get16(dp_tables(dp)->vias[act_index(act)].ca + (family == DP_IPV4 ? 2 : 14)), number);
        assert_int_equal(tables_route(dp_tables(dp), 2, family, ca), 0);
    }
}

static struct row naive_row(const struct naive_route *route)
{
    ROW(row, DP_ROW_ROUTE, struct dp_row_route);
    *r = (struct dp_row_route){.rdid = 1, .vsid = BLUE, .family = route->family, .prefix_len = route->len};
    memcpy(r->prefix, route->prefix, 16);
    r->next_hop[0] = 10;
    put16(r->next_hop + (route->family == DP_IPV4 ? 2 : 14), route->number);
    return row;
}

static void the_longest_prefix_wins(void **state)
{
    (void)state;
    enum { ROUTES = 400 };
    static struct naive_route routes[ROUTES];
    uint32_t n = 0;
    struct dp *dp = make_engine();
    srand(7);
    APPLY(dp, subnet_row(BLUE, 1), subnet_row(RED, 2));
    while (n < ROUTES) {
        struct naive_route *route = &routes[n];
        *route = (struct naive_route){.family = n % 2 ? DP_IPV4 : DP_IPV6, .number = (uint16_t)(n + 1)};
        route->len = (uint8_t)(n < 2 ? 0 : n < 4 ? (n % 2 ? 32 : 128) : (unsigned)rand() % (n % 2 ? 33 : 129));
        random_address(route->prefix, route->family);
        for (unsigned bit = route->len; bit < 128; bit++)
            route->prefix[bit / 8] &= (uint8_t)~(0x80 >> bit % 8);
        bool twice = false;
        for (uint32_t i = 0; i < n; i++)
            twice |= routes[i].family == route->family && routes[i].len == route->len && !memcmp(routes[i].prefix, route->prefix, 16);
        struct row row = naive_row(route);
        if (!twice)
            must_apply(dp, &row, 1);
        n += !twice;
    }
    check_longest(dp, routes, n);
    while (n > 0) {
        for (uint32_t i = 0; i < 80; i++) {
            struct row row = deleted(naive_row(&routes[--n]));
            must_apply(dp, &row, 1);
        }
        check_longest(dp, routes, n);
    }
    uint8_t ca[16] = {10};
    APPLY(dp, subnet_row(7001, 65535));
    assert_int_equal(tables_route(dp_tables(dp), 65535, DP_IPV4, ca), 0);      /* never had a route */
    assert_true(dp_tables(dp)->lengths[1].len4 == 0 && dp_tables(dp)->lengths[1].len6[0] == 0 && dp_tables(dp)->lengths[1].len6[2] == 0);
    dp_destroy(dp);
}

/* ---- in place or beside -------------------------------------------------------------------------------------------- */

static void load_records(struct dp *dp, uint32_t from, uint32_t n, uint8_t mac, bool fail)
{
    struct change_set set = {0};
    struct dp_change_error error;
    change_set_begin(&set, 0);
    uint8_t *rows = change_set_section(&set, DP_ROW_RECORD, DP_PUT, n);
    for (uint32_t i = 0; i < n; i++) {
        struct row row = record_row(RED, "10.1.1.1", mac, PEER, 0, "192.168.77.2", DP_NVGRE);
        put32(row.bytes, 0x0b000000 + from + i);
        memcpy(rows + i * sizeof(struct dp_row_record), row.bytes, sizeof(struct dp_row_record));
    }
    if (fail)
        rows[(n - 1) * sizeof(struct dp_row_record) + AT(record, type)] = 99;
    assert_int_equal(tables_apply(&dp->control, set.bytes, set.len, &error), fail ? DP_EINVAL : DP_OK);
    if (fail)
        assert_int_equal(error.row, n - 1);
    free(set.bytes);
}

static void many_rows_are_applied_beside(void **state)
{
    (void)state;
    struct dp *dp = make_base();
    struct dp_table_stats stats;
    const struct map *before = dp_tables(dp)->records4;
    load_records(dp, 0, 10, 1, false);
    assert_ptr_equal(dp_tables(dp)->records4, before);
    load_records(dp, 10, 20000, 1, false);
    const struct map *after = dp_tables(dp)->records4;
    assert_ptr_not_equal(after, before);
    load_records(dp, 0, 2000, 2, false);
    assert_ptr_equal(dp_tables(dp)->records4, after);
    assert_int_equal(record_at(dp, RED, "11.0.7.207").mac[5], 2);
    assert_int_equal(record_at(dp, RED, "11.0.7.208").mac[5], 1);
    dp_table_stats(dp, &stats);
    assert_int_equal(stats.records4, 20010 + 6);
    uint32_t refs = dp_tables(dp)->writer->ways[hop_at(dp, "192.168.77.2")].refs;
    for (uint32_t n = 2000; n <= 20000; n *= 10) {
        load_records(dp, 19000, n, 3, true);
        assert_true((dp_tables(dp)->records4 == after) == (n == 2000));     /* what was built beside is put back there */
        assert_int_equal(dp_tables(dp)->writer->ways[hop_at(dp, "192.168.77.2")].refs, refs);
        assert_int_equal(record_at(dp, RED, "11.0.74.56").mac[5], 1);
        dp_table_stats(dp, &stats);
        assert_int_equal(stats.records4, 20010 + 6);
    }
    dp_destroy(dp);
}

/* ---- what a change costs ------------------------------------------------------------------------------------------ */

enum { BOUND = 4000, BOUND_HOSTS = 40 };

/* So many rewrite records, spread over hosts that each have a shared PA. */
static struct dp *make_bound(void)
{
    struct row *rows = calloc(2 * BOUND + 100, sizeof *rows);
    struct dp *dp = make_engine();
    uint32_t n = 0;
    rows[n++] = pa_row("10.0.0.1", SELF, SHARED);
    rows[n++] = provider_route_row("10.0.0.0", 8, "0.0.0.0");
    rows[n++] = subnet_row(BLUE, 1);
    for (uint32_t i = 0; i < BOUND_HOSTS; i++) {
        rows[n] = pa_row("10.0.0.1", 100 + i, SHARED);
        put32(rows[n++].bytes, 0x0a000100 + i);
    }
    for (uint32_t i = 0; i < BOUND; i++) {
        rows[n] = pa_row("10.0.0.1", 100 + i % BOUND_HOSTS, REWRITING);
        put32(rows[n++].bytes, 0x0a010000 + i);
        rows[n] = record_row(BLUE, "10.2.0.0", 1, 100 + i % BOUND_HOSTS, 0, "10.0.0.1", DP_REWRITE);
        put32(rows[n].bytes, 0x0b000000 + i);
        put32(rows[n++].bytes + AT(record, provider_address), 0x0a010000 + i);
    }
    must_apply(dp, rows, n);
    free(rows);
    return dp;
}

static uint64_t visits_of(struct dp *dp, struct row row)
{
    uint64_t before = dp_tables(dp)->writer->visited;
    must_apply(dp, &row, 1);
    return dp_tables(dp)->writer->visited - before;
}

static void a_host_costs_what_hangs_on_it(void **state)
{
    (void)state;
    struct dp *dp = make_bound();
    assert_int_equal(visits_of(dp, pa_row("10.0.9.1", 999, SHARED)), 0);
    assert_int_equal(visits_of(dp, pa_row("10.0.9.2", 999, REWRITING)), 0);
    assert_int_equal(visits_of(dp, record_row(BLUE, "10.1.1.1", 1, 999, 0, "10.0.9.2", DP_REWRITE)), 0);
    assert_int_equal(visits_of(dp, pa_row("10.0.9.3", 999, SHARED)), 1);
    assert_int_equal(visits_of(dp, pa_row("fd77::9", 107, SHARED)), BOUND / BOUND_HOSTS);
    assert_int_equal(visits_of(dp, deleted(pa_row("fd77::9", 0, 0))), BOUND / BOUND_HOSTS);
    assert_int_equal(visits_of(dp, pa_row("10.0.0.2", SELF, SHARED)), 0);      /* the second of its family */
    assert_true(visits_of(dp, pa_row("fd77::1", SELF, SHARED)) > BOUND);
    dp_destroy(dp);
}

/* Routes that all rewrites go by change: none is made anew. */
static void routes_change_without_room_for_more_rewrites(void **state)
{
    (void)state;
    struct dp *dp = make_bound();
    struct objects *rewrites = &dp_tables(dp)->writer->objects[REWRITES];
    struct dump before = dump_tables(dp);
    rewrites->limit = rewrites->used;
    rewrites->free.n = 0;
    APPLY(dp, provider_route_row("10.1.0.0", 16, "10.0.0.254"));
    const struct rewrite *rewrite = rewrite_at(dp, "10.1.0.7");
    assert_memory_equal(dp_tables(dp)->next_hops[rewrite->next_hop].pa, rewrite->pa, 16);
    APPLY(dp, deleted(provider_route_row("10.1.0.0", 16, "0.0.0.0")));
    assert_int_equal(rewrite->next_hop, hop_at(dp, "10.0.1.7"));
    struct dump after = dump_tables(dp);
    assert_same_dump(&before, &after);
    assert_in_range(objects_live(&dp_tables(dp)->writer->objects[NEXT_HOPS]), BOUND_HOSTS + 1, BOUND_HOSTS + 1);
    free(before.lines);
    free(after.lines);
    dp_destroy(dp);
}

/* The last steps of a change set come when its rows are in; they can only fail for want of room. */
static void running_out_of_room_takes_everything_back(void **state)
{
    (void)state;
    const struct row row = provider_route_row("192.168.78.0", 24, "192.168.77.253");
    const struct row rows[] = {row, provider_route_row("192.168.78.103", 32, "0.0.0.0"), record_row(BLUE, "10.1.1.30", 30, OTHER, 0, "192.168.78.103", DP_REWRITE)};
    for (uint16_t flags = 0; flags <= DP_CHANGE_ATOMIC; flags++) {
        struct dp_change_error error;
        struct dp *dp = make_base();
        struct tables_writer *w = dp_tables(dp)->writer;
        APPLY(dp, rows[2]);
        struct dump before = dump_tables(dp);
        w->objects[NEXT_HOPS].limit = w->objects[NEXT_HOPS].used;
        w->objects[NEXT_HOPS].free.n = 0;
        assert_int_equal(apply_rows_of(dp, flags, rows, 2, &error), DP_EFULL);
        assert_non_null(strstr(error.text, "too many"));
        struct dump after = dump_tables(dp);
        assert_same_dump(&before, &after);
        assert_hop(dp, "192.168.78.3", "192.168.77.254");
        APPLY(dp, row);
        assert_hop(dp, "192.168.78.3", "192.168.77.253");
        free(before.lines);
        free(after.lines);
        dp_destroy(dp);
    }
}

static void the_last_change_set_is_rolled_back(void **state)
{
    (void)state;
    struct dp *dp = make_base();
    const struct row rows[] = {deleted(pa_row("192.168.77.1", 0, 0)), pa_row("192.168.77.9", SELF, SHARED),
                               pa_row("192.168.77.101", PEER, REWRITING),
                               record_row(BLUE, "10.1.1.10", 10, PEER, 0, "192.168.77.101", DP_REWRITE)};
    assert_int_equal(dp_verified(dp), DP_OK);
    assert_int_equal(dp_rollback(dp), DP_ENOENT);
    struct dump before = dump_tables(dp);
    for (uint16_t flags = 0; flags <= DP_CHANGE_ATOMIC; flags++) {
        struct dp_change_error error;
        struct change_set set = {0};
        change_set_begin(&set, flags);
        ((struct dp_change_header *)set.bytes)->generation = 7;
        for (uint32_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
            change_set_row(&set, &rows[i]);
        assert_int_equal(tables_apply(&dp->control, set.bytes, set.len, &error), DP_OK);
        assert_int_equal(dp_generation(dp), 7);
        assert_null(source_at(dp, 1, "10.1.1.10"));
        assert_int_equal(dp_rollback(dp), DP_OK);
        assert_int_equal(dp_generation(dp), 1);
        struct dump after = dump_tables(dp);
        assert_same_dump(&before, &after);
        assert_int_equal(dp_rollback(dp), DP_ENOENT);
        assert_int_equal(dp_verified(dp), DP_ENOENT);
        assert_int_equal(tables_apply(&dp->control, set.bytes, set.len, &error), DP_OK);
        assert_int_equal(tables_apply(&dp->control, set.bytes, 3, &error), DP_EFORMAT);
        assert_int_equal(dp_rollback(dp), DP_ENOENT);
        free(after.lines);
        free(set.bytes);
        dp_destroy(dp);
        dp = make_base();
    }
    free(before.lines);
    dp_destroy(dp);
}

/* In place and beside, row by row and many at once: what does not fit is refused and leaves all as it was. */
static void tables_keep_to_their_budget(void **state)
{
    (void)state;
    struct dp *dp = make_base();
    struct mem_budget *budget = &dp_tables(dp)->writer->budget;
    uint32_t refused = 0, n = 0;
    budget->limit = budget->used + (4 << 20);
    for (uint32_t step = 0; step < 400; step++) {
        struct dp_change_error error;
        struct change_set set = {0};
        uint32_t count = step % 8 ? 100 : 9000;
        change_set_begin(&set, step % 3 == 0);
        uint8_t *rows = change_set_section(&set, DP_ROW_RECORD, DP_PUT, count);
        for (uint32_t i = 0; i < count; i++) {
            struct row row = record_row(RED, "11.0.0.0", 1, PEER, 0, "192.168.77.2", DP_NVGRE);
            put32(row.bytes, 0x0b000000 + n + i);
            memcpy(rows + i * sizeof(struct dp_row_record), row.bytes, sizeof(struct dp_row_record));
        }
        int code = tables_apply(&dp->control, set.bytes, set.len, &error);
        if (code == DP_OK)
            n += count;
        else
            assert_int_equal(code, DP_ENOMEM);
        refused += code != DP_OK;
        assert_true(budget->used <= budget->limit);
        dp_verified(dp);
        free(set.bytes);
    }
    assert_true(refused > 20 && n > 9000);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t ca[16] = {0};
        put32(ca, 0x0b000000 + i);
        assert_int_equal(lookup_record(dp_tables(dp), RED, DP_IPV4, ca).mac[5], 1);
    }
    struct dp_table_stats stats;
    dp_table_stats(dp, &stats);
    assert_int_equal(stats.records4, n + 6);
    dp_destroy(dp);
}

struct writer {
    struct dp *dp;
    const struct row *rows;
    uint32_t n;
    bool done;
};

static void *apply_in_thread(void *arg)
{
    struct writer *writer = arg;
    struct dp_change_error error;
    apply_rows_of(writer->dp, 0, writer->rows, writer->n, &error);
    __atomic_store_n(&writer->done, true, __ATOMIC_RELEASE);
    return NULL;
}

/* The worker has looked up a record just before, and still stands on its next hop when the change set is through or taken back. */
static void nothing_is_freed_under_a_worker(void **state)
{
    (void)state;
    const struct row kept[] = {pa_row("192.168.77.4", PEER, SHARED), record_row(RED, "10.1.1.20", 20, PEER, 0, "192.168.77.4", DP_NVGRE),
                               deleted(pa_row("192.168.77.2", 0, 0))};
    const struct row undone[] = {kept[0], kept[1], subnet_row(1, 1)};
    for (int keep = 0; keep < 2; keep++) {
        struct dp *dp = make_base();
        struct writer writer = {dp, keep ? kept : undone, 3, false};
        struct qsbr_reader *worker = &dp->qsbr.readers[0];
        pthread_t thread;
        qsbr_online(worker);
        uint32_t index = act_index(record_at(dp, RED, "10.1.1.20").act);
        struct next_hop *hops = dp_tables(dp)->next_hops;
        const struct objects *ways = &dp_tables(dp)->writer->objects[NEXT_HOPS];
        uint32_t next = ways->free.n ? object_list_at(&ways->free, ways->free.n - 1) : ways->used, watched = keep ? index : next;
        assert_int_equal(pthread_create(&thread, NULL, apply_in_thread, &writer), 0);
        while (hops[watched].host == 0 && !__atomic_load_n(&writer.done, __ATOMIC_ACQUIRE))
            sched_yield();
        for (int i = 0; i < 2000; i++) {
            assert_int_equal(hops[watched].host, PEER);
            sched_yield();
        }
        assert_false(__atomic_load_n(&writer.done, __ATOMIC_ACQUIRE));
        qsbr_quiescent(worker);
        qsbr_offline(worker);
        pthread_join(thread, NULL);
        assert_int_equal(hops[watched].host, 0);
        dp_destroy(dp);
    }
}

static void statistics_tell_what_is_there(void **state)
{
    (void)state;
    struct dp *dp = make_base();
    struct dp_table_stats stats;
    assert_int_equal(dp_table_stats(dp, &stats), DP_OK);
    assert_int_equal(stats.records4, 6);
    assert_int_equal(stats.records6, 1);
    assert_int_equal(stats.rewrites, 3);
    assert_int_equal(stats.pas, 8);
    assert_int_equal(stats.subnets, 3);
    assert_int_equal(stats.routes, 5);
    assert_int_equal(stats.next_hops, 5);
    assert_in_range(stats.bytes, 100000, 1000000);
    assert_int_equal(dp_tables(dp)->generation, 1);
    assert_int_equal(tables_subnet(dp_tables(dp), 7001), INDEX_NONE);
    assert_int_equal(dp_tables(dp)->subnets[tables_subnet(dp_tables(dp), RED)].rdid, 2);
    dp_destroy(dp);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_change_sets_are_refused),
        cmocka_unit_test(rows_that_make_no_sense_are_refused),
        cmocka_unit_test(local_records_are_sources_of_their_port),
        cmocka_unit_test(gateways_are_records_of_the_router),
        cmocka_unit_test(a_rewrite_pa_stands_for_its_ca),
        cmocka_unit_test(a_vm_moves_between_hosts),
        cmocka_unit_test(a_move_names_another_home),
        cmocka_unit_test(provider_routes_pick_the_next_hop),
        cmocka_unit_test(headers_follow_own_pa_and_mac),
        cmocka_unit_test(nvgre_to_a_rewrite_record_uses_what_both_hosts_have),
        cmocka_unit_test(the_longest_prefix_wins),
        cmocka_unit_test(many_rows_are_applied_beside),
        cmocka_unit_test(a_host_costs_what_hangs_on_it),
        cmocka_unit_test(routes_change_without_room_for_more_rewrites),
        cmocka_unit_test(running_out_of_room_takes_everything_back),
        cmocka_unit_test(the_last_change_set_is_rolled_back),
        cmocka_unit_test(tables_keep_to_their_budget),
        cmocka_unit_test(nothing_is_freed_under_a_worker),
        cmocka_unit_test(statistics_tell_what_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
