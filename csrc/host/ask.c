/* ask.c: requests and announcements of our own, README.md 2.12. */
#include "host/ask.h"
#include "step/arpnd.h"
#include "table/lookup.h"

/*
 * A frame of ours, queued already, whose bytes are to be written; NULL, and nothing was made, without a
 * slot.
 */
static uint8_t *ask_send(const struct host *host, uint16_t len, uint64_t time)
{
    struct pkt *pkt = io_make(host->io);
    if (!pool_pkt_new(&host->io->pool, pkt))
        return NULL;
    pkt->len = pkt->head = len;
    pkt->time = time;
    pkt->in_port = DP_UNDERLAY;
    io_originated(host->io, DP_UNDERLAY, 1);
    io_send(host->io, host->underlay, pkt);
    return pkt->data;
}

void ask_for(const struct host *host, unsigned family, const uint8_t *address, const uint8_t *mac,
             uint64_t time)
{
    const uint8_t *own = lookup_own_pa(host->tables, family);
    uint8_t *frame = host->underlay && own ? ask_send(host, arpnd_len(family), time) : NULL; /* 2.12.10 */
    if (frame)
        arpnd_request(frame, family, host->underlay->mac, own, mac, address); /* 2.12.9 */
}

void ask_announce(const struct host *host, unsigned family, const uint8_t *address)
{
    uint8_t *frame = host->underlay ? ask_send(host, arpnd_len(family), host->io->now) : NULL;
    if (frame)
        arpnd_announcement(frame, family, host->underlay->mac, address);
}
