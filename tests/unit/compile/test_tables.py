import struct
from enum import IntEnum
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.binding import tables
from dataplane.binding._ffi import ffi, lib
from dataplane.binding.tables import ROW_FORMATS, ROW_TYPES, ChangeSet, Op, Row, RowKind, Section

STRUCTS = {kind: f"struct dp_row_{kind.name.lower()}" for kind in RowKind}


def field_values(kind: RowKind) -> dict[str, st.SearchStrategy[Any]]:
    values: dict[str, st.SearchStrategy[Any]] = {}
    for name, spec in ffi.typeof(STRUCTS[kind]).fields:
        if name == "pad":
            continue
        size = ffi.sizeof(spec.type)
        is_bytes = spec.type.kind == "array"
        values[name] = st.binary(min_size=size, max_size=size) if is_bytes else st.integers(0, 256**size - 1)
    return values


def rows(kind: RowKind) -> st.SearchStrategy[Row]:
    return st.builds(ROW_TYPES[kind], **field_values(kind))


@st.composite
def change_sets(draw: st.DrawFn) -> ChangeSet:
    sections = []
    for kind in draw(st.lists(st.sampled_from(RowKind), max_size=4)):
        make = draw(st.sampled_from((tables.put, tables.delete)))
        sections.append(make(draw(st.lists(rows(kind), min_size=1, max_size=3))))
    return ChangeSet(draw(st.integers(0, 2**64 - 1)), tuple(sections), draw(st.booleans()))


@pytest.mark.parametrize("kind", RowKind)
def test_row_fields_are_those_of_the_struct(kind: RowKind) -> None:
    fields = [name for name, _ in ffi.typeof(STRUCTS[kind]).fields if name != "pad"]
    assert list(ROW_TYPES[kind]._fields) == fields
    assert ROW_FORMATS[kind].size == ffi.sizeof(STRUCTS[kind])


@pytest.mark.parametrize("kind", RowKind)
@given(data=st.data())
def test_packed_row_is_the_struct_as_the_compiler_lays_it_out(kind: RowKind, data: st.DataObject) -> None:
    row = data.draw(rows(kind))
    packed = tables.pack_rows(kind, [row])
    c = ffi.from_buffer(f"{STRUCTS[kind]} *", packed)
    for name, value in zip(row._fields, row, strict=True):
        assert (bytes(getattr(c, name)) if isinstance(value, bytes) else getattr(c, name)) == value
    pad = getattr(c, "pad", b"")
    assert not any(pad)


@pytest.mark.parametrize(
    ("enum", "prefix"),
    [
        (RowKind, "DP_ROW_"),
        (tables.Op, "DP_"),
        (tables.PaKind, "DP_PA_"),
        (tables.Translation, "DP_"),
        (tables.RecordType, "DP_"),
    ],
)
def test_enums_are_those_of_the_header(enum: type[IntEnum], prefix: str) -> None:
    assert {e.name: e.value for e in enum} == {e.name: getattr(lib, prefix + e.name) for e in enum}


@given(change_sets())
def test_change_set_survives_encode_and_decode(change_set: ChangeSet) -> None:
    assert ChangeSet.decode(change_set.encode()) == change_set


@given(change_sets())
def test_encoded_headers_are_the_structs(change_set: ChangeSet) -> None:
    encoded = change_set.encode()
    header = ffi.from_buffer("struct dp_change_header *", encoded)
    assert (header.magic, header.version) == (lib.DP_CHANGE_MAGIC, lib.DP_CHANGE_VERSION)
    assert header.flags == (lib.DP_CHANGE_ATOMIC if change_set.atomic else 0)
    assert (header.generation, header.sections) == (change_set.generation, len(change_set.sections))
    at = ffi.sizeof("struct dp_change_header")
    for section in change_set.sections:
        assert at % 8 == 0
        c = ffi.from_buffer("struct dp_section *", encoded[at : at + ffi.sizeof("struct dp_section")])
        assert (c.kind, c.op, c.count) == (section.kind, section.op, len(section))
        at += ffi.sizeof("struct dp_section") + len(section.packed)
    assert at == len(encoded)


@given(change_sets(), st.data())
def test_decode_refuses_other_lengths(change_set: ChangeSet, data: st.DataObject) -> None:
    encoded = change_set.encode()
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises((ValueError, struct.error)):
        ChangeSet.decode(encoded[:cut])
    with pytest.raises(ValueError, match="bytes"):
        ChangeSet.decode(encoded + bytes(8))


def test_decode_refuses_another_version() -> None:
    encoded = bytearray(ChangeSet(1, ()).encode())
    encoded[4] += 1
    with pytest.raises(ValueError, match=f"version {encoded[4]}"):
        ChangeSet.decode(bytes(encoded))


def test_section_gives_its_rows_back() -> None:
    subnets = [tables.SubnetRow(4096, 1), tables.SubnetRow(4097, 1)]
    section = tables.delete(subnets)
    assert (section.op, len(section), list(section.rows())) == (Op.DEL, 2, subnets)
    assert section == Section(RowKind.SUBNET, Op.DEL, tables.pack_rows(RowKind.SUBNET, subnets))


@pytest.mark.parametrize("text", ["10.1.1.10", "fd00:1:1::10"])
def test_addresses_are_left_aligned_in_their_field(text: str) -> None:
    address = ip_address(text)
    field = tables.pack_address(address)
    assert len(field) == 16
    assert field.startswith(address.packed)
    assert not any(field[len(address.packed) :])
    assert tables.unpack_address(field, address.version) == address


def test_field_out_of_range_is_refused() -> None:
    with pytest.raises(struct.error):
        tables.put([tables.SubnetRow(2**32, 1)])
