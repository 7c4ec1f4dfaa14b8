"""ICMP errors that no golden case comes by: where policy, MTU, offloads or the limit differ."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

import pytest
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from dataplane.binding.core import Dataplane, Frame, Gso
from dataplane.binding.tables import NO_ADDRESS, ChangeSet, PrefixRow, SourceRow, pack_address, put
from dataplane.twin.reference import FakeDataplane
from tests.oracle.frames import between, ether, ip, partial, tcp, udp
from tests.oracle.rig import MILLISECOND, SECOND, Make, Rig, data, rigs
from tests.oracle.strategies import TAKES_ALL
from tests.oracle.world import LOCAL, OUTSIDE, ROUTER_MAC, World, gateway, network_field

A, OTHER, REMOTE = World().vm(0, 0, LOCAL), World().vm(0, 1, LOCAL), World().vm(0, 0, 20)
BURST = 64
FAMILIES = pytest.mark.parametrize("family", (4, 6))


@pytest.fixture(params=(FakeDataplane, Dataplane), ids=("twin", "core"))
def rig(request: pytest.FixtureRequest) -> Iterator[Make]:
    with rigs(request.param) as make:
        yield make


def to_nowhere(family: int, source: object = None) -> Packet:
    return ether(ROUTER_MAC, A.mac) / ip(source or A.ca(family), OUTSIDE[family]) / udp(b"anybody?")


def told(r: Rig, frame: Packet | Frame) -> Packet | None:
    """What A hears of a frame that it has sent, if anything; nothing else has left."""
    left = r.send(A.port, frame)
    assert set(left) <= {A.port}
    errors = data(left.get(A.port, []))
    assert len(errors) <= 1
    return Ether(errors[0]) if errors else None


def quote(error: Packet | None) -> bytes:
    assert error is not None
    return bytes(error)[14 + (28 if IP in error else 48) :]


# 2.15.13
@pytest.mark.parametrize(
    ("source", "hears"),
    [
        *(
            (s, False)
            for s in ("0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "ff02::1")
        ),
        ("198.51.100.9", True),
        ("2001:db8::9", True),
    ],
)
def test_a_source_that_no_host_has(rig: Make, source: str, hears: bool) -> None:
    r = rig()
    anything = [network_field("0.0.0.0/0"), network_field("::/0")]
    rows = [SourceRow(prefix, A.port, family, length) for prefix, family, length in anything]
    r.engine.apply(ChangeSet(2, (put(rows),)).encode())
    assert (told(r, to_nowhere(ip_address(source).version, source)) is not None) == hears
    assert r.counters().drops == {"no-route": 1}


def moved_gateway(r: Rig, family: int, to: bytes) -> None:
    """The gateway of A's subnet, at run time."""
    rows = [row for row in r.world.rows() if isinstance(row, PrefixRow)]
    changed = [row._replace(gateway=to) for row in rows if (row.vsid, row.family) == (A.vsid, family)]
    r.engine.apply(ChangeSet(2, (put(changed),)).encode())


# 2.15.16
@FAMILIES
def test_the_gateway_says_it_wherever_it_is_now(rig: Make, family: int) -> None:
    r = rig()
    for now in (gateway(0, family), ip_address(int(gateway(0, family)) + 100)):
        moved_gateway(r, family, pack_address(now))
        error = told(r, to_nowhere(family))
        assert error is not None and (error.src, error[1].src) == (ROUTER_MAC.hex(":"), str(now))


# 2.15.18, 2.15.19
def test_a_subnet_without_a_gateway(rig: Make) -> None:
    r = rig()
    for family in (4, 6):
        moved_gateway(r, family, NO_ADDRESS)
    assert told(r, to_nowhere(4)) is None
    error = told(r, to_nowhere(6))
    assert error is not None and error[IPv6].src == "fe80::1"
    assert r.counters().drops == {"no-route": 2}


# 2.15.8
@pytest.mark.parametrize(("outer", "mtu"), [(4, 1458), (6, 1438)])
@FAMILIES
def test_what_passes_an_underlay_of_1500(rig: Make, outer: int, mtu: int, family: int) -> None:
    """The packet that the error asks for goes on, one byte more does not."""
    headers = {4: 28, 6: 48}[family]
    r = rig(underlay_mtu=1500, outer={2: outer, 3: 4, 4: 4})
    fields = {"flags": "DF"} if family == 4 else {}
    over, fits = (between(A, REMOTE, family, udp(bytes(n - headers)), **fields) for n in (mtu + 1, mtu))
    error = told(r, over)
    assert error is not None
    assert (error[ICMP].nexthopmtu if family == 4 else error[ICMPv6PacketTooBig].mtu) == mtu
    assert len(r.send(A.port, fits)[0]) == 1


# 2.15.8
def test_no_mtu_that_no_link_may_have_is_told(rig: Make) -> None:
    r = rig(underlay_mtu=100)
    error = told(r, between(A, REMOTE, 6, udp(bytes(1000))))
    assert error is not None and error[ICMPv6PacketTooBig].mtu == 1280
    error = told(r, between(A, REMOTE, 4, udp(bytes(100)), flags="DF"))
    assert error is not None and error[ICMP].nexthopmtu == 68
    assert r.counters().drops == {"too-big": 2}


# 2.15.24
@FAMILIES
def test_of_a_super_packet_its_first_segment_is_quoted(rig: Make, family: int) -> None:
    payload = bytes(range(200)) * 2
    flags = {"flags": "FPA", "sport": 7, "dport": 9}
    l4, kind = (34, Gso.TCP4) if family == 4 else (54, Gso.TCP6)
    whole = between(A, OTHER, family, tcp(payload, **flags), ttl=1)
    first = between(A, OTHER, family, tcp(payload[:150], **(flags | {"flags": "A"})), ttl=1)
    r = rig(offloads=TAKES_ALL)
    assert quote(told(r, partial(whole, l4, 16, kind, 150))) == bytes(first)[14:]
    assert r.counters().drops == {"ttl-exceeded": 1}
    assert (r.counters().originated, r.counters().sent) == (1, 1)


# 2.15.24
def test_a_super_packet_that_is_too_big(rig: Make) -> None:
    r = rig(offloads=TAKES_ALL, underlay_mtu=600)
    whole = between(A, REMOTE, 4, tcp(bytes(5000)), flags="DF")
    error = told(r, partial(whole, 34, 16, Gso.TCP4, 1000))
    assert error is not None and (error[ICMP].nexthopmtu, IP(quote(error)).len) == (558, 1040)
    assert TCP(quote(error)[20:40]).seq == 1000
    assert told(r, partial(between(A, REMOTE, 4, tcp(bytes(5000))), 34, 16, Gso.TCP4, 1000)) is None
    assert r.counters().drops == {"too-big": 2}


# 2.15.24
@FAMILIES
def test_a_partial_checksum_is_completed(rig: Make, family: int) -> None:
    whole = between(A, OTHER, family, udp(b"odd"), ttl=1)
    assert quote(told(rig(), partial(whole, 34 if family == 4 else 54, 6))) == bytes(whole)[14:]


# 2.15.23
def test_what_lies_in_other_slots_is_quoted_too(rig: Make) -> None:
    """Of a packet of several slots nothing is different."""
    whole = between(A, OTHER, 6, Raw(bytes(range(256)) * 30), ttl=1, nh=253)
    error = told(rig(), whole)
    assert quote(error) == bytes(whole)[14 : 14 + 1232]
    assert error is not None and error.haslayer(ICMPv6TimeExceeded)


# 2.15.15
@pytest.mark.parametrize(("engine", "workers"), [(FakeDataplane, 1), (Dataplane, 1), (Dataplane, 2)])
def test_a_port_is_told_so_much_and_no_more(
    engine: type[Dataplane] | type[FakeDataplane], workers: int
) -> None:
    """Whichever queues the packets come by, and until its device is another."""
    frames = [Frame(bytes(to_nowhere(4 + 2 * (n % 2))), flow=n % 3) for n in range(200)]

    def hears(r: Rig) -> int:
        return len(r.send(A.port, *(replace(f, time=r.now) for f in frames)).get(A.port, []))

    with Rig(engine, World(), workers) as r:
        assert hears(r) == BURST
        assert r.engine.port_counters(A.port).icmp_limited == 200 - BURST
        assert r.engine.port_counters(A.port).drops == {"no-route": 200}
        r.step(50 * MILLISECOND - MILLISECOND)
        assert hears(r) == 5
        r.step(SECOND)
        assert hears(r) == BURST
        assert hears(r) == 1
        r.toggle(A.port)
        r.toggle(A.port)
        assert hears(r) == BURST


# 2.15.15
def test_what_nobody_can_say_has_been_told(rig: Make) -> None:
    r = rig()
    broadcast = bytes(ether(ROUTER_MAC, A.mac) / ip(A.ca(4), "10.1.1.255") / udp())
    silent = [Frame(broadcast, r.now)] * BURST
    assert A.port not in r.send(A.port, *silent, Frame(bytes(to_nowhere(4)), r.now))
    assert r.engine.port_counters(A.port).icmp_limited == 1
