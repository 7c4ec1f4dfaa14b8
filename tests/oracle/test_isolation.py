"""Isolation at the memory ports: each probe dies for exactly the reason expected, and nothing comes out
anywhere.

Both tenants have the same prefixes, CAs and MACs. Blue is carried by IP rewrite, Red by NVGRE; Blue's
remote VMs 20 and 21 live on host 2, Red's on host 3.
"""

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import (
    ICMPv6MLQuery,
    ICMPv6MLReport,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Dot1Q
from scapy.packet import Packet, Raw

from dataplane.binding.core import Dataplane
from dataplane.twin.reference import FakeDataplane
from tests.oracle.frames import PEER_MAC, arriving, between, ether, from_host, gre, ip, outer, tcp, udp
from tests.oracle.rig import Rig, data
from tests.oracle.world import (
    LOCAL,
    LOCAL_APPLIANCE,
    NOBODY,
    OUTSIDE,
    ROUTER_MAC,
    SHARED,
    UNBOUND,
    UNDERLAY_MAC,
    World,
    vsid,
)

WORLD = World(rewrite=frozenset(((0, 0), (0, 1))), swapped=frozenset((1,)))
BLUE, RED = 0, 1
UNDERLAY = 0
BLUE_VM, BLUE_NEIGHBOUR = WORLD.vm(BLUE, 0, LOCAL), WORLD.vm(BLUE, 0, LOCAL_APPLIANCE)
BLUE_REMOTE = WORLD.vm(BLUE, 0, 20)
RED_VM, RED_REMOTE, RED_ON_HOST_2 = WORLD.vm(RED, 0, LOCAL), WORLD.vm(RED, 0, 20), WORLD.vm(RED, 0, 30)
RED_OTHER_SUBNET = WORLD.vm(RED, 1, 20)
BROADCAST = b"\xff" * 6


class Probe(NamedTuple):
    name: str
    port: int
    frame: Packet | bytes
    reason: str


# ---- from inside a VM --------------------------------------------------------------------------------------


def to_neighbour(source: str, destination: str = "10.1.1.11", mac: bytes = BLUE_VM.mac) -> Packet:
    return ether(BLUE_NEIGHBOUR.mac, mac) / ip(source, destination) / udp()


def to_router(
    destination: object, source: object = "10.1.1.10", payload: Packet | None = None, **more: int
) -> Packet:
    return ether(ROUTER_MAC, BLUE_VM.mac) / ip(source, destination, **more) / (payload or udp())


def arp(mac: bytes, sender: str, hwsrc: bytes = BLUE_VM.mac) -> Packet:
    return ether(BROADCAST, mac) / ARP(op=1, hwsrc=hwsrc.hex(":"), psrc=sender, pdst="10.1.1.11")


def nd(message: Packet, source: str = "fd00:1:1::a", hops: int = 255) -> Packet:
    return (
        ether(b"\x33\x33\xff\x00\x00\x0b", BLUE_VM.mac)
        / IPv6(src=source, dst="ff02::1:ff00:b", hlim=hops)
        / message
    )


NS = ICMPv6ND_NS(tgt="fd00:1:1::11")
FORGED_SLLA = ICMPv6NDOptSrcLLAddr(lladdr=BLUE_NEIGHBOUR.mac.hex(":"))
FORGED_TLLA = ICMPv6NDOptDstLLAddr(lladdr=BLUE_VM.mac.hex(":"))


def own6() -> str:
    return str(BLUE_VM.ca(6))


FROM_A_VM = [
    ("another VM's CA", to_neighbour("10.1.1.20"), "src-address"),
    ("another subnet's CA", to_neighbour("10.1.2.10"), "src-address"),
    ("a CA of no one", to_neighbour("10.1.1.99"), "src-address"),
    ("the gateway's CA", to_neighbour("10.1.1.1"), "src-address"),
    ("its own rewrite PA as source", to_router("10.1.2.20", str(BLUE_VM.rewrite_pa(4))), "src-address"),
    (
        "another VM's IPv6 CA",
        ether(BLUE_NEIGHBOUR.mac, BLUE_VM.mac) / ip("fd00:1:1::11", "fd00:1:1::11") / udp(),
        "src-address",
    ),
    ("another VM's MAC", to_neighbour("10.1.1.10", mac=BLUE_NEIGHBOUR.mac), "src-mac"),
    ("the router's MAC", to_neighbour("10.1.1.10", mac=ROUTER_MAC), "src-mac"),
    ("ARP with another MAC inside", arp(BLUE_VM.mac, "10.1.1.10", BLUE_NEIGHBOUR.mac), "arp-sender"),
    ("ARP with another CA inside", arp(BLUE_VM.mac, "10.1.1.20"), "arp-sender"),
    ("ARP as the gateway", arp(BLUE_VM.mac, "10.1.1.1"), "arp-sender"),
    ("NS with another MAC inside", nd(NS / FORGED_SLLA, own6()), "nd-spoofed"),
    ("NS from another CA", nd(NS, "fd00:1:1::20"), "src-address"),
    ("NA for another CA", nd(ICMPv6ND_NA(tgt="fd00:1:1::11") / FORGED_TLLA, own6()), "nd-spoofed"),
    ("NA for the router", nd(ICMPv6ND_NA(tgt="fe80::1", R=1) / FORGED_TLLA, own6()), "nd-spoofed"),
    (
        "an MLD query for one VM alone",
        to_router("fd00:1:2::a", "fe80::bb:ff:fe00:a", ICMPv6MLQuery()),
        "src-address",
    ),
    (
        "an MLD report from nobody, routed",
        to_router("fd00:1:2::a", "::", ICMPv6MLReport()),
        "src-address",
    ),
    ("a router advertisement", nd(ICMPv6ND_RA(), "fe80::bb:ff:fe00:a"), "nd-router"),
    ("ND from off link", nd(NS, own6(), hops=254), "nd-malformed"),
    ("a shared PA of this host", to_router(SHARED[1, 4]), "no-route"),
    ("a shared PA of another host", to_router(SHARED[2, 4]), "no-route"),
    ("its own rewrite PA", to_router(BLUE_VM.rewrite_pa(4)), "no-route"),
    ("a remote rewrite PA", to_router(BLUE_REMOTE.rewrite_pa(4)), "no-route"),
    ("an IPv6 PA", to_router(SHARED[1, 6], own6()), "no-route"),
    ("a PA by the neighbour's MAC", to_neighbour("10.1.1.10", str(SHARED[1, 4])), "no-record"),
    ("the host's own address", to_router("198.51.100.1"), "no-route"),
    ("loopback", to_router("127.0.0.1"), "no-record"),
    ("the router's link-local by IP", to_router("fe80::1", own6()), "router-local"),
    ("TCP to the gateway", to_router("10.1.1.1", payload=tcp()), "router-local"),
    (
        "NVGRE of its own making",
        to_router(SHARED[2, 4], payload=gre(RED_VM.vsid, udp()), proto=47),
        "no-route",
    ),
    ("broadcast", ether(BROADCAST, BLUE_VM.mac) / ip("10.1.1.10", "255.255.255.255") / udp(), "multicast"),
    (
        "a CA that only the other tenant's subnet could hold",
        to_neighbour("10.1.1.10", f"10.1.1.{NOBODY}"),
        "no-record",
    ),
    (
        "two tags",
        ether(BLUE_NEIGHBOUR.mac, BLUE_VM.mac) / Dot1Q(vlan=1) / Dot1Q(vlan=2) / ip("10.1.1.10", "10.1.1.11"),
        "vlan-stacked",
    ),
]


# ---- crafted on the underlay -------------------------------------------------------------------------------


def inside(
    source: object, destination: object, mac: bytes = RED_REMOTE.mac, to: bytes = RED_VM.mac
) -> Packet:
    """A popped frame as Red's VM 10 would get it."""
    return ether(to, mac) / ip(source, destination) / udp()


POPPED = arriving(RED_REMOTE, RED_VM, 4, udp(b"probe!"))
POPPED6 = arriving(RED_REMOTE, RED_VM, 6, udp(b"probe!"))


def tunnelled(
    inner: Packet | bytes = POPPED, host: int = 3, to_vsid: int = RED_VM.vsid, **fields: object
) -> Packet:
    return from_host(host, to_vsid, inner, **fields)


def with_gre(first_word: int, rest: bytes = b"") -> Packet:
    """The right tunnel but for the GRE header's first 32 bits, and for what comes before the key."""
    header = first_word.to_bytes(4, "big") + rest + (RED_VM.vsid << 8).to_bytes(4, "big")
    return outer(SHARED[3, 4], SHARED[1, 4], header + bytes(POPPED))


def forged(**ether_fields: bytes) -> Packet:
    frame = POPPED.copy()
    for name, mac in ether_fields.items():
        setattr(frame, name, mac.hex(":"))
    return frame


def bad_outer_checksum() -> bytes:
    frame = bytearray(bytes(tunnelled()))
    frame[24] ^= 1
    return bytes(frame)


def pa_pair(source: object, destination: object, payload: Packet | None = None) -> Packet:
    return ether(UNDERLAY_MAC, PEER_MAC) / ip(source, destination) / (payload or udp(b"probe!"))


REWRITTEN = WORLD.vm(BLUE, 0, 20).rewrite_pa(4), BLUE_VM.rewrite_pa(4)
INNER_ARP = ether(BROADCAST, RED_REMOTE.mac) / ARP(
    op=1, hwsrc=RED_REMOTE.mac.hex(":"), psrc="10.1.1.20", pdst="10.1.1.10"
)

ON_THE_UNDERLAY = [
    ("Red's VSID from Blue's host", tunnelled(host=2), "inner-source-host"),
    ("Blue's VSID from Red's host", tunnelled(host=3, to_vsid=BLUE_VM.vsid), "inner-source-host"),
    ("IPv6 inside, from the wrong host", tunnelled(POPPED6, host=2), "inner-source-host"),
    ("IPv6 outside, from the wrong host", tunnelled(host=2, family=6), "inner-source-host"),
    ("the PA of a host without that CA", tunnelled(host=4), "inner-source-host"),
    ("a PA of no host", outer(SHARED[3, 4] + 7, SHARED[1, 4], gre(RED_VM.vsid, POPPED)), "outer-source"),
    ("this host's own PA", outer(SHARED[1, 4], SHARED[1, 4], gre(RED_VM.vsid, POPPED)), "outer-source"),
    ("NVGRE from a rewrite PA", outer(REWRITTEN[0], SHARED[1, 4], gre(RED_VM.vsid, POPPED)), "outer-source"),
    (
        "a local CA as inner source",
        tunnelled(arriving(WORLD.vm(RED, 0, 11), RED_VM, 4, udp())),
        "inner-source-host",
    ),
    ("a gateway as inner source", tunnelled(inside("10.1.1.1", "10.1.1.10", ROUTER_MAC)), "inner-source"),
    ("an inner source of no one", tunnelled(inside("10.1.1.99", "10.1.1.10")), "inner-source"),
    ("an inner source from outside", tunnelled(inside("8.8.8.8", "10.1.1.10", ROUTER_MAC)), "inner-source"),
    (
        "an inner source in a routed prefix of another host",
        tunnelled(inside("10.9.0.1", "10.1.1.10"), host=2),
        "inner-source",
    ),
    ("another inner source MAC", tunnelled(forged(src=RED_ON_HOST_2.mac)), "inner-src-mac"),
    ("the router's MAC inside one subnet", tunnelled(forged(src=ROUTER_MAC)), "inner-src-mac"),
    (
        "a VM's MAC across subnets",
        tunnelled(inside("10.1.2.20", "10.1.1.10", RED_OTHER_SUBNET.mac)),
        "inner-src-mac",
    ),
    ("another inner destination MAC", tunnelled(forged(dst=BLUE_NEIGHBOUR.mac)), "inner-dst-mac"),
    ("an inner broadcast", tunnelled(forged(dst=BROADCAST)), "group-address"),
    ("back to the wire", tunnelled(arriving(RED_REMOTE, RED_ON_HOST_2, 4, udp())), "not-local"),
    (
        "the gateway as inner destination",
        tunnelled(ether(ROUTER_MAC, RED_REMOTE.mac) / ip("10.1.1.20", "10.1.1.1") / ICMP()),
        "router-local",
    ),
    ("another subnet's CA in this VSID", tunnelled(inside("10.1.1.20", "10.1.2.10")), "no-record"),
    ("a PA as inner destination", tunnelled(inside("10.1.1.20", SHARED[1, 4])), "no-record"),
    ("VSID 0", tunnelled(to_vsid=0), "vsid-reserved"),
    ("VSID 0xfff", tunnelled(to_vsid=0xFFF), "vsid-reserved"),
    ("VSID 0xffffff", tunnelled(to_vsid=0xFFFFFF), "vsid-reserved"),
    ("a VSID of no one", tunnelled(to_vsid=vsid(7, 0)), "vsid-unknown"),
    ("an outer fragment", tunnelled(flags="MF", id=5), "outer-fragment"),
    ("a later outer fragment", tunnelled(frag=100), "outer-fragment"),
    ("a bad outer checksum", bad_outer_checksum(), "outer-checksum"),
    ("C", with_gre(0xA0006558, bytes(4)), "gre-checksum-bit"),
    ("S", with_gre(0x30006558), "gre-sequence-bit"),
    ("no K", with_gre(0x00006558), "gre-no-key"),
    ("version 1", with_gre(0x20016558), "gre-version"),
    ("routing bit", with_gre(0x60006558), "gre-reserved-bits"),
    ("another GRE protocol", with_gre(0x20000800), "gre-protocol"),
    ("a GRE header cut off", outer(SHARED[3, 4], SHARED[1, 4], bytes.fromhex("20006558001389")), "gre-short"),
    ("an inner tag", tunnelled(ether(RED_VM.mac, RED_REMOTE.mac) / Dot1Q(vlan=5) / POPPED[IP]), "inner-vlan"),
    ("an outer tag", ether(UNDERLAY_MAC, PEER_MAC) / Dot1Q(vlan=5) / tunnelled()[IP], "underlay-vlan"),
    (
        "another MAC on the underlay",
        outer(SHARED[3, 4], SHARED[1, 4], gre(RED_VM.vsid, POPPED), macs=(PEER_MAC, PEER_MAC)),
        "underlay-dst-mac",
    ),
    ("UDP to a shared PA", pa_pair(SHARED[2, 4], SHARED[1, 4]), "pa-protocol"),
    ("a CA on the underlay", pa_pair("10.1.1.20", "10.1.1.10"), "underlay-not-ours"),
    (
        "rewrite PAs of two RDIDs",
        pa_pair(WORLD.vm(RED, 0, 20).rewrite_pa(4), BLUE_VM.rewrite_pa(4)),
        "rewrite-source",
    ),
    ("a shared PA to a rewrite PA", pa_pair(SHARED[2, 4], REWRITTEN[1]), "rewrite-source"),
    (
        "a local rewrite PA from the wire",
        pa_pair(BLUE_NEIGHBOUR.rewrite_pa(4), REWRITTEN[1]),
        "rewrite-source",
    ),
    ("a rewrite PA of no CA as source", pa_pair(UNBOUND[2][0], REWRITTEN[1]), "rewrite-source"),
    ("a rewrite PA of no CA", pa_pair(REWRITTEN[0], UNBOUND[1][0]), "rewrite-unbound"),  # 3.5.3
    (
        "a router's word to a rewrite PA of no CA",  # 4.8.2
        pa_pair(
            OUTSIDE[4],
            UNBOUND[1][0],
            ICMP(type=3, code=4) / ip(UNBOUND[1][0], BLUE_REMOTE.rewrite_pa(4)) / udp(),
        ),
        "rewrite-unbound",
    ),
    (
        "a router's word about another tenant's packet",
        pa_pair(
            OUTSIDE[4],
            REWRITTEN[1],
            ICMP(type=3, code=4)
            / ip(WORLD.vm(RED, 0, LOCAL).rewrite_pa(4), BLUE_REMOTE.rewrite_pa(4))
            / udp(),
        ),
        "icmp-error",
    ),
    (
        "an ICMP error between rewrite PAs",
        pa_pair(*REWRITTEN, ICMP(type=3, code=1) / Raw(bytes(28))),
        "icmp-error",
    ),
    (
        "a request inside that lies about its MAC",
        tunnelled(ether(BROADCAST, PEER_MAC) / INNER_ARP[ARP]),
        "inner-src-mac",
    ),
    ("a request inside from the wrong host", tunnelled(INNER_ARP, host=2), "inner-source-host"),
    (
        "a router advertisement inside",
        tunnelled(
            ether(RED_VM.mac, RED_REMOTE.mac)
            / IPv6(src="fe80::bb:ff:fe00:14", dst="ff02::1", hlim=255)
            / ICMPv6ND_RA()
        ),
        "nd-router",
    ),
]


@pytest.fixture(params=(FakeDataplane, Dataplane), ids=("twin", "core"))
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    with Rig(request.param, WORLD) as made:
        yield made


def dies(rig: Rig, port: int, frame: Packet | bytes, reason: str) -> None:
    """And nothing comes of it, but that its sender is told so by the router."""
    left = rig.send(port, frame)
    told = port != UNDERLAY and reason in ("no-route", "router-local")
    assert list(left) == [port] * told
    for error in data(left.get(port, [])):
        assert (error[:6], error[6:12]) == (bytes(frame)[6:12], ROUTER_MAC)
        assert error[42:] == bytes(frame)[14:] or error[62:] == bytes(frame)[14:]
    counters = rig.engine.port_counters(port)
    assert counters.drops == {reason: 1}
    assert rig.counters().drops == {reason: 1}
    assert (counters.received, counters.dropped, rig.counters().sent) == (1, 1, told)


@pytest.mark.parametrize(
    ("frame", "reason"), [row[1:] for row in FROM_A_VM], ids=[row[0] for row in FROM_A_VM]
)
def test_probe_from_inside_a_vm(rig: Rig, frame: Packet, reason: str) -> None:
    dies(rig, BLUE_VM.port, frame, reason)


@pytest.mark.parametrize(
    ("frame", "reason"), [row[1:] for row in ON_THE_UNDERLAY], ids=[row[0] for row in ON_THE_UNDERLAY]
)
def test_probe_on_the_underlay(rig: Rig, frame: Packet | bytes, reason: str) -> None:
    dies(rig, UNDERLAY, frame, reason)


def test_two_rewriting_tenants_do_not_meet(rig: Rig) -> None:
    """Both carried by rewrite: the PAs alone tell their VM networks apart."""
    world = World(rewrite=frozenset(((0, 0), (1, 0))))
    with Rig(type(rig.engine), world) as both:
        across = pa_pair(world.vm(RED, 0, 20).rewrite_pa(4), world.vm(BLUE, 0, LOCAL).rewrite_pa(4))
        dies(both, UNDERLAY, across, "rewrite-rdid")


@pytest.mark.parametrize(
    ("port", "frame", "out"),
    (
        (BLUE_VM.port, between(BLUE_VM, BLUE_NEIGHBOUR, 4, udp()), BLUE_NEIGHBOUR.port),
        (UNDERLAY, tunnelled(), RED_VM.port),
        (UNDERLAY, tunnelled(family=6), RED_VM.port),
        (UNDERLAY, pa_pair(*REWRITTEN), BLUE_VM.port),
    ),
    ids=("from a VM", "tunnelled", "tunnelled over IPv6", "rewritten"),
)
def test_the_honest_frame_arrives(rig: Rig, port: int, frame: Packet, out: int) -> None:
    """Else the probes would prove nothing: they differ from these in one thing each."""
    left = rig.send(port, frame)
    assert list(left) == [out] and len(data(left[out])) == 1
