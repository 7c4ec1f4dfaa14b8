/*
 * core.c: clocks a packet, from a filled rx batch to a batch ready for tx, of the very code that devices run. Frames are copied into
 * packet slots that cycle through more than the L2 cache, outside the timed region; nothing is sent.
 */
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <x86intrin.h>
#include "path/path.h"
#include "run/engine.h"
#include "table/map_inline.h"

enum { BENCH_SLOTS = 8192 };    /* 4 KiB apart, so at least three lines of each, 1.5 MiB, are touched before one comes again */

struct bench {
    struct worker *worker;
    struct port *in;
    const struct dp_bench_config *config;
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
        batch->pkt[batch->n] = (struct pkt){.data = data, .slot = slot, .slots = 1, .len = b->config->frame_len,
                                            .head = (uint16_t)b->config->frame_len, .in_port = (uint16_t)b->in->id};
    }
}

/* What came out: folded into the digest, forgotten without being freed (the slots are the bench's). Returns how many. */
static uint32_t forget(struct bench *b)
{
    struct io *w = &b->worker->io;
    uint32_t n = 0;
    for (uint32_t a = 0; a < w->active_n; a++) {
        struct txq *txq = w->txqs[w->active[a]];
        for (uint32_t i = 0; i < txq->n; i++) {
            const uint8_t *p = txq->pkts[i]->data;
            b->digest = digest_fold(b->digest, load64(p + 20) ^ load64(p + 34) ^ txq->pkts[i]->len);
        }
        n += txq->n;
        txq->n = 0;
    }
    w->active_n = 0;
    return n;
}

static uint64_t run_batch(struct bench *b)
{
    struct port_stats *stats = b->worker->io.stats[b->in->id];
    uint64_t start = clocks();
    stats_add(&stats->received, b->worker->io.batch.n);
    stats_add(&stats->rx_bytes, b->worker->io.batch.n * (uint64_t)b->config->frame_len);
    struct host host = worker_host(b->worker);
    path_forward(&host, b->in, &b->worker->io.batch);
    return clocks() - start;
}

/* The bare lookup of (VSID of the port, IPv4 or IPv6 destination). */
static uint64_t run_lookup(struct bench *b, uint32_t *hits)
{
    const struct tables *tables = dp_tables(b->worker->dp);
    uint32_t vsid = tables->policies[b->in->id]->vsid;
    const struct map_view *view4 = map_view(tables->records4), *view6 = map_view(tables->records6);
    uint64_t key[DP_BATCH][3], hash[DP_BATCH];
    struct map_value value[DP_BATCH];
    const uint8_t *first = b->frames;
    bool ip4 = get16(first + 12) == ETHERTYPE_IP4;
    for (int i = 0; i < DP_BATCH; i++) {
        const uint8_t *frame = next_frame(b);
        if (ip4)
            key[i][0] = key_ca4(vsid, frame + ETH_LEN + 16);
        else
            key_ca6(key[i], vsid, frame + ETH_LEN + 24);
    }
    uint64_t start = clocks();
    for (int i = 0; i < DP_BATCH; i++) {
        hash[i] = ip4 ? map_hash1(view4, key[i][0]) : map_hash3(view6, key[i]);
        map_prefetch(ip4 ? view4 : view6, hash[i]);
    }
    for (int i = 0; i < DP_BATCH; i++)
        *hits += ip4 ? map_find1(view4, key[i][0], hash[i], &value[i]) : map_find3(view6, key[i], hash[i], &value[i]);
    uint64_t taken = clocks() - start;
    for (int i = 0; i < DP_BATCH; i++)
        b->digest = digest_fold(b->digest, value[i].act);
    return taken;
}

static void run_round(struct bench *b, uint64_t batches, struct dp_bench_round *round, uint64_t *dropped)
{
    uint64_t before = preemptions(), start = nanoseconds(), start_clocks = clocks();
    for (uint64_t i = 0; i < batches && *dropped == 0; i++) {
        uint32_t out = 0;
        if (b->config->op == DP_BENCH_LOOKUP) {
            round->clocks += run_lookup(b, &out);
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
    return config->op >= DP_BENCH_PUSH && config->op <= DP_BENCH_LOOKUP && config->port < DP_MAX_PORTS && dp_port(dp, config->port) &&
           config->frames && config->first < config->frames && config->rounds && config->frame_len >= 60 && config->frame_len <= 2048 &&
           (config->op != DP_BENCH_LOOKUP || (config->port && dp_tables(dp)->policies[config->port]));
}

int dp_bench(struct dp *dp, const struct dp_bench_config *config, const uint8_t *frames, struct dp_bench_round *rounds,
             uint64_t *digest, uint64_t *dropped)
{
    if (dp->running)
        return DP_EBUSY;
    if (!config_ok(dp, config))
        return DP_EINVAL;
    struct bench *b = calloc(1, sizeof *b);
    if (!b)
        return DP_ENOMEM;
    *b = (struct bench){.worker = &dp->workers[0], .in = dp_port(dp, config->port), .config = config, .frames = frames, .frame_at = config->first};
    uint32_t got = 0;
    while (got < BENCH_SLOTS && (b->slots[got] = pool_get(&b->worker->io.pool)) != POOL_NONE)
        got++;
    int result = got == BENCH_SLOTS ? DP_OK : DP_EFULL;
    uint64_t batches = config->packets / DP_BATCH / config->rounds + 1;
    *dropped = 0;
    for (uint32_t r = 0; r < config->rounds && result == DP_OK; r++) {
        rounds[r] = (struct dp_bench_round){0};
        run_round(b, batches, &rounds[r], dropped);
    }
    /* A dropped packet's slot was freed by the drop: after a failed run the engine is only good for dp_destroy(). */
    for (uint32_t i = 0; i < got && *dropped == 0; i++)
        pool_put(&b->worker->io.pool, b->slots[i]);
    *digest = b->digest;
    free(b);
    return result;
}
