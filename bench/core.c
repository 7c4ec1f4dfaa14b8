/*
 * core.c: clocks a packet, from a filled rx batch to a batch ready for tx, of the very code that devices run. Frames are
 * copied into packet slots that cycle through more than the L2 cache, outside the timed region; nothing is sent.
 *
 * Several workers are those of one engine, as if each had a queue of the port: each has its own slots, batches and
 * counters, all read the same tables and say so to the one writer.
 */
#include <errno.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <time.h>
#include <x86intrin.h>
#include "path/path.h"
#include "roof.h"
#include "run/engine.h"
#include "table/map_inline.h"

/* 4 KiB apart, so at least three lines of each, 1.5 MiB, are touched before one comes again. */
enum { BENCH_SLOTS = 8192 };

/* Workers that begin a round together. They wait awake: who sleeps begins later. */
struct team {
    uint32_t n;
    _Atomic uint32_t come;          /* ever, to all rounds */
};

struct bench {
    struct worker *worker;
    struct team *team;              /* NULL: the caller's thread */
    struct dp_bench_round *rounds;  /* the worker's first one of these of all workers */
    pthread_t thread;
    int cpu;
    struct port *in;
    const struct dp_bench_config *config;
    const struct dp_roof *roof;     /* runs in place of the operation; NULL: the operation itself */
    const uint8_t *frames;
    uint32_t slots[BENCH_SLOTS];
    uint32_t slot_at, frame_at, got;    /* got: slots */
    uint64_t digest, dropped;
} __attribute__((aligned(64)));

static uint64_t nanoseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Of this thread, so far. */
static uint64_t preemptions(void)
{
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    return (uint64_t)usage.ru_nivcsw;
}

static uint64_t clocks(void)
{
    _mm_lfence();
    uint64_t t = __rdtsc();
    _mm_lfence();
    return t;
}

static uint64_t digest_fold(uint64_t digest, uint64_t word)
{
    return (digest << 7 | digest >> 57) ^ word * 0x9e3779b97f4a7c15ull;
}

static const uint8_t *next_frame(struct bench *b)
{
    const uint8_t *frame = b->frames + (size_t)b->frame_at * b->config->frame_len;
    b->frame_at = b->frame_at + 1 == b->config->frames ? 0 : b->frame_at + 1;
    return frame;
}

static void fill(struct bench *b)
{
    struct batch *batch = &b->worker->io.batch;
    for (batch->n = 0; batch->n < DP_BATCH; batch->n++) {
        uint32_t slot = b->slots[b->slot_at];
        b->slot_at = (b->slot_at + 1) % BENCH_SLOTS;
        uint8_t *data = pool_data(&b->worker->dp->arena, slot);
        memcpy(data, next_frame(b), b->config->frame_len);
        batch->pkt[batch->n] = (struct pkt){
            .data = data, .slot = slot, .slots = 1, .len = b->config->frame_len,
            .head = (uint16_t)b->config->frame_len, .in_port = (uint16_t)b->in->id};
    }
}

/* Of one frame that came out. */
static void fold_frame(struct bench *b, const uint8_t *p, uint32_t len)
{
    b->digest = digest_fold(b->digest, len);
    for (uint32_t at = 0; at + 8 <= len && at < 64; at += 8)
        b->digest = digest_fold(b->digest, load64(p + at));
}

/*
 * What came out: folded into the digest, and its slots are the bench's again; so are those that the path has freed with
 * what it dropped. Returns how many came out.
 */
static uint32_t forget(struct bench *b)
{
    struct io *io = &b->worker->io;
    uint32_t *slots = &b->slots[(b->slot_at + BENCH_SLOTS - DP_BATCH) % BENCH_SLOTS], n = 0;
    for (uint32_t a = 0; a < io->active_n; a++) {
        struct txq *txq = io->txqs[io->active[a]];
        for (uint32_t i = 0; i < txq->n && n < DP_BATCH; i++) {
            fold_frame(b, txq->pkts[i]->data, txq->pkts[i]->len);
            slots[n++] = txq->pkts[i]->slot;
        }
        txq->n = 0;
    }
    io->active_n = 0;
    for (uint32_t i = n; i < DP_BATCH; i++)
        slots[i] = pool_get(&io->pool);
    return n;
}

/* Instructions are counted of bench_path() and bench_find() alone: by name, and by the counter. */
static __attribute__((noinline)) void bench_path(struct bench *b)
{
    struct io *io = &b->worker->io;
    struct port_stats *stats = io->stats[b->in->id];
    struct host host = worker_host(b->worker);
    stats_add(&stats->received, io->batch.n);
    stats_add(&stats->rx_bytes, io->batch.n * (uint64_t)b->config->frame_len);
    path_forward(&host, b->in, &io->batch);
}

static void count(const struct bench *b, bool on)
{
    if (b->config->counter)
        ioctl((int)b->config->counter, on ? PERF_EVENT_IOC_ENABLE : PERF_EVENT_IOC_DISABLE, 0);
}

static uint64_t run_batch(struct bench *b)
{
    count(b, true);
    uint64_t start = clocks();
    bench_path(b);
    if (b->team)
        qsbr_quiescent(b->worker->reader);
    uint64_t taken = clocks() - start;
    count(b, false);
    return taken;
}

static uint64_t run_roof(struct bench *b, uint32_t *out)
{
    uint8_t *p[DP_BATCH];
    for (int i = 0; i < DP_BATCH; i++)
        p[i] = b->worker->io.batch.pkt[i].data;
    uint64_t start = clocks();
    roof_run(b->roof, p, b->config->frame_len);
    uint64_t taken = clocks() - start;
    for (int i = 0; i < DP_BATCH; i++)
        if (p[i]) {
            fold_frame(b, p[i], (uint32_t)((int)b->config->frame_len + roof_growth(b->roof)));
            ++*out;
        }
    return taken;
}

struct keys {
    const struct map_view *view;
    bool ip4;
    uint64_t key[DP_BATCH][3];
    struct map_value value[DP_BATCH];
};

static __attribute__((noinline)) uint32_t bench_find(struct keys *k)
{
    uint64_t hash[DP_BATCH];
    uint32_t hits = 0;
    for (int i = 0; i < DP_BATCH; i++) {
        hash[i] = map_hash(k->view, k->ip4 ? 1 : 3, k->key[i]);
        map_prefetch(k->view, hash[i]);
    }
    for (int i = 0; i < DP_BATCH; i++)
        hits += k->ip4 ? map_find(k->view, 1, k->key[i], hash[i], &k->value[i])
                       : map_find(k->view, 3, k->key[i], hash[i], &k->value[i]);
    return hits;
}

/* The bare lookup of (VSID of the port, IPv4 or IPv6 destination). */
static uint64_t run_lookup(struct bench *b, uint32_t *hits)
{
    const struct tables *tables = dp_tables(b->worker->dp);
    uint32_t vsid = tables->policies[b->in->id]->vsid;
    struct keys k = {.ip4 = get16(b->frames + 12) == ETHERTYPE_IP4};
    k.view = map_view(k.ip4 ? tables->records4 : tables->records6);
    for (int i = 0; i < DP_BATCH; i++) {
        const uint8_t *ip = next_frame(b) + ETH_LEN;
        key_record(k.key[i], vsid, k.ip4 ? DP_IPV4 : DP_IPV6, ip + (k.ip4 ? 16 : 24));
    }
    count(b, true);
    uint64_t start = clocks();
    *hits = bench_find(&k);
    uint64_t taken = clocks() - start;
    count(b, false);
    for (int i = 0; i < DP_BATCH; i++)
        b->digest = digest_fold(b->digest, k.value[i].act);
    return taken;
}

static void run_round(struct bench *b, uint64_t batches, struct dp_bench_round *round)
{
    *round = (struct dp_bench_round){0};
    uint64_t before = preemptions(), start = nanoseconds(), start_clocks = clocks();
    for (uint64_t i = 0; i < batches; i++) {
        uint32_t out = 0;
        if (b->config->op == DP_BENCH_LOOKUP) {
            round->clocks += run_lookup(b, &out);
        } else if (b->roof) {
            fill(b);
            round->clocks += run_roof(b, &out);
        } else {
            fill(b);
            round->clocks += run_batch(b);
            out = forget(b);
        }
        round->packets += DP_BATCH;
        b->dropped += DP_BATCH - out;
    }
    round->elapsed_clocks = clocks() - start_clocks;
    round->nanoseconds = nanoseconds() - start;
    round->preempted = preemptions() - before;
}

static void run_rounds(struct bench *b)
{
    uint64_t batches = b->config->packets / DP_BATCH / b->config->rounds + 1;
    uint32_t n = b->team ? b->team->n : 1;
    for (uint32_t r = 0; r < b->config->rounds; r++) {
        if (b->team) {
            atomic_fetch_add(&b->team->come, 1);
            while (atomic_load(&b->team->come) < (r + 1) * n)
                _mm_pause();
        }
        run_round(b, batches, &b->rounds[r * n]);
    }
}

static void *run_thread(void *arg)
{
    struct bench *b = arg;
    qsbr_online(b->worker->reader);
    run_rounds(b);
    qsbr_offline(b->worker->reader);
    return NULL;
}

/* On its CPU from its beginning. False: there is none, or no thread. */
static bool start_thread(struct bench *b)
{
    pthread_attr_t attr;
    cpu_set_t cpus;
    if (b->cpu < 0 || pthread_attr_init(&attr))
        return false;
    CPU_ZERO(&cpus);
    CPU_SET(b->cpu, &cpus);
    bool started = !pthread_attr_setaffinity_np(&attr, sizeof cpus, &cpus) &&
                   !pthread_create(&b->thread, &attr, run_thread, b);
    pthread_attr_destroy(&attr);
    return started;
}

/* Who could not be started is counted as there, or the others would wait for ever: what they do does not count. */
static int run_team(struct bench *b, struct team *team)
{
    uint32_t started = 0;
    while (started < team->n && start_thread(&b[started]))
        started++;
    if (started < team->n)
        atomic_fetch_add(&team->come, 1u << 30);
    for (uint32_t i = 0; i < started; i++)
        pthread_join(b[i].thread, NULL);
    return started == team->n ? DP_OK : DP_ESYS;
}

/* The n-th CPU that the caller may use; -1: there are fewer. */
static int cpu_at(uint32_t n)
{
    cpu_set_t cpus;
    if (sched_getaffinity(0, sizeof cpus, &cpus))
        return -1;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &cpus) && n-- == 0)
            return cpu;
    return -1;
}

static bool take_slots(struct bench *b)
{
    struct pool *pool = &b->worker->io.pool;
    while (b->got < BENCH_SLOTS && (b->slots[b->got] = pool_get(pool)) != POOL_NONE)
        b->got++;
    return b->got == BENCH_SLOTS;
}

static bool config_ok(const struct dp *dp, const struct dp_bench_config *config)
{
    return config->op >= DP_BENCH_PUSH && config->op <= DP_BENCH_LOOKUP &&
           config->port < DP_MAX_PORTS && dp_port(dp, config->port) &&
           config->frames && config->first < config->frames && config->rounds && config->rounds < 1u << 20 &&
           config->frame_len >= 60 && config->frame_len <= 2048 && config->workers <= dp->config.workers &&
           (config->op != DP_BENCH_LOOKUP || (config->port && dp_tables(dp)->policies[config->port]));
}

int dp_bench(struct dp *dp, const struct dp_roof *roof, const struct dp_bench_config *config,
             const uint8_t *frames, struct dp_bench_round *rounds, uint64_t *digest, uint64_t *dropped)
{
    if (dp->running)
        return DP_EBUSY;
    if (!config_ok(dp, config))
        return DP_EINVAL;
    struct team team = {.n = config->workers ? config->workers : 1};
    struct bench *b = aligned_alloc(_Alignof(struct bench), team.n * sizeof *b);
    if (!b)
        return DP_ENOMEM;
    int result = DP_OK;
    for (uint32_t i = 0; i < team.n; i++) {
        b[i] = (struct bench){
            .worker = &dp->workers[i], .in = dp_port(dp, config->port), .config = config, .roof = roof,
            .team = config->workers ? &team : NULL, .rounds = rounds + i, .cpu = cpu_at(i), .frames = frames,
            .frame_at = (uint32_t)((config->first + (uint64_t)config->frames * i / team.n) % config->frames)};
        if (!take_slots(&b[i]))
            result = DP_EFULL;
    }
    if (result == DP_OK && config->workers)
        result = run_team(b, &team);
    else if (result == DP_OK)
        run_rounds(b);
    if (result == DP_ESYS)
        dp->last_errno = EAGAIN;
    *digest = *dropped = 0;
    for (uint32_t i = 0; i < team.n; i++) {
        *digest ^= b[i].digest;
        *dropped += b[i].dropped;
        for (uint32_t slot = 0; slot < b[i].got; slot++)
            pool_put(&b[i].worker->io.pool, b[i].slots[slot]);
    }
    free(b);
    return result;
}
