/*
 * Lookups by two workers while change sets run, in place and atomic. Every tenant has a host, PAs and records of its own, whose numbers
 * tell whose they are; the writer keeps giving them new PAs, so that indexes of next hops, rewrites, vias, subnets and
 * policies pass from tenant to tenant. A worker must find every record, and only ever its tenant's things behind it.
 * Besides, what a worker may see of a change set that is refused: dp_api.h, dp_apply().
 */
#include <pthread.h>
#include <sched.h>
#include "change_set.h"
#include "run/engine.h"
#include "step/source.h"
#include "table/lookup.h"
#include "base/qsbr.h"

enum { SELF = 1, WORKERS = 2, TENANTS = 3, CAS = 24, VSID = 5001, LOCAL_CA = 200, STEPS = 120 };

static struct dp *dp;
static bool stop;
static uint64_t rounds[WORKERS];

#define require(what) do { if (!(what)) { fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what); abort(); } } while (0)

static void ca_of(uint8_t *to, uint32_t i)
{
    memset(to, 0, 16);
    to[0] = 10;
    to[3] = (uint8_t)i;
}

/* 10.TENANT.KIND.i */
static void pa_of(uint8_t *to, uint32_t tenant, uint32_t kind, uint32_t i)
{
    memset(to, 0, 16);
    to[0] = 10;
    to[1] = (uint8_t)tenant;
    to[2] = (uint8_t)kind;
    to[3] = (uint8_t)i;
}

/* ---- workers ------------------------------------------------------------------------------------------------------- */

static void check_next_hop(const struct tables *t, uint32_t index, uint32_t tenant)
{
    const struct next_hop *nh = &t->next_hops[index];
    require(nh->host == VSID + tenant && nh->pa[1] == tenant && nh->family == DP_IPV4);
    require(nh->header_len == NVGRE4_LEN && !memcmp(nh->header + ETH_LEN + 16, nh->pa, 4));
}

static void check_rewrite(const struct tables *t, uint32_t index, uint32_t tenant, const uint8_t *ca)
{
    const struct rewrite *r = &t->rewrites[index];
    require(r->vsid == VSID + tenant && r->host == VSID + tenant && r->rdid == tenant && r->pa[1] == tenant && !memcmp(r->ca, ca, 16));
    check_next_hop(t, r->next_hop, tenant);
    check_next_hop(t, r->shared, tenant);
}

/* What the record itself says is the tenant's, too. */
static void check_way(const struct tables *t, struct map_value record, uint32_t tenant)
{
    struct lookup_answer answer = lookup_answer_of(record);
    require(lookup_pa4(&answer) == load32(t->rewrites[act_index(record.act)].pa));
    check_next_hop(t, lookup_hop(&answer), tenant);
}

static void check_record(const struct tables *t, uint32_t tenant, uint32_t i)
{
    uint8_t ca[16];
    ca_of(ca, i);
    struct map_value value = lookup_record(t, VSID + tenant, DP_IPV4, ca);
    const uint8_t *mac = lookup_mac(t, &value);
    require(value.act && mac[1] == tenant && mac[5] == i);
    if (act_kind(value.act) == ACT_NVGRE) {
        check_next_hop(t, act_index(value.act), tenant);
    } else {
        check_rewrite(t, act_index(value.act), tenant, ca);
        check_way(t, value, tenant);
    }
}

static void check_tenant(const struct tables *t, uint32_t tenant)
{
    uint8_t ca[16], beyond[16] = {11, 1, 2, 3};
    ca_of(ca, LOCAL_CA);
    for (uint32_t i = 1; i <= CAS; i++)
        check_record(t, tenant, i);
    uint32_t subnet = tables_subnet(t, VSID + tenant), via = tables_route(t, tenant, DP_IPV4, beyond);
    require(subnet != INDEX_NONE && t->subnets[subnet].vsid == VSID + tenant && t->subnets[subnet].rdid == tenant);
    require(act_kind(via) == ACT_VIA && t->vias[act_index(via)].vsid == VSID + tenant && t->vias[act_index(via)].ca[0] == 10);
    const struct port_policy *policy = __atomic_load_n((struct port_policy *const *)&t->policies[tenant], __ATOMIC_ACQUIRE);
    require(policy && policy->vsid == VSID + tenant && policy->rdid == tenant && policy->mac[1] == tenant);
    const struct port_source *source = policy_source(policy, DP_IPV4, ca);
    require(source && (!source->has_pa || source->pa[1] == tenant));
    require(t->shared_pa4[0] == 10 && t->shared_pa4[1] == 0);
}

static void *worker_of_ours(void *arg)
{
    struct qsbr_reader *worker = arg;
    qsbr_online(worker);
    for (uint32_t n = 0; !__atomic_load_n(&stop, __ATOMIC_ACQUIRE); n++) {
        const struct tables *t = dp_tables(dp);
        check_tenant(t, 1 + n % TENANTS);
        check_tenant(t, 1 + (n + 1) % TENANTS);
        qsbr_quiescent(worker);
        __atomic_fetch_add(&rounds[worker - dp->qsbr.readers], 1, __ATOMIC_RELEASE);
        if (n % 7 == 0) {
            qsbr_offline(worker);
            qsbr_online(worker);
        }
    }
    qsbr_offline(worker);
    return NULL;
}

/* ---- the writer ---------------------------------------------------------------------------------------------------- */

static struct row pa(uint32_t tenant, uint32_t kind, uint32_t i)
{
    struct row row = pa_row("10.0.0.1", tenant ? VSID + tenant : SELF, (uint8_t)kind);
    pa_of(row.bytes, tenant, kind, i);
    return row;
}

static struct row record(uint32_t tenant, uint32_t i, uint32_t kind, uint32_t pa)
{
    bool local = i == LOCAL_CA;
    struct row row = record_row(VSID + tenant, "10.0.0.1", (uint8_t)i, local ? SELF : VSID + tenant, local ? tenant : 0, "10.0.0.1",
                                kind == DP_PA_SHARED ? DP_NVGRE : DP_REWRITE);
    struct dp_row_record *r = (void *)row.bytes;
    ca_of(r->ca, i);
    pa_of(r->provider_address, tenant, kind, pa);
    r->mac[1] = (uint8_t)tenant;
    return row;
}

static struct row port(uint32_t tenant, uint8_t mac)
{
    struct row row = port_row(tenant, VSID + tenant, mac);
    ((struct dp_row_port *)row.bytes)->mac[1] = (uint8_t)tenant;
    return row;
}

static void apply(uint16_t flags, const struct row *rows, uint32_t n)
{
    struct dp_change_error error;
    int code = apply_rows_of(dp, flags, rows, n, &error);
    if (code)
        fail_msg("%d: row %u: %s", code, error.section, error.text);
}

/* Whose records go where: one shared PA, or a rewrite PA each. */
static uint32_t shared_now[TENANTS + 1], kind_now[TENANTS + 1];

static uint32_t point_records(struct row *rows, uint32_t tenant, uint32_t kind, uint32_t shared)
{
    uint32_t n = 0;
    for (uint32_t i = 1; i <= CAS; i++)
        rows[n++] = record(tenant, i, kind, kind == DP_PA_SHARED ? shared : i);
    return n;
}

/* A new shared PA, all records to it or to rewrite PAs, the old shared PA gone: in one change set, or row by row. */
static void move_tenant(uint32_t tenant, uint16_t flags, uint32_t kind)
{
    struct row rows[CAS * 3 + 8];
    uint32_t n = 0, old = shared_now[tenant], new = 1 + (old + 6) % 250;
    rows[n++] = pa(tenant, DP_PA_SHARED, new);
    for (uint32_t i = 1; i <= CAS && kind == DP_PA_REWRITE && kind_now[tenant] != kind; i++)
        rows[n++] = pa(tenant, DP_PA_REWRITE, i);
    n += point_records(rows + n, tenant, kind, new);
    rows[n++] = deleted(pa(tenant, DP_PA_SHARED, old));
    for (uint32_t i = 1; i <= CAS && kind == DP_PA_SHARED && kind_now[tenant] != kind; i++)
        rows[n++] = deleted(pa(tenant, DP_PA_REWRITE, i));
    apply(flags, rows, n);
    shared_now[tenant] = new;
    kind_now[tenant] = kind;
}

static void churn(uint32_t step, uint16_t flags)
{
    const uint32_t tenant = 1 + step % TENANTS, spare = VSID + 100 + step % 5;
    struct row route = route_row(tenant, "11.0.0.0", 8, step % 2 ? "10.0.0.1" : "10.0.0.2", VSID + tenant);
    const struct row rows[] = {route, port(tenant, (uint8_t)step), subnet_row(spare, 100 + step % 7), prefix_row(spare, "10.0.0.0", 8, "10.0.0.1")};
    const struct row gone[] = {deleted(rows[3]), deleted(rows[2])};
    apply(flags, rows, 4);
    /* For a moment, unless beside, records go to what is then taken back. */
    struct row failing[CAS + 2] = {pa(tenant, DP_PA_SHARED, 251)};
    failing[1 + point_records(failing + 1, tenant, DP_PA_SHARED, 251)] = subnet_row(1, 1);
    struct dp_change_error error;
    assert_int_equal(apply_rows_of(dp, flags, failing, CAS + 2, &error), DP_EINVAL);
    apply(flags, gone, 2);
}

static void populate(void)
{
    struct row rows[CAS + 32];
    uint32_t n = 0;
    rows[n++] = pa(0, DP_PA_SHARED, 1);
    rows[n++] = provider_route_row("10.0.0.0", 8, "0.0.0.0");
    for (uint32_t tenant = 1; tenant <= TENANTS; tenant++) {
        rows[n++] = pa(tenant, DP_PA_SHARED, shared_now[tenant] = 1);
        rows[n++] = subnet_row(VSID + tenant, tenant);
        rows[n++] = route_row(tenant, "11.0.0.0", 8, "10.0.0.1", VSID + tenant);
        rows[n++] = port(tenant, 1);
        rows[n++] = record(tenant, LOCAL_CA, DP_PA_SHARED, 1);
        kind_now[tenant] = DP_PA_SHARED;
    }
    apply(0, rows, n);
    for (uint32_t tenant = 1; tenant <= TENANTS; tenant++)
        apply(0, rows, point_records(rows, tenant, DP_PA_SHARED, 1));
}

static void no_tenant_sees_another(void **state)
{
    (void)state;
    pthread_t threads[WORKERS];
    struct dp_config config = {.workers = WORKERS, .slots = 512, .self_host = SELF, .hash_key = {5, 6}};
    assert_int_equal(dp_create(&config, &dp), DP_OK);
    populate();
    for (uint32_t i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, worker_of_ours, &dp->qsbr.readers[i]), 0);
    for (uint32_t i = 0; i < WORKERS; i++)
        while (__atomic_load_n(&rounds[i], __ATOMIC_ACQUIRE) < 10)
            sched_yield();
    for (uint32_t step = 0; step < STEPS; step++) {
        uint16_t flags = step % 5 == 0 ? DP_CHANGE_ATOMIC : 0;
        move_tenant(1 + step % TENANTS, flags, step / TENANTS % 3 ? DP_PA_SHARED : DP_PA_REWRITE);
        churn(step, flags);
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
    for (uint32_t i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    /* Everything that was given up has been used again. */
    assert_true(dp_tables(dp)->writer->objects[NEXT_HOPS].used < 20);
    assert_true(dp_tables(dp)->writer->objects[REWRITES].used < 6 * CAS * TENANTS);
    dp_destroy(dp);
}

/* ---- what is refused ------------------------------------------------------------------------------------ */

enum { GOOD = 1000, REFUSALS = 300, ONCE_MORE = 30 };

/* The gateway's CA is the router's, a VM's CA the VM's or, for a moment, nobody's; never is one the other. */
static void *worker_of_gateways(void *arg)
{
    struct qsbr_reader *worker = arg;
    uint8_t gateway[16], local[16];
    ca_of(gateway, 1);
    ca_of(local, LOCAL_CA);
    qsbr_online(worker);
    while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
        const struct tables *t = dp_tables(dp);
        for (uint32_t n = 0; n < 1000; n++) {
            struct map_value value = lookup_record(t, VSID, DP_IPV4, gateway);
            require(act_kind(value.act) == ACT_GATEWAY && t->subnets[act_index(value.act)].vsid == VSID);
            value = lookup_record(t, VSID, DP_IPV4, local);
            require(act_kind(value.act) == ACT_LOCAL && value.mac[5] == LOCAL_CA);
        }
        qsbr_quiescent(worker);
        __atomic_fetch_add(&rounds[worker - dp->qsbr.readers], 1, __ATOMIC_RELEASE);
    }
    qsbr_offline(worker);
    return NULL;
}

static struct row record_of_peer(const char *ca, uint8_t mac)
{
    return record_row(VSID, ca, mac, SELF + 1, 0, "192.168.77.2", DP_NVGRE);
}

/* Refused at its last row, behind so many good ones. */
static void refuse(uint32_t good, uint16_t flags, struct row bad, int code)
{
    static struct row rows[GOOD + 1];
    struct dp_change_error error;
    for (uint32_t i = 0; i < good; i++) {
        rows[i] = record_of_peer("10.1.0.0", (uint8_t)i);
        put32(rows[i].bytes, 0x0a010000 + i);
    }
    rows[good] = bad;
    assert_int_equal(apply_rows_of(dp, flags, rows, good + 1, &error), code);
    assert_int_equal(error.section, good);
}

static void refuse_all(void)
{
    struct row local = record_row(VSID, "10.0.0.200", LOCAL_CA, SELF, 1, "192.168.77.1", DP_NVGRE);
    const struct row bad[] = {
        record_of_peer("10.0.0.1", 1), record_row(VSID, "10.0.0.1", 1, SELF, 1, "192.168.77.1", DP_NVGRE),
        record_row(VSID, "10.0.0.1", 1, SELF, 1, "192.168.77.3", DP_REWRITE), prefix_row(VSID, "11.0.0.0", 8, "10.0.0.200"),
    };
    for (uint32_t n = 0; n < REFUSALS; n++)
        for (uint32_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
            refuse(n % ONCE_MORE ? n % 3 : GOOD, n % 7 == 0, bad[i], DP_EEXIST);
            apply(0, &local, 1);
        }
}

static void a_refused_row_is_never_seen(void **state)
{
    (void)state;
    pthread_t thread;
    struct dp_config config = {.workers = WORKERS, .slots = 512, .self_host = SELF, .hash_key = {5, 6}};
    assert_int_equal(dp_create(&config, &dp), DP_OK);
    const struct row rows[] = {
        pa_row("192.168.77.1", SELF, DP_PA_SHARED), pa_row("192.168.77.2", SELF + 1, DP_PA_SHARED), pa_row("192.168.77.3", SELF, DP_PA_REWRITE),
        subnet_row(VSID, 1), prefix_row(VSID, "10.0.0.0", 8, "10.0.0.1"), port_row(1, VSID, 1),
        record_row(VSID, "10.0.0.200", LOCAL_CA, SELF, 1, "192.168.77.1", DP_NVGRE),
    };
    apply(0, rows, sizeof rows / sizeof rows[0]);
    struct dump before = dump_tables(dp);
    stop = false;
    rounds[0] = 0;
    dp->running = true;
    assert_int_equal(pthread_create(&thread, NULL, worker_of_gateways, &dp->qsbr.readers[0]), 0);
    while (__atomic_load_n(&rounds[0], __ATOMIC_ACQUIRE) < 10)
        sched_yield();
    refuse_all();
    __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    dp->running = false;
    struct dump after = dump_tables(dp);
    assert_same_dump(&before, &after);
    free(before.lines);
    free(after.lines);
    dp_destroy(dp);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_tenant_sees_another), cmocka_unit_test(a_refused_row_is_never_seen)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
