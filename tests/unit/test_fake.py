"""The twin, and the core, against frames that scapy builds: every way a packet can take, byte for byte."""

from collections.abc import Callable, Iterator
from ipaddress import ip_address

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Dot1Q
from scapy.layers.sctp import SCTP, SCTPChunkData
from scapy.packet import Packet, Raw

from dataplane.core import Dataplane, Frame, Gso, NeighbourState, Offload
from dataplane.fake import FakeDataplane
from dataplane.fake_neighbours import fresh_time
from dataplane.fake_wire import crc32c, updated
from dataplane.tables import Address
from tests.oracle.frames import PEER_MAC, arriving, between, ether, from_host, gre, ip, outer, tcp, udp
from tests.oracle.rig import SECOND, Make, data, rigs
from tests.oracle.world import (
    GATEWAY_VM,
    LOCAL,
    LOCAL_APPLIANCE,
    LOCAL_DOWN,
    NEXT_HOPS,
    OUTSIDE,
    ROUTER_MAC,
    SHARED,
    UNDERLAY_MAC,
    Vm,
    World,
    gateway,
)

UNDERLAY = 0
BROADCAST = b"\xff" * 6
FAMILIES = pytest.mark.parametrize("family", (4, 6))
BOTH_REWRITTEN = frozenset(((0, 0), (0, 1)))

VM = World().vm
LOCAL_VM, NEIGHBOUR, OTHER_SUBNET = VM(0, 0, LOCAL), VM(0, 0, LOCAL_APPLIANCE), VM(0, 1, LOCAL)
REMOTE, REMOTE_OTHER_SUBNET, BEHIND_ROUTER = VM(0, 0, 20), VM(0, 1, 20), VM(0, 0, 30)


@pytest.fixture(params=(FakeDataplane, Dataplane), ids=("twin", "core"))
def rig(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes engines for worlds: rig(rewrite=..., ...)."""
    with rigs(request.param) as make:
        yield make


# ---- NVGRE out -------------------------------------------------------------------------


def flowid(packet: Packet) -> int:
    """RFC 7637 section 3.2, CRC32c by table."""
    network = packet[IP] if IP in packet else packet[IPv6]
    addresses = bytes(network)[12:20] if IP in packet else bytes(network)[8:40]
    proto = network.proto if IP in packet else network.nh
    l4 = next((packet[kind] for kind in (TCP, UDP) if kind in packet), None)
    crc = 0
    for byte in addresses + bytes((proto, 0, 0, 0)) + (bytes(l4)[:4] if l4 else bytes(4)):
        crc = CRC_TABLE[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= crc >> 16
    return (crc ^ crc >> 8) & 255


def crc_of_byte(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value


CRC_TABLE = [crc_of_byte(i) for i in range(256)]


def test_crc32c_is_castagnoli() -> None:
    assert crc32c(b"123456789", 0xFFFFFFFF) ^ 0xFFFFFFFF == 0xE3069283


def carried(inner: Packet, vm: Vm, family: int, **fields: int) -> bytes:
    """The NVGRE frame with `inner` for a VM's host, by PAs of a family."""
    remote = SHARED[vm.host, family]
    router = {4: "192.168.77.1", 6: "fd77::fe"}[family]
    hop = NEXT_HOPS[remote] if vm.host == 2 else NEXT_HOPS[ip_address(router)]
    tunnel = gre(vm.vsid, inner, flowid(inner))
    return bytes(outer(SHARED[1, family], remote, tunnel, macs=(hop, UNDERLAY_MAC), **fields))


@FAMILIES
@pytest.mark.parametrize("pa_family", (4, 6))
def test_push_in_all_family_pairs(rig: Make, family: int, pa_family: int) -> None:
    r = rig(outer={2: pa_family, 3: pa_family, 4: 4})
    inner = between(LOCAL_VM, REMOTE, family, tcp(b"payload"), tos=0xB9)
    assert data(r.send(LOCAL_VM.port, inner)[UNDERLAY]) == [carried(inner, REMOTE, pa_family, tos=0xB9)]
    assert r.counters().drops == {}


@FAMILIES
def test_push_across_subnets_is_routed(rig: Make, family: int) -> None:
    r = rig()
    sent = between(LOCAL_VM, REMOTE_OTHER_SUBNET, family, udp(b"x"), ttl=9)
    routed = arriving(LOCAL_VM, REMOTE_OTHER_SUBNET, family, udp(b"x"), ttl=8)
    assert data(r.send(LOCAL_VM.port, sent)[UNDERLAY]) == [carried(routed, REMOTE_OTHER_SUBNET, 4)]


def test_push_behind_a_router(rig: Make) -> None:
    inner = between(LOCAL_VM, BEHIND_ROUTER, 4, udp())
    assert data(rig().send(LOCAL_VM.port, inner)[UNDERLAY]) == [carried(inner, BEHIND_ROUTER, 4)]


def test_push_strips_the_tag_and_keeps_padding(rig: Make) -> None:
    inner = between(LOCAL_VM, REMOTE, 4, udp()) / Raw(bytes(30))
    inner[IP].len, inner[UDP].len = 28, 8
    tagged = ether(REMOTE.mac, LOCAL_VM.mac) / Dot1Q(vlan=5, prio=3) / inner[IP]
    assert data(rig().send(LOCAL_VM.port, tagged)[UNDERLAY]) == [carried(inner, REMOTE, 4)]


# 2.13.1
def test_flowid_switched_off(rig: Make) -> None:
    (frame,) = rig(flowid=False).send(LOCAL_VM.port, between(LOCAL_VM, REMOTE, 4, tcp()))[UNDERLAY]
    assert frame.data[38:42] == bytes.fromhex(f"{REMOTE.vsid:06x}00")


def test_first_and_later_fragments_share_a_flowid(rig: Make) -> None:
    r = rig()
    first = between(LOCAL_VM, REMOTE, 4, tcp(bytes(12)), flags="MF", id=7)
    later = between(LOCAL_VM, REMOTE, 4, Raw(b"rest"), frag=4, id=7, proto=6)
    frames = data(r.send(LOCAL_VM.port, first, later)[UNDERLAY])
    assert frames[0][41] == frames[1][41] == flowid(between(LOCAL_VM, REMOTE, 4, Raw(), proto=6))


# 2.6.2, 2.6.7
def test_routes_lead_to_next_hop_and_wildcard(rig: Make) -> None:
    r = rig(wildcard=20)
    behind = ether(ROUTER_MAC, LOCAL_VM.mac) / ip(LOCAL_VM.ca(4), "10.9.1.1", ttl=3) / udp()
    outside = ether(ROUTER_MAC, LOCAL_VM.mac) / ip(LOCAL_VM.ca(4), OUTSIDE[4], ttl=3) / udp()
    as_received = ether(REMOTE.mac, ROUTER_MAC) / ip(LOCAL_VM.ca(4), "10.9.1.1", ttl=2) / udp()
    outside_received = ether(REMOTE.mac, ROUTER_MAC) / ip(LOCAL_VM.ca(4), OUTSIDE[4], ttl=2) / udp()
    expected = [carried(as_received, REMOTE, 4), carried(outside_received, REMOTE, 4)]
    assert data(r.send(LOCAL_VM.port, behind, outside)[UNDERLAY]) == expected


def test_the_longest_prefix_wins(rig: Make) -> None:
    r = rig(default_route=True)
    expected = []
    for destination, to in ((REMOTE_OTHER_SUBNET.ca(4), REMOTE_OTHER_SUBNET), (OUTSIDE[4], BEHIND_ROUTER)):
        sent = ether(ROUTER_MAC, LOCAL_VM.mac) / ip(LOCAL_VM.ca(4), destination, ttl=9) / udp()
        routed = ether(to.mac, ROUTER_MAC) / ip(LOCAL_VM.ca(4), destination, ttl=8) / udp()
        r.inject(LOCAL_VM.port, sent)
        expected.append(carried(routed, to, 4))
    assert data(r.step()[UNDERLAY]) == expected


def test_too_big_counts_the_outer_header(rig: Make) -> None:
    r = rig(underlay_mtu=1542)
    fits = between(LOCAL_VM, REMOTE, 4, udp(bytes(1500 - 28)))
    over = between(LOCAL_VM, REMOTE, 4, udp(bytes(1501 - 28)))
    assert len(r.send(LOCAL_VM.port, fits, over)[UNDERLAY]) == 1
    assert r.counters().drops == {"too-big": 1}


# ---- local -------------------------------------------------------------------------


@FAMILIES
def test_same_subnet_stays_as_it_is(rig: Make, family: int) -> None:
    frame = between(LOCAL_VM, NEIGHBOUR, family, tcp(b"x"), ttl=1)
    assert data(rig().send(LOCAL_VM.port, frame)[NEIGHBOUR.port]) == [bytes(frame)]


@FAMILIES
def test_other_subnet_is_routed(rig: Make, family: int) -> None:
    r = rig()
    frames = [between(LOCAL_VM, OTHER_SUBNET, family, tcp(b"x"), ttl=ttl) for ttl in (2, 1)]
    expected = bytes(arriving(LOCAL_VM, OTHER_SUBNET, family, tcp(b"x"), ttl=1))
    assert data(r.send(LOCAL_VM.port, *frames)[OTHER_SUBNET.port]) == [expected]
    assert r.counters().drops == {"ttl-exceeded": 1}


# 2.9.2
def test_own_port_and_missing_device(rig: Make) -> None:
    r = rig()
    down = VM(0, 0, LOCAL_DOWN)
    r.send(LOCAL_VM.port, between(LOCAL_VM, LOCAL_VM, 4, udp()), between(LOCAL_VM, down, 4, udp()))
    assert r.counters().drops == {"hairpin": 1, "port-down": 1}


# ---- rewrite -------------------------------------------------------------------------

PAYLOADS = {
    "tcp": tcp(b"odd"),
    "udp": udp(b"data"),
    "sctp": SCTP(sport=1, dport=2) / SCTPChunkData(data=b"abcd"),
    "other": Raw(b"anything"),
}
ECHO = {4: ICMP(id=1, seq=2) / b"ping", 6: ICMPv6EchoRequest(id=1, seq=2, data=b"ping")}


@FAMILIES
@pytest.mark.parametrize("what", [*PAYLOADS, "echo"])
@pytest.mark.parametrize("to", (REMOTE, REMOTE_OTHER_SUBNET), ids=("bridged", "routed"))
def test_rewrite_out(rig: Make, family: int, what: str, to: Vm) -> None:
    payload = ECHO[family] if what == "echo" else PAYLOADS[what]
    more = {"proto" if family == 4 else "nh": 200} if what == "other" else {}
    sent = between(LOCAL_VM, to, family, payload, ttl=64, **more)
    ttl = 64 - (to is REMOTE_OTHER_SUBNET)
    pas = LOCAL_VM.rewrite_pa(family), to.rewrite_pa(family)
    expected = ether(NEXT_HOPS[SHARED[2, 4]], UNDERLAY_MAC) / ip(*pas, ttl=ttl, **more) / payload
    r = rig(rewrite=BOTH_REWRITTEN)
    assert data(r.send(LOCAL_VM.port, sent)[UNDERLAY]) == [bytes(expected)]


@FAMILIES
@pytest.mark.parametrize("what", [*PAYLOADS, "echo"])
def test_rewrite_in(rig: Make, family: int, what: str) -> None:
    payload = ECHO[family] if what == "echo" else PAYLOADS[what]
    more = {"proto" if family == 4 else "nh": 200} if what == "other" else {}
    r = rig(rewrite=BOTH_REWRITTEN)
    for source in (REMOTE, REMOTE_OTHER_SUBNET):
        pas = source.rewrite_pa(family), LOCAL_VM.rewrite_pa(family)
        wire = ether(UNDERLAY_MAC, PEER_MAC) / ip(*pas, ttl=5, **more) / payload
        expected = arriving(source, LOCAL_VM, family, payload, ttl=5, **more)
        assert data(r.send(UNDERLAY, wire)[LOCAL_VM.port]) == [bytes(expected)]


@FAMILIES
@pytest.mark.parametrize("kind", (TCP, UDP))
def test_a_wrong_checksum_stays_wrong_by_the_same_difference(rig: Make, family: int, kind: type) -> None:
    r = rig(rewrite=BOTH_REWRITTEN)
    right = between(LOCAL_VM, REMOTE, family, kind(sport=1, dport=2) / b"payload")
    field = {TCP: 16, UDP: 6}[kind] + (34 if family == 4 else 54)
    (out,) = data(r.send(LOCAL_VM.port, right)[UNDERLAY])
    for off_by in (1, 0x8000, 0xFFFE):
        wrong = bytearray(bytes(right))
        put = (int.from_bytes(wrong[field : field + 2], "big") + off_by) % 0xFFFF or 0xFFFF
        wrong[field : field + 2] = put.to_bytes(2, "big")
        (got,) = data(r.send(LOCAL_VM.port, bytes(wrong))[UNDERLAY])
        difference = int.from_bytes(got[field : field + 2], "big") - int.from_bytes(
            out[field : field + 2], "big"
        )
        assert difference % 0xFFFF == off_by % 0xFFFF
        assert got[:field] + got[field + 2 :] == out[:field] + out[field + 2 :]


def test_udp_without_checksum_stays_without(rig: Make) -> None:
    r = rig(rewrite=BOTH_REWRITTEN)
    sent = between(LOCAL_VM, REMOTE, 4, UDP(sport=1, dport=2, chksum=0) / b"x")
    (out,) = data(r.send(LOCAL_VM.port, sent)[UNDERLAY])
    assert out[40:42] == b"\0\0"


# 4.1.7
def test_a_udp_sum_that_comes_to_zero_is_sent_as_ones(rig: Make) -> None:
    r = rig(rewrite=BOTH_REWRITTEN)
    pas = [address.packed for address in (LOCAL_VM.rewrite_pa(4), REMOTE.rewrite_pa(4))]
    without = between(LOCAL_VM, REMOTE, 4, UDP(sport=1, dport=2) / bytes(2))
    (out,) = data(r.send(LOCAL_VM.port, without)[UNDERLAY])
    filler = out[40:42]
    assert pas[0] in out and pas[1] in out
    (out,) = data(
        r.send(LOCAL_VM.port, between(LOCAL_VM, REMOTE, 4, UDP(sport=1, dport=2) / filler))[UNDERLAY]
    )
    assert out[40:42] == b"\xff\xff"


def test_rfc_1624_example() -> None:
    """Section 4: the header whose checksum equation 2 of RFC 1141 gets wrong."""
    assert updated(0xDD2F, bytes.fromhex("5555"), bytes.fromhex("3285")) == 0x0000


# 2.11.2
def test_rewrite_falls_back_to_nvgre_when_one_side_has_no_pa(rig: Make) -> None:
    r = rig(rewrite=frozenset(((0, 1),)))
    sent = between(LOCAL_VM, REMOTE_OTHER_SUBNET, 4, udp(), ttl=9)
    routed = arriving(LOCAL_VM, REMOTE_OTHER_SUBNET, 4, udp(), ttl=8)
    assert data(r.send(LOCAL_VM.port, sent)[UNDERLAY]) == [carried(routed, REMOTE_OTHER_SUBNET, 4)]


# ---- from the underlay -------------------------------------------------------------------------


@FAMILIES
@pytest.mark.parametrize("pa_family", (4, 6))
@pytest.mark.parametrize("source", (REMOTE, REMOTE_OTHER_SUBNET), ids=("same-subnet", "other-subnet"))
def test_pop(rig: Make, family: int, pa_family: int, source: Vm) -> None:
    inner = arriving(source, LOCAL_VM, family, tcp(b"payload"), ttl=1)
    r = rig()
    assert data(r.send(UNDERLAY, from_host(2, LOCAL_VM.vsid, inner, pa_family))[LOCAL_VM.port]) == [
        bytes(inner)
    ]


RFC_6040 = {
    # inner: outer not-ECT, ECT(1), ECT(0), CE (figure 4; the codepoints in the order of their numbers)
    0: (0, 0, 0, None),
    1: (1, 1, 1, 3),
    2: (2, 1, 2, 3),
    3: (3, 3, 3, 3),
}


@FAMILIES
@pytest.mark.parametrize("inner", RFC_6040)
@pytest.mark.parametrize("outer_ecn", range(4))
def test_ecn(rig: Make, family: int, inner: int, outer_ecn: int) -> None:
    r = rig()
    expected = RFC_6040[inner][outer_ecn]
    frame = arriving(REMOTE, LOCAL_VM, family, udp(b"x"), tos=0xB8 | inner)
    left = r.send(UNDERLAY, from_host(2, LOCAL_VM.vsid, frame, tos=outer_ecn))
    if expected is None:
        assert left == {} and r.counters().drops == {"ecn": 1}
    else:
        assert data(left[LOCAL_VM.port]) == [
            bytes(arriving(REMOTE, LOCAL_VM, family, udp(b"x"), tos=0xB8 | expected))
        ]


# 3.12.4, 3.12.5
def test_pop_to_wildcard_and_route(rig: Make) -> None:
    r = rig(wildcard=GATEWAY_VM)
    local_gateway = VM(0, 0, GATEWAY_VM)
    outside = ether(local_gateway.mac, REMOTE.mac) / ip(REMOTE.ca(4), OUTSIDE[4]) / udp()
    routed = ether(NEIGHBOUR.mac, REMOTE.mac) / ip(REMOTE.ca(4), "10.8.0.9") / udp()
    left = r.send(UNDERLAY, *(from_host(2, REMOTE.vsid, frame) for frame in (outside, routed)))
    assert {port: data(frames) for port, frames in left.items()} == {
        local_gateway.port: [bytes(outside)],
        NEIGHBOUR.port: [bytes(routed)],
    }


# ---- ARP, ND, echo -------------------------------------------------------------------------


def arp(op: int, vm: Vm, target: Address | str, sender: Address | str | None = None) -> Packet:
    sender = vm.ca(4) if sender is None else sender
    return ether(BROADCAST, vm.mac) / ARP(op=op, hwsrc=vm.mac.hex(":"), psrc=str(sender), pdst=str(target))


@pytest.mark.parametrize(
    ("target", "mac"),
    ((NEIGHBOUR.ca(4), NEIGHBOUR.mac), (REMOTE.ca(4), REMOTE.mac), (gateway(0, 4), ROUTER_MAC)),
)
@pytest.mark.parametrize("sender", (None, "0.0.0.0"))
def test_arp_is_answered(rig: Make, target: Address, mac: bytes, sender: str | None) -> None:
    r = rig()
    (reply,) = data(r.send(LOCAL_VM.port, arp(1, LOCAL_VM, target, sender))[LOCAL_VM.port])
    asker = {"hwdst": LOCAL_VM.mac.hex(":"), "pdst": sender or str(LOCAL_VM.ca(4))}
    assert reply == bytes(ether(LOCAL_VM.mac, mac) / ARP(op=2, hwsrc=mac.hex(":"), psrc=str(target), **asker))
    assert (r.counters().consumed, r.counters().originated, r.counters().sent) == (1, 1, 1)


def test_arp_silence(rig: Make) -> None:
    r = rig()
    own = str(LOCAL_VM.ca(4))
    probe, gratuitous, reply = (
        arp(1, LOCAL_VM, own, "0.0.0.0"),
        arp(1, LOCAL_VM, own),
        arp(2, LOCAL_VM, "10.1.1.11"),
    )
    assert r.send(LOCAL_VM.port, probe, gratuitous, reply) == {}
    assert r.counters().consumed == 3


def solicitation(vm: Vm, source: Address | str, target: Address | str) -> Packet:
    option = ICMPv6NDOptSrcLLAddr(lladdr=vm.mac.hex(":"))
    message = ICMPv6ND_NS(tgt=str(target)) / (option if str(source) != "::" else b"")
    return ether(b"\x33\x33\xff\x00\x00\x01", vm.mac) / IPv6(src=str(source), dst="ff02::1:ff00:1") / message


def link_local(vm: Vm) -> str:
    mac = vm.mac
    return f"fe80::{mac[0] ^ 2:x}{mac[1]:02x}:{mac[2]:x}ff:fe{mac[3]:02x}:{mac[4]:x}{mac[5]:02x}"


@pytest.mark.parametrize(
    ("target", "mac", "router"),
    (
        (NEIGHBOUR.ca(6), NEIGHBOUR.mac, 0),
        (REMOTE.ca(6), REMOTE.mac, 0),
        (gateway(0, 6), ROUTER_MAC, 1),
        ("fe80::1", ROUTER_MAC, 1),
    ),
)
@pytest.mark.parametrize("source", (LOCAL_VM.ca(6), link_local(LOCAL_VM), "::"))
def test_nd_is_answered(rig: Make, target: Address, mac: bytes, router: int, source: Address | str) -> None:
    (reply,) = data(rig().send(LOCAL_VM.port, solicitation(LOCAL_VM, source, target))[LOCAL_VM.port])
    asked = str(source) != "::"
    to = (LOCAL_VM.mac, str(source)) if asked else (bytes.fromhex("333300000001"), "ff02::1")
    message = ICMPv6ND_NA(tgt=str(target), R=router, S=int(asked), O=1) / ICMPv6NDOptDstLLAddr(
        lladdr=mac.hex(":")
    )
    assert reply == bytes(ether(to[0], mac) / IPv6(src=str(target), dst=to[1], hlim=255) / message)


@FAMILIES
def test_the_gateway_answers_pings(rig: Make, family: int) -> None:
    sent = ether(ROUTER_MAC, LOCAL_VM.mac) / ip(LOCAL_VM.ca(family), gateway(1, family), ttl=1) / ECHO[family]
    reply = ICMP(type=0, id=1, seq=2) / b"ping" if family == 4 else ICMPv6EchoReply(id=1, seq=2, data=b"ping")
    expected = ether(LOCAL_VM.mac, ROUTER_MAC) / ip(gateway(1, family), LOCAL_VM.ca(family), ttl=64) / reply
    assert data(rig().send(LOCAL_VM.port, sent)[LOCAL_VM.port]) == [bytes(expected)]


@FAMILIES
def test_a_pa_answers_pings(rig: Make, family: int) -> None:
    stranger = ip_address("192.168.77.200" if family == 4 else "fd77::200")
    sent = ether(UNDERLAY_MAC, PEER_MAC) / ip(stranger, SHARED[1, family], ttl=1) / ECHO[family]
    reply = ICMP(type=0, id=1, seq=2) / b"ping" if family == 4 else ICMPv6EchoReply(id=1, seq=2, data=b"ping")
    expected = ether(PEER_MAC, UNDERLAY_MAC) / ip(SHARED[1, family], stranger, ttl=64) / reply
    assert data(rig().send(UNDERLAY, sent)[UNDERLAY]) == [bytes(expected)]


def test_a_flooded_request_is_answered_through_the_tunnel(rig: Make) -> None:
    asked = arp(1, REMOTE, LOCAL_VM.ca(4))
    answer = ether(REMOTE.mac, LOCAL_VM.mac) / ARP(
        op=2,
        hwsrc=LOCAL_VM.mac.hex(":"),
        psrc=str(LOCAL_VM.ca(4)),
        hwdst=REMOTE.mac.hex(":"),
        pdst=str(REMOTE.ca(4)),
    )
    expected = outer(SHARED[1, 4], SHARED[2, 4], gre(REMOTE.vsid, answer), macs=(PEER_MAC, UNDERLAY_MAC))
    assert data(rig().send(UNDERLAY, from_host(2, REMOTE.vsid, asked))[UNDERLAY]) == [bytes(expected)]


# ---- offloads -------------------------------------------------------------------------


def pseudo_sum(frame: bytes, family: int) -> bytes:
    """What Linux leaves in the field of a partial TCP checksum."""
    addresses, size = (frame[26:34], len(frame) - 34) if family == 4 else (frame[22:54], len(frame) - 54)
    words = addresses + size.to_bytes(4, "big") + (6).to_bytes(4, "big")
    total = sum(int.from_bytes(words[i : i + 2], "big") for i in range(0, len(words), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total.to_bytes(2, "big")


def super_packet(packet: Packet, family: int, gso_size: int) -> Frame:
    """As TCP hands it down; gso_size 0: an ordinary packet with a partial checksum."""
    l4, frame = (34 if family == 4 else 54), bytearray(bytes(packet))
    frame[l4 + 16 : l4 + 18] = pseudo_sum(bytes(frame), family)
    gso = (Gso.TCP4 if family == 4 else Gso.TCP6) if gso_size else Gso.NONE
    return Frame(bytes(frame), csum_partial=True, csum_start=l4, csum_offset=16, gso=gso, gso_size=gso_size)


def expected_segments(make: Callable[[Packet, int], Packet], payload: bytes, size: int) -> list[bytes]:
    """make(tcp, index) -> frame."""
    parts = [payload[i : i + size] for i in range(0, len(payload), size)]
    found = []
    for i, part in enumerate(parts):
        flags = ("FPA" if i == len(parts) - 1 else "A") + ("C" if i == 0 else "")
        found.append(bytes(make(tcp(part, seq=1000 + i * size, flags=flags), i)))
    return found


# 2.11.5, 4.3.1, 4.3.2, 4.3.3, 4.3.4, 4.3.5
@FAMILIES
def test_segments(rig: Make, family: int) -> None:
    payload = bytes(range(256)) * 39
    sent = between(
        LOCAL_VM, REMOTE, family, tcp(payload, flags="FPAC"), **({"id": 0xFFFE} if family == 4 else {})
    )
    r = rig()
    frames = data(r.send(LOCAL_VM.port, super_packet(sent, family, 1000))[UNDERLAY])

    def make(segment: Packet, index: int) -> Packet:
        numbered = {"id": (0xFFFE + index) & 0xFFFF} if family == 4 else {}
        return between(LOCAL_VM, REMOTE, family, segment, **numbered)

    assert [frame[42:] for frame in frames] == expected_segments(make, payload, 1000)
    assert (r.counters().originated, r.counters().sent, r.counters().rx_gso) == (9, 10, 1)


# 2.9.6
@FAMILIES
@pytest.mark.parametrize("gso_size", (0, 500))
def test_super_packets_go_whole_where_they_are_taken(rig: Make, family: int, gso_size: int) -> None:
    r = rig(offloads=Offload.CSUM | Offload.TSO4 | Offload.TSO6)
    sent = super_packet(between(LOCAL_VM, NEIGHBOUR, family, tcp(bytes(1400))), family, gso_size)
    assert r.send(LOCAL_VM.port, sent)[NEIGHBOUR.port] == [sent]
    assert r.counters().tx_csum_partial == 1


# 2.10.9, 4.2.1
@FAMILIES
def test_rewrite_of_a_super_packet(rig: Make, family: int) -> None:
    r = rig(rewrite=BOTH_REWRITTEN, underlay_offloads=Offload.CSUM | Offload.TSO4 | Offload.TSO6)
    sent = super_packet(between(LOCAL_VM, REMOTE, family, tcp(bytes(3000))), family, 1000)
    pas = LOCAL_VM.rewrite_pa(family), REMOTE.rewrite_pa(family)
    wire = ether(NEXT_HOPS[SHARED[2, 4]], UNDERLAY_MAC) / ip(*pas) / tcp(bytes(3000))
    assert r.send(LOCAL_VM.port, sent)[UNDERLAY] == [super_packet(wire, family, 1000)]


# ---- next hops -------------------------------------------------------------------------


# 2.12.5, 2.12.6, 2.12.7, 2.12.9
def test_packets_wait_for_their_next_hop(rig: Make) -> None:
    r = rig(resolved=False)
    frames = [between(LOCAL_VM, REMOTE, 4, udp(bytes((i,)))) for i in range(18)]
    (request,) = data(r.send(LOCAL_VM.port, *frames)[UNDERLAY])
    asked = {"hwsrc": UNDERLAY_MAC.hex(":"), "psrc": "192.168.77.101", "pdst": "192.168.77.102"}
    assert request == bytes(ether(BROADCAST, UNDERLAY_MAC) / ARP(op=1, **asked))
    assert (r.counters().held, r.counters().drops) == (16, {"neigh-full": 2})
    reply = ether(UNDERLAY_MAC, PEER_MAC) / ARP(
        op=2,
        hwsrc=PEER_MAC.hex(":"),
        psrc="192.168.77.102",
        hwdst=UNDERLAY_MAC.hex(":"),
        pdst="192.168.77.101",
    )
    assert data(r.send(UNDERLAY, reply)[UNDERLAY]) == [carried(frame, REMOTE, 4) for frame in frames[:16]]
    assert (r.counters().held, r.counters().consumed) == (0, 1)


# 2.12.9
def test_next_hops_over_ipv6(rig: Make) -> None:
    r = rig(resolved=False, outer={2: 6, 3: 6, 4: 6})
    frame = between(LOCAL_VM, REMOTE, 4, udp())
    (request,) = data(r.send(LOCAL_VM.port, frame)[UNDERLAY])
    message = ICMPv6ND_NS(tgt="fd77::102") / ICMPv6NDOptSrcLLAddr(lladdr=UNDERLAY_MAC.hex(":"))
    group = ether(bytes.fromhex("3333ff000102"), UNDERLAY_MAC) / IPv6(src="fd77::101", dst="ff02::1:ff00:102")
    assert request == bytes(group / message)
    advertised = ICMPv6ND_NA(tgt="fd77::102", S=1) / ICMPv6NDOptDstLLAddr(lladdr=PEER_MAC.hex(":"))
    answer = ether(UNDERLAY_MAC, PEER_MAC) / IPv6(src="fd77::102", dst="fd77::101", hlim=255) / advertised
    assert data(r.send(UNDERLAY, answer)[UNDERLAY]) == [carried(frame, REMOTE, 6)]


# 2.12.4
def test_one_mac_for_all_pas_of_a_host_on_link(rig: Make) -> None:
    r = rig(resolved=False, rewrite=BOTH_REWRITTEN)
    (request,) = data(r.send(LOCAL_VM.port, between(LOCAL_VM, REMOTE, 4, udp()))[UNDERLAY])
    assert request[38:42] == SHARED[2, 4].packed
    said = {"psrc": str(SHARED[2, 4]), "pdst": str(SHARED[1, 4]), "hwsrc": PEER_MAC.hex(":")}
    answer = ether(UNDERLAY_MAC, PEER_MAC) / ARP(op=2, hwdst=UNDERLAY_MAC.hex(":"), **said)
    (sent,) = data(r.send(UNDERLAY, answer)[UNDERLAY])
    assert (sent[:6], sent[30:34]) == (PEER_MAC, REMOTE.rewrite_pa(4).packed)


# 2.12.8
def test_a_silent_next_hop_fails_after_three_requests(rig: Make) -> None:
    r = rig(resolved=False)
    assert len(r.send(LOCAL_VM.port, between(LOCAL_VM, REMOTE, 4, udp()))[UNDERLAY]) == 1
    assert len(r.step(SECOND)[UNDERLAY]) == 1
    assert len(r.step(SECOND)[UNDERLAY]) == 1
    assert r.step(SECOND // 2) == {}
    assert r.step(SECOND // 2) == {}
    assert (r.counters().held, r.counters().drops) == (0, {"neigh-failed": 1})
    states = {str(n.address): n.state for n in r.engine.neighbours()}
    assert states["192.168.77.102"] == NeighbourState.FAILED


# 2.12.11, 2.12.13
def test_a_known_next_hop_is_asked_again(rig: Make) -> None:
    r = rig(resolved=False)
    frame = between(LOCAL_VM, REMOTE, 4, udp())
    r.send(LOCAL_VM.port, frame)
    said = {"psrc": "192.168.77.102", "pdst": "192.168.77.101", "hwsrc": PEER_MAC.hex(":")}
    r.send(UNDERLAY, ether(UNDERLAY_MAC, PEER_MAC) / ARP(op=2, hwdst=UNDERLAY_MAC.hex(":"), **said))
    again = fresh_time(UNDERLAY_MAC, ip_address("192.168.77.102").packed)
    assert 26 * SECOND < again <= 30 * SECOND
    assert r.step(again - 1) == {}
    (request,) = data(r.step(1)[UNDERLAY])
    assert request[:6] == PEER_MAC
    assert len(data(r.send(LOCAL_VM.port, frame)[UNDERLAY])) == 1
    for _ in range(3):
        r.step(SECOND)
    assert r.counters().held == 0
    assert data(r.send(LOCAL_VM.port, frame)[UNDERLAY])[0][:6] == BROADCAST
    assert r.counters().held == 1


# 4.5.6
def test_what_waits_when_the_engine_stops(rig: Make) -> None:
    r = rig(resolved=False)
    r.send(LOCAL_VM.port, *[between(LOCAL_VM, REMOTE, 4, udp())] * 3)
    r.engine.start()
    r.engine.stop()
    assert (r.counters().held, r.counters().drops, r.counters().balance()) == (0, {"stopped": 3}, 0)
