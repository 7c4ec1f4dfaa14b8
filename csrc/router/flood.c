/* flood.c: packets to groups: which are, from whom, how many, and a copy of one. */
#include "router/flood.h"
#include <stdatomic.h>
#include "pkt/cursor.h"
#include "step/gso.h"
#include "step/limit.h"
#include "step/source.h"
#include "table/map_inline.h"

/* The last address of a prefix on link in the subnet. */
static bool flood_is_directed(const struct tables *t, uint32_t subnet, const uint8_t *address)
{
    const uint32_t number = get32(address), rdid = t->subnets[subnet].rdid;
    const uint64_t lengths = atomic_load_explicit(&t->lengths[rdid].len4, memory_order_acquire);
    for (unsigned len = 31; number & 1 && len-- && (number >> (31 - len) & 1);) {
        if (!(lengths >> len & 1))
            continue;
        const uint32_t prefix = __builtin_bswap32(number & (uint32_t)~(UINT64_C(0xffffffff) >> len));
        const uint64_t key = key_route4(rdid, len, (const uint8_t *)&prefix);
        struct map_value value;
        if (map_get(t->routes4, &key, &value) && value.act == act_make(ACT_ONLINK, subnet))
            return true;
    }
    return false;
}

static bool flood_fits4(const struct tables *t, uint32_t subnet, const uint8_t *mac, const uint8_t *address)
{
    const uint8_t group[6] = {0x01, 0x00, 0x5e, address[1] & 0x7f, address[2], address[3]};
    if (address[0] >> 4 == 0xe) /* 5.1.2 */
        return mac_equal(mac, group);
    if (~mac_word(mac) << 16) /* 5.1.3 */
        return false;
    /* 5.1.4 */
    return load32(address) == UINT32_MAX || flood_is_directed(t, subnet, address);
}

enum drop flood_check(const struct tables *t, uint32_t subnet, const struct pkt *pkt)
{
    const uint8_t *address = pkt_destination(pkt), *mac = pkt->data;
    if (!flood_of(t, subnet)) /* 5.1.1 */
        return DROP_MULTICAST;
    if (pkt->l3_type == PKT_L3_IP4)
        return flood_fits4(t, subnet, mac, address) ? DROP_NONE : DROP_GROUP_ADDRESS;
    const uint8_t group[6] = {0x33, 0x33, address[12], address[13], address[14], address[15]};
    return address[0] == 0xff && mac_equal(mac, group) ? DROP_NONE : DROP_GROUP_ADDRESS; /* 5.1.5 */
}

bool flood_allows(const struct flood *flood, struct subnet *subnet, const struct pkt *pkt)
{
    const uint64_t now = pkt->time * (LIMIT_SECOND / 1000000000);
    return limit_take(pkt->in_port == DP_UNDERLAY ? &subnet->heard : &subnet->sent, &flood->rate, now,
                      limit_cost(&flood->rate, gso_segments(pkt)));
}

bool flood_is_mld(const struct tables *t, uint32_t subnet, uint32_t host, const struct pkt *pkt)
{
    const struct flood *flood = flood_of(t, subnet);
    if (!flood || !source_is_mld(pkt) || mac_is_group(pkt->data + 6))
        return false;
    for (uint32_t i = 0; i < flood->hops; i++)
        if (t->next_hops[flood->to[flood->ports + i]].host == host)
            return true;
    return false;
}

bool flood_copy(struct pool *pool, const struct pkt *pkt, struct pkt *copy)
{
    const uint16_t head = pkt->head < POOL_HEAD_MAX ? pkt->head : POOL_HEAD_MAX;
    const uint32_t slot = pool_get(pool);
    if (slot == POOL_NONE)
        return false;
    *copy = *pkt;
    copy->slot = slot;
    copy->slots = 1;
    copy->data = pool_data(pool->arena, slot);
    copy->head = head;
    if (head < pkt->len) {
        struct cursor rest = cursor_at(pool->arena, pkt, head);
        pool->arena->segs[slot] = cursor_seg(&rest);
    }
    memcpy(copy->data, pkt->data, head);
    return true;
}
