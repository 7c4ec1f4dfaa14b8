"""Quotes of rewritten packets by routers of the provider network: a VM sees what it sent, or nothing."""

from collections.abc import Iterator

import pytest
from scapy.layers.inet import ICMP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6TimeExceeded,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import AH
from scapy.packet import Packet, Raw

from dataplane.binding.core import Dataplane
from dataplane.twin.reference import FakeDataplane
from tests.oracle.frames import PEER_MAC, between, ether, ip
from tests.oracle.rig import Make, Rig, data, rigs
from tests.oracle.world import LOCAL, UNDERLAY_MAC, World

UNDERLAY = 0
A, B = World().vm(0, 0, LOCAL), World().vm(0, 0, 20)
ROUTER = {4: "192.168.77.222", 6: "fd77::222"}
BODY = UDP(sport=7, dport=9) / Raw(b"anybody?")


@pytest.fixture(params=(FakeDataplane, Dataplane), ids=("twin", "core"))
def rig(request: pytest.FixtureRequest) -> Iterator[Make]:
    with rigs(request.param) as make:
        yield make


def about(family: int) -> Packet:
    """An error about a packet from B, as A may send it."""
    quoted = Raw(bytes(ip(B.ca(family), A.ca(family)) / BODY))
    return (ICMP(type=3, code=1) if family == 4 else ICMPv6DestUnreach()) / quoted


def told(r: Rig, sent: Packet, family: int) -> tuple[bytes, bytes | None]:
    """What A sends, and what it is shown of that when a router quotes all of it."""
    (left,) = data(r.send(A.port, sent)[UNDERLAY])
    kind = ICMP(type=11) if family == 4 else ICMPv6TimeExceeded()
    error = ether(UNDERLAY_MAC, PEER_MAC) / ip(ROUTER[family], A.rewrite_pa(family)) / kind / Raw(left[14:])
    heard = data(r.send(UNDERLAY, error).get(A.port, []))
    return bytes(sent)[14:], heard[0][14 + (28 if family == 4 else 48) :] if heard else None


# 4.8.9, 4.7.10
@pytest.mark.parametrize(
    ("family", "body"),
    [
        (4, BODY),
        (4, TCP() / Raw(b"more")),
        (4, ICMP()),
        (6, BODY),
        (6, TCP() / Raw(b"more")),
        (6, ICMPv6EchoRequest()),
        (6, IPv6ExtHdrFragment(m=1) / UDP(sport=7, dport=9, len=100, chksum=0x1234) / Raw(bytes(24))),
        (6, IPv6ExtHdrFragment(m=1, nh=6) / TCP(chksum=0x1234) / Raw(bytes(4))),
        (6, IPv6ExtHdrFragment(offset=8, nh=17) / Raw(bytes(range(24)))),
    ],
)
def test_a_quote_is_what_was_sent(rig: Make, family: int, body: Packet) -> None:
    sent, shown = told(rig(rewrite=frozenset({(0, 0)})), between(A, B, family, body), family)
    assert shown == sent[:128]


# 4.8.10, 4.8.11
@pytest.mark.parametrize(
    ("family", "body"),
    [
        (4, about(4)),
        (6, about(6)),
        (6, IPv6ExtHdrFragment() / about(6)),
        (6, IPv6ExtHdrDestOpt() / about(6)),
        (6, IPv6ExtHdrFragment() / IPv6ExtHdrDestOpt() / about(6)),
        (6, IPv6ExtHdrDestOpt() / BODY),
        (6, IPv6ExtHdrHopByHop() / BODY),
        (6, IPv6ExtHdrRouting() / BODY),
        (6, AH(nh=17, payloadlen=4, icv=bytes(12)) / BODY),
    ],
)
def test_a_quote_that_would_show_addresses_of_the_provider(rig: Make, family: int, body: Packet) -> None:
    """Within an error that is quoted, or as a checksum that nobody finds."""
    r = rig(rewrite=frozenset({(0, 0)}))
    assert told(r, between(A, B, family, body), family)[1] is None
    assert r.counters().drops == {"icmp-error": 1}
