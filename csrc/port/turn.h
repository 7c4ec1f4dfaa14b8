/*
 * turn.h: a receive queue's turn. A queue in, a batch for the paths out: packets that came, or a part of a
 * super-packet that takes several turns. Called by run/worker.c.
 */
#ifndef TURN_H
#define TURN_H
#include "port/io.h"

/* The queue's owner. Fills the batch, which was empty. What was received; a part is one. */
uint32_t turn_begin(struct io *io, struct port_rxq *rxq);
/* Once the batch has been forwarded. */
void turn_end(struct io *io, struct port_rxq *rxq);

#endif
