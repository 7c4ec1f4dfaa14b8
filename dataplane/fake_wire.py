"""Of the naive twin: bytes on the wire. What a packet is, how it is read, summed, rewritten and cut.

csrc/README.md sections 1 and 4 in plain Python: byte slices, `struct`, loops. Addresses and MACs are bytes in
network order (4 or 16, and 6 of them).
"""

import struct
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import NamedTuple

ETH, VLAN, ARP_LEN, IP4_LEN, IP6_LEN, GRE_LEN = 14, 4, 28, 20, 40, 8
TYPE_IP4, TYPE_ARP, TYPE_VLAN, TYPE_QINQ, TYPE_IP6 = 0x0800, 0x0806, 0x8100, 0x88A8, 0x86DD
HOP_BY_HOP, ICMP, TCP, UDP, DCCP, ROUTING, FRAGMENT, GRE, AUTHENTICATION, ICMP6, DESTINATION_OPTIONS = (
    0, 1, 6, 17, 33, 43, 44, 47, 51, 58, 60,
)  # fmt: skip
SCTP, UDP_LITE = 132, 136
ROUTE_OPTIONS = (7, 68, 131, 137)
"""Record route, timestamp, loose and strict source route."""

EXTENSIONS = (HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS, FRAGMENT, AUTHENTICATION)
L4_LENGTHS = {(4, TCP): 20, (6, TCP): 20, (4, UDP): 8, (6, UDP): 8, (4, ICMP): 8, (6, ICMP6): 8}
CHECKSUM_OFFSETS = {
    **{(family, TCP): 16 for family in (4, 6)},
    **{(family, proto): 6 for family in (4, 6) for proto in (UDP, UDP_LITE, DCCP)},
    (6, ICMP6): 2,
}
"""Where the checksum that covers the pseudo header lies in the L4 header."""

FIRST_SLOT, SLOT = 3392, 4096
ANY4, ANY6 = bytes(4), bytes(16)
ALL_NODES = bytes.fromhex("ff020000000000000000000000000001")
ALL_NODES_MAC = bytes.fromhex("333300000001")
BROADCAST = b"\xff" * 6
GSO_NONE, GSO_TCP4, GSO_TCP6 = 0, 1, 2
PART_SEGMENTS = 64
"""Of a super-packet that goes on whole."""


class Drop(Exception):
    """The packet dies here; its only argument is the reason's name in drop.def."""

    @property
    def reason(self) -> str:
        return str(self.args[0])


# ---- packets -----------------------------------------------------------------------------------------------


@dataclass
class Packet:
    """A frame and what came with it. reach: how many of its bytes lie in the first slot, as headers must.
    slots: how many it has, which stay its own whatever becomes of its length.

    What parse() finds: offsets in bytes from the frame's start. kind: "arp" or "ip". l4: of the L4 header,
    or of what follows the IP headers. end: where the IP packet ends; Ethernet padding may follow. later: a
    fragment, and not the first.
    """

    frame: bytearray
    in_port: int
    time: int
    flow: int = 0
    partial: bool = False
    csum_start: int = 0
    csum_offset: int = 0
    gso: int = GSO_NONE
    gso_size: int = 0
    reach: int = FIRST_SLOT
    slots: int = 1

    tagged: bool = field(init=False, default=False)
    kind: str = field(init=False, default="")
    family: int = field(init=False, default=0)
    l3: int = field(init=False, default=0)
    l4: int = field(init=False, default=0)
    end: int = field(init=False, default=0)
    proto: int = field(init=False, default=0)
    fragment: bool = field(init=False, default=False)
    later: bool = field(init=False, default=False)

    @property
    def destination_mac(self) -> bytes:
        return bytes(self.frame[0:6])

    @property
    def source_mac(self) -> bytes:
        return bytes(self.frame[6:12])

    @property
    def source(self) -> bytes:
        at, size = (12, 4) if self.family == 4 else (8, 16)
        return bytes(self.frame[self.l3 + at : self.l3 + at + size])

    @property
    def destination(self) -> bytes:
        at, size = (16, 4) if self.family == 4 else (24, 16)
        return bytes(self.frame[self.l3 + at : self.l3 + at + size])

    @property
    def ttl(self) -> int:
        return self.frame[self.l3 + (8 if self.family == 4 else 7)]

    @property
    def tos(self) -> int:
        """IPv4 TOS or IPv6 traffic class."""
        return self.frame[self.l3 + 1] if self.family == 4 else u16(self.frame, self.l3) >> 4 & 0xFF

    @property
    def is_nd(self) -> bool:
        """Neighbour discovery: router and neighbour solicitation and advertisement, redirect."""
        icmp6 = self.family == 6 and self.proto == ICMP6 and not self.later
        return icmp6 and 133 <= self.frame[self.l4] <= 137

    def set_macs(self, destination: bytes, source: bytes) -> None:
        self.frame[0:12] = destination + source


def slots_of(length: int) -> int:
    """Slots of a frame that comes in, or is cut."""
    return 1 + max(0, -((FIRST_SLOT - length) // SLOT))


def u16(data: bytes | bytearray, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


def put16(data: bytearray, at: int, value: int) -> None:
    data[at : at + 2] = value.to_bytes(2, "big")


# ---- reading (README.md section 1) -------------------------------------------------------------------------


def parse(p: Packet) -> None:
    """Fills in what follows from the frame's bytes. Drop: it is not what it says it is."""
    there = min(len(p.frame), p.reach)
    if there < ETH:
        raise Drop("eth-short")
    ethertype, p.l3, p.tagged = u16(p.frame, 12), ETH, False
    if ethertype == TYPE_VLAN:
        if there < ETH + VLAN:
            raise Drop("eth-short")
        ethertype, p.l3, p.tagged = u16(p.frame, 16), ETH + VLAN, True
        if ethertype == TYPE_VLAN:
            raise Drop("vlan-stacked")
    if ethertype == TYPE_QINQ:
        raise Drop("vlan-stacked")
    p.family = p.proto = 0
    p.fragment = p.later = False
    if ethertype == TYPE_ARP:
        parse_arp(p, there)
    elif ethertype == TYPE_IP4:
        parse_ip4(p, there)
        parse_l4(p, there)
    elif ethertype == TYPE_IP6:
        parse_ip6(p, there)
        parse_l4(p, there)
    else:
        raise Drop("ethertype")


def parse_arp(p: Packet, there: int) -> None:
    p.kind = "arp"
    for_ethernet = p.frame[p.l3 : p.l3 + 6] == bytes.fromhex("000108000604")
    if there < p.l3 + ARP_LEN or not for_ethernet or u16(p.frame, p.l3 + 6) not in (1, 2):
        raise Drop("arp-malformed")
    p.l4 = p.end = p.l3 + ARP_LEN


def parse_ip4(p: Packet, there: int) -> None:
    p.kind, p.family = "ip", 4
    if there < p.l3 + IP4_LEN:
        raise Drop("ip-short")
    if p.frame[p.l3] >> 4 != 4:
        raise Drop("ip-version")
    header = (p.frame[p.l3] & 15) * 4
    if header < IP4_LEN or p.l3 + header > there:
        raise Drop("ip-header-length")
    total = u16(p.frame, p.l3 + 2)
    if total < header or p.l3 + total > len(p.frame):
        raise Drop("ip-length")
    p.l4, p.end, p.proto = p.l3 + header, p.l3 + total, p.frame[p.l3 + 9]
    flags = u16(p.frame, p.l3 + 6)
    note_fragment(p, more=bool(flags & 0x2000), offset=flags & 0x1FFF, longest=65535 - 20)
    p.fragment = p.later or bool(flags & 0x2000)


def note_fragment(p: Packet, more: bool, offset: int, longest: int) -> None:
    """p.l4 is where the fragment's payload begins. longest: bytes that all fragments may make up together."""
    payload = p.end - p.l4
    if more and (payload == 0 or payload % 8 != 0):
        raise Drop("ip-fragment")
    if (more or offset) and offset * 8 + payload > longest:
        raise Drop("ip-fragment")
    p.later = offset > 0


def parse_ip6(p: Packet, there: int) -> None:
    p.kind, p.family = "ip", 6
    if there < p.l3 + IP6_LEN:
        raise Drop("ip-short")
    if p.frame[p.l3] >> 4 != 6:
        raise Drop("ip-version")
    p.l4, p.proto = p.l3 + IP6_LEN, p.frame[p.l3 + 6]
    p.end = p.l4 + u16(p.frame, p.l3 + 4)
    if p.end > len(p.frame):
        raise Drop("ip-length")
    headers = 0
    while p.proto in EXTENSIONS and not p.later:
        headers += 1
        at, end = p.l4, min(p.end, there)
        if headers > 8 or at + 8 > end:
            raise Drop("ip6-extension")
        kind, p.proto = p.proto, p.frame[at]
        p.l4 = at + extension_length(kind, p.frame[at + 1])
        if p.l4 > end:
            raise Drop("ip6-extension")
        if kind == FRAGMENT:
            word = u16(p.frame, at + 2)
            note_fragment(p, more=bool(word & 1), offset=word >> 3, longest=65535)
            p.fragment = True


def extension_length(kind: int, field: int) -> int:
    """Bytes of an IPv6 extension header with this length field (RFC 8200 section 4, RFC 4302 section 2.2)."""
    if kind == FRAGMENT:
        return 8
    if kind == AUTHENTICATION:
        return (field + 2) * 4
    return (field + 1) * 8


def parse_l4(p: Packet, there: int) -> None:
    if p.later:
        return
    header = p.frame[p.l4 : min(p.end, there)]
    if len(header) < L4_LENGTHS.get((p.family, p.proto), 0):
        raise Drop("l4-short")
    if p.proto == TCP:
        length = (header[12] >> 4) * 4
        if length < 20 or length > len(header):
            raise Drop("l4-length")
    if p.proto == UDP:
        length = u16(header, 4)
        if length < 8 or (length > p.end - p.l4 and not p.fragment):
            raise Drop("l4-length")


def vlan_of(p: Packet) -> int:
    """A tag's VLAN. 0: none, the tag has a priority alone (IEEE 802.1Q section 9.6)."""
    return u16(p.frame, ETH) & 0xFFF


def strip_tag(p: Packet) -> None:
    """Takes the 802.1Q tag out (RFC 7637 section 3.3)."""
    del p.frame[12 : 12 + VLAN]
    p.csum_start -= VLAN
    p.reach -= VLAN
    parse(p)


def check_offload(p: Packet) -> None:
    """README.md 1.6: TCP's and UDP's own stays as it is; any other partial checksum is completed here."""
    own = (
        p.partial
        and not p.fragment
        and (p.proto, p.csum_offset) in ((TCP, 16), (UDP, 6))
        and p.kind == "ip"
        and p.csum_start == p.l4
    )
    if p.gso != GSO_NONE:
        family = 4 if p.gso == GSO_TCP4 else 6
        if not own or p.proto != TCP or p.family != family or p.gso_size * 1365 < p.end - p.l4:
            raise Drop("bad-offload")
    if not p.partial or own:
        return
    behind = p.csum_start + p.csum_offset + (4 if is_crc32c(p) else 2)
    if p.kind != "ip" or p.csum_start < p.l4 or behind > min(p.end, p.reach):
        raise Drop("bad-offload")
    finish_checksum(p)


# ---- sums --------------------------------------------------------------------------------------------------


def fold(total: int) -> int:
    """One's-complement sum of 16 bits: 0 only of 0."""
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def total(data: bytes | bytearray) -> int:
    """Plain sum of big-endian 16-bit words; an odd last byte counts as if a zero followed."""
    even = bytes(data) + bytes(len(data) % 2)
    return sum(struct.unpack(f">{len(even) // 2}H", even))


def checksum(data: bytes | bytearray) -> int:
    """RFC 1071."""
    return 0xFFFF - fold(total(data))


def updated(field: int, old: bytes, new: bytes) -> int:
    """The checksum field after `old` became `new`: RFC 1624 equation 3, HC' = ~(~HC + ~m + m')."""
    return 0xFFFF - fold((0xFFFF - field) + (0xFFFF - fold(total(old))) + total(new))


def update16(data: bytearray, at: int, old: bytes, new: bytes) -> None:
    put16(data, at, updated(u16(data, at), old, new))


def pseudo_header(p: Packet, length: int) -> bytes:
    return p.source + p.destination + struct.pack(">IHH", length, 0, p.proto)


def crc32c(data: bytes, crc: int) -> int:
    """Castagnoli's polynomial, bit by bit, reflected; no final xor."""
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc


def flowid(p: Packet) -> int:
    """RFC 7637 section 3.2: the last 8 bits of the key, the same for all packets of a flow. 0 if not IP."""
    if p.kind != "ip":
        return 0
    ports = bytes(4)
    if p.proto in (TCP, UDP, SCTP) and not p.fragment and p.l4 + 4 <= min(p.end, p.reach):
        ports = bytes(p.frame[p.l4 : p.l4 + 4])
    crc = crc32c(p.source + p.destination + bytes((p.proto, 0, 0, 0)) + ports, 0)
    return crc >> 24 ^ crc >> 16 & 0xFF ^ crc >> 8 & 0xFF ^ crc & 0xFF


def is_crc32c(p: Packet) -> bool:
    return p.proto == SCTP and p.csum_start == p.l4 and p.csum_offset == 8


def finish_checksum(p: Packet) -> None:
    """Completes a partial checksum: the field holds the pseudo header's sum so far."""
    at = p.csum_start + p.csum_offset
    if is_crc32c(p):
        p.frame[at : at + 4] = bytes(4)
        crc = crc32c(bytes(p.frame[p.csum_start : p.end]), 0xFFFFFFFF)
        p.frame[at : at + 4] = (crc ^ 0xFFFFFFFF).to_bytes(4, "little")
    else:
        zero = 0xFFFF if p.csum_offset == 6 else 0  # in UDP a field of 0 means that there is none
        put16(p.frame, at, checksum(p.frame[p.csum_start : p.end]) or zero)
    p.partial = False


# ---- writing -----------------------------------------------------------------------------------------------


def rewrite_addresses(p: Packet, source: bytes, destination: bytes) -> None:
    """IP rewrite: both addresses, and every checksum that covers them by RFC 1624."""
    old, new = p.source + p.destination, source + destination
    at = p.l3 + (12 if p.family == 4 else 8)
    p.frame[at : at + len(new)] = new
    if p.family == 4:
        update16(p.frame, p.l3 + 10, old, new)
    if p.later or (p.family, p.proto) not in CHECKSUM_OFFSETS:
        return
    at = p.l4 + CHECKSUM_OFFSETS[p.family, p.proto]
    if at + 2 > min(p.end, p.reach):
        return
    field = u16(p.frame, at)
    if p.partial:  # a sum, not yet a complement
        put16(p.frame, at, fold(field + (0xFFFF - fold(total(old))) + total(new)))
    elif p.proto in (UDP, UDP_LITE):
        if field != 0 or p.proto == UDP_LITE:
            put16(p.frame, at, updated(field, old, new) or 0xFFFF)
    else:
        put16(p.frame, at, updated(field, old, new))


def decrement_ttl(p: Packet) -> None:
    if p.family == 6:
        p.frame[p.l3 + 7] -= 1
        return
    at = p.l3 + 8
    old = bytes(p.frame[at : at + 2])
    p.frame[at] -= 1
    update16(p.frame, p.l3 + 10, old, bytes(p.frame[at : at + 2]))


def largest_ip_length(p: Packet) -> int:
    """Bytes of the IP packet, of the largest segment's if it has to be cut."""
    if p.gso == GSO_NONE:
        return p.end - p.l3
    headers = p.l4 + (p.frame[p.l4 + 12] >> 4) * 4
    return headers - p.l3 + min(p.gso_size, p.end - headers)


def segments(p: Packet) -> Iterator[Packet]:
    """A super-packet as the TCP packets it stands for, checksums complete, no Ethernet padding."""
    for segment in cut(p, 1):
        segment.gso, segment.gso_size = GSO_NONE, 0
        finish_checksum(segment)
        yield segment


def parts(p: Packet) -> list[Packet]:
    """A super-packet of very many segments as several, README.md 1.6.8; anything else as it is."""
    if p.gso == GSO_NONE:
        return [p]
    parsed = copy(p)
    try:
        parse(parsed)
        check_offload(parsed)
    except Drop:
        return [p]
    return list(cut(parsed, PART_SEGMENTS)) if len(list(segments(parsed))) > PART_SEGMENTS else [p]


def cut(p: Packet, segments: int) -> Iterator[Packet]:
    """A super-packet in pieces of so many segments, offloads as they were."""
    headers = p.l4 + (p.frame[p.l4 + 12] >> 4) * 4
    payload, size = p.frame[headers : p.end], segments * p.gso_size
    count = max(1, -(-len(payload) // size))
    for i in range(count):
        piece = copy(p)
        piece.frame = p.frame[:headers] + payload[i * size : (i + 1) * size]
        piece.end = len(piece.frame)
        piece.slots = slots_of(len(piece.frame))
        set_segment_ip(piece, i * segments)
        set_segment_tcp(piece, i * size, first=i == 0, last=i == count - 1)
        shorten_pseudo_sum(piece, p.end - p.l4, piece.end - piece.l4)
        yield piece


def shorten_pseudo_sum(s: Packet, before: int, after: int) -> None:
    """The pseudo header's sum that a partial checksum begins with, after the TCP length in it has changed."""
    at = s.l4 + 16
    old, new = struct.pack(">I", before), struct.pack(">I", after)
    put16(s.frame, at, fold(u16(s.frame, at) + (0xFFFF - fold(total(old))) + total(new)))


def set_segment_ip(s: Packet, index: int) -> None:
    """Lengths; in IPv4 the identification counts up, and the header checksum follows both."""
    if s.family == 6:
        put16(s.frame, s.l3 + 4, s.end - s.l3 - IP6_LEN)
        return
    old = bytes(s.frame[s.l3 + 2 : s.l3 + 6])
    put16(s.frame, s.l3 + 2, s.end - s.l3)
    put16(s.frame, s.l3 + 4, (u16(s.frame, s.l3 + 4) + index) & 0xFFFF)
    update16(s.frame, s.l3 + 10, old, bytes(s.frame[s.l3 + 2 : s.l3 + 6]))


def set_segment_tcp(s: Packet, before: int, first: bool, last: bool) -> None:
    """before: payload bytes in earlier segments. FIN and PSH are the last's, CWR the first's (RFC 3168)."""
    sequence = int.from_bytes(s.frame[s.l4 + 4 : s.l4 + 8], "big") + before
    s.frame[s.l4 + 4 : s.l4 + 8] = (sequence & 0xFFFFFFFF).to_bytes(4, "big")
    if not last:
        s.frame[s.l4 + 13] &= ~0x09
    if not first:
        s.frame[s.l4 + 13] &= ~0x80


# ---- frames made here --------------------------------------------------------------------------------------


def ip_header(source: bytes, destination: bytes, proto: int, payload: int, tos: int, ttl: int) -> bytes:
    """IPv4 with DF and identification 0, or IPv6 with flow label 0. payload: bytes that follow."""
    if len(source) == 16:
        return struct.pack(">IHBB", 6 << 28 | tos << 20, payload, proto, ttl) + source + destination
    length, dont_fragment = IP4_LEN + payload, 0x4000
    header = (
        struct.pack(">BBHHHBBH", 0x45, tos, length, 0, dont_fragment, ttl, proto, 0) + source + destination
    )
    return header[:10] + checksum(header).to_bytes(2, "big") + header[12:]


def nvgre(
    inner: bytes, source: bytes, destination: bytes, vsid: int, flow: int, tos: int, ttl: int = 64
) -> bytes:
    """The outer frame from its EtherType on, MACs to come (RFC 7637 section 3.2)."""
    gre = struct.pack(">HHI", 0x2000, 0x6558, vsid << 8 | flow) + inner
    ethertype = TYPE_IP4 if len(source) == 4 else TYPE_IP6
    return ethertype.to_bytes(2, "big") + ip_header(source, destination, GRE, len(gre), tos, ttl) + gre


class Arp(NamedTuple):
    op: int
    sender_mac: bytes
    sender: bytes
    target: bytes


def read_arp(p: Packet) -> Arp:
    body = bytes(p.frame[p.l3 : p.end])
    return Arp(u16(body, 6), body[8:14], body[14:18], body[24:28])


def arp(op: int, to: bytes, sender: tuple[bytes, bytes], target: tuple[bytes, bytes]) -> bytes:
    """An ARP frame to a MAC; sender, target: MAC and address in the body."""
    body = struct.pack(">HHBBH", 1, TYPE_IP4, 6, 4, op) + sender[0] + sender[1] + target[0] + target[1]
    return to + sender[0] + TYPE_ARP.to_bytes(2, "big") + body


def arp_reply(p: Packet, mac: bytes) -> bytes:
    """The request's target is at this MAC: told to where the request came from."""
    request = read_arp(p)
    return arp(2, p.source_mac, (mac, request.target), (request.sender_mac, request.sender))


def nd(macs: tuple[bytes, bytes], source: bytes, destination: bytes, message: bytes) -> bytes:
    """An ND frame; macs: destination and source; message: ICMPv6 with checksum 0."""
    pseudo = source + destination + struct.pack(">II", len(message), ICMP6)
    message = message[:2] + checksum(pseudo + message).to_bytes(2, "big") + message[4:]
    header = ip_header(source, destination, ICMP6, len(message), 0, 255)
    return macs[0] + macs[1] + TYPE_IP6.to_bytes(2, "big") + header + message


def advertisement(target: bytes, mac: bytes, asker: tuple[bytes, bytes], router: bool) -> bytes:
    """The answer to a neighbour solicitation by asker (MAC, address) (RFC 4861 section 7.2.4)."""
    flags = 0x20 | (0x80 if router else 0) | (0x40 if asker[1] != ANY6 else 0)
    message = struct.pack(">BBHI", 136, 0, 0, flags << 24) + target + b"\x02\x01" + mac
    if asker[1] == ANY6:
        return nd((ALL_NODES_MAC, mac), target, ALL_NODES, message)
    return nd((asker[0], mac), target, asker[1], message)


def eui64(mac: bytes) -> bytes:
    """The link-local address made of a MAC (RFC 4291 appendix A)."""
    return b"\xfe\x80" + bytes(6) + bytes((mac[0] ^ 2,)) + mac[1:3] + b"\xff\xfe" + mac[3:6]


def is_host(address: bytes) -> bool:
    """A destination that may lie beyond the link."""
    ip = ip_address(address)
    above = ip.version == 4 and address[0] >= 0xE0
    return not (ip.is_unspecified or ip.is_loopback or ip.is_multicast or above)


def is_link_local(address: bytes) -> bool:
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80


def is_echo_request(p: Packet) -> bool:
    """One that can be answered in place: no fragment, no IPv4 options."""
    if p.fragment or p.kind != "ip" or p.proto != (ICMP if p.family == 4 else ICMP6):
        return False
    request = b"\x08\x00" if p.family == 4 else b"\x80\x00"
    return p.frame[p.l4 : p.l4 + 2] == request and (p.family == 6 or p.l4 - p.l3 == IP4_LEN)


def to_echo_reply(p: Packet, mac: bytes) -> None:
    """Turns a request round: back to where it came from, from `mac`, checksums by RFC 1624."""
    p.set_macs(p.source_mac, mac)
    at = p.l3 + (12 if p.family == 4 else 8)
    both = p.destination + p.source
    p.frame[at : at + len(both)] = both
    if p.family == 4:
        old = bytes(p.frame[p.l3 + 8 : p.l3 + 10])
        p.frame[p.l3 + 8] = 64
        update16(p.frame, p.l3 + 10, old, bytes(p.frame[p.l3 + 8 : p.l3 + 10]))
    else:
        p.frame[p.l3 + 7] = 64
    old = bytes(p.frame[p.l4 : p.l4 + 2])
    p.frame[p.l4] = 0 if p.family == 4 else 129
    update16(p.frame, p.l4 + 2, old, bytes(p.frame[p.l4 : p.l4 + 2]))


def is_icmp_error(p: Packet) -> bool:
    """An ICMP message that quotes a packet."""
    if p.later:
        return False
    if p.family == 4 and p.proto == ICMP:
        return p.frame[p.l4] in (3, 4, 5, 11, 12)
    return p.family == 6 and p.proto == ICMP6 and p.frame[p.l4] < 128


def has_route_option(p: Packet) -> bool:
    """An IPv4 option that provider routers would act on, or one that does not fit."""
    options = bytes(p.frame[p.l3 + IP4_LEN : p.l4]) if p.family == 4 else b""
    while options and options[0] != 0:
        length = 1 if options[0] == 1 else options[1] if len(options) > 1 else 0
        if options[0] in ROUTE_OPTIONS or length > len(options) or (options[0] != 1 and length < 2):
            return True
        options = options[length:]
    return False


def link_layer_option(p: Packet) -> bytes | None:
    """The MAC in an ND message's link-layer address option, None without one. Drop: it is not valid."""
    kind, code = p.frame[p.l4], p.frame[p.l4 + 1]
    message = bytes(p.frame[p.l4 : p.end])
    if p.fragment or p.ttl != 255 or code != 0 or p.end > p.reach:
        raise Drop("nd-malformed")
    if fold(total(pseudo_header(p, len(message))) + total(message)) != 0xFFFF:
        raise Drop("nd-malformed")
    if kind in (134, 137):
        return None
    fixed = 8 if kind == 133 else 24
    if len(message) < fixed or (kind != 133 and message[8] == 0xFF):
        raise Drop("nd-malformed")
    wanted, mac = 2 if kind == 136 else 1, None
    at = fixed
    while at < len(message):
        if at + 2 > len(message) or message[at + 1] == 0 or at + message[at + 1] * 8 > len(message):
            raise Drop("nd-malformed")
        if message[at] == wanted:
            mac = mac or message[at + 2 : at + 8]
        at += message[at + 1] * 8
    if mac and kind == 135 and p.source == ANY6:
        raise Drop("nd-malformed")
    return mac
