/*
 * neigh.c: provider next hops. An entry is asked for when the first packet waits for it, three times a second
 * apart, then its packets die; once known it is asked again within 30 s, by unicast, as long as it is in use.
 */
#include "host/neigh_table.h"
#include <time.h>
#include "base/wake.h"
#include "base/csum.h"
#include "host/ask.h"

/* From workers: a packet; from the control thread: what it posts. */
enum { MESSAGE_HOLD, MESSAGE_ARP, MESSAGE_ND, MESSAGE_FIX, MESSAGE_ASK, MESSAGE_ASK_ALL, MESSAGE_ANNOUNCE };

static enum dp_neigh_state neigh_state(const struct neigh *e)
{
    return (enum dp_neigh_state)atomic_load_explicit(&e->state, memory_order_relaxed);
}

static void neigh_set_state(struct neigh *e, enum dp_neigh_state state)
{
    atomic_store_explicit(&e->state, (uint8_t)state, memory_order_relaxed);
}

/* Words of MACs that a host can have. */
static bool neigh_is_unicast(uint64_t mac) { return mac != 0 && !(mac & 1); }

/* ---- worker 0: queues of what is due --------------------------------------------------------- */

static void neigh_queue_leave(struct neigh_table *table, struct neigh *e)
{
    if (e->queue == NEIGH_QUEUES)
        return;
    struct neigh_queue *queue = &table->queues[e->queue];
    *(e->before == INDEX_NONE ? &queue->first : &table->entries[e->before].behind) = e->behind;
    *(e->behind == INDEX_NONE ? &queue->last : &table->entries[e->behind].before) = e->before;
    e->queue = NEIGH_QUEUES;
}

static void neigh_queue_join(struct neigh_table *table, struct neigh *e, enum neigh_queue_id id, uint64_t now)
{
    struct neigh_queue *queue = &table->queues[id];
    neigh_queue_leave(table, e);
    e->queue = (uint8_t)id;
    e->due = now + queue->wait;
    if (e->due < table->due)
        table->due = e->due;
    e->before = queue->last;
    e->behind = INDEX_NONE;
    uint32_t index = neigh_table_index(table, e);
    *(queue->last == INDEX_NONE ? &queue->first : &table->entries[queue->last].behind) = index;
    queue->last = index;
}

/*
 * When it is asked again, should it be in use then. The same for each host and address, so that a replay
 * repeats it.
 */
static void neigh_queue_join_fresh(struct neigh_table *table, struct neigh *e, uint64_t now)
{
    uint64_t source = neigh_table_source(table);
    uint32_t hash = csum_crc32c(csum_crc32c(0, (const uint8_t *)&source, 6), e->address, 16); /* 2.12.11 */
    neigh_queue_join(table, e, (enum neigh_queue_id)(NEIGH_FRESH + hash % NEIGH_SPREAD), now);
}

/* The first due of some queues, NULL: none stands in them. */
static struct neigh *neigh_queue_first(const struct neigh_table *table, uint32_t from, uint32_t to)
{
    struct neigh *first = NULL;
    for (const struct neigh_queue *queue = table->queues + from; queue < table->queues + to; queue++) {
        struct neigh *e = queue->first == INDEX_NONE ? NULL : &table->entries[queue->first];
        if (e && (!first || e->due < first->due))
            first = e;
    }
    return first;
}

/* ---- worker 0: rounds ------------------------------------------------------------------------ */

/* One thing more may be done in this round. */
static bool neigh_round_has_room(struct neigh_table *table, uint64_t now)
{
    if (now - table->round >= NEIGH_ROUND_NS) { /* 2.12.15 */
        table->round = now;
        table->left = NEIGH_ROUND;
    }
    return table->left && table->left--;
}

/* When what has to be done at `due` can be. */
static uint64_t neigh_round_at(const struct neigh_table *table, uint64_t due)
{
    uint64_t next = table->round + NEIGH_ROUND_NS;
    return table->left == 0 && due < next ? next : due;
}

/* ---- worker 0: asking ------------------------------------------------------------------------ */

/* One more request: to the MAC it had last, else to all. */
static void neigh_ask(const struct host *host, struct neigh *e, uint64_t time)
{
    uint64_t word = atomic_load_explicit(&e->mac, memory_order_relaxed);
    uint8_t mac[8];
    memcpy(mac, &word, 8);
    e->tries++;
    neigh_queue_join(host->neigh, e, NEIGH_RETRY, host->io->now);
    ask_for(host, e->family, e->address, word ? mac : NULL, time);
}

static bool neigh_may_ask(const struct neigh *e)
{
    return e->queue != NEIGH_RETRY && neigh_state(e) != DP_NEIGH_FIXED;
}

/* Begins to ask, unless that is under way: so nobody is asked twice within a second. */
static void neigh_begin_asking(const struct host *host, struct neigh *e, uint64_t time)
{
    if (!neigh_may_ask(e))
        return;
    if (neigh_state(e) != DP_NEIGH_KNOWN)
        neigh_set_state(e, DP_NEIGH_ASKING);
    e->tries = 0;
    neigh_ask(host, e, time);
}

/* ---- held packets ---------------------------------------------------------------------------- */

static void neigh_count_held(const struct host *host, const struct pkt *pkt, int n)
{
    int64_t *held = &host->io->stats[pkt->in_port]->held;
    __atomic_store_n(held, *held + n, __ATOMIC_RELAXED);
    atomic_fetch_add_explicit(&host->neigh->slots, (uint32_t)(n * pkt->slots), memory_order_relaxed);
}

/*
 * One more packet may wait. Nobody's packets for hosts that do not answer take the slots of all others:
 * workers that ask at once may exceed the share by a packet each.
 */
static bool neigh_may_hold(const struct host *host, const struct neigh *e, const struct pkt *pkt)
{
    const uint32_t most = host->io->pool.arena->slots / NEIGH_SHARE;
    return atomic_load_explicit(&e->held, memory_order_relaxed) < NEIGH_HOLD && /* 2.12.5 */
           atomic_load_explicit(&host->neigh->slots, memory_order_relaxed) + pkt->slots <= most;
}

/*
 * Any worker: sends, if the neighbour is known. Both MACs are those of now: the device may be another than
 * when it was pushed.
 */
static bool neigh_send_known(const struct host *host, const struct neigh *e, struct pkt *pkt)
{
    uint64_t mac = atomic_load_explicit(&e->mac, memory_order_relaxed);
    uint64_t source = neigh_table_source(host->neigh);
    if (!mac)
        return false;
    next_hop_put_macs(pkt->data, next_hop_eth(mac, source), next_hop_rest(source));
    if (host->underlay)
        io_send(host->io, host->underlay, pkt);
    else
        io_drop(host->io, pkt, DROP_STOPPED); /* 4.5.6 */
    return true;
}

/*
 * Worker 0: what waits for the entry goes, or is dropped if there is a reason. Packets stay in their place
 * until they are flushed.
 */
static void neigh_let_go(const struct host *host, struct neigh *e, enum drop reason)
{
    struct neigh_hold *hold = &host->neigh->holds[neigh_table_index(host->neigh, e)];
    uint8_t n = atomic_load_explicit(&e->held, memory_order_relaxed);
    for (uint8_t i = 0; i < n; i++) {
        neigh_count_held(host, &hold->pkts[i], -1);
        if (reason || !neigh_send_known(host, e, &hold->pkts[i])) /* 2.12.7 */
            io_drop(host->io, &hold->pkts[i], reason);
    }
    atomic_store_explicit(&e->held, 0, memory_order_relaxed);
}

/* Worker 0: neigh_may_hold() has said so. */
static void neigh_keep(const struct host *host, struct neigh *e, struct pkt *pkt)
{
    struct neigh_table *table = host->neigh;
    uint8_t n = atomic_load_explicit(&e->held, memory_order_relaxed);
    neigh_count_held(host, pkt, 1);
    table->holds[neigh_table_index(table, e)].pkts[n] = *pkt;
    atomic_store_explicit(&e->held, (uint8_t)(n + 1), memory_order_relaxed);
    neigh_begin_asking(host, e, pkt->time); /* 2.12.6 */
}

/* ---- worker 0: what becomes of an entry ------------------------------------------------------ */

/* No longer due: it has a MAC for good, or none. */
static void neigh_settle(const struct host *host, struct neigh *e, uint64_t mac, enum dp_neigh_state state)
{
    neigh_queue_leave(host->neigh, e);
    neigh_table_set_mac(host->neigh, e, mac);
    neigh_set_state(e, state);
    neigh_let_go(host, e, mac ? DROP_NONE : DROP_NEIGH_FAILED);
}

/* It has said its MAC. */
static void neigh_heard(const struct host *host, struct neigh *e, const uint8_t *mac)
{
    if (neigh_state(e) == DP_NEIGH_FIXED || !neigh_is_unicast(mac_word_alone(mac))) /* 3.2.2, 3.2.3 */
        return;
    neigh_settle(host, e, mac_word_alone(mac), DP_NEIGH_KNOWN);
    neigh_queue_join_fresh(host->neigh, e, host->io->now);
}

/* It has not answered. That is known for as long as a MAC would be. */
static void neigh_fail(const struct host *host, struct neigh *e)
{
    neigh_settle(host, e, 0, DP_NEIGH_FAILED);
    neigh_queue_join_fresh(host->neigh, e, host->io->now);
}

static void neigh_retry(const struct host *host, struct neigh *e)
{
    if (e->tries < NEIGH_TRIES) /* 2.12.8 */
        neigh_ask(host, e, host->io->now);
    else
        neigh_fail(host, e); /* 2.12.8, 2.12.13 */
}

/* Heard of, or not, long ago. */
static void neigh_refresh(const struct host *host, struct neigh *e)
{
    if (atomic_load_explicit(&e->users, memory_order_relaxed) == 0)
        neigh_settle(host, e, 0, DP_NEIGH_IDLE); /* 2.12.12 */
    else if (neigh_state(e) == DP_NEIGH_FAILED)
        neigh_queue_join_fresh(host->neigh, e, host->io->now);
    else
        neigh_begin_asking(host, e, host->io->now); /* 2.12.11 */
}

bool neigh_learn(const struct host *host, unsigned family, const uint8_t *address, const uint8_t *mac)
{
    struct neigh *e = neigh_table_find(host->neigh, family, address);
    /* 3.2.1 */
    if (!e || (atomic_load_explicit(&e->users, memory_order_relaxed) == 0 && e->queue != NEIGH_RETRY))
        return false;
    neigh_heard(host, e, mac);
    return true;
}

/* ---- messages to worker 0 -------------------------------------------------------------------- */

/*
 * A message about an entry keeps it from being made again for another address: from before it can be taken
 * until all that it causes is done. Messages about none are about entry 0, which is nobody's.
 */
static void neigh_expect(struct neigh_table *table, uint32_t neigh)
{
    atomic_fetch_add_explicit(&table->entries[neigh].on_way, 1, memory_order_relaxed);
}

static void neigh_arrived(struct neigh_table *table, uint32_t neigh)
{
    atomic_fetch_sub_explicit(&table->entries[neigh].on_way, 1, memory_order_release);
}

/* Any other worker. The packet counts as held while it is on its way. */
static void neigh_post_pkt(const struct host *host, uint8_t kind, uint32_t neigh, struct pkt *pkt)
{
    struct message message = {.kind = kind, .neigh = neigh, .pkt = *pkt};
    bool wake_it;
    neigh_expect(host->neigh, neigh);
    neigh_count_held(host, pkt, 1);
    if (!ring_push(&host->neigh->rings[host->io->id], &message, &wake_it)) {
        neigh_arrived(host->neigh, neigh);
        neigh_count_held(host, pkt, -1);
        io_drop(host->io, pkt, DROP_NEIGH_FULL); /* 4.5.5 */
    } else if (wake_it) {
        wake(host->neigh->wake_fd);
    }
}

bool neigh_hand_over(const struct host *host, struct pkt *pkt)
{
    if (host->io->id)
        neigh_post_pkt(host, pkt->l3_type == PKT_L3_ARP ? MESSAGE_ARP : MESSAGE_ND, 0, pkt);
    return host->io->id;
}

void neigh_hold(const struct host *host, uint32_t neigh, struct pkt *pkt)
{
    struct neigh *e = &host->neigh->entries[neigh];
    if (neigh_send_known(host, e, pkt))
        return;
    if (!neigh_may_hold(host, e, pkt))
        io_drop(host->io, pkt, DROP_NEIGH_FULL);
    else if (host->io->id == 0)
        neigh_keep(host, e, pkt);
    else
        neigh_post_pkt(host, MESSAGE_HOLD, neigh, pkt);
}

/* Worker 0. */
static void neigh_run(const struct host *host, const struct message *message)
{
    struct neigh *e = &host->neigh->entries[message->neigh];
    switch (message->kind) {
    case MESSAGE_FIX:
        neigh_settle(host, e, message->mac, DP_NEIGH_FIXED);
        break;
    case MESSAGE_ASK:
        neigh_begin_asking(host, e, host->io->now);
        break;
    case MESSAGE_ASK_ALL:
        host->neigh->ask_at = host->neigh->due = 0;     /* neigh_due() does it, in rounds */
        break;
    case MESSAGE_ANNOUNCE:
        ask_announce(host, message->family, message->address);
        break;
    }
    neigh_arrived(host->neigh, message->neigh);
}

/* Worker 0: the packet of a message, in a place of ours. */
static struct pkt *neigh_take_pkt(const struct host *host, const struct message *message)
{
    struct pkt *pkt = io_make(host->io);
    *pkt = message->pkt;
    neigh_count_held(host, pkt, -1);
    return pkt;
}

/* The next message of a ring. What the control thread posts is ours to say: in rounds. */
static bool neigh_next_message(const struct host *host, struct neigh_taking *taking, struct message *message)
{
    struct ring *ring = &host->neigh->rings[taking->ring];
    if (taking->taken == DP_BATCH || ring_empty(ring))
        return false;
    if (taking->ring == 0 && !neigh_round_has_room(host->neigh, host->io->now))
        return false;
    taking->taken++;
    return ring_pop(ring, message);
}

struct pkt *neigh_take(const struct host *host, struct neigh_taking *taking)
{
    struct message message;
    for (; taking->ring < host->neigh->workers; taking->ring++, taking->taken = 0)
        while (neigh_next_message(host, taking, &message)) {
            if (message.kind >= MESSAGE_FIX) {
                neigh_run(host, &message);
                continue;
            }
            struct pkt *pkt = neigh_take_pkt(host, &message);
            if (message.kind == MESSAGE_HOLD)
                neigh_hold(host, message.neigh, pkt);
            neigh_arrived(host->neigh, message.neigh);
            if (message.kind != MESSAGE_HOLD)
                return pkt;
        }
    return NULL;
}

/* Control thread: it is worker 0's to do. Without threads that is who we are. */
static void neigh_post(struct neigh_table *table, const struct host *at_rest, const struct message *message)
{
    bool wake_it;
    neigh_expect(table, message->neigh);
    if (at_rest) {
        neigh_run(at_rest, message);
        io_flush(at_rest->io);
        return;
    }
    while (!ring_push(&table->rings[0], message, &wake_it)) {
        wake(table->wake_fd);
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    wake(table->wake_fd);
}

void neigh_announce(struct neigh_table *table, const struct host *at_rest, unsigned family,
                    const uint8_t *address)
{
    struct message message = {.kind = MESSAGE_ANNOUNCE, .family = (uint8_t)family};
    addr_widen(message.address, family, address);
    neigh_post(table, at_rest, &message);
}

void neigh_ask_all(struct neigh_table *table, const struct host *at_rest)
{
    neigh_post(table, at_rest, &(struct message){.kind = MESSAGE_ASK_ALL});
}

/* About the entry with this address, which is made if there is none. */
static int neigh_post_about(struct neigh_table *table, const struct host *at_rest, unsigned family,
                            const uint8_t *address, struct message *message)
{
    if ((family != DP_IPV4 && family != DP_IPV6) || is_any(family, address))
        return DP_EINVAL;
    neigh_reclaim(table);
    bool probe = message->kind == MESSAGE_ASK, is_new = !neigh_table_find(table, family, address);
    if (probe && is_new && table->probed == NEIGH_PROBES)
        return DP_EFULL;
    struct neigh *e = neigh_table_make(table, family, address);
    if (!e)
        return DP_ENOMEM;
    if (is_new || !probe)
        neigh_table_set_probed(table, e, probe);
    message->neigh = neigh_table_index(table, e);
    neigh_post(table, at_rest, message);
    return DP_OK;
}

int neigh_fix(struct neigh_table *table, const struct host *at_rest, unsigned family, const uint8_t *address,
              const uint8_t *mac)
{
    struct message message = {.kind = MESSAGE_FIX, .mac = mac_word_alone(mac)};
    return neigh_is_unicast(message.mac) ? neigh_post_about(table, at_rest, family, address, &message)
                                         : DP_EINVAL;
}

int neigh_probe(struct neigh_table *t, const struct host *at_rest, unsigned family, const uint8_t *address)
{
    return neigh_post_about(t, at_rest, family, address, &(struct message){.kind = MESSAGE_ASK});
}

/* ---- timers ---------------------------------------------------------------------------------- */

/* Goes on asking for all in use, as far as this round allows. */
static void neigh_ask_users(const struct host *host)
{
    struct neigh_table *table = host->neigh;
    uint32_t n = neigh_table_count(table), looks = 0;
    for (; table->ask_at < n && looks < NEIGH_LOOKS; table->ask_at++, looks++) {
        struct neigh *e = &table->entries[table->ask_at];
        if (atomic_load_explicit(&e->users, memory_order_relaxed) == 0 || !neigh_may_ask(e))
            continue;
        if (!neigh_round_has_room(table, host->io->now))
            return;
        neigh_begin_asking(host, e, host->io->now);
    }
    if (table->ask_at >= n)
        table->ask_at = INDEX_NONE;
}

/* When the next round has something to do. */
static uint64_t neigh_next_due(const struct neigh_table *table)
{
    const struct neigh *first = neigh_queue_first(table, NEIGH_RETRY, NEIGH_QUEUES);
    if (table->ask_at != INDEX_NONE)
        return neigh_round_at(table, 0);
    return first ? neigh_round_at(table, first->due) : UINT64_MAX;
}

/* The next of some queues that is due in this round, NULL: none. */
static struct neigh *neigh_due_in(const struct host *host, uint32_t from, uint32_t to)
{
    struct neigh *e = neigh_queue_first(host->neigh, from, to);
    return e && e->due <= host->io->now && neigh_round_has_room(host->neigh, host->io->now) ? e : NULL;
}

void neigh_due(const struct host *host)
{
    struct neigh_table *table = host->neigh;
    if (host->io->now < table->due)
        return;
    struct neigh *e;
    while ((e = neigh_due_in(host, NEIGH_RETRY, NEIGH_FRESH)))
        neigh_retry(host, e);
    while ((e = neigh_due_in(host, NEIGH_FRESH, NEIGH_QUEUES)))
        neigh_refresh(host, e);
    neigh_ask_users(host);
    table->due = neigh_next_due(table);
}

uint64_t neigh_next_timer(const struct neigh_table *table)
{
    for (uint32_t i = 1; i < table->workers; i++)
        if (!ring_empty(&table->rings[i]))
            return 0;
    return ring_empty(&table->rings[0]) ? neigh_next_due(table) : neigh_round_at(table, 0);
}

/* ---- the control thread's side --------------------------------------------------------------- */

void neigh_drop_held(const struct host *host)
{
    struct neigh_table *table = host->neigh;
    struct message message;
    for (uint32_t i = 0; i < table->workers; i++)
        while (ring_pop(&table->rings[i], &message)) {
            if (message.kind >= MESSAGE_FIX) {
                neigh_run(host, &message);
                continue;
            }
            io_drop(host->io, neigh_take_pkt(host, &message), DROP_STOPPED); /* 4.5.6 */
            neigh_arrived(table, message.neigh);
        }
    io_flush(host->io);
    for (uint32_t i = 0; i < neigh_table_count(table); i++)
        neigh_let_go(host, &table->entries[i], DROP_STOPPED); /* 4.5.6 */
}

/* Any thread. False: nobody has a use for it, or it is just made again for another address. */
static bool neigh_look(const struct neigh *e, struct dp_neigh *seen)
{
    uint32_t life = atomic_load_explicit(&e->life, memory_order_acquire);
    uint64_t mac = atomic_load_explicit(&e->mac, memory_order_acquire), words[2];
    for (unsigned i = 0; i < 2; i++)
        words[i] = __atomic_load_n((const uint64_t *)(const void *)(e->address + 8 * i), __ATOMIC_ACQUIRE);
    *seen = (struct dp_neigh){.family = __atomic_load_n(&e->family, __ATOMIC_ACQUIRE),
                              .state = atomic_load_explicit(&e->state, memory_order_acquire),
                              .held = atomic_load_explicit(&e->held, memory_order_acquire)};
    memcpy(seen->address, words, 16);
    memcpy(seen->mac, &mac, 6);
    bool wanted = seen->state != DP_NEIGH_IDLE || atomic_load_explicit(&e->users, memory_order_acquire);
    return wanted && life % 2 == 0 && atomic_load_explicit(&e->life, memory_order_relaxed) == life;
}

uint32_t neigh_read(const struct neigh_table *table, struct dp_neigh *out, uint32_t capacity)
{
    uint32_t count = neigh_table_count(table), n = 0;
    for (const struct neigh *e = table->entries; e < table->entries + count; e++) {
        struct dp_neigh seen;
        if (!neigh_look(e, &seen))
            continue;
        if (n < capacity)
            out[n] = seen;
        n++;
    }
    return n;
}
