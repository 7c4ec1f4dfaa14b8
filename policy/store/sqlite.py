"""The store of one machine: an SQLite file that several processes share.

WAL: readers and the writer don't wait for each other. synchronous=FULL: what `commit` has returned survives a
power failure. A commit rings a bell, at which watches wake; they look once a second besides, for a writer may
die between the two. Leases live by this machine's clock; whoever looks at the store next ends what is over.
A store that was put back goes on behind all revisions it had before, under another identity.
"""

import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from policy.errors import CompactedError, UnavailableError
from policy.store import sqlite_rows as rows
from policy.store.contract import (
    EVERYTHING,
    NOTHING,
    PAGE,
    Batch,
    Expect,
    Limits,
    Page,
    check_commit,
    disjoint,
    rounded_up,
)
from policy.store.sqlite_file import File, Listener, Opened, transaction
from policy.store.sqlite_rows import State

KEPT_REVISIONS = 10_000
"""As many stay known."""

LIMITS = Limits(ops=50_000_000, size=16 << 30, value=1 << 20)

_COMPACT_EVERY = 1_000
_LOOK_SECONDS = 1.0


class SqliteStore:
    """clock: Unix seconds, of which leases live."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        create: bool = True,
        limits: Limits = LIMITS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """create: make the store if there is none, else that is a NoStoreError."""
        self._limits = limits
        self._clock = clock
        self._writer = threading.Lock()
        self._file = File(Path(path), create)

    def identity(self) -> str:
        with self._reading() as (_, there):
            return there.identity

    def limits(self) -> Limits:
        return self._limits

    # ---- reading

    def range(self, prefix: str, at: int | None = None, after: str = "", limit: int = PAGE) -> Page:
        with self._reading() as (connection, there):
            return rows.page(connection, prefix, _known(at, there), after, limit)

    def get(self, keys: Iterable[str], at: int | None = None) -> Page:
        with self._reading() as (connection, there):
            revision = _known(at, there)
            return Page(revision, list(rows.items(connection, keys, revision)))

    def outcome(self, commit_id: str) -> int | None:
        with self._reading() as (connection, there):
            return rows.outcome(connection, commit_id, there.floor)

    @contextmanager
    def watch(
        self, since: int, prefixes: Iterable[str] = EVERYTHING, limit: int = PAGE
    ) -> Iterator["SqliteWatch"]:
        opened = self._file.open(shared=True)
        with closing(opened.connection), self._file.listening() as bell:
            watch = SqliteWatch(self, self._file, opened, bell, since, disjoint(prefixes), limit)
            watch.begin()
            yield watch

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
        leased = {**(leases or {}), **{key: secrets.token_hex(8) for key in seconds or {}}}
        check_commit(puts, deletes, self._limits, leased)
        wanted: dict[str, bytes | None] = {**puts, **dict.fromkeys(deletes)}
        with self._writing() as (connection, there):
            if commit_id and (made := rows.outcome(connection, commit_id, there.floor)) is not None:
                return made
            rows.check_expected(connection, expect, there)
            for lease in (leases or {}).values():
                rows.check_lease(connection, lease)
            for key, life in (seconds or {}).items():
                now = self._clock()
                rows.grant(connection, leased[key], life, now, rounded_up(life, now))
            revision = there.revision
            if changes := rows.changed(connection, wanted):
                revision += 1
                rows.write(connection, revision, changes)
            rows.put_under(connection, wanted, leased.items())
            if commit_id:
                rows.remember(connection, commit_id, revision)
            return revision

    def compact(self, before: int) -> None:
        """Forget what was superseded before this revision."""
        with self._writing() as (connection, there):
            rows.compact(connection, min(before, there.revision), there.floor)

    # ---- leases

    def lease(self, seconds: float) -> str:
        lease = secrets.token_hex(8)
        with self._writing() as (connection, _):
            now = self._clock()
            rows.grant(connection, lease, seconds, now, now + seconds)
        return lease

    def keep_alive(self, lease: str) -> None:
        with self._writing() as (connection, _):
            seconds = rows.check_lease(connection, lease)
            now = self._clock()
            rows.grant(connection, lease, seconds, now, now + seconds)

    def revoke(self, lease: str) -> None:
        with self._writing() as (connection, there):
            rows.end(connection, [lease], there.revision)

    def close(self) -> None:
        self._file.close()

    # ---- transactions

    @contextmanager
    def _reading(self) -> Iterator[tuple[sqlite3.Connection, State]]:
        with self._file.transaction("BEGIN") as connection:
            there = rows.state(connection)
            if not self.is_overdue(there):
                yield connection, there
                return
        self.catch_up()
        with self._file.transaction("BEGIN") as connection:
            yield connection, rows.state(connection)

    def is_overdue(self, there: State) -> bool:
        """Whether a lease is over, the clock was put back, or the store was."""
        now = self._clock()
        is_over = there.ends is not None and there.ends <= now
        is_early = there.begun is not None and there.begun > now
        return is_over or is_early or 0 < there.revision < self._file.rung()

    def catch_up(self) -> None:
        """Do what `is_overdue` asks for. What can't be written now can be read all the same."""
        with suppress(UnavailableError), self._writing():
            pass

    @contextmanager
    def _writing(self) -> Iterator[tuple[sqlite3.Connection, State]]:
        """Alone, with all done that is overdue; from time to time the past is forgotten."""
        with self._writer:
            with self._file.transaction("BEGIN IMMEDIATE") as connection:
                before = rows.state(connection)
                yield connection, self._caught_up(connection, before)
                after = rows.state(connection)
                if after.revision // _COMPACT_EVERY > before.revision // _COMPACT_EVERY:
                    rows.compact(connection, after.revision - KEPT_REVISIONS, after.floor)
            if after.revision != before.revision:
                self._file.ring(after.revision)

    def _caught_up(self, connection: sqlite3.Connection, there: State) -> State:
        if there.revision and not self.is_overdue(there):
            return there
        rung = self._file.rung()
        if there.revision < rung:
            rows.renew(connection, rung + 1)
        now = self._clock()
        if there.begun is not None and there.begun > now:
            rows.catch_up_clock(connection, now)
        if ended := rows.ended(connection, now):
            rows.end(connection, ended, rows.state(connection).revision)
        return rows.state(connection)


class SqliteWatch:
    """On a connection of its own: it never waits for the store's other users."""

    def __init__(
        self,
        store: SqliteStore,
        file: File,
        opened: Opened,
        bell: Listener,
        since: int,
        prefixes: list[str],
        limit: int,
    ) -> None:
        self._store = store
        self._file = file
        self._opened = opened
        self._bell = bell
        self._identity = ""
        self._since = since
        self._after = ""  # of the revision that follows, what has been told
        self._prefixes = prefixes
        self._selected = prefixes  # from the revision after that on
        self._limit = limit

    @property
    def revision(self) -> int:
        return self._since

    def begin(self) -> None:
        """CompactedError: there is no way on from where it begins."""
        self._look()

    def next(self, timeout: float) -> Batch | None:
        end = time.monotonic() + timeout
        while True:
            if (batch := self._look()) is not None:
                return self._told(batch)
            left = end - time.monotonic()
            if left <= 0:
                return None
            self._bell.wait(min(left, _LOOK_SECONDS))

    def select(self, prefixes: Iterable[str]) -> int:
        self._selected = disjoint(prefixes)
        if self._after:
            return self._since + 1
        self._prefixes = self._selected
        return self._since

    def _look(self) -> Batch | None:
        """What comes next, or a bookmark; None: there is no news."""
        with self._file.errors():
            if self._file.inode() != self._opened.inode:
                raise CompactedError(f"{self._file.path}: another file has taken its place")
            with transaction(self._opened.connection, "BEGIN"):
                there = rows.state(self._opened.connection)
                if not self._store.is_overdue(there):
                    return self._read(there)
        self._store.catch_up()
        with self._file.errors(), transaction(self._opened.connection, "BEGIN"):
            return self._read(rows.state(self._opened.connection))

    def _read(self, there: State) -> Batch | None:
        if self._identity and there.identity != self._identity:
            raise CompactedError(f"{self._file.path}: the store was put back")
        self._identity = there.identity
        rows.check_watched(self._since, there)
        found = rows.next_batch(
            self._opened.connection, self._since, self._after, self._prefixes, self._limit
        )
        if found is None and there.revision > self._since:
            return Batch(there.revision, ())
        return found

    def _told(self, batch: Batch) -> Batch:
        if batch.more:
            self._since, self._after = batch.revision - 1, batch.changes[-1].key
        else:
            self._since, self._after = batch.revision, ""
            self._prefixes = self._selected
        return batch


def _known(at: int | None, there: State) -> int:
    """The revision that is asked for. CompactedError, ValueError: it is gone, or to come."""
    revision = there.revision if at is None else at
    rows.check_known(revision, there.floor)
    if revision > there.revision:
        raise ValueError(f"revision {revision} is in the future; the newest is {there.revision}")
    return revision
