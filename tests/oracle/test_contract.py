"""Rules of csrc/README.md that no golden case comes by: what core and twin must make of a frame.

The golden world has no routes by next hops, no wildcards, no offload metadata, a device behind each port and
an answer from each neighbour.
"""

from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from scapy.layers.inet import ICMP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6ND_RA, ICMPv6NDOptMTU, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP
from scapy.packet import Packet, Raw

from dataplane.binding.core import Dataplane, Frame, Gso
from dataplane.binding.stats import SubnetCounters
from dataplane.binding.tables import Address, ChangeSet, RecordRow, delete, pack_address
from dataplane.twin.reference import FakeDataplane
from tests.oracle.crafted import link_local
from tests.oracle.frames import PEER_MAC, arriving, between, ether, from_host, ip, partial, sum_of, tcp, udp
from tests.oracle.rig import Make, Rig, data, rigs
from tests.oracle.strategies import TAKES_ALL
from tests.oracle.world import (
    GATEWAY_VM,
    LOCAL,
    LOCAL_APPLIANCE,
    LOCAL_DOWN,
    NO_POLICY_PORT,
    NOBODY,
    OUTSIDE,
    ROUTER_MAC,
    SHARED,
    UNDERLAY_MAC,
    Vm,
    World,
)

UNDERLAY = 0
VM = World().vm
A, NEIGHBOUR, DOWN = VM(0, 0, LOCAL), VM(0, 0, LOCAL_APPLIANCE), VM(0, 0, LOCAL_DOWN)
GATEWAY, OTHER = VM(0, 0, GATEWAY_VM), VM(0, 1, LOCAL)
REMOTE, THIRD, NO_WAY = VM(0, 0, 20), VM(0, 0, 30), VM(0, 0, 40)
BEHIND_REMOTE = ip_address("10.9.0.1")
BLUE = frozenset(((0, 0), (0, 1)))


@pytest.fixture(params=(FakeDataplane, Dataplane), ids=("twin", "core"))
def rig(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes engines for worlds: rig(rewrite=..., ...)."""
    with rigs(request.param) as make:
        yield make


def dies(r: Rig, port: int, frame: Packet | Frame, reason: str) -> None:
    assert r.send(port, frame) == {}
    assert r.counters().drops == {reason: 1}


def passes(r: Rig, port: int, frame: Packet | Frame, to: int, expected: Packet) -> None:
    assert {p: data(frames) for p, frames in r.send(port, frame).items()} == {to: [bytes(expected)]}


# ---- from a tenant -----------------------------------------------------------------------------------------


def test_a_port_without_policy(rig: Make) -> None:
    dies(rig(), NO_POLICY_PORT, between(A, NEIGHBOUR, 4, udp()), "port-no-policy")  # 2.1.1


def test_a_router_advertisement_is_not_looked_into(rig: Make) -> None:
    ra = ICMPv6ND_RA() / ICMPv6NDOptMTU(len=0)  # 2.3.6
    to_all = ether(bytes.fromhex("333300000001"), A.mac)
    frame = to_all / IPv6(src=str(link_local(A.mac)), dst="ff02::1", hlim=255) / ra
    dies(rig(), A.port, frame, "nd-router")


def test_a_solicitation_of_23_bytes(rig: Make) -> None:
    ns = Raw(bytes(ICMPv6ND_NS(tgt="fd00:1:1::14"))[:23])
    header = IPv6(src=str(A.ca(6)), dst="ff02::1:ff00:14", hlim=255, nh=58)
    octets = bytearray(bytes(ether(bytes.fromhex("3333ff000014"), A.mac) / header / ns))
    octets[56:58] = sum_of(
        bytes(octets[22:54]) + (23).to_bytes(4, "big") + bytes((0, 0, 0, 58)) + octets[54:]
    )
    dies(rig(), A.port, Frame(bytes(octets)), "nd-malformed")  # 2.3.7


@pytest.mark.parametrize("family", (4, 6))
def test_a_wildcard_catches_what_has_no_record_on_link(rig: Make, family: int) -> None:
    nobody = ip_address(str(GATEWAY.ca(family)).replace("13", str(NOBODY)))
    sent = ether(ROUTER_MAC, OTHER.mac) / ip(OTHER.ca(family), nobody, ttl=9) / udp()
    got = ether(GATEWAY.mac, ROUTER_MAC) / ip(OTHER.ca(family), nobody, ttl=8) / udp()
    passes(rig(wildcard=GATEWAY_VM), OTHER.port, sent, GATEWAY.port, got)  # 2.6.5


def test_a_next_hop_without_a_record(rig: Make) -> None:
    r = rig()
    gone = [
        row
        for row in r.world.rows()
        if isinstance(row, RecordRow) and row.ca == pack_address(REMOTE.ca(4)) and row.vsid == REMOTE.vsid
    ]
    r.engine.apply(ChangeSet(2, (delete(gone),)).encode())
    frame = ether(ROUTER_MAC, A.mac) / ip(A.ca(4), BEHIND_REMOTE) / udp()
    (told,) = data(r.send(A.port, frame)[A.port])
    assert (told[34:36], r.counters().drops) == (b"\x03\x01", {"no-record": 1})  # 2.6.8, 2.15.3


def test_no_shared_pa_of_the_family(rig: Make) -> None:
    r = rig(pa_families=frozenset((4,)), outer={2: 6, 3: 4, 4: 4})
    dies(r, A.port, between(A, REMOTE, 4, udp()), "no-shared-pa")  # 2.11.3


def test_a_rewrite_record_by_the_family_that_both_hosts_have(rig: Make) -> None:
    r = rig(rewrite=frozenset(((0, 1),)), pa_families=frozenset((6,)))
    remote = VM(0, 1, 20)
    (frame,) = data(r.send(A.port, between(A, remote, 4, udp()))[UNDERLAY])
    assert frame[12:14] == b"\x86\xdd" and frame[38:54] == SHARED[2, 6].packed  # 2.11.2


def test_a_partial_checksum_is_completed_before_nvgre(rig: Make) -> None:
    r = rig(underlay_offloads=TAKES_ALL)
    whole = between(A, REMOTE, 4, udp(b"data"))
    (frame,) = r.send(A.port, partial(whole, 34, 6))[UNDERLAY]
    assert not frame.csum_partial and frame.data[42:] == bytes(whole)  # 2.11.6


def test_no_provider_route(rig: Make) -> None:
    dies(rig(), A.port, between(A, NO_WAY, 4, udp()), "no-provider-route")  # 2.12.2


def test_without_an_underlay(rig: Make) -> None:
    r = rig()
    r.toggle(UNDERLAY)
    dies(r, A.port, between(A, REMOTE, 4, udp()), "port-down")  # 2.12.1


def test_without_a_shared_pa_the_lowest_rewrite_pa_asks(rig: Make) -> None:
    r = rig(resolved=False, rewrite=BLUE, pa_families=frozenset((6,)))
    (request,) = data(r.send(A.port, between(A, REMOTE, 4, udp()))[UNDERLAY])
    lowest = min(vm.rewrite_pa(4) for vm in r.world.vms() if vm.port and (vm.network, vm.subnet) in BLUE)
    assert request[28:32] == lowest.packed  # 2.12.10


# ---- offload metadata --------------------------------------------------------------------------------------


def described(whole: Packet, start: int, offset: int, gso: Gso = Gso.NONE, size: int = 0) -> Frame:
    """The frame as it is, with metadata that may lie."""
    return Frame(
        bytes(whole), csum_partial=True, csum_start=start, csum_offset=offset, gso=gso, gso_size=size
    )


TCP4, UDP4 = between(A, NEIGHBOUR, 4, tcp(bytes(200))), between(A, NEIGHBOUR, 4, udp(bytes(200)))
SHORT4 = between(A, NEIGHBOUR, 4, UDP(sport=40000, dport=53, len=207) / bytes(200))
ASKS = ether(b"\xff" * 6, A.mac) / ARP(op=1, hwsrc=A.mac.hex(":"), psrc="10.1.1.10", pdst="10.1.1.20")
BAD_OFFLOADS = {
    "gso with a complete checksum": Frame(bytes(TCP4), gso=Gso.TCP4, gso_size=100),  # 1.6.1
    "gso of a fragment": partial(between(A, NEIGHBOUR, 4, tcp(bytes(12)), flags="MF"), 34, 16, Gso.TCP4, 100),
    "gso of the other family": partial(TCP4, 34, 16, Gso.TCP6, 100),  # 1.6.2
    "gso of UDP as TCP's": partial(UDP4, 34, 6, Gso.TCP4, 100),
    "gso of TCP as UDP's": partial(TCP4, 34, 16, Gso.UDP, 100),
    "gso of UDP with another length": described(SHORT4, 34, 6, Gso.UDP, 100),
    "gso of UDP with a complete checksum": Frame(bytes(UDP4), gso=Gso.UDP, gso_size=100),
    "gso of UDP with TCP's field": described(UDP4, 34, 16, Gso.UDP, 100),
    "gso of UDP from elsewhere on": described(UDP4, 38, 6, Gso.UDP, 100),
    "gso of a UDP fragment": partial(
        between(A, NEIGHBOUR, 4, udp(bytes(16)), flags="MF"), 34, 6, Gso.UDP, 100
    ),
    "gso of UDP without a size": partial(UDP4, 34, 6, Gso.UDP, 0),
    "gso of UDP of very many": partial(between(A, NEIGHBOUR, 4, udp(bytes(1366))), 34, 6, Gso.UDP, 1),
    "gso without a size": partial(TCP4, 34, 16, Gso.TCP4, 0),  # 1.6.3
    "ARP": described(ASKS, 14, 16),  # 1.6.5
    "a start before l4": described(TCP4, 33, 17),  # 1.6.6
    "a field beyond the packet": described(UDP4, 34, 207),
}


@pytest.mark.parametrize("frame", BAD_OFFLOADS.values(), ids=BAD_OFFLOADS)
def test_metadata_that_does_not_fit(rig: Make, frame: Frame) -> None:
    dies(rig(offloads=TAKES_ALL), A.port, frame, "bad-offload")  # 2.1.5


def test_own_checksums_stay_as_they_are(rig: Make) -> None:
    for frame in (
        partial(TCP4, 34, 16),
        partial(UDP4, 34, 6),
        partial(TCP4, 34, 16, Gso.TCP4, 100),
        partial(UDP4, 34, 6, Gso.UDP, 100),
    ):
        assert rig(offloads=TAKES_ALL).send(A.port, frame) == {NEIGHBOUR.port: [frame]}  # 1.6.4


@pytest.mark.parametrize("family", (4, 6))
def test_a_super_packet_of_very_many_segments_goes_on_in_parts(rig: Make, family: int) -> None:
    payload, start, gso = bytes(range(200)) * 6, 34 if family == 4 else 54, Gso(family // 2 - 1)

    def frame(at: int, end: int, flags: str) -> Frame:
        numbered = {"id": 0xFFC0 + at // 8 & 0xFFFF} if family == 4 else {}
        packet = between(A, NEIGHBOUR, family, tcp(payload[at:end], seq=1000 + at, flags=flags), **numbered)
        return partial(packet, start, 16, gso, 8)

    parts = [frame(0, 512, "AC"), frame(512, 1024, "A"), frame(1024, 1200, "FPA")]
    r = rig(offloads=TAKES_ALL)
    assert r.send(A.port, frame(0, 1200, "FPAC")) == {NEIGHBOUR.port: parts}  # 1.6.8, 1.6.9
    assert (r.counters().received, r.counters().originated) == (1, 2)
    whole = frame(0, 512, "FPAC")
    assert r.send(A.port, whole) == {NEIGHBOUR.port: [whole]}


@pytest.mark.parametrize("family", (4, 6))
def test_so_does_one_of_very_many_datagrams(rig: Make, family: int) -> None:
    payload, start = bytes(range(200)) * 6, 34 if family == 4 else 54

    def frame(at: int, end: int) -> Frame:
        numbered = {"id": 0xFFC0 + at // 8 & 0xFFFF} if family == 4 else {}
        packet = between(A, NEIGHBOUR, family, udp(payload[at:end]), **numbered)
        return partial(packet, start, 6, Gso.UDP, 8)

    parts = [frame(0, 512), frame(512, 1024), frame(1024, 1200)]
    assert rig(offloads=TAKES_ALL).send(A.port, frame(0, 1200)) == {NEIGHBOUR.port: parts}  # 1.6.8, 1.6.9


def test_checksums_of_others_are_completed(rig: Make) -> None:
    """UDP inside of UDP, as a tunnel of the VM's own."""
    inner = ip("192.0.2.1", "192.0.2.2") / UDP(sport=1, dport=2) / b"inner"
    frame = partial(between(A, NEIGHBOUR, 4, UDP(sport=1, dport=2, chksum=0) / inner), 62, 6)
    at = 42 + 12
    pseudo = frame.data[at : at + 8] + (13).to_bytes(4, "big") + bytes((0, 0, 0, 17))
    octets = bytearray(frame.data)
    octets[68:70] = (0xFFFF - int.from_bytes(sum_of(pseudo), "big")).to_bytes(2, "big")
    sent = Frame(bytes(octets), csum_partial=True, csum_start=62, csum_offset=6)
    (got,) = rig(offloads=TAKES_ALL).send(A.port, sent)[NEIGHBOUR.port]
    assert not got.csum_partial and got.data[42:] == bytes(inner)  # 1.6.7


def test_metadata_that_does_not_fit_on_the_underlay(rig: Make) -> None:
    ping = ether(UNDERLAY_MAC, PEER_MAC) / ip(SHARED[2, 4], SHARED[1, 4]) / ICMP()
    dies(rig(), UNDERLAY, described(ping, 14, 2), "bad-offload")  # 3.7.3
    inner = arriving(REMOTE, A, 4, tcp(b"x"))
    dies(rig(), UNDERLAY, described(from_host(2, A.vsid, inner), 34, 8), "bad-offload")  # 3.8.15
    pas = REMOTE.rewrite_pa(4), A.rewrite_pa(4)
    rewritten = ether(UNDERLAY_MAC, PEER_MAC) / ip(*pas) / TCP()
    dies(rig(rewrite=BLUE), UNDERLAY, described(rewritten, 14, 10), "bad-offload")  # 3.5.5


# ---- from the underlay -------------------------------------------------------------------------------------


def test_a_neighbour_that_solicits_is_learned(rig: Make) -> None:
    r = rig(resolved=False, outer={2: 6, 3: 6, 4: 6})
    solicited = ICMPv6ND_NS(tgt=str(SHARED[1, 6])) / ICMPv6NDOptSrcLLAddr(lladdr=PEER_MAC.hex(":"))
    asks = ether(UNDERLAY_MAC, PEER_MAC) / IPv6(src=str(SHARED[2, 6]), dst=str(SHARED[1, 6]), hlim=255)
    assert len(r.send(UNDERLAY, asks / solicited)[UNDERLAY]) == 1
    (frame,) = data(r.send(A.port, between(A, REMOTE, 4, udp()))[UNDERLAY])  # 3.3.4
    assert frame[:6] == PEER_MAC and r.counters().held == 0


def test_an_ecn_field_that_stays_leaves_the_checksum(rig: Make) -> None:
    """0xffff does not become 0, which is the same number."""
    inner = arriving(REMOTE, A, 4, udp(), tos=1, chksum=0xFFFF)
    passes(rig(), UNDERLAY, from_host(2, A.vsid, inner, tos=2), A.port, inner)  # 3.13.4


def test_vsid_0_behind_another(rig: Make) -> None:
    """In one batch, so that the VSID is looked for; the source is behind a wildcard, as the destination."""
    inner = ether(REMOTE.mac, REMOTE.mac) / ip(OUTSIDE[4], "198.51.100.9") / udp()
    for wildcard in (GATEWAY_VM, 20):
        r = rig(wildcard=wildcard)
        r.send(UNDERLAY, from_host(2, A.vsid, arriving(REMOTE, A, 4, udp())), from_host(2, 0, inner))
        assert r.counters().drops == {"vsid-reserved": 1}  # 3.8.10


def test_a_port_without_a_device(rig: Make) -> None:
    popped = from_host(2, DOWN.vsid, arriving(REMOTE, DOWN, 4, udp()))
    dies(rig(), UNDERLAY, popped, "port-down")  # 3.13.5
    rewritten = ether(UNDERLAY_MAC, PEER_MAC) / ip(REMOTE.rewrite_pa(4), DOWN.rewrite_pa(4)) / udp()
    dies(rig(rewrite=BLUE), UNDERLAY, rewritten, "port-down")  # 3.5.8


@pytest.mark.parametrize(("mtu", "reasons"), [(70, {}), (69, {"too-big": 1})])
def test_an_answer_through_the_tunnel_that_is_too_big(rig: Make, mtu: int, reasons: dict[str, int]) -> None:
    """As of any packet, its outer IP length is at most the underlay's MTU."""
    asks = ARP(op=1, hwsrc=REMOTE.mac.hex(":"), psrc=str(REMOTE.ca(4)), pdst=str(A.ca(4)))
    r = rig(underlay_mtu=mtu)
    left = r.send(UNDERLAY, from_host(2, A.vsid, ether(b"\xff" * 6, REMOTE.mac) / asks))
    assert (len(left), r.counters().drops) == (not reasons, reasons)  # 2.11.4, 3.10.4


def inside(source: Address, mac: bytes, to: Vm = A) -> Packet:
    return ether(to.mac, mac) / ip(source, to.ca(4)) / udp()


def test_a_source_behind_a_next_hop(rig: Make) -> None:
    """The next hop's host may send it, from the next hop's MAC, or the router's into another subnet."""
    good, routed = inside(BEHIND_REMOTE, REMOTE.mac), inside(BEHIND_REMOTE, ROUTER_MAC, OTHER)
    passes(rig(), UNDERLAY, from_host(2, A.vsid, good), A.port, good)
    passes(rig(), UNDERLAY, from_host(2, OTHER.vsid, routed), OTHER.port, routed)
    dies(rig(), UNDERLAY, from_host(3, A.vsid, good), "inner-source")  # 3.9.9
    for frame, to in (
        (inside(BEHIND_REMOTE, ROUTER_MAC), A),
        (inside(BEHIND_REMOTE, REMOTE.mac, OTHER), OTHER),
    ):
        dies(rig(), UNDERLAY, from_host(2, to.vsid, frame), "inner-src-mac")  # 3.9.10


def test_a_source_behind_a_wildcard(rig: Make) -> None:
    good = inside(OUTSIDE[4], REMOTE.mac)
    passes(rig(wildcard=20), UNDERLAY, from_host(2, A.vsid, good), A.port, good)
    dies(rig(wildcard=20), UNDERLAY, from_host(3, A.vsid, good), "inner-source")  # 3.9.11
    dies(
        rig(wildcard=20), UNDERLAY, from_host(2, A.vsid, inside(OUTSIDE[4], THIRD.mac)), "inner-src-mac"
    )  # 3.9.12


# ---- counters of a subnet ----------------------------------------------------------------------------------


def test_what_counts_in_which_subnet(rig: Make) -> None:
    r = rig(offloads=TAKES_ALL)
    routed, refused = between(A, OTHER, 4, udp()), between(A, NEIGHBOUR, 4, udp())
    refused["IP"].src = "192.0.2.1"
    whole = partial(TCP4, 34, 16, Gso.TCP4, 100)
    r.send(A.port, routed, refused, ASKS, whole)
    by_vsid = {counters.vsid: counters for counters in r.engine.subnet_counters()}
    sizes = len(routed) + len(ASKS), len(whole.data)
    assert by_vsid[A.vsid] == SubnetCounters(A.vsid, 3, sum(sizes), 1, len(whole.data))  # 4.4.1, 4.4.3
    assert by_vsid[OTHER.vsid] == SubnetCounters(OTHER.vsid, 0, 0, 1, len(routed))  # 4.4.2
