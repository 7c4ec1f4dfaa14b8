"""Change sets: typed rows in, the bytes that `Dataplane.apply` takes out.

Rows are the structs of dp_api.h, field for field in the same order, without their padding. Integers are
packed little-endian (the core runs on x86-64 only). Addresses are 16 bytes in network order, an IPv4 address
in the first four (`pack_address`); MACs are 6 bytes. A row is a tuple, so rows sort by their fields.
"""

import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from itertools import starmap
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Address = IPv4Address | IPv6Address
NO_ADDRESS = bytes(16)

_MAGIC = 0x314C5349
_VERSION = 2
_ATOMIC = 1
_HEADER = struct.Struct("<IHHQI4x")
_SECTION = struct.Struct("<HHI")


class RowKind(IntEnum):
    PA = 1
    PROVIDER_ROUTE = 2
    SUBNET = 3
    PREFIX = 4
    PORT = 5
    SOURCE = 6
    RECORD = 7
    ROUTE = 8
    MOVE = 9
    FLOOD = 10


class Op(IntEnum):
    PUT = 1
    DEL = 2


class PaKind(IntEnum):
    SHARED = 1
    REWRITE = 2


class Translation(IntEnum):
    NVGRE = 1
    REWRITE = 2


class RecordType(IntEnum):
    STATIC = 1
    DYNAMIC = 2
    L2ONLY = 3
    GATEWAY_WILDCARD = 4


class PaRow(NamedTuple):
    """Provider Address -> host. Key: address."""

    address: bytes
    host: int
    family: int
    kind: int
    prefix_len: int


class ProviderRouteRow(NamedTuple):
    """Route in PA space; next_hop NO_ADDRESS means on link. Key: prefix, prefix_len."""

    prefix: bytes
    next_hop: bytes
    family: int
    prefix_len: int


class SubnetRow(NamedTuple):
    """Virtual subnet -> routing domain, and how many packets to groups are copied in it. Key: vsid."""

    vsid: int
    rdid: int
    flood_per_second: int = 0
    flood_burst: int = 0


class PrefixRow(NamedTuple):
    """CA prefix on link in a subnet; gateway NO_ADDRESS: none. Key: rdid of the vsid, prefix, prefix_len."""

    prefix: bytes
    gateway: bytes
    vsid: int
    family: int
    prefix_len: int


class PortRow(NamedTuple):
    """Policy of a tenant port. Key: port. Rates of 0: no limit."""

    port: int
    vsid: int
    mac: bytes
    bytes_per_second: int = 0
    burst_bytes: int = 0
    packets_per_second: int = 0
    burst_packets: int = 0


class SourceRow(NamedTuple):
    """One more source prefix that a port may send from. Key: all of it."""

    prefix: bytes
    port: int
    family: int
    prefix_len: int


class RecordRow(NamedTuple):
    """Lookup record. Key: vsid, family, ca."""

    ca: bytes
    provider_address: bytes
    vsid: int
    host: int
    port: int
    mac: bytes
    family: int
    pa_family: int
    translation: int
    type: int


class RouteRow(NamedTuple):
    """Customer route by a next-hop CA in the same routing domain. Key: rdid, prefix, prefix_len."""

    prefix: bytes
    next_hop: bytes
    rdid: int
    vsid: int
    family: int
    prefix_len: int


class MoveRow(NamedTuple):
    """The record of (VSID, CA) is in a move: host is its home too. Key: vsid, family, ca."""

    ca: bytes
    vsid: int
    host: int
    family: int


class FloodRow(NamedTuple):
    """Another host that hears what is sent to a group in the VSID. Key: vsid, provider_address."""

    provider_address: bytes
    vsid: int
    host: int
    family: int


Row = (
    PaRow
    | ProviderRouteRow
    | SubnetRow
    | PrefixRow
    | PortRow
    | SourceRow
    | RecordRow
    | RouteRow
    | MoveRow
    | FloodRow
)

ROW_TYPES: dict[RowKind, type[Row]] = {
    RowKind.PA: PaRow,
    RowKind.PROVIDER_ROUTE: ProviderRouteRow,
    RowKind.SUBNET: SubnetRow,
    RowKind.PREFIX: PrefixRow,
    RowKind.PORT: PortRow,
    RowKind.SOURCE: SourceRow,
    RowKind.RECORD: RecordRow,
    RowKind.ROUTE: RouteRow,
    RowKind.MOVE: MoveRow,
    RowKind.FLOOD: FloodRow,
}
ROW_KINDS: dict[type[Row], RowKind] = {row_type: kind for kind, row_type in ROW_TYPES.items()}
ROW_FORMATS: dict[RowKind, struct.Struct] = {
    RowKind.PA: struct.Struct("<16sIBBB9x"),
    RowKind.PROVIDER_ROUTE: struct.Struct("<16s16sBB6x"),
    RowKind.SUBNET: struct.Struct("<IIII"),
    RowKind.PREFIX: struct.Struct("<16s16sIBB2x"),
    RowKind.PORT: struct.Struct("<II6s2xQQII"),
    RowKind.SOURCE: struct.Struct("<16sIBB2x"),
    RowKind.RECORD: struct.Struct("<16s16sIII6sBBBB10x"),
    RowKind.ROUTE: struct.Struct("<16s16sIIBB6x"),
    RowKind.MOVE: struct.Struct("<16sIIB7x"),
    RowKind.FLOOD: struct.Struct("<16sIIB7x"),
}

_NUMPY = {"Q": "<u8", "I": "<u4", "B": "u1"}


def _dtype(kind: RowKind) -> np.dtype[np.void]:
    """The fields where the struct has them; what is left of the row is padding."""
    layout = ROW_FORMATS[kind]
    formats, offsets, at = [], [], 0
    for count, code in re.findall(r"(\d*)([a-zA-Z])", layout.format):
        size = struct.calcsize(f"<{count}{code}")
        if code != "x":
            formats.append(_NUMPY.get(code, f"V{size}"))
            offsets.append(at)
        at += size
    names = list(ROW_TYPES[kind]._fields)
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": layout.size})


ROW_DTYPES: dict[RowKind, np.dtype[np.void]] = {kind: _dtype(kind) for kind in RowKind}
"""The structs for numpy; addresses are V16, MACs V6."""

Rows = npt.NDArray[np.void]
_Words = npt.NDArray[np.uint64]


def pack_address(address: Address) -> bytes:
    """The 16 bytes of an address field."""
    return address.packed.ljust(16, b"\0")


def unpack_address(field: bytes, family: int) -> Address:
    """The address in a 16-byte field; family is 4 or 6."""
    return IPv4Address(field[:4]) if family == 4 else IPv6Address(field)


def pack_rows(kind: RowKind, rows: Iterable[Row]) -> bytes:
    """Rows of one kind as the array of structs the core reads. struct.error: a field out of range."""
    return b"".join(starmap(ROW_FORMATS[kind].pack, rows))


def unpack_rows(kind: RowKind, packed: bytes) -> Iterator[Row]:
    """The inverse of pack_rows."""
    return starmap(ROW_TYPES[kind], ROW_FORMATS[kind].iter_unpack(packed))


def as_array(kind: RowKind, packed: bytes) -> Rows:
    """Packed rows as an array, read-only."""
    return np.frombuffer(packed, ROW_DTYPES[kind])


def canonical(kind: RowKind, rows: Rows, self_host: int) -> Rows:
    """A copy of rows as `Dataplane.rows` gives them once they are applied: what the tables of host self_host
    keep nothing of is written the same way always (dp_api.h, dp_rows_read)."""
    words = np.zeros(len(rows), ROW_DTYPES[kind])
    for name in ROW_TYPES[kind]._fields:
        words[name] = rows[name]
    if kind == RowKind.PA:
        words["prefix_len"] = 0
    if kind == RowKind.RECORD:
        zero = np.void(NO_ADDRESS)
        words["type"] = np.where(words["ca"] == zero, RecordType.GATEWAY_WILDCARD, RecordType.STATIC)
        homeless = (words["host"] == self_host) & (words["translation"] == Translation.NVGRE)
        words["provider_address"][homeless] = zero
        words["pa_family"][homeless] = 0
    return words


def _mix(words: _Words) -> _Words:
    """splitmix64."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ words >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ words >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return words ^ words >> np.uint64(31)


def hashes(kind: RowKind, packed: bytes) -> npt.NDArray[np.uint64]:
    """Of each row (dp_api.h, dp_digest)."""
    words = np.frombuffer(packed, "<u8").reshape(-1, ROW_FORMATS[kind].size // 8)
    found: _Words = np.full(len(words), kind, np.uint64)
    for column in words.T:
        found = _mix(found ^ column)
    return found


def digest(kind: RowKind, packed: bytes) -> int:
    """Of rows in canonical form, whatever their order: what `Dataplane.digest` says when the tables hold just
    these (dp_api.h, dp_digest)."""
    return int(hashes(kind, packed).sum(dtype=np.uint64))


@dataclass(frozen=True, slots=True)
class Section:
    """Rows of one kind to put or to delete, packed."""

    kind: RowKind
    op: Op
    packed: bytes

    def __len__(self) -> int:
        return len(self.packed) // ROW_FORMATS[self.kind].size

    def rows(self) -> Iterator[Row]:
        return unpack_rows(self.kind, self.packed)


def put(rows: Sequence[Row]) -> Section:
    """A section that puts rows, all of one kind and at least one."""
    kind = ROW_KINDS[type(rows[0])]
    return Section(kind, Op.PUT, pack_rows(kind, rows))


def delete(rows: Sequence[Row]) -> Section:
    """A section that deletes rows, all of one kind and at least one; only their key fields matter."""
    kind = ROW_KINDS[type(rows[0])]
    return Section(kind, Op.DEL, pack_rows(kind, rows))


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """What one push of policy alters. The core applies sections, and rows in them, in the order they stand:
    what is referred to comes before what refers to it, deletions the other way round."""

    generation: int
    sections: tuple[Section, ...]
    atomic: bool = False

    def encode(self) -> bytes:
        header = _HEADER.pack(_MAGIC, _VERSION, _ATOMIC * self.atomic, self.generation, len(self.sections))
        parts = [header]
        for section in self.sections:
            parts += (_SECTION.pack(section.kind, section.op, len(section)), section.packed)
        return b"".join(parts)

    @classmethod
    def decode(cls, encoded: bytes) -> "ChangeSet":
        """The inverse of encode(). ValueError or struct.error: not a change set."""
        magic, version, flags, generation, count = _HEADER.unpack_from(encoded)
        if (magic, version) != (_MAGIC, _VERSION):
            raise ValueError(f"not a change set: magic {magic:#x}, version {version}")
        sections = []
        at = _HEADER.size
        for _ in range(count):
            kind, op, rows = _SECTION.unpack_from(encoded, at)
            at += _SECTION.size
            end = at + rows * ROW_FORMATS[RowKind(kind)].size
            sections.append(Section(RowKind(kind), Op(op), encoded[at:end]))
            at = end
        if at != len(encoded):
            raise ValueError(f"a change set of {at} bytes in {len(encoded)} bytes")
        return cls(generation, tuple(sections), bool(flags & _ATOMIC))
