"""Pushing tables into the real core: whatever dies when, the next push leads to what is wanted."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from dataplane.binding.core import Config, Dataplane
from dataplane.binding.errors import ChangeSetError
from dataplane.binding.tables import ChangeSet, Op, RowKind, Section
from dataplane.process.client import ClientError, GoneError
from dataplane.process.protocol import Kind
from dataplane.process.views import Names, no_names
from policy.agent.programmer import Programmer, PushResult, known_ids
from policy.compile import diff
from policy.compile.compiler import compile_host
from policy.compile.diff import PUT_ORDER
from policy.compile.host_view import HostView, Whole
from policy.compile.tables import SELF, Ids
from policy.errors import PushError
from policy.ipam.allocate import allocate
from policy.kinds import documents
from policy.kinds.model import Policy
from policy.service import resolve
from tests.unit.agent.fakes import FakeClient, FakeCore, FakeDataplane
from tests.unit.compile.histories import histories
from tests.unit.intents import intents
from tests.unit.manifests import EXAMPLE

CONFIG = Config(SELF, bytes.fromhex("02150a000001"), (1, 2))
CALLS_OF_A_PUSH = 20


class Desk:
    """The data-plane process as a client sees it, in this process. The call number `fatal` from now on is its
    client's last: it dies before it, or when the reply is on its way.
    """

    def __init__(self, engine: Dataplane) -> None:
        self.engine = engine
        self.kept = no_names()
        self.fatal: int | None = None
        self.after = False
        self.lies: set[RowKind] = set()
        self.forgets: set[RowKind] = set()  # to apply rows of these kinds
        self.refused = 0
        self.applied = b""

    @contextmanager
    def _call(self) -> Iterator[None]:
        dies = self.fatal == 0
        if self.fatal is not None:
            self.fatal -= 1
        if dies and not self.after:
            raise GoneError("killed before the call")
        yield
        if dies:
            raise GoneError("killed after the call")

    def apply(self, change_set: bytes) -> int:
        with self._call(), self._refusals():
            self.engine.apply(self._remembered(change_set))
            self.applied = change_set
        return self.engine.generation

    def verify(self) -> None:
        with self._call(), self._refusals():
            self.engine.holds(self.applied)
            self.engine.verified()

    def rollback(self) -> int:
        with self._call():
            self.engine.rollback()
        return self.engine.generation

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except ChangeSetError as error:
            self.refused += 1
            raise ClientError(str(error), Kind.CHANGE_SET) from None

    def _remembered(self, change_set: bytes) -> bytes:
        decoded = ChangeSet.decode(change_set)
        kept = tuple(each for each in decoded.sections if each.kind not in self.forgets)
        return ChangeSet(decoded.generation, kept, decoded.atomic).encode()

    def rows(self, kind: RowKind) -> bytes:
        with self._call():
            return self.engine.rows(kind)

    def digest(self) -> dict[RowKind, int]:
        with self._call():
            return {kind: self.engine.digest(kind) + (kind in self.lies) for kind in RowKind}

    def digest_step(self, anew: bool = False) -> dict[RowKind, int] | None:
        with self._call():
            return self.engine.digest_step(20, anew)

    def names(self) -> Names:
        with self._call():
            return self.kept

    def set_names(self, names: Names) -> None:
        with self._call():
            self.kept = names

    def generation(self) -> int:
        with self._call():
            return self.engine.generation


HERE = "h1"


def is_in_place(programmer: Programmer) -> bool:
    """Of all rows, a few at a time."""
    found = programmer.compare(anew=True)
    while found is None:
        found = programmer.compare()
    return found


policies = st.lists(intents(), min_size=2, max_size=4).map(lambda found: list(map(allocate, found)))


def whole(desk: Desk, policy: Policy) -> Whole:
    return HostView(HERE, documents.items_of(policy.by_id.values()), known_ids(desk, HERE)).whole()


def push(desk: Desk, policy: Policy) -> PushResult:
    """By a new programmer."""
    return Programmer(desk, HERE).push(whole(desk, policy))


def check(desk: Desk, policy: Policy) -> None:
    """The core has just the rows of this policy, under the ids that the names say."""
    names = desk.kept
    tables = compile_host(policy, HERE)
    ids = Ids(names["hosts"], names["routingDomains"], names["ports"])
    wanted = diff.rows_of(tables, ids)
    assert names["host"] == tables.host
    held = diff.index({kind: desk.engine.rows(kind) for kind in PUT_ORDER})
    assert diff.is_same(held, wanted)
    assert ids.extend(tables) == ids, "no name of others is left"


@settings(max_examples=40, deadline=None)
@given(policies)
def test_pushes_one_after_the_other(sequence: list[Policy]) -> None:
    with Dataplane(CONFIG) as engine:
        desk = Desk(engine)
        for policy in sequence:
            programmer = Programmer(desk, HERE)
            wanted = whole(desk, policy)
            programmer.push(wanted)
            check(desk, policy)
            assert is_in_place(programmer)
            generation = engine.generation
            assert programmer.push(wanted) == PushResult(generation, 0, 0, "")
            assert push(desk, policy) == PushResult(generation, 0, 0, ""), "a new programmer finds it done"


@settings(max_examples=60, deadline=None)
@given(histories())
def test_step_by_step(sequence: list[Policy]) -> None:
    """A step that the core refuses is followed by all rows."""
    with Dataplane(CONFIG) as engine:
        desk = Desk(engine)
        before: dict[str, bytes] = {}
        view, programmer = HostView(HERE, before), Programmer(desk, HERE)
        programmer.push(view.whole())
        for policy in sequence:
            after = documents.items_of(policy.by_id.values())
            changes: dict[str, bytes | None] = {**dict.fromkeys(before.keys() - after.keys()), **after}
            before = after
            step = view.change(changes)
            try:
                if step is None:
                    raise PushError("it is about all rows")
                programmer.push_step(step, view.used_ids)
            except PushError:
                programmer.push(view.whole())
            else:
                event("step")
            view.prune()
            if HERE in policy.host_by_name:
                check(desk, policy)
            assert is_in_place(programmer)


def test_a_step_that_can_not_be_verified_needs_all_rows() -> None:
    policy = resolve.load([EXAMPLE])
    items = documents.items_of(policy.by_id.values())
    with Dataplane(CONFIG) as engine:
        desk = Desk(engine)
        view, programmer = HostView(HERE, items), Programmer(desk, HERE)
        assert view.change({}) is None, "the first are all rows"
        whole = view.whole()
        with pytest.raises(PushError, match="not known"):
            step = view.change({})
            assert step
            programmer.push_step(step, view.used_ids)
        programmer.push(whole)
        key = next(key for key in items if key.startswith("intent/Port/red/"))
        step = view.change({key: None})
        assert step
        before, generation = desk.engine.rows(RowKind.RECORD), desk.engine.generation
        desk.forgets = {RowKind.PORT}
        with pytest.raises(PushError, match="does not hold what it took: section 1, row 0"):
            programmer.push_step(step, view.used_ids)
        assert (desk.engine.rows(RowKind.RECORD), desk.engine.generation) == (before, generation)
        with pytest.raises(PushError, match="not known"):
            programmer.push_step(step, view.used_ids)
        assert not is_in_place(programmer)
        desk.forgets = set()
        programmer.push(view.whole())
        assert is_in_place(programmer)


@settings(max_examples=40, deadline=None)
@given(policies, st.sampled_from(RowKind))
def test_what_is_not_there_afterwards_is_rolled_back(sequence: list[Policy], kind: RowKind) -> None:
    """All rows of one kind are lost in the core: it says so, and has what it had before the change set."""
    with Dataplane(CONFIG) as engine:
        desk = Desk(engine)
        push(desk, sequence[0])
        names, desk.forgets = desk.kept, {kind}
        try:
            push(desk, sequence[1])
        except PushError:
            assert desk.kept == names
            check(desk, sequence[0])
        desk.forgets = set()
        push(desk, sequence[1])
        check(desk, sequence[1])


def test_pushes_are_told_of_as_one() -> None:
    one, nothing = PushResult(3, 2, 1, "changing"), PushResult(4, 0, 0, "")
    assert one.then(nothing) == PushResult(4, 2, 1, "changing")
    assert nothing.then(PushResult(5, 1, 0, "changing")) == PushResult(5, 1, 0, "changing")


deaths_of_a_push = st.tuples(st.integers(0, CALLS_OF_A_PUSH), st.booleans())


@settings(max_examples=150, deadline=None)
@given(policies, st.lists(deaths_of_a_push, min_size=1, max_size=6))
def test_whenever_it_dies_the_next_one_finishes(
    sequence: list[Policy], deaths: list[tuple[int, bool]]
) -> None:
    with Dataplane(CONFIG) as engine:
        desk = Desk(engine)
        for number, (desk.fatal, desk.after) in enumerate(deaths):
            try:
                push(desk, sequence[number % len(sequence)])
            except GoneError:
                continue
        desk.fatal = None
        push(desk, sequence[-1])
        check(desk, sequence[-1])


@settings(max_examples=40, deadline=None)
@given(policies, st.data())
def test_what_somebody_else_has_changed_is_repaired(sequence: list[Policy], data: st.DataObject) -> None:
    with Dataplane(CONFIG) as engine:
        desk = Desk(engine)
        programmer = Programmer(desk, HERE)
        wanted = whole(desk, sequence[0])
        programmer.push(wanted)
        held = diff.index({kind: engine.rows(kind) for kind in PUT_ORDER})
        records = list(held[RowKind.RECORD].values())
        if not records:
            return
        gone = Section(RowKind.RECORD, Op.DEL, data.draw(st.sampled_from(records)))
        engine.apply(ChangeSet(engine.generation + 1, (gone,)).encode())
        assert not is_in_place(programmer)
        assert programmer.push(wanted).put == 1
        check(desk, sequence[0])


@settings(max_examples=40, deadline=None)
@given(policies, st.sampled_from(RowKind))
def test_what_can_not_be_verified_is_taken_back(sequence: list[Policy], kind: RowKind) -> None:
    with Dataplane(CONFIG) as engine:
        desk = Desk(engine)
        push(desk, sequence[0])
        names = desk.kept
        desk.lies = {kind}
        with pytest.raises(PushError, match=f"rows of {kind.name.lower().replace('_', ' ')} differ"):
            push(desk, sequence[1])
        desk.lies = set()
        assert desk.kept == names
        check(desk, sequence[0])
        push(desk, sequence[1])
        check(desk, sequence[1])


def test_what_the_core_refuses_every_way_says_why() -> None:
    class Refusing(Desk):
        def apply(self, change_set: bytes) -> int:
            raise ClientError("section 0, row 0: no", Kind.CHANGE_SET)

    with Dataplane(CONFIG) as engine, pytest.raises(PushError, match="section 0, row 0: no"):
        push(Refusing(engine), resolve.load([EXAMPLE]))


@pytest.mark.parametrize(
    "hostile",
    [
        {"routingDomains": {"blue/n": 1, "red/n": 1}},
        {"routingDomains": {"blue/n": 0}},
        {"ports": {"blue/a": 3, "red/a": 3}},
        {"ports": {"blue/a": 0}},
        {"ports": {"blue/a": 1 << 31}},
        {"hosts": {HERE: 1, "other": 1}},
        {"hosts": {HERE: 2}},
    ],
)
def test_ids_that_are_two_things_are_nobodys(hostile: dict[str, dict[str, int]]) -> None:
    """A core that was broken into says them, and the next one would go by them."""

    sound = {"host": HERE, "hosts": {HERE: 1}, "routingDomains": {"blue/n": 1}, "ports": {"blue/a": 1}}
    assert ids_of(sound) == Ids({HERE: 1}, {"blue/n": 1}, {"blue/a": 1})
    assert ids_of({**sound, **hostile}) == Ids({HERE: 1}, {}, {})


def ids_of(names: dict[str, object]) -> Ids:
    return known_ids(FakeClient(FakeDataplane(core=FakeCore(names=cast(Names, names)))), HERE)
