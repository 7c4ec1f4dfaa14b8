"""One frame of each kind, and all its neighbours: every header byte changed, every length, every size near
a limit.

Core and twin agree on each. What is random in test_oracle.py is complete here, for single packets.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from itertools import product

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RS,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import AH
from scapy.packet import Packet, Raw

from dataplane.binding.core import Dataplane, Frame, Gso
from dataplane.binding.stats import Counters, SubnetCounters
from dataplane.twin.reference import FakeDataplane
from dataplane.twin.sums import checksum, updated
from tests.oracle.bases import BASES, BLUE, BLUE_VM, ECHO, RED, RED_VM, UNDERLAY, VM, WORLDS, extension_chains
from tests.oracle.frames import PEER_MAC, arriving, between, ether, from_host, gre, ip, tcp, udp
from tests.oracle.rig import Rig
from tests.oracle.scale import STRIDE
from tests.oracle.world import (
    LOCAL,
    LOCAL_APPLIANCE,
    SHARED,
    UNDERLAY_MAC,
    Vm,
    World,
)

SUPER = (Gso.TCP4, Gso.TCP6, Gso.UDP)

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


def check(world: World, port: int, frames: Iterable[Frame | Callable[[], Frame]], batch: int = 64) -> None:
    """Names the first frame on which they differ. Those that scapy makes slowly it only makes when taken."""
    every = [frame if isinstance(frame, Frame) else frame() for frame in list(frames)[::STRIDE]]
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
    sizes = [*range(70), *range(1410, 1475), *range(1500, 1605), *range(3280, 3400)]
    check(world, BASES[name][0], [partial(sized, name, size, end) for size in sizes for end in (0, 5)])


def sized(name: str, size: int, padding: int) -> Frame:
    return Frame(base_with(name, size) + b"\xaa" * padding)


@cache
def base_with(name: str, size: int) -> bytes:
    packet = BASES[name][1].copy()
    packet[UDP].remove_payload()
    return bytes(packet / Raw(bytes(size)))


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
@pytest.mark.parametrize(
    "to", (VM(BLUE, 1, LOCAL), VM(BLUE, 0, 20), VM(RED, 1, 20)), ids=("local", "rewrite", "nvgre")
)
@pytest.mark.parametrize("family", (4, 6))
def test_every_segment_size(family: int, to: Vm, world: World) -> None:
    vm = VM(to.network, 0, LOCAL)
    gso, start = (Gso.TCP4, 34) if family == 4 else (Gso.TCP6, 54)
    payload = bytes(range(256)) * 8
    sizes = [1, 2, 3, 40, *range(500, 520), *range(1020, 1030), *range(1380, 1470), 2047, 2048, 2049, 65535]
    frames = []
    for l4, offset, kind in (
        (tcp(payload, flags="A"), 16, gso),
        (tcp(payload, flags="FPACE"), 16, gso),
        (udp(payload), 6, Gso.UDP),
    ):
        data = bytes(between(vm, to, family, l4))
        for size in sizes:
            frames.append(Frame(data, 0, True, start, offset, kind, size))
            frames.append(Frame(data + b"\xaa" * 9, 0, True, start, offset, kind, size))
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
            for gso, gso_size in [(Gso.NONE, 0), (Gso.TCP4, 0), *((gso, 100) for gso in SUPER)]:
                frames.append(Frame(data, 0, True, start, offset, gso, gso_size))
    frames += [Frame(data, gso=gso, gso_size=100) for gso in SUPER]
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

    def fragment(offset: int, size: int, more: int) -> Frame:
        if family == 4:
            return Frame(bytes(between(vm, to, 4, Raw(bytes(size)), frag=offset, flags=more, proto=200)))
        header = IPv6ExtHdrFragment(nh=200, m=more, offset=offset)
        return Frame(bytes(between(vm, to, 6, header / Raw(bytes(size)))))

    every = product((0, 1, *range(8180, 8192)), range(60), (0, 1))
    check(WORLDS["plain"], vm.port, [partial(fragment, *each) for each in every])


@pytest.mark.parametrize("family", (4, 6))
def test_every_pair_of_ecn_fields(family: int) -> None:
    @cache
    def inner(tos: int) -> bytes:
        return bytes(arriving(VM(RED, 0, 20), RED_VM, family, udp(), tos=tos))

    def both(inside: int, tos: int) -> Frame:
        return Frame(bytes(from_host(2, RED_VM.vsid, inner(inside), tos=tos)))

    every = product(range(256), (0, 1, 2, 3, 0xB9))
    check(WORLDS["plain"], UNDERLAY, [partial(both, *each) for each in every])


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
