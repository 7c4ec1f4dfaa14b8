"""Reads of a store that are made of several pages: a snapshot, and a reading that knows what it relies on."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from policy.store.contract import PAGE, Expect, Page, Row, Store, disjoint

_LARGE_PAGE = 10 * PAGE


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the store held at a revision: key -> value, in order of keys, and key -> revision of its last
    change.
    """

    revision: int
    items: Mapping[str, bytes]
    revisions: Mapping[str, int]


def rows_under(store: Store, prefix: str, at: int) -> Iterator[Row]:
    """All that the store has under a prefix at a revision, page by page. CompactedError: see Store.range."""
    for page in _pages(store, prefix, at):
        yield from page.rows


def _pages(store: Store, prefix: str, at: int) -> Iterator[Page]:
    after, more = "", True
    while more:
        page = store.range(prefix, at, after, _LARGE_PAGE)
        yield page
        if more := page.more:
            after = page.rows[-1][0]


def items_under(store: Store, prefix: str, at: int) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for page in _pages(store, prefix, at):
        for key, value, _ in page.rows:
            found[key] = value
    return found


def newest(store: Store) -> int:
    """The newest revision."""
    return store.get(()).revision


def snapshot_of(
    store: Store, *prefixes: str, keys: Collection[str] | None = None, at: int | None = None
) -> Snapshot:
    """The keys that begin with one of `prefixes` and those of `keys` (neither given: all keys), now or at a
    revision. CompactedError, ValueError: see Store.range.
    """
    first = store.get(keys or (), at)
    found = list(first.rows)
    for prefix in disjoint(prefixes if prefixes or keys is not None else ("",)):
        for page in _pages(store, prefix, first.revision):
            found += page.rows
    if keys and prefixes:
        found = sorted({row[0]: row for row in found}.values())
    return Snapshot(
        first.revision,
        {key: value for key, value, _ in found},
        {key: changed for key, _, changed in found},
    )


class Reading:
    """A store at one revision, that of the first read: what was read of it, once, and what that relies on.

    CompactedError from any read: it took so long that the revision is gone.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._revision: int | None = None
        self._items: dict[str, bytes] = {}
        self._revisions: dict[str, int] = {}
        self._keys: set[str] = set()
        self._under: dict[str, dict[str, bytes]] = {}

    @property
    def revision(self) -> int:
        if self._revision is None:
            self._revision = newest(self._store)
        return self._revision

    @property
    def relied_on(self) -> Expect:
        """For `commit`: that nothing of what was read, or was found missing, has changed."""
        return Expect(dict.fromkeys(self._keys, self.revision), dict.fromkeys(self._under, self.revision))

    def load(self, keys: Iterable[str] = (), prefixes: Iterable[str] = ()) -> None:
        """Read these in one go, for those who ask for them one by one."""
        missing = set(keys) - self._keys - self._items.keys()
        if missing or self._revision is None:
            page = self._store.get(missing, self._revision)
            self._revision = page.revision
            self._take(page.rows)
            self._keys |= missing
        for prefix in set(prefixes) - self._under.keys():
            self._under[prefix] = self._take(rows_under(self._store, prefix, self.revision))

    def _take(self, rows: Iterable[Row]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for key, value, changed in rows:
            found[key] = value
            self._revisions[key] = changed
        self._items.update(found)
        return found

    def get(self, key: str) -> bytes | None:
        found = self._items.get(key)
        if found is None and key not in self._keys:
            self.load([key])
            found = self._items.get(key)
        return found

    def revision_of(self, key: str) -> int:
        """Of the key's last change; 0: it is not there."""
        return 0 if self.get(key) is None else self._revisions[key]

    def under(self, prefix: str) -> Mapping[str, bytes]:
        """The items whose keys begin with it, in order of keys."""
        self.load(prefixes=[prefix])
        return self._under[prefix]
