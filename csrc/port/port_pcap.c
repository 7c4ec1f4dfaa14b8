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

static uint32_t capture_rx(struct port *port, struct io *io, uint32_t q, struct batch *batch)
{
    (void)port, (void)io, (void)q, (void)batch;
    return 0;
}

static void capture_tx(struct port *port, struct io *io, struct pkt *const *pkts, uint32_t n)
{
    struct capture *capture = port->state;
    struct port_count count = {0};
    for (uint32_t i = 0; i < n; i++) {
        struct pkt *pkt = pkts[i];
        enum drop drop = port_prepare(port, pkt);
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

static void capture_detach(struct port *port)
{
    struct capture *capture = port->state;
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
    static const struct port_ops ops = {capture_rx, capture_tx, capture_detach};
    struct capture *capture = malloc(sizeof *capture);
    int fd = dup(port->fds[0]);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "wb");
    port->ops = &ops;
    port->state = capture;
    port->offloads = 0;
    port->fds[0] = -1;                  /* not for epoll */
    if (capture && file && (capture->dumper = open_dumper(file)))
        return DP_OK;
    int error = errno;
    if (file)
        fclose(file);
    else if (fd >= 0)
        close(fd);
    free(capture);
    errno = error;
    return capture ? DP_ESYS : DP_ENOMEM;
}
