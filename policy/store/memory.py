"""A store in this process's memory: the contract at its plainest, for tests and offline use.

Every commit is kept as it came; what the store held at a revision is found by going through them.
"""

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from policy.errors import CompactedError, ConflictError, LeaseError, UnavailableError
from policy.store.contract import (
    EVERYTHING,
    NOTHING,
    PAGE,
    PAGE_BYTES,
    Batch,
    Change,
    Expect,
    Limits,
    Page,
    Row,
    check_commit,
    disjoint,
    in_scope,
    rounded_up,
)

_LIMITS = Limits(ops=50_000_000, size=16 << 30, value=1 << 20)


class MemoryStore:
    """clock: seconds, of which leases live."""

    def __init__(self, limits: Limits = _LIMITS, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._identity = secrets.token_hex(8)
        self._commits: list[Batch] = []
        self._newest: dict[str, tuple[bytes, int]] = {}
        self._floor = 0
        self._ids: dict[str, int] = {}
        self._leases: dict[str, tuple[float, float]] = {}  # seconds, end
        self._leased: dict[str, str] = {}  # key: lease
        self._closed = False
        self._changed = threading.Condition()

    def identity(self) -> str:
        with self._current():
            return self._identity

    def limits(self) -> Limits:
        return self._limits

    # ---- reading

    def range(self, prefix: str, at: int | None = None, after: str = "", limit: int = PAGE) -> Page:
        revision, held = self._held_at(at)
        found = sorted(row for row in held if row[0].startswith(prefix) and row[0] > after)
        rows = _page(found, limit)
        return Page(revision, rows, len(rows) < len(found))

    def get(self, keys: Iterable[str], at: int | None = None) -> Page:
        wanted = set(keys)
        revision, held = self._held_at(at)
        return Page(revision, sorted(row for row in held if row[0] in wanted))

    def outcome(self, commit_id: str) -> int | None:
        with self._current():
            return self._outcome(commit_id)

    # ---- writing

    def commit(
        self,
        puts: Mapping[str, bytes],
        deletes: Collection[str] = (),
        *,
        expect: Expect = NOTHING,
        commit_id: str = "",
        leases: Mapping[str, str] | None = None,
        seconds: Mapping[str, float] | None = None,
    ) -> int:
        check_commit(puts, deletes, self._limits, [*(leases or {}), *(seconds or {})])
        with self._current():
            if commit_id and (made := self._outcome(commit_id)) is not None:
                return made
            self._check(expect)
            for lease in (leases or {}).values():
                self._check_lease(lease)
            self._write({**puts, **dict.fromkeys(deletes)})
            for key in (*puts, *deletes):
                self._leased.pop(key, None)
            self._leased.update(leases or {})
            for key, life in (seconds or {}).items():
                self._leased[key] = self._grant(life, rounded_up(life, self._clock()))
            if commit_id:
                self._ids[commit_id] = len(self._commits)
            return len(self._commits)

    @contextmanager
    def watch(
        self, since: int, prefixes: Iterable[str] = EVERYTHING, limit: int = PAGE
    ) -> Iterator["MemoryWatch"]:
        with self._current():
            self._check_watched(since)
        yield MemoryWatch(self, since, disjoint(prefixes), limit)

    def compact(self, before: int) -> None:
        """Forget what was superseded before this revision."""
        with self._current():
            self._floor = max(self._floor, min(before, len(self._commits)))

    # ---- leases

    def lease(self, seconds: float) -> str:
        with self._current():
            return self._grant(seconds, self._clock() + seconds)

    def keep_alive(self, lease: str) -> None:
        with self._current():
            self._check_lease(lease)
            seconds, _ = self._leases[lease]
            self._leases[lease] = seconds, self._clock() + seconds

    def revoke(self, lease: str) -> None:
        with self._current():
            self._end({lease} & self._leases.keys())

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # ---- inside

    @contextmanager
    def _current(self) -> Iterator[None]:
        """With the store for oneself, and leases that are over ended."""
        with self._changed:
            self._end_leases()
            yield

    def _end_leases(self) -> None:
        if self._closed:
            raise UnavailableError("the store is closed")
        self._end({lease for lease, (_, end) in self._leases.items() if end <= self._clock()})

    def _end(self, leases: Collection[str]) -> None:
        gone = [key for key, lease in self._leased.items() if lease in leases]
        for lease in leases:
            del self._leases[lease]
        for key in gone:
            del self._leased[key]
        self._write(dict.fromkeys(gone))

    def _grant(self, seconds: float, end: float) -> str:
        lease = secrets.token_hex(8)
        self._leases[lease] = seconds, end
        return lease

    def _check_lease(self, lease: str) -> None:
        if lease not in self._leases:
            raise LeaseError("the lease has ended")

    def _write(self, wanted: Mapping[str, bytes | None]) -> None:
        changes = [
            Change(key, value)
            for key, value in sorted(wanted.items())
            if self._newest.get(key, (None,))[0] != value
        ]
        if changes:
            self._commits.append(Batch(len(self._commits) + 1, tuple(changes)))
            _take(self._newest, self._commits[-1])
            self._changed.notify_all()

    def _check(self, expect: Expect) -> None:
        for key, revision in expect.keys.items():
            self._check_same(key, revision, {key}.__contains__)
        for prefix, revision in expect.prefixes.items():
            self._check_same(prefix, revision, partial(in_scope, prefixes=[prefix]))

    def _check_same(self, what: str, revision: int, concerns: Callable[[str], bool]) -> None:
        later = (change.key for batch in self._commits[revision:] for change in batch.changes)
        if not self._floor <= revision <= len(self._commits) or any(map(concerns, later)):
            raise ConflictError(f"{what} has changed since revision {revision}")

    def _outcome(self, commit_id: str) -> int | None:
        revision = self._ids.get(commit_id)
        return revision if revision is not None and revision >= self._floor else None

    def _held_at(self, at: int | None) -> tuple[int, list[Row]]:
        with self._current():
            newest = len(self._commits)
            revision = newest if at is None else at
            self._check_known(revision)
            if revision > newest:
                raise ValueError(f"revision {revision} is in the future; the newest is {newest}")
            return revision, self._held(revision)

    def _held(self, revision: int) -> list[Row]:
        held = self._newest
        if revision < len(self._commits):
            held = {}
            for batch in self._commits[:revision]:
                _take(held, batch)
        return [(key, value, changed) for key, (value, changed) in held.items()]

    def _check_known(self, revision: int) -> None:
        if revision < self._floor:
            raise CompactedError(f"revision {revision} is gone; the oldest known is {self._floor}")

    def _check_watched(self, since: int) -> None:
        self._check_known(since)
        newest = len(self._commits)
        if since > newest:
            raise CompactedError(f"revision {since} is gone; the newest is {newest}: the store was put back")

    def check_watched(self, since: int) -> None:
        """CompactedError: a watch can't go on from there."""
        with self._changed:
            self._check_watched(since)

    def after(self, since: int, timeout: float) -> list[Batch]:
        """Commits after `since`, waiting for one; none when time is up."""
        end = time.monotonic() + timeout
        with self._changed:
            while True:
                self._end_leases()
                self._check_watched(since)
                if since < len(self._commits):
                    return self._commits[since:]
                if not self._changed.wait(end - time.monotonic()):
                    return []


class MemoryWatch:
    def __init__(self, store: MemoryStore, since: int, prefixes: list[str], limit: int) -> None:
        self._store = store
        self._since = since
        self._prefixes = prefixes
        self._limit = limit
        self._parts: deque[Batch] = deque()  # of the revision that is being told

    @property
    def revision(self) -> int:
        return self._since

    def next(self, timeout: float) -> Batch | None:
        if not self._parts:
            self._look(timeout)
        if not self._parts:
            return None
        self._store.check_watched(self._since)
        part = self._parts.popleft()
        if not part.more:
            self._since = part.revision
        return part

    def select(self, prefixes: Iterable[str]) -> int:
        self._prefixes = disjoint(prefixes)
        return self._parts[0].revision if self._parts else self._since

    def _look(self, timeout: float) -> None:
        """The next commit that matters, in parts; where none of those there are does, how far they go."""
        batches = self._store.after(self._since, timeout)
        for batch in batches:
            changes = [change for change in batch.changes if in_scope(change.key, self._prefixes)]
            if changes:
                self._parts.extend(_parts(batch.revision, changes, self._limit))
                self._since = batch.revision - 1
                return
        if batches:
            self._parts.append(Batch(batches[-1].revision, ()))


def _take(held: dict[str, tuple[bytes, int]], batch: Batch) -> None:
    for key, value in batch.changes:
        if value is None:
            del held[key]
        else:
            held[key] = value, batch.revision


def _page(rows: list[Row], limit: int) -> list[Row]:
    return rows[: _fitting([value for _, value, _ in rows], limit)]


def _parts(revision: int, changes: list[Change], limit: int) -> Iterator[Batch]:
    while changes:
        count = _fitting([change.value or b"" for change in changes], limit)
        yield Batch(revision, tuple(changes[:count]), count < len(changes))
        changes = changes[count:]


def _fitting(values: list[bytes], limit: int) -> int:
    """As many of the first as make a page."""
    size = 0
    for count, value in enumerate(values[:limit], 1):
        size += len(value)
        if size >= PAGE_BYTES:
            return count
    return min(len(values), limit)
