/* The source check beside its naive twin, which goes through all prefixes: at and around every edge. */
#include "change_set.h"
#include "step/source.h"

enum { VSID = 5001, PORT = 1, ENTRIES_MAX = 5000 };

static struct port_source entries[ENTRIES_MAX];
static uint32_t entry_count;
static uint64_t rnd_state = 1;

static uint32_t rnd(uint32_t bound)
{
    rnd_state ^= rnd_state >> 12;
    rnd_state ^= rnd_state << 25;
    rnd_state ^= rnd_state >> 27;
    return (uint32_t)(rnd_state * 0x2545f4914f6cdd1dull >> 32) % bound;
}

/* The number's low bits are the address. */
static void set_number(uint8_t *to, bool ip4, unsigned __int128 number)
{
    unsigned size = ip4 ? 4 : 16;
    memset(to, 0, 16);
    for (unsigned i = 0; i < size; i++)
        to[i] = (uint8_t)(number >> 8 * (size - 1 - i));
}

static void add(bool ip4, unsigned __int128 number, unsigned len)
{
    unsigned bits = ip4 ? 32 : 128;
    assert_true(entry_count < ENTRIES_MAX);
    struct port_source *entry = &entries[entry_count++];
    *entry = (struct port_source){.family = ip4 ? DP_IPV4 : DP_IPV6, .prefix_len = (uint8_t)len, .extra = 1};
    set_number(entry->ca, ip4, len ? number >> (bits - len) << (bits - len) : 0);
}

static void check(const struct port_policy *policy, bool ip4, unsigned __int128 number)
{
    uint8_t address[16];
    char text[33];
    bool allowed = false;
    unsigned family = ip4 ? DP_IPV4 : DP_IPV6;
    set_number(address, ip4, number);
    for (uint32_t i = 0; i < entry_count && !allowed; i++)
        allowed = entries[i].family == family && prefix_holds(entries[i].ca, entries[i].prefix_len, address);
    const struct port_source *own = policy_own(policy, family, address);
    const struct port_source *found = policy_source(policy, family, address);
    if (own ? found != own : !found != !allowed || (found && (!found->extra || found->has_pa)))
        fail_msg("%s: %s, not %s", hex(text, address, ip4 ? 4 : 16), found ? "found" : "none",
                 own ? "its own" : allowed ? "allowed" : "none");
}

/* Before, at and behind the first and last address of about `probes` entries; the ends; and some anywhere. */
static void check_all(const struct port_policy *policy, uint32_t probes)
{
    for (uint32_t i = 0; i < entry_count; i++) {
        if (entry_count > probes && rnd(entry_count) >= probes)
            continue;
        bool ip4 = entries[i].family == DP_IPV4;
        unsigned bits = ip4 ? 32 : 128, len = entries[i].prefix_len;
        unsigned __int128 first = source_number(ip4, entries[i].ca);
        unsigned __int128 all = ~(unsigned __int128)0 >> (128 - bits);
        unsigned __int128 last = first | (len < bits ? all >> len : 0);
        for (unsigned j = 0; j < 3; j++) {
            check(policy, ip4, first - 1 + j);
            check(policy, ip4, last - 1 + j);
        }
    }
    for (unsigned ip4 = 0; ip4 < 2; ip4++)
        for (unsigned i = 0; i < 200; i++) {
            unsigned __int128 high = (uint64_t)rnd(~0u) << 32 | rnd(~0u), number = high << 64 | rnd(~0u);
            check(policy, ip4, i < 2 ? -(unsigned __int128)i : number >> rnd(128));
        }
}

static struct dp *engine;

static const struct port_policy *policy_of_entries(void)
{
    static const char *const own[] = {"10.1.1.10", "10.1.1.12", "10.200.0.1",   "172.16.0.5",
                                      "fd00::1",   "fd00::ffff", "fd00:0:0:1::1"};
    struct dp_config config = {
        .workers = 1, .slots = 512, .self_host = 1, .router_mac = {2, 0x15, 0x5d, 0, 0, 1}};
    struct change_set set = {0};
    struct dp_change_error error;
    assert_int_equal(dp_create(&config, &engine), DP_OK);
    change_set_begin(&set, 0);
    struct row rows[] = {pa_row("192.168.77.1", 1, DP_PA_SHARED), subnet_row(VSID, 1),
                         prefix_row(VSID, "10.0.0.0", 8, "0.0.0.0"), prefix_row(VSID, "fd00::", 16, "::"),
                         prefix_row(VSID, "172.16.0.0", 16, "0.0.0.0"), port_row(PORT, VSID, 10)};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        change_set_row(&set, &rows[i]);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        struct row row = record_row(VSID, own[i], 10, 1, PORT, "192.168.77.1", DP_NVGRE);
        change_set_row(&set, &row);
    }
    for (uint32_t i = 0; i < entry_count; i++) {
        struct row row = source_row(PORT, "::", entries[i].prefix_len);
        ((struct dp_row_source *)row.bytes)->family = entries[i].family;
        memcpy(((struct dp_row_source *)row.bytes)->prefix, entries[i].ca, 16);
        change_set_row(&set, &row);
    }
    if (tables_apply(&engine->control, set.bytes, set.len, &error))
        fail_msg("%s", error.text);
    free(set.bytes);
    return dp_tables(engine)->policies[PORT];
}

static void check_entries(uint32_t probes)
{
    const struct port_policy *policy = policy_of_entries();
    check_all(policy, probes);
    dp_destroy(engine);
    entry_count = 0;
}

static void nothing_is_allowed_without_prefixes(void **state)
{
    (void)state;
    check_entries(0);
}

static void prefixes_may_touch_nest_and_reach_the_ends(void **state)
{
    (void)state;
    static const uint8_t lens4[] = {0, 1, 8, 24, 31, 32}, lens6[] = {0, 1, 63, 64, 65, 127, 128};
    for (unsigned i = 0; i < sizeof lens4 + sizeof lens6; i++)
        for (unsigned end = 0; end < 2; end++) {
            bool ip4 = i < sizeof lens4;
            unsigned __int128 all = ip4 ? UINT32_MAX : ~(unsigned __int128)0;
            add(ip4, end ? all : 0, ip4 ? lens4[i] : lens6[i - sizeof lens4]);
            check_entries(10);
        }
    for (unsigned i = 0; i < 4; i++) {
        add(true, 0x0a000000 + (i << 8), 24);
        add(false, (unsigned __int128)0xfd14 << 112 | i << 8, 120);
    }
    add(true, 0x0a000100, 30);
    add(true, 0x0a000000, 23);
    const struct port_policy *policy = policy_of_entries();
    assert_int_equal(policy->edges4.count, 2);
    assert_int_equal(policy->edges6.count, 2);
    check_all(policy, 100);
    dp_destroy(engine);
    entry_count = 0;
}

/* By how many there are, for one level and more, by how they lie: alone, in clumps, in a /64, all lengths. */
static void random_prefixes(void **state)
{
    (void)state;
    static const uint32_t counts[] = {1, 2, 7, 8, 9, 16, 17, 130, 140, 1000, 2400};
    for (unsigned kind = 0; kind < 4; kind++)
        for (unsigned i = 0; i < sizeof counts / sizeof *counts; i++) {
            for (uint32_t j = 0; j < counts[i]; j++) {
                uint32_t clump = rnd(3) << 28 | rnd(1 << 16), any = rnd(~0u);
                unsigned __int128 one = (unsigned __int128)0xfd000000 << 96, low = rnd(1 << 16);
                unsigned __int128 high = (unsigned __int128)any << 96 | (unsigned __int128)rnd(~0u) << 64;
                unsigned __int128 of_kind[] = {high, one | low << 64 | rnd(3), one | low, high | low};
                add(true, kind == 0 ? any : clump, kind == 3 ? 1 + rnd(32) : 32 - rnd(4));
                add(false, of_kind[kind], kind == 0 ? 64 : kind == 3 ? 1 + rnd(128) : 128 - rnd(4));
            }
            check_entries(150);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_allowed_without_prefixes),
        cmocka_unit_test(prefixes_may_touch_nest_and_reach_the_ends),
        cmocka_unit_test(random_prefixes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
