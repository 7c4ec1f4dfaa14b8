/*
 * engine.c: dp_api.h for the engine, its ports, its threads and change sets. The control thread's side;
 * workers are in worker.c.
 */
#include "run/engine.h"
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/wake.h"
#include "port/attach.h"

enum {
    DEFAULT_SLOTS_A_WORKER = 8192, ENGINE_SLOTS = 1 << 22, ENGINE_ROUNDS = 1 << 16, ENGINE_INJECT = 262144,
};

_Static_assert((int)DP_MAX_WORKERS <= (int)DP_MAX_QUEUES, "a memory port has a queue a worker");

static int engine_system_error(struct dp *dp)
{
    dp->last_errno = errno;
    return DP_ESYS;
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static bool engine_cpu_suffices(void)
{
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("avx2");
}

/* Every worker's counters and transmit queue for a port id. */
static int engine_prepare(struct dp *dp, uint32_t id)
{
    int error = DP_OK;
    for (uint32_t i = 0; i < dp->config.workers && !error; i++)
        error = io_prepare(&dp->workers[i].io, id);
    return error;
}

static int engine_workers(struct dp *dp)
{
    size_t size = dp->config.workers * sizeof *dp->workers;
    dp->workers = aligned_alloc(_Alignof(struct worker), size);
    if (!dp->workers)
        return DP_ENOMEM;
    memset(dp->workers, 0, size);
    for (uint32_t i = 0; i < dp->config.workers; i++)
        dp->workers[i].wake_fd = dp->workers[i].epoll_fd = -1;
    int error = DP_OK;
    for (uint32_t i = 0; i < dp->config.workers && !error; i++)
        error = worker_init(&dp->workers[i], dp, i);
    return error == DP_ESYS ? engine_system_error(dp) : error;
}

static int engine_init(struct dp *dp)
{
    const struct dp_config *config = &dp->config;
    uint32_t slots = config->slots ? config->slots : DEFAULT_SLOTS_A_WORKER * (1 + config->workers);
    dp->qsbr.n = config->workers;
    int error = stats_subnets_create(&dp->subnets, config->workers);
    if (!error)
        error = arena_create_in(&dp->arena, slots, config->slots ? config->slots_fd - 1 : -1);
    if (!error)
        error = engine_workers(dp);
    if (!error)
        error = engine_prepare(dp, DP_UNDERLAY);
    if (error)
        return error;
    struct tables *tables = tables_create(config);
    atomic_init(&dp->tables, tables);
    if (tables)
        dp->neigh = neigh_create(config->workers, tables->next_hops, &dp->qsbr, dp->workers[0].wake_fd);
    dp->control = (struct control){&dp->tables, dp->neigh, &dp->qsbr, &dp->subnets};
    return dp->neigh ? DP_OK : DP_ENOMEM;
}

static void engine_drop_held(struct dp *dp)
{
    struct host host = worker_host(&dp->workers[0]);
    neigh_drop_held(&host);
}

int dp_create(const struct dp_config *config, struct dp **out)
{
    *out = NULL;
    if (!engine_cpu_suffices())
        return DP_ECPU;
    if (config->workers < 1 || config->workers > DP_MAX_WORKERS || config->slots > ENGINE_SLOTS ||
        config->flags & ~(uint32_t)DP_FLOWID_OFF || mac_is_group(config->router_mac))
        return DP_EINVAL;
    struct dp *dp = calloc(1, sizeof *dp);
    if (!dp)
        return DP_ENOMEM;
    dp->config = *config;
    int error = engine_init(dp);
    if (error) {
        dp_destroy(dp);
        return error;
    }
    *out = dp;
    return DP_OK;
}

void dp_destroy(struct dp *dp)
{
    if (!dp)
        return;
    dp_stop(dp);
    if (dp->neigh)
        engine_drop_held(dp);
    for (uint32_t id = 0; id < DP_MAX_PORTS; id++)
        dp_port_detach(dp, id);
    if (dp->tables)
        tables_destroy(dp->tables);
    if (dp->neigh)
        neigh_destroy(dp->neigh);
    for (uint32_t i = 0; dp->workers && i < dp->config.workers; i++)
        worker_fini(&dp->workers[i]);
    free(dp->workers);
    stats_subnets_destroy(&dp->subnets);
    arena_destroy(&dp->arena);
    free(dp);
}

/* ---- ports --------------------------------------------------------------------------------------------- */

int dp_port_attach(struct dp *dp, uint32_t id, const struct dp_port_config *config)
{
    if (id >= DP_MAX_PORTS || !attach_config_ok(config))
        return DP_EINVAL;
    if (dp->ports[id] || dp->stopped[id])
        return DP_EEXIST;
    struct port *port;
    int error = engine_prepare(dp, id);
    if (!error)
        error = attach_port(&dp->arena, dp->config.workers, id, config, &port);
    if (error) {
        dp->last_errno = errno;
        return error;
    }
    if (id == DP_UNDERLAY)
        tables_underlay(&dp->control, port->mac);
    atomic_store_explicit(&dp->ports[id], port, memory_order_release);
    if (worker_listen(dp, port)) {
        engine_system_error(dp);
        dp_port_detach(dp, id);
        return DP_ESYS;
    }
    return DP_OK;
}

int dp_port_stop(struct dp *dp, uint32_t id)
{
    if (id >= DP_MAX_PORTS)
        return DP_EINVAL;
    struct port *port = dp->ports[id];
    if (!port)
        return DP_ENOENT;
    atomic_store_explicit(&dp->ports[id], NULL, memory_order_release);
    qsbr_wait(&dp->qsbr);               /* first: a worker that has the port may listen to its queues again */
    worker_ignore(dp, port);
    for (uint32_t q = 0; q < port->queues; q++)
        io_count_lost(&dp->workers[q % dp->config.workers].io, port->rxqs[q]);
    if (port->ops->stop)
        port->ops->stop(port);
    dp->stopped[id] = port;
    return DP_OK;
}

int dp_port_spin(struct dp *dp, uint32_t id, uint32_t on)
{
    if (id >= DP_MAX_PORTS || !dp->ports[id])
        return DP_ENOENT;
    port_set_sleeps(dp->ports[id], !on);
    return DP_OK;
}

/* Slots go to the depot by a pool of our own: workers may run. */
int dp_port_detach(struct dp *dp, uint32_t id)
{
    if (id >= DP_MAX_PORTS)
        return DP_EINVAL;
    struct pool pool;
    if (dp->ports[id])
        dp_port_stop(dp, id);
    struct port *port = dp->stopped[id];
    if (!port)
        return DP_ENOENT;
    dp->stopped[id] = NULL;
    pool_init(&pool, &dp->arena);
    for (uint32_t q = 0; q < port->queues; q++)
        if (port->rxqs[q]->whole.slots)
            pool_pkt_free(&pool, &port->rxqs[q]->whole);
    port->ops->reclaim(port, &pool);
    pool_drain(&pool);
    free(port);
    return DP_OK;
}

/* ---- running ------------------------------------------------------------------------------------------- */

/* Signals are the control thread's. */
static int engine_start_thread(struct worker *worker)
{
    sigset_t all, before;
    char name[16];
    snprintf(name, sizeof name, "isolane-%u", worker->io.id);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&worker->thread, NULL, worker_main, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!error)
        pthread_setname_np(worker->thread, name);
    return error;
}

static void engine_stop_threads(struct dp *dp, uint32_t n)
{
    atomic_store_explicit(&dp->stopping, true, memory_order_release);
    for (uint32_t i = 0; i < n; i++) {
        wake(dp->workers[i].wake_fd);
        pthread_join(dp->workers[i].thread, NULL);
    }
    dp->running = false;
}

int dp_start(struct dp *dp)
{
    if (dp->running)
        return DP_EBUSY;
    atomic_store_explicit(&dp->stopping, false, memory_order_release);
    dp->running = true;
    for (uint32_t i = 0; i < dp->config.workers; i++) {
        int error = engine_start_thread(&dp->workers[i]);
        if (error) {
            engine_stop_threads(dp, i);
            dp->last_errno = error;
            return DP_ESYS;
        }
    }
    return DP_OK;
}

int dp_stop(struct dp *dp)
{
    if (!dp->running)
        return DP_OK;
    engine_stop_threads(dp, dp->config.workers);
    engine_drop_held(dp);
    return DP_OK;
}

/* A burst is bounded, and so is what memory ports hold: a flood on other ports can't keep us here. */
int dp_poll(struct dp *dp, uint64_t now)
{
    if (dp->running)
        return DP_EBUSY;
    if (now < dp->workers[0].io.now)
        return DP_EINVAL;
    uint32_t received = 0, round, rounds = 0;
    do {
        round = 0;
        for (uint32_t i = 0; i < dp->config.workers; i++)
            round += worker_round(&dp->workers[i], now);
        received += round;
    } while (round && ++rounds < ENGINE_ROUNDS);
    return (int)received;
}

static struct port *engine_mem_port(const struct dp *dp, uint32_t id)
{
    struct port *port = id < DP_MAX_PORTS ? dp_port(dp, id) : NULL;
    return port && port->kind == DP_PORT_MEM ? port : NULL;
}

int dp_inject(struct dp *dp, uint32_t id, const struct dp_frame *frames, uint32_t n, const uint8_t *bytes)
{
    struct port *port = engine_mem_port(dp, id);
    int error = port ? DP_OK : DP_EINVAL;
    if (dp->running)
        return DP_EBUSY;
    for (uint32_t i = 0; i < n; i++)
        if (frames[i].len > ENGINE_INJECT || frames[i].gso > DP_GSO_UDP || frames[i].csum_partial > 1)
            error = DP_EINVAL;
    for (uint32_t i = 0; i < n && !error; bytes += frames[i++].len)
        error = port_mem_inject(port, &frames[i], bytes);
    return error;
}

int dp_collect(struct dp *dp, uint32_t id, struct dp_frame *frames, uint32_t n, uint8_t *bytes,
               uint32_t capacity)
{
    struct port *port = engine_mem_port(dp, id);
    if (dp->running || !port)
        return dp->running ? DP_EBUSY : DP_EINVAL;
    for (uint32_t taken = 0; taken < n; taken++) {
        int got = port_mem_collect(port, &dp->workers[0].io.pool, &frames[taken], bytes, capacity);
        if (got != 1)
            return taken ? (int)taken : got;
        bytes += frames[taken].len;
        capacity -= frames[taken].len;
    }
    return (int)n;
}

/* ---- policy -------------------------------------------------------------------------------------------- */

int dp_apply(struct dp *dp, const uint8_t *change_set, size_t len, struct dp_change_error *error)
{
    struct dp_change_error ignored;
    int code = tables_apply(&dp->control, change_set, len, error ? error : &ignored);
    neigh_reclaim(dp->neigh);
    return code;
}

int dp_rollback(struct dp *dp)
{
    return tables_rollback(&dp->control);
}

int dp_verified(struct dp *dp)
{
    return tables_verified(&dp->control);
}
