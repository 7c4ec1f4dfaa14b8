"""Every way from old rows to new ones, on the real core."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from hypothesis import event, given, settings
from hypothesis import strategies as st

from dataplane.binding.core import Config, Dataplane
from dataplane.binding.errors import ChangeSetError
from dataplane.binding.tables import ROW_FORMATS, ChangeSet, MoveRow, Op, RowKind, Section, digest, pack_rows
from policy.compile import diff
from policy.compile.compiler import compile_host
from policy.compile.diff import PUT_ORDER, Rows
from policy.compile.tables import SELF, Ids
from policy.ipam.allocate import allocate
from policy.kinds.model import Intent, Port
from tests.unit.intents import HOSTS, UNMANAGED, intents

CONFIG = Config(SELF, bytes.fromhex("02150a000001"), (1, 2))
NOTHING = diff.index({})
host_names = st.sampled_from([name for name in HOSTS if name != UNMANAGED])


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Rows, Rows]:
    """The rows of one host under two policies, the second one much like the first or not at all."""
    before = draw(intents())
    after = draw(st.one_of(intents(), _edited(before)))
    host = draw(host_names)
    old = compile_host(allocate(before), host)
    new = compile_host(allocate(after), host)
    ids = old.ids
    rows = diff.rows_of(old, ids), diff.rows_of(new, _ids(draw, ids.extend(new)))
    random = Random(draw(st.integers(0, 99)))
    return _with_moves(random, rows[0]), _with_moves(random, rows[1])


def _with_moves(random: Random, rows: Rows) -> Rows:
    """Some of the records are in a move."""
    of = [row for row in rows[RowKind.RECORD].values() if random.random() < 0.2]
    moves = [
        MoveRow(row[:16], int.from_bytes(row[32:36], "little"), random.choice((1, 2, 3)), row[50])
        for row in of
    ]
    packed = pack_rows(RowKind.MOVE, moves)
    return {**rows, RowKind.MOVE: diff.index({RowKind.MOVE: packed})[RowKind.MOVE]}


def _ids(draw: st.DrawFn, ids: Ids) -> Ids:
    """As they follow from the old ones, or all of them different, as after a loss of all names."""
    moved = draw(st.sampled_from([0, 0, 0, 3]))
    return Ids(
        {name: number if number == SELF else number + moved for name, number in ids.hosts.items()},
        {name: number + moved for name, number in ids.routing_domains.items()},
        {name: number + moved for name, number in ids.ports.items()},
    )


@st.composite
def _edited(draw: st.DrawFn, intent: Intent) -> Intent:
    """Some ports are gone, some are on another host, swap their addresses or have another MAC; records behind
    those go too, and some of the others.
    """
    ports: list[Port] = []
    for port in intent.ports:
        match draw(st.sampled_from(["keep", "keep", "remove", "move", "mac"])):
            case "keep":
                ports.append(port)
            case "move":
                ports.append(replace(port, host=draw(st.sampled_from(HOSTS[:3])), provider_addresses=()))
            case "mac":
                ports.append(replace(port, mac=""))  # type: ignore[arg-type]
    kept = {port.name for port in ports if port in intent.ports} | {""}
    records = tuple(
        record for record in intent.lookup_records if record.port in kept and draw(st.integers(0, 3))
    )
    return replace(intent, ports=tuple(ports), lookup_records=records)


class Core:
    """A core that remembers what rows it should have by what it was told."""

    def __init__(self, engine: Dataplane) -> None:
        self.engine = engine
        self.generation = 0

    def apply(self, sections: Sequence[Section], atomic: bool = False) -> None:
        self.engine.apply(ChangeSet(self.generation + 1, tuple(sections), atomic).encode())
        self.generation += 1

    def has(self, rows: Rows) -> None:
        """Exactly these rows, and they can all be deleted."""
        for kind in PUT_ORDER:
            wanted = b"".join(diff.canonical(kind, row) for row in rows[kind].values())
            size = ROW_FORMATS[kind].size
            packed = self.engine.rows(kind)
            found = sorted(packed[at : at + size] for at in range(0, len(packed), size))
            assert found == sorted(wanted[at : at + size] for at in range(0, len(wanted), size)), kind
            assert self.engine.digest(kind) == digest(kind, wanted)
        for change_set in diff.changing(rows, NOTHING):
            self.apply(change_set)
        stats = self.engine.table_stats()
        assert (stats.records4, stats.records6, stats.pas, stats.subnets, stats.routes) == (0,) * 5


@settings(max_examples=60, deadline=None)
@given(pair=pairs(), batch=st.sampled_from([1, 7, diff.BATCH_ROWS]))
def test_from_any_policy_to_any_other(pair: tuple[Rows, Rows], batch: int) -> None:
    old, new = pair
    with Dataplane(CONFIG) as dataplane:
        core = Core(dataplane)
        for change_set in diff.changing(NOTHING, old, batch):
            core.apply(change_set)
        event(change(core, old, new, batch))
        core.has(new)


def change(core: Core, old: Rows, new: Rows, batch: int) -> str:
    """From old to new by the first way that is taken; which one that was. The second always is."""
    change_sets = diff.changing(old, new, batch)
    before = core.generation
    try:
        for change_set in change_sets:
            core.apply(change_set)
        return "changing"
    except ChangeSetError:
        held = after(old, change_sets[: core.generation - before])
    core.apply(diff.replacing(held, new), atomic=True)
    return "replacing"


def after(rows: Rows, change_sets: Sequence[Sequence[Section]]) -> Rows:
    held = {kind: dict(rows[kind]) for kind in PUT_ORDER}
    for sections in change_sets:
        for section in sections:
            for key, row in diff.index({**_subnets(held), section.kind: section.packed})[
                section.kind
            ].items():
                if section.op is Op.PUT:
                    held[section.kind][key] = row
                else:
                    del held[section.kind][key]
    return held


def _subnets(rows: Rows) -> dict[RowKind, bytes]:
    return {RowKind.SUBNET: b"".join(rows[RowKind.SUBNET].values())}


@settings(max_examples=60, deadline=None)
@given(pairs())
def test_every_difference_can_be_replaced(pair: tuple[Rows, Rows]) -> None:
    old, new = pair
    with Dataplane(CONFIG) as dataplane:
        core = Core(dataplane)
        core.apply(diff.replacing(NOTHING, old), atomic=True)
        core.apply(diff.replacing(old, new), atomic=True)
        core.has(new)


@settings(max_examples=60, deadline=None)
@given(intents(), host_names)
def test_what_is_the_same_needs_no_change(intent: Intent, host: str) -> None:
    tables = compile_host(allocate(intent), host)
    rows = diff.rows_of(tables, tables.ids)
    exported = diff.index(
        {kind: b"".join(diff.canonical(kind, row) for row in rows[kind].values()) for kind in PUT_ORDER}
    )
    for old in (rows, exported):
        assert diff.is_same(old, rows)
        assert diff.changing(old, rows) == []
        assert diff.replacing(old, rows) == ()
    assert diff.index(diff.pack(rows)) == rows


@settings(max_examples=40, deadline=None)
@given(pairs())
def test_exported_rows_can_be_put_back(pair: tuple[Rows, Rows]) -> None:
    with Dataplane(CONFIG) as dataplane:
        core = Core(dataplane)
        core.apply(diff.replacing(NOTHING, pair[0]), atomic=True)
        exported = diff.index({kind: dataplane.rows(kind) for kind in PUT_ORDER})
        core.apply(diff.replacing(exported, pair[1]), atomic=True)
        core.apply(diff.replacing(pair[1], exported), atomic=True)
        core.has(pair[0])
