"""Random operations on the plain store and on the real ones: they say the same, whatever is asked."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from policy.errors import ConflictError, StoreError
from policy.store.contract import Expect, Limits
from policy.store.memory import MemoryStore
from policy.store.sqlite import SqliteStore
from tests.unit.store.stores import Clock, told

LIMITS = Limits(ops=4, size=40, value=11)
Store = MemoryStore | SqliteStore

keys = st.sampled_from(["a", "a/1", "a/2", "b/1", "b/", "c"])
prefixes = st.lists(st.sampled_from(["", "a", "a/", "b/", "c", "x"]), max_size=2)
puts = st.dictionaries(keys, st.binary(max_size=12), max_size=4)


@dataclass(frozen=True)
class Lease:
    """The same lease in both stores."""

    real: str
    twin: str


class Stores(RuleBasedStateMachine):
    revisions = Bundle("revisions")
    leases = Bundle("leases")
    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        directory = self._stack.enter_context(TemporaryDirectory())
        self.clock = Clock()
        self.real = SqliteStore(Path(directory, "store.db"), limits=LIMITS, clock=self.clock)
        self.twin = MemoryStore(LIMITS, self.clock)
        self.watches = tuple(
            self._stack.enter_context(store.watch(0, ["a"], limit=2)) for store in (self.real, self.twin)
        )

    def same(self, call: Callable[[Store], object]) -> object:
        return self._same(lambda: call(self.real), lambda: call(self.twin))

    def _same(self, *calls: Callable[[], object]) -> object:
        outcomes = []
        for call in calls:
            try:
                outcomes.append((call(), ""))
            except ConflictError:
                outcomes.append((None, "of several conflicts each may tell another"))
            except (StoreError, ValueError) as error:
                outcomes.append((None, f"{type(error).__name__}: {error}"))
        assert outcomes[0] == outcomes[1]
        return outcomes[0][0]

    # ---- writing

    @rule(target=revisions, puts=puts, deletes=st.sets(keys, max_size=3))
    def commit(self, puts: dict[str, bytes], deletes: set[str]) -> object:
        return self.same(lambda store: store.commit(puts, deletes - puts.keys())) or 0

    @rule(puts=puts, key=keys, prefix=st.sampled_from(["a", "a/", "b", ""]), revision=revisions)
    def commit_if(self, puts: dict[str, bytes], key: str, prefix: str, revision: int) -> None:
        newest = self.twin.range("").revision
        for expect in (
            Expect({key: revision}),
            Expect({key: newest, "none": 0}, {prefix: revision}),
            Expect({key: newest + 1}),
        ):
            self.same(lambda store, expect=expect: store.commit(puts, expect=expect))

    @rule(target=ids, puts=puts, number=st.integers(0, 5))
    def commit_once(self, puts: dict[str, bytes], number: int) -> str:
        name = f"commit {number}"
        self.same(lambda store: store.commit(puts, commit_id=name))
        return name

    @rule(commit_id=ids)
    def outcome(self, commit_id: str) -> None:
        self.same(lambda store: store.outcome(commit_id))

    @rule(revision=revisions)
    def compact(self, revision: int) -> None:
        self.same(lambda store: store.compact(revision))

    # ---- leases

    @rule(target=leases, seconds=st.sampled_from([1.0, 10.0, 60.0]))
    def lease(self, seconds: float) -> Lease:
        return Lease(self.real.lease(seconds), self.twin.lease(seconds))

    @rule(puts=puts, lease=leases, seconds=st.none() | st.sampled_from([1.0, 20.0]))
    def commit_under(self, puts: dict[str, bytes], lease: Lease, seconds: float | None) -> None:
        """Some under the lease, some for a time, the others for good."""
        first, second = sorted(puts)[:1], sorted(puts)[1:2]
        life = dict.fromkeys(second, seconds) if seconds else {}
        self._same(
            lambda: self.real.commit(puts, leases=dict.fromkeys(first, lease.real), seconds=life),
            lambda: self.twin.commit(puts, leases=dict.fromkeys(first, lease.twin), seconds=life),
        )

    @rule(lease=leases)
    def keep_alive(self, lease: Lease) -> None:
        self._same(lambda: self.real.keep_alive(lease.real), lambda: self.twin.keep_alive(lease.twin))

    @rule(lease=leases)
    def revoke(self, lease: Lease) -> None:
        self._same(lambda: self.real.revoke(lease.real), lambda: self.twin.revoke(lease.twin))

    @rule(seconds=st.sampled_from([0.5, 5.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    # ---- reading

    @rule(
        prefix=st.sampled_from(["", "a", "a/", "b/", "x"]),
        revision=st.none() | revisions | st.integers(0, 30),
        after=st.just("") | keys,
        limit=st.integers(1, 4),
    )
    def page(self, prefix: str, revision: int | None, after: str, limit: int) -> None:
        self.same(lambda store: store.range(prefix, revision, after, limit))

    @rule(wanted=st.lists(keys), revision=st.none() | revisions | st.integers(0, 30))
    def get(self, wanted: list[str], revision: int | None) -> None:
        self.same(lambda store: store.get(wanted, revision))

    # ---- watching

    @rule()
    def watched(self) -> None:
        self._same(*(lambda watch=watch: (watch.next(0), watch.revision) for watch in self.watches))

    @rule(prefixes=prefixes)
    def select(self, prefixes: list[str]) -> None:
        self._same(*(lambda watch=watch: watch.select(prefixes) for watch in self.watches))

    @rule(revision=revisions, prefixes=prefixes, limit=st.integers(1, 3))
    def watch_from(self, revision: int, prefixes: list[str], limit: int) -> None:
        def seen(store: Store) -> list[object]:
            with store.watch(revision, prefixes, limit) as watch:
                return [*told(watch), watch.revision]

        self.same(seen)

    @invariant()
    def hold_the_same(self) -> None:
        self.same(lambda store: store.range(""))

    def teardown(self) -> None:
        self._stack.close()
        self.real.close()


TestStores = Stores.TestCase
TestStores.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
