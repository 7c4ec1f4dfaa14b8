/* ask.c: requests and announcements of our own, README.md 2.12. */
#include "host/ask.h"
#include "step/arpnd.h"
#include "table/lookup.h"

void ask_for(const struct host *host, unsigned family, const uint8_t *address, const uint8_t *mac,
             uint64_t time)
{
    const uint8_t *own = lookup_own_pa(host->tables, family);
    if (!host->underlay || !own) /* 2.12.10 */
        return;
    uint8_t *frame = io_originate(host->io, host->underlay, arpnd_len(family), time);
    if (frame)
        arpnd_request(frame, family, host->underlay->mac, own, mac, address); /* 2.12.9 */
}

void ask_announce(const struct host *host, unsigned family, const uint8_t *address)
{
    if (!host->underlay)
        return;
    uint8_t *frame = io_originate(host->io, host->underlay, arpnd_len(family), host->io->now);
    if (frame)
        arpnd_announcement(frame, family, host->underlay->mac, address);
}
