/*
 * neigh.c: provider next hops. An entry is asked for when the first packet waits for it, three times a second
 * apart, then its packets die; once known it is asked again every 30 s, by unicast, as long as it is in use.
 */
#include "neigh_table.h"
#include <time.h>
#include "forward.h"
#include "underlay.h"

/* From workers: a packet; from the control thread: a wish. */
enum { MESSAGE_HOLD, MESSAGE_ARP, MESSAGE_ND, MESSAGE_FIX, MESSAGE_ASK, MESSAGE_ASK_ALL, MESSAGE_ANNOUNCE };

static enum dp_neigh_state state_of(const struct neigh *e)
{
    return (enum dp_neigh_state)atomic_load_explicit(&e->state, memory_order_relaxed);
}

static void set_state(struct neigh *e, enum dp_neigh_state state)
{
    atomic_store_explicit(&e->state, (uint8_t)state, memory_order_relaxed);
}

static uint64_t mac_word(const uint8_t *mac)
{
    uint64_t word = 0;
    memcpy(&word, mac, 6);
    return word;
}

/* Words of MACs that a host can have. */
static bool is_unicast(uint64_t mac) { return mac != 0 && !(mac & 1); }

/* ---- worker 0: queues of what is due --------------------------------------------------------- */

static void queue_leave(struct neigh_table *table, struct neigh *e)
{
    if (e->queue == NEIGH_QUEUES)
        return;
    struct neigh_queue *queue = &table->queues[e->queue];
    *(e->before == POOL_NONE ? &queue->first : &table->entries[e->before].behind) = e->behind;
    *(e->behind == POOL_NONE ? &queue->last : &table->entries[e->behind].before) = e->before;
    e->queue = NEIGH_QUEUES;
}

static void queue_join(struct neigh_table *table, struct neigh *e, enum neigh_queue_id id, uint64_t now)
{
    struct neigh_queue *queue = &table->queues[id];
    queue_leave(table, e);
    e->queue = (uint8_t)id;
    e->due = now + queue->wait;
    e->before = queue->last;
    e->behind = POOL_NONE;
    uint32_t index = neigh_table_index(table, e);
    *(queue->last == POOL_NONE ? &queue->first : &table->entries[queue->last].behind) = index;
    queue->last = index;
}

/* The entry that is due, NULL: none yet. */
static struct neigh *queue_due(struct neigh_table *table, enum neigh_queue_id id, uint64_t now)
{
    uint32_t first = table->queues[id].first;
    return first != POOL_NONE && table->entries[first].due <= now ? &table->entries[first] : NULL;
}

/* ---- worker 0: asking ------------------------------------------------------------------------ */

/* One more request: to the MAC it had last, else to all. */
static void ask(struct worker *worker, struct neigh *e, uint64_t time)
{
    uint64_t word = atomic_load_explicit(&e->mac, memory_order_relaxed);
    uint8_t mac[8];
    memcpy(mac, &word, 8);
    e->tries++;
    queue_join(worker->dp->neigh, e, NEIGH_RETRY, worker->now);
    underlay_ask(worker, e->family, e->address, word ? mac : NULL, time);
}

/* Begins to ask, unless that is under way: so nobody is asked twice within a second. */
static void begin_asking(struct worker *worker, struct neigh *e, uint64_t time)
{
    if (e->queue == NEIGH_RETRY || state_of(e) == DP_NEIGH_FIXED)
        return;
    if (state_of(e) != DP_NEIGH_KNOWN)
        set_state(e, DP_NEIGH_ASKING);
    e->tries = 0;
    ask(worker, e, time);
}

/* ---- held packets ---------------------------------------------------------------------------- */

static void count_held(struct worker *worker, const struct pkt *pkt, int n)
{
    int64_t *held = &worker->stats[pkt->in_port]->held;
    __atomic_store_n(held, *held + n, __ATOMIC_RELAXED);
    atomic_fetch_add_explicit(&worker->dp->neigh->slots, (uint32_t)(n * pkt->slots), memory_order_relaxed);
}

/*
 * One more packet may wait. Nobody's packets for hosts that do not answer take the slots of all others: workers that ask at
 * once may exceed the share by a packet each.
 */
static bool may_hold(const struct neigh_table *table, const struct neigh *e, const struct pkt *pkt)
{
    return atomic_load_explicit(&e->held, memory_order_relaxed) < NEIGH_HOLD &&
           atomic_load_explicit(&table->slots, memory_order_relaxed) + pkt->slots <= table->dp->arena.slots / NEIGH_SHARE;
}

/* Any worker: fills in the MAC and sends, if the neighbour is known. */
static bool send_known(struct worker *worker, const struct neigh *e, struct pkt *pkt)
{
    uint64_t word = neigh_table_eth(worker->dp->neigh, atomic_load_explicit(&e->mac, memory_order_relaxed));
    if (!word)
        return false;
    memcpy(pkt->data, &word, 8);
    underlay_send(worker, pkt, DROP_STOPPED);
    return true;
}

/*
 * Worker 0: what waits for the entry goes, or is dropped if there is a reason. Packets stay in their place
 * until they are flushed.
 */
static void let_go(struct worker *worker, struct neigh *e, enum drop reason)
{
    struct neigh_hold *hold = &worker->dp->neigh->holds[neigh_table_index(worker->dp->neigh, e)];
    uint32_t n = atomic_load_explicit(&e->held, memory_order_relaxed);
    for (uint32_t i = 0; i < n; i++) {
        count_held(worker, &hold->pkts[i], -1);
        if (reason || !send_known(worker, e, &hold->pkts[i]))
            worker_drop(worker, &hold->pkts[i], reason);
    }
    atomic_store_explicit(&e->held, 0, memory_order_relaxed);
}

/* Worker 0: may_hold() has said so. */
static void hold(struct worker *worker, struct neigh *e, struct pkt *pkt)
{
    struct neigh_table *table = worker->dp->neigh;
    uint32_t n = atomic_load_explicit(&e->held, memory_order_relaxed);
    count_held(worker, pkt, 1);
    table->holds[neigh_table_index(table, e)].pkts[n] = *pkt;
    atomic_store_explicit(&e->held, n + 1, memory_order_relaxed);
    begin_asking(worker, e, pkt->time);
}

/* ---- worker 0: what becomes of an entry ------------------------------------------------------ */

/* No longer due: it has a MAC for good, or none. */
static void conclude(struct worker *worker, struct neigh *e, uint64_t mac, enum dp_neigh_state state)
{
    queue_leave(worker->dp->neigh, e);
    neigh_table_set_mac(worker->dp->neigh, e, mac);
    set_state(e, state);
    let_go(worker, e, mac ? DROP_NONE : DROP_NEIGH_FAILED);
}

/* It has said its MAC. */
static void learn(struct worker *worker, struct neigh *e, const uint8_t *mac)
{
    if (state_of(e) == DP_NEIGH_FIXED || !is_unicast(mac_word(mac)))
        return;
    conclude(worker, e, mac_word(mac), DP_NEIGH_KNOWN);
    queue_join(worker->dp->neigh, e, NEIGH_FRESH, worker->now);
}

static void retry(struct worker *worker, struct neigh *e)
{
    if (e->tries < NEIGH_TRIES)
        ask(worker, e, worker->now);
    else
        conclude(worker, e, 0, DP_NEIGH_FAILED);
}

/* Heard of long ago. */
static void refresh(struct worker *worker, struct neigh *e)
{
    if (atomic_load_explicit(&e->users, memory_order_relaxed) == 0)
        conclude(worker, e, 0, DP_NEIGH_IDLE);
    else
        begin_asking(worker, e, worker->now);
}

bool neigh_learn(struct worker *worker, unsigned family, const uint8_t *address, const uint8_t *mac)
{
    struct neigh *e = neigh_table_find(worker->dp->neigh, family, address);
    if (!e || (atomic_load_explicit(&e->users, memory_order_relaxed) == 0 && e->queue != NEIGH_RETRY))
        return false;
    learn(worker, e, mac);
    return true;
}

/* ---- messages to worker 0 -------------------------------------------------------------------- */

/* Any other worker. The packet counts as held while it is on its way. */
static void hand_over(struct worker *worker, uint8_t kind, uint32_t neigh, struct pkt *pkt)
{
    struct message message = {.kind = kind, .neigh = neigh, .pkt = *pkt};
    bool wake;
    count_held(worker, pkt, 1);
    if (!ring_push(&worker->dp->neigh->rings[worker->id], &message, &wake)) {
        count_held(worker, pkt, -1);
        worker_drop(worker, pkt, DROP_NEIGH_FULL);
    } else if (wake && worker->dp->running) {
        worker_wake(&worker->dp->workers[0]);
    }
}

bool neigh_hand_over(struct worker *worker, struct pkt *pkt)
{
    if (worker->id)
        hand_over(worker, pkt->l3_type == PKT_L3_ARP ? MESSAGE_ARP : MESSAGE_ND, 0, pkt);
    return worker->id;
}

void neigh_hold(struct worker *worker, uint32_t neigh, struct pkt *pkt)
{
    struct neigh *e = &worker->dp->neigh->entries[neigh];
    if (send_known(worker, e, pkt))
        return;
    if (!may_hold(worker->dp->neigh, e, pkt))
        worker_drop(worker, pkt, DROP_NEIGH_FULL);
    else if (worker->id == 0)
        hold(worker, e, pkt);
    else
        hand_over(worker, MESSAGE_HOLD, neigh, pkt);
}

static void ask_all(struct worker *worker)
{
    struct neigh_table *table = worker->dp->neigh;
    uint32_t n = neigh_table_count(table);
    for (struct neigh *e = table->entries; e < table->entries + n; e++)
        if (atomic_load_explicit(&e->users, memory_order_relaxed))
            begin_asking(worker, e, worker->now);
}

/* Worker 0. */
static void fulfil(struct worker *worker, const struct message *message)
{
    struct neigh *e = &worker->dp->neigh->entries[message->neigh];
    switch (message->kind) {
    case MESSAGE_FIX:
        conclude(worker, e, message->mac, DP_NEIGH_FIXED);
        break;
    case MESSAGE_ASK:
        begin_asking(worker, e, worker->now);
        break;
    case MESSAGE_ASK_ALL:
        ask_all(worker);
        break;
    case MESSAGE_ANNOUNCE:
        underlay_announce(worker, message->family, message->address);
        break;
    }
}

/* Worker 0. */
static void take(struct worker *worker, const struct message *message)
{
    if (message->kind >= MESSAGE_FIX) {
        fulfil(worker, message);
        return;
    }
    struct pkt *pkt = worker_make(worker);
    *pkt = message->pkt;
    count_held(worker, pkt, -1);
    if (message->kind == MESSAGE_HOLD)
        neigh_hold(worker, message->neigh, pkt);
    else if (message->kind == MESSAGE_ARP)
        underlay_arp(worker, pkt);
    else
        underlay_nd(worker, pkt);
}

/* Control thread: a wish is worker 0's to fulfil. Without threads that is who we are. */
static void wish(struct dp *dp, const struct message *message)
{
    struct worker *worker = &dp->workers[0];
    bool wake;
    if (!dp->running) {
        fulfil(worker, message);
        worker_flush(worker);
        return;
    }
    while (!ring_push(&dp->neigh->rings[0], message, &wake)) {
        worker_wake(worker);
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    worker_wake(worker);
}

void neigh_announce(struct dp *dp, unsigned family, const uint8_t *address)
{
    struct message message = {.kind = MESSAGE_ANNOUNCE, .family = (uint8_t)family};
    neigh_table_widen(message.address, family, address);
    wish(dp, &message);
}

void neigh_ask_all(struct dp *dp)
{
    wish(dp, &(struct message){.kind = MESSAGE_ASK_ALL});
}

/* ---- timers ---------------------------------------------------------------------------------- */

/* As many messages a ring as it holds: who fills it all the time does not keep us here. */
static void take_messages(struct worker *worker)
{
    struct message message;
    for (uint32_t i = 0; i < worker->dp->config.workers; i++)
        for (int n = 0; n < RING_SIZE && ring_pop(&worker->dp->neigh->rings[i], &message); n++)
            take(worker, &message);
}

void neigh_timers(struct worker *worker)
{
    struct neigh_table *table = worker->dp->neigh;
    struct neigh *e;
    if (worker->id)
        return;
    take_messages(worker);
    while ((e = queue_due(table, NEIGH_RETRY, worker->now)))
        retry(worker, e);
    while ((e = queue_due(table, NEIGH_FRESH, worker->now)))
        refresh(worker, e);
}

uint64_t neigh_next_timer(const struct dp *dp)
{
    const struct neigh_table *table = dp->neigh;
    uint64_t due = UINT64_MAX;
    for (uint32_t i = 0; i < dp->config.workers; i++)
        if (!ring_empty(&table->rings[i]))
            return 0;
    for (const struct neigh_queue *queue = table->queues; queue < table->queues + NEIGH_QUEUES; queue++)
        if (queue->first != POOL_NONE && table->entries[queue->first].due < due)
            due = table->entries[queue->first].due;
    return due;
}

/* ---- the control thread's side --------------------------------------------------------------- */

void neigh_drop_held(struct dp *dp)
{
    struct worker *worker = &dp->workers[0];
    struct neigh_table *table = dp->neigh;
    struct message message;
    for (uint32_t i = 0; i < dp->config.workers; i++)
        while (ring_pop(&table->rings[i], &message)) {
            if (message.kind >= MESSAGE_FIX) {
                fulfil(worker, &message);
                continue;
            }
            count_held(worker, &message.pkt, -1);
            worker_drop(worker, &message.pkt, DROP_STOPPED);
        }
    worker_flush(worker);
    for (uint32_t i = 0; i < neigh_table_count(table); i++)
        let_go(worker, &table->entries[i], DROP_STOPPED);
}

/* Of the entry with this address, which is made if there is none. */
static int wish_of(struct dp *dp, uint32_t family, const uint8_t *address, struct message *message)
{
    if ((family != DP_IPV4 && family != DP_IPV6) || is_any(family, address))
        return DP_EINVAL;
    struct neigh *e = neigh_table_make(dp->neigh, family, address);
    if (!e)
        return DP_ENOMEM;
    message->neigh = neigh_table_index(dp->neigh, e);
    wish(dp, message);
    return DP_OK;
}

int dp_neigh_set(struct dp *dp, uint32_t family, const uint8_t *address, const uint8_t *mac)
{
    bool unicast = is_unicast(mac_word(mac));
    return unicast ? wish_of(dp, family, address, &(struct message){.kind = MESSAGE_FIX, .mac = mac_word(mac)}) : DP_EINVAL;
}

int dp_neigh_probe(struct dp *dp, uint32_t family, const uint8_t *address)
{
    return wish_of(dp, family, address, &(struct message){.kind = MESSAGE_ASK});
}

int dp_neigh_read(const struct dp *dp, struct dp_neigh *out, uint32_t capacity)
{
    const struct neigh_table *table = dp->neigh;
    uint32_t count = neigh_table_count(table), n = 0;
    for (const struct neigh *e = table->entries; e < table->entries + count; e++) {
        if (state_of(e) == DP_NEIGH_IDLE && atomic_load_explicit(&e->users, memory_order_relaxed) == 0)
            continue;
        if (n < capacity) {
            uint64_t mac = atomic_load_explicit(&e->mac, memory_order_relaxed);
            out[n] = (struct dp_neigh){.family = e->family,
                                       .state = (uint8_t)state_of(e),
                                       .held = atomic_load_explicit(&e->held, memory_order_relaxed)};
            memcpy(out[n].address, e->address, 16);
            memcpy(out[n].mac, &mac, 6);
        }
        n++;
    }
    return (int)n;
}
