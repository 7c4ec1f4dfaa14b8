/*
 * replay.c: capture files through the core.
 *
 * Sources are merged by timestamp, ties by the order in which they were added, then by their place in the file. The clock is the
 * packets' timestamp. It never falls: a packet whose timestamp falls keeps it (what it causes is written with it), the clock stays.
 *
 * The batch size must not show. A batch ends before another port's packet, and where the timestamp changes: worker->io.now is then
 * the time of each of its packets. Only when the MAC of every provider next hop is fixed, so that no packet can start a timer, a
 * batch goes on over different timestamps; what a packet causes carries the packet's own time in any case.
 */
#include <errno.h>
#include <pcap/pcap.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "run/engine.h"

struct source {
    pcap_t *pcap;
    uint32_t port;
    uint64_t packets;                   /* read so far */
    uint64_t time;                      /* ns, of the packet at hand */
    uint32_t len;
    const uint8_t *bytes;               /* NULL: at the end */
};

struct replay {
    struct source *sources;
    uint32_t n;
    bool timeless;                      /* no timer can be started */
    char error[PCAP_ERRBUF_SIZE + 128];
};

const char *dp_replay_error(const struct dp *dp)
{
    return dp->replay ? dp->replay->error : "";
}

__attribute__((format(printf, 2, 3))) static int malformed(struct replay *replay, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(replay->error, sizeof replay->error, format, args);
    va_end(args);
    return DP_EFORMAT;
}

/* ---- sources ------------------------------------------------------------------------------------------------- */

static void close_sources(struct replay *replay)
{
    for (uint32_t i = 0; i < replay->n; i++)
        pcap_close(replay->sources[i].pcap);
    free(replay->sources);
    replay->sources = NULL;
    replay->n = 0;
}

void replay_destroy(struct dp *dp)
{
    if (dp->replay)
        close_sources(dp->replay);
    free(dp->replay);
    dp->replay = NULL;
}

static FILE *open_copy(int fd)
{
    int copy = dup(fd);
    FILE *file = copy < 0 ? NULL : fdopen(copy, "rb");
    if (!file && copy >= 0)
        close(copy);
    return file;
}

int dp_replay_source(struct dp *dp, uint32_t port, int fd)
{
    if (dp->running)
        return DP_EBUSY;
    if (port >= DP_MAX_PORTS || !dp->ports[port])
        return DP_EINVAL;
    if (!dp->replay && !(dp->replay = calloc(1, sizeof *dp->replay)))
        return DP_ENOMEM;
    struct replay *replay = dp->replay;
    struct source *sources = realloc(replay->sources, (replay->n + 1) * sizeof *sources);
    if (!sources)
        return DP_ENOMEM;
    replay->sources = sources;
    FILE *file = open_copy(fd);
    if (!file) {
        dp->last_errno = errno;
        return DP_ESYS;
    }
    char text[PCAP_ERRBUF_SIZE] = "";
    pcap_t *pcap = pcap_fopen_offline_with_tstamp_precision(file, PCAP_TSTAMP_PRECISION_NANO, text);
    if (!pcap) {
        fclose(file);
        return malformed(replay, "%s", text);
    }
    int link = pcap_datalink(pcap);
    if (link != DLT_EN10MB) {
        const char *name = pcap_datalink_val_to_name(link);
        pcap_close(pcap);
        return malformed(replay, "link type %s, not Ethernet", name ? name : "unknown");
    }
    sources[replay->n++] = (struct source){.pcap = pcap, .port = port};
    return DP_OK;
}

/* The source's next packet at hand, or its end. */
static int advance(const struct dp *dp, struct source *source)
{
    struct pcap_pkthdr *header;
    const char *port = dp->ports[source->port]->name;
    uint64_t number = source->packets + 1;
    int got = pcap_next_ex(source->pcap, &header, &source->bytes);
    if (got == PCAP_ERROR_BREAK) {
        source->bytes = NULL;
        return DP_OK;
    }
    if (got != 1)
        return malformed(dp->replay, "port %s, packet %lu: %s", port, number, pcap_geterr(source->pcap));
    if (header->caplen != header->len)
        return malformed(dp->replay, "port %s, packet %lu: snapped to %u of %u bytes", port, number, header->caplen, header->len);
    if (header->ts.tv_sec < 0 || header->ts.tv_sec > UINT32_MAX)
        return malformed(dp->replay, "port %s, packet %lu: a timestamp that a capture file can't hold", port, number);
    source->packets = number;
    source->time = (uint64_t)header->ts.tv_sec * 1000000000u + (uint64_t)header->ts.tv_usec;
    source->len = header->len;
    return DP_OK;
}

static struct source *earliest(const struct replay *replay)
{
    struct source *best = NULL;
    for (uint32_t i = 0; i < replay->n; i++) {
        struct source *source = &replay->sources[i];
        if (source->bytes && (!best || source->time < best->time))
            best = source;
    }
    return best;
}

/* ---- running ------------------------------------------------------------------------------------------------- */

/* Moves the clock to `time`, with what is due until then, each at its own time. */
static void run_clock(struct worker *worker, uint64_t time)
{
    uint64_t due;
    while ((due = neigh_next_timer(worker->dp->neigh)) <= time) {
        if (worker->io.now < due)
            worker->io.now = due;
        worker_timers(worker);
    }
    if (worker->io.now < time)
        worker->io.now = time;
}

/* Receives the packet at hand. */
static void receive(struct worker *worker, const struct source *source, struct port_count *count)
{
    struct batch *batch = &worker->io.batch;
    struct pkt *pkt = &batch->pkt[batch->n];
    bool got = source->len <= POOL_FRAME_MAX && pool_pkt_new_len(&worker->io.pool, pkt, source->len);
    if (!got)
        *pkt = (struct pkt){.len = source->len};
    pkt->time = source->time;
    if (got)
        pkt_write(worker->io.pool.arena, pkt, 0, source->bytes, source->len);
    io_received(&worker->io, dp_port(worker->dp, source->port), pkt, got ? DROP_NONE : port_refused(source->len), count);
}

/* One batch, from the packet of *source on. Returns the packets read, or an error. */
static int run_batch(struct worker *worker, struct source *source, uint32_t limit)
{
    struct dp *dp = worker->dp;
    struct port *port = dp_port(dp, source->port);
    struct port_count count = {0};
    uint64_t time = source->time;
    int error;
    run_clock(worker, time);
    worker->io.batch.n = 0;
    do {
        receive(worker, source, &count);
        error = advance(dp, source);
        source = earliest(dp->replay);
    } while (!error && count.packets < limit && source && source->port == port->id && (source->time == time || dp->replay->timeless));
    port_count_rx(port, &worker->io, &count);
    worker_forward(worker, port);
    return error ? error : (int)count.packets;
}

/* True when every provider next hop has a fixed MAC. */
static bool all_fixed(const struct dp *dp)
{
    int n = dp_neigh_read(dp, NULL, 0);
    struct dp_neigh *neigh = calloc(n > 0 ? (size_t)n : 1, sizeof *neigh);
    bool fixed = neigh && n >= 0 && dp_neigh_read(dp, neigh, (uint32_t)n) == n;
    for (int i = 0; fixed && i < n; i++)
        fixed = neigh[i].state == DP_NEIGH_FIXED;
    free(neigh);
    return fixed;
}

static int flush_files(struct dp *dp)
{
    for (uint32_t id = 0; id < DP_MAX_PORTS; id++) {
        struct port *port = dp_port(dp, id);
        if (port && port->kind == DP_PORT_PCAP && port_pcap_flush(port)) {
            dp->last_errno = errno;
            return DP_ESYS;
        }
    }
    return DP_OK;
}

static int64_t run(struct dp *dp, uint32_t limit, uint64_t linger)
{
    struct worker *worker = &dp->workers[0];
    struct source *source;
    int64_t packets = 0;
    dp->replay->timeless = all_fixed(dp);
    for (uint32_t i = 0; i < dp->replay->n; i++) {
        int error = dp->ports[dp->replay->sources[i].port] ? advance(dp, &dp->replay->sources[i]) : DP_EINVAL;
        if (error)
            return error;
    }
    if ((source = earliest(dp->replay)) && worker->io.now < source->time)
        worker->io.now = source->time;     /* the clock starts here: timers set before it were not due in between */
    for (; source; source = earliest(dp->replay)) {
        int read = run_batch(worker, source, limit);
        if (read < 0)
            return read;
        packets += read;
    }
    run_clock(worker, worker->io.now + linger);
    return packets;
}

int64_t dp_replay(struct dp *dp, uint32_t batch, uint64_t linger)
{
    if (dp->running)
        return DP_EBUSY;
    if (dp->config.workers != 1 || batch < 1 || batch > DP_BATCH || linger > UINT64_MAX / 4)
        return DP_EINVAL;
    if (!dp->replay && !(dp->replay = calloc(1, sizeof *dp->replay)))
        return DP_ENOMEM;
    int64_t result = run(dp, batch, linger);
    close_sources(dp->replay);
    int error = flush_files(dp);
    return result < 0 || !error ? result : error;
}
