/*
 * Any frames into any port of the whole core: parse, source checks, proxy, push, pop, rewrite in and out. Whatever comes in, every
 * packet is accounted for, and what leaves is no longer than what came in, with its outer header, or than an IP packet that
 * several were merged to.
 */
#include "policy.h"
#include "port/stats.h"
#include "base/wire.h"

enum { FRAME_MAX = 8192 };

static uint64_t now;

static void require_balance(const struct dp *dp)
{
    struct dp_counters sum = {0};
    uint64_t drops[DROP_COUNT], reasons = 0;
    for (uint32_t port = 0; port < PORTS; port++) {
        struct dp_counters c;
        require(dp_counters_read(dp, port, &c, drops) == DP_OK);
        sum.received += c.received;
        sum.originated += c.originated;
        sum.sent += c.sent;
        sum.dropped += c.dropped;
        sum.consumed += c.consumed;
        sum.held += c.held;
        for (uint32_t i = 1; i < DROP_COUNT; i++)
            reasons += drops[i];
    }
    require(sum.received + sum.originated == sum.sent + sum.dropped + sum.consumed + sum.held);
    require(reasons == sum.dropped);
}

/* header: port, flags (1: partial, 2: gso, 4: TCP6, 8: UDP), csum_start, csum_offset, gso_size, length: 2 bytes each but the first two. */
static size_t inject_one(struct dp *dp, const uint8_t *input, size_t size)
{
    enum { HEADER = 10 };
    if (size < HEADER)
        return size;
    size_t len = load16(input + 8) % FRAME_MAX;
    if (len > size - HEADER)
        len = size - HEADER;
    struct dp_frame frame = {.time = now, .len = (uint32_t)len, .csum_start = load16(input + 2), .csum_offset = load16(input + 4),
                             .gso_size = load16(input + 6), .csum_partial = input[1] & 1};
    if (input[1] & 2)
        frame.gso = input[1] & 8 ? DP_GSO_UDP : input[1] & 4 ? DP_GSO_TCP6 : DP_GSO_TCP4;
    int result = dp_inject(dp, input[0] % PORTS, &frame, 1, input + HEADER);
    require(result == DP_OK || result == DP_EINVAL || result == DP_EFULL);
    return HEADER + len;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    static struct dp *dp;
    static uint8_t out[65549 + NVGRE6_LEN];
    if (!dp)
        dp = policy_engine();
    while (size) {
        size_t used = inject_one(dp, input, size);
        input += used;
        size -= used;
    }
    dp_poll(dp, now += 1000000);
    for (uint32_t port = 0; port < PORTS; port++) {
        struct dp_frame frame;
        while (dp_collect(dp, port, &frame, 1, out, sizeof out) == 1)
            require(frame.len <= (port == DP_UNDERLAY ? FRAME_MAX + NVGRE6_LEN : ETH_LEN + 65535));
    }
    require_balance(dp);
    return 0;
}
