/*
 * inner.c: the source check of a popped packet, and whether its destination lives here; README.md 3.9 to
 * 3.12.
 */
#include "step/inner.h"
#include "step/arpnd.h"

uint32_t inner_sender(const struct tables *tables, const uint8_t *outer, uint8_t len)
{
    bool ip4 = len == NVGRE4_LEN;
    return lookup_pa(tables, ip4 ? DP_IPV4 : DP_IPV6, outer + ETH_LEN + (ip4 ? 12 : 8)).act;
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
    if (act_kind(act) == ACT_VIA) {
        const struct via *via = &t->vias[act_index(act)];
        vsid = via->vsid;
        record = lookup_record(t, vsid, family, via->ca);
    } else if (act_kind(act) == ACT_ONLINK) {
        vsid = t->subnets[act_index(act)].vsid;
        if (vsid != subnet->vsid)
            record = lookup_record(t, vsid, family, ca);
        own = act_kind(record.act) != ACT_GATEWAY && record.act;
        if (!record.act)
            record = lookup_wildcard(t, vsid, family);
    } else {
        record = lookup_wildcard(t, vsid, family);
    }
    if (!record.act || lookup_host(t, record.act) != inner->sender) /* 3.9.4, 3.9.7, 3.9.9, 3.9.11 */
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
    if (lookup_host(inner->tables, record->act) != inner->sender) /* 3.9.5 */
        return DROP_INNER_SOURCE_HOST;
    /* 3.9.6 */
    return mac_word(mac) == lookup_mac_word(inner->tables, record) ? DROP_NONE : DROP_INNER_SRC_MAC;
}

/* No record for the destination: a prefix routed to a local CA, or the subnet's local wildcard. */
static struct lookup_answer inner_beyond(const struct inner *inner, unsigned family, const uint8_t *ca)
{
    const struct tables *t = inner->tables;
    const struct subnet *subnet = &t->subnets[inner->subnet];
    uint32_t act = tables_route(t, subnet->rdid, family, ca);
    struct map_value record = {0};
    if (act_kind(act) == ACT_VIA && t->vias[act_index(act)].vsid == subnet->vsid) /* 3.12.4 */
        record = lookup_record(t, subnet->vsid, family, t->vias[act_index(act)].ca);
    if (act_kind(record.act) != ACT_LOCAL) /* 3.12.5 */
        record = lookup_wildcard(t, subnet->vsid, family);
    return lookup_answer_of(act_kind(record.act) == ACT_LOCAL ? record : (struct map_value){0});
}

static enum drop inner_check_destination(const struct inner *inner, const struct pkt *pkt,
                                         struct lookup_answer *to)
{
    if (to->act == 0)
        *to = inner_beyond(inner, pkt->l3_type, pkt_destination(pkt));
    enum act kind = act_kind(to->act);
    if (kind != ACT_LOCAL) /* 3.12.1 */
        /* 3.12.2, 3.12.3, 3.12.6 */
        return kind == ACT_NONE ? DROP_NO_RECORD : kind == ACT_GATEWAY ? DROP_ROUTER_LOCAL : DROP_NOT_LOCAL;
    return mac_word(pkt->data) == to->mac ? DROP_NONE : DROP_INNER_DST_MAC; /* 3.12.7 */
}

enum drop inner_check(const struct inner *inner, const struct pkt *pkt, const struct lookup_answer *from,
                      struct lookup_answer *to)
{
    const uint8_t *source = pkt_source(pkt);
    /* 3.9.1, 3.9.2 */
    if (is_any(pkt->l3_type, source) || (pkt->l3_type == PKT_L3_IP6 && is_link_local(source)))
        return DROP_INNER_SOURCE;
    enum drop drop = inner_check_source(inner, from, pkt->l3_type, source, pkt->data + 6);
    if (drop)
        return drop;
    if (mac_is_group(pkt->data)) /* 3.11.1 */
        return DROP_MULTICAST;
    if (!is_host(pkt->l3_type, pkt_destination(pkt))) /* 3.11.2 */
        return DROP_NO_RECORD;
    return inner_check_destination(inner, pkt, to);
}

/* The sender of ARP and ND: its record is looked up here. */
static enum drop inner_check_sender(const struct inner *inner, unsigned family, const uint8_t *ca,
                                    const uint8_t *mac)
{
    uint32_t vsid = inner->tables->subnets[inner->subnet].vsid;
    struct lookup_answer record = lookup_answer_of(lookup_record(inner->tables, vsid, family, ca));
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
    uint8_t own[16];
    mac_link_local(own, mac);
    return type == ND_NS && !memcmp(source, own, 16) ? DROP_NONE : DROP_INNER_SOURCE; /* 3.9.2, 3.9.3 */
}

enum drop inner_check_arpnd(const struct inner *inner, const struct pkt *pkt)
{
    return pkt->l3_type == PKT_L3_ARP ? inner_check_arp(inner, pkt) : inner_check_nd(inner, pkt);
}
