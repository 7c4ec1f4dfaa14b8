/*
 * from_provider.h: what from_provider.c and from_provider_rest.c know of a packet from the underlay. Private
 * to the two.
 */
#ifndef FROM_PROVIDER_H
#define FROM_PROVIDER_H
#include "host/host.h"
#include "step/nvgre.h"
#include "table/lookup_batch.h"

/* The first two have lookups: of records, of PAs. */
enum provider_step {
    PROVIDER_POPPED,
    PROVIDER_PA,
    PROVIDER_ARPND,
    PROVIDER_POPPED_ARPND,
};

/* The batch's side: what its packets are compared with, and the last VSID that was found. */
struct provider {
    const struct host *host;
    const struct tables *tables;
    struct port *in;
    uint32_t last_vsid, last_subnet;
};

/* What is known of one packet: a line, and another for the lookups. */
struct provider_pkt {
    struct pkt *pkt;
    const uint8_t *outer;           /* once popped: the outer frame */
    struct lookup_answer from, to;  /* of the outer source and destination; once popped, of the inner CAs */
    uint32_t subnet;                /* of the VSID, index */
    uint32_t sender; /* act of the outer source, which is another host's; 0: nobody has looked yet */
    uint8_t step;                   /* enum provider_step */
    bool wide;                      /* its lookups' keys are of three words */
    uint8_t outer_len;              /* once popped: bytes of its header, without options or extensions */
    struct lookup look_from __attribute__((aligned(64))), look_to;
};
_Static_assert(sizeof(struct provider_pkt) == 128, "two lines");

/* TOS or traffic class of what it was popped from. */
static inline uint8_t provider_outer_tos(const struct provider_pkt *d)
{
    const uint8_t *ip = d->outer + ETH_LEN;
    return d->outer_len == NVGRE4_LEN ? ip[1] : (uint8_t)(ip[0] << 4 | ip[1] >> 4);
}

/* True: p->last_subnet is that of the VSID, as index; false: there is none. */
static inline bool provider_in_subnet(struct provider *p, uint32_t vsid)
{
    if (__builtin_expect(vsid == p->last_vsid, 1))
        return true;
    uint32_t subnet = tables_subnet(p->tables, vsid);
    if (subnet != INDEX_NONE)
        p->last_vsid = vsid, p->last_subnet = subnet;
    return subnet != INDEX_NONE;
}

/* A popped packet that can't be what it says: dropped for this, or because no host of ours sent it. */
void provider_drop_inner(const struct provider *p, struct provider_pkt *d, enum drop drop);
/*
 * Every check of a popped IP packet, in order; may find another record for its destination. True: it was
 * dropped or redirected.
 */
bool provider_refused(const struct provider *p, struct provider_pkt *d);
/* To a rewrite PA of ours, from no rewrite PA of another host. */
void provider_no_source(struct provider *p, const struct provider_pkt *d);
/* ARP and ND, outside and in tunnels; packets to a shared PA, and to none of ours. */
void provider_rest(struct provider *p, struct provider_pkt *d);

#endif
