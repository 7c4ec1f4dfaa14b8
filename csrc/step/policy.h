/*
 * policy.h: makes what source.h searches: a port's sources in, their order and edges in its policy out.
 * Called by control/ for a policy that no reader has seen.
 */
#ifndef POLICY_H
#define POLICY_H
#include <stddef.h>
#include "table/tables.h"

/* A policy begins at a line. */
enum { POLICY_LINE = 64 };
/* Bytes of a policy with these sources, in any order: whole lines. */
size_t policy_size(const struct port_source *sources, uint32_t n);
/* All of a policy that is about sources; it is as large as policy_size() says, and they are all 0. */
void policy_set_sources(struct port_policy *policy, const struct port_source *sources, uint32_t n);
/* The policy's own CA, in many by halving; NULL: it is not. */
const struct port_source *policy_own(const struct port_policy *policy, unsigned family, const uint8_t *ca);

#endif
