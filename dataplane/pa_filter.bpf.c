/*
 * Which frames on the underlay are the data plane's: one predicate, used by the socket that takes them and by the ingress
 * drop that keeps them from the host's stack. Everything else (the operator's ssh) is neither taken nor touched.
 *
 * Ours: IPv4 and IPv6 to a PA, ARP whose target protocol address is a PA, neighbour solicitations and advertisements whose
 * target is a PA (that covers the solicited-node group of a PA). A frame with a VLAN ID belongs to a VLAN device, not to
 * this one. The kernel has moved the outer 802.1Q tag into the skb before either program runs. Behind a tag without a VLAN
 * ID it would go on to strip further ones, and then take the packet that nobody has looked at: such a stack is ours, to drop.
 *
 * Map `pas`: key is struct address, value unused.
 * Built at development time by dataplane/bpf_compile.py; bpf_programs.py holds the result.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>

#define SECTION(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

enum {
    ARP_TARGET = ETH_HLEN + 24,
    IPV4_DESTINATION = ETH_HLEN + 16,
    IPV6_NEXT_HEADER = ETH_HLEN + 6,
    IPV6_DESTINATION = ETH_HLEN + 24,
    ICMPV6_TYPE = ETH_HLEN + 40,
    ND_TARGET = ICMPV6_TYPE + 8,
    NEXT_HEADER_ICMPV6 = 58,
    ND_SOLICITATION = 135,
    ND_ADVERTISEMENT = 136,
    VLAN_ID_MASK = 0xfff,
};

static void *(*map_lookup)(const void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*load_bytes)(const struct __sk_buff *skb, __u32 offset, void *to, __u32 length) =
    (void *)BPF_FUNC_skb_load_bytes;

SECTION("maps") int pas; /* stands for the map; the loader puts its descriptor here */

struct address {
    __u8 family; /* 4 or 6 */
    __u8 pad[3];
    __u8 bytes[16]; /* network order; an IPv4 address in the first four, the rest 0 */
};

INLINE int is_pa4(const struct __sk_buff *skb, __u32 offset)
{
    struct address address = {.family = 4};

    return load_bytes(skb, offset, address.bytes, 4) == 0 && map_lookup(&pas, &address) != 0;
}

INLINE int is_pa6(const struct __sk_buff *skb, __u32 offset)
{
    struct address address = {.family = 6};

    return load_bytes(skb, offset, address.bytes, 16) == 0 && map_lookup(&pas, &address) != 0;
}

INLINE __u8 byte_at(const struct __sk_buff *skb, __u32 offset)
{
    __u8 byte = 0;

    load_bytes(skb, offset, &byte, 1);
    return byte;
}

INLINE int is_nd_for_pa(const struct __sk_buff *skb)
{
    if (byte_at(skb, IPV6_NEXT_HEADER) != NEXT_HEADER_ICMPV6)
        return 0;
    __u8 type = byte_at(skb, ICMPV6_TYPE);
    return (type == ND_SOLICITATION || type == ND_ADVERTISEMENT) && is_pa6(skb, ND_TARGET);
}

INLINE int is_ours(const struct __sk_buff *skb)
{
    __u16 ethertype = 0;

    if (skb->vlan_present && (skb->vlan_tci & VLAN_ID_MASK) != 0)
        return 0;
    load_bytes(skb, ETH_HLEN - 2, &ethertype, 2);
    switch (__builtin_bswap16(ethertype)) {
    case ETH_P_IP:
        return is_pa4(skb, IPV4_DESTINATION);
    case ETH_P_ARP:
        return is_pa4(skb, ARP_TARGET);
    case ETH_P_IPV6:
        return is_pa6(skb, IPV6_DESTINATION) || is_nd_for_pa(skb);
    case ETH_P_8021Q:
    case ETH_P_8021AD:
        return skb->vlan_present;
    default:
        return 0;
    }
}

SECTION("socket/accept") int accept(struct __sk_buff *skb)
{
    return is_ours(skb) ? -1 : 0; /* as much as there is, or nothing */
}

SECTION("tc/divert") int divert(struct __sk_buff *skb)
{
    return is_ours(skb) ? TC_ACT_SHOT : TC_ACT_UNSPEC; /* unspec: the operator's own filters come next */
}

/* The host end of a tenant's device: nothing that a VM sends reaches the host's stack. */
SECTION("tc/drop") int drop(struct __sk_buff *skb)
{
    (void)skb;
    return TC_ACT_SHOT;
}
