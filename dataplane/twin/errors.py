"""Of the naive twin: ICMP errors about packets that the router refuses (README.md 2.15)."""

import struct
from copy import copy
from typing import NamedTuple

from dataplane.twin.packet import (
    AUTHENTICATION,
    FRAGMENT,
    GSO_NONE,
    ICMP,
    ICMP6,
    TCP,
    TYPE_IP4,
    TYPE_IP6,
    UDP,
    Drop,
    Packet,
)
from dataplane.twin.quote import is_icmp_error
from dataplane.twin.rewrite import largest_ip_length, segments
from dataplane.twin.sums import checksum, finish_checksum
from dataplane.twin.wire import ip_header, is_host

NO_NEXT_HEADER = 59
PER_SECOND, BURST = 100, 64
LONGEST = {4: 576, 6: 1280}
LEAST_MTU = {4: 68, 6: 1280}


class Error(NamedTuple):
    """info: the four bytes behind the checksum."""

    kind: int
    code: int
    info: int = 0


def error_about(p: Packet, drop: Drop, routed: bool) -> Error | None:
    """What the sender of a packet is told; p is as it was sent."""
    if p.later or is_icmp_error(p) or not is_host(p.source):
        return None
    v4 = p.family == 4
    if drop.reason == "ttl-exceeded":
        return Error(11, 0) if v4 else Error(3, 0)
    if drop.reason == "no-route":
        return Error(3, 0) if v4 else Error(1, 0)
    if drop.reason == "no-record" and routed:
        return Error(3, 1) if v4 else Error(1, 3)
    if drop.reason == "router-local":
        return at_gateway(p)
    if drop.reason == "too-big":
        return too_big(p, drop.mtu)
    return None


def at_gateway(p: Packet) -> Error | None:
    """Of what is no echo request."""
    if p.proto in (TCP, UDP):
        return Error(3, 3) if p.family == 4 else Error(1, 4)
    if p.family == 4:
        return None if p.proto == ICMP else Error(3, 2)
    return None if p.proto in (ICMP6, NO_NEXT_HEADER) else Error(4, 1, next_header(p))


def next_header(p: Packet) -> int:
    """Where the protocol stands, in bytes from the IPv6 header on."""
    packet = bytes(p.frame[p.l3 :])
    pointers, at, kind = [6], 40, packet[6]
    while p.l3 + at < p.l4:
        pointers.append(at)
        size = {FRAGMENT: 8, AUTHENTICATION: 4 * (packet[at + 1] + 2)}.get(kind, 8 * (packet[at + 1] + 1))
        kind, at = packet[at], at + size
    return pointers[-1]


def too_big(p: Packet, mtu: int) -> Error | None:
    if largest_ip_length(p) <= mtu:
        return None
    told = max(mtu, LEAST_MTU[p.family])
    if p.family == 6:
        return Error(2, 0, told)
    return Error(3, 4, told) if p.frame[p.l3 + 6] & 0x40 else None


def quoted(p: Packet) -> bytes:
    """The packet as it would have gone on, of a super-packet its first segment."""
    shown = copy(p) if p.gso == GSO_NONE else next(segments(p))
    shown.frame = bytearray(shown.frame)
    if shown.partial:
        finish_checksum(shown)
    return bytes(shown.frame[shown.l3 : shown.end])


def error_frame(p: Packet, error: Error, source: bytes, macs: tuple[bytes, bytes]) -> bytes:
    """From a gateway's address to the sender; macs: destination and source."""
    headers = 28 if p.family == 4 else 48
    quote = quoted(p)[: LONGEST[p.family] - headers]
    message = struct.pack(">BBHI", error.kind, error.code, 0, error.info) + quote
    if p.family == 4:
        header = ip_header(source, p.source, ICMP, len(message), 0xC0, 64)
        pseudo, ethertype = b"", TYPE_IP4
    else:
        header = ip_header(source, p.source, ICMP6, len(message), 0, 64)
        pseudo, ethertype = source + p.source + struct.pack(">II", len(message), ICMP6), TYPE_IP6
    message = message[:2] + checksum(pseudo + message).to_bytes(2, "big") + message[4:]
    return macs[0] + macs[1] + ethertype.to_bytes(2, "big") + header + message
