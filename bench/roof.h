/*
 * roof.h: the least work that a program has with the frames of an operation, to measure its clocks by.
 *
 * A roof makes the same packets of the same frames and records, and nothing else: no counters, no
 * descriptors, no options, no fragments, one protocol (UDP), one outcome beside "dropped". It checks what
 * says whose packet it is (MACs, EtherType, lengths, addresses, VSID), scans the slots of one line, seldom of two,
 * for a record, and touches the bytes that must change. It is bare, not tuned: plain C as one would write it
 * first. IPv4.
 */
#ifndef ROOF_H
#define ROOF_H
#include "run/engine.h"

struct dp_roof;

/* One batch: p[i] is where frame i, `len` bytes, starts, then where its output starts, NULL: dropped. */
void roof_run(const struct dp_roof *roof, uint8_t *p[DP_BATCH], uint32_t len);
/* How much longer (shorter: negative) a frame leaves than it came. */
int roof_growth(const struct dp_roof *roof);

#endif
