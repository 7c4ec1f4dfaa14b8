"""One frame of each kind, and all its neighbours: every header byte changed, every length, every size near
a limit.

Core and twin agree on each. What is random in test_oracle.py is complete here, for single packets.
"""

from collections.abc import Callable, Iterable, Iterator

import pytest
from scapy.layers.inet import ICMP, UDP, IPOption
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

from dataplane.core import Dataplane, Frame, Gso
from dataplane.fake import FakeDataplane
from dataplane.fake_wire import checksum, updated
from dataplane.stats import Counters, SubnetCounters
from tests.oracle.frames import PEER_MAC, arriving, between, ether, from_host, gre, ip, tcp, udp
from tests.oracle.rig import Rig
from tests.oracle.scale import STRIDE
from tests.oracle.strategies import TAKES_ALL, link_local
from tests.oracle.world import (
    GATEWAY_VM,
    LOCAL,
    LOCAL_APPLIANCE,
    OUTSIDE,
    ROUTER_MAC,
    SHARED,
    UNDERLAY_MAC,
    Vm,
    World,
    gateway,
)

UNDERLAY = 0
WORLDS = {
    "plain": World(rewrite=frozenset(((0, 0), (0, 1))), wildcard=20),
    "offloads": World(
        rewrite=frozenset(((0, 0), (0, 1), (1, 0))),
        wildcard=GATEWAY_VM,
        offloads=TAKES_ALL,
        underlay_offloads=TAKES_ALL,
        outer={2: 6, 3: 6, 4: 6},
    ),
}
BLUE, RED = 0, 1
VM = World().vm
BLUE_VM, RED_VM = VM(BLUE, 0, LOCAL), VM(RED, 0, LOCAL)
TO_ALL, TO_GROUP = b"\xff" * 6, bytes.fromhex("3333ff00000b")
ECHO = {4: ICMP(type=8, id=1, seq=2) / b"ping", 6: ICMPv6EchoRequest(id=1, seq=2, data=b"ping")}
ERROR = {4: ICMP(type=3, code=1) / bytes(28), 6: ICMPv6DestUnreach() / bytes(48)}
SEND = {4: "proto", 6: "nh"}

Base = tuple[int, Packet]


def extension_chains() -> dict[str, Packet]:
    return {
        "hop-by-hop": IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(4))]),
        "routing": IPv6ExtHdrRouting(addresses=["fd00::9"], segleft=0),
        "destination": IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(12))]),
        "ah": AH(icv=bytes(12), payloadlen=4),
        "first-fragment": IPv6ExtHdrFragment(m=1, offset=0, id=7),
        "later-fragment": IPv6ExtHdrFragment(m=0, offset=4, id=7),
        "atomic": IPv6ExtHdrFragment(m=0, offset=0, id=7),
    }


def tenant_bases() -> Iterator[tuple[str, Base]]:
    for network, name in ((BLUE, "rewrite"), (RED, "nvgre")):
        vm = VM(network, 0, LOCAL)
        places = {
            "local": VM(network, 0, LOCAL_APPLIANCE),
            "local-routed": VM(network, 1, LOCAL),
            "remote": VM(network, 0, 20),
            "remote-routed": VM(network, 1, 20),
        }
        for place, to in places.items():
            for family in (4, 6):
                yield f"{name} {place} tcp{family}", (vm.port, between(vm, to, family, tcp(b"data")))
        for family in (4, 6):
            to = VM(network, 0, 20)
            l4 = {"udp": udp(b"data"), "echo": ECHO[family], "error": ERROR[family]}
            for kind, payload in l4.items():
                yield f"{name} remote {kind}{family}", (vm.port, between(vm, to, family, payload))
            sctp = SCTP(sport=1, dport=2) / SCTPChunkData(data=b"abcd")
            yield f"{name} remote sctp{family}", (vm.port, between(vm, to, family, sctp))
            for proto in (33, 136):  # DCCP, UDP-Lite
                header = Raw(bytes(range(1, 25)))
                yield (
                    f"{name} remote proto{proto} {family}",
                    (
                        vm.port,
                        between(vm, to, family, header, **{SEND[family]: proto}),
                    ),
                )
    yield from special_tenant_bases()


def special_tenant_bases() -> Iterator[tuple[str, Base]]:
    vm, to = BLUE_VM, VM(BLUE, 0, 20)
    port, mac = vm.port, vm.mac.hex(":")
    yield "tagged", (port, ether(to.mac, vm.mac) / Dot1Q(vlan=5) / ip(vm.ca(4), to.ca(4)) / udp())
    first = between(vm, to, 4, udp(bytes(16)), flags="MF", id=3)
    yield "first fragment", (port, first)
    yield "later fragment", (port, between(vm, to, 4, Raw(bytes(16)), frag=3, proto=17))
    yield "options", (port, between(vm, to, 4, tcp(b"x"), options=[IPOption(b"\x01\x01\x01\x00")]))
    for name, chain in extension_chains().items():
        payload = Raw(bytes(16)) if "later" in name else udp(bytes(16))
        packet = between(vm, to, 6, chain / payload)
        packet[chain.__class__].nh = 17
        yield f"extension {name}", (port, packet)
    for family in (4, 6):
        out = ether(ROUTER_MAC, vm.mac)
        yield f"gateway{family}", (port, out / ip(vm.ca(family), gateway(0, family)) / ECHO[family])
        yield f"outside{family}", (port, out / ip(vm.ca(family), OUTSIDE[family]) / udp())
        behind = {4: "10.9.0.1", 6: "fd00:9::1"}[family]
        yield f"behind a next hop{family}", (port, out / ip(vm.ca(family), behind) / udp())
    nop = {"options": [IPOption(b"\x01\x01\x01\x00")]}
    yield "gateway options", (port, ether(ROUTER_MAC, vm.mac) / ip(vm.ca(4), gateway(0, 4), **nop) / ECHO[4])
    yield "arp", (port, ether(TO_ALL, vm.mac) / ARP(op=1, hwsrc=mac, psrc="10.1.1.10", pdst="10.1.1.20"))
    yield (
        "mld",
        (port, ether(TO_GROUP, vm.mac) / ip(link_local(vm.mac), "ff02::16", ttl=1) / ICMPv6MLReport2()),
    )


def nd(source: object, destination: object, macs: tuple[bytes, bytes], message: Packet) -> Packet:
    return ether(*macs) / IPv6(src=str(source), dst=str(destination), hlim=255) / message


def nd_bases() -> Iterator[tuple[str, Base]]:
    """From a VM, to the underlay; inside the tunnel they are in underlay_bases()."""
    vm, macs = BLUE_VM, (TO_GROUP, BLUE_VM.mac)
    slla, tlla = (kind(lladdr=vm.mac.hex(":")) for kind in (ICMPv6NDOptSrcLLAddr, ICMPv6NDOptDstLLAddr))
    own, group = vm.ca(6), "ff02::1:ff00:b"
    yield "ns", (vm.port, nd(own, group, macs, ICMPv6ND_NS(tgt="fd00:1:1::11") / slla / slla))
    yield "ns router", (vm.port, nd(link_local(vm.mac), group, macs, ICMPv6ND_NS(tgt="fe80::1") / slla))
    yield "ns nobody", (vm.port, nd("::", group, macs, ICMPv6ND_NS(tgt="fd00:1:1::11")))
    atomic = IPv6ExtHdrFragment(nh=58) / ICMPv6ND_NS(tgt="fd00:1:1::11")
    yield "ns fragment", (vm.port, nd(own, group, macs, atomic))
    yield "na", (vm.port, nd(own, "ff02::1", macs, ICMPv6ND_NA(tgt=str(own)) / tlla))
    yield "rs", (vm.port, nd(own, "ff02::2", macs, ICMPv6ND_RS() / slla))
    yield "ra", (vm.port, nd(link_local(vm.mac), "ff02::1", macs, ICMPv6ND_RA()))
    peer, ours = SHARED[2, 6], SHARED[1, 6]
    macs = UNDERLAY_MAC, PEER_MAC
    slla, tlla = (kind(lladdr=PEER_MAC.hex(":")) for kind in (ICMPv6NDOptSrcLLAddr, ICMPv6NDOptDstLLAddr))
    yield "underlay ns", (UNDERLAY, nd(peer, ours, macs, ICMPv6ND_NS(tgt=str(ours)) / slla))
    yield "underlay ns nobody", (UNDERLAY, nd("::", ours, macs, ICMPv6ND_NS(tgt=str(ours))))
    yield "underlay na", (UNDERLAY, nd(peer, ours, macs, ICMPv6ND_NA(tgt=str(peer)) / tlla))


def underlay_bases() -> Iterator[tuple[str, Base]]:
    peer = VM(RED, 0, 20)
    for outside in (4, 6):
        for family in (4, 6):
            inner = arriving(peer, RED_VM, family, tcp(b"data"), tos=2)
            yield f"nvgre{outside} tcp{family}", (UNDERLAY, from_host(2, RED_VM.vsid, inner, outside, tos=1))
            routed = arriving(VM(RED, 1, 20), RED_VM, family, udp(b"data"))
            yield f"nvgre{outside} routed{family}", (UNDERLAY, from_host(2, RED_VM.vsid, routed, outside))
        question = ether(TO_ALL, peer.mac) / ARP(
            op=1, hwsrc=peer.mac.hex(":"), psrc="10.1.1.20", pdst="10.1.1.10"
        )
        yield f"nvgre{outside} arp", (UNDERLAY, from_host(2, RED_VM.vsid, question, outside))
        for name, source in (("", peer.ca(6)), (" link-local", link_local(peer.mac))):
            asked = nd(source, "ff02::1:ff00:10", (TO_GROUP, peer.mac), ICMPv6ND_NS(tgt=str(RED_VM.ca(6))))
            yield f"nvgre{outside} ns{name}", (UNDERLAY, from_host(2, RED_VM.vsid, asked, outside))
        stray = ether(RED_VM.mac, peer.mac) / ip(link_local(peer.mac), RED_VM.ca(6)) / udp()
        yield f"nvgre{outside} link-local", (UNDERLAY, from_host(2, RED_VM.vsid, stray, outside))
    behind_local = {4: "10.8.0.9", 6: "fd00:8::9"}
    for subnet in (0, 1):
        near, appliance = VM(RED, subnet, 20), VM(RED, subnet, LOCAL_APPLIANCE)
        for family, address in behind_local.items():
            inner = ether(appliance.mac, near.mac) / ip(near.ca(family), address) / udp()
            yield f"nvgre to behind{family} in {subnet}", (UNDERLAY, from_host(2, near.vsid, inner))
    through = {4: "10.9.0.1", 6: "fd00:9::1"}
    to_underlay = ether(UNDERLAY_MAC, PEER_MAC)
    for family in (4, 6):
        behind = ether(RED_VM.mac, peer.mac) / ip(through[family], RED_VM.ca(family)) / udp()
        yield f"nvgre from behind{family}", (UNDERLAY, from_host(2, RED_VM.vsid, behind))
        pas = VM(BLUE, 0, 20).rewrite_pa(family), BLUE_VM.rewrite_pa(family)
        for name, payload in (("tcp", tcp(b"x")), ("udp", udp(b"x")), ("echo", ECHO[family])):
            yield f"rewritten {name}{family}", (UNDERLAY, to_underlay / ip(*pas) / payload)
        yield (
            f"ping{family}",
            (UNDERLAY, to_underlay / ip(SHARED[2, family], SHARED[1, family]) / ECHO[family]),
        )
    nop = {"options": [IPOption(b"\x01\x01\x01\x00")]}
    yield "ping options", (UNDERLAY, to_underlay / ip(SHARED[2, 4], SHARED[1, 4], **nop) / ECHO[4])
    who_has = ARP(op=1, hwsrc=PEER_MAC.hex(":"), psrc=str(SHARED[2, 4]), pdst=str(SHARED[1, 4]))
    yield "underlay arp", (UNDERLAY, ether(TO_ALL, PEER_MAC) / who_has)


BASES = dict([*tenant_bases(), *nd_bases(), *underlay_bases()])


# ---- comparing ---------------------------------------------------------------------------------------


class Pair:
    """Core and twin in the same world, fed the same frames."""

    def __init__(self, world: World) -> None:
        self.core, self.twin = Rig(Dataplane, world), Rig(FakeDataplane, world)

    def __enter__(self) -> "Pair":
        return self

    def __exit__(self, *exc: object) -> None:
        self.core.engine.close()
        self.twin.engine.close()

    def agree(self, port: int, frames: list[Frame]) -> bool:
        left = [rig.send(port, *frames) for rig in (self.core, self.twin)]
        return left[0] == left[1] and self.counters(self.core) == self.counters(self.twin)

    @staticmethod
    def counters(rig: Rig) -> tuple[dict[int, Counters], list[SubnetCounters]]:
        return {port: rig.engine.port_counters(port) for port in rig.ports}, rig.engine.subnet_counters()


def check(world: World, port: int, frames: Iterable[Frame], batch: int = 64) -> None:
    """Names the first frame on which they differ."""
    every = list(frames)[::STRIDE]
    assert every
    with Pair(world) as pair:
        for at in range(0, len(every), batch):
            if not pair.agree(port, every[at : at + batch]):
                explain(world, port, every[at : at + batch])


def explain(world: World, port: int, frames: list[Frame]) -> None:
    for frame in frames:
        with Pair(world) as pair:
            left = [rig.send(port, frame) for rig in (pair.core, pair.twin)]
            totals = [rig.counters() for rig in (pair.core, pair.twin)]
            assert left[0] == left[1] and totals[0] == totals[1], f"{frame}\n{left}\n{totals}"
    pytest.fail(f"they differ on a batch only: {frames}")


# ---- sweeps ------------------------------------------------------------------------------------------

HEADERS = 150
"""Bytes at the front of a frame that are varied: an outer IPv6 header, GRE, an inner NS."""


def variants(data: bytes) -> Iterator[bytes]:
    """With one byte of the headers changed: each bit, and some values that mean something."""
    for at in range(min(len(data), HEADERS)):
        values = {data[at] ^ 1 << bit for bit in range(8)} | {0, 1, 2, 6, 17, 58, 255}
        for value in sorted(values - {data[at]}):
            yield data[:at] + bytes((value,)) + data[at + 1 :]


def lengths(data: bytes) -> Iterator[bytes]:
    """Cut anywhere, or padded."""
    for size in range(len(data)):
        yield data[:size]
    for padding in (1, 2, 7, 8, 46):
        yield data + b"\xaa" * padding


def with_icmp6_checksum(data: bytes) -> bytes:
    """Right again, for what is found behind an IPv6 header without extensions."""
    message = data[54:56] + b"\0\0" + data[58:]
    pseudo = data[22:54] + len(message).to_bytes(4, "big") + (58).to_bytes(4, "big")
    return data[:56] + checksum(pseudo + message).to_bytes(2, "big") + data[58:]


def with_outer_checksum(data: bytes) -> bytes:
    header = data[14:24] + b"\0\0" + data[26:34]
    return data[:24] + checksum(header).to_bytes(2, "big") + data[26:]


def as_it_is(data: bytes) -> bytes:
    return data


def inside(repair: Callable[[bytes], bytes], at: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + repair(data[at:])


def repairs(name: str, packet: Packet) -> list[Callable[[bytes], bytes]]:
    """Changed bytes break checksums: also with those right again, to get past them."""
    at = {"nvgre4": 42, "nvgre6": 62}.get(name[:6], 0)
    found = [as_it_is]
    if any(kind in packet for kind in (ICMPv6ND_NS, ICMPv6ND_NA, ICMPv6ND_RS)) and "fragment" not in name:
        found.append(inside(with_icmp6_checksum, at))
    if name.startswith("nvgre4"):
        found.append(with_outer_checksum)
    return found


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
@pytest.mark.parametrize("name", BASES)
def test_every_byte_and_every_length(name: str, world: World) -> None:
    port, packet = BASES[name]
    data = bytes(packet)
    changed = [repair(v) for repair in repairs(name, packet) for v in variants(data)]
    check(world, port, map(Frame, [data, *changed, *lengths(data)]))


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
@pytest.mark.parametrize(
    "name", [n for n, (_, packet) in BASES.items() if UDP in packet and "behind" not in n]
)
def test_every_size_near_a_limit(name: str, world: World) -> None:
    """MTUs, with and without Ethernet padding; the first slot's end."""
    port, packet = BASES[name][0], BASES[name][1].copy()
    sizes = [*range(70), *range(1410, 1475), *range(1500, 1605), *range(3280, 3400)]
    frames = []
    for size in sizes:
        packet[UDP].remove_payload()
        data = bytes(packet / Raw(bytes(size)))
        frames += [Frame(data), Frame(data + b"\xaa" * 5)]
    check(world, port, frames)


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
@pytest.mark.parametrize(
    "to", (VM(BLUE, 1, LOCAL), VM(BLUE, 0, 20), VM(RED, 1, 20)), ids=("local", "rewrite", "nvgre")
)
@pytest.mark.parametrize("family", (4, 6))
def test_every_segment_size(family: int, to: Vm, world: World) -> None:
    vm = VM(to.network, 0, LOCAL)
    gso, start = (Gso.TCP4, 34) if family == 4 else (Gso.TCP6, 54)
    sizes = [1, 2, 3, 40, *range(500, 520), *range(1020, 1030), *range(1380, 1470), 2047, 2048, 2049, 65535]
    frames = []
    for flags in ("A", "FPACE"):
        data = bytes(between(vm, to, family, tcp(bytes(range(256)) * 8, flags=flags)))
        for size in sizes:
            frames.append(Frame(data, 0, True, start, 16, gso, size))
            frames.append(Frame(data + b"\xaa" * 9, 0, True, start, 16, gso, size))
    check(world, vm.port, frames, batch=1)


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
@pytest.mark.parametrize(
    "name", [n for n in BASES if "remote" in n or "arp" in n or "ping" in n or "nvgre" in n]
)
def test_all_kinds_of_offload_metadata(name: str, world: World) -> None:
    port, packet = BASES[name]
    data = bytes(packet)
    starts = (0, 13, 14, 33, 34, 35, 53, 54, 55, 76, 96, 116, len(data) - 2, len(data), 65535)
    frames = []
    for start in starts:
        for offset in (0, 2, 6, 8, 9, 10, 11, 12, 16, 65535):
            for gso, gso_size in ((Gso.NONE, 0), (Gso.TCP4, 100), (Gso.TCP6, 100), (Gso.TCP4, 0)):
                frames.append(Frame(data, 0, True, start, offset, gso, gso_size))
    frames += [Frame(data, gso=gso, gso_size=100) for gso in (Gso.TCP4, Gso.TCP6)]
    check(world, port, frames)


def test_every_chain_of_extension_headers() -> None:
    vm, to = BLUE_VM, VM(BLUE, 0, 20)
    frames = []
    for name, chain in extension_chains().items():
        for count in range(11):
            made = b"".join(chain_bytes(chain, last=i == count - 1) for i in range(count))
            first = chain_number(chain) if count else 17
            header = bytes(IPv6(src=str(vm.ca(6)), dst=str(to.ca(6)), nh=first, plen=len(made) + 24))
            l4 = bytes(UDP(sport=1, dport=2, len=24, chksum=0x1234)) + bytes(16)
            frames.append(Frame(bytes(ether(to.mac, vm.mac))[:12] + b"\x86\xdd" + header + made + l4))
        assert name
    check(WORLDS["plain"], vm.port, frames)


def chain_number(header: Packet) -> int:
    numbers = {
        IPv6ExtHdrHopByHop: 0,
        IPv6ExtHdrRouting: 43,
        IPv6ExtHdrFragment: 44,
        AH: 51,
        IPv6ExtHdrDestOpt: 60,
    }
    return numbers[type(header)]


def chain_bytes(header: Packet, last: bool) -> bytes:
    header = header.copy()
    header.nh = 17 if last else chain_number(header)
    return bytes(header)


def destination_options(next_header: int, size: int) -> bytes:
    """A header of `size` bytes, a multiple of 8 and at most 2,048, full of Pad1 options (RFC 8200 section
    4.2)."""
    return bytes((next_header, size // 8 - 1)) + bytes(size - 2)


# 1.5.6
@pytest.mark.parametrize("proto", (6, 17, 58, 132), ids=("tcp", "udp", "echo", "sctp"))
def test_headers_at_the_end_of_the_first_slot(proto: int) -> None:
    """Behind two extension headers, in the packet itself or in the outer one around it."""
    vm, to = BLUE_VM, VM(BLUE, 0, 20)
    l4 = {6: tcp(b"", options=[("NOP", None)] * 20), 17: udp(b"x"), 58: ECHO[6], 132: Raw(bytes(12))}[proto]
    inside, outside = [], []
    for size in range(1160, 1360, 8):
        padding = destination_options(60, 2048) + destination_options(proto, size)
        packet = ether(to.mac, vm.mac) / ip(vm.ca(6), to.ca(6), nh=60) / Raw(padding + bytes(l4))
        inside.append(Frame(bytes(packet)))
        padding = destination_options(60, 2048) + destination_options(47, size)
        inner = arriving(VM(RED, 0, 20), RED_VM, 6, l4, nh=proto)
        packet = ip(SHARED[2, 6], SHARED[1, 6], nh=60) / Raw(padding + bytes(gre(RED_VM.vsid, inner)))
        outside.append(Frame(bytes(ether(UNDERLAY_MAC, PEER_MAC) / packet)))
    world = World(rewrite=frozenset(((0, 0),)), mtu=9000, underlay_mtu=9000)
    check(world, vm.port, inside)
    check(world, UNDERLAY, outside)


# 2.3.4
def test_solicitations_at_the_end_of_the_first_slot() -> None:
    """With options enough; what lies beyond is not read, so they are not valid."""
    frames = []
    for size in range(1200, 1400, 8):
        options = bytes((200, 255)) + bytes(2038) + bytes((200, size // 8)) + bytes(size - 2)
        packet = BASES["ns nobody"][1] / Raw(options)
        frames.append(Frame(with_icmp6_checksum(bytes(packet))))
    check(WORLDS["plain"], BLUE_VM.port, frames)


def test_every_ip_option() -> None:
    """One of each type and length, alone and behind others, both ways."""
    lists = [bytes((kind, length)) + bytes(6) for kind in range(256) for length in (0, 1, 2, 3, 4, 8, 9)]
    lists += [prefix + bytes((7, 4, 4, 0)) for prefix in (b"\1", b"\1\1\1\1", b"\x94\x04\0\0", b"\0\1\1\1")]
    vm, to = BLUE_VM, VM(BLUE, 0, 20)
    out = bytes(between(vm, to, 4, udp()))
    back = bytes(ether(UNDERLAY_MAC, PEER_MAC) / ip(to.rewrite_pa(4), vm.rewrite_pa(4)) / udp())
    for port, data in ((vm.port, out), (UNDERLAY, back)):
        check(WORLDS["plain"], port, [Frame(with_options(data, options)) for options in lists])


def with_options(data: bytes, options: bytes) -> bytes:
    """Of a frame without; the header checksum is left wrong."""
    options += bytes(-len(options) % 4)
    length = int.from_bytes(data[16:18], "big") + len(options)
    header = bytes((0x45 + len(options) // 4, data[15])) + length.to_bytes(2, "big") + data[18:34]
    return data[:14] + header + options + data[34:]


@pytest.mark.parametrize("family", (4, 6))
def test_every_fragment_near_the_last_byte(family: int) -> None:
    vm, to = BLUE_VM, VM(BLUE, 0, 20)
    frames = []
    for offset in (0, 1, *range(8180, 8192)):
        for size in range(60):
            for more in (0, 1):
                if family == 4:
                    packet = between(vm, to, 4, Raw(bytes(size)), frag=offset, flags=more, proto=200)
                else:
                    header = IPv6ExtHdrFragment(nh=200, m=more, offset=offset)
                    packet = between(vm, to, 6, header / Raw(bytes(size)))
                frames.append(Frame(bytes(packet)))
    check(WORLDS["plain"], vm.port, frames)


@pytest.mark.parametrize("family", (4, 6))
def test_every_pair_of_ecn_fields(family: int) -> None:
    frames = []
    for inside in range(256):
        inner = arriving(VM(RED, 0, 20), RED_VM, family, udp(), tos=inside)
        frames += [Frame(bytes(from_host(2, RED_VM.vsid, inner, tos=tos))) for tos in (0, 1, 2, 3, 0xB9)]
    check(WORLDS["plain"], UNDERLAY, frames)


@pytest.mark.parametrize("family", (4, 6))
@pytest.mark.parametrize(
    "to", (VM(BLUE, 0, 20), VM(BLUE, 0, LOCAL_APPLIANCE)), ids=("rewritten", "completed")
)
@pytest.mark.parametrize(("l4", "offset"), ((udp, 6), (tcp, 16)), ids=("udp", "tcp"))
def test_checksums_around_zero(family: int, to: Vm, l4: Callable[[bytes], Packet], offset: int) -> None:
    """Complete and partial ones, that come out 0x0000, 0xffff and next to them."""
    data, start = bytes(between(BLUE_VM, to, family, l4(b"\0\0"))), 34 if family == 4 else 54
    at = start + offset
    payload_word = checksum(data[start:])  # makes the sum over the whole packet 0xffff
    addresses = slice(26, 34) if family == 4 else slice(22, 54)
    pas = BLUE_VM.rewrite_pa(family).packed + to.rewrite_pa(family).packed
    to_zero = [field for field in range(65536) if updated(field, data[addresses], pas) == 0]
    frames = []
    for near in range(-3, 4):
        filler = (payload_word + near & 0xFFFF).to_bytes(2, "big")
        frames.append(Frame(data[:-2] + filler, csum_partial=True, csum_start=start, csum_offset=offset))
        for field in (0, 0xFFFF, *to_zero):
            octets = (field + near & 0xFFFF).to_bytes(2, "big")
            frames.append(Frame(data[:at] + octets + data[at + 2 :]))
    assert to_zero
    check(WORLDS["plain"], BLUE_VM.port, frames)
