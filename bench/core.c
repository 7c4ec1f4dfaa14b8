/*
 * core.c: clocks a packet, from a filled rx batch to a batch ready for tx, of the very code that devices run. Frames are
 * copied into packet slots that cycle through more than the L2 cache, outside the timed region; nothing is sent.
 */
#include <linux/perf_event.h>
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

struct bench {
    struct worker *worker;
    struct port *in;
    const struct dp_bench_config *config;
    const struct dp_roof *roof;     /* runs in place of the operation; NULL: the operation itself */
    const uint8_t *frames;
    uint32_t slots[BENCH_SLOTS];
    uint32_t slot_at, frame_at;
    uint64_t digest;
};

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

static void run_round(struct bench *b, uint64_t batches, struct dp_bench_round *round, uint64_t *dropped)
{
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
        *dropped += DP_BATCH - out;
    }
    round->elapsed_clocks = clocks() - start_clocks;
    round->nanoseconds = nanoseconds() - start;
    round->preempted = preemptions() - before;
}

static bool config_ok(const struct dp *dp, const struct dp_bench_config *config)
{
    return config->op >= DP_BENCH_PUSH && config->op <= DP_BENCH_LOOKUP &&
           config->port < DP_MAX_PORTS && dp_port(dp, config->port) &&
           config->frames && config->first < config->frames && config->rounds &&
           config->frame_len >= 60 && config->frame_len <= 2048 &&
           (config->op != DP_BENCH_LOOKUP || (config->port && dp_tables(dp)->policies[config->port]));
}

int dp_bench(struct dp *dp, const struct dp_roof *roof, const struct dp_bench_config *config,
             const uint8_t *frames, struct dp_bench_round *rounds, uint64_t *digest, uint64_t *dropped)
{
    if (dp->running)
        return DP_EBUSY;
    if (!config_ok(dp, config))
        return DP_EINVAL;
    struct bench *b = calloc(1, sizeof *b);
    if (!b)
        return DP_ENOMEM;
    *b = (struct bench){
        .worker = &dp->workers[0], .in = dp_port(dp, config->port), .config = config, .roof = roof,
        .frames = frames, .frame_at = config->first};
    struct pool *pool = &b->worker->io.pool;
    uint32_t got = 0;
    while (got < BENCH_SLOTS && (b->slots[got] = pool_get(pool)) != POOL_NONE)
        got++;
    int result = got == BENCH_SLOTS ? DP_OK : DP_EFULL;
    uint64_t batches = config->packets / DP_BATCH / config->rounds + 1;
    *dropped = 0;
    for (uint32_t r = 0; r < config->rounds && result == DP_OK; r++) {
        rounds[r] = (struct dp_bench_round){0};
        run_round(b, batches, &rounds[r], dropped);
    }
    for (uint32_t i = 0; i < got; i++)
        pool_put(pool, b->slots[i]);
    *digest = b->digest;
    free(b);
    return result;
}
