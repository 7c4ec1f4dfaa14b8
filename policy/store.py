"""The store of intent: revisioned, transactional, watched. One contract for every kind of store.

Keys are texts with '/' between their parts, values are bytes. Every commit that changes something makes the
next store-wide revision, from 1 on; revision 0 is the empty store. Several processes may share a store, on
several machines where its kind allows that: nothing here assumes that they see the same files or clocks.

Threads: a Store may be used by any thread, a Watch by one at a time.
"""

import os
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from policy.errors import PolicyError

DEFAULT_LOCATION = "/var/lib/isolane/store.db"
LOCATION_VARIABLE = "ISOLANE_STORE"
LAST = "\U0010ffff"
"""Sorts behind all that keys are made of."""


class StoreError(PolicyError):
    """Base of all errors of a store; its text is for the operator."""


class ConflictError(StoreError):
    """Somebody else has changed what the commit relies on: read again, and try again."""


class CompactedError(StoreError):
    """The store no longer knows that revision: take a snapshot, and go on from there."""


class UnavailableError(StoreError):
    """The store can't be used now: whoever runs it must act. What is forwarded is not affected."""


class NoStoreError(UnavailableError):
    """Nothing is there."""


class Change(NamedTuple):
    """A key's new value; None: it was deleted."""

    key: str
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Batch:
    """The changes of one commit, sorted by key; without any it says only that revision is the newest."""

    revision: int
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the store held at a revision: key -> value, in order of keys, and key -> revision of its last
    change.
    """

    revision: int
    items: Mapping[str, bytes]
    revisions: Mapping[str, int]


class Watch(Protocol):
    """Commits in order, none twice and none left out."""

    def next(self, timeout: float) -> Batch | None:
        """The next commit that matters, or None after `timeout` seconds.

        CompactedError: the watch has fallen behind what the store still knows, or the store was put back to
        what it was before.
        """


class Store(Protocol):
    def items(self, prefix: str) -> tuple[int, dict[str, bytes]]:
        """The newest revision, and what it has under the prefix, in order of keys: all of a large store."""

    def snapshot(
        self, *prefixes: str, keys: Collection[str] | None = None, at: int | None = None
    ) -> Snapshot:
        """The keys that begin with one of `prefixes` and those of `keys` (neither given: all keys), now or
        at revision `at`.

        CompactedError: `at` is below the floor; ValueError: it is in the future.
        """

    def commit(
        self,
        puts: Mapping[str, bytes],
        deletes: Collection[str] = (),
        *,
        unchanged: Mapping[str, int] | None = None,
    ) -> int:
        """Change all of these keys or none, durably; returns the store's revision.

        unchanged: prefix -> revision after which no key that begins with it may have changed, else
        ConflictError. A put of what is there already and a delete of what is not there change nothing; when
        nothing changes at all, no revision is made.
        """

    def watch(self, since: int, *prefixes: str) -> AbstractContextManager[Watch]:
        """Commits after revision `since` that touch keys beginning with one of `prefixes` (none given: all).

        CompactedError: `since` is below the floor, or in the future.
        """

    def compact(self, before: int) -> None:
        """Forget what was superseded before revision `before`, which becomes the floor of what is known."""

    def close(self) -> None:
        """No call may be under way, and no watch be open."""


def open_store(location: str | None = None, create: bool = True) -> Store:
    """The store at `sqlite:PATH` or PATH; by default $ISOLANE_STORE, else /var/lib/isolane/store.db.

    create: make it if there is none, else that is a NoStoreError. UnavailableError: it can't be opened.
    """
    from policy.store_sqlite import SqliteStore

    location = location or os.environ.get(LOCATION_VARIABLE) or DEFAULT_LOCATION
    scheme, colon, rest = location.partition(":")
    if colon and "/" not in scheme:
        if scheme != "sqlite":
            raise UnavailableError(f"{location}: no such kind of store; known: sqlite:PATH")
        location = rest
    return SqliteStore(location, create)


def in_scope(key: str, prefixes: Collection[str]) -> bool:
    return not prefixes or key.startswith(tuple(prefixes))


class Reading:
    """A store at one revision, that of the first read: what was read of it, once, and what that relies on.

    CompactedError from any read: it took so long that the revision is gone.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._revision: int | None = None
        self._items: dict[str, bytes] = {}
        self._keys: set[str] = set()
        self._under: dict[str, dict[str, bytes]] = {}

    @property
    def revision(self) -> int:
        if self._revision is None:
            self._revision = self._store.snapshot(keys=()).revision
        return self._revision

    @property
    def relied_on(self) -> dict[str, int]:
        """For `commit`: that nothing of what was read, or was found missing, has changed."""
        return dict.fromkeys((*self._under, *self._keys), self.revision)

    def load(self, keys: Iterable[str] = (), prefixes: Iterable[str] = ()) -> None:
        """Read these in one call of the store, for those who ask for them one by one."""
        missing = set(keys) - self._keys - self._items.keys()
        scans = set(prefixes) - self._under.keys()
        if not missing and not scans:
            return
        snapshot = self._store.snapshot(*scans, keys=missing, at=self._revision)
        self._revision = snapshot.revision
        self._items.update(snapshot.items)
        self._keys |= missing
        ordered = list(snapshot.items) if scans else []
        for prefix in scans:
            first, end = bisect_left(ordered, prefix), bisect_left(ordered, prefix + LAST)
            self._under[prefix] = {key: snapshot.items[key] for key in ordered[first:end]}

    def get(self, key: str) -> bytes | None:
        found = self._items.get(key)
        if found is None and key not in self._keys:
            self.load([key])
            found = self._items.get(key)
        return found

    def under(self, prefix: str) -> Mapping[str, bytes]:
        """The items whose keys begin with it, in order of keys."""
        self.load(prefixes=[prefix])
        return self._under[prefix]


def check_commit(puts: Mapping[str, bytes], deletes: Collection[str]) -> None:
    """ValueError for what no store takes: an empty key, one with NUL, one both put and deleted."""
    for key in (*puts, *deletes):
        if not key or "\0" in key:
            raise ValueError(f"{key!r} is not a key")
    if both := puts.keys() & set(deletes):
        raise ValueError(f"both put and deleted: {', '.join(sorted(both))}")
