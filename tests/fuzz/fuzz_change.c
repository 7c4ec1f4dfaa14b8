/*
 * Any bytes as a change set, on top of a small policy: it is applied whole or not at all, and whatever it makes of the tables, packets
 * still find their way through them or die counted.
 */
#include <stdbool.h>
#include "policy.h"
#include "base/wire.h"

/* What dp_table_stats() counts: it may change only with the generation. */
static bool same(const struct dp_table_stats *a, const struct dp_table_stats *b)
{
    return a->records4 == b->records4 && a->records6 == b->records6 && a->pas == b->pas && a->subnets == b->subnets && a->routes == b->routes;
}

static void send_one(struct dp *dp, uint64_t now)
{
    static const uint8_t mac[6] = {2, 0xbb, 0, 0, 1, 10};
    uint8_t frame[64] = {0};
    memcpy(frame, router_mac, 6);
    memcpy(frame + 6, mac, 6);
    put16(frame + 12, ETHERTYPE_IP4);
    frame[14] = 0x45;
    put16(frame + 16, 50);
    frame[22] = 64;
    frame[23] = PROTO_UDP;
    put32(frame + 26, 0x0a01010a);
    put32(frame + 30, 0x0a010214);
    put16(frame + 38, 30);
    struct dp_frame header = {.time = now, .len = sizeof frame};
    require(dp_inject(dp, 1, &header, 1, frame) == DP_OK);
    dp_poll(dp, now);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    static struct dp *dp;       /* a change set that was refused has left it as it was: only then it is used again */
    static uint64_t now;
    if (!dp)
        dp = policy_engine();
    struct dp_table_stats before, after;
    struct dp_change_error error;
    uint64_t generation = dp_generation(dp);
    uint8_t *aligned = malloc(size ? size : 1);     /* of its very size: one byte further is the sanitizer's */
    if (size)
        memcpy(aligned, input, size);
    require(dp_table_stats(dp, &before) == DP_OK);
    int result = dp_apply(dp, aligned, size, &error);
    require(dp_table_stats(dp, &after) == DP_OK);
    if (result != DP_OK) {
        require(memchr(error.text, 0, sizeof error.text) && error.text[0]);
        require(dp_generation(dp) == generation && same(&before, &after));
    }
    send_one(dp, ++now);
    free(aligned);
    if (result == DP_OK) {
        dp_destroy(dp);
        dp = NULL;
    }
    return 0;
}
