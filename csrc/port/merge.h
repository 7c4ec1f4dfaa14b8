/*
 * merge.h: TCP segments and UDP datagrams that follow each other in a transmit queue leave as one
 * super-packet (README.md 4.6), for ports with PORT_MERGE: their device, and the VM behind it, then handle
 * one packet in place of many, up to PORT_SEGS. Nothing is copied: the first goes on in the payloads of the
 * others. Called by io.c, at the flush.
 */
#ifndef MERGE_H
#define MERGE_H
#include "port/io.h"

/* Of n packets on their way to the port those that are left, in the order of their first ones. How many. */
uint32_t merge_queue(struct io *io, const struct port *port, struct pkt **pkts, uint32_t n);

#endif
