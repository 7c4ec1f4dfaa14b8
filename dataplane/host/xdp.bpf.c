/*
 * Which packets go to AF_XDP sockets. Of a VM's device all; of the underlay those to a local PA and nothing else: ARP and
 * neighbour discovery for PAs are the packet socket's, as pa_filter.bpf.c says, and the rest is the host's. What has no socket
 * to go to goes on as if there were no program.
 *
 * A frame with a VLAN tag belongs to a VLAN device; the tag has to be in the frame here, so the device must not take it off.
 *
 * Map `pas`: see pa_filter.bpf.c. Map `xsks`: by receive queue, its socket.
 * Built as pa_filter.bpf.c is.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#define SECTION(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

enum role { UNKNOWN, LOCAL_PA };

struct address {
    __u8 family; /* 4 or 6 */
    __u8 pad[3];
    __u8 bytes[16]; /* network order; an IPv4 address in the first four, the rest 0 */
};

static void *(*map_lookup)(const void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*redirect)(const void *map, __u64 key, __u64 otherwise) = (void *)BPF_FUNC_redirect_map;

SECTION("maps") int pas; /* stand for the maps; the loader puts their descriptors here */
SECTION("maps") int xsks;

INLINE int is_pa(const struct address *address)
{
    const __u8 *found = map_lookup(&pas, address);

    return found && *found == LOCAL_PA;
}

INLINE int is_to_pa(const struct xdp_md *ctx)
{
    const __u8 *data = (const __u8 *)(long)ctx->data, *end = (const __u8 *)(long)ctx->data_end;
    const struct ethhdr *ethernet = (const void *)data;
    const struct iphdr *ip4 = (const void *)(data + ETH_HLEN);
    const struct ipv6hdr *ip6 = (const void *)(data + ETH_HLEN);
    struct address address = {0};

    if (data + ETH_HLEN + sizeof *ip4 > end)
        return 0;
    if (ethernet->h_proto == __builtin_bswap16(ETH_P_IP)) {
        address.family = 4;
        __builtin_memcpy(address.bytes, &ip4->daddr, 4);
        return is_pa(&address);
    }
    if (ethernet->h_proto != __builtin_bswap16(ETH_P_IPV6) || data + ETH_HLEN + sizeof *ip6 > end)
        return 0;
    address.family = 6;
    __builtin_memcpy(address.bytes, &ip6->daddr, 16);
    return is_pa(&address);
}

SECTION("xdp/vm") int vm(struct xdp_md *ctx)
{
    return (int)redirect(&xsks, ctx->rx_queue_index, XDP_PASS);
}

SECTION("xdp/wire") int wire(struct xdp_md *ctx)
{
    return is_to_pa(ctx) ? (int)redirect(&xsks, ctx->rx_queue_index, XDP_PASS) : XDP_PASS;
}
