"""Frames made by hand, for probes that no honest stack would send. Pure; addresses are `ipaddress` objects,
MACs text, everything that comes out is bytes in network order with right checksums.
"""

import struct
from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address

ETHERTYPES = {4: 0x0800, 6: 0x86DD}
ARP, TEB = 0x0806, 0x6558
ICMP, TCP, UDP, GRE, ICMPV6 = 1, 6, 17, 47, 58
GRE_KEY_PRESENT = 0x2000
BROADCAST = "ff:ff:ff:ff:ff:ff"


def ones_sum(data: bytes) -> int:
    """The ones' complement sum of 16-bit words (RFC 1071), odd length padded with a zero byte; 0 stands for
    0xFFFF too.
    """
    return int.from_bytes(data + b"\0" * (len(data) % 2), "big") % 0xFFFF


def checksum(data: bytes) -> int:
    """RFC 1071, of data that is not all zeros: never 0xFFFF."""
    return -ones_sum(data) % 0xFFFF


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def pseudo_header(source: Address, destination: Address, protocol: int, length: int) -> bytes:
    """Of RFC 9293 (IPv4) and RFC 8200 section 8.1 (IPv6), which sum to the same for equal fields."""
    return source.packed + destination.packed + struct.pack("!II", length, protocol)


def ethernet(destination: str, source: str, ethertype: int, payload: bytes) -> bytes:
    return mac_bytes(destination) + mac_bytes(source) + struct.pack("!H", ethertype) + payload


def ip(source: Address, destination: Address, protocol: int, payload: bytes, *, ttl: int = 64) -> bytes:
    """An IP packet of the addresses' family; IPv4 with DF and ID 0."""
    if isinstance(source, IPv6Address):
        head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, ttl)
        return head + source.packed + destination.packed + payload
    head = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(payload), 0, 0x4000, ttl, protocol)
    addresses = source.packed + destination.packed
    return head + struct.pack("!H", checksum(head + addresses)) + addresses + payload


def udp(source: Address, destination: Address, ports: tuple[int, int], payload: bytes) -> bytes:
    """An IP packet with a UDP datagram."""
    length = 8 + len(payload)
    head = struct.pack("!HHH", *ports, length)
    total = checksum(pseudo_header(source, destination, UDP, length) + head + b"\0\0" + payload)
    return ip(source, destination, UDP, head + struct.pack("!H", total or 0xFFFF) + payload)


def echo(source: Address, destination: Address, payload: bytes, *, reply: bool = False) -> bytes:
    """An IP packet with an ICMP or ICMPv6 echo request, or a reply that nobody asked for."""
    version = source.version
    protocol, kind = (ICMP, 0 if reply else 8) if version == 4 else (ICMPV6, 129 if reply else 128)
    rest = struct.pack("!HH", 0x15A, 1) + payload
    pseudo = b"" if version == 4 else pseudo_header(source, destination, protocol, 4 + len(rest))
    total = checksum(pseudo + bytes([kind, 0, 0, 0]) + rest)
    return ip(source, destination, protocol, struct.pack("!BBH", kind, 0, total) + rest)


def arp_request(sender_mac: str, sender: Address, target: Address) -> bytes:
    """A broadcast frame that asks for `target`."""
    body = mac_bytes(sender_mac) + sender.packed + bytes(6) + target.packed
    return ethernet(BROADCAST, sender_mac, ARP, bytes.fromhex("0001080006040001") + body)


def nvgre(vsid: int, frame: bytes, *, flow_id: int = 0, flags: int = GRE_KEY_PRESENT) -> bytes:
    """A GRE header with a key (RFC 7637 section 3.2) and the frame behind it: the payload of an IP packet."""
    return struct.pack("!HHI", flags, TEB, vsid << 8 | flow_id) + frame
