"""What tests of packets share."""

from ipaddress import ip_address

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP
from scapy.layers.sctp import SCTP, SCTPChunkData
from scapy.packet import Packet, Raw

from dataplane.binding.core import Frame, Gso
from dataplane.binding.tables import Address
from tests.oracle.frames import ether, gre, outer, tcp, udp
from tests.oracle.world import (
    LOCAL,
    LOCAL_APPLIANCE,
    NEXT_HOPS,
    SHARED,
    UNDERLAY_MAC,
    Vm,
    World,
)

UNDERLAY = 0

BROADCAST = b"\xff" * 6

FAMILIES = pytest.mark.parametrize("family", (4, 6))

BOTH_REWRITTEN = frozenset(((0, 0), (0, 1)))

VM = World().vm

LOCAL_VM, NEIGHBOUR, OTHER_SUBNET = VM(0, 0, LOCAL), VM(0, 0, LOCAL_APPLIANCE), VM(0, 1, LOCAL)

REMOTE, REMOTE_OTHER_SUBNET, BEHIND_ROUTER = VM(0, 0, 20), VM(0, 1, 20), VM(0, 0, 30)


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


def carried(inner: Packet, vm: Vm, family: int, **fields: int) -> bytes:
    """The NVGRE frame with `inner` for a VM's host, by PAs of a family."""
    remote = SHARED[vm.host, family]
    router = {4: "192.168.77.1", 6: "fd77::fe"}[family]
    hop = NEXT_HOPS[remote] if vm.host == 2 else NEXT_HOPS[ip_address(router)]
    tunnel = gre(vm.vsid, inner, flowid(inner))
    return bytes(outer(SHARED[1, family], remote, tunnel, macs=(hop, UNDERLAY_MAC), **fields))


PAYLOADS = {
    "tcp": tcp(b"odd"),
    "udp": udp(b"data"),
    "sctp": SCTP(sport=1, dport=2) / SCTPChunkData(data=b"abcd"),
    "other": Raw(b"anything"),
}

ECHO = {4: ICMP(id=1, seq=2) / b"ping", 6: ICMPv6EchoRequest(id=1, seq=2, data=b"ping")}


RFC_6040 = {
    # inner: outer not-ECT, ECT(1), ECT(0), CE (figure 4; the codepoints in the order of their numbers)
    0: (0, 0, 0, None),
    1: (1, 1, 1, 3),
    2: (2, 1, 2, 3),
    3: (3, 3, 3, 3),
}


def arp(op: int, vm: Vm, target: Address | str, sender: Address | str | None = None) -> Packet:
    sender = vm.ca(4) if sender is None else sender
    return ether(BROADCAST, vm.mac) / ARP(op=op, hwsrc=vm.mac.hex(":"), psrc=str(sender), pdst=str(target))


def solicitation(vm: Vm, source: Address | str, target: Address | str) -> Packet:
    option = ICMPv6NDOptSrcLLAddr(lladdr=vm.mac.hex(":"))
    message = ICMPv6ND_NS(tgt=str(target)) / (option if str(source) != "::" else b"")
    return ether(b"\x33\x33\xff\x00\x00\x01", vm.mac) / IPv6(src=str(source), dst="ff02::1:ff00:1") / message


def link_local(vm: Vm) -> str:
    mac = vm.mac
    return f"fe80::{mac[0] ^ 2:x}{mac[1]:02x}:{mac[2]:x}ff:fe{mac[3]:02x}:{mac[4]:x}{mac[5]:02x}"


def pseudo_sum(frame: bytes, family: int, proto: int = 6) -> bytes:
    """What Linux leaves in the field of a partial checksum."""
    addresses, size = (frame[26:34], len(frame) - 34) if family == 4 else (frame[22:54], len(frame) - 54)
    words = addresses + size.to_bytes(4, "big") + proto.to_bytes(4, "big")
    total = sum(int.from_bytes(words[i : i + 2], "big") for i in range(0, len(words), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total.to_bytes(2, "big")


def super_packet(packet: Packet, family: int, gso_size: int) -> Frame:
    """As TCP or UDP hands it down; gso_size 0: an ordinary packet with a partial checksum."""
    l4, frame = (34 if family == 4 else 54), bytearray(bytes(packet))
    proto, field, kind = (17, 6, Gso.UDP) if UDP in packet else (6, 16, Gso.TCP4 if family == 4 else Gso.TCP6)
    frame[l4 + field : l4 + field + 2] = pseudo_sum(bytes(frame), family, proto)
    gso = kind if gso_size else Gso.NONE
    return Frame(
        bytes(frame), csum_partial=True, csum_start=l4, csum_offset=field, gso=gso, gso_size=gso_size
    )
