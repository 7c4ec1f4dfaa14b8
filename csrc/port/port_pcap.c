/*
 * port_pcap.c: a port whose packets go to a capture file, with nanosecond timestamps. What comes in by it is replay.c's business.
 * Nothing is received here, and nothing is offloaded: a file shows what a wire would.
 */
#include <errno.h>
#include <pcap/pcap.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "port/io.h"

enum { SNAPLEN = 262144 };

struct capture {
    pcap_dumper_t *dumper;
    uint8_t frame[POOL_FRAME_MAX];
};

static uint32_t capture_rx(struct port_rxq *rxq, struct io *io)
{
    (void)rxq, (void)io;
    return 0;
}

static void capture_tx(struct port_txq *txq, struct io *io, struct pkt *const *pkts, uint32_t n)
{
    struct port *port = txq->port;
    struct capture *capture = port->state;
    struct port_count count = {0};
    for (uint32_t i = 0; i < n; i++) {
        struct pkt *pkt = pkts[i];
        enum drop drop = port_prepare(port, &io->pool, pkt);
        if (!drop && (pkt->len > sizeof capture->frame || !pkt_read(io->pool.arena, pkt, 0, capture->frame, pkt->len)))
            drop = DROP_TX_ERROR;
        if (io_dropped(io, pkt, drop))
            continue;
        struct pcap_pkthdr header = {
            .ts = {.tv_sec = (time_t)(pkt->time / 1000000000u), .tv_usec = (suseconds_t)(pkt->time % 1000000000u)},
            .caplen = pkt->len,
            .len = pkt->len,
        };
        pcap_dump((u_char *)capture->dumper, &header, capture->frame);
        port_count(&count, pkt);
        pool_pkt_free(&io->pool, pkt);
    }
    port_count_tx(port, io, &count);
}

int port_pcap_flush(struct port *port)
{
    const struct capture *capture = port->state;
    if (pcap_dump_flush(capture->dumper))
        return DP_ESYS;
    if (ferror(pcap_dump_file(capture->dumper))) {
        errno = EIO;
        return DP_ESYS;
    }
    return DP_OK;
}

static void capture_reclaim(struct port *port, struct pool *pool)
{
    struct capture *capture = port->state;
    (void)pool;
    port_queues_free(port);
    pcap_dump_close(capture->dumper);
    free(capture);
}

static pcap_dumper_t *open_dumper(FILE *file)
{
    pcap_t *pcap = pcap_open_dead_with_tstamp_precision(DLT_EN10MB, SNAPLEN, PCAP_TSTAMP_PRECISION_NANO);
    if (!pcap)
        return NULL;
    pcap_dumper_t *dumper = pcap_dump_fopen(pcap, file);
    pcap_close(pcap);
    return dumper;
}

int port_pcap_attach(struct port *port)
{
    static const struct port_ops ops = {.rx = capture_rx, .tx = capture_tx, .reclaim = capture_reclaim};
    struct capture *capture = malloc(sizeof *capture);
    int fd = dup(port->fds[0]);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "wb");
    port->ops = &ops;
    port->state = capture;
    port->caps = PORT_SG;
    port->max_segs = PORT_SEGS;
    port->fds[0] = -1;                  /* not for epoll */
    if (port_queues_new(port, sizeof(struct port_rxq), sizeof(struct port_txq)))
        errno = ENOMEM;
    else if (capture && file && (capture->dumper = open_dumper(file)))
        return DP_OK;
    int error = errno;
    if (file)
        fclose(file);
    else if (fd >= 0)
        close(fd);
    free(capture);
    port_queues_free(port);
    errno = error;
    return capture ? DP_ESYS : DP_ENOMEM;
}
