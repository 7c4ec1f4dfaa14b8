"""Of the naive twin: how a packet is rewritten, and cut."""

import struct
from collections.abc import Iterator
from copy import copy

from dataplane.twin.packet import (
    CHECKSUM_OFFSETS,
    GSO_NONE,
    IP6_LEN,
    PART_SEGMENTS,
    UDP,
    UDP_LEN,
    UDP_LITE,
    Drop,
    Packet,
    put16,
    slots_of,
    u16,
)
from dataplane.twin.parse import check_offload, parse
from dataplane.twin.sums import finish_checksum, fold, total, update16, updated


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
    headers = header_length(p)
    return headers - p.l3 + min(p.gso_size, p.end - headers)


def header_length(p: Packet) -> int:
    """Bytes of all headers of a super-packet."""
    return p.l4 + (UDP_LEN if p.proto == UDP else (p.frame[p.l4 + 12] >> 4) * 4)


def segments(p: Packet) -> Iterator[Packet]:
    """A super-packet as the packets it stands for, checksums complete, no Ethernet padding."""
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
    headers = header_length(p)
    payload, size = p.frame[headers : p.end], segments * p.gso_size
    count = max(1, -(-len(payload) // size))
    for i in range(count):
        piece = copy(p)
        piece.frame = p.frame[:headers] + payload[i * size : (i + 1) * size]
        piece.end = len(piece.frame)
        piece.slots = slots_of(len(piece.frame))
        set_segment_ip(piece, i * segments)
        if p.proto == UDP:
            put16(piece.frame, p.l4 + 4, piece.end - p.l4)
        else:
            set_segment_tcp(piece, i * size, first=i == 0, last=i == count - 1)
        shorten_pseudo_sum(piece, p.end - p.l4, piece.end - piece.l4)
        yield piece


def shorten_pseudo_sum(s: Packet, before: int, after: int) -> None:
    """The pseudo header's sum that a partial checksum begins with, after the L4 length in it has changed."""
    at = s.csum_start + s.csum_offset
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
