/*
 * Random change sets, sensible and not, in place and beside. The twin is the list of rows that were accepted: at any time an engine that
 * is given just these rows must come to the same tables; a refused change set must leave every table as it was; and all that the
 * writer counts must be what counting anew finds. Some that were accepted are rolled back, and leave as little behind.
 */
#include "change_set.h"
#include "host/neigh_table.h"
#include "run/engine.h"

enum { SELF = 1, ROWS_MAX = 8, MODEL_MAX = 1000 };

static uint64_t rnd_state;
static uint32_t rnd(uint32_t bound)
{
    rnd_state ^= rnd_state >> 12;
    rnd_state ^= rnd_state << 25;
    rnd_state ^= rnd_state >> 27;
    return (uint32_t)(rnd_state * 0x2545f4914f6cdd1dull >> 32) % bound;
}

static bool chance(uint32_t percent) { return rnd(100) < percent; }
#define PICK(list) (list)[rnd(sizeof(list) / sizeof(list)[0])]

/* ---- rows out of a small world, so that they meet each other ------------------------------------------------------ */

static const char *const shared_pas[] = {"192.168.77.1", "192.168.77.2", "192.168.77.3", "192.168.78.2", "fd77::1", "fd77::2", "fd77::3"};
static const char *const rewrite_pas[] = {"192.168.77.101", "192.168.77.102", "192.168.78.103", "192.168.77.104", "fd77::101", "fd77::102"};
static const char *const cas[] = {"10.1.1.10", "10.1.1.11", "10.1.1.12", "10.1.2.10", "10.1.1.1", "0.0.0.0", "fd00:1::10", "fd00:1::11", "fe80::1", "::"};
static const char *const gateways[] = {"10.1.1.1", "10.1.1.254", "0.0.0.0", "10.1.1.10"};
static const char *const hops[] = {"0.0.0.0", "192.168.77.254", "192.168.77.253", "192.168.77.2"};
static const uint32_t vsids[] = {5001, 5001, 5002, 6001};

static struct row random_pa(void)
{
    bool shared = chance(50);
    struct row row = pa_row(shared ? PICK(shared_pas) : PICK(rewrite_pas), SELF + rnd(3), shared == chance(95) ? DP_PA_SHARED : DP_PA_REWRITE);
    return row;
}

static struct row random_provider_route(void)
{
    if (chance(20))
        return provider_route_row("fd77::", 64, chance(50) ? "::" : "fd77::fe");
    return chance(30) ? provider_route_row("0.0.0.0", 0, PICK(hops)) : chance(50) ? provider_route_row("192.168.77.0", 24, PICK(hops))
                      : chance(50) ? provider_route_row("192.168.78.0", 24, PICK(hops)) : provider_route_row("192.168.77.102", 32, PICK(hops));
}

static struct row random_prefix(void)
{
    if (chance(25))
        return prefix_row(PICK(vsids), "fd00:1::", 64, chance(70) ? "fd00:1::1" : chance(50) ? "::" : "fd00:1::10");
    return prefix_row(PICK(vsids), chance(60) ? "10.1.1.0" : "10.1.2.0", 24, PICK(gateways));
}

static struct row random_record(void)
{
    const char *ca = PICK(cas);
    uint32_t host = SELF + rnd(3);
    bool rewriting = chance(50) && strcmp(ca, "0.0.0.0") && strcmp(ca, "::");
    const char *pa = rewriting ? PICK(rewrite_pas) : PICK(shared_pas);
    return record_row(PICK(vsids), ca, (uint8_t)rnd(3), host, host == SELF ? 1 + rnd(3) : 0, pa, rewriting ? DP_REWRITE : DP_NVGRE);
}

static struct row random_row(void)
{
    struct row row;
    switch (rnd(100)) {
    case 0 ... 19:
        row = random_pa();
        break;
    case 20 ... 27:
        row = random_provider_route();
        break;
    case 28 ... 35:
        row = subnet_row(PICK(vsids), 1 + rnd(2));
        if (chance(80))
            row = flooded(row, 100 * (1 + rnd(2)), chance(95));
        break;
    case 36 ... 44:
        row = random_prefix();
        break;
    case 45 ... 52:
        row = port_row(1 + rnd(3), PICK(vsids), (uint8_t)rnd(2));
        break;
    case 53 ... 56:
        row = source_row(1 + rnd(3), chance(50) ? "172.16.0.0" : "10.0.0.0", 12);
        break;
    case 57 ... 62:
        row = route_row(1 + rnd(2), chance(50) ? "10.9.0.0" : "0.0.0.0", chance(50) ? 16 : 0, chance(50) ? "10.1.1.10" : "10.1.1.11", PICK(vsids));
        break;
    case 63 ... 67:
        row = move_row(PICK(vsids), PICK(cas), rnd(3) ? SELF + rnd(3) : rnd(2) ? UINT32_MAX - 1 - rnd(3) : 0x0fffffff + rnd(3));
        break;
    case 68 ... 76:
        row = flood_row(PICK(vsids), chance(90) ? PICK(shared_pas) : PICK(rewrite_pas), SELF + rnd(3));
        break;
    default:
        row = random_record();
        break;
    }
    if (chance(22))
        row.op = DP_DEL;
    if (chance(2))
        row.bytes[rnd((uint32_t)row_sizes[row.kind])] ^= (uint8_t)(1 << rnd(8));
    return row;
}

/* ---- the twin: accepted rows, in the order in which they came to be ------------------------------------------------ */

struct model {
    struct row rows[MODEL_MAX];
    uint32_t n;
};

/* The key's fields of a row, the rest zero. A prefix's routing domain is that of its VSID. */
static struct row key_of(const struct model *model, struct row row)
{
    struct row key = {.kind = row.kind};
    const struct dp_row_prefix *prefix = (const void *)row.bytes;
    switch (row.kind) {
    case DP_ROW_PA:
        memcpy(key.bytes, row.bytes, 16);
        key.bytes[20] = ((struct dp_row_pa *)row.bytes)->family;
        break;
    case DP_ROW_PROVIDER_ROUTE:
        memcpy(key.bytes, row.bytes, 16);
        memcpy(key.bytes + 32, row.bytes + 32, 2);
        break;
    case DP_ROW_PREFIX:
        for (uint32_t i = 0; i < model->n; i++) {
            const struct dp_row_subnet *subnet = (const void *)model->rows[i].bytes;
            if (model->rows[i].kind == DP_ROW_SUBNET && subnet->vsid == prefix->vsid)
                memcpy(key.bytes + 20, &subnet->rdid, 4);
        }
        memcpy(key.bytes, row.bytes, 16);
        key.bytes[36] = prefix->family;
        key.bytes[37] = prefix->prefix_len;
        break;
    case DP_ROW_RECORD:
        memcpy(key.bytes, row.bytes, 16);
        memcpy(key.bytes + 32, row.bytes + 32, 4);
        key.bytes[50] = ((struct dp_row_record *)row.bytes)->family;
        break;
    case DP_ROW_ROUTE:
        memcpy(key.bytes, row.bytes, 16);
        memcpy(key.bytes + 32, row.bytes + 32, 4);
        memcpy(key.bytes + 40, row.bytes + 40, 2);
        break;
    case DP_ROW_SOURCE:
        memcpy(key.bytes, row.bytes, 22);
        break;
    case DP_ROW_MOVE:
    case DP_ROW_FLOOD:
        memcpy(key.bytes, row.bytes, 20);
        key.bytes[24] = ((struct dp_row_move *)row.bytes)->family;
        break;
    default:
        memcpy(key.bytes, row.bytes, 4);
    }
    return key;
}

static bool pa_moves(const struct row *old, const struct row *new)
{
    const struct dp_row_pa *a = (const void *)old->bytes, *b = (const void *)new->bytes;
    return old->kind == DP_ROW_PA && (a->host != b->host || a->kind != b->kind);
}

static void model_apply(struct model *model, const struct row *row)
{
    struct row key = key_of(model, *row);
    uint32_t at = 0;
    while (at < model->n) {
        struct row other = key_of(model, model->rows[at]);
        if (!memcmp(&other, &key, sizeof key))
            break;
        at++;
    }
    if (at < model->n && (row->op == DP_DEL || pa_moves(&model->rows[at], row))) {
        memmove(&model->rows[at], &model->rows[at + 1], (--model->n - at) * sizeof *model->rows);
        at = model->n;
    }
    if (row->op == DP_DEL)
        return;
    assert_true(at < MODEL_MAX);
    model->n += at == model->n;
    model->rows[at] = *row;
}

static struct dp *make_engine(void)
{
    struct dp_config config = {.workers = 1, .slots = 512, .self_host = SELF, .router_mac = {2, 0x15, 0x5d, 0, 0, 1}, .hash_key = {5, 6}};
    struct dp *dp;
    assert_int_equal(dp_create(&config, &dp), DP_OK);
    return dp;
}

/* Kind by kind, as rows refer to each other. */
static struct dp *make_from(const struct model *model)
{
    struct row rows[MODEL_MAX];
    struct dp_change_error error;
    uint32_t n = 0;
    struct dp *dp = make_engine();
    for (uint16_t kind = 1; kind < ROW_KINDS; kind++)
        for (uint32_t i = 0; i < model->n; i++)
            if (model->rows[i].kind == kind)
                rows[n++] = model->rows[i];
    int code = apply_rows_of(dp, 0, rows, n, &error);
    if (code)
        fail_msg("rows that were accepted one by one are not together: %d, row %u: %s", code, error.section, error.text);
    return dp;
}

/* ---- counting anew ------------------------------------------------------------------------------------------------- */

struct count {
    const struct tables *tables;
    enum table table;
    uint32_t ways[4096], rewrites[4096], subnets[4096], locals[DP_MAX_PORTS];
    uint64_t gateways[2];
    uint32_t members;
};

static bool count_entry(void *ctx, const uint64_t *key, const struct map_value *value)
{
    struct count *count = ctx;
    const uint32_t index = act_index(value->act);
    const enum act kind = act_kind(value->act);
    bool records = count->table <= TABLE_RECORDS6;
    if (count->table == TABLE_MOVES) {
        count->subnets[tables_subnet(count->tables, key_id(count->table, key))]++;
        return true;
    }
    assert_true(index < 4096);
    if (count->table == TABLE_FLOODS) {
        assert_int_equal(count->tables->writer->members[load32(value->mac)].hop, index);
        count->members++;
        count->subnets[tables_subnet(count->tables, key_id(count->table, key))]++;
    }
    if (kind == ACT_NVGRE || kind == ACT_PA_HOST || kind == ACT_PA_SELF)
        count->ways[index]++;
    if (kind == ACT_REWRITE || kind == ACT_PA_REWRITE)
        count->rewrites[index]++;
    if (kind == ACT_REWRITE) {      /* it goes the way that its rewrite goes now */
        struct map_value now = *value;
        tables_rewrite_value(&now, &count->tables->rewrites[index]);
        assert_memory_equal(now.mac, value->mac, 6);
    }
    if (kind == ACT_LOCAL)
        count->locals[index]++;
    if (kind == ACT_GATEWAY)
        count->gateways[count->table]++;
    else if (records)
        count->subnets[tables_subnet(count->tables, key_id(count->table, key))]++;
    if (count->table == TABLE_ROUTES4 || count->table == TABLE_ROUTES6) {
        bool provider = key_route_rdid(key, count->table == TABLE_ROUTES4) == 0;
        if (!provider)
            count->subnets[kind == ACT_VIA ? count->tables->vias[index].subnet : index]++;
    }
    return true;
}

static void check_counts(const struct dp *dp)
{
    struct count *count = calloc(1, sizeof *count);
    const struct tables *t = count->tables = dp_tables(dp);
    const struct tables_writer *w = t->writer;
    uint32_t ways = 0, rewrites = 0, neighs = 0;
    for (count->table = 0; count->table < TABLE_COUNT; count->table++)
        if (count->table != TABLE_PREFIXES)
            map_each(t->maps[count->table], count_entry, count);
    for (uint32_t i = 0; i < w->objects[REWRITES].used; i++) {
        assert_int_equal(w->bonds[i].refs, count->rewrites[i]);
        rewrites += count->rewrites[i] != 0;
        uint32_t way = t->rewrites[i].next_hop;
        if (count->rewrites[i] && way != INDEX_NONE)
            count->ways[way] += !memcmp(t->next_hops[way].pa, t->rewrites[i].pa, 16);
    }
    for (uint32_t i = 0; i < w->objects[NEXT_HOPS].used; i++) {
        assert_int_equal(w->ways[i].refs, count->ways[i]);
        ways += count->ways[i] != 0;
        neighs += count->ways[i] && t->next_hops[i].neigh != INDEX_NONE;
    }
    for (uint32_t i = 0; i < w->objects[SUBNETS].used; i++)
        assert_int_equal(w->domains[i].refs, count->subnets[i]);
    assert_int_equal(objects_live(&w->objects[NEXT_HOPS]), ways);
    assert_int_equal(objects_live(&w->objects[REWRITES]), rewrites);
    assert_int_equal(objects_live(&w->objects[MEMBERS]), count->members);
    assert_int_equal(w->touched_domains, 0);
    assert_memory_equal(w->locals, count->locals, sizeof w->locals);
    assert_memory_equal(w->gateways, count->gateways, sizeof w->gateways);
    uint32_t users = 0;
    for (uint32_t i = 0; i < dp->neigh->count; i++)
        users += dp->neigh->entries[i].users;
    assert_int_equal(users, neighs);
    free(count);
}

/* ---- rows read back ------------------------------------------------------------------------------------------------ */

/* As dp_rows_read() gives an accepted row. */
static struct row canonical(struct row row)
{
    static const uint8_t any[16];
    struct dp_row_record *record = (void *)row.bytes;
    if (row.kind == DP_ROW_PA)
        ((struct dp_row_pa *)row.bytes)->prefix_len = 0;
    if (row.kind != DP_ROW_RECORD)
        return row;
    record->type = memcmp(record->ca, any, 16) ? DP_STATIC : DP_GATEWAY_WILDCARD;
    if (record->host == SELF && record->translation == DP_NVGRE) {
        memset(record->provider_address, 0, 16);
        record->pa_family = 0;
    }
    return row;
}

static void check_rows(const struct dp *dp, const struct model *model, uint16_t kind)
{
    const size_t size = row_sizes[kind];
    uint8_t out[MODEL_MAX * ROW_MAX];
    int64_t n = dp_rows_read(dp, kind, out, sizeof out), expected = 0;
    for (uint32_t i = 0; i < model->n; i++) {
        struct row row = canonical(model->rows[i]);
        int64_t at = 0;
        if (row.kind != kind)
            continue;
        expected++;
        while (at < n && memcmp(out + (size_t)at * size, row.bytes, size))
            at++;
        if (at == n)
            fail_msg("row %u of the model, of kind %u, is not read", i, kind);
    }
    assert_int_equal(n, expected);
    if (n == 0)
        return;
    memset(out, 0xee, sizeof out);
    assert_int_equal(dp_rows_read(dp, kind, out, size * 2 - 1), n);
    assert_int_equal(out[size], 0xee);  /* room for one whole row */
}

/* By steps of a few rows, while nothing is written; or all anew. */
static void take_digest(struct dp *dp, bool anew, uint64_t *out)
{
    if (anew)
        dp_digest_begin(dp);
    while (dp_digest_step(dp, anew ? UINT64_MAX : 1 + rnd(50), out) == 0)
        ;
}

static void check_export(struct dp *dp, struct dp *other, const struct model *model)
{
    uint64_t a[ROW_KINDS], b[ROW_KINDS], c[ROW_KINDS];
    for (uint16_t kind = 1; kind < ROW_KINDS; kind++)
        check_rows(dp, model, kind);
    take_digest(dp, false, a);
    take_digest(dp, true, b);
    take_digest(other, false, c);
    assert_memory_equal(a + 1, b + 1, sizeof a - sizeof a[0]);
    assert_memory_equal(a + 1, c + 1, sizeof a - sizeof a[0]);
    assert_int_equal(dp_rows_read(dp, ROW_KINDS, NULL, 0), DP_EINVAL);
    assert_int_equal(dp_rows_read(dp, 0, NULL, 0), DP_EINVAL);
}

/* ---- the test ------------------------------------------------------------------------------------------------------ */

static uint32_t accepted, refused, rolled_back;

/* What was applied is there; a row with another value, or of a key that is not, is not. */
static void check_held(struct dp *dp, const struct row *rows, uint32_t n)
{
    struct dp_change_error error;
    struct change_set set = {0};
    uint64_t digests[ROW_KINDS];
    change_set_begin(&set, 0);
    for (uint32_t i = 0; i < n; i++)
        change_set_row(&set, &rows[i]);
    assert_int_equal(dp_rows_check(dp, set.bytes, set.len, &error), DP_OK);
    struct row other = rows[n - 1];
    other.op = other.op == DP_PUT ? DP_DEL : DP_PUT;
    change_set_row(&set, &other);
    if (other.kind != DP_ROW_PREFIX) {      /* whose key needs its subnet */
        assert_int_equal(dp_rows_check(dp, set.bytes, set.len, &error), DP_ENOENT);
        assert_int_equal(error.section, n);
    }
    dp_digest_step(dp, rnd(20), digests);
    free(set.bytes);
}

static void step(struct dp *dp, struct model *model)
{
    struct row rows[ROWS_MAX];
    struct dp_change_error error;
    struct dump before = dump_tables(dp);
    uint32_t n = chance(60) ? 1 : 1 + rnd(ROWS_MAX);
    for (uint32_t i = 0; i < n; i++)
        rows[i] = random_row();
    if (apply_rows_of(dp, chance(30), rows, n, &error) == DP_OK) {
        accepted++;
        check_held(dp, rows, n);
        if (chance(30)) {
            rolled_back++;
            assert_int_equal(dp_rollback(dp), DP_OK);
            struct dump after = dump_tables(dp);
            assert_same_dump(&before, &after);
            free(after.lines);
        } else {
            for (uint32_t i = 0; i < n; i++)
                model_apply(model, &rows[i]);
        }
    } else {
        struct dump after = dump_tables(dp);
        refused++;
        assert_same_dump(&before, &after);
        free(after.lines);
    }
    free(before.lines);
    check_counts(dp);
}

static void run(uint32_t seed)
{
    struct dp *dp = make_engine();
    struct model *model = calloc(1, sizeof *model);
    rnd_state = 0x9e3779b97f4a7c15 * (seed + 1);
    for (uint32_t n = 1; n <= 600; n++) {
        step(dp, model);
        if (n % 10)
            continue;
        struct dp *other = make_from(model);
        struct dump a = dump_tables(dp), b = dump_tables(other);
        assert_same_dump(&a, &b);
        check_export(dp, other, model);
        free(a.lines);
        free(b.lines);
        dp_destroy(other);
    }
    free(model);
    dp_destroy(dp);
}

static void tables_are_what_their_rows_say(void **state)
{
    (void)state;
    for (uint32_t seed = 0; seed < 4; seed++)
        run(seed);
    assert_true(accepted > 500 && refused > 500 && rolled_back > 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(tables_are_what_their_rows_say)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
