/*
 * spin.h: whether an idle worker goes on looking for packets before it blocks, by what came lately. To be
 * woken takes longer than a packet does; but on a machine with few CPUs who looks takes one from the VMs. So
 * it looks where packets come soon and few: those are waited for. What comes by a port that is set to sleep
 * does not count. Called by workers; one thread each.
 */
#ifndef SPIN_H
#define SPIN_H
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

enum { SPIN_STRETCH_NS = 1000000, SPIN_MUCH = 64 << 10, SPIN_SURE = 8 };

/* Times in ns. `limit` is the owner's to set, 0: never. */
struct spin {
    uint64_t limit;             /* how long it looks */
    uint64_t last;              /* when packets came last */
    uint64_t begun, before;     /* of a stretch: when, and how many bytes had come until then */
    uint32_t soon;              /* 0..SPIN_SURE: one more for each wait that was short, half for a long one */
    bool much;                  /* more than SPIN_MUCH bytes came in the stretch before */
};

/* Packets came. bytes: since the beginning of the world. */
static inline void spin_received(struct spin *spin, uint64_t now, uint64_t bytes)
{
    if (now - spin->last > 2 * spin->limit)     /* who was woken was so later than who looks */
        spin->soon /= 2;
    else if (spin->soon < SPIN_SURE)
        spin->soon++;
    spin->last = now;
    if (now - spin->begun < SPIN_STRETCH_NS)
        return;
    spin->much = (bytes - spin->before) * SPIN_STRETCH_NS > SPIN_MUCH * (now - spin->begun);
    spin->begun = now;
    spin->before = bytes;
}

/*
 * Nothing came. True: look again. Who else wants this CPU has had it in between: it may be the one whose
 * answer is waited for, and a scheduler lets a thread that looks go on for a slice.
 */
static inline bool spin_on(const struct spin *spin, uint64_t now)
{
    bool on = now - spin->last < spin->limit && spin->soon >= SPIN_SURE / 2 && !spin->much;
    return on && sched_yield() == 0;    /* it never fails */
}

#endif
