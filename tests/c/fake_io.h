/*
 * fake_io.h: a worker's io without an engine, for tests of what takes packets: what it does with them is counted, and the balance of
 * counters can be asserted as in the engine.
 */
#ifndef FAKE_IO_H
#define FAKE_IO_H
#include "frames.h"
#include "port/io.h"

static struct arena fake_arena;
static struct io fake_io;
static struct port_stats fake_stats;

static inline void fake_io_init(uint32_t slots)
{
    assert_int_equal(arena_create(&fake_arena, slots), DP_OK);
    fake_io = (struct io){0};
    fake_stats = (struct port_stats){0};
    fake_io.stats[1] = &fake_stats;
    pool_init(&fake_io.pool, &fake_arena);
}

/* Every slot must be free again. */
static inline void fake_io_end(void)
{
    assert_int_equal(arena_free_slots(&fake_arena, &fake_io.pool, 1), fake_arena.slots);
    arena_destroy(&fake_arena);
}

#endif
