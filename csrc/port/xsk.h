/*
 * xsk.h: an AF_XDP socket over the arena: its four rings, and which slots the kernel has. Called by
 * port_xdp.c. One thread at a time: the worker that owns the queue, or the control thread when none has it.
 *
 * The arena is the socket's UMEM (Documentation/networking/af_xdp.rst), a slot a chunk, aligned mode: what
 * one socket receives another one sends as it lies. A slot that is lent to the kernel is marked until it
 * comes back by a ring, and nothing that is not marked is taken from one: so what the kernel still has when
 * the socket is closed is known, and no slot comes back twice. The kernel copies (XDP_COPY): a driver that
 * does not could still write to a slot when the socket is closed.
 */
#ifndef XSK_H
#define XSK_H
#include <linux/if_xdp.h>
#include "port/io.h"

/* Of newer kernels than the headers we are built with: a packet in several descriptors (6.6). */
enum { XSK_MORE = 1 << 0 };
enum { XSK_RING = 4096, XSK_HEADROOM = 256 };
_Static_assert((int)XSK_HEADROOM >= (int)POOL_HEADROOM, "as every received packet has (port.h)");

/* One ring, shared with the kernel; `at` is our own end of it, which the other sees when it is published. */
struct xsk_ring {
    uint32_t *producer, *consumer, *flags;
    void *entries;
    uint32_t at;
    void *map;
    size_t map_len;
};

struct xsk {
    int fd;
    uint32_t filled;                    /* slots in the fill ring or on their way to rx */
    uint32_t want;                      /* ... as many as there should be */
    uint32_t in_flight, most;           /* slots being sent, and at most: nobody else has them */
    uint64_t lost;                      /* that the kernel has counted */
    struct arena *arena;
    uint64_t *lent, *sent;              /* a bit a slot: it waits for a packet, it is being sent */
    struct xsk_ring rx, tx, fill, done;
};

/* 0, DP_ENOMEM or DP_ESYS. The socket is fresh, of the arena's memory, all its rings of XSK_RING entries. */
int xsk_open(struct xsk *xsk, int fd, struct arena *arena);
/*
 * Gives back what the kernel had, once it has let go: all others have closed the socket, our rings are the
 * last to hold it. What is still being sent then may lie in a packet of the kernel's: it is lost.
 */
void xsk_close(struct xsk *xsk, struct pool *pool);

/* Lends as many slots for packets as are wanted and free. */
void xsk_fill(struct xsk *xsk, struct pool *pool);
/*
 * The same once packets were received into io->batch: where there are no slots for what they took, the last
 * of them are dropped, for the kernel must never be without: nobody would ask for more.
 */
void xsk_refill(struct xsk *xsk, struct io *io);
/*
 * The next packet, all of whose bytes its descriptors name. False: there is none. *pkt without slots: it was
 * too long, and its slots are given back; len is how long.
 */
bool xsk_receive(struct xsk *xsk, struct pool *pool, struct pkt *pkt);
/* Lends the packet, all its bytes its own, to be sent. False: the ring has no room for it. */
bool xsk_send(struct xsk *xsk, struct pool *pool, const struct pkt *pkt);
/* Has the kernel look at what is to be sent, for as long as it gets on with it. */
void xsk_kick(struct xsk *xsk);
/* Takes back the slots of what has been sent. */
void xsk_reap(struct xsk *xsk, struct pool *pool);
/* Packets that the kernel had no slot or no room for since it was last asked. */
uint64_t xsk_lost(struct xsk *xsk);

#endif
