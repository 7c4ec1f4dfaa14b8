/*
 * inner.c: the source check of a popped packet, and whether its destination lives here; README.md 3.9 to
 * 3.12.
 */
#include "step/inner.h"
#include "step/arpnd.h"
#include "step/nvgre.h"

uint32_t inner_sender(const struct tables *tables, const uint8_t *outer, uint8_t len)
{
    bool ip4 = len == NVGRE4_LEN;
    return lookup_pa(tables, ip4 ? DP_IPV4 : DP_IPV6, outer + ETH_LEN + (ip4 ? 12 : 8)).act;
}

struct inner inner_at(const struct tables *tables, uint32_t subnet, uint32_t sender, const uint8_t *outer,
                      uint8_t len)
{
    bool redirected = outer[ETH_LEN + (len == NVGRE4_LEN ? 8 : 7)] <= NVGRE_TTL_REDIRECTED; /* 3.14.1 */
    return (struct inner){tables, subnet, lookup_host(tables, sender), redirected, false};
}

static const uint8_t inner_any[16];

static uint32_t inner_vsid(const struct inner *inner) { return inner->tables->subnets[inner->subnet].vsid; }

/* The sender may speak for whom a record is of: it is its home, or the other one of what moves. */
static bool inner_speaks(const struct inner *inner, uint32_t vsid, unsigned family, const uint8_t *ca,
                         uint32_t act)
{
    uint32_t home = lookup_host(inner->tables, act);
    if (home == inner->sender || home == INDEX_NONE)    /* that is a gateway's, and nobody's */
        return home == inner->sender;
    /* 3.9.14, 3.9.15 */
    return inner->excused || lookup_move(inner->tables, vsid, family, ca) == inner->sender;
}

/* Who may speak for a source CA that has no record in the VSID itself. */
static enum drop inner_check_beyond(const struct inner *inner, unsigned family, const uint8_t *ca,
                                    const uint8_t *mac)
{
    const struct tables *t = inner->tables;
    const struct subnet *subnet = &t->subnets[inner->subnet];
    uint32_t vsid = subnet->vsid, act = tables_route(t, subnet->rdid, family, ca);
    struct map_value record = {0};
    bool own = false;           /* the record found is the CA's own */
    const uint8_t *of = inner_any;
    if (act_kind(act) == ACT_VIA) {
        const struct via *via = &t->vias[act_index(act)];
        vsid = via->vsid;
        of = via->ca;
        record = lookup_record(t, vsid, family, via->ca);
    } else if (act_kind(act) == ACT_ONLINK) {
        vsid = t->subnets[act_index(act)].vsid;
        if (vsid != subnet->vsid)
            record = lookup_record(t, vsid, family, ca);
        own = act_kind(record.act) != ACT_GATEWAY && record.act;
        of = own ? ca : inner_any;
        if (!record.act)
            record = lookup_wildcard(t, vsid, family);
    } else {
        record = lookup_wildcard(t, vsid, family);
    }
    if (!inner_speaks(inner, vsid, family, of, record.act)) /* 3.9.4, 3.9.7, 3.9.9, 3.9.11 */
        return own ? DROP_INNER_SOURCE_HOST : DROP_INNER_SOURCE;
    const uint8_t *expected = vsid == subnet->vsid ? lookup_mac(t, &record) : t->router_mac;
    /* 3.9.8, 3.9.10, 3.9.12 */
    return mac_equal(mac, expected) ? DROP_NONE : DROP_INNER_SRC_MAC;
}

/* `record` is what (VSID, ca) yields. */
static enum drop inner_check_source(const struct inner *inner, const struct lookup_answer *record,
                                    unsigned family, const uint8_t *ca, const uint8_t *mac)
{
    if (act_kind(record->act) == ACT_NONE)
        return inner_check_beyond(inner, family, ca, mac);
    if (act_kind(record->act) == ACT_GATEWAY) /* 3.9.4 */
        return DROP_INNER_SOURCE;
    if (!inner_speaks(inner, inner_vsid(inner), family, ca, record->act)) /* 3.9.5 */
        return DROP_INNER_SOURCE_HOST;
    /* 3.9.6 */
    return mac_word(mac) == lookup_mac_word(inner->tables, record) ? DROP_NONE : DROP_INNER_SRC_MAC;
}

/* What (VSID, ca) yields is a port's of this host, or has just left it. */
static bool inner_goes_on(const struct inner *inner, unsigned family, const uint8_t *ca, uint32_t act)
{
    if (act_kind(act) != ACT_NVGRE && act_kind(act) != ACT_REWRITE)
        return act_kind(act) == ACT_LOCAL;
    return !inner->redirected && /* 3.12.8, 3.14.1 */
           lookup_move(inner->tables, inner_vsid(inner), family, ca) == inner->tables->self_host;
}

/*
 * No record for the destination: a prefix routed to a local CA, or the subnet's local wildcard. *ca becomes
 * the record's.
 */
static struct lookup_answer inner_beyond(const struct inner *inner, unsigned family, const uint8_t **ca)
{
    const struct tables *t = inner->tables;
    const struct subnet *subnet = &t->subnets[inner->subnet];
    uint32_t act = tables_route(t, subnet->rdid, family, *ca);
    struct map_value record = {0};
    if (act_kind(act) == ACT_VIA && t->vias[act_index(act)].vsid == subnet->vsid) { /* 3.12.4 */
        *ca = t->vias[act_index(act)].ca;
        record = lookup_record(t, subnet->vsid, family, *ca);
    }
    if (!inner_goes_on(inner, family, *ca, record.act)) { /* 3.12.5 */
        *ca = inner_any;
        record = lookup_wildcard(t, subnet->vsid, family);
    }
    return lookup_answer_of(inner_goes_on(inner, family, *ca, record.act) ? record : (struct map_value){0});
}

/* A redirected packet, to where its destination moves, and from where that was. */
static bool inner_excuses(const struct inner *inner, const struct pkt *pkt, struct lookup_answer to)
{
    const uint8_t *ca = pkt_destination(pkt);
    if (!inner->redirected || mac_is_group(pkt->data) || !is_host(pkt->l3_type, ca))
        return false;
    if (to.act == 0)
        to = inner_beyond(inner, pkt->l3_type, &ca);
    return act_kind(to.act) == ACT_LOCAL && /* 3.9.15 */
           lookup_move(inner->tables, inner_vsid(inner), pkt->l3_type, ca) == inner->sender;
}

static enum drop inner_check_destination(const struct inner *inner, const struct pkt *pkt,
                                         struct lookup_answer *to)
{
    const uint8_t *ca = pkt_destination(pkt);
    if (to->act == 0)
        *to = inner_beyond(inner, pkt->l3_type, &ca);
    enum act kind = act_kind(to->act);
    if (!inner_goes_on(inner, pkt->l3_type, ca, to->act)) /* 3.12.1 */
        /* 3.12.2, 3.12.3, 3.12.6 */
        return kind == ACT_NONE ? DROP_NO_RECORD : kind == ACT_GATEWAY ? DROP_ROUTER_LOCAL : DROP_NOT_LOCAL;
    /* 3.12.7 */
    return mac_word(pkt->data) == lookup_mac_word(inner->tables, to) ? DROP_NONE : DROP_INNER_DST_MAC;
}

enum drop inner_check(struct inner *inner, const struct pkt *pkt, const struct lookup_answer *from,
                      struct lookup_answer *to)
{
    const uint8_t *source = pkt_source(pkt);
    /* 3.9.1, 3.9.2 */
    if (is_any(pkt->l3_type, source) || (pkt->l3_type == PKT_L3_IP6 && is_link_local(source)))
        return DROP_INNER_SOURCE;
    inner->excused = inner_excuses(inner, pkt, *to);
    enum drop drop = inner_check_source(inner, from, pkt->l3_type, source, pkt->data + 6);
    if (drop)
        return drop;
    if (mac_is_group(pkt->data)) /* 3.11.1: there is no record */
        return DROP_NONE;
    if (!is_host(pkt->l3_type, pkt_destination(pkt))) /* 3.11.2 */
        return DROP_NO_RECORD;
    return inner_check_destination(inner, pkt, to);
}

enum drop inner_redirect(const struct tables *tables, struct pkt *pkt, uint8_t outer_tos, uint32_t act,
                         struct next_hop *way)
{
    const uint32_t index = lookup_way(tables, act);
    if (!nvgre_ecn(pkt, outer_tos)) /* 3.14.2 */
        return DROP_ECN;
    if (index == INDEX_NONE)
        return DROP_NO_SHARED_PA;
    nvgre_redirecting(way, &tables->next_hops[index]);
    return DROP_NONE;
}

/* The sender of ARP and ND: its record is looked up here. */
static enum drop inner_check_sender(const struct inner *inner, unsigned family, const uint8_t *ca,
                                    const uint8_t *mac)
{
    struct lookup_answer record =
        lookup_answer_of(lookup_record(inner->tables, inner_vsid(inner), family, ca));
    return inner_check_source(inner, &record, family, ca, mac);
}

static enum drop inner_check_arp(const struct inner *inner, const struct pkt *pkt)
{
    const uint8_t *arp = arpnd_body(pkt);
    if (is_any(DP_IPV4, arp + 14)) /* 3.9.1 */
        return DROP_INNER_SOURCE;
    enum drop drop = inner_check_sender(inner, DP_IPV4, arp + 14, arp + 8);
    return drop || mac_equal(pkt->data + 6, arp + 8) ? drop : DROP_INNER_SRC_MAC; /* 3.9.13 */
}

static enum drop inner_check_nd(const struct inner *inner, const struct pkt *pkt)
{
    const uint8_t *source = pkt_source(pkt), *mac = pkt->data + 6, *lladdr;
    uint8_t type = pkt->data[pkt->l4];
    if (!arpnd_nd_valid(pkt, &lladdr)) /* 3.10.1 */
        return DROP_ND_MALFORMED;
    if (type == ND_RA || type == ND_REDIRECT) /* 3.10.2 */
        return DROP_ND_ROUTER;
    if (is_any(DP_IPV6, source)) /* 3.9.1 */
        return DROP_INNER_SOURCE;
    if (!is_link_local(source))
        return inner_check_sender(inner, DP_IPV6, source, mac);
    bool asks = type == ND_NS && is_guest_link_local(source) && !mac_is_group(mac); /* 3.9.2, 3.9.3 */
    return asks ? DROP_NONE : DROP_INNER_SOURCE;
}

enum drop inner_check_arpnd(const struct inner *inner, const struct pkt *pkt)
{
    return pkt->l3_type == PKT_L3_ARP ? inner_check_arp(inner, pkt) : inner_check_nd(inner, pkt);
}
