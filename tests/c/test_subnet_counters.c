/* Every subnet has counters, whatever its number. */
#include "world.h"

enum { SUBNETS = 5000, FIRST = 6000, LAST = FIRST + SUBNETS - 1 };

static struct world *w;
static struct frame f;

static struct dp_vsid_counters counters_of(uint32_t vsid)
{
    static struct dp_vsid_counters out[SUBNETS + 1];
    struct dp_vsid_counters found = {0};
    int n = dp_vsid_counters_read(w->dp, out, SUBNETS + 1);
    assert_in_range(n, SUBNETS, SUBNETS + 1);
    for (int i = 0; i < n; i++)
        if (out[i].vsid == vsid)
            found = out[i];
    return found;
}

static void apply_subnets(void)
{
    struct dp_change_header header = {DP_CHANGE_MAGIC, DP_CHANGE_VERSION, 0, 1, 1, 0};
    struct dp_section section = {DP_ROW_SUBNET, DP_PUT, SUBNETS};
    const size_t len = sizeof header + sizeof section + SUBNETS * sizeof(struct dp_row_subnet);
    uint8_t *set = calloc(1, len);
    memcpy(set, &header, sizeof header);
    memcpy(set + sizeof header, &section, sizeof section);
    for (uint32_t i = 0; i < SUBNETS; i++) {
        struct dp_row_subnet row = {FIRST + i, 1 + i};
        memcpy(set + sizeof header + sizeof section + i * sizeof row, &row, sizeof row);
    }
    assert_int_equal(dp_apply(w->dp, set, len, NULL), DP_OK);
    free(set);
}

static void add_vm(struct changes *c, uint16_t op, uint32_t vsid, uint32_t port, const uint8_t *ca,
                   const uint8_t *mac)
{
    struct dp_row_port row = {.port = port, .vsid = vsid};
    struct dp_row_record record = {.vsid = vsid, .host = 1, .port = port, .family = 4,
                                   .translation = DP_NVGRE, .type = DP_STATIC};
    memcpy(row.mac, mac, 6);
    memcpy(record.ca, ca, 4);
    memcpy(record.mac, mac, 6);
    if (op == DP_PUT)
        change_add(c, op, DP_ROW_PORT, &row, sizeof row);
    change_add(c, op, DP_ROW_RECORD, &record, sizeof record);
    if (op == DP_DEL)
        change_add(c, op, DP_ROW_PORT, &row, sizeof row);
}

static void attach_to(uint32_t vsid)
{
    struct changes c = {.len = 0};
    add_vm(&c, DP_PUT, vsid, PORT_A, ca_a, mac_a);
    add_vm(&c, DP_PUT, vsid, PORT_B, ca_b, mac_b);
    change_apply(w, &c);
}

static void send_three(void)
{
    for (uint8_t mark = 0; mark < 3; mark++)
        world_send(w, PORT_A, frame_udp(&f, mac_b, mac_a, ca_a, ca_b, mark));
    while (world_take(w, PORT_B))
        ;
}

static void expect_counted(uint32_t vsid, uint64_t packets)
{
    struct dp_vsid_counters c = counters_of(vsid);
    assert_int_equal(c.vsid, vsid);
    assert_int_equal(c.from_port, packets);
    assert_int_equal(c.from_port_bytes, 60 * packets);
    assert_int_equal(c.to_port, packets);
    assert_int_equal(c.to_port_bytes, 60 * packets);
}

static void the_last_of_five_thousand_counts(void **state)
{
    (void)state;
    apply_subnets();
    attach_to(LAST);
    send_three();
    expect_counted(LAST, 3);
    expect_counted(LAST - 1, 0);
    expect_counted(FIRST, 0);
}

/* A subnet that gets the number of one that went does not get its counts. */
static void a_number_used_again_counts_from_nothing(void **state)
{
    (void)state;
    struct changes del_it = {.len = 0}, put_it = {.len = 0};
    apply_subnets();
    attach_to(LAST);
    send_three();
    add_vm(&del_it, DP_DEL, LAST, PORT_B, ca_b, mac_b);
    add_vm(&del_it, DP_DEL, LAST, PORT_A, ca_a, mac_a);
    struct dp_row_subnet row = {LAST, SUBNETS};
    change_add(&del_it, DP_DEL, DP_ROW_SUBNET, &row, sizeof row);
    change_apply(w, &del_it);
    row.vsid = LAST + 7;
    change_add(&put_it, DP_PUT, DP_ROW_SUBNET, &row, sizeof row);
    change_apply(w, &put_it);
    attach_to(LAST + 7);
    expect_counted(LAST + 7, 0);
    send_three();
    expect_counted(LAST + 7, 3);
}

static int setup(void **state)
{
    (void)state;
    w = world_engine(1);
    world_attach(w, DP_UNDERLAY, underlay_mac);
    world_attach(w, PORT_A, mac_a);
    world_attach(w, PORT_B, mac_b);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_assert_balance(w);
    world_destroy(w);
    return 0;
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_last_of_five_thousand_counts),
        TEST(a_number_used_again_counts_from_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
