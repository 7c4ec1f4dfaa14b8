"""A store in this process's memory: the contract at its plainest, for tests and offline use.

Every commit is kept as it came; what the store held at a revision is found by going through them.
"""

import threading
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

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


class MemoryStore:
    def __init__(self) -> None:
        self._commits: list[Batch] = []
        self._floor = 0
        self._closed = False
        self._changed = threading.Condition()

    def snapshot(
        self, *prefixes: str, keys: Collection[str] | None = None, at: int | None = None
    ) -> Snapshot:
        with self._changed:
            self._check_open()
            revision = len(self._commits) if at is None else at
            self._check_known(revision)
            if revision > len(self._commits):
                raise ValueError(f"revision {revision} is in the future; the newest is {len(self._commits)}")
            held = self._held(revision)
        wanted = frozenset(keys or ())
        ranges = prefixes or keys is None
        found = sorted(key for key in held if key in wanted or (ranges and in_scope(key, prefixes)))
        return Snapshot(revision, {key: held[key][0] for key in found}, {key: held[key][1] for key in found})

    def commit(
        self,
        puts: Mapping[str, bytes],
        deletes: Collection[str] = (),
        *,
        unchanged: Mapping[str, int] | None = None,
    ) -> int:
        check_commit(puts, deletes)
        with self._changed:
            self._check_open()
            for prefix, revision in (unchanged or {}).items():
                if revision < self._floor or any(
                    in_scope(change.key, [prefix])
                    for batch in self._commits[revision:]
                    for change in batch.changes
                ):
                    raise ConflictError(f"{prefix} has changed since revision {revision}")
            held = self._held(len(self._commits))
            changes = [
                Change(key, value) for key, value in puts.items() if held.get(key, (None,))[0] != value
            ]
            changes += [Change(key, None) for key in set(deletes) if key in held]
            if changes:
                self._commits.append(
                    Batch(len(self._commits) + 1, tuple(sorted(changes, key=lambda c: c.key)))
                )
                self._changed.notify_all()
            return len(self._commits)

    @contextmanager
    def watch(self, since: int, *prefixes: str) -> Iterator["MemoryWatch"]:
        with self._changed:
            self._check_open()
            self._check_known(since)
            newest = len(self._commits)
            if since > newest:
                words = f"revision {since} is gone; the newest is {newest}: the store was put back"
                raise CompactedError(words)
        yield MemoryWatch(self, since, prefixes)

    def compact(self, before: int) -> None:
        with self._changed:
            self._check_open()
            self._floor = max(self._floor, min(before, len(self._commits)))

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def after(self, since: int, timeout: float) -> list[Batch]:
        """Commits after `since`, waiting for one; none when time is up."""
        end = time.monotonic() + timeout
        with self._changed:
            while True:
                self._check_open()
                self._check_known(since)
                if since < len(self._commits):
                    return self._commits[since:]
                if not self._changed.wait(end - time.monotonic()):
                    return []

    def _held(self, revision: int) -> dict[str, tuple[bytes, int]]:
        held: dict[str, tuple[bytes, int]] = {}
        for batch in self._commits[:revision]:
            for key, value in batch.changes:
                if value is None:
                    del held[key]
                else:
                    held[key] = value, batch.revision
        return held

    def _check_open(self) -> None:
        if self._closed:
            raise UnavailableError("the store is closed")

    def _check_known(self, revision: int) -> None:
        if revision < self._floor:
            raise CompactedError(f"revision {revision} is gone; the oldest known is {self._floor}")


class MemoryWatch:
    def __init__(self, store: MemoryStore, since: int, prefixes: Collection[str]) -> None:
        self._store = store
        self._since = since
        self._prefixes = prefixes
        self._read: deque[Batch] = deque()

    def next(self, timeout: float) -> Batch | None:
        if not self._read:
            self._look(timeout)
        return self._read.popleft() if self._read else None

    def _look(self, timeout: float) -> None:
        """Read all that is new; where nothing of it matters at the end, say how far it goes."""
        batches = self._store.after(self._since, timeout)
        for batch in batches:
            changes = tuple(change for change in batch.changes if in_scope(change.key, self._prefixes))
            if changes or batch is batches[-1]:
                self._read.append(Batch(batch.revision, changes))
            self._since = batch.revision
