/*
 * neigh.c: provider next hops. An entry is asked for when the first packet waits for it, three times a second
 * apart, then its packets die; once known it is asked again every 30 s, by unicast, as long as it is in use.
 */
#include "host/neigh_table.h"
#include <time.h>
#include "base/wake.h"
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

static uint64_t neigh_word(const uint8_t *mac)
{
    uint64_t word = 0;
    memcpy(&word, mac, 6);
    return word;
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
    e->before = queue->last;
    e->behind = INDEX_NONE;
    uint32_t index = neigh_table_index(table, e);
    *(queue->last == INDEX_NONE ? &queue->first : &table->entries[queue->last].behind) = index;
    queue->last = index;
}

/* The entry that is due, NULL: none yet. */
static struct neigh *neigh_queue_due(struct neigh_table *table, enum neigh_queue_id id, uint64_t now)
{
    uint32_t first = table->queues[id].first;
    return first != INDEX_NONE && table->entries[first].due <= now ? &table->entries[first] : NULL;
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

/* Begins to ask, unless that is under way: so nobody is asked twice within a second. */
static void neigh_begin_asking(const struct host *host, struct neigh *e, uint64_t time)
{
    if (e->queue == NEIGH_RETRY || neigh_state(e) == DP_NEIGH_FIXED)
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
 * One more packet may wait. Nobody's packets for hosts that do not answer take the slots of all others: workers that ask at
 * once may exceed the share by a packet each.
 */
static bool neigh_may_hold(const struct host *host, const struct neigh *e, const struct pkt *pkt)
{
    const struct neigh_table *table = host->neigh;
    return atomic_load_explicit(&e->held, memory_order_relaxed) < NEIGH_HOLD &&
           atomic_load_explicit(&table->slots, memory_order_relaxed) + pkt->slots <= host->io->pool.arena->slots / NEIGH_SHARE;
}

/* Any worker: fills in the MAC and sends, if the neighbour is known. */
static bool neigh_send_known(const struct host *host, const struct neigh *e, struct pkt *pkt)
{
    uint64_t word = neigh_table_eth(host->neigh, atomic_load_explicit(&e->mac, memory_order_relaxed));
    if (!word)
        return false;
    memcpy(pkt->data, &word, 8);
    if (host->underlay)
        io_send(host->io, host->underlay, pkt);
    else
        io_drop(host->io, pkt, DROP_STOPPED);
    return true;
}

/*
 * Worker 0: what waits for the entry goes, or is dropped if there is a reason. Packets stay in their place
 * until they are flushed.
 */
static void neigh_let_go(const struct host *host, struct neigh *e, enum drop reason)
{
    struct neigh_hold *hold = &host->neigh->holds[neigh_table_index(host->neigh, e)];
    uint32_t n = atomic_load_explicit(&e->held, memory_order_relaxed);
    for (uint32_t i = 0; i < n; i++) {
        neigh_count_held(host, &hold->pkts[i], -1);
        if (reason || !neigh_send_known(host, e, &hold->pkts[i]))
            io_drop(host->io, &hold->pkts[i], reason);
    }
    atomic_store_explicit(&e->held, 0, memory_order_relaxed);
}

/* Worker 0: neigh_may_hold() has said so. */
static void neigh_keep(const struct host *host, struct neigh *e, struct pkt *pkt)
{
    struct neigh_table *table = host->neigh;
    uint32_t n = atomic_load_explicit(&e->held, memory_order_relaxed);
    neigh_count_held(host, pkt, 1);
    table->holds[neigh_table_index(table, e)].pkts[n] = *pkt;
    atomic_store_explicit(&e->held, n + 1, memory_order_relaxed);
    neigh_begin_asking(host, e, pkt->time);
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
    if (neigh_state(e) == DP_NEIGH_FIXED || !neigh_is_unicast(neigh_word(mac)))
        return;
    neigh_settle(host, e, neigh_word(mac), DP_NEIGH_KNOWN);
    neigh_queue_join(host->neigh, e, NEIGH_FRESH, host->io->now);
}

static void neigh_retry(const struct host *host, struct neigh *e)
{
    if (e->tries < NEIGH_TRIES)
        neigh_ask(host, e, host->io->now);
    else
        neigh_settle(host, e, 0, DP_NEIGH_FAILED);
}

/* Heard of long ago. */
static void neigh_refresh(const struct host *host, struct neigh *e)
{
    if (atomic_load_explicit(&e->users, memory_order_relaxed) == 0)
        neigh_settle(host, e, 0, DP_NEIGH_IDLE);
    else
        neigh_begin_asking(host, e, host->io->now);
}

bool neigh_learn(const struct host *host, unsigned family, const uint8_t *address, const uint8_t *mac)
{
    struct neigh *e = neigh_table_find(host->neigh, family, address);
    if (!e || (atomic_load_explicit(&e->users, memory_order_relaxed) == 0 && e->queue != NEIGH_RETRY))
        return false;
    neigh_heard(host, e, mac);
    return true;
}

/* ---- messages to worker 0 -------------------------------------------------------------------- */

/* Any other worker. The packet counts as held while it is on its way. */
static void neigh_post_pkt(const struct host *host, uint8_t kind, uint32_t neigh, struct pkt *pkt)
{
    struct message message = {.kind = kind, .neigh = neigh, .pkt = *pkt};
    bool wake_it;
    neigh_count_held(host, pkt, 1);
    if (!ring_push(&host->neigh->rings[host->io->id], &message, &wake_it)) {
        neigh_count_held(host, pkt, -1);
        io_drop(host->io, pkt, DROP_NEIGH_FULL);
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

static void neigh_ask_users(const struct host *host)
{
    struct neigh_table *table = host->neigh;
    uint32_t n = neigh_table_count(table);
    for (struct neigh *e = table->entries; e < table->entries + n; e++)
        if (atomic_load_explicit(&e->users, memory_order_relaxed))
            neigh_begin_asking(host, e, host->io->now);
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
        neigh_ask_users(host);
        break;
    case MESSAGE_ANNOUNCE:
        ask_announce(host, message->family, message->address);
        break;
    }
}

/* Worker 0: the packet of a message, in a place of ours. */
static struct pkt *neigh_take_pkt(const struct host *host, const struct message *message)
{
    struct pkt *pkt = io_make(host->io);
    *pkt = message->pkt;
    neigh_count_held(host, pkt, -1);
    return pkt;
}

struct pkt *neigh_take(const struct host *host, struct neigh_taking *taking)
{
    struct message message;
    for (; taking->ring < host->neigh->workers; taking->ring++, taking->taken = 0)
        while (taking->taken < RING_SIZE && ring_pop(&host->neigh->rings[taking->ring], &message)) {
            taking->taken++;
            if (message.kind >= MESSAGE_FIX) {
                neigh_run(host, &message);
                continue;
            }
            struct pkt *pkt = neigh_take_pkt(host, &message);
            if (message.kind != MESSAGE_HOLD)
                return pkt;
            neigh_hold(host, message.neigh, pkt);
        }
    return NULL;
}

/* Control thread: it is worker 0's to do. Without threads that is who we are. */
static void neigh_post(struct neigh_table *table, const struct host *at_rest, const struct message *message)
{
    bool wake_it;
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

void neigh_announce(struct neigh_table *table, const struct host *at_rest, unsigned family, const uint8_t *address)
{
    struct message message = {.kind = MESSAGE_ANNOUNCE, .family = (uint8_t)family};
    neigh_table_widen(message.address, family, address);
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
    struct neigh *e = neigh_table_make(table, family, address);
    if (!e)
        return DP_ENOMEM;
    message->neigh = neigh_table_index(table, e);
    neigh_post(table, at_rest, message);
    return DP_OK;
}

int neigh_fix(struct neigh_table *table, const struct host *at_rest, unsigned family, const uint8_t *address,
              const uint8_t *mac)
{
    struct message message = {.kind = MESSAGE_FIX, .mac = neigh_word(mac)};
    return neigh_is_unicast(message.mac) ? neigh_post_about(table, at_rest, family, address, &message) : DP_EINVAL;
}

int neigh_probe(struct neigh_table *table, const struct host *at_rest, unsigned family, const uint8_t *address)
{
    return neigh_post_about(table, at_rest, family, address, &(struct message){.kind = MESSAGE_ASK});
}

/* ---- timers ---------------------------------------------------------------------------------- */

void neigh_due(const struct host *host)
{
    struct neigh_table *table = host->neigh;
    struct neigh *e;
    while ((e = neigh_queue_due(table, NEIGH_RETRY, host->io->now)))
        neigh_retry(host, e);
    while ((e = neigh_queue_due(table, NEIGH_FRESH, host->io->now)))
        neigh_refresh(host, e);
}

uint64_t neigh_next_timer(const struct neigh_table *table)
{
    uint64_t due = UINT64_MAX;
    for (uint32_t i = 0; i < table->workers; i++)
        if (!ring_empty(&table->rings[i]))
            return 0;
    for (const struct neigh_queue *queue = table->queues; queue < table->queues + NEIGH_QUEUES; queue++)
        if (queue->first != INDEX_NONE && table->entries[queue->first].due < due)
            due = table->entries[queue->first].due;
    return due;
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
            neigh_count_held(host, &message.pkt, -1);
            io_drop(host->io, &message.pkt, DROP_STOPPED);
        }
    io_flush(host->io);
    for (uint32_t i = 0; i < neigh_table_count(table); i++)
        neigh_let_go(host, &table->entries[i], DROP_STOPPED);
}

uint32_t neigh_read(const struct neigh_table *table, struct dp_neigh *out, uint32_t capacity)
{
    uint32_t count = neigh_table_count(table), n = 0;
    for (const struct neigh *e = table->entries; e < table->entries + count; e++) {
        if (neigh_state(e) == DP_NEIGH_IDLE && atomic_load_explicit(&e->users, memory_order_relaxed) == 0)
            continue;
        if (n < capacity) {
            uint64_t mac = atomic_load_explicit(&e->mac, memory_order_relaxed);
            out[n] = (struct dp_neigh){.family = e->family,
                                       .state = (uint8_t)neigh_state(e),
                                       .held = atomic_load_explicit(&e->held, memory_order_relaxed)};
            memcpy(out[n].address, e->address, 16);
            memcpy(out[n].mac, &mac, 6);
        }
        n++;
    }
    return n;
}
