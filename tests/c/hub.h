/*
 * hub.h: the engine without policy, for tests of what moves packets in and out. Paths, tables and neighbours are replaced: the last two
 * bytes of a frame's destination MAC say what becomes of it, {enum hub_action, port}.
 */
#ifndef HUB_H
#define HUB_H
#include "host/neigh.h"
#include "host/pa.h"
#include "path/path.h"
#include "run/engine.h"
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

static inline void hub_hold(struct io *io, struct pkt *pkt)
{
    if (hub_held_n == HUB_HELD) {
        io_drop(io, pkt, DROP_NEIGH_FULL);
        return;
    }
    __atomic_fetch_add(&io->stats[pkt->in_port]->held, 1, __ATOMIC_RELAXED);
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

static inline void hub_let_go(struct io *io, struct pkt *held, struct pkt *to)
{
    *to = *held;
    *held = hub_held[--hub_held_n];
    __atomic_fetch_sub(&io->stats[to->in_port]->held, 1, __ATOMIC_RELAXED);
}

/* ---- instead of the paths ------------------------------------------------------------------------------------------ */

static inline void hub_send(const struct host *host, struct pkt *pkt, uint32_t id)
{
    struct port *port = port_at(host->ports, id);
    if (port)
        io_send(host->io, port, pkt);
    else
        io_drop(host->io, pkt, DROP_PORT_DOWN);
}

static inline void hub_copy(const struct host *host, struct pkt *pkt, uint32_t id)
{
    static _Thread_local uint8_t bytes[FRAME_MAX];
    struct io *io = host->io;
    struct pkt *made = io_make(io);
    if (pool_pkt_new_len(&io->pool, made, pkt->len)) {
        pkt_read(io->pool.arena, pkt, 0, bytes, pkt->len);
        pkt_write(io->pool.arena, made, 0, bytes, pkt->len);
        made->time = pkt->time;
        made->in_port = pkt->in_port;
        io_originated(io, made->in_port, 1);
        hub_send(host, made, id);
    }
    hub_send(host, pkt, id);
}

void from_tenant(const struct host *host, struct port *in, struct batch *batch)
{
    (void)in;
    for (uint32_t i = 0; i < batch->n; i++) {
        struct pkt *pkt = &batch->pkt[i];
        uint8_t action = pkt_has(pkt, ETH_LEN) ? pkt->data[4] : HUB_DROP;
        pkt->l3_end = pkt->len;         /* as the parser would */
        if (action == HUB_SEND)
            hub_send(host, pkt, pkt->data[5]);
        else if (action == HUB_COPY)
            hub_copy(host, pkt, pkt->data[5]);
        else if (action == HUB_HOLD)
            hub_hold(host->io, pkt);
        else if (action == HUB_CONSUME)
            io_consume(host->io, pkt);
        else
            io_drop(host->io, pkt, DROP_MULTICAST);
    }
}

void from_provider(const struct host *host, struct port *in, struct batch *batch)
{
    from_tenant(host, in, batch);
}

/* ---- instead of tables and neighbours ------------------------------------------------------------------------------- */

static struct tables hub_tables;

struct tables *tables_create(const struct dp_config *config) { (void)config; return &hub_tables; }
void tables_destroy(struct tables *tables) { (void)tables; }
void tables_underlay(struct control *control, const uint8_t *mac) { (void)control, (void)mac; }
int tables_apply(struct control *control, const uint8_t *set, size_t len, struct dp_change_error *error) { (void)control, (void)set, (void)len, (void)error; return DP_OK; }
void tables_stats(const struct tables *tables, struct dp_table_stats *out) { (void)tables; *out = (struct dp_table_stats){0}; }
int64_t tables_rows(const struct tables *tables, uint32_t kind, uint8_t *out, size_t room) { (void)tables, (void)kind, (void)out, (void)room; return 0; }
int tables_check(const struct tables *tables, const uint8_t *set, size_t len, struct dp_change_error *error) { (void)tables, (void)set, (void)len, (void)error; return DP_OK; }
void tables_digest_begin(const struct tables *tables) { (void)tables; }
int tables_digest_step(const struct tables *tables, uint64_t rows, uint64_t *out) { (void)tables, (void)rows, (void)out; return 1; }
int tables_rollback(struct control *control) { (void)control; return DP_OK; }
int tables_verified(struct control *control) { (void)control; return DP_OK; }

struct neigh_table *neigh_create(uint32_t workers, struct next_hop *next_hops, struct qsbr *qsbr, int wake_fd)
{
    (void)workers, (void)next_hops, (void)wake_fd;
    return (struct neigh_table *)(void *)qsbr;
}
void neigh_reclaim(struct neigh_table *table) { (void)table; }
void neigh_destroy(struct neigh_table *table) { (void)table; }
void neigh_announce(struct neigh_table *table, const struct host *at_rest, unsigned family, const uint8_t *address) { (void)table, (void)at_rest, (void)family, (void)address; }
void neigh_ask_all(struct neigh_table *table, const struct host *at_rest) { (void)table, (void)at_rest; }
int neigh_fix(struct neigh_table *table, const struct host *at_rest, unsigned family, const uint8_t *address, const uint8_t *mac) { (void)table, (void)at_rest, (void)family, (void)address, (void)mac; return DP_OK; }
int neigh_probe(struct neigh_table *table, const struct host *at_rest, unsigned family, const uint8_t *address) { (void)table, (void)at_rest, (void)family, (void)address; return DP_OK; }

uint64_t neigh_next_timer(const struct neigh_table *table)
{
    (void)table;
    const struct pkt *first = hub_first();
    return first ? first->time + NEIGH_RETRY_NS : UINT64_MAX;
}

uint32_t neigh_read(const struct neigh_table *table, struct dp_neigh *out, uint32_t capacity)
{
    (void)table, (void)out, (void)capacity;
    return 0;
}

void pa_timers(const struct host *host)
{
    struct io *io = host->io;
    while (io->id == 0 && neigh_next_timer(host->neigh) <= io->now) {
        struct pkt *pkt = io_make(io);
        hub_let_go(io, hub_first(), pkt);
        hub_send(host, pkt, pkt->data[5]);
    }
}

void neigh_drop_held(const struct host *host)
{
    while (hub_held_n) {
        struct pkt pkt;
        hub_let_go(host->io, &hub_held[0], &pkt);
        io_drop(host->io, &pkt, DROP_STOPPED);
    }
}

/* ---- an engine ------------------------------------------------------------------------------------------------------ */

static struct dp *hub;

static inline void hub_start(uint32_t workers, uint32_t slots)
{
    const struct dp_config config = {.workers = workers, .slots = slots, .router_mac = {2, 0, 0, 0, 0, 1}, .hash_key = {1, 2}};
    assert_int_equal(dp_create(&config, &hub), DP_OK);
    hub_held_n = 0;
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
    struct host host = worker_host(&hub->workers[0]);
    neigh_drop_held(&host);
    for (uint32_t id = 0; id < DP_MAX_PORTS; id++)
        dp_port_detach(hub, id);
    hub_balance();
    for (uint32_t i = 0; i < hub->config.workers; i++)
        pools[i] = hub->workers[i].io.pool;
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
