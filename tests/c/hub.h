/*
 * hub.h: the engine without policy, for tests of what moves packets in and out. forward, tables and neigh are replaced: the last two
 * bytes of a frame's destination MAC say what becomes of it, {enum hub_action, port}.
 */
#ifndef HUB_H
#define HUB_H
#include "engine.h"
#include "forward.h"
#include "frames.h"

enum hub_action {
    HUB_SEND,
    HUB_CONSUME,
    HUB_DROP,               /* as multicast */
    HUB_COPY,               /* sent twice */
    HUB_HOLD,               /* sent NEIGH_RETRY_NS after its own time */
};

/* ---- what is held: one worker's, in order of time --------------------------------------------------------------- */

enum { HUB_HELD = 256 };
static struct pkt hub_held[HUB_HELD];
static uint32_t hub_held_n;
static uint64_t hub_clock[1024];                    /* worker->now whenever a held packet was let go */
static uint32_t hub_clock_n;

static inline void hub_hold(struct worker *worker, struct pkt *pkt)
{
    if (hub_held_n == HUB_HELD) {
        worker_drop(worker, pkt, DROP_NEIGH_FULL);
        return;
    }
    __atomic_fetch_add(&worker->stats[pkt->in_port]->held, 1, __ATOMIC_RELAXED);
    hub_held[hub_held_n++] = *pkt;
}

static inline struct pkt *hub_first(void)
{
    struct pkt *first = NULL;
    for (uint32_t i = 0; i < hub_held_n; i++)
        if (!first || hub_held[i].time < first->time)
            first = &hub_held[i];
    return first;
}

static inline void hub_let_go(struct worker *worker, struct pkt *held, struct pkt *to)
{
    *to = *held;
    *held = hub_held[--hub_held_n];
    __atomic_fetch_sub(&worker->stats[to->in_port]->held, 1, __ATOMIC_RELAXED);
}

/* ---- instead of forward.c ----------------------------------------------------------------------------------------- */

static inline void hub_send(struct worker *worker, struct pkt *pkt, uint32_t id)
{
    struct port *port = dp_port(worker->dp, id);
    if (port)
        worker_send(worker, port, pkt);
    else
        worker_drop(worker, pkt, DROP_PORT_DOWN);
}

static inline void hub_copy(struct worker *worker, struct pkt *pkt, uint32_t id)
{
    static _Thread_local uint8_t bytes[FRAME_MAX];
    struct pkt *made = worker_make(worker);
    if (pool_pkt_new_len(&worker->pool, made, pkt->len)) {
        pkt_read(worker->pool.arena, pkt, 0, bytes, pkt->len);
        pkt_write(worker->pool.arena, made, 0, bytes, pkt->len);
        made->time = pkt->time;
        made->in_port = pkt->in_port;
        worker_originated(worker, made->in_port, 1);
        hub_send(worker, made, id);
    }
    hub_send(worker, pkt, id);
}

void from_tenant(struct worker *worker, struct port *in, struct batch *batch)
{
    (void)in;
    for (uint32_t i = 0; i < batch->n; i++) {
        struct pkt *pkt = &batch->pkt[i];
        uint8_t action = pkt_has(pkt, ETH_LEN) ? pkt->data[4] : HUB_DROP;
        pkt->l3_end = pkt->len;         /* as the parser would */
        if (action == HUB_SEND)
            hub_send(worker, pkt, pkt->data[5]);
        else if (action == HUB_COPY)
            hub_copy(worker, pkt, pkt->data[5]);
        else if (action == HUB_HOLD)
            hub_hold(worker, pkt);
        else if (action == HUB_CONSUME)
            worker_consume(worker, pkt);
        else
            worker_drop(worker, pkt, DROP_MULTICAST);
    }
}

void from_provider(struct worker *worker, struct port *in, struct batch *batch)
{
    from_tenant(worker, in, batch);
}

/* ---- instead of tables.c and neigh.c ------------------------------------------------------------------------------ */

static struct tables hub_tables;

struct tables *tables_create(const uint64_t secret[2], size_t budget) { (void)secret, (void)budget; return &hub_tables; }
void tables_destroy(struct tables *tables) { (void)tables; }
void tables_underlay(struct dp *dp, const uint8_t *mac) { (void)dp, (void)mac; }
int tables_apply(struct dp *dp, const uint8_t *set, size_t len, struct dp_change_error *error) { (void)dp, (void)set, (void)len, (void)error; return DP_OK; }

struct neigh_table *neigh_create(struct dp *dp) { return (struct neigh_table *)(void *)dp; }
void neigh_destroy(struct neigh_table *table) { (void)table; }
void neigh_underlay(struct dp *dp, const uint8_t *mac) { (void)dp, (void)mac; }

uint64_t neigh_next_timer(const struct dp *dp)
{
    (void)dp;
    const struct pkt *first = hub_first();
    return first ? first->time + NEIGH_RETRY_NS : UINT64_MAX;
}

static bool hub_fixed = true;                       /* what dp_neigh_read() says of its one neighbour */

int dp_neigh_read(const struct dp *dp, struct dp_neigh *out, uint32_t capacity)
{
    (void)dp;
    if (capacity)
        *out = (struct dp_neigh){.state = hub_fixed ? DP_NEIGH_FIXED : DP_NEIGH_KNOWN};
    return 1;
}

void neigh_timers(struct worker *worker)
{
    while (worker->id == 0 && neigh_next_timer(worker->dp) <= worker->now) {
        struct pkt *pkt = worker_make(worker);
        hub_let_go(worker, hub_first(), pkt);
        if (hub_clock_n < sizeof hub_clock / sizeof *hub_clock)
            hub_clock[hub_clock_n++] = worker->now;
        hub_send(worker, pkt, pkt->data[5]);
    }
}

void neigh_drop_held(struct dp *dp)
{
    while (hub_held_n) {
        struct pkt pkt;
        hub_let_go(&dp->workers[0], &hub_held[0], &pkt);
        worker_drop(&dp->workers[0], &pkt, DROP_STOPPED);
    }
}

/* ---- an engine ------------------------------------------------------------------------------------------------------ */

static struct dp *hub;

static inline void hub_start(uint32_t workers, uint32_t slots)
{
    const struct dp_config config = {.workers = workers, .slots = slots, .router_mac = {2, 0, 0, 0, 0, 1}, .hash_key = {1, 2}};
    assert_int_equal(dp_create(&config, &hub), DP_OK);
    hub_held_n = hub_clock_n = 0;
}

static inline int hub_attach(uint32_t id, enum dp_port_kind kind, uint32_t offloads, uint32_t queues, const int *fds)
{
    struct dp_port_config config = {.name = "port", .kind = kind, .offloads = offloads, .mtu = 1500, .queues = queues, .mac = {2, 0, 0, 0, 0, 2}};
    config.name[4] = (char)('0' + id % 10);
    for (uint32_t q = 0; q < queues; q++)
        config.fds[q] = fds[q];
    return dp_port_attach(hub, id, &config);
}

static inline struct dp_counters hub_counters(uint32_t port)
{
    struct dp_counters c;
    assert_int_equal(dp_counters_read(hub, port, &c, NULL), DP_OK);
    return c;
}

static inline uint64_t hub_drops(uint32_t port, enum drop reason)
{
    struct dp_counters c;
    uint64_t drops[DROP_COUNT];
    assert_int_equal(dp_counters_read(hub, port, &c, drops), DP_OK);
    return drops[reason];
}

/* received + originated = sent + dropped + consumed + held, over all ports; returns what was received. */
static inline uint64_t hub_balance(void)
{
    struct dp_counters c, sum = {0};
    for (uint32_t id = 0; id < DP_MAX_PORTS; id++) {
        if (dp_counters_read(hub, id, &c, NULL))
            continue;
        sum.received += c.received, sum.originated += c.originated, sum.sent += c.sent;
        sum.dropped += c.dropped, sum.consumed += c.consumed, sum.held += c.held;
    }
    assert_int_equal(sum.received + sum.originated, sum.sent + sum.dropped + sum.consumed + sum.held);
    return sum.received;
}

/* Every slot is free again once every port is gone. */
static inline void hub_end(void)
{
    static struct pool pools[DP_MAX_WORKERS];
    dp_stop(hub);
    neigh_drop_held(hub);
    for (uint32_t id = 0; id < DP_MAX_PORTS; id++)
        dp_port_detach(hub, id);
    hub_balance();
    for (uint32_t i = 0; i < hub->config.workers; i++)
        pools[i] = hub->workers[i].pool;
    assert_int_equal(arena_free_slots(&hub->arena, pools, hub->config.workers), hub->arena.slots);
    dp_destroy(hub);
    hub = NULL;
}

/* A frame of len bytes (at least 14): what the hub does with it, its number, then random bytes. */
static inline void hub_frame(struct frame *f, uint32_t len, enum hub_action action, uint8_t port, uint32_t number)
{
    f->len = len;
    rnd_fill(f->bytes, len);
    f->bytes[0] = 2;
    f->bytes[4] = (uint8_t)action;
    f->bytes[5] = port;
    put32(f->bytes + 6, number);
}

#endif
