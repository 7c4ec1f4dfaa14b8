/*
 * Which frames on the underlay are the data plane's. Ours alone: the socket takes them and the ingress drop keeps them from
 * the host's stack. Ours too: the socket takes what a next hop says about its MAC, and the stack gets it as well, for it may
 * have that neighbour. Everything else (the operator's ssh) is neither taken nor touched.
 *
 * Ours alone: IPv4 and IPv6 to a local PA, ARP whose target protocol address is one, neighbour solicitations and
 * advertisements whose target is one (that covers the solicited-node group of a PA). A frame with a VLAN ID belongs to a VLAN
 * device, not to this one. The kernel has moved the outer 802.1Q tag into the skb before either program runs. Behind a tag
 * without a VLAN ID it would go on to strip further ones, and then take the packet that nobody has looked at: such a stack is
 * ours, to drop.
 *
 * Ours too: ARP whose sender protocol address is a next hop, neighbour advertisements whose target is one; to whomever they go
 * (announcements: RFC 5227 section 3, RFC 4861 section 7.2.6).
 *
 * What we send: a super-packet in NVGRE comes here as bytes with the segmentation of the TCP within. To be cut, or passed on,
 * as a tunnel's it has to be told where its outer headers are: they are taken off and put on again as such.
 *
 * Map `pas`: key is struct address, value is one byte, enum role.
 * Built at development time by dataplane/host/bpf_compile.py; bpf_programs.py holds the result.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>

#define SECTION(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

enum {
    ARP_SENDER = ETH_HLEN + 14,
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
    IPV4_SOURCE = ETH_HLEN + 12,
    IPV4_PROTOCOL = ETH_HLEN + 9,
    IPV6_SOURCE = ETH_HLEN + 8,
    PROTOCOL_GRE = 47,
    GRE_AND_INNER = 8 + ETH_HLEN, /* NVGRE's header with its key, and the inner MACs */
    TUNNEL4 = 20 + GRE_AND_INNER, /* no options: they are of our making */
    TUNNEL6 = 40 + GRE_AND_INNER,
    AS_IT_WAS = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET,
    NVGRE = BPF_F_ADJ_ROOM_ENCAP_L4_GRE | BPF_F_ADJ_ROOM_ENCAP_L2_ETH,
};

enum role { UNKNOWN, LOCAL_PA, NEXT_HOP };

static void *(*map_lookup)(const void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*load_bytes)(const struct __sk_buff *skb, __u32 offset, void *to, __u32 length) =
    (void *)BPF_FUNC_skb_load_bytes;

static long (*store_bytes)(struct __sk_buff *skb, __u32 offset, const void *from, __u32 length, __u64 flags) =
    (void *)BPF_FUNC_skb_store_bytes;
static long (*adjust_room)(struct __sk_buff *skb, __s32 difference, __u32 mode, __u64 flags) =
    (void *)BPF_FUNC_skb_adjust_room;

SECTION("maps") int pas; /* stands for the map; the loader puts its descriptor here */

struct address {
    __u8 family; /* 4 or 6 */
    __u8 pad[3];
    __u8 bytes[16]; /* network order; an IPv4 address in the first four, the rest 0 */
};

INLINE int is_role(const struct address *address, enum role role)
{
    const __u8 *found = map_lookup(&pas, address);

    return found && *found == role;
}

INLINE int is4(const struct __sk_buff *skb, __u32 offset, enum role role)
{
    struct address address = {.family = 4};

    return load_bytes(skb, offset, address.bytes, 4) == 0 && is_role(&address, role);
}

INLINE int is6(const struct __sk_buff *skb, __u32 offset, enum role role)
{
    struct address address = {.family = 6};

    return load_bytes(skb, offset, address.bytes, 16) == 0 && is_role(&address, role);
}

INLINE __u8 byte_at(const struct __sk_buff *skb, __u32 offset)
{
    __u8 byte = 0;

    load_bytes(skb, offset, &byte, 1);
    return byte;
}

/* 0: a VLAN's. */
INLINE __u16 ethertype_of(const struct __sk_buff *skb)
{
    __u16 ethertype = 0;

    if (skb->vlan_present && (skb->vlan_tci & VLAN_ID_MASK) != 0)
        return 0;
    load_bytes(skb, ETH_HLEN - 2, &ethertype, 2);
    return __builtin_bswap16(ethertype);
}

/* Of an IPv6 packet, 0: it is not ICMPv6. */
INLINE __u8 icmpv6_type(const struct __sk_buff *skb)
{
    return byte_at(skb, IPV6_NEXT_HEADER) == NEXT_HEADER_ICMPV6 ? byte_at(skb, ICMPV6_TYPE) : 0;
}

INLINE int is_nd_for_pa(const struct __sk_buff *skb)
{
    __u8 type = icmpv6_type(skb);

    return (type == ND_SOLICITATION || type == ND_ADVERTISEMENT) && is6(skb, ND_TARGET, LOCAL_PA);
}

INLINE int is_ours_alone(const struct __sk_buff *skb)
{
    switch (ethertype_of(skb)) {
    case ETH_P_IP:
        return is4(skb, IPV4_DESTINATION, LOCAL_PA);
    case ETH_P_ARP:
        return is4(skb, ARP_TARGET, LOCAL_PA);
    case ETH_P_IPV6:
        return is6(skb, IPV6_DESTINATION, LOCAL_PA) || is_nd_for_pa(skb);
    case ETH_P_8021Q:
    case ETH_P_8021AD:
        return skb->vlan_present;
    default:
        return 0;
    }
}

INLINE int is_ours_too(const struct __sk_buff *skb)
{
    switch (ethertype_of(skb)) {
    case ETH_P_ARP:
        return is4(skb, ARP_SENDER, NEXT_HOP);
    case ETH_P_IPV6:
        return icmpv6_type(skb) == ND_ADVERTISEMENT && is6(skb, ND_TARGET, NEXT_HOP);
    default:
        return 0;
    }
}

SECTION("socket/accept") int accept(struct __sk_buff *skb)
{
    return is_ours_alone(skb) || is_ours_too(skb) ? -1 : 0; /* as much as there is, or nothing */
}

SECTION("tc/divert") int divert(struct __sk_buff *skb)
{
    return is_ours_alone(skb) ? TC_ACT_SHOT : TC_ACT_UNSPEC; /* unspec: the operator's own filters come next */
}

/* `length` bytes of header behind the outer MACs become those of a tunnel, by `flags`. */
INLINE int as_tunnel(struct __sk_buff *skb, __u32 length, __u64 flags)
{
    __u8 header[TUNNEL6];

    if (load_bytes(skb, ETH_HLEN, header, length) || adjust_room(skb, -(__s32)length, BPF_ADJ_ROOM_MAC, AS_IT_WAS) ||
        adjust_room(skb, (__s32)length, BPF_ADJ_ROOM_MAC, flags | NVGRE | BPF_F_ADJ_ROOM_ENCAP_L2(ETH_HLEN) | AS_IT_WAS) ||
        store_bytes(skb, ETH_HLEN, header, length, 0))
        return TC_ACT_SHOT; /* the device would cut it wrongly */
    return TC_ACT_UNSPEC;
}

SECTION("tc/tunnel") int tunnel(struct __sk_buff *skb)
{
    if (skb->gso_size == 0)
        return TC_ACT_UNSPEC;
    switch (ethertype_of(skb)) {
    case ETH_P_IP:
        if (byte_at(skb, IPV4_PROTOCOL) == PROTOCOL_GRE && is4(skb, IPV4_SOURCE, LOCAL_PA))
            return as_tunnel(skb, TUNNEL4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4);
        break;
    case ETH_P_IPV6:
        if (byte_at(skb, IPV6_NEXT_HEADER) == PROTOCOL_GRE && is6(skb, IPV6_SOURCE, LOCAL_PA))
            return as_tunnel(skb, TUNNEL6, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6);
        break;
    default:
        break;
    }
    return TC_ACT_UNSPEC;
}

/* The host end of a tenant's device: nothing that a VM sends reaches the host's stack. */
SECTION("tc/drop") int drop(struct __sk_buff *skb)
{
    (void)skb;
    return TC_ACT_SHOT;
}
