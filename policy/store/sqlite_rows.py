"""The tables of an SQLite store, and the steps of its transactions.

Every version of every key is a row that says from which revision on it held and until which, so that what was
at any revision above the floor is found by one query.
"""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from policy.errors import CompactedError, ConflictError, LeaseError
from policy.store.contract import LAST, PAGE_BYTES, Batch, Change, Expect, Page, Row

APPLICATION_ID = 0x49534C4E
VERSION = 2
_STILL = (1 << 63) - 1  # `until` of a version that holds still

SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS store (identity TEXT NOT NULL, revision INTEGER NOT NULL, floor INTEGER NOT NULL);
INSERT INTO store SELECT lower(hex(randomblob(8))), 0, 0 WHERE NOT EXISTS (SELECT 1 FROM store);
CREATE TABLE IF NOT EXISTS version (
    key TEXT NOT NULL,
    revision INTEGER NOT NULL,
    until INTEGER NOT NULL,
    value BLOB,  -- NULL: deleted
    PRIMARY KEY (key, revision)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS version_by_revision ON version (revision, key);
CREATE TABLE IF NOT EXISTS made (id TEXT PRIMARY KEY, revision INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lease (
    id TEXT PRIMARY KEY,
    seconds REAL NOT NULL,
    begun REAL NOT NULL,  -- when it was granted or kept alive, in Unix seconds
    end REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS lease_by_begin ON lease (begun);
CREATE INDEX IF NOT EXISTS lease_by_end ON lease (end);
CREATE TABLE IF NOT EXISTS leased (key TEXT PRIMARY KEY, lease TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS leased_by_lease ON leased (lease);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
COMMIT;
"""


class State(NamedTuple):
    """floor: the oldest revision that is known. ends: when the next lease does; begun: when the last one was
    kept alive.
    """

    identity: str
    revision: int
    floor: int
    ends: float | None
    begun: float | None


def state(connection: sqlite3.Connection) -> State:
    row: tuple[Any, ...] = connection.execute(
        "SELECT identity, revision, floor, (SELECT min(end) FROM lease), (SELECT max(begun) FROM lease)"
        " FROM store"
    ).fetchone()
    return State(*row)


def check_known(revision: int, floor: int) -> None:
    if revision < floor:
        raise CompactedError(f"revision {revision} is gone; the oldest known is {floor}")


def check_watched(since: int, there: State) -> None:
    check_known(since, there.floor)
    if since > there.revision:
        raise CompactedError(
            f"revision {since} is gone; the newest is {there.revision}: the store was put back"
        )


# ---- reading -----------------------------------------------------------------------------------------------


def page(connection: sqlite3.Connection, prefix: str, revision: int, after: str, limit: int) -> Page:
    start = max(prefix, f"{after}\0") if after else prefix  # no key has a NUL
    found = connection.execute(
        "SELECT key, value, revision FROM version WHERE key >= ? AND key < ?"
        " AND +revision <= ? AND until > ? AND value IS NOT NULL ORDER BY key",
        (start, prefix + LAST, revision, revision),
    )
    rows: list[Row] = []
    room = PAGE_BYTES
    for row in islice(found, limit):  # one at a time: each may be of a MiB
        rows.append(row)
        room -= len(row[1])
        if room <= 0:
            break
    more = found.fetchone() is not None
    found.close()
    return Page(revision, rows, more)


def items(connection: sqlite3.Connection, keys: Iterable[str], revision: int) -> Iterator[Row]:
    """One query each: how many there are has no limit."""
    for key in sorted(set(keys)):
        for value, changed in connection.execute(
            "SELECT value, revision FROM version WHERE key = ? AND revision <= ?"
            " ORDER BY revision DESC LIMIT 1",
            (key, revision),
        ):
            if value is not None:
                yield key, value, changed


def next_batch(
    connection: sqlite3.Connection, since: int, after: str, prefixes: Collection[str], limit: int
) -> Batch | None:
    """The first commit that touches one of the prefixes, of those after `since` and, with `after`, of what
    revision since + 1 has behind that key. Reads no more than it returns.
    """
    revision = since
    while True:
        (found,) = connection.execute(
            "SELECT min(revision) FROM version WHERE revision > ?", (revision,)
        ).fetchone()
        if found is None:
            return None
        if found > since + 1:
            after = ""
        changes: list[Change] = []
        size = 0
        for change in _changes_of(connection, found, prefixes, after):
            if len(changes) == limit or size >= PAGE_BYTES:
                return Batch(found, tuple(changes), more=True)
            changes.append(change)
            size += len(change.value or b"")
        if changes:
            return Batch(found, tuple(changes))
        revision = found


def _changes_of(
    connection: sqlite3.Connection, revision: int, prefixes: Iterable[str], after: str
) -> Iterator[Change]:
    """prefixes: disjoint and in order."""
    for prefix in prefixes:
        start = max(prefix, f"{after}\0") if after else prefix
        yield from map(
            Change._make,
            connection.execute(
                "SELECT key, value FROM version INDEXED BY version_by_revision"
                " WHERE revision = ? AND key >= ? AND key < ? ORDER BY key",
                (revision, start, prefix + LAST),
            ),
        )


def outcome(connection: sqlite3.Connection, commit_id: str, floor: int) -> int | None:
    row: Any = connection.execute("SELECT revision FROM made WHERE id = ?", (commit_id,)).fetchone()
    return row[0] if row is not None and row[0] >= floor else None


# ---- a commit ----------------------------------------------------------------------------------------------


def check_expected(connection: sqlite3.Connection, expect: Expect, there: State) -> None:
    for what, revision in (*expect.keys.items(), *expect.prefixes.items()):
        if not there.floor <= revision <= there.revision:
            raise _conflict(what, revision)
    oldest = min((*expect.keys.values(), *expect.prefixes.values()), default=there.revision)
    if oldest >= there.revision:
        return
    lengths = {len(prefix) for prefix in expect.prefixes}
    for key, changed in connection.execute(
        "SELECT key, revision FROM version INDEXED BY version_by_revision WHERE revision > ?", (oldest,)
    ):
        if changed > expect.keys.get(key, changed):
            raise _conflict(key, expect.keys[key])
        for length in lengths:
            prefix = key[:length]
            if changed > expect.prefixes.get(prefix, changed):
                raise _conflict(prefix, expect.prefixes[prefix])


def _conflict(what: str, revision: int) -> ConflictError:
    return ConflictError(f"{what} has changed since revision {revision}")


def changed(
    connection: sqlite3.Connection, wanted: Mapping[str, bytes | None]
) -> list[tuple[str, bytes | None]]:
    """What of this is not so already."""
    found = []
    for key, value in wanted.items():
        row: Any = connection.execute(
            "SELECT value FROM version WHERE key = ? ORDER BY revision DESC LIMIT 1", (key,)
        ).fetchone()
        if (row[0] if row else None) != value:
            found.append((key, value))
    return found


def write(
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


def remember(connection: sqlite3.Connection, commit_id: str, revision: int) -> None:
    connection.execute("INSERT OR REPLACE INTO made (id, revision) VALUES (?, ?)", (commit_id, revision))


def compact(connection: sqlite3.Connection, before: int, floor: int) -> None:
    if before <= floor:
        return
    connection.execute("DELETE FROM version WHERE until <= ?", (before,))
    connection.execute("DELETE FROM version WHERE value IS NULL AND revision <= ?", (before,))
    connection.execute("DELETE FROM made WHERE revision < ?", (before,))
    connection.execute("UPDATE store SET floor = ?", (before,))


def renew(connection: sqlite3.Connection, revision: int) -> None:
    """Another store than before, which never had revisions up to this one."""
    connection.execute(
        "UPDATE store SET identity = lower(hex(randomblob(8))), revision = ?, floor = ?", (revision, revision)
    )


# ---- leases ------------------------------------------------------------------------------------------------


def grant(connection: sqlite3.Connection, lease: str, seconds: float, begun: float, end: float) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO lease (id, seconds, begun, end) VALUES (?, ?, ?, ?)",
        (lease, seconds, begun, end),
    )


def check_lease(connection: sqlite3.Connection, lease: str) -> float:
    """For how many seconds it was granted. LeaseError."""
    row: Any = connection.execute("SELECT seconds FROM lease WHERE id = ?", (lease,)).fetchone()
    if row is None:
        raise LeaseError("the lease has ended")
    return float(row[0])


def put_under(
    connection: sqlite3.Connection, written: Mapping[str, object], leases: Iterable[tuple[str, str]]
) -> None:
    """Of the keys that are written, these are under leases."""
    (count,) = connection.execute("SELECT count(*) FROM leased").fetchone()
    freed: Iterable[str] = written
    if count <= len(written):
        there = connection.execute("SELECT key FROM leased").fetchall()
        freed = [key for (key,) in there if key in written]
    connection.executemany("DELETE FROM leased WHERE key = ?", ((key,) for key in freed))
    connection.executemany("INSERT INTO leased (key, lease) VALUES (?, ?)", leases)


def catch_up_clock(connection: sqlite3.Connection, now: float) -> None:
    """A clock that was put back makes no lease longer."""
    connection.execute("UPDATE lease SET end = end - (begun - ?), begun = ? WHERE begun > ?", (now, now, now))


def ended(connection: sqlite3.Connection, now: float) -> list[str]:
    return [lease for (lease,) in connection.execute("SELECT id FROM lease WHERE end <= ?", (now,))]


def end(connection: sqlite3.Connection, leases: Collection[str], revision: int) -> int:
    """Delete these leases and the keys under them; returns the newest revision then."""
    gone: list[tuple[str, bytes | None]] = []
    for lease in leases:
        found = connection.execute("SELECT key FROM leased WHERE lease = ?", (lease,)).fetchall()
        gone += [(key, None) for (key,) in found]
        connection.execute("DELETE FROM leased WHERE lease = ?", (lease,))
        connection.execute("DELETE FROM lease WHERE id = ?", (lease,))
    if gone:
        revision += 1
        write(connection, revision, gone)
    return revision
