"""Frames that are almost right for a world, by choices that matter to the packet path."""

from functools import cache
from ipaddress import IPv6Address, ip_address
from random import Random
from typing import Any

from scapy.layers.inet import ICMP, TCP, UDP, IPOption
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    ICMPv6Unknown,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import ARP, Dot1Q
from scapy.layers.sctp import SCTP, SCTPChunkData
from scapy.packet import Packet, Raw

from dataplane.binding.tables import (
    Address,
)
from tests.oracle.frames import PEER_MAC, ether, gre, ip
from tests.oracle.world import (
    LOCAL_DOWN,
    NEXT_HOPS,
    NOBODY,
    OUTSIDE,
    ROUTER_MAC,
    SELF,
    SHARED,
    SUBNETS,
    UNBOUND,
    UNDERLAY_MAC,
    Vm,
    World,
    gateway,
    vsid,
)

UNDERLAY = 0
BROADCAST = b"\xff" * 6
STRANGER = {4: ip_address("192.168.77.222"), 6: ip_address("fd77::222")}


class Pick:
    """Choices by chance: hypothesis picks the seeds, so that it may leave frames out when it shrinks, but
    does not weigh the choices inside them. honest: what seldom happens does not happen at all, so that
    many a packet arrives."""

    def __init__(self, seed: int, honest: bool) -> None:
        self.random, self.honest = Random(seed), honest

    def one_of(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def integer(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def seldom(self, what: Any, usually: Any, once_in: int = 8) -> Any:
        return what if not self.honest and self.integer(1, once_in) == 1 else usually


# ---- L4 and IP -------------------------------------------------------


@cache
def payload_bytes(size: int, first: int) -> bytes:
    return bytes((first + i * 7) & 255 for i in range(size))


def payload(pick: Pick) -> bytes:
    edges = (0, 1, 508, 1212, 1432, 1438, 1458, 1459, 1472, 1473, 3300, 9000)
    small, beyond_slot = pick.integer(0, 80), pick.integer(3200, 3500)
    size = pick.one_of(small, small, small, pick.one_of(*edges), beyond_slot)
    return payload_bytes(size, pick.integer(0, 3))


def l4(pick: Pick, family: int, body: bytes) -> tuple[Packet, int]:
    """A header and its protocol number."""
    kind = pick.one_of("tcp", "tcp", "udp", "udp", "echo", "icmp", "sctp", "raw")
    sport, dport = pick.one_of(1, 40000, 65535), pick.one_of(53, 80)
    if kind == "tcp":
        options = pick.one_of([], [], [("MSS", 1460)], [("NOP", None)] * 40)
        flags = pick.one_of("A", "S", "FPAC", "")
        return TCP(sport=sport, dport=dport, flags=flags, options=options, seq=0xFFFFFF00) / body, 6
    if kind == "udp":
        return UDP(sport=sport, dport=dport, **pick.seldom({"chksum": 0}, {})) / body, 17
    if kind == "sctp":
        return SCTP(sport=sport, dport=dport) / SCTPChunkData(data=body), 132
    if kind == "raw":
        return Raw(body), pick.one_of(1, 6, 17, 47, 50, 58, 59, 132, 200, 255)
    if family == 4:
        return ICMP(type=8 if kind == "echo" else pick.one_of(0, 3, 4, 5, 8, 11, 12, 13), code=0) / body, 1
    if kind == "echo":
        return ICMPv6EchoRequest(id=1, seq=2, data=body), 58
    return pick.one_of(ICMPv6DestUnreach(code=1) / body, ICMPv6MLReport2(), ICMPv6EchoRequest(code=1)), 58


def error(pick: Pick, family: int, quoted: Packet) -> tuple[Packet, int]:
    """An ICMP error about a packet, or about some of its bytes, and its protocol number."""
    octets = bytes(quoted)[: pick.one_of(1232, 1232, 28, 36, 38, 48, 57, 58, pick.integer(0, 80))]
    if family == 4:
        fields = {"code": pick.one_of(0, 3, 4), "length": pick.one_of(0, 0, 32), "nexthopmtu": 1400}
        return ICMP(type=pick.one_of(3, 3, 3, 4, 5, 11, 12), **fields) / Raw(octets), 1
    kinds = (
        ICMPv6DestUnreach(code=4),
        ICMPv6PacketTooBig(mtu=1400),
        ICMPv6TimeExceeded(),
        ICMPv6ParamProblem(),
    )
    return pick.seldom(ICMPv6Unknown(type=pick.one_of(0, 5, 127)), pick.one_of(*kinds)) / Raw(octets), 58


def ip_packet(
    pick: Pick, source: Address, destination: Address, within: tuple[Packet, int] | None = None
) -> Packet:
    """Of the source's family; a destination of the other is replaced. within: an L4 header and its protocol
    number, instead of any."""
    if source.version != destination.version:
        destination = OUTSIDE[source.version]
    header, proto = within or l4(pick, source.version, payload(pick))
    fields = {
        "tos": pick.one_of(0, 1, 2, 3, 0xB8, 0xFD),
        "ttl": pick.seldom(pick.one_of(1, 0), pick.one_of(64, 2, 255)),
    }
    if source.version == 4:
        return ip4(pick, source, destination, header, proto, fields)
    return ip6(pick, source, destination, header, proto, fields)


def ip4(pick: Pick, source: Address, destination: Address, header: Packet, proto: int, fields: Any) -> Packet:
    fields |= {"proto": proto, "id": pick.one_of(0, 1, 0xFFFF), "flags": pick.one_of(0, "DF")}
    fields |= pick.seldom({"flags": "MF", "frag": 0}, {})
    fields |= pick.seldom({"flags": pick.one_of(0, "MF"), "frag": pick.one_of(1, 185, 8000, 8191)}, {})
    fields |= pick.seldom({"options": [IPOption(b"\x01" * pick.one_of(4, 40))]}, {})
    fields |= pick.seldom({"chksum": pick.one_of(0, 0x1234, 0xFFFF)}, {})
    return ip(source, destination, **fields) / header


def ip6(pick: Pick, source: Address, destination: Address, header: Packet, proto: int, fields: Any) -> Packet:
    count = pick.seldom(pick.integer(3, 9), pick.one_of(0, 0, 0, 1, 2))
    made = [extension(pick, pick.integer(0, 5)) for _ in range(count)]
    if not made:
        return ip(source, destination, nh=proto, **fields) / header
    chain = made[0]
    for one in made[1:]:
        chain = chain / one
    last = chain.lastlayer()
    last.nh = proto
    return ip(source, destination, **fields) / chain / header


def extension(pick: Pick, kind: int) -> Packet:
    if kind == 0:
        return IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(4))])
    if kind == 1:
        return IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(pick.one_of(4, 12, 252)))])
    if kind == 2:
        return IPv6ExtHdrRouting(addresses=["fd00::9"] * pick.one_of(0, 1, 20), segleft=0)
    if kind == 3:
        return AH(icv=bytes(12), payloadlen=4)
    more, offset = pick.one_of((0, 0), (1, 0), (0, 1), (1, 90), (0, 8191))
    return IPv6ExtHdrFragment(m=more, offset=offset, id=7)


# ---- from a tenant -------------------------------------------------------


def link_local(mac: bytes) -> IPv6Address:
    return IPv6Address(b"\xfe\x80" + bytes(6) + bytes((mac[0] ^ 2,)) + mac[1:3] + b"\xff\xfe" + mac[3:])


def destinations(world: World, family: int) -> list[Address]:
    """Every kind of address a tenant could try, VMs most of all."""
    vms = [vm.ca(family) for vm in world.vms() if vm.network == 0]
    others = [gateway(subnet, family) for subnet in SUBNETS] + [
        OUTSIDE[family],
        SHARED[1, family],
        SHARED[2, family],
    ]
    if family == 4:
        return (
            vms * 2
            + others
            + [ip_address(a) for a in (f"10.1.1.{NOBODY}", "10.8.0.9", "10.9.0.9", "0.0.0.0")]
        )
    more = ["fd00:1:1::99", "fd00:8::9", "fd00:9::9", "::", "fe80::1", "fe80::99", "ff02::1"]
    return vms * 2 + others + [ip_address(a) for a in more]


def tenant_error(pick: Pick, world: World, vm: Vm) -> Packet:
    """About a packet that a VM elsewhere has sent; or almost."""
    to = pick.one_of(*[v for v in world.vms() if v.network == vm.network and v.host != SELF])
    family = pick.one_of(4, 6)
    strangers = [*sources(world, vm, family), *(v.ca(family) for v in world.vms())]
    about = (
        pick.seldom(pick.one_of(*strangers), to.ca(family)),
        pick.seldom(pick.one_of(*strangers), vm.ca(family)),
    )
    within = error(pick, family, ip_packet(pick, *about))
    header = ether(to.mac if to.vsid == vm.vsid else ROUTER_MAC, vm.mac)
    return header / ip_packet(pick, vm.ca(family), to.ca(family), within)


def tenant_frame(pick: Pick, world: World, vm: Vm) -> Packet:
    kind = pick.one_of(*["ip"] * 8, "arp", "nd", "nd", "error", "group")
    if kind == "group":
        return group_frame(pick, world, vm, vm.mac)
    if kind == "error":
        return tenant_error(pick, world, vm)
    if kind == "arp":
        return tenant_arp(pick, world, vm)
    if kind == "nd":
        return tenant_nd(pick, world, vm)
    family = pick.one_of(4, 6)
    destination = pick.one_of(*destinations(world, family))
    source = pick.seldom(pick.one_of(*sources(world, vm, family)), vm.ca(family))
    here = [v for v in world.vms() if v.vsid == vm.vsid and v.ca(family) == destination]
    mac = here[0].mac if here else ROUTER_MAC
    mac = pick.seldom(pick.one_of(ROUTER_MAC, PEER_MAC, BROADCAST, bytes.fromhex("333300000001")), mac, 6)
    return tagged(pick, ether(mac, vm.mac)) / ip_packet(pick, source, destination)


def group_frame(pick: Pick, world: World, vm: Vm, mac: bytes) -> Packet:
    """To a group, by its MAC."""
    family = pick.one_of(4, 6)
    groups = {
        4: ("255.255.255.255", f"10.1.{vm.subnet + 1}.255", "224.0.0.251", "239.129.2.3", "10.1.0.255"),
        6: ("ff02::1", "ff02::fb", "ff05::1:2:3"),
    }
    group = ip_address(pick.one_of(*groups[family]))
    to = BROADCAST
    if group.version == 6:
        to = b"\x33\x33" + group.packed[12:]
    elif group.is_multicast:
        to = bytes((1, 0, 0x5E, group.packed[1] & 0x7F)) + group.packed[2:]
    to = pick.seldom(pick.one_of(BROADCAST, bytes.fromhex("333300000001"), bytes.fromhex("01005e0000fb")), to)
    source = pick.seldom(pick.one_of(*sources(world, vm, family)), vm.ca(family))
    return tagged(pick, ether(to, mac)) / ip_packet(pick, source, group)


def sources(world: World, vm: Vm, family: int) -> list[Address]:
    more = [gateway(0, family), OUTSIDE[family], SHARED[1, family], vm.rewrite_pa(family)]
    if family == 4:
        return [*more, ip_address("10.1.1.11"), ip_address("10.8.1.1"), ip_address("0.0.0.0")]
    return [*more, ip_address("fd00:8::1"), ip_address("::"), link_local(vm.mac)]


def tagged(pick: Pick, packet: Packet) -> Packet:
    tag = pick.seldom(packet / Dot1Q(vlan=pick.one_of(0, 5)), packet, 12)
    return pick.seldom(tag / Dot1Q(vlan=6), tag, 40)


def arp_body(pick: Pick, vm: Vm, world: World) -> Packet:
    fields = {
        "op": pick.seldom(3, pick.one_of(1, 1, 2)),
        "hwsrc": pick.seldom(ROUTER_MAC, vm.mac).hex(":"),
        "psrc": str(pick.seldom(pick.one_of("0.0.0.0", "10.1.1.20", "10.8.0.1"), vm.ca(4), 4)),
        "pdst": str(pick.one_of(*destinations(world, 4))),
    }
    return ARP(**fields)


def tenant_arp(pick: Pick, world: World, vm: Vm) -> Packet:
    to = pick.seldom(ROUTER_MAC, BROADCAST, 3)
    return tagged(pick, ether(to, vm.mac)) / arp_body(pick, vm, world)


def nd_message(pick: Pick, targets: list[Address], mac: bytes) -> Packet:
    target = str(pick.one_of(*targets))
    lladdr = pick.seldom(PEER_MAC, mac).hex(":")
    slla, tlla = ICMPv6NDOptSrcLLAddr(lladdr=lladdr), ICMPv6NDOptDstLLAddr(lladdr=lladdr)
    bare = {
        "ns": ICMPv6ND_NS(tgt=target, **pick.seldom({"code": 1}, {}, 20)),
        "na": ICMPv6ND_NA(tgt=target, R=pick.one_of(0, 1), S=pick.one_of(0, 1)),
        "rs": ICMPv6ND_RS(),
        "ra": ICMPv6ND_RA(),
    }
    message = bare[pick.seldom("ra", pick.one_of("ns", "ns", "na", "rs"))]
    for option in pick.one_of((), (slla,), (tlla,), (slla, tlla), (slla, slla)):
        message = message / option
    return message


def nd_packet(pick: Pick, source: Address, targets: list[Address], mac: bytes) -> Packet:
    message = nd_message(pick, targets, mac)
    header = ip(source, pick.one_of("ff02::1", "ff02::1:ff00:b", targets[0]), ttl=pick.seldom(254, 255))
    fragment = IPv6ExtHdrFragment(nh=58)
    return pick.seldom(header / fragment / message, header / message, 20)


def tenant_nd(pick: Pick, world: World, vm: Vm) -> Packet:
    strange = pick.one_of(IPv6Address("::"), link_local(vm.mac), IPv6Address("fd00:1:1::20"))
    source = pick.seldom(strange, vm.ca(6), 2)
    targets = [*destinations(world, 6), link_local(vm.mac)]
    return tagged(pick, ether(bytes.fromhex("3333ff00000b"), vm.mac)) / nd_packet(
        pick, source, targets, vm.mac
    )


# ---- on the underlay -------------------------------------------------------


def pas(world: World, family: int, ours: bool) -> list[Address]:
    """Of this host or of others, and some that are neither."""
    found: list[Address] = [a for (host, f), a in SHARED.items() if f == family and (host == 1) == ours]
    found += [a for a in UNBOUND[1 if ours else 2] if a.version == family]
    found += [
        vm.rewrite_pa(family)
        for vm in world.vms()
        if (vm.host == 1) == ours and (vm.network, vm.subnet) in world.rewrite
    ]
    return [*found, STRANGER[family]]


def underlay_frame(pick: Pick, world: World) -> Packet:
    kind = pick.one_of(*["nvgre"] * 6, "rewrite", "rewrite", "arp", "nd", "ip")
    macs = pick.seldom(pick.one_of(PEER_MAC, BROADCAST), UNDERLAY_MAC, 12), PEER_MAC
    tag = Dot1Q(vlan=pick.one_of(0, 5), prio=pick.one_of(0, 3, 6))
    frame = pick.seldom(ether(*macs) / tag, ether(*macs), 20)
    if kind == "nvgre":
        return frame / tunnelled(pick, world)
    if kind == "rewrite" and world.rewrite:
        return frame / rewritten(pick, world)
    if kind == "arp":
        hop = pick.one_of(*(a for a in (*NEXT_HOPS, STRANGER[4]) if a.version == 4))
        fields = {"psrc": str(hop), "hwsrc": pick.seldom(BROADCAST, PEER_MAC).hex(":")}
        target = pick.one_of(*pas(world, 4, ours=True))
        return frame / ARP(op=pick.one_of(1, 2), pdst=str(target), **fields)
    family = 6 if kind == "nd" else pick.one_of(4, 6)
    hops = [a for a in (*NEXT_HOPS, STRANGER[family]) if a.version == family]
    if kind == "nd":
        source = pick.seldom(IPv6Address("::"), pick.one_of(*hops))
        targets = [*pas(world, 6, ours=True), *hops]
        return frame / nd_packet(pick, source, targets, PEER_MAC)
    source, to = pick.one_of(*hops), pick.one_of(*pas(world, family, ours=True))
    return frame / ip_packet(pick, source, to)


def told_by_router(pick: Pick, world: World, to: Vm, family: int) -> Packet:
    """About a packet that a local VM has sent by rewrite; or almost."""
    vms = [vm for vm in world.vms() if (vm.network, vm.subnet) in world.rewrite]
    strangers = [*(vm.rewrite_pa(family) for vm in vms), *pas(world, family, ours=True), OUTSIDE[family]]
    sent_to = pick.one_of(*[vm for vm in vms if vm.host != 1 and vm.network == to.network])
    about = (
        pick.seldom(pick.one_of(*strangers), to.rewrite_pa(family)),
        pick.seldom(pick.one_of(*strangers), sent_to.rewrite_pa(family)),
    )
    router = pick.seldom(pick.one_of(*strangers), pick.one_of(STRANGER[family], OUTSIDE[family]))
    return ip_packet(pick, router, to.rewrite_pa(family), error(pick, family, ip_packet(pick, *about)))


def rewritten(pick: Pick, world: World) -> Packet:
    vms = [vm for vm in world.vms() if (vm.network, vm.subnet) in world.rewrite]
    to = pick.one_of(*[vm for vm in vms if vm.host == 1])
    source = pick.one_of(*[vm for vm in vms if vm.host != 1])
    source = pick.seldom(pick.one_of(*vms), source)
    family = pick.one_of(4, 6)
    pa, to_pa = source.rewrite_pa(family), to.rewrite_pa(family)
    if pick.one_of(False, False, False, True):
        return told_by_router(pick, world, to, family)
    if pick.one_of(False, False, True):
        strangers = [vm.rewrite_pa(family) for vm in vms] + pas(world, family, ours=pick.one_of(False, True))
        about = pick.seldom(pick.one_of(*strangers), to_pa), pick.seldom(pick.one_of(*strangers), pa)
        return ip_packet(pick, pa, to_pa, error(pick, family, ip_packet(pick, *about)))
    return ip_packet(pick, pa, to_pa)


def tunnelled(pick: Pick, world: World) -> Packet:
    """From a remote VM to a local one of its network, or to one that was here; or almost."""
    was_here = [vm for vm in world.vms() if (vm.number, SELF) in world.moves] * 2
    to = pick.one_of(*was_here, *[vm for vm in world.vms() if vm.host == 1 and vm.number != LOCAL_DOWN])
    remote = [vm for vm in world.vms() if vm.host != 1 and vm.network == to.network]
    source = pick.one_of(*remote)
    homes = [host for number, host in world.moves if number in (source.number, to.number)]
    host = pick.seldom(pick.one_of(1, 2, 3, 4), pick.one_of(source.host, source.host, *homes))
    key_vsid = pick.seldom(
        pick.one_of(0, 0xFFF, 0xFFFFFF, vsid(0, 1), vsid(1, 0), vsid(2, 0), vsid(9, 0)), to.vsid
    )
    inner = inner_frame(pick, world, source, to)
    family = pick.one_of(*world.pa_families)
    flags = pick.seldom(pick.one_of(*GRE_FIELDS), {}, 4)
    tunnel = gre(key_vsid, pick.seldom(inner / Raw(bytes(6)), inner), pick.one_of(0, 255), **flags)
    remote_pa = pick.seldom(pick.one_of(*pas(world, family, ours=False)), SHARED[host, family], 16)
    fields = {"tos": pick.one_of(0, 1, 2, 3), "ttl": pick.one_of(64, 64, 255, 33, 32, 0) if homes else 64}
    fields |= {"proto": 47} if family == 4 else {"nh": 47}
    if family == 4:
        fields |= pick.seldom({"flags": "MF"}, {}, 20) | pick.seldom({"chksum": 0x1234}, {}, 20)
    return ip(remote_pa, SHARED[1, family], **fields) / tunnel


GRE_FIELDS: list[dict[str, int]] = [
    {"key_present": 0},
    {"chksum_present": 1},
    {"routing_present": 1},
    {"seqnum_present": 1},
    {"strict_route_source": 1},
    {"recursion_control": 1},
    {"flags": 1},
    {"version": 1},
    {"proto": 0x0800},
]


def inner_frame(pick: Pick, world: World, source: Vm, to: Vm) -> Packet:
    kind = pick.one_of(*["ip"] * 8, "arp", "nd", "group")
    mac = source.mac if source.vsid == to.vsid else ROUTER_MAC
    mac = pick.seldom(pick.one_of(source.mac, ROUTER_MAC, PEER_MAC), mac, 10)
    if kind == "group":
        return group_frame(pick, world, source, mac)
    to_mac = pick.seldom(pick.one_of(ROUTER_MAC, BROADCAST), to.mac, 10)
    frame = tagged(pick, ether(to_mac, mac))
    if kind == "arp":
        return frame / arp_body(pick, source, world)
    if kind == "nd":
        from_address = pick.seldom(pick.one_of(link_local(mac), IPv6Address("::")), source.ca(6), 3)
        return frame / nd_packet(pick, from_address, [to.ca(6), *destinations(world, 6)], mac)
    family = pick.one_of(4, 6)
    from_ca = pick.seldom(
        pick.one_of(*sources(world, source, family), *inner_strangers(family)), source.ca(family)
    )
    to_ca = pick.seldom(pick.one_of(*destinations(world, family)), to.ca(family), 6)
    return frame / ip_packet(pick, from_ca, to_ca)


def inner_strangers(family: int) -> list[Address]:
    strangers = {4: ("10.9.0.1", "10.1.1.99", "10.1.1.10"), 6: ("fd00:9::1", "fd00:1:1::99", "fe80::1")}
    addresses = strangers[family]
    return [ip_address(a) for a in addresses]
