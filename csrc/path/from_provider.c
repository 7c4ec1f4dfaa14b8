/*
 * from_provider.c: provider to tenant (README.md section 3). Passes over the batch: compare with what our
 * tunnels look like, or parse; pop, check, and begin the lookup of two CAs or two PAs; answer all lookups;
 * carry out, in order. A packet that fails a check leaves the batch. Only the last pass has effects that
 * other packets can see. What is rare is in from_provider_rest.c.
 */
#include "base/hot.h"
#include "base/csum.h"
#include "path/from_provider.h"
#include "path/local.h"
#include "path/path.h"
#include "pkt/offload.h"
#include "pkt/parse.h"
#include "step/arpnd.h"
#include "step/inner.h"
#include "step/nvgre_image.h"
#include "step/outer.h"
#include "step/rewrite.h"
#include "table/lookup_batch.h"

struct provider_batch {
    struct provider p;
    struct nvgre_image want4, want6;
    uint64_t mac;
    const struct map_view *pas4, *pas6, *records4, *records6;
};

/* ---- pass 1 */

/* Both ends of a packet, in PA space (vsid 0) or in a subnet. */
HOT void provider_look(struct provider_pkt *d, const struct map_view *view4, const struct map_view *view6,
                       uint32_t vsid)
{
    uint64_t from[3], to[3];
    d->wide = d->pkt->l3_type == PKT_L3_IP6;
    const uint8_t *source = d->pkt->data + d->pkt->l3 + (d->wide ? 8 : 12),
                  *destination = source + (d->wide ? 16 : 4);
    if (__builtin_expect(!d->wide, 1)) {
        from[0] = vsid ? key_ca4(vsid, source) : key_pa4(source);
        to[0] = vsid ? key_ca4(vsid, destination) : key_pa4(destination);
        lookup_begin(&d->look_from, view4, 1, from);
        lookup_begin(&d->look_to, view4, 1, to);
    } else {
        key_ca6(from, vsid, source);
        key_ca6(to, vsid, destination);
        lookup_begin(&d->look_from, view6, 3, from);
        lookup_begin(&d->look_to, view6, 3, to);
    }
}

/* The inner frame begins. What it is, or why it can't be that; nobody has looked at who sent it. */
HOT enum drop provider_inner(struct pkt *pkt, struct provider_pkt *d)
{
    enum drop drop;
    d->step = PROVIDER_POPPED;
    if (__builtin_expect(!parse_plain(pkt, DP_IPV4), 0) && !parse_plain(pkt, DP_IPV6)) {
        if ((drop = parse_frame(pkt)))
            return drop;
        if (pkt->flags & PKT_VLAN) /* 3.8.14 */
            return DROP_INNER_VLAN;
        if (arpnd_is(pkt))
            d->step = PROVIDER_POPPED_ARPND;
    }
    return DROP_NONE;
}

/*
 * Pops what looks like a tunnel of ours, if it is, and whole in its first slot: false, and nothing has
 * happened, if it takes a closer look. `len` bytes of outer header; `end`: where the outer packet ends. The
 * packet may have been dropped then: pkt is NULL.
 */
HOT bool provider_pop(struct provider_batch *b, struct pkt **pkt, struct provider_pkt *d, unsigned len,
                      uint32_t end)
{
    struct pkt *p = *pkt;
    uint32_t vsid = get32(p->data + len - 4) >> 8, subnet = provider_subnet(&b->p, vsid);
    if (end > p->head || end < len || subnet == INDEX_NONE || pkt_offloaded(p)) /* 3.8.11 */
        return false;
    d->outer = p->data;
    d->outer_len = (uint8_t)len;
    d->outer_tos = len == NVGRE4_LEN ? p->data[15] : (uint8_t)(p->data[14] << 4 | p->data[15] >> 4);
    d->sender = 0;
    d->subnet = subnet;
    p->data += len;
    p->len = p->head = (uint16_t)(end - len); /* 3.8.13 */
    enum drop drop = provider_inner(p, d);
    if (__builtin_expect(drop, 0)) {
        provider_drop_inner(&b->p, d, drop);
        *pkt = NULL;
    } else if (__builtin_expect(d->step == PROVIDER_POPPED, 1)) {
        provider_look(d, b->records4, b->records6, vsid);
    }
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
        provider_look(d, b->pas4, b->pas6, 0);
    return DROP_NONE;
}

/* A plain packet from a unicast MAC to ours: to a rewrite PA, most likely. */
HOT bool provider_plain(const struct provider_batch *b, struct pkt *pkt)
{
    bool ours = mac_word(pkt->data) == b->mac && !mac_is_group(pkt->data + 6); /* 3.1.3, 3.1.4 */
    return ours && (parse_plain(pkt, DP_IPV4) || parse_plain(pkt, DP_IPV6));
}

/* False: the packet has left the batch. */
HOT bool provider_start(struct provider_batch *b, struct pkt *pkt, struct provider_pkt *d)
{
    const uint8_t *p = pkt->data;
    d->pkt = pkt;
    if (__builtin_expect(nvgre_looks4(&b->want4, p) && csum_ip4_plain_ok(p + ETH_LEN), 1)) {
        if (provider_pop(b, &pkt, d, NVGRE4_LEN, ETH_LEN + get16(p + ETH_LEN + 2)))
            return pkt;
    } else if (provider_plain(b, pkt)) {
        d->step = PROVIDER_PA;
        provider_look(d, b->pas4, b->pas6, 0);
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
    if (d->step == PROVIDER_PA)
        return d->wide ? b->pas6 : b->pas4;
    return d->wide ? b->records6 : b->records4;
}

/* at[]: twice the packet's place, and one more for its destination. */
RARE void provider_look_further(const struct provider_batch *b, struct provider_pkt *pkts, uint8_t *at,
                                uint32_t n)
{
    uint64_t hash[2 * DP_BATCH];
    uint32_t m = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct provider_pkt *d = &pkts[at[i] / 2];
        const struct lookup *l = at[i] % 2 ? &d->look_to : &d->look_from;
        at[m] = at[i];
        m += lookup_fetch(l, provider_view(b, d), d->wide ? 3 : 1, &hash[m]);
    }
    for (uint32_t i = 0; i < m; i++) {
        struct provider_pkt *d = &pkts[at[i] / 2];
        const struct lookup *l = at[i] % 2 ? &d->look_to : &d->look_from;
        struct lookup_answer *answer = at[i] % 2 ? &d->to : &d->from;
        lookup_finish(l, provider_view(b, d), d->wide ? 3 : 1, hash[i], answer);
        lookup_prefetch(b->p.tables, answer, d->wide ? 3 : 1);
    }
}

HOT void provider_look_up(const struct provider_batch *b, struct provider_pkt *pkts, uint32_t n)
{
    uint8_t further[2 * DP_BATCH];
    const struct tables *t = b->p.tables;
    uint32_t m = 0, last_from = 0, last_to = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct provider_pkt *d = &pkts[i];
        bool from, to;
        if (__builtin_expect(d->step > PROVIDER_PA, 0))
            continue;
        if (__builtin_expect(!d->wide, 1)) {
            from = lookup_first(&d->look_from, 1, t, &last_from, &d->from);
            to = lookup_first(&d->look_to, 1, t, &last_to, &d->to);
        } else {
            from = lookup_first(&d->look_from, 3, t, &last_from, &d->from);
            to = lookup_first(&d->look_to, 3, t, &last_to, &d->to);
        }
        further[m] = (uint8_t)(2 * i);
        m += !from;
        further[m] = (uint8_t)(2 * i + 1);
        m += !to;
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
                 inner_is_hosts(pkt, d->wide);
    if (__builtin_expect(!plain, 0) && provider_refused(p, d))
        return;
    if (__builtin_expect(d->outer_tos & 3, 0) && !nvgre_ecn(pkt, d->outer_tos)) /* 3.13.1 */
        io_drop(p->host->io, pkt, DROP_ECN);
    else
        local_deliver(p->host, pkt, act_index(d->to.act), d->subnet); /* 3.13.7 */
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
    uint32_t subnet = INDEX_NONE;
    enum drop drop = outer_check_rewrite(from, to);
    bool plain = pkt->flags & PKT_PLAIN && !pkt_offloaded(pkt);
    if (!drop && __builtin_expect(!plain, 0))
        drop = provider_check_rewrite(p, pkt);
    if (!drop && (subnet = provider_subnet(p, to->vsid)) == INDEX_NONE)
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
    local_deliver(p->host, pkt, to->port, subnet);
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
    b.p = (struct provider){.host = host, .tables = t, .in = in, .last_subnet = INDEX_NONE};
    b.pas4 = map_view(t->pas4), b.pas6 = map_view(t->pas6);
    b.records4 = map_view(t->records4), b.records6 = map_view(t->records6);
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
