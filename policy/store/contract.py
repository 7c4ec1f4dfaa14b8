"""The contract of every kind of store of intent: revisioned, transactional, watched, leased.

Keys are texts with '/' between their parts (policy/kinds/keys.py), in order of their code points; values are
bytes. Every commit that changes something makes the next store-wide revision; revision 0 is a store that
nothing was ever written to. Several processes may share a store, on several machines where its kind allows
that: nothing here assumes that they see the same files or clocks. What of the past is still known is the
store's own affair: who falls behind that is told by a CompactedError, and reads anew.

Threads: a Store may be used by any thread, a Watch by one at a time. Every call may raise UnavailableError.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from policy.errors import TooLargeError

PAGE = 1_000
"""Keys of a page, or changes of a batch, unless others are asked for."""

PAGE_BYTES = 4 << 20
"""A page or a batch ends with the value that reaches it."""

LAST = "\U0010ffff"
"""Sorts behind all that keys are made of."""

EVERYTHING = ("",)
"""The prefix of all keys."""

Row = tuple[str, bytes, int]
"""A key, its value and the revision of its last change."""


class Change(NamedTuple):
    """A key's new value; None: it was deleted."""

    key: str
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Batch:
    """The changes of one commit, in order of keys, or as many of them as fit: more of the same revision
    follow then. Without any it is a bookmark: all that matters up to this revision has been told.
    """

    revision: int
    changes: tuple[Change, ...]
    more: bool = False


class Page(NamedTuple):
    """What the store held at a revision, in order of keys; more: there are keys behind the last."""

    revision: int
    rows: Sequence[Row]
    more: bool = False


class Limits(NamedTuple):
    """Of one commit: puts and deletes, and bytes of keys and values; and bytes of one value."""

    ops: int
    size: int
    value: int


@dataclass(frozen=True, slots=True)
class Expect:
    """What a commit relies on: by key and by prefix of keys, the revision after which none of them may have
    been put or deleted.
    """

    keys: Mapping[str, int] = field(default_factory=dict)
    prefixes: Mapping[str, int] = field(default_factory=dict)


NOTHING = Expect()


class Watch(Protocol):
    """Commits in order, none twice and none left out."""

    @property
    def revision(self) -> int:
        """Up to which all has been told."""

    def next(self, timeout: float) -> Batch | None:
        """The next changes that matter, or a bookmark; None after `timeout` seconds without news.

        CompactedError: the watch has fallen behind what the store still knows, or the store is another than
        it was.
        """

    def select(self, prefixes: Iterable[str]) -> int:
        """From now on tell of keys that begin with one of these. Returns the revision after which that
        holds: what the store has at it under a prefix that is new has to be read.
        """


class Store(Protocol):
    def identity(self) -> str:
        """Of what is stored and its past: another one after the store was put back to what it was before.
        Revisions of one identity can be compared with each other, and a watch goes on from one of them.
        """

    def limits(self) -> Limits: ...

    def range(self, prefix: str, at: int | None = None, after: str = "", limit: int = PAGE) -> Page:
        """At most so many of the keys that begin with the prefix and come after a key, now or at a revision.

        CompactedError: what was at that revision is no longer known; ValueError: it is in the future.
        """

    def get(self, keys: Iterable[str], at: int | None = None) -> Page:
        """Those of these keys that are there, like `range`."""

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
        """Change all of these keys or none, durably; returns the store's revision.

        A put of what is there already and a delete of what is not there change nothing; when nothing changes
        at all, no revision is made.

        commit_id: where a commit with this id was made, it is not made again, and its revision returned.
        leases: by key that is put, the lease with which it goes; a key that is put again without one stays.
        seconds: by key that is put, after how long it goes, or up to a tenth of that later.

        ConflictError: what is expected does not hold. TooLargeError: beyond the limits. LeaseError: there is
        no such lease (any more). UnavailableError: it was not made; if the connection was lost on the way,
        `outcome` knows.
        """

    def outcome(self, commit_id: str) -> int | None:
        """The revision that the commit with this id returned; None: it was not made. Known for as long as
        the changes since then are.
        """

    def watch(
        self, since: int, prefixes: Iterable[str] = EVERYTHING, limit: int = PAGE
    ) -> AbstractContextManager[Watch]:
        """Commits after revision `since` that touch keys beginning with one of the prefixes, at most `limit`
        changes a batch.

        CompactedError: not all changes since then are known, or it is in the future.
        """

    def lease(self, seconds: float) -> str:
        """A lease for as long, from now or the last `keep_alive`; then the keys under it are deleted, in a
        commit.
        """

    def keep_alive(self, lease: str) -> None:
        """No commit. LeaseError: it has ended."""

    def revoke(self, lease: str) -> None:
        """End it now; one that has ended is no error."""

    def close(self) -> None:
        """No call may be under way, and no watch be open."""


def in_scope(key: str, prefixes: Collection[str]) -> bool:
    return key.startswith(tuple(prefixes))


def disjoint(prefixes: Iterable[str]) -> list[str]:
    """In order, without those that begin with another: together they hold the same keys, each one once."""
    if isinstance(prefixes, str):
        raise TypeError("one prefix, not several: its characters would be taken for them")
    kept: list[str] = []
    for prefix in sorted(prefixes):
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return kept


def check_commit(
    puts: Mapping[str, bytes], deletes: Collection[str], limits: Limits, leased: Iterable[str]
) -> None:
    """ValueError for what no store takes: an empty key, one with NUL, one both put and deleted, a lease of
    what is not put. TooLargeError.
    """
    if (largest := max(map(len, puts.values()), default=0)) > limits.value:
        raise TooLargeError(f"a value of {largest:,} bytes: this store takes {limits.value:,}")
    size = sum(map(len, puts)) + sum(map(len, puts.values())) + sum(map(len, deletes))
    if len(puts) + len(deletes) > limits.ops or size > limits.size:
        raise TooLargeError(
            f"{len(puts) + len(deletes):,} changes of {size:,} bytes in one commit:"
            f" this store takes {limits.ops:,} of {limits.size:,} bytes"
        )
    for key in (*puts, *deletes):
        if not key or "\0" in key:
            raise ValueError(f"{key!r} is not a key")
    if both := puts.keys() & set(deletes):
        raise ValueError(f"both put and deleted: {', '.join(sorted(both))}")
    if absent := set(leased) - puts.keys():
        raise ValueError(f"under a lease, but not put: {', '.join(sorted(absent))}")


def rounded_up(seconds: float, now: float) -> float:
    """When a key that is put for so many seconds goes: many that are put one after the other go together."""
    step = seconds / 10
    return (int((now + seconds) / step) + 1) * step if step else now
