/*
 * neigh.h: provider next hops, resolved by ARP and ND, and the packets that wait for them.
 *
 * Threads. The control thread makes entries (neigh_use, dp_neigh_set, dp_neigh_probe); they stay for the
 * engine's life and their indexes are never reused. State, timers and held packets belong to worker 0: the
 * others hand their packets over to it by a single-producer ring each, and so does the control thread with
 * its wishes. Without threads (dp_poll) the control thread is worker 0.
 *
 * Next hops chain to their neighbour by next_hop.sibling. The control thread writes the chain; worker 0 walks
 * it, between two of its quiescent points, to store the `eth` word of each. Hence a next hop that was
 * released may not be given to neigh_use() again before every worker has been quiescent.
 *
 * Time: deadlines count from worker->now; a request carries the time of the packet that caused it.
 */
#ifndef NEIGH_H
#define NEIGH_H
#include "pkt.h"

struct dp;
struct neigh_table;
struct worker;

/* Packets that wait for one neighbour; for all of them, one part of so many of the arena's slots. */
enum { NEIGH_HOLD = 16, NEIGH_SHARE = 4, NEIGH_TRIES = 3 };
#define NEIGH_RETRY_NS 1000000000ull
#define NEIGH_FRESH_NS 30000000000ull

struct neigh_table *neigh_create(struct dp *dp);
/* Nothing may be held any more: neigh_drop_held() comes first. */
void neigh_destroy(struct neigh_table *table);

/*
 * Control thread. The neighbour of this next-hop address, made if new; next hop `nh` of dp's tables, whose
 * header is made, chains to it and gets its MAC if that is known. Index, or POOL_NONE when out of memory.
 * `address`: 4 or 16 bytes.
 */
uint32_t neigh_use(struct dp *dp, unsigned family, const uint8_t *address, uint32_t nh);
void neigh_release(struct dp *dp, uint32_t neigh, uint32_t nh);
/* Control thread: the underlay's MAC, of which every eth word has two bytes: all do when this returns. */
void neigh_underlay(struct dp *dp, const uint8_t *mac);
/* Control thread: has worker 0 announce a PA (underlay_announce), ask for all next hops in use. */
void neigh_announce(struct dp *dp, unsigned family, const uint8_t *address);
void neigh_ask_all(struct dp *dp);
/* Control thread, workers at rest: what is held or handed over is dropped (stopped). */
void neigh_drop_held(struct dp *dp);

/*
 * Worker. Takes a pushed packet (outer header complete but for its destination MAC) whose next hop's eth word
 * is 0: holds, asks.
 */
void neigh_hold(struct worker *worker, uint32_t neigh, struct pkt *pkt);
/*
 * Worker. An ARP or ND packet from the underlay, which is worker 0's to handle: any other hands it over, and
 * it ends here.
 */
bool neigh_hand_over(struct worker *worker, struct pkt *pkt);
/* Worker 0: a neighbour has said its MAC. False: it is no next hop in use. */
bool neigh_learn(struct worker *worker, unsigned family, const uint8_t *address, const uint8_t *mac);
/* Worker 0: what was handed over, and what is due at worker->now. Others: nothing. */
void neigh_timers(struct worker *worker);
/* Worker 0: ns of the next due timer, 0 when something was handed over, UINT64_MAX if none. */
uint64_t neigh_next_timer(const struct dp *dp);

#endif
