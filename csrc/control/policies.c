/*
 * policies.c: rows of ports and their sources. They draft; at the end of the change set each draft that
 * was touched becomes a new policy. Called by changes.c, row by row.
 */
#include <stdlib.h>
#include "control/changes.h"
#include "step/limit.h"
#include "step/policy.h"

struct draft *policy_draft(const struct change *change, uint32_t port)
{
    struct draft *draft = change->writer->drafts[port];
    return draft && draft->vsid ? draft : NULL;
}

/* A draft that there is stays, if only as room for the next one; so does the room for its sources. */
int policy_ready(struct change *change, uint32_t port)
{
    struct draft **draft = &change->writer->drafts[port];
    const struct port_policy *now = control_tables(change->control)->policies[port];
    if (change->restoring)
        return DP_OK;
    if ((!*draft && !(*draft = calloc(1, sizeof **draft))) || !policy_room(*draft))
        return tell_no_memory(&change->tell, DP_ENOMEM);
    if (now && !change->spares[port]) {
        const size_t size = policy_size(now->sources, (uint32_t)now->n4 + now->n6);
        if (!(change->spares[port] = aligned_alloc(POLICY_LINE, size)))
            return tell_no_memory(&change->tell, DP_ENOMEM);
    }
    change->touched[port] = true;
    return DP_OK;
}

/* ---- rows ---------------------------------------------------------------------------------------------- */

static int policy_check_limit(struct change *change, const char *what, uint64_t rate, uint64_t burst)
{
    if (!rate != !burst || burst > UINT32_MAX)
        return tell(&change->tell, DP_EINVAL, "a limit of %s needs a rate and a burst under 2^32", what);
    return DP_OK;
}

/* Room for the port's draft, and for its bucket if there is a limit. */
static int policy_port_ready(struct change *change, uint32_t port, const struct port_limit *limit)
{
    int code = policy_ready(change, port);
    struct draft *draft = change->writer->drafts[port];
    if (code || !limit_limits(limit) || draft->bucket)
        return code;
    if (!(draft->bucket = aligned_alloc(sizeof *draft->bucket, sizeof *draft->bucket)))
        return tell_no_memory(&change->tell, DP_ENOMEM);
    memset((void *)draft->bucket, 0, sizeof *draft->bucket);
    return DP_OK;
}

int port_put(struct change *change, const void *p)
{
    const struct dp_row_port *row = p;
    const struct port_limit limit = {limit_rate(row->packets_per_second, row->burst_packets),
                                     limit_rate(row->bytes_per_second, (uint32_t)row->burst_bytes)};
    uint32_t subnet;
    int code = check_port(&change->tell, row->port);
    if (code || (code = change_check_subnet(change, row->vsid, &subnet)) ||
        (code = check_mac(&change->tell, row->mac)) ||
        (code = check_zero(&change->tell, row->pad, sizeof row->pad)) ||
        (code = policy_check_limit(change, "packets", row->packets_per_second, row->burst_packets)) ||
        (code = policy_check_limit(change, "bytes", row->bytes_per_second, row->burst_bytes)))
        return code;
    const struct draft *old = policy_draft(change, row->port);
    if (old && old->vsid == row->vsid && !memcmp(old->mac, row->mac, 6) && limit_same(&old->limit, &limit))
        return DP_OK;
    if (old && old->vsid != row->vsid && change->writer->locals[row->port])
        return tell(&change->tell, DP_EINVAL, "port %u has records in vsid %u", row->port, old->vsid);
    if ((code = policy_port_ready(change, row->port, &limit)) || (code = flood_touch(change, row->vsid)) ||
        (old && (code = flood_touch(change, old->vsid))))
        return code;
    struct draft *draft = change->writer->drafts[row->port];
    draft->vsid = row->vsid;
    draft->limit = limit;
    memcpy(draft->mac, row->mac, 6);
    return DP_OK;
}

int port_del(struct change *change, const void *p)
{
    const struct dp_row_port *row = p;
    int code = check_port(&change->tell, row->port);
    if (code)
        return code;
    struct draft *draft = policy_draft(change, row->port);
    if (!draft)
        return tell(&change->tell, DP_ENOENT, "no port %u", row->port);
    if (draft->n || change->writer->locals[row->port])
        return tell(&change->tell, DP_EINVAL, "port %u still has records or sources", row->port);
    if ((code = policy_ready(change, row->port)) || (code = flood_touch(change, draft->vsid)))
        return code;
    draft->vsid = 0;
    return DP_OK;
}

static int policy_check(struct change *change, const struct dp_row_source *row, struct draft **draft,
                        struct port_source *source)
{
    int code = check_port(&change->tell, row->port);
    if (code || (code = check_prefix(&change->tell, row->family, row->prefix, row->prefix_len)))
        return code;
    *source = (struct port_source){.family = row->family, .prefix_len = row->prefix_len, .extra = 1};
    memcpy(source->ca, row->prefix, 16);
    *draft = policy_draft(change, row->port);
    return *draft ? DP_OK : tell(&change->tell, DP_ENOENT, "no port %u", row->port);
}

int source_put(struct change *change, const void *p)
{
    const struct dp_row_source *row = p;
    struct draft *draft;
    struct port_source source;
    int code = policy_check(change, row, &draft, &source);
    if (code || (code = check_zero(&change->tell, row->pad, sizeof row->pad)))
        return code;
    if (draft->n == UINT16_MAX && !policy_source_of(draft, row->family, row->prefix, row->prefix_len, true))
        return tell(&change->tell, DP_EFULL, "port %u has %u sources already", row->port, draft->n);
    if ((code = policy_ready(change, row->port)))
        return code;
    policy_add(draft, &source);
    return DP_OK;
}

int source_del(struct change *change, const void *p)
{
    const struct dp_row_source *row = p;
    struct draft *draft;
    struct port_source source;
    int code = policy_check(change, row, &draft, &source);
    if (code)
        return code;
    if (!policy_source_of(draft, row->family, row->prefix, row->prefix_len, true))
        return tell(&change->tell, DP_ENOENT, "port %u has no source %s/%u", row->port,
                    tell_address(row->family, row->prefix).s, row->prefix_len);
    if ((code = policy_ready(change, row->port)))
        return code;
    policy_remove(draft, &source);
    return DP_OK;
}

/* ---- policies ------------------------------------------------------------------------------------------ */

/* What is restored goes where there is room for it; what a first try built, no reader has seen. */
int policy_finish(struct change *change)
{
    struct port_policy *const _Atomic *now = control_tables(change->control)->policies;
    for (uint32_t port = 0; port < DP_MAX_PORTS; port++) {
        const struct draft *draft = policy_draft(change, port);
        struct port_policy *policy = change->spares[port];
        if (!change->touched[port])
            continue;
        if (change->next->policies[port] != now[port])
            free(change->next->policies[port]);
        change->next->policies[port] = NULL;
        if (!draft)
            continue;
        if (change->restoring)
            change->spares[port] = NULL;
        else if (!(policy = aligned_alloc(POLICY_LINE, policy_size(draft->sources, draft->n))))
            return tell_no_memory(&change->tell, DP_ENOMEM);
        const uint32_t subnet = change_subnet(change, draft->vsid);
        policy_build(policy, draft, port, subnet, change->next->subnets[subnet].rdid);
        change->next->policies[port] = policy;
    }
    return DP_OK;
}

void policy_settle(struct change *change, const struct tables *old)
{
    for (uint32_t port = 0; port < DP_MAX_PORTS; port++) {
        struct port_policy *was = old->policies[port], *is = change->next->policies[port];
        if (!change->touched[port])
            continue;
        if (is && is->bucket && !(was && limit_same(&was->limit, &is->limit)))
            limit_fill(is->bucket); /* 2.14.1 */
        free(was);
    }
}
