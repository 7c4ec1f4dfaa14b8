/* answer.h: what becomes of a request: a verdict in; it is its answer, or has ended. Called by the paths. */
#ifndef ANSWER_H
#define ANSWER_H
#include "port/io.h"
#include "step/proxy.h"

/* True: it is its answer now, and goes on. */
static inline bool answer_is(struct io *io, struct pkt *pkt, struct proxy_verdict verdict)
{
    if (io_dropped(io, pkt, verdict.drop))
        return false;
    if (verdict.action == PROXY_CONSUME)
        io_consume(io, pkt);
    else
        io_answered(io, pkt);
    return verdict.action == PROXY_ANSWER;
}

#endif
