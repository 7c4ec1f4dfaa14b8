/*
 * ring.h: messages from one thread to another, without a lock. Called by neigh, one ring for each sender.
 *
 * One producer, one consumer. The consumer may block when it has found the ring empty after its last pop;
 * ring_push() says when it may have done so and must be woken: each side first stores its own cursor and then
 * loads the other's, in one total order, so either the consumer sees the message or the producer sees that it
 * has caught up.
 */
#ifndef RING_H
#define RING_H
#include <stdatomic.h>
#include "pkt/pkt.h"

enum { RING_SIZE = 256 };

struct message {
    uint8_t kind;                       /* of the user */
    uint8_t family;
    uint32_t neigh;
    union {
        struct pkt pkt;
        uint8_t address[16];
        uint64_t mac;
    };
};

struct ring {
    _Alignas(64) _Atomic uint32_t head; /* the consumer's: messages taken */
    _Alignas(64) _Atomic uint32_t tail; /* the producer's: messages put in */
    _Alignas(64) struct message slots[RING_SIZE];
};

/* Producer. False: full. *wake: the consumer may be asleep. */
static inline bool ring_push(struct ring *ring, const struct message *message, bool *wake)
{
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    if (tail - atomic_load_explicit(&ring->head, memory_order_acquire) == RING_SIZE)
        return false;
    ring->slots[tail % RING_SIZE] = *message;
    atomic_store(&ring->tail, tail + 1);
    *wake = atomic_load(&ring->head) == tail;
    return true;
}

/* Consumer. False: empty. */
static inline bool ring_pop(struct ring *ring, struct message *message)
{
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    if (atomic_load(&ring->tail) == head)
        return false;
    *message = ring->slots[head % RING_SIZE];
    atomic_store(&ring->head, head + 1);
    return true;
}

/* Either side. */
static inline bool ring_empty(const struct ring *ring)
{
    return atomic_load(&ring->tail) == atomic_load(&ring->head);
}

#endif
