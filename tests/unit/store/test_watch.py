"""Watches: the contract, on every kind of store."""

import threading

import pytest

from policy.errors import CompactedError, ConflictError
from policy.store.contract import PAGE_BYTES, Batch, Change, Expect, Store
from policy.store.memory import MemoryStore
from policy.store.sqlite import SqliteStore
from tests.unit.store.stores import PATIENCE, held, told


def test_from_the_past_and_on(store: Store) -> None:
    store.commit({"a/2": b"1", "a/1": b"1"})
    store.commit({"b/1": b"1"})
    store.commit({}, ["a/1"])
    with store.watch(0, ["a/"]) as watch:
        assert watch.next(0) == Batch(1, (Change("a/1", b"1"), Change("a/2", b"1")))
        assert watch.next(0) == Batch(3, (Change("a/1", None),))
        assert watch.next(0) is None and watch.revision == 3
        store.commit({"a/3": b"1", "b/2": b"1"})
        assert watch.next(PATIENCE) == Batch(4, (Change("a/3", b"1"),))


def test_a_bookmark_says_how_far_it_has_come(store: Store) -> None:
    with store.watch(0, ["a/"]) as watch:
        store.commit({"b": b"1"})
        store.commit({"b": b"2"})
        assert watch.next(PATIENCE) == Batch(2, ())
        assert watch.next(0) is None and watch.revision == 2


def test_several_prefixes_tell_each_key_once(store: Store) -> None:
    store.commit({"a/1": b"", "a/2/x": b"", "b": b"", "c/1": b""})
    with store.watch(0, ["c/", "a/", "a/2"]) as watch:
        assert [[change.key for change in batch.changes] for batch in told(watch)] == [
            ["a/1", "a/2/x", "c/1"]
        ]
    with pytest.raises(TypeError), store.watch(0, "a/"):
        pass
    with store.watch(0, []) as watch:
        assert told(watch) == [Batch(1, ())]


def test_from_the_future(store: Store) -> None:
    store.commit({"a": b"1"})
    with pytest.raises(CompactedError, match="revision 2 is gone; the newest is 1"), store.watch(2):
        pass


def test_it_wakes_up(store: Store) -> None:
    with store.watch(0) as watch:
        thread = threading.Thread(target=store.commit, args=({"a": b"1"},))
        thread.start()
        assert watch.next(PATIENCE) == Batch(1, (Change("a", b"1"),))
        thread.join()


def test_every_commit_of_many_threads_is_told_once_and_in_order(store: Store) -> None:
    def write(name: str) -> None:
        for number in range(40):
            store.commit({f"{name}/{number}": b"x"})

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    with store.watch(0) as watch:
        for thread in threads:
            thread.start()
        seen = [watch.next(PATIENCE) for _ in range(120)]
        for thread in threads:
            thread.join()
    assert [batch.revision for batch in seen if batch] == list(range(1, 121))
    assert {change.key for batch in seen if batch for change in batch.changes} == held(store).keys()


# ---- parts of a commit ---------------------------------------------------------------------------


def test_a_large_commit_comes_in_parts(store: Store) -> None:
    store.commit({f"a/{number}": b"" for number in range(5)} | {"b": b""})
    store.commit({"a/1": b"x"})
    with store.watch(0, ["a/"], limit=2) as watch:
        parts = told(watch)
    assert [(batch.revision, len(batch.changes), batch.more) for batch in parts] == [
        (1, 2, True),
        (1, 2, True),
        (1, 1, False),
        (2, 1, False),
    ]
    assert [change.key for batch in parts[:3] for change in batch.changes] == [f"a/{n}" for n in range(5)]


def test_until_the_last_part_the_revision_is_not_told(store: Store) -> None:
    store.commit({"b": b""})
    store.commit({"a/1": b"", "a/2": b"", "a/3": b""})
    with store.watch(0, ["a/"], limit=2) as watch:
        assert watch.next(0) == Batch(2, (Change("a/1", b""), Change("a/2", b"")), more=True)
        assert watch.revision == 1
        with store.watch(watch.revision, ["a/"]) as again:
            assert again.next(0) == Batch(2, tuple(Change(f"a/{number}", b"") for number in (1, 2, 3)))
        assert watch.next(0) == Batch(2, (Change("a/3", b""),))
        assert watch.revision == 2


def test_a_part_ends_where_it_is_large_enough(store: Store) -> None:
    large = bytes(PAGE_BYTES // 2)
    store.commit({f"a/{number}": large for number in range(5)})
    with store.watch(0) as watch:
        assert [len(batch.changes) for batch in told(watch)] == [2, 2, 1]


# ---- prefixes that change ------------------------------------------------------------------------


def test_other_prefixes_from_now_on(store: Store) -> None:
    store.commit({"a": b"1", "b": b"1"})
    with store.watch(0, ["a"]) as watch:
        assert watch.next(0) == Batch(1, (Change("a", b"1"),))
        store.commit({"a": b"2", "b": b"2"})
        assert watch.select(["b"]) == 1
        assert held(store, "b") == {"b": b"2"} and store.range("b", at=1).rows == [("b", b"1", 1)]
        assert told(watch) == [Batch(2, (Change("b", b"2"),))]
        assert watch.select(["a", "b"]) == 2
        store.commit({"a": b"3", "b": b"3"})
        assert told(watch) == [Batch(3, (Change("a", b"3"), Change("b", b"3")))]


def test_a_commit_that_has_begun_ends_with_the_prefixes_it_began_with(store: Store) -> None:
    store.commit({"a/1": b"", "a/2": b"", "b": b""})
    store.commit({"a/1": b"x", "b": b"x"})
    with store.watch(0, ["a/"], limit=1) as watch:
        assert watch.next(0) == Batch(1, (Change("a/1", b""),), more=True)
        assert watch.select(["b"]) == 1
        assert told(watch) == [Batch(1, (Change("a/2", b""),)), Batch(2, (Change("b", b"x"),))]


# ---- what is no longer known ---------------------------------------------------------------------

Compactable = MemoryStore | SqliteStore


def test_compaction_keeps_what_holds(store: Compactable) -> None:
    store.commit({"a": b"1", "b": b"1"}, commit_id="old")
    store.commit({"a": b"2"})
    store.commit({"c": b"1"}, ["b"], commit_id="new")
    store.compact(3)
    with pytest.raises(CompactedError, match="revision 2 is gone; the oldest known is 3"):
        store.range("", at=2)
    assert store.range("", at=3) == store.range("")
    assert held(store) == {"a": b"2", "c": b"1"}
    with pytest.raises(CompactedError), store.watch(2):
        pass
    for expect in (Expect(keys={"b": 2}), Expect(prefixes={"x": 2})):
        with pytest.raises(ConflictError):
            store.commit({"x": b""}, expect=expect)
    assert (store.outcome("old"), store.outcome("new")) == (None, 3)
    store.compact(1)
    with pytest.raises(CompactedError):
        store.range("", at=2)
    assert store.commit({"b": b"3"}) == 4


def test_compaction_stops_at_the_newest(store: Compactable) -> None:
    store.commit({"a": b"1"})
    store.compact(99)
    assert store.range("", at=1).rows == [("a", b"1", 1)]
    with store.watch(1) as watch:
        store.commit({"a": b"2"})
        assert watch.next(PATIENCE) == Batch(2, (Change("a", b"2"),))


def test_a_watch_that_has_fallen_behind(store: Compactable) -> None:
    with store.watch(0) as watch:
        for number in range(3):
            store.commit({"a": b"%d" % number})
        store.compact(2)
        with pytest.raises(CompactedError, match="revision 0 is gone"):
            watch.next(0)
