/*
 * merge.c: segments and datagrams of a flow become super-packets; README.md 4.6. What can't be merged goes as
 * it is.
 */
#include "port/merge.h"
#include "base/csum.h"
#include "pkt/offload.h"
#include "step/gso.h"

enum { MERGE_RUNS = 4 };                /* flows that are merged side by side */
enum { TCP_ACK_AT = 8, TCP_FLAGS = 13, TCP_CHECKSUM = 16, TCP_PSH = 0x08, TCP_ACK = 0x10 };
enum { UDP_CHECKSUM = 6 };

/* OTHER: neither TCP nor UDP. STRANGE: it may be of any flow. */
enum merge_kind { MERGE_OTHER, MERGE_STRANGE, MERGE_FLOW };

/* Segments that are merged, from `pkt` on. */
struct merge_run {
    struct pkt *pkt;
    uint32_t last;                      /* the last slot of the last one */
    uint32_t next;                      /* sequence that would go on */
    uint16_t headers;                   /* bytes of all headers of each */
    uint16_t size;                      /* payload of each but the last */
    uint16_t n;
    uint8_t push;                       /* the PSH of the last one */
    bool proven;                        /* the first one's checksums are right */
    bool closed;                        /* nothing goes on behind the last one */
};

static bool merge_knows(uint8_t proto) { return proto == PROTO_TCP || proto == PROTO_UDP; }

/* What a packet without IP options, a fragment's or a tag is; sets its layers, and its headers' length. */
static enum merge_kind merge_look(struct pkt *pkt, uint16_t *headers)
{
    const uint8_t *ip = pkt->data + ETH_LEN;
    uint32_t end;
    if (!pkt_has(pkt, ETH_LEN + IP4_LEN))
        return MERGE_OTHER;
    uint16_t type = get16(pkt->data + 12);
    if (type == ETHERTYPE_IP4 && merge_knows(ip[9])) {
        if (ip[0] != 0x45 || get16(ip + 6) & 0x3fff)
            return MERGE_STRANGE;
        pkt->l3_type = PKT_L3_IP4;
        pkt->l4 = ETH_LEN + IP4_LEN;
        pkt->l4_proto = ip[9];
        end = ETH_LEN + get16(ip + 2);
    } else if (type == ETHERTYPE_IP6 && ip[6] != PROTO_ICMP6) {
        if (!merge_knows(ip[6]) || !pkt_has(pkt, ETH_LEN + IP6_LEN))
            return MERGE_STRANGE;
        pkt->l3_type = PKT_L3_IP6;
        pkt->l4 = ETH_LEN + IP6_LEN;
        pkt->l4_proto = ip[6];
        end = pkt->l4 + get16(ip + 4);
    } else {
        return MERGE_OTHER;
    }
    uint32_t least = pkt->l4_proto == PROTO_TCP ? TCP_LEN : UDP_LEN, len = least;
    if (!pkt_has(pkt, pkt->l4 + least))
        return MERGE_STRANGE;
    if (pkt->l4_proto == PROTO_TCP)
        len = (pkt->data[pkt->l4 + 12] >> 4) * 4u;
    *headers = (uint16_t)(pkt->l4 + len);
    pkt->l3 = ETH_LEN;
    pkt->l3_end = end;
    return len >= least && pkt_has(pkt, *headers) && end >= *headers ? MERGE_FLOW : MERGE_STRANGE;
}

/* Nothing of its L4 header keeps it apart: ACK and PSH alone; a checksum and the length of what is there. */
static bool merge_fits_l4(const struct pkt *pkt) /* 4.6.2, 4.6.7 */
{
    const uint8_t *l4 = pkt->data + pkt->l4;
    if (pkt->l4_proto == PROTO_TCP)
        return (l4[TCP_FLAGS] & ~TCP_PSH) == TCP_ACK;
    return load16(l4 + UDP_CHECKSUM) && get16(l4 + 4) == pkt->l3_end - pkt->l4;
}

/* By itself it may be merged: its bytes its own, checksum complete, payload. */
static bool merge_fits(const struct arena *arena, const struct pkt *pkt, uint16_t headers) /* 4.6.2, 4.6.5 */
{
    return pkt->len == pkt->l3_end && !pkt_offloaded(pkt) && headers < pkt->l3_end && merge_fits_l4(pkt) &&
           pool_chain(arena, pkt).len == pkt->len;
}

static uint8_t merge_push(const struct pkt *pkt)
{
    return pkt->l4_proto == PROTO_TCP ? pkt->data[pkt->l4 + TCP_FLAGS] & TCP_PSH : 0;
}

static bool merge_same_flow(const struct pkt *a, const struct pkt *b)
{
    uint32_t addresses = a->l3_type == PKT_L3_IP4 ? ETH_LEN + 12 : ETH_LEN + 8;
    return a->l4_proto == b->l4_proto && !memcmp(a->data, b->data, ETH_LEN) &&
           !memcmp(a->data + addresses, b->data + addresses, a->l4 + 4 - addresses);
}

static bool merge_is_right(const struct arena *arena, const struct pkt *pkt) /* 4.6.5 */
{
    if (pkt->l3_type == PKT_L3_IP4 && !csum_ip4_plain_ok(pkt->data + ETH_LEN))
        return false;
    uint32_t len = pkt->len - pkt->l4;
    return csum_fold(offload_pseudo(pkt, len) + offload_sum(arena, pkt, pkt->l4, len)) == 0xffff;
}

/* IP headers say the same but for lengths and what counts up. */
static bool merge_same_ip(const struct merge_run *run, const struct pkt *pkt)
{
    const uint8_t *a = run->pkt->data + ETH_LEN, *b = pkt->data + ETH_LEN;
    if (pkt->l3_type == PKT_L3_IP6)
        return load32(a) == load32(b) && a[7] == b[7]; /* 4.6.2 */
    bool counts_up = get16(b + 4) == (uint16_t)(get16(a + 4) + run->n);
    return a[1] == b[1] && a[8] == b[8] && load16(a + 6) == load16(b + 6) &&   /* 4.6.2 */
           (counts_up || a[6] & 0x40); /* 4.6.3, RFC 6864 section 4.1 */
}

/* TCP headers say the same but for PSH and what counts up, which goes on. */
static bool merge_same_tcp(const struct merge_run *run, const struct pkt *pkt)
{
    const uint8_t *a = run->pkt->data + pkt->l4, *b = pkt->data + pkt->l4;
    const uint32_t push = (uint32_t)TCP_PSH << 8;       /* of the word of offset, flags and window */
    return get32(b + 4) == run->next &&                                                 /* 4.6.3 */
           load32(a + TCP_ACK_AT) == load32(b + TCP_ACK_AT) &&                          /* 4.6.2 */
           ((load32(a + 12) ^ load32(b + 12)) & ~push) == 0 && load16(a + 18) == load16(b + 18) &&
           !memcmp(a + TCP_LEN, b + TCP_LEN, run->headers - pkt->l4 - TCP_LEN);
}

/* The packet, which fits, goes on where the run ends. */
static bool merge_goes_on(const struct merge_run *run, const struct pkt *pkt, uint16_t headers)
{
    uint32_t payload = pkt->len - headers;
    return !run->closed && headers == run->headers && payload <= run->size &&           /* 4.6.4 */
           run->pkt->slots + pkt->slots <= PORT_SEGS &&
           run->pkt->len + payload <= ETH_LEN + PORT_IP_MAX && merge_same_ip(run, pkt) &&
           (pkt->l4_proto == PROTO_UDP || merge_same_tcp(run, pkt));
}

static void merge_begin(const struct arena *arena, struct merge_run *run, struct pkt *pkt, uint16_t headers)
{
    uint8_t push = merge_push(pkt);
    uint32_t payload = pkt->len - headers;
    *run = (struct merge_run){.pkt = pkt,
                              .last = pool_chain(arena, pkt).last,
                              .next = get32(pkt->data + pkt->l4 + 4) + payload,
                              .headers = headers,
                              .size = (uint16_t)payload,
                              .n = 1,
                              .push = push,
                              .closed = push != 0};
}

/* Takes the packet if it goes on. */
static bool merge_join(struct io *io, struct merge_run *run, struct pkt *pkt, uint16_t headers)
{
    const struct arena *arena = io->pool.arena;
    if (!merge_goes_on(run, pkt, headers) || !(run->proven || merge_is_right(arena, run->pkt)))
        return false;
    run->proven = true;
    if (!merge_is_right(arena, pkt))
        return false;
    uint32_t payload = pkt->len - headers;
    uint16_t off = (uint16_t)(pkt->data + headers - arena_slot(arena, pkt->slot));
    arena->segs[run->last] = (struct seg){pkt->slot, off, (uint16_t)(pkt->head - headers)};
    run->last = pool_chain(arena, pkt).last;
    run->pkt->slots = (uint16_t)(run->pkt->slots + pkt->slots);
    run->pkt->len += payload;
    run->next += payload;
    run->n++;
    run->push = merge_push(pkt);
    run->closed = run->push || payload < run->size;
    stats_add(&io->stats[pkt->in_port]->consumed, 1); /* 4.6.6 */
    return true;
}

/* Its headers become those of a super-packet, if it is one. */
static void merge_end(struct merge_run *run) /* 4.6.1 */
{
    struct pkt *pkt = run->pkt;
    uint8_t *l4 = pkt->data + pkt->l4;
    if (run->n == 1)
        return;
    pkt->l3_end = pkt->len;
    pkt->flags |= PKT_PARTIAL;
    pkt->csum_start = pkt->l4;
    pkt->gso_size = run->size;
    if (pkt->l4_proto == PROTO_TCP) {
        pkt->csum_offset = TCP_CHECKSUM;
        pkt->gso = pkt->l3_type == PKT_L3_IP4 ? DP_GSO_TCP4 : DP_GSO_TCP6;
        l4[TCP_FLAGS] |= run->push;
    } else {
        pkt->csum_offset = UDP_CHECKSUM;
        pkt->gso = DP_GSO_UDP;
        put16(l4 + 4, (uint16_t)(pkt->len - pkt->l4));
    }
    gso_set_ip(pkt, 0);
    uint16_t sum = csum_fold(offload_pseudo(pkt, pkt->len - pkt->l4));
    memcpy(l4 + pkt->csum_offset, &sum, 2);
}

struct merge {
    struct merge_run runs[MERGE_RUNS];
    uint32_t n, oldest;
};

static void merge_end_all(struct merge *m)
{
    while (m->n)
        merge_end(&m->runs[--m->n]);
}

static struct merge_run *merge_find(struct merge *m, const struct pkt *pkt)
{
    for (uint32_t i = 0; i < m->n; i++)
        if (merge_same_flow(m->runs[i].pkt, pkt))
            return &m->runs[i];
    return NULL;
}

/* A run for another flow: a new one, or the oldest, which ends. */
static struct merge_run *merge_room(struct merge *m)
{
    if (m->n < MERGE_RUNS)
        return &m->runs[m->n++];
    struct merge_run *run = &m->runs[m->oldest++ % MERGE_RUNS];
    merge_end(run);
    return run;
}

/* The packet has become a part of another. */
static bool merge_take(struct io *io, struct merge *m, struct pkt *pkt, uint16_t headers)
{
    struct merge_run *run = merge_find(m, pkt);
    bool fits = merge_fits(io->pool.arena, pkt, headers);
    if (run && fits && merge_join(io, run, pkt, headers))
        return true;
    if (run)
        merge_end(run);
    else if (fits)
        run = merge_room(m);
    if (fits)
        merge_begin(io->pool.arena, run, pkt, headers);
    else if (run)
        *run = m->runs[--m->n];
    return false;
}

uint32_t merge_queue(struct io *io, const struct port *port, struct pkt **pkts, uint32_t n)
{
    struct merge m = {.n = 0};
    uint32_t left = 0;
    uint16_t headers = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct pkt *pkt = pkts[i];
        enum merge_kind kind = merge_look(pkt, &headers);
        if (kind == MERGE_STRANGE)
            merge_end_all(&m);
        uint32_t tso = pkt->l3_type == PKT_L3_IP4 ? PORT_TSO4 : PORT_TSO6;
        uint32_t cap = pkt->l4_proto == PROTO_TCP ? tso : PORT_USO;
        if (kind != MERGE_FLOW || !(port->caps & cap) || !merge_take(io, &m, pkt, headers))
            pkts[left++] = pkt;
    }
    merge_end_all(&m);
    return left;
}
