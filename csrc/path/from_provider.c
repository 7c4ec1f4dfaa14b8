/*
 * from_provider.c: provider to tenant (README.md section 3). Passes over the batch: compare with what our tunnels look like, or parse;
 * pop, check, and begin the lookup of two CAs or two PAs; answer all lookups; carry out, in order. A packet that fails a check
 * leaves the batch. Only the last pass has effects that other packets can see. What is rare is in from_provider_rest.c.
 */
#include "base/csum.h"
#include "path/from_provider.h"
#include "path/local.h"
#include "path/path.h"
#include "pkt/offload.h"
#include "pkt/parse.h"
#include "step/arpnd.h"
#include "step/rewrite.h"
#include "table/lookup_batch.h"

/* ---- what a tunnel's outer header looks like: 42 or 62 bytes, in two vectors that overlap */

struct provider_image {
    uint8_t want[64], mask[64];         /* the first 32 bytes of the header, its last 32 bytes */
};

struct provider_batch {
    struct provider p;
    struct provider_image image4, image6;
    const struct map_view *pas4, *pas6, *records4, *records6;
    struct lookup_queue pas, pas_wide, records, records_wide;
};

static void provider_image_byte(struct provider_image *image, unsigned len, unsigned at, uint8_t want, uint8_t mask)
{
    if (at < 32)
        image->want[at] = want & mask, image->mask[at] = mask;
    if (at >= len - 32)
        image->want[32 + at - (len - 32)] = want & mask, image->mask[32 + at - (len - 32)] = mask;
}

static void provider_image_bytes(struct provider_image *image, unsigned len, unsigned at, const uint8_t *want, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        provider_image_byte(image, len, at + i, want[i], 0xff);
}

/*
 * From a unicast MAC to ours, to our first shared PA, no options, no fragment, GRE as RFC 7637 section 3.2 has it: flags and version
 * but for the bits that are ignored. README.md 3.1, 3.4, 3.6, 3.8.
 */
static void provider_image(struct provider_image *image, unsigned len, const uint8_t *mac, const uint8_t *pa)
{
    static const uint8_t type4[3] = {8, 0, 0x45}, type6[2] = {0x86, 0xdd}, teb[2] = {0x65, 0x58};
    unsigned gre = len - GRE_LEN;
    *image = (struct provider_image){0};
    if (is_any(len == NVGRE4_LEN ? DP_IPV4 : DP_IPV6, pa)) {
        image->want[0] = 1;             /* what its mask lets nothing equal */
        return;
    }
    provider_image_bytes(image, len, 0, mac, 6);
    provider_image_byte(image, len, 6, 0, 1);
    if (len == NVGRE4_LEN) {
        provider_image_bytes(image, len, 12, type4, 3);
        provider_image_byte(image, len, 20, 0, 0xbf);
        provider_image_byte(image, len, 21, 0, 0xff);
        provider_image_byte(image, len, 23, PROTO_GRE, 0xff);
        provider_image_bytes(image, len, 30, pa, 4);
    } else {
        provider_image_bytes(image, len, 12, type6, 2);
        provider_image_byte(image, len, 14, 0x60, 0xf0);
        provider_image_byte(image, len, 20, PROTO_GRE, 0xff);
        provider_image_bytes(image, len, 38, pa, 16);
    }
    provider_image_byte(image, len, gre, GRE_K >> 8, 0xfc);
    provider_image_byte(image, len, gre + 1, 0, 0x07);
    provider_image_bytes(image, len, gre + 2, teb, 2);
}

static inline __attribute__((always_inline)) bool provider_looks(const struct provider_image *image, const uint8_t *data,
                                                                 unsigned len)
{
    const __m256i *want = (const __m256i *)(const void *)image->want, *mask = (const __m256i *)(const void *)image->mask;
    __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)data);
    __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(data + len - 32));
    a = _mm256_xor_si256(_mm256_and_si256(a, _mm256_loadu_si256(mask)), _mm256_loadu_si256(want));
    b = _mm256_xor_si256(_mm256_and_si256(b, _mm256_loadu_si256(mask + 1)), _mm256_loadu_si256(want + 1));
    __m256i wrong = _mm256_or_si256(a, b);
    return _mm256_testz_si256(wrong, wrong);
}

/* ---- pass 1 */

static inline __attribute__((always_inline)) void provider_begin(struct lookup_queue *narrow, const struct map_view *view4,
                                                                 struct lookup_queue *wide, const struct map_view *view6,
                                                                 uint32_t vsid, const struct pkt *pkt, uint32_t at)
{
    uint64_t key[3];
    if (__builtin_expect(pkt->l3_type == PKT_L3_IP4, 1)) {
        key[0] = vsid ? key_ca4(vsid, pkt_source(pkt)) : key_pa4(pkt_source(pkt));
        lookup_begin(narrow, view4, 1, key, 2 * at);
        key[0] = vsid ? key_ca4(vsid, pkt_destination(pkt)) : key_pa4(pkt_destination(pkt));
        lookup_begin(narrow, view4, 1, key, 2 * at + 1);
    } else {
        key_ca6(key, vsid, pkt_source(pkt));
        lookup_begin(wide, view6, 3, key, 2 * at);
        key_ca6(key, vsid, pkt_destination(pkt));
        lookup_begin(wide, view6, 3, key, 2 * at + 1);
    }
}

/* The inner frame begins. What it is, or why it can't be that; nobody has looked at who sent it. */
static inline __attribute__((always_inline)) enum drop provider_inner(struct provider_batch *b, struct pkt *pkt,
                                                                      struct provider_pkt *d)
{
    enum drop drop;
    d->step = PROVIDER_POPPED;
    if (__builtin_expect(!parse_plain(pkt), 0)) {
        if ((drop = parse_frame(pkt)))
            return drop;
        if (pkt->flags & PKT_VLAN)
            return DROP_INNER_VLAN;
        if (pkt->l3_type == PKT_L3_ARP)
            d->step = PROVIDER_POPPED_ARP;
        else if (arpnd_is_nd(pkt))
            d->step = PROVIDER_POPPED_ND;
    }
    if (__builtin_expect((pkt->flags & PKT_PARTIAL) || pkt->gso, 0))
        return offload_check(b->p.host->io->pool.arena, pkt);
    return DROP_NONE;
}

/*
 * Pops what looks like a tunnel of ours, if it is: false, and nothing has happened, if it takes a closer look. `len` bytes of outer
 * header; `end`: where the outer packet ends. The packet may have been dropped then: pkt is NULL.
 */
static inline __attribute__((always_inline)) bool provider_pop(struct provider_batch *b, struct pkt **pkt, struct provider_pkt *d,
                                                               unsigned len, uint32_t end, uint32_t at)
{
    struct pkt *p = *pkt;
    uint32_t vsid = get32(p->data + len - 4) >> 8, subnet = provider_subnet(&b->p, vsid);
    if (end > p->len || end < len || len > p->head || subnet == INDEX_NONE)
        return false;
    d->outer = p->data;
    d->outer_len = (uint8_t)len;
    d->outer_tos = len == NVGRE4_LEN ? p->data[15] : (uint8_t)(p->data[14] << 4 | p->data[15] >> 4);
    d->sender = 0;
    d->subnet = subnet;
    pkt_trim(p, end);
    pkt_pop(p, (uint16_t)len);
    enum drop drop = provider_inner(b, p, d);
    if (__builtin_expect(drop, 0)) {
        provider_drop_inner(&b->p, p, d, drop);
        *pkt = NULL;
    } else if (__builtin_expect(d->step == PROVIDER_POPPED, 1)) {
        provider_begin(&b->records, b->records4, &b->records_wide, b->records6, vsid, p, at);
    }
    return true;
}

/* Any other packet. */
static __attribute__((noinline)) enum drop provider_check(struct provider_batch *b, struct pkt *pkt, struct provider_pkt *d,
                                                          uint32_t at)
{
    enum drop drop = parse_plain(pkt) ? DROP_NONE : parse_frame(pkt);
    if (drop)
        return drop;
    if (pkt->flags & PKT_VLAN)
        return DROP_UNDERLAY_VLAN;
    bool arp = pkt->l3_type == PKT_L3_ARP, nd = arpnd_is_nd(pkt);
    if (!mac_equal(pkt->data, b->p.in->mac) && !(mac_is_group(pkt->data) && (arp || nd)))
        return DROP_UNDERLAY_DST_MAC;
    if (mac_is_group(pkt->data + 6))
        return DROP_UNDERLAY_SRC_MAC;
    d->step = arp ? PROVIDER_ARP : nd ? PROVIDER_ND : PROVIDER_PA;
    if (d->step == PROVIDER_PA)
        provider_begin(&b->pas, b->pas4, &b->pas_wide, b->pas6, 0, pkt, at);
    return DROP_NONE;
}

/* False: the packet has left the batch. */
static inline __attribute__((always_inline)) bool provider_start(struct provider_batch *b, struct pkt *pkt,
                                                                 struct provider_pkt *d, uint32_t at)
{
    const uint8_t *p = pkt->data;
    d->pkt = pkt;
    if (__builtin_expect(provider_looks(&b->image4, p, NVGRE4_LEN) && csum_ip4_plain_ok(p + ETH_LEN), 1)) {
        if (provider_pop(b, &pkt, d, NVGRE4_LEN, ETH_LEN + get16(p + ETH_LEN + 2), at))
            return pkt;
    } else if (provider_looks(&b->image6, p, NVGRE6_LEN)) {
        if (provider_pop(b, &pkt, d, NVGRE6_LEN, ETH_LEN + IP6_LEN + get16(p + ETH_LEN + 4), at))
            return pkt;
    }
    return !io_dropped(b->p.host->io, pkt, provider_check(b, pkt, d, at));
}

/* ---- pass 3 */

/* The packet comes from where its source lives: the record's next hop is the way back to the PA that sent it. */
static inline __attribute__((always_inline)) bool provider_is_home(const struct provider *p, const struct provider_pkt *d)
{
    if (act_kind(d->from.act) != ACT_NVGRE)
        return false;
    const struct next_hop *nh = &p->tables->next_hops[act_index(d->from.act)];
    if (__builtin_expect(d->outer_len == NVGRE4_LEN, 1))
        return nh->header_len == NVGRE4_LEN && load32(nh->header + 30) == load32(d->outer + ETH_LEN + 12);
    const uint8_t *source = d->outer + ETH_LEN + 8;
    return nh->header_len == NVGRE6_LEN && load64(nh->pa) == load64(source) && load64(nh->pa + 8) == load64(source + 8);
}

static inline __attribute__((always_inline)) void provider_carry_popped(const struct provider *p, struct provider_pkt *d)
{
    struct pkt *pkt = d->pkt;
    uint64_t to = load64(pkt->data) & PROVIDER_MAC, from = load64(pkt->data + 6) & PROVIDER_MAC;
    bool plain = act_kind(d->to.act) == ACT_LOCAL && to == d->to.mac && from == d->from.mac && provider_is_home(p, d) &&
                 !is_any(pkt->l3_type, pkt_source(pkt)) && is_host(pkt->l3_type, pkt_destination(pkt));
    if (__builtin_expect(!plain, 0) && provider_refused(p, d))
        return;
    if (__builtin_expect(d->outer_tos & 3, 0) && !nvgre_ecn(pkt, d->outer_tos))
        io_drop(p->host->io, pkt, DROP_ECN);
    else
        local_deliver(p->host, pkt, act_index(d->to.act), d->subnet);
}

static inline __attribute__((always_inline)) void provider_carry_rewrite(struct provider *p, struct provider_pkt *d)
{
    struct pkt *pkt = d->pkt;
    const struct rewrite *to = &p->tables->rewrites[act_index(d->to.act)], *from = NULL;
    if (__builtin_expect(act_kind(d->from.act) == ACT_PA_REWRITE, 1))
        from = &p->tables->rewrites[act_index(d->from.act)];
    if (__builtin_expect(!from || from->vsid == 0 || from->host == p->tables->self_host, 0)) {
        provider_no_source(p, d);
        return;
    }
    uint32_t subnet = INDEX_NONE;
    enum drop drop = DROP_REWRITE_UNBOUND;
    if (to->vsid)
        drop = from->rdid != to->rdid ? DROP_REWRITE_RDID : DROP_NONE;
    if (!drop && __builtin_expect(!(pkt->flags & PKT_PLAIN) || pkt->flags & PKT_PARTIAL || pkt->gso, 0))
        drop = provider_check_rewrite(p, pkt);
    if (!drop && (subnet = provider_subnet(p, to->vsid)) == INDEX_NONE)
        drop = DROP_REWRITE_UNBOUND;
    if (io_dropped(p->host->io, pkt, drop))
        return;
    rewrite_addresses(pkt, from->ca, to->ca);
    memcpy(pkt->data, to->mac, 6);
    memcpy(pkt->data + 6, from->vsid == to->vsid ? from->mac : p->tables->router_mac, 6);
    local_deliver(p->host, pkt, to->port, subnet);
}

static inline __attribute__((always_inline)) void provider_carry(struct provider *p, struct provider_pkt *d)
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
    struct provider_pkt pkts[DP_BATCH];
    struct provider_batch b;
    uint32_t n = 0;
    b.p = (struct provider){.host = host, .tables = t, .in = in, .last_subnet = INDEX_NONE};
    b.pas4 = map_view(t->pas4), b.pas6 = map_view(t->pas6);
    b.records4 = map_view(t->records4), b.records6 = map_view(t->records6);
    b.pas.n = b.pas_wide.n = b.records.n = b.records_wide.n = 0;
    provider_image(&b.image4, NVGRE4_LEN, in->mac, t->shared_pa4);
    provider_image(&b.image6, NVGRE6_LEN, in->mac, t->shared_pa6);

    for (uint32_t i = 0; i < batch->n; i++)
        n += provider_start(&b, &batch->pkt[i], &pkts[n], n);
    lookup_all(&b.records, b.records4, 1, t, &pkts[0].from, sizeof *pkts / 2);
    lookup_all(&b.pas, b.pas4, 1, t, &pkts[0].from, sizeof *pkts / 2);
    lookup_all(&b.records_wide, b.records6, 3, t, &pkts[0].from, sizeof *pkts / 2);
    lookup_all(&b.pas_wide, b.pas6, 3, t, &pkts[0].from, sizeof *pkts / 2);
    for (uint32_t i = 0; i < n; i++)
        provider_carry(&b.p, &pkts[i]);
}
