"""The names of manifest.yaml, and frames built from them by scapy.

What the core must send is built here a second time, by the plainest means: whole frames with scapy's
checksums, the tunnel's header field by field, FlowID bit by bit.
"""

from ipaddress import ip_address
from typing import NamedTuple

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

HOST = "h1"
ROUTER = "02:15:0a:00:00:01"
BROADCAST = "ff:ff:ff:ff:ff:ff"
GATEWAY, GATEWAY6 = "10.1.1.1", "fd00:1:1::1"
RED, RED2, GREEN, GOLD = 6001, 6002, 7001, 5003


class Vm(NamedTuple):
    """MAC and CAs: the same in every tenant."""

    mac: str
    v4: str
    v6: str


A = Vm("02:bb:00:00:01:10", "10.1.1.10", "fd00:1:1::10")
B = Vm("02:bb:00:00:01:11", "10.1.1.11", "fd00:1:1::11")
C = Vm("02:bb:00:00:01:20", "10.1.1.20", "fd00:1:1::20")
D = Vm("02:bb:00:00:01:30", "10.1.1.30", "fd00:1:1::30")
E = Vm("02:bb:00:00:02:10", "10.1.2.10", "fd00:1:2::10")
F = Vm("02:bb:00:00:02:20", "10.1.2.20", "fd00:1:2::20")


class Host(NamedTuple):
    """MAC of the underlay device and shared PAs."""

    mac: str
    v4: str
    v6: str


H1 = Host("02:00:00:00:77:01", "192.168.77.101", "fd77::101")
H2 = Host("02:00:00:00:77:02", "192.168.77.102", "fd77::102")
H6 = Host("02:00:00:00:77:06", "", "fd77::106")
FAR = Host("02:00:00:00:77:fe", "192.168.88.103", "")  # by the MAC of the gateway of rack1
OVS = Host("02:00:00:00:77:09", "192.168.77.9", "")
STRANGER = Host("02:00:00:00:77:99", "192.168.77.99", "fd77::99")  # on the wire, in no policy


class Pa(NamedTuple):
    """The rewrite PAs of a VM."""

    v4: str
    v6: str


BLUE_A, BLUE_B = Pa("192.168.77.150", "fd77::150"), Pa("192.168.77.151", "fd77::151")
BLUE_C = Pa("192.168.77.152", "fd77::152")
BLUE_E, BLUE_F = Pa("192.168.77.153", "fd77::153"), Pa("192.168.77.154", "fd77::154")
GOLD_C = Pa("192.168.77.162", "fd77::162")

EXCEEDED, EXCEEDED6 = ICMP(type=11, code=0), ICMPv6TimeExceeded(code=0)
NO_NET, NO_NET6 = ICMP(type=3, code=0), ICMPv6DestUnreach(code=0)
NO_HOST, NO_HOST6 = ICMP(type=3, code=1), ICMPv6DestUnreach(code=3)
NO_PORT, NO_PORT6 = ICMP(type=3, code=3), ICMPv6DestUnreach(code=4)
ECHO = ICMP(type=8, id=7, seq=1) / Raw(b"ping")
ECHO_REPLY = ICMP(type=0, id=7, seq=1) / Raw(b"ping")
ECHO6 = ICMPv6EchoRequest(id=7, seq=1, data=b"ping")
ECHO6_REPLY = ICMPv6EchoReply(id=7, seq=1, data=b"ping")
UDP_BODY = UDP(sport=4000, dport=5000) / Raw(b"sixteen bytes...")
TCP_BODY = TCP(sport=4001, dport=80, seq=1, ack=2, flags="PA", options=[("Timestamp", (1, 2))]) / Raw(
    b"GET /"
)


def ip(source: str, destination: str, body: Packet, *, ttl: int = 64, tos: int = 0) -> Packet:
    """An IP packet of the addresses' family."""
    if ip_address(source).version == 4:
        return IP(src=source, dst=destination, id=0x1234, ttl=ttl, tos=tos) / body
    return IPv6(src=source, dst=destination, hlim=ttl, tc=tos) / body


def frame(
    from_mac: str, to_mac: str, source: str, destination: str, body: Packet = UDP_BODY, **header: int
) -> Packet:
    return Ether(src=from_mac, dst=to_mac) / ip(source, destination, body, **header)


def cut(whole: Packet, *sizes: int) -> list[bytes]:
    """The IPv4 or IPv6 frame in fragments: `sizes` bytes each, the last with the rest."""
    octets = bytes(whole)
    v4 = octets[12:14] == b"\x08\x00"
    header, payload = (octets[14:34], octets[34:]) if v4 else (octets[14:54], octets[54:])
    fragments, at = [], 0
    for size in [*sizes, len(payload) - sum(sizes)]:
        piece, last = payload[at : at + size], at + size == len(payload)
        if v4:
            packet = IP(header)
            del packet.len, packet.chksum
            packet.remove_payload()
            packet.flags, packet.frag = (0 if last else "MF"), at // 8
            fragments.append(octets[:14] + bytes(packet / Raw(piece)))
        else:
            word = (at | (0 if last else 1)).to_bytes(2, "big")
            extension = header[6:7] + b"\0" + word + (0xABCD).to_bytes(4, "big")
            length = (8 + len(piece)).to_bytes(2, "big")
            fragments.append(octets[:14] + header[:4] + length + b"\x2c" + header[7:] + extension + piece)
        at += size
    return fragments


def flowid(inner: bytes) -> int:
    """FlowID of an inner frame: CRC32c over addresses, protocol and ports, its bytes xored; 0 if not IP."""
    v4, v6 = inner[12:14] == b"\x08\x00", inner[12:14] == b"\x86\xdd"
    if not (v4 or v6):
        return 0
    if v4:
        addresses, proto, l4 = inner[26:34], inner[23], 14 + 4 * (inner[14] & 15)
        fragment = (inner[20] & 0x3F) | inner[21]
    else:
        addresses, proto, l4 = inner[22:54], inner[20], 54
        fragment = proto == 44
        proto = inner[54] if proto in (0, 44) else proto  # hop-by-hop options, a fragment
    ports = bytes(4) if fragment or proto not in (6, 17, 132) else inner[l4 : l4 + 4]
    crc = 0
    for byte in addresses + bytes([proto, 0, 0, 0]) + ports:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc & 0xFF ^ crc >> 8 & 0xFF ^ crc >> 16 & 0xFF ^ crc >> 24


def gre(vsid: int, flow: int, inner: bytes, *, flags: int = 0x2000, protocol: int = 0x6558) -> bytes:
    return (
        flags.to_bytes(2, "big") + protocol.to_bytes(2, "big") + (vsid << 8 | flow).to_bytes(4, "big") + inner
    )


def outer(source: Host, destination: Host, body: bytes, *, family: int = 4, tos: int = 0) -> Packet:
    """A GRE packet between two hosts as isolane sends it."""
    link = Ether(src=source.mac, dst=destination.mac)
    if family == 4:
        return (
            link
            / IP(src=source.v4, dst=destination.v4, id=0, flags="DF", ttl=64, proto=47, tos=tos)
            / Raw(body)
        )
    return link / IPv6(src=source.v6, dst=destination.v6, hlim=64, nh=47, tc=tos) / Raw(body)


def tunnel(
    source: Host,
    destination: Host,
    vsid: int,
    inner: Packet | bytes,
    *,
    family: int = 4,
    tos: int | None = None,
) -> Packet:
    """An inner frame in NVGRE; the outer TOS is the inner's."""
    octets = bytes(inner)
    if tos is None:
        v4 = octets[12:14] == b"\x08\x00"
        tos = octets[15] if v4 else (octets[14] << 4 | octets[15] >> 4) & 0xFF
    return outer(source, destination, gre(vsid, flowid(octets), octets), family=family, tos=tos)


def too_big(mtu: int, family: int = 4) -> Packet:
    return ICMP(type=3, code=4, nexthopmtu=mtu) if family == 4 else ICMPv6PacketTooBig(mtu=mtu)


def told(given: Packet | bytes, source: str, message: Packet, quote: bytes | None = None) -> Packet:
    """The router's ICMP error about an untagged frame, from a gateway; quote: if that is not the packet."""
    octets = bytes(given)
    to, packet = octets[6:12].hex(":"), quote or octets[14:]
    link = Ether(src=ROUTER, dst=to)
    if ip_address(source).version == 4:
        header = IP(src=source, dst=IP(octets[14:]).src, tos=0xC0, id=0, flags="DF", ttl=64)
        return link / header / message / Raw(packet[: 576 - 28])
    header = IPv6(src=source, dst=IPv6(octets[14:]).src, tc=0, fl=0, hlim=64)
    return link / header / message / Raw(packet[: 1280 - 48])


def arp(op: int, sender: tuple[str, str], target: tuple[str, str], to: str = BROADCAST) -> Packet:
    """sender, target: (MAC, IPv4)."""
    return Ether(src=sender[0], dst=to) / ARP(
        op=op, hwsrc=sender[0], psrc=sender[1], hwdst=target[0], pdst=target[1]
    )


def solicited_node(target: str) -> tuple[str, str]:
    """(MAC, address) of the multicast group."""
    low = ip_address(target).packed[13:]
    return f"33:33:ff:{low.hex(':')}", str(ip_address(ip_address("ff02::1:ff00:0").packed[:13] + low))


def ns(from_mac: str, source: str, target: str, *, option: bool = True, hlim: int = 255) -> Packet:
    mac, group = solicited_node(target)
    body = ICMPv6ND_NS(tgt=target)
    if option:
        body /= ICMPv6NDOptSrcLLAddr(lladdr=from_mac)
    return Ether(src=from_mac, dst=mac) / IPv6(src=source, dst=group, hlim=hlim) / body


def na(mac: str, target: str, to_mac: str, to: str, *, router: int = 0, solicited: int = 1) -> Packet:
    body = ICMPv6ND_NA(tgt=target, R=router, S=solicited, O=1) / ICMPv6NDOptDstLLAddr(lladdr=mac)
    return Ether(src=mac, dst=to_mac) / IPv6(src=target, dst=to, hlim=255) / body


def link_local(mac: str) -> str:
    m = bytes.fromhex(mac.replace(":", ""))
    return str(ip_address(b"\xfe\x80" + bytes(6) + bytes([m[0] ^ 2]) + m[1:3] + b"\xff\xfe" + m[3:]))
