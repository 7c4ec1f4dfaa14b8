"""Hypothesis strategies: worlds, and frames that are almost right for them.

A frame is built by scapy from choices that matter to the packet path, then perhaps damaged. Frames are
drawn as (port, Frame); a Burst is a run of them into one port.
"""

from functools import cache
from ipaddress import IPv6Address, ip_address
from random import Random
from typing import Any, NamedTuple

from hypothesis import strategies as st
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
    IPv6,
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

from dataplane.core import Frame, Gso, Offload
from dataplane.tables import (
    Address,
    ChangeSet,
    MoveRow,
    PaKind,
    PaRow,
    PortRow,
    PrefixRow,
    ProviderRouteRow,
    RecordRow,
    RouteRow,
    Section,
    SourceRow,
    Translation,
    delete,
    pack_address,
    put,
)
from tests.oracle.frames import PEER_MAC, ether, gre, ip
from tests.oracle.rig import MILLISECOND, SECOND
from tests.oracle.world import (
    GATEWAY_VM,
    LOCAL,
    LOCAL_DOWN,
    NEXT_HOPS,
    NO_POLICY_PORT,
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
TAKES_ALL = Offload.CSUM | Offload.TSO4 | Offload.TSO6
TRANSLATIONS = [
    frozenset(pairs) for pairs in ((), ((0, 0), (0, 1)), ((0, 0),), ((0, 0), (0, 1), (1, 0), (1, 1)))
]


MOVES: tuple[frozenset[tuple[int, int]], ...] = (
    frozenset(),
    frozenset(),
    frozenset(((20, SELF), (30, 2), (LOCAL, 2))),
    frozenset(((20, 3), (30, SELF), (40, SELF), (GATEWAY_VM, 3))),
)
NO_LIMIT = (0, 0, 0, 0)
LIMITS = ((0, 0, 700, 4), (90_000, 1500, 0, 0), (30_001, 3000, 33, 3), (1000, 1, 1_000_000, 1000))
"""Bytes a second and at once, packets a second and at once."""


class Burst(NamedTuple):
    """ns: how long after the last one it comes."""

    port: int
    ns: int
    frames: list[Frame]


def worlds(**choices: st.SearchStrategy[Any]) -> st.SearchStrategy[World]:
    """choices: strategies for fields of World, instead of the usual ones."""
    usual: dict[str, st.SearchStrategy[Any]] = {
        "networks": st.integers(1, 3),
        "rewrite": st.sampled_from(TRANSLATIONS),
        "swapped": st.sampled_from((frozenset(), frozenset((1,)))),
        "pa_families": st.sampled_from((frozenset((4, 6)), frozenset((4,)), frozenset((6,)))),
        "outer": st.fixed_dictionaries({host: st.sampled_from((4, 6)) for host in (2, 3, 4)}),
        "wildcard": st.sampled_from((None, GATEWAY_VM, 20, 40)),
        "routes": st.booleans(),
        "default_route": st.booleans(),
        "resolved": st.sampled_from((True, True, False)),
        "flowid": st.sampled_from((True, True, True, False)),
        "offloads": st.sampled_from((Offload.NONE, Offload.CSUM, TAKES_ALL, Offload.CSUM | Offload.TSO6)),
        "mtu": st.sampled_from((1500, 576, 1280, 9000)),
        "underlay_offloads": st.sampled_from((Offload.NONE, Offload.CSUM, TAKES_ALL)),
        "underlay_mtu": st.sampled_from((1600, 1500, 600, 9100)),
        "limit": st.sampled_from((*[NO_LIMIT] * 12, *LIMITS)),
        "moves": st.sampled_from(MOVES),
    }
    return st.builds(World, **(usual | choices))


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


def ip_packet(pick: Pick, source: Address, destination: Address) -> Packet:
    """Of the source's family; a destination of the other is replaced."""
    if source.version != destination.version:
        destination = OUTSIDE[source.version]
    header, proto = l4(pick, source.version, payload(pick))
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


def tenant_frame(pick: Pick, world: World, vm: Vm) -> Packet:
    kind = pick.one_of(*["ip"] * 8, "arp", "nd", "nd")
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


def rewritten(pick: Pick, world: World) -> Packet:
    vms = [vm for vm in world.vms() if (vm.network, vm.subnet) in world.rewrite]
    to = pick.one_of(*[vm for vm in vms if vm.host == 1])
    source = pick.one_of(*[vm for vm in vms if vm.host != 1])
    source = pick.seldom(pick.one_of(*vms), source)
    family = pick.one_of(4, 6)
    return ip_packet(pick, source.rewrite_pa(family), to.rewrite_pa(family))


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
    kind = pick.one_of(*["ip"] * 8, "arp", "nd")
    mac = source.mac if source.vsid == to.vsid else ROUTER_MAC
    mac = pick.seldom(pick.one_of(source.mac, ROUTER_MAC, PEER_MAC), mac, 10)
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


# ---- damage, offloads, bursts -------------------------------------------------------


def damaged(pick: Pick, data: bytes) -> bytes:
    """Usually as it is."""
    kind = pick.one_of(*["no"] * 7, "flip", "flip", "cut", "pad")
    if kind == "cut":
        return data[: pick.integer(0, min(len(data), 130))]
    if kind == "pad":
        return data + bytes(pick.integer(1, 20))
    if kind == "flip":
        changed = bytearray(data)
        for _ in range(pick.integer(1, 2)):
            at = min(pick.one_of(pick.integer(12, 24), pick.integer(0, 110)), len(data) - 1)
            changed[at] = pick.one_of(pick.integer(0, 255), changed[at] ^ 1, changed[at] ^ 0x80)
        return bytes(changed)
    return data


def offloads(pick: Pick, packet: Packet, data: bytes) -> dict[str, Any]:
    """Metadata: none, what Linux would hand down for this packet, or nonsense."""
    kind = pick.seldom("random", pick.one_of("none", "none", "own", "gso"), 6)
    l4_layer = next((layer for layer in (TCP, UDP) if layer in packet), None)
    if kind == "none" or (kind != "random" and l4_layer is None):
        return {}
    if kind == "random":
        return {
            "csum_partial": pick.one_of(True, True, False),
            "csum_start": pick.one_of(0, 14, 34, 38, 54, 100, len(data) & 0xFFFF, 65535),
            "csum_offset": pick.one_of(0, 2, 6, 8, 16, 65535),
            "gso": pick.one_of(Gso.NONE, Gso.NONE, Gso.TCP4, Gso.TCP6),
            "gso_size": pick.one_of(0, 1, 500),
        }
    start = len(data) - len(packet[l4_layer])
    own = {"csum_partial": True, "csum_start": start & 0xFFFF, "csum_offset": 16 if l4_layer is TCP else 6}
    if kind == "own" or (l4_layer is UDP and pick.seldom(False, True)):
        return own
    family = Gso.TCP6 if IPv6 in packet else Gso.TCP4
    return own | {"gso": pick.seldom(Gso.TCP4, family), "gso_size": pick.one_of(8, 100, 500, 1000, 1448)}


def frame(world: World, port: int, seed: int, honest: bool) -> Frame:
    """What comes in at the port: from the underlay, or from its VM."""
    pick = Pick(seed, honest)
    if port == UNDERLAY:
        packet = underlay_frame(pick, world)
    else:
        vms = {vm.port: vm for vm in world.vms()}
        packet = tenant_frame(pick, world, vms.get(port, vms[1]))
    data = bytes(packet)
    metadata = offloads(pick, packet, data)
    return Frame(data if honest else damaged(pick, data), flow=pick.integer(0, 3), **metadata)


def burst(draw: st.DrawFn, world: World) -> Burst:
    tenants = [vm.port for vm in world.vms() if vm.port and vm.number != LOCAL_DOWN]
    port = draw(st.sampled_from([UNDERLAY] * len(tenants) + tenants * 2 + [NO_POLICY_PORT]))
    seeds = st.lists(st.tuples(st.integers(0, 2**32), st.booleans()), min_size=1, max_size=8)
    some = [frame(world, port, *seed) for seed in draw(seeds)]
    repeat = draw(st.sampled_from([1] * 10 + [5, 20]))
    ns = draw(st.sampled_from([MILLISECOND] * 3 + [SECOND, SECOND, 4 * SECOND, 27 * SECOND, 31 * SECOND]))
    return Burst(port, ns, some * repeat)


# ---- policy changes -----------------------------------------------------------------------------


def update(draw: st.DrawFn, world: World, generation: int) -> bytes:
    """A change set that is valid whatever came before: it puts all rows first."""
    chance = Random(draw(st.integers(0, 2**32)))
    everything = [put(rows) for rows in world.groups() if rows]
    kind = draw(st.sampled_from(("remove", "move", "restore", "provider", "prefix", "limit")))
    if kind == "remove":
        rows = [row for row in world.rows() if isinstance(row, RecordRow | RouteRow | SourceRow | MoveRow)]
        changed = everything + [delete([row]) for row in chance.sample(rows, k=chance.randint(1, 12))]
    elif kind == "move":
        rows = [row for row in world.rows() if isinstance(row, RecordRow)]
        nvgre = [row for row in rows if row.translation == Translation.NVGRE]
        some = chance.sample(nvgre, k=min(len(nvgre), 10))
        changed = everything + [put([moved(chance, row)]) for row in some]
        of = chance.sample(rows, k=len(rows) // 3)
        changed += [put([MoveRow(row.ca, row.vsid, chance.choice((1, 2, 3, 4)), row.family) for row in of])]
    elif kind == "limit":
        rows = [row for row in world.rows() if isinstance(row, PortRow)]
        some = chance.sample(rows, k=len(rows) // 2)
        changed = everything + [put([PortRow(*row[:3], *chance.choice((NO_LIMIT, *LIMITS)))]) for row in some]
    elif kind == "provider":
        changed = everything + provider_changes(chance, world)
    elif kind == "prefix":
        rows = [row for row in world.rows() if isinstance(row, PrefixRow)]
        row = chance.choice(rows)
        last = 3 if row.family == 4 else 15
        other_gateway = row._replace(gateway=row.gateway[:last] + b"\xfe" + row.gateway[last + 1 :])
        changed = [*everything, chance.choice((delete([row]), put([other_gateway])))]
    else:
        changed = everything
    return ChangeSet(generation, tuple(changed), atomic=draw(st.booleans())).encode()


def provider_changes(chance: Random, world: World) -> list[Section]:
    """Of PAs that no record names, and of routes between PAs."""
    pas = [row for row in world.rows() if isinstance(row, PaRow)]
    named = {row.provider_address for row in world.rows() if isinstance(row, RecordRow) and row.host != SELF}
    unnamed = [row for row in pas if row.address not in named and row.kind == PaKind.SHARED]
    routes = [row for row in world.rows() if isinstance(row, ProviderRouteRow)]
    elsewhere = PaRow(pack_address(ip_address("192.168.77.112")), 2, 4, PaKind.SHARED, 24)
    detour = ProviderRouteRow(
        pack_address(ip_address("192.168.100.0")), pack_address(ip_address("192.168.77.1")), 4, 22
    )
    choices = [put([elsewhere]), put([detour]), delete([chance.choice(routes)])]
    if unnamed:
        choices.append(delete([chance.choice(unnamed)]))
    return chance.sample(choices, k=chance.randint(1, len(choices)))


def moved(chance: Random, row: RecordRow) -> RecordRow:
    host, family = chance.choice((2, 3, 4)), chance.choice((4, 6))
    mac = bytes((2, 0xCC, 0, 0, 0, chance.randint(0, 3)))
    pa = pack_address(SHARED[host, family])
    return row._replace(host=host, port=0, provider_address=pa, pa_family=family, mac=mac)


Step = Burst | bytes | int
"""What comes in, a change set, or a port whose device goes or comes back."""


@st.composite
def trains(draw: st.DrawFn, world: World) -> list[Step]:
    train: list[Step] = [burst(draw, world)]
    for generation in range(2, 2 + draw(st.integers(0, 5))):
        between = draw(st.sampled_from((None,) * 5 + ("update", "update", "toggle")))
        if between == "update":
            train.append(update(draw, world, generation))
        if between == "toggle":
            train.append(draw(st.sampled_from([UNDERLAY, *range(1, 9)])))
        train.append(burst(draw, world))
    return train
