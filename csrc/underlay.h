/*
 * underlay.h: what hosts on the provider network see of us: our PAs answered for and announced, their
 * addresses asked for.
 */
#ifndef UNDERLAY_H
#define UNDERLAY_H
#include "engine.h"

/*
 * Worker. Takes an ARP packet, a valid or invalid ND packet, an echo request to one of our PAs that came from
 * the underlay.
 */
void underlay_arp(struct worker *worker, struct pkt *pkt);
void underlay_nd(struct worker *worker, struct pkt *pkt);
void underlay_echo(struct worker *worker, struct pkt *pkt);

/* Takes a whole frame: sends it, or drops it for this reason if the underlay has no device. */
void underlay_send(struct worker *worker, struct pkt *pkt, enum drop otherwise);
/*
 * Asks for the MAC of an address, from a PA of this host: the host that had `mac`, NULL: everybody. Nobody is
 * asked without a device, a PA of the family or a slot.
 */
void underlay_ask(struct worker *worker, unsigned family, const uint8_t *address, const uint8_t *mac,
                  uint64_t time);
/*
 * Tells everybody that a PA is here: gratuitous ARP request (RFC 5227 section 3), unsolicited NA (RFC 4861
 * section 7.2.6).
 */
void underlay_announce(struct worker *worker, unsigned family, const uint8_t *address);

#endif
