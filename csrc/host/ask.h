/*
 * ask.h: what we say on the provider network of our own accord: requests for others' MACs, announcements of
 * our PAs. Called by neigh and pa. A worker.
 */
#ifndef ASK_H
#define ASK_H
#include "host/host.h"

/*
 * Asks for the MAC of an address, from a PA of this host: the host that had `mac`, NULL: everybody. Nobody is
 * asked without a device, a PA of the family or a slot.
 */
void ask_for(const struct host *host, unsigned family, const uint8_t *address, const uint8_t *mac,
             uint64_t time);
/* Tells everybody that a PA is here. */
void ask_announce(const struct host *host, unsigned family, const uint8_t *address);

#endif
