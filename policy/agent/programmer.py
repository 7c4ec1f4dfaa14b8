"""Brings a core's rows to what a host's view of the intent says, and knows that they are there.

What the core holds is found out from the core itself, so that a new programmer changes only what differs, in
whatever state the one before it died. A push that fails is taken back and says why.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from dataplane.binding.tables import ChangeSet, Op, RowKind, Section
from dataplane.process.client import ClientError
from dataplane.process.framing import MAX_PAYLOAD
from dataplane.process.protocol import MAX_PORTS, Kind, Names
from policy.compile import diff
from policy.compile.diff import PUT_ORDER, Packed
from policy.compile.host_view import Step, Whole
from policy.compile.tables import SELF, Ids
from policy.errors import PushError

FIRST_ROWS = 1 << 20
"""Rows of a change set into an empty core: 64 MiB."""

_MASK = (1 << 64) - 1


class Core(Protocol):
    """A data plane as far as rows go: dataplane.client.Client. Its errors: ClientError."""

    def apply(self, change_set: bytes) -> int: ...
    def verify(self) -> None: ...
    def rollback(self) -> int: ...
    def rows(self, kind: RowKind) -> bytes: ...
    def digest(self) -> dict[RowKind, int]: ...
    def digest_step(self, anew: bool = False) -> dict[RowKind, int] | None: ...
    def names(self) -> Names: ...
    def set_names(self, names: Names) -> None: ...
    def generation(self) -> int: ...


@dataclass(frozen=True, slots=True)
class PushResult:
    """rows: put and deleted. strategy: of the last change set (compile.diff), "" where nothing differed."""

    generation: int
    put: int
    deleted: int
    strategy: str

    def then(self, later: "PushResult") -> "PushResult":
        """Both as one."""
        put, deleted = self.put + later.put, self.deleted + later.deleted
        return PushResult(later.generation, put, deleted, later.strategy or self.strategy)


def known_ids(core: Core, host: str) -> Ids:
    """What the rows in a core are called, for a view of the host that goes on from there."""
    names = core.names()
    ids = _ids(names)
    if names["host"] != host or not _is_sound(ids, host):
        return Ids({host: SELF}, {}, {})
    return ids


def _is_sound(ids: Ids, host: str) -> bool:
    """Whether each id is one thing's. The core may have been broken into, and its ids outlive it: with two
    tenants under one, the next would join them.
    """
    if ids.hosts.get(host) != SELF or any(number >= MAX_PORTS for number in ids.ports.values()):
        return False
    numbers = [list(each.values()) for each in (ids.hosts, ids.routing_domains, ids.ports)]
    return all(0 not in each and len(set(each)) == len(each) for each in numbers)


class Programmer:
    """One thread at a time. ClientError, which every method may raise: make a new one for the next push.

    host: whose tables they are.
    """

    def __init__(self, core: Core, host: str) -> None:
        self._core = core
        self._host = host
        self._names: Names | None = None
        self._digests: dict[RowKind, int] | None = None
        self._generation = 0

    def push(self, whole: Whole) -> PushResult:
        """Afterwards the core has these rows and no others. PushError: it has those of before."""
        core = self._core
        self._digests = None
        self._generation = core.generation()
        before = core.names()
        pushed = PushResult(self._generation, 0, 0, "")
        if core.digest() != whole.digests:
            held = _read(core)
            self._set_names(_names(self._host, _ids(before), whole.ids))
            try:
                pushed = self._replace(held, whole.rows)
                self._verify(whole.digests)
            except PushError as error:
                self._take_back(held, error)
                self._set_names(before)
                raise
        self._set_names(_names(self._host, whole.ids))
        self._digests = dict(whole.digests)
        return pushed

    def push_step(self, step: Step, ids: Ids) -> PushResult:
        """After `push`, and in the order of the view's changes; what the core then has of it is verified.
        ids: what is left of the step's afterwards.

        PushError: what the core holds then is for a `push` of all rows to find out.
        """
        if self._digests is None:
            raise PushError("what the core holds is not known")
        digests = {kind: value + step.digests[kind] & _MASK for kind, value in self._digests.items()}
        self._digests = None
        change_sets = diff.changing(step.before, step.after)
        self._set_names(_names(self._host, step.ids))
        for change_set in change_sets:
            self._apply(change_set)
        self._set_names(_names(self._host, ids))
        self._digests = digests
        return _pushed(self._generation, "changing" if change_sets else "", change_sets)

    @property
    def digest(self) -> str:
        """Of all rows that the core should have; "" where that is not known."""
        return f"{sum(self._digests.values()) & _MASK:016x}" if self._digests is not None else ""

    def compare(self, anew: bool = False) -> bool | None:
        """Whether the core holds what was pushed last and nothing else, of all rows, some of which it looks
        at now (anew: from the first on). None: call again, maybe after a push of steps.
        """
        found = self._core.digest_step(anew)
        return None if found is None else self._digests is not None and found == self._digests

    def _set_names(self, names: Names) -> None:
        if names != self._names:
            self._core.set_names(names)
            self._names = names

    def _replace(self, held: Packed, wanted: Packed) -> PushResult:
        """Changing what differs, else replacing it."""
        try:
            if any(held.values()):
                change_sets = diff.changing(*diff.differing(held, wanted))
            else:
                change_sets = diff.from_nothing(wanted, FIRST_ROWS)
            for change_set in change_sets:
                self._apply(change_set)
            return _pushed(self._generation, "changing", change_sets)
        except PushError:
            now, all_wanted = diff.index(_read(self._core)), diff.index(wanted)
        change_set = diff.replacing(now, all_wanted)
        self._apply(change_set, atomic=True)
        return _pushed(self._generation, "replacing", [change_set])

    def _apply(self, sections: tuple[Section, ...], atomic: bool = False) -> None:
        """PushError: the core refuses them, or does not hold them then and has taken them back."""
        encoded = ChangeSet(self._generation + 1, sections, atomic).encode()
        if len(encoded) > MAX_PAYLOAD:
            raise PushError(f"a change set of {len(encoded)} bytes, more than the {MAX_PAYLOAD} of a frame")
        with _refusals():
            self._generation = self._core.apply(encoded)
        try:
            with _refusals():
                self._core.verify()
        except PushError as error:
            self._generation = self._core.rollback()
            raise PushError(f"the core does not hold what it took: {error}") from error

    def _verify(self, expected: dict[RowKind, int]) -> None:
        found = self._core.digest()
        wrong = [kind.name.lower().replace("_", " ") for kind in PUT_ORDER if found[kind] != expected[kind]]
        if wrong:
            raise PushError(f"the core does not hold what it took: rows of {', '.join(wrong)} differ")

    def _take_back(self, held: Packed, error: PushError) -> None:
        """The core took these rows before, so it takes them again."""
        now, before = diff.index(_read(self._core)), diff.index(held)
        if diff.is_same(now, before):
            return
        try:
            self._apply(diff.replacing(now, before), atomic=True)
        except PushError as second:
            raise PushError(f"{error}; and it does not take back what it held before: {second}") from error


@contextmanager
def _refusals() -> Iterator[None]:
    """Of change sets: PushError."""
    try:
        yield
    except ClientError as error:
        if error.kind != Kind.CHANGE_SET:
            raise
        raise PushError(str(error)) from error


def _pushed(generation: int, strategy: str, change_sets: Sequence[tuple[Section, ...]]) -> PushResult:
    counts = {
        op: sum(len(section) for sections in change_sets for section in sections if section.op is op)
        for op in Op
    }
    return PushResult(generation, counts[Op.PUT], counts[Op.DEL], strategy)


def _read(core: Core) -> Packed:
    return {kind: core.rows(kind) for kind in PUT_ORDER}


def _ids(names: Names) -> Ids:
    return Ids(names["hosts"], names["routingDomains"], names["ports"])


def _names(host: str, *ids: Ids) -> Names:
    """Of one or several; what an id is called last counts."""
    found = Ids({}, {}, {})
    for each in ids:
        found = found.unite(each)
    return {
        "host": host,
        "hosts": found.hosts,
        "routingDomains": found.routing_domains,
        "ports": found.ports,
    }
