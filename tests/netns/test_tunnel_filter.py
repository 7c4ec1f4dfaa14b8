"""NVGRE super-packets at the egress of the underlay: whole to a device that takes them, else the kernel's
segments, against frames that scapy builds.
"""

import os
import struct
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address

import pytest
from pyroute2 import IPRoute
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE, Ether
from scapy.packet import Packet

from dataplane.binding.core import Offload
from dataplane.host import bpf, bpf_programs, links, netns
from dataplane.host.device import Terms
from dataplane.host.filters import Way
from dataplane.host.packet_socket import open_queues
from dataplane.host.underlay import Underlay, open_underlay
from tests.netns.rig import MakeNamespace, receive
from tests.netns.rig import run as run_in

PAS = {4: IPv4Address("10.77.0.101"), 6: IPv6Address("fd77::101")}
MAC, PEER_MAC = "02:00:00:00:77:01", "02:00:00:00:77:02"
VSID, FLOW = 0x5001, 0x7F
MSS, PAYLOAD = 1400, bytes(range(256)) * 160
OUTER = {
    4: lambda: IP(src="10.77.0.101", dst="10.77.0.102", id=0, flags="DF", ttl=64, proto=47, tos=0x28),
    6: lambda: IPv6(src="fd77::101", dst="fd77::102", hlim=64, nh=47, tc=0x28),
}
INNER = {
    4: lambda number: IP(
        src="10.1.1.10", dst="10.1.1.20", id=(0xFFFE + number) & 0xFFFF, flags="DF", tos=0x28
    ),
    6: lambda number: IPv6(src="fd00::10", dst="fd00::20", tc=0x28),
}
FAMILIES = pytest.mark.parametrize(("outer", "inner"), [(4, 4), (4, 6), (6, 4), (6, 6)])


KINDS = pytest.mark.parametrize("udp", (False, True), ids=("tcp", "udp"))


def tunnelled(outer: int, inner: int, udp: bool, data: bytes, number: int = 0, **tcp: object) -> Packet:
    """number: of the segment."""
    fields = {"sport": 40000, "dport": 80, "seq": 1000, "ack": 2000, "flags": "PA", "window": 500} | tcp
    key = GRE(key_present=1, proto=0x6558, key=VSID << 8 | FLOW)
    frame = Ether(src="02:bb:00:00:00:10", dst="02:bb:00:00:00:20") / INNER[inner](number)
    l4 = UDP(sport=40000, dport=80) if udp else TCP(**fields)
    return Ether(src=MAC, dst=PEER_MAC) / OUTER[outer]() / key / frame / l4 / data


def super_packet(outer: int, inner: int, udp: bool = False) -> bytes:
    """As the core sends it, virtio_net_hdr and all: the checksum is the pseudo header's sum."""
    frame = bytearray(bytes(tunnelled(outer, inner, udp, PAYLOAD)))
    length, field, proto, kind = (8, 6, 17, 5) if udp else (20, 16, 6, 1 if inner == 4 else 4)
    at = len(frame) - len(PAYLOAD) - length
    ip = frame[at - (20 if inner == 4 else 40) : at]
    addresses = ip[12:20] if inner == 4 else ip[8:40]
    words = addresses + struct.pack(">II", length + len(PAYLOAD), proto)
    total = sum(struct.unpack(f">{len(words) // 2}H", words))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    frame[at + field : at + field + 2] = total.to_bytes(2, "big")
    return struct.pack("=BBHHHH", 1, kind, at + length, MSS, at, field) + frame


@pytest.fixture
def wire(make_namespace: MakeNamespace, cleanup: ExitStack) -> tuple[Underlay, str, str, int]:
    """The underlay, its host, the other end's host and a socket there."""
    host, outside = make_namespace("host"), make_namespace("net")
    run_in(host, "ip", "link", "add", "u1", "address", MAC, "mtu", "1600", "up", "type", "veth",
           "peer", "name", "p1", "address", PEER_MAC, "netns", outside)  # fmt: skip
    run_in(outside, "ip", "link", "set", "p1", "mtu", "1600", "up")
    underlay = netns.call(host, open_underlay, "u1", Terms(MAC, 1600))
    cleanup.callback(netns.call, host, underlay.close)
    underlay.serve(PAS.values())
    (fd,) = netns.call(outside, open_queues, "p1", 1, None)
    cleanup.callback(os.close, fd)
    return underlay, host, outside, fd


def is_tunnelled(data: bytes) -> bool:
    packet = Ether(data[10:])
    return GRE in packet


def sent(underlay: Underlay, fd: int, packet: bytes, count: int) -> list[bytes]:
    """What of it comes, each with its virtio_net_hdr."""
    assert os.write(underlay.fds[0], packet) == len(packet)
    return [data for _, data in receive([fd], count, is_tunnelled) if is_tunnelled(data)]


@FAMILIES
@KINDS
def test_whole_to_a_device_that_takes_it(
    wire: tuple[Underlay, str, str, int], outer: int, inner: int, udp: bool
) -> None:
    underlay, _, _, fd = wire
    packet = super_packet(outer, inner, udp)
    (found,) = sent(underlay, fd, packet, 1)
    assert found[10:] == packet[10:]
    flags, gso, _, size, start, offset = struct.unpack_from("=BBHHHH", found)
    assert (flags & 1, gso, size, offset) == (1, packet[1], MSS, 6 if udp else 16)
    assert start == struct.unpack_from("=6xH", packet)[0]


@FAMILIES
@KINDS
def test_cut_for_a_device_that_does_not(
    wire: tuple[Underlay, str, str, int], outer: int, inner: int, udp: bool
) -> None:
    underlay, host, _, fd = wire
    for feature in ("tso", "gso", "tx"):
        assert run_in(host, "ethtool", "-K", "u1", feature, "off").returncode == 0
    parts = [PAYLOAD[at : at + MSS] for at in range(0, len(PAYLOAD), MSS)]
    found = sent(underlay, fd, super_packet(outer, inner, udp), len(parts))
    expected = []
    for number, part in enumerate(parts):
        flags = "PA" if number == len(parts) - 1 else "A"
        packet = tunnelled(outer, inner, udp, part, number, seq=1000 + number * MSS, flags=flags)
        if outer == 4:
            packet[IP].id = number  # it means nothing: RFC 6864 section 4.1
        expected.append(bytes(packet))
    assert [data[10:] for data in found] == expected
    assert not any(data[1] for data in found)


def test_of_another_source_it_is_refused(wire: tuple[Underlay, str, str, int]) -> None:
    """Also of a PA that is none of ours any more: the kernel knows no such packet, and says so."""
    underlay, _, _, _ = wire
    underlay.serve([PAS[6]])
    with pytest.raises(OSError):
        os.write(underlay.fds[0], super_packet(4, 4))
    assert os.write(underlay.fds[0], super_packet(6, 4))


def put_theirs() -> None:
    """A filter of another protocol than ours, at its place."""
    with IPRoute() as ip:
        index = links.get(ip, "u1").index
        ip.tc("add", "clsact", index)
        fd = bpf.load(bpf_programs.DROP)
        ip.tc("add-filter", "bpf", index, 1, parent=Way.OUT, prio=1, protocol=0x0800, fd=fd, name="theirs")
        os.close(fd)


def test_where_the_place_is_taken_the_core_cuts(make_namespace: MakeNamespace, cleanup: ExitStack) -> None:
    host = make_namespace("host")
    run_in(host, "ip", "link", "add", "u1", "address", MAC, "mtu", "1600", "up", "type", "veth",
           "peer", "name", "p1")  # fmt: skip
    run_in(host, "ip", "link", "set", "p1", "up")
    netns.call(host, put_theirs)
    underlay = netns.call(host, open_underlay, "u1", Terms(MAC, 1600))
    cleanup.callback(netns.call, host, underlay.close)
    assert Offload.NVGRE not in underlay.offloads and Offload.TSO4 in underlay.offloads
    assert netns.call(host, underlay.is_as_left)
    netns.call(host, underlay.close)
    assert "theirs" in run_in(host, "tc", "filter", "show", "dev", "u1", "egress").stdout


def test_what_an_earlier_version_has_not_noted_is_taken_away(wire: tuple[Underlay, str, str, int]) -> None:
    underlay, host, _, _ = wire
    run_in(host, "tc", "filter", "del", "dev", "u1", "egress")
    underlay.undo.steps = [step for step in underlay.undo.steps if step[0] != "tunnel"]
    netns.call(host, underlay.repair)
    netns.call(host, underlay.close)
    assert run_in(host, "tc", "qdisc", "show", "dev", "u1").stdout.count("clsact") == 0


def test_it_is_put_back_and_goes_with_the_underlay(wire: tuple[Underlay, str, str, int]) -> None:
    underlay, host, _, _ = wire

    def filters() -> str:
        return run_in(host, "tc", "filter", "show", "dev", "u1", "egress").stdout

    assert "isolane_tunnel" in filters()
    assert netns.call(host, underlay.is_as_left)
    run_in(host, "tc", "filter", "del", "dev", "u1", "egress")
    assert not netns.call(host, underlay.is_as_left)
    netns.call(host, underlay.repair)
    assert "isolane_tunnel" in filters() and netns.call(host, underlay.is_as_left)
    netns.call(host, underlay.close)
    assert filters() == ""
