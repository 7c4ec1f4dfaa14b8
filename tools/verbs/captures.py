"""Capture files of Ethernet: pcap (us or ns, either byte order) and pcapng in, nanosecond pcap out.

Packets are (ns since the epoch, frame). Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng; what is
said of a file that is no use is what libpcap says, as people know it from tcpdump.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import SEEK_CUR
from typing import BinaryIO

Packet = tuple[int, bytes]

SECOND = 1_000_000_000

_ETHERNET = 1
_LINK_TYPES = {
    0: "NULL",
    9: "PPP",
    101: "RAW",
    105: "IEEE802_11",
    113: "LINUX_SLL",
    127: "IEEE802_11_RADIO",
    228: "IPV4",
    229: "IPV6",
    253: "NETLINK",
    276: "LINUX_SLL2",
}
_LONGEST = 262_144
"""Bytes of a packet; a file that says more is damaged."""
_LAST = (1 << 32) * SECOND - 1


class CaptureError(Exception):
    """Whoever chose the capture file must act."""


def read(file: BinaryIO, name: str) -> Iterator[Packet]:
    """The packets of a capture file. CaptureError, at once: no capture file of Ethernet; later, with name and
    the packet's number: damaged, or the packet is not whole."""
    magic = file.read(4)
    if len(magic) < 4:
        raise CaptureError(f"truncated dump file; tried to read 4 file header bytes, only got {len(magic)}")
    if magic == _SECTION_MAGIC:
        file.seek(-len(magic), SEEK_CUR)
        return _Pcapng(file).packets(name)
    for order in "<>":
        (number,) = struct.unpack(order + "I", magic)
        if number in _PCAP_KINDS:
            return _pcap(file, name, order, *_PCAP_KINDS[number])
    raise CaptureError("unknown file format")


def _check_link_type(link_type: int) -> None:
    if link_type != _ETHERNET:
        raise CaptureError(f"link type {_LINK_TYPES.get(link_type, link_type)}, not Ethernet")


def _problem(captured: int, length: int) -> str:
    """Why captured != length, or the time is none of a capture file."""
    if captured != length:
        return f"snapped to {captured} of {length} bytes"
    return "a timestamp that a capture file can't hold"


# ---- pcap --------------------------------------------------------------------------------------------------

_PCAP_KINDS = {0xA1B2_C3D4: (1000, "IIII"), 0xA1B2_3C4D: (1, "IIII"), 0xA1B2_CD34: (1000, "IIII8x")}
"""Magic -> ns of a step of the fraction, and a packet's header: seconds, fraction, captured, length."""
_PCAP_HEADER = "HHiIII"
_PCAP_LINK_TYPE = 0x03FF_FFFF
"""The bits above say how long the frame check sequence is."""


def _pcap(file: BinaryIO, name: str, order: str, unit: int, record: str) -> Iterator[Packet]:
    header = struct.Struct(order + _PCAP_HEADER)
    data = file.read(header.size)
    if len(data) < header.size:
        sizes = f"tried to read {header.size + 4} file header bytes, only got {len(data)}"
        raise CaptureError(f"truncated dump file; {sizes}")
    major, minor, *_, link_type = header.unpack(data)
    if (
        major != 2 or minor > 4
    ):  # below 2.3 the two lengths are exchanged, which are the same of a whole packet
        raise CaptureError(f"unsupported pcap savefile version {major}.{minor}")
    _check_link_type(link_type & _PCAP_LINK_TYPE)
    return _pcap_packets(file, name, struct.Struct(order + record), unit)


def _pcap_packets(file: BinaryIO, name: str, record: struct.Struct, unit: int) -> Iterator[Packet]:
    read, unpack, size = file.read, record.unpack, record.size
    number = 0
    while header := read(size):
        number += 1
        if len(header) < size:
            raise CaptureError(f"{name}, packet {number}: {_truncated(size, 'header', header)}")
        seconds, fraction, captured, length = unpack(header)
        if captured > _LONGEST:
            raise CaptureError(f"{name}, packet {number}: {_too_long(captured)}")
        data = read(captured)
        time = seconds * SECOND + fraction * unit
        if len(data) < captured:
            raise CaptureError(f"{name}, packet {number}: {_truncated(captured, 'captured', data)}")
        if captured != length or time > _LAST:
            raise CaptureError(f"{name}, packet {number}: {_problem(captured, length)}")
        yield time, data


def _truncated(wanted: int, what: str, got: bytes) -> str:
    return f"truncated dump file; tried to read {wanted} {what} bytes, only got {len(got)}"


def _too_long(captured: int) -> str:
    return f"invalid packet capture length {captured}, bigger than maximum of {_LONGEST}"


# ---- pcapng ------------------------------------------------------------------------------------------------

_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET = 0x0A0D_0D0A, 1, 2, 3, 6
_PACKETS = (_PACKET, _SIMPLE_PACKET, _OLD_PACKET)
_SECTION_MAGIC = _SECTION.to_bytes(4, "big")
"""The same in both byte orders."""
_BYTE_ORDER = 0x1A2B_3C4D
_LONGEST_BLOCK = 16 << 20
_END_OF_OPTIONS, _IF_TSRESOL, _IF_TSOFFSET = 0, 9, 14


@dataclass(frozen=True)
class _Interface:
    """per_second: timestamp steps. offset: seconds to add. snap_length: bytes, 0 for no limit."""

    snap_length: int
    per_second: int = 1_000_000
    offset: int = 0

    def time(self, timestamp: int) -> int:
        return timestamp * SECOND // self.per_second + self.offset * SECOND


class _Pcapng:
    """One file, at its start. A section may be in another byte order than the one before."""

    def __init__(self, file: BinaryIO) -> None:
        self._read = file.read
        self._interfaces: list[_Interface] = []
        self._blocks = self._all_blocks()
        for kind, body in self._blocks:
            if kind in _PACKETS:
                text = "the capture file has a packet block before any Interface Description Blocks"
                raise CaptureError(text)
            self._note(kind, body)
            if self._interfaces:
                return
        raise CaptureError("the capture file has no Interface Description Blocks")

    def packets(self, name: str) -> Iterator[Packet]:
        number = 1
        try:
            for kind, body in self._blocks:
                if kind in _PACKETS:
                    yield self._packet(kind, body)
                    number += 1
                else:
                    self._note(kind, body)
        except CaptureError as error:
            raise CaptureError(f"{name}, packet {number}: {error}") from None

    def _all_blocks(self) -> Iterator[tuple[int, bytes]]:
        """(block type, body)"""
        read = self._read
        while start := read(8):
            if start[:4] == _SECTION_MAGIC:
                start += read(4)
                self._set_order(start[8:])
            if len(start) < 8:
                raise _cut(8, len(start))
            kind, total = self._head.unpack_from(start)
            left = total - len(start)
            if left < 4 or total % 4 or total > _LONGEST_BLOCK:
                raise CaptureError(f"block in pcapng dump file has a length of {total}")
            rest = read(left)
            if len(rest) < left:
                raise _cut(left, len(rest))
            if rest[-4:] != start[4:8]:
                raise CaptureError(f"block total length in header {total} and trailer don't match")
            yield kind, start[8:] + rest[:-4]

    def _set_order(self, magic: bytes) -> None:
        orders = [o for o in "<>" if magic == struct.pack(o + "I", _BYTE_ORDER)]
        if not orders:
            raise CaptureError("unknown file format")
        self._order = orders[0]
        self._head = struct.Struct(self._order + "II")
        self._enhanced = struct.Struct(self._order + "IIIII")

    def _note(self, kind: int, body: bytes) -> None:
        """A block that is no packet."""
        if kind == _INTERFACE:
            self._interfaces.append(self._interface(body))
        elif kind == _SECTION:
            major, minor = self._fields("HH", kind, body, 4)
            if major != 1 or minor not in (0, 2):
                raise CaptureError(f"unsupported pcapng savefile version {major}.{minor}")
            self._interfaces = []

    def _interface(self, body: bytes) -> _Interface:
        link_type, _, snap_length = self._fields("HHI", _INTERFACE, body)
        _check_link_type(link_type)
        per_second, offset, at = 1_000_000, 0, 8
        while at < len(body):
            code, length = self._fields("HH", _INTERFACE, body, at)
            if code == _END_OF_OPTIONS:
                break
            if code == _IF_TSRESOL:
                (power,) = self._fields("B", _INTERFACE, body, at + 4)
                per_second = 2 ** (power & 0x7F) if power & 0x80 else 10**power
            elif code == _IF_TSOFFSET:
                (offset,) = self._fields("q", _INTERFACE, body, at + 4)
            at += 4 + (length + 3) // 4 * 4
        return _Interface(snap_length, per_second, offset)

    def _packet(self, kind: int, body: bytes) -> Packet:
        number, high, low, start = 0, 0, 0, 20
        if kind == _PACKET and len(body) >= start:
            number, high, low, captured, length = self._enhanced.unpack_from(body)
        elif kind == _OLD_PACKET:
            number, _, high, low, captured, length = self._fields("HHIIII", kind, body)
        else:  # _SIMPLE_PACKET, of the first interface and at no time; or one that is too short
            start = 4
            (length,) = self._fields("I" if kind == _SIMPLE_PACKET else "IIIII", kind, body)
            captured = min(length, self._interfaces[0].snap_length or length) if self._interfaces else 0
        if number >= len(self._interfaces):
            text = "but there's no Interface Description Block for that interface"
            raise CaptureError(f"a packet arrived on interface {number}, {text}")
        if captured > _LONGEST:
            raise CaptureError(_too_long(captured))
        data = body[start : start + captured]
        if len(data) < captured:
            raise _too_short(kind)
        time = self._interfaces[number].time(high << 32 | low)
        if captured != length or not 0 <= time <= _LAST:
            raise CaptureError(_problem(captured, length))
        return time, data

    def _fields(self, layout: str, kind: int, body: bytes, at: int = 0) -> tuple[int, ...]:
        fields = struct.Struct(self._order + layout)
        if len(body) < at + fields.size:
            raise _too_short(kind)
        return fields.unpack_from(body, at)


def _cut(wanted: int, got: int) -> CaptureError:
    return CaptureError(f"truncated pcapng dump file; tried to read {wanted} bytes, only got {got}")


def _too_short(kind: int) -> CaptureError:
    return CaptureError(f"block of type {kind} in pcapng dump file is too short")


# ---- out ---------------------------------------------------------------------------------------------------

_FILE_HEADER = struct.pack("<IHHiIII", 0xA1B2_3C4D, 2, 4, 0, 0, _LONGEST, _ETHERNET)
_RECORD = struct.Struct("<IIII")


class Writer:
    """A capture file that is written: the header at once, then packets in the order they are given."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        file.write(_FILE_HEADER)

    def write(self, packets: Iterable[Packet]) -> None:
        pack = _RECORD.pack
        records = [pack(time // SECOND, time % SECOND, len(data), len(data)) + data for time, data in packets]
        self._file.write(b"".join(records))
