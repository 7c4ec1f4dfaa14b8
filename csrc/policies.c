/* policies.c: rows of ports and their sources. They draft; at the end of the change set each draft that was touched becomes a new policy. */
#include <stdlib.h>
#include "changes.h"

struct draft *policy_draft(const struct change *change, uint32_t port)
{
    return change->writer->drafts[port];
}

void policy_free(struct draft *draft)
{
    if (draft)
        free(draft->sources);
    free(draft);
}

static struct draft *copy(const struct draft *old)
{
    struct draft *draft = calloc(1, sizeof *draft);
    if (!draft || !old)
        return draft;
    *draft = *old;
    draft->capacity = old->n;
    draft->sources = old->n ? malloc(old->n * sizeof *old->sources) : NULL;
    if (old->n && !draft->sources) {
        free(draft);
        return NULL;
    }
    if (old->n)
        memcpy(draft->sources, old->sources, old->n * sizeof *old->sources);
    return draft;
}

struct draft *policy_edit(struct change *change, uint32_t port)
{
    struct draft **at = &change->writer->drafts[port];
    if (change->touched[port] && *at)
        return *at;
    struct draft *draft = copy(*at);
    if (!draft)
        return NULL;
    if (!change->touched[port])
        change->saved[port] = *at;
    change->touched[port] = true;
    *at = draft;
    return draft;
}

struct port_source *policy_source_of(const struct draft *draft, unsigned family, const uint8_t *ca, unsigned prefix_len, bool extra)
{
    for (uint32_t i = 0; i < draft->n; i++) {
        struct port_source *s = &draft->sources[i];
        if (s->family == family && s->extra == extra && s->prefix_len == prefix_len && !memcmp(s->ca, ca, 16))
            return s;
    }
    return NULL;
}

int policy_full(struct change *change, uint32_t port)
{
    return change_fail(change, DP_EFULL, "port %u has %u sources already", port, UINT16_MAX);
}

int policy_add(struct change *change, uint32_t port, const struct port_source *source, bool replace)
{
    struct draft *draft = policy_edit(change, port);
    if (!draft)
        return change_no_memory(change, DP_ENOMEM);
    struct port_source *there = replace ? policy_source_of(draft, source->family, source->ca, source->prefix_len, source->extra) : NULL;
    if (there) {
        *there = *source;
        return DP_OK;
    }
    if (draft->n == UINT16_MAX)
        return policy_full(change, port);
    if (!change_room(&draft->sources, draft->n, &draft->capacity, sizeof *draft->sources))
        return change_no_memory(change, DP_ENOMEM);
    draft->sources[draft->n++] = *source;
    return DP_OK;
}

int policy_remove(struct change *change, uint32_t port, const struct port_source *source)
{
    struct draft *draft = policy_edit(change, port);
    if (!draft)
        return change_no_memory(change, DP_ENOMEM);
    struct port_source *there = policy_source_of(draft, source->family, source->ca, source->prefix_len, source->extra);
    if (there)
        *there = draft->sources[--draft->n];
    return DP_OK;
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

static int check_port(struct change *change, uint32_t port)
{
    if (port == DP_UNDERLAY || port >= DP_MAX_PORTS)
        return change_fail(change, DP_EINVAL, "port %u is not in 1..%u", port, DP_MAX_PORTS - 1);
    return DP_OK;
}

int port_put(struct change *change, const void *p)
{
    const struct dp_row_port *row = p;
    uint32_t subnet;
    int code = check_port(change, row->port);
    if (code || (code = check_subnet(change, row->vsid, &subnet)) || (code = check_mac(change, row->mac)) ||
        (code = check_zero(change, row->pad, sizeof row->pad)))
        return code;
    const struct draft *old = policy_draft(change, row->port);
    if (old && old->vsid == row->vsid && !memcmp(old->mac, row->mac, 6))
        return DP_OK;
    if (old && old->vsid != row->vsid && change->writer->locals[row->port])
        return change_fail(change, DP_EINVAL, "port %u has records in vsid %u", row->port, old->vsid);
    struct draft *draft = policy_edit(change, row->port);
    if (!draft)
        return change_no_memory(change, DP_ENOMEM);
    draft->vsid = row->vsid;
    memcpy(draft->mac, row->mac, 6);
    return DP_OK;
}

int port_del(struct change *change, const void *p)
{
    const struct dp_row_port *row = p;
    int code = check_port(change, row->port);
    if (code)
        return code;
    struct draft *draft = policy_draft(change, row->port);
    if (!draft)
        return change_fail(change, DP_ENOENT, "no port %u", row->port);
    if (draft->n || change->writer->locals[row->port])
        return change_fail(change, DP_EINVAL, "port %u still has records or sources", row->port);
    if (change->touched[row->port])
        policy_free(draft);
    else
        change->saved[row->port] = draft;
    change->touched[row->port] = true;
    change->writer->drafts[row->port] = NULL;
    return DP_OK;
}

static int check_source(struct change *change, const struct dp_row_source *row, const struct draft **draft)
{
    int code = check_port(change, row->port);
    if (code || (code = check_prefix(change, row->family, row->prefix, row->prefix_len)))
        return code;
    *draft = policy_draft(change, row->port);
    return *draft ? DP_OK : change_fail(change, DP_ENOENT, "no port %u", row->port);
}

static struct port_source source_of(const struct dp_row_source *row)
{
    struct port_source source = {.family = row->family, .prefix_len = row->prefix_len, .extra = 1};
    memcpy(source.ca, row->prefix, 16);
    return source;
}

int source_put(struct change *change, const void *p)
{
    const struct dp_row_source *row = p;
    const struct draft *draft;
    int code = check_source(change, row, &draft);
    if (code || (code = check_zero(change, row->pad, sizeof row->pad)))
        return code;
    struct port_source source = source_of(row);
    return policy_add(change, row->port, &source, true);
}

int source_del(struct change *change, const void *p)
{
    const struct dp_row_source *row = p;
    const struct draft *draft;
    int code = check_source(change, row, &draft);
    if (code)
        return code;
    struct port_source source = source_of(row);
    if (!policy_source_of(draft, row->family, row->prefix, row->prefix_len, true))
        return change_fail(change, DP_ENOENT, "port %u has no source %s/%u", row->port, change_address(row->family, row->prefix).s, row->prefix_len);
    return policy_remove(change, row->port, &source);
}

/* ---- policies ---------------------------------------------------------------------------------------------------- */

/* IPv4 before IPv6, own CAs before prefixes, then by address, so that equal drafts make equal policies. */
static int compare(const void *a, const void *b)
{
    const struct port_source *x = a, *y = b;
    if (x->family != y->family)
        return x->family - y->family;
    if (x->extra != y->extra)
        return x->extra - y->extra;
    int order = memcmp(x->ca, y->ca, 16);
    return order ? order : x->prefix_len - y->prefix_len;
}

const struct port_source *policy_own(const struct port_policy *policy, unsigned family, const uint8_t *ca)
{
    struct port_source key = {.family = (uint8_t)family, .prefix_len = family == DP_IPV4 ? 32 : 128};
    memcpy(key.ca, ca, 16);
    return bsearch(&key, policy->sources, (size_t)policy->n4 + policy->n6, sizeof key, compare);
}

static struct port_policy *build(struct change *change, uint32_t port, const struct draft *draft)
{
    struct port_policy *policy = calloc(1, sizeof *policy + draft->n * sizeof policy->sources[0]);
    if (!policy)
        return NULL;
    policy->port = port;
    policy->vsid = draft->vsid;
    policy->subnet = change_subnet(change, draft->vsid);
    policy->rdid = change->next->subnets[policy->subnet].rdid;
    memcpy(policy->mac, draft->mac, 6);
    mac_link_local(policy->link_local, draft->mac);
    for (uint32_t i = 0; i < draft->n; i++)
        *(draft->sources[i].family == DP_IPV4 ? &policy->n4 : &policy->n6) += 1;
    if (draft->n)
        memcpy(policy->sources, draft->sources, draft->n * sizeof policy->sources[0]);
    qsort(policy->sources, draft->n, sizeof policy->sources[0], compare);
    return policy;
}

int policy_finish(struct change *change)
{
    for (uint32_t port = 0; port < DP_MAX_PORTS; port++) {
        const struct draft *draft = policy_draft(change, port);
        if (!change->touched[port])
            continue;
        struct port_policy *policy = draft ? build(change, port, draft) : NULL;
        change->next->policies[port] = policy;
        if (draft && !policy)
            return change_no_memory(change, DP_ENOMEM);
    }
    return DP_OK;
}

void policy_settle(struct change *change, const struct tables *old, bool kept)
{
    for (uint32_t port = 0; port < DP_MAX_PORTS; port++) {
        if (!change->touched[port])
            continue;
        if (kept) {
            policy_free(change->saved[port]);
            free(old->policies[port]);
            continue;
        }
        policy_free(change->writer->drafts[port]);
        change->writer->drafts[port] = change->saved[port];
        if (change->next->policies[port] != old->policies[port])
            free(change->next->policies[port]);
    }
}
