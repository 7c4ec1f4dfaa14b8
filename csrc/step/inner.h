/*
 * inner.h: who may say what inside a tunnel, README.md 3.9 to 3.12. A popped, parsed packet, what its
 * addresses' lookups yielded and const tables in, a reason to drop it out. Called by from_provider.
 */
#ifndef INNER_H
#define INNER_H
#include "base/drop.h"
#include "base/hot.h"
#include "pkt/pkt.h"
#include "table/lookup.h"

/*
 * Where the packet came out: the subnet of its VSID (index), and the host that sent it. redirected: which was
 * not the first (3.14.1). excused: it may have been that one, whoever the source is; inner_check() sets it.
 */
struct inner {
    const struct tables *tables;
    uint32_t subnet, sender;
    bool redirected, excused;
};

/* What the outer source yields, of a frame whose header has `len` bytes: act, the sender's. */
uint32_t inner_sender(const struct tables *tables, const uint8_t *outer, uint8_t len);
struct inner inner_at(const struct tables *tables, uint32_t subnet, uint32_t sender, const uint8_t *outer,
                      uint8_t len);
/*
 * An IP packet: `from`, `to`: what (VSID, source) and (VSID, destination) yield. *to becomes what there is
 * instead, when a route or the subnet's wildcard leads here. DROP_NONE: it is *to's, a port's of this host;
 * or another host's, to be redirected; or to a group's MAC.
 */
enum drop inner_check(struct inner *inner, const struct pkt *pkt, const struct lookup_answer *from,
                      struct lookup_answer *to);
/*
 * A packet that inner_check() let pass to another host's record, `act`: the next hop to push it by, a copy.
 * The inner frame stays as it is, but for the outer ECN field.
 */
enum drop inner_redirect(const struct tables *tables, struct pkt *pkt, uint8_t outer_tos, uint32_t act,
                         struct next_hop *way);
/* The sender of ARP, of ND (whose form is checked first). */
enum drop inner_check_arpnd(const struct inner *inner, const struct pkt *pkt);

/*
 * Most need no closer look. The packet comes from where its source lives: the way of the record, `from`, is
 * the one back to the PA that sent it. outer: the outer frame, whose header has `len` bytes.
 */
HOT bool inner_is_home(const struct tables *t, uint32_t from, const uint8_t *outer, uint8_t len)
{
    if (act_kind(from) != ACT_NVGRE)
        return false;
    const struct next_hop *nh = &t->next_hops[act_index(from)];
    if (__builtin_expect(len == NVGRE4_LEN, 1))
        return next_hop_header_len(nh) == NVGRE4_LEN &&
               load32(nh->header + 30) == load32(outer + ETH_LEN + 12);
    const uint8_t *source = outer + ETH_LEN + 8;
    return next_hop_header_len(nh) == NVGRE6_LEN && load64(nh->pa) == load64(source) &&
           load64(nh->pa + 8) == load64(source + 8);
}

#endif
