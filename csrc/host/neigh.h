/*
 * neigh.h: provider next hops, resolved by ARP and ND, and the packets that wait for them. Called by
 * control/ (use, release), the paths (hold, hand over) and workers' timers.
 *
 * Threads. The control thread makes entries (neigh_use, neigh_fix, neigh_probe) and gives them back when
 * nobody has a use for them (neigh_reclaim). State, timers and held packets belong to worker 0: the others
 * hand their packets over to it by a single-producer ring each, and so does the control thread with what it
 * posts. Without threads (dp_poll) the control thread is worker 0.
 *
 * Next hops chain to their neighbour by next_hop.sibling. The control thread writes the chain; worker 0 walks
 * it, between two of its quiescent points, to store the `eth` word of each. Hence a next hop that was
 * released may not be given to neigh_use() again before every worker has been quiescent.
 *
 * Time: deadlines count from io->now; a request carries the time of the packet that caused it. What we say
 * of our own accord, and what times out, comes in rounds: NEIGH_ROUND at most, NEIGH_ROUND_NS apart, so that
 * packets are served between them and a device's queue can take them.
 */
#ifndef NEIGH_H
#define NEIGH_H
#include "base/qsbr.h"
#include "host/host.h"

/* Packets that wait for one neighbour; for all of them, one part of so many of the arena's slots. */
enum { NEIGH_HOLD = 16, NEIGH_SHARE = 4, NEIGH_TRIES = 3 };
/* Addresses that were probed and are no next hop's, at a time. */
enum { NEIGH_PROBES = 4096 };
enum { NEIGH_ROUND = 64, NEIGH_ROUND_NS = 1000000 };
#define NEIGH_RETRY_NS 1000000000ull
/*
 * When a known one is asked again: this long after it was heard of at most, some 250 ms earlier by its
 * address.
 */
#define NEIGH_FRESH_NS 30000000000ull
#define NEIGH_SPREAD_NS 250000000ull

/* workers; next_hops: the tables' array, which never moves; wake_fd: of worker 0. NULL: out of memory. */
struct neigh_table *neigh_create(uint32_t workers, struct next_hop *hops, struct qsbr *qsbr, int wake_fd);
/* Nothing may be held any more: neigh_drop_held() comes first. */
void neigh_destroy(struct neigh_table *table);

/*
 * Control thread. The neighbour of this next-hop address, made if new; next hop `nh`, whose
 * header is made, chains to it and gets its MAC if that is known. Index, or INDEX_NONE when out of memory.
 * `address`: 4 or 16 bytes.
 */
uint32_t neigh_use(struct neigh_table *table, unsigned family, const uint8_t *address, uint32_t nh);
void neigh_release(struct neigh_table *table, uint32_t neigh, uint32_t nh);
/*
 * Control thread: entries that nobody has a use for any more are made again for other addresses. No next hop
 * is just between neigh_release() and neigh_use(): it still has the index.
 */
void neigh_reclaim(struct neigh_table *table);
/* Control thread: the underlay's MAC is another: every eth word has its part of it when this returns. */
void neigh_underlay(struct neigh_table *table, const uint8_t *mac);

/*
 * Control thread: posted to worker 0. `at_rest`: worker 0's view when there are no threads, which then does
 * it at once; else NULL. Addresses that are not unicast, MACs neither: DP_EINVAL.
 */
/* Announces a PA (ask_announce), asks for all next hops in use. */
void neigh_announce(struct neigh_table *table, const struct host *at_rest, unsigned family,
                    const uint8_t *address);
void neigh_ask_all(struct neigh_table *table, const struct host *at_rest);
/* A MAC for good; asks now. 0, DP_EINVAL, DP_ENOMEM or, NEIGH_PROBES others being asked for, DP_EFULL. */
int neigh_fix(struct neigh_table *table, const struct host *at_rest, unsigned family, const uint8_t *address,
              const uint8_t *mac);
int neigh_probe(struct neigh_table *t, const struct host *at_rest, unsigned family, const uint8_t *address);
/* Control thread, workers at rest, worker 0's view: what is held or handed over is dropped (stopped). */
void neigh_drop_held(const struct host *host);
/*
 * Any thread: copies up to `capacity` entries that are in use or were asked for; returns how many there are.
 */
uint32_t neigh_read(const struct neigh_table *table, struct dp_neigh *out, uint32_t capacity);

/*
 * Worker. Takes a pushed packet (outer header complete but for its destination MAC) whose next hop's eth word
 * is 0: holds, asks. There is an underlay.
 */
void neigh_hold(const struct host *host, uint32_t neigh, struct pkt *pkt);
/*
 * Worker. An ARP or ND packet from the underlay, which is worker 0's to handle: any other hands it over, and
 * it ends here.
 */
bool neigh_hand_over(const struct host *host, struct pkt *pkt);
/* Worker 0: a neighbour has said its MAC. False: it is no next hop in use. */
bool neigh_learn(const struct host *host, unsigned family, const uint8_t *address, const uint8_t *mac);
/*
 * Worker 0: what was handed over, up to the next ARP or ND packet from the underlay, which is returned,
 * parsed; NULL: that was all, or a batch of each ring: who fills it all the time does not keep us here.
 * *taking begins as {0}.
 */
struct neigh_taking { uint32_t ring, taken; };
struct pkt *neigh_take(const struct host *host, struct neigh_taking *taking);
/* Worker 0: what is due at io->now. */
void neigh_due(const struct host *host);
/* Worker 0: ns of the next due timer, 0 when something was handed over, UINT64_MAX if none. */
uint64_t neigh_next_timer(const struct neigh_table *table);

#endif
