"""The store of one machine: an SQLite file that several processes share.

Every version of every key is a row that says from which revision on it held and until which, so that a
snapshot of any revision above the floor is one query. WAL: readers and the writer don't wait for each other.
synchronous=FULL: what `commit` has returned survives a power failure. A commit rings PATH-bell, at which
watches wake; they look once a second besides, for a writer may die between the two.
"""

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from policy import doorbell
from policy.store import (
    Batch,
    Change,
    CompactedError,
    ConflictError,
    Snapshot,
    UnavailableError,
    check_commit,
    in_scope,
)

KEPT_REVISIONS = 10_000
"""As many stay known without anybody asking; `compact` forgets more."""

_COMPACT_EVERY = 1_000
_LOCK_SECONDS = 10.0
_LOOK_SECONDS = 1.0
_APPLICATION_ID = 0x49534C4E
_VERSION = 1
_STILL = (1 << 63) - 1  # `until` of a version that holds still
_LAST = "\U0010ffff"  # sorts behind all that names are made of

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS store (revision INTEGER NOT NULL, floor INTEGER NOT NULL);
INSERT INTO store SELECT 0, 0 WHERE NOT EXISTS (SELECT 1 FROM store);
CREATE TABLE IF NOT EXISTS version (
    key TEXT NOT NULL,
    revision INTEGER NOT NULL,
    until INTEGER NOT NULL,
    value BLOB,  -- NULL: deleted
    PRIMARY KEY (key, revision)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS version_by_revision ON version (revision);
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_VERSION};
COMMIT;
"""


class SqliteStore:
    """UnavailableError: the file can't be used, and why."""

    def __init__(self, path: str | os.PathLike[str], create: bool = True) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._connection = self._open(create)
        with self._errors():
            opened = self._path.stat()
        self._identity = opened.st_dev, opened.st_ino

    # ---- the contract

    def snapshot(self, *prefixes: str, at: int | None = None) -> Snapshot:
        with self._transaction("BEGIN") as connection:
            newest, floor = _state(connection)
            revision = newest if at is None else at
            _check_known(revision, floor)
            if revision > newest:
                raise ValueError(f"revision {revision} is in the future; the newest is {newest}")
            rows = connection.execute(
                "SELECT key, value, revision FROM version WHERE +revision <= ? AND until > ?"
                f" AND value IS NOT NULL AND {_scope(prefixes)} ORDER BY key",
                (revision, revision, *_bounds(prefixes)),
            ).fetchall()
        return Snapshot(
            revision, {key: value for key, value, _ in rows}, {key: changed for key, _, changed in rows}
        )

    def commit(
        self,
        puts: Mapping[str, bytes],
        deletes: Collection[str] = (),
        *,
        unchanged: Mapping[str, int] | None = None,
    ) -> int:
        check_commit(puts, deletes)
        with self._transaction("BEGIN IMMEDIATE") as connection:
            newest, floor = _state(connection)
            for prefix, revision in (unchanged or {}).items():
                _check_unchanged(connection, prefix, revision, floor)
            changes = list(_changes(connection, puts, deletes))
            if not changes:
                return newest
            revision = newest + 1
            _write(connection, revision, changes)
            if revision % _COMPACT_EVERY == 0:
                _compact(connection, revision - KEPT_REVISIONS, floor)
        with suppress(OSError):  # watches look by themselves
            doorbell.ring(self._bell)
        return revision

    @contextmanager
    def watch(self, since: int, *prefixes: str) -> Iterator["SqliteWatch"]:
        with self._errors():
            bell = doorbell.Listener(self._bell)
        with closing(bell), closing(self._open()) as connection:
            watch = SqliteWatch(self, connection, bell, since, prefixes)
            _check_known(since, _state(connection)[1])
            yield watch

    def compact(self, before: int) -> None:
        with self._transaction("BEGIN IMMEDIATE") as connection:
            newest, floor = _state(connection)
            _compact(connection, min(before, newest), floor)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    # ---- SQLite

    @property
    def _bell(self) -> Path:
        return self._path.with_name(self._path.name + "-bell")

    def _open(self, create: bool = False) -> sqlite3.Connection:
        with self._errors():
            if create:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
            os.close(os.open(self._path, flags, 0o600))
            connection = sqlite3.connect(
                self._path, timeout=_LOCK_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA synchronous = FULL")
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application != _APPLICATION_ID:
            raise UnavailableError(f"{self._path}: a database, but not a store of isolane")
        if version > _VERSION:
            raise UnavailableError(
                f"{self._path}: written by a newer isolane: version {version}, known is {_VERSION}"
            )
        connection.execute("PRAGMA journal_mode = WAL")
        if not version:
            connection.executescript(_SCHEMA)

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._lock, self._errors():
            self._check_in_place()
            self._connection.execute(begin)
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    def _check_in_place(self) -> None:
        """A connection goes on with the file that it opened, wherever that was moved."""
        found = self._path.stat()
        if (found.st_dev, found.st_ino) != self._identity:
            raise UnavailableError(f"{self._path}: is another file than was opened")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UnavailableError(f"{self._path}: {error}") from error
        except OSError as error:
            raise UnavailableError(f"{self._path}: {error.strerror or error}") from error


class SqliteWatch:
    """On a connection of its own: it never waits for the store's other users."""

    def __init__(
        self,
        store: SqliteStore,
        connection: sqlite3.Connection,
        bell: doorbell.Listener,
        since: int,
        prefixes: Collection[str],
    ) -> None:
        self._store = store
        self._connection = connection
        self._bell = bell
        self._since = since
        self._prefixes = prefixes
        self._read: deque[Batch] = deque()

    def next(self, timeout: float) -> Batch | None:
        end = time.monotonic() + timeout
        while True:
            if not self._read:
                self._look()
            if self._read:
                return self._read.popleft()
            left = end - time.monotonic()
            if left <= 0:
                return None
            self._bell.wait(min(left, _LOOK_SECONDS))

    def _look(self) -> None:
        with self._store._errors():
            self._store._check_in_place()
            self._connection.execute("BEGIN")
            try:
                newest, floor = _state(self._connection)
                rows = self._connection.execute(
                    "SELECT revision, key, value FROM version INDEXED BY version_by_revision"
                    " WHERE revision > ? ORDER BY revision, key",
                    (self._since,),
                ).fetchall()
            finally:
                self._connection.execute("COMMIT")
        _check_known(self._since, floor)
        for revision, group in groupby(rows, itemgetter(0)):
            changes = tuple(Change(key, value) for _, key, value in group if in_scope(key, self._prefixes))
            if changes or revision == newest:
                self._read.append(Batch(revision, changes))
        self._since = newest


# ---- steps of a transaction --------------------------------------------------------------------------------


def _state(connection: sqlite3.Connection) -> tuple[int, int]:
    """The newest revision and the floor."""
    revision, floor = connection.execute("SELECT revision, floor FROM store").fetchone()
    return revision, floor


def _scope(prefixes: Collection[str]) -> str:
    return "(" + " OR ".join(["(key >= ? AND key < ?)"] * len(prefixes) or ["1"]) + ")"


def _bounds(prefixes: Collection[str]) -> list[str]:
    return [bound for prefix in prefixes for bound in (prefix, prefix + _LAST)]


def _check_known(revision: int, floor: int) -> None:
    if revision < floor:
        raise CompactedError(f"revision {revision} is gone; the oldest known is {floor}")


def _check_unchanged(connection: sqlite3.Connection, prefix: str, revision: int, floor: int) -> None:
    changed = connection.execute(
        "SELECT 1 FROM version INDEXED BY version_by_revision"
        f" WHERE revision > ? AND {_scope([prefix])} LIMIT 1",
        (revision, *_bounds([prefix])),
    ).fetchone()
    if changed or revision < floor:
        raise ConflictError(f"{prefix} has changed since revision {revision}")


def _changes(
    connection: sqlite3.Connection, puts: Mapping[str, bytes], deletes: Collection[str]
) -> Iterator[tuple[str, bytes | None]]:
    wanted: dict[str, bytes | None] = {**puts, **dict.fromkeys(deletes)}
    for key, value in wanted.items():
        row: Any = connection.execute(
            "SELECT value FROM version WHERE key = ? ORDER BY revision DESC LIMIT 1", (key,)
        ).fetchone()
        if (row[0] if row else None) != value:
            yield key, value


def _write(
    connection: sqlite3.Connection, revision: int, changes: Collection[tuple[str, bytes | None]]
) -> None:
    connection.executemany(
        "UPDATE version SET until = ? WHERE key = ? AND until = ?",
        ((revision, key, _STILL) for key, _ in changes),
    )
    connection.executemany(
        "INSERT INTO version (key, revision, until, value) VALUES (?, ?, ?, ?)",
        ((key, revision, _STILL, value) for key, value in changes),
    )
    connection.execute("UPDATE store SET revision = ?", (revision,))


def _compact(connection: sqlite3.Connection, before: int, floor: int) -> None:
    if before <= floor:
        return
    connection.execute("DELETE FROM version WHERE until <= ?", (before,))
    connection.execute("DELETE FROM version WHERE value IS NULL AND revision <= ?", (before,))
    connection.execute("UPDATE store SET floor = ?", (before,))
