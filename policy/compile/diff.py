"""From the rows that a core has to the rows that it should have: the change sets that lead there. Pure.

Two ways from one to another, to be tried in this order; the core takes each change set whole or not at all,
and decides by itself where it builds it:

changing   what differs, put before what refers to it, then what is gone, the other way round. Every packet
           finds the old or the new row at every step, so a long list may be cut into several change sets.
replacing  for what can't be turned into the new by putting it over the old: all that depends on such a row
           goes with it and comes back, in one change set that packets see whole or not at all.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

import numpy as np

from dataplane.binding import tables as dp
from dataplane.binding.tables import (
    NO_ADDRESS,
    ROW_DTYPES,
    ROW_FORMATS,
    Op,
    RecordType,
    RowKind,
    Section,
    Translation,
    pack_rows,
)
from policy.compile.tables import SELF, Ids, Tables

Rows = Mapping[RowKind, Mapping[bytes, bytes]]
"""By kind and key; a row is its packed struct, its key the fields that the core tells rows apart by."""

Packed = Mapping[RowKind, bytes]
"""By kind, packed rows in canonical form, in any order: for a million of them."""

PUT_ORDER = (
    RowKind.PA,
    RowKind.PROVIDER_ROUTE,
    RowKind.SUBNET,
    RowKind.PREFIX,
    RowKind.PORT,
    RowKind.SOURCE,
    RowKind.MOVE,
    RowKind.RECORD,
    RowKind.ROUTE,
    RowKind.FLOOD,
)
"""What is referred to comes first; a move before its record follows, and until it has followed."""

BATCH_ROWS = 1 << 16
"""Rows of a change set where there may be several."""

_SELF = SELF.to_bytes(4, "little")


def _bytes_of(kind: RowKind, first: str, last: str = "") -> slice:
    """Where a field of a packed row is, or several side by side."""
    fields = ROW_DTYPES[kind].fields
    assert fields is not None
    end, at = fields[last or first][:2]
    return slice(fields[first][1], at + end.itemsize)


_PA_ADDRESS, _PA_FAMILY = _bytes_of(RowKind.PA, "address"), _bytes_of(RowKind.PA, "family")
_PA_PREFIX_LEN = _bytes_of(RowKind.PA, "prefix_len")
_PROVIDER_PREFIX = _bytes_of(RowKind.PROVIDER_ROUTE, "prefix")
_PROVIDER_LEN = _bytes_of(RowKind.PROVIDER_ROUTE, "family", "prefix_len")
_SUBNET_VSID, _SUBNET_RDID = _bytes_of(RowKind.SUBNET, "vsid"), _bytes_of(RowKind.SUBNET, "rdid")
_PREFIX, _PREFIX_VSID = _bytes_of(RowKind.PREFIX, "prefix"), _bytes_of(RowKind.PREFIX, "vsid")
_PREFIX_LEN = _bytes_of(RowKind.PREFIX, "family", "prefix_len")
_PORT, _PORT_VSID = _bytes_of(RowKind.PORT, "port"), _bytes_of(RowKind.PORT, "vsid")
_SOURCE_PORT = _bytes_of(RowKind.SOURCE, "port")
_MOVE, _MOVE_VSID = _bytes_of(RowKind.MOVE, "ca", "vsid"), _bytes_of(RowKind.MOVE, "vsid")
_MOVE_FAMILY = _bytes_of(RowKind.MOVE, "family")
_CA, _PA = _bytes_of(RowKind.RECORD, "ca"), _bytes_of(RowKind.RECORD, "provider_address")
_VSID, _HOST = _bytes_of(RowKind.RECORD, "vsid"), _bytes_of(RowKind.RECORD, "host")
_LOCAL_PORT, _FAMILY = _bytes_of(RowKind.RECORD, "port"), _bytes_of(RowKind.RECORD, "family")
_VSID_TO_FAMILY = _bytes_of(RowKind.RECORD, "vsid", "family")
_RECORD_PA_FAMILY = _bytes_of(RowKind.RECORD, "pa_family")
_TRANSLATION, _TYPE = _bytes_of(RowKind.RECORD, "translation"), _bytes_of(RowKind.RECORD, "type")
_ROUTE, _ROUTE_RDID = _bytes_of(RowKind.ROUTE, "prefix"), _bytes_of(RowKind.ROUTE, "rdid")
_ROUTE_VSID, _ROUTE_LEN = _bytes_of(RowKind.ROUTE, "vsid"), _bytes_of(RowKind.ROUTE, "family", "prefix_len")


_FLOOD, _FLOOD_VSID = _bytes_of(RowKind.FLOOD, "provider_address", "vsid"), _bytes_of(RowKind.FLOOD, "vsid")
_FLOOD_PA = _bytes_of(RowKind.FLOOD, "provider_address")
_FLOOD_FAMILY = _bytes_of(RowKind.FLOOD, "family")


def rows_of(tables: Tables, ids: Ids) -> Rows:
    """What the core of the tables' host should have."""
    return index(
        {kind: pack_rows(kind, rows) for kind, rows in zip(PUT_ORDER, tables.rows(ids), strict=True)}
    )


def index(packed: Packed, subnets: bytes | None = None) -> Rows:
    """Packed rows by their keys. subnets: the rows of all subnets, if packed may lack some."""
    split = {kind: list(_split(kind, packed.get(kind, b""))) for kind in PUT_ORDER}
    known = split[RowKind.SUBNET] if subnets is None else _split(RowKind.SUBNET, subnets)
    rdids = {row[_SUBNET_VSID]: row[_SUBNET_RDID] for row in known}
    return {
        RowKind.PA: {row[_PA_ADDRESS] + row[_PA_FAMILY]: row for row in split[RowKind.PA]},
        RowKind.PROVIDER_ROUTE: {
            row[_PROVIDER_PREFIX] + row[_PROVIDER_LEN]: row for row in split[RowKind.PROVIDER_ROUTE]
        },
        RowKind.SUBNET: {row[_SUBNET_VSID]: row for row in split[RowKind.SUBNET]},
        RowKind.PREFIX: {
            row[_PREFIX] + row[_PREFIX_LEN] + rdids[row[_PREFIX_VSID]]: row for row in split[RowKind.PREFIX]
        },
        RowKind.PORT: {row[_PORT]: row for row in split[RowKind.PORT]},
        RowKind.SOURCE: {row: row for row in split[RowKind.SOURCE]},
        RowKind.MOVE: {row[_MOVE] + row[_MOVE_FAMILY]: row for row in split[RowKind.MOVE]},
        RowKind.RECORD: {row[_CA] + row[_VSID] + row[_FAMILY]: row for row in split[RowKind.RECORD]},
        RowKind.ROUTE: {
            row[_ROUTE] + row[_ROUTE_RDID] + row[_ROUTE_LEN]: row for row in split[RowKind.ROUTE]
        },
        RowKind.FLOOD: {row[_FLOOD] + row[_FLOOD_FAMILY]: row for row in split[RowKind.FLOOD]},
    }


def pack(rows: Rows) -> dict[RowKind, bytes]:
    """The inverse of index, sorted."""
    return {kind: b"".join(sorted(rows[kind].values())) for kind in PUT_ORDER}


def canonical(kind: RowKind, row: bytes) -> bytes:
    """A row as the core exports it (dp_api.h): without what its tables don't keep."""
    if kind is RowKind.PA:
        return row[: _PA_PREFIX_LEN.start] + b"\0" + row[_PA_PREFIX_LEN.stop :]
    if kind is not RowKind.RECORD:
        return row
    local = row[_HOST] == _SELF and row[_TRANSLATION] == bytes((Translation.NVGRE,))
    pa, family = (NO_ADDRESS, b"\0") if local else (row[_PA], row[_RECORD_PA_FAMILY])
    wildcard = row[_TYPE] == bytes((RecordType.GATEWAY_WILDCARD,))
    kept = RecordType.GATEWAY_WILDCARD if wildcard else RecordType.STATIC
    known = row[_CA] + pa + row[_VSID_TO_FAMILY] + family + row[_TRANSLATION] + bytes((kept,))
    return known + row[_TYPE.stop :]


# ---- what differs ------------------------------------------------------------------------------------------


def is_same(old: Rows, new: Rows) -> bool:
    return not any(True for _ in _puts(old, new)) and not any(True for _ in _deletes(old, new))


def differing(old: Packed, new: Packed) -> tuple[Rows, Rows]:
    """The rows that only one of the two has."""
    parts = {kind: _only(kind, old.get(kind, b""), new.get(kind, b"")) for kind in PUT_ORDER}
    before = {kind: part for kind, (part, _) in parts.items()}
    after = {kind: part for kind, (_, part) in parts.items()}
    return index(before, old.get(RowKind.SUBNET, b"")), index(after, new.get(RowKind.SUBNET, b""))


def _only(kind: RowKind, old: bytes, new: bytes) -> tuple[bytes, bytes]:
    """What is in one of the two, by 64-bit hashes. Two rows of one hash, one of them in each, would be taken
    for the same; the digest that is compared afterwards could not tell them apart either.
    """
    one, other = dp.hashes(kind, old), dp.hashes(kind, new)
    row = f"V{ROW_FORMATS[kind].size}"
    return (
        np.frombuffer(old, row)[~np.isin(one, other)].tobytes(),
        np.frombuffer(new, row)[~np.isin(other, one)].tobytes(),
    )


def from_nothing(new: Packed, batch: int) -> list[tuple[Section, ...]]:
    """The sections of each change set that brings an empty core there. batch: rows of one."""
    return [
        (Section(kind, Op.PUT, new[kind][at : at + size * batch]),)
        for kind in PUT_ORDER
        for size in (ROW_FORMATS[kind].size,)
        for at in range(0, len(new.get(kind, b"")), size * batch)
    ]


def changing(old: Rows, new: Rows, batch: int = BATCH_ROWS) -> list[tuple[Section, ...]]:
    """The sections of each change set; none at all where nothing differs."""
    rows = [(kind, Op.PUT, row) for kind, row in _puts(old, new)]
    rows += [(kind, Op.DEL, row) for kind, row in _deletes(old, new)]
    rest = iter(rows)
    return [tuple(_sections(part)) for part in iter(lambda: list(islice(rest, batch)), [])]


def replacing(old: Rows, new: Rows) -> tuple[Section, ...]:
    """The sections of one atomic change set."""
    gone = _with_dependents(old, new)
    rows = [(kind, Op.DEL, row) for kind in reversed(PUT_ORDER) for row in gone[kind].values()]
    for kind in PUT_ORDER:
        left = old[kind].keys() - gone[kind].keys()
        rows += [(kind, Op.PUT, row) for key, row in new[kind].items() if key not in left]
    return tuple(_sections(rows))


def _puts(old: Rows, new: Rows) -> Iterator[tuple[RowKind, bytes]]:
    for kind in PUT_ORDER:
        there = old[kind]
        for key, row in new[kind].items():
            if there.get(key) != row and not _equal(kind, there.get(key), row):
                yield kind, row


def _deletes(old: Rows, new: Rows) -> Iterator[tuple[RowKind, bytes]]:
    for kind in reversed(PUT_ORDER):
        wanted = new[kind]
        for key, row in old[kind].items():
            if key not in wanted:
                yield kind, row


def _equal(kind: RowKind, old: bytes | None, new: bytes) -> bool:
    return old is not None and canonical(kind, old) == canonical(kind, new)


def _with_dependents(old: Rows, new: Rows) -> dict[RowKind, dict[bytes, bytes]]:
    """Old rows that are gone or differ, and all that can't stay without them."""
    gone = {
        kind: {key: row for key, row in old[kind].items() if not _stays(kind, row, new[kind].get(key))}
        for kind in PUT_ORDER
    }
    pas = {row[_PA_ADDRESS] for row in gone[RowKind.PA].values()}
    vsids = {row[_SUBNET_VSID] for row in gone[RowKind.SUBNET].values()}
    gone[RowKind.PORT] |= _where(old[RowKind.PORT], _PORT_VSID, vsids)
    ports = {row[_PORT] for row in gone[RowKind.PORT].values()}
    gone[RowKind.PREFIX] |= _where(old[RowKind.PREFIX], _PREFIX_VSID, vsids)
    gone[RowKind.SOURCE] |= _where(old[RowKind.SOURCE], _SOURCE_PORT, ports)
    gone[RowKind.MOVE] |= _where(old[RowKind.MOVE], _MOVE_VSID, vsids)
    gone[RowKind.RECORD] |= _where(old[RowKind.RECORD], _VSID, vsids)
    gone[RowKind.RECORD] |= _where(old[RowKind.RECORD], _PA, pas)
    gone[RowKind.RECORD] |= {
        key: row
        for key, row in _where(old[RowKind.RECORD], _LOCAL_PORT, ports).items()
        if row[_HOST] == _SELF
    }
    gone[RowKind.ROUTE] |= _where(old[RowKind.ROUTE], _ROUTE_VSID, vsids)
    gone[RowKind.FLOOD] |= _where(old[RowKind.FLOOD], _FLOOD_VSID, vsids)
    gone[RowKind.FLOOD] |= _where(old[RowKind.FLOOD], _FLOOD_PA, pas)
    return gone


def _stays(kind: RowKind, old: bytes, new: bytes | None) -> bool:
    return new is not None and _equal(kind, old, new)


def _where(rows: Mapping[bytes, bytes], field: slice, values: set[bytes]) -> dict[bytes, bytes]:
    return {key: row for key, row in rows.items() if row[field] in values} if values else {}


def _sections(rows: Iterable[tuple[RowKind, Op, bytes]]) -> Iterator[Section]:
    """Consecutive rows of one kind and operation are a section."""
    kind, op, packed = RowKind.PA, Op.PUT, bytearray()
    for row_kind, row_op, row in rows:
        if (row_kind, row_op) != (kind, op) and packed:
            yield Section(kind, op, bytes(packed))
            packed.clear()
        kind, op = row_kind, row_op
        packed += row
    if packed:
        yield Section(kind, op, bytes(packed))


def _split(kind: RowKind, packed: bytes) -> Iterator[bytes]:
    size = ROW_FORMATS[kind].size
    return (packed[at : at + size] for at in range(0, len(packed), size))
