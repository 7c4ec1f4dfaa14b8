"""Of the naive twin: checksums, and the hash of a flow."""

import struct

from dataplane.twin.packet import SCTP, TCP, UDP, Packet, put16, u16


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
