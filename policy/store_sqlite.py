"""The store of one machine: an SQLite file that several processes share.

Every version of every key is a row that says from which revision on it held and until which, so that a
snapshot of any revision above the floor is one query. WAL: readers and the writer don't wait for each other.
synchronous=FULL: what `commit` has returned survives a power failure. A commit rings PATH-bell, at which
watches wake; they look once a second besides, for a writer may die between the two.
"""

import errno
import os
import sqlite3
import stat
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from policy import doorbell
from policy.store import (
    LAST,
    Batch,
    Change,
    CompactedError,
    ConflictError,
    NoStoreError,
    Snapshot,
    UnavailableError,
    check_commit,
    in_scope,
)

KEPT_REVISIONS = 10_000
"""As many stay known without anybody asking; `compact` forgets more."""

_COMPACT_EVERY = 1_000
_LOCK_SECONDS = 10.0
_BUSY_SECONDS = 0.01
_LOOK_SECONDS = 1.0
_APPLICATION_ID = 0x49534C4E
_VERSION = 1
_STILL = (1 << 63) - 1  # `until` of a version that holds still

_File = tuple[int, int]
"""Its device and inode."""

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


def remove(path: Path) -> None:
    """A store that nobody uses, with all its files; none is no error."""
    for suffix in ("", "-wal", "-shm", "-bell"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


class SqliteStore:
    """UnavailableError: the file can't be used, and why. A file that was put in its place is taken up."""

    def __init__(self, path: str | os.PathLike[str], create: bool = True) -> None:
        """create: make the store if there is none, else that is a NoStoreError."""
        self._path = Path(path)
        self._lock = threading.Lock()
        self._connection, self._file = self._open(create)

    # ---- the contract

    def items(self, prefix: str) -> tuple[int, dict[str, bytes]]:
        with self._transaction("BEGIN") as connection:
            revision, _ = _state(connection)
            rows = connection.execute(
                "SELECT key, value FROM version WHERE key >= ? AND key < ?"
                " AND until = ? AND value IS NOT NULL ORDER BY key",
                (prefix, prefix + LAST, _STILL),
            )
            return revision, dict(rows)

    def snapshot(
        self, *prefixes: str, keys: Collection[str] | None = None, at: int | None = None
    ) -> Snapshot:
        with self._transaction("BEGIN") as connection:
            newest, floor = _state(connection)
            revision = newest if at is None else at
            _check_known(revision, floor)
            if revision > newest:
                raise ValueError(f"revision {revision} is in the future; the newest is {newest}")
            ranges = prefixes or (("",) if keys is None else ())
            items: dict[str, bytes] = {}
            revisions: dict[str, int] = {}
            for key, value, changed in _held(connection, ranges, keys or (), revision):
                items[key] = value
                revisions[key] = changed
        if len(ranges) != 1 or keys:
            order = sorted(items)
            items = {key: items[key] for key in order}
            revisions = {key: revisions[key] for key in order}
        return Snapshot(revision, items, revisions)

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
            _check_unchanged(connection, unchanged or {}, newest, floor)
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
        connection, file = self._open(create=False)
        with closing(connection), self._listening() as bell:
            watch = SqliteWatch(self, connection, file, bell, since, prefixes)
            _check_watched(since, *_state(connection))
            yield watch

    @contextmanager
    def _listening(self) -> Iterator[doorbell.Listener]:
        with self._errors():
            bell = doorbell.Listener(self._bell)
        with closing(bell):
            yield bell

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

    def _open(self, create: bool) -> tuple[sqlite3.Connection, _File]:
        with self._errors():
            if create:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                _make_file(self._path)
            file = self._identity()
            _check_access(self._path)
            connection = sqlite3.connect(
                self._path, timeout=_LOCK_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare_patiently(connection)
            except BaseException:
                connection.close()
                raise
        return connection, file

    def _identity(self) -> _File:
        """Of the file that is at the path now."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            raise NoStoreError(f"{self._path}: no store is there") from None
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        return status.st_dev, status.st_ino

    def _prepare_patiently(self, connection: sqlite3.Connection) -> None:
        """To change the journal's mode SQLite does not wait for others that make the store too."""
        end = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                self._prepare(connection)
            except sqlite3.OperationalError as error:
                is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not is_busy or time.monotonic() >= end:
                    raise
                time.sleep(_BUSY_SECONDS)
            else:
                return

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA synchronous = FULL")
        # Before what marks them as ours: another process may be making them, all in one transaction.
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
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
            if self._identity() != self._file:
                connection, file = self._open(create=False)  # as long as it fails the old file may come back
                self._connection.close()
                self._connection, self._file = connection, file
            self._connection.execute(begin)
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

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
        file: _File,
        bell: doorbell.Listener,
        since: int,
        prefixes: Collection[str],
    ) -> None:
        self._store = store
        self._connection = connection
        self._file = file
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
            if self._store._identity() != self._file:
                raise CompactedError(f"{self._store._path}: another file has taken its place")
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
        _check_watched(self._since, newest, floor)
        for revision, group in groupby(rows, itemgetter(0)):
            changes = tuple(Change(key, value) for _, key, value in group if in_scope(key, self._prefixes))
            if changes or revision == newest:
                self._read.append(Batch(revision, changes))
        self._since = newest


def _make_file(path: Path) -> None:
    """Unless there is one.

    It is never opened: closing any descriptor of it would give up the locks that SQLite holds for this
    process, and another process, taking itself for the last, would remove the log that this one reads.
    """
    with suppress(FileExistsError):
        os.mknod(path, 0o600)


def _check_access(path: Path) -> None:
    """Readers write, too, beside the file: SQLite would only say that it can't open it."""
    if not os.access(path, os.R_OK | os.W_OK):
        reason = errno.EROFS if os.statvfs(path).f_flag & os.ST_RDONLY else errno.EACCES
        raise OSError(reason, os.strerror(reason))


# ---- steps of a transaction --------------------------------------------------------------------------------


def _state(connection: sqlite3.Connection) -> tuple[int, int]:
    """The newest revision and the floor."""
    revision, floor = connection.execute("SELECT revision, floor FROM store").fetchone()
    return revision, floor


def _held(
    connection: sqlite3.Connection, prefixes: Iterable[str], keys: Iterable[str], revision: int
) -> Iterator[tuple[str, bytes, int]]:
    """Key, value and revision of what held at a revision. One query each: how many there are has no limit."""
    for prefix in prefixes:
        yield from connection.execute(
            "SELECT key, value, revision FROM version WHERE key >= ? AND key < ?"
            " AND +revision <= ? AND until > ? AND value IS NOT NULL ORDER BY key",
            (prefix, prefix + LAST, revision, revision),
        )
    for key in keys:
        for value, changed in connection.execute(
            "SELECT value, revision FROM version WHERE key = ? AND revision <= ?"
            " ORDER BY revision DESC LIMIT 1",
            (key, revision),
        ):
            if value is not None:
                yield key, value, changed


def _check_known(revision: int, floor: int) -> None:
    if revision < floor:
        raise CompactedError(f"revision {revision} is gone; the oldest known is {floor}")


def _check_watched(since: int, newest: int, floor: int) -> None:
    _check_known(since, floor)
    if since > newest:
        raise CompactedError(f"revision {since} is gone; the newest is {newest}: the store was put back")


def _check_unchanged(
    connection: sqlite3.Connection, unchanged: Mapping[str, int], newest: int, floor: int
) -> None:
    for prefix, revision in unchanged.items():
        if revision < floor:
            raise ConflictError(f"{prefix} has changed since revision {revision}")
    oldest = min(unchanged.values(), default=newest)
    if oldest >= newest:
        return
    lengths = {len(prefix) for prefix in unchanged}
    for key, changed in connection.execute(
        "SELECT key, revision FROM version INDEXED BY version_by_revision WHERE revision > ?", (oldest,)
    ):
        for length in lengths:
            prefix = key[:length]
            if changed > unchanged.get(prefix, changed):
                raise ConflictError(f"{prefix} has changed since revision {unchanged[prefix]}")


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
