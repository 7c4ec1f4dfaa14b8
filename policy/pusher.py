"""Brings a core's rows to what the tables of its host say, and knows that they are there.

What the core holds is found out from the core itself, so that a new pusher changes only what differs, in
whatever state the one before it died. A push that fails is taken back and says why.
"""

from dataclasses import dataclass
from typing import Protocol

from dataplane import tables as dp
from dataplane.client import ClientError
from dataplane.server import Kind
from dataplane.tables import ChangeSet, Op, RowKind, Section
from dataplane.views import Names
from policy import reconcile
from policy.reconcile import PUT_ORDER, Rows
from policy.tables import Ids, Tables


class Core(Protocol):
    """A data plane as far as rows go: dataplane.client.Client. Its errors: ClientError."""

    def apply(self, change_set: bytes) -> int: ...
    def rows(self, kind: RowKind) -> bytes: ...
    def digest(self) -> dict[RowKind, int]: ...
    def names(self) -> Names: ...
    def set_names(self, names: Names) -> None: ...
    def generation(self) -> int: ...


class PushError(Exception):
    """The core does not take the policy, or does not hold what it took. It holds what it held before."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """rows: put and deleted; way: how the last change set was applied, "" where nothing differed."""

    generation: int
    put: int
    deleted: int
    way: str


class Pusher:
    """One thread at a time. ClientError, which every method may raise: call `forget` before the next push."""

    def __init__(self) -> None:
        self._held: Rows | None = None
        self._ids: Ids | None = None

    def forget(self) -> None:
        """The core may be another one now, or somebody else may have changed it: ask it."""
        self._held = self._ids = None

    def push(self, core: Core, tables: Tables) -> Pushed:
        """Afterwards the core has these rows and no others. PushError: it has those of before."""
        before = self._known_ids(core, tables)
        ids = before.extend(tables)
        wanted = reconcile.rows_of(tables, ids)
        held = self._held_rows(core, wanted)
        self.forget()
        core.set_names(_names(tables.host, before, ids))
        try:
            pushed = _push(core, held, wanted)
            _verify(core, wanted)
        except PushError as error:
            _take_back(core, held, error)
            core.set_names(_names(tables.host, before))
            raise
        core.set_names(_names(tables.host, ids))
        self._held, self._ids = wanted, ids
        return pushed

    def is_in_place(self, core: Core) -> bool:
        """Whether the core still holds what was pushed last."""
        return self._held is not None and core.digest() == _digests(self._held)

    def _known_ids(self, core: Core, tables: Tables) -> Ids:
        if self._ids is not None:
            return self._ids
        names = core.names()
        if not names["hosts"]:
            return tables.ids
        return Ids(names["hosts"], names["routingDomains"], names["ports"])

    def _held_rows(self, core: Core, wanted: Rows) -> Rows:
        if self._held is not None:
            return self._held
        return wanted if core.digest() == _digests(wanted) else _read(core)


def _push(core: Core, held: Rows, wanted: Rows) -> Pushed:
    """In place, else beside, else anew."""
    change_sets = reconcile.in_place(held, wanted)
    if not change_sets:
        return Pushed(core.generation(), 0, 0, "")
    try:
        for change_set in change_sets:
            generation = _apply(core, change_set)
        return _pushed(generation, "in place", *change_sets)
    except PushError:
        held = _read(core)
    try:
        change_set = reconcile.beside(held, wanted)
        return _pushed(_apply(core, change_set, atomic=True), "beside", change_set)
    except PushError:
        change_set = reconcile.anew(held, wanted)
        return _pushed(_apply(core, change_set, atomic=True), "anew", change_set)


def _pushed(generation: int, way: str, *change_sets: tuple[Section, ...]) -> Pushed:
    counts = {
        op: sum(len(section) for sections in change_sets for section in sections if section.op is op)
        for op in Op
    }
    return Pushed(generation, counts[Op.PUT], counts[Op.DEL], way)


def _apply(core: Core, sections: tuple[Section, ...], atomic: bool = False) -> int:
    """PushError: the core refuses them."""
    try:
        return core.apply(ChangeSet(core.generation() + 1, sections, atomic).encode())
    except ClientError as error:
        if error.kind != Kind.CHANGE_SET:
            raise
        raise PushError(str(error)) from error


def _verify(core: Core, wanted: Rows) -> None:
    found, expected = core.digest(), _digests(wanted)
    wrong = [kind.name.lower().replace("_", " ") for kind in PUT_ORDER if found[kind] != expected[kind]]
    if wrong:
        raise PushError(f"the core does not hold what it took: rows of {', '.join(wrong)} differ")


def _take_back(core: Core, held: Rows, error: PushError) -> None:
    """The core took these rows before, so it takes them again."""
    now = _read(core)
    if reconcile.is_same(now, held):
        return
    try:
        _apply(core, reconcile.anew(now, held), atomic=True)
    except PushError as second:
        raise PushError(f"{error}; and it does not take back what it held before: {second}") from error


def _read(core: Core) -> Rows:
    return reconcile.index({kind: core.rows(kind) for kind in PUT_ORDER})


def _digests(rows: Rows) -> dict[RowKind, int]:
    return {
        kind: dp.digest(kind, b"".join(reconcile.canonical(kind, row) for row in rows[kind].values()))
        for kind in PUT_ORDER
    }


def _names(host: str, *ids: Ids) -> Names:
    """Of one or several; what an id is called last counts."""
    hosts: dict[str, int] = {}
    domains: dict[str, int] = {}
    ports: dict[str, int] = {}
    for each in ids:
        hosts |= each.hosts
        domains |= each.routing_domains
        ports |= each.ports
    return {"host": host, "hosts": hosts, "routingDomains": domains, "ports": ports}
