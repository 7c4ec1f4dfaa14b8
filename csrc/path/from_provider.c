/*
 * from_provider.c: provider to tenant (README.md section 3). Passes over the batch: compare with what our
 * tunnels look like, or parse; pop, check, and begin the lookup of two CAs or two PAs; answer all lookups;
 * carry out, in order. A packet that fails a check leaves the batch. Only the last pass has effects that
 * other packets can see. What is rare is in from_provider_rest.c.
 */
#include "base/hot.h"
#include "base/csum.h"
#include "path/from_provider.h"
#include "path/path.h"
#include "pkt/offload.h"
#include "pkt/parse.h"
#include "port/deliver.h"
#include "router/quote.h"
#include "step/arpnd.h"
#include "step/inner.h"
#include "step/nvgre_image.h"
#include "step/outer.h"
#include "step/rewrite.h"
#include "table/lookup_batch.h"

struct provider_maps { const struct map_view *v4, *v6; };

struct provider_batch {
    struct provider p;
    struct nvgre_image want4, want6;
    uint64_t mac;
    struct provider_maps pas, records;
};

/* ---- pass 1 */

/* Both ends of a packet whose IP header is at `ip`: of CAs in a subnet, or of PAs (KEY_PAS). */
HOT void provider_look(struct provider_pkt *d, const struct provider_maps *maps, unsigned family,
                       uint32_t vsid, const uint8_t *ip)
{
    const uint8_t *source = ip + (family == DP_IPV4 ? 12 : 8), *destination = source + addr_bits(family) / 8;
    uint64_t from[3], to[3];
    const struct map_view *view = family == DP_IPV4 ? maps->v4 : maps->v6;
    key_ca(from, vsid, family, source);
    key_ca(to, vsid, family, destination);
    lookup_begin(&d->look_from, view, family == DP_IPV4 ? 1 : 3, from);
    lookup_begin(&d->look_to, view, family == DP_IPV4 ? 1 : 3, to);
    d->wide = family == DP_IPV6;
}

/* The same of a frame, if it is plain. */
HOT bool provider_look_plain(struct provider_pkt *d, const struct provider_maps *maps, uint32_t vsid,
                             struct pkt *pkt)
{
    if (__builtin_expect(parse_plain(pkt, DP_IPV4), 1))
        provider_look(d, maps, DP_IPV4, vsid, pkt->data + ETH_LEN);
    else if (parse_plain(pkt, DP_IPV6))
        provider_look(d, maps, DP_IPV6, vsid, pkt->data + ETH_LEN);
    else
        return false;
    return true;
}

/* A popped packet that is not plain. Nobody has looked at who sent it. False: it has left the batch. */
RARE bool provider_inner(struct provider_batch *b, struct pkt *pkt, struct provider_pkt *d, uint32_t vsid)
{
    enum drop drop = parse_frame(pkt);
    if (drop || pkt->flags & PKT_VLAN) { /* 3.8.14 */
        provider_drop_inner(&b->p, d, drop ? drop : DROP_INNER_VLAN);
        return false;
    }
    if (arpnd_is(pkt))
        d->step = PROVIDER_POPPED_ARPND;
    else
        provider_look(d, &b->records, pkt->l3_type, vsid, pkt->data + pkt->l3);
    return true;
}

/*
 * Pops what looks like a tunnel of ours, if it is, and whole in its first slot: false, and nothing has
 * happened, if it takes a closer look. `len` bytes of outer header; `end`: where the outer packet ends. The
 * packet may have been dropped then: *pkt is NULL.
 */
HOT bool provider_pop(struct provider_batch *b, struct pkt **pkt, struct provider_pkt *d, unsigned len,
                      uint32_t end)
{
    struct pkt *p = *pkt;
    const uint32_t vsid = get32(p->data + len - 4) >> 8;
    if (end > p->head || end < len || pkt_offloaded(p) || !provider_in_subnet(&b->p, vsid)) /* 3.8.11 */
        return false;
    d->outer = p->data;
    d->subnet = b->p.last_subnet;
    d->step = PROVIDER_POPPED;
    d->outer_len = (uint8_t)len;
    d->sender = 0;
    p->data += len;
    p->len = end - len; /* 3.8.13 */
    p->head = (uint16_t)p->len;
    if (!provider_look_plain(d, &b->records, vsid, p) && !provider_inner(b, p, d, vsid))
        *pkt = NULL;
    return true;
}

/* Any other packet. */
RARE enum drop provider_check(struct provider_batch *b, struct pkt *pkt, struct provider_pkt *d)
{
    enum drop drop = outer_check(pkt, b->p.in->mac);
    if (drop)
        return drop;
    d->step = arpnd_is(pkt) ? PROVIDER_ARPND : PROVIDER_PA;
    if (d->step == PROVIDER_PA)
        provider_look(d, &b->pas, pkt->l3_type, KEY_PAS, pkt->data + pkt->l3);
    return DROP_NONE;
}

/* False: the packet has left the batch. */
HOT bool provider_start(struct provider_batch *b, struct pkt *pkt, struct provider_pkt *d)
{
    const uint8_t *p = pkt->data;
    d->pkt = pkt;
    /* What is no GRE is told from it at once: the way of rewritten packets is not the longer for it. */
    bool gre = p[ETH_LEN + 9] == PROTO_GRE;
    if (__builtin_expect(gre && nvgre_looks4(&b->want4, p) && csum_ip4_plain_ok(p + ETH_LEN), 1)) {
        if (provider_pop(b, &pkt, d, NVGRE4_LEN, ETH_LEN + get16(p + ETH_LEN + 2)))
            return pkt;
    } else if (mac_word(p) == b->mac && !mac_is_group(p + 6) && /* 3.1.3, 3.1.4 */
               provider_look_plain(d, &b->pas, KEY_PAS, pkt)) {
        d->step = PROVIDER_PA;
        return true;
    } else if (nvgre_looks6(&b->want6, p)) {
        if (provider_pop(b, &pkt, d, NVGRE6_LEN, ETH_LEN + IP6_LEN + get16(p + ETH_LEN + 4)))
            return pkt;
    }
    return !io_dropped(b->p.host->io, pkt, provider_check(b, pkt, d));
}

/* ---- pass 2: the answers, and what they refer to on its way into the cache */

static const struct map_view *provider_view(const struct provider_batch *b, const struct provider_pkt *d)
{
    const struct provider_maps *maps = d->step == PROVIDER_PA ? &b->pas : &b->records;
    return d->wide ? maps->v6 : maps->v4;
}

/* at[]: twice the packet's place, and one more for its destination. */
RARE void provider_look_further(const struct provider_batch *b, struct provider_pkt *pkts, uint8_t *at,
                                uint32_t n)
{
    const struct tables *t = b->p.tables;
    uint32_t m = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct provider_pkt *d = &pkts[at[i] / 2];
        struct lookup *l = at[i] % 2 ? &d->look_to : &d->look_from;
        at[m] = at[i];
        m += lookup_fetch(l, provider_view(b, d), d->wide ? 3 : 1);
    }
    for (uint32_t i = 0; i < m; i++) {
        struct provider_pkt *d = &pkts[at[i] / 2];
        const struct lookup *l = at[i] % 2 ? &d->look_to : &d->look_from;
        struct lookup_answer *answer = at[i] % 2 ? &d->to : &d->from;
        lookup_finish(l, provider_view(b, d), d->wide ? 3 : 1, answer);
        const uint32_t index = act_index(answer->act);
        __builtin_prefetch(d->step == PROVIDER_POPPED ? (void *)&t->next_hops[index] : &t->rewrites[index]);
    }
}

/*
 * The answers from first buckets; what they refer to is fetched, of a miss the first there is. For a popped
 * packet's destination, a port's most likely, that would be in vain.
 */
HOT void provider_look_first(const struct tables *t, struct provider_pkt *d, unsigned words, unsigned *from,
                             unsigned *to)
{
    uint32_t there;
    *from = lookup_first(&d->look_from, words, &d->from, &there);
    *to = lookup_first(&d->look_to, words, &d->to, &there);
    if (__builtin_expect(d->step == PROVIDER_POPPED, 1)) {
        __builtin_prefetch(&t->next_hops[act_index(d->from.act)]);
    } else {
        __builtin_prefetch(&t->rewrites[act_index(d->from.act)]);
        __builtin_prefetch(&t->rewrites[act_index(d->to.act)]);
    }
}

HOT void provider_look_up(const struct provider_batch *b, struct provider_pkt *pkts, uint32_t n)
{
    uint8_t further[2 * DP_BATCH];
    uint32_t m = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct provider_pkt *d = &pkts[i];
        unsigned from, to;
        if (__builtin_expect(d->step > PROVIDER_PA, 0))
            continue;
        if (__builtin_expect(!d->wide, 1))
            provider_look_first(b->p.tables, d, 1, &from, &to);
        else
            provider_look_first(b->p.tables, d, 3, &from, &to);
        further[m] = (uint8_t)(2 * i);
        m += from == 0;
        further[m] = (uint8_t)(2 * i + 1);
        m += to == 0;
    }
    if (m)
        provider_look_further(b, pkts, further, m);
}

/* ---- pass 3 */

HOT void provider_carry_popped(const struct provider *p, struct provider_pkt *d)
{
    struct pkt *pkt = d->pkt;
    bool macs = mac_word(pkt->data) == d->to.mac && mac_word(pkt->data + 6) == d->from.mac;
    bool plain = act_kind(d->to.act) == ACT_LOCAL && macs &&
                 inner_is_home(p->tables, d->from.act, d->outer, d->outer_len) &&
                 !(d->wide && is_link_local(pkt->data + ETH_LEN + 8)); /* 3.9.2 */
    if (__builtin_expect(!plain, 0) && provider_refused(p, d))
        return;
    const uint8_t tos = provider_outer_tos(d);
    if (__builtin_expect(tos & 3, 0) && !nvgre_ecn(pkt, tos)) /* 3.13.1 */
        io_drop(p->host->io, pkt, DROP_ECN);
    else
        deliver(p->host->io, pkt, port_at(p->host->ports, act_index(d->to.act)), d->subnet); /* 3.13.7 */
}

HOT void provider_carry_rewrite(struct provider *p, struct provider_pkt *d)
{
    struct pkt *pkt = d->pkt;
    const struct rewrite *to = &p->tables->rewrites[act_index(d->to.act)];
    const struct rewrite *from = outer_rewrite_source(p->tables, d->from.act);
    if (__builtin_expect(!from, 0)) {
        provider_no_source(p, d);
        return;
    }
    enum drop drop = outer_check_rewrite(from, to);
    bool plain = load16(&pkt->flags) == PKT_PLAIN;      /* and gso: none */
    if (!drop && __builtin_expect(!plain, 0))
        drop = quote_in(p->tables, p->host->io->pool.arena, to, pkt); /* 3.5.5 to 3.5.7 */
    if (!drop && !provider_in_subnet(p, to->vsid))
        drop = DROP_REWRITE_UNBOUND;
    if (io_dropped(p->host->io, pkt, drop))
        return;
    if (__builtin_expect(!plain, 0)) /* 3.5.10, 3.5.13, 3.5.14 */
        rewrite_addresses(pkt, from->ca, to->ca);
    else if (__builtin_expect(!d->wide, 1))
        rewrite_plain(pkt->data, DP_IPV4, (uint32_t)from->delta + to->delta, from->ca, to->ca);
    else
        rewrite_plain(pkt->data, DP_IPV6, (uint32_t)from->delta + to->delta, from->ca, to->ca);
    uint64_t mac = mac_word(from->vsid == to->vsid ? from->mac : p->tables->router_mac); /* 3.5.12 */
    next_hop_put_macs(pkt->data, next_hop_eth(mac_word(to->mac), mac), next_hop_rest(mac)); /* 3.5.11 */
    deliver(p->host->io, pkt, port_at(p->host->ports, to->port), p->last_subnet);
}

HOT void provider_carry(struct provider *p, struct provider_pkt *d)
{
    if (__builtin_expect(d->step == PROVIDER_POPPED, 1))
        provider_carry_popped(p, d);
    else if (d->step == PROVIDER_PA && act_kind(d->to.act) == ACT_PA_REWRITE &&
             p->tables->rewrites[act_index(d->to.act)].host == p->tables->self_host)
        provider_carry_rewrite(p, d);
    else
        provider_rest(p, d);
}

void from_provider(const struct host *host, struct port *in, struct batch *batch)
{
    const struct tables *t = host->tables;
    struct provider_pkt pkts[DP_BATCH], *d = pkts;
    struct provider_batch b;
    b.p = (struct provider){.host = host, .tables = t, .in = in, .last_vsid = INDEX_NONE};
    b.pas = (struct provider_maps){map_view(t->pas4), map_view(t->pas6)};
    b.records = (struct provider_maps){map_view(t->records4), map_view(t->records6)};
    b.want4 = nvgre_image4(in->mac, t->shared_pa4);
    b.want6 = nvgre_image6(in->mac, t->shared_pa6);
    b.mac = mac_word(in->mac);

    for (struct pkt *pkt = batch->pkt, *end = pkt + batch->n; pkt < end; pkt++)
        d += provider_start(&b, pkt, d);
    uint32_t n = (uint32_t)(d - pkts);
    provider_look_up(&b, pkts, n);
    for (d = pkts; d < pkts + n; d++)
        provider_carry(&b.p, d);
}
