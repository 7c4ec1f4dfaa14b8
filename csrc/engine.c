/* engine.c: dp_api.h for the engine, its ports and its threads. The control thread's side; workers are in worker.c. */
#include "engine.h"
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "qsbr.h"

enum { DEFAULT_SLOTS_A_WORKER = 8192, MAX_SLOTS = 1 << 22, MAX_ROUNDS = 1 << 16, INJECT_MAX = 65535 + ETH_LEN };

_Static_assert((int)DP_MAX_WORKERS <= (int)DP_MAX_QUEUES, "a memory port has a queue a worker");

static int system_error(struct dp *dp)
{
    dp->last_errno = errno;
    return DP_ESYS;
}

int dp_last_errno(const struct dp *dp)
{
    return dp->last_errno;
}

/* ---- life ---------------------------------------------------------------------------------------------------- */

static bool cpu_suffices(void)
{
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("avx2");
}

static int worker_init(struct dp *dp, uint32_t id)
{
    struct worker *worker = &dp->workers[id];
    worker->dp = dp;
    worker->id = id;
    worker->batch_limit = DP_BATCH;
    pool_init(&worker->pool, &dp->arena);
    worker->bin = malloc(POOL_FRAME_MAX);
    worker->vsid_stats = calloc(SUBNET_STATS, sizeof *worker->vsid_stats);
    if (!worker->bin || !worker->vsid_stats)
        return DP_ENOMEM;
    worker->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = WORKER_WAKE_EVENT};
    if (worker->wake_fd < 0 || worker->epoll_fd < 0 || epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, worker->wake_fd, &event))
        return system_error(dp);
    return DP_OK;
}

static void worker_fini(struct worker *worker)
{
    for (uint32_t id = 0; id < DP_MAX_PORTS; id++) {
        free(worker->stats[id]);
        free(worker->txqs[id]);
    }
    free(worker->vsid_stats);
    free(worker->bin);
    if (worker->wake_fd >= 0)
        close(worker->wake_fd);
    if (worker->epoll_fd >= 0)
        close(worker->epoll_fd);
}

/* Every worker's counters and transmit queue for a port id. They stay when the port goes: what it counted still counts. */
static int prepare_port_id(struct dp *dp, uint32_t id)
{
    for (uint32_t i = 0; i < dp->config.workers; i++) {
        struct worker *worker = &dp->workers[i];
        if (worker->stats[id])
            continue;
        struct port_stats *stats = aligned_alloc(_Alignof(struct port_stats), sizeof *stats);
        worker->txqs[id] = calloc(1, sizeof *worker->txqs[id]);
        if (!stats || !worker->txqs[id]) {
            free(stats);
            free(worker->txqs[id]);
            worker->txqs[id] = NULL;
            return DP_ENOMEM;
        }
        memset(stats, 0, sizeof *stats);
        __atomic_store_n(&worker->stats[id], stats, __ATOMIC_RELEASE);
    }
    return DP_OK;
}

static int dp_init(struct dp *dp)
{
    struct dp_config *config = &dp->config;
    uint32_t slots = config->slots ? config->slots : DEFAULT_SLOTS_A_WORKER * (1 + config->workers);
    size_t size = config->workers * sizeof *dp->workers;
    dp->vsid_base = calloc(SUBNET_STATS, sizeof *dp->vsid_base);
    dp->workers = aligned_alloc(_Alignof(struct worker), size);
    if (!dp->vsid_base || !dp->workers)
        return DP_ENOMEM;
    memset(dp->workers, 0, size);
    for (uint32_t i = 0; i < config->workers; i++)
        dp->workers[i].wake_fd = dp->workers[i].epoll_fd = -1;
    int error = arena_create(&dp->arena, slots);
    for (uint32_t i = 0; i < config->workers && !error; i++)
        error = worker_init(dp, i);
    if (!error)
        error = prepare_port_id(dp, DP_UNDERLAY);
    if (error)
        return error;
    struct tables *tables = tables_create(config->hash_key, config->table_budget);
    atomic_init(&dp->tables, tables);
    dp->neigh = neigh_create(dp);
    return tables && dp->neigh ? DP_OK : DP_ENOMEM;
}

int dp_create(const struct dp_config *config, struct dp **out)
{
    *out = NULL;
    if (!cpu_suffices())
        return DP_ECPU;
    if (config->workers < 1 || config->workers > DP_MAX_WORKERS || config->slots > MAX_SLOTS || config->flags & ~(uint32_t)DP_FLOWID_OFF ||
        mac_is_group(config->router_mac))
        return DP_EINVAL;
    struct dp *dp = calloc(1, sizeof *dp);
    if (!dp)
        return DP_ENOMEM;
    dp->config = *config;
    int error = dp_init(dp);
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
        neigh_drop_held(dp);
    for (uint32_t id = 0; id < DP_MAX_PORTS; id++)
        if (dp->ports[id])
            dp_port_detach(dp, id);
    replay_destroy(dp);
    if (dp->tables)
        tables_destroy(dp->tables);
    if (dp->neigh)
        neigh_destroy(dp->neigh);
    for (uint32_t i = 0; dp->workers && i < dp->config.workers; i++)
        worker_fini(&dp->workers[i]);
    free(dp->workers);
    free(dp->vsid_base);
    arena_destroy(&dp->arena);
    free(dp);
}

/* ---- ports --------------------------------------------------------------------------------------------------- */

static bool queues_ok(const struct dp *dp, const struct dp_port_config *config)
{
    if (config->kind == DP_PORT_MEM)
        return config->queues == 0;
    for (uint32_t q = 0; q < config->queues && q < DP_MAX_QUEUES; q++)
        if (config->fds[q] < 0)
            return false;
    if (config->kind == DP_PORT_PCAP)   /* one worker: its file has one writer */
        return config->queues == 1 && dp->config.workers == 1;
    return config->kind <= DP_PORT_PACKET && config->queues >= 1 && config->queues <= DP_MAX_QUEUES;
}

static bool port_config_ok(const struct dp *dp, const struct dp_port_config *config)
{
    const uint32_t tso = DP_OFFLOAD_TSO4 | DP_OFFLOAD_TSO6;
    return memchr(config->name, 0, DP_NAME_LEN) && queues_ok(dp, config) && config->mtu >= 68 && config->mtu <= 65535 &&
           !(config->offloads & ~(DP_OFFLOAD_CSUM | tso)) && (!(config->offloads & tso) || config->offloads & DP_OFFLOAD_CSUM) &&
           !mac_is_group(config->mac);
}

static struct port *port_new(struct dp *dp, uint32_t id, const struct dp_port_config *config)
{
    struct port *port = calloc(1, sizeof *port);
    if (!port)
        return NULL;
    port->dp = dp;
    port->id = id;
    port->kind = (uint8_t)config->kind;
    port->offloads = config->offloads;
    port->mtu = config->mtu;
    port->queues = config->queues;
    memcpy(port->mac, config->mac, sizeof port->mac);
    memcpy(port->name, config->name, sizeof port->name);
    for (uint32_t q = 0; q < DP_MAX_QUEUES; q++)
        port->fds[q] = q < config->queues ? config->fds[q] : -1;
    return port;
}

static int (*const attach_kind[])(struct port *port) = {
    [DP_PORT_MEM] = port_mem_attach, [DP_PORT_PCAP] = port_pcap_attach, [DP_PORT_TAP] = port_tap_attach, [DP_PORT_PACKET] = port_packet_attach,
};

int dp_port_attach(struct dp *dp, uint32_t id, const struct dp_port_config *config)
{
    if (id >= DP_MAX_PORTS || !port_config_ok(dp, config))
        return DP_EINVAL;
    if (dp->ports[id])
        return DP_EEXIST;
    int error = prepare_port_id(dp, id);
    struct port *port = error ? NULL : port_new(dp, id, config);
    if (!port)
        return DP_ENOMEM;
    error = attach_kind[port->kind](port);
    if (error) {
        dp->last_errno = errno;
        free(port);
        return error;
    }
    if (id == DP_UNDERLAY)
        tables_underlay(dp, port->mac);
    atomic_store_explicit(&dp->ports[id], port, memory_order_release);
    if (worker_listen(dp, port)) {
        system_error(dp);
        dp_port_detach(dp, id);
        return DP_ESYS;
    }
    return DP_OK;
}

int dp_port_detach(struct dp *dp, uint32_t id)
{
    if (id >= DP_MAX_PORTS)
        return DP_EINVAL;
    struct port *port = dp->ports[id];
    if (!port)
        return DP_ENOENT;
    atomic_store_explicit(&dp->ports[id], NULL, memory_order_release);
    worker_ignore(dp, port);
    qsbr_wait(dp);
    port->ops->detach(port);
    free(port);
    return DP_OK;
}

/* ---- running ------------------------------------------------------------------------------------------------- */

/* Signals are the control thread's. */
static int start_thread(struct worker *worker)
{
    sigset_t all, before;
    char name[16];
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&worker->thread, NULL, worker_main, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error)
        return error;
    snprintf(name, sizeof name, "isolane-%u", worker->id);
    pthread_setname_np(worker->thread, name);
    return 0;
}

static void stop_threads(struct dp *dp, uint32_t n)
{
    atomic_store_explicit(&dp->stopping, true, memory_order_release);
    for (uint32_t i = 0; i < n; i++) {
        worker_wake(&dp->workers[i]);
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
        int error = start_thread(&dp->workers[i]);
        if (error) {
            stop_threads(dp, i);
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
    stop_threads(dp, dp->config.workers);
    neigh_drop_held(dp);
    return DP_OK;
}

/* A burst is bounded, and so is what memory ports hold: a flood on other ports can't keep us here. */
int dp_poll(struct dp *dp, uint64_t now)
{
    if (dp->running)
        return DP_EBUSY;
    if (now < dp->workers[0].now)
        return DP_EINVAL;
    uint32_t received = 0, round, rounds = 0;
    do {
        round = 0;
        for (uint32_t i = 0; i < dp->config.workers; i++)
            round += worker_round(&dp->workers[i], now);
        received += round;
    } while (round && ++rounds < MAX_ROUNDS);
    return (int)received;
}

static struct port *mem_port(const struct dp *dp, uint32_t id)
{
    struct port *port = id < DP_MAX_PORTS ? dp_port(dp, id) : NULL;
    return port && port->kind == DP_PORT_MEM ? port : NULL;
}

int dp_inject(struct dp *dp, uint32_t id, const struct dp_frame *frame, const uint8_t *bytes)
{
    struct port *port = mem_port(dp, id);
    if (dp->running)
        return DP_EBUSY;
    if (!port || frame->len > INJECT_MAX || frame->gso > DP_GSO_TCP6 || frame->csum_partial > 1)
        return DP_EINVAL;
    return port_mem_inject(port, frame, bytes);
}

int dp_collect(struct dp *dp, uint32_t id, struct dp_frame *frame, uint8_t *bytes, uint32_t capacity)
{
    struct port *port = mem_port(dp, id);
    if (dp->running)
        return DP_EBUSY;
    return port ? port_mem_collect(port, frame, bytes, capacity) : DP_EINVAL;
}

/* ---- policy -------------------------------------------------------------------------------------------------- */

int dp_apply(struct dp *dp, const uint8_t *change_set, size_t len, struct dp_change_error *error)
{
    struct dp_change_error ignored;
    return tables_apply(dp, change_set, len, error ? error : &ignored);
}

uint64_t dp_generation(const struct dp *dp)
{
    return dp_tables(dp)->generation;
}
