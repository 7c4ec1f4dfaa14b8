"""The demo's frames and decoder against scapy."""

import struct
from ipaddress import ip_address

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NS, ICMPv6ND_RS, IPv6
from scapy.layers.l2 import ARP, GRE, Ether
from scapy.packet import Packet, Raw

from tools.demo import frames as frames
from tools.demo.wire import decode

A4, B4 = ip_address("10.1.1.10"), ip_address("10.1.1.20")
A6, B6 = ip_address("fd00:1:1::10"), ip_address("fd00:1:1::20")
PAIRS = [(A4, B4), (A6, B6)]
MACS = {"dst": "02:bb:00:00:00:20", "src": "02:bb:00:00:00:10"}


def network(source: object, destination: object) -> Packet:
    layer = IP(id=0, flags="DF") if source == A4 else IPv6()
    layer.src, layer.dst = str(source), str(destination)
    return layer


@pytest.mark.parametrize(("source", "destination"), PAIRS, ids=["v4", "v6"])
@pytest.mark.parametrize("payload", [b"", b"odd", b"even", bytes(range(200))], ids=len)
def test_udp_as_scapy_makes_it(source: frames.Address, destination: frames.Address, payload: bytes) -> None:
    expected = network(source, destination) / UDP(sport=7001, dport=7002) / Raw(payload)
    assert frames.udp(source, destination, (7001, 7002), payload) == bytes(expected)


@pytest.mark.parametrize(("source", "destination"), PAIRS, ids=["v4", "v6"])
def test_echo_as_scapy_makes_it(source: frames.Address, destination: frames.Address) -> None:
    kind = ICMP if source == A4 else ICMPv6EchoRequest
    expected = network(source, destination) / kind(id=0x15A, seq=1) / Raw(b"token")
    assert frames.echo(source, destination, b"token") == bytes(expected)


def test_arp_and_nvgre_as_scapy_makes_them() -> None:
    mac = MACS["src"]
    expected = Ether(dst=frames.BROADCAST, src=mac) / ARP(hwsrc=mac, psrc=str(A4), pdst=str(B4))
    assert frames.arp_request(mac, A4, B4) == bytes(expected)
    inner = frames.ethernet(MACS["dst"], mac, 0x0800, b"inner")
    expected = GRE(key_present=1, key=6001 << 8 | 0xAB, proto=0x6558) / Raw(inner)
    assert frames.nvgre(6001, inner, flow_id=0xAB) == bytes(expected)


def tcp_frame(source: frames.Address, destination: frames.Address) -> Packet:
    segment = TCP(sport=1234, dport=80, options=[("MSS", 1460)], flags="PA", seq=7) / Raw(b"payload")
    return Ether(**MACS) / network(source, destination) / segment


def nvgre_frame(outer: Packet, inner: Packet) -> bytes:
    key = GRE(key_present=1, key=6001 << 8 | 0x5A, proto=0x6558)
    return bytes(Ether(**MACS) / outer / key / inner)


@pytest.mark.parametrize("outer", PAIRS, ids=["over-v4", "over-v6"])
@pytest.mark.parametrize(("source", "destination"), PAIRS, ids=["v4", "v6"])
def test_decodes_nvgre(
    outer: tuple[frames.Address, frames.Address], source: frames.Address, destination: frames.Address
) -> None:
    packet = decode(nvgre_frame(network(*outer), tcp_frame(source, destination)))
    assert (packet.source, packet.destination, packet.protocol) == (*outer, 47)
    assert (packet.gre_flags, packet.vsid, packet.flow_id) == (0x2000, 6001, 0x5A)
    assert packet.inner is not None
    assert packet.inner.flow == (source, destination, 6, (1234, 80))
    assert (packet.inner.source_mac, packet.inner.destination_mac) == (MACS["src"], MACS["dst"])
    assert packet.inner.payload == b"payload"
    assert packet.is_traffic
    assert not packet.faults


CHANGES = {
    "v4": [
        (14 + 8, "IPv4 header checksum"),
        (14 + 20 + 5, "checksum of protocol 6"),
        (-1, "checksum of protocol 6"),
    ],
    "v6": [
        (14 + 8, "checksum of protocol 6"),
        (14 + 40 + 5, "checksum of protocol 6"),
        (-1, "checksum of protocol 6"),
    ],
}


@pytest.mark.parametrize("version", ["v4", "v6"])
def test_sees_every_wrong_sum(version: str) -> None:
    frame = bytes(tcp_frame(*PAIRS[version == "v6"]))
    assert not decode(frame).faults
    for offset, fault in CHANGES[version]:
        broken = bytearray(frame)
        broken[offset] ^= 0x10
        assert decode(bytes(broken)).faults == (fault,)
        inside = decode(nvgre_frame(IP(src=str(A4), dst=str(B4)), Raw(bytes(broken))))
        assert inside.faults == (fault,)


@pytest.mark.parametrize(("source", "destination"), PAIRS, ids=["v4", "v6"])
def test_a_pending_sum_is_that_of_the_pseudo_header(
    source: frames.Address, destination: frames.Address
) -> None:
    frame = bytearray(bytes(tcp_frame(source, destination)))
    at = 14 + (20 if source.version == 4 else 40)
    pseudo = source.packed + destination.packed + struct.pack("!II", len(frame) - at, 6)
    words = sum(struct.unpack(f"!{len(pseudo) // 2}H", pseudo))
    while words >> 16:
        words = (words & 0xFFFF) + (words >> 16)
    frame[at + 16 : at + 18] = words.to_bytes(2, "big")
    assert not decode(bytes(frame), pending=True).faults
    assert decode(bytes(frame), pending=True).pending
    assert decode(bytes(frame)).faults
    frame[at + 17] ^= 1
    assert decode(bytes(frame), pending=True).faults


def test_udp_without_a_sum_is_right_in_ipv4_alone() -> None:
    for pair, faults in zip(PAIRS, [(), ("checksum of protocol 17",)], strict=True):
        assert decode(bytes(Ether(**MACS) / network(*pair) / UDP(chksum=0) / Raw(b"x"))).faults == faults


@pytest.mark.parametrize("length", range(14, 65))
def test_truncated_frames_are_faulty(length: int) -> None:
    frame = bytes(tcp_frame(A4, B4))
    assert decode(frame[:length]).faults


@pytest.mark.parametrize(
    "frame",
    [
        Ether() / ARP(psrc=str(A4), pdst=str(B4)),
        Ether() / IPv6(src="fd77::1", dst="ff02::1:ff00:101") / ICMPv6ND_NS(tgt="fd77::101"),
        Ether() / IPv6(src="fd77::1", dst="fd77::101") / ICMPv6ND_NS(tgt="fd77::101"),
        Ether() / IPv6(src="fe80::1", dst="ff02::2") / ICMPv6ND_RS(),
    ],
    ids=["arp", "ns", "unicast-ns", "rs"],
)
def test_what_devices_say_is_no_traffic(frame: Packet) -> None:
    packet = decode(bytes(frame))
    assert not packet.is_traffic
    assert not packet.faults
