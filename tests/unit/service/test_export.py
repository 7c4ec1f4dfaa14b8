"""Rows read back from the tables, and their digest, against what was applied."""

from collections.abc import Iterable
from ipaddress import ip_address
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.binding import tables
from dataplane.binding.core import Config, Dataplane
from dataplane.binding.errors import ChangeSetError
from dataplane.binding.tables import (
    NO_ADDRESS,
    ChangeSet,
    PaKind,
    RecordType,
    Row,
    RowKind,
    Section,
    Translation,
    pack_address,
)

SELF = 1
HOSTS = (SELF, 2, 3)
VSIDS = {5001: 1, 5002: 2}
"""VSID -> rdid; also the number of the one local port of each subnet."""
NUMBERS = range(3000)


def address(text: str, number: int = 0) -> bytes:
    return pack_address(ip_address(text) + number)


def shared_pa(host: int, family: int) -> bytes:
    return address("192.168.77.0" if family == 4 else "fd77::", host)


def rewrites(number: int) -> bool:
    return number % 5 == 0


def base() -> list[Row]:
    """All that records refer to, and a row of each other kind."""
    rows: list[Row] = [
        tables.PaRow(shared_pa(host, family), host, family, PaKind.SHARED, 24)
        for host in HOSTS
        for family in (4, 6)
    ]
    rows += [
        tables.PaRow(address("10.200.0.0", n), HOSTS[n % 3], 4, PaKind.REWRITE, 0)
        for n in NUMBERS
        if rewrites(n)
    ]
    rows += [
        tables.ProviderRouteRow(address("192.168.77.0"), NO_ADDRESS, 4, 24),
        tables.ProviderRouteRow(NO_ADDRESS, address("192.168.77.254"), 4, 0),
        tables.ProviderRouteRow(address("fd77::"), NO_ADDRESS, 6, 64),
        tables.ProviderRouteRow(NO_ADDRESS, address("fd77::fe"), 6, 0),
    ]
    for vsid, rdid in VSIDS.items():
        rows += [
            tables.SubnetRow(vsid, rdid),
            tables.PrefixRow(address("10.0.0.0"), address("10.0.0.1"), vsid, 4, 8),
            tables.PrefixRow(address("fd00::"), NO_ADDRESS, vsid, 6, 64),
            tables.PortRow(rdid, vsid, bytes([2, 0xBB, 0, 0, 0, rdid])),
            tables.SourceRow(address("172.16.0.0"), rdid, 4, 12),
            tables.SourceRow(address("fd99::"), rdid, 6, 32),
            tables.RouteRow(NO_ADDRESS, address("10.1.0.9"), rdid, vsid, 4, 0),
            tables.RouteRow(address("fd42::"), address("fd00::9"), rdid, vsid, 6, 128),
            tables.MoveRow(address("10.1.0.2", rdid), vsid, 3, 4),
            tables.MoveRow(address("fd00::1:0"), vsid, SELF, 6),
            wildcard(vsid, 4, 2),
            wildcard(vsid, 6, SELF),
        ]
    return rows


def wildcard(vsid: int, family: int, host: int) -> tables.RecordRow:
    port = VSIDS[vsid] if host == SELF else 0
    mac = bytes([2, 0xCC, 0, 0, 0, host])
    pa = shared_pa(host, family)
    return tables.RecordRow(
        NO_ADDRESS, pa, vsid, host, port, mac, family, family, Translation.NVGRE, RecordType.GATEWAY_WILDCARD
    )


def record(number: int, random: Random) -> tables.RecordRow:
    """Of the CA with this number, as random has it; its VSID, host and rewrite PA are always the same."""
    host, vsid = HOSTS[number % 3], 5001 + number // 3 % 2
    family = 4 if rewrites(number) or number % 2 else 6
    pa_family = 4 if rewrites(number) else random.choice((4, 6))
    return tables.RecordRow(
        ca=address("10.1.0.2" if family == 4 else "fd00::1:0", number),
        provider_address=address("10.200.0.0", number) if rewrites(number) else shared_pa(host, pa_family),
        vsid=vsid,
        host=host,
        port=VSIDS[vsid] if host == SELF else 0,
        mac=bytes([2, *random.randbytes(5)]),
        family=family,
        pa_family=pa_family,
        translation=Translation.REWRITE if rewrites(number) else Translation.NVGRE,
        type=random.choice((RecordType.STATIC, RecordType.DYNAMIC)),
    )


def by_kind(rows: Iterable[Row]) -> dict[RowKind, list[Row]]:
    kinds: dict[RowKind, list[Row]] = {kind: [] for kind in RowKind}
    for row in rows:
        kinds[tables.ROW_KINDS[type(row)]].append(row)
    return kinds


def put_all(rows: Iterable[Row]) -> tuple[Section, ...]:
    return tuple(tables.put(of_kind) for of_kind in by_kind(rows).values() if of_kind)


def check(engine: Dataplane, rows: Iterable[Row]) -> None:
    for kind, of_kind in by_kind(rows).items():
        stated = tables.as_array(kind, tables.pack_rows(kind, of_kind))
        expected = tables.canonical(kind, stated, SELF).tobytes()
        held = engine.rows(kind)
        assert sorted(tables.unpack_rows(kind, held)) == sorted(tables.unpack_rows(kind, expected)), kind
        assert engine.digest(kind) == tables.digest(kind, expected) == tables.digest(kind, held), kind


def make_engine(workers: int = 1) -> Dataplane:
    return Dataplane(Config(SELF, bytes.fromhex("02000000aaaa"), (1, 2), workers, slots=512))


def step(engine: Dataplane, records: dict[int, Row], random: Random) -> None:
    """Puts some records and deletes others; now and then the change set ends in a row that is refused."""
    count = random.choice((1, 5, 100, 2500))
    put = {n: record(n, random) for n in random.sample(NUMBERS, count)}
    gone = random.sample(sorted(records.keys() - put.keys()), min(count, len(records.keys() - put.keys())))
    sections = [tables.put(list(put.values()))]
    sections += [tables.delete([records[n] for n in gone])] if gone else []
    refused = random.random() < 0.3
    if refused:
        sections.append(tables.delete([tables.SubnetRow(4999 + 1000, 1)]))
    change_set = ChangeSet(1, tuple(sections), atomic=random.random() < 0.3).encode()
    if refused:
        with pytest.raises(ChangeSetError):
            engine.apply(change_set)
        return
    engine.apply(change_set)
    records.update(put)
    for n in gone:
        del records[n]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_rows_and_digest_are_what_was_applied(seed: int, running: bool) -> None:
    random, records = Random(seed), dict[int, Row]()
    with make_engine(2) as engine:
        check(engine, [])
        engine.apply(ChangeSet(1, put_all(base())).encode())
        if running:
            engine.start()
        for _ in range(5):
            step(engine, records, random)
            check(engine, base() + list(records.values()))


def test_rows_read_may_be_put_again() -> None:
    random = Random(1)
    with make_engine() as engine:
        engine.apply(ChangeSet(1, put_all([*base(), *(record(n, random) for n in NUMBERS[:50])])).encode())
        before = {kind: (engine.rows(kind), engine.digest(kind)) for kind in RowKind}
        sections = tuple(Section(kind, tables.Op.PUT, rows) for kind, (rows, _) in before.items())
        engine.apply(ChangeSet(2, sections).encode())
        assert {kind: (sorted(engine.rows(kind)), engine.digest(kind)) for kind in RowKind} == {
            kind: (sorted(rows), digest) for kind, (rows, digest) in before.items()
        }
    with make_engine() as other:
        other.apply(ChangeSet(1, sections).encode())
        assert all(other.digest(kind) == digest for kind, (_, digest) in before.items())


def test_local_record_without_a_pa_says_so_throughout() -> None:
    row = record(3, Random(1))
    assert row.host == SELF
    with make_engine() as engine:
        engine.apply(ChangeSet(1, put_all(base())).encode())
        for wrong in (
            row._replace(pa_family=0),
            row._replace(pa_family=0, provider_address=NO_ADDRESS, translation=Translation.REWRITE),
            record(1, Random(1))._replace(pa_family=0, provider_address=NO_ADDRESS),
        ):
            with pytest.raises(ChangeSetError, match="pa_family"):
                engine.apply(ChangeSet(2, (tables.put([wrong]),)).encode())
        engine.apply(
            ChangeSet(2, (tables.put([row._replace(pa_family=0, provider_address=NO_ADDRESS)]),)).encode()
        )
        check(engine, [*base(), row])


@pytest.mark.parametrize("kind", RowKind)
def test_digest_sees_every_field_and_no_order(kind: RowKind) -> None:
    size = tables.ROW_FORMATS[kind].size
    packed = bytes(range(size)) + bytes(size)
    whole = tables.digest(kind, packed)
    assert tables.digest(kind, packed[size:] + packed[:size]) == whole
    digests = {whole}
    for at in range(size):
        digests.add(tables.digest(kind, packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :]))
    assert len(digests) == size + 1
    assert tables.digest(kind, b"") == 0


@pytest.mark.parametrize("kind", RowKind)
def test_dtypes_are_the_formats(kind: RowKind) -> None:
    packed = bytes(range(tables.ROW_FORMATS[kind].size))
    array = tables.as_array(kind, packed)
    as_bytes = [v.tobytes() if isinstance(v, np.void) else v for v in array[0].tolist()]
    assert as_bytes == list(next(tables.unpack_rows(kind, packed)))
