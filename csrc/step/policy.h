/*
 * policy.h: a port's policy, which source.h searches, of what rows say of the port. A draft in, the policy
 * out. Called by control/ for policies that no reader has seen.
 */
#ifndef POLICY_H
#define POLICY_H
#include <stddef.h>
#include "table/tables.h"

/*
 * A port's policy as rows make it; sources in no order. vsid 0: there is none. The bucket is made with the
 * first limit and stays.
 */
struct draft {
    uint32_t vsid;
    uint8_t mac[6];
    struct port_limit limit;
    struct limit_bucket *bucket;
    uint32_t n, capacity;
    struct port_source *sources;
};

void policy_free(struct draft *draft);
/* Makes room for one source more. False: out of memory. */
bool policy_room(struct draft *draft);
/* The own CA (extra false) or allowed prefix (extra true), NULL: there is none. */
struct port_source *policy_source_of(const struct draft *draft, unsigned family, const uint8_t *ca,
                                     unsigned prefix_len, bool extra);
static inline struct port_source *policy_own_of(const struct draft *draft, unsigned family, const uint8_t *ca)
{
    return policy_source_of(draft, family, ca, addr_bits(family), false);
}
/* In place of the same source, if it is there, else into policy_room(). */
void policy_add(struct draft *draft, const struct port_source *source);
void policy_remove(struct draft *draft, const struct port_source *source);

/* A policy begins at a line. */
enum { POLICY_LINE = 64 };
/* Bytes of a policy with these sources, in any order: whole lines. */
size_t policy_size(const struct port_source *sources, uint32_t n);
/* Into as many bytes. subnet: index. */
void policy_build(struct port_policy *policy, const struct draft *draft, uint32_t port, uint32_t subnet,
                  uint32_t rdid);
/* The policy's own CA, in many by halving; NULL: it is not. */
const struct port_source *policy_own(const struct port_policy *policy, unsigned family, const uint8_t *ca);

#endif
