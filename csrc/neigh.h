/*
 * neigh.h: the underlay as a host on the provider network sees us: next hops resolved by ARP and ND, our PAs answered for.
 *
 * Threads: entries are made and removed by the control thread (neigh_use, neigh_release); state, timers and held packets belong to
 * worker 0, to which the other workers hand packets over by a single-producer ring each. Next hops chain to their neighbour by
 * next_hop.sibling; when it is resolved worker 0 stores the `eth` word of each. Who adds work or a timer for worker 0 from
 * another thread wakes it (worker_wake).
 *
 * Time: what a packet causes happens at pkt->time, which in replay differs within a batch; only timers go by worker->now.
 */
#ifndef NEIGH_H
#define NEIGH_H
#include "pkt.h"

struct dp;
struct neigh_table;
struct worker;

enum { NEIGH_HOLD = 16, NEIGH_TRIES = 3 };
#define NEIGH_RETRY_NS 1000000000ull
#define NEIGH_FRESH_NS 30000000000ull

struct neigh_table *neigh_create(struct dp *dp);
void neigh_destroy(struct neigh_table *table);

/* Control thread. The neighbour of this next-hop address, made if new; next hop `nh` of dp's tables chains to it. Index or POOL_NONE. */
uint32_t neigh_use(struct dp *dp, unsigned family, const uint8_t *address, uint32_t nh);
void neigh_release(struct dp *dp, uint32_t neigh, uint32_t nh);

/* Worker. Takes a pushed packet (outer header complete but for its destination MAC) whose next hop's eth word is 0: holds, asks. */
void neigh_hold(struct worker *worker, uint32_t neigh, struct pkt *pkt);
/* Worker. Takes an ARP packet, an ND packet or an echo request to one of our PAs that came from the underlay: answers, learns. */
void neigh_arp(struct worker *worker, struct pkt *pkt);
void neigh_nd(struct worker *worker, struct pkt *pkt);
void neigh_echo(struct worker *worker, struct pkt *pkt);
/* Worker 0: what is due at worker->now (retries, failures, refresh). Others: nothing. */
void neigh_timers(struct worker *worker);
/* ns of the next due timer, UINT64_MAX if none. */
uint64_t neigh_next_timer(const struct dp *dp);
/* Control thread, workers at rest: what is held or handed over is dropped (stopped). */
void neigh_drop_held(struct dp *dp);

#endif
